//! The columns to show: those of `-o LIST`, or the default ones; and the help that lists them.

use super::column::Column;
use super::escape::safe_str;
use super::style::Style;
use super::width::wrap;
use crate::error::{Error, ExitStatus};

/// Columns to show, in order.
#[derive(Clone, Debug)]
pub struct Selection<R: 'static> {
    /// The columns.
    pub columns: Vec<Column<R>>,
    /// Whether the user named all of them: then none is dropped on a narrow terminal.
    pub exact: bool,
}

impl<R> Selection<R> {
    /// Returns the columns shown without `-o`.
    pub fn default_of(table: &'static [Column<R>]) -> Self {
        let columns = table.iter().filter(|column| column.default).copied().collect();
        Self { columns, exact: false }
    }

    /// Returns the columns that `-o` names, or the default ones without it. A comma list replaces the
    /// default columns; with `+` before its first name (`+rss`) it is inserted into them before the
    /// flexible one. Several lists are one, as in ps(1). Each column is shown once; case does not matter.
    pub fn parse(table: &'static [Column<R>], lists: &[String]) -> Result<Self, UnknownColumn> {
        let mut selection = Self::default_of(table);
        let Some(first) = lists.first() else { return Ok(selection) };
        selection.exact = !first.trim_start().starts_with('+');
        if selection.exact {
            selection.columns.clear();
        }
        let columns = &mut selection.columns;
        let end = columns.iter().position(|column| column.flexible).unwrap_or(columns.len());
        let tail = columns.split_off(end);
        for name in lists.iter().flat_map(|list| list.split(',')) {
            let name = name.trim();
            let column = find(table, name.strip_prefix('+').unwrap_or(name))?;
            if !columns.iter().chain(&tail).any(|known| known.name == column.name) {
                // A column that was asked for is not dropped on a narrow terminal.
                columns.push(Column { priority: u8::MAX, wide: false, ..column });
            }
        }
        columns.extend(tail);
        Ok(selection)
    }
}

/// A name that no column has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no column `{}`", safe_str(.name))]
pub struct UnknownColumn {
    /// The name as typed.
    pub name: String,
    /// The column with the most similar name, if any is similar.
    pub nearest: Option<&'static str>,
    /// Names of all columns.
    pub choices: Vec<&'static str>,
}

impl UnknownColumn {
    /// Returns the words to type instead.
    pub fn hint(&self) -> String {
        let choices = self.choices.join(", ");
        match self.nearest {
            Some(nearest) => format!("did you mean `{nearest}`? valid values: {choices}"),
            None => format!("valid values: {choices}"),
        }
    }
}

impl From<UnknownColumn> for Error {
    fn from(unknown: UnknownColumn) -> Self {
        Self::new(ExitStatus::Usage, unknown.to_string()).hint(unknown.hint())
    }
}

/// Returns the column of a name.
pub fn find<R>(table: &'static [Column<R>], name: &str) -> Result<Column<R>, UnknownColumn> {
    let found = table.iter().find(|column| column.name.eq_ignore_ascii_case(name));
    found.copied().ok_or_else(|| {
        let choices: Vec<_> = table.iter().map(|column| column.name).collect();
        UnknownColumn { name: name.into(), nearest: nearest(name, &choices), choices }
    })
}

/// Returns the choice with the fewest edits, if that is not more than a third of its letters.
fn nearest(name: &str, choices: &[&'static str]) -> Option<&'static str> {
    // Names are short; a long word is similar to none, and would only take time.
    if name.len() > 32 {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let distance = |choice: &&'static str| (strsim::osa_distance(&name, choice), *choice);
    let (edits, choice) = choices.iter().map(distance).min()?;
    (edits <= choice.len().div_ceil(3)).then_some(choice)
}

/// Returns the text of `-o help`: every column with its description, those shown by default marked.
pub fn help<R>(table: &'static [Column<R>], style: &Style) -> String {
    let longest = table.iter().map(|column| column.name.len()).max().unwrap_or(0);
    let indent = longest + 4;
    let room = style.width.map(|width| width.saturating_sub(indent).max(20));
    let line = |column: &Column<R>| {
        let mark = if column.default { '*' } else { ' ' };
        let description = wrap(column.description, room).join(&format!("\n{:indent$}", ""));
        format!("{mark} {:longest$}  {description}\n", column.name)
    };
    let mut help: String = table.iter().map(line).collect();
    help.push_str("\n* shown by default\n");
    help
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::output::column::tests::{TABLE, TestRow};

    fn selected(lists: &[&str]) -> Result<Selection<TestRow>, UnknownColumn> {
        Selection::parse(TABLE, &lists.iter().map(|list| (*list).to_owned()).collect::<Vec<_>>())
    }

    fn names(list: &str) -> Vec<&'static str> {
        let selection = selected(&[list]).unwrap();
        selection.columns.iter().map(|column| column.name).collect()
    }

    fn unknown(list: &str) -> UnknownColumn {
        selected(&[list]).unwrap_err()
    }

    #[test]
    fn columns_are_selected_by_name() {
        assert_eq!(names("comm,PID, comm"), ["comm", "pid"]);
        assert_eq!(names("+rss"), ["pid", "rss", "comm"]);
        assert_eq!(names("+comm,+blocked"), ["pid", "blocked", "comm"]);
        assert_eq!(selected(&[]).unwrap().columns.len(), 2);
        assert_eq!(selected(&["rss,comm", "+pid"]).unwrap().columns.len(), 3);
        assert!(selected(&["rss"]).unwrap().exact);
        assert!(!selected(&["+rss", "blocked"]).unwrap().exact);
    }

    #[test]
    fn an_unknown_column_names_the_nearest() {
        let error = unknown("pid,blokced");
        assert_eq!(error.to_string(), "no column `blokced`");
        assert_eq!(error.hint(), "did you mean `blocked`? valid values: pid, rss, blocked, comm");
        assert_eq!(unknown("xyzzy\x1b").to_string(), r"no column `xyzzy\x1b`");
        for none in ["", "pid,", "a-long-name-that-is-nothing-like-any-column"] {
            assert_eq!(unknown(none).nearest, None, "{none}");
        }
    }

    #[test]
    fn help_lists_every_column() {
        let help = help(TABLE, &Style::default());
        assert!(help.starts_with("* pid      the pid\n  rss      the memory\n"), "{help}");
        assert_eq!(help.lines().count(), TABLE.len() + 2);
    }

    proptest! {
        #[test]
        fn any_list_selects_columns_or_is_an_error(list: String) {
            if let Ok(selection) = selected(&[&list]) {
                prop_assert!(selection.columns.len() <= TABLE.len());
            }
        }
    }
}
