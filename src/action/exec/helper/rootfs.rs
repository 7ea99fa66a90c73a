//! The container's files: looked up beneath its root and opened without reading first. These are its
//! passwd and group files, the working directory, and a terminal.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{SFlag, fstat, major, minor};
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::{chdir, chroot, fchdir};

use crate::action::exec::errors::{cannot, failure};
use crate::action::exec::events::{Attribute, ExecEvent, ExecReporter};
use crate::analysis::exec_plan::ExecPlan;
use crate::analysis::user::{Identity, UserOrGroup, add_groups, identify};
use crate::error::{Error, os_error};
use crate::model::account::AccountEntry;
use crate::model::bytes::message_text;
use crate::sys::fd::{file_type, open, open_at};
use crate::sys::{process, terminal};

/// Larger passwd and group files are not read.
const MAX_ACCOUNTS: u64 = 1 << 20;
/// DEVPTS_SUPER_MAGIC, linux/magic.h.
const DEVPTS: i64 = 0x1cd1;

/// The container's root directory, and the host's `/proc`.
#[derive(Clone, Copy)]
pub struct TargetRoot<'a> {
    /// The root directory.
    pub root: &'a OwnedFd,
    /// The host's `/proc`.
    pub proc: &'a OwnedFd,
}

/// Returns the root of the mount namespace that was joined, if it is not the target's and is the
/// container's: a process that has called chroot(2) has not changed the container. (setns(2) changes the
/// root to that of the namespace.) A container that was made by chroot(2) is in a copy of the host's
/// mounts, and keeps the target's.
///
/// # Errors
/// If it could not be opened.
pub fn namespace_root(
    target: &OwnedFd,
    plan: &ExecPlan,
    reporter: &mut ExecReporter<'_>,
) -> Result<Option<OwnedFd>, Error> {
    let joins_mounts = plan.join.iter().any(|name| name == "mnt");
    if !plan.in_container_root || !joins_mounts || plan.keeps_targets_root {
        return Ok(None);
    }
    let identity = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    let find = || -> Result<Option<OwnedFd>, Errno> {
        let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        let found = identity(&root)?;
        let is_containers = found != identity(target)? && !plan.foreign_roots.contains(&found);
        Ok(is_containers.then_some(root))
    };
    let root = find().map_err(cannot("cannot open the container's root"))?;
    if root.is_some() {
        reporter.report(ExecEvent::NamespaceRoot);
    }
    Ok(root)
}

impl TargetRoot<'_> {
    /// Makes it this process's root, if that is in the plan.
    pub fn enter(self, plan: &ExecPlan) -> Result<(), Error> {
        if !plan.in_container_root {
            return Ok(());
        }
        fchdir(self.root)
            .and_then(|()| chroot("."))
            .map_err(cannot("cannot change to the container's root"))
    }

    /// Opens a file of this type beneath the root, as a path only: opening a FIFO or a device could
    /// block.
    pub fn open_beneath(self, path: &[u8], kind: SFlag) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags).resolve(resolve);
        let mut tries = 0;
        let file = loop {
            match openat2(self.root, path, how) {
                // A directory above was renamed meanwhile.
                Err(Errno::EAGAIN) if tries < 128 => tries += 1,
                // Before Linux 5.6. This process's root is the container's: no path leads out of it.
                Err(Errno::ENOSYS) => {
                    let relative = path.strip_prefix(b"/").unwrap_or(path);
                    break open_at(self.root, relative, flags | OFlag::O_NOFOLLOW)?;
                }
                result => break result?,
            }
        };
        match file_type(&fstat(&file)?) == kind {
            true => Ok(file),
            false if kind == SFlag::S_IFDIR => Err(Errno::ENOTDIR),
            false => Err(Errno::ENOTSUP),
        }
    }

    /// Opens a file again that was opened as a path only.
    pub fn reopen(self, file: &OwnedFd, flags: OFlag) -> Result<OwnedFd, Errno> {
        let path = format!("self/fd/{}", file.as_raw_fd());
        open_at(self.proc, path.as_str(), flags)
    }

    /// Reads a file of users or groups; empty if there is none that can be read.
    ///
    /// # Errors
    /// The file is too large: a part of it could lack a user, or end in a line that is cut off.
    fn read_accounts(self, path: &str) -> Result<Vec<u8>, String> {
        let read = || -> std::io::Result<Vec<u8>> {
            let file = self.open_beneath(path.as_bytes(), SFlag::S_IFREG)?;
            let flags = OFlag::O_RDONLY | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
            let mut bytes = Vec::new();
            File::from(self.reopen(&file, flags)?)
                .take(MAX_ACCOUNTS + 1)
                .read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().unwrap_or_default();
        let is_whole = bytes.len() as u64 <= MAX_ACCOUNTS;
        is_whole.then_some(bytes).ok_or_else(|| format!("its /{path} is larger than 1 MiB"))
    }

    /// Looks the command's user up.
    pub fn identity(self, plan: &ExecPlan) -> Result<Identity, Error> {
        let (mut passwd, mut group) = (Ok(Vec::new()), Ok(Vec::new()));
        let user = plan.user.as_ref();
        if plan.in_container_root {
            passwd = self.read_accounts("etc/passwd");
            if user.is_some() {
                group = self.read_accounts("etc/group");
            }
        }
        let unread = passwd.as_ref().err().or(group.as_ref().err()).cloned();
        let (passwd, group) = (passwd.unwrap_or_default(), group.unwrap_or_default());
        let mut identity = identify(user, &plan.ids, &passwd, &group).map_err(|cause| {
            let error = match unread {
                Some(reason) => failure("cannot look the user up").cause(reason),
                None => failure("no such user").cause(cause),
            };
            error.hint("numeric IDs work without /etc/passwd")
        })?;
        // The target has them already.
        if user.is_some() {
            let primary = plan.adds_primary_group.then_some(UserOrGroup::Id(identity.ids.gid));
            let added: Vec<_> = plan.added_groups.iter().cloned().chain(primary).collect();
            add_groups(&mut identity.ids, &added, &group).map_err(|cause| {
                failure("cannot add the groups that its engine adds to every user").cause(cause)
            })?;
        }
        Ok(identity)
    }

    /// Changes to the working directory that was asked for, or to the recorded one, or to the target's.
    pub fn change_directory(
        self,
        plan: &ExecPlan,
        targets: &OwnedFd,
        reporter: &mut ExecReporter<'_>,
    ) -> Result<(), Error> {
        if let Some(path) = &plan.workdir {
            let changed = match plan.in_container_root {
                true => self.change_directory_beneath(path),
                false => chdir(path.as_slice()),
            };
            let text = message_text(path);
            return changed.map_err(cannot(format!("cannot change directory to `{text}`")));
        }
        // The host's tools start in the host's root.
        let fall_back = || chdir("/").map_err(cannot("cannot change directory to `/`"));
        if !plan.in_container_root {
            return fall_back();
        }
        let cause = match &plan.recorded_workdir {
            Some(path) => self
                .change_directory_beneath(path)
                .err()
                .map(|errno| format!("`{}`: {}", message_text(path), os_error(errno))),
            None => fchdir(targets).and_then(|()| is_within_root()).err().map(|_| {
                match fstat(targets).is_ok_and(|stat| stat.st_nlink == 0) {
                    true => "it has been deleted".into(),
                    false => "it is outside the container's root".into(),
                }
            }),
        };
        match cause {
            None => Ok(()),
            Some(cause) => {
                fall_back()?;
                let attribute = Attribute::Workdir.to_string();
                let entry = AccountEntry::lost(attribute, cause + "; the command starts in `/`");
                reporter.deviation(entry.hint("`-w DIR` chooses another"))
            }
        }
    }

    fn change_directory_beneath(self, path: &[u8]) -> Result<(), Errno> {
        let directory = self.open_beneath(path, SFlag::S_IFDIR)?;
        fchdir(&directory).and_then(|()| is_within_root())
    }

    /// Checks that a proc file system is mounted in the container, by which the tools start themselves
    /// again (`/proc/self/exe`).
    pub fn check_proc(self, reporter: &mut ExecReporter<'_>) -> Result<(), Error> {
        let proc = self.open_beneath(b"proc", SFlag::S_IFDIR);
        let is_proc = proc.and_then(|proc| fstatfs(&proc));
        if is_proc.is_ok_and(|fs| fs.filesystem_type() == PROC_SUPER_MAGIC) {
            return Ok(());
        }
        let cause =
            "the container has no /proc, through which they start each other: some cannot be run";
        reporter.deviation(AccountEntry::lost("tools", cause))
    }

    /// Opens a terminal by the container's `/dev/pts/ptmx`, which has to be the kernel's: the master and
    /// the command's end.
    pub fn open_terminal(self) -> Result<(OwnedFd, OwnedFd), Errno> {
        let ptmx = self.open_beneath(b"dev/pts/ptmx", SFlag::S_IFCHR)?;
        let device = fstat(&ptmx)?.st_rdev;
        let is_kernels = (major(device), minor(device)) == (5, 2)
            && fstatfs(&ptmx)?.filesystem_type() == FsType(DEVPTS as _);
        if !is_kernels {
            return Err(Errno::ENOTTY);
        }
        let master = self.reopen(&ptmx, OFlag::O_RDWR | OFlag::O_NOCTTY)?;
        let peer = terminal::unlock_and_open_peer(&master)?;
        Ok((master, peer))
    }
}

/// Checks that the working directory is within the root (CVE-2024-21626).
fn is_within_root() -> Result<(), Errno> {
    if process::has_reachable_cwd() { Ok(()) } else { Err(Errno::ENOENT) }
}
