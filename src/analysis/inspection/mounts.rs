//! The mounts of a container: the kind of each, and the place of its files on the host.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::model::mount::{Mount, Mounts};

/// A kind of mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// The root.
    Root,
    /// A directory or file of the host.
    Bind,
    /// A file system that the host has not mounted.
    Storage,
    /// A mount that comes with a directory of the host above it.
    Inner,
    /// A file system of the kernel, or devices.
    Kernel,
    /// A file that every engine puts there.
    Engine,
}

impl MountKind {
    /// Returns its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Bind => "bind",
            Self::Storage => "storage",
            Self::Inner => "inner",
            Self::Kernel => "kernel",
            Self::Engine => "engine",
        }
    }
}

/// A mount of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedMount {
    /// Its mount point.
    pub point: Vec<u8>,
    /// Its kind.
    pub kind: MountKind,
    /// Type of the file system.
    pub fstype: Vec<u8>,
    /// Source, as it was given to mount(2).
    pub source: Vec<u8>,
    /// Path of the same files on the host, as far as the host's mounts show them.
    pub host_path: Option<Vec<u8>>,
    /// Name of the engine's volume, if it is one.
    pub volume: Option<Vec<u8>>,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Whether the mounted file or directory was removed on the host.
    pub removed: bool,
}

/// File systems whose files the kernel makes up.
const KERNEL: &[&[u8]] = &[
    b"autofs",
    b"binfmt_misc",
    b"bpf",
    b"cgroup",
    b"cgroup2",
    b"configfs",
    b"debugfs",
    b"devpts",
    b"devtmpfs",
    b"efivarfs",
    b"fusectl",
    b"hugetlbfs",
    b"mqueue",
    b"nsfs",
    b"proc",
    b"pstore",
    b"rpc_pipefs",
    b"securityfs",
    b"sysfs",
    b"tracefs",
];

/// Files that every engine puts into its containers.
const ENGINE_FILES: &[&[u8]] =
    &[b"/etc/hosts", b"/etc/hostname", b"/etc/resolv.conf", b"/run/.containerenv", b"/.dockerenv"];

/// Directories above a path that are examined.
const MAX_DEPTH: usize = 128;
/// Mounts of one directory on the host that are examined for one that nothing hides.
const MAX_MOUNTS: usize = 64;

/// Describes the mounts in `mountinfo`, the topmost at each mount point, given the host's `mountinfo`.
pub fn mounts(mountinfo: &[u8], host_mountinfo: &[u8]) -> Vec<InspectedMount> {
    let host = HostMounts::new(host_mountinfo);
    let mut mounts: Vec<InspectedMount> = Vec::new();
    let mut shown: Vec<MountedDir<'_>> = Vec::new();
    let mut indices = HashMap::new();
    for mount in Mounts::new(mountinfo) {
        let (described, shows) = (describe(&mount, &host), (mount.device, mount.root));
        match indices.entry(described.point.clone()) {
            Entry::Occupied(index) => {
                let index: usize = *index.get();
                (mounts[index], shown[index]) = (described, shows);
            }
            Entry::Vacant(entry) => {
                entry.insert(mounts.len());
                mounts.push(described);
                shown.push(shows);
            }
        }
    }
    mark_inner(&mut mounts, &shown, &host);
    mounts
}

/// Marks the mounts that come with a directory of the host. (A container may make 100,000 mounts: nothing
/// here compares each with each.)
fn mark_inner(mounts: &mut [InspectedMount], shown: &[MountedDir<'_>], host: &HostMounts<'_>) {
    let binds: HashMap<Vec<u8>, Vec<u8>> = mounts
        .iter()
        // (The root of a service with namespaces of its own is the host's.)
        .filter(|mount| matches!(mount.kind, MountKind::Bind | MountKind::Root))
        .filter_map(|mount| Some((mount.point.clone(), mount.host_path.clone()?)))
        .collect();
    for (mount, shows) in mounts.iter_mut().zip(shown) {
        let comes_with = |point: &[u8]| {
            let Some(host_path) = binds.get(point).filter(|_| point != mount.point) else {
                return false;
            };
            // (With the host's whole tree every mount below comes, however it was made.)
            let is_bound_tree = point != b"/" && host_path == b"/";
            let below = mount.point.get(trim_end(point).len()..).unwrap_or_default();
            let path = [trim_end(host_path), below].concat();
            // (The same files may have a shorter path on the host.)
            is_bound_tree || mount.host_path.as_deref() == Some(&path) || host.shows(shows, &path)
        };
        let may_be_inner = matches!(mount.kind, MountKind::Bind | MountKind::Storage);
        if may_be_inner && with_ancestors(&mount.point).any(comes_with) {
            mount.kind = MountKind::Inner;
        }
    }
}

/// Returns a path and those above it, the shortest first; of deep ones only the first.
fn with_ancestors(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    let ends = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
    let mut ends: Vec<usize> = ends.map(|(index, _)| index).take(MAX_DEPTH).collect();
    ends.insert(0, 1.min(path.len()));
    if ends.last() != Some(&path.len()) {
        ends.push(path.len());
    }
    ends.into_iter().map(|end| &path[..end])
}

fn describe(mount: &Mount<'_>, host: &HostMounts<'_>) -> InspectedMount {
    let point = mount.point.to_vec();
    let is_below = |top: &[u8]| is_at_or_below(&point, top);
    // (d_path() ends the path of a removed file so, fs/d_path.c.)
    let removed = mount.root.strip_suffix(b"//deleted");
    let host_path = host.path_of(mount.device, removed.unwrap_or(&mount.root));
    let is_kernels = KERNEL.contains(&&*mount.fstype)
        || [&b"/proc"[..], b"/sys", b"/dev"].into_iter().any(is_below);
    let kind = if point == b"/" {
        MountKind::Root
    } else if is_kernels {
        MountKind::Kernel
    } else if ENGINE_FILES.contains(&point.as_slice()) {
        MountKind::Engine
    } else if host_path.is_some() {
        MountKind::Bind
    } else {
        MountKind::Storage
    };
    let volume = host_path.as_deref().filter(|_| kind == MountKind::Bind).and_then(volume);
    InspectedMount {
        point,
        kind,
        fstype: mount.fstype.to_vec(),
        source: mount.source.to_vec(),
        host_path,
        volume,
        read_only: mount.read_only,
        removed: removed.is_some(),
    }
}

/// A device, and the directory of its file system that is mounted.
type MountedDir<'a> = (&'a [u8], Cow<'a, [u8]>);
/// A mount point, and the mount's ID.
type MountPoint<'a> = (Cow<'a, [u8]>, u32);

/// The mounts of the host, by the directory that they show and by mount point.
struct HostMounts<'a> {
    /// Mount points by device and directory, the shortest first, each with the mount's ID.
    by_root: HashMap<MountedDir<'a>, Vec<MountPoint<'a>>>,
    /// The topmost mount at each mount point.
    topmost: HashMap<Vec<u8>, u32>,
}

impl<'a> HostMounts<'a> {
    fn new(mountinfo: &'a [u8]) -> Self {
        let (mut by_root, mut topmost) = (HashMap::<_, Vec<_>>::new(), HashMap::new());
        for mount in Mounts::new(mountinfo) {
            topmost.insert(trim_end(&mount.point).to_vec(), mount.id);
            let shown = by_root.entry((mount.device, mount.root)).or_default();
            shown.push((mount.point, mount.id));
        }
        for shown in by_root.values_mut() {
            shown.sort_by_key(|(point, _)| trim_end(point).len());
            shown.truncate(MAX_MOUNTS);
        }
        Self { by_root, topmost }
    }

    /// Returns the path on the host of a mount's files: the shortest through the host's mounts of the same
    /// device, if possible one that no other mount hides. (A further mount of the root somewhere else does
    /// not move it.) None for a file system that the host has not mounted.
    fn path_of(&self, device: &[u8], root: &[u8]) -> Option<Vec<u8>> {
        let mut paths: Vec<(Vec<u8>, u32)> = Vec::new();
        for top in with_ancestors(root) {
            let Some(shown) = self.by_root.get(&(device, Cow::Borrowed(top))) else { continue };
            let below = root.get(top.len()..).unwrap_or_default();
            paths.extend(shown.iter().map(|(point, id)| (joined(point, below), *id)));
        }
        paths.sort_by_key(|(path, _)| path.len());
        let is_visible = |(path, id): &&(Vec<u8>, u32)| self.top_of(path) == Some(*id);
        let shortest = paths.iter().find(is_visible).or_else(|| paths.first());
        shortest.map(|(path, _)| path.clone())
    }

    /// Whether this directory is mounted on the host there.
    fn shows(&self, directory: &MountedDir<'_>, point: &[u8]) -> bool {
        let points = self.by_root.get(directory).map_or(&[][..], Vec::as_slice);
        points.iter().any(|(there, _)| trim_end(there) == trim_end(point))
    }

    /// Returns the mount that shows a path. (Of several at one mount point the last is on top.)
    fn top_of(&self, path: &[u8]) -> Option<u32> {
        with_ancestors(path).rev().find_map(|top| self.topmost.get(trim_end(top)).copied())
    }
}

/// Joins a mount point and a path below the mounted directory.
fn joined(point: &[u8], below: &[u8]) -> Vec<u8> {
    let path = [trim_end(point), b"/", trim_start(below)].concat();
    if path.len() > 1 { trim_end(&path).to_vec() } else { path }
}

/// Returns the name of a volume: `…/volumes/NAME/_data`, as Docker and Podman lay volumes out.
fn volume(path: &[u8]) -> Option<Vec<u8>> {
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
    let index = parts.windows(3).position(|w| w[0] == b"volumes" && w[2] == b"_data")?;
    Some(parts[index + 1].to_vec())
}

fn is_at_or_below(path: &[u8], top: &[u8]) -> bool {
    let below = path.strip_prefix(trim_end(top));
    below.is_some_and(|below| below.is_empty() || below.starts_with(b"/"))
}

fn trim_end(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

fn trim_start(path: &[u8]) -> &[u8] {
    path.strip_prefix(b"/").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_described_by_its_path_on_the_host() {
        let host = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
            2 1 8:2 / /srv rw - ext4 /dev/sdb1 rw\n\
            3 1 0:5 / /run rw - tmpfs tmpfs rw\n";
        let container = b"10 9 0:40 / / rw - overlay overlay rw\n\
            11 10 8:1 / /host ro - ext4 /dev/sda1 rw\n\
            12 11 8:2 / /host/srv rw - ext4 /dev/sdb1 rw\n\
            13 10 8:2 /docker/volumes/data/_data /data rw - ext4 /dev/sdb1 rw\n\
            14 10 0:5 /docker.sock /run/docker.sock rw - tmpfs tmpfs rw\n\
            15 10 0:50 / /cache rw - tmpfs tmpfs rw\n\
            16 10 0:51 / /proc rw - proc proc rw\n\
            17 10 8:1 /var/lib/x/hosts /etc/hosts rw - ext4 /dev/sda1 rw\n\
            18 10 0:52 / /cache ro - tmpfs again rw\n";
        let found = mounts(container, host);
        let described: Vec<(&str, &str, Option<&str>)> = found
            .iter()
            .map(|mount| {
                let text = |bytes| std::str::from_utf8(bytes).unwrap();
                (text(&mount.point), mount.kind.name(), mount.host_path.as_deref().map(text))
            })
            .collect();
        assert_eq!(
            described,
            [
                ("/", "root", None),
                ("/host", "bind", Some("/")),
                ("/host/srv", "inner", Some("/srv")),
                ("/data", "bind", Some("/srv/docker/volumes/data/_data")),
                ("/run/docker.sock", "bind", Some("/run/docker.sock")),
                ("/cache", "storage", None),
                ("/proc", "kernel", None),
                ("/etc/hosts", "engine", Some("/var/lib/x/hosts")),
            ]
        );
        assert_eq!(found[3].volume.as_deref(), Some(&b"data"[..]));
        assert!(found[1].read_only && found[5].read_only && !found[0].read_only);
    }

    #[test]
    fn the_host_path_is_the_shortest_visible_one() {
        let host = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
            2 1 8:1 / /tmp/x rw - ext4 /dev/sda1 rw\n\
            3 1 8:1 /var/lib /tmp/fresh/var/lib rw - ext4 /dev/sda1 rw\n\
            4 1 8:3 / /data rw - ext4 /dev/sdc1 rw\n";
        let container = b"10 9 8:1 / /host rw - ext4 /dev/sda1 rw\n\
            11 9 8:1 /var/lib/y /y rw - ext4 /dev/sda1 rw\n\
            12 9 8:1 /data/z /z rw - ext4 /dev/sda1 rw\n\
            13 9 8:1 /run/docker.sock//deleted /s rw - ext4 /dev/sda1 rw\n";
        let paths: Vec<_> =
            mounts(container, host).into_iter().map(|mount| mount.host_path.unwrap()).collect();
        // (/data is hidden by a mount: the files below it are visible through the other one only.)
        assert_eq!(paths, [&b"/"[..], b"/var/lib/y", b"/tmp/x/data/z", b"/run/docker.sock"]);
    }

    #[test]
    fn the_hosts_own_mounts_come_with_its_root() {
        // A service with namespaces of its own: `/srv/chroot/shm` is bound there on the host, too.
        let host = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
            2 1 0:9 / /shm rw - tmpfs tmpfs rw\n\
            3 1 0:9 / /srv/chroot/shm rw - tmpfs tmpfs rw\n\
            4 1 0:40 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw\n";
        let service = [&host[..], b"9 1 0:77 / /tmp rw - tmpfs tmpfs rw\n"].concat();
        let kinds: Vec<_> = mounts(&service, host).iter().map(|mount| mount.kind.name()).collect();
        assert_eq!(kinds, ["root", "inner", "inner", "inner", "storage"]);
    }

    #[test]
    fn many_binds_are_described_in_linear_time() {
        let host = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n";
        let mut container = String::from("10 9 0:40 / / rw - overlay overlay rw\n");
        for id in 0..30_000 {
            let line = format!("{} 10 8:1 /srv/{id} /binds/{id} rw - ext4 /dev/sda1 rw\n", id + 11);
            container.push_str(&line);
        }
        // (Each with each would be 900 million comparisons: minutes in a debug build.)
        let found = mounts(container.as_bytes(), host);
        assert_eq!(found.len(), 30_001);
        assert_eq!(found[7].host_path.as_deref(), Some(&b"/srv/6"[..]));
        assert!(found[1..].iter().all(|mount| mount.kind == MountKind::Bind));
    }

    proptest::proptest! {
        #[test]
        fn any_mountinfo_has_each_mount_point_once(container: Vec<u8>, host: Vec<u8>) {
            let mut points: Vec<_> =
                mounts(&container, &host).into_iter().map(|mount| mount.point).collect();
            let count = points.len();
            points.sort();
            points.dedup();
            proptest::prop_assert_eq!(points.len(), count);
        }
    }
}
