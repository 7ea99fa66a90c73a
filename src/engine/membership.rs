//! The processes of a container: those of its cgroup, which the kernel lists; those that joined its PID
//! namespace without its cgroup (nsenter), which its own `/proc` lists; and only where neither is
//! available, those found among all processes of the host.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::container_cgroup::cgroup_processes;
use super::discover::{SearchDepth, discover};
use super::inventory::Inventory;
use super::process_index::ProcessIndex;
use super::process_namespaces::{ProcessNamespaces, is_below};
use crate::analysis::container_process::MemberProcess;
use crate::model::cgroup::{Cgroup, Memberships};
use crate::model::container::Container;
use crate::model::namespace::NamespaceId;
use crate::model::passwd::UserNames;
use crate::model::pid::HostPid;
use crate::model::process::Process;
use crate::proc::{ContainerFs, Host, ReadError, SnapshotOptions};

/// A chain of parents longer than this is not followed.
const MAX_GENERATIONS: usize = 4096;

/// The processes of a container, as far as they are visible to us.
#[derive(Debug)]
pub struct MemberProcesses {
    /// Ordered by host PID. One that is only in the container's cgroup is in another PID namespace: it has no PID in
    /// the container and is not signalled.
    pub processes: Vec<MemberProcess>,
    /// Number of processes that we were not allowed to read.
    pub hidden: usize,
    /// The container's users.
    pub names: Result<UserNames, ReadError>,
}

/// THE RULE of membership. With a private PID namespace, the processes in it or in one below; else
/// those in its cgroup, and of a user's container only that user's; else the descendants of its init.
/// Never a process of another container in the same namespace.
pub struct MembershipRule<'a> {
    host: &'a Host,
    container: &'a Container,
    inventory: &'a Inventory,
    /// Other containers in the same PID namespace, once they are asked for.
    others: OnceCell<Vec<&'a Container>>,
    /// Whether other namespaces are below the container's, where that is known.
    is_below: RefCell<HashMap<NamespaceId, bool>>,
    /// Facts about all processes, if processes are only counted.
    index: Option<&'a ProcessIndex>,
    /// Processes that are known to be in the container's cgroup itself.
    listed: Option<&'a HashSet<HostPid>>,
}

impl<'a> MembershipRule<'a> {
    /// Creates the rule for one container of an inventory.
    pub fn new(host: &'a Host, container: &'a Container, inventory: &'a Inventory) -> Self {
        let (others, is_below) = (OnceCell::new(), RefCell::default());
        Self { host, container, inventory, others, is_below, index: None, listed: None }
    }

    /// Adds processes that are known to be in the container's cgroup itself.
    #[must_use]
    pub fn with_listed(self, listed: &'a HashSet<HostPid>) -> Self {
        Self { listed: Some(listed), ..self }
    }

    fn others(&self) -> &[&'a Container] {
        self.others.get_or_init(|| {
            let all = self.inventory.complete(self.host).containers.iter();
            let shares_namespace = |other: &&Container| {
                other.init != self.container.init
                    && other.pid_ns.is_some()
                    && other.pid_ns == self.container.pid_ns
            };
            all.filter(shares_namespace).collect()
        })
    }

    /// Creates the rule for counting, with facts from the index.
    fn indexed(host: &'a Host, container: &'a Container, inventory: &'a Inventory) -> Self {
        let index = Some(inventory.process_index(host));
        Self { index, ..Self::new(host, container, inventory) }
    }

    /// Returns the cgroups of a process. Linux 6.18 cuts a path longer than a page, which leaves enough of it;
    /// Linux 6.1 refuses to show it (ENAMETOOLONG, `proc_cgroup_show`, kernel/cgroup/cgroup.c): then the list of
    /// the container's cgroup has to do.
    fn memberships(&self, pid: HostPid) -> Result<Memberships, ReadError> {
        let read = match self.index {
            Some(index) => index.memberships(self.host, pid),
            None => self.host.memberships(pid),
        };
        match (read, &self.container.cgroup) {
            (Err(ReadError::Broken(_)), Some(cgroup)) => {
                let is_in = self.host.cgroup_pids(cgroup)?.contains(&pid);
                Ok(Memberships(is_in.then(|| cgroup.clone()).into_iter().collect()))
            }
            (read, _) => read,
        }
    }

    fn levels(&self, pid: HostPid) -> Result<usize, ReadError> {
        match self.index {
            Some(index) => index.levels(self.host, pid),
            None => Ok(self.host.status(pid)?.nspid.len()),
        }
    }

    fn descends(&self, mut pid: HostPid, ancestor: HostPid) -> bool {
        for _ in 0..MAX_GENERATIONS {
            if pid == ancestor {
                return true;
            }
            let parent = match self.index {
                Some(index) => index.parent(self.host, pid),
                None => self.host.stat(pid).ok().and_then(|stat| HostPid::new(stat.ppid)),
            };
            let Some(parent) = parent else { return false };
            pid = parent;
        }
        false
    }

    fn descends_from_init(&self, pid: HostPid) -> bool {
        self.container.init.is_some_and(|init| self.descends(pid, init.pid))
    }

    /// Whether a process is in the container.
    ///
    /// # Errors
    /// Its files cannot be read; [`ReadError::Gone`] if it has ended.
    pub fn holds(&self, pid: HostPid) -> Result<bool, ReadError> {
        let namespace = match self.host.pid_ns_by_pid(pid) {
            Ok(namespace) => Some(namespace),
            Err(ReadError::Denied) => None,
            Err(error) => return Err(error),
        };
        self.holds_in(pid, namespace)
    }

    /// Whether a process is in the container; its PID namespace is `None` if we may not read it.
    ///
    /// # Errors
    /// As [`Self::holds`].
    pub fn holds_in(
        &self,
        pid: HostPid,
        namespace: Option<NamespaceId>,
    ) -> Result<bool, ReadError> {
        let container = self.container;
        if container.owns_pid_ns {
            return Ok(self.is_in_namespace(pid, namespace)? && !self.is_in_another(pid)?);
        }
        let Some(cgroup) = &container.cgroup else {
            // (PID 1 is the whole host: everything descends from it.)
            let is_host = container.init.is_some_and(|init| init.pid.get() == 1);
            return Ok(is_host || self.descends_from_init(pid));
        };
        if !cgroup.holds(&self.memberships(pid)?) {
            return Ok(false);
        }
        match container.user {
            // A program that runs as root, sudo for example, may have been started in a user's cgroup.
            Some(user) => self.host.is_users(pid, user),
            None => Ok(true),
        }
    }

    /// Whether a process is in the container's PID namespace or one below it. Where we may not read
    /// namespaces, the NSpid lines have to do: deeper than the container's, and the chain of parents
    /// leads to its init.
    fn is_in_namespace(
        &self,
        pid: HostPid,
        namespace: Option<NamespaceId>,
    ) -> Result<bool, ReadError> {
        let container = self.container;
        match (namespace, container.pid_ns) {
            (Some(namespace), Some(containers)) if namespace == containers => return Ok(true),
            (Some(namespace), _) if Some(namespace) == self.host.pid_ns => return Ok(false),
            (Some(namespace), Some(containers)) => {
                if let Some(index) = self.index.filter(|_| !self.host.is_recorded()) {
                    return Ok(index.is_below(namespace, containers));
                }
                if let Some(known) = self.is_below.borrow().get(&namespace) {
                    return Ok(*known);
                }
            }
            _ => {}
        }
        let levels = self.levels(pid)?;
        let deeper = levels.saturating_sub(container.depth + 1);
        match (namespace, container.pid_ns) {
            (Some(namespace), Some(containers)) => {
                let is_below = match self.host.process(pid) {
                    _ if deeper == 0 => false,
                    // On a recorded host a namespace is only a name.
                    _ if self.host.is_recorded() => self.descends_from_init(pid),
                    handle => is_below(self.host, &handle?, containers, deeper)?,
                };
                self.is_below.borrow_mut().insert(namespace, is_below);
                Ok(is_below)
            }
            _ if levels <= container.depth => Ok(false),
            _ => Ok(self.descends_from_init(pid)),
        }
    }

    /// Whether a process is of another container in the same namespace (in a pod, or started with
    /// `--pid=container:`): by its cgroup, or where that container has none, by descent from its init.
    fn is_in_another(&self, pid: HostPid) -> Result<bool, ReadError> {
        if self.container.init_pid() == Some(pid) {
            return Ok(false);
        }
        // A process in the very cgroup of the container is in none of those that a search has passed over.
        let is_listed = || self.listed.is_some_and(|listed| listed.contains(&pid));
        if self.inventory.partial && (is_listed() || self.is_in_own_cgroup(&self.memberships(pid)?))
        {
            return Ok(false);
        }
        let others = self.others();
        if others.is_empty() {
            return Ok(false);
        }
        let memberships = self.memberships(pid)?;
        // v1 shows a process that is exiting in the root cgroup, whichever it was in (`proc_cgroup_show`,
        // kernel/cgroup/cgroup.c): then it is not known to be this container's.
        let is_ours = |cgroup: &Cgroup| cgroup.holds(&memberships);
        if self.container.cgroup.as_ref().is_some_and(|cgroup| !is_ours(cgroup))
            && self.host.stat(pid)?.is_exiting()
        {
            return Ok(true);
        }
        Ok(others.iter().any(|other| match (&other.cgroup, other.init) {
            (Some(cgroup), _) => {
                cgroup.holds(&memberships) && !self.is_narrower_than(cgroup, &memberships)
            }
            (None, Some(init)) => !other.owns_pid_ns && self.descends(pid, init.pid),
            (None, None) => false,
        }))
    }

    fn is_in_own_cgroup(&self, memberships: &Memberships) -> bool {
        self.container.cgroup.as_ref().is_some_and(|cgroup| memberships.0.contains(cgroup))
    }

    /// Whether the container's cgroup is the other one or below it, and the process is in it.
    fn is_narrower_than(&self, other: &Cgroup, memberships: &Memberships) -> bool {
        self.container.cgroup.as_ref().is_some_and(|cgroup| {
            cgroup.path.len() >= other.path.len() && cgroup.holds(memberships)
        })
    }
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
    let pids = member_pids(host, container, inventory)?;
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

/// Counts the processes of a container, in an inventory with a survey.
///
/// # Errors
/// [`ReadError::Gone`] if it has ended.
pub fn count_members(
    host: &Host,
    container: &Container,
    inventory: &Inventory,
) -> Result<usize, ReadError> {
    if is_elsewhere(container) {
        return Ok(0);
    }
    Ok(member_pids(host, container, inventory)?.len())
}

/// Returns the processes of a container, from its cgroup and the survey.
pub(super) fn member_pids(
    host: &Host,
    container: &Container,
    inventory: &Inventory,
) -> Result<BTreeSet<HostPid>, ReadError> {
    let cgroup = cgroup_processes(host, container, inventory)?;
    let mut pids = cgroup.clone().unwrap_or_default();
    if cgroup.is_none() || container.owns_pid_ns {
        let rule = MembershipRule::indexed(host, container, inventory);
        // (The survey is older than the list of the cgroup: a process of it may be gone by now.)
        let is_there = |pid| cgroup.is_none() || host.stat(pid).is_ok();
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
