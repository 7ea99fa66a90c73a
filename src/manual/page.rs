//! A manual page as roff, for man(1) and mandoc(1): what is in backticks and what names another page
//! stands out, and no line of the source is longer than a screen.

use roff::{Inline, Roff, bold, italic, roman};

/// Longest line of the source, in bytes; mandoc's lint asks for 80.
const WIDEST: usize = 76;

/// A page that is being written.
pub struct Page(Roff);

/// Who it is about.
pub struct Title<'a> {
    /// The page's name.
    pub name: &'a str,
    /// 1 for commands, 7 for what is to be known.
    pub section: &'a str,
    /// The day of this version, `2026-01-31`.
    pub date: &'a str,
    /// Program and version.
    pub source: &'a str,
}

impl Page {
    /// A page with its title and nothing else.
    pub fn new(title: &Title<'_>) -> Self {
        let mut roff = Roff::new();
        let manual = if title.section == "1" { "User Commands" } else { "Operator's Manual" };
        let name = title.name.to_uppercase();
        roff.control("TH", [name.as_str(), title.section, title.date, title.source, manual]);
        // Command lines are to be copied: nothing is hyphenated, nor spread out.
        roff.control("nh", []).control("ad", ["l"]);
        Self(roff)
    }

    /// Its name and what it is, as `apropos` finds it.
    pub fn name(&mut self, name: &str, about: &str) {
        self.section("NAME");
        self.fill(&format!("{name} - {about}"));
    }

    /// A heading.
    pub fn section(&mut self, title: &str) {
        self.0.control("SH", [title.to_uppercase().as_str()]);
    }

    /// A heading below that.
    pub fn subsection(&mut self, title: &str) {
        self.0.control("SS", [title]);
    }

    /// Paragraphs, parted by empty lines, the first right after a heading.
    pub fn prose(&mut self, text: &str) {
        self.written(text, &mut |_, _| {});
    }

    /// A further paragraph.
    pub fn more(&mut self, text: &str) {
        self.0.control("PP", []);
        self.fill(text);
    }

    /// Lines as they are, apart from the text around them.
    fn code(&mut self, lines: &[&str], is_first: bool) {
        if !is_first {
            self.0.control("PP", []);
        }
        self.0.control("RS", ["4"]).control("EX", []);
        for line in lines {
            self.0.text([roman(line.replace('…', "...").replace('→', "->"))]);
        }
        self.0.control("EE", []).control("RE", []);
    }

    /// A page, or a part of one, from a text in which
    ///
    /// ```text
    /// # Heading            and with two marks a lower one
    /// * term               with what it means indented by two below
    ///     indented by four lines that stay as they are
    /// @list                stands for what is told by the tables of the program
    /// ```
    ///
    /// and everything else is paragraphs.
    pub fn written(&mut self, text: &str, list: &mut dyn FnMut(&mut Self, &str)) {
        let mut lines = text.lines().peekable();
        // A paragraph that follows a heading begins without a gap.
        let mut is_first = true;
        while let Some(line) = lines.next() {
            let mut gathered = |fits: &dyn Fn(&str) -> bool, first: &str| {
                let mut all = vec![first.to_owned()];
                while let Some(line) = lines.next_if(|line| fits(line)) {
                    all.push(line.to_owned());
                }
                all
            };
            if line.trim().is_empty() {
                continue;
            }
            if let Some(heading) = line.strip_prefix("## ") {
                self.subsection(heading);
                is_first = true;
            } else if let Some(heading) = line.strip_prefix("# ") {
                self.section(heading);
                is_first = true;
            } else if let Some(name) = line.strip_prefix('@') {
                list(self, name);
                is_first = false;
            } else if let Some(term) = line.strip_prefix("* ") {
                let text =
                    gathered(&|line| line.starts_with("  ") && !line.starts_with("    "), "");
                self.item(&term.replace('`', ""), &text.join(" "));
                is_first = false;
            } else if line.starts_with("    ") {
                let block = gathered(&|line| line.starts_with("    "), line);
                let block: Vec<&str> = block.iter().map(|line| &line[4..]).collect();
                self.code(&block, is_first);
                is_first = false;
            } else {
                let plain =
                    |line: &str| !line.is_empty() && !line.starts_with([' ', '#', '*', '@']);
                let text = gathered(&plain, line);
                if !is_first {
                    self.0.control("PP", []);
                }
                self.fill(&text.join(" "));
                is_first = false;
            }
        }
    }

    /// How a command is used, one way of several.
    pub fn synopsis(&mut self, command: &str, rest: &str, is_further: bool) {
        if is_further {
            self.0.control("br", []);
        }
        self.0.text([bold(command), roman(format!(" {rest}"))]);
    }

    /// A term in bold and what it means.
    pub fn item(&mut self, term: &str, text: &str) {
        self.entry(vec![bold(term)], text);
    }

    /// An option or argument, what it takes, and what it does.
    pub fn option(&mut self, arg: &clap::Arg, text: &str) {
        let mut term: Vec<Inline> = Vec::new();
        let names =
            [arg.get_short().map(|c| format!("-{c}")), arg.get_long().map(|l| format!("--{l}"))];
        for name in names.into_iter().flatten() {
            if !term.is_empty() {
                term.push(roman(", "));
            }
            term.push(bold(name));
        }
        let takes = arg.get_action().takes_values();
        let value = arg.get_value_names().and_then(|names| names.first()).filter(|_| takes);
        if let Some(value) = value {
            let is_list = arg.is_positional()
                && arg.get_num_args().is_some_and(|number| number.max_values() > 1);
            let (before, after) = match arg.get_num_args() {
                Some(number) if number.min_values() == 0 && !arg.is_positional() => ("[=", "]"),
                _ if is_list => ("", "..."),
                _ if term.is_empty() => ("", ""),
                _ => (" ", ""),
            };
            term.extend([roman(before), italic(value.as_str()), roman(after)]);
            term.retain(|part| !matches!(part, Inline::Roman(text) if text.is_empty()));
        }
        self.entry(term, text);
    }

    /// A command line and what it does.
    pub fn example(&mut self, line: &str, what: &str) {
        self.item(line, &sentence(what));
    }

    /// The page's bytes.
    ///
    /// # Errors
    /// Those of writing into memory, which do not happen.
    pub fn finish(self) -> std::io::Result<Vec<u8>> {
        let mut out = Vec::new();
        self.0.to_writer(&mut out)?;
        Ok(out)
    }

    fn entry(&mut self, term: Vec<Inline>, text: &str) {
        self.0.control("TP", []);
        self.0.text(term);
        self.fill(text);
    }

    /// A text in lines that are short enough.
    fn fill(&mut self, text: &str) {
        let (mut line, mut width, mut is_code) = (Vec::new(), 0, false);
        for word in text.split_whitespace() {
            let parts = inlines(word, &mut is_code);
            let wide: usize = parts.iter().map(bytes).sum();
            if width > 0 && width + 1 + wide > WIDEST {
                self.0.text(std::mem::take(&mut line));
                width = 0;
            }
            if width > 0 {
                line.push(roman(" "));
                width += 1;
            }
            line.extend(parts);
            width += wide;
        }
        if !line.is_empty() {
            self.0.text(line);
        }
    }
}

/// A text that ends like a sentence.
pub fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    let end = if text.ends_with(['.', '?', ':']) { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

/// A word in its parts; what is in backticks is bold, and may go on in the next word.
fn inlines(word: &str, is_code: &mut bool) -> Vec<Inline> {
    // Not every formatter knows more than ASCII.
    let word = word.replace('…', "...").replace('→', "->");
    let mut parts = Vec::new();
    for (at, text) in word.split('`').enumerate() {
        if at > 0 {
            *is_code = !*is_code;
        }
        if text.is_empty() {
            continue;
        }
        match reference(text) {
            _ if *is_code => parts.push(bold(text)),
            Some((name, rest)) => parts.extend([bold(name), roman(rest)]),
            None => parts.push(roman(text)),
        }
    }
    parts
}

/// `signal(7),` is a page's name and the rest.
fn reference(word: &str) -> Option<(&str, &str)> {
    let (name, rest) = word.split_at(word.find('(')?);
    let is_name =
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    let mut rest_of = rest.chars().skip(1);
    let is_section =
        rest_of.next().is_some_and(|c| c.is_ascii_digit()) && rest_of.next() == Some(')');
    (is_name && is_section).then_some((name, rest))
}

/// How long a part is in the source: hyphens are escaped, and a font is chosen and left.
fn bytes(part: &Inline) -> usize {
    let (text, font) = match part {
        Inline::Roman(text) => (text, 0),
        Inline::Bold(text) | Inline::Italic(text) => (text, 6),
        Inline::LineBreak => return 0,
    };
    let escaped = text.chars().map(|c| match c {
        '-' | '\\' => 2,
        '\'' => 6,
        c => c.len_utf8(),
    });
    escaped.sum::<usize>() + font
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> String {
        let mut page = Page(Roff::new());
        page.fill(text);
        page.0.to_roff()
    }

    #[test]
    fn backticks_and_other_pages_stand_out() {
        assert_eq!(
            filled("see `kill -9`, signal(7), or (2)"),
            "see \\fBkill\\fR \\fB\\-9\\fR, \\fBsignal\\fR(7), or (2)\n"
        );
    }

    #[test]
    fn no_line_is_wider_than_a_screen() {
        let text = "`a-b` it's signal(7) ".repeat(50);
        assert!(filled(&text).lines().all(|line| line.len() <= 80), "{}", filled(&text));
    }
}
