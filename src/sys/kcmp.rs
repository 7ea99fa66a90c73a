//! kcmp(2): comparing the resources of two processes.

use nix::errno::Errno;
use nix::libc;

/// KCMP_FILE, include/uapi/linux/kcmp.h.
const KCMP_FILE: libc::c_int = 0;

/// Whether this descriptor is the same open file description in both processes, as after a fork (since
/// Linux 3.5). The PIDs are those of our PID namespace.
///
/// # Errors
/// As kcmp(2): EPERM without CAP_SYS_PTRACE, EBADF if a process has no such descriptor, ENOSYS
/// on a kernel built without it.
pub fn same_file(pid: i32, other: i32, fd: i32) -> Result<bool, Errno> {
    // SAFETY: takes no pointer.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, pid, other, KCMP_FILE, fd, fd) };
    Errno::result(order).map(|order| order == 0)
}
