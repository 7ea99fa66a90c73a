//! A process as a snapshot holds it: owned facts, each known, denied or not there.

use crate::model::namespace::NamespaceId;
use crate::model::pid::ProcessId;
use crate::model::signal_waiters::Waits;
use crate::model::stat::Stat;
use crate::model::status::Status;

/// What became of a fact that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact<T> {
    /// It was read.
    Known(T),
    /// It may not be read by us, or did not answer in time: shown as `?`.
    Denied,
    /// There is none: shown as `-`.
    Absent,
}

impl<T> Fact<T> {
    /// The value, when it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            _ => None,
        }
    }
}

/// The argument vector of a process, `/proc/PID/cmdline`, kept as the kernel gave it: it may be
/// megabytes of empty arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    bytes: Vec<u8>,
    /// Whether there was more than was asked for.
    pub cut: bool,
}

/// More arguments than execve(2) takes: each costs a byte and a pointer of the at most 6 MiB that
/// the kernel gives to them (three quarters of `_STK_LIM`, fs/exec.c).
const MAX_ARGUMENTS: usize = 700_000;

impl CommandLine {
    /// Parses the file: arguments ended by NUL. A process may write anything there (setproctitle),
    /// an end without NUL included.
    ///
    /// ```text
    /// nginx: worker process\0
    /// ```
    pub fn parse(mut bytes: Vec<u8>, cut: bool) -> Self {
        // Trailing NULs are what setproctitle leaves of the longer line it wrote over, unless they
        // end an argument that is empty on purpose; the two cannot be told apart but for one.
        let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        let empty_last = usize::from(end > 0 && bytes.len() == end + 2);
        bytes.truncate(if end == 0 { 0 } else { end + empty_last });
        let too_many = bytes.iter().enumerate().filter(|(_, b)| **b == 0).nth(MAX_ARGUMENTS - 1);
        let too_many = too_many.map(|(at, _)| at);
        bytes.truncate(too_many.unwrap_or(bytes.len()));
        bytes.shrink_to_fit();
        Self { bytes, cut: cut || too_many.is_some() }
    }

    /// The arguments, as bytes; none when there is no command line.
    pub fn argv(&self) -> impl Iterator<Item = &[u8]> {
        let some = !self.bytes.is_empty();
        some.then(|| self.bytes.split(|b| *b == 0)).into_iter().flatten()
    }

    /// Whether there is no command line.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The arguments joined by spaces, as bytes: what a pattern is matched against.
    pub fn joined(&self) -> Vec<u8> {
        self.bytes.iter().map(|b| if *b == 0 { b' ' } else { *b }).collect()
    }
}

/// The ticks of `stat` as times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When it started.
    pub started: jiff::Timestamp,
    /// Processor time, user and system.
    pub cpu: std::time::Duration,
}

/// One thread.
#[derive(Clone, Debug)]
pub struct Thread {
    /// When it started, and what processor time it has used.
    pub times: Times,
    /// `/proc/PID/task/TID/stat`.
    pub stat: Stat,
    /// `/proc/PID/task/TID/status`: its SigBlk and SigPnd are the thread's own.
    pub status: Status,
}

/// One process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Which one.
    pub id: ProcessId,
    /// When it started, and what processor time it has used.
    pub times: Times,
    /// `/proc/PID/stat`.
    pub stat: Stat,
    /// `/proc/PID/status`: of the main thread where a fact is a thread's.
    pub status: Status,
    /// Its PID namespace; none when we may not ask.
    pub pid_ns: Option<NamespaceId>,
    /// `/proc/PID/cmdline`; absent when it was not asked for.
    pub command: Fact<CommandLine>,
    /// Where `/proc/PID/exe` leads.
    pub exe: Fact<Vec<u8>>,
    /// Who takes its signals; absent when it was not asked for.
    pub waits: Fact<Waits>,
    /// The kernel function it sleeps in (`/proc/PID/wchan`), of a process in uninterruptible sleep
    /// whose signals are asked about.
    pub wchan: Option<Vec<u8>>,
    /// Its threads by number; empty when they were not asked for.
    pub threads: Vec<Thread>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(bytes: &[u8]) -> Vec<Vec<u8>> {
        CommandLine::parse(bytes.to_vec(), false).argv().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn arguments_end_with_nul() {
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
    fn more_arguments_than_can_be_are_cut() {
        let many = [b"x".as_slice(), &[0; 2 << 20], b"y"].concat();
        let command = CommandLine::parse(many, false);
        assert!(command.cut);
        assert_eq!(command.argv().count(), MAX_ARGUMENTS);
    }

    proptest::proptest! {
        /// Nothing panics, and no byte of an argument is lost.
        #[test]
        fn any_bytes_are_some_arguments(bytes: Vec<u8>) {
            let joined: usize = argv(&bytes).iter().map(Vec::len).sum();
            proptest::prop_assert_eq!(joined, bytes.iter().filter(|b| **b != 0).count());
        }
    }
}
