//! Cgroups and PID namespaces that no record explains: one process of each leads to a shim, a monitor or mounts,
//! and these to more records. Nothing here names a container.

use std::cell::OnceCell;
use std::collections::HashSet;

use super::Search;
use crate::engine::cgroup_name::is_long_id;
use crate::engine::recognise;
use crate::engine::shims::shims_above;
use crate::model::cgroup;
use crate::model::container::Container;
use crate::model::engine::EngineInfo;
use crate::model::namespace::NamespaceId;
use crate::model::pid::HostPid;
use crate::proc::LiveCgroup;

/// More processes than this are not looked through in one cgroup.
const MAX_PROCESSES: usize = 4096;
/// Rounds that follow one container of each engine, before all that are left are followed.
const SAMPLES: usize = 4;

/// The cgroups that no container explains so far. Each is recognised once: there may be thousands.
pub(super) struct UnexplainedCgroups<'t> {
    left: Vec<NamedCgroup<'t>>,
    /// Cgroups of containers, and others that a search for a name has passed over.
    known: CgroupPaths,
}

/// A cgroup, and the engine and ID in its name.
pub(super) struct NamedCgroup<'t> {
    pub live: &'t LiveCgroup,
    pub name: Option<(&'static EngineInfo, String)>,
    /// A process in it or in one below it, once it was asked for: an engine may leave thousands without any.
    process: OnceCell<Option<HostPid>>,
}

impl<'t> UnexplainedCgroups<'t> {
    fn new(cgroups: &'t [LiveCgroup]) -> Self {
        let named = |live: &'t LiveCgroup| {
            let name = recognise(&live.cgroup.path);
            NamedCgroup { live, name, process: OnceCell::new() }
        };
        Self { left: cgroups.iter().map(named).collect(), known: CgroupPaths::default() }
    }

    /// Removes the cgroups that the search has explained.
    fn update(&mut self, search: &Search<'_>) -> &[NamedCgroup<'t>] {
        let Self { left, known } = self;
        known.add(&search.inventory.containers);
        left.retain(|cgroup| {
            let path = &cgroup.live.cgroup.path;
            if known.explain(path, cgroup.name.is_some()) {
                return false;
            }
            // One that was passed over explains those below it, too.
            let is_passed_over = search.filter.as_ref().is_some_and(|filter| filter.explains(path));
            if is_passed_over {
                known.insert(path);
            }
            !is_passed_over
        });
        left
    }

    /// Returns those that are left, and the paths that explain others.
    pub(super) fn finish(mut self, search: &Search<'_>) -> (Vec<NamedCgroup<'t>>, CgroupPaths) {
        self.update(search);
        (self.left, self.known)
    }
}

impl Search<'_> {
    /// Reads the records that unexplained containers lead to.
    pub(super) fn follow_unexplained<'t>(
        &mut self,
        cgroups: &'t [LiveCgroup],
    ) -> UnexplainedCgroups<'t> {
        let mut cgroups = UnexplainedCgroups::new(cgroups);
        let mut followed: HashSet<HostPid> = HashSet::new();
        // Records of all containers of a daemon are most often where one of them leads to, and there may be
        // hundreds.
        let samples = if self.has_all_shims { 0 } else { SAMPLES };
        self.is_sampling = samples > 0;
        for round in 0..samples {
            let sample = self.sample(cgroups.update(self), &followed);
            if sample.is_empty() {
                break;
            }
            // Its mounts are read first; to read the shims above it takes longer.
            self.is_first_look = round == 0;
            if self.is_first_look {
                self.read_records(false, &[], &sample);
                continue;
            }
            self.follow(&sample);
            followed.extend(sample.iter().map(|(_, pid)| *pid));
        }
        (self.is_first_look, self.is_sampling) = (false, false);
        let mut rest = self.unexplained(cgroups.update(self));
        rest.retain(|(_, pid)| !followed.contains(pid));
        if !rest.is_empty() {
            self.follow(&rest);
        }
        self.settle_doubts();
        cgroups
    }

    fn follow(&mut self, unexplained: &[(String, HostPid)]) {
        let pids: Vec<HostPid> = unexplained.iter().map(|(_, pid)| *pid).collect();
        let above = match self.has_all_shims {
            true => Vec::new(),
            false => shims_above(self.host, &pids),
        };
        self.read_records(false, &above, unexplained);
    }

    /// Returns one container of each engine, as their cgroups are named.
    fn sample(
        &self,
        cgroups: &[NamedCgroup<'_>],
        followed: &HashSet<HostPid>,
    ) -> Vec<(String, HostPid)> {
        let mut engines = HashSet::new();
        let mut found = Vec::new();
        for cgroup in cgroups {
            let Some((engine, id)) = &cgroup.name else { continue };
            if engines.contains(engine.name) {
                continue;
            }
            let pid = self.process_of(cgroup).filter(|pid| !followed.contains(pid));
            if let Some(pid) = pid {
                engines.insert(engine.name);
                found.push((id.clone(), pid));
            }
        }
        found
    }

    /// Returns containers: cgroups that are named like one, or have a process in another PID namespace than
    /// ours. ID (empty if unknown) and one process of each.
    fn unexplained(&self, cgroups: &[NamedCgroup<'_>]) -> Vec<(String, HostPid)> {
        let mut namespaces: HashSet<NamespaceId> =
            self.inventory.containers.iter().filter_map(|container| container.pid_ns).collect();
        namespaces.extend(self.host.pid_ns);
        let mut found = Vec::new();
        for cgroup in cgroups {
            let NamedCgroup { live, name, .. } = cgroup;
            if let Some((_, id)) = name {
                found.extend(self.process_of(cgroup).map(|pid| (id.clone(), pid)));
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

    /// Returns a process of a cgroup or, where only cgroups below it have any (systemd in the container), of
    /// these.
    pub(super) fn process_of(&self, cgroup: &NamedCgroup<'_>) -> Option<HostPid> {
        let live = cgroup.live;
        let below = || self.host.cgroup_pids(&live.cgroup).ok()?.first().copied();
        let read = || live.any_pid().or_else(|| if live.is_leaf { None } else { below() });
        *cgroup.process.get_or_init(read)
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

/// Paths of containers' cgroups.
#[derive(Default)]
pub(super) struct CgroupPaths(HashSet<Vec<u8>>);

impl CgroupPaths {
    fn add(&mut self, containers: &[Container]) {
        let cgroups = containers.iter().filter_map(|container| container.cgroup.as_ref());
        self.0.extend(cgroups.map(|cgroup| cgroup.path.clone()));
    }

    pub(super) fn insert(&mut self, path: &[u8]) {
        self.0.insert(path.to_owned());
    }

    /// Whether a cgroup is one of them, or is below one and not named like a container's itself.
    pub(super) fn explain(&self, path: &[u8], is_named: bool) -> bool {
        let mut ends = (1..path.len()).filter(|index| path[*index] == b'/');
        self.0.contains(path) || (!is_named && ends.any(|end| self.0.contains(&path[..end])))
    }
}
