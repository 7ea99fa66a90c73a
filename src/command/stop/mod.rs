//! `stop`: sends the container's stop signal, waits for the grace period, then sends KILL, and reports
//! each event. The procedure is in `action::stop`, the texts are in `output::stop_report`.

mod after;
mod container;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::{ArgMatches, Args};

use self::container::{ContainerStop, LinePrinter};
use super::{Command, Section, arguments, columns_section, command, resolve};
use crate::analysis::assumption::{Assumption, assumptions};
use crate::cli::args;
use crate::cli::context::Context;
use crate::completion::source::CompletionSource;
use crate::error::{Error, ExitStatus, os_error};
use crate::model::engine::EngineInfo;
use crate::model::signal::Signal;
use crate::model::stop_policy::StopPolicy;
use crate::model::stop_schedule::{StopOrder, StopSchedule, StopStep};
use crate::output::columns::forecast::FORECAST_COLUMNS;
use crate::output::escape::safe_str;
use crate::output::width::width;
use crate::proc::Host;
use crate::resolve::{Access, ResolvedContainer, Resolver};

/// Stop containers the way their engine does, reporting which processes were signalled, when each exited
/// and which were killed
///
/// The signal and the grace period are those recorded for the container, or the engine's defaults (TERM and 10 s
/// for most). `--order all` signals every process at once, `--order children-first` signals children
/// before their parents and the init last (after half the grace period, every remaining process is
/// signalled): use them for containers whose init does not forward the signal. A supervisor may restart
/// children that exit. The engine is not involved: to it the container has exited, and it restarts the
/// container if the restart policy says so.
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
        StopSchedule { steps: steps.into_iter().collect(), kill, ..StopSchedule::default() }
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
