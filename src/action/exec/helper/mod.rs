//! The helper that goes in: our own program, started anew from a sealed file, with nothing of ours but
//! the descriptors it was given. It has no threads. The order is what keeps the container from
//! reaching out:
//!
//! 1. What only the host tells is read or opened first. Once the mounts are joined, no path of `/proc`,
//!    `/sys` or `/dev` is what it seems.
//! 2. Then the namespaces are joined. Joining a PID namespace moves only children: the container does
//!    not see us, and cannot trace us, while we have what it may not have.
//! 3. What lies inside is looked up beneath its root, opened without reading first.
//! 4. Rights are given up last of all that needs them, and every descriptor but the command's own is
//!    closed.
//! 5. Only then the child is made that the container sees. It waits until it is in its cgroups, and
//!    becomes the command.

mod command;
mod credentials;
mod rootfs;

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{Gid, Pid};
use rustix::fs::{Mode, OFlags, openat, readlinkat};
use rustix::thread::ThreadNameSpaceType;

use super::protocol::{self, HelperError, HelperMessage, HelperStep};
use crate::analysis::exec_plan::{ExecPlan, ProcessAttributes, candidates, environment};
use crate::model::namespace::{NamespaceId, NamespaceKind};
use crate::sys::{process, seccomp};
use command::{PreparedCommand, failed, wait_as};

/// More of an environment is not read.
const MAX_ENVIRONMENT: u64 = 256 << 10;
/// How long a thread may take to stop, so that its filters can be read.
const PATIENCE: Duration = Duration::from_secs(1);

/// The helper's whole life; its status is the command's.
pub fn main() -> i32 {
    let Some((plan, helper)) = Helper::take() else { return 125 };
    match helper.enter(&plan) {
        Ok(Some(child)) => wait_as(child),
        Ok(None) => 125,
        Err((socket, steps, failure)) => {
            let _ = protocol::tell(socket, &HelperMessage::Failed(steps, failure), None);
            125
        }
    }
}

/// The descriptors that were given.
struct Helper {
    socket: OwnedFd,
    report: OwnedFd,
    release: OwnedFd,
    pidfd: OwnedFd,
    process: OwnedFd,
    root: OwnedFd,
    workdir: OwnedFd,
    proc: OwnedFd,
    terminal: Option<OwnedFd>,
    /// What is told at the end: one message costs less than many.
    steps: RefCell<Vec<HelperStep>>,
}

/// What was read before anything was joined.
struct HostState {
    environment: Vec<u8>,
    filters: Vec<seccomp::Filter>,
    label: Option<File>,
    /// Our own namespaces' links, and what they have to be.
    own: OwnedFd,
    wanted: Vec<(NamespaceKind, NamespaceId)>,
    /// Files of the namespaces, for kernels that join them one by one.
    files: Vec<(NamespaceKind, OwnedFd)>,
}

fn folder() -> OFlags {
    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC
}

fn read_only() -> OFlags {
    OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC
}

impl Helper {
    fn take() -> Option<(ExecPlan, Self)> {
        let plan = protocol::read_plan(process::inherited(protocol::PLAN)?).ok()?;
        let helper = Self {
            socket: process::inherited(protocol::SOCKET)?,
            report: process::inherited(protocol::REPORT)?,
            release: process::inherited(protocol::RELEASE)?,
            pidfd: process::inherited(protocol::PIDFD)?,
            process: process::inherited(protocol::PROCESS)?,
            root: process::inherited(protocol::ROOT)?,
            workdir: process::inherited(protocol::WORKDIR)?,
            proc: process::inherited(protocol::PROC)?,
            terminal: process::inherited(protocol::TERMINAL),
            steps: RefCell::default(),
        };
        Some((plan, helper))
    }

    fn done(&self, text: impl Into<String>) {
        self.steps.borrow_mut().push(HelperStep::Done(text.into()));
    }

    /// What cannot be carried over is told, or ends it.
    fn lacks(&self, plan: &ExecPlan, what: &str, why: impl ToString) -> Result<(), HelperError> {
        if plan.strict {
            return Err(HelperError::new(format!("{what} cannot be carried over"), why)
                .hint("without `--strict` it is a warning"));
        }
        let text = format!("{what} not carried over: {}", why.to_string());
        self.steps.borrow_mut().push(HelperStep::Lacks(text));
        Ok(())
    }

    fn enter(
        self,
        plan: &ExecPlan,
    ) -> Result<Option<Pid>, (OwnedFd, Vec<HelperStep>, HelperError)> {
        match self.prepare(plan) {
            Ok(ready) => Ok(self.begin(plan, &ready)),
            Err(failure) => Err((self.socket, self.steps.take(), failure)),
        }
    }

    fn prepare(&self, plan: &ExecPlan) -> Result<PreparedCommand, HelperError> {
        // Nobody is left to report to when who started us has gone.
        let death = Some(rustix::process::Signal::KILL);
        let _ = rustix::process::set_parent_process_death_signal(death);
        if rustix::process::getppid().is_none_or(|parent| parent.as_raw_pid() != plan.parent) {
            process::exit_now(125);
        }
        // 1. What the host tells, of it and of us.
        let strange = self.read(plan)?;
        if let Some(around) = &plan.surround {
            self.surround(plan, around)?;
        }
        let _ = process::new_session_keyring();
        if joins_users(plan) {
            // A user namespace may forbid setgroups(2) for ever, and then ours would stay with us.
            let groups: Vec<Gid> = plan.outer_groups.iter().copied().map(Gid::from_raw).collect();
            let _ = nix::unistd::setgroups(&groups);
        }
        // From here on nobody without CAP_SYS_PTRACE opens our files in /proc.
        let _ =
            rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
        // 2. In.
        self.join(plan, &strange)?;
        if plan.inside {
            rustix::process::fchdir(&self.root)
                .and_then(|()| rustix::process::chroot("."))
                .map_err(|errno| HelperError::new("cannot make its root ours", errno))?;
        }
        // 3. What lies inside.
        let identity = self.identity(plan)?;
        self.workdir(plan)?;
        if plan.terminal.is_some() {
            self.terminal(plan, &identity)?;
        }
        let environment = environment(plan, &strange.environment, &identity);
        let command = match plan.command.first() {
            Some(_) => plan.command.clone(),
            None => vec![identity.shell.clone().unwrap_or_else(|| b"/bin/sh".to_vec())],
        };
        // 4. Rights.
        if let Some(around) = &plan.surround {
            self.limits(plan, around)?;
        }
        let late = self.give_up(plan, &identity, strange)?;
        Ok(PreparedCommand {
            places: candidates(&command[0], &environment),
            command,
            environment,
            late,
        })
    }

    fn read(&self, plan: &ExecPlan) -> Result<HostState, HelperError> {
        let gone = |errno: rustix::io::Errno| HelperError::new("cannot look at the process", errno);
        let own = openat(&self.proc, "self/ns", folder(), Mode::empty()).map_err(gone)?;
        let kinds = plan.join.iter().filter_map(|name| NamespaceKind::named(name));
        let (mut wanted, mut files) = (Vec::new(), Vec::new());
        for kind in kinds {
            let path = format!("ns/{}", kind.name);
            let link = readlinkat(&self.process, &path, Vec::new()).map_err(gone)?;
            wanted.extend(NamespaceId::parse(link.as_bytes()).map(|id| (kind, id)));
            let file = openat(&self.process, &path, read_only(), Mode::empty()).map_err(gone)?;
            files.push((kind, file));
        }
        let mut environment = Vec::new();
        if plan.base.is_none() {
            let file = openat(&self.process, "environ", read_only(), Mode::empty());
            let read = file.map_err(std::io::Error::from).and_then(|file| {
                File::from(file).take(MAX_ENVIRONMENT).read_to_end(&mut environment)
            });
            if let Err(error) = read {
                self.lacks(plan, "its environment", error)?;
            }
        }
        let mut filters = Vec::new();
        let mut label = None;
        if let Some(confine) = &plan.confine {
            if confine.filtered {
                match seccomp::filters(plan.beside, PATIENCE) {
                    Ok(read) => filters = read,
                    Err(errno) => self.lacks(
                        plan,
                        "its filter of system calls (seccomp)",
                        match errno {
                            Errno::EACCES => {
                                "that takes CAP_SYS_ADMIN, and no filter of our own".into()
                            }
                            Errno::EPERM => {
                                "somebody else traces the process, or it is not ours to trace"
                                    .into()
                            }
                            Errno::ETIMEDOUT => "the process does not stop for it".into(),
                            Errno::EIO => {
                                "the kernel was built without CONFIG_CHECKPOINT_RESTORE".into()
                            }
                            errno => errno.to_string(),
                        },
                    )?,
                }
            }
            if confine.label.is_some() {
                let flags = OFlags::WRONLY | OFlags::CLOEXEC;
                label = ["self/attr/apparmor/exec", "self/attr/exec"]
                    .into_iter()
                    .find_map(|path| openat(&self.proc, path, flags, Mode::empty()).ok())
                    .map(File::from);
            }
        }
        Ok(HostState { environment, filters, label, own, wanted, files })
    }

    /// What takes the host's files to set, or rights that are not the container's.
    fn surround(&self, plan: &ExecPlan, around: &ProcessAttributes) -> Result<(), HelperError> {
        if let Some(score) = around.oom_score_adj {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let set = openat(&self.proc, "self/oom_score_adj", flags, Mode::empty())
                .map_err(std::io::Error::from)
                .and_then(|file| File::from(file).write_all(score.to_string().as_bytes()));
            if let Err(error) = set {
                self.lacks(plan, &format!("its oom_score_adj of {score}"), error)?;
            }
        }
        if let Err(errno) = rustix::process::setpriority_process(None, around.nice) {
            self.lacks(plan, &format!("its niceness of {}", around.nice), errno)?;
        }
        let mut cpus = rustix::thread::CpuSet::new();
        (0..around.cpus.len() * 8)
            .filter(|cpu| around.cpus[cpu / 8] & (1 << (cpu % 8)) != 0)
            .filter(|cpu| *cpu < rustix::thread::CpuSet::MAX_CPU)
            .for_each(|cpu| cpus.set(cpu));
        // Its cpuset may be narrower than ours: then the cgroup decides.
        let _ = rustix::thread::sched_setaffinity(None, &cpus);
        Ok(())
    }

    fn join(&self, plan: &ExecPlan, strange: &HostState) -> Result<(), HelperError> {
        let flags = strange.files.iter().fold(0, |all, (kind, _)| all | kind.flag);
        if flags != 0 {
            let types = ThreadNameSpaceType::from_bits_retain(flags);
            match rustix::thread::move_into_thread_name_spaces(self.pidfd.as_fd(), types) {
                Ok(()) => {}
                // Before Linux 5.8 a pidfd is no way to join.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::BADF) => one_by_one(strange)?,
                Err(rustix::io::Errno::SRCH) => {
                    return Err(HelperError::new(
                        "cannot enter the container",
                        "it has just ended",
                    ));
                }
                Err(errno) => return Err(not_joined(&plan.join.join(", "), errno)),
            }
        }
        // That we are where we wanted to be is not taken on trust.
        for (kind, id) in &strange.wanted {
            let name = if kind.name == "pid" { "pid_for_children" } else { kind.name };
            let link = readlinkat(&strange.own, name, Vec::new());
            let now = link.ok().and_then(|link| NamespaceId::parse(link.as_bytes()));
            // (Before the first child is made the kernel shows no PID namespace for children.)
            if now != Some(*id) && !(now.is_none() && kind.name == "pid") {
                return Err(HelperError::new(
                    format!("cannot join its {} namespace", kind.name),
                    "the process has left it meanwhile",
                ));
            }
        }
        if !plan.join.is_empty() {
            self.done(format!("joined the namespaces {}", plan.join.join(", ")));
        }
        Ok(())
    }

    /// 5. The child. Whatever the container could take from it has been closed before.
    fn begin(self, plan: &ExecPlan, ready: &PreparedCommand) -> Option<Pid> {
        if protocol::tell(&self.socket, &HelperMessage::Ready(self.steps.take()), None).is_err() {
            return None;
        }
        let (Ok(report), Ok(release)) = (self.report.try_clone(), self.release.try_clone()) else {
            return None;
        };
        // Only the standard streams, the report and the word to begin are left.
        drop(self);
        match process::fork() {
            Ok(Some(child)) => {
                let mut line = vec![b'P'];
                line.extend(child.to_ne_bytes());
                let _ = File::from(report).write_all(&line);
                drop(release);
                // Whoever waits for the end of the command's output must not wait for us.
                process::close_from(0);
                Some(Pid::from_raw(child))
            }
            Ok(None) => ready.become_it(plan, File::from(report), File::from(release)),
            Err(errno) => {
                let _ = File::from(report).write_all(&failed(errno, false));
                None
            }
        }
    }
}

fn joins_users(plan: &ExecPlan) -> bool {
    plan.join.iter().any(|name| name == "user")
}

/// Before Linux 5.8: what may be joined with the rights we have, then the user namespace, then what
/// takes rights in there. The mounts go last of each round.
fn one_by_one(strange: &HostState) -> Result<(), HelperError> {
    let mut left: Vec<&(NamespaceKind, OwnedFd)> = strange.files.iter().collect();
    left.sort_by_key(|(kind, _)| kind.name == "mnt");
    for round in 0..3 {
        let mut next = Vec::new();
        for one in left {
            let (kind, file) = one;
            if (kind.name == "user") != (round == 1) && round < 2 {
                next.push(one);
                continue;
            }
            let joined = rustix::thread::move_into_link_name_space(file.as_fd(), None);
            match joined {
                Ok(()) => {}
                Err(rustix::io::Errno::PERM) if round == 0 => next.push(one),
                Err(errno) => return Err(not_joined(kind.name, errno)),
            }
        }
        left = next;
    }
    Ok(())
}

fn not_joined(what: &str, errno: rustix::io::Errno) -> HelperError {
    let failure = HelperError::new(format!("cannot join the namespaces {what}"), errno);
    match errno {
        rustix::io::Errno::PERM => failure
            .hint("it takes CAP_SYS_ADMIN over them: run as root, or join its user namespace too, where it is yours (`--ns user,net`)"),
        _ => failure,
    }
}
