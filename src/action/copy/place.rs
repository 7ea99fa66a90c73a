//! Copies one source to the place that the rules gave it.

use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::context::CopyContext;
use super::dir_sink::DirSink;
use super::error::cannot_copy;
use super::rootfs::{Node, ResolvedPath, duplicate};
use super::sources::CopySource;
use super::walk::walk;
use super::workers::with_workers;
use super::write::TargetDir;
use crate::analysis::copy_rules::Placement;
use crate::error::Error;
use crate::sys::file::{FileId, FileKind};

/// Copies one source to where the rules put it.
///
/// # Errors
/// At the first file that cannot be copied.
pub fn copy_source(
    context: &CopyContext<'_>,
    mut source: CopySource,
    placement: Placement,
    destination: &ResolvedPath,
) -> Result<(), Error> {
    let dir = match (&destination.node, placement) {
        (Some(dir), Placement::Into | Placement::Merge) => &dir.fd,
        _ => {
            source.name.clone_from(&destination.name);
            &destination.dir
        }
    };
    let source_error = |errno| context.source_error(&source.path, errno);
    // The copy would contain itself, without end.
    if source.node.kind() == FileKind::Directory
        && is_within(dir, source.node.id()).map_err(source_error)?
    {
        return Err(cannot_copy(context.from, &source.path)
            .cause("a directory cannot be copied into itself")
            .hint("give a destination outside of it"));
    }
    let dir = TargetDir::duplicate(dir).map_err(source_error)?;
    with_workers(context, |pool, queue| {
        let mut sink = DirSink::new(context, pool, queue);
        let dir = sink.destination(dir);
        walk(context, &mut sink, dir, source, placement == Placement::Merge)?;
        sink.flush();
        Ok(())
    })
}

/// Whether a directory is the one with this identity, or is below it.
fn is_within(dir: &OwnedFd, id: FileId) -> Result<bool, Errno> {
    let mut node = Node::from_fd(duplicate(dir)?)?;
    loop {
        if node.id() == id {
            return Ok(true);
        }
        let parent = Node::open(&node.fd, b"..")?;
        if parent.id() == node.id() {
            return Ok(false);
        }
        node = parent;
    }
}
