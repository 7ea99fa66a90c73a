//! Progress of an `exec`: the steps that were taken and the attributes that could not be applied. The
//! same events cross the pipe from the helper; `command::exec` turns them into text.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::errors::failure;
use crate::error::Error;
use crate::model::capability;
use crate::sys::self_exe::SelfExe;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecEvent {
    /// The file that the helper runs from was opened.
    HelperProgram(SelfExe),
    /// These namespaces were joined.
    Joined(Vec<String>),
    /// The process was put into a cgroup.
    Cgroup {
        /// Its path.
        path: String,
        /// The hierarchies with this path: `v2`, or v1 controllers.
        hierarchies: Vec<String>,
    },
    /// The label for the command was set.
    SecurityLabel(String),
    /// The user was set.
    User {
        /// User ID in the container.
        uid: u32,
        /// Group ID in the container.
        gid: u32,
    },
    /// So many seccomp filters are loaded before the command runs.
    SeccompFilters(usize),
    /// The capability sets were set.
    Capabilities {
        /// The effective set, as a mask.
        effective: u64,
        /// The bounding set, as a mask.
        bounding: u64,
        /// Whether `no_new_privs` is set.
        no_new_privs: bool,
    },
    /// An attribute of the target could not be applied, and why.
    NotApplied(Attribute, String),
}

/// An attribute that the command takes over from the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attribute {
    /// Membership in a cgroup: hierarchy and path.
    Cgroup(String),
    /// The environment.
    Environment,
    /// The seccomp filters.
    SeccompFilter,
    /// `oom_score_adj`.
    OomScoreAdj(i32),
    /// The nice value.
    Nice(i32),
    /// A resource limit by its name without `RLIMIT_`.
    Limit(String),
    /// Supplementary groups.
    Groups,
    /// These capabilities, as a mask.
    Capabilities(u64),
    /// These ambient capabilities, as a mask.
    AmbientCapabilities(u64),
    /// The working directory.
    Workdir,
    /// A name of the terminal in the container.
    TerminalName,
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |mask: &u64| capability::names(*mask).join(", ");
        match self {
            Self::Cgroup(path) => write!(f, "cgroup {path}"),
            Self::Environment => f.write_str("environment"),
            Self::SeccompFilter => f.write_str("seccomp filter"),
            Self::OomScoreAdj(score) => write!(f, "oom_score_adj {score}"),
            Self::Nice(nice) => write!(f, "nice value {nice}"),
            Self::Limit(name) => write!(f, "RLIMIT_{name}"),
            Self::Groups => f.write_str("supplementary groups"),
            Self::Capabilities(mask) => write!(f, "capabilities {}", names(mask)),
            Self::AmbientCapabilities(mask) => write!(f, "ambient capabilities {}", names(mask)),
            Self::Workdir => f.write_str("working directory"),
            Self::TerminalName => f.write_str("terminal name"),
        }
    }
}

/// A sink for events that knows whether `--strict` makes a missing attribute an error.
pub struct ExecReporter<'a> {
    is_strict: bool,
    sink: &'a mut dyn FnMut(ExecEvent),
}

impl<'a> ExecReporter<'a> {
    /// Creates one.
    pub fn new(is_strict: bool, sink: &'a mut dyn FnMut(ExecEvent)) -> Self {
        Self { is_strict, sink }
    }

    /// Reports an event.
    pub fn report(&mut self, event: ExecEvent) {
        (self.sink)(event);
    }

    /// Reports an attribute that could not be applied.
    ///
    /// # Errors
    /// Always with `--strict`.
    pub fn not_applied(
        &mut self,
        attribute: Attribute,
        cause: impl Into<String>,
    ) -> Result<(), Error> {
        if self.is_strict {
            let message = format!("cannot apply the container's {attribute}");
            return Err(failure(message).cause(cause).hint("without `--strict` this is a warning"));
        }
        self.report(ExecEvent::NotApplied(attribute, cause.into()));
        Ok(())
    }
}
