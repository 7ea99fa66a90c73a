//! THE COLUMN TABLE of `signal`: one row per process or thread that was selected. The only place where
//! a result of `action::signal_many` becomes text.

use std::sync::Arc;

use super::common::{self, ProcessRow};
use crate::action::signal_many::{Delivery, Observation, SignalResult, WaitOutcome};
use crate::action::signal_target::{SignalEnd, TargetReach};
use crate::analysis::container_process::{ContainerProcess, RowContext};
use crate::model::bytes::message_text;
use crate::model::signal::SignalNumber;
use crate::model::verdict::Verdict;
use crate::output::column::Column;
use crate::output::style::Emphasis;
use crate::output::value::Value;

/// A row of `signal`.
#[derive(Debug)]
pub struct SignalRow {
    /// The container.
    pub context: Arc<RowContext>,
    /// The signal.
    pub signal: SignalNumber,
    /// The result.
    pub result: SignalResult,
    /// Whether nothing was to be sent.
    pub dry_run: bool,
}

impl SignalRow {
    /// Returns why nothing was sent, or the note of the prediction and the processes that it is forwarded to.
    pub fn note(&self) -> Option<String> {
        let prediction = match (&self.result.delivery, &self.result.target.prediction) {
            (Delivery::Failed(error), _) => return Some(error.to_string()),
            (_, prediction) => prediction.as_ref()?,
        };
        let forwarded = self.reach().filter(|reach| reach.is_forwarded).and_then(forwarded);
        let notes: Vec<String> = prediction.note.clone().into_iter().chain(forwarded).collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    fn reach(&self) -> Option<&TargetReach> {
        self.result.target.reach.as_ref()
    }

    /// Whether the target forwards the signal to other processes.
    pub fn is_forwarded(&self) -> bool {
        self.reach().is_some_and(|reach| reach.is_forwarded)
    }
}

impl ProcessRow for SignalRow {
    fn context(&self) -> &RowContext {
        &self.context
    }

    fn process(&self) -> &ContainerProcess {
        &self.result.target.process
    }
}

type SignalColumn = Column<SignalRow>;

/// THE TABLE.
pub static SIGNAL_COLUMNS: &[SignalColumn] = &[
    common::host(),
    common::container(),
    common::pid(),
    SignalColumn::new("tid", "TID", "TID in the container", |r| {
        Value::optional_int(r.result.target.tid)
    })
    .right()
    .shown()
    .priority(200),
    common::host_pid().shown(),
    common::comm().shown().priority(200),
    SignalColumn::new("signal", "SIGNAL", "the signal", |r| Value::text(&r.signal.to_string()))
        .json("signal")
        .shown()
        .priority(100),
    SignalColumn::new("sent", "SENT", "whether it was sent", |r| {
        Value::Bool(r.result.delivery == Delivery::Sent)
    })
    .json("sent"),
    SignalColumn::new("verdict", "VERDICT", "the action of the kernel", |r| {
        Value::optional_text(verdict(r).map(Verdict::name))
    })
    .json("verdict")
    .shown()
    .priority(250)
    .emphasis(verdict_emphasis),
    SignalColumn::new("outcome", "OUTCOME", "with --wait: exited, killed or running", |r| {
        Value::optional_text(r.result.outcome.map(outcome_name))
    })
    .json("outcome"),
    SignalColumn::new("result", "RESULT", "what was done, and what was observed", |r| {
        Value::text(result(r))
    })
    .shown()
    .priority(255)
    .emphasis(result_emphasis),
    SignalColumn::new(
        "reaches",
        "REACHES",
        "the PIDs in the container that get it in the end, through inits that forward it",
        reaches,
    )
    .json("reaches")
    .shown()
    .priority(150),
    SignalColumn::new("note", "NOTE", "the reason, or further explanation", |r| {
        Value::optional_text(r.note().as_deref())
    })
    .json("note")
    .flexible()
    .shown(),
];

/// Returns the effect of a signal on the processes that it is forwarded to, in words.
fn forwarded(reach: &TargetReach) -> Option<String> {
    const NAMED: usize = 3;
    let name = |end: &SignalEnd| {
        let pid = end.process.pid.map_or_else(|| "-".into(), |pid| pid.to_string());
        let comm = message_text(&end.process.facts.stat.comm).into_owned();
        format!("{pid} {comm} ({})", end.verdict.name())
    };
    let mut names: Vec<String> = reach.ends.iter().take(NAMED).map(name).collect();
    if reach.ends.len() > NAMED {
        names.push(format!("{} more", reach.ends.len() - NAMED));
    }
    (!names.is_empty()).then(|| format!("forwarded to {}", names.join(", ")))
}

fn reaches(row: &SignalRow) -> Value {
    row.reach().map_or(Value::Absent, |reach| {
        let ends = reach.ends.iter().filter(|end| end.gets_it());
        let mut pids: Vec<i32> = ends.filter_map(|end| Some(end.process.pid?.get())).collect();
        pids.sort_unstable();
        pids.dedup();
        Value::Numbers(pids)
    })
}

fn verdict(row: &SignalRow) -> Option<Verdict> {
    row.result.target.prediction.as_ref().map(|prediction| prediction.verdict)
}

fn outcome_name(outcome: WaitOutcome) -> &'static str {
    match outcome {
        WaitOutcome::Exited => "exited",
        WaitOutcome::Killed => "killed",
        WaitOutcome::Running => "running",
    }
}

fn result(row: &SignalRow) -> &'static str {
    match (&row.result.delivery, row.result.outcome, row.result.observation) {
        (Delivery::NotSent, ..) => "would be sent",
        (Delivery::Failed(_), ..) if row.dry_run => "would not be sent",
        (Delivery::Failed(_), ..) => "not sent",
        (Delivery::Sent, Some(WaitOutcome::Running), _) => "still running",
        (Delivery::Sent, Some(outcome), _) => outcome_name(outcome),
        (Delivery::Sent, None, None) => "sent",
        (Delivery::Sent, None, Some(Observation::Exited)) => "exited",
        (Delivery::Sent, None, Some(Observation::Pending)) => "still pending",
        (Delivery::Sent, None, Some(Observation::Taken)) => match verdict(row) {
            Some(Verdict::Handled) => "delivered to handler",
            _ => "delivered",
        },
        (Delivery::Sent, None, Some(Observation::HandlerRemoved)) => "delivered, handler removed",
    }
}

fn result_emphasis(row: &SignalRow) -> Emphasis {
    match (&row.result.delivery, row.result.outcome) {
        (Delivery::Failed(_), _) => Emphasis::Bad,
        (_, Some(WaitOutcome::Running)) => Emphasis::Warning,
        _ => Emphasis::None,
    }
}

fn verdict_emphasis(row: &SignalRow) -> Emphasis {
    match verdict(row) {
        Some(verdict) if verdict.is_lost() => Emphasis::Warning,
        Some(Verdict::Pending | Verdict::Delayed | Verdict::Unknown) => Emphasis::Warning,
        _ => Emphasis::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_consistent() {
        assert_eq!(crate::output::column::audit(SIGNAL_COLUMNS), Vec::<String>::new());
    }
}
