//! JSON: one object per line (NDJSON), exact to the byte, made from a table of columns. Nothing here
//! prints, and no key is added that is not in the table.

use std::fmt::Write;

use data_encoding::BASE64;
use serde_json::{Map, Value as Json, json};

use super::column::Column;
use super::escape::unprintable;
use super::value::Value;

/// Returns a value on a line of its own, newline included. Characters that a terminal would act on or
/// hide are written as `\uXXXX`: the same string to every parser, and safe on a screen (JSON itself
/// requires this only below U+0020).
pub fn line(value: &Json) -> String {
    let plain = value.to_string();
    let mut out = String::with_capacity(plain.len() + 1);
    // Outside strings JSON is printable ASCII, so an unprintable character is within one.
    for c in plain.chars() {
        if unprintable(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}"); // writing to a String does not fail
            }
        } else {
            out.push(c);
        }
    }
    out.push('\n');
    out
}

/// Returns bytes exactly: a string, or `{"bytes": "<base64>"}` if they are not UTF-8.
pub fn bytes_to_json(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "bytes": BASE64.encode(bytes) }),
    }
}

/// Returns a value of a column, exactly.
pub fn value_to_json(value: &Value) -> Json {
    match value {
        Value::Absent | Value::Denied => Json::Null,
        Value::Int(number) => (*number).into(),
        Value::Numbers(numbers) => numbers.iter().copied().collect(),
        Value::Bytes(bytes) => bytes_to_json(bytes),
        Value::Argv(items) => items.iter().map(|item| bytes_to_json(item)).collect(),
        Value::Size(bytes) => (*bytes).into(),
        Value::Span(span) if span.subsec_nanos() == 0 => span.as_secs().into(),
        Value::Span(span) => span.as_secs_f64().into(),
        Value::Time(time) | Value::TimeUntil(time, _) => time.to_string().into(),
        Value::Signals(set) => set.names().into(),
        Value::Char(letter) => letter.to_string().into(),
        Value::Bool(yes) => (*yes).into(),
        Value::Labels(labels) => json!(labels),
        Value::Text(text) => text.as_ref().into(),
    }
}

/// Returns a row as an object: every column that has a path, in the order of the table, shown or not.
pub fn object<R>(table: &'static [Column<R>], row: &R) -> Json {
    let mut object = Map::new();
    for column in table {
        let Some(path) = column.json else { continue };
        match column.json_if {
            Some(has_value) if !has_value(row) => {
                if let Some((parent, _)) = path.split_once('.') {
                    object.entry(parent).or_insert(Json::Null);
                }
            }
            _ => put(&mut object, path, value_to_json(&(column.value)(row))),
        }
    }
    Json::Object(object)
}

/// Puts a value at a dotted path. If a part of the path is taken by something other than an object, the
/// value is lost; the audit of each table finds those.
fn put(object: &mut Map<String, Json>, path: &str, value: Json) {
    match path.split_once('.') {
        None => {
            object.insert(path.into(), value);
        }
        Some((first, rest)) => {
            let inner = object.entry(first).or_insert_with(|| Json::Object(Map::new()));
            if let Json::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::output::column::tests::{TABLE, TestRow};
    use crate::output::value::tests::cases;

    #[test]
    fn one_value_is_one_line_in_the_given_order() {
        let value = json!({"pid": 1, "comm": "a\nb", "exe": null});
        assert_eq!(line(&value), "{\"pid\":1,\"comm\":\"a\\nb\",\"exe\":null}\n");
    }

    #[test]
    fn a_row_is_nested_and_exact() {
        let row = TestRow { pid: 7, comm: b"a\xff", rss: None };
        let expected =
            r#"{"pid":7,"memory":{"rss":null,"x":{"blocked":["TERM"]}},"comm":{"bytes":"Yf8="}}"#;
        assert_eq!(object(TABLE, &row).to_string(), expected);
    }

    #[test]
    fn a_value_that_a_row_does_not_have_is_left_out() {
        static TABLE: &[Column<bool>] = &[
            Column::new("a", "A", "a", |_| Value::Int(1)).json("a").json_if(|has_it| *has_it),
            Column::new("b", "B", "b", |_| Value::Int(2)).json("x.b").json_if(|has_it| *has_it),
        ];
        assert_eq!(object(TABLE, &true), json!({"a": 1, "x": {"b": 2}}));
        assert_eq!(object(TABLE, &false), json!({"x": null}));
    }

    #[test]
    fn bytes_are_kept_exactly() {
        assert_eq!(bytes_to_json(b"a\x1b"), json!("a\u{1b}"));
        assert_eq!(bytes_to_json(b"bad\xff"), json!({"bytes": "YmFk/w=="}));
    }

    #[test]
    fn each_kind_of_value_has_its_json() {
        for (value, _, json) in cases() {
            assert_eq!(value_to_json(&value), json);
        }
    }

    #[test]
    fn escapes_are_safe_on_a_terminal() {
        let value = json!("\u{1b}\u{7f}\u{9b}\u{202e}\u{e0041}é");
        assert_eq!(line(&value), "\"\\u001b\\u007f\\u009b\\u202e\\udb40\\udc41é\"\n");
    }

    proptest! {
        #[test]
        fn any_string_survives_the_round_trip(text: String) {
            let written = line(&json!({ &text: &text }));
            prop_assert!(!written.trim_end_matches('\n').chars().any(unprintable));
            let read: Json = serde_json::from_str(&written).unwrap();
            prop_assert_eq!(read, json!({ &text: &text }));
        }
    }
}
