//! The voice: how answers look. Column tables, trees, safe text, JSON. What comes from a container
//! is made safe here, on its way out, and nowhere else.

pub mod column;
pub mod inspect_facts;
pub mod json;
pub mod ls_columns;
pub mod page;
pub mod ps_columns;
pub mod signal_columns;
pub mod signals_columns;
pub mod table;
pub mod text;
pub mod tree;
pub mod watch;
