//! Our own terminal while a command inside has one: raw, and as it was again afterwards, whatever
//! becomes of us. It is never handed over: what is typed goes through us (CVE-2016-2568 and its kin).

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::unistd::pipe;
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr};

use crate::sys::process;

/// Our terminal in raw mode.
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
    /// A byte before it is closed means that all is well.
    guard: Option<File>,
    guardian: i32,
}

impl RawMode {
    /// Makes it raw, and has a child keep watch that does nothing else: should we be killed, it puts
    /// the terminal back. Only while we have no threads.
    ///
    /// # Errors
    /// When it is no terminal, or cannot be set.
    pub fn new(terminal: BorrowedFd<'_>) -> std::io::Result<Self> {
        let terminal = terminal.try_clone_to_owned()?;
        let before = tcgetattr(&terminal)?;
        let (reader, writer) = pipe()?;
        let guardian = match process::fork()? {
            Some(child) => child,
            None => watch(&terminal, &before, reader),
        };
        drop(reader);
        let raw = Self { terminal, before, guard: Some(writer.into()), guardian };
        raw.again()?;
        Ok(raw)
    }

    /// Makes it raw once more, after a pause.
    ///
    /// # Errors
    /// Those of tcsetattr(3).
    pub fn again(&self) -> std::io::Result<()> {
        let mut raw = self.before.clone();
        raw.make_raw();
        // What has been typed already is not to be lost.
        Ok(tcsetattr(&self.terminal, OptionalActions::Drain, &raw)?)
    }

    /// As it was.
    pub fn restore(&self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        self.restore();
        if let Some(mut guard) = self.guard.take() {
            let _ = std::io::Write::write_all(&mut guard, b"w");
        }
        let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(self.guardian), None);
    }
}

/// The guardian. It has the terminal and its end of the pipe, and hears no signal but KILL.
fn watch(terminal: &OwnedFd, before: &Termios, pipe: OwnedFd) -> ! {
    use std::os::fd::AsRawFd;
    process::ignore_signals();
    let mut pipe = File::from(pipe);
    process::close_all_but(&[terminal.as_raw_fd(), pipe.as_raw_fd()]);
    let well = pipe.read(&mut [0]).is_ok_and(|read| read == 1);
    if !well {
        // (With TTOU ignored also from the background.)
        let _ = tcsetattr(terminal, OptionalActions::Now, before);
    }
    process::exit_now(0)
}

/// Rows and columns.
pub fn size(terminal: impl AsFd) -> Option<(u16, u16)> {
    tcgetwinsize(terminal).ok().map(|size| (size.ws_row, size.ws_col))
}

/// Sets them.
pub fn set_size(terminal: impl AsFd, (rows, columns): (u16, u16)) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let _ = rustix::termios::tcsetwinsize(terminal, size);
}

/// A terminal of the host's: our end, and the command's.
///
/// # Errors
/// When there is no `/dev/ptmx`.
pub fn of_the_host() -> std::io::Result<(OwnedFd, OwnedFd)> {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    Ok((master, slave))
}
