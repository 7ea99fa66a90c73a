//! The lines of a trace, held until they are in order, and the time of day of the kernel's records.

use jiff::{SignedDuration, Timestamp};

use crate::proc::monotonic_now;

/// Lines in the order of time. Lines of later events wait until the status of an exit is known.
#[derive(Debug, Default)]
pub(super) struct TraceLines(Vec<(u64, String)>);

impl TraceLines {
    /// Adds the line of an event at a time.
    pub(super) fn add(&mut self, time: u64, line: String) {
        self.0.push((time, line));
    }

    /// Takes the lines of the events before a time, or all.
    pub(super) fn take_before(&mut self, until: Option<u64>) -> String {
        self.0.sort_by_key(|(time, _)| *time);
        let ready = until.map_or(self.0.len(), |until| self.0.partition_point(|(t, _)| *t < until));
        self.0.drain(..ready).map(|(_, line)| line).collect()
    }
}

/// The time of day of moments of CLOCK_MONOTONIC. The difference stays the same until the clock is set, so that
/// times are in the order of the moments.
pub(super) struct WallClock(SignedDuration);

/// A larger change of the difference is one of the clock, not of the measurement.
const CLOCK_WAS_SET: SignedDuration = SignedDuration::from_millis(1);

impl WallClock {
    pub(super) fn new() -> Self {
        Self(difference())
    }

    /// Notes that the clock was set, if it was.
    pub(super) fn refresh(&mut self) {
        let now = difference();
        if (now - self.0).abs() > CLOCK_WAS_SET {
            self.0 = now;
        }
    }

    /// Returns the time of day of a moment, in nanoseconds.
    pub(super) fn time(&self, moment: u64) -> Timestamp {
        let moment = SignedDuration::from_nanos_i128(moment.into());
        Timestamp::UNIX_EPOCH.saturating_add(moment + self.0).unwrap_or(Timestamp::MAX)
    }
}

/// Returns the time of day less CLOCK_MONOTONIC: of some readings the one that was interrupted least.
fn difference() -> SignedDuration {
    let reading = || {
        let before = monotonic_now();
        let time = Timestamp::now();
        let after = monotonic_now();
        let moment = SignedDuration::from_nanos_i128(i128::from(before + (after - before) / 2));
        (after - before, time.duration_since(Timestamp::UNIX_EPOCH) - moment)
    };
    let readings: [(u64, SignedDuration); 3] = std::array::from_fn(|_| reading());
    readings.into_iter().min_by_key(|(took, _)| *took).map(|(_, found)| found).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_in_the_order_of_time() {
        let mut lines = TraceLines::default();
        for time in [3, 1, 5, 4] {
            lines.add(time, format!("{time} "));
        }
        assert_eq!(lines.take_before(Some(4)), "1 3 ");
        lines.add(2, "2 ".into());
        assert_eq!(lines.take_before(None), "2 4 5 ");
    }

    #[test]
    fn times_are_in_the_order_of_the_moments() {
        let mut clock = WallClock::new();
        let first = clock.time(1000);
        clock.refresh();
        assert_eq!((clock.time(1001) - first).get_nanoseconds(), 1);
        let elapsed = Timestamp::now().duration_since(clock.time(monotonic_now()));
        assert!(elapsed.abs() < SignedDuration::from_secs(60), "{elapsed}");
    }
}
