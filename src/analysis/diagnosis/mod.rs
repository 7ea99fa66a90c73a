//! Finds the reasons why a stop would not be graceful, with remedies: from the forecast of the stop, the
//! effect of the stop signal on each process, and the settings that the engine recorded. The kinds of
//! findings are in `finding`. Nothing here reads a file.

mod advice;
mod events;
mod hook;
mod init;
mod leftovers;
mod others;

pub use events::has_log_file;
pub use hook::{describe as describe_hook, note as hook_note};
pub use init::{exit_signal_set, exit_signals};
pub use leftovers::OutsideParent;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::assumption::assumptions;
use super::container_process::ContainerProcess;
use super::delivery::Prediction;
use super::finding::{Finding, FindingCode, Severity};
use super::forecast::{Answer, Forecast, ProcessForecast};
use super::joined::{EnginePurpose, Joined, purposes};
use super::programs::{Forwarding, NODE, SHELL, SHELLS, program_of};
use super::remedy::{Remedies, quoted};
use super::wording::{counted, seconds};
use crate::model::cgroup::Freezer;
use crate::model::container::{Container, ContainerState};
use crate::model::exit_record::ExitRecord;
use crate::model::pid::HostPid;
use crate::model::process::Fact;
use crate::model::signal::Signal;
use crate::model::stop_policy::StopPolicy;
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
    /// The processes that are frozen, or may be.
    pub frozen: &'a HashMap<HostPid, Freezer>,
    /// The forecast of a stop by its engine.
    pub forecast: &'a Forecast,
    /// The same with children signalled first.
    pub children_first: &'a Forecast,
    /// The same with other signals that programs exit on, the usual ones first; and with the default one first, where
    /// its engine sends none.
    pub alternatives: &'a [(Signal, Forecast)],
    /// The parents outside of the container of its processes, by host PID.
    pub outside: &'a BTreeMap<i32, OutsideParent>,
    /// The kernel function that the init sleeps in, if it is exiting.
    pub init_wchan: Option<&'a str>,
    /// The processes that were killed for lack of memory, if the container's cgroup counts them.
    pub oom_kills: Option<&'a OomKills>,
    /// The engine's record of earlier runs.
    pub record: Option<&'a ExitRecord>,
    /// The time since it was started.
    pub age: Option<Duration>,
    /// Whether each process joined the container.
    pub joined: &'a [Joined],
}

/// The remedy for a process that is traced.
const DETACH: &str = "detach the tracer";

/// Processes of a container that were killed for lack of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomKills {
    /// Their number since the container was started.
    pub count: u64,
    /// The file that counts them.
    pub source: String,
    /// The memory limit in bytes, and the file that sets it, if there is one.
    pub limit: Option<(u64, String)>,
}

/// Returns the findings, most serious first; never none. `ok` is among them only if the forecast is
/// graceful.
pub fn diagnose(input: &DiagnosisInput<'_>) -> Vec<Finding> {
    let engine = input.container.engine;
    let init = input.processes.iter().position(|p| Some(p.facts.id) == input.container.init);
    let deliveries = input.forecast.processes.iter().flat_map(|forecast| &forecast.deliveries);
    let mut diagnosis = Diagnosis {
        input,
        signal: input.policy.signal_of(engine),
        grace: input.policy.grace_of(engine),
        init,
        main: if input.container.owns_pid_ns { "PID 1" } else { "the main process" },
        is_paused: input.container.state == ContainerState::Paused,
        remedies: Remedies::new(input.container, input.policy),
        forecasts: input.forecast.processes.iter().map(|f| (f.process, f)).collect(),
        forwarders: deliveries.filter_map(|delivery| delivery.sender).collect(),
        purposes: purposes(input.processes, input.joined),
        findings: Vec::new(),
    };
    if input.container.remark.is_some() {
        return diagnosis.sandboxed();
    }
    diagnosis.paused();
    diagnosis.init_exited();
    // (Without a signal, processes have nothing to handle.)
    if !diagnosis.exiting() && !diagnosis.no_signal() && !diagnosis.grace_period() {
        diagnosis.init();
        diagnosis.unreached();
        diagnosis.reached();
        diagnosis.other_states();
        diagnosis.suspended();
        diagnosis.doubt_by_hook();
    }
    diagnosis.companions();
    diagnosis.zombies();
    diagnosis.left_behind();
    diagnosis.oom_kills();
    diagnosis.crash_loop();
    diagnosis.health();
    diagnosis.restart();
    diagnosis.pre_stop_hook();
    diagnosis.assumptions();
    diagnosis.conclude()
}

/// A diagnosis under way.
struct Diagnosis<'a> {
    input: &'a DiagnosisInput<'a>,
    /// The stop signal.
    signal: Signal,
    grace: Duration,
    /// The index of the init.
    init: Option<usize>,
    /// The init in a sentence: it is PID 1 of a PID namespace of its own only.
    main: &'static str,
    is_paused: bool,
    remedies: Remedies<'a>,
    /// The forecasts, by the index of the process; none for one that has exited.
    forecasts: HashMap<usize, &'a ProcessForecast>,
    /// The processes that forward the signal.
    forwarders: HashSet<usize>,
    purposes: Vec<Option<EnginePurpose>>,
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

    /// Returns the forecast for a process; none for one that has exited.
    fn forecast(&self, process: usize) -> Option<&ProcessForecast> {
        self.forecasts.get(&process).copied()
    }

    /// Returns why the engine started a process in the running container, if it did.
    fn purpose(&self, process: usize) -> Option<EnginePurpose> {
        self.purposes.get(process).copied().flatten()
    }

    /// Whether a process forwards the signal, so that others decide whether it exits.
    fn forwards(&self, process: usize) -> bool {
        self.forwarders.contains(&process)
    }

    /// Whether children first is a better stop than that of the engine.
    fn children_first_helps(&self) -> bool {
        self.input.children_first.graceful.rank() > self.input.forecast.graceful.rank()
    }

    /// Whether the init may exit in time, although not on the signal: when its child does.
    fn may_exit(&self) -> bool {
        let forecast = self.init.and_then(|init| self.forecast(init));
        forecast.is_some_and(|forecast| forecast.exits == Answer::Maybe)
    }

    /// Returns what a stop does if the init does not exit on the signal.
    fn timeout(&self) -> String {
        match self.grace {
            grace if self.has_unknown_hook() => format!(
                "unless the preStop hook ends the container, a stop waits at most {} and then kills everything",
                seconds(grace)
            ),
            Duration::MAX if self.may_exit() => "a stop waits until it exits by itself".into(),
            Duration::MAX => "a stop waits forever".into(),
            grace if self.may_exit() => format!(
                "unless it exits by itself before, a stop waits {} and then kills everything",
                seconds(grace)
            ),
            grace => format!("a stop waits {} and then kills everything", seconds(grace)),
        }
    }

    /// Returns the findings about a container whose processes are in a sandbox.
    fn sandboxed(mut self) -> Vec<Finding> {
        if !self.no_signal() {
            let message = format!(
                "the effect of {} is not known: its processes are in a sandbox, and not on this host",
                self.signal
            );
            let remedy = "stop it with its engine";
            self.add_for_container(Severity::Info, FindingCode::Unknown, message, remedy);
        }
        self.oom_kills();
        self.crash_loop();
        self.health();
        self.restart();
        self.conclude()
    }

    fn paused(&mut self) {
        if self.is_paused {
            let stop = self.remedies.command("stop --unpause");
            self.add_for_container(
                Severity::Problem,
                FindingCode::Frozen,
                "the container is paused: signals take effect only after it is unpaused".into(),
                &match self.remedies.unpause() {
                    Some(command) => format!("{command}; or {stop}"),
                    None => format!("unpause it with its engine; or {stop}"),
                },
            );
        }
    }

    /// Adds a finding for each other container in the PID namespace.
    fn companions(&mut self) {
        for name in &self.input.forecast.companions {
            self.add_for_container(
                Severity::Problem,
                FindingCode::SharedPidNamespace,
                format!("{name} runs in this PID namespace: it gets SIGKILL without a signal first when PID 1 exits"),
                &format!("stop it first: `cinspect stop {}`", quoted(name)),
            );
        }
    }

    fn restart(&mut self) {
        let engine = self.input.container.engine;
        let Some(reason) = self.input.policy.restart_reason(engine) else { return };
        let message = match self.input.policy.always_restarts.or(engine.always_restarts) {
            // A kubelet restarts it even if the engine stops it.
            Some(_) => reason,
            None => format!("if anything but its engine stops it, {reason}"),
        };
        let code = FindingCode::Restart;
        self.add_for_container(
            Severity::Info,
            code,
            message,
            self.input.policy.keep_stopped(engine),
        );
    }

    fn assumptions(&mut self) {
        let policy = self.input.policy;
        let is_signalled = policy.unsignalled().is_none();
        let engine = self.input.container.engine;
        for assumption in assumptions(policy, engine, is_signalled, is_signalled) {
            let remedy = format!("in {}, {}", self.remedies.command("stop"), assumption.options);
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
                format!("it is unknown whether the engine restarts it: {reason}"),
                policy.keep_stopped.unwrap_or("after a stop, check whether it is running again"),
            );
        }
    }

    /// Returns the findings in their order, and makes sure that they agree with the forecast.
    fn conclude(mut self) -> Vec<Finding> {
        let forecast = self.input.forecast;
        if self.is_exiting() {
            self.findings.sort_by_key(|finding| finding.severity);
            return self.findings;
        }
        let has = |findings: &[Finding], severity| {
            findings.iter().any(|finding| finding.severity <= severity)
        };
        match forecast.graceful {
            Answer::Yes if !has(&self.findings, Severity::Warning) => {
                let ok = self.no_problem();
                self.findings.push(ok);
            }
            Answer::No if !has(&self.findings, Severity::Problem) => {
                let killed: Vec<usize> = self.with_answer(Answer::No);
                let message = format!(
                    "{} SIGKILL ({})",
                    counted(killed.len(), "process gets", "processes get"),
                    self.names(&killed)
                );
                let command = self.remedies.command("stop -n");
                let remedy = format!("{command} shows what happens to each process");
                let code = FindingCode::DoesNotExit;
                self.add_for_container(Severity::Problem, code, message, &remedy);
            }
            Answer::Maybe if !self.findings.iter().any(|f| f.code.is_doubt()) => {
                let command = self.remedies.command("stop -n");
                self.add_for_container(
                    Severity::Info,
                    FindingCode::Uncertain,
                    "it cannot be seen from outside whether every process exits".into(),
                    &format!("{command} shows which fact is missing for each process"),
                );
            }
            _ => {}
        }
        // An `ok` is the answer, and informational findings follow it.
        self.findings.sort_by_key(|finding| {
            let severity = match finding.severity {
                Severity::Problem => 0,
                Severity::Warning => 1,
                Severity::Ok => 2,
                Severity::Info => 3,
            };
            (severity, finding.code != FindingCode::ChildrenNotSignalled)
        });
        self.findings
    }

    fn with_answer(&self, answer: Answer) -> Vec<usize> {
        let matching = self.input.forecast.processes.iter().filter(|f| f.exits == answer);
        matching.map(|forecast| forecast.process).collect()
    }

    /// Returns a few processes in words.
    fn names(&self, processes: &[usize]) -> String {
        const NAMED: usize = 5;
        let name = |process: &usize| self.input.processes[*process].label();
        let mut names: Vec<String> = processes.iter().take(NAMED).map(name).collect();
        if processes.len() > NAMED {
            names.push("…".into());
        }
        names.join(", ")
    }

    /// Returns the finding of a container that stops gracefully: what a stop does.
    fn no_problem(&self) -> Finding {
        let (signal, main) = (self.signal, self.main);
        let init =
            self.init.map(|index| (&self.input.processes[index], &self.input.predictions[index]));
        let time = match self.input.policy.grace_after_hook(self.input.container.engine) {
            Duration::MAX => "unlimited time to exit".into(),
            grace => format!("{} to exit before SIGKILL", seconds(grace)),
        };
        let message = match init {
            Some((_, prediction)) if prediction.verdict.is_fatal() => {
                format!("{signal} terminates {main} at once")
            }
            Some((process, prediction)) => {
                let verb = match prediction.verdict {
                    Verdict::Handled => "handles",
                    _ => "receives",
                };
                // The verdict is the kernel's part; the program decides the rest. (The forecast
                // counts the processes that it forwards the signal to.)
                let forwards =
                    program_of(&process.facts).map_or(Forwarding::Unknown, |p| p.forwards);
                let note = prediction.note.as_ref().filter(|_| forwards == Forwarding::Unknown);
                let note = note.map_or_else(String::new, |note| format!("; {note}"));
                format!("{main} {verb} {signal} and gets {time}{note}")
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
}

/// Returns the name that a process was started with.
fn started_as(process: &ContainerProcess) -> Option<&[u8]> {
    let first = process.facts.command.known()?.argv().next()?;
    let name = first.rsplit(|b| *b == b'/').next().unwrap_or(first);
    Some(name.strip_prefix(b"-").unwrap_or(name))
}

/// Whether a process is a shell: by its executable, and by the name that it was started with where that
/// is not known.
fn is_shell(process: &ContainerProcess) -> bool {
    match &process.facts.exe {
        Fact::Known(_) => program_of(&process.facts).is_some_and(|program| program.name == SHELL),
        _ => started_as(process).is_some_and(|name| {
            name == b"busybox" || SHELLS.iter().any(|shell| shell.as_bytes() == name)
        }),
    }
}

/// Whether a process probably keeps running on a signal that it handles: Node.js as PID 1, whose own handlers
/// only raise the signal again, and a shell, whose trap runs after the command in its foreground.
fn probably_continues(process: &ContainerProcess, signal: Signal) -> bool {
    let is_pid_1 = process.facts.status.is_namespace_init();
    is_shell(process) || (is_pid_1 && is_node(process) && !has_listener(process, signal))
}

/// Whether a Node.js program is known to listen for a signal.
fn has_listener(process: &ContainerProcess, signal: Signal) -> bool {
    matches!(&process.facts.asked, Some(Ok(asked)) if asked.wanted.contains(signal))
}

fn is_node(process: &ContainerProcess) -> bool {
    program_of(&process.facts).is_some_and(|program| program.name == NODE)
}
