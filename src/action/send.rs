//! Sends a signal to exactly the intended process. The order is the proof:
//!
//! 1. `pidfd_open` on the PID: from here on we hold one process, whichever it is.
//! 2. Read through the PID the facts that identify the intended process: start time, PID in the
//!    container, PID namespace or cgroup, and the attributes it was selected by. Before 1 this would
//!    prove nothing: the PID could be reused.
//! 3. Check that the held process is still running. A PID is not reused while its process exists, so
//!    step 2 read this process. (Start times alone prove nothing: they count in 10 ms, and one PID can
//!    be used twice in that time.)
//! 4. Send through the pidfd, never to a PID.
//!
//! For a whole container, 1 is done before its snapshot is taken, so that the snapshot is step 2.

use std::collections::HashSet;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::analysis::container_process::ContainerProcess;
use crate::analysis::selection::Criteria;
use crate::engine::MembershipRule;
use crate::model::cgroup::Cgroup;
use crate::model::container::Container;
use crate::model::pid::HostPid;
use crate::model::process::Process;
use crate::model::signal::{Signal, SignalNumber};
use crate::proc::{CommandLimit, Host, ReadError, SnapshotOptions};
use crate::resolve::ResolvedContainer;
use crate::sys::pidfd::{self, Ending, SignalScope};

/// A signal to send.
#[derive(Clone, Copy, Debug)]
pub struct SignalRequest {
    /// The signal; 0 only checks whether one could be sent.
    pub signal: SignalNumber,
    /// A value that goes with it, as with sigqueue(3).
    pub value: Option<i32>,
}

impl SignalRequest {
    /// The KILL signal.
    pub const KILL: Self = Self { signal: SignalNumber::Signal(Signal::KILL), value: None };
}

/// A process, or one thread of it, that is held by a pidfd and verified.
#[derive(Debug)]
pub struct HeldProcess {
    pid: HostPid,
    pidfd: Arc<OwnedFd>,
    /// The thread, if only one is meant: its TID on the host, and its pidfd.
    thread: Option<(i32, Option<OwnedFd>)>,
}

/// A process cannot be held, or a signal cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The process has exited since the snapshot.
    #[error("it has exited")]
    Gone,
    /// The PID belongs to another process now, or the process is not the one that was selected.
    #[error("{0}")]
    Changed(String),
    /// The process is running, but no longer in this container: a process that starts another one in
    /// the container is in its cgroup for a moment.
    #[error("it has left the container")]
    LeftContainer,
    /// The process may not be the one of the snapshot.
    #[error("its identity could not be verified: {0}")]
    Unverified(String),
    /// `--require-handler` forbids it.
    #[error("it has no handler")]
    NoHandler,
    /// EPERM.
    #[error("Operation not permitted")]
    NotPermitted,
    /// EMFILE: this many descriptors are allowed.
    #[error("too many processes for the open file limit ({0})")]
    TooMany(u64),
    /// ENOSYS: without pidfds nothing can be sent, entered or copied safely.
    #[error(
        "this kernel has no pidfds (since Linux 5.3), without which the PID could be another process's"
    )]
    NoPidfd,
    /// EAGAIN: the target's user has too many queued signals.
    #[error("the signal queue of its user is full (RLIMIT_SIGPENDING)")]
    QueueFull,
    /// Any other error of the kernel.
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
            ReadError::Broken(why) => Self::Unverified(why),
        }
    }
}

impl SendError {
    fn too_many() -> Self {
        Self::TooMany(getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft))
    }
}

/// Returns the error for a kernel without pidfds, before any is needed.
pub fn missing_pidfds() -> Option<SendError> {
    let own_pid = i32::try_from(std::process::id()).ok()?;
    let is_missing = pidfd::open(own_pid, SignalScope::Process).err() == Some(Errno::ENOSYS);
    is_missing.then_some(SendError::NoPidfd)
}

/// Raises the limit of open files to the hard limit: each held process takes a descriptor.
pub fn raise_fd_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // If this fails, fewer can be held at once; too few is an error of `hold`.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Opens a pidfd of a container's process (and of the thread with TID `thread` on the host, if only
/// that is meant), and verifies that it is the process of the snapshot.
///
/// # Errors
/// If it is not, or no pidfd can be opened.
pub fn hold(
    found: &ResolvedContainer<'_>,
    process: &ContainerProcess,
    thread: Option<i32>,
    criteria: Criteria,
) -> Result<HeldProcess, SendError> {
    let pid = process.facts.id.pid;
    let pidfd = pidfd::open(pid.get(), SignalScope::Process)?;
    let open_thread = |tid| match pidfd::open(tid, SignalScope::Thread) {
        Ok(pidfd) => Ok((tid, Some(pidfd))),
        // Before Linux 6.9 there are no pidfds of threads; tgkill(2) checks the process.
        Err(Errno::EINVAL) => Ok((tid, None)),
        Err(errno) => Err(SendError::from(errno)),
    };
    let thread = thread.map(open_thread).transpose()?;
    verify(found, &process.facts, criteria)?;
    if let Some((tid, _)) = &thread {
        let task = found.host.proc_path(format!("{pid}/task/{tid}"));
        std::fs::symlink_metadata(task).map_err(ReadError::from)?;
    }
    if !pidfd::alive(&pidfd)? {
        // A zombie has exited. A process whose main thread has exited before the others has not: its
        // pidfd becomes readable only when the last thread has exited.
        return Err(SendError::Gone);
    }
    Ok(HeldProcess { pid, pidfd: Arc::new(pidfd), thread })
}

/// Holds a container's process by the pidfd of its snapshot, if that has one: the facts, its PID namespace among
/// them, are those of the held process if that exists afterwards, which the caller has to check. `listed` are
/// processes that were in the container's cgroup when the snapshot had been taken.
///
/// # Errors
/// If it has left the container.
pub fn hold_by_snapshot(
    found: &ResolvedContainer<'_>,
    process: &ContainerProcess,
    listed: &HashSet<HostPid>,
) -> Option<Result<HeldProcess, SendError>> {
    let pid = process.facts.id.pid;
    let pidfd = Arc::clone(process.facts.pidfd.as_ref()?);
    let rule = MembershipRule::new(found.host, &found.container, &found.inventory);
    let rule = rule.with_listed(listed);
    let is_member = match process.pid_ns {
        Some(namespace) => rule.holds_in(pid, Some(namespace)),
        None => rule.holds(pid),
    };
    Some(match is_member {
        Ok(true) => Ok(HeldProcess { pid, pidfd, thread: None }),
        Ok(false) => Err(SendError::LeftContainer),
        Err(error) => Err(error.into()),
    })
}

fn verify(
    found: &ResolvedContainer<'_>,
    before: &Process,
    criteria: Criteria,
) -> Result<(), SendError> {
    let (host, container) = (found.host, &found.container);
    let pid = before.id.pid;
    let changed = |change: &str| Err(SendError::Changed(format!("process {pid} {change}")));
    let command = if criteria.command { CommandLimit::WHOLE } else { CommandLimit::Nothing };
    let options = SnapshotOptions { command, ..SnapshotOptions::BARE };
    let now = host.snapshot(&[pid], options).pop().unwrap_or(Err(ReadError::Gone))?;
    if now.id != before.id {
        return changed("is a different process now");
    }
    if now.status.nspid.get(container.depth) != before.status.nspid.get(container.depth) {
        return changed("is in a different PID namespace now");
    }
    if !criteria.still_hold(before, &now) {
        return changed("no longer matches the selectors");
    }
    if !MembershipRule::new(host, container, &found.inventory).holds(pid)? {
        return Err(SendError::LeftContainer);
    }
    Ok(())
}

impl HeldProcess {
    /// Returns the PID of the process.
    pub fn pid(&self) -> HostPid {
        self.pid
    }

    /// Returns the pidfd of the process.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Returns how the process ended, if the kernel still has its status.
    pub fn ending(&self) -> Option<Ending> {
        pidfd::ending(&self.pidfd)
    }

    /// Whether the process has exited.
    pub fn has_exited(&self) -> bool {
        pidfd::alive(&self.pidfd) == Ok(false)
    }

    /// Asks the kernel whether the signal may be sent, by signal 0 (kill(2)). CONT may be sent within a session,
    /// too, for which signal 0 does not check.
    ///
    /// # Errors
    /// If it has no permission to send it.
    pub fn may_send(&self, request: SignalRequest) -> Result<(), SendError> {
        match request.signal.signal() {
            Some(Signal::CONT) => Ok(()),
            _ => self.send(SignalRequest { signal: SignalNumber::Probe, value: None }),
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(&self, request: SignalRequest) -> Result<(), SendError> {
        let signal = request.signal.number();
        match &self.thread {
            None => pidfd::send(&self.pidfd, signal, request.value, SignalScope::Process)?,
            Some((_, Some(thread))) => {
                pidfd::send(thread, signal, request.value, SignalScope::Thread)?;
            }
            Some((tid, None)) if request.value.is_none() => {
                pidfd::send_to_thread(self.pid.get(), *tid, signal)?;
            }
            Some(_) => return Err(SendError::Kernel(Errno::ENOSYS)),
        }
        Ok(())
    }
}

/// Waits until all processes have exited, at most until `deadline`. Returns for each whether it has.
///
/// # Errors
/// If poll(2) fails.
pub fn wait_for_all(
    processes: &[&HeldProcess],
    deadline: Option<Instant>,
) -> Result<Vec<bool>, Errno> {
    let mut exited = vec![false; processes.len()];
    loop {
        let running: Vec<usize> = (0..processes.len()).filter(|index| !exited[*index]).collect();
        if running.is_empty() {
            return Ok(exited);
        }
        let timeout = deadline.map_or(Duration::from_secs(3600), |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        let fds: Vec<&OwnedFd> = running.iter().map(|index| &*processes[*index].pidfd).collect();
        match pidfd::wait_any(&fds, timeout) {
            Ok(ready) => {
                for (index, ready) in running.iter().zip(ready) {
                    exited[*index] = ready;
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(exited);
        }
    }
}

/// Waits until one process has exited, at most until `deadline`. Returns for each whether it has.
///
/// # Errors
/// If poll(2) fails.
pub fn wait_for_any(processes: &[&HeldProcess], deadline: Instant) -> Result<Vec<bool>, Errno> {
    let fds: Vec<&OwnedFd> = processes.iter().map(|process| &*process.pidfd).collect();
    loop {
        let timeout = deadline.saturating_duration_since(Instant::now());
        match pidfd::wait_any(&fds, timeout) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Kills a whole cgroup at once through `cgroup.kill` (v2, since Linux 5.14), which is exact even while
/// it forks. Returns false if that cannot be done.
///
/// Only for a container without a PID namespace of its own, which its cgroup alone defines: where
/// there is a PID namespace, KILL to its init kills all of it, and a cgroup may hold other processes
/// too, as that of a user can. The file is opened first; then one of the held processes has to be
/// running and in that cgroup, which proves that the file is the right one.
pub fn kill_cgroup(host: &Host, container: &Container, processes: &[&HeldProcess]) -> bool {
    let is_defined_by_cgroup = !container.owns_pid_ns && container.user.is_none();
    let Some(cgroup) = container.cgroup.as_ref().filter(|_| is_defined_by_cgroup) else {
        return false;
    };
    let v2 = Cgroup { controllers: Vec::new(), path: cgroup.path.clone() };
    let Some(mut file) = host.cgroup_kill_file(&v2) else { return false };
    let proven = processes.iter().any(|process| {
        host.is_in_cgroup(process.pid, &v2) && pidfd::alive(&process.pidfd).unwrap_or(false)
    });
    proven && file.write_all(b"1").is_ok()
}
