//! Facts that `inspect` reads in addition to a snapshot: the namespaces of a process and of the host, ID
//! maps, mounts, the security label, and resource usage.

use std::os::unix::ffi::OsStrExt;

use super::cgroup::ResourceUsage;
use super::host::Host;
use super::read::ReadError;
use crate::model::cgroup::Cgroup;
use crate::model::idmap::IdMap;
use crate::model::namespace::{KINDS, NamespaceId, NamespaceKind};
use crate::model::pid::HostPid;
use crate::model::process::Fact;

/// More mounts than any page shows: of a part of them, one could be hidden by another that is not read.
const MAX_MOUNTINFO: usize = 16 << 20;

/// Facts of a process for `inspect`.
#[derive(Clone, Debug)]
pub struct InspectFacts {
    /// Namespace of each kind: the process's, and the host's.
    pub namespaces: Vec<(NamespaceKind, Fact<NamespaceId>, Fact<NamespaceId>)>,
    /// User IDs in its user namespace.
    pub users: Fact<IdMap>,
    /// Group IDs in its user namespace.
    pub groups: Fact<IdMap>,
    /// Its `mountinfo`.
    pub mounts: Fact<Vec<u8>>,
    /// The host's `mountinfo`.
    pub host_mounts: Vec<u8>,
    /// Label of a security module (`attr/current`).
    pub label: Fact<Vec<u8>>,
    /// Resource usage and limits.
    pub usage: ResourceUsage,
}

impl Host {
    /// Reads the facts of a process; `private` is its container's cgroup, if it has one.
    pub fn inspect_facts(&self, pid: HostPid, private: Option<&Cgroup>) -> InspectFacts {
        // PID 1 of the host's /proc is in the host's namespaces; where they cannot be read, our own count.
        let init = HostPid::new(1).map(|init| self.namespaces(init)).unwrap_or_default();
        let host = init.into_iter().zip(self.namespace_links("self")).map(|pair| match pair {
            (Fact::Known(id), _) => Fact::Known(id),
            (_, ours) => ours,
        });
        let namespaces = KINDS.iter().zip(self.namespaces(pid)).zip(host);
        let map = |name| {
            let bytes = self.proc_file(pid, name, 1 << 16);
            fact(bytes.and_then(|bytes| Ok(IdMap::parse(&bytes)?)))
        };
        InspectFacts {
            namespaces: namespaces.map(|((kind, id), host)| (*kind, id, host)).collect(),
            users: map("uid_map"),
            groups: map("gid_map"),
            mounts: match self.proc_file(pid, "mountinfo", MAX_MOUNTINFO) {
                Ok(mountinfo) if mountinfo.len() < MAX_MOUNTINFO => Fact::Known(mountinfo),
                _ => Fact::Denied,
            },
            // Ours may be a different view: that of a container from which the host is inspected.
            host_mounts: ["1/mountinfo", "self/mountinfo"]
                .iter()
                .find_map(|file| std::fs::read(self.proc_path(file)).ok())
                .unwrap_or_default(),
            label: fact(self.proc_file(pid, "attr/current", 4096)),
            usage: self.resource_usage(pid, private),
        }
    }

    /// Reads the namespaces of a process, in the order of [`KINDS`].
    pub fn namespaces(&self, pid: HostPid) -> Vec<Fact<NamespaceId>> {
        self.namespace_links(&pid.to_string())
    }

    fn namespace_links(&self, process: &str) -> Vec<Fact<NamespaceId>> {
        let link = |kind: &NamespaceKind| {
            let path = self.proc_path(format!("{process}/ns/{}", kind.name));
            match std::fs::read_link(path).map_err(ReadError::from) {
                Ok(link) => NamespaceId::parse(link.as_os_str().as_bytes())
                    .map_or(Fact::Absent, Fact::Known),
                Err(ReadError::Gone) => Fact::Absent,
                Err(_) => Fact::Denied,
            }
        };
        KINDS.iter().map(link).collect()
    }
}

fn fact<T>(read: Result<T, ReadError>) -> Fact<T> {
    match read {
        Ok(value) => Fact::Known(value),
        Err(ReadError::Gone | ReadError::Broken(_)) => Fact::Absent,
        Err(_) => Fact::Denied,
    }
}
