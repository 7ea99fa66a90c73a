//! Our own program in a form that cannot be written to: a process in a container shows it as
//! `/proc/PID/exe` there, which must not be a way to the file on the host (CVE-2019-5736).

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Form in which the program cannot be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum SelfExe {
    /// The file itself on a private read-only mount that is in no mount namespace, so that it cannot
    /// be made writable (open_tree(2), since Linux 5.2; mount_setattr(2), since 5.12).
    Mount,
    /// A copy in memory with seals (memfd_create(2), since Linux 3.17).
    Copy,
}

const PATH: &CStr = c"/proc/self/exe";

/// Opens our program as a file to execute.
///
/// # Errors
/// If neither form is possible.
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
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: the path lives until the call returns; a result that is not negative is a new descriptor.
    let tree = unsafe {
        let fd = libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, PATH.as_ptr(), flags);
        OwnedFd::from_raw_fd(Errno::result(fd)? as libc::c_int)
    };
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
    sealed_copy(c"cinspect", &mut File::open("/proc/self/exe")?)
}

/// Copies a program into memory, where nothing can write to it any more. In a container `/proc/PID/exe` of
/// a process that runs it leads there, and not to the file.
///
/// # Errors
/// As memfd_create(2), read(2) and write(2); EPERM as well where no file in memory may be executed
/// (`vm.memfd_noexec`).
pub fn sealed_copy(name: &CStr, source: &mut File) -> std::io::Result<OwnedFd> {
    /// Required by kernels with `vm.memfd_noexec` (since Linux 6.3), unknown to older ones.
    const EXEC: MFdFlags = MFdFlags::from_bits_retain(0x10);
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let memory = memfd_create(name, flags | EXEC).or_else(|errno| match errno {
        Errno::EINVAL => memfd_create(name, flags),
        errno => Err(errno),
    });
    let mut memory = File::from(memory?);
    std::io::copy(source, &mut memory)?;
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    fcntl(&memory, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(memory.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_copy_is_whole_and_cannot_be_written() {
        use std::io::{Read, Seek, Write};
        let mut file = File::from(copied().unwrap());
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        assert!(bytes == std::fs::read("/proc/self/exe").unwrap());
        assert!(file.write_all(b"x").is_err() && file.set_len(0).is_err());
    }
}
