//! The signal that ends a process. For each thread of a process that ends, by a signal, by exit_group(2) or
//! because another thread calls execve(2), the kernel records a delivery of KILL (kernel/signal.c,
//! `get_signal`): only a signal that was sent before distinguishes the two. Pure.

use std::collections::HashMap;

use super::trace_outcome::SignalOutcome;
use super::trace_verdict::SignalFacts;
use crate::model::signal::{DefaultAction, Signal};

/// Processes that are remembered.
const MAX_PROCESSES: usize = 4096;

/// The signals that end processes, until their delivery is seen.
#[derive(Debug, Default)]
pub struct FatalSignals(HashMap<i32, (Signal, i32)>);

impl FatalSignals {
    /// Notes a signal that was sent to a process, with its `si_code`, if it may end the process, as far as
    /// the facts about the process are known.
    pub fn sent(
        &mut self,
        pid: i32,
        (signal, code): (Signal, i32),
        outcome: SignalOutcome,
        facts: Option<SignalFacts>,
    ) {
        let is_queued = matches!(outcome, SignalOutcome::Queued | SignalOutcome::QueuedWithoutInfo);
        let is_deadly =
            matches!(signal.default_action(), DefaultAction::Terminate | DefaultAction::Core);
        let is_taken_otherwise = facts.is_some_and(|facts| facts.survives(signal));
        if !is_queued || !is_deadly || (is_taken_otherwise && signal != Signal::KILL) {
            return;
        }
        if self.0.len() >= MAX_PROCESSES {
            self.0.clear();
        }
        self.0.entry(pid).or_insert((signal, code));
    }

    /// Notes that a process took a signal and goes on.
    pub fn survived(&mut self, pid: i32, signal: Signal) {
        if self.0.get(&pid).is_some_and(|(fatal, _)| *fatal == signal) {
            self.0.remove(&pid);
        }
    }

    /// Takes the signal behind a recorded delivery of KILL, with its `si_code`; none if a thread
    /// merely ends, or for further threads.
    pub fn take(&mut self, pid: i32) -> Option<(Signal, i32)> {
        self.0.remove(&pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::signal::SignalSet;

    #[test]
    fn a_delivery_of_kill_stands_for_the_signal_that_was_sent() {
        let handles = SignalFacts::plain(SignalSet::EMPTY, Signal::TERM.into());
        let mut fatal = FatalSignals::default();
        let mut send = |pid, signal, outcome, facts| {
            fatal.sent(pid, (signal, 0), outcome, facts);
        };
        send(1, Signal::INT, SignalOutcome::Queued, Some(handles));
        send(1, Signal::KILL, SignalOutcome::Queued, Some(handles));
        send(2, Signal::TERM, SignalOutcome::Queued, Some(handles));
        send(3, Signal::TERM, SignalOutcome::Ignored, None);
        send(4, Signal::WINCH, SignalOutcome::Queued, None);
        send(5, Signal::TERM, SignalOutcome::Queued, None);
        send(6, Signal::TERM, SignalOutcome::Queued, None);
        send(7, Signal::KILL, SignalOutcome::Queued, Some(handles));
        fatal.survived(5, Signal::TERM);
        fatal.survived(6, Signal::INT);
        let taken: Vec<_> = (1..=7).map(|pid| fatal.take(pid).map(|(signal, _)| signal)).collect();
        let wanted =
            [Some(Signal::INT), None, None, None, None, Some(Signal::TERM), Some(Signal::KILL)];
        assert_eq!(taken, wanted);
        assert_eq!(fatal.take(1), None, "a further thread");
    }
}
