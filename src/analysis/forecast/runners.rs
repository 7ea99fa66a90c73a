//! Programs that run a command and forward signals to it: npm, timeout, sudo, su. Each is measured in
//! tests/it/forecast.rs.

use super::ForecastInput;
use super::reaction::{Exits, Forward, Reaction, Targets};
use crate::analysis::programs::{NPM, RUNNER, program_of};
use crate::model::signal::Signal;

/// Returns the reaction of a program that forwards a signal to its command or services; none if the
/// process does not run such a program, or that does something else with this signal.
pub(super) fn runner(
    input: &ForecastInput<'_>,
    process: usize,
    signal: Signal,
) -> Option<Reaction> {
    let facts = &input.processes[process].facts;
    let is_stop = [Signal::TERM, Signal::INT, Signal::QUIT].contains(&signal);
    let forwarded = match program_of(facts)?.name {
        NPM if is_stop => signal,
        RUNNER if facts.stat.comm == b"su" => Signal::TERM,
        RUNNER if is_stop || signal == Signal::HUP => signal,
        _ => return None,
    };
    let children = input.children(process);
    if children.is_empty() {
        let why = format!("has nothing to stop; {signal} ends it");
        return Some(Reaction::new(Exits::Yes, why));
    }
    let names: Vec<String> = children.iter().map(|child| input.name(*child)).collect();
    let mut reaction = Reaction::new(
        Exits::After(children.clone()),
        format!("sends {forwarded} to {} and waits for it", names.join(", ")),
    );
    let targets = match facts.stat.comm.as_slice() {
        // timeout(1) leads the process group of its command, and signals all of it.
        b"timeout" => Targets::Group(facts.stat.pgrp),
        _ => Targets::Processes(children),
    };
    reaction.forwards = vec![Forward::certain(targets, forwarded)];
    Some(reaction)
}
