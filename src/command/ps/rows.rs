//! The rows of `ps`: one per process or thread, from a snapshot of a container; and their order.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use crate::analysis::delivery::Recipient;
use crate::analysis::forecast::Answer;
use crate::model::pid::ProcessId;
use crate::model::signal::Signal;
use crate::output::columns::ps::PsRow;
use crate::output::diff::MarkedRow;
use crate::output::sort::Sort;
use crate::output::stop_heading::StopHeading;
use crate::output::table::Mark;
use crate::output::tree::{TreePosition, order};
use crate::output::value::{Value, compare};
use crate::resolve::processes::ContainerSnapshot;

/// The rows of one container.
pub struct PsRows {
    /// One a process, or one a thread.
    pub rows: Vec<PsRow>,
    /// Its init: another one means that the container was restarted.
    pub init: Option<ProcessId>,
    /// Whether it is paused.
    pub paused: bool,
    /// Whether it was found by a PID, which does not find its successor.
    pub by_pid: bool,
    /// Its qualified name, if the reference was only a part of its name and may find another one later.
    pub whole_name: Option<String>,
    /// The line above the table.
    pub heading: StopHeading,
}

/// The rows of one container below its heading.
pub struct PsTable {
    /// The line above the rows.
    pub heading: StopHeading,
    /// The rows, with their differences from the last refresh.
    pub rows: Vec<MarkedRow>,
}

impl PsTable {
    /// Returns a table without marks.
    pub fn unmarked(found: PsRows) -> Self {
        let rows = found.rows.into_iter().map(|row| (row, Mark::None)).collect();
        Self { heading: found.heading, rows }
    }
}

/// Makes a snapshot into rows; `exits` has for each process whether it exits on the signal.
pub fn rows_of(
    mut snapshot: ContainerSnapshot,
    depth: usize,
    signal: Signal,
    threads: bool,
    exits: &[Option<Answer>],
) -> Vec<PsRow> {
    let processes = std::mem::take(&mut snapshot.processes);
    let joined = std::mem::take(&mut snapshot.joined);
    let mut rows = Vec::with_capacity(processes.len());
    for ((process, exits), joined) in processes.into_iter().zip(exits).zip(joined) {
        let is_starting = snapshot.delivery.starting.contains(&process.facts.id.pid);
        let mut row = PsRow {
            context: Arc::clone(&snapshot.context),
            prediction: snapshot.predict(&process, signal, Recipient::Process),
            process,
            threads,
            thread: None,
            depth,
            signal,
            exits: *exits,
            is_starting,
            joined,
            last_seen: None,
        };
        // A process whose threads could not be read keeps its row.
        let last = row.process.facts.threads.len().checked_sub(1);
        rows.extend((0..last.unwrap_or(0)).map(|t| PsRow { thread: Some(t), ..row.clone() }));
        row.thread = last;
        rows.push(row);
    }
    rows
}

/// Returns the signal that all rows are about, if it is the same one.
pub fn common_signal(tables: &[PsTable]) -> Option<Signal> {
    let mut signals = tables.iter().flat_map(|table| &table.rows).map(|(row, _)| row.signal);
    let common = signals.next()?;
    signals.all(|signal| signal == common).then_some(common)
}

/// Returns the order of the rows: a tree with siblings sorted by `sort` or by PID, or flat.
pub fn positions(rows: &[MarkedRow], flat: bool, sort: Option<&Sort<PsRow>>) -> Vec<TreePosition> {
    let keys = sort.map(|sort| sort.keys(rows.iter().map(|(row, _)| row))).unwrap_or_default();
    let pids: Vec<(Value, i32, Option<usize>)> = rows
        .iter()
        .map(|(row, _)| {
            let pid = Value::optional_int(row.process.pid.map(|pid| pid.get()));
            (pid, row.process.facts.id.pid.get(), row.thread)
        })
        .collect();
    let compare_rows = |a: usize, b: usize| {
        let sorted = sort.map_or(Ordering::Equal, |sort| sort.compare(&keys[a], &keys[b]));
        let (pid_a, pid_b) = (&pids[a], &pids[b]);
        sorted
            .then_with(|| compare(&pid_a.0, &pid_b.0))
            .then_with(|| (pid_a.1, pid_a.2).cmp(&(pid_b.1, pid_b.2)))
    };
    let parents = if flat { vec![None; rows.len()] } else { parents(rows) };
    order(&parents, compare_rows)
}

/// Returns the index of each row's parent: the first row of a process hangs below the first row of its
/// parent, its further threads below itself.
pub fn parents(rows: &[MarkedRow]) -> Vec<Option<usize>> {
    let mut first_rows: HashMap<ProcessId, usize> = HashMap::new();
    let mut processes: Vec<ProcessId> = Vec::new();
    for (index, (row, _)) in rows.iter().enumerate() {
        first_rows.entry(row.process.facts.id).or_insert(index);
        processes.push(row.process.facts.id);
    }
    processes.dedup();
    let parent = |(index, (row, _)): (usize, &MarkedRow)| match first_rows
        .get(&row.process.facts.id)
        .copied()
    {
        Some(row) if row != index => Some(row),
        _ => first_rows.get(processes.get(row.process.parent?)?).copied(),
    };
    rows.iter().enumerate().map(parent).collect()
}
