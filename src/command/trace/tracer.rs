//! A trace that is running: reads the kernel's records, and prints them. Nothing is sent.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::signalfd::SignalFd;

use super::lines::{TraceLines, WallClock};
use crate::analysis::delivery::InitSender;
use crate::analysis::fatal_signals::FatalSignals;
use crate::analysis::trace_outcome::{SignalOrigin, SignalOutcome, TargetFacts, is_routine};
use crate::analysis::trace_verdict::{SignalFacts, VerdictLog};
use crate::cli::context::Context;
use crate::error::{Error, ExitStatus, os_error};
use crate::model::signal::{Signal, SignalSet};
use crate::model::trace::{KernelEvent, TraceRecord};
use crate::output::style::Style;
use crate::output::terminal::is_broken_pipe;
use crate::output::trace_report::{TraceEvent, TraceReporter};
use crate::proc::{SignalTrace, monotonic_now};
use crate::resolve::traced_processes::{
    EndingProcess, STATUS_WAIT, TracedProcess, TracedProcesses,
};
use crate::sys::pidfd::Ending;

/// Longest time between two readings: it bounds the delay of a line, and the time in which a process may
/// end before it is looked up.
const INTERVAL: Duration = Duration::from_millis(20);
/// Longest time in which the records that wait are printed at the end.
const MAX_REST: Duration = Duration::from_secs(2);

/// Records between two times that the kernel's buffers are emptied while lines are made.
const DRAIN_EVERY: usize = 1024;

/// A trace that is running.
pub(super) struct Tracer<'a> {
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
    lines: TraceLines,
    clock: WallClock,
    verdicts: VerdictLog,
    fatal: FatalSignals,
    /// Processes whose exit is not printed yet, and since when.
    ending: Vec<(u64, EndingProcess)>,
}

impl<'a> Tracer<'a> {
    /// Creates a tracer of these signals, or of all but routine ones, that ends after `limit` of them.
    pub(super) fn new(
        context: &'a Context,
        trace: SignalTrace,
        processes: TracedProcesses<'a>,
        named: Option<SignalSet>,
        limit: Option<u64>,
    ) -> Self {
        let host = &processes.host;
        let reporter = TraceReporter {
            host: host.name.clone(),
            json: context.ui.json,
            style: Style::from(&context.ui),
            names_containers: processes.containers.is_several(),
        };
        Self {
            context,
            trace,
            processes,
            reporter,
            named,
            sent: 0,
            limit,
            routine: BTreeMap::new(),
            oom_victims: HashSet::new(),
            lost: 0,
            lines: TraceLines::default(),
            clock: WallClock::new(),
            verdicts: VerdictLog::default(),
            fatal: FatalSignals::default(),
            ending: Vec::new(),
        }
    }

    /// Traces until Ctrl-C, a time or a number of signals.
    pub(super) fn run(
        mut self,
        interrupt: &SignalFd,
        limit: Option<Duration>,
    ) -> Result<ExitStatus, Error> {
        let began = Instant::now();
        let end = limit.and_then(|limit| began.checked_add(limit));
        let give_up = end.and_then(|end| end.checked_add(MAX_REST));
        let mut text = self.reporter.header();
        loop {
            if !self.print(&text)? {
                return Ok(ExitStatus::Done);
            }
            let interval = if self.trace.is_behind() { Duration::ZERO } else { INTERVAL };
            let interrupted = self.trace.wait(interrupt.as_fd(), interval).map_err(|error| {
                Error::new(ExitStatus::Failed, "cannot wait for signals").cause(os_error(error))
            })?;
            if interrupted || end.is_some_and(|end| Instant::now() >= end) {
                text = self.read_rest();
                break;
            }
            text = self.read(None, give_up);
            if self.is_full() {
                break;
            }
        }
        self.end_exits(true);
        text.push_str(&self.lines.take_before(None));
        self.print_end(text)
    }

    /// Prints the last lines, the counts, and the number of records that were lost.
    fn print_end(&self, mut text: String) -> Result<ExitStatus, Error> {
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

    /// Prints a text; returns false if the reader is gone.
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

    /// Reads the records up to now that can be read at once, and returns their lines. The rest is
    /// lost.
    fn read_rest(&mut self) -> String {
        let (give_up, now) = (Instant::now() + MAX_REST, monotonic_now());
        let mut text = self.read(Some(now), Some(give_up));
        while self.trace.count_before(now) > 0 && Instant::now() < give_up && !self.is_full() {
            text.push_str(&self.read(Some(now), Some(give_up)));
        }
        if !self.is_full() {
            self.lost += self.trace.count_before(now);
        }
        text
    }

    /// Reads the records up to a time, or to a few milliseconds ago, and returns their lines. Records that are not
    /// printed by `give_up` are lost.
    fn read(&mut self, until: Option<u64>, give_up: Option<Instant>) -> String {
        self.processes.read_exits();
        self.processes.refresh();
        self.clock.refresh();
        let records = self.trace.take(until);
        let count = records.len();
        for (index, record) in records.into_iter().enumerate() {
            if index % DRAIN_EVERY == 0 {
                if give_up.is_some_and(|time| Instant::now() >= time) {
                    self.lost += (count - index) as u64;
                    break;
                }
                self.trace.drain();
                self.processes.read_exits();
            }
            let time = record.time;
            let line = self.line(record);
            line.into_iter().for_each(|line| self.lines.add(time, line));
            if self.is_full() {
                break;
            }
        }
        let until = self.end_exits(false);
        self.lines.take_before(until)
    }

    /// Returns the line of a record, if it is to be printed.
    fn line(&mut self, record: TraceRecord) -> Option<String> {
        let (time, moment) = (record.time, self.clock.time(record.time));
        match record.event {
            KernelEvent::Lost { records } => {
                self.lost += records;
                self.processes.forget_gone();
                return Some(self.reporter.lost(self.clock.time(time), records));
            }
            KernelEvent::Forked { pid, tid, parent } => self.processes.begin(pid, tid, parent),
            KernelEvent::Renamed { tid, comm, by_exec } => {
                self.processes.rename(tid, comm, by_exec);
            }
            KernelEvent::Exited { is_last } => {
                self.postpone(record.pid, time);
                let ending = self.processes.end(record.pid, record.tid, is_last);
                let ending = ending.filter(|ending| self.is_shown(&ending.process));
                self.ending.extend(ending.map(|ending| (time, ending)));
            }
            KernelEvent::Moved { tid, path } => self.processes.move_to(tid, &path),
            KernelEvent::OomVictim { tid, comm, anon_rss } => {
                let mut target = self.processes.of_thread(tid)?;
                self.oom_victims.insert(target.host_pid);
                target.comm = comm.unwrap_or(target.comm);
                return self
                    .is_shown(&target)
                    .then(|| self.reporter.line(moment, &target, &TraceEvent::Oom(anon_rss)));
            }
            KernelEvent::Delivered { signal, code, handler } => {
                return self.delivered((signal, code, handler), &record);
            }
            KernelEvent::Generated { signal, code, tid, result, .. } => {
                let Some(target) = self.target(signal, code, tid, record.pid) else {
                    self.count_routine(signal, code, tid, record.pid);
                    return None;
                };
                let event = self.sent(&target, &record, (signal, code, result), tid);
                self.sent += 1;
                return Some(self.reporter.line(moment, &target, &event));
            }
        }
        None
    }

    /// Returns the line of a signal that was taken, if it is to be printed.
    fn delivered(
        &mut self,
        (signal, code, handler): (Signal, i32, u64),
        record: &TraceRecord,
    ) -> Option<String> {
        let (signal, code) = match signal {
            Signal::KILL => self.fatal.take(record.pid)?,
            _ => (signal, code),
        };
        let target = self.target(signal, code, record.tid, record.pid)?;
        let outcome = SignalOutcome::of_delivery(signal, handler, facts(&target, None));
        if outcome != SignalOutcome::Terminates {
            self.fatal.survived(record.pid, signal);
        }
        let contradicted = self.verdicts.outcome(target.host_pid, signal, outcome);
        let event = TraceEvent::Deliver { signal, code, outcome, contradicted };
        Some(self.reporter.line(self.clock.time(record.time), &target, &event))
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
        self.fatal.sent(target.host_pid, (signal, code), outcome, around.last);
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
        let is_wanted = self.is_wanted(signal) && self.is_shown(&target);
        (is_wanted && !self.is_routine(signal, code, &target, running)).then_some(target)
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

    /// Whether a signal is one of those that were named, if any were: the kernel filters a few only.
    fn is_wanted(&self, signal: Signal) -> bool {
        self.named.is_none_or(|named| named.contains(signal))
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

    /// Adds the lines of the exits whose status is known by now, or with `all` of all of them. Returns the time
    /// of the first of the others.
    fn end_exits(&mut self, all: bool) -> Option<u64> {
        let now = monotonic_now();
        let mut first = None;
        for (time, ending) in std::mem::take(&mut self.ending) {
            if !ending.is_last && ending.has_threads() {
                // The main thread ended, and others keep running.
                self.ending.extend((!all).then_some((time, ending)));
                continue;
            }
            let known = self.processes.ending(&ending, time);
            let is_late = now.saturating_sub(time) > STATUS_WAIT;
            if known.is_some() || all || is_late {
                let contradicted =
                    self.verdicts.exit(ending.process.host_pid, known.and_then(Ending::signal));
                let event = TraceEvent::Exit(known, contradicted);
                let line = self.reporter.line(self.clock.time(time), &ending.process, &event);
                self.lines.add(time, line);
            } else {
                first = first.into_iter().chain([time]).min();
                self.ending.push((time, ending));
            }
        }
        first
    }

    /// Notes that a thread of a process exits whose main thread has ended: the process may end now.
    fn postpone(&mut self, pid: i32, time: u64) {
        let mut of_process =
            self.ending.iter_mut().filter(|(_, ending)| ending.process.host_pid == pid);
        if let Some((ended, _)) = of_process.next() {
            *ended = time;
        }
    }
}

fn facts(process: &TracedProcess, known: Option<SignalFacts>) -> TargetFacts {
    TargetFacts {
        is_init: process.is_init,
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
    let is_inside = sender.is_some_and(|sender| sender.namespaces >= target.namespaces);
    is_init.then_some(match is_inside {
        true => InitSender::OwnNamespace,
        false => InitSender::AncestorNamespace,
    })
}
