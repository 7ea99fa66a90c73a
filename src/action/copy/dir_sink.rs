//! The sink of a walk that is a directory. Files are copied by workers.

use std::sync::Arc;

use super::context::CopyContext;
use super::create::{copy_file, copy_symlink, create_directory, create_hard_link};
use super::entry::EntryAttributes;
use super::metadata::DroppedAttribute;
use super::sources::CopySource;
use super::walk::Sink;
use super::workers::{DirFinish, FileTask, PendingDir, WorkQueue, WorkerPool};
use super::write::{TargetDir, WriteOutcome};
use crate::error::Error;

/// The sink of a walk. Files are copied by workers.
pub struct DirSink<'w, 'p, 's> {
    context: &'p CopyContext<'p>,
    pool: &'p WorkerPool<'p>,
    queue: &'w mut WorkQueue<'p, 's>,
}

impl<'w, 'p, 's> DirSink<'w, 'p, 's> {
    /// Creates the sink.
    pub fn new(
        context: &'p CopyContext<'p>,
        pool: &'p WorkerPool<'p>,
        queue: &'w mut WorkQueue<'p, 's>,
    ) -> Self {
        Self { context, pool, queue }
    }

    /// Returns the destination itself, which is not part of the copy.
    pub fn destination(&self, target: TargetDir) -> Arc<PendingDir<'p>> {
        // (Removing nothing is as good.)
        let _ = self.context.to.as_writer(|| {
            target.remove_stale_temp_files();
            Ok(())
        });
        Arc::new(PendingDir { target: Arc::new(target), finish: None, pool: self.pool })
    }

    /// Hands the last files over.
    pub fn flush(&mut self) {
        self.queue.flush();
    }
}

impl<'p> Sink for DirSink<'_, 'p, '_> {
    type Dir = Arc<PendingDir<'p>>;

    fn has_failed(&self) -> bool {
        self.pool.has_failed()
    }

    fn enter(&mut self, parent: &Self::Dir, entry: &CopySource) -> Result<Self::Dir, Error> {
        let context = self.context;
        let create = || create_directory(context, &entry.path, &parent.target, &entry.name);
        let (target, is_new) = context.to.as_writer(create)?;
        let mut finish =
            DirFinish { name: entry.path.clone(), metadata: None, dropped: Vec::new() };
        if is_new {
            let archive = context.options.archive;
            let attributes = EntryAttributes::read(context.from, &entry.node, archive);
            let (metadata, dropped) = context.metadata(attributes);
            finish = DirFinish { metadata: Some(metadata), dropped, ..finish };
        }
        let (target, finish) = (Arc::new(target), Some(finish));
        Ok(Arc::new(PendingDir { target, finish, pool: self.pool }))
    }

    fn file(
        &mut self,
        parent: &Self::Dir,
        entry: CopySource,
        has_names: bool,
    ) -> Result<bool, Error> {
        if has_names {
            let outcome = copy_file(self.context, &entry, &parent.target)?;
            if outcome == WriteOutcome::InPlace {
                self.context.lost(&entry.path, &[DroppedAttribute::HardLink])?;
            }
            return Ok(outcome == WriteOutcome::Renamed);
        }
        self.queue.push(FileTask { entry, dir: parent.clone() });
        Ok(true)
    }

    fn symlink(&mut self, parent: &Self::Dir, entry: &CopySource) -> Result<bool, Error> {
        let copy = || copy_symlink(self.context, entry, &parent.target);
        let outcome = self.context.to.as_writer(copy)?;
        Ok(outcome == WriteOutcome::Renamed)
    }

    fn link(
        &mut self,
        (first_dir, first_name): (&Self::Dir, &[u8]),
        parent: &Self::Dir,
        entry: &CopySource,
    ) -> Result<bool, Error> {
        let first = (&*first_dir.target, first_name);
        let create =
            || create_hard_link(self.context, &entry.path, first, &parent.target, &entry.name);
        Ok(self.context.to.as_writer(create)?.is_ok())
    }
}
