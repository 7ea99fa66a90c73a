//! Copies files, links and whole folders from one place to another: what is read is held and known to
//! be a file, folder or link before it is opened; what is written stays below the folder it goes to.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex};

use rustix::fs::{Dir, FileType, Mode, OFlags, fgetxattr, flistxattr, mkdirat, openat};
use rustix::io::Errno;

use super::copy_data::Content;
use super::error::{CopyError, text};
use super::rootfs::{FileId, Node, ResolvedPath, Rootfs, pseudo};
use super::workers::{self, Batch, DirProgress, FileTask, PendingDir, WorkerReport};
use super::write::{self, DroppedAttribute, Metadata, TargetDir, WriteOutcome};
use crate::analysis::copy_rules::Placement;

/// How deep folders may be nested: a path of more names than that is longer than any path may be
/// (PATH_MAX, 4096 with its slashes).
pub const MAX_DEPTH: usize = 2048;
/// How many files with several names are remembered at a time.
const MAX_LINKED: usize = 1 << 14;

/// What was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyOptions {
    /// Owners, all permission bits and extended attributes are kept.
    pub archive: bool,
    /// What links lead to is copied in their place.
    pub follow: bool,
    /// Whom all of it is to belong to, as we number users.
    pub chown: Option<(u32, u32)>,
    /// What is there stays.
    pub no_clobber: bool,
    /// What cannot be kept ends it.
    pub strict: bool,
    /// Files are on the disk before they have their names.
    pub sync: bool,
}

/// What is told on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyEvent {
    /// So many bytes more.
    Bytes(u64),
    /// One file, link or folder more.
    One,
    /// So many bytes there will be, where that is known.
    Total(u64),
    /// Something is not as it was asked for; said once of each kind.
    Warning(String),
}

/// Both sides of a copy, and how it goes: all that is to be known to copy one file.
#[derive(Clone, Copy, Debug)]
pub struct Sides<'a> {
    /// From here.
    pub from: &'a Rootfs,
    /// To there.
    pub to: &'a Rootfs,
    /// How.
    pub options: CopyOptions,
}

impl Sides<'_> {
    /// One file, under this name.
    pub(super) fn file(
        &self,
        path: &[u8],
        node: &Node,
        folder: &TargetDir,
        name: &[u8],
        tell: &mut dyn FnMut(WorkerReport),
    ) -> Result<(), CopyError> {
        let opened = node.open_to_read().map_err(|errno| CopyError::at(path, errno))?;
        let opened = File::from(opened);
        let (traits, mut lost) = self.traits(node, Some(&opened));
        let content = &mut Content::File(&opened);
        let more = &mut |bytes| tell(WorkerReport::Bytes(bytes));
        let (written, others) =
            write::file(folder, name, content, &traits, self.options.no_clobber, more)
                .map_err(|errno| CopyError::at_target(path, errno))?;
        lost.extend(others);
        tell(WorkerReport::Written(name.to_owned(), written, lost));
        Ok(())
    }

    /// What the copy of a file is to be, and what of it cannot be said in the other place.
    fn traits(&self, node: &Node, opened: Option<&File>) -> (Metadata, Vec<DroppedAttribute>) {
        let stat = &node.stat;
        let mut lost = Vec::new();
        let owner = match self.options {
            CopyOptions { chown: Some(owner), .. } => Some(owner),
            CopyOptions { archive: true, .. } => {
                let own = self.from.inner(stat.stx_uid, stat.stx_gid);
                let there = own.and_then(|(uid, gid)| self.to.outer(uid, gid));
                if there.is_none() {
                    lost.push(DroppedAttribute::Owner);
                }
                there.or(self.to.init_user())
            }
            _ => self.to.init_user(),
        };
        let bits = if self.options.archive { 0o7777 } else { 0o777 };
        let xattrs = opened.filter(|_| self.options.archive).map(xattrs).unwrap_or_default();
        let traits = Metadata {
            mode: u32::from(stat.stx_mode) & bits,
            owner,
            modified: Some((stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec)),
            xattrs,
            sync: self.options.sync,
        };
        (traits, lost)
    }
}

/// A file of several names that was copied: where its first name is now, and how many are to come.
struct Linked {
    folder: Arc<TargetDir>,
    name: Vec<u8>,
    left: u32,
}

/// A copy under way.
pub struct Copier<'a> {
    /// From where, to where and how.
    pub sides: Sides<'a>,
    /// Who hears of it.
    pub tell: &'a mut dyn FnMut(CopyEvent),
    links: HashMap<FileId, Linked>,
    warned: BTreeSet<String>,
}

impl<'a> Copier<'a> {
    /// One that has copied nothing yet.
    pub fn new(sides: Sides<'a>, tell: &'a mut dyn FnMut(CopyEvent)) -> Self {
        Self { sides, tell, links: HashMap::new(), warned: BTreeSet::new() }
    }

    pub(super) fn warn(&mut self, kind: &str, what: impl Into<String>) -> Result<(), CopyError> {
        let what = what.into();
        if self.sides.options.strict {
            return Err(CopyError::new(what.as_bytes(), "with --strict that is an error")
                .hint("without it that is a warning, and the rest is copied"));
        }
        if self.warned.insert(kind.to_owned()) {
            (self.tell)(CopyEvent::Warning(what));
        }
        Ok(())
    }

    /// Copies what was found to where it goes.
    ///
    /// # Errors
    /// At the first file that cannot be copied.
    pub fn put(
        &mut self,
        path: &[u8],
        node: Node,
        put: Placement,
        target: &ResolvedPath,
        own_name: &[u8],
    ) -> Result<(), CopyError> {
        let at = |errno| CopyError::at(path, errno);
        let into = target.found.as_ref().filter(|_| put != Placement::There);
        let folder = into.map_or(&target.folder, |found| &found.fd);
        let name = if put == Placement::There { &target.name } else { own_name };
        let is_folder = node.kind() == FileType::Directory;
        // What is made in it would be found in it, and so on.
        if is_folder && is_within(folder, node.id()).map_err(at)? {
            return Err(CopyError::new(path, "it would be copied into itself")
                .hint("give a target that is outside of it"));
        }
        write::sweep(folder);
        let folder = TargetDir::same(folder).map_err(at)?;
        if is_folder {
            return self.tree(path, node, folder, (put != Placement::Merged).then_some(name));
        }
        self.leaf(path, node, Arc::new(folder), name)
    }

    /// What is no folder, by itself.
    fn leaf(
        &mut self,
        path: &[u8],
        node: Node,
        folder: Arc<TargetDir>,
        name: &[u8],
    ) -> Result<(), CopyError> {
        match node.kind() {
            FileType::RegularFile => {
                let sides = self.sides;
                let mut failed = Ok(());
                sides.file(path, &node, &folder, name, &mut |report| {
                    if let Err(error) = self.hear(report) {
                        failed = Err(error);
                    }
                })?;
                failed
            }
            FileType::Symlink => self.link(path, &node, &folder, name),
            kind => {
                let what = special(kind);
                let hint = "`cinspect exec` with cat(1) reads what can be read of it";
                Err(CopyError::new(path, format!("it is {what}")).hint(hint))
            }
        }
    }

    fn link(
        &mut self,
        path: &[u8],
        node: &Node,
        folder: &TargetDir,
        name: &[u8],
    ) -> Result<(), CopyError> {
        let target = node.link().map_err(|errno| CopyError::at(path, errno))?;
        let (traits, mut lost) = self.sides.traits(node, None);
        let (written, more) =
            write::link(folder, name, &target, &traits, self.sides.options.no_clobber)
                .map_err(|errno| CopyError::at_target(path, errno))?;
        lost.extend(more);
        self.told(&lost, written, name)
    }

    /// A folder with all that is in it: under this name, or all that is in it by itself.
    fn tree(
        &mut self,
        path: &[u8],
        node: Node,
        into: TargetDir,
        name: Option<&[u8]>,
    ) -> Result<(), CopyError> {
        let (batches, taken) = sync_channel(workers::WAITING);
        let (reports, heard) = channel();
        let (taken, stop) = (Mutex::new(taken), AtomicBool::new(false));
        let sides = self.sides;
        std::thread::scope(|scope| {
            for _ in 0..workers::threads() {
                let reports = reports.clone();
                let (taken, stop) = (&taken, &stop);
                scope.spawn(move || workers::work(sides, taken, stop, &reports));
            }
            let mut walk = Walk {
                copier: self,
                batch: Batch::default(),
                batches,
                heard: &heard,
                reports,
                levels: Vec::new(),
            };
            let mut outcome = walk.start(path, node, into, name).and_then(|()| walk.go());
            stop.store(outcome.is_err(), Ordering::Relaxed);
            // Nobody waits for more, and the folders are let go of.
            drop(walk);
            for report in heard {
                if outcome.is_ok() {
                    outcome = self.hear_all(report);
                }
            }
            outcome
        })
    }

    fn hear_all(&mut self, reports: Vec<WorkerReport>) -> Result<(), CopyError> {
        reports.into_iter().try_for_each(|report| self.hear(report))
    }

    /// What a thread says.
    fn hear(&mut self, report: WorkerReport) -> Result<(), CopyError> {
        match report {
            WorkerReport::Bytes(bytes) => (self.tell)(CopyEvent::Bytes(bytes)),
            WorkerReport::Written(name, written, lost) => return self.told(&lost, written, &name),
            WorkerReport::Folder(name, lost) => {
                return self.told(&lost, WriteOutcome::Renamed, &name);
            }
            WorkerReport::Failed(failed) => return Err(failed),
        }
        Ok(())
    }

    pub(super) fn told(
        &mut self,
        lost: &[DroppedAttribute],
        written: WriteOutcome,
        name: &[u8],
    ) -> Result<(), CopyError> {
        (self.tell)(CopyEvent::One);
        for one in lost {
            let what = one.name();
            let first = format!("{what} could not be kept, at first of `{}`", text(name));
            self.warn(what, first)?;
        }
        let name = text(name);
        match written {
            WriteOutcome::InPlace => self.warn(
                "in place",
                format!("`{name}` is mounted by itself: written in place, not renamed over"),
            ),
            WriteOutcome::Kept => self.warn("kept", format!("`{name}` is there already: kept")),
            WriteOutcome::Renamed => Ok(()),
        }
    }

    /// A mount of the kernel's own files is read only when it is asked for by its path.
    pub(super) fn is_pseudo(&mut self, node: &Node, path: &[u8]) -> Result<bool, CopyError> {
        let Some(name) = pseudo(&node.fd) else { return Ok(false) };
        self.warn(name, format!("`{}` is {name}: left out", text(path)))?;
        Ok(true)
    }
}

/// A folder that is being read, and where what is in it goes.
struct DirLevel {
    id: FileId,
    mount: Option<u64>,
    entries: Dir,
    path: Vec<u8>,
    into: Arc<PendingDir>,
}

/// A walk through a folder. What is deep is no deeper for us: the folders are a list.
struct Walk<'w, 'c> {
    copier: &'w mut Copier<'c>,
    batch: Batch,
    batches: SyncSender<Batch>,
    heard: &'w Receiver<Vec<WorkerReport>>,
    reports: Sender<Vec<WorkerReport>>,
    levels: Vec<DirLevel>,
}

impl Walk<'_, '_> {
    fn start(
        &mut self,
        path: &[u8],
        node: Node,
        into: TargetDir,
        name: Option<&[u8]>,
    ) -> Result<(), CopyError> {
        let path = path.strip_suffix(b"/").unwrap_or(path).to_owned();
        let (folder, reports) = (Arc::new(into), self.reports.clone());
        let filling = PendingDir { folder, told: None, reports };
        match name {
            Some(name) => self.enter(path, &node, &filling, name),
            None => {
                write::sweep(&filling.folder.fd);
                self.push(path, &node, filling)
            }
        }
    }

    fn go(&mut self) -> Result<(), CopyError> {
        while let Some(level) = self.levels.last_mut() {
            while let Ok(report) = self.heard.try_recv() {
                self.copier.hear_all(report)?;
            }
            let failed = |errno| CopyError::at(&level.path, errno);
            let name = match level.entries.next() {
                None => {
                    self.levels.pop();
                    continue;
                }
                Some(entry) => entry.map_err(failed)?.file_name().to_bytes().to_owned(),
            };
            if name == b"." || name == b".." {
                continue;
            }
            let path = [&level.path, &b"/"[..], &name].concat();
            let node = match Node::open(level.entries.fd().map_err(failed)?, &name) {
                Ok(node) => node,
                // It was there a moment ago.
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(CopyError::at(&path, errno)),
            };
            let (into, mount) = (level.into.clone(), level.mount);
            if node.mount() != mount && self.copier.is_pseudo(&node, &path)? {
                continue;
            }
            self.one(path, node, into, name)?;
        }
        let rest = self.batch.rest();
        self.send(rest)
    }

    /// One file, link or folder on the way.
    fn one(
        &mut self,
        path: Vec<u8>,
        node: Node,
        into: Arc<PendingDir>,
        name: Vec<u8>,
    ) -> Result<(), CopyError> {
        let copier = &mut *self.copier;
        match node.kind() {
            FileType::Directory => self.enter(path, &node, &into, &name),
            FileType::RegularFile if node.stat.stx_nlink > 1 => {
                self.linked(&path, node, &into, &name)
            }
            FileType::RegularFile => {
                let batch = self.batch.add(FileTask { path, node, into, name });
                self.send(batch)
            }
            FileType::Symlink if copier.sides.options.follow => {
                let found = copier.sides.from.find(&path, true);
                match found.map_err(|errno| CopyError::at(&path, errno))?.found {
                    Some(node) if node.kind() != FileType::Symlink => {
                        self.one(path, node, into, name)
                    }
                    _ => copier
                        .warn("dangling", format!("`{}` leads to nothing: left out", text(&path))),
                }
            }
            FileType::Symlink => copier.link(&path, &node, &into.folder, &name),
            kind => {
                let what = special(kind);
                let others =
                    format!("`{}` is {what}: left out, with others of its kind", text(&path));
                copier.warn(what, others)
            }
        }
    }

    /// A file that has more names: the first is copied, the others are names of that copy.
    fn linked(
        &mut self,
        path: &[u8],
        node: Node,
        into: &PendingDir,
        name: &[u8],
    ) -> Result<(), CopyError> {
        let (id, names) = (node.id(), node.stat.stx_nlink);
        let copier = &mut *self.copier;
        if let Some(first) = copier.links.get_mut(&id) {
            let keep = copier.sides.options.no_clobber;
            let old = (&first.folder.fd, &*first.name);
            let made = write::another_name(old, &into.folder, name, keep).is_ok();
            first.left = first.left.saturating_sub(1);
            if first.left == 0 {
                copier.links.remove(&id);
            }
            if made {
                (copier.tell)(CopyEvent::One);
                return Ok(());
            }
        }
        copier.leaf(path, node, into.folder.clone(), name)?;
        if copier.links.len() < MAX_LINKED {
            let linked =
                Linked { folder: into.folder.clone(), name: name.to_owned(), left: names - 1 };
            copier.links.entry(id).or_insert(linked);
            return Ok(());
        }
        copier.warn("links", "files of several names are too many: some are copied once for each")
    }

    /// Gives files to a thread; while all are busy, what they say is heard.
    fn send(&mut self, batch: Option<Batch>) -> Result<(), CopyError> {
        let Some(mut batch) = batch else { return Ok(()) };
        loop {
            match self.batches.try_send(batch) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => return Ok(()),
                Err(TrySendError::Full(back)) => batch = back,
            }
            if let Ok(report) = self.heard.recv() {
                self.copier.hear_all(report)?;
            }
        }
    }

    /// Makes a folder, and goes on in the one that it is a copy of.
    fn enter(
        &mut self,
        path: Vec<u8>,
        node: &Node,
        into: &PendingDir,
        name: &[u8],
    ) -> Result<(), CopyError> {
        let folder = &into.folder.fd;
        let made = match mkdirat(folder, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(CopyError::at_target(&path, errno)),
        };
        // A link that stands there is not followed: what it leads to may be anywhere.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let own = openat(folder, name, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOTDIR | Errno::LOOP => {
                CopyError::new(&path, "something that is no folder stands there")
                    .hint("take it away at the target first, or give another target")
            }
            errno => CopyError::at_target(&path, errno),
        })?;
        if !made {
            write::sweep(&own);
        }
        let folder = TargetDir::new(own).map_err(|errno| CopyError::at_target(&path, errno))?;
        let mut told = DirProgress { name: name.to_owned(), traits: None, lost: Vec::new() };
        if made {
            let opened = node.open_to_read().ok().map(File::from);
            let (traits, lost) = self.copier.sides.traits(node, opened.as_ref());
            told = DirProgress { traits: Some(traits), lost, ..told };
        }
        let (folder, reports) = (Arc::new(folder), self.reports.clone());
        self.push(path, node, PendingDir { folder, told: Some(told), reports })
    }

    fn push(&mut self, path: Vec<u8>, node: &Node, into: PendingDir) -> Result<(), CopyError> {
        let id = node.id();
        if self.levels.iter().any(|level| level.id == id) {
            let what = format!("`{}` leads back to where it is: left out", text(&path));
            return self.copier.warn("loop", what);
        }
        if self.levels.len() >= MAX_DEPTH {
            return Err(CopyError::new(
                &path[..path.len().min(80)],
                "folders are nested without end",
            )
            .hint("no path is as long as that; give a folder that is not above it"));
        }
        let opened = node.open_to_read().and_then(Dir::new);
        let entries = opened.map_err(|errno| CopyError::at(&path, errno))?;
        let into = Arc::new(into);
        self.levels.push(DirLevel { id, mount: node.mount(), entries, path, into });
        Ok(())
    }
}

/// What is no file, folder or link.
fn special(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "a fifo",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "no file, folder or link",
    }
}

/// Whether a folder is this one, or lies somewhere below it.
fn is_within(folder: &OwnedFd, wanted: FileId) -> Result<bool, Errno> {
    let mut at = Node::of(rustix::io::fcntl_dupfd_cloexec(folder.as_fd(), 0)?)?;
    loop {
        if at.id() == wanted {
            return Ok(true);
        }
        let above = Node::open(&at.fd, b"..")?;
        if above.id() == at.id() {
            return Ok(false);
        }
        at = above;
    }
}

fn xattrs(file: &File) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0u8; 64 << 10];
    let Ok(length) = flistxattr(file, names.as_mut_slice()) else { return Vec::new() };
    names.truncate(length);
    let mut all = Vec::new();
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0u8; 64 << 10];
        if let Ok(length) = fgetxattr(file, name, value.as_mut_slice()) {
            value.truncate(length);
            all.push((name.to_owned(), value));
        }
    }
    all
}
