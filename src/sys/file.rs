//! Calls on files that nix lacks: statx(2), extended attributes by descriptor, flock(2) on a borrowed
//! descriptor and a rename that replaces nothing. By descriptor or by one name below one; never by a
//! path of several names.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{
    AtFlags, FileType, FlockOperation, RenameFlags, StatxFlags, XattrFlags, flock, fremovexattr,
    fsetxattr, getxattr, listxattr, lsetxattr, renameat_with, statx,
};
use rustix::io::Errno;

/// The identity of a file whatever its names: major and minor device number, and inode.
pub type FileId = (u32, u32, u64);

/// The type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A character or block device.
    Device,
    /// Another type.
    Unknown,
}

/// The attributes of a file.
#[derive(Clone, Copy, Debug)]
pub struct FileAttributes {
    /// Its device and inode.
    pub id: FileId,
    /// Its type.
    pub kind: FileKind,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner, as this process's user namespace numbers users.
    pub uid: u32,
    /// Group, likewise.
    pub gid: u32,
    /// Number of hard links.
    pub links: u32,
    /// Size in bytes.
    pub size: u64,
    /// Bytes that are allocated on disk.
    pub allocated: u64,
    /// Time of the last access: seconds and nanoseconds since the epoch.
    pub accessed: (i64, u32),
    /// Time of the last modification: seconds and nanoseconds since the epoch.
    pub modified: (i64, u32),
    /// Time of the last status change, in seconds since the epoch.
    pub changed: i64,
    /// Mount ID, since Linux 5.8.
    pub mount: Option<u64>,
}

/// Returns the attributes of an open file.
///
/// # Errors
/// See statx(2).
pub fn attributes(fd: impl AsFd) -> io::Result<FileAttributes> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    let stat = statx(fd, c"", flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)?;
    let has_mount = stat.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice | FileType::BlockDevice => FileKind::Device,
        FileType::Unknown => FileKind::Unknown,
    };
    Ok(FileAttributes {
        id: (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino),
        kind,
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        links: stat.stx_nlink,
        size: stat.stx_size,
        allocated: stat.stx_blocks * 512,
        accessed: (stat.stx_atime.tv_sec, stat.stx_atime.tv_nsec),
        modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        changed: stat.stx_ctime.tv_sec,
        mount: has_mount.then_some(stat.stx_mnt_id),
    })
}

/// Returns the names of a file's extended attributes. The descriptor may be of any kind (`O_PATH`, a
/// symlink), as its link in `/proc` is asked (proc_pid_fd(5)).
///
/// # Errors
/// See listxattr(2). A file system without extended attributes has none, and is not an error.
pub fn xattr_names(fd: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    let path = super::fd::link(fd);
    let list = match grown(|buffer| listxattr(&*path, buffer)) {
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        list => list?,
    };
    let names = list.split(|b| *b == 0).filter(|name| !name.is_empty());
    Ok(names.map(<[u8]>::to_vec).collect())
}

/// Returns the value of an extended attribute, by a descriptor of any kind; none if the file does not have
/// it.
///
/// # Errors
/// See getxattr(2).
pub fn xattr(fd: impl AsFd, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let path = super::fd::link(fd);
    match grown(|buffer| getxattr(&*path, name, buffer)) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Calls a function with a buffer that grows up to the kernel's limit for a list and for one value
/// (XATTR_LIST_MAX, XATTR_SIZE_MAX).
fn grown(call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 512];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 64 << 10 => buffer.resize(64 << 10, 0),
            Err(errno) => return Err(errno),
        }
    }
}

/// Sets an extended attribute of an open file.
///
/// # Errors
/// See fsetxattr(2).
pub fn set_xattr(fd: impl AsFd, name: &[u8], value: &[u8]) -> io::Result<()> {
    Ok(fsetxattr(fd, name, value, XattrFlags::empty())?)
}

/// Sets an extended attribute of a name in a directory, of a symlink its own.
///
/// # Errors
/// See lsetxattr(2).
pub fn set_link_xattr(dir: impl AsFd, link: &[u8], name: &[u8], value: &[u8]) -> io::Result<()> {
    let path = [super::fd::link(dir).as_bytes(), b"/", link].concat();
    Ok(lsetxattr(path, name, value, XattrFlags::empty())?)
}

/// Removes an extended attribute of an open file, if it has it.
///
/// # Errors
/// See fremovexattr(2).
pub fn remove_xattr(fd: impl AsFd, name: &[u8]) -> io::Result<()> {
    match fremovexattr(fd, name) {
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        removed => Ok(removed?),
    }
}

/// Takes the exclusive lock of an open file without waiting, flock(2). It lasts until the file is closed.
///
/// # Errors
/// EWOULDBLOCK if another process holds it.
pub fn try_lock(fd: impl AsFd) -> io::Result<()> {
    Ok(flock(fd, FlockOperation::NonBlockingLockExclusive)?)
}

/// Renames a file within a directory, unless the new name exists (since Linux 3.15).
///
/// # Errors
/// See renameat2(2): EEXIST, EINVAL on a file system without it.
pub fn rename_no_replace(dir: impl AsFd, old: &[u8], new: &[u8]) -> io::Result<()> {
    Ok(renameat_with(&dir, old, &dir, new, RenameFlags::NOREPLACE)?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn attributes_are_those_of_stat() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "text").unwrap();
        let file = File::open(&path).unwrap();
        let (seen, stat) = (attributes(&file).unwrap(), file.metadata().unwrap());
        assert_eq!((seen.id.2, seen.size, seen.links), (stat.ino(), 4, 1));
        assert_eq!((seen.uid, seen.gid, seen.mode), (stat.uid(), stat.gid(), stat.mode() & 0o7777));
        let nanoseconds = u32::try_from(stat.mtime_nsec()).unwrap();
        assert_eq!((seen.modified, seen.changed), ((stat.mtime(), nanoseconds), stat.ctime()));
        assert_eq!(seen.kind, FileKind::Regular);
        assert_eq!(attributes(File::open("/dev/null").unwrap()).unwrap().kind, FileKind::Device);
        assert_eq!(attributes(File::open("/").unwrap()).unwrap().kind, FileKind::Directory);
    }

    #[test]
    fn a_rename_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        symlink("old", dir.path().join("a")).unwrap();
        symlink("new", dir.path().join("b")).unwrap();
        let held = File::open(dir.path()).unwrap();
        let failed = rename_no_replace(&held, b"a", b"b").unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::AlreadyExists);
        rename_no_replace(&held, b"a", b"c").unwrap();
        assert_eq!(std::fs::read_link(dir.path().join("c")).unwrap().to_str(), Some("old"));
    }

    #[test]
    fn a_lock_is_held_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let held = File::open(file.path()).unwrap();
        try_lock(&held).unwrap();
        let other = File::open(file.path()).unwrap();
        assert_eq!(try_lock(&other).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        try_lock(&other).unwrap();
    }
}
