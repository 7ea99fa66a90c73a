//! The threads and signalfds of a process that take signals: the system call that each thread sleeps in,
//! the set of signals that it waits for there, read from its memory, and the process's signalfds. A
//! process can make reading its memory hang, so this runs in threads that may be abandoned.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use jiff::Timestamp;
use nix::dir::Dir;
use nix::fcntl::readlinkat;
use nix::libc;
use procfs::process::Process as Handle;

use super::call_timeout::CallTimeout;
use super::host::Host;
use super::read::{ReadError, read_at_once, read_into, status, thread_ids};
use super::time_namespace::ClockOffsets;
use crate::model::pid::HostPid;
use crate::model::process::Process;
use crate::model::signal::{Signal, SignalSet};
use crate::model::signal_waiters::{
    Call, CallReturn, InputWait, Signalfd, ThreadWaits, Waiting, Waits, epoll_targets, has_timer,
    polled_descriptors, signalfd_set,
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
/// A program may poll thousands of descriptors; with more of them it is not known which.
const MAX_POLLED: u64 = 65_536;
const MAX_SELECTED: u64 = 1 << 20;
const MAX_EPOLL_INFO: usize = 16 << 20;
/// Bytes of the list of timers, of which each has about a hundred.
const MAX_TIMERS: usize = 1 << 20;
/// How often a thread that runs is read again.
const MAX_READS: usize = 4;
/// The most threads of a process that are read; the masks of further ones are unknown.
const MAX_THREADS: usize = 10_000;
/// Descriptors that are read one by one; of a process with more it is not known.
const MAX_DESCRIPTORS: usize = 65_536;

/// The main thread of a process, as its `status` shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct MainThread {
    pid: i32,
    /// PID of the parent of the process.
    parent: i32,
    started: Timestamp,
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
            started: process.times.started,
            is_init: status.is_namespace_init(),
            has_exited: process.stat.state.is_zombie(),
            blocked: status.sig_blk,
            threads: status.threads,
        }
    }
}

/// A process that is being read.
struct WaitReader<'a> {
    handle: &'a Handle,
    /// A thread that is alive, whose memory and descriptors are those of the process. A main thread that has exited
    /// before the others has neither.
    alive: i32,
    /// The signals that are asked about.
    signals: SignalSet,
    /// PID of its parent.
    parent: i32,
    started: Timestamp,
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
    let MainThread { pid, parent, started, .. } = main;
    let alive = if main.has_exited { other_thread(handle, pid)? } else { pid };
    let mut reader = WaitReader { handle, alive, signals, parent, started, buffer };
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
        Waits { threads: vec![main_thread], all_threads: main.threads <= 1, ..Waits::default() };
    if !relevant {
        return Ok(waits);
    }
    if main.threads > 1 {
        waits.all_threads = reader.other_threads(main.pid, &mut waits.threads)?;
    }
    let descriptors = reader.descriptor_table()?;
    if !descriptors.signalfds.is_empty() || !descriptors.timers.is_empty() {
        reader.follow_epolls(&descriptors, &mut waits.threads);
    }
    for thread in &mut waits.threads {
        if thread.returns.is_none() && descriptors.may_time_out(thread) {
            thread.returns = Some(CallReturn::POSSIBLE);
        }
    }
    waits.signalfds = descriptors.signalfds;
    waits.has_timer = reader.has_timer();
    Ok(waits)
}

/// Returns a thread besides the main thread; the main thread if there is none.
fn other_thread(handle: &Handle, main: i32) -> Result<i32, ReadError> {
    Ok(thread_ids(handle)?.into_iter().find(|tid| *tid != main).unwrap_or(main))
}

fn exited(main: MainThread) -> ThreadWaits {
    ThreadWaits { dead: true, blocked: main.blocked, ..ThreadWaits::asleep(main.pid) }
}

/// Returns the input that a thread waits for in a system call.
fn input_of(call: Call) -> InputWait {
    match call {
        Call::Running | Call::None => InputWait::Running,
        Call::In(number, [fd, ..]) if READ.contains(&number) => InputWait::Read(fd as i32),
        Call::In(number, _) if POLL.contains(&number) || SELECT.contains(&number) => {
            InputWait::Poll
        }
        Call::In(number, _) if PAUSE.contains(&number) => InputWait::Handler,
        Call::In(..) => InputWait::Elsewhere,
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

    /// Returns whether those are all.
    fn other_threads(
        &mut self,
        main: i32,
        threads: &mut Vec<ThreadWaits>,
    ) -> Result<bool, ReadError> {
        let ids = thread_ids(self.handle)?;
        let others = || ids.iter().copied().filter(|tid| *tid != main);
        for tid in others().take(MAX_THREADS) {
            let read = status(self.handle, &format!("task/{tid}/status"), self.buffer)
                .and_then(|own| self.thread(&format!("task/{tid}/syscall"), tid, own.sig_blk));
            match read {
                Ok(thread) => threads.push(thread),
                Err(ReadError::Gone) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(others().nth(MAX_THREADS).is_none())
    }

    fn thread(
        &mut self,
        call: &str,
        tid: i32,
        blocked: SignalSet,
    ) -> Result<ThreadWaits, ReadError> {
        let mut thread = ThreadWaits { blocked, ..ThreadWaits::asleep(tid) };
        read_at_once(self.handle.open_relative(call)?, self.buffer, 4096)?;
        let call = Call::parse(self.buffer).ok_or_else(|| ReadError::Broken("syscall".into()))?;
        thread.input = input_of(call);
        match call {
            // Not in a call: in a fault, stopped, or about to return.
            Call::Running | Call::None => thread.on = Waiting::Anything,
            Call::In(number, arguments) if SIGTIMEDWAIT.contains(&number) => {
                let set = self.memory(arguments[0], 8)?;
                let set = set.try_into().map(u64::from_ne_bytes).unwrap_or_default();
                // (The kernel takes KILL and STOP out of its copy, `do_sigtimedwait`.)
                let (kill, stop) = (Signal::KILL.into(), Signal::STOP.into());
                let uncatchable = SignalSet::union(kill, stop);
                thread.awaited = SignalSet(set).intersection(uncatchable.complement());
            }
            // Its descriptors matter only if a signal is blocked that a signalfd could take.
            Call::In(..) if blocked.intersection(self.signals).is_empty() => {}
            Call::In(number, arguments) => thread.on = self.descriptors(number, arguments),
        }
        if let Call::In(number, arguments) = call
            && !blocked.intersection(self.signals).is_empty()
        {
            thread.returns = self.returns(number, arguments);
        }
        Ok(thread)
    }

    /// Returns the descriptors that a system call waits for.
    fn descriptors(&mut self, number: libc::c_long, arguments: [u64; 6]) -> Waiting {
        let [first, second, ..] = arguments;
        match number {
            _ if READ.contains(&number) => Waiting::Descriptors(vec![first as i32]),
            // (A call that is continued may be poll(2), of which the descriptors are not read then.)
            libc::SYS_io_uring_enter | libc::SYS_restart_syscall => Waiting::Anything,
            _ if POLL.contains(&number) => self.polled(first, second),
            _ if SELECT.contains(&number) => self.selected(first, second),
            _ if EPOLL.contains(&number) => self.epoll(first as i32),
            _ => Waiting::Elsewhere,
        }
    }

    /// Returns the return of a system call by itself; none if it does not.
    fn returns(&self, number: libc::c_long, arguments: [u64; 6]) -> Option<CallReturn> {
        let timeout = CallTimeout::of(number, arguments)?;
        let bytes = timeout.address().and_then(|address| self.memory(address, 16).ok());
        let words = bytes.and_then(|bytes| bytes.as_chunks::<8>().0.try_into().ok());
        let words = words.map(|words: [[u8; 8]; 2]| words.map(u64::from_ne_bytes));
        // (A clock that was set back leaves the age unknown.)
        let age = Timestamp::now().duration_since(self.started);
        let age = age.try_into().unwrap_or(Duration::MAX);
        let least = timeout.least(words, age, || ClockOffsets::of(self.handle));
        Some(CallReturn { least, is_certain: timeout != CallTimeout::Elsewhere })
    }

    /// Whether the process has a timer; none if that cannot be read.
    fn has_timer(&mut self) -> Option<bool> {
        let timers = self.handle.open_relative("timers").ok()?;
        read_into(timers, self.buffer, MAX_TIMERS).ok()?;
        (self.buffer.len() < MAX_TIMERS).then(|| has_timer(self.buffer))
    }

    fn polled(&self, address: u64, count: u64) -> Waiting {
        if count > MAX_POLLED {
            return Waiting::Anything;
        }
        self.memory(address, count * 8)
            .map_or(Waiting::Anything, |bytes| Waiting::Descriptors(polled_descriptors(&bytes)))
    }

    fn selected(&self, count: u64, address: u64) -> Waiting {
        if address == 0 {
            return Waiting::Elsewhere;
        }
        if count > MAX_SELECTED {
            return Waiting::Anything;
        }
        let bytes = self.memory(address, count.div_ceil(64) * 8);
        bytes.map_or(Waiting::Anything, |bytes| {
            let bits = (0..bytes.len() * 8).filter(|bit| bytes[bit / 8] & (1 << (bit % 8)) != 0);
            Waiting::Descriptors(bits.filter_map(|bit| i32::try_from(bit).ok()).collect())
        })
    }

    fn epoll(&mut self, epoll: i32) -> Waiting {
        match self.targets(epoll) {
            None => Waiting::Anything,
            Some(targets) if self.is_parents(epoll) => Waiting::Inherited(targets),
            Some(targets) => Waiting::Descriptors(targets),
        }
    }

    /// Whether an epoll is one that the parent has, too.
    fn is_parents(&self, epoll: i32) -> bool {
        self.parent > 0 && kcmp::same_file(self.alive, self.parent, epoll) == Ok(true)
    }

    /// Reads the descriptors that an epoll watches; none if that is not possible.
    fn targets(&mut self, epoll: i32) -> Option<Vec<i32>> {
        let info = self.open(&format!("fdinfo/{epoll}")).ok()?;
        read_into(info, self.buffer, MAX_EPOLL_INFO).ok()?;
        (self.buffer.len() < MAX_EPOLL_INFO).then(|| epoll_targets(self.buffer))
    }

    /// Adds the descriptors that an epoll watches to those of the threads that wait for the epoll itself.
    fn follow_epolls(&mut self, table: &DescriptorTable, threads: &mut [ThreadWaits]) {
        for thread in threads {
            let Waiting::Descriptors(fds) = &mut thread.on else { continue };
            let (mut seen, mut rest) = (BTreeSet::new(), std::mem::take(fds));
            let mut is_known = true;
            while let Some(fd) = rest.pop() {
                // (An epoll still watches a file if its descriptor has another number by now.)
                is_known &= table.open.contains(&fd);
                if seen.insert(fd) && table.epolls.contains(&fd) {
                    match self.targets(fd) {
                        Some(targets) if !self.is_parents(fd) => rest.extend(targets),
                        _ => is_known = false,
                    }
                }
            }
            thread.on = match is_known {
                true => Waiting::Descriptors(seen.into_iter().collect()),
                false => Waiting::Anything,
            };
        }
    }

    /// Opens a file of a thread that is alive.
    fn open(&self, name: &str) -> Result<File, ReadError> {
        Ok(self.handle.open_relative(self.path(name))?)
    }

    fn path(&self, name: &str) -> String {
        // (The main thread's own files are the process's.)
        match self.alive == self.handle.pid {
            true => name.to_owned(),
            false => format!("task/{}/{name}", self.alive),
        }
    }

    fn memory(&self, address: u64, length: u64) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let memory = self.open("mem")?;
        // (An I/O error means that the process passed an address where it has no memory.)
        let read = memory.read_exact_at(&mut bytes, address);
        read.map_err(|error| ReadError::Broken(error.to_string()))?;
        Ok(bytes)
    }

    /// Reads the descriptors of the process: signalfds and epolls link to `anon_inode:[signalfd]` and
    /// `anon_inode:[eventpoll]`.
    fn descriptor_table(&mut self) -> Result<DescriptorTable, ReadError> {
        let mut listed = Dir::from_fd(process_dir::open_listing(self.handle, self.path("fd"))?)?;
        let mut names = Vec::new();
        for entry in listed.iter() {
            names.push(entry?.file_name().to_owned());
            if names.len() > MAX_DESCRIPTORS {
                return Err(ReadError::Broken("it has too many descriptors".into()));
            }
        }
        let mut table = DescriptorTable::default();
        for name in names {
            let Some(fd) = name.to_str().ok().and_then(|fd| fd.parse().ok()) else { continue };
            table.open.insert(fd);
            match readlinkat(&listed, name.as_c_str()) {
                Ok(link) if link == "anon_inode:[eventpoll]" => drop(table.epolls.insert(fd)),
                Ok(link) if link == "anon_inode:[signalfd]" => {
                    table.untimed.insert(fd);
                    table.signalfds.extend(self.signalfd(fd));
                }
                Ok(link) if link == "anon_inode:[timerfd]" || link == "anon_inode:[io_uring]" => {
                    table.timers.insert(fd);
                }
                Ok(link) if UNTIMED.iter().any(|kind| link.as_bytes().starts_with(kind)) => {
                    table.untimed.insert(fd);
                }
                _ => {}
            }
        }
        Ok(table)
    }

    fn signalfd(&mut self, fd: i32) -> Option<Signalfd> {
        let info = self.open(&format!("fdinfo/{fd}")).ok()?;
        read_into(info, self.buffer, 4096).ok()?;
        Some(Signalfd { fd, set: signalfd_set(self.buffer)? })
    }
}

/// The descriptors of a process.
#[derive(Default)]
struct DescriptorTable {
    open: BTreeSet<i32>,
    epolls: BTreeSet<i32>,
    /// Timerfds, and io_urings, in which timeouts may run.
    timers: BTreeSet<i32>,
    /// Descriptors of which a read waits without a timeout.
    untimed: BTreeSet<i32>,
    signalfds: Vec<Signalfd>,
}

impl DescriptorTable {
    /// Whether a thread waits for a timer, or reads a descriptor that may have a timeout, which cannot be read: a
    /// socket (SO_RCVTIMEO), a terminal (VTIME), a device.
    fn may_time_out(&self, thread: &ThreadWaits) -> bool {
        let is_timed = |fd: &i32| thread.on.reads(*fd) || thread.on.might_read(*fd);
        matches!(thread.input, InputWait::Read(fd) if !self.untimed.contains(&fd))
            || self.timers.iter().any(is_timed)
    }
}

/// The descriptors of which a read waits without a timeout, by what `/proc/PID/fd` shows.
const UNTIMED: [&[u8]; 3] = [b"pipe:", b"anon_inode:[eventfd]", b"anon_inode:inotify"];

// (As a 32-bit program calls them, they have numbers of other calls that sleep.)
#[cfg(target_arch = "x86_64")]
const PAUSE: &[libc::c_long] = &[libc::SYS_pause, libc::SYS_rt_sigsuspend];
#[cfg(not(target_arch = "x86_64"))]
const PAUSE: &[libc::c_long] = &[libc::SYS_rt_sigsuspend];
const READ: &[libc::c_long] = &[libc::SYS_read, libc::SYS_readv];
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
