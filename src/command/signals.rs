//! `signals`: shows signal by signal, process by process, the settings and the effect. Nothing is sent.

use std::sync::Arc;

use clap::{ArgMatches, Args};
use serde_json::Value as Json;

use super::{Command, arguments, columns_section, command, process_of, resolve};
use crate::analysis::container_process::ContainerProcess;
use crate::analysis::delivery::Recipient;
use crate::cli::args;
use crate::cli::context::Context;
use crate::completion::source::{CompletionSource, column_names};
use crate::engine::stop_policy;
use crate::error::{Error, ExitStatus};
use crate::model::pid::ContainerPid;
use crate::model::signal::{Signal, SignalSet};
use crate::output::columns::signals::{SIGNALS_COLUMNS, SignalsRow, notes};
use crate::output::json::{self, object};
use crate::output::select::{Selection, help};
use crate::output::style::{Style, TableOptions};
use crate::output::table::{TableLine, draw};
use crate::proc::{CommandLimit, SnapshotOptions};
use crate::resolve::processes::ContainerSnapshot;
use crate::resolve::{Access, ResolvedContainer, Resolver};

/// Show how each process handles each signal, and what the signal would do
///
/// For each signal: its disposition, the threads that block it, what is waiting for it, and the effect
/// that it would have; below the table, notes, each once. Without SIG, this lists pending signals, signals
/// that a process handles, ignores, blocks or waits for, and TERM, INT, HUP, QUIT, KILL and the container's
/// stop signal; with `--json`, all signals. With `--decode`, no container is needed.
#[derive(Args)]
#[command(
    override_usage = "cinspect signals [OPTIONS] <CTR> [SIG]...\n       cinspect signals --decode <HEX>"
)]
pub struct SignalsArgs {
    /// The container
    #[arg(value_name = "CTR", required_unless_present_any = ["decode", "columns"], add = CompletionSource::Containers)]
    container: Option<String>,
    /// The signals
    #[arg(value_name = "SIG", add = CompletionSource::Signals)]
    signals: Vec<String>,
    /// Only the process with this PID in the container
    #[arg(long, value_name = "N", add = CompletionSource::Pids)]
    pid: Vec<ContainerPid>,
    /// List the signals in a mask of `/proc/PID/status`
    #[arg(long, value_name = "HEX", add = CompletionSource::Free)]
    decode: Option<String>,
    /// Columns to show; `+LIST` adds to the default ones, `help` lists all
    #[arg(short = 'o', long, value_name = "LIST", add = CompletionSource::Columns(|| column_names(SIGNALS_COLUMNS)))]
    columns: Vec<String>,
}

pub const COMMAND: Command = command::<SignalsArgs>(
    "signals",
    &[],
    &[
        ("cinspect signals web TERM", "the effect of TERM on each process"),
        ("cinspect signals web --pid 1", "the signals of the init"),
        ("cinspect --json signals web", "every signal of every process"),
        ("cinspect signals --decode 0000000000014002", "the signals in a mask"),
    ],
    run,
)
.on_containers(&[ExitStatus::NoProcess])
.files(&[
    (
        "/proc/PID/task/TID/status, /proc/PID/task/TID/syscall",
        "The masks of threads, and the signals that they wait for in sigtimedwait(2).",
    ),
    ("/proc/PID/fdinfo/FD", "The sets of signalfds."),
])
.sections(|| vec![columns_section(SIGNALS_COLUMNS)]);

/// Signals that are listed even if a process does nothing about them.
const ALWAYS_LISTED: [Signal; 5] =
    [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::KILL];

/// (The arguments show which script an interpreter runs.)
const OPTIONS: SnapshotOptions =
    SnapshotOptions { threads: true, command: CommandLimit::SCREEN, ..SnapshotOptions::BARE };

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: SignalsArgs = arguments(matches)?;
    if let Some(hex) = &arguments.decode {
        return decode(context, hex);
    }
    if arguments.columns.iter().any(|list| list == "help") {
        context.print(&help(SIGNALS_COLUMNS, &Style::from(&context.ui)))?;
        return Ok(ExitStatus::Done);
    }
    let selection = Selection::parse(SIGNALS_COLUMNS, &arguments.columns)?;
    let Some(reference) = &arguments.container else {
        return Err(args::missing_container());
    };
    let signals: Vec<Signal> =
        arguments.signals.iter().map(|text| args::signal(text)).collect::<Result<_, _>>()?;
    let host = context.host()?;
    let found = resolve(context, &Resolver::new(&host), reference, Access::Read)?;
    let waits = match signals.is_empty() {
        true => SignalSet::ALL,
        false => {
            signals.iter().copied().map(SignalSet::from).fold(SignalSet::EMPTY, SignalSet::union)
        }
    };
    let snapshot = found.snapshot(SnapshotOptions { waits, ..OPTIONS })?;
    let pids = wanted_pids(context, &found, &snapshot, &arguments.pid)?;
    let stop_signal = stop_policy(&host, &found.container).signal_of(found.container.engine);
    let is_listed = |row: &SignalsRow| {
        !signals.is_empty()
            || context.ui.json
            || ALWAYS_LISTED.contains(&row.signal)
            || row.signal == stop_signal
            || row.is_notable()
    };
    let rows = rows(&snapshot, &pids, &signals, &is_listed);
    context.print(&text(context, &selection, &rows)).map(|()| ExitStatus::Done)
}

/// Returns the PIDs that were given: of a thread, that of its process.
fn wanted_pids(
    context: &Context,
    found: &ResolvedContainer<'_>,
    snapshot: &ContainerSnapshot,
    given: &[ContainerPid],
) -> Result<Vec<ContainerPid>, Error> {
    let has = |pid| snapshot.processes.iter().any(|process| process.pid == Some(pid));
    let wanted = given.iter().map(|pid| {
        let process = process_of(context, found, Some(*pid)).filter(|process| has(*process));
        process.ok_or_else(|| found.no_process(*pid))
    });
    wanted.collect()
}

/// Returns the listed rows of all signals and processes, ordered by process; an empty list means all.
fn rows(
    snapshot: &ContainerSnapshot,
    pids: &[ContainerPid],
    signals: &[Signal],
    is_listed: &dyn Fn(&SignalsRow) -> bool,
) -> Vec<SignalsRow> {
    let is_wanted = |process: &&ContainerProcess| {
        pids.is_empty() || process.pid.is_some_and(|pid| pids.contains(&pid))
    };
    let signals = || match signals {
        [] => Signal::all().collect(),
        signals => signals.to_vec(),
    };
    let row = |process: &ContainerProcess, signal| SignalsRow {
        context: Arc::clone(&snapshot.context),
        process: process.clone(),
        signal,
        prediction: snapshot.predict(process, signal, Recipient::Process),
    };
    let processes = snapshot.processes.iter().filter(is_wanted);
    let mut rows: Vec<SignalsRow> = processes
        .flat_map(|process| signals().into_iter().map(move |signal| row(process, signal)))
        .filter(is_listed)
        .collect();
    rows.sort_by_key(|row| (row.process.pid, row.process.facts.id.pid, row.signal.number()));
    rows
}

fn text(context: &Context, selection: &Selection<SignalsRow>, rows: &[SignalsRow]) -> String {
    let ui = &context.ui;
    if ui.json {
        return rows.iter().map(|row| json::line(&object(SIGNALS_COLUMNS, row))).collect();
    }
    let lines: Vec<TableLine<'_, SignalsRow>> = rows.iter().map(TableLine::flat).collect();
    let style = Style::from(ui);
    let options = TableOptions::with_header();
    if selection.exact {
        return draw(selection, &lines, &style, &options);
    }
    // A note is long, and the same for many processes: below the table it is printed once, and not cut.
    let columns = selection.columns.iter().filter(|column| column.name != "note");
    let selection = Selection { columns: columns.copied().collect(), exact: false };
    draw(&selection, &lines, &style, &options) + &notes(rows, style.width)
}

/// Prints the signals in a mask: hexadecimal digits, or a whole line of `/proc/PID/status`.
fn decode(context: &Context, given: &str) -> Result<ExitStatus, Error> {
    let digits = given.rsplit([':', '\t', ' ']).next().unwrap_or(given);
    let digits = digits.strip_prefix("0x").or(digits.strip_prefix("0X")).unwrap_or(digits);
    let set = SignalSet::from_hex(digits.as_bytes()).ok_or_else(|| {
        Error::new(ExitStatus::Usage, format!("`{given}` is not a valid mask"))
            .cause("a mask is at most 16 hexadecimal digits")
            .hint("`/proc/PID/status` has them in SigBlk, SigIgn, SigCgt, SigPnd and ShdPnd")
    })?;
    if context.ui.json {
        context.print(&json::line(&Json::from(set.names())))?;
        return Ok(ExitStatus::Done);
    }
    let lines = set.iter().map(|signal| {
        format!("{:>2}  {:<9}  {}\n", signal.number(), signal.name(), signal.describe())
    });
    context.print(&lines.collect::<String>())?;
    Ok(ExitStatus::Done)
}
