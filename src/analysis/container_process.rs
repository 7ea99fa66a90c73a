//! A snapshot in the container's own terms: each process with its PID, parent and user in the
//! container. The processes of a nested container belong to the outer one too, with their PIDs there.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::bytes::message_text;
use crate::model::idmap::IdMap;
use crate::model::namespace::NamespaceId;
use crate::model::passwd::UserNames;
use crate::model::pid::{ContainerPid, HostPid};
use crate::model::process::Process;

/// The host and container that a row of a table is about.
#[derive(Debug)]
pub struct RowContext {
    /// The host's name.
    pub host: String,
    /// The container, in qualified form.
    pub container: String,
    /// The container's ID.
    pub id: Option<String>,
}

/// A process of a container's cgroup or of its PID namespace.
#[derive(Clone, Debug)]
pub struct MemberProcess {
    /// The facts.
    pub facts: Arc<Process>,
    /// Whether it is in the container, or only in its cgroup.
    pub in_container: bool,
    /// Its PID namespace, which it cannot change; none if that could not be read.
    pub pid_ns: Option<NamespaceId>,
}

/// A process in its container.
#[derive(Clone, Debug)]
pub struct ContainerProcess {
    /// The facts.
    pub facts: Arc<Process>,
    /// Its PID namespace; none if that could not be read.
    pub pid_ns: Option<NamespaceId>,
    /// Whether it is in the container; false if it is in the container's cgroup only, and in another
    /// PID namespace.
    pub in_container: bool,
    /// Its PID in the container; none if `in_container` is false.
    pub pid: Option<ContainerPid>,
    /// The index of its parent in the list; none if that is outside the container.
    pub parent: Option<usize>,
    /// The indices of its children, first started first.
    pub children: Vec<usize>,
    /// Its parent's PID in the container; 0 if that is outside, as getppid(2) has it.
    pub ppid: i32,
    /// Its real UID in the container; none if the user is not mapped there.
    pub uid: Option<u32>,
    /// The name of that user in the container, if it has one.
    pub user: Option<Vec<u8>>,
}

impl ContainerProcess {
    /// Returns the process in words, raw: its PID in the container, if it has one, and its name: `7 nginx`.
    pub fn label(&self) -> String {
        let comm = message_text(&self.facts.stat.comm);
        self.pid.map_or_else(|| comm.to_string(), |pid| format!("{pid} {comm}"))
    }
}

/// Returns the processes, each after its parent. (Of a snapshot of changing processes a circle is left out.)
pub fn parents_first(processes: &[ContainerProcess]) -> Vec<usize> {
    let is_root = |index: &usize| processes[*index].parent.is_none();
    let mut order: Vec<usize> = (0..processes.len()).filter(is_root).collect();
    let mut next = 0;
    while let Some(process) = order.get(next) {
        next += 1;
        order.extend(&processes[*process].children);
    }
    order
}

/// Returns for each process a value of itself, or of the nearest ancestor that has one.
pub fn nearest<T: Copy>(
    processes: &[ContainerProcess],
    value: impl Fn(usize) -> Option<T>,
) -> Vec<Option<T>> {
    let mut found = vec![None; processes.len()];
    for index in parents_first(processes) {
        let inherited = processes[index].parent.and_then(|parent| found[parent]);
        found[index] = value(index).or(inherited);
    }
    found
}

/// The users of a container.
#[derive(Debug, Default)]
pub struct UserTable {
    /// The map from host UIDs to UIDs in the container; none if it could not be read.
    pub map: Option<IdMap>,
    /// The names of UIDs in the container.
    pub names: Option<UserNames>,
}

impl UserTable {
    /// Returns the UID in the container of a UID on the host.
    pub fn container_uid(&self, uid: u32) -> Option<u32> {
        self.map.as_ref().and_then(|map| map.to_inside(uid))
    }
}

/// Converts processes. `depth` is the container's index in the NSpid lines.
pub fn arrange(
    processes: Vec<MemberProcess>,
    depth: usize,
    users: &UserTable,
) -> Vec<ContainerProcess> {
    let indices: HashMap<HostPid, usize> = processes
        .iter()
        .enumerate()
        .map(|(index, process)| (process.facts.id.pid, index))
        .collect();
    let pids: Vec<Option<ContainerPid>> = processes
        .iter()
        .map(|process| {
            let pid = process.facts.status.nspid.get(depth).filter(|_| process.in_container);
            pid.copied().and_then(ContainerPid::new)
        })
        .collect();
    let parent = |(index, process): (usize, &MemberProcess)| {
        let parent = indices.get(&HostPid::new(process.facts.stat.ppid)?).copied();
        parent.filter(|parent| *parent != index)
    };
    let parents: Vec<Option<usize>> = processes.iter().enumerate().map(parent).collect();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); processes.len()];
    let mut by_start: Vec<usize> = (0..processes.len()).collect();
    // In one clock tick the PIDs decide: those of the container, because the host's wrap around more often.
    by_start.sort_by_key(|index| {
        let id = processes[*index].facts.id;
        (id.start, pids[*index], id.pid)
    });
    for index in by_start {
        if let Some(parent) = parents[index] {
            children[parent].push(index);
        }
    }
    processes
        .into_iter()
        .enumerate()
        .map(|(index, process)| {
            let parent = parents[index];
            let uid = users.container_uid(process.facts.status.uid[0]);
            let name = uid.and_then(|uid| users.names.as_ref()?.name(uid));
            ContainerProcess {
                in_container: process.in_container,
                pid_ns: process.pid_ns,
                pid: pids[index],
                parent,
                children: std::mem::take(&mut children[index]),
                ppid: parent.and_then(|parent| pids[parent]).map_or(0, ContainerPid::get),
                uid,
                user: name.map(<[u8]>::to_vec),
                facts: process.facts,
            }
        })
        .collect()
}
