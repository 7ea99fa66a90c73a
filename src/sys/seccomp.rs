//! Seccomp filters: reading those of another thread, ptrace(2) with `PTRACE_SECCOMP_GET_FILTER` (since
//! Linux 4.4, with CONFIG_CHECKPOINT_RESTORE), and loading one into this thread, seccomp(2).

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::unistd::Pid;

use super::process;

/// A filter: BPF instructions of eight bytes each (`struct sock_filter`), as they are in memory.
pub type Filter = Vec<u8>;

const GET_FILTER: libc::c_uint = 0x420c;
/// BPF_MAXINSNS.
const MAX_INSTRUCTIONS: usize = 4096;

/// Reads the filters of a thread, the first installed first. The thread is stopped for that, for a
/// millisecond or less. If it does not stop within `timeout` it stays attached until this process exits:
/// call this where that is soon.
///
/// # Errors
/// EPERM if it is traced already or cannot be traced by the caller, EACCES without CAP_SYS_ADMIN or if this thread
/// has a filter itself, EIO on a kernel built without it, ETIMEDOUT.
pub fn filters(tid: i32, timeout: Duration) -> Result<Vec<Filter>, Errno> {
    let pid = Pid::from_raw(tid);
    ptrace::seize(pid, Options::empty())?;
    ptrace::interrupt(pid)?;
    let deadline = Instant::now() + timeout;
    let status = loop {
        match process::wait(tid, libc::__WALL | libc::WNOHANG) {
            Ok(None) if Instant::now() > deadline => {
                detach(tid, 0);
                return Err(Errno::ETIMEDOUT);
            }
            Ok(None) => std::thread::sleep(Duration::from_micros(100)),
            Ok(Some(status)) if libc::WIFSTOPPED(status) => break status,
            Ok(Some(_)) => return Err(Errno::ESRCH),
            Err(errno) => {
                detach(tid, 0);
                return Err(errno);
            }
        }
    };
    let read = read(tid);
    detach(tid, signal_of_stop(status));
    read
}

/// Returns the signal that a stopped tracee was about to receive. It is lost unless the tracee continues with it.
/// A stop by PTRACE_INTERRUPT or a stop signal is PTRACE_EVENT_STOP and has none, ptrace(2).
fn signal_of_stop(status: i32) -> i32 {
    if status >> 16 == 0 { libc::WSTOPSIG(status) } else { 0 }
}

/// Lets a thread continue, with a signal or 0. (The kernel detaches only a stopped thread; any other is
/// detached when this process exits.)
fn detach(tid: i32, signal: i32) {
    // SAFETY: takes no pointer; the address is not used.
    unsafe {
        libc::ptrace(
            libc::PTRACE_DETACH,
            tid,
            std::ptr::null_mut::<libc::c_void>(),
            signal as *mut libc::c_void,
        );
    }
}

fn read(tid: i32) -> Result<Vec<Filter>, Errno> {
    let mut filters = Vec::new();
    loop {
        let mut instructions = vec![0u64; MAX_INSTRUCTIONS];
        // SAFETY: the kernel writes as many instructions as it returns, of eight bytes each, and no
        // filter has more than MAX_INSTRUCTIONS.
        let count = unsafe {
            libc::ptrace(
                GET_FILTER as _,
                tid,
                filters.len() as *mut libc::c_void,
                instructions.as_mut_ptr(),
            )
        };
        match Errno::result(count) {
            Ok(count) => {
                instructions.truncate(usize::try_from(count).unwrap_or(0));
                filters.push(
                    instructions.iter().flat_map(|instruction| instruction.to_ne_bytes()).collect(),
                );
            }
            Err(Errno::ENOENT) => return Ok(filters),
            Err(errno) => return Err(errno),
        }
    }
}

/// Adds a filter to this thread and everything it starts; it cannot be removed.
///
/// # Errors
/// EACCES with neither no_new_privs nor CAP_SYS_ADMIN, EINVAL for bytes that are not a filter.
pub fn load(filter: &[u8]) -> Result<(), Errno> {
    const SET_MODE_FILTER: libc::c_uint = 1;
    let instructions: Vec<libc::sock_filter> = filter
        .chunks_exact(8)
        .map(|bytes| libc::sock_filter {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
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

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::fcntl::OFlag;
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
    use nix::unistd::pipe2;

    use super::*;

    static RECEIVED: AtomicU32 = AtomicU32::new(0);

    extern "C" fn count(_: libc::c_int) {
        RECEIVED.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends itself signals one after the other, and writes 1 if each has arrived. It exits later, by a signal:
    /// the tracer is its parent here, and would reap it while it reads the filters.
    fn receive_signals(result: &OwnedFd) -> ! {
        let action = SigAction::new(SigHandler::Handler(count), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler is async-signal-safe: it adds to an atomic number.
        let installed = unsafe { sigaction(Signal::SIGUSR1, &action) }.is_ok();
        // A signal to the only thread that does not block it is delivered before kill(2) returns.
        let sent = (0..20_000).filter(|_| kill(Pid::this(), Signal::SIGUSR1).is_ok()).count();
        let all = RECEIVED.load(Ordering::Relaxed) as usize == sent;
        let _ = nix::unistd::write(result, &[u8::from(installed && all)]);
        // SAFETY: takes no pointer. (It does not stay forever, should the test fail.)
        unsafe { libc::alarm(600) };
        loop {
            nix::unistd::pause();
        }
    }

    #[test]
    fn reading_filters_loses_no_signal() {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap();
        let Some(child) = process::fork().unwrap() else { receive_signals(&writer) };
        let mut readings = 0;
        let mut all_arrived = [0];
        while nix::unistd::read(&reader, &mut all_arrived) == Err(Errno::EAGAIN) {
            assert_eq!(process::wait(child, libc::WNOHANG), Ok(None));
            match filters(child, Duration::from_secs(60)) {
                Ok(_) | Err(Errno::EINVAL) => readings += 1,
                // In a container without the capability there is nothing to test.
                Err(Errno::EPERM | Errno::EACCES) => {}
                Err(errno) => panic!("{errno}"),
            }
        }
        kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
        process::wait(child, 0).unwrap();
        assert_eq!(all_arrived, [1], "{readings}");
    }
}
