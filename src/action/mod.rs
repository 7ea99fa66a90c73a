//! The hands: they carry out what was decided, and confirm identity first.

pub mod copy;
pub mod exec;
pub mod freeze;
pub mod send;
pub mod signal_many;
pub mod stop;
