//! A pseudoterminal with a user: it types, reads the output, resizes.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::harness::PATIENCE;

/// A terminal, and the command that runs on it in a session of its own.
pub struct Terminal {
    master: File,
    pub child: Child,
    /// The terminal's device number, as `stat` prints it in a container and on the host.
    pub device: u64,
    output: String,
}

impl Terminal {
    /// Runs a command on a new terminal of 24 rows and 80 columns.
    pub fn start(argv: &[&str]) -> Result<Self, Failed> {
        let error = |error: &dyn std::fmt::Display| Failed::from(error.to_string());
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).map_err(|e| error(&e))?;
        let device = nix::sys::stat::fstat(&pair.slave).map_err(|e| error(&e))?.st_rdev;
        let stream = || pair.slave.try_clone().map(Stdio::from);
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).args(argv).env("TERM", "vt100").env("PS1", "out> ");
        command.stdin(stream().map_err(|e| error(&e))?);
        command.stdout(stream().map_err(|e| error(&e))?);
        command.stderr(stream().map_err(|e| error(&e))?);
        let child = command.spawn().map_err(|e| error(&e))?;
        Ok(Self { master: OwnedFd::into(pair.master), child, device, output: String::new() })
    }

    /// Types a text.
    pub fn type_in(&mut self, text: &str) -> Result<(), Failed> {
        Ok(self.master.write_all(text.as_bytes())?)
    }

    /// Reads until a text has come; returns all output since the last call.
    pub fn wait_for(&mut self, needle: &str) -> Result<String, Failed> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(start) = self.output.find(needle) {
                let after = self.output.split_off(start + needle.len());
                return Ok(std::mem::replace(&mut self.output, after));
            }
            if Instant::now() > until || !self.read(Duration::from_millis(200)) {
                return Err(format!("no `{needle}` in {:?}", self.output).into());
            }
        }
    }

    /// Reads the output so far; false at its end.
    fn read(&mut self, wait: Duration) -> bool {
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, timeout).unwrap_or(0) == 0 {
            return true;
        }
        let mut chunk = [0; 4096];
        match self.master.read(&mut chunk) {
            Ok(count) if count > 0 => {
                self.output.push_str(&String::from_utf8_lossy(&chunk[..count]));
                true
            }
            _ => false,
        }
    }

    /// Changes its size.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size =
            rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let _ = rustix::termios::tcsetwinsize(&self.master, size);
    }

    /// Whether lines are edited and echoed, as a shell sets it.
    pub fn is_sane(&self) -> bool {
        tcgetattr(&self.master).is_ok_and(|settings| {
            settings.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO)
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
