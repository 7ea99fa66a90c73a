//! The sources of a copy: patterns are expanded, paths resolved, and bytes counted for the progress bar.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use super::context::MAX_DEPTH;
use super::error::{because_unresolved, cannot_copy};
use super::event::EventSender;
use super::rootfs::{Node, Rootfs, pseudo_fs};
use crate::analysis::copy_rules::{NamePattern, file_name, is_directory_path, is_pattern};
use crate::error::Error;
use crate::model::bytes::message_text;
use crate::sys::directory::DirEntries;
use crate::sys::file::{FileId, FileKind};

/// The time after which the bytes in directories are counted: a copy that is done by then needs no bar.
const COUNT_AFTER: Duration = Duration::from_millis(800);

/// A source of a copy.
pub struct CopySource {
    /// Its path as it was typed, or a match of a pattern.
    pub path: Vec<u8>,
    /// Its file name.
    pub name: Vec<u8>,
    /// The file.
    pub node: Node,
}

/// Resolves a path to a source that exists.
///
/// # Errors
/// It does not exist or cannot be reached.
pub fn find_source(from: &Rootfs, path: &[u8], follow: bool) -> Result<CopySource, Error> {
    let failed = |errno| because_unresolved(cannot_copy(from, path), from, path, errno);
    let follow = follow || is_directory_path(path);
    let resolved = from.resolve(path, follow).map_err(failed)?;
    let node = resolved.node.ok_or_else(|| failed(Errno::ENOENT))?;
    if is_directory_path(path) && node.kind() != FileKind::Directory {
        return Err(failed(Errno::ENOTDIR));
    }
    // A root or a dot has no file name; a symlink that was followed keeps its own.
    let name = file_name(path).map_or(resolved.name, <[u8]>::to_vec);
    Ok(CopySource { path: path.to_owned(), name, node })
}

/// Resolves a path to the one source of a tar stream: patterns are not expanded.
///
/// # Errors
/// As [`find_source`].
pub fn find_single_source(from: &Rootfs, path: &[u8], follow: bool) -> Result<CopySource, Error> {
    find_source(from, path, follow).map_err(|error| {
        match expand(from, path).is_ok_and(|paths| *paths != [path]) {
            true => cannot_copy(from, path)
                .cause("patterns are not expanded for a tar stream, which has one source")
                .hint("name the file, or copy the directory that contains the files"),
            false => error,
        }
    })
}

/// Returns the paths that match a pattern. Only in a container: on the host the shell expands them.
///
/// # Errors
/// No path matches, or a directory cannot be read.
pub fn expand(from: &Rootfs, path: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let failed = |errno| because_unresolved(cannot_copy(from, path), from, path, errno);
    matches(from, path, true).map_err(failed)
}

/// Returns a sentence about a path, given its expansion, that is both the name of a file and a pattern of others: it
/// was taken for the name, which any process in the container may have made.
pub fn literal_pattern(from: &Rootfs, path: &[u8], expansion: &[Vec<u8>]) -> Option<String> {
    let is_literal = *expansion == [path];
    if !is_literal || !path.split(|b| *b == b'/').any(is_pattern) || from.root.is_none() {
        return None;
    }
    let pattern = matches(from, path, false).ok()?;
    let others = pattern.iter().filter(|other| *other != path).count();
    (others > 0).then(|| {
        let path = message_text(path);
        format!(
            "`{}{path}` is the name of a file, which alone is copied; as a pattern it would match {others} more",
            from.prefix
        )
    })
}

/// Expands a path; one that exists is taken literally if `literal` is set.
fn matches(from: &Rootfs, path: &[u8], literal: bool) -> Result<Vec<Vec<u8>>, Errno> {
    let exists = |path: &[u8]| from.resolve(path, false).is_ok_and(|path| path.node.is_some());
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
    let pattern = parts.iter().position(|part| is_pattern(part));
    let Some(first) = pattern.filter(|_| from.root.is_some() && !(literal && exists(path))) else {
        return Ok(vec![path.to_owned()]);
    };
    let parent = [parts[..first].join(&b'/'), b"/".to_vec()].concat();
    let node = from.resolve(&parent, true)?.node.ok_or(Errno::ENOENT)?;
    let pattern = NamePattern::new(parts[first]);
    let mut names = Vec::new();
    for entry in DirEntries::new(node.open_to_read()?)? {
        names.extend(Some(entry?.name).filter(|name| pattern.matches(name)));
    }
    names.sort();
    let rest: Vec<u8> = parts[first + 1..].iter().flat_map(|part| [b"/", *part].concat()).collect();
    let mut paths = Vec::new();
    for name in names {
        let next = [&*parent, &name, &rest].concat();
        // (The last name of a match is not a pattern again, whatever it looks like.)
        match rest.is_empty() {
            true => paths.push(next),
            false => paths.extend(matches(from, &next, literal).unwrap_or_default()),
        }
    }
    paths.retain(|path| exists(path));
    if paths.is_empty() { Err(Errno::ENOENT) } else { Ok(paths) }
}

/// Counts the bytes to copy and reports the total: of files at once, of directories in a thread of its
/// own, if the copy takes longer. A source that is missing is reported when it is copied.
pub fn count_bytes(sources: &[(&Rootfs, Vec<u8>)], follow: bool, events: &Arc<EventSender>) {
    let nodes: Option<Vec<Node>> = sources
        .iter()
        .map(|(from, path)| find_source(from, path, follow).ok().map(|source| source.node))
        .collect();
    let Some(nodes) = nodes else { return };
    if nodes.iter().all(|node| node.kind() == FileKind::Regular) {
        events.set_total(nodes.iter().map(|node| node.attributes.size).sum());
        return;
    }
    let events = Arc::clone(events);
    // It is not waited for: the end of the process ends it. Without a thread no total is shown.
    let _ = std::thread::Builder::new().spawn(move || {
        std::thread::sleep(COUNT_AFTER);
        events.set_total(nodes.into_iter().map(|node| size(node).unwrap_or(0)).sum());
    });
}

/// Returns the bytes of a file, or of all files below a directory. Hard links are counted once.
fn size(node: Node) -> Result<u64, Errno> {
    let open = |node: &Node| Ok((DirEntries::new(node.open_to_read()?)?, node.mount()));
    match node.kind() {
        FileKind::Directory => {}
        FileKind::Regular => return Ok(node.attributes.size),
        _ => return Ok(0),
    }
    let (mut sum, mut levels) = (0, vec![open(&node)?]);
    let mut linked: HashSet<FileId> = HashSet::new();
    loop {
        let depth = levels.len();
        let Some((entries, mount)) = levels.last_mut() else { return Ok(sum) };
        let Some(Ok(entry)) = entries.next() else {
            levels.pop();
            continue;
        };
        let Ok(node) = Node::open(&*entries, &entry.name) else { continue };
        let attributes = &node.attributes;
        match node.kind() {
            FileKind::Regular if attributes.links == 1 || linked.insert(node.id()) => {
                sum += attributes.size;
            }
            FileKind::Directory if depth < MAX_DEPTH => {
                let is_copied = node.mount() == *mount || pseudo_fs(&node.fd).is_none();
                levels.extend(Some(&node).filter(|_| is_copied).and_then(|node| open(node).ok()));
            }
            _ => {}
        }
    }
}
