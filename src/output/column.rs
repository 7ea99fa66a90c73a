//! A column: its name, header, help, JSON path and value, each once. A table of columns is one list;
//! headers, `-o`, `--sort`, their help, the man page and the JSON all come out of it. Its position
//! on the line is decided elsewhere.

use std::fmt;

use super::style::Emphasis;
use super::value::Value;

/// Side of a column on which its texts are aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// One column over rows of type `R`. Written as one line of a `static` table:
///
/// ```text
/// Column::new("rss", "RSS", "memory in use", |p: &Row| Value::Size(p.rss)).right().json("rss"),
/// ```
pub struct Column<R: 'static> {
    /// Name for `-o` and `--sort`; lower case.
    pub name: &'static str,
    /// Header; printed in upper case, `@` as the signal that the table is about.
    pub header: &'static str,
    /// One line of help, lower case, no full stop.
    pub description: &'static str,
    /// Side on which its texts are aligned.
    pub align: Align,
    /// On a narrow terminal columns of low priority are dropped first; 255 is never dropped.
    pub priority: u8,
    /// Whether it is shown without `-o`.
    pub default: bool,
    /// Whether it is shown only if the flexible column keeps at least half of the width it needs.
    pub wide: bool,
    /// Path of its value in the JSON: `rss`, `signals.blocked`.
    pub json: Option<&'static str>,
    /// Rows whose JSON has the value; all of them without it. In others a plain key is left out, and
    /// the object that a nested one belongs to is null.
    pub json_if: Option<fn(&R) -> bool>,
    /// Whether it takes the rest of the line and is cut at the edge; it also carries the tree. If
    /// several are flexible, the first does.
    pub flexible: bool,
    /// Meaning of a value, if it has any.
    pub emphasis: Option<fn(&R) -> Emphasis>,
    /// Value compared by `--watch` to detect changes.
    pub watched: Option<fn(&R) -> Value>,
    /// The value.
    pub value: fn(&R) -> Value,
}

// Not derived, because derive would require it of R.
impl<R> Clone for Column<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Column<R> {}

impl<R> fmt::Debug for Column<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Column({})", self.name)
    }
}

impl<R> Column<R> {
    /// Makes a column of words, hidden by default, absent from the JSON, of medium priority.
    pub const fn new(
        name: &'static str,
        header: &'static str,
        description: &'static str,
        value: fn(&R) -> Value,
    ) -> Self {
        Self {
            name,
            header,
            description,
            align: Align::Left,
            priority: 100,
            default: false,
            wide: false,
            json: None,
            json_if: None,
            flexible: false,
            emphasis: None,
            watched: None,
            value,
        }
    }

    /// Shows it without `-o`.
    pub const fn shown(mut self) -> Self {
        self.default = true;
        self
    }

    /// Shows it on wide terminals only; such columns come and go together.
    pub const fn wide(mut self) -> Self {
        self.wide = true;
        self
    }

    /// Aligns it to the right.
    pub const fn right(mut self) -> Self {
        self.align = Align::Right;
        self
    }

    /// Sets the priority; 255 is never dropped.
    pub const fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Sets the path of its value in the JSON.
    pub const fn json(mut self, path: &'static str) -> Self {
        self.json = Some(path);
        self
    }

    /// Leaves the value out of the JSON of other rows.
    pub const fn json_if(mut self, has_value: fn(&R) -> bool) -> Self {
        self.json_if = Some(has_value);
        self
    }

    /// Gives it the rest of the line. It is not dropped, unless it gets a lower priority after that.
    pub const fn flexible(mut self) -> Self {
        self.flexible = true;
        self.priority(u8::MAX)
    }

    /// Makes `--watch` report changes of its value.
    pub const fn watched(mut self) -> Self {
        self.watched = Some(self.value);
        self
    }

    /// Makes `--watch` report changes of a value derived from it.
    pub const fn watched_by(mut self, value: fn(&R) -> Value) -> Self {
        self.watched = Some(value);
        self
    }

    /// Sets the meaning of its values.
    pub const fn emphasis(mut self, emphasis: fn(&R) -> Emphasis) -> Self {
        self.emphasis = Some(emphasis);
        self
    }
}

/// Returns the faults of a table of columns, for the test that every such table has: names, headers and
/// JSON paths that collide, texts that are missing or not in the style.
#[cfg(test)]
pub(crate) fn audit<R>(table: &'static [Column<R>]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |holds: bool, column: &Column<R>, fault: &str| {
        if !holds {
            faults.push(format!("`{}`: {fault}", column.name));
        }
    };
    for (index, column) in table.iter().enumerate() {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        must(column.name.chars().all(plain), column, "the name is not in lower case");
        must(!column.name.is_empty() && !column.header.is_empty(), column, "no name or header");
        let described = !column.description.is_empty() && !column.description.ends_with('.');
        must(described, column, "its description");
        for other in &table[..index] {
            must(other.name != column.name, column, "the name is taken");
            must(other.header != column.header, column, "the header is taken");
            // `a` and `a.b` cannot both be: one is a value and the other needs an object there.
            if let (Some(path), Some(taken)) = (column.json, other.json) {
                let within = |a: &str, b: &str| format!("{a}.").starts_with(&format!("{b}."));
                let free = !within(path, taken) && !within(taken, path);
                must(free, column, "the JSON path is taken");
            }
        }
    }
    if table.iter().filter(|column| column.default && column.flexible).count() != 1 {
        faults.push("not exactly one default column takes the rest of the line".into());
    }
    faults
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::signal::SignalSet;

    #[derive(Debug)]
    pub struct TestRow {
        pub pid: i64,
        pub comm: &'static [u8],
        pub rss: Option<u64>,
    }

    pub static TABLE: &[Column<TestRow>] = &[
        Column::new("pid", "pid", "the pid", |r: &TestRow| Value::Int(r.pid)).shown().json("pid"),
        Column::new("rss", "rss", "the memory", |r: &TestRow| {
            r.rss.map_or(Value::Absent, Value::Size)
        })
        .right()
        .json("memory.rss"),
        Column::new("blocked", "blocked", "the mask", |_| Value::Signals(SignalSet(1 << 14)))
            .json("memory.x.blocked"),
        Column::new("comm", "comm", "the name", |r: &TestRow| Value::Bytes(r.comm.to_vec()))
            .shown()
            .flexible()
            .json("comm"),
    ];

    #[test]
    fn the_audit_finds_faults() {
        static BAD: &[Column<TestRow>] = &[
            Column::new("a", "A", "x", |_| Value::Absent).json("a"),
            Column::new("a", "B", "", |_| Value::Absent).json("a.b"),
        ];
        let faults = [
            "`a`: its description",
            "`a`: the name is taken",
            "`a`: the JSON path is taken",
            "not exactly one default column takes the rest of the line",
        ];
        assert_eq!(audit(BAD), faults);
        assert_eq!(audit(TABLE), Vec::<String>::new());
    }
}
