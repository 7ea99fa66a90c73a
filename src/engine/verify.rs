//! A record against the kernel: is that process still the one that was written down, may the
//! record's owner speak of it, and is it in the cgroup it was put into? Only what stands this test
//! becomes a container with that name.

use super::record::Record;
use crate::model::cgroup::{self, Freezer, Memberships};
use crate::model::container::{Cgroup, ContainerState, Evidence};
use crate::model::mount::Mounts;
use crate::model::namespace::NamespaceId;
use crate::model::pid::{HostPid, ProcessId};
use crate::proc::{Host, ReadError, Trust};

/// What the kernel says of a container's init.
#[derive(Debug)]
pub(super) struct Init {
    pub id: ProcessId,
    pub parent: i32,
    pub pid_ns: Option<NamespaceId>,
    pub depth: usize,
    pub owns_pid_ns: bool,
    pub memberships: Memberships,
    pub uid: u32,
}

/// Why a record is not believed.
#[derive(Debug)]
pub(super) enum VerifyError {
    /// There is no such process: the container has ended and its record is left over.
    Ended,
    /// It does not fit; the text says what.
    Refuted(String),
    /// The kernel's side may not be read by us.
    Unreadable,
}

/// Reads everything about an init that decides which container it is.
pub(super) fn read_init(host: &Host, pid: HostPid) -> Result<Init, ReadError> {
    let (stat, status, memberships, pid_ns) = host.first_facts(pid)?;
    if stat.has_exited() {
        return Err(ReadError::Gone);
    }
    let levels = status.nspid.len();
    Ok(Init {
        id: ProcessId { pid, start: stat.start },
        parent: stat.ppid,
        pid_ns,
        depth: levels.saturating_sub(1),
        owns_pid_ns: levels > 1 && status.nspid.last() == Some(&1),
        memberships,
        uid: status.uid[0],
    })
}

/// Confirms a record that claims a process.
pub(super) fn confirm(
    host: &Host,
    record: &Record,
    pid: HostPid,
) -> Result<(Init, Option<Cgroup>, Vec<Evidence>), VerifyError> {
    let init = match read_init(host, pid) {
        Ok(init) => init,
        Err(ReadError::Gone) => return Err(VerifyError::Ended),
        Err(_) => return Err(VerifyError::Unreadable),
    };
    let mut evidence = vec![says(record.path.display(), format!("init is {pid}"), true)];
    match record.owner {
        Trust::Root => {}
        Trust::User(owner) if host.is_users(pid, owner) == Ok(true) => {}
        Trust::User(owner) => {
            return Err(VerifyError::Refuted(format!(
                "it is user {owner}'s word, and process {pid} is not that user's"
            )));
        }
        Trust::Untrusted => {
            return Err(VerifyError::Refuted("it is more than one user's word".into()));
        }
    }
    let mut sure = false;
    if let Some(start) = record.start {
        if start != init.id.start {
            return Err(VerifyError::Refuted(format!(
                "process {pid} is another one now (it started at tick {}, not {})",
                init.id.start.0, start.0
            )));
        }
        sure = true;
        let source = format!("/proc/{pid}/stat");
        evidence.push(says(source, format!("started at tick {}, as recorded", start.0), true));
    }
    if let Some(parent) = record.parent {
        if init.parent != parent.get() {
            return Err(VerifyError::Refuted(format!(
                "process {pid} is no longer the monitor's child"
            )));
        }
        sure = true;
        evidence.push(says(format!("/proc/{pid}/stat"), format!("its parent is {parent}"), true));
    }
    // Root's record is borne out by a cgroup that only root could have made. A user may not speak of
    // one that others' processes can be in: one that is root's.
    let cgroup = own_cgroup(record, &init.memberships).filter(|cgroup| match record.owner {
        Trust::Root => host.cgroup_maker(cgroup) == Trust::Root,
        owner => host.cgroup_owner(cgroup) == owner,
    });
    if let Some(cgroup) = &cgroup {
        sure = true;
        let path = String::from_utf8_lossy(&cgroup.path).into_owned();
        evidence.push(says(format!("/proc/{pid}/cgroup"), format!("in {path}, as recorded"), true));
    } else if let Some(recorded) = claimed(record) {
        let path = String::from_utf8_lossy(recorded);
        let what = format!("not in {path}, where the record has put it");
        evidence.push(says(format!("/proc/{pid}/cgroup"), what, false));
    }
    if !sure && mounts_count(host, record, &init) && mounts_mention(host, pid, &record.id) {
        sure = true;
        let source = format!("/proc/{pid}/mountinfo");
        evidence.push(says(source, "mounts from the container's own folder".into(), true));
    }
    if sure {
        return Ok((init, cgroup, evidence));
    }
    if init.pid_ns.is_none() {
        return Err(VerifyError::Unreadable);
    }
    // Without a start time, a cgroup or a mount that carries the id, a PID namespace of its own
    // with this process as PID 1 is the least that a container's init has to show.
    if init.owns_pid_ns && record.owner != Trust::Root {
        let what = "PID 1 of a PID namespace; nothing else confirms it";
        evidence.push(says(format!("/proc/{pid}/status"), what.into(), true));
        return Ok((init, cgroup, evidence));
    }
    Err(VerifyError::Refuted(format!("nothing about process {pid} confirms it")))
}

/// The container's own cgroup: where the record put it, or the part of the path that is spelt with
/// its id, in the first hierarchy that has it. The init may have moved further down.
pub(super) fn own_cgroup(record: &Record, memberships: &Memberships) -> Option<Cgroup> {
    memberships.by_preference().find_map(|membership| {
        let path = &membership.path;
        // Outside of our cgroup namespace (`/../…`) there is none that we could look into.
        if cgroup::components(path).any(|part| part == b"..") {
            return None;
        }
        let length = match claimed(record) {
            Some(recorded) if cgroup::is_at_or_below(path, recorded) => {
                Some(cgroup::components(recorded).count())
            }
            _ => cgroup::components(path)
                .position(|part| names(part, &record.id))
                .map(|position| position + 1),
        }?;
        Some(Cgroup {
            controllers: membership.controllers.clone(),
            path: cgroup::prefix_through(path, length - 1).to_vec(),
        })
    })
}

/// The cgroup that the record speaks of, unless that is the root, where everybody may be.
fn claimed(record: &Record) -> Option<&[u8]> {
    record.cgroup.as_deref().filter(|path| cgroup::components(path).next().is_some())
}

/// Whether what is mounted in the init may count. A user's container lives in that user's namespace
/// anyway. Root's stands in a cgroup that says more, unless there are none to be seen; and who made a
/// namespace can mount anything in it.
fn mounts_count(host: &Host, record: &Record, init: &Init) -> bool {
    let outside = || {
        let mut paths = init.memberships.by_preference();
        paths.all(|m| cgroup::components(&m.path).any(|part| part == b".."))
    };
    match record.owner {
        Trust::Root => {
            (!host.has_cgroups() || outside()) && host.is_users(init.id.pid, 0) == Ok(true)
        }
        _ => true,
    }
}

/// Whether a cgroup component is the id, or ends with it as systemd's scopes (`docker-ID.scope`) and
/// Kata's (`kata_ID`) do. Only of long ids: a container may be called `user.slice`.
fn names(component: &[u8], id: &str) -> bool {
    let name = component.strip_suffix(b".scope").unwrap_or(component);
    id.len() >= 32
        && name.strip_suffix(id.as_bytes()).is_some_and(|prefix| {
            prefix.is_empty() || prefix.ends_with(b"-") || prefix.ends_with(b"_")
        })
}

/// Whether something that the engine made for this container is mounted in it: a path with the
/// whole id in it.
fn mounts_mention(host: &Host, pid: HostPid, id: &str) -> bool {
    let Ok(mountinfo) = host.proc_file(pid, "mountinfo", 1 << 20) else { return false };
    id.len() >= 32
        && Mounts::new(&mountinfo).any(|mount| {
            let root: &[u8] = &mount.root;
            root.split(|b| *b == b'/').any(|part| part == id.as_bytes())
        })
}

/// Whether a container with this init is paused.
pub fn frozen_state(host: &Host, memberships: &Memberships) -> ContainerState {
    if host.frozen(memberships) == Freezer::Thawed {
        ContainerState::Running
    } else {
        ContainerState::Paused
    }
}

pub(super) fn says(source: impl ToString, says: String, holds: bool) -> Evidence {
    Evidence { source: source.to_string(), says, holds }
}
