//! The mounted cgroup hierarchies: v2 alone, v1 hierarchies, or both side by side (hybrid), and the
//! directory that a cgroup has in them. Reads `/sys/fs/cgroup` itself and no cgroup.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::model::cgroup::{Cgroup, components, preference};

/// A mounted hierarchy.
#[derive(Debug)]
pub(in crate::proc) struct Hierarchy {
    /// Its controllers as `/proc/PID/cgroup` names them; empty for v2.
    pub(in crate::proc) controllers: Vec<u8>,
    /// Its mount point.
    pub(in crate::proc) dir: PathBuf,
}

/// The v1 controllers (Documentation/admin-guide/cgroup-v1); a hierarchy of any other name was
/// mounted with `name=`.
const V1_CONTROLLERS: &[&str] = &[
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "debug",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

impl Hierarchy {
    /// Returns the cgroup with this path.
    pub(in crate::proc) fn cgroup(&self, path: &[u8]) -> Cgroup {
        Cgroup { controllers: self.controllers.clone(), path: path.to_owned() }
    }

    /// Returns the directory of the cgroup with this path; none if it is outside our cgroup namespace
    /// (`/../…`).
    pub(in crate::proc) fn dir_of(&self, path: &[u8]) -> Option<PathBuf> {
        let below = path.strip_prefix(b"/")?;
        let is_inside = components(below).all(|name| name != b"..");
        is_inside.then(|| self.dir.join(OsStr::from_bytes(below)))
    }
}

/// Lists the hierarchies mounted below a directory, in the order of [`preference`].
pub(in crate::proc) fn mounted_below(dir: &Path) -> Vec<Hierarchy> {
    if dir.join("cgroup.procs").exists() {
        return vec![Hierarchy { controllers: Vec::new(), dir: dir.to_owned() }];
    }
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        // Links such as cpu -> cpu,cpuacct lead to a hierarchy that has its own entry.
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = entry.file_name().into_vec();
        let controller = name.split(|b| *b == b',').next().unwrap_or_default();
        let controllers = if name == b"unified" {
            Vec::new()
        } else if V1_CONTROLLERS.iter().any(|known| known.as_bytes() == controller) {
            name
        } else {
            [b"name=", name.as_slice()].concat()
        };
        hierarchies.push(Hierarchy { controllers, dir: entry.path() });
    }
    hierarchies.sort_by_key(|hierarchy| preference(&hierarchy.controllers));
    hierarchies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_host_has_several_hierarchies() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["systemd", "unified", "cpu,cpuacct", "pids"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("cpu,cpuacct", dir.path().join("cpu")).unwrap();
        let found = mounted_below(dir.path());
        let names: Vec<&[u8]> = found.iter().map(|h| h.controllers.as_slice()).collect();
        assert_eq!(names, [&b"pids"[..], b"", b"name=systemd", b"cpu,cpuacct"]);
    }

    #[test]
    fn a_pure_v2_host_has_one_hierarchy() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cgroup.procs"), "").unwrap();
        let found = mounted_below(dir.path());
        assert_eq!((found.len(), found[0].controllers.as_slice()), (1, &b""[..]));
        assert_eq!(found[0].dir_of(b"/a/b"), Some(dir.path().join("a/b")));
        assert_eq!((found[0].dir_of(b"/../a"), found[0].dir_of(b"a")), (None, None));
    }
}
