//! What an engine was told to give a container, as far as the kernel can be asked whether it has it.

/// Limits and rights as they were configured; none where nothing was said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResourceConfig {
    /// The file that says so.
    pub source: String,
    /// Memory, bytes.
    pub memory: Option<u64>,
    /// Processors' worth of time.
    pub cpus: Option<f64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Whether the root file system is read-only.
    pub read_only: Option<bool>,
    /// Whether execve(2) may give no rights.
    pub no_new_privs: Option<bool>,
    /// Whether there is a filter of system calls.
    pub seccomp: Option<bool>,
}
