//! Seccomp filters of another process, and for ourselves: seccomp(2), and ptrace(2) with
//! `PTRACE_SECCOMP_GET_FILTER` (since Linux 4.4, with CONFIG_CHECKPOINT_RESTORE).

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A filter: BPF instructions of eight bytes each (`struct sock_filter`), as they lie in memory.
pub type Filter = Vec<u8>;

const GET_FILTER: libc::c_uint = 0x420c;
/// BPF_MAXINSNS.
const MAX_INSTRUCTIONS: usize = 4096;

/// The filters of a thread, the first installed first. It is stopped for that, a millisecond or
/// less. Should it not stop in time, our own end releases it: call this where that is near.
///
/// # Errors
/// EPERM when it is traced already or not ours to trace, EACCES without CAP_SYS_ADMIN or with a
/// filter of our own, EIO where the kernel was built without it, ETIMEDOUT.
pub fn filters(tid: i32, patience: Duration) -> Result<Vec<Filter>, Errno> {
    let pid = Pid::from_raw(tid);
    ptrace::seize(pid, Options::empty())?;
    ptrace::interrupt(pid)?;
    let until = Instant::now() + patience;
    loop {
        match waitpid(pid, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG))? {
            WaitStatus::StillAlive if Instant::now() > until => return Err(Errno::ETIMEDOUT),
            WaitStatus::StillAlive => std::thread::sleep(Duration::from_micros(100)),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Err(Errno::ESRCH),
            _ => break,
        }
    }
    let read = read(tid);
    let _ = ptrace::detach(pid, None);
    read
}

fn read(tid: i32) -> Result<Vec<Filter>, Errno> {
    let mut filters = Vec::new();
    loop {
        let mut instructions = vec![0u64; MAX_INSTRUCTIONS];
        // SAFETY: the kernel writes as many instructions as it answers, of eight bytes each, and no
        // filter has more than there is room for.
        let many = unsafe {
            libc::ptrace(
                GET_FILTER as _,
                tid,
                filters.len() as *mut libc::c_void,
                instructions.as_mut_ptr(),
            )
        };
        match Errno::result(many) {
            Ok(many) => {
                instructions.truncate(usize::try_from(many).unwrap_or(0));
                filters.push(instructions.iter().flat_map(|one| one.to_ne_bytes()).collect());
            }
            Err(Errno::ENOENT) => return Ok(filters),
            Err(errno) => return Err(errno),
        }
    }
}

/// Has this thread and what it starts go through one more filter, for ever.
///
/// # Errors
/// EACCES without no_new_privs and CAP_SYS_ADMIN, EINVAL for what is no filter.
pub fn load(filter: &[u8]) -> Result<(), Errno> {
    const SET_MODE_FILTER: libc::c_uint = 1;
    let instructions: Vec<libc::sock_filter> = filter
        .chunks_exact(8)
        .map(|one| libc::sock_filter {
            code: u16::from_ne_bytes([one[0], one[1]]),
            jt: one[2],
            jf: one[3],
            k: u32::from_ne_bytes([one[4], one[5], one[6], one[7]]),
        })
        .collect();
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(|_| Errno::EINVAL)?,
        filter: instructions.as_ptr().cast_mut(),
    };
    // SAFETY: the program and its instructions live until the call returns; the kernel copies them.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, 0usize, &raw const program) };
    Errno::result(done).map(drop)
}
