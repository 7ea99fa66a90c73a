//! Wakes a paused container, and holds one still while it is killed: its own cgroup's freezer, and no
//! other's.

use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

use crate::proc::FreezerFile;
use crate::resolve::ResolvedContainer;

/// How long freezing may take; what does not by then is killed as it runs.
const PATIENCE: Duration = Duration::from_millis(500);

/// Thaws it.
///
/// # Errors
/// Says what hinders.
pub fn thaw(found: &ResolvedContainer<'_>) -> Result<(), String> {
    let host = found.host;
    let Some(cgroup) = found.container.cgroup.as_ref().filter(|_| found.container.init.is_some())
    else {
        return Err("it has no cgroup of its own: what froze it has to thaw it".into());
    };
    let Some(files) = own_files(found) else {
        return Err("its init has ended, or has left its cgroup".into());
    };
    for mut file in files {
        file.set(false).map_err(crate::error::os_error)?;
    }
    if host.is_frozen_within(&cgroup.path) {
        return Err("a cgroup above or below its own is frozen too".into());
    }
    Ok(())
}

/// The files of its cgroup, opened first: what is confirmed then is whose they are.
fn own_files(found: &ResolvedContainer<'_>) -> Option<Vec<FreezerFile>> {
    let host = found.host;
    let cgroup = found.container.cgroup.as_ref()?;
    let init = found.container.init?;
    let files = host.freezer_files(&cgroup.path);
    let lives = host.stat(init.pid).is_ok_and(|stat| stat.start == init.start);
    let inside = host.memberships(init.pid).is_ok_and(|memberships| cgroup.holds(&memberships));
    (lives && inside).then_some(files)
}

/// A container that we have frozen. Dropped, it is thawed; until then nothing that would end us by
/// the way is let through, so that it does not stay frozen.
pub struct FreezeGuard {
    files: Vec<FreezerFile>,
    mask: Option<SigSet>,
}

impl FreezeGuard {
    /// Freezes a container, so that nobody in it makes new processes. None where that cannot be done,
    /// takes too long, or was done by somebody else: it would not be ours to thaw.
    pub fn hold(found: &ResolvedContainer<'_>) -> Option<Self> {
        let host = found.host;
        let cgroup = found.container.cgroup.as_ref()?;
        if found.container.user.is_some() || host.is_frozen_within(&cgroup.path) {
            return None;
        }
        let files = own_files(found).filter(|files| !files.is_empty())?;
        let mut ends = SigSet::empty();
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP]
            .into_iter()
            .for_each(|signal| ends.add(signal));
        let mask = ends.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK).ok();
        let mut still = Self { files, mask };
        // One freezer holds it as well as two.
        let set = still.files.iter_mut().any(|file| file.set(true).is_ok());
        let until = Instant::now() + PATIENCE;
        while set && Instant::now() < until {
            if host.is_frozen_within(&cgroup.path) {
                return Some(still);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }
}

impl Drop for FreezeGuard {
    fn drop(&mut self) {
        for file in &mut self.files {
            let _ = file.set(false);
        }
        if let Some(mask) = self.mask {
            let _ = mask.thread_set_mask();
        }
    }
}
