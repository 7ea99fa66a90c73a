//! Cgroups and PID namespaces that no record explains: one process of each leads to a shim, a monitor or mounts,
//! and these to more records. Nothing here names a container.

use std::collections::HashSet;

use super::Search;
use super::cgroups::CgroupPaths;
use crate::engine::cgroup_name::is_long_id;
use crate::engine::recognise;
use crate::engine::shims::shims_above;
use crate::model::cgroup;
use crate::model::namespace::NamespaceId;
use crate::model::pid::HostPid;
use crate::proc::LiveCgroup;

/// More processes than this are not looked through in one cgroup.
const MAX_PROCESSES: usize = 4096;
/// Rounds of a search for one name that follow one container of each engine, before all that are left are
/// followed.
const SAMPLES: usize = 4;

impl Search<'_> {
    /// Reads the records that unexplained containers lead to.
    pub(super) fn follow_unexplained(&mut self, cgroups: &[LiveCgroup]) {
        let mut followed: HashSet<HostPid> = HashSet::new();
        // Records of all containers of a daemon are most often where one of them leads to: in a search for a
        // name there may be hundreds that these pass over.
        let samples = if self.filter.is_some() { SAMPLES } else { 0 };
        for round in 0..samples {
            let sample = self.sample(cgroups, &followed);
            if sample.is_empty() {
                break;
            }
            // Its mounts are read first; to read the shims above it takes longer.
            if round == 0 {
                self.read_records(false, &[], &sample);
                continue;
            }
            self.follow(&sample);
            followed.extend(sample.iter().map(|(_, pid)| *pid));
        }
        let mut rest = self.unexplained(cgroups);
        rest.retain(|(_, pid)| !followed.contains(pid));
        if !rest.is_empty() {
            self.follow(&rest);
        }
    }

    fn follow(&mut self, unexplained: &[(String, HostPid)]) {
        let pids: Vec<HostPid> = unexplained.iter().map(|(_, pid)| *pid).collect();
        // A survey has had all shims.
        let above = match self.has_all_shims {
            true => Vec::new(),
            false => shims_above(self.host, &pids),
        };
        self.read_records(false, &above, unexplained);
    }

    /// Returns one unexplained container of each engine, as their cgroups are named.
    fn sample(
        &self,
        cgroups: &[LiveCgroup],
        followed: &HashSet<HostPid>,
    ) -> Vec<(String, HostPid)> {
        let mut known = CgroupPaths::of(&self.inventory.containers);
        let mut engines = HashSet::new();
        let mut found = Vec::new();
        for live in cgroups {
            let Some((engine, id)) = recognise(&live.cgroup.path) else { continue };
            if engines.contains(engine.name)
                || known.explain(live, true)
                || self.passed_over(live, &mut known)
            {
                continue;
            }
            let pid = self.process_of(live).filter(|pid| !followed.contains(pid));
            if let Some(pid) = pid {
                engines.insert(engine.name);
                found.push((id, pid));
            }
        }
        found
    }

    /// Returns cgroups with a container that no record explains: they are named like one, or have a
    /// process in another PID namespace than ours. ID (empty if unknown) and one process of each.
    fn unexplained(&self, cgroups: &[LiveCgroup]) -> Vec<(String, HostPid)> {
        let mut namespaces: HashSet<NamespaceId> =
            self.inventory.containers.iter().filter_map(|container| container.pid_ns).collect();
        namespaces.extend(self.host.pid_ns);
        let mut known = CgroupPaths::of(&self.inventory.containers);
        let mut found = Vec::new();
        for live in cgroups {
            let name = recognise(&live.cgroup.path);
            if known.explain(live, name.is_some()) || self.passed_over(live, &mut known) {
                continue;
            }
            if let Some((_, id)) = name {
                found.extend(self.process_of(live).map(|pid| (id, pid)));
                continue;
            }
            // To list a v1 cgroup the kernel sorts all that is in it, a login session for example; the
            // cgroups of one hierarchy have to do. v2 lists as it is read.
            let controllers = &live.cgroup.controllers;
            if controllers.is_empty() || cgroup::preference(controllers) == 0 {
                let pids = self.foreign_processes(live, &mut namespaces);
                found.extend(pids.into_iter().map(|pid| (String::new(), pid)));
            }
        }
        found.extend(self.named_by_runtimes());
        found
    }

    /// Returns a process of a cgroup or, where only cgroups below it have any (systemd in the container), of these.
    fn process_of(&self, live: &LiveCgroup) -> Option<HostPid> {
        let below = || self.host.cgroup_pids(&live.cgroup).ok()?.first().copied();
        live.any_pid().or_else(below)
    }

    /// Whether a cgroup is that of a container that a search for another name has passed over: then it explains
    /// those below it, too.
    pub(super) fn passed_over(&self, live: &LiveCgroup, known: &mut CgroupPaths) -> bool {
        let path = &live.cgroup.path;
        let is_passed_over = self.filter.as_ref().is_some_and(|filter| filter.explains(path));
        if is_passed_over {
            known.insert(path);
        }
        is_passed_over
    }

    /// Returns one process of each PID namespace in a cgroup that is not known, and adds those
    /// namespaces: nspawn may have several containers in one cgroup.
    fn foreign_processes(
        &self,
        live: &LiveCgroup,
        known: &mut HashSet<NamespaceId>,
    ) -> Vec<HostPid> {
        let namespace = |pid: HostPid| self.host.pid_ns_by_pid(pid).ok();
        if live.any_pid().and_then(namespace).is_none_or(|ns| known.contains(&ns)) {
            return Vec::new();
        }
        let pids = self.host.cgroup_pids(&live.cgroup).unwrap_or_default();
        let pids = pids.into_iter().take(MAX_PROCESSES);
        pids.filter(|pid| namespace(*pid).is_some_and(|ns| known.insert(ns))).collect()
    }

    /// Returns containers that so far only a low-level runtime names: an engine may have a name for
    /// them that its shim leads to, or its mounts. Most have neither.
    fn named_by_runtimes(&self) -> Vec<(String, HostPid)> {
        let containers = self.inventory.containers.iter().filter(|c| c.engine.low_level);
        containers
            .filter_map(|c| Some((c.id.clone().unwrap_or_default(), c.init?.pid)))
            .filter(|(id, init)| is_long_id(id) || !self.orphans.contains(init))
            .collect()
    }
}
