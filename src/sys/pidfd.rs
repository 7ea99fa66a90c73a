//! Process descriptors, pidfd_open(2) and pidfd_send_signal(2): with tgkill(2) for threads on kernels
//! before 6.9, the only ways to signal processes of others. A pidfd refers to one process for as long as
//! it is held, even if its PID is reused.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags};

use super::fd;
use crate::model::signal::Signal;

/// pidfd_open(2): `PIDFD_THREAD` is `O_EXCL` (since Linux 6.9).
const PIDFD_THREAD: libc::c_uint = libc::O_EXCL as libc::c_uint;
/// pidfd_send_signal(2), since Linux 6.9.
const PIDFD_SIGNAL_THREAD: libc::c_uint = 1;

/// Kind of task that a descriptor refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalScope {
    /// A whole process, by its thread group ID.
    Process,
    /// One thread (since Linux 6.9).
    Thread,
}

/// Opens a descriptor for the process or thread that has this PID or TID now.
///
/// # Errors
/// ESRCH if there is none, EINVAL for a thread on a kernel before 6.9, ENOSYS before 5.3.
pub fn open(id: i32, scope: SignalScope) -> Result<OwnedFd, Errno> {
    let flags = match scope {
        SignalScope::Process => 0,
        SignalScope::Thread => PIDFD_THREAD,
    };
    // SAFETY: takes no pointer; a result that is not negative is a new descriptor (always O_CLOEXEC).
    unsafe {
        let fd = Errno::result(libc::syscall(libc::SYS_pidfd_open, id, flags))?;
        Ok(OwnedFd::from_raw_fd(fd as libc::c_int))
    }
}

/// The head of `siginfo_t` for a queued signal, sigqueue(3); the kernel reads 128 bytes.
#[repr(C)]
struct QueuedInfo {
    signo: libc::c_int,
    errno: libc::c_int,
    code: libc::c_int,
    #[cfg(target_pointer_width = "64")]
    pad: libc::c_int,
    pid: libc::pid_t,
    uid: libc::uid_t,
    value: libc::uintptr_t,
    rest: [u8; 96],
}

const _: () = assert!(size_of::<QueuedInfo>() == 128 || cfg!(not(target_pointer_width = "64")));

/// Sends `signal` (0 only checks whether it could be sent); with `value`, as sigqueue(3) does.
///
/// # Errors
/// ESRCH if the process is reaped, EPERM, EAGAIN if the queue of its user is full, ENOSYS before
/// Linux 5.1.
pub fn send(
    pidfd: impl AsFd,
    signal: i32,
    value: Option<i32>,
    scope: SignalScope,
) -> Result<(), Errno> {
    let info = value.map(|value| QueuedInfo {
        signo: signal,
        errno: 0,
        code: libc::SI_QUEUE,
        #[cfg(target_pointer_width = "64")]
        pad: 0,
        pid: std::process::id() as libc::pid_t,
        uid: nix::unistd::getuid().as_raw(),
        value: value as u32 as libc::uintptr_t,
        rest: [0; 96],
    });
    let pointer = info.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let flags = match scope {
        SignalScope::Process => 0,
        SignalScope::Thread => PIDFD_SIGNAL_THREAD,
    };
    // SAFETY: the pointer is null or refers to 128 initialised bytes that outlive the call.
    unsafe {
        Errno::result(libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            pointer,
            flags,
        ))?;
    }
    Ok(())
}

/// Sends a signal to one thread by its TID, tgkill(2), for kernels before 6.9. The caller holds the
/// process and has verified that it has that thread.
///
/// # Errors
/// ESRCH if the thread does not exist or belongs to another process.
pub fn send_to_thread(process: i32, thread: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: takes no pointer.
    unsafe {
        Errno::result(libc::syscall(libc::SYS_tgkill, process, thread, signal))?;
    }
    Ok(())
}

/// End of a process, as wait(2) reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this status.
    Status(i32),
    /// This signal killed it; whether it dumped core.
    Signal(Signal, bool),
}

impl Ending {
    /// Parses a wait status.
    pub fn from_wait_status(status: i32) -> Option<Self> {
        if libc::WIFEXITED(status) {
            return Some(Self::Status(libc::WEXITSTATUS(status)));
        }
        let signal = u8::try_from(libc::WTERMSIG(status)).ok().and_then(Signal::new)?;
        Some(Self::Signal(signal, libc::WCOREDUMP(status)))
    }

    /// Returns the signal that killed it.
    pub fn signal(self) -> Option<Signal> {
        match self {
            Self::Signal(signal, _) => Some(signal),
            Self::Status(_) => None,
        }
    }
}

/// The head of struct pidfd_info, include/uapi/linux/pidfd.h.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// PIDFD_GET_INFO, `_IOWR(0xFF, 11, struct pidfd_info)` of the first version, and PIDFD_INFO_EXIT.
const GET_INFO: libc::c_ulong = 0xc040_ff0b;
const INFO_EXIT: u64 = 1 << 3;
const _: () = assert!(size_of::<PidfdInfo>() == 64);

/// Returns how a process ended, once its parent has reaped it (since Linux 6.15); none before that, and
/// on older kernels.
pub fn ending(pidfd: impl AsFd) -> Option<Ending> {
    let mut info = PidfdInfo { mask: INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the kernel writes at most the 64 bytes that are encoded in the request.
    let done = unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), GET_INFO as _, &mut info) };
    (done == 0 && info.mask & INFO_EXIT != 0)
        .then(|| Ending::from_wait_status(info.exit_code))
        .flatten()
}

/// Waits until one of the processes exits, at most `timeout`, and returns for each whether it has. A
/// descriptor becomes readable when its process is a zombie or reaped, pidfd_open(2).
///
/// # Errors
/// As ppoll(2), EINTR included: the caller checks its clock and calls again.
pub fn wait_any(pidfds: &[impl AsFd], timeout: Duration) -> Result<Vec<bool>, Errno> {
    let mut fds: Vec<PollFd<'_>> =
        pidfds.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
    fd::poll(&mut fds, Some(timeout))?;
    Ok(fds.iter().map(|fd| fd.any().unwrap_or(true)).collect())
}

/// Whether a process has not exited yet (a zombie has).
///
/// # Errors
/// As poll(2).
pub fn alive(pidfd: impl AsFd) -> Result<bool, Errno> {
    loop {
        match wait_any(&[&pidfd.as_fd()], Duration::ZERO) {
            Ok(exited) => return Ok(!exited[0]),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}
