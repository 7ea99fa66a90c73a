//! Every process of the host by where it is, each looked at once however many containers there are:
//! what counting asks again and again. Only for counting. The number of a namespace is given to
//! another one as soon as it is free, so that nobody acts on what is remembered here.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use super::Inventory;
use crate::model::cgroup::Memberships;
use crate::model::container::Container;
use crate::model::namespace::NamespaceId;
use crate::model::pid::HostPid;
use crate::proc::{Host, ReadError};

/// What was asked of processes, one by one.
type Answers<T> = Mutex<HashMap<HostPid, Result<T, ReadError>>>;

/// The processes of a survey, in order.
#[derive(Debug, Default)]
pub struct ProcessIndex {
    /// The parent of each.
    parents: HashMap<HostPid, i32>,
    /// Those of each namespace; under none those that keep theirs from us.
    of: HashMap<Option<NamespaceId>, Vec<HostPid>>,
    /// The namespaces below each, at whatever depth.
    below: HashMap<NamespaceId, Vec<NamespaceId>>,
    /// Asked for only where a namespace does not tell.
    levels: Answers<usize>,
    memberships: Answers<Memberships>,
}

impl ProcessIndex {
    /// Puts the inventory's survey in order; where it has none, there is nobody.
    pub(super) fn new(host: &Host, all: &Inventory) -> Self {
        let mut census = Self::default();
        for resident in all.survey.iter().flat_map(|survey| &survey.residents) {
            let pid = resident.id.pid;
            census.parents.insert(pid, resident.parent);
            census.of.entry(resident.pid_ns).or_default().push(pid);
        }
        if host.is_recorded() {
            return census;
        }
        // A container's own namespace that was made in the host's lies in no other's.
        let shallow = |container: &&Container| container.depth <= 1 && container.owns_pid_ns;
        let shallow = all.containers.iter().filter(shallow).filter_map(|shallow| shallow.pid_ns);
        let shallow: Vec<Option<NamespaceId>> = shallow.chain(host.pid_ns).map(Some).collect();
        let shallow = HashSet::<Option<NamespaceId>>::from_iter(shallow);
        for (namespace, pids) in census.of.iter().filter(|(own, _)| !shallow.contains(own)) {
            let Some(namespace) = namespace else { continue };
            let above = pids.iter().find_map(|pid| above(host, *pid, *namespace).ok());
            for outer in above.unwrap_or_default() {
                census.below.entry(outer).or_default().push(*namespace);
            }
        }
        census
    }

    /// Processes that may be in this container, going by their namespaces, each with its own.
    pub(super) fn candidates(
        &self,
        host: &Host,
        container: &Container,
    ) -> Vec<(HostPid, Option<NamespaceId>)> {
        let with = |namespace: Option<NamespaceId>| {
            let pids = self.of.get(&namespace).map_or(&[][..], Vec::as_slice);
            pids.iter().map(move |pid| (*pid, namespace))
        };
        match container.pid_ns.filter(|_| container.owns_pid_ns && !host.is_recorded()) {
            Some(own) => {
                let below = self.below.get(&own).into_iter().flatten();
                let namespaces = below.copied().chain([own]).map(Some).chain([None]);
                namespaces.flat_map(with).collect()
            }
            None => self.of.keys().flat_map(|namespace| with(*namespace)).collect(),
        }
    }

    /// Whether one namespace lies below another.
    pub(super) fn is_below(&self, namespace: NamespaceId, own: NamespaceId) -> bool {
        self.below.get(&own).is_some_and(|below| below.contains(&namespace))
    }

    /// In how many PID namespaces a process has a number, from that of this `/proc` downward.
    pub(super) fn levels(&self, host: &Host, pid: HostPid) -> Result<usize, ReadError> {
        once(&self.levels, pid, || Ok(host.status(pid)?.nspid.len()))
    }

    /// The cgroups of a process.
    pub(super) fn memberships(&self, host: &Host, pid: HostPid) -> Result<Memberships, ReadError> {
        once(&self.memberships, pid, || host.memberships(pid))
    }

    /// The parent of a process, if both were there.
    pub(super) fn parent(&self, pid: HostPid) -> Option<HostPid> {
        self.parents.get(&pid).and_then(|parent| HostPid::new(*parent))
    }
}

fn once<T: Clone>(
    asked: &Answers<T>,
    pid: HostPid,
    ask: impl FnOnce() -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    let mut known = asked.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(pid).or_insert_with(ask).clone()
}

/// The namespaces that a process's own was made in, up to the host's.
fn above(host: &Host, pid: HostPid, expected: NamespaceId) -> Result<Vec<NamespaceId>, ReadError> {
    use std::os::unix::fs::MetadataExt;
    let handle = host.process(pid)?;
    let mut namespace = std::fs::File::from(host.namespace_file(&handle, "pid")?);
    if namespace.metadata()?.ino() != expected.0 {
        return Err(ReadError::Gone);
    }
    let mut all = Vec::new();
    // (The kernel nests them 32 deep at most, pid_namespaces(7).)
    while let Ok(parent) = crate::sys::namespace::parent(&namespace) {
        namespace = parent.into();
        let outer = NamespaceId(namespace.metadata()?.ino());
        if Some(outer) == host.pid_ns {
            break;
        }
        all.push(outer);
    }
    Ok(all)
}
