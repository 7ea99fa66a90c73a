//! Writes one file, link or folder at a spot: beside its target and renamed over it, so that whoever
//! reads it sees the old or the new one, and a running program's file can be replaced.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, SeekFrom, Timespec, Timestamps, XattrFlags, chownat, fchmod,
    fchown, fsetxattr, ftruncate, futimens, linkat, openat, renameat, seek, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;

use super::place::Node;

/// What becomes of a file beside its bytes.
#[derive(Clone, Debug, Default)]
pub struct Traits {
    /// Permission bits.
    pub mode: u32,
    /// User and group as we number them; none to leave what the file is made with.
    pub owner: Option<(u32, u32)>,
    /// When it was changed; none for now.
    pub modified: Option<(i64, u32)>,
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Beside, and renamed over.
    Renamed,
    /// Into the file itself: something is mounted there, or it cannot be renamed over.
    InPlace,
    /// It was there already, and is to stay.
    Kept,
}

/// What could not be kept, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lost {
    /// Owner and group.
    Owner,
    /// Permission bits.
    Mode,
    /// Times.
    Times,
    /// Extended attributes, file capabilities among them.
    Xattrs,
}

impl Lost {
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

/// Bytes from anywhere.
pub enum Content<'a> {
    /// A file, of which holes stay holes.
    File(&'a File),
    /// A stream of so many bytes.
    Stream(&'a mut dyn Read),
}

/// Prefix and suffix of the names that files have for a moment.
const BEFORE: &str = ".cinspect-";
const AFTER: &str = "~";
const CHUNK: usize = 1 << 20;
const SMALL: u64 = 64 << 10;

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

/// Takes away what a copy that was killed has left in a folder: files of such a name that nobody who
/// copies holds (flock(2)).
pub fn sweep(folder: &OwnedFd) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(listed) = openat(folder, c".", flags, Mode::empty()) else { return };
    let Ok(entries) = rustix::fs::Dir::new(listed) else { return };
    for entry in entries.flatten().filter(|entry| is_ours(entry.file_name().to_bytes())) {
        let name = entry.file_name();
        let Ok(node) = Node::open(folder, name.to_bytes()) else { continue };
        let Ok(file) = node.open_to_read() else { continue };
        let lock = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        if node.kind().is_file() && rustix::fs::flock(&file, lock).is_ok() {
            let _ = unlinkat(folder, name, AtFlags::empty());
        }
    }
}

/// While somebody has this lock nobody takes the file for what a killed copy has left.
fn claim(file: impl AsFd) {
    let _ = rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
}

/// A file that has no name yet, or one that nobody guesses; what is left of it goes with it.
struct Draft<'a> {
    folder: BorrowedFd<'a>,
    file: File,
    name: Option<Vec<u8>>,
}

impl<'a> Draft<'a> {
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

    /// Puts it where it belongs.
    fn settle(mut self, to: &[u8], keep: bool) -> Result<Written, Errno> {
        if self.name.is_none() {
            let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            match linkat(CWD, &*own, self.folder, to, AtFlags::SYMLINK_FOLLOW) {
                Ok(()) => return Ok(Written::Renamed),
                Err(Errno::EXIST) if keep => return Ok(Written::Kept),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            let name = guess()?;
            claim(&self.file);
            linkat(CWD, &*own, self.folder, &*name, AtFlags::SYMLINK_FOLLOW)?;
            self.name = Some(name);
        }
        let Some(name) = self.name.take() else { return Err(Errno::IO) };
        match rename(self.folder, &name, to, keep) {
            Ok(()) => Ok(Written::Renamed),
            Err(errno) => {
                // Its name goes with it.
                self.name = Some(name);
                if keep && errno == Errno::EXIST { Ok(Written::Kept) } else { Err(errno) }
            }
        }
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = unlinkat(self.folder, &**name, AtFlags::empty());
        }
    }
}

/// Writes a file. `more` is told of bytes as they go.
///
/// # Errors
/// Those of the file system; the old file is as it was then, unless it is written in place.
pub fn file(
    folder: BorrowedFd<'_>,
    name: &[u8],
    content: &mut Content<'_>,
    traits: &Traits,
    keep: bool,
    more: &mut dyn FnMut(u64),
) -> Result<(Written, Vec<Lost>), Errno> {
    // What is mounted there is seen by its mount: renamed over from outside of the container's mount
    // namespace, the kernel would take the mount away and leave what it was mounted from as it is.
    if let Some(mounted) = mounted(folder, name)? {
        return match keep {
            true => Ok((Written::Kept, Vec::new())),
            false => in_place(&mounted, content, more),
        };
    }
    let draft = Draft::new(folder)?;
    pour(content, &draft.file, more)?;
    let lost = dress(draft.file.as_fd(), traits);
    Ok((draft.settle(name, keep)?, lost))
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

/// What is mounted over a name; none where nothing is.
fn mounted(folder: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Node>, Errno> {
    let Ok(node) = Node::open(folder, name) else { return Ok(None) };
    let above = Node::of(rustix::io::fcntl_dupfd_cloexec(folder, 0)?)?;
    Ok((node.stat.stx_mnt_id != above.stat.stx_mnt_id).then_some(node))
}

/// Into the file itself, which keeps its owner and bits.
fn in_place(
    node: &Node,
    content: &mut Content<'_>,
    more: &mut dyn FnMut(u64),
) -> Result<(Written, Vec<Lost>), Errno> {
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
    Ok((Written::InPlace, Vec::new()))
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Bytes, by the kernel where it can (reflinks among them), and holes as holes.
fn pour(content: &mut Content<'_>, to: &File, more: &mut dyn FnMut(u64)) -> Result<(), Errno> {
    let from = match content {
        Content::Stream(stream) => {
            let mut chunk = vec![0; CHUNK];
            let mut to = to;
            loop {
                let read = match stream.read(&mut chunk) {
                    Ok(0) => return Ok(()),
                    Ok(read) => read,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(errno(&error)),
                };
                to.write_all(&chunk[..read]).map_err(|error| errno(&error))?;
                more(read as u64);
            }
        }
        Content::File(file) => *file,
    };
    let size = from.metadata().map_err(|error| errno(&error))?.len();
    // What says that it is empty may be a file of the kernel's, which has to be read to know; and a
    // small one has no hole that is worth the asking.
    if size == 0 {
        return read_and_write(from, to, u64::MAX, more).map(drop);
    }
    if size <= SMALL {
        return read_and_write(from, to, size, more).map(drop);
    }
    // What it becomes longer by meanwhile is not part of this copy.
    let mut at = 0;
    while at < size {
        let data = match seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => size,
            Err(_) => at,
        };
        if data >= size {
            break;
        }
        let end = seek(from, SeekFrom::Hole(data)).unwrap_or(size).clamp(data + 1, size);
        seek(from, SeekFrom::Start(data))?;
        seek(to, SeekFrom::Start(data))?;
        let gone = by_kernel(from, to, end - data, more)?;
        if gone < end - data {
            // It was cut while we read.
            return ftruncate(to, data + gone);
        }
        at = end;
    }
    ftruncate(to, size)
}

fn by_kernel(from: &File, to: &File, length: u64, more: &mut dyn FnMut(u64)) -> Result<u64, Errno> {
    let mut gone = 0;
    while gone < length {
        let many = usize::try_from((length - gone).min(128 << 20)).unwrap_or(CHUNK);
        match rustix::fs::copy_file_range(from, None, to, None, many) {
            Ok(0) => return Ok(gone),
            Ok(copied) => {
                gone += copied as u64;
                more(copied as u64);
            }
            Err(Errno::INTR) => {}
            Err(
                Errno::XDEV
                | Errno::INVAL
                | Errno::NOSYS
                | Errno::OPNOTSUPP
                | Errno::PERM
                | Errno::BADF,
            ) => {
                return Ok(gone + read_and_write(from, to, length - gone, more)?);
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(gone)
}

fn read_and_write(
    mut from: &File,
    mut to: &File,
    length: u64,
    more: &mut dyn FnMut(u64),
) -> Result<u64, Errno> {
    let most = usize::try_from(length.clamp(1, CHUNK as u64)).unwrap_or(CHUNK);
    let mut chunk = vec![0; if length == u64::MAX { SMALL as usize } else { most }];
    let mut gone = 0;
    while gone < length {
        let many = usize::try_from((length - gone).min(chunk.len() as u64)).unwrap_or(CHUNK);
        match from.read(&mut chunk[..many]) {
            Ok(0) => break,
            Ok(read) => {
                to.write_all(&chunk[..read]).map_err(|error| errno(&error))?;
                gone += read as u64;
                more(read as u64);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(errno(&error)),
        }
    }
    Ok(gone)
}

/// Owner first: changing it takes setuid bits and capabilities away.
pub fn dress(file: BorrowedFd<'_>, traits: &Traits) -> Vec<Lost> {
    let mut lost = Vec::new();
    if let Some((uid, gid)) = traits.owner {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        if fchown(file, Some(uid), Some(gid)).is_err() && !is_owner(file, uid, gid) {
            lost.push(Lost::Owner);
        }
    }
    // A setuid bit is for the owner that was meant.
    let mode = if lost.is_empty() { traits.mode } else { traits.mode & 0o777 };
    if fchmod(file, Mode::from_raw_mode(mode)).is_err() {
        lost.push(Lost::Mode);
    }
    for (name, value) in &traits.xattrs {
        if fsetxattr(file, &**name, value, XattrFlags::empty()).is_err() {
            lost.push(Lost::Xattrs);
            break;
        }
    }
    if let Some(times) = traits.modified.map(stamps)
        && futimens(file, &times).is_err()
    {
        lost.push(Lost::Times);
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

/// Makes a link, in the place of a file or link that is there.
///
/// # Errors
/// Those of the file system.
pub fn link(
    folder: BorrowedFd<'_>,
    name: &[u8],
    target: &[u8],
    traits: &Traits,
    keep: bool,
) -> Result<(Written, Vec<Lost>), Errno> {
    if mounted(folder, name)?.is_some() {
        return Err(Errno::BUSY);
    }
    let beside = guess()?;
    symlinkat(target, folder, &*beside)?;
    let mut lost = Vec::new();
    if let Some((uid, gid)) = traits.owner {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        if chownat(folder, &*beside, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).is_err() {
            lost.push(Lost::Owner);
        }
    }
    if let Some(times) = traits.modified.map(stamps) {
        let _ = utimensat(folder, &*beside, &times, AtFlags::SYMLINK_NOFOLLOW);
    }
    match rename(folder, &beside, name, keep) {
        Ok(()) => Ok((Written::Renamed, lost)),
        Err(errno) => {
            let _ = unlinkat(folder, &*beside, AtFlags::empty());
            if keep && errno == Errno::EXIST { Ok((Written::Kept, lost)) } else { Err(errno) }
        }
    }
}

/// Gives a file that was written before one more name, in the place of what is there.
///
/// # Errors
/// Those of the file system: EXDEV where it is another one.
pub fn another_name(
    (from, old): (&OwnedFd, &[u8]),
    folder: BorrowedFd<'_>,
    name: &[u8],
    keep: bool,
) -> Result<(), Errno> {
    match linkat(from, old, folder, name, AtFlags::empty()) {
        Err(Errno::EXIST) if !keep && mounted(folder, name)?.is_none() => {}
        other => return other,
    }
    let beside = guess()?;
    linkat(from, old, folder, &*beside, AtFlags::empty())?;
    let moved = renameat(folder, &*beside, folder, name);
    // (Where both are names of one file already, rename(2) does nothing.)
    let _ = unlinkat(folder, &*beside, AtFlags::empty());
    moved
}
