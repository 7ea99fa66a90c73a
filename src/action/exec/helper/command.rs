//! The child that the container sees, on its way to becoming the command; and whoever waits for it.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::fs::Mode;

use crate::analysis::exec_plan::ExecPlan;
use crate::sys::{process, seccomp};

/// What the child needs.
pub(super) struct PreparedCommand {
    pub(super) command: Vec<Vec<u8>>,
    pub(super) places: Vec<Vec<u8>>,
    pub(super) environment: Vec<Vec<u8>>,
    pub(super) late: Vec<seccomp::Filter>,
}

/// What hindered the command, for the report.
pub(super) fn failed(errno: Errno, there: bool) -> Vec<u8> {
    let mut line = vec![b'E'];
    line.extend((errno as i32).to_ne_bytes());
    line.push(u8::from(there));
    line
}

impl PreparedCommand {
    /// The child, in the container's sight now.
    pub(super) fn become_it(&self, plan: &ExecPlan, mut report: File, mut release: File) -> ! {
        if release.read_exact(&mut [0]).is_err() {
            // Nobody is there any more to say so.
            process::exit_now(125);
        }
        let _ = rustix::process::setsid();
        if plan.terminal.is_some() {
            let _ = rustix::process::ioctl_tiocsctty(rustix::stdio::stdin());
        }
        if plan.own_proc {
            let _ = own_proc();
        }
        if let Some(umask) = plan.surround.as_ref().and_then(|around| around.umask) {
            rustix::process::umask(Mode::from_raw_mode(umask));
        }
        // Without us it is as when a terminal goes away; a program that wants to stay ignores that.
        let death = (!plan.detach).then_some(rustix::process::Signal::HUP);
        let _ = rustix::process::set_parent_process_death_signal(death);
        process::default_signals();
        for filter in &self.late {
            if let Err(errno) = seccomp::load(filter) {
                let _ = report.write_all(&failed(errno, true));
                process::exit_now(125);
            }
        }
        let (errno, there) = self.exec();
        let _ = report.write_all(&failed(errno, there));
        process::exit_now(127)
    }

    /// Why none of the places has it: that of one which is there goes before all others.
    pub(super) fn exec(&self) -> (Errno, bool) {
        let strings = |all: &[Vec<u8>]| -> Vec<CString> {
            all.iter().filter_map(|one| CString::new(one.as_slice()).ok()).collect()
        };
        let (argv, environment) = (strings(&self.command), strings(&self.environment));
        let mut worst = (Errno::ENOENT, false);
        for place in strings(&self.places) {
            let Err(errno) = nix::unistd::execve(&place, &argv, &environment);
            let path = Path::new(OsStr::from_bytes(place.as_bytes()));
            let there = errno != Errno::ENOTDIR && std::fs::symlink_metadata(path).is_ok();
            if there && !worst.1 {
                worst = (errno, true);
            }
        }
        worst
    }
}

pub(super) fn own_proc() -> Result<(), rustix::io::Errno> {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| rustix::io::Errno::from_raw_os_error(e as i32))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount(
        "proc",
        "/proc",
        "proc",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        None,
    )
}

/// Waits for the command, and ends as it did.
pub(super) fn wait_as(child: Pid) -> i32 {
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, status)) => return status,
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                let _ = process::set_limit(4, Some(0), Some(0));
                if signal != Signal::SIGKILL {
                    process::default_signals();
                }
                let _ = raise(signal);
                return 128 + signal as i32;
            }
            Err(Errno::EINTR) | Ok(_) => {}
            Err(_) => return 125,
        }
    }
}
