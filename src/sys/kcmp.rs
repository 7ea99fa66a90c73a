//! kcmp(2): whether two processes have one and the same thing.

use nix::errno::Errno;
use nix::libc;

/// KCMP_FILE, include/uapi/linux/kcmp.h.
const KCMP_FILE: libc::c_int = 0;

/// Whether this descriptor of both processes is one open file description, as after a fork (since
/// Linux 3.5). The processes are given by their numbers as we see them.
///
/// # Errors
/// Those of kcmp(2): EPERM without CAP_SYS_PTRACE, EBADF where one has no such descriptor, ENOSYS
/// where the kernel was built without it.
pub fn same_file(one: i32, other: i32, fd: i32) -> Result<bool, Errno> {
    // SAFETY: numbers only.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_FILE, fd, fd) };
    Errno::result(order).map(|order| order == 0)
}
