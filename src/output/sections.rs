//! A page of facts: labels in a column, values beside them, wrapped at the edge of the terminal. A
//! conspicuous fact is marked with `!` in the margin, and the reason is below it. Nothing here
//! prints.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

use super::escape::safe_str;
use super::style::{Emphasis, Style};
use super::width::{width, wrap_anywhere};

/// A part of a page.
pub struct PageSection<S: 'static> {
    /// Its title; empty for the first.
    pub title: &'static str,
    /// Its facts.
    pub facts: &'static [PageFact<S>],
}

/// A fact about an `S`: one entry in a table makes it appear on the page, in JSON and among the sources.
pub struct PageFact<S: 'static> {
    /// Its name in JSON.
    pub key: &'static str,
    /// Returns where it was read from.
    pub source: fn(&S) -> String,
    /// Returns it exactly.
    pub json: fn(&S) -> Json,
    /// Returns its lines on the page; none if it is omitted.
    pub lines: fn(&S) -> Vec<PageLine>,
}

/// A line of a page: escaped text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageLine {
    label: Cow<'static, str>,
    text: String,
    visibility: Visibility,
}

/// The pages that show a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visibility {
    Always,
    /// In the detailed page only.
    Detailed,
    /// In the short page only.
    Brief,
}

impl PageLine {
    /// Makes a line.
    pub fn new(label: impl Into<Cow<'static, str>>, text: impl Into<String>) -> Self {
        Self { label: label.into(), text: text.into(), visibility: Visibility::Always }
    }

    /// Shows it in the detailed page only.
    #[must_use]
    pub fn detail(mut self) -> Self {
        self.visibility = Visibility::Detailed;
        self
    }

    /// Shows it in the short page only.
    #[must_use]
    pub fn summary(mut self) -> Self {
        self.visibility = Visibility::Brief;
        self
    }
}

/// Makes a line.
pub fn line(label: &'static str, text: impl Into<String>) -> PageLine {
    PageLine::new(label, text)
}

/// Makes a line, and further ones below it without a label.
pub fn lines(label: &'static str, texts: impl IntoIterator<Item = String>) -> Vec<PageLine> {
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    labels.zip(texts).map(|(label, text)| line(label, text)).collect()
}

/// Remarks on facts, each with the key of its fact.
pub type FactRemarks<'a> = &'a [(&'static str, String)];

/// Columns of the labels; a longer one is on a line of its own.
const LABEL: usize = 12;

/// Column at which the texts begin.
const INDENT: usize = LABEL + 3;

/// Columns that a text gets on the narrowest terminal.
const LEAST_ROOM: usize = 20;

/// Draws the page. The detailed one has every line, and below each fact its source.
pub fn draw<S>(
    title: &str,
    sections: &[&PageSection<S>],
    subject: &S,
    remarks: FactRemarks<'_>,
    detailed: bool,
    style: &Style,
) -> String {
    let mut page = Page { out: String::new(), style };
    page.title(title);
    let hidden = if detailed { Visibility::Brief } else { Visibility::Detailed };
    for section in sections {
        let mut is_empty = true;
        // Facts from one file share a line with their source, below the last of them.
        let mut pending: Option<String> = None;
        for fact in section.facts {
            let mut shown = (fact.lines)(subject);
            shown.retain(|line| line.visibility != hidden);
            let remarks: Vec<&String> =
                remarks.iter().filter(|(key, _)| *key == fact.key).map(|(_, text)| text).collect();
            if shown.is_empty() && remarks.is_empty() {
                continue;
            }
            if std::mem::take(&mut is_empty) && !section.title.is_empty() {
                page.out.push('\n');
                page.title(section.title);
            }
            let source = (fact.source)(subject);
            if let Some(pending) = pending.take().filter(|pending| *pending != source) {
                page.source(&pending);
            }
            shown.iter().for_each(|line| page.line(&line.label, &line.text));
            remarks.into_iter().for_each(|text| page.remark(text));
            pending = detailed.then_some(source);
        }
        if let Some(pending) = pending {
            page.source(&pending);
        }
    }
    page.out
}

/// Returns all facts in one object, and their sources in another.
pub fn objects<S>(
    sections: &[&PageSection<S>],
    subject: &S,
) -> (Map<String, Json>, Map<String, Json>) {
    let facts = || sections.iter().flat_map(|section| section.facts);
    let values = facts().map(|fact| (fact.key.to_owned(), (fact.json)(subject)));
    let sources = facts().map(|fact| (fact.key.to_owned(), (fact.source)(subject).into()));
    (values.collect(), sources.collect())
}

struct Page<'a> {
    out: String,
    style: &'a Style,
}

impl Page<'_> {
    fn title(&mut self, title: &str) {
        self.style.paint(&mut self.out, title, Emphasis::Heading);
        self.out.push('\n');
    }

    fn source(&mut self, source: &str) {
        let arrow = if self.style.unicode { "←" } else { "<-" };
        self.out.push_str(&" ".repeat(INDENT));
        self.text(&format!("{arrow} {}", safe_str(source)), Emphasis::Dim);
    }

    fn remark(&mut self, text: &str) {
        self.style.paint(&mut self.out, "!", Emphasis::Alarm);
        self.out.push_str(&" ".repeat(INDENT - 1));
        self.text(text, Emphasis::Bad);
    }

    fn line(&mut self, label: &str, text: &str) {
        let padding = if width(label) > LABEL {
            let lines = wrap_anywhere(label, self.room(2));
            self.out.push_str(&format!("  {}\n", lines.join("\n  ")));
            INDENT
        } else {
            self.out.push_str(&format!("  {label}"));
            LABEL + 1 - width(label)
        };
        self.out.push_str(&" ".repeat(padding));
        self.text(text, Emphasis::None);
    }

    /// Appends a text that begins at [`INDENT`], wrapped.
    fn text(&mut self, text: &str, emphasis: Emphasis) {
        for (index, part) in wrap_anywhere(text, self.room(INDENT)).iter().enumerate() {
            if index > 0 {
                self.out.push_str(&" ".repeat(INDENT));
            }
            self.style.paint(&mut self.out, part, emphasis);
            self.out.push('\n');
        }
    }

    fn room(&self, indent: usize) -> Option<usize> {
        self.style.width.map(|columns| columns.saturating_sub(indent).max(LEAST_ROOM))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static FIRST: PageSection<u8> = PageSection {
        title: "",
        facts: &[PageFact {
            key: "one",
            source: |_| "/proc".into(),
            json: |n| Json::from(*n),
            lines: |n| vec![line("one", n.to_string()), line("", "more").detail()],
        }],
    };

    static SECOND: PageSection<u8> = PageSection {
        title: "Two",
        facts: &[PageFact {
            key: "two",
            source: |_| "x".into(),
            json: |_| Json::Null,
            lines: |_| Vec::new(),
        }],
    };

    #[test]
    fn a_page_marks_the_facts_with_remarks() {
        let sections = [&FIRST, &SECOND];
        let style = Style::default();
        let remarks = [("two", "look here".to_owned())];
        let page = draw("web", &sections, &7, &remarks, false, &style);
        assert_eq!(page, "web\n  one          7\n\nTwo\n!              look here\n");
        let page = draw("web", &sections, &7, &[], true, &style);
        assert_eq!(page, "web\n  one          7\n               more\n               <- /proc\n");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        static LONG: PageSection<u8> = PageSection {
            title: "Long",
            facts: &[PageFact {
                key: "long",
                source: |_| "/a".repeat(60),
                json: |_| Json::Null,
                lines: |_| {
                    vec![PageLine::new("/label".repeat(20), "x".repeat(200)), line("b", "y z")]
                },
            }],
        };
        let style = Style { width: Some(40), ..Style::default() };
        let page = draw("web", &[&LONG], &0, &[("long", "word ".repeat(30))], true, &style);
        assert!(page.lines().all(|line| width(line) <= 40), "{page}");
        assert!(page.contains("  b            y z\n"), "{page}");
    }
}
