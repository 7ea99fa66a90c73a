//! Unpauses a paused container, and freezes one while it is killed. Only the freezer of the container's
//! own cgroup is written, after it was verified that the cgroup still is the container's.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use super::send::{HeldProcess, hold};
use crate::analysis::selection::Criteria;
use crate::error::os_error;
use crate::model::pid::HostPid;
use crate::proc::{FreezerFile, SnapshotOptions};
use crate::resolve::ResolvedContainer;
use crate::sys::guardian::Guardian;

/// How long freezing may take; a container that takes longer is killed while it runs.
const FREEZE_TIMEOUT: Duration = Duration::from_millis(500);

/// Unpauses a container.
///
/// # Errors
/// The reason, in a sentence.
pub fn unpause(found: &ResolvedContainer<'_>) -> Result<(), String> {
    let host = found.host;
    let Some(cgroup) = found.container.cgroup.as_ref().filter(|_| found.container.init.is_some())
    else {
        return Err(
            "it has no cgroup of its own; only the program that froze it can thaw it".into()
        );
    };
    let held = hold_any(found);
    let Some(files) = freezer_files(found, &Vec::from_iter(held.as_ref())) else {
        return Err("its init has exited or left its cgroup".into());
    };
    for file in files {
        file.set(false).map_err(os_error)?;
    }
    if host.is_frozen_within(&cgroup.path) {
        return Err("a cgroup above or below its own is frozen, too".into());
    }
    Ok(())
}

/// Opens the freezer files of the container's cgroup. They are opened first: the check of the init that
/// follows, or of another process of it that is held, proves that they are the right ones.
fn freezer_files(found: &ResolvedContainer<'_>, held: &[&HeldProcess]) -> Option<Vec<FreezerFile>> {
    let host = found.host;
    let cgroup = found.container.cgroup.as_ref()?;
    let init = found.container.init?;
    let files = host.freezer_files(&cgroup.path);
    let is_member = |pid: HostPid| host.is_in_cgroup(pid, cgroup);
    let by_init = || host.exists(init) && is_member(init.pid);
    let by_other = || held.iter().any(|process| is_member(process.pid()) && !process.has_exited());
    (by_init() || by_other()).then_some(files)
}

/// Holds a process of a container that has lost its init: it proves in the init's place which cgroup is the
/// container's.
fn hold_any(found: &ResolvedContainer<'_>) -> Option<HeldProcess> {
    if !found.container.has_lost_init {
        return None;
    }
    let snapshot = found.snapshot(SnapshotOptions::BARE).ok()?;
    let mut processes = snapshot.processes.iter();
    processes.find_map(|process| hold(found, process, None, Criteria::default()).ok())
}

/// A container that we have frozen, until this is dropped. Meanwhile signals that would end us are
/// blocked, and a guardian thaws it after SIGKILL, so that it does not stay frozen.
pub struct FreezeGuard {
    files: Vec<FreezerFile>,
    mask: Option<SigSet>,
    /// Thaws it if we are killed; ended after the files are thawed.
    _guardian: Guardian,
}

impl FreezeGuard {
    /// Freezes a container, of which these processes are held, so that they cannot fork. Returns `None` if
    /// that fails or takes too long, or if something else has frozen the container and has to thaw it.
    pub fn freeze(found: &ResolvedContainer<'_>, held: &[&HeldProcess]) -> Option<Self> {
        let host = found.host;
        let cgroup = found.container.cgroup.as_ref()?;
        if found.container.user.is_some() || host.is_frozen_within(&cgroup.path) {
            return None;
        }
        let files = freezer_files(found, held).filter(|files| !files.is_empty())?;
        // First of all: nothing is frozen that would stay so.
        let fds: Vec<RawFd> = files.iter().map(|file| file.as_fd().as_raw_fd()).collect();
        let guardian =
            Guardian::start(&fds, || files.iter().for_each(|file| drop(file.set(false)))).ok()?;
        let ends =
            [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP];
        let mask = SigSet::from_iter(ends).thread_swap_mask(SigmaskHow::SIG_BLOCK).ok();
        let guard = Self { files, mask, _guardian: guardian };
        // Where there are two freezers, one is enough.
        let is_freezing = guard.files.iter().any(|file| file.set(true).is_ok());
        let deadline = Instant::now() + FREEZE_TIMEOUT;
        while is_freezing && Instant::now() < deadline {
            if host.is_frozen(&cgroup.path) {
                return Some(guard);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }
}

impl Drop for FreezeGuard {
    fn drop(&mut self) {
        for file in &self.files {
            let _ = file.set(false);
        }
        if let Some(mask) = self.mask {
            let _ = mask.thread_set_mask();
        }
    }
}
