//! Servers: the reaction of a known program, of the workers that it stops, and to the clients that it
//! waits for.

use std::time::Duration;

use super::ForecastInput;
use super::reaction::{Exits, Reaction};
use super::saving;
use crate::analysis::programs::{Forwarding, Outcome, Workers, program_of};
use crate::model::lookup::Lookup;
use crate::model::signal::Signal;

/// Returns the reaction of a known program, given whether it exits.
pub(super) fn server(
    input: &ForecastInput<'_>,
    process: usize,
    signal: Signal,
    outcome: Outcome,
    text: String,
) -> Reaction {
    let facts = &input.processes[process].facts;
    let (outcome, text) = match outcome {
        Outcome::Exits | Outcome::Drains if has_starting_worker(input, process) => {
            (Outcome::Unknown, format!("{text}; a worker that is still starting may delay that"))
        }
        Outcome::Exits | Outcome::Drains if let Some(child) = suspended_child(input, process) => {
            let child = input.name(child);
            (Outcome::Unknown, format!("{text}; {child} does not run, and may delay that"))
        }
        Outcome::Exits | Outcome::Drains if let Some(worker) = ignoring_worker(input, process) => {
            let worker = input.name(worker);
            (Outcome::Unknown, format!("{text}; {worker} ignores signals and may delay that"))
        }
        Outcome::Drains => drained(input, process, text),
        other => (other, text),
    };
    let (outcome, text) = match outcome {
        Outcome::Exits if saving::may_save(input, process, signal) => {
            (Outcome::Unknown, format!("{text}; writing its data may outlast the grace period"))
        }
        other => (other, text),
    };
    let exits = match outcome {
        Outcome::Exits | Outcome::ExitsFirst | Outcome::Ends => Exits::Yes,
        Outcome::Continues | Outcome::ReplacesWorkers => Exits::No,
        Outcome::Drains | Outcome::Unknown => Exits::Maybe,
    };
    let mut reaction = Reaction::new(exits, text);
    let forwards = program_of(facts).map_or(Forwarding::Unknown, |program| program.forwards);
    reaction.may_stop_descendants = match outcome {
        Outcome::Continues | Outcome::Ends => false,
        // Measured: on HUP runsvdir exits while its services get TERM, and may be the faster.
        Outcome::ExitsFirst | Outcome::Drains | Outcome::Unknown => true,
        Outcome::Exits | Outcome::ReplacesWorkers => forwards != Forwarding::None,
    };
    // (Printing the stacks of many goroutines takes its time.)
    if outcome == Outcome::Ends && [Signal::TERM, Signal::INT, Signal::HUP].contains(&signal) {
        reaction.exits_after = Some(Duration::ZERO);
    }
    stop_workers(input, process, outcome, &mut reaction);
    reaction
}

/// Adds the workers that a server stops, and the children that it waits for.
fn stop_workers(
    input: &ForecastInput<'_>,
    process: usize,
    outcome: Outcome,
    reaction: &mut Reaction,
) {
    let facts = &input.processes[process].facts;
    let Some(program) = program_of(facts) else { return };
    let stops = matches!(outcome, Outcome::Exits | Outcome::ReplacesWorkers);
    if !stops || program.workers == Workers::None {
        return;
    }
    let is_worker = |child: &usize| input.processes[*child].facts.exe == facts.exe;
    let (own, others): (Vec<usize>, Vec<usize>) =
        input.children(process).into_iter().partition(is_worker);
    let may_be_killed = |worker: &usize| {
        let caught = input.processes[*worker].facts.status.sig_cgt;
        program.kills_workers_with_handler_of.is_some_and(|signal| caught.contains(signal))
    };
    reaction.stops = own.into_iter().filter(|worker| !may_be_killed(worker)).collect();
    let awaits = program.workers == Workers::SameProgramAwaitsAll && outcome == Outcome::Exits;
    if let [first, ..] = others[..]
        && awaits
    {
        reaction.why = format!("{}; first it waits for {}", reaction.why, input.name(first));
        reaction.exits = Exits::After(others);
    }
}

/// Returns the outcome for a server that waits for its clients, from those that are connected now to it and
/// to its workers.
fn drained(input: &ForecastInput<'_>, process: usize, text: String) -> (Outcome, String) {
    let servers = servers(input, process);
    let mut facts = servers.iter().map(|server| &input.processes[*server].facts);
    let threads_delay =
        program_of(&input.processes[process].facts).is_some_and(|p| p.threads_delay);
    let has_threads = threads_delay && facts.any(|facts| facts.status.threads > 1);
    let mut clients = 0;
    for server in servers {
        match client_count(input, server) {
            Ok(count) => clients += count,
            Err(why) => return (Outcome::Drains, format!("{text}; its clients: {why}")),
        }
    }
    match clients {
        0 if has_threads => {
            (Outcome::Drains, format!("{text}; threads of its application may delay that"))
        }
        0 => (Outcome::Exits, format!("{text}; no client is connected now")),
        1 => (
            Outcome::Drains,
            format!("{text}; 1 client is connected, and may outlast the grace period"),
        ),
        count => (
            Outcome::Drains,
            format!("{text}; {count} clients are connected, and may outlast the grace period"),
        ),
    }
}

/// Returns how many clients are connected to a process.
fn client_count(input: &ForecastInput<'_>, process: usize) -> Result<usize, String> {
    let content = input.look_up(process, Lookup::Clients).map_err(|error| error.to_string())?;
    let count = std::str::from_utf8(&content.bytes).ok().and_then(|text| text.parse().ok());
    count.ok_or_else(|| "not a number".to_owned())
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

/// Returns a child of a server that does not run: the server may wait for it.
fn suspended_child(input: &ForecastInput<'_>, process: usize) -> Option<usize> {
    let program = program_of(&input.processes[process].facts)?;
    let mut children = input.children(process).into_iter();
    children.find(|child| program.forwards != Forwarding::None && input.is_suspended(*child))
}

/// Returns a worker of a server that ignores a signal which its workers handle: the application in it did that,
/// and the server waits for it.
fn ignoring_worker(input: &ForecastInput<'_>, process: usize) -> Option<usize> {
    let facts = &input.processes[process].facts;
    let ignores = |worker: &usize| {
        let worker = &input.processes[*worker].facts;
        let stops = [Signal::TERM, Signal::INT, Signal::QUIT];
        worker.exe == facts.exe && stops.iter().any(|stop| worker.status.sig_ign.contains(*stop))
    };
    program_of(facts).filter(|program| program.workers_have_own_handlers)?;
    input.children(process).into_iter().find(ignores)
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
