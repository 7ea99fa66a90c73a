//! The meaning of a signal that the kernel recorded: its origin, its outcome, and whether it
//! is routine. Pure; numbers from include/uapi/asm-generic/siginfo.h and
//! include/trace/events/signal.h.

use crate::model::signal::{DefaultAction, Signal, SignalSet};

/// `si_code` values, sigaction(2).
pub(super) const SI_USER: i32 = 0;
pub(super) const SI_KERNEL: i32 = 0x80;
const SI_QUEUE: i32 = -1;
pub(super) const SI_TIMER: i32 = -2;
const SI_MESGQ: i32 = -3;
const SI_ASYNCIO: i32 = -4;
const SI_SIGIO: i32 = -5;
pub(super) const SI_TKILL: i32 = -6;

/// The origin of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalOrigin {
    /// A process, by kill(2), tgkill(2) or sigqueue(3); the call.
    Process(&'static str),
    /// A child that stopped, continued or exited.
    Child,
    /// A timer of the process itself.
    Timer,
    /// A terminal, or job control: the kernel makes no difference.
    Terminal,
    /// The kernel, as the init of the PID namespace exits.
    InitExit,
    /// The kernel's OOM killer.
    OomKiller,
    /// The kernel for another reason: a fault, for example.
    Kernel,
}

impl SignalOrigin {
    /// Judges by `si_code`.
    pub fn of(signal: Signal, code: i32) -> Self {
        match code {
            SI_USER => Self::Process("kill"),
            SI_TKILL => Self::Process("tgkill"),
            SI_QUEUE => Self::Process("sigqueue"),
            SI_TIMER => Self::Timer,
            SI_KERNEL => match signal {
                Signal::ALRM | Signal::VTALRM | Signal::PROF => Self::Timer,
                Signal::INT | Signal::QUIT | Signal::TSTP | Signal::TTIN | Signal::TTOU => {
                    Self::Terminal
                }
                Signal::HUP | Signal::WINCH | Signal::CONT => Self::Terminal,
                _ => Self::Kernel,
            },
            code if code > 0 && signal == Signal::CHLD => Self::Child,
            _ => Self::Kernel,
        }
    }

    /// Whether the thread that ran sent it; else it only happened to run.
    pub fn has_sender(self) -> bool {
        matches!(self, Self::Process(_) | Self::Child)
    }

    /// Returns the origin in words, where no process sent it.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Process(call) => call,
            Self::Child => "a child",
            Self::Timer => "a timer",
            Self::Terminal => "a terminal or job control",
            Self::InitExit => "the kernel: PID 1 exits",
            Self::OomKiller => "the kernel: out of memory",
            Self::Kernel => "the kernel",
        }
    }
}

/// Returns the name of an `si_code`; none for codes whose meaning depends on the signal.
pub fn code_name(code: i32) -> Option<&'static str> {
    Some(match code {
        SI_USER => "SI_USER",
        SI_KERNEL => "SI_KERNEL",
        SI_QUEUE => "SI_QUEUE",
        SI_TIMER => "SI_TIMER",
        SI_MESGQ => "SI_MESGQ",
        SI_ASYNCIO => "SI_ASYNCIO",
        SI_SIGIO => "SI_SIGIO",
        SI_TKILL => "SI_TKILL",
        _ => return None,
    })
}

/// Facts about the process that a signal is for, as far as they are known.
#[derive(Clone, Copy, Debug, Default)]
pub struct TargetFacts {
    /// Whether it is the init of a container.
    pub is_init: bool,
    /// The signals that it ignores.
    pub ignored: Option<SignalSet>,
    /// The signals that it has a handler for: if one of those is dropped, it has changed since.
    pub caught: SignalSet,
}

/// The outcome of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalOutcome {
    /// It is pending for the target, which takes it when it runs and does not block it.
    Queued,
    /// It is pending, but its sender and value are lost: no memory, or too many are pending.
    QueuedWithoutInfo,
    /// The target ignores it.
    Ignored,
    /// The target is an init without a handler for it.
    Discarded,
    /// Ignored or discarded: it is not known which.
    Dropped,
    /// One is pending already.
    Merged,
    /// Too many are pending for the user.
    QueueFull,
    /// A handler ran.
    Handler,
    /// The process is terminated.
    Terminates,
    /// The process is stopped.
    Stops,
    /// Nothing happened.
    NoEffect,
    /// A number of a later kernel.
    Unknown,
}

impl SignalOutcome {
    /// Returns the outcome in one or two words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::QueuedWithoutInfo => "queued without its sender",
            Self::Ignored => "ignored",
            Self::Discarded => "discarded",
            Self::Dropped => "ignored or discarded",
            Self::Merged => "already pending",
            Self::QueueFull => "lost: queue full",
            Self::Handler => "handler",
            Self::Terminates => "terminates",
            Self::Stops => "stops",
            Self::NoEffect => "no effect",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the outcome of sending, from the tracepoint's `result`.
    pub fn of_sending(signal: Signal, result: i32, target: TargetFacts) -> Self {
        match result {
            0 => Self::Queued,
            1 => match target {
                TargetFacts { caught, .. } if caught.contains(signal) => Self::Dropped,
                TargetFacts { ignored: Some(set), .. } if set.contains(signal) => Self::Ignored,
                // The kernel drops it for an init only if its action is the default one.
                TargetFacts { is_init: true, ignored: Some(_), .. }
                    if signal.default_action() != DefaultAction::Ignore =>
                {
                    Self::Discarded
                }
                TargetFacts { ignored: None, .. }
                    if signal.default_action() != DefaultAction::Ignore =>
                {
                    Self::Dropped
                }
                _ => Self::Ignored,
            },
            2 => Self::Merged,
            3 => Self::QueueFull,
            4 => Self::QueuedWithoutInfo,
            _ => Self::Unknown,
        }
    }

    /// Returns the outcome of a delivery, from the tracepoint's `sa_handler`.
    pub fn of_delivery(signal: Signal, handler: u64, target: TargetFacts) -> Self {
        match (handler, signal.default_action()) {
            (1, _) | (0, DefaultAction::Ignore | DefaultAction::Continue) => Self::NoEffect,
            // KILL and STOP from an ancestor namespace act on an init too; others do not reach this point.
            (0, _) if target.is_init && !matches!(signal, Signal::KILL | Signal::STOP) => {
                Self::Discarded
            }
            (0, DefaultAction::Stop) => Self::Stops,
            (0, _) => Self::Terminates,
            _ => Self::Handler,
        }
    }
}

/// Whether a signal is routine: the end of a child, a timer, Go's preemption, glibc's own.
pub fn is_routine(signal: Signal, code: i32, from_itself: bool) -> bool {
    match SignalOrigin::of(signal, code) {
        SignalOrigin::Child | SignalOrigin::Timer => true,
        SignalOrigin::Process("tgkill") if from_itself => {
            // glibc keeps 32 and 33 for itself (nptl(7)).
            signal == Signal::URG || matches!(signal.number(), 32 | 33)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: TargetFacts =
        TargetFacts { is_init: false, ignored: Some(SignalSet::EMPTY), caught: SignalSet::EMPTY };
    const INIT: TargetFacts = TargetFacts { is_init: true, ..KNOWN };

    #[test]
    fn a_dropped_signal_is_discarded_by_an_init_and_ignored_by_others() {
        let sent = |target| SignalOutcome::of_sending(Signal::TERM, 1, target);
        assert_eq!(sent(INIT), SignalOutcome::Discarded);
        assert_eq!(sent(KNOWN), SignalOutcome::Ignored);
        let ignores = TargetFacts { ignored: Some(SignalSet::from(Signal::TERM)), ..INIT };
        assert_eq!(sent(ignores), SignalOutcome::Ignored);
        for unread in [INIT, KNOWN].map(|target| TargetFacts { ignored: None, ..target }) {
            assert_eq!(sent(unread), SignalOutcome::Dropped);
        }
        assert_eq!(SignalOutcome::of_sending(Signal::CHLD, 1, INIT), SignalOutcome::Ignored);
        assert_eq!(
            sent(TargetFacts { caught: Signal::TERM.into(), ..INIT }),
            SignalOutcome::Dropped
        );
    }

    #[test]
    fn a_delivery_is_judged_by_the_handler_and_the_default_action() {
        let taken = |signal, handler, target| SignalOutcome::of_delivery(signal, handler, target);
        assert_eq!(taken(Signal::TERM, 0x4000, INIT), SignalOutcome::Handler);
        assert_eq!(taken(Signal::TERM, 0, KNOWN), SignalOutcome::Terminates);
        assert_eq!(taken(Signal::TERM, 0, INIT), SignalOutcome::Discarded);
        assert_eq!(taken(Signal::KILL, 0, INIT), SignalOutcome::Terminates);
        assert_eq!(taken(Signal::TSTP, 0, KNOWN), SignalOutcome::Stops);
        assert_eq!(taken(Signal::WINCH, 0, KNOWN), SignalOutcome::NoEffect);
        assert_eq!(taken(Signal::TERM, 1, KNOWN), SignalOutcome::NoEffect);
    }

    #[test]
    fn the_code_shows_the_origin() {
        assert_eq!(SignalOrigin::of(Signal::TERM, 0), SignalOrigin::Process("kill"));
        assert_eq!(SignalOrigin::of(Signal::INT, 0x80), SignalOrigin::Terminal);
        assert_eq!(SignalOrigin::of(Signal::KILL, 0x80), SignalOrigin::Kernel);
        assert_eq!(SignalOrigin::of(Signal::CHLD, 1), SignalOrigin::Child);
        assert_eq!(SignalOrigin::of(Signal::SEGV, 1), SignalOrigin::Kernel);
        assert_eq!(SignalOrigin::of(Signal::ALRM, 0x80), SignalOrigin::Timer);
    }

    #[test]
    fn routine_signals_are_those_that_a_program_sends_itself() {
        assert!(is_routine(Signal::URG, SI_TKILL, true));
        assert!(!is_routine(Signal::URG, SI_USER, true));
        assert!(!is_routine(Signal::URG, SI_TKILL, false));
        assert!(is_routine(Signal::CHLD, 1, false));
        assert!(is_routine(Signal::ALRM, SI_KERNEL, false));
        assert!(!is_routine(Signal::ALRM, SI_USER, false));
        assert!(!is_routine(Signal::TERM, SI_TKILL, true));
    }
}
