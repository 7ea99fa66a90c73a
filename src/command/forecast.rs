//! The forecast of a stop, as the commands share it: the snapshot that it needs, and the procedure of the
//! container's engine. `analysis::forecast` does the work; nothing is sent.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::analysis::assumption::{Assumption, assumptions};
use crate::analysis::forecast::{
    FORWARDED, Forecast, awaits_no_child, drops_every_signal, forecast, is_short_command,
    may_be_short,
};
use crate::engine::{Inventory, stop_policy};
use crate::error::Error;
use crate::model::container::Container;
use crate::model::pid::HostPid;
use crate::model::process::{CommandLine, Process};
use crate::model::signal::{Signal, SignalSet};
use crate::model::stop_policy::{StopPolicy, UnsignalledEffect, UnsignalledStop};
use crate::model::stop_schedule::{StopOrder, StopProcedure, StopSchedule, StopStep};
use crate::proc::{CommandLimit, Host, SnapshotOptions, parallel_map};
use crate::resolve::processes::ContainerSnapshot;
use crate::resolve::{MatchRule, ResolvedContainer};
use crate::sys::parallel;

/// Returns the procedure of a container's engine, perhaps with another signal, which is then sent in any case.
pub(super) fn procedure_of(
    container: &Container,
    policy: &StopPolicy,
    signal: Option<Signal>,
) -> StopProcedure {
    let (schedule, doubt) = match policy.unsignalled().filter(|_| signal.is_none()) {
        Some(stop) => unsignalled(stop),
        None => {
            let signal = signal.unwrap_or_else(|| policy.signal_of(container.engine));
            let grace = policy.grace_after_hook(container.engine);
            // Without a grace period KILL follows the signal at once.
            let step = (!grace.is_zero()).then_some(StopStep { signal, grace });
            let steps = step.into_iter().collect();
            (StopSchedule { steps, kill: true, ..StopSchedule::default() }, None)
        }
    };
    let order = StopOrder::Init.in_container(container);
    StopProcedure { schedule, order, hook: policy.pre_stop.clone(), doubt }
}

/// Returns the schedule of a stop without a signal, and the reason why it is not known whether anything ends.
fn unsignalled(stop: UnsignalledStop) -> (StopSchedule, Option<&'static str>) {
    match stop.effect {
        UnsignalledEffect::KillsAfter(unsignalled) => {
            (StopSchedule { unsignalled, kill: true, ..StopSchedule::default() }, None)
        }
        UnsignalledEffect::Fails | UnsignalledEffect::Unknown => {
            (StopSchedule::default(), Some(stop.reason))
        }
    }
}

/// Returns the settings that a stop by the engine needs and that are assumed, each with the reason.
pub(super) fn assumed_by(policy: &StopPolicy, container: &Container) -> Vec<String> {
    let is_signalled = policy.unsignalled().is_none();
    let assumptions = assumptions(policy, container.engine, is_signalled, is_signalled);
    assumptions.iter().map(Assumption::to_string).collect()
}

/// Returns the signals of stops and those that forwarders send in their place: a snapshot has to show
/// which threads wait for them.
pub(super) fn forecast_signals(signals: SignalSet) -> SignalSet {
    signals.union(FORWARDED.into_iter().collect())
}

/// Takes the snapshot for forecasts of stops with these signals. Processes that block the first one now and
/// have a handler for it are read several times.
pub(super) fn snapshot_for(
    found: &ResolvedContainer<'_>,
    signals: SignalSet,
    first: Option<Signal>,
) -> Result<ContainerSnapshot, Error> {
    let options = snapshot_options(signals);
    let mut snapshot = found.snapshot(options)?;
    if let Some(signal) = first {
        found.settle(&mut snapshot, signal, options);
    }
    snapshot.joined = found.joined(&snapshot, true);
    Ok(snapshot)
}

fn snapshot_options(signals: SignalSet) -> SnapshotOptions {
    SnapshotOptions {
        command: CommandLimit::SCREEN,
        exe: true,
        waits: forecast_signals(signals),
        ..SnapshotOptions::BARE
    }
}

/// How a container's engine stops it.
pub(super) struct PlannedStop {
    /// Its settings.
    pub policy: StopPolicy,
    /// The procedure that they make.
    pub procedure: StopProcedure,
}

impl PlannedStop {
    /// Reads how a container is stopped.
    pub(super) fn read(found: &ResolvedContainer<'_>) -> Self {
        let policy = stop_policy(found.host, &found.container);
        let procedure = procedure_of(&found.container, &policy, None);
        Self { policy, procedure }
    }

    fn options(&self) -> SnapshotOptions {
        snapshot_options(self.procedure.schedule.signals())
    }

    /// Takes the snapshot for the forecast in one word: of an init alone that decides it ([`deciding_inits`]).
    ///
    /// # Errors
    /// The container has ended, or none of its processes can be read.
    pub(super) fn snapshot(
        &self,
        found: &ResolvedContainer<'_>,
        deciding_init: Option<&Arc<Process>>,
    ) -> Result<ContainerSnapshot, Error> {
        let alone = deciding_init.and_then(|init| found.snapshot_of_init(init, self.options()));
        alone.map_or_else(|| snapshot_for(found, self.procedure.schedule.signals(), None), Ok)
    }

    /// Whether an init drops every signal of the stop.
    fn is_dropped_by(&self, found: &ResolvedContainer<'_>, init: &Arc<Process>) -> bool {
        let snapshot = found.snapshot_of_init(init, self.options());
        snapshot.is_some_and(|snapshot| {
            drops_every_signal(found.forecast_input(&snapshot, &self.procedure))
        })
    }
}

/// A container whose stop is forecast in one word.
pub(super) struct StopQuestion<'a> {
    /// The container.
    pub found: &'a ResolvedContainer<'a>,
    /// How it is stopped.
    pub plan: PlannedStop,
    /// Its processes, if they are known.
    pub members: Option<&'a BTreeSet<HostPid>>,
}

/// Returns the inits that decide the forecast in one word: each drops every signal of its stop, and no other process
/// of its container may exit by itself and end it.
pub(super) fn deciding_inits(
    host: &Host,
    questions: &[StopQuestion<'_>],
) -> HashMap<HostPid, Arc<Process>> {
    let mut inits = read_inits(host, questions);
    // (None where it does not decide. Where the others are not known, one may exit.)
    let others = parallel_map(questions, |StopQuestion { found, plan, members }| {
        let init = inits.get(&found.container.init_pid()?)?;
        if !plan.is_dropped_by(found, init) {
            return None;
        }
        match members {
            _ if awaits_no_child(init) => Some(Vec::new()),
            members => members.map(|pids| {
                pids.iter().copied().filter(|pid| *pid != init.id.pid).collect::<Vec<_>>()
            }),
        }
    });
    let pids: Vec<&[HostPid]> = others.iter().map(|pids| pids.as_deref().unwrap_or(&[])).collect();
    let commands = host.command_lines(&pids, may_be_short);
    let mut deciding = HashMap::new();
    for ((question, others), commands) in questions.iter().zip(&others).zip(commands) {
        let grace = question.plan.procedure.schedule.total_grace();
        let is_long = |command: &CommandLine| !is_short_command(command, grace);
        let decides =
            others.is_some() && commands.is_some_and(|commands| commands.iter().all(is_long));
        let pid = question.found.container.init_pid().filter(|_| decides);
        deciding.extend(pid.and_then(|pid| inits.remove_entry(&pid)));
    }
    deciding
}

/// Reads the inits of containers, each for its own stop, all of one kind together: each reading starts threads.
fn read_inits(host: &Host, questions: &[StopQuestion<'_>]) -> HashMap<HostPid, Arc<Process>> {
    let mut by_signals: HashMap<SignalSet, Vec<HostPid>> = HashMap::new();
    for question in questions {
        let pids = by_signals.entry(question.plan.procedure.schedule.signals()).or_default();
        pids.extend(question.found.container.init_pid());
    }
    let read = |(signals, pids): (SignalSet, Vec<HostPid>)| {
        host.snapshot(&pids, snapshot_options(signals)).into_iter().flatten()
    };
    by_signals.into_iter().flat_map(read).map(|init| (init.id.pid, init)).collect()
}

/// The threads that read containers: a slow one does not hold up the rest.
const WORKERS: usize = 4;

/// Returns containers of an inventory as if each had been resolved.
pub(super) fn all_resolved<'a, 'c>(
    host: &'a Host,
    inventory: &Arc<Inventory>,
    containers: impl Iterator<Item = &'c Container>,
) -> Vec<ResolvedContainer<'a>> {
    let resolved = |container: &Container| ResolvedContainer {
        host,
        container: container.clone(),
        inventory: Arc::clone(inventory),
        matched_by: MatchRule::Every,
    };
    containers.map(resolved).collect()
}

/// Calls a function that reads the processes of a container for each, several at a time. The results are in the
/// order of the containers.
pub(super) fn each_container<C: Sync, T: Send>(
    containers: &[C],
    read: impl Fn(&C) -> T + Sync,
) -> Vec<T> {
    parallel::map(containers.len(), WORKERS, |index| read(&containers[index]))
}

/// Returns the other containers in the PID namespace of a container, as [`companions`], of all that the host
/// has.
pub(super) fn all_companions<'a>(found: &'a ResolvedContainer<'_>) -> Vec<&'a Container> {
    found.inventory.complete(found.host);
    companions(found)
}

/// Returns the other containers in the PID namespace of a container, which the kernel kills with its init.
fn companions<'a>(found: &'a ResolvedContainer<'_>) -> Vec<&'a Container> {
    let container = &found.container;
    // (A snapshot has asked for all of them, if another one shares the namespace.)
    let others = found.inventory.known().containers.iter().filter(|other| {
        container.owns_pid_ns
            && other.init != container.init
            && other.pid_ns.is_some()
            && other.pid_ns == container.pid_ns
    });
    others.collect()
}

/// Forecasts a stop.
pub(super) fn forecast_of(
    found: &ResolvedContainer<'_>,
    snapshot: &ContainerSnapshot,
    procedure: &StopProcedure,
) -> Forecast {
    let input = found.forecast_input(snapshot, procedure);
    let mut answer = found.with_lookups(snapshot, || forecast(input));
    if found.container.remark.is_some() {
        answer = answer.of_sandbox();
    }
    let names = companions(found).into_iter().map(Container::qualified);
    answer.with_companions(names.collect())
}
