//! What lies inside, looked up beneath the container's root and opened without reading first: the files
//! of its users, the working directory, a terminal.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::unistd::{Uid, dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};

use super::super::protocol::{self, HelperError, HelperMessage};
use super::{Helper, read_only};
use crate::analysis::exec_plan::{ExecPlan, Identity, identify};

/// Larger files of users are not read.
const MAX_ACCOUNTS: u64 = 1 << 20;

impl Helper {
    /// A file beneath the root, of this type, opened without reading first: what is not a file may
    /// keep whoever opens it waiting.
    pub(super) fn beneath(
        &self,
        path: &[u8],
        kind: FileType,
    ) -> Result<OwnedFd, rustix::io::Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let mut tries = 0;
        let found = loop {
            match openat2(&self.root, path, flags, Mode::empty(), resolve) {
                // Something above was renamed meanwhile.
                Err(rustix::io::Errno::AGAIN) if tries < 128 => tries += 1,
                // Before Linux 5.6. The root is ours by now: nothing leads out of it.
                Err(rustix::io::Errno::NOSYS) => {
                    let from: &[u8] = path.strip_prefix(b"/").unwrap_or(path);
                    break openat(&self.root, from, flags | OFlags::NOFOLLOW, Mode::empty())?;
                }
                other => break other?,
            }
        };
        if FileType::from_raw_mode(fstat(&found)?.st_mode) != kind {
            return Err(rustix::io::Errno::NOTSUP);
        }
        Ok(found)
    }

    /// The same file, open for more than its place.
    pub(super) fn again(
        &self,
        found: &OwnedFd,
        flags: OFlags,
    ) -> Result<OwnedFd, rustix::io::Errno> {
        let path = format!("self/fd/{}", found.as_raw_fd());
        openat(&self.proc, path, flags | OFlags::CLOEXEC, Mode::empty())
    }

    pub(super) fn accounts(&self, path: &str) -> Vec<u8> {
        let read = || -> std::io::Result<Vec<u8>> {
            let found = self.beneath(path.as_bytes(), FileType::RegularFile)?;
            let file = File::from(self.again(&found, read_only())?);
            let mut bytes = Vec::new();
            file.take(MAX_ACCOUNTS + 1).read_to_end(&mut bytes)?;
            // A line that is cut off would be another one.
            if bytes.len() as u64 > MAX_ACCOUNTS { Ok(Vec::new()) } else { Ok(bytes) }
        };
        read().unwrap_or_default()
    }

    pub(super) fn identity(&self, plan: &ExecPlan) -> Result<Identity, HelperError> {
        let (mut passwd, mut group) = (Vec::new(), Vec::new());
        if plan.inside {
            passwd = self.accounts("etc/passwd");
            group = if plan.user.is_some() { self.accounts("etc/group") } else { Vec::new() };
        }
        identify(plan.user.as_ref(), &plan.ids, &passwd, &group)
            .map_err(|why| HelperError::new("no such user", why).hint("a number needs no file"))
    }

    pub(super) fn workdir(&self, plan: &ExecPlan) -> Result<(), HelperError> {
        let Some(asked) = &plan.workdir else {
            if !plan.inside {
                // The host's tools begin at the host's root.
                return rustix::process::chdir("/").map_err(|e| HelperError::new("no root", e));
            }
            let set = rustix::process::fchdir(&self.workdir).and_then(|()| within());
            if set.is_err() {
                self.lacks(plan, "its working directory", "it lies outside of its root")?;
                rustix::process::chdir("/").map_err(|e| HelperError::new("no root", e))?;
            }
            return Ok(());
        };
        let what = || format!("cannot begin in `{}`", String::from_utf8_lossy(asked));
        let set = if plan.inside {
            let found = self.beneath(asked, FileType::Directory);
            found.and_then(rustix::process::fchdir).and_then(|()| within())
        } else {
            rustix::process::chdir(asked.as_slice())
        };
        set.map_err(|errno| match errno {
            rustix::io::Errno::NOTSUP => HelperError::new(what(), "it is no directory"),
            errno => HelperError::new(what(), errno),
        })
    }

    /// A terminal of the container's own, so that it has a name there; the host's where it has none.
    pub(super) fn terminal(&self, plan: &ExecPlan, identity: &Identity) -> Result<(), HelperError> {
        let made = if plan.inside { self.inside_terminal() } else { Err(rustix::io::Errno::NOENT) };
        let slave = match made {
            Ok((master, slave)) => {
                protocol::tell(&self.socket, &HelperMessage::Terminal, Some(master.as_fd()))
                    .map_err(|error| HelperError::new("cannot hand over the terminal", error))?;
                slave
            }
            Err(errno) => {
                if plan.inside {
                    self.lacks(
                        plan,
                        "the name of its terminal",
                        format!(
                            "the container has no devpts of its own ({errno}), so `tty` finds none"
                        ),
                    )?;
                }
                let own = self.terminal.as_ref().map(OwnedFd::try_clone).and_then(Result::ok);
                own.ok_or_else(|| HelperError::new("no terminal", errno))?
            }
        };
        let (uid, mode) = (Uid::from_raw(identity.ids.uid), Mode::from_raw_mode(0o620));
        // The host's may belong to somebody who is nobody inside.
        let _ = nix::unistd::fchown(&slave, Some(uid), None);
        let _ = rustix::fs::fchmod(&slave, mode);
        dup2_stdin(&slave)
            .and_then(|()| dup2_stdout(&slave))
            .and_then(|()| dup2_stderr(&slave))
            .map_err(|errno| HelperError::new("no terminal", errno))
    }

    /// By its `/dev/pts/ptmx`, which has to be the kernel's.
    pub(super) fn inside_terminal(&self) -> Result<(OwnedFd, OwnedFd), rustix::io::Errno> {
        const DEVPTS: rustix::fs::FsWord = 0x1cd1;
        let found = self.beneath(b"dev/pts/ptmx", FileType::CharacterDevice)?;
        let device = fstat(&found)?.st_rdev;
        let is_it = (rustix::fs::major(device), rustix::fs::minor(device)) == (5, 2)
            && rustix::fs::fstatfs(&found)?.f_type == DEVPTS;
        if !is_it {
            return Err(rustix::io::Errno::NOTTY);
        }
        let master = self.again(&found, OFlags::RDWR | OFlags::NOCTTY)?;
        rustix::pty::unlockpt(&master)?;
        let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
        let slave =
            rustix::pty::ioctl_tiocgptpeer(&master, flags | rustix::pty::OpenptFlags::CLOEXEC)?;
        Ok((master, slave))
    }
}

/// Whether the working directory is within our root (CVE-2024-21626).
fn within() -> Result<(), rustix::io::Errno> {
    let path = rustix::process::getcwd(Vec::new())?;
    if path.as_bytes().starts_with(b"/") { Ok(()) } else { Err(rustix::io::Errno::NOENT) }
}
