//! Every process of the host, cheaply: identity, parent, PID namespace. `ls` needs it to find containers
//! that no cgroup and no record shows; one container is found without it.

use std::collections::{BTreeSet, HashMap};

use super::host::Host;
use super::read::{ReadError, stat};
use crate::model::namespace::NamespaceId;
use crate::model::pid::ProcessId;
use crate::model::stat::Stat;

/// A process in the survey.
#[derive(Clone, Debug)]
pub struct ProcessSummary {
    /// Identity.
    pub id: ProcessId,
    /// Host PID of its parent; 0 if that is outside.
    pub parent: i32,
    /// Name of its main thread, as bytes.
    pub comm: Vec<u8>,
    /// Its PID namespace; none if reading it is denied.
    pub pid_ns: Option<NamespaceId>,
    /// Whether its main thread is a zombie.
    pub zombie: bool,
}

/// Every process that existed during the survey, kernel threads left out.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// In the order of their PIDs.
    pub processes: Vec<ProcessSummary>,
    /// Number of processes with a PID namespace that could not be read.
    pub denied: usize,
}

impl Host {
    /// Surveys all processes.
    ///
    /// # Errors
    /// If `/proc` cannot be listed.
    pub fn survey(&self) -> Result<Survey, ReadError> {
        let mut pids = self.pids()?;
        pids.sort_unstable();
        let mut survey = Survey::default();
        let mut buffer = Vec::new();
        for pid in pids {
            let Ok(handle) = self.process(pid) else { continue };
            let Ok(stat) = stat(&handle, &mut buffer) else { continue };
            // Kernel threads are in no container, and there are many.
            if stat.is_kernel_thread() {
                continue;
            }
            let pid_ns = self.pid_ns_by_pid(pid).or_else(|_| self.pid_ns_of(&handle));
            survey.denied += usize::from(pid_ns == Err(ReadError::Denied));
            survey.processes.push(ProcessSummary {
                id: ProcessId { pid, start: stat.start },
                parent: stat.ppid,
                zombie: stat.state.is_zombie(),
                comm: stat.comm,
                pid_ns: pid_ns.ok(),
            });
        }
        Ok(survey)
    }

    /// Returns which of these process groups are orphaned: no process in them has a parent in another
    /// group of the same session, so that none could continue them (`will_become_orphaned_pgrp`,
    /// kernel/exit.c). Reads every process of the host.
    ///
    /// # Errors
    /// If `/proc` cannot be listed.
    pub fn orphaned_groups(&self, groups: &BTreeSet<i32>) -> Result<BTreeSet<i32>, ReadError> {
        let mut buffer = Vec::new();
        let mut processes: HashMap<i32, Stat> = HashMap::new();
        for pid in self.pids()? {
            let stat = self.process(pid).and_then(|handle| stat(&handle, &mut buffer));
            processes.extend(stat.ok().map(|stat| (stat.pid, stat)));
        }
        let mut orphaned = groups.clone();
        for process in processes.values().filter(|process| groups.contains(&process.pgrp)) {
            let exited = process.has_exited();
            let parent = processes.get(&process.ppid).filter(|parent| parent.pid != 1 && !exited);
            if parent.is_some_and(|parent| {
                parent.pgrp != process.pgrp && parent.session == process.session
            }) {
                orphaned.remove(&process.pgrp);
            }
        }
        Ok(orphaned)
    }
}
