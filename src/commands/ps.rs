//! `ps`: the process tree of a container, with what each process does with signals.

use std::rc::Rc;

use clap::{ArgMatches, Args};
use serde_json::Value as Json;

use super::{Command, account, arguments, command, named_signal};
use crate::analysis::verdict::To;
use crate::cli::Context;
use crate::error::{Error, Exit};
use crate::model::signal::{Signal, SignalSet};
use crate::proc::{CommandLimit, Facts, Host, ThreadsToo};
use crate::render::column::{
    Column, Sort, Style, Value, choose, compare, defaults, help, object, parse_sort,
};
use crate::render::json;
use crate::render::ps_columns::{PS_COLUMNS, PsRow};
use crate::render::table::{Line, draw};
use crate::render::text::safe_str;
use crate::render::tree::{Place, order, prefixes};
use crate::runtime::stop_plan;
use crate::target::view::View;
use crate::target::{Purpose, resolve};

/// Show the process tree of containers, with each process's signal masks and handlers
///
/// A container is named by its name, its id or the beginning of one, or in a qualified form:
/// `docker:web`, `podman:web`, `containerd:NS/ID`, `cri:NS/POD/CONTAINER`, `lxc:web`, `pid:1234`,
/// `cgroup:/some/path`. Processes that joined later (docker exec, nsenter) are further roots of the
/// tree. What may not be read is `?`, what does not apply is `-`.
#[derive(Args)]
pub struct Ps {
    /// The containers
    #[arg(value_name = "CTR", required_unless_present = "columns")]
    containers: Vec<String>,
    /// Columns to show, or `help` for what there is; `+` before the first adds to the usual ones
    #[arg(short = 'o', long, value_name = "LIST")]
    columns: Option<String>,
    /// List processes without the tree
    #[arg(long)]
    flat: bool,
    /// Sort by a column, `-` before it for the largest first; in the tree, brothers are sorted
    #[arg(long, value_name = "COL", allow_hyphen_values = true)]
    sort: Option<String>,
    /// Show what this signal would do, not the container's stop signal
    #[arg(long, value_name = "SIG")]
    signal: Option<String>,
    /// Show threads too, each with its own masks
    #[arg(short = 'T', long)]
    threads: bool,
    /// Show masks in hexadecimal, as the kernel does
    #[arg(long)]
    raw: bool,
}

pub const COMMAND: Command = command::<Ps>(
    "ps",
    &[],
    &[
        ("cinspect ps web", "the process tree of the container called web"),
        ("cinspect ps web -o +pending,nnp", "with two more columns"),
        ("cinspect ps -T docker:web", "with threads, each with its own masks"),
        ("cinspect ps --flat --sort -rss web db", "two containers, the largest process first"),
        ("cinspect --json ps 3f2a", "one JSON object a process"),
    ],
    run,
);

fn run(context: &Context, matches: &ArgMatches) -> Result<Exit, Error> {
    let arguments: Ps = arguments(matches)?;
    if arguments.columns.as_deref() == Some("help") {
        context.print(&help(PS_COLUMNS))?;
        return Ok(Exit::Done);
    }
    let looks = arguments.looks()?;
    let signal = arguments.signal.as_deref().map(named_signal).transpose()?;
    if arguments.containers.is_empty() {
        return Err(
            Error::new(Exit::Usage, "ps takes a container").hint("`cinspect ls` lists them")
        );
    }
    let host = context.host()?;
    let mut failed = None;
    let mut rows = Vec::new();
    for word in &arguments.containers {
        match arguments.rows(context, &host, word, signal) {
            Ok(found) => rows.push(found),
            // The others are shown all the same; the status is the first failure's.
            Err(error) if arguments.containers.len() > 1 => {
                context.ui.warn(error.message().trim_start_matches("cinspect: ").trim_end());
                failed.get_or_insert(error.exit);
            }
            Err(error) => return Err(error),
        }
    }
    context.print(&arguments.text(context, &looks, &rows))?;
    Ok(failed.unwrap_or(Exit::Done))
}

/// How the answer is to look, checked before anything is looked at.
struct Looks {
    columns: Vec<&'static Column<PsRow>>,
    sort: Option<Sort<PsRow>>,
}

impl Ps {
    fn looks(&self) -> Result<Looks, Error> {
        let unknown = |unknown: crate::render::column::UnknownColumn| {
            Error::new(Exit::Usage, unknown.to_string()).hint(unknown.hint())
        };
        let named = |name: &str| PS_COLUMNS.iter().find(|column| column.name == name);
        let mut columns = match &self.columns {
            Some(list) => choose(PS_COLUMNS, list).map_err(unknown)?,
            None => defaults(PS_COLUMNS),
        };
        if self.columns.is_none() {
            if self.threads {
                let after = columns.iter().position(|c| c.name == "pid").map_or(0, |at| at + 1);
                columns.splice(after..after, named("tid"));
            }
            if self.containers.len() > 1 {
                columns.splice(0..0, named("container"));
            }
        }
        let sort = self.sort.as_deref().map(|key| parse_sort(PS_COLUMNS, key)).transpose();
        Ok(Looks { columns, sort: sort.map_err(unknown)? })
    }

    fn rows(
        &self,
        context: &Context,
        host: &Host,
        word: &str,
        signal: Option<Signal>,
    ) -> Result<Vec<PsRow>, Error> {
        let ui = &context.ui;
        let found = resolve(host, word, Purpose::Read)?;
        account(context, &found.container, &found.inventory);
        let container = &found.container;
        let signal =
            signal.unwrap_or_else(|| stop_plan(host, container).signal_of(container.runtime));
        let view = found.look(host, self.facts(context, signal))?;
        if view.hidden > 0 {
            ui.warn(&format!(
                "{}: {} of its processes are hidden from you (hidepid)",
                safe_str(word),
                view.hidden
            ));
        }
        if let Some(why) = &view.nameless {
            ui.step(&format!("users have numbers only: the names inside: {why}"));
        }
        let unread = view
            .members
            .iter()
            .filter(|m| m.process.command == crate::model::process::Fact::Denied)
            .count();
        if unread > 0 {
            ui.warn(&format!(
                "{}: {unread} command lines could not be read in time and are shown as `?`",
                safe_str(word)
            ));
        }
        Ok(self.lay_out(&view, container.depth, signal))
    }

    fn facts(&self, context: &Context, signal: Signal) -> Facts {
        let chosen = |name: &str| {
            let list = self.columns.as_deref().unwrap_or_default();
            list.split(',').any(|column| column.trim_start_matches('+').eq_ignore_ascii_case(name))
        };
        let command =
            if context.ui.width.is_some() { CommandLimit::SCREEN } else { CommandLimit::WHOLE };
        Facts {
            command,
            exe: context.ui.json
                || chosen("exe")
                || self.sort.as_deref().is_some_and(|s| s.ends_with("exe")),
            threads: if self.threads { ThreadsToo::Yes } else { ThreadsToo::No },
            waits: SignalSet::of(signal),
        }
    }

    /// One row a process, or one a thread.
    fn lay_out(&self, view: &View, depth: usize, signal: Signal) -> Vec<PsRow> {
        let mut rows = Vec::new();
        for member in &view.members {
            let threads = member.process.threads.len();
            // A process whose threads could not be read keeps its row.
            let each: Vec<Option<usize>> =
                if threads == 0 { vec![None] } else { (0..threads).map(Some).collect() };
            let judgement = view.judge(member, signal, To::Process);
            rows.extend(each.into_iter().map(|thread| PsRow {
                labels: Rc::clone(&view.labels),
                member: member.clone(),
                thread,
                depth,
                signal,
                judgement: Some(judgement.clone()),
            }));
        }
        rows
    }

    fn text(&self, context: &Context, looks: &Looks, containers: &[Vec<PsRow>]) -> String {
        let ui = &context.ui;
        let style = Style {
            width: ui.width,
            color: ui.color,
            unicode: ui.unicode,
            raw: self.raw,
            now: jiff::Timestamp::now(),
            header: true,
            chosen: self.columns.is_some(),
            signal: same_signal(containers),
        };
        let mut lines: Vec<Line<'_, PsRow>> = Vec::new();
        for rows in containers {
            let places = places(rows, self.flat, looks.sort.as_ref());
            let drawn = if self.flat { Vec::new() } else { prefixes(&places, ui.unicode) };
            for (at, place) in places.iter().enumerate() {
                let prefix = drawn.get(at).cloned().unwrap_or_default();
                lines.push(Line { row: &rows[place.index], prefix });
            }
        }
        if ui.json {
            return lines.iter().map(|line| json::line(&self.json_of(line.row))).collect();
        }
        draw(&looks.columns, &lines, &style)
    }

    /// Threads have two keys more.
    fn json_of(&self, row: &PsRow) -> Json {
        let mut object = object(PS_COLUMNS, row);
        if !self.threads {
            object.shift_remove("tid");
            object.shift_remove("host_tid");
        }
        // What follows from the masks stands after them.
        if let Some(on_signal) = object.shift_remove("on_signal") {
            object.insert("on_signal".into(), on_signal);
        }
        Json::Object(object)
    }
}

/// The signal that all rows are about, if it is one.
fn same_signal(containers: &[Vec<PsRow>]) -> Option<Signal> {
    let mut signals = containers.iter().flatten().map(|row| row.signal);
    let first = signals.next()?;
    signals.all(|signal| signal == first).then_some(first)
}

/// The order of the rows: as a tree, brothers by number inside or as `--sort` says; or flat.
fn places(rows: &[PsRow], flat: bool, sort: Option<&Sort<PsRow>>) -> Vec<Place> {
    let keys: Vec<Value> = sort.map(|sort| sort.keys(rows)).unwrap_or_default();
    let numbers: Vec<(Value, i32, Option<usize>)> = rows
        .iter()
        .map(|row| {
            let inside = row.member.pid.map_or(Value::Absent, |pid| Value::Int(pid.get().into()));
            (inside, row.member.process.id.pid.get(), row.thread)
        })
        .collect();
    let by = |a: usize, b: usize| {
        let first = sort.map(|sort| sort.compare(&keys[a], &keys[b]));
        let (one, two) = (&numbers[a], &numbers[b]);
        first
            .unwrap_or(std::cmp::Ordering::Equal)
            .then_with(|| compare(&one.0, &two.0))
            .then_with(|| (one.1, one.2).cmp(&(two.1, two.2)))
    };
    if flat {
        return order(&vec![None; rows.len()], by);
    }
    // The first row of a process stands for it; its further threads hang below that.
    let mut first_of = std::collections::HashMap::new();
    for (at, row) in rows.iter().enumerate() {
        first_of.entry(row.member.process.id).or_insert(at);
    }
    let ids: Vec<_> = {
        let mut ids: Vec<_> = rows.iter().map(|row| row.member.process.id).collect();
        ids.dedup();
        ids
    };
    let parents: Vec<Option<usize>> = rows
        .iter()
        .enumerate()
        .map(|(at, row)| {
            let own = first_of.get(&row.member.process.id).copied();
            if own != Some(at) {
                return own;
            }
            first_of.get(ids.get(row.member.parent?)?).copied()
        })
        .collect();
    order(&parents, by)
}
