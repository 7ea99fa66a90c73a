//! Times and sets in short form.

use std::time::Duration;

/// Formats a time span in at most six characters, by its two largest units: `12s`, `3m20s`, `2h05m`,
/// `3d04h`, `412d`. Rounded down, as ages are; more than 99999 days are shown as 99999.
pub fn age(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h{:02}m", minutes % 60),
        (1..100, _, _) => format!("{days}d{:02}h", hours % 24),
        _ => format!("{}d", days.min(99_999)),
    }
}

/// Formats an interval or a grace time: `0.3s`, `10s`, `1m30s`.
pub fn interval(time: Duration) -> String {
    if time < Duration::from_secs(60) && time.subsec_millis() >= 50 {
        let seconds = format!("{:.1}", time.as_secs_f64());
        return format!("{}s", seconds.trim_end_matches(".0"));
    }
    age(time)
}

/// Spells out a set whose compact form names the missing members: `all but KILL,STOP` for `~KILL,STOP`.
pub fn set(compact: &str) -> String {
    match compact.strip_prefix('~') {
        Some(missing) => format!("all but {missing}"),
        None => compact.into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ages_are_short() {
        let cases = [
            (0, "0s"),
            (12, "12s"),
            (60, "1m00s"),
            (200, "3m20s"),
            (7500, "2h05m"),
            (86399, "23h59m"),
            (3 * 86400 + 4 * 3600, "3d04h"),
            (412 * 86400 + 9, "412d"),
            (u64::MAX, "99999d"),
        ];
        for (seconds, text) in cases {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn intervals_have_tenths_below_a_minute() {
        for (millis, text) in [
            (0, "0s"),
            (300, "0.3s"),
            (2000, "2s"),
            (1960, "2s"),
            (10_000, "10s"),
            (90_500, "1m30s"),
        ] {
            assert_eq!(interval(Duration::from_millis(millis)), text);
        }
    }

    proptest! {
        #[test]
        fn ages_keep_their_width(n: u64) {
            prop_assert!(age(Duration::from_secs(n)).len() <= 6);
        }
    }
}
