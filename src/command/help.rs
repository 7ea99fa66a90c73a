//! The layout of a command's help: description, examples, usage, options. `--help` is short, and
//! `cinspect help CMD` complete; both come from the command's doc comments.

use clap::{Arg, ArgAction, Command};

use super::Example;

/// Widest example with its purpose on the same line.
const EXAMPLE_WIDTH: usize = 40;

/// Returns a command with its help in our order.
pub fn with_help_layout(command: Command, examples: &[Example]) -> Command {
    let more = command.get_long_about().map(ToString::to_string).unwrap_or_default();
    let more = more.split_once("\n\n").map_or("", |(_, more)| more).to_owned();
    let name = command.get_name();
    let complete =
        if name == "cinspect" { "cinspect help CMD" } else { &format!("cinspect help {name}") };
    let help = Arg::new("help")
        .short('h')
        .long("help")
        .action(ArgAction::HelpShort)
        .help(format!("Print help; more: `{complete}`"));
    command
        .disable_help_flag(true)
        .arg(help)
        .long_about(None)
        .before_help(examples_text(examples))
        .after_long_help(more)
        // Examples come first because most readers look for one.
        .help_template(
            "{about-with-newline}\n{before-help}{usage-heading} {usage}{after-help}\n\n{all-args}",
        )
}

/// Returns examples as lines of a help text, their purposes aligned.
fn examples_text(examples: &[Example]) -> String {
    let short = examples.iter().map(|(line, _)| line.len()).filter(|width| *width <= EXAMPLE_WIDTH);
    let column = short.max().unwrap_or(0);
    let line = |(line, purpose): &Example| match line.len() {
        width if width <= column => format!("  {line:column$}  {purpose}"),
        _ => format!("  {line}\n  {:column$}  {purpose}", ""),
    };
    let lines: Vec<String> = examples.iter().map(line).collect();
    format!("Examples:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{COMMANDS, overview};

    #[test]
    fn examples_fit_79_columns() {
        let examples = COMMANDS.iter().map(|command| command.examples.to_vec()).chain([overview()]);
        let texts: Vec<String> = examples.map(|examples| examples_text(&examples)).collect();
        let too_wide: Vec<&str> =
            texts.iter().flat_map(|t| t.lines()).filter(|l| l.chars().count() >= 80).collect();
        assert!(too_wide.is_empty(), "{too_wide:#?}");
    }
}
