//! Enters a container: starts the helper that goes in, puts its child into the container's cgroups,
//! and stands between the command and whoever called. We ourselves stay outside, with our terminal.

mod helper;
mod protocol;
mod relay;
mod terminal;

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, openat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::send::HeldProcess;
use crate::analysis::exec_plan::ExecPlan;
use crate::error::{Error, ExitStatus, os_error};
use crate::model::pid::{ContainerPid, HostPid};
use crate::proc::{ExecFacts, Host};
use crate::sys::pidfd::{self, SignalScope};
use crate::sys::process;
use crate::sys::self_exe::{self, SelfExe};
use protocol::{HelperMessage, HelperStep};
use relay::{Pump, Relay, SignalForwarder, may_have};
use terminal::RawMode;

/// How long it may take to get in. What lies inside may keep whoever looks at it waiting for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs as the helper, if it is as that we were started; does not come back then.
pub fn be_helper(name: Option<&std::ffi::OsStr>) {
    if name.is_some_and(|name| name == protocol::HELPER) {
        process::exit_now(helper::main());
    }
}

/// Rows and columns of the terminal on stdin.
pub fn terminal_size() -> Option<(u16, u16)> {
    terminal::size(rustix::stdio::stdin())
}

/// What is said on the way.
pub enum ExecEvent {
    /// A step, for who wants to know.
    Step(String),
    /// Something is not as in the container.
    Warn(String),
}

/// What became of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecOutcome {
    /// It ended: the status that stands for that.
    Ended(u8),
    /// It goes on without us.
    Left(Option<ContainerPid>, HostPid),
}

/// Goes in, runs the command, and comes back when that has ended.
///
/// # Errors
/// What hinders it; the command has not run then.
pub fn enter(
    host: &Host,
    held: &HeldProcess,
    facts: &ExecFacts,
    plan: &ExecPlan,
    cgroups: bool,
    say: &mut dyn FnMut(ExecEvent),
) -> Result<ExecOutcome, Error> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| {
            Error::new(ExitStatus::CannotEnter, what).cause(os_error(error))
        }
    };
    // Before anything is started: what cannot be opened cannot be entered.
    let groups = if cgroups { open_cgroups(host, facts, plan, say)? } else { Vec::new() };
    let (program, seal) =
        self_exe::own_program().map_err(failed("cannot make a sealed copy of cinspect"))?;
    say(ExecEvent::Step(match seal {
        SelfExe::Mount => "the helper runs from a read-only mount of its own".into(),
        SelfExe::Copy => "the helper runs from a sealed copy in memory".into(),
    }));
    let terminals = plan.terminal.map(|_| terminal::of_the_host());
    let terminals = terminals.transpose().map_err(|error| {
        failed("cannot make a terminal")(error).hint("`-T` runs the command without one")
    })?;
    let streams = Streams::new(plan).map_err(failed("cannot make pipes"))?;
    let pair =
        || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let (socket, theirs) = pair().map_err(|e| failed("cannot make a socket")(e.into()))?;
    let (report, report_in) = pipe().map_err(failed("cannot make a pipe"))?;
    let (release_out, release) = pipe().map_err(failed("cannot make a pipe"))?;
    let plan_file = protocol::plan_file(plan).map_err(failed("cannot write the plan"))?;
    let proc = openat(
        rustix::fs::CWD,
        host.proc_path(""),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| failed("cannot open /proc")(errno.into()))?;
    let pidfd = match facts.thread {
        // The others of a process whose main thread has left have what it no longer has.
        Some(tid) => Some(
            pidfd::open(tid, SignalScope::Thread)
                .map_err(|errno| failed("cannot hold a thread")(errno.into()))?,
        ),
        None => None,
    };
    let mut fds: Vec<BorrowedFd<'_>> = streams.given.iter().map(StreamSource::fd).collect();
    fds.extend([
        plan_file.as_fd(),
        theirs.as_fd(),
        report_in.as_fd(),
        release_out.as_fd(),
        pidfd.as_ref().map_or(held.as_fd(), OwnedFd::as_fd),
        facts.process.as_fd(),
        facts.root.as_fd(),
        facts.workdir.as_ref().unwrap_or(&facts.root).as_fd(),
        proc.as_fd(),
    ]);
    if let Some((_, slave)) = &terminals {
        fds.push(slave.as_fd());
    }
    // Our terminal is made raw once there is something to type to.
    let interactive = plan.terminal.is_some() && terminal_size().is_some();
    let signals =
        SignalForwarder::new().map_err(|errno| failed("cannot hear signals")(errno.into()))?;
    let name = CString::new(protocol::HELPER).unwrap_or_default();
    let pid = process::start(program.as_fd(), &[name], &fds)
        .map_err(|errno| failed("cannot start the helper")(errno.into()))?;
    let mut helper = HelperProcess { pid, ended: None };
    drop(fds);
    drop((theirs, report_in, release_out, plan_file, program));
    let Streams { given, mut pumps } = streams;
    drop(given);
    let until = Instant::now() + PATIENCE;
    let mut master = terminals.map(|(master, _)| master);
    // What it tells on its way.
    loop {
        if !ready(&socket, until) {
            return Err(Error::new(ExitStatus::CannotEnter, "cannot enter the container")
                .cause("its file system does not answer")
                .hint(
                    "`--skip mnt` uses the host's tools in the container's network and processes",
                ));
        }
        match protocol::hear(&socket) {
            Ok(Some((HelperMessage::Terminal, fd))) => master = fd.or(master),
            Ok(Some((HelperMessage::Ready(steps), _))) => {
                steps.into_iter().for_each(|step| tell(say, step));
                break;
            }
            Ok(Some((HelperMessage::Failed(steps, failure), _))) => {
                steps.into_iter().for_each(|step| tell(say, step));
                let mut error = Error::new(ExitStatus::CannotEnter, failure.what);
                error = failure.because.into_iter().fold(error, Error::cause);
                return Err(failure.hint.into_iter().fold(error, Error::hint));
            }
            Ok(None) | Err(_) => return Err(helper.died()),
        }
    }
    drop(socket);
    let child = match first_report(&report, until) {
        Some(ChildReport::Child(child)) => child,
        Some(ChildReport::Failed(errno, _)) => {
            return Err(Error::new(ExitStatus::CannotEnter, "cannot make a process inside")
                .cause(os_error(errno))
                .hint("the container may be at its limit of processes"));
        }
        None => return Err(helper.died()),
    };
    // Its word is checked: only the helper has children of the helper's.
    let own = host.status(child).map_err(|_| helper.died())?;
    if own.ppid != pid {
        return Err(Error::new(ExitStatus::CannotEnter, "cannot enter the container")
            .cause("what says to be the command's process is none of ours"));
    }
    let command = pidfd::open(child.get(), SignalScope::Process)
        .map_err(|errno| failed("cannot hold the command")(errno.into()))?;
    // One line for each path: on v1 it is that of most hierarchies.
    let mut joined: Vec<(String, Vec<String>)> = Vec::new();
    for (path, mut file) in groups {
        match file.write_all(child.to_string().as_bytes()) {
            Ok(()) => {
                let (kind, path) = path.split_once(':').unwrap_or(("", &path));
                match joined.iter_mut().find(|(known, _)| known == path) {
                    Some((_, kinds)) => kinds.push(kind.to_owned()),
                    None => joined.push((path.to_owned(), vec![kind.to_owned()])),
                }
            }
            Err(error) => lacks(plan, say, &format!("its cgroup {path}"), error)?,
        }
    }
    for (path, kinds) in joined {
        say(ExecEvent::Step(format!("cgroup {path} ({})", kinds.join(", "))));
    }
    let raw = match (&master, interactive) {
        (Some(master), true) => {
            let raw =
                RawMode::new(rustix::stdio::stdin()).map_err(failed("cannot use the terminal"))?;
            terminal::set_size(master, terminal_size().unwrap_or((24, 80)));
            Some(raw)
        }
        (Some(master), false) => {
            terminal::set_size(master, plan.terminal.unwrap_or((24, 80)));
            None
        }
        _ => None,
    };
    if let Some(master) = &master {
        pumps = terminal_pumps(master, interactive).map_err(failed("cannot use the terminal"))?;
    }
    File::from(release).write_all(b"g").map_err(|_| helper.died())?;
    if plan.detach {
        return match first_report(&report, until) {
            Some(ChildReport::Failed(errno, there)) => Err(not_run(plan, errno, there)),
            _ => {
                helper.ended = Some(0);
                Ok(ExecOutcome::Left(
                    own.nspid.last().and_then(|pid| ContainerPid::new(*pid)),
                    child,
                ))
            }
        };
    }
    let watched = pidfd::open(pid, SignalScope::Process)
        .map_err(|errno| failed("cannot hold the helper")(errno.into()))?;
    Relay {
        command: &command,
        helper: &watched,
        pumps,
        terminal: master.as_ref().map(|master| (master, raw.as_ref())),
        signals,
    }
    .run();
    drop(raw);
    let status = helper.wait();
    match first_report(&report, Instant::now()) {
        Some(ChildReport::Failed(errno, there)) => Err(not_run(plan, errno, there)),
        _ => Ok(ExecOutcome::Ended(status)),
    }
}

fn tell(say: &mut dyn FnMut(ExecEvent), step: HelperStep) {
    say(match step {
        HelperStep::Done(text) => ExecEvent::Step(text),
        HelperStep::Lacks(text) => ExecEvent::Warn(text),
    });
}

/// The helper, our child.
struct HelperProcess {
    pid: i32,
    ended: Option<u8>,
}

impl HelperProcess {
    fn wait(&mut self) -> u8 {
        loop {
            let status = match waitpid(Pid::from_raw(self.pid), None) {
                Ok(WaitStatus::Exited(_, status)) => u8::try_from(status).unwrap_or(125),
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    128u8.saturating_add(u8::try_from(signal as i32).unwrap_or(0))
                }
                Err(Errno::EINTR) | Ok(_) => continue,
                Err(_) => 125,
            };
            self.ended = Some(status);
            return status;
        }
    }

    /// It has said nothing and is gone.
    fn died(&self) -> Error {
        let error = Error::new(ExitStatus::CannotEnter, "cannot enter the container");
        match waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGSYS, _)) => error
                .cause("its seccomp filter does not let through what that takes")
                .hint("`--privileged` goes without the filter"),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                error.cause(format!("the helper was ended by {signal}"))
            }
            _ => error.cause("the helper has gone"),
        }
    }
}

impl Drop for HelperProcess {
    fn drop(&mut self) {
        // Our own child, not waited for: its number is nobody else's. Where it hangs it is left.
        if self.ended.is_none() {
            let pid = Pid::from_raw(self.pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        }
    }
}

/// What the command's streams are.
struct Streams {
    given: [StreamSource; 3],
    pumps: Vec<Pump>,
}

/// A stream of the command.
enum StreamSource {
    /// One of ours.
    Ours(BorrowedFd<'static>),
    /// An end of a pipe, or the null device.
    Theirs(OwnedFd),
}

impl StreamSource {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Ours(fd) => *fd,
            Self::Theirs(fd) => fd.as_fd(),
        }
    }
}

impl Streams {
    fn new(plan: &ExecPlan) -> std::io::Result<Self> {
        use rustix::stdio::{stderr, stdin, stdout};
        let null = || -> std::io::Result<StreamSource> {
            let null = File::options().read(true).write(true).open("/dev/null")?;
            Ok(StreamSource::Theirs(null.into()))
        };
        // With a terminal that is what they are.
        if plan.detach || plan.terminal.is_some() {
            return Ok(Self { given: [null()?, null()?, null()?], pumps: Vec::new() });
        }
        let mut pumps = Vec::new();
        let mut stream =
            |ours: BorrowedFd<'static>, inward: bool| -> std::io::Result<StreamSource> {
                if inward && may_have(ours) {
                    return Ok(StreamSource::Ours(ours));
                }
                let (out, into) = pipe()?;
                let own = ours.try_clone_to_owned()?;
                let (theirs, pump) = if inward {
                    nonblocking(&into)?;
                    let pump = Pump::new(own, into, true).giving_back(&out);
                    (out, pump)
                } else {
                    (into, Pump::new(out, own, false))
                };
                pumps.push(pump);
                Ok(StreamSource::Theirs(theirs))
            };
        let given = [stream(stdin(), true)?, stream(stdout(), false)?, stream(stderr(), false)?];
        Ok(Self { given, pumps })
    }
}

fn nonblocking(fd: &OwnedFd) -> std::io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Between a terminal and our streams.
fn terminal_pumps(master: &OwnedFd, interactive: bool) -> std::io::Result<Vec<Pump>> {
    /// End of file, where lines are edited.
    const EOT: u8 = 4;
    nonblocking(master)?;
    let own = rustix::stdio::stdin().try_clone_to_owned()?;
    let inward = Pump::new(own, master.try_clone()?, true);
    let outward =
        Pump::new(master.try_clone()?, rustix::stdio::stdout().try_clone_to_owned()?, false);
    Ok(vec![if interactive { inward } else { inward.ending_with(EOT) }, outward])
}

fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// What the command's process, or the helper, reports.
enum ChildReport {
    Child(HostPid),
    Failed(Errno, bool),
}

fn ready(fd: &OwnedFd, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(0),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(many) => return many > 0,
            Err(_) => return false,
        }
    }
}

/// The next report; none at the end of them.
fn first_report(report: &OwnedFd, until: Instant) -> Option<ChildReport> {
    if !ready(report, until) {
        return None;
    }
    let mut file = File::from(report.try_clone().ok()?);
    let mut head = [0; 5];
    file.read_exact(&mut head).ok()?;
    let number = i32::from_ne_bytes([head[1], head[2], head[3], head[4]]);
    match head[0] {
        b'P' => Some(ChildReport::Child(HostPid::new(number)?)),
        b'E' => {
            let mut there = [0];
            file.read_exact(&mut there).ok()?;
            Some(ChildReport::Failed(Errno::from_raw(number), there[0] == 1))
        }
        _ => None,
    }
}

/// Why the command did not run, and what was looked up where.
fn not_run(plan: &ExecPlan, errno: Errno, there: bool) -> Error {
    let text = String::from_utf8_lossy;
    let Some(name) = plan.command.first() else {
        return Error::new(ExitStatus::NotFound, "there is no shell inside")
            .cause("neither the user's nor /bin/sh can be run")
            .hint("name a command, or use the host's tools in its network and processes: `cinspect exec --skip mnt CTR -- sh`");
    };
    let what = format!("cannot run `{}`", text(name));
    let place = if !plan.inside {
        "on the host"
    } else if name.contains(&b'/') {
        "inside"
    } else {
        "in the PATH inside"
    };
    match errno {
        Errno::ENOENT if !there => Error::new(ExitStatus::NotFound, what)
            .cause(format!("it was not found {place}"))
            .hint(if plan.inside {
                "`--skip mnt` runs the host's own, in the container's network and processes"
            } else {
                "the host's own tools are used without the container's mounts"
            }),
        Errno::ENOTDIR if !there => {
            Error::new(ExitStatus::NotFound, what).cause(format!("it was not found {place}"))
        }
        Errno::ENOENT => Error::new(ExitStatus::CannotRun, what)
            .cause("it is there, but the interpreter or loader that it names is not"),
        Errno::ENOEXEC => Error::new(ExitStatus::CannotRun, what).cause(
            "it is no program for this machine: another architecture, or a script without `#!`",
        ),
        Errno::EACCES => Error::new(ExitStatus::CannotRun, what).cause(
            "its permissions do not allow it, it is no file, or its file system is mounted noexec",
        ),
        errno => Error::new(ExitStatus::CannotRun, what).cause(os_error(errno)),
    }
}

fn lacks(
    plan: &ExecPlan,
    say: &mut dyn FnMut(ExecEvent),
    what: &str,
    why: impl ToString,
) -> Result<(), Error> {
    if plan.strict {
        return Err(Error::new(ExitStatus::CannotEnter, format!("{what} cannot be carried over"))
            .cause(why.to_string())
            .hint("without `--strict` it is a warning"));
    }
    say(ExecEvent::Warn(format!("{what} not carried over: {}", why.to_string())));
    Ok(())
}

/// The files that take a process into the container's cgroups: those in which the process is and we
/// are not.
fn open_cgroups(
    host: &Host,
    facts: &ExecFacts,
    plan: &ExecPlan,
    say: &mut dyn FnMut(ExecEvent),
) -> Result<Vec<(String, File)>, Error> {
    let mut files = Vec::new();
    for cgroup in &facts.cgroups {
        let controllers = String::from_utf8_lossy(&cgroup.controllers);
        let kind = if controllers.is_empty() { "v2" } else { &*controllers };
        let path = format!("{kind}:{}", String::from_utf8_lossy(&cgroup.path));
        match host.cgroup_procs_file(cgroup) {
            Ok(file) => files.push((path, file)),
            Err(error) => lacks(plan, say, &format!("its cgroup {path}"), error)?,
        }
    }
    Ok(files)
}
