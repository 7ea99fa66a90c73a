//! What we and the helper tell each other: descriptors by agreed numbers, the plan in a file, and one
//! message a packet.

use std::io::{IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::analysis::exec_plan::ExecPlan;

/// The name under which the helper runs: our own program, sealed.
pub const HELPER: &str = "cinspect-enter";

/// Numbers of the descriptors that the helper is started with, after the standard streams of the
/// command.
pub const PLAN: RawFd = 3;
/// Messages to us.
pub const SOCKET: RawFd = 4;
/// The command's PID, and what hindered it from being run.
pub const REPORT: RawFd = 5;
/// A byte once the command may begin.
pub const RELEASE: RawFd = 6;
/// The process that is entered beside.
pub const PIDFD: RawFd = 7;
/// Its folder in the host's `/proc`.
pub const PROCESS: RawFd = 8;
/// Its root.
pub const ROOT: RawFd = 9;
/// Its working directory.
pub const WORKDIR: RawFd = 10;
/// The host's `/proc`.
pub const PROC: RawFd = 11;
/// A terminal of the host's, for a container without any.
pub const TERMINAL: RawFd = 12;

/// What the helper tells.
#[derive(Debug, Serialize, Deserialize)]
pub enum HelperMessage {
    /// A terminal was made inside; its other end comes along.
    Terminal,
    /// It cannot go on.
    Failed(Vec<HelperStep>, HelperError),
    /// All is ready: the command's process is made now.
    Ready(Vec<HelperStep>),
}

/// A step of the way.
#[derive(Debug, Serialize, Deserialize)]
pub enum HelperStep {
    /// A thing that was done.
    Done(String),
    /// A thing that could not be carried over.
    Lacks(String),
}

/// Why it cannot go on.
#[derive(Debug, Serialize, Deserialize)]
pub struct HelperError {
    /// What failed.
    pub what: String,
    /// Why.
    pub because: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl HelperError {
    /// One with a reason.
    pub fn new(what: impl Into<String>, because: impl ToString) -> Self {
        Self { what: what.into(), because: Some(because.to_string()), hint: None }
    }

    /// And with a way forward.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The plan as a file.
///
/// # Errors
/// Those of memfd_create(2) and write(2).
pub fn plan_file(plan: &ExecPlan) -> std::io::Result<OwnedFd> {
    let mut file = std::fs::File::from(memfd_create(c"plan", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(plan)?)?;
    file.rewind()?;
    Ok(file.into())
}

/// And back.
///
/// # Errors
/// When it is none.
pub fn read_plan(file: OwnedFd) -> std::io::Result<ExecPlan> {
    let mut bytes = Vec::new();
    std::fs::File::from(file).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Sends a message, and a descriptor with it.
///
/// # Errors
/// Those of sendmsg(2).
pub fn tell(
    socket: impl AsFd,
    told: &HelperMessage,
    fd: Option<BorrowedFd<'_>>,
) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(told)?;
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a message; none when the other end was closed.
///
/// # Errors
/// Those of recvmsg(2), and what is no message.
pub fn hear(socket: impl AsFd) -> std::io::Result<Option<(HelperMessage, Option<OwnedFd>)>> {
    let mut bytes = vec![0; 1 << 16];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got =
        recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if got.bytes == 0 {
        return Ok(None);
    }
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(Some((serde_json::from_slice(&bytes[..got.bytes])?, fd)))
}
