//! The root of another mount namespace. A process that has called chroot(2) shows only its own root in
//! `/proc/PID/root`; that of its namespace is where setns(2) leads (`mntns_install`, fs/namespace.c). A child
//! joins it, opens the root, and sends it back: this process keeps its own namespace.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::cpu_wait::TaskDeadline;
use super::fd::{open, open_at, poll};
use super::{process, socket};

/// Joining takes no file system's answer but the root's.
const TIMEOUT: Duration = Duration::from_millis(700);

/// The root of a mount namespace.
#[derive(Debug)]
pub struct MountRoot {
    /// The root directory, as a place.
    pub root: OwnedFd,
    /// The mounts of the namespace, `mountinfo`.
    pub mountinfo: OwnedFd,
}

/// Opens the root of the mount namespace of a process: `proc` is our `/proc`, `process` the process's (or a
/// thread's) directory in it. For a caller without other threads.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN in the user namespace that owns it, ESRCH, ETIMEDOUT.
pub fn mount_root(proc: impl AsFd, process: impl AsFd) -> Result<MountRoot, Errno> {
    let user = open_at(&process, "ns/user", OFlag::O_RDONLY);
    let mounts = open_at(&process, "ns/mnt", OFlag::O_RDONLY)?;
    let (ours, childs) = socket::pair()?;
    let Some(child) = process::fork()? else {
        let sent = send_root(&proc, user.ok(), &mounts, &childs);
        let _ = sent.or_else(|errno| socket::send(&childs, &(errno as i32).to_ne_bytes(), None));
        process::exit_now(0);
    };
    drop(childs);
    let mut deadline = TaskDeadline::new(Instant::now() + TIMEOUT, child);
    let received = receive(&ours, &mut deadline)
        .and_then(|root| Ok(MountRoot { root, mountinfo: receive(&ours, &mut deadline)? }));
    // A child that hangs in the kernel is left behind, as long as it does.
    let child = Pid::from_raw(child);
    let _ = kill(child, Signal::SIGKILL);
    if !matches!(received, Err(Errno::ETIMEDOUT)) {
        let _ = waitpid(child, None);
    }
    received
}

/// Joins the namespace and sends its root and its mounts, in the child.
fn send_root(
    proc: impl AsFd,
    user: Option<OwnedFd>,
    mounts: &OwnedFd,
    socket: &OwnedFd,
) -> Result<(), Errno> {
    // The owner of a user namespace has the rights in it only there.
    if setns(mounts, CloneFlags::CLONE_NEWNS).is_err() {
        setns(user.ok_or(Errno::EPERM)?, CloneFlags::CLONE_NEWUSER)?;
        setns(mounts, CloneFlags::CLONE_NEWNS)?;
    }
    let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    let mountinfo = open_at(proc, "self/mountinfo", OFlag::O_RDONLY)?;
    socket::send(socket, &0i32.to_ne_bytes(), Some(root.as_fd()))?;
    socket::send(socket, &0i32.to_ne_bytes(), Some(mountinfo.as_fd()))
}

/// Receives a descriptor, or the error that came in its place.
fn receive(socket: &OwnedFd, deadline: &mut TaskDeadline) -> Result<OwnedFd, Errno> {
    loop {
        let fd = PollFd::new(socket.as_fd(), PollFlags::POLLIN);
        match poll(&mut [fd], Some(deadline.remaining())) {
            Err(Errno::EINTR) => {}
            Ok(0) if !deadline.is_over() => {}
            Ok(0) => return Err(Errno::ETIMEDOUT),
            Ok(_) => break,
            Err(errno) => return Err(errno),
        }
    }
    match socket::receive(socket, 4)? {
        (_, Some(fd)) => Ok(fd),
        (bytes, None) => {
            let errno = <[u8; 4]>::try_from(bytes.as_slice()).map(i32::from_ne_bytes);
            Err(errno.map_or(Errno::ESRCH, Errno::from_raw))
        }
    }
}
