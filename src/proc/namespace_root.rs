//! The root of a container whose init has changed its own: that of the mount namespace. A container that was
//! made by chroot(2) is in a copy of its maker's mounts, and its root is the init's.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::fstat;
use procfs::process::Process as Handle;

use super::host::Host;
use super::read::stat;
use crate::model::pid::{HostPid, ProcessId};
use crate::sys::fd;
use crate::sys::mount_root::{MountRoot, mount_root};

/// Ancestors whose roots are read.
const MAX_ANCESTORS: usize = 64;

/// Returns the roots, as device and inode, that are not the container's although its mount namespace may
/// have one of them: those of cinspect and of PID 1, and of the ancestors of a process that has changed its
/// root.
pub(super) fn foreign_roots(proc: &Path, parent: i32, with_ancestors: bool) -> Vec<(u64, u64)> {
    let root_of = |process: &str| {
        let meta = std::fs::metadata(proc.join(process).join("root")).ok()?;
        Some((meta.dev(), meta.ino()))
    };
    let mut roots: Vec<(u64, u64)> = ["self", "1"].into_iter().filter_map(root_of).collect();
    let mut ancestor = HostPid::new(parent).filter(|_| with_ancestors);
    for _ in 0..MAX_ANCESTORS {
        let Some(pid) = ancestor else { break };
        roots.extend(root_of(&pid.to_string()));
        let parent = Handle::new_with_root(proc.join(pid.to_string())).ok();
        let parent = parent.and_then(|handle| stat(&handle, &mut Vec::new()).ok());
        ancestor = parent.and_then(|stat| HostPid::new(stat.ppid));
    }
    roots
}

/// Opens the root of the mount namespace of a process, if it is the container's and not that of the process.
/// `process` is its directory in `proc`. Also none without the right to join the namespace.
pub(super) fn changed_root(proc: &Path, process: impl AsFd, parent: i32) -> Option<MountRoot> {
    let path = readlinkat(&process, "root").ok()?;
    if path.as_bytes() == b"/" {
        return None;
    }
    let proc_directory = fd::open(proc, OFlag::O_PATH | OFlag::O_DIRECTORY).ok()?;
    let found = mount_root(&proc_directory, &process).ok()?;
    let identity = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    let is_foreign = foreign_roots(proc, parent, true).contains(&identity(&found.root).ok()?);
    (!is_foreign).then_some(found)
}

impl Host {
    /// Opens the root of the container of an init that has changed its own root; none if it has not, or
    /// without the right to join its mount namespace. For a caller without other threads.
    pub fn root_of_container(&self, init: ProcessId) -> Option<OwnedFd> {
        let process = self.proc_path(init.pid.to_string());
        let process = fd::open(&process, OFlag::O_PATH | OFlag::O_DIRECTORY).ok()?;
        let stat = self.stat(init.pid).ok().filter(|stat| stat.start == init.start)?;
        Some(changed_root(&self.proc_path(""), &process, stat.ppid)?.root)
    }
}
