//! The cgroups below another, however deep: a process in one is the container's. A container that may make
//! cgroups may nest them without end, and their path may be longer than the kernel takes (`PATH_MAX`): they are
//! opened from a descriptor on the way.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::fstatat;

use crate::sys::fd;
use crate::sys::listing::each_entry;

/// Cgroups below one that are walked: no engine makes nearly as many.
pub(super) const MAX_BELOW: usize = 100_000;
/// Bytes of a path beyond which the next one starts at a descriptor, so that the kernel need not look up its parts
/// again and again.
const MAX_PATH: usize = 128;

/// A directory of a cgroup.
#[derive(Debug)]
pub(super) struct CgroupDir {
    /// The directory that the path starts at; none for an absolute path.
    base: Option<Rc<OwnedFd>>,
    path: PathBuf,
}

impl CgroupDir {
    /// Opens a file of the cgroup for reading.
    ///
    /// # Errors
    /// As openat(2).
    pub fn open(&self, name: &str) -> Result<File, Errno> {
        self.open_path(&self.path.join(name), OFlag::O_RDONLY).map(File::from)
    }

    fn open_path(&self, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
        match &self.base {
            Some(base) => fd::open_at(base, path, flags),
            None => fd::open(path, flags),
        }
    }

    /// Adds the cgroups directly below. One that is being removed has none.
    fn add_children(self, todo: &mut Vec<Self>) -> Result<(), Errno> {
        let stat = match &self.base {
            Some(base) => fstatat(base, &self.path, AtFlags::empty()),
            None => fstatat(AT_FDCWD, &self.path, AtFlags::empty()),
        };
        #[allow(clippy::useless_conversion, reason = "32 bits on other architectures")]
        if stat.is_ok_and(|stat| has_no_directory(stat.st_nlink.into())) {
            return Ok(());
        }
        let listed = match self.open_path(&self.path, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Ok(listed) => Rc::new(listed),
            Err(Errno::EMFILE | Errno::ENFILE) => return Err(Errno::EMFILE),
            Err(_) => return Ok(()),
        };
        let is_long = self.path.as_os_str().len() > MAX_PATH;
        let base = if is_long { Some(Rc::clone(&listed)) } else { self.base.clone() };
        let _ = each_entry(&listed, |name, is_dir| -> std::io::Result<()> {
            let name = OsStr::from_bytes(name.to_bytes());
            let path = if is_long { PathBuf::from(name) } else { self.path.join(name) };
            todo.extend(is_dir.then(|| Self { base: base.clone(), path }));
            Ok(())
        });
        Ok(())
    }
}

/// Calls a function with a cgroup and with each one below it, `most` of them, until it returns false, and returns
/// whether there are no others. The function gets whether it is the first.
///
/// # Errors
/// EMFILE without descriptors to go on.
pub(super) fn each_below(
    top: PathBuf,
    most: usize,
    mut each: impl FnMut(&CgroupDir, bool) -> bool,
) -> Result<bool, Errno> {
    let mut todo = vec![CgroupDir { base: None, path: top }];
    let mut count = 0;
    while let Some(dir) = todo.pop() {
        if count > most {
            return Ok(false);
        }
        if !each(&dir, count == 0) {
            return Ok(true);
        }
        count += 1;
        dir.add_children(&mut todo)?;
    }
    Ok(true)
}

/// Whether a cgroup directory has none below it: it has a link from each one there and two of its
/// own (fs/kernfs/inode.c), so that most need no listing of their dozens of control files. Other
/// file systems count differently, and never 2 with a directory in it.
pub(super) fn has_no_directory(links: u64) -> bool {
    links == 2
}
