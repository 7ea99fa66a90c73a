//! Findings about the processes that the init does not decide for: those that no signal reaches, those that
//! get it and do not exit, and those that cannot act on it now.

use super::{DETACH, Diagnosis, is_shell};
use crate::analysis::container_process::{ContainerProcess, nearest};
use crate::analysis::delivery::{Prediction, waits_for_vfork};
use crate::analysis::finding::{FindingCode, Severity};
use crate::analysis::forecast::{Answer, KilledBy, ProcessForecast};
use crate::analysis::joined::EnginePurpose;
use crate::analysis::programs::{TINI, program_of};
use crate::analysis::wording::{counted, seconds};
use crate::model::cgroup::Freezer;
use crate::model::process::Fact;
use crate::model::verdict::Verdict;

/// The remedy for a process that is frozen without its container.
const THAW: &str = "thaw its cgroup";

/// Processes that no signal reaches, by the process that should have forwarded it.
struct Unreached {
    /// The nearest ancestor that gets a signal; the first of them if they do not descend from the init.
    ancestor: usize,
    is_outside: bool,
    exits: Answer,
    /// Why the engine started them in the running container, if it did.
    purpose: Option<EnginePurpose>,
    processes: Vec<usize>,
}

impl Diagnosis<'_> {
    /// Adds the findings about processes that no signal reaches.
    pub(super) fn unreached(&mut self) {
        let Some(init) = self.init else { return };
        // If the signal has no effect on the init itself, that is the finding.
        let is_lost = self.forecast(init).is_none_or(|f| f.exits == Answer::No);
        if is_lost && !self.forwards(init) {
            return;
        }
        for group in self.unreached_groups(init) {
            match group.exits {
                Answer::Yes => {}
                Answer::Maybe if group.purpose == Some(EnginePurpose::HealthCheck) => {
                    self.health_check(&group);
                }
                // If it does not exit itself, that is the finding.
                Answer::No if self.remains_running(group.ancestor) && !group.is_outside => {}
                Answer::No => self.not_signalled(&group),
                Answer::Maybe if group.is_outside => self.may_finish(&group),
                Answer::Maybe => self.perhaps_stopped(&group),
            }
        }
    }

    fn unreached_groups(&self, init: usize) -> Vec<Unreached> {
        let processes = self.input.processes;
        let from_init = nearest(processes, |process| (process == init).then_some(()));
        let is_signalled =
            |process: usize| self.forecast(process).is_some_and(|f| !f.deliveries.is_empty());
        let signalled = nearest(processes, |process| is_signalled(process).then_some(process));
        let mut groups: Vec<Unreached> = Vec::new();
        let forecasts = self.input.forecast.processes.iter();
        for forecast in forecasts.filter(|f| f.deliveries.is_empty()) {
            let (process, exits) = (forecast.process, forecast.exits);
            let is_outside = from_init[process].is_none();
            let ancestor = signalled[process].unwrap_or(init);
            let purpose = self.purpose(process);
            let is_group = |group: &&mut Unreached| {
                group.is_outside == is_outside
                    && group.purpose == purpose
                    && group.exits == exits
                    && (is_outside || group.ancestor == ancestor)
            };
            match groups.iter_mut().find(is_group) {
                Some(group) => group.processes.push(process),
                None => groups.push(Unreached {
                    ancestor: if is_outside { process } else { ancestor },
                    is_outside,
                    exits,
                    purpose,
                    processes: vec![process],
                }),
            }
        }
        groups
    }

    /// Whether a process does not exit for a reason of its own.
    fn remains_running(&self, process: usize) -> bool {
        !self.forwards(process) && self.forecast(process).is_some_and(|f| f.exits == Answer::No)
    }

    fn not_signalled(&mut self, group: &Unreached) {
        let ancestor = &self.input.processes[group.ancestor];
        let names = self.names(&group.processes);
        let processes = counted(group.processes.len(), "process gets", "processes get");
        let killed = format!("{processes} SIGKILL without a signal first ({names})");
        let is_init = Some(group.ancestor) == self.init;
        let signal = self.signal;
        let message = match is_init {
            _ if group.is_outside => format!("not started by {} (exec): {killed}", self.main),
            true if self.forwards(group.ancestor) => {
                format!("{} forwards {signal} to its own child only: {killed}", self.main)
            }
            true => {
                format!("{} exits on {signal} without signalling its children: {killed}", self.main)
            }
            false => format!("it exits on {signal} without forwarding it: {killed}"),
        };
        let mut remedy = if group.is_outside {
            self.end_session(group)
        } else if is_shell(ancestor) {
            self.for_shell(group.ancestor)
        } else if self.forwards(group.ancestor) {
            "run them under a supervisor that stops them, or in containers of their own".into()
        } else {
            "use a PID 1 that stops its children first and waits for them".to_owned()
        };
        if self.group_helps(group) {
            remedy.push_str("; or `tini -g`, which signals the whole process group");
        }
        if self.children_first_helps() && (group.is_outside || !is_shell(ancestor)) {
            let command = self.remedies.command("stop --order children-first");
            remedy.push_str(&format!("; or use {command}"));
        }
        let code = FindingCode::ChildrenNotSignalled;
        self.add(Severity::Problem, code, ancestor, message, remedy);
    }

    /// Adds the finding for a process that is probably the engine's own health check, which ends by itself. A
    /// session with the same command line has the same parent.
    fn health_check(&mut self, group: &Unreached) {
        let message = format!(
            "probably a health check, by its command line: if {} exits before it has finished, {} ({})",
            self.main,
            counted(group.processes.len(), "process gets SIGKILL", "processes get SIGKILL"),
            self.names(&group.processes)
        );
        let root = &self.input.processes[group.ancestor];
        let remedy = "if it is a session, exit it first; a check is not there between two checks";
        self.add(Severity::Info, FindingCode::HealthCheck, root, message, remedy);
    }

    /// Adds the finding for processes that joined, and that may finish before they are killed.
    fn may_finish(&mut self, group: &Unreached) {
        let unless = match group.purpose {
            Some(EnginePurpose::Unknown) => {
                "if this is a session; a health check or probe ends by itself"
            }
            _ => "unless finished before",
        };
        let message = format!(
            "not started by {} (exec): {} SIGKILL without a signal first ({}), {unless}",
            self.main,
            counted(group.processes.len(), "process gets", "processes get"),
            self.names(&group.processes)
        );
        let root = &self.input.processes[group.ancestor];
        let remedy = "if it is a session, exit it first";
        self.add(Severity::Warning, FindingCode::ChildrenNotSignalled, root, message, remedy);
    }

    /// Returns how to end processes that joined the container before it is stopped.
    fn end_session(&self, group: &Unreached) -> String {
        let joined = |index: &usize| self.input.processes[*index].parent.is_none();
        let roots: Vec<usize> = group.processes.iter().copied().filter(joined).collect();
        match roots.iter().find(|root| self.is_left_behind(**root)) {
            Some(root) => format!("end it first: {}", self.end_tree(&self.input.processes[*root])),
            None => "exit the session first".into(),
        }
    }

    /// Whether `tini -g` would let these processes exit: they are in the group that it signals, and the
    /// signal ends each of them at once, before tini exits with its child.
    fn group_helps(&self, group: &Unreached) -> bool {
        let Some(init) = self.init else { return false };
        let processes = self.input.processes;
        let is_tini = program_of(&processes[init].facts).is_some_and(|p| p.name == TINI);
        let pgrp = processes[group.ancestor].facts.stat.pgrp;
        // (A session has a group of its own.)
        is_tini
            && !group.is_outside
            && group.ancestor != init
            && group.processes.iter().all(|process| {
                processes[*process].facts.stat.pgrp == pgrp
                    && self.input.predictions[*process].verdict.is_fatal()
            })
    }

    fn perhaps_stopped(&mut self, group: &Unreached) {
        let ancestor = &self.input.processes[group.ancestor];
        let count = group.processes.len();
        let is_init = Some(group.ancestor) == self.init;
        let signal = self.signal;
        // (A shell without a trap has a finding of its own.)
        let verdict = self.input.predictions[group.ancestor].verdict;
        if is_shell(ancestor) && verdict.is_lost() {
            return;
        }
        if is_shell(ancestor) && verdict == Verdict::Handled {
            let remedy = self.for_shell(group.ancestor);
            self.add(
                Severity::Warning,
                FindingCode::ChildrenNotSignalled,
                ancestor,
                format!(
                    "a shell with a trap for {signal}: unless the trap forwards it and waits, {} SIGKILL without a signal first when {} exits",
                    counted(count, "process gets", "processes get"),
                    self.main
                ),
                remedy,
            );
            return;
        }
        let others = match count {
            1 => "other process".into(),
            count => format!("{count} other processes"),
        };
        let (code, message) = match is_init {
            true => (
                FindingCode::Children,
                format!(
                    "{} may or may not stop the {others} before it exits; any process still running then gets SIGKILL",
                    self.main
                ),
            ),
            false => (
                FindingCode::Grandchildren,
                format!(
                    "only it gets {signal}, and it may or may not stop the {others} before it exits"
                ),
            ),
        };
        let remedy = match self.restarts_children(group) {
            true => self.find_out(),
            false => format!(
                "{} signals children before their parents",
                self.remedies.command("stop --order children-first")
            ),
        };
        self.add(Severity::Info, code, ancestor, message, remedy);
    }

    /// Whether a process probably starts children again that exit: they are workers that run its own program.
    fn restarts_children(&self, group: &Unreached) -> bool {
        let processes = self.input.processes;
        let exe = &processes[group.ancestor].facts.exe;
        let mut exes = group.processes.iter().map(|process| &processes[*process].facts.exe);
        matches!(exe, Fact::Known(_)) && exes.any(|other| other == exe)
    }

    /// Adds the findings about processes other than the init that get the signal, and do not exit or may
    /// not: one for each kind.
    pub(super) fn reached(&mut self) {
        let mut kinds: Vec<(Vec<usize>, ProcessForecast)> = Vec::new();
        let forecasts = self.input.forecast.processes.iter();
        for forecast in forecasts.filter(|f| !f.deliveries.is_empty()) {
            let process = forecast.process;
            // The finding is about the process that it forwards the signal to.
            if Some(process) == self.init || forecast.exits == Answer::Yes || self.forwards(process)
            {
                continue;
            }
            let comm = |process: usize| &self.input.processes[process].facts.stat.comm;
            let is_kind = |(processes, known): &(Vec<usize>, ProcessForecast)| {
                known.why == forecast.why && comm(processes[0]) == comm(process)
            };
            match kinds.iter().position(is_kind) {
                Some(kind) => kinds[kind].0.push(process),
                None => kinds.push((vec![process], forecast.clone())),
            }
        }
        for (processes, forecast) in kinds {
            match forecast.exits {
                Answer::No => self.remains(&processes, &forecast),
                _ => self.uncertain(processes[0], &forecast.why),
            }
        }
    }

    fn remains(&mut self, processes: &[usize], forecast: &ProcessForecast) {
        // Paused, stopped and traced processes have findings of their own.
        let verdict = self.input.predictions[processes[0]].verdict;
        if verdict == Verdict::Delayed {
            return;
        }
        let killed = match forecast.killed {
            Some(KilledBy::Kernel) => format!("SIGKILL when {} exits", self.main),
            Some(KilledBy::Supervisor) => "SIGKILL from its supervisor".into(),
            _ if self.grace == std::time::Duration::MAX => {
                "no SIGKILL, and a stop waits forever".into()
            }
            _ => format!("SIGKILL after {}", seconds(self.grace)),
        };
        let more = match processes.len() {
            1 => String::new(),
            count => format!(", as do {} others", count - 1),
        };
        let message = format!("{}: it gets {killed}{more}", forecast.why);
        let process = &self.input.processes[processes[0]];
        let remedy = if verdict == Verdict::Ignored {
            "add a handler for the signal instead of ignoring it".into()
        } else if is_shell(process) {
            self.for_shell(processes[0])
        } else {
            "make it exit on the signal, or forward another one to it that it exits on".to_owned()
        };
        self.add(Severity::Problem, FindingCode::DoesNotExit, process, message, remedy);
    }

    /// Adds findings about processes other than the init that cannot act on the signal now.
    pub(super) fn other_states(&mut self) {
        if self.is_paused {
            return;
        }
        let input = self.input;
        let all = input.processes.iter().zip(input.predictions).enumerate();
        for (index, (process, prediction)) in all {
            if Some(index) == self.init || !process.in_container {
                continue;
            }
            let reason = process.facts.blocked_for_now(self.signal, self.grace);
            let is_for_now = reason.is_some_and(|reason| !reason.needs_check());
            match prediction.verdict {
                Verdict::Delayed => {
                    let is_needed = self.forecast(index).is_some_and(|f| !f.deliveries.is_empty());
                    let severity = if is_needed { Severity::Problem } else { Severity::Warning };
                    self.delayed(severity, process, prediction);
                }
                Verdict::Pending if !is_for_now => self.add(
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

    /// Adds the findings for processes that are stopped or frozen, and that the signal would not end if they
    /// ran. (The others have a finding about the signal, which takes effect when they run again.)
    pub(super) fn suspended(&mut self) {
        let input = self.input;
        for (index, process) in input.processes.iter().enumerate() {
            let prediction = &input.predictions[index];
            if self.is_paused || !process.in_container || prediction.verdict == Verdict::Delayed {
                continue;
            }
            let has_no_effect = matches!(
                prediction.verdict,
                Verdict::Ignored | Verdict::Discarded | Verdict::Pending
            );
            // (It might accept the signal otherwise.)
            let is_needed = prediction.verdict == Verdict::Pending
                && process.facts.blocked_for_now(self.signal, self.grace).is_some()
                && self.forecast(index).is_some_and(|f| !f.deliveries.is_empty());
            let severity = if is_needed { Severity::Problem } else { Severity::Warning };
            if process.facts.stat.state.is_stopped() {
                let remedy = self.resume(process);
                let message = "it is stopped, and does not run until it gets CONT";
                self.add(severity, FindingCode::Stopped, process, message, remedy);
            } else if has_no_effect && self.is_frozen(process) {
                let message = "it is frozen, and does not run until its cgroup is thawed";
                self.add(severity, FindingCode::Frozen, process, message, THAW);
            }
        }
    }

    /// Whether a process is in a frozen cgroup.
    fn is_frozen(&self, process: &ContainerProcess) -> bool {
        let freezer = self.input.frozen.get(&process.facts.id.pid);
        matches!(freezer, Some(Freezer::V1 | Freezer::V2))
    }

    fn resume(&self, process: &ContainerProcess) -> String {
        format!("{} resumes it", self.signal_to(process, "CONT"))
    }

    /// Adds the finding for a process that does not run.
    pub(super) fn delayed(
        &mut self,
        severity: Severity,
        process: &ContainerProcess,
        prediction: &Prediction,
    ) {
        let state = process.facts.stat.state;
        let why = prediction.note.as_deref().unwrap_or("it does not run");
        // (A process that v1 has frozen is in uninterruptible sleep.)
        let (code, remedy) = if self.is_frozen(process) {
            (FindingCode::Frozen, THAW.into())
        } else if state.is_stopped() {
            (FindingCode::Stopped, self.resume(process))
        } else if state.is_traced() || process.facts.status.tracer_pid != 0 {
            (FindingCode::Traced, DETACH.into())
        } else {
            let remedy = match waits_for_vfork(&process.facts) {
                true => "its child has to execute a program or exit",
                false => "check the device or network file system that it is waiting for",
            };
            (FindingCode::Uninterruptible, remedy.into())
        };
        let message = format!("{} has no effect yet: {why}", self.signal);
        self.add(severity, code, process, message, remedy);
    }
}
