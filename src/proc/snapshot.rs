//! Snapshot of chosen processes: owned values and no open descriptor. A process can make reading its
//! command line hang (the kernel waits for that process's memory), so that is done by worker threads,
//! which are abandoned if they do not return in time.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::{getpid, gettid};
use procfs::process::Process as Handle;

use super::host::{Clock, Host};
use super::read::{ReadError, namespace, read_at_once, stat, status, thread_ids};
use super::signal_waiters::waits;
use crate::model::namespace::NamespaceId;
use crate::model::pid::{HostPid, ProcessId};
use crate::model::process::{CommandLine, Fact, Process, Thread, Times};
use crate::model::signal::SignalSet;
use crate::model::signal_waiters::Waits;
use crate::model::stat::{ProcessState, Stat};
use crate::model::status::Status;
use crate::sys::cpu_wait::CpuWait;

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
    /// The threads and signalfds that wait for these signals, and the signals that programs asked for.
    pub waits: SignalSet,
}

impl SnapshotOptions {
    /// `stat` and `status` alone.
    pub const BARE: Self = Self {
        command: CommandLimit::Nothing,
        exe: false,
        threads: false,
        waits: SignalSet::EMPTY,
    };

    /// Whether a process could make reading these facts hang.
    fn may_hang(self) -> bool {
        self.command != CommandLimit::Nothing || !self.waits.is_empty()
    }
}

/// Time for one command line, after which its row gets `?`.
const TIMEOUT: Duration = Duration::from_millis(600);
/// Number of hung workers after which the timeout is shorter, so that a hundred of them do not take a
/// hundred times as long.
const MAX_PATIENT_HANGS: usize = 2;
const SHORT_TIMEOUT: Duration = Duration::from_millis(30);
/// Number of hung workers after which no more are replaced.
const MAX_HUNG: usize = 24;
/// Reading one takes microseconds: if it takes this long, the process made it wait.
const SLOW: Duration = Duration::from_millis(50);
/// Limit of all that waiting together, in case a container makes it wait for each of thousands.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Memory for the command lines of one snapshot, in bytes, beyond which the others are cut to what a
/// screen shows.
const BYTE_BUDGET: usize = 16 << 20;
/// Workers; they mostly wait for the kernel.
const MAX_WORKERS: usize = 4;

/// A message of a worker. Rows are indices into the list of PIDs.
enum WorkerResult {
    /// A worker and its TID.
    Started(usize, i32),
    /// A worker, its row, and the process without its command line and waits, which are read next.
    Begun(usize, usize, Box<Process>),
    Waits(usize, Fact<Waits>),
    Command(usize, usize, Fact<CommandLine>),
    Failed(usize, ReadError),
    Finished,
}

/// The work that all workers share. A worker may outlive the [`Host`], so it holds copies.
struct SnapshotJob {
    proc: PathBuf,
    clock: Clock,
    pid_ns: Option<NamespaceId>,
    pids: Vec<HostPid>,
    options: SnapshotOptions,
    next: AtomicUsize,
    /// Bytes of command lines read so far.
    bytes_read: AtomicUsize,
    /// Whether too much time went into waiting, so that nothing that may hang is read any more.
    out_of_time: AtomicBool,
}

impl Host {
    /// Takes a snapshot of these processes, in their order. One that no longer exists is
    /// [`ReadError::Gone`]; a command line that does not come in time is [`Fact::Denied`].
    pub fn snapshot(
        &self,
        pids: &[HostPid],
        options: SnapshotOptions,
    ) -> Vec<Result<Process, ReadError>> {
        let mut processes = self.snapshot_files(pids, options);
        if !options.waits.is_empty() {
            self.add_program_signals(processes.iter_mut().flatten());
        }
        processes
    }

    fn snapshot_files(
        &self,
        pids: &[HostPid],
        options: SnapshotOptions,
    ) -> Vec<Result<Process, ReadError>> {
        // (std's number of CPUs reads a dozen files; where there are fewer, these take turns.)
        let workers = MAX_WORKERS.min(1 + pids.len() / 32);
        let job = Arc::new(SnapshotJob {
            proc: self.proc_path(""),
            clock: self.clock,
            pid_ns: self.pid_ns,
            pids: pids.to_vec(),
            options,
            next: AtomicUsize::new(0),
            bytes_read: AtomicUsize::new(0),
            out_of_time: AtomicBool::new(false),
        });
        if !options.may_hang() && workers == 1 {
            let mut buffer = Vec::new();
            return (0..pids.len())
                .map(|row| job.begin(row, &mut buffer).map(|(process, _)| process))
                .collect();
        }
        Collector::new(job, workers).collect()
    }
}

/// Collects the results of the workers and replaces those that hang.
struct Collector {
    job: Arc<SnapshotJob>,
    sender: Sender<WorkerResult>,
    results: Receiver<WorkerResult>,
    rows: Vec<Option<Result<Process, ReadError>>>,
    /// For each worker the row whose command line it is reading, and since when.
    busy: Vec<Option<(usize, Instant)>>,
    /// For each worker whether it hangs.
    hung: Vec<bool>,
    /// For each worker how long it has waited for a CPU.
    cpu_waits: Vec<Option<CpuWait>>,
    working: usize,
    pending: usize,
    /// Time spent waiting for slow command lines.
    waited: Duration,
}

impl Collector {
    fn new(job: Arc<SnapshotJob>, workers: usize) -> Self {
        let (sender, results) = channel();
        let rows: Vec<_> = job.pids.iter().map(|_| None).collect();
        let mut collector = Self {
            job,
            sender,
            results,
            pending: rows.len(),
            rows,
            busy: Vec::new(),
            hung: Vec::new(),
            cpu_waits: Vec::new(),
            working: 0,
            waited: Duration::ZERO,
        };
        for _ in 0..workers {
            collector.spawn_worker();
        }
        collector
    }

    fn spawn_worker(&mut self) {
        let (job, sender, worker) = (self.job.clone(), self.sender.clone(), self.busy.len());
        // Signals must reach a thread that can first clean up: handled in a worker, one would stop or
        // end us with the terminal as a screen left it.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
        let spawned = std::thread::Builder::new()
            .stack_size(128 << 10)
            .spawn(move || job.run(worker, &sender));
        let _ = before.map(|before| before.thread_set_mask());
        if spawned.is_ok() {
            self.busy.push(None);
            self.hung.push(false);
            self.cpu_waits.push(None);
            self.working += 1;
        }
    }

    fn collect(mut self) -> Vec<Result<Process, ReadError>> {
        let mut checked = Instant::now();
        while self.pending > 0 && self.working > 0 {
            match self.results.recv_timeout(Duration::from_millis(10)) {
                // (A worker whose result is here does not hang, however late it is seen.)
                Ok(result) => {
                    self.record(result);
                    while let Ok(result) = self.results.try_recv() {
                        self.record(result);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if checked.elapsed() > Duration::from_millis(10) {
                checked = Instant::now();
                self.replace_hung_workers();
            }
        }
        // A row that no worker came to is read without its command line, which cannot hang.
        let mut buffer = Vec::new();
        let job = self.job.clone();
        self.rows
            .into_iter()
            .enumerate()
            .map(|(row, result)| {
                result.unwrap_or_else(|| {
                    job.begin(row, &mut buffer).map(|(mut process, _)| {
                        process.command = Fact::Denied;
                        process
                    })
                })
            })
            .collect()
    }

    fn record(&mut self, result: WorkerResult) {
        match result {
            WorkerResult::Started(worker, tid) => {
                self.cpu_waits[worker] = Some(CpuWait::new(getpid().as_raw(), tid));
            }
            WorkerResult::Begun(worker, row, process) => {
                self.rows[row] = Some(Ok(*process));
                self.busy[worker] = Some((row, Instant::now()));
            }
            WorkerResult::Waits(row, waits) => {
                if let Some(Ok(process)) = &mut self.rows[row] {
                    process.waits = waits;
                }
            }
            WorkerResult::Command(worker, row, command) => {
                if let Some(Ok(process)) = &mut self.rows[row] {
                    process.command = command;
                }
                let took = self.busy[worker].take().map_or(Duration::ZERO, |(_, s)| s.elapsed());
                if took > SLOW {
                    let extension = self.extension(worker);
                    self.count_wait(took.saturating_sub(extension));
                }
                if self.hung[worker] {
                    // It returned after all; its row no longer counted as pending.
                    self.hung[worker] = false;
                    self.working += 1;
                } else {
                    self.pending -= 1;
                }
            }
            WorkerResult::Failed(row, error) => {
                self.rows[row] = Some(Err(error));
                self.pending -= 1;
            }
            WorkerResult::Finished => self.working -= 1,
        }
    }

    fn count_wait(&mut self, took: Duration) {
        if took > SLOW {
            self.waited += took;
        }
        if self.waited > TOTAL_TIMEOUT {
            self.job.out_of_time.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the time that a worker has waited for a CPU since the last call.
    fn extension(&mut self, worker: usize) -> Duration {
        let wait = self.cpu_waits[worker].as_mut();
        wait.map_or(Duration::ZERO, CpuWait::extension)
    }

    fn hung_workers(&self) -> usize {
        self.hung.iter().filter(|hung| **hung).count()
    }

    fn replace_hung_workers(&mut self) {
        let out_of_time = self.job.out_of_time.load(Ordering::Relaxed);
        let is_patient = self.hung_workers() < MAX_PATIENT_HANGS && !out_of_time;
        let timeout = if is_patient { TIMEOUT } else { SHORT_TIMEOUT };
        for worker in 0..self.busy.len() {
            let Some((row, since)) = self.busy[worker] else { continue };
            if since.elapsed() > timeout && !self.hung[worker] {
                let extension = self.extension(worker);
                if !extension.is_zero() {
                    self.busy[worker] = Some((row, since + extension));
                    continue;
                }
                self.hung[worker] = true;
                self.working -= 1;
                self.pending -= 1;
                self.count_wait(timeout);
                if self.hung_workers() < MAX_HUNG {
                    self.spawn_worker();
                }
            }
        }
    }
}

impl SnapshotJob {
    fn run(&self, worker: usize, sender: &Sender<WorkerResult>) {
        let mut buffer = Vec::with_capacity(4096);
        let _ = sender.send(WorkerResult::Started(worker, gettid().as_raw()));
        loop {
            let row = self.next.fetch_add(1, Ordering::Relaxed);
            if row >= self.pids.len() {
                break;
            }
            let sent = match self.begin(row, &mut buffer) {
                Ok((process, handle)) => {
                    let alone = process.stat.num_threads <= 1;
                    let main = (process.status.clone(), process.stat.state);
                    let begun = sender.send(WorkerResult::Begun(worker, row, Box::new(process)));
                    // Sent before the command line, so that a process that makes that hang has its
                    // waits at least.
                    let waits = self.waits(&handle, &main, &mut buffer);
                    let sent = begun.and_then(|()| sender.send(WorkerResult::Waits(row, waits)));
                    let command = self.command(&handle, alone, &mut buffer);
                    sent.and_then(|()| sender.send(WorkerResult::Command(worker, row, command)))
                }
                Err(error) => sender.send(WorkerResult::Failed(row, error)),
            };
            if sent.is_err() {
                return;
            }
        }
        let _ = sender.send(WorkerResult::Finished);
    }

    /// Reads everything that cannot hang. The start time, read first, and the held handle ensure that
    /// all of it is of one process.
    fn begin(&self, row: usize, buffer: &mut Vec<u8>) -> Result<(Process, Handle), ReadError> {
        let pid = self.pids[row];
        let handle = Handle::new_with_root(self.proc.join(pid.to_string()))?;
        let stat = stat(&handle, buffer)?;
        let status = status(&handle, "status", buffer)?;
        let with_waits = !self.options.waits.is_empty();
        let exe = if self.options.exe || with_waits { exe(&self.proc, pid) } else { Fact::Absent };
        let threads = if self.options.threads { self.threads(&handle, buffer) } else { Vec::new() };
        let wchan = (with_waits && stat.state.is_uninterruptible())
            .then(|| read_at_once(handle.open_relative("wchan").ok()?, buffer, 256).ok())
            .flatten()
            .map(|()| buffer.clone());
        let with_command = self.options.command != CommandLimit::Nothing;
        let process = Process {
            id: ProcessId { pid, start: stat.start },
            times: self.times(&stat),
            pid_ns: self.pid_ns(pid, &handle, &status),
            stat,
            status,
            command: if with_command { Fact::Denied } else { Fact::Absent },
            exe,
            waits: if with_waits { Fact::Denied } else { Fact::Absent },
            wchan,
            asked: None,
            threads,
        };
        Ok((process, handle))
    }

    /// Reads the link by PID, which is one call. It is this process's as long as the handle still
    /// answers, which shows in everything that is read through it afterwards.
    fn pid_ns(&self, pid: HostPid, handle: &Handle, status: &Status) -> Option<NamespaceId> {
        let link = std::fs::read_link(self.proc.join(format!("{pid}/ns/pid")));
        match link.map_err(ReadError::from) {
            Ok(link) => NamespaceId::parse(link.as_os_str().as_bytes()),
            Err(ReadError::Denied) => self.pid_ns.filter(|_| status.nspid.len() == 1),
            Err(_) => namespace(handle, "pid").ok(),
        }
    }

    fn times(&self, stat: &Stat) -> Times {
        Times {
            started: self.clock.started(stat.start),
            cpu: self.clock.ticks(stat.utime.saturating_add(stat.stime)),
        }
    }

    fn threads(&self, handle: &Handle, buffer: &mut Vec<u8>) -> Vec<Thread> {
        let read = |tid: i32, buffer: &mut Vec<u8>| -> Result<Thread, ReadError> {
            read_at_once(handle.open_relative(format!("task/{tid}/stat"))?, buffer, 1 << 14)?;
            let stat = Stat::parse(buffer)?;
            let status = status(handle, &format!("task/{tid}/status"), buffer)?;
            Ok(Thread { times: self.times(&stat), stat, status })
        };
        let ids = thread_ids(handle).unwrap_or_default();
        ids.into_iter().filter_map(|tid| read(tid, buffer).ok()).collect()
    }

    fn waits(
        &self,
        handle: &Handle,
        (main, state): &(Status, ProcessState),
        buffer: &mut Vec<u8>,
    ) -> Fact<Waits> {
        if self.options.waits.is_empty() {
            return Fact::Absent;
        }
        if self.out_of_time.load(Ordering::Relaxed) {
            return Fact::Denied;
        }
        let SnapshotOptions { waits: signals, threads, .. } = self.options;
        match waits(handle, main, state.is_zombie(), signals, threads, buffer) {
            Ok(waits) => Fact::Known(waits),
            Err(_) => Fact::Denied,
        }
    }

    fn command(&self, handle: &Handle, alone: bool, buffer: &mut Vec<u8>) -> Fact<CommandLine> {
        let CommandLimit::Bytes(limit) = self.options.command else { return Fact::Absent };
        if self.out_of_time.load(Ordering::Relaxed) {
            return Fact::Denied;
        }
        let over_budget = self.bytes_read.load(Ordering::Relaxed) > BYTE_BUDGET;
        let limit = if over_budget { limit.min(SCREEN_BYTES) } else { limit };
        let read = |path: &str, buffer: &mut Vec<u8>| {
            read_at_once(handle.open_relative(path)?, buffer, limit.saturating_add(1))
        };
        if let Err(error) = read("cmdline", buffer) {
            return if error == ReadError::Denied { Fact::Denied } else { Fact::Absent };
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

/// Reads the link by PID, which is one call; see [`SnapshotJob::pid_ns`].
fn exe(proc: &Path, pid: HostPid) -> Fact<Vec<u8>> {
    match std::fs::read_link(proc.join(format!("{pid}/exe"))).map_err(ReadError::from) {
        Ok(path) => Fact::Known(path.into_os_string().into_vec()),
        Err(ReadError::Denied) => Fact::Denied,
        Err(_) => Fact::Absent,
    }
}
