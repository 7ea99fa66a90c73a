//! Pure answers: facts in, answer out. Nothing here reads a file, makes a syscall or prints, so that
//! tests need no container.

pub mod assumption;
pub mod container_process;
pub mod copy_rules;
pub mod delivery;
pub mod diagnosis;
pub mod ending;
pub mod env_file;
pub mod exec_environment;
pub mod exec_plan;
pub mod fatal_signals;
pub mod finding;
pub mod forecast;
pub mod fuzz;
pub mod inspection;
pub mod joined;
mod options;
pub mod own_changes;
pub mod programs;
pub mod remedy;
pub mod selection;
pub mod send_order;
pub mod trace_filter;
pub mod trace_outcome;
pub mod trace_verdict;
pub mod user;
pub mod wording;
