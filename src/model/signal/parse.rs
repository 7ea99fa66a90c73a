//! Signals as users type them, and the signal that was probably meant when the text names none. The
//! names come from `table`.

use super::number::{Signal, SignalNumber};
use super::table::{SIGNALS, SignalEntry};

/// Text that does not name a signal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown signal `{given}`")]
pub struct UnknownSignal {
    /// The text.
    pub given: String,
    /// The one signal with a similar spelling.
    pub suggestion: Option<Signal>,
}

/// Length of the longest spelling of a signal.
const LONGEST: usize = "SIGRTMIN+30".len();
/// Text that is longer than a name by more than this is not a typing error.
const EXTRA: usize = 2;

impl Signal {
    /// Parses a signal as users spell it, in any case: `TERM`, `SIGTERM`, `15`, `RTMIN+3`,
    /// `SIGRTMAX-2`, `RT32`, and the aliases (`IOT`, `CLD`, `POLL`, `UNUSED`). A number is decimal
    /// without a leading zero; without text before or after it.
    ///
    /// # Errors
    /// [`UnknownSignal`], with the signal that was probably meant.
    pub fn parse(given: &str) -> Result<Self, UnknownSignal> {
        exact(given)
            .ok_or_else(|| UnknownSignal { given: given.to_owned(), suggestion: suggest(given) })
    }
}

impl SignalNumber {
    /// Parses everything that [`Signal::parse`] accepts, and `0`.
    ///
    /// # Errors
    /// [`UnknownSignal`].
    pub fn parse(given: &str) -> Result<Self, UnknownSignal> {
        match given {
            "0" => Ok(Self::Probe),
            _ => Signal::parse(given).map(Self::Signal),
        }
    }
}

fn exact(given: &str) -> Option<Signal> {
    if let Some(number) = small_number(given) {
        return Signal::new(number);
    }
    let name = plain_name(given)?;
    if let Some(above) = name.strip_prefix("RTMIN") {
        return Signal::new(Signal::RTMIN.0 + offset(above, '+')?);
    }
    if let Some(below) = name.strip_prefix("RTMAX") {
        let number = Signal::RTMAX.0.checked_sub(offset(below, '-')?)?;
        return Signal::new(number).filter(|signal| *signal >= Signal::RTMIN);
    }
    match name.as_str() {
        "RT32" => Some(Signal::RT32),
        "RT33" => Some(Signal::RT33),
        _ => standard_spellings().find(|(spelling, _)| *spelling == name).map(|(_, signal)| signal),
    }
}

fn standard_spellings() -> impl Iterator<Item = (&'static str, Signal)> {
    Signal::all().take(SIGNALS.len()).flat_map(|signal| {
        let spellings = signal.entry().into_iter().flat_map(SignalEntry::spellings);
        spellings.map(move |spelling| (spelling, signal))
    })
}

/// Parses one or two decimal digits without a leading zero, which could be meant as octal.
fn small_number(text: &str) -> Option<u8> {
    match *text.as_bytes() {
        [ones @ b'0'..=b'9'] => Some(ones - b'0'),
        [tens @ b'1'..=b'9', ones @ b'0'..=b'9'] => Some((tens - b'0') * 10 + ones - b'0'),
        _ => None,
    }
}

/// Parses the text after `RTMIN` or `RTMAX`: nothing, or the sign and a number.
fn offset(text: &str, sign: char) -> Option<u8> {
    match text.strip_prefix(sign) {
        Some(number) => small_number(number),
        None => text.is_empty().then_some(0),
    }
}

/// Returns the text in upper case and without `SIG`; none if it is too long to name a signal.
fn plain_name(given: &str) -> Option<String> {
    if given.len() > LONGEST + EXTRA {
        return None;
    }
    let upper = given.to_ascii_uppercase();
    Some(upper.strip_prefix("SIG").map(str::to_owned).unwrap_or(upper))
}

/// Returns the signal that was probably meant: the spelling of kill(1) (`-9`), a stray space, or the
/// one name within a typing error. None if two names are equally near.
fn suggest(given: &str) -> Option<Signal> {
    let trimmed = given.trim().trim_start_matches('-');
    if let Some(signal) = exact(trimmed) {
        return Some(signal);
    }
    let name = plain_name(trimmed)?;
    let real_time = [("RTMIN", Signal::RTMIN), ("RTMAX", Signal::RTMAX)];
    let mut nearest = None;
    let mut least = 1 + (name.len() / 3).max(1);
    for (spelling, signal) in standard_spellings().chain(real_time) {
        // Edits, where swapped neighbours count as one.
        let edits = strsim::osa_distance(&name, spelling);
        // Text that shares no letter (`A` and `IO`) is not near, however short both are.
        if edits < least && edits < name.len().min(spelling.len()) {
            least = edits;
            nearest = Some(signal);
        } else if edits == least && nearest != Some(signal) {
            nearest = None;
        }
    }
    // RTMIN+31 is near to RTMIN, and does not mean it.
    let alphabetic = name.bytes().all(|b| b.is_ascii_alphabetic());
    nearest.filter(|signal| *signal < Signal::RTMIN || alphabetic)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_every_name_and_number() {
        for signal in Signal::all() {
            let name = signal.name();
            for spelling in [name.clone(), format!("SIG{name}"), name.to_lowercase()] {
                assert_eq!(Signal::parse(&spelling), Ok(signal), "{spelling}");
            }
            assert_eq!(Signal::parse(&signal.number().to_string()), Ok(signal));
            assert!(!signal.describe().is_empty());
        }
    }

    #[test]
    fn parses_aliases_and_offsets() {
        for (given, number) in [
            ("IOT", 6),
            ("sigcld", 17),
            ("POLL", 29),
            ("UNUSED", 31),
            ("RTMAX", 64),
            ("RTMAX-2", 62),
            ("SIGRTMAX-30", 34),
            ("RTMIN+0", 34),
            ("RTMAX-0", 64),
            ("rtmin+30", 64),
        ] {
            assert_eq!(Signal::parse(given).map(Signal::number), Ok(number), "{given}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for bad in [
            "",
            "SIG",
            "0",
            "00",
            "65",
            "015",
            "+15",
            "-15",
            "0xf",
            "15 ",
            " 15",
            "TERM ",
            "TERM\n",
            "SIG15",
            "RTMIN+31",
            "RTMIN-1",
            "RTMIN+",
            "RTMIN3",
            "RTMIN++3",
            "RTMIN+03",
            "RTMAX-31",
            "RTMAX+1",
            "RT34",
            "RT",
            "TERMINATE",
        ] {
            assert_eq!(Signal::parse(bad).unwrap_err().given, bad);
        }
        for bad in ["SIGSIGTERM", "１５", "99999999999999999999"] {
            assert!(Signal::parse(bad).is_err());
        }
    }

    #[test]
    fn suggests_a_signal_for_a_typing_error() {
        for (given, meant) in [
            ("TREM", Some(Signal::TERM)),
            ("SIGTEMR", Some(Signal::TERM)),
            ("kil", Some(Signal::KILL)),
            ("-9", Some(Signal::KILL)),
            ("-SIGHUP", Some(Signal::HUP)),
            (" TERM", Some(Signal::TERM)),
            ("TERMM", Some(Signal::TERM)),
            ("RTMIM", Some(Signal::RTMIN)),
            ("WNICH", Some(Signal::WINCH)),
            ("USR3", None),
            ("RTMIN+31", None),
            ("RTMIN3", None),
            ("BANANA", None),
            ("A", None),
            ("65", None),
            ("", None),
        ] {
            assert_eq!(Signal::parse(given).unwrap_err().suggestion, meant, "{given}");
        }
        assert_eq!(Signal::parse("TREM").unwrap_err().to_string(), "unknown signal `TREM`");
    }

    #[test]
    fn zero_is_the_probe() {
        assert_eq!(SignalNumber::parse("0"), Ok(SignalNumber::Probe));
        assert_eq!(SignalNumber::parse("9"), Ok(SignalNumber::Signal(Signal::KILL)));
        assert!(SignalNumber::parse("00").is_err());
        assert_eq!(SignalNumber::Probe.number(), 0);
    }

    proptest! {
        /// Parsing never panics, and the text of an error is the given one.
        #[test]
        fn any_text_parses_or_is_quoted(text in ".{0,20}", name in "(SIG)?[A-Z0-9+-]{0,9}") {
            for given in [&text, &name] {
                match SignalNumber::parse(given) {
                    Ok(number) => prop_assert_eq!(SignalNumber::parse(&number.to_string()), Ok(number)),
                    Err(error) => prop_assert_eq!(&error.given, given),
                }
            }
        }
    }
}
