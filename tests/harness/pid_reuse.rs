//! PID reuse on purpose: two processes that have the same PID in the container and on the host, one after
//! the other, by clone3(2) with `set_tid` (since Linux 5.5).

use std::ffi::CString;
use std::io::{Error, Result};
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::poll;

/// The first is called `meant`, the second `other`, the third `meant` again; both handle USR1.
const NAMES: [&str; 2] = ["meant", "other"];
const PID: i32 = 20_000;
/// Below the smallest usual /proc/sys/kernel/pid_max.
const HOST_PIDS: std::ops::Range<i32> = 30_000..32_000;

/// Keeps one of them running: the next one replaces it on USR2, or, if `fast`, all the time. A process
/// that is killed by another signal than the SIGKILL of this function is logged.
pub fn keep(fast: bool, log: impl Fn(&str)) -> Result<()> {
    let mut wanted = SigSet::empty();
    wanted.add(Signal::SIGUSR2);
    let mut host_pid = None;
    for (round, name) in NAMES.iter().cycle().enumerate() {
        let child = match host_pid {
            Some(host) => start_again(name, host)?,
            // A PID that is free on the host, and the same from then on.
            None => HOST_PIDS
                .rev()
                .find_map(|host| {
                    let child = start(name, host).ok()?;
                    host_pid = Some(host);
                    Some(child)
                })
                .ok_or_else(Error::last_os_error)?,
        };
        if fast {
            // Short enough to be replaced between two steps of a command; now and then long enough to be
            // signalled on a slow machine, too.
            let milliseconds = if round % 16 < 2 { 64 } else { 4 };
            std::thread::sleep(Duration::from_millis(milliseconds));
        } else {
            wanted.wait()?;
        }
        kill(child, Signal::SIGKILL)?;
        if let WaitStatus::Signaled(_, signal, _) = waitpid(child, None)?
            && signal != Signal::SIGKILL
        {
            log(&format!("{name} ended-by {}", signal.as_str()));
        }
    }
    Ok(())
}

/// Starts the next one as soon as no other process of the host has the PID.
fn start_again(name: &str, host: i32) -> Result<Pid> {
    let mut outcome = start(name, host);
    poll(|| {
        let is_taken =
            outcome.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EEXIST));
        if is_taken {
            outcome = start(name, host);
        }
        !is_taken
    });
    outcome
}

fn start(name: &str, host: i32) -> Result<Pid> {
    let program = c"/proc/self/exe";
    let name_c = CString::new(name)?;
    let mut environment = vec![
        CString::new("CINSPECT_HELPER=child")?,
        CString::new(format!("CINSPECT_HELPER_SPEC={name} handle=USR1"))?,
    ];
    if let Ok(log) = std::env::var("CINSPECT_HELPER_LOG") {
        environment.push(CString::new(format!("CINSPECT_HELPER_LOG={log}"))?);
    }
    let argv = [name_c.as_ptr(), std::ptr::null()];
    let mut envp: Vec<_> = environment.iter().map(|text| text.as_ptr()).collect();
    envp.push(std::ptr::null());
    // Innermost PID namespace first.
    let pids = [PID, host];
    // struct clone_args, include/uapi/linux/sched.h: flags, pidfd, child_tid, parent_tid,
    // exit_signal, stack, stack_size, tls, set_tid, set_tid_size.
    let arguments: [u64; 10] =
        [0, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0, pids.as_ptr() as u64, pids.len() as u64];
    // SAFETY: a fork; the child only executes a program, with strings made before.
    unsafe {
        let size = size_of_val(&arguments);
        match libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size) {
            -1 => Err(Error::last_os_error()),
            0 => {
                // Its line on standard output is not read.
                libc::dup2(libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY), 1);
                libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr());
                libc::_exit(127)
            }
            child => Ok(Pid::from_raw(child as i32)),
        }
    }
}
