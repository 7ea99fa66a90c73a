//! Removes the quoting of words of a shell's command line. Nothing is expanded.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Returns a word without its quotes and backslashes; the last quote may be open.
pub fn unquoted(word: &OsStr) -> OsString {
    let mut plain = Vec::new();
    let mut quote = None;
    let mut bytes = word.as_bytes().iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (None, b'\'' | b'"') => quote = Some(byte),
            (Some(open), byte) if open == byte => quote = None,
            (None, b'\\') => plain.extend(bytes.next()),
            // Between double quotes a backslash is literal except before these.
            (Some(b'"'), b'\\') => match bytes.peek() {
                Some(b'"' | b'\\' | b'$' | b'`') => plain.extend(bytes.next()),
                _ => plain.push(byte),
            },
            _ => plain.push(byte),
        }
    }
    OsString::from_vec(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_are_removed() {
        for (word, plain) in [
            ("web", "web"),
            ("my\\ file", "my file"),
            ("'web:/my file", "web:/my file"),
            ("\"a\\\"b\\c\"d", "a\"b\\cd"),
            ("'a\\b'", "a\\b"),
            ("end\\", "end"),
            ("$(reboot)", "$(reboot)"),
        ] {
            assert_eq!(unquoted(word.as_ref()), plain);
        }
    }
}
