//! Our own program, in a form that nobody can write to: what runs inside a container shows as
//! `/proc/PID/exe` there, and must not be a way to the file on the host (CVE-2019-5736).

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use rustix::fs::{CWD, MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::mount::{OpenTreeFlags, open_tree};
use serde::{Deserialize, Serialize};

/// How it was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SelfExe {
    /// The file itself on a mount of its own that is read-only and in no mount namespace, so that
    /// nobody can make it writable (open_tree(2), since Linux 5.2; mount_setattr(2), since 5.12).
    Mount,
    /// A copy in memory with seals (memfd_create(2), since Linux 3.17).
    Copy,
}

/// Our program as a file to run.
///
/// # Errors
/// When neither way is open to us.
pub fn own_program() -> std::io::Result<(OwnedFd, SelfExe)> {
    match mounted() {
        Ok(program) => Ok((program, SelfExe::Mount)),
        Err(_) => Ok((copied()?, SelfExe::Copy)),
    }
}

/// include/uapi/linux/mount.h.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_ns: u64,
}

const READ_ONLY: u64 = 1;
const NO_SUID: u64 = 2;

fn mounted() -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let errno = |errno: rustix::io::Errno| Errno::from_raw(errno.raw_os_error());
    let tree = open_tree(CWD, "/proc/self/exe", flags).map_err(errno)?;
    let attributes = MountAttr { set: READ_ONLY | NO_SUID, clear: 0, propagation: 0, user_ns: 0 };
    // SAFETY: an open file, an empty path, and a structure that lives until the call returns.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    Errno::result(done)?;
    Ok(tree)
}

fn copied() -> std::io::Result<OwnedFd> {
    /// Where the kernel wants it said (since Linux 6.3).
    const EXEC: MemfdFlags = MemfdFlags::from_bits_retain(0x10);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory =
        memfd_create(c"cinspect", flags | EXEC).or_else(|_| memfd_create(c"cinspect", flags))?;
    let mut memory = File::from(memory);
    std::io::copy(&mut File::open("/proc/self/exe")?, &mut memory)?;
    fcntl_add_seals(
        memory.as_fd(),
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(memory.into())
}
