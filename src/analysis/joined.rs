//! Processes that entered a container from outside, such as those of `docker exec` and nsenter(1). Nothing here
//! reads a file: `resolve::joined` has the facts.

use std::sync::Arc;

use super::container_process::{ContainerProcess, nearest};
use crate::model::pid::HostPid;

/// Whether a process entered its container from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Joined {
    /// It was created in the container, or is its init.
    No,
    /// It joined.
    Yes(Arc<Starter>),
    /// The facts do not decide.
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

    /// Returns why the engine started it, if it did.
    pub fn purpose(&self) -> Option<EnginePurpose> {
        match self {
            Self::Yes(starter) => match **starter {
                Starter::Engine(purpose) => Some(purpose),
                _ => None,
            },
            Self::No | Self::Unknown => None,
        }
    }
}

/// The purpose for which an engine started a process in a running container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnginePurpose {
    /// A user's session.
    Session,
    /// Probably the health check that is configured: a session may have the same command line.
    HealthCheck,
    /// A session or a health check.
    Unknown,
}

/// The origin of a process that joined, as far as its parent shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Starter {
    /// The engine: the parent is the shim or monitor of the container.
    Engine(EnginePurpose),
    /// A process that has exited: the host's init has adopted it.
    Exited,
    /// The parent outside of the container. (It may have adopted the process, as a subreaper.)
    Parent(HostPid, Vec<u8>),
    /// Not known.
    Unknown,
}

/// Returns for each process why the engine started it in the running container, or the ancestor that joined.
pub fn purposes(processes: &[ContainerProcess], joined: &[Joined]) -> Vec<Option<EnginePurpose>> {
    let of_root =
        |index: usize| processes[index].parent.is_none().then(|| joined.get(index)?.purpose());
    nearest(processes, of_root).into_iter().map(Option::flatten).collect()
}
