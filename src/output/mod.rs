//! Output: columns, tables, trees, pages, JSON, and the terminal they go to. Bytes from a container are
//! escaped here, on their way out, and nowhere else. Only `terminal` and `screen` write.

pub mod column;
pub mod columns;
pub mod diff;
pub mod escape;
pub mod exit_words;
pub mod fuzz;
pub mod inspect;
pub mod json;
pub mod screen;
pub mod sections;
pub mod select;
pub mod sort;
pub mod stop_heading;
pub mod stop_report;
pub mod style;
pub mod table;
pub mod terminal;
pub mod trace_report;
pub mod tree;
pub mod units;
pub mod value;
pub mod width;
