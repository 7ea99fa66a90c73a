//! `trace`: prints each signal as it is sent and delivered, and exits and OOM kills, as the kernel
//! records them. Nothing is sent, and nothing is left behind.

mod lines;
mod tracer;

use std::time::Duration;

use clap::{ArgMatches, Args};
use nix::sys::signal::{SigSet, Signal as UnixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use self::tracer::Tracer;
use super::any_container::{AnyContainer, resolve_any};
use super::{Command, arguments, command, may_act};
use crate::analysis::trace_filter::trace_filters;
use crate::cli::args;
use crate::cli::context::Context;
use crate::completion::source::CompletionSource;
use crate::error::{Error, ExitStatus, os_error};
use crate::model::signal::{Signal, SignalNumber, SignalSet};
use crate::output::escape::safe_str;
use crate::proc::{SignalTrace, SnapshotOptions};
use crate::resolve::Resolver;
use crate::resolve::traced_containers::{ChosenContainer, TraceChoice, TracedContainers};
use crate::resolve::traced_processes::TracedProcesses;
use crate::sys::proc_events::ExitEvents;

/// Print signals as they are sent and delivered, with their senders
///
/// For each signal to a process of the containers: the sender, the target, and what the kernel made of it
/// (queued, ignored, discarded because an init has no handler, already pending), then its delivery (to a
/// handler, or what its default action did), and exits and OOM kills. Processes that start later are
/// included, and so is a container that is started again; it need not be running. A later container with the
/// label is included as soon as its engine has recorded it. Routine signals are only counted unless they are
/// named: CHLD of a child, timers, the URG that a Go program sends itself. Press Ctrl-C to stop. The command
/// needs root, and leaves nothing behind.
#[derive(Args)]
#[command(
    override_usage = "cinspect trace [OPTIONS] <CTR>... [SIG]...\n       cinspect trace [OPTIONS] --label <KEY[=VALUE]> [SIG]...\n       cinspect trace [OPTIONS] --all [SIG]..."
)]
pub struct TraceArgs {
    /// The containers, then the signals
    #[arg(value_name = "CTR|SIG", add = CompletionSource::ContainersAndSignals)]
    words: Vec<String>,
    /// Every process of the host
    #[arg(short, long, conflicts_with = "label")]
    all: bool,
    /// Every container with this label, also those that start later; `KEY` alone matches any value
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = args::label, add = CompletionSource::Free)]
    label: Vec<String>,
    /// End after this time
    #[arg(long = "for", value_name = "DUR", value_parser = args::duration, add = CompletionSource::Free)]
    duration: Option<Duration>,
    /// End after this many signals
    #[arg(long, value_name = "N", add = CompletionSource::Free)]
    count: Option<u64>,
}

pub const COMMAND: Command = command::<TraceArgs>(
    "trace",
    &[],
    &[
        ("cinspect trace web", "signals, and their senders"),
        ("cinspect trace web TERM KILL", "only these signals"),
        ("cinspect trace --all KILL --for 1h", "every KILL on this host, and its sender"),
        ("cinspect trace --label app=shop", "containers by label, later ones too"),
        ("cinspect --json trace web db", "for a log"),
    ],
    run,
)
.on_containers(&[])
.files(&[
    (
        "events/signal, events/sched, events/oom of tracefs",
        "The layouts of the kernel's tracepoints, which are read with perf_event_open(2).",
    ),
    ("/proc/PID/status, /proc/PID/cgroup", "Names, users and containers of senders and targets."),
]);

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: TraceArgs = arguments(matches)?;
    let (references, signals) = split(&arguments)?;
    let host = context.host()?;
    may_act(&host, "trace signals", ExitStatus::NotPermitted)?;
    let interrupt = block_interrupts()?;
    // Opened first: a process that begins while the containers are looked up is in the trace, with its end.
    let exits = ExitEvents::subscribe().ok();
    let trace = SignalTrace::open(&host, trace_filters(signals)).map_err(cannot_open)?;
    let (choice, members) = choose(context, &Resolver::new(&host), &references, &arguments)?;
    let mut processes = TracedProcesses::new(&host, choice, exits);
    for pid in members {
        let _ = processes.process(pid);
    }
    processes.survey();
    let subject = subject(&processes.containers, &arguments);
    let tracer = Tracer::new(context, trace, processes, signals, arguments.count);
    context.ui.note(&format!("tracing {}; press Ctrl-C to stop", safe_str(&subject)));
    tracer.run(&interrupt, arguments.duration)
}

/// Splits the words into references and signals, which come last.
fn split(arguments: &TraceArgs) -> Result<(Vec<&str>, Option<SignalSet>), Error> {
    let is_signal =
        |word: &String| word.parse::<u32>().is_err() && SignalNumber::parse(word).is_ok();
    let takes_references = !arguments.all && arguments.label.is_empty();
    let first = match takes_references {
        false => 0,
        true => arguments.words.iter().position(is_signal).unwrap_or(arguments.words.len()),
    };
    let (references, signals) = arguments.words.split_at(first);
    let signals: Vec<Signal> =
        signals.iter().map(|word| args::signal(word)).collect::<Result<_, _>>()?;
    if references.is_empty() && takes_references {
        return Err(Error::new(ExitStatus::Usage, "missing argument: CTR")
            .hint("`cinspect ls` lists the running containers; `cinspect trace --all` traces the whole host"));
    }
    let set = (!signals.is_empty()).then(|| signals.into_iter().collect());
    Ok((references.iter().map(String::as_str).collect(), set))
}

/// Returns the choice of the command line, and processes of it that are known.
fn choose<'a>(
    context: &Context,
    resolver: &Resolver<'a>,
    references: &[&str],
    arguments: &TraceArgs,
) -> Result<(TraceChoice<'a>, Vec<i32>), Error> {
    if arguments.all {
        return Ok((TraceChoice::Host, Vec::new()));
    }
    if !arguments.label.is_empty() {
        return Ok((TraceChoice::Labels(arguments.label.clone()), Vec::new()));
    }
    let (mut containers, mut members) = (Vec::new(), Vec::new());
    for word in references {
        let found = resolve_any(context, resolver.host, resolver, word)?;
        let AnyContainer { container, running, cgroup, .. } = found;
        if let Some(running) = &running {
            let snapshot = running.snapshot(SnapshotOptions::BARE)?;
            members.extend(snapshot.processes.iter().map(|process| process.facts.id.pid.get()));
        }
        containers.push(ChosenContainer { container, cgroup, running });
    }
    Ok((TraceChoice::Containers(containers), members))
}

/// Returns the subject of the trace in words.
fn subject(containers: &TracedContainers<'_>, arguments: &TraceArgs) -> String {
    if arguments.all {
        return "the whole host".into();
    }
    let names = containers.chosen();
    if arguments.label.is_empty() {
        return names.join(", ");
    }
    let running = match names.len() {
        0 => "none is running".into(),
        _ => format!("now {}", names.join(", ")),
    };
    format!("containers with the label {} ({running})", arguments.label.join(" and "))
}

/// Blocks the signals that end a trace, and returns a descriptor that reads them.
fn block_interrupts() -> Result<SignalFd, Error> {
    let set = SigSet::from_iter([UnixSignal::SIGINT, UnixSignal::SIGTERM, UnixSignal::SIGHUP]);
    set.thread_block().and_then(|()| SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)).map_err(
        |error| Error::new(ExitStatus::Failed, "cannot wait for Ctrl-C").cause(os_error(error)),
    )
}

fn cannot_open(error: std::io::Error) -> Error {
    use std::io::ErrorKind::{OutOfMemory, PermissionDenied};
    let (status, hint) = match error.kind() {
        PermissionDenied => (
            ExitStatus::NotPermitted,
            "run as root: it requires CAP_PERFMON, and CAP_SYS_ADMIN where tracefs is not mounted",
        ),
        OutOfMemory => (
            ExitStatus::Failed,
            "run it with CAP_IPC_LOCK, raise `ulimit -l` or kernel.perf_event_mlock_kb, or end other traces of this user",
        ),
        _ => (ExitStatus::Failed, "it requires a kernel with tracefs and perf_event_open(2)"),
    };
    Error::new(status, "cannot trace signals").cause(os_error(error)).hint(hint)
}
