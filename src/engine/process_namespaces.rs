//! The PID namespaces of the processes of a snapshot, found without reading that of each.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use procfs::process::Process as Handle;

use crate::model::container::Container;
use crate::model::namespace::NamespaceId;
use crate::model::pid::HostPid;
use crate::model::process::Process;
use crate::proc::{Host, ReadError};

/// The PID namespaces of processes, each with the number of PIDs that a process in it has; those that could not
/// be read are left out.
#[derive(Debug, Default)]
pub struct ProcessNamespaces(HashMap<HostPid, (NamespaceId, usize)>);

impl ProcessNamespaces {
    /// Finds the namespaces of further processes. A process is in the namespace of its parent or in one below
    /// it, also after its parent has exited (`copy_process` and `find_new_reaper`, kernel/fork.c and exit.c;
    /// setns(2) leads into a namespace below only). So it is in the same one if both have PIDs in equally
    /// many, and only the others have to be read.
    pub(super) fn add(&mut self, host: &Host, container: &Container, processes: &[Arc<Process>]) {
        let mut added: Vec<&Process> = processes.iter().map(AsRef::as_ref).collect();
        // Parents first. (A parent that comes later, after a wrap of the PIDs, costs a read.)
        added.sort_by_key(|process| (process.id.start, process.id.pid));
        for process in added {
            let levels = process.status.nspid.len();
            let parent = HostPid::new(process.status.ppid);
            let known = parent.and_then(|parent| self.0.get(&parent));
            let inherited = known.filter(|(_, parents)| *parents == levels).map(|(ns, _)| *ns);
            let namespace = match inherited {
                // (Before Linux 4.1 there are no lines of levels; a recorded host may contradict itself.)
                _ if process.status.nspgid.is_empty() || host.is_recorded() => None,
                _ if levels == 1 => host.pid_ns,
                _ if Some(process.id) == container.init => container.pid_ns,
                inherited => inherited,
            };
            let namespace = namespace.or_else(|| host.pid_ns_of_process(process.id).ok());
            if let Some(namespace) = namespace {
                self.0.insert(process.id.pid, (namespace, levels));
            }
        }
    }

    /// Returns the PID namespace of a process that was added.
    pub(super) fn of(&self, process: &Process) -> Option<NamespaceId> {
        self.0.get(&process.id.pid).map(|(namespace, _)| *namespace)
    }
}

/// Whether a process is in a namespace below `ancestor`, at most `levels` levels.
pub(super) fn is_below(
    host: &Host,
    handle: &Handle,
    ancestor: NamespaceId,
    levels: usize,
) -> Result<bool, ReadError> {
    let mut namespace = host.namespace_file(handle, "pid")?;
    for _ in 0..levels {
        let Ok(parent) = crate::sys::namespace::parent(&namespace) else { return Ok(false) };
        let file = File::from(parent);
        if file.metadata()?.ino() == ancestor.0 {
            return Ok(true);
        }
        namespace = file.into();
    }
    Ok(false)
}
