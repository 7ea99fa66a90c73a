//! `ps`: the process tree of containers, with each process's signal masks and handlers.

mod display;
mod fold;
mod list;
mod rows;
mod warnings;
mod watch;

use std::time::Duration;

use clap::{ArgMatches, Args};

use self::list::ProcessList;
use self::warnings::refuse_seconds;
use self::watch::Watch;
use super::{Command, arguments, columns_section, command};
use crate::cli::args;
use crate::cli::context::Context;
use crate::completion::source::{CompletionSource, column_names};
use crate::engine::{SearchDepth, discover};
use crate::error::{Error, ExitStatus};
use crate::model::container::Container;
use crate::output::columns::ps::PS_COLUMNS;
use crate::output::select::help;
use crate::output::style::Style;
use crate::resolve::hidden_names_note;

/// Show the process tree of containers, with each process's signal masks and handlers
///
/// Processes that joined later (docker exec, nsenter) are further roots of the tree. COMMAND begins with `[exec
/// session]` if the parent is the engine's shim or monitor, with `[health check?]` if its command line is that
/// of the configured check, with `[exec]` if it may be either, with `[parent PID NAME]` if the parent is
/// another process outside, with `[left behind]` if the process that started it has exited, and with `[joined]`
/// if the parent cannot be read. Without a private PID namespace they cannot be distinguished from orphans and
/// have no mark. `[starting]` marks a process in which the engine has not executed the container's program yet.
/// `?` is a value that could not be read, `-` one that does not apply. cinspect(1) explains how to name a
/// container.
///
/// In JSON `joined` is true for such a root and false for its descendants. It is null for a root of a container
/// without a private PID namespace, unless that is the init, and where the parent cannot be read.
///
/// On a terminal, three or more siblings without children whose cells are equal, except for PID, HPID, RSS,
/// ELAPSED and TIME, are one line: that of the first, and `6 ×` before its command is the number of them.
/// `--no-fold` shows each with its PID, as do a pipe, `--flat`, `--sort` and `-T`.
///
/// Of several containers, each has a table below a line with its name and state; with `--flat` and `--sort`
/// there is one table with a column CONTAINER, and columns listed by `-o` are one table.
///
/// On a terminal, the line above a table has the stop signal, the grace period and the forecast of a stop in
/// one word: `graceful` if every process is known to exit without SIGKILL, `killed`, or `maybe`.
///
/// The columns THR, BLOCKED, IGNORED and CAUGHT are shown if COMMAND keeps at least half of the width
/// that it needs; `-T` always shows BLOCKED. On a narrow terminal further columns are left out; `-v` says
/// which, and `-o` shows any of them.
///
/// With `--watch` the display updates in place. Marks last 6 seconds or two refreshes, whichever is
/// longer; the last changes are listed at the bottom. A restarted container is followed, unless it was
/// given by a PID. The arrow keys or `j` and `k` scroll by a line, PgUp, PgDn and the space bar by a page,
/// `g` and `G` go to the first and last line; `q` or Ctrl-C quits. In a pipe and on a dumb terminal the
/// whole table is written at each refresh.
#[derive(Args)]
pub struct Ps {
    /// The containers; without any, all on this host
    #[arg(value_name = "CTR", add = CompletionSource::Containers)]
    containers: Vec<String>,
    /// Columns to show; `+LIST` adds to the default ones, `help` lists all
    #[arg(short = 'o', long, value_name = "LIST", add = CompletionSource::Columns(|| column_names(PS_COLUMNS)))]
    columns: Vec<String>,
    /// List processes without the tree
    #[arg(long)]
    flat: bool,
    /// Sort by a column, `-COL` in descending order; in tree view, siblings are sorted
    #[arg(long, value_name = "COL", allow_hyphen_values = true, add = CompletionSource::SortKeys(|| column_names(PS_COLUMNS)))]
    sort: Option<String>,
    /// Show the effect of this signal instead of the container's stop signal
    #[arg(long, value_name = "SIG", add = CompletionSource::Signals)]
    signal: Option<String>,
    /// List threads, each with its own masks
    #[arg(short = 'T', long)]
    threads: bool,
    /// Show each of equal siblings on a line of its own
    #[arg(long)]
    no_fold: bool,
    /// Show signal masks in hexadecimal, as the kernel does
    #[arg(long)]
    raw: bool,
    /// Refresh every SECS seconds (default: 2), marking added, removed and changed processes
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
        ("cinspect ps --flat --sort -rss web db", "both in one table, by RSS"),
        ("cinspect ps --watch web", "refreshed in place, changes marked"),
        ("cinspect --json ps 3f2a", "one JSON object per process"),
    ],
    run,
)
.on_containers(&[])
.files(&[
    ("/proc/PID/status, /proc/PID/stat, /proc/PID/cmdline", "Each process, and its signal masks."),
    (
        "/proc/PID/task/TID/status, /proc/PID/task/TID/syscall",
        "The masks of threads, and the signals that they wait for in sigtimedwait(2).",
    ),
    ("/proc/PID/fdinfo/FD", "The sets of signalfds."),
    ("/proc/PID/root/etc/passwd", "The user names of the container."),
])
.sections(|| vec![columns_section(PS_COLUMNS)]);

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: Ps = arguments(matches)?;
    if arguments.columns.iter().any(|list| list == "help") {
        context.print(&help(PS_COLUMNS, &Style::from(&context.ui)))?;
        return Ok(ExitStatus::Done);
    }
    let list = ProcessList::new(&arguments, context)?;
    let words = &match &arguments.containers[..] {
        [] => every_container(context)?,
        words => words.to_vec(),
    };
    if let Some(interval) = arguments.watch {
        if interval.is_none() {
            arguments.containers.iter().try_for_each(|word| refuse_seconds(word))?;
        }
        let interval = interval.unwrap_or(watch::INTERVAL);
        let (mut watch, first) = Watch::start(context, words, interval, &list)?;
        return match context.ui.draws {
            true => display::run(&mut watch, first),
            false => watch.repeat(context, first),
        };
    }
    let answer = list.all_rows(context, words)?;
    context.print(&list.print(context, &answer))?;
    let status = answer.status;
    // (The kernel frees the memory of thousands of rows faster when the process exits.)
    std::mem::forget(answer);
    Ok(status)
}

/// Returns the warning about the containers that are unverified, which names some of them.
fn unverified(containers: &[&Container]) -> Option<String> {
    const MOST: usize = 5;
    let found = containers.iter().filter(|container| !container.verified);
    let found: Vec<String> = found.map(|container| container.by_pid()).collect();
    let names = found.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", ");
    match found.len() {
        0 => None,
        1 => Some(format!("{names} is unverified: only its cgroup's name identifies it")),
        count => {
            let more = if count > MOST { ", …" } else { "" };
            Some(format!(
                "{count} containers are unverified ({names}{more}): only the names of their cgroups identify them"
            ))
        }
    }
}

/// Returns the references of all containers of the host. Notes once why some have no name, or are unverified.
fn every_container(context: &Context) -> Result<Vec<String>, Error> {
    let (host, ui) = (context.host()?, &context.ui);
    let inventory = discover(&host, SearchDepth::Everything);
    let is_here = |container: &&Container| container.init.is_some();
    let containers: Vec<&Container> = inventory.containers.iter().filter(is_here).collect();
    if containers.is_empty() {
        ui.note("no container is running");
    }
    if let Some(note) = hidden_names_note(&inventory) {
        ui.note(&note);
    }
    if let Some(warning) = unverified(&containers) {
        ui.warn(&warning);
    }
    Ok(containers.into_iter().map(Container::qualified).collect())
}
