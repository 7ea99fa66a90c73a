//! The processes of a container: those of its cgroup, which the kernel lists; those that joined its PID
//! namespace without its cgroup (nsenter), which its own `/proc` lists; and only where neither is
//! available, those found among all processes of the host.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::container_cgroup::cgroup_processes;
use super::discover::{SearchDepth, discover};
use super::inventory::Inventory;
use super::membership_rule::MembershipRule;
use super::process_namespaces::ProcessNamespaces;
use crate::analysis::container_process::MemberProcess;
use crate::model::container::Container;
use crate::model::passwd::UserNames;
use crate::model::pid::HostPid;
use crate::model::process::Process;
use crate::proc::{ContainerFs, Host, ReadError, SnapshotOptions};

/// The processes of a container, as far as they are visible to us.
#[derive(Debug)]
pub struct MemberProcesses {
    /// Ordered by host PID. One that is only in the container's cgroup is in another PID namespace: it has no
    /// PID in the container and is not signalled.
    pub processes: Vec<MemberProcess>,
    /// Number of processes that we were not allowed to read.
    pub hidden: usize,
    /// The container's users.
    pub names: Result<UserNames, ReadError>,
}

impl Inventory {
    /// Returns the inventory of all containers with a cgroup. Where this one is partial, they are searched for
    /// now.
    pub fn complete(&self, host: &Host) -> &Self {
        if !self.partial {
            return self;
        }
        self.completed.get_or_init(|| Box::new(discover(host, SearchDepth::Cgroups)))
    }
}

/// Takes a snapshot of a container's processes.
///
/// # Errors
/// [`ReadError::Gone`] if it has ended.
pub fn read_members(
    host: &Host,
    container: &Container,
    inventory: &Inventory,
    options: SnapshotOptions,
) -> Result<MemberProcesses, ReadError> {
    let Some(init) = container.init else {
        let names = Err(ReadError::Broken("its processes are not on this host".into()));
        return Ok(MemberProcesses { processes: Vec::new(), hidden: 0, names });
    };
    let namespace = container.pid_ns.filter(|_| container.owns_pid_ns);
    // A child reads the container's file system while we read its cgroup.
    let request = host.query_container_fs(init, namespace);
    let mut reader = MemberReader::new(host, container, options);
    let cgroup = cgroup_processes(host, container, inventory)?;
    if let Some(cgroup) = &cgroup {
        reader.read(&Vec::from_iter(cgroup.iter().copied()))?;
    }
    let container_fs = request.receive(host);
    if cgroup.is_none() || namespace.is_some() {
        let known: HashSet<i32> = (reader.processes.iter())
            .filter(|process| {
                container.pid_ns.is_some() && reader.namespaces.of(process) == container.pid_ns
            })
            .filter_map(|process| process.status.nspid.get(container.depth).copied())
            .collect();
        let joined = joined(host, container, inventory, &container_fs, cgroup.is_some(), &known)?;
        let read: HashSet<HostPid> = reader.processes.iter().map(|p| p.id.pid).collect();
        let joined: Vec<HostPid> = joined.into_iter().filter(|pid| !read.contains(pid)).collect();
        reader.read(&joined)?;
    }
    reader.finish(inventory, container_fs.names)
}

/// Takes a snapshot of a container's processes, without its users' names: those of its cgroup, and those that
/// the survey of the inventory has in its PID namespace. That saves a child for each of many containers.
///
/// # Errors
/// [`ReadError::Gone`] if it has ended.
pub fn read_surveyed_members(
    host: &Host,
    container: &Container,
    inventory: &Inventory,
    options: SnapshotOptions,
) -> Result<MemberProcesses, ReadError> {
    if inventory.survey.is_none() || is_elsewhere(container) {
        return read_members(host, container, inventory, options);
    }
    let pids = list_members(host, container, inventory)?;
    let mut reader = MemberReader::new(host, container, options);
    reader.read(&Vec::from_iter(pids))?;
    let names = Err(ReadError::Broken("users were not requested".into()));
    reader.finish(inventory, names)
}

/// Returns processes of the container that are not in its cgroup, or all if it has none.
fn joined(
    host: &Host,
    container: &Container,
    inventory: &Inventory,
    container_fs: &ContainerFs,
    has_cgroup: bool,
    known: &HashSet<i32>,
) -> Result<Vec<HostPid>, ReadError> {
    let pids = match container_fs.pids(host, &|pid| known.contains(&pid)) {
        Ok(pids) if pids.is_empty() => return Ok(pids),
        Ok(pids) => pids,
        // Without permission to read that, the cgroup's list has to do.
        Err(ReadError::Denied) if has_cgroup => return Ok(Vec::new()),
        Err(ReadError::Exhausted) => return Err(ReadError::Exhausted),
        // Its /proc is covered, or not usable: only the host's can be used.
        Err(_) => host.pids()?,
    };
    let rule = MembershipRule::new(host, container, inventory);
    Ok(pids.into_iter().filter(|pid| rule.holds(*pid) == Ok(true)).collect())
}

/// Returns the processes of a container, from its cgroup and the survey of the inventory.
///
/// # Errors
/// [`ReadError::Gone`] if it has ended.
pub fn list_members(
    host: &Host,
    container: &Container,
    inventory: &Inventory,
) -> Result<BTreeSet<HostPid>, ReadError> {
    if is_elsewhere(container) {
        return Ok(BTreeSet::new());
    }
    let cgroup = cgroup_processes(host, container, inventory)?;
    let has_cgroup = cgroup.is_some();
    let mut pids = cgroup.unwrap_or_default();
    if !has_cgroup || container.owns_pid_ns {
        let rule = MembershipRule::indexed(host, container, inventory);
        // (The survey is older than the list of the cgroup: a process of it may be gone by now.)
        let is_there = |pid| !has_cgroup || host.stat(pid).is_ok();
        for (pid, namespace) in inventory.process_index(host).candidates(host, container) {
            let is_new = !pids.contains(&pid);
            if is_new && rule.holds_in(pid, namespace) == Ok(true) && is_there(pid) {
                pids.insert(pid);
            }
        }
    }
    if pids.is_empty() { Err(ReadError::Gone) } else { Ok(pids) }
}

/// Whether the container's processes are not on this host.
fn is_elsewhere(container: &Container) -> bool {
    container.init.is_none() && container.cgroup.is_none()
}

/// The processes read so far.
struct MemberReader<'a> {
    host: &'a Host,
    container: &'a Container,
    options: SnapshotOptions,
    processes: Vec<Arc<Process>>,
    hidden: usize,
    namespaces: ProcessNamespaces,
}

impl<'a> MemberReader<'a> {
    fn new(host: &'a Host, container: &'a Container, options: SnapshotOptions) -> Self {
        let (processes, namespaces) = (Vec::new(), ProcessNamespaces::default());
        Self { host, container, options, processes, hidden: 0, namespaces }
    }

    fn read(&mut self, pids: &[HostPid]) -> Result<(), ReadError> {
        if pids.is_empty() {
            return Ok(());
        }
        let mut gone = 0;
        let known = self.processes.len();
        for result in self.host.snapshot(pids, self.options) {
            match result {
                Ok(process) => self.processes.push(process),
                Err(ReadError::Gone) => gone += 1,
                Err(ReadError::Exhausted) => return Err(ReadError::Exhausted),
                Err(_) => self.hidden += 1,
            }
        }
        self.namespaces.add(self.host, self.container, &self.processes[known..]);
        // If /proc hides processes, they look like ones that have exited.
        if gone > 0 && !nix::unistd::geteuid().is_root() && self.host.hides_processes() {
            self.hidden += gone;
        }
        Ok(())
    }

    fn finish(
        mut self,
        inventory: &Inventory,
        names: Result<UserNames, ReadError>,
    ) -> Result<MemberProcesses, ReadError> {
        if self.processes.is_empty() {
            return Err(if self.hidden > 0 { ReadError::Denied } else { ReadError::Gone });
        }
        let container = self.container;
        let mut processes = std::mem::take(&mut self.processes);
        processes.sort_by_key(|process| process.id.pid);
        let rule = MembershipRule::new(self.host, container, inventory);
        let is_in_container = |process: &Process| {
            // (Most are in the namespace itself: then nothing else has to be read.)
            match self.namespaces.of(process) {
                _ if !container.owns_pid_ns && container.user.is_none() => true,
                namespace if !container.owns_pid_ns => {
                    rule.holds_in(process.id.pid, namespace) == Ok(true)
                }
                // Not readable: to show it, its cgroup and the number of its PIDs have to do.
                None => process.status.nspid.len() > container.depth,
                namespace if namespace == container.pid_ns => true,
                namespace => rule.is_in_namespace(process.id.pid, namespace) == Ok(true),
            }
        };
        let processes = processes.into_iter().map(|process| MemberProcess {
            in_container: is_in_container(&process),
            pid_ns: self.namespaces.of(&process),
            facts: process,
        });
        Ok(MemberProcesses { processes: processes.collect(), hidden: self.hidden, names })
    }
}
