//! The forecast of a stop, as the commands share it: the snapshot that it needs, and the procedure of the
//! container's engine. `analysis::forecast` does the work; nothing is sent.

use crate::analysis::forecast::{FORWARDED, Forecast, ForecastInput, forecast};
use crate::error::Error;
use crate::model::container::Container;
use crate::model::signal::{Signal, SignalSet};
use crate::model::stop_policy::StopPolicy;
use crate::model::stop_schedule::{StopOrder, StopProcedure, StopSchedule, StopStep};
use crate::proc::{CommandLimit, SnapshotOptions};
use crate::resolve::ResolvedContainer;
use crate::resolve::processes::ContainerSnapshot;

/// Returns the procedure of a container's engine, perhaps with another signal.
pub(super) fn procedure_of(
    container: &Container,
    policy: &StopPolicy,
    signal: Option<Signal>,
) -> StopProcedure {
    let signal = signal.unwrap_or_else(|| policy.signal_of(container.engine));
    let step = StopStep { signal, grace: policy.grace_of(container.engine) };
    let schedule = StopSchedule { steps: vec![step], kill: true };
    StopProcedure { schedule, order: StopOrder::Init }
}

/// Takes the snapshot for forecasts of stops with these signals. Processes that block the first one now and
/// have a handler for it are read several times.
pub(super) fn snapshot_for(
    found: &ResolvedContainer<'_>,
    signals: SignalSet,
    first: Option<Signal>,
) -> Result<ContainerSnapshot, Error> {
    let forwarded: SignalSet = FORWARDED.into_iter().collect();
    let options = SnapshotOptions {
        command: CommandLimit::SCREEN,
        exe: true,
        waits: signals.union(forwarded),
        ..SnapshotOptions::BARE
    };
    let mut snapshot = found.snapshot(options)?;
    if let Some(signal) = first {
        found.settle(&mut snapshot, signal, options);
    }
    Ok(snapshot)
}

/// Forecasts a stop.
pub(super) fn forecast_of(
    container: &Container,
    snapshot: &ContainerSnapshot,
    procedure: &StopProcedure,
) -> Forecast {
    forecast(ForecastInput {
        processes: &snapshot.processes,
        context: &snapshot.delivery,
        init: container.init,
        owns_pid_ns: container.owns_pid_ns,
        procedure,
    })
}
