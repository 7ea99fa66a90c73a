//! The protocol between cinspect and its helper: descriptors by fixed numbers, the plan in a file,
//! one message per packet from the helper, and reports of its child through a pipe.

use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use super::errors::failure;
use super::events::ExecEvent;
use crate::analysis::exec_plan::ExecPlan;
use crate::error::Error;
use crate::model::pid::HostPid;
use crate::sys::socket;

/// The name the helper runs under: cinspect itself, from a sealed file.
pub const HELPER: &str = "cinspect-enter";

/// The descriptors that the helper is started with, after the standard streams of the command: the plan.
pub const PLAN: RawFd = 3;
/// The socket for messages to cinspect.
pub const SOCKET: RawFd = 4;
/// The pipe for reports: the command's PID, and why it could not be run.
pub const REPORT: RawFd = 5;
/// A pipe that yields four bytes once the command may start: a mask of the limits that it has to set itself.
pub const RELEASE: RawFd = 6;
/// A pidfd of the target.
pub const PIDFD: RawFd = 7;
/// The target's directory in the host's `/proc`.
pub const PROCESS: RawFd = 8;
/// The target's root directory.
pub const ROOT: RawFd = 9;
/// The target's working directory.
pub const WORKDIR: RawFd = 10;
/// The host's `/proc`.
pub const PROC: RawFd = 11;
/// The program of the host's tools, if the plan has them.
pub const TOOLS: RawFd = 12;
/// A terminal of the host, for a container that has none, if the plan has a terminal.
pub const TERMINAL: RawFd = 13;
/// The first of the files `tasks` of the container's v1 cgroups; their number is in the plan.
pub const TASKS: RawFd = 14;

/// Events and errors are short, unless a name in them is not.
const MAX_MESSAGE: usize = 1 << 16;

/// A message of the helper.
#[derive(Debug, Serialize, Deserialize)]
pub enum HelperMessage {
    /// A terminal was made in the container; its master comes with the message.
    Terminal,
    /// The helper could not prepare the command.
    Failed(Vec<ExecEvent>, Error),
    /// Everything is ready: the command's process is created next. With the numbers of the `tasks` by which the
    /// helper has moved itself.
    Ready(Vec<ExecEvent>, Vec<usize>),
}

/// Writes the plan, with the PID of this process as the helper's parent and the number of `tasks`, into a file
/// in memory.
///
/// # Errors
/// See memfd_create(2) and write(2).
pub fn plan_file(plan: &ExecPlan, tasks: usize) -> io::Result<OwnedFd> {
    let mut file = std::fs::File::from(memfd_create(c"plan", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&serde_json::to_vec(&(std::process::id(), tasks, plan))?)?;
    file.rewind()?;
    Ok(file.into())
}

/// Reads the plan, and before it the PID of the parent and the number of `tasks`.
///
/// # Errors
/// When the file is not a plan.
pub fn read_plan(file: OwnedFd) -> io::Result<(i32, usize, ExecPlan)> {
    let mut bytes = Vec::new();
    std::fs::File::from(file).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Sends a message, and a descriptor with it. In place of a message that is too long for its reader an error is sent.
///
/// # Errors
/// See sendmsg(2); and where an error was sent in its place.
pub fn send(
    socket: impl AsFd,
    message: &HelperMessage,
    fd: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() <= MAX_MESSAGE {
        return Ok(socket::send(socket, &bytes, fd)?);
    }
    let cause =
        format!("the report about it is too long: {} bytes of {MAX_MESSAGE} at most", bytes.len());
    let error = failure("cannot enter the container").cause(cause);
    let bytes = serde_json::to_vec(&HelperMessage::Failed(Vec::new(), error))?;
    socket::send(socket, &bytes, None)?;
    // (The caller does not go on as if its message had been read.)
    Err(Errno::EMSGSIZE.into())
}

/// Receives a message; `None` when the other end is closed.
///
/// # Errors
/// See recvmsg(2); and if the bytes are not a message.
pub fn receive(socket: impl AsFd) -> io::Result<Option<(HelperMessage, Option<OwnedFd>)>> {
    let (bytes, fd) = socket::receive(socket, MAX_MESSAGE)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&bytes)?, fd)))
}

/// A report about the command's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildReport {
    /// It was created, with this host PID.
    Created(HostPid),
    /// It could not be created, or could not become the command.
    Failed {
        /// The error of fork(2), seccomp(2) or execve(2).
        errno: Errno,
        /// Whether the command's file exists.
        found: bool,
    },
    /// The shell could not be run for this reason, and the next one is tried.
    NextShell(Errno),
    /// Its terminal could not be made the controlling one.
    TerminalFailed(Errno),
    /// No `/proc` of the PID namespace could be mounted.
    ProcFailed(Errno),
    /// A limit could not be set, by the kernel's number of it.
    LimitFailed(u8, Errno),
}

impl ChildReport {
    /// Writes it. (Errors are ignored: they mean that the report has no reader.)
    pub fn write(self, mut pipe: impl Write) {
        let (kind, number, extra) = match self {
            Self::Created(pid) => (b'P', pid.get(), 0),
            Self::Failed { errno, found } => (b'E', errno as i32, u8::from(found)),
            Self::NextShell(errno) => (b'N', errno as i32, 0),
            Self::TerminalFailed(errno) => (b'T', errno as i32, 0),
            Self::ProcFailed(errno) => (b'M', errno as i32, 0),
            Self::LimitFailed(resource, errno) => (b'L', errno as i32, resource),
        };
        let mut bytes = vec![kind];
        bytes.extend(number.to_ne_bytes());
        bytes.push(extra);
        let _ = pipe.write_all(&bytes);
    }

    /// Reads the next one; `None` at the end of the pipe.
    pub fn read(mut pipe: impl Read) -> Option<Self> {
        let mut bytes = [0; 6];
        pipe.read_exact(&mut bytes).ok()?;
        let number = i32::from_ne_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
        let errno = Errno::from_raw(number);
        match bytes[0] {
            b'P' => HostPid::new(number).map(Self::Created),
            b'E' => Some(Self::Failed { errno, found: bytes[5] == 1 }),
            b'N' => Some(Self::NextShell(errno)),
            b'L' => Some(Self::LimitFailed(bytes[5], errno)),
            b'T' => Some(Self::TerminalFailed(errno)),
            b'M' => Some(Self::ProcFailed(errno)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_too_long_becomes_an_error() {
        let (left, right) = socket::pair().unwrap();
        for (length, part) in [(10, "uuuuuuuuuu"), (100_000, "is too long")] {
            let error = failure("no such user").cause("u".repeat(length));
            let sent = send(&left, &HelperMessage::Failed(Vec::new(), error), None);
            assert_eq!(sent.is_ok(), length == 10);
            let (message, _) = receive(&right).unwrap().unwrap();
            let HelperMessage::Failed(_, error) = message else { panic!("{message:?}") };
            assert!(format!("{error:?}").contains(part), "{error:?}");
        }
        // (No command is started after it.)
        let events = vec![ExecEvent::SecurityLabel("l".into()); 10_000];
        assert!(send(&left, &HelperMessage::Ready(events, Vec::new()), None).is_err());
        let (message, _) = receive(&right).unwrap().unwrap();
        assert!(matches!(message, HelperMessage::Failed(..)), "{message:?}");
    }

    #[test]
    fn child_reports_survive_the_pipe() {
        let mut pipe = Vec::new();
        let reports = [
            ChildReport::Created(HostPid::new(4711).unwrap()),
            ChildReport::TerminalFailed(Errno::EPERM),
            ChildReport::ProcFailed(Errno::EBUSY),
            ChildReport::NextShell(Errno::ENOENT),
            ChildReport::LimitFailed(7, Errno::EPERM),
            ChildReport::Failed { errno: Errno::EACCES, found: true },
        ];
        reports.iter().for_each(|report| report.write(&mut pipe));
        let mut pipe = pipe.as_slice();
        for report in reports {
            assert_eq!(ChildReport::read(&mut pipe), Some(report));
        }
        assert_eq!(ChildReport::read(&mut pipe), None);
    }
}
