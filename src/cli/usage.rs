//! Usage errors: clap's in the form of all others, with hints for what is commonly mistyped.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::args::LIST_HINT;
use super::suggest::suggestion;
use crate::command::COMMANDS;
use crate::error::{Error, ExitStatus};
use crate::model::signal::SignalNumber;

/// Returns clap's error on `argv` as ours.
pub fn usage_error(error: &clap::Error, argv: &[OsString]) -> Error {
    let words: Vec<&str> = argv.iter().skip(1).filter_map(|word| word.to_str()).collect();
    let command = typed_command(&words);
    let help = match command {
        Some(command) => format!("try `cinspect {command} --help`"),
        None => "try `cinspect --help`".to_owned(),
    };
    let converted = match error.kind() {
        ErrorKind::InvalidSubcommand => unknown_command(error),
        ErrorKind::MissingRequiredArgument => missing(error, &help),
        ErrorKind::UnknownArgument => {
            hyphened_signal(&words, command).or_else(|| unexpected(error))
        }
        ErrorKind::ArgumentConflict => conflict(error),
        ErrorKind::TooManyValues => superfluous_value(error),
        _ => invalid_value(error),
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

/// Returns the command as it was typed, alias or not.
fn typed_command<'a>(words: &[&'a str]) -> Option<&'a str> {
    let is_command =
        |word: &str| COMMANDS.iter().any(|c| c.name == word || c.aliases.contains(&word));
    words.iter().copied().find(|word| is_command(word))
}

/// Returns the name of an argument without its value: `--time` of `--time <DUR>`, `CTR` of `<CTR>...`.
fn name_of(argument: &str) -> &str {
    if argument.starts_with('-') {
        argument.split([' ', '[', '=']).next().unwrap_or(argument)
    } else {
        argument.trim_end_matches("...").trim_matches(['<', '>', '[', ']'])
    }
}

fn unknown_command(error: &clap::Error) -> Option<Error> {
    let word = text(error, ContextKind::InvalidSubcommand)?;
    let error = usage(format!("no such command: `{word}`"));
    Some(match suggestion(word) {
        Some(hint) => error.hint(hint),
        None => error.hint("`cinspect help` lists the commands"),
    })
}

fn missing(error: &clap::Error, help: &str) -> Option<Error> {
    let names: Vec<&str> =
        texts(error, ContextKind::InvalidArg).iter().map(|argument| name_of(argument)).collect();
    let plural = if names.len() > 1 { "s" } else { "" };
    if names.is_empty() {
        return None;
    }
    let error = usage(format!("missing argument{plural}: {}", names.join(", "))).hint(help);
    Some(match names.contains(&"CTR") {
        true => error.hint(LIST_HINT),
        false => error,
    })
}

fn unexpected(error: &clap::Error) -> Option<Error> {
    let word = text(error, ContextKind::InvalidArg)?;
    let error_text = usage(format!("unexpected argument `{word}`"));
    Some(match text(error, ContextKind::SuggestedArg) {
        Some(near) => error_text.hint(format!("did you mean `{}`?", name_of(near))),
        None => error_text,
    })
}

fn conflict(error: &clap::Error) -> Option<Error> {
    let argument = name_of(text(error, ContextKind::InvalidArg)?);
    let others: Vec<&str> =
        texts(error, ContextKind::PriorArg).iter().map(|other| name_of(other)).collect();
    let others = others.join(", ");
    Some(match others.as_str() {
        "" => return None,
        other if other == argument => usage(format!("{argument} is given more than once")),
        others => usage(format!("{argument} cannot be used with {others}")),
    })
}

fn superfluous_value(error: &clap::Error) -> Option<Error> {
    let argument = name_of(text(error, ContextKind::InvalidArg)?);
    let value = text(error, ContextKind::InvalidValue)?;
    Some(usage(format!("unexpected value `{value}` for {argument}")))
}

fn invalid_value(error: &clap::Error) -> Option<Error> {
    let argument = name_of(text(error, ContextKind::InvalidArg)?);
    let value = text(error, ContextKind::InvalidValue)?;
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

/// Returns the error for `kill -9 web`, as kill(1) takes it.
fn hyphened_signal(words: &[&str], command: Option<&str>) -> Option<Error> {
    let command = command.filter(|command| ["signal", "kill"].contains(command))?;
    let mut after = words.iter().skip_while(|word| **word != command).skip(1);
    let is_signal = |word: &&str| {
        word.strip_prefix('-').is_some_and(|signal| SignalNumber::parse(signal).is_ok())
    };
    let typed = after.clone().copied().find(is_signal)?;
    let container = after.find(|word| !word.starts_with('-')).copied().unwrap_or("CTR");
    let signal = typed.trim_start_matches('-');
    Some(usage(format!("`{typed}` is not a valid option")).hint(format!(
        "the signal follows the container, without a hyphen: `cinspect {command} {container} {signal}`; or use `-s {signal}`"
    )))
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
            ("cinspect signal web", "missing argument: SIG\nhint: try `cinspect signal --help`"),
            ("cinspect ls -1", "unexpected argument `-1`\nhint: try `cinspect ls --help`"),
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
                "SIG cannot be used with --signal\nhint: try `cinspect kill --help`",
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
            ("cinspect docter", "no such command: `docter`\nhint: did you mean `doctor`?"),
        ] {
            assert_eq!(error_of(line), message, "{line}");
        }
    }

    #[test]
    fn hints_keep_the_words_that_were_typed() {
        let hint = "hint: the signal follows the container, without a hyphen: `cinspect kill db 9`; or use `-s 9`";
        let message = format!("`-9` is not a valid option\n{hint}");
        assert_eq!(error_of("cinspect kill -9 db"), message);
        assert_eq!(error_of("cinspect kill db -9"), message);
        let swapped = swapped_arguments("HUP", "web").unwrap();
        assert_eq!(swapped.hints, ["the container comes first: `cinspect signal web HUP`"]);
        assert_eq!(swapped_arguments("web", "HUP"), None);
        assert_eq!(swapped_arguments("web", "TREM"), None);
    }
}
