//! What a process does to itself on its way into a container: its descriptors, signals and keyring,
//! and the fork after which there are two.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::unistd::ForkResult;

/// Makes a child: its PID; none in the child itself. For processes without threads alone.
///
/// # Errors
/// Those of fork(2): EAGAIN at a limit of processes, ENOMEM.
pub fn fork() -> Result<Option<i32>, Errno> {
    // SAFETY: the caller has no other threads, so that the child may go on as it likes.
    match unsafe { nix::unistd::fork()? } {
        ForkResult::Parent { child } => Ok(Some(child.as_raw())),
        ForkResult::Child => Ok(None),
    }
}

/// Starts a program from an open file, with these descriptors as 0, 1, 2 and so on, and nothing else
/// of ours: no environment, no other descriptor, no signal blocked or ignored. Gives its PID. Our
/// memory is not copied for that (posix_spawn(3)).
///
/// # Errors
/// Those of fork(2) and execve(2).
pub fn start(
    program: BorrowedFd<'_>,
    argv: &[CString],
    fds: &[BorrowedFd<'_>],
) -> Result<i32, Errno> {
    // What we were started with ourselves may be open for all that we start.
    cloexec_from(3);
    // Above the numbers they are to have, first: one would take the place of another.
    let above = RawFd::try_from(fds.len()).map_err(|_| Errno::EMFILE)? + 1;
    let high = |fd: BorrowedFd<'_>| -> Result<OwnedFd, Errno> {
        let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(above))?;
        // SAFETY: the kernel has just opened it; nothing else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(copy) })
    };
    let sources: Vec<OwnedFd> = fds.iter().map(|fd| high(*fd)).collect::<Result<_, Errno>>()?;
    let mut actions = PosixSpawnFileActions::init()?;
    for (at, fd) in (0..).zip(&sources) {
        actions.add_dup2(fd.as_raw_fd(), at)?;
    }
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_sigdefault(&SigSet::all())?;
    attributes.set_sigmask(&SigSet::empty())?;
    attributes.set_flags(
        PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK,
    )?;
    let program = high(program)?;
    let path = CString::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    let path = path.map_err(|_| Errno::EINVAL)?;
    let none: [CString; 0] = [];
    Ok(nix::spawn::posix_spawn(path.as_c_str(), &actions, &attributes, argv, &none)?.as_raw())
}

/// A descriptor that whoever started us gave us by its number; none where there is none. Once for
/// each number.
pub fn inherited(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: it is open, and by the agreement between the two programs nobody else owns it.
    unsafe {
        (libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) == 0)
            .then(|| OwnedFd::from_raw_fd(number))
    }
}

/// Closes every descriptor from this number on. Whoever still has an [`OwnedFd`] of one must not use
/// or drop it: this is for processes that are about to become another program, or to end.
pub fn close_from(first: RawFd) {
    each_from(first, 0, |fd| {
        // SAFETY: a number; the caller has given up what it stood for.
        unsafe { libc::close(fd) };
    });
}

/// Lets no program that we become have a descriptor from this number on.
pub fn cloexec_from(first: RawFd) {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    each_from(first, CLOSE_RANGE_CLOEXEC, |fd| {
        // SAFETY: a number.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    });
}

/// By close_range(2) (since Linux 5.9, its flag since 5.11), or one by one.
fn each_from(first: RawFd, flags: libc::c_uint, one: impl Fn(RawFd)) {
    let first = first.max(0);
    // SAFETY: numbers only.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first.unsigned_abs(), u32::MAX, flags) != 0 {
            let limit = libc::sysconf(libc::_SC_OPEN_MAX).clamp(64, 1 << 20);
            (first..RawFd::try_from(limit).unwrap_or(1024)).for_each(one);
        }
    }
}

/// Every signal at its default, none blocked: what a program expects that was just started. (Rust's
/// runtime ignores PIPE.)
pub fn default_signals() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator() {
        // SAFETY: no handler.
        let _ = unsafe { nix::sys::signal::sigaction(signal, &default) };
    }
    let plain = [0u64; 4];
    for signal in 32..=64 {
        // SAFETY: SIG_DFL with no flags, by the syscall since the C library refuses 32 and 33.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, plain.as_ptr(), 0usize, 8usize);
        }
    }
    let _ = SigSet::empty().thread_set_mask();
}

/// Has every signal that may be ignored so.
pub fn ignore_signals() {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|signal| *signal != Signal::SIGCHLD) {
        // SAFETY: no handler.
        let _ = unsafe { nix::sys::signal::sigaction(signal, &ignore) };
    }
}

/// Leaves the session keyring that we were started with (keyctl(2)): the keys in it are not the
/// container's.
///
/// # Errors
/// ENOSYS where the kernel has no keyrings, EDQUOT, EPERM.
pub fn new_session_keyring() -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: the name is none.
    let done =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0usize, 0, 0, 0) };
    Errno::result(done).map(drop)
}

/// Ends this process now, without running what is registered for its exit.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: does not come back.
    unsafe { libc::_exit(status) }
}

/// Sets the nice value of this process, setpriority(2).
///
/// # Errors
/// EACCES when it would be lower without CAP_SYS_NICE.
pub fn set_nice(nice: i32) -> Result<(), Errno> {
    // SAFETY: numbers only.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map(drop)
}

/// Whether the working directory is below this process's root. By the system call itself, which puts
/// `(unreachable)` before the path of any other; the C library would go on and search for a path.
pub fn has_reachable_cwd() -> bool {
    let mut path = [0u8; libc::PATH_MAX as usize];
    // SAFETY: the kernel writes at most as many bytes as there is room for.
    let length = unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) };
    length > 0 && path[0] == b'/'
}

/// Returns how many bytes of a pipe or terminal can be read now, FIONREAD in ioctl_tty(2).
///
/// # Errors
/// ENOTTY for a descriptor without such a count.
pub fn readable_bytes(fd: impl AsFd) -> Result<u64, Errno> {
    let mut count: libc::c_int = 0;
    // SAFETY: the kernel writes one int, which lives until the call returns.
    let done = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::FIONREAD as _, &raw mut count) };
    Errno::result(done).map(|_| u64::try_from(count).unwrap_or(0))
}

/// Sets a resource limit by the kernel's number; none for no limit (prlimit(2)).
///
/// # Errors
/// EPERM when a hard limit would be raised without CAP_SYS_RESOURCE, EINVAL.
pub fn set_limit(resource: u32, soft: Option<u64>, hard: Option<u64>) -> Result<(), Errno> {
    let value = |limit: Option<u64>| limit.unwrap_or(libc::RLIM_INFINITY);
    let limit = libc::rlimit64 { rlim_cur: value(soft), rlim_max: value(hard) };
    let (new, old) = (&raw const limit, 0usize);
    // SAFETY: the limit lives until the call returns; the old one is not asked for.
    let done = unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, new, old) };
    Errno::result(done).map(drop)
}

/// Closes every descriptor but these: as [`close_from`], for a process that uses nothing else.
pub fn close_all_but(keep: &[RawFd]) {
    let mut keep = keep.to_vec();
    keep.sort_unstable();
    let mut first = 0u32;
    for one in keep {
        let one = one.unsigned_abs();
        if one > first {
            // SAFETY: numbers; the caller has given up what they stood for.
            unsafe { libc::syscall(libc::SYS_close_range, first, one - 1, 0u32) };
        }
        first = one + 1;
    }
    close_from(RawFd::try_from(first).unwrap_or(RawFd::MAX));
}
