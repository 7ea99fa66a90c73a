//! A container that needs no engine: PID, mount, UTS and IPC namespaces, and a user namespace for
//! who is not root, with processes in known signal states. One program plays every role, the one
//! that includes this file; the tour and the tests make their containers with it.
//!
//! A cast is a list of lines, `NAME BEHAVIOUR...`, one `>` before it for each level below the init:
//!
//! ```text
//! init handle=TERM
//! > web handle=TERM,USR1
//! > > worker
//! > deaf ignore=TERM
//! ```
#![allow(unsafe_code, reason = "signal handlers, and prctl(2) where no crate wraps it")]
#![allow(dead_code, reason = "the tour and the tests each use a part")]

#[path = "hang.rs"]
mod hang;
#[path = "pid_reuse.rs"]
mod pid_reuse;
#[path = "signal_consumers.rs"]
mod signal_consumers;

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::unistd::Pid;

/// A running container of the harness; it ends when this is dropped.
pub struct Container {
    monitor: Child,
    /// Host PID of the init.
    pub init: i32,
    /// PID inside, by name.
    pub inside: HashMap<String, i32>,
    log: PathBuf,
}

impl Container {
    /// Starts a cast with `program`, which hands over to [`run_helper`].
    pub fn start(program: &Path, cast: &str) -> std::io::Result<Self> {
        static NEXT: AtomicI32 = AtomicI32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let log =
            std::env::temp_dir().join(format!("cinspect-{}-{number}.log", std::process::id()));
        std::fs::write(&log, "")?;
        // Those of the cast that are another user write there too.
        std::fs::set_permissions(&log, std::fs::Permissions::from_mode(0o666))?;
        let mut monitor = Command::new(program)
            .env("CINSPECT_ROLE", "monitor")
            .env("CINSPECT_CAST", cast)
            .env("CINSPECT_ROLE_LOG", &log)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        // Every process of the cast writes `NAME PID-INSIDE` when its signal state is as told.
        let names: Vec<&str> = cast.lines().filter_map(name_of).collect();
        let mut inside = HashMap::new();
        let mut init = 0;
        let stdout = monitor.stdout.take().ok_or_else(|| std::io::Error::other("no pipe"))?;
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            let (name, pid) = line.split_once(' ').unwrap_or((&line, "0"));
            let pid: i32 = pid.trim().parse().unwrap_or(0);
            if name == "@init" {
                init = pid;
            } else {
                inside.insert(name.to_owned(), pid);
            }
            if init > 0 && names.iter().all(|name| inside.contains_key(*name)) {
                return Ok(Self { monitor, init, inside, log });
            }
        }
        let _ = monitor.kill();
        let _ = monitor.wait();
        Err(std::io::Error::other("the container did not start"))
    }

    /// What its processes have written down of the signals they got: `NAME SIGNAL VALUE` each.
    pub fn heard(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What its processes have written down once every signal sent so far has been delivered and every
    /// handler has run: sorted, and complete, so that a line that is missing proves a negative.
    pub fn settled(&self) -> Vec<String> {
        let hosts = self.host_pids();
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until && !hosts.values().all(|pid| is_settled(*pid)) {
            std::thread::sleep(Duration::from_millis(2));
        }
        // Handlers block all signals, and the log is written in order: when a marker that is sent now has
        // been written down, so has everything before it.
        let markers: Vec<String> =
            hosts.iter().filter_map(|(name, pid)| mark(name, *pid)).collect();
        for marker in markers {
            assert!(self.wait_to_hear(&marker), "no marker arrived: {marker}");
        }
        let is_marker = |line: &String| line.ends_with(&format!(" {MARKER}"));
        let mut lines: Vec<String> = self.heard().into_iter().filter(|l| !is_marker(l)).collect();
        lines.sort();
        lines
    }

    /// The host PIDs of its named processes that run.
    fn host_pids(&self) -> HashMap<String, i32> {
        let namespace = std::fs::read_link(format!("/proc/{}/ns/pid", self.init)).ok();
        let mut by_pid = HashMap::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let path = entry.path();
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if namespace.is_none() || std::fs::read_link(path.join("ns/pid")).ok() != namespace {
                continue;
            }
            let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
            let inner = status.lines().find(|line| line.starts_with("NSpid:"));
            let inner = inner.and_then(|line| line.split_whitespace().last()?.parse::<i32>().ok());
            by_pid.extend(inner.map(|inner| (inner, pid)));
        }
        let named = self.inside.iter();
        named.filter_map(|(name, inner)| Some((name.clone(), *by_pid.get(inner)?))).collect()
    }

    /// Waits until `line` has been heard.
    pub fn wait_to_hear(&self, line: &str) -> bool {
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            if self.heard().iter().any(|heard| heard == line) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // The init dies with its parent (PR_SET_PDEATHSIG), and its namespace with it.
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
        let _ = std::fs::remove_file(&self.log);
    }
}

/// The value of the signal that [`Container::settled`] sends; no test sends it.
const MARKER: i32 = 987_654;

/// The four signal sets of a `status` file that decide what is delivered.
fn sets(status: &str) -> [u64; 4] {
    ["SigPnd:", "ShdPnd:", "SigBlk:", "SigCgt:"].map(|key| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
    })
}

/// Whether a process has no signal pending that any of its threads could take now.
pub fn is_settled(pid: i32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    tasks.into_iter().flatten().flatten().all(|task| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let [thread, process, blocked, _] = sets(&status);
        (thread | process) & !blocked == 0
    })
}

/// Sends a process the marker, by a signal that it handles and does not block; gives the line it will
/// write down. None for a process without such a handler, or one that is stopped.
fn mark(name: &str, pid: i32) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let [_, _, blocked, caught] = sets(&status);
    let runs = status.lines().any(|line| line.starts_with("State:") && line.contains("(sleeping)"));
    let signal = Signal::iterator().find(|signal| {
        let bit = 1 << (*signal as i32 - 1);
        runs && caught & bit != 0 && blocked & bit == 0
    })?;
    // SAFETY: sigqueue(3) takes two integers and a union of integers.
    let sent = unsafe {
        let value = libc::sigval { sival_ptr: MARKER as usize as *mut libc::c_void };
        libc::sigqueue(pid, signal as i32, value)
    };
    let line = format!("{name} {} {MARKER}", signal.as_str().trim_start_matches("SIG"));
    (sent == 0).then_some(line)
}

fn name_of(line: &str) -> Option<&str> {
    line.trim_start_matches(['>', ' ']).split(' ').next().filter(|name| !name.is_empty())
}

/// Plays a role if the environment says so; does not come back then. (Not the arguments: those are
/// what the role shows as its command line.)
pub fn run_helper() {
    let (Ok(role), Ok(cast)) = (std::env::var("CINSPECT_ROLE"), std::env::var("CINSPECT_CAST"))
    else {
        return;
    };
    let done = match role.as_str() {
        "monitor" => monitor(&cast),
        "init" => prepare_init().and_then(|()| act(&cast, true)),
        "fuse" => hang::serve(),
        _ => act(&cast, false),
    };
    if let Err(error) = done {
        eprintln!("role {role}: {error}");
    }
    std::process::exit(1);
}

/// Makes the namespaces; its child is the init.
fn monitor(cast: &str) -> std::io::Result<()> {
    let mut flags = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    if !uid.is_root() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags)?;
    if !uid.is_root() {
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    let mut init = spawn("init", cast)?;
    println!("@init {}", init.id());
    init.wait()?;
    std::process::exit(0);
}

fn prepare_init() -> std::io::Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)?;
    let _ = nix::unistd::sethostname("cast");
    Ok(())
}

/// Starts one of the cast: the program again, under the role's own name.
fn spawn(role: &str, cast: &str) -> std::io::Result<Child> {
    let name = cast.lines().next().and_then(name_of).unwrap_or("role");
    let mut command = Command::new("/proc/self/exe");
    command.arg0(name).env("CINSPECT_ROLE", role).env("CINSPECT_CAST", cast);
    // Its own line may ask for arguments of so many bytes in all.
    let own = cast.lines().next().unwrap_or_default();
    let bytes = own.split(' ').find_map(|word| word.strip_prefix("argv=")?.parse::<usize>().ok());
    if bytes.is_some() {
        // A quarter of the stack's limit is what arguments may take (execve(2)).
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let (_, hard) = getrlimit(Resource::RLIMIT_STACK)?;
        setrlimit(Resource::RLIMIT_STACK, hard, hard)?;
    }
    for _ in 0..bytes.unwrap_or(0).div_ceil(100_000) {
        command.arg("x".repeat(100_000));
    }
    // Or for these, as bytes in hexadecimal.
    for argument in own.split(' ').find_map(|word| word.strip_prefix("args=")).iter() {
        command.args(argument.split(',').map(|hex| std::ffi::OsString::from_vec(bytes_of(hex))));
    }
    // SAFETY: between fork and exec only prctl(2), which is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    command.spawn()
}

/// One process of the cast: it starts those below it, gets into its state, and stays.
fn act(cast: &str, reap: bool) -> std::io::Result<()> {
    forget_handlers();
    let mut lines = cast.lines();
    let own = lines.next().unwrap_or_default().trim_start_matches(['>', ' ']);
    let mut words = own.split(' ');
    let name = words.next().unwrap_or("role").to_owned();
    nix::sys::prctl::set_name(&CString::new(
        name.as_bytes().get(..15).unwrap_or(name.as_bytes()),
    )?)?;
    // The lines of those directly below begin with one `>` less from here on.
    let below: Vec<&str> = lines
        .map(|line| line.trim_start_matches(' ').trim_start_matches('>').trim_start_matches(' '))
        .collect();
    let words: Vec<&str> = words.collect();
    if words.contains(&"nested") {
        // What is below it is in a PID namespace of its own; the first is its init.
        unshare(CloneFlags::CLONE_NEWPID)?;
    }
    let mut children = Vec::new();
    for (at, line) in below.iter().enumerate().filter(|(_, line)| !line.starts_with('>')) {
        let rest = below[at + 1..].iter().take_while(|line| line.starts_with('>'));
        let part: Vec<&str> = std::iter::once(line).chain(rest).copied().collect();
        children.push(spawn("child", &part.join("\n"))?);
    }
    for word in &words {
        if !signal_consumers::take_aside(&name, word) {
            behave(&name, word)?;
        }
    }
    println!("{name} {}", std::process::id());
    for word in &words {
        signal_consumers::take(&name, word);
    }
    if reap {
        // As an init should; a role called `zombie` below another one stays one.
        loop {
            let _ = nix::sys::wait::wait();
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    loop {
        nix::unistd::pause();
    }
}

/// Every disposition at its default: what Rust's runtime and whoever started us have set would stand
/// in every row.
fn forget_handlers() {
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: SIG_DFL with no flags, by the syscall since glibc refuses 32 and 33.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0usize, 8usize);
        }
    }
    let _ = SigSet::empty().thread_set_mask();
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .filter_map(|at| u8::from_str_radix(hex.get(at * 2..at * 2 + 2)?, 16).ok())
        .collect()
}

/// A signal's number; `RTMIN+3` among them, which nix does not know.
fn number_of(name: &str) -> Option<i32> {
    match name.strip_prefix("RTMIN+") {
        Some(more) => Some(libc::SIGRTMIN() + more.parse::<i32>().ok()?),
        None => Some(format!("SIG{name}").parse::<Signal>().ok()? as i32),
    }
}

fn behave(name: &str, word: &str) -> std::io::Result<()> {
    let (what, list) = word.split_once('=').unwrap_or((word, ""));
    let signals = || list.split(',').filter_map(|name| format!("SIG{name}").parse::<Signal>().ok());
    match what {
        "handle" => {
            listen(name)?;
            for signal in list.split(',').filter_map(number_of) {
                // SAFETY: the handler only writes to a descriptor; the rest of the action is zero.
                unsafe {
                    let mut action: libc::sigaction = std::mem::zeroed();
                    action.sa_sigaction = note as *const () as usize;
                    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
                    // One after the other: `settled` counts on that.
                    libc::sigfillset(&raw mut action.sa_mask);
                    libc::sigaction(signal, &action, std::ptr::null_mut());
                }
            }
        }
        "ignore" => {
            for signal in list.split(',').filter_map(number_of) {
                // SAFETY: no handler.
                unsafe { libc::signal(signal, libc::SIG_IGN) };
            }
        }
        "block" => {
            signal_consumers::block(list);
        }
        // The main thread blocks what a second one does not.
        "other-open" => signal_consumers::other_open(list),
        // A second thread that blocks what the main thread does not.
        "thread-blocks" => {
            let set: SigSet = signals().collect();
            std::thread::spawn(move || {
                let _ = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None);
                loop {
                    std::thread::sleep(Duration::from_secs(1000));
                }
            });
            std::thread::sleep(Duration::from_millis(50));
        }
        "exit" => {
            println!("{name} {}", std::process::id());
            std::process::exit(0);
        }
        // The main thread leaves, another one stays.
        "main-leaves" => {
            println!("{name} {}", std::process::id());
            std::thread::spawn(|| {
                loop {
                    std::thread::sleep(Duration::from_secs(1000));
                }
            });
            std::thread::sleep(Duration::from_millis(50));
            // SAFETY: ends this thread alone.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        }
        "comm" => {
            nix::sys::prctl::set_name(&CString::new(bytes_of(list))?)?;
        }
        "etc-hangs" => hang::hang_etc()?,
        "cmdline-hangs" => hang::hang(|| println!("{name} {}", std::process::id()))?,
        // Overwrites its own arguments, as setproctitle does, with nothing.
        "no-argv" => wipe_arguments()?,
        // A process group of its own.
        "group" => nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?,
        // Another user.
        "user" => {
            let id = list.parse().unwrap_or(65534);
            nix::unistd::setresgid(id.into(), id.into(), id.into())?;
            nix::unistd::setresuid(id.into(), id.into(), id.into())?;
        }
        "stops" => {
            println!("{name} {}", std::process::id());
            nix::sys::signal::raise(Signal::SIGSTOP)?;
        }
        // Processes that have the same number, one after the other.
        "twins" | "flips" => {
            let mut set = SigSet::empty();
            set.add(Signal::SIGUSR2);
            pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
            let restless = what == "flips";
            std::thread::spawn(move || {
                if let Err(error) = pid_reuse::keep(restless, write_down) {
                    eprintln!("twins: {error}");
                }
            });
        }
        // So many children more, each like its parent, one after the other.
        "grows" => {
            let many = list.parse().unwrap_or(100);
            std::thread::spawn(move || {
                for _ in 0..many {
                    // SAFETY: the child calls nothing but pause(2), and the handler it inherits.
                    unsafe {
                        if libc::fork() == 0 {
                            loop {
                                libc::pause();
                            }
                        }
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
        }
        "forks" => {
            std::thread::spawn(|| {
                loop {
                    if let Ok(mut child) = Command::new("/bin/sleep").arg("0.05").spawn() {
                        let _ = child.wait();
                    }
                }
            });
        }
        _ => {}
    }
    Ok(())
}

/// Zeroes the argument area that /proc/PID/stat gives (fields 48 and 49).
fn wipe_arguments() -> std::io::Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let at = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<u64>().ok());
    if let (Some(start), Some(end)) = (at(48), at(49)) {
        let mut memory = OpenOptions::new().write(true).open("/proc/self/mem")?;
        std::io::Seek::seek(&mut memory, std::io::SeekFrom::Start(start))?;
        memory.write_all(&vec![0; usize::try_from(end - start).unwrap_or(0)])?;
    }
    Ok(())
}

static HEARD: AtomicI32 = AtomicI32::new(-1);

/// Async-signal-safe: two numbers into a pipe.
extern "C" fn note(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo; si_value is there for queued signals, else unused.
    let value = unsafe { (*info).si_value().sival_ptr as usize as i32 };
    // SAFETY: as above.
    let queued = unsafe { (*info).si_code } == libc::SI_QUEUE;
    let pair = [signal, if queued { value } else { 0 }];
    // SAFETY: eight initialised bytes.
    unsafe { libc::write(HEARD.load(Ordering::Relaxed), pair.as_ptr().cast(), 8) };
}

/// One line for who started the container.
fn write_down(line: &str) {
    let log = std::env::var_os("CINSPECT_ROLE_LOG").map(PathBuf::from);
    if let Some(Ok(mut file)) = log.map(|log| OpenOptions::new().append(true).open(log)) {
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

/// A thread with every signal blocked that writes down what the handler saw.
fn listen(name: &str) -> std::io::Result<()> {
    if HEARD.load(Ordering::Relaxed) >= 0 {
        return Ok(());
    }
    let (reader, writer) = nix::unistd::pipe()?;
    HEARD.store(writer.into_raw_fd(), Ordering::Relaxed);
    let name = name.to_owned();
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    std::thread::spawn(move || {
        let mut reader = std::fs::File::from(reader);
        let mut pair = [0u8; 8];
        while reader.read_exact(&mut pair).is_ok() {
            let number = |at: usize| {
                i32::from_ne_bytes([pair[at], pair[at + 1], pair[at + 2], pair[at + 3]])
            };
            let signal = Signal::try_from(number(0)).map_or_else(
                |_| format!("RTMIN+{}", number(0) - libc::SIGRTMIN()),
                |signal| signal.as_str().trim_start_matches("SIG").to_owned(),
            );
            write_down(&format!("{name} {signal} {}", number(4)));
        }
        let _ = reader.as_raw_fd();
    });
    before.thread_set_mask()?;
    Ok(())
}
