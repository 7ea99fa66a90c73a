//! The context that a command runs in: the two streams and the host root. Commands depend on this file
//! and not on the rest of `cli`, which depends on them.

use std::path::PathBuf;

use crate::error::{Error, ExitStatus, os_error};
use crate::output::terminal::{Ui, is_broken_pipe};
use crate::proc::{ForeignProcfs, Host};

/// The context of a command.
pub struct Context {
    /// The two streams.
    pub ui: Ui,
    host_root: PathBuf,
}

impl Context {
    /// Creates a context for the host whose file system is mounted at `host_root`.
    pub fn new(ui: Ui, host_root: PathBuf) -> Self {
        Self { ui, host_root }
    }

    /// Opens the host, and warns of conditions that limit the answers.
    ///
    /// # Errors
    /// There is no `/proc` to read.
    pub fn host(&self) -> Result<Host, Error> {
        let host = Host::new(&self.host_root).map_err(|error| {
            let message = format!("cannot read the host at `{}`", self.host_root.display());
            Error::new(ExitStatus::Failed, message)
                .cause(error.to_string())
                .hint("mount a proc file system at its `proc` directory")
        })?;
        if !host.has_cgroups() {
            self.ui.warn(
                "no cgroup hierarchy is mounted at /sys/fs/cgroup: containers are identified by PID namespace only",
            );
        }
        // The kernel translates PIDs in cgroup files to the reader's namespace, and those in this
        // /proc to another.
        if let Err(why @ ForeignProcfs::OtherNamespace(_)) = host.may_act() {
            self.ui.warn(&format!(
                "{why}: containers may be missing or shown with wrong processes; run cinspect in the host's PID namespace (`--pid=host`, `hostPID: true`)"
            ));
        }
        Ok(host)
    }

    /// Returns the same context for a refresh: nothing is printed on stderr again.
    #[must_use]
    pub fn quiet(&self) -> Self {
        Self { ui: self.ui.silenced(), host_root: self.host_root.clone() }
    }

    /// Writes to stdout.
    ///
    /// # Errors
    /// Writing to stdout fails; a closed pipe is not an error.
    pub fn print(&self, text: &str) -> Result<(), Error> {
        print(&self.ui, text)
    }
}

/// Writes to stdout.
///
/// # Errors
/// Writing fails; a closed pipe is not an error.
pub fn print(ui: &Ui, text: &str) -> Result<(), Error> {
    match ui.out(text) {
        Err(error) if !is_broken_pipe(&error) => {
            Err(Error::new(ExitStatus::Failed, "cannot write to stdout").cause(os_error(error)))
        }
        _ => Ok(()),
    }
}
