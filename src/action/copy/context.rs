//! The two sides of one copy, its options and its reports; and the copying of one file or symlink between
//! them. Threads share a context.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;

use super::copy_data::Content;
use super::error::{because, cannot_copy, cannot_write_copy, failure, text};
use super::event::EventSender;
use super::metadata::{DroppedAttribute, Metadata};
use super::rootfs::{Node, Rootfs, pseudo_fs};
use super::write::{self, TargetDir, WriteOptions, WriteOutcome};
use crate::error::Error;
use crate::sys::file::{FileKind, xattrs};

/// The deepest nesting of directories: a path with more names is longer than any path may be (PATH_MAX is
/// 4096, with the slashes).
pub const MAX_DEPTH: usize = 2048;

/// The options of a copy.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyOptions {
    /// Keep owners, all permission bits and extended attributes.
    pub archive: bool,
    /// Copy the files that symlinks lead to.
    pub follow: bool,
    /// Owner and group of everything that is written, as this process sees IDs.
    pub owner: Option<(u32, u32)>,
    /// Treat a warning as an error.
    pub strict: bool,
    /// How files are written.
    pub write: WriteOptions,
}

/// A copy from one side to another.
#[derive(Debug)]
pub struct CopyContext<'a> {
    /// The side that is read.
    pub from: &'a Rootfs,
    /// The side that is written.
    pub to: &'a Rootfs,
    /// Its options.
    pub options: CopyOptions,
    /// The receiver of its events.
    pub events: &'a EventSender,
    /// The kinds of warnings that were sent.
    warned: Mutex<BTreeSet<&'static str>>,
}

impl<'a> CopyContext<'a> {
    /// Creates a context.
    pub fn new(
        from: &'a Rootfs,
        to: &'a Rootfs,
        options: CopyOptions,
        events: &'a EventSender,
    ) -> Self {
        Self { from, to, options, events, warned: Mutex::default() }
    }

    /// Sends a warning, the first of each kind only.
    ///
    /// # Errors
    /// With `strict` the warning is an error.
    pub fn warn(&self, kind: &'static str, text: impl Into<String>) -> Result<(), Error> {
        if self.options.strict {
            return Err(failure("cannot copy everything".into())
                .cause(text)
                .hint("without --strict this is a warning, and the rest is copied"));
        }
        let is_first = self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(kind);
        if is_first {
            self.events.warn(text.into());
        }
        Ok(())
    }

    /// Reports a file, symlink or directory that was written.
    ///
    /// # Errors
    /// With `strict`: an attribute was dropped, or the file was kept or overwritten in place.
    pub fn written(
        &self,
        name: &[u8],
        outcome: WriteOutcome,
        dropped: &[DroppedAttribute],
    ) -> Result<(), Error> {
        self.events.add(1, 0);
        for attribute in dropped.iter().map(|attribute| attribute.name()) {
            let warning = format!("`{}`: cannot keep its {attribute}", text(name));
            self.warn(attribute, format!("{warning} (others are not reported)"))?;
        }
        match outcome {
            WriteOutcome::Renamed => Ok(()),
            WriteOutcome::InPlace => self.warn(
                "in place",
                format!("`{}` is a bind mount: overwritten in place", text(name)),
            ),
            WriteOutcome::Kept => {
                self.warn("kept", format!("`{}` exists: not overwritten", text(name)))
            }
        }
    }

    /// Whether a file is on a file system of the kernel: such a mount is copied only if its path is a
    /// source.
    ///
    /// # Errors
    /// As [`Self::warn`].
    pub fn skip_pseudo(&self, node: &Node, path: &[u8]) -> Result<bool, Error> {
        let Some(name) = pseudo_fs(&node.fd) else { return Ok(false) };
        self.warn(name, format!("skipped `{}`: it is a {name} file system", text(path)))?;
        Ok(true)
    }

    /// Warns of a device, FIFO or socket that is not copied.
    ///
    /// # Errors
    /// As [`Self::warn`].
    pub fn skip_special(&self, node: &Node, path: &[u8]) -> Result<(), Error> {
        let kind = special_kind(node);
        self.warn(kind, format!("skipped `{}`: it is {kind} (others are not reported)", text(path)))
    }

    /// Warns of a symlink that is not followed.
    ///
    /// # Errors
    /// As [`Self::warn`].
    pub fn skip_dangling(&self, path: &[u8]) -> Result<(), Error> {
        self.warn("dangling", format!("skipped `{}`: dangling symlink", text(path)))
    }

    /// Warns of a directory that is one of its own parents.
    ///
    /// # Errors
    /// As [`Self::warn`].
    pub fn skip_loop(&self, path: &[u8]) -> Result<(), Error> {
        self.warn(
            "loop",
            format!("skipped `{}`: it leads back to a directory above it", text(path)),
        )
    }

    /// Returns the error for a directory that is nested too deeply.
    pub fn too_deep(&self, path: &[u8]) -> Error {
        let start = &path[..path.len().min(80)];
        cannot_copy(self.from, start)
            .cause(format!("directories are nested too deeply (more than {MAX_DEPTH} levels)"))
            .hint("copy a directory further down")
    }

    /// Returns the error for a source that cannot be read.
    pub fn source_error(&self, path: &[u8], errno: Errno) -> Error {
        because(cannot_copy(self.from, path), errno)
    }

    /// Returns the error for a copy that cannot be written.
    pub fn target_error(&self, path: &[u8], errno: Errno) -> Error {
        because(cannot_write_copy(self.from, path), errno)
    }

    /// Returns the file that a symlink leads to; none if it is dangling.
    ///
    /// # Errors
    /// As [`Rootfs::resolve`].
    pub fn follow(&self, path: &[u8]) -> Result<Option<Node>, Error> {
        let resolved = self.from.resolve(path, true);
        let node = resolved.map_err(|errno| self.source_error(path, errno))?.node;
        Ok(node.filter(|node| node.kind() != FileKind::Symlink))
    }

    /// Copies a regular file.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn copy_file(
        &self,
        path: &[u8],
        node: &Node,
        dir: &TargetDir,
        name: &[u8],
    ) -> Result<(), Error> {
        let file = node.open_to_read().map_err(|errno| self.source_error(path, errno))?;
        let file = File::from(file);
        let (metadata, mut dropped) = self.metadata(node, Some(&file));
        let content = &mut Content::File(&file);
        let on_bytes = &|bytes| self.events.add(0, bytes);
        let (outcome, refused) =
            write::write_file(dir, name, content, &metadata, self.options.write, on_bytes)
                .map_err(|errno| self.target_error(path, errno))?;
        dropped.extend(refused);
        self.written(name, outcome, &dropped)
    }

    /// Copies a symlink as such.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn copy_symlink(
        &self,
        path: &[u8],
        node: &Node,
        dir: &TargetDir,
        name: &[u8],
    ) -> Result<(), Error> {
        let target = node.read_link().map_err(|errno| self.source_error(path, errno))?;
        let (metadata, mut dropped) = self.metadata(node, None);
        let no_clobber = self.options.write.no_clobber;
        let (outcome, refused) = write::write_symlink(dir, name, &target, &metadata, no_clobber)
            .map_err(|errno| self.target_error(path, errno))?;
        dropped.extend(refused);
        self.written(name, outcome, &dropped)
    }

    /// Returns the metadata of a copy, and the attributes that have no counterpart on the other side.
    pub fn metadata(
        &self,
        node: &Node,
        opened: Option<&File>,
    ) -> (Metadata, Vec<DroppedAttribute>) {
        let attributes = &node.attributes;
        let ids = self.from.container_ids(attributes.uid, attributes.gid);
        let (owner, is_known) = self.owner(ids);
        let xattrs = opened.filter(|_| self.options.archive).map(xattrs).unwrap_or_default();
        let mode = attributes.mode & self.mode_mask();
        let metadata = Metadata { mode, owner, modified: Some(attributes.modified), xattrs };
        (metadata, if is_known { Vec::new() } else { vec![DroppedAttribute::Owner] })
    }

    /// Returns the owner of a copy, given the owner that the source has in its container; and whether it
    /// is the one that was asked for.
    pub fn owner(&self, source: Option<(u32, u32)>) -> (Option<(u32, u32)>, bool) {
        match self.options {
            CopyOptions { owner: Some(owner), .. } => (Some(owner), true),
            CopyOptions { archive: true, .. } => {
                let owner = source.and_then(|(uid, gid)| self.to.visible_ids(uid, gid));
                (owner.or(self.to.default_owner()), owner.is_some())
            }
            _ => (self.to.default_owner(), true),
        }
    }

    /// Returns the permission bits that are kept.
    pub fn mode_mask(&self) -> u32 {
        if self.options.archive { 0o7777 } else { 0o777 }
    }
}

/// Returns the type of a file that is not copied, in words.
pub fn special_kind(node: &Node) -> &'static str {
    match node.kind() {
        FileKind::Fifo => "a FIFO",
        FileKind::Socket => "a socket",
        FileKind::Device => "a device",
        _ => "not a file, directory or symlink",
    }
}
