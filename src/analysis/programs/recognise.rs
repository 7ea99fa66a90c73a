//! Recognises programs by their executable and by the handlers that they install.

use crate::model::process::{Fact, Process};
use crate::model::signal::Signal;

/// Returns the name of the executable, as it is in the mount namespace of the process.
pub(super) fn executable(process: &Process) -> Option<&[u8]> {
    let Fact::Known(path) = &process.exe else { return None };
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    path.rsplit(|b| *b == b'/').next()
}

pub(super) fn runs(process: &Process, names: &[&str]) -> bool {
    executable(process).is_some_and(|name| names.iter().any(|known| known.as_bytes() == name))
}

/// Whether the executable is `name` and a version, such as `python3.11`.
pub(super) fn runs_version(process: &Process, name: &str) -> bool {
    let version = executable(process).and_then(|found| found.strip_prefix(name.as_bytes()));
    version.is_some_and(|version| version.iter().all(|b| b.is_ascii_digit() || *b == b'.'))
}

/// Whether the executable is an interpreter and its script has this name: the script is an argument, and
/// the kernel takes the name of the process from it if it is run by its `#!` line.
pub(super) fn runs_script(process: &Process, interpreter: &str, script: &str) -> bool {
    let is_script = |word: &[u8]| word.rsplit(|b| *b == b'/').next() == Some(script.as_bytes());
    let has_argument = || {
        let line = process.command.known();
        line.is_some_and(|line| line.argv().skip(1).take(2).any(is_script))
    };
    runs_version(process, interpreter) && (process.stat.comm == script.as_bytes() || has_argument())
}

/// Returns the applet of busybox that a process runs: by link, or as the first argument.
pub(super) fn applet(process: &Process) -> Option<&[u8]> {
    if !runs(process, &["busybox", "busybox-static"]) {
        return None;
    }
    let mut words = process.command.known()?.argv();
    let name = words.next()?.rsplit(|b| *b == b'/').next()?;
    match name.strip_prefix(b"-").unwrap_or(name) {
        b"busybox" | b"busybox-static" => words.next(),
        name => Some(name),
    }
}

/// Whether the handlers are those of HotSpot: it catches the signals for its shutdown hooks and thread
/// dumps, every fault, and those that suspend and resume its threads (os/posix/signals_posix.cpp).
pub(super) fn is_jvm(process: &Process) -> bool {
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
