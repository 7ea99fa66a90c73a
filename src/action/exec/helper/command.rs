//! The child that the container sees, on its way to becoming the command; and the helper's wait for it.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{Signal, raise};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, execve, setsid};

use crate::action::exec::protocol::ChildReport;
use crate::analysis::exec_plan::ExecPlan;
use crate::sys::{process, seccomp, terminal};

/// getrlimit(2); libc's type of it depends on the C library.
const RLIMIT_CORE: u32 = 4;

/// Everything that the child needs.
pub struct PreparedCommand {
    /// The command with its arguments.
    pub command: Vec<Vec<u8>>,
    /// Paths to try.
    pub paths: Vec<Vec<u8>>,
    /// `NAME=VALUE` each.
    pub environment: Vec<Vec<u8>>,
    /// Seccomp filters to load last.
    pub filters: Vec<seccomp::Filter>,
}

impl PreparedCommand {
    /// Becomes the command. The container sees this process already.
    pub fn exec_command(&self, plan: &ExecPlan, report: File, mut release: File) -> ! {
        if release.read_exact(&mut [0]).is_err() {
            // cinspect has exited, and nothing reads the report.
            process::exit_now(125);
        }
        let _ = setsid();
        if plan.terminal.is_some() {
            let _ = terminal::set_controlling(std::io::stdin());
        }
        if plan.mount_proc {
            let _ = mount_proc();
        }
        if let Some(mask) = plan.attributes.as_ref().and_then(|attributes| attributes.umask) {
            umask(Mode::from_bits_truncate(mask));
        }
        // When the helper dies it is as if a terminal was closed; a program that wants to stay ignores
        // SIGHUP.
        let _ = prctl::set_pdeathsig((!plan.detach).then_some(Signal::SIGHUP));
        process::default_signals();
        for filter in &self.filters {
            if let Err(errno) = seccomp::load(filter) {
                ChildReport::Failed { errno, found: true }.write(&report);
                process::exit_now(125);
            }
        }
        let (errno, found) = self.exec();
        ChildReport::Failed { errno, found }.write(&report);
        process::exit_now(127)
    }

    /// Tries each path. Returns why none could be run, and whether one exists: its error has priority.
    fn exec(&self) -> (Errno, bool) {
        let strings = |values: &[Vec<u8>]| -> Vec<CString> {
            values.iter().filter_map(|value| CString::new(value.as_slice()).ok()).collect()
        };
        let (argv, environment) = (strings(&self.command), strings(&self.environment));
        let mut failure = (Errno::ENOENT, false);
        for path in strings(&self.paths) {
            let Err(errno) = execve(&path, &argv, &environment);
            let file = Path::new(OsStr::from_bytes(path.as_bytes()));
            let found = errno != Errno::ENOTDIR && std::fs::symlink_metadata(file).is_ok();
            if found && !failure.1 {
                failure = (errno, true);
            }
        }
        failure
    }
}

/// Mounts a `/proc` of the PID namespace, in a mount namespace of its own that no change leaves.
fn mount_proc() -> Result<(), Errno> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NONE)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, NONE)
}

/// Waits for the command, and exits as it did: returns its status, or dies by the same signal (without a
/// core of its own).
pub fn exit_like(child: Pid) -> i32 {
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, status)) => return status,
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                let _ = process::set_limit(RLIMIT_CORE, Some(0), Some(0));
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
