//! The schedule of a stop: which signals are sent, how long each is waited for, and whether KILL follows.
//! The command line's form of it, `QUIT:5s,TERM:10s,KILL`, is parsed in `cli::args`. And the order in which
//! processes get the signals.

use std::time::Duration;

use clap::ValueEnum;

use super::container::Container;
use super::pre_stop::PreStopHook;
use super::signal::{Signal, SignalSet};

/// A signal, and the time that processes have to exit on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopStep {
    /// The signal.
    pub signal: Signal,
    /// The time until the next step.
    pub grace: Duration,
}

/// The steps of a stop, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopSchedule {
    /// The time that passes before the first step, or KILL, without a signal.
    pub unsignalled: Duration,
    /// The steps before KILL.
    pub steps: Vec<StopStep>,
    /// Whether processes that are still running in the end get KILL.
    pub kill: bool,
}

impl StopSchedule {
    /// Returns the signals of all steps.
    pub fn signals(&self) -> SignalSet {
        let signals = self.steps.iter().map(|step| SignalSet::from(step.signal));
        signals.fold(SignalSet::EMPTY, SignalSet::union)
    }

    /// Returns the time until the first KILL, if no process exits before: that of a step, or the one in the end.
    pub fn time_to_kill(&self) -> Duration {
        let before = self.steps.iter().take_while(|step| step.signal != Signal::KILL);
        before.map(|step| step.grace).fold(self.unsignalled, Duration::saturating_add)
    }

    /// Whether it sends KILL, in a step or in the end.
    pub fn kills(&self) -> bool {
        self.kill || self.steps.iter().any(|step| step.signal == Signal::KILL)
    }

    /// Returns the time that all steps take if no process exits.
    pub fn total_grace(&self) -> Duration {
        let times = self.steps.iter().map(|step| step.grace);
        times.fold(self.unsignalled, Duration::saturating_add)
    }
}

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

impl StopOrder {
    /// Returns the order in a container: one that has lost its init has no process to begin with.
    pub fn in_container(self, container: &Container) -> Self {
        match self {
            Self::Init if container.has_lost_init => Self::All,
            order => order,
        }
    }
}

/// How a container is to be stopped.
#[derive(Clone, Debug)]
pub struct StopProcedure {
    /// The signals, and how long each is waited for.
    pub schedule: StopSchedule,
    /// The order.
    pub order: StopOrder,
    /// The hook that runs before the first signal.
    pub hook: Option<PreStopHook>,
    /// The reason why it is not known whether anything ends.
    pub doubt: Option<&'static str>,
}

impl StopProcedure {
    /// Returns a procedure that sends nothing.
    pub fn without_steps() -> Self {
        Self { schedule: StopSchedule::default(), order: StopOrder::Init, hook: None, doubt: None }
    }
}
