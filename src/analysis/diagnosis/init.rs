//! Findings about the init, which decides most of a stop: the effect of the stop signal on it, and another
//! signal that would end it.

use super::{DETACH, Diagnosis, is_node, is_shell, probably_continues};
use crate::analysis::container_process::ContainerProcess;
use crate::analysis::delivery::{Prediction, STARTING};
use crate::analysis::finding::{FindingCode, Severity};
use crate::analysis::forecast::Answer;
use crate::analysis::joined::EnginePurpose;
use crate::analysis::programs::{program_note, program_of};
use crate::model::process::Fact;
use crate::model::signal::{Signal, SignalSet};
use crate::model::verdict::Verdict;

impl Diagnosis<'_> {
    /// Adds the findings about the init.
    pub(super) fn init(&mut self) {
        let Some(index) = self.init else { return };
        let (process, prediction) = (&self.input.processes[index], &self.input.predictions[index]);
        let is_replaced = self.preferred(process, prediction);
        match prediction.verdict {
            _ if self.signal == Signal::KILL || self.signal == Signal::STOP => {
                self.uncatchable(process);
            }
            Verdict::Discarded => self.discarded(index),
            Verdict::Ignored => self.ignored(process),
            Verdict::Pending if !is_replaced => self.blocked(process, prediction),
            Verdict::Delayed if self.is_paused => {}
            Verdict::Delayed => self.delayed(Severity::Problem, process, prediction),
            Verdict::Unknown | Verdict::NoEffect => self.unknown(process, prediction),
            Verdict::Handled | Verdict::Accepted if !is_replaced => self.received(index),
            _ => {}
        }
    }

    /// Whether a process is forecast to exit.
    fn forecasts_exit(&self, process: &ContainerProcess) -> bool {
        let index = self.input.processes.iter().position(|p| p.facts.id == process.facts.id);
        let forecast = index.and_then(|index| self.forecast(index));
        forecast.is_some_and(|forecast| forecast.exits == Answer::Yes)
    }

    /// Adds a finding if the program exits more gracefully on another signal. Returns whether it does not
    /// exit on the stop signal at all.
    fn preferred(&mut self, process: &ContainerProcess, prediction: &Prediction) -> bool {
        let signal = self.signal;
        let preferred = program_of(&process.facts).and_then(|program| program.preferred);
        let Some(preferred) = preferred.filter(|preferred| preferred.instead_of == signal) else {
            return false;
        };
        // (uWSGI with die-on-term exits on TERM.)
        let exits = self.forecasts_exit(process);
        if preferred.kills && exits {
            return false;
        }
        let severity = if preferred.kills { Severity::Problem } else { Severity::Warning };
        let note = program_note(&process.facts, signal, prediction);
        let note = note.as_deref().unwrap_or("see its manual");
        let by = preferred.signal;
        self.add(
            severity,
            FindingCode::StopSignal,
            process,
            format!("{signal} is not its graceful stop signal: {note}"),
            self.remedies.stop_signal_for_good(by),
        );
        preferred.kills
    }

    /// Adds the finding for a stop signal that no process can handle.
    fn uncatchable(&mut self, process: &ContainerProcess) {
        let signal = self.signal;
        let effect = match signal {
            Signal::KILL => "KILL gives no process time to exit",
            _ => "STOP stops it, and it does not exit",
        };
        let better = self.on_another(Answer::Yes).or_else(|| self.on_another(Answer::Maybe));
        let remedy = match better {
            Some((other, _)) => self.remedies.stop_signal(other),
            None => "set a stop signal that it handles".into(),
        };
        self.add(Severity::Problem, FindingCode::StopSignal, process, effect, remedy);
    }

    /// Returns another signal on which the init exits, or may exit, and whether it does. HUP is never one:
    /// to most programs it means that they read their configuration again.
    fn alternative(&self, init: &ContainerProcess) -> Option<(Signal, Answer)> {
        let is_likely = |(other, _): &(Signal, Answer)| !probably_continues(init, *other);
        let may_exit = || self.on_another(Answer::Maybe).filter(is_likely);
        self.on_another(Answer::Yes).or_else(may_exit)
    }

    /// Returns the first other signal to which the forecast for the init is this. (An init that loses the signal
    /// may exit by itself, as `sleep` does in the end.)
    pub(super) fn on_another(&self, exits: Answer) -> Option<(Signal, Answer)> {
        self.input.alternatives.iter().find_map(|(signal, forecast)| {
            let init = forecast.processes.iter().find(|f| Some(f.process) == self.init)?;
            let is_lost = init.deliveries.iter().all(|d| d.prediction.verdict.is_lost());
            (init.exits == exits && !is_lost).then_some((*signal, exits))
        })
    }

    /// Returns the remedy of another stop signal as the end of a sentence, or nothing.
    fn or_another_signal(&self, init: &ContainerProcess) -> String {
        match self.alternative(init) {
            Some((other, Answer::Yes)) => format!("; or {}", self.remedies.stop_signal(other)),
            Some((other, _)) => {
                format!("; or, if it exits on {other}, {}", self.remedies.stop_signal(other))
            }
            None => String::new(),
        }
    }

    /// Returns the severity of a stop signal that does nothing to the init.
    fn severity_of_timeout(&self) -> Severity {
        if self.may_exit() { Severity::Warning } else { Severity::Problem }
    }

    fn discarded(&mut self, index: usize) {
        let process = &self.input.processes[index];
        let (signal, timeout, main) = (self.signal, self.timeout(), self.main);
        let has_others = self.has_others(index);
        let under_init = self.remedies.under_init();
        let (code, message, remedy) = if has_others && is_shell(process) {
            let message = format!(
                "{main} is a shell without a trap for {signal}: the kernel discards it, the signal is not forwarded to its children, and {timeout}"
            );
            (FindingCode::ShellForm, message, self.for_shell(index))
        } else {
            let message = format!(
                "{main} has no handler for {signal}: the kernel discards it, and {timeout}"
            );
            let another = self.or_another_signal(process);
            let remedy = match has_others {
                false => format!("{under_init}, or add a handler for the signal{another}"),
                // Under an init it would be terminated, and its children would be killed with the
                // namespace.
                true => format!(
                    "add a handler for the signal that stops its children, too{another}; if it need not stop them, {under_init}"
                ),
            };
            (FindingCode::InitWithoutHandler, message, remedy)
        };
        self.add(self.severity_of_timeout(), code, process, message, remedy);
    }

    fn ignored(&mut self, process: &ContainerProcess) {
        let remedy = match self.alternative(process) {
            Some(_) => {
                format!("add a handler for the signal{}", self.or_another_signal(process))
            }
            None => "add a handler for the signal, or set a stop signal that it handles".into(),
        };
        let message = format!("{} ignores {}: {}", self.main, self.signal, self.timeout());
        self.add(self.severity_of_timeout(), FindingCode::InitIgnores, process, message, remedy);
    }

    fn blocked(&mut self, process: &ContainerProcess, prediction: &Prediction) {
        let (signal, timeout, main) = (self.signal, self.timeout(), self.main);
        let note = program_note(&process.facts, signal, prediction);
        if let Some(note) = note.filter(|_| self.may_exit()) {
            let message = format!("{main} blocks {signal}: {note}");
            let remedy = self.find_out();
            self.add(Severity::Warning, FindingCode::InitBlocks, process, message, remedy);
            return;
        }
        // It was seen blocked each time; that is a fact about these moments only.
        let reason = process.facts.blocked_for_now(signal, self.grace);
        if let Some(reason) = reason.filter(|reason| !reason.needs_check()) {
            self.add(
                Severity::Warning,
                FindingCode::InitBlocks,
                process,
                format!("{main} blocks {signal} at this moment; {}", reason.describe()),
                format!(
                    "{} shows whether it is still blocked; if it always is, unblock it in the program, or wait for it there",
                    self.remedies.command("signals")
                ),
            );
            return;
        }
        let exception =
            reason.map_or_else(String::new, |reason| format!(" ({})", reason.describe()));
        let message = format!(
            "every thread of {main} blocks {signal}, and none is waiting for it{exception}: {timeout}"
        );
        let remedy = format!(
            "unblock it, or wait for it with sigwait(3) or a signalfd(2){}",
            self.or_another_signal(process)
        );
        self.add(Severity::Problem, FindingCode::InitBlocks, process, message, remedy);
    }

    fn unknown(&mut self, process: &ContainerProcess, prediction: &Prediction) {
        let note = prediction.note.as_deref().unwrap_or("a fact is missing");
        let message = format!("cannot tell what {} does to {}: {note}", self.signal, self.main);
        let remedy = if note == STARTING {
            "look again when it has been started".into()
        } else if prediction.verdict == Verdict::NoEffect {
            "its parent has to reap it".into()
        } else if process.facts.status.tracer_pid != 0 {
            DETACH.into()
        } else if matches!(process.facts.waits, Fact::Denied) {
            "run as root".into()
        } else {
            self.find_out()
        };
        self.add(Severity::Warning, FindingCode::Unknown, process, message, remedy);
    }

    /// Adds the finding for an init that receives the signal, and does not exit or may not.
    fn received(&mut self, index: usize) {
        let Some(forecast) = self.forecast(index) else { return };
        if self.forwards(index) {
            // The processes that it forwards the signal to decide.
            return;
        }
        let process = &self.input.processes[index];
        let (signal, why) = (self.signal, forecast.why.clone());
        match forecast.exits {
            Answer::Yes => {}
            Answer::Maybe => self.uncertain(index, &why),
            Answer::No => {
                let message =
                    format!("{} does not exit on {signal}: {why}; {}", self.main, self.timeout());
                let (code, remedy) = match self.alternative(process) {
                    _ if is_shell(process) => (FindingCode::DoesNotExit, self.for_shell(index)),
                    _ if is_node(process) => (FindingCode::DoesNotExit, self.for_node(index)),
                    Some((other, Answer::Yes)) => {
                        (FindingCode::StopSignal, self.remedies.stop_signal(other))
                    }
                    Some((other, _)) => (
                        FindingCode::StopSignal,
                        format!("if it exits on {other}, {}", self.remedies.stop_signal(other)),
                    ),
                    None => (
                        FindingCode::DoesNotExit,
                        "set a stop signal that it exits on, or make it exit on this one".into(),
                    ),
                };
                self.add(Severity::Problem, code, process, message, remedy);
            }
        }
    }

    fn has_others(&self, index: usize) -> bool {
        let mut all = 0..self.input.processes.len();
        all.any(|other| {
            other != index
                && self.forecast(other).is_some()
                && self.purpose(other) != Some(EnginePurpose::HealthCheck)
        })
    }

    /// Returns the remedy for a Node.js program without a listener: its own handler ends it below an init.
    fn for_node(&self, index: usize) -> String {
        let another = self.or_another_signal(&self.input.processes[index]);
        let under_init = self.remedies.under_init();
        let listener = "add a listener for the signal (process.on)";
        match self.has_others(index) {
            false => format!("{under_init}, or {listener} that exits{another}"),
            true => format!(
                "{listener} that stops its children, too{another}; if it need not stop them, {under_init}"
            ),
        }
    }

    /// Adds the finding for a process of which it is not known whether it exits.
    pub(super) fn uncertain(&mut self, index: usize, why: &str) {
        let process = &self.input.processes[index];
        // (A supervisor may send another signal than it gets.)
        let delivery = self.forecast(index).and_then(|forecast| forecast.deliveries.first());
        let signal = delivery.map_or(self.signal, |delivery| delivery.signal);
        let is_unlikely = probably_continues(process, signal);
        let severity = if is_unlikely { Severity::Warning } else { Severity::Info };
        let message = match why.contains(&signal.name()) {
            true => why.to_owned(),
            false => format!("{signal}: {why}"),
        };
        let remedy = if is_shell(process) && !why.contains("at once") {
            // (A trap that runs at once needs no `wait`: its text decides.)
            self.for_shell(index)
        } else if is_unlikely && !why.contains("at once") {
            format!("add a handler for the signal that exits, or {}", self.remedies.under_init())
        } else {
            self.find_out()
        };
        self.add(severity, FindingCode::Uncertain, process, message, remedy);
    }
}

/// Returns the signals, besides the stop signal, on which programs commonly exit, the usual ones first.
pub fn exit_signals() -> [Signal; 4] {
    [Signal::TERM, Signal::INT, Signal::QUIT, Signal::RTMIN_3]
}

/// Returns the same as a set.
pub fn exit_signal_set() -> SignalSet {
    exit_signals().into_iter().collect()
}
