//! Columns and the values in them. A table of columns is one list; the headers, the choices of
//! `-o` and `--sort`, their help, the alignment and the JSON all come out of it. Values are made
//! safe here on their way to text. Nothing here knows where on the line a column will stand.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value as Json};

use crate::model::signal::{Signal, SignalSet};
use crate::output::text;

/// How a table is shown.
#[derive(Clone, Debug, Default)]
pub struct TableStyle {
    /// Columns of the terminal; `None` where nothing is cut and nothing dropped, as in a pipe.
    pub width: Option<usize>,
    /// Whether to colour.
    pub color: bool,
    /// Whether the terminal shows more than ASCII.
    pub unicode: bool,
    /// Signal sets in hex, as the kernel prints them.
    pub raw: bool,
    /// What ages are counted to.
    pub now: Timestamp,
    /// Whether the first line names the columns.
    pub header: bool,
    /// Whether the user named the columns: then none is dropped for being of little worth.
    pub chosen: bool,
    /// The signal that the table is about.
    pub signal: Option<Signal>,
    /// Whether there is a margin for what has changed.
    pub margin: bool,
}

/// What a column shows of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// There is none: `-`, in JSON null.
    Absent,
    /// It may not be read: `?`, in JSON null.
    Denied,
    /// A number.
    Int(i64),
    /// A string of somebody else's.
    Bytes(Vec<u8>),
    /// Arguments.
    Argv(Vec<Vec<u8>>),
    /// Bytes of memory or disk: `1.2M`, in JSON the number.
    Size(u64),
    /// A duration: `3m20s`, in JSON seconds.
    Span(Duration),
    /// A moment: its age, in JSON RFC 3339.
    Time(Timestamp),
    /// A moment, and when what began then was seen last: it grows no older.
    TimeUntil(Timestamp, Timestamp),
    /// A set of signals.
    Signals(SignalSet),
    /// One letter, as a process state.
    Char(char),
    /// Yes or no.
    Bool(bool),
    /// Several strings of somebody else's, with commas between.
    List(Vec<Vec<u8>>),
    /// A text of our own.
    Text(Cow<'static, str>),
}

impl Value {
    /// The value as one line of safe text.
    pub fn text(&self, style: &TableStyle) -> String {
        match self {
            Self::Absent => "-".into(),
            Self::Denied => "?".into(),
            Self::Int(number) => number.to_string(),
            Self::Bytes(bytes) => text::safe(bytes).into_owned(),
            Self::Argv(argv) | Self::List(argv) if argv.is_empty() => "-".into(),
            Self::Argv(argv) => text::command_line(argv),
            Self::Size(bytes) => text::size(*bytes),
            Self::Span(span) => text::age(*span),
            Self::Time(time) => age(*time, style.now),
            Self::TimeUntil(time, until) => age(*time, *until),
            Self::Signals(set) if style.raw => set.to_hex(),
            Self::Signals(set) => set.short(),
            Self::Char(letter) => text::safe_str(letter.encode_utf8(&mut [0; 4])).into_owned(),
            Self::Bool(yes) => if *yes { "yes" } else { "no" }.into(),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(|item| text::safe(item)).collect();
                items.join(",")
            }
            Self::Text(ours) => text::safe_str(ours).into_owned(),
        }
    }

    /// The value in JSON, exactly.
    pub fn json(&self) -> Json {
        match self {
            Self::Absent | Self::Denied => Json::Null,
            Self::Int(number) => (*number).into(),
            Self::Bytes(bytes) => text::bytes_to_json(bytes),
            Self::Argv(items) | Self::List(items) => {
                items.iter().map(|item| text::bytes_to_json(item)).collect()
            }
            Self::Size(bytes) => (*bytes).into(),
            Self::Span(span) if span.subsec_nanos() == 0 => span.as_secs().into(),
            Self::Span(span) => span.as_secs_f64().into(),
            Self::Time(time) | Self::TimeUntil(time, _) => time.to_string().into(),
            Self::Signals(set) => set.names().into(),
            Self::Char(letter) => letter.to_string().into(),
            Self::Bool(yes) => (*yes).into(),
            Self::Text(ours) => ours.as_ref().into(),
        }
    }

    /// Which kind comes before which, where a column holds several.
    fn rank(&self) -> u8 {
        match self {
            Self::Int(_) | Self::Size(_) => 0,
            Self::Span(_) => 1,
            Self::Time(_) | Self::TimeUntil(..) => 2,
            Self::Signals(_) => 3,
            Self::Bool(_) => 4,
            Self::Char(_) | Self::Bytes(_) | Self::Text(_) | Self::Argv(_) | Self::List(_) => 5,
            Self::Denied => 6,
            Self::Absent => 7,
        }
    }

    fn number(&self) -> i128 {
        match self {
            Self::Int(number) => (*number).into(),
            Self::Size(bytes) => (*bytes).into(),
            _ => 0,
        }
    }

    /// The bytes of what is text in some form; arguments with a space between.
    fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Bytes(bytes) => bytes.into(),
            Self::Text(ours) => ours.as_bytes().into(),
            Self::Char(letter) => letter.to_string().into_bytes().into(),
            Self::Argv(items) | Self::List(items) => items.join(&b' ').into(),
            _ => Cow::Borrowed(&[]),
        }
    }
}

/// A moment that is still to come (the clock was set back) has no age yet.
fn age(time: Timestamp, now: Timestamp) -> String {
    text::age(now.duration_since(time).try_into().unwrap_or_default())
}

/// The order of two values: numbers as numbers, text by its bytes, what is not known last. It is
/// total, whatever kinds meet, as sorting requires.
pub fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Span(a), Value::Span(b)) => a.cmp(b),
        (Value::Time(a) | Value::TimeUntil(a, _), Value::Time(b) | Value::TimeUntil(b, _)) => {
            a.cmp(b)
        }
        (Value::Signals(a), Value::Signals(b)) => a.0.cmp(&b.0),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        _ => (a.rank().cmp(&b.rank()))
            .then_with(|| a.number().cmp(&b.number()))
            .then_with(|| a.bytes().cmp(&b.bytes())),
    }
}

/// On which side a column's texts meet its edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// What a value means to the reader; shown as colour, and only where colour is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tint {
    /// Nothing in particular.
    #[default]
    None,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Trouble.
    Bad,
    /// Trouble that has to catch the eye.
    Alarm,
    /// Of little interest.
    Dim,
    /// Another than a moment ago.
    Changed,
}

impl Tint {
    /// The colour of it: of the sixteen that every theme chooses.
    pub fn code(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Good => Some("32"),
            Self::Warn => Some("33"),
            Self::Bad => Some("31"),
            Self::Alarm => Some("1;31"),
            Self::Dim => Some("2"),
            Self::Changed => Some("1;7"),
        }
    }
}

/// One column over rows of type `R`. Written as one line of a `static` table:
///
/// ```text
/// Column::new("rss", "RSS", "memory in use", |p: &Row| Value::Size(p.rss)).right().json("rss"),
/// ```
pub struct Column<R: 'static> {
    /// What `-o` and `--sort` call it; lower case.
    pub name: &'static str,
    /// What stands above it; shown in upper case, `@` as the signal that the table is about.
    pub header: &'static str,
    /// One line of help, lower case, no full stop.
    pub about: &'static str,
    /// On which side its texts meet its edge.
    pub align: Align,
    /// Where the terminal is narrow the columns worth least go first; 255 never goes.
    pub worth: u8,
    /// Whether it is shown without `-o`.
    pub default: bool,
    /// Where its value stands in the JSON: `rss`, `signals.blocked`.
    pub json: Option<&'static str>,
    /// Whether it takes the rest of the line, and is cut at its edge; it also carries the tree.
    /// Of several the first does.
    pub grows: bool,
    /// What the value means.
    pub tint: Option<fn(&R) -> Tint>,
    /// What of it is looked at by who watches for changes.
    pub watched: Option<fn(&R) -> Value>,
    /// The value.
    pub value: fn(&R) -> Value,
}

// Not derived, as that would ask the same of R.
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
    /// A column of words, shown only when asked for, absent from the JSON, of middling worth.
    pub const fn new(
        name: &'static str,
        header: &'static str,
        about: &'static str,
        value: fn(&R) -> Value,
    ) -> Self {
        Self {
            name,
            header,
            about,
            align: Align::Left,
            worth: 100,
            default: false,
            json: None,
            grows: false,
            tint: None,
            watched: None,
            value,
        }
    }

    /// Shown without `-o`.
    pub const fn shown(mut self) -> Self {
        self.default = true;
        self
    }

    /// Aligned to the right.
    pub const fn right(mut self) -> Self {
        self.align = Align::Right;
        self
    }

    /// What it is worth where room is scarce; 255 is never dropped.
    pub const fn worth(mut self, worth: u8) -> Self {
        self.worth = worth;
        self
    }

    /// Where its value stands in the JSON.
    pub const fn json(mut self, path: &'static str) -> Self {
        self.json = Some(path);
        self
    }

    /// Takes the rest of the line.
    pub const fn grows(mut self) -> Self {
        self.grows = true;
        self
    }

    /// Who watches is told when it changes.
    pub const fn watched(mut self) -> Self {
        self.watched = Some(self.value);
        self
    }

    /// Who watches is told when this changes.
    pub const fn watched_by(mut self, what: fn(&R) -> Value) -> Self {
        self.watched = Some(what);
        self
    }

    /// What its values mean.
    pub const fn tint(mut self, tint: fn(&R) -> Tint) -> Self {
        self.tint = Some(tint);
        self
    }
}

/// A name that no column has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no column `{}`", text::safe_str(.name))]
pub struct UnknownColumn {
    /// What was typed.
    pub name: String,
    /// The column whose name is close to it.
    pub nearest: Option<&'static str>,
    /// Every column there is.
    pub choices: Vec<&'static str>,
}

impl UnknownColumn {
    /// What to type instead.
    pub fn hint(&self) -> String {
        let choices = self.choices.join(", ");
        match self.nearest {
            Some(nearest) => format!("did you mean `{nearest}`? valid values: {choices}"),
            None => format!("valid values: {choices}"),
        }
    }
}

/// The columns shown where none are asked for.
pub fn defaults<R>(table: &'static [Column<R>]) -> Vec<&'static Column<R>> {
    table.iter().filter(|column| column.default).collect()
}

/// The columns a comma list names, in its order and each once; capitals do not matter. A list whose
/// first name has a `+` before it (`+rss`) adds to the default columns, before the one that grows.
pub fn choose<R>(
    table: &'static [Column<R>],
    list: &str,
) -> Result<Vec<&'static Column<R>>, UnknownColumn> {
    let mut chosen = if list.trim_start().starts_with('+') { defaults(table) } else { Vec::new() };
    let end = chosen.iter().position(|column| column.grows).unwrap_or(chosen.len());
    let tail = chosen.split_off(end);
    for name in list.split(',') {
        let name = name.trim();
        let column = find(table, name.strip_prefix('+').unwrap_or(name))?;
        if !chosen.iter().chain(&tail).any(|known| known.name == column.name) {
            // What was asked for is not left out where it is narrow. (Once for each word typed.)
            chosen.push(Box::leak(Box::new(Column { worth: 255, ..*column })));
        }
    }
    chosen.extend(tail);
    Ok(chosen)
}

/// Whether a list says all of the columns, and not what is added to the usual ones: then none of them
/// is left out where it is narrow.
pub fn is_whole(list: Option<&str>) -> bool {
    list.is_some_and(|list| !list.trim_start().starts_with('+'))
}

/// The column of a name.
pub fn find<R>(
    table: &'static [Column<R>],
    name: &str,
) -> Result<&'static Column<R>, UnknownColumn> {
    table.iter().find(|column| column.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        let choices: Vec<_> = table.iter().map(|column| column.name).collect();
        UnknownColumn { name: name.into(), nearest: nearest(name, &choices), choices }
    })
}

/// The choice fewest letters away from a name, if that is not more than a third of them.
fn nearest(name: &str, choices: &[&'static str]) -> Option<&'static str> {
    // Names are short; what is not can be close to none, and would only take time.
    if name.len() > 32 {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let (far, choice) = choices.iter().map(|choice| (distance(&name, choice), *choice)).min()?;
    (far <= choice.len().div_ceil(3)).then_some(choice)
}

/// Letters to change, add or leave out to make one word the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, from) in a.chars().enumerate() {
        let mut before = std::mem::replace(&mut row[0], at + 1);
        for (to, letter) in b.iter().enumerate() {
            let cost = before + usize::from(from != *letter);
            before = row[to + 1];
            row[to + 1] = cost.min(before + 1).min(row[to] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

/// What `-o help` prints: every column with what it shows, those shown by default marked.
pub fn help<R>(table: &'static [Column<R>]) -> String {
    let longest = table.iter().map(|column| column.name.len()).max().unwrap_or(0);
    let line = |column: &Column<R>| {
        let mark = if column.default { '*' } else { ' ' };
        format!("{mark} {:longest$}  {}\n", column.name, column.about)
    };
    let mut help: String = table.iter().map(line).collect();
    help.push_str("\nThose marked * are shown by default.\n");
    help
}

/// By what rows are sorted, and which way.
#[derive(Debug)]
pub struct Sort<R: 'static> {
    /// The column.
    pub column: &'static Column<R>,
    /// Whether the greatest comes first.
    pub descending: bool,
}

impl<R> Clone for Sort<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Sort<R> {}

impl<R> Sort<R> {
    /// The order of two values of the column. What is not known comes last in both directions.
    pub fn compare(&self, a: &Value, b: &Value) -> Ordering {
        let known = |value: &Value| !matches!(value, Value::Absent | Value::Denied);
        match compare(a, b) {
            order if self.descending && known(a) && known(b) => order.reverse(),
            order => order,
        }
    }

    /// The value of every row: taken once, for a comparison by index and not at each of them.
    pub fn keys<'a>(&self, rows: impl IntoIterator<Item = &'a R>) -> Vec<Value> {
        rows.into_iter().map(self.column.value).collect()
    }

    /// Sorts rows; equals stay as they were.
    pub fn sort(&self, rows: &mut [R]) {
        rows.sort_by_cached_key(|row| SortKey { value: (self.column.value)(row), by: *self });
    }
}

/// A value with the order it is sorted in, for sort_by_cached_key().
struct SortKey<R: 'static> {
    value: Value,
    by: Sort<R>,
}

impl<R> Ord for SortKey<R> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.by.compare(&self.value, &other.value)
    }
}

impl<R> PartialOrd for SortKey<R> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<R> PartialEq for SortKey<R> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<R> Eq for SortKey<R> {}

/// Reads a sorting key: `rss` or `+rss` upwards, `-rss` downwards, as `ps --sort` has it.
pub fn parse_sort<R>(table: &'static [Column<R>], key: &str) -> Result<Sort<R>, UnknownColumn> {
    let key = key.trim();
    let (descending, name) = match key.strip_prefix('-') {
        Some(name) => (true, name),
        None => (false, key.strip_prefix('+').unwrap_or(key)),
    };
    Ok(Sort { column: find(table, name)?, descending })
}

/// The row as a JSON object: every column that has a path, in the order of the table, chosen or not.
pub fn object<R>(table: &'static [Column<R>], row: &R) -> Map<String, Json> {
    let mut object = Map::new();
    for column in table {
        if let Some(path) = column.json {
            put(&mut object, path, (column.value)(row).json());
        }
    }
    object
}

/// Puts a value below a dotted path. Where the path leads through what is no object, the value
/// would be lost; the test that each table has finds those.
fn put(object: &mut Map<String, Json>, path: &str, value: Json) {
    match path.split_once('.') {
        None => {
            object.insert(path.into(), value);
        }
        Some((first, rest)) => {
            let inner = object.entry(first).or_insert_with(|| Json::Object(Map::new()));
            if let Json::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// What is wrong with a table of columns, for the test that every such table has: names, headers
/// and JSON paths that collide, texts that are missing or not in the style.
#[cfg(test)]
pub(crate) fn audit<R>(table: &'static [Column<R>]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut must = |holds: bool, column: &Column<R>, what: &str| {
        if !holds {
            wrong.push(format!("`{}`: {what}", column.name));
        }
    };
    for (at, column) in table.iter().enumerate() {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        must(column.name.chars().all(plain), column, "the name is not in lower case");
        must(!column.name.is_empty() && !column.header.is_empty(), column, "no name or header");
        must(!column.about.is_empty() && !column.about.ends_with('.'), column, "its about");
        for other in &table[..at] {
            must(other.name != column.name, column, "the name is taken");
            must(other.header != column.header, column, "the header is taken");
            // `a` and `a.b` cannot both be: one is a value and the other wants an object there.
            if let (Some(ours), Some(theirs)) = (column.json, other.json) {
                let within = |a: &str, b: &str| format!("{a}.").starts_with(&format!("{b}."));
                let apart = !within(ours, theirs) && !within(theirs, ours);
                must(apart, column, "the JSON path is taken");
            }
        }
    }
    if table.iter().filter(|column| column.default && column.grows).count() != 1 {
        wrong.push("not one of the columns shown takes the rest of the line".into());
    }
    wrong
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    struct TestRow {
        pid: i64,
        comm: &'static [u8],
        rss: Option<u64>,
    }

    static TABLE: &[Column<TestRow>] = &[
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
            .grows()
            .json("comm"),
    ];

    fn names(list: &str) -> Vec<&'static str> {
        choose(TABLE, list).unwrap().iter().map(|column| column.name).collect()
    }

    #[test]
    fn columns_are_chosen_by_name() {
        assert_eq!(names("comm,PID, comm"), ["comm", "pid"]);
        assert_eq!(names("+rss"), ["pid", "rss", "comm"]);
        assert_eq!(names("+comm,+blocked"), ["pid", "blocked", "comm"]);
        assert_eq!(defaults(TABLE).len(), 2);
        assert_eq!(audit(TABLE), Vec::<String>::new());
    }

    #[test]
    fn an_unknown_column_names_the_nearest() {
        let error = choose(TABLE, "pid,blokced").unwrap_err();
        assert_eq!(error.to_string(), "no column `blokced`");
        assert_eq!(error.hint(), "did you mean `blocked`? valid values: pid, rss, blocked, comm");
        assert_eq!(choose(TABLE, "xyzzy\x1b").unwrap_err().to_string(), r"no column `xyzzy\x1b`");
        for none in ["", "pid,", "a-long-name-that-is-nothing-like-any-column"] {
            assert_eq!(choose(TABLE, none).unwrap_err().nearest, None, "{none}");
        }
    }

    #[test]
    fn help_lists_every_column() {
        let help = help(TABLE);
        assert!(help.starts_with("* pid      the pid\n  rss      the memory\n"), "{help}");
        assert_eq!(help.lines().count(), TABLE.len() + 2);
    }

    #[test]
    fn rows_are_sorted_with_the_unknown_last() {
        let row = |pid, rss| TestRow { pid, comm: b"", rss };
        let mut rows = [row(1, Some(9)), row(2, None), row(3, Some(10)), row(4, Some(9))];
        let mut sorted = |key: &str| {
            parse_sort(TABLE, key).unwrap().sort(&mut rows);
            rows.iter().map(|row| row.pid).collect::<Vec<_>>()
        };
        assert_eq!(sorted("RSS"), [1, 4, 3, 2]);
        assert_eq!(sorted("-rss"), [3, 1, 4, 2]);
        assert_eq!(sorted("+pid"), [1, 2, 3, 4]);
        assert!(parse_sort(TABLE, "--rss").is_err());
    }

    #[test]
    fn json_is_nested_and_exact() {
        let row = TestRow { pid: 7, comm: b"a\xff", rss: None };
        let expected =
            r#"{"pid":7,"memory":{"rss":null,"x":{"blocked":["TERM"]}},"comm":{"bytes":"Yf8="}}"#;
        assert_eq!(Json::Object(object(TABLE, &row)).to_string(), expected);
    }

    #[test]
    fn a_table_with_faults_is_found_out() {
        static BAD: &[Column<TestRow>] = &[
            Column::new("a", "A", "x", |_| Value::Absent).json("a"),
            Column::new("a", "B", "", |_| Value::Absent).json("a.b"),
        ];
        let row = TestRow { pid: 0, comm: b"", rss: None };
        assert_eq!(Json::Object(object(BAD, &row)), json!({"a": null}));
        let wrong = [
            "`a`: its about",
            "`a`: the name is taken",
            "`a`: the JSON path is taken",
            "not one of the columns shown takes the rest of the line",
        ];
        assert_eq!(audit(BAD), wrong);
    }

    #[test]
    fn each_kind_of_value_has_its_text_and_its_json() {
        let now: Timestamp = "2026-01-01T02:05:00Z".parse().unwrap();
        let style = TableStyle { now, ..TableStyle::default() };
        let then: Timestamp = "2026-01-01T00:00:00.5Z".parse().unwrap();
        let words = vec![b"a\n".to_vec(), b"b\xff".to_vec()];
        let cases = [
            (Value::Absent, "-", json!(null)),
            (Value::Denied, "?", json!(null)),
            (Value::Int(-3), "-3", json!(-3)),
            (Value::Bytes(b"x\x1b".to_vec()), r"x\x1b", json!("x\u{1b}")),
            (Value::Argv(words.clone()), r"a\n b\xff", json!(["a\n", {"bytes": "Yv8="}])),
            (Value::List(words), r"a\n,b\xff", json!(["a\n", {"bytes": "Yv8="}])),
            (Value::Argv(vec![]), "-", json!([])),
            (Value::Size(u64::MAX), "16E", json!(u64::MAX)),
            (Value::Span(Duration::from_secs(90)), "1m30s", json!(90)),
            (Value::Span(Duration::from_millis(1500)), "1s", json!(1.5)),
            (Value::Time(then), "2h04m", json!("2026-01-01T00:00:00.5Z")),
            (Value::TimeUntil(then, then), "0s", json!("2026-01-01T00:00:00.5Z")),
            (Value::Time(Timestamp::MAX), "0s", json!(Timestamp::MAX.to_string())),
            (Value::Signals(SignalSet(1 << 14)), "TERM", json!(["TERM"])),
            (Value::Char('S'), "S", json!("S")),
            (Value::Char('\u{9b}'), r"\x9b", json!("\u{9b}")),
            (Value::Bool(true), "yes", json!(true)),
            (Value::Text("ours…".into()), "ours…", json!("ours…")),
        ];
        for (value, text, json) in cases {
            assert_eq!((value.text(&style).as_str(), value.json()), (text, json), "{value:?}");
        }
        let raw = TableStyle { raw: true, ..style };
        assert_eq!(Value::Signals(SignalSet(1 << 14)).text(&raw), "0000000000004000");
    }

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Absent),
            Just(Value::Denied),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::Size),
            any::<u32>().prop_map(|s| Value::Span(Duration::from_secs(s.into()))),
            any::<u64>().prop_map(|s| Value::Signals(SignalSet(s))),
            any::<char>().prop_map(Value::Char),
            any::<bool>().prop_map(Value::Bool),
            any::<Vec<u8>>().prop_map(Value::Bytes),
            any::<Vec<Vec<u8>>>().prop_map(Value::Argv),
        ]
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in any_value(), b in any_value(), c in any_value(), down: bool) {
            let sort = Sort { column: &TABLE[0], descending: down };
            prop_assert_eq!(sort.compare(&a, &b), sort.compare(&b, &a).reverse());
            if sort.compare(&a, &b).is_le() && sort.compare(&b, &c).is_le() {
                prop_assert!(sort.compare(&a, &c).is_le());
            }
        }

        #[test]
        fn any_value_is_one_safe_line(value in any_value(), name: String) {
            let shown = value.text(&TableStyle::default());
            prop_assert!(!shown.chars().any(text::unprintable));
            let _ = (value.json(), choose(TABLE, &name), parse_sort(TABLE, &name));
        }
    }
}
