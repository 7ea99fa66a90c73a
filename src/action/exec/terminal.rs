//! cinspect's own terminal while the command has one: in raw mode, and restored afterwards even if
//! cinspect is killed. The command never gets it: input passes through cinspect (CVE-2016-2568 and
//! similar attacks by TIOCSTI).

use std::io::stdin;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::sys::guardian::Guardian;
use crate::sys::terminal;

/// Returns the rows and columns of the terminal on stdin; `None` if stdin is not a terminal.
pub fn terminal_size() -> Option<(u16, u16)> {
    terminal::size(stdin()).ok()
}

/// cinspect's terminal in raw mode; restored when dropped.
pub struct RawMode {
    terminal: OwnedFd,
    saved: Termios,
    _guardian: Guardian,
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
        let guardian = Guardian::start(&[terminal.as_raw_fd()], || {
            // With SIGTTOU ignored this works from the background too.
            let _ = tcsetattr(&terminal, SetArg::TCSANOW, &saved);
        })?;
        let raw = Self { terminal, saved, _guardian: guardian };
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
    }
}
