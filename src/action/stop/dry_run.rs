//! The dry run of a stop: the signals that would be sent, and what would follow. Nothing is sent.

use std::time::Duration;

use super::events::{StopEvent, StopEventKind};
use super::{StopOrder, StopProcedure};
use crate::analysis::delivery::{Prediction, Recipient};
use crate::error::Error;
use crate::model::signal::Signal;
use crate::model::stop_schedule::StopStep;
use crate::model::verdict::Verdict;
use crate::proc::SnapshotOptions;
use crate::resolve::ResolvedContainer;
use crate::resolve::processes::ContainerSnapshot;

/// The expected course after the signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopOutlook {
    /// PID 1 does not exit on any of the signals: the whole time passes.
    NoExit {
        /// How many processes get KILL then; none without KILL.
        killed: Option<usize>,
    },
    /// It is not known whether PID 1 exits on a signal; if not, as above.
    Unknown {
        /// How many processes get KILL then; none without KILL.
        killed: Option<usize>,
    },
    /// PID 1 may exit, and the kernel then kills as many other processes at most.
    OthersKilled {
        /// How many other processes there are.
        others: usize,
    },
}

/// Reports the signals that would be sent, and returns the expected course, if that is worth a remark.
///
/// # Errors
/// If no snapshot can be taken.
pub fn dry_run(
    found: &ResolvedContainer<'_>,
    procedure: &StopProcedure,
    report: &mut dyn FnMut(StopEvent),
) -> Result<Option<StopOutlook>, Error> {
    let kill = StopStep { signal: Signal::KILL, grace: Duration::ZERO };
    let steps = match &procedure.schedule.steps[..] {
        [] => &[kill],
        steps => steps,
    };
    let waits = procedure.schedule.signals();
    let snapshot = found.snapshot(SnapshotOptions { waits, ..SnapshotOptions::BARE })?;
    let mut time = Duration::ZERO;
    for step in steps {
        for process in snapshot.processes.iter().filter(|process| process.in_container) {
            let is_init = Some(process.facts.id) == found.container.init;
            if procedure.order == StopOrder::Init && !is_init {
                continue;
            }
            let signal = step.signal;
            let prediction = snapshot.predict(process, signal, Recipient::Process);
            let process = process.into();
            let kind = StopEventKind::Planned { process, signal, prediction };
            report(StopEvent { time, kind });
        }
        time = time.saturating_add(step.grace);
    }
    Ok(outlook(found, &snapshot, procedure))
}

fn outlook(
    found: &ResolvedContainer<'_>,
    snapshot: &ContainerSnapshot,
    procedure: &StopProcedure,
) -> Option<StopOutlook> {
    let container = &found.container;
    let processes = snapshot.processes.iter().filter(|process| process.in_container).count();
    let init = snapshot.processes.iter().find(|p| Some(p.facts.id) == container.init)?;
    let steps = &procedure.schedule.steps;
    if steps.is_empty() {
        return None;
    }
    let predictions: Vec<Prediction> =
        steps.iter().map(|step| snapshot.predict(init, step.signal, Recipient::Process)).collect();
    let killed = procedure.schedule.kill.then_some(processes);
    let may_exit = |p: &Prediction| p.verdict.is_fatal() || p.is_received();
    if predictions.iter().any(may_exit) {
        let others = processes.saturating_sub(1);
        let is_alone = procedure.order != StopOrder::Init || others == 0 || !container.owns_pid_ns;
        return (!is_alone).then_some(StopOutlook::OthersKilled { others });
    }
    Some(match predictions.iter().any(|p| p.verdict == Verdict::Unknown) {
        true => StopOutlook::Unknown { killed },
        false => StopOutlook::NoExit { killed },
    })
}
