//! The errors of a copy: which path of which side failed, errno in its own words, and a hint for those
//! that an operator meets.

use nix::errno::Errno;

use super::rootfs::Rootfs;
use crate::analysis::copy_rules::is_directory_path;
use crate::error::{Error, ExitStatus, os_error};
use crate::model::bytes::message_text;

/// Returns a path as text; whatever prints it escapes it.
pub fn text(path: &[u8]) -> String {
    message_text(path).into_owned()
}

/// Returns an error without a cause: the source at this path cannot be copied.
pub fn cannot_copy(from: &Rootfs, path: &[u8]) -> Error {
    failure(format!("cannot copy `{}{}`", from.prefix, text(path)))
}

/// Returns an error without a cause: nothing can be copied to this path.
pub fn cannot_copy_to(to: &Rootfs, path: &[u8]) -> Error {
    failure(format!("cannot copy to `{}{}`", to.prefix, text(path)))
}

/// Returns an error without a cause: the source at this path was read, its copy cannot be written.
pub fn cannot_write_copy(from: &Rootfs, path: &[u8]) -> Error {
    failure(format!("cannot write the copy of `{}{}`", from.prefix, text(path)))
}

/// Returns the error for a stream that cannot be read further.
pub fn broken_stream(cause: &str) -> Error {
    failure("cannot read the tar stream".into()).cause(cause)
}

/// Returns the error for a stream that ends within or after a member.
pub fn cut_stream(path: &[u8]) -> Error {
    let cause = match path {
        b"" => "it ends within its first header".to_owned(),
        path => format!("it was cut off in `{}` or right after it", text(path)),
    };
    broken_stream(&cause)
        .hint("the program that writes it has failed; an old file of that name is unchanged")
}

/// Returns an error without a cause.
pub fn failure(message: String) -> Error {
    Error::new(ExitStatus::Failed, message)
}

/// Sets errno as the cause, with a hint.
pub fn because(mut error: Error, errno: Errno) -> Error {
    if matches!(errno, Errno::EACCES | Errno::EPERM) {
        error.status = ExitStatus::NotPermitted;
    }
    let cause = match errno {
        SAME_FILE => "source and destination are the same file".into(),
        SPECIAL_FILE => "not a regular file, directory or symlink".into(),
        errno => os_error(errno),
    };
    let error = error.cause(cause);
    match hint(errno) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// The code for a source and a destination that are one file.
pub const SAME_FILE: Errno = Errno::EEXIST;
/// The code for a device, FIFO or socket.
pub const SPECIAL_FILE: Errno = Errno::ENOTSUP;

fn hint(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::EISDIR => "give the name of a file in that directory, or remove it first",
        Errno::ELOOP => "give the path without symlinks",
        Errno::EACCES | Errno::EPERM => {
            "run as root or as the owner; an immutable file (lsattr) cannot be changed by anyone"
        }
        Errno::EROFS => {
            "copy to a volume or tmpfs of the container, or start the container with one mounted there"
        }
        Errno::ENOSPC => "the old file is unchanged; free space, or copy to another file system",
        Errno::EDQUOT => "the old file is unchanged; remove files, or raise the quota",
        Errno::EBUSY => "something is mounted there; copy to it by another path",
        SPECIAL_FILE => "a device, FIFO or socket has that name: give another one",
        Errno::EOVERFLOW => {
            "the owner has no ID in the container's user namespace; give one that has with --chown"
        }
        Errno::EMFILE | Errno::ENFILE => "raise the limit of open files (ulimit -n)",
        _ => return None,
    })
}

/// Sets errno as the cause for a path that was not resolved; for a missing one, the hint is the part of
/// it that exists.
pub fn because_unresolved(error: Error, rootfs: &Rootfs, path: &[u8], errno: Errno) -> Error {
    let error = because(error, errno);
    if errno == Errno::ENOTDIR && is_directory_path(path) {
        return error.hint("remove the slash or `/.` after the file's name");
    }
    if errno != Errno::ENOENT {
        return error;
    }
    if let Some(end) = rootfs.dead_end(path) {
        return end.hint.into_iter().fold(error.cause(end.words), Error::hint);
    }
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
    let parents = (1..parts.len()).rev().map(|end| (end, parts[..end].join(&b'/')));
    let existing = parents
        .filter(|(_, parent)| !parent.is_empty())
        .find(|(_, parent)| rootfs.resolve(parent, true).is_ok_and(|path| path.node.is_some()));
    match existing {
        Some((end, parent)) if !parts[end].is_empty() => {
            let missing = parts[..=end].join(&b'/');
            error.hint(match link_target(rootfs, &missing) {
                Some(target) => format!(
                    "`{}{}` is a symlink to `{}`, which does not exist",
                    rootfs.prefix,
                    text(&missing),
                    text(&target)
                ),
                None => format!(
                    "`{}{}` exists, but has no `{}`",
                    rootfs.prefix,
                    text(&parent),
                    text(parts[end])
                ),
            })
        }
        _ if rootfs.root.is_some() => error.hint("a path in a container starts at its root"),
        _ => error,
    }
}

/// Returns the target of a symlink, if one is at this path.
fn link_target(rootfs: &Rootfs, path: &[u8]) -> Option<Vec<u8>> {
    rootfs.resolve(path, false).ok()?.node?.read_link().ok()
}
