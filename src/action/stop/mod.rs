//! Stops a container: sends the signal of each step to the processes in the chosen order, waits, and
//! kills the processes that remain. Each event is reported when it happens; nothing here prints.

mod events;
mod kill;
mod procedure;
mod turns;

pub use events::{Killer, ProcessRef, StopEvent, StopEventKind};
pub use procedure::stop;
