//! Counts and times in sentences. Tables have their own, shorter forms (`output::units`).

use std::fmt::Display;
use std::time::Duration;

/// Returns a number with its noun: `1 process`, `3 processes`.
pub fn counted<N>(count: N, singular: &str, plural: &str) -> String
where
    N: Display + PartialEq + From<u8>,
{
    format!("{count} {}", if count == N::from(1) { singular } else { plural })
}

/// Returns a number of processes: `1 process`, `3 processes`.
pub fn processes(count: usize) -> String {
    counted(count, "process", "processes")
}

/// Returns a number of times: `once`, `3 times`.
pub fn times(count: u64) -> String {
    if count == 1 { "once".into() } else { format!("{count} times") }
}

/// Formats a grace time: `10 s`, `1.5 s`, `2 min`.
pub fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds >= 120.0 && time.as_secs().is_multiple_of(60) {
        return format!("{} min", time.as_secs() / 60);
    }
    let text = format!("{seconds:.1}");
    format!("{} s", text.strip_suffix(".0").unwrap_or(&text))
}
