//! The command's streams: the descriptors it gets, and the pumps that copy between those and cinspect's
//! own. The command gets none of cinspect's own descriptors but a pipe on stdin or the null device.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat, makedev};
use nix::unistd::{Whence, isatty, lseek, pipe2, read, write};

use crate::analysis::exec_plan::ExecPlan;
use crate::sys::fd::file_type;
use crate::sys::process::readable_bytes;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;
/// Bytes that are written at once: PIPE_BUF, which a pipe that is ready takes without blocking.
const WRITE_CHUNK: usize = 4096;
/// End of file at a terminal in line mode.
const EOT: u8 = 4;

/// The command's stdin, stdout and stderr.
pub struct Streams {
    /// The command's ends.
    pub given: [OwnedFd; 3],
    /// Pumps between the other ends and cinspect's streams.
    pub pumps: Vec<Pump>,
}

impl Streams {
    /// Opens them. With a terminal, which takes their place later, and in the background they are the
    /// null device.
    ///
    /// # Errors
    /// See pipe(2) and open(2).
    pub fn new(plan: &ExecPlan) -> io::Result<Self> {
        if plan.detach || plan.terminal.is_some() {
            let null = || File::options().read(true).write(true).open("/dev/null");
            let given = [null()?.into(), null()?.into(), null()?.into()];
            return Ok(Self { given, pumps: Vec::new() });
        }
        let mut pumps = Vec::new();
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        let stdin = if may_be_given(&stdin) {
            stdin
        } else {
            let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
            set_nonblocking(&writer)?;
            pumps.push(Pump::to_command(stdin, writer).returning_unread(&reader));
            reader
        };
        let mut output = |ours: BorrowedFd<'_>| -> io::Result<OwnedFd> {
            let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
            pumps.push(Pump::from_command(reader, ours.try_clone_to_owned()?));
            Ok(writer)
        };
        let given = [stdin, output(io::stdout().as_fd())?, output(io::stderr().as_fd())?];
        Ok(Self { given, pumps })
    }
}

/// Whether the command may get this very descriptor as its stdin: a pipe, from which it then takes no
/// more than it reads, or the null device. Any other (a file, a terminal, a socket, a device) would give
/// it more: `/proc/self/fd` can be opened again with other rights.
fn may_be_given(stdin: impl AsFd) -> bool {
    let Ok(stat) = fstat(stdin) else { return false };
    match file_type(&stat) {
        SFlag::S_IFIFO => true,
        SFlag::S_IFCHR => stat.st_rdev == makedev(1, 3),
        _ => false,
    }
}

/// Returns the pumps between a terminal's master and cinspect's stdin and stdout. If stdin is not a
/// terminal itself, its end is passed on as ^D: a terminal cannot be closed in one direction.
///
/// # Errors
/// See dup(2).
pub fn terminal_pumps(master: &OwnedFd, is_interactive: bool) -> io::Result<Vec<Pump>> {
    set_nonblocking(master)?;
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    let mut input = Pump::to_command(stdin, master.try_clone()?);
    input.end_byte = (!is_interactive).then_some(EOT);
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    Ok(vec![input, Pump::from_command(master.try_clone()?, stdout)])
}

fn set_nonblocking(fd: &OwnedFd) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

/// A copy of one stream into another, one chunk at a time.
pub struct Pump {
    /// The stream to read; `None` at its end.
    pub source: Option<OwnedFd>,
    /// The stream to write; `None` once closed.
    pub sink: Option<OwnedFd>,
    /// Bytes that were read and not written yet.
    pub buffer: Vec<u8>,
    /// Whether it copies to the command.
    pub is_input: bool,
    /// A byte to write at the end of the source, in place of closing the sink.
    end_byte: Option<u8>,
    /// A regular file as source, and the command's end of the pipe.
    file: Option<(OwnedFd, OwnedFd)>,
    /// Bytes left to read once the command has exited.
    remaining: Option<u64>,
    /// The error of cinspect's own end: bytes were lost. (That its reader has gone is not one.)
    pub error: Option<(&'static str, Errno)>,
}

impl Pump {
    fn to_command(source: OwnedFd, sink: OwnedFd) -> Self {
        Self {
            source: Some(source),
            sink: Some(sink),
            buffer: Vec::new(),
            is_input: true,
            end_byte: None,
            file: None,
            remaining: None,
            error: None,
        }
    }

    fn from_command(source: OwnedFd, sink: OwnedFd) -> Self {
        Self { is_input: false, ..Self::to_command(source, sink) }
    }

    /// Remembers the command's end of the pipe if the source is a regular file, so that
    /// [`return_unread`](Self::return_unread) can count the bytes that are left there.
    fn returning_unread(mut self, command_end: &OwnedFd) -> Self {
        let is_file =
            |fd: &&OwnedFd| fstat(fd).is_ok_and(|stat| file_type(&stat) == SFlag::S_IFREG);
        self.file = self
            .source
            .as_ref()
            .filter(is_file)
            .and_then(|file| Some((file.try_clone().ok()?, command_end.try_clone().ok()?)));
        self
    }

    /// Moves a file's offset back by the bytes that the command did not read, as if it had read the file
    /// itself: a shell loop over the lines of a file goes on with the next line.
    pub fn return_unread(&self) {
        let Some((file, command_end)) = &self.file else { return };
        let in_pipe = readable_bytes(command_end).unwrap_or(0);
        let unread = i64::try_from(self.buffer.len() as u64 + in_pipe).unwrap_or(0);
        if unread > 0 {
            let _ = lseek(file, -unread, Whence::SeekCur);
        }
    }

    /// Reads one chunk into the empty buffer.
    pub fn read(&mut self) {
        let Some(source) = &self.source else { return };
        let limit = self.remaining.unwrap_or(u64::MAX).min(CHUNK as u64);
        let mut chunk = vec![0; usize::try_from(limit).unwrap_or(CHUNK)];
        match read(source, &mut chunk) {
            Ok(0) => self.end(),
            Ok(count) => {
                chunk.truncate(count);
                self.buffer = chunk;
                if let Some(remaining) = &mut self.remaining {
                    *remaining = remaining.saturating_sub(count as u64);
                    if *remaining == 0 {
                        self.source = None;
                    }
                }
            }
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // Of a terminal: no process has the other end open any more, or cinspect is in the background.
            Err(Errno::EIO) if isatty(source).unwrap_or(false) => self.end(),
            Err(errno) => {
                let message = match self.is_input {
                    true => "cannot read the command's input",
                    false => "cannot read the command's output",
                };
                self.error = self.error.or(Some((message, errno)));
                self.end();
            }
        }
    }

    fn end(&mut self) {
        self.source = None;
        match self.end_byte.take() {
            Some(byte) => self.buffer.push(byte),
            None => self.sink = None,
        }
    }

    /// Writes from the buffer.
    pub fn write(&mut self) {
        let Some(sink) = &self.sink else { return };
        let count = self.buffer.len().min(WRITE_CHUNK);
        match write(sink, &self.buffer[..count]) {
            Ok(written) => {
                self.buffer.drain(..written);
            }
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => {
                // Closing the source lets its writer notice.
                let is_lost = !self.is_input && errno != Errno::EPIPE;
                let message = "cannot write the command's output";
                self.error = self.error.or(is_lost.then_some((message, errno)));
                self.close();
                self.buffer.clear();
            }
        }
        if self.buffer.is_empty() && self.source.is_none() {
            self.sink = None;
        }
    }

    /// Closes both ends.
    pub fn close(&mut self) {
        (self.source, self.sink) = (None, None);
    }

    /// Limits the pump to the bytes that are in the pipe now. The command has exited: those are its
    /// output, however slowly cinspect's own reader takes them; later bytes are from other processes.
    pub fn limit_to_pending(&mut self) {
        let pending = self.source.as_ref().and_then(|source| readable_bytes(source).ok());
        self.remaining = Some(pending.unwrap_or(0));
        if self.remaining == Some(0) {
            self.source = None;
            if self.buffer.is_empty() {
                self.sink = None;
            }
        }
    }

    /// Whether output of the command is still to be written.
    pub fn has_pending_output(&self) -> bool {
        !self.is_input && self.sink.is_some() && !self.buffer.is_empty()
    }
}
