//! The containers of a trace: those that were chosen, and the others, by which senders are named. Later ones
//! are searched for as long as a process was seen in a place that belongs to none. One that its engine's record
//! names by the cgroup belongs at once: in a crash loop it ends before the record has its PID. Nothing is
//! read but that.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::ResolvedContainer;
use crate::analysis::ending::{has_long_id, is_cgroup_of};
use crate::engine::{
    Inventory, MembershipRule, SearchDepth, StoppedContainer, add_labels, discover,
};
use crate::model::cgroup::{Cgroup, components, is_at_or_below};
use crate::model::container::Container;
use crate::model::engine::ReferenceForm;
use crate::model::pid::HostPid;
use crate::proc::Host;

/// Pause between two searches, in times of the last one, and its limits: while a place is new, and later.
const NEW: (u32, Duration, Duration) = (4, Duration::from_millis(20), Duration::from_millis(500));
const AGAIN: (u32, Duration, Duration) = (20, Duration::from_millis(50), Duration::from_secs(2));
/// Time in which a place is new.
const NEW_FOR: Duration = Duration::from_secs(2);
/// Time in which an engine writes the record of a container after its first process has begun.
const SETTLE: Duration = Duration::from_secs(8);
/// Places that are remembered as no container's.
const MAX_PLACES: usize = 4096;

/// The choice of processes that are traced.
pub enum TraceChoice<'a> {
    /// Every process of the host.
    Host,
    /// Processes of these containers, also after a restart.
    Containers(Vec<ChosenContainer<'a>>),
    /// Processes of every container with all of these labels, also of later ones.
    Labels(Vec<String>),
}

/// A container that was chosen by a reference.
pub struct ChosenContainer<'a> {
    /// The container.
    pub container: Container,
    /// The cgroup that it has when it runs, if that is known.
    pub cgroup: Option<Vec<u8>>,
    /// The resolved container, if it ran when the trace began.
    pub running: Option<ResolvedContainer<'a>>,
}

/// The container of a process.
#[derive(Clone, Debug)]
pub struct ProcessContainer {
    /// Its qualified name.
    pub name: Rc<str>,
    /// The depth of its PID namespace, if it is verified.
    pub depth: Option<usize>,
    /// Whether it was chosen.
    pub is_chosen: bool,
    /// Whether all of it was recorded that the choice depends on.
    pub is_settled: bool,
}

/// A place in which a process can be: a cgroup, or a PID namespace below the host's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    Cgroup(Vec<u8>),
    Namespace(u64),
}

/// The times of a place that is not known to be a container's.
struct PlaceTimes {
    first_seen: Instant,
    /// None if it was not searched yet.
    next_search: Option<Instant>,
}

/// The containers of a trace.
pub struct TracedContainers<'a> {
    host: &'a Host,
    choice: TraceChoice<'a>,
    depth: SearchDepth,
    inventory: Inventory,
    /// Number of searches so far.
    pub searches: u64,
    searched: Instant,
    /// Time that the last search took.
    took: Duration,
    /// Places that may be those of a container whose record is not written yet.
    unknown: HashMap<Place, PlaceTimes>,
    /// Places that belong to no container.
    plain: HashSet<Place>,
    /// The PID namespaces of chosen containers: the kernel gives the number of one that is gone to the next
    /// (`ns_alloc_inum`, include/linux/proc_ns.h), and processes of another container would be taken for
    /// theirs.
    _namespaces: Vec<OwnedFd>,
}

impl<'a> TracedContainers<'a> {
    /// Finds the containers of the host.
    pub fn new(host: &'a Host, choice: TraceChoice<'a>) -> Self {
        let depth = match choice {
            TraceChoice::Host => SearchDepth::Everything,
            _ => SearchDepth::Cgroups,
        };
        let namespace = |chosen: &ChosenContainer<'_>| {
            let handle = host.process(chosen.container.init_pid()?).ok()?;
            host.namespace_file(&handle, "pid").ok()
        };
        let held = match &choice {
            TraceChoice::Containers(chosen) => chosen.iter().filter_map(namespace).collect(),
            _ => Vec::new(),
        };
        let mut containers = Self {
            host,
            choice,
            depth,
            inventory: Inventory::default(),
            searches: 0,
            searched: Instant::now(),
            took: Duration::ZERO,
            unknown: HashMap::new(),
            plain: HashSet::new(),
            _namespaces: held,
        };
        containers.search();
        containers
    }

    /// Whether every process of the host is traced.
    pub fn is_whole_host(&self) -> bool {
        matches!(self.choice, TraceChoice::Host)
    }

    /// Whether there are several containers to distinguish.
    pub fn is_several(&self) -> bool {
        !matches!(&self.choice, TraceChoice::Containers(chosen) if chosen.len() == 1)
    }

    /// Returns the qualified names of the chosen containers; of those with a label, of the running ones.
    pub fn chosen(&self) -> Vec<String> {
        match &self.choice {
            TraceChoice::Containers(chosen) => {
                let name = |chosen: &ChosenContainer<'_>| match chosen.running {
                    Some(_) => chosen.container.qualified(),
                    None => format!("{} (not running now)", chosen.container.qualified()),
                };
                chosen.iter().map(name).collect()
            }
            _ => {
                let chosen = self.inventory.containers.iter().filter(|found| self.is_chosen(found));
                chosen.map(Container::qualified).collect()
            }
        }
    }

    /// Whether a container of this name is running.
    pub fn is_running(&self, name: &str) -> bool {
        self.inventory.containers.iter().any(|container| container.qualified() == name)
    }

    /// Returns the container of a process.
    pub fn of(&mut self, pid: HostPid) -> Option<ProcessContainer> {
        let holds = |chosen: &&ChosenContainer<'_>| {
            chosen.running.as_ref().is_some_and(|resolved| {
                MembershipRule::new(self.host, &resolved.container, &resolved.inventory)
                    .holds(pid)
                    .unwrap_or(false)
            })
        };
        if let TraceChoice::Containers(chosen) = &self.choice
            && let Some(ChosenContainer { container, .. }) = chosen.iter().find(holds)
        {
            return Some(ProcessContainer {
                name: container.qualified().into(),
                depth: Some(container.depth),
                is_chosen: true,
                is_settled: true,
            });
        }
        if self.containing(pid).is_none_or(|container| !self.is_settled(container))
            && let Some(place) = self.place(pid)
        {
            self.note(place);
            self.refresh();
        }
        let found = self.containing(pid);
        let settled = found.filter(|container| self.is_settled(container));
        let described = settled.map(|container| self.describe(container));
        described.or_else(|| self.recorded(pid, found)).or_else(|| Some(self.describe(found?)))
    }

    /// Returns the container of a process by the last search. (If it has ended since, the number of its PID
    /// namespace may be that of the next container's.)
    fn containing(&self, pid: HostPid) -> Option<&Container> {
        let found = self.inventory.containing(self.host, pid)?;
        let is_in = |cgroup: &Cgroup| self.host.is_in_cgroup(pid, cgroup);
        let is_it = found.init.is_none_or(|init| self.host.exists(init))
            || found.cgroup.as_ref().is_some_and(is_in);
        is_it.then_some(found)
    }

    /// Returns the container of a process by a record that is not verified yet; `found` is the one that the
    /// runtime below its engine has. (A process that is exiting has left its cgroup.)
    fn recorded(&self, pid: HostPid, found: Option<&Container>) -> Option<ProcessContainer> {
        let unique = found.filter(|container| container.has_unique_id());
        let by_id = || {
            let id = unique?.id.as_ref();
            self.recorded_as(|container, _| container.id.as_ref() == id)
        };
        let by_cgroup = || {
            let memberships = self.host.memberships(pid).ok()?;
            memberships.by_preference().find_map(|found| self.recorded_at(&found.path))
        };
        let container = by_id().or_else(by_cgroup)?;
        Some(ProcessContainer { depth: found.map(|container| container.depth), ..container })
    }

    /// Returns the container of a cgroup, by its path.
    pub fn at(&mut self, path: &[u8]) -> Option<ProcessContainer> {
        if self.container_at(path).is_none_or(|container| !self.is_settled(container)) {
            self.note(Place::Cgroup(path.to_owned()));
            self.refresh();
        }
        let found = self.container_at(path);
        let settled = found.filter(|container| self.is_settled(container));
        let settled = settled.map(|container| self.describe(container));
        settled
            .or_else(|| self.recorded_at(path))
            .or_else(|| found.map(|container| self.describe(container)))
    }

    /// Returns the container whose cgroup this is by its engine's record, verified or not.
    fn recorded_at(&self, path: &[u8]) -> Option<ProcessContainer> {
        let is_here = |container: &Container, cgroup: Option<&[u8]>| {
            // (One without its name may be shared, or become another container's.)
            let name = container.id.as_deref().unwrap_or_default().as_bytes();
            let is_named = |path: &&[u8]| {
                let last = components(path).last().unwrap_or_default();
                !name.is_empty() && last.strip_suffix(b".scope").unwrap_or(last).ends_with(name)
            };
            container.engine.reference != ReferenceForm::Pid
                && is_cgroup_of(path, container, cgroup.filter(is_named))
        };
        // (Most cgroups of a host are not a container's, and its records may be thousands.)
        match has_long_id(path) {
            true => self.recorded_as(is_here),
            false => self.chosen_as(is_here),
        }
    }

    /// Returns a container that was chosen by a reference.
    fn chosen_as(
        &self,
        is_it: impl Fn(&Container, Option<&[u8]>) -> bool,
    ) -> Option<ProcessContainer> {
        let TraceChoice::Containers(chosen) = &self.choice else { return None };
        let found = chosen.iter().find(|c| is_it(&c.container, c.cgroup.as_deref()))?;
        Some(described_as_recorded(&found.container, true))
    }

    /// Returns a container of which there is a record, and that was chosen or was not running at the last search.
    fn recorded_as(
        &self,
        is_it: impl Fn(&Container, Option<&[u8]>) -> bool,
    ) -> Option<ProcessContainer> {
        if let Some(chosen) = self.chosen_as(&is_it) {
            return Some(chosen);
        }
        let is_it = |stopped: &&StoppedContainer| {
            stopped.doubt.is_none() && is_it(&stopped.container, stopped.cgroup.as_deref())
        };
        let mut container = self.inventory.stopped.iter().find(is_it)?.container.clone();
        if matches!(self.choice, TraceChoice::Labels(_)) {
            add_labels(self.host, std::iter::once(&mut container));
        }
        Some(described_as_recorded(&container, self.is_chosen(&container)))
    }

    /// Searches again if a place is not known yet, and it is time.
    pub fn refresh(&mut self) {
        let now = Instant::now();
        let is_due = |times: &&PlaceTimes| times.next_search.is_none_or(|next| next <= now);
        let first_seen = self.unknown.values().filter(is_due).map(|times| times.first_seen).max();
        let Some(first_seen) = first_seen else { return };
        let is_new = now.duration_since(first_seen) < NEW_FOR;
        let (ratio, shortest, longest) = if is_new { NEW } else { AGAIN };
        if now.duration_since(self.searched) < (self.took * ratio).clamp(shortest, longest) {
            return;
        }
        self.search();
        let now = Instant::now();
        for (place, mut times) in std::mem::take(&mut self.unknown) {
            let age = now.duration_since(times.first_seen);
            if self.is_container(&place) {
                continue;
            }
            if age < SETTLE {
                times.next_search = Some(now + age.max(AGAIN.1));
                self.unknown.insert(place, times);
                continue;
            }
            // (A trace may run for days, and services come and go.)
            if self.plain.len() >= MAX_PLACES {
                self.plain.clear();
            }
            // (The number of a namespace that is gone may be the next container's.)
            if matches!(place, Place::Cgroup(_)) {
                self.plain.insert(place);
            }
        }
    }

    fn search(&mut self) {
        let began = Instant::now();
        // (Some engines' records of a container that just begins are found among those of the ended ones.)
        let is_begun = |place: &Place| matches!(place, Place::Cgroup(path) if has_long_id(path));
        let depth = match self.depth {
            SearchDepth::Cgroups if self.unknown.keys().any(is_begun) => SearchDepth::Records,
            depth => depth,
        };
        self.inventory = discover(self.host, depth);
        if matches!(self.choice, TraceChoice::Labels(_)) {
            add_labels(self.host, self.inventory.containers.iter_mut());
        }
        self.searches += 1;
        self.searched = Instant::now();
        self.took = began.elapsed();
    }

    /// Remembers a place that is not a container's as far as is known.
    fn note(&mut self, place: Place) {
        let is_root = place == Place::Cgroup(b"/".to_vec());
        if is_root || self.plain.contains(&place) || self.unknown.contains_key(&place) {
            return;
        }
        if self.unknown.len() >= MAX_PLACES {
            self.unknown.clear();
        }
        let now = Instant::now();
        self.unknown.insert(place, PlaceTimes { first_seen: now, next_search: None });
    }

    /// Returns the place of a process. (A PID namespace without a cgroup is a container of its own
    /// where all processes are searched.)
    fn place(&self, pid: HostPid) -> Option<Place> {
        if self.is_whole_host() {
            let namespace =
                self.host.process(pid).and_then(|handle| self.host.pid_ns_of(&handle)).ok();
            if let Some(namespace) = namespace.filter(|found| Some(*found) != self.host.pid_ns) {
                return Some(Place::Namespace(namespace.0));
            }
        }
        let memberships = self.host.memberships(pid).ok()?;
        memberships.by_preference().next().map(|found| Place::Cgroup(found.path.clone()))
    }

    /// Whether all that is needed of a container is recorded. (The runtime below an engine records it before the
    /// engine does.)
    fn is_settled(&self, container: &Container) -> bool {
        let needs_labels = matches!(self.choice, TraceChoice::Labels(_));
        let is_engines = !container.engine.low_level || !container.has_unique_id();
        container.verified && is_engines && (!needs_labels || container.labels.is_some())
    }

    fn is_container(&self, place: &Place) -> bool {
        let mut settled = self.inventory.containers.iter().filter(|found| self.is_settled(found));
        match place {
            Place::Cgroup(path) => {
                self.container_at(path).is_some_and(|found| self.is_settled(found))
            }
            Place::Namespace(inode) => {
                settled.any(|found| found.pid_ns.is_some_and(|found| found.0 == *inode))
            }
        }
    }

    /// Returns the innermost container at or above a cgroup.
    fn container_at(&self, path: &[u8]) -> Option<&Container> {
        let own_path = |container: &Container| {
            let cgroup = container.cgroup.as_ref()?;
            is_at_or_below(path, &cgroup.path).then_some(cgroup.path.len())
        };
        let found = self.inventory.containers.iter().filter(|found| own_path(found).is_some());
        found.max_by_key(|container| own_path(container))
    }

    fn describe(&self, container: &Container) -> ProcessContainer {
        ProcessContainer {
            name: container.qualified().into(),
            depth: Some(container.depth),
            is_chosen: self.is_chosen(container),
            is_settled: self.is_settled(container),
        }
    }

    /// Whether a container is one that is traced, restarted perhaps.
    fn is_chosen(&self, container: &Container) -> bool {
        match &self.choice {
            TraceChoice::Host => true,
            TraceChoice::Containers(chosen) => {
                let name = container.qualified();
                chosen.iter().any(|chosen| chosen.container.qualified() == name)
            }
            TraceChoice::Labels(labels) => labels.iter().all(|label| container.has_label(label)),
        }
    }
}

/// Describes a container that no more than its record identifies.
fn described_as_recorded(container: &Container, is_chosen: bool) -> ProcessContainer {
    ProcessContainer {
        name: Container { verified: true, ..container.clone() }.qualified().into(),
        depth: None,
        is_chosen,
        is_settled: false,
    }
}
