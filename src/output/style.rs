//! The look of text: the abilities of the terminal, the subject of a table, and the meaning of a text
//! of each colour. The only file that writes colour codes (SGR, console_codes(4)).

use jiff::Timestamp;

use crate::model::signal::Signal;

/// The abilities of stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Columns of the terminal; `None` in a pipe, where nothing is cut and no column dropped.
    pub width: Option<usize>,
    /// Whether to colour.
    pub color: bool,
    /// Whether the terminal shows more than ASCII.
    pub unicode: bool,
}

impl Style {
    /// Returns the mark of a cut: `…`, in ASCII `+` as in top(1). (`>` would read as a redirection in
    /// a command line, and `...` takes three columns of it.)
    pub fn ellipsis(&self) -> &'static str {
        if self.unicode { "…" } else { "+" }
    }

    /// Appends a text in the colour of its meaning, if colours are wanted.
    pub fn paint(&self, out: &mut String, text: &str, emphasis: Emphasis) {
        if self.color && emphasis != Emphasis::None && !text.is_empty() {
            out.extend(["\x1b[", emphasis.code(), "m", text, "\x1b[0m"]);
        } else {
            out.push_str(text);
        }
    }
}

/// The subject of a table, and the form of its values.
#[derive(Clone, Debug, Default)]
pub struct TableOptions {
    /// Signal sets in hexadecimal, as the kernel prints them.
    pub raw: bool,
    /// The moment that ages are counted to.
    pub now: Timestamp,
    /// Whether the first line names the columns.
    pub header: bool,
    /// The signal that the table is about; headers name it in place of `@`.
    pub signal: Option<Signal>,
    /// Whether a margin shows which rows have changed.
    pub margin: bool,
}

impl TableOptions {
    /// Returns the options of a plain table: a header, ages as of now.
    pub fn with_header() -> Self {
        Self { header: true, now: Timestamp::now(), ..Self::default() }
    }
}

/// Meaning of a text to the reader, shown as colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Emphasis {
    /// None in particular.
    #[default]
    None,
    /// As it should be.
    Good,
    /// Worth a second look.
    Warning,
    /// Trouble.
    Bad,
    /// Severe trouble, highlighted.
    Alarm,
    /// Less important.
    Dim,
    /// Different from the last refresh.
    Changed,
    /// A heading.
    Heading,
    /// The title of a whole screen.
    Title,
}

impl Emphasis {
    /// Returns the SGR code: of the sixteen colours that every theme chooses for itself.
    pub fn code(self) -> &'static str {
        match self {
            Self::None => "0",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31",
            Self::Alarm => "1;31",
            Self::Dim => "2",
            Self::Changed => "1;7",
            Self::Heading => "1",
            Self::Title => "7",
        }
    }
}
