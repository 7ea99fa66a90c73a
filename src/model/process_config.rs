//! The process that an engine configured for a container, as its record has it: environment, limits and
//! other attributes that the init may have changed for itself since. Nothing here reads a file.

use serde::{Deserialize, Serialize};

use super::limits::ResourceLimit;

/// A scheduling policy with its priority, sched(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduling {
    /// `SCHED_*`.
    pub policy: u32,
    /// The static priority of FIFO and RR.
    pub priority: u32,
}

/// Names of policies by number (include/uapi/linux/sched.h).
const POLICIES: &[&str] = &["OTHER", "FIFO", "RR", "BATCH", "?", "IDLE", "DEADLINE", "EXT"];

impl Scheduling {
    /// Returns the policy's name without `SCHED_`.
    pub fn name(self) -> &'static str {
        POLICIES.get(self.policy as usize).copied().unwrap_or("?")
    }

    /// Returns the policy of this name, with or without `SCHED_`.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.strip_prefix("SCHED_").unwrap_or(name);
        let policy = POLICIES.iter().position(|known| *known == name)?;
        Some(Self { policy: u32::try_from(policy).ok()?, priority: 0 })
    }
}

/// The configured process; `None` for an attribute that the record does not decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessConfig {
    /// The file that it was read from.
    pub source: String,
    /// Variables, as `NAME=VALUE`.
    pub environment: Option<Vec<Vec<u8>>>,
    /// Whether these are all of them.
    pub environment_is_complete: bool,
    /// The working directory.
    pub workdir: Option<Vec<u8>>,
    /// The limits that are recorded, and those that its supervisor passed on.
    pub limits: Vec<ResourceLimit>,
    /// The umask.
    pub umask: Option<u32>,
    /// Groups that every process of the container gets, by name or ID.
    pub added_groups: Vec<Vec<u8>>,
    /// Whether the engine puts the primary group of every user among the supplementary ones, so that a
    /// program cannot drop it with setgid(2) to get past permissions that deny it.
    pub adds_primary_group: bool,
    /// Number of seccomp filters that the init was started with.
    pub filters: Option<u32>,
    /// `no_new_privs`.
    pub no_new_privs: Option<bool>,
    /// The execution domain, personality(2).
    pub personality: Option<u32>,
    /// The scheduling policy.
    pub scheduling: Option<Scheduling>,
    /// The I/O priority, ioprio_get(2).
    pub io_priority: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_have_the_kernels_numbers() {
        for (name, policy) in [("SCHED_FIFO", 1), ("BATCH", 3), ("SCHED_IDLE", 5)] {
            let scheduling = Scheduling::named(name).unwrap();
            assert_eq!(scheduling.policy, policy);
            assert!(name.ends_with(scheduling.name()));
        }
        assert_eq!(Scheduling::named("SCHED_NONE"), None);
        assert_eq!(Scheduling { policy: 99, priority: 0 }.name(), "?");
    }
}
