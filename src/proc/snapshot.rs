//! Chosen processes, deeply, frozen in time: owned values and no open descriptor. Reading a command
//! line can be made to hang by its process (the kernel waits for that process's memory), so it is
//! done by workers that are left behind when they do not come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use procfs::process::Process as Handle;
use rustix::fs::{OFlags, readlinkat};

use super::host::{Clock, read_at_once};
use super::survey::{stat, status, thread_ids};
use super::{Host, ReadError};
use crate::model::pid::{HostPid, ProcessId};
use crate::model::process::{CommandLine, Fact, Process, Thread, Times};
use crate::model::status::Stat;

/// How much of each command line is wanted, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandLimit {
    /// None of it.
    Nothing,
    /// At most this much.
    Bytes(usize),
}

impl CommandLimit {
    /// More than execve(2) lets anybody pass (three quarters of the stack limit's hard 8 MiB, as
    /// the kernel caps it), so only a process that moved its own bounds is cut.
    pub const WHOLE: Self = Self::Bytes(8 << 20);
    /// More than any terminal shows.
    pub const SCREEN: Self = Self::Bytes(16 << 10);
}

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
pub struct Facts {
    /// `cmdline`.
    pub command: CommandLimit,
    /// `exe`.
    pub exe: bool,
    /// `task/*`.
    pub threads: ThreadsToo,
}

/// How long one command line may take before its row gets `?`; the first few.
const PATIENCE: Duration = Duration::from_millis(600);
/// And after that many have not come back, so that a hundred of them cost no hundredfold.
const PATIENCE_LOST: Duration = Duration::from_millis(30);
const MAX_LOST: usize = 24;
/// Readers at work; they mostly wait for the kernel.
const MAX_WORKERS: usize = 4;
const FEW_LOST: usize = 2;

enum News {
    /// A process without its command line, which is being read now.
    Begun(usize, usize, Box<Process>),
    Command(usize, usize, Fact<CommandLine>),
    Failed(usize, ReadError),
    Finished,
}

struct Work {
    handles: Handles,
    facts: Facts,
    next: AtomicUsize,
}

/// What is needed to open `/proc/PID` in a worker that may outlive the host value.
struct Handles {
    proc: std::path::PathBuf,
    clock: Clock,
    pids: Vec<HostPid>,
}

impl Host {
    /// Takes a snapshot of these processes, in their order. Those that are gone give
    /// [`ReadError::Gone`]; a command line that does not come in time is [`Fact::Denied`].
    pub fn snapshot(&self, pids: &[HostPid], facts: Facts) -> Vec<Result<Process, ReadError>> {
        // (std's count of cores reads a dozen files; where there are fewer, these take turns.)
        let workers = MAX_WORKERS.min(1 + pids.len() / 32);
        let work = Arc::new(Work {
            handles: Handles { proc: self.proc_path(""), clock: self.clock, pids: pids.to_vec() },
            facts,
            next: AtomicUsize::new(0),
        });
        if facts.command == CommandLimit::Nothing && workers == 1 {
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
    sender: Sender<News>,
    news: Receiver<News>,
    rows: Vec<Option<Result<Process, ReadError>>>,
    /// For each worker the row whose command line it is reading, and since when.
    busy: Vec<Option<(usize, Instant)>>,
    lost: Vec<bool>,
    working: usize,
    unsettled: usize,
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
        };
        for _ in 0..workers {
            collector.hire();
        }
        collector
    }

    fn hire(&mut self) {
        let (work, sender, me) = (self.work.clone(), self.sender.clone(), self.busy.len());
        let spawned =
            std::thread::Builder::new().stack_size(128 << 10).spawn(move || work.run(me, &sender));
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

    fn note(&mut self, news: News) {
        match news {
            News::Begun(worker, row, process) => {
                self.rows[row] = Some(Ok(*process));
                self.busy[worker] = Some((row, Instant::now()));
            }
            News::Command(worker, row, command) => {
                if let Some(Ok(process)) = &mut self.rows[row] {
                    process.command = command;
                }
                self.busy[worker] = None;
                if self.lost[worker] {
                    // It came back after all; its row was settled when it was given up.
                    self.lost[worker] = false;
                    self.working += 1;
                } else {
                    self.unsettled -= 1;
                }
            }
            News::Failed(row, error) => {
                self.rows[row] = Some(Err(error));
                self.unsettled -= 1;
            }
            News::Finished => self.working -= 1,
        }
    }

    fn give_up_on_the_hanging(&mut self) {
        let lost = self.lost.iter().filter(|lost| **lost).count();
        let patience = if lost < FEW_LOST { PATIENCE } else { PATIENCE_LOST };
        for worker in 0..self.busy.len() {
            let overdue = self.busy[worker].is_some_and(|(_, since)| since.elapsed() > patience);
            if overdue && !self.lost[worker] {
                self.lost[worker] = true;
                self.working -= 1;
                self.unsettled -= 1;
                if self.lost.iter().filter(|lost| **lost).count() < MAX_LOST {
                    self.hire();
                }
            }
        }
    }
}

impl Work {
    fn run(&self, me: usize, sender: &Sender<News>) {
        let mut buffer = Vec::with_capacity(4096);
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.handles.pids.len() {
                break;
            }
            let sent = match self.begin(index, &mut buffer) {
                Ok((process, handle)) => {
                    let alone = process.stat.num_threads <= 1;
                    let begun = sender.send(News::Begun(me, index, Box::new(process)));
                    let command = self.command(&handle, alone, &mut buffer);
                    begun.and_then(|()| sender.send(News::Command(me, index, command)))
                }
                Err(error) => sender.send(News::Failed(index, error)),
            };
            if sent.is_err() {
                return;
            }
        }
        let _ = sender.send(News::Finished);
    }

    /// Everything that cannot block. The start time, read first, and the held handle make all of it
    /// one process's.
    fn begin(&self, index: usize, buffer: &mut Vec<u8>) -> Result<(Process, Handle), ReadError> {
        let pid = self.handles.pids[index];
        let handle = Handle::new_with_root(self.handles.proc.join(pid.to_string()))?;
        let stat = stat(&handle, buffer)?;
        let status = status(&handle, "status", buffer)?;
        let exe = if self.facts.exe { exe(&handle) } else { Fact::Absent };
        let threads = match self.facts.threads {
            ThreadsToo::No => Vec::new(),
            ThreadsToo::Yes => self.threads(&handle, buffer),
        };
        let id = ProcessId { pid, start: stat.start };
        let times = self.times(&stat);
        let command = Fact::Denied;
        Ok((Process { id, times, stat, status, command, exe, threads }, handle))
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

    fn command(&self, handle: &Handle, alone: bool, buffer: &mut Vec<u8>) -> Fact<CommandLine> {
        let CommandLimit::Bytes(limit) = self.facts.command else { return Fact::Absent };
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
        let command = CommandLine::parse(buffer, cut);
        // A long line must not stay behind in every worker.
        if buffer.capacity() > 1 << 16 {
            *buffer = Vec::with_capacity(4096);
        }
        Fact::Known(command)
    }
}

fn exe(handle: &Handle) -> Fact<Vec<u8>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let link = handle
        .open_relative_flags("exe", flags)
        .map_err(ReadError::from)
        .and_then(|link| Ok(readlinkat(&link, c"", Vec::new())?));
    match link {
        Ok(path) => Fact::Known(path.into_bytes()),
        Err(ReadError::Denied) => Fact::Denied,
        Err(_) => Fact::Absent,
    }
}
