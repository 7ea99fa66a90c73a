//! Entries for fuzzing: escaping of bytes from a container, for a terminal and for JSON.

use super::{escape, json};
use crate::model::fuzz::FuzzTarget;

/// The entries of this module.
pub const TARGETS: &[FuzzTarget] = &[("escaping", escaping)];

fn escaping(bytes: &[u8]) {
    let acts =
        |text: &str, tab: bool| text.chars().any(|c| escape::unprintable(c) && !(tab && c == '\t'));
    assert!(!acts(&escape::safe(bytes), false));
    assert!(!acts(&escape::safe_output(bytes), true));
    let argv: Vec<Vec<u8>> = bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    assert!(!acts(&escape::command_line(&argv), false));
    let line = json::line(&json::bytes_to_json(bytes));
    assert!(!acts(line.trim_end_matches('\n'), false));
    let read: Option<serde_json::Value> = serde_json::from_str(&line).ok();
    assert_eq!(read, Some(json::bytes_to_json(bytes)));
}
