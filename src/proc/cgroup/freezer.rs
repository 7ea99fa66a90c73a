//! The freezers of both cgroup versions: reading whether a cgroup is frozen, and the files that freeze
//! and thaw it.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::below::each_below;
use crate::model::cgroup::{Freezer, FreezerState, Memberships};
use crate::proc::host::Host;
use crate::proc::read::{ReadError, read_at_once};
use crate::sys::fd;

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
    /// force, including a frozen ancestor (cgroups v1 freezer-subsystem.txt, cgroup-v2.rst).
    pub fn frozen(&self, memberships: &Memberships) -> Freezer {
        let frozen = memberships.0.iter().filter_map(|cgroup| {
            let freezer = Freezer::of_hierarchy(&cgroup.controllers)?;
            let file = self.cgroup_dir(cgroup)?.join(state_file(freezer));
            is_frozen(fd::open(&file, OFlag::O_RDONLY).map(File::from)).then_some(freezer)
        });
        // v1's is the stronger.
        frozen.max().unwrap_or(Freezer::Thawed)
    }

    /// Whether this cgroup or one below it is frozen, in any hierarchy.
    pub fn is_frozen_within(&self, path: &[u8]) -> bool {
        self.hierarchies.iter().any(|hierarchy| {
            let Some(freezer) = Freezer::of_hierarchy(&hierarchy.controllers) else { return false };
            let Some(top) = hierarchy.dir_of(path) else { return false };
            let mut is_any = false;
            let _ = each_below(top, |dir, _| {
                is_any = is_frozen(dir.open(state_file(freezer)));
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

/// Whether that file shows a frozen cgroup.
fn is_frozen(file: Result<File, Errno>) -> bool {
    // (Done for every container: three system calls instead of the seven of std::fs::read.)
    let mut text = Vec::new();
    let read = file.map_err(ReadError::from);
    let read = read.and_then(|file| read_at_once(file, &mut text, 4096));
    read.is_ok() && FreezerState::parse(&text).is_frozen()
}
