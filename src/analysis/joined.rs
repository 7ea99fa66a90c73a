//! Processes that entered a container from outside, such as those of `docker exec` and nsenter(1). Nothing here reads
//! a file: `resolve::joined` has the facts.

use std::sync::Arc;

use crate::model::pid::HostPid;

/// Whether a process entered its container from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Joined {
    /// It was created in the container, or is its init.
    No,
    /// It joined.
    Yes(Arc<Starter>),
    /// The facts do not say.
    #[default]
    Unknown,
}

impl Joined {
    /// Returns the answer, if there is one.
    pub fn answer(&self) -> Option<bool> {
        match self {
            Self::No => Some(false),
            Self::Yes(_) => Some(true),
            Self::Unknown => None,
        }
    }
}

/// The origin of a process that joined, as far as its parent shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Starter {
    /// The engine: the parent is the shim or monitor of the container.
    Engine,
    /// A process that has exited: the host's init has adopted it.
    Exited,
    /// The parent outside of the container. (It may have adopted the process, as a subreaper.)
    Parent(HostPid, Vec<u8>),
    /// Not known.
    Unknown,
}
