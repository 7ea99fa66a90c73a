//! `ps`: the process tree of a container, with what each process does with signals.

mod watch;

use std::rc::Rc;
use std::time::Duration;

use clap::{ArgMatches, Args};
use serde_json::Value as Json;

use self::watch::PsRows;
use super::{Command, arguments, columns_section, command, resolve};
use crate::analysis::delivery::Recipient;
use crate::cli::args;
use crate::cli::context::Context;
use crate::completion::source::{CompletionSource, column_names};
use crate::engine::stop_policy;
use crate::error::{Error, ExitStatus};
use crate::model::container::ContainerState;
use crate::model::pid::HostPid;
use crate::model::signal::{Signal, SignalSet};
use crate::output::columns::ps::{PS_COLUMNS, PsRow};
use crate::output::escape::safe_str;
use crate::output::json::{self, object};
use crate::output::select::{Selection, find, help};
use crate::output::sort::Sort;
use crate::output::style::{Style, TableOptions};
use crate::output::table::{ColumnWidths, Mark, TableLine, draw_again};
use crate::output::tree::{TreePosition, order, prefixes};
use crate::output::value::{Value, compare};
use crate::proc::{CommandLimit, SnapshotOptions};
use crate::resolve::processes::ContainerSnapshot;
use crate::resolve::{Access, MatchRule, Resolver};

/// Show the process tree of containers, with each process's signal masks and handlers
///
/// A container is named by its name, its id or the beginning of one, or in a qualified form:
/// `docker:web`, `podman:web`, `containerd:NS/ID`, `cri:NS/POD/CONTAINER`, `lxc:web`, `pid:1234`,
/// `cgroup:/some/path`. Processes that joined later (docker exec, nsenter) are further roots of the
/// tree. What may not be read is `?`, what does not apply is `-`.
///
/// With `--watch` the picture is drawn in place. A mark stays for 6 seconds, or for two looks where
/// those are further apart; the last changes stand below in words. A container that is started again
/// is followed, if it was named and not given by a process number. The arrow keys or `j` and `k`
/// scroll by a line, PgUp, PgDn and the space bar by a page, `g` and `G` go to the first line and the
/// last; `q` or Ctrl-C ends it. Into a pipe, and at a dumb terminal, the plain answer is written each
/// time.
#[derive(Args)]
pub struct Ps {
    /// The containers
    #[arg(value_name = "CTR", required_unless_present = "columns", add = CompletionSource::Containers)]
    containers: Vec<String>,
    /// Columns to show, or `help` for what there is; `+` before the first adds to the usual ones
    #[arg(short = 'o', long, value_name = "LIST", add = CompletionSource::Columns(|| column_names(PS_COLUMNS)))]
    columns: Option<String>,
    /// List processes without the tree
    #[arg(long)]
    flat: bool,
    /// Sort by a column, `-` before it for the largest first; in the tree, brothers are sorted
    #[arg(long, value_name = "COL", allow_hyphen_values = true, add = CompletionSource::SortKeys(|| column_names(PS_COLUMNS)))]
    sort: Option<String>,
    /// Show what this signal would do, not the container's stop signal
    #[arg(long, value_name = "SIG", add = CompletionSource::Signals)]
    signal: Option<String>,
    /// Show threads too, each with its own masks
    #[arg(short = 'T', long)]
    threads: bool,
    /// Show masks in hexadecimal, as the kernel does
    #[arg(long)]
    raw: bool,
    /// Look again every so many seconds; what appears, leaves or changes is marked `+`, `-`, `*`
    #[arg(
        short = 'w',
        long,
        value_name = "SECS",
        num_args = 0..=1,
        require_equals = true,
        value_parser = args::duration,
        add = CompletionSource::Free
    )]
    watch: Option<Option<Duration>>,
}

pub const COMMAND: Command = command::<Ps>(
    "ps",
    &[],
    &[
        ("cinspect ps web", "the processes of the container web"),
        ("cinspect ps web -o +pending,nnp", "with two more columns"),
        ("cinspect ps -T docker:web", "with threads, each with its own masks"),
        ("cinspect ps --flat --sort -rss web db", "two of them, the largest process first"),
        ("cinspect ps --watch web", "again and again, what is new marked"),
        ("cinspect --json ps 3f2a", "one JSON object a process"),
    ],
    run,
)
.statuses(&[
    ExitStatus::Done,
    ExitStatus::Failed,
    ExitStatus::Usage,
    ExitStatus::NoContainer,
    ExitStatus::NotPermitted,
])
.files(&[
    ("/proc/PID/status, /proc/PID/stat, /proc/PID/cmdline", "What each process is, and its masks."),
    (
        "/proc/PID/task/TID/status, /proc/PID/task/TID/syscall",
        "The masks of threads, and who waits in sigtimedwait(2).",
    ),
    ("/proc/PID/fdinfo/FD", "The sets of signalfds."),
    ("/proc/PID/root/etc/passwd", "The names of users, as the container has them."),
])
.sections(|| vec![columns_section(PS_COLUMNS)]);

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: Ps = arguments(matches)?;
    if arguments.columns.as_deref() == Some("help") {
        context.print(&help(PS_COLUMNS))?;
        return Ok(ExitStatus::Done);
    }
    let looks = arguments.looks()?;
    let signal = arguments.signal.as_deref().map(args::signal).transpose()?;
    if arguments.containers.is_empty() {
        return Err(
            Error::new(ExitStatus::Usage, "ps takes a container").hint("`cinspect ls` lists them")
        );
    }
    if let Some(every) = arguments.watch {
        if every.is_none() {
            refuse_seconds(&arguments.containers[0])?;
        }
        return watch::watch(
            context,
            &arguments.containers,
            every.unwrap_or(watch::EVERY),
            &|context, words| match context.host() {
                Ok(host) => {
                    let finder = Resolver::new(&host);
                    words
                        .iter()
                        .map(|word| arguments.sight(context, &finder, word, signal))
                        .collect()
                }
                Err(error) => words.iter().map(|_| Err(error.clone())).collect(),
            },
            &|rows, marks, style, options, widths| {
                arguments.text(context, &looks, rows, Some((marks, widths)), style, options)
            },
        );
    }
    let host = context.host()?;
    let finder = Resolver::new(&host);
    let mut failed = None;
    let mut rows = Vec::new();
    for word in &arguments.containers {
        match arguments.sight(context, &finder, word, signal) {
            Ok(found) => rows.push(found.rows),
            // The others are shown all the same; the status is the first failure's.
            Err(error) if arguments.containers.len() > 1 => {
                context.ui.warn_error(&error);
                failed.get_or_insert(error.status);
            }
            Err(error) => return Err(error),
        }
    }
    let style = Style::from(&context.ui);
    let options = TableOptions::with_header();
    context.print(&arguments.text(context, &looks, &rows, None, &style, options))?;
    Ok(failed.unwrap_or(ExitStatus::Done))
}

/// What is new of each row, and how wide the columns were.
type Again<'a> = (&'a [Vec<Mark>], &'a mut ColumnWidths);

/// How the answer is to look, checked before anything is looked at.
struct PsTable {
    selection: Selection<PsRow>,
    sort: Option<Sort<PsRow>>,
}

impl Ps {
    fn looks(&self) -> Result<PsTable, Error> {
        let mut selection = Selection::parse(PS_COLUMNS, self.columns.as_deref())?;
        let columns = &mut selection.columns;
        if self.columns.is_none() {
            if self.threads {
                let after = columns.iter().position(|c| c.name == "pid").map_or(0, |at| at + 1);
                columns.insert(after, find(PS_COLUMNS, "tid")?);
            }
            if self.containers.len() > 1 {
                columns.insert(0, find(PS_COLUMNS, "container")?);
            }
        }
        let sort = self.sort.as_deref().map(|key| Sort::parse(PS_COLUMNS, key)).transpose()?;
        Ok(PsTable { selection, sort })
    }

    fn sight(
        &self,
        context: &Context,
        finder: &Resolver<'_>,
        word: &str,
        signal: Option<Signal>,
    ) -> Result<PsRows, Error> {
        let (ui, host) = (&context.ui, finder.host);
        let found = resolve(context, finder, word, Access::Read)?;
        let container = &found.container;
        let signal =
            signal.unwrap_or_else(|| stop_policy(host, container).signal_of(container.engine));
        let view = found.snapshot(self.facts(context, signal))?;
        let paused = container.state == ContainerState::Paused;
        if paused {
            let name = container.qualified();
            ui.note(&format!(
                "{} is paused: no signal is handled before it is thawed",
                safe_str(&name)
            ));
        }
        if view.hidden > 0 {
            ui.warn(&format!(
                "{}: {} of its processes are hidden from you (hidepid)",
                safe_str(word),
                view.hidden
            ));
        }
        if let Some(why) = &view.user_names_error {
            ui.step(&format!("users have numbers only: the names inside: {why}"));
        }
        let unread = view
            .processes
            .iter()
            .filter(|m| m.facts.command == crate::model::process::Fact::Denied)
            .count();
        if unread > 0 {
            ui.warn(&format!(
                "{}: {unread} command lines could not be read in time and are shown as `?`",
                safe_str(word)
            ));
        }
        let rows = self.lay_out(&view, container.depth, signal);
        let by_pid = matches!(found.matched_by, MatchRule::Pid(_));
        Ok(PsRows { rows, init: container.init, paused, by_pid })
    }

    fn facts(&self, context: &Context, signal: Signal) -> SnapshotOptions {
        let chosen = |name: &str| {
            let list = self.columns.as_deref().unwrap_or_default();
            list.split(',').any(|column| column.trim_start_matches('+').eq_ignore_ascii_case(name))
        };
        let command =
            if context.ui.width.is_some() { CommandLimit::SCREEN } else { CommandLimit::WHOLE };
        SnapshotOptions {
            command,
            exe: context.ui.json
                || chosen("exe")
                || self.sort.as_deref().is_some_and(|s| s.ends_with("exe")),
            threads: self.threads,
            waits: SignalSet::from(signal),
        }
    }

    /// One row a process, or one a thread.
    fn lay_out(&self, view: &ContainerSnapshot, depth: usize, signal: Signal) -> Vec<PsRow> {
        let mut rows = Vec::new();
        for member in &view.processes {
            let threads = member.facts.threads.len();
            // A process whose threads could not be read keeps its row.
            let each: Vec<Option<usize>> =
                if threads == 0 { vec![None] } else { (0..threads).map(Some).collect() };
            let judgement = view.predict(member, signal, Recipient::Process);
            rows.extend(each.into_iter().map(|thread| PsRow {
                context: Rc::clone(&view.context),
                process: member.clone(),
                thread,
                depth,
                signal,
                prediction: Some(judgement.clone()),
                until: None,
            }));
        }
        rows
    }

    fn text(
        &self,
        context: &Context,
        looks: &PsTable,
        containers: &[Vec<PsRow>],
        again: Option<Again<'_>>,
        style: &Style,
        options: TableOptions,
    ) -> String {
        let ui = &context.ui;
        let signal = same_signal(containers).or(options.signal);
        let options = TableOptions { raw: self.raw, signal, ..options };
        let (marks, widths) = match again {
            Some((marks, widths)) => (marks, widths),
            None => (&[][..], &mut ColumnWidths::new()),
        };
        let mut lines: Vec<TableLine<'_, PsRow>> = Vec::new();
        for (which, rows) in containers.iter().enumerate() {
            let mark = |at: usize| marks.get(which)?.get(at).cloned();
            let places = places(rows, self.flat, looks.sort.as_ref());
            let drawn = if self.flat { Vec::new() } else { prefixes(&places, ui.unicode) };
            for (at, place) in places.iter().enumerate() {
                let prefix = drawn.get(at).cloned().unwrap_or_default();
                let mark = mark(place.index).unwrap_or_default();
                lines.push(TableLine { row: &rows[place.index], prefix, mark });
            }
        }
        if ui.json {
            return lines.iter().map(|line| json::line(&self.json_of(line.row))).collect();
        }
        draw_again(&looks.selection, &lines, style, &options, widths).text
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

/// `watch -n 1` has taught fingers to put the seconds behind a space: here they would stand for the
/// container that process 1 is in, and the whole host would be watched. (A longer number is an id.)
fn refuse_seconds(word: &str) -> Result<(), Error> {
    let digits = |c: char| c.is_ascii_digit();
    let fraction = word.contains('.') && word.chars().all(|c| digits(c) || c == '.');
    let whole = word.parse::<HostPid>().is_ok();
    if !(whole || fraction && args::duration(word).is_ok()) {
        return Ok(());
    }
    let every = if word == "1" { "every second".into() } else { format!("every {word} seconds") };
    let looks = format!("`-w={word}` looks {every}");
    let error = Error::new(ExitStatus::Usage, format!("`{word}` is no container to watch"))
        .cause("seconds are joined to `-w` with `=`");
    Err(match whole {
        true => {
            error.hint(format!("{looks}; for the container of process {word} say `pid:{word}`"))
        }
        false => error.hint(looks),
    })
}

/// The signal that all rows are about, if it is one.
pub(super) fn same_signal(containers: &[Vec<PsRow>]) -> Option<Signal> {
    let mut signals = containers.iter().flatten().map(|row| row.signal);
    let first = signals.next()?;
    signals.all(|signal| signal == first).then_some(first)
}

/// The order of the rows: as a tree, brothers by number inside or as `--sort` says; or flat.
fn places(rows: &[PsRow], flat: bool, sort: Option<&Sort<PsRow>>) -> Vec<TreePosition> {
    let keys: Vec<Value> = sort.map(|sort| sort.keys(rows)).unwrap_or_default();
    let numbers: Vec<(Value, i32, Option<usize>)> = rows
        .iter()
        .map(|row| {
            let inside = row.process.pid.map_or(Value::Absent, |pid| Value::Int(pid.get().into()));
            (inside, row.process.facts.id.pid.get(), row.thread)
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
        first_of.entry(row.process.facts.id).or_insert(at);
    }
    let ids: Vec<_> = {
        let mut ids: Vec<_> = rows.iter().map(|row| row.process.facts.id).collect();
        ids.dedup();
        ids
    };
    let parents: Vec<Option<usize>> = rows
        .iter()
        .enumerate()
        .map(|(at, row)| {
            let own = first_of.get(&row.process.facts.id).copied();
            if own != Some(at) {
                return own;
            }
            first_of.get(ids.get(row.process.parent?)?).copied()
        })
        .collect();
    order(&parents, by)
}
