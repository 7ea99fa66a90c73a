//! Opening a record in one call where root alone could have made each part of its path: then nothing can be
//! exchanged between the check of a directory and the opening of the file below it. Every other path, and one
//! with a link in it, is followed name by name.

use std::fs::File;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, SFlag, fstat, fstatat};

use super::StateDir;
use super::settle::Version;
use super::walk::is_writable_by_all;
use crate::proc::read::ReadError;
use crate::proc::trust::Trust;
use crate::sys::fd;

/// A regular file that was opened for reading.
pub(super) struct OpenedFile {
    pub file: File,
    /// Trust in the path and the file.
    pub owner: Trust,
    /// The first directory above a file of root's that is not.
    pub users_path: Option<PathBuf>,
    /// The size in bytes.
    pub size: u64,
    /// The content as it was before it is read.
    pub version: Version,
}

impl StateDir<'_> {
    /// Opens a regular file below this directory. Returns none where the path has to be followed name by
    /// name, which also produces every error message.
    pub(super) fn open_at_once(&self, below: &Path) -> Option<Result<OpenedFile, ReadError>> {
        let is_name = |part: Component<'_>| matches!(part, Component::Normal(_));
        if self.owner != Trust::Root || !below.components().all(is_name) {
            return None;
        }
        let mut dirs = below.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty());
        if !dirs.all(|dir| self.is_roots_dir(dir)) || self.crosses_network_mount(below) {
            return None;
        }
        // (A FIFO is not waited for, and nothing is read from it.)
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        // Since Linux 5.6; a seccomp filter may refuse it.
        let file = match openat2(&self.fd, below, OpenHow::new().flags(flags).resolve(resolve)) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Some(Err(ReadError::Gone)),
            Err(_) => return None,
        };
        let stat = fstat(&file).ok()?;
        let kind = fd::file_type(&stat);
        if kind != SFlag::S_IFREG || is_writable_by_all(&stat, kind) {
            return None;
        }
        let owner = self.fs.trust_of_user(stat.st_uid);
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let version = Version::new(&stat);
        Some(Ok(OpenedFile { file: file.into(), owner, users_path: None, size, version }))
    }

    /// Whether only root can change the entries of a directory below this one, which root alone can replace.
    fn is_roots_dir(&self, below: &Path) -> bool {
        let is_roots = |stat: FileStat| {
            let kind = fd::file_type(&stat);
            kind == SFlag::S_IFDIR
                && self.fs.trust_of_user(stat.st_uid) == Trust::Root
                && !is_writable_by_all(&stat, kind)
                // In a sticky directory users make entries of their own.
                && stat.st_mode & 0o002 == 0
        };
        fstatat(&self.fd, below, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(is_roots)
    }

    fn crosses_network_mount(&self, below: &Path) -> bool {
        let mounts = self.fs.network_mounts.get().filter(|mounts| !mounts.is_empty());
        mounts.is_some_and(|mounts| {
            below.ancestors().any(|part| mounts.contains(&self.path.join(part)))
        })
    }
}
