//! The containers of a copy: one that runs is read through the root directory of a process in it, one
//! that does not run from its engine's store.

use caps::{CapSet, Capability};
use nix::fcntl::OFlag;

use super::{may_act, resolve};
use crate::action::copy::Rootfs;
use crate::action::send::hold;
use crate::analysis::selection::Criteria;
use crate::cli::context::Context;
use crate::engine::{StoppedContainer, StoredRoot, stored_root};
use crate::error::{Error, ExitStatus};
use crate::model::container::Container;
use crate::model::pid::ContainerPid;
use crate::proc::{ReadError, SnapshotOptions};
use crate::resolve::{Access, Resolver};
use crate::sys::fd::open_at;

/// The root of a container.
pub(super) struct CopyRoot {
    /// The root; not mounted yet if `stored` is set.
    pub rootfs: Rootfs,
    /// Where the files are, if the container is not running.
    pub stored: Option<StoredRoot>,
}

/// Opens the root of a container.
///
/// # Errors
/// It is not found, or its files cannot be opened.
pub(super) fn open_root(
    context: &Context,
    resolver: &Resolver<'_>,
    reference: &str,
    access: Access,
    pid: Option<ContainerPid>,
) -> Result<CopyRoot, Error> {
    let host = resolver.host;
    let found = match resolve(context, resolver, reference, access) {
        Ok(found) => found,
        Err(error) => {
            // (A process is named in a container that runs.)
            let stopped = resolver.not_running(reference).filter(|_| pid.is_none());
            return stopped.map_or(Err(error), |stopped| open_stored(resolver, &stopped, access));
        }
    };
    let name = found.container.qualified();
    let cannot = |cause: &dyn std::fmt::Display| {
        Error::new(ExitStatus::Failed, format!("cannot open the files of `{name}`"))
            .cause(cause.to_string())
    };
    may_act(host, &format!("open the files of `{name}`"), ExitStatus::Failed)?;
    let process = found.process(pid, SnapshotOptions::BARE)?;
    // Held first: everything that is opened then is of this process, as long as it is alive afterwards.
    let held = hold(&found, &process, None, Criteria::default()).map_err(|error| cannot(&error))?;
    let facts = host.exec_facts(process.facts.id.pid).map_err(|error| match error {
        ReadError::Denied => {
            let error = cannot(&"permission denied")
                .hint("run as root, or with CAP_SYS_PTRACE and CAP_DAC_OVERRIDE");
            Error { status: ExitStatus::NotPermitted, ..error }
        }
        error => cannot(&error),
    })?;
    // A process that was chosen is meant as it is; the init may have changed the root for itself.
    let changed = if pid.is_none() { facts.changed_root(host) } else { None };
    if held.has_exited() {
        return Err(cannot(&"its process has just exited"));
    }
    let user_ns = facts.private_namespaces.contains(&"user");
    let user_ns = user_ns.then(|| open_at(&facts.process, "ns/user", OFlag::O_RDONLY).ok());
    let rootfs = Rootfs {
        root: Some(changed.unwrap_or(facts.root)),
        uid_map: facts.uid_map,
        gid_map: facts.gid_map,
        owner: Some((facts.status.uid[1], facts.status.gid[1])),
        user_ns: user_ns.flatten(),
        self_pid: facts.status.nspid.last().copied(),
        logs: Some(logs_hint(&found.container)),
        prefix: format!("{name}:"),
        ..Rootfs::host()
    };
    Ok(CopyRoot { rootfs, stored: None })
}

/// Returns the advice on how to read a container's log.
fn logs_hint(container: &Container) -> String {
    format!("`cinspect logs {}` prints what was written to it", container.qualified())
}

/// Reads where the files of a container that is not running are. Nothing is mounted here.
fn open_stored(
    resolver: &Resolver<'_>,
    stopped: &StoppedContainer,
    access: Access,
) -> Result<CopyRoot, Error> {
    let name = stopped.qualified();
    let advice = |error: Error| match stopped.advice() {
        Some(hint) => error.hint(hint),
        None => error,
    };
    if access == Access::Act {
        let message = format!("cannot copy into `{name}`");
        let error = Error::new(ExitStatus::NoContainer, message).cause("it is not running");
        return Err(advice(error));
    }
    let message = format!("cannot read the files of `{name}` from disk");
    may_act(resolver.host, &format!("read the files of `{name}` from disk"), ExitStatus::Failed)?;
    if !caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap_or(false) {
        let error = Error::new(ExitStatus::NotPermitted, message);
        return Err(advice(
            error
                .cause("it is not running, and mounting its layers requires root")
                .hint("run as root"),
        ));
    }
    let stored = stored_root(resolver.host, stopped)
        .map_err(|cause| advice(Error::new(ExitStatus::Failed, message).cause(cause)))?;
    let (uid_map, gid_map) = stored.id_maps.clone();
    let prefix = format!("{name}:");
    let logs = Some(logs_hint(&stopped.container));
    let rootfs = Rootfs { uid_map, gid_map, logs, prefix, ..Rootfs::host() };
    Ok(CopyRoot { rootfs, stored: Some(stored) })
}
