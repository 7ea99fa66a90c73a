//! The walk through a source: a file, symlink or directory tree, handed entry by entry to a sink, which is
//! a directory or a tar stream. A source is held and known to be a file, directory or symlink before it is
//! opened. Omissions, followed links and hard links are decided here, for every sink.

use std::collections::HashMap;

use nix::errno::Errno;

use super::context::{CopyContext, MAX_DEPTH, MAX_PATH, special_kind};
use super::error::cannot_copy;
use super::rootfs::Node;
use super::sources::CopySource;
use crate::error::Error;
use crate::model::account::Deviation;
use crate::sys::directory::DirEntries;
use crate::sys::file::{FileId, FileKind};

/// The number of files with several names that are remembered at a time.
const MAX_LINKED: usize = 1 << 14;

/// A target of entries. Of an entry, `name` is the name that it gets there.
pub trait Sink {
    /// A directory of the target.
    type Dir: Clone;

    /// Whether the copy has failed in another thread, so that the walk ends.
    fn has_failed(&self) -> bool {
        false
    }

    /// Adds a directory; returns it for its entries.
    ///
    /// # Errors
    /// It cannot be created.
    fn enter(&mut self, parent: &Self::Dir, entry: &CopySource) -> Result<Self::Dir, Error>;

    /// Adds a file. One with further names is written at once; returns whether it can be linked to.
    ///
    /// # Errors
    /// It cannot be read or written.
    fn file(
        &mut self,
        parent: &Self::Dir,
        entry: CopySource,
        has_names: bool,
    ) -> Result<bool, Error>;

    /// Adds a symlink; returns whether it can be linked to.
    ///
    /// # Errors
    /// It cannot be read or written.
    fn symlink(&mut self, parent: &Self::Dir, entry: &CopySource) -> Result<bool, Error>;

    /// Adds one more name of a file; returns whether that was possible.
    ///
    /// # Errors
    /// It cannot be written.
    fn link(
        &mut self,
        first: (&Self::Dir, &[u8]),
        parent: &Self::Dir,
        entry: &CopySource,
    ) -> Result<bool, Error>;
}

/// Walks through a source, which gets the name that it has in `source`. Without a name (`is_merged`) the
/// contents of a directory are copied.
///
/// # Errors
/// At the first file that cannot be copied.
pub fn walk<S: Sink>(
    context: &CopyContext<'_>,
    sink: &mut S,
    dir: S::Dir,
    source: CopySource,
    is_merged: bool,
) -> Result<(), Error> {
    let mut walk = Walk { context, sink, levels: Vec::new(), links: HashMap::new() };
    let path = source.path.strip_suffix(b"/").unwrap_or(&source.path).to_owned();
    let source = CopySource { path, ..source };
    match source.node.kind() {
        FileKind::Directory if is_merged => walk.push(source.path, &source.node, dir)?,
        FileKind::Directory | FileKind::Regular | FileKind::Symlink => {
            walk.entry(&dir, source)?;
        }
        _ => {
            return Err(cannot_copy(context.from, &source.path)
                .cause(format!("it is {}", special_kind(&source.node)))
                .hint("if it can be read at all, `cinspect exec` with cat(1) reads it"));
        }
    }
    walk.run()
}

/// A directory that is being read, and the one that its entries go to.
struct WalkLevel<D> {
    id: FileId,
    mount: Option<u64>,
    entries: DirEntries,
    path: Vec<u8>,
    dir: D,
}

/// A file with several names: the name of its copy, and how many more it has in the source.
struct LinkedFile<D> {
    dir: D,
    name: Vec<u8>,
    remaining: u32,
}

/// A walk in progress. The levels are a list, so that depth costs no stack.
struct Walk<'w, S: Sink> {
    context: &'w CopyContext<'w>,
    sink: &'w mut S,
    levels: Vec<WalkLevel<S::Dir>>,
    links: HashMap<FileId, LinkedFile<S::Dir>>,
}

impl<S: Sink> Walk<'_, S> {
    /// Copies the contents of the directories. A member that cannot be copied does not end it.
    fn run(&mut self) -> Result<(), Error> {
        while let Some(level) = self.levels.last_mut() {
            if self.sink.has_failed() {
                return Ok(());
            }
            let context = self.context;
            match level.entries.next() {
                None => drop(self.levels.pop()),
                Some(Ok(entry)) => {
                    let copied = self.member(entry.name);
                    context.member(copied)?;
                }
                Some(Err(errno)) => {
                    let error = context.source_error(&level.path, errno);
                    self.levels.pop();
                    context.member(Err(error))?;
                }
            }
        }
        Ok(())
    }

    /// Copies one member of the directory that is being read.
    fn member(&mut self, name: Vec<u8>) -> Result<(), Error> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let path = [&*level.path, b"/", &*name].concat();
        let node = match Node::open(&level.entries, &name) {
            Ok(node) => node,
            // It was removed after it was listed.
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(self.context.source_error(&path, errno)),
        };
        if node.mount() != level.mount && self.context.skip_pseudo(&node, &path)? {
            return Ok(());
        }
        let dir = level.dir.clone();
        self.entry(&dir, CopySource { path, name, node })
    }

    fn entry(&mut self, dir: &S::Dir, entry: CopySource) -> Result<(), Error> {
        match entry.node.kind() {
            FileKind::Directory => {
                if self.levels.iter().any(|level| level.id == entry.node.id()) {
                    return self.context.skip_loop(&entry.path);
                }
                if self.levels.len() >= MAX_DEPTH || entry.path.len() > MAX_PATH {
                    return Err(self.context.too_deep(&entry.path));
                }
                let created = self.sink.enter(dir, &entry)?;
                self.push(entry.path, &entry.node, created)
            }
            FileKind::Symlink if self.context.options.follow => {
                match self.context.follow(&entry.path)? {
                    Some(node) => self.entry(dir, CopySource { node, ..entry }),
                    None => self.context.skip_dangling(&entry.path),
                }
            }
            FileKind::Regular | FileKind::Symlink if entry.node.attributes.links > 1 => {
                self.linked(dir, entry)
            }
            // (The source itself is written at once: its error is the error of the copy.)
            FileKind::Regular => self.sink.file(dir, entry, self.levels.is_empty()).map(drop),
            FileKind::Symlink => self.sink.symlink(dir, &entry).map(drop),
            _ => self.context.skip_special(&entry.node, &entry.path),
        }
    }

    /// Copies a file or symlink with several names: the first is copied, the others are links to that copy.
    fn linked(&mut self, dir: &S::Dir, entry: CopySource) -> Result<(), Error> {
        let id = entry.node.id();
        if let Some(first) = self.links.get_mut(&id) {
            let is_linked = self.sink.link((&first.dir, &first.name), dir, &entry)?;
            first.remaining = first.remaining.saturating_sub(1);
            if first.remaining == 0 {
                self.links.remove(&id);
            }
            if is_linked {
                return Ok(());
            }
        }
        let (path, name) = (entry.path.clone(), entry.name.clone());
        let remaining = entry.node.attributes.links - 1;
        let can_be_linked = match entry.node.kind() {
            FileKind::Symlink => self.sink.symlink(dir, &entry)?,
            _ => self.sink.file(dir, entry, true)?,
        };
        if !can_be_linked || self.links.contains_key(&id) {
            return Ok(());
        }
        if self.links.len() >= MAX_LINKED {
            return self.context.account(
                Deviation::Lost,
                "hard link",
                format!(
                    "`{}`: too many files with several names; its other names become files of their own",
                    super::error::text(&path)
                ),
            );
        }
        self.links.insert(id, LinkedFile { dir: dir.clone(), name, remaining });
        Ok(())
    }

    fn push(&mut self, path: Vec<u8>, node: &Node, dir: S::Dir) -> Result<(), Error> {
        let entries = node.open_to_read().and_then(DirEntries::new);
        let entries = entries.map_err(|errno| self.context.source_error(&path, errno))?;
        self.levels.push(WalkLevel { id: node.id(), mount: node.mount(), entries, path, dir });
        Ok(())
    }
}
