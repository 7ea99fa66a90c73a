//! A value in a cell: its text and its order. Bytes from a container are escaped here, on their way to
//! text. (`json` returns its exact form.)

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::escape::{command_line, safe, safe_str};
use super::style::TableOptions;
use super::units::{age, set};
use crate::model::byte_size::size;
use crate::model::process::Fact;
use crate::model::signal::SignalSet;

/// A column's value of one row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Does not apply: `-`, in JSON null.
    Absent,
    /// Could not be read: `?`, in JSON null.
    Denied,
    /// A number.
    Int(i64),
    /// Numbers: `7,13`.
    Numbers(Vec<i32>),
    /// A string from a container or a file.
    Bytes(Vec<u8>),
    /// Arguments.
    Argv(Vec<Vec<u8>>),
    /// Bytes of memory or disk: `1.2M`, in JSON the number.
    Size(u64),
    /// A duration: `3m20s`, in JSON seconds.
    Span(Duration),
    /// A moment: its age, in JSON RFC 3339.
    Time(Timestamp),
    /// A moment and a later one, to which its age is counted: the last time a process was seen.
    TimeUntil(Timestamp, Timestamp),
    /// A set of signals.
    Signals(SignalSet),
    /// One letter, such as a process state.
    Char(char),
    /// Yes or no.
    Bool(bool),
    /// Keys with their values.
    Labels(BTreeMap<String, String>),
    /// A text of this program.
    Text(Cow<'static, str>),
}

impl Value {
    /// Returns the value of a fact, or that it was denied or is absent.
    pub fn of_fact<T>(fact: &Fact<T>, value: impl FnOnce(&T) -> Self) -> Self {
        match fact {
            Fact::Known(fact) => value(fact),
            Fact::Denied => Self::Denied,
            Fact::Absent => Self::Absent,
        }
    }

    /// Makes a text.
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned().into())
    }

    /// Makes a text, or [`Value::Absent`].
    pub fn optional_text(text: Option<&str>) -> Self {
        text.map_or(Self::Absent, Self::text)
    }

    /// Makes a number.
    pub fn int(number: i32) -> Self {
        Self::Int(number.into())
    }

    /// Makes a number, or [`Value::Absent`].
    pub fn optional_int(number: Option<i32>) -> Self {
        number.map_or(Self::Absent, Self::int)
    }

    /// Returns the value as one line of safe text.
    pub fn to_text(&self, options: &TableOptions) -> String {
        match self {
            Self::Absent => "-".into(),
            Self::Denied => "?".into(),
            Self::Int(number) => number.to_string(),
            Self::Numbers(numbers) if numbers.is_empty() => "-".into(),
            Self::Numbers(numbers) => join(numbers),
            Self::Bytes(bytes) => safe(bytes).into_owned(),
            Self::Argv(argv) if argv.is_empty() => "-".into(),
            Self::Argv(argv) => command_line(argv),
            Self::Size(bytes) => size(*bytes),
            Self::Span(span) => age(*span),
            Self::Time(time) => age_at(*time, options.now),
            Self::TimeUntil(time, until) => age_at(*time, *until),
            Self::Signals(signals) if options.raw => signals.to_hex(),
            Self::Signals(signals) => set(&signals.short()),
            Self::Char(letter) => safe_str(letter.encode_utf8(&mut [0; 4])).into_owned(),
            Self::Bool(yes) => if *yes { "yes" } else { "no" }.into(),
            Self::Labels(labels) if labels.is_empty() => "-".into(),
            Self::Labels(labels) => {
                let pairs: Vec<String> =
                    labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                safe_str(&pairs.join(",")).into_owned()
            }
            Self::Text(text) => safe_str(text).into_owned(),
        }
    }

    /// Returns the place of the value's kind among the kinds, where a column holds several.
    fn rank(&self) -> u8 {
        match self {
            Self::Int(_) | Self::Size(_) => 0,
            Self::Span(_) => 1,
            Self::Time(_) | Self::TimeUntil(..) => 2,
            Self::Signals(_) => 3,
            Self::Bool(_) => 4,
            Self::Char(_) | Self::Bytes(_) | Self::Text(_) | Self::Argv(_) | Self::Numbers(_) => 5,
            Self::Labels(_) => 6,
            Self::Denied => 7,
            Self::Absent => 8,
        }
    }

    fn number(&self) -> i128 {
        match self {
            Self::Int(number) => (*number).into(),
            Self::Size(bytes) => (*bytes).into(),
            _ => 0,
        }
    }

    /// Returns the bytes of a text of any kind; arguments with a space between them.
    fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Bytes(bytes) => bytes.into(),
            Self::Text(text) => text.as_bytes().into(),
            Self::Char(letter) => letter.to_string().into_bytes().into(),
            Self::Argv(items) => items.join(&b' ').into(),
            Self::Numbers(numbers) => join(numbers).into_bytes().into(),
            _ => Cow::Borrowed(&[]),
        }
    }
}

fn join(numbers: &[i32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(i32::to_string).collect();
    numbers.join(",")
}

/// Returns an age; a moment in the future (the clock was set back) has the age 0.
fn age_at(time: Timestamp, now: Timestamp) -> String {
    age(now.duration_since(time).try_into().unwrap_or_default())
}

/// Compares two values: numbers as numbers, text by its bytes, unknown values last. The order is total
/// for values of any kinds, as sorting requires.
pub fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Span(a), Value::Span(b)) => a.cmp(b),
        (Value::Time(a) | Value::TimeUntil(a, _), Value::Time(b) | Value::TimeUntil(b, _)) => {
            a.cmp(b)
        }
        (Value::Signals(a), Value::Signals(b)) => a.0.cmp(&b.0),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Labels(a), Value::Labels(b)) => a.cmp(b),
        _ => (a.rank().cmp(&b.rank()))
            .then_with(|| a.number().cmp(&b.number()))
            .then_with(|| a.bytes().cmp(&b.bytes())),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::output::escape::unprintable;

    /// Returns one value of each kind, with its text (at 2026-01-01T02:05:00Z) and its JSON.
    pub fn cases() -> Vec<(Value, &'static str, Json)> {
        let then: Timestamp = "2026-01-01T00:00:00.5Z".parse().unwrap();
        let words = vec![b"a\n".to_vec(), b"b\xff".to_vec()];
        vec![
            (Value::Absent, "-", json!(null)),
            (Value::Denied, "?", json!(null)),
            (Value::Int(-3), "-3", json!(-3)),
            (Value::Bytes(b"x\x1b".to_vec()), r"x\x1b", json!("x\u{1b}")),
            (Value::Argv(words), r"a\n b\xff", json!(["a\n", {"bytes": "Yv8="}])),
            (Value::Argv(vec![]), "-", json!([])),
            (Value::Size(u64::MAX), "16E", json!(u64::MAX)),
            (Value::Span(Duration::from_secs(90)), "1m30s", json!(90)),
            (Value::Span(Duration::from_millis(1500)), "1s", json!(1.5)),
            (Value::Time(then), "2h04m", json!("2026-01-01T00:00:00.5Z")),
            (Value::TimeUntil(then, then), "0s", json!("2026-01-01T00:00:00.5Z")),
            (Value::Time(Timestamp::MAX), "0s", json!(Timestamp::MAX.to_string())),
            (Value::Signals(SignalSet(1 << 14)), "TERM", json!(["TERM"])),
            (
                Value::Signals(SignalSet(!(1 << 14))),
                "all but TERM",
                json!(SignalSet(!(1 << 14)).names()),
            ),
            (Value::Char('S'), "S", json!("S")),
            (Value::Char('\u{9b}'), r"\x9b", json!("\u{9b}")),
            (Value::Bool(true), "yes", json!(true)),
            (
                Value::Labels([("k".to_owned(), "v\n".to_owned())].into()),
                r"k=v\n",
                json!({"k": "v\n"}),
            ),
            (Value::Labels(BTreeMap::new()), "-", json!({})),
            (Value::text("literal…"), "literal…", json!("literal…")),
        ]
    }

    #[test]
    fn each_kind_of_value_has_its_text() {
        let now: Timestamp = "2026-01-01T02:05:00Z".parse().unwrap();
        let options = TableOptions { now, ..TableOptions::default() };
        for (value, text, _) in cases() {
            assert_eq!(value.to_text(&options), text);
        }
        let raw = TableOptions { raw: true, ..options };
        assert_eq!(Value::Signals(SignalSet(1 << 14)).to_text(&raw), "0000000000004000");
    }

    pub fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Absent),
            Just(Value::Denied),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::Size),
            any::<u32>().prop_map(|s| Value::Span(Duration::from_secs(s.into()))),
            any::<u64>().prop_map(|s| Value::Signals(SignalSet(s))),
            any::<char>().prop_map(Value::Char),
            any::<bool>().prop_map(Value::Bool),
            any::<Vec<u8>>().prop_map(Value::Bytes),
            any::<Vec<Vec<u8>>>().prop_map(Value::Argv),
        ]
    }

    proptest! {
        #[test]
        fn any_value_is_one_safe_line(value in any_value()) {
            let shown = value.to_text(&TableOptions::default());
            prop_assert!(!shown.chars().any(unprintable));
        }
    }
}
