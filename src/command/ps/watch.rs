//! `ps --watch`: looks again and again. At a terminal the picture is drawn in place, with what is new
//! marked; into a pipe, or at a terminal that cannot do that, it is the plain answer each time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::same_signal;
use crate::cli::context::Context;
use crate::error::{Error, ExitStatus, os_error};
use crate::model::pid::ProcessId;
use crate::output::columns::ps::{PS_COLUMNS, PsRow};
use crate::output::diff::RowHistory;
use crate::output::escape::safe_str;
use crate::output::screen::{KeyPress, Screen, ScreenEvent};
use crate::output::style::{Emphasis, Style, TableOptions};
use crate::output::table::{ColumnWidths, Mark};
use crate::output::terminal::is_broken_pipe;
use crate::output::width::{cut, width};

/// How often, where nothing is said.
pub const EVERY: Duration = Duration::from_secs(2);
/// Shorter would only look at itself.
const SHORTEST: Duration = Duration::from_millis(100);
/// A mark has to be seen by who looks away for a moment.
const STAY: Duration = Duration::from_secs(6);
/// What is new in words, at the bottom.
const WORDS: usize = 5;

/// A container as it was found: its processes, and its init.
pub struct PsRows {
    /// One a process or thread.
    pub rows: Vec<PsRow>,
    /// By which a container that was started again is told from the one before.
    pub init: Option<ProcessId>,
    /// Whether it is paused.
    pub paused: bool,
    /// Whether it was found by a PID, which does not find its successor.
    pub by_pid: bool,
}

/// What draws rows with their marks: the columns' widths stay what they were.
pub type DrawFn<'a> =
    &'a dyn Fn(&[Vec<PsRow>], &[Vec<Mark>], &Style, TableOptions, &mut ColumnWidths) -> String;

/// What looks at the containers that words stand for, all at one moment: a sight of each.
pub type RefreshFn<'a> = &'a dyn Fn(&Context, &[&str]) -> Vec<Result<PsRows, Error>>;

/// How one container has been doing.
struct WatchedContainer<'a> {
    word: &'a str,
    by_pid: bool,
    memory: RowHistory,
    init: Option<ProcessId>,
    /// Why it cannot be seen, and since when.
    missing: Option<(String, Instant)>,
    restarts: usize,
    paused: bool,
}

/// Watches until whoever looks has had enough.
pub fn watch(
    context: &Context,
    words: &[String],
    every: Duration,
    look: RefreshFn<'_>,
    draw: DrawFn<'_>,
) -> Result<ExitStatus, Error> {
    let every = every.max(SHORTEST);
    let all: Vec<&str> = words.iter().map(String::as_str).collect();
    // What is wrong from the start is said and is the end; what goes wrong later may come back.
    let first: Vec<PsRows> = look(context, &all).into_iter().collect::<Result<_, _>>()?;
    let ui = &context.ui;
    if !ui.draws {
        return repeat(context, &all, every, first, look, draw);
    }
    let hushed = context.quiet();
    let mut watched: Vec<WatchedContainer<'_>> = words
        .iter()
        .zip(&first)
        .map(|(word, found)| WatchedContainer {
            word,
            by_pid: found.by_pid,
            memory: RowHistory::default(),
            init: None,
            missing: None,
            restarts: 0,
            paused: false,
        })
        .collect();
    let failed = |error: std::io::Error| {
        Error::new(ExitStatus::Failed, "cannot draw on the terminal").cause(os_error(error))
    };
    let mut screen = Screen::open().map_err(failed)?;
    let mut sights: Vec<Result<PsRows, Error>> = first.into_iter().map(Ok).collect();
    let mut said: VecDeque<String> = VecDeque::new();
    let mut widths = ColumnWidths::new();
    let mut signal = None;
    let mut forgotten = Instant::now();
    let mut top = 0;
    loop {
        let now = Instant::now();
        // What was wide for a moment (a runtime on its way to its program) is not so for ever.
        if now.duration_since(forgotten) > STAY * 2 {
            widths.clear();
            forgotten = now;
        }
        let (mut rows, mut marks) = (Vec::new(), Vec::new());
        for (one, sight) in watched.iter_mut().zip(sights) {
            let (shown, signs, news) = one.take(sight, now, every);
            let whose =
                if words.len() > 1 { format!("{}: ", safe_str(one.word)) } else { String::new() };
            said.extend(news.into_iter().map(|text| match text {
                Change::Of(text) => format!("{}  {}: {text}", clock(), safe_str(one.word)),
                Change::Within(text) => format!("{}  {whose}{text}", clock()),
            }));
            rows.push(shown);
            marks.push(signs);
        }
        // Where nobody is left the column stays what it was.
        if rows.iter().any(|rows| !rows.is_empty()) {
            signal = same_signal(&rows);
        }
        while said.len() > WORDS {
            said.pop_front();
        }
        let next = now + every;
        loop {
            let (height, columns) = screen.size();
            let style = Style { width: Some(columns), ..Style::from(ui) };
            let options = TableOptions { margin: true, signal, ..TableOptions::with_header() };
            let table = draw(&rows, &marks, &style, options, &mut widths);
            let title = title(&watched, &rows, every, &style);
            let picture = picture(&title, &table, &said, &mut top, height, &style);
            screen.draw(&picture).map_err(failed)?;
            match screen.wait(next.saturating_duration_since(Instant::now())) {
                ScreenEvent::Time => break,
                ScreenEvent::Redraw => {}
                ScreenEvent::Key(KeyPress::Quit) => return Ok(ExitStatus::Done),
                ScreenEvent::Key(KeyPress::Line(by)) => top = moved(top, by.into()),
                ScreenEvent::Key(KeyPress::Page(by)) => {
                    let page = i64::try_from(height).unwrap_or(24) - 3;
                    top = moved(top, i64::from(by) * page.max(1));
                }
                ScreenEvent::Key(KeyPress::End(last)) => top = if last { usize::MAX } else { 0 },
                ScreenEvent::Ended(signal) => {
                    drop(screen);
                    // As if we had not heard it: whoever started us sees what ended us.
                    crate::sys::process::default_signals();
                    let _ = nix::sys::signal::raise(signal);
                    return Ok(ExitStatus::Other(128 + signal as u8));
                }
            }
        }
        // A number that is free may become somebody else's.
        let over = |one: &WatchedContainer<'_>| one.ended().filter(|_| one.missing.is_some());
        let there = watched.iter().filter(|one| over(one).is_none()).map(|one| one.word);
        let mut seen = look(&hushed, &there.collect::<Vec<_>>()).into_iter();
        let again = |one| over(one).map(Err).or_else(|| seen.next());
        sights = watched.iter().filter_map(again).collect();
    }
}

fn moved(top: usize, by: i64) -> usize {
    let by = isize::try_from(by).unwrap_or(0);
    top.saturating_add_signed(by)
}

/// The plain answer, again and again, with an empty line between.
fn repeat(
    context: &Context,
    words: &[&str],
    every: Duration,
    first: Vec<PsRows>,
    look: RefreshFn<'_>,
    draw: DrawFn<'_>,
) -> Result<ExitStatus, Error> {
    let hushed = context.quiet();
    let by_pid: Vec<bool> = first.iter().map(|found| found.by_pid).collect();
    let mut sights: Vec<Result<PsRows, Error>> = first.into_iter().map(Ok).collect();
    let mut missing = vec![false; words.len()];
    let mut paused: Vec<Option<bool>> = vec![None; words.len()];
    let (mut begun, mut signal) = (false, None);
    loop {
        let mut rows = Vec::new();
        let states = missing.iter_mut().zip(&mut paused);
        let names = words.iter().zip(&by_pid);
        for ((sight, (missing, paused)), (word, by_pid)) in
            sights.into_iter().zip(states).zip(names)
        {
            let was = std::mem::replace(missing, sight.is_err());
            match sight {
                Ok(sight) => {
                    let before = paused.replace(sight.paused);
                    if before.is_some_and(|before| before != sight.paused) {
                        context.ui.note(&format!("{}: {}", safe_str(word), freezing(sight.paused)));
                    }
                    rows.push(sight.rows);
                }
                Err(error) if !was => {
                    context.ui.note(&safe_str(&error.to_string()));
                    if *by_pid {
                        return Err(ended(word));
                    }
                }
                Err(_) => {}
            }
        }
        let marks: Vec<Vec<Mark>> = rows.iter().map(|rows| vec![Mark::None; rows.len()]).collect();
        if !rows.is_empty() {
            signal = same_signal(&rows);
        }
        let style = Style::from(&context.ui);
        let options = TableOptions { signal, ..TableOptions::with_header() };
        let text = draw(&rows, &marks, &style, options, &mut ColumnWidths::new());
        let between = if begun && !context.ui.json { "\n" } else { "" };
        if let Err(error) = context.ui.out(&format!("{between}{text}")) {
            if is_broken_pipe(&error) {
                return Ok(ExitStatus::Done);
            }
            return Err(
                Error::new(ExitStatus::Failed, "cannot write the answer").cause(os_error(error))
            );
        }
        begun = true;
        std::thread::sleep(every);
        sights = look(&hushed, words);
    }
}

/// The error for a container given by a PID: the PID does not come back as the same container.
fn ended(word: &str) -> Error {
    Error::new(ExitStatus::NoContainer, format!("container `{word}` has ended"))
        .hint("name it, and it is watched through restarts")
}

fn freezing(paused: bool) -> &'static str {
    if paused { "is paused" } else { "runs again" }
}

/// What is new in words.
enum Change {
    /// Of the container.
    Of(&'static str),
    /// Of a process in it, which is named.
    Within(String),
}

impl WatchedContainer<'_> {
    fn ended(&self) -> Option<Error> {
        self.by_pid.then(|| ended(self.word))
    }

    fn take(
        &mut self,
        sight: Result<PsRows, Error>,
        now: Instant,
        every: Duration,
    ) -> (Vec<PsRow>, Vec<Mark>, Vec<Change>) {
        let mut news = Vec::new();
        let another = |sight: &PsRows| self.init.is_some() && sight.init != self.init;
        let sight = match self.ended() {
            Some(over) if sight.as_ref().is_ok_and(another) => Err(over),
            _ => sight,
        };
        let rows = match sight {
            Ok(sight) => {
                let again = self.init.is_some() && sight.init != self.init;
                if again {
                    self.restarts += 1;
                    news.push(Change::Of("started again"));
                } else if self.missing.is_some() {
                    news.push(Change::Of("is back"));
                }
                let paused = std::mem::replace(&mut self.paused, sight.paused);
                // (Of what is seen the first time the title says it.)
                if paused != sight.paused && self.init.is_some() {
                    news.push(Change::Of(freezing(sight.paused)));
                }
                self.missing = None;
                self.init = sight.init.or(self.init);
                sight.rows
            }
            Err(error) => {
                if self.missing.is_none() {
                    news.push(Change::Of("is gone"));
                    self.missing = Some((safe_str(&error.to_string()).into_owned(), now));
                }
                Vec::new()
            }
        };
        let stay = STAY.max(every * 2);
        let (rows, marks, changes) =
            self.memory.take(PS_COLUMNS, rows, (now, jiff::Timestamp::now()), stay);
        // Where all of it is another, that is what is to be said.
        if news.is_empty() {
            news = changes.into_iter().map(Change::Within).collect();
        }
        (rows, marks, news)
    }
}

fn clock() -> String {
    let now = jiff::Zoned::now();
    format!("{:02}:{:02}:{:02}", now.hour(), now.minute(), now.second())
}

/// Who is watched, and whether they are there.
fn title(
    watched: &[WatchedContainer<'_>],
    rows: &[Vec<PsRow>],
    every: Duration,
    style: &Style,
) -> String {
    let each = watched.iter().zip(rows).map(|(one, rows)| match &one.missing {
        Some((why, since)) => {
            // How long stands before the reason, which is what may be cut.
            let (what, reason) = why.split_once(": ").unwrap_or((why, ""));
            let colon = if reason.is_empty() { "" } else { ": " };
            format!("{what} ({}s){colon}{reason}", since.elapsed().as_secs())
        }
        None => {
            let name = rows.first().map_or(one.word, |row| row.context.container.as_str());
            let restarts = match one.restarts {
                0 => String::new(),
                1 => ", started again".into(),
                many => format!(", started again {many} times"),
            };
            let paused = if one.paused { ", paused" } else { "" };
            format!("{}{restarts}{paused}", safe_str(name))
        }
    });
    let each: Vec<String> = each.collect();
    let every = crate::model::stop_policy::seconds(every);
    let (each, every, clock) = (each.join("   "), format!("every {every}"), clock());
    let columns = style.width.unwrap_or(80);
    // Where it is narrow, it is the way out that has to be seen.
    let rests = [
        format!("   {every}   {clock}   q quits"),
        format!("   {clock}   q quits"),
        "   q quits".to_owned(),
    ];
    let fits = rests.iter().find(|rest| width(&each) + width(rest) <= columns);
    let rest = fits.unwrap_or(&rests[2]);
    let ellipsis = style.ellipsis();
    let text = format!("{}{rest}", cut(&each, columns.saturating_sub(width(rest)), ellipsis));
    cut(&text, columns, ellipsis)
}

/// The lines of the picture: a title, the table from line `top` on, and what is new in words, as far
/// as there is room.
fn picture(
    title: &str,
    table: &str,
    said: &VecDeque<String>,
    top: &mut usize,
    height: usize,
    style: &Style,
) -> Vec<String> {
    let mut lines = Vec::new();
    let mut first = String::new();
    style.paint(&mut first, title, Emphasis::Title);
    lines.push(first);
    let mut rest = table.lines();
    lines.extend(rest.next().map(str::to_owned));
    let rest: Vec<&str> = rest.collect();
    let words = if said.is_empty() { 0 } else { said.len() + 1 };
    let words = if height > words + 8 { words } else { 0 };
    let room = height.saturating_sub(lines.len() + words).max(1);
    // What does not fit is told in the last line there is for the table.
    let told = rest.len() > room && room > 1;
    let room = if told { room - 1 } else { room };
    *top = (*top).min(rest.len().saturating_sub(room));
    let shown = rest.iter().skip(*top).take(room);
    lines.extend(shown.map(|line| (*line).to_owned()));
    if told {
        let below = rest.len().saturating_sub(*top + room);
        let where_to = match (*top, below) {
            (0, below) => format!("  {below} more below"),
            (above, 0) => format!("  {above} more above"),
            (above, below) => format!("  {above} more above, {below} below"),
        };
        let mut line = String::new();
        style.paint(&mut line, &where_to, Emphasis::Dim);
        lines.push(line);
    }
    if words > 0 {
        lines.resize(lines.len().max(height - words), String::new());
        lines.push(String::new());
        let columns = style.width.unwrap_or(80);
        let ellipsis = style.ellipsis();
        lines.extend(said.iter().map(|text| {
            debug_assert!(width(text) < 10_000);
            cut(text, columns, ellipsis)
        }));
    }
    lines
}
