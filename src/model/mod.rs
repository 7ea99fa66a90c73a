//! The nouns, and how the kernel spells them. Pure: bytes of a kernel file in, owned values out.
//! Nothing here opens a file, calls the kernel or prints.

pub mod account;
pub mod bytes;
pub mod capability;
pub mod cgroup;
pub mod container;
pub mod elf;
pub mod engine;
pub mod exit_record;
pub mod fuzz;
pub mod idmap;
pub mod init_state;
pub mod limits;
pub mod log_record;
pub mod lookup;
pub mod mount;
pub mod namespace;
pub mod oom_kill;
pub mod passwd;
pub mod pid;
pub mod pre_stop;
pub mod process;
pub mod process_attributes;
pub mod process_config;
pub mod program_signals;
pub mod resource_config;
pub mod rotated_log;
pub mod signal;
pub mod signal_waiters;
pub mod sockets;
pub mod stat;
pub mod status;
pub mod stop_policy;
pub mod stop_schedule;
pub mod trace;
pub mod verdict;
