//! The entries of an open directory, readdir(3), as an iterator that lends its descriptor: an entry is
//! then opened below the very directory that listed it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::dir::{Dir, OwningIter, Type};
use nix::errno::Errno;

use super::fd;
use super::file::FileKind;

/// The entries of a directory without `.` and `..`, in the order of the file system.
#[derive(Debug)]
pub struct DirEntries(OwningIter);

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name.
    pub name: Vec<u8>,
    /// Its type; `None` on file systems that do not store it.
    pub kind: Option<FileKind>,
}

impl DirEntries {
    /// Lists a directory that is open for reading.
    ///
    /// # Errors
    /// ENOTDIR, ENOMEM.
    pub fn new(dir: OwnedFd) -> Result<Self, Errno> {
        Ok(Self(Dir::from_fd(dir)?.into_iter()))
    }

    /// Opens a directory for listing, by a descriptor of any kind.
    ///
    /// # Errors
    /// See openat(2): EACCES without the right to read it.
    pub fn list(dir: impl AsFd) -> Result<Self, Errno> {
        Ok(Self(fd::list(dir)?.into_iter()))
    }
}

impl AsFd for DirEntries {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the iterator, which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}

impl Iterator for DirEntries {
    type Item = Result<DirEntry, Errno>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.0.next()? {
                Ok(entry) => entry,
                Err(errno) => return Some(Err(errno)),
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = entry.file_type().map(|kind| match kind {
                Type::File => FileKind::Regular,
                Type::Directory => FileKind::Directory,
                Type::Symlink => FileKind::Symlink,
                Type::Fifo => FileKind::Fifo,
                Type::Socket => FileKind::Socket,
                Type::CharacterDevice | Type::BlockDevice => FileKind::Device,
            });
            return Some(Ok(DirEntry { name: name.to_owned(), kind }));
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::fcntl::OFlag;

    use super::*;

    #[test]
    fn entries_open_below_their_directory() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        std::fs::write(dir.path().join("dir/file"), "").unwrap();
        let held = fd::open(&dir.path().join("dir"), OFlag::O_PATH).unwrap();
        std::fs::rename(dir.path().join("dir"), dir.path().join("moved")).unwrap();
        let mut entries = DirEntries::list(&held).unwrap();
        let entry = entries.next().unwrap().unwrap();
        assert_eq!(entry, DirEntry { name: b"file".to_vec(), kind: Some(FileKind::Regular) });
        fd::open_at(&entries, &*entry.name, OFlag::O_RDONLY).unwrap();
        assert!(entries.next().is_none());
    }
}
