//! The two streams: what was asked for on stdout, what is said about it on stderr; and what the
//! terminal behind them can show. Text comes here finished, foreign parts made safe by `render`.
//! Nothing here panics when a stream is closed, and nothing exits.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};

use clap::ValueEnum;

use crate::error::Error;
use crate::output::escape::safe_str;
use crate::output::style::{Emphasis, Style};
use crate::output::width::{cut, wrap};
use crate::sys::terminal;

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorMode {
    /// Where stdout is a terminal that can, and `NO_COLOR` is not set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What was found out about the streams, and the way to write to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ui {
    /// Whether to colour what goes to stdout.
    pub color: bool,
    /// Columns of the terminal; `None` where stdout is none, or JSON was asked for.
    pub width: Option<usize>,
    /// Whether the terminal of stdout can be drawn on: moves its cursor, and clears what it shows.
    pub draws: bool,
    /// Whether the locale is one of UTF-8.
    pub unicode: bool,
    /// Whether steps are told.
    pub verbose: bool,
    /// Whether JSON was asked for.
    pub json: bool,
    /// Whether a person sees stderr change.
    pub live: bool,
    /// Columns of stderr's terminal, and whether to colour there; `None` where stderr is none.
    pub stderr: Option<(usize, bool)>,
    /// Whether nothing is said on stderr: while a screen is drawn that it would spoil.
    pub quiet: bool,
}

impl From<&Ui> for Style {
    fn from(ui: &Ui) -> Self {
        Self { width: ui.width, color: ui.color, unicode: ui.unicode }
    }
}

/// What [`Ui`] is decided from; taken together once, so that deciding is a plain function.
#[derive(Clone, Debug, Default)]
struct TerminalEnv {
    /// Stdout's columns if it is a terminal; 0 where the terminal does not know.
    terminal: Option<usize>,
    columns: Option<String>,
    no_color: Option<String>,
    term: Option<String>,
    locale: [Option<String>; 3],
    /// Stderr's columns, as stdout's.
    stderr: Option<usize>,
}

impl TerminalEnv {
    fn take() -> Self {
        let stdout = io::stdout();
        let columns =
            |fd: BorrowedFd<'_>| terminal::size(fd).map_or(0, |(_, columns)| columns.into());
        // What is not UTF-8 counts as set, and as nothing we know.
        let variable = |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Self {
            terminal: stdout.is_terminal().then(|| columns(stdout.as_fd())),
            columns: variable("COLUMNS"),
            no_color: variable("NO_COLOR"),
            term: variable("TERM"),
            locale: ["LC_ALL", "LC_CTYPE", "LANG"].map(variable),
            stderr: io::stderr().is_terminal().then(|| columns(io::stderr().as_fd())),
        }
    }
}

impl Ui {
    /// Looks at the streams and the environment.
    pub fn new(color: ColorMode, json: bool, verbose: bool) -> Self {
        Self::decide(color, json, verbose, &TerminalEnv::take())
    }

    fn decide(color: ColorMode, json: bool, verbose: bool, around: &TerminalEnv) -> Self {
        let refused = around.no_color.as_ref().is_some_and(|value| !value.is_empty());
        let dumb = around.term.as_deref() == Some("dumb");
        let colored = |terminal: Option<usize>| match color {
            ColorMode::Always => true,
            ColorMode::Never => false,
            ColorMode::Auto => terminal.is_some() && !refused && !dumb,
        };
        let color = !json && colored(around.terminal);
        // COLUMNS may be left over from another terminal or be a joke; what is narrower than a pid
        // and a word, or wider than any screen, is not believed.
        let asked = around.columns.as_ref().and_then(|columns| columns.parse().ok());
        let asked = asked.filter(|columns| (10..=10_000).contains(columns));
        let width = around.terminal.filter(|_| !json);
        let believed = |columns| asked.unwrap_or(if columns == 0 { 80 } else { columns });
        let width = width.map(believed);
        let live = around.stderr.is_some() && !json && !dumb;
        let stderr = around.stderr.map(|columns| (believed(columns), colored(around.stderr)));
        let unicode = is_utf8(&around.locale);
        let draws = width.is_some() && !dumb;
        Self { color, width, draws, unicode, verbose, json, live, stderr, quiet: false }
    }

    /// Shows on stderr what is waited for, in place of what was shown there before; where that is a
    /// terminal that a person looks at.
    pub fn progress(&self, text: &str) {
        if self.live {
            // What wraps could not be taken away again.
            let room = self.stderr.map_or(80, |(columns, _)| columns).saturating_sub(1);
            let ellipsis = if self.unicode { "…" } else { "..." };
            say(&format!("\r\x1b[K{}", cut(text, room, ellipsis)));
        }
    }

    /// Takes that away again.
    pub fn clear_progress(&self) {
        if self.live {
            say("\r\x1b[K");
        }
    }

    /// Writes to stdout, all of it and now. A reader that has gone away is an error like a full
    /// disk; [`is_broken_pipe`] tells them apart.
    pub fn out(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    /// Says on stderr what the user should know before trusting the answer.
    pub fn warn(&self, text: &str) {
        self.tell("cinspect: ", ("warning:", Emphasis::Warning), text);
    }

    /// Says on stderr what may be of use.
    pub fn note(&self, text: &str) {
        self.tell("cinspect: ", ("note:", Emphasis::Heading), text);
    }

    /// Tells a step on stderr, if steps are wanted.
    pub fn step(&self, text: &str) {
        if self.verbose {
            self.tell("", ("cinspect:", Emphasis::None), text);
        }
    }

    /// Says what failed, and what to do about it.
    pub fn fail(&self, error: &Error) {
        let mut lines = error.lines();
        let what = lines.next().unwrap_or_default();
        self.tell("", ("cinspect:", Emphasis::Alarm), &safe_str(&what));
        self.hints(lines);
    }

    /// Prints an error after which the command goes on, as a warning.
    pub fn warn_error(&self, error: &Error) {
        let mut lines = error.lines();
        self.warn(&safe_str(&lines.next().unwrap_or_default()));
        self.hints(lines);
    }

    fn hints(&self, lines: impl Iterator<Item = String>) {
        for line in lines {
            match safe_str(&line).split_once(' ') {
                Some(("hint:", rest)) => self.tell("", ("hint:", Emphasis::Heading), rest),
                _ if self.quiet => {}
                _ => say(&format!("{}\n", safe_str(&line))),
            }
        }
    }

    /// A line with a word that says what it is. At a terminal it is broken at words, and that word has
    /// a colour.
    fn tell(&self, before: &str, (word, emphasis): (&str, Emphasis), text: &str) {
        if self.quiet {
            return;
        }
        let Some((columns, color)) = self.stderr else {
            return say(&format!("{before}{word} {text}\n"));
        };
        let lines =
            wrap(&format!("{before}{word} {text}"), Some(columns.saturating_sub(2).max(20)));
        let mut all = lines.join("\n  ");
        let mut painted = String::new();
        Style { color, ..Style::default() }.paint(&mut painted, word, emphasis);
        all.replace_range(before.len()..before.len() + word.len(), &painted);
        say(&format!("{all}\n"));
    }
}

/// Writes to stderr, as one write so that lines of several programs do not mix. Nobody is left to
/// tell if that fails.
fn say(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether writing failed because the reader has gone, as `head` does: to end quietly, with status
/// 0. (Rust ignores SIGPIPE, so it comes as an error; nobody else here writes to a pipe.)
pub fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// Whether a locale is one of UTF-8; the first variable that is set and not empty decides
/// (locale(7)).
///
/// ```text
/// en_GB.UTF-8    de_DE.utf8@euro    C.UTF-8
/// ```
fn is_utf8(locale: &[Option<String>]) -> bool {
    let decides = locale.iter().flatten().find(|value| !value.is_empty());
    decides.is_some_and(|value| {
        let value = value.to_ascii_lowercase();
        value.contains("utf-8") || value.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_terminal() -> TerminalEnv {
        TerminalEnv { terminal: Some(132), ..TerminalEnv::default() }
    }

    fn color(when: ColorMode, around: &TerminalEnv) -> bool {
        Ui::decide(when, false, false, around).color
    }

    fn width(around: &TerminalEnv) -> Option<usize> {
        Ui::decide(ColorMode::Auto, false, false, around).width
    }

    #[test]
    fn colour_is_for_terminals_that_want_it() {
        let pipe = TerminalEnv::default();
        let refused = TerminalEnv { no_color: Some("1".into()), ..at_terminal() };
        let empty = TerminalEnv { no_color: Some(String::new()), ..at_terminal() };
        let dumb = TerminalEnv { term: Some("dumb".into()), ..at_terminal() };
        assert!(color(ColorMode::Auto, &at_terminal()) && color(ColorMode::Auto, &empty));
        for around in [&pipe, &refused, &dumb] {
            assert!(!color(ColorMode::Auto, around) && color(ColorMode::Always, around));
        }
        assert!(!color(ColorMode::Never, &at_terminal()));
        assert!(!Ui::decide(ColorMode::Always, true, false, &at_terminal()).color);
    }

    #[test]
    fn the_width_is_the_terminals_or_what_columns_says() {
        let with = |columns: &str| TerminalEnv { columns: Some(columns.into()), ..at_terminal() };
        assert_eq!(width(&at_terminal()), Some(132));
        assert_eq!(width(&with("60")), Some(60));
        for joke in ["", "0", "-1", "3", "99999999999999999999", "wide"] {
            assert_eq!(width(&with(joke)), Some(132), "{joke}");
        }
        assert_eq!(width(&TerminalEnv { terminal: Some(0), ..TerminalEnv::default() }), Some(80));
        assert_eq!(width(&TerminalEnv { terminal: None, ..with("60") }), None);
        assert_eq!(Ui::decide(ColorMode::Auto, true, false, &at_terminal()).width, None);
    }

    #[test]
    fn what_is_no_terminal_or_a_dumb_one_is_not_drawn_on() {
        let dumb = TerminalEnv { term: Some("dumb".into()), ..at_terminal() };
        let draws =
            |json, around: &TerminalEnv| Ui::decide(ColorMode::Always, json, false, around).draws;
        assert!(draws(false, &at_terminal()) && !draws(true, &at_terminal()));
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
    fn a_broken_pipe_is_told_from_a_full_disk() {
        let error = |errno: nix::errno::Errno| io::Error::from(errno);
        assert!(is_broken_pipe(&error(nix::errno::Errno::EPIPE)));
        assert!(!is_broken_pipe(&error(nix::errno::Errno::ENOSPC)));
    }
}
