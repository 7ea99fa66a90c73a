//! The explanation of a name at the destination that is not a directory, where one is needed. Nothing
//! there is removed, and advice to remove it is not given where it would destroy a container: `/lib` is a
//! symlink to `usr/lib` where `/usr` is merged.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;

use nix::fcntl::readlink;

use super::error::text;
use super::rootfs::{Node, Rootfs};
use crate::error::Error;
use crate::sys::fd;
use crate::sys::file::FileKind;

/// Adds cause and hint: `name` in this directory is not a directory.
pub fn explain(error: Error, to: &Rootfs, dir: &OwnedFd, name: &[u8]) -> Error {
    let path = path_of(to, dir).map(|path| join(&path, name));
    let shown = path.as_deref().unwrap_or(name);
    let link = Node::open(dir, name).ok().filter(|node| node.kind() == FileKind::Symlink);
    let target = link.and_then(|node| node.read_link().ok());
    let (Some(target), Some(path)) = (target, &path) else {
        return error
            .cause(format!("`{}` exists and is not a directory", text(shown)))
            .hint("remove it, or give another destination");
    };
    let cause = format!("`{}` is a symlink (to `{}`)", text(path), text(&target));
    let found = to.resolve(path, true).ok().and_then(|found| found.node);
    match found.filter(|node| node.kind() == FileKind::Directory) {
        Some(node) => {
            let leads_to = path_of(to, &node.fd).unwrap_or_else(|| path.clone());
            error.cause(format!("{cause}, and symlinks are not followed there")).hint(format!(
                "to copy into the directory that it leads to, give `{}{}/` as the destination",
                to.prefix,
                text(&leads_to)
            ))
        }
        None => error
            .cause(format!("{cause}, not a directory"))
            .hint("symlinks are not followed there; remove it, or give another destination"),
    }
}

/// Returns the path of a directory on its side, if it has one there.
fn path_of(to: &Rootfs, dir: &OwnedFd) -> Option<Vec<u8>> {
    // (For a mount of another namespace the kernel has the path from that namespace's root.)
    let path = readlink(fd::link(dir).as_str()).ok()?.into_vec();
    let node = to.resolve(&path, true).ok()?.node?;
    let expected = Node::from_fd(dir.try_clone().ok()?).ok()?;
    (node.id() == expected.id()).then_some(path)
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if dir.ends_with(b"/") { b"" } else { b"/" };
    [dir, slash, name].concat()
}
