//! The types of a reaction to a signal: whether a process exits, after which others, and to which processes
//! it forwards the signal.

use std::time::Duration;

use crate::model::signal::Signal;

/// Whether a process exits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exits {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// It may.
    Maybe,
    /// As soon as these have exited.
    After(Vec<usize>),
    /// It may, as soon as these have exited.
    MaybeAfter(Vec<usize>),
    /// Not by the signal; but a child that exits may make it exit, too.
    ByChild,
    /// When all of its stages are over.
    AfterStages,
}

/// The processes that a signal is forwarded to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Targets {
    /// These.
    Processes(Vec<usize>),
    /// Every process of a process group, by its number in the snapshot.
    Group(i32),
}

/// A signal that is forwarded, perhaps as another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Forward {
    pub targets: Targets,
    pub signal: Signal,
    /// Whether it is known that these get it.
    pub is_certain: bool,
    /// Whether CONT follows, so that it takes effect on those that are stopped, too.
    pub resumes: bool,
}

impl Forward {
    /// Returns the forwarding of a signal that certainly reaches these.
    pub fn certain(targets: Targets, signal: Signal) -> Self {
        Self { targets, signal, is_certain: true, resumes: false }
    }

    /// Returns the forwarding with CONT after the signal.
    pub fn resuming(self) -> Self {
        Self { resumes: true, ..self }
    }
}

/// A service that a supervisor stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceStop {
    /// Its main process, for which the supervisor waits.
    pub process: usize,
    pub forward: Forward,
    /// SIGKILL from the supervisor, if it sends one.
    pub kill: Option<ServiceKill>,
}

/// The SIGKILL of a supervisor for a service that does not exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceKill {
    /// How long after the stop signal.
    pub after: Duration,
    pub targets: Targets,
    /// Whether the supervisor is among the targets.
    pub kills_itself: bool,
}

/// The services that a supervisor stops together; the next ones follow when all of them have exited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StopStage {
    pub services: Vec<ServiceStop>,
    /// The time that it takes even if all of them exit at once.
    pub least: Duration,
    /// The longest time that the supervisor itself takes for it.
    pub delay: Duration,
}

/// The reaction of a program to a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reaction {
    pub exits: Exits,
    /// The time until it exits, if it does and that is known.
    pub exits_after: Option<Duration>,
    pub forwards: Vec<Forward>,
    /// A signal that it sends when those for which it waits have exited, before it exits itself.
    pub farewell: Option<Forward>,
    /// Services that it stops, one stage after the other.
    pub stages: Vec<StopStage>,
    /// Children that it stops by its own means, and that are known to exit then.
    pub stops: Vec<usize>,
    /// Processes that exit without a signal when others have, such as loggers at the end of their input.
    pub follows: Vec<(usize, Vec<usize>)>,
    /// Whether it may stop its descendants by means that cannot be seen from outside.
    pub may_stop_descendants: bool,
    /// Whether the signal is known to reach it.
    pub is_certain: bool,
    /// The reason, as a predicate of the process.
    pub why: String,
}

impl Reaction {
    pub fn new(exits: Exits, why: impl Into<String>) -> Self {
        Self {
            exits,
            exits_after: None,
            forwards: Vec::new(),
            farewell: None,
            stages: Vec::new(),
            stops: Vec::new(),
            follows: Vec::new(),
            may_stop_descendants: false,
            is_certain: true,
            why: why.into(),
        }
    }

    /// Returns the reaction of a process that is behind more forwarding processes than are followed.
    pub fn not_followed() -> Self {
        let why = "is not followed: too many processes forward the signal to one another";
        Self { may_stop_descendants: true, ..Self::new(Exits::Maybe, why) }
    }

    /// Iterates over the signals that it forwards, those to its services among them.
    pub fn all_forwards(&self) -> impl Iterator<Item = &Forward> {
        let services = self.stages.iter().flat_map(|stage| &stage.services);
        self.forwards.iter().chain(services.map(|service| &service.forward))
    }
}
