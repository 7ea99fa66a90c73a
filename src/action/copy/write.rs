//! Writes one file or symlink: to a temporary file next to its destination, which is then renamed over
//! it. A reader sees the old or the new file, and a running program's file can be replaced.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, fsync, linkat, symlinkat, unlinkat};

use super::commits;
use super::copy_data::{Content, CopiedData, CopyFailure, OnBytes};
use super::metadata::{DroppedAttribute, Metadata, apply_metadata, apply_symlink_metadata};
use super::rootfs::{Node, duplicate, to_errno};
use crate::error::Error;
use crate::sys::directory::DirEntries;
use crate::sys::fd;
use crate::sys::file::{FileId, FileKind, rename_no_replace, try_lock};

/// A directory that is written to.
#[derive(Debug)]
pub struct TargetDir {
    /// The descriptor.
    pub fd: OwnedFd,
    id: FileId,
    mount: Option<u64>,
}

impl TargetDir {
    /// Takes an open directory.
    ///
    /// # Errors
    /// See statx(2).
    pub fn new(fd: OwnedFd) -> Result<Self, Errno> {
        let node = Node::from_fd(fd)?;
        let (id, mount) = (node.id(), node.mount());
        Ok(Self { fd: node.fd, id, mount })
    }

    /// Duplicates an open directory.
    ///
    /// # Errors
    /// EMFILE.
    pub fn duplicate(fd: &OwnedFd) -> Result<Self, Errno> {
        Self::new(duplicate(fd)?)
    }

    /// Returns the file that is mounted on a name, if there is a mount.
    ///
    /// # Errors
    /// ENOTSUP for a device, FIFO or socket: other programs reach something by that name (`/dev/null` is
    /// one), so nothing takes its place.
    fn mounted(&self, name: &[u8]) -> Result<Option<Node>, Errno> {
        let Ok(node) = Node::open(&self.fd, name) else { return Ok(None) };
        match node.kind() {
            FileKind::Regular | FileKind::Symlink | FileKind::Directory => {}
            _ => return Err(Errno::ENOTSUP),
        }
        Ok((node.mount() != self.mount).then_some(node))
    }

    /// Whether a name exists in any form.
    pub fn has(&self, name: &[u8]) -> bool {
        Node::open(&self.fd, name).is_ok()
    }

    fn rename(&self, old: &[u8], new: &[u8], no_clobber: bool) -> Result<(), Errno> {
        match no_clobber {
            true => match rename_no_replace(&self.fd, old, new).map_err(to_errno) {
                // Some file systems (FUSE, NFS) have no such call: then two steps have to do.
                Err(Errno::EINVAL | Errno::ENOSYS) if !self.has(new) => {
                    renameat(&self.fd, old, &self.fd, new)
                }
                Err(Errno::EINVAL | Errno::ENOSYS) => Err(Errno::EEXIST),
                done => done,
            },
            false => renameat(&self.fd, old, &self.fd, new),
        }
    }

    fn remove(&self, name: &[u8]) {
        let _ = unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir);
    }

    /// Removes the leftovers of killed copies: temporary files that no copy has locked (flock(2)), and old temporary
    /// symlinks. A copy does it once in each directory: with many sources, once for each would take the square of
    /// their number.
    pub fn remove_stale_temp_files(&self) {
        let mut cleaned = CLEANED.lock().unwrap_or_else(PoisonError::into_inner);
        if cleaned.len() < MAX_CLEANED && cleaned.insert(self.id) {
            drop(cleaned);
            remove_stale_temp_files(&self.fd);
        }
    }
}

/// The directories in which this process has removed leftovers.
static CLEANED: Mutex<BTreeSet<FileId>> = Mutex::new(BTreeSet::new());
/// The number of directories that are remembered; in further ones leftovers stay.
const MAX_CLEANED: usize = 1 << 16;

/// How a destination that exists is treated.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteOptions {
    /// Leave an existing file as it is.
    pub no_clobber: bool,
    /// Sync the file to disk before it is renamed, and its directory after.
    pub sync: bool,
}

/// The outcome of writing one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// It was created, or replaced by a rename.
    Renamed,
    /// It is a mount point, and was overwritten in place.
    InPlace,
    /// It exists and was left as it is.
    Kept,
}

/// Prefix and suffix of temporary names.
const PREFIX: &str = ".cinspect-";
const SUFFIX: &str = "~";

/// Returns a temporary name that cannot be guessed.
fn temp_name() -> Result<Vec<u8>, Errno> {
    let mut bytes = [0u8; 12];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|_| Errno::EIO)?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{PREFIX}{digits}{SUFFIX}").into_bytes())
}

fn is_temp_name(name: &[u8]) -> bool {
    let digits =
        name.strip_prefix(PREFIX.as_bytes()).and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()));
    digits.is_some_and(|digits| digits.len() == 24 && digits.iter().all(u8::is_ascii_hexdigit))
}

/// The age in seconds from which a temporary symlink is stale: a running copy needs it for two system
/// calls.
const STALE_AFTER: i64 = 60;

fn remove_stale_temp_files(dir: &OwnedFd) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    let Ok(entries) = DirEntries::list(dir) else { return };
    for entry in entries.flatten().filter(|entry| is_temp_name(&entry.name)) {
        let Ok(node) = Node::open(dir, &entry.name) else { continue };
        let is_stale = match node.kind() {
            FileKind::Regular => node.open_to_read().is_ok_and(|file| try_lock(file).is_ok()),
            FileKind::Symlink => now - node.attributes.changed > STALE_AFTER,
            _ => false,
        };
        if is_stale {
            let _ = unlinkat(dir, &*entry.name, UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// A file without a name, or with a temporary one that is removed when this is dropped.
struct TempFile<'a> {
    dir: &'a TargetDir,
    file: File,
    name: Option<Vec<u8>>,
}

impl<'a> TempFile<'a> {
    fn new(dir: &'a TargetDir) -> Result<Self, Errno> {
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let (file, name) = match openat(&dir.fd, ".", flags | OFlag::O_TMPFILE, mode) {
            Ok(file) => (file, None),
            // Not every file system has files without a name.
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL | Errno::ENOENT) => {
                let name = temp_name()?;
                let flags = flags | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
                let file = openat(&dir.fd, &*name, flags, mode)?;
                lock(&file);
                (file, Some(name))
            }
            Err(errno) => return Err(errno),
        };
        Ok(Self { dir, file: file.into(), name })
    }

    /// Gives the file a name. By its descriptor that takes CAP_DAC_READ_SEARCH (before Linux 6.10).
    fn link(&self, name: &[u8]) -> Result<(), Errno> {
        match linkat(&self.file, "", &self.dir.fd, name, AtFlags::AT_EMPTY_PATH) {
            Err(Errno::ENOENT | Errno::EPERM | Errno::EINVAL) => {
                let path = fd::link(&self.file);
                linkat(AT_FDCWD, &*path, &self.dir.fd, name, AtFlags::AT_SYMLINK_FOLLOW)
            }
            done => done,
        }
    }

    /// Gives the file its final name, replacing another one.
    fn commit(mut self, name: &[u8], no_clobber: bool) -> Result<WriteOutcome, Errno> {
        let mut moment = None;
        let temporary = match self.name.take() {
            Some(temporary) => temporary,
            None => {
                match self.link(name) {
                    Ok(()) => return Ok(WriteOutcome::Renamed),
                    Err(Errno::EEXIST) if no_clobber => return Ok(WriteOutcome::Kept),
                    Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(errno),
                }
                let temporary = temp_name()?;
                lock(&self.file);
                moment = Some(commits::moment());
                self.link(&temporary)?;
                temporary
            }
        };
        let renamed = self.dir.rename(&temporary, name, no_clobber);
        if renamed.is_err() {
            self.dir.remove(&temporary);
        }
        drop(moment);
        kept_or(renamed, no_clobber)
    }
}

impl Drop for TempFile<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            self.dir.remove(name);
        }
    }
}

/// Marks a temporary file as in use: another copy does not take it for stale.
fn lock(file: impl AsFd) {
    let _ = try_lock(file);
}

/// Returns the outcome of a rename: with `no_clobber` an existing file is not an error.
fn kept_or(renamed: Result<(), Errno>, no_clobber: bool) -> Result<WriteOutcome, Errno> {
    match renamed {
        Ok(()) => Ok(WriteOutcome::Renamed),
        Err(Errno::EEXIST) if no_clobber => Ok(WriteOutcome::Kept),
        Err(errno) => Err(errno),
    }
}

/// Judges the data of a file before the copy gets its name: an error keeps the old file.
pub type Accept<'a> = &'a dyn Fn(&CopiedData) -> Result<(), Error>;

/// The way that a file is written.
#[derive(Clone, Copy)]
pub struct FileWriter<'a> {
    /// Its metadata.
    pub metadata: &'a Metadata,
    /// The treatment of an existing file.
    pub options: WriteOptions,
    /// The receiver of progress.
    pub on_bytes: OnBytes<'a>,
    /// The judge of the data.
    pub accept: Accept<'a>,
}

impl FileWriter<'_> {
    /// Writes a file.
    ///
    /// # Errors
    /// Errors of the file system, or data that was not accepted; the old file is then unchanged. ENOTSUP
    /// if a device, FIFO or socket is there.
    pub fn write(
        self,
        dir: &TargetDir,
        name: &[u8],
        content: &mut Content<'_>,
    ) -> Result<(WriteOutcome, Vec<DroppedAttribute>), CopyFailure> {
        let options = self.options;
        // From outside the container's mount namespace a rename over a mount point would detach the mount
        // and leave the mounted file as it is.
        let mounted = dir.mounted(name)?;
        // (The rename decides; this spares the data.)
        if options.no_clobber && (mounted.is_some() || dir.has(name)) {
            return Ok((WriteOutcome::Kept, Vec::new()));
        }
        if let Some(mounted) = mounted {
            self.write_in_place(dir, &mounted, content)?;
            return Ok((WriteOutcome::InPlace, Vec::new()));
        }
        let temp = TempFile::new(dir)?;
        let copied = self.fill(&temp.file, content)?;
        let mut dropped = apply_metadata(temp.file.as_fd(), self.metadata);
        if copied.has_lost_holes(&temp.file) {
            dropped.push(DroppedAttribute::Holes);
        }
        if options.sync {
            fsync(&temp.file)?;
        }
        let outcome = temp.commit(name, options.no_clobber)?;
        if options.sync {
            fsync(fd::open_at(&dir.fd, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY)?)?;
        }
        Ok((outcome, dropped))
    }

    fn fill(self, file: &File, content: &mut Content<'_>) -> Result<CopiedData, CopyFailure> {
        let copied = content.copy_to(file, self.on_bytes)?;
        (self.accept)(&copied).map_err(|error| CopyFailure::Refused(Box::new(error)))?;
        Ok(copied)
    }

    /// Overwrites a file, which keeps its owner and mode. The data is complete before the old file is
    /// truncated: a source that fails leaves it.
    fn write_in_place(
        self,
        dir: &TargetDir,
        node: &Node,
        content: &mut Content<'_>,
    ) -> Result<(), CopyFailure> {
        if node.kind() != FileKind::Regular {
            return Err(Errno::EISDIR.into());
        }
        if let Content::File(from) = content {
            let (from, to) = (fstat(from)?, fstat(&node.fd)?);
            if (from.st_dev, from.st_ino) == (to.st_dev, to.st_ino) {
                return Err(Errno::EEXIST.into());
            }
        }
        // The directory may be read-only where the mounted file is not.
        let spool = match TempFile::new(dir) {
            Ok(temp) => temp,
            Err(_) => TempFile { dir, file: tempfile::tempfile().map_err(to_errno)?, name: None },
        };
        self.fill(&spool.file, content)?;
        let flags = OFlag::O_WRONLY | OFlag::O_TRUNC | OFlag::O_NOCTTY;
        let file = File::from(fd::reopen(&node.fd, flags)?);
        let complete = File::from(fd::reopen(&spool.file, OFlag::O_RDONLY)?);
        Content::File(&complete).copy_to(&file, &|_| {})?;
        if self.options.sync { Ok(fsync(&file)?) } else { Ok(()) }
    }
}

/// Writes a symlink, replacing a file or symlink.
///
/// # Errors
/// Errors of the file system; EBUSY on a mount point.
pub fn write_symlink(
    dir: &TargetDir,
    name: &[u8],
    target: &[u8],
    metadata: &Metadata,
    no_clobber: bool,
) -> Result<(WriteOutcome, Vec<DroppedAttribute>), Errno> {
    if dir.mounted(name)?.is_some() {
        return Err(Errno::EBUSY);
    }
    // (The rename decides; this spares a temporary name.)
    if no_clobber && dir.has(name) {
        return Ok((WriteOutcome::Kept, Vec::new()));
    }
    let temporary = temp_name()?;
    let moment = commits::moment();
    // (ENOTSUP is the code for a special file here.)
    symlinkat(target, &dir.fd, &*temporary).map_err(|errno| match errno {
        Errno::EOPNOTSUPP => Errno::ENOSYS,
        errno => errno,
    })?;
    let dropped = apply_symlink_metadata(dir.fd.as_fd(), &temporary, metadata);
    let renamed = dir.rename(&temporary, name, no_clobber);
    if renamed.is_err() {
        dir.remove(&temporary);
    }
    drop(moment);
    Ok((kept_or(renamed, no_clobber)?, dropped))
}

/// Gives a file one more name, replacing a file or symlink.
///
/// # Errors
/// Errors of the file system: EXDEV if it is another one.
pub fn write_hard_link(
    (from, existing): (BorrowedFd<'_>, &[u8]),
    dir: &TargetDir,
    name: &[u8],
    no_clobber: bool,
) -> Result<WriteOutcome, Errno> {
    match linkat(from, existing, &dir.fd, name, AtFlags::empty()) {
        Ok(()) => return Ok(WriteOutcome::Renamed),
        Err(Errno::EEXIST) if no_clobber => return Ok(WriteOutcome::Kept),
        Err(Errno::EEXIST) if dir.mounted(name)?.is_none() => {}
        Err(errno) => return Err(errno),
    }
    let temporary = temp_name()?;
    let _moment = commits::moment();
    linkat(from, existing, &dir.fd, &*temporary, AtFlags::empty())?;
    let renamed = dir.rename(&temporary, name, false);
    // rename(2) does nothing if both are names of one file.
    dir.remove(&temporary);
    renamed.map(|()| WriteOutcome::Renamed)
}
