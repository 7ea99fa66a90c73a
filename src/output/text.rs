//! Bytes to safe text: the door through which names, command lines and paths of a container leave
//! the house, to a terminal or a pipe alike. Also how sizes, ages and durations are spelt, and how
//! wide a text is. Pure: nothing here prints, and JSON gets the exact bytes instead.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use data_encoding::BASE64;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How many marks may stand on one letter before the rest is shown escaped. Four is more than any
/// script needs; a hundred of them paint over the rows above and below.
const MARKS: usize = 4;

/// Characters that a terminal shows as nothing, or that change what stands around them, by range.
/// Most are general category Cf or the property Default_Ignorable_Code_Point. They are spelt out
/// for they are what this file is for; what [`unprintable`] asks the standard library comes on top.
const HIDDEN: &[(char, char)] = &[
    ('\u{ad}', '\u{ad}'),       // soft hyphen
    ('\u{34f}', '\u{34f}'),     // combining grapheme joiner
    ('\u{600}', '\u{605}'),     // Arabic number signs
    ('\u{61c}', '\u{61c}'),     // Arabic letter mark, a bidi control
    ('\u{6dd}', '\u{6dd}'),     // Arabic end of ayah
    ('\u{70f}', '\u{70f}'),     // Syriac abbreviation mark
    ('\u{890}', '\u{891}'),     // Arabic pound and piastre marks
    ('\u{8e2}', '\u{8e2}'),     // Arabic disputed end of ayah
    ('\u{115f}', '\u{1160}'),   // Hangul fillers: letters that are blank
    ('\u{17b4}', '\u{17b5}'),   // Khmer inherent vowels
    ('\u{180b}', '\u{180f}'),   // Mongolian variation selectors, vowel separator
    ('\u{200b}', '\u{200f}'),   // zero-width space and joiners, direction marks
    ('\u{2028}', '\u{202e}'),   // line and paragraph separator, bidi embeddings and overrides
    ('\u{2060}', '\u{206f}'),   // word joiner, invisible operators, bidi isolates
    ('\u{2800}', '\u{2800}'),   // Braille blank
    ('\u{3164}', '\u{3164}'),   // Hangul filler
    ('\u{fe00}', '\u{fe0f}'),   // variation selectors
    ('\u{feff}', '\u{feff}'),   // byte order mark
    ('\u{ffa0}', '\u{ffa0}'),   // halfwidth Hangul filler
    ('\u{fff0}', '\u{fffb}'),   // interlinear annotation, and unassigned ignorables
    ('\u{110bd}', '\u{110bd}'), // Kaithi number signs
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'), // Egyptian hieroglyph joiners
    ('\u{1bca0}', '\u{1bca3}'), // shorthand format controls
    ('\u{1d173}', '\u{1d17a}'), // musical format controls
    ('\u{e0000}', '\u{e0fff}'), // tags, variation selectors, and unassigned ignorables
];

/// Makes bytes of any origin into one line of text that no terminal acts on: control characters
/// and bytes that are not UTF-8 as `\xNN` (`\n`, `\t` and `\r` by their usual names), characters
/// that hide or reorder text as `\u{202e}`. Printable ASCII, nearly always all there is, is borrowed.
///
/// A backslash stays one backslash. So `\x1b` may stand for the control character or for these four
/// letters; doubling it would end the doubt, but spoil every regular expression and printf format
/// for reading and for pasting, and escaping twice would show. Who needs it exact takes the JSON.
///
/// Letters of scripts written from right to left are left as they are: a terminal that reorders
/// may show such a name over its neighbour's place, but nothing hidden makes it do so.
pub fn safe(bytes: &[u8]) -> Cow<'_, str> {
    if printable_ascii(bytes)
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + 16);
    // Counted from the limit on: a mark at the start would settle on whatever is printed before.
    let mut marks = MARKS;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let mark = !c.is_ascii() && c.width() == Some(0);
            if escape(c, mark && marks == MARKS, &mut out) {
                marks = 0;
            } else {
                out.push(c);
                marks = if mark { marks + 1 } else { 0 };
            }
        }
        for byte in chunk.invalid() {
            hex(*byte, &mut out);
            marks = 0;
        }
    }
    Cow::Owned(out)
}

/// [`safe`] for text that is UTF-8 already: an argument of the user, an error of a library.
pub fn safe_str(text: &str) -> Cow<'_, str> {
    safe(text.as_bytes())
}

/// Arguments joined by spaces, each made safe. Nothing is quoted, as in `ps`: what a reader looks
/// for is the line they typed, and where the arguments begin and end is told by the JSON.
pub fn command_line(argv: &[Vec<u8>]) -> String {
    let mut line = String::with_capacity(argv.iter().map(|a| a.len() + 1).sum());
    for (at, argument) in argv.iter().enumerate() {
        if at > 0 {
            line.push(' ');
        }
        line.push_str(&safe(argument));
    }
    line
}

/// Bytes in JSON, exactly: a string, or `{"bytes": "<base64>"}` where they are not UTF-8.
pub fn bytes_to_json(bytes: &[u8]) -> serde_json::Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => serde_json::json!({ "bytes": BASE64.encode(bytes) }),
    }
}

/// Whether a character is shown escaped: a control character, one that hides or reorders text, one
/// that is not assigned, or a space other than the plain one (U+3000 can imitate a column's gap).
pub fn unprintable(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    if HIDDEN.iter().any(|(first, last)| (*first..=*last).contains(&c)) {
        return true;
    }
    // The library keeps a table of what is printable for `{:?}` (none of the categories C* and Z*).
    // It escapes marks too, but only at the start of a string, hence the letter before.
    let mut letter = [b'a', 0, 0, 0, 0];
    c.encode_utf8(&mut letter[1..]);
    let end = 1 + c.len_utf8();
    std::str::from_utf8(&letter[..end]).map_or(true, |s| s.escape_debug().nth(1) == Some('\\'))
}

/// Writes a character escaped if it must be; says whether it did.
fn escape(c: char, anyway: bool, out: &mut String) -> bool {
    match c {
        ' '..='~' => return false,
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        '\r' => out.push_str("\\r"),
        '\0'..='\u{9f}' => hex(c as u8, out),
        _ if anyway || unprintable(c) => {
            let _ = write!(out, "\\u{{{:x}}}", c as u32); // writing to a String does not fail
        }
        _ => return false,
    }
    true
}

fn hex(byte: u8, out: &mut String) {
    let _ = write!(out, "\\x{byte:02x}");
}

/// An amount of bytes in at most five characters, by steps of 1024: `0`, `812K`, `1.2M`, `1023G`.
pub fn size(bytes: u64) -> String {
    const UNITS: [char; 7] = ['B', 'K', 'M', 'G', 'T', 'P', 'E'];
    if bytes == 0 {
        return "0".into();
    }
    let mut scale: u128 = 1;
    for (at, unit) in UNITS.into_iter().enumerate() {
        let tenths = (u128::from(bytes) * 10 + scale / 2) / scale;
        let whole = (u128::from(bytes) + scale / 2) / scale;
        if at > 0 && tenths < 100 {
            return format!("{}.{}{unit}", tenths / 10, tenths % 10);
        }
        if whole < 1024 {
            return format!("{whole}{unit}");
        }
        scale *= 1024;
    }
    format!("{bytes}") // not reached: 2^64 is 16E
}

/// A time span in at most six characters, its two largest units: `12s`, `3m20s`, `2h05m`, `3d04h`,
/// `412d`. Rounded down, as ages are; more than 99999 days are shown as so many.
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

/// Columns a text takes on a terminal. Meant for text that is safe already.
pub fn width(text: &str) -> usize {
    // Nearly all text, and the crate looks at it letter by letter: most of a table's time.
    if printable_ascii(text.as_bytes()) { text.len() } else { text.width() }
}

fn printable_ascii(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| matches!(b, b' '..=b'~'))
}

/// A text in at most `cols` columns: itself where it fits, else its beginning and the ellipsis.
/// Wide characters are not halved, marks stay with their letter; where not even the ellipsis fits,
/// it is left out.
pub fn cut(text: &str, cols: usize, ellipsis: &str) -> String {
    if width(text) <= cols {
        return text.into();
    }
    let ellipsis = if width(ellipsis) > cols { "" } else { ellipsis };
    let room = cols - width(ellipsis);
    let mut used = 0;
    let mut kept = String::new();
    for c in text.chars() {
        // Control characters have no width of their own; the crate counts them as one in a string.
        used += c.width().unwrap_or(1);
        if used > room {
            break;
        }
        kept.push(c);
    }
    // A few sequences are wider than their characters are alone (a quote and U+FE01, say).
    while width(&kept) > room {
        kept.pop();
    }
    kept.push_str(ellipsis);
    kept
}

/// Breaks a text at spaces into lines of at most so many columns; a word that is longer stays whole.
pub fn wrap(text: &str, room: Option<usize>) -> Vec<String> {
    let Some(room) = room else { return vec![text.to_owned()] };
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(last) if width(last) + 1 + width(word) <= room => {
                last.push(' ');
                last.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_broken_at_words() {
        assert_eq!(wrap("a bc def", Some(4)), ["a bc", "def"]);
        assert_eq!(wrap("abcdef g", Some(4)), ["abcdef", "g"]);
        assert_eq!(wrap("a bc def", None), ["a bc def"]);
        assert_eq!(wrap("", Some(4)), [""]);
    }

    #[test]
    fn plain_text_is_borrowed_and_left_alone() {
        for plain in ["", "nginx: worker process", r"grep \x1b C:\dir"] {
            assert!(matches!(safe_str(plain), Cow::Borrowed(same) if same == plain));
        }
        for text in ["größe", "日本語", "नमस्ते", "e\u{301}", "🐳"] {
            assert_eq!(safe_str(text), text);
        }
    }

    #[test]
    fn what_a_terminal_would_act_on_is_shown() {
        let cases: &[(&[u8], &str)] = &[
            (b"\x1b]0;x\x07", r"\x1b]0;x\x07"),
            (b"x\x1b[2J\r\nroot 1 /sbin/init", r"x\x1b[2J\r\nroot 1 /sbin/init"),
            (b"a\tb\0\x7f", r"a\tb\x00\x7f"),
            (b"sec\xff\xc3", r"sec\xff\xc3"),
            ("\u{9b}31m".as_bytes(), r"\x9b31m"),
            ("a\u{202e}b\u{2066}".as_bytes(), r"a\u{202e}b\u{2066}"),
            (
                "\u{feff}\u{200b}\u{2028}\u{ad}\u{61c}".as_bytes(),
                r"\u{feff}\u{200b}\u{2028}\u{ad}\u{61c}",
            ),
            ("\u{e0041}x\u{fe0f}\u{2064}".as_bytes(), r"\u{e0041}x\u{fe0f}\u{2064}"),
            ("a\u{3000}b\u{a0}c\u{378}\u{e000}".as_bytes(), r"a\u{3000}b\u{a0}c\u{378}\u{e000}"),
        ];
        for (raw, shown) in cases {
            assert_eq!(safe(raw), *shown);
        }
    }

    #[test]
    fn marks_neither_start_a_text_nor_pile_up() {
        assert_eq!(safe_str("\u{301}a"), r"\u{301}a");
        let pile = format!("a{}", "\u{301}".repeat(6));
        assert_eq!(safe_str(&pile), format!("a{}\\u{{301}}\u{301}", "\u{301}".repeat(4)));
    }

    #[test]
    fn a_command_line_is_joined_as_ps_does() {
        let argv = [b"sh".to_vec(), b"-c".to_vec(), b"".to_vec(), b"a\nb c".to_vec()];
        assert_eq!(command_line(&argv), r"sh -c  a\nb c");
        assert_eq!(command_line(&[]), "");
    }

    #[test]
    fn json_keeps_every_byte() {
        assert_eq!(bytes_to_json(b"a\x1b"), serde_json::json!("a\u{1b}"));
        assert_eq!(bytes_to_json(b"bad\xff"), serde_json::json!({"bytes": "YmFk/w=="}));
    }

    #[test]
    fn sizes_are_short() {
        const M: u64 = 1 << 20;
        let cases = [
            (0, "0"),
            (1, "1B"),
            (1023, "1023B"),
            (1024, "1.0K"),
            (812 * 1024, "812K"),
            (M + M / 5, "1.2M"),
            (M - 1, "1.0M"),
            (10 * M - 1, "10M"),
            (u64::MAX, "16E"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }

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
        fn whatever_comes_in_one_printable_line_goes_out(bytes: Vec<u8>, text: String) {
            for raw in [&bytes[..], text.as_bytes()] {
                let shown = safe(raw);
                prop_assert!(!shown.chars().any(unprintable));
                prop_assert_eq!(safe_str(&shown), &*shown); // escaping twice changes nothing
            }
        }

        #[test]
        fn a_cut_text_is_never_too_wide(text: String, cols in 0usize..40) {
            prop_assert!(width(&cut(&text, cols, "…")) <= cols);
            let shown = safe_str(&text);
            let short = cut(&shown, cols, "…");
            prop_assert!(width(&short) <= cols);
            prop_assert!(short == *shown || cols == 0 || short.ends_with('…'));
        }

        #[test]
        fn sizes_and_ages_keep_their_width(n: u64) {
            prop_assert!(size(n).len() <= 5);
            prop_assert!(age(Duration::from_secs(n)).len() <= 6);
        }
    }
}
