//! Parsers of option values that several commands have. Pure.

use std::ffi::OsString;
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::{Span, SpanRelativeTo, Timestamp, Zoned};
use regex::bytes::Regex;

use crate::error::{Error, ExitStatus};
use crate::model::signal::{Signal, SignalNumber};
use crate::model::stop_schedule::{StopSchedule, StopStep};

/// Hint for a command line without a container.
pub const LIST_HINT: &str = "`cinspect ls` lists the running containers";
/// The longest accepted duration; a longer one is a typing error.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Parses a grace period: as a duration, or `-1` for no limit.
///
/// # Errors
/// As [`duration`].
pub fn grace_period(text: &str) -> Result<Duration, String> {
    match text {
        "-1" => Ok(Duration::MAX),
        _ if text.starts_with('-') => {
            Err("expected a duration such as `5`, `5s`, `1m30s`, or -1 for no limit".into())
        }
        _ => duration(text),
    }
}

/// Parses a label, `KEY` or `KEY=VALUE`.
///
/// # Errors
/// Without a key: no container has such a label.
pub fn label(text: &str) -> Result<String, String> {
    match text.split('=').next() {
        None | Some("") => Err("expected a label such as `app` or `app=web`".into()),
        Some(_) => Ok(text.to_owned()),
    }
}

/// Returns a name unless it is empty, as that of a variable is that was not set.
///
/// # Errors
/// It is empty.
pub fn not_empty(name: OsString) -> Result<OsString, String> {
    if name.is_empty() { Err("expected a name".into()) } else { Ok(name) }
}

/// Parses a regular expression. An empty one would match every process.
///
/// # Errors
/// It is empty, or not a regular expression.
pub fn pattern(text: &str) -> Result<Regex, String> {
    match text {
        "" => Err("expected a regular expression".into()),
        text => Regex::new(text).map_err(|error| error.to_string()),
    }
}

/// Parses a duration: a number of seconds (`5`, `1.5`), or numbers with units (`500ms`, `5s`, `5m30s`,
/// `1d`).
///
/// # Errors
/// A message with the accepted form.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a duration such as `5`, `5s`, `1m30s`".to_owned();
    // jiff reads signs, `ago` and ISO 8601 (`PT5S`) too, which are not for timeouts.
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(expected());
    }
    let is_number = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let text = if is_number { format!("{text}s") } else { text.to_owned() };
    let span: Span = text.parse().map_err(|_| expected())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| expected())?;
    let duration = Duration::try_from(duration).map_err(|_| expected())?;
    if duration > LONGEST {
        return Err("longer than 100 years".into());
    }
    Ok(duration)
}

/// Smallest number that is a time in seconds since 1970 (here: of 1973), as in `docker logs --since`, and not a
/// duration.
const SMALLEST_TIME: i64 = 100_000_000;

/// Parses a point in time: a duration before now (`10m`, `-10m`, `10 minutes ago`), an RFC 3339 time, a date or
/// time without a zone, which is the local one, `today` or `yesterday`, or seconds since 1970.
///
/// # Errors
/// A message with the accepted form.
pub fn time(text: &str) -> Result<Timestamp, String> {
    time_at(text, &Zoned::now()).ok_or_else(|| {
        "expected a duration such as `10m`, or a time such as `2026-11-26T02:37:17Z`".into()
    })
}

fn time_at(text: &str, now: &Zoned) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let zone = now.time_zone();
    if let Ok(time) = text.parse::<DateTime>() {
        return time.to_zoned(zone.clone()).ok().map(|time| time.timestamp());
    }
    let seconds = text.split_once('.').map_or(text, |(seconds, _)| seconds);
    if let Some(seconds) = seconds.parse().ok().filter(|seconds| *seconds >= SMALLEST_TIME) {
        return Timestamp::from_second(seconds).ok();
    }
    let day = |days: i64| {
        let midnight = now.start_of_day().ok()?;
        midnight.checked_sub(Span::new().days(days)).ok().map(|time| time.timestamp())
    };
    match text {
        "now" => Some(now.timestamp()),
        "today" => day(0),
        "yesterday" => day(1),
        _ => {
            let text = text.strip_suffix(" ago").unwrap_or(text);
            let span = duration(text.strip_prefix('-').unwrap_or(text)).ok()?;
            now.timestamp().checked_sub(span).ok()
        }
    }
}

/// Returns the error for a command line without the container that it needs.
pub fn missing_container() -> Error {
    Error::new(ExitStatus::Usage, "missing argument: CTR").hint(LIST_HINT)
}

/// Parses a signal that a process can get.
///
/// # Errors
/// Not a signal, or 0; the hint has the signal that was probably meant.
pub fn signal(text: &str) -> Result<Signal, Error> {
    let probe = || {
        Error::new(ExitStatus::Usage, "invalid signal `0`")
            .cause("it only checks whether a signal could be sent")
            .hint("`cinspect signal -l` lists the signals")
    };
    signal_number(text)?.signal().ok_or_else(probe)
}

/// Parses a signal, or 0.
///
/// # Errors
/// Not a signal; the hint has the signal that was probably meant.
pub fn signal_number(text: &str) -> Result<SignalNumber, Error> {
    SignalNumber::parse(text).map_err(|unknown| {
        let error = Error::new(ExitStatus::Usage, unknown.to_string());
        let list = "`cinspect signal -l` lists the signals";
        match unknown.suggestion {
            Some(nearest) => error.hint(format!("did you mean `{nearest}`? {list}")),
            None => error.hint(list),
        }
    })
}

/// Parses the schedule of a stop: steps `SIGNAL:DURATION`, and `KILL` without a time at the end if that is
/// to follow (`QUIT:5s,TERM:10s,KILL`).
///
/// # Errors
/// Says which step is wrong.
pub fn schedule(text: &str) -> Result<StopSchedule, Error> {
    let error = |cause: String| {
        Error::new(ExitStatus::Usage, format!("`{text}` is not a valid schedule"))
            .cause(cause)
            .hint("steps are separated by commas: `QUIT:5s,TERM:10s,KILL`")
    };
    let mut schedule = StopSchedule::default();
    for step in text.split(',') {
        if schedule.kill {
            return Err(error("KILL has to be the last step".into()));
        }
        match step.split_once(':') {
            Some((name, time)) => {
                let grace =
                    duration(time).map_err(|expected| error(format!("`{step}`: {expected}")))?;
                schedule.steps.push(StopStep { signal: signal(name)?, grace });
            }
            None if signal(step)? == Signal::KILL => schedule.kill = true,
            None => return Err(error(format!("`{step}` has no duration"))),
        }
    }
    Ok(schedule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_numbers_and_units() {
        for (text, millis) in [
            ("0", 0),
            ("5", 5_000),
            ("1.5", 1_500),
            ("5s", 5_000),
            ("1.5s", 1_500),
            ("500ms", 500),
            ("2m", 120_000),
            ("5m30s", 330_000),
            ("1h30m", 5_400_000),
            ("0.5h", 1_800_000),
            ("1d", 86_400_000),
            ("1d12h", 129_600_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn other_words_are_refused_with_the_accepted_forms() {
        for text in [
            "", "s", ".5", "5.", "1.2.3", "-1", "+1", "1S", "1e3", "inf", "1ss", "٣s", "5x",
            "5s ago", "PT5S", "1y",
        ] {
            let error = duration(text).unwrap_err();
            assert!(error.starts_with("expected a duration such as"), "{text}: {error}");
        }
        for text in ["40000d", "99999999999999999999", "18446744073709551615d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn parses_points_in_time() {
        let now: Zoned = "2026-11-26T12:00:00+01:00[+01:00]".parse().unwrap();
        for (text, time) in [
            ("2026-11-26T02:37:17Z", "2026-11-26T02:37:17Z"),
            ("2026-11-26T02:37:17.5+02:00", "2026-11-26T00:37:17.5Z"),
            ("2026-11-26", "2026-11-25T23:00:00Z"),
            ("2026-11-26T02:37", "2026-11-26T01:37:00Z"),
            ("2026-11-26 02:37:17", "2026-11-26T01:37:17Z"),
            ("10m", "2026-11-26T10:50:00Z"),
            ("-10m", "2026-11-26T10:50:00Z"),
            ("10 minutes ago", "2026-11-26T10:50:00Z"),
            ("90", "2026-11-26T10:58:30Z"),
            ("1790000000", "2026-09-21T14:13:20Z"),
            ("1790000000.25", "2026-09-21T14:13:20Z"),
            ("now", "2026-11-26T11:00:00Z"),
            ("today", "2026-11-25T23:00:00Z"),
            ("yesterday", "2026-11-24T23:00:00Z"),
        ] {
            let time: Timestamp = time.parse().unwrap();
            assert_eq!(time_at(text, &now), Some(time), "{text}");
        }
        for text in ["", "-", "soon", "10x", "2026-13-01", "02:37", "--10m"] {
            assert_eq!(time_at(text, &now), None, "{text}");
        }
    }

    #[test]
    fn a_label_has_a_key() {
        for text in ["app", "app=", "app=web=1", " "] {
            assert_eq!(label(text).unwrap(), text);
        }
        for text in ["", "=", "=web"] {
            assert!(label(text).unwrap_err().contains("`app=web`"), "{text}");
        }
    }

    #[test]
    fn refuses_signal_zero_where_a_process_has_to_get_it() {
        assert_eq!(signal("term"), Ok(Signal::TERM));
        assert_eq!(signal("0").unwrap_err().message, "invalid signal `0`");
        assert!(signal_number("0").is_ok());
        assert!(signal_number("TREM").unwrap_err().hints[0].starts_with("did you mean `TERM`?"));
    }

    #[test]
    fn parses_a_schedule() {
        let step = |signal, seconds| StopStep { signal, grace: Duration::from_secs(seconds) };
        let parsed = schedule("QUIT:5s,TERM:1m,KILL").unwrap();
        let steps = vec![step(Signal::QUIT, 5), step(Signal::TERM, 60)];
        assert_eq!(parsed, StopSchedule { steps, kill: true, ..StopSchedule::default() });
        assert!(schedule("KILL").unwrap().steps.is_empty());
        assert!(!schedule("TERM:5").unwrap().kill);
        for text in ["", "TERM", "TERM:", "TERM:5x", "TREM:5", "KILL,TERM:1s"] {
            assert_eq!(schedule(text).unwrap_err().status, ExitStatus::Usage, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_duration_or_an_error(text: String, digits in "[0-9.]{0,30}(s|ms|d)?") {
            let _ = duration(&text);
            let _ = duration(&digits);
        }
    }
}
