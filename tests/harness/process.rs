//! The processes in a container of the harness: the monitor that makes the namespaces, the init, and
//! its descendants, each of which gets into the state of its line and stays there.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::unistd::Pid;

use super::{hang, name_of, pid_reuse, poll, signal_consumers};

/// Becomes a process of a container if the environment says so, and does not return then. (The arguments
/// are what the process shows as its command line.)
pub fn run_helper() {
    let (Ok(helper), Ok(spec)) =
        (std::env::var("CINSPECT_HELPER"), std::env::var("CINSPECT_HELPER_SPEC"))
    else {
        return;
    };
    let outcome = match helper.as_str() {
        "monitor" => monitor(&spec),
        "init" => prepare_init().and_then(|()| run(&spec, true)),
        "fuse" => hang::serve(),
        _ => run(&spec, false),
    };
    if let Err(error) = outcome {
        eprintln!("{helper}: {error}");
    }
    std::process::exit(1);
}

/// Makes the namespaces and starts the init.
fn monitor(spec: &str) -> std::io::Result<()> {
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
    let mut init = spawn("init", spec)?;
    println!("@init {}", init.id());
    init.wait()?;
    std::process::exit(0);
}

fn prepare_init() -> std::io::Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)?;
    let _ = nix::unistd::sethostname("fixture");
    Ok(())
}

/// Starts the first process of a spec: this program again, with the name of the process as `argv[0]`.
fn spawn(helper: &str, spec: &str) -> std::io::Result<Child> {
    let name = spec.lines().next().and_then(name_of).unwrap_or("process");
    let mut command = Command::new("/proc/self/exe");
    command.arg0(name).env("CINSPECT_HELPER", helper).env("CINSPECT_HELPER_SPEC", spec);
    // Arguments of this many bytes in total.
    let line = spec.lines().next().unwrap_or_default();
    let bytes = line.split(' ').find_map(|word| word.strip_prefix("argv=")?.parse::<usize>().ok());
    if bytes.is_some() {
        // Arguments may take a quarter of the stack limit (execve(2)).
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let (_, hard) = getrlimit(Resource::RLIMIT_STACK)?;
        setrlimit(Resource::RLIMIT_STACK, hard, hard)?;
    }
    for _ in 0..bytes.unwrap_or(0).div_ceil(100_000) {
        command.arg("x".repeat(100_000));
    }
    // These arguments, as bytes in hexadecimal.
    for argument in line.split(' ').find_map(|word| word.strip_prefix("args=")).iter() {
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

/// Starts the children of a process, gets into the state of its line, and stays there.
fn run(spec: &str, reap: bool) -> std::io::Result<()> {
    reset_dispositions();
    let mut lines = spec.lines();
    let line = lines.next().unwrap_or_default().trim_start_matches(['>', ' ']);
    let mut words = line.split(' ');
    let name = words.next().unwrap_or("process").to_owned();
    nix::sys::prctl::set_name(&CString::new(
        name.as_bytes().get(..15).unwrap_or(name.as_bytes()),
    )?)?;
    // From here on, lines of direct children begin without a `>`.
    let descendants: Vec<&str> = lines
        .map(|line| line.trim_start_matches(' ').trim_start_matches('>').trim_start_matches(' '))
        .collect();
    let words: Vec<&str> = words.collect();
    if words.contains(&"nested") {
        // Its children are in a new PID namespace; the first is its init.
        unshare(CloneFlags::CLONE_NEWPID)?;
    }
    let mut children = Vec::new();
    for (index, line) in descendants.iter().enumerate().filter(|(_, line)| !line.starts_with('>')) {
        let rest = descendants[index + 1..].iter().take_while(|line| line.starts_with('>'));
        let subtree: Vec<&str> = std::iter::once(line).chain(rest).copied().collect();
        children.push(spawn("child", &subtree.join("\n"))?);
    }
    for word in &words {
        if !signal_consumers::prepare(&name, word) {
            behave(&name, word)?;
        }
    }
    announce(&name);
    for word in &words {
        signal_consumers::consume(&name, word);
    }
    if reap {
        // An init has to; zombies of other parents stay. (One that is alone runs after the test: a process that runs
        // at the moment, or waits for a CPU, might look for a signal that it blocks.)
        let idle = Duration::from_millis(if descendants.is_empty() { 30_000 } else { 20 });
        loop {
            if nix::sys::wait::wait().is_err() {
                std::thread::sleep(idle);
            }
        }
    }
    loop {
        nix::unistd::pause();
    }
}

/// Resets every disposition: those that Rust's runtime and the parent have set would be in every row.
fn reset_dispositions() {
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: SIG_DFL with no flags, by the syscall since glibc refuses 32 and 33.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0usize, 8usize);
        }
    }
    let _ = SigSet::empty().thread_set_mask();
}

/// Decodes hexadecimal digits.
fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .filter_map(|i| u8::from_str_radix(hex.get(i * 2..i * 2 + 2)?, 16).ok())
        .collect()
}

/// Returns the number of a signal, also of `RTMIN+3`, which nix does not know.
pub fn number_of(name: &str) -> Option<i32> {
    match name.strip_prefix("RTMIN+") {
        Some(offset) => Some(libc::SIGRTMIN() + offset.parse::<i32>().ok()?),
        None => Some(format!("SIG{name}").parse::<Signal>().ok()? as i32),
    }
}

/// Applies one word of a line, such as `handle=TERM,USR1`.
fn behave(name: &str, word: &str) -> std::io::Result<()> {
    let (behaviour, value) = word.split_once('=').unwrap_or((word, ""));
    match behaviour {
        "handle" => {
            start_logger(name)?;
            value.split(',').filter_map(number_of).for_each(handle);
        }
        "ignore" => {
            for signal in value.split(',').filter_map(number_of) {
                // SAFETY: no handler.
                unsafe { libc::signal(signal, libc::SIG_IGN) };
            }
        }
        "block" => signal_consumers::block(value),
        "other-open" => signal_consumers::block_in_main_thread_only(value),
        "thread-blocks" => block_in_second_thread(value),
        "exit" => {
            announce(name);
            std::process::exit(0);
        }
        "main-thread-exits" => exit_main_thread(name),
        "comm" => nix::sys::prctl::set_name(&CString::new(bytes_of(value))?)?,
        "etc-hangs" => hang::hang_etc()?,
        "cmdline-hangs" => hang::hang(|| announce(name))?,
        // Overwrites its own arguments with nothing, as setproctitle can.
        "no-argv" => wipe_arguments()?,
        // A process group of its own.
        "group" => nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?,
        "user" => {
            let id = value.parse().unwrap_or(65534);
            nix::unistd::setresgid(id.into(), id.into(), id.into())?;
            nix::unistd::setresuid(id.into(), id.into(), id.into())?;
        }
        "stops" => {
            announce(name);
            nix::sys::signal::raise(Signal::SIGSTOP)?;
        }
        "reuses-pid" => reuse_pid(false)?,
        "reuses-pid-fast" => reuse_pid(true)?,
        "grows" => grow(value.parse().unwrap_or(100)),
        "forks" => fork_forever(),
        _ => {}
    }
    Ok(())
}

/// Writes `NAME PID` for [`super::Container::start`].
fn announce(name: &str) {
    println!("{name} {}", std::process::id());
}

/// Installs the handler that logs a signal.
fn handle(signal: i32) {
    // SAFETY: the handler only writes to a descriptor; the rest of the action is zero.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        // One handler at a time: `settled` relies on that.
        libc::sigfillset(&raw mut action.sa_mask);
        libc::sigaction(signal, &action, std::ptr::null_mut());
    }
}

/// Starts a second thread that blocks signals which the main thread does not.
fn block_in_second_thread(list: &str) {
    let signals = list.split(',').filter_map(|name| format!("SIG{name}").parse::<Signal>().ok());
    let set: SigSet = signals.collect();
    let (ready, blocked) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None);
        let _ = ready.send(());
        sleep_forever();
    });
    let _ = blocked.recv();
}

/// Ends the main thread; a second one stays.
fn exit_main_thread(name: &str) {
    let name = name.to_owned();
    std::thread::spawn(move || {
        let stat = format!("/proc/self/task/{}/stat", std::process::id());
        let exited = || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "));
        poll(exited);
        announce(&name);
        sleep_forever();
    });
    // SAFETY: ends this thread alone.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

pub fn sleep_forever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(1000));
    }
}

/// Starts processes that have the same PID, one after the other: the next one on USR2, or, if `fast`, all
/// the time.
fn reuse_pid(fast: bool) -> std::io::Result<()> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGUSR2);
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
    std::thread::spawn(move || {
        if let Err(error) = pid_reuse::keep(fast, write_log) {
            eprintln!("pid reuse: {error}");
        }
    });
    Ok(())
}

/// Starts `count` children one after the other, each a copy of its parent.
fn grow(count: u32) {
    std::thread::spawn(move || {
        for _ in 0..count {
            // SAFETY: the child calls nothing but pause(2), and the handler it inherits.
            unsafe {
                if libc::fork() == 0 {
                    loop {
                        libc::pause();
                    }
                }
            }
            // Slow enough that a snapshot is taken while it grows.
            std::thread::sleep(Duration::from_millis(2));
        }
    });
}

fn fork_forever() {
    std::thread::spawn(|| {
        loop {
            if let Ok(mut child) = Command::new("/bin/sleep").arg("0.05").spawn() {
                let _ = child.wait();
            }
        }
    });
}

/// Zeroes the argument area that /proc/PID/stat gives (fields 48 and 49).
fn wipe_arguments() -> std::io::Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<u64>().ok());
    if let (Some(start), Some(end)) = (field(48), field(49)) {
        let mut memory = OpenOptions::new().write(true).open("/proc/self/mem")?;
        std::io::Seek::seek(&mut memory, std::io::SeekFrom::Start(start))?;
        memory.write_all(&vec![0; usize::try_from(end - start).unwrap_or(0)])?;
    }
    Ok(())
}

/// The pipe from the handler to the logger thread.
static LOGGER: AtomicI32 = AtomicI32::new(-1);

/// Writes the signal and its value to the pipe. Async-signal-safe.
extern "C" fn on_signal(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo; si_value is there for queued signals, else unused.
    let value = unsafe { (*info).si_value().sival_ptr as usize as i32 };
    // SAFETY: as above.
    let queued = unsafe { (*info).si_code } == libc::SI_QUEUE;
    let pair = [signal, if queued { value } else { 0 }];
    // SAFETY: eight initialised bytes.
    unsafe { libc::write(LOGGER.load(Ordering::Relaxed), pair.as_ptr().cast(), 8) };
}

/// Appends a line to the log.
pub fn write_log(line: &str) {
    let log = std::env::var_os("CINSPECT_HELPER_LOG").map(PathBuf::from);
    if let Some(Ok(mut file)) = log.map(|log| OpenOptions::new().append(true).open(log)) {
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

/// Starts a thread, with every signal blocked, that logs the signals of the handler.
fn start_logger(name: &str) -> std::io::Result<()> {
    if LOGGER.load(Ordering::Relaxed) >= 0 {
        return Ok(());
    }
    let (reader, writer) = nix::unistd::pipe()?;
    LOGGER.store(writer.into_raw_fd(), Ordering::Relaxed);
    let name = name.to_owned();
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    std::thread::spawn(move || {
        let mut reader = std::fs::File::from(reader);
        let mut pair = [0u8; 8];
        while reader.read_exact(&mut pair).is_ok() {
            let number =
                |i: usize| i32::from_ne_bytes([pair[i], pair[i + 1], pair[i + 2], pair[i + 3]]);
            let signal = Signal::try_from(number(0)).map_or_else(
                |_| format!("RTMIN+{}", number(0) - libc::SIGRTMIN()),
                |signal| signal.as_str().trim_start_matches("SIG").to_owned(),
            );
            write_log(&format!("{name} {signal} {}", number(4)));
        }
    });
    before.thread_set_mask()?;
    Ok(())
}
