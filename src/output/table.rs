//! Rows and columns to lines of text. `layout` chooses the columns that fit and cuts cells; comfy-table
//! lays them out (widths, alignment, gaps), and its lines are printed. The only file that knows
//! comfy-table. Nothing here prints.
//!
//! Two things are kept from comfy-table. Colours: its cell styling needs crossterm, which writes 256-colour
//! codes and obeys `NO_COLOR` behind our back; escape codes in cells need its `custom_styling`, 15 more
//! crates that parse every cell for codes at each of three measurements (20,000 rows: 144 ms in place of
//! 76). So a cell carries its meaning as a character of width 0, which becomes the code in the finished
//! line. And whatever the last column has beyond [`APPENDED`] columns: every row would be padded to it.

use std::collections::HashMap;

use comfy_table::{
    Cell, CellAlignment, ColumnConstraint, ContentArrangement, Row, Table, Width, presets,
};

use super::column::{Align, Column};
use super::layout::{ColumnLayout, GAP, LaidCell, fit};
use super::select::Selection;
use super::style::{Emphasis, Style, TableOptions};
use crate::model::signal::Signal;

/// Columns of the margin: a sign and a space.
const MARGIN: usize = 2;

/// Columns of a cell beyond which it is cut, terminal or not: comfy-table counts in 16 bits, and breaks
/// longer cells, so that one process would take two lines. No name that the kernel gives comes near: a
/// path has 4095 bytes, each at most four columns wide when escaped.
const CELL_LIMIT: usize = 32_768;

/// Columns of the last column that comfy-table lays out; a longer text (in a pipe a command line has
/// megabytes) is appended to the line.
const APPENDED: usize = 1024;

/// Characters that stand for the beginning of a colour until a line is laid out. Like the two below they
/// take no column, and are escaped in every text that is shown.
const COLORS: [(&str, Emphasis); 7] = [
    ("\u{2061}", Emphasis::Good),
    ("\u{2062}", Emphasis::Warning),
    ("\u{2063}", Emphasis::Bad),
    ("\u{2064}", Emphasis::Alarm),
    ("\u{2066}", Emphasis::Dim),
    ("\u{2067}", Emphasis::Changed),
    ("\u{2068}", Emphasis::Heading),
];

/// The end of a colour.
const RESET: &str = "\u{2060}";

/// The place of the rest of a text longer than [`APPENDED`].
const REST: &str = "\u{2069}";

/// A row with the lines of the tree before its flexible column.
#[derive(Debug)]
pub struct TableLine<'a, R> {
    /// The row.
    pub row: &'a R,
    /// Lines of the tree; empty without one.
    pub prefix: String,
    /// Difference from the last refresh.
    pub mark: Mark,
}

/// Difference of a row from the last refresh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// None.
    #[default]
    None,
    /// The row is new.
    Added,
    /// The row is gone, and is shown a last time.
    Removed,
    /// These columns have changed, by name.
    Changed(Vec<&'static str>),
}

impl Mark {
    /// Returns the sign in the margin.
    fn sign(&self) -> (&'static str, Emphasis) {
        match self {
            Self::None => (" ", Emphasis::None),
            Self::Added => ("+", Emphasis::Good),
            Self::Removed => ("-", Emphasis::Bad),
            Self::Changed(_) => ("*", Emphasis::Changed),
        }
    }

    /// Returns the emphasis of a cell of the row, given the one it has without a mark.
    fn emphasis(&self, column: &str, unmarked: Emphasis) -> Emphasis {
        match self {
            Self::Removed => Emphasis::Dim,
            Self::Changed(columns) if columns.contains(&column) => Emphasis::Changed,
            _ => unmarked,
        }
    }
}

impl<'a, R> TableLine<'a, R> {
    /// Makes a row outside any tree.
    pub fn flat(row: &'a R) -> Self {
        Self { row, prefix: String::new(), mark: Mark::None }
    }
}

/// A drawn table.
#[derive(Debug)]
pub struct Drawing {
    /// Its lines, each ended by a newline.
    pub text: String,
    /// Names of the columns left out for want of room.
    pub omitted: Vec<&'static str>,
}

/// Widths of the columns in earlier drawings, by name: no column becomes narrower, so that nothing moves
/// without need.
pub type ColumnWidths = HashMap<&'static str, usize>;

/// Draws rows as a table: no borders, two spaces between columns, none at the end of a line. No line is
/// wider than the terminal; columns are dropped and cells cut as [`fit`] says.
pub fn draw<R>(
    selection: &Selection<R>,
    rows: &[TableLine<'_, R>],
    style: &Style,
    options: &TableOptions,
) -> String {
    draw_again(selection, rows, style, options, &mut ColumnWidths::new()).text
}

/// Draws a table that was drawn before.
pub fn draw_again<R>(
    selection: &Selection<R>,
    rows: &[TableLine<'_, R>],
    style: &Style,
    options: &TableOptions,
    widths: &mut ColumnWidths,
) -> Drawing {
    let flexible = selection.columns.iter().position(|column| column.flexible);
    let mut layouts: Vec<ColumnLayout> = Vec::with_capacity(selection.columns.len());
    for (index, column) in selection.columns.iter().enumerate() {
        let mut layout = measure(column, flexible == Some(index), rows, style, options);
        let widest = widths.entry(column.name).or_default();
        *widest = layout.width.max(*widest);
        layout.width = *widest;
        layouts.push(layout);
    }
    let omitted = style.width.map_or_else(Vec::new, |width| {
        let room = width.saturating_sub(if options.margin { MARGIN } else { 0 });
        fit(&mut layouts, room, selection.exact, style.ellipsis())
    });
    cut_to_limits(&mut layouts, style.ellipsis());
    if options.margin {
        layouts.insert(0, margin(rows, style, options));
    }
    let count = rows.len() + usize::from(options.header);
    Drawing { text: print(&lay_out(&layouts, options.header), &layouts, count), omitted }
}

/// Makes the cells of a column and measures them.
fn measure<R>(
    column: &Column<R>,
    flexible: bool,
    rows: &[TableLine<'_, R>],
    style: &Style,
    options: &TableOptions,
) -> ColumnLayout {
    let colored = |emphasis| if style.color { emphasis } else { Emphasis::None };
    let mut cells = Vec::with_capacity(rows.len() + 1);
    if options.header {
        let signal = options.signal.map_or_else(|| "STOP".into(), Signal::name);
        let header = column.header.to_uppercase().replace('@', &signal);
        cells.push(LaidCell::new(String::new(), header, colored(Emphasis::Heading)));
    }
    cells.extend(rows.iter().map(|line| {
        let prefix = if flexible { line.prefix.clone() } else { String::new() };
        let unmarked = column.emphasis.map_or(Emphasis::None, |emphasis| emphasis(line.row));
        let emphasis = colored(line.mark.emphasis(column.name, unmarked));
        LaidCell::new(prefix, (column.value)(line.row).to_text(options), emphasis)
    }));
    let width = cells.iter().map(|cell| cell.width).max().unwrap_or(0);
    let &Column { name, align, priority, wide, .. } = column;
    ColumnLayout { name, cells, width, gap: GAP, align, priority, flexible, wide }
}

/// Makes the margin: the sign of each row's mark.
fn margin<R>(rows: &[TableLine<'_, R>], style: &Style, options: &TableOptions) -> ColumnLayout {
    let header = Some((" ", Emphasis::None)).filter(|_| options.header);
    let signs = header.into_iter().chain(rows.iter().map(|line| line.mark.sign()));
    let cells = signs.map(|(sign, emphasis)| {
        let emphasis = if style.color { emphasis } else { Emphasis::None };
        LaidCell::new(String::new(), sign.into(), emphasis)
    });
    ColumnLayout {
        name: "",
        cells: cells.collect(),
        width: MARGIN - 1,
        gap: 1,
        align: Align::Left,
        priority: u8::MAX,
        flexible: false,
        wide: false,
    }
}

/// Cuts cells to the limits of comfy-table; the last column keeps the rest of its texts for later.
fn cut_to_limits(layouts: &mut [ColumnLayout], ellipsis: &str) {
    let last = layouts.len().saturating_sub(1);
    for (index, layout) in layouts.iter_mut().enumerate() {
        if index == last && layout.align == Align::Left && layout.width > APPENDED {
            layout.width = APPENDED;
            layout.cells.iter_mut().for_each(|cell| cell.split_off(APPENDED));
        } else if layout.width > CELL_LIMIT {
            layout.width = CELL_LIMIT;
            layout.cells.iter_mut().for_each(|cell| cell.cut(CELL_LIMIT, ellipsis));
        }
    }
}

/// Hands the cells to comfy-table, with the width, gap and alignment of each column.
fn lay_out(layouts: &[ColumnLayout], header: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let count = layouts.first().map_or(0, |layout| layout.cells.len());
    let mut rows = (0..count).map(|line| {
        Row::from(layouts.iter().map(|layout| cell(&layout.cells[line])).collect::<Vec<_>>())
    });
    if header && let Some(first) = rows.next() {
        table.set_header(first);
    }
    table.add_rows(rows);
    let columns = |count| u16::try_from(count).unwrap_or(u16::MAX);
    for (column, layout) in table.column_iter_mut().zip(layouts) {
        // An absolute width is that of the text and the padding together.
        let width = Width::Fixed(columns(layout.width + layout.gap));
        column.set_padding((0, columns(layout.gap)));
        column.set_constraint(ColumnConstraint::Absolute(width));
        column.set_cell_alignment(match layout.align {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        });
    }
    table
}

/// Makes a cell: the text between the characters that stand for its colour.
fn cell(LaidCell { prefix, text, tail, emphasis, .. }: &LaidCell) -> Cell {
    let rest = if tail.is_empty() { "" } else { REST };
    match COLORS.iter().find(|(_, meaning)| meaning == emphasis).filter(|_| !text.is_empty()) {
        Some((color, _)) => Cell::new([prefix, *color, text, rest, RESET].concat()),
        None => Cell::new([prefix, text, rest].concat()),
    }
}

/// Returns comfy-table's lines, with colours, the rest of long texts, and no spaces at their ends.
fn print(table: &Table, layouts: &[ColumnLayout], count: usize) -> String {
    let mut lines = table.lines();
    let mut out = String::new();
    for index in 0..count {
        // (A table without columns has no lines.)
        let mut line = lines.next().unwrap_or_default();
        if let Some(tail) = layouts.last().map(|layout| &layout.cells[index].tail)
            && !tail.is_empty()
        {
            line = line.replacen(REST, tail, 1);
        }
        if line.contains(RESET) {
            for (color, emphasis) in COLORS {
                line = line.replace(color, &format!("\x1b[{}m", emphasis.code()));
            }
            line = line.replace(RESET, "\x1b[0m");
        }
        out.push_str(line.trim_end_matches(' '));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::output::tree;
    use crate::output::value::Value;
    use crate::output::width::width;

    #[derive(Clone)]
    struct TestRow {
        pid: i64,
        user: Vec<u8>,
        command: Vec<u8>,
    }

    static TABLE: &[Column<TestRow>] = &[
        Column::new("pid", "pid", "the pid", |r: &TestRow| Value::Int(r.pid)).right().priority(255),
        Column::new("user", "user", "the user", |r: &TestRow| Value::Bytes(r.user.clone()))
            .priority(50),
        Column::new("state", "s", "the state", |_| Value::Char('S'))
            .emphasis(|r| if r.pid == 1 { Emphasis::Bad } else { Emphasis::None }),
        Column::new("command", "command", "the command", |r: &TestRow| {
            Value::Bytes(r.command.clone())
        })
        .flexible(),
    ];

    fn row(pid: i64, user: &str, command: &str) -> TestRow {
        TestRow { pid, user: user.into(), command: command.into() }
    }

    fn columns(order: &[usize]) -> Selection<TestRow> {
        let columns = order.iter().map(|index| TABLE[*index]).collect();
        Selection { columns, exact: false }
    }

    fn at_width(width: usize) -> Style {
        Style { width: Some(width), unicode: true, color: false }
    }

    /// A pipe.
    const PIPE: Style = Style { width: None, unicode: false, color: false };

    fn header() -> TableOptions {
        TableOptions { header: true, ..TableOptions::default() }
    }

    fn sample() -> Vec<TestRow> {
        vec![
            row(1, "root", "nginx: master process /usr/sbin/nginx -g daemon off;"),
            row(1234, "größe", "a\nb"),
        ]
    }

    fn draw_sample(order: &[usize], style: &Style) -> String {
        draw_all(&columns(order), &sample(), style)
    }

    fn draw_all(selection: &Selection<TestRow>, rows: &[TestRow], style: &Style) -> String {
        let lines: Vec<_> = rows.iter().map(TableLine::flat).collect();
        draw(selection, &lines, style, &header())
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
        assert_eq!(draw_sample(&[0, 1, 2, 3], &PIPE), lines(&expected));
        let (selection, rows) = (columns(&[0, 1, 2, 3]), sample());
        let rows: Vec<_> = rows.iter().map(TableLine::flat).collect();
        let bare = draw(&selection, &rows, &PIPE, &TableOptions::default());
        assert_eq!(bare, lines(&expected[1..]));
    }

    #[test]
    fn the_lines_are_those_of_comfy_table() {
        let (selection, rows) = (columns(&[0, 1, 2, 3]), sample());
        let mut layouts: Vec<ColumnLayout> = Vec::new();
        for column in &selection.columns {
            let rows: Vec<_> = rows.iter().map(TableLine::flat).collect();
            layouts.push(measure(column, column.flexible, &rows, &PIPE, &header()));
        }
        let mut table = lay_out(&layouts, true);
        let printed = print(&table, &layouts, 3);
        assert_eq!(printed, draw_sample(&[0, 1, 2, 3], &PIPE));
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, 5)).remove_constraint();
            column.set_cell_alignment(CellAlignment::Right);
        });
        let spaced = print(&table, &layouts, 3);
        assert!(spaced.starts_with(" PID      USER     S"), "{spaced}");
        table.column_iter_mut().for_each(|column| {
            column.set_constraint(ColumnConstraint::Hidden);
        });
        assert_eq!(print(&table, &layouts, 3), "\n\n\n");
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
        assert_eq!(draw_sample(&[0, 1, 2, 3], &at_width(42)), lines(&all));
        assert_eq!(draw_sample(&[0, 1, 2, 3], &at_width(35)), lines(&no_user));
        let ascii = Style { unicode: false, ..at_width(12) };
        assert_eq!(draw_sample(&[0, 1, 2, 3], &ascii), lines(&pid_alone));
    }

    #[test]
    fn selected_columns_are_cut_at_the_edge_instead_of_dropped() {
        let exact = |order| Selection { exact: true, ..columns(order) };
        let drawn = draw_all(&exact(&[0, 1, 2]), &sample(), &at_width(10));
        assert_eq!(drawn, lines(&[" PID  USER", "   1  root", "1234  grö…"]));
        assert_eq!(draw_sample(&[1, 0], &at_width(3)), lines(&["PID", "  1", "12…"]));
        assert_eq!(draw_sample(&[0, 3], &at_width(0)), lines(&["", "", ""]));
        // The flexible column may stand anywhere, or alone.
        let middle = ["COMM…   PID  S", "ngin…     1  S", r"a\nb   1234  S"];
        assert_eq!(draw_all(&exact(&[3, 0, 2]), &sample(), &at_width(14)), lines(&middle));
        let alone = ["COMMAND", "nginx: master…", r"a\nb"];
        assert_eq!(draw_all(&exact(&[3]), &sample(), &at_width(14)), lines(&alone));
        assert_eq!(draw_sample(&[], &PIPE), lines(&["", "", ""]));
    }

    #[test]
    fn wide_columns_come_together_where_half_of_the_command_fits() {
        let mut selection = columns(&[0, 1, 2, 3]);
        selection.columns[1].wide = true;
        selection.columns[2].wide = true;
        let drawn = |width| draw_all(&selection, &sample(), &at_width(width));
        // 52 columns of command, and 16 before it.
        assert!(drawn(42).starts_with(" PID  USER   S  COMMAND\n"), "{}", drawn(42));
        assert!(drawn(41).starts_with(" PID  COMMAND\n"), "{}", drawn(41));
        assert!(drawn(41).contains("nginx: master process /usr/sbin/ng…"));
        let mut widths = ColumnWidths::new();
        let rows = sample();
        let rows: Vec<_> = rows.iter().map(TableLine::flat).collect();
        let drawing = draw_again(&selection, &rows, &at_width(41), &header(), &mut widths);
        assert_eq!(drawing.omitted, ["user", "state"]);
        // The need of the command is remembered: columns do not come and go at each refresh.
        let again = draw_again(&selection, &rows[1..], &at_width(41), &header(), &mut widths);
        assert_eq!(again.omitted, ["user", "state"]);
    }

    #[test]
    fn colour_is_around_the_text_only() {
        let style = Style { color: true, ..PIPE };
        let drawn = draw_sample(&[0, 2], &style);
        assert_eq!(drawn, " \x1b[1mPID\x1b[0m  \x1b[1mS\x1b[0m\n   1  \x1b[31mS\x1b[0m\n1234  S\n");
    }

    #[test]
    fn the_tree_leaves_the_command_half_of_the_room() {
        let rows = [row(1, "", "init"), row(2, "", "sshd -D"), row(3, "", "bash with arguments")];
        let rows_in_tree: Vec<_> = rows
            .iter()
            .zip(["", "└─ ", "   └─ "])
            .map(|(row, prefix)| TableLine { row, prefix: prefix.into(), mark: Mark::None })
            .collect();
        let drawn = |style: &Style| draw(&columns(&[0, 3]), &rows_in_tree, style, &header());
        let whole =
            ["PID  COMMAND", "  1  init", "  2  └─ sshd -D", "  3     └─ bash with arguments"];
        assert_eq!(drawn(&PIPE), lines(&whole));
        let narrow = ["PID  COMMAND", "  1  init", "  2  └─ ssh…", "  3    …bas…"];
        assert_eq!(drawn(&at_width(12)), lines(&narrow));
    }

    #[test]
    fn a_text_longer_than_16_bits_is_one_line() {
        let rows = [row(1, &"x".repeat(100_000), &"y ".repeat(100_000)), row(2, "a", "b")];
        let drawn = draw_all(&columns(&[3, 1, 0]), &rows, &PIPE);
        assert_eq!(drawn.lines().count(), 3);
        assert!(drawn.lines().nth(1).unwrap().ends_with("x+    1"));
        for color in [false, true] {
            let drawn = draw_all(&columns(&[0, 3]), &rows, &Style { color, ..PIPE });
            let line = drawn.lines().nth(1).unwrap();
            assert_eq!(line.len(), 5 + 200_000 - 1);
            assert!(line.ends_with("y y"));
        }
    }

    #[test]
    fn characters_that_stand_for_colours_take_no_column_and_are_never_shown() {
        for marker in COLORS.iter().map(|(color, _)| *color).chain([RESET, REST]) {
            assert_eq!(width(marker), 0);
            assert!(marker.chars().all(crate::output::escape::unprintable));
        }
    }

    /// Prints the time that 20,000 rows take, and comfy-table's share: `benches/tables`.
    #[test]
    #[ignore = "a measurement: benches/tables"]
    fn time_of_20000_rows() {
        let rows: Vec<_> =
            (0..20_000).map(|pid| row(pid, "www-data", &"word ".repeat(12))).collect();
        let parents: Vec<_> = (0..rows.len()).map(|i| (i > 0).then_some(i / 3)).collect();
        let places = tree::order(&parents, |a, b| a.cmp(&b));
        let prefixes = tree::prefixes(&places, true);
        let line = |(place, prefix): (&tree::TreePosition, String)| TableLine {
            row: &rows[place.index],
            prefix,
            mark: Mark::None,
        };
        let lines: Vec<_> = places.iter().zip(prefixes).map(line).collect();
        let selection = columns(&[0, 1, 2, 0, 1, 2, 0, 1, 2, 3]);
        for (name, style) in [("80 columns", at_width(80)), ("a pipe", PIPE)] {
            for color in [false, true] {
                let style = Style { color, ..style };
                let started = std::time::Instant::now();
                let drawn = draw(&selection, &lines, &style, &header());
                println!("{name}, colour {color}: {:?}", started.elapsed());
                assert_eq!(drawn.lines().count(), 20_001);
            }
        }
    }

    proptest! {
        #[test]
        fn no_line_is_too_wide_and_none_is_lost(
            names in proptest::collection::vec(any::<(i16, String, Vec<u8>)>(), 0..6),
            order in Just(vec![0usize, 1, 2, 3]).prop_shuffle(),
            take in 1usize..5,
            cols in 0usize..60,
            exact: bool,
            depth in 0usize..9,
        ) {
            let rows: Vec<_> = names
                .into_iter()
                .map(|(pid, user, command)| TestRow { pid: pid.into(), user: user.into(), command })
                .collect();
            let line = |row| TableLine { row, prefix: "│  ".repeat(depth), mark: Mark::None };
            let lines: Vec<_> = rows.iter().map(line).collect();
            let selection = Selection { exact, ..columns(&order[..take]) };
            for columns in [None, Some(cols)] {
                let style = Style { width: columns, ..at_width(0) };
                let drawn = draw(&selection, &lines, &style, &header());
                prop_assert_eq!(drawn.matches('\n').count(), rows.len() + 1);
                for line in drawn.lines() {
                    prop_assert!(width(line) <= columns.unwrap_or(usize::MAX));
                    prop_assert!(!line.ends_with(' '));
                }
                let colored = draw(&selection, &lines, &Style { color: true, ..style }, &header());
                let codes = ["\x1b[1m", "\x1b[31m", "\x1b[0m"];
                let bare = codes.iter().fold(colored, |text, code| text.replace(code, ""));
                prop_assert_eq!(bare, drawn);
            }
        }
    }
}
