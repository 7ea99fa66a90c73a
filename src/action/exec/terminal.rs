//! cinspect's own terminal while the command has one: in raw mode, and restored afterwards even if
//! cinspect is killed. The command never gets it: input passes through cinspect (CVE-2016-2568 and
//! similar attacks by TIOCSTI).

use std::fs::File;
use std::io::{Read, Write, stdin};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2};

use crate::sys::process;
use crate::sys::terminal;

/// Rows and columns of the terminal on stdin; `None` if stdin is not a terminal.
pub fn terminal_size() -> Option<(u16, u16)> {
    terminal::size(stdin()).ok()
}

/// cinspect's terminal in raw mode; restored when dropped.
pub struct RawMode {
    terminal: OwnedFd,
    saved: Termios,
    /// A byte written here before it is closed tells the guardian that the terminal is restored.
    guard: Option<File>,
    guardian: i32,
}

impl RawMode {
    /// Sets the terminal on stdin to raw mode, and starts a child that restores it if cinspect is
    /// killed. Only while cinspect has no threads.
    ///
    /// # Errors
    /// When stdin is not a terminal, or fork(2) fails.
    pub fn new() -> std::io::Result<Self> {
        let terminal = stdin().as_fd().try_clone_to_owned()?;
        let saved = tcgetattr(&terminal)?;
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        let guardian = match process::fork()? {
            Some(child) => child,
            None => guard_terminal(&terminal, &saved, reader),
        };
        drop(reader);
        let raw = Self { terminal, saved, guard: Some(writer.into()), guardian };
        raw.set()?;
        Ok(raw)
    }

    /// Sets raw mode (again, after a suspend).
    ///
    /// # Errors
    /// See tcsetattr(3).
    pub fn set(&self) -> std::io::Result<()> {
        let mut raw = self.saved.clone();
        cfmakeraw(&mut raw);
        // Not TCSAFLUSH: keys that were typed already are kept.
        Ok(tcsetattr(&self.terminal, SetArg::TCSADRAIN, &raw)?)
    }

    /// Restores the saved mode.
    pub fn restore(&self) {
        let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.saved);
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        self.restore();
        if let Some(mut guard) = self.guard.take() {
            let _ = guard.write_all(b"w");
        }
        let _ = waitpid(Pid::from_raw(self.guardian), None);
    }
}

/// The guardian process. It has only the terminal and the pipe open, and ignores every signal but KILL
/// and STOP.
fn guard_terminal(terminal: &OwnedFd, saved: &Termios, pipe: OwnedFd) -> ! {
    process::ignore_signals();
    let mut pipe = File::from(pipe);
    process::close_all_but(&[terminal.as_raw_fd(), pipe.as_raw_fd()]);
    let is_restored = pipe.read(&mut [0]).is_ok_and(|count| count == 1);
    if !is_restored {
        // With SIGTTOU ignored this works from the background too.
        let _ = tcsetattr(terminal, SetArg::TCSANOW, saved);
    }
    process::exit_now(0)
}
