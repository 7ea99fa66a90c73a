//! The reaction of a process to a signal, from the effect of the signal and from the program.

use super::ForecastInput;
use super::inits;
use super::reaction::{Exits, Reaction};
use super::runners;
use super::services;
use super::shells;
use super::supervisord;
use crate::analysis::delivery::Prediction;
use crate::analysis::programs::{Forwarding, Outcome, program_of, program_outcome};
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
            Reaction::new(Exits::Yes, format!("{signal} terminates it"))
        }
        Verdict::Discarded => Reaction::new(
            Exits::ByChild,
            format!("has no handler for {signal}, which the kernel discards"),
        ),
        Verdict::Ignored => Reaction::new(Exits::ByChild, format!("ignores {signal}")),
        Verdict::Stops => Reaction::new(Exits::No, format!("{signal} stops it")),
        Verdict::Continues => Reaction::new(Exits::No, format!("{signal} resumes it")),
        Verdict::NoEffect => Reaction::new(Exits::Yes, "has exited already"),
        Verdict::Unknown => {
            Reaction::new(Exits::Maybe, note(format!("cannot tell what {signal} does")))
        }
        Verdict::Delayed => {
            Reaction::new(Exits::No, note(format!("{signal} has no effect until it runs again")))
        }
        // A mask that was seen once is not a fact about the next second.
        Verdict::Pending if facts.status.sig_cgt.contains(signal) => {
            let unblocked = Prediction { verdict: Verdict::Handled, ..prediction.clone() };
            if program_outcome(facts, signal, &unblocked).is_some() {
                return received(input, process, signal, &unblocked);
            }
            let why =
                format!("blocks {signal} at this moment; its handler runs when it is unblocked");
            Reaction::new(Exits::Maybe, why)
        }
        // A program may poll for it with sigtimedwait(2) now and then.
        Verdict::Pending if program_outcome(facts, signal, prediction).is_some() => {
            received(input, process, signal, prediction)
        }
        Verdict::Pending => Reaction::new(
            Exits::No,
            note(format!("blocks {signal}, and no thread is waiting for it")),
        ),
        Verdict::Handled | Verdict::Accepted => received(input, process, signal, prediction),
    }
}

/// Returns the reaction of a process that receives a signal.
fn received(
    input: &ForecastInput<'_>,
    process: usize,
    signal: Signal,
    prediction: &Prediction,
) -> Reaction {
    if let Some(reaction) = inits::forwarder(input, process, signal) {
        return reaction;
    }
    if let Some(reaction) = runners::runner(input, process, signal) {
        return reaction;
    }
    if let Some(reaction) = services::supervisor(input, process, signal) {
        return reaction;
    }
    if let Some(reaction) = supervisord::supervisord(input, process, signal) {
        return reaction;
    }
    if let Some(reaction) = shells::shell(input, process, signal) {
        return reaction;
    }
    let facts = &input.processes[process].facts;
    let Some((outcome, text)) = program_outcome(facts, signal, prediction) else {
        let why = format!("handles {signal}; whether it exits then cannot be seen from outside");
        return Reaction { may_stop_descendants: true, ..Reaction::new(Exits::Maybe, why) };
    };
    let exits = match outcome {
        Outcome::Exits => Exits::Yes,
        Outcome::Continues | Outcome::ReplacesWorkers => Exits::No,
        Outcome::Unknown => Exits::Maybe,
    };
    let mut reaction = Reaction::new(exits, text);
    let forwards = program_of(facts).map_or(Forwarding::Unknown, |program| program.forwards);
    reaction.may_stop_descendants = match outcome {
        Outcome::Continues => false,
        // Measured: on HUP runsvdir exits while its services get TERM, and may be the faster.
        Outcome::Unknown => true,
        Outcome::Exits | Outcome::ReplacesWorkers => forwards != Forwarding::None,
    };
    // The workers of a server run its own program, and it waits for them.
    let stops_workers = program_of(facts).is_some_and(|program| program.stops_workers);
    let is_stopped = matches!(outcome, Outcome::Exits | Outcome::ReplacesWorkers);
    if is_stopped && stops_workers {
        let workers = input.children(process).into_iter();
        reaction.stops =
            workers.filter(|child| input.processes[*child].facts.exe == facts.exe).collect();
    }
    reaction
}
