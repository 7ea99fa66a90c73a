//! Resource usage and limits of a container, from its cgroups of both versions.

use std::path::Path;

use super::below::{MAX_BELOW, each_below};
use crate::model::cgroup::{Cgroup, Memberships, is_at_or_below};
use crate::model::pid::HostPid;
use crate::model::process::Fact;
use crate::proc::host::Host;
use crate::proc::read::ReadError;

/// Resource limits and usage of a container. A limit is the tightest of its cgroup and of those above
/// it; absent if there is none, denied if that could not be read. Usage is absent if no cgroup counts the
/// container alone.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceUsage {
    /// Memory in use, bytes.
    pub memory: Fact<u64>,
    /// Memory limit, bytes.
    pub memory_limit: Fact<LimitedValue<u64>>,
    /// CPU time limit, CPUs.
    pub cpu_limit: Fact<LimitedValue<f64>>,
    /// Processes and threads.
    pub pids: Fact<u64>,
    /// Limit of processes and threads.
    pub pids_limit: Fact<LimitedValue<u64>>,
    /// Number of OOM kills (memory.events, memory.oom_control).
    pub oom_kills: Fact<u64>,
}

/// A limit, and the file that sets it.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitedValue<T> {
    /// The limit.
    pub most: T,
    /// Path of the file.
    pub source: String,
}

/// The cgroup that one controller applies to a process.
struct ControllerCgroup {
    cgroup: Cgroup,
    /// Whether its hierarchy is one of v1.
    is_v1: bool,
    /// Whether it is the container's, and counts nothing else.
    is_private: bool,
    /// The path of the process, at or below it.
    own_path: Vec<u8>,
}

/// The names of a file in v2 and in v1.
#[derive(Clone, Copy)]
struct FileNames {
    v2: &'static str,
    v1: &'static str,
}

impl FileNames {
    fn in_hierarchy_of(self, applied: &ControllerCgroup) -> &'static str {
        if applied.is_v1 { self.v1 } else { self.v2 }
    }
}

const MEMORY_MAX: FileNames = FileNames { v2: "memory.max", v1: "memory.limit_in_bytes" };
const OOM: FileNames = FileNames { v2: "memory.events", v1: "memory.oom_control" };

/// Parses the number of OOM kills in `memory.events` or `memory.oom_control` (since Linux 4.13).
fn kills_in(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// Returns the number of OOM kills in all cgroups below a directory.
fn kills_below(dir: &Path, file: &str) -> u64 {
    let mut kills: u64 = 0;
    let _ = each_below(dir.to_owned(), MAX_BELOW, |dir, is_top| {
        let text = dir.open(file).ok().filter(|_| !is_top).map(std::io::read_to_string);
        let text = text.and_then(Result::ok).unwrap_or_default();
        kills = kills.saturating_add(kills_in(&text).unwrap_or_default());
        true
    });
    kills
}

/// Reads a limit from a file of a cgroup: absent for no limit, denied if the file could not be read.
type ReadLimit<T> = fn(&Host, &Cgroup, &str) -> Fact<T>;

impl Host {
    /// Reads the resources of the container's private cgroup, if it has one; else of the cgroup that the
    /// process is in.
    pub(in crate::proc) fn resource_usage(
        &self,
        pid: HostPid,
        private: Option<&Cgroup>,
    ) -> ResourceUsage {
        const MEMORY: FileNames = FileNames { v2: "memory.current", v1: "memory.usage_in_bytes" };
        const CPU_MAX: FileNames = FileNames { v2: "cpu.max", v1: "cpu.cfs_quota_us" };
        const PIDS: FileNames = FileNames { v2: "pids.current", v1: "pids.current" };
        const PIDS_MAX: FileNames = FileNames { v2: "pids.max", v1: "pids.max" };
        let memberships = self.memberships(pid).ok();
        let find = |controller: &str| {
            ControllerCgroup::find(memberships.as_ref()?, controller.as_bytes(), private)
        };
        let (memory, cpu, pids) = (find("memory"), find("cpu"), find("pids"));
        let (memory, cpu, pids) = (memory.as_ref(), cpu.as_ref(), pids.as_ref());
        let number = |text: &str| text.trim().parse().ok();
        ResourceUsage {
            memory: self.counter(memory, MEMORY, number),
            memory_limit: self.tightest(memory, MEMORY_MAX, maximum),
            cpu_limit: self.tightest(cpu, CPU_MAX, cpus),
            pids: self.counter(pids, PIDS, number),
            pids_limit: self.tightest(pids, PIDS_MAX, maximum),
            oom_kills: self.counter(memory, OOM, kills_in),
        }
    }

    /// Returns how many processes of the container were killed for lack of memory, and the file that counts
    /// them; none if no cgroup counts the container alone.
    pub fn oom_kills(&self, pid: HostPid, private: Option<&Cgroup>) -> Option<(u64, String)> {
        let memberships = self.memberships(pid).ok()?;
        let applied = ControllerCgroup::find(&memberships, b"memory", private)?;
        let applied = Some(applied).filter(|applied| applied.is_private)?;
        let file = OOM.in_hierarchy_of(&applied);
        let dir = self.cgroup_dir(&applied.cgroup)?;
        let text = std::fs::read_to_string(dir.join(file)).map_err(ReadError::from);
        let kills = kills_in(&text.ok()?)?;
        // In v1 a cgroup counts its own processes only (`memcg_memory_event`, include/linux/memcontrol.h).
        let below = match applied.is_v1 {
            true => kills_below(&dir, file),
            false => 0,
        };
        Some((kills.saturating_add(below), self.cgroup_file(&applied.cgroup, file)?))
    }

    /// Returns the tightest limit of the memory of a process's container.
    pub fn memory_limit(
        &self,
        pid: HostPid,
        private: Option<&Cgroup>,
    ) -> Option<LimitedValue<u64>> {
        let memberships = self.memberships(pid).ok()?;
        let applied = ControllerCgroup::find(&memberships, b"memory", private)?;
        self.tightest(Some(&applied), MEMORY_MAX, maximum).known().cloned()
    }

    /// Returns how many OOM kills the memory cgroups above a container's count, of all that is in them: the
    /// path of each file, and a number that is not 0. (A cgroup of v1 counts its own processes only.)
    pub fn oom_kills_above(&self, pid: HostPid, private: Option<&Cgroup>) -> Vec<(u64, String)> {
        let memberships = self.memberships(pid).ok();
        let applied = memberships
            .and_then(|memberships| ControllerCgroup::find(&memberships, b"memory", private))
            .filter(|applied| applied.is_private && !applied.is_v1);
        let Some(mut cgroup) = applied.map(|applied| applied.cgroup) else { return Vec::new() };
        let mut counts = Vec::new();
        while let Some(end) =
            cgroup.path.iter().rposition(|byte| *byte == b'/').filter(|end| *end > 0)
        {
            cgroup.path.truncate(end);
            let count = self.cgroup_value(&cgroup, OOM.v2).and_then(|text| kills_in(&text));
            counts.extend(count.filter(|count| *count > 0).zip(self.cgroup_file(&cgroup, OOM.v2)));
        }
        counts
    }

    fn counter(
        &self,
        applied: Option<&ControllerCgroup>,
        names: FileNames,
        parse: impl Fn(&str) -> Option<u64>,
    ) -> Fact<u64> {
        let Some(applied) = applied.filter(|applied| applied.is_private) else {
            return Fact::Absent;
        };
        let text = self.cgroup_value(&applied.cgroup, names.in_hierarchy_of(applied));
        text.and_then(|text| parse(&text)).map_or(Fact::Denied, Fact::Known)
    }

    /// Returns the innermost cgroup of the process that holds all of the container: as long as nothing else is in
    /// the one above. (crun sets limits in a cgroup below its scope: always with systemd's hierarchies of v1, with v2
    /// for a container in a user namespace of its own.)
    fn innermost(&self, applied: &ControllerCgroup) -> Cgroup {
        let mut cgroup = applied.cgroup.clone();
        while applied.own_path.len() > cgroup.path.len() {
            let rest = applied.own_path[cgroup.path.len()..].strip_prefix(b"/");
            let Some(name) = rest.and_then(|rest| rest.split(|byte| *byte == b'/').next()) else {
                break;
            };
            let is_empty = self.own_cgroup_pids(&cgroup).is_ok_and(|pids| pids.is_empty());
            let dirs = self.cgroup_dir(&cgroup).and_then(|dir| std::fs::read_dir(dir).ok());
            let is_dir = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|is| is.is_dir());
            let below = dirs.map_or(0, |dirs| dirs.flatten().filter(is_dir).count());
            if !is_empty || below != 1 {
                break;
            }
            cgroup.path.push(b'/');
            cgroup.path.extend(name);
        }
        cgroup
    }

    /// Returns the tightest limit of a cgroup and of those above it. A cgroup without the file has no
    /// limit; if none has it, the limit is unknown.
    fn tightest<T: PartialOrd + Copy>(
        &self,
        applied: Option<&ControllerCgroup>,
        names: FileNames,
        read: ReadLimit<T>,
    ) -> Fact<LimitedValue<T>> {
        let Some(applied) = applied else { return Fact::Denied };
        let file = names.in_hierarchy_of(applied);
        let mut cgroup = self.innermost(applied);
        let mut tightest = Fact::Denied;
        loop {
            match read(self, &cgroup, file) {
                Fact::Known(most) => {
                    let is_as_tight = |known: &LimitedValue<T>| known.most <= most;
                    if !tightest.known().is_some_and(is_as_tight) {
                        let source = self.cgroup_file(&cgroup, file).unwrap_or_default();
                        tightest = Fact::Known(LimitedValue { most, source });
                    }
                }
                Fact::Absent if tightest == Fact::Denied => tightest = Fact::Absent,
                _ => {}
            }
            match cgroup.path.iter().rposition(|b| *b == b'/') {
                Some(slash) if cgroup.path.len() > 1 => cgroup.path.truncate(slash.max(1)),
                _ => return tightest,
            }
        }
    }
}

/// Reads a number of bytes or processes.
fn maximum(host: &Host, cgroup: &Cgroup, file: &str) -> Fact<u64> {
    let Some(text) = host.cgroup_value(cgroup, file) else { return Fact::Denied };
    match text.trim().parse() {
        // v1 has a number for "no limit": the greatest multiple of a page.
        Ok(most) if most < 1 << 62 => Fact::Known(most),
        _ => Fact::Absent,
    }
}

/// Reads quota and period of CPU time, and returns the number of CPUs.
fn cpus(host: &Host, cgroup: &Cgroup, file: &str) -> Fact<f64> {
    let files = if file == "cpu.max" { vec![file] } else { vec![file, "cpu.cfs_period_us"] };
    let texts: Option<Vec<String>> =
        files.into_iter().map(|file| host.cgroup_value(cgroup, file)).collect();
    let Some(texts) = texts else { return Fact::Denied };
    let text = texts.join(" ");
    let words: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match words[..] {
        [quota, period] if quota > 0.0 && period > 0.0 => Fact::Known(quota / period),
        _ => Fact::Absent,
    }
}

impl ControllerCgroup {
    /// Returns the cgroup of a controller: in its v1 hierarchy if it has one, else in v2.
    fn find(
        memberships: &Memberships,
        controller: &[u8],
        private: Option<&Cgroup>,
    ) -> Option<Self> {
        let v1 = memberships.0.iter().find(|cgroup| cgroup.has_controller(controller));
        let v2 = || memberships.0.iter().find(|cgroup| cgroup.controllers.is_empty());
        let membership = v1.or_else(v2)?;
        let private =
            private.and_then(|private| private_path(memberships, &membership.path, private));
        let path = private.unwrap_or(&membership.path).to_vec();
        let own_path = membership.path.clone();
        let cgroup = Cgroup { controllers: membership.controllers.clone(), path };
        Some(Self { cgroup, is_v1: v1.is_some(), is_private: private.is_some(), own_path })
    }
}

/// Returns the container's private cgroup in another hierarchy of v1, as a part of the path that the
/// process has there. It may be elsewhere (below the engine's own cgroup), but has the same name and the
/// same cgroups below it.
fn private_path<'a>(
    memberships: &Memberships,
    path: &'a [u8],
    private: &Cgroup,
) -> Option<&'a [u8]> {
    let known = memberships.by_preference().find(|membership| {
        membership.controllers == private.controllers
            && is_at_or_below(&membership.path, &private.path)
    })?;
    let found = path.strip_suffix(known.path.get(private.path.len()..)?)?;
    let name = |path: &[u8]| path.rsplit(|b| *b == b'/').next().map(<[u8]>::to_vec);
    (name(found) == name(&private.path) && found.len() > 1).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_may_be_elsewhere_in_another_hierarchy() {
        let all =
            Memberships::parse(b"9:name=systemd:/t1/x\n4:memory:/job/1/t1/x\n3:pids:/other\n");
        let private = Cgroup { controllers: b"name=systemd".to_vec(), path: b"/t1".to_vec() };
        assert_eq!(private_path(&all, b"/job/1/t1/x", &private), Some(&b"/job/1/t1"[..]));
        assert_eq!(private_path(&all, b"/t1/x", &private), Some(&b"/t1"[..]));
        assert_eq!(private_path(&all, b"/other", &private), None);
        assert_eq!(private_path(&all, b"/", &private), None);
    }

    #[test]
    fn the_limit_of_the_only_cgroup_below_is_the_containers() {
        check_limit_below("sys/fs/cgroup/pids", "3:pids:/scope/container\n");
        check_limit_below("sys/fs/cgroup", "0::/scope/container\n");
    }

    fn check_limit_below(hierarchy: &str, membership: &str) {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join(hierarchy);
        std::fs::create_dir_all(dir.path().join("proc/7")).unwrap();
        std::fs::create_dir_all(tree.join("scope/container/inner")).unwrap();
        std::fs::write(dir.path().join("proc/7/cgroup"), membership).unwrap();
        for (file, text) in [
            ("cgroup.procs", "1\n"),
            ("scope/cgroup.procs", ""),
            ("scope/pids.max", "3468\n"),
            ("scope/container/cgroup.procs", "7\n"),
            ("scope/container/pids.max", "2048\n"),
            ("scope/container/inner/cgroup.procs", ""),
            ("scope/container/inner/pids.max", "1\n"),
        ] {
            std::fs::write(tree.join(file), text).unwrap();
        }
        let host = Host::new(dir.path()).unwrap();
        let controllers = membership.split(':').nth(1).unwrap_or_default().as_bytes().to_vec();
        let private = Cgroup { controllers, path: b"/scope".to_vec() };
        let limit = || {
            let usage = host.resource_usage(HostPid::new(7).unwrap(), Some(&private));
            usage.pids_limit.known().map(|limit| limit.most)
        };
        assert_eq!(limit(), Some(2048));
        // Another process of the container may have more.
        std::fs::create_dir(tree.join("scope/other")).unwrap();
        assert_eq!(limit(), Some(3468));
    }

    #[test]
    fn the_tightest_limit_above_counts() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("sys/fs/cgroup");
        std::fs::create_dir_all(dir.path().join("proc/7")).unwrap();
        std::fs::create_dir_all(tree.join("slice/job")).unwrap();
        std::fs::write(dir.path().join("proc/7/cgroup"), "0::/slice/job\n").unwrap();
        for (file, text) in [
            ("cgroup.procs", ""),
            ("slice/memory.max", "1000\n"),
            ("slice/job/memory.max", "max\n"),
            ("slice/job/memory.current", "500\n"),
            ("slice/job/memory.events", "low 0\noom 3\noom_kill 2\n"),
            ("slice/job/cpu.max", "50000 100000\n"),
            ("slice/pids.max", "max\n"),
        ] {
            std::fs::write(tree.join(file), text).unwrap();
        }
        let host = Host::new(dir.path()).unwrap();
        let private = Cgroup { controllers: Vec::new(), path: b"/slice/job".to_vec() };
        let usage = host.resource_usage(HostPid::new(7).unwrap(), Some(&private));
        assert_eq!((usage.memory, usage.oom_kills), (Fact::Known(500), Fact::Known(2)));
        let limit = usage.memory_limit.known().unwrap();
        assert_eq!((limit.most, limit.source.ends_with("/slice/memory.max")), (1000, true));
        assert_eq!(usage.cpu_limit.known().unwrap().most, 0.5);
        assert_eq!((usage.pids, usage.pids_limit), (Fact::Denied, Fact::Absent));
        let shared = host.resource_usage(HostPid::new(7).unwrap(), None);
        assert_eq!((shared.memory, shared.oom_kills), (Fact::Absent, Fact::Absent));
    }
}
