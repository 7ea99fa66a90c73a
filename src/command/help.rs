//! How a command's help is laid out: what it does, examples, usage, options. `--help` is short,
//! `cinspect help CMD` tells all; both come from the command's own doc comments.

use clap::{Arg, ArgAction, Command};

use super::Example;

/// Where the words begin that say what an example does; longer ones have them on the next line.
const WIDEST: usize = 40;

/// A command with its help in our order.
pub fn arranged(command: Command, examples: &[Example]) -> Command {
    let more = command.get_long_about().map(ToString::to_string).unwrap_or_default();
    let more = more.split_once("\n\n").map_or("", |(_, more)| more).to_owned();
    let name = command.get_name();
    let all =
        if name == "cinspect" { "cinspect help CMD" } else { &format!("cinspect help {name}") };
    let help = Arg::new("help")
        .short('h')
        .long("help")
        .action(ArgAction::HelpShort)
        .help(format!("Print this; `{all}` tells more"));
    command
        .disable_help_flag(true)
        .arg(help)
        .long_about(None)
        .before_help(examples_text(examples))
        .after_long_help(more)
        // Examples first: they are what most people look for.
        .help_template(
            "{about-with-newline}\n{before-help}{usage-heading} {usage}{after-help}\n\n{all-args}",
        )
}

/// Examples as they stand in a help text.
fn examples_text(examples: &[Example]) -> String {
    let short = examples.iter().map(|(line, _)| line.len()).filter(|width| *width <= WIDEST);
    let edge = short.max().unwrap_or(0);
    let line = |(line, what): &Example| match line.len() {
        width if width <= edge => format!("  {line:edge$}  {what}"),
        _ => format!("  {line}\n  {:edge$}  {what}", ""),
    };
    let lines: Vec<String> = examples.iter().map(line).collect();
    format!("Examples:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{COMMANDS, overview};

    #[test]
    fn examples_fit_into_eighty_columns_with_one_to_spare() {
        let all = COMMANDS.iter().map(|command| command.examples.to_vec()).chain([overview()]);
        let texts: Vec<String> = all.map(|examples| examples_text(&examples)).collect();
        let wide: Vec<&str> =
            texts.iter().flat_map(|t| t.lines()).filter(|l| l.chars().count() >= 80).collect();
        assert!(wide.is_empty(), "{wide:#?}");
    }
}
