//! Work that may never return, done in a child process. A file system can keep a caller in a sleep that
//! no signal ends (FUSE and NFS do); a thread in it would keep the whole program from exiting, but a
//! child can be killed and left behind. Its answer comes back through a pipe.
//!
//! - [`run`] waits for the work, forwards typed messages while it runs, and ends it after a silence.
//! - [`start`] and [`IsolatedChild::finish`] do other things in between, for bytes and with a deadline.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{ForkResult, Pid, fork, pipe2};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cpu_wait::TaskDeadline;
use super::pidfd::{self, Ending, SignalScope};
use super::{fd, memory, process, shortage};

/// The descriptors that a child keeps, beside its end of the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inherit {
    /// None: not even a reader of our standard output has to wait for the child.
    Nothing,
    /// All but the standard streams, which become the null device.
    AllButStreams,
    /// All, for work that uses stdin or stdout.
    Everything,
}

/// Reason why isolated work has no result. The child has been killed, unless it hangs in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsolationError {
    /// The child could not be started.
    #[error("cannot start a child process: {}", .0.desc())]
    NotStarted(Errno),
    /// It sent nothing for too long.
    #[error("the child process does not respond")]
    TimedOut,
    /// It exited without a result, for lack of a resource, or was killed.
    #[error("the child process {0}")]
    Died(String),
    /// The work itself panicked, or made it crash: on malformed bytes, for example.
    #[error("the child process {0}")]
    Crashed(String),
    /// It sent something else than messages and a result.
    #[error("the child process sent a broken message")]
    Broken,
}

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct IsolatedChild {
    pid: Pid,
    pipe: File,
    /// Bytes received and not returned yet.
    received: Vec<u8>,
    hangs: bool,
}

/// Kinds of messages on the pipe. Each has a byte for the kind, four for the length, and its bytes.
const MESSAGE: u8 = 0;
const RESULT: u8 = 1;
const HEADER: usize = 5;
/// No message of [`run`] comes near this length.
const MAX_MESSAGE: usize = 1 << 24;
/// Time that a child gets to disappear after it was killed.
const REAP_TIMEOUT: Duration = Duration::from_millis(100);
/// Time that a child gets to exit after it has closed its pipe, which it does on its way out.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Exit status of a child that has panicked.
const PANIC_STATUS: i32 = 101;
/// Signals that the kernel sends to a process for a fault or a limit of its own.
const CRASHES: [i32; 7] = [
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGXCPU,
];

/// The child's end of the pipe, for messages of one type. All threads of the child may use it.
#[derive(Debug)]
pub struct MessageSender<M> {
    pipe: Arc<Mutex<File>>,
    message: PhantomData<fn(M)>,
}

impl<M: Serialize> MessageSender<M> {
    /// Sends a message. If that fails the parent is gone, or gets no result.
    pub fn send(&self, message: &M) {
        let bytes = serde_json::to_vec(message).unwrap_or_default();
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = send(&mut pipe, MESSAGE, &bytes);
    }
}

/// Runs `work` in a child and returns its result. The messages that it sends are passed to `on_message`
/// as they come. If nothing comes for as long as `silence`, the child is killed.
///
/// The child is a copy of this process with this thread alone, so the process should have no others:
/// `work` may then do anything, start threads included; otherwise it is restricted as in [`start`]. It is
/// killed if this thread exits.
///
/// # Errors
/// [`IsolationError`]; an error of the work itself is part of its result.
pub fn run<M: Serialize + DeserializeOwned, T: Serialize + DeserializeOwned>(
    inherit: Inherit,
    silence: Duration,
    work: impl FnOnce(MessageSender<M>) -> T,
    mut on_message: impl FnMut(M),
) -> Result<T, IsolationError> {
    let mut child = spawn(inherit, |pipe| {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        let pipe = Arc::new(Mutex::new(pipe));
        let result = work(MessageSender { pipe: Arc::clone(&pipe), message: PhantomData });
        let mut pipe = pipe.lock().unwrap_or_else(PoisonError::into_inner);
        send(&mut pipe, RESULT, &serde_json::to_vec(&result)?)
    })
    .map_err(IsolationError::NotStarted)?;
    loop {
        let (kind, bytes) = child.receive(Instant::now() + silence, MAX_MESSAGE)?;
        match kind {
            MESSAGE => on_message(parse(&bytes)?),
            _ => return parse(&bytes),
        }
    }
}

/// Starts `work` in a child that inherits no descriptors; it returns the bytes for
/// [`IsolatedChild::finish`]. The process may have other threads: `work` may allocate, and must not
/// print or wait for a thread.
///
/// # Errors
/// As pipe(2) and fork(2).
pub fn start(work: impl FnOnce() -> Vec<u8>) -> Result<IsolatedChild, Errno> {
    spawn(Inherit::Nothing, |mut pipe| send(&mut pipe, RESULT, &work()))
}

fn spawn(
    inherit: Inherit,
    work: impl FnOnce(File) -> std::io::Result<()>,
) -> Result<IsolatedChild, Errno> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).inspect_err(|errno| shortage::note(*errno))?;
    // SAFETY: the child runs only this thread's code. It allocates, which the C library keeps sound
    // across fork(2) in a program with threads, and ends by _exit(2).
    match unsafe { fork().inspect_err(|errno| shortage::note(*errno))? } {
        ForkResult::Parent { child } => {
            let pipe = reader.into();
            Ok(IsolatedChild { pid: child, pipe, received: Vec::new(), hangs: false })
        }
        ForkResult::Child => {
            memory::set_status(memory::CHILD_STATUS);
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                drop(reader);
                let pipe = match inherit {
                    Inherit::Nothing => keep_only(writer)?,
                    Inherit::AllButStreams => {
                        detach_stdio()?;
                        writer.into()
                    }
                    Inherit::Everything => writer.into(),
                };
                work(pipe)
            }));
            let status = match done {
                Ok(Ok(())) => 0,
                Ok(Err(_)) => 1,
                Err(_) => PANIC_STATUS,
            };
            // SAFETY: ends the child without running the exit handlers of the parent.
            unsafe { libc::_exit(status) }
        }
    }
}

/// Puts the null device in the places of 0 to 2, so that no file that is opened later gets their numbers; or an
/// empty file in memory, where the null device is missing.
fn detach_stdio() -> std::io::Result<()> {
    // SAFETY: the child owns its table of descriptors.
    unsafe {
        let mut null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if null < 0 {
            null = libc::memfd_create(c"null".as_ptr(), libc::MFD_CLOEXEC);
        }
        for standard in 0..3 {
            Errno::result(libc::dup2(null, standard))?;
        }
    }
    Ok(())
}

/// Closes every descriptor but this one, which becomes number 3.
fn keep_only(pipe: OwnedFd) -> std::io::Result<File> {
    detach_stdio()?;
    // SAFETY: the child owns its table of descriptors; nothing in it is used again but 3.
    unsafe {
        let kept = Errno::result(libc::dup2(pipe.as_raw_fd(), 3))?;
        std::mem::forget(pipe);
        if libc::syscall(libc::SYS_close_range, 4u32, u32::MAX, 0u32) != 0 {
            // Before Linux 5.9.
            for other in 4..libc::sysconf(libc::_SC_OPEN_MAX).clamp(4, 1 << 16) {
                libc::close(other as libc::c_int);
            }
        }
        Ok(File::from_raw_fd(kept))
    }
}

fn send(pipe: &mut File, kind: u8, bytes: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| Errno::EMSGSIZE)?;
    let mut message = Vec::with_capacity(HEADER + bytes.len());
    message.push(kind);
    message.extend(length.to_le_bytes());
    message.extend(bytes);
    pipe.write_all(&message)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, IsolationError> {
    serde_json::from_slice(bytes).map_err(|_| IsolationError::Broken)
}

impl IsolatedChild {
    /// Returns the bytes of the work; none if it has not finished by `deadline`, sent more than `limit`
    /// bytes, or died. The deadline is extended by the time that the child waits for a CPU. The child is still
    /// there then: drop it after other work, in which it exits.
    pub fn finish(&mut self, deadline: Instant, limit: usize) -> Option<Vec<u8>> {
        let received = self.receive(deadline, limit);
        // (It could not be set up, or lacked a resource. A crash was caused by the bytes that it read.)
        if matches!(received, Err(IsolationError::Died(_))) {
            shortage::note(Errno::EIO);
        }
        received.ok().map(|(_, bytes)| bytes)
    }

    /// Receives the next message.
    fn receive(
        &mut self,
        deadline: Instant,
        limit: usize,
    ) -> Result<(u8, Vec<u8>), IsolationError> {
        let mut part = vec![0; 1 << 16];
        let mut deadline = TaskDeadline::new(deadline, self.pid.as_raw());
        loop {
            if let Some(message) = self.next_message(limit)? {
                return Ok(message);
            }
            let mut fds = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
            match fd::poll(&mut fds, Some(deadline.remaining())) {
                Ok(0) if !deadline.is_over() => continue,
                Ok(0) => {
                    self.hangs = true;
                    return Err(IsolationError::TimedOut);
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(IsolationError::Died(errno.desc().to_owned())),
            }
            if !fds[0].any().unwrap_or(false) {
                continue;
            }
            match self.pipe.read(&mut part) {
                Ok(0) => return Err(self.ending()),
                Ok(count) => self.received.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(IsolationError::Broken),
            }
        }
    }

    fn next_message(&mut self, limit: usize) -> Result<Option<(u8, Vec<u8>)>, IsolationError> {
        let [kind, a, b, c, d, ..] = self.received[..] else { return Ok(None) };
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > limit {
            return Err(IsolationError::Broken);
        }
        if self.received.len() < HEADER + length {
            return Ok(None);
        }
        let rest = self.received.split_off(HEADER + length);
        let mut message = std::mem::replace(&mut self.received, rest);
        message.drain(..HEADER);
        Ok(Some((kind, message)))
    }

    /// Reaps the child, which has closed its end of the pipe, and returns how it ended.
    fn ending(&mut self) -> IsolationError {
        use IsolationError::{Crashed, Died};
        match self.reap(EXIT_TIMEOUT) {
            Some(Ending::Status(memory::CHILD_STATUS)) => Died("ran out of memory".to_owned()),
            Some(Ending::Status(PANIC_STATUS)) => Crashed("panicked".to_owned()),
            Some(Ending::Status(status)) => Died(format!("exited with status {status}")),
            Some(Ending::Signal(signal, _)) if CRASHES.contains(&signal.number()) => {
                Crashed(format!("was killed by {signal}"))
            }
            Some(Ending::Signal(signal, _)) => Died(format!("was killed by {signal}")),
            None => Died("closed its pipe".to_owned()),
        }
    }

    /// Waits until the child exits, not past the deadline; a moment where it has no pidfd (before Linux 5.3).
    fn wait_for_exit(&self, deadline: Instant) {
        match pidfd::open(self.pid.as_raw(), SignalScope::Process) {
            Ok(pidfd) => {
                let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
                let remaining = deadline.saturating_duration_since(Instant::now());
                let _ = fd::poll(&mut fds, Some(remaining));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }

    fn reap(&mut self, timeout: Duration) -> Option<Ending> {
        let deadline = Instant::now() + timeout;
        loop {
            match process::wait(self.pid.as_raw(), libc::WNOHANG) {
                Ok(None) if Instant::now() < deadline => {
                    self.wait_for_exit(deadline);
                }
                Ok(None) => return None,
                reaped => {
                    self.pid = Pid::from_raw(0);
                    return reaped.ok().flatten().and_then(Ending::from_wait_status);
                }
            }
        }
    }
}

impl Drop for IsolatedChild {
    fn drop(&mut self) {
        // Our own child, not reaped: its PID cannot be another process's.
        if self.pid.as_raw() > 0 {
            let _ = kill(self.pid, Signal::SIGKILL);
            // (One that hangs in the kernel is left: init reaps it after our exit.)
            self.reap(if self.hangs { Duration::ZERO } else { REAP_TIMEOUT });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn bytes_of_any_length_come_back() {
        let many = vec![7; 300_000];
        assert_eq!(start(|| many.clone()).unwrap().finish(soon(), 1 << 20), Some(many.clone()));
        assert_eq!(start(Vec::new).unwrap().finish(soon(), 0), Some(Vec::new()));
        assert_eq!(start(|| many).unwrap().finish(soon(), 1000), None);
    }

    #[test]
    fn a_child_that_hangs_is_killed_at_the_deadline() {
        let mut child = start(|| {
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        })
        .unwrap();
        let pid = child.pid;
        let deadline = Instant::now() + Duration::from_millis(50);
        assert_eq!(child.finish(deadline, 10), None);
        drop(child);
        // Killed, and reaped now or by this.
        let status = process::wait(pid.as_raw(), 0).ok().flatten();
        assert!(!matches!(status.and_then(Ending::from_wait_status), Some(Ending::Status(_))));
    }

    #[test]
    fn a_child_has_no_descriptors_of_ours() {
        let _held = File::open("/proc/self/stat").unwrap();
        let count = || {
            let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
            vec![u8::try_from(open).unwrap_or(0)]
        };
        // 0 to 2, the pipe, and the directory while it is listed.
        assert_eq!(start(count).unwrap().finish(soon(), 10), Some(vec![5]));
    }

    #[test]
    fn messages_come_in_order_and_before_the_result() {
        let mut seen = Vec::new();
        let work = |sender: MessageSender<u32>| {
            (0..1000).for_each(|n| sender.send(&n));
            Err::<(), _>("no space".to_owned())
        };
        let result = run(Inherit::AllButStreams, Duration::from_secs(20), work, |n| seen.push(n));
        assert_eq!(result, Ok(Err("no space".to_owned())));
        assert_eq!(seen, (0..1000).collect::<Vec<u32>>());
    }

    #[test]
    fn silence_ends_the_work_and_messages_prolong_it() {
        let silence = Duration::from_millis(300);
        let work = |sender: MessageSender<u32>| {
            for n in 0..4 {
                std::thread::sleep(Duration::from_millis(150));
                sender.send(&n);
            }
            std::thread::sleep(Duration::from_secs(60));
        };
        let mut count = 0;
        let result = run(Inherit::AllButStreams, silence, work, |_| count += 1);
        assert_eq!((result, count), (Err(IsolationError::TimedOut), 4));
    }

    #[test]
    fn a_child_that_dies_says_how() {
        let work = |_: MessageSender<u32>| {
            let _ = kill(Pid::this(), Signal::SIGKILL);
            1
        };
        let result = run(Inherit::AllButStreams, Duration::from_secs(20), work, |_| {});
        let died = IsolationError::Died("was killed by KILL".to_owned());
        assert_eq!(result, Err(died));
        let work = |_: MessageSender<u32>| -> u32 { panic!("a panic of a test") };
        let result = run(Inherit::AllButStreams, Duration::from_secs(20), work, |_| {});
        assert_eq!(result, Err(IsolationError::Crashed("panicked".to_owned())));
    }
}
