//! `completions`: the completion script of a shell, on stdout.

use clap::{ArgMatches, Args};
use clap_complete::Shell;

use super::{Command, arguments, command};
use crate::cli::{Context, cli};
use crate::error::{Error, Exit};

/// Print the completion script for a shell
#[derive(Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub const COMMAND: Command = command::<Completions>(
    "completions",
    &[],
    &[(
        "cinspect completions bash > /etc/bash_completion.d/cinspect",
        "complete commands and options in bash",
    )],
    run,
);

fn run(context: &Context, matches: &ArgMatches) -> Result<Exit, Error> {
    let arguments: Completions = arguments(matches)?;
    context.print(&script(arguments.shell))?;
    Ok(Exit::Done)
}

/// The script, as it also lies in `completions/`.
pub fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli(), "cinspect", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
