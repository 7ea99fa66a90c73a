//! The offsets of the clocks in time namespaces (time_namespaces(7)): in this program's, because the kernel times
//! its own records, those of its log and of its tracer, without them; in a process's, for the times that it passes
//! to system calls.

use std::io::Read;
use std::sync::OnceLock;

use jiff::SignedDuration;
use procfs::process::Process;

/// How far each clock is ahead of the host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockOffsets {
    /// CLOCK_MONOTONIC.
    pub monotonic: SignedDuration,
    /// CLOCK_BOOTTIME.
    pub boottime: SignedDuration,
}

impl ClockOffsets {
    /// Returns the offsets in our namespace; a kernel without time namespaces (before Linux 5.6) has no file of them.
    pub fn own() -> Self {
        static OWN: OnceLock<ClockOffsets> = OnceLock::new();
        *OWN.get_or_init(|| {
            let text = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
            Self::parse(&text)
        })
    }

    /// Returns the offsets in the time namespace of a process's children: also its own, unless it has called
    /// unshare(2). Where they cannot be read, our own.
    pub fn of(process: &Process) -> Self {
        let mut text = String::new();
        let file =
            process.open_relative("timens_offsets").map(|mut file| file.read_to_string(&mut text));
        file.map_or_else(|_| Self::own(), |_| Self::parse(&text))
    }

    /// Parses the file. Seconds may be negative, nanoseconds never are.
    ///
    /// ```text
    /// monotonic    -1000         0
    /// boottime    864000         0
    /// ```
    fn parse(text: &str) -> Self {
        let mut offsets = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [clock, seconds, nanoseconds] = words[..] else { continue };
            let (Ok(seconds), Ok(nanoseconds)) = (seconds.parse(), nanoseconds.parse::<u32>())
            else {
                continue;
            };
            let offset = SignedDuration::from_secs(seconds)
                .saturating_add(SignedDuration::from_nanos(nanoseconds.into()));
            match clock {
                "monotonic" => offsets.monotonic = offset,
                "boottime" => offsets.boottime = offset,
                _ => {}
            }
        }
        offsets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_parsed() {
        let offsets =
            ClockOffsets::parse("monotonic    -1000  500000000\nboottime    864000         0\n");
        assert_eq!(offsets.monotonic, SignedDuration::from_millis(-999_500));
        assert_eq!(offsets.boottime, SignedDuration::from_hours(240));
        for text in ["", "monotonic x 0\n", "boottime 5\n", "other 1 1\n"] {
            assert_eq!(ClockOffsets::parse(text), ClockOffsets::default());
        }
    }
}
