//! `stop`: sends the container's stop signal, waits for the grace period, then sends KILL, and reports
//! each event. The procedure is in `action::stop`, the texts are in `output::stop_report`.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::{ArgMatches, Args};

use super::after_stop::{CompanionProcesses, HeldExit, running_again, waits_for_zombie};
use super::forecast::{all_companions, forecast_of, snapshot_for};
use super::{Command, Section, arguments, columns_section, command, may_act, resolve};
use crate::action::freeze::unpause;
use crate::action::send::missing_pidfds;
use crate::action::stop::{StopEvent, StopEventKind, stop};
use crate::analysis::assumption::{Assumption, assumptions};
use crate::analysis::diagnosis::hook_note;
use crate::analysis::forecast::Forecast;
use crate::analysis::remedy::Remedies;
use crate::analysis::wording::processes;
use crate::cli::args;
use crate::cli::context::Context;
use crate::completion::source::CompletionSource;
use crate::engine::stop_policy;
use crate::error::{Error, ExitStatus, os_error};
use crate::model::container::ContainerState;
use crate::model::engine::EngineInfo;
use crate::model::signal::Signal;
use crate::model::stop_policy::StopPolicy;
use crate::model::stop_schedule::{StopOrder, StopProcedure, StopSchedule, StopStep};
use crate::output::columns::forecast::{FORECAST_COLUMNS, json_text, rows as forecast_rows, text};
use crate::output::escape::safe_str;
use crate::output::stop_report::{ReportLine, StopReporter};
use crate::output::style::Style;
use crate::output::width::width;
use crate::proc::Host;
use crate::resolve::processes::ContainerSnapshot;
use crate::resolve::{Access, ResolvedContainer, Resolver};

/// Stop containers the way their engine does, reporting which processes were signalled, when each exited
/// and which were killed
///
/// The signal and the grace period are those recorded for the container, or the engine's defaults (TERM and 10 s
/// for most). `--order all` signals every process at once, `--order children-first` signals children
/// before their parents and the init last (after half the grace period, every remaining process is
/// signalled): use them for containers whose init does not forward the signal. A supervisor may restart
/// children that exit. The engine is not involved: it sees the container exit, and restarts it if its
/// restart policy says so.
#[derive(Args)]
pub struct StopArgs {
    /// The containers
    #[arg(value_name = "CTR", required = true, add = CompletionSource::Containers)]
    containers: Vec<String>,
    /// Send this signal instead of the recorded one
    #[arg(short, long, value_name = "SIG", add = CompletionSource::Signals)]
    signal: Option<String>,
    /// Grace period before KILL: 0 for KILL at once, -1 for no limit
    #[arg(short, long, aliases = ["timeout", "grace-period"], value_name = "DUR", value_parser = args::grace_period, allow_hyphen_values = true, add = CompletionSource::Free)]
    time: Option<Duration>,
    /// Order in which processes get the signal
    #[arg(long, value_name = "ORDER", default_value = "init")]
    order: StopOrder,
    /// Send these signals in turn, waiting after each: `QUIT:5s,TERM:10s,KILL`
    #[arg(long, value_name = "STEPS", conflicts_with_all = ["signal", "time", "no_kill"], add = CompletionSource::Free)]
    schedule: Option<String>,
    /// Do not send KILL; exit 124 if processes are still running
    #[arg(long)]
    no_kill: bool,
    /// Unpause a paused container first
    #[arg(long)]
    unpause: bool,
    /// Show what would happen, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub const COMMAND: Command = command::<StopArgs>(
    "stop",
    &[],
    &[
        ("cinspect stop web", "its stop signal, then KILL"),
        ("cinspect stop -n web", "show what would happen"),
        ("cinspect stop --order children-first web", "children first, the init last"),
        ("cinspect stop --schedule QUIT:30s,TERM:5s,KILL web", "several signals in turn"),
        ("cinspect stop --no-kill -t 1m web db", "two containers, without KILL"),
    ],
    run,
)
.modifies()
.on_containers(&[ExitStatus::RunningAgain, ExitStatus::TimedOut])
.sections(|| vec![forecast_section()])
.files(&[
    (
        "/proc/PID/status, /proc/PID/task/TID/status",
        "Signal masks and dispositions, read before a signal is sent.",
    ),
    (
        "cgroup.kill, cgroup.freeze, freezer.state",
        "Written to kill all remaining processes at once, even while they fork, and to unpause a paused container.",
    ),
]);

fn forecast_section() -> Section {
    Section {
        title: "Forecast",
        intro: "With `-n`, one row per signal that a process gets, through every process that forwards it; then the forecast in one word: `graceful` if every process is known to exit without SIGKILL, `killed`, or `maybe` if a deciding fact is missing.",
        ..columns_section(FORECAST_COLUMNS)
    }
}

/// The stop that the user asked for.
struct StopRequest {
    signal: Option<Signal>,
    time: Option<Duration>,
    schedule: Option<StopSchedule>,
    order: StopOrder,
    kill: bool,
    unpause: bool,
}

impl StopRequest {
    /// Returns the schedule for a container with this policy. Without a grace period there is nothing
    /// but KILL.
    fn schedule(&self, policy: &StopPolicy, engine: &EngineInfo) -> StopSchedule {
        if let Some(schedule) = &self.schedule {
            return schedule.clone();
        }
        let signal = self.signal.unwrap_or_else(|| policy.signal_of(engine));
        let grace = self.time.unwrap_or_else(|| policy.grace_of(engine));
        let is_needed = !(grace.is_zero() && self.kill);
        let steps = is_needed.then_some(StopStep { signal, grace });
        // KILL never follows a grace period without a limit.
        let kill = self.kill && grace != Duration::MAX;
        StopSchedule { steps: steps.into_iter().collect(), kill }
    }

    /// Returns the settings of that schedule that are assumed, because they were not read.
    fn assumptions(&self, policy: &StopPolicy, engine: &EngineInfo) -> Vec<Assumption> {
        if self.schedule.is_some() {
            return Vec::new();
        }
        let is_killed_at_once = self.kill && self.time.is_some_and(|time| time.is_zero());
        let needs_signal = self.signal.is_none() && !is_killed_at_once;
        assumptions(policy, engine, needs_signal, self.time.is_none())
    }
}

/// A container to stop.
struct StopTarget<'a> {
    /// The reference that the user typed.
    reference: &'a str,
    found: ResolvedContainer<'a>,
}

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: StopArgs = arguments(matches)?;
    let request = StopRequest {
        signal: arguments.signal.as_deref().map(args::signal).transpose()?,
        time: arguments.time,
        schedule: arguments.schedule.as_deref().map(args::schedule).transpose()?,
        order: arguments.order,
        kill: !arguments.no_kill,
        unpause: arguments.unpause,
    };
    let host = context.host()?;
    let targets = resolve_all(context, &host, &arguments.containers);
    let is_single = targets.len() == 1;
    let name = |target: &StopTarget<'_>| width(&safe_str(&target.found.container.qualified()));
    let name_width = match is_single {
        true => 0,
        false => targets.iter().flatten().map(name).max().unwrap_or(0),
    };
    let stops = targets.into_iter().map(|target| {
        target.map(|target| ContainerStop::new(context, &request, target, name_width))
    });
    let outcomes = match arguments.dry_run {
        true => stops.map(|stop| stop?.dry_run()).collect(),
        false => stop_all(context, stops.collect()),
    };
    exit_status(context, outcomes, is_single)
}

/// Resolves the references. One container that is named twice is stopped once: two stops would race.
fn resolve_all<'a>(
    context: &Context,
    host: &'a Host,
    references: &'a [String],
) -> Vec<Result<StopTarget<'a>, Error>> {
    let resolver = Resolver::new(host);
    let mut known = HashSet::new();
    let targets = references.iter().map(|reference| {
        let found = resolve(context, &resolver, reference, Access::Act)?;
        Ok(StopTarget { reference, found })
    });
    let is_new = |target: &Result<StopTarget<'_>, Error>| {
        target.as_ref().map_or(true, |target| known.insert(target.found.container.qualified()))
    };
    targets.filter(is_new).collect()
}

/// Stops containers at the same time, and prints their events as they happen. One more outcome is the
/// failure to print them.
fn stop_all(
    context: &Context,
    mut stops: Vec<Result<ContainerStop<'_>, Error>>,
) -> Vec<Result<ExitStatus, Error>> {
    let printer = LinePrinter { context, failure: Mutex::default() };
    let mut outcomes = match stops.len() {
        // (One container needs no thread: the machine may have none left.)
        1 => stops.drain(..).map(|stop| stop?.stop(&printer)).collect(),
        _ => stop_side_by_side(stops, &printer),
    };
    context.ui.clear_progress();
    let failure = printer.failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.extend(failure.map(Err));
    outcomes
}

fn stop_side_by_side<'a>(
    stops: Vec<Result<ContainerStop<'a>, Error>>,
    printer: &LinePrinter<'_>,
) -> Vec<Result<ExitStatus, Error>> {
    let no_thread = |reference: &str, error| {
        Error::new(ExitStatus::Failed, format!("`{reference}` was not stopped"))
            .cause(format!("cannot start a thread: {}", os_error(error)))
            .hint("stop one container at a time")
    };
    let panicked =
        || Err(Error::new(ExitStatus::Failed, "internal error").cause("a worker thread panicked"));
    std::thread::scope(|scope| {
        let start = |stop: Result<ContainerStop<'a>, Error>| {
            let stop = stop?;
            let reference = stop.target.reference;
            std::thread::Builder::new()
                .spawn_scoped(scope, move || stop.stop(printer))
                .map_err(|error| no_thread(reference, error))
        };
        let threads: Vec<Result<_, Error>> = stops.into_iter().map(start).collect();
        threads
            .into_iter()
            .map(|thread| thread.and_then(|thread| thread.join().unwrap_or_else(|_| panicked())))
            .collect()
    })
}

/// Prints the lines of stops that go on side by side.
struct LinePrinter<'a> {
    context: &'a Context,
    /// The first failure to print.
    failure: Mutex<Option<Error>>,
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

/// Returns the first exit status that is not a success; prints the errors if there are several
/// containers.
fn exit_status(
    context: &Context,
    outcomes: Vec<Result<ExitStatus, Error>>,
    is_single: bool,
) -> Result<ExitStatus, Error> {
    let mut status = ExitStatus::Done;
    for outcome in outcomes {
        let next = match outcome {
            Ok(next) => next,
            Err(error) if is_single => return Err(error),
            Err(error) => {
                context.ui.warn_error(&error);
                error.status
            }
        };
        status = status.or(next);
    }
    Ok(status)
}

/// The stop of one container.
struct ContainerStop<'a> {
    context: &'a Context,
    target: StopTarget<'a>,
    policy: StopPolicy,
    /// The assumptions about this stop.
    assumptions: Vec<Assumption>,
    procedure: StopProcedure,
    unpause: bool,
    reporter: StopReporter,
}

impl<'a> ContainerStop<'a> {
    fn new(
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
        let procedure = StopProcedure { schedule, order, hook: None };
        let unpause = request.unpause;
        Self { context, target, policy, assumptions, procedure, unpause, reporter }
    }

    fn note(&self, text: &str) {
        self.context.ui.note(&format!("{}: {text}", safe_str(&self.reporter.container)));
    }

    /// Notes the assumptions, the other containers that are killed with this one, and whether the engine
    /// restarts it.
    fn note_policy(&self) {
        for companion in all_companions(&self.target.found) {
            let name = companion.qualified();
            let name = safe_str(&name);
            self.note(&format!("{name} runs in its PID namespace, and is killed with it"));
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

    fn dry_run(&self) -> Result<ExitStatus, Error> {
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

    fn stop(&self, printer: &LinePrinter<'_>) -> Result<ExitStatus, Error> {
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
            if let StopEventKind::NotStopped { unknown, .. } = event.kind {
                unknown_left = unknown;
            }
            match event.kind {
                StopEventKind::Stopped { killed, unknown } => {
                    last = Some((event.time, killed, unknown));
                }
                _ => send(&event),
            }
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
