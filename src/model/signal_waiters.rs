//! The threads and signalfds of a process that take signals which it blocks: threads in sigwait(3) and
//! similar calls, and readers of a signalfd. The kernel's `status` shows neither.

use std::ffi::c_long;
use std::time::Duration;

use super::signal::SignalSet;

/// The threads of a process and its signalfds, with the signals that they take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Its threads, the main thread first; the others only if the main thread blocks a requested signal.
    pub threads: Vec<ThreadWaits>,
    /// Whether that is all of its threads.
    pub all_threads: bool,
    /// Its signalfds (`/proc/PID/fdinfo/FD`, line `sigmask:`); not read if the main thread blocks no
    /// requested signal.
    pub signalfds: Vec<Signalfd>,
    /// Whether it has a timer of timer_create(2) that does something; none if that was not read.
    pub has_timer: Option<bool>,
}

impl Waits {
    /// Returns the signals that any thread or signalfd waits for.
    pub fn waited(&self) -> SignalSet {
        let threads = self.threads.iter().map(|thread| thread.awaited);
        let sets = threads.chain(self.signalfds.iter().map(|fd| fd.set));
        sets.fold(SignalSet::EMPTY, SignalSet::union)
    }
}

/// A thread and the signals and descriptors that it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadWaits {
    /// Its TID on the host.
    pub tid: i32,
    /// Whether it has exited.
    pub dead: bool,
    /// Signals that it blocks now (`SigBlk`). Signals that a thread in rt_sigtimedwait(2) waits for are
    /// shown as not blocked: the kernel unblocks them for the wait (`do_sigtimedwait`, kernel/signal.c).
    pub blocked: SignalSet,
    /// Signals that it waits for in rt_sigtimedwait(2) now.
    pub awaited: SignalSet,
    /// Descriptors that it waits for now.
    pub on: Waiting,
    /// The return of its system call by itself, if it does or may; read only if it blocks a requested signal.
    pub returns: Option<CallReturn>,
    /// The input that it waits for now.
    pub input: InputWait,
}

impl ThreadWaits {
    /// Returns a thread that blocks no signal, and sleeps without waiting for any descriptor.
    pub fn asleep(tid: i32) -> Self {
        Self {
            tid,
            dead: false,
            blocked: SignalSet::EMPTY,
            awaited: SignalSet::EMPTY,
            on: Waiting::Elsewhere,
            returns: None,
            input: InputWait::Elsewhere,
        }
    }
}

/// The return of a system call by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallReturn {
    /// The least time until then.
    pub least: Duration,
    /// Whether the call has a timeout; otherwise it may have one.
    pub is_certain: bool,
}

impl CallReturn {
    /// A call that may return at any time.
    pub const POSSIBLE: Self = Self { least: Duration::ZERO, is_certain: false };
}

/// The input that a thread waits for, whichever signals it blocks: it distinguishes a shell in `read` from one
/// that waits for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputWait {
    /// It is in read(2) of this descriptor.
    Read(i32),
    /// It is in poll(2) or select(2).
    Poll,
    /// None: it is in pause(2) or sigsuspend(2), which only the handler of a signal ends.
    Handler,
    /// It sleeps in another call.
    Elsewhere,
    /// It runs.
    Running,
}

/// Descriptors that a thread waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// These, in read(2), poll(2), select(2) or epoll_wait(2).
    Descriptors(Vec<i32>),
    /// These, in epoll_wait(2) on an epoll that it shares with its parent. The kernel wakes an epoll for
    /// the signals of the process that added the signalfd (`signalfd_poll`, fs/signalfd.c), and does not
    /// show which that was.
    Inherited(Vec<i32>),
    /// None: it sleeps in another call.
    Elsewhere,
    /// Not known: it runs, or is in a call that may read any of them next.
    Anything,
}

impl Waiting {
    /// Whether it waits for this descriptor.
    pub fn reads(&self, fd: i32) -> bool {
        matches!(self, Self::Descriptors(fds) if fds.contains(&fd))
    }

    /// Whether it is unknown if it reads this descriptor.
    pub fn might_read(&self, fd: i32) -> bool {
        matches!(self, Self::Inherited(fds) if fds.contains(&fd))
    }
}

/// A signalfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signalfd {
    /// Its descriptor in the process.
    pub fd: i32,
    /// The signals that it takes.
    pub set: SignalSet,
}

/// The system call of a thread, `/proc/PID/task/TID/syscall` (proc_pid_syscall(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Running (`running`).
    Running,
    /// Asleep outside a system call (`-1 …`), for example in a page fault.
    None,
    /// Asleep in this system call, with its six arguments.
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
        let mut words = text.split_ascii_whitespace();
        let word = words.next()?;
        if word == "running" {
            return Some(Self::Running);
        }
        let number: c_long = word.parse().ok()?;
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

/// Parses the `sigmask:` line in the fdinfo of a signalfd.
pub fn signalfd_set(fdinfo: &[u8]) -> Option<SignalSet> {
    let mut lines = fdinfo.split(|b| *b == b'\n');
    let digits = lines.find_map(|line| line.strip_prefix(b"sigmask:"))?;
    SignalSet::from_hex(digits.trim_ascii())
}

/// Parses `/proc/PID/timers` (since Linux 3.10): whether it has a timer that does more than run (SIGEV_NONE).
///
/// ```text
/// ID: 0
/// signal: 60/00007fff86e452a8
/// notify: signal/pid.2634
/// ClockID: 0
/// ```
pub fn has_timer(timers: &[u8]) -> bool {
    let mut lines = timers.split(|b| *b == b'\n');
    lines.any(|line| line.strip_prefix(b"notify: ").is_some_and(|how| !how.starts_with(b"none")))
}

/// POLLIN, as EPOLLIN: a signalfd sets no other event (`signalfd_poll`, fs/signalfd.c).
const READABLE: u32 = 0x1;

/// Parses the descriptors that an epoll watches for input in its fdinfo (`tfd:        5 events:       19 …`).
pub fn epoll_targets(fdinfo: &[u8]) -> Vec<i32> {
    let lines = fdinfo.split(|b| *b == b'\n');
    lines
        .filter_map(|line| {
            let rest = std::str::from_utf8(line.strip_prefix(b"tfd:")?).ok()?;
            let mut words = rest.split_whitespace();
            let fd = words.next()?.parse().ok()?;
            let events = words.nth(1).and_then(|events| u32::from_str_radix(events, 16).ok());
            (events.unwrap_or(READABLE) & READABLE != 0).then_some(fd)
        })
        .collect()
}

/// Parses the descriptors that are polled for input: `struct pollfd` has the descriptor, and two times 16 bits.
pub fn polled_descriptors(bytes: &[u8]) -> Vec<i32> {
    let (entries, _) = bytes.as_chunks::<8>();
    let readable = entries
        .iter()
        .filter(|entry| u32::from(u16::from_ne_bytes([entry[4], entry[5]])) & READABLE != 0);
    readable.map(|p| i32::from_ne_bytes([p[0], p[1], p[2], p[3]])).filter(|fd| *fd >= 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::signal::Signal;

    #[test]
    fn a_timer_without_notification_interrupts_nothing() {
        let timer = |notify: &str| format!("ID: 0\nsignal: 0/0\nnotify: {notify}.7\nClockID: 0\n");
        let none = timer("none/pid");
        assert!(!has_timer(b"") && !has_timer(none.as_bytes()));
        for notify in ["signal/pid", "signal/tid", "thread/pid"] {
            assert!(has_timer((none.clone() + &timer(notify)).as_bytes()));
        }
    }

    #[test]
    fn parses_the_call_of_a_thread() {
        let text = b"128 0x7ffe10 0x0 0x0 0x8 0x0 0x7f 0x7ffe00 0x7f0d00\n";
        assert_eq!(Call::parse(text), Some(Call::In(128, [0x7ffe10, 0, 0, 8, 0, 0x7f])));
        assert_eq!(Call::parse(b"running\n"), Some(Call::Running));
        assert_eq!(Call::parse(b"-1 0x7ffe00 0x7f0d00\n"), Some(Call::None));
        assert_eq!(Call::parse(b"0 0x1"), None);
        assert_eq!(Call::parse(b""), None);
    }

    #[test]
    fn parses_the_fdinfo_of_signalfds_and_epolls() {
        let set = signalfd_set(
            b"pos:\t0\nflags:\t02\nmnt_id:\t15\nino:\t2057\nsigmask:\t0000000000004002\n",
        );
        assert_eq!(set.map(|set| set.names()), Some(vec!["INT".to_owned(), "TERM".to_owned()]));
        assert!(set.is_some_and(|set| set.contains(Signal::TERM)));
        assert_eq!(signalfd_set(b"pos:\t0\n"), None);
        let epoll = b"pos:\t0\ntfd:        5 events:       19 data: 5  pos:0 ino:1 sdev:e\ntfd:       12 events: 1\n";
        assert_eq!(epoll_targets(epoll), [5, 12]);
        // Targets that were disarmed (EPOLLONESHOT), or are watched for output.
        let epoll = b"tfd:  5 events: 40000000 data: 5\ntfd: 12 events:       1c\ntfd: 6 events: 40000001\n";
        assert_eq!(epoll_targets(epoll), [6]);
        let polled = [[3, 0, 0, 0, 1, 0, 0, 0], [4, 0, 0, 0, 4, 0, 0, 0], [255; 8]];
        assert_eq!(polled_descriptors(polled.as_flattened()), [3]);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = (Call::parse(&bytes), signalfd_set(&bytes), epoll_targets(&bytes), polled_descriptors(&bytes));
        }

        #[test]
        fn any_call_and_mask_is_parsed_back(number: u16, arguments: [u64; 6], mask: u64) {
            let words: Vec<String> = arguments.iter().map(|word| format!("{word:#x}")).collect();
            let text = format!("{number} {} 0x7ffe 0x7f0d\n", words.join(" "));
            let call = Call::In(c_long::from(number), arguments);
            proptest::prop_assert_eq!(Call::parse(text.as_bytes()), Some(call));
            let text = format!("pos:\t0\nsigmask:\t{mask:016x}\n");
            proptest::prop_assert_eq!(signalfd_set(text.as_bytes()), Some(SignalSet(mask)));
        }
    }
}
