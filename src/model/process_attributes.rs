//! The attributes that the children of a process inherit, apart from its confinement.

use serde::{Deserialize, Serialize};

use super::limits::ResourceLimit;
use super::process_config::Scheduling;

/// The attributes of a process apart from its confinement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessAttributes {
    /// Resource limits.
    pub limits: Vec<ResourceLimit>,
    /// The umask; `None` before Linux 4.7, which does not show it.
    pub umask: Option<u32>,
    /// `oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// The nice value.
    pub nice: i32,
    /// The scheduling policy.
    pub scheduling: Option<Scheduling>,
    /// The I/O priority, ioprio_get(2).
    pub io_priority: Option<u32>,
    /// The execution domain, personality(2).
    pub personality: Option<u32>,
    /// The CPU affinity as a bit mask.
    pub cpus: Vec<u8>,
}
