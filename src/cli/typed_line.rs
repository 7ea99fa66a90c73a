//! The words of a command line before clap has parsed it, for hints about one that it cannot parse; and
//! spellings of kill(1), tail(1) and watch(1) that clap cannot describe. Nothing is looked up here.

use std::ffi::OsString;
use std::ops::Range;

use super::args::duration;
use crate::analysis::remedy::quoted;
use crate::command::{COMMANDS, Command};
use crate::model::signal::SignalNumber;

/// Global options that take a value.
const WITH_VALUE: &[&str] = &["--host-root", "--color"];

/// A command line, without the program's name.
pub struct TypedLine<'a> {
    /// All words that are UTF-8.
    pub words: Vec<&'a str>,
    /// The position of the first word that is not a global option, and where it ends.
    position: usize,
}

impl<'a> TypedLine<'a> {
    /// Splits a command line.
    pub fn new(argv: &'a [OsString]) -> Self {
        let words: Vec<&str> = argv.iter().skip(1).filter_map(|word| word.to_str()).collect();
        let mut position = 0;
        while words.get(position).is_some_and(|word| word.starts_with('-')) {
            position += if WITH_VALUE.contains(&words[position]) { 2 } else { 1 };
        }
        Self { position: position.min(words.len()), words }
    }

    /// Returns the word in the place of a command.
    pub fn word(&self) -> Option<&'a str> {
        self.words.get(self.position).copied()
    }

    /// Returns the command that the word names.
    pub fn command(&self) -> Option<&'static Command> {
        self.word().and_then(command_named)
    }

    /// Returns the words before that of the command.
    pub fn globals(&self) -> &[&'a str] {
        &self.words[..self.position]
    }

    /// Returns the word of the command and those after it.
    pub fn command_line(&self) -> &[&'a str] {
        &self.words[self.position..]
    }

    /// Returns the words after that of the command.
    pub fn arguments(&self) -> &[&'a str] {
        self.words.get(self.position + 1..).unwrap_or_default()
    }

    /// Returns the value of an option, in any of its spellings.
    pub fn value(&self, spellings: &[&str]) -> Option<&'a str> {
        let words = self.words.iter().enumerate();
        words.filter(|(_, word)| word.starts_with('-')).find_map(|(index, word)| {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (*word, None),
            };
            let value = value.or_else(|| self.words.get(index + 1).copied());
            value.filter(|_| spellings.contains(&name))
        })
    }

    /// Returns the arguments that are neither options nor values of options. The options with values are
    /// those of the command, and `more`.
    pub fn positionals(&self, more: &[&str]) -> Vec<&'a str> {
        let with_value = self.command().map(options_with_value).unwrap_or_default();
        let mut found = Vec::new();
        let mut arguments = self.arguments().iter().copied();
        while let Some(word) = arguments.next() {
            match word {
                "--" => found.extend(arguments.by_ref()),
                _ if word.len() < 2 || !word.starts_with('-') => found.push(word),
                _ if more.contains(&word) || with_value.iter().any(|name| name == word) => {
                    arguments.next();
                }
                _ => {}
            }
        }
        found
    }

    /// Returns a hint with `CTR` and `ARGS` replaced by the first argument and by all of them, where there are
    /// any. `more` are options with values that the command does not have.
    pub fn fill(&self, hint: &str, more: &[&str]) -> String {
        let positionals = self.positionals(more);
        let arguments = joined(self.arguments());
        let hint = positionals
            .first()
            .map_or_else(|| hint.to_owned(), |container| hint.replace("CTR", &quoted(container)));
        if arguments.is_empty() { hint } else { hint.replace("ARGS", &arguments) }
    }
}

/// Returns words as a shell would have to be given them.
pub fn joined(words: &[&str]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// Returns the command of this name or alias.
pub fn command_named(word: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == word || command.aliases.contains(&word))
}

/// Returns the options of a command that take the next word as their value.
fn options_with_value(command: &Command) -> Vec<String> {
    let parser = command.parser();
    let takes = |argument: &&clap::Arg| {
        !argument.is_positional()
            && argument.get_action().takes_values()
            && !argument.is_require_equals_set()
    };
    let options = parser.get_arguments().filter(takes);
    let names = options.flat_map(|option| {
        let longs = option.get_long_and_visible_aliases().unwrap_or_default();
        let longs = longs.into_iter().map(|name| format!("--{name}"));
        longs.chain(option.get_short().map(|name| format!("-{name}"))).collect::<Vec<_>>()
    });
    names.chain(WITH_VALUE.iter().map(|name| (*name).to_owned())).collect()
}

/// Returns the command line as the parser takes it: `kill -9 web` as `kill --signal=9 web`, `logs -20` as
/// `logs --lines=20`, `ps -w1` as `ps -w=1`, `signal --wait 5s` as `signal --wait=5s`.
pub fn accepted(argv: Vec<OsString>) -> Vec<OsString> {
    let line = TypedLine::new(&argv);
    let Some(command) = line.command() else { return argv };
    // (Words that are not UTF-8 would shift the positions.)
    if line.words.len() + 1 != argv.len() {
        return argv;
    }
    let replaced = match command.name {
        "signal" => signal_option(&line).or_else(|| wait_option(&line)),
        "logs" => find(&line, |word| digits(word).map(|count| format!("--lines={count}"))),
        "ps" => find(&line, |word| {
            let seconds = word.strip_prefix("-w").filter(|text| duration(text).is_ok())?;
            Some(format!("-w={seconds}"))
        }),
        _ => None,
    };
    match replaced {
        Some((range, word)) => {
            let mut argv = argv;
            argv.splice(range.start + 1..range.end + 1, [OsString::from(word)]);
            // Another may follow: `kill -9 web --wait 5s`.
            if command.name == "signal" { accepted(argv) } else { argv }
        }
        None => argv,
    }
}

/// Words to replace, and by which.
type Replacement = (Range<usize>, String);

/// Replaces the first argument before `--` for which there is another spelling.
fn find(line: &TypedLine<'_>, spelling: impl Fn(&str) -> Option<String>) -> Option<Replacement> {
    let start = line.position + 1;
    let arguments = line.arguments().iter().take_while(|word| **word != "--");
    arguments.enumerate().find_map(|(index, word)| {
        let position = start + index;
        let word = spelling(word)?;
        // `--queue -1`, `--lines -1`: a value with a hyphen.
        let before = line.words.get(position - 1).copied().unwrap_or_default();
        let with_value = line.command().map(options_with_value).unwrap_or_default();
        (!with_value.iter().any(|name| name == before)).then_some((position..position + 1, word))
    })
}

/// Returns the number of `-20`.
fn digits(word: &str) -> Option<&str> {
    let digits = word.strip_prefix('-')?;
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(digits)
}

/// Replaces the first signal with a hyphen.
fn signal_option(line: &TypedLine<'_>) -> Option<Replacement> {
    find(line, |word| {
        let signal = word.strip_prefix('-').filter(|word| !word.starts_with('-'))?;
        SignalNumber::parse(signal).ok()?;
        Some(format!("--signal={signal}"))
    })
}

/// Replaces `--wait 5`. (A number after it is never the signal: `kill web --wait 9` would send KILL.)
fn wait_option(line: &TypedLine<'_>) -> Option<Replacement> {
    let position = line.words.iter().position(|word| *word == "--wait")?;
    let value = line.words.get(position + 1).filter(|value| duration(value).is_ok())?;
    Some((position..position + 2, format!("--wait={value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn spellings_of_other_programs_become_those_of_the_parser() {
        for (typed, parsed) in [
            ("cinspect kill -9 web", "cinspect kill --signal=9 web"),
            ("cinspect kill web -HUP -n", "cinspect kill web --signal=HUP -n"),
            ("cinspect --json kill -SIGTERM web", "cinspect --json kill --signal=SIGTERM web"),
            (
                "cinspect --host-root /h signal -1 web",
                "cinspect --host-root /h signal --signal=1 web",
            ),
            ("cinspect kill web USR1 -q -1", "cinspect kill web USR1 -q -1"),
            ("cinspect kill web -9 --wait 5s", "cinspect kill web --signal=9 --wait=5s"),
            ("cinspect kill web TERM --wait 9", "cinspect kill web TERM --wait=9"),
            ("cinspect kill -9 web --wait 5", "cinspect kill --signal=9 web --wait=5"),
            ("cinspect kill web --wait 9", "cinspect kill web --wait=9"),
            ("cinspect kill -n web -- -9", "cinspect kill -n web -- -9"),
            ("cinspect logs -20 web", "cinspect logs --lines=20 web"),
            ("cinspect logs --tail -1 web", "cinspect logs --tail -1 web"),
            ("cinspect ps -w1 web", "cinspect ps -w=1 web"),
            ("cinspect ps -w web", "cinspect ps -w web"),
            ("cinspect exec web kill -9 1", "cinspect exec web kill -9 1"),
        ] {
            assert_eq!(accepted(argv(typed)), argv(parsed), "{typed}");
        }
    }

    #[test]
    fn arguments_are_distinguished_from_options_and_their_values() {
        let argv = argv("cinspect --host-root / stop -t 5 -s INT web db --time=3");
        let line = TypedLine::new(&argv);
        assert_eq!(line.word(), Some("stop"));
        assert_eq!(line.positionals(&[]), ["web", "db"]);
        assert_eq!(line.value(&["-t", "--time"]), Some("5"));
        assert_eq!(line.fill("`cinspect ps CTR`", &[]), "`cinspect ps web`");
    }
}
