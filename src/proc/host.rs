//! The host: the machine as roots that everything is read below (`--host-root`), its clock, and
//! whether its `/proc` is alive and our own, without which nothing may be signalled.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use procfs::process::Process;
use rustix::fs::{CWD, PROC_SUPER_MAGIC, readlinkat, statfs};

use super::{ReadError, Trust};
use crate::model::namespace::NamespaceId;
use crate::model::pid::{HostPid, ProcessId, Ticks};

/// The machine whose containers are looked at.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    proc: PathBuf,
    /// Its name.
    pub name: String,
    /// Whose word counts as root's: uid 0's, or of a host that is recorded in a folder the word of
    /// whoever owns that.
    pub(super) root_uid: u32,
    pub(super) clock: Clock,
    /// Bytes in a page of memory.
    pub page_size: u64,
    /// The PID namespace that its `/proc` numbers processes in, when that can be told.
    pub pid_ns: Option<NamespaceId>,
    /// The user namespace of its root user, when that can be told.
    user_ns: Option<NamespaceId>,
    acts: Result<(), ForeignProcfs>,
    pub(super) hierarchies: Vec<super::cgroup::Hierarchy>,
    /// Mount points of file systems that may keep us waiting; looked up once users' folders are.
    pub(super) remote: OnceLock<HashSet<PathBuf>>,
    /// How much of each user's records was read, in bytes.
    pub(super) spent: Mutex<HashMap<u32, u64>>,
    /// Inits whose file system did not answer.
    silent: Mutex<HashSet<ProcessId>>,
}

/// Turns the kernel's ticks into times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    boot: Timestamp,
    ticks_per_second: u64,
}

impl Clock {
    /// When a process started, from its start time in clock ticks since boot.
    pub(super) fn started(self, start: Ticks) -> Timestamp {
        let nanos = u128::from(start.0) * 1_000_000_000 / u128::from(self.ticks_per_second.max(1));
        let since = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.boot.checked_add(since).unwrap_or(self.boot)
    }

    /// A number of clock ticks as a time.
    pub(super) fn ticks(self, ticks: u64) -> Duration {
        Duration::from_millis(ticks.saturating_mul(1000) / self.ticks_per_second.max(1))
    }
}

/// The variable that says what the host is called.
const NAME: &str = "CINSPECT_HOST";

/// capabilities(7).
const CAP_SYS_ADMIN: u32 = 21;

/// Why nothing may be signalled through this `/proc`: its numbers are not the ones our syscalls take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForeignProcfs {
    /// No procfs is mounted there.
    #[error("`{0}` is not a mounted proc file system")]
    NotProc(String),
    /// It belongs to another PID namespace than ours.
    #[error("`{0}` numbers the processes of another PID namespace than the one cinspect runs in")]
    OtherNamespace(String),
}

impl Host {
    /// The host whose root directory is `root`.
    ///
    /// # Errors
    /// When there is no `/proc` below it that lists processes.
    pub fn new(root: &Path) -> Result<Self, ReadError> {
        let proc = root.join("proc");
        let shown = proc.display().to_string();
        let is_proc = statfs(&proc).is_ok_and(|fs| fs.f_type == PROC_SUPER_MAGIC);
        if !is_proc && !has_processes(&proc) {
            return Err(ReadError::Broken(format!("no processes are listed in `{shown}`")));
        }
        let acts = if !is_proc {
            Err(ForeignProcfs::NotProc(shown))
        } else if own_numbers(&proc) != [std::process::id()] {
            // Our own number there differs, or we are not there at all, or have another one further
            // down: its PIDs are another namespace's, and pidfd_open(2) would take them for ours.
            Err(ForeignProcfs::OtherNamespace(shown))
        } else {
            Ok(())
        };
        let mut host = Self {
            root: root.to_owned(),
            name: String::new(),
            root_uid: match std::fs::metadata(root) {
                Ok(meta) if !is_proc => meta.uid(),
                _ => 0,
            },
            clock: Clock {
                boot: Timestamp::UNIX_EPOCH,
                ticks_per_second: procfs::ticks_per_second(),
            },
            page_size: procfs::page_size(),
            pid_ns: None,
            user_ns: None,
            acts,
            hierarchies: super::cgroup::hierarchies(&root.join("sys/fs/cgroup")),
            remote: OnceLock::new(),
            spent: Mutex::default(),
            silent: Mutex::default(),
            proc,
        };
        host.name = host.read_name(std::env::var_os(NAME));
        host.clock.boot = if is_proc { boot_time() } else { host.recorded_boot_time() };
        host.pid_ns = host.read_own_ns("pid");
        host.user_ns = host.read_own_ns("user");
        Ok(host)
    }

    /// Whether its process numbers are those our syscalls take.
    ///
    /// # Errors
    /// Says why not.
    pub fn may_act(&self) -> Result<(), ForeignProcfs> {
        self.acts.clone()
    }

    /// Whether it is a folder that a host was recorded in, without a kernel behind it.
    pub fn is_recorded(&self) -> bool {
        matches!(self.acts, Err(ForeignProcfs::NotProc(_)))
    }

    /// The directory that stands for `/`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path below its `/proc`.
    pub fn proc_path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.proc.join(below)
    }

    /// A held handle on `/proc/PID`: what is read through it is of one process, and fails with ESRCH
    /// once that has gone, whoever has its number then.
    ///
    /// # Errors
    /// [`ReadError::Gone`] when there is no such process.
    pub fn process(&self, pid: HostPid) -> Result<Process, ReadError> {
        Ok(Process::new_with_root(self.proc.join(pid.to_string()))?)
    }

    /// Every process number in `/proc` now, in no order.
    ///
    /// # Errors
    /// When `/proc` cannot be listed.
    pub fn pids(&self) -> Result<Vec<HostPid>, ReadError> {
        let mut pids = Vec::new();
        for entry in std::fs::read_dir(&self.proc)? {
            let name = entry?.file_name();
            if let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) {
                pids.push(pid);
            }
        }
        Ok(pids)
    }

    /// When a process started, from its start time in clock ticks since boot.
    pub fn started(&self, start: Ticks) -> Timestamp {
        self.clock.started(start)
    }

    /// Whether this `/proc` hides other users' processes from some callers (`hidepid`, proc(5)).
    pub fn hides_processes(&self) -> bool {
        let mountinfo = std::fs::read(self.proc.join("self/mountinfo")).unwrap_or_default();
        let proc = self.proc.as_os_str().as_bytes();
        let last =
            crate::model::mount::Mounts::new(&mountinfo).filter(|m| *m.point == *proc).last();
        last.is_some_and(|mount| {
            mount.super_options.split(|b| *b == b',').any(|option| {
                option.strip_prefix(b"hidepid=").is_some_and(|how| how != b"0" && how != b"off")
            })
        })
    }

    /// Inside a container the kernel tells the container's name for ours, unless it was made with the
    /// host's UTS namespace. So whoever started it may say ([`NAME`]), and then the host's own file does.
    fn read_name(&self, told: Option<OsString>) -> String {
        let told = told.filter(|name| !name.is_empty());
        let recorded = || {
            let file = self.state_file("/etc/hostname").ok()?;
            written_name(&file.bytes).map(|name| OsStr::from_bytes(name).to_owned())
        };
        told.or_else(|| if self.names_us() { None } else { recorded() })
            .or_else(|| nix::unistd::gethostname().ok())
            .map_or_else(|| "localhost".into(), |name| name.to_string_lossy().into_owned())
    }

    /// Whether what the kernel tells us is this host's name (uts_namespaces(7)).
    fn names_us(&self) -> bool {
        let uts = |who| readlinkat(CWD, self.proc.join(who).join("ns/uts"), Vec::new()).ok();
        self.root == Path::new("/")
            || (self.acts.is_ok() && uts("1").is_some_and(|host| uts("self") == Some(host)))
    }

    /// The namespace of our own process is the one `/proc` numbers when we are in it under our own
    /// number; else PID 1 of that `/proc` tells, if we may ask.
    fn read_own_ns(&self, ns: &str) -> Option<NamespaceId> {
        let who = if self.acts.is_ok() { "self" } else { "1" };
        let link = self.proc.join(who).join("ns").join(ns);
        NamespaceId::parse(readlinkat(CWD, link, Vec::new()).ok()?.as_bytes())
    }

    /// Whose word a process is: only who holds all of the host in its hands speaks for root. Root
    /// inside a container has the same uid, and may share the host's PID namespace.
    pub fn trust_of_process(&self, pid: HostPid) -> Trust {
        let read = || -> Result<Trust, ReadError> {
            let handle = self.process(pid)?;
            if self.pid_ns.is_none() || Some(self.pid_ns_of(&handle)?) != self.pid_ns {
                return Ok(Trust::Untrusted);
            }
            let status = super::survey::status(&handle, "status", &mut Vec::new())?;
            let owner = Trust::of(status.uid[0], self.root_uid);
            if owner != Trust::Root {
                return Ok(owner);
            }
            let mighty = status.cap_eff & (1 << CAP_SYS_ADMIN) != 0;
            let ours = Some(super::survey::namespace(&handle, "user")?) == self.user_ns;
            Ok(if mighty && ours { Trust::Root } else { Trust::Untrusted })
        };
        read().unwrap_or(Trust::Untrusted)
    }

    pub(super) fn is_silent(&self, init: ProcessId) -> bool {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).contains(&init)
    }

    pub(super) fn note_silent(&self, init: ProcessId) {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).insert(init);
    }

    fn recorded_boot_time(&self) -> Timestamp {
        let stat = std::fs::read(self.proc.join("stat")).unwrap_or_default();
        stat.split(|b| *b == b'\n')
            .find_map(|line| line.strip_prefix(b"btime "))
            .and_then(|seconds| std::str::from_utf8(seconds).ok()?.trim().parse().ok())
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// Reads a file of `/proc` or of the cgroup tree to its end, at most `limit` bytes; `buffer` is
/// cleared first and its room used again.
///
/// # Errors
/// [`ReadError`], a process that left while it was read being [`ReadError::Gone`].
pub(super) fn read_into(file: File, buffer: &mut Vec<u8>, limit: usize) -> Result<(), ReadError> {
    read(file, buffer, limit, false)
}

/// The same for a file that the kernel writes out in one piece (`stat`, `status`, `cmdline`): a
/// read that does not fill the buffer was the whole of it, and a second one is saved.
pub(super) fn read_at_once(
    file: File,
    buffer: &mut Vec<u8>,
    limit: usize,
) -> Result<(), ReadError> {
    read(file, buffer, limit, true)
}

fn read(
    mut file: File,
    buffer: &mut Vec<u8>,
    limit: usize,
    at_once: bool,
) -> Result<(), ReadError> {
    buffer.clear();
    buffer.resize(buffer.capacity().max(4096).min(limit.max(1)), 0);
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            if filled >= limit {
                break;
            }
            buffer.resize((filled * 2).min(limit), 0);
        }
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => {
                filled += n;
                if at_once && filled < buffer.len() {
                    break;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                buffer.truncate(filled);
                return Err(error.into());
            }
        }
    }
    buffer.truncate(filled);
    Ok(())
}

/// Wall clock less time since boot: what `btime` of `/proc/stat` says, without reading that long file.
fn boot_time() -> Timestamp {
    let since = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    let now = Timestamp::now();
    now.checked_sub(since).unwrap_or(now)
}

/// Our own process in each PID namespace from that of this `/proc` downward.
fn own_numbers(proc: &Path) -> Vec<u32> {
    let status = std::fs::read_to_string(proc.join("self/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    line.map_or_else(Vec::new, |line| {
        line.split_whitespace().filter_map(|number| number.parse().ok()).collect()
    })
}

fn has_processes(proc: &Path) -> bool {
    std::fs::read_dir(proc).is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| is_number(&entry.file_name())))
    })
}

/// The name in a hostname(5): its first line that is neither empty nor a comment.
fn written_name(file: &[u8]) -> Option<&[u8]> {
    let mut lines = file.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    lines.find(|line| !line.is_empty() && !line.starts_with(b"#"))
}

fn is_number(name: &OsStr) -> bool {
    !name.is_empty() && name.as_bytes().iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_hosts_name_is_what_we_are_told_then_what_is_written_below_its_root() {
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
    fn a_host_without_a_written_name_has_the_kernels() {
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
