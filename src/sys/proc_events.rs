//! The kernel's process events connector: how every process of the host ended
//! (Documentation/driver-api/connector.rst). Works in the initial network namespace, with CAP_NET_ADMIN.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, recv, send};

/// include/uapi/linux/netlink.h, connector.h and cn_proc.h.
const NETLINK_CONNECTOR: libc::c_int = 11;
const CN_IDX_PROC: u32 = 1;
const CN_VAL_PROC: u32 = 1;
const PROC_CN_MCAST_LISTEN: u32 = 1;
const PROC_EVENT_EXIT: u32 = 0x8000_0000;
/// `struct nlmsghdr`, `struct cn_msg`, and `what`, `cpu`, `timestamp_ns` of `struct proc_event`.
const HEADER: usize = 16;
const CN_HEADER: usize = 20;
const EVENT_HEADER: usize = 16;

/// A subscription to exits.
#[derive(Debug)]
pub struct ExitEvents {
    socket: OwnedFd,
    /// Wait statuses by PID.
    statuses: HashMap<i32, i32>,
}

/// Statuses that are not requested are dropped beyond this number.
const MAX_STATUSES: usize = 4096;

impl ExitEvents {
    /// Subscribes to process events.
    ///
    /// # Errors
    /// EPROTONOSUPPORT or ECONNREFUSED if the kernel has no connector in this network namespace, EPERM
    /// without CAP_NET_ADMIN.
    pub fn subscribe() -> io::Result<Self> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: takes no pointer; a result that is not negative is a new descriptor.
        let socket = unsafe {
            let fd = Errno::result(libc::socket(libc::AF_NETLINK, kind, NETLINK_CONNECTOR))?;
            OwnedFd::from_raw_fd(fd)
        };
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, CN_IDX_PROC))?;
        send(socket.as_raw_fd(), &listen_message(), MsgFlags::empty())?;
        Ok(Self { socket, statuses: HashMap::new() })
    }

    /// Takes the wait status of a process that has exited since it was asked last, if the kernel sent it.
    pub fn take(&mut self, pid: i32) -> Option<i32> {
        self.read();
        self.statuses.remove(&pid)
    }

    /// Reads the events that have arrived. (If there were too many, the kernel dropped some: ENOBUFS.)
    pub fn read(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(0) => return,
                Ok(length) => {
                    if self.statuses.len() >= MAX_STATUSES {
                        self.statuses.clear();
                    }
                    self.statuses.extend(parse_exit(&buffer[..length]));
                }
                Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(_) => return,
            }
        }
    }
}

fn listen_message() -> Vec<u8> {
    let length = (HEADER + CN_HEADER + 4) as u32;
    let mut message = Vec::new();
    // length, type NLMSG_DONE and flags, sequence, port
    for word in [length, 3, 0, 0] {
        message.extend(word.to_ne_bytes());
    }
    // idx, val, seq, ack, and the length with flags
    for word in [CN_IDX_PROC, CN_VAL_PROC, 0, 0] {
        message.extend(word.to_ne_bytes());
    }
    message.extend(4u16.to_ne_bytes());
    message.extend(0u16.to_ne_bytes());
    message.extend(PROC_CN_MCAST_LISTEN.to_ne_bytes());
    message
}

/// Parses an exit: the PID and the wait status. Exits of threads are left out.
fn parse_exit(message: &[u8]) -> Option<(i32, i32)> {
    let event = message.get(HEADER + CN_HEADER..)?;
    let word =
        |offset: usize| -> Option<[u8; 4]> { event.get(offset..offset + 4)?.try_into().ok() };
    if u32::from_ne_bytes(word(0)?) != PROC_EVENT_EXIT {
        return None;
    }
    let number = |index: usize| Some(i32::from_ne_bytes(word(EVENT_HEADER + 4 * index)?));
    let (thread, process, status) = (number(0)?, number(1)?, number(2)?);
    (thread == process).then_some((process, status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exit_of_a_main_thread_has_the_status() {
        let message = |event: u32, thread: i32, process: i32| {
            let mut bytes = vec![0; HEADER + CN_HEADER];
            bytes.extend(event.to_ne_bytes());
            bytes.extend([0; 12]);
            for number in [thread, process, 15] {
                bytes.extend(number.to_ne_bytes());
            }
            bytes
        };
        assert_eq!(parse_exit(&message(PROC_EVENT_EXIT, 7, 7)), Some((7, 15)));
        assert_eq!(parse_exit(&message(PROC_EVENT_EXIT, 8, 7)), None);
        assert_eq!(parse_exit(&message(1, 7, 7)), None);
        assert_eq!(parse_exit(&message(PROC_EVENT_EXIT, 7, 7)[..40]), None);
    }
}
