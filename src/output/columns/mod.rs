//! The column tables: one file for each command that prints a table.

pub mod common;
pub mod forecast;
pub mod ls;
pub mod ps;
pub mod signal;
pub mod signals;
