//! One `exec` from the outside, in four steps:
//!
//! 1. Prepare: open everything that is needed, before anything is started.
//! 2. Start the helper, and wait until it is in the container and has everything the command needs.
//! 3. Admit its child, which becomes cinspect's own when the helper exits: verify it, put it into the cgroups,
//!    connect the terminal, let it run the command. It waits for that, so that the command never runs outside
//!    the container's limits.
//! 4. Run: relay streams and signals until the command has exited, and return its status.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};

use super::cgroups::{self, JoinedCgroups};
use super::errors::{SKIP_MNT, cannot, command_error, failure};
use super::events::{Attribute, ExecEvent, ExecReporter};
use super::outside;
use super::protocol::{self, ChildReport, HelperMessage};
use super::relay::{Relay, SignalForwarder};
use super::streams::{Pump, Streams, terminal_pumps};
use super::terminal::{RawMode, terminal_size};
use super::tools::Tools;
use crate::action::send::HeldProcess;
use crate::analysis::exec_plan::ExecPlan;
use crate::error::{Error, os_error};
use crate::model::account::AccountEntry;
use crate::model::pid::{ContainerPid, HostPid};
use crate::proc::{ExecFacts, Host};
use crate::sys::pidfd::{self, Ending, SignalScope};
use crate::sys::process::{self, StartedProcess};
use crate::sys::{fd, self_exe, socket, terminal};

/// How long the helper may take: a file system in the container can block it forever (FUSE, NFS).
const TIMEOUT: Duration = Duration::from_secs(5);

/// Everything that an `exec` is about.
#[derive(Clone, Copy)]
pub struct ExecRequest<'a> {
    /// The host.
    pub host: &'a Host,
    /// The reference to the container.
    pub container: &'a str,
    /// The process to take over from.
    pub target: &'a HeldProcess,
    /// Its facts, read after it was held.
    pub facts: &'a ExecFacts,
    /// The plan.
    pub plan: &'a ExecPlan,
    /// Whether to join its cgroups.
    pub joins_cgroups: bool,
    /// The program to run in place of one of the container.
    pub tools: Option<&'a Tools>,
}

/// The end of an `exec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecOutcome {
    /// The command exited with this status (128 and more: killed by a signal).
    Exited(u8),
    /// The command runs in the background.
    Detached(Option<ContainerPid>, HostPid),
}

/// One `exec`.
pub struct Session<'a> {
    request: ExecRequest<'a>,
    reporter: ExecReporter<'a>,
}

/// The descriptors of step 1.
struct PreparedSession {
    cgroups: JoinedCgroups,
    program: OwnedFd,
    /// Master and the command's end of a terminal of the host.
    terminal: Option<(OwnedFd, OwnedFd)>,
    streams: Streams,
    plan: OwnedFd,
    /// cinspect's end and the helper's; the same for the pipes.
    socket: (OwnedFd, OwnedFd),
    report: (OwnedFd, OwnedFd),
    release: (OwnedFd, OwnedFd),
    proc: OwnedFd,
    /// The live thread of a target whose main thread has exited.
    thread: Option<OwnedFd>,
    signals: SignalForwarder,
}

/// A helper that is in the container.
struct StartedSession {
    helper: HelperProcess,
    deadline: Instant,
    cgroups: JoinedCgroups,
    /// The master of the command's terminal.
    master: Option<OwnedFd>,
    pumps: Vec<Pump>,
    report: OwnedFd,
    release: OwnedFd,
    signals: SignalForwarder,
    /// The shells that are tried, if the command is one.
    shells: Vec<String>,
}

/// A child that is admitted and runs the command.
struct AdmittedSession {
    master: Option<OwnedFd>,
    pumps: Vec<Pump>,
    report: OwnedFd,
    signals: SignalForwarder,
    pid: HostPid,
    container_pid: Option<ContainerPid>,
    /// A pidfd of it.
    command: OwnedFd,
    /// The shells that are left to try.
    shells: Vec<String>,
}

impl PreparedSession {
    /// Returns the helper's descriptors in the order of their numbers in [`protocol`].
    fn helper_fds<'b>(&'b self, request: ExecRequest<'b>) -> Vec<BorrowedFd<'b>> {
        let ExecRequest { target, facts, tools, .. } = request;
        let mut fds: Vec<BorrowedFd<'b>> = self.streams.given.iter().map(AsFd::as_fd).collect();
        fds.extend([
            self.plan.as_fd(),
            self.socket.1.as_fd(),
            self.report.1.as_fd(),
            self.release.1.as_fd(),
            self.thread.as_ref().map_or(target.as_fd(), OwnedFd::as_fd),
            facts.process.as_fd(),
            facts.root.as_fd(),
            facts.workdir.as_ref().unwrap_or(&facts.root).as_fd(),
            self.proc.as_fd(),
            // Without tools or a terminal a descriptor only keeps the place.
            tools.map_or(self.proc.as_fd(), |tools| tools.program.as_fd()),
            self.terminal.as_ref().map_or(self.proc.as_fd(), |(_, peer)| peer.as_fd()),
        ]);
        fds.extend(self.cgroups.tasks());
        fds
    }

    /// Keeps cinspect's ends for a helper that was started, and closes the helper's: the end of its
    /// socket and pipes has to be seen when it exits.
    fn into_started(mut self, process: StartedProcess) -> (StartedSession, OwnedFd) {
        if process.in_cgroup {
            self.cgroups.enter_v2();
        }
        let started = StartedSession {
            helper: HelperProcess { pid: process.pid, is_reaped: false },
            deadline: Instant::now() + TIMEOUT,
            cgroups: self.cgroups,
            master: self.terminal.map(|(master, _)| master),
            pumps: self.streams.pumps,
            report: self.report.0,
            release: self.release.0,
            signals: self.signals,
            shells: Vec::new(),
        };
        (started, self.socket.0)
    }
}

impl<'a> Session<'a> {
    /// Creates a session that reports its events to `sink`.
    pub fn new(request: ExecRequest<'a>, sink: &'a mut dyn FnMut(ExecEvent)) -> Self {
        Self { request, reporter: ExecReporter::new(request.plan.strict, sink) }
    }

    /// Runs the command, and returns when it has exited or is in the background.
    ///
    /// # Errors
    /// If the command did not run.
    pub fn run(mut self) -> Result<ExecOutcome, Error> {
        let prepared = self.prepare()?;
        let started = self.start(prepared)?;
        let admitted = self.admit(started)?;
        match self.request.plan.detach {
            true => Ok(ExecOutcome::Detached(admitted.container_pid, admitted.pid)),
            false => self.relay(admitted),
        }
    }

    /// Opens everything that the helper needs (step 1).
    fn prepare(&mut self) -> Result<PreparedSession, Error> {
        let ExecRequest { host, facts, plan, joins_cgroups, .. } = self.request;
        let wanted = if joins_cgroups { &facts.cgroups[..] } else { &[] };
        let cgroups = cgroups::open(host, wanted, &mut self.reporter)?;
        let (program, kind) =
            self_exe::own_program().map_err(cannot("cannot make a sealed copy of cinspect"))?;
        self.reporter.report(ExecEvent::HelperProgram(kind));
        let terminal = plan.terminal.map(|_| terminal::open_pair()).transpose();
        let terminal = terminal.map_err(|errno| {
            cannot("cannot allocate a terminal")(errno)
                .hint("`-T` runs the command without a terminal")
        })?;
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(cannot("cannot create a pipe"));
        let streams = Streams::new(plan).map_err(cannot("cannot create pipes"))?;
        let socket = socket::pair().map_err(cannot("cannot create a socket"))?;
        let report = pipe()?;
        let (release_reader, release_writer) = pipe()?;
        let tasks = cgroups.tasks().len();
        let plan = protocol::plan_file(plan, tasks).map_err(cannot("cannot write the plan"))?;
        let proc = fd::open(&host.proc_path(""), OFlag::O_PATH | OFlag::O_DIRECTORY)
            .map_err(cannot("cannot open /proc"))?;
        let thread = facts.thread.map(|tid| pidfd::open(tid, SignalScope::Thread)).transpose();
        let thread = thread.map_err(cannot("cannot open a pidfd of a thread"))?;
        // From here on signals wait to be forwarded, also while the helper starts.
        let signals = SignalForwarder::new().map_err(cannot("cannot read signals"))?;
        let release = (release_writer, release_reader);
        Ok(PreparedSession {
            cgroups,
            program,
            terminal,
            streams,
            plan,
            socket,
            report,
            release,
            proc,
            thread,
            signals,
        })
    }

    /// Starts the helper (step 2).
    fn start(&mut self, prepared: PreparedSession) -> Result<StartedSession, Error> {
        let name = CString::new(protocol::HELPER).unwrap_or_default();
        let fds = prepared.helper_fds(self.request);
        // The helper's child becomes this process's when the helper exits (PR_SET_CHILD_SUBREAPER(2const)).
        let _ = set_child_subreaper(true);
        let v2 = prepared.cgroups.v2();
        let process = process::start(prepared.program.as_fd(), &[name], &fds, v2)
            .map_err(cannot("cannot start the helper"))?;
        drop(fds);
        let (mut started, socket) = prepared.into_started(process);
        let (events, outcome) = receive_until_ready(&mut started, &socket)?;
        for event in events {
            if let ExecEvent::Shells(shells) = &event {
                started.shells.clone_from(shells);
            }
            self.reporter.report(event);
        }
        outcome.map(|()| started)
    }

    /// Verifies the command's process, moves it into the cgroups and lets it run (step 3).
    fn admit(&mut self, mut started: StartedSession) -> Result<AdmittedSession, Error> {
        let pid = self.adopt(&mut started)?;
        let StartedSession {
            deadline,
            cgroups,
            master,
            pumps,
            report,
            release,
            signals,
            shells,
            ..
        } = started;
        // The report is verified: only the helper's child can have become this process's.
        let host = self.request.host;
        let killed =
            || cannot_enter("the command's process was killed before it could run the command");
        let status = host.status(pid).map_err(|_| killed())?;
        if u32::try_from(status.ppid) != Ok(std::process::id()) {
            return Err(cannot_enter("the PID reported by the helper is not its child"));
        }
        let command = pidfd::open(pid.get(), SignalScope::Process)
            .map_err(cannot("cannot open a pidfd of the command"))?;
        cgroups.join(pid, &mut self.reporter)?;
        let mut limits = 0;
        if let Some(attributes) = &self.request.plan.attributes {
            outside::apply_affinity(pid, attributes, &mut self.reporter)?;
            limits = outside::apply_limits(host, pid, attributes, &mut self.reporter)?;
        }
        if let Some(master) = &master {
            let size = terminal_size().or(self.request.plan.terminal).unwrap_or((24, 80));
            let _ = terminal::set_size(master, size);
        }
        let container_pid = status.nspid.last().and_then(|pid| ContainerPid::new(*pid));
        let mut release = File::from(release);
        release.write_all(&limits.to_ne_bytes()).map_err(|_| killed())?;
        let mut admitted =
            AdmittedSession { master, pumps, report, signals, pid, container_pid, command, shells };
        self.read_reports(&mut admitted, deadline)?;
        Ok(admitted)
    }

    /// Waits until the helper has created its child and exited, and returns the child.
    fn adopt(&self, started: &mut StartedSession) -> Result<HostPid, Error> {
        let StartedSession { helper, deadline, cgroups, release, report, .. } = started;
        let pid = loop {
            match next_report(report, *deadline) {
                Some(ChildReport::Created(pid)) => break pid,
                Some(ChildReport::Failed { errno: Errno::EAGAIN, .. })
                    if cgroups.leave(
                        self.request.host,
                        &self.request.facts.own_cgroups,
                        helper.pid,
                    ) =>
                {
                    let _ = nix::unistd::write(&*release, &[0; 4]);
                }
                Some(ChildReport::Failed { errno, .. }) => {
                    return Err(cannot("cannot create a process in the container")(errno)
                        .hint("the container may have reached its limit of PIDs"));
                }
                _ => return Err(helper.exit_error()),
            }
        };
        let pidfd = pidfd::open(helper.pid, SignalScope::Process)
            .map_err(cannot("cannot open a pidfd of the helper"))?;
        if !is_readable(&pidfd, *deadline) {
            return Err(cannot_enter("the helper does not exit")
                .hint("it may be frozen with the container"));
        }
        helper.is_reaped = true;
        wait_for(helper.pid);
        let _ = set_child_subreaper(false);
        Ok(pid)
    }

    /// Reads the child's reports until it runs the command, which closes their pipe, or for as long as the
    /// deadline allows: a file system may take its time.
    fn read_reports(
        &mut self,
        admitted: &mut AdmittedSession,
        deadline: Instant,
    ) -> Result<(), Error> {
        while let Some(report) = next_report(&admitted.report, deadline) {
            match report {
                ChildReport::Created(_) => {}
                ChildReport::Failed { errno, found } => {
                    let shells = &admitted.shells;
                    let ExecRequest { plan, container, .. } = self.request;
                    wait_for(admitted.pid.get());
                    return Err(command_error(plan, container, shells, errno, found));
                }
                ChildReport::NextShell(errno) => {
                    let failed = admitted.shells.remove(0);
                    let next = admitted.shells.first().map_or("", String::as_str);
                    let cause = format!("`{failed}`: {}, so `{next}` runs", os_error(errno));
                    self.reporter.deviation(AccountEntry::changed("login shell", cause))?;
                }
                ChildReport::LimitFailed(resource, errno) => {
                    outside::limit_not_applied(resource, errno, &mut self.reporter)?;
                }
                ChildReport::TerminalFailed(errno) => {
                    self.reporter.not_applied(Attribute::ControllingTerminal, os_error(errno))?;
                }
                ChildReport::ProcFailed(errno) => {
                    self.reporter.not_applied(Attribute::ProcMount, os_error(errno))?;
                }
            }
        }
        Ok(())
    }

    /// Connects cinspect's stdin and stdout with the command's terminal. If stdin is a terminal
    /// itself, it is set to raw mode.
    fn connect_terminal(master: &OwnedFd) -> Result<(Option<RawMode>, Vec<Pump>), Error> {
        let size = terminal_size();
        let raw_mode = size.map(|_| RawMode::new()).transpose();
        let raw_mode = raw_mode.map_err(cannot("cannot use the terminal"))?;
        let pumps =
            terminal_pumps(master, size.is_some()).map_err(cannot("cannot use the terminal"))?;
        Ok((raw_mode, pumps))
    }

    /// Relays streams and signals until the command exits (step 4).
    fn relay(&mut self, mut admitted: AdmittedSession) -> Result<ExecOutcome, Error> {
        // Only now: the messages about the command are printed, in lines.
        let (raw_mode, pumps) = match &admitted.master {
            Some(master) => Self::connect_terminal(master)?,
            None => (None, std::mem::take(&mut admitted.pumps)),
        };
        let terminal = admitted.master.as_ref().map(|master| (master, raw_mode.as_ref()));
        let AdmittedSession { command, signals, .. } = &admitted;
        let relayed = Relay { command, pumps, terminal, signals }.run();
        drop(raw_mode);
        let status = wait_for(admitted.pid.get());
        self.read_reports(&mut admitted, Instant::now())?;
        relayed.map_err(|(message, errno)| cannot(message)(errno))?;
        Ok(ExecOutcome::Exited(status))
    }
}

fn cannot_enter(cause: &str) -> Error {
    failure("cannot enter the container").cause(cause)
}

/// Receives the helper's messages until it is ready or has failed: its events, and the outcome. Notes the cgroups
/// that it has moved itself into.
fn receive_until_ready(
    started: &mut StartedSession,
    socket: &OwnedFd,
) -> Result<(Vec<ExecEvent>, Result<(), Error>), Error> {
    loop {
        if !is_readable(socket, started.deadline) {
            return Err(cannot_enter("its file system does not respond").hint(SKIP_MNT));
        }
        match protocol::receive(socket) {
            Ok(Some((HelperMessage::Terminal, master))) => {
                started.master = master.or(started.master.take());
            }
            Ok(Some((HelperMessage::Ready(events, tasks), _))) => {
                started.cgroups.enter_v1(&tasks);
                return Ok((events, Ok(())));
            }
            Ok(Some((HelperMessage::Failed(events, error), _))) => return Ok((events, Err(error))),
            Ok(None) | Err(_) => return Err(started.helper.exit_error()),
        }
    }
}

/// Waits until a descriptor can be read; false when the deadline has passed.
fn is_readable(reader: &OwnedFd, deadline: Instant) -> bool {
    loop {
        let remaining = deadline.saturating_duration_since(Instant::now());
        match fd::poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], Some(remaining)) {
            Err(Errno::EINTR) => {}
            result => return result.is_ok_and(|count| count > 0),
        }
    }
}

fn next_report(report: &OwnedFd, deadline: Instant) -> Option<ChildReport> {
    if !is_readable(report, deadline) {
        return None;
    }
    ChildReport::read(File::from(report.try_clone().ok()?))
}

/// The helper, a child of cinspect; killed when dropped before it has exited.
struct HelperProcess {
    pid: i32,
    is_reaped: bool,
}

/// Waits for a child, and returns its status: 128 and the signal's number if one has killed it.
fn wait_for(pid: i32) -> u8 {
    match ended(pid, 0) {
        Some(Ending::Status(status)) => u8::try_from(status).unwrap_or(125),
        Some(Ending::Signal(signal, _)) => u8::try_from(128 + signal.number()).unwrap_or(u8::MAX),
        None => 125,
    }
}

/// Reaps a child, and returns how it ended; none if it runs (with WNOHANG), or is not a child.
fn ended(pid: i32, flags: i32) -> Option<Ending> {
    process::wait(pid, flags).ok().flatten().and_then(Ending::from_wait_status)
}

impl HelperProcess {
    /// Returns the error for a helper that has closed its pipes without a message.
    fn exit_error(&self) -> Error {
        match ended(self.pid, libc::WNOHANG) {
            Some(Ending::Signal(signal, _)) if signal.number() == libc::SIGSYS => {
                cannot_enter("its seccomp filter forbids a system call that entering it requires")
                    .hint("`--privileged` runs the command without the filter")
            }
            Some(Ending::Signal(signal, _)) => {
                cannot_enter(&format!("the helper was killed by {signal}"))
            }
            _ => cannot_enter("the helper exited unexpectedly"),
        }
    }
}

impl Drop for HelperProcess {
    fn drop(&mut self) {
        // It is this process's child and was not waited for, so its PID is not reused. If it hangs in the
        // kernel it is left behind.
        if !self.is_reaped {
            let pid = Pid::from_raw(self.pid);
            let _ = kill(pid, Signal::SIGKILL);
            let _ = process::wait(self.pid, libc::WNOHANG);
        }
    }
}
