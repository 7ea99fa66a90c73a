//! One side of a copy: the host, or the root of a container. In a container each step of a path is taken
//! here, from one open directory to the next, and symlinks are followed as text beneath the root: the
//! kernel never resolves more than one name, so no link, `..` or rename leads out of the root, on any
//! kernel version (CVE-2018-15664, CVE-2019-10152).

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::statfs::fstatfs;

use crate::model::idmap::IdMap;
use crate::sys::fd;
use crate::sys::file::{self, FileAttributes, FileId, FileKind};

/// The largest `/etc/passwd` that is read.
const MAX_SMALL: u64 = 1 << 20;

/// The kernel's own limit (MAXSYMLINKS).
pub const MAX_SYMLINKS: usize = 40;

/// File systems of the kernel, which hold no files worth copying: f_type of statfs(2)
/// (include/uapi/linux/magic.h), and the name.
const PSEUDO: &[(i128, &str)] = &[
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x1cd1, "devpts"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0xcafe_4a11, "bpf"),
    (0x1980_0202, "mqueue"),
    (0x6265_6570, "configfs"),
    (0x6165_676c, "pstore"),
    (0xde5e_81e4, "efivarfs"),
];

/// FUSE_SUPER_MAGIC.
const FUSE: i128 = 0x6573_5546;

/// Whether a file is on a file system of a program, which may report any size.
pub fn is_fuse(fd: impl AsFd) -> bool {
    fstatfs(fd).is_ok_and(|stat| i128::from(stat.filesystem_type().0) == FUSE)
}

/// Returns the name of the kernel's file system that a file is on, if it is on one.
pub fn pseudo_fs(fd: impl AsFd) -> Option<&'static str> {
    let kind = i128::from(fstatfs(fd).ok()?.filesystem_type().0);
    PSEUDO.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name)
}

/// One side of a copy.
#[derive(Debug, Default)]
pub struct Rootfs {
    /// The root directory of the container; none for the host.
    pub root: Option<OwnedFd>,
    /// The user IDs of its user namespace.
    pub uid_map: IdMap,
    /// The group IDs of its user namespace.
    pub gid_map: IdMap,
    /// Owner and group of new files as host IDs: those of the container's init. None on the host.
    pub owner: Option<(u32, u32)>,
    /// Its user namespace, if that is not ours.
    pub user_ns: Option<OwnedFd>,
    /// The user and group IDs of the user namespace that this process has joined.
    pub joined: Option<Arc<(IdMap, IdMap)>>,
    /// The user and group, as this process sees IDs, that files are written as, if that is not its own.
    pub writer: Option<(u32, u32)>,
    /// The PID that `/proc/self` means: that of the process that the container was entered by, as the
    /// container numbers it. (To the kernel it would be this process.) None on the host and on disk.
    pub self_pid: Option<i32>,
    /// Advice on how to read the container's log.
    pub logs: Option<String>,
    /// The text before its paths in messages: `docker:web:`, or nothing for the host.
    pub prefix: String,
}

/// A path that was resolved but for its last name, which need not exist.
#[derive(Debug)]
pub struct ResolvedPath {
    /// The directory that it is in.
    pub dir: OwnedFd,
    /// Its name there; `.` for a root.
    pub name: Vec<u8>,
    /// The file; none if it does not exist.
    pub node: Option<Node>,
}

/// A file of any type, held by an `O_PATH` descriptor: it has not been opened.
#[derive(Debug)]
pub struct Node {
    /// The descriptor.
    pub fd: OwnedFd,
    /// Its attributes.
    pub attributes: FileAttributes,
}

impl Node {
    /// Takes one name of a directory, without following a symlink.
    ///
    /// # Errors
    /// See openat(2) and statx(2).
    pub fn open(dir: impl AsFd, name: &[u8]) -> Result<Self, Errno> {
        Self::from_fd(fd::open_at(dir, name, OFlag::O_PATH | OFlag::O_NOFOLLOW)?)
    }

    /// Takes a file that is open.
    ///
    /// # Errors
    /// See statx(2).
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Errno> {
        let attributes = file::attributes(&fd).map_err(to_errno)?;
        Ok(Self { fd, attributes })
    }

    /// Returns its mount ID: statx(2) has it since Linux 5.8, `fdinfo` since 3.15.
    pub fn mount(&self) -> Option<u64> {
        self.attributes.mount.or_else(|| fd::mount_id(&self.fd).map(u64::from))
    }

    /// Returns its device and inode.
    pub fn id(&self) -> FileId {
        self.attributes.id
    }

    /// Returns its type.
    pub fn kind(&self) -> FileKind {
        self.attributes.kind
    }

    /// Opens it for reading. Only a regular file or directory: opening a FIFO may block, and opening a
    /// device may do anything.
    ///
    /// # Errors
    /// ENOTSUP for another type; see openat(2) for others.
    pub fn open_to_read(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        match self.kind() {
            FileKind::Directory => fd::open_at(&self.fd, ".", flags | OFlag::O_DIRECTORY),
            FileKind::Regular => fd::reopen(&self.fd, flags),
            _ => Err(Errno::ENOTSUP),
        }
    }

    /// Returns the target of a symlink.
    ///
    /// # Errors
    /// See readlinkat(2).
    pub fn read_link(&self) -> Result<Vec<u8>, Errno> {
        Ok(readlinkat(&self.fd, "")?.into_vec())
    }
}

impl Rootfs {
    /// Returns the root of the host.
    pub fn host() -> Self {
        Self::default()
    }

    /// Translates the owner and group of a file from the IDs that this process sees to those of the
    /// container (or host). None if they have none there.
    pub fn container_ids(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        self.container_uid(uid).zip(self.container_gid(gid))
    }

    /// Translates a user, as [`Self::container_ids`].
    pub fn container_uid(&self, uid: u32) -> Option<u32> {
        let joined = self.joined.as_deref().map(|(uid_map, _)| uid_map);
        to_container(uid, joined, self.root.as_ref().map(|_| &self.uid_map))
    }

    /// Translates a group, as [`Self::container_ids`].
    pub fn container_gid(&self, gid: u32) -> Option<u32> {
        let joined = self.joined.as_deref().map(|(_, gid_map)| gid_map);
        to_container(gid, joined, self.root.as_ref().map(|_| &self.gid_map))
    }

    /// Translates IDs of the container (or host) to those that this process sees.
    pub fn visible_ids(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        self.visible_uid(uid).zip(self.visible_gid(gid))
    }

    /// Translates a user, as [`Self::visible_ids`].
    pub fn visible_uid(&self, uid: u32) -> Option<u32> {
        let joined = self.joined.as_deref().map(|(uid_map, _)| uid_map);
        to_visible(uid, joined, self.root.as_ref().map(|_| &self.uid_map))
    }

    /// Translates a group, as [`Self::visible_ids`].
    pub fn visible_gid(&self, gid: u32) -> Option<u32> {
        let joined = self.joined.as_deref().map(|(_, gid_map)| gid_map);
        to_visible(gid, joined, self.root.as_ref().map(|_| &self.gid_map))
    }

    /// Returns the owner and group of new files, as this process sees IDs.
    pub fn default_owner(&self) -> Option<(u32, u32)> {
        self.owner.and_then(|owner| self.visible_host_ids(owner))
    }

    fn visible_host_ids(&self, (uid, gid): (u32, u32)) -> Option<(u32, u32)> {
        match self.joined.as_deref() {
            None => Some((uid, gid)),
            Some((uid_map, gid_map)) => Some((uid_map.to_inside(uid)?, gid_map.to_inside(gid)?)),
        }
    }

    /// Whether its file system lets this process in not at all.
    pub fn refuses_us(&self) -> bool {
        let open = |root: &OwnedFd| Node::open(root, b".").map(drop);
        self.root.as_ref().is_some_and(|root| open(root) == Err(Errno::EACCES))
    }

    /// Returns a small file, such as `/etc/passwd`.
    ///
    /// # Errors
    /// It cannot be read; EFBIG if it is larger than 1 MiB: a part of it could end in a line that is cut off.
    pub fn read_small(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        let node = self.resolve(path, true)?.node.ok_or(Errno::ENOENT)?;
        let file = File::from(node.open_to_read()?);
        let mut bytes = Vec::new();
        file.take(MAX_SMALL + 1).read_to_end(&mut bytes).map_err(to_errno)?;
        if bytes.len() as u64 > MAX_SMALL { Err(Errno::EFBIG) } else { Ok(bytes) }
    }

    /// Resolves a path. A symlink at its end is followed if `follow` is set or a slash comes after it.
    ///
    /// # Errors
    /// ENOENT if a directory on the way is missing, ENOTDIR, ELOOP, EACCES.
    pub fn resolve(&self, path: &[u8], follow: bool) -> Result<ResolvedPath, Errno> {
        match &self.root {
            Some(root) => resolve_beneath(root, path, follow, self.self_pid),
            None => resolve_on_host(path, follow),
        }
    }
}

/// Translates an ID that this process sees, in the namespace that it joined, to one of a container.
fn to_container(id: u32, joined: Option<&IdMap>, container: Option<&IdMap>) -> Option<u32> {
    let host = joined.map_or(Some(id), |map| map.to_outside(id))?;
    container.map_or(Some(host), |map| map.to_inside(host))
}

/// Translates an ID of a container to the one that this process sees in the namespace that it joined.
fn to_visible(id: u32, joined: Option<&IdMap>, container: Option<&IdMap>) -> Option<u32> {
    let host = container.map_or(Some(id), |map| map.to_outside(id))?;
    joined.map_or(Some(host), |map| map.to_inside(host))
}

/// Converts an error of the operating system.
pub fn to_errno(error: std::io::Error) -> Errno {
    Errno::try_from(error).unwrap_or(Errno::EIO)
}

/// Duplicates a descriptor.
///
/// # Errors
/// EMFILE.
pub fn duplicate(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    fd.try_clone().map_err(to_errno)
}

fn open_directory(path: &[u8]) -> Result<OwnedFd, Errno> {
    fd::open(path, OFlag::O_PATH | OFlag::O_DIRECTORY)
}

/// Resolves a path of the user on the host, which the kernel does.
fn resolve_on_host(path: &[u8], follow: bool) -> Result<ResolvedPath, Errno> {
    let length = path.iter().rposition(|b| *b != b'/').map_or(0, |last| last + 1);
    let trimmed = &path[..length];
    let has_slash = length < path.len();
    let (parent, name) = match trimmed.iter().rposition(|b| *b == b'/') {
        Some(slash) => trimmed.split_at(slash + 1),
        None => (&b"."[..], trimmed),
    };
    if name.is_empty() || name == b"." || name == b".." {
        let fd = open_directory(if path.is_empty() { b"." } else { path })?;
        let node = Some(Node::from_fd(duplicate(&fd)?)?);
        return Ok(ResolvedPath { dir: fd, name: b".".to_vec(), node });
    }
    let dir = open_directory(parent)?;
    let node = match Node::open(&dir, name) {
        Ok(node) if node.kind() == FileKind::Symlink && (follow || has_slash) => {
            // The kernel decides whether the link may be followed, and whether it leads to something.
            match fd::open(path, OFlag::O_PATH) {
                Ok(_) => {}
                // A file can be made there, as in a container.
                Err(Errno::ENOENT) if !has_slash => {}
                Err(errno) => return Err(errno),
            }
            // The directory has to be that of the file it leads to: a rename there would else replace
            // the link.
            let target = node.read_link()?;
            let is_absolute = target.starts_with(b"/");
            let next = if is_absolute { target } else { [parent, b"/", &target].concat() };
            return resolve_on_host(&next, true);
        }
        Ok(node) => Some(node),
        Err(Errno::ENOENT) => None,
        Err(errno) => return Err(errno),
    };
    Ok(ResolvedPath { dir, name: name.to_owned(), node })
}

fn resolve_beneath(
    root: &OwnedFd,
    path: &[u8],
    follow: bool,
    self_pid: Option<i32>,
) -> Result<ResolvedPath, Errno> {
    // The open directories from the root on: `..` is the one before. The root has none above it.
    let mut stack = vec![duplicate(root)?];
    let mut remaining: VecDeque<Vec<u8>> = parts(path).collect();
    let (mut has_slash, mut symlinks) = (path.ends_with(b"/"), 0);
    while let Some(name) = remaining.pop_front() {
        let Some(dir) = stack.last() else { return Err(Errno::ENOENT) };
        if name == b".." {
            if stack.len() > 1 {
                stack.pop();
            }
            continue;
        }
        if let Some(path) = self_pid.and_then(|pid| self_path(dir, &name, pid)) {
            for part in parts(path.as_bytes()).collect::<Vec<_>>().into_iter().rev() {
                remaining.push_front(part);
            }
            continue;
        }
        let is_last = remaining.is_empty();
        let node = match Node::open(dir, &name) {
            Ok(node) => node,
            Err(Errno::ENOENT) if is_last => {
                return Ok(ResolvedPath { dir: duplicate(dir)?, name, node: None });
            }
            Err(errno) => return Err(errno),
        };
        match node.kind() {
            FileKind::Symlink if !is_last || follow || has_slash => {
                symlinks += 1;
                if symlinks > MAX_SYMLINKS {
                    return Err(Errno::ELOOP);
                }
                let target = node.read_link()?;
                if target.starts_with(b"/") {
                    stack.truncate(1);
                }
                has_slash |= is_last && target.ends_with(b"/");
                for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                    remaining.push_front(part);
                }
            }
            FileKind::Directory => stack.push(node.fd),
            _ if is_last => {
                return Ok(ResolvedPath { dir: duplicate(dir)?, name, node: Some(node) });
            }
            _ => return Err(Errno::ENOTDIR),
        }
    }
    // A directory is returned as `.` of itself: it may be a root, which has no name.
    let dir = stack.pop().ok_or(Errno::ENOENT)?;
    let node = Some(Node::from_fd(duplicate(&dir)?)?);
    Ok(ResolvedPath { dir, name: b".".to_vec(), node })
}

/// Returns the target of `self` or `thread-self` in a proc file system.
fn self_path(dir: &OwnedFd, name: &[u8], pid: i32) -> Option<String> {
    let path = match name {
        b"self" => format!("{pid}"),
        b"thread-self" => format!("{pid}/task/{pid}"),
        _ => return None,
    };
    // The root of every proc file system is inode 1 (PROC_ROOT_INO, include/linux/proc_fs.h).
    let is_root = || Some(file::attributes(dir).ok()?.id.2 == 1);
    (pseudo_fs(dir) == Some("proc") && is_root()?).then_some(path)
}

fn parts(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn rootfs(root: &Path) -> Rootfs {
        let root = fd::open(root, OFlag::O_PATH | OFlag::O_DIRECTORY).unwrap();
        Rootfs { root: Some(root), ..Rootfs::host() }
    }

    /// Returns the path of the file that was found, relative to the directory of the test.
    fn resolved(rootfs: &Rootfs, top: &Path, path: &str) -> Result<String, Errno> {
        let node = rootfs.resolve(path.as_bytes(), true)?.node.ok_or(Errno::ENOENT)?;
        let path = std::fs::read_link(fd::link(&node.fd)).unwrap();
        Ok(path.strip_prefix(top).map_or_else(|_| "outside".into(), |p| p.display().to_string()))
    }

    #[test]
    fn statx_and_fdinfo_agree_on_the_mount() {
        for path in ["/", "/proc/self/status", "/sys"] {
            let mut node = Node::from_fd(fd::open(path, OFlag::O_PATH).unwrap()).unwrap();
            let mount = node.mount();
            assert!(mount.is_some());
            node.attributes.mount = None;
            assert_eq!(node.mount(), mount);
        }
    }

    #[test]
    fn ids_are_translated_with_and_without_a_joined_namespace() {
        // Host user 1000 is root in the container, and user 1 there is 100000 on the host.
        let map = IdMap::parse(b"0 1000 1\n1 100000 65536\n").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut container = rootfs(dir.path());
        (container.uid_map, container.gid_map) = (map.clone(), map.clone());
        container.owner = Some((1000, 1000));
        assert_eq!(container.container_ids(100_004, 1000), Some((5, 0)));
        assert_eq!(container.visible_ids(5, 0), Some((100_004, 1000)));
        assert_eq!(container.visible_ids(70_000, 0), None);
        let joined = Some(Arc::new((map.clone(), map)));
        container.joined.clone_from(&joined);
        assert_eq!(container.container_ids(5, 0), Some((5, 0)));
        assert_eq!(container.visible_ids(5, 0), Some((5, 0)));
        assert_eq!(container.default_owner(), Some((0, 0)));
        // After joining, a file of host user 1000 looks like root's.
        let host = Rootfs { joined, ..Rootfs::host() };
        assert_eq!(host.container_ids(0, 0), Some((1000, 1000)));
        assert_eq!(host.visible_ids(1000, 1000), Some((0, 0)));
        assert_eq!(host.visible_ids(0, 0), None);
    }

    #[test]
    fn nothing_leads_out_of_a_root() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let root = top.join("root");
        std::fs::create_dir_all(root.join("etc/deep")).unwrap();
        std::fs::write(root.join("etc/passwd"), "in the container").unwrap();
        std::fs::write(top.join("secret"), "outside").unwrap();
        symlink("/etc/passwd", root.join("absolute")).unwrap();
        symlink("../../../../etc", root.join("etc/deep/up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("/proc/self/root/etc/passwd", root.join("magic")).unwrap();
        symlink("missing", root.join("dangling")).unwrap();
        let rootfs = rootfs(&root);
        for (path, expected) in [
            ("absolute", Ok("root/etc/passwd".into())),
            ("/etc/deep/up/passwd", Ok("root/etc/passwd".into())),
            ("../../../secret", Err(Errno::ENOENT)),
            ("../../..", Ok("root".into())),
            ("loop", Err(Errno::ELOOP)),
            ("magic", Err(Errno::ENOENT)),
            ("etc/passwd/x", Err(Errno::ENOTDIR)),
            ("nothing/x", Err(Errno::ENOENT)),
        ] {
            assert_eq!(resolved(&rootfs, &top, path), expected, "{path}");
        }
        // A missing file is described by its directory and name, through a symlink too.
        let missing = rootfs.resolve(b"dangling", true).unwrap();
        assert_eq!((missing.node.is_none(), missing.name), (true, b"missing".to_vec()));
        let link = rootfs.resolve(b"absolute", false).unwrap();
        assert_eq!(link.node.unwrap().kind(), FileKind::Symlink);
    }
}
