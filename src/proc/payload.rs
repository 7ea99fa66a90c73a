//! Data that containers wrote, below directories of records: it is held open, and never read as a record.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{SFlag, fstat};

use super::read::ReadError;
use super::trust::Trust;
use super::trusted_fs::StateDir;
use crate::sys::fd;

impl StateDir<'_> {
    /// Returns the user who could have written the files in it.
    pub fn owner(&self) -> Trust {
        self.owner
    }

    /// Opens a file in it with `O_PATH`: one that a container wrote, with any owner and mode, and not a
    /// record. A symlink is not followed.
    ///
    /// # Errors
    /// [`ReadError::Broken`] if it is a symlink, or the name has a slash.
    pub fn open_payload(&self, name: &OsStr) -> Result<OwnedFd, ReadError> {
        let refuse = |why: &str| {
            let path = self.path.join(name);
            Err(ReadError::Broken(format!("`{}` is not trusted: {why}", path.display())))
        };
        if name.as_bytes().contains(&b'/') || name == ".." {
            return refuse("it is not the name of a file");
        }
        let fd = fd::open_at(&self.fd, name, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        if fd::file_type(&fstat(&fd)?) == SFlag::S_IFLNK {
            return refuse("it is a symlink");
        }
        Ok(fd)
    }

    /// Returns the target of a symlink below it, which is only text: nothing is followed.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::Broken`] if its directory is not trusted.
    pub fn link_target(&self, below: impl AsRef<Path>) -> Result<PathBuf, ReadError> {
        let below = below.as_ref();
        let dir = self.dir(below.parent().unwrap_or(Path::new("")))?;
        let target = readlinkat(&dir.fd, below.file_name().unwrap_or_default())?;
        Ok(target.into())
    }
}
