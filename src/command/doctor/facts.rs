//! The facts that `analysis::diagnosis` is made of: a snapshot, its forecasts, and the few facts outside of
//! the container's processes. Nothing is sent.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::analysis::delivery::{Prediction, Recipient};
use crate::analysis::diagnosis::{
    DiagnosisInput, OomKills, OutsideParent, diagnose, exit_signal_set, exit_signals,
};
use crate::analysis::finding::{Finding, FindingCode, Severity};
use crate::analysis::forecast::Forecast;
use crate::analysis::own_changes::OwnChange;
use crate::command::forecast::{forecast_of, procedure_of, snapshot_for};
use crate::command::init_changes::init_changes;
use crate::engine::{exit_record, stop_policy};
use crate::error::Error;
use crate::model::pid::HostPid;
use crate::model::signal::{Signal, SignalSet};
use crate::model::stop_schedule::{StopOrder, StopProcedure};
use crate::proc::Host;
use crate::resolve::ResolvedContainer;
use crate::resolve::joined::has_joined_no_pid_namespace;
use crate::resolve::processes::ContainerSnapshot;

/// Reads a container and returns the findings about it.
pub(super) fn findings(found: &ResolvedContainer<'_>) -> Result<Vec<Finding>, Error> {
    let container = &found.container;
    let policy = stop_policy(found.host, container);
    let signal = policy.signal_of(container.engine);
    let signals = exit_signal_set().union(SignalSet::from(signal));
    let snapshot = snapshot_for(found, signals, Some(signal))?;
    let predict = |process| snapshot.predict(process, signal, Recipient::Process);
    let predictions: Vec<Prediction> = snapshot.processes.iter().map(predict).collect();
    let engines = procedure_of(container, &policy, None);
    let children_first = StopProcedure { order: StopOrder::ChildrenFirst, ..engines.clone() };
    let forecast = |procedure: &StopProcedure| forecast_of(found, &snapshot, procedure);
    // (Where its engine sends none, the default is one of those that it might.)
    let default = policy.unsignalled().map(|_| signal);
    let others =
        default.into_iter().chain(exit_signals().into_iter().filter(|other| *other != signal));
    let alternatives: Vec<(Signal, Forecast)> = others
        .map(|other| (other, forecast(&procedure_of(container, &policy, Some(other)))))
        .collect();
    let mut findings = diagnose(&DiagnosisInput {
        container,
        policy: &policy,
        processes: &snapshot.processes,
        predictions: &predictions,
        frozen: &snapshot.delivery.frozen,
        forecast: &forecast(&engines),
        children_first: &forecast(&children_first),
        alternatives: &alternatives,
        outside: &outside_parents(found.host, &snapshot),
        init_wchan: init_wchan(found, &snapshot).as_deref(),
        oom_kills: oom_kills(found).as_ref(),
        record: exit_record(found.host, container).filter(|_| container.verified).as_ref(),
        age: age(found),
        joined: &snapshot.joined,
    });
    findings.extend(changed_by_init(found, &snapshot));
    Ok(findings)
}

/// Returns a finding for each change that the init has made to itself: they come last, as they are not
/// about a stop.
fn changed_by_init(found: &ResolvedContainer<'_>, snapshot: &ContainerSnapshot) -> Vec<Finding> {
    let init = snapshot.processes.iter().find(|p| Some(p.facts.id) == found.container.init);
    let finding = |change: OwnChange| Finding {
        severity: Severity::Info,
        code: FindingCode::ChangedByInit,
        pid: init.and_then(|init| init.pid),
        comm: init.map(|init| init.facts.stat.comm.clone()),
        message: change.text,
        remedy: Some(change.remedy.into()),
    };
    init_changes(found).into_iter().map(finding).collect()
}

/// Returns the parents outside of the container, by host PID.
fn outside_parents(host: &Host, snapshot: &ContainerSnapshot) -> BTreeMap<i32, OutsideParent> {
    let orphans = snapshot.processes.iter().filter(|process| process.parent.is_none());
    let mut parents = BTreeMap::new();
    for ppid in orphans.map(|process| process.facts.stat.ppid) {
        let Some(pid) = HostPid::new(ppid).filter(|_| !parents.contains_key(&ppid)) else {
            continue;
        };
        if let Ok(stat) = host.stat(pid) {
            let is_reaper = ppid == 1 && has_joined_no_pid_namespace(host, pid);
            parents.insert(ppid, OutsideParent { comm: stat.comm, is_reaper });
        }
    }
    parents
}

/// Returns the kernel function that the init sleeps in, if it is exiting.
fn init_wchan(found: &ResolvedContainer<'_>, snapshot: &ContainerSnapshot) -> Option<String> {
    let init = found.container.init?;
    let process = snapshot.processes.iter().find(|process| process.facts.id == init)?;
    if !process.facts.stat.is_exiting() {
        return None;
    }
    String::from_utf8(found.host.kernel_wait(init.pid)?).ok()
}

/// Returns the time since the container's init was started.
fn age(found: &ResolvedContainer<'_>) -> Option<Duration> {
    let started = found.host.started(found.container.init?.start);
    Some(Duration::try_from(Timestamp::now().duration_since(started)).unwrap_or_default())
}

/// Returns the processes of the container that were killed for lack of memory.
fn oom_kills(found: &ResolvedContainer<'_>) -> Option<OomKills> {
    let (host, container) = (found.host, &found.container);
    let init = container.init_pid()?;
    let (count, source) = host.oom_kills(init, container.cgroup.as_ref())?;
    let limit = || {
        let limit = host.memory_limit(init, container.cgroup.as_ref())?;
        Some((limit.most, limit.source))
    };
    Some(OomKills { count, source, limit: (count > 0).then(limit).flatten() })
}
