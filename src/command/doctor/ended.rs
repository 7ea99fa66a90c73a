//! The finding about a container that is not running: how it ended, from its engine's record. Nothing here
//! prints.

use jiff::Timestamp;

use crate::analysis::diagnosis::has_log_file;
use crate::analysis::finding::{Finding, FindingCode, Severity};
use crate::analysis::remedy::quoted;
use crate::engine::{StoppedContainer, exit_record};
use crate::model::exit_record::{ExitRecord, RecordedState};
use crate::model::signal::Signal;
use crate::output::exit_words::predicate;
use crate::proc::Host;

/// Returns the finding about a container that is not running.
pub(super) fn finding(host: &Host, stopped: &StoppedContainer) -> Finding {
    let record = exit_record(host, &stopped.container).unwrap_or_default();
    let engine = stopped.container.engine;
    let is_restarting = record.state == RecordedState::Restarting;
    let mut message = format!("it {}", predicate(&record, engine, Timestamp::now()));
    if is_killed_by_a_stop(&record) {
        let name = engine.display_name;
        message.push_str(&format!(": it was stopped or killed through {name}, and got SIGKILL"));
    }
    let severity = severity(&record);
    let log = (severity <= Severity::Warning && has_log_file(&record)).then(|| {
        let command = format!("`cinspect logs {}`", quoted(&stopped.qualified()));
        format!("{command} prints the end of its log")
    });
    let advice = stopped.advice().filter(|_| !is_restarting);
    let remedies: Vec<String> = log.into_iter().chain(advice).collect();
    Finding {
        severity,
        code: if is_restarting { FindingCode::CrashLoop } else { FindingCode::Ended },
        pid: None,
        comm: None,
        message,
        remedy: (!remedies.is_empty()).then(|| remedies.join("; ")),
    }
}

/// Whether it is between two lives.
pub(super) fn is_restarting(host: &Host, stopped: &StoppedContainer) -> bool {
    stopped.doubt.is_none()
        && exit_record(host, &stopped.container)
            .is_some_and(|record| record.state == RecordedState::Restarting)
}

/// Whether it was stopped through its engine and ended with SIGKILL, without an OOM kill.
fn is_killed_by_a_stop(record: &ExitRecord) -> bool {
    record.stopped_manually == Some(true)
        && record.signal() == Some(Signal::KILL)
        && record.oom != Some(true)
}

/// Returns how serious an end is: whether somebody wanted it.
fn severity(record: &ExitRecord) -> Severity {
    match record.state {
        RecordedState::Restarting | RecordedState::Dead => Severity::Problem,
        RecordedState::Created if record.error.is_some() || record.status.is_some() => {
            Severity::Problem
        }
        _ if record.oom == Some(true) => Severity::Problem,
        _ if is_killed_by_a_stop(record) => Severity::Warning,
        _ if record.stopped_manually == Some(true) => Severity::Info,
        _ if record.status.is_some_and(|status| status != 0) => Severity::Problem,
        _ => Severity::Info,
    }
}
