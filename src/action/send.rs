//! Sends a signal to exactly the process that was meant. The order is the proof:
//!
//! 1. `pidfd_open` on the number: from here on we hold one process, whichever it is.
//! 2. Read through the number what makes it the one that was meant: start time, its number inside,
//!    PID namespace or cgroup, and whatever else it was chosen by. Before 1 this would prove nothing:
//!    the number could change hands.
//! 3. Ask whether the held process is still alive. A number is not given away while its process is,
//!    so what 2 read was this process. (Start times alone are no proof: they count in 10 ms, and one
//!    number can be had twice in that time.)
//! 4. Send through the pidfd, never to a number.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::analysis::container_process::ContainerProcess;
use crate::analysis::selection::Criteria;
use crate::engine::MembershipRule;
use crate::model::container::{Cgroup, Container};
use crate::model::pid::HostPid;
use crate::model::process::Process;
use crate::model::signal::SignalNumber;
use crate::proc::{CommandLimit, Host, ReadError, SnapshotOptions};
use crate::resolve::ResolvedContainer;
use crate::sys::pidfd::{self, Ending, SignalScope};

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct SignalRequest {
    /// The signal, or the mere question whether one could be sent.
    pub signal: SignalNumber,
    /// With this value, as sigqueue(3) does.
    pub value: Option<i32>,
}

/// A process or thread that is held and confirmed.
#[derive(Debug)]
pub struct HeldProcess {
    pid: HostPid,
    process: OwnedFd,
    /// Number of the thread's process, and the thread.
    thread: Option<(HostPid, i32, Option<OwnedFd>)>,
}

/// Why a process cannot be held, or a signal not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It has ended since it was seen.
    #[error("it has ended")]
    Gone,
    /// Its number is another process's now.
    #[error("{0}")]
    Changed(String),
    /// It lives, but not in this container any more: whoever starts a process in a container is in
    /// its cgroup for a moment.
    #[error("it has left the container")]
    Left,
    /// It cannot be confirmed to be the one that was seen.
    #[error("it cannot be confirmed to be the one that was seen: {0}")]
    Unconfirmed(String),
    /// `--require-handler` forbids it.
    #[error("it has no handler")]
    NoHandler,
    /// EPERM.
    #[error("not permitted")]
    NotPermitted,
    /// EMFILE: we cannot hold so many.
    #[error("too many processes for the limit of open files ({0})")]
    TooMany(u64),
    /// ENOSYS: no pidfd, so that nothing could be sent safely.
    #[error("this kernel has no pidfd (Linux 5.3), without which a signal could hit a stranger")]
    NoPidfd,
    /// EAGAIN: the target's user has too many signals queued.
    #[error("the queue for signals of its user is full (RLIMIT_SIGPENDING)")]
    QueueFull,
    /// Anything else the kernel says.
    #[error("{}", .0.desc())]
    Kernel(Errno),
}

impl From<Errno> for SendError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ESRCH => Self::Gone,
            Errno::EPERM | Errno::EACCES => Self::NotPermitted,
            Errno::EMFILE | Errno::ENFILE => Self::too_many(),
            Errno::ENOSYS => Self::NoPidfd,
            Errno::EAGAIN => Self::QueueFull,
            other => Self::Kernel(other),
        }
    }
}

impl From<ReadError> for SendError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone => Self::Gone,
            ReadError::Denied => Self::NotPermitted,
            ReadError::Exhausted => Self::too_many(),
            ReadError::Broken(why) => Self::Unconfirmed(why),
        }
    }
}

impl SendError {
    fn too_many() -> Self {
        Self::TooMany(getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft))
    }
}

/// Lets us hold as many processes as the hard limit allows.
pub fn allow_many() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Without it we hold fewer at once, and say so where that is too few.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Holds a member of a container, and one thread of it if only that is meant.
///
/// # Errors
/// When it is not the one that was seen any more, or cannot be held.
pub fn hold(
    found: &ResolvedContainer<'_>,
    member: &ContainerProcess,
    thread: Option<i32>,
    went_by: Criteria,
) -> Result<HeldProcess, SendError> {
    let pid = member.facts.id.pid;
    let process = pidfd::open(pid.get(), SignalScope::Process)?;
    let held = match thread {
        None => None,
        Some(tid) => {
            let fd = match pidfd::open(tid, SignalScope::Thread) {
                Ok(fd) => Some(fd),
                // Before Linux 6.9 threads have no descriptors; tgkill(2) checks the process.
                Err(Errno::EINVAL) => None,
                Err(errno) => return Err(errno.into()),
            };
            Some((pid, tid, fd))
        }
    };
    confirm(found, &member.facts, went_by)?;
    if let Some((_, tid, _)) = &held {
        let task = found.host.proc_path(format!("{pid}/task/{tid}"));
        std::fs::symlink_metadata(task).map_err(ReadError::from)?;
    }
    if !pidfd::alive(&process)? {
        // A zombie has ended, but a main thread that left before its threads is no dead process:
        // its descriptor stays silent until the last of them has gone.
        return Err(SendError::Gone);
    }
    Ok(HeldProcess { pid, process, thread: held })
}

fn confirm(
    found: &ResolvedContainer<'_>,
    seen: &Process,
    went_by: Criteria,
) -> Result<(), SendError> {
    let (host, container) = (found.host, &found.container);
    let pid = seen.id.pid;
    let changed = |what: &str| Err(SendError::Changed(format!("process {pid} {what}")));
    let command = if went_by.command { CommandLimit::WHOLE } else { CommandLimit::Nothing };
    let facts = SnapshotOptions { command, ..SnapshotOptions::BARE };
    let now = host.snapshot(&[pid], facts).pop().unwrap_or(Err(ReadError::Gone))?;
    if now.id != seen.id {
        return changed("is another one now");
    }
    if now.status.nspid.get(container.depth) != seen.status.nspid.get(container.depth) {
        return changed("is in another PID namespace now");
    }
    if !went_by.still_holds(seen, &now) {
        return changed("is no longer what it was chosen by");
    }
    if !MembershipRule::new(host, container, &found.inventory).holds(pid)? {
        return Err(SendError::Left);
    }
    Ok(())
}

impl HeldProcess {
    /// The process, as a descriptor.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// How it ended, where the kernel still tells.
    pub fn ending(&self) -> Option<Ending> {
        pidfd::ending(&self.process)
    }

    /// Whether the process has ended.
    pub fn has_ended(&self) -> bool {
        pidfd::alive(&self.process) == Ok(false)
    }

    /// Sends.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(&self, order: SignalRequest) -> Result<(), SendError> {
        let signal = order.signal.number();
        match &self.thread {
            None => pidfd::send(&self.process, signal, order.value, SignalScope::Process)?,
            Some((_, _, Some(thread))) => {
                pidfd::send(thread, signal, order.value, SignalScope::Thread)?
            }
            Some((process, tid, None)) if order.value.is_none() => {
                pidfd::send_to_thread(process.get(), *tid, signal)?;
            }
            Some(_) => return Err(SendError::Kernel(Errno::ENOSYS)),
        }
        Ok(())
    }
}

/// Waits until all of them have ended, at most until `until`; tells for each whether it has.
///
/// # Errors
/// Those of poll(2).
pub fn wait(held: &[&HeldProcess], until: Option<Instant>) -> Result<Vec<bool>, Errno> {
    let mut ended = vec![false; held.len()];
    loop {
        let waiting: Vec<usize> = (0..held.len()).filter(|index| !ended[*index]).collect();
        if waiting.is_empty() {
            return Ok(ended);
        }
        let left = until.map_or(Duration::from_secs(3600), |until| {
            until.saturating_duration_since(Instant::now())
        });
        let fds: Vec<&OwnedFd> = waiting.iter().map(|index| &held[*index].process).collect();
        match pidfd::wait_any(&fds, left) {
            Ok(now) => {
                for (index, has) in waiting.iter().zip(now) {
                    ended[*index] = has;
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return Ok(ended);
        }
    }
}

/// Waits until one of them has ended, at most until then.
///
/// # Errors
/// Those of poll(2).
pub fn wait_for_one(held: &[&HeldProcess], until: Instant) -> Result<(), Errno> {
    let fds: Vec<&OwnedFd> = held.iter().map(|held| &held.process).collect();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match pidfd::wait_any(&fds, left) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// Kills a whole cgroup at once by `cgroup.kill` (v2, since Linux 5.14): exact even while it forks.
/// Only for a container without a PID namespace of its own, which its cgroup alone makes: where there
/// is one, the init's KILL takes all of it, and a cgroup may hold others too, as a user's may. The
/// file is opened
/// first; then one of those held must still be alive and in that cgroup, which proves whose file it
/// is. False where it cannot be done.
pub fn kill_cgroup(host: &Host, container: &Container, held: &[&HeldProcess]) -> bool {
    let alone = !container.owns_pid_ns && container.user.is_none();
    let Some(own) = container.cgroup.as_ref().filter(|_| alone) else { return false };
    let v2 = Cgroup { controllers: Vec::new(), path: own.path.clone() };
    let Some(mut file) = host.cgroup_kill_file(&v2) else { return false };
    let proven = held.iter().any(|held| {
        let inside = host.memberships(held.pid).is_ok_and(|memberships| v2.holds(&memberships));
        inside && pidfd::alive(&held.process).unwrap_or(false)
    });
    proven && file.write_all(b"1").is_ok()
}
