//! cinspect finds any Linux container from kernel state and files on disk, shows its processes with
//! their signal masks and handlers, signals exactly the right process, runs commands in it and copies its
//! files. It asks no engine's daemon or client, and works while they hang.
//!
//! # The map
//!
//! A typed **reference** is resolved to a **container**; we take a **snapshot** of its processes;
//! **analysis** answers; **output** prints the answer, or an **action** carries it out.
//!
//! ```text
//! argv ─► cli ─► command ─► resolve ─► snapshot ─► analysis ─┬─► output ─► terminal
//!                              │                             └─► action ─► sys ─► kernel
//!                     engine, proc                   model: the types that all of them share
//! ```
//!
//! `cli` parses the command line and runs one of the commands; `command` has a file for each of them
//! and the command table, from which `completion` and `manual` are made as well.
//!
//! `resolve` turns a reference into one container and takes snapshots of it. `engine` has a file for
//! each engine, with all facts about it, and verifies the claims of the engines' files. `proc` is
//! the only reader of `/proc`, of the cgroup tree and of those files.
//!
//! `analysis` answers from a snapshot, without reading anything. `action` changes processes and files,
//! and verifies the identity of a process first. `output` makes tables, trees, pages and JSON.
//!
//! `model` has the types of the field, and parses how the kernel spells them. `sys` has every `unsafe`
//! and the wrappers of system calls that no library offers. `error` and `exit` are the one error type
//! and its exit statuses.
//!
//! Imports point downward only, from floor to floor: `cli command completion manual` · `resolve action
//! output` · `engine` · `analysis proc` · `error exit` · `model sys`. `tests/it/layering.rs` keeps it so.
//!
//! The crate is a program: its modules are private, and [`run`] and its [`Allocator`] are all that it offers.
//! `testing` is for its own tests.

// A panic, of `println!` at a closed pipe for example, would leave a stop or a copy half done. clippy.toml allows
// it in unit tests.
#![warn(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "cinspect reads Linux's /proc and cgroups and sends signals through pidfds: it builds and runs on Linux only"
);

mod action;
mod analysis;
mod cli;
mod command;
mod completion;
mod engine;
mod error;
mod exit;
mod manual;
mod model;
mod output;
mod proc;
mod resolve;
#[allow(unsafe_code, reason = "the only module that may; its wrappers are safe to call")]
mod sys;

pub use cli::run;
pub use sys::memory::Allocator;

/// Items for the tests of this package; they change without notice.
#[doc(hidden)]
pub mod testing {
    /// The entries for fuzzing, a list for each floor.
    pub const FUZZ_TARGETS: &[&[crate::model::fuzz::FuzzTarget]] = &[
        crate::model::fuzz::TARGETS,
        crate::analysis::fuzz::TARGETS,
        crate::engine::fuzz::TARGETS,
        crate::action::copy::fuzz::TARGETS,
        crate::output::fuzz::TARGETS,
        crate::resolve::fuzz::TARGETS,
    ];

    pub use crate::action::copy::fuzz::unpack;
    pub use crate::action::send::hold;
    pub use crate::analysis::delivery::{Prediction, Recipient};
    pub use crate::analysis::programs::program_of;
    pub use crate::analysis::selection::Criteria;
    pub use crate::cli::root::root_command;
    pub use crate::command::{COMMANDS, script};
    pub use crate::completion::source::CompletionSource;
    pub use crate::error::Error;
    pub use crate::manual::{ON_SIGNALS, pages as manual_pages};
    pub use crate::model::pid::HostPid;
    pub use crate::model::program_signals::{GoProgram, Source as GoSource};
    pub use crate::model::signal::{Signal, SignalSet};
    pub use crate::model::verdict::Verdict;
    pub use crate::proc::{Host, SnapshotOptions};
    pub use crate::resolve::{Access, ResolvedContainer, Resolver};
    pub use crate::sys::pidfd;
    pub use crate::sys::proc_events::ExitEvents;
}
