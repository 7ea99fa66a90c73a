//! The list of processes, by the options of `ps`: the facts that are read, the rows of each container, and their
//! text.

use super::Ps;
use super::fold::fold;
use super::rows::{PsRows, PsTable, common_signal, positions, rows_of};
use super::warnings::warn_of_gaps;
use crate::analysis::joined::Joined;
use crate::cli::args;
use crate::cli::context::Context;
use crate::command::forecast::{forecast_of, forecast_signals, procedure_of};
use crate::command::{resolve, resolve_listed};
use crate::engine::stop_policy;
use crate::error::{Error, ExitStatus};
use crate::model::container::ContainerState;
use crate::model::signal::{Signal, SignalSet};
use crate::output::columns::ps::{PS_COLUMNS, PsRow};
use crate::output::escape::safe_str;
use crate::output::json::{self, object};
use crate::output::select::{Selection, find};
use crate::output::sort::Sort;
use crate::output::stop_heading::StopHeading;
use crate::output::style::{Style, TableOptions};
use crate::output::table::{ColumnWidths, Drawing, TableLine, draw_again};
use crate::output::tree::prefixes;
use crate::proc::{CommandLimit, SnapshotOptions};
use crate::resolve::{Access, MatchRule, Resolver};

/// A snapshot of each container, or why there is none.
pub type Snapshots = Vec<Result<PsRows, Error>>;

/// The answer of one run.
pub struct PsAnswer {
    tables: Vec<PsTable>,
    /// The exit status.
    pub status: ExitStatus,
}

/// The list of processes, by the options.
pub struct ProcessList<'a> {
    options: &'a Ps,
    selection: Selection<PsRow>,
    sort: Option<Sort<PsRow>>,
    signal: Option<Signal>,
    /// Whether command lines are cut to the width of a screen.
    screen: bool,
    json: bool,
    /// Whether each container has a table below its heading.
    pub each: bool,
    /// Whether the forecast of a stop is shown: in headings, or by the colour of the verdicts.
    forecasts: bool,
}

/// The columns that depend on the threads that wait for signals, on the executable and on the arguments.
const VERDICT_COLUMNS: &[&str] = &["waited", "verdict", "note"];
/// The columns that show arguments.
const COMMAND_COLUMNS: &[&str] = &["command", "argv"];

impl<'a> ProcessList<'a> {
    /// Parses the options.
    ///
    /// # Errors
    /// A column, a sort key or a signal is not valid.
    pub fn new(options: &'a Ps, context: &Context) -> Result<Self, Error> {
        let mut selection = Selection::parse(PS_COLUMNS, &options.columns)?;
        let columns = &mut selection.columns;
        if options.columns.is_empty() && options.threads {
            let after_pid = columns.iter().position(|c| c.name == "pid").map_or(0, |pid| pid + 1);
            columns.insert(after_pid, find(PS_COLUMNS, "tid")?);
            // The only column of masks that differs between the threads of a process.
            for blocked in columns.iter_mut().filter(|column| column.name == "blocked") {
                (blocked.wide, blocked.priority) = (false, 235);
            }
        }
        let several = options.containers.len() != 1;
        let in_one_table = options.flat || options.sort.is_some();
        if options.columns.is_empty() && several && in_one_table {
            columns.insert(0, find(PS_COLUMNS, "container")?);
        }
        let sort = options.sort.as_deref().map(|key| Sort::parse(PS_COLUMNS, key)).transpose()?;
        let signal = options.signal.as_deref().map(args::signal).transpose()?;
        let (screen, json) = (context.ui.width.is_some(), context.ui.json);
        let mut list =
            Self { options, selection, sort, signal, screen, json, each: false, forecasts: false };
        list.each = several && !in_one_table && (!list.selection.exact || list.has_headings());
        let has_colors = context.ui.color && list.needs(&["verdict"]);
        list.forecasts = !json && (list.has_headings() || has_colors);
        Ok(list)
    }

    /// Whether headings have the forecast of a stop. It is for a reader, and a script counts on the columns
    /// that it listed.
    fn has_headings(&self) -> bool {
        self.screen && (self.options.containers.is_empty() || !self.selection.exact)
    }

    /// Whether equal siblings are one line: on a terminal, in a tree that nothing else orders.
    fn folds(&self) -> bool {
        let options = self.options;
        let is_listed = options.flat || options.threads || options.no_fold || self.sort.is_some();
        self.screen && !self.json && !is_listed
    }

    /// Whether one of these columns is shown or sorted by.
    fn needs(&self, columns: &[&str]) -> bool {
        let shown = self.selection.columns.iter().map(|column| column.name);
        let sorted_by = self.sort.iter().map(|sort| sort.column.name);
        self.json || shown.chain(sorted_by).any(|name| columns.contains(&name))
    }

    /// Makes the rows of each container. Among several, one that is not found is a warning; the status is
    /// that of the first.
    pub fn all_rows(&self, context: &Context, words: &[String]) -> Result<PsAnswer, Error> {
        let host = context.host()?;
        let resolver = Resolver::new(&host);
        let mut status = ExitStatus::Done;
        let mut tables = Vec::new();
        for word in words {
            match self.rows(context, &resolver, word) {
                Ok(found) => tables.push(PsTable::unmarked(found)),
                Err(error) if self.has_ended_since(&error) => {}
                Err(error) if words.len() > 1 => {
                    context.ui.warn_error(&error);
                    status = status.or(error.status);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(PsAnswer { tables, status })
    }

    /// Whether an error says that a container has ended since all were listed.
    pub fn has_ended_since(&self, error: &Error) -> bool {
        self.options.containers.is_empty() && error.status == ExitStatus::NoContainer
    }

    /// Resolves a reference and makes the rows of its container.
    fn rows(
        &self,
        context: &Context,
        resolver: &Resolver<'_>,
        word: &str,
    ) -> Result<PsRows, Error> {
        let found = match self.options.containers.is_empty() {
            true => resolve_listed(context, resolver, word, Access::Read)?,
            false => resolve(context, resolver, word, Access::Read)?,
        };
        let container = &found.container;
        let policy = stop_policy(found.host, container);
        let stop_signal = policy.signal_of(container.engine);
        let signal = self.signal.unwrap_or(stop_signal);
        let mut snapshot = found.snapshot(self.snapshot_options(signal, stop_signal))?;
        let paused = container.state == ContainerState::Paused;
        if paused {
            let name = container.qualified();
            context.ui.note(&format!(
                "{} is paused: it handles no signal until it is unpaused",
                safe_str(&name)
            ));
        }
        warn_of_gaps(context, word, &snapshot);
        snapshot.joined = match self.forecasts || self.needs(&["joined", "command"]) {
            true => found.joined(&snapshot, !self.json),
            false => vec![Joined::Unknown; snapshot.processes.len()],
        };
        let forecast = (self.forecasts)
            .then(|| forecast_of(&found, &snapshot, &procedure_of(container, &policy, None)));
        let mut exits = vec![None; snapshot.processes.len()];
        let about_stop = forecast.iter().filter(|_| signal == stop_signal);
        for forecast in about_stop.flat_map(|forecast| &forecast.processes) {
            // (A process may get another signal than the init.)
            let gets_it = forecast.deliveries.iter().any(|delivery| delivery.signal == signal);
            exits[forecast.process] = gets_it.then_some(forecast.exits);
        }
        let by_pid = found.matched_by.process().is_some();
        let is_part = found.matched_by == MatchRule::PartOfName;
        let whole_name = is_part.then(|| container.qualified());
        let heading = StopHeading {
            container: container.qualified(),
            signal: policy.engines_signal(container.engine),
            signal_assumed: policy.signal_source().assumption().is_some(),
            grace: policy.grace_of(container.engine),
            grace_assumed: policy.grace_source().assumption().is_some(),
            forecast: forecast.as_ref().map(|forecast| forecast.graceful),
            has_forecast: self.has_headings(),
            state: (self.each)
                .then(|| container.qualify_state(container.state.name().into()).into()),
        };
        let threads = self.options.threads;
        let rows = rows_of(snapshot, container.depth, signal, threads, &exits);
        Ok(PsRows { rows, init: container.init, paused, by_pid, whole_name, heading })
    }

    fn snapshot_options(&self, signal: Signal, stop_signal: Signal) -> SnapshotOptions {
        let verdicts = self.forecasts || self.needs(VERDICT_COLUMNS);
        SnapshotOptions {
            command: match self.screen {
                _ if !verdicts && !self.needs(COMMAND_COLUMNS) => CommandLimit::Nothing,
                true => CommandLimit::SCREEN,
                false => CommandLimit::WHOLE,
            },
            exe: self.needs(&["exe"]),
            threads: self.options.threads,
            waits: match self.json {
                _ if !verdicts => SignalSet::EMPTY,
                true => SignalSet::from(signal),
                false => forecast_signals(SignalSet::from(signal).union(stop_signal.into())),
            },
            // (`--watch` compares values that are not shown.)
            verdicts_only: !self.forecasts
                && !self.needs(&["note"])
                && self.options.watch.is_none(),
            pidfds: false,
        }
    }

    fn lines<'r>(&self, tables: &'r [PsTable], unicode: bool) -> Vec<TableLine<'r, PsRow>> {
        let mut lines = Vec::new();
        for PsTable { rows, .. } in tables {
            let mut positions = positions(rows, self.options.flat, self.sort.as_ref());
            let mut counts = Vec::new();
            if self.folds() {
                (positions, counts) = fold(rows, positions, &self.selection.columns);
            }
            let prefixes = prefixes(&positions, unicode);
            lines.extend(positions.iter().zip(prefixes).map(|(position, prefix)| {
                let (row, mark) = &rows[position.index];
                let count = counts.get(position.index).filter(|count| **count > 1);
                let times = if unicode { '×' } else { 'x' };
                let count = count.map_or_else(String::new, |count| format!("{count} {times} "));
                let prefix = prefix + &count + &row.root_mark().unwrap_or_default();
                TableLine { row, prefix, mark: mark.clone() }
            }));
        }
        lines
    }

    fn draw_table(
        &self,
        tables: &[PsTable],
        style: &Style,
        options: TableOptions,
        widths: &mut ColumnWidths,
    ) -> Drawing {
        let signal = common_signal(tables).or(options.signal);
        let options = TableOptions { raw: self.options.raw, signal, ..options };
        let lines = self.lines(tables, style.unicode);
        draw_again(&self.selection, &lines, style, &options, widths)
    }

    fn print_json(&self, tables: &[PsTable]) -> String {
        let lines = self.lines(tables, false);
        lines.iter().map(|line| json::line(&object(PS_COLUMNS, line.row))).collect()
    }

    /// Returns the table of each container below its heading, with columns of the same widths. They are drawn
    /// as one table, a line a process, and then taken apart.
    fn draw_each(
        &self,
        tables: &[PsTable],
        style: &Style,
        options: TableOptions,
        widths: &mut ColumnWidths,
    ) -> Drawing {
        let header = |table: &PsTable, widths: &mut ColumnWidths| {
            let signal = table.rows.first().map(|(row, _)| row.signal);
            self.draw_table(&[], style, TableOptions { signal, ..options.clone() }, widths).text
        };
        for table in tables {
            header(table, widths);
        }
        let without_header = TableOptions { header: false, ..options.clone() };
        let drawing = self.draw_table(tables, style, without_header, widths);
        let mut lines = drawing.text.split_inclusive('\n');
        let mut text = String::new();
        for table in tables {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&table.heading.text(style));
            if !table.rows.is_empty() {
                text.push_str(&header(table, widths));
            }
            let count = match self.folds() {
                true => self.lines(std::slice::from_ref(table), style.unicode).len(),
                false => table.rows.len(),
            };
            text.extend(lines.by_ref().take(count));
        }
        Drawing { text, ..drawing }
    }

    /// Returns the text of an answer, and says with `-v` which columns were left out.
    pub fn print(&self, context: &Context, answer: &PsAnswer) -> String {
        let (style, options) = (Style::from(&context.ui), TableOptions::with_header());
        let drawing = self.draw(&answer.tables, &style, options, &mut ColumnWidths::new());
        if let (Some(width), false) = (style.width, drawing.omitted.is_empty()) {
            let omitted = drawing.omitted.join(", ");
            context.ui.step(&format!("columns left out at a width of {width}: {omitted}"));
        }
        let has_headings = self.has_headings() && !self.each && !self.json;
        let headings = answer.tables.iter().filter(|_| has_headings);
        headings.map(|table| table.heading.text(&style)).collect::<String>() + &drawing.text
    }

    /// Takes a snapshot of the containers that the words refer to, all at one moment.
    pub fn snapshot(&self, context: &Context, words: &[&str]) -> Snapshots {
        match context.host() {
            Ok(host) => {
                let resolver = Resolver::new(&host);
                words.iter().map(|word| self.rows(context, &resolver, word)).collect()
            }
            Err(error) => words.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// Draws the tables, or the one with the rows of all; no column becomes narrower than in `widths`.
    pub fn draw(
        &self,
        tables: &[PsTable],
        style: &Style,
        options: TableOptions,
        widths: &mut ColumnWidths,
    ) -> Drawing {
        match (self.json, self.each) {
            (true, _) => Drawing { text: self.print_json(tables), omitted: Vec::new() },
            (false, true) => self.draw_each(tables, style, options, widths),
            (false, false) => self.draw_table(tables, style, options, widths),
        }
    }
}
