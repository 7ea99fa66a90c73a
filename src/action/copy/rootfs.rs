//! A side of a copy: this host, or a container's root. Inside of a container every step of every path
//! is taken by us, from one held folder to the next, and links are followed as text beneath its root:
//! the kernel never resolves more than one name, so that no link, no `..` and no renaming leads out of
//! it, on any kernel (CVE-2018-15664, CVE-2019-10152).

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Statx, StatxFlags, openat, readlinkat, statx,
};
use rustix::io::Errno;

use crate::model::idmap::IdMap;

/// As the kernel does (MAXSYMLINKS).
const MAX_LINKS: usize = 40;

/// File systems of the kernel's own that hold no files in the sense of a copy: `statfs` f_type
/// (include/uapi/linux/magic.h), and what they are called.
const PSEUDO: &[(u64, &str)] = &[
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

/// Which of them something is on, if on any.
pub fn pseudo(fd: impl AsFd) -> Option<&'static str> {
    let kind = rustix::fs::fstatfs(fd).ok()?.f_type;
    PSEUDO.iter().find(|(magic, _)| i128::from(*magic) == i128::from(kind)).map(|(_, name)| *name)
}

/// A file, whatever its names: its device and inode.
pub type FileId = (u32, u32, u64);

/// A side.
#[derive(Debug)]
pub struct Rootfs {
    /// The container's root; none for this host.
    pub root: Option<OwnedFd>,
    /// How its users are numbered here.
    pub users: IdMap,
    /// And its groups.
    pub groups: IdMap,
    /// Whom a file belongs to that is made there, as the host numbers users: the container's init.
    pub owner: Option<(u32, u32)>,
    /// Its user namespace, where that is another one than ours.
    pub namespace: Option<OwnedFd>,
    /// How the users of the namespace that we have joined are numbered on the host.
    pub seen_as: Option<Arc<(IdMap, IdMap)>>,
    /// What it is called, with the colon.
    pub name: String,
}

/// Where a path leads.
#[derive(Debug)]
pub struct ResolvedPath {
    /// The folder that it is in.
    pub folder: OwnedFd,
    /// Its name there; `.` for a root.
    pub name: Vec<u8>,
    /// It, held without being opened; none where there is nothing.
    pub found: Option<Node>,
}

/// A file of any kind, held without being opened.
#[derive(Debug)]
pub struct Node {
    /// It.
    pub fd: OwnedFd,
    /// What is known of it.
    pub stat: Statx,
}

impl Node {
    /// Takes one name of a folder.
    ///
    /// # Errors
    /// Those of openat(2) and statx(2).
    pub fn open(folder: impl AsFd, name: &[u8]) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(folder, name, flags, Mode::empty())?;
        Self::of(fd)
    }

    /// Of what is held already.
    ///
    /// # Errors
    /// Those of statx(2).
    pub fn of(fd: OwnedFd) -> Result<Self, Errno> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let stat = statx(&fd, c"", AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, wanted)?;
        Ok(Self { fd, stat })
    }

    /// The mount that it is on, by its number: statx(2) tells it since Linux 5.8, `fdinfo` since 3.15.
    pub fn mount(&self) -> Option<u64> {
        if self.stat.stx_mask & StatxFlags::MNT_ID.bits() != 0 {
            return Some(self.stat.stx_mnt_id);
        }
        self.mount_by_fdinfo()
    }

    fn mount_by_fdinfo(&self) -> Option<u64> {
        let path = format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&self.fd));
        let text = std::fs::read_to_string(path).ok()?;
        text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
    }

    /// Its device and inode, which are the same by whatever name.
    pub fn id(&self) -> FileId {
        (self.stat.stx_dev_major, self.stat.stx_dev_minor, self.stat.stx_ino)
    }

    /// What it is.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.stx_mode.into())
    }

    /// The same file, open for reading, which takes that it is one: what is no file or folder may keep
    /// whoever opens it waiting, or do what a device does.
    ///
    /// # Errors
    /// [`Errno::NOTSUP`] for what is neither.
    pub fn open_to_read(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match self.kind() {
            FileType::Directory => openat(&self.fd, c".", flags | OFlags::DIRECTORY, Mode::empty()),
            FileType::RegularFile => {
                let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&self.fd));
                openat(CWD, path, flags, Mode::empty())
            }
            _ => Err(Errno::NOTSUP),
        }
    }

    /// Where a link leads.
    ///
    /// # Errors
    /// Those of readlinkat(2).
    pub fn link(&self) -> Result<Vec<u8>, Errno> {
        Ok(readlinkat(&self.fd, c"", Vec::new())?.into_bytes())
    }
}

impl Rootfs {
    /// This host.
    pub fn here() -> Self {
        let (users, groups) = (IdMap::default(), IdMap::default());
        let name = String::new();
        Self { root: None, users, groups, owner: None, namespace: None, seen_as: None, name }
    }

    /// The user and group that a file of it has, as we see them, as it numbers them itself.
    pub fn inner(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let (uid, gid) = match self.seen_as.as_deref() {
            None => (uid, gid),
            Some((users, groups)) => (users.to_outside(uid)?, groups.to_outside(gid)?),
        };
        match self.root {
            None => Some((uid, gid)),
            Some(_) => Some((self.users.to_inside(uid)?, self.groups.to_inside(gid)?)),
        }
    }

    /// And back.
    pub fn outer(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let own = match self.root {
            None => (uid, gid),
            Some(_) => (self.users.to_outside(uid)?, self.groups.to_outside(gid)?),
        };
        self.as_seen(own)
    }

    /// Whom a file belongs to that is made there, as we number users now.
    pub fn init_user(&self) -> Option<(u32, u32)> {
        self.owner.and_then(|own| self.as_seen(own))
    }

    fn as_seen(&self, (uid, gid): (u32, u32)) -> Option<(u32, u32)> {
        match self.seen_as.as_deref() {
            None => Some((uid, gid)),
            Some((users, groups)) => Some((users.to_inside(uid)?, groups.to_inside(gid)?)),
        }
    }

    /// Where a path leads. A link at its end is followed if that is wanted, or where a slash follows.
    ///
    /// # Errors
    /// ENOENT where a folder on the way is missing, ENOTDIR, ELOOP, EACCES.
    pub fn find(&self, path: &[u8], follow: bool) -> Result<ResolvedPath, Errno> {
        match &self.root {
            Some(root) => beneath(root, path, follow),
            None => on_host(path, follow),
        }
    }
}

fn folder() -> OFlags {
    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC
}

fn same(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0)
}

/// On the host the operator's own paths are the kernel's to resolve.
fn on_host(path: &[u8], follow: bool) -> Result<ResolvedPath, Errno> {
    let trimmed = path.iter().rposition(|b| *b != b'/').map_or(&b""[..], |end| &path[..=end]);
    let slash = trimmed.len() < path.len();
    let cut = trimmed.iter().rposition(|b| *b == b'/');
    let (above, name) = match cut {
        Some(at) => (&trimmed[..=at], &trimmed[at + 1..]),
        None => (&b"."[..], trimmed),
    };
    if name.is_empty() || name == b"." || name == b".." {
        let path = if path.is_empty() { &b"."[..] } else { path };
        let fd = openat(CWD, path, folder(), Mode::empty())?;
        return Ok(ResolvedPath {
            folder: same(&fd)?,
            name: b".".to_vec(),
            found: Some(Node::of(fd)?),
        });
    }
    let folder_fd = openat(CWD, above, folder(), Mode::empty())?;
    let found = match Node::open(&folder_fd, name) {
        Ok(node) if node.kind() == FileType::Symlink && (follow || slash) => {
            let target = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            match target {
                // Beside the file that it leads to, or what is renamed over it would end the link.
                Ok(_) => {
                    let link = node.link()?;
                    let next =
                        if link.starts_with(b"/") { link } else { [above, b"/", &link].concat() };
                    return on_host(&next, true);
                }
                Err(Errno::NOENT) => return Err(Errno::NOENT),
                Err(errno) => return Err(errno),
            }
        }
        Ok(node) => Some(node),
        Err(Errno::NOENT) => None,
        Err(errno) => return Err(errno),
    };
    Ok(ResolvedPath { folder: folder_fd, name: name.to_owned(), found })
}

fn beneath(root: &OwnedFd, path: &[u8], follow: bool) -> Result<ResolvedPath, Errno> {
    // The folders above where we are, the root first: `..` is the one before, and above the root there
    // is none.
    let mut stack = vec![same(root)?];
    let mut left: VecDeque<Vec<u8>> = parts(path).collect();
    let (mut slash, mut links) = (path.ends_with(b"/"), 0);
    while let Some(name) = left.pop_front() {
        let Some(at) = stack.last() else { return Err(Errno::NOENT) };
        if name == b".." {
            if stack.len() > 1 {
                stack.pop();
            }
            continue;
        }
        let last = left.is_empty();
        let node = match Node::open(at, &name) {
            Ok(node) => node,
            Err(Errno::NOENT) if last => {
                return Ok(ResolvedPath { folder: same(at)?, name, found: None });
            }
            Err(errno) => return Err(errno),
        };
        match node.kind() {
            FileType::Symlink if !last || follow || slash => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                let target = node.link()?;
                if target.starts_with(b"/") {
                    stack.truncate(1);
                }
                slash |= last && target.ends_with(b"/");
                for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                    left.push_front(part);
                }
            }
            FileType::Directory => stack.push(node.fd),
            _ if last => return Ok(ResolvedPath { folder: same(at)?, name, found: Some(node) }),
            _ => return Err(Errno::NOTDIR),
        }
    }
    // A folder: itself, by its name in the one above where that is known.
    let own = stack.pop().ok_or(Errno::NOENT)?;
    Ok(ResolvedPath { folder: same(&own)?, name: b".".to_vec(), found: Some(Node::of(own)?) })
}

fn parts(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn place(root: &Path) -> Rootfs {
        let root = openat(CWD, root, folder(), Mode::empty()).unwrap();
        Rootfs { root: Some(root), ..Rootfs::here() }
    }

    /// The path of what was found, from the folder of the test on.
    fn lead(place: &Rootfs, top: &Path, path: &str) -> Result<String, Errno> {
        let spot = place.find(path.as_bytes(), true)?;
        let node = spot.found.ok_or(Errno::NOENT)?;
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&node.fd));
        let path = std::fs::read_link(link).unwrap();
        Ok(path.strip_prefix(top).map_or_else(|_| "outside".into(), |p| p.display().to_string()))
    }

    #[test]
    fn both_ways_to_know_a_mount_agree() {
        for path in ["/", "/proc/self/status", "/sys"] {
            let node = Node::of(openat(CWD, path, OFlags::PATH, Mode::empty()).unwrap()).unwrap();
            assert!(node.mount().is_some());
            assert_eq!(node.mount(), node.mount_by_fdinfo());
        }
    }

    #[test]
    fn users_are_told_apart_through_a_namespace_that_was_joined() {
        // The user 1000 here is root inside, and 1 there is 100000 here.
        let map = IdMap::parse(b"0 1000 1\n1 100000 65536\n").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut inside = place(dir.path());
        (inside.users, inside.groups, inside.owner) =
            (map.clone(), map.clone(), Some((1000, 1000)));
        assert_eq!(inside.inner(100_004, 1000), Some((5, 0)));
        assert_eq!((inside.outer(5, 0), inside.outer(70_000, 0)), (Some((100_004, 1000)), None));
        let joined = Some(Arc::new((map.clone(), map)));
        inside.seen_as.clone_from(&joined);
        assert_eq!((inside.inner(5, 0), inside.outer(5, 0)), (Some((5, 0)), Some((5, 0))));
        assert_eq!(inside.init_user(), Some((0, 0)));
        // Here a file of ours is seen as root's, and is user 1000's.
        let here = Rootfs { seen_as: joined, ..Rootfs::here() };
        assert_eq!((here.inner(0, 0), here.outer(1000, 1000)), (Some((1000, 1000)), Some((0, 0))));
        assert_eq!(here.outer(0, 0), None);
    }

    #[test]
    fn nothing_leads_out_of_a_root() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let root = top.join("root");
        std::fs::create_dir_all(root.join("etc/deep")).unwrap();
        std::fs::write(root.join("etc/passwd"), "inside").unwrap();
        std::fs::write(top.join("secret"), "outside").unwrap();
        symlink("/etc/passwd", root.join("absolute")).unwrap();
        symlink("../../../../etc", root.join("etc/deep/up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("/proc/self/root/etc/passwd", root.join("magic")).unwrap();
        symlink("missing", root.join("dangling")).unwrap();
        let place = place(&root);
        let find = |path: &str| lead(&place, &top, path);
        assert_eq!(find("absolute"), Ok("root/etc/passwd".into()));
        assert_eq!(find("/etc/deep/up/passwd"), Ok("root/etc/passwd".into()));
        assert_eq!(find("../../../secret"), Err(Errno::NOENT));
        assert_eq!(find("../../.."), Ok("root".into()));
        assert_eq!(find("loop"), Err(Errno::LOOP));
        assert_eq!(find("magic"), Err(Errno::NOENT));
        assert_eq!(find("etc/passwd/x"), Err(Errno::NOTDIR));
        assert_eq!(find("nothing/x"), Err(Errno::NOENT));
        // What does not exist yet is told by its folder and name, through a link too.
        let spot = place.find(b"dangling", true).unwrap();
        assert_eq!((spot.found.is_none(), spot.name), (true, b"missing".to_vec()));
        // A link itself.
        let spot = place.find(b"absolute", false).unwrap();
        assert_eq!(spot.found.unwrap().kind(), FileType::Symlink);
    }
}
