//! Directories that were walked to, held open as long as a search lasts: engines' directories share most of
//! their paths, and many of them do not exist. A file reached through a link is found again only by its whole
//! path.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::resource::{Resource, getrlimit};

use super::TrustedFs;
use crate::proc::read::ReadError;
use crate::proc::trust::Trust;

/// A directory that is held.
#[derive(Clone, Debug)]
pub(super) struct HeldDir {
    pub fd: Arc<OwnedFd>,
    pub owner: Trust,
    pub users_path: Option<PathBuf>,
    /// Whether no link led to it: then paths below it may start here.
    pub is_plain: bool,
}

/// The directories that are held, and those that are known not to exist.
#[derive(Debug, Default)]
pub(super) struct HeldDirs(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    searches: usize,
    dirs: HashMap<PathBuf, Result<HeldDir, ReadError>>,
    /// Number of directories that are open, and the most that may be.
    open: u64,
    most: u64,
    /// The mounts of the host, once they were asked for.
    mountinfo: Option<Arc<Vec<u8>>>,
}

impl State {
    fn clear(&mut self) {
        self.dirs.clear();
        (self.open, self.mountinfo) = (0, None);
    }
}

/// The part of a path that is known already.
pub(super) enum Known {
    /// All of it.
    Whole(Result<HeldDir, ReadError>),
    /// A directory above it, and its path.
    Above(PathBuf, HeldDir),
    /// Nothing.
    Nothing,
}

impl HeldDirs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the held directories on a path.
    pub(super) fn known(&self, path: &Path) -> Known {
        let state = self.state();
        if let Some(known) = state.dirs.get(path) {
            return Known::Whole(known.clone());
        }
        for above in path.ancestors().skip(1) {
            match state.dirs.get(above) {
                Some(Ok(dir)) if dir.is_plain => {
                    return Known::Above(above.to_owned(), dir.clone());
                }
                Some(Err(error @ (ReadError::Gone | ReadError::Denied))) => {
                    return Known::Whole(Err(error.clone()));
                }
                _ => {}
            }
        }
        Known::Nothing
    }

    /// Forgets all of them.
    pub(super) fn forget(&self) {
        self.state().clear();
    }

    /// Keeps the result of a walk, if a search is in progress.
    pub(super) fn keep(&self, path: PathBuf, result: Result<HeldDir, ReadError>) {
        let mut state = self.state();
        if state.searches == 0 || matches!(result, Err(ReadError::Exhausted)) {
            return;
        }
        // A quarter of the descriptors at most: the others are for the search itself.
        if result.is_ok() {
            if state.open >= state.most {
                return;
            }
            state.open += 1;
        }
        state.dirs.insert(path, result);
    }
}

/// Holds directories as long as it lives.
#[derive(Debug)]
pub struct DirHold<'a>(&'a HeldDirs);

impl TrustedFs {
    pub(in crate::proc) fn hold_dirs(&self) -> DirHold<'_> {
        let mut state = self.held.state();
        state.searches += 1;
        if state.searches == 1 {
            self.pauses.reset();
            state.most = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft / 4);
        }
        DirHold(&self.held)
    }

    /// Returns the mounts of the host, which are read once in a search.
    pub(in crate::proc) fn mountinfo(&self, read: impl FnOnce() -> Vec<u8>) -> Arc<Vec<u8>> {
        let mut state = self.held.state();
        if let Some(known) = &state.mountinfo {
            return Arc::clone(known);
        }
        let mountinfo = Arc::new(read());
        state.mountinfo = (state.searches > 0).then(|| Arc::clone(&mountinfo));
        mountinfo
    }

    pub(in crate::proc) fn holds_dirs(&self) -> bool {
        self.held.state().searches > 0
    }
}

impl Drop for DirHold<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.searches -= 1;
        if state.searches == 0 {
            state.clear();
        }
    }
}
