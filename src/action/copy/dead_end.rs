//! Links that lead to no file: to a pipe or socket of a process, as the logs of many images do by way of
//! `/dev/stdout`. Only for messages.

use super::error::text;
use super::rootfs::{MAX_SYMLINKS, Rootfs, pseudo_fs};
use crate::sys::file::FileKind;

/// The end of a chain of links.
#[derive(Debug, PartialEq, Eq)]
pub struct DeadEnd {
    /// Where it leads, in words.
    pub words: String,
    /// The kind of end, in words.
    pub kind: &'static str,
    /// How to read the bytes that are written to it.
    pub hint: Option<String>,
}

/// Links in `/dev` to descriptors of the process that reads them.
const DESCRIPTORS: &[&[u8]] = &[b"/dev/stdin", b"/dev/stdout", b"/dev/stderr", b"/dev/fd/"];

impl Rootfs {
    /// Returns the end of the links that a path leads through, if that is not a file.
    pub fn dead_end(&self, path: &[u8]) -> Option<DeadEnd> {
        self.root.as_ref()?;
        let mut path = if path.starts_with(b"/") { path.to_owned() } else { [b"/", path].concat() };
        let mut by_name = None;
        for _ in 0..MAX_SYMLINKS {
            if DESCRIPTORS.iter().any(|name| path.starts_with(name)) {
                by_name.get_or_insert(path.clone());
            }
            let node = self.resolve(&path, false).ok().and_then(|found| found.node);
            let Some(node) = node else {
                // Nothing is mounted on `/proc` in the files on disk.
                let is_stored = self.self_pid.is_none() && path.starts_with(b"/proc/");
                let words = "which exists only while the container runs";
                return is_stored.then(|| self.dead_end_at(by_name, &path, "process", words));
            };
            if node.kind() != FileKind::Symlink {
                return None;
            }
            let target = node.read_link().ok()?;
            if pseudo_fs(&node.fd) == Some("proc")
                && let Some((kind, words)) = kind_of(&target)
            {
                return Some(self.dead_end_at(by_name, &path, kind, words));
            }
            path = match path.iter().rposition(|b| *b == b'/') {
                Some(slash) if !target.starts_with(b"/") => [&path[..=slash], &target].concat(),
                _ => target,
            };
        }
        None
    }

    fn dead_end_at(
        &self,
        by_name: Option<Vec<u8>>,
        path: &[u8],
        kind: &'static str,
        words: &str,
    ) -> DeadEnd {
        let is_own = |number: u8| {
            let number = format!("/fd/{number}");
            path.ends_with(number.as_bytes()) && self.is_of_init(path)
        };
        let words =
            if kind == "pipe" && (is_own(1) || is_own(2)) { "a pipe of the engine" } else { words };
        let output = by_name.as_deref().is_some_and(|name| name != b"/dev/stdin");
        let hint = self.logs.clone().filter(|_| output || is_own(1) || is_own(2));
        let words = format!("it leads to `{}`, {words}", text(by_name.as_deref().unwrap_or(path)));
        DeadEnd { words, kind, hint }
    }

    /// Whether the path of a descriptor is of the process that the container was entered by.
    fn is_of_init(&self, path: &[u8]) -> bool {
        if path.starts_with(b"/dev/fd/") {
            return true;
        }
        let owner = path.strip_prefix(b"/proc/").and_then(|rest| rest.split(|b| *b == b'/').next());
        let pid = self.self_pid.map(|pid| pid.to_string());
        owner
            .is_some_and(|owner| owner == b"self" || pid.is_some_and(|pid| pid.as_bytes() == owner))
    }
}

/// Returns the kind of object that a link of `/proc/PID/fd` refers to, which has no path
/// (proc_pid_fd(5)), and the words for it.
fn kind_of(target: &[u8]) -> Option<(&'static str, &'static str)> {
    if target.starts_with(b"pipe:[") {
        return Some(("pipe", "a pipe"));
    }
    if target.starts_with(b"socket:[") {
        return Some(("socket", "a socket"));
    }
    if target.starts_with(b"anon_inode:") || target.contains(&b'[') && !target.starts_with(b"/") {
        return Some(("descriptor", "which is not a file"));
    }
    target.ends_with(b" (deleted)").then_some(("deleted file", "a file that was removed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_descriptors_are_distinguished_from_paths() {
        for (target, kind) in [
            ("pipe:[1234]", Some("pipe")),
            ("socket:[1]", Some("socket")),
            ("anon_inode:[eventpoll]", Some("descriptor")),
            ("/tmp/x (deleted)", Some("deleted file")),
            ("/var/log/app.log", None),
            ("/dev/null", None),
            ("/dev/pts/0", None),
        ] {
            assert_eq!(kind_of(target.as_bytes()).map(|(kind, _)| kind), kind, "{target}");
        }
    }
}
