//! `completions`: prints the completion script of a shell.

use clap::{ArgMatches, Args};
use clap_complete::Shell;

use super::{Command, arguments, command};
use crate::cli::context::Context;
use crate::cli::root::root_command;
use crate::error::{Error, ExitStatus};

/// Print the completion script for a shell
///
/// In bash, zsh and fish, running containers, processes, users and paths in containers are completed
/// too. Install the script where the shell looks for completions, or load it when the shell starts:
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
        ("cinspect completions bash > /etc/bash_completion.d/cinspect", "for all bash users"),
        (
            "cinspect completions zsh > /usr/local/share/zsh/site-functions/_cinspect",
            "for all zsh users",
        ),
        (
            "cinspect completions fish > ~/.config/fish/completions/cinspect.fish",
            "for your own fish",
        ),
    ],
    run,
)
.files(&[
    (
        "/etc/bash_completion.d, /usr/share/bash-completion/completions",
        "Completions of bash; the file is named `cinspect`.",
    ),
    (
        "/usr/local/share/zsh/site-functions, or any directory in $fpath",
        "Completions of zsh; the file is named `_cinspect`.",
    ),
    ("~/.config/fish/completions", "Completions of fish; the file is named `cinspect.fish`."),
]);

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: Completions = arguments(matches)?;
    context.print(&script(arguments.shell))?;
    Ok(ExitStatus::Done)
}

/// Returns the script of a shell; the repository has it in `completions/`, too.
pub fn script(shell: Shell) -> String {
    // For other shells clap_complete generates one from the command table only.
    if let Some(script) = crate::completion::script(shell) {
        return script.to_owned();
    }
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut root_command(), "cinspect", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
