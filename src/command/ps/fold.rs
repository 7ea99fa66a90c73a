//! Equal siblings of the tree as one line with a count. Nothing here draws.

use std::collections::HashMap;

use super::rows::parents;
use crate::output::column::Column;
use crate::output::columns::ps::PsRow;
use crate::output::diff::MarkedRow;
use crate::output::style::TableOptions;
use crate::output::table::Mark;
use crate::output::tree::{TreePosition, without};
use crate::output::value::Value;

/// Siblings that are one line, at least.
const LEAST: usize = 3;

/// The columns that may differ between siblings on one line.
const DIFFERING: &[&str] = &["pid", "hpid", "rss", "elapsed", "time"];

/// Folds siblings without children whose shown cells are equal. Returns the positions that are left, and for
/// each row the number of rows that are folded into it.
pub fn fold(
    rows: &[MarkedRow],
    positions: Vec<TreePosition>,
    columns: &[Column<PsRow>],
) -> (Vec<TreePosition>, Vec<usize>) {
    let parents = parents(rows);
    let mut has_children = vec![false; rows.len()];
    for parent in parents.iter().flatten() {
        has_children[*parent] = true;
    }
    let mut groups: HashMap<(Option<usize>, String), Vec<usize>> = HashMap::new();
    for index in positions.iter().map(|position| position.index) {
        if let Some(key) = (!has_children[index]).then(|| key(&rows[index], columns)).flatten() {
            groups.entry((parents[index], key)).or_default().push(index);
        }
    }
    let mut counts = vec![1; rows.len()];
    for group in groups.into_values().filter(|group| group.len() >= LEAST) {
        group.iter().for_each(|index| counts[*index] = 0);
        counts[group[0]] = group.len();
    }
    (without(positions, |index| counts[index] == 0), counts)
}

/// Returns the cells of a row that must be equal; none if one of them is not known, or the row has a mark.
fn key((row, mark): &MarkedRow, columns: &[Column<PsRow>]) -> Option<String> {
    let options = TableOptions::default();
    let mut key = row.root_mark().unwrap_or_default();
    for column in columns.iter().filter(|column| !DIFFERING.contains(&column.name)) {
        let value = (column.value)(row);
        if value == Value::Denied {
            return None;
        }
        // (No cell has a line break.)
        key.push_str(&value.to_text(&options));
        key.push('\n');
        key.push_str(column.emphasis.map_or("", |emphasis| emphasis(row).code()));
    }
    (*mark == Mark::None).then_some(key)
}
