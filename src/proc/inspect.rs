//! What `inspect` reads beside a snapshot: the namespaces a process is in and those of the host, its
//! mounts, its label, and what its cgroups give it.

use std::os::unix::ffi::OsStrExt;

use super::{Host, ReadError};
use crate::model::cgroup::{Memberships, is_at_or_below};
use crate::model::container::Cgroup;
use crate::model::idmap::IdMap;
use crate::model::namespace::{KINDS, NamespaceId, NamespaceKind};
use crate::model::pid::HostPid;
use crate::model::process::Fact;

/// More mounts than any page shows.
const MAX_MOUNTINFO: usize = 16 << 20;

/// What was read.
#[derive(Clone, Debug)]
pub struct InspectFacts {
    /// Of each kind: the one it is in, and the host's.
    pub namespaces: Vec<(NamespaceKind, Fact<NamespaceId>, Fact<NamespaceId>)>,
    /// Its users inside.
    pub users: Fact<IdMap>,
    /// And groups.
    pub groups: Fact<IdMap>,
    /// Its `mountinfo`.
    pub mounts: Fact<Vec<u8>>,
    /// The host's.
    pub host_mounts: Vec<u8>,
    /// The label of a security module.
    pub label: Fact<Vec<u8>>,
    /// What it may use and uses.
    pub usage: ResourceUsage,
}

/// What a cgroup gives and what is taken of it. A limit is the tightest of its own and of those above;
/// absent where there is none, denied where that could not be read. What is used is absent where the
/// container has no cgroup of its own that counts it.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceUsage {
    /// Bytes of memory in use.
    pub memory: Fact<u64>,
    /// The most there may be.
    pub memory_limit: Fact<LimitedValue<u64>>,
    /// Processors' worth of time.
    pub cpu_limit: Fact<LimitedValue<f64>>,
    /// Processes and threads.
    pub pids: Fact<u64>,
    /// The most there may be.
    pub pids_limit: Fact<LimitedValue<u64>>,
    /// How often something was killed because memory ran out (memory.events, memory.oom_control).
    pub oom_kills: Fact<u64>,
}

/// A limit, and the file that says so, below the root of its hierarchy.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitedValue<T> {
    /// The most there may be.
    pub most: T,
    /// Where that stands.
    pub source: String,
}

/// A cgroup of a process, and whether its hierarchy is one of v1.
struct MembershipPaths {
    cgroup: Cgroup,
    old: bool,
    /// Whether it is the container's own.
    own: bool,
}

impl Host {
    /// Reads it.
    pub fn sheet(&self, pid: HostPid, own: Option<&Cgroup>) -> InspectFacts {
        // PID 1 of the host's own /proc is in its namespaces; who may not look goes by their own.
        let first = HostPid::new(1).map(|first| self.namespaces(first)).unwrap_or_default();
        let hosts = first.into_iter().zip(self.own_namespaces()).map(|pair| match pair {
            (Fact::Known(id), _) => Fact::Known(id),
            (_, own) => own,
        });
        let namespaces = KINDS.iter().zip(self.namespaces(pid)).zip(hosts);
        let map = |name| {
            let read = self.proc_file(pid, name, 1 << 16);
            fact(read.and_then(|bytes| {
                IdMap::parse(&bytes).map_err(|error| ReadError::Broken(error.to_string()))
            }))
        };
        InspectFacts {
            namespaces: namespaces.map(|((kind, id), host)| (*kind, id, host)).collect(),
            users: map("uid_map"),
            groups: map("gid_map"),
            mounts: fact(self.proc_file(pid, "mountinfo", MAX_MOUNTINFO)),
            // Ours may be another's view: that of a container from where the host is looked at.
            host_mounts: ["1/mountinfo", "self/mountinfo"]
                .iter()
                .find_map(|file| std::fs::read(self.proc_path(file)).ok())
                .unwrap_or_default(),
            label: fact(self.proc_file(pid, "attr/current", 4096)),
            usage: self.usage(pid, own),
        }
    }

    /// The namespaces of a process, in the order of the table.
    pub fn namespaces(&self, pid: HostPid) -> Vec<Fact<NamespaceId>> {
        self.links(&pid.to_string())
    }

    fn own_namespaces(&self) -> Vec<Fact<NamespaceId>> {
        self.links("self")
    }

    fn links(&self, process: &str) -> Vec<Fact<NamespaceId>> {
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

    /// Of its container's own cgroup, where it has one; else of the one that the process is in.
    fn usage(&self, pid: HostPid, own: Option<&Cgroup>) -> ResourceUsage {
        let memberships = self.memberships(pid).ok();
        let find = |controller: &str| -> Option<MembershipPaths> {
            let has = |list: &[u8]| list.split(|b| *b == b',').any(|c| c == controller.as_bytes());
            let each: Vec<_> = memberships.as_ref()?.by_preference().collect();
            let old = each.iter().find(|one| has(&one.controllers));
            let one = old.or_else(|| each.iter().find(|one| one.controllers.is_empty()))?;
            let all = memberships.as_ref()?;
            let own = own.and_then(|own| own_in(all, &one.path, own));
            let path = own.unwrap_or(&one.path).to_vec();
            let cgroup = Cgroup { controllers: one.controllers.to_vec(), path };
            Some(MembershipPaths { cgroup, old: old.is_some(), own: own.is_some() })
        };
        let (memory, cpu, pids) = (find("memory"), find("cpu"), find("pids"));
        let number = |held: &Option<MembershipPaths>, new, old| -> Fact<u64> {
            if !held.as_ref().is_some_and(|held| held.own) {
                return Fact::Absent;
            }
            let read = held
                .as_ref()
                .and_then(|held| self.cgroup_value(&held.cgroup, if held.old { old } else { new }));
            read.and_then(|text| text.trim().parse().ok()).map_or(Fact::Denied, Fact::Known)
        };
        let cpus = |cgroup: &Cgroup, old: bool| -> Option<Option<f64>> {
            let value = |name| self.cgroup_value(cgroup, name);
            let text = match old {
                true => format!("{} {}", value("cpu.cfs_quota_us")?, value("cpu.cfs_period_us")?),
                false => value("cpu.max")?,
            };
            let words: Vec<f64> = text.split_whitespace().filter_map(|w| w.parse().ok()).collect();
            Some(match words[..] {
                [quota, period] if quota > 0.0 && period > 0.0 => Some(quota / period),
                _ => None,
            })
        };
        let whole = |name: &'static str| {
            move |cgroup: &Cgroup, _| -> Option<Option<u64>> {
                let text = self.cgroup_value(cgroup, name)?;
                // v1 has a number for "no limit": the greatest multiple of a page.
                Some(text.trim().parse().ok().filter(|most| *most < 1 << 62))
            }
        };
        let at = |file: &'static str| {
            move |cgroup: &Cgroup| Some(self.cgroup_dir(cgroup)?.join(file).display().to_string())
        };
        let is_old = |held: &Option<MembershipPaths>| held.as_ref().is_some_and(|held| held.old);
        let memory_file = if is_old(&memory) { "memory.limit_in_bytes" } else { "memory.max" };
        let cpu_file = if is_old(&cpu) { "cpu.cfs_quota_us" } else { "cpu.max" };
        ResourceUsage {
            memory: number(&memory, "memory.current", "memory.usage_in_bytes"),
            memory_limit: tightest(memory.as_ref(), &at(memory_file), &whole(memory_file)),
            cpu_limit: tightest(cpu.as_ref(), &at(cpu_file), &cpus),
            pids: number(&pids, "pids.current", "pids.current"),
            pids_limit: tightest(pids.as_ref(), &at("pids.max"), &whole("pids.max")),
            oom_kills: memory.as_ref().filter(|held| held.own).map_or(Fact::Absent, |held| {
                let name = if held.old { "memory.oom_control" } else { "memory.events" };
                let text = self.cgroup_value(&held.cgroup, name).unwrap_or_default();
                let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
                line.and_then(|n| n.trim().parse().ok()).map_or(Fact::Denied, Fact::Known)
            }),
        }
    }
}

/// The container's own cgroup in another hierarchy of v1, of the path that the process has there: it
/// may lie elsewhere (below whoever started it), but is called the same and has the same below it.
fn own_in<'a>(all: &Memberships, path: &'a [u8], own: &Cgroup) -> Option<&'a [u8]> {
    let known = all
        .by_preference()
        .find(|one| one.controllers == own.controllers && is_at_or_below(&one.path, &own.path))?;
    let found = path.strip_suffix(known.path.get(own.path.len()..)?)?;
    let name = |path: &[u8]| path.rsplit(|b| *b == b'/').next().map(<[u8]>::to_vec);
    (name(found) == name(&own.path) && found.len() > 1).then_some(found)
}

/// The tightest limit of a cgroup and of those above it. A cgroup without the file has no limit of its
/// own; where none has it, nothing is known.
fn tightest<T: PartialOrd + Copy>(
    held: Option<&MembershipPaths>,
    path: &dyn Fn(&Cgroup) -> Option<String>,
    read: &dyn Fn(&Cgroup, bool) -> Option<Option<T>>,
) -> Fact<LimitedValue<T>> {
    let Some(held) = held else { return Fact::Denied };
    let mut cgroup = held.cgroup.clone();
    let mut found = Fact::Denied;
    loop {
        match read(&cgroup, held.old) {
            Some(Some(most)) => {
                let looser = |known: &LimitedValue<T>| known.most <= most;
                if !found.known().is_some_and(looser) {
                    let source = path(&cgroup).unwrap_or_default();
                    found = Fact::Known(LimitedValue { most, source });
                }
            }
            Some(None) if found == Fact::Denied => found = Fact::Absent,
            _ => {}
        }
        match cgroup.path.iter().rposition(|b| *b == b'/') {
            Some(at) if cgroup.path.len() > 1 => cgroup.path.truncate(at.max(1)),
            _ => return found,
        }
    }
}

fn fact<T>(read: Result<T, ReadError>) -> Fact<T> {
    match read {
        Ok(value) => Fact::Known(value),
        Err(ReadError::Gone | ReadError::Broken(_)) => Fact::Absent,
        Err(_) => Fact::Denied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_may_lie_elsewhere_in_another_hierarchy() {
        let all =
            Memberships::parse(b"9:name=systemd:/t1/x\n4:memory:/job/1/t1/x\n3:pids:/other\n");
        let own = Cgroup { controllers: b"name=systemd".to_vec(), path: b"/t1".to_vec() };
        assert_eq!(own_in(&all, b"/job/1/t1/x", &own), Some(&b"/job/1/t1"[..]));
        assert_eq!(own_in(&all, b"/t1/x", &own), Some(&b"/t1"[..]));
        assert_eq!(own_in(&all, b"/other", &own), None);
        assert_eq!(own_in(&all, b"/", &own), None);
    }
}
