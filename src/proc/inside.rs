//! What only the container's own file system tells: the list of its PID namespace (its mounted
//! `/proc`, so that the cost is the container's and not the host's) and the names of its users. All
//! of it is the container's to forge or to make hang, so each step is opened without reading, its
//! file system looked up in `mountinfo`, and only then used.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use procfs::process::Process as Handle;
use rustix::fs::{
    CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat,
};

use super::host::read_into;
use super::survey::thread_ids;
use super::{Host, ReadError};
use crate::model::mount::Mounts;
use crate::model::namespace::NamespaceId;
use crate::model::passwd::Names;
use crate::model::pid::HostPid;
use crate::sys;

/// File systems of the kernel's own, on which a lookup does not wait for another process. FUSE and
/// network file systems are not among them: a container that owns one can make us wait for ever.
const LOCAL: &[&str] = &[
    "bcachefs", "btrfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "squashfs",
    "tmpfs", "vfat", "xfs", "zfs",
];
const MAX_PASSWD: usize = 1 << 20;
const MAX_MOUNTINFO: usize = 16 << 20;

/// The processes of a PID namespace by their numbers in our `/proc`, as far as the mounted `/proc`
/// of its init lists them; `known` gives what is known already, by number inside.
///
/// # Errors
/// [`ReadError::Denied`] when we may not look inside; [`ReadError::Broken`] when that `/proc` is
/// covered or another namespace's, or when the kernel cannot translate (before Linux 6.11): then
/// only a survey of the host tells.
pub fn inside_pids(
    host: &Host,
    init: HostPid,
    namespace: NamespaceId,
    known: &dyn Fn(i32) -> bool,
) -> Result<Vec<HostPid>, ReadError> {
    if host.may_act().is_err() {
        return Err(ReadError::Broken(
            "the kernel would answer in another namespace's numbers".into(),
        ));
    }
    let handle = host.process(init)?;
    let inside = Inside::open(&handle)?;
    let proc = inside.step(&inside.root, "proc", &["proc"], OFlags::DIRECTORY)?;
    let link = readlinkat(&proc, "1/ns/pid", Vec::new())?;
    if NamespaceId::parse(link.as_bytes()) != Some(namespace) {
        return Err(ReadError::Broken("its /proc is of another PID namespace".into()));
    }
    let ns = match host.namespace_file(&handle, "pid") {
        Err(ReadError::Gone) => proc_namespace(&proc)?,
        other => other?,
    };
    let listed = openat(&proc, ".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    let mut pids = Vec::new();
    for entry in Dir::new(listed)? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().ok().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if known(pid) {
            continue;
        }
        match sys::namespace::pid_from(&ns, pid) {
            Ok(found) => pids.extend(HostPid::new(found)),
            Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => {
                return Err(ReadError::Broken(format!("ioctl(NS_GET_PID_FROM_PIDNS): {error}")));
            }
        }
    }
    Ok(pids)
}

/// The users of a container as its own `/etc/passwd` names them, read as bytes of a stranger.
///
/// # Errors
/// [`ReadError`] when there is none, we may not look, or it lies where reading might hang.
pub fn inside_names(host: &Host, init: HostPid) -> Result<Names, ReadError> {
    let inside = Inside::open(&host.process(init)?)?;
    let etc = inside.step(&inside.root, "etc", LOCAL, OFlags::DIRECTORY)?;
    let passwd = inside.step(&etc, "passwd", LOCAL, OFlags::empty())?;
    if FileType::from_raw_mode(fstat(&passwd)?.st_mode) != FileType::RegularFile {
        return Err(ReadError::Broken("/etc/passwd inside is not a regular file".into()));
    }
    let again = format!("/proc/self/fd/{}", passwd.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = std::fs::File::from(openat(CWD, again, flags, Mode::empty())?);
    let mut bytes = Vec::new();
    read_into(file, &mut bytes, MAX_PASSWD + 1)?;
    if bytes.len() > MAX_PASSWD {
        return Err(ReadError::Broken("/etc/passwd inside is larger than 1 MiB".into()));
    }
    Ok(Names::parse(&bytes))
}

/// The root directory of a process and the file systems mounted there.
struct Inside {
    root: OwnedFd,
    mountinfo: Vec<u8>,
}

impl Inside {
    fn open(handle: &Handle) -> Result<Self, ReadError> {
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

    /// One name below a directory: no link, no way out, and on one of these file systems.
    fn step(
        &self,
        dir: &OwnedFd,
        name: &str,
        on: &[&str],
        flags: OFlags,
    ) -> Result<OwnedFd, ReadError> {
        if !self.is_on(dir, LOCAL) && !self.is_on(dir, on) {
            return Err(ReadError::Broken("it lies on a file system that may not answer".into()));
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

fn proc_namespace(proc: &OwnedFd) -> Result<OwnedFd, ReadError> {
    for tid in Dir::new(openat(proc, "1/task", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?)?
    {
        let name = tid?;
        let Ok(name) = name.file_name().to_str() else { continue };
        let path = format!("1/task/{name}/ns/pid");
        if let Ok(fd) = openat(proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            return Ok(fd);
        }
    }
    Err(ReadError::Gone)
}
