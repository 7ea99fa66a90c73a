//! The child that the container sees, on its way to becoming the command.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::mount::{MsFlags, mount};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{execve, execveat, setsid};

use super::host_view::own_mounts;
use crate::action::exec::protocol::ChildReport;
use crate::analysis::exec_plan::ExecPlan;
use crate::sys::{fd, process, seccomp, terminal};

/// A path to try, and the arguments for it.
pub struct Attempt {
    /// The path.
    pub path: Vec<u8>,
    /// The command's name and its arguments.
    pub argv: Vec<Vec<u8>>,
}

/// Everything that the child needs.
pub struct PreparedCommand {
    /// The paths to try, in this order.
    pub attempts: Vec<Attempt>,
    /// Whether they are shells: each that cannot be run is reported.
    pub is_shell: bool,
    /// A program to run from its descriptor, whatever the paths are.
    pub tools: Option<OwnedFd>,
    /// `NAME=VALUE` each.
    pub environment: Vec<Vec<u8>>,
    /// Seccomp filters to load last.
    pub filters: Vec<seccomp::Filter>,
}

impl PreparedCommand {
    /// Becomes the command. The container sees this process already.
    pub fn exec_command(&self, plan: &ExecPlan, report: File, mut release: File) -> ! {
        let mut limits = [0; 4];
        if let Err(error) = release.read_exact(&mut limits) {
            // (Without an error number cinspect has exited, and nothing reads the report.)
            if let Some(errno) = error.raw_os_error().map(Errno::from_raw) {
                ChildReport::Failed { errno, found: true }.write(&report);
            }
            process::exit_now(125);
        }
        let _ = setsid();
        let lost = |lost: ChildReport| {
            lost.write(&report);
            if plan.strict {
                process::exit_now(125);
            }
        };
        if plan.terminal.is_some()
            && let Err(errno) = terminal::set_controlling(std::io::stdin())
        {
            lost(ChildReport::TerminalFailed(errno));
        }
        if plan.mount_proc
            && let Err(errno) = mount_proc(plan)
        {
            lost(ChildReport::ProcFailed(errno));
        }
        if let Some(mask) = plan.attributes.as_ref().and_then(|attributes| attributes.umask) {
            umask(Mode::from_bits_truncate(mask));
        }
        set_limits(plan, u32::from_ne_bytes(limits), &lost);
        process::default_signals();
        if !plan.detach {
            // If cinspect is killed, the command gets SIGHUP, as if its terminal was closed. It may have been
            // killed before the request took effect: a process that exits closes its files first.
            let _ = prctl::set_pdeathsig(Signal::SIGHUP);
            if fd::has_no_reader(&report) {
                process::exit_now(125);
            }
        }
        for filter in &self.filters {
            if let Err(errno) = seccomp::load(filter) {
                ChildReport::Failed { errno, found: true }.write(&report);
                process::exit_now(125);
            }
        }
        let (errno, found) = self.exec(plan, &report);
        ChildReport::Failed { errno, found }.write(&report);
        process::exit_now(127)
    }

    /// Tries each path. Returns why none could be run, and whether one exists: its error has priority.
    fn exec(&self, plan: &ExecPlan, report: &File) -> (Errno, bool) {
        let environment = strings(&self.environment);
        if let (Some(program), Some(Attempt { argv, .. })) = (&self.tools, self.attempts.first()) {
            return (exec_tools(program, &strings(argv), &environment, plan), true);
        }
        let mut failure = (Errno::ENOENT, false);
        let last = self.attempts.len().saturating_sub(1);
        for (index, Attempt { path, argv }) in self.attempts.iter().enumerate() {
            let Ok(path) = CString::new(path.as_slice()) else { continue };
            let Err(errno) = execve(&path, &strings(argv), &environment);
            let file = Path::new(OsStr::from_bytes(path.as_bytes()));
            let found = errno != Errno::ENOTDIR && std::fs::symlink_metadata(file).is_ok();
            if found && !failure.1 {
                failure = (errno, true);
            }
            if self.is_shell && index < last {
                // Another shell than the user's is a deviation.
                if plan.strict {
                    return (errno, found);
                }
                ChildReport::NextShell(errno).write(report);
            }
        }
        failure
    }
}

/// Sets the limits in a mask of their numbers. Lowering them takes no privilege.
fn set_limits(plan: &ExecPlan, mask: u32, lost: &dyn Fn(ChildReport)) {
    let limits = plan.attributes.iter().flat_map(|attributes| &attributes.limits);
    for limit in limits.filter(|limit| mask & (1 << limit.resource) != 0) {
        if let Err(errno) = process::set_limit(limit.resource, limit.soft, limit.hard) {
            lost(ChildReport::LimitFailed(u8::try_from(limit.resource).unwrap_or(0), errno));
        }
    }
}

/// Runs a program from its descriptor. Returns why it could not be run.
fn exec_tools(
    program: &OwnedFd,
    argv: &[CString],
    environment: &[CString],
    plan: &ExecPlan,
) -> Errno {
    let Err(errno) = execveat(program, c"", argv, environment, AtFlags::AT_EMPTY_PATH);
    // A filter may be older than execveat(2). By a path the program may be another one, made by the
    // container: that must not get more rights than the container has.
    if plan.security.is_none() || !matches!(errno, Errno::EPERM | Errno::ENOSYS | Errno::EACCES) {
        return errno;
    }
    if let Ok(path) = CString::new(format!("/proc/self/fd/{}", program.as_raw_fd())) {
        let Err(_) = execve(&path, argv, environment);
    }
    errno
}

fn strings(values: &[Vec<u8>]) -> Vec<CString> {
    values.iter().filter_map(|value| CString::new(value.as_slice()).ok()).collect()
}

/// Mounts a `/proc` of the PID namespace, in the mount namespace of the host's tools.
fn mount_proc(plan: &ExecPlan) -> Result<(), Errno> {
    if !plan.mount_network {
        own_mounts()?;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)
}
