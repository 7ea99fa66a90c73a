//! What is to be known of a process in order to start another one beside it, and what has to be held
//! of it before that.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat};

use super::host::read_into;
use super::survey::{stat, status, thread_ids};
use super::{Host, ReadError};
use crate::model::cgroup::Memberships;
use crate::model::container::Cgroup;
use crate::model::idmap::IdMap;
use crate::model::limits::{self, ResourceLimit};
use crate::model::namespace::KINDS;
use crate::model::pid::HostPid;
use crate::model::status::Status;

/// A process that another one is to be started beside. What is open is of this process, whoever has
/// its number later.
#[derive(Debug)]
pub struct ExecFacts {
    /// Its folder in `/proc`; that of a thread where the main one has exited.
    pub process: OwnedFd,
    /// That thread.
    pub thread: Option<i32>,
    /// Its root.
    pub root: OwnedFd,
    /// Its working directory; none where it may not be opened.
    pub workdir: Option<OwnedFd>,
    /// What `status` says.
    pub status: Status,
    /// Names of the namespaces in which it differs from us.
    pub apart: Vec<&'static str>,
    /// The numbers of users inside its user namespace.
    pub users: IdMap,
    /// And of groups.
    pub groups: IdMap,
    /// Its limits.
    pub limits: Vec<ResourceLimit>,
    /// How willingly it is killed when memory runs out.
    pub oom_score_adj: Option<i32>,
    /// Its niceness.
    pub nice: i32,
    /// The processors it may run on, as bits.
    pub cpus: Vec<u8>,
    /// The label that a security module gave it, where one confines it.
    pub label: Option<Vec<u8>>,
    /// The cgroups that it is in and we are not.
    pub cgroups: Vec<Cgroup>,
}

impl Host {
    /// Reads it. It is of the process that was meant if that is held, and alive afterwards.
    ///
    /// # Errors
    /// [`ReadError::Denied`] when it is not ours to look into, [`ReadError::Gone`].
    pub fn entry_facts(&self, pid: HostPid) -> Result<ExecFacts, ReadError> {
        let handle = self.process(pid)?;
        let mut buffer = Vec::new();
        let own = stat(&handle, &mut buffer)?;
        // A main thread that has exited has no root and no namespaces; the others have.
        let dead = own.state.is_zombie();
        let thread = match dead {
            false => None,
            true => Some(
                thread_ids(&handle)?
                    .into_iter()
                    .find(|tid| {
                        let base = format!("task/{tid}/");
                        status(&handle, &format!("{base}status"), &mut Vec::new())
                            .is_ok_and(|status| !status.state.is_zombie())
                    })
                    .ok_or(ReadError::Gone)?,
            ),
        };
        let base = thread.map_or_else(|| format!("{pid}"), |tid| format!("{pid}/task/{tid}"));
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let process = openat(CWD, self.proc_path(base), folder, Mode::empty())?;
        let mut read = |name: &str| -> Result<Vec<u8>, ReadError> {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let file = File::from(openat(&process, name, flags, Mode::empty())?);
            read_into(file, &mut buffer, 1 << 20)?;
            Ok(buffer.clone())
        };
        let status =
            Status::parse(&read("status")?).map_err(|e| ReadError::Broken(e.to_string()))?;
        let map = |bytes: Vec<u8>| {
            IdMap::parse(&bytes).map_err(|error| ReadError::Broken(error.to_string()))
        };
        let (users, groups) = (map(read("uid_map")?)?, map(read("gid_map")?)?);
        let limits = limits::parse(&read("limits")?);
        let number = |bytes: Vec<u8>| std::str::from_utf8(&bytes).ok()?.trim().parse().ok();
        let oom_score_adj = read("oom_score_adj").ok().and_then(number);
        let label = read("attr/current").ok().and_then(|bytes| confining(&bytes));
        let memberships = Memberships::parse(&read("cgroup")?);
        let ours = Memberships::parse(&std::fs::read(self.proc_path("self/cgroup"))?);
        let apart = KINDS.iter().filter(|kind| {
            let own = readlinkat(CWD, self.proc_path(format!("self/ns/{}", kind.name)), Vec::new());
            let link = readlinkat(&process, format!("ns/{}", kind.name), Vec::new());
            // What the kernel does not have, neither has.
            link.is_ok() && link.ok() != own.ok()
        });
        Ok(ExecFacts {
            apart: apart.map(|kind| kind.name).collect(),
            root: openat(&process, "root", folder, Mode::empty())?,
            workdir: openat(&process, "cwd", folder, Mode::empty()).ok(),
            thread,
            users,
            groups,
            limits,
            oom_score_adj,
            nice: own.nice,
            cpus: self.cpus(thread.unwrap_or(pid.get())),
            label,
            cgroups: differing(&memberships, &ours),
            status,
            process,
        })
    }

    fn cpus(&self, tid: i32) -> Vec<u8> {
        let pid = rustix::process::Pid::from_raw(tid);
        let Ok(set) = rustix::thread::sched_getaffinity(pid) else { return Vec::new() };
        let mut bits = vec![0u8; rustix::thread::CpuSet::MAX_CPU / 8];
        (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|cpu| set.is_set(*cpu))
            .for_each(|cpu| bits[cpu / 8] |= 1 << (cpu % 8));
        while bits.last() == Some(&0) {
            bits.pop();
        }
        bits
    }
}

/// The cgroups of the first that are not the second's.
fn differing(of: &Memberships, ours: &Memberships) -> Vec<Cgroup> {
    of.by_preference()
        .filter(|one| {
            !ours
                .by_preference()
                .any(|own| own.controllers == one.controllers && own.path == one.path)
        })
        .map(|one| Cgroup { controllers: one.controllers.to_vec(), path: one.path.to_vec() })
        .collect()
}

/// A label that confines: AppArmor's `unconfined` does not, nor does SELinux where it is not there.
fn confining(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = bytes.split(|b| *b == 0 || *b == b'\n').next().unwrap_or_default();
    (!text.is_empty() && text != b"unconfined" && text != b"kernel").then(|| text.to_owned())
}
