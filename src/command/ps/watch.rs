//! `ps --watch`: refreshes a list of processes. Into a pipe, or at a terminal whose cursor cannot move, the
//! plain table is written at each refresh; elsewhere `display` draws it in place.

use std::time::{Duration, Instant};

use super::list::{ProcessList, Snapshots};
use super::rows::{PsRows, PsTable, common_signal};
use crate::cli::context::Context;
use crate::error::{Error, ExitStatus, os_error};
use crate::model::pid::ProcessId;
use crate::output::columns::ps::PS_COLUMNS;
use crate::output::diff::RowHistory;
use crate::output::escape::safe_str;
use crate::output::stop_heading::StopHeading;
use crate::output::style::{Style, TableOptions};
use crate::output::table::ColumnWidths;
use crate::output::terminal::is_broken_pipe;

/// Default interval.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// Shortest interval: below it the display would mostly show the load of the refreshes themselves.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// Time that a mark lasts: long enough to notice after looking away.
pub const HIGHLIGHT_FOR: Duration = Duration::from_secs(6);

/// A container that is watched.
pub struct WatchedContainer {
    /// The reference that was typed, or the whole name if that was a part of it.
    pub word: String,
    /// Why it cannot be shown, and since when.
    pub missing: Option<(Error, Instant)>,
    /// Number of restarts seen.
    pub restarts: usize,
    /// Whether it is paused.
    pub paused: bool,
    by_pid: bool,
    history: RowHistory,
    init: Option<ProcessId>,
    /// The line above its rows when it was there last.
    heading: StopHeading,
}

/// A change in words.
pub enum Change {
    /// A line about the container.
    Container(&'static str),
    /// A line about a process in it, which is named.
    Process(String),
}

/// The watched containers, and how they are refreshed.
pub struct Watch<'a> {
    /// The list of their processes.
    pub list: &'a ProcessList<'a>,
    /// The context of refreshes: warnings are not repeated.
    pub quiet: Context,
    /// Time between two refreshes.
    pub interval: Duration,
    /// The containers.
    pub containers: Vec<WatchedContainer>,
}

impl<'a> Watch<'a> {
    /// Takes the first snapshots. An error now is final; one that comes later may go away.
    pub fn start(
        context: &Context,
        words: &[String],
        interval: Duration,
        list: &'a ProcessList<'a>,
    ) -> Result<(Self, Snapshots), Error> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (mut containers, mut snapshots) = (Vec::new(), Snapshots::new());
        for (word, found) in words.iter().zip(list.snapshot(context, &words)) {
            match found {
                Err(error) if list.has_ended_since(&error) => {}
                found => {
                    let rows = found?;
                    containers.push(WatchedContainer::new(word, &rows));
                    snapshots.push(Ok(rows));
                }
            }
        }
        let interval = interval.max(SHORTEST_INTERVAL);
        Ok((Self { list, quiet: context.quiet(), interval, containers }, snapshots))
    }

    /// Takes the next snapshots.
    pub fn snapshot(&self) -> Snapshots {
        // A freed PID may be reused: a container found by one is not looked for again.
        let final_error = |container: &WatchedContainer| {
            container.missing.as_ref().and_then(|_| container.ended())
        };
        let present = self.containers.iter().filter(|container| final_error(container).is_none());
        let words: Vec<&str> = present.map(|container| container.word.as_str()).collect();
        let mut found = self.list.snapshot(&self.quiet, &words).into_iter();
        let next = |container| final_error(container).map(Err).or_else(|| found.next());
        self.containers.iter().filter_map(next).collect()
    }

    /// Writes the plain tables at each refresh, with an empty line between two.
    pub fn repeat(
        &mut self,
        context: &Context,
        mut snapshots: Snapshots,
    ) -> Result<ExitStatus, Error> {
        let ui = &context.ui;
        let mut separator = "";
        let mut signal = None;
        loop {
            let mut tables = Vec::new();
            for (container, snapshot) in self.containers.iter_mut().zip(snapshots) {
                tables.push(container.note_state(context, snapshot)?);
            }
            // Without a row the header keeps its signal.
            if tables.iter().any(|table| !table.rows.is_empty()) {
                signal = common_signal(&tables);
            }
            let options = TableOptions { signal, ..TableOptions::with_header() };
            let mut widths = ColumnWidths::new();
            let text = self.list.draw(&tables, &Style::from(ui), options, &mut widths).text;
            match ui.out(&format!("{separator}{text}")) {
                Err(error) if is_broken_pipe(&error) => return Ok(ExitStatus::Done),
                Err(error) => {
                    return Err(Error::new(ExitStatus::Failed, "cannot write to stdout")
                        .cause(os_error(error)));
                }
                Ok(()) => {}
            }
            separator = if ui.json { "" } else { "\n" };
            std::thread::sleep(self.interval);
            snapshots = self.snapshot();
        }
    }
}

impl WatchedContainer {
    fn new(word: &str, rows: &PsRows) -> Self {
        Self {
            word: rows.whole_name.clone().unwrap_or_else(|| word.to_owned()),
            missing: None,
            restarts: 0,
            paused: false,
            by_pid: rows.by_pid,
            history: RowHistory::default(),
            init: None,
            heading: rows.heading.clone(),
        }
    }

    /// Returns why it is not there, and for how long, in words; none if it is there.
    pub fn absence(&self) -> Option<String> {
        let (error, since) = self.missing.as_ref()?;
        // The time is before the cause, because the end of the line may be cut.
        let cause = error.cause.as_ref().map_or_else(String::new, |cause| format!(": {cause}"));
        Some(format!("{} ({}s){cause}", error.message, since.elapsed().as_secs()))
    }

    /// Returns its restarts in words, with a comma before them.
    pub fn restarts(&self) -> String {
        match self.restarts {
            0 => String::new(),
            1 => ", restarted".into(),
            count => format!(", restarted {count} times"),
        }
    }

    /// Returns the line above its rows. One that is not there has no forecast.
    pub fn heading(&self) -> StopHeading {
        let heading = self.heading.clone();
        match self.absence() {
            Some(absence) => {
                StopHeading { has_forecast: false, state: Some(absence.into()), ..heading }
            }
            None => {
                let state = heading.state.as_ref();
                let state = state.map(|state| format!("{state}{}", self.restarts()).into());
                StopHeading { state, ..heading }
            }
        }
    }

    /// Returns why it is not looked for again, if it was found by a PID.
    fn ended(&self) -> Option<Error> {
        let message = format!("container `{}` has exited", self.word);
        self.by_pid.then(|| {
            Error::new(ExitStatus::NoContainer, message)
                .hint("watch it by name to follow it through restarts")
        })
    }

    /// Takes in a refresh: the table to show and the changes.
    pub fn refresh(
        &mut self,
        snapshot: Result<PsRows, Error>,
        now: Instant,
        interval: Duration,
    ) -> (PsTable, Vec<Change>) {
        let other_init = |rows: &PsRows| self.init.is_some() && rows.init != self.init;
        let restarted = snapshot.as_ref().is_ok_and(other_init);
        let snapshot = match self.ended() {
            Some(ended) if restarted => Err(ended),
            _ => snapshot,
        };
        let mut changes = Vec::new();
        let rows = match snapshot {
            Ok(found) => {
                if restarted {
                    self.restarts += 1;
                    changes.push(Change::Container("restarted"));
                } else if self.missing.is_some() {
                    changes.push(Change::Container("is back"));
                }
                changes.extend(self.found(&found).map(Change::Container));
                found.rows
            }
            Err(error) => {
                if self.missing.is_none() {
                    changes.push(Change::Container(match error.status {
                        ExitStatus::NoContainer => "is gone",
                        _ => "cannot be shown",
                    }));
                }
                self.is_missing(error, now);
                Vec::new()
            }
        };
        let highlight = HIGHLIGHT_FOR.max(interval * 2);
        let (rows, row_changes) = self.history.refresh(PS_COLUMNS, rows, now, highlight);
        // After a change of the whole container its processes are not listed one by one.
        if changes.is_empty() {
            changes = row_changes.into_iter().map(Change::Process).collect();
        }
        (PsTable { heading: self.heading(), rows }, changes)
    }

    /// Remembers why it is not there, which may say when it exited, and since when.
    fn is_missing(&mut self, error: Error, now: Instant) {
        let since = self.missing.as_ref().map_or(now, |(_, since)| *since);
        self.missing = Some((error, since));
    }

    /// Remembers the state of a container that was found; returns whether it was paused or unpaused, in
    /// words.
    fn found(&mut self, found: &PsRows) -> Option<&'static str> {
        let was_paused = std::mem::replace(&mut self.paused, found.paused);
        // (At the first refresh it is in the title.)
        let changed = was_paused != found.paused && self.init.is_some();
        self.missing = None;
        self.heading = found.heading.clone();
        self.init = found.init.or(self.init);
        changed.then_some(if found.paused { "is paused" } else { "was unpaused" })
    }

    /// Prints a note if the container is missing, paused or unpaused since the last refresh. Returns its
    /// table without marks, which is empty if it is not there.
    fn note_state(
        &mut self,
        context: &Context,
        snapshot: Result<PsRows, Error>,
    ) -> Result<PsTable, Error> {
        match snapshot {
            Ok(found) => {
                if let Some(change) = self.found(&found) {
                    context.ui.note(&format!("{}: {change}", safe_str(&self.word)));
                }
                Ok(PsTable { heading: self.heading(), ..PsTable::unmarked(found) })
            }
            Err(error) => {
                if self.missing.is_none() {
                    context.ui.note(&safe_str(&error.to_string()));
                    if let Some(ended) = self.ended() {
                        return Err(ended);
                    }
                }
                self.is_missing(error, Instant::now());
                Ok(PsTable { heading: self.heading(), rows: Vec::new() })
            }
        }
    }
}
