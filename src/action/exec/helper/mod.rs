//! The helper that enters the container: cinspect itself, started again from a sealed file with nothing
//! but the descriptors it is given. It has no threads. The order keeps the container from reaching out:
//!
//! 1. The host's files are read or opened first. Once the mounts are joined, no path in `/proc`, `/sys`
//!    or `/dev` can be trusted.
//! 2. Then the namespaces are joined. Joining a PID namespace moves only children: the container neither
//!    sees the helper nor can trace it while it has more privileges than the container.
//! 3. The container's files are looked up beneath its root, opened without reading first.
//! 4. Privileges are dropped after everything that needs them, and every descriptor but the command's
//!    own is closed.
//! 5. Only then is the child created that the container sees. The helper exits, which makes it cinspect's own
//!    child. It waits until it is in its cgroups, and becomes the command.

mod attributes;
mod command;
mod credentials;
mod host_view;
mod namespaces;
mod rootfs;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{
    Gid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchown, getppid, setgroups, setresgid,
    setresuid,
};

use super::errors::cannot;
use super::events::{Attribute, ExecEvent, ExecReporter};
use super::protocol::{self, ChildReport, HelperMessage};
use crate::analysis::exec_environment::{candidates, environment, shells};
use crate::analysis::exec_plan::ExecPlan;
use crate::analysis::user::Identity;
use crate::error::{Error, os_error};
use crate::model::account::AccountEntry;
use crate::model::bytes::message_text;
use crate::model::pid::HostPid;
use crate::sys::process;
use attributes::{apply_scheduling, check_environment, leave_keyring, read_environment};
use command::{Attempt, PreparedCommand};
use credentials::Confinement;
use namespaces::{TargetNamespaces, maps_caller};
use rootfs::TargetRoot;

/// Runs the helper; its exit status is 0 once the command's process exists.
pub fn main() -> i32 {
    let Some((parent, plan, inherited)) = inherit() else { return 125 };
    let tasks = enter_cgroups(&inherited.tasks);
    let mut events = Vec::new();
    let mut sink = |event| events.push(event);
    let prepared =
        prepare(&inherited, parent, &plan, &mut ExecReporter::new(plan.strict, &mut sink));
    match prepared {
        // One message with all events costs less than many.
        Ok(command) => {
            let ready = HelperMessage::Ready(events, tasks);
            start_child(inherited, &plan, &command, &ready).map_or(125, |()| 0)
        }
        Err(error) => {
            let message = HelperMessage::Failed(events, error);
            let _ = protocol::send(&inherited.socket, &message, None);
            125
        }
    }
}

/// The descriptors that the helper was started with; see [`protocol`].
struct Inherited {
    socket: OwnedFd,
    report: OwnedFd,
    release: OwnedFd,
    pidfd: OwnedFd,
    process: OwnedFd,
    root: OwnedFd,
    workdir: OwnedFd,
    proc: OwnedFd,
    tools: OwnedFd,
    terminal: Option<OwnedFd>,
    tasks: Vec<OwnedFd>,
}

/// Moves this process by these `tasks`, and returns the numbers of those by which it could. A moved process needs
/// no other right then than cinspect had when it opened them (Linux 5.17; before, this process's, which is
/// cinspect's still).
fn enter_cgroups(tasks: &[OwnedFd]) -> Vec<usize> {
    let is_entered = |tasks: &OwnedFd| nix::unistd::write(tasks, b"0").is_ok();
    (0..).zip(tasks).filter(|(_, tasks)| is_entered(tasks)).map(|(index, _)| index).collect()
}

fn inherit() -> Option<(i32, ExecPlan, Inherited)> {
    let (parent, tasks, plan) = protocol::read_plan(process::inherited(protocol::PLAN)?).ok()?;
    let inherited = Inherited {
        socket: process::inherited(protocol::SOCKET)?,
        report: process::inherited(protocol::REPORT)?,
        release: process::inherited(protocol::RELEASE)?,
        pidfd: process::inherited(protocol::PIDFD)?,
        process: process::inherited(protocol::PROCESS)?,
        root: process::inherited(protocol::ROOT)?,
        workdir: process::inherited(protocol::WORKDIR)?,
        proc: process::inherited(protocol::PROC)?,
        tools: process::inherited(protocol::TOOLS)?,
        terminal: process::inherited(protocol::TERMINAL).filter(|_| plan.terminal.is_some()),
        tasks: (protocol::TASKS..).take(tasks).map(process::inherited).collect::<Option<_>>()?,
    };
    Some((parent, plan, inherited))
}

/// Enters the container (steps 1 to 4).
fn prepare(
    inherited: &Inherited,
    parent: i32,
    plan: &ExecPlan,
    reporter: &mut ExecReporter<'_>,
) -> Result<PreparedCommand, Error> {
    // Without cinspect nothing relays, reports or waits. It may have exited before the request took
    // effect.
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    if getppid().as_raw() != parent {
        process::exit_now(125);
    }
    // 1. The host's files.
    let namespaces = TargetNamespaces::open(&inherited.proc, &inherited.process, plan)?;
    let is_mapped = maps_caller(&inherited.process);
    let mut target_environment = read_environment(&inherited.process, plan);
    let confinement = Confinement::read(&inherited.proc, plan, reporter)?;
    if let Some(attributes) = &plan.attributes {
        apply_scheduling(&inherited.proc, attributes, reporter)?;
    }
    leave_keyring(reporter)?;
    if plan.joins_user_namespace() {
        // A user namespace may forbid setgroups(2) permanently, and cinspect's groups would stay.
        let groups: Vec<Gid> = plan.host_groups.iter().copied().map(Gid::from_raw).collect();
        let _ = setgroups(&groups);
    }
    // From here on only processes with CAP_SYS_PTRACE can open this one's files in /proc.
    let _ = prctl::set_dumpable(false);
    // 2. The namespaces, and the root.
    namespaces.join(&inherited.pidfd, plan, reporter)?;
    if plan.joins_user_namespace() && (target_environment.is_err() || !is_mapped) {
        become_root_of_namespace();
    }
    if target_environment.is_err() {
        target_environment = read_environment(&inherited.process, plan);
    }
    check_environment(&target_environment, reporter)?;
    let namespaces_root = rootfs::namespace_root(&inherited.root, plan, reporter)?;
    let root = namespaces_root.as_ref().unwrap_or(&inherited.root);
    let root = TargetRoot { root, proc: &inherited.proc };
    root.enter(plan)?;
    host_view::prepare(root, plan, reporter)?;
    // 3. The container's files.
    let identity = root.identity(plan)?;
    root.change_directory(plan, &inherited.workdir, reporter)?;
    if plan.terminal.is_some() {
        open_terminal(inherited, root, plan, identity.ids.uid, reporter)?;
    }
    let environment = environment(plan, &target_environment.unwrap_or_default(), &identity);
    let attempts = attempts(plan, &identity, &environment, reporter)?;
    let tools = plan.uses_tools.then(|| inherited.tools.try_clone()).transpose();
    let tools = tools.map_err(cannot("cannot keep the tools open"))?;
    if plan.uses_tools {
        root.check_proc(reporter)?;
    }
    // 4. Privileges.
    let filters = confinement.apply(plan, &identity.ids, reporter)?;
    Ok(PreparedCommand { attempts, is_shell: plan.command.is_empty(), tools, environment, filters })
}

/// Becomes root of the user namespace that was joined. Its owner has every capability in it, but owns the
/// files of its processes in `/proc` only as that user (unprivileged LXC). A caller without a number in the
/// namespace, such as the host's root, gets EOVERFLOW for each call to a FUSE file system of it
/// (`fuse_get_req`, fs/fuse/dev.c), which the container's root may be (fuse-overlayfs). The command's user is
/// set later.
fn become_root_of_namespace() {
    let (root, group) = (Uid::from_raw(0), Gid::from_raw(0));
    let _ = setresgid(group, group, group);
    let _ = setresuid(root, root, root);
    // The change has reset both (prctl(2)).
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    let _ = prctl::set_dumpable(false);
}

/// Returns the paths to try with their arguments; for a shell, one after the other as the command's name.
fn attempts(
    plan: &ExecPlan,
    identity: &Identity,
    environment: &[Vec<u8>],
    reporter: &mut ExecReporter<'_>,
) -> Result<Vec<Attempt>, Error> {
    if let Some(name) = plan.command.first() {
        let attempt = |path| Attempt { path, argv: plan.command.clone() };
        return Ok(candidates(name, environment).into_iter().map(attempt).collect());
    }
    let text = |path: &[u8]| message_text(path).into_owned();
    let login_shell = identity.shell.as_deref();
    let (shells, is_passed_over) = shells(login_shell);
    if is_passed_over {
        let shell = text(login_shell.unwrap_or_default());
        let cause = format!("`{shell}` runs no commands, so `{}` runs", text(&shells[0]));
        reporter.deviation(
            AccountEntry::changed("login shell", cause).hint("name a command: `-- sh`"),
        )?;
    }
    reporter.report(ExecEvent::Shells(shells.iter().map(|shell| text(shell)).collect()));
    Ok(shells.into_iter().map(|path| Attempt { argv: vec![path.clone()], path }).collect())
}

/// Makes a terminal the command's standard streams: one of the container's own, so that it has a name
/// there; the host's if the container has no devpts.
fn open_terminal(
    inherited: &Inherited,
    root: TargetRoot<'_>,
    plan: &ExecPlan,
    uid: u32,
    reporter: &mut ExecReporter<'_>,
) -> Result<(), Error> {
    let opened = if plan.in_container_root { root.open_terminal() } else { Err(Errno::ENOENT) };
    let peer = match opened {
        Ok((master, peer)) => {
            protocol::send(&inherited.socket, &HelperMessage::Terminal, Some(master.as_fd()))
                .map_err(cannot("cannot pass the terminal on"))?;
            peer
        }
        Err(errno) => {
            if plan.in_container_root {
                let why = os_error(errno);
                let cause = format!("the container has no devpts of its own ({why})");
                reporter.not_applied(Attribute::TerminalName, cause)?;
            }
            let host_terminal = inherited.terminal.as_ref().map(OwnedFd::try_clone);
            let host_terminal = host_terminal.and_then(Result::ok);
            host_terminal.ok_or_else(|| cannot("cannot allocate a terminal")(errno))?
        }
    };
    // The host's terminal may belong to a user that the container does not map.
    let _ = fchown(&peer, Some(Uid::from_raw(uid)), None);
    let _ = fchmod(&peer, Mode::from_bits_truncate(0o620));
    dup2_stdin(&peer)
        .and_then(|()| dup2_stdout(&peer))
        .and_then(|()| dup2_stderr(&peer))
        .map_err(cannot("cannot use the terminal"))
}

/// Creates the child (step 5). Everything that the container could take from it is closed before.
fn start_child(
    inherited: Inherited,
    plan: &ExecPlan,
    command: &PreparedCommand,
    ready: &HelperMessage,
) -> Option<()> {
    protocol::send(&inherited.socket, ready, None).ok()?;
    let report = File::from(inherited.report.try_clone().ok()?);
    let mut release = File::from(inherited.release.try_clone().ok()?);
    // Only the standard streams and these two stay open.
    drop(inherited);
    loop {
        match process::fork() {
            Ok(Some(child)) => {
                ChildReport::Created(HostPid::new(child)?).write(&report);
                return Some(());
            }
            Ok(None) => command.exec_command(plan, report, release),
            Err(errno) => {
                ChildReport::Failed { errno, found: false }.write(&report);
                // cinspect may move this process out of the cgroups, and send the request again.
                release.read_exact(&mut [0; 4]).ok()?;
            }
        }
    }
}
