//! Sends a signal to exactly the process that was meant. The order is the proof:
//!
//! 1. `pidfd_open` on the number: from here on we hold one process, whichever it is.
//! 2. Read through the number what makes it the one that was meant: start time, its number inside,
//!    PID namespace or cgroup. Before 1 this would prove nothing: the number could change hands.
//! 3. Ask whether the held process is still alive. A number is not given away while its process is,
//!    so what 2 read was this process. (Start times alone are no proof: they count in 10 ms, and one
//!    number can be had twice in that time.)
//! 4. Send through the pidfd, never to a number.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::analysis::membership::Member;
use crate::model::container::{Cgroup, Container};
use crate::model::pid::HostPid;
use crate::model::process::Process;
use crate::model::signal::SignalNumber;
use crate::proc::Host;
use crate::runtime::in_namespace;
use crate::sys::pidfd::{self, Task};

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// The signal, or the mere question whether one could be sent.
    pub signal: SignalNumber,
    /// With this value, as sigqueue(3) does.
    pub value: Option<i32>,
}

/// A process or thread that is held and confirmed.
#[derive(Debug)]
pub struct Held {
    pid: HostPid,
    process: OwnedFd,
    /// Number of the thread's process, and the thread.
    thread: Option<(HostPid, i32, Option<OwnedFd>)>,
}

/// Why a process cannot be held, or a signal not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has ended since it was seen.
    #[error("it has ended")]
    Gone,
    /// Its number is another process's now, or it is no longer in the container.
    #[error("{0}")]
    Changed(String),
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
    #[error("{0}")]
    Kernel(Errno),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ESRCH => Self::Gone,
            Errno::EPERM | Errno::EACCES => Self::NotPermitted,
            Errno::EMFILE | Errno::ENFILE => {
                Self::TooMany(getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft))
            }
            Errno::ENOSYS => Self::NoPidfd,
            Errno::EAGAIN => Self::QueueFull,
            other => Self::Kernel(other),
        }
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
    host: &Host,
    container: &Container,
    member: &Member,
    thread: Option<i32>,
) -> Result<Held, Refusal> {
    let pid = member.process.id.pid;
    let process = pidfd::open(pid.get(), Task::Process)?;
    let held = match thread {
        None => None,
        Some(tid) => {
            let fd = match pidfd::open(tid, Task::Thread) {
                Ok(fd) => Some(fd),
                // Before Linux 6.9 threads have no descriptors; tgkill(2) checks the process.
                Err(Errno::EINVAL) => None,
                Err(errno) => return Err(errno.into()),
            };
            Some((pid, tid, fd))
        }
    };
    confirm(host, container, &member.process)?;
    if let Some((_, tid, _)) = &held {
        let task = host.proc_path(format!("{pid}/task/{tid}"));
        if !task.exists() {
            return Err(Refusal::Gone);
        }
    }
    if !pidfd::alive(&process)? {
        // A zombie has ended, but a main thread that left before its threads is no dead process:
        // its descriptor stays silent until the last of them has gone.
        return Err(Refusal::Gone);
    }
    Ok(Held { pid, process, thread: held })
}

fn confirm(host: &Host, container: &Container, seen: &Process) -> Result<(), Refusal> {
    let pid = seen.id.pid;
    let changed = |what: &str| Err(Refusal::Changed(format!("process {pid} {what}")));
    let (Ok(stat), Ok(status)) = (host.stat(pid), host.status(pid)) else {
        return Err(Refusal::Gone);
    };
    if stat.start != seen.id.start {
        return changed("is another one now");
    }
    if status.nspid.get(container.depth) != seen.status.nspid.get(container.depth) {
        return changed("is in another PID namespace now");
    }
    let by_cgroup = container
        .cgroup
        .as_ref()
        .map(|own| host.memberships(pid).is_ok_and(|memberships| own.holds(&memberships)));
    // Those of the container's PID namespace; where it has none of its own, those of its cgroup.
    let inside = if container.owns_pid_ns {
        in_namespace(host, container, pid)
    } else {
        by_cgroup.unwrap_or(true)
    };
    if !inside {
        return changed("is not in the container's PID namespace or cgroup");
    }
    Ok(())
}

impl Held {
    /// Sends.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn send(&self, order: Order) -> Result<(), Refusal> {
        let signal = order.signal.number();
        match &self.thread {
            None => pidfd::send(&self.process, signal, order.value, Task::Process)?,
            Some((_, _, Some(thread))) => pidfd::send(thread, signal, order.value, Task::Thread)?,
            Some((process, tid, None)) if order.value.is_none() => {
                pidfd::send_to_thread(process.get(), *tid, signal)?;
            }
            Some(_) => return Err(Refusal::Kernel(Errno::ENOSYS)),
        }
        Ok(())
    }
}

/// Waits until all of them have ended, at most until `until`; tells for each whether it has.
///
/// # Errors
/// Those of poll(2).
pub fn wait(held: &[&Held], until: Option<Instant>) -> Result<Vec<bool>, Errno> {
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

/// Kills a whole cgroup at once by `cgroup.kill` (v2, since Linux 5.14): exact even while it forks.
/// Only for a container without a PID namespace of its own, which its cgroup alone makes: where there
/// is one, the init's KILL takes all of it, and a cgroup may hold others too. The file is opened
/// first; then one of those held must still be alive and in that cgroup, which proves whose file it
/// is. False where it cannot be done.
pub fn kill_cgroup(host: &Host, container: &Container, held: &[&Held]) -> bool {
    let Some(own) = container.cgroup.as_ref().filter(|_| !container.owns_pid_ns) else {
        return false;
    };
    let v2 = Cgroup { controllers: Vec::new(), path: own.path.clone() };
    let Some(mut file) = host.cgroup_kill_file(&v2) else { return false };
    let proven = held.iter().any(|held| {
        let inside = host.memberships(held.pid).is_ok_and(|memberships| v2.holds(&memberships));
        inside && pidfd::alive(&held.process).unwrap_or(false)
    });
    proven && file.write_all(b"1").is_ok()
}
