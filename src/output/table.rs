//! Rows and columns to lines of text: which columns fit, where they stand, where they are cut.
//! The only file that knows comfy-table, which sets the columns that stand still. What it does not
//! do (drop columns, cut a cell within its line, colour without crossterm, hold more than 65,535
//! characters) is done around it. Nothing here prints.

use std::collections::HashMap;

use comfy_table::{
    Cell as Set, CellAlignment, ColumnConstraint, Row as SetRow, Table, Width, presets,
};

use crate::model::signal::Signal;
pub use crate::output::column::TableStyle;
use crate::output::column::{Align, Column, Tint};
use crate::output::text;

/// What the growing column has at least, before columns are dropped for it.
const GROWN: usize = 20;

/// Where even a column that stands still is cut, terminal or not: comfy-table counts in 16 bits,
/// and wraps what is longer, so that one process would be two lines. No name that the kernel gives
/// comes near: a path has 4095 bytes, each at most four columns wide when escaped.
const STILL: usize = 32_768;

/// A sign and a space.
const MARGIN: usize = 2;

/// Between two columns.
const GAP: usize = 2;

/// A row with what is drawn before its growing column.
#[derive(Debug)]
pub struct TableLine<'a, R> {
    /// The row.
    pub row: &'a R,
    /// The lines of the tree; empty where there is none.
    pub prefix: String,
    /// What is new about it.
    pub mark: Mark,
}

/// What is new about a row, for who watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// Nothing.
    #[default]
    None,
    /// It was not there before.
    New,
    /// It is not there any more.
    Left,
    /// These columns of it, by name.
    Changed(Vec<&'static str>),
}

impl Mark {
    /// What stands in the margin.
    fn sign(&self) -> (&'static str, Tint) {
        match self {
            Self::None => (" ", Tint::None),
            Self::New => ("+", Tint::Good),
            Self::Left => ("-", Tint::Bad),
            Self::Changed(_) => ("*", Tint::Changed),
        }
    }

    /// How a cell of the row looks that has this tint otherwise.
    fn tint(&self, column: &str, own: Tint) -> Tint {
        match self {
            Self::Left => Tint::Dim,
            Self::Changed(columns) if columns.contains(&column) => Tint::Changed,
            _ => own,
        }
    }
}

impl<'a, R> TableLine<'a, R> {
    /// A row outside any tree.
    pub fn flat(row: &'a R) -> Self {
        Self { row, prefix: String::new(), mark: Mark::None }
    }
}

/// What stands in one place: plain safe text, its columns on the terminal, its meaning.
struct Cell {
    prefix: String,
    text: String,
    width: usize,
    tint: Tint,
}

impl Cell {
    fn new(prefix: String, text: String, tint: Tint) -> Self {
        let width = text::width(&prefix) + text::width(&text);
        Self { prefix, text, width, tint }
    }

    /// Cuts to so many columns. A prefix gives way first, down to half of them: deep in a tree it
    /// is the process that is looked for, not the lines that lead to it.
    fn cut(&mut self, cols: usize, ellipsis: &str) {
        if self.width > cols {
            let half = (cols / 2).max(cols.saturating_sub(text::width(&self.text)));
            self.prefix = text::cut(&self.prefix, half, ellipsis);
            self.text = text::cut(&self.text, cols - text::width(&self.prefix), ellipsis);
            self.width = text::width(&self.prefix) + text::width(&self.text);
        }
    }
}

/// A column as it is about to be drawn: the cell of its header, if wanted, then one for each line.
struct ColumnLayout {
    cells: Vec<Cell>,
    width: usize,
    right: bool,
    worth: u8,
    grows: bool,
}

impl ColumnLayout {
    fn narrow(&mut self, cols: usize, ellipsis: &str) {
        if self.width > cols {
            self.width = cols;
            self.cells.iter_mut().for_each(|cell| cell.cut(cols, ellipsis));
        }
    }
}

/// Draws rows as a table, every line ended by a newline: no borders, two spaces between columns,
/// none at the end of a line. Where `style.width` is set no line is wider: columns of least worth
/// are dropped until the growing one has 20 columns or all it needs, and those that fit beside the
/// rest come back; then that one is cut. Columns the user chose (`style.chosen`) are never dropped; what does not fit ends at the edge.
///
/// The mark of a cut is `…`, in ASCII `+` as in top(1): `>` would read as a redirection in a
/// command line, and `...` take three columns of it.
pub fn draw<R>(columns: &[&Column<R>], rows: &[TableLine<'_, R>], style: &TableStyle) -> String {
    draw_again(columns, rows, style, &mut HashMap::new())
}

/// Draws what was drawn before: no column becomes narrower than it was, so that nothing moves that
/// need not. `widths` remembers that, by the names of the columns.
pub fn draw_again<R>(
    columns: &[&Column<R>],
    rows: &[TableLine<'_, R>],
    style: &TableStyle,
    widths: &mut HashMap<&'static str, usize>,
) -> String {
    let ellipsis = if style.unicode { "…" } else { "+" };
    let grows = columns.iter().position(|column| column.grows);
    let mut strips: Vec<ColumnLayout> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| strip(column, grows == Some(at), rows, style, ellipsis))
        .collect();
    for (strip, column) in strips.iter_mut().zip(columns).filter(|(strip, _)| !strip.grows) {
        let before = widths.entry(column.name).or_default();
        *before = strip.width.max(*before);
        strip.width = *before;
    }
    if let Some(width) = style.width {
        let width = width.saturating_sub(if style.margin { MARGIN } else { 0 });
        fit(&mut strips, width, style.chosen, ellipsis);
    }

    let count = rows.len() + usize::from(style.header);
    let still = set(&strips, count, style.header);
    let mut out = String::new();
    for (line, still) in still.iter().enumerate() {
        let header = style.header && line == 0;
        if style.margin {
            let row = line.checked_sub(usize::from(style.header)).and_then(|at| rows.get(at));
            let (sign, tint) = row.map_or((" ", Tint::None), |row| row.mark.sign());
            paint(&mut out, sign, tint.code(), style);
            out.push(' ');
        }
        write_line(&mut out, &strips, line, still, header, style);
    }
    out
}

fn strip<R>(
    column: &Column<R>,
    grows: bool,
    rows: &[TableLine<'_, R>],
    style: &TableStyle,
    ellipsis: &str,
) -> ColumnLayout {
    let mut cells = Vec::with_capacity(rows.len() + 1);
    if style.header {
        let signal = style.signal.map_or_else(|| "STOP".into(), Signal::name);
        let header = column.header.to_uppercase().replace('@', &signal);
        cells.push(Cell::new(String::new(), header, Tint::None));
    }
    cells.extend(rows.iter().map(|line| {
        let prefix = if grows { line.prefix.clone() } else { String::new() };
        let tint = column.tint.filter(|_| style.color).map_or(Tint::None, |tint| tint(line.row));
        let tint = if style.color { line.mark.tint(column.name, tint) } else { tint };
        let mut cell = Cell::new(prefix, (column.value)(line.row).text(style), tint);
        if !grows {
            cell.cut(STILL, ellipsis);
        }
        cell
    }));
    let width = cells.iter().map(|cell| cell.width).max().unwrap_or(0);
    ColumnLayout { cells, width, right: column.align == Align::Right, worth: column.worth, grows }
}

/// Drops columns until the rest fits, of equal worth the one further right, then gives the growing
/// one what is left. Where even columns that may not be dropped are too wide, the line ends at the
/// terminal's edge: the column there is cut, and those beyond it are not shown.
fn fit(strips: &mut Vec<ColumnLayout>, width: usize, chosen: bool, ellipsis: &str) {
    let fixed = |strips: &[ColumnLayout]| {
        let columns: usize = strips.iter().filter(|s| !s.grows).map(|s| s.width).sum();
        columns + GAP * strips.len().saturating_sub(1)
    };
    let grown = strips.iter().find(|s| s.grows).map_or(0, |s| s.width.min(GROWN));
    let mut order: Vec<usize> = (0..strips.len()).collect();
    let mut dropped = Vec::new();
    while !chosen && fixed(strips) + grown > width {
        let droppable = strips.iter().enumerate().filter(|(_, s)| !s.grows && s.worth < 255);
        let Some((least, _)) = droppable.min_by_key(|(at, s)| (s.worth, usize::MAX - at)) else {
            break;
        };
        let back = strips.remove(least);
        dropped.push((order.remove(least), back));
    }
    // What made the others go may have gone itself: those of most worth that fit come back.
    dropped.sort_by_key(|(at, strip)| (u8::MAX - strip.worth, *at));
    for (at, strip) in dropped {
        if fixed(strips) + GAP + strip.width + grown <= width {
            let place = order.partition_point(|before| *before < at);
            order.insert(place, at);
            strips.insert(place, strip);
        }
    }

    let grown = width.saturating_sub(fixed(strips)).max(1);
    let mut from = 0;
    strips.retain_mut(|strip| {
        let left = width.saturating_sub(from);
        strip.narrow(if strip.grows { left.min(grown) } else { left }, ellipsis);
        from += strip.width + GAP;
        left > 0
    });
}

/// Has comfy-table set the columns that stand still, side by side; the growing one it never sees.
fn set(strips: &[ColumnLayout], count: usize, header: bool) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut rows = (0..count).map(|line| {
        let still = strips.iter().filter(|strip| !strip.grows);
        SetRow::from(still.map(|strip| Set::new(&strip.cells[line].text)).collect::<Vec<_>>())
    });
    if header && let Some(first) = rows.next() {
        table.set_header(first);
    }
    table.add_rows(rows);
    for (column, strip) in table.column_iter_mut().zip(strips.iter().filter(|s| !s.grows)) {
        column.set_padding((0, 0));
        // (Only a column that is to be wider than what is in it has to be told.)
        let width = u16::try_from(strip.width).unwrap_or(u16::MAX);
        if strip.cells.iter().all(|cell| cell.width < strip.width) {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width)));
        }
        column.set_cell_alignment(match strip.right {
            true => CellAlignment::Right,
            false => CellAlignment::Left,
        });
    }
    let mut lines: Vec<String> = table.lines().collect();
    lines.resize(count, String::new()); // a table without columns has no lines
    lines
}

/// Writes one line: takes the still cells out of what was set, where their bytes must be, puts the
/// growing one in its place, the colour around the text, and leaves out what nobody sees.
fn write_line(
    out: &mut String,
    strips: &[ColumnLayout],
    line: usize,
    still: &str,
    header: bool,
    style: &TableStyle,
) {
    let mut from = 0; // in `still`
    let mut spaces = 0; // not written until something comes after them
    for strip in strips {
        let cell = &strip.cells[line];
        let padding = strip.width.saturating_sub(cell.width);
        let (before, after) = if strip.right { (padding, 0) } else { (0, padding) };
        let mut text = cell.text.as_str();
        if !strip.grows {
            let to = from + padding + text.len();
            text = still.get(from + before..to - after).unwrap_or(text);
            from = to;
        }
        spaces += before;
        if cell.width > 0 {
            out.extend(std::iter::repeat_n(' ', spaces));
            spaces = 0;
            out.push_str(&cell.prefix);
            paint(out, text, if header { Some("1") } else { cell.tint.code() }, style);
        }
        spaces += after + GAP;
    }
    // A name may end in spaces of its own; nobody sees those either.
    out.truncate(out.trim_end_matches(' ').len());
    out.push('\n');
}

/// Writes text in its colour (SGR, console_codes(4)), where there is one and colours are wanted.
pub fn paint(out: &mut String, text: &str, code: Option<&str>, style: &TableStyle) {
    match code.filter(|_| style.color && !text.is_empty()) {
        None => out.push_str(text),
        Some(code) => out.extend(["\x1b[", code, "m", text, "\x1b[0m"]),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::output::column::Value;
    use crate::output::tree;

    #[derive(Clone)]
    struct TestRow {
        pid: i64,
        user: Vec<u8>,
        command: Vec<u8>,
    }

    static TABLE: &[Column<TestRow>] = &[
        Column::new("pid", "pid", "the pid", |r: &TestRow| Value::Int(r.pid)).right().worth(255),
        Column::new("user", "user", "the user", |r: &TestRow| Value::Bytes(r.user.clone()))
            .worth(50),
        Column::new("state", "s", "the state", |_| Value::Char('S'))
            .tint(|r| if r.pid == 1 { Tint::Bad } else { Tint::None }),
        Column::new("command", "command", "the command", |r: &TestRow| {
            Value::Bytes(r.command.clone())
        })
        .grows(),
    ];

    fn row(pid: i64, user: &str, command: &str) -> TestRow {
        TestRow { pid, user: user.into(), command: command.into() }
    }

    fn columns(order: &[usize]) -> Vec<&'static Column<TestRow>> {
        order.iter().map(|at| &TABLE[*at]).collect()
    }

    fn wide(width: usize) -> TableStyle {
        TableStyle { width: Some(width), unicode: true, header: true, ..TableStyle::default() }
    }

    fn piped() -> TableStyle {
        TableStyle { header: true, ..TableStyle::default() }
    }

    fn sample() -> Vec<TestRow> {
        vec![
            row(1, "root", "nginx: master process /usr/sbin/nginx -g daemon off;"),
            row(1234, "größe", "a\nb"),
        ]
    }

    fn draw_sample(order: &[usize], style: &TableStyle) -> String {
        let rows = sample();
        draw(&columns(order), &rows.iter().map(TableLine::flat).collect::<Vec<_>>(), style)
    }

    fn lines(lines: &[&str]) -> String {
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn a_pipe_gets_everything() {
        let expected = [
            " PID  USER   S  COMMAND",
            "   1  root   S  nginx: master process /usr/sbin/nginx -g daemon off;",
            r"1234  größe  S  a\nb",
        ];
        assert_eq!(draw_sample(&[0, 1, 2, 3], &piped()), lines(&expected));
        let bare = TableStyle { header: false, ..piped() };
        assert_eq!(draw_sample(&[0, 1, 2, 3], &bare), lines(&expected[1..]));
    }

    #[test]
    fn a_narrow_terminal_loses_columns_then_the_end_of_the_command() {
        let all = [
            " PID  USER   S  COMMAND",
            "   1  root   S  nginx: master process /us…",
            r"1234  größe  S  a\nb",
        ];
        let no_user = [" PID  S  COMMAND", "   1  S  nginx: master process /us…", r"1234  S  a\nb"];
        let pid_alone = [" PID  COMMA+", "   1  nginx+", r"1234  a\nb"];
        assert_eq!(draw_sample(&[0, 1, 2, 3], &wide(42)), lines(&all));
        assert_eq!(draw_sample(&[0, 1, 2, 3], &wide(35)), lines(&no_user));
        let ascii = TableStyle { unicode: false, ..wide(12) };
        assert_eq!(draw_sample(&[0, 1, 2, 3], &ascii), lines(&pid_alone));
    }

    #[test]
    fn columns_the_user_chose_are_cut_at_the_edge_instead() {
        let chosen = TableStyle { chosen: true, ..wide(10) };
        assert_eq!(
            draw_sample(&[0, 1, 2], &chosen),
            lines(&[" PID  USER", "   1  root", "1234  grö…"])
        );
        assert_eq!(draw_sample(&[1, 0], &wide(3)), lines(&["PID", "  1", "12…"]));
        assert_eq!(draw_sample(&[0, 3], &wide(0)), lines(&["", "", ""]));
    }

    #[test]
    fn the_growing_column_may_stand_anywhere_or_alone() {
        let chosen = TableStyle { chosen: true, ..wide(14) };
        let middle = ["COMM…   PID  S", "ngin…     1  S", r"a\nb   1234  S"];
        assert_eq!(draw_sample(&[3, 0, 2], &chosen), lines(&middle));
        let alone = ["COMMAND", "nginx: master…", r"a\nb"];
        assert_eq!(draw_sample(&[3], &chosen), lines(&alone));
        assert_eq!(draw_sample(&[], &piped()), lines(&["", "", ""]));
    }

    #[test]
    fn colour_is_laid_around_text_only() {
        let style = TableStyle { color: true, ..piped() };
        let drawn = draw_sample(&[0, 2], &style);
        assert_eq!(drawn, " \x1b[1mPID\x1b[0m  \x1b[1mS\x1b[0m\n   1  \x1b[31mS\x1b[0m\n1234  S\n");
    }

    #[test]
    fn the_tree_stands_before_the_command_and_leaves_it_half_the_room() {
        let rows = [row(1, "", "init"), row(2, "", "sshd -D"), row(3, "", "bash with arguments")];
        let rows_in_tree: Vec<_> = rows
            .iter()
            .zip(["", "└─ ", "   └─ "])
            .map(|(row, prefix)| TableLine { row, prefix: prefix.into(), mark: Mark::None })
            .collect();
        let whole =
            ["PID  COMMAND", "  1  init", "  2  └─ sshd -D", "  3     └─ bash with arguments"];
        assert_eq!(draw(&columns(&[0, 3]), &rows_in_tree, &piped()), lines(&whole));
        let narrow = ["PID  COMMAND", "  1  init", "  2  └─ ssh…", "  3    …bas…"];
        assert_eq!(draw(&columns(&[0, 3]), &rows_in_tree, &wide(12)), lines(&narrow));
    }

    #[test]
    fn a_name_longer_than_16_bits_is_one_line() {
        let rows = [row(1, &"x".repeat(100_000), &"y ".repeat(100_000)), row(2, "a", "b")];
        let lines: Vec<_> = rows.iter().map(TableLine::flat).collect();
        let drawn = draw(&columns(&[3, 1, 0]), &lines, &piped());
        assert_eq!(drawn.lines().count(), 3);
        assert!(drawn.lines().nth(1).unwrap().ends_with("x+    1"));
        let drawn = draw(&columns(&[0, 3]), &lines, &piped());
        assert_eq!(drawn.lines().nth(1).unwrap().len(), 5 + 200_000 - 1);
    }

    #[test]
    fn two_thousand_rows_take_no_time() {
        let rows: Vec<_> = (0..2000).map(|pid| row(pid, "www-data", &"word ".repeat(12))).collect();
        let parents: Vec<_> = (0..rows.len()).map(|at| (at > 0).then_some(at / 3)).collect();
        let places = tree::order(&parents, |a, b| a.cmp(&b));
        let prefixes = tree::prefixes(&places, true);
        let line = |(place, prefix): (&tree::TreePosition, String)| TableLine {
            row: &rows[place.index],
            prefix,
            mark: Mark::None,
        };
        let lines: Vec<_> = places.iter().zip(prefixes).map(line).collect();
        let started = std::time::Instant::now();
        let drawn = draw(&columns(&[0, 1, 2, 0, 1, 2, 0, 1, 2, 3]), &lines, &wide(80));
        let took = started.elapsed();
        assert_eq!(drawn.lines().count(), 2001);
        // About 20 ms when optimised, half of it comfy-table's; this catches what grows faster.
        assert!(took.as_secs() < 5, "{took:?}");
    }

    proptest! {
        #[test]
        fn no_line_is_too_wide_and_none_is_lost(
            names in proptest::collection::vec(any::<(i16, String, Vec<u8>)>(), 0..6),
            order in Just(vec![0usize, 1, 2, 3]).prop_shuffle(),
            take in 1usize..5,
            cols in 0usize..60,
            chosen: bool,
            depth in 0usize..9,
        ) {
            let rows: Vec<_> = names
                .into_iter()
                .map(|(pid, user, command)| TestRow { pid: pid.into(), user: user.into(), command })
                .collect();
            let lines: Vec<_> =
                rows.iter().map(|row| TableLine { row, prefix: "│  ".repeat(depth), mark: Mark::None }).collect();
            let columns = columns(&order[..take]);
            for width in [None, Some(cols)] {
                let style = TableStyle { chosen, width, ..wide(0) };
                let drawn = draw(&columns, &lines, &style);
                prop_assert_eq!(drawn.matches('\n').count(), rows.len() + 1);
                for line in drawn.lines() {
                    prop_assert!(text::width(line) <= width.unwrap_or(usize::MAX));
                    prop_assert!(!line.ends_with(' '));
                }
                let colored = draw(&columns, &lines, &TableStyle { color: true, ..style });
                let codes = ["\x1b[1m", "\x1b[31m", "\x1b[0m"];
                let bare = codes.iter().fold(colored, |text, code| text.replace(code, ""));
                prop_assert_eq!(bare, drawn);
            }
        }
    }
}
