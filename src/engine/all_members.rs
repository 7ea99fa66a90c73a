//! Questions about all processes of a container that are answered without reading each of them.

use std::collections::HashSet;

use super::container_cgroup::cgroup_processes;
use super::inventory::Inventory;
use crate::model::container::Container;
use crate::model::pid::HostPid;
use crate::proc::{Host, ReadError};

/// Returns the processes in a container's cgroup itself; none if it has no cgroup.
pub fn own_cgroup_members(host: &Host, container: &Container) -> HashSet<HostPid> {
    let cgroup = container.cgroup.as_ref();
    let pids = cgroup.and_then(|cgroup| host.own_cgroup_pids(cgroup).ok());
    pids.into_iter().flatten().collect()
}

/// Whether a container may have processes other than these, by their PIDs on the host and in the container:
/// its cgroup or its `/proc` lists another one, or there are no such lists. It has none if all of these exist
/// when this has returned: then no other process has had one of their PIDs.
pub fn may_have_others(
    host: &Host,
    container: &Container,
    inventory: &Inventory,
    known: &HashSet<HostPid>,
    known_in_container: &HashSet<i32>,
) -> bool {
    let Some(init) = container.init else { return true };
    let namespace = container.pid_ns.filter(|_| container.owns_pid_ns);
    let Ok(Some(cgroup)) = cgroup_processes(host, container, inventory) else { return true };
    if cgroup.iter().any(|pid| !known.contains(pid)) {
        return true;
    }
    if namespace.is_none() {
        return false;
    }
    let container_fs = host.query_container_fs(init, namespace).receive(host);
    match container_fs.pids(host, &|pid| known_in_container.contains(&pid)) {
        Ok(others) => !others.is_empty(),
        // As in a snapshot: then the list of the cgroup has to do.
        Err(error) => error != ReadError::Denied,
    }
}
