//! The stop of one container: the notes before it, the forecast of `-n`, its events as they happen, and the
//! errors and notes after it.

use std::cell::{Cell, RefCell};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::after::{CompanionProcesses, HeldExit, running_again, waits_for_zombie};
use super::{StopRequest, StopTarget};
use crate::action::freeze::unpause;
use crate::action::send::missing_pidfds;
use crate::action::stop::{StopEvent, StopEventKind, stop};
use crate::analysis::assumption::Assumption;
use crate::analysis::diagnosis::hook_note;
use crate::analysis::forecast::Forecast;
use crate::analysis::remedy::Remedies;
use crate::analysis::wording::processes;
use crate::cli::context::Context;
use crate::command::forecast::{all_companions, forecast_of, snapshot_for};
use crate::command::may_act;
use crate::engine::stop_policy;
use crate::error::{Error, ExitStatus};
use crate::model::container::ContainerState;
use crate::model::stop_policy::StopPolicy;
use crate::model::stop_schedule::StopProcedure;
use crate::output::columns::forecast::{json_text, rows as forecast_rows, text};
use crate::output::escape::safe_str;
use crate::output::stop_report::{ReportLine, StopReporter};
use crate::output::style::Style;
use crate::resolve::processes::ContainerSnapshot;

/// Prints the lines of stops that go on side by side.
pub(super) struct LinePrinter<'a> {
    pub context: &'a Context,
    /// The first failure to print.
    pub failure: Mutex<Option<Error>>,
}

impl LinePrinter<'_> {
    /// Prints a line. A stop that has begun continues even if its events cannot be printed.
    fn print(&self, line: ReportLine) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match line {
            ReportLine::Answer(text) if failure.is_none() => {
                self.context.ui.clear_progress();
                *failure = self.context.print(&text).err();
            }
            ReportLine::Answer(_) => {}
            ReportLine::Progress(text) => self.context.ui.progress(&text),
        }
    }
}

/// The stop of one container.
pub(super) struct ContainerStop<'a> {
    context: &'a Context,
    pub target: StopTarget<'a>,
    policy: StopPolicy,
    /// The assumptions about this stop.
    assumptions: Vec<Assumption>,
    procedure: StopProcedure,
    unpause: bool,
    reporter: StopReporter,
}

impl<'a> ContainerStop<'a> {
    /// Reads how the container is stopped.
    pub(super) fn new(
        context: &'a Context,
        request: &StopRequest,
        target: StopTarget<'a>,
        name_width: usize,
    ) -> Self {
        let (host, container) = (target.found.host, &target.found.container);
        let policy = stop_policy(host, container);
        let schedule = request.schedule(&policy, container.engine);
        let assumptions = request.assumptions(&policy, container.engine);
        let reporter = StopReporter {
            host: host.name.clone(),
            container: container.qualified(),
            json: context.ui.json,
            style: Style::from(&context.ui),
            name_width,
            killed: RefCell::default(),
            assumed: assumptions.iter().map(Assumption::to_string).collect(),
            running_again: Cell::default(),
        };
        let order = request.order.in_container(container);
        let procedure = StopProcedure { schedule, order, hook: None, doubt: None };
        let unpause = request.unpause;
        Self { context, target, policy, assumptions, procedure, unpause, reporter }
    }

    fn note(&self, text: &str) {
        self.context.ui.note(&format!("{}: {text}", safe_str(&self.reporter.container)));
    }

    /// Notes the assumptions, the other containers that are killed when this one's init ends, and whether the engine
    /// restarts it.
    fn note_policy(&self) {
        for companion in all_companions(&self.target.found) {
            let name = companion.qualified();
            let name = safe_str(&name);
            self.note(&format!("{name} runs in its PID namespace, and is killed when PID 1 exits"));
        }
        if let Some(error) = missing_pidfds() {
            self.note(&format!("nothing can be stopped here: {error}"));
        }
        for assumption in &self.assumptions {
            self.note(&format!("{assumption} ({})", assumption.options));
        }
        if let Some(hook) = &self.policy.pre_stop {
            self.note(&safe_str(&hook_note(hook)));
        }
        if let Some(reason) = self.policy.restart_reason(self.target.found.container.engine) {
            self.note(&reason);
        }
    }

    /// Prints the forecast.
    pub(super) fn dry_run(&self) -> Result<ExitStatus, Error> {
        self.note_policy();
        if self.has_to_be_unpaused()? {
            self.note("it would be unpaused first");
        }
        let (snapshot, forecast) = self.forecast()?;
        let rows = forecast_rows(&forecast, &snapshot.processes, &snapshot.context);
        let text = match self.reporter.json {
            true => json_text(&forecast, &rows, &snapshot.context, &self.assumptions),
            false => text(&forecast, &snapshot.processes, &rows, &self.reporter.style),
        };
        self.context.print(&text)?;
        Ok(ExitStatus::Done)
    }

    fn forecast(&self) -> Result<(ContainerSnapshot, Forecast), Error> {
        let found = &self.target.found;
        let schedule = &self.procedure.schedule;
        let first = schedule.steps.first().map(|step| step.signal);
        let snapshot = snapshot_for(found, schedule.signals(), first)?;
        let forecast = forecast_of(found, &snapshot, &self.procedure);
        Ok((snapshot, forecast))
    }

    /// Stops the container, and prints its events.
    pub(super) fn stop(&self, printer: &LinePrinter<'_>) -> Result<ExitStatus, Error> {
        let found = &self.target.found;
        self.note_policy();
        may_act(found.host, "stop a container", ExitStatus::NotPermitted)?;
        if self.has_to_be_unpaused()? {
            let name = &self.reporter.container;
            unpause(found).map_err(|cause| {
                Error::new(ExitStatus::Failed, format!("cannot unpause `{name}`")).cause(cause)
            })?;
        }
        let companions = CompanionProcesses::read(found);
        let send = |event: &StopEvent| {
            if let Some(line) = self.reporter.line(event) {
                printer.print(line);
            }
        };
        let (mut last, mut unknown_left, mut held) = (None, 0, HeldExit::default());
        stop(found, &self.procedure, &mut |event| {
            if let Some(cause) = held.note(found, &event) {
                self.note(&cause);
            }
            match event.kind {
                StopEventKind::Stopped { killed, unknown } => {
                    last = Some((event.time, killed, unknown));
                    return;
                }
                StopEventKind::NotStopped { unknown, .. } => unknown_left = unknown,
                _ => {}
            }
            send(&event);
        })?;
        if let Some((time, killed, unknown)) = last {
            let ended = (killed, unknown);
            return Ok(self.conclude(&companions, time, ended, &send));
        }
        if !self.procedure.schedule.kill && unknown_left == 0 {
            return Ok(ExitStatus::TimedOut);
        }
        Err(self.not_stopped(unknown_left))
    }

    /// Returns the error for processes that are still running, of which so many were not signalled.
    fn not_stopped(&self, unknown: usize) -> Error {
        let (name, found) = (&self.reporter.container, &self.target.found);
        let error =
            Error::new(ExitStatus::Failed, format!("`{}` was not stopped", self.target.reference));
        if unknown > 0 {
            return error
                .cause("processes that started after its init had exited are left in its cgroup")
                .hint(format!(
                    "`cinspect ps {name}` shows them, and the same stop again signals them"
                ));
        }
        if let Some(cause) = waits_for_zombie(found) {
            return error.cause(cause).hint("let that parent run again, or end it");
        }
        error
            .cause("processes are still running after SIGKILL")
            .hint(format!("`cinspect ps {name}` shows them: frozen, or in uninterruptible sleep"))
    }

    /// Whether the container is paused and has to be unpaused first.
    ///
    /// # Errors
    /// If it is paused, and the user has not asked to unpause it: its processes would not act on a
    /// signal.
    fn has_to_be_unpaused(&self) -> Result<bool, Error> {
        let is_paused = self.target.found.container.state == ContainerState::Paused;
        if !is_paused || self.unpause {
            return Ok(is_paused);
        }
        Err(Error::new(ExitStatus::Failed, format!("`{}` is paused", self.reporter.container))
            .cause("its processes act on a signal only after it is unpaused")
            .hint(match Remedies::new(&self.target.found.container, &self.policy).unpause() {
                Some(command) => format!("use `--unpause`, or {command}"),
                None => "use `--unpause`".into(),
            }))
    }

    /// Reports the end of a stop: the containers that ended with this one, and whether it is running again.
    fn conclude(
        &self,
        companions: &CompanionProcesses,
        time: Duration,
        (mut killed, unknown): (usize, usize),
        send: &dyn Fn(&StopEvent),
    ) -> ExitStatus {
        let found = &self.target.found;
        for (name, count) in companions.ended(found.host) {
            killed += count;
            let name = safe_str(name);
            let processes = processes(count);
            self.note(&format!("{name} was killed with the PID namespace ({processes})"));
        }
        let event = StopEvent { time, kind: StopEventKind::Stopped { killed, unknown } };
        // (In JSON it is in the last event; a reader of text need not wait for the line.)
        if !self.reporter.json {
            send(&event);
        }
        let again = running_again(found, &self.policy);
        self.reporter.running_again.set(again);
        if self.reporter.json {
            send(&event);
        }
        let Some(again) = again else { return ExitStatus::Done };
        let advice = match again.by {
            Some(engine) => {
                let advice = self.policy.keep_stopped(found.container.engine);
                format!("; {engine} started it again: {advice}")
            }
            None => "; something other than its engine's restart policy may have started it".into(),
        };
        let name = safe_str(&self.reporter.container);
        let pid = again.pid;
        self.context.ui.warn(&format!("{name}: running again (host PID {pid}){advice}"));
        ExitStatus::RunningAgain
    }
}
