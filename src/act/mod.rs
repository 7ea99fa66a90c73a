//! The hands: they carry out what was decided, and confirm identity first.

pub mod copy;
pub mod enter;
pub mod errand;
pub mod freezer;
pub mod signal;
pub mod stop;
