//! Rows and columns to lines of text. `layout` chooses the columns that fit and cuts their cells;
//! comfy-table lays all of them out (widths, alignment, gaps, header), and its lines are printed. The
//! only file that knows comfy-table. Nothing here prints.
//!
//! Two things comfy-table does not do. Colours: its cell styles come from crossterm, which writes
//! 256-colour codes and obeys `NO_COLOR` even where `--color always` was asked for; codes within cells
//! need its feature `custom_styling`, 15 crates more, and twice the time. So a cell carries its colour as
//! a character of width 0, which becomes the code in the finished line. And the rest of a text beyond
//! [`APPENDED`] columns in the last column, as it would pad every row to that length.
//!
//! Time (`benches/tables`): 20,000 rows of ten columns take 155 ms, 115 of them in comfy-table. It splits,
//! copies and boxes each cell when it is added, measures it three times though all widths are given, and
//! pads it in a string of its own: half of the time is the allocator's. So several threads make the cells of
//! a part of the rows each, and lay them out.

mod layout;

use std::collections::HashMap;
use std::ops::Range;

use comfy_table::{
    Cell, CellAlignment, ColumnConstraint, ContentArrangement, Row, Table, Width, presets,
};

use self::layout::{ColumnLayout, GAP, LaidCell, fit};
use super::column::{Align, Column};
use super::select::Selection;
use super::style::{Emphasis, Style, TableOptions};
use crate::model::signal::Signal;
use crate::sys::parallel;

/// Columns of the margin: a sign and a space.
const MARGIN: usize = 2;

/// Columns of a cell beyond which it is cut, terminal or not: comfy-table counts in 16 bits, and breaks
/// longer cells, so that one process would take two lines. No name that the kernel gives comes near: a
/// path has 4095 bytes, each at most four columns wide when escaped.
const CELL_LIMIT: usize = 32_768;

/// Columns of the last column that comfy-table lays out; a longer text (in a pipe a command line has
/// megabytes) is appended to the line.
const APPENDED: usize = 1024;

/// Lines that are laid out at once, by one of several threads.
const PART: usize = 256;

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
pub fn draw<R: Sync>(
    selection: &Selection<R>,
    rows: &[TableLine<'_, R>],
    style: &Style,
    options: &TableOptions,
) -> String {
    draw_again(selection, rows, style, options, &mut ColumnWidths::new()).text
}

/// Draws a table that was drawn before.
pub fn draw_again<R: Sync>(
    selection: &Selection<R>,
    rows: &[TableLine<'_, R>],
    style: &Style,
    options: &TableOptions,
    widths: &mut ColumnWidths,
) -> Drawing {
    let mut layouts = measure_all(selection, rows, style, options);
    for layout in &mut layouts {
        let widest = widths.entry(layout.name).or_default();
        *widest = layout.width.max(*widest);
        layout.width = *widest;
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
    Drawing { text: print_all(&layouts, count, options.header), omitted }
}

/// Returns the lines of the table. Several threads lay out a part each: the widths are known.
fn print_all(layouts: &[ColumnLayout], count: usize, header: bool) -> String {
    let parts = count.div_ceil(PART);
    let texts = parallel::map(parts, threads(parts), |part| {
        let lines = part * PART..count.min((part + 1) * PART);
        let table = lay_out(layouts, lines.clone(), header && part == 0);
        print(&table, layouts, lines)
    });
    texts.concat()
}

/// Makes the cells of all columns and measures them. Several threads make those of a part of the rows each.
fn measure_all<R: Sync>(
    selection: &Selection<R>,
    rows: &[TableLine<'_, R>],
    style: &Style,
    options: &TableOptions,
) -> Vec<ColumnLayout> {
    let flexible = selection.columns.iter().position(|column| column.flexible);
    let columns = || selection.columns.iter().enumerate().map(|(i, c)| (c, flexible == Some(i)));
    let parts: Vec<&[TableLine<'_, R>]> = rows.chunks(PART).collect();
    let parts = parallel::map(parts.len(), threads(parts.len()), |part| {
        let make = |(column, flexible)| cells(column, flexible, parts[part], style, options);
        columns().map(make).collect::<Vec<_>>()
    });
    let header = |(column, flexible)| header(column, flexible, rows.len(), style, options);
    let mut layouts: Vec<ColumnLayout> = columns().map(header).collect();
    for part in parts {
        layouts.iter_mut().zip(part).for_each(|(layout, cells)| layout.add(cells));
    }
    layouts
}

/// Returns how many threads are worth their start for so many parts.
fn threads(parts: usize) -> usize {
    if parts > 1 { parallel::cpus() } else { 1 }
}

/// Makes a column without rows, with the cell of its header, if there is one.
fn header<R>(
    column: &Column<R>,
    flexible: bool,
    rows: usize,
    style: &Style,
    options: &TableOptions,
) -> ColumnLayout {
    let &Column { name, align, priority, wide, .. } = column;
    let cells = Vec::with_capacity(rows + 1);
    let mut layout =
        ColumnLayout { name, cells, width: 0, gap: GAP, align, priority, flexible, wide };
    if options.header {
        let signal = options.signal.map_or_else(|| "STOP".into(), Signal::name);
        let text = column.header.to_uppercase().replace('@', &signal);
        let emphasis = if style.color { Emphasis::Heading } else { Emphasis::None };
        layout.add(vec![LaidCell::new(String::new(), text, emphasis)]);
    }
    layout
}

/// Makes the cells of a column for some rows.
fn cells<R>(
    column: &Column<R>,
    flexible: bool,
    rows: &[TableLine<'_, R>],
    style: &Style,
    options: &TableOptions,
) -> Vec<LaidCell> {
    let cell = |line: &TableLine<'_, R>| {
        let prefix = if flexible { line.prefix.clone() } else { String::new() };
        let unmarked = column.emphasis.map_or(Emphasis::None, |emphasis| emphasis(line.row));
        let marked = line.mark.emphasis(column.name, unmarked);
        let emphasis = if style.color { marked } else { Emphasis::None };
        LaidCell::new(prefix, (column.value)(line.row).to_text(options), emphasis)
    };
    rows.iter().map(cell).collect()
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
fn lay_out(layouts: &[ColumnLayout], lines: Range<usize>, header: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let mut rows = lines.filter(|_| !layouts.is_empty()).map(|line| {
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
fn cell(cell: &LaidCell) -> Cell {
    let (prefix, text) = (cell.prefix(), &*cell.text);
    let end = if cell.tail().is_empty() { "" } else { REST };
    let color = COLORS.iter().find(|(_, meaning)| *meaning == cell.emphasis);
    match color.filter(|_| !text.is_empty()) {
        Some((color, _)) => Cell::new_owned([prefix, color, text, end, RESET].concat()),
        None => Cell::new_owned([prefix, text, end].concat()),
    }
}

/// Returns comfy-table's lines, with colours, the rest of long texts, and no spaces at their ends.
fn print(table: &Table, layouts: &[ColumnLayout], indices: Range<usize>) -> String {
    let mut lines = table.lines();
    let mut out = String::new();
    for index in indices {
        // (A table without columns has no lines.)
        let mut line = lines.next().unwrap_or_default();
        if let Some(tail) = layouts.last().map(|layout| layout.cells[index].tail())
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
mod tests;
