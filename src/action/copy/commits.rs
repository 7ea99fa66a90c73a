//! The moments in which a file has a temporary name, between linkat(2) and renameat(2). A signal that ends the
//! copy, or the end of the process that waits for it, takes effect before or after such a moment, so that no
//! file of that name is left. (SIGKILL to the copying child itself is not held back; the next copy into the
//! directory removes the files that are left.)

use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::thread::Builder;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use crate::sys::process::{exit_now, is_ignored, wait_for_signal};

static MOMENTS: RwLock<()> = RwLock::new(());

/// The signal that the kernel sends when the parent has exited; nothing else sends it.
const PARENT_EXITED: Signal = Signal::SIGUSR2;

/// Holds back, in all threads that start from now on, the signals that would end this child: one thread waits for
/// them instead. Where it cannot be started everything stays as it is.
pub fn protect() {
    let ends = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
    let ends = ends.into_iter().filter(|signal| !is_ignored(*signal));
    let signals: SigSet = ends.chain([PARENT_EXITED]).collect();
    let Ok(before) = signals.thread_swap_mask(SigmaskHow::SIG_BLOCK) else { return };
    let wait = move || {
        loop {
            if let Ok(signal) = wait_for_signal(&signals) {
                let _none = MOMENTS.write().unwrap_or_else(PoisonError::into_inner);
                exit_now(128 + signal as i32);
            }
        }
    };
    if Builder::new().stack_size(64 << 10).spawn(wait).is_ok() {
        let _ = set_pdeathsig(PARENT_EXITED);
    } else {
        let _ = before.thread_set_mask();
    }
}

/// Repeats the request for a signal when the parent exits, which the kernel drops when a thread changes its user
/// (prctl(2)).
pub fn follow_parent() {
    let is_protected = SigSet::thread_get_mask().is_ok_and(|mask| mask.contains(PARENT_EXITED));
    let _ = set_pdeathsig(if is_protected { PARENT_EXITED } else { Signal::SIGKILL });
}

/// Begins such a moment; it ends when the value is dropped.
pub fn moment() -> RwLockReadGuard<'static, ()> {
    MOMENTS.read().unwrap_or_else(PoisonError::into_inner)
}
