//! PID namespaces as the kernel translates numbers of them (ioctl_ns(2), since Linux 6.11). Nothing here opens a file
//! of a container.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use procfs::process::Process as Handle;

use super::host::Host;
use super::read::{ReadError, thread_ids};
use crate::model::namespace::NamespaceId;
use crate::model::pid::{ContainerPid, HostPid};
use crate::sys;

impl Host {
    /// Whether a number in the PID namespace of an init is the TID of a thread, and not a PID. None if the kernel does
    /// not tell: before Linux 6.11, or without the right to read the namespace.
    pub fn is_thread(
        &self,
        init: HostPid,
        namespace: NamespaceId,
        number: ContainerPid,
    ) -> Option<bool> {
        self.may_act().ok()?;
        let ns = pid_namespace(self, init, namespace).ok()?;
        match sys::namespace::pid_from(&ns, number.get()) {
            Ok(tid) => {
                let tid = HostPid::new(tid)?;
                Some(self.process_of(tid).ok()? != tid)
            }
            Err(Errno::ESRCH) => Some(false),
            Err(_) => None,
        }
    }
}

/// Opens the PID namespace of an init, or none: its PID may have been reused.
pub(super) fn pid_namespace(
    host: &Host,
    init: HostPid,
    expected: NamespaceId,
) -> Result<File, ReadError> {
    let ns = File::from(namespace_of(host, &host.process(init)?)?);
    match ns.metadata().is_ok_and(|meta| meta.ino() == expected.0) {
        true => Ok(ns),
        false => Err(ReadError::Gone),
    }
}

/// Opens the PID namespace of a process. A main thread that has exited has none; the others have.
fn namespace_of(host: &Host, handle: &Handle) -> Result<OwnedFd, ReadError> {
    match host.namespace_file(handle, "pid") {
        Err(ReadError::Gone) => thread_ids(handle)?
            .into_iter()
            .find_map(|tid| Some(handle.open_relative(format!("task/{tid}/ns/pid")).ok()?.into()))
            .ok_or(ReadError::Gone),
        other => other,
    }
}
