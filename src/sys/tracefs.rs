//! The kernel's trace file system, for the numbers and layouts of its events: opened where the host has
//! it mounted, else mounted without a place in any mount namespace, so that it goes away with the
//! descriptor.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// Places below a root where distributions mount it, debugfs(5) included.
const PLACES: [&str; 2] = ["sys/kernel/tracing", "sys/kernel/debug/tracing"];

/// The trace file system.
#[derive(Debug)]
pub struct TraceFs(OwnedFd);

impl TraceFs {
    /// Opens it: where it is mounted here or below the root of the host, else a mount of its own.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN, ENODEV if the kernel has no tracefs, ENOSYS before Linux 5.2 where it
    /// is not mounted.
    pub fn open(host_root: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let below = |root: &Path| PLACES.map(|place| root.join(place));
        for place in below(Path::new("/")).into_iter().chain(below(host_root)) {
            let Ok(directory) = openat(CWD, &place, flags, Mode::empty()) else { continue };
            let found = Self(directory);
            if found.read("events/header_page").is_ok() {
                return Ok(found);
            }
        }
        let context = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        Ok(Self(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?))
    }

    /// Reads a file of it.
    ///
    /// # Errors
    /// As openat(2) and read(2).
    pub fn read(&self, path: &str) -> io::Result<String> {
        let file = openat(&self.0, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        io::read_to_string(File::from(file))
    }
}
