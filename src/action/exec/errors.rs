//! Errors of `exec`: with the status of a command that was not started (125), or, for a command that could
//! not be run, with exit status, cause and hint by errno.

use nix::errno::Errno;

use crate::analysis::exec_plan::ExecPlan;
use crate::analysis::remedy::quoted;
use crate::error::{Error, ExitStatus, os_error};
use crate::model::bytes::message_text;

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

/// Returns the hint for a container without tools.
fn tools(container: &str) -> String {
    format!("`cinspect exec --tools {}` brings a shell and tools of the host", quoted(container))
}

/// MAX_ARG_STRLEN, with its null byte (execve(2)).
const MAX_STRING: usize = 32 * 4096;

/// Returns the error for execve(2)'s `errno`; `found` is whether the command's file exists, and `shells` are
/// those that were tried in place of a command. `container` is the reference for hints.
pub fn command_error(
    plan: &ExecPlan,
    container: &str,
    shells: &[String],
    errno: Errno,
    found: bool,
) -> Error {
    let Some(name) = plan.command.first() else {
        let shell = shells.first().map_or("/bin/sh", String::as_str);
        return Error::new(ExitStatus::NotFound, "cannot run a shell in the container")
            .cause(format!("`{shell}`: {}", os_error(errno)))
            .hint(tools(container));
    };
    let message = format!("cannot run `{}`", message_text(name));
    let cannot_run = |cause: &str| {
        Error::new(ExitStatus::CannotRun, message.clone())
            .cause(format!("{}{cause}", os_error(errno)))
    };
    if plan.uses_tools {
        let error =
            Error::new(ExitStatus::CannotRun, "cannot run the host's tools").cause(os_error(errno));
        return match plan.security.as_ref().is_some_and(|security| security.has_filters) {
            true => error
                .hint("`--privileged` runs them without the container's seccomp filter and label"),
            false => error,
        };
    }
    match errno {
        Errno::ENOENT | Errno::ENOTDIR if !found => not_found(plan, container, name, message),
        Errno::ENOENT => Error::new(ExitStatus::CannotRun, message)
            .cause("the file exists, but not the interpreter or loader that it names"),
        Errno::ENOEXEC => cannot_run(" (another architecture, or a script without `#!`)"),
        Errno::EACCES => {
            cannot_run(" (not executable, not a regular file, or on a file system mounted noexec)")
        }
        Errno::EPERM | Errno::ENOSYS
            if plan.security.as_ref().is_some_and(|security| security.has_filters) =>
        {
            cannot_run(" (the container's seccomp filter may forbid execve(2))")
                .hint("`--privileged` runs the command without the filter")
        }
        Errno::E2BIG => cannot_run(&too_large(plan)),
        _ => cannot_run(""),
    }
}

/// Returns the name of the argument or variable that is too large for execve(2), in parentheses.
fn too_large(plan: &ExecPlan) -> String {
    let is_large = |string: &&Vec<u8>| string.len() >= MAX_STRING;
    let variables = plan.variables.iter().chain(plan.base_environment.iter().flatten());
    let variable = variables.chain(&plan.recorded_variables).find(is_large);
    match (variable, plan.command.iter().find(is_large)) {
        (Some(variable), _) => {
            let name = variable.split(|b| *b == b'=').next().unwrap_or_default();
            let (name, length) = (message_text(name), variable.len());
            format!(" (variable `{name}` has {length} bytes of at most {})", MAX_STRING - 1)
        }
        (None, Some(argument)) => {
            format!(" (an argument has {} bytes of at most {})", argument.len(), MAX_STRING - 1)
        }
        (None, None) => " (arguments and environment together)".into(),
    }
}

fn not_found(plan: &ExecPlan, container: &str, name: &[u8], message: String) -> Error {
    let place = match plan.in_container_root {
        false => "on the host",
        true if name.contains(&b'/') => "in the container",
        true => "in the container's PATH",
    };
    let error = Error::new(ExitStatus::NotFound, message).cause(format!("not found {place}"));
    // (`exec web 'ls | head'`: the name of a program hardly ever has these characters.)
    if plan.command.len() == 1 && name.iter().any(|byte| b" |;&<>$".contains(byte)) {
        let line = quoted(&message_text(name));
        let container = quoted(container);
        let command = format!("`cinspect exec {container} -- sh -c {line}`");
        return error.hint(format!("for a line of a shell: {command}"));
    }
    match plan.in_container_root {
        true => error.hint(tools(container)).hint(SKIP_MNT),
        false => {
            error.hint("without the container's mounts the command is one of the host's tools")
        }
    }
}
