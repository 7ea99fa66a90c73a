//! The only reader of `/proc`, the cgroup tree and the engines' files. What it returns is owned and
//! stays still: nobody goes back to the kernel for a second look but `act`, to confirm.

mod cgroup;
mod container_fs;
mod exec_facts;
mod host;
mod inspect;
mod signal_waiters;
mod snapshot;
mod survey;
mod trusted_fs;

pub use cgroup::{CgroupTree, FreezerFile, LiveCgroup};
pub use container_fs::{ContainerFs, ContainerQuery};
pub use exec_facts::ExecFacts;
pub use host::{ForeignProcfs, Host};
pub use inspect::{InspectFacts, LimitedValue, ResourceUsage};
pub use snapshot::{CommandLimit, SnapshotOptions, ThreadsToo};
pub use survey::{ProcessSummary, Survey};
pub use trusted_fs::{StateDir, StateFile, Trust};

/// Why a fact could not be had. They are never mixed: only `Gone` removes a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The process or file left (ENOENT, ESRCH).
    #[error("gone")]
    Gone,
    /// We may not read it (EACCES, EPERM).
    #[error("permission denied")]
    Denied,
    /// We have too many files open (EMFILE, ENFILE): nothing is said about the fact at all.
    #[error("too many open files")]
    Exhausted,
    /// It cannot be read or understood; the text says why, without its content.
    #[error("{0}")]
    Broken(String),
}

impl From<std::io::Error> for ReadError {
    fn from(error: std::io::Error) -> Self {
        use nix::libc::{EACCES, EMFILE, ENFILE, ENOENT, ENOTDIR, EPERM, ESRCH};
        match error.raw_os_error() {
            Some(ENOENT | ESRCH | ENOTDIR) => Self::Gone,
            Some(EACCES | EPERM) => Self::Denied,
            Some(EMFILE | ENFILE) => Self::Exhausted,
            _ => Self::Broken(crate::error::os_error(error)),
        }
    }
}

impl From<nix::errno::Errno> for ReadError {
    fn from(errno: nix::errno::Errno) -> Self {
        std::io::Error::from(errno).into()
    }
}

impl From<rustix::io::Errno> for ReadError {
    fn from(error: rustix::io::Errno) -> Self {
        std::io::Error::from(error).into()
    }
}

impl From<procfs::ProcError> for ReadError {
    fn from(error: procfs::ProcError) -> Self {
        match error {
            procfs::ProcError::NotFound(_) => Self::Gone,
            procfs::ProcError::PermissionDenied(_) => Self::Denied,
            procfs::ProcError::Io(error, _) => error.into(),
            other => Self::Broken(other.to_string()),
        }
    }
}
