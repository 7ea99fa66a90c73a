//! Opening below procfs's handle on `/proc/PID` with flags. They are rustix's, on which procfs is built:
//! this is the one file of the project that uses them. Nothing here creates or changes a file.

use std::os::fd::OwnedFd;
use std::path::Path;

use procfs::ProcResult;
use procfs::process::Process;
use rustix::fs::OFlags;

/// Opens a link itself, not the file that it leads to, for readlinkat(2).
///
/// # Errors
/// As openat(2), with the path.
pub fn open_link(process: &Process, path: impl AsRef<Path>) -> ProcResult<OwnedFd> {
    open(process, path, OFlags::PATH | OFlags::NOFOLLOW)
}

/// Opens a directory as a place to open from, which takes no right to list it.
///
/// # Errors
/// As openat(2), with the path.
pub fn open_place(process: &Process, path: impl AsRef<Path>) -> ProcResult<OwnedFd> {
    open(process, path, OFlags::PATH | OFlags::DIRECTORY)
}

/// Opens a directory for listing.
///
/// # Errors
/// As openat(2), with the path.
pub fn open_listing(process: &Process, path: impl AsRef<Path>) -> ProcResult<OwnedFd> {
    open(process, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

fn open(process: &Process, path: impl AsRef<Path>, flags: OFlags) -> ProcResult<OwnedFd> {
    process.open_relative_flags(path, flags | OFlags::CLOEXEC).map(OwnedFd::from)
}
