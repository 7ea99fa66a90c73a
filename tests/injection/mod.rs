//! The family `injection`: each system call that a command makes is made to fail, once in each process, at
//! each place. No command may panic, crash, hang, leave half a file or a process, or succeed where it fails
//! without the fault.
//!
//! In `tests/run` a sample, spread evenly over the plan; with CINSPECT_TEST_LONG the whole plan, and an answer
//! that differs without any word about it fails as well.

use std::collections::BTreeMap;
use std::fs::{create_dir_all, read, read_dir, read_to_string, write};
use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use crate::support::{Need, Outcome, check};
use crate::world::{
    Checks, DATA, Web, WorldRun, doubts, frozen, is_long, program, run, strays, trial,
    without_numbers,
};

/// Faults of each command in `tests/run`.
const SAMPLE: usize = 12;
/// Places of one call that are tried; of more, these are spread evenly.
const MOST_PLACES: usize = 400;
/// Worlds in which the plan of a command is run at once that ends its container: it waits most of the time, for
/// an engine that could start the container again.
const PARTS: usize = 4;
/// Target of copies out of the container.
const OUT: &str = "/run/tmp/copies";
const OLD: &[u8] = b"the old and whole file";

/// A command, and what has to hold after it.
struct Case {
    name: &'static str,
    argv: &'static [&'static str],
    /// Whether numbers in the answer change from run to run.
    has_changing_numbers: bool,
    /// Whether it ends the container.
    ends: bool,
    verify: fn(&mut State, &WorldRun) -> Result<(), String>,
}

/// The world between two runs.
struct State {
    web: Web,
    /// How often `web` got USR1.
    received: usize,
}

const NOTHING: fn(&mut State, &WorldRun) -> Result<(), String> = |_, _| Ok(());

const fn reads(name: &'static str, argv: &'static [&'static str]) -> Case {
    Case { name, argv, has_changing_numbers: true, ends: false, verify: NOTHING }
}

const CASES: &[Case] = &[
    Case {
        has_changing_numbers: false,
        ..reads("ls", &["ls", "-o", "name,id,engine,pid,procs,state,onstop,image"])
    },
    Case {
        has_changing_numbers: false,
        ..reads("ps", &["ps", "web", "-o", "pid,hpid,uid,blocked,ignored,caught,verdict,command"])
    },
    Case { has_changing_numbers: false, ..reads("signals", &["signals", "web", "TERM", "HUP"]) },
    Case { verify: signalled, ..reads("signal", &["signal", "web", "USR1", "--comm", "web"]) },
    Case {
        ends: true,
        verify: stopped,
        ..reads("stop", &["stop", "--order", "all", "-t", "30s", "web"])
    },
    Case { ends: true, verify: stopped, ..reads("kill", &["stop", "-t", "0", "web"]) },
    reads("stop-dry-run", &["stop", "-n", "web"]),
    reads("doctor", &["doctor", "web"]),
    reads("exec", &["exec", "web", "--", "/bin/echo", "hi"]),
    Case { verify: copied_out, ..reads("cp-out", &["cp", "web:/run/tmp/data/source", OUT]) },
    Case {
        verify: copied_in,
        ..reads("cp-in", &["cp", "/run/tmp/source", "web:/run/tmp/data/sub"])
    },
    Case { verify: copied_in, ..reads("cp-stream", &["cp", "-", "web:/run/tmp/data/sub"]) },
    reads("inspect", &["inspect", "web"]),
    reads("why", &["why", "web"]),
    reads("logs", &["logs", "web"]),
    reads("trace", &["trace", "--for", "100ms", "web"]),
];

pub fn trials() -> Vec<Trial> {
    // (`trace` under strace takes a minute and more on a machine under load.)
    let cases = CASES.iter().filter(|case| case.name != "trace" || is_long());
    let names = cases.flat_map(|case| {
        let parts = if case.ends && is_long() { PARTS } else { 1 };
        (0..parts).map(move |part| format!("{}.{part}", case.name))
    });
    names.map(|name| trial(&[Need::Strace], "injection", name.trim_end_matches(".0"))).collect()
}

/// Runs the plan of one command, or a part of it, in a world.
pub fn task(name: &str) -> Outcome {
    let (name, part) = name.split_once('.').unwrap_or((name, "0"));
    let part: usize = part.parse()?;
    let case = CASES.iter().find(|case| case.name == name).ok_or("no such command")?;
    let parts = if case.ends && is_long() { PARTS } else { 1 };
    write("/run/tmp/source", b"new".repeat(30_000))?;
    create_dir_all(OUT)?;
    create_dir_all(format!("{DATA}/sub"))?;
    write(format!("{DATA}/source"), b"new".repeat(30_000))?;
    finish_ok(Command::new("tar").args(["-C", "/run/tmp", "-cf", "/run/tmp/stream", "source"]))?;
    let mut state = State { web: Web::start()?, received: 0 };
    let plain = case.run(&mut state, None)?;
    case.check(&mut state, &plain, None, None)?;
    let plan = case.plan(&mut state)?;
    let step = if is_long() { 1 } else { plan.len().div_ceil(SAMPLE).max(1) };
    let mut checks = Checks::new("injection");
    for (call, place) in plan.iter().skip(part).step_by(step * parts) {
        let ran = case.run(&mut state, Some((call, *place)))?;
        let outcome = case.check(&mut state, &ran, Some(&plain), Some(call));
        checks.add(&format!("{name} {call} {place}"), outcome);
    }
    checks.finish()
}

fn finish_ok(command: &mut Command) -> Outcome {
    check(command.status()?.success(), format!("{command:?}"))
}

impl Case {
    /// Runs the command, with a fault at a place of a system call in each of its processes.
    fn run(&self, state: &mut State, fault: Option<(&str, usize)>) -> Result<WorldRun, Failed> {
        self.prepare(state)?;
        let Some((call, place)) = fault else { return run(self.command(None)) };
        let error = error_of(call).unwrap_or("EINVAL");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
        strace.args(["-e", &format!("inject={call}:error={error}:when={place}")]);
        run(self.command(Some(strace)))
    }

    /// Returns the command, below a tracer.
    fn command(&self, tracer: Option<Command>) -> Command {
        let program = program();
        let mut command = match tracer {
            Some(mut tracer) => {
                tracer.arg(&program);
                tracer
            }
            None => Command::new(program),
        };
        command.args(self.argv);
        command
    }

    fn prepare(&self, state: &mut State) -> Outcome {
        for target in [OUT, &format!("{DATA}/sub")] {
            write(format!("{target}/source"), OLD)?;
        }
        let is_running = || Path::new(&format!("/proc/{}", state.web.container.init)).exists();
        if self.ends || !is_running() {
            state.web = Web::start()?;
            state.received = 0;
        }
        Ok(())
    }

    /// Counts the calls of one run, and returns each with each place.
    fn plan(&self, state: &mut State) -> Result<Vec<(String, usize)>, Failed> {
        let file = "/run/tmp/calls";
        self.prepare(state)?;
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", file]);
        let traced = run(self.command(Some(strace)))?;
        check(!traced.has_hung, traced.to_string())?;
        (self.verify)(state, &traced)?;
        let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
        for line in String::from_utf8_lossy(&read(file)?).lines() {
            let Some((pid, rest)) = line.split_once(' ') else { continue };
            let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
            let is_name = call.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if is_name && error_of(call).is_some() {
                *counts.entry((call.to_owned(), pid.to_owned())).or_default() += 1;
            }
        }
        let mut most: BTreeMap<String, usize> = BTreeMap::new();
        for ((call, _), count) in counts {
            let most = most.entry(call).or_default();
            *most = count.max(*most);
        }
        check(most.len() > 10, format!("too few calls: {most:?}"))?;
        // (`why` reads the kernel's log line by line.)
        let places = |(call, count): (String, usize)| {
            let step = count.div_ceil(MOST_PLACES).max(1);
            (1..=count).step_by(step).map(move |place| (call.clone(), place))
        };
        Ok(most.into_iter().flat_map(places).collect())
    }

    /// Checks a run, against one without a fault.
    fn check(
        &self,
        state: &mut State,
        ran: &WorldRun,
        plain: Option<&WorldRun>,
        call: Option<&str>,
    ) -> Result<(), String> {
        let verified = (self.verify)(state, ran);
        // (The write that failed may be that of the error.)
        let is_unsaid = ran.err.trim().is_empty() && ![101, 134, 139].contains(&ran.status);
        let is_exempt = is_of_the_runtime(ran) || (call == Some("write") && is_unsaid);
        if let Some(fault) = ran.fault().filter(|_| !is_exempt) {
            return Err(fault);
        }
        if let Some(plain) = plain {
            // (Processes of a container that ends do so in any order.)
            let text = |run: &WorldRun| match self.has_changing_numbers {
                true if self.ends => without_numbers(run.out.lines().last().unwrap_or_default()),
                true => without_numbers(&without_advice(&run.out)),
                false => run.out.clone(),
            };
            let warns = without_numbers(&ran.err) != without_numbers(&plain.err);
            let is_told = warns || doubts(&ran.out) > doubts(&plain.out);
            // (Only at length: which words say that a fact is missing is for a person to judge.)
            let is_judged = is_long() && ran.status == plain.status;
            if is_judged && text(ran) != text(plain) && !is_told {
                return Err(format!("wrong without a warning: {ran}\nwithout the fault: {plain}"));
            }
            if ran.status == 0 && plain.status != 0 {
                return Err(format!("wrong success: {ran}"));
            }
        }
        verified?;
        let strays = strays(&state.web);
        if !strays.is_empty() {
            return Err(format!("left behind: {strays:?}; {ran}"));
        }
        frozen().map_or(Ok(()), |file| Err(format!("{file} is frozen: {ran}")))
    }
}

/// Whether a run ended in the loader, or where Rust's runtime starts the program or a thread of it, of which
/// no code is the program's: there they crash or panic by themselves.
fn is_of_the_runtime(ran: &WorldRun) -> bool {
    let has_said = |words: &str| ran.err.contains(words);
    let of_threads = has_said("library/std/src/sys/pal/unix/stack_overflow.rs");
    match ran.status {
        // (A thread without which the program does its work.)
        _ if of_threads => true,
        127 => has_said("error while loading shared libraries"),
        134 => has_said("fatal runtime error: assertion failed: signal(libc::SIGPIPE"),
        // (The C library's allocator, before main.)
        139 => ran.err.is_empty(),
        _ => false,
    }
}

/// Leaves out lines of advice: a fact may be missing that only a better one needs.
fn without_advice(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    let mut is_advice = false;
    for line in text.lines() {
        is_advice = line.trim_start().starts_with('→') || (is_advice && line.starts_with("  "));
        if !is_advice {
            lines.push(line);
        }
    }
    lines.join("\n")
}

fn signalled(state: &mut State, ran: &WorldRun) -> Result<(), String> {
    let lines = state.web.container.settled();
    let count = lines.iter().filter(|line| line.starts_with("web USR1")).count();
    let sent = count - state.received;
    state.received = count;
    match sent {
        0 if ran.status == 0 => Err(format!("not sent: {ran}")),
        1 if ran.err.contains("nothing was sent") => Err(format!("sent all the same: {ran}")),
        0 | 1 => Ok(()),
        _ => Err(format!("sent {sent} times: {ran}")),
    }
}

fn stopped(state: &mut State, ran: &WorldRun) -> Result<(), String> {
    let init = state.web.container.init;
    let stat = read_to_string(format!("/proc/{init}/stat")).unwrap_or_default();
    let is_running = !stat.is_empty() && !stat.contains(") Z ");
    if ran.status == 0 && is_running { Err(format!("it runs: {ran}")) } else { Ok(()) }
}

fn copied_out(_: &mut State, ran: &WorldRun) -> Result<(), String> {
    copied(OUT, ran)
}

fn copied_in(_: &mut State, ran: &WorldRun) -> Result<(), String> {
    copied(&format!("{DATA}/sub"), ran)
}

/// Checks that the target has the old file or the new one, and nothing else.
fn copied(dir: &str, ran: &WorldRun) -> Result<(), String> {
    let names: Vec<_> =
        read_dir(dir).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
    if names != ["source"] {
        return Err(format!("{dir} has {names:?}: {ran}"));
    }
    let text = read(format!("{dir}/source")).unwrap_or_default();
    let is_new = text == b"new".repeat(30_000);
    match is_new || text == OLD {
        _ if ran.status == 0 && !is_new => Err(format!("not copied: {ran}")),
        true => Ok(()),
        false => Err(format!("{} bytes of the new file: {ran}", text.len())),
    }
}

/// Returns the error that a system call is made to fail with; none for calls that cannot fail (the C library takes
/// an error of brk(2), which has none, for an address), and for
/// execve(2), of which strace makes the first itself.
fn error_of(call: &str) -> Option<&'static str> {
    Some(match call {
        "execve" | "exit" | "exit_group" | "rt_sigreturn" | "restart_syscall" | "futex"
        | "sched_yield" | "getpid" | "getppid" | "gettid" | "getuid" | "geteuid" | "getgid"
        | "getegid" | "getpgrp" | "getpgid" | "getsid" | "umask" | "arch_prctl"
        | "set_tid_address" | "set_robust_list" | "rseq" | "munmap" | "close" | "sigaltstack"
        | "alarm" | "brk" | "getcpu" | "clock_gettime" => return None,
        "open" | "openat" | "openat2" | "pipe2" | "epoll_create1" | "socket" | "socketpair"
        | "eventfd2" | "memfd_create" | "signalfd4" | "pidfd_open" | "dup" | "dup2" | "dup3"
        | "fcntl" | "perf_event_open" => "EMFILE",
        "mmap" | "mprotect" | "mremap" => "ENOMEM",
        "clone" | "clone3" | "fork" | "vfork" => "EAGAIN",
        "write" | "writev" | "pwrite64" | "ftruncate" | "fallocate" | "copy_file_range"
        | "sendfile" | "splice" | "linkat" | "renameat" | "renameat2" | "mkdirat" | "mknodat"
        | "symlinkat" => "ENOSPC",
        "read" | "pread64" | "readv" | "getdents64" | "fsync" | "fdatasync" => "EIO",
        "setns" | "unshare" | "mount" | "kill" | "tgkill" | "pidfd_send_signal" | "ptrace"
        | "prctl" | "capset" | "setresuid" | "setresgid" | "setgroups" | "keyctl"
        | "process_vm_readv" | "seccomp" | "fchown" | "fchownat" | "fchmod" | "fchmodat" => "EPERM",
        "poll" | "ppoll" | "select" | "pselect6" | "epoll_wait" | "epoll_pwait" | "wait4"
        | "waitid" | "nanosleep" | "clock_nanosleep" | "recvmsg" | "recvfrom" => "EINTR",
        "newfstatat" | "fstat" | "statx" | "stat" | "lstat" => "EIO",
        "readlink" | "readlinkat" | "access" | "faccessat" | "faccessat2" | "getcwd"
        | "getxattr" | "fgetxattr" | "lgetxattr" => "EACCES",
        _ => "EINVAL",
    })
}
