//! Copies a file, symlink or directory tree. A source is held and known to be a file, directory or symlink
//! before it is opened; everything that is written stays below the destination directory.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};

use super::context::{CopyContext, MAX_DEPTH, special_kind};
use super::error::{cannot_copy, cannot_write_copy, text};
use super::rootfs::{Node, ResolvedPath, duplicate};
use super::sources::CopySource;
use super::workers::{DirFinish, FileTask, PendingDir, WorkQueue, WorkerPool, with_workers};
use super::write::{TargetDir, remove_stale_temp_files, write_hard_link};
use crate::analysis::copy_rules::Placement;
use crate::error::Error;
use crate::sys::directory::DirEntries;
use crate::sys::fd;
use crate::sys::file::{FileId, FileKind};

/// The number of files with several names that are remembered at a time.
const MAX_LINKED: usize = 1 << 14;

/// Copies one source to where the rules put it.
///
/// # Errors
/// At the first file that cannot be copied.
pub fn copy_source(
    context: &CopyContext<'_>,
    source: CopySource,
    placement: Placement,
    destination: &ResolvedPath,
) -> Result<(), Error> {
    let CopySource { path, name, node } = source;
    let source_error = |errno| context.source_error(&path, errno);
    let (dir, name) = match (&destination.node, placement) {
        (Some(dir), Placement::Into | Placement::Merge) => (&dir.fd, &name),
        _ => (&destination.dir, &destination.name),
    };
    let is_directory = node.kind() == FileKind::Directory;
    // The copy would contain itself, without end.
    if is_directory && is_within(dir, node.id()).map_err(source_error)? {
        return Err(cannot_copy(context.from, &path)
            .cause("a directory cannot be copied into itself")
            .hint("give a destination outside of it"));
    }
    remove_stale_temp_files(dir);
    let dir = Arc::new(TargetDir::duplicate(dir).map_err(source_error)?);
    if is_directory {
        let name = (placement != Placement::Merge).then_some(&**name);
        return copy_tree(context, &path, node, dir, name);
    }
    copy_leaf(context, &path, &node, &dir, name)
}

/// Copies a file or symlink.
fn copy_leaf(
    context: &CopyContext<'_>,
    path: &[u8],
    node: &Node,
    dir: &TargetDir,
    name: &[u8],
) -> Result<(), Error> {
    match node.kind() {
        FileKind::Regular => context.copy_file(path, node, dir, name),
        FileKind::Symlink => context.copy_symlink(path, node, dir, name),
        _ => Err(cannot_copy(context.from, path)
            .cause(format!("it is {}", special_kind(node)))
            .hint("if it can be read at all, `cinspect exec` with cat(1) reads it")),
    }
}

/// Copies a directory to a name in `dir`, or its contents into `dir`.
fn copy_tree(
    context: &CopyContext<'_>,
    path: &[u8],
    node: Node,
    dir: Arc<TargetDir>,
    name: Option<&[u8]>,
) -> Result<(), Error> {
    with_workers(context, |pool, queue| {
        let (levels, links) = (Vec::new(), HashMap::new());
        let mut walk = Walk { context, pool, queue, levels, links };
        walk.start(path, &node, dir, name)?;
        walk.run()
    })
}

/// A directory that is being read, and the one that its files go to.
struct WalkLevel<'p> {
    id: FileId,
    mount: Option<u64>,
    entries: DirEntries,
    path: Vec<u8>,
    dir: Arc<PendingDir<'p>>,
}

/// A file with several names: the name of its copy, and how many more it has in the source.
struct LinkedFile {
    dir: Arc<TargetDir>,
    name: Vec<u8>,
    remaining: u32,
}

/// A walk through a directory tree. The levels are a list, so that depth costs no stack.
struct Walk<'w, 'p> {
    context: &'w CopyContext<'w>,
    pool: &'p WorkerPool<'p>,
    queue: &'w mut WorkQueue<'p>,
    levels: Vec<WalkLevel<'p>>,
    links: HashMap<FileId, LinkedFile>,
}

impl<'p> Walk<'_, 'p> {
    fn start(
        &mut self,
        path: &[u8],
        node: &Node,
        target: Arc<TargetDir>,
        name: Option<&[u8]>,
    ) -> Result<(), Error> {
        let path = path.strip_suffix(b"/").unwrap_or(path).to_owned();
        let dir = PendingDir { target, finish: None, pool: self.pool };
        match name {
            Some(name) => self.enter(path, node, &dir, name),
            None => {
                remove_stale_temp_files(&dir.target.fd);
                self.push(path, node, dir)
            }
        }
    }

    fn run(&mut self) -> Result<(), Error> {
        while let Some(level) = self.levels.last_mut() {
            if self.pool.has_failed() {
                return Ok(());
            }
            let failed = |errno| self.context.source_error(&level.path, errno);
            let Some(entry) = level.entries.next() else {
                self.levels.pop();
                continue;
            };
            let name = entry.map_err(failed)?.name;
            let path = [&*level.path, b"/", &*name].concat();
            let node = match Node::open(&level.entries, &name) {
                Ok(node) => node,
                // It was removed after it was listed.
                Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(self.context.source_error(&path, errno)),
            };
            if node.mount() != level.mount && self.context.skip_pseudo(&node, &path)? {
                continue;
            }
            let dir = level.dir.clone();
            self.copy_entry(path, node, dir, name)?;
        }
        self.queue.flush();
        Ok(())
    }

    fn copy_entry(
        &mut self,
        path: Vec<u8>,
        node: Node,
        dir: Arc<PendingDir<'p>>,
        name: Vec<u8>,
    ) -> Result<(), Error> {
        match node.kind() {
            FileKind::Directory => self.enter(path, &node, &dir, &name),
            FileKind::Regular if node.attributes.links > 1 => {
                self.copy_linked(&path, &node, &dir, &name)
            }
            FileKind::Regular => {
                self.queue.push(FileTask { path, node, dir, name });
                Ok(())
            }
            FileKind::Symlink if self.context.options.follow => match self.context.follow(&path)? {
                Some(node) => self.copy_entry(path, node, dir, name),
                None => self.context.skip_dangling(&path),
            },
            FileKind::Symlink => self.context.copy_symlink(&path, &node, &dir.target, &name),
            _ => self.context.skip_special(&node, &path),
        }
    }

    /// Copies a file with several names: the first is copied, the others are links to that copy.
    fn copy_linked(
        &mut self,
        path: &[u8],
        node: &Node,
        dir: &PendingDir<'_>,
        name: &[u8],
    ) -> Result<(), Error> {
        let id = node.id();
        let no_clobber = self.context.options.write.no_clobber;
        if let Some(first) = self.links.get_mut(&id) {
            let existing = (first.dir.fd.as_fd(), &*first.name);
            let is_linked = write_hard_link(existing, &dir.target, name, no_clobber).is_ok();
            first.remaining = first.remaining.saturating_sub(1);
            if first.remaining == 0 {
                self.links.remove(&id);
            }
            if is_linked {
                self.context.events.add(1, 0);
                return Ok(());
            }
        }
        self.context.copy_file(path, node, &dir.target, name)?;
        if self.links.len() >= MAX_LINKED {
            let warning = "too many files with several names: some are copied once for each name";
            return self.context.warn("links", warning);
        }
        let (dir, name) = (dir.target.clone(), name.to_owned());
        let linked = LinkedFile { dir, name, remaining: node.attributes.links - 1 };
        self.links.entry(id).or_insert(linked);
        Ok(())
    }

    /// Creates a directory, and goes on in the one that it is a copy of.
    fn enter(
        &mut self,
        path: Vec<u8>,
        node: &Node,
        parent: &PendingDir<'_>,
        name: &[u8],
    ) -> Result<(), Error> {
        let target_error = |errno| self.context.target_error(&path, errno);
        let parent = &parent.target.fd;
        let is_new = match mkdirat(parent, name, Mode::S_IRWXU) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(errno) => return Err(target_error(errno)),
        };
        // A symlink there is not followed: it may lead anywhere.
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let fd = fd::open_at(parent, name, flags).map_err(|errno| match errno {
            Errno::ENOTDIR | Errno::ELOOP => cannot_write_copy(self.context.from, &path)
                .cause(format!("`{}` exists and is not a directory", text(name)))
                .hint("symlinks are not followed there; remove it, or give another destination"),
            errno => target_error(errno),
        })?;
        if !is_new {
            remove_stale_temp_files(&fd);
        }
        let target = Arc::new(TargetDir::new(fd).map_err(target_error)?);
        let mut finish = DirFinish { name: name.to_owned(), metadata: None, dropped: Vec::new() };
        if is_new {
            let opened = node.open_to_read().ok().map(File::from);
            let (metadata, dropped) = self.context.metadata(node, opened.as_ref());
            finish = DirFinish { metadata: Some(metadata), dropped, ..finish };
        }
        self.push(path, node, PendingDir { target, finish: Some(finish), pool: self.pool })
    }

    fn push(&mut self, path: Vec<u8>, node: &Node, dir: PendingDir<'p>) -> Result<(), Error> {
        let id = node.id();
        if self.levels.iter().any(|level| level.id == id) {
            return self.context.skip_loop(&path);
        }
        if self.levels.len() >= MAX_DEPTH {
            return Err(self.context.too_deep(&path));
        }
        let entries = node.open_to_read().and_then(DirEntries::new);
        let entries = entries.map_err(|errno| self.context.source_error(&path, errno))?;
        let dir = Arc::new(dir);
        self.levels.push(WalkLevel { id, mount: node.mount(), entries, path, dir });
        Ok(())
    }
}

/// Whether a directory is the one with this identity, or is below it.
fn is_within(dir: &OwnedFd, id: FileId) -> Result<bool, Errno> {
    let mut node = Node::from_fd(duplicate(dir)?)?;
    loop {
        if node.id() == id {
            return Ok(true);
        }
        let parent = Node::open(&node.fd, b"..")?;
        if parent.id() == node.id() {
            return Ok(false);
        }
        node = parent;
    }
}
