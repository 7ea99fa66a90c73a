//! Terminal ioctls that nix lacks, ioctl_tty(2): the window size, the controlling terminal, and the
//! other end of a pseudoterminal. Modes (raw or not) are nix's and set by the callers.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::pty::posix_openpt;

/// Returns a terminal's rows and columns.
///
/// # Errors
/// ENOTTY for anything but a terminal.
pub fn size(terminal: impl AsFd) -> Result<(u16, u16), Errno> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes one winsize, which lives until the call returns.
    let done =
        unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ as _, &raw mut size) };
    Errno::result(done).map(|_| (size.ws_row, size.ws_col))
}

/// Sets a terminal's rows and columns; its foreground process group gets SIGWINCH if they change.
///
/// # Errors
/// ENOTTY for anything but a terminal.
pub fn set_size(terminal: impl AsFd, (rows, columns): (u16, u16)) -> Result<(), Errno> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel reads one winsize, which lives until the call returns.
    let done = unsafe {
        libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ as _, &raw const size)
    };
    Errno::result(done).map(drop)
}

/// Makes a terminal the controlling one of this session, which must not have one yet.
///
/// # Errors
/// EPERM when this process does not lead its session, or the terminal controls another one.
pub fn set_controlling(terminal: impl AsFd) -> Result<(), Errno> {
    // SAFETY: the argument is a number; 0 does not take the terminal from another session.
    let done = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY as _, 0) };
    Errno::result(done).map(drop)
}

/// Opens a pseudoterminal of the host: the master, and the end for the command.
///
/// # Errors
/// ENOENT where there is no `/dev/ptmx`, ENOSPC when there are too many.
pub fn open_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    let peer = unlock_and_open_peer(&master)?;
    Ok((master.into(), peer))
}

/// Unlocks a pseudoterminal and opens its other end, whatever `/dev/pts` is mounted here
/// (`TIOCGPTPEER`, since Linux 4.13).
///
/// # Errors
/// ENOTTY for anything but a master, and on older kernels.
pub fn unlock_and_open_peer(master: impl AsFd) -> Result<OwnedFd, Errno> {
    let master = master.as_fd().as_raw_fd();
    let unlocked: libc::c_int = 0;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the first call reads one int, which lives until it returns; the second takes flags, and
    // a result that is not negative is a fresh descriptor.
    unsafe {
        Errno::result(libc::ioctl(master, libc::TIOCSPTLCK as _, &raw const unlocked))?;
        let peer = Errno::result(libc::ioctl(master, libc::TIOCGPTPEER as _, flags))?;
        Ok(OwnedFd::from_raw_fd(peer))
    }
}
