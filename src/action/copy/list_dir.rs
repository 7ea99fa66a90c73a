//! The names in a folder of a container, for who completes a path. Read in a child that is left behind
//! when the file system does not answer.

use std::time::{Duration, Instant};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, openat};
use rustix::io::Errno;

use super::rootfs::Rootfs;
use crate::model::pid::ProcessId;
use crate::proc::Host;
use crate::sys::isolated;

/// What one may wait for a prompt.
const PATIENCE: Duration = Duration::from_millis(200);
/// More entries than are looked through.
const MAX_ENTRIES: usize = 100_000;
/// More than anybody chooses from.
const MAX_NAMES: usize = 1000;
/// A name has at most 255 bytes (NAME_MAX).
const MAX_ANSWER: usize = MAX_NAMES * 258;

/// The names in `folder`, beneath the root of a process, that begin so, sorted; and whether each is a
/// folder or leads to one. None where nothing can be read.
pub fn names_inside(
    host: &Host,
    init: ProcessId,
    folder: &[u8],
    begins: &[u8],
) -> Vec<(Vec<u8>, bool)> {
    let child = isolated::start(|| read(host, init, folder, begins).unwrap_or_default());
    let Ok(child) = child else { return Vec::new() };
    let Some(bytes) = child.finish(Instant::now() + PATIENCE, MAX_ANSWER) else {
        return Vec::new();
    };
    let mut names: Vec<(Vec<u8>, bool)> = bytes
        .split(|b| *b == 0)
        .filter_map(|entry| Some((entry.get(1..)?.to_vec(), entry.first() == Some(&b'/'))))
        .collect();
    names.sort();
    names
}

/// Each with a slash or a dot before it and a NUL behind. The root is opened before the process is
/// confirmed: so it is of that one.
fn read(host: &Host, init: ProcessId, folder: &[u8], begins: &[u8]) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, host.proc_path(format!("{}/root", init.pid)), flags, Mode::empty())?;
    if host.stat(init.pid).map(|stat| stat.start) != Ok(init.start) {
        return Err(Errno::SRCH);
    }
    let place = Rootfs { root: Some(root), ..Rootfs::here() };
    let spot = place.find(&[folder, b"/"].concat(), true)?;
    let Some(found) = spot.found else { return Err(Errno::NOENT) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = openat(&found.fd, c".", flags, Mode::empty())?;
    let mut out = Vec::new();
    let mut names = 0;
    for entry in Dir::new(listed)?.take(MAX_ENTRIES) {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let hidden = name.starts_with(b".") && !begins.starts_with(b".");
        if !name.starts_with(begins) || hidden || name == b"." || name == b".." {
            continue;
        }
        let is_folder = match entry.file_type() {
            FileType::Directory => true,
            FileType::Symlink | FileType::Unknown => {
                let path = [folder, b"/", name].concat();
                let led = place.find(&path, true).ok().and_then(|spot| spot.found);
                led.is_some_and(|node| node.kind() == FileType::Directory)
            }
            _ => false,
        };
        out.push(if is_folder { b'/' } else { b'.' });
        out.extend(name);
        out.push(0);
        names += 1;
        if names == MAX_NAMES {
            break;
        }
    }
    Ok(out)
}
