//! What only the container's own file system tells: the list of its PID namespace (its mounted
//! `/proc`, so that the cost is the container's and not the host's) and the names of its users. All
//! of it is the container's to forge or to make hang. So it is read in a child that is left behind
//! when it does not come back, and each step is opened without reading, its file system looked up in
//! `mountinfo`, and only then used.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use procfs::process::Process as Handle;
use rustix::fs::{
    CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat,
};

use super::host::read_into;
use super::survey::{stat, thread_ids};
use super::{Host, ReadError};
use crate::model::mount::Mounts;
use crate::model::namespace::NamespaceId;
use crate::model::passwd::UserNames;
use crate::model::pid::{HostPid, ProcessId};
use crate::sys;
use crate::sys::isolated::IsolatedChild;

/// File systems of the kernel's own, on which a lookup does not wait for another process by nature.
/// (An overlay may have anything below it.)
const LOCAL: &[&str] = &[
    "bcachefs", "btrfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "squashfs",
    "tmpfs", "vfat", "xfs", "zfs",
];
const MAX_PASSWD: usize = 1 << 20;
const MAX_MOUNTINFO: usize = 16 << 20;
/// PID_MAX_LIMIT (include/linux/threads.h) numbers of four bytes, and the names.
const MAX_ANSWER: usize = (4 << 22) + MAX_PASSWD + 1024;
/// How long the container's file system may take; on a healthy host it takes microseconds.
const PATIENCE: Duration = Duration::from_millis(700);

/// A container's own file system, asked and not heard yet.
#[derive(Debug)]
pub struct ContainerQuery {
    init: ProcessId,
    namespace: Option<NamespaceId>,
    child: Result<IsolatedChild, ReadError>,
    until: Instant,
}

/// What it said.
#[derive(Debug)]
pub struct ContainerFs {
    namespace: Option<(HostPid, NamespaceId)>,
    /// The numbers in its `/proc`, of its own PID namespace.
    pids: Result<Vec<i32>, ReadError>,
    /// The users of the container as its own `/etc/passwd` names them.
    pub names: Result<UserNames, ReadError>,
}

impl Host {
    /// Asks the file system that an init sees: for the processes of its PID namespace, when that is
    /// given, and for the names of its users. The answer can be waited for after other work.
    pub fn ask_inside(&self, init: ProcessId, namespace: Option<NamespaceId>) -> ContainerQuery {
        let until = Instant::now() + PATIENCE;
        let proc = self.proc_path("");
        let child = if self.is_silent(init) {
            Err(silent())
        } else {
            sys::isolated::start(move || answer(&proc, init, namespace))
                .map_err(|errno| ReadError::Broken(format!("cannot look inside: {errno}")))
        };
        ContainerQuery { init, namespace, child, until }
    }
}

impl ContainerQuery {
    /// Waits for the answer, a fraction of a second at the most; a container whose file system did
    /// not answer is not asked again.
    pub fn hear(self, host: &Host) -> ContainerFs {
        let namespace = self.namespace.map(|namespace| (self.init.pid, namespace));
        let heard = self.child.and_then(|child| {
            child.finish(self.until, MAX_ANSWER).ok_or_else(|| {
                host.note_silent(self.init);
                silent()
            })
        });
        match heard {
            Err(error) => ContainerFs { namespace, pids: Err(error.clone()), names: Err(error) },
            Ok(bytes) => {
                let mut rest = bytes.as_slice();
                let pids = unpack(&mut rest).map(|bytes| {
                    let numbers = bytes.chunks_exact(4);
                    numbers.map(|n| i32::from_le_bytes([n[0], n[1], n[2], n[3]])).collect()
                });
                let names = unpack(&mut rest).map(UserNames::parse);
                ContainerFs { namespace, pids, names }
            }
        }
    }
}

impl ContainerFs {
    /// The processes of the PID namespace by their numbers in our `/proc`, but for those that are
    /// `known` by their number inside.
    ///
    /// # Errors
    /// [`ReadError::Denied`] when we may not look inside; [`ReadError::ParseError`] when that `/proc` is
    /// covered or another namespace's, or when the kernel cannot translate (before Linux 6.11): then
    /// only a survey of the host tells.
    pub fn pids(
        &self,
        host: &Host,
        known: &dyn Fn(i32) -> bool,
    ) -> Result<Vec<HostPid>, ReadError> {
        if host.may_act().is_err() {
            return Err(broken("the kernel would answer in another namespace's numbers"));
        }
        let Some((init, namespace)) = self.namespace else {
            return Err(broken("it has no PID namespace of its own"));
        };
        let listed = self.pids.as_ref().map_err(Clone::clone)?;
        let mut new = listed.iter().filter(|pid| !known(**pid)).peekable();
        if new.peek().is_none() {
            return Ok(Vec::new());
        }
        // Of the init that was asked, or of nobody: its number may have changed hands.
        let handle = host.process(init)?;
        let ns = namespace_of(host, &handle)?;
        let is_it = std::fs::File::from(ns.try_clone()?)
            .metadata()
            .is_ok_and(|meta| std::os::unix::fs::MetadataExt::ino(&meta) == namespace.0);
        if !is_it {
            return Err(ReadError::Gone);
        }
        let mut pids = Vec::new();
        for pid in new {
            match sys::namespace::pid_from(&ns, *pid) {
                Ok(found) => pids.extend(HostPid::new(found)),
                Err(nix::errno::Errno::ESRCH) => {}
                Err(error) => {
                    return Err(ReadError::Broken(format!(
                        "ioctl(NS_GET_PID_FROM_PIDNS): {error}"
                    )));
                }
            }
        }
        Ok(pids)
    }
}

/// A main thread that has exited has no namespaces; the others have.
fn namespace_of(host: &Host, handle: &Handle) -> Result<OwnedFd, ReadError> {
    match host.namespace_file(handle, "pid") {
        Err(ReadError::Gone) => thread_ids(handle)?
            .into_iter()
            .find_map(|tid| Some(handle.open_relative(format!("task/{tid}/ns/pid")).ok()?.into()))
            .ok_or(ReadError::Gone),
        other => other,
    }
}

fn broken(why: &str) -> ReadError {
    ReadError::Broken(why.into())
}

fn silent() -> ReadError {
    broken("its file system does not answer")
}

/// The child's whole work: both answers, each with its length before it and how it went.
fn answer(proc: &Path, init: ProcessId, namespace: Option<NamespaceId>) -> Vec<u8> {
    let mut out = Vec::new();
    let view = ContainerAnswer::open(proc, init);
    let of_view = |read: &dyn Fn(&ContainerAnswer) -> Result<Vec<u8>, ReadError>| match &view {
        Ok(view) => read(view),
        Err(error) => Err(error.clone()),
    };
    let pids = match namespace {
        Some(namespace) => of_view(&|view| view.pids(namespace)),
        None => Ok(Vec::new()),
    };
    pack(pids, &mut out);
    pack(of_view(&ContainerAnswer::passwd), &mut out);
    out
}

fn pack(answer: Result<Vec<u8>, ReadError>, out: &mut Vec<u8>) {
    let (tag, bytes) = match answer {
        Ok(bytes) => (0, bytes),
        Err(ReadError::Gone) => (1, Vec::new()),
        Err(ReadError::Denied) => (2, Vec::new()),
        Err(ReadError::Exhausted) => (3, Vec::new()),
        Err(ReadError::Broken(why)) => (4, why.into_bytes()),
    };
    out.push(tag);
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(bytes);
}

fn unpack<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], ReadError> {
    let cut = || broken("the answer is cut off");
    let (head, after) = rest.split_at_checked(5).ok_or_else(cut)?;
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
    let (bytes, after) = after.split_at_checked(length as usize).ok_or_else(cut)?;
    *rest = after;
    match head[0] {
        0 => Ok(bytes),
        1 => Err(ReadError::Gone),
        2 => Err(ReadError::Denied),
        3 => Err(ReadError::Exhausted),
        _ => Err(ReadError::Broken(String::from_utf8_lossy(bytes).into_owned())),
    }
}

/// The root directory of a process and the file systems mounted there.
struct ContainerAnswer {
    root: OwnedFd,
    mountinfo: Vec<u8>,
}

impl ContainerAnswer {
    /// # Errors
    /// [`ReadError::Denied`] when we may not look inside at all: it is from here alone.
    fn open(proc: &Path, init: ProcessId) -> Result<Self, ReadError> {
        let path: PathBuf = proc.join(init.pid.to_string());
        let handle = &Handle::new_with_root(path)?;
        if stat(handle, &mut Vec::new())?.start != init.start {
            return Err(ReadError::Gone);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |base: &str| -> Result<Self, ReadError> {
            let root: OwnedFd = handle.open_relative_flags(format!("{base}root"), flags)?.into();
            let mut mountinfo = Vec::new();
            let file = handle.open_relative(format!("{base}mountinfo"))?;
            read_into(file, &mut mountinfo, MAX_MOUNTINFO)?;
            Ok(Self { root, mountinfo })
        };
        match open("") {
            // A main thread that has exited has no root; the others have.
            Err(ReadError::Gone | ReadError::Broken(_)) => thread_ids(handle)?
                .into_iter()
                .find_map(|tid| open(&format!("task/{tid}/")).ok())
                .ok_or(ReadError::Gone),
            other => other,
        }
    }

    /// The numbers that its `/proc` lists, four bytes each.
    fn pids(&self, namespace: NamespaceId) -> Result<Vec<u8>, ReadError> {
        let list = || -> Result<Vec<u8>, ReadError> {
            let proc = self.step(&self.root, "proc", &["proc"], OFlags::DIRECTORY)?;
            let link = readlinkat(&proc, "1/ns/pid", Vec::new())?;
            if NamespaceId::parse(link.as_bytes()) != Some(namespace) {
                return Err(broken("its /proc is of another PID namespace"));
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let listed = openat(&proc, ".", flags, Mode::empty())?;
            let mut pids = Vec::new();
            for entry in Dir::new(listed)? {
                let entry = entry?;
                let number = entry.file_name().to_str().ok().and_then(|n| n.parse::<i32>().ok());
                pids.extend(number.iter().flat_map(|number| number.to_le_bytes()));
            }
            Ok(pids)
        };
        // What hinders us in there is the container's doing, and no word about our rights.
        list().map_err(|error| match error {
            ReadError::Gone | ReadError::Denied => broken("its /proc is covered"),
            other => other,
        })
    }

    fn passwd(&self) -> Result<Vec<u8>, ReadError> {
        let etc = self.step(&self.root, "etc", LOCAL, OFlags::DIRECTORY)?;
        let passwd = self.step(&etc, "passwd", LOCAL, OFlags::empty())?;
        if FileType::from_raw_mode(fstat(&passwd)?.st_mode) != FileType::RegularFile {
            return Err(broken("/etc/passwd inside is not a regular file"));
        }
        let again = format!("/proc/self/fd/{}", passwd.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = std::fs::File::from(openat(CWD, again, flags, Mode::empty())?);
        let mut bytes = Vec::new();
        read_into(file, &mut bytes, MAX_PASSWD + 1)?;
        if bytes.len() > MAX_PASSWD {
            return Err(broken("/etc/passwd inside is larger than 1 MiB"));
        }
        Ok(bytes)
    }

    /// One name below a directory: no link, no way out, and on one of these file systems.
    fn step(
        &self,
        dir: &OwnedFd,
        name: &str,
        on: &[&str],
        flags: OFlags,
    ) -> Result<OwnedFd, ReadError> {
        if !self.is_on(dir, LOCAL) && !self.is_on(dir, on) {
            return Err(broken("it lies on a file system that may not answer"));
        }
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = openat2(dir, name, flags, Mode::empty(), resolve)?;
        if self.is_on(&found, on) {
            return Ok(found);
        }
        Err(ReadError::Broken(format!("`{name}` inside lies on an unexpected file system")))
    }

    /// The file system is looked up by mount id: asking the descriptor itself (fstatfs) would be a
    /// request to the file system.
    fn is_on(&self, fd: impl AsFd, types: &[&str]) -> bool {
        let info = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
        let Ok(info) = std::fs::read_to_string(info) else { return false };
        let id = info
            .lines()
            .find_map(|line| line.strip_prefix("mnt_id:"))
            .and_then(|id| id.trim().parse().ok());
        Mounts::new(&self.mountinfo).any(|mount| {
            Some(mount.id) == id && types.iter().any(|known| known.as_bytes() == &*mount.fstype)
        })
    }
}
