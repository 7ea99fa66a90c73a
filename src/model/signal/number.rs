//! Signal numbers: the 64 signals, and the argument of kill(2), which may also be 0. Their names are
//! in `table`, their spellings in `parse`.

use std::fmt;

/// A signal, 1 to 64. The numbers are those of Linux on every architecture but alpha, mips, parisc
/// and sparc (signal(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(pub(super) u8);

impl Signal {
    /// The first real-time signal as glibc counts them; musl's is 35.
    pub const RTMIN: Self = Self(34);
    /// systemd's signal for a clean shutdown (`halt.target`).
    pub const RTMIN_3: Self = Self(37);
    /// The last real-time signal, and the last of all.
    pub const RTMAX: Self = Self(64);
    /// glibc's internal signal for cancelling threads (`SIGCANCEL`).
    pub const RT32: Self = Self(32);
    /// glibc's internal signal for changing the credentials of all threads (`SIGSETXID`).
    pub const RT33: Self = Self(33);

    /// Returns the signal with this number; none outside 1 to 64.
    pub const fn new(number: u8) -> Option<Self> {
        match number {
            1..=64 => Some(Self(number)),
            _ => None,
        }
    }

    /// Returns the number, as kill(2) takes it.
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }

    /// Iterates over every signal, in numeric order.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=Self::RTMAX.0).map(Self)
    }
}

/// The signal argument of kill(2): a signal, or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignalNumber {
    /// 0: no signal is sent; only existence and permission are checked (kill(2)).
    Probe,
    /// A signal.
    Signal(Signal),
}

impl SignalNumber {
    /// Returns the number for kill(2).
    pub fn number(self) -> i32 {
        self.signal().map_or(0, Signal::number)
    }

    /// Returns the signal; none for the probe.
    pub fn signal(self) -> Option<Signal> {
        match self {
            Self::Probe => None,
            Self::Signal(signal) => Some(signal),
        }
    }
}

impl fmt::Display for SignalNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probe => f.pad("0"),
            Self::Signal(signal) => signal.fmt(f),
        }
    }
}
