//! The only reader of `/proc`, the cgroup tree and the engines' files. Facts come back owned; the few
//! descriptors ([`ExecFacts`], [`StateDir`], files of a cgroup) are for an action or for more reading.
//! The one write is [`FreezerFile::set`].
//!
//! procfs gives the handle on a process that is held by a descriptor, so that a reused PID cannot mix
//! two processes, and the kernel's clock rate. Its parsers are not used: they return strings, so that a
//! name that is not UTF-8 would vanish with its process, and one broken line loses the file. Ours
//! (`model`) work on bytes.

mod call_timeout;
mod cgroup;
mod clients;
mod command_lines;
mod container_fs;
mod exec_facts;
mod host;
mod init_state;
mod inspect;
mod kernel_log;
mod kernel_wait;
mod log_file;
mod log_source;
mod lookup;
mod namespace_root;
mod parallel;
mod payload;
mod pid_namespace;
mod process;
mod program_signals;
mod read;
mod signal_trace;
mod signal_waiters;
mod snapshot;
mod survey;
mod time_namespace;
mod trust;
mod trusted_fs;

#[cfg(test)]
pub use cgroup::ResourceUsage;
pub use cgroup::{CgroupEntry, FreezerFile, LimitedValue, LiveCgroup};
pub use container_fs::ContainerFs;
pub use exec_facts::ExecFacts;
pub use host::{ForeignProcfs, Host};
pub use inspect::InspectFacts;
pub use log_file::{LogRange, LogReader};
pub use parallel::parallel_map;
pub use process::InitFacts;
pub use read::ReadError;
pub use signal_trace::{SignalTrace, now as monotonic_now};
pub use snapshot::{CommandLimit, SnapshotOptions};
pub use survey::Survey;
pub use trust::Trust;
pub use trusted_fs::{StateDir, StateFile};
