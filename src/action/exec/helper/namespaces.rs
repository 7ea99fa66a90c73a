//! Joining the target's namespaces: by a pidfd in one call, or one by one on older kernels, and verified
//! afterwards.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sched::{CloneFlags, setns};
use nix::unistd::{getegid, geteuid};

use crate::action::exec::errors::{cannot, failure};
use crate::action::exec::events::{ExecEvent, ExecReporter};
use crate::analysis::exec_plan::ExecPlan;
use crate::error::Error;
use crate::model::idmap::IdMap;
use crate::model::namespace::{NamespaceId, NamespaceKind};
use crate::sys::fd::open_at;
use crate::sys::namespace;

/// A namespace to join.
struct TargetNamespace {
    kind: NamespaceKind,
    id: Option<NamespaceId>,
    /// The namespace itself, for kernels that join only one at a time.
    file: OwnedFd,
}

/// The namespaces to join, read before any was joined.
pub struct TargetNamespaces {
    namespaces: Vec<TargetNamespace>,
    /// The helper's own directory of namespace links.
    own_links: OwnedFd,
}

impl TargetNamespaces {
    /// Opens the namespaces of `process`, a directory of the host's `proc`.
    ///
    /// # Errors
    /// The process is gone, or the caller has no permission to inspect it.
    pub fn open(proc: &OwnedFd, process: &OwnedFd, plan: &ExecPlan) -> Result<Self, Error> {
        let cannot_read = |errno: Errno| cannot("cannot read the namespaces of its init")(errno);
        let directory = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let own_links = open_at(proc, "self/ns", directory).map_err(cannot_read)?;
        let mut namespaces = Vec::new();
        for kind in plan.join.iter().filter_map(|name| NamespaceKind::named(name)) {
            let path = format!("ns/{}", kind.name);
            let link = readlinkat(process, path.as_str()).map_err(cannot_read)?;
            let file = open_at(process, path.as_str(), OFlag::O_RDONLY).map_err(cannot_read)?;
            namespaces.push(TargetNamespace {
                kind,
                id: NamespaceId::parse(link.as_bytes()),
                file,
            });
        }
        Ok(Self { namespaces, own_links })
    }

    /// Joins them.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN over one; when the target has exited or changed its namespaces.
    pub fn join(
        &self,
        pidfd: &OwnedFd,
        plan: &ExecPlan,
        reporter: &mut ExecReporter<'_>,
    ) -> Result<(), Error> {
        if self.namespaces.is_empty() {
            return Ok(());
        }
        let flags = self.namespaces.iter().fold(0, |flags, namespace| flags | namespace.kind.flag);
        match setns(pidfd, clone_flags(flags)) {
            Ok(()) => {}
            // Before Linux 5.8 setns(2) takes no pidfd.
            Err(Errno::EINVAL | Errno::EBADF) => self.join_one_by_one()?,
            Err(Errno::ESRCH) => {
                return Err(failure("cannot enter the container").cause("it has just exited"));
            }
            Err(errno) => return Err(join_error(&plan.join.join(", "), errno)),
        }
        self.verify()?;
        reporter.report(ExecEvent::Joined(plan.join.clone()));
        Ok(())
    }

    /// Verifies that the helper is in the namespaces that were meant.
    fn verify(&self) -> Result<(), Error> {
        for TargetNamespace { kind, id, .. } in &self.namespaces {
            let is_pid = kind.name == "pid";
            let name = if is_pid { "pid_for_children" } else { kind.name };
            let link = readlinkat(&self.own_links, name).ok();
            let current = link.and_then(|link| NamespaceId::parse(link.as_bytes()));
            // Until the first child exists, the kernel shows no PID namespace for children.
            let is_not_shown = is_pid && current.is_none();
            if id.is_some() && current != *id && !is_not_shown {
                let message = format!("cannot join the {} namespace", kind.name);
                return Err(
                    failure(message).cause("the container's process has just moved to another one")
                );
            }
        }
        Ok(())
    }

    /// Joins one namespace at a time (before Linux 5.8): first those that the present privileges allow,
    /// then the owners of the others, which may be user namespaces above the target's (bubblewrap makes
    /// two), with those that require privileges there, and the target's user namespace last. In each round
    /// the mounts go last.
    fn join_one_by_one(&self) -> Result<(), Error> {
        let (user, mut others): (Vec<_>, Vec<_>) =
            self.namespaces.iter().partition(|namespace| namespace.kind.name == "user");
        others.sort_by_key(|namespace| namespace.kind.name == "mnt");
        let mut remaining = join_permitted(others)?;
        let owners: Vec<OwnedFd> = match user.is_empty() {
            true => Vec::new(),
            false => remaining.iter().filter_map(|ns| namespace::owner(&ns.file).ok()).collect(),
        };
        for owner in &owners {
            // EINVAL if it has been joined already, EPERM if it is not below the present one.
            if setns(owner, CloneFlags::CLONE_NEWUSER).is_ok() {
                remaining = join_permitted(remaining)?;
            }
        }
        for TargetNamespace { kind, file, .. } in user.iter().copied().chain(remaining) {
            match setns(file, CloneFlags::empty()) {
                Err(Errno::EINVAL) if kind.name == "user" => {}
                result => result.map_err(|errno| join_error(kind.name, errno))?,
            }
        }
        Ok(())
    }
}

/// Whether the user namespace of `process`, its directory in `/proc`, has numbers for this process's user and
/// group. For a caller that has not joined it.
pub fn maps_caller(process: &OwnedFd) -> bool {
    let map = |name| {
        let mut bytes = Vec::new();
        File::from(open_at(process, name, OFlag::O_RDONLY).ok()?).read_to_end(&mut bytes).ok()?;
        IdMap::parse(&bytes).ok()
    };
    let is_mapped = |name, id| map(name).is_none_or(|map| map.to_inside(id).is_some());
    is_mapped("uid_map", geteuid().as_raw()) && is_mapped("gid_map", getegid().as_raw())
}

/// Joins the namespaces that the present privileges allow, and returns the others.
fn join_permitted(namespaces: Vec<&TargetNamespace>) -> Result<Vec<&TargetNamespace>, Error> {
    let mut remaining = Vec::new();
    for namespace in namespaces {
        match setns(&namespace.file, CloneFlags::empty()) {
            Ok(()) => {}
            Err(Errno::EPERM) => remaining.push(namespace),
            Err(errno) => return Err(join_error(namespace.kind.name, errno)),
        }
    }
    Ok(remaining)
}

fn clone_flags(flags: u32) -> CloneFlags {
    // nix's list lacks CLONE_NEWTIME.
    CloneFlags::from_bits_retain(flags.cast_signed())
}

fn join_error(names: &str, errno: Errno) -> Error {
    let message = format!("cannot join the namespaces {names}");
    let error = cannot(message)(errno);
    match errno {
        Errno::EPERM => error.hint(
            "this requires CAP_SYS_ADMIN over them: run as root, or as the owner of its user namespace, \
             joining that as well (`--ns user,net`)",
        ),
        _ => error,
    }
}
