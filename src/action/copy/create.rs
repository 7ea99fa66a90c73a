//! Creates one file, symlink, directory or hard link in a directory, and reports the attributes that it
//! lacks. No symlink there is followed: it may lead anywhere.

use std::fs::File;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};

use super::context::CopyContext;
use super::copy_data::Content;
use super::entry::EntryAttributes;
use super::error::cannot_write_copy;
use super::metadata::DroppedAttribute;
use super::obstacle::explain;
use super::sources::CopySource;
use super::write::{FileWriter, TargetDir, WriteOutcome, write_hard_link, write_symlink};
use crate::error::Error;
use crate::sys::fd;

/// Copies a regular file.
///
/// # Errors
/// It cannot be read or written.
pub fn copy_file(
    context: &CopyContext<'_>,
    entry: &CopySource,
    dir: &TargetDir,
) -> Result<WriteOutcome, Error> {
    let file = entry.node.open_to_read();
    let file = File::from(file.map_err(|errno| context.source_error(&entry.path, errno))?);
    let attributes = EntryAttributes::read(context.from, &entry.node, context.options.archive);
    context.to.as_writer(|| {
        write_file(context, &entry.path, dir, &entry.name, &mut Content::File(&file), attributes)
    })
}

/// Writes a file, from wherever its data comes.
///
/// # Errors
/// It cannot be read or written; the old file is then unchanged.
pub fn write_file(
    context: &CopyContext<'_>,
    path: &[u8],
    dir: &TargetDir,
    name: &[u8],
    content: &mut Content<'_>,
    attributes: EntryAttributes,
) -> Result<WriteOutcome, Error> {
    let (metadata, mut dropped) = context.metadata(attributes);
    let writer = FileWriter {
        metadata: &metadata,
        options: context.options.write,
        on_bytes: &|bytes| context.events.add(0, bytes),
        accept: &|copied| context.changed(path, copied),
    };
    let (outcome, refused) =
        writer.write(dir, name, content).map_err(|failure| context.failure(path, failure))?;
    dropped.extend(refused);
    let dropped = if outcome == WriteOutcome::Renamed { &*dropped } else { &[] };
    context.written(path, outcome, dropped)?;
    if outcome == WriteOutcome::Renamed && context.to.root.is_none() && metadata.is_privileged() {
        context.events.privileged(path);
    }
    Ok(outcome)
}

/// Copies a symlink as such.
///
/// # Errors
/// It cannot be read or written.
pub fn copy_symlink(
    context: &CopyContext<'_>,
    entry: &CopySource,
    dir: &TargetDir,
) -> Result<WriteOutcome, Error> {
    let target = entry.node.read_link();
    let target = target.map_err(|errno| context.source_error(&entry.path, errno))?;
    let attributes = EntryAttributes::read(context.from, &entry.node, context.options.archive);
    create_symlink(context, &entry.path, dir, &entry.name, &target, attributes)
}

/// Creates a symlink.
///
/// # Errors
/// It cannot be written.
pub fn create_symlink(
    context: &CopyContext<'_>,
    path: &[u8],
    dir: &TargetDir,
    name: &[u8],
    target: &[u8],
    attributes: EntryAttributes,
) -> Result<WriteOutcome, Error> {
    let (metadata, mut dropped) = context.metadata(attributes);
    let no_clobber = context.options.write.no_clobber;
    let (outcome, refused) = write_symlink(dir, name, target, &metadata, no_clobber)
        .map_err(|errno| no_symlink(context, path, target, errno))?;
    dropped.extend(refused);
    let dropped = if outcome == WriteOutcome::Renamed { &*dropped } else { &[] };
    context.written(path, outcome, dropped)?;
    Ok(outcome)
}

/// The shortest limit of a file system for the target of a symlink, XFS'.
const SHORTEST_LIMIT: usize = 1024;

/// Returns the error for a symlink that cannot be created: many file systems of other systems have none
/// (symlink(2): EPERM; FUSE: ENOSYS).
fn no_symlink(context: &CopyContext<'_>, path: &[u8], target: &[u8], errno: Errno) -> Error {
    const FOLLOW: &str = "`-L` copies the files that symlinks lead to";
    let error = cannot_write_copy(context.from, path);
    match errno {
        Errno::ENOSYS => {
            error.cause("the destination file system does not support symlinks").hint(FOLLOW)
        }
        Errno::EPERM => error
            .cause(errno.desc())
            .hint(format!("if the destination file system does not support symlinks, {FOLLOW}")),
        // (No name is as long as the target of a symlink may be.)
        Errno::ENAMETOOLONG if target.len() >= SHORTEST_LIMIT => {
            error.cause(errno.desc()).hint(format!(
                "its target has {} bytes; the most is 4095, on some file systems less",
                target.len()
            ))
        }
        errno => context.target_error(path, errno),
    }
}

/// Gives a file that was written one more name. Returns the reason if that was not possible; the loss of the
/// link is then reported.
///
/// # Errors
/// With `strict`, as [`CopyContext::account`].
pub fn create_hard_link(
    context: &CopyContext<'_>,
    path: &[u8],
    first: (&TargetDir, &[u8]),
    dir: &TargetDir,
    name: &[u8],
) -> Result<Result<WriteOutcome, Errno>, Error> {
    let (first_dir, first_name) = first;
    let no_clobber = context.options.write.no_clobber;
    match write_hard_link((first_dir.fd.as_fd(), first_name), dir, name, no_clobber) {
        Ok(outcome) => context.written(path, outcome, &[]).map(|()| Ok(outcome)),
        Err(errno) => {
            if is_unlinkable(errno) {
                context.lost(path, &[DroppedAttribute::HardLink])?;
            }
            Ok(Err(errno))
        }
    }
}

/// Whether a file system has no hard links, or no more of this file.
pub fn is_unlinkable(errno: Errno) -> bool {
    matches!(errno, Errno::EXDEV | Errno::EPERM | Errno::EMLINK | Errno::EOPNOTSUPP | Errno::ENOSYS)
}

/// Creates a directory, or takes the one that is there; returns it, and whether it is new.
///
/// # Errors
/// It cannot be created, or something else is there.
pub fn create_directory(
    context: &CopyContext<'_>,
    path: &[u8],
    parent: &TargetDir,
    name: &[u8],
) -> Result<(TargetDir, bool), Error> {
    let target_error = |errno| context.target_error(path, errno);
    let is_new = match mkdirat(&parent.fd, name, Mode::S_IRWXU) {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(errno) => return Err(target_error(errno)),
    };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let fd = fd::open_at(&parent.fd, name, flags).map_err(|errno| match errno {
        Errno::ENOTDIR | Errno::ELOOP => {
            explain(cannot_write_copy(context.from, path), context.to, &parent.fd, name)
        }
        errno => target_error(errno),
    })?;
    let dir = TargetDir::new(fd).map_err(target_error)?;
    if !is_new {
        dir.remove_stale_temp_files();
    }
    Ok((dir, is_new))
}
