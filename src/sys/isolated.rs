//! Work that may never come back, done in a process of its own. A file system can keep whoever asks
//! it in a sleep that no signal ends (FUSE and NFS do), and a thread in it would keep the whole
//! program from exiting: a child can be left behind.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pipe};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A child at work.
#[derive(Debug)]
pub struct IsolatedChild {
    child: Pid,
    pipe: File,
}

/// Starts `work` in a child that has none of our descriptors but its end of a pipe, and ends when it
/// has written there what `work` gives. It may allocate, and must not print or wait for a thread.
///
/// # Errors
/// Those of pipe(2) and fork(2).
pub fn start(work: impl FnOnce() -> Vec<u8>) -> Result<IsolatedChild, Errno> {
    let (reader, writer) = pipe()?;
    // SAFETY: the child runs only this thread's code. It allocates, which the C library keeps sound
    // across fork(2) in a program with threads, and leaves by _exit(2).
    match unsafe { fork()? } {
        ForkResult::Parent { child } => Ok(IsolatedChild { child, pipe: reader.into() }),
        ForkResult::Child => {
            let sent = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut out = keep_only(writer);
                out.write_all(&work())
            }));
            // SAFETY: ends the child without running what is registered for the parent's exit.
            unsafe { libc::_exit(i32::from(!matches!(sent, Ok(Ok(()))))) }
        }
    }
}

/// Closes every descriptor but this one, which becomes number 3: a reader of our standard output
/// must not wait for the child too.
fn keep_only(pipe: OwnedFd) -> File {
    // SAFETY: the child owns its table of descriptors; nothing in it is used again but 3. The null
    // device in the places of 0 to 2 keeps what is opened later from landing there.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        for standard in 0..3 {
            libc::dup2(null, standard);
        }
        let kept = libc::dup2(pipe.as_raw_fd(), 3);
        std::mem::forget(pipe);
        if libc::syscall(libc::SYS_close_range, 4u32, u32::MAX, 0u32) != 0 {
            // Before Linux 5.9.
            for other in 4..libc::sysconf(libc::_SC_OPEN_MAX).clamp(4, 1 << 16) {
                libc::close(other as libc::c_int);
            }
        }
        std::os::fd::FromRawFd::from_raw_fd(kept)
    }
}

impl IsolatedChild {
    /// What the child wrote, at most `limit` bytes; none when it has not finished by `until`, and
    /// then it is killed and left to itself.
    pub fn finish(mut self, until: Instant, limit: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut part = vec![0; 1 << 16];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO || bytes.len() > limit {
                return None;
            }
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            match poll(&mut [PollFd::new(&self.pipe, PollFlags::IN)], Some(&timeout)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(_) => return None,
            }
            match self.pipe.read(&mut part) {
                Ok(0) => {
                    // The end of the pipe is the child's: this does not wait.
                    let ended = waitpid(self.child, None);
                    self.child = Pid::from_raw(0);
                    let well = matches!(ended, Ok(nix::sys::wait::WaitStatus::Exited(_, 0)));
                    return well.then_some(bytes);
                }
                Ok(read) => bytes.extend_from_slice(&part[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }
}

impl Drop for IsolatedChild {
    fn drop(&mut self) {
        // Our own child, not waited for: its number cannot be anybody else's.
        if self.child.as_raw() > 0 {
            let _ = kill(self.child, Signal::SIGKILL);
            let _ = waitpid(self.child, Some(nix::sys::wait::WaitPidFlag::WNOHANG));
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
    fn what_the_child_gives_arrives() {
        let many = vec![7; 300_000];
        assert_eq!(start(|| many.clone()).unwrap().finish(soon(), 1 << 20), Some(many.clone()));
        assert_eq!(start(Vec::new).unwrap().finish(soon(), 0), Some(Vec::new()));
        assert_eq!(start(|| many).unwrap().finish(soon(), 1000), None);
    }

    #[test]
    fn one_that_does_not_come_back_is_left() {
        let child = start(|| {
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        let until = Instant::now() + Duration::from_millis(50);
        assert_eq!(child.unwrap().finish(until, 10), None);
    }

    #[test]
    fn it_has_none_of_our_descriptors() {
        let _held = File::open("/proc/self/stat").unwrap();
        let count = || {
            let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
            vec![u8::try_from(open).unwrap_or(0)]
        };
        // 0 to 2, the pipe, and the directory while it is listed.
        assert_eq!(start(count).unwrap().finish(soon(), 10), Some(vec![5]));
    }
}
