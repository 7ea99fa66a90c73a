//! Warnings of values that are missing in the list, and the refusal of an interval that would be a container.

use crate::analysis::container_process::ContainerProcess;
use crate::cli::args;
use crate::cli::context::Context;
use crate::error::{Error, ExitStatus};
use crate::model::pid::HostPid;
use crate::model::process::Fact;
use crate::output::escape::safe_str;
use crate::resolve::processes::ContainerSnapshot;

/// Warns of processes and values that could not be read.
pub fn warn_of_gaps(context: &Context, word: &str, snapshot: &ContainerSnapshot) {
    let (ui, word) = (&context.ui, safe_str(word));
    if snapshot.hidden > 0 {
        ui.warn(&format!("{word}: {} of its processes are hidden (hidepid)", snapshot.hidden));
    }
    if let Some(error) = &snapshot.users_error {
        ui.warn(&format!("{word}: the container's users cannot be read: {error}"));
    }
    if let Some(error) = &snapshot.user_names_error {
        ui.step(&format!("users are shown by ID: cannot read the names in the container: {error}"));
    }
    let denied = |process: &&ContainerProcess| process.facts.command == Fact::Denied;
    let unread = snapshot.processes.iter().filter(denied).count();
    if unread > 0 {
        ui.warn(&format!(
            "{word}: {unread} command lines could not be read, or not in time, and are shown as `?`"
        ));
    }
}

/// Refuses `-w 1`, as watch(1) has its `-n 1`: here the number would be the container that process 1 is
/// in, and the whole host would be watched. (A longer number is an ID.)
pub fn refuse_seconds(word: &str) -> Result<(), Error> {
    let is_digit = |c: char| c.is_ascii_digit();
    let fraction = word.contains('.') && word.chars().all(|c| is_digit(c) || c == '.');
    let whole = word.parse::<HostPid>().is_ok();
    if !(whole || fraction && args::duration(word).is_ok()) {
        return Ok(());
    }
    let interval = if word == "1" { "second".into() } else { format!("{word} seconds") };
    let hint = format!("`-w={word}` refreshes every {interval}");
    let error = Error::new(ExitStatus::Usage, format!("`{word}` is not a container"))
        .cause("the seconds of `-w` need a `=`");
    Err(match whole {
        true => error.hint(format!("{hint}; `pid:{word}` is the container of process {word}")),
        false => error.hint(hint),
    })
}
