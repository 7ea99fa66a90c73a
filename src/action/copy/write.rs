//! Writes one file, link or folder at a spot: beside its target and renamed over it, so that whoever
//! reads it sees the old or the new one, and a running program's file can be replaced.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags, chownat, fchmod,
    fchown, fsetxattr, futimens, linkat, openat, renameat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::copy_data::{Content, pour};
use super::rootfs::Node;

/// A folder that is written to.
#[derive(Debug)]
pub struct TargetDir {
    /// It.
    pub fd: OwnedFd,
    mount: Option<u64>,
}

impl TargetDir {
    /// Of what is open.
    ///
    /// # Errors
    /// Those of statx(2).
    pub fn new(fd: OwnedFd) -> Result<Self, Errno> {
        let node = Node::of(fd)?;
        let mount = node.mount();
        Ok(Self { fd: node.fd, mount })
    }

    /// The same folder, held once more.
    ///
    /// # Errors
    /// EMFILE.
    pub fn same(fd: &OwnedFd) -> Result<Self, Errno> {
        Self::new(rustix::io::fcntl_dupfd_cloexec(fd, 0)?)
    }
}

/// What becomes of a file beside its bytes.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// Permission bits.
    pub mode: u32,
    /// User and group as we number them; none to leave what the file is made with.
    pub owner: Option<(u32, u32)>,
    /// When it was changed; none for now.
    pub modified: Option<(i64, u32)>,
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether it is on the disk before it has its name, and its name after that.
    pub sync: bool,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Beside, and renamed over.
    Renamed,
    /// Into the file itself: something is mounted there, or it cannot be renamed over.
    InPlace,
    /// It was there already, and is to stay.
    Kept,
}

/// What could not be kept, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DroppedAttribute {
    /// Owner and group.
    Owner,
    /// Permission bits.
    Mode,
    /// Times.
    Times,
    /// Extended attributes, file capabilities among them.
    Xattrs,
}

impl DroppedAttribute {
    /// As it is said.
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "owners",
            Self::Mode => "permission bits",
            Self::Times => "times",
            Self::Xattrs => "extended attributes",
        }
    }
}

/// Prefix and suffix of the names that files have for a moment.
const BEFORE: &str = ".cinspect-";
const AFTER: &str = "~";

fn guess() -> Result<Vec<u8>, Errno> {
    let mut bytes = [0u8; 12];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|_| Errno::IO)?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{BEFORE}{digits}{AFTER}").into_bytes())
}

/// Whether a name is one of those.
fn is_ours(name: &[u8]) -> bool {
    let middle =
        name.strip_prefix(BEFORE.as_bytes()).and_then(|rest| rest.strip_suffix(AFTER.as_bytes()));
    middle.is_some_and(|digits| digits.len() == 24 && digits.iter().all(u8::is_ascii_hexdigit))
}

/// After this long a link of such a name is nobody's: it has it for two system calls.
const STALE: i64 = 60;

/// Takes away what a copy that was killed has left in a folder: files of such a name that nobody who
/// copies holds (flock(2)), and old links.
pub fn sweep(folder: &OwnedFd) {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(listed) = openat(folder, c".", flags, Mode::empty()) else { return };
    let Ok(entries) = rustix::fs::Dir::new(listed) else { return };
    for entry in entries.flatten().filter(|entry| is_ours(entry.file_name().to_bytes())) {
        let name = entry.file_name();
        let Ok(node) = Node::open(folder, name.to_bytes()) else { continue };
        let lock = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        let is_left = match node.kind() {
            FileType::RegularFile => {
                node.open_to_read().is_ok_and(|file| rustix::fs::flock(file, lock).is_ok())
            }
            FileType::Symlink => now - node.stat.stx_ctime.tv_sec > STALE,
            _ => false,
        };
        if is_left {
            let _ = unlinkat(folder, name, AtFlags::empty());
        }
    }
}

/// While somebody has this lock nobody takes the file for what a killed copy has left.
fn claim(file: impl AsFd) {
    let _ = rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
}

/// A file that has no name yet, or one that nobody guesses; what is left of it goes with it.
struct TempFile<'a> {
    folder: BorrowedFd<'a>,
    file: File,
    name: Option<Vec<u8>>,
}

impl<'a> TempFile<'a> {
    fn new(folder: BorrowedFd<'a>) -> Result<Self, Errno> {
        let mode = Mode::from_raw_mode(0o600);
        let nameless = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let (file, name) = match openat(folder, c".", nameless, mode) {
            Ok(file) => (file, None),
            // Not every file system has files without a name.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
                let name = guess()?;
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW;
                let file = openat(folder, &*name, flags | OFlags::CLOEXEC, mode)?;
                claim(&file);
                (file, Some(name))
            }
            Err(errno) => return Err(errno),
        };
        Ok(Self { folder, file: file.into(), name })
    }

    /// Gives it its first name. By itself takes CAP_DAC_READ_SEARCH (before Linux 6.10).
    fn name_it(&self, name: &[u8]) -> Result<(), Errno> {
        match linkat(&self.file, c"", self.folder, name, AtFlags::EMPTY_PATH) {
            Err(Errno::NOENT | Errno::PERM | Errno::INVAL) => {
                let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                linkat(CWD, own, self.folder, name, AtFlags::SYMLINK_FOLLOW)
            }
            done => done,
        }
    }

    /// Puts it where it belongs.
    fn settle(mut self, to: &[u8], keep: bool) -> Result<WriteOutcome, Errno> {
        if self.name.is_none() {
            match self.name_it(to) {
                Ok(()) => return Ok(WriteOutcome::Renamed),
                Err(Errno::EXIST) if keep => return Ok(WriteOutcome::Kept),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            let name = guess()?;
            claim(&self.file);
            self.name_it(&name)?;
            self.name = Some(name);
        }
        let Some(name) = self.name.take() else { return Err(Errno::IO) };
        match rename(self.folder, &name, to, keep) {
            Ok(()) => Ok(WriteOutcome::Renamed),
            Err(errno) => {
                // Its name goes with it.
                self.name = Some(name);
                if keep && errno == Errno::EXIST { Ok(WriteOutcome::Kept) } else { Err(errno) }
            }
        }
    }
}

impl Drop for TempFile<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = unlinkat(self.folder, &**name, AtFlags::empty());
        }
    }
}

/// Writes a file. `more` is told of bytes as they go.
///
/// # Errors
/// Those of the file system, the old file being as it was then, unless it is written in place; NOTSUP
/// where something stands that is no file, link or folder.
pub fn file(
    folder: &TargetDir,
    name: &[u8],
    content: &mut Content<'_>,
    traits: &Metadata,
    keep: bool,
    more: &mut dyn FnMut(u64),
) -> Result<(WriteOutcome, Vec<DroppedAttribute>), Errno> {
    // What is mounted there is seen by its mount: renamed over from outside of the container's mount
    // namespace, the kernel would take the mount away and leave what it was mounted from as it is.
    if let Some(mounted) = mounted(folder, name)? {
        return match keep {
            true => Ok((WriteOutcome::Kept, Vec::new())),
            false => in_place(&mounted, content, traits.sync, more),
        };
    }
    let draft = TempFile::new(folder.fd.as_fd())?;
    pour(content, &draft.file, more)?;
    let lost = dress(draft.file.as_fd(), traits);
    if traits.sync {
        rustix::fs::fsync(&draft.file)?;
    }
    let written = draft.settle(name, keep)?;
    if traits.sync {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::fsync(openat(&folder.fd, c".", flags, Mode::empty())?)?;
    }
    Ok((written, lost))
}

fn rename(folder: BorrowedFd<'_>, from: &[u8], to: &[u8], keep: bool) -> Result<(), Errno> {
    match keep {
        true => {
            let only_new = rustix::fs::RenameFlags::NOREPLACE;
            rustix::fs::renameat_with(folder, from, folder, to, only_new)
        }
        false => renameat(folder, from, folder, to),
    }
}

/// What is mounted over a name; none where nothing is. A device, fifo or socket there is somebody's
/// way to be reached: what takes its place ends it (`/dev/null` is one).
fn mounted(folder: &TargetDir, name: &[u8]) -> Result<Option<Node>, Errno> {
    let Ok(node) = Node::open(&folder.fd, name) else { return Ok(None) };
    match node.kind() {
        FileType::RegularFile | FileType::Symlink | FileType::Directory => {}
        _ => return Err(Errno::NOTSUP),
    }
    Ok((node.mount() != folder.mount).then_some(node))
}

/// Into the file itself, which keeps its owner and bits.
fn in_place(
    node: &Node,
    content: &mut Content<'_>,
    sync: bool,
    more: &mut dyn FnMut(u64),
) -> Result<(WriteOutcome, Vec<DroppedAttribute>), Errno> {
    if !node.kind().is_file() {
        return Err(Errno::ISDIR);
    }
    // It is cut to nothing before it is written.
    if let Content::File(from) = content {
        let own = rustix::fs::fstat(from)?;
        let there = rustix::fs::fstat(&node.fd)?;
        if (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino) {
            return Err(Errno::EXIST);
        }
    }
    let path = format!("/proc/self/fd/{}", node.fd.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(openat(CWD, path, flags, Mode::empty())?);
    pour(content, &file, more)?;
    if sync {
        rustix::fs::fsync(&file)?;
    }
    Ok((WriteOutcome::InPlace, Vec::new()))
}

/// Owner first: changing it takes setuid bits and capabilities away.
pub fn dress(file: BorrowedFd<'_>, traits: &Metadata) -> Vec<DroppedAttribute> {
    let mut lost = Vec::new();
    if let Some((uid, gid)) = traits.owner {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        if fchown(file, Some(uid), Some(gid)).is_err() && !is_owner(file, uid, gid) {
            lost.push(DroppedAttribute::Owner);
        }
    }
    // A setuid bit is for the owner that was meant.
    let mode = if lost.is_empty() { traits.mode } else { traits.mode & 0o777 };
    if fchmod(file, Mode::from_raw_mode(mode)).is_err() {
        lost.push(DroppedAttribute::Mode);
    }
    for (name, value) in &traits.xattrs {
        if fsetxattr(file, &**name, value, XattrFlags::empty()).is_err() {
            lost.push(DroppedAttribute::Xattrs);
            break;
        }
    }
    if let Some(times) = traits.modified.map(stamps)
        && futimens(file, &times).is_err()
    {
        lost.push(DroppedAttribute::Times);
    }
    lost
}

fn is_owner(file: BorrowedFd<'_>, uid: rustix::fs::Uid, gid: rustix::fs::Gid) -> bool {
    rustix::fs::fstat(file)
        .is_ok_and(|stat| stat.st_uid == uid.as_raw() && stat.st_gid == gid.as_raw())
}

fn stamps((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Sets the time of what has this name; of a link, its own.
pub fn set_time(folder: BorrowedFd<'_>, name: &[u8], time: (i64, u32)) {
    let _ = utimensat(folder, name, &stamps(time), AtFlags::SYMLINK_NOFOLLOW);
}

/// Makes a link, in the place of a file or link that is there.
///
/// # Errors
/// Those of the file system.
pub fn link(
    folder: &TargetDir,
    name: &[u8],
    target: &[u8],
    traits: &Metadata,
    keep: bool,
) -> Result<(WriteOutcome, Vec<DroppedAttribute>), Errno> {
    if mounted(folder, name)?.is_some() {
        return Err(Errno::BUSY);
    }
    let folder = folder.fd.as_fd();
    let beside = guess()?;
    symlinkat(target, folder, &*beside)?;
    let mut lost = Vec::new();
    if let Some((uid, gid)) = traits.owner {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        if chownat(folder, &*beside, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).is_err() {
            lost.push(DroppedAttribute::Owner);
        }
    }
    if let Some(time) = traits.modified {
        set_time(folder, &beside, time);
    }
    match rename(folder, &beside, name, keep) {
        Ok(()) => Ok((WriteOutcome::Renamed, lost)),
        Err(errno) => {
            let _ = unlinkat(folder, &*beside, AtFlags::empty());
            if keep && errno == Errno::EXIST { Ok((WriteOutcome::Kept, lost)) } else { Err(errno) }
        }
    }
}

/// Gives a file that was written before one more name, in the place of what is there.
///
/// # Errors
/// Those of the file system: EXDEV where it is another one.
pub fn another_name(
    (from, old): (&OwnedFd, &[u8]),
    to: &TargetDir,
    name: &[u8],
    keep: bool,
) -> Result<(), Errno> {
    let folder = to.fd.as_fd();
    match linkat(from, old, folder, name, AtFlags::empty()) {
        Err(Errno::EXIST) if !keep && mounted(to, name)?.is_none() => {}
        other => return other,
    }
    let beside = guess()?;
    linkat(from, old, folder, &*beside, AtFlags::empty())?;
    let moved = renameat(folder, &*beside, folder, name);
    // (Where both are names of one file already, rename(2) does nothing.)
    let _ = unlinkat(folder, &*beside, AtFlags::empty());
    moved
}
