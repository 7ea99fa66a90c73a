//! The forecast of a stop, as the commands share it: the snapshot that it needs, and the procedure of the
//! container's engine. `analysis::forecast` does the work; nothing is sent.

use std::sync::Arc;

use crate::analysis::forecast::{
    FORWARDED, Forecast, ForecastInput, drops_every_signal, forecast, may_be_short,
};
use crate::engine::{Inventory, has_none_named};
use crate::error::Error;
use crate::model::container::Container;
use crate::model::signal::{Signal, SignalSet};
use crate::model::stop_policy::{Assumption, StopPolicy};
use crate::model::stop_schedule::{StopOrder, StopProcedure, StopSchedule, StopStep};
use crate::proc::{CommandLimit, Host, SnapshotOptions};
use crate::resolve::processes::ContainerSnapshot;
use crate::resolve::{MatchRule, ResolvedContainer};
use crate::sys::parallel;

/// Returns the procedure of a container's engine, perhaps with another signal.
pub(super) fn procedure_of(
    container: &Container,
    policy: &StopPolicy,
    signal: Option<Signal>,
) -> StopProcedure {
    let signal = signal.unwrap_or_else(|| policy.signal_of(container.engine));
    let grace = policy.grace_of(container.engine);
    // Without a grace period KILL follows the signal at once.
    let steps = if grace.is_zero() { Vec::new() } else { vec![StopStep { signal, grace }] };
    let schedule = StopSchedule { steps, kill: true };
    StopProcedure { schedule, order: StopOrder::Init.in_container(container) }
}

/// Returns the settings of a policy that are assumed, each with the reason.
pub(super) fn assumed_by(policy: &StopPolicy, container: &Container) -> Vec<String> {
    let assumptions = policy.assumptions(container.engine, true, true);
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

/// Takes the snapshot for the forecast of a stop in one word: of the init alone where that decides.
pub(super) fn snapshot_for_word(
    found: &ResolvedContainer<'_>,
    procedure: &StopProcedure,
) -> Result<ContainerSnapshot, Error> {
    let signals = procedure.schedule.signals();
    if let Some(snapshot) = found.snapshot_of_init(snapshot_options(signals))
        && drops_every_signal(input_of(found, &snapshot, procedure))
        && has_none_named(found.host, &found.container, &found.inventory, may_be_short)
    {
        return Ok(snapshot);
    }
    snapshot_for(found, signals, None)
}

/// The threads that read containers: a slow one does not hold up the rest.
const WORKERS: usize = 4;

/// Calls a function for each container of an inventory that has processes on this host, several at a time.
/// The results are in the order of the containers.
pub(super) fn each_container<T: Send>(
    host: &Host,
    inventory: &Arc<Inventory>,
    containers: &[&Container],
    read: impl Fn(&ResolvedContainer<'_>) -> T + Sync,
) -> Vec<T> {
    parallel::map(containers.len(), WORKERS, |index| {
        read(&ResolvedContainer {
            host,
            container: containers[index].clone(),
            inventory: Arc::clone(inventory),
            matched_by: MatchRule::Every,
        })
    })
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

fn input_of<'a>(
    found: &ResolvedContainer<'_>,
    snapshot: &'a ContainerSnapshot,
    procedure: &'a StopProcedure,
) -> ForecastInput<'a> {
    let container = &found.container;
    ForecastInput {
        processes: &snapshot.processes,
        context: &snapshot.delivery,
        lookups: &snapshot.lookups,
        init: container.init.filter(|_| !container.has_lost_init),
        owns_pid_ns: container.owns_pid_ns,
        procedure,
    }
}

/// Forecasts a stop.
pub(super) fn forecast_of(
    found: &ResolvedContainer<'_>,
    snapshot: &ContainerSnapshot,
    procedure: &StopProcedure,
) -> Forecast {
    let input = input_of(found, snapshot, procedure);
    let answer = found.with_lookups(snapshot, || forecast(input));
    let names = companions(found).into_iter().map(Container::qualified);
    answer.with_companions(names.collect())
}
