//! The finding about a container that is not running: how it ended, from its engine's record. Nothing here
//! prints.

use jiff::Timestamp;

use crate::analysis::diagnosis::has_log_file;
use crate::analysis::finding::{Finding, FindingCode, Severity};
use crate::analysis::remedy::quoted;
use crate::engine::{Inventory, StoppedContainer, exit_record};
use crate::model::container::Pod;
use crate::model::exit_record::{ExitRecord, RecordedState};
use crate::model::signal::Signal;
use crate::output::exit_words::predicate;
use crate::proc::Host;

/// Returns the finding about a container that is not running. `pods` are those that run.
pub(super) fn finding(host: &Host, stopped: &StoppedContainer, pods: &RunningPods) -> Finding {
    let record = exit_record(host, &stopped.container).unwrap_or_default();
    let engine = stopped.container.engine;
    let is_failing = pods.has_failing(stopped, &record);
    let is_restarting = record.state == RecordedState::Restarting || is_failing;
    let mut message = format!("it {}", predicate(&record, engine, Timestamp::now()));
    if let Some(why) = engine.always_restarts.filter(|_| is_failing) {
        message.push_str(&format!("; {why}"));
    }
    if is_killed_by_a_stop(&record) {
        let name = engine.display_name;
        message.push_str(&format!(
            ": it was stopped, or sent a signal, through {name}, and got SIGKILL"
        ));
    }
    let severity = severity(&record);
    let why = (severity <= Severity::Warning).then(|| {
        let log = if has_log_file(&record) { ", with the end of its log" } else { "" };
        format!("`cinspect why {}` explains it{log}", quoted(&stopped.qualified()))
    });
    let advice = stopped.advice().filter(|_| !is_restarting);
    let remedies: Vec<String> = why.into_iter().chain(advice).collect();
    Finding {
        severity,
        code: if is_restarting { FindingCode::CrashLoop } else { FindingCode::Ended },
        pid: None,
        comm: None,
        message,
        remedy: (!remedies.is_empty()).then(|| remedies.join("; ")),
    }
}

/// Returns the containers that are between two runs: their engines are about to start them again, or the
/// kubelet another one in their place.
pub(super) fn restarting<'a>(
    host: &Host,
    stopped: &'a [StoppedContainer],
    pods: &RunningPods,
) -> Vec<&'a StoppedContainer> {
    let mut found: Vec<(&StoppedContainer, Option<Timestamp>)> = Vec::new();
    for stopped in stopped.iter().filter(|stopped| stopped.doubt.is_none()) {
        let Some(record) = exit_record(host, &stopped.container) else { continue };
        let is_failing = pods.has_failing(stopped, &record);
        if record.state != RecordedState::Restarting && !is_failing {
            continue;
        }
        // Of several runs of one container in a pod the last one counts.
        let pod = stopped.container.pod.as_ref().filter(|_| is_failing);
        let same = |(other, _): &&mut (&StoppedContainer, Option<Timestamp>)| {
            pod.is_some() && other.container.pod.as_ref() == pod
        };
        match found.iter_mut().find(same) {
            Some(earlier) if earlier.1 < record.finished => *earlier = (stopped, record.finished),
            Some(_) => {}
            None => found.push((stopped, record.finished)),
        }
    }
    found.into_iter().map(|(stopped, _)| stopped).collect()
}

/// The pods of which a container runs: usually the pause container, as long as the pod is there.
pub(super) struct RunningPods(Vec<Pod>);

impl RunningPods {
    /// Collects them.
    pub(super) fn new(inventory: &Inventory) -> Self {
        let pods = inventory.containers.iter().filter_map(|container| container.pod.clone());
        Self(pods.collect())
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the pod of a container that failed, and that was restarted before, runs without it.
    fn has_failing(&self, stopped: &StoppedContainer, record: &ExitRecord) -> bool {
        let Some(pod) = stopped.container.pod.as_ref().filter(|pod| pod.container.is_some()) else {
            return false;
        };
        let of_pod = |other: &&Pod| {
            (&other.namespace, &other.name, &other.uid) == (&pod.namespace, &pod.name, &pod.uid)
        };
        let mut others = self.0.iter().filter(of_pod).peekable();
        stopped.container.engine.always_restarts.is_some()
            && record.has_ended()
            && record.status != Some(0)
            && record.restarts.is_some_and(|restarts| restarts > 0)
            && others.peek().is_some()
            && others.all(|other| other.container != pod.container)
    }
}

/// Whether it was stopped through its engine and ended with SIGKILL, without an OOM kill.
fn is_killed_by_a_stop(record: &ExitRecord) -> bool {
    record.stopped_manually == Some(true)
        && record.signal() == Some(Signal::KILL)
        && record.oom != Some(true)
}

/// Returns how serious an end is: whether it was intended.
fn severity(record: &ExitRecord) -> Severity {
    match record.state {
        RecordedState::Restarting | RecordedState::Dead => Severity::Problem,
        RecordedState::Created if record.error.is_some() || record.status.is_some() => {
            Severity::Problem
        }
        _ if record.oom == Some(true) => Severity::Problem,
        _ if is_killed_by_a_stop(record) => Severity::Warning,
        // (The mark is set for every signal, also for one that was only handled.)
        _ if record.stopped_manually == Some(true) => match (record.status, record.signal()) {
            (None | Some(0), _) | (_, Some(_)) => Severity::Info,
            _ => Severity::Warning,
        },
        _ if record.status.is_some_and(|status| status != 0) => Severity::Problem,
        _ => Severity::Info,
    }
}
