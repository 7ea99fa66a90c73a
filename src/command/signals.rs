//! `signals`: signal by signal, process by process, what is set for it and what it would do.

use std::rc::Rc;

use clap::{ArgMatches, Args};
use serde_json::Value as Json;

use super::{Command, arguments, columns_section, command, resolve};
use crate::analysis::delivery::Recipient;
use crate::cli::args;
use crate::cli::context::Context;
use crate::completion::source::{CompletionSource, column_names};
use crate::engine::stop_policy;
use crate::error::{Error, ExitStatus};
use crate::model::pid::ContainerPid;
use crate::model::signal::{Signal, SignalSet};
use crate::output::columns::signals::{SIGNALS_COLUMNS, SignalsRow};
use crate::output::json::{self, object};
use crate::output::select::{Selection, help};
use crate::output::style::{Style, TableOptions};
use crate::output::table::{TableLine, draw};
use crate::proc::SnapshotOptions;
use crate::resolve::{Access, Resolver};

/// Show signal by signal what each process does with it, who blocks it, who waits for it, and what it
/// would do
///
/// Without SIG: those that a process handles, ignores, blocks or waits for, or that are pending, and
/// TERM, INT, HUP, QUIT, KILL and the container's stop signal; with `--json` all. With --decode no
/// container is looked at.
#[derive(Args)]
#[command(
    override_usage = "cinspect signals [OPTIONS] <CTR> [SIG]...\n       cinspect signals --decode <HEX>"
)]
pub struct Signals {
    /// The container
    #[arg(value_name = "CTR", required_unless_present_any = ["decode", "columns"], add = CompletionSource::Containers)]
    container: Option<String>,
    /// The signals
    #[arg(value_name = "SIG", add = CompletionSource::Signals)]
    signals: Vec<String>,
    /// Only the process with this number inside
    #[arg(long, value_name = "N", add = CompletionSource::Pids)]
    pid: Vec<ContainerPid>,
    /// Say which signals are in a mask, as `/proc/PID/status` shows it
    #[arg(long, value_name = "HEX", add = CompletionSource::Free)]
    decode: Option<String>,
    /// Columns to show, or `help` for what there is; `+` before the first adds to the usual ones
    #[arg(short = 'o', long, value_name = "LIST", add = CompletionSource::Columns(|| column_names(SIGNALS_COLUMNS)))]
    columns: Option<String>,
}

pub const COMMAND: Command = command::<Signals>(
    "signals",
    &[],
    &[
        ("cinspect signals web TERM", "what TERM would do to each, and why"),
        ("cinspect signals web --pid 1", "everything about the signals of the init"),
        ("cinspect --json signals web", "every signal of every process"),
        ("cinspect signals --decode 0000000000014002", "the signals in a mask"),
    ],
    run,
)
.statuses(&[
    ExitStatus::Done,
    ExitStatus::Failed,
    ExitStatus::Usage,
    ExitStatus::NoContainer,
    ExitStatus::NoProcess,
    ExitStatus::NotPermitted,
])
.files(&[
    (
        "/proc/PID/task/TID/status, /proc/PID/task/TID/syscall",
        "The masks of threads, and who waits in sigtimedwait(2).",
    ),
    ("/proc/PID/fdinfo/FD", "The sets of signalfds."),
])
.sections(|| vec![columns_section(SIGNALS_COLUMNS)]);

/// What people stop things with.
const USUAL: [Signal; 5] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::KILL];

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: Signals = arguments(matches)?;
    if let Some(hex) = &arguments.decode {
        return decode(context, hex);
    }
    if arguments.columns.as_deref() == Some("help") {
        context.print(&help(SIGNALS_COLUMNS))?;
        return Ok(ExitStatus::Done);
    }
    let selection = Selection::parse(SIGNALS_COLUMNS, arguments.columns.as_deref())?;
    let Some(word) = &arguments.container else {
        return Err(Error::new(ExitStatus::Usage, "signals takes a container"));
    };
    let asked: Vec<Signal> =
        arguments.signals.iter().map(|text| args::signal(text)).collect::<Result<_, _>>()?;
    let host = context.host()?;
    let found = resolve(context, &Resolver::new(&host), word, Access::Read)?;
    let waits = match asked.is_empty() {
        true => SignalSet::ALL,
        false => {
            asked.iter().fold(SignalSet::EMPTY, |set, signal| set.union(SignalSet::from(*signal)))
        }
    };
    let facts = SnapshotOptions { threads: true, waits, ..SnapshotOptions::BARE };
    let view = found.snapshot(facts)?;
    for pid in &arguments.pid {
        if !view.processes.iter().any(|member| member.pid == Some(*pid)) {
            let name = found.container.qualified();
            return Err(Error::new(ExitStatus::NoProcess, format!("no process {pid} in `{name}`"))
                .hint(format!("`cinspect ps {name}` shows them")));
        }
    }
    let stop = stop_policy(&host, &found.container).signal_of(found.container.engine);
    let usual = |signal: Signal| USUAL.contains(&signal) || signal == stop;
    let wanted = |pid: Option<ContainerPid>| {
        arguments.pid.is_empty() || pid.is_some_and(|pid| arguments.pid.contains(&pid))
    };
    let mut rows: Vec<SignalsRow> = Vec::new();
    for member in view.processes.iter().filter(|member| wanted(member.pid)) {
        let signals = if asked.is_empty() { Signal::all().collect() } else { asked.clone() };
        for signal in signals {
            let row = SignalsRow {
                context: Rc::clone(&view.context),
                process: member.clone(),
                signal,
                prediction: view.predict(member, signal, Recipient::Process),
            };
            if !asked.is_empty() || context.ui.json || usual(signal) || row.is_of_note() {
                rows.push(row);
            }
        }
    }
    rows.sort_by_key(|row| (row.process.pid, row.process.facts.id.pid, row.signal.number()));
    context.print(&text(context, &selection, &rows))?;
    Ok(ExitStatus::Done)
}

fn text(context: &Context, selection: &Selection<SignalsRow>, rows: &[SignalsRow]) -> String {
    let ui = &context.ui;
    if ui.json {
        return rows
            .iter()
            .map(|row| json::line(&Json::Object(object(SIGNALS_COLUMNS, row))))
            .collect();
    }
    let lines: Vec<TableLine<'_, SignalsRow>> = rows.iter().map(TableLine::flat).collect();
    draw(selection, &lines, &Style::from(ui), &TableOptions::with_header())
}

/// A mask as the kernel prints it, with or without what stands before it there.
fn decode(context: &Context, given: &str) -> Result<ExitStatus, Error> {
    let digits = given.rsplit([':', '\t', ' ']).next().unwrap_or(given);
    let digits = digits.strip_prefix("0x").or(digits.strip_prefix("0X")).unwrap_or(digits);
    let set = SignalSet::from_hex(digits.as_bytes()).ok_or_else(|| {
        Error::new(ExitStatus::Usage, format!("`{given}` is no mask"))
            .cause("a mask is at most 16 hexadecimal digits")
            .hint("they stand in `/proc/PID/status`: SigBlk, SigIgn, SigCgt, SigPnd, ShdPnd")
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
