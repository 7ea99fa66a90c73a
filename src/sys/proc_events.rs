//! The kernel's process events connector: how every process of the host ended
//! (Documentation/driver-api/connector.rst). Works in the initial network namespace, with CAP_NET_ADMIN.

use std::collections::HashMap;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, recv, send, setsockopt};

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
    statuses: Statuses,
}

/// The room for exits that have not been read yet: those of some thousand processes that exit at once. (The
/// default has room for fewer than 300, and the kernel drops the rest.)
const QUEUE_BYTES: usize = 4 << 20;

/// The exit of a process.
#[derive(Clone, Copy, Debug)]
struct ExitEvent {
    /// The time of its last event on CLOCK_MONOTONIC of the host, in nanoseconds.
    time: u64,
    /// The wait status.
    status: i32,
}

/// Exits by PID. Exits that nothing asks for are dropped, the older half at a time. (A trace asks when it
/// comes to the record of the exit, of which as many may wait on a busy host.)
#[derive(Debug, Default)]
struct Statuses {
    recent: HashMap<i32, ExitEvent>,
    older: HashMap<i32, ExitEvent>,
}

impl Statuses {
    /// The number of each half.
    const MAX: usize = 1 << 16;

    fn insert(&mut self, pid: i32, time: u64, status: i32) {
        if self.recent.len() >= Self::MAX {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(pid, ExitEvent { time, status });
    }

    /// Notes the exit of another thread than the main one. After that of the main thread it may show how the
    /// process ended: a main thread may leave the others running (pthread_exit(3)), and wait(2) has the status
    /// of exit_group(2) or of the signal, which the main thread's event has only if that came before.
    fn insert_thread(&mut self, pid: i32, time: u64, status: i32) {
        let half = if self.recent.contains_key(&pid) { &mut self.recent } else { &mut self.older };
        let Some(exit) = half.get_mut(&pid) else { return };
        exit.time = time;
        if libc::WIFSIGNALED(exit.status) || exit.status == status {
            return;
        }
        // A signal ends all threads; another status may be this thread's own.
        if libc::WIFSIGNALED(status) {
            exit.status = status;
        } else {
            half.remove(&pid);
        }
    }

    /// Takes the status of the last process that had this PID, if it exited at one of these times.
    fn take(&mut self, pid: i32, times: &RangeInclusive<u64>) -> Option<i32> {
        let half = if self.recent.contains_key(&pid) { &mut self.recent } else { &mut self.older };
        let exit = half.get(&pid).copied().filter(|exit| times.contains(&exit.time))?;
        self.recent.remove(&pid);
        self.older.remove(&pid);
        Some(exit.status)
    }
}

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
        take_exits_only(&socket);
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, CN_IDX_PROC))?;
        send(socket.as_raw_fd(), &listen_message(), MsgFlags::empty())?;
        // (Without CAP_NET_ADMIN in the initial user namespace it stays as it is.)
        let _ = setsockopt(&socket, RcvBufForce, &QUEUE_BYTES);
        Ok(Self { socket, statuses: Statuses::default() })
    }

    /// Takes the wait status of the process with this PID that exited at one of these times, if the kernel sent it. (A PID is
    /// used again: another time is that of another process.)
    pub fn take(&mut self, pid: i32, times: &RangeInclusive<u64>) -> Option<i32> {
        self.read();
        self.statuses.take(pid, times)
    }

    /// Reads the events that have arrived. (If there were too many, the kernel dropped some: ENOBUFS.)
    pub fn read(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(0) => return,
                Ok(length) => match parse_exit(&buffer[..length]) {
                    Some((time, thread, pid, status)) if thread == pid => {
                        self.statuses.insert(pid, time, status);
                    }
                    Some((time, _, pid, status)) => self.statuses.insert_thread(pid, time, status),
                    None => {}
                },
                Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(_) => return,
            }
        }
    }
}

/// Has the kernel drop other events, which would leave no room for exits on a busy host: each process that exits
/// has begun, executed a program and changed its name before (socket(7), `SO_ATTACH_FILTER`). Where it cannot, they
/// arrive and are left out.
fn take_exits_only(socket: &OwnedFd) {
    let step = |code: u32, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let kind = (HEADER + CN_HEADER) as u32;
    let mut filter = [
        // (A load converts from the order of bytes in the network.)
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, kind),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, PROC_EVENT_EXIT.to_be()),
        step(libc::BPF_RET | libc::BPF_K, 0, u32::MAX),
        step(libc::BPF_RET | libc::BPF_K, 0, 0),
    ];
    let program =
        libc::sock_fprog { len: filter.len() as libc::c_ushort, filter: filter.as_mut_ptr() };
    let length = size_of_val(&program) as libc::socklen_t;
    // SAFETY: the program and its instructions live until the call returns; the kernel copies them.
    let _ = unsafe {
        let program = (&raw const program).cast();
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            program,
            length,
        )
    };
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

/// Parses an exit of a thread: the time, its ID, its process's and the wait status.
fn parse_exit(message: &[u8]) -> Option<(u64, i32, i32, i32)> {
    let event = message.get(HEADER + CN_HEADER..)?;
    let word =
        |offset: usize| -> Option<[u8; 4]> { event.get(offset..offset + 4)?.try_into().ok() };
    if u32::from_ne_bytes(word(0)?) != PROC_EVENT_EXIT {
        return None;
    }
    let number = |index: usize| Some(i32::from_ne_bytes(word(EVENT_HEADER + 4 * index)?));
    let time = u64::from_ne_bytes(event.get(8..16)?.try_into().ok()?);
    Some((time, number(0)?, number(1)?, number(2)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_that_are_never_taken_do_not_displace_later_ones() {
        let mut statuses = Statuses::default();
        for pid in 0..10 * Statuses::MAX as i32 {
            statuses.insert(pid, 1, pid);
            assert!(statuses.recent.len() + statuses.older.len() <= 2 * Statuses::MAX);
        }
        let last = 10 * Statuses::MAX as i32 - 1;
        for pid in last - Statuses::MAX as i32 + 1..=last {
            assert_eq!(statuses.take(pid, &(1..=1)), Some(pid));
        }
        assert_eq!(statuses.take(last, &(1..=1)), None);
        // (The PID of an older process is used again.)
        statuses.older.insert(7, ExitEvent { time: 1, status: 1 });
        statuses.insert(7, 2, 2);
        assert_eq!(statuses.take(7, &(1..=2)), Some(2));
        assert_eq!(statuses.take(7, &(1..=2)), None);
    }

    #[test]
    fn an_exit_at_another_time_is_that_of_another_process_with_the_pid() {
        let mut statuses = Statuses::default();
        statuses.insert(7, 100, 1);
        assert_eq!(statuses.take(7, &(200..=300)), None);
        assert_eq!(statuses.take(7, &(0..=99)), None);
        statuses.insert(7, 250, 2);
        assert_eq!(statuses.take(7, &(200..=300)), Some(2));
        // (A process ends with its last thread, however long ago its main thread has exited.)
        statuses.insert(7, 400, 0);
        statuses.insert_thread(7, 900, 0);
        assert_eq!(statuses.take(7, &(800..=1000)), Some(0));
    }

    #[test]
    fn a_signal_that_ends_the_threads_that_a_main_thread_left_is_how_the_process_ended() {
        let end = |threads: &[i32]| {
            let mut statuses = Statuses::default();
            statuses.insert_thread(7, 1, libc::SIGSEGV);
            statuses.insert(7, 1, threads[0]);
            threads[1..].iter().for_each(|status| statuses.insert_thread(7, 1, *status));
            statuses.take(7, &(1..=1))
        };
        let exit = |status: i32| status << 8;
        assert_eq!(end(&[exit(3)]), Some(exit(3)));
        assert_eq!(end(&[exit(3), exit(3), exit(3)]), Some(exit(3)));
        assert_eq!(end(&[0, libc::SIGKILL]), Some(libc::SIGKILL));
        assert_eq!(end(&[0, 0, libc::SIGKILL]), Some(libc::SIGKILL));
        // (A thread that was leaving already.)
        assert_eq!(end(&[libc::SIGKILL, 0]), Some(libc::SIGKILL));
        // exit_group(2), or exit(2) of a thread alone: both have the same event.
        assert_eq!(end(&[0, exit(3)]), None);
    }

    #[test]
    fn an_exit_has_the_thread_its_process_and_the_status() {
        let message = |event: u32, thread: i32, process: i32| {
            let mut bytes = vec![0; HEADER + CN_HEADER];
            bytes.extend(event.to_ne_bytes());
            bytes.extend([0; 4]);
            bytes.extend(9u64.to_ne_bytes());
            for number in [thread, process, 15] {
                bytes.extend(number.to_ne_bytes());
            }
            bytes
        };
        assert_eq!(parse_exit(&message(PROC_EVENT_EXIT, 7, 7)), Some((9, 7, 7, 15)));
        assert_eq!(parse_exit(&message(PROC_EVENT_EXIT, 8, 7)), Some((9, 8, 7, 15)));
        assert_eq!(parse_exit(&message(1, 7, 7)), None);
        assert_eq!(parse_exit(&message(PROC_EVENT_EXIT, 7, 7)[..40]), None);
    }
}
