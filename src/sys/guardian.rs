//! A child process that undoes something if we are killed before we can undo it ourselves.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2};

use super::process::{close_all_but, exit_now, fork_among_threads, ignore_signals};

/// A guardian; dropping it ends it without the undoing.
#[derive(Debug)]
pub struct Guardian {
    /// A byte written here before it is closed means that there is nothing to undo any more.
    pipe: Option<File>,
    pid: i32,
}

impl Guardian {
    /// Starts one. It has only these descriptors open, and ignores every signal but KILL and STOP. `undo`
    /// may make system calls and nothing else: other threads may hold a lock of the allocator.
    ///
    /// # Errors
    /// As pipe(2) and fork(2).
    pub fn start(fds: &[RawFd], undo: impl FnOnce()) -> Result<Self, Errno> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        let mut keep: Vec<RawFd> = fds.iter().copied().chain([reader.as_raw_fd()]).collect();
        match fork_among_threads()? {
            Some(pid) => Ok(Self { pipe: Some(writer.into()), pid }),
            None => guard(&mut keep, reader, undo),
        }
    }
}

/// Runs the guardian process.
fn guard(keep: &mut [RawFd], pipe: OwnedFd, undo: impl FnOnce()) -> ! {
    ignore_signals();
    close_all_but(keep);
    let is_undone = File::from(pipe).read(&mut [0]).is_ok_and(|count| count == 1);
    if !is_undone {
        undo();
    }
    exit_now(0)
}

impl Drop for Guardian {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            let _ = pipe.write_all(b"w");
        }
        let _ = waitpid(Pid::from_raw(self.pid), None);
    }
}
