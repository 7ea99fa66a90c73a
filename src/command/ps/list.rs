//! The list of processes, by the options of `ps`: the facts that are read, the rows of each container, and their
//! text.

use super::Ps;
use super::fold::fold;
use super::rows::{PsRows, common_signal, positions, rows_of};
use super::warnings::warn_of_gaps;
use crate::analysis::joined::Joined;
use crate::cli::args;
use crate::cli::context::Context;
use crate::command::forecast::{forecast_of, forecast_signals, procedure_of};
use crate::command::resolve;
use crate::engine::stop_policy;
use crate::error::{Error, ExitStatus};
use crate::model::container::ContainerState;
use crate::model::signal::{Signal, SignalSet};
use crate::output::columns::ps::{PS_COLUMNS, PsRow};
use crate::output::diff::MarkedRow;
use crate::output::escape::safe_str;
use crate::output::json::{self, object};
use crate::output::select::{Selection, find};
use crate::output::sort::Sort;
use crate::output::stop_heading::StopHeading;
use crate::output::style::{Style, TableOptions};
use crate::output::table::{ColumnWidths, Drawing, Mark, TableLine, draw_again};
use crate::output::tree::prefixes;
use crate::proc::{CommandLimit, SnapshotOptions};
use crate::resolve::{Access, MatchRule, Resolver};

/// A snapshot of each container, or why there is none.
pub type Snapshots = Vec<Result<PsRows, Error>>;

/// The answer of one run.
pub struct PsAnswer {
    headings: Vec<StopHeading>,
    /// The rows of each container.
    containers: Vec<Vec<MarkedRow>>,
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
    each: bool,
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
        let list = options.columns.as_deref();
        let mut selection = Selection::parse(PS_COLUMNS, list)?;
        let columns = &mut selection.columns;
        if list.is_none() && options.threads {
            let after_pid = columns.iter().position(|c| c.name == "pid").map_or(0, |pid| pid + 1);
            columns.insert(after_pid, find(PS_COLUMNS, "tid")?);
            // The only column of masks that differs between the threads of a process.
            for blocked in columns.iter_mut().filter(|column| column.name == "blocked") {
                (blocked.wide, blocked.priority) = (false, 235);
            }
        }
        let several = options.containers.len() != 1;
        let in_one_table = options.flat || options.sort.is_some() || options.watch.is_some();
        if list.is_none() && several && in_one_table {
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
        let (mut containers, mut headings) = (Vec::new(), Vec::new());
        for word in words {
            match self.rows(context, &resolver, word) {
                Ok(found) => {
                    headings.push(found.heading);
                    containers.push(found.rows.into_iter().map(|row| (row, Mark::None)).collect());
                }
                // It has ended since all were listed.
                Err(error)
                    if self.options.containers.is_empty()
                        && error.status == ExitStatus::NoContainer => {}
                Err(error) if words.len() > 1 => {
                    context.ui.warn_error(&error);
                    status = status.or(error.status);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(PsAnswer { headings, containers, status })
    }

    /// Resolves a reference and makes the rows of its container.
    fn rows(
        &self,
        context: &Context,
        resolver: &Resolver<'_>,
        word: &str,
    ) -> Result<PsRows, Error> {
        let found = resolve(context, resolver, word, Access::Read)?;
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
            signal: stop_signal,
            signal_assumed: policy.signal_source().assumption().is_some(),
            grace: policy.grace_of(container.engine),
            grace_assumed: policy.grace_source().assumption().is_some(),
            forecast: forecast.as_ref().map(|forecast| forecast.graceful),
            has_forecast: self.has_headings(),
            state: (self.each).then(|| container.state.name()),
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

    fn lines<'r>(
        &self,
        containers: &'r [Vec<MarkedRow>],
        unicode: bool,
    ) -> Vec<TableLine<'r, PsRow>> {
        let mut lines = Vec::new();
        for rows in containers {
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
        containers: &[Vec<MarkedRow>],
        style: &Style,
        options: TableOptions,
        widths: &mut ColumnWidths,
    ) -> Drawing {
        let signal = common_signal(containers).or(options.signal);
        let options = TableOptions { raw: self.options.raw, signal, ..options };
        let lines = self.lines(containers, style.unicode);
        draw_again(&self.selection, &lines, style, &options, widths)
    }

    fn print_json(&self, containers: &[Vec<MarkedRow>]) -> String {
        let lines = self.lines(containers, false);
        lines.iter().map(|line| json::line(&object(PS_COLUMNS, line.row))).collect()
    }

    /// Returns the table of each container below its heading, with columns of the same widths. They are drawn
    /// as one table, a line a process, and then taken apart.
    fn print_each(&self, answer: &PsAnswer, style: &Style) -> Drawing {
        let mut widths = ColumnWidths::new();
        let now = TableOptions::with_header;
        let header = |rows: &[MarkedRow], widths: &mut ColumnWidths| {
            let signal = rows.first().map(|(row, _)| row.signal);
            self.draw_table(&[], style, TableOptions { signal, ..now() }, widths).text
        };
        for rows in &answer.containers {
            header(rows, &mut widths);
        }
        let options = TableOptions { header: false, ..now() };
        let drawing = self.draw_table(&answer.containers, style, options, &mut widths);
        let mut lines = drawing.text.split_inclusive('\n');
        let mut text = String::new();
        for (rows, heading) in answer.containers.iter().zip(&answer.headings) {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&heading.text(style));
            text.push_str(&header(rows, &mut widths));
            let count = match self.folds() {
                true => self.lines(std::slice::from_ref(rows), style.unicode).len(),
                false => rows.len(),
            };
            text.extend(lines.by_ref().take(count));
        }
        Drawing { text, ..drawing }
    }

    /// Returns the text of an answer, and says with `-v` which columns were left out.
    pub fn print(&self, context: &Context, answer: &PsAnswer) -> String {
        let containers = &answer.containers;
        if self.json {
            return self.print_json(containers);
        }
        let (style, options) = (Style::from(&context.ui), TableOptions::with_header());
        let drawing = match self.each {
            true => self.print_each(answer, &style),
            false => self.draw_table(containers, &style, options, &mut ColumnWidths::new()),
        };
        if let (Some(width), false) = (style.width, drawing.omitted.is_empty()) {
            let omitted = drawing.omitted.join(", ");
            context.ui.step(&format!("columns left out at a width of {width}: {omitted}"));
        }
        let headings = answer.headings.iter().filter(|_| self.has_headings() && !self.each);
        headings.map(|heading| heading.text(&style)).collect::<String>() + &drawing.text
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

    /// Draws the rows of each container; no column becomes narrower than in `widths`.
    pub fn draw(
        &self,
        containers: &[Vec<MarkedRow>],
        style: &Style,
        options: TableOptions,
        widths: &mut ColumnWidths,
    ) -> String {
        match self.json {
            true => self.print_json(containers),
            false => self.draw_table(containers, style, options, widths).text,
        }
    }
}
