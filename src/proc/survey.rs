//! Every process of the host, cheaply: identity, parent, PID namespace. `ls` needs it to find containers
//! that no cgroup and no record shows; one container is found without it.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;

use super::host::Host;
use super::parallel::parallel_map;
use super::read::{ReadError, read_at_once, stat};
use crate::model::namespace::NamespaceId;
use crate::model::pid::{HostPid, ProcessId};
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
        let read = parallel_map(&pids, |pid| self.summary(*pid));
        let mut survey = Survey::default();
        for (summary, is_denied) in read.into_iter().flatten() {
            survey.denied += usize::from(is_denied);
            survey.processes.push(summary);
        }
        Ok(survey)
    }

    /// Reads a process, and whether reading its PID namespace is denied; none for a kernel thread, or one that
    /// has exited.
    fn summary(&self, pid: HostPid) -> Option<(ProcessSummary, bool)> {
        let mut buffer = Vec::new();
        let file = File::open(self.proc_path(format!("{pid}/stat"))).ok()?;
        read_at_once(file, &mut buffer, 1 << 14).ok()?;
        let stat = Stat::parse(&buffer).ok()?;
        // Kernel threads are in no container, and there are many.
        if stat.is_kernel_thread() {
            return None;
        }
        let slow = || self.pid_ns_of(&self.process(pid)?);
        let pid_ns = self.pid_ns_by_pid(pid).or_else(|_| slow());
        let is_denied = pid_ns == Err(ReadError::Denied);
        let summary = ProcessSummary {
            id: ProcessId { pid, start: stat.start },
            parent: stat.ppid,
            zombie: stat.state.is_zombie(),
            comm: stat.comm,
            pid_ns: pid_ns.ok(),
        };
        Some((summary, is_denied))
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
