//! The reaction of a process to a signal, from the effect of the signal and from the program.

use super::ForecastInput;
use super::inits;
use super::reaction::{Exits, Reaction};
use super::runners;
use super::services;
use super::shells;
use super::supervisord;
use super::uwsgi;
use crate::analysis::delivery::Prediction;
use crate::analysis::programs::{Forwarding, Outcome, Workers, program_of, program_outcome};
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
            Reaction { may_stop_descendants: has_workers, ..reaction }
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
    let forwards = inits::forwarder(input, process, signal)
        .or_else(|| runners::runner(input, process, signal))
        .or_else(|| services::supervisor(input, process, signal))
        .or_else(|| supervisord::supervisord(input, process, signal))
        .or_else(|| shells::shell(input, process, signal));
    if let Some(reaction) = forwards {
        return reaction;
    }
    let facts = &input.processes[process].facts;
    let known = uwsgi::swapped(input, process, signal)
        .or_else(|| program_outcome(facts, signal, prediction));
    let Some((outcome, text)) = known else {
        let why = format!("handles {signal}; whether it exits then cannot be seen from outside");
        return Reaction { may_stop_descendants: true, ..Reaction::new(Exits::Maybe, why) };
    };
    let (outcome, text) = match outcome {
        Outcome::Exits | Outcome::Drains if has_starting_worker(input, process) => {
            (Outcome::Unknown, format!("{text}; a worker that is still starting may delay that"))
        }
        Outcome::Drains => drained(input, process, text),
        other => (other, text),
    };
    let exits = match outcome {
        Outcome::Exits => Exits::Yes,
        Outcome::Continues | Outcome::ReplacesWorkers => Exits::No,
        Outcome::Drains | Outcome::Unknown => Exits::Maybe,
    };
    let mut reaction = Reaction::new(exits, text);
    let forwards = program_of(facts).map_or(Forwarding::Unknown, |program| program.forwards);
    reaction.may_stop_descendants = match outcome {
        Outcome::Continues => false,
        // Measured: on HUP runsvdir exits while its services get TERM, and may be the faster.
        Outcome::Drains | Outcome::Unknown => true,
        Outcome::Exits | Outcome::ReplacesWorkers => forwards != Forwarding::None,
    };
    let workers = program_of(facts).map_or(Workers::None, |program| program.workers);
    if matches!(outcome, Outcome::Exits | Outcome::ReplacesWorkers) && workers != Workers::None {
        let is_worker = |child: &usize| input.processes[*child].facts.exe == facts.exe;
        let (own, others) = input.children(process).into_iter().partition(is_worker);
        reaction.stops = own;
        let awaits = workers == Workers::SameProgramAwaitsAll && outcome == Outcome::Exits;
        if let [first, ..] = others[..]
            && awaits
        {
            reaction.why = format!("{}; first it waits for {}", reaction.why, input.name(first));
            reaction.exits = Exits::After(others);
        }
    }
    reaction
}

/// Returns the outcome for a server that waits for its clients, from those that are connected now to it and
/// to its workers.
fn drained(input: &ForecastInput<'_>, process: usize, text: String) -> (Outcome, String) {
    let servers = servers(input, process);
    let facts = servers.iter().map(|server| &input.processes[*server].facts);
    let threads_delay =
        program_of(&input.processes[process].facts).is_some_and(|p| p.threads_delay);
    let has_threads = threads_delay && facts.clone().any(|facts| facts.status.threads > 1);
    let clients = facts.map(|facts| facts.clients.known().copied()).sum::<Option<usize>>();
    match clients {
        None => (Outcome::Drains, format!("{text}; its clients could not be counted")),
        Some(0) if has_threads => {
            (Outcome::Drains, format!("{text}; threads of its application may delay that"))
        }
        Some(0) => (Outcome::Exits, format!("{text}; no client is connected now")),
        Some(1) => (
            Outcome::Drains,
            format!("{text}; 1 client is connected, and may outlast the grace period"),
        ),
        Some(count) => (
            Outcome::Drains,
            format!("{text}; {count} clients are connected, and may outlast the grace period"),
        ),
    }
}

/// Whether a worker of a server still has the handlers that it inherited, which do nothing in it.
fn has_starting_worker(input: &ForecastInput<'_>, process: usize) -> bool {
    let facts = &input.processes[process].facts;
    let is_starting = |worker: &usize| {
        let worker = &input.processes[*worker].facts;
        worker.exe == facts.exe && worker.status.sig_cgt == facts.status.sig_cgt
    };
    program_of(facts).is_some_and(|program| program.workers_have_own_handlers)
        && input.children(process).iter().any(is_starting)
}

/// Returns a server and its descendants that run the same program.
fn servers(input: &ForecastInput<'_>, process: usize) -> Vec<usize> {
    let exe = &input.processes[process].facts.exe;
    let mut found = vec![process];
    let mut next = 0;
    while let Some(server) = found.get(next).copied() {
        next += 1;
        // (A snapshot of changing processes could have a circle.)
        let children = input.children(server).into_iter();
        let workers: Vec<usize> = children
            .filter(|child| input.processes[*child].facts.exe == *exe && !found.contains(child))
            .collect();
        found.extend(workers);
    }
    found
}
