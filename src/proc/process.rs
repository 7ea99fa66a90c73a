//! Single facts of one process: its files below `/proc/PID`, its namespaces, its cgroups, and how far it
//! is trusted. Everything about one process comes through one held handle, unless said otherwise.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use caps::Capability;
use nix::fcntl::{AT_FDCWD, OFlag, readlinkat};
use procfs::process::Process as Handle;

use super::host::Host;
use super::kernel_wait;
use super::read::{
    ReadError, STAT_LIMIT, STATUS_LIMIT, namespace, read_at_once, read_into, stat, status,
};
use super::trust::Trust;
use crate::model::cgroup::{Cgroup, Memberships};
use crate::model::namespace::NamespaceId;
use crate::model::pid::{HostPid, ProcessId};
use crate::model::process::Process;
use crate::model::stat::Stat;
use crate::model::status::Status;
use crate::sys;
use crate::sys::fd;

/// Facts that identify an init.
pub struct InitFacts {
    /// `/proc/PID/stat`.
    pub stat: Stat,
    /// `/proc/PID/status`.
    pub status: Status,
    /// `/proc/PID/cgroup`.
    pub memberships: Memberships,
    /// Its PID namespace; none if reading it is denied.
    pub pid_ns: Option<NamespaceId>,
}

impl Host {
    /// Reads `/proc/PID/stat`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn stat(&self, pid: HostPid) -> Result<Stat, ReadError> {
        Ok(Stat::parse(&self.file_by_pid(pid, "stat", STAT_LIMIT)?)?)
    }

    /// Reads `/proc/PID/status`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn status(&self, pid: HostPid) -> Result<Status, ReadError> {
        Ok(Status::parse(&self.file_by_pid(pid, "status", STATUS_LIMIT)?)?)
    }

    /// Reads the name of a process's main thread.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn comm(&self, pid: HostPid) -> Result<Vec<u8>, ReadError> {
        let mut comm = self.file_by_pid(pid, "comm", STAT_LIMIT)?;
        comm.pop_if(|last| *last == b'\n');
        Ok(comm)
    }

    /// Reads a file that the kernel writes in one piece. (One file needs no held process.)
    fn file_by_pid(&self, pid: HostPid, name: &str, limit: usize) -> Result<Vec<u8>, ReadError> {
        let mut buffer = Vec::new();
        let file = File::open(self.proc_path(format!("{pid}/{name}")))?;
        read_at_once(file, &mut buffer, limit).map(|()| buffer)
    }

    /// Returns the process of a thread; of a process, itself. (`/proc/TID` exists, though it is not listed.)
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn process_of(&self, tid: HostPid) -> Result<HostPid, ReadError> {
        let status = self.proc_file(tid, "status", 1 << 16)?;
        let tgid = status.split(|byte| *byte == b'\n').find_map(|line| {
            std::str::from_utf8(line.strip_prefix(b"Tgid:")?).ok()?.trim().parse().ok()
        });
        Ok(tgid.unwrap_or(tid))
    }

    /// Reads `/proc/PID/cgroup`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn memberships(&self, pid: HostPid) -> Result<Memberships, ReadError> {
        let mut buffer = Vec::new();
        read_into(File::open(self.proc_path(format!("{pid}/cgroup")))?, &mut buffer, 1 << 20)?;
        Ok(Memberships::parse(&buffer))
    }

    /// Whether a process still exists, if only as a zombie: its PID is not another process's.
    pub fn exists(&self, id: ProcessId) -> bool {
        self.stat(id.pid).is_ok_and(|stat| stat.start == id.start)
    }

    /// Whether the process with a PID is in a cgroup or one below it.
    pub fn is_in_cgroup(&self, pid: HostPid, cgroup: &Cgroup) -> bool {
        self.memberships(pid).is_ok_and(|memberships| cgroup.holds(&memberships))
    }

    /// Reads a file of `/proc/PID` that cannot block (`cmdline`, `environ` and `smaps` can).
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn proc_file(&self, pid: HostPid, name: &str, limit: usize) -> Result<Vec<u8>, ReadError> {
        let mut buffer = Vec::new();
        read_into(File::open(self.proc_path(format!("{pid}/{name}")))?, &mut buffer, limit)?;
        Ok(buffer)
    }

    /// Returns the kernel function that a process sleeps in, if that can be read.
    pub fn kernel_wait(&self, pid: HostPid) -> Option<Vec<u8>> {
        kernel_wait::read(|name, limit| self.proc_file(pid, name, limit).ok())
    }

    /// Reads a link of `/proc/PID`: `cwd`, `exe`, `root`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn link(&self, pid: HostPid, name: &str) -> Result<Vec<u8>, ReadError> {
        let path = self.proc_path(format!("{pid}/{name}"));
        Ok(readlinkat(AT_FDCWD, &path)?.as_bytes().to_vec())
    }

    /// Reads the facts that identify an init, all of one process, in as few system calls as possible:
    /// this is done for the init of every container.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn init_facts(&self, pid: HostPid) -> Result<InitFacts, ReadError> {
        let dir = fd::open(&self.proc_path(pid.to_string()), OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        let mut buffer = Vec::new();
        let read = |name: &str, buffer: &mut Vec<u8>, limit| -> Result<(), ReadError> {
            read_at_once(File::from(fd::open_at(&dir, name, OFlag::O_RDONLY)?), buffer, limit)
        };
        read("stat", &mut buffer, STAT_LIMIT)?;
        let stat = Stat::parse(&buffer)?;
        read("status", &mut buffer, STATUS_LIMIT)?;
        let status = Status::parse(&buffer)?;
        let memberships = match read("cgroup", &mut buffer, 1 << 20) {
            Ok(()) => Memberships::parse(&buffer),
            // A path longer than a page, which Linux 6.1 refuses to show (`proc_cgroup_show`,
            // kernel/cgroup/cgroup.c), hides no container.
            Err(ReadError::Broken(_)) => Memberships::default(),
            Err(error) => return Err(error),
        };
        let pid_ns = match readlinkat(&dir, "ns/pid").map_err(ReadError::from) {
            Ok(link) => NamespaceId::parse(link.as_bytes()),
            // As in `pid_ns_of`: a single PID means the namespace of this very /proc.
            Err(ReadError::Denied) => self.pid_ns.filter(|_| status.nspid.len() == 1),
            // Its threads may have it, through another handle: of the same process?
            Err(_) => self.process(pid).ok().and_then(|handle| {
                let again = self::stat(&handle, &mut buffer).ok()?;
                (again.start == stat.start).then(|| namespace(&handle, "pid").ok())?
            }),
        };
        Ok(InitFacts { stat, status, memberships, pid_ns })
    }

    /// Reads the wait status of a process that has exited and is not reaped yet: the last field of
    /// `stat` (proc_pid_stat(5), since Linux 3.5). None once it is reaped. The kernel shows 0 instead to
    /// a caller that cannot trace the process.
    pub fn wait_status(&self, id: ProcessId) -> Option<i32> {
        let bytes = self.proc_file(id.pid, "stat", 1 << 14).ok()?;
        let stat = Stat::parse(&bytes).ok()?;
        let last = bytes.trim_ascii().rsplit(|b| *b == b' ').next()?;
        let status = std::str::from_utf8(last).ok()?.parse().ok()?;
        (stat.start == id.start && stat.state.is_zombie()).then_some(status)
    }

    /// Whether [`Self::wait_status`] is that of the process, as its parent gets it. Before Linux 5.17 it is that of the
    /// main thread: after reboot(2) in a PID namespace KILL, as after a kill.
    pub fn stat_has_status_of_process(&self) -> bool {
        let release = std::fs::read_to_string(self.proc_path("sys/kernel/osrelease"));
        release.is_ok_and(|release| is_at_least(&release, (5, 17)))
    }

    /// Reads the PID namespace of a held process.
    ///
    /// # Errors
    /// [`ReadError`]; reading it takes the right to trace the process (namespaces(7)).
    pub fn pid_ns_of(&self, handle: &Handle) -> Result<NamespaceId, ReadError> {
        let read = namespace(handle, "pid");
        match (&read, self.pid_ns) {
            // NSpid is readable by all; a single PID there means the namespace of this very /proc.
            (Err(ReadError::Denied), Some(host)) => {
                match status(handle, "status", &mut Vec::new()) {
                    Ok(status) if status.nspid.len() == 1 => Ok(host),
                    _ => read,
                }
            }
            _ => read,
        }
    }

    /// Reads the PID namespace of a process.
    ///
    /// # Errors
    /// As [`Self::pid_ns_of`]; [`ReadError::Gone`] if its PID is that of another process now.
    pub fn pid_ns_of_process(&self, id: ProcessId) -> Result<NamespaceId, ReadError> {
        let handle = self.process(id.pid)?;
        let start = stat(&handle, &mut Vec::new())?.start;
        if start == id.start { self.pid_ns_of(&handle) } else { Err(ReadError::Gone) }
    }

    /// Reads the PID namespace by PID alone: for a survey, where a reused PID does no harm, and where
    /// something else holds the process.
    ///
    /// # Errors
    /// As [`Self::pid_ns_of`].
    pub fn pid_ns_by_pid(&self, pid: HostPid) -> Result<NamespaceId, ReadError> {
        let link = self.link(pid, "ns/pid").ok().and_then(|link| NamespaceId::parse(&link));
        link.map_or_else(|| self.pid_ns_of(&self.process(pid)?), Ok)
    }

    /// Opens a namespace file of a held process: `ns` is `pid`, `user` and so on.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn namespace_file(&self, handle: &Handle, ns: &str) -> Result<OwnedFd, ReadError> {
        Ok(handle.open_relative(format!("ns/{ns}"))?.into())
    }

    /// Whether a process is in a user namespace that this user made. A process that merely runs under
    /// the same UID may be in a container of root's. Only where reading the namespace is denied (then
    /// we are not root, and may act on little) the UID has to do.
    ///
    /// # Errors
    /// [`ReadError::Gone`].
    pub fn is_users(&self, pid: HostPid, user: u32) -> Result<bool, ReadError> {
        let handle = self.process(pid)?;
        let owner = self.namespace_file(&handle, "user").and_then(|namespace| {
            sys::namespace::owner_uid(namespace).map_err(|errno| {
                ReadError::Broken(format!("ioctl(NS_GET_OWNER_UID): {}", errno.desc()))
            })
        });
        match owner {
            Ok(owner) => Ok(owner == user),
            Err(error) if error == ReadError::Denied || self.is_recorded() => {
                let is_users = status(&handle, "status", &mut Vec::new())?.uid[0] == user;
                // Another UID may be mapped in a user namespace of this user's.
                if is_users || self.is_recorded() { Ok(is_users) } else { Err(ReadError::Denied) }
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the trust in a process of a snapshot, as [`Self::trust_of_process`].
    pub fn trust_of(&self, process: &Process) -> Trust {
        let pid = process.id.pid;
        let is_hosts = |namespace: Option<NamespaceId>, host: Option<NamespaceId>| {
            namespace.is_some() && namespace == host
        };
        if !is_hosts(self.pid_ns_by_pid(pid).ok(), self.pid_ns) {
            return Trust::Untrusted;
        }
        let trust = self.trust_of_user(process.status.uid[0]);
        if trust != Trust::Root {
            return trust;
        }
        let user_ns = self.link(pid, "ns/user").ok().and_then(|link| NamespaceId::parse(&link));
        let user_ns = user_ns.or_else(|| namespace(&self.process(pid).ok()?, "user").ok());
        let is_hosts_root = has_admin(&process.status) && is_hosts(user_ns, self.user_ns);
        if is_hosts_root { Trust::Root } else { Trust::Untrusted }
    }

    /// Returns the trust in a process. Only one in the host's namespaces with CAP_SYS_ADMIN is trusted as
    /// root: root in a container has the same UID, and may share the host's PID namespace.
    pub fn trust_of_process(&self, pid: HostPid) -> Trust {
        let read = || -> Result<Trust, ReadError> {
            let handle = self.process(pid)?;
            if self.pid_ns.is_none() || Some(self.pid_ns_of(&handle)?) != self.pid_ns {
                return Ok(Trust::Untrusted);
            }
            let status = status(&handle, "status", &mut Vec::new())?;
            let trust = self.trust_of_user(status.uid[0]);
            if trust != Trust::Root {
                return Ok(trust);
            }
            let in_host_ns = Some(namespace(&handle, "user")?) == self.user_ns;
            Ok(if has_admin(&status) && in_host_ns { Trust::Root } else { Trust::Untrusted })
        };
        read().unwrap_or(Trust::Untrusted)
    }
}

fn has_admin(status: &Status) -> bool {
    status.cap_eff & Capability::CAP_SYS_ADMIN.bitmask() != 0
}

/// Whether a kernel release (uname(2)) is this version or a later one.
fn is_at_least(release: &str, version: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    numbers.next().zip(numbers.next()).is_some_and(|release: (u32, u32)| release >= version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_their_numbers() {
        let newer = ["5.17.0", "5.17-rc1", "5.100", "6.1.0-13-amd64", "10.0"];
        let older = ["5.16.20", "5.4.0-150-generic", "4.19", "5", "", "x.17"];
        assert!(newer.iter().all(|release| is_at_least(release, (5, 17))));
        assert!(!older.iter().any(|release| is_at_least(release, (5, 17))));
    }
}
