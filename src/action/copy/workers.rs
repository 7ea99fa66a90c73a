//! The worker pool. One thread walks the directories; several copy the files in them, since most of the
//! time of a small file is spent waiting. They are started for the first full batch: a small source needs none,
//! and a copy may have thousands of small sources.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::context::CopyContext;
use super::create::copy_file;
use super::metadata::{DroppedAttribute, Metadata, apply_metadata};
use super::sources::CopySource;
use super::write::{TargetDir, WriteOutcome};
use crate::error::Error;

/// The number of batches that wait for a worker. Each file in them is open.
const QUEUE: usize = 4;
/// The number of files in a batch: small files cost less than handing them over.
const BATCH_FILES: usize = 32;
/// The number of bytes from which a batch is full.
const BATCH_BYTES: u64 = 1 << 20;
/// The number of workers: more gained nothing where it was measured.
const MAX_WORKERS: usize = 4;

/// A regular file to copy, under its name.
pub struct FileTask<'a> {
    /// The file.
    pub entry: CopySource,
    /// The directory that the copy goes to.
    pub dir: Arc<PendingDir<'a>>,
}

/// Files for one worker.
type Batch<'a> = Vec<FileTask<'a>>;

/// The state that the threads of one copy share.
pub struct WorkerPool<'a> {
    context: &'a CopyContext<'a>,
    failure: Mutex<Option<Error>>,
    has_failed: AtomicBool,
}

impl WorkerPool<'_> {
    /// Whether a thread has failed, so that the others stop.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Remembers the first error.
    fn record(&self, outcome: Result<(), Error>) {
        if let Err(error) = outcome {
            self.has_failed.store(true, Ordering::Relaxed);
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }

    /// Copies batch after batch until there are no more. After a failure the batches are only taken, so
    /// that the walk does not wait forever to hand one over.
    fn work(&self, batches: &Mutex<Receiver<Batch<'_>>>) {
        loop {
            let next = batches.lock().map(|batches| batches.recv());
            let Ok(Ok(batch)) = next else { return };
            self.copy(batch);
        }
    }

    fn copy(&self, batch: Batch<'_>) {
        for FileTask { entry, dir } in batch {
            if self.has_failed() {
                break;
            }
            let copied = copy_file(self.context, &entry, &dir.target).map(drop);
            self.record(self.context.member(copied));
        }
    }
}

/// The queue of the workers, which is filled by one thread.
pub struct WorkQueue<'a, 's> {
    batch: Batch<'a>,
    bytes: u64,
    /// To the workers.
    batches: SyncSender<Batch<'a>>,
    /// Starts the workers; returns whether there is one.
    start: &'s dyn Fn() -> bool,
    has_workers: bool,
    pool: &'a WorkerPool<'a>,
}

impl<'a> WorkQueue<'a, '_> {
    /// Adds a file; waits while the queue is full.
    pub fn push(&mut self, task: FileTask<'a>) {
        self.bytes += task.entry.node.attributes.size;
        self.batch.push(task);
        if self.batch.len() >= BATCH_FILES || self.bytes >= BATCH_BYTES {
            self.has_workers = self.has_workers || (self.start)();
            self.flush();
        }
    }

    /// Hands over the files that are left. Where no thread was started, or could be, they are copied here.
    pub fn flush(&mut self) {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        match self.has_workers {
            // (The workers end only after this sender.)
            true => drop(self.batches.send(batch)),
            false => self.pool.copy(batch),
        }
    }
}

/// Runs `walk` in this thread with a queue that workers empty; returns after the last of them.
///
/// # Errors
/// The first error of the walk or a worker.
pub fn with_workers<'a>(
    context: &'a CopyContext<'a>,
    walk: impl for<'p> FnOnce(&'p WorkerPool<'a>, &mut WorkQueue<'p, '_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let pool =
        WorkerPool { context, failure: Mutex::default(), has_failed: AtomicBool::new(false) };
    let (batches, receiver) = sync_channel(QUEUE);
    let receiver = Mutex::new(receiver);
    let count = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
    std::thread::scope(|scope| {
        let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, || pool.work(&receiver));
        let start = || (0..count).map(spawn).filter(Result::is_ok).count() > 0;
        let batch = Vec::new();
        let mut queue =
            WorkQueue { batch, bytes: 0, batches, start: &start, has_workers: false, pool: &pool };
        pool.record(walk(&pool, &mut queue));
    });
    drop(receiver);
    pool.failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// A directory that is being filled. It gets its metadata when the last thread that writes into it drops
/// it: files that come after would change its times.
pub struct PendingDir<'a> {
    /// The directory.
    pub target: Arc<TargetDir>,
    /// Its name and metadata; none for the destination itself, which is not part of the copy.
    pub finish: Option<DirFinish>,
    /// The pool that records the error.
    pub pool: &'a WorkerPool<'a>,
}

/// The last step of a directory.
pub struct DirFinish {
    /// Its name, for messages.
    pub name: Vec<u8>,
    /// Its metadata; none if it existed before.
    pub metadata: Option<Metadata>,
    /// The attributes that are already known to be dropped.
    pub dropped: Vec<DroppedAttribute>,
}

impl Drop for PendingDir<'_> {
    fn drop(&mut self) {
        let Some(DirFinish { name, metadata, mut dropped }) = self.finish.take() else { return };
        let context = self.pool.context;
        if let Some(metadata) = metadata {
            let apply = || Ok(apply_metadata(self.target.fd.as_fd(), &metadata));
            match context.to.as_writer(apply) {
                Ok(refused) => dropped.extend(refused),
                Err(error) => self.pool.record(Err(error)),
            }
        }
        self.pool.record(context.written(&name, WriteOutcome::Renamed, &dropped));
    }
}
