//! Whether this process has run out of descriptors, memory or processes, or a read failed with an I/O error: facts
//! that exist may then be missing, whichever caller has left them out.

use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;

/// The last error of that kind; 0 if there was none.
static LAST: AtomicI32 = AtomicI32::new(0);

/// Notes an error, if it is of that kind.
pub fn note(errno: Errno) {
    use Errno::{EAGAIN, EIO, EMFILE, ENFILE, ENOMEM};
    if matches!(errno, EMFILE | ENFILE | ENOMEM | EAGAIN | EIO) {
        LAST.store(errno as i32, Ordering::Relaxed);
    }
}

/// Returns the last error that was noted.
pub fn last() -> Option<Errno> {
    Some(LAST.load(Ordering::Relaxed)).filter(|errno| *errno != 0).map(Errno::from_raw)
}
