//! The reaction of a Go program to a signal, from the signals that it asked for. Measured with Go 1.19 to 1.27,
//! as PID 1 and otherwise (tests/it/program_signals.rs); the rules are those of
//! runtime/sigtab_linux_generic.go.

use super::Outcome;
use crate::model::process::Process;
use crate::model::program_signals::AskedSignals;
use crate::model::signal::{Signal, SignalSet};

/// Signals that end a program (`_SigKill`): the runtime raises them again with the default action.
const KILL: SignalSet = signals(&[1, 2, 15]);
/// Signals on which it prints the stacks and exits (`_SigThrow`, and `_SigPanic` if a process sent it).
const THROW: SignalSet = signals(&[3, 4, 5, 6, 7, 8, 11, 16, 31]);
/// The first release that exits with 128 plus the number of the signal where raising it does nothing.
const SHELL_STATUS: u32 = 27;

const fn signals(numbers: &[u8]) -> SignalSet {
    let (mut mask, mut index) = (0, 0);
    while index < numbers.len() {
        mask |= 1 << (numbers[index] - 1);
        index += 1;
    }
    SignalSet(mask)
}

/// Returns whether a Go program exits on a signal that it handles, and what it does; none if that is not
/// known.
pub(super) fn outcome(process: &Process, signal: Signal) -> Option<(Outcome, String)> {
    let Some(Ok(asked)) = &process.asked else { return None };
    let is_init = process.status.is_namespace_init();
    let unasked = "the program did not ask for it (signal.Notify)";
    Some(if asked.wanted.contains(signal) {
        (Outcome::Unknown, format!("the program asked for {signal} (signal.Notify)"))
    } else if KILL.contains(signal) && is_init {
        (Outcome::Ends, format!("{}: {unasked}", exit(asked, signal)))
    } else if KILL.contains(signal) {
        (Outcome::Ends, format!("is terminated by it: {unasked}"))
    } else if THROW.contains(signal) {
        (
            Outcome::Ends,
            format!("prints the stacks of all goroutines and exits with status 2: {unasked}"),
        )
    } else {
        (Outcome::Continues, format!("ignores it: {unasked}"))
    })
}

/// Returns the same for a server whose reactions to the signals that it registers for are known:
/// none for those.
pub(super) fn unless_asked(process: &Process, signal: Signal) -> Option<(Outcome, String)> {
    let is_asked =
        process.asked.as_ref()?.as_ref().is_ok_and(|asked| asked.wanted.contains(signal));
    if is_asked { None } else { outcome(process, signal) }
}

/// Describes the exit: the runtime raises the signal, which the kernel discards for PID 1, and then exits by
/// itself.
fn exit(asked: &AskedSignals, signal: Signal) -> String {
    let status = 128 + signal.number();
    match asked.go_release {
        Some(SHELL_STATUS..) => format!("exits with status {status}"),
        Some(_) => "exits with status 2".to_owned(),
        None => format!("exits with status 2, or {status} since Go 1.{SHELL_STATUS}"),
    }
}
