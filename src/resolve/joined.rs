//! The processes of a container that entered it from outside. For them alone their parents outside are read.
//!
//! Only a process that joined has a parent outside of a private PID namespace: the kernel gives an orphan to a
//! subreaper of the same PID namespace, or to its init (`find_new_reaper`, kernel/exit.c).

use std::cell::LazyCell;
use std::sync::Arc;

use super::ResolvedContainer;
use super::processes::ContainerSnapshot;
use crate::analysis::container_process::ContainerProcess;
use crate::analysis::joined::{EnginePurpose, Joined, Starter};
use crate::engine::{health_checks, is_shim_of};
use crate::model::health_check::HealthCheck;
use crate::model::pid::HostPid;
use crate::proc::Host;

/// How often a process is read again whose parent exits meanwhile.
const ATTEMPTS: usize = 3;

/// The number of the initial PID namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_PID_NS: u64 = 0xEFFF_FFFC;

impl ResolvedContainer<'_> {
    /// Returns for each process whether it joined; `with_starters` reads by whom it was started as well.
    pub fn joined(&self, snapshot: &ContainerSnapshot, with_starters: bool) -> Vec<Joined> {
        let init_parent = || {
            let mut processes = snapshot.processes.iter();
            let init = processes.find(|process| Some(process.facts.id) == self.container.init);
            init.map(|init| init.facts.stat.ppid)
        };
        let processes = snapshot.processes.iter();
        // (Read for the first process that the engine started.)
        let checks = LazyCell::new(|| health_checks(self.host, &self.container));
        let joined = processes.map(|process| {
            if process.parent.is_some() || Some(process.facts.id) == self.container.init {
                return Joined::No;
            }
            match self.outside_parent(process) {
                RootParent::Known(parent) if with_starters => {
                    let purpose = || self.purpose(process, &checks);
                    Joined::Yes(self.starter(parent, init_parent(), purpose).into())
                }
                RootParent::Known(_) => Joined::Yes(Arc::new(Starter::Unknown)),
                RootParent::None => Joined::No,
                RootParent::Unknown => Joined::Unknown,
            }
        });
        joined.collect()
    }

    /// Returns the parent of a root, if it is outside of the container's PID namespace. It may have exited
    /// since the snapshot, so the process is read again after it.
    fn outside_parent(&self, process: &ContainerProcess) -> RootParent {
        let container = &self.container;
        if !container.owns_pid_ns || !process.in_container {
            return RootParent::Unknown;
        }
        let (id, mut ppid) = (process.facts.id, process.facts.stat.ppid);
        for _ in 0..ATTEMPTS {
            let parent = HostPid::new(ppid);
            let status = parent.map(|parent| self.host.status(parent));
            let Ok(again) = self.host.stat(id.pid) else { break };
            if again.start != id.start {
                break;
            }
            match (parent, status) {
                _ if again.ppid != ppid => ppid = again.ppid,
                // A parent of 0 is outside of the PID namespace of this procfs.
                (Some(_), Some(Err(_))) => break,
                (Some(_), Some(Ok(status))) if status.nspid.len() > container.depth => {
                    return RootParent::None;
                }
                _ => return RootParent::Known(parent),
            }
        }
        RootParent::Unknown
    }

    /// Returns the purpose of a process that the engine started. A check has no terminal; without a matching
    /// command line, it may be one that has executed another program, or a probe of a kubelet, which records
    /// none.
    fn purpose(&self, process: &ContainerProcess, checks: &[HealthCheck]) -> EnginePurpose {
        let command = process.facts.command.known();
        let is_check = |check: &HealthCheck| command.is_some_and(|command| check.is(command));
        let is_checked = !checks.is_empty() || self.container.pod.is_some();
        match process.facts.stat.tty_nr {
            0 if checks.iter().any(is_check) => EnginePurpose::HealthCheck,
            0 if is_checked => EnginePurpose::Unknown,
            _ => EnginePurpose::Session,
        }
    }

    /// Returns the origin of a process with this parent; `init_parent` is the parent of the container's init.
    fn starter(
        &self,
        parent: Option<HostPid>,
        init_parent: Option<i32>,
        purpose: impl Fn() -> EnginePurpose,
    ) -> Starter {
        let Some(parent) = parent else { return Starter::Unknown };
        let Ok(stat) = self.host.stat(parent) else { return Starter::Unknown };
        if parent.get() == 1 && has_joined_no_pid_namespace(self.host, parent) {
            return Starter::Exited;
        }
        let is_parent_of_init = init_parent == Some(parent.get());
        match is_shim_of(self.host, &self.container, parent, &stat.comm, is_parent_of_init) {
            true => Starter::Engine(purpose()),
            false => Starter::Parent(parent, stat.comm),
        }
    }
}

/// The parent of a root of the tree.
enum RootParent {
    /// It is outside of the container's PID namespace; none if it is outside of that of procfs, too.
    Known(Option<HostPid>),
    /// It is in the namespace.
    None,
    /// It could not be read.
    Unknown,
}

/// Whether a process has joined no container itself: its children are in its own PID namespace
/// (pid_namespaces(7)), or it is the init of the machine.
pub fn has_joined_no_pid_namespace(host: &Host, pid: HostPid) -> bool {
    let namespace = |name| host.link(pid, name).ok();
    match namespace("ns/pid_for_children") {
        Some(of_children) => namespace("ns/pid") == Some(of_children),
        None => host.pid_ns.is_some_and(|namespace| namespace.0 == INITIAL_PID_NS),
    }
}
