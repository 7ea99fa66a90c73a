//! The metadata of a copy in the terms of the side that is written, and the attributes that the file
//! system did not keep. A call that succeeds is not proof: owner, mode and times are read back.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, Mode, UtimensatFlags, fchmod, fstat, fstatat, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};

use super::acl::{ACCESS_ACL, Acl, DEFAULT_ACL};
use super::error::text;
use super::file_capability;
use crate::sys::file::{remove_xattr, set_link_xattr, set_xattr, xattr};

/// Seconds since the epoch, which may be negative, and nanoseconds after them.
pub type FileTime = (i64, u32);

/// The metadata of a file, in the terms of one side; of a copy, in the IDs that this process sees.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// Permission bits; of the group those that it has without the access control list.
    pub mode: u32,
    /// Owner and group; none to leave those that the file was created with.
    pub owner: Option<(u32, u32)>,
    /// Time of the last modification; none for now.
    pub modified: Option<FileTime>,
    /// Time of the last access; none to leave it.
    pub accessed: Option<FileTime>,
    /// Extended attributes, file capabilities among them.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Access control list.
    pub access_acl: Option<Acl>,
    /// Access control list of new files in a directory.
    pub default_acl: Option<Acl>,
    /// Whether lists that the directory gave to the new file are removed.
    pub is_exact: bool,
}

impl Metadata {
    /// Sets the permission bits for a copy without this access control list. The group of a list that is not
    /// understood gets none.
    pub fn set_mode_without(&mut self, acl: Option<&Acl>) {
        self.mode = acl.map_or(self.mode & !0o070, |acl| acl.mode_without(self.mode));
    }

    /// Whether a program with it runs with other rights than its caller's.
    pub fn is_privileged(&self) -> bool {
        let has_capabilities = || self.xattrs.iter().any(|(name, _)| name == file_capability::NAME);
        self.mode & 0o6000 != 0 || has_capabilities()
    }
}

/// An attribute that could not be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DroppedAttribute {
    /// Owner and group.
    Owner,
    /// Permission bits.
    Mode,
    /// Times.
    Times,
    /// One extended attribute, by its name.
    Xattr(String),
    /// All extended attributes.
    Xattrs,
    /// An access control list.
    Acl,
    /// File capabilities.
    Capabilities,
    /// The label of a security module or a signature of the file, by the name of the attribute: the
    /// target's system sets it.
    Label(String),
    /// Holes: the copy takes the space of the whole file.
    Holes,
    /// A hard link: the copy is a file of its own.
    HardLink,
    /// Flags such as `immutable` (chattr(1)), as the stream spells them.
    Flags(String),
}

impl DroppedAttribute {
    /// Returns the kind of an extended attribute.
    pub fn xattr(name: &[u8]) -> Self {
        match name {
            super::file_capability::NAME => Self::Capabilities,
            ACCESS_ACL | DEFAULT_ACL => Self::Acl,
            _ if is_label(name) => Self::Label(text(name)),
            _ => Self::Xattr(text(name)),
        }
    }

    /// Returns the kind of attribute, by which losses are counted.
    pub fn aspect(&self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Mode => "permissions",
            Self::Times => "times",
            Self::Xattr(_) | Self::Xattrs => "extended attributes",
            Self::Acl => "access control list",
            Self::Capabilities => "file capabilities",
            Self::Label(_) => "security label",
            Self::Holes => "holes",
            Self::HardLink => "hard link",
            Self::Flags(_) => "file flags",
        }
    }

    /// Returns its name in messages.
    pub fn name(&self) -> String {
        match self {
            Self::Xattr(name) => format!("extended attribute `{name}`"),
            Self::Label(name) => format!("security label `{name}`"),
            Self::Flags(flags) => format!("file flags `{flags}`"),
            _ => self.aspect().to_owned(),
        }
    }
}

/// Whether an extended attribute is set by the system that a file is on: a label that another host's
/// policy gave would deny access here, and a signature is of one inode.
fn is_label(name: &[u8]) -> bool {
    const LABELS: [&[u8]; 3] = [b"security.selinux", b"security.evm", b"security.ima"];
    LABELS.contains(&name) || name.starts_with(b"security.SMACK64")
}

/// Applies metadata to an open file; returns the attributes that the file system did not keep. The owner
/// comes first: changing it clears setuid bits and file capabilities (chown(2)).
pub fn apply_metadata(file: BorrowedFd<'_>, metadata: &Metadata) -> Vec<DroppedAttribute> {
    let mut dropped = Vec::new();
    if let Some((uid, gid)) = metadata.owner {
        let _ = fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    }
    if metadata.is_exact {
        let _ = remove_xattr(file, ACCESS_ACL);
        let _ = remove_xattr(file, DEFAULT_ACL);
    }
    // A setuid bit is meant for that owner alone.
    let is_owned = fstat(file).is_ok_and(|stat| has_owner(&stat, metadata.owner));
    let mut mode = if is_owned { metadata.mode } else { metadata.mode & 0o777 };
    let _ = fchmod(file, Mode::from_bits_truncate(mode));
    if let Some(acl) = &metadata.access_acl {
        match set_xattr(file, ACCESS_ACL, &acl.to_xattr()) {
            Ok(()) => mode = acl.mode_with(mode),
            Err(_) => dropped.push(DroppedAttribute::Acl),
        }
    }
    if let Some(acl) = &metadata.default_acl
        && set_xattr(file, DEFAULT_ACL, &acl.to_xattr()).is_err()
    {
        dropped.push(DroppedAttribute::Acl);
    }
    for (name, value) in &metadata.xattrs {
        let is_kept = match is_label(name) {
            true => xattr(file, name).is_ok_and(|label| label.as_ref() == Some(value)),
            false => set_xattr(file, name, value).is_ok(),
        };
        if !is_kept {
            dropped.push(DroppedAttribute::xattr(name));
        }
    }
    let _ = futimens(file, &timespec(metadata.accessed), &timespec(metadata.modified));
    let stat = fstat(file);
    dropped.extend(stat.map_or_else(|_| Vec::new(), |stat| differences(&stat, metadata, mode)));
    dropped
}

/// Applies owner, extended attributes and times to a symlink.
pub fn apply_symlink_metadata(
    dir: BorrowedFd<'_>,
    name: &[u8],
    metadata: &Metadata,
) -> Vec<DroppedAttribute> {
    if let Some((uid, gid)) = metadata.owner {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        let _ = fchownat(dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW);
    }
    let mut dropped = Vec::new();
    for (attribute, value) in &metadata.xattrs {
        if is_label(attribute) || set_link_xattr(dir, name, attribute, value).is_err() {
            dropped.push(DroppedAttribute::xattr(attribute));
        }
    }
    let _ = set_times(dir, name, metadata);
    if let Ok(stat) = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        // A symlink has no permissions of its own.
        dropped.extend(differences(&stat, metadata, stat.st_mode));
    }
    dropped
}

/// Sets the times of a file in a directory, of a symlink its own.
///
/// # Errors
/// See utimensat(2).
fn set_times(dir: impl AsFd, name: &[u8], metadata: &Metadata) -> Result<(), Errno> {
    let (accessed, modified) = (timespec(metadata.accessed), timespec(metadata.modified));
    utimensat(dir, name, &accessed, &modified, UtimensatFlags::NoFollowSymlink)
}

/// Compares a file with its metadata and mode.
fn differences(stat: &FileStat, metadata: &Metadata, mode: u32) -> Vec<DroppedAttribute> {
    let mut different = Vec::new();
    if !has_owner(stat, metadata.owner) {
        different.push(DroppedAttribute::Owner);
    }
    if (stat.st_mode ^ mode) & 0o7777 != 0 || (metadata.mode ^ mode) & 0o7000 != 0 {
        different.push(DroppedAttribute::Mode);
    }
    let is = |seconds: i64, nanoseconds: i64, wanted: Option<FileTime>| {
        wanted.is_none_or(|(s, n)| (seconds, nanoseconds) == (s, i64::from(n)))
    };
    if !is(stat.st_mtime, stat.st_mtime_nsec, metadata.modified)
        || !is(stat.st_atime, stat.st_atime_nsec, metadata.accessed)
    {
        different.push(DroppedAttribute::Times);
    }
    different
}

fn has_owner(stat: &FileStat, owner: Option<(u32, u32)>) -> bool {
    owner.is_none_or(|owner| (stat.st_uid, stat.st_gid) == owner)
}

fn timespec(time: Option<FileTime>) -> TimeSpec {
    match time {
        Some((seconds, nanoseconds)) => TimeSpec::new(seconds, nanoseconds.into()),
        None => TimeSpec::UTIME_OMIT,
    }
}
