//! The reaction of a Node.js program to a signal, from the signals that it listens for. Measured with Node.js
//! 12 to 24, as PID 1 and otherwise (tests/it/program_signals.rs).

use super::Outcome;
use crate::model::process::Process;
use crate::model::signal::Signal;

/// Returns whether a Node.js program exits on a signal that it handles, and what it does; none if that is
/// not known. Its own handlers for INT and TERM raise the signal again with the default action.
pub(super) fn outcome(process: &Process, signal: Signal) -> Option<(Outcome, String)> {
    let Some(Ok(asked)) = &process.asked else { return None };
    let is_init = process.status.is_namespace_init();
    let unasked = "the program has no listener for it (process.on)";
    if asked.wanted.contains(signal) {
        let text = format!("the program has a listener for {signal} (process.on)");
        return Some((Outcome::Unknown, text));
    }
    if ![Signal::INT, Signal::TERM].contains(&signal) {
        return None;
    }
    Some(match is_init {
        true => (Outcome::Continues, format!("ignores it: {unasked}")),
        false => (Outcome::Exits, format!("is terminated by it: {unasked}")),
    })
}
