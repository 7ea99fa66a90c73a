//! The process that copies. A file system of a container may block a caller for ever (FUSE, NFS), in a
//! sleep that no signal ends: a child can be abandoned, a thread cannot.
//!
//! `sys::isolated` is not used: it closes every descriptor and returns one answer at the end. A copy
//! needs the roots and often stdin or stdout, and reports while it runs.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, pipe};

use super::event::{CopyEvent, CopyProgress, EventSender};
use crate::error::{Error, ExitStatus, os_error};
use crate::sys::fd::poll;
use crate::sys::process::{exit_now, fork};

/// The longest time without an event.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The time that a killed child gets to exit before it is abandoned.
const EXIT_TIMEOUT: Duration = Duration::from_millis(100);

/// Runs `work` in a child process, forwarding its events; returns its outcome. The child keeps stdin
/// and stdout only with `uses_stdio`: if it hangs, the reader of our output must not wait for it.
///
/// # Errors
/// That of `work`; or the child was killed, or did not report for 15 s.
pub fn run(
    uses_stdio: bool,
    work: impl FnOnce(&Arc<EventSender>) -> Result<(), Error>,
    on_event: &mut dyn FnMut(CopyEvent),
) -> Result<CopyProgress, Error> {
    let cannot_start = |errno: Errno| failed("cannot start the copy", os_error(errno));
    let (reader, writer) = pipe().map_err(cannot_start)?;
    let Some(child) = fork().map_err(cannot_start)? else {
        drop(reader);
        if !uses_stdio {
            detach_stdio();
        }
        run_child(writer, work)
    };
    let child = Child(Pid::from_raw(child));
    drop(writer);
    receive(&child, reader.into(), on_event)
}

fn receive(
    child: &Child,
    pipe: File,
    on_event: &mut dyn FnMut(CopyEvent),
) -> Result<CopyProgress, Error> {
    let mut lines = BufReader::new(pipe);
    let mut last = Instant::now();
    let mut line = String::new();
    loop {
        if lines.buffer().is_empty() && !is_readable(lines.get_ref()) {
            if last.elapsed() > TIMEOUT {
                let cause = format!("a file system did not respond for {} s", TIMEOUT.as_secs());
                return Err(failed("copy aborted", cause).hint(
                    "files that were copied so far are complete; a FUSE or network mount may hang",
                ));
            }
            continue;
        }
        last = Instant::now();
        line.clear();
        if lines.read_line(&mut line).map_err(|error| failed("cannot copy", os_error(error)))? == 0
        {
            return Err(failed("copy aborted", child.wait()));
        }
        match serde_json::from_str(&line) {
            Ok(CopyEvent::Finished(outcome)) => return outcome,
            Ok(event) => on_event(event),
            Err(error) => return Err(failed("cannot copy", format!("internal error: {error}"))),
        }
    }
}

fn failed(message: &str, cause: String) -> Error {
    Error::new(ExitStatus::Failed, message).cause(cause)
}

fn is_readable(pipe: &File) -> bool {
    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, Some(Duration::from_millis(500))).is_ok_and(|count| count > 0)
}

/// The child, killed when this is dropped.
struct Child(Pid);

impl Child {
    /// Waits, and says how it ended.
    fn wait(&self) -> String {
        match waitpid(self.0, None) {
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("its process was killed by {signal}"),
            Ok(WaitStatus::Exited(_, status)) => format!("its process exited {status}"),
            Ok(status) => format!("{status:?}"),
            Err(errno) => os_error(errno),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        const STEP: Duration = Duration::from_millis(2);
        let _ = kill(self.0, Signal::SIGKILL);
        // A child that hangs in the kernel is abandoned.
        let deadline = Instant::now() + EXIT_TIMEOUT;
        while waitpid(self.0, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive)
            && Instant::now() < deadline
        {
            std::thread::sleep(STEP);
        }
    }
}

fn detach_stdio() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = dup2_stdin(&null);
        let _ = dup2_stdout(&null);
        let _ = dup2_stderr(&null);
    }
}

fn run_child(pipe: OwnedFd, work: impl FnOnce(&Arc<EventSender>) -> Result<(), Error>) -> ! {
    let _ = set_pdeathsig(Signal::SIGKILL);
    let events = Arc::new(EventSender::new(pipe));
    let outcome = work(&events);
    events.finish(outcome);
    exit_now(0)
}
