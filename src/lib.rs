//! cinspect finds any Linux container from kernel state and files on disk, shows its processes with
//! their signal masks and handlers, signals exactly the right one, enters and copies files. No engine's
//! daemon or client is asked, so it works while they hang.
//!
//! # The map of the house
//!
//! The user's **word** finds a **target**; we take a **snapshot**; **analysis** answers; we
//! **render** the answer or **act** on it.
//!
//! ```text
//! argv ─► commands ─► target ─► proc (snapshot) ─► analysis ─┬─► render ─► ui
//!                        │                                   └─► act ─► sys ─► kernel
//!                     runtime                        model is the language all of them speak
//! ```
//!
//! - [`commands`]: one file a command, and the command table.
//! - [`completion`]: what a shell is told could come next, by the command table and what runs now.
//! - [`manual`]: the manual pages, made of the same tables as the help.
//! - [`target`]: from what was typed to one container, and its processes in their places.
//! - [`runtime`]: who made it: one file an engine, the runtime table, and how records are confirmed.
//! - [`proc`]: the only reader of `/proc`, the cgroup tree and the engines' files.
//! - [`analysis`]: pure answers.
//! - [`act`]: the hands; they confirm identity first.
//! - [`render`]: the voice: column tables, safe text, trees, JSON.
//! - [`model`]: the nouns, and how the kernel spells them.
//! - [`sys`]: the fence around every `unsafe` and every syscall that changes something.
//!
//! Rooms from top to bottom: `manual`, `commands` `completion`, `target` `act` `render`, `runtime`, `analysis` `proc`,
//! `model` `sys`. Imports point downward only; a test keeps that so.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "cinspect reads Linux's /proc and cgroups and sends signals through pidfds: it builds and runs on Linux only"
);

pub mod act;
pub mod analysis;
pub mod cli;
pub mod commands;
pub mod completion;
pub mod error;
pub mod manual;
pub mod model;
pub mod proc;
pub mod render;
pub mod runtime;
#[allow(unsafe_code, reason = "the fence: every unsafe of the project is in here")]
pub mod sys;
pub mod target;
pub mod ui;

pub use cli::run;
