//! Compares a record with the kernel: is the process still the one that was recorded, may the record's
//! owner name it, and is it in the recorded cgroup? Only a record that passes names a container.

use super::record::Record;
use super::shims::{is_starter, sandbox_of_init};
use crate::model::bytes::message_text;
use crate::model::cgroup::{self, Cgroup, Freezer, Memberships};
use crate::model::container::{ContainerState, Evidence};
use crate::model::mount::Mounts;
use crate::model::namespace::NamespaceId;
use crate::model::pid::{HostPid, ProcessId};
use crate::proc::{Host, InitFacts, ReadError, Trust};

/// Facts of the kernel about a container's init.
#[derive(Debug)]
pub(super) struct Init {
    pub id: ProcessId,
    pub parent: i32,
    pub pid_ns: Option<NamespaceId>,
    pub depth: usize,
    pub owns_pid_ns: bool,
    pub memberships: Memberships,
    pub uid: u32,
    /// Whether it is the engine's own process, which has not executed the container's program yet.
    pub is_starting: bool,
    /// The sandbox whose kernel it is.
    pub sandbox: Option<&'static str>,
}

impl Init {
    /// Returns the state of the container with this init.
    pub(super) fn state(&self, host: &Host) -> ContainerState {
        match host.frozen(&self.memberships) {
            Freezer::Unknown => ContainerState::Unknown,
            Freezer::V1 | Freezer::V2 => ContainerState::Paused,
            Freezer::Thawed if self.is_starting => ContainerState::Created,
            Freezer::Thawed => ContainerState::Running,
        }
    }
}

/// A record that the kernel confirms.
#[derive(Debug)]
pub(super) struct Verified {
    pub init: Init,
    pub cgroup: Option<Cgroup>,
    pub state: ContainerState,
    pub evidence: Vec<Evidence>,
}

/// The reason why a record is not trusted.
#[derive(Debug)]
pub(super) enum VerifyError {
    /// The process does not exist: the container has ended, and its record is left over.
    Ended,
    /// A fact contradicts it, or none confirms it; the text names the fact.
    Refuted(String),
    /// The facts could not be read: permission denied.
    Unreadable,
}

/// Reads the facts about an init that decide which container it is of.
pub(super) fn read_init(host: &Host, pid: HostPid) -> Result<Init, ReadError> {
    let InitFacts { stat, status, memberships, pid_ns } = host.init_facts(pid)?;
    // A zombie with threads is a main thread that exited before the others; without, it has ended.
    if stat.state.is_zombie() && stat.num_threads <= 1 {
        return Err(ReadError::Gone);
    }
    let levels = status.nspid.len();
    Ok(Init {
        id: ProcessId { pid, start: stat.start },
        parent: stat.ppid,
        pid_ns,
        depth: levels.saturating_sub(1),
        owns_pid_ns: levels > 1 && status.is_namespace_init(),
        memberships,
        uid: status.uid[0],
        is_starting: is_starter(&stat),
        sandbox: sandbox_of_init(host, pid, &stat.comm),
    })
}

/// Verifies a record that claims a process as its container's init.
pub(super) fn verify(host: &Host, record: &Record, pid: HostPid) -> Result<Verified, VerifyError> {
    let init = match read_init(host, pid) {
        Ok(init) => init,
        Err(ReadError::Gone) => return Err(VerifyError::Ended),
        Err(_) => return Err(unreadable(host, pid)),
    };
    verify_owner(host, record, pid)?;
    let mut observations =
        vec![evidence(record.path.display(), format!("the init is {pid}"), true)];
    let start = verify_start(record, &init)?;
    let parent = verify_parent(record, &init)?;
    let (cgroup, membership) = compare_cgroup(host, record, &init);
    let mut is_confirmed = start.is_some() || parent.is_some() || cgroup.is_some();
    observations.extend(start.into_iter().chain(parent).chain(membership));
    if !is_confirmed && mounts_count(host, record, &init) && has_mounts_of(host, pid, &record.id) {
        is_confirmed = true;
        let source = format!("/proc/{pid}/mountinfo");
        observations.push(evidence(
            source,
            "it has mounts from the container's directory".into(),
            true,
        ));
    }
    let confirmed = |init: Init, observations| {
        let state = init.state(host);
        Ok(Verified { init, cgroup, state, evidence: observations })
    };
    if is_confirmed {
        return confirmed(init, observations);
    }
    if init.pid_ns.is_none() {
        return Err(unreadable(host, pid));
    }
    // Without a start time, or a cgroup or mount with the ID, the init of a user's container at least
    // has to be PID 1 of a PID namespace. A record of root's needs more.
    if init.owns_pid_ns && record.owner != Trust::Root {
        let observation = "PID 1 of a PID namespace; nothing else confirms it";
        observations.push(evidence(format!("/proc/{pid}/status"), observation.into(), true));
        return confirmed(init, observations);
    }
    Err(VerifyError::Refuted(format!("no evidence that process {pid} belongs to it")))
}

/// Returns why the facts about a process could not be read: of one that is exiting there are none.
fn unreadable(host: &Host, pid: HostPid) -> VerifyError {
    match host.stat(pid) {
        Ok(stat) if !stat.is_exiting() && !stat.has_exited() => VerifyError::Unreadable,
        Ok(_) | Err(ReadError::Gone) => VerifyError::Ended,
        Err(_) => VerifyError::Unreadable,
    }
}

/// Verifies that a user's record names only that user's processes.
fn verify_owner(host: &Host, record: &Record, pid: HostPid) -> Result<(), VerifyError> {
    let is_owners = match record.owner {
        Trust::User(owner) => host.is_users(pid, owner),
        _ => Ok(false),
    };
    let reason = match record.owner {
        Trust::Root => return Ok(()),
        Trust::User(_) if is_owners == Ok(true) => return Ok(()),
        Trust::User(_) if is_owners == Err(ReadError::Denied) => {
            return Err(VerifyError::Unreadable);
        }
        Trust::User(owner) => match &record.users_path {
            // The record itself is root's: the advice never makes another user's forgery trusted.
            Some(path) => {
                let path = path.display();
                format!(
                    "user {owner} owns `{path}` above it and could replace it, but does not own process {pid}; `chown root {path}` or another directory makes it trusted, and `pid:{pid}` works without it"
                )
            }
            None => format!("user {owner} owns the record, but not process {pid}"),
        },
        Trust::Untrusted => "more than one user could have written it".into(),
    };
    Err(VerifyError::Refuted(reason))
}

/// Compares the start time, if one was recorded.
fn verify_start(record: &Record, init: &Init) -> Result<Option<Evidence>, VerifyError> {
    let (Some(recorded), pid) = (record.start, init.id.pid) else { return Ok(None) };
    if recorded != init.id.start {
        return Err(VerifyError::Refuted(format!(
            "PID {pid} has been reused (the process started at tick {}, not {})",
            init.id.start.0, recorded.0
        )));
    }
    let observation = format!("started at tick {}, as recorded", recorded.0);
    Ok(Some(evidence(format!("/proc/{pid}/stat"), observation, true)))
}

/// Compares the parent, if the record is a monitor's argv.
fn verify_parent(record: &Record, init: &Init) -> Result<Option<Evidence>, VerifyError> {
    let (Some(parent), pid) = (record.parent, init.id.pid) else { return Ok(None) };
    if init.parent != parent.get() {
        let reason = format!("process {pid} is not a child of the monitor any more");
        return Err(VerifyError::Refuted(reason));
    }
    Ok(Some(evidence(format!("/proc/{pid}/stat"), format!("its parent is {parent}"), true)))
}

/// Returns the container's own cgroup if it confirms the record, and the observation. It does if only
/// the record's owner could have put the process there: for root's record, root alone made the cgroup
/// and those above it; a user's record is confirmed by a cgroup of that user only, because in one of
/// root's there may be processes of other users.
fn compare_cgroup(host: &Host, record: &Record, init: &Init) -> (Option<Cgroup>, Option<Evidence>) {
    let cgroup = own_cgroup(record, &init.memberships).filter(|cgroup| match record.owner {
        Trust::Root => host.cgroup_maker(cgroup) == Trust::Root,
        owner => host.cgroup_owner(cgroup) == owner,
    });
    let observation = match (&cgroup, recorded_cgroup(record)) {
        (Some(cgroup), _) => {
            Some((format!("in {}, as recorded", message_text(&cgroup.path)), true))
        }
        (None, Some(path)) => Some((format!("not in {}, as recorded", message_text(path)), false)),
        (None, None) => None,
    };
    let source = || format!("/proc/{}/cgroup", init.id.pid);
    (cgroup, observation.map(|(text, confirms)| evidence(source(), text, confirms)))
}

/// Returns the container's own cgroup: the recorded one, or the part of the path with its ID, in the
/// first hierarchy that has it. The init may have moved to a cgroup below it.
pub(super) fn own_cgroup(record: &Record, memberships: &Memberships) -> Option<Cgroup> {
    memberships.by_preference().find_map(|membership| {
        let path = &membership.path;
        // A cgroup outside our cgroup namespace (`/../…`) cannot be looked up.
        if cgroup::components(path).any(|part| part == b"..") {
            return None;
        }
        let length = match recorded_cgroup(record) {
            Some(recorded) if cgroup::is_at_or_below(path, recorded) => {
                Some(cgroup::components(recorded).count())
            }
            _ => cgroup::components(path)
                .position(|part| has_id(part, &record.id))
                .map(|position| position + 1),
        }?;
        Some(Cgroup {
            controllers: membership.controllers.clone(),
            path: cgroup::prefix_through(path, length - 1).to_vec(),
        })
    })
}

/// Returns the recorded cgroup, unless that is the root, where every process may be.
fn recorded_cgroup(record: &Record) -> Option<&[u8]> {
    record.cgroup.as_deref().filter(|path| cgroup::components(path).next().is_some())
}

/// Whether the mounts of the init may confirm the record. A user's container is in the user's own
/// namespace anyway. For root's, its cgroup is better evidence, unless no cgroups can be seen; and the owner of
/// a user namespace can mount anything in it.
fn mounts_count(host: &Host, record: &Record, init: &Init) -> bool {
    let is_outside = || {
        let mut memberships = init.memberships.by_preference();
        memberships.all(|m| cgroup::components(&m.path).any(|part| part == b".."))
    };
    match record.owner {
        Trust::Root => {
            (!host.has_cgroups() || is_outside()) && host.is_users(init.id.pid, 0) == Ok(true)
        }
        _ => true,
    }
}

/// Whether a cgroup component is the ID, or ends with it as systemd's scopes (`docker-ID.scope`) and
/// Kata's (`kata_ID`) do. Long IDs only: a container may be called `user.slice`.
fn has_id(component: &[u8], id: &str) -> bool {
    let name = component.strip_suffix(b".scope").unwrap_or(component);
    id.len() >= 32
        && name.strip_suffix(id.as_bytes()).is_some_and(|prefix| {
            prefix.is_empty() || prefix.ends_with(b"-") || prefix.ends_with(b"_")
        })
}

/// Whether a directory that the engine made for this container is mounted in it: a path with the whole
/// ID as a component.
fn has_mounts_of(host: &Host, pid: HostPid, id: &str) -> bool {
    let Ok(mountinfo) = host.proc_file(pid, "mountinfo", 1 << 20) else { return false };
    id.len() >= 32
        && Mounts::new(&mountinfo).any(|mount| {
            let root: &[u8] = &mount.root;
            root.split(|b| *b == b'/').any(|part| part == id.as_bytes())
        })
}

/// Creates a piece of evidence.
pub(super) fn evidence(source: impl ToString, observation: String, confirms: bool) -> Evidence {
    Evidence { source: source.to_string(), observation, confirms }
}
