//! The file system of a container that is not running, mounted from its engine's store for this process
//! alone. The kernel handles whiteouts and opaque directories: the layers become one overlay
//! without an upper directory, which cannot be written to. In this order:
//!
//! 1. Leave the host's mount namespace, and receive and send no mounts any more: an earlier mount
//!    would appear on the host.
//! 2. Open the layers, in the new namespace: an overlay takes only directories of its own
//!    (clone_private_mount, fs/namespace.c).
//! 3. Mount a tmpfs, which has the mount point, over the topmost layer's own directory: no path that a
//!    user could name leads there.
//! 4. Mount the overlay; then volumes and bind mounts, each at its place beneath the root.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{chdir, fchdir};

use super::error::{failure, text};
use super::rootfs::{Node, Rootfs, duplicate};
use crate::engine::{StoreOmission, StoredMount, StoredRoot};
use crate::error::Error;
use crate::proc::{Host, ReadError, Trust};
use crate::sys::fd;
use crate::sys::file::FileKind;

const NONE: Option<&str> = None;
/// The mount point in the tmpfs, and the directory below all layers.
const ROOT: &str = "root";
const BOTTOM: &str = "bottom";

/// A root that is mounted, and the parts that are missing.
pub struct MountedRoot {
    /// The root directory.
    pub root: OwnedFd,
    /// The mounts that are left out.
    pub omissions: Vec<StoreOmission>,
}

/// Moves this process, which has one thread, to a mount namespace of its own.
///
/// # Errors
/// As unshare(2) and mount(2).
pub fn leave_mount_namespace() -> Result<(), Error> {
    let leave = || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(NONE, "/", NONE, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NONE)
    };
    leave().map_err(|errno| failed("cannot create a mount namespace".into(), errno))
}

/// Mounts a container's file system.
///
/// # Errors
/// The layers cannot be opened, or the kernel cannot mount them.
pub fn mount_stored(host: &Host, stored: &StoredRoot) -> Result<MountedRoot, Error> {
    let layers = stored.layers.iter().map(|path| open_layer(host, path));
    let layers = layers.collect::<Result<Vec<OwnedFd>, Error>>()?;
    let mut omissions = stored.omissions.clone();
    let mut mounts: Vec<(&StoredMount, OwnedFd)> = Vec::new();
    for mount in &stored.mounts {
        match open_source(host, stored.owner, &mount.source) {
            Ok(source) => mounts.push((mount, source)),
            Err(cause) => omissions.push(omission(mount, &cause)),
        }
    }
    // A mount in another mount comes after it.
    mounts.sort_by_key(|(mount, _)| mount.destination.components().count());
    let place = MountPlace::new(host, &stored.layers, layers, stored.owner)?;
    let mut root = place.mount_layers(&[])?;
    // A container that was never started lacks mount points.
    let is_missing = |(mount, _): &&(&StoredMount, OwnedFd)| find(&root, mount).is_err();
    let missing: Vec<_> = mounts.iter().filter(is_missing).collect();
    if !missing.is_empty() {
        let missing: Vec<_> =
            missing.into_iter().map(|(mount, fd)| (&*mount.destination, fd)).collect();
        root = place.mount_layers(&missing)?;
    }
    for (mount, source) in &mounts {
        if let Err(errno) = bind(&root, mount, source) {
            omissions.push(omission(mount, errno.desc()));
        }
    }
    // (The descriptor is of the overlay's root, and mounts in it are crossed from there.)
    Ok(MountedRoot { root, omissions })
}

fn failed(message: String, errno: Errno) -> Error {
    failure(message).cause(errno.desc())
}

fn omission(mount: &StoredMount, cause: &str) -> StoreOmission {
    let source = text(mount.source.as_os_str().as_bytes());
    StoreOmission::new(
        &mount.destination,
        format!("`{source}` is mounted there when it runs: {cause}"),
    )
}

/// Splits a path into its directory and its last name; a root is `.` of itself.
fn split(path: &Path) -> (&Path, &OsStr) {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => (parent, name),
        _ => (Path::new("/"), OsStr::new(".")),
    }
}

fn open_layer(host: &Host, path: &Path) -> Result<OwnedFd, Error> {
    let (dir, name) = split(path);
    let opened = host.state_dir(dir).and_then(|dir| dir.open_payload(name));
    opened.map_err(|error| {
        let path = text(path.as_os_str().as_bytes());
        failure(format!("cannot open the layer `{path}`")).cause(error.to_string())
    })
}

/// Opens a volume or bind mount. A directory that a user's record names must be that user's: else root would read
/// files for the user that the user cannot read.
fn open_source(host: &Host, owner: Trust, path: &Path) -> Result<OwnedFd, String> {
    let (dir, name) = split(path);
    let open = || -> Result<(Trust, OwnedFd), ReadError> {
        let parent = host.state_dir(dir)?;
        match parent.open_payload(name) {
            Ok(fd) => Ok((parent.owner(), fd)),
            // Links of root's to directories lead on.
            Err(error @ ReadError::Broken(_)) => {
                let dir = host.state_dir(path).map_err(|_| error)?;
                Ok((dir.owner(), dir.open_payload(OsStr::new("."))?))
            }
            Err(error) => Err(error),
        }
    };
    match open() {
        Ok((found, _)) if owner != Trust::Root && found != owner => {
            Err("the record is a user's, and this is not that user's directory".into())
        }
        Ok((_, fd)) => Ok(fd),
        Err(ReadError::Gone) => Err(Errno::ENOENT.desc().into()),
        Err(error) => Err(error.to_string()),
    }
}

/// The tmpfs with the mount point, and the open layers.
struct MountPlace {
    tmpfs: OwnedFd,
    layers: Vec<OwnedFd>,
    is_users: bool,
}

impl MountPlace {
    fn new(
        host: &Host,
        paths: &[PathBuf],
        layers: Vec<OwnedFd>,
        owner: Trust,
    ) -> Result<Self, Error> {
        let (dir, _) = split(paths.first().map_or(Path::new("/"), |path| path));
        let open = || host.state_dir(dir).and_then(|dir| dir.open_payload(OsStr::new(".")));
        let cannot = |cause: String| failure("cannot mount a tmpfs".into()).cause(cause);
        let below = open().map_err(|error| cannot(error.to_string()))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let options = Some("mode=0700,size=4m");
        mount(Some("tmpfs"), fd::link(&below).as_str(), Some("tmpfs"), flags, options)
            .map_err(|errno| cannot(errno.desc().into()))?;
        // By its path: the descriptor is of the directory below.
        let tmpfs = open().map_err(|error| cannot(error.to_string()))?;
        for name in [ROOT, BOTTOM] {
            mkdirat(&tmpfs, name, Mode::from_bits_truncate(0o755))
                .map_err(|errno| cannot(errno.desc().into()))?;
        }
        Ok(Self { tmpfs, layers, is_users: owner != Trust::Root })
    }

    /// Mounts the layers, with these mount points in a further layer at the bottom, and returns the
    /// root.
    fn mount_layers(&self, missing: &[(&Path, &OwnedFd)]) -> Result<OwnedFd, Error> {
        let cannot = |errno: Errno| {
            failed(format!("cannot mount its {} layers as one overlay", self.layers.len()), errno)
                .hint("the kernel's log (dmesg) may say more")
        };
        let [only] = &self.layers[..] else { return self.mount_overlay(missing).map_err(cannot) };
        if missing.is_empty() {
            return duplicate(only).map_err(cannot);
        }
        self.mount_overlay(missing).map_err(cannot)
    }

    fn mount_overlay(&self, missing: &[(&Path, &OwnedFd)]) -> Result<OwnedFd, Errno> {
        let directory = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let mut layers: Vec<String> = self.layers.iter().map(number).collect();
        let bottom = fd::open_at(&self.tmpfs, BOTTOM, directory)?;
        if !missing.is_empty() {
            let _ = umount2(&*format!("{}/{ROOT}", fd::link(&self.tmpfs)), MntFlags::MNT_DETACH);
            for (path, source) in missing {
                create_mount_point(&bottom, path, source)?;
            }
            layers.push(number(&bottom));
        }
        let point = fd::open_at(&self.tmpfs, ROOT, directory)?;
        overlay(&layers.join(":"), &fd::link(&point), self.is_users)?;
        fd::open_at(&self.tmpfs, ROOT, directory)
    }
}

/// Returns the name of a descriptor in `/proc/self/fd`: paths are too long for the kernel's options,
/// which have to fit into a page.
fn number(fd: &OwnedFd) -> String {
    let link = fd::link(fd);
    link.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Mounts an overlay of these directories of `/proc/self/fd`.
fn overlay(layers: &str, point: &str, is_users: bool) -> Result<(), Errno> {
    // In a user namespace overlayfs marks opaque directories with `user.overlay.` (since Linux 5.11).
    // Elsewhere a directory may have been renamed, and a file have its data in a lower layer.
    let options: &[&str] =
        if is_users { &[",userxattr"] } else { &[",redirect_dir=follow,metacopy=on", ""] };
    let working_directory = fd::open(".", OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    chdir("/proc/self/fd")?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let attempt = |options: &&str| {
        let options = format!("lowerdir={layers}{options}");
        mount(Some("overlay"), point, Some("overlay"), flags, Some(options.as_str()))
    };
    let mut result = Err(Errno::EINVAL);
    for options in options {
        result = attempt(options);
        if result != Err(Errno::EINVAL) {
            break;
        }
    }
    fchdir(&working_directory)?;
    result
}

/// Creates an empty file or directory beneath a directory, as the source is one.
fn create_mount_point(bottom: &OwnedFd, path: &Path, source: &OwnedFd) -> Result<(), Errno> {
    let is_directory = Node::from_fd(duplicate(source)?)?.kind() == FileKind::Directory;
    let names: Vec<&OsStr> = path
        .components()
        .filter_map(|part| if let Component::Normal(name) = part { Some(name) } else { None })
        .collect();
    let mut dir = duplicate(bottom)?;
    for (index, name) in names.iter().enumerate() {
        if index + 1 == names.len() && !is_directory {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            nix::fcntl::openat(&dir, *name, flags, Mode::from_bits_truncate(0o644))?;
            return Ok(());
        }
        match mkdirat(&dir, *name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        dir = fd::open_at(&dir, *name, flags)?;
    }
    Ok(())
}

/// Returns the mount point beneath the root: a symlink in the container leads nowhere else.
fn find(root: &OwnedFd, mount: &StoredMount) -> Result<Node, Errno> {
    let rootfs = Rootfs { root: Some(duplicate(root)?), ..Rootfs::host() };
    let resolved = rootfs.resolve(mount.destination.as_os_str().as_bytes(), true)?;
    resolved.node.ok_or(Errno::ENOENT)
}

fn bind(root: &OwnedFd, mount_of: &StoredMount, source: &OwnedFd) -> Result<(), Errno> {
    let point = find(root, mount_of)?;
    let recursive = if mount_of.recursive { MsFlags::MS_REC } else { MsFlags::empty() };
    let flags = MsFlags::MS_BIND | recursive;
    mount(Some(fd::link(source).as_str()), fd::link(&point.fd).as_str(), NONE, flags, NONE)
}
