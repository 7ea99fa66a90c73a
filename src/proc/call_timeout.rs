//! The timeout of the system call that a thread sleeps in: when the call returns by itself, the program may look
//! for a signal that it blocks. Timeouts are in arguments, or in memory of the process. A call that is not known to
//! wait without a timeout may have one: of a socket (SO_SNDTIMEO), in an io_uring, or in a call of a 32-bit program,
//! which has another number. Nothing here reads a process.

use std::time::Duration;

use jiff::SignedDuration;
use nix::libc;
use nix::time::{ClockId, clock_gettime};

use super::time_namespace::ClockOffsets;

/// The timeout of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallTimeout {
    /// After these milliseconds.
    Milliseconds(u32),
    /// After a time, a `struct timespec` in memory.
    Timespec(u64),
    /// After a time, a `struct timeval` in memory.
    Timeval(u64),
    /// At a time of this clock, a `struct timespec` in memory.
    Until(u64, libc::clockid_t),
    /// One that is not in the arguments, if there is one: of a call that is continued (restart_syscall(2)), or of a
    /// socket.
    Elsewhere,
}

impl CallTimeout {
    /// Returns the timeout of a system call; none if it returns only for another reason.
    pub fn of(number: libc::c_long, arguments: [u64; 6]) -> Option<Self> {
        let [first, second, third, fourth, fifth, _] = arguments;
        let timeout = match number {
            libc::SYS_nanosleep => Self::Timespec(first),
            libc::SYS_clock_nanosleep if second & TIMER_ABSTIME == 0 => Self::Timespec(third),
            libc::SYS_clock_nanosleep => Self::Until(third, first as libc::clockid_t),
            libc::SYS_ppoll | libc::SYS_rt_sigtimedwait => Self::Timespec(third),
            libc::SYS_epoll_pwait2 | libc::SYS_semtimedop => Self::Timespec(fourth),
            libc::SYS_pselect6 | libc::SYS_io_getevents => Self::Timespec(fifth),
            libc::SYS_mq_timedreceive | libc::SYS_mq_timedsend => {
                Self::Until(fifth, libc::CLOCK_REALTIME)
            }
            libc::SYS_futex => Self::of_futex(second as i32, fourth),
            libc::SYS_epoll_pwait => return Self::milliseconds(fourth),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_wait => return Self::milliseconds(fourth),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_poll => return Self::milliseconds(third),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_select => Self::Timeval(fifth),
            _ if UNTIMED.contains(&number) || OLD.contains(&number) => return None,
            _ => return Some(Self::Elsewhere),
        };
        Some(timeout).filter(|timeout| timeout.address() != Some(0))
    }

    /// Returns the timeout of futex(2): FUTEX_WAIT alone has one that is relative.
    fn of_futex(operation: i32, address: u64) -> Self {
        match operation & libc::FUTEX_CMD_MASK {
            libc::FUTEX_WAIT => Self::Timespec(address),
            libc::FUTEX_LOCK_PI => Self::Until(address, libc::CLOCK_REALTIME),
            _ if operation & libc::FUTEX_CLOCK_REALTIME != 0 => {
                Self::Until(address, libc::CLOCK_REALTIME)
            }
            _ => Self::Until(address, libc::CLOCK_MONOTONIC),
        }
    }

    /// Returns a timeout in milliseconds, an `int` of which a negative one means none.
    fn milliseconds(argument: u64) -> Option<Self> {
        u32::try_from(argument as i32).ok().map(Self::Milliseconds)
    }

    /// Returns the address of a timeout that is in memory.
    pub fn address(self) -> Option<u64> {
        match self {
            Self::Timespec(address) | Self::Timeval(address) | Self::Until(address, _) => {
                Some(address)
            }
            Self::Milliseconds(_) | Self::Elsewhere => None,
        }
    }

    /// Returns the least time until the call returns by itself, given the two words at the address, the age of
    /// the process, within which the call began, and the clocks of its time namespace.
    pub fn least(
        self,
        words: Option<[u64; 2]>,
        age: Duration,
        offsets: impl FnOnce() -> ClockOffsets,
    ) -> Duration {
        let after = match (self, words) {
            (Self::Milliseconds(milliseconds), _) => Duration::from_millis(milliseconds.into()),
            (Self::Timespec(_), Some(words)) => duration(words, 1),
            (Self::Timeval(_), Some(words)) => duration(words, 1000),
            (Self::Until(_, clock), Some(words)) => {
                return now(clock, offsets())
                    .map_or(Duration::ZERO, |now| duration(words, 1).saturating_sub(now));
            }
            (_, None) | (Self::Elsewhere, _) => Duration::ZERO,
        };
        after.saturating_sub(age)
    }
}

/// Calls that wait without a timeout. (Of read(2) and readv(2) the descriptor decides.)
const UNTIMED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_rt_sigsuspend,
    libc::SYS_flock,
    libc::SYS_fcntl,
    libc::SYS_openat,
    libc::SYS_msgrcv,
    libc::SYS_msgsnd,
    libc::SYS_semop,
];
/// The same calls, which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const OLD: &[libc::c_long] = &[libc::SYS_pause, libc::SYS_open];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[libc::c_long] = &[];

/// The sleep ends at a time, not after one (clock_nanosleep(2)): Python sleeps so since 3.11.
const TIMER_ABSTIME: u64 = libc::TIMER_ABSTIME as u64;

/// Returns a time from seconds and a fraction of a second.
fn duration([seconds, fraction]: [u64; 2], unit: u64) -> Duration {
    let fraction = Duration::from_nanos(fraction.saturating_mul(unit));
    Duration::from_secs(seconds).saturating_add(fraction)
}

/// Returns the time of a clock in a time namespace; none of a clock that is another for each process.
fn now(clock: libc::clockid_t, offsets: ClockOffsets) -> Option<Duration> {
    let own = ClockOffsets::own();
    let ahead = match clock {
        libc::CLOCK_REALTIME => SignedDuration::ZERO,
        libc::CLOCK_MONOTONIC => offsets.monotonic.saturating_sub(own.monotonic),
        libc::CLOCK_BOOTTIME => offsets.boottime.saturating_sub(own.boottime),
        _ => return None,
    };
    let now = Duration::from(clock_gettime(ClockId::from_raw(clock)).ok()?);
    SignedDuration::try_from(now).ok()?.checked_add(ahead)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn least(timeout: CallTimeout, words: [u64; 2], age: Duration) -> Duration {
        timeout.least(Some(words), age, ClockOffsets::own)
    }

    #[test]
    fn calls_have_their_timeouts() {
        let until = |clock| Some(CallTimeout::Until(40, clock));
        let millisecond = Some(CallTimeout::Milliseconds(40));
        let after = Some(CallTimeout::Timespec(40));
        let (wait, private) = (libc::FUTEX_WAIT_BITSET as u64, libc::FUTEX_PRIVATE_FLAG as u64);
        let realtime = private | libc::FUTEX_CLOCK_REALTIME as u64;
        for (number, arguments, timeout) in [
            (libc::SYS_nanosleep, [40, 0, 0, 0, 0, 0], after),
            (libc::SYS_clock_nanosleep, [0, 0, 40, 0, 0, 0], after),
            (libc::SYS_clock_nanosleep, [1, 1, 40, 0, 0, 0], until(libc::CLOCK_MONOTONIC)),
            (libc::SYS_ppoll, [0, 0, 40, 0, 0, 0], after),
            (libc::SYS_ppoll, [1, 1, 0, 0, 0, 0], None),
            (libc::SYS_pselect6, [0, 0, 0, 0, 40, 0], after),
            (libc::SYS_epoll_pwait, [3, 1, 1, 40, 0, 0], millisecond),
            (libc::SYS_epoll_pwait, [3, 1, 1, u64::from(u32::MAX), 0, 0], None),
            (libc::SYS_futex, [1, private, 0, 40, 0, 0], after),
            (libc::SYS_futex, [1, wait, 0, 40, 0, 0], until(libc::CLOCK_MONOTONIC)),
            (libc::SYS_futex, [1, wait | realtime, 0, 40, 0, 0], until(libc::CLOCK_REALTIME)),
            (libc::SYS_futex, [1, wait, 0, 0, 0, 0], None),
            (libc::SYS_restart_syscall, [0; 6], Some(CallTimeout::Elsewhere)),
            (libc::SYS_recvfrom, [3, 40, 1, 0, 0, 0], Some(CallTimeout::Elsewhere)),
            (libc::SYS_sendfile, [3, 40, 0, 1, 0, 0], Some(CallTimeout::Elsewhere)),
            (libc::SYS_write, [3, 40, 1, 0, 0, 0], Some(CallTimeout::Elsewhere)),
            (libc::SYS_io_uring_enter, [3, 0, 1, 1, 0, 0], Some(CallTimeout::Elsewhere)),
            (libc::SYS_rt_sigsuspend, [40, 8, 0, 0, 0, 0], None),
            (libc::SYS_read, [0, 40, 1, 0, 0, 0], None),
            (libc::SYS_wait4, [40; 6], None),
        ] {
            assert_eq!(CallTimeout::of(number, arguments), timeout, "{number} {arguments:?}");
        }
    }

    #[test]
    fn a_call_that_began_before_returns_sooner() {
        let timeout = CallTimeout::Timespec(1);
        assert_eq!(least(timeout, [60, 500_000_000], SECOND), Duration::from_millis(59_500));
        assert_eq!(least(timeout, [60, 0], 100 * SECOND), Duration::ZERO);
        assert_eq!(least(CallTimeout::Timeval(1), [3, 500_000], SECOND), 5 * SECOND / 2);
        assert_eq!(least(CallTimeout::Milliseconds(1500), [0, 0], SECOND), SECOND / 2);
        assert_eq!(timeout.least(None, SECOND, ClockOffsets::own), Duration::ZERO);
    }

    #[test]
    fn a_time_is_one_of_the_time_namespace() {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| now.tv_sec() as u64);
        let until = CallTimeout::Until(1, libc::CLOCK_MONOTONIC);
        let about = |found: Duration| (99 * SECOND..=101 * SECOND).contains(&found);
        assert!(about(least(until, [now + 100, 0], 500 * SECOND)));
        let mut offsets = ClockOffsets::own();
        offsets.monotonic = offsets.monotonic.saturating_add(SignedDuration::from_secs(900));
        assert!(about(until.least(Some([now + 1000, 0]), SECOND, || offsets)));
        let of_process = CallTimeout::Until(1, libc::CLOCK_PROCESS_CPUTIME_ID);
        assert_eq!(least(of_process, [now + 1000, 0], SECOND), Duration::ZERO);
    }

    proptest::proptest! {
        #[test]
        fn any_call_has_a_least_time(number: u16, arguments: [u64; 6], words: [u64; 2], age: u64) {
            if let Some(timeout) = CallTimeout::of(number.into(), arguments) {
                let _ = least(timeout, words, Duration::from_secs(age));
            }
        }
    }
}
