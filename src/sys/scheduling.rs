//! Scheduling of processes: policy, I/O priority and nice value, and the execution domain, which nix lacks.

use nix::errno::Errno;
use nix::libc;

use crate::model::process_config::Scheduling;

/// IOPRIO_WHO_PROCESS, include/uapi/linux/ioprio.h.
const PROCESS: libc::c_int = 1;
/// Makes children start with the default policy; not a policy itself.
const RESET_ON_FORK: libc::c_long = 0x4000_0000;

/// Returns the scheduling policy of a thread (0 for the calling one).
///
/// # Errors
/// ESRCH.
pub fn policy(tid: i32) -> Result<Scheduling, Errno> {
    let mut parameter: libc::c_int = 0;
    // SAFETY: the kernel writes one struct sched_param, an int, which lives until the call returns. (musl's
    // functions of that name only return ENOSYS.)
    let policy = unsafe {
        let policy = Errno::result(libc::syscall(libc::SYS_sched_getscheduler, tid))?;
        Errno::result(libc::syscall(libc::SYS_sched_getparam, tid, &raw mut parameter))?;
        policy
    };
    let number = |value: libc::c_long| u32::try_from(value).unwrap_or(0);
    let policy = number(policy & !RESET_ON_FORK);
    Ok(Scheduling { policy, priority: number(parameter.into()) })
}

/// Sets the scheduling policy of this process, sched_setscheduler(2).
///
/// # Errors
/// EPERM for a real-time policy without CAP_SYS_NICE, EINVAL for one with other parameters (DEADLINE).
pub fn set_policy(scheduling: Scheduling) -> Result<(), Errno> {
    let policy = libc::c_int::try_from(scheduling.policy).map_err(|_| Errno::EINVAL)?;
    let parameter = libc::c_int::try_from(scheduling.priority).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel reads one struct sched_param, an int, which lives until the call returns.
    let done =
        unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameter) };
    Errno::result(done).map(drop)
}

/// Returns the I/O priority of a thread (0 for the calling one), ioprio_get(2).
///
/// # Errors
/// ESRCH; ENOSYS on a kernel without it.
pub fn io_priority(tid: i32) -> Result<u32, Errno> {
    // SAFETY: takes no pointer.
    let value = unsafe { libc::syscall(libc::SYS_ioprio_get, PROCESS, tid) };
    Errno::result(value).map(|value| u32::try_from(value).unwrap_or(0))
}

/// Sets the I/O priority of this process.
///
/// # Errors
/// EPERM for the real-time class without CAP_SYS_NICE.
pub fn set_io_priority(priority: u32) -> Result<(), Errno> {
    // SAFETY: takes no pointer.
    Errno::result(unsafe { libc::syscall(libc::SYS_ioprio_set, PROCESS, 0, priority) }).map(drop)
}

/// Sets the nice value of this process, setpriority(2).
///
/// # Errors
/// EACCES if it would be lower without CAP_SYS_NICE.
pub fn set_nice(nice: i32) -> Result<(), Errno> {
    // SAFETY: takes no pointer.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map(drop)
}

/// Sets the execution domain of this process, personality(2).
///
/// # Errors
/// EINVAL where a security module forbids it, or the architecture lacks it.
pub fn set_personality(personality: u32) -> Result<(), Errno> {
    // SAFETY: takes no pointer.
    let done = unsafe { libc::syscall(libc::SYS_personality, libc::c_ulong::from(personality)) };
    Errno::result(done).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_of_this_thread_is_known_and_can_be_set_again() {
        let current = policy(0).unwrap();
        assert_eq!(set_policy(current), Ok(()));
        assert_eq!(policy(0), Ok(current));
        assert_eq!(set_policy(Scheduling { policy: 6, priority: 0 }), Err(Errno::EINVAL));
        assert_eq!(policy(i32::MAX), Err(Errno::ESRCH));
    }
}
