//! The threads and signalfds of a process that take signals: the system call that each thread sleeps in,
//! the set of signals that it waits for there, read from its memory, and the process's signalfds. A
//! process can make reading its memory hang, so this runs in threads that may be abandoned.

use std::os::unix::fs::FileExt;

use nix::dir::Dir;
use nix::fcntl::readlinkat;
use nix::libc;
use procfs::process::Process as Handle;

use super::host::Host;
use super::read::{ReadError, read_at_once, read_into, status, thread_ids};
use crate::model::pid::HostPid;
use crate::model::process::Process;
use crate::model::signal::SignalSet;
use crate::model::signal_waiters::{
    Call, Signalfd, ThreadWaits, Waiting, Waits, epoll_targets, signalfd_set,
};
use crate::sys::{kcmp, process_dir};

impl Host {
    /// Whether the main thread of a process may be waiting for signals in sigwait(3): also if its system call
    /// cannot be read.
    pub fn may_be_in_sigwait(&self, pid: HostPid) -> bool {
        let call = self.proc_file(pid, "syscall", 4096).ok();
        match call.as_deref().and_then(Call::parse) {
            Some(Call::Running | Call::None) => false,
            Some(Call::In(number, _)) => SIGTIMEDWAIT.contains(&number),
            None => true,
        }
    }
}

/// rt_sigtimedwait, also as a 32-bit program calls it: on x86 and Arm 177, and 421 with 64-bit times
/// (arch/x86/entry/syscalls/syscall_32.tbl, arch/arm/tools/syscall.tbl). No native call of either
/// number sleeps.
const SIGTIMEDWAIT: [libc::c_long; 3] = [libc::SYS_rt_sigtimedwait, 177, 421];
/// A program may poll thousands of descriptors; no more of them are read.
const MAX_POLLED: u64 = 65_536;
/// How often a thread that runs is read again.
const MAX_READS: usize = 4;
/// Threads that are read one by one.
const MAX_THREADS: usize = 10_000;
const MAX_DESCRIPTORS: usize = 65_536;

/// The main thread of a process, as its `status` shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct MainThread {
    pid: i32,
    /// PID of the parent of the process.
    parent: i32,
    is_init: bool,
    has_exited: bool,
    blocked: SignalSet,
    /// Threads of the process.
    pub threads: u32,
}

impl MainThread {
    /// Returns the main thread of a process.
    pub fn of(process: &Process) -> Self {
        let status = &process.status;
        Self {
            pid: status.pid,
            parent: status.ppid,
            is_init: status.nspid.last() == Some(&1),
            has_exited: process.stat.state.is_zombie(),
            blocked: status.sig_blk,
            threads: status.threads,
        }
    }
}

/// A process that is being read.
struct WaitReader<'a> {
    handle: &'a Handle,
    /// The signals that are asked about.
    signals: SignalSet,
    /// PID of its parent.
    parent: i32,
    buffer: &'a mut Vec<u8>,
}

/// Reads the waits of a process, as far as they matter for these signals: of the main thread alone if it
/// does not block them, unless `every_thread`.
pub(super) fn waits(
    handle: &Handle,
    main: MainThread,
    signals: SignalSet,
    every_thread: bool,
    buffer: &mut Vec<u8>,
) -> Result<Waits, ReadError> {
    let mut reader = WaitReader { handle, signals, parent: main.parent, buffer };
    let main_thread = if main.has_exited {
        exited(main)
    } else {
        // (Its own file is the process's: the kernel need not look the thread up.)
        reader.main_thread(main)?
    };
    // A signal that the main thread does not block is taken there.
    let relevant =
        main.has_exited || every_thread || !main_thread.blocked.intersection(signals).is_empty();
    let mut waits =
        Waits { threads: vec![main_thread], all_threads: main.threads <= 1, signalfds: Vec::new() };
    if !relevant {
        return Ok(waits);
    }
    if main.threads > 1 {
        reader.other_threads(main.pid, &mut waits.threads)?;
        waits.all_threads = true;
    }
    waits.signalfds = reader.signalfds()?;
    Ok(waits)
}

fn exited(main: MainThread) -> ThreadWaits {
    ThreadWaits {
        tid: main.pid,
        dead: true,
        blocked: main.blocked,
        awaited: SignalSet::EMPTY,
        on: Waiting::Elsewhere,
    }
}

impl WaitReader<'_> {
    /// Reads the main thread until its mask and its call are of one moment. tini's wait ends once a second:
    /// its mask may have been read in the wait, and its call after it.
    fn main_thread(&mut self, main: MainThread) -> Result<ThreadWaits, ReadError> {
        let mut blocked = main.blocked;
        let mut thread = self.thread("syscall", main.pid, blocked)?;
        for _ in 0..MAX_READS {
            let is_running = thread.on == Waiting::Anything;
            if thread.awaited != SignalSet::EMPTY || !(main.is_init || is_running) {
                break;
            }
            let before = std::mem::replace(
                &mut blocked,
                status(self.handle, "status", self.buffer)?.sig_blk,
            );
            if blocked == before && !is_running {
                break;
            }
            thread = self.thread("syscall", main.pid, blocked)?;
        }
        Ok(thread)
    }

    fn other_threads(
        &mut self,
        main: i32,
        threads: &mut Vec<ThreadWaits>,
    ) -> Result<(), ReadError> {
        let ids = thread_ids(self.handle)?;
        for tid in ids.into_iter().filter(|tid| *tid != main).take(MAX_THREADS) {
            let read = status(self.handle, &format!("task/{tid}/status"), self.buffer)
                .and_then(|own| self.thread(&format!("task/{tid}/syscall"), tid, own.sig_blk));
            match read {
                Ok(thread) => threads.push(thread),
                Err(ReadError::Gone) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn thread(
        &mut self,
        call: &str,
        tid: i32,
        blocked: SignalSet,
    ) -> Result<ThreadWaits, ReadError> {
        let mut thread = ThreadWaits {
            tid,
            dead: false,
            blocked,
            awaited: SignalSet::EMPTY,
            on: Waiting::Elsewhere,
        };
        read_at_once(self.handle.open_relative(call)?, self.buffer, 4096)?;
        let call = Call::parse(self.buffer).ok_or_else(|| ReadError::Broken("syscall".into()))?;
        match call {
            // Not in a call: in a fault, stopped, or about to return.
            Call::Running | Call::None => thread.on = Waiting::Anything,
            Call::In(number, arguments) if SIGTIMEDWAIT.contains(&number) => {
                let set = self.memory(arguments[0], 8)?;
                let set = set.try_into().map(u64::from_ne_bytes).unwrap_or_default();
                thread.awaited = SignalSet(set);
            }
            // Its descriptors matter only if a signal is blocked that a signalfd could take.
            Call::In(..) if blocked.intersection(self.signals).is_empty() => {}
            Call::In(number, arguments) => thread.on = self.descriptors(number, arguments),
        }
        Ok(thread)
    }

    /// Returns the descriptors that a system call waits for.
    fn descriptors(&mut self, number: libc::c_long, arguments: [u64; 6]) -> Waiting {
        let [first, second, ..] = arguments;
        match number {
            libc::SYS_read | libc::SYS_readv => Waiting::Descriptors(vec![first as i32]),
            libc::SYS_io_uring_enter => Waiting::Anything,
            _ if POLL.contains(&number) => self.polled(first, second),
            _ if SELECT.contains(&number) => self.selected(first, second),
            _ if EPOLL.contains(&number) => self.epoll(first as i32),
            _ => Waiting::Elsewhere,
        }
    }

    fn polled(&self, address: u64, count: u64) -> Waiting {
        let bytes = self.memory(address, count.min(MAX_POLLED) * 8);
        // struct pollfd: the descriptor, and two times 16 bits.
        bytes.map_or(Waiting::Anything, |bytes| {
            let fds = bytes.chunks_exact(8).map(|p| i32::from_ne_bytes([p[0], p[1], p[2], p[3]]));
            Waiting::Descriptors(fds.collect())
        })
    }

    fn selected(&self, count: u64, address: u64) -> Waiting {
        if address == 0 {
            return Waiting::Elsewhere;
        }
        let bytes = self.memory(address, count.min(1 << 20).div_ceil(64) * 8);
        bytes.map_or(Waiting::Anything, |bytes| {
            let bits = (0..bytes.len() * 8).filter(|bit| bytes[bit / 8] & (1 << (bit % 8)) != 0);
            Waiting::Descriptors(bits.filter_map(|bit| i32::try_from(bit).ok()).collect())
        })
    }

    fn epoll(&mut self, epoll: i32) -> Waiting {
        let info = self.handle.open_relative(format!("fdinfo/{epoll}")).map_err(ReadError::from);
        if info.and_then(|info| read_into(info, self.buffer, 4 << 20)).is_err() {
            return Waiting::Anything;
        }
        let targets = epoll_targets(self.buffer);
        let is_parents = || kcmp::same_file(self.handle.pid, self.parent, epoll) == Ok(true);
        if self.parent > 0 && is_parents() {
            Waiting::Inherited(targets)
        } else {
            Waiting::Descriptors(targets)
        }
    }

    fn memory(&self, address: u64, length: u64) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.handle.open_relative("mem")?.read_exact_at(&mut bytes, address)?;
        Ok(bytes)
    }

    /// Lists the signalfds of the process: descriptors that link to `anon_inode:[signalfd]`.
    fn signalfds(&mut self) -> Result<Vec<Signalfd>, ReadError> {
        let mut listed = Dir::from_fd(process_dir::open_listing(self.handle, "fd")?)?;
        let mut names = Vec::new();
        for entry in listed.iter().take(MAX_DESCRIPTORS) {
            names.push(entry?.file_name().to_owned());
        }
        let mut found = Vec::new();
        for name in names {
            let link = readlinkat(&listed, name.as_c_str());
            if !link.is_ok_and(|link| link == "anon_inode:[signalfd]") {
                continue;
            }
            let Some(fd) = name.to_str().ok().and_then(|fd| fd.parse().ok()) else { continue };
            let info = self.handle.open_relative(format!("fdinfo/{fd}")).map_err(ReadError::from);
            if info.and_then(|info| read_into(info, self.buffer, 4096)).is_ok()
                && let Some(set) = signalfd_set(self.buffer)
            {
                found.push(Signalfd { fd, set });
            }
        }
        Ok(found)
    }
}

#[cfg(target_arch = "x86_64")]
const POLL: &[libc::c_long] = &[libc::SYS_poll, libc::SYS_ppoll];
#[cfg(target_arch = "x86_64")]
const SELECT: &[libc::c_long] = &[libc::SYS_select, libc::SYS_pselect6];
#[cfg(target_arch = "x86_64")]
const EPOLL: &[libc::c_long] =
    &[libc::SYS_epoll_wait, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2];
// Newer architectures have only the calls with a mask.
#[cfg(not(target_arch = "x86_64"))]
const POLL: &[libc::c_long] = &[libc::SYS_ppoll];
#[cfg(not(target_arch = "x86_64"))]
const SELECT: &[libc::c_long] = &[libc::SYS_pselect6];
#[cfg(not(target_arch = "x86_64"))]
const EPOLL: &[libc::c_long] = &[libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2];
