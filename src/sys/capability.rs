//! The one capability operation that the caps crate cannot do: dropping capabilities from the bounding
//! set that are newer than the crate and have no name in it.

use nix::errno::Errno;
use nix::libc;

/// Drops every capability of number `first` and above from the bounding set that is not in `keep`,
/// `PR_CAPBSET_DROP` of prctl(2).
///
/// # Errors
/// EPERM without CAP_SETPCAP.
pub fn drop_from_bounding_set(first: u8, keep: u64) -> Result<(), Errno> {
    for number in (first..64).filter(|number| keep & (1 << number) == 0) {
        // SAFETY: numbers only.
        let done = unsafe {
            libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0usize, 0usize, 0usize)
        };
        match Errno::result(done) {
            Ok(_) => {}
            // The kernel's last capability is below.
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
