//! The target's environment, scheduling attributes and resource limits.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::action::exec::events::{Attribute, ExecReporter};
use crate::analysis::exec_plan::{ExecPlan, ProcessAttributes};
use crate::error::{Error, os_error};
use crate::model::limits;
use crate::sys::fd::open_at;
use crate::sys::process;

/// Bytes of an environment that are read at most.
const MAX_ENVIRONMENT: u64 = 256 << 10;

fn open(directory: &OwnedFd, path: &str, flags: OFlag) -> io::Result<File> {
    Ok(open_at(directory, path, flags)?.into())
}

fn read(directory: &OwnedFd, path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(directory, path, OFlag::O_RDONLY)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads the environment of `process`, a directory in the host's `/proc`, if the plan starts from it.
///
/// # Errors
/// With `--strict`, if it could not be read.
pub fn read_environment(
    process: &OwnedFd,
    plan: &ExecPlan,
    reporter: &mut ExecReporter<'_>,
) -> Result<Vec<u8>, Error> {
    if plan.base_environment.is_some() {
        return Ok(Vec::new());
    }
    read(process, "environ", MAX_ENVIRONMENT).or_else(|error| {
        reporter.not_applied(Attribute::Environment, os_error(error)).map(|()| Vec::new())
    })
}

/// Applies what requires the host's files, or privileges that the container does not have.
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
    if let Err(errno) = process::set_nice(attributes.nice) {
        reporter.not_applied(Attribute::Nice(attributes.nice), os_error(errno))?;
    }
    let mut cpus = CpuSet::new();
    for cpu in 0..(attributes.cpus.len() * 8).min(CpuSet::count()) {
        if attributes.cpus[cpu / 8] & (1 << (cpu % 8)) != 0 {
            let _ = cpus.set(cpu);
        }
    }
    // The target's cpuset may exclude all of cinspect's CPUs: then the cgroup decides.
    let _ = sched_setaffinity(Pid::from_raw(0), &cpus);
    Ok(())
}

/// Applies the resource limits.
///
/// # Errors
/// With `--strict`, if one could not be applied.
pub fn apply_limits(
    proc: &OwnedFd,
    attributes: &ProcessAttributes,
    reporter: &mut ExecReporter<'_>,
) -> Result<(), Error> {
    let current = limits::parse(&read(proc, "self/limits", u64::MAX).unwrap_or_default());
    for limit in attributes.limits.iter().filter(|limit| !current.contains(limit)) {
        if let Err(errno) = process::set_limit(limit.resource, limit.soft, limit.hard) {
            let cause = match errno {
                Errno::EPERM => "raising it requires CAP_SYS_RESOURCE".into(),
                errno => os_error(errno),
            };
            reporter.not_applied(Attribute::Limit(limit.name().into()), cause)?;
        }
    }
    Ok(())
}
