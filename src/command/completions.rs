//! `completions`: the completion script of a shell, on stdout.

use clap::{ArgMatches, Args};
use clap_complete::Shell;

use super::{Command, arguments, command};
use crate::cli::context::Context;
use crate::cli::root::root_command;
use crate::error::{Error, ExitStatus};

/// Print the completion script for a shell
///
/// In bash, zsh and fish it completes what runs now, too: containers, processes, users, and paths
/// inside of containers. Put it where the shell looks for such scripts, or load it at its start:
/// `source <(cinspect completions bash)`.
#[derive(Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub const COMMAND: Command = command::<Completions>(
    "completions",
    &[],
    &[
        (
            "cinspect completions bash > /etc/bash_completion.d/cinspect",
            "for whoever uses bash here",
        ),
        (
            "cinspect completions zsh > /usr/local/share/zsh/site-functions/_cinspect",
            "for everybody who uses zsh",
        ),
        (
            "cinspect completions fish > ~/.config/fish/completions/cinspect.fish",
            "for you, in fish",
        ),
    ],
    run,
)
.files(&[
    (
        "/etc/bash_completion.d, /usr/share/bash-completion/completions",
        "Where bash looks, as `cinspect`.",
    ),
    (
        "/usr/local/share/zsh/site-functions, or any folder in $fpath",
        "Where zsh looks, as `_cinspect`.",
    ),
    ("~/.config/fish/completions", "Where fish looks, as `cinspect.fish`."),
]);

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: Completions = arguments(matches)?;
    context.print(&script(arguments.shell))?;
    Ok(ExitStatus::Done)
}

/// The script, as it also lies in `completions/`.
pub fn script(shell: Shell) -> String {
    // What asks us for live values, where we know how; elsewhere what the command table alone tells.
    if let Some(script) = crate::completion::script(shell) {
        return script.to_owned();
    }
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut root_command(), "cinspect", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
