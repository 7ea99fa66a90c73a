//! Lists a directory of a container for the completion of a path, in a child that is abandoned if the file
//! system does not respond.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::rootfs::Rootfs;
use crate::model::pid::ProcessId;
use crate::proc::Host;
use crate::sys::directory::DirEntries;
use crate::sys::file::FileKind;
use crate::sys::{fd, isolated};

/// The time that a user waits for a completion.
const TIMEOUT: Duration = Duration::from_millis(200);
/// The number of entries that are read.
const MAX_ENTRIES: usize = 100_000;
/// The number of names that are returned.
const MAX_NAMES: usize = 1000;
/// The size of the answer: a name has at most 255 bytes (NAME_MAX).
const MAX_ANSWER: usize = MAX_NAMES * 258;

/// Returns the names in a directory of a container that begin with `prefix`, sorted, each with whether it
/// is a directory or leads to one. Empty if the directory cannot be read in time.
pub fn names_in_container(
    host: &Host,
    init: ProcessId,
    dir: &[u8],
    prefix: &[u8],
) -> Vec<(Vec<u8>, bool)> {
    let child = isolated::start(|| list(host, init, dir, prefix).unwrap_or_default());
    let answer =
        child.ok().and_then(|mut child| child.finish(Instant::now() + TIMEOUT, MAX_ANSWER));
    let Some(answer) = answer else { return Vec::new() };
    let mut names: Vec<(Vec<u8>, bool)> = answer
        .split(|b| *b == 0)
        .filter_map(|entry| Some((entry.get(1..)?.to_vec(), entry.first() == Some(&b'/'))))
        .collect();
    names.sort();
    names
}

/// Returns each name between a slash or dot and a NUL. The root is opened before the process is verified,
/// so it is the root of that process.
fn list(host: &Host, init: ProcessId, dir: &[u8], prefix: &[u8]) -> Result<Vec<u8>, Errno> {
    let root = host.proc_path(format!("{}/root", init.pid));
    let root = fd::open(&root, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    if !host.exists(init) {
        return Err(Errno::ESRCH);
    }
    let root = host.root_of_container(init).unwrap_or(root);
    let rootfs = Rootfs { root: Some(root), ..Rootfs::host() };
    if rootfs.refuses_us() {
        // (A root that refuses even its own namespace has no names for us.)
        let _ = host.enter_user_namespace(init);
    }
    let is_directory = |name: &[u8]| {
        let resolved = rootfs.resolve(&[dir, b"/", name].concat(), true).ok();
        let node = resolved.and_then(|path| path.node);
        node.is_some_and(|node| node.kind() == FileKind::Directory)
    };
    let found = rootfs.resolve(&[dir, b"/"].concat(), true)?.node.ok_or(Errno::ENOENT)?;
    let (mut answer, mut count) = (Vec::new(), 0);
    for entry in DirEntries::list(&found.fd)?.take(MAX_ENTRIES) {
        let entry = entry?;
        let is_hidden = entry.name.starts_with(b".") && !prefix.starts_with(b".");
        if !entry.name.starts_with(prefix) || is_hidden {
            continue;
        }
        let is_directory = match entry.kind {
            Some(FileKind::Symlink) | None => is_directory(&entry.name),
            kind => kind == Some(FileKind::Directory),
        };
        answer.push(if is_directory { b'/' } else { b'.' });
        answer.extend(entry.name);
        answer.push(0);
        count += 1;
        if count == MAX_NAMES {
            break;
        }
    }
    Ok(answer)
}
