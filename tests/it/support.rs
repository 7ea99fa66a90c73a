//! What every test uses: running the program, reading its JSON, and saying what a test needs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::harness::Container;

/// What became of a test: an error is a failure.
pub type Outcome = Result<(), Failed>;

/// What a test cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A container of our own: root, or user namespaces for everybody.
    Namespaces,
    /// uid 0 with the capabilities to make mounts and namespaces.
    Root,
    /// The shells that completion is for.
    Shells,
    /// A terminal that can be captured, and root for the namespaces in it.
    Tmux,
    /// The readers of manual pages: man(1) with groff, and mandoc.
    Manual,
    /// strace(1), and containers for it to look at.
    Strace,
    /// A FUSE device, and root to mount it.
    Fuse,
}

impl Need {
    /// As `CINSPECT_TEST_REQUIRE` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Root => "root",
            Self::Shells => "shells",
            Self::Tmux => "tmux",
            Self::Manual => "manual",
            Self::Strace => "strace",
            Self::Fuse => "fuse",
        }
    }

    /// Whether it is there.
    pub fn met(self) -> bool {
        let root = nix::unistd::geteuid().is_root();
        match self {
            Self::Root => root,
            Self::Strace => root && works(&["strace", "-V"]),
            Self::Fuse => root && Path::new("/dev/fuse").exists(),
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

/// A test that needs nothing but the program.
pub fn test(name: &'static str, run: impl FnOnce() -> Outcome + Send + 'static) -> Trial {
    Trial::test(name, move || {
        let outcome = run();
        report("harness", name, &outcome);
        outcome
    })
}

/// A test that needs something. Where it is missing the test is ignored by name, or fails where it
/// is required.
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

/// The trial of a test that cannot run here.
pub fn missing(need: &str, name: &str, why: &str) -> Trial {
    let required = std::env::var("CINSPECT_TEST_REQUIRE").unwrap_or_default();
    let why = why.to_owned();
    if required.split([',', ' ']).any(|required| required == need) {
        return Trial::test(name, move || Err(format!("required, but cannot run: {why}").into()));
    }
    not_applicable(name, &why)
}

/// The trial of a test that makes no sense for what it would test: listed as ignored, everywhere.
pub fn not_applicable(name: &str, why: &str) -> Trial {
    Trial::test(format!("{name} [cannot: {why}]"), || Ok(())).with_ignored_flag(true)
}

/// Notes for `tests/run`, which counts by engine, what became of a test.
pub fn report(engine: &str, name: &str, outcome: &Outcome) {
    note(engine, name, if outcome.is_ok() { "ok" } else { "failed" }, "");
}

/// One line of that report.
pub fn note(engine: &str, name: &str, word: &str, why: &str) {
    use std::io::Write;
    let Some(file) = std::env::var_os("CINSPECT_TEST_REPORT") else { return };
    if let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(file) {
        let _ = file.write_all(format!("{engine}\t{name}\t{word}\t{why}\n").as_bytes());
    }
}

/// Asks again and again, for at most ten seconds.
pub fn wait_until(mut holds: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

/// The program under test, in the C locale's UTF-8 and without colour.
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

/// What a run gave.
#[derive(Debug)]
pub struct Run {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// Exit status; -1 when a signal ended it.
    pub code: i32,
    /// How long it took.
    pub took: Duration,
}

/// Runs the program to its end.
pub fn run(arguments: &[&str]) -> Run {
    finish(cinspect(arguments))
}

/// Runs a prepared command to its end.
pub fn finish(mut command: Command) -> Run {
    let begun = Instant::now();
    let output: Output = command.output().expect("the program starts");
    Run {
        out: String::from_utf8(output.stdout).expect("stdout is UTF-8, whatever a container says"),
        err: String::from_utf8(output.stderr).expect("stderr is UTF-8, whatever a container says"),
        code: output.status.code().unwrap_or(-1),
        took: begun.elapsed(),
    }
}

impl Run {
    /// The objects of an NDJSON answer.
    pub fn objects(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// Fails with everything that was printed unless the status is as expected.
    pub fn expect(self, code: i32) -> Result<Self, Failed> {
        if self.code == code {
            return Ok(self);
        }
        Err(format!(
            "status {} instead of {code}\nstdout: {}\nstderr: {}",
            self.code, self.out, self.err
        )
        .into())
    }
}

/// A container of the harness, played by this very program.
pub fn fixture(lines: &str) -> Result<Container, Failed> {
    let me = std::env::current_exe().map_err(|error| error.to_string())?;
    Container::start(&me, lines).map_err(|error| error.to_string().into())
}

/// Runs a script in the container's mounts, from the host.
pub fn within(container: &Container, script: &str) -> Outcome {
    let mut command = Command::new("nsenter");
    command.args(["-t", &container.init.to_string(), "-m", "-p", "--", "sh", "-c", script]);
    finish(command).expect(0).map(drop)
}

/// Fails with a message unless something holds.
pub fn check(holds: bool, message: impl ToString) -> Outcome {
    if holds { Ok(()) } else { Err(message.to_string().into()) }
}

/// Fails unless two values are equal, showing both.
pub fn same<T: PartialEq + std::fmt::Debug>(got: T, wanted: T) -> Outcome {
    if got == wanted { Ok(()) } else { Err(format!("got    {got:?}\nwanted {wanted:?}").into()) }
}

/// The folder of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// What no output may hold but in a terminal's own colours: everything that acts on a terminal.
pub fn paints(text: &str) -> Option<char> {
    text.chars().find(|c| (c.is_control() && *c != '\n') || matches!(*c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}'..='\u{200f}'))
}
