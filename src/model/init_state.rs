//! The state of an init that it can have changed for itself after its engine started it.

use super::limits::ResourceLimit;
use super::process::Fact;
use super::process_config::Scheduling;

/// The state; `None` for an attribute that could not be read.
#[derive(Clone, Debug)]
pub struct InitState {
    /// Its root directory as seen from that of its mount namespace.
    pub root: Option<Vec<u8>>,
    /// Its working directory likewise, perhaps with ` (deleted)`.
    pub workdir: Option<Vec<u8>>,
    /// Its environment.
    pub environment: Fact<Vec<u8>>,
    /// Its resource limits; none if they could not be read.
    pub limits: Vec<ResourceLimit>,
    /// Its number of seccomp filters.
    pub filters: Option<u32>,
    /// Its `no_new_privs`.
    pub no_new_privs: Option<bool>,
    /// Its execution domain, personality(2).
    pub personality: Option<u32>,
    /// Its scheduling policy.
    pub scheduling: Option<Scheduling>,
}
