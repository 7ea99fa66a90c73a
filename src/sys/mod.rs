//! The fence: every `unsafe` of the project and every syscall that changes state outside this
//! process, one small wrapper each. A wrapper takes borrowed descriptors, returns owned ones, and
//! its error names the call. Nothing here decides anything: confirming identity is `act`'s work.

pub mod capability;
pub mod fd;
pub mod isolated;
pub mod kcmp;
pub mod namespace;
pub mod pidfd;
pub mod process;
pub mod process_dir;
pub mod seccomp;
pub mod self_exe;
pub mod socket;
pub mod terminal;
