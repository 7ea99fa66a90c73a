//! Known programs, and the effect of signals on each beyond what the kernel does: THE TABLE OF PROGRAMS.
//! Programs are recognised by the handlers that they install and the executable that they run, never by
//! the name that they give themselves. The manual page cinspect-signals(7) reads the same table.

use super::delivery::Prediction;
use crate::model::process::{Fact, Process};
use crate::model::signal::{Signal, SignalSet};
use crate::model::verdict::Verdict;

/// A kind of program.
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// How a note names it, if the name of the process does not say it; else empty.
    label: &'static str,
    /// Which processes get the signal from it, if it is PID 1.
    pub forwards: Forwarding,
    /// The signal that it exits on gracefully, if that is not the usual one.
    pub preferred: Option<PreferredSignal>,
    /// Whether a process runs it.
    matches: fn(&Process) -> bool,
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
    ProgramNote { signals, effect, role: Role::Any, text }
}

impl ProgramNote {
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

/// THE TABLE: the first entry that matches is used.
pub static PROGRAMS: &[Program] = &[
    Program {
        name: "Go",
        label: "Go runtime",
        matches: is_go,
        notes: &[
            note(
                &[Signal::TERM, Signal::INT, Signal::HUP],
                Effect::Handled,
                "exits 2 unless the program uses signal.Notify (cannot be seen from outside)",
            )
            .for_init(),
            note(
                &[Signal::TERM, Signal::INT, Signal::HUP],
                Effect::Handled,
                "is terminated by it unless the program uses signal.Notify (cannot be seen from outside)",
            )
            .otherwise(),
            note(
                &[Signal::QUIT],
                Effect::Handled,
                "prints the stacks of all goroutines and exits 2 unless the program uses signal.Notify",
            ),
        ],
        remark: "Go catches nearly every signal, and sends itself URG all the time.",
        ..Program::DEFAULT
    },
    Program {
        name: "Node.js",
        label: "Node.js",
        matches: |p| runs(p, &["node", "nodejs"]) && has_libuv_handlers(p),
        notes: &[
            note(
                &[Signal::TERM, Signal::INT],
                Effect::Handled,
                "ignores it unless the program calls process.on (cannot be seen from outside)",
            )
            .for_init(),
            note(
                &[Signal::TERM, Signal::INT],
                Effect::Handled,
                "is terminated by it unless the program calls process.on",
            )
            .otherwise(),
            note(&[Signal::USR1], Effect::Handled, "starts its inspector"),
        ],
        remark: "Its handlers restore the terminal and raise the signal again with the default action, which the kernel discards for PID 1.",
        ..Program::DEFAULT
    },
    Program {
        name: "JVM",
        label: "JVM",
        matches: is_jvm,
        notes: &[
            note(
                &[Signal::TERM, Signal::INT, Signal::HUP],
                Effect::Handled,
                "runs its shutdown hooks, then exits with 128 plus the signal number",
            ),
            note(&[Signal::QUIT], Effect::Handled, "prints a thread dump and continues"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "supervisord",
        forwards: Forwarding::All,
        matches: |p| runs_version(p, "python") && p.stat.comm == b"supervisord",
        notes: &[
            note(
                &[Signal::TERM, Signal::INT, Signal::QUIT],
                Effect::Handled,
                "stops its programs, each with its own stop signal, then exits",
            ),
            note(
                &[Signal::HUP],
                Effect::Handled,
                "rereads its configuration and restarts all programs",
            ),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "CPython",
        label: "Python",
        matches: |p| runs_version(p, "python"),
        notes: &[note(
            &[Signal::INT],
            Effect::Handled,
            "raises KeyboardInterrupt in the main thread unless the program has its own handler",
        )],
        remark: "TERM has its default action unless the program sets a handler.",
        ..Program::DEFAULT
    },
    Program {
        name: "tini, docker-init, catatonit",
        forwards: Forwarding::Child,
        // Podman's has another name where it is mounted.
        matches: |p| {
            runs(p, &["tini", "tini-static", "docker-init", "catatonit", "podman-init"])
                || p.exe.known().is_some_and(|exe| exe == b"/dev/init")
        },
        notes: &[note(&[], Effect::Accepted, "forwards it to its direct child only")],
        ..Program::DEFAULT
    },
    Program {
        name: "dumb-init",
        forwards: Forwarding::All,
        matches: |p| runs(p, &["dumb-init"]),
        notes: &[note(&[], Effect::Received, "forwards it to the whole session of its child")],
        ..Program::DEFAULT
    },
    Program {
        name: "nginx",
        forwards: Forwarding::All,
        preferred: Some(PreferredSignal {
            instead_of: Signal::TERM,
            signal: Signal::QUIT,
            kills: false,
        }),
        matches: |p| runs(p, &["nginx"]),
        notes: &[
            note(
                &[Signal::TERM, Signal::INT],
                Effect::Handled,
                "exits at once and drops open requests; use QUIT for a graceful stop",
            ),
            note(&[Signal::QUIT], Effect::Handled, "finishes open requests, then exits"),
            note(&[Signal::HUP], Effect::Handled, "reloads its configuration"),
        ],
        ..Program::DEFAULT
    },
    // As PID 1 of a container or of a machine, and as the manager of a user's session (systemd(1),
    // SIGNALS).
    Program {
        name: "systemd",
        forwards: Forwarding::All,
        preferred: Some(PreferredSignal {
            instead_of: Signal::TERM,
            signal: Signal::RTMIN_3,
            kills: true,
        }),
        matches: |p| runs(p, &["systemd"]),
        notes: &[
            note(
                &[Signal::RTMIN_3],
                Effect::Received,
                "stops every unit, each with its own stop signal, then exits",
            ),
            note(
                &[Signal::TERM],
                Effect::Received,
                "re-executes itself and stops nothing; use RTMIN+3 to stop it",
            )
            .for_init(),
            note(&[Signal::TERM], Effect::Received, "stops its units, then exits").otherwise(),
            note(&[Signal::HUP], Effect::Received, "reloads its units"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "s6-svscan",
        forwards: Forwarding::All,
        matches: |p| runs(p, &["s6-svscan"]),
        notes: &[note(
            &[Signal::TERM],
            Effect::Received,
            "stops its services, each with its own stop signal, then exits",
        )],
        ..Program::DEFAULT
    },
    Program {
        name: "s6-supervise",
        forwards: Forwarding::Child,
        matches: |p| runs(p, &["s6-supervise"]),
        notes: &[note(
            &[Signal::TERM],
            Effect::Received,
            "stops its service with the stop signal of that service, then exits",
        )],
        ..Program::DEFAULT
    },
    // runit(8): stage 3 follows on CONT if /etc/runit/stopit (Debian: /run/runit.stopit) is executable.
    Program {
        name: "runit",
        forwards: Forwarding::All,
        preferred: Some(PreferredSignal {
            instead_of: Signal::TERM,
            signal: Signal::CONT,
            kills: true,
        }),
        matches: |p| runs(p, &["runit"]),
        notes: &[
            note(
                &[Signal::TERM, Signal::HUP],
                Effect::Pending,
                "blocks it permanently; CONT makes it exit if its file stopit is executable",
            ),
            note(
                &[Signal::CONT],
                Effect::Handled,
                "ends its stage 2, runs its stage 3 and exits, if its file stopit is executable",
            ),
        ],
        ..Program::DEFAULT
    },
    // runsvdir(8). Measured: on HUP, as PID 1 it exits before any runsv has.
    Program {
        name: "runsvdir",
        forwards: Forwarding::None,
        matches: |p| runs(p, &["runsvdir"]),
        notes: &[
            note(
                &[Signal::TERM],
                Effect::Handled,
                "exits at once, without signalling its services",
            ),
            note(
                &[Signal::HUP],
                Effect::Handled,
                "makes every runsv stop its service, and exits without waiting",
            ),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "runsv",
        forwards: Forwarding::Child,
        matches: |p| runs(p, &["runsv"]),
        notes: &[note(
            &[Signal::TERM],
            Effect::Handled,
            "sends TERM and CONT to its service, and exits when that has exited",
        )],
        ..Program::DEFAULT
    },
    Program {
        name: "shell",
        matches: |p| {
            runs(p, &["dash", "bash", "sh", "ksh", "zsh"])
                || (runs(p, &["busybox"]) && [&b"sh"[..], b"ash"].contains(&&*p.stat.comm))
        },
        notes: &[
            note(
                &[Signal::INT],
                Effect::Handled,
                "the shell catches INT itself, whether it has a trap or not",
            ),
            note(
                &[],
                Effect::Handled,
                "the trap runs after the foreground command has exited; the shell itself does not forward the signal to its children",
            ),
            note(
                &[],
                Effect::Discarded,
                "the shell has no trap, so the kernel discards the signal; it is not forwarded to its children",
            )
            .for_init(),
            note(
                &[],
                Effect::Terminates,
                "the shell is terminated; the signal is not forwarded to its children",
            ),
        ],
        ..Program::DEFAULT
    },
];

impl Program {
    const DEFAULT: Self = Self {
        name: "",
        label: "",
        forwards: Forwarding::Unknown,
        preferred: None,
        matches: |_| false,
        notes: &[],
        remark: "",
    };

    /// Returns what it does with signals, as sentences of the manual page.
    pub fn description(&self) -> String {
        let notes = self.notes.iter().map(ProgramNote::sentence);
        let remark = Some(self.remark).filter(|remark| !remark.is_empty()).map(str::to_owned);
        notes.chain(remark).collect::<Vec<_>>().join(" ")
    }
}

/// Returns what the program of a process makes of a signal, given the kernel's part of it.
pub fn program_note(process: &Process, signal: Signal, prediction: &Prediction) -> Option<String> {
    let program = program_of(process)?;
    let is_init = process.status.nspid.last() == Some(&1);
    let verdict = prediction.later.unwrap_or(prediction.verdict);
    let note = program.notes.iter().find(|note| note.applies(signal, verdict, is_init))?;
    Some(match (program.label, note.role) {
        ("", _) => note.text.to_owned(),
        (label, Role::Init) => format!("{label} as PID 1: {}", note.text),
        (label, _) => format!("{label}: {}", note.text),
    })
}

/// Returns the known program that a process runs.
pub fn program_of(process: &Process) -> Option<&'static Program> {
    PROGRAMS.iter().find(|program| (program.matches)(process))
}

/// Returns the name of the executable, as it is in the mount namespace of the process.
fn executable(process: &Process) -> Option<&[u8]> {
    let Fact::Known(path) = &process.exe else { return None };
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    path.rsplit(|b| *b == b'/').next()
}

fn runs(process: &Process, names: &[&str]) -> bool {
    executable(process).is_some_and(|name| names.iter().any(|known| known.as_bytes() == name))
}

/// Whether the executable is `name` and a version, such as `python3.11`.
fn runs_version(process: &Process, name: &str) -> bool {
    let version = executable(process).and_then(|found| found.strip_prefix(name.as_bytes()));
    version.is_some_and(|version| version.iter().all(|b| b.is_ascii_digit() || *b == b'.'))
}

/// Whether the handlers are those of Go's runtime: it installs one for every signal that can have one,
/// also real-time ones, except a few (runtime/sigtab_linux_generic.go). Nothing else does.
fn is_go(process: &Process) -> bool {
    const ALWAYS: u64 = 0xffff_fffc_0000_0000;
    let caught = process.status.sig_cgt;
    SignalSet(caught.0 & ALWAYS).0 == ALWAYS
        && [Signal::URG, Signal::SEGV, Signal::PIPE, Signal::PROF]
            .into_iter()
            .all(|signal| caught.contains(signal))
}

/// Whether the dispositions are those of libuv, which ignores PIPE.
fn has_libuv_handlers(process: &Process) -> bool {
    process.status.sig_ign.contains(Signal::PIPE) && process.status.sig_cgt.contains(Signal::USR1)
}

/// Whether the handlers are those of HotSpot: it catches the signals for its shutdown hooks and thread
/// dumps, every fault, and those that suspend and resume its threads (os/posix/signals_posix.cpp).
fn is_jvm(process: &Process) -> bool {
    let caught = process.status.sig_cgt;
    let always = [
        Signal::QUIT,
        Signal::ILL,
        Signal::BUS,
        Signal::FPE,
        Signal::SEGV,
        Signal::USR2,
        Signal::PIPE,
        Signal::XFSZ,
    ];
    // A program that catches everything catches these, too.
    let never = [Signal::TSTP, Signal::TTIN, Signal::WINCH];
    always.into_iter().all(|signal| caught.contains(signal))
        && !never.into_iter().any(|signal| caught.contains(signal))
}
