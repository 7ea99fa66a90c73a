//! Index of all host processes by PID namespace, for counting: built once from a survey, so that each
//! process is read once however many containers there are. Nothing acts on it: the kernel reuses the
//! number of a namespace as soon as it is free.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use crate::model::cgroup::Memberships;
use crate::model::container::Container;
use crate::model::namespace::NamespaceId;
use crate::model::pid::HostPid;
use crate::proc::{Host, ReadError, Survey};
use crate::sys::namespace::parent;

/// Results of reading processes, by PID.
type ReadCache<T> = Mutex<HashMap<HostPid, Result<T, ReadError>>>;

/// The processes of a survey.
#[derive(Debug, Default)]
pub struct ProcessIndex {
    /// Processes by PID namespace; under `None` those of which it could not be read.
    by_namespace: HashMap<Option<NamespaceId>, Vec<HostPid>>,
    /// Namespaces below each, at any depth.
    descendants: HashMap<NamespaceId, Vec<NamespaceId>>,
    /// Read only where a namespace does not decide.
    levels: ReadCache<usize>,
    parents: ReadCache<i32>,
    memberships: ReadCache<Memberships>,
}

impl ProcessIndex {
    /// Builds the index of a survey; without one it is empty.
    pub(super) fn new(host: &Host, survey: Option<&Survey>, containers: &[Container]) -> Self {
        let mut index = Self::default();
        for process in survey.into_iter().flat_map(|survey| &survey.processes) {
            index.by_namespace.entry(process.pid_ns).or_default().push(process.pid);
        }
        if host.is_recorded() {
            return index;
        }
        // A container's private namespace that was made in the host's is in no other container's.
        let is_outermost = |container: &&Container| container.depth <= 1 && container.owns_pid_ns;
        let outermost: HashSet<NamespaceId> = containers
            .iter()
            .filter(is_outermost)
            .filter_map(|container| container.pid_ns)
            .chain(host.pid_ns)
            .collect();
        for (namespace, pids) in &index.by_namespace {
            let Some(namespace) = namespace.filter(|ns| !outermost.contains(ns)) else { continue };
            let ancestors = pids.iter().find_map(|pid| ancestors(host, *pid, namespace).ok());
            for ancestor in ancestors.unwrap_or_default() {
                index.descendants.entry(ancestor).or_default().push(namespace);
            }
        }
        index
    }

    /// Returns processes that may be in this container, judging by namespaces, each with its own.
    pub(super) fn candidates(
        &self,
        host: &Host,
        container: &Container,
    ) -> Vec<(HostPid, Option<NamespaceId>)> {
        let with_namespace = |namespace: Option<NamespaceId>| {
            let pids = self.by_namespace.get(&namespace).map_or(&[][..], Vec::as_slice);
            pids.iter().map(move |pid| (*pid, namespace))
        };
        match container.pid_ns.filter(|_| container.owns_pid_ns && !host.is_recorded()) {
            Some(namespace) => {
                let descendants = self.descendants.get(&namespace).into_iter().flatten();
                let namespaces = descendants.copied().chain([namespace]).map(Some).chain([None]);
                namespaces.flat_map(with_namespace).collect()
            }
            None => self.by_namespace.keys().flat_map(|ns| with_namespace(*ns)).collect(),
        }
    }

    /// Whether a namespace is below another.
    pub(super) fn is_below(&self, namespace: NamespaceId, ancestor: NamespaceId) -> bool {
        self.descendants.get(&ancestor).is_some_and(|below| below.contains(&namespace))
    }

    /// Returns the number of PID namespaces in which a process has a PID, from that of this `/proc`
    /// downward.
    pub(super) fn levels(&self, host: &Host, pid: HostPid) -> Result<usize, ReadError> {
        cached(&self.levels, pid, || Ok(host.status(pid)?.nspid.len()))
    }

    /// Returns the cgroups of a process.
    pub(super) fn memberships(&self, host: &Host, pid: HostPid) -> Result<Memberships, ReadError> {
        cached(&self.memberships, pid, || host.memberships(pid))
    }

    /// Returns the parent of a process.
    pub(super) fn parent(&self, host: &Host, pid: HostPid) -> Option<HostPid> {
        let parent = cached(&self.parents, pid, || Ok(host.stat(pid)?.ppid));
        parent.ok().and_then(HostPid::new)
    }
}

fn cached<T: Clone>(
    cache: &ReadCache<T>,
    pid: HostPid,
    read: impl FnOnce() -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    let mut known = cache.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(pid).or_insert_with(read).clone()
}

/// Returns the namespaces above that of a process, below the host's.
///
/// # Errors
/// [`ReadError::Gone`] if the process is not in the expected namespace.
fn ancestors(
    host: &Host,
    pid: HostPid,
    expected: NamespaceId,
) -> Result<Vec<NamespaceId>, ReadError> {
    let handle = host.process(pid)?;
    let mut namespace = File::from(host.namespace_file(&handle, "pid")?);
    if namespace.metadata()?.ino() != expected.0 {
        return Err(ReadError::Gone);
    }
    let mut ancestors = Vec::new();
    // (The kernel nests them 32 deep at most, pid_namespaces(7).)
    while let Ok(outer) = parent(&namespace) {
        namespace = outer.into();
        let id = NamespaceId(namespace.metadata()?.ino());
        if Some(id) == host.pid_ns {
            break;
        }
        ancestors.push(id);
    }
    Ok(ancestors)
}
