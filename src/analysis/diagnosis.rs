//! Finds the reasons why a stop would not be graceful, with remedies: from the effect of the stop signal
//! on each process, the process tree, and the settings that the engine recorded. The kinds of findings
//! are in `finding`. Nothing here reads a file.

use std::time::Duration;

use super::container_process::ContainerProcess;
use super::delivery::Prediction;
use super::finding::{Finding, FindingCode, Severity};
use super::programs::{Forwarding, program_note, program_of};
use crate::model::container::{Container, ContainerState};
use crate::model::signal::Signal;
use crate::model::stop_policy::{StopPolicy, seconds};
use crate::model::verdict::Verdict;

/// The facts about a container that a diagnosis needs.
pub struct DiagnosisInput<'a> {
    /// The container.
    pub container: &'a Container,
    /// How its engine stops it.
    pub policy: &'a StopPolicy,
    /// Its processes.
    pub processes: &'a [ContainerProcess],
    /// The effect of the stop signal on each of them.
    pub predictions: &'a [Prediction],
    /// The effect on the init of other signals that programs exit on.
    pub alternatives: &'a [(Signal, Prediction)],
}

/// Shells, by the name that they were started with.
const SHELLS: &[&[u8]] = &[b"sh", b"bash", b"dash", b"ash", b"zsh", b"ksh", b"busybox"];

/// Returns the findings, most serious first; never none.
pub fn diagnose(input: &DiagnosisInput<'_>) -> Vec<Finding> {
    let engine = input.container.engine;
    let signal = input.policy.signal_of(engine);
    let grace = input.policy.grace_of(engine);
    let init = input.processes.iter().position(|p| Some(p.facts.id) == input.container.init);
    let mut diagnosis = Diagnosis {
        input,
        signal,
        grace,
        init,
        is_paused: input.container.state == ContainerState::Paused,
        findings: Vec::new(),
    };
    diagnosis.paused();
    diagnosis.init();
    diagnosis.other_processes();
    diagnosis.zombies();
    diagnosis.restart();
    diagnosis.assumptions();
    let mut findings = diagnosis.findings;
    findings.sort_by_key(|finding| finding.severity);
    if findings.iter().all(|finding| finding.severity == Severity::Info) {
        findings.insert(0, no_problem(input, init, signal, grace));
    }
    findings
}

/// A diagnosis under way.
struct Diagnosis<'a> {
    input: &'a DiagnosisInput<'a>,
    /// The stop signal.
    signal: Signal,
    grace: Duration,
    /// The index of the init.
    init: Option<usize>,
    is_paused: bool,
    findings: Vec<Finding>,
}

impl Diagnosis<'_> {
    fn add(
        &mut self,
        severity: Severity,
        code: FindingCode,
        process: &ContainerProcess,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.findings.push(Finding {
            severity,
            code,
            pid: process.pid,
            comm: Some(process.facts.stat.comm.clone()),
            message: message.into(),
            remedy: Some(remedy.into()),
        });
    }

    fn add_for_container(
        &mut self,
        severity: Severity,
        code: FindingCode,
        message: String,
        remedy: &str,
    ) {
        let remedy = Some(remedy.into());
        self.findings.push(Finding { severity, code, pid: None, comm: None, message, remedy });
    }

    fn paused(&mut self) {
        if self.is_paused {
            self.add_for_container(
                Severity::Problem,
                FindingCode::Frozen,
                "the container is paused: signals take effect only after it is unpaused".into(),
                "unpause it with its engine, or use `cinspect stop --unpause`",
            );
        }
    }

    fn restart(&mut self) {
        let engine = self.input.container.engine;
        let Some(reason) = self.input.policy.restart_reason(engine) else { return };
        let message = match engine.always_restarts {
            // A kubelet restarts it even if the engine stops it.
            Some(_) => reason,
            None => format!("if anything but its engine stops it, {reason}"),
        };
        let code = FindingCode::Restart;
        self.add_for_container(Severity::Info, code, message, engine.keep_stopped);
    }

    fn assumptions(&mut self) {
        let policy = self.input.policy;
        for assumption in policy.assumptions(self.input.container.engine, true, true) {
            let remedy = format!("in `cinspect stop`, {}", assumption.options);
            self.add_for_container(
                Severity::Info,
                FindingCode::Assumed,
                assumption.to_string(),
                &remedy,
            );
        }
        if let Some(reason) = policy.restart_unread.filter(|_| policy.restart.is_none()) {
            self.add_for_container(
                Severity::Info,
                FindingCode::Restart,
                format!("whether the engine restarts it is not known: {reason}"),
                "after a stop, look whether it is running again",
            );
        }
    }

    /// Adds the findings about the init, which decides most.
    fn init(&mut self) {
        let Some(index) = self.init else { return };
        let input = self.input;
        let (process, prediction) = (&input.processes[index], &input.predictions[index]);
        let signal = self.signal;
        let preferred = program_of(&process.facts).and_then(|program| program.preferred);
        if let Some(preferred) = preferred.filter(|preferred| preferred.instead_of == signal) {
            let severity = if preferred.kills { Severity::Problem } else { Severity::Warning };
            let note = program_note(&process.facts, signal, prediction);
            let graceful = preferred.signal;
            self.add(
                severity,
                FindingCode::StopSignal,
                process,
                format!(
                    "{signal} is not its graceful stop signal: {}",
                    note.as_deref().unwrap_or("see its manual")
                ),
                format!(
                    "set `STOPSIGNAL SIG{graceful}` in the image, or `--stop-signal SIG{graceful}`; for now, `cinspect stop -s {graceful}`"
                ),
            );
            if preferred.kills {
                return;
            }
        }
        let is_lost = matches!(prediction.verdict, Verdict::Discarded | Verdict::Ignored);
        if let Some(other) = self.alternative(process).filter(|_| is_lost) {
            let problem = match prediction.verdict {
                Verdict::Ignored => format!("ignores {signal}"),
                _ => format!("has no handler for {signal}"),
            };
            self.add(
                Severity::Problem,
                FindingCode::StopSignal,
                process,
                format!("PID 1 {problem}, but handles {other}: {}", self.timeout()),
                format!(
                    "if it exits on {other}, set `STOPSIGNAL SIG{other}` in the image, or `--stop-signal SIG{other}`"
                ),
            );
            return;
        }
        self.init_verdict(index);
    }

    /// Returns another signal that the init receives.
    fn alternative(&self, init: &ContainerProcess) -> Option<Signal> {
        let received = self.input.alternatives.iter().filter(|(_, p)| p.is_received());
        // A shell catches INT itself, and does not exit on it.
        let is_of_use = |signal: &Signal| !is_shell(init) || *signal != Signal::INT;
        received.map(|(signal, _)| *signal).find(is_of_use)
    }

    /// Says what a stop does if the init does not exit on the signal.
    fn timeout(&self) -> String {
        match self.grace {
            Duration::MAX => "a stop waits forever".into(),
            grace => format!("a stop waits {} and then kills everything", seconds(grace)),
        }
    }

    /// Adds the finding for the effect of the stop signal on the init.
    fn init_verdict(&mut self, index: usize) {
        let input = self.input;
        let (process, prediction) = (&input.processes[index], &input.predictions[index]);
        let (signal, timeout) = (self.signal, self.timeout());
        let has_children = input.processes.iter().any(|other| other.parent == Some(index));
        let mut problem = |code, message: String, remedy| {
            self.add(Severity::Problem, code, process, message, remedy);
        };
        match prediction.verdict {
            Verdict::Discarded if is_shell(process) && has_children => problem(
                FindingCode::ShellForm,
                format!(
                    "PID 1 is a shell without a trap for {signal}: the kernel discards it, the signal is not forwarded to its children, and {timeout}"
                ),
                "write the command in exec form (`CMD [\"program\"]`), put `exec` before the last command, or trap the signal and forward it",
            ),
            Verdict::Discarded => problem(
                FindingCode::InitWithoutHandler,
                format!("PID 1 has no handler for {signal}: the kernel discards it, and {timeout}"),
                "run it under an init (`--init`, `init: true`, tini), or add a handler for the signal",
            ),
            Verdict::Ignored => problem(
                FindingCode::InitIgnores,
                format!("PID 1 ignores {signal}: {timeout}"),
                "add a handler for the signal, or set a stop signal that it handles",
            ),
            Verdict::Pending => problem(
                FindingCode::InitBlocks,
                format!(
                    "every thread of PID 1 blocks {signal}, and none is waiting for it: {timeout}"
                ),
                "unblock it, or wait for it with sigwait(3) or a signalfd(2)",
            ),
            Verdict::Delayed if self.is_paused => {}
            Verdict::Delayed => self.delayed(Severity::Problem, process, prediction),
            Verdict::Unknown | Verdict::NoEffect => {
                let note = prediction.note.as_deref().unwrap_or("a fact is missing");
                self.add(
                    Severity::Warning,
                    FindingCode::Unknown,
                    process,
                    format!("cannot tell what {signal} does to PID 1: {note}"),
                    "run as root",
                );
            }
            _ => self.remaining_processes(index),
        }
    }

    /// Adds the finding for the processes that are killed when the init exits, unless it has stopped
    /// them.
    fn remaining_processes(&mut self, index: usize) {
        let input = self.input;
        let init = &input.processes[index];
        let is_other = |(other, process): &(usize, &ContainerProcess)| {
            *other != index && process.in_container && !process.facts.stat.state.is_zombie()
        };
        let others: Vec<&ContainerProcess> =
            input.processes.iter().enumerate().filter(is_other).map(|(_, p)| p).collect();
        if others.is_empty() || !input.container.owns_pid_ns {
            return;
        }
        let signal = self.signal;
        let indirect = others.iter().filter(|process| process.parent != Some(index)).count();
        let forwards = program_of(&init.facts).map_or(Forwarding::Unknown, |p| p.forwards);
        let (severity, code, message, remedy) = match forwards {
            _ if is_shell(init) => (
                Severity::Warning,
                FindingCode::ChildrenNotSignalled,
                format!(
                    "PID 1 is a shell with a trap for {signal}: unless the trap forwards it and waits, {} SIGKILL without warning when PID 1 exits",
                    plural(others.len(), "process gets", "processes get")
                ),
                "in the trap, `kill -TERM` the children and `wait` for them; or use `cinspect stop --order children-first`",
            ),
            Forwarding::None => (
                Severity::Problem,
                FindingCode::ChildrenNotSignalled,
                format!(
                    "PID 1 exits on {signal} without signalling its children: {} SIGKILL without warning",
                    plural(others.len(), "process gets", "processes get")
                ),
                "use a PID 1 that stops its children first and waits for them; or use `cinspect stop --order children-first`",
            ),
            Forwarding::Child if indirect > 0 => (
                Severity::Info,
                FindingCode::Grandchildren,
                format!(
                    "PID 1 forwards {signal} to its direct child only: {} on that child",
                    plural(indirect, "other process depends", "other processes depend")
                ),
                "`tini -g` signals the whole process group; or use `cinspect stop --order children-first`",
            ),
            Forwarding::Unknown => (
                Severity::Info,
                FindingCode::Children,
                format!(
                    "PID 1 may or may not stop the {} before it exits; any process still running then gets SIGKILL",
                    match others.len() {
                        1 => "other process".into(),
                        count => format!("{count} other processes"),
                    }
                ),
                "`cinspect stop --order children-first` signals children before their parents",
            ),
            Forwarding::Child | Forwarding::All => return,
        };
        self.add(severity, code, init, message, remedy);
    }

    /// Adds findings about processes other than the init that do not act on the signal.
    fn other_processes(&mut self) {
        if self.is_paused {
            return;
        }
        let input = self.input;
        let pairs = input.processes.iter().zip(input.predictions).enumerate();
        for (index, (process, prediction)) in pairs {
            if Some(index) == self.init || !process.in_container {
                continue;
            }
            match prediction.verdict {
                Verdict::Delayed => self.delayed(Severity::Warning, process, prediction),
                Verdict::Pending => self.add(
                    Severity::Info,
                    FindingCode::Blocks,
                    process,
                    format!("every thread blocks {}, and none is waiting for it", self.signal),
                    "unblock it in the program; until then it has to be killed with SIGKILL",
                ),
                _ => {}
            }
        }
    }

    fn delayed(&mut self, severity: Severity, process: &ContainerProcess, prediction: &Prediction) {
        let state = process.facts.stat.state;
        let reason = prediction.note.as_deref().unwrap_or("it does not run");
        let (code, remedy) = match () {
            () if state.is_stopped() => {
                (FindingCode::Stopped, "`cinspect signal … CONT` resumes it")
            }
            () if state.is_traced() || process.facts.status.tracer_pid != 0 => {
                (FindingCode::Traced, "detach the tracer")
            }
            () if state.is_uninterruptible() => (
                FindingCode::Uninterruptible,
                "check the device or network file system that it is waiting for",
            ),
            () => (FindingCode::Frozen, "thaw its cgroup"),
        };
        let message = format!("{} has no effect yet: {reason}", self.signal);
        self.add(severity, code, process, message, remedy);
    }

    /// Adds a finding for each parent that has not reaped its children.
    fn zombies(&mut self) {
        let input = self.input;
        let mut counts: Vec<(usize, usize)> = Vec::new();
        let zombies = input.processes.iter().filter(|process| process.facts.stat.has_exited());
        for parent in zombies.filter_map(|zombie| zombie.parent) {
            match counts.iter_mut().find(|(known, _)| *known == parent) {
                Some((_, count)) => *count += 1,
                None => counts.push((parent, 1)),
            }
        }
        for (parent, count) in counts {
            self.add(
                Severity::Warning,
                FindingCode::Zombies,
                &input.processes[parent],
                format!("it leaves {}", plural(count, "zombie", "zombies")),
                "make it reap its children with wait(2), or run it under an init (`--init`, tini)",
            );
        }
    }
}

/// Returns the finding of a container without problems: what a stop does.
fn no_problem(
    input: &DiagnosisInput<'_>,
    init: Option<usize>,
    signal: Signal,
    grace: Duration,
) -> Finding {
    let init = init.map(|index| (&input.processes[index], &input.predictions[index]));
    let time = match grace {
        Duration::MAX => "unlimited time to exit".into(),
        grace => format!("{} to exit before SIGKILL", seconds(grace)),
    };
    let message = match init {
        Some((_, prediction)) if prediction.verdict.is_fatal() => {
            format!("{signal} terminates PID 1 at once")
        }
        Some((process, prediction)) => {
            let verb = match prediction.verdict {
                Verdict::Handled => "handles",
                _ => "receives",
            };
            // The verdict is the kernel's part; the program may make nothing of the signal. (Of one that
            // forwards it, another finding says as much.)
            let forwards = program_of(&process.facts).map_or(Forwarding::Unknown, |p| p.forwards);
            let note = prediction.note.as_ref().filter(|_| forwards == Forwarding::Unknown);
            let note = note.map_or_else(String::new, |note| format!("; {note}"));
            format!("PID 1 {verb} {signal} and gets {time}{note}")
        }
        None => format!("{signal} is sent, and the processes get {time}"),
    };
    Finding {
        severity: Severity::Ok,
        code: FindingCode::Ok,
        pid: init.and_then(|(process, _)| process.pid),
        comm: init.map(|(process, _)| process.facts.stat.comm.clone()),
        message,
        remedy: None,
    }
}

/// Returns the name that a process was started with.
fn started_as(process: &ContainerProcess) -> Option<&[u8]> {
    let path = process.facts.command.known()?.argv().next()?;
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
    Some(name.strip_prefix(b"-").unwrap_or(name))
}

fn is_shell(process: &ContainerProcess) -> bool {
    started_as(process).is_some_and(|name| SHELLS.contains(&name))
}

fn plural(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}
