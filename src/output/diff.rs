//! Differences between one refresh of a list of processes and the next: added, removed and changed
//! rows. A removed row keeps its place for a while. Nothing here reads or prints.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::model::pid::ProcessId;
use crate::model::signal::SignalSet;
use crate::output::column::Column;
use crate::output::columns::ps::PsRow;
use crate::output::escape::safe;
use crate::output::style::TableOptions;
use crate::output::table::Mark;
use crate::output::value::Value;

/// A row with its difference from the last refresh.
pub type MarkedRow = (PsRow, Mark);

/// A process, or a thread of it.
type RowKey = (ProcessId, i32);

/// Signals named in the description of a changed set; further ones are left out.
const NAMED_SIGNALS: usize = 6;

/// The rows seen so far, and when they changed.
#[derive(Debug, Default)]
pub struct RowHistory {
    seen: HashMap<RowKey, SeenRow>,
    refreshed: Option<Timestamp>,
}

#[derive(Debug)]
struct SeenRow {
    row: PsRow,
    parent: Option<ProcessId>,
    values: Vec<Value>,
    added: Option<Instant>,
    changed: Vec<(&'static str, Instant)>,
    removed: Option<Instant>,
}

fn key(row: &PsRow) -> RowKey {
    let process = &row.process.facts;
    let thread = row.thread.and_then(|index| process.threads.get(index));
    (process.id, thread.map_or(process.id.pid.get(), |thread| thread.stat.pid))
}

impl RowHistory {
    /// Compares the rows of a refresh at `now` with those of the last one. Returns the rows to show,
    /// each with its mark, and the changes in words. Marks last for `highlight`; the rows of the first
    /// refresh are not new.
    pub fn refresh(
        &mut self,
        table: &'static [Column<PsRow>],
        mut rows: Vec<PsRow>,
        now: Instant,
        highlight: Duration,
    ) -> (Vec<MarkedRow>, Vec<String>) {
        let mut changes = Vec::new();
        let previous = self.refreshed.replace(Timestamp::now());
        let ids = processes(&rows);
        for row in &rows {
            let parent = row.process.parent.and_then(|index| ids.get(index).copied());
            changes.extend(self.see(table, row, parent, previous.map(|_| now)));
        }
        changes.extend(self.see_removed(&rows, now, previous));
        let is_over = |since: Instant| now.duration_since(since) > highlight;
        self.seen.retain(|_, seen| !seen.removed.is_some_and(is_over));
        rows.extend(self.removed());
        self.set_parents_of_removed(&mut rows);
        let marked = rows.into_iter().map(|row| {
            let mark = self.mark(&key(&row), &is_over);
            (row, mark)
        });
        (marked.collect(), changes)
    }

    /// Remembers a row; returns its change in words. `now` is none at the first refresh.
    fn see(
        &mut self,
        table: &'static [Column<PsRow>],
        row: &PsRow,
        parent: Option<ProcessId>,
        now: Option<Instant>,
    ) -> Option<String> {
        let watched = table.iter().filter_map(|column| Some((column, column.watched?)));
        let values: Vec<Value> = watched.clone().map(|(_, value)| value(row)).collect();
        let Some(seen) = self.seen.get_mut(&key(row)) else {
            let (row, changed) = (row.clone(), Vec::new());
            let change = now.map(|_| describe(&row, "new"));
            let seen = SeenRow { row, parent, values, added: now, changed, removed: None };
            self.seen.insert(key(&seen.row), seen);
            return change;
        };
        let mut words = Vec::new();
        for ((column, _), (before, after)) in watched.zip(seen.values.iter().zip(&values)) {
            if before != after {
                seen.changed.retain(|(name, _)| *name != column.name);
                seen.changed.extend(now.map(|now| (column.name, now)));
                words.push(describe_change(row, column, before, after));
            }
        }
        (seen.values, seen.row, seen.parent, seen.removed) = (values, row.clone(), parent, None);
        (!words.is_empty()).then(|| describe(row, &words.join("; ")))
    }

    /// Marks the rows that are gone; returns those of whole processes in words.
    fn see_removed(
        &mut self,
        rows: &[PsRow],
        now: Instant,
        previous: Option<Timestamp>,
    ) -> Vec<String> {
        let present: HashSet<RowKey> = rows.iter().map(key).collect();
        let mut changes = Vec::new();
        for (key, seen) in &mut self.seen {
            if seen.removed.is_none() && !present.contains(key) {
                seen.removed = Some(now);
                // It is shown as it was seen last, with its age at that time.
                seen.row.last_seen = previous;
                if key.0.pid.get() == key.1 || seen.row.thread.is_none() {
                    changes.push(describe(&seen.row, "gone"));
                }
            }
        }
        changes
    }

    /// Returns the removed rows, those of a process together.
    fn removed(&self) -> Vec<PsRow> {
        let mut removed: Vec<(&RowKey, &SeenRow)> =
            self.seen.iter().filter(|(_, seen)| seen.removed.is_some()).collect();
        removed.sort_by_key(|(id, _)| (id.0.pid, id.0.start, id.1));
        removed.into_iter().map(|(_, seen)| seen.row.clone()).collect()
    }

    /// Puts removed rows below the parents they had; parents are indices, and have moved.
    fn set_parents_of_removed(&self, rows: &mut [PsRow]) {
        let ids = processes(rows);
        for row in rows {
            if let Some(seen) = self.seen.get(&key(row)).filter(|seen| seen.removed.is_some()) {
                let position = |parent| ids.iter().position(|id| *id == parent);
                row.process.parent = seen.parent.and_then(position);
            }
        }
    }

    fn mark(&self, key: &RowKey, is_over: &dyn Fn(Instant) -> bool) -> Mark {
        let Some(seen) = self.seen.get(key) else { return Mark::None };
        let recent = seen.changed.iter().filter(|(_, since)| !is_over(*since));
        let changed: Vec<&'static str> = recent.map(|(name, _)| *name).collect();
        if seen.removed.is_some() {
            Mark::Removed
        } else if seen.added.is_some_and(|since| !is_over(since)) {
            Mark::Added
        } else if !changed.is_empty() {
            Mark::Changed(changed)
        } else {
            Mark::None
        }
    }
}

/// Returns the processes of rows; rows of one process are together.
fn processes(rows: &[PsRow]) -> Vec<ProcessId> {
    let mut ids: Vec<ProcessId> = rows.iter().map(|row| row.process.facts.id).collect();
    ids.dedup();
    ids
}

fn describe(row: &PsRow, change: &str) -> String {
    let pid = row.process.pid.map_or_else(|| "-".into(), |pid| pid.to_string());
    format!("{pid} {}: {change}", safe(&row.process.facts.stat.comm))
}

/// Returns `CAUGHT +TERM`, or `ON TERM discarded, now handled`.
fn describe_change(row: &PsRow, column: &Column<PsRow>, before: &Value, after: &Value) -> String {
    let header = column.header.replace('@', &row.signal.name());
    if let (Value::Signals(before), Value::Signals(after)) = (before, after) {
        let signed = |sign: &'static str, set: SignalSet| {
            set.names().into_iter().map(move |name| format!("{sign}{name}"))
        };
        let added = signed("+", after.intersection(before.complement()));
        let removed = signed("-", before.intersection(after.complement()));
        let names: Vec<String> = added.chain(removed).take(NAMED_SIGNALS).collect();
        return format!("{header} {}", names.join(" "));
    }
    let options = TableOptions::default();
    format!("{header} {}, now {}", before.to_text(&options), after.to_text(&options))
}
