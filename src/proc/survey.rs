//! Every process of the host, in one call each where it is in a PID namespace of its own: PID and namespace;
//! of the host's own processes the name as well. `ls` needs it to find containers that no cgroup and no record
//! shows; one container is found without it.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use nix::fcntl::{OFlag, readlinkat};

use super::host::Host;
use super::parallel::parallel_map;
use super::read::{ReadError, stat};
use crate::model::namespace::NamespaceId;
use crate::model::pid::HostPid;
use crate::model::stat::Stat;
use crate::sys::fd;

/// A process in the survey.
#[derive(Clone, Debug)]
pub struct ProcessSummary {
    /// Its PID.
    pub pid: HostPid,
    /// Its PID namespace; none if it could not be read.
    pub pid_ns: Option<NamespaceId>,
    /// Name of its main thread, as bytes; none in another namespace than the host's.
    pub comm: Option<Vec<u8>>,
}

/// Every process that existed during the survey, kernel threads left out.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// The processes, in the order of their PIDs.
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
        let proc = fd::open(&self.proc_path(""), OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        let mut pids = self.pids()?;
        pids.sort_unstable();
        let read = parallel_map(&pids, |pid| self.summary(&proc, *pid));
        let mut survey = Survey::default();
        for (summary, is_denied) in read.into_iter().flatten() {
            survey.denied += usize::from(is_denied);
            survey.processes.push(summary);
        }
        Ok(survey)
    }

    /// Reads a process, and whether reading its PID namespace is denied; none for a kernel thread, or one that
    /// has exited.
    fn summary(&self, proc: &OwnedFd, pid: HostPid) -> Option<(ProcessSummary, bool)> {
        let link = readlinkat(proc, format!("{pid}/ns/pid").as_str()).ok();
        let pid_ns = link.and_then(|link| NamespaceId::parse(link.as_bytes()));
        let pid_ns = pid_ns.map_or_else(|| self.pid_ns_of(&self.process(pid)?), Ok);
        let is_denied = pid_ns == Err(ReadError::Denied);
        let pid_ns = pid_ns.ok();
        // Kernel threads are in the host's namespace; they are in no container, and there are many.
        let is_containers = pid_ns.is_some() && self.pid_ns.is_some() && pid_ns != self.pid_ns;
        let comm = if is_containers {
            None
        } else {
            let stat = self.stat(pid).ok().filter(|stat| !stat.is_kernel_thread())?;
            Some(stat.comm)
        };
        Some((ProcessSummary { pid, pid_ns, comm }, is_denied))
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
