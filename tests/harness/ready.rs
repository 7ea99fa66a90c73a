//! The states that processes of a container have reached, as the kernel says in their files in `/proc`.

use std::io::ErrorKind;
use std::path::Path;

use nix::libc;

/// The system calls in which a thread waits for a signal, or for nothing.
const WAITS: &[i64] = &[
    libc::SYS_rt_sigtimedwait,
    libc::SYS_read,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    libc::SYS_pselect6,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_clock_nanosleep,
];

/// The system calls that last until a child of vfork(2) executes a program or exits.
const VFORKS: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    libc::SYS_clone,
    libc::SYS_clone3,
];

/// Whether a process is in the state that this word of its line names.
pub fn is_in_state(pid: i32, word: &str) -> bool {
    let task = format!("/proc/{pid}");
    let waits = |task: &str| sleeps_in(Path::new(task), WAITS);
    match word.split('=').next().unwrap_or_default() {
        "exit" => has_exited(pid),
        "stops" => state(&status(&task)) == 'T',
        "vforks" => sleeps_in(Path::new(&task), VFORKS),
        "signalfd-child-reads" => {
            let children = std::fs::read_to_string(format!("{task}/task/{pid}/children"));
            let children = children.unwrap_or_default();
            let mut children = children.split_whitespace().peekable();
            children.peek().is_some() && children.all(|child| waits(&format!("/proc/{child}")))
        }
        "signalfd-spin" => spins(&task),
        "sigwait" | "exits-on" | "exits-after-children-on" => waits(&task),
        behaviour => !behaviour.starts_with("signalfd-") || waits(&task),
    }
}

/// Whether a process runs and has a signalfd.
fn spins(task: &str) -> bool {
    let fds = std::fs::read_dir(format!("{task}/fd")).into_iter().flatten().flatten();
    let links: Vec<_> = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok()).collect();
    let has = |name: &str| links.iter().any(|link| link.as_os_str() == name);
    // (It opens the epoll after the signalfd.)
    has("anon_inode:[signalfd]") && has("anon_inode:[eventpoll]") && state(&status(task)) == 'R'
}

/// Whether the second thread of a process waits for a signal, or for nothing.
pub fn thread_waits(tid: i32) -> bool {
    sleeps_in(Path::new(&format!("/proc/self/task/{tid}")), WAITS)
}

/// Whether a thread sleeps in one of these system calls; if the call cannot be read, whether it sleeps.
pub fn sleeps_in(task: &Path, calls: &[i64]) -> bool {
    match std::fs::read_to_string(task.join("syscall")) {
        // (The kernel writes the number only of a thread that is asleep, else `running`.)
        Ok(text) => {
            let call = text.split(' ').next().and_then(|number| number.trim().parse().ok());
            call.is_some_and(|call: i64| calls.contains(&call))
        }
        Err(error) => {
            let unreadable = [ErrorKind::NotFound, ErrorKind::PermissionDenied];
            unreadable.contains(&error.kind())
                && ['S', 'D'].contains(&state(&status(&task.display().to_string())))
        }
    }
}

/// Whether no signal is pending that a thread of the process could take now. (A stopped one, and one that
/// waits for a child of vfork(2), cannot.)
pub fn is_settled(pid: i32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    tasks.into_iter().flatten().flatten().all(|task| {
        let status = status(&task.path().display().to_string());
        let [thread, process, blocked, _] = sets(&status);
        // (kill(2) wakes the thread that takes the signal at once: one that sleeps is not that thread.)
        let is_held =
            ['S', 'T', 't', 'Z', 'X'].contains(&state(&status)) || sleeps_in(&task.path(), VFORKS);
        (thread | process) & !blocked == 0 || is_held
    })
}

/// Whether a process takes signals only after something else has happened: it is stopped or traced, or
/// waits for a child of vfork(2).
pub fn is_held(pid: i32) -> bool {
    let task = format!("/proc/{pid}");
    ['T', 't'].contains(&state(&status(&task)))
        || (state(&status(&task)) == 'D' && sleeps_in(Path::new(&task), VFORKS))
}

/// Whether the main thread of a process runs, or would if it had a CPU.
pub fn runs(pid: i32) -> bool {
    state(&status(&format!("/proc/{pid}"))) == 'R'
}

/// Whether a process has exited, reaped or not.
pub fn has_exited(pid: i32) -> bool {
    ['Z', 'X', '?'].contains(&state(&status(&format!("/proc/{pid}"))))
}

/// Parses the four signal sets of a `status` file that decide about delivery.
pub fn sets(status: &str) -> [u64; 4] {
    ["SigPnd:", "ShdPnd:", "SigBlk:", "SigCgt:"].map(|key| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
    })
}

fn status(task: &str) -> String {
    std::fs::read_to_string(format!("{task}/status")).unwrap_or_default()
}

/// Returns the letter of the state; `?` if the thread is gone.
fn state(status: &str) -> char {
    let line = status.lines().find_map(|line| line.strip_prefix("State:\t"));
    line.and_then(|line| line.chars().next()).unwrap_or('?')
}
