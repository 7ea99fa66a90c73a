//! A process in a snapshot: owned facts, each known, denied or absent.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::model::pid::ProcessId;
use crate::model::program_signals::{AskedSignals, MissingStep};
use crate::model::signal::Signal;
use crate::model::signal_waiters::{ThreadWaits, Waiting, Waits};
use crate::model::stat::Stat;
use crate::model::status::Status;

/// A fact that was requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact<T> {
    /// It was read.
    Known(T),
    /// Reading it was denied, or took too long: shown as `?`.
    Denied,
    /// It does not exist: shown as `-`.
    Absent,
}

impl<T> Fact<T> {
    /// Returns the value, if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            _ => None,
        }
    }
}

/// Arguments of a process, `/proc/PID/cmdline`, kept as the kernel's bytes: they may be megabytes of
/// empty arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    bytes: Vec<u8>,
    /// Whether the kernel had more than was requested.
    pub cut: bool,
}

/// More arguments than execve(2) accepts: each takes a byte and a pointer of the at most 6 MiB for them
/// (three quarters of `_STK_LIM`, fs/exec.c).
const MAX_ARGUMENTS: usize = 700_000;

impl CommandLine {
    /// Parses the file: arguments that end with NUL. A process may write anything there (setproctitle),
    /// even without a NUL at the end.
    ///
    /// ```text
    /// nginx: worker process\0
    /// ```
    pub fn parse(mut bytes: Vec<u8>, cut: bool) -> Self {
        // Trailing NULs are left by setproctitle from the longer line that it overwrote, or they end
        // empty arguments. Only for a single one is the latter more likely.
        let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        let empty_last = usize::from(end > 0 && bytes.len() == end + 2);
        bytes.truncate(if end == 0 { 0 } else { end + empty_last });
        let mut ends = bytes.iter().enumerate().filter(|(_, b)| **b == 0).map(|(index, _)| index);
        let excess = ends.nth(MAX_ARGUMENTS - 1);
        bytes.truncate(excess.unwrap_or(bytes.len()));
        bytes.shrink_to_fit();
        Self { bytes, cut: cut || excess.is_some() }
    }

    /// Iterates over the arguments, as bytes.
    pub fn argv(&self) -> impl Iterator<Item = &[u8]> {
        let arguments = (!self.is_empty()).then(|| self.bytes.split(|b| *b == 0));
        arguments.into_iter().flatten()
    }

    /// Whether the process has no command line.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the arguments joined by spaces, as bytes.
    pub fn joined(&self) -> Vec<u8> {
        self.bytes.iter().map(|b| if *b == 0 { b' ' } else { *b }).collect()
    }
}

/// Start and CPU time of a process or thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Start time.
    pub started: jiff::Timestamp,
    /// CPU time, user and system.
    pub cpu: std::time::Duration,
}

/// A thread.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Start and CPU time.
    pub times: Times,
    /// `/proc/PID/task/TID/stat`.
    pub stat: Stat,
    /// `/proc/PID/task/TID/status`: its SigBlk and SigPnd are the thread's own.
    pub status: Status,
}

/// A process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Identity.
    pub id: ProcessId,
    /// Start and CPU time.
    pub times: Times,
    /// `/proc/PID/stat`.
    pub stat: Stat,
    /// `/proc/PID/status`: facts of a thread are the main thread's.
    pub status: Status,
    /// `/proc/PID/cmdline`; absent if not requested.
    pub command: Fact<CommandLine>,
    /// Target of `/proc/PID/exe`.
    pub exe: Fact<Vec<u8>>,
    /// Threads and signalfds that wait for signals; absent if not requested.
    pub waits: Fact<Waits>,
    /// The kernel function that it sleeps in (`/proc/PID/wchan`, `stack`), if it is in uninterruptible sleep and
    /// waits were requested.
    pub kernel_wait: Option<Vec<u8>>,
    /// The signals that it asked for, if it is a Go or Node.js program and waits were requested.
    pub asked: Option<Result<AskedSignals, MissingStep>>,
    /// Its threads in the order of their TIDs; empty if not requested.
    pub threads: Vec<Thread>,
    /// A pidfd that was opened before any of these facts was read, if requested: they are facts about the
    /// process that it holds if that exists afterwards.
    pub pidfd: Option<Arc<OwnedFd>>,
}

/// The reason why a process may soon accept a signal that it blocks now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockedForNow {
    /// It has a handler.
    Handler,
    /// It has a signalfd for the signal, which no thread is reading.
    Signalfd,
    /// It does not sleep, and may wait for the signal next.
    Running,
    /// Its system call has a timeout, after which it may look for the signal, with sigtimedwait(2) or sigpending(2).
    Timeout,
    /// Whether its system call has a timeout is not known.
    PossibleTimeout,
    /// It has a timer (timer_create(2)), whose signal interrupts its system call.
    Timer,
    /// It has a handler for the signal of alarm(2) and setitimer(2), whose timers cannot be seen.
    Alarm,
    /// It takes signals, and its timers could not be read.
    PossibleTimer,
}

impl BlockedForNow {
    /// Whether the signal has an effect only on a program that checks for pending signals, which most do not.
    pub fn needs_check(self) -> bool {
        !matches!(self, Self::Handler | Self::Signalfd | Self::Running)
    }

    /// Returns the reason in words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Handler => "its handler runs when it is unblocked",
            Self::Signalfd => "it has a signalfd for the signal, and may read that next",
            Self::Running => "it is busy, and may wait for the signal next",
            Self::Timeout => "it waits with a timeout, after which it may look for the signal",
            Self::PossibleTimeout => {
                "it may wait with a timeout, after which it may look for the signal"
            }
            Self::Timer => "it has a timer, after which it may look for the signal",
            Self::Alarm => "it has a handler for ALRM, after which it may look for the signal",
            Self::PossibleTimer => "it may have a timer, after which it may look for the signal",
        }
    }
}

impl Process {
    /// Returns why a signal that is pending now may be accepted within a time; `None` if it waits for something
    /// else and nothing suggests that. A mask and a system call are facts about one moment.
    pub fn blocked_for_now(&self, signal: Signal, time: Duration) -> Option<BlockedForNow> {
        if self.status.sig_cgt.contains(signal) {
            return Some(BlockedForNow::Handler);
        }
        let Fact::Known(waits) = &self.waits else { return None };
        if waits.signalfds.iter().any(|fd| fd.set.contains(signal)) {
            return Some(BlockedForNow::Signalfd);
        }
        let mut threads = waits.threads.iter().filter(|thread| !thread.dead);
        // (One in a call that is continued sleeps.)
        let runs =
            |thread: &ThreadWaits| thread.on == Waiting::Anything && thread.returns.is_none();
        if self.stat.state.is_uninterruptible() || threads.clone().any(runs) {
            return Some(BlockedForNow::Running);
        }
        let returns = threads.clone().filter_map(|thread| thread.returns);
        match returns.filter(|call| call.least < time).map(|call| call.is_certain).max() {
            Some(true) => return Some(BlockedForNow::Timeout),
            Some(false) => return Some(BlockedForNow::PossibleTimeout),
            None => {}
        }
        // (The signal of a timer may be taken by a thread of the C library, which calls a function: SIGEV_THREAD.)
        let takes_signals =
            !self.status.sig_cgt.is_empty() || threads.any(|thread| !thread.awaited.is_empty());
        match waits.has_timer {
            Some(true) => Some(BlockedForNow::Timer),
            _ if self.status.sig_cgt.contains(Signal::ALRM) => Some(BlockedForNow::Alarm),
            None if takes_signals => Some(BlockedForNow::PossibleTimer),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(bytes: &[u8]) -> Vec<Vec<u8>> {
        CommandLine::parse(bytes.to_vec(), false).argv().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn splits_arguments_at_nul() {
        assert_eq!(argv(b""), Vec::<Vec<u8>>::new());
        assert_eq!(argv(b"\0\0\0"), Vec::<Vec<u8>>::new());
        assert_eq!(argv(b"sleep\x001\0"), [b"sleep".to_vec(), b"1".to_vec()]);
        assert_eq!(argv(b"a\0\0b\0"), [b"a".to_vec(), b"".to_vec(), b"b".to_vec()]);
        assert_eq!(argv(b"echo\0\0"), [b"echo".to_vec(), b"".to_vec()]);
    }

    #[test]
    fn a_title_written_over_the_arguments_is_one_argument() {
        assert_eq!(argv(b"nginx: worker process"), [b"nginx: worker process".to_vec()]);
        assert_eq!(argv(b"nginx: worker process\0\0\0\0\0"), [b"nginx: worker process".to_vec()]);
    }

    #[test]
    fn cuts_more_arguments_than_execve_accepts() {
        let many = [b"x".as_slice(), &[0; 2 << 20], b"y"].concat();
        let command = CommandLine::parse(many, false);
        assert!(command.cut);
        assert_eq!(command.argv().count(), MAX_ARGUMENTS);
    }

    proptest::proptest! {
        #[test]
        fn no_byte_of_an_argument_is_lost(bytes: Vec<u8>) {
            let joined: usize = argv(&bytes).iter().map(Vec::len).sum();
            proptest::prop_assert_eq!(joined, bytes.iter().filter(|b| **b != 0).count());
        }
    }
}
