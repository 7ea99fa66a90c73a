//! Signals and sets of signals: numbers, names, default actions, and the hexadecimal masks of
//! `/proc/PID/status`. Nothing here sends a signal or asks the kernel.

mod number;
mod parse;
mod set;
mod table;

pub use number::{Signal, SignalNumber};
pub use set::SignalSet;
pub use table::DefaultAction;
