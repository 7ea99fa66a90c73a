//! The cgroup freezers of v1 and v2 for the processes of a test.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use libtest_mimic::Failed;

use super::State;
use crate::support::{Outcome, check, wait_until};

/// Returns where the hierarchy with this freezer is mounted.
pub fn mount_point(state: State) -> Option<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let candidates = match state {
        State::FrozenV1 => vec![top.join("freezer")],
        State::FrozenV2 => vec![top.to_owned(), top.join("unified")],
        _ => Vec::new(),
    };
    let is_v2 = |dir: &PathBuf| dir.join("cgroup.controllers").exists();
    candidates.into_iter().find(|dir| dir.is_dir() && is_v2(dir) == (state == State::FrozenV2))
}

/// A frozen cgroup; dropping it thaws the processes and removes it.
pub struct FrozenCgroup(PathBuf);

impl FrozenCgroup {
    pub fn new(top: &Path, pids: &[i32]) -> Result<Self, Failed> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "cinspect-frozen-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = top.join(name);
        std::fs::create_dir(&dir)?;
        let cgroup = Self(dir.clone());
        for pid in pids {
            std::fs::write(dir.join("cgroup.procs"), pid.to_string())?;
        }
        cgroup.set(true)?;
        Ok(cgroup)
    }

    fn set(&self, frozen: bool) -> Outcome {
        let dir = &self.0;
        let v1 = dir.join("freezer.state");
        let (file, text, done) = if v1.exists() {
            (v1.clone(), if frozen { "FROZEN" } else { "THAWED" }, v1)
        } else {
            (dir.join("cgroup.freeze"), if frozen { "1" } else { "0" }, dir.join("cgroup.events"))
        };
        std::fs::write(&file, text)?;
        let in_effect = || {
            let state = std::fs::read_to_string(&done).unwrap_or_default();
            state.trim() == text || state.contains(&format!("frozen {text}"))
        };
        check(wait_until(in_effect), format!("the cgroup is not {text}"))
    }
}

impl Drop for FrozenCgroup {
    fn drop(&mut self) {
        let _ = self.set(false);
        // A cgroup with processes cannot be removed.
        let pids = std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for pid in pids.lines() {
            let top = self.0.parent().unwrap_or(&self.0).join("cgroup.procs");
            let _ = std::fs::write(top, pid);
        }
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
