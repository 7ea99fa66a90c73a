//! THE COLUMN TABLE of `signals`: one row per signal of each process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::common::{self, ProcessRow};
use crate::analysis::container_process::{ContainerProcess, RowContext};
use crate::analysis::delivery::Prediction;
use crate::analysis::wording::counted;
use crate::model::pid::HostPid;
use crate::model::process::Fact;
use crate::model::signal::{Signal, SignalSet};
use crate::model::verdict::Verdict;
use crate::output::column::Column;
use crate::output::escape::safe_str;
use crate::output::style::Emphasis;
use crate::output::value::Value;
use crate::output::width::wrap;

/// A row of `signals`.
#[derive(Debug)]
pub struct SignalsRow {
    /// The container.
    pub context: Arc<RowContext>,
    /// The process.
    pub process: ContainerProcess,
    /// The signal.
    pub signal: Signal,
    /// Its effect.
    pub prediction: Prediction,
}

/// The threads of a process that block a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BlockingThreads {
    None,
    Some { count: usize, total: usize },
    All,
}

impl SignalsRow {
    /// Returns the threads that block it. (One that waits for it does not, as `status` shows it.)
    fn blocking_threads(&self) -> BlockingThreads {
        let process = &self.process.facts;
        let threads = &process.threads;
        if threads.len() < 2 {
            return match process.status.sig_blk.contains(self.signal) {
                true => BlockingThreads::All,
                false => BlockingThreads::None,
            };
        }
        let count = threads.iter().filter(|t| t.status.sig_blk.contains(self.signal)).count();
        match count {
            0 => BlockingThreads::None,
            count if count == threads.len() => BlockingThreads::All,
            count => BlockingThreads::Some { count, total: threads.len() },
        }
    }

    /// Returns `signalfd` or `sigwait`, if one of them waits for it.
    fn waiter(&self) -> Option<&'static str> {
        let Fact::Known(waits) = &self.process.facts.waits else { return None };
        if waits.threads.iter().any(|thread| thread.awaited.contains(self.signal)) {
            return Some("sigwait");
        }
        waits.signalfds.iter().any(|fd| fd.set.contains(self.signal)).then_some("signalfd")
    }

    /// Returns `default`, `ignored` or `caught`.
    fn disposition(&self) -> &'static str {
        let status = &self.process.facts.status;
        if status.sig_cgt.contains(self.signal) {
            "caught"
        } else if status.sig_ign.contains(self.signal) {
            "ignored"
        } else {
            "default"
        }
    }

    /// Whether it is pending for the process or one of its threads.
    fn is_pending(&self) -> bool {
        let process = &self.process.facts;
        let pending = process.status.shd_pnd.union(process.status.sig_pnd);
        let threads = process.threads.iter().map(|thread| thread.status.sig_pnd);
        threads.fold(pending, SignalSet::union).contains(self.signal)
    }

    /// Returns the TID on the host of the only thread that it is pending for.
    fn pending_thread(&self) -> Option<i32> {
        let mut threads = self.process.facts.threads.iter();
        let thread = threads.find(|thread| thread.status.sig_pnd.contains(self.signal))?;
        (!self.process.facts.status.shd_pnd.contains(self.signal)).then_some(thread.stat.pid)
    }

    /// Whether the process differs from others in this signal.
    pub fn is_notable(&self) -> bool {
        self.disposition() != "default"
            || self.blocking_threads() != BlockingThreads::None
            || self.is_pending()
            || self.waiter().is_some()
    }
}

impl ProcessRow for SignalsRow {
    fn context(&self) -> &RowContext {
        &self.context
    }

    fn process(&self) -> &ContainerProcess {
        &self.process
    }
}

type SignalsColumn = Column<SignalsRow>;

/// THE TABLE.
pub static SIGNALS_COLUMNS: &[SignalsColumn] = &[
    common::host(),
    common::container(),
    common::pid(),
    common::host_pid(),
    common::comm().shown(),
    SignalsColumn::new("signal", "SIGNAL", "the signal", |r| Value::text(&r.signal.name()))
        .json("signal")
        .shown()
        .priority(255),
    SignalsColumn::new("disposition", "DISPOSITION", "default, ignored or caught", |r| {
        Value::text(r.disposition())
    })
    .json("disposition")
    .shown()
    .priority(120),
    SignalsColumn::new("default", "DEFAULT", "default action", |r| {
        Value::text(r.signal.default_action().name())
    })
    .json("default_action")
    .shown()
    .priority(40),
    SignalsColumn::new("blocked", "BLOCKED", "blocked by none, some or all of its threads", |r| {
        Value::text(match r.blocking_threads() {
            BlockingThreads::None => "none",
            BlockingThreads::All => "all",
            BlockingThreads::Some { .. } => "some",
        })
    })
    .json("blocked"),
    SignalsColumn::new("threads", "BLOCKED BY", "number of threads that block it", |r| {
        match r.blocking_threads() {
            BlockingThreads::None => Value::Absent,
            BlockingThreads::All => Value::text("all"),
            BlockingThreads::Some { count, total } => {
                Value::text(&format!("{count} of {total} threads"))
            }
        }
    })
    .shown()
    .priority(110),
    SignalsColumn::new("pending", "PENDING", "whether it is pending", |r| {
        Value::Bool(r.is_pending())
    })
    .json("pending"),
    SignalsColumn::new("queued", "QUEUED", "where it is pending: process or thread", |r| {
        match (r.is_pending(), r.pending_thread()) {
            (false, _) => Value::Absent,
            (true, None) => Value::text("process"),
            (true, Some(tid)) => Value::text(&format!("thread {tid}")),
        }
    })
    .shown()
    .priority(100),
    SignalsColumn::new("waited", "WAITED", "its receiver: signalfd or sigwait", |r| {
        Value::optional_text(r.waiter())
    })
    .json("waited")
    .shown()
    .priority(105),
    SignalsColumn::new("verdict", "VERDICT", "the action of the kernel", |r| {
        Value::text(r.prediction.verdict.name())
    })
    .json("verdict")
    .shown()
    .priority(250)
    .emphasis(emphasis),
    SignalsColumn::new("note", "NOTE", "explanation of the verdict", |r| {
        Value::optional_text(r.prediction.note.as_deref())
    })
    .json("note")
    .flexible()
    .shown(),
];

/// Returns the notes as lines below the table, each once, with the signals and processes that it is about.
pub fn notes(rows: &[SignalsRow], width: Option<usize>) -> String {
    let mut groups: Vec<(&str, Vec<&SignalsRow>)> = Vec::new();
    for row in rows {
        let Some(note) = row.prediction.note.as_deref() else { continue };
        match groups.iter_mut().find(|(known, _)| *known == note) {
            Some((_, group)) => group.push(row),
            None => groups.push((note, vec![row])),
        }
    }
    let lines = groups.iter().flat_map(|(note, group)| {
        let line = format!("{}: {note}", subject(group));
        let wrapped = wrap(&safe_str(&line), width.map(|width| width.saturating_sub(2)));
        let indented = |(index, part): (usize, String)| match index {
            0 => format!("{part}\n"),
            _ => format!("  {part}\n"),
        };
        wrapped.into_iter().enumerate().map(indented).collect::<Vec<_>>()
    });
    lines.collect()
}

/// Returns the signals and the processes of some rows, as in `HUP, TERM to 1 nginx and 3 others`.
fn subject(group: &[&SignalsRow]) -> String {
    let signals: BTreeMap<i32, String> =
        group.iter().map(|row| (row.signal.number(), row.signal.name())).collect();
    let signals: Vec<String> = signals.into_values().collect();
    let processes: BTreeSet<HostPid> = group.iter().map(|row| row.process.facts.id.pid).collect();
    let first = group[0].process.label();
    let others = match processes.len() - 1 {
        0 => String::new(),
        count => format!(" and {}", counted(count, "other", "others")),
    };
    format!("{} to {first}{others}", signals.join(", "))
}

fn emphasis(row: &SignalsRow) -> Emphasis {
    match row.prediction.verdict {
        Verdict::Discarded | Verdict::Pending => Emphasis::Bad,
        Verdict::Delayed | Verdict::Unknown => Emphasis::Warning,
        // By the note, the program may ignore it.
        Verdict::Handled | Verdict::Accepted if row.prediction.note.is_none() => Emphasis::Good,
        _ => Emphasis::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_consistent() {
        assert_eq!(crate::output::column::audit(SIGNALS_COLUMNS), Vec::<String>::new());
    }
}
