//! The freezers of both cgroup versions: reading whether a cgroup is frozen, and the files that freeze
//! and thaw it.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::below::{MAX_BELOW, each_below, has_no_directory};
use crate::model::cgroup::{Cgroup, Freezer, FreezerState, Memberships};
use crate::model::pid::HostPid;
use crate::proc::host::Host;
use crate::proc::read::{ReadError, read_at_once};
use crate::sys::fd;

/// Bytes of a path that are opened at once: half of a page, so that the mount point and the file's name fit too.
const LONGEST_KNOWN: usize = 2048;

/// The file that freezes and thaws a cgroup, open for writing.
pub struct FreezerFile {
    file: File,
    frozen: &'static str,
    thawed: &'static str,
}

impl FreezerFile {
    /// Freezes or thaws. Freezing takes the kernel some time after this returns.
    ///
    /// # Errors
    /// As write(2).
    pub fn set(&self, frozen: bool) -> std::io::Result<()> {
        let word = if frozen { self.frozen } else { self.thawed };
        (&self.file).write_all(word.as_bytes())
    }
}

impl AsFd for FreezerFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Host {
    /// Returns the freezer that keeps a process in these cgroups frozen. The files show the state in
    /// force, including a frozen ancestor (cgroups v1 freezer-subsystem.txt, cgroup-v2.rst). Unknown without
    /// memberships: the kernel shows none where a path is longer than a page.
    pub fn frozen(&self, memberships: &Memberships) -> Freezer {
        if memberships.0.is_empty() && self.has_cgroups() {
            return Freezer::Unknown;
        }
        let frozen = memberships.0.iter().filter_map(|cgroup| {
            let freezer = Freezer::of_hierarchy(&cgroup.controllers)?;
            let path = known_part(&cgroup.path);
            let known = Cgroup { path: path.to_owned(), ..cgroup.clone() };
            match is_frozen_by(&self.cgroup_dir(&known)?, freezer) {
                Some(true) => Some(freezer),
                Some(false) if known == *cgroup => None,
                // A cgroup further below may be frozen by itself.
                _ => Some(Freezer::Unknown),
            }
        });
        // v1's is the stronger.
        frozen.max().unwrap_or(Freezer::Thawed)
    }

    /// Returns the freezers of a container's processes, of those that are frozen or may be. Reads the
    /// processes, and not the cgroups below the container's, which may be any number.
    pub fn freezers(&self, own: Option<&Cgroup>, pids: &[HostPid]) -> HashMap<HostPid, Freezer> {
        if own.is_some_and(|own| !self.may_be_frozen_within(&own.path)) {
            return HashMap::new();
        }
        let mut known: HashMap<Memberships, Freezer> = HashMap::new();
        let freezer = |pid: &HostPid| {
            let freezer = match self.memberships(*pid) {
                Ok(read) => match known.get(&read) {
                    Some(freezer) => *freezer,
                    None => *known.entry(read).or_insert_with_key(|read| self.frozen(read)),
                },
                Err(ReadError::Gone) => return None,
                Err(_) => Freezer::Unknown,
            };
            (freezer != Freezer::Thawed).then_some((*pid, freezer))
        };
        pids.iter().filter_map(freezer).collect()
    }

    /// Whether this cgroup is frozen, or has others below it, in any hierarchy: a few calls say that nothing in
    /// most containers is frozen.
    fn may_be_frozen_within(&self, path: &[u8]) -> bool {
        self.hierarchies.iter().any(|hierarchy| {
            let Some(freezer) = Freezer::of_hierarchy(&hierarchy.controllers) else { return false };
            let Some(dir) = hierarchy.dir_of(path) else { return false };
            is_frozen_by(&dir, freezer) != Some(false)
                || std::fs::metadata(&dir).is_ok_and(|meta| !has_no_directory(meta.nlink()))
        })
    }

    /// Whether this cgroup is frozen, with all below it, in any hierarchy.
    pub fn is_frozen(&self, path: &[u8]) -> bool {
        self.hierarchies.iter().any(|hierarchy| {
            let Some(freezer) = Freezer::of_hierarchy(&hierarchy.controllers) else { return false };
            let Some(dir) = hierarchy.dir_of(path) else { return false };
            is_frozen_by(&dir, freezer) == Some(true)
        })
    }

    /// Whether this cgroup or one below it is frozen, in any hierarchy.
    pub fn is_frozen_within(&self, path: &[u8]) -> bool {
        self.hierarchies.iter().any(|hierarchy| {
            let Some(freezer) = Freezer::of_hierarchy(&hierarchy.controllers) else { return false };
            let Some(top) = hierarchy.dir_of(path) else { return false };
            let mut is_any = false;
            let _ = each_below(top, MAX_BELOW, |dir, _| {
                is_any = read_state(dir.open(state_file(freezer))) == Some(true);
                !is_any
            });
            is_any
        })
    }

    /// Opens the files that freeze a cgroup, in every hierarchy with a freezer.
    pub fn freezer_files(&self, path: &[u8]) -> Vec<FreezerFile> {
        let opened = self.hierarchies.iter().filter_map(|hierarchy| {
            let (name, frozen, thawed) = match Freezer::of_hierarchy(&hierarchy.controllers)? {
                Freezer::V2 => ("cgroup.freeze", "1", "0"),
                _ => ("freezer.state", "FROZEN", "THAWED"),
            };
            let path = hierarchy.dir_of(path)?.join(name);
            let file = std::fs::OpenOptions::new().write(true).open(path).ok()?;
            Some(FreezerFile { file, frozen, thawed })
        });
        opened.collect()
    }
}

/// Returns the name of the file that shows whether a cgroup is frozen.
fn state_file(freezer: Freezer) -> &'static str {
    if freezer == Freezer::V2 { "cgroup.events" } else { "freezer.state" }
}

/// Whether a cgroup with this directory is frozen; none if that cannot be read.
fn is_frozen_by(dir: &Path, freezer: Freezer) -> Option<bool> {
    read_state(fd::open(&dir.join(state_file(freezer)), OFlag::O_RDONLY).map(File::from))
}

/// Whether that file shows a frozen cgroup; none if it cannot be read. The root has no such file, and a cgroup
/// without it has been removed.
fn read_state(file: Result<File, Errno>) -> Option<bool> {
    // (Done for every container: three system calls instead of the seven of std::fs::read.)
    let mut text = Vec::new();
    let read = file.map_err(ReadError::from);
    match read.and_then(|file| read_at_once(file, &mut text, 4096)) {
        Ok(()) => Some(FreezerState::parse(&text).is_frozen()),
        Err(ReadError::Gone) => Some(false),
        Err(_) => None,
    }
}

/// Returns the part of a cgroup's path that is known and that can be opened. Linux 6.18 cuts a path longer than
/// a page in `/proc/PID/cgroup`, perhaps in the middle of a name; and below the mount point the kernel takes less
/// than a page.
fn known_part(path: &[u8]) -> &[u8] {
    if path.len() <= LONGEST_KNOWN {
        return path;
    }
    let end = path[..LONGEST_KNOWN].iter().rposition(|byte| *byte == b'/');
    &path[..end.unwrap_or(0)]
}
