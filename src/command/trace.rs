//! `trace`: prints each signal as it is sent and delivered, and exits and OOM kills, as the kernel
//! records them. Nothing is sent, and nothing is left behind.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use clap::{ArgMatches, Args};
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::{SigSet, Signal as UnixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{Command, arguments, command, may_act, resolve};
use crate::analysis::delivery::InitSender;
use crate::analysis::trace_outcome::{SignalOrigin, SignalOutcome, TargetFacts, is_routine};
use crate::analysis::trace_verdict::{SignalFacts, VerdictLog};
use crate::cli::args;
use crate::cli::context::Context;
use crate::completion::source::CompletionSource;
use crate::error::{Error, ExitStatus, os_error};
use crate::model::signal::{Signal, SignalNumber, SignalSet};
use crate::model::trace::{KernelEvent, TraceRecord};
use crate::output::escape::safe_str;
use crate::output::style::Style;
use crate::output::terminal::is_broken_pipe;
use crate::output::trace_report::{TraceEvent, TraceReporter};
use crate::proc::{SignalTrace, SnapshotOptions, monotonic_now};
use crate::resolve::traced_processes::{EndingProcess, TracedProcess, TracedProcesses};
use crate::resolve::{Access, ResolvedContainer, Resolver};
use crate::sys::pidfd::Ending;

/// Longest time between two readings: it bounds the delay of a line, and the time in which a process may
/// end before it is looked up.
const INTERVAL: Duration = Duration::from_millis(20);
/// Longest time in which the records that wait are printed at the end.
const MAX_REST: Duration = Duration::from_secs(2);

/// Records between two times that the kernel's buffers are emptied while lines are made.
const DRAIN_EVERY: usize = 1024;
/// Time after which an exit is printed without its status.
const STATUS_WAIT: u64 = 500_000_000;

/// Print signals as they are sent and delivered, with their senders
///
/// For each signal to a process of the containers: the sender, the target, and what the kernel made of it
/// (queued, ignored, discarded because an init has no handler, already pending), then its delivery (to a
/// handler, or what its default action did), and exits and OOM kills. Processes that start later are
/// included. Routine signals are only counted unless they are named: CHLD of a child, timers, the URG that
/// a Go program sends itself. Ctrl-C ends it. It needs root, and leaves nothing behind.
#[derive(Args)]
#[command(
    override_usage = "cinspect trace [OPTIONS] <CTR>... [SIG]...\n       cinspect trace [OPTIONS] --all [SIG]..."
)]
pub struct TraceArgs {
    /// The containers, then the signals
    #[arg(value_name = "CTR|SIG", add = CompletionSource::Containers)]
    words: Vec<String>,
    /// Every process of the host
    #[arg(short, long)]
    all: bool,
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
        ("cinspect trace web", "signals as they are sent, and by whom"),
        ("cinspect trace web TERM KILL", "only these signals"),
        ("cinspect trace --all KILL --for 1h", "who kills what on this host"),
        ("cinspect --json trace web db", "for a log"),
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
    // Opened first: a process that begins while the containers are looked up is in the trace.
    let trace = SignalTrace::open(signals.unwrap_or(SignalSet::ALL)).map_err(cannot_open)?;
    let (chosen, members) = find_containers(context, &Resolver::new(&host), &references)?;
    let names: Vec<String> = chosen.iter().map(|found| found.container.qualified()).collect();
    let mut processes = TracedProcesses::new(&host, chosen);
    for pid in members {
        let _ = processes.process(pid);
    }
    processes.survey();
    let reporter = TraceReporter {
        host: host.name.clone(),
        json: context.ui.json,
        style: Style::from(&context.ui),
        names_containers: processes.names_containers(),
    };
    let tracer = Tracer {
        context,
        trace,
        processes,
        reporter,
        named: signals,
        sent: 0,
        limit: arguments.count,
        routine: BTreeMap::new(),
        oom_victims: HashSet::new(),
        lost: 0,
        verdicts: VerdictLog::default(),
        ending: Vec::new(),
    };
    let subject = if names.is_empty() { "the whole host".into() } else { names.join(", ") };
    context.ui.note(&format!("tracing {}; Ctrl-C ends it", safe_str(&subject)));
    tracer.run(&interrupt, arguments.duration)
}

/// Splits the words into references and signals, which come last.
fn split(arguments: &TraceArgs) -> Result<(Vec<&str>, Option<SignalSet>), Error> {
    let is_signal =
        |word: &String| word.parse::<u32>().is_err() && SignalNumber::parse(word).is_ok();
    let first = match arguments.all {
        true => 0,
        false => arguments.words.iter().position(is_signal).unwrap_or(arguments.words.len()),
    };
    let (references, signals) = arguments.words.split_at(first);
    let signals: Vec<Signal> =
        signals.iter().map(|word| args::signal(word)).collect::<Result<_, _>>()?;
    if references.is_empty() && !arguments.all {
        return Err(Error::new(ExitStatus::Usage, "missing argument: CTR")
            .hint("`cinspect ls` lists the running containers; `cinspect trace --all` traces the whole host"));
    }
    let set = (!signals.is_empty()).then(|| signals.into_iter().collect());
    Ok((references.iter().map(String::as_str).collect(), set))
}

/// Returns the containers, and their processes.
fn find_containers<'a>(
    context: &Context,
    resolver: &Resolver<'a>,
    references: &[&str],
) -> Result<(Vec<ResolvedContainer<'a>>, Vec<i32>), Error> {
    let (mut containers, mut members) = (Vec::new(), Vec::new());
    for word in references {
        let found = resolve(context, resolver, word, Access::Read)?;
        let snapshot = found.snapshot(SnapshotOptions::BARE)?;
        members.extend(snapshot.processes.iter().map(|process| process.facts.id.pid.get()));
        containers.push(found);
    }
    Ok((containers, members))
}

/// Blocks the signals that end a trace, and returns a descriptor that reads them.
fn block_interrupts() -> Result<SignalFd, Error> {
    let mut set = SigSet::empty();
    for signal in [UnixSignal::SIGINT, UnixSignal::SIGTERM, UnixSignal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block().and_then(|()| SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)).map_err(
        |error| Error::new(ExitStatus::Failed, "cannot wait for Ctrl-C").cause(os_error(error)),
    )
}

fn cannot_open(error: std::io::Error) -> Error {
    let is_denied = error.kind() == std::io::ErrorKind::PermissionDenied;
    let status = if is_denied { ExitStatus::NotPermitted } else { ExitStatus::Failed };
    let hint = match is_denied {
        true => {
            "run as root: tracing takes CAP_SYS_ADMIN and CAP_PERFMON, in the host's user namespace"
        }
        false => "it takes a kernel with tracefs and perf_event_open(2)",
    };
    Error::new(status, "cannot trace signals").cause(os_error(error)).hint(hint)
}

/// A trace that is running.
struct Tracer<'a> {
    context: &'a Context,
    trace: SignalTrace,
    processes: TracedProcesses<'a>,
    reporter: TraceReporter,
    /// Signals that were named: they are printed even if they are routine.
    named: Option<SignalSet>,
    sent: u64,
    limit: Option<u64>,
    routine: BTreeMap<Signal, u64>,
    /// Processes that the OOM killer chose and that did not get KILL yet.
    oom_victims: HashSet<i32>,
    lost: u64,
    verdicts: VerdictLog,
    /// Processes whose exit is not printed yet, and since when.
    ending: Vec<(u64, EndingProcess)>,
}

impl Tracer<'_> {
    fn run(mut self, interrupt: &SignalFd, limit: Option<Duration>) -> Result<ExitStatus, Error> {
        let began = Instant::now();
        let is_over = |began: Instant| limit.is_some_and(|limit| began.elapsed() >= limit);
        let mut text = self.reporter.header();
        loop {
            if !self.print(&text)? {
                return Ok(ExitStatus::Done);
            }
            let interval = if self.trace.is_behind() { Duration::ZERO } else { INTERVAL };
            let interrupted = self.trace.wait(interrupt.as_fd(), interval).map_err(|error| {
                Error::new(ExitStatus::Failed, "cannot wait for signals").cause(os_error(error))
            })?;
            if interrupted || is_over(began) {
                text = self.read_rest();
                break;
            }
            text = self.read(None);
            if self.is_full() {
                break;
            }
        }
        text.push_str(&self.exits(true));
        let summary = self.reporter.summary(&self.routine, self.lost, self.verdicts.contradicted);
        match self.context.ui.json {
            true => text.extend(summary),
            false => summary.iter().for_each(|note| self.context.ui.note(note)),
        }
        self.print(&text)?;
        if self.lost > 0 {
            let lost = self.lost;
            self.context
                .ui
                .warn(&format!("{lost} records were lost: more came than could be printed"));
        }
        Ok(ExitStatus::Done)
    }

    /// Prints; false if nobody reads any more.
    fn print(&self, text: &str) -> Result<bool, Error> {
        match if text.is_empty() { Ok(()) } else { self.context.ui.out(text) } {
            Ok(()) => Ok(true),
            Err(error) if is_broken_pipe(&error) => Ok(false),
            Err(error) => {
                Err(Error::new(ExitStatus::Failed, "cannot write to stdout").cause(os_error(error)))
            }
        }
    }

    /// Returns whether as many signals were printed as were asked for.
    fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.sent >= limit)
    }

    /// Reads what happened up to now, as far as it can be read in a moment, and returns its lines. The
    /// rest is lost.
    fn read_rest(&mut self) -> String {
        let (began, now) = (Instant::now(), monotonic_now());
        let mut text = self.read(Some(now));
        while self.trace.count_before(now) > 0 && began.elapsed() < MAX_REST && !self.is_full() {
            text.push_str(&self.read(Some(now)));
        }
        if !self.is_full() {
            self.lost += self.trace.count_before(now);
        }
        text
    }

    /// Reads what happened, up to a time or a few milliseconds ago, and returns its lines.
    fn read(&mut self, until: Option<u64>) -> String {
        self.processes.read_exits();
        let mut text = String::new();
        for (index, record) in self.trace.take(until).into_iter().enumerate() {
            if index % DRAIN_EVERY == 0 {
                self.trace.drain();
            }
            text.extend(self.line(record));
            if self.is_full() {
                break;
            }
        }
        text.push_str(&self.exits(false));
        text
    }

    /// Returns the line of a record, if it is to be printed.
    fn line(&mut self, record: TraceRecord) -> Option<String> {
        let time = record.time;
        match record.event {
            KernelEvent::Lost { records } => {
                self.lost += records;
                self.processes.forget_gone();
            }
            KernelEvent::Forked { pid, tid, parent } => self.processes.begin(pid, tid, parent),
            KernelEvent::Renamed { tid, comm, by_exec } => {
                self.processes.rename(tid, comm, by_exec);
            }
            KernelEvent::Exited { is_last } => {
                let ending = self.processes.end(record.pid, record.tid, is_last);
                let ending = ending.filter(|ending| self.is_shown(&ending.process));
                self.ending.extend(ending.map(|ending| (time, ending)));
            }
            KernelEvent::Moved { tid, path } => self.processes.move_to(tid, &path),
            KernelEvent::OomVictim { tid, comm, anon_rss } => {
                let mut target = self.processes.of_thread(tid)?;
                self.oom_victims.insert(target.host_pid);
                target.comm = comm.unwrap_or(target.comm);
                return self.is_shown(&target).then(|| {
                    self.reporter.line(moment(time), &target, &TraceEvent::Oom(anon_rss))
                });
            }
            KernelEvent::Delivered { signal, code, handler } => {
                let target = self.target(signal, code, record.tid, record.pid)?;
                let known = facts(&target, None);
                let outcome = SignalOutcome::of_delivery(signal, handler, known);
                let contradicted = self.verdicts.outcome(target.host_pid, signal, outcome);
                let event = TraceEvent::Deliver { signal, code, outcome, contradicted };
                return Some(self.reporter.line(moment(time), &target, &event));
            }
            KernelEvent::Generated { signal, code, tid, result, .. } => {
                let Some(target) = self.target(signal, code, tid, record.pid) else {
                    self.count_routine(signal, code, tid, record.pid);
                    return None;
                };
                let event = self.sent(&target, &record, (signal, code, result), tid);
                self.sent += 1;
                return Some(self.reporter.line(moment(time), &target, &event));
            }
        }
        None
    }

    /// Returns the event of a signal that was sent, with its sender and the verdict on it.
    fn sent(
        &mut self,
        target: &TracedProcess,
        record: &TraceRecord,
        (signal, code, result): (Signal, i32, i32),
        tid: i32,
    ) -> TraceEvent {
        let origin = self.origin(signal, code, target, record.pid);
        let sender = origin.has_sender().then(|| self.processes.process(record.pid)).flatten();
        let around = self.processes.facts_around(target.host_pid, record.time);
        let known = facts(target, around.last);
        let outcome = SignalOutcome::of_sending(signal, result, known);
        // (An init is safe from KILL of its own namespace only.)
        let is_open =
            known.is_init && sender.is_none() && matches!(signal, Signal::KILL | Signal::STOP);
        let is_for_all = tid == target.host_pid && matches!(origin, SignalOrigin::Process(_));
        let steady = around.steady.filter(|_| is_for_all && !is_open);
        let init = init_sender(target, sender.as_ref(), known.is_init);
        let verdict = steady.and_then(|steady| steady.verdict(signal, init));
        self.verdicts.note(target.host_pid, signal, verdict);
        let contradicted = self.verdicts.outcome(target.host_pid, signal, outcome);
        let gone = || origin.has_sender().then(|| TracedProcess::gone(record.pid));
        let sender = sender.or_else(gone);
        TraceEvent::Signal { signal, code, origin, sender, outcome, verdict, contradicted }
    }

    /// Returns the process that a signal is for, if it is to be printed.
    fn target(
        &mut self,
        signal: Signal,
        code: i32,
        tid: i32,
        running: i32,
    ) -> Option<TracedProcess> {
        let target = self.processes.of_thread(tid)?;
        (self.is_shown(&target) && !self.is_routine(signal, code, &target, running))
            .then_some(target)
    }

    /// Returns the origin of a signal; of a KILL by the kernel with its reason, where that was seen.
    fn origin(
        &mut self,
        signal: Signal,
        code: i32,
        target: &TracedProcess,
        running: i32,
    ) -> SignalOrigin {
        let origin = SignalOrigin::of(signal, code);
        if signal != Signal::KILL || origin != SignalOrigin::Kernel {
            return origin;
        }
        if self.oom_victims.remove(&target.host_pid) {
            return SignalOrigin::OomKiller;
        }
        // (The init of a PID namespace kills all others when it exits, pid_namespaces(7).)
        let is_init = |process: TracedProcess| {
            process.pid == Some(1) && process.container == target.container
        };
        match self.processes.process(running).is_some_and(is_init) {
            true => SignalOrigin::InitExit,
            false => origin,
        }
    }

    fn is_shown(&self, process: &TracedProcess) -> bool {
        self.processes.is_traced(process)
    }

    fn is_routine(&self, signal: Signal, code: i32, target: &TracedProcess, running: i32) -> bool {
        let is_named = self.named.is_some_and(|named| named.contains(signal));
        !is_named && is_routine(signal, code, running == target.host_pid)
    }

    /// Counts a signal that was not printed, if it is for a traced process.
    fn count_routine(&mut self, signal: Signal, code: i32, tid: i32, running: i32) {
        let Some(target) = self.processes.of_thread(tid) else { return };
        if self.is_shown(&target) && self.is_routine(signal, code, &target, running) {
            *self.routine.entry(signal).or_default() += 1;
        }
    }

    /// Returns the lines of the exits whose status is known by now, or with `all` of all of them.
    fn exits(&mut self, all: bool) -> String {
        let now = monotonic_now();
        let mut text = String::new();
        for (time, ending) in std::mem::take(&mut self.ending) {
            let known = self.processes.ending(&ending);
            let is_late = now.saturating_sub(time) > STATUS_WAIT;
            if !ending.is_last && ending.has_threads() {
                // The main thread ended, and others run on.
                self.ending.extend((!all).then_some((time, ending)));
            } else if known.is_some() || all || is_late {
                let contradicted =
                    self.verdicts.exit(ending.process.host_pid, known.and_then(Ending::signal));
                let event = TraceEvent::Exit(known, contradicted);
                text.push_str(&self.reporter.line(moment(time), &ending.process, &event));
            } else {
                self.ending.push((time, ending));
            }
        }
        text
    }
}

fn facts(process: &TracedProcess, known: Option<SignalFacts>) -> TargetFacts {
    TargetFacts {
        is_init: process.container.is_some() && process.pid == Some(1),
        ignored: known.map(|facts| facts.ignored),
        caught: known.map(|facts| facts.caught).unwrap_or_default(),
    }
}

/// Returns where a signal to an init comes from. (A sender that is not known is taken for one of the host.)
fn init_sender(
    target: &TracedProcess,
    sender: Option<&TracedProcess>,
    is_init: bool,
) -> Option<InitSender> {
    let is_inside = sender.is_some_and(|sender| sender.container == target.container);
    is_init.then_some(match is_inside {
        true => InitSender::OwnNamespace,
        false => InitSender::AncestorNamespace,
    })
}

/// Returns the time of day of a moment of CLOCK_MONOTONIC.
fn moment(time: u64) -> Timestamp {
    let age = SignedDuration::from_nanos_i128(i128::from(monotonic_now()) - i128::from(time));
    Timestamp::now() - age
}
