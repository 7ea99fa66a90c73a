//! cinspect finds any Linux container from kernel state and files on disk, shows its processes with
//! their signal masks and handlers, signals exactly the right one, enters and copies files. No engine's
//! daemon or client is asked, so it works while they hang.
//!
//! # The map of the house
//!
//! A typed **reference** is resolved to a **container**; we take a **snapshot** of its processes;
//! **analysis** answers; **output** prints the answer or an **action** carries it out.
//!
//! ```text
//! argv ─► command ─► resolve ─► proc (snapshot) ─► analysis ─┬─► output ─► terminal
//!                       │                                    └─► action ─► sys ─► kernel
//!                     engine                        model: the types all of them share
//! ```
//!
//! - [`command`]: one file a command, and the command table.
//! - [`completion`]: shell completion, from the command table and the running containers.
//! - [`manual`]: the manual pages, made of the same tables as the help.
//! - [`resolve`]: from a reference to one container, and its processes.
//! - [`engine`]: one file an engine, the engine table, and how records are verified.
//! - [`proc`]: the only reader of `/proc`, the cgroup tree and the engines' files.
//! - [`analysis`]: pure answers.
//! - [`action`]: changes to processes and files; identity is verified first.
//! - [`output`]: column tables, escaped text, trees, JSON.
//! - [`model`]: the nouns, and how the kernel spells them.
//! - [`sys`]: every `unsafe` and the wrappers of raw system calls.
//!
//! Floors from top to bottom: `manual`, `command` `completion`, `resolve` `action`, `output`, `engine`,
//! `analysis` `proc`, `model` `sys`. Imports point downward only; a test keeps that so.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "cinspect reads Linux's /proc and cgroups and sends signals through pidfds: it builds and runs on Linux only"
);

pub mod action;
pub mod analysis;
pub mod cli;
pub mod command;
pub mod completion;
pub mod engine;
pub mod error;
pub mod exit;
pub mod manual;
pub mod model;
pub mod output;
pub mod proc;
pub mod resolve;
#[allow(unsafe_code, reason = "the fence: every unsafe of the project is in here")]
pub mod sys;

pub use cli::run;
