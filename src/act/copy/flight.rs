//! Files in flight: while one is waited for, others are copied. The folders are walked by one thread,
//! which alone speaks; what is in them is written by several.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};

use rustix::fd::AsFd;

use super::place::Node;
use super::tree::Sides;
use super::why::Failed;
use super::write::{self, Folder, Lost, Traits, Written};

/// How many files may wait for a thread; each is held open.
pub const WAITING: usize = 64;

/// How many threads write: more than four gained nothing where it was measured.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(4)
}

/// One file that is to be copied.
pub struct Task {
    /// Where it is, as it is told.
    pub path: Vec<u8>,
    /// It.
    pub node: Node,
    /// Where to.
    pub into: Arc<Filling>,
    /// And under which name.
    pub name: Vec<u8>,
}

/// What is heard of them.
pub enum Report {
    /// So many bytes more.
    Bytes(u64),
    /// Something is there now under this name.
    Written(Vec<u8>, Written, Vec<Lost>),
    /// This folder is as it is to be.
    Folder(Vec<u8>, Vec<Lost>),
    /// It ends here.
    Failed(Failed),
}

/// A folder that is being filled. It gets its owner, bits and times when the last one who writes into
/// it lets go of it.
pub struct Filling {
    /// It.
    pub folder: Arc<Folder>,
    /// How it is told, unless it is where all of it goes.
    pub told: Option<Told>,
    /// Who hears of it.
    pub reports: Sender<Report>,
}

/// A folder as it is told when it is full.
pub struct Told {
    /// Its name.
    pub name: Vec<u8>,
    /// What it is to be; none for one that was there before.
    pub traits: Option<Traits>,
    /// What is lost already.
    pub lost: Vec<Lost>,
}

impl Drop for Filling {
    fn drop(&mut self) {
        let Some(Told { name, traits, mut lost }) = self.told.take() else { return };
        if let Some(traits) = traits {
            lost.extend(write::dress(self.folder.fd.as_fd(), &traits));
        }
        let _ = self.reports.send(Report::Folder(name, lost));
    }
}

/// What a thread does: one file after the other, until there are no more, or one has failed.
pub fn work(
    sides: Sides<'_>,
    tasks: &Mutex<Receiver<Task>>,
    stop: &AtomicBool,
    reports: &Sender<Report>,
) {
    loop {
        let next = tasks.lock().map(|tasks| tasks.recv());
        let Ok(Ok(Task { path, node, into, name })) = next else { return };
        if stop.load(Ordering::Relaxed) {
            continue;
        }
        let mut tell = |report| {
            let _ = reports.send(report);
        };
        if let Err(failed) = sides.file(&path, &node, &into.folder, &name, &mut tell) {
            stop.store(true, Ordering::Relaxed);
            tell(Report::Failed(failed));
        }
    }
}
