//! Snapshot of chosen processes: owned values, and pidfds if requested. A process can make the read of its
//! command line hang, since the kernel waits for the process's memory: worker threads read it, and are
//! abandoned if they do not return in time.

mod workers;

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use nix::sys::resource::{Resource, getrlimit};
use procfs::process::Process as Handle;

use self::workers::Collector;
use super::host::{Clock, Host};
use super::kernel_wait;
use super::read::{ReadError, STAT_LIMIT, read_at_once, stat, status, thread_ids};
use super::signal_waiters::{MainThread, waits};
use crate::model::pid::{HostPid, ProcessId};
use crate::model::process::{CommandLine, Fact, Process, Thread, Times};
use crate::model::signal::SignalSet;
use crate::model::signal_waiters::{Waiting, Waits};
use crate::model::stat::Stat;
use crate::model::status::Status;
use crate::sys::parallel;
use crate::sys::pidfd::{self, SignalScope};

/// The part of each command line that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandLimit {
    /// Nothing.
    Nothing,
    /// At most this many bytes.
    Bytes(usize),
}

impl CommandLimit {
    /// As much as execve(2) accepts (three quarters of `_STK_LIM`, fs/exec.c), so that only a process
    /// that moved its own bounds is cut.
    pub const WHOLE: Self = Self::Bytes(6 << 20);
    /// More than any terminal shows.
    pub const SCREEN: Self = Self::Bytes(SCREEN_BYTES);
}

const SCREEN_BYTES: usize = 16 << 10;

/// Facts that a snapshot has in addition to `stat` and `status`.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotOptions {
    /// `cmdline`.
    pub command: CommandLimit,
    /// `exe`.
    pub exe: bool,
    /// `task/*`.
    pub threads: bool,
    /// The threads and signalfds that wait for these signals; `exe`, and the signals that programs asked for.
    pub waits: SignalSet,
    /// Whether only that part of `waits` is read that decides a verdict: for an answer without notes on programs.
    pub verdicts_only: bool,
    /// A pidfd, opened before anything is read; none where there are too many processes for the limit of open
    /// files.
    pub pidfds: bool,
}

impl SnapshotOptions {
    /// `stat` and `status` alone.
    pub const BARE: Self = Self {
        command: CommandLimit::Nothing,
        exe: false,
        threads: false,
        waits: SignalSet::EMPTY,
        verdicts_only: false,
        pidfds: false,
    };

    /// Whether a process could make reading these facts hang.
    fn may_hang(self) -> bool {
        self.command != CommandLimit::Nothing || !self.waits.is_empty()
    }

    /// Whether a verdict may hang on an executable that has not been read: not if the process sleeps in another
    /// call than sigwait(3), for then it is not between two such waits (`analysis::forecast::between_waits`).
    fn needs_exe(self, waits: &Fact<Waits>) -> bool {
        let main = waits.known().and_then(|waits| waits.threads.first());
        let sleeps_elsewhere =
            main.is_some_and(|main| main.awaited.is_empty() && main.on != Waiting::Anything);
        self.verdicts_only && !self.exe && !self.waits.is_empty() && !sleeps_elsewhere
    }
}

/// Memory for the command lines of one snapshot, in bytes, beyond which the others are cut to the
/// width of a screen.
const BYTE_BUDGET: usize = 16 << 20;

/// The work that all workers share. A worker may outlive the [`Host`], so it holds copies.
struct SnapshotJob {
    proc: PathBuf,
    clock: Clock,
    pids: Vec<HostPid>,
    options: SnapshotOptions,
    next: AtomicUsize,
    /// Bytes of command lines read so far.
    bytes_read: AtomicUsize,
    /// Milliseconds spent waiting for slow command lines; beyond a limit nothing that may hang is read any more.
    waited: AtomicU64,
}

impl Host {
    /// Takes a snapshot of these processes, in their order. One that no longer exists is
    /// [`ReadError::Gone`]; a command line that does not come in time is [`Fact::Denied`].
    pub fn snapshot(
        &self,
        pids: &[HostPid],
        options: SnapshotOptions,
    ) -> Vec<Result<Arc<Process>, ReadError>> {
        let mut processes = self.snapshot_files(pids, options);
        if !options.waits.is_empty() && !options.verdicts_only {
            self.add_program_signals(processes.iter_mut().flatten().filter_map(Arc::get_mut));
        }
        processes
    }

    fn snapshot_files(
        &self,
        pids: &[HostPid],
        options: SnapshotOptions,
    ) -> Vec<Result<Arc<Process>, ReadError>> {
        let most = pids.len().div_ceil(32);
        let workers = if most > 1 { parallel::cpus().min(most) } else { 1 };
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        let pidfds = options.pidfds && pids.len() as u64 <= limit / 2;
        let job = SnapshotJob {
            proc: self.proc_path(""),
            clock: self.clock,
            pids: pids.to_vec(),
            options: SnapshotOptions { pidfds, ..options },
            next: AtomicUsize::new(0),
            bytes_read: AtomicUsize::new(0),
            waited: AtomicU64::new(0),
        };
        if pids.is_empty() || (!options.may_hang() && workers == 1) {
            let mut buffer = Vec::new();
            return (0..pids.len())
                .map(|row| job.begin(row, &mut buffer).map(|(process, _)| Arc::new(process)))
                .collect();
        }
        Collector::new(job, workers).collect()
    }
}

impl SnapshotJob {
    /// Reads everything that cannot hang. The start time, read first, and the held handle ensure that
    /// all of it is of one process.
    fn begin(&self, row: usize, buffer: &mut Vec<u8>) -> Result<(Process, Handle), ReadError> {
        let pid = self.pids[row];
        let pidfd = (self.options.pidfds)
            .then(|| pidfd::open(pid.get(), SignalScope::Process).ok().map(Arc::new))
            .flatten();
        let handle = Handle::new_with_root(self.proc.join(pid.to_string()))?;
        let stat = stat(&handle, buffer)?;
        let status = status(&handle, "status", buffer)?;
        let with_waits = !self.options.waits.is_empty();
        let with_exe = self.options.exe || (with_waits && !self.options.verdicts_only);
        let exe = if with_exe { exe(&self.proc, pid) } else { Fact::Absent };
        let threads =
            if self.options.threads { self.threads(&handle, &status, buffer) } else { Vec::new() };
        let kernel_wait = (with_waits && stat.state.is_uninterruptible())
            .then(|| kernel_wait::of_held(&handle, buffer))
            .flatten();
        let with_command = self.options.command != CommandLimit::Nothing;
        let process = Process {
            id: ProcessId { pid, start: stat.start },
            times: self.times(&stat),
            stat,
            status,
            command: if with_command { Fact::Denied } else { Fact::Absent },
            exe,
            waits: if with_waits { Fact::Denied } else { Fact::Absent },
            kernel_wait,
            asked: None,
            threads,
            pidfd,
        };
        Ok((process, handle))
    }

    fn times(&self, stat: &Stat) -> Times {
        Times {
            started: self.clock.started(stat.start),
            cpu: self.clock.ticks(stat.utime.saturating_add(stat.stime)),
        }
    }

    /// Reads the threads of a process with this `status`, which is that of its main thread.
    fn threads(&self, handle: &Handle, main: &Status, buffer: &mut Vec<u8>) -> Vec<Thread> {
        let read = |tid: i32, buffer: &mut Vec<u8>| -> Result<Thread, ReadError> {
            // (In the process's own `stat` are also the times of threads that have exited.)
            read_at_once(handle.open_relative(format!("task/{tid}/stat"))?, buffer, STAT_LIMIT)?;
            let stat = Stat::parse(buffer)?;
            let status = match tid == main.pid {
                true => main.clone(),
                false => status(handle, &format!("task/{tid}/status"), buffer)?,
            };
            Ok(Thread { times: self.times(&stat), stat, status })
        };
        let ids = match main.threads {
            1 => vec![main.pid],
            _ => thread_ids(handle).unwrap_or_default(),
        };
        ids.into_iter().filter_map(|tid| read(tid, buffer).ok()).collect()
    }

    fn waits(&self, handle: &Handle, main: MainThread, buffer: &mut Vec<u8>) -> Fact<Waits> {
        if self.options.waits.is_empty() {
            return Fact::Absent;
        }
        if self.is_out_of_time() {
            return Fact::Denied;
        }
        let SnapshotOptions { waits: signals, threads, .. } = self.options;
        match waits(handle, main, signals, threads, buffer) {
            Ok(waits) => Fact::Known(waits),
            Err(_) => Fact::Denied,
        }
    }

    fn command(&self, handle: &Handle, alone: bool, buffer: &mut Vec<u8>) -> Fact<CommandLine> {
        let CommandLimit::Bytes(limit) = self.options.command else { return Fact::Absent };
        if self.is_out_of_time() {
            return Fact::Denied;
        }
        let over_budget = self.bytes_read.load(Ordering::Relaxed) > BYTE_BUDGET;
        let limit = if over_budget { limit.min(SCREEN_BYTES) } else { limit };
        let read = |path: &str, buffer: &mut Vec<u8>| {
            read_at_once(handle.open_relative(path)?, buffer, limit.saturating_add(1))
        };
        if let Err(error) = read("cmdline", buffer) {
            return if error == ReadError::Gone { Fact::Absent } else { Fact::Denied };
        }
        if buffer.is_empty() && !alone {
            // The main thread has exited, or never had a line; a live thread may still have it.
            for tid in thread_ids(handle).unwrap_or_default().into_iter().skip(1).take(4) {
                if read(&format!("task/{tid}/cmdline"), buffer).is_ok() && !buffer.is_empty() {
                    break;
                }
            }
        }
        let cut = buffer.len() > limit;
        buffer.truncate(limit);
        self.bytes_read.fetch_add(buffer.len(), Ordering::Relaxed);
        // The memory of a long line must not stay allocated in every worker.
        let bytes = if buffer.capacity() > 1 << 16 {
            std::mem::replace(buffer, Vec::with_capacity(4096))
        } else {
            buffer.clone()
        };
        Fact::Known(CommandLine::parse(bytes, cut))
    }
}

/// Reads the link by PID, which is one call. It is this process's as long as the handle still answers, which
/// shows in what is read through it afterwards.
fn exe(proc: &Path, pid: HostPid) -> Fact<Vec<u8>> {
    match std::fs::read_link(proc.join(format!("{pid}/exe"))).map_err(ReadError::from) {
        Ok(path) => Fact::Known(path.into_os_string().into_vec()),
        // (A kernel thread has none.)
        Err(ReadError::Gone) => Fact::Absent,
        Err(_) => Fact::Denied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::signal::Signal;
    use crate::model::signal_waiters::ThreadWaits;

    #[test]
    fn a_verdict_hangs_on_exe_where_the_main_thread_may_wait_next() {
        let waits = |on: Waiting, awaited: SignalSet| {
            let thread = ThreadWaits { blocked: awaited, awaited, on, ..ThreadWaits::asleep(7) };
            Fact::Known(Waits { threads: vec![thread], all_threads: true, ..Waits::default() })
        };
        let term = SignalSet::from(Signal::TERM);
        let options = SnapshotOptions { waits: term, verdicts_only: true, ..SnapshotOptions::BARE };
        assert!(!options.needs_exe(&waits(Waiting::Elsewhere, SignalSet::EMPTY)));
        let running = waits(Waiting::Anything, SignalSet::EMPTY);
        for waits in [&running, &waits(Waiting::Elsewhere, term), &Fact::Denied] {
            assert!(options.needs_exe(waits));
            // (Otherwise it has been read before.)
            assert!(!SnapshotOptions { verdicts_only: false, ..options }.needs_exe(waits));
        }
    }
}
