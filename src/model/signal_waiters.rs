//! Who in a process takes signals that it blocks: threads in sigwait and its like, and signalfds. The
//! kernel's `status` tells nothing of either.

use std::ffi::c_long;

use super::signal::SignalSet;

/// The threads of a process and its signalfds, as far as they take signals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Its threads, the main one first; the others only where a signal that is asked about is blocked
    /// in the main one.
    pub threads: Vec<ThreadWaits>,
    /// Whether all threads are among them.
    pub all_threads: bool,
    /// Its signalfds (`/proc/PID/fdinfo/FD`, line `sigmask:`); empty as well where no signal that is
    /// asked about is blocked in the main thread.
    pub signalfds: Vec<Signalfd>,
}

impl Waits {
    /// All that a thread or a signalfd waits for.
    pub fn waited(&self) -> SignalSet {
        let threads = self.threads.iter().map(|thread| thread.awaited);
        let all = threads.chain(self.signalfds.iter().map(|fd| fd.set));
        all.fold(SignalSet::EMPTY, SignalSet::union)
    }
}

/// One thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadWaits {
    /// Its number, in our `/proc`.
    pub tid: i32,
    /// Whether it has exited.
    pub dead: bool,
    /// What it blocks now (`SigBlk`). A thread in rt_sigtimedwait(2) shows what it waits for as not
    /// blocked: the kernel lifts that for the wait (`do_sigtimedwait`, kernel/signal.c).
    pub blocked: SignalSet,
    /// What it waits for in rt_sigtimedwait(2) now.
    pub awaited: SignalSet,
    /// What it does with descriptors now.
    pub on: Waiting,
}

/// Which descriptors a thread waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// For these, in read(2), poll(2), select(2) or epoll_wait(2).
    Descriptors(Vec<i32>),
    /// For these, in epoll_wait(2) on an epoll that is its parent's too. The kernel wakes an epoll
    /// for the signals of whoever put the signalfd there (`signalfd_poll`, fs/signalfd.c), and it
    /// does not tell who that was.
    Inherited(Vec<i32>),
    /// For none: it sleeps in another call.
    Elsewhere,
    /// It runs, or is in a call that may end in a read of any.
    Anything,
}

impl Waiting {
    /// Whether it may read this descriptor next.
    pub fn may_read(&self, fd: i32) -> bool {
        match self {
            Self::Descriptors(fds) => fds.contains(&fd),
            Self::Elsewhere | Self::Inherited(_) => false,
            Self::Anything => true,
        }
    }

    /// Whether it may be that it reads this descriptor, and that cannot be told.
    pub fn might_read(&self, fd: i32) -> bool {
        matches!(self, Self::Inherited(fds) if fds.contains(&fd))
    }
}

/// A signalfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signalfd {
    /// Its number in the process.
    pub fd: i32,
    /// What it takes.
    pub set: SignalSet,
}

/// What `/proc/PID/task/TID/syscall` says (proc_pid_syscall(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `running`.
    Running,
    /// Asleep, and in no system call (`-1 …`): a page fault, say.
    None,
    /// Asleep in this one, with its six arguments.
    In(c_long, [u64; 6]),
}

impl Call {
    /// Parses the file.
    ///
    /// ```text
    /// 128 0x7ffe4a8b1c30 0x0 0x0 0x8 0x0 0x0 0x7ffe4a8b1ba8 0x7f0d1c2e3f4a
    /// ```
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut words = text.split_whitespace();
        let first = words.next()?;
        if first == "running" {
            return Some(Self::Running);
        }
        let number: c_long = first.parse().ok()?;
        if number < 0 {
            return Some(Self::None);
        }
        let mut arguments = [0; 6];
        for argument in &mut arguments {
            *argument = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
        }
        Some(Self::In(number, arguments))
    }
}

/// The `sigmask:` line of a signalfd's fdinfo.
pub fn signalfd_set(fdinfo: &[u8]) -> Option<SignalSet> {
    let mut lines = fdinfo.split(|b| *b == b'\n');
    let digits = lines.find_map(|line| line.strip_prefix(b"sigmask:"))?;
    SignalSet::from_hex(digits.trim_ascii())
}

/// The descriptors that an epoll's fdinfo lists (`tfd:        5 events: …`).
pub fn epoll_targets(fdinfo: &[u8]) -> Vec<i32> {
    let lines = fdinfo.split(|b| *b == b'\n');
    lines
        .filter_map(|line| {
            let rest = std::str::from_utf8(line.strip_prefix(b"tfd:")?).ok()?;
            rest.split_whitespace().next()?.parse().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::signal::Signal;

    #[test]
    fn the_call_a_thread_sleeps_in() {
        let text = b"128 0x7ffe10 0x0 0x0 0x8 0x0 0x7f 0x7ffe00 0x7f0d00\n";
        assert_eq!(Call::parse(text), Some(Call::In(128, [0x7ffe10, 0, 0, 8, 0, 0x7f])));
        assert_eq!(Call::parse(b"running\n"), Some(Call::Running));
        assert_eq!(Call::parse(b"-1 0x7ffe00 0x7f0d00\n"), Some(Call::None));
        assert_eq!(Call::parse(b"0 0x1"), None);
        assert_eq!(Call::parse(b""), None);
    }

    #[test]
    fn descriptors_tell_what_they_take() {
        let set = signalfd_set(
            b"pos:\t0\nflags:\t02\nmnt_id:\t15\nino:\t2057\nsigmask:\t0000000000004002\n",
        );
        assert_eq!(set.map(|set| set.names()), Some(vec!["INT".to_owned(), "TERM".to_owned()]));
        assert!(set.is_some_and(|set| set.contains(Signal::TERM)));
        assert_eq!(signalfd_set(b"pos:\t0\n"), None);
        let epoll = b"pos:\t0\ntfd:        5 events:       19 data: 5  pos:0 ino:1 sdev:e\ntfd:       12 events: 1\n";
        assert_eq!(epoll_targets(epoll), [5, 12]);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = (Call::parse(&bytes), signalfd_set(&bytes), epoll_targets(&bytes));
        }
    }
}
