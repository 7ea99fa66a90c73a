//! Attributes that are set on the command's process from outside, before it runs the command: its limits,
//! which the helper would need itself, or could raise only before it joins a user namespace, and its CPUs,
//! which depend on the cgroup that it is in.

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::events::{Attribute, ExecReporter};
use crate::error::{Error, os_error};
use crate::model::limits::{self, ResourceLimit};
use crate::model::pid::HostPid;
use crate::model::process_attributes::ProcessAttributes;
use crate::proc::Host;
use crate::sys::process;

/// More than the file has.
const MAX_LIMITS: usize = 1 << 16;

/// Sets the resource limits of a process. Returns those that it has to set itself, as a mask of their
/// numbers: for another user's process that takes CAP_SYS_RESOURCE, which not every root has.
///
/// # Errors
/// With `--strict`, if one could not be set.
pub fn apply_limits(
    host: &Host,
    pid: HostPid,
    attributes: &ProcessAttributes,
    reporter: &mut ExecReporter<'_>,
) -> Result<u32, Error> {
    let mut remaining = 0;
    let current = host.proc_file(pid, "limits", MAX_LIMITS).unwrap_or_default();
    let current = limits::parse(&current);
    for limit in attributes.limits.iter().filter(|limit| !current.contains(limit)) {
        match process::set_limit_of(pid.get(), limit.resource, limit.soft, limit.hard) {
            Ok(()) => {}
            Err(Errno::EPERM) => remaining |= 1 << limit.resource,
            Err(errno) => {
                reporter.not_applied(Attribute::Limit(limit.name()), os_error(errno))?;
            }
        }
    }
    Ok(remaining)
}

/// Reports a limit that the process could not set either.
///
/// # Errors
/// Always with `--strict`.
pub fn limit_not_applied(
    resource: u8,
    errno: Errno,
    reporter: &mut ExecReporter<'_>,
) -> Result<(), Error> {
    let limit = ResourceLimit { resource: resource.into(), soft: None, hard: None };
    let cause = match errno {
        Errno::EPERM => "raising it requires CAP_SYS_RESOURCE".into(),
        errno => os_error(errno),
    };
    reporter.not_applied(Attribute::Limit(limit.name()), cause)
}

/// Sets the CPUs of a process that is in its cgroups already.
///
/// # Errors
/// With `--strict`, if they could not be set.
pub fn apply_affinity(
    pid: HostPid,
    attributes: &ProcessAttributes,
    reporter: &mut ExecReporter<'_>,
) -> Result<(), Error> {
    let mut cpus = CpuSet::new();
    for cpu in 0..(attributes.cpus.len() * 8).min(CpuSet::count()) {
        if attributes.cpus[cpu / 8] & (1 << (cpu % 8)) != 0 {
            let _ = cpus.set(cpu);
        }
    }
    match sched_setaffinity(Pid::from_raw(pid.get()), &cpus) {
        Ok(()) => Ok(()),
        Err(errno) => reporter.not_applied(Attribute::CpuAffinity, os_error(errno)),
    }
}
