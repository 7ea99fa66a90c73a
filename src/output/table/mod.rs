//! Rows and columns to lines of text. `layout` chooses the columns that fit and cuts their cells;
//! comfy-table lays all of them out (widths, alignment, gaps, header), and its lines are printed. The
//! only file that uses comfy-table. Nothing here prints.
//!
//! Two things comfy-table does not do. Colours: its cell styles come from crossterm, which writes
//! 256-colour codes and obeys `NO_COLOR` even where `--color always` was asked for; codes within cells
//! need its feature `custom_styling`, 15 crates more, and twice the time. So a cell carries its colour as
//! a character of width 0, which becomes the code in the finished line. And the rest of a text beyond
//! [`APPENDED`] columns in the last column, as it would pad every row to that length.
//!
//! Time (`benches/tables`): comfy-table splits, copies and boxes each cell when it is added, measures it three
//! times though all widths are given, and pads it in a string of its own. So several threads make the cells of
//! a part of the rows each, and lay them out; and each column of a part is one cell of as many lines.

mod layout;

use std::collections::HashMap;

use comfy_table::{
    Cell, CellAlignment, ColumnConstraint, ContentArrangement, Row, Table, Width, presets,
};

use self::layout::{CellTexts, ColumnLayout, GAP, LaidCell, ShownCell, fit};
use super::column::{Align, Column};
use super::select::Selection;
use super::style::{Emphasis, Style, TableOptions};
use super::width::width;
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

/// Characters that mark the beginning of a colour until a line is laid out. Like the two below they
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
    /// Names of the columns left out for lack of room.
    pub omitted: Vec<&'static str>,
}

/// Some rows of a table, which a thread lays out.
struct TablePart {
    /// Whether the header is before them.
    header: bool,
    rows: usize,
    /// The cells of each column.
    columns: Vec<CellTexts>,
}

impl TablePart {
    fn lines(&self) -> usize {
        self.rows + usize::from(self.header)
    }

    /// Iterates over the cells of a column.
    fn cells<'a>(&'a self, layout: &'a ColumnLayout) -> impl Iterator<Item = LaidCell<'a>> {
        let header = layout.header_cell().filter(|_| self.header);
        header.into_iter().chain(self.columns[layout.index].iter())
    }
}

/// Widths of the columns in earlier drawings, by name: no column becomes narrower, so that nothing moves
/// without need.
pub type ColumnWidths = HashMap<&'static str, usize>;

/// Draws rows as a table: no borders, two spaces between columns, none at the end of a line. No line is
/// wider than the terminal; columns are dropped and cells cut by [`fit`].
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
    let (mut layouts, parts) = measure_all(selection, rows, style, options);
    for layout in &mut layouts {
        let widest = widths.entry(layout.name).or_default();
        *widest = layout.width.max(*widest);
        layout.width = *widest;
    }
    let omitted = style.width.map_or_else(Vec::new, |width| {
        let room = width.saturating_sub(if options.margin { MARGIN } else { 0 });
        fit(&mut layouts, room, selection.exact)
    });
    cut_to_limits(&mut layouts);
    if options.margin {
        layouts.insert(0, margin(options));
    }
    Drawing { text: print_all(&layouts, &parts, style), omitted }
}

/// Returns the lines of the table. Several threads lay out a part each: the widths are known.
fn print_all(layouts: &[ColumnLayout], parts: &[TablePart], style: &Style) -> String {
    let texts = parallel::map(parts.len(), threads(parts.len()), |part| {
        print(&lay_out(layouts, &parts[part], style), layouts, &parts[part], style)
    });
    texts.concat()
}

/// Makes the cells of all columns, and the layouts of those without the margin. Several threads make the cells
/// of a part of the rows each.
fn measure_all<R: Sync>(
    selection: &Selection<R>,
    rows: &[TableLine<'_, R>],
    style: &Style,
    options: &TableOptions,
) -> (Vec<ColumnLayout>, Vec<TablePart>) {
    let flexible = selection.columns.iter().position(|column| column.flexible);
    let columns = || selection.columns.iter().enumerate().map(|(i, c)| (c, flexible == Some(i)));
    // (A table without rows has its header.)
    let chunks: Vec<_> = if rows.is_empty() { vec![rows] } else { rows.chunks(PART).collect() };
    let parts = parallel::map(chunks.len(), threads(chunks.len()), |part| {
        let rows = chunks[part];
        let margin = options.margin.then(|| signs(rows, style));
        let make = |(column, flexible)| cells(column, flexible, rows, style, options);
        let columns = margin.into_iter().chain(columns().map(make)).collect();
        TablePart { header: options.header && part == 0, rows: rows.len(), columns }
    });
    let layout = |(index, (column, flexible))| {
        let index = index + usize::from(options.margin);
        let mut layout = layout(column, index, flexible, style, options);
        parts.iter().for_each(|part| layout.widen(&part.columns[index]));
        layout
    };
    let layouts = columns().enumerate().map(layout).collect();
    (layouts, parts)
}

/// Returns the number of threads for so many parts.
fn threads(parts: usize) -> usize {
    if parts > 1 { parallel::cpus() } else { 1 }
}

/// Makes the layout of a column that is as wide as its header.
fn layout<R>(
    column: &Column<R>,
    index: usize,
    flexible: bool,
    style: &Style,
    options: &TableOptions,
) -> ColumnLayout {
    let &Column { name, align, priority, wide, .. } = column;
    let signal = || options.signal.map_or_else(|| "STOP".into(), Signal::name);
    let header = options.header.then(|| column.header.to_uppercase().replace('@', &signal()));
    ColumnLayout {
        name,
        index,
        width: header.as_deref().map_or(0, width),
        header,
        header_emphasis: if style.color { Emphasis::Heading } else { Emphasis::None },
        gap: GAP,
        align,
        priority,
        flexible,
        wide,
        appends: false,
    }
}

/// Makes the cells of a column for some rows.
fn cells<R>(
    column: &Column<R>,
    flexible: bool,
    rows: &[TableLine<'_, R>],
    style: &Style,
    options: &TableOptions,
) -> CellTexts {
    let mut cells = CellTexts::with_capacity(rows.len());
    for line in rows {
        let prefix = if flexible { &*line.prefix } else { "" };
        let unmarked = column.emphasis.map_or(Emphasis::None, |emphasis| emphasis(line.row));
        let marked = line.mark.emphasis(column.name, unmarked);
        let emphasis = if style.color { marked } else { Emphasis::None };
        cells.push(prefix, &(column.value)(line.row).to_text(options), emphasis);
    }
    cells
}

/// Makes the cells of the margin: the sign of each row's mark.
fn signs<R>(rows: &[TableLine<'_, R>], style: &Style) -> CellTexts {
    let mut cells = CellTexts::with_capacity(rows.len());
    for line in rows {
        let (sign, emphasis) = line.mark.sign();
        cells.push("", sign, if style.color { emphasis } else { Emphasis::None });
    }
    cells
}

/// Makes the layout of the margin.
fn margin(options: &TableOptions) -> ColumnLayout {
    ColumnLayout {
        name: "",
        index: 0,
        header: options.header.then(|| " ".into()),
        header_emphasis: Emphasis::None,
        width: MARGIN - 1,
        gap: 1,
        align: Align::Left,
        priority: u8::MAX,
        flexible: false,
        wide: false,
        appends: false,
    }
}

/// Cuts columns to the limits of comfy-table; the last one keeps the rest of its texts for later.
fn cut_to_limits(layouts: &mut [ColumnLayout]) {
    let last = layouts.len().saturating_sub(1);
    for (index, layout) in layouts.iter_mut().enumerate() {
        if index == last && layout.align == Align::Left && layout.width > APPENDED {
            (layout.width, layout.appends) = (APPENDED, true);
        } else if layout.width > CELL_LIMIT {
            layout.width = CELL_LIMIT;
        }
    }
}

/// Hands the cells to comfy-table, with the width, gap and alignment of each column: as one row, whose cells
/// have a line for each row of the table.
fn lay_out(layouts: &[ColumnLayout], part: &TablePart, style: &Style) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if layouts.is_empty() || part.lines() == 0 {
        return table;
    }
    let columns = layouts.iter().map(|layout| {
        let mut content = String::new();
        for (index, cell) in part.cells(layout).enumerate() {
            if index > 0 {
                content.push('\n');
            }
            push_cell(&mut content, &layout.show(cell, style.ellipsis()));
        }
        Cell::new_owned(content)
    });
    table.add_row(Row::from(columns.collect::<Vec<_>>()));
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

/// Appends a cell: the text between the characters that mark its colour.
fn push_cell(content: &mut String, cell: &ShownCell<'_>) {
    let color = COLORS.iter().find(|(_, meaning)| *meaning == cell.emphasis);
    let color = color.filter(|_| !cell.text.is_empty()).map(|(color, _)| *color);
    content.push_str(&cell.prefix);
    content.push_str(color.unwrap_or_default());
    content.push_str(&cell.text);
    if !cell.tail.is_empty() {
        content.push_str(REST);
    }
    if color.is_some() {
        content.push_str(RESET);
    }
}

/// Returns comfy-table's lines, with colours, the rest of long texts, and no spaces at their ends.
fn print(table: &Table, layouts: &[ColumnLayout], part: &TablePart, style: &Style) -> String {
    let mut lines = table.lines();
    let last = layouts.last().filter(|layout| layout.appends);
    let mut appended = last.map(|layout| (layout, part.cells(layout)));
    let mut out = String::new();
    for _ in 0..part.lines() {
        // (A table without columns has no lines.)
        let mut line = lines.next().unwrap_or_default();
        if let Some((layout, cells)) = &mut appended
            && let Some(cell) = cells.next().map(|cell| layout.show(cell, style.ellipsis()))
            && !cell.tail.is_empty()
        {
            line = line.replacen(REST, cell.tail, 1);
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
