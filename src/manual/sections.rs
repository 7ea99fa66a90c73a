//! Turns the text of a manual page into roff for man(1) and mandoc(1). Reads no tables.
//!
//! The section renderers of clap_mangen (0.3.3) were tried for SYNOPSIS and OPTIONS and rejected:
//! the synopsis lists all options without their values, arguments lose their `...`, help texts keep
//! their backticks on a line of any length, and `mandoc -Tlint` warns about the line breaks around
//! possible values.

use roff::{Inline, Roff, bold, italic, roman};

/// Longest line of the source in bytes: `mandoc -Tlint` warns from 80 on.
const MAX_LINE: usize = 78;

/// A page as text. Each line that is not empty is one of
///
/// ```text
/// # heading of a section
/// ## heading of a subsection
/// * term, described in the next line
/// - the same, with markup in the term
/// > line of a synopsis
///     line that is printed as it is
/// paragraph
/// ```
///
/// In terms, descriptions and paragraphs, `` `code` `` is bold, `<VALUE>` is italic, and so are
/// options like --all and the name in signal(7).
pub struct ManualPage {
    pub name: String,
    pub section: &'static str,
    /// The text that apropos(1) prints after the name.
    pub about: String,
    pub text: String,
}

impl ManualPage {
    /// Returns the source of the page.
    pub fn render(&self, date: &str) -> Vec<u8> {
        let mut roff = Roff::new();
        let source = concat!("cinspect ", env!("CARGO_PKG_VERSION"));
        let manual = if self.section == "1" { "User Commands" } else { "Operator's Manual" };
        roff.control("TH", [&*self.name.to_uppercase(), self.section, date, source, manual]);
        // Command lines are to be copied: no hyphens, no stretched or doubled spaces.
        roff.control("nh", []).control("ad", ["l"]).control("ss", ["12", "0"]);
        roff.control("SH", ["NAME"]);
        fill(&mut roff, &format!("{} - {}", self.name, self.about));
        let mut lines = self.text.lines().filter(|line| !line.is_empty()).peekable();
        let literal = |line: &str| [roman(line.strip_prefix("    ").unwrap_or(line))];
        let mut after_heading = false;
        while let Some(line) = lines.next() {
            let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
            // mandoc warns about a break right after a heading.
            let gap = if mark == ">" { "br" } else { "PP" };
            if !after_heading && !["#", "##", "*", "-"].contains(&mark) {
                roff.control(gap, []);
            }
            match mark {
                "#" => {
                    roff.control("SH", [&*rest.to_uppercase()]);
                }
                "##" => {
                    roff.control("SS", [rest]);
                }
                "*" | "-" => {
                    let term = words(rest).join(&roman(" "));
                    let term = if mark == "*" { vec![bold(rest)] } else { term };
                    roff.control("TP", []).text(term);
                    fill(&mut roff, lines.next().unwrap_or_default());
                }
                ">" => fill(&mut roff, rest),
                "" => {
                    roff.control("RS", ["4"]).control("EX", []).text(literal(line));
                    while let Some(line) = lines.next_if(|line| line.starts_with("    ")) {
                        roff.text(literal(line));
                    }
                    // groff's EE turns hyphenation on again.
                    roff.control("EE", []).control("RE", []).control("nh", []);
                }
                _ => fill(&mut roff, line),
            }
            after_heading = mark.starts_with('#');
        }
        roff.render().into_bytes()
    }
}

/// Adds text in lines of at most [`MAX_LINE`] bytes.
fn fill(roff: &mut Roff, text: &str) {
    let mut line = Vec::new();
    for word in words(text) {
        let longer = [&line[..], &[roman(" ")], &word].concat();
        if line.is_empty() {
            line = word;
        } else if source_width(&longer) <= MAX_LINE {
            line = longer;
        } else {
            roff.text(std::mem::replace(&mut line, word));
        }
    }
    roff.text(line);
}

/// Returns the length of a line in the source, with its escapes and font changes.
fn source_width(line: &[Inline]) -> usize {
    Roff::new().text(line).render().lines().last().map_or(0, str::len)
}

/// Splits text into words, and each word at its markup.
fn words(text: &str) -> Vec<Vec<Inline>> {
    // Not every formatter can print more than ASCII.
    let text = text.replace('…', "...").replace('→', "->");
    // Code may extend over several words.
    let mut in_code = false;
    let mut split = |word: &str| {
        let mut parts = Vec::new();
        for (index, text) in word.split('`').enumerate() {
            in_code ^= index > 0;
            match split_markup(text) {
                _ if in_code => parts.push(bold(text)),
                Some(markup) => parts.extend(markup),
                None => parts.push(roman(text)),
            }
        }
        parts.retain(|part| !matches!(part, Inline::Roman(t) | Inline::Bold(t) if t.is_empty()));
        parts
    };
    text.split_whitespace().map(&mut split).collect()
}

/// Splits `[=<DUR>]`, `--all,` or `signal(7),` into its parts.
fn split_markup(text: &str) -> Option<Vec<Inline>> {
    if let Some((before, rest)) = text.split_once('<') {
        let (value, after) = rest.split_once('>')?;
        return Some(vec![roman(before), italic(value), roman(after)]);
    }
    let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if text.starts_with("--") {
        let (option, after) = text.split_at(text.find(|c| !is_letter(c)).unwrap_or(text.len()));
        return Some(vec![bold(option), roman(after)]);
    }
    let (name, rest) = text.split_at(text.find('(')?);
    let is_reference = !name.is_empty()
        && name.chars().all(|c| is_letter(c) || "_.".contains(c))
        && matches!(rest.as_bytes(), [b'(', b'1'..=b'9', b')', ..]);
    is_reference.then(|| vec![bold(name), roman(rest)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> String {
        let mut roff = Roff::new();
        fill(&mut roff, text);
        roff.to_roff()
    }

    #[test]
    fn markup_chooses_the_font() {
        assert_eq!(
            filled("see `kill -9` <PID>, --all, signal(7), or (2)"),
            "see \\fBkill\\fR \\fB\\-9\\fR \\fIPID\\fR, \\fB\\-\\-all\\fR, \\fBsignal\\fR(7), or (2)\n"
        );
    }

    #[test]
    fn lines_fit_into_80_bytes() {
        let text = "`a-b` it's signal(7) ".repeat(50);
        assert!(filled(&text).lines().all(|line| line.len() <= 80), "{}", filled(&text));
    }
}
