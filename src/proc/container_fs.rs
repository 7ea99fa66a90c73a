//! Facts that only a container's own file system has: the PIDs in its mounted `/proc` (so that the cost
//! is the container's and not the host's) and the names of its users. The container can forge all of it,
//! or make reading it hang. So it is read in a child that is left behind if it does not return, and each
//! step is opened without reading, its file system looked up in `mountinfo`, and only then used.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{SFlag, fstat};
use procfs::process::Process as Handle;

use super::host::Host;
use super::namespace_root::changed_root;
use super::pid_namespace::pid_namespace;
use super::read::{ReadError, read_into, stat, thread_ids};
use crate::model::mount::Mounts;
use crate::model::namespace::NamespaceId;
use crate::model::passwd::UserNames;
use crate::model::pid::{HostPid, ProcessId};
use crate::sys;
use crate::sys::isolated::IsolatedChild;
use crate::sys::{fd, process_dir};

/// File systems of the kernel itself, on which a lookup does not wait for another process by nature.
/// (An overlay may have anything below it.) And that of a rootless container where the kernel mounts no
/// overlay for users (before Linux 5.13): a reader that hangs there is left behind.
pub(super) const LOCAL: &[&str] = &[
    "bcachefs",
    "btrfs",
    "erofs",
    "ext2",
    "ext3",
    "ext4",
    "f2fs",
    "overlay",
    "ramfs",
    "squashfs",
    "tmpfs",
    "vfat",
    "xfs",
    "zfs",
    FUSE_OVERLAY,
];
/// The type of fuse-overlayfs.
const FUSE_OVERLAY: &str = "fuse.fuse-overlayfs";
const MAX_PASSWD: usize = 1 << 20;
const MAX_MOUNTINFO: usize = 16 << 20;
/// PID_MAX_LIMIT (include/linux/threads.h) PIDs of four bytes, and the names.
const MAX_ANSWER: usize = (4 << 22) + MAX_PASSWD + 1024;
/// Time that the container's file system gets; on a healthy host it takes microseconds.
const TIMEOUT: Duration = Duration::from_millis(700);

/// A request to a container's file system.
#[derive(Debug)]
pub struct ContainerQuery {
    init: ProcessId,
    namespace: Option<NamespaceId>,
    child: Result<IsolatedChild, ReadError>,
    deadline: Instant,
}

/// The answer of a container's file system.
#[derive(Debug)]
pub struct ContainerFs {
    namespace: Option<(HostPid, NamespaceId)>,
    /// PIDs in its `/proc`, of its own PID namespace.
    pids: Result<Vec<i32>, ReadError>,
    /// Users of the container as its own `/etc/passwd` names them.
    pub names: Result<UserNames, ReadError>,
    /// The child that read it, which exits meanwhile.
    _child: Option<IsolatedChild>,
}

impl Host {
    /// Starts to read the file system that an init sees: the processes of its PID namespace, if that is
    /// given, and the names of its users. The answer can be received after other work.
    pub fn query_container_fs(
        &self,
        init: ProcessId,
        namespace: Option<NamespaceId>,
    ) -> ContainerQuery {
        let deadline = Instant::now() + TIMEOUT;
        let proc = self.proc_path("");
        let child = if self.is_unresponsive(init) {
            Err(no_answer())
        } else {
            sys::isolated::start(move || answer(&proc, init, namespace)).map_err(|errno| {
                ReadError::Broken(format!("cannot read in the container: {}", errno.desc()))
            })
        };
        ContainerQuery { init, namespace, child, deadline }
    }

    /// Joins the user namespace of a process as its root: a FUSE file system that was mounted there admits
    /// only processes of it. It cannot be undone, so this is for a child.
    ///
    /// # Errors
    /// [`ReadError::Denied`] without the right to, [`ReadError::Gone`].
    pub fn enter_user_namespace(&self, process: ProcessId) -> Result<(), ReadError> {
        enter_user_namespace(&self.proc_path(""), process)
    }
}

impl ContainerQuery {
    /// Waits for the answer, a fraction of a second at most. A container whose file system did not
    /// answer is not asked again.
    pub fn receive(self, host: &Host) -> ContainerFs {
        let namespace = self.namespace.map(|namespace| (self.init.pid, namespace));
        let received = self.child.and_then(|mut child| {
            let bytes = child.finish(self.deadline, MAX_ANSWER);
            bytes.map(|bytes| (bytes, child)).ok_or_else(|| {
                host.note_unresponsive(self.init);
                no_answer()
            })
        });
        match received {
            Err(error) => {
                let pids = Err(error.clone());
                ContainerFs { namespace, pids, names: Err(error), _child: None }
            }
            Ok((bytes, child)) => {
                let mut rest = bytes.as_slice();
                let pids = unpack(&mut rest).map(|bytes| {
                    let pids = bytes.chunks_exact(4);
                    pids.map(|n| i32::from_le_bytes([n[0], n[1], n[2], n[3]])).collect()
                });
                let names = unpack(&mut rest).map(UserNames::parse);
                ContainerFs { namespace, pids, names, _child: Some(child) }
            }
        }
    }
}

impl ContainerFs {
    /// Returns the host PIDs of the processes in the PID namespace, without those whose PID in the
    /// container is `known`.
    ///
    /// # Errors
    /// [`ReadError::Denied`] without the right to read in the container; [`ReadError::Broken`] if its
    /// `/proc` is hidden by a mount or another namespace's, or if the kernel cannot translate PIDs
    /// (before Linux 6.11): then only a survey of the host has them.
    pub fn pids(
        &self,
        host: &Host,
        known: &dyn Fn(i32) -> bool,
    ) -> Result<Vec<HostPid>, ReadError> {
        if host.may_act().is_err() {
            return Err(broken("the kernel would answer with PIDs of another namespace"));
        }
        let Some((init, namespace)) = self.namespace else {
            return Err(broken("its PID namespace is not private"));
        };
        let listed = self.pids.as_ref().map_err(Clone::clone)?;
        let mut unknown = listed.iter().filter(|pid| !known(**pid)).peekable();
        if unknown.peek().is_none() {
            return Ok(Vec::new());
        }
        let ns = pid_namespace(host, init, namespace)?;
        let mut pids = Vec::new();
        for pid in unknown {
            match sys::namespace::pid_from(&ns, *pid) {
                Ok(found) => pids.extend(HostPid::new(found)),
                Err(Errno::ESRCH) => {}
                Err(errno) => {
                    let call = "ioctl(NS_GET_PID_FROM_PIDNS)";
                    return Err(ReadError::Broken(format!("{call}: {}", errno.desc())));
                }
            }
        }
        Ok(pids)
    }
}

fn broken(why: &str) -> ReadError {
    ReadError::Broken(why.into())
}

fn no_answer() -> ReadError {
    broken("its file system does not respond")
}

/// Reads both answers, in the child, and packs them.
fn answer(proc: &Path, init: ProcessId, namespace: Option<NamespaceId>) -> Vec<u8> {
    let mut out = Vec::new();
    let root = ContainerRoot::of_container(proc, init);
    let root = root.as_ref().map_err(Clone::clone);
    if root.as_ref().is_ok_and(|root| root.is_fuse()) {
        // (In our own user namespace there is nothing to join.)
        let _ = enter_user_namespace(proc, init);
    }
    let pids = match namespace {
        Some(namespace) => root.clone().and_then(|root| root.pids(namespace)),
        None => Ok(Vec::new()),
    };
    pack(pids, &mut out);
    pack(root.and_then(ContainerRoot::passwd), &mut out);
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
    let cut = || broken("the answer is truncated");
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

/// Joins the user namespace of a process as its root: without that, a FUSE file system that was mounted in
/// it denies access to everyone, even to the host's root (`fuse_allow_current_process`, fs/fuse/dir.c; without a
/// number for the caller there `fuse_get_req`, fs/fuse/dev.c, fails). It cannot be undone: for a child.
pub(super) fn enter_user_namespace(proc: &Path, process: ProcessId) -> Result<(), ReadError> {
    let handle = Handle::new_with_root(proc.join(process.pid.to_string()))?;
    let namespace = handle.open_relative("ns/user")?;
    if stat(&handle, &mut Vec::new())?.start != process.start {
        return Err(ReadError::Gone);
    }
    Ok(sys::namespace::become_root_of(namespace)?)
}

/// The root directory of a process and the file systems mounted there.
pub(super) struct ContainerRoot {
    pub(super) root: ContainerPlace,
    mountinfo: Vec<u8>,
}

/// A file of a container that was opened without reading it.
pub(super) struct ContainerPlace {
    pub(super) fd: OwnedFd,
    /// The type of its file system; none if it is on none of the mounts.
    fstype: Option<Vec<u8>>,
}

impl ContainerPlace {
    /// Finds the file system of an open file, by its mount ID.
    fn new(fd: OwnedFd, mountinfo: &[u8]) -> Self {
        let id = fd::mount_id(&fd);
        let mount = id.and_then(|id| Mounts::new(mountinfo).find(|mount| mount.id == id));
        Self { fd, fstype: mount.map(|mount| mount.fstype.to_vec()) }
    }

    /// Whether it is on a file system of one of these types.
    fn is_on(&self, types: &[&str]) -> bool {
        let fstype = self.fstype.as_deref();
        fstype.is_some_and(|fstype| types.iter().any(|known| known.as_bytes() == fstype))
    }
}

impl ContainerRoot {
    /// Opens the root directory of a process, with its mounts.
    ///
    /// # Errors
    /// [`ReadError::Denied`] without the right to read in the container: that comes from here alone.
    pub(super) fn open(proc: &Path, init: ProcessId) -> Result<Self, ReadError> {
        Self::open_with_parent(proc, init).map(|(root, _)| root)
    }

    /// Opens the root directory of a process, and returns the PID of its parent.
    fn open_with_parent(proc: &Path, init: ProcessId) -> Result<(Self, i32), ReadError> {
        let handle = &Handle::new_with_root(proc.join(init.pid.to_string()))?;
        let stat = stat(handle, &mut Vec::new())?;
        if stat.start != init.start {
            return Err(ReadError::Gone);
        }
        let open = |base: &str| -> Result<Self, ReadError> {
            let root = process_dir::open_place(handle, format!("{base}root"))?;
            let mut mountinfo = Vec::new();
            let file = handle.open_relative(format!("{base}mountinfo"))?;
            read_into(file, &mut mountinfo, MAX_MOUNTINFO)?;
            Ok(Self { root: ContainerPlace::new(root, &mountinfo), mountinfo })
        };
        let root = match open("") {
            // A main thread that has exited has no root; the others have.
            Err(ReadError::Gone | ReadError::Broken(_)) => thread_ids(handle)?
                .into_iter()
                .find_map(|tid| open(&format!("task/{tid}/")).ok())
                .ok_or(ReadError::Gone),
            other => other,
        };
        Ok((root?, stat.ppid))
    }

    /// Opens the root of the container, which its init may have changed for itself.
    ///
    /// # Errors
    /// As [`Self::open`].
    fn of_container(proc: &Path, init: ProcessId) -> Result<Self, ReadError> {
        let (current_root, parent) = Self::open_with_parent(proc, init)?;
        let process = fd::open(&proc.join(init.pid.to_string()), OFlag::O_PATH)?;
        let Some(found) = changed_root(proc, &process, parent) else { return Ok(current_root) };
        let mut mountinfo = Vec::new();
        read_into(found.mountinfo.into(), &mut mountinfo, MAX_MOUNTINFO)?;
        Ok(Self { root: ContainerPlace::new(found.root, &mountinfo), mountinfo })
    }

    /// Lists the PIDs in its `/proc`, four bytes each.
    fn pids(&self, namespace: NamespaceId) -> Result<Vec<u8>, ReadError> {
        let list = || -> Result<Vec<u8>, ReadError> {
            let proc = self.step(&self.root, "proc", &["proc"], OFlag::O_DIRECTORY)?.fd;
            let link = readlinkat(&proc, "1/ns/pid")?;
            if NamespaceId::parse(link.as_bytes()) != Some(namespace) {
                return Err(broken("its /proc is of another PID namespace"));
            }
            let mut pids = Vec::new();
            for entry in fd::list(&proc)?.iter() {
                let entry = entry?;
                let pid = entry.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok());
                pids.extend(pid.iter().flat_map(|pid| pid.to_le_bytes()));
            }
            Ok(pids)
        };
        // An error in there is caused by the container, and not by a lack of rights.
        list().map_err(|error| match error {
            ReadError::Gone | ReadError::Denied => broken("its /proc is hidden by a mount"),
            other => other,
        })
    }

    fn passwd(&self) -> Result<Vec<u8>, ReadError> {
        let etc = self.step(&self.root, "etc", LOCAL, OFlag::O_DIRECTORY)?;
        let passwd = self.step(&etc, "passwd", LOCAL, OFlag::empty())?.fd;
        if fd::file_type(&fstat(&passwd)?) != SFlag::S_IFREG {
            return Err(broken("/etc/passwd in the container is not a regular file"));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let mut bytes = Vec::new();
        read_into(fd::reopen(&passwd, flags)?.into(), &mut bytes, MAX_PASSWD + 1)?;
        if bytes.len() > MAX_PASSWD {
            return Err(broken("/etc/passwd in the container is larger than 1 MiB"));
        }
        Ok(bytes)
    }

    /// Opens one name below a directory: not a link, not above it, and on one of these file systems. (One
    /// name takes no openat2(2), which is of Linux 5.6.)
    pub(super) fn step(
        &self,
        dir: &ContainerPlace,
        name: &str,
        types: &[&str],
        flags: OFlag,
    ) -> Result<ContainerPlace, ReadError> {
        if !dir.is_on(LOCAL) && !dir.is_on(types) {
            return Err(broken("it is on a file system that may not respond"));
        }
        if name.contains('/') || name == ".." {
            return Err(broken("it is not one name below a directory"));
        }
        let found = fd::open_at(&dir.fd, name, flags | OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        let found = self.place(found);
        if found.is_on(types) {
            return Ok(found);
        }
        Err(ReadError::Broken(format!("`{name}` in the container is on an unexpected file system")))
    }

    /// Returns an open file as a place of this container.
    pub(super) fn place(&self, fd: OwnedFd) -> ContainerPlace {
        ContainerPlace::new(fd, &self.mountinfo)
    }

    /// Whether the root is a FUSE file system, which requires its user namespace.
    pub(super) fn is_fuse(&self) -> bool {
        self.root.is_on(&[FUSE_OVERLAY])
    }
}
