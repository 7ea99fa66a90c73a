//! Which processes are a container's. Those of its cgroup, which the kernel lists; those that joined
//! its PID namespace without its cgroup (nsenter), which its own `/proc` lists; and only where
//! neither tells, those that a look at every process of the host finds.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};

use procfs::process::Process as Handle;

use super::process_index::ProcessIndex;
use super::{Inventory, SearchDepth, discover};
use crate::model::cgroup::Memberships;
use crate::model::container::Container;
use crate::model::namespace::NamespaceId;
use crate::model::passwd::UserNames;
use crate::model::pid::{HostPid, ProcessId};
use crate::model::process::Process;
use crate::proc::{ContainerFs, Host, ReadError, SnapshotOptions};

/// A container's processes, as far as they may be seen.
#[derive(Debug)]
pub struct MemberProcesses {
    /// In the order of their numbers on the host; whether each is in the container, or only in its
    /// cgroup: one of another PID namespace, which has no number inside and gets no signal.
    pub processes: Vec<(Process, bool)>,
    /// How many there are that we were not allowed to read.
    pub hidden: usize,
    /// The container's users.
    pub names: Result<UserNames, ReadError>,
}

/// THE RULE of who is in a container. With a PID namespace of its own, those in it or in one below;
/// else those in its cgroup, and of a user's container only that user's; else what descends from its
/// init. Never a process that another container in the same namespace has.
pub struct MembershipRule<'a> {
    host: &'a Host,
    container: &'a Container,
    /// Other containers of the same PID namespace.
    others: Vec<&'a Container>,
    /// What is known of other namespaces: whether they lie below the container's.
    below: RefCell<HashMap<NamespaceId, bool>>,
    /// What all processes were asked once, where they are only counted.
    census: Option<&'a ProcessIndex>,
}

impl<'a> MembershipRule<'a> {
    /// The rule for one container among all.
    pub fn new(host: &'a Host, container: &'a Container, all: &'a Inventory) -> Self {
        let others = all.containers.iter().filter(|other| {
            other.init != container.init
                && other.pid_ns.is_some()
                && other.pid_ns == container.pid_ns
        });
        let others = others.collect();
        Self { host, container, others, below: RefCell::default(), census: None }
    }

    /// The same by what was seen of all processes before, for counting.
    fn by_census(
        host: &'a Host,
        container: &'a Container,
        all: &'a Inventory,
        census: &'a ProcessIndex,
    ) -> Self {
        Self { census: Some(census), ..Self::new(host, container, all) }
    }

    fn memberships(&self, pid: HostPid) -> Result<Memberships, ReadError> {
        match self.census {
            Some(census) => census.memberships(self.host, pid),
            None => self.host.memberships(pid),
        }
    }

    fn levels(&self, pid: HostPid) -> Result<usize, ReadError> {
        match self.census {
            Some(census) => census.levels(self.host, pid),
            None => Ok(self.host.status(pid)?.nspid.len()),
        }
    }

    fn descends(&self, mut pid: HostPid, from: HostPid) -> bool {
        for _ in 0..4096 {
            if pid == from {
                return true;
            }
            let parent = match self.census {
                Some(census) => census.parent(pid),
                None => self.host.stat(pid).ok().and_then(|stat| HostPid::new(stat.ppid)),
            };
            let Some(parent) = parent else { return false };
            pid = parent;
        }
        false
    }

    /// Whether a process is in the container.
    ///
    /// # Errors
    /// When its files cannot be read; [`ReadError::Gone`] when it has ended.
    pub fn holds(&self, pid: HostPid) -> Result<bool, ReadError> {
        let handle = self.host.process(pid)?;
        let namespace = match self.host.pid_ns_of(&handle) {
            Ok(namespace) => Some(namespace),
            Err(ReadError::Denied) => None,
            Err(error) => return Err(error),
        };
        self.holds_in(pid, namespace)
    }

    /// The same of a process whose PID namespace is known, or closed to us.
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
            return Ok(self.is_in_namespace(pid, namespace)? && !self.is_anothers(pid)?);
        }
        let Some(cgroup) = &container.cgroup else {
            // (Of PID 1, with which the whole host is looked at, everything descends.)
            let of = |init: ProcessId| init.pid.get() == 1 || self.descends(pid, init.pid);
            return Ok(container.init.is_some_and(of));
        };
        if !cgroup.holds(&self.memberships(pid)?) {
            return Ok(false);
        }
        match container.user {
            // A program that runs as root, sudo say, may have been started in a user's cgroup.
            Some(user) => self.host.is_users(pid, user),
            None => Ok(true),
        }
    }

    /// Whether it is in the container's PID namespace or one below it. Where the namespaces are
    /// closed to us the NSpid lines have to do: deeper than the container's, and the chain of
    /// parents leads to its init.
    fn is_in_namespace(
        &self,
        pid: HostPid,
        namespace: Option<NamespaceId>,
    ) -> Result<bool, ReadError> {
        let container = self.container;
        match (namespace, container.pid_ns) {
            (Some(namespace), Some(own)) if namespace == own => return Ok(true),
            (Some(namespace), _) if Some(namespace) == self.host.pid_ns => return Ok(false),
            (Some(namespace), Some(own)) => {
                if let Some(census) = self.census.filter(|_| !self.host.is_recorded()) {
                    return Ok(census.is_below(namespace, own));
                }
                if let Some(known) = self.below.borrow().get(&namespace) {
                    return Ok(*known);
                }
            }
            _ => {}
        }
        let levels = self.levels(pid)?;
        let deeper = levels.saturating_sub(container.depth + 1);
        match (namespace, container.pid_ns) {
            (Some(namespace), Some(own)) => {
                let is = match self.host.process(pid) {
                    _ if deeper == 0 => false,
                    // Of a recorded host the namespaces are names alone.
                    _ if self.host.is_recorded() => {
                        container.init.is_some_and(|init| self.descends(pid, init.pid))
                    }
                    handle => is_below(self.host, &handle?, own, deeper)?,
                };
                self.below.borrow_mut().insert(namespace, is);
                Ok(is)
            }
            _ if levels <= container.depth => Ok(false),
            _ => Ok(container.init.is_some_and(|init| self.descends(pid, init.pid))),
        }
    }

    /// Whether it is another container's with the same namespace (a pod's, or one started with
    /// `--pid=container:`): by its cgroup, or where that one has none, by descent from its init.
    fn is_anothers(&self, pid: HostPid) -> Result<bool, ReadError> {
        if self.others.is_empty() || self.container.init_pid() == Some(pid) {
            return Ok(false);
        }
        let memberships = self.memberships(pid)?;
        Ok(self.others.iter().any(|other| match (&other.cgroup, other.init) {
            (Some(cgroup), _) => {
                cgroup.holds(&memberships) && !self.is_narrower_than(cgroup, &memberships)
            }
            (None, Some(init)) => !other.owns_pid_ns && self.descends(pid, init.pid),
            (None, None) => false,
        }))
    }

    /// Whether our container's cgroup lies inside the other's, and the process in ours.
    fn is_narrower_than(
        &self,
        other: &crate::model::container::Cgroup,
        memberships: &Memberships,
    ) -> bool {
        self.container
            .cgroup
            .as_ref()
            .is_some_and(|own| own.path.len() >= other.path.len() && own.holds(memberships))
    }
}

/// Takes a snapshot of a container's processes as they are now.
///
/// # Errors
/// [`ReadError::Gone`] when it has ended.
pub fn take(
    host: &Host,
    container: &Container,
    all: &Inventory,
    facts: SnapshotOptions,
) -> Result<MemberProcesses, ReadError> {
    let Some(init) = container.init else {
        let nobody = Err(ReadError::Broken("its processes are not on this host".into()));
        return Ok(MemberProcesses { processes: Vec::new(), hidden: 0, names: nobody });
    };
    let namespace = container.pid_ns.filter(|_| container.owns_pid_ns);
    // Its own file system answers while we read on.
    let asked = host.ask_inside(init, namespace);
    let mut reader = Reader { host, facts, processes: Vec::new(), hidden: 0 };
    let cgroup = by_cgroup(host, container, all)?;
    if let Some(cgroup) = &cgroup {
        reader.read(&Vec::from_iter(cgroup.iter().copied()))?;
    }
    let inside = asked.hear(host);
    if cgroup.is_none() || namespace.is_some() {
        let at = container.depth;
        let own = container.pid_ns;
        let known: HashSet<i32> = (reader.processes.iter())
            .filter(|process| own.is_some() && process.pid_ns == own)
            .filter_map(|process| process.status.nspid.get(at).copied())
            .collect();
        let new = joined(host, container, all, &inside, cgroup.is_some(), &known)?;
        let read: HashSet<HostPid> = reader.processes.iter().map(|p| p.id.pid).collect();
        let new: Vec<HostPid> = new.into_iter().filter(|pid| !read.contains(pid)).collect();
        reader.read(&new)?;
    }
    reader.finish(container, all, inside.names)
}

/// Processes of the container beside those of its cgroup, as far as it has one.
fn joined(
    host: &Host,
    container: &Container,
    all: &Inventory,
    inside: &ContainerFs,
    has_cgroup: bool,
    known: &HashSet<i32>,
) -> Result<Vec<HostPid>, ReadError> {
    let found = match inside.pids(host, &|pid| known.contains(&pid)) {
        Ok(found) if found.is_empty() => return Ok(found),
        Ok(found) => found,
        // Not ours to look into: what the cgroup lists is what anybody may know.
        Err(ReadError::Denied) if has_cgroup => return Ok(Vec::new()),
        Err(ReadError::Exhausted) => return Err(ReadError::Exhausted),
        // Its /proc is covered, or of no use: only a look at the whole host tells.
        Err(_) => host.pids()?,
    };
    // Whose they are, if another container shares the namespace, takes knowing all containers.
    let every;
    let all = if all.partial {
        every = discover(host, SearchDepth::Cgroups);
        &every
    } else {
        all
    };
    let belonging = MembershipRule::new(host, container, all);
    Ok(found.into_iter().filter(|pid| belonging.holds(*pid) == Ok(true)).collect())
}

/// How many processes a container has, going by the survey, where every process of the host was
/// looked at.
///
/// # Errors
/// [`ReadError::Gone`] when it has ended.
pub fn count(host: &Host, container: &Container, all: &Inventory) -> Result<usize, ReadError> {
    if is_elsewhere(container) {
        return Ok(0);
    }
    let cgroup = by_cgroup(host, container, all)?;
    let mut own = cgroup.clone().unwrap_or_default();
    if cgroup.is_none() || container.owns_pid_ns {
        let census = all.census(host);
        let belonging = MembershipRule::by_census(host, container, all, census);
        for (pid, namespace) in census.candidates(host, container) {
            if !own.contains(&pid) && belonging.holds_in(pid, namespace) == Ok(true) {
                own.insert(pid);
            }
        }
    }
    if own.is_empty() { Err(ReadError::Gone) } else { Ok(own.len()) }
}

/// Whether its processes are not on this host.
fn is_elsewhere(container: &Container) -> bool {
    container.init.is_none() && container.cgroup.is_none()
}

struct Reader<'a> {
    host: &'a Host,
    facts: SnapshotOptions,
    processes: Vec<Process>,
    hidden: usize,
}

impl Reader<'_> {
    fn read(&mut self, pids: &[HostPid]) -> Result<(), ReadError> {
        let mut gone = 0;
        for read in self.host.snapshot(pids, self.facts) {
            match read {
                Ok(process) => self.processes.push(process),
                Err(ReadError::Gone) => gone += 1,
                Err(ReadError::Exhausted) => return Err(ReadError::Exhausted),
                Err(_) => self.hidden += 1,
            }
        }
        // Where /proc hides processes they look like ones that have left.
        if gone > 0 && !nix::unistd::geteuid().is_root() && self.host.hides_processes() {
            self.hidden += gone;
        }
        Ok(())
    }

    fn finish(
        mut self,
        container: &Container,
        all: &Inventory,
        names: Result<UserNames, ReadError>,
    ) -> Result<MemberProcesses, ReadError> {
        if self.processes.is_empty() {
            return Err(if self.hidden > 0 { ReadError::Denied } else { ReadError::Gone });
        }
        self.processes.sort_by_key(|process| process.id.pid);
        let belonging = MembershipRule::new(self.host, container, all);
        let is_inside = |process: &Process| {
            // (Most are in the very namespace: that alone settles what number they have.)
            match process.pid_ns {
                _ if !container.owns_pid_ns && container.user.is_none() => true,
                other if !container.owns_pid_ns => {
                    belonging.holds_in(process.id.pid, other) == Ok(true)
                }
                // Closed to us: its cgroup and the depth of its numbers have to do for showing it.
                None => process.status.nspid.len() > container.depth,
                own if own == container.pid_ns => true,
                other => belonging.is_in_namespace(process.id.pid, other) == Ok(true),
            }
        };
        let processes = self.processes.into_iter().map(|process| {
            let inside = is_inside(&process);
            (process, inside)
        });
        Ok(MemberProcesses { processes: processes.collect(), hidden: self.hidden, names })
    }
}

/// The processes of the container's cgroup; none when it has none of its own, or none is mounted.
/// (nspawn without a unit puts every container of one caller into one cgroup `payload`.)
fn by_cgroup(
    host: &Host,
    container: &Container,
    all: &Inventory,
) -> Result<Option<BTreeSet<HostPid>>, ReadError> {
    let Some(cgroup) = &container.cgroup else { return Ok(None) };
    let is_shared = all
        .containers
        .iter()
        .any(|other| other.init != container.init && other.cgroup.as_ref() == Some(cgroup));
    if is_shared && container.owns_pid_ns {
        return Ok(None);
    }
    match host.cgroup_pids(cgroup) {
        Ok(pids) => Ok(Some(pids)),
        Err(_) if !host.has_cgroups() => Ok(None),
        // The last process takes the cgroup with it; or it was moved to another one.
        Err(ReadError::Gone) => {
            let lives = |id: ProcessId| host.stat(id.pid).is_ok_and(|stat| stat.start == id.start);
            if container.init.is_some_and(lives) { Ok(None) } else { Err(ReadError::Gone) }
        }
        Err(error) => Err(error),
    }
}

/// Whether a process is in a namespace below `own`, at most so many levels.
fn is_below(
    host: &Host,
    handle: &Handle,
    own: NamespaceId,
    levels: usize,
) -> Result<bool, ReadError> {
    use std::os::unix::fs::MetadataExt;
    let mut namespace = host.namespace_file(handle, "pid")?;
    for _ in 0..levels {
        let Ok(parent) = crate::sys::namespace::parent(&namespace) else { return Ok(false) };
        let file = std::fs::File::from(parent);
        if file.metadata()?.ino() == own.0 {
            return Ok(true);
        }
        namespace = file.into();
    }
    Ok(false)
}
