//! Stops a container: sends the signal of each step to the processes in the chosen order, waits, and
//! kills the processes that remain. Each event is reported when it happens; nothing here prints.

mod dry_run;
mod events;
mod kill;
mod procedure;

use clap::ValueEnum;

pub use dry_run::{StopOutlook, dry_run};
pub use events::{Killer, ProcessRef, StopEvent, StopEventKind};
pub use procedure::stop;

use crate::model::stop_schedule::StopSchedule;

/// The order in which processes get the signal of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StopOrder {
    /// Only the init, as engines do
    Init,
    /// All processes at once
    All,
    /// Children before their parents, the init last
    ChildrenFirst,
}

/// How a container is to be stopped.
#[derive(Clone, Debug)]
pub struct StopProcedure {
    /// The signals, and how long each is waited for.
    pub schedule: StopSchedule,
    /// The order.
    pub order: StopOrder,
}
