//! A page of facts: labels in a column, what they say beside them, broken at words where the terminal
//! ends. What deserves a second look is marked with `!` in the margin, and says why below itself.
//! Nothing here prints.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

use crate::output::escape::safe_str;
use crate::output::style::{Emphasis, Style};
use crate::output::width::{width, wrap};

/// A fact about an `S`: once in a table, and it is on the page, in JSON and among the sources.
pub struct SectionFact<S> {
    /// The part of the page that it is in; empty for the first, which has no title.
    pub section: &'static str,
    /// Its name in JSON.
    pub key: &'static str,
    /// Where it is from.
    pub source: fn(&S) -> String,
    /// Exactly.
    pub json: fn(&S) -> Json,
    /// For people; none where it is not worth a line.
    pub lines: fn(&S) -> Vec<SectionLine>,
}

/// A line of a page, safe to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionLine {
    label: Cow<'static, str>,
    text: String,
    when: Visibility,
}

/// When a line is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visibility {
    Always,
    /// With all details.
    Detailed,
    /// In the place of details.
    Brief,
}

impl SectionLine {
    /// A line.
    pub fn new(label: impl Into<Cow<'static, str>>, text: impl Into<String>) -> Self {
        Self { label: label.into(), text: text.into(), when: Visibility::Always }
    }

    /// Only where everything is wanted.
    #[must_use]
    pub fn detail(mut self) -> Self {
        self.when = Visibility::Detailed;
        self
    }

    /// Only where not everything is.
    #[must_use]
    pub fn summary(mut self) -> Self {
        self.when = Visibility::Brief;
        self
    }
}

/// A line.
pub fn line(label: &'static str, text: impl Into<String>) -> SectionLine {
    SectionLine::new(label, text)
}

/// A line and others below it, without label.
pub fn lines(label: &'static str, texts: impl IntoIterator<Item = String>) -> Vec<SectionLine> {
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    labels.zip(texts).map(|(label, text)| line(label, text)).collect()
}

/// What is said about a fact, by its key.
pub type Remarks<'a> = &'a [(&'static str, String)];

/// Labels longer than that stand on a line of their own.
const LABEL: usize = 12;

/// Draws the page; with `detailed`, everything, and below each fact where it is from.
pub fn draw<S>(
    title: &str,
    facts: &[SectionFact<S>],
    subject: &S,
    remarks: Remarks<'_>,
    detailed: bool,
    style: &Style,
) -> String {
    let mut page = SectionPage { out: String::new(), style };
    page.title(title);
    let mut section = "";
    // What comes from one file is said to once, below the last of it.
    let mut pending: Option<String> = None;
    for fact in facts {
        let hidden = if detailed { Visibility::Brief } else { Visibility::Detailed };
        let mut shown = (fact.lines)(subject);
        shown.retain(|line| line.when != hidden);
        let said: Vec<&String> =
            remarks.iter().filter(|(about, _)| *about == fact.key).map(|(_, text)| text).collect();
        if shown.is_empty() && said.is_empty() {
            continue;
        }
        let source = (fact.source)(subject);
        let ends = fact.section != section || pending.as_ref() != Some(&source);
        if let Some(told) = pending.take().filter(|_| ends) {
            page.source(&told);
        }
        pending = detailed.then_some(source);
        if fact.section != section {
            section = fact.section;
            page.out.push('\n');
            page.title(section);
        }
        for line in &shown {
            page.line(" ", &line.label, &line.text, Emphasis::None);
        }
        for text in said {
            page.line("!", "", text, Emphasis::Bad);
        }
    }
    if let Some(told) = pending {
        page.source(&told);
    }
    page.out
}

/// All of it in one object, and where each is from.
pub fn object<S>(facts: &[SectionFact<S>], subject: &S) -> (Map<String, Json>, Map<String, Json>) {
    let values = facts.iter().map(|fact| (fact.key.to_owned(), (fact.json)(subject)));
    let sources = facts.iter().map(|fact| (fact.key.to_owned(), (fact.source)(subject).into()));
    (values.collect(), sources.collect())
}

struct SectionPage<'a> {
    out: String,
    style: &'a Style,
}

impl SectionPage<'_> {
    fn title(&mut self, title: &str) {
        self.style.paint(&mut self.out, title, Emphasis::Heading);
        self.out.push('\n');
    }

    fn source(&mut self, told: &str) {
        let arrow = if self.style.unicode { "←" } else { "<-" };
        self.line(" ", "", &format!("{arrow} {}", safe_str(told)), Emphasis::Dim);
    }

    fn line(&mut self, mark: &str, label: &str, text: &str, tint: Emphasis) {
        let indent = LABEL + 3;
        let room = self.style.width.map(|columns| columns.saturating_sub(indent).max(20));
        let mut parts = wrap(text, room).into_iter();
        if width(label) > LABEL {
            self.out.push_str(&format!("  {label}\n"));
        } else if mark == " " {
            self.out.push_str(&format!("  {label}{}", " ".repeat(LABEL + 1 - width(label))));
        } else {
            self.style.paint(&mut self.out, mark, Emphasis::Alarm);
            self.out.push_str(&" ".repeat(indent - 1));
        }
        let mut first = width(label) <= LABEL;
        for part in parts.by_ref() {
            if !first {
                self.out.push_str(&" ".repeat(indent));
            }
            first = false;
            self.style.paint(&mut self.out, &part, tint);
            self.out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_marks_what_is_said_of_a_fact() {
        let facts: &[SectionFact<u8>] = &[
            SectionFact {
                section: "",
                key: "one",
                source: |_| "/proc".into(),
                json: |n| (*n).into(),
                lines: |n| vec![line("one", n.to_string()), line("", "more").detail()],
            },
            SectionFact {
                section: "Two",
                key: "two",
                source: |_| "x".into(),
                json: |_| Json::Null,
                lines: |_| Vec::new(),
            },
        ];
        let style = Style::default();
        let remarks = [("two", "look here".to_owned())];
        let page = draw("web", facts, &7, &remarks, false, &style);
        assert_eq!(page, "web\n  one          7\n\nTwo\n!              look here\n");
        let page = draw("web", facts, &7, &[], true, &style);
        assert_eq!(page, "web\n  one          7\n               more\n               <- /proc\n");
    }
}
