//! Escaping: bytes from a container become text that no terminal acts on. Everything printed passes
//! through here; JSON gets the exact bytes instead. Nothing here prints.

use std::borrow::Cow;
use std::fmt::Write;

use unicode_width::UnicodeWidthChar;

/// Combining marks allowed on one letter before further ones are escaped. Four is more than any
/// script needs; a hundred of them paint over the rows above and below.
const MARKS: usize = 4;

/// Ranges of characters that a terminal shows as nothing, or that change the text around them. Most
/// have the general category Cf or the property Default_Ignorable_Code_Point. They are spelt out here
/// because they are the purpose of this file; [`unprintable`] adds the standard library's own list.
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

/// Escapes bytes of any origin into one line of text that no terminal acts on: control characters
/// and bytes that are not UTF-8 as `\xNN` (`\n`, `\t` and `\r` by their usual names), characters
/// that hide or reorder text as `\u{202e}`. Printable ASCII, nearly always all there is, is borrowed.
///
/// A backslash stays one backslash. So `\x1b` may stand for the control character or for these four
/// letters; doubling it would remove the ambiguity, but spoil every regular expression and printf format
/// for reading and for pasting, and escaping twice would show. The JSON is exact.
///
/// Letters of scripts written from right to left are kept: a terminal that reorders may show such a
/// name over its neighbour's place, but nothing hidden makes it do so.
pub fn safe(bytes: &[u8]) -> Cow<'_, str> {
    if printable_ascii(bytes)
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + 16);
    // Counted from the limit: a mark at the start would combine with the text printed before.
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

/// Escapes a line of a program's output: tabs stay, and colours (SGR, ECMA-48 8.3.117) are left out.
pub fn safe_output(bytes: &[u8]) -> String {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(index) = rest.windows(2).position(|two| two == b"\x1b[") {
        let (before, sequence) = rest.split_at(index);
        plain.extend(before);
        let parameters = &sequence[2..];
        let is_parameter = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b';' | b':');
        let length = parameters.iter().take_while(|byte| is_parameter(byte)).count();
        if parameters.get(length) == Some(&b'm') {
            rest = &parameters[length + 1..];
        } else {
            plain.extend(&sequence[..2]);
            rest = parameters;
        }
    }
    plain.extend(rest);
    // (A carriage return before a newline is the terminal's of the container.)
    let plain = plain.strip_suffix(b"\r").unwrap_or(&plain);
    let parts: Vec<Cow<'_, str>> = plain.split(|byte| *byte == b'\t').map(safe).collect();
    parts.join("\t")
}

/// Escapes text that is UTF-8 already: an argument of the user, an error of a library.
pub fn safe_str(text: &str) -> Cow<'_, str> {
    safe(text.as_bytes())
}

/// Joins arguments by spaces, each escaped. Nothing is quoted, as in `ps`: a reader looks for the line
/// they typed, and the JSON has the boundaries of the arguments.
pub fn command_line(argv: &[Vec<u8>]) -> String {
    let mut line = String::with_capacity(argv.iter().map(|a| a.len() + 1).sum());
    for (index, argument) in argv.iter().enumerate() {
        if index > 0 {
            line.push(' ');
        }
        line.push_str(&safe(argument));
    }
    line
}

/// Whether a character has to be escaped: a control character, one that hides or reorders text, one
/// that is not assigned, or a space other than the plain one (U+3000 can imitate a column's gap).
pub fn unprintable(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    if HIDDEN.iter().any(|(first, last)| (*first..=*last).contains(&c)) {
        return true;
    }
    // The standard library has a table of printable characters for `{:?}` (none of the categories C*
    // and Z*). It escapes marks too, but only at the start of a string, hence the letter before.
    let mut letter = [b'a', 0, 0, 0, 0];
    c.encode_utf8(&mut letter[1..]);
    let end = 1 + c.len_utf8();
    std::str::from_utf8(&letter[..end]).map_or(true, |s| s.escape_debug().nth(1) == Some('\\'))
}

/// Appends a character escaped if that is needed or `forced`; returns whether it did.
fn escape(c: char, forced: bool, out: &mut String) -> bool {
    match c {
        ' '..='~' => return false,
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        '\r' => out.push_str("\\r"),
        '\0'..='\u{9f}' => hex(c as u8, out),
        _ if forced || unprintable(c) => {
            let _ = write!(out, "\\u{{{:x}}}", c as u32); // writing to a String does not fail
        }
        _ => return false,
    }
    true
}

fn hex(byte: u8, out: &mut String) {
    let _ = write!(out, "\\x{byte:02x}");
}

/// Whether bytes are printable ASCII throughout.
pub(super) fn printable_ascii(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| matches!(b, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_text_is_borrowed_unchanged() {
        for plain in ["", "nginx: worker process", r"grep \x1b C:\dir"] {
            assert!(matches!(safe_str(plain), Cow::Borrowed(same) if same == plain));
        }
        for text in ["größe", "日本語", "नमस्ते", "e\u{301}", "🐳"] {
            assert_eq!(safe_str(text), text);
        }
    }

    #[test]
    fn control_and_hidden_characters_are_escaped() {
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
    fn output_loses_its_colours_and_keeps_its_tabs() {
        let output = safe_output(b"\x1b[1;31ma\x1b[0m\tb\x1b[2J\x1b]0;x\x07\xff\r");
        assert_eq!(output, "a\tb\\x1b[2J\\x1b]0;x\\x07\\xff");
        assert_eq!(safe_output(b"\x1b[mx\x1b[3"), "x\\x1b[3");
    }

    proptest! {
        #[test]
        fn any_bytes_become_one_printable_line(bytes: Vec<u8>, text: String) {
            for raw in [&bytes[..], text.as_bytes()] {
                let shown = safe(raw);
                prop_assert!(!shown.chars().any(unprintable));
                prop_assert_eq!(safe_str(&shown), &*shown); // escaping twice changes nothing
            }
        }
    }
}
