//! Progress of an `exec`: the steps that were taken and the attributes that deviate. The
//! same events cross the pipe from the helper; `command::exec` turns them into text.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::errors::failure;
use crate::error::Error;
use crate::model::account::{Account, AccountEntry};
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
    /// A hierarchy without controllers is not mounted here.
    UnmountedHierarchy(String),
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
    /// The command is one of these shells, the first that can be run.
    Shells(Vec<String>),
    /// The target has changed its root, and that of its mount namespace is used.
    NamespaceRoot,
    /// An attribute of the target that the command lacks, or has in another form.
    Deviation(AccountEntry),
}

/// An attribute that the command takes over from the container.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// The scheduling policy.
    SchedulingPolicy(&'static str),
    /// The priority of I/O, ioprio_get(2).
    IoPriority,
    /// The CPU affinity.
    CpuAffinity,
    /// The execution domain, personality(2).
    Personality,
    /// A session keyring without cinspect's keys.
    Keyring,
    /// A resource limit by its name without `RLIMIT_`.
    Limit(&'static str),
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
    /// The terminal as the controlling one.
    ControllingTerminal,
    /// A `/proc` of the joined PID namespace.
    ProcMount,
    /// A `/sys` of the joined network namespace.
    SysMount,
    /// The container's resolv.conf.
    ResolvConf,
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
            Self::SchedulingPolicy(name) => write!(f, "scheduling policy {name}"),
            Self::IoPriority => f.write_str("I/O priority"),
            Self::CpuAffinity => f.write_str("CPU affinity"),
            Self::Personality => f.write_str("personality"),
            Self::Keyring => f.write_str("separate session keyring"),
            Self::Limit(name) => write!(f, "RLIMIT_{name}"),
            Self::Groups => f.write_str("supplementary groups"),
            Self::Capabilities(mask) => write!(f, "capabilities {}", names(mask)),
            Self::AmbientCapabilities(mask) => write!(f, "ambient capabilities {}", names(mask)),
            Self::Workdir => f.write_str("working directory"),
            Self::TerminalName => f.write_str("terminal name"),
            Self::ControllingTerminal => f.write_str("controlling terminal"),
            Self::ProcMount => f.write_str("/proc of its PID namespace"),
            Self::SysMount => f.write_str("/sys of its network namespace"),
            Self::ResolvConf => f.write_str("/etc/resolv.conf"),
        }
    }
}

/// A sink for events, with the account of the attributes that deviate.
pub struct ExecReporter<'a> {
    account: Account,
    sink: &'a mut dyn FnMut(ExecEvent),
}

impl<'a> ExecReporter<'a> {
    /// Creates one.
    pub fn new(is_strict: bool, sink: &'a mut dyn FnMut(ExecEvent)) -> Self {
        Self { account: Account::new(is_strict), sink }
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
        self.deviation(AccountEntry::lost(attribute.to_string(), cause))
    }

    /// Reports an attribute that deviates.
    ///
    /// # Errors
    /// Always with `--strict`.
    pub fn deviation(&mut self, entry: AccountEntry) -> Result<(), Error> {
        match self.account.add(&entry) {
            Ok(_) => {
                self.report(ExecEvent::Deviation(entry));
                Ok(())
            }
            Err(AccountEntry { attribute, cause, hint, .. }) => {
                let error = failure(format!("cannot apply the container's {attribute}"));
                let error = hint.into_iter().fold(error.cause(cause), Error::hint);
                Err(error.hint("without `--strict` this is a warning"))
            }
        }
    }
}
