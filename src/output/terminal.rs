//! The two streams: answers on stdout, messages on stderr; and the abilities of their terminals.
//! Text comes here ready to print, escaped by its authors. Nothing here panics when a stream is closed,
//! and nothing exits.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};

use clap::ValueEnum;
use jiff::Timestamp;

use crate::error::Error;
use crate::output::escape::{safe_output, safe_str};
use crate::output::style::{Emphasis, Style};
use crate::output::width::{cut, wrap};
use crate::sys::{streams, terminal};

/// Widths that `COLUMNS` may have: it may be left over from another terminal, or absurd: narrower
/// than a PID and a word, or wider than any screen.
const COLUMNS: std::ops::RangeInclusive<usize> = 10..=10_000;

/// Width of a terminal that does not report its own.
const UNKNOWN_WIDTH: usize = 80;

/// The occasions to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorMode {
    /// On a terminal that can, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The streams, and how to write to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ui {
    /// Whether to colour stdout.
    pub color: bool,
    /// Columns of stdout's terminal; none in a pipe, or with `--json`.
    pub width: Option<usize>,
    /// Whether stdout is a terminal that can be drawn on: it moves its cursor and clears lines.
    pub draws: bool,
    /// Whether the locale is UTF-8.
    pub unicode: bool,
    /// Whether steps are printed.
    pub verbose: bool,
    /// Whether answers are JSON.
    pub json: bool,
    /// Whether nothing is printed on stderr.
    quiet: bool,
    /// Whether stderr is a terminal that shows progress.
    live: bool,
    /// Columns of stderr's terminal, and whether to colour there; none in a pipe.
    stderr: Option<(usize, bool)>,
}

impl From<&Ui> for Style {
    fn from(ui: &Ui) -> Self {
        Self { width: ui.width, color: ui.color, unicode: ui.unicode }
    }
}

/// The facts that [`Ui`] is decided from, taken together once, so that deciding is a pure function.
#[derive(Clone, Debug, Default)]
struct TerminalEnv {
    /// Columns of stdout, if it is a terminal; 0 if the terminal does not report it.
    stdout: Option<usize>,
    /// Columns of stderr in the same way.
    stderr: Option<usize>,
    columns: Option<String>,
    no_color: Option<String>,
    term: Option<String>,
    locale: [Option<String>; 3],
}

impl TerminalEnv {
    fn take() -> Self {
        let columns =
            |fd: BorrowedFd<'_>| terminal::size(fd).map_or(0, |(_, columns)| columns.into());
        // A value that is not UTF-8 counts as set, and matches nothing.
        let variable = |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let (stdout, stderr) = (io::stdout(), io::stderr());
        Self {
            stdout: stdout.is_terminal().then(|| columns(stdout.as_fd())),
            stderr: stderr.is_terminal().then(|| columns(stderr.as_fd())),
            columns: variable("COLUMNS"),
            no_color: variable("NO_COLOR"),
            term: variable("TERM"),
            locale: ["LC_ALL", "LC_CTYPE", "LANG"].map(variable),
        }
    }
}

impl Ui {
    /// Examines the streams and the environment.
    pub fn new(color: ColorMode, json: bool, verbose: bool) -> Self {
        Self::decide(color, json, verbose, &TerminalEnv::take())
    }

    fn decide(color: ColorMode, json: bool, verbose: bool, env: &TerminalEnv) -> Self {
        let no_color = env.no_color.as_ref().is_some_and(|value| !value.is_empty());
        let is_dumb = env.term.as_deref() == Some("dumb");
        let colors = |terminal: Option<usize>| match color {
            ColorMode::Always => true,
            ColorMode::Never => false,
            ColorMode::Auto => terminal.is_some() && !no_color && !is_dumb,
        };
        let columns = env.columns.as_ref().and_then(|columns| columns.parse().ok());
        let columns = columns.filter(|columns| COLUMNS.contains(columns));
        let width = |terminal| match (columns, terminal) {
            (Some(columns), _) => columns,
            (None, 0) => UNKNOWN_WIDTH,
            (None, terminal) => terminal,
        };
        let stdout = env.stdout.filter(|_| !json).map(width);
        Self {
            color: !json && colors(env.stdout),
            width: stdout,
            draws: stdout.is_some() && !is_dumb,
            unicode: is_utf8(&env.locale),
            verbose,
            json,
            quiet: false,
            live: env.stderr.is_some() && !json && !is_dumb,
            stderr: env.stderr.map(|terminal| (width(terminal), colors(env.stderr))),
        }
    }

    /// Returns the same streams with nothing printed on stderr, where it would spoil a display.
    #[must_use]
    pub fn silenced(&self) -> Self {
        Self { quiet: true, ..self.clone() }
    }

    /// Shows progress on stderr, in place of the last one.
    pub fn progress(&self, text: &str) {
        if self.live {
            // A line that wraps could not be cleared.
            let room = self.stderr.map_or(UNKNOWN_WIDTH, |(columns, _)| columns).saturating_sub(1);
            let ellipsis = if self.unicode { "…" } else { "..." };
            write_stderr(&format!("\r\x1b[K{}", cut(text, room, ellipsis)));
        }
    }

    /// Clears the progress.
    pub fn clear_progress(&self) {
        if self.live {
            write_stderr("\r\x1b[K");
        }
    }

    /// Writes to stdout, and flushes it.
    ///
    /// # Errors
    /// A full disk, or a pipe whose reader is gone ([`is_broken_pipe`]).
    pub fn out(&self, text: &str) -> io::Result<()> {
        let mut stdout = streams::stdout();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    /// Prints output of a container on the stream that it was written to. A terminal gets it escaped and
    /// without colours; a file or a pipe as it is.
    ///
    /// # Errors
    /// As [`Ui::out`].
    pub fn container_output(
        &self,
        is_stderr: bool,
        time: Option<Timestamp>,
        text: &[u8],
        is_partial: bool,
    ) -> io::Result<()> {
        let is_terminal = if is_stderr { self.stderr.is_some() } else { self.width.is_some() };
        let mut line = time.map(|time| format!("{time} ")).unwrap_or_default().into_bytes();
        match is_terminal {
            true => line.extend(safe_output(text).into_bytes()),
            false => line.extend(text),
        }
        // (Parts of a long line are a line again, except where it could be torn by the other stream.)
        if !is_partial || is_terminal {
            line.push(b'\n');
        }
        match is_stderr {
            true => streams::stderr().write_all(&line),
            false => {
                let mut stdout = streams::stdout();
                stdout.write_all(&line)?;
                stdout.flush()
            }
        }
    }

    /// Prints a warning on stderr: a fact to know before relying on the answer.
    pub fn warn(&self, text: &str) {
        self.message("cinspect: ", ("warning:", Emphasis::Warning), text);
    }

    /// Prints a note on stderr.
    pub fn note(&self, text: &str) {
        self.message("cinspect: ", ("note:", Emphasis::Heading), text);
    }

    /// Prints a step on stderr, with `-v`.
    pub fn step(&self, text: &str) {
        if self.verbose {
            self.message("", ("cinspect:", Emphasis::None), text);
        }
    }

    /// Prints an error with its hints.
    pub fn fail(&self, error: &Error) {
        let mut lines = error.lines();
        let message = lines.next().unwrap_or_default();
        self.message("", ("cinspect:", Emphasis::Alarm), &safe_str(&message));
        self.hints(lines);
    }

    /// Prints an error as a warning; the command continues.
    pub fn warn_error(&self, error: &Error) {
        let mut lines = error.lines();
        self.warn(&safe_str(&lines.next().unwrap_or_default()));
        self.hints(lines);
    }

    fn hints(&self, lines: impl Iterator<Item = String>) {
        for line in lines {
            match safe_str(&line).split_once(' ') {
                Some(("hint:", rest)) => self.message("", ("hint:", Emphasis::Heading), rest),
                _ if self.quiet => {}
                _ => write_stderr(&format!("{}\n", safe_str(&line))),
            }
        }
    }

    /// Prints a message with a word for its kind. On a terminal it is wrapped, and the word is coloured.
    fn message(&self, before: &str, (word, emphasis): (&str, Emphasis), text: &str) {
        if self.quiet {
            return;
        }
        let mut message = format!("{before}{word} {text}");
        if let Some((columns, color)) = self.stderr {
            message = wrap(&message, Some(columns.saturating_sub(2).max(20))).join("\n  ");
            let mut painted = String::new();
            Style { color, ..Style::default() }.paint(&mut painted, word, emphasis);
            message.replace_range(before.len()..before.len() + word.len(), &painted);
        }
        write_stderr(&format!("{message}\n"));
    }
}

/// Writes to stderr, at once, so that lines of several programs do not mix. A failure cannot be reported
/// anywhere.
fn write_stderr(text: &str) {
    let _ = streams::stderr().write_all(text.as_bytes());
}

/// Whether writing failed because the reader is gone, as `head` is early: the program ends quietly, with
/// status 0. (Rust ignores SIGPIPE, so it comes as an error.)
pub fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// Whether a locale is UTF-8; the first variable that is set and not empty decides (locale(7)).
///
/// ```text
/// en_GB.UTF-8    de_DE.utf8@euro    C.UTF-8
/// ```
fn is_utf8(locale: &[Option<String>]) -> bool {
    let decisive = locale.iter().flatten().find(|value| !value.is_empty());
    decisive.is_some_and(|value| {
        let value = value.to_ascii_lowercase();
        value.contains("utf-8") || value.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_terminal() -> TerminalEnv {
        TerminalEnv { stdout: Some(132), ..TerminalEnv::default() }
    }

    fn color(mode: ColorMode, env: &TerminalEnv) -> bool {
        Ui::decide(mode, false, false, env).color
    }

    fn width(env: &TerminalEnv) -> Option<usize> {
        Ui::decide(ColorMode::Auto, false, false, env).width
    }

    #[test]
    fn terminals_are_coloured_unless_refused() {
        let pipe = TerminalEnv::default();
        let refused = TerminalEnv { no_color: Some("1".into()), ..on_terminal() };
        let empty = TerminalEnv { no_color: Some(String::new()), ..on_terminal() };
        let dumb = TerminalEnv { term: Some("dumb".into()), ..on_terminal() };
        assert!(color(ColorMode::Auto, &on_terminal()) && color(ColorMode::Auto, &empty));
        for env in [&pipe, &refused, &dumb] {
            assert!(!color(ColorMode::Auto, env) && color(ColorMode::Always, env));
        }
        assert!(!color(ColorMode::Never, &on_terminal()));
        assert!(!Ui::decide(ColorMode::Always, true, false, &on_terminal()).color);
    }

    #[test]
    fn the_width_is_the_terminals_or_that_in_columns() {
        let with = |columns: &str| TerminalEnv { columns: Some(columns.into()), ..on_terminal() };
        assert_eq!(width(&on_terminal()), Some(132));
        assert_eq!(width(&with("60")), Some(60));
        for joke in ["", "0", "-1", "3", "99999999999999999999", "wide"] {
            assert_eq!(width(&with(joke)), Some(132), "{joke}");
        }
        assert_eq!(width(&TerminalEnv { stdout: Some(0), ..TerminalEnv::default() }), Some(80));
        assert_eq!(width(&TerminalEnv { stdout: None, ..with("60") }), None);
        assert_eq!(Ui::decide(ColorMode::Auto, true, false, &on_terminal()).width, None);
    }

    #[test]
    fn pipes_and_dumb_terminals_are_not_drawn_on() {
        let dumb = TerminalEnv { term: Some("dumb".into()), ..on_terminal() };
        let draws = |json, env: &TerminalEnv| Ui::decide(ColorMode::Always, json, false, env).draws;
        assert!(draws(false, &on_terminal()) && !draws(true, &on_terminal()));
        assert!(!draws(false, &dumb) && !draws(false, &TerminalEnv::default()));
    }

    #[test]
    fn the_first_locale_variable_that_is_set_decides() {
        let utf8 = |values: [&str; 3]| is_utf8(&values.map(|value| Some(value.to_string())));
        assert!(utf8(["", "", "en_GB.UTF-8"]) && utf8(["", "de_DE.utf8@euro", "C"]));
        assert!(!utf8(["C", "", "en_GB.UTF-8"]) && !utf8(["", "", ""]));
        assert!(!is_utf8(&[None, None, None]) && is_utf8(&[None, None, Some("C.Utf-8".into())]));
    }

    #[test]
    fn a_broken_pipe_is_not_a_full_disk() {
        let error = |errno: nix::errno::Errno| io::Error::from(errno);
        assert!(is_broken_pipe(&error(nix::errno::Errno::EPIPE)));
        assert!(!is_broken_pipe(&error(nix::errno::Errno::ENOSPC)));
    }
}
