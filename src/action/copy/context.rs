//! The two sides of one copy, its options and its account; and the translation of attributes from one side
//! to the other. Threads share a context.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;

use super::acl::Acl;
use super::copy_data::{CopiedData, CopyFailure};
use super::dead_end::DeadEnd;
use super::entry::EntryAttributes;
use super::error::{because, cannot_copy, cannot_write_copy, cut_stream, failure, text};
use super::event::EventSender;
use super::file_capability;
use super::metadata::{DroppedAttribute, Metadata};
use super::rootfs::{Node, Rootfs, pseudo_fs};
use super::write::{WriteOptions, WriteOutcome};
use crate::analysis::copy_rules::file_name;
use crate::error::Error;
use crate::model::account::{AccountEntry, Deviation};
use crate::sys::file::FileKind;

/// The deepest nesting of directories: a path with more names is longer than any path may be (PATH_MAX is
/// 4096, with the slashes).
pub const MAX_DEPTH: usize = 2048;
/// The longest path of a directory in a tree: each level of a walk has one.
pub const MAX_PATH: usize = 1 << 16;

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
    /// Whether there was an error that concerns all of the copy, and not one member.
    is_over: AtomicBool,
}

impl<'a> CopyContext<'a> {
    /// Creates a context.
    pub fn new(
        from: &'a Rootfs,
        to: &'a Rootfs,
        options: CopyOptions,
        events: &'a EventSender,
    ) -> Self {
        Self { from, to, options, events, is_over: AtomicBool::new(false) }
    }

    /// Returns an error that ends the copy: later members would fail, too, or be wrong.
    pub fn end(&self, error: Error) -> Error {
        self.is_over.store(true, Ordering::Relaxed);
        error
    }

    /// Goes on after a member that cannot be copied: the error is reported, and the copy fails in the
    /// end.
    ///
    /// # Errors
    /// The error ends the copy, or `strict` is set.
    pub fn member(&self, outcome: Result<(), Error>) -> Result<(), Error> {
        match outcome {
            Err(error) if !self.options.strict && !self.is_over.load(Ordering::Relaxed) => {
                self.events.failed(error);
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Adds an entry to the account of the copy.
    ///
    /// # Errors
    /// With `strict` the entry is an error.
    pub fn account(
        &self,
        deviation: Deviation,
        attribute: &str,
        sentence: impl Into<String>,
    ) -> Result<(), Error> {
        let sentence = sentence.into();
        if self.options.strict {
            return Err(failure("cannot copy everything".into())
                .cause(sentence)
                .hint("without --strict this is a warning, and the rest is copied"));
        }
        self.events.account(&AccountEntry::of_file(deviation, attribute, sentence));
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
        self.lost(name, dropped)?;
        let name = text(name);
        match outcome {
            WriteOutcome::Renamed => {}
            WriteOutcome::InPlace => self.account(
                Deviation::Changed,
                "bind mount overwritten in place",
                format!("`{name}` is a bind mount: overwritten in place"),
            )?,
            WriteOutcome::Kept => {
                let kept = format!("`{name}` exists: not overwritten");
                return self.account(Deviation::Skipped, "existing file", kept);
            }
        }
        self.events.add(1, 0);
        Ok(())
    }

    /// Reports attributes that a copy lacks.
    ///
    /// # Errors
    /// As [`Self::account`].
    pub fn lost(&self, name: &[u8], dropped: &[DroppedAttribute]) -> Result<(), Error> {
        for attribute in dropped {
            let lost = format!("`{}`: cannot keep its {}", text(name), attribute.name());
            self.account(Deviation::Lost, attribute.aspect(), lost)?;
        }
        Ok(())
    }

    /// Reports a file the size of which changed while it was read.
    ///
    /// # Errors
    /// As [`Self::account`].
    pub fn changed(&self, path: &[u8], copied: &CopiedData) -> Result<(), Error> {
        let Some(change) = copied.change() else { return Ok(()) };
        let change = format!("`{}{}` {change}", self.from.prefix, text(path));
        self.account(Deviation::Changed, "file that changed while it was read", change)
    }

    /// Whether a file is on a file system of the kernel: such a mount is copied only if its path is a
    /// source.
    ///
    /// # Errors
    /// As [`Self::account`].
    pub fn skip_pseudo(&self, node: &Node, path: &[u8]) -> Result<bool, Error> {
        let Some(name) = pseudo_fs(&node.fd) else { return Ok(false) };
        let skipped = format!("skipped `{}`: it is a {name} file system", text(path));
        self.account(Deviation::Skipped, &format!("{name} file system"), skipped)?;
        Ok(true)
    }

    /// Warns of a device, FIFO or socket that is not copied.
    ///
    /// # Errors
    /// As [`Self::account`].
    pub fn skip_special(&self, node: &Node, path: &[u8]) -> Result<(), Error> {
        let kind = special_kind(node);
        let skipped = format!("skipped `{}`: it is {kind}", text(path));
        self.account(Deviation::Skipped, kind, skipped)
    }

    /// Warns of a symlink that is not followed.
    ///
    /// # Errors
    /// As [`Self::account`].
    pub fn skip_dangling(&self, path: &[u8]) -> Result<(), Error> {
        if let Some(DeadEnd { words, kind, hint }) = self.from.dead_end(path) {
            let hint = hint.map_or_else(String::new, |hint| format!(": {hint}"));
            let skipped = format!("skipped `{}`: {words}{hint}", text(path));
            return self.account(Deviation::Skipped, &format!("link to a {kind}"), skipped);
        }
        let skipped = format!("skipped `{}`: dangling symlink", text(path));
        self.account(Deviation::Skipped, "dangling symlink", skipped)
    }

    /// Warns of a directory that is one of its own parents.
    ///
    /// # Errors
    /// As [`Self::account`].
    pub fn skip_loop(&self, path: &[u8]) -> Result<(), Error> {
        let skipped = format!("skipped `{}`: it leads back to a directory above it", text(path));
        self.account(Deviation::Skipped, "loop of directories", skipped)
    }

    /// Returns the error for a directory that is nested too deeply.
    pub fn too_deep(&self, path: &[u8]) -> Error {
        let start = &path[..path.len().min(80)];
        let limit = if path.len() > MAX_PATH {
            format!("a path of more than {MAX_PATH} bytes")
        } else {
            format!("more than {MAX_DEPTH} levels")
        };
        cannot_copy(self.from, start)
            .cause(format!("directories are nested too deeply ({limit})"))
            .hint("copy a directory below it")
    }

    /// Returns the error for a source that cannot be read.
    pub fn source_error(&self, path: &[u8], errno: Errno) -> Error {
        because(cannot_copy(self.from, path), errno)
    }

    /// Returns the error for a copy that cannot be written.
    pub fn target_error(&self, path: &[u8], errno: Errno) -> Error {
        let error = because(cannot_write_copy(self.from, path), errno);
        let name = file_name(path).unwrap_or_default();
        match errno {
            Errno::EINVAL | Errno::EILSEQ | Errno::ENAMETOOLONG | Errno::ENOENT
                if is_foreign_name(name, errno) =>
            {
                error.hint(format!(
                    "the destination file system does not allow the name `{}`",
                    text(name)
                ))
            }
            Errno::ENOSPC | Errno::EDQUOT | Errno::EMFILE | Errno::ENFILE => self.end(error),
            _ => error,
        }
    }

    /// Returns the file that a symlink leads to; none if it is dangling.
    ///
    /// # Errors
    /// As [`Rootfs::resolve`].
    pub fn follow(&self, path: &[u8]) -> Result<Option<Node>, Error> {
        let node = match self.from.resolve(path, true) {
            Ok(resolved) => resolved.node,
            Err(Errno::ENOENT | Errno::ENOTDIR) => None,
            Err(errno) => return Err(self.source_error(path, errno)),
        };
        Ok(node.filter(|node| node.kind() != FileKind::Symlink))
    }

    /// Returns the error for a file that was not copied.
    pub fn failure(&self, path: &[u8], failure: CopyFailure) -> Error {
        match failure {
            CopyFailure::Source(errno) => self.source_error(path, errno),
            CopyFailure::Target(errno) => self.target_error(path, errno),
            CopyFailure::Refused(error) => *error,
            CopyFailure::Cut => self.end(cut_stream(path)),
        }
    }

    /// Translates the attributes of a source to the metadata of its copy; also returns the attributes
    /// that have no counterpart on the other side.
    pub fn metadata(&self, entry: EntryAttributes) -> (Metadata, Vec<DroppedAttribute>) {
        let EntryAttributes { metadata: source, capability, unread: mut dropped } = entry;
        let (owner, is_known) = self.owner(source.owner);
        if !is_known {
            dropped.push(DroppedAttribute::Owner);
        }
        let mut translate = |acl: Option<Acl>| {
            let uid = |uid| self.to.visible_uid(uid);
            let translated = acl?.map_ids(uid, |gid| self.to.visible_gid(gid));
            if translated.is_none() {
                dropped.push(DroppedAttribute::Acl);
            }
            translated
        };
        let mut metadata = Metadata {
            mode: source.mode & self.mode_mask(),
            owner,
            access_acl: translate(source.access_acl),
            default_acl: translate(source.default_acl),
            is_exact: self.options.archive,
            ..source
        };
        if let Some(capability) = capability {
            match self.to.visible_uid(capability.root) {
                Some(root) => {
                    let value = capability.with_root(root).to_xattr();
                    metadata.xattrs.push((file_capability::NAME.to_vec(), value));
                }
                None => dropped.push(DroppedAttribute::Capabilities),
            }
        }
        (metadata, dropped)
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

/// Whether a name is probably the reason for an error: FAT, exFAT and CIFS do not have every byte, and some
/// mean that the file does not exist.
fn is_foreign_name(name: &[u8], errno: Errno) -> bool {
    let is_foreign = |byte: &u8| *byte < 0x20 || !byte.is_ascii() || b":*?\"<>|\\".contains(byte);
    errno == Errno::ENAMETOOLONG
        || name.iter().any(is_foreign)
        || name.ends_with(b".")
        || name.ends_with(b" ")
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
