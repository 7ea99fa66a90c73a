//! Predicts what the kernel does with a signal: one pure function from facts to a verdict. It makes
//! the checks of `send_signal_locked`, `complete_signal` and `get_signal` (kernel/signal.c), in their order.
//! `programs` adds the reaction of the program.

use std::collections::{BTreeSet, HashMap};

use crate::model::cgroup::Freezer;
use crate::model::pid::HostPid;
use crate::model::process::{Fact, Process};
use crate::model::signal::{DefaultAction, Signal, SignalSet};
use crate::model::signal_waiters::{ThreadWaits, Waiting, Waits};
use crate::model::stat::ProcessState;
use crate::model::verdict::Verdict;

/// The facts about one process that decide about its signals.
#[derive(Clone, Debug)]
pub struct SignalState<'a> {
    /// The state of its main thread.
    pub state: ProcessState,
    /// Whether a thread of it is alive. A process whose main thread has exited before the others shows
    /// the state of a zombie, too.
    pub is_alive: bool,
    /// The ignored signals.
    pub ignored: SignalSet,
    /// The signals with a handler.
    pub caught: SignalSet,
    /// The signals that its main thread blocks; `waits` has them too, if it is known.
    pub blocked: SignalSet,
    /// The signals that are pending for the process or its main thread.
    pub pending: SignalSet,
    /// The threads and signalfds that accept blocked signals.
    pub waits: &'a Fact<Waits>,
    /// Where the signal comes from, if the process is the init of a PID namespace.
    pub init: Option<InitSender>,
    /// PID of its tracer; 0 if it is not traced.
    pub tracer: i32,
    /// Whether its cgroup is frozen.
    pub frozen: Freezer,
    /// Whether its process group is orphaned; none if that was not read.
    pub orphaned: Option<bool>,
    /// Whether it has not executed the container's program yet.
    pub is_starting: bool,
    /// Whether its uninterruptible sleep is one that a fatal signal ends all the same.
    pub killable: bool,
}

/// The facts about a whole container that decide about the signals of its processes.
#[derive(Clone, Debug, Default)]
pub struct DeliveryContext {
    /// The processes that are frozen, or may be.
    pub frozen: HashMap<HostPid, Freezer>,
    /// The orphaned process groups; none if they were not read.
    pub orphaned: Option<BTreeSet<i32>>,
    /// The processes of an engine that have not executed the container's program yet.
    pub starting: BTreeSet<HostPid>,
}

/// The note about a process that has not executed the container's program yet.
pub const STARTING: &str = "it is being started: its program has not been executed yet";

/// Kernel functions in which the parent of a vfork(2) sleeps: uninterruptibly, except for a fatal signal
/// (`wait_for_vfork_done`, kernel/fork.c).
const KILLABLE: &[&[u8]] = &[b"kernel_clone", b"wait_for_vfork_done", b"_do_fork", b"do_fork"];

impl<'a> SignalState<'a> {
    /// Returns the facts of one process.
    pub fn of(process: &'a Process, context: &DeliveryContext) -> Self {
        let status = &process.status;
        Self {
            state: process.stat.state,
            is_alive: !process.stat.state.is_zombie() || process.stat.num_threads > 1,
            ignored: status.sig_ign,
            caught: status.sig_cgt,
            blocked: status.sig_blk,
            pending: status.shd_pnd.union(status.sig_pnd),
            waits: &process.waits,
            // The last PID is the one in its own namespace. If it is the only one, that is ours too.
            init: status.is_namespace_init().then_some(match status.nspid.len() {
                1 => InitSender::OwnNamespace,
                _ => InitSender::AncestorNamespace,
            }),
            tracer: status.tracer_pid,
            frozen: context.frozen.get(&process.id.pid).copied().unwrap_or(Freezer::Thawed),
            orphaned: context.orphaned.as_ref().map(|groups| groups.contains(&process.stat.pgrp)),
            is_starting: context.starting.contains(&process.id.pid),
            killable: waits_for_vfork(process),
        }
    }
}

/// Whether a process sleeps until the child of its vfork(2) executes a program or exits.
pub fn waits_for_vfork(process: &Process) -> bool {
    process.kernel_wait.as_deref().is_some_and(|function| KILLABLE.contains(&function))
}

/// The PID namespace of the sender of a signal to an init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitSender {
    /// One above the init's: KILL and STOP work.
    AncestorNamespace,
    /// The init's own: no signal works that it has no handler for.
    OwnNamespace,
}

/// The recipient of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// The process: any thread may take it.
    Process,
    /// The thread with this TID on the host.
    Thread(i32),
}

/// A verdict, with its explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// The effect.
    pub verdict: Verdict,
    /// The reason, if the verdict alone leaves that open.
    pub note: Option<String>,
    /// The effect once the process runs again, if the verdict is `delayed`.
    pub later: Option<Verdict>,
}

impl Prediction {
    /// Whether the program receives it, now or once it runs again.
    pub fn is_received(&self) -> bool {
        self.verdict.is_received() || self.later.is_some_and(Verdict::is_received)
    }

    fn new(verdict: Verdict) -> Self {
        Self { verdict, note: None, later: None }
    }

    /// Returns the verdict of the container's stop signal on a process of its sandbox: the container's own processes
    /// get the signal.
    pub fn in_sandbox() -> Self {
        Self::with_note(
            Verdict::Unknown,
            "a process in the sandbox gets it, which is not on this host",
        )
    }

    fn with_note(verdict: Verdict, note: impl Into<String>) -> Self {
        Self { verdict, note: Some(note.into()), later: None }
    }
}

/// The thread or descriptor that takes a queued signal.
enum Consumer {
    /// A thread that does not block it, which acts by the disposition.
    Thread,
    /// A thread in sigwait.
    Waiter,
    /// A signalfd.
    Signalfd,
    /// None at present; with the reason.
    None(Option<String>),
    /// Not known; with the missing fact.
    Unknown(String),
}

/// Returns the effect of a signal.
pub fn predict(process: &SignalState<'_>, signal: Signal, to: Recipient) -> Prediction {
    if !process.is_alive {
        let note = "it has exited, and its parent has not reaped it";
        return Prediction::with_note(Verdict::NoEffect, note);
    }
    let is_caught = !is_uncatchable(signal) && process.caught.contains(signal);
    // CONT resumes a stopped process when it is sent, even if it is blocked or ignored.
    if signal == Signal::CONT && process.state.is_stopped() {
        let note =
            is_caught.then(|| "its handler runs too, unless the signal is blocked".to_owned());
        return Prediction { verdict: Verdict::Continues, note, later: None };
    }
    let action = action(process, signal, is_caught);
    if is_uncatchable(signal) {
        return match action {
            Verdict::Discarded => Prediction::with_note(
                Verdict::Discarded,
                "PID 1 is protected from signals sent from its own PID namespace",
            ),
            action => with_state(process, signal, action),
        };
    }
    if process.is_starting {
        return Prediction::with_note(Verdict::Unknown, STARTING);
    }
    if process.tracer != 0 {
        return traced(process, signal, to);
    }
    let Some(is_blocked) = is_blocked(process, to, signal) else {
        return Prediction::with_note(Verdict::Unknown, missing_threads(process));
    };
    // A signal without effect is dropped when it is sent, unless the thread that it is sent to blocks it
    // (sig_task_ignored).
    if !is_blocked && action.is_lost() {
        return lost(action);
    }
    match consumer(process, signal, to) {
        Consumer::Thread => taken(process, signal, action),
        Consumer::Waiter | Consumer::Signalfd => with_state(process, signal, Verdict::Accepted),
        Consumer::Unknown(missing) => Prediction::with_note(Verdict::Unknown, missing),
        Consumer::None(reason) => {
            let then = match action {
                Verdict::Discarded => {
                    Some("it will be discarded when unblocked, unless there is a handler by then")
                }
                Verdict::Ignored => Some("it will be dropped when unblocked"),
                _ => None,
            };
            let note = reason.or(then.map(str::to_owned));
            Prediction { verdict: Verdict::Pending, note, later: None }
        }
    }
}

/// Whether it is KILL or STOP, which no process can catch, block or ignore.
fn is_uncatchable(signal: Signal) -> bool {
    signal == Signal::KILL || signal == Signal::STOP
}

/// Returns the effect once a thread takes the signal and acts by the disposition.
fn action(process: &SignalState<'_>, signal: Signal, is_caught: bool) -> Verdict {
    let is_ignored = !is_uncatchable(signal) && process.ignored.contains(signal);
    let is_protected = match process.init {
        Some(InitSender::AncestorNamespace) => !is_uncatchable(signal),
        Some(InitSender::OwnNamespace) => true,
        None => false,
    };
    match signal.default_action() {
        _ if is_caught => Verdict::Handled,
        _ if is_ignored => Verdict::Ignored,
        // Not discarded for an init: the default is the same for every process.
        DefaultAction::Ignore | DefaultAction::Continue => Verdict::Ignored,
        _ if is_protected => Verdict::Discarded,
        DefaultAction::Terminate => Verdict::Terminates,
        DefaultAction::Core => Verdict::Dumps,
        DefaultAction::Stop => Verdict::Stops,
    }
}

/// Returns the effect of a signal that a thread takes which does not block it.
fn taken(process: &SignalState<'_>, signal: Signal, action: Verdict) -> Prediction {
    // The protection of an init is checked when a signal is sent, against the mask of the main thread,
    // and when it is taken. Where the main thread blocks it and another does not, complete_signal comes
    // in between: since Linux 4.15 it terminates the process there if no core is to be written,
    // protected or not. Linux 5.10 and 6.1 were seen to terminate it, 6.18.44 does nothing.
    let is_fatal_at_once =
        signal.default_action() == DefaultAction::Terminate && !process.state.is_stopped();
    match action {
        Verdict::Stops => terminal_stop(process, signal),
        Verdict::Discarded if is_fatal_at_once => Prediction::with_note(
            Verdict::Unknown,
            "PID 1 blocks it in its main thread but not in another: some kernels terminate it, others discard the signal",
        ),
        action if action.is_lost() => lost(action),
        action => with_state(process, signal, action),
    }
}

fn lost(action: Verdict) -> Prediction {
    match action {
        Verdict::Discarded => Prediction::with_note(action, "it is PID 1 and has no handler"),
        _ => Prediction::new(action),
    }
}

/// Whether the thread that a signal is sent to blocks it, or would if it were not waiting for it; none if
/// that could not be read.
fn is_blocked(process: &SignalState<'_>, to: Recipient, signal: Signal) -> Option<bool> {
    let thread = match (process.waits, to) {
        (Fact::Known(waits), Recipient::Process) => waits.threads.first()?,
        (Fact::Known(waits), Recipient::Thread(tid)) => {
            waits.threads.iter().find(|t| t.tid == tid)?
        }
        _ if process.blocked.contains(signal) && to == Recipient::Process => return Some(true),
        _ => return None,
    };
    Some(thread.blocked.contains(signal) || thread.awaited.contains(signal))
}

/// Names the fact that is missing if it is not known which threads wait for a signal.
fn missing_threads(process: &SignalState<'_>) -> &'static str {
    match process.waits {
        Fact::Denied => "reading its threads needs root (CAP_SYS_PTRACE), or timed out",
        _ => "its threads could not be read",
    }
}

/// Returns the consumer of a signal: the main thread if it can take it, else any thread that can
/// (complete_signal); if all block it, a signalfd that is being read.
fn consumer(process: &SignalState<'_>, signal: Signal, to: Recipient) -> Consumer {
    let Fact::Known(waits) = process.waits else {
        return Consumer::Unknown(missing_threads(process).into());
    };
    // (A thread that was stopped or frozen in its wait shows the signal as blocked, as before the wait. The call fails
    // with EINTR when the thread runs (signal(7)); programs call it again, as sigwait(3) does.)
    let can_take = |thread: &&ThreadWaits| {
        let is_open = !thread.blocked.contains(signal) || thread.awaited.contains(signal);
        !thread.dead && is_open
    };
    let candidates: Vec<&ThreadWaits> = match to {
        Recipient::Thread(tid) => waits.threads.iter().filter(|t| t.tid == tid).collect(),
        Recipient::Process => match waits.threads.first().filter(can_take) {
            Some(main) => vec![main],
            None => waits.threads.iter().collect(),
        },
    };
    let takers: Vec<&ThreadWaits> = candidates.iter().copied().filter(can_take).collect();
    let waiting = takers.iter().filter(|thread| thread.awaited.contains(signal)).count();
    if !takers.is_empty() {
        return match waiting {
            0 => Consumer::Thread,
            waiting if waiting == takers.len() => Consumer::Waiter,
            _ => Consumer::Unknown(
                "one thread is waiting for it and another does not block it: either may take it"
                    .into(),
            ),
        };
    }
    if to == Recipient::Process && !waits.all_threads {
        return Consumer::Unknown("its threads could not be read".into());
    }
    signalfd_consumer(waits, signal, &candidates)
}

/// Returns the consumer of a signal that every thread blocks. Reading a signalfd takes signals of the
/// reading process only, so a thread of this very process has to read it.
fn signalfd_consumer(waits: &Waits, signal: Signal, candidates: &[&ThreadWaits]) -> Consumer {
    let fds: Vec<i32> =
        waits.signalfds.iter().filter(|fd| fd.set.contains(signal)).map(|fd| fd.fd).collect();
    let Some(fd) = fds.first() else { return Consumer::None(None) };
    let reads = |thread: &&ThreadWaits| !thread.dead && fds.iter().any(|fd| thread.on.reads(*fd));
    if candidates.iter().any(reads) {
        return Consumer::Signalfd;
    }
    let might_read =
        |thread: &&ThreadWaits| !thread.dead && fds.iter().any(|fd| thread.on.might_read(*fd));
    if candidates.iter().any(might_read) {
        return Consumer::Unknown(format!(
            "it polls its signalfd {fd} through an epoll that it shares with its parent, which accepts the signal only if the process itself added the signalfd"
        ));
    }
    if candidates.iter().any(|thread| !thread.dead && thread.on == Waiting::Anything) {
        return Consumer::Unknown(format!(
            "it has signalfd {fd} for the signal; whether a thread reads that next is not known"
        ));
    }
    Consumer::None(Some(format!(
        "its signalfd {fd} could accept it, but no thread is reading that"
    )))
}

/// Returns the effect of TSTP, TTIN and TTOU, which do nothing to an orphaned process group. The kernel
/// checks that when the signal is taken.
fn terminal_stop(process: &SignalState<'_>, signal: Signal) -> Prediction {
    match process.orphaned {
        Some(true) => {
            let is_suspended =
                process.frozen != Freezer::Thawed || process.state.is_uninterruptible();
            let verdict = if is_suspended { Verdict::Delayed } else { Verdict::Ignored };
            let note = "its process group is orphaned; STOP would stop it";
            let later = is_suspended.then_some(Verdict::Ignored);
            Prediction { later, ..Prediction::with_note(verdict, note) }
        }
        Some(false) => with_state(process, signal, Verdict::Stops),
        None => Prediction::with_note(
            Verdict::Unknown,
            "cannot tell whether its process group is orphaned",
        ),
    }
}

/// Returns the effect on a traced process: its tracer gets every signal but KILL first, and may suppress
/// it.
fn traced(process: &SignalState<'_>, signal: Signal, to: Recipient) -> Prediction {
    let tracer = process.tracer;
    if process.state.is_traced() {
        let note = format!("its tracer, process {tracer}, has stopped it");
        return Prediction::with_note(Verdict::Delayed, note);
    }
    match consumer(process, signal, to) {
        Consumer::Waiter | Consumer::Signalfd => with_state(process, signal, Verdict::Accepted),
        Consumer::None(note) => Prediction { verdict: Verdict::Pending, note, later: None },
        _ => Prediction::with_note(
            Verdict::Unknown,
            format!("its tracer, process {tracer}, gets the signal first and may suppress it"),
        ),
    }
}

/// Returns the effect of a signal that is going to have `action`, given the state of the process.
fn with_state(process: &SignalState<'_>, signal: Signal, action: Verdict) -> Prediction {
    let later = |reason: &str| Prediction {
        verdict: Verdict::Delayed,
        note: Some(reason.to_owned()),
        later: Some(action),
    };
    match process.frozen {
        Freezer::V1 => {
            return later("it is frozen (cgroup v1): even KILL waits until it is thawed");
        }
        Freezer::Unknown => {
            let note = "it may be frozen: its cgroup could not be read";
            return Prediction::with_note(Verdict::Unknown, note);
        }
        // A fatal signal that writes no core acts when it is sent (complete_signal).
        Freezer::V2 if action != Verdict::Terminates => return later("it is frozen"),
        Freezer::V2 | Freezer::Thawed => {}
    }
    let sleeps = process.state.is_uninterruptible() && process.frozen == Freezer::Thawed;
    if signal == Signal::KILL {
        if sleeps && !process.killable {
            return later("it is in uninterruptible sleep, which KILL may or may not end");
        }
        return Prediction::new(action);
    }
    if process.state.is_stopped() {
        if action == Verdict::Stops {
            return Prediction::with_note(Verdict::Stops, "it is already stopped");
        }
        if signal.default_action() == DefaultAction::Stop {
            let note = "it is stopped, and CONT discards pending stop signals";
            return Prediction::with_note(Verdict::Ignored, note);
        }
        return later("it is stopped; the signal takes effect on CONT");
    }
    if process.state.is_traced() {
        return later("its tracer has stopped it");
    }
    if sleeps {
        if process.killable && action == Verdict::Terminates {
            return Prediction::new(action);
        }
        return later(match process.killable {
            true => "it waits until the child of its vfork(2) executes a program or exits",
            false => "it is in uninterruptible sleep",
        });
    }
    if action == Verdict::Handled && process.pending.contains(signal) && !is_queued(signal) {
        return Prediction::with_note(action, "one is already pending; the two are merged");
    }
    Prediction::new(action)
}

/// Whether several signals of one number are kept: real-time signals are (signal(7)).
fn is_queued(signal: Signal) -> bool {
    signal.number() >= Signal::RT32.number()
}
