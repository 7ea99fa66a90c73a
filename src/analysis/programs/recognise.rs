//! Recognises programs by their executable and by the handlers that they install.

use std::ops::Deref;

use crate::model::process::{CommandLine, Process};
use crate::model::signal::{Signal, SignalSet};

/// A process whose program is searched for in the table. The name of its executable is found once: thousands
/// of processes are compared with every program.
pub(super) struct Candidate<'a> {
    process: &'a Process,
    /// The name of the executable, as it is in the mount namespace of the process.
    executable: Option<&'a [u8]>,
}

impl<'a> Candidate<'a> {
    pub(super) fn new(process: &'a Process) -> Self {
        let name = |path: &'a Vec<u8>| {
            let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
            let directory = memchr::memrchr(b'/', path).map_or(0, |slash| slash + 1);
            &path[directory..]
        };
        Self { process, executable: process.exe.known().map(name) }
    }
}

impl Deref for Candidate<'_> {
    type Target = Process;

    fn deref(&self) -> &Process {
        self.process
    }
}

pub(super) fn runs(process: &Candidate<'_>, names: &[&str]) -> bool {
    process.executable.is_some_and(|name| names.iter().any(|known| known.as_bytes() == name))
}

/// Whether the executable is `name` and a version, such as `python3.11`.
pub(super) fn runs_version(process: &Candidate<'_>, name: &str) -> bool {
    let version = process.executable.and_then(|found| found.strip_prefix(name.as_bytes()));
    version.is_some_and(|version| version.iter().all(|b| b.is_ascii_digit() || *b == b'.'))
}

/// An interpreter, as far as its options matter.
pub(super) struct Interpreter {
    /// Its executable, without a version.
    name: &'static str,
    /// Letters of the options that take the next argument as a value.
    values: &'static [u8],
    /// The letter of the option that names a module to run in place of a script, if it has one.
    module: Option<u8>,
    /// The letter of the option that takes a program.
    program: u8,
}

pub(super) const PYTHON: Interpreter =
    Interpreter { name: "python", values: b"WX", module: Some(b'm'), program: b'c' };
pub(super) const RUBY: Interpreter =
    Interpreter { name: "ruby", values: b"CEIr", module: None, program: b'e' };

pub(super) const NODE_JS: Interpreter =
    Interpreter { name: "node", values: b"r", module: None, program: b'e' };

/// The length of the name that the kernel keeps (`TASK_COMM_LEN`, include/linux/sched.h).
const COMM_LENGTH: usize = 15;

/// Whether a process is an interpreter that runs a script of this name. The script is an argument; the
/// kernel takes the name of the process from it if it is run by its `#!` line; and scripts that replace
/// their arguments by a title begin it with their name (`gunicorn: master [app]`, `puma 6.4.2 (…)`).
pub(super) fn runs_script(
    process: &Candidate<'_>,
    interpreter: &Interpreter,
    script: &str,
) -> bool {
    let name = script.as_bytes();
    let is_title = |word: &[u8]| {
        word.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(b": ") || rest.starts_with(b" "))
    };
    let is_argument = || {
        let mut words = process.command.known().into_iter().flat_map(CommandLine::argv);
        words.next().is_some_and(is_title) || script_of(words, interpreter) == Some(name)
    };
    runs_version(process, interpreter.name)
        && (process.stat.comm == name[..name.len().min(COMM_LENGTH)] || is_argument())
}

/// Returns the base name of the script, or the module, among the arguments of an interpreter.
fn script_of<'a>(
    mut arguments: impl Iterator<Item = &'a [u8]>,
    interpreter: &Interpreter,
) -> Option<&'a [u8]> {
    loop {
        let word = arguments.next()?;
        let Some(letters) = word.strip_prefix(b"-").filter(|letters| !letters.is_empty()) else {
            return word.rsplit(|b| *b == b'/').next();
        };
        let is_long = letters.starts_with(b"-");
        let takes = |letter: &u8| {
            interpreter.values.contains(letter)
                || Some(*letter) == interpreter.module
                || *letter == interpreter.program
        };
        // The rest of the argument is the value, or the next one.
        let Some(index) = letters.iter().position(takes).filter(|_| !is_long) else { continue };
        let glued = &letters[index + 1..];
        let value = if glued.is_empty() { arguments.next()? } else { glued };
        match letters[index] {
            letter if letter == interpreter.program => return None,
            letter if Some(letter) == interpreter.module => return Some(value),
            _ => {}
        }
    }
}

/// Returns the applet of busybox that a process runs: by link, or as the first argument.
pub(super) fn applet<'a>(process: &'a Candidate<'_>) -> Option<&'a [u8]> {
    if !runs(process, &["busybox", "busybox-static", "busybox.static", "busybox-extras"]) {
        return None;
    }
    let mut words = process.command.known()?.argv();
    let name = words.next()?.rsplit(|b| *b == b'/').next()?;
    match name.strip_prefix(b"-").unwrap_or(name) {
        b"busybox" | b"busybox-static" | b"busybox.static" | b"busybox-extras" => words.next(),
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

/// Whether the dispositions are those of tini, which ignores TTIN and TTOU and waits for its signals, or those of
/// catatonit, which blocks them and reads a signalfd. Neither has a handler.
pub(super) fn is_waiting_init(process: &Process) -> bool {
    let status = &process.status;
    let all = |set: SignalSet, signals: [Signal; 2]| signals.iter().all(|s| set.contains(*s));
    status.sig_cgt.is_empty()
        && (all(status.sig_ign, [Signal::TTIN, Signal::TTOU])
            || all(status.sig_blk, [Signal::TERM, Signal::HUP]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_script_of_an_interpreter() {
        for (line, interpreter, expected) in [
            ("/usr/bin/gunicorn app", PYTHON, Some("gunicorn")),
            ("-u -X dev /usr/bin/gunicorn app", PYTHON, Some("gunicorn")),
            ("-m gunicorn app", PYTHON, Some("gunicorn")),
            ("-um gunicorn", PYTHON, Some("gunicorn")),
            ("-mgunicorn", PYTHON, Some("gunicorn")),
            ("-Xdev -Werror gunicorn", PYTHON, Some("gunicorn")),
            ("app.py gunicorn", PYTHON, Some("app.py")),
            ("-c gunicorn", PYTHON, None),
            ("-c import gunicorn", PYTHON, None),
            ("-I lib -rbundler /usr/bin/puma", RUBY, Some("puma")),
            ("-e sleep puma", RUBY, None),
            ("-u", PYTHON, None),
        ] {
            let words = line.split(' ').map(str::as_bytes);
            let found = script_of(words, &interpreter);
            assert_eq!(found, expected.map(str::as_bytes), "{line}");
        }
    }
}
