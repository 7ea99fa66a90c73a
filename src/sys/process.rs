//! Changes of a process to itself on its way into a container: its descriptors, signals, keyring and
//! limits, and the fork before.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Pid};

use super::fd;

/// Waits for a child or tracee as waitpid(2) does, also if a signal interrupts it, and returns the wait status;
/// none with WNOHANG while it runs. (nix refuses the status of a real-time signal with EINVAL, when the child is
/// reaped already.)
///
/// # Errors
/// ECHILD without such a child.
pub fn wait(pid: i32, flags: i32) -> Result<Option<i32>, Errno> {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes the status only.
        match Errno::result(unsafe { libc::waitpid(pid, &raw mut status, flags) }) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(status)),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Forks, and returns the PID of the child; none in the child itself. For processes without other
/// threads only.
///
/// # Errors
/// EAGAIN at a limit of processes, ENOMEM (fork(2)).
pub fn fork() -> Result<Option<i32>, Errno> {
    // SAFETY: the caller has no other threads, so that the child may do anything.
    match unsafe { nix::unistd::fork()? } {
        ForkResult::Parent { child } => Ok(Some(child.as_raw())),
        ForkResult::Child => Ok(None),
    }
}

/// Forks like [`fork`], where other threads may exist: the child may only make system calls.
///
/// # Errors
/// As fork(2).
pub(super) fn fork_among_threads() -> Result<Option<i32>, Errno> {
    fork()
}

/// A process that was started.
#[derive(Clone, Copy, Debug)]
pub struct StartedProcess {
    /// Its PID.
    pub pid: i32,
    /// Whether it was created in the cgroup that was asked for.
    pub in_cgroup: bool,
}

/// Starts a program from an open file, with these descriptors as 0, 1, 2 and so on, and nothing else of
/// ours: no environment, no other descriptor, no signal blocked or ignored. With `cgroup`, a directory of
/// the v2 hierarchy, it is created in that cgroup if the kernel can and allows it (clone3(2), since Linux 5.7).
///
/// # Errors
/// As fork(2) and execve(2).
pub fn start(
    program: BorrowedFd<'_>,
    argv: &[CString],
    fds: &[BorrowedFd<'_>],
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<StartedProcess, Errno> {
    // Descriptors that we were started with may be inheritable.
    cloexec_from(3);
    // First above the numbers that they are to have: one would replace another.
    let above = RawFd::try_from(fds.len()).map_err(|_| Errno::EMFILE)? + 1;
    let high = |fd: BorrowedFd<'_>| -> Result<OwnedFd, Errno> {
        let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(above))?;
        // SAFETY: the kernel has just opened it; nothing else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(copy) })
    };
    let sources: Vec<OwnedFd> = fds.iter().map(|fd| high(*fd)).collect::<Result<_, Errno>>()?;
    let program = high(program)?;
    let path = CString::new(fd::link(&program)).map_err(|_| Errno::EINVAL)?;
    if let Some(pid) = cgroup.and_then(|cgroup| start_in(cgroup, &path, argv, &sources)) {
        return Ok(StartedProcess { pid, in_cgroup: true });
    }
    // Our memory is not copied for this (posix_spawn(3)).
    let mut actions = PosixSpawnFileActions::init()?;
    for (number, fd) in (0..).zip(&sources) {
        actions.add_dup2(fd.as_raw_fd(), number)?;
    }
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_sigdefault(&SigSet::all())?;
    attributes.set_sigmask(&SigSet::empty())?;
    attributes.set_flags(
        PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK,
    )?;
    let environment: [CString; 0] = [];
    let child = nix::spawn::posix_spawn(&*path, &actions, &attributes, argv, &environment)?;
    Ok(StartedProcess { pid: child.as_raw(), in_cgroup: false })
}

/// Starts a program in a cgroup, for [`start`]; none if that fails for any reason. (posix_spawn(3) of the C
/// library can do it since glibc 2.39 only.)
fn start_in(cgroup: BorrowedFd<'_>, path: &CStr, argv: &[CString], fds: &[OwnedFd]) -> Option<i32> {
    let null = std::ptr::null::<libc::c_char>();
    let argv: Vec<_> = argv.iter().map(|word| word.as_ptr()).chain([null]).collect();
    let mut arguments = CloneArguments {
        flags: CLONE_INTO_CGROUP | u64::from(libc::CLONE_VFORK.unsigned_abs()),
        exit_signal: libc::SIGCHLD.unsigned_abs().into(),
        cgroup: cgroup.as_raw_fd().unsigned_abs().into(),
        ..CloneArguments::default()
    };
    // SAFETY: without CLONE_VM the child has memory of its own, as after fork(2); until execve(2) it makes system
    // calls only, because a lock may have been held by another thread.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<CloneArguments>()) };
    if pid == 0 {
        default_signals();
        for (number, fd) in (0..).zip(fds) {
            // SAFETY: takes no pointer; the numbers are below those of `fds`.
            unsafe { libc::dup2(fd.as_raw_fd(), number) };
        }
        // SAFETY: `argv` and the environment end with a null pointer.
        unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), &raw const null) };
        exit_now(127);
    }
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    // The child has executed the program, or exited (CLONE_VFORK).
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    if let Ok(WaitStatus::Exited(child, 127)) = waitid(Id::Pid(Pid::from_raw(pid)), flags) {
        let _ = waitpid(child, None);
        return None;
    }
    Some(pid)
}

/// `struct clone_args` of linux/sched.h.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// The flag of linux/sched.h; libc's constant of that name does not fit its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Takes a descriptor that the parent process passed by its number; none if it is not open. Once for each
/// number.
pub fn inherited(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: it is open, and by the agreement between the two programs nothing else owns it.
    unsafe {
        (libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) == 0)
            .then(|| OwnedFd::from_raw_fd(number))
    }
}

/// Closes every descriptor but these. An [`OwnedFd`] of one must be neither used nor dropped after that: this
/// is for processes that are about to execute another program, or to exit.
pub fn close_all_but(keep: &mut [RawFd]) {
    keep.sort_unstable();
    let mut first = 0;
    for kept in keep.iter().map(|fd| fd.unsigned_abs()) {
        if kept > first {
            close_range(first, kept - 1);
        }
        first = kept + 1;
    }
    close_range(first, u32::MAX);
}

fn close_range(first: u32, last: u32) {
    each_in_range(first, last, 0, |fd| {
        // SAFETY: takes no pointer; the caller has given up the descriptor.
        unsafe { libc::close(fd) };
    });
}

/// Sets the close-on-exec flag of every descriptor from this number on.
pub fn cloexec_from(first: RawFd) {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    each_in_range(first.max(0).unsigned_abs(), u32::MAX, CLOSE_RANGE_CLOEXEC, |fd| {
        // SAFETY: takes no pointer.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    });
}

/// Calls close_range(2) (since Linux 5.9, its flag since 5.11), or else `each` for each descriptor.
fn each_in_range(first: u32, last: u32, flags: libc::c_uint, each: impl Fn(RawFd)) {
    // SAFETY: takes no pointer.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, flags) != 0 {
            let limit = libc::sysconf(libc::_SC_OPEN_MAX).clamp(64, 1 << 20);
            let last = last.min(u32::try_from(limit).unwrap_or(1024));
            (first..=last).filter_map(|fd| RawFd::try_from(fd).ok()).for_each(each);
        }
    }
}

/// Sets every signal to its default and unblocks all, as a program expects at its start. (Rust's runtime
/// ignores PIPE.)
pub fn default_signals() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator() {
        // SAFETY: installs no handler.
        let _ = unsafe { nix::sys::signal::sigaction(signal, &default) };
    }
    let action = [0u64; 4];
    for signal in 32..=64 {
        // SAFETY: SIG_DFL without flags; by the system call, because the C library refuses 32 and 33.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), 0usize, 8usize);
        }
    }
    let _ = SigSet::empty().thread_set_mask();
}

/// Sets SIGCHLD to its default, and ignores XFSZ. A caller that ignores SIGCHLD passes that on, and the kernel
/// would then reap children before they are waited for (sigaction(2)). Where XFSZ is ignored, a write beyond
/// the limit of a file's size fails with an error (setrlimit(2)).
pub fn set_dispositions() {
    for (signal, handler) in
        [(Signal::SIGCHLD, SigHandler::SigDfl), (Signal::SIGXFSZ, SigHandler::SigIgn)]
    {
        let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
        // SAFETY: installs no handler.
        let _ = unsafe { nix::sys::signal::sigaction(signal, &action) };
    }
}

/// Whether a signal is ignored.
pub fn is_ignored(signal: Signal) -> bool {
    // SAFETY: only asks; the kernel writes one structure, which lives until the call returns.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let asked = libc::sigaction(signal as libc::c_int, std::ptr::null(), &raw mut action);
        asked == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Waits for one of these signals, which this thread blocks. (nix's `SigSet::wait` panics on an error, which
/// sigwait(3) returns as its result.)
///
/// # Errors
/// As sigwaitinfo(2).
pub fn wait_for_signal(signals: &SigSet) -> Result<Signal, Errno> {
    // SAFETY: a set that lives, and no room for details.
    let number = unsafe { libc::sigwaitinfo(signals.as_ref(), std::ptr::null_mut()) };
    Signal::try_from(Errno::result(number)?)
}

/// Ignores every signal that can be ignored, but for CHLD.
pub fn ignore_signals() {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|signal| *signal != Signal::SIGCHLD) {
        // SAFETY: installs no handler.
        let _ = unsafe { nix::sys::signal::sigaction(signal, &ignore) };
    }
}

/// Replaces the session keyring that we were started with by a new one (keyctl(2)): the keys in it are
/// not the container's.
///
/// # Errors
/// ENOSYS on a kernel without keyrings, EDQUOT, EPERM.
pub fn new_session_keyring() -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: the pointer to a name is null.
    let done =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0usize, 0, 0, 0) };
    Errno::result(done).map(drop)
}

/// Exits now, without running exit handlers.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(status) }
}

/// Whether the working directory is below this process's root. Uses the system call itself, which puts
/// `(unreachable)` before the path of any other; the C library would go on to search for a path.
pub fn has_reachable_cwd() -> bool {
    let mut path = [0u8; libc::PATH_MAX as usize];
    // SAFETY: the kernel writes at most as many bytes as there is room for.
    let length = unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) };
    length > 0 && path[0] == b'/'
}

/// Returns the number of bytes that can be read from a pipe or terminal now, FIONREAD of ioctl_tty(2).
///
/// # Errors
/// ENOTTY for a descriptor without such a count.
pub fn readable_bytes(fd: impl AsFd) -> Result<u64, Errno> {
    let mut count: libc::c_int = 0;
    // SAFETY: the kernel writes one int, which lives until the call returns.
    let done = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::FIONREAD as _, &raw mut count) };
    Errno::result(done).map(|_| u64::try_from(count).unwrap_or(0))
}

/// Sets a resource limit by the kernel's number of it, prlimit(2); none for no limit.
///
/// # Errors
/// EPERM if a hard limit would be raised without CAP_SYS_RESOURCE, EINVAL.
pub fn set_limit(resource: u32, soft: Option<u64>, hard: Option<u64>) -> Result<(), Errno> {
    set_limit_of(0, resource, soft, hard)
}

/// Sets a resource limit of another process.
///
/// # Errors
/// EPERM as well without CAP_SYS_RESOURCE in its user namespace, unless it has the caller's IDs.
pub fn set_limit_of(
    pid: i32,
    resource: u32,
    soft: Option<u64>,
    hard: Option<u64>,
) -> Result<(), Errno> {
    let value = |limit: Option<u64>| limit.unwrap_or(libc::RLIM_INFINITY);
    let limit = libc::rlimit64 { rlim_cur: value(soft), rlim_max: value(hard) };
    let (new, old) = (&raw const limit, 0usize);
    // SAFETY: the limit lives until the call returns; the pointer for the old one is null.
    let done = unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, new, old) };
    Errno::result(done).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_all_descriptors_but_the_kept_ones() {
        let open = || std::fs::File::open("/dev/null").unwrap();
        let (kept, closed) = (open(), open());
        let fds = || [kept.as_raw_fd(), closed.as_raw_fd()];
        let count = || {
            close_all_but(&mut fds()[..1]);
            let is_open = |fd: RawFd| std::fs::read_link(format!("/proc/self/fd/{fd}")).is_ok();
            fds().map(|fd| u8::from(is_open(fd))).to_vec()
        };
        // (The child's pipe is closed too, so the answer is its exit status.)
        match fork().unwrap() {
            None => exit_now(i32::from(count() != [1, 0])),
            Some(child) => {
                let status = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None);
                assert!(matches!(status, Ok(nix::sys::wait::WaitStatus::Exited(_, 0))));
            }
        }
    }
}
