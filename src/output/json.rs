//! The only file that writes JSON: one object a line (NDJSON), exact to the byte. It adds no field
//! of its own, and does not print.

use std::fmt::Write;

use serde_json::Value;

use crate::output::text;

/// A value on a line of its own, newline included. Characters that a terminal would act on or hide
/// are written as `\uXXXX`: the same string to every parser, and safe where a person looks at it
/// (JSON itself asks this only for those below U+0020).
pub fn line(value: &Value) -> String {
    let plain = value.to_string();
    let mut out = String::with_capacity(plain.len() + 1);
    // Outside its strings JSON is printable ASCII, so what is found here stands within one.
    for c in plain.chars() {
        if text::unprintable(c) {
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

/// Many values, each on its line.
pub fn lines<'a>(values: impl IntoIterator<Item = &'a Value>) -> String {
    values.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn one_value_is_one_line_in_the_order_given() {
        let value = json!({"pid": 1, "comm": "a\nb", "exe": null});
        assert_eq!(line(&value), "{\"pid\":1,\"comm\":\"a\\nb\",\"exe\":null}\n");
        assert_eq!(lines([&json!(1), &json!([])]), "1\n[]\n");
        assert_eq!(lines([]), "");
    }

    #[test]
    fn a_terminal_is_safe_from_it() {
        let value = json!("\u{1b}\u{7f}\u{9b}\u{202e}\u{e0041}é");
        assert_eq!(line(&value), "\"\\u001b\\u007f\\u009b\\u202e\\udb40\\udc41é\"\n");
    }

    proptest! {
        #[test]
        fn any_string_comes_back(text: String) {
            let written = line(&json!({ &text: &text }));
            prop_assert!(!written.trim_end_matches('\n').chars().any(text::unprintable));
            let read: Value = serde_json::from_str(&written).unwrap();
            prop_assert_eq!(read, json!({ &text: &text }));
        }
    }
}
