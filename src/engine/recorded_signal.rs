//! Stop signals as engines keep them: by name or number, where those in C and in Go read numbers each in their own way.
//! Users type signals in another (`Signal::parse`).

use crate::model::signal::Signal;
use crate::model::stop_policy::{StopPolicy, StopSignal, UnsignalledStop};

/// Parses a signal as engines in C read it: by name, or by number.
pub fn parse_signal(text: &str) -> Option<Signal> {
    let of_number = || Signal::new(c_integer(text)?.try_into().ok()?);
    // (`08` is neither: as a number it would be octal.)
    let is_name = !text.starts_with(|c: char| c.is_ascii_digit() || c == '+');
    of_number().or_else(|| Signal::parse(text).ok().filter(|_| is_name))
}

/// Parses a number as strtoul(3) with base 0 does: decimal, octal after `0`, hexadecimal after `0x`. (systemd also has
/// `0o` and `0b`.)
pub fn c_integer(text: &str) -> Option<i64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let (radix, digits) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &text[2..]),
        [b'0', b'o', ..] => (8, &text[2..]),
        [b'0', b'b', ..] => (2, &text[2..]),
        [b'0', _, ..] => (8, &text[1..]),
        _ => (10, text),
    };
    let is_number = digits.starts_with(|digit: char| digit.is_digit(radix));
    is_number.then(|| i64::from_str_radix(digits, radix).ok())?
}

/// Returns the stop policy with a stop signal as engines in Go record it: numbers with a sign or zeros before them are
/// theirs, too, and Docker takes 65, which it cannot send.
pub fn recorded_signal(text: Option<&str>) -> StopPolicy {
    let text = text.filter(|text| !text.is_empty());
    let of_number = |text: &str| Signal::new(text.parse().ok()?);
    let signal = text.and_then(|text| Signal::parse(text).ok().or_else(|| of_number(text)));
    let signal = match (text, signal) {
        (None, _) => StopSignal::Unset,
        (Some(_), Some(signal)) => StopSignal::Recorded(signal),
        (Some(_), None) => StopSignal::Unread("the recorded one is not a signal"),
    };
    StopPolicy { signal, ..StopPolicy::default() }
}

/// Returns the same for an engine whose stop is known where the recorded one is not a signal.
pub fn recorded_signal_or(text: Option<&str>, stop: UnsignalledStop) -> StopPolicy {
    let policy = recorded_signal(text);
    match policy.signal {
        StopSignal::Unread(_) => StopPolicy { signal: StopSignal::Unsignalled(stop), ..policy },
        StopSignal::Unset | StopSignal::Recorded(_) | StopSignal::Unsignalled(_) => policy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_stop_signal_that_is_none_is_not_called_the_default() {
        for (text, signal) in [("SIGTERM", 15), ("rtmin+3", 37), ("015", 15), ("+10", 10)] {
            let policy = recorded_signal(Some(text));
            let signal = StopSignal::Recorded(Signal::new(signal).unwrap());
            assert_eq!(policy.signal, signal, "{text}");
        }
        for text in ["65", "-1", "0", "NONSENSE"] {
            let policy = recorded_signal(Some(text));
            assert!(matches!(policy.signal, StopSignal::Unread(_)), "{text}");
        }
        assert_eq!(recorded_signal(Some("")), StopPolicy::default());
        assert_eq!(recorded_signal(None), StopPolicy::default());
    }

    #[test]
    fn numbers_are_those_of_c() {
        for (text, number) in [
            ("10", Some(10)),
            ("012", Some(10)),
            ("0xA", Some(10)),
            ("0o12", Some(10)),
            ("0b1010", Some(10)),
            ("+10", Some(10)),
            ("65", Some(65)),
            ("0", Some(0)),
            ("08", None),
            ("0x", None),
            ("0x+1", None),
            ("-1", None),
            ("10 ", None),
            ("TERM", None),
            ("", None),
        ] {
            assert_eq!(c_integer(text), number, "{text}");
        }
        for (text, signal) in [("012", 10), ("SIGUSR1", 10), ("RTMIN+3", 37), ("0b1010", 10)] {
            assert_eq!(parse_signal(text), Signal::new(signal), "{text}");
        }
        for text in ["08", "09", "+08", "0b2", "65"] {
            assert_eq!(parse_signal(text), None, "{text}");
        }
    }
}
