//! The processes in a container's cgroup and in those below it, as the kernel lists them. Reads none of them.

use std::collections::BTreeSet;

use super::cgroup_name::trailing_id;
use super::inventory::Inventory;
use crate::model::cgroup;
use crate::model::container::Container;
use crate::model::pid::HostPid;
use crate::proc::{Host, ReadError};

/// Cgroups below a container's that are walked for its processes, which a stop does every 200 ms. Where a
/// container has made more, all processes of the host take less time.
const MAX_BELOW: usize = 1000;

/// Returns processes among which are all that are in the container's cgroup; none once that is gone.
pub fn cgroup_candidates(
    host: &Host,
    container: &Container,
    inventory: &Inventory,
) -> BTreeSet<HostPid> {
    match cgroup_processes(host, container, inventory) {
        Ok(Some(pids)) => pids,
        Err(ReadError::Gone) => BTreeSet::new(),
        Ok(None) | Err(_) => host.pids().unwrap_or_default().into_iter().collect(),
    }
}

/// Returns the processes of the container's cgroup; `None` if it has no cgroup of its own, or none is
/// mounted. (nspawn without a unit puts all containers of one caller into one cgroup `payload`.)
pub(super) fn cgroup_processes(
    host: &Host,
    container: &Container,
    inventory: &Inventory,
) -> Result<Option<BTreeSet<HostPid>>, ReadError> {
    let Some(cgroup) = &container.cgroup else { return Ok(None) };
    // (A name with the container's ID is that of no other's.)
    let has_id = || {
        let name = cgroup::components(&cgroup.path).last().and_then(trailing_id);
        name.is_some() && name == container.id.as_deref()
    };
    if container.owns_pid_ns && !has_id() {
        let is_other = |other: &Container| {
            other.init != container.init && other.cgroup.as_ref() == Some(cgroup)
        };
        if inventory.complete(host).containers.iter().any(is_other) {
            return Ok(None);
        }
    }
    match host.cgroup_pids_in(cgroup, MAX_BELOW) {
        Ok(pids) => Ok(Some(pids)),
        Err(_) if !host.has_cgroups() => Ok(None),
        // Too many cgroups are below it: then `/proc` has to do.
        Err(ReadError::Broken(_)) => Ok(None),
        // The cgroup is removed with the last process; or the processes were moved to another one.
        Err(ReadError::Gone) => {
            let has_init = container.init.is_some_and(|init| host.exists(init));
            if has_init { Ok(None) } else { Err(ReadError::Gone) }
        }
        Err(error) => Err(error),
    }
}
