//! What the kernel will do with a signal: one pure function from facts to a verdict. It asks what
//! `send_signal_locked`, `complete_signal` and `get_signal` ask (kernel/signal.c), in their order.

use std::collections::{BTreeSet, HashMap};

use crate::model::cgroup::Freezer;
use crate::model::pid::HostPid;
use crate::model::process::{Fact, Process};
use crate::model::signal::{DefaultAction, Signal, SignalSet};
use crate::model::signal_waiters::{ThreadWaits, Waits};
use crate::model::stat::ProcessState;
use crate::model::verdict::Verdict;

/// What decides about the signals of one process.
#[derive(Clone, Debug)]
pub struct SignalState<'a> {
    /// What its main thread does.
    pub state: ProcessState,
    /// Whether threads of it live: not in a zombie that has ended, as in one whose main thread has.
    pub lives: bool,
    /// What it ignores.
    pub ignored: SignalSet,
    /// What it has handlers for.
    pub caught: SignalSet,
    /// What its main thread blocks; where `waits` is known that is in there too.
    pub blocked: SignalSet,
    /// What is pending for the process or its main thread.
    pub pending: SignalSet,
    /// Who takes what is blocked.
    pub waits: &'a Fact<Waits>,
    /// Whether it is the init of a PID namespace, and from where we would send.
    pub init: Option<InitView>,
    /// Who traces it; 0 when nobody does.
    pub tracer: i32,
    /// Whether its cgroup is frozen.
    pub frozen: Freezer,
    /// Whether nobody in its session could continue its process group; none when not looked at.
    pub orphaned: Option<bool>,
    /// Whether its uninterruptible sleep is one that a deadly signal ends all the same.
    pub killable: bool,
}

/// What decides about several processes at once.
#[derive(Clone, Debug, Default)]
pub struct DeliveryContext {
    /// Those that are frozen.
    pub frozen: HashMap<HostPid, Freezer>,
    /// Process groups that are orphaned; none when that was not looked at.
    pub orphaned: Option<BTreeSet<i32>>,
}

/// Kernel functions in which the parent of a vfork(2) sleeps: uninterruptibly, but for what ends it
/// (`wait_for_vfork_done`, kernel/fork.c).
const KILLABLE: &[&[u8]] = &[b"kernel_clone", b"wait_for_vfork_done", b"_do_fork", b"do_fork"];

impl<'a> SignalState<'a> {
    /// The facts of one process.
    pub fn of(process: &'a Process, scene: &DeliveryContext) -> Self {
        let status = &process.status;
        Self {
            state: process.stat.state,
            lives: !process.stat.has_exited(),
            ignored: status.sig_ign,
            caught: status.sig_cgt,
            blocked: status.sig_blk,
            pending: status.shd_pnd.union(status.sig_pnd),
            waits: &process.waits,
            // The last of its numbers is that in its own namespace; one alone is that in ours.
            init: (status.nspid.last() == Some(&1)).then_some(match status.nspid.len() {
                1 => InitView::FromInside,
                _ => InitView::FromAbove,
            }),
            tracer: status.tracer_pid,
            frozen: scene.frozen.get(&process.id.pid).copied().unwrap_or(Freezer::Thawed),
            orphaned: scene.orphaned.as_ref().map(|groups| groups.contains(&process.stat.pgrp)),
            killable: process.wchan.as_deref().is_some_and(|at| KILLABLE.contains(&at)),
        }
    }
}

/// From where an init is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitView {
    /// From a PID namespace above its own: KILL and STOP reach it.
    FromAbove,
    /// From its own: nothing does that it has no handler for.
    FromInside,
}

/// Whom the signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// The process: whichever thread takes it.
    Process,
    /// This thread alone.
    Thread(i32),
}

/// A verdict, and what else is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// What will happen.
    pub verdict: Verdict,
    /// Why, where the verdict alone leaves that open.
    pub note: Option<String>,
    /// What happens once it runs again, where it is delayed.
    pub later: Option<Verdict>,
}

impl Prediction {
    /// Whether the program gets to know of it, now or once it runs again.
    pub fn is_received(&self) -> bool {
        self.verdict.is_received() || self.later.is_some_and(Verdict::is_received)
    }

    fn new(verdict: Verdict) -> Self {
        Self { verdict, note: None, later: None }
    }

    fn with_note(verdict: Verdict, note: impl Into<String>) -> Self {
        Self { verdict, note: Some(note.into()), later: None }
    }
}

/// Who takes a signal that was queued.
enum Consumer {
    /// A thread that does not block it, by its disposition.
    Thread,
    /// A thread in sigwait.
    Waiting,
    /// A signalfd.
    Signalfd,
    /// Nobody now.
    Nobody(Option<String>),
    /// It cannot be told.
    Unknown(String),
}

/// Says what will happen.
pub fn predict(subject: &SignalState<'_>, signal: Signal, to: Recipient) -> Prediction {
    if !subject.lives {
        return Prediction::with_note(
            Verdict::NoEffect,
            "it has ended; its parent has not reaped it",
        );
    }
    let only_kernels = signal == Signal::KILL || signal == Signal::STOP;
    let caught = !only_kernels && subject.caught.contains(signal);
    let ignored = !only_kernels && !caught && subject.ignored.contains(signal);
    let shielded = !caught
        && !ignored
        && match subject.init {
            Some(InitView::FromAbove) => !only_kernels,
            Some(InitView::FromInside) => true,
            None => false,
        };
    let stopped = subject.state.is_stopped();
    // CONT wakes whoever is stopped as it is sent, whatever becomes of it then.
    if signal == Signal::CONT && stopped {
        let handler = caught.then_some("and its handler runs, unless it is blocked");
        let note = handler.map(str::to_owned);
        return Prediction { verdict: Verdict::Continues, note, later: None };
    }
    // What follows once somebody takes it by its disposition.
    let act = match signal.default_action() {
        _ if caught => Verdict::Handled,
        _ if ignored => Verdict::Ignored,
        // To do nothing is the default of nobody's alone.
        DefaultAction::Ignore | DefaultAction::Continue => Verdict::Ignored,
        _ if shielded => Verdict::Discarded,
        DefaultAction::Terminate => Verdict::Terminates,
        DefaultAction::Core => Verdict::Dumps,
        DefaultAction::Stop => Verdict::Stops,
    };
    if only_kernels {
        return match act {
            Verdict::Discarded => Prediction::with_note(
                Verdict::Discarded,
                "PID 1 is shielded from whoever is in its own PID namespace",
            ),
            act => with_state(subject, signal, act),
        };
    }
    if subject.tracer != 0 {
        return traced(subject, signal, to);
    }
    let Some(blocked) = blocks(subject, to, signal) else {
        return missing(subject);
    };
    // A signal that nothing would come of is dropped as it is sent, unless the thread it is sent to
    // blocks it (sig_task_ignored).
    if !blocked && act.is_lost() {
        return lost(subject, act);
    }
    match taker(subject, signal, to) {
        Consumer::Thread if act == Verdict::Stops => terminal_stop(subject, signal),
        // The shield of an init is asked when a signal is sent, of the main thread, and when it is
        // taken. Where the main thread blocks it and another does not, complete_signal comes in
        // between: since Linux 4.15 it carries out there what ends a process without a core, shield
        // or not. On 5.10 and 6.1 it was seen to end, on 6.18.44 nothing happens.
        Consumer::Thread if act == Verdict::Discarded && ends_at_once(subject, signal) => {
            Prediction::with_note(
                Verdict::Unknown,
                "PID 1, but its main thread blocks it and another does not: some kernels end it, others do nothing",
            )
        }
        Consumer::Thread if act.is_lost() => lost(subject, act),
        Consumer::Thread => with_state(subject, signal, act),
        Consumer::Waiting => with_state(subject, signal, Verdict::Accepted),
        Consumer::Signalfd => with_state(subject, signal, Verdict::Accepted),
        Consumer::Unknown(why) => Prediction::with_note(Verdict::Unknown, why),
        Consumer::Nobody(why) => {
            let then = match act {
                Verdict::Discarded => {
                    Some("and dropped once it is not blocked, if there is no handler then")
                }
                Verdict::Ignored => Some("and dropped once it is not blocked"),
                _ => None,
            };
            let note = why.or(then.map(str::to_owned));
            Prediction { verdict: Verdict::Pending, note, later: None }
        }
    }
}

/// Whether it may be carried out as soon as a thread is found that takes it: not where it writes a
/// core.
fn ends_at_once(subject: &SignalState<'_>, signal: Signal) -> bool {
    signal.default_action() == DefaultAction::Terminate && !subject.state.is_stopped()
}

fn lost(subject: &SignalState<'_>, act: Verdict) -> Prediction {
    match (act, subject.init) {
        (Verdict::Discarded, _) => {
            Prediction::with_note(act, "PID 1 of a PID namespace, without a handler")
        }
        _ => Prediction::new(act),
    }
}

/// Whether the thread that a signal is sent to blocks it, or is waiting for it with its mask lifted;
/// none when that could not be read.
fn blocks(subject: &SignalState<'_>, to: Recipient, signal: Signal) -> Option<bool> {
    let thread = match (subject.waits, to) {
        (Fact::Known(waits), Recipient::Process) => waits.threads.first()?,
        (Fact::Known(waits), Recipient::Thread(tid)) => {
            waits.threads.iter().find(|t| t.tid == tid)?
        }
        _ if subject.blocked.contains(signal) && to == Recipient::Process => return Some(true),
        _ => return None,
    };
    Some(thread.blocked.contains(signal) || thread.awaited.contains(signal))
}

fn missing(subject: &SignalState<'_>) -> Prediction {
    Prediction::with_note(
        Verdict::Unknown,
        match subject.waits {
            Fact::Denied => {
                "whether a thread waits for it may not be read (CAP_SYS_PTRACE), or did not come in time"
            }
            _ => "its threads could not be read",
        },
    )
}

/// Who takes it: the main thread if it can, else any that can (complete_signal); of those that all
/// block it, whoever reads a signalfd.
fn taker(subject: &SignalState<'_>, signal: Signal, to: Recipient) -> Consumer {
    let Fact::Known(waits) = subject.waits else {
        return Consumer::Unknown("who waits for it may not be read (CAP_SYS_PTRACE)".into());
    };
    let wants = |thread: &&ThreadWaits| !thread.dead && !thread.blocked.contains(signal);
    let those: Vec<&ThreadWaits> = match to {
        Recipient::Thread(tid) => waits.threads.iter().filter(|t| t.tid == tid).collect(),
        Recipient::Process => match waits.threads.first().filter(wants) {
            Some(main) => vec![main],
            None => waits.threads.iter().collect(),
        },
    };
    let able: Vec<&ThreadWaits> = those.iter().copied().filter(wants).collect();
    let waiting = able.iter().filter(|thread| thread.awaited.contains(signal)).count();
    if !able.is_empty() {
        return match waiting {
            0 => Consumer::Thread,
            all if all == able.len() => Consumer::Waiting,
            _ => Consumer::Unknown(
                "one thread waits for it and another does not block it: either may take it".into(),
            ),
        };
    }
    if to == Recipient::Process && !waits.all_threads {
        return Consumer::Unknown("its threads could not be read".into());
    }
    let fds: Vec<i32> =
        waits.signalfds.iter().filter(|fd| fd.set.contains(signal)).map(|fd| fd.fd).collect();
    let Some(first) = fds.first() else { return Consumer::Nobody(None) };
    // Reading one takes the signals of who reads: a thread of this very process, then.
    let reads = |thread: &ThreadWaits| !thread.dead && fds.iter().any(|fd| thread.on.may_read(*fd));
    if those.iter().copied().any(reads) {
        return Consumer::Signalfd;
    }
    let might =
        |thread: &ThreadWaits| !thread.dead && fds.iter().any(|fd| thread.on.might_read(*fd));
    if those.into_iter().any(might) {
        return Consumer::Unknown(format!(
            "it waits for its signalfd {first} by an epoll that is its parent's too: that takes it only if it put it there itself"
        ));
    }
    Consumer::Nobody(Some(format!("its signalfd {first} would take it, but no thread waits there")))
}

/// TSTP, TTIN and TTOU do nothing to a process group that nobody could continue; seen as the signal
/// is taken.
fn terminal_stop(subject: &SignalState<'_>, signal: Signal) -> Prediction {
    match subject.orphaned {
        Some(true) => {
            // It is asked when it is taken: until then it waits with whoever does not run.
            let waits = subject.frozen != Freezer::Thawed || subject.state.is_uninterruptible();
            let verdict = if waits { Verdict::Delayed } else { Verdict::Ignored };
            let note = "its process group is orphaned: STOP would stop it";
            let later = waits.then_some(Verdict::Ignored);
            Prediction { later, ..Prediction::with_note(verdict, note) }
        }
        Some(false) => with_state(subject, signal, Verdict::Stops),
        None => Prediction::with_note(
            Verdict::Unknown,
            "whether its process group is orphaned could not be read",
        ),
    }
}

/// Somebody traces it: every signal but KILL is shown to the tracer first, which may swallow it.
fn traced(subject: &SignalState<'_>, signal: Signal, to: Recipient) -> Prediction {
    let tracer = subject.tracer;
    if subject.state.is_traced() {
        return Prediction::with_note(
            Verdict::Delayed,
            format!("process {tracer} holds it, tracing"),
        );
    }
    match taker(subject, signal, to) {
        Consumer::Waiting | Consumer::Signalfd => with_state(subject, signal, Verdict::Accepted),
        Consumer::Nobody(why) => Prediction { verdict: Verdict::Pending, note: why, later: None },
        _ => Prediction::with_note(
            Verdict::Unknown,
            format!("process {tracer} traces it, sees the signal first and may swallow it"),
        ),
    }
}

/// What is to happen, held against what the process can do now.
fn with_state(subject: &SignalState<'_>, signal: Signal, act: Verdict) -> Prediction {
    let later = |why: &str| Prediction {
        verdict: Verdict::Delayed,
        note: Some(why.to_owned()),
        later: Some(act),
    };
    let kill = signal == Signal::KILL;
    match subject.frozen {
        Freezer::V1 => return later("frozen: even KILL waits until it is thawed"),
        // A deadly signal that writes no core is carried out as it is sent (complete_signal).
        Freezer::V2 if act != Verdict::Terminates => return later("frozen"),
        Freezer::V2 | Freezer::Thawed => {}
    }
    if kill {
        if subject.state.is_uninterruptible()
            && !subject.killable
            && subject.frozen == Freezer::Thawed
        {
            return later("in uninterruptible sleep, which may be one that KILL ends");
        }
        return Prediction::new(act);
    }
    if subject.state.is_stopped() {
        if act == Verdict::Stops {
            return Prediction::with_note(Verdict::Stops, "it is stopped already");
        }
        if signal.default_action() == DefaultAction::Stop {
            return Prediction::with_note(
                Verdict::Ignored,
                "stopped, and CONT takes stop signals away that came before it",
            );
        }
        return later("stopped: it takes effect on CONT");
    }
    if subject.state.is_traced() {
        return later("held by its tracer");
    }
    if subject.state.is_uninterruptible() && subject.frozen == Freezer::Thawed {
        if subject.killable && act == Verdict::Terminates {
            return Prediction::new(act);
        }
        return later("in uninterruptible sleep");
    }
    if act == Verdict::Handled && subject.pending.contains(signal) && !is_queued(signal) {
        return Prediction::with_note(act, "one is pending already: the two become one");
    }
    Prediction::new(act)
}

/// Whether each of several is kept: real-time signals are (signal(7)).
fn is_queued(signal: Signal) -> bool {
    signal.number() >= Signal::RT32.number()
}
