//! Capabilities of this process. The caps crate does nearly all of it; it cannot drop capabilities from
//! the bounding set that are newer than the crate and have no name in it.

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::libc;

/// Whether this process has a capability in effect; a set that cannot be read counts as no.
pub fn has(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// Keeps the capabilities as they are when this thread, and threads that it starts, change to
/// another user (SECBIT_NO_SETUID_FIXUP, capabilities(7)).
///
/// # Errors
/// EPERM without CAP_SETPCAP.
pub fn keep_over_user_changes() -> Result<(), Errno> {
    // include/uapi/linux/securebits.h
    const NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;
    // SAFETY: takes no pointer.
    let done =
        unsafe { libc::prctl(libc::PR_SET_SECUREBITS, NO_SETUID_FIXUP, 0usize, 0usize, 0usize) };
    Errno::result(done).map(drop)
}

/// Drops every capability of number `first` and above from the bounding set that is not in `keep`,
/// `PR_CAPBSET_DROP` of prctl(2).
///
/// # Errors
/// EPERM without CAP_SETPCAP.
pub fn drop_from_bounding_set(first: u8, keep: u64) -> Result<(), Errno> {
    for number in (first..64).filter(|number| keep & (1 << number) == 0) {
        // SAFETY: takes no pointer.
        let done = unsafe {
            libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0usize, 0usize, 0usize)
        };
        match Errno::result(done) {
            Ok(_) => {}
            // The kernel has no capability of this number.
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
