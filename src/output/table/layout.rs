//! The cells of a table, which of its columns fit on the terminal, and where cells are cut. Pure: its parent hands
//! the result to comfy-table.

use std::borrow::Cow;
use std::cmp::Reverse;

use crate::output::column::Align;
use crate::output::style::Emphasis;
use crate::output::width::{cut, split_at, width};

/// Columns that the flexible column keeps before other columns are dropped for it.
const MIN_FLEXIBLE: usize = 20;

/// Spaces between two columns.
pub const GAP: usize = 2;

/// A cell: safe text, with the lines of the tree before it, the width of both, and the meaning of the text.
#[derive(Clone, Copy, Debug)]
pub struct LaidCell<'a> {
    pub prefix: &'a str,
    pub text: &'a str,
    pub width: usize,
    pub emphasis: Emphasis,
}

/// A cell as it is shown: cut, or with the rest of a text too long to be laid out.
#[derive(Debug)]
pub struct ShownCell<'a> {
    pub prefix: Cow<'a, str>,
    pub text: Cow<'a, str>,
    pub tail: &'a str,
    pub emphasis: Emphasis,
}

/// The cells of a column for some rows. Their texts are one string: a table has very many.
#[derive(Debug, Default)]
pub struct CellTexts {
    texts: String,
    ends: Vec<CellEnd>,
}

/// The end of a cell in the texts, and its properties.
#[derive(Debug)]
struct CellEnd {
    end: usize,
    /// Bytes of the prefix.
    prefix: u32,
    width: u32,
    emphasis: Emphasis,
}

impl CellTexts {
    pub fn with_capacity(cells: usize) -> Self {
        Self { texts: String::new(), ends: Vec::with_capacity(cells) }
    }

    /// Adds a cell.
    pub fn push(&mut self, prefix: &str, text: &str, emphasis: Emphasis) {
        self.texts.push_str(prefix);
        self.texts.push_str(text);
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.ends.push(CellEnd {
            end: self.texts.len(),
            prefix: number(prefix.len()),
            width: number(width(prefix) + width(text)),
            emphasis,
        });
    }

    /// Iterates over the cells.
    pub fn iter(&self) -> impl Iterator<Item = LaidCell<'_>> {
        let mut start = 0;
        self.ends.iter().map(move |cell| {
            let both = &self.texts[start..cell.end];
            start = cell.end;
            let (prefix, text) = both.split_at(cell.prefix as usize);
            LaidCell { prefix, text, width: cell.width as usize, emphasis: cell.emphasis }
        })
    }

    fn widest(&self) -> usize {
        self.ends.iter().map(|cell| cell.width as usize).max().unwrap_or(0)
    }
}

/// A column about to be drawn.
#[derive(Debug)]
pub struct ColumnLayout {
    pub name: &'static str,
    /// Its index among those whose cells were made.
    pub index: usize,
    /// The text of its header, if the table has one.
    pub header: Option<String>,
    pub header_emphasis: Emphasis,
    /// Columns of the terminal that it takes, without the gap.
    pub width: usize,
    /// Spaces after it.
    pub gap: usize,
    pub align: Align,
    pub priority: u8,
    pub flexible: bool,
    pub wide: bool,
    /// Whether the rest of a text that is too long is appended to the line: it is not cut.
    pub appends: bool,
}

impl ColumnLayout {
    /// Returns the cell of its header.
    pub fn header_cell(&self) -> Option<LaidCell<'_>> {
        let text = self.header.as_deref()?;
        let (width, emphasis) = (width(text), self.header_emphasis);
        Some(LaidCell { prefix: "", text, width, emphasis })
    }

    /// Makes it as wide as its cells need it.
    pub fn widen(&mut self, cells: &CellTexts) {
        self.width = self.width.max(cells.widest());
    }

    fn narrow(&mut self, cols: usize) {
        self.width = self.width.min(cols);
    }

    /// Returns a cell as it is shown in this column. The prefix is cut first, down to half of the width: deep in a
    /// tree the reader looks for the process, not for the lines that lead to it.
    pub fn show<'a>(&self, cell: LaidCell<'a>, ellipsis: &str) -> ShownCell<'a> {
        let LaidCell { prefix, text, emphasis, .. } = cell;
        let cols = self.width;
        if cell.width <= cols {
            return ShownCell { prefix: prefix.into(), text: text.into(), tail: "", emphasis };
        }
        if self.appends {
            let (head, tail) = split_at(text, cols.saturating_sub(width(prefix)));
            return ShownCell { prefix: prefix.into(), text: head.into(), tail, emphasis };
        }
        let half = (cols / 2).max(cols.saturating_sub(width(text)));
        let prefix = cut(prefix, half, ellipsis);
        let text = cut(text, cols - width(&prefix), ellipsis);
        ShownCell { prefix: prefix.into(), text: text.into(), tail: "", emphasis }
    }
}

/// Drops columns until the rest fits into `width`, then gives the flexible column the remaining room.
/// Returns the names of the dropped columns, in the order of the table.
///
/// Wide columns are dropped first, all together, where they would leave the flexible one less than
/// half of the width it needs; then the column of lowest priority, of equal ones the last, until the flexible one
/// has 20 columns or its need, or is dropped itself. Columns that fit beside the rest come back. With
/// `keep_all` none is dropped. If the rest is still too wide, the line ends at the edge: the column there is
/// cut, and those beyond it are not shown. A long name does not push out the most important column beside it.
pub fn fit(layouts: &mut Vec<ColumnLayout>, width: usize, keep_all: bool) -> Vec<&'static str> {
    if !keep_all {
        make_room(layouts, width);
    }
    let mut dropped = if keep_all { Vec::new() } else { drop_columns(layouts, width) };
    dropped.sort_by_key(|(index, _)| *index);
    let remaining = width.saturating_sub(fixed(layouts.iter())).max(1);
    let mut start = 0;
    layouts.retain_mut(|layout| {
        let room = width.saturating_sub(start);
        layout.narrow(if layout.flexible { room.min(remaining) } else { room });
        start += layout.width + GAP;
        room > 0
    });
    dropped.into_iter().map(|(_, layout)| layout.name).collect()
}

/// Narrows the first column that is never dropped until the most important one beside it fits, too.
fn make_room(layouts: &mut [ColumnLayout], width: usize) {
    let others = || layouts.iter().filter(|layout| layout.priority < u8::MAX);
    let Some(most) = others().max_by_key(|layout| layout.priority).map(|layout| layout.width)
    else {
        return;
    };
    let kept = || layouts.iter().filter(|layout| layout.priority == u8::MAX);
    let needed = kept().map(|layout| layout.width + GAP).sum::<usize>() + most;
    if let Some(first) = layouts.iter_mut().find(|layout| layout.priority == u8::MAX) {
        let narrower = first.width.saturating_sub(needed.saturating_sub(width));
        first.narrow(narrower.max(MIN_FLEXIBLE));
    }
}

/// Returns the columns of the terminal that everything but the flexible column takes.
fn fixed<'a>(layouts: impl Iterator<Item = &'a ColumnLayout>) -> usize {
    let (columns, gaps) = layouts.fold((0, 0), |(columns, gaps), layout| {
        (columns + if layout.flexible { 0 } else { layout.width }, gaps + GAP)
    });
    columns + gaps.saturating_sub(GAP)
}

/// A column with its index in the table.
type Indexed = (usize, ColumnLayout);

/// Drops columns until the flexible one, if it is kept, has 20 columns or its need; returns the dropped ones.
fn drop_columns(layouts: &mut Vec<ColumnLayout>, width: usize) -> Vec<Indexed> {
    let need = layouts.iter().find(|layout| layout.flexible).map_or(0, |layout| layout.width);
    let mut kept: Vec<Indexed> = layouts.drain(..).enumerate().collect();
    let taken = |kept: &[Indexed]| {
        let flexible = kept.iter().find(|(_, layout)| layout.flexible);
        fixed(kept.iter().map(|(_, layout)| layout))
            + flexible.map_or(0, |(_, layout)| layout.width.min(MIN_FLEXIBLE))
    };

    let mut dropped = Vec::new();
    let half = need.div_ceil(2).saturating_sub(MIN_FLEXIBLE);
    if taken(&kept) + half > width {
        dropped.extend(kept.extract_if(.., |(_, layout)| layout.wide));
    }
    let mut narrow = Vec::new();
    while taken(&kept) > width {
        let droppable = kept.iter().filter(|(_, layout)| layout.priority < u8::MAX);
        let Some(&(lowest, _)) = droppable.min_by_key(|(index, l)| (l.priority, Reverse(*index)))
        else {
            break;
        };
        narrow.extend(kept.extract_if(.., |(index, _)| *index == lowest));
    }
    // A broad column that went late may have made room for narrow ones that went before it.
    narrow.sort_by_key(|(index, layout)| (Reverse(layout.priority), *index));
    for (index, layout) in narrow {
        let position = kept.partition_point(|(before, _)| *before < index);
        kept.insert(position, (index, layout));
        if taken(&kept) > width {
            dropped.push(kept.remove(position));
        }
    }
    layouts.extend(kept.into_iter().map(|(_, layout)| layout));
    dropped
}
