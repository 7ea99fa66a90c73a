//! The verdict on a signal that was seen by a trace, and whether the kernel did otherwise. Pure.

use std::collections::HashMap;

use super::delivery::{InitSender, Recipient, SignalState, predict};
use super::trace_outcome::SignalOutcome;
use crate::model::cgroup::Freezer;
use crate::model::process::Fact;
use crate::model::signal::{Signal, SignalSet};
use crate::model::signal_waiters::{ThreadWaits, Waits};
use crate::model::stat::ProcessState;
use crate::model::status::Status;
use crate::model::verdict::Verdict;

/// The facts about a process that decide what a signal does to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalFacts {
    /// The ignored signals.
    pub ignored: SignalSet,
    /// The signals with a handler.
    pub caught: SignalSet,
    blocked: SignalSet,
    /// Whether nothing else decides: it is not traced, and its main thread is not in sigwait(3).
    is_plain: bool,
}

impl SignalFacts {
    /// Returns the facts in a status file, and whether the main thread waits for signals.
    pub fn of(status: &Status, is_in_sigwait: bool) -> Self {
        Self {
            ignored: status.sig_ign,
            caught: status.sig_cgt,
            blocked: status.sig_blk,
            is_plain: status.tracer_pid == 0 && !is_in_sigwait,
        }
    }

    /// Whether a process with these facts goes on after a signal whose default action ends it, or takes it
    /// later.
    pub fn survives(&self, signal: Signal) -> bool {
        self.ignored.contains(signal)
            || self.caught.contains(signal)
            || self.blocked.contains(signal)
    }

    /// Returns the facts about a process that blocks nothing.
    #[cfg(test)]
    pub fn plain(ignored: SignalSet, caught: SignalSet) -> Self {
        Self { ignored, caught, blocked: SignalSet::EMPTY, is_plain: true }
    }

    /// Returns the verdict on a signal to the whole process; none where more facts decide: for a signal that
    /// its main thread blocks or may be waiting for, and in a process that is traced.
    pub fn verdict(&self, signal: Signal, init: Option<InitSender>) -> Option<Verdict> {
        if !self.is_plain || self.blocked.contains(signal) {
            return None;
        }
        let main = ThreadWaits::asleep(0);
        let waits =
            Fact::Known(Waits { threads: vec![main], all_threads: true, ..Waits::default() });
        let state = SignalState {
            is_starting: false,
            state: ProcessState::SLEEPING,
            is_alive: true,
            ignored: self.ignored,
            caught: self.caught,
            blocked: SignalSet::EMPTY,
            pending: SignalSet::EMPTY,
            waits: &waits,
            init,
            tracer: 0,
            frozen: Freezer::Thawed,
            orphaned: None,
            killable: false,
        };
        let verdict = predict(&state, signal, Recipient::Process).verdict;
        (verdict != Verdict::Unknown).then_some(verdict)
    }
}

/// Whether an outcome is one that a verdict excludes. `Queued` and the like exclude none: a queued signal may
/// still be dropped when it is taken.
pub fn contradicts(verdict: Verdict, outcome: SignalOutcome) -> bool {
    use SignalOutcome as Outcome;
    let is_lost = matches!(verdict, Verdict::Ignored | Verdict::Discarded | Verdict::NoEffect);
    match outcome {
        Outcome::Ignored | Outcome::Discarded | Outcome::Dropped | Outcome::NoEffect => {
            // (CONT continues a process, ignored or not.)
            !is_lost && verdict != Verdict::Continues
        }
        Outcome::Handler => !matches!(verdict, Verdict::Handled | Verdict::Continues),
        Outcome::Terminates => !matches!(verdict, Verdict::Terminates | Verdict::Dumps),
        Outcome::Stops => verdict != Verdict::Stops,
        Outcome::Queued
        | Outcome::QueuedWithoutInfo
        | Outcome::Merged
        | Outcome::QueueFull
        | Outcome::Unknown => false,
    }
}

/// Verdicts that are remembered.
const MAX_VERDICTS: usize = 4096;

/// The verdicts on the last signal of each kind to a process, until its effect is seen.
#[derive(Debug, Default)]
pub struct VerdictLog {
    verdicts: HashMap<(i32, Signal), Verdict>,
    /// How many of them the kernel contradicted.
    pub contradicted: u64,
}

impl VerdictLog {
    /// Remembers the verdict on a signal that was sent; with none, that there is none.
    pub fn note(&mut self, pid: i32, signal: Signal, verdict: Option<Verdict>) {
        if self.verdicts.len() >= MAX_VERDICTS {
            self.verdicts.clear();
        }
        match verdict {
            Some(verdict) => self.verdicts.insert((pid, signal), verdict),
            None => self.verdicts.remove(&(pid, signal)),
        };
    }

    /// Returns the verdict that an outcome contradicts.
    pub fn outcome(&mut self, pid: i32, signal: Signal, outcome: SignalOutcome) -> Option<Verdict> {
        let verdict = self.verdicts.get(&(pid, signal)).copied();
        let verdict = verdict.filter(|verdict| contradicts(*verdict, outcome));
        self.contradicted += u64::from(verdict.is_some());
        verdict
    }

    /// Returns the verdict that the end of a process by a signal contradicts, and removes the process.
    pub fn exit(&mut self, pid: i32, signal: Option<Signal>) -> Option<Verdict> {
        let outcome = SignalOutcome::Terminates;
        let verdict = signal.and_then(|signal| self.outcome(pid, signal, outcome));
        self.verdicts.retain(|(of, _), _| *of != pid);
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(ignored: Signal, caught: Signal, blocked: Signal) -> SignalFacts {
        SignalFacts {
            ignored: ignored.into(),
            caught: caught.into(),
            blocked: blocked.into(),
            is_plain: true,
        }
    }

    #[test]
    fn a_verdict_needs_facts_that_decide() {
        let process = facts(Signal::HUP, Signal::TERM, Signal::USR1);
        let child = |signal| process.verdict(signal, None);
        assert_eq!(child(Signal::TERM), Some(Verdict::Handled));
        assert_eq!(child(Signal::HUP), Some(Verdict::Ignored));
        assert_eq!(child(Signal::USR1), None);
        assert_eq!(child(Signal::INT), Some(Verdict::Terminates));
        let init = |signal| process.verdict(signal, Some(InitSender::OwnNamespace));
        assert_eq!(init(Signal::INT), Some(Verdict::Discarded));
        assert_eq!(init(Signal::KILL), Some(Verdict::Discarded));
        let traced = SignalFacts { is_plain: false, ..process };
        assert_eq!(traced.verdict(Signal::TERM, None), None);
    }

    #[test]
    fn only_an_effect_that_a_verdict_excludes_contradicts_it() {
        use SignalOutcome as Outcome;
        for (verdict, outcome, is_wrong) in [
            (Verdict::Handled, Outcome::Queued, false),
            (Verdict::Handled, Outcome::Handler, false),
            (Verdict::Handled, Outcome::Ignored, true),
            (Verdict::Handled, Outcome::Terminates, true),
            (Verdict::Terminates, Outcome::Terminates, false),
            (Verdict::Dumps, Outcome::Terminates, false),
            (Verdict::Terminates, Outcome::Handler, true),
            (Verdict::Terminates, Outcome::Discarded, true),
            (Verdict::Ignored, Outcome::Ignored, false),
            (Verdict::Ignored, Outcome::Queued, false),
            (Verdict::Ignored, Outcome::NoEffect, false),
            (Verdict::Ignored, Outcome::Handler, true),
            (Verdict::Discarded, Outcome::Terminates, true),
            (Verdict::Continues, Outcome::NoEffect, false),
            (Verdict::Stops, Outcome::Stops, false),
            (Verdict::Stops, Outcome::Terminates, true),
        ] {
            assert_eq!(contradicts(verdict, outcome), is_wrong, "{verdict:?} {outcome:?}");
        }
    }
}
