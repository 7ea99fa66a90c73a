//! Chosen processes, deeply, frozen in time: owned values and no open descriptor. Reading a command
//! line can be made to hang by its process (the kernel waits for that process's memory), so it is
//! done by workers that are left behind when they do not come back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow};
use procfs::process::Process as Handle;
use rustix::fs::{CWD, readlinkat};

use super::host::{Clock, read_at_once};
use super::signal_waiters::waits;
use super::survey::{namespace, stat, status, thread_ids};
use super::{Host, ReadError};
use crate::model::namespace::NamespaceId;
use crate::model::pid::{HostPid, ProcessId};
use crate::model::process::{CommandLine, Fact, Process, Thread, Times};
use crate::model::signal::SignalSet;
use crate::model::signal_waiters::Waits;
use crate::model::stat::{ProcessState, Stat};
use crate::model::status::Status;

/// How much of each command line is wanted, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandLimit {
    /// None of it.
    Nothing,
    /// At most this much.
    Bytes(usize),
}

impl CommandLimit {
    /// As much as execve(2) lets anybody pass (three quarters of `_STK_LIM`, fs/exec.c), so only a
    /// process that moved its own bounds is cut.
    pub const WHOLE: Self = Self::Bytes(6 << 20);
    /// More than any terminal shows.
    pub const SCREEN: Self = Self::Bytes(SCREEN_BYTES);
}

const SCREEN_BYTES: usize = 16 << 10;

/// Whether threads are read too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadsToo {
    /// They are not.
    No,
    /// They are.
    Yes,
}

/// Which facts a snapshot has beside `stat` and `status`.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotOptions {
    /// `cmdline`.
    pub command: CommandLimit,
    /// `exe`.
    pub exe: bool,
    /// `task/*`.
    pub threads: ThreadsToo,
    /// Who takes these signals.
    pub waits: SignalSet,
}

impl SnapshotOptions {
    /// `stat` and `status` alone.
    pub const BARE: Self = Self {
        command: CommandLimit::Nothing,
        exe: false,
        threads: ThreadsToo::No,
        waits: SignalSet::EMPTY,
    };

    /// Whether reading them may be made to hang.
    fn may_hang(self) -> bool {
        self.command != CommandLimit::Nothing || !self.waits.is_empty()
    }
}

/// How long one command line may take before its row gets `?`; the first few.
const PATIENCE: Duration = Duration::from_millis(600);
/// And after that many have not come back, so that a hundred of them cost no hundredfold.
const PATIENCE_LOST: Duration = Duration::from_millis(30);
const MAX_LOST: usize = 24;
/// A reader takes microseconds for one: what takes this long was made to wait.
const SLOW: Duration = Duration::from_millis(50);
/// And this is what all that waiting may take, lest a container make us wait for each of thousands.
const PATIENCE_IN_ALL: Duration = Duration::from_secs(2);
/// What the command lines of one snapshot may take of memory, in bytes, before the rest is cut to
/// what a screen shows.
const PURSE: usize = 16 << 20;
/// Readers at work; they mostly wait for the kernel.
const MAX_WORKERS: usize = 4;
const FEW_LOST: usize = 2;

enum WorkerResult {
    /// A process without its command line and waits, which are being read now.
    Begun(usize, usize, Box<Process>),
    Waits(usize, Fact<Waits>),
    Command(usize, usize, Fact<CommandLine>),
    Failed(usize, ReadError),
    Finished,
}

struct Work {
    handles: Handles,
    facts: SnapshotOptions,
    next: AtomicUsize,
    /// Bytes of command lines read so far.
    spent: AtomicUsize,
    /// No more command lines: too much time has gone into waiting for them.
    hurry: AtomicBool,
}

/// What is needed to open `/proc/PID` in a worker that may outlive the host value.
struct Handles {
    proc: std::path::PathBuf,
    clock: Clock,
    pid_ns: Option<NamespaceId>,
    pids: Vec<HostPid>,
}

impl Host {
    /// Takes a snapshot of these processes, in their order. Those that are gone give
    /// [`ReadError::Gone`]; a command line that does not come in time is [`SectionFact::Denied`].
    pub fn snapshot(
        &self,
        pids: &[HostPid],
        facts: SnapshotOptions,
    ) -> Vec<Result<Process, ReadError>> {
        // (std's count of cores reads a dozen files; where there are fewer, these take turns.)
        let workers = MAX_WORKERS.min(1 + pids.len() / 32);
        let work = Arc::new(Work {
            handles: Handles {
                proc: self.proc_path(""),
                clock: self.clock,
                pid_ns: self.pid_ns,
                pids: pids.to_vec(),
            },
            facts,
            next: AtomicUsize::new(0),
            spent: AtomicUsize::new(0),
            hurry: AtomicBool::new(false),
        });
        if !facts.may_hang() && workers == 1 {
            let mut buffer = Vec::new();
            return (0..pids.len())
                .map(|index| work.begin(index, &mut buffer).map(|(process, _)| process))
                .collect();
        }
        Collector::new(work, workers).collect()
    }
}

/// Gathers what the workers report and replaces those that hang.
struct Collector {
    work: Arc<Work>,
    sender: Sender<WorkerResult>,
    news: Receiver<WorkerResult>,
    rows: Vec<Option<Result<Process, ReadError>>>,
    /// For each worker the row whose command line it is reading, and since when.
    busy: Vec<Option<(usize, Instant)>>,
    lost: Vec<bool>,
    working: usize,
    unsettled: usize,
    /// How long we have waited for those that were slow.
    waited: Duration,
}

impl Collector {
    fn new(work: Arc<Work>, workers: usize) -> Self {
        let (sender, news) = channel();
        let rows: Vec<_> = work.handles.pids.iter().map(|_| None).collect();
        let mut collector = Self {
            work,
            sender,
            news,
            unsettled: rows.len(),
            rows,
            busy: Vec::new(),
            lost: Vec::new(),
            working: 0,
            waited: Duration::ZERO,
        };
        for _ in 0..workers {
            collector.hire();
        }
        collector
    }

    fn hire(&mut self) {
        let (work, sender, me) = (self.work.clone(), self.sender.clone(), self.busy.len());
        // Signals are for those who know what has to be put in order first: one that came to a
        // worker would stop or end us with the terminal as a screen left it.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
        let spawned =
            std::thread::Builder::new().stack_size(128 << 10).spawn(move || work.run(me, &sender));
        let _ = before.map(|before| before.thread_set_mask());
        if spawned.is_ok() {
            self.busy.push(None);
            self.lost.push(false);
            self.working += 1;
        }
    }

    fn collect(mut self) -> Vec<Result<Process, ReadError>> {
        let mut checked = Instant::now();
        while self.unsettled > 0 && self.working > 0 {
            match self.news.recv_timeout(Duration::from_millis(10)) {
                Ok(news) => self.note(news),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if checked.elapsed() > Duration::from_millis(10) {
                checked = Instant::now();
                self.give_up_on_the_hanging();
            }
        }
        // Whatever no worker came to is read without its command line, which cannot hang.
        let mut buffer = Vec::new();
        let work = self.work.clone();
        self.rows
            .into_iter()
            .enumerate()
            .map(|(index, row)| {
                row.unwrap_or_else(|| {
                    work.begin(index, &mut buffer).map(|(mut process, _)| {
                        process.command = Fact::Denied;
                        process
                    })
                })
            })
            .collect()
    }

    fn note(&mut self, news: WorkerResult) {
        match news {
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
                self.wait_for(took);
                if self.lost[worker] {
                    // It came back after all; its row was settled when it was given up.
                    self.lost[worker] = false;
                    self.working += 1;
                } else {
                    self.unsettled -= 1;
                }
            }
            WorkerResult::Failed(row, error) => {
                self.rows[row] = Some(Err(error));
                self.unsettled -= 1;
            }
            WorkerResult::Finished => self.working -= 1,
        }
    }

    fn wait_for(&mut self, took: Duration) {
        if took > SLOW {
            self.waited += took;
        }
        if self.waited > PATIENCE_IN_ALL {
            self.work.hurry.store(true, Ordering::Relaxed);
        }
    }

    fn give_up_on_the_hanging(&mut self) {
        let lost = self.lost.iter().filter(|lost| **lost).count();
        let hurry = self.work.hurry.load(Ordering::Relaxed);
        let patience = if lost < FEW_LOST && !hurry { PATIENCE } else { PATIENCE_LOST };
        for worker in 0..self.busy.len() {
            let overdue = self.busy[worker].is_some_and(|(_, since)| since.elapsed() > patience);
            if overdue && !self.lost[worker] {
                self.lost[worker] = true;
                self.working -= 1;
                self.unsettled -= 1;
                self.wait_for(patience);
                if self.lost.iter().filter(|lost| **lost).count() < MAX_LOST {
                    self.hire();
                }
            }
        }
    }
}

impl Work {
    fn run(&self, me: usize, sender: &Sender<WorkerResult>) {
        let mut buffer = Vec::with_capacity(4096);
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.handles.pids.len() {
                break;
            }
            let sent = match self.begin(index, &mut buffer) {
                Ok((process, handle)) => {
                    let alone = process.stat.num_threads <= 1;
                    let main = (process.status.clone(), process.stat.state);
                    let begun = sender.send(WorkerResult::Begun(me, index, Box::new(process)));
                    // Told first, so that one that hangs in its command line has this at least.
                    let waits = self.waits(&handle, &main, &mut buffer);
                    let told = begun.and_then(|()| sender.send(WorkerResult::Waits(index, waits)));
                    let command = self.command(&handle, alone, &mut buffer);
                    told.and_then(|()| sender.send(WorkerResult::Command(me, index, command)))
                }
                Err(error) => sender.send(WorkerResult::Failed(index, error)),
            };
            if sent.is_err() {
                return;
            }
        }
        let _ = sender.send(WorkerResult::Finished);
    }

    /// Everything that cannot block. The start time, read first, and the held handle make all of it
    /// one process's.
    fn begin(&self, index: usize, buffer: &mut Vec<u8>) -> Result<(Process, Handle), ReadError> {
        let pid = self.handles.pids[index];
        let handle = Handle::new_with_root(self.handles.proc.join(pid.to_string()))?;
        let stat = stat(&handle, buffer)?;
        let status = status(&handle, "status", buffer)?;
        let asked = !self.facts.waits.is_empty();
        let exe = if self.facts.exe || asked { exe(&self.handles.proc, pid) } else { Fact::Absent };
        let threads = match self.facts.threads {
            ThreadsToo::No => Vec::new(),
            ThreadsToo::Yes => self.threads(&handle, buffer),
        };
        let id = ProcessId { pid, start: stat.start };
        let times = self.times(&stat);
        let wchan = (asked && stat.state.is_uninterruptible())
            .then(|| read_at_once(handle.open_relative("wchan").ok()?, buffer, 256).ok())
            .flatten()
            .map(|()| buffer.clone());
        let command =
            if self.facts.command == CommandLimit::Nothing { Fact::Absent } else { Fact::Denied };
        let waits = if asked { Fact::Denied } else { Fact::Absent };
        let pid_ns = self.pid_ns(pid, &handle, &status);
        let process =
            Process { id, times, stat, status, pid_ns, command, exe, waits, wchan, threads };
        Ok((process, handle))
    }

    /// The link by number is one call, and the number this process's own as long as the handle still
    /// answers, which what is read through it afterwards shows.
    fn pid_ns(&self, pid: HostPid, handle: &Handle, status: &Status) -> Option<NamespaceId> {
        let handles = &self.handles;
        let link = readlinkat(CWD, handles.proc.join(format!("{pid}/ns/pid")), Vec::new());
        match link.map_err(ReadError::from) {
            Ok(link) => NamespaceId::parse(link.as_bytes()),
            Err(ReadError::Denied) => handles.pid_ns.filter(|_| status.nspid.len() == 1),
            Err(_) => namespace(handle, "pid").ok(),
        }
    }

    fn times(&self, stat: &Stat) -> Times {
        let clock = self.handles.clock;
        Times {
            started: clock.started(stat.start),
            cpu: clock.ticks(stat.utime.saturating_add(stat.stime)),
        }
    }

    fn threads(&self, handle: &Handle, buffer: &mut Vec<u8>) -> Vec<Thread> {
        let read = |tid: i32, buffer: &mut Vec<u8>| -> Result<Thread, ReadError> {
            read_at_once(handle.open_relative(format!("task/{tid}/stat"))?, buffer, 1 << 14)?;
            let stat =
                Stat::parse(buffer).map_err(|broken| ReadError::Broken(broken.to_string()))?;
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
        if self.facts.waits.is_empty() {
            return Fact::Absent;
        }
        if self.hurry.load(Ordering::Relaxed) {
            return Fact::Denied;
        }
        let every = self.facts.threads == ThreadsToo::Yes;
        match waits(handle, main, state.is_zombie(), self.facts.waits, every, buffer) {
            Ok(waits) => Fact::Known(waits),
            Err(_) => Fact::Denied,
        }
    }

    fn command(&self, handle: &Handle, alone: bool, buffer: &mut Vec<u8>) -> Fact<CommandLine> {
        let CommandLimit::Bytes(limit) = self.facts.command else { return Fact::Absent };
        if self.hurry.load(Ordering::Relaxed) {
            return Fact::Denied;
        }
        let poor = self.spent.load(Ordering::Relaxed) > PURSE;
        let limit = if poor { limit.min(SCREEN_BYTES) } else { limit };
        let read = |path: &str, buffer: &mut Vec<u8>| {
            read_at_once(handle.open_relative(path)?, buffer, limit.saturating_add(1))
        };
        if let Err(error) = read("cmdline", buffer) {
            return if error == ReadError::Denied { Fact::Denied } else { Fact::Absent };
        }
        if buffer.is_empty() && !alone {
            // The main thread has gone, or never had a line; a living thread may still have it.
            for tid in thread_ids(handle).unwrap_or_default().into_iter().skip(1).take(4) {
                if read(&format!("task/{tid}/cmdline"), buffer).is_ok() && !buffer.is_empty() {
                    break;
                }
            }
        }
        let cut = buffer.len() > limit;
        buffer.truncate(limit);
        self.spent.fetch_add(buffer.len(), Ordering::Relaxed);
        // A long line must not stay behind in every worker.
        let bytes = if buffer.capacity() > 1 << 16 {
            std::mem::replace(buffer, Vec::with_capacity(4096))
        } else {
            buffer.clone()
        };
        Fact::Known(CommandLine::parse(bytes, cut))
    }
}

/// One call, by number; whose it was shows in what is read through the handle afterwards.
fn exe(proc: &Path, pid: HostPid) -> Fact<Vec<u8>> {
    match readlinkat(CWD, proc.join(format!("{pid}/exe")), Vec::new()).map_err(ReadError::from) {
        Ok(path) => Fact::Known(path.into_bytes()),
        Err(ReadError::Denied) => Fact::Denied,
        Err(_) => Fact::Absent,
    }
}
