//! A world of its own for the families of faults: PID, mount and cgroup namespaces made by
//! `tests/harness/world.sh`, in which this program runs again as PID 1, with one container, `docker:web`.
//! The output of a command there depends on nothing else on the host, so that two runs can be compared.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use serde_json::json;

use crate::harness::Container;
use crate::support::{Need, Outcome, check, children, finish, fixture, missing, note, repository};

/// The variable that names the task of a program in a world.
const TASK: &str = "CINSPECT_TEST_WORLD";
/// The variable that makes the families run at length.
const LONG: &str = "CINSPECT_TEST_LONG";
/// The time after which a run hangs. A machine may be under load.
const HANGS: Duration = Duration::from_secs(120);
/// A directory of both the world and the container.
pub const DATA: &str = "/run/tmp/data";

/// Whether everything is run that `tests/run` leaves out.
pub fn is_long() -> bool {
    std::env::var_os(LONG).is_some()
}

/// Returns the program under test; CINSPECT names another one.
pub fn program() -> PathBuf {
    std::env::var_os("CINSPECT").map_or(env!("CARGO_BIN_EXE_cinspect").into(), PathBuf::from)
}

/// Makes the trial of a task `FAMILY::NAME`, which is run in a world.
pub fn trial(needs: &[Need], family: &'static str, name: &str) -> Trial {
    let name = format!("{family}::{name}");
    if let Some(need) = needs.iter().find(|need| !need.met()) {
        return missing(need.name(), &name, &format!("no {}", need.name()));
    }
    Trial::test(name.clone(), move || {
        let mut world = Command::new(repository().join("tests/harness/world.sh"));
        world.arg(std::env::current_exe()?).env(TASK, &name).stdin(Stdio::null());
        let ran = finish(world);
        check(ran.code == 0, format!("status {}\n{}{}", ran.code, ran.out, ran.err))
    })
}

/// Runs a task of a family, which has this name.
pub type Task = fn(&str) -> Outcome;

/// Runs the task that the environment names, if any.
pub fn run_task(tasks: &[(&str, Task)]) -> Option<ExitCode> {
    let task = std::env::var(TASK).ok()?;
    let (family, name) = task.split_once("::")?;
    let run = tasks.iter().find(|(known, _)| *known == family)?.1;
    Some(match run(name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{}", error.message().unwrap_or_default());
            ExitCode::FAILURE
        }
    })
}

/// The checks of a task: each is reported for `tests/run` and `tests/long`, which count them by family.
pub struct Checks {
    family: &'static str,
    count: usize,
    failures: Vec<String>,
}

impl Checks {
    /// Begins.
    pub fn new(family: &'static str) -> Self {
        Self { family, count: 0, failures: Vec::new() }
    }

    /// Adds a result.
    pub fn add(&mut self, name: &str, outcome: Result<(), String>) {
        self.count += 1;
        match outcome {
            Ok(()) => note(self.family, name, "ok", ""),
            Err(why) => {
                note(self.family, name, "failed", &why.replace(['\n', '\t'], " "));
                self.failures.push(format!("{name}: {why}"));
            }
        }
    }

    /// Fails if any check has failed, or there was none.
    pub fn finish(self) -> Outcome {
        check(self.count > 0, "nothing was checked")?;
        let failed = format!("{} of {} checks failed", self.failures.len(), self.count);
        check(self.failures.is_empty(), format!("{failed}\n{}", self.failures.join("\n")))
    }
}

/// The container of a world, as Docker would have recorded it.
pub struct Web {
    /// Its processes.
    pub container: Container,
}

impl Web {
    const ID: &str = "3eb0000000000000000000000000000000000000000000000000000000003eb0";

    /// Starts it. Its init and one child exit on TERM; the other counts USR1.
    pub fn start() -> Result<Self, Failed> {
        Self::start_as(
            "init exits-after-children-on=TERM\n> web handle=USR1 exits-on=TERM\n> worker exits-on=TERM",
        )
    }

    /// Starts it with these processes.
    pub fn start_as(spec: &str) -> Result<Self, Failed> {
        let container = fixture(spec)?;
        for pid in container.host_pids().values() {
            for hierarchy in hierarchies() {
                let cgroup = hierarchy.join(format!("docker/{}", Self::ID));
                std::fs::create_dir_all(&cgroup)?;
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    if let Ok(value) = std::fs::read(hierarchy.join(file)) {
                        std::fs::write(hierarchy.join("docker").join(file), &value)?;
                        std::fs::write(cgroup.join(file), value)?;
                    }
                }
                std::fs::write(cgroup.join("cgroup.procs"), pid.to_string())?;
            }
        }
        let dir = PathBuf::from(format!("/var/lib/docker/containers/{}", Self::ID));
        std::fs::create_dir_all(&dir)?;
        std::fs::create_dir_all(DATA)?;
        let log = dir.join("log");
        std::fs::write(
            &log,
            "{\"log\":\"one\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00Z\"}\n",
        )?;
        let config = json!({
            "ID": Self::ID, "Name": "/web", "LogPath": log, "RestartCount": 1,
            "Config": {"Image": "app:1", "Env": ["A=b"]},
            "State": {"Running": true, "Pid": container.init, "ExitCode": 0, "StartedAt": "2026-01-01T00:00:00Z"},
        });
        std::fs::write(dir.join("config.v2.json"), config.to_string())?;
        let config = json!({"LogConfig": {"Type": "json-file", "Config": {}}, "RestartPolicy": {"Name": "no"}});
        std::fs::write(dir.join("hostconfig.json"), config.to_string())?;
        Ok(Self { container })
    }
}

fn hierarchies() -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    if top.join("cgroup.procs").exists() {
        return vec![top.to_owned()];
    }
    std::fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The result of a run in a world.
pub struct WorldRun {
    pub out: String,
    pub err: String,
    /// The exit status; 128 and the number of the signal that killed it.
    pub status: i32,
    pub has_hung: bool,
}

impl WorldRun {
    /// Returns why no run may end so, whatever was done to it.
    pub fn fault(&self) -> Option<String> {
        let what = match self.status {
            _ if self.has_hung => "hangs",
            101 => "panics",
            _ if self.err.contains("panicked at") => "panics",
            134 | 139 => "crashes",
            1.. if self.err.trim().is_empty() => "fails without a word",
            _ => return None,
        };
        Some(format!("{what}: {self}"))
    }
}

impl std::fmt::Display for WorldRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {}, out {:.600?}, err {:.600?}", self.status, self.out, self.err)
    }
}

/// Runs a command in the world until it exits.
pub fn run(command: Command) -> Result<WorldRun, Failed> {
    Running::start(command)?.finish()
}

/// A command in the world that runs.
pub struct Running {
    child: Child,
}

impl Running {
    const OUT: &str = "/run/tmp/out";
    const ERR: &str = "/run/tmp/err";

    /// Starts it with `/run/tmp/stream` as its input, if there is that file, and its streams in files: no reader
    /// has to keep up, and none waits for a process that was left behind.
    pub fn start(mut command: Command) -> Result<Self, Failed> {
        let stream = File::open("/run/tmp/stream");
        command.stdin(stream.map_or_else(|_| Stdio::null(), Stdio::from));
        command.stdout(File::create(Self::OUT)?).stderr(File::create(Self::ERR)?);
        set_environment(&mut command);
        Ok(Self { child: command.spawn()? })
    }

    /// Returns its PID; it is not reaped before [`Running::finish`].
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Waits for its end. If it hangs it is killed.
    pub fn finish(mut self) -> Result<WorldRun, Failed> {
        let deadline = Instant::now() + HANGS;
        let mut has_hung = false;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline && !has_hung {
                has_hung = true;
                kill_tree(self.pid());
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        let read = |path| std::fs::read(path).map(|t| String::from_utf8_lossy(&t).into_owned());
        Ok(WorldRun { out: read(Self::OUT)?, err: read(Self::ERR)?, status, has_hung })
    }
}

/// Sets the environment of commands in the world.
fn set_environment(command: &mut Command) {
    command.env("LC_ALL", "C.UTF-8").env_remove("COLUMNS").env_remove("NO_COLOR").env_remove(TASK);
}

/// Kills a process and its descendants, children first: a tracer's before it.
fn kill_tree(pid: i32) {
    children(pid).into_iter().for_each(kill_tree);
    let pid = nix::unistd::Pid::from_raw(pid);
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
}

/// Reaps processes that were left to PID 1, while no run is under way, and returns those that still live
/// apart from the container's, by name. A child of a command that was killed may take a moment to notice.
pub fn strays(web: &Web) -> Vec<String> {
    let is_expected = |pid: i32| {
        pid == 1
            || pid == web.container.monitor_pid()
            || web.container.host_pids().values().any(|p| *p == pid)
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        while matches!(
            waitpid(None, Some(WaitPidFlag::WNOHANG)),
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..))
        ) {}
        let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let names = pids.filter(|pid| !is_expected(*pid)).filter_map(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
            (!rest.starts_with(['Z', 'X'])).then(|| format!("{pid} {name}"))
        });
        let names: Vec<String> = names.collect();
        if names.is_empty() || Instant::now() > deadline {
            return names;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns a file that says that a cgroup is frozen.
pub fn frozen() -> Option<String> {
    let mut todo = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = todo.pop() {
        let files = [("freezer.state", "FRO"), ("freezer.state", "FREEZ"), ("cgroup.freeze", "1")];
        for (name, frozen) in files {
            let file = dir.join(name);
            if std::fs::read_to_string(&file).is_ok_and(|state| state.starts_with(frozen)) {
                return Some(file.display().to_string());
            }
        }
        let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        todo.extend(dirs.map(|entry| entry.path()));
    }
    None
}

/// Counts the words by which an answer says that something is not known.
pub fn doubts(text: &str) -> usize {
    const WORDS: [&str; 5] = ["?", "unknown", "maybe", "sent", "unverified"];
    const PHRASES: [&str; 4] = ["could not be read", "cannot", "cannot tell", "not known"];
    let words = text.split(|c: char| c.is_whitespace() || c == ',' || c == ':');
    let words = words.filter(|word| WORDS.contains(word)).count();
    words + PHRASES.iter().map(|phrase| text.matches(phrase).count()).sum::<usize>()
}

/// Replaces every number by one character.
pub fn without_numbers(text: &str) -> String {
    let mut result = String::new();
    for c in text.chars() {
        let is_number = c.is_ascii_digit() || (c == '.' && result.ends_with('#'));
        if !is_number {
            result.push(c);
        } else if !result.ends_with('#') {
            result.push('#');
        }
    }
    // (A column may be wider, and an age have another unit.)
    let words = result.split_whitespace().map(|word| match word {
        "#m#s" | "#h#m" | "#d#h" => "#s",
        word => word,
    });
    words.collect::<Vec<_>>().join(" ")
}
