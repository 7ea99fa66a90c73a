//! THE COLUMN TABLE of `signal`: one line for each process or thread that was meant.

use std::rc::Rc;

use crate::analysis::container_process::{ContainerProcess, RowContext};
use crate::analysis::delivery::Prediction;
use crate::model::verdict::Verdict;
use crate::output::column::Column;
use crate::output::style::Emphasis;
use crate::output::value::Value;

/// What became of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has ended.
    Exited,
    /// `--kill-after` ended it.
    Killed,
    /// It is still there.
    Running,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Killed => "killed",
            Self::Running => "running",
        }
    }
}

/// A line of `signal`.
#[derive(Debug)]
pub struct SignalRow {
    /// The container.
    pub context: Rc<RowContext>,
    /// The process.
    pub process: ContainerProcess,
    /// The thread inside, when only that was meant.
    pub tid: Option<i32>,
    /// The signal's name.
    pub signal: String,
    /// Whether it was sent; none when it only would be (`--dry-run`).
    pub sent: Option<bool>,
    /// What the kernel does with it; none for 0.
    pub prediction: Option<Prediction>,
    /// What was seen to have come of it shortly after.
    pub seen: Option<Observation>,
    /// With `--wait`.
    pub outcome: Option<Outcome>,
    /// Why it was not sent.
    pub refusal: Option<String>,
}

/// What was seen shortly after a signal was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The process has ended.
    Ended,
    /// The signal is no longer pending: a handler, a signalfd or sigwait has it.
    Taken,
    /// It is still pending.
    Pending,
    /// The process has no handler for it any more.
    HandlerGone,
}

impl Observation {
    fn says(self) -> &'static str {
        match self {
            Self::Ended => "it has ended",
            Self::Taken => "taken",
            Self::Pending => "still pending",
            Self::HandlerGone => "taken, and its handler is gone",
        }
    }
}

type Of = Column<SignalRow>;

/// THE TABLE.
pub static SIGNAL_COLUMNS: &[Column<SignalRow>] = &[
    Of::new("host", "HOST", "name of the host", |r| some(Some(&r.context.host))).json("host"),
    Of::new("container", "CONTAINER", "the container, qualified", |r| {
        some(Some(&r.context.container))
    })
    .json("container"),
    Of::new("pid", "PID", "process number inside", |r| {
        r.process.pid.map_or(Value::Absent, |p| Value::Int(p.get().into()))
    })
    .json("pid")
    .right()
    .shown()
    .priority(255),
    Of::new("hpid", "HPID", "process number on the host", |r| {
        Value::Int(r.process.facts.id.pid.get().into())
    })
    .json("host_pid")
    .right()
    .shown()
    .priority(80),
    Of::new("tid", "TID", "thread number inside", |r| {
        r.tid.map_or(Value::Absent, |tid| Value::Int(tid.into()))
    })
    .right()
    .priority(200),
    Of::new("comm", "COMM", "name of the process", |r| {
        Value::Bytes(r.process.facts.stat.comm.clone())
    })
    .json("comm")
    .shown()
    .priority(200),
    Of::new("signal", "SIGNAL", "what was sent", |r| some(Some(&r.signal)))
        .json("signal")
        .shown()
        .priority(100),
    Of::new("sent", "SENT", "whether it was sent", |r| Value::Bool(r.sent == Some(true)))
        .json("sent"),
    Of::new("verdict", "VERDICT", "what the kernel does with it", |r| {
        r.prediction.as_ref().map_or(Value::Absent, |j| Value::Text(j.verdict.name().into()))
    })
    .json("verdict"),
    Of::new("outcome", "OUTCOME", "with --wait: what became of the process", |r| {
        some(r.outcome.map(Outcome::name))
    })
    .json("outcome"),
    Of::new("result", "RESULT", "what was done", |r| some(Some(&result(r))))
        .flexible()
        .shown()
        .priority(255)
        .emphasis(result_tint),
    Of::new("note", "NOTE", "why not, or what else is to be said", |r| {
        let judged = r.prediction.as_ref().and_then(|judgement| judgement.note.as_deref());
        some(r.refusal.as_deref().or(judged))
    })
    .json("note"),
];

fn some(text: Option<&str>) -> Value {
    text.map_or(Value::Absent, |text| Value::Text(text.to_owned().into()))
}

fn result(row: &SignalRow) -> String {
    let done = match (row.sent, row.outcome) {
        (None, _) => "would be sent",
        (Some(true), None) => "sent",
        (Some(false), _) => "not sent",
        (Some(true), Some(Outcome::Exited)) => "sent, it has ended",
        (Some(true), Some(Outcome::Killed)) => "sent, then killed",
        (Some(true), Some(Outcome::Running)) => "sent, still running",
    };
    let mut text = done.to_owned();
    if let Some(refusal) = &row.refusal {
        text.push_str(&format!(": {refusal}"));
        return text;
    }
    // Whoever waited sees the end of it.
    if let Some(judgement) = row.prediction.as_ref().filter(|_| row.outcome.is_none()) {
        text.push_str(&format!(": {}", judgement.verdict.name()));
        if let Some(seen) = row.seen {
            text.push_str(&format!("; {}", seen.says()));
        }
        if let Some(note) = &judgement.note {
            text.push_str(&format!(" ({note})"));
        }
    }
    text
}

fn result_tint(row: &SignalRow) -> Emphasis {
    match (row.sent, row.outcome) {
        (Some(false), _) => Emphasis::Bad,
        (_, Some(Outcome::Running)) => Emphasis::Warning,
        _ => match row.prediction.as_ref().map(|judgement| judgement.verdict) {
            Some(verdict) if verdict.is_lost() => Emphasis::Warning,
            Some(Verdict::Pending | Verdict::Delayed | Verdict::Unknown) => Emphasis::Warning,
            _ => Emphasis::None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        assert_eq!(crate::output::column::audit(SIGNAL_COLUMNS), Vec::<String>::new());
    }
}
