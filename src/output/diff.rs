//! What is new in a list of processes since it was last looked at: who appeared, who left, what of
//! whom changed. Who left stays where it was for a while. Nothing here reads or prints.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::model::pid::ProcessId;
use crate::output::column::Column;
use crate::output::columns::ps::PsRow;
use crate::output::style::TableOptions;
use crate::output::table::Mark;
use crate::output::value::Value;

/// A process, or a thread of it.
type RowKey = (ProcessId, i32);

/// What was seen, and since when it is so.
#[derive(Debug, Default)]
pub struct RowHistory {
    seen: HashMap<RowKey, RowState>,
    /// When that was.
    looked: Option<Timestamp>,
}

#[derive(Debug)]
struct RowState {
    row: PsRow,
    parent: Option<ProcessId>,
    values: Vec<Value>,
    appeared: Option<Instant>,
    changed: Vec<(&'static str, Instant)>,
    left: Option<Instant>,
}

fn key(row: &PsRow) -> RowKey {
    let process = &row.process.facts;
    let thread = row.thread.and_then(|at| process.threads.get(at));
    (process.id, thread.map_or(process.id.pid.get(), |thread| thread.stat.pid))
}

impl RowHistory {
    /// Takes in what is there now: the rows to show, each with its mark, and what is new in words.
    /// Marks stay for `stay`; what is seen the first time is not new.
    pub fn take(
        &mut self,
        table: &'static [Column<PsRow>],
        mut rows: Vec<PsRow>,
        (now, clock): (Instant, Timestamp),
        stay: Duration,
    ) -> (Vec<PsRow>, Vec<Mark>, Vec<String>) {
        let mut changes = Vec::new();
        let ids = processes(&rows);
        let before = self.looked.replace(clock);
        let first = before.is_none();
        for row in &rows {
            let parent = row.process.parent.and_then(|at| ids.get(at).copied());
            let watched = table.iter().filter_map(|column| Some((column, column.watched?)));
            let values: Vec<Value> = watched.clone().map(|(_, value)| value(row)).collect();
            match self.seen.get_mut(&key(row)) {
                Some(seen) => {
                    seen.left = None;
                    let mut words = Vec::new();
                    for ((column, _), (old, new)) in watched.zip(seen.values.iter().zip(&values)) {
                        if old == new {
                            continue;
                        }
                        seen.changed.retain(|(name, _)| *name != column.name);
                        seen.changed.push((column.name, now));
                        words.push(in_words(row, column, old, new));
                    }
                    if !words.is_empty() {
                        changes.push(told(row, &words.join("; ")));
                    }
                    (seen.values, seen.row, seen.parent) = (values, row.clone(), parent);
                }
                None => {
                    let appeared = (!first).then_some(now);
                    if !first {
                        changes.push(told(row, "appeared"));
                    }
                    let (row, changed) = (row.clone(), Vec::new());
                    let seen = RowState { row, parent, values, appeared, changed, left: None };
                    let id = key(&seen.row);
                    self.seen.insert(id, seen);
                }
            }
        }
        let here: std::collections::HashSet<RowKey> = rows.iter().map(key).collect();
        for (id, seen) in self.seen.iter_mut().filter(|(id, _)| !here.contains(id)) {
            if seen.left.is_none() {
                seen.left = Some(now);
                // What is told of it is what was seen, its age too.
                seen.row.until = before;
                if id.0.pid.get() == id.1 || seen.row.thread.is_none() {
                    changes.push(told(&seen.row, "left"));
                }
            }
        }
        let over = |since: Instant| now.duration_since(since) > stay;
        self.seen.retain(|_, seen| !seen.left.is_some_and(over));
        rows.extend(self.left());
        let ids = processes(&rows);
        for row in &mut rows {
            // Places in the list: of who left by whom they had above them.
            let Some(seen) = self.seen.get(&key(row)).filter(|seen| seen.left.is_some()) else {
                continue;
            };
            row.process.parent = seen.parent.and_then(|id| ids.iter().position(|own| *own == id));
        }
        let marks = rows.iter().map(|row| self.mark(&key(row), &over)).collect();
        (rows, marks, changes)
    }

    /// Who left, processes together.
    fn left(&self) -> Vec<PsRow> {
        let mut left: Vec<(&RowKey, &RowState)> =
            self.seen.iter().filter(|(_, seen)| seen.left.is_some()).collect();
        left.sort_by_key(|(id, _)| (id.0.pid, id.0.start, id.1));
        left.into_iter().map(|(_, seen)| seen.row.clone()).collect()
    }

    fn mark(&self, id: &RowKey, over: &dyn Fn(Instant) -> bool) -> Mark {
        let Some(seen) = self.seen.get(id) else { return Mark::None };
        let changed: Vec<&'static str> =
            seen.changed.iter().filter(|(_, at)| !over(*at)).map(|(name, _)| *name).collect();
        match () {
            () if seen.left.is_some() => Mark::Removed,
            () if seen.appeared.is_some_and(|at| !over(at)) => Mark::Added,
            () if !changed.is_empty() => Mark::Changed(changed),
            () => Mark::None,
        }
    }
}

/// The processes of rows that lie together.
fn processes(rows: &[PsRow]) -> Vec<ProcessId> {
    let mut ids: Vec<ProcessId> = rows.iter().map(|row| row.process.facts.id).collect();
    ids.dedup();
    ids
}

fn told(row: &PsRow, what: &str) -> String {
    let process = &row.process.facts;
    let pid = row.process.pid.map_or_else(|| "-".into(), |pid| pid.to_string());
    let comm = crate::output::escape::safe(&process.stat.comm);
    format!("{pid} {comm}: {what}")
}

/// `CAUGHT +TERM`, `ON TERM discarded, now handled`.
fn in_words(row: &PsRow, column: &Column<PsRow>, old: &Value, new: &Value) -> String {
    let header = column.header.replace('@', &row.signal.name());
    if let (Value::Signals(old), Value::Signals(new)) = (old, new) {
        let more = new.intersection(old.complement());
        let less = old.intersection(new.complement());
        let signs = |sign: &'static str, set: crate::model::signal::SignalSet| {
            set.names().into_iter().map(move |name| format!("{sign}{name}"))
        };
        let all: Vec<String> = signs("+", more).chain(signs("-", less)).take(6).collect();
        return format!("{header} {}", all.join(" "));
    }
    let options = TableOptions::default();
    format!("{header} {}, now {}", old.to_text(&options), new.to_text(&options))
}
