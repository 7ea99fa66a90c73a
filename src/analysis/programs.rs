//! What a program's own runtime makes of a signal, beside what the kernel does: THE TABLE OF
//! RUNTIMES, one entry each. Programs are told by the handlers they install and the file they run,
//! not by what they call themselves.

use super::delivery::Prediction;
use crate::model::process::{Fact, Process};
use crate::model::signal::{Signal, SignalSet};
use crate::model::verdict::Verdict;

/// A kind of program.
pub struct Program {
    /// What people call it.
    pub name: &'static str,
    /// What it makes of a signal, as the manual says it behind its name.
    pub about: &'static str,
    /// Whether it is there to tell others, as PID 1.
    pub tells: Forwarding,
    /// A signal that programs are told to leave by and that does not do it well, and the one that
    /// does.
    pub rather: Option<PreferredSignal>,
    /// Whether a process is one.
    is: fn(&Process) -> bool,
    /// What it makes of a signal, where that is not plain.
    says: fn(&ProgramCase<'_>) -> Option<&'static str>,
}

/// Whom a program tells that it was told to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// Nobody, or it cannot be known.
    Unknown,
    /// Nobody, and it does not wait either.
    Nobody,
    /// Its child alone.
    Child,
    /// All that it has started.
    All,
}

/// Another signal than the usual one stops it well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreferredSignal {
    /// The one that does not.
    pub than: Signal,
    /// The one that does.
    pub by: Signal,
    /// Whether it, or its children, are killed for it.
    pub kills: bool,
}

/// A signal to a process of that kind.
struct ProgramCase<'a> {
    process: &'a Process,
    signal: Signal,
    verdict: Verdict,
    is_init: bool,
}

/// THE TABLE: the first that fits decides.
pub static RUNTIMES: &[Program] = &[
    Program {
        name: "Go",
        about: "catches nearly everything for itself, whether the program asked for it or not. A program that did not (signal.Notify) exits with status 2 on TERM, and the mask cannot tell. It sends itself URG all the time.",
        tells: Forwarding::Unknown,
        rather: None,
        is: is_go,
        says: go,
    },
    Program {
        name: "Node",
        about: "has handlers of its own for INT and TERM that put the terminal back and raise the default again: as PID 1 it survives them, elsewhere it ends, unless the program listens (process.on). USR1 starts its inspector.",
        tells: Forwarding::Unknown,
        rather: None,
        is: |p| runs(p, &["node", "nodejs"]) && listens_like_node(p),
        says: node,
    },
    Program {
        name: "JVM",
        about: "runs its shutdown hooks on TERM, INT and HUP and exits with 128 and the signal; QUIT prints a thread dump.",
        tells: Forwarding::Unknown,
        rather: None,
        is: is_jvm,
        says: jvm,
    },
    Program {
        name: "supervisord",
        about: "stops each of its programs by that one's own stop signal, and leaves then; HUP starts everything anew.",
        tells: Forwarding::All,
        rather: None,
        is: |p| runs_like(p, "python") && p.stat.comm == b"supervisord",
        says: supervisord,
    },
    Program {
        name: "CPython",
        about: "catches INT alone, and raises KeyboardInterrupt; TERM has the default unless the program sets a handler.",
        tells: Forwarding::Unknown,
        rather: None,
        is: |p| runs_like(p, "python"),
        says: python,
    },
    Program {
        name: "init",
        about: "tini, docker-init and catatonit wait for every signal and pass it on to their one child, not to that one's children.",
        tells: Forwarding::Child,
        rather: None,
        // Podman's stands where it mounts it, by another name.
        is: |p| {
            runs(p, &["tini", "tini-static", "docker-init", "catatonit", "podman-init"])
                || p.exe.known().is_some_and(|exe| exe == b"/dev/init")
        },
        says: init,
    },
    Program {
        name: "dumb-init",
        about: "passes it on to the whole session of its child.",
        tells: Forwarding::All,
        rather: None,
        is: |p| runs(p, &["dumb-init"]),
        says: dumb_init,
    },
    Program {
        name: "nginx",
        about: "leaves at once on TERM and drops open requests; QUIT lets them end; HUP reads the configuration again.",
        tells: Forwarding::All,
        rather: Some(PreferredSignal { than: Signal::TERM, by: Signal::QUIT, kills: false }),
        is: |p| runs(p, &["nginx"]),
        says: nginx,
    },
    Program {
        name: "systemd",
        about: "as PID 1 starts itself anew on TERM and stops nothing; RTMIN+3 stops its units and leaves.",
        tells: Forwarding::All,
        rather: Some(PreferredSignal { than: Signal::TERM, by: Signal::RTMIN_3, kills: true }),
        is: |p| runs(p, &["systemd"]),
        says: systemd,
    },
    Program {
        name: "s6-svscan",
        about: "has its services stopped, each by its own signal, and leaves.",
        tells: Forwarding::All,
        rather: None,
        is: |p| runs(p, &["s6-svscan"]),
        says: s6_svscan,
    },
    Program {
        name: "s6-supervise",
        about: "stops its one service by that one's own signal, and leaves then.",
        tells: Forwarding::Child,
        rather: None,
        is: |p| runs(p, &["s6-supervise"]),
        says: s6_supervise,
    },
    Program {
        name: "runit",
        about: "blocks TERM for ever; CONT makes it leave, where its file stopit may be executed.",
        tells: Forwarding::All,
        rather: Some(PreferredSignal { than: Signal::TERM, by: Signal::CONT, kills: true }),
        is: |p| runs(p, &["runit"]),
        says: runit,
    },
    Program {
        name: "runsvdir",
        about: "leaves at once on TERM and tells nobody; HUP tells every runsv, and does not wait.",
        tells: Forwarding::Nobody,
        rather: None,
        is: |p| runs(p, &["runsvdir"]),
        says: runsvdir,
    },
    Program {
        name: "runsv",
        about: "sends its service TERM and CONT, and leaves when that has ended.",
        tells: Forwarding::Child,
        rather: None,
        is: |p| runs(p, &["runsv"]),
        says: runsv,
    },
    Program {
        name: "shell",
        about: "tells none of its children. Without a trap it is discarded as PID 1, and ends it elsewhere; INT is caught by every shell and is no trap for sure. A trap runs when the command in the foreground has ended.",
        tells: Forwarding::Unknown,
        rather: None,
        is: |p| {
            runs(p, &["dash", "bash", "sh", "ksh", "zsh"])
                || (runs(p, &["busybox"]) && [&b"sh"[..], b"ash"].contains(&&*p.stat.comm))
        },
        says: shell,
    },
];

/// What a process's runtime makes of a signal that has been judged.
pub fn note(process: &Process, signal: Signal, judgement: &Prediction) -> Option<&'static str> {
    let runtime = of(process)?;
    let is_init = process.status.nspid.last() == Some(&1);
    let verdict = judgement.later.unwrap_or(judgement.verdict);
    (runtime.says)(&ProgramCase { process, signal, verdict, is_init })
}

/// Which runtime a process is of.
pub fn of(process: &Process) -> Option<&'static Program> {
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

fn go(case: &ProgramCase<'_>) -> Option<&'static str> {
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

fn node(case: &ProgramCase<'_>) -> Option<&'static str> {
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

fn jvm(case: &ProgramCase<'_>) -> Option<&'static str> {
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

fn python(case: &ProgramCase<'_>) -> Option<&'static str> {
    (case.verdict == Verdict::Handled && case.signal == Signal::INT)
        .then_some("Python raises KeyboardInterrupt in its main thread, unless the program has a handler of its own")
}

fn init(case: &ProgramCase<'_>) -> Option<&'static str> {
    (case.verdict == Verdict::Accepted && case.signal != Signal::CHLD)
        .then_some("it passes it on to its child, not to that one's children")
}

fn dumb_init(case: &ProgramCase<'_>) -> Option<&'static str> {
    (case.verdict.is_received() && case.signal != Signal::CHLD)
        .then_some("it passes it on to the whole session of its child")
}

fn nginx(case: &ProgramCase<'_>) -> Option<&'static str> {
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

/// As PID 1 of a container or of a machine, and as the manager of a user's session (systemd(1),
/// SIGNALS).
fn systemd(case: &ProgramCase<'_>) -> Option<&'static str> {
    match case.signal {
        _ if !case.verdict.is_received() => None,
        Signal::RTMIN_3 => {
            Some("systemd stops every unit, each by its own stop signal, and leaves then")
        }
        Signal::TERM if case.is_init => {
            Some("systemd starts itself anew and stops nothing; RTMIN+3 makes it leave")
        }
        Signal::TERM => Some("systemd stops its units and leaves then"),
        Signal::HUP => Some("systemd reads its units again"),
        _ => None,
    }
}

fn s6_svscan(case: &ProgramCase<'_>) -> Option<&'static str> {
    (case.verdict.is_received() && case.signal == Signal::TERM)
        .then_some("s6-svscan has its services stopped, each by its own stop signal, and leaves")
}

fn s6_supervise(case: &ProgramCase<'_>) -> Option<&'static str> {
    (case.verdict.is_received() && case.signal == Signal::TERM)
        .then_some("s6-supervise stops its service by that one's own stop signal, and leaves then")
}

/// runit(8): stage 3 follows on CONT where /etc/runit/stopit (Debian: /run/runit.stopit) may be
/// executed.
fn runit(case: &ProgramCase<'_>) -> Option<&'static str> {
    match case.signal {
        Signal::TERM | Signal::HUP if case.verdict == Verdict::Pending => Some(
            "runit blocks it for ever; CONT makes it leave, where its file stopit may be executed",
        ),
        Signal::CONT if case.verdict == Verdict::Handled => Some(
            "runit ends its stage 2, runs its stage 3 and leaves, where its file stopit may be executed",
        ),
        _ => None,
    }
}

/// runsvdir(8).
fn runsvdir(case: &ProgramCase<'_>) -> Option<&'static str> {
    match case.signal {
        _ if case.verdict != Verdict::Handled => None,
        Signal::TERM => Some("runsvdir leaves at once and tells nobody"),
        // Measured: as PID 1 it leaves before any of them has.
        Signal::HUP => {
            Some("runsvdir tells every runsv to stop its service, and leaves without waiting")
        }
        _ => None,
    }
}

fn runsv(case: &ProgramCase<'_>) -> Option<&'static str> {
    (case.verdict == Verdict::Handled && case.signal == Signal::TERM)
        .then_some("runsv sends its service TERM and CONT, and leaves when that has ended")
}

fn supervisord(case: &ProgramCase<'_>) -> Option<&'static str> {
    match case.signal {
        _ if case.verdict != Verdict::Handled => None,
        Signal::TERM | Signal::INT | Signal::QUIT => {
            Some("supervisord stops its programs, each by its own stop signal, and leaves then")
        }
        Signal::HUP => Some("supervisord reads its configuration again and starts everything anew"),
        _ => None,
    }
}

fn shell(case: &ProgramCase<'_>) -> Option<&'static str> {
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
