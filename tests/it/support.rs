//! Helpers for every test: running the program, reading its JSON, and the requirements of a test.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

pub use crate::harness::patience;
use crate::harness::{Container, PATIENCE};

/// The result of a test: an error is a failure.
pub type Outcome = Result<(), Failed>;

/// A requirement of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Containers of the harness: root, or unprivileged user namespaces.
    Namespaces,
    /// uid 0 with the capabilities to make mounts and namespaces.
    Root,
    /// The shells with completion scripts that call the program.
    Shells,
    /// tmux(1), and root for the namespaces in it.
    Tmux,
    /// Formatters of manual pages: man(1) with groff, and mandoc.
    Manual,
    /// strace(1), and root.
    Strace,
    /// A FUSE device, and root to mount it.
    Fuse,
    /// Programs that read and write archives, and those that set what is in them; root.
    Archivers,
    /// A busybox(1) that runs in an empty root directory, which a dynamic one does not; root.
    Busybox,
}

impl Need {
    /// Returns the name in `CINSPECT_TEST_REQUIRE`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Root => "root",
            Self::Shells => "shells",
            Self::Tmux => "tmux",
            Self::Manual => "manual",
            Self::Strace => "strace",
            Self::Fuse => "fuse",
            Self::Archivers => "archivers",
            Self::Busybox => "busybox",
        }
    }

    /// Whether the requirement is met on this machine: tried once, since it starts programs.
    pub fn met(self) -> bool {
        static MET: Mutex<BTreeMap<&str, bool>> = Mutex::new(BTreeMap::new());
        let mut met = MET.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *met.entry(self.name()).or_insert_with(|| self.is_met())
    }

    fn is_met(self) -> bool {
        let root = nix::unistd::geteuid().is_root();
        match self {
            Self::Root => root,
            Self::Strace => root && works(&["strace", "-V"]),
            Self::Fuse => root && Path::new("/dev/fuse").exists(),
            Self::Archivers => {
                let programs = ["tar", "bsdtar", "python3", "git", "setfacl", "setfattr"];
                root && programs.iter().all(|program| works(&[program, "--version"]))
                    && works(&["busybox", "tar", "--help"])
            }
            Self::Busybox => {
                let script = "d=$(mktemp -d) && cp -L \"$(command -v busybox)\" $d/busybox \
                    && chroot $d /busybox true; code=$?; rm -r $d; exit $code";
                root && works(&["sh", "-c", script])
            }
            Self::Tmux => root && works(&["tmux", "-V"]),
            Self::Manual => {
                works(&["man", "--version"]) && works(&["sh", "-c", "command -v mandoc"])
            }
            Self::Shells => ["bash", "zsh", "fish"].iter().all(|s| works(&[s, "-c", "true"])),
            Self::Namespaces => root || works(&["unshare", "-Urpf", "--mount-proc", "true"]),
        }
    }
}

fn works(argv: &[&str]) -> bool {
    let mut command = Command::new(argv[0]);
    command.args(&argv[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Makes the trial of a test that needs only the program.
pub fn test(name: &'static str, run: impl FnOnce() -> Outcome + Send + 'static) -> Trial {
    Trial::test(name, move || {
        let outcome = run();
        report("harness", name, &outcome);
        outcome
    })
}

/// Makes the trial of a test with a requirement: where that is not met the test is listed as ignored, or
/// fails if it is required.
pub fn test_with(
    need: Need,
    name: &'static str,
    run: impl FnOnce() -> Outcome + Send + 'static,
) -> Trial {
    if need.met() {
        return test(name, run);
    }
    missing(need.name(), name, &format!("no {}", need.name()))
}

/// A test with its name.
pub type NamedTest = (&'static str, fn() -> Outcome);

/// Makes the trials of tests with the same requirement.
pub fn tests_with(need: Need, tests: &[NamedTest]) -> Vec<Trial> {
    tests.iter().map(|(name, run)| test_with(need, name, *run)).collect()
}

/// Makes the trial of a test that cannot run on this machine.
pub fn missing(need: &str, name: &str, reason: &str) -> Trial {
    let required = std::env::var("CINSPECT_TEST_REQUIRE").unwrap_or_default();
    let reason = reason.to_owned();
    if required.split([',', ' ']).any(|required| required == need) {
        return Trial::test(
            name,
            move || Err(format!("required, but cannot run: {reason}").into()),
        );
    }
    not_applicable(name, &reason)
}

/// Makes the trial of a test that does not apply to its subject: always listed as ignored.
pub fn not_applicable(name: &str, reason: &str) -> Trial {
    Trial::test(format!("{name} [cannot: {reason}]"), || Ok(())).with_ignored_flag(true)
}

/// Writes the result of a test for `tests/run`, which counts them by engine.
pub fn report(engine: &str, name: &str, outcome: &Outcome) {
    let why = outcome.as_ref().err().and_then(Failed::message).unwrap_or_default();
    let why: Vec<&str> = why.split_whitespace().collect();
    note(engine, name, if outcome.is_ok() { "ok" } else { "failed" }, &why.join(" "));
}

/// Writes a line of that report.
pub fn note(engine: &str, name: &str, result: &str, reason: &str) {
    use std::io::Write;
    let Some(file) = std::env::var_os("CINSPECT_TEST_REPORT") else { return };
    if let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(file) {
        let _ = file.write_all(format!("{engine}\t{name}\t{result}\t{reason}\n").as_bytes());
    }
}

/// Polls a condition that is certain to hold some time, and returns whether it does.
pub fn wait_until(holds: impl FnMut() -> bool) -> bool {
    wait_at_most(PATIENCE, holds)
}

/// Polls a condition for at most this long (times the factor), and returns whether it holds.
pub fn wait_at_most(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + limit * patience();
    while Instant::now() < until {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

/// Returns the program under test with these arguments, in a UTF-8 locale and without colour.
pub fn cinspect(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cinspect"));
    command
        .args(arguments)
        .env_remove("COLUMNS")
        .env_remove("NO_COLOR")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null());
    command
}

/// The result of a run.
#[derive(Debug)]
pub struct Run {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// Exit status; -1 if it was killed by a signal.
    pub code: i32,
    /// Duration.
    pub took: Duration,
}

/// Runs the program until it exits.
pub fn run(arguments: &[&str]) -> Run {
    finish(cinspect(arguments))
}

/// Runs a command until it exits.
pub fn finish(mut command: Command) -> Run {
    let start = Instant::now();
    let output: Output = command.output().expect("the program starts");
    Run {
        out: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        err: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
        code: output.status.code().unwrap_or(-1),
        took: start.elapsed(),
    }
}

impl Run {
    /// Parses the objects of NDJSON output.
    pub fn objects(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// Fails with the whole output unless the status is `code`.
    pub fn expect(self, code: i32) -> Result<Self, Failed> {
        if self.code == code {
            return Ok(self);
        }
        Err(format!(
            "exit status {} instead of {code}\nstdout: {}\nstderr: {}",
            self.code, self.out, self.err
        )
        .into())
    }
}

/// Starts a container of the harness, whose processes are this program.
pub fn fixture(spec: &str) -> Result<Container, Failed> {
    Ok(Container::start(&std::env::current_exe()?, spec)?)
}

/// Starts a command that traces, and waits until it does; returns it with the rest of its standard error.
pub fn start_trace(mut command: Command) -> Result<(Child, BufReader<ChildStderr>), Failed> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stderr = BufReader::new(child.stderr.take().ok_or("no stderr")?);
    let mut text = String::new();
    while !text.contains("tracing ") {
        check(stderr.read_line(&mut text)? > 0, format!("trace ended: {text}"))?;
    }
    Ok((child, stderr))
}

/// Returns the children of a process that its main thread has started; none if it is gone.
pub fn children(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    text.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether a process runs this command. (It has its arguments a moment after its name.)
pub fn runs(pid: i32, argv: &[&str]) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.strip_suffix(b"\0") == Some(argv.join("\0").as_bytes())
}

/// A command of the host as PID 1 of a PID namespace; dropping it kills it.
pub struct UnsharedInit {
    monitor: std::process::Child,
    /// The host PID of its PID 1.
    pub init: i32,
}

impl UnsharedInit {
    /// Starts the command, with every signal at its default disposition.
    pub fn start(argv: &[&str]) -> Result<Self, Failed> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child", "--"]);
        unshare.args(["env", "--default-signal"]).args(argv);
        unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut started = Self { monitor: unshare.spawn()?, init: 0 };
        let monitor = started.monitor.id().cast_signed();
        let child = || children(monitor).first().copied();
        // It has become the program: before, it is unshare, and then env.
        let is_program = |pid: i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            !line.is_empty() && !line.starts_with(b"unshare\0") && !line.starts_with(b"env\0")
        };
        check(wait_until(|| child().is_some_and(is_program)), format!("{argv:?} does not run"))?;
        started.init = child().ok_or("it has exited")?;
        Ok(started)
    }

    /// Returns the reference of the container.
    pub fn name(&self) -> String {
        format!("pid:{}", self.init)
    }

    /// Stops the parent of the init, which reaps nothing then.
    pub fn stop_parent(&self) -> Outcome {
        stop_process(&self.monitor)
    }
}

/// Stops a child by SIGSTOP.
pub fn stop_process(child: &std::process::Child) -> Outcome {
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    Ok(nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP)?)
}

impl Drop for UnsharedInit {
    fn drop(&mut self) {
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
    }
}

/// Makes the trial of a test that needs root and these programs of the host.
pub fn test_with_programs(
    programs: &[&'static str],
    name: &'static str,
    run: impl FnOnce() -> Outcome + Send + 'static,
) -> Trial {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<_> = std::env::split_paths(&path).collect();
    let is_missing = |program: &&&str| !directories.iter().any(|dir| dir.join(program).exists());
    match programs.iter().find(is_missing) {
        Some(program) => missing(program, name, &format!("no {program}")),
        None => test_with(Need::Root, name, run),
    }
}

/// Runs a script of the host in the mount and PID namespaces of a container.
pub fn within(container: &Container, script: &str) -> Outcome {
    let mut command = Command::new("nsenter");
    command.args(["-t", &container.init.to_string(), "-m", "-p", "--", "sh", "-c", script]);
    finish(command).expect(0).map(drop)
}

/// Fails with a message unless a condition holds.
pub fn check(holds: bool, message: impl ToString) -> Outcome {
    if holds { Ok(()) } else { Err(message.to_string().into()) }
}

/// Fails with both values unless they are equal.
pub fn same<T: PartialEq + std::fmt::Debug>(got: T, wanted: T) -> Outcome {
    if got == wanted { Ok(()) } else { Err(format!("got    {got:?}\nwanted {wanted:?}").into()) }
}

/// Returns the directory of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Returns the first character that acts on a terminal. Only colours may be in output.
pub fn control_character(text: &str) -> Option<char> {
    text.chars().find(|c| (c.is_control() && *c != '\n') || matches!(*c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}'..='\u{200f}'))
}

/// Runs the program without privileges. Its directory may be closed to other users, so it is copied, by
/// another process: a parallel test that forks during the copy would keep it busy (ETXTBSY).
pub fn unprivileged(arguments: &[&str]) -> Run {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let copy = format!("cinspect-unprivileged-{}-{number}", std::process::id());
    let copy = std::env::temp_dir().join(copy);
    let _ = Command::new("cp").arg(env!("CARGO_BIN_EXE_cinspect")).arg(&copy).status();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.arg(&copy).args(arguments);
    let run = finish(command);
    let _ = std::fs::remove_file(&copy);
    run
}
