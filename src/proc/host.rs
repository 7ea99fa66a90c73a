//! The host: the root that everything is read below (`--host-root`), its clock and its name, and whether
//! its `/proc` is alive and numbers processes as our system calls do, without which nothing may be
//! signalled.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{Timestamp, TimestampRound, Unit};
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};
use nix::time::{ClockId, clock_gettime};
use procfs::process::Process as Handle;

use super::cgroup::hierarchy::{self, Hierarchy};
use super::read::{ReadError, read_at_once, read_into};
use super::trust::Trust;
use super::trusted_fs::{DirHold, StateDir, StateFile, TrustedFs};
use crate::model::mount::{Mounts, mounted_types};
use crate::model::namespace::NamespaceId;
use crate::model::pid::{HostPid, ProcessId, Ticks};
use crate::sys::listing::each_entry;

/// The host that containers are looked up on.
#[derive(Debug)]
pub struct Host {
    proc: PathBuf,
    /// Host name.
    pub name: String,
    pub(super) files: TrustedFs,
    pub(super) clock: Clock,
    /// The PID namespace of its `/proc`, if that is known.
    pub pid_ns: Option<NamespaceId>,
    /// The user namespace of its root user, if that is known.
    pub(super) user_ns: Option<NamespaceId>,
    procfs: Result<(), ForeignProcfs>,
    pub(super) hierarchies: Vec<Hierarchy>,
    /// Inits whose file system did not answer.
    unresponsive: Mutex<HashSet<ProcessId>>,
}

/// Converts the kernel's ticks to times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    boot: Timestamp,
    ticks_per_second: u64,
}

impl Clock {
    /// Returns when a process started, from its start time in clock ticks since boot.
    pub(super) fn started(self, start: Ticks) -> Timestamp {
        let nanos = u128::from(start.0) * 1_000_000_000 / u128::from(self.ticks_per_second.max(1));
        let since = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.boot.checked_add(since).unwrap_or(self.boot)
    }

    /// Converts a number of clock ticks.
    pub(super) fn ticks(self, ticks: u64) -> Duration {
        Duration::from_millis(ticks.saturating_mul(1000) / self.ticks_per_second.max(1))
    }
}

/// Size of the mount table of a host with some containers, and of the longest that is read.
const MOUNTINFO_SIZE: usize = 16 << 10;
const MAX_MOUNTINFO: usize = 64 << 20;
/// Environment variable with the name of the host.
const NAME: &str = "CINSPECT_HOST";

/// Reason why nothing may be signalled through a `/proc`: its PIDs are not those of our system calls.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForeignProcfs {
    /// No procfs is mounted there.
    #[error("`{0}` is not a mounted proc file system")]
    NotProc(String),
    /// It belongs to another PID namespace than ours.
    #[error("`{0}` shows the PIDs of another PID namespace than cinspect's own")]
    OtherNamespace(String),
}

impl Host {
    /// Returns the host with this root directory.
    ///
    /// # Errors
    /// [`ReadError::Broken`] if no `/proc` below it lists processes.
    pub fn new(root: &Path) -> Result<Self, ReadError> {
        let proc = root.join("proc");
        let shown = proc.display().to_string();
        let is_proc = statfs(&proc).is_ok_and(|fs| fs.filesystem_type() == PROC_SUPER_MAGIC);
        if !is_proc && !has_processes(&proc) {
            return Err(ReadError::Broken(format!("no processes are listed in `{shown}`")));
        }
        let procfs = if !is_proc {
            Err(ForeignProcfs::NotProc(shown))
        } else if self_pids(&proc) != [std::process::id()] {
            // Our PID there differs, or we are not there at all, or have another one in a namespace
            // below: its PIDs are another namespace's, and pidfd_open(2) would take them for ours.
            Err(ForeignProcfs::OtherNamespace(shown))
        } else {
            Ok(())
        };
        // On a recorded host the owner of its directory counts as root.
        let root_uid = match std::fs::metadata(root) {
            Ok(meta) if !is_proc => meta.uid(),
            _ => 0,
        };
        let mut host = Self {
            name: String::new(),
            files: TrustedFs::new(root.to_owned(), root_uid),
            clock: Clock {
                boot: if is_proc { boot_time() } else { recorded_boot_time(&proc) },
                ticks_per_second: procfs::ticks_per_second(),
            },
            pid_ns: None,
            user_ns: None,
            procfs,
            hierarchies: hierarchy::mounted_below(&root.join("sys/fs/cgroup")),
            unresponsive: Mutex::default(),
            proc,
        };
        host.name = host.read_name(std::env::var_os(NAME));
        host.pid_ns = host.read_host_ns("pid");
        host.user_ns = host.read_host_ns("user");
        Ok(host)
    }

    /// Checks that its PIDs are those of our system calls.
    ///
    /// # Errors
    /// [`ForeignProcfs`].
    pub fn may_act(&self) -> Result<(), ForeignProcfs> {
        self.procfs.clone()
    }

    /// Whether it is a directory that a host was recorded in, without a kernel.
    pub fn is_recorded(&self) -> bool {
        matches!(self.procfs, Err(ForeignProcfs::NotProc(_)))
    }

    /// Returns the root directory of the host.
    pub fn root(&self) -> &Path {
        self.files.root()
    }

    /// Returns a path below its `/proc`.
    pub fn proc_path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.proc.join(below)
    }

    /// Opens `/proc/PID`. Everything read through the handle is of one process, and fails with ESRCH
    /// once that has exited, even if its PID is reused.
    ///
    /// # Errors
    /// [`ReadError::Gone`] if the process does not exist.
    pub fn process(&self, pid: HostPid) -> Result<Handle, ReadError> {
        Ok(Handle::new_with_root(self.proc.join(pid.to_string()))?)
    }

    /// Lists every PID in `/proc`, in no order.
    ///
    /// # Errors
    /// If `/proc` cannot be listed.
    pub fn pids(&self) -> Result<Vec<HostPid>, ReadError> {
        let mut pids = Vec::new();
        each_entry(std::fs::File::open(&self.proc)?, |name, _| -> Result<(), ReadError> {
            pids.extend(name.to_str().ok().and_then(|name| name.parse::<HostPid>().ok()));
            Ok(())
        })?;
        Ok(pids)
    }

    /// Returns when a process started, from its start time in clock ticks since boot.
    pub fn started(&self, start: Ticks) -> Timestamp {
        self.clock.started(start)
    }

    /// Whether this `/proc` hides other users' processes from some callers (`hidepid`, proc(5)).
    pub fn hides_processes(&self) -> bool {
        let mountinfo = self.mountinfo();
        let is_proc =
            |point: &[u8]| self.path_on_host(point).is_some_and(|path| path == Path::new("/proc"));
        let last = Mounts::new(&mountinfo).filter(|mount| is_proc(&mount.point)).last();
        last.is_some_and(|mount| {
            mount.super_options.split(|b| *b == b',').any(|option| {
                option.strip_prefix(b"hidepid=").is_some_and(|mode| mode != b"0" && mode != b"off")
            })
        })
    }

    /// Opens a directory of an engine's records; `path` is absolute as on the host.
    ///
    /// # Errors
    /// [`ReadError::Gone`] if it does not exist, [`ReadError::Broken`] if its path is not trusted.
    pub fn state_dir(&self, path: impl AsRef<Path>) -> Result<StateDir<'_>, ReadError> {
        self.files.dir(path.as_ref())
    }

    /// Reads one record by its absolute path.
    ///
    /// # Errors
    /// As [`StateDir::read`].
    pub fn state_file(&self, path: impl AsRef<Path>) -> Result<StateFile, ReadError> {
        let path = path.as_ref();
        // Where directories are held, that of the file most likely is.
        if self.files.holds_dirs()
            && let (Some(parent), Some(name)) = (path.parent(), path.file_name())
        {
            match self.state_dir(parent).and_then(|dir| dir.read(name)) {
                // From the root it may be found through a link; that walk also produces the error message.
                Err(ReadError::Broken(_)) => {}
                read => return read,
            }
        }
        self.state_dir("/")?.read(path.strip_prefix("/").unwrap_or(path))
    }

    /// Keeps directories of records open that are walked to as long as the result lives, for a search that
    /// comes through them many times.
    pub fn hold_dirs(&self) -> DirHold<'_> {
        self.files.hold_dirs()
    }

    /// Follows no path of a record onto a network file system from now on, which may not answer: call it
    /// before users' directories are searched.
    pub fn skip_network_mounts(&self) {
        self.files.skip_network_mounts(|visit| {
            let stats = self.read_mounts("self/mountstats");
            for (point, fstype) in mounted_types(&stats) {
                visit(&point, &fstype);
            }
            if stats.is_empty() {
                let info = self.mountinfo();
                Mounts::new(&info).for_each(|mount| visit(&mount.point, &mount.fstype));
            }
        });
    }

    /// Returns the trust in files and processes of this user.
    pub fn trust_of_user(&self, uid: u32) -> Trust {
        self.files.trust_of_user(uid)
    }

    pub(super) fn is_unresponsive(&self, init: ProcessId) -> bool {
        self.unresponsive.lock().unwrap_or_else(PoisonError::into_inner).contains(&init)
    }

    pub(super) fn note_unresponsive(&self, init: ProcessId) {
        self.unresponsive.lock().unwrap_or_else(PoisonError::into_inner).insert(init);
    }

    /// Returns the mounts that this program sees, as `mountinfo` lists them; nothing if it cannot be read. While
    /// directories are held, they are read once.
    pub fn mountinfo(&self) -> Arc<Vec<u8>> {
        self.files.mountinfo(|| self.read_mounts("self/mountinfo"))
    }

    /// Returns the path on the host of a mount point in [`Self::mountinfo`]: with `--host-root` the host's are
    /// below that directory. None for a mount outside of the host's root.
    pub fn path_on_host(&self, point: &[u8]) -> Option<PathBuf> {
        self.files.path_on_host(point)
    }

    fn read_mounts(&self, file: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MOUNTINFO_SIZE);
        let file = std::fs::File::open(self.proc.join(file));
        let read = file.map_err(ReadError::from);
        let read = read.and_then(|file| read_into(file, &mut bytes, MAX_MOUNTINFO));
        read.map_or_else(|_| Vec::new(), |()| bytes)
    }

    /// Returns the host's name. In a container the kernel returns the container's, unless it was made
    /// with the host's UTS namespace. So the environment ([`NAME`]) comes first, then the host's file.
    fn read_name(&self, variable: Option<OsString>) -> String {
        let variable = variable.filter(|name| !name.is_empty());
        let text = |name: OsString| name.to_string_lossy().into_owned();
        let recorded = || {
            let file = self.state_file("/etc/hostname").ok()?;
            hostname_in(&file.bytes).map(|name| String::from_utf8_lossy(name).into_owned())
        };
        variable
            .map(text)
            .or_else(|| if self.shares_uts_namespace() { None } else { recorded() })
            .or_else(|| nix::unistd::gethostname().ok().map(text))
            .unwrap_or_else(|| "localhost".into())
    }

    /// Whether the kernel's host name is this host's (uts_namespaces(7)).
    fn shares_uts_namespace(&self) -> bool {
        let uts = |process| std::fs::read_link(self.proc.join(process).join("ns/uts")).ok();
        self.root() == Path::new("/")
            || (self.procfs.is_ok() && uts("1").is_some_and(|host| uts("self") == Some(host)))
    }

    /// Reads the host's namespace: ours, if `/proc` has us under our own PID; else that of PID 1, if it
    /// may be read.
    fn read_host_ns(&self, ns: &str) -> Option<NamespaceId> {
        let process = if self.procfs.is_ok() { "self" } else { "1" };
        let link = std::fs::read_link(self.proc.join(process).join("ns").join(ns)).ok()?;
        NamespaceId::parse(link.as_os_str().as_bytes())
    }
}

/// Returns the boot time: wall clock less time since boot, as `btime` of `/proc/stat`, which is a long
/// file. It has the precision of start times, a clock tick: the two clocks are not read at the same moment, and a
/// process would have another start time in each answer.
fn boot_time() -> Timestamp {
    let since = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    let now = Timestamp::now();
    let boot = now.checked_sub(since).unwrap_or(now);
    boot.round(TimestampRound::new().smallest(Unit::Millisecond).increment(10)).unwrap_or(boot)
}

fn recorded_boot_time(proc: &Path) -> Timestamp {
    let stat = std::fs::read(proc.join("stat")).unwrap_or_default();
    stat.split(|b| *b == b'\n')
        .find_map(|line| line.strip_prefix(b"btime "))
        .and_then(|seconds| std::str::from_utf8(seconds).ok()?.trim().parse().ok())
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Reads our own PID in each PID namespace from that of this `/proc` inwards.
fn self_pids(proc: &Path) -> Vec<u32> {
    let mut status = Vec::new();
    let file = std::fs::File::open(proc.join("self/status")).map_err(ReadError::from);
    let _ = file.and_then(|file| read_at_once(file, &mut status, 1 << 16));
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    line.map_or_else(Vec::new, |line| {
        line.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    })
}

fn has_processes(proc: &Path) -> bool {
    let is_pid = |name: OsString| name.to_str().is_some_and(|name| name.parse::<HostPid>().is_ok());
    std::fs::read_dir(proc)
        .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|e| is_pid(e.file_name()))))
}

/// Returns the name in a hostname(5) file: its first line that is neither empty nor a comment.
fn hostname_in(file: &[u8]) -> Option<&[u8]> {
    let mut lines = file.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    lines.find(|line| !line.is_empty() && !line.starts_with(b"#"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_environment_names_the_host_before_its_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc/1")).unwrap();
        std::fs::create_dir_all(dir.path().join("etc/static")).unwrap();
        std::fs::write(dir.path().join("etc/static/hostname"), "# by hand\n\n node-7 \n").unwrap();
        // An absolute link is the host's, not ours: NixOS has one.
        symlink("/etc/static/hostname", dir.path().join("etc/hostname")).unwrap();
        let host = Host::new(dir.path()).unwrap();
        assert_eq!(host.read_name(None), "node-7");
        assert_eq!(host.read_name(Some("".into())), "node-7");
        assert_eq!(host.read_name(Some("worker-1".into())), "worker-1");
    }

    #[test]
    fn the_kernel_names_a_host_without_a_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc/1")).unwrap();
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/hostname"), "# nothing\n").unwrap();
        let host = Host::new(dir.path()).unwrap();
        let kernels = nix::unistd::gethostname().unwrap();
        assert_eq!(host.read_name(None), kernels.to_string_lossy());
        assert_eq!(Host::new(Path::new("/")).unwrap().read_name(None), kernels.to_string_lossy());
    }
}
