//! The standard streams of a command, as streams that wait. Opens nothing.

use std::io::{self, StderrLock, StdoutLock, Write};
use std::os::fd::AsFd;

use nix::poll::PollFlags;

use super::fd;

/// A standard stream, locked. Another program that has it open may have made it non-blocking, as ssh(1) and
/// Node.js do; a write that would block then waits, as it does otherwise.
pub struct StandardStream<S>(S);

/// Locks standard output.
pub fn stdout() -> StandardStream<StdoutLock<'static>> {
    StandardStream(io::stdout().lock())
}

/// Locks standard error.
pub fn stderr() -> StandardStream<StderrLock<'static>> {
    StandardStream(io::stderr().lock())
}

impl<S: Write + AsFd> Write for StandardStream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        fd::when_ready(&mut self.0, PollFlags::POLLOUT, |stream| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        fd::when_ready(&mut self.0, PollFlags::POLLOUT, Write::flush)
    }
}
