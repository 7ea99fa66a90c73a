//! Real Go programs, built here by every Go toolchain that is found, and Node.js: what is said of each signal,
//! held against what the signal does, as the init of a PID namespace and otherwise.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};

use cinspect::testing::{GoProgram, GoSource, Signal, pidfd};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::harness::PATIENCE;
use crate::support::{
    Need, Outcome, check, children, missing, run, runs, same, test_with, wait_until,
};

const ASKS: &str = include_str!("../harness/asks.go");
const PLAIN: &str = include_str!("../harness/plain.go");

/// Signals that end a program that did not ask for them.
const ENDING: &[i32] = &[1, 2, 3, 4, 5, 6, 7, 8, 11, 15, 16, 31];
/// Signals that are not sent: they kill and stop, or belong to the thread library.
const LEFT_OUT: &[i32] = &[9, 19, 20, 21, 22, 32, 33, 34];

pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = toolchains()
        .into_iter()
        .flat_map(|toolchain| {
            let named =
                |test: &str| &*format!("program_signals::{test}_{}", toolchain.version).leak();
            let (behaves, table) = (named("does_as_is_said"), named("table_is_found_for_arm64"));
            let other = toolchain.clone();
            [
                test_with(Need::Root, behaves, move || behaves_as_said(&toolchain)),
                test_with(Need::Root, table, move || finds_the_table_for_arm64(&other)),
            ]
        })
        .collect();
    if trials.is_empty() {
        trials.push(missing("programs", "program_signals::go", "no Go toolchain is installed"));
    }
    let node = "program_signals::node_does_as_is_said";
    trials.push(match in_path("node") {
        Some(path) => test_with(Need::Root, node, move || node_behaves_as_said(&path)),
        None => missing("programs", node, "no node is installed"),
    });
    trials
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// A Go toolchain.
#[derive(Clone, Debug)]
struct Toolchain {
    go: PathBuf,
    /// As it says itself: `go1.19.8`.
    version: String,
}

/// Finds Debian's, the one in the search path, and those that `CINSPECT_TEST_GO` lists.
fn toolchains() -> Vec<Toolchain> {
    let debian = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let debian = debian.map(|entry| entry.path().join("bin/go"));
    let listed = std::env::var_os("CINSPECT_TEST_GO").unwrap_or_default();
    let listed: Vec<PathBuf> = std::env::split_paths(&listed).collect();
    let mut found = BTreeMap::new();
    for go in debian.chain(listed).chain(in_path("go")).filter(|go| go.is_file()) {
        let output = Command::new(&go).arg("version").env("GOTOOLCHAIN", "local").output();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        if let Some(version) = text.split_whitespace().nth(2) {
            found.insert(version.to_owned(), go);
        }
    }
    found.into_iter().map(|(version, go)| Toolchain { go, version }).collect()
}

impl Toolchain {
    /// Builds a program, for this machine or another; `arguments` are those of `go build`.
    fn build(
        &self,
        dir: &Path,
        source: &str,
        machine: Option<&str>,
        arguments: &[&str],
    ) -> Result<PathBuf, Failed> {
        let error = |error: std::io::Error| Failed::from(error.to_string());
        let uses_c = source.contains("import \"C\"");
        let program = tempfile::Builder::new().tempfile_in(dir).map_err(error)?;
        let program = program.into_temp_path().keep().map_err(|e| error(e.error))?;
        let main = dir.join("main.go");
        std::fs::write(&main, source).map_err(error)?;
        let mut build = Command::new(&self.go);
        build.arg("build").args(arguments).arg("-o").arg(&program).arg(&main).current_dir(dir);
        build.env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join(&self.version));
        build.env("GOTOOLCHAIN", "local").env("GO111MODULE", "off").env("GOFLAGS", "");
        build.env("CGO_ENABLED", if uses_c { "1" } else { "0" });
        if let Some(machine) = machine {
            build.env("GOARCH", machine);
        }
        let output = build.output().map_err(error)?;
        check(output.status.success(), String::from_utf8_lossy(&output.stderr))?;
        Ok(program)
    }
}

fn behaves_as_said(toolchain: &Toolchain) -> Outcome {
    let dir = tempfile::tempdir().map_err(|error| Failed::from(error.to_string()))?;
    let with_c = |source: &str| source.replacen("import", "import \"C\"\n\nimport", 1);
    let strip = "-ldflags=-s -w";
    let external = ["-buildmode=pie", "-ldflags=-s -w -linkmode=external"];
    let some = &[15, 3];
    for (number, (source, build)) in [
        (PLAIN.to_owned(), &[strip][..]),
        (PLAIN.to_owned(), &["-buildmode=pie", strip]),
        (with_c(PLAIN), &external),
    ]
    .into_iter()
    .enumerate()
    {
        let program = &toolchain.build(dir.path(), &source, None, build)?;
        let endings = if number == 0 { ENDING } else { some };
        for init in [true, false] {
            Case { init, ..Case::new(program) }.check(endings)?;
        }
    }
    for (source, build) in [
        (ASKS.to_owned(), &[strip][..]),
        (ASKS.to_owned(), &["-buildmode=pie", strip]),
        (with_c(ASKS), &external),
    ] {
        let program = &toolchain.build(dir.path(), &source, None, build)?;
        let case = Case::new(program);
        Case { arguments: &["TERM"], asked: &[15], init: true, ..case }.check(&[2])?;
        let asked = &[15, 18, 40];
        Case { arguments: &["TERM", "CONT", "40"], asked, ..case }.check(&[1])?;
        Case { arguments: &["TERM", "stop"], init: true, ..case }.check(some)?;
        let ignored = &[10, 15];
        Case { arguments: &["ignore"], ignored, init: true, ..case }.check(&[2])?;
        Case { arguments: &["TERM", "ignore"], ignored, ..case }.check(&[2])?;
        let asked: Vec<i32> = sent().collect();
        Case { arguments: &["all"], asked: &asked, init: true, ..case }.check(&[15])?;
    }
    Ok(())
}

/// A program that runs with these arguments.
#[derive(Clone, Copy)]
struct Case<'a> {
    program: &'a Path,
    arguments: &'a [&'a str],
    init: bool,
    /// The signals that it asks for.
    asked: &'a [i32],
    ignored: &'a [i32],
}

/// The end of a process, or that it continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Exit(i32),
    Signal(i32),
    Continues,
    /// It continues and prints the signal.
    Receives,
}

fn sent() -> impl Iterator<Item = i32> {
    (1..=64).filter(|number| !LEFT_OUT.contains(number))
}

impl<'a> Case<'a> {
    fn new(program: &'a Path) -> Self {
        Self { program, arguments: &[], init: false, asked: &[], ignored: &[] }
    }

    /// Checks what is said of every signal, and, for each of `endings`, in a process of its own, that it
    /// ends as was said. Before that it gets the others: an end by one of them would be another.
    fn check(&self, endings: &[i32]) -> Outcome {
        for ending in endings {
            let running = Running::start(self)?;
            let said = running.said()?;
            for number in sent() {
                let (end, text) = &said[&number];
                let fits = match end {
                    End::Receives => self.asked.contains(&number),
                    End::Exit(_) | End::Signal(_) => {
                        ENDING.contains(&number) && !self.asked.contains(&number)
                    }
                    End::Continues => {
                        self.ignored.contains(&number)
                            || !(ENDING.contains(&number) || self.asked.contains(&number))
                    }
                };
                let case = (self.arguments, self.init, number);
                check(fits, format!("{case:?} of {:?}: {text}", self.program))?;
            }
            self.ends(running, &said, *ending)?;
        }
        Ok(())
    }

    fn ends(
        &self,
        mut running: Running,
        said: &BTreeMap<i32, (End, String)>,
        ending: i32,
    ) -> Outcome {
        let continues = |number: &i32| matches!(said[number].0, End::Receives | End::Continues);
        for number in sent().filter(continues) {
            running.send(number)?;
            // (PROF is the profiler's, even if the program asks for it.)
            if said[&number].0 == End::Receives && number != 27 {
                running.wait_for(&format!("got {number}"))?;
            }
        }
        let expected = said[&ending].0;
        if expected == End::Receives {
            // It has received all of them, this one, too.
            return Ok(());
        }
        running.send(ending)?;
        let status = running.wait()?;
        let end = match (status.code(), status.signal()) {
            (Some(code), _) => End::Exit(code),
            (None, signal) => End::Signal(signal.unwrap_or(0)),
        };
        let case = (self.arguments, self.init, ending);
        same((case, end), (case, expected))
    }
}

/// A running program in a PID namespace; it ends with the test.
struct Running {
    /// The program that started it, and that ends as it does.
    monitor: Child,
    pid: i32,
    lines: Receiver<String>,
    /// Where it is not PID 1 itself.
    _init: Option<Init>,
}

/// The init of a PID namespace. Its end ends all in it.
struct Init(Child);

impl Drop for Init {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = (self.monitor.kill(), self.monitor.wait());
    }
}

fn child_of(pid: u32) -> Option<i32> {
    children(pid.cast_signed()).first().copied()
}

impl Running {
    fn start(case: &Case<'_>) -> Result<Self, Failed> {
        let error = |error: std::io::Error| Failed::from(error.to_string());
        let unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--"];
        let mut command = Command::new(unshare[0]);
        let mut init = None;
        if case.init {
            command.args(&unshare[1..]);
        } else {
            let mut sleep = Command::new(unshare[0]);
            sleep.args(&unshare[1..]).args(["sleep", "1000"]);
            let sleep = init.insert(Init(sleep.spawn().map_err(error)?));
            let mut target = None;
            let is_up = || {
                target = child_of(sleep.0.id());
                target.is_some_and(|pid| runs(pid, &["sleep", "1000"]))
            };
            check(wait_until(is_up), "no init")?;
            command = Command::new("nsenter");
            command.args(["-p", "-t", &target.unwrap_or_default().to_string(), "--"]);
        }
        command.arg(case.program).args(case.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut monitor = command.spawn().map_err(error)?;
        let output = BufReader::new(monitor.stdout.take().ok_or("no output")?);
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut running = Self { monitor, pid: 0, lines, _init: init };
        running.wait_for("ready")?;
        running.pid = child_of(running.monitor.id()).ok_or("it has exited")?;
        Ok(running)
    }

    /// Waits until it prints a line.
    fn wait_for(&self, wanted: &str) -> Outcome {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            if line.map_err(|_| format!("it does not print `{wanted}`"))? == wanted {
                return Ok(());
            }
        }
    }

    fn send(&self, number: i32) -> Outcome {
        let scope = pidfd::SignalScope::Process;
        let sent = pidfd::open(self.pid, scope)
            .and_then(|process| pidfd::send(&process, number, None, scope));
        sent.map_err(|errno| format!("signal {number}: {}", errno.desc()).into())
    }

    fn wait(&mut self) -> Result<ExitStatus, Failed> {
        let mut status = None;
        wait_until(|| {
            status = self.monitor.try_wait().ok().flatten();
            status.is_some()
        });
        status.ok_or_else(|| "it continues".into())
    }

    /// Returns what is said of each signal.
    fn said(&self) -> Result<BTreeMap<i32, (End, String)>, Failed> {
        let signals: Vec<Signal> =
            sent().filter_map(|number| Signal::parse(&number.to_string()).ok()).collect();
        let names: Vec<String> = signals.iter().map(|signal| signal.name()).collect();
        let word = format!("pid:{}", self.pid);
        let mut arguments = vec!["--json", "signals", &word];
        arguments.extend(names.iter().map(String::as_str));
        let rows = run(&arguments).expect(0)?.objects();
        let said: BTreeMap<i32, (End, String)> = signals
            .iter()
            .filter_map(|signal| {
                let is_it = |row: &&Value| {
                    row["host_pid"] == json!(self.pid) && row["signal"] == json!(signal.name())
                };
                let row = rows.iter().find(is_it)?;
                Some((signal.number(), (end(row, signal.number()), row.to_string())))
            })
            .collect();
        check(said.len() == names.len(), format!("{said:?}"))?;
        Ok(said)
    }
}

/// Returns the end that a row of `signals` says.
fn end(row: &Value, number: i32) -> End {
    let note = row["note"].as_str().unwrap_or_default();
    let status = note.split("exits with status ").nth(1).and_then(|rest| rest.split(':').next());
    match status.and_then(|status| status.parse().ok()) {
        Some(status) => End::Exit(status),
        None if note.contains("is terminated by it") => End::Signal(number),
        None if note.contains("asked for") && !note.contains("did not") => End::Receives,
        None => End::Continues,
    }
}

/// The address of the table, found in the code for a machine that the tests do not run on, is that of the
/// symbol.
fn finds_the_table_for_arm64(toolchain: &Toolchain) -> Outcome {
    let error = |error: std::io::Error| Failed::from(error.to_string());
    let dir = tempfile::tempdir().map_err(error)?;
    for (source, build) in [
        (PLAIN, &[][..]),
        (ASKS, &[]),
        (ASKS, &["-buildmode=pie"]),
        (ASKS, &["-gcflags=all=-N -l"]),
    ] {
        let program = toolchain.build(dir.path(), source, Some("arm64"), build)?;
        let output = Command::new("nm").arg(&program).output().map_err(error)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let symbol = text.lines().find_map(|line| line.strip_suffix(" runtime.sig"));
        let address = symbol.and_then(|line| u64::from_str_radix(line.get(..16)?, 16).ok());
        check(address.is_some(), "nm")?;
        let file = std::fs::File::open(&program).map_err(error)?;
        let length = file.metadata().map_err(error)?.len();
        let read = |buffer: &mut [u8], offset: u64| file.read_exact_at(buffer, offset);
        let found = GoProgram::read(&GoSource::new(length, &read));
        let found = found?;
        same((build, found.table), (build, address.filter(|_| source == ASKS)))?;
        check(toolchain.version.starts_with(&format!("go1.{}", found.release.unwrap_or(0))), "")?;
    }
    Ok(())
}

/// Its own handlers end it as a child and do nothing as PID 1; a listener gets the signal.
fn node_behaves_as_said(node: &Path) -> Outcome {
    let symbols = Command::new("nm").arg(node).output()?;
    let is_known = String::from_utf8_lossy(&symbols.stdout).contains(" uv__signal_tree\n");
    let keep = "console.log('ready'); setInterval(() => {}, 1000)";
    let listener = format!("process.on('SIGTERM', () => console.log('got 15')); {keep}");
    for (script, init) in [(keep, true), (keep, false), (&listener, true), (&listener, false)] {
        let mut running =
            Running::start(&Case { arguments: &["-e", script], init, ..Case::new(node) })?;
        let rows =
            run(&["--json", "signals", &format!("pid:{}", running.pid), "TERM"]).expect(0)?;
        let rows = rows.objects();
        let row = rows.iter().find(|row| row["host_pid"] == json!(running.pid));
        let note = row.map(|row| row["note"].to_string()).unwrap_or_default();
        running.send(15)?;
        let said = if script != keep {
            running.wait_for("got 15")?;
            "has a listener"
        } else if init {
            // Its handler is used once.
            let caught = || {
                let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid));
                let status = status.unwrap_or_default();
                let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t"));
                u64::from_str_radix(mask.unwrap_or_default(), 16).unwrap_or(0)
            };
            check(
                wait_until(|| matches!(caught(), mask if mask != 0 && mask & 1 << 14 == 0)),
                note.as_str(),
            )?;
            "ignores it: the program has no listener"
        } else {
            same(running.wait()?.signal(), Some(15))?;
            "is terminated by it: the program has no listener"
        };
        let said = if is_known { said } else { "not known" };
        check(note.contains(said), format!("{script}: {note}"))?;
    }
    Ok(())
}
