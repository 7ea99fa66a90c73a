//! The result of a search: containers that are running, those that are not running, and everything that
//! limits the view. Nothing here searches.

use std::path::Path;
use std::sync::OnceLock;

use super::process_index::ProcessIndex;
use crate::analysis::remedy::with_names;
use crate::model::container::Container;
use crate::model::pid::{HostPid, ProcessId};
use crate::proc::{Host, Survey};

/// A container that an engine has a record of and that is not running.
#[derive(Clone, Debug)]
pub struct StoppedContainer {
    /// The container, without an init.
    pub container: Container,
    /// The cgroup that it gets when it runs, if that is recorded.
    pub cgroup: Option<Vec<u8>>,
    /// The init that the record names, and that has exited.
    pub init: Option<ProcessId>,
    /// The reason why the kernel contradicts a record of a running container.
    pub doubt: Option<String>,
}

impl StoppedContainer {
    /// Returns its qualified name.
    pub fn qualified(&self) -> String {
        Container { verified: true, ..self.container.clone() }.qualified()
    }

    /// Returns the ID in its record.
    pub fn id(&self) -> &str {
        self.container.id.as_deref().unwrap_or_default()
    }

    /// Returns the path of its record.
    pub fn path(&self) -> &Path {
        self.container.record.as_deref().unwrap_or(Path::new(""))
    }

    /// Returns the advice of its engine, with its names.
    pub fn advice(&self) -> Option<String> {
        self.container.engine.start_hint.map(|hint| with_names(&self.container, hint))
    }
}

/// The containers of a host.
#[derive(Debug, Default)]
pub struct Inventory {
    /// Containers that are running, in the order of the engine table.
    pub containers: Vec<Container>,
    /// Containers that are not running.
    pub stopped: Vec<StoppedContainer>,
    /// Messages about records that are not trusted and files that could not be read.
    pub diagnostics: Vec<String>,
    /// Number of processes whose PID namespace could not be read (the caller is not root).
    pub denied: usize,
    /// Whether `/proc` hides other users' processes from us (hidepid).
    pub hidden: bool,
    /// Whether containers are missing: of other engines, or of other names than the one that was searched for.
    pub partial: bool,
    /// Every process of the host, if they were surveyed.
    pub survey: Option<Survey>,
    process_index: OnceLock<ProcessIndex>,
    pub(super) completed: OnceLock<Box<Self>>,
}

impl Inventory {
    /// Returns the index of the survey, for counting.
    pub(super) fn process_index(&self, host: &Host) -> &ProcessIndex {
        let survey = self.survey.as_ref();
        self.process_index.get_or_init(|| ProcessIndex::new(host, survey, &self.containers))
    }

    /// Returns the inventory of all containers, if anything has asked for it, or this one.
    pub fn known(&self) -> &Self {
        self.completed.get().map_or(self, |completed| completed)
    }

    /// Returns the container in which another one was started: the parent of its init is there. Needs a complete
    /// inventory.
    pub fn outer(&self, host: &Host, container: &Container) -> Option<&Container> {
        let init = container.init_pid()?;
        let parent = HostPid::new(host.stat(init).ok()?.ppid)?;
        self.containing(host, parent).filter(|outer| outer.init_pid() != Some(init))
    }

    /// Returns the innermost container that a process is in: by its cgroup, else by its PID namespace.
    pub fn containing(&self, host: &Host, pid: HostPid) -> Option<&Container> {
        if let Some(container) = self.containers.iter().find(|c| c.init_pid() == Some(pid)) {
            return Some(container);
        }
        let memberships = host.memberships(pid).ok()?;
        let namespace = host.process(pid).and_then(|handle| host.pid_ns_of(&handle)).ok();
        let by_cgroup = self
            .containers
            .iter()
            .filter(|container| {
                container.cgroup.as_ref().is_some_and(|cgroup| cgroup.holds(&memberships))
            })
            .max_by_key(|container| container.cgroup.as_ref().map(|cgroup| cgroup.path.len()));
        let by_namespace = || {
            let namespace = namespace.filter(|namespace| Some(*namespace) != host.pid_ns)?;
            self.containers.iter().find(|c| c.owns_pid_ns && c.pid_ns == Some(namespace))
        };
        match (by_cgroup, by_namespace()) {
            // A namespace made in the container is a container of its own; and one next to it in the
            // same cgroup (nspawn's `payload`) is another container's.
            (Some(outer), Some(inner))
                if inner.pid_ns != outer.pid_ns && inner.depth >= outer.depth =>
            {
                Some(inner)
            }
            (Some(container), _) | (None, Some(container)) => Some(container),
            (None, None) => None,
        }
    }
}
