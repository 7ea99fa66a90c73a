//! The user for file system access while something is written into a container whose user namespace this
//! process has joined. The caller need not have an ID there (that of an unprivileged LXC container maps
//! subordinate IDs alone): the kernel then refuses to create a file (EOVERFLOW), and elsewhere its owner
//! would be nobody. Reading the host's side takes the caller's own ID, to which a thread cannot go back,
//! since it has no number in the namespace: so a thread of its own writes.

use std::thread::Builder;

use nix::unistd::{setfsgid, setfsuid};

use super::error::failure;
use super::rootfs::Rootfs;
use crate::error::{Error, os_error};

impl Rootfs {
    /// Makes this thread write as the side's own user, if it has one that this process is not: for good.
    pub fn become_writer(&self) {
        if let Some((uid, gid)) = self.writer {
            setfsgid(gid.into());
            setfsuid(uid.into());
        }
    }

    /// Does something as the side's own user: in a thread of its own, if that is not ours (setfsuid(2) is of
    /// a thread).
    ///
    /// # Errors
    /// The errors of the work; the thread cannot be started.
    pub fn as_writer<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        if self.writer.is_none() {
            return work();
        }
        std::thread::scope(|scope| {
            let work = || {
                self.become_writer();
                work()
            };
            let thread = Builder::new().spawn_scoped(scope, work).map_err(|error| {
                failure("cannot start a thread that writes".into()).cause(os_error(error))
            })?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}
