//! The rule of membership: whether a process is in a container. It reads the process; it lists none.

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};

use super::inventory::Inventory;
use super::process_index::ProcessIndex;
use super::process_namespaces::is_below;
use crate::model::cgroup::{Cgroup, Memberships};
use crate::model::container::Container;
use crate::model::namespace::NamespaceId;
use crate::model::pid::HostPid;
use crate::proc::{Host, ReadError};

/// A chain of parents longer than this is not followed.
const MAX_GENERATIONS: usize = 4096;

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
    pub(super) fn indexed(
        host: &'a Host,
        container: &'a Container,
        inventory: &'a Inventory,
    ) -> Self {
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

    /// Whether a process is in the container; its PID namespace is `None` if it could not be read.
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

    /// Whether a process is in the container's PID namespace or one below it. Where namespaces cannot be
    /// read, the NSpid lines decide: deeper than the container's, and the chain of parents leads to its init.
    pub(super) fn is_in_namespace(
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
