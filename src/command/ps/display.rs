//! `ps --watch` at a terminal: draws the list in place, with marks, the last changes in words and a line
//! with the number of hidden rows.

use std::collections::VecDeque;
use std::time::Instant;

use nix::sys::signal::raise;

use super::list::Snapshots;
use super::rows::{PsTable, common_signal};
use super::watch::{Change, HIGHLIGHT_FOR, Watch};
use crate::analysis::wording::counted;
use crate::error::{Error, ExitStatus, os_error};
use crate::model::signal::Signal;
use crate::output::escape::safe_str;
use crate::output::screen::{KeyPress, Screen, ScreenEvent};
use crate::output::style::{Emphasis, Style, TableOptions};
use crate::output::table::ColumnWidths;
use crate::output::units::interval;
use crate::output::width::{cut, width};
use crate::sys::process::default_signals;

/// Changes shown in words.
const CHANGES: usize = 5;
/// Rows of the terminal below which no changes are shown: the table needs them.
const TABLE_ROWS: usize = 8;

/// Refreshes the display until the user ends it.
pub fn run(watch: &mut Watch<'_>, mut snapshots: Snapshots) -> Result<ExitStatus, Error> {
    let mut display = Display {
        screen: Screen::open().map_err(draw_error)?,
        changes: VecDeque::new(),
        widths: ColumnWidths::new(),
        widths_since: Instant::now(),
        signal: None,
        top: 0,
    };
    loop {
        let now = Instant::now();
        let tables = display.refresh(watch, snapshots, now);
        match display.show(watch, &tables, now + watch.interval)? {
            None => {}
            Some(End::Quit) => return Ok(ExitStatus::Done),
            Some(End::Signal(signal)) => {
                drop(display);
                // As if it had not been caught: the parent sees which signal ended the process.
                default_signals();
                let _ = raise(signal);
                return Ok(ExitStatus::Other(128 + signal as u8));
            }
        }
        snapshots = watch.snapshot();
    }
}

fn draw_error(error: std::io::Error) -> Error {
    Error::new(ExitStatus::Failed, "cannot draw on the terminal").cause(os_error(error))
}

/// End of the display.
enum End {
    /// The key for it.
    Quit,
    /// A signal, with the terminal restored.
    Signal(nix::sys::signal::Signal),
}

struct Display {
    screen: Screen,
    changes: VecDeque<String>,
    widths: ColumnWidths,
    widths_since: Instant,
    /// The signal in the header, which stays when no row is left.
    signal: Option<Signal>,
    /// First row of the tables that is shown.
    top: usize,
}

impl Display {
    /// Takes in a refresh; returns the table of each container.
    fn refresh(
        &mut self,
        watch: &mut Watch<'_>,
        snapshots: Snapshots,
        now: Instant,
    ) -> Vec<PsTable> {
        // A value that was long for a moment does not keep its column wide forever.
        if now.duration_since(self.widths_since) > HIGHLIGHT_FOR * 2 {
            self.widths.clear();
            self.widths_since = now;
        }
        let several = watch.containers.len() > 1;
        let mut tables = Vec::new();
        for (container, snapshot) in watch.containers.iter_mut().zip(snapshots) {
            let (table, changes) = container.refresh(snapshot, now, watch.interval);
            let word = safe_str(&container.word);
            self.changes.extend(changes.into_iter().map(|change| match change {
                Change::Container(text) => format!("{}  {word}: {text}", clock()),
                Change::Process(text) if several => format!("{}  {word}: {text}", clock()),
                Change::Process(text) => format!("{}  {text}", clock()),
            }));
            tables.push(table);
        }
        if tables.iter().any(|table| !table.rows.is_empty()) {
            self.signal = common_signal(&tables);
        }
        self.changes.drain(..self.changes.len().saturating_sub(CHANGES));
        tables
    }

    /// Shows the rows until the next refresh; returns how the user ends the display.
    fn show(
        &mut self,
        watch: &Watch<'_>,
        tables: &[PsTable],
        next: Instant,
    ) -> Result<Option<End>, Error> {
        loop {
            let (height, columns) = self.screen.size();
            let style = Style { width: Some(columns), ..Style::from(&watch.quiet.ui) };
            let (signal, margin) = (self.signal, true);
            let options = TableOptions { margin, signal, ..TableOptions::with_header() };
            let text = watch.list.draw(tables, &style, options, &mut self.widths).text;
            let mut lines = vec![title(watch, tables, columns, &style)];
            let mut rows: Vec<&str> = text.lines().collect();
            // Below headings each table has a header, which scrolls with it.
            if !watch.list.each && !rows.is_empty() {
                lines.push(rows.remove(0).to_owned());
            }
            let frame = self.frame(lines, &rows, height, &style);
            self.screen.draw(&frame).map_err(draw_error)?;
            match self.screen.wait(next.saturating_duration_since(Instant::now())) {
                ScreenEvent::Timeout => return Ok(None),
                ScreenEvent::Redraw => {}
                ScreenEvent::Key(KeyPress::Quit) => return Ok(Some(End::Quit)),
                ScreenEvent::Key(KeyPress::Lines(lines)) => self.scroll(lines.into()),
                ScreenEvent::Key(KeyPress::Pages(pages)) => {
                    let page = isize::try_from(height).unwrap_or(24) - 3;
                    self.scroll(isize::from(pages) * page.max(1));
                }
                ScreenEvent::Key(KeyPress::Start) => self.top = 0,
                ScreenEvent::Key(KeyPress::End) => self.top = usize::MAX,
                ScreenEvent::Signal(signal) => {
                    return Ok(Some(End::Signal(signal)));
                }
            }
        }
    }

    fn scroll(&mut self, lines: isize) {
        self.top = self.top.saturating_add_signed(lines);
    }

    /// Returns the lines of the screen: those that stay, the rows from `top` on, and the changes in words if
    /// there is room.
    fn frame(
        &mut self,
        mut lines: Vec<String>,
        rows: &[&str],
        height: usize,
        style: &Style,
    ) -> Vec<String> {
        // The changes, below an empty line.
        let footer = if self.changes.is_empty() { 0 } else { self.changes.len() + 1 };
        let footer = if height > footer + TABLE_ROWS { footer } else { 0 };
        let room = height.saturating_sub(lines.len() + footer).max(1);
        // The last line for the table has the number of hidden rows.
        let scrolled = rows.len() > room && room > 1;
        let room = if scrolled { room - 1 } else { room };
        self.top = self.top.min(rows.len().saturating_sub(room));
        let shown = rows.iter().skip(self.top).take(room);
        lines.extend(shown.map(|line| (*line).to_owned()));
        if scrolled {
            let mut line = String::new();
            let hidden = hidden_rows(self.top, rows.len().saturating_sub(self.top + room));
            style.paint(&mut line, &hidden, Emphasis::Dim);
            lines.push(line);
        }
        if footer > 0 {
            lines.resize(lines.len().max(height - footer), String::new());
            lines.push(String::new());
            let columns = style.width.unwrap_or(80);
            lines.extend(self.changes.iter().map(|text| cut(text, columns, style.ellipsis())));
        }
        lines
    }
}

fn hidden_rows(above: usize, below: usize) -> String {
    match (above, below) {
        (0, below) => format!("  {below} more below"),
        (above, 0) => format!("  {above} more above"),
        (above, below) => format!("  {above} more above, {below} below"),
    }
}

fn clock() -> String {
    jiff::Zoned::now().strftime("%H:%M:%S").to_string()
}

/// Returns the title: the containers and whether they are there, unless their headings say it, and how to quit.
fn title(watch: &Watch<'_>, tables: &[PsTable], columns: usize, style: &Style) -> String {
    let containers = watch.containers.iter().zip(tables).map(|(container, table)| {
        if let Some(absence) = container.absence() {
            return safe_str(&absence).into_owned();
        }
        let row = table.rows.first();
        let name = row.map_or(container.word.as_str(), |(row, _)| row.context.container.as_str());
        let paused = if container.paused { ", paused" } else { "" };
        format!("{}{}{paused}", safe_str(name), container.restarts())
    });
    let containers = match watch.list.each {
        true => counted(tables.len(), "container", "containers"),
        false => containers.collect::<Vec<_>>().join("   "),
    };
    let (interval, clock) = (interval(watch.interval), clock());
    // On a narrow terminal the key that quits stays visible.
    let endings = [
        format!("   every {interval}   {clock}   q quits"),
        format!("   {clock}   q quits"),
        "   q quits".to_owned(),
    ];
    let fits = |ending: &&String| width(&containers) + width(ending) <= columns;
    let ending = endings.iter().find(fits).unwrap_or(&endings[2]);
    let room = columns.saturating_sub(width(ending));
    let title = format!("{}{ending}", cut(&containers, room, style.ellipsis()));
    let mut text = String::new();
    style.paint(&mut text, &cut(&title, columns, style.ellipsis()), Emphasis::Title);
    text
}
