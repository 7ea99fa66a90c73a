//! Usage errors: clap's in the form of all others, with hints for common mistakes.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::args::{LIST_HINT, signal_number};
use super::habits::{POD_REFERENCE, option_hint};
use super::pod_option::pod_hint;
use super::suggest::suggestion;
use super::typed_line::TypedLine;
use crate::analysis::remedy::quoted;
use crate::error::{Error, ExitStatus};
use crate::model::signal::SignalNumber;

/// Returns clap's error on `argv` as ours.
pub fn usage_error(error: &clap::Error, argv: &[OsString]) -> Error {
    let line = TypedLine::new(argv);
    let command = line.command().and(line.word());
    let help = match command {
        Some(command) => format!("try `cinspect {command} --help`"),
        None => "try `cinspect --help`".to_owned(),
    };
    let converted = match error.kind() {
        ErrorKind::InvalidSubcommand => unknown_command(error, &line),
        ErrorKind::MissingSubcommand => Some(missing_command(&line)),
        ErrorKind::MissingRequiredArgument => missing(error, &line, &help),
        ErrorKind::UnknownArgument => {
            unknown_signal(&line, error).or_else(|| unexpected(error, &line))
        }
        ErrorKind::ArgumentConflict => conflict(error, &line),
        ErrorKind::TooManyValues => superfluous_value(error),
        _ => invalid_value(error, &line),
    };
    let converted = converted.unwrap_or_else(|| rendered(error));
    if converted.hints.is_empty() { converted.hint(help) } else { converted }
}

/// Returns the error for `signal SIG CTR`, if the arguments are swapped: `signal` is not a signal, and
/// `container` is one.
pub fn swapped_arguments(container: &str, signal: &str) -> Option<Error> {
    SignalNumber::parse(container).ok()?;
    SignalNumber::parse(signal).err()?;
    let error = Error::new(ExitStatus::Usage, format!("`{signal}` is not a valid signal"));
    Some(error.hint(format!("the container comes first: `cinspect signal {signal} {container}`")))
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(ExitStatus::Usage, message)
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        _ => None,
    }
}

fn texts(error: &clap::Error, kind: ContextKind) -> &[String] {
    match error.get(kind) {
        Some(ContextValue::Strings(texts)) => texts,
        Some(ContextValue::String(text)) => std::slice::from_ref(text),
        _ => &[],
    }
}

/// Returns the name of an argument without its value: `--time` of `--time <DUR>`, `CTR` of `<CTR>...`.
fn name_of(argument: &str) -> &str {
    if argument.starts_with('-') {
        argument.split([' ', '[', '=']).next().unwrap_or(argument)
    } else {
        argument.trim_end_matches("...").trim_matches(['<', '>', '[', ']'])
    }
}

fn unknown_command(error: &clap::Error, line: &TypedLine<'_>) -> Option<Error> {
    let word = text(error, ContextKind::InvalidSubcommand)?;
    let error = usage(format!("no such command: `{word}`"));
    Some(match suggestion(line, word) {
        Some(hint) => error.hint(hint),
        None => error.hint("`cinspect help` lists the commands"),
    })
}

fn missing_command(line: &TypedLine<'_>) -> Error {
    let error = usage("missing argument: CMD").hint("`cinspect help` lists the commands");
    match line.globals().contains(&"-v") {
        true => error.hint("`cinspect --version` prints the version"),
        false => error,
    }
}

fn missing(error: &clap::Error, line: &TypedLine<'_>, help: &str) -> Option<Error> {
    let names: Vec<&str> =
        texts(error, ContextKind::InvalidArg).iter().map(|argument| name_of(argument)).collect();
    let plural = if names.len() > 1 { "s" } else { "" };
    if names.is_empty() {
        return None;
    }
    let error = usage(format!("missing argument{plural}: {}", names.join(", ")));
    if names == ["SIG"]
        && let Some(container) = line.positionals(&[]).first()
    {
        let command = line.word().unwrap_or("signal");
        return Some(error.hint(format!(
            "for example `cinspect {command} {} TERM`; `cinspect signal -l` lists the signals",
            quoted(container)
        )));
    }
    let error = error.hint(help);
    Some(match names.contains(&"CTR") {
        true => error.hint(LIST_HINT),
        false => error,
    })
}

fn unexpected(error: &clap::Error, line: &TypedLine<'_>) -> Option<Error> {
    let word = text(error, ContextKind::InvalidArg)?;
    let error_text = usage(format!("unexpected argument `{word}`"));
    if let Some(hint) = option_hint(line, word) {
        let is_pod = hint == POD_REFERENCE;
        return Some(error_text.hint(if is_pod { pod_hint(line) } else { hint }));
    }
    if let (false, Some(command)) = (word.starts_with('-'), line.word()) {
        return Some(error_text.hint(match command {
            "signal" | "kill" => surplus_signal(&line.positionals(&[])),
            _ => surplus_word(command, word),
        }));
    }
    Some(match text(error, ContextKind::SuggestedArg) {
        Some(near) => error_text.hint(format!("did you mean `{}`?", name_of(near))),
        None => error_text,
    })
}

/// Returns the hint for a further container.
fn surplus_word(command: &str, word: &str) -> String {
    let word = quoted(word);
    format!("`{command}` takes one container: `cinspect {command} {word}` for the other")
}

/// Returns the hint for a further container or signal of `signal`.
fn surplus_signal(words: &[&str]) -> String {
    let is_signal = |word: &&&str| SignalNumber::parse(word).is_ok();
    let (signals, containers): (Vec<&str>, Vec<&str>) = words.iter().partition(is_signal);
    let word = |words: &[&str], index: usize, other: &str| {
        words.get(index).map_or_else(|| other.to_owned(), |word| quoted(word))
    };
    match signals.len() > 1 {
        true => format!(
            "one signal at a time: `cinspect signal {} {}` sends the other",
            word(&containers, 0, "CTR"),
            word(&signals, 1, "SIG")
        ),
        false => format!(
            "one container at a time: `cinspect signal {} {}` for the other",
            word(&containers, 1, "CTR"),
            word(&signals, 0, "SIG")
        ),
    }
}

fn conflict(error: &clap::Error, line: &TypedLine<'_>) -> Option<Error> {
    let argument = name_of(text(error, ContextKind::InvalidArg)?);
    let others: Vec<&str> =
        texts(error, ContextKind::PriorArg).iter().map(|other| name_of(other)).collect();
    let others = others.join(", ");
    Some(match others.as_str() {
        "" => return None,
        other if other == argument => usage(format!("{argument} is given more than once")),
        others => two_signals(line)
            .unwrap_or_else(|| usage(format!("{argument} cannot be used with {others}"))),
    })
}

/// Returns the error for `signal` with an option that is a signal and another word in the place of one.
fn two_signals(line: &TypedLine<'_>) -> Option<Error> {
    line.command().filter(|command| command.name == "signal")?;
    let signal = line.value(&["-s", "--signal"])?;
    let second = *line.positionals(&[]).get(1)?;
    if SignalNumber::parse(second).is_err() {
        // `kill -9 web db`: the second container is in the place of the signal.
        let (second, signal) = (quoted(second), quoted(signal));
        return Some(usage(format!("`{second}` is not a valid signal")).hint(format!(
            "one container at a time: `cinspect signal {second} {signal}` for the other"
        )));
    }
    let error = usage(format!("two signals are given: `{second}` and `{signal}`"));
    // (`--wait -1` is `--wait`, and the signal 1.)
    let is_wait =
        |words: &[&str]| words[0] == "--wait" && words[1].strip_prefix("--signal=") == Some(signal);
    Some(match line.words.windows(2).any(is_wait) {
        true => error.hint("`--wait` alone waits without a limit, `--wait=DUR` at most this long"),
        false => error,
    })
}

fn superfluous_value(error: &clap::Error) -> Option<Error> {
    let argument = name_of(text(error, ContextKind::InvalidArg)?);
    let value = text(error, ContextKind::InvalidValue)?;
    Some(usage(format!("unexpected value `{value}` for {argument}")))
}

fn invalid_value(error: &clap::Error, line: &TypedLine<'_>) -> Option<Error> {
    let argument = name_of(text(error, ContextKind::InvalidArg)?);
    let value = text(error, ContextKind::InvalidValue)?;
    // (`logs -n NAMESPACE POD` of kubectl.)
    let namespace = argument == "--lines" && value.starts_with(|c: char| c.is_ascii_alphabetic());
    let valid = texts(error, ContextKind::ValidValue);
    let converted = match value {
        "" => usage(format!("{argument} needs a value")),
        value => usage(format!("invalid value `{value}` for {argument}")),
    };
    if !valid.is_empty() {
        return Some(converted.hint(format!("valid values: {}", valid.join(", "))));
    }
    Some(match reason(error).as_str() {
        "" => converted,
        valid if valid.starts_with("valid values: ") => converted.hint(valid),
        reason if namespace => converted.cause(reason).hint(pod_hint(line)),
        reason => converted.cause(reason),
    })
}

/// Returns the reason that a value parser gave, or nothing.
fn reason(error: &clap::Error) -> String {
    let Some(source) = std::error::Error::source(error) else { return String::new() };
    if source.is::<std::num::ParseIntError>() {
        return "expected an integer".into();
    }
    // The regex parser draws its error over several lines, of which the last one has the reason.
    let source = source.to_string();
    let last = source.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// Returns clap's own text, with our quotes and without its tips.
fn rendered(error: &clap::Error) -> Error {
    let text = error.render().to_string();
    let paragraph: Vec<&str> = text
        .lines()
        .take_while(|line| !line.trim().is_empty())
        .flat_map(str::split_whitespace)
        .collect();
    let message = paragraph.join(" ").replace('\'', "`");
    usage(message.strip_prefix("error: ").unwrap_or(&message))
}

/// Returns the error for `kill -TREM web`: a signal that does not exist.
fn unknown_signal(line: &TypedLine<'_>, error: &clap::Error) -> Option<Error> {
    line.command().filter(|command| command.name == "signal")?;
    let option = text(error, ContextKind::InvalidArg)?;
    let is_name = |word: &&&str| {
        let name = word.strip_prefix('-').unwrap_or_default();
        word.starts_with(option) && name.len() > 2 && name.bytes().all(|b| b.is_ascii_uppercase())
    };
    let typed = line.arguments().iter().find(is_name)?;
    signal_number(typed.trim_start_matches('-')).err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(line: &str) -> String {
        let argv: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let error = crate::cli::root::root_command().try_get_matches_from(&argv).unwrap_err();
        usage_error(&error, &argv).lines().collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn names_the_argument_the_value_and_the_way_to_help() {
        for (line, message) in [
            (
                "cinspect inspect",
                "missing argument: CTR\nhint: try `cinspect inspect --help`\nhint: `cinspect ls` lists the running containers",
            ),
            (
                "cinspect signal web",
                "missing argument: SIG\nhint: for example `cinspect signal web TERM`; `cinspect signal -l` lists the signals",
            ),
            ("cinspect ls -y", "unexpected argument `-y`\nhint: try `cinspect ls --help`"),
            ("cinspect ls --jsno", "unexpected argument `--jsno`\nhint: did you mean `--json`?"),
            (
                "cinspect stop web -t 5x",
                "invalid value `5x` for --time: expected a duration such as `5`, `5s`, `1m30s`\nhint: try `cinspect stop --help`",
            ),
            (
                "cinspect stop web --order some",
                "invalid value `some` for --order\nhint: valid values: init, all, children-first",
            ),
            (
                "cinspect kill web HUP -s TERM",
                "two signals are given: `HUP` and `TERM`\nhint: try `cinspect kill --help`",
            ),
            (
                "cinspect kill web db -s TERM",
                "`db` is not a valid signal\nhint: one container at a time: `cinspect signal db TERM` for the other",
            ),
            (
                "cinspect signal web TERM --match [",
                "invalid value `[` for --match: unclosed character class\nhint: try `cinspect signal --help`",
            ),
            (
                "cinspect nosuch",
                "no such command: `nosuch`\nhint: `cinspect help` lists the commands",
            ),
            (
                "cinspect ls --json=1",
                "unexpected value `1` for --json\nhint: try `cinspect ls --help`",
            ),
            (
                "cinspect signal web TERM --queue x",
                "invalid value `x` for --queue: expected an integer\nhint: try `cinspect signal --help`",
            ),
            ("cinspect docter", "no such command: `docter`\nhint: did you mean `cinspect doctor`?"),
            ("cinspect stp", "no such command: `stp`\nhint: did you mean `stop`?"),
            (
                "cinspect --color never stp web",
                "no such command: `stp`\nhint: did you mean `cinspect --color never stop web`?",
            ),
        ] {
            assert_eq!(error_of(line), message, "{line}");
        }
    }

    #[test]
    fn swapped_arguments_are_put_in_order() {
        let swapped = swapped_arguments("HUP", "web").unwrap();
        assert_eq!(swapped.hints, ["the container comes first: `cinspect signal web HUP`"]);
        assert_eq!(swapped_arguments("web", "HUP"), None);
        assert_eq!(swapped_arguments("web", "TREM"), None);
    }
}
