//! The facts about a process that `exec` takes over from it, and the descriptors of it that are opened
//! before anything is started. Reads only.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;

use nix::fcntl::{OFlag, readlink, readlinkat};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use super::host::Host;
use super::namespace_root::{changed_root, foreign_roots};
use super::read::{ReadError, read_into, stat, status, thread_ids};
use crate::model::cgroup::{Cgroup, Memberships};
use crate::model::idmap::IdMap;
use crate::model::limits;
use crate::model::namespace::KINDS;
use crate::model::pid::HostPid;
use crate::model::process_attributes::ProcessAttributes;
use crate::model::process_config::Scheduling;
use crate::model::status::Status;
use crate::sys::fd::{open, open_at};
use crate::sys::scheduling;

/// A file of `/proc/PID` that is larger is refused.
const MAX_FILE: usize = 1 << 20;

/// The facts about one process. The descriptors stay those of this process when its PID is reused.
#[derive(Debug)]
pub struct ExecFacts {
    /// Its directory in `/proc`; that of a live thread if the main thread has exited.
    pub process: OwnedFd,
    /// TID of that thread.
    pub thread: Option<i32>,
    /// Its root directory.
    pub root: OwnedFd,
    /// Its working directory; `None` if it could not be opened.
    pub workdir: Option<OwnedFd>,
    /// `/proc/PID/status`.
    pub status: Status,
    /// Names of the namespaces that it does not share with cinspect.
    pub private_namespaces: Vec<&'static str>,
    /// User IDs of its user namespace.
    pub uid_map: IdMap,
    /// Group IDs of its user namespace.
    pub gid_map: IdMap,
    /// Its limits, priorities and the like.
    pub attributes: ProcessAttributes,
    /// Its root directory as seen from that of its mount namespace.
    pub root_path: Vec<u8>,
    /// Roots, as device and inode, that are not the container's: those of cinspect and of the ancestors
    /// of the process.
    pub foreign_roots: Vec<(u64, u64)>,
    /// The label of a security module, if it confines the process.
    pub label: Option<Vec<u8>>,
    /// The cgroups that it is in and cinspect is not.
    pub cgroups: Vec<Cgroup>,
    /// The cgroups that cinspect is in and it is not.
    pub own_cgroups: Vec<Cgroup>,
}

impl ExecFacts {
    /// Opens the root of the container, if the process has changed its own; none if it has not, or without
    /// the right to join its mount namespace. For a caller without other threads.
    pub fn changed_root(&self, host: &Host) -> Option<OwnedFd> {
        Some(changed_root(&host.proc_path(""), &self.process, self.status.ppid)?.root)
    }
}

impl Host {
    /// Reads the facts. They are about the process that was meant if that one is held (as a pidfd) and
    /// still alive afterwards.
    ///
    /// # Errors
    /// [`ReadError::Denied`] without the right to look into it, [`ReadError::Gone`].
    pub fn exec_facts(&self, pid: HostPid) -> Result<ExecFacts, ReadError> {
        let handle = self.process(pid)?;
        let mut buffer = Vec::new();
        let stat = stat(&handle, &mut buffer)?;
        // A main thread that has exited has no root and no namespaces any more; the others have.
        let thread = if stat.state.is_zombie() { Some(live_thread(&handle)?) } else { None };
        let base = thread.map_or_else(|| format!("{pid}"), |tid| format!("{pid}/task/{tid}"));
        let directory = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let process = open(&self.proc_path(base), directory)?;
        let mut read = |name: &str| -> Result<Vec<u8>, ReadError> {
            let file = open_at(&process, name, OFlag::O_RDONLY)?;
            read_into(File::from(file), &mut buffer, MAX_FILE)?;
            Ok(buffer.clone())
        };
        let broken = |error: &dyn std::fmt::Display| ReadError::Broken(error.to_string());
        let id_map = |bytes: Vec<u8>| IdMap::parse(&bytes).map_err(|error| broken(&error));
        let number = |bytes: Vec<u8>| std::str::from_utf8(&bytes).ok()?.trim().parse().ok();
        let id = thread.unwrap_or(pid.get());
        let root_path = readlinkat(&process, "root").map(OsString::into_vec).unwrap_or_default();
        let memberships = Memberships::parse(&read("cgroup")?);
        let ours = Memberships::parse(&std::fs::read(self.proc_path("self/cgroup"))?);
        let status = Status::parse(&read("status")?).map_err(|error| broken(&error))?;
        let attributes = ProcessAttributes {
            limits: limits::parse(&read("limits")?),
            umask: status.umask,
            oom_score_adj: read("oom_score_adj").ok().and_then(number),
            nice: stat.nice,
            scheduling: HostPid::new(id).and_then(|id| self.scheduling(id)),
            io_priority: HostPid::new(id).and_then(|id| self.io_priority(id)),
            personality: HostPid::new(id).and_then(|id| self.personality(id)),
            cpus: affinity(id),
        };
        Ok(ExecFacts {
            status,
            attributes,
            uid_map: id_map(read("uid_map")?)?,
            gid_map: id_map(read("gid_map")?)?,
            label: read("attr/current").ok().and_then(|bytes| confining_label(&bytes)),
            private_namespaces: self.private_namespaces(&process),
            root: open_at(&process, "root", directory)?,
            workdir: open_at(&process, "cwd", directory).ok(),
            foreign_roots: foreign_roots(&self.proc_path(""), stat.ppid, root_path != b"/"),
            root_path,
            cgroups: cgroups_only_in(&memberships, &ours),
            own_cgroups: cgroups_only_in(&ours, &memberships),
            thread,
            process,
        })
    }

    /// Returns the scheduling policy of a process or thread.
    pub fn scheduling(&self, pid: HostPid) -> Option<Scheduling> {
        self.may_act().ok()?;
        scheduling::policy(pid.get()).ok()
    }

    /// Returns the I/O priority of a process or thread.
    pub fn io_priority(&self, pid: HostPid) -> Option<u32> {
        self.may_act().ok()?;
        scheduling::io_priority(pid.get()).ok()
    }

    /// Reads the execution domain of a process or thread, personality(2).
    pub fn personality(&self, pid: HostPid) -> Option<u32> {
        let bytes = self.proc_file(pid, "personality", 64).ok()?;
        u32::from_str_radix(std::str::from_utf8(&bytes).ok()?.trim(), 16).ok()
    }

    fn private_namespaces(&self, process: &OwnedFd) -> Vec<&'static str> {
        let is_private = |name: &str| {
            let ours = readlink(&self.proc_path(format!("self/ns/{name}")));
            // A kind that the kernel does not have has no link.
            readlinkat(process, format!("ns/{name}").as_str())
                .is_ok_and(|link| Some(link) != ours.ok())
        };
        KINDS.iter().map(|kind| kind.name).filter(|name| is_private(name)).collect()
    }
}

fn live_thread(process: &procfs::process::Process) -> Result<i32, ReadError> {
    let is_live = |tid: &i32| {
        status(process, &format!("task/{tid}/status"), &mut Vec::new())
            .is_ok_and(|status| !status.state.is_zombie())
    };
    thread_ids(process)?.into_iter().find(is_live).ok_or(ReadError::Gone)
}

/// Returns the CPUs that a thread may run on, as a bit mask without trailing zero bytes; empty if they
/// could not be read.
fn affinity(tid: i32) -> Vec<u8> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(tid)) else { return Vec::new() };
    let mut mask = vec![0u8; CpuSet::count() / 8];
    (0..CpuSet::count())
        .filter(|cpu| set.is_set(*cpu) == Ok(true))
        .for_each(|cpu| mask[cpu / 8] |= 1 << (cpu % 8));
    while mask.last() == Some(&0) {
        mask.pop();
    }
    mask
}

fn cgroups_only_in(memberships: &Memberships, ours: &Memberships) -> Vec<Cgroup> {
    memberships.by_preference().filter(|theirs| !ours.0.contains(theirs)).cloned().collect()
}

/// Returns the label if it confines: AppArmor's `unconfined` does not, nor `kernel`, which the file shows
/// where SELinux is compiled in and not in use.
fn confining_label(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = bytes.split(|b| *b == 0 || *b == b'\n').next().unwrap_or_default();
    (!text.is_empty() && text != b"unconfined" && text != b"kernel").then(|| text.to_owned())
}
