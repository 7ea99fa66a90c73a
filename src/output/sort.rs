//! The order of rows: `--sort KEY`.

use std::cmp::Ordering;

use super::column::Column;
use super::select::{UnknownColumn, find};
use super::value::{Value, compare};

/// A column to sort by, and the direction.
#[derive(Clone, Copy, Debug)]
pub struct Sort<R: 'static> {
    /// The column.
    pub column: Column<R>,
    /// Whether the greatest comes first.
    pub descending: bool,
}

impl<R> Sort<R> {
    /// Parses a sort key: `rss` or `+rss` ascending, `-rss` descending, as in `ps --sort`.
    pub fn parse(table: &'static [Column<R>], key: &str) -> Result<Self, UnknownColumn> {
        let key = key.trim();
        let (descending, name) = match key.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, key.strip_prefix('+').unwrap_or(key)),
        };
        Ok(Self { column: find(table, name)?, descending })
    }

    /// Compares two values of the column. Unknown values come last in both directions.
    pub fn compare(&self, a: &Value, b: &Value) -> Ordering {
        let known = |value: &Value| !matches!(value, Value::Absent | Value::Denied);
        match compare(a, b) {
            order if self.descending && known(a) && known(b) => order.reverse(),
            order => order,
        }
    }

    /// Returns the value of every row, computed once rather than at each comparison.
    pub fn keys<'a>(&self, rows: impl IntoIterator<Item = &'a R>) -> Vec<Value> {
        rows.into_iter().map(self.column.value).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::output::column::tests::{TABLE, TestRow};
    use crate::output::value::tests::any_value;

    #[test]
    fn rows_are_sorted_with_unknown_values_last() {
        let row = |pid, rss| TestRow { pid, comm: b"", rss };
        let rows = [row(1, Some(9)), row(2, None), row(3, Some(10)), row(4, Some(9))];
        let sorted = |key: &str| {
            let sort = Sort::parse(TABLE, key).unwrap();
            let keys = sort.keys(&rows);
            let mut order: Vec<usize> = (0..rows.len()).collect();
            order.sort_by(|a, b| sort.compare(&keys[*a], &keys[*b]));
            order.into_iter().map(|index| rows[index].pid).collect::<Vec<_>>()
        };
        assert_eq!(sorted("RSS"), [1, 4, 3, 2]);
        assert_eq!(sorted("-rss"), [3, 1, 4, 2]);
        assert_eq!(sorted("+pid"), [1, 2, 3, 4]);
        assert!(Sort::parse(TABLE, "--rss").is_err());
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in any_value(), b in any_value(), c in any_value(), down: bool) {
            let sort = Sort { column: TABLE[0], descending: down };
            prop_assert_eq!(sort.compare(&a, &b), sort.compare(&b, &a).reverse());
            if sort.compare(&a, &b).is_le() && sort.compare(&b, &c).is_le() {
                prop_assert!(sort.compare(&a, &c).is_le());
            }
        }
    }
}
