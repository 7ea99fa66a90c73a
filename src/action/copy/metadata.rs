//! The metadata of a copy: owner, mode, extended attributes and times, and which of them could not be
//! kept.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, UtimensatFlags, fchmod, fstat, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};

use crate::sys::file::set_xattr;

/// The metadata that a copy gets.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// Permission bits.
    pub mode: u32,
    /// Owner and group as this process sees IDs; none to leave those that the file was created with.
    pub owner: Option<(u32, u32)>,
    /// Time of the last modification in seconds and nanoseconds; none for now.
    pub modified: Option<(i64, u32)>,
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An attribute that could not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DroppedAttribute {
    /// Owner and group.
    Owner,
    /// Permission bits.
    Mode,
    /// Times.
    Times,
    /// Extended attributes, file capabilities among them.
    Xattrs,
}

impl DroppedAttribute {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Mode => "permissions",
            Self::Times => "times",
            Self::Xattrs => "extended attributes",
        }
    }
}

/// Applies metadata to an open file; returns the attributes that the file system refused. The owner comes
/// first: changing it clears setuid bits and file capabilities (chown(2)).
pub fn apply_metadata(file: BorrowedFd<'_>, metadata: &Metadata) -> Vec<DroppedAttribute> {
    let mut dropped = Vec::new();
    if let Some((uid, gid)) = metadata.owner {
        let is_owner = || fstat(file).is_ok_and(|stat| (stat.st_uid, stat.st_gid) == (uid, gid));
        if fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).is_err() && !is_owner()
        {
            dropped.push(DroppedAttribute::Owner);
        }
    }
    // A setuid bit is meant for that owner alone.
    let mode = if dropped.is_empty() { metadata.mode } else { metadata.mode & 0o777 };
    if fchmod(file, Mode::from_bits_truncate(mode)).is_err() {
        dropped.push(DroppedAttribute::Mode);
    }
    if metadata.xattrs.iter().any(|(name, value)| set_xattr(file, name, value).is_err()) {
        dropped.push(DroppedAttribute::Xattrs);
    }
    if let Some(time) = metadata.modified.map(timespec)
        && futimens(file, &time, &time).is_err()
    {
        dropped.push(DroppedAttribute::Times);
    }
    dropped
}

/// Applies owner and times to a symlink.
pub fn apply_symlink_metadata(
    dir: BorrowedFd<'_>,
    name: &[u8],
    metadata: &Metadata,
) -> Vec<DroppedAttribute> {
    let mut dropped = Vec::new();
    if let Some((uid, gid)) = metadata.owner {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        if fchownat(dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).is_err() {
            dropped.push(DroppedAttribute::Owner);
        }
    }
    if let Some(time) = metadata.modified {
        // A file system without times of symlinks is not worth a warning.
        let _ = set_time(dir, name, time);
    }
    dropped
}

/// Sets the time of a file in a directory, of a symlink its own.
///
/// # Errors
/// See utimensat(2).
pub fn set_time(dir: impl AsFd, name: &[u8], time: (i64, u32)) -> Result<(), Errno> {
    let time = timespec(time);
    utimensat(dir, name, &time, &time, UtimensatFlags::NoFollowSymlink)
}

fn timespec((seconds, nanoseconds): (i64, u32)) -> TimeSpec {
    TimeSpec::new(seconds, nanoseconds.into())
}
