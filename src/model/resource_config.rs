//! The limits and rights that a container was configured with, as far as the kernel can be asked
//! whether it has them.

/// Configured limits and rights; `None` for one that was not configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResourceConfig {
    /// The file that they were read from.
    pub source: String,
    /// Memory limit in bytes.
    pub memory: Option<u64>,
    /// CPU limit, in CPUs.
    pub cpus: Option<f64>,
    /// Maximum number of processes and threads.
    pub pids: Option<u64>,
    /// Whether the root file system is read-only.
    pub read_only: Option<bool>,
    /// Whether execve(2) cannot gain privileges.
    pub no_new_privs: Option<bool>,
    /// Whether there is a system call filter.
    pub seccomp: Option<bool>,
}
