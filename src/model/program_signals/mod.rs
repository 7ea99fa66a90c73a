//! The signals that a program asked its language runtime for, where the runtime's handlers are the same
//! whether it did or not: where Go and libuv keep them, and how to read them there. Program file and memory
//! are bytes of a container: each step that does not fit is a [`MissingStep`], never a guess. Nothing here
//! opens a file.

mod elf;
mod go;
mod libuv;
mod source;

pub use go::{GoProgram, TABLE_SIZE, has_go_handlers};
pub use libuv::{handle_tree, has_libuv_handlers, listened};
pub use source::Source;

use crate::model::signal::SignalSet;

/// The signals that a program asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedSignals {
    /// The Go release that built it, 19 for 1.19.8; none if it is not known, or not Go.
    pub go_release: Option<u32>,
    /// The ones that reach the program.
    pub wanted: SignalSet,
    /// The ones that it had its runtime ignore.
    pub ignored: SignalSet,
}

/// Reason why it is not known which signals a program asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum MissingStep {
    /// Reading its memory takes the right to trace it.
    #[error("permission denied")]
    Denied,
    /// Something could not be read.
    #[error("{0}")]
    Unreadable(String),
    /// Its file or its memory made the reader wait.
    #[error("its program file or memory does not respond")]
    NoAnswer,
    /// It exited or executed another program in between.
    #[error("it changed while it was read")]
    Changed,
    /// Not a 64-bit ELF file for x86-64 or AArch64.
    #[error("its program file has an unknown format")]
    Format,
    /// No pclntab, or one from before Go 1.16.
    #[error("its program file has no function table of Go 1.16 or later")]
    NoFunctions,
    /// `signal_enable` is missing, but so may be other names (garble).
    #[error("the names of its functions are incomplete")]
    NamesChanged,
    /// No symbol `uv__signal_tree`.
    #[error("its program file is stripped")]
    NoSymbol,
    /// `signal_enable` is there, but not its code as it is known.
    #[error("its code is not that of a known version")]
    Code,
    /// The table contradicts itself or the signal dispositions.
    #[error("its table of signals is not plausible")]
    Implausible,
}
