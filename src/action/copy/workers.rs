//! Files in flight: while one is waited for, others are copied. The folders are walked by one thread,
//! which alone speaks; what is in them is written by several.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};

use rustix::fd::AsFd;

use super::error::CopyError;
use super::rootfs::Node;
use super::walk::Sides;
use super::write::{self, DroppedAttribute, Metadata, TargetDir, WriteOutcome};

/// How many batches may wait for a thread; each file in them is held open.
pub const WAITING: usize = 4;
/// How many files one thread is given at a time, or how many bytes: small files cost less than the
/// handing over.
const BATCH: usize = 32;
const BATCH_BYTES: u64 = 1 << 20;

/// How many threads write: more than four gained nothing where it was measured.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(4)
}

/// One file that is to be copied.
pub struct FileTask {
    /// Where it is, as it is told.
    pub path: Vec<u8>,
    /// It.
    pub node: Node,
    /// Where to.
    pub into: Arc<PendingDir>,
    /// And under which name.
    pub name: Vec<u8>,
}

/// Files for one thread.
#[derive(Default)]
pub struct Batch {
    tasks: Vec<FileTask>,
    bytes: u64,
}

impl Batch {
    /// One more; gives all of them when that is enough.
    pub fn add(&mut self, task: FileTask) -> Option<Self> {
        self.bytes += task.node.stat.stx_size;
        self.tasks.push(task);
        (self.tasks.len() >= BATCH || self.bytes >= BATCH_BYTES).then(|| std::mem::take(self))
    }

    /// What there is, if anything.
    pub fn rest(&mut self) -> Option<Self> {
        (!self.tasks.is_empty()).then(|| std::mem::take(self))
    }
}

/// What is heard of them.
pub enum WorkerReport {
    /// So many bytes more.
    Bytes(u64),
    /// Something is there now under this name.
    Written(Vec<u8>, WriteOutcome, Vec<DroppedAttribute>),
    /// This folder is as it is to be.
    Folder(Vec<u8>, Vec<DroppedAttribute>),
    /// It ends here.
    Failed(CopyError),
}

/// A folder that is being filled. It gets its owner, bits and times when the last one who writes into
/// it lets go of it.
pub struct PendingDir {
    /// It.
    pub folder: Arc<TargetDir>,
    /// How it is told, unless it is where all of it goes.
    pub told: Option<DirProgress>,
    /// Who hears of it.
    pub reports: Sender<Vec<WorkerReport>>,
}

/// A folder as it is told when it is full.
pub struct DirProgress {
    /// Its name.
    pub name: Vec<u8>,
    /// What it is to be; none for one that was there before.
    pub traits: Option<Metadata>,
    /// What is lost already.
    pub lost: Vec<DroppedAttribute>,
}

impl Drop for PendingDir {
    fn drop(&mut self) {
        let Some(DirProgress { name, traits, mut lost }) = self.told.take() else { return };
        if let Some(traits) = traits {
            lost.extend(write::dress(self.folder.fd.as_fd(), &traits));
        }
        let _ = self.reports.send(vec![WorkerReport::Folder(name, lost)]);
    }
}

/// What a thread does: one file after the other, until there are no more, or one has failed.
pub fn work(
    sides: Sides<'_>,
    batches: &Mutex<Receiver<Batch>>,
    stop: &AtomicBool,
    reports: &Sender<Vec<WorkerReport>>,
) {
    loop {
        let next = batches.lock().map(|batches| batches.recv());
        let Ok(Ok(batch)) = next else { return };
        let (mut said, mut unsaid) = (Vec::new(), 0);
        for FileTask { path, node, into, name } in batch.tasks {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let outcome = sides.file(&path, &node, &into.folder, &name, &mut |report| {
                if let WorkerReport::Bytes(bytes) = report {
                    unsaid += bytes;
                }
                said.push(report);
                if unsaid >= BATCH_BYTES {
                    unsaid = 0;
                    let _ = reports.send(std::mem::take(&mut said));
                }
            });
            if let Err(failed) = outcome {
                stop.store(true, Ordering::Relaxed);
                said.push(WorkerReport::Failed(failed));
            }
        }
        let _ = reports.send(said);
    }
}
