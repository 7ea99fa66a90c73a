//! Which processes are a container's. Those of its cgroup, which the kernel lists; those that joined
//! its PID namespace without its cgroup (nsenter), which its own `/proc` lists; and only where
//! neither tells, those that a look at every process of the host finds.

use std::collections::{BTreeSet, HashSet};

use super::{Depth, Inventory, discover};
use crate::model::container::Container;
use crate::model::pid::HostPid;
use crate::model::process::Process;
use crate::proc::{Facts, Host, ReadError, inside_pids};

/// A container's processes, as far as they may be seen.
#[derive(Debug, Default)]
pub struct Crowd {
    /// In the order of their numbers on the host.
    pub processes: Vec<Process>,
    /// How many there are that we were not allowed to read.
    pub hidden: usize,
}

/// Takes a snapshot of a container's processes as they are now.
///
/// # Errors
/// [`ReadError::Gone`] when it has ended.
pub fn take(
    host: &Host,
    container: &Container,
    all: &Inventory,
    facts: Facts,
) -> Result<Crowd, ReadError> {
    let mut crowd = Crowd::default();
    if is_elsewhere(container) {
        return Ok(crowd);
    }
    let Some(cgroup) = by_cgroup(host, container, all)? else {
        let pids = without_cgroup(host, container, all)?;
        crowd.read(host, &pids, facts);
        return crowd.sorted();
    };
    crowd.read(host, &Vec::from_iter(cgroup), facts);
    if container.owns_pid_ns {
        let at = container.depth;
        let known: HashSet<i32> =
            crowd.processes.iter().filter_map(|p| p.status.nspid.get(at).copied()).collect();
        let joined = match joined(host, container, all, &|pid| known.contains(&pid)) {
            // Not ours to look into: what the cgroup lists is what anybody may know.
            Err(ReadError::Denied) => Vec::new(),
            // Its /proc is covered, or of no use: only a look at the whole host tells.
            Err(_) => scanned(host, container, all)?,
            Ok(joined) => joined,
        };
        let read: HashSet<HostPid> = crowd.processes.iter().map(|p| p.id.pid).collect();
        let new: Vec<HostPid> = joined.into_iter().filter(|pid| !read.contains(pid)).collect();
        if !new.is_empty() {
            crowd.read(host, &new, facts);
        }
    }
    crowd.sorted()
}

/// How many processes a container has.
///
/// # Errors
/// [`ReadError::Gone`] when it has ended.
pub fn count(host: &Host, container: &Container, all: &Inventory) -> Result<usize, ReadError> {
    if is_elsewhere(container) {
        return Ok(0);
    }
    let Some(cgroup) = by_cgroup(host, container, all)? else {
        return Ok(without_cgroup(host, container, all)?.len());
    };
    if !container.owns_pid_ns {
        return Ok(cgroup.len());
    }
    let inside = |pid: &HostPid| host.status(*pid).ok()?.nspid.get(container.depth).copied();
    // Most often the container's own /proc lists as many as its cgroup, and then nobody joined.
    let listed = std::cell::Cell::new(0);
    let every = joined(host, container, all, &|_| {
        listed.set(listed.get() + 1);
        true
    });
    if every.is_err() || listed.get() == cgroup.len() {
        return Ok(cgroup.len());
    }
    let known: HashSet<i32> = cgroup.iter().filter_map(inside).collect();
    let joined = joined(host, container, all, &|pid| known.contains(&pid)).unwrap_or_default();
    Ok(cgroup.len() + joined.iter().filter(|pid| !cgroup.contains(pid)).count())
}

/// Whether its processes are not on this host.
fn is_elsewhere(container: &Container) -> bool {
    container.init.is_none() && container.cgroup.is_none()
}

impl Crowd {
    fn read(&mut self, host: &Host, pids: &[HostPid], facts: Facts) {
        let mut gone = 0;
        for read in host.snapshot(pids, facts) {
            match read {
                Ok(process) => self.processes.push(process),
                Err(ReadError::Gone) => gone += 1,
                Err(_) => self.hidden += 1,
            }
        }
        // Where /proc hides processes they look like ones that have left.
        if gone > 0 && !nix::unistd::geteuid().is_root() && host.hides_processes() {
            self.hidden += gone;
        }
    }

    fn sorted(mut self) -> Result<Self, ReadError> {
        if self.processes.is_empty() {
            return Err(if self.hidden > 0 { ReadError::Denied } else { ReadError::Gone });
        }
        self.processes.sort_by_key(|process| process.id.pid);
        Ok(self)
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
        // The last process takes the cgroup with it.
        Err(error) => Err(error),
    }
}

fn without_cgroup(
    host: &Host,
    container: &Container,
    all: &Inventory,
) -> Result<Vec<HostPid>, ReadError> {
    if container.owns_pid_ns
        && let Ok(pids) = joined(host, container, all, &|_| false)
    {
        return Ok(pids);
    }
    scanned(host, container, all)
}

/// Processes of the PID namespace that are not known yet and in no other container that shares the
/// namespace.
fn joined(
    host: &Host,
    container: &Container,
    all: &Inventory,
    known: &dyn Fn(i32) -> bool,
) -> Result<Vec<HostPid>, ReadError> {
    let (Some(init), Some(namespace)) = (container.init, container.pid_ns) else {
        return Err(ReadError::Denied);
    };
    let found = inside_pids(host, init.pid, namespace, known)?;
    if found.is_empty() {
        return Ok(found);
    }
    // Whose they are, if another container shares the namespace, takes knowing all containers.
    let every;
    let all = if all.partial {
        every = discover(host, Depth::Cgroups);
        &every
    } else {
        all
    };
    Ok(found.into_iter().filter(|pid| !is_anothers(host, container, all, *pid)).collect())
}

/// Whether a process of this container's namespace is another container's with the same namespace
/// (a pod's, or one started with `--pid=container:`): by its cgroup, or where that one has none, by
/// descent from its init.
fn is_anothers(host: &Host, container: &Container, all: &Inventory, pid: HostPid) -> bool {
    let mut others = all
        .containers
        .iter()
        .filter(|other| other.init != container.init && other.pid_ns == container.pid_ns)
        .peekable();
    if others.peek().is_none() {
        return false;
    }
    let Ok(memberships) = host.memberships(pid) else { return false };
    others.any(|other| match (&other.cgroup, other.init) {
        (Some(cgroup), _) => cgroup.holds(&memberships),
        (None, Some(init)) => !other.owns_pid_ns && descends(host, pid, init.pid),
        (None, None) => false,
    })
}

/// Looks at every process of the host.
fn scanned(host: &Host, container: &Container, all: &Inventory) -> Result<Vec<HostPid>, ReadError> {
    let mut found = Vec::new();
    let pids = host.pids()?;
    if container.owns_pid_ns {
        for pid in pids {
            if in_namespace(host, container, pid) && !is_anothers(host, container, all, pid) {
                found.push(pid);
            }
        }
        return Ok(found);
    }
    if let Some(own) = &container.cgroup {
        for pid in pids {
            let inside = host.memberships(pid).is_ok_and(|memberships| own.holds(&memberships));
            found.extend(inside.then_some(pid));
        }
        return Ok(found);
    }
    // No namespace and no cgroup of its own: its init and what descends from it. For a process that
    // is in no container at all this is asked of PID 1, and everything descends from that.
    let Some(init) = container.init else { return Err(ReadError::Gone) };
    let parents: Vec<(HostPid, i32)> =
        pids.into_iter().filter_map(|pid| Some((pid, host.stat(pid).ok()?.ppid))).collect();
    if init.pid.get() == 1 {
        return Ok(parents.into_iter().map(|(pid, _)| pid).collect());
    }
    let mut below: BTreeSet<HostPid> = BTreeSet::from([init.pid]);
    loop {
        let before = below.len();
        for (pid, parent) in &parents {
            if HostPid::new(*parent).is_some_and(|parent| below.contains(&parent)) {
                below.insert(*pid);
            }
        }
        if below.len() == before {
            return Ok(below.into_iter().collect());
        }
    }
}

/// Whether a process is in the container's PID namespace or one below it. Where the namespace links
/// are closed to us, the ends of the NSpid lines have to do: as deep as the container's, and the
/// chain of parents leads to its init.
pub(crate) fn in_namespace(host: &Host, container: &Container, pid: HostPid) -> bool {
    let Ok(handle) = host.process(pid) else { return false };
    let namespace = host.pid_ns_of(&handle).ok();
    match (namespace, container.pid_ns) {
        (Some(namespace), Some(own)) if namespace == own => return true,
        (Some(namespace), _) if Some(namespace) == host.pid_ns => return false,
        _ => {}
    }
    let levels = host.status(pid).map_or(0, |status| status.nspid.len());
    if levels <= container.depth {
        return false;
    }
    match (namespace, container.pid_ns) {
        (Some(_), Some(own)) => is_below(host, &handle, own, levels - container.depth),
        _ => container.init.is_some_and(|init| descends(host, pid, init.pid)),
    }
}

fn is_below(
    host: &Host,
    handle: &procfs::process::Process,
    own: crate::model::namespace::NamespaceId,
    levels: usize,
) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(mut namespace) = host.namespace_file(handle, "pid") else { return false };
    for _ in 0..levels {
        let Ok(parent) = crate::sys::namespace::parent(&namespace) else { return false };
        let file = std::fs::File::from(parent);
        if file.metadata().is_ok_and(|meta| meta.ino() == own.0) {
            return true;
        }
        namespace = file.into();
    }
    false
}

fn descends(host: &Host, mut pid: HostPid, from: HostPid) -> bool {
    for _ in 0..4096 {
        if pid == from {
            return true;
        }
        let Some(parent) = host.stat(pid).ok().and_then(|stat| HostPid::new(stat.ppid)) else {
            return false;
        };
        pid = parent;
    }
    false
}
