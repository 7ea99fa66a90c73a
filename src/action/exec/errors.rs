//! Errors of `exec`: with the status of a command that was not started (125), or, for a command that could
//! not be run, with exit status, cause and hint by errno.

use nix::errno::Errno;

use crate::analysis::exec_plan::ExecPlan;
use crate::error::{Error, ExitStatus, os_error};

/// The hint for a file system that cannot be used.
pub const SKIP_MNT: &str =
    "`--skip mnt` runs the host's tools in the container's network and PID namespace";

/// Returns a constructor for an error of `exec` itself from an operating system error.
pub fn cannot<E: Into<std::io::Error>>(message: impl Into<String>) -> impl FnOnce(E) -> Error {
    let error = failure(message);
    move |cause| error.cause(os_error(cause))
}

/// Returns an error of `exec` itself.
pub fn failure(message: impl Into<String>) -> Error {
    Error::new(ExitStatus::CannotEnter, message)
}

/// Returns the error for execve(2)'s `errno`; `found` is whether the command's file exists.
pub fn command_error(plan: &ExecPlan, errno: Errno, found: bool) -> Error {
    let Some(name) = plan.command.first() else {
        return Error::new(ExitStatus::NotFound, "cannot run a shell in the container")
            .cause(format!("the user's shell, or /bin/sh: {}", os_error(errno)))
            .hint("name a command, or use the host's tools: `cinspect exec --skip mnt CTR -- sh`");
    };
    let message = format!("cannot run `{}`", String::from_utf8_lossy(name));
    let cannot_run = |cause: &str| {
        Error::new(ExitStatus::CannotRun, message.clone())
            .cause(format!("{}{cause}", os_error(errno)))
    };
    match errno {
        Errno::ENOENT | Errno::ENOTDIR if !found => not_found(plan, name, message),
        Errno::ENOENT => Error::new(ExitStatus::CannotRun, message)
            .cause("the file exists, but not the interpreter or loader that it names"),
        Errno::ENOEXEC => cannot_run(" (another architecture, or a script without `#!`)"),
        Errno::EACCES => {
            cannot_run(" (not executable, not a regular file, or on a file system mounted noexec)")
        }
        _ => cannot_run(""),
    }
}

fn not_found(plan: &ExecPlan, name: &[u8], message: String) -> Error {
    let place = match plan.in_container_root {
        false => "on the host",
        true if name.contains(&b'/') => "in the container",
        true => "in the container's PATH",
    };
    Error::new(ExitStatus::NotFound, message).cause(format!("not found {place}")).hint(
        match plan.in_container_root {
            true => SKIP_MNT,
            false => "without the container's mounts the command is one of the host's tools",
        },
    )
}
