//! Why a copy ends, in words: at what, why, and what would work.

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::rootfs::Rootfs;

/// Why a copy ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyError {
    /// At what; empty where it is no path's fault.
    pub path: String,
    /// Why.
    pub why: String,
    /// What would work.
    pub hint: Option<String>,
    /// Whether it is for want of a right.
    pub denied: bool,
}

/// A path for people; made safe where it is printed.
pub fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

impl CopyError {
    /// At a path, for a reason in words.
    pub fn new(path: &[u8], why: impl ToString) -> Self {
        Self { path: text(path), why: why.to_string(), hint: None, denied: false }
    }

    /// What would work.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What the kernel said of a path.
    pub fn at(path: &[u8], errno: Errno) -> Self {
        let (why, hint) = match errno {
            Errno::NOENT => ("no such file or folder", ""),
            Errno::NOTDIR => ("a part of the path is no folder", ""),
            Errno::ISDIR => {
                ("a folder stands there", "give the name of a file in it, or take it away")
            }
            Errno::LOOP => {
                ("too many links, one after the other", "give the path that they stand for")
            }
            Errno::ACCESS | Errno::PERM => (
                "not permitted",
                "run as root, or as the user who may; a file that is immutable (lsattr) nobody may",
            ),
            Errno::ROFS => (
                "the file system is read-only there",
                "copy to a volume or tmpfs of the container, or start it with one there",
            ),
            Errno::NOSPC => (
                "no space is left",
                "the old file is whole; make room, or copy to another file system",
            ),
            Errno::DQUOT => (
                "the quota is used up",
                "the old file is whole; take files away, or raise the quota",
            ),
            Errno::BUSY => {
                ("something is mounted there", "copy to what is mounted there by another path")
            }
            Errno::EXIST => ("source and target are one file", ""),
            Errno::NOTSUP => (
                "it is no file, folder or link",
                "give the name of a file, or of a folder that it is to go into",
            ),
            Errno::OVERFLOW => (
                "its owner has no number in the container's user namespace",
                "name one with --chown that the container has",
            ),
            Errno::MFILE | Errno::NFILE => {
                ("too many files are open", "raise the limit (ulimit -n)")
            }
            errno => return Self::new(path, errno),
        };
        let denied = matches!(errno, Errno::ACCESS | Errno::PERM);
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        Self { path: text(path), why: why.into(), hint, denied }
    }

    /// The same where it is the target that does not take what is at this path.
    pub fn at_target(path: &[u8], errno: Errno) -> Self {
        let failed = Self::at(path, errno);
        Self { why: format!("at the target, {}", failed.why), ..failed }
    }

    /// What the kernel said of a path of one side; of one that is missing, how far it is there.
    pub fn of(place: &Rootfs, path: &[u8], errno: Errno) -> Self {
        let failed = Self::at(path, errno).named(place);
        if errno != Errno::NOENT {
            return failed;
        }
        let parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
        // What is there of it ends before the first part that is not.
        let there = (1..parts.len()).rev().map(|end| (end, parts[..end].join(&b'/')));
        let there = there
            .filter(|(_, above)| !above.is_empty())
            .find(|(_, above)| place.find(above, true).is_ok_and(|spot| spot.found.is_some()));
        match there {
            Some((end, there)) if !parts[end].is_empty() => failed.hint(format!(
                "`{}{}` is there; `{}` is not in it",
                place.name,
                text(&there),
                text(parts[end])
            )),
            _ if place.root.is_some() => failed.hint("a path in a container begins at its root"),
            _ => failed,
        }
    }

    /// With the side that the path is of before it.
    #[must_use]
    pub fn named(mut self, place: &Rootfs) -> Self {
        self.path.insert_str(0, &place.name);
        self
    }
}
