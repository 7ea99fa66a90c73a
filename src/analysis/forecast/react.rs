//! The reaction of a process to a signal, from the effect of the signal and from the program.

use std::time::Duration;

use super::ForecastInput;
use super::inits;
use super::reaction::{Exits, Reaction};
use super::runners;
use super::servers;
use super::services;
use super::shells;
use super::supervisord;
use super::uwsgi;
use crate::analysis::delivery::Prediction;
use crate::analysis::programs::{Workers, program_of, program_outcome};
use crate::model::process::BlockedForNow;
use crate::model::signal::Signal;
use crate::model::verdict::Verdict;

/// Returns the reaction of a process to a signal, given its effect.
pub(super) fn react(
    input: &ForecastInput<'_>,
    process: usize,
    signal: Signal,
    prediction: &Prediction,
) -> Reaction {
    let facts = &input.processes[process].facts;
    let note = |text: String| match &prediction.note {
        Some(note) => format!("{text}: {note}"),
        None => text,
    };
    if signal == Signal::KILL {
        return Reaction::new(Exits::No, "KILL gives it no time to exit");
    }
    match prediction.verdict {
        Verdict::Terminates | Verdict::Dumps => {
            // Workers of a server notice that it is gone.
            let has_workers = program_of(facts).is_some_and(|p| p.workers != Workers::None);
            let reaction = Reaction::new(Exits::Yes, format!("{signal} terminates it"));
            Reaction {
                may_stop_descendants: has_workers,
                exits_after: Some(Duration::ZERO),
                ..reaction
            }
        }
        Verdict::Discarded => Reaction::new(
            Exits::ByChild,
            format!("has no handler for {signal}, which the kernel discards"),
        ),
        Verdict::Ignored => Reaction::new(Exits::ByChild, format!("ignores {signal}")),
        Verdict::Stops => Reaction::new(Exits::No, format!("{signal} stops it")),
        Verdict::Continues => Reaction::new(Exits::No, format!("{signal} resumes it")),
        Verdict::NoEffect => Reaction::new(Exits::Yes, "has exited already"),
        // (If it has a handler, that may stop the others.)
        Verdict::Unknown => Reaction {
            may_stop_descendants: true,
            ..Reaction::new(Exits::Maybe, note(format!("cannot tell what {signal} does")))
        },
        Verdict::Delayed => delayed(input, process, note(format!("{signal} {DELAYED}"))),
        Verdict::Pending => pending(input, process, signal, prediction),
        Verdict::Handled | Verdict::Accepted => received(input, process, signal, prediction),
    }
}

const DELAYED: &str = "has no effect until it runs again";

/// Returns the reaction of a process that does not run.
fn delayed(input: &ForecastInput<'_>, process: usize, why: String) -> Reaction {
    // (Its sleep may end at any moment: a disk answers, the child of a vfork(2) goes on. Docker and
    // `stop --unpause` resume a paused container that they stop, not one process that is frozen.)
    let is_stop = !input.procedure.schedule.steps.is_empty();
    let may_run = match input.is_frozen(process) {
        true => is_stop && input.init_index().is_some_and(|init| input.is_frozen(init)),
        false => input.processes[process].facts.stat.state.is_uninterruptible(),
    };
    let exits = if may_run { Exits::Maybe } else { Exits::No };
    Reaction { may_stop_descendants: may_run, ..Reaction::new(exits, why) }
}

/// Returns the reaction of a process that blocks a signal. A mask that was seen once is not a fact about the
/// next second.
fn pending(
    input: &ForecastInput<'_>,
    process: usize,
    signal: Signal,
    prediction: &Prediction,
) -> Reaction {
    let facts = &input.processes[process].facts;
    let reason = facts.blocked_for_now(signal, input.limit());
    if reason.is_some() && input.is_suspended(process) {
        return delayed(input, process, format!("blocks {signal} at this moment, which {DELAYED}"));
    }
    let later = match reason {
        Some(BlockedForNow::Handler) => Verdict::Handled,
        Some(BlockedForNow::Signalfd | BlockedForNow::Running) => Verdict::Accepted,
        Some(_) | None => Verdict::Pending,
    };
    let later = Prediction { verdict: later, ..prediction.clone() };
    if program_outcome(facts, signal, &later).is_some() {
        return received(input, process, signal, &later);
    }
    match reason {
        Some(reason) => {
            let why = format!("blocks {signal} at this moment; {}", reason.describe());
            Reaction { may_stop_descendants: true, ..Reaction::new(Exits::Maybe, why) }
        }
        None => {
            let note = prediction.note.as_ref().map_or_else(String::new, |n| format!(": {n}"));
            let why = format!("blocks {signal}, and no thread is waiting for it{note}");
            Reaction::new(Exits::ByChild, why)
        }
    }
}

/// Returns the reaction of a process that receives a signal.
fn received(
    input: &ForecastInput<'_>,
    process: usize,
    signal: Signal,
    prediction: &Prediction,
) -> Reaction {
    let forwards = inits::forwarder(input, process, signal)
        .or_else(|| runners::runner(input, process, signal))
        .or_else(|| services::supervisor(input, process, signal))
        .or_else(|| supervisord::supervisord(input, process, signal))
        .or_else(|| shells::shell(input, process, signal));
    if let Some(reaction) = forwards {
        return in_time(input, reaction);
    }
    let facts = &input.processes[process].facts;
    let known = uwsgi::swapped(input, process, signal)
        .or_else(|| program_outcome(facts, signal, prediction));
    let Some((outcome, text)) = known else {
        let why = format!("handles {signal}; whether it exits then cannot be seen from outside");
        return Reaction { may_stop_descendants: true, ..Reaction::new(Exits::Maybe, why) };
    };
    in_time(input, servers::server(input, process, signal, outcome, text))
}

/// The time within which every program has exited that exits at once: some look for signals once a second.
const EXIT_TIME: Duration = Duration::from_secs(2);

/// Returns the reaction of a program that may take longer to exit than a short grace period.
fn in_time(input: &ForecastInput<'_>, reaction: Reaction) -> Reaction {
    let is_known = reaction.exits != Exits::Yes || reaction.exits_after.is_some();
    if is_known || input.limit() >= EXIT_TIME {
        return reaction;
    }
    let why = format!("{}; that may take longer than the grace period", reaction.why);
    Reaction { exits: Exits::Maybe, why, ..reaction }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::selection::tests::process;
    use crate::model::process::{Fact, Process};
    use crate::model::signal::SignalSet;
    use crate::model::signal_waiters::{CallReturn, ThreadWaits, Waits};

    const GRACE: Duration = Duration::from_secs(10);

    /// Returns why a process that blocks TERM may accept it.
    fn reason(
        caught: SignalSet,
        has_timer: Option<bool>,
        returns: Option<CallReturn>,
    ) -> Option<BlockedForNow> {
        let blocked = SignalSet::from(Signal::TERM);
        let thread = ThreadWaits { blocked, returns, ..ThreadWaits::asleep(107) };
        let waits =
            Waits { threads: vec![thread], all_threads: true, has_timer, ..Waits::default() };
        let mut process: Process = process(107, 100, 7, "worker", 0);
        process.status.sig_blk = blocked;
        process.status.sig_cgt = caught;
        process.waits = Fact::Known(waits);
        process.blocked_for_now(Signal::TERM, GRACE)
    }

    #[test]
    fn a_timer_may_interrupt_a_process_that_blocks_the_signal() {
        let (none, usr1) = (SignalSet::EMPTY, SignalSet::from(Signal::USR1));
        let alarm = SignalSet::from(Signal::ALRM);
        for (caught, has_timer, expected) in [
            (usr1, Some(false), None),
            (none, None, None),
            (none, Some(true), Some(BlockedForNow::Timer)),
            (usr1, None, Some(BlockedForNow::PossibleTimer)),
            (alarm, Some(false), Some(BlockedForNow::Alarm)),
        ] {
            assert_eq!(reason(caught, has_timer, None), expected);
        }
    }

    #[test]
    fn a_call_that_returns_in_time_may_be_followed_by_a_check() {
        let after = |least: Duration| Some(CallReturn { least, is_certain: true });
        for (returns, expected) in [
            (after(GRACE / 2), Some(BlockedForNow::Timeout)),
            (after(GRACE), None),
            (Some(CallReturn::POSSIBLE), Some(BlockedForNow::PossibleTimeout)),
        ] {
            assert_eq!(reason(SignalSet::EMPTY, Some(false), returns), expected);
        }
    }
}
