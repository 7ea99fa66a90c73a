//! THE TEST OF THE FORECAST: real programs as PID 1 of a PID namespace and below the inits. `stop -n` says what
//! a stop will do, the signal is sent without cinspect, and the kernel says how each process ended
//! (PIDFD_GET_INFO, before Linux 6.15 the process events connector). The rows are in tests/forecast.rows, which
//! says how they are written.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cinspect::testing::{ExitEvents, Signal, pidfd};
use libtest_mimic::{Failed, Trial};
use serde_json::Value as Json;

use crate::descendants::{EXITED, settled_descendants};
use crate::harness::PATIENCE;
use crate::support::{Need, Outcome, check, note, repository, run, test_with};

/// How many rows run at the same time: they sleep most of the time.
const AT_ONCE: usize = 12;

pub fn trials() -> Vec<Trial> {
    vec![test_with(Need::Root, "forecast::holds_for_real_programs", holds)]
}

/// A program, where it runs, and the signal that stops it.
#[derive(Clone, Debug, Default)]
struct ForecastCase {
    name: String,
    /// The command of the init that it runs below; none if it is PID 1 itself.
    init: Option<String>,
    signal: String,
    /// The least number of its processes.
    processes: usize,
    grace: u64,
    /// The file that it has made when it is ready.
    ready: Option<String>,
    /// Whether `maybe` is the right answer.
    is_uncertain: bool,
    needs: Vec<String>,
    script: String,
}

/// Parses tests/forecast.rows.
fn cases(text: &str) -> Vec<ForecastCase> {
    let mut cases = Vec::new();
    let mut blocks: Vec<(&str, String)> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        match (line.strip_prefix("    "), blocks.last_mut()) {
            (Some(script), Some(block)) => block.1 += &format!("{script}\n"),
            _ => blocks.push((line, String::new())),
        }
    }
    for (head, script) in blocks {
        let mut words = head.split_whitespace();
        let mut case = ForecastCase {
            name: words.next().unwrap_or_default().to_owned(),
            processes: 1,
            grace: 3,
            script,
            ..ForecastCase::default()
        };
        let (mut signals, mut inits) = ("TERM", "");
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("signals", list) => signals = list,
                ("inits", list) => inits = list,
                ("needs", list) => case.needs = list.split(',').map(str::to_owned).collect(),
                ("processes", count) => case.processes = count.parse().expect("a number"),
                ("grace", seconds) => case.grace = seconds.parse().expect("a number"),
                ("ready", "") => case.ready = Some("ready".into()),
                ("ready", file) => case.ready = Some(file.into()),
                ("uncertain", "") => case.is_uncertain = true,
                _ => panic!("{}: {word}", case.name),
            }
        }
        for signal in signals.split(',') {
            let below = inits.split(',').filter(|init| !init.is_empty());
            for init in below.map(|init| Some(init.replace('+', " "))).chain([None]) {
                cases.push(ForecastCase { init, signal: signal.to_owned(), ..case.clone() });
            }
        }
    }
    cases
}

impl ForecastCase {
    fn title(&self) -> String {
        let init = self.init.as_ref().map_or(String::new(), |init| format!("{init} -- "));
        format!("{init}{} {}", self.name, self.signal)
    }

    /// Returns the first program that it needs and that is not installed.
    fn missing(&self) -> Option<String> {
        let init = self.init.iter().filter_map(|init| init.split(' ').next());
        let is_installed = |program: &&str| {
            let mut command = Command::new("sh");
            command.args(["-c", "command -v \"$1\"", "sh", program]).stdout(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let mut all = self.needs.iter().map(String::as_str).chain(init);
        all.find(|program| !is_installed(program)).map(str::to_owned)
    }
}

/// The end of a row.
struct CaseReport {
    title: String,
    is_uncertain: bool,
    /// The forecast in one word.
    graceful: String,
    /// The contradictions between it and what happened.
    wrong: Vec<String>,
    /// The forecast, for a reader.
    text: String,
}

/// Runs every row. `FORECAST=WORD` in the environment: only those with WORD in their title, and their forecasts
/// are printed. `FORECAST_MINUTES=N`, for a slow machine: no row is begun later, the first of each program come
/// first, and each row is a line of the report.
fn holds() -> Outcome {
    let text = std::fs::read_to_string(repository().join("tests/forecast.rows"))?;
    let only = std::env::var("FORECAST").ok();
    let mut all = cases(&text);
    all.retain(|case| only.as_ref().is_none_or(|word| case.title().contains(word.as_str())));
    let mut missing: BTreeSet<String> = BTreeSet::new();
    all.retain(|case| {
        let program = case.missing();
        let is_here = program.is_none();
        missing.extend(program);
        is_here
    });
    let minutes = std::env::var("FORECAST_MINUTES").ok().and_then(|n| n.parse().ok());
    let until = minutes.map(|n: u64| Instant::now() + Duration::from_secs(60 * n));
    if until.is_some() {
        let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
        note("forecast", "-", "could-not", &format!("not installed: {}", missing.join(" ")));
        all.iter().for_each(|case| note("forecast", &case.title(), "not-run", ""));
        first_of_each_first(&mut all);
    }
    all.reverse();
    let queue = Mutex::new(all);
    let reports = Mutex::new(Vec::new());
    let exits = ExitEvents::subscribe().ok().map(Mutex::new);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    if until.is_some_and(|until| Instant::now() > until) {
                        break;
                    }
                    let Some(case) = queue.lock().expect("a queue").pop() else { break };
                    let report = measure(&case, exits.as_ref());
                    if until.is_some() {
                        let result = match report.wrong.iter().any(|why| why.contains(EXITED)) {
                            _ if report.wrong.is_empty() => "ok",
                            // (The program of another release may not know an option.)
                            true => "could-not",
                            false => "failed",
                        };
                        let why = report.wrong.join(" ");
                        let why: Vec<&str> = why.split_whitespace().collect();
                        note("forecast", &report.title, result, &why.join(" "));
                    }
                    reports.lock().expect("reports").push(report);
                }
            });
        }
    });
    let mut reports = reports.into_inner().expect("reports");
    reports.sort_by(|a, b| a.title.cmp(&b.title));
    judge(&reports, &missing, only.is_some())
}

/// Sorts the rows: the first of each program, the second of each, and so on.
fn first_of_each_first(all: &mut [ForecastCase]) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    all.sort_by_cached_key(|case| {
        let count = seen.entry(case.name.clone()).or_default();
        *count += 1;
        *count
    });
}

/// Prints the rows, and fails if one is wrong or too many are `maybe`.
fn judge(reports: &[CaseReport], missing: &BTreeSet<String>, is_verbose: bool) -> Outcome {
    let mut wrong = Vec::new();
    let (mut known, mut maybe) = (0, Vec::new());
    for report in reports {
        known += usize::from(!report.is_uncertain);
        if report.graceful == "maybe" && !report.is_uncertain {
            maybe.push(report.title.as_str());
        }
        if is_verbose || !report.wrong.is_empty() {
            println!("{}: {}\n{}", report.title, report.graceful, report.text);
        }
        wrong.extend(report.wrong.iter().map(|text| format!("{}: {text}", report.title)));
    }
    let not_installed: Vec<&str> = missing.iter().map(String::as_str).collect();
    println!(
        "forecast: {} rows, {} contradictions; maybe: {} of {known} ({}); not installed: {}",
        reports.len(),
        wrong.len(),
        maybe.len(),
        maybe.join(", "),
        not_installed.join(" "),
    );
    check(wrong.is_empty(), wrong.join("\n"))?;
    check(is_verbose || maybe.len() * 10 <= known, format!("maybe: {}", maybe.join(", ")))
}

/// Compares the forecast of a row with what happens.
fn measure(case: &ForecastCase, exits: Option<&Mutex<ExitEvents>>) -> CaseReport {
    let mut report = CaseReport {
        title: case.title(),
        is_uncertain: case.is_uncertain,
        graceful: "none".into(),
        wrong: Vec::new(),
        text: String::new(),
    };
    if let Err(error) = compare(case, exits, &mut report) {
        report.wrong.push(format!("{error:?}"));
    }
    report
}

fn compare(
    case: &ForecastCase,
    exits: Option<&Mutex<ExitEvents>>,
    report: &mut CaseReport,
) -> Outcome {
    let running = Monitored::start(case)?;
    let init = running.wait_until_ready(case)?;
    let (signal, grace) = (case.signal.as_str(), format!("{}s", case.grace));
    let word = format!("pid:{init}");
    let rows =
        run(&["--json", "stop", "-n", "-s", signal, "-t", &grace, &word]).expect(0)?.objects();
    let (summary, lines) = rows.split_last().ok_or("no forecast")?;
    report.graceful = summary["graceful"].as_str().unwrap_or("none").to_owned();
    let mut processes: BTreeMap<i32, (&Json, OwnedFd)> = BTreeMap::new();
    for line in lines {
        let pid = line["host_pid"].as_i64().ok_or("no host PID")? as i32;
        // A line for each signal that it gets: the best of them decides.
        let rank = |line: &Json| ["no", "maybe", "yes"].iter().position(|w| line["exits"] == **w);
        if processes.get(&pid).is_some_and(|(known, _)| rank(known) > rank(line)) {
            continue;
        }
        // (A command in a loop may have exited since.)
        let Ok(opened) = pidfd::open(pid, pidfd::SignalScope::Process) else { continue };
        processes.insert(pid, (line, opened));
    }
    let pidfd_of_init = &processes.get(&init).ok_or("the init is not in the forecast")?.1;
    let is_init_certain = processes[&init].0["exits"] != "maybe";
    let certain = processes.values().filter(|(line, _)| line["exits"] == "yes");
    let certain: Vec<&OwnedFd> = certain.map(|(_, process)| process).collect();
    let init_exited = signal_init(pidfd_of_init, &certain, case)?;
    // Some exit by themselves when their parent has been killed.
    let survived: BTreeSet<i32> = processes
        .iter()
        .filter(|(_, (_, process))| !init_exited && pidfd::alive(process) == Ok(true))
        .map(|(pid, _)| *pid)
        .collect();
    if !init_exited {
        send(pidfd_of_init, Signal::KILL)?;
    }
    let mut killed = 0;
    for (pid, (line, process)) in &processes {
        let end = wait_for_end(*pid, process, exits).ok_or("no exit status")?;
        let is_killed = match init_exited {
            true => end.signal() == Some(Signal::KILL),
            false => survived.contains(pid),
        };
        killed += usize::from(is_killed);
        report.text += &format!(
            "  {} {} {}: {}, killed {}; {} ({end:?})\n",
            line["pid"], line["comm"], line["verdict"], line["exits"], line["killed"], line["why"],
        );
        // (A supervisor may exit in the same moment as a service that it killed, so that the kernel's
        // SIGKILL cannot be told from its own.)
        let by: &[&str] = if init_exited { &["kernel", "supervisor"] } else { &["engine"] };
        let is_by = line["killed"].as_str().is_some_and(|killed| by.contains(&killed));
        let is_wrong = match line["exits"].as_str() {
            Some("yes") => is_killed,
            Some("no") => !is_killed || (is_init_certain && !is_by),
            _ => false,
        };
        if is_wrong {
            report.wrong.push(format!("{pid} {line} but {end:?}, and PID 1 exited: {init_exited}"));
        }
    }
    let is_wrong = match report.graceful.as_str() {
        "yes" => killed > 0,
        "no" => killed == 0,
        _ => false,
    };
    if is_wrong {
        report.wrong.push(format!("graceful {}, and {killed} were killed", report.graceful));
    }
    Ok(())
}

/// Sends the signal to PID 1 without cinspect's stop. Returns whether it exits within the grace period. The
/// time that a busy machine takes from processes that are said to exit is added to it.
fn signal_init(init: &OwnedFd, certain: &[&OwnedFd], case: &ForecastCase) -> Result<bool, Failed> {
    let grace = Duration::from_secs(case.grace);
    let (begun, before) = (Instant::now(), stalled());
    send(init, Signal::parse(&case.signal)?)?;
    loop {
        if pidfd::alive(init) == Ok(false) {
            return Ok(true);
        }
        let lost = before.zip(stalled()).map_or(PATIENCE, |(before, now)| now - before);
        let is_late = begun.elapsed() >= grace + lost.min(PATIENCE);
        let is_awaited = certain.iter().any(|process| pidfd::alive(process) == Ok(true));
        if begun.elapsed() >= grace && (is_late || !is_awaited) {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns how long processes of the host have waited for a CPU or a disk, as the kernel counts it since
/// Linux 4.20, unless that is turned off.
fn stalled() -> Option<Duration> {
    let total = |resource: &str| -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/pressure/{resource}")).ok()?;
        text.lines().next()?.split("total=").nth(1)?.parse().ok()
    };
    Some(Duration::from_micros(total("cpu")? + total("io")?))
}

fn send(process: &OwnedFd, signal: Signal) -> Outcome {
    let sent = pidfd::send(process, signal.number(), None, pidfd::SignalScope::Process);
    sent.map_err(|errno| errno.to_string().into())
}

/// Waits for the end of a process, and returns it.
fn wait_for_end(
    pid: i32,
    process: &OwnedFd,
    exits: Option<&Mutex<ExitEvents>>,
) -> Option<pidfd::Ending> {
    let until = Instant::now() + PATIENCE;
    loop {
        let heard =
            exits.and_then(|exits| exits.lock().expect("events").take(pid, &(0..=u64::MAX)));
        let end = pidfd::ending(process).or(heard.and_then(pidfd::Ending::from_wait_status));
        match end {
            None if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
            end => return end,
        }
    }
}

/// A row that runs, and is killed at the end of the test.
struct Monitored {
    monitor: Child,
    dir: tempfile::TempDir,
}

impl Drop for Monitored {
    fn drop(&mut self) {
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
    }
}

impl Monitored {
    fn start(case: &ForecastCase) -> Result<Self, Failed> {
        let dir = tempfile::Builder::new().prefix("cit-forecast").tempdir()?;
        // Programs that change their user read their files there.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(dir.path(), open)?;
        std::fs::write(dir.path().join("run.sh"), &case.script)?;
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child", "--"]);
        // A background job of a shell has INT and QUIT ignored.
        unshare.args(["env", "--default-signal"]);
        unshare.args(case.init.iter().flat_map(|init| init.split(' ')));
        unshare.args(["sh", "./run.sh"]).current_dir(dir.path());
        unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { monitor: unshare.spawn()?, dir })
    }

    /// Waits until it is ready, and returns the PID of the init.
    fn wait_until_ready(&self, case: &ForecastCase) -> Result<i32, Failed> {
        let processes = case.processes + usize::from(case.init.is_some());
        let has_made = |file: &String| self.dir.path().join(file).exists();
        let monitor = self.monitor.id() as i32;
        let pids = settled_descendants(monitor, |count| {
            count >= processes && case.ready.as_ref().is_none_or(has_made)
        })?;
        Ok(pids[0])
    }
}
