//! Copies files in, out and across. All of it happens in a child: a file system of the container may
//! keep whoever asks it waiting for ever, and a child can be left behind.

mod copy_data;
mod error;
pub mod job;
mod list_dir;
pub mod rootfs;
mod tar;
mod walk;
mod workers;
mod write;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, pipe};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::sys::process;
pub use error::CopyError;
pub use list_dir::names_inside;
pub use walk::{CopyEvent, CopyOptions};

/// How long nothing may be heard of the child.
const SILENCE: Duration = Duration::from_secs(15);
/// How often it says how far it is.
const BEAT: Duration = Duration::from_millis(100);

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopySummary {
    /// Files, links and folders.
    pub files: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// How many there will be, where that is known.
    pub total: Option<u64>,
}

#[derive(Serialize, Deserialize)]
enum WorkerLine {
    Beat(CopySummary),
    Warning(String),
    Failed(CopyError),
    Done(CopySummary),
}

/// What is heard of a copy.
pub enum CopyMessage {
    /// How far it is.
    Beat(CopySummary),
    /// What is to be said.
    Warning(String),
}

/// Work in a child: it tells what it does, and gives an error at most. It has our stdin and stdout only
/// where it needs these streams: should it hang, whoever reads what we say must not wait for it.
///
/// # Errors
/// Of the work; or that it did not answer any more.
pub fn apart(
    streams: bool,
    work: impl FnOnce(&mut dyn FnMut(CopyEvent)) -> Result<(), CopyError>,
    hear: &mut dyn FnMut(CopyMessage),
) -> Result<CopySummary, CopyError> {
    let here = |why: &dyn ToString| CopyError::new(b"", why.to_string());
    let (reader, writer) = pipe().map_err(|errno| here(&errno))?;
    let child = match process::fork().map_err(|errno| here(&errno))? {
        Some(child) => Child(child),
        None => {
            drop(reader);
            if !streams {
                forget_streams();
            }
            be_child(writer, work)
        }
    };
    drop(writer);
    let mut lines = BufReader::new(std::fs::File::from(reader));
    let mut last = Instant::now();
    loop {
        // (What is buffered already is not waited for.)
        if lines.buffer().is_empty() && !ready(lines.get_ref(), Duration::from_millis(500)) {
            if last.elapsed() > SILENCE {
                return Err(here(&"a file system does not answer").hint(
                    "what was written so far is whole; mounts of FUSE and of the network in the \
                     container are served by somebody",
                ));
            }
            continue;
        }
        last = Instant::now();
        let mut line = String::new();
        if lines.read_line(&mut line).map_err(|error| here(&error))? == 0 {
            return Err(here(&child.died()));
        }
        match serde_json::from_str(&line) {
            Ok(WorkerLine::Beat(done)) => hear(CopyMessage::Beat(done)),
            Ok(WorkerLine::Warning(text)) => hear(CopyMessage::Warning(text)),
            Ok(WorkerLine::Failed(failed)) => return Err(failed),
            Ok(WorkerLine::Done(done)) => return Ok(done),
            Err(error) => return Err(here(&error)),
        }
    }
}

fn ready(fd: &std::fs::File, wait: Duration) -> bool {
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)).is_ok_and(|many| many > 0)
}

struct Child(i32);

impl Child {
    fn died(&self) -> String {
        match waitpid(Pid::from_raw(self.0), None) {
            Ok(status) => format!("the copying process has ended: {status:?}"),
            Err(errno) => errno.to_string(),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.0);
        let _ = kill(pid, Signal::SIGKILL);
        // One that hangs for ever is left.
        for _ in 0..50 {
            match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(nix::sys::wait::WaitStatus::StillAlive) => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                _ => return,
            }
        }
    }
}

fn forget_streams() {
    if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
    }
}

fn be_child(
    writer: OwnedFd,
    work: impl FnOnce(&mut dyn FnMut(CopyEvent)) -> Result<(), CopyError>,
) -> ! {
    let death = Some(rustix::process::Signal::KILL);
    let _ = rustix::process::set_parent_process_death_signal(death);
    let mut out = std::fs::File::from(writer);
    let mut say = |line: &WorkerLine| {
        let mut text = serde_json::to_vec(line).unwrap_or_default();
        text.push(b'\n');
        let _ = out.write_all(&text);
    };
    let (mut done, mut last) = (CopySummary::default(), Instant::now());
    let outcome = work(&mut |news| {
        match news {
            CopyEvent::Bytes(bytes) => done.bytes += bytes,
            CopyEvent::One => done.files += 1,
            CopyEvent::Total(bytes) => done.total = Some(bytes),
            CopyEvent::Warning(text) => say(&WorkerLine::Warning(text)),
        }
        if last.elapsed() > BEAT {
            last = Instant::now();
            say(&WorkerLine::Beat(done));
        }
    });
    say(&match outcome {
        Ok(()) => WorkerLine::Done(done),
        Err(failed) => WorkerLine::Failed(failed),
    });
    process::exit_now(0)
}
