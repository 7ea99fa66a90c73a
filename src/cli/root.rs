//! The root of the command line: the global options, and one subcommand for each row of the command
//! table.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Command, ValueHint};

use crate::command::{self, COMMANDS};
use crate::output::terminal::ColorMode;

/// Options that every command has, before or after its own.
#[derive(Args, Debug)]
pub struct GlobalOptions {
    /// Print NDJSON: one object per line, with stable names and exact strings
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true,
        help_heading = "Global options"
    )]
    pub color: ColorMode,
    /// Read the host whose root file system is mounted at DIR, from a container in its PID namespace
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        value_hint = ValueHint::DirPath,
        default_value = "/",
        hide_default_value = true,
        help_heading = "Global options"
    )]
    pub host_root: PathBuf,
    /// Show how each container was found (on stderr), and further details
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub verbose: bool,
}

/// Returns the whole command line. Its help is one screen; [`with_full_help`] has everything.
pub fn root_command() -> Command {
    root_with(|_| true)
}

/// Returns the command line with only those commands that a word of `argv` names, which costs a fraction of
/// the whole. Arguments that it accepts mean the same to the whole; help and errors come from the whole.
pub fn root_for(argv: &[OsString]) -> Command {
    let words: Vec<&str> = argv.iter().filter_map(|word| word.to_str()).collect();
    root_with(|command| {
        words.iter().any(|word| *word == command.name || command.aliases.contains(word))
    })
}

fn root_with(is_wanted: impl Fn(&command::Command) -> bool) -> Command {
    // The doc comment of the options would become the description of the program.
    let root = GlobalOptions::augment_args(Command::new("cinspect"))
        .version(env!("CARGO_PKG_VERSION"))
        .about("Find any container without its engine, see what its processes do with signals, and act on exactly the right process")
        .long_about(None)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(false)
        .max_term_width(100);
    let root = command::with_help_layout(root, &command::overview())
        .help_template(
            "{about-with-newline}\n{before-help}{usage-heading} {usage}{after-help}",
        )
        .after_help(
            "`cinspect CMD --help` describes a command. `cinspect help` lists all commands\nand the global options.",
        );
    let wanted = COMMANDS.iter().filter(|command| is_wanted(command));
    wanted.fold(root, |root, command| root.subcommand(command.clap()))
}

/// Returns the command line with the help of `cinspect help`: all commands and the global options.
pub fn with_full_help(root: Command) -> Command {
    root.help_template("{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_screen_fits_24_rows_and_full_help_has_everything() {
        let short = root_command().term_width(80).render_help().to_string();
        // One row is left for the prompt.
        assert!(short.lines().count() < 24, "{short}");
        assert!(!short.contains("--host-root"), "{short}");
        let full = with_full_help(root_command()).render_long_help().to_string();
        for word in ["--host-root", "--json", "completions ", "Examples:"] {
            assert!(full.contains(word), "{word}: {full}");
        }
    }
}
