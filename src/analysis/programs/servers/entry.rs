//! Constants and constructors for the entries of the tables.

pub(super) use super::super::go;
pub(super) use super::super::recognise::{PYTHON, RUBY, applet, runs, runs_script, runs_version};
pub(super) use super::super::{
    Effect, Forwarding, Outcome, PreferredSignal, Program, ProgramNote, Workers, note,
};
use crate::analysis::programs::recognise::Candidate;
use crate::model::program_signals::has_go_handlers;
use crate::model::signal::Signal;

pub(super) const TERM: Signal = Signal::TERM;
pub(super) const INT: Signal = Signal::INT;
pub(super) const QUIT: Signal = Signal::QUIT;
pub(super) const HUP: Signal = Signal::HUP;
pub(super) const USR1: Signal = Signal::USR1;
pub(super) const USR2: Signal = Signal::USR2;
pub(super) const WINCH: Signal = Signal::WINCH;
pub(super) const CHLD: Signal = Signal::CHLD;
pub(super) const ALRM: Signal = Signal::ALRM;
pub(super) const PIPE: Signal = Signal::PIPE;
pub(super) const CONT: Signal = Signal::CONT;
pub(super) const TTIN: Signal = Signal::TTIN;
pub(super) const TTOU: Signal = Signal::TTOU;

pub(super) const fn exits(signals: &'static [Signal], text: &'static str) -> ProgramNote {
    note(signals, Effect::Received, text).exits()
}

pub(super) const fn continues(signals: &'static [Signal], text: &'static str) -> ProgramNote {
    note(signals, Effect::Received, text).continues()
}

pub(super) const fn reloads(signals: &'static [Signal], text: &'static str) -> ProgramNote {
    note(signals, Effect::Received, text).replaces_workers()
}

/// Returns a reaction that depends on the program, or on facts that are not read.
pub(super) const fn depends(signals: &'static [Signal], text: &'static str) -> ProgramNote {
    note(signals, Effect::Received, text)
}

/// Whether it is this Go program.
pub(super) fn runs_go(process: &Candidate<'_>, name: &str) -> bool {
    let status = &process.status;
    runs(process, &[name]) && has_go_handlers(status.sig_cgt, status.sig_ign)
}

/// Returns a reaction whose duration depends on the clients, so it may outlast any grace period.
pub(super) const fn drains(signals: &'static [Signal], text: &'static str) -> ProgramNote {
    note(signals, Effect::Received, text).drains()
}

/// The text for most of them.
pub(super) const FINISHES: &str = "finishes open requests, then exits";

pub(super) const fn instead_of_term(signal: Signal, kills: bool) -> Option<PreferredSignal> {
    Some(PreferredSignal { instead_of: TERM, signal, kills })
}

/// A server in Go, and its reactions to the signals that it asks for.
pub(super) const GO: Program = Program { asked: go::unless_asked, ..Program::DEFAULT };

/// A server that stops all that it has started.
pub(super) const ALL: Program = Program { forwards: Forwarding::All, ..Program::DEFAULT };
