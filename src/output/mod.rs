//! The voice: how answers look. Column tables, trees, safe text, JSON. What comes from a container
//! is made safe here, on its way out, and nowhere else.

pub mod column;
pub mod columns;
pub mod diff;
pub mod inspect;
pub mod json;
pub mod screen;
pub mod sections;
pub mod table;
pub mod terminal;
pub mod text;
pub mod tree;
