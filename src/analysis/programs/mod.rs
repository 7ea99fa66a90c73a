//! Known programs, and the effect of signals on each beyond what the kernel does: THE TABLE OF PROGRAMS, one
//! entry each. Programs are recognised by the handlers that they install and the executable that they run,
//! never by the name that they give themselves. The manual page cinspect-signals(7) reads the same table.

mod forwarding;
mod go;
mod node;
mod recognise;
mod servers;
mod table;

pub(in crate::analysis) use forwarding::{DUMB_INIT_OPTIONS, TINI_OPTIONS, rewrite};
pub use servers::{MOSQUITTO, UWSGI_MASTER};
pub use table::{
    DUMB_INIT, MAKE, NODE, NPM, RUNIT, RUNNER, RUNSV, S6_SUPERVISE, S6_SVSCAN, SHELL, SHELLS,
    SUPERVISORD, TINI, YARN,
};

use self::recognise::Candidate;
use super::delivery::Prediction;
use crate::model::process::Process;
use crate::model::signal::Signal;
use crate::model::verdict::Verdict;

/// A kind of program.
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// Its name in a note, if that is not the name of the process; else empty.
    label: &'static str,
    /// Which processes get the signal from it, if it is PID 1.
    pub forwards: Forwarding,
    /// The children that it stops, and waits for, when it exits on a signal.
    pub workers: Workers,
    /// Whether its workers replace its handlers when they are ready: until then they do nothing with
    /// signals.
    pub workers_have_own_handlers: bool,
    /// The signal after which it sends its workers SIGKILL, perhaps at once: one that has a handler for it may
    /// not get to its end.
    pub kills_workers_with_handler_of: Option<Signal>,
    /// The signals on which it writes its data before it exits, which takes as long as there are many of them.
    pub saves_on: &'static [Signal],
    /// Whether threads that the application started in it may keep it from exiting.
    pub threads_delay: bool,
    /// The signal that it exits on gracefully, if that is not the usual one.
    pub preferred: Option<PreferredSignal>,
    /// Whether a process runs it, by its executable and its arguments: all that a process can choose.
    matches: fn(&Candidate<'_>) -> bool,
    /// Signals that it always handles, or blocks to take them in another way.
    handles: &'static [Signal],
    /// Signals that it always ignores.
    ignores: &'static [Signal],
    /// Its reaction to a signal that it handles, where its options, or the signals that it asked its runtime
    /// for, decide that; none if they do not, or are not known.
    asked: fn(&Process, Signal) -> Option<(Outcome, String)>,
    /// Its note on a signal that it receives, where its options change it.
    by_options: fn(&Process, Signal) -> Option<String>,
    /// Its notes; the first that applies is used.
    notes: &'static [ProgramNote],
    /// A sentence that the manual page adds to the notes, or empty.
    remark: &'static str,
}

/// The processes to which a program forwards the signal that asks it to exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// Not known.
    Unknown,
    /// None, and it does not wait for any.
    None,
    /// Its direct child.
    Child,
    /// Every process that it started, or it stops them in another way.
    All,
}

/// The children that a program stops, and waits for, when it exits on a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// None, or it is not known which.
    None,
    /// Processes that run its own program.
    SameProgram,
    /// The same, and it waits for every other child, too, without stopping it.
    SameProgramAwaitsAll,
}

/// A signal that stops a program more gracefully than another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreferredSignal {
    /// The signal that does not stop it gracefully.
    pub instead_of: Signal,
    /// The signal that does.
    pub signal: Signal,
    /// Whether `instead_of` ends with it or its children being killed.
    pub kills: bool,
}

/// The effect of a signal on a program, in one case.
struct ProgramNote {
    /// The signals; empty for every signal but CHLD.
    signals: &'static [Signal],
    effect: Effect,
    role: Role,
    /// A predicate whose subject is the program, or a whole clause.
    text: &'static str,
    outcome: Outcome,
}

/// Whether a program exits on a signal that it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It exits.
    Exits,
    /// It exits, without waiting for its workers.
    ExitsFirst,
    /// Its runtime ends it: no code of the program runs, so that it stops none of the processes that it started.
    Ends,
    /// It keeps running.
    Continues,
    /// It keeps running, and replaces its workers or programs.
    ReplacesWorkers,
    /// It exits as soon as no client is connected.
    Drains,
    /// That depends on facts that are not known.
    Unknown,
}

/// The verdicts that a note applies to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Handled,
    Accepted,
    /// Handled or accepted.
    Received,
    Pending,
    Discarded,
    Terminates,
}

/// The position of the process in its PID namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Any,
    Init,
    NotInit,
}

const fn note(signals: &'static [Signal], effect: Effect, text: &'static str) -> ProgramNote {
    ProgramNote { signals, effect, role: Role::Any, text, outcome: Outcome::Unknown }
}

impl ProgramNote {
    const fn exits(self) -> Self {
        Self { outcome: Outcome::Exits, ..self }
    }

    const fn exits_first(self) -> Self {
        Self { outcome: Outcome::ExitsFirst, ..self }
    }

    const fn drains(self) -> Self {
        Self { outcome: Outcome::Drains, ..self }
    }

    const fn continues(self) -> Self {
        Self { outcome: Outcome::Continues, ..self }
    }

    const fn replaces_workers(self) -> Self {
        Self { outcome: Outcome::ReplacesWorkers, ..self }
    }

    const fn for_init(self) -> Self {
        Self { role: Role::Init, ..self }
    }

    const fn otherwise(self) -> Self {
        Self { role: Role::NotInit, ..self }
    }

    fn applies(&self, signal: Signal, verdict: Verdict, is_init: bool) -> bool {
        let is_signal = match self.signals {
            [] => signal != Signal::CHLD,
            signals => signals.contains(&signal),
        };
        let is_effect = match self.effect {
            Effect::Handled => verdict == Verdict::Handled,
            Effect::Accepted => verdict == Verdict::Accepted,
            Effect::Received => verdict.is_received(),
            Effect::Pending => verdict == Verdict::Pending,
            Effect::Discarded => verdict == Verdict::Discarded,
            Effect::Terminates => verdict == Verdict::Terminates,
        };
        let is_role = match self.role {
            Role::Any => true,
            Role::Init => is_init,
            Role::NotInit => !is_init,
        };
        is_signal && is_effect && is_role
    }

    /// Returns the note as a sentence of the manual page, with the signals that it is about.
    fn sentence(&self) -> String {
        let names: Vec<String> = self.signals.iter().map(|signal| signal.name()).collect();
        let signals = match (self.signals, self.effect) {
            ([], Effect::Handled) => "Any signal with a handler".into(),
            ([], Effect::Discarded | Effect::Terminates) => "Any signal without a handler".into(),
            ([], _) => "Any signal".into(),
            _ => names.join(", "),
        };
        let role = match self.role {
            Role::Any => "",
            Role::Init => " (as PID 1)",
            Role::NotInit => " (otherwise)",
        };
        format!("{signals}{role}: {}.", self.text)
    }
}

impl Program {
    const DEFAULT: Self = Self {
        name: "",
        label: "",
        forwards: Forwarding::Unknown,
        workers: Workers::None,
        workers_have_own_handlers: false,
        kills_workers_with_handler_of: None,
        saves_on: &[],
        threads_delay: false,
        preferred: None,
        matches: |_| false,
        handles: &[],
        ignores: &[],
        notes: &[],
        asked: |_, _| None,
        by_options: |_, _| None,
        remark: "",
    };

    /// Whether the dispositions of a process are those of the program.
    fn fits(&self, process: &Process) -> bool {
        let status = &process.status;
        let received = status.sig_cgt.union(status.sig_blk);
        self.handles.iter().all(|signal| received.contains(*signal))
            && self.ignores.iter().all(|signal| status.sig_ign.contains(*signal))
    }

    /// Returns what it does with signals, as sentences of the manual page.
    pub fn description(&self) -> String {
        let notes = self.notes.iter().map(ProgramNote::sentence);
        let remark = Some(self.remark).filter(|remark| !remark.is_empty()).map(str::to_owned);
        notes.chain(remark).collect::<Vec<_>>().join(" ")
    }
}

/// Returns the reaction of a process's program to a signal, given the kernel's part of it.
pub fn program_note(process: &Process, signal: Signal, prediction: &Prediction) -> Option<String> {
    let program = program_of(process)?;
    if let Some((_, text)) = asked_outcome(program, process, signal, prediction) {
        return Some(match program.label {
            "" => text,
            label => format!("{label}: {text}"),
        });
    }
    let verdict = prediction.later.unwrap_or(prediction.verdict);
    if let Some(text) = Some(signal)
        .filter(|_| verdict.is_received())
        .and_then(|signal| (program.by_options)(process, signal))
    {
        return Some(text);
    }
    let note = applicable_note(program, process, signal, prediction)?;
    let text = match (program.label, note.role) {
        ("", _) => note.text.to_owned(),
        (label, Role::Init) => format!("{label} as PID 1: {}", note.text),
        (label, _) => format!("{label}: {}", note.text),
    };
    Some(match &process.asked {
        Some(Err(why)) => format!("{text} (not known: {why})"),
        _ => text,
    })
}

/// Returns what a program does, from the signals that it asked for.
fn asked_outcome(
    program: &Program,
    process: &Process,
    signal: Signal,
    prediction: &Prediction,
) -> Option<(Outcome, String)> {
    let verdict = prediction.later.unwrap_or(prediction.verdict);
    (verdict == Verdict::Handled).then(|| (program.asked)(process, signal))?
}

fn applicable_note(
    program: &'static Program,
    process: &Process,
    signal: Signal,
    prediction: &Prediction,
) -> Option<&'static ProgramNote> {
    let is_init = process.status.is_namespace_init();
    let verdict = prediction.later.unwrap_or(prediction.verdict);
    program.notes.iter().find(|note| note.applies(signal, verdict, is_init))
}

/// Returns whether the program of a process exits on a signal that it receives, and what it does; none if
/// the program, or the signal in it, is not known.
pub fn program_outcome(
    process: &Process,
    signal: Signal,
    prediction: &Prediction,
) -> Option<(Outcome, String)> {
    let program = program_of(process)?;
    if let Some(known) = asked_outcome(program, process, signal, prediction) {
        return Some(known);
    }
    let note = applicable_note(program, process, signal, prediction)?;
    Some((note.outcome, note.text.to_owned()))
}

/// Returns the known program that a process runs. Its dispositions have to be those of that program:
/// anything can have the name of another, and a server that has just started handles nothing yet.
pub fn program_of(process: &Process) -> Option<&'static Program> {
    let candidate = Candidate::new(process);
    // Servers first: some are scripts of an interpreter.
    let mut all = servers::servers().chain(table::RUNTIMES);
    all.find(|program| program.fits(process) && (program.matches)(&candidate))
}

/// Iterates over the table.
pub fn programs() -> impl Iterator<Item = &'static Program> {
    table::RUNTIMES.iter().chain(servers::servers())
}
