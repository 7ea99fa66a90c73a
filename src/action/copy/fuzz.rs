//! Entries for fuzzing: whole tar streams, read and unpacked, and the attributes in them.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use super::acl::Acl;
use super::context::{CopyContext, CopyOptions};
use super::event::{CopyEvent, EventSender};
use super::file_capability::FileCapability;
use super::rootfs::Rootfs;
use super::tar;
use crate::model::fuzz::FuzzTarget;
use crate::sys::isolated::{self, Inherit};

/// The entries of this module.
pub const TARGETS: &[FuzzTarget] =
    &[("tar_reader", tar::fuzz::read_stream), ("attributes_of_files", attributes)];

fn attributes(bytes: &[u8]) {
    if let Some(acl) = Acl::from_xattr(bytes) {
        assert_eq!(Acl::from_xattr(&acl.to_xattr()), Some(acl.clone()));
        assert_eq!(acl.mode_with(0o7777) & !0o7777, 0);
    }
    let id = |_: bool, name: &[u8]| name.first().map(|byte| u32::from(*byte));
    let _ = Acl::parse(bytes, &id).map(|acl| acl.to_text());
    if let Some(capability) = FileCapability::from_xattr(bytes) {
        assert!(FileCapability::from_xattr(&capability.with_root(7).to_xattr()).is_some());
    }
}

/// Unpacks a stream into a directory, in a child process as a copy does, and returns whether all of it was
/// unpacked; none if the child did not answer.
pub fn unpack(bytes: &[u8], directory: &Path, archive: bool) -> Option<bool> {
    let target = OwnedFd::from(std::fs::File::open(directory).ok()?);
    let root = Rootfs::host();
    let options = CopyOptions { archive, ..CopyOptions::default() };
    let work = |messages| {
        let events = EventSender::new(messages);
        let context = CopyContext::new(&root, &root, options, &events);
        tar::unpack(&context, bytes, target).is_ok()
    };
    isolated::run(Inherit::Everything, Duration::from_secs(20), work, |_: CopyEvent| ()).ok()
}
