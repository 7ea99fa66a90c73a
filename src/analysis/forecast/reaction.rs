//! The types of a reaction to a signal: whether a process exits, after which others, and to which processes
//! it forwards the signal.

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
}

/// The reaction of a program to a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reaction {
    pub exits: Exits,
    pub forwards: Vec<Forward>,
    /// Children that it stops by its own means, and that are known to exit then.
    pub stops: Vec<usize>,
    /// Whether it may stop its descendants by means that cannot be seen from outside.
    pub may_stop_descendants: bool,
    /// The reason, as a predicate of the process.
    pub why: String,
}

impl Reaction {
    pub fn new(exits: Exits, why: impl Into<String>) -> Self {
        Self {
            exits,
            forwards: Vec::new(),
            stops: Vec::new(),
            may_stop_descendants: false,
            why: why.into(),
        }
    }
}
