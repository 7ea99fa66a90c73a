//! The fence: every `unsafe` of the project, and the system calls that nix, caps and procfs lack or give
//! without an owner, one small wrapper each. A wrapper takes borrowed descriptors, returns owned ones,
//! and documents the errors of its call. Nothing here decides anything: verifying identity is the work
//! of `action`.

pub mod capability;
pub mod confine;
pub mod cpu_wait;
pub mod directory;
pub mod fd;
pub mod file;
pub mod guardian;
pub mod isolated;
pub mod kcmp;
pub mod listing;
pub mod memory;
pub mod mount_root;
pub mod namespace;
pub mod parallel;
pub mod perf;
pub mod pidfd;
pub mod proc_events;
pub mod process;
pub mod process_dir;
pub mod scheduling;
pub mod seccomp;
pub mod self_exe;
pub mod shortage;
pub mod socket;
pub mod streams;
pub mod terminal;
pub mod tracefs;
