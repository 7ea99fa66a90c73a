//! The target's environment and scheduling attributes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::action::exec::events::{Attribute, ExecReporter};
use crate::analysis::exec_environment::salvage;
use crate::analysis::exec_plan::ExecPlan;
use crate::error::{Error, os_error};
use crate::model::account::AccountEntry;
use crate::model::process_attributes::ProcessAttributes;
use crate::sys::fd::open_at;
use crate::sys::{process, scheduling};

/// Bytes of an environment that are read at most: execve(2) accepts less (three quarters of `_STK_LIM`,
/// fs/exec.c).
const MAX_ENVIRONMENT: u64 = 8 << 20;

fn open(directory: &OwnedFd, path: &str, flags: OFlag) -> io::Result<File> {
    Ok(open_at(directory, path, flags)?.into())
}

/// Reads the environment of `process`, a directory in the host's `/proc`, if the plan starts from it.
pub fn read_environment(process: &OwnedFd, plan: &ExecPlan) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if plan.base_environment.is_some() {
        return Ok(bytes);
    }
    open(process, "environ", OFlag::O_RDONLY)?.take(MAX_ENVIRONMENT + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_ENVIRONMENT {
        true => Err(io::Error::other("it is larger than any that execve(2) accepts")),
        false => Ok(bytes),
    }
}

/// Reports an environment that could not be read, or that the target has written over.
///
/// # Errors
/// With `--strict`, if it is not whole.
pub fn check_environment(
    environment: &io::Result<Vec<u8>>,
    reporter: &mut ExecReporter<'_>,
) -> Result<(), Error> {
    match environment {
        Ok(bytes) if salvage(bytes).1 => Ok(()),
        Ok(_) => reporter.deviation(AccountEntry::guessed(
            Attribute::Environment.to_string(),
            "PID 1 has overwritten its own, and no record of its engine has it: variables are missing",
        )),
        Err(error) => {
            let cause = error.raw_os_error().map_or_else(|| error.to_string(), |code| {
                os_error(io::Error::from_raw_os_error(code))
            });
            reporter.not_applied(Attribute::Environment, cause)
        }
    }
}

/// Applies the attributes that require the host's files, or privileges that the container does not have.
///
/// # Errors
/// With `--strict`, if one could not be applied.
pub fn apply_scheduling(
    proc: &OwnedFd,
    attributes: &ProcessAttributes,
    reporter: &mut ExecReporter<'_>,
) -> Result<(), Error> {
    if let Some(score) = attributes.oom_score_adj {
        let written = open(proc, "self/oom_score_adj", OFlag::O_WRONLY)
            .and_then(|mut file| file.write_all(score.to_string().as_bytes()));
        if let Err(error) = written {
            reporter.not_applied(Attribute::OomScoreAdj(score), os_error(error))?;
        }
    }
    if let Err(errno) = scheduling::set_nice(attributes.nice) {
        reporter.not_applied(Attribute::Nice(attributes.nice), os_error(errno))?;
    }
    if let Some(policy) = attributes.scheduling
        && scheduling::policy(0) != Ok(policy)
        && let Err(errno) = scheduling::set_policy(policy)
    {
        reporter.not_applied(Attribute::SchedulingPolicy(policy.name()), os_error(errno))?;
    }
    if let Some(priority) = attributes.io_priority
        && scheduling::io_priority(0) != Ok(priority)
        && let Err(errno) = scheduling::set_io_priority(priority)
    {
        reporter.not_applied(Attribute::IoPriority, os_error(errno))?;
    }
    if let Some(personality) = attributes.personality
        && let Err(errno) = scheduling::set_personality(personality)
    {
        reporter.not_applied(Attribute::Personality, os_error(errno))?;
    }
    Ok(())
}

/// Gives the command a session keyring without cinspect's keys.
///
/// # Errors
/// With `--strict`, if that is not possible.
pub fn leave_keyring(reporter: &mut ExecReporter<'_>) -> Result<(), Error> {
    match process::new_session_keyring() {
        // A kernel without keyrings has no keys either.
        Ok(()) | Err(Errno::ENOSYS) => Ok(()),
        Err(errno) => reporter.not_applied(Attribute::Keyring, os_error(errno)),
    }
}
