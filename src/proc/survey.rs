//! Every process of the host, cheaply: who it is, its parent, its PID namespace. `ls` needs it to
//! find what no cgroup and no record tells of; one container is found without it.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::fd::OwnedFd;

use procfs::process::Process as Handle;
use rustix::fs::{Mode, OFlags, openat, readlinkat};

use super::host::{read_at_once, read_into};
use super::{Host, ReadError};
use crate::model::bytes::ParseError;
use crate::model::cgroup::Memberships;
use crate::model::namespace::NamespaceId;
use crate::model::pid::{HostPid, ProcessId};
use crate::model::stat::Stat;
use crate::model::status::Status;
use crate::sys;

/// A process as the survey sees it.
#[derive(Clone, Debug)]
pub struct ProcessSummary {
    /// Which one.
    pub id: ProcessId,
    /// Its parent, as seen from here; 0 when that is outside.
    pub parent: i32,
    /// The name of its main thread, as bytes.
    pub comm: Vec<u8>,
    /// Its PID namespace; none when we may not ask.
    pub pid_ns: Option<NamespaceId>,
    /// Whether it is a zombie.
    pub zombie: bool,
}

/// Every process that was there while we looked.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// In the order of their numbers.
    pub residents: Vec<ProcessSummary>,
    /// How many would not tell their PID namespace to us.
    pub denied: usize,
}

impl Host {
    /// Takes the survey.
    ///
    /// # Errors
    /// When `/proc` cannot be listed.
    pub fn survey(&self) -> Result<Survey, ReadError> {
        let mut pids = self.pids()?;
        pids.sort_unstable();
        let mut survey = Survey::default();
        let mut buffer = Vec::new();
        for pid in pids {
            let Ok(handle) = self.process(pid) else { continue };
            let Ok(stat) = stat(&handle, &mut buffer) else { continue };
            // Kernel threads are in no container, and there are many.
            if stat.is_kernel_thread() {
                continue;
            }
            let pid_ns = self.pid_ns_by_number(pid).or_else(|_| self.pid_ns_of(&handle));
            survey.denied += usize::from(pid_ns == Err(ReadError::Denied));
            let pid_ns = pid_ns.ok();
            survey.residents.push(ProcessSummary {
                id: ProcessId { pid, start: stat.start },
                parent: stat.ppid,
                zombie: stat.state.is_zombie(),
                comm: stat.comm,
                pid_ns,
            });
        }
        Ok(survey)
    }

    /// Which of these process groups are orphaned: no process of them has a parent in another group
    /// of the same session, so that nobody could continue them (`will_become_orphaned_pgrp`,
    /// kernel/exit.c). Looks at every process of the host.
    ///
    /// # Errors
    /// When `/proc` cannot be listed.
    pub fn orphaned_groups(&self, groups: &BTreeSet<i32>) -> Result<BTreeSet<i32>, ReadError> {
        let mut buffer = Vec::new();
        let mut all: HashMap<i32, Stat> = HashMap::new();
        for pid in self.pids()? {
            let stat = self.process(pid).and_then(|handle| stat(&handle, &mut buffer));
            all.extend(stat.ok().map(|stat| (stat.pid, stat)));
        }
        let mut orphaned = groups.clone();
        for process in all.values().filter(|process| groups.contains(&process.pgrp)) {
            let exited = process.has_exited();
            let parent = all.get(&process.ppid).filter(|parent| parent.pid != 1 && !exited);
            if parent.is_some_and(|parent| {
                parent.pgrp != process.pgrp && parent.session == process.session
            }) {
                orphaned.remove(&process.pgrp);
            }
        }
        Ok(orphaned)
    }

    /// `/proc/PID/stat` of one process.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn stat(&self, pid: HostPid) -> Result<Stat, ReadError> {
        stat(&self.process(pid)?, &mut Vec::new())
    }

    /// `stat`, `status`, `cgroup` and the PID namespace, where it is not closed to us, of one and the
    /// same process, in as few calls as that takes: asked of the init of every container.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn first_facts(
        &self,
        pid: HostPid,
    ) -> Result<(Stat, Status, Memberships, Option<NamespaceId>), ReadError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let held = openat(rustix::fs::CWD, self.proc_path(pid.to_string()), flags, Mode::empty())?;
        let open = |name: &str| -> Result<File, ReadError> {
            Ok(openat(&held, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?.into())
        };
        let broken = |broken: ParseError| ReadError::Broken(broken.to_string());
        let mut buffer = Vec::new();
        read_at_once(open("stat")?, &mut buffer, 1 << 14)?;
        let stat = Stat::parse(&buffer).map_err(broken)?;
        read_at_once(open("status")?, &mut buffer, 1 << 20)?;
        let status = Status::parse(&buffer).map_err(broken)?;
        read_at_once(open("cgroup")?, &mut buffer, 1 << 20)?;
        let memberships = Memberships::parse(&buffer);
        let link = readlinkat(&held, "ns/pid", Vec::with_capacity(32)).map_err(ReadError::from);
        let namespace = match link {
            Ok(link) => NamespaceId::parse(link.as_bytes()),
            // As in `pid_ns_of`: one number means the namespace of this very /proc.
            Err(ReadError::Denied) => self.pid_ns.filter(|_| status.nspid.len() == 1),
            // Its threads may tell, by another handle: of the same process?
            Err(_) => self.process(pid).ok().and_then(|handle| {
                let again = self::stat(&handle, &mut buffer).ok()?;
                (again.start == stat.start).then(|| namespace(&handle, "pid").ok())?
            }),
        };
        Ok((stat, status, memberships, namespace))
    }

    /// How a process ended that its parent has not reaped yet, as wait(2) will tell: the last field of
    /// `stat` (proc_pid_stat(5), since Linux 3.5); none once it is reaped. 0 as well for who may not
    /// trace it.
    pub fn wait_status(&self, id: ProcessId) -> Option<i32> {
        let bytes = self.proc_file(id.pid, "stat", 1 << 14).ok()?;
        let stat = Stat::parse(&bytes).ok()?;
        let last = bytes.trim_ascii().rsplit(|b| *b == b' ').next()?;
        let status = std::str::from_utf8(last).ok()?.parse().ok()?;
        (stat.start == id.start && stat.state.is_zombie()).then_some(status)
    }

    /// `/proc/PID/status` of one process.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn status(&self, pid: HostPid) -> Result<Status, ReadError> {
        status(&self.process(pid)?, "status", &mut Vec::new())
    }

    /// The PID namespace a process is in.
    ///
    /// # Errors
    /// [`ReadError`]; asking takes the right to trace the process (namespaces(7)).
    pub fn pid_ns_of(&self, handle: &Handle) -> Result<NamespaceId, ReadError> {
        let read = namespace(handle, "pid");
        match (&read, self.pid_ns) {
            // Anybody may read NSpid; one number there means the namespace of this very /proc.
            (Err(ReadError::Denied), Some(own)) => {
                match status(handle, "status", &mut Vec::new()) {
                    Ok(status) if status.nspid.len() == 1 => Ok(own),
                    _ => read,
                }
            }
            _ => read,
        }
    }

    /// The same by number alone: for a first look at many, where a number that changes hands
    /// meanwhile does no harm.
    pub(super) fn pid_ns_by_number(&self, pid: HostPid) -> Result<NamespaceId, ReadError> {
        let link = self.link(pid, "ns/pid")?;
        NamespaceId::parse(&link).ok_or(ReadError::Gone)
    }

    /// An open namespace file of a process: `ns` is `pid`, `user`, ….
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn namespace_file(&self, handle: &Handle, ns: &str) -> Result<OwnedFd, ReadError> {
        Ok(handle.open_relative(format!("ns/{ns}"))?.into())
    }

    /// Whether a process lives in a user namespace that this user made. A process that merely runs
    /// under the same uid may be in a container of root's. Only where the namespace is closed to us
    /// (then we are not root, and may act on little) does the uid have to do.
    ///
    /// # Errors
    /// [`ReadError::Gone`].
    pub fn is_users(&self, pid: HostPid, user: u32) -> Result<bool, ReadError> {
        let handle = self.process(pid)?;
        let maker = self.namespace_file(&handle, "user").and_then(|namespace| {
            sys::namespace::owner_uid(namespace)
                .map_err(|errno| ReadError::Broken(format!("ioctl(NS_GET_OWNER_UID): {errno}")))
        });
        match maker {
            Ok(maker) => Ok(maker == user),
            Err(error) if error == ReadError::Denied || self.is_recorded() => {
                Ok(status(&handle, "status", &mut Vec::new())?.uid[0] == user)
            }
            Err(error) => Err(error),
        }
    }

    /// A link of `/proc/PID`: `cwd`, `exe`, `root`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn link(&self, pid: HostPid, name: &str) -> Result<Vec<u8>, ReadError> {
        let path = self.proc_path(format!("{pid}/{name}"));
        Ok(readlinkat(rustix::fs::CWD, path, Vec::new())?.into_bytes())
    }

    /// A whole file of `/proc/PID` that cannot block (`cmdline`, `environ` and `smaps` can).
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn proc_file(&self, pid: HostPid, name: &str, limit: usize) -> Result<Vec<u8>, ReadError> {
        let mut buffer = Vec::new();
        read_into(self.process(pid)?.open_relative(name)?, &mut buffer, limit)?;
        Ok(buffer)
    }
}

pub(super) fn stat(handle: &Handle, buffer: &mut Vec<u8>) -> Result<Stat, ReadError> {
    read_at_once(handle.open_relative("stat")?, buffer, 1 << 14)?;
    Stat::parse(buffer).map_err(|broken| ReadError::Broken(broken.to_string()))
}

pub(super) fn status(
    handle: &Handle,
    file: &str,
    buffer: &mut Vec<u8>,
) -> Result<Status, ReadError> {
    // The supplementary groups may be 65536 (NGROUPS_MAX) numbers of ten digits.
    read_at_once(handle.open_relative(file)?, buffer, 1 << 20)?;
    Status::parse(buffer).map_err(|broken| ReadError::Broken(broken.to_string()))
}

/// A process whose main thread has exited while others run is a zombie with no namespaces of its
/// own; its threads have them.
pub(super) fn namespace(handle: &Handle, ns: &str) -> Result<NamespaceId, ReadError> {
    match read_namespace(handle, &format!("ns/{ns}")) {
        Err(ReadError::Gone) => {}
        other => return other,
    }
    for tid in thread_ids(handle)? {
        if let Ok(found) = read_namespace(handle, &format!("task/{tid}/ns/{ns}")) {
            return Ok(found);
        }
    }
    Err(ReadError::Gone)
}

fn read_namespace(handle: &Handle, path: &str) -> Result<NamespaceId, ReadError> {
    // The crate's handle opens, but has no readlinkat: `.` through it is the held directory.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let link: OwnedFd = handle.open_relative_flags(path, flags)?.into();
    let text = readlinkat(&link, c"", Vec::with_capacity(32))?;
    NamespaceId::parse(text.as_bytes())
        .ok_or_else(|| ReadError::Broken("a namespace link is not spelt as known".into()))
}

/// The thread numbers of a process, in order.
pub(super) fn thread_ids(handle: &Handle) -> Result<Vec<i32>, ReadError> {
    let dir: File =
        handle.open_relative_flags("task", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)?;
    let again =
        openat(&dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut ids = Vec::new();
    for entry in rustix::fs::Dir::new(again)? {
        if let Ok(id) = entry?.file_name().to_string_lossy().parse() {
            ids.push(id);
        }
    }
    ids.sort_unstable();
    Ok(ids)
}
