//! Runs a command in a container. A helper process enters it; cinspect itself stays outside with its
//! terminal, puts the helper's child into the container's cgroups, and relays streams and signals. The
//! steps are in `session`, those of the helper in `helper`.

mod cgroups;
mod errors;
mod events;
mod helper;
mod outside;
mod protocol;
mod relay;
mod session;
mod streams;
mod terminal;
mod tools;

use std::ffi::OsStr;

pub use events::ExecEvent;
pub use session::{ExecOutcome, ExecRequest, Session};
pub use terminal::terminal_size;
pub use tools::Tools;

/// Runs as the helper, if this process was started as one; does not return then.
pub fn run_if_helper(name: Option<&OsStr>) {
    if name.is_some_and(|name| name == protocol::HELPER) {
        crate::sys::memory::set_status(125);
        crate::sys::process::exit_now(helper::main());
    }
}
