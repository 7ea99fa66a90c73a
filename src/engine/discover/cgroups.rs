//! The later steps of a search: cgroups and PID namespaces that no record explains. They lead to more
//! records, and each of the rest becomes a container without a verified name.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::unexplained::{NamedCgroup, UnexplainedCgroups};
use super::{Search, assemble};
use crate::engine::bare::BARE;
use crate::engine::inventory::StoppedContainer;
use crate::engine::verify::{Init, evidence, read_init};
use crate::model::cgroup::{self, Cgroup};
use crate::model::container::{Container, Evidence};
use crate::model::engine::EngineInfo;
use crate::model::namespace::NamespaceId;
use crate::model::pid::{HostPid, Ticks};
use crate::proc::{Host, LiveCgroup, Survey, Trust};

/// More processes than this are not looked through in one cgroup.
const MAX_PROCESSES: usize = 4096;

impl Search<'_> {
    /// Adds containers without a PID namespace of their own whose init has exited before other processes of
    /// their cgroup: the record still names both.
    pub(super) fn add_without_init(&mut self, cgroups: &[LiveCgroup]) {
        let paths: HashMap<&[u8], &Cgroup> =
            cgroups.iter().map(|live| (live.cgroup.path.as_slice(), &live.cgroup)).collect();
        let mut stopped = std::mem::take(&mut self.inventory.stopped);
        stopped.retain(|stopped| {
            let cgroup = stopped.cgroup.as_deref().and_then(|path| paths.get(path));
            let container = cgroup.and_then(|cgroup| self.without_init(stopped, cgroup, cgroups));
            let is_stopped = container.is_none();
            container.into_iter().for_each(|container| self.push(container));
            is_stopped
        });
        self.inventory.stopped.append(&mut stopped);
    }

    /// Returns the container that a record, whose init has exited, has in this cgroup. A process that is
    /// older than the init shows that the cgroup is not the container's own, and a container that runs in
    /// it that it is another's by now.
    fn without_init(
        &self,
        stopped: &StoppedContainer,
        cgroup: &Cgroup,
        cgroups: &[LiveCgroup],
    ) -> Option<Container> {
        let init = stopped.init?;
        // (A record that is doubted for another reason than that its PID has been reused stays doubted.)
        let is_reused = || {
            let stat = self.host.stat(init.pid);
            init.start != Ticks(0) && stat.is_ok_and(|stat| stat.start != init.start)
        };
        let has_exited = stopped.doubt.is_none() || is_reused();
        let is_anothers = self.inventory.containers.iter().any(|other| {
            let other = other.cgroup.as_ref();
            other.is_some_and(|other| cgroup::is_at_or_below(&other.path, &cgroup.path))
        }) || cgroups.iter().any(|live| {
            let path = &live.cgroup.path;
            cgroup::is_at_or_below(path, &cgroup.path)
                && self.filter.as_ref().is_some_and(|filter| filter.explains(path))
        });
        let is_users = |pid: HostPid| match stopped.container.user {
            Some(user) => self.host.is_users(pid, user) == Ok(true),
            None => true,
        };
        if !has_exited || is_anothers || cgroup::components(&cgroup.path).next().is_none() {
            return None;
        }
        let pids = self.host.cgroup_pids(cgroup).ok()?.into_iter();
        let members: Vec<Init> = pids
            .filter_map(|pid| read_init(self.host, pid).ok())
            .filter(|m| is_users(m.id.pid))
            .collect();
        let first = members.iter().min_by_key(|member| member.id.start)?;
        // PID 1 of a namespace is the init of another container.
        if first.id.start < init.start || members.iter().any(|member| member.owns_pid_ns) {
            return None;
        }
        let is_alike = members.iter().all(|member| member.depth == first.depth);
        let observation =
            format!("{} of its processes run, its init {} has exited", members.len(), init.pid);
        let path = String::from_utf8_lossy(&cgroup.path).into_owned();
        let record = stopped.path().display();
        let evidence = vec![
            evidence(record, format!("its cgroup is {path}"), true),
            evidence(path.clone(), observation, true),
        ];
        Some(Container {
            init: Some(init),
            has_lost_init: true,
            pid_ns: first.pid_ns.filter(|_| is_alike),
            depth: if is_alike { first.depth } else { 0 },
            cgroup: Some(cgroup.clone()),
            state: first.state(self.host),
            verified: true,
            evidence,
            ..stopped.container.clone()
        })
    }

    /// Adds containers that only the name of their cgroup identifies.
    pub(super) fn add_recognised(&mut self, cgroups: UnexplainedCgroups<'_>) {
        let (left, mut explained) = cgroups.finish(self);
        for cgroup in left {
            if cgroup.name.is_none()
                || explained.explain(&cgroup.live.cgroup.path, true)
                || self.process_of(&cgroup).is_none()
            {
                continue;
            }
            let NamedCgroup { live, name: Some((engine, id)), .. } = cgroup else { continue };
            let Some(init) = self.init_of(&live.cgroup) else { continue };
            if self.by_init.contains_key(&init.id.pid) {
                continue;
            }
            let path = String::from_utf8_lossy(&live.cgroup.path);
            let spelling = format!("{path} is named like a cgroup of {}", engine.display_name);
            let (verified, maker) = self.judge_name(&live.cgroup, engine.keeps_records);
            let evidence = vec![evidence("cgroup tree", spelling, true), maker];
            let cgroup = Some(live.cgroup.clone());
            let state = init.state(self.host);
            let mut container = assemble(state, engine, &init, cgroup, evidence);
            container.id = Some(id);
            container.verified = verified;
            if !engine.keeps_records {
                self.name_by_cgroup(&mut container);
            }
            explained.insert(&live.cgroup.path);
            self.push(container);
        }
    }

    /// Decides whether the name of a cgroup can be trusted: only that of an engine without records,
    /// only if root alone could have made the cgroup, and not in a container, which names its own
    /// cgroups.
    fn judge_name(&self, cgroup: &Cgroup, keeps_records: bool) -> (bool, Evidence) {
        let path = String::from_utf8_lossy(&cgroup.path).into_owned();
        let is_nested = self.inventory.containers.iter().any(|outer| {
            let outer = outer.cgroup.as_ref();
            outer.is_some_and(|outer| cgroup::is_at_or_below(&cgroup.path, &outer.path))
        });
        let maker = self.host.cgroup_maker(cgroup);
        let verified = !keeps_records && maker == Trust::Root && !is_nested;
        let reason = match maker {
            _ if verified => "every directory above it is root's",
            _ if is_nested => "it was created in a container",
            Trust::Root => "no record confirms the name",
            _ => "a user could have created it",
        };
        (verified, evidence(path, reason.into(), verified))
    }

    /// Names a container of an engine without records by its cgroup; or, if it is verified, by its
    /// configuration, which so far counted as a container that is not running.
    fn name_by_cgroup(&mut self, container: &mut Container) {
        let stopped = &mut self.inventory.stopped;
        let path = container.cgroup.as_ref().map(|cgroup| &cgroup.path);
        let engine = container.engine;
        let of = |is_its: &dyn Fn(&EngineInfo) -> bool| {
            let mut candidates = stopped.iter();
            candidates.position(|s| is_its(s.container.engine) && s.container.id == container.id)
        };
        // (The first of that name counts, even if it has another cgroup. Engines that write a
        // configuration for each start come first.)
        let index = of(&|other| engine.same_cgroups.contains(&other))
            .or_else(|| of(&|other| other == engine))
            .filter(|index| {
                let claimed = stopped[*index].cgroup.as_ref();
                container.verified && claimed.is_none_or(|claimed| Some(claimed) == path)
            });
        let Some(index) = index else {
            container.name = container.id.clone();
            return;
        };
        let configured = stopped.swap_remove(index);
        let configured = configured.container;
        let source = configured.record.as_deref().unwrap_or(Path::new("?")).display();
        container.evidence.push(evidence(source, "its configuration".into(), true));
        container.engine = configured.engine;
        container.name = configured.name;
        container.aliases = configured.aliases;
        container.record = configured.record;
    }

    /// Returns the init of a cgroup: PID 1 of the outermost PID namespace in it, else the first process
    /// whose parent is not in it.
    fn init_of(&self, cgroup: &Cgroup) -> Option<Init> {
        let pids = self.host.cgroup_pids(cgroup).ok()?;
        let inits = pids.iter().filter_map(|pid| read_init(self.host, *pid).ok());
        inits.min_by_key(|init| {
            let has_parent = HostPid::new(init.parent).is_some_and(|pid| pids.contains(&pid));
            (!init.owns_pid_ns, has_parent, init.depth, init.id.start)
        })
    }

    /// Adds PID namespaces that belong to no container so far.
    pub(super) fn add_bare(&mut self, survey: &Survey) {
        // A container that only joined a namespace does not account for it.
        let owners = self.inventory.containers.iter().filter(|container| container.owns_pid_ns);
        let mut known: HashSet<NamespaceId> = owners.filter_map(|owner| owner.pid_ns).collect();
        known.extend(self.host.pid_ns);
        for process in &survey.processes {
            // A namespace that could not be read is distinguished from others by its PID 1 only.
            let namespace = process.pid_ns;
            if namespace.is_some_and(|namespace| known.contains(&namespace))
                || self.by_init.contains_key(&process.pid)
            {
                continue;
            }
            let Ok(init) = read_init(self.host, process.pid) else { continue };
            // PID 1 may come later in the list, and may have exited from a namespace in which other
            // processes are still being killed.
            if !init.owns_pid_ns || init.pid_ns != namespace {
                continue;
            }
            known.extend(namespace);
            if self.is_in_sandbox(&init) {
                continue;
            }
            let source = format!("/proc/{}/ns/pid", process.pid);
            let observation = "PID 1 of a namespace that no engine claims";
            let evidence = vec![evidence(source, observation.into(), true)];
            let cgroup = private_cgroup(self.host, &init);
            let state = init.state(self.host);
            let mut container = assemble(state, &BARE, &init, cgroup, evidence);
            container.user = self.host.trust_of_user(init.uid).user();
            container.verified = true;
            self.name_by_unit(&mut container, &init);
            self.push(container);
        }
    }

    /// Whether a process serves a sandbox in its cgroup: gVisor's gofer has a PID namespace of its own.
    fn is_in_sandbox(&self, init: &Init) -> bool {
        self.inventory.containers.iter().any(|container| {
            container.remark.is_some()
                && container.cgroup.as_ref().is_some_and(|cgroup| cgroup.holds(&init.memberships))
        })
    }

    /// Names a namespace by the unit that it is: a service with `PrivatePIDs=`, whose PID 1 is the child of
    /// systemd, or a part of a snap, whose scope has its name.
    fn name_by_unit(&self, container: &mut Container, init: &Init) {
        let Some(cgroup) = init.memberships.by_preference().find(|m| m.path != b"/") else {
            return;
        };
        let unit = cgroup::components(&cgroup.path).last().unwrap_or_default();
        let Ok(unit) = std::str::from_utf8(unit) else { return };
        let is_systemds = || {
            let parent = HostPid::new(init.parent).and_then(|pid| self.host.stat(pid).ok());
            parent.is_some_and(|stat| *stat.comm == *b"systemd")
        };
        let maker = self.host.cgroup_maker(cgroup);
        if let Trust::User(uid) = maker
            && self.host.is_users(init.id.pid, uid) != Ok(true)
        {
            return;
        }
        if maker == Trust::Untrusted {
            return;
        }
        if unit.ends_with(".service") && is_systemds() {
            container.name = Some(unit.to_owned());
            container.user = maker.user();
        } else {
            container.name = snap_name(unit);
        }
        if let Some(name) = &container.name {
            let path = String::from_utf8_lossy(&cgroup.path).into_owned();
            container.evidence.push(evidence(path, format!("its unit is {name}"), true));
        }
    }
}

/// Returns `snap.NAME.APP` in the name of a snap's unit: `snap.NAME.APP.service`, or
/// `snap.NAME.APP-UUID.scope` (snapd, sandbox/cgroup; `.UUID.scope` in older versions).
fn snap_name(unit: &str) -> Option<String> {
    let name = unit.strip_suffix(".service").or_else(|| unit.strip_suffix(".scope"))?;
    name.starts_with("snap.").then_some(())?;
    let is_uuid =
        |text: &str| text.len() == 36 && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
    let cut = name.len().checked_sub(37).filter(|cut| {
        name.is_char_boundary(*cut)
            && is_uuid(&name[cut + 1..])
            && name[*cut..].starts_with(['-', '.'])
    });
    Some(cut.map_or(name, |cut| &name[..cut]).to_owned())
}

/// Returns the cgroup of a bare namespace, if only its processes are in it.
fn private_cgroup(host: &Host, init: &Init) -> Option<Cgroup> {
    let cgroup = init.memberships.by_preference().find(|m| m.path != b"/")?;
    let pids = host.cgroup_pids(cgroup).ok()?;
    let is_member = |pid: &HostPid| match host.pid_ns_by_pid(*pid) {
        Ok(namespace) => Some(namespace) == init.pid_ns,
        // Where namespaces cannot be read, the number of its PIDs decides.
        Err(_) => {
            init.pid_ns.is_none()
                && host.status(*pid).is_ok_and(|status| status.nspid.len() > init.depth)
        }
    };
    (pids.len() <= MAX_PROCESSES && pids.iter().all(is_member)).then(|| cgroup.clone())
}
