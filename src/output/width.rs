//! Width of text on a terminal: measuring, cutting, wrapping.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::escape::printable_ascii;

/// Returns the columns a text takes on a terminal. The text has to be escaped already.
pub fn width(text: &str) -> usize {
    // Nearly all text; the crate goes through it letter by letter, most of a table's time.
    if printable_ascii(text.as_bytes()) { text.len() } else { text.width() }
}

/// Cuts a text to at most `cols` columns: unchanged if it fits, else its beginning and the ellipsis.
/// Wide characters are not halved, marks stay with their letter; if not even the ellipsis fits, it is
/// left out.
pub fn cut(text: &str, cols: usize, ellipsis: &str) -> String {
    if width(text) <= cols {
        return text.into();
    }
    let ellipsis = if width(ellipsis) > cols { "" } else { ellipsis };
    let (kept, _) = split_at(text, cols - width(ellipsis));
    format!("{kept}{ellipsis}")
}

/// Splits a text after at most `cols` columns. Wide characters are not halved, marks stay with their
/// letter.
pub fn split_at(text: &str, cols: usize) -> (&str, &str) {
    let mut used = 0;
    let fits = |c: char| {
        // Control characters have no width of their own; the crate counts them as one in a string.
        used += c.width().unwrap_or(1);
        used <= cols
    };
    let mut end = text.len() - text.trim_start_matches(fits).len();
    // A few sequences are wider than their characters are alone (a quote and U+FE01, say).
    while width(&text[..end]) > cols {
        end -= text[..end].chars().next_back().map_or(end, char::len_utf8);
    }
    text.split_at(end)
}

/// Breaks a text at spaces into lines of at most `room` columns; a longer word keeps a line of its own.
pub fn wrap(text: &str, room: Option<usize>) -> Vec<String> {
    wrap_words(text, room, false)
}

/// Breaks a text into lines of at most `room` columns: at spaces, and within words that are longer.
pub fn wrap_anywhere(text: &str, room: Option<usize>) -> Vec<String> {
    wrap_words(text, room, true)
}

fn wrap_words(text: &str, room: Option<usize>, break_words: bool) -> Vec<String> {
    let Some(room) = room else { return vec![text.to_owned()] };
    let options = textwrap::Options::new(room)
        .break_words(break_words)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::wrap(text, options).into_iter().map(Cow::into_owned).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::output::escape::safe_str;

    #[test]
    fn text_is_wrapped_at_words() {
        assert_eq!(wrap("a bc def", Some(4)), ["a bc", "def"]);
        assert_eq!(wrap("abcdef g", Some(4)), ["abcdef", "g"]);
        assert_eq!(wrap("a bc def", None), ["a bc def"]);
        assert_eq!(wrap("", Some(4)), [""]);
        assert_eq!(wrap_anywhere("ab cdefgh i", Some(4)), ["ab", "cdef", "gh i"]);
    }

    #[test]
    fn cutting_respects_wide_characters_and_marks() {
        assert_eq!(cut("abcdef", 6, "…"), "abcdef");
        assert_eq!(cut("abcdef", 5, "…"), "abcd…");
        assert_eq!(cut("日本語", 4, "…"), "日…");
        assert_eq!(cut("ae\u{301}bc", 3, "…"), "ae\u{301}…");
        assert_eq!(cut("abc", 2, "..."), "ab");
        assert_eq!(cut("abc", 0, "…"), "");
    }

    proptest! {
        #[test]
        fn a_cut_text_is_never_too_wide(text: String, cols in 0usize..40) {
            prop_assert!(width(&cut(&text, cols, "…")) <= cols);
            let shown = safe_str(&text);
            let short = cut(&shown, cols, "…");
            prop_assert!(width(&short) <= cols);
            prop_assert!(short == *shown || cols == 0 || short.ends_with('…'));
        }
    }
}
