//! What a program's own runtime makes of a signal, beside what the kernel does: THE TABLE OF
//! RUNTIMES, one entry each. Programs are told by the handlers they install and the file they run,
//! not by what they call themselves.

use super::verdict::Judgement;
use crate::model::process::{Fact, Process};
use crate::model::signal::{Signal, SignalSet};
use crate::model::verdict::Verdict;

/// A kind of program.
pub struct Runtime {
    /// What people call it.
    pub name: &'static str,
    /// Whether it is there to tell others, as PID 1.
    pub tells: Tells,
    /// Whether a process is one.
    is: fn(&Process) -> bool,
    /// What it makes of a signal, where that is not plain.
    says: fn(&Case<'_>) -> Option<&'static str>,
}

/// Whom a program tells that it was told to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    /// Nobody, or it cannot be known.
    Unknown,
    /// Its child alone.
    Child,
    /// All that it has started.
    All,
}

/// A signal to a process of that kind.
struct Case<'a> {
    process: &'a Process,
    signal: Signal,
    verdict: Verdict,
    is_init: bool,
}

/// THE TABLE: the first that fits decides.
pub static RUNTIMES: &[Runtime] = &[
    Runtime { name: "Go", tells: Tells::Unknown, is: is_go, says: go },
    Runtime {
        name: "Node",
        tells: Tells::Unknown,
        is: |p| runs(p, &["node", "nodejs"]) && listens_like_node(p),
        says: node,
    },
    Runtime { name: "JVM", tells: Tells::Unknown, is: is_jvm, says: jvm },
    Runtime {
        name: "supervisord",
        tells: Tells::All,
        is: |p| runs_like(p, "python") && p.stat.comm == b"supervisord",
        says: supervisord,
    },
    Runtime {
        name: "CPython",
        tells: Tells::Unknown,
        is: |p| runs_like(p, "python"),
        says: python,
    },
    Runtime {
        name: "init",
        tells: Tells::Child,
        is: |p| runs(p, &["tini", "tini-static", "docker-init", "catatonit"]),
        says: init,
    },
    Runtime {
        name: "dumb-init",
        tells: Tells::All,
        is: |p| runs(p, &["dumb-init"]),
        says: dumb_init,
    },
    Runtime { name: "nginx", tells: Tells::All, is: |p| runs(p, &["nginx"]), says: nginx },
    Runtime {
        name: "shell",
        tells: Tells::Unknown,
        is: |p| {
            runs(p, &["dash", "bash", "sh", "ksh", "zsh"])
                || (runs(p, &["busybox"]) && [&b"sh"[..], b"ash"].contains(&&*p.stat.comm))
        },
        says: shell,
    },
];

/// What a process's runtime makes of a signal that has been judged.
pub fn note(process: &Process, signal: Signal, judgement: &Judgement) -> Option<&'static str> {
    let runtime = of(process)?;
    let is_init = process.status.nspid.last() == Some(&1);
    let verdict = judgement.later.unwrap_or(judgement.verdict);
    (runtime.says)(&Case { process, signal, verdict, is_init })
}

/// Which runtime a process is of.
pub fn of(process: &Process) -> Option<&'static Runtime> {
    RUNTIMES.iter().find(|runtime| (runtime.is)(process))
}

/// The file's name, as the process's own mount namespace has it.
fn program(process: &Process) -> Option<&[u8]> {
    let Fact::Known(path) = &process.exe else { return None };
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    path.rsplit(|b| *b == b'/').next()
}

fn runs(process: &Process, names: &[&str]) -> bool {
    program(process).is_some_and(|program| names.iter().any(|name| name.as_bytes() == program))
}

/// `python3.11` and its like: the name, then digits and dots.
fn runs_like(process: &Process, name: &str) -> bool {
    let rest = program(process).and_then(|program| program.strip_prefix(name.as_bytes()));
    rest.is_some_and(|rest| rest.iter().all(|b| b.is_ascii_digit() || *b == b'.'))
}

/// Go's runtime installs handlers for every signal that can have one, real-time ones too, but for a
/// few (runtime/sigtab_linux_generic.go); nothing else does.
fn is_go(process: &Process) -> bool {
    const ALWAYS: u64 = 0xffff_fffc_0000_0000;
    let caught = process.status.sig_cgt;
    SignalSet(caught.0 & ALWAYS).0 == ALWAYS
        && [Signal::URG, Signal::SEGV, Signal::PIPE, Signal::PROF]
            .into_iter()
            .all(|signal| caught.contains(signal))
}

fn go(case: &Case<'_>) -> Option<&'static str> {
    let asked = [Signal::TERM, Signal::INT, Signal::HUP].contains(&case.signal);
    match case.verdict {
        Verdict::Handled if asked && case.is_init => Some(
            "Go catches it for itself: a program that has not asked for it (signal.Notify) exits with status 2; the mask cannot tell",
        ),
        Verdict::Handled if asked => Some(
            "Go catches it for itself: a program that has not asked for it (signal.Notify) ends by it; the mask cannot tell",
        ),
        Verdict::Handled if case.signal == Signal::QUIT => Some(
            "Go: unless the program asked for it, it prints every goroutine's stack and exits with status 2",
        ),
        _ => None,
    }
}

fn listens_like_node(process: &Process) -> bool {
    // libuv's own handlers; PIPE is ignored.
    process.status.sig_ign.contains(Signal::PIPE) && process.status.sig_cgt.contains(Signal::USR1)
}

fn node(case: &Case<'_>) -> Option<&'static str> {
    let own = [Signal::TERM, Signal::INT].contains(&case.signal);
    match case.verdict {
        Verdict::Handled if own && case.is_init => Some(
            "Node's own handler raises the default again, which PID 1 does not get: nothing happens, unless the program listens (process.on); the mask cannot tell",
        ),
        Verdict::Handled if own => Some(
            "Node's own handler ends it by the signal, unless the program listens (process.on)",
        ),
        Verdict::Handled if case.signal == Signal::USR1 => Some("Node starts its inspector"),
        _ => None,
    }
}

/// HotSpot catches what its shutdown hooks and thread dumps need, every fault, and what it is woken
/// and suspended by (os/posix/signals_posix.cpp).
fn is_jvm(process: &Process) -> bool {
    let caught = process.status.sig_cgt;
    let own = [
        Signal::QUIT,
        Signal::ILL,
        Signal::BUS,
        Signal::FPE,
        Signal::SEGV,
        Signal::USR2,
        Signal::PIPE,
        Signal::XFSZ,
    ];
    // (Who catches everything catches those too.)
    let not = [Signal::TSTP, Signal::TTIN, Signal::WINCH];
    own.into_iter().all(|signal| caught.contains(signal))
        && !not.into_iter().any(|signal| caught.contains(signal))
}

fn jvm(case: &Case<'_>) -> Option<&'static str> {
    let leave = [Signal::TERM, Signal::INT, Signal::HUP].contains(&case.signal);
    match case.verdict {
        Verdict::Handled if leave => {
            Some("the JVM runs its shutdown hooks and exits with 128 and the signal")
        }
        Verdict::Handled if case.signal == Signal::QUIT => {
            Some("the JVM prints a thread dump and goes on")
        }
        _ => None,
    }
}

fn python(case: &Case<'_>) -> Option<&'static str> {
    (case.verdict == Verdict::Handled && case.signal == Signal::INT)
        .then_some("Python raises KeyboardInterrupt in its main thread, unless the program has a handler of its own")
}

fn init(case: &Case<'_>) -> Option<&'static str> {
    (case.verdict == Verdict::Accepted && case.signal != Signal::CHLD)
        .then_some("it passes it on to its child, not to that one's children")
}

fn dumb_init(case: &Case<'_>) -> Option<&'static str> {
    (case.verdict.is_heard() && case.signal != Signal::CHLD)
        .then_some("it passes it on to the whole session of its child")
}

fn nginx(case: &Case<'_>) -> Option<&'static str> {
    match case.signal {
        _ if case.verdict != Verdict::Handled => None,
        Signal::TERM | Signal::INT => {
            Some("nginx leaves at once and drops open requests; QUIT is its graceful one")
        }
        Signal::QUIT => Some("nginx serves open requests to their end, and leaves then"),
        Signal::HUP => Some("nginx reads its configuration again"),
        _ => None,
    }
}

fn supervisord(case: &Case<'_>) -> Option<&'static str> {
    match case.signal {
        _ if case.verdict != Verdict::Handled => None,
        Signal::TERM | Signal::INT | Signal::QUIT => {
            Some("supervisord stops its programs, each by its own stop signal, and leaves then")
        }
        Signal::HUP => Some("supervisord reads its configuration again and starts everything anew"),
        _ => None,
    }
}

fn shell(case: &Case<'_>) -> Option<&'static str> {
    let caught = case.process.status.sig_cgt.contains(case.signal);
    match case.verdict {
        Verdict::Handled if case.signal == Signal::INT => {
            Some("every shell catches INT for itself: it is no trap for sure")
        }
        Verdict::Handled if caught && case.signal != Signal::CHLD => Some(
            "the shell's trap runs when the command in its foreground has ended; its children are not told",
        ),
        Verdict::Discarded if case.is_init => Some(
            "PID 1 is a shell without a trap: the signal is discarded, and its children are not told",
        ),
        Verdict::Terminates => Some("the shell ends, its children are not told"),
        _ => None,
    }
}
