//! The ioctls of namespace files, ioctl_ns(2): the owner and the parent of a namespace, and translating
//! a PID to our namespace. They only read. And becoming root of a user namespace.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::unistd::{setresgid, setresuid};

// ioctl_ns(2), include/uapi/linux/nsfs.h: _IO(0xb7, 0x1), _IO(0xb7, 0x2), _IO(0xb7, 0x4), _IOR(0xb7, 0x6, int).
const NS_GET_USERNS: libc::c_ulong = 0xb701;
const NS_GET_PARENT: libc::c_ulong = 0xb702;
const NS_GET_OWNER_UID: libc::c_ulong = 0xb704;
const NS_GET_PID_FROM_PIDNS: libc::c_ulong = 0x8004_b706;

/// Opens the user namespace that owns a namespace (since Linux 4.9).
///
/// # Errors
/// EPERM if it is not our user namespace or one below it.
pub fn owner(ns: impl AsFd) -> Result<OwnedFd, Errno> {
    // SAFETY: as in `parent`.
    unsafe {
        let fd = Errno::result(libc::ioctl(ns.as_fd().as_raw_fd(), NS_GET_USERNS as _))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Opens the parent of a PID or user namespace (since Linux 4.9).
///
/// # Errors
/// EPERM if the parent is not our namespace or one below it.
pub fn parent(ns: impl AsFd) -> Result<OwnedFd, Errno> {
    // SAFETY: takes no pointer; a result that is not negative is a descriptor that the kernel has just
    // opened for us, with O_CLOEXEC, and that nothing else owns.
    unsafe {
        let fd = Errno::result(libc::ioctl(ns.as_fd().as_raw_fd(), NS_GET_PARENT as _))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Returns the UID that owns a **user** namespace, as seen from ours (since Linux 4.11).
///
/// # Errors
/// EINVAL if the file is not a user namespace.
pub fn owner_uid(user_ns: impl AsFd) -> Result<u32, Errno> {
    let mut uid: libc::uid_t = 0;
    // SAFETY: the kernel writes one uid_t, which lives until the call returns.
    unsafe {
        Errno::result(libc::ioctl(user_ns.as_fd().as_raw_fd(), NS_GET_OWNER_UID as _, &mut uid))?;
    }
    Ok(uid)
}

/// Translates a PID of a PID namespace to ours (since Linux 6.11).
///
/// # Errors
/// ESRCH if the process does not exist; ENOTTY or EINVAL if the kernel has no such call.
pub fn pid_from(pid_ns: impl AsFd, pid: i32) -> Result<i32, Errno> {
    // SAFETY: the argument is a number, not a pointer, although the request is spelt _IOR.
    unsafe {
        Errno::result(libc::ioctl(
            pid_ns.as_fd().as_raw_fd(),
            NS_GET_PID_FROM_PIDNS as _,
            libc::c_ulong::from(pid.unsigned_abs()),
        ))
    }
}

/// Joins a user namespace and becomes its root, as far as it has one. It cannot be undone, and the caller
/// is not killed with its parent any more (prctl(2)). For a process without other threads.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN in it, EINVAL if it is our own.
pub fn become_root_of(user_ns: impl AsFd) -> Result<(), Errno> {
    setns(user_ns, CloneFlags::CLONE_NEWUSER)?;
    setresgid(0.into(), 0.into(), 0.into())?;
    setresuid(0.into(), 0.into(), 0.into())
}
