//! The family `signals`: each command is signalled at moments spread over its run, with the signals that end
//! programs. Afterwards every file is the old or the new one, the container runs as before, nothing is frozen,
//! stopped, traced, mounted or left behind, and the terminal is as it was.
//!
//! In `tests/run` a few moments of each; with CINSPECT_TEST_LONG many.

use std::collections::BTreeSet;
use std::fs::{create_dir_all, read, read_dir, read_to_string, remove_dir_all, write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Need, Outcome, check, wait_until};
use crate::terminal::Terminal;
use crate::world::{Checks, DATA, Running, Web, frozen, is_long, program, strays, trial};

const SIGNALS: [Signal; 5] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGKILL];
/// Moments of each command and signal in `tests/run`, and at length.
const MOMENTS: usize = 1;
const MANY_MOMENTS: usize = 40;
/// The time over which the moments of a command that does not end by itself are spread.
const ENDLESS: Duration = Duration::from_millis(400);
/// The directory that is copied, and the targets of copies.
const TREE: &str = "/run/tmp/tree";
const OUT: &str = "/run/tmp/copies";
const FILES: usize = 60;

/// A command.
struct Case {
    name: &'static str,
    argv: &'static [&'static str],
    /// Whether it runs until it is signalled.
    is_endless: bool,
    /// Whether it ends the container.
    ends: bool,
    /// Whether it runs on a terminal.
    on_terminal: bool,
}

const fn ends_itself(name: &'static str, argv: &'static [&'static str]) -> Case {
    Case { name, argv, is_endless: false, ends: false, on_terminal: false }
}

const fn endless(name: &'static str, argv: &'static [&'static str]) -> Case {
    Case { is_endless: true, ..ends_itself(name, argv) }
}

const CASES: &[Case] = &[
    ends_itself("ls", &["ls"]),
    ends_itself("ps", &["ps", "web"]),
    endless("watch", &["ps", "--watch=0.1", "web"]),
    Case { on_terminal: true, ..endless("watch-terminal", &["ps", "--watch=0.1", "web"]) },
    ends_itself("signal", &["signal", "web", "USR1", "--comm", "web"]),
    endless("signal-wait", &["signal", "web", "USR1", "--comm", "web", "--wait"]),
    Case { ends: true, ..ends_itself("stop", &["stop", "--order", "all", "-t", "60s", "web"]) },
    endless("stop-waits", &["stop", "-s", "WINCH", "-t", "-1", "web"]),
    ends_itself("doctor", &["doctor", "web"]),
    endless("exec", &["exec", "web", "--", "sleep", "1000"]),
    Case {
        on_terminal: true,
        ..endless("exec-terminal", &["exec", "-t", "web", "--", "sleep", "1000"])
    },
    ends_itself("cp-out", &["cp", "web:/run/tmp/tree", OUT]),
    ends_itself("cp-in", &["cp", TREE, "web:/run/tmp/data/sub"]),
    ends_itself("cp-stream", &["cp", "-", "web:/run/tmp/data/sub"]),
    ends_itself("inspect", &["inspect", "web"]),
    ends_itself("why", &["why", "web"]),
    endless("logs", &["logs", "-f", "web"]),
];

pub fn trials() -> Vec<Trial> {
    CASES.iter().map(|case| trial(&[Need::Root], "signals", case.name)).collect()
}

/// Signals one command, in a world.
pub fn task(name: &str) -> Outcome {
    let case = CASES.iter().find(|case| case.name == name).ok_or("no such command")?;
    create_dir_all(TREE)?;
    for number in 0..FILES {
        write(format!("{TREE}/{number}"), new_text(number))?;
    }
    let mut tar = Command::new("tar");
    let made = tar.args(["-C", "/run/tmp", "-cf", "/run/tmp/stream", "tree"]).status()?;
    check(made.success(), "tar")?;
    for file in ["out", "err", "calls"] {
        write(format!("/run/tmp/{file}"), "")?;
    }
    let mut web = Web::start()?;
    let length = case.length(&mut web)?;
    let count = if is_long() { MANY_MOMENTS } else { MOMENTS };
    let mut checks = Checks::new("signals");
    for signal in SIGNALS {
        for number in 0..count {
            // Spread evenly, each signal at other moments than the others.
            let offset = f64::from(signal as i32) / 32.0;
            let moment = length.mul_f64((number as f64 + offset) / count as f64);
            let outcome = case.try_at(&mut web, signal, moment)?;
            checks.add(&format!("{name} {signal} {moment:?}"), outcome);
        }
    }
    checks.finish()
}

/// Returns the content of a file of the tree: some are larger than a buffer.
fn new_text(number: usize) -> Vec<u8> {
    format!("new {number} ").repeat(1 + number * 300).into_bytes()
}

/// Returns the targets of the tree, whose files are old before each run.
fn targets() -> [String; 2] {
    [format!("{OUT}/tree"), format!("{DATA}/sub/tree")]
}

impl Case {
    fn command(&self) -> Command {
        let mut command = Command::new(program());
        command.args(self.argv);
        command
    }

    /// Returns the time that an undisturbed run takes.
    fn length(&self, web: &mut Web) -> Result<Duration, Failed> {
        if self.is_endless {
            return Ok(ENDLESS);
        }
        self.prepare(web)?;
        let start = Instant::now();
        let ran = Running::start(self.command())?.finish()?;
        check(ran.fault().is_none(), ran.to_string())?;
        Ok(start.elapsed())
    }

    fn prepare(&self, web: &mut Web) -> Outcome {
        for target in targets() {
            let _ = remove_dir_all(&target);
            create_dir_all(&target)?;
            for number in 0..FILES {
                write(format!("{target}/{number}"), "old")?;
            }
        }
        if self.ends || !Path::new(&format!("/proc/{}", web.container.init)).exists() {
            *web = Web::start()?;
        }
        Ok(())
    }

    /// Runs the command, signals it at a moment, and checks what is left.
    fn try_at(
        &self,
        web: &mut Web,
        signal: Signal,
        moment: Duration,
    ) -> Result<Result<(), String>, Failed> {
        self.prepare(web)?;
        let before = Surroundings::see()?;
        let ended = match self.on_terminal {
            true => self.on_terminal(signal, moment)?,
            false => self.in_files(signal, moment)?,
        };
        let told = |what: String| Err(format!("{what} after {ended}"));
        if let Some(fault) = ended.strip_prefix("! ") {
            return Ok(Err(fault.to_owned()));
        }
        let strays = strays(web);
        if !strays.is_empty() {
            return Ok(told(format!("processes {strays:?} are left")));
        }
        if let Some(file) = frozen() {
            return Ok(told(format!("{file} is frozen")));
        }
        if !self.ends
            && let Some(change) = disturbed(web)
        {
            return Ok(told(change));
        }
        if let Some(torn) = torn() {
            return Ok(told(torn));
        }
        let after = Surroundings::see()?;
        Ok(if after == before { Ok(()) } else { told(format!("{before:?} became {after:?}")) })
    }

    /// Returns how a run ended; a text that begins with `!` is what it must not do.
    fn in_files(&self, signal: Signal, moment: Duration) -> Result<String, Failed> {
        let running = Running::start(self.command())?;
        std::thread::sleep(moment);
        // (Not reaped, so that the PID is its.)
        let _ = kill(Pid::from_raw(running.pid()), signal);
        let ran = running.finish()?;
        let is_killed = ran.status == 128 + signal as i32;
        // A command that could not finish has said so, or was killed by the signal.
        let fault = ran.fault().filter(|_| !is_killed);
        Ok(fault.map_or_else(|| ran.to_string(), |fault| format!("! {fault}")))
    }

    fn on_terminal(&self, signal: Signal, moment: Duration) -> Result<String, Failed> {
        // Below a shell with job control: the terminal of a session whose leader is killed is gone.
        // (A shell whose job INT has ended ends as well: another one says that.)
        let script = r#"bash -mc '"$@" & echo "pid $!."; fg' bash "$@"; echo "status $?.""#;
        let program = program().display().to_string();
        let mut argv = vec!["sh", "-c", script, "sh", &program];
        argv.extend(self.argv);
        let mut terminal = Terminal::start(&argv)?;
        let said = terminal.wait_for(".")?;
        let pid = said.trim_end_matches('.').rsplit(' ').next().unwrap_or_default().parse()?;
        std::thread::sleep(moment);
        let _ = kill(Pid::from_raw(pid), signal);
        let status = terminal.wait_for("status ").and_then(|_| terminal.wait_for("."));
        let Ok(status) = status else {
            return Ok(format!("! {signal} does not end it"));
        };
        match wait_until(|| terminal.is_sane()) {
            true => Ok(format!("status {status}")),
            false => Ok(format!("! the terminal is not as it was after status {status}")),
        }
    }
}

/// The surroundings of a run that it must not change.
#[derive(Debug, PartialEq, Eq)]
struct Surroundings {
    mounts: BTreeSet<String>,
    temporary: BTreeSet<String>,
}

impl Surroundings {
    fn see() -> Result<Self, Failed> {
        let mounts = read_to_string("/proc/self/mountinfo")?;
        let mut temporary = BTreeSet::new();
        for dir in ["/run/tmp", OUT, DATA, "/run/tmp/data/sub", "/run"] {
            temporary.extend(read_dir(dir)?.flatten().map(|e| e.path().display().to_string()));
        }
        Ok(Self { mounts: mounts.lines().map(str::to_owned).collect(), temporary })
    }
}

/// Returns what has happened to a process of the container.
fn disturbed(web: &Web) -> Option<String> {
    let pids = web.container.host_pids();
    if pids.len() != 3 {
        return Some(format!("only {pids:?} run"));
    }
    pids.into_iter().find_map(|(name, pid)| {
        let status = read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let is_traced = !status.contains("\nTracerPid:\t0\n");
        let is_stopped = status.contains("\nState:\tT") || status.contains("\nState:\tt");
        (is_traced || is_stopped).then(|| format!("{name} is stopped or traced"))
    })
}

/// Returns a file that is neither the old nor the new one, or one that is not of the tree.
fn torn() -> Option<String> {
    for target in targets() {
        let names: BTreeSet<String> = read_dir(&target)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        if names != (0..FILES).map(|number| number.to_string()).collect() {
            return Some(format!("{target} has {names:?}"));
        }
        for number in 0..FILES {
            let text = read(format!("{target}/{number}")).unwrap_or_default();
            if text != b"old" && text != new_text(number) {
                return Some(format!("{target}/{number} has {} bytes", text.len()));
            }
        }
    }
    None
}
