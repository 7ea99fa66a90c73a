//! Standard output of a command, as a stream that waits. Opens nothing.

use std::io::{self, StdoutLock, Write};

use nix::poll::PollFlags;

use super::fd;

/// Standard output, locked. Another program that has it open may have made it non-blocking, as ssh(1) and
/// Node.js do; a write that would block then waits, as it does otherwise.
pub struct Stdout(StdoutLock<'static>);

impl Stdout {
    /// Locks it.
    pub fn lock() -> Self {
        Self(io::stdout().lock())
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        fd::when_ready(&mut self.0, PollFlags::POLLOUT, |stdout| stdout.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        fd::when_ready(&mut self.0, PollFlags::POLLOUT, Write::flush)
    }
}
