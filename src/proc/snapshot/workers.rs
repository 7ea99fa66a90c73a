//! The threads that read the facts of a snapshot, some of which a process can make hang: a thread that does not
//! return in time is left behind, and replaced.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::{getpid, gettid};

use super::{SnapshotJob, exe};
use crate::model::process::{Fact, Process};
use crate::proc::read::ReadError;
use crate::proc::signal_waiters::MainThread;
use crate::sys::cpu_wait::CpuWait;
use crate::sys::parallel;

/// Time for one command line, after which its row gets `?`.
const TIMEOUT: Duration = Duration::from_millis(600);
/// Number of hung workers after which the timeout is shorter: a hundred do not take a hundred times as long.
const MAX_PATIENT_HANGS: usize = 2;
const SHORT_TIMEOUT: Duration = Duration::from_millis(30);
/// Number of hung workers after which no more are replaced.
const MAX_HUNG: usize = 24;
/// Reading one takes microseconds: if it takes this long, the process made it wait.
const SLOW: Duration = Duration::from_millis(50);
/// Limit of all that waiting together, in case a container makes it wait for each of thousands.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(2);
/// A row of the snapshot: its index in the list of PIDs, and the result.
type SnapshotRow = (usize, Result<Arc<Process>, ReadError>);

/// The state of a worker, locked for moments only: by it for each row, and by the collector now and then.
#[derive(Default)]
struct WorkerRows {
    /// The rows that it has read. The last one lacks its waits and its command line while `since` is set.
    rows: Vec<SnapshotRow>,
    /// The start of its current read that may hang.
    since: Option<Instant>,
    finished: bool,
    /// How long it has waited for a CPU.
    cpu_wait: Option<CpuWait>,
}

impl WorkerRows {
    /// Returns the process of the row that was read last.
    fn last(&mut self) -> Option<&mut Process> {
        Arc::get_mut(self.rows.last_mut()?.1.as_mut().ok()?)
    }

    /// Returns the time that the worker has waited for a CPU since the last call.
    fn extension(&mut self) -> Duration {
        self.cpu_wait.as_mut().map_or(Duration::ZERO, CpuWait::extension)
    }
}

/// The collector's record of a worker.
#[derive(Default)]
struct Worker {
    progress: Arc<Mutex<WorkerRows>>,
    /// The number of rows at which it hung: it hangs until it has more.
    hung: Option<usize>,
}

impl Worker {
    fn lock(&self) -> MutexGuard<'_, WorkerRows> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the workers, and replaces those that hang.
pub(super) struct Collector {
    job: Arc<SnapshotJob>,
    workers: Vec<Worker>,
}

impl Collector {
    pub(super) fn new(job: SnapshotJob, workers: usize) -> Self {
        let mut collector = Self { job: Arc::new(job), workers: Vec::new() };
        for _ in 0..workers {
            collector.spawn_worker();
        }
        collector
    }

    fn spawn_worker(&mut self) {
        let (job, worker, collector) =
            (self.job.clone(), Worker::default(), std::thread::current());
        let progress = worker.progress.clone();
        let work = move || {
            job.run(&progress);
            collector.unpark();
        };
        let thread = std::thread::Builder::new().stack_size(128 << 10);
        if parallel::with_signals_blocked(|| thread.spawn(work)).is_ok() {
            self.workers.push(worker);
        }
    }

    pub(super) fn collect(mut self) -> Vec<Result<Arc<Process>, ReadError>> {
        while self.is_working() {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let mut rows: Vec<_> = self.job.pids.iter().map(|_| None).collect();
        for worker in &self.workers {
            for (row, result) in std::mem::take(&mut worker.lock().rows) {
                rows[row] = Some(result);
            }
        }
        // A row that no worker came to is read without its command line, which cannot hang.
        let mut buffer = Vec::new();
        let mut read = |row| {
            let (mut process, handle) = self.job.begin(row, &mut buffer)?;
            process.command = Fact::Denied;
            // (Nothing is known to hang where there was no thread that could.)
            if self.workers.is_empty() {
                let main = MainThread::of(&process);
                process.waits = self.job.waits(&handle, main, &mut buffer);
                if self.job.options.needs_exe(&process.waits) {
                    process.exe = exe(&self.job.proc, process.id.pid);
                }
            }
            Ok(Arc::new(process))
        };
        let rows = rows.into_iter().enumerate();
        rows.map(|(row, result)| result.unwrap_or_else(|| read(row))).collect()
    }

    /// Whether a worker that does not hang still reads. Replaces those that do.
    fn is_working(&mut self) -> bool {
        let mut working = false;
        for index in 0..self.workers.len() {
            let timeout = self.timeout();
            let worker = &self.workers[index];
            let mut progress = worker.lock();
            let (rows, finished) = (progress.rows.len(), progress.finished);
            let still_hangs = worker.hung == Some(rows) && progress.since.is_some();
            let is_overdue = |since: &Instant| !still_hangs && since.elapsed() > timeout;
            let overdue = progress.since.filter(is_overdue);
            let extension = overdue.map_or(Duration::ZERO, |_| progress.extension());
            if let Some(since) = overdue.filter(|_| !extension.is_zero()) {
                progress.since = Some(since + extension);
            }
            let hangs = still_hangs || (overdue.is_some() && extension.is_zero());
            drop(progress);
            self.workers[index].hung = hangs.then_some(rows);
            if hangs && !still_hangs {
                self.job.count_wait(self.timeout());
                if self.hung_workers() < MAX_HUNG {
                    self.spawn_worker();
                    working = true;
                }
            }
            working |= !hangs && !finished;
        }
        working
    }

    fn hung_workers(&self) -> usize {
        self.workers.iter().filter(|worker| worker.hung.is_some()).count()
    }

    fn timeout(&self) -> Duration {
        let is_patient = self.hung_workers() < MAX_PATIENT_HANGS && !self.job.is_out_of_time();
        if is_patient { TIMEOUT } else { SHORT_TIMEOUT }
    }
}

impl SnapshotJob {
    fn run(&self, progress: &Mutex<WorkerRows>) {
        let lock = || progress.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = Vec::with_capacity(4096);
        lock().cpu_wait = Some(CpuWait::new(getpid().as_raw(), gettid().as_raw()));
        loop {
            let row = self.next.fetch_add(1, Ordering::Relaxed);
            if row >= self.pids.len() {
                break;
            }
            let (process, handle) = match self.begin(row, &mut buffer) {
                Ok(begun) => begun,
                Err(error) => {
                    lock().rows.push((row, Err(error)));
                    continue;
                }
            };
            let main = MainThread::of(&process);
            let start = Instant::now();
            {
                let mut progress = lock();
                progress.rows.push((row, Ok(Arc::new(process))));
                progress.since = Some(start);
            }
            // Kept before the command line is read, so that a process that makes that hang has its
            // waits at least.
            let waits = self.waits(&handle, main, &mut buffer);
            let exe = self.options.needs_exe(&waits).then(|| exe(&self.proc, self.pids[row]));
            if let Some(process) = lock().last() {
                process.waits = waits;
                if let Some(exe) = exe {
                    process.exe = exe;
                }
            }
            let command = self.command(&handle, main.threads <= 1, &mut buffer);
            {
                let mut progress = lock();
                progress.since = None;
                if let Some(process) = progress.last() {
                    process.command = command;
                }
            }
            let took = start.elapsed();
            if took > SLOW {
                self.count_wait(took.saturating_sub(lock().extension()));
            }
        }
        lock().finished = true;
    }

    /// Whether processes have made the snapshot wait for too long.
    pub(super) fn is_out_of_time(&self) -> bool {
        u128::from(self.waited.load(Ordering::Relaxed)) > TOTAL_TIMEOUT.as_millis()
    }

    fn count_wait(&self, took: Duration) {
        if took > SLOW {
            let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            self.waited.fetch_add(millis, Ordering::Relaxed);
        }
    }
}
