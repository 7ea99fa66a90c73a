//! Parses the command line and dispatches to a command. The commands are in the command table; `usage`
//! words clap's errors.

pub mod args;
pub mod context;
mod engine_command;
mod habits;
mod pod_option;
pub mod root;
mod suggest;
mod typed_line;
pub mod usage;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgMatches, FromArgMatches};

use crate::command::{COMMANDS, Command};
use crate::error::{Error, ExitStatus, os_error};
use crate::output::terminal::{ColorMode, Ui};
use context::{Context, print};
use root::{GlobalOptions, root_command, root_for, with_full_help};
use typed_line::{TypedLine, accepted};
use usage::usage_error;

/// Runs a command line; the exit status is one of those that the manual lists.
pub fn run(argv: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> ExitCode {
    let argv: Vec<OsString> = argv.into_iter().map(Into::into).collect();
    crate::sys::process::set_dispositions();
    // (The helper's limits are the container's.)
    crate::action::exec::run_if_helper(argv.first().map(OsString::as_os_str));
    let failure = TypedLine::new(&argv).command().map_or(ExitStatus::Failed, Command::failure);
    crate::sys::memory::set_status(failure.code().into());
    if let Err(limit) = crate::sys::memory::ensure_stack() {
        let message = format!("cannot run with a stack of {} KiB", limit >> 10);
        let error = Error::new(failure, message).hint("raise the limit with `ulimit -s`");
        return fail(&Ui::new(ColorMode::Auto, false, false), &error).into();
    }
    if crate::completion::answer(&argv) {
        return ExitStatus::Done.into();
    }
    let argv = accepted(argv);
    let status = match parse(&argv) {
        Ok(matches) => dispatch(&matches, &argv),
        Err(error) => answer(&error, &argv),
    };
    status.into()
}

/// Parses a command line with the command that it names. For help and errors the whole command line
/// is built.
fn parse(argv: &[OsString]) -> Result<ArgMatches, clap::Error> {
    match root_for(argv).try_get_matches_from(argv) {
        Err(error) if error.kind() != ErrorKind::DisplayVersion => {}
        done => return done,
    }
    let root = root_command();
    let is_help = argv.get(1..).is_some_and(|words| words == ["help"]);
    let root = if is_help { with_full_help(root) } else { root };
    root.try_get_matches_from(argv)
}

/// Prints help, the version or an error, which clap returns instead of matches.
fn answer(error: &clap::Error, argv: &[OsString]) -> ExitStatus {
    // Help that was not asked for goes to stderr.
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitStatus::Usage;
    }
    let ui = Ui::new(ColorMode::Auto, false, false);
    if error.use_stderr() {
        return fail(&ui, &usage_error(error, argv));
    }
    let text = error.render();
    let text = if ui.color { text.ansi().to_string() } else { text.to_string() };
    match print(&ui, &text) {
        Ok(()) => ExitStatus::Done,
        Err(error) => fail(&ui, &error),
    }
}

fn dispatch(matches: &ArgMatches, argv: &[OsString]) -> ExitStatus {
    let command = matches.subcommand().and_then(|(name, matches)| {
        Some((COMMANDS.iter().find(|command| command.name == name)?, matches))
    });
    let Some((command, matches)) = command else { return ExitStatus::Usage };
    let options = match GlobalOptions::from_arg_matches(matches) {
        Ok(options) => options,
        Err(error) => return answer(&error, argv),
    };
    let ui = Ui::new(options.color, options.json, options.verbose);
    let context = Context::new(ui, options.host_root);
    match (command.run)(&context, matches) {
        Ok(status) => {
            if let Some(errno) = crate::sys::shortage::last() {
                let reason = os_error(errno);
                context
                    .ui
                    .warn(&format!("the answer may lack facts that could not be read: {reason}"));
            }
            status
        }
        Err(error) => fail(&context.ui, &error),
    }
}

fn fail(ui: &Ui, error: &Error) -> ExitStatus {
    ui.fail(error);
    error.status
}
