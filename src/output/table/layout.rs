//! Which columns of a table fit on the terminal, and where cells are cut. Pure: its parent hands the
//! result to comfy-table.

use std::cmp::Reverse;

use crate::output::column::Align;
use crate::output::style::Emphasis;
use crate::output::width::{cut, split_at, width};

/// Columns that the flexible column keeps before other columns are dropped for it.
const MIN_FLEXIBLE: usize = 20;

/// Spaces between two columns.
pub const GAP: usize = 2;

/// A cell: safe text, with the lines of the tree before it, their width, and the meaning of the text.
#[derive(Debug)]
pub struct LaidCell {
    pub text: String,
    /// None for most cells: a table has very many.
    pub around: Option<Box<Around>>,
    pub width: usize,
    pub emphasis: Emphasis,
}

/// The texts around that of a cell.
#[derive(Debug, Default)]
pub struct Around {
    /// The lines of the tree before it.
    pub prefix: String,
    /// The rest of a text too long to be laid out.
    pub tail: String,
}

impl LaidCell {
    pub fn new(prefix: String, text: String, emphasis: Emphasis) -> Self {
        let width = width(&prefix) + width(&text);
        let has_prefix = !prefix.is_empty();
        let around = has_prefix.then(|| Box::new(Around { prefix, tail: String::new() }));
        Self { text, around, width, emphasis }
    }

    /// Returns the lines of the tree before the text.
    pub fn prefix(&self) -> &str {
        self.around.as_ref().map_or("", |around| &around.prefix)
    }

    /// Returns the rest of a text too long to be laid out.
    pub fn tail(&self) -> &str {
        self.around.as_ref().map_or("", |around| &around.tail)
    }

    /// Cuts it to so many columns. The prefix is cut first, down to half of them: deep in a tree the
    /// reader looks for the process, not for the lines that lead to it.
    pub fn cut(&mut self, cols: usize, ellipsis: &str) {
        if self.width > cols {
            let half = (cols / 2).max(cols.saturating_sub(width(&self.text)));
            if let Some(around) = &mut self.around {
                around.prefix = cut(&around.prefix, half, ellipsis);
            }
            let prefix = width(self.prefix());
            self.text = cut(&self.text, cols - prefix, ellipsis);
            self.width = prefix + width(&self.text);
        }
    }

    /// Moves what is beyond so many columns into the tail.
    pub fn split_off(&mut self, cols: usize) {
        if self.width > cols {
            let prefix = width(self.prefix());
            let (head, _) = split_at(&self.text, cols.saturating_sub(prefix));
            let tail = self.text.split_off(head.len());
            self.around.get_or_insert_default().tail = tail;
            self.width = prefix + width(&self.text);
        }
    }
}

/// A column about to be drawn: the cell of its header, if there is one, then one for each row.
#[derive(Debug)]
pub struct ColumnLayout {
    pub name: &'static str,
    pub cells: Vec<LaidCell>,
    /// Columns of the terminal that it takes, without the gap.
    pub width: usize,
    /// Spaces behind it.
    pub gap: usize,
    pub align: Align,
    pub priority: u8,
    pub flexible: bool,
    pub wide: bool,
}

impl ColumnLayout {
    /// Adds cells.
    pub fn add(&mut self, cells: Vec<LaidCell>) {
        self.width = cells.iter().map(|cell| cell.width).fold(self.width, usize::max);
        self.cells.extend(cells);
    }

    fn narrow(&mut self, cols: usize, ellipsis: &str) {
        if self.width > cols {
            self.width = cols;
            self.cells.iter_mut().for_each(|cell| cell.cut(cols, ellipsis));
        }
    }
}

/// Drops columns until the rest fits into `width`, then gives the flexible column the remaining room.
/// Returns the names of the dropped columns, in the order of the table.
///
/// Wide columns are dropped first, all together, where they would leave the flexible one less than
/// half of its need; then the column of lowest priority, of equal ones the last, until the flexible one
/// has 20 columns or its need. Columns that fit beside the rest come back. With `keep_all` none is
/// dropped. If the rest is still too wide, the line ends at the edge: the column there is cut, and those
/// beyond it are not shown.
pub fn fit(
    layouts: &mut Vec<ColumnLayout>,
    width: usize,
    keep_all: bool,
    ellipsis: &str,
) -> Vec<&'static str> {
    let mut dropped = if keep_all { Vec::new() } else { drop_columns(layouts, width) };
    dropped.sort_by_key(|(index, _)| *index);
    let remaining = width.saturating_sub(fixed(layouts.iter())).max(1);
    let mut start = 0;
    layouts.retain_mut(|layout| {
        let room = width.saturating_sub(start);
        layout.narrow(if layout.flexible { room.min(remaining) } else { room }, ellipsis);
        start += layout.width + GAP;
        room > 0
    });
    dropped.into_iter().map(|(_, layout)| layout.name).collect()
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

/// Drops columns until the flexible one has 20 columns or its need; returns the dropped ones.
fn drop_columns(layouts: &mut Vec<ColumnLayout>, width: usize) -> Vec<Indexed> {
    let need = layouts.iter().find(|layout| layout.flexible).map_or(0, |layout| layout.width);
    let least = need.min(MIN_FLEXIBLE);
    let mut kept: Vec<Indexed> = layouts.drain(..).enumerate().collect();
    let fixed = |kept: &[Indexed]| fixed(kept.iter().map(|(_, layout)| layout));

    let mut dropped = Vec::new();
    if fixed(&kept) + least.max(need.div_ceil(2)) > width {
        dropped.extend(kept.extract_if(.., |(_, layout)| layout.wide));
    }
    let mut narrow = Vec::new();
    while fixed(&kept) + least > width {
        let droppable = kept.iter().filter(|(_, l)| !l.flexible && l.priority < u8::MAX);
        let Some(&(lowest, _)) = droppable.min_by_key(|(index, l)| (l.priority, Reverse(*index)))
        else {
            break;
        };
        narrow.extend(kept.extract_if(.., |(index, _)| *index == lowest));
    }
    // A broad column that went late may have made room for narrow ones that went before it.
    narrow.sort_by_key(|(index, layout)| (Reverse(layout.priority), *index));
    for (index, layout) in narrow {
        if fixed(&kept) + GAP + layout.width + least <= width {
            let position = kept.partition_point(|(before, _)| *before < index);
            kept.insert(position, (index, layout));
        } else {
            dropped.push((index, layout));
        }
    }
    layouts.extend(kept.into_iter().map(|(_, layout)| layout));
    dropped
}
