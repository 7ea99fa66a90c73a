//! Real programs, as the init of a PID namespace and as a child: what they do with a signal is what the
//! table of programs says. Programs that are not installed are listed as ignored.

mod rows;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cinspect::testing::{
    Access, Host, HostPid, Prediction, Recipient, Resolver, Signal, SignalSet, SnapshotOptions,
    pidfd, program_of,
};
use libtest_mimic::{Failed, Trial};
use serde_json::json;

use self::rows::{ROWS, RUNIT, Row};
use crate::descendants::settled_descendants;
use crate::harness::is_settled;
use crate::support::{
    Need, Outcome, check, missing, run, same, stop_process, test_with, wait_until,
};

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for row in ROWS {
        let roles = [("init", true), ("child", false)];
        for (role, init) in roles.into_iter().filter(|(_, init)| *init || row.child.is_some()) {
            let name = format!("programs::{}_as_{role}", row.name);
            let program = if row.argv == RUNIT { "runit" } else { row.argv[0] };
            if !installed(program) {
                let why = format!("{program} is not installed");
                trials.push(missing("programs", &name, &why));
                continue;
            }
            trials
                .push(test_with(Need::Root, name.leak(), move || behaves_as_predicted(row, init)));
        }
    }
    for (name, program, run) in TESTS {
        trials.push(match installed(program) {
            true => test_with(Need::Root, name, *run),
            false => missing("programs", name, &format!("{program} is not installed")),
        });
    }
    if installed("supervisord") {
        let name = "programs::supervisord_uses_the_stop_signal_of_each_program";
        trials.push(test_with(Need::Root, name, supervised));
    }
    trials
}

/// The name of a test, the program that it needs, and the test.
type ProgramTest = (&'static str, &'static str, fn() -> Outcome);

const TESTS: &[ProgramTest] = &[
    ("programs::s6_stops_its_services", "s6-svscan", || {
        stops_gracefully("s6_svscan", "TERM", "ok")
    }),
    ("programs::runsvdir_signals_no_service_on_term", "runsvdir", runsvdir),
    ("programs::runit_stops_its_services_on_cont", "runit", || {
        stops_gracefully("runit", "CONT", "stop-signal")
    }),
    ("programs::nginx_stops_gracefully_on_quit", "nginx", || {
        stops_gracefully("nginx", "QUIT", "stop-signal")
    }),
    ("programs::systemd_stops_on_its_own_signal", "systemd-nspawn", systemd),
];

fn row(name: &str) -> Result<&'static Row, Failed> {
    ROWS.iter().find(|row| row.name == name).ok_or_else(|| "no such row".into())
}

/// Checks the first finding of `doctor` on a program as PID 1, and that this signal stops it without
/// KILL.
fn stops_gracefully(name: &str, signal: &str, code: &str) -> Outcome {
    let (running, pid) = start(row(name)?, true)?;
    let word = format!("pid:{pid}");
    let findings = run(&["--json", "doctor", "--exit-zero", &word]).expect(0)?.objects();
    same((findings[0]["code"].clone(), name), (json!(code), name))?;
    let remedy = findings[0]["remedy"].as_str().unwrap_or_default().to_owned();
    let offered = format!("`cinspect stop -s {signal} {word}`");
    check(["ok", "uncertain"].contains(&code) || remedy.contains(&offered), remedy)?;
    // (Once an init is reaped whose child has called reboot(2), its end looks like a kill.)
    stop_process(&running.monitor)?;
    let events = run(&["--json", "stop", "-s", signal, "-t", "120s", &word]).expect(0)?.objects();
    let last = events.last().cloned().unwrap_or_default();
    check(last["graceful"] == json!(true), format!("{events:?}"))
}

/// It exits and its services are killed with it; if they are signalled first, they exit.
fn runsvdir() -> Outcome {
    for signal in ["HUP", "TERM"] {
        runsvdir_gets(signal)?;
    }
    let (_running, pid) = start(row("runsvdir")?, true)?;
    let word = format!("pid:{pid}");
    let arguments = ["--json", "stop", "--order", "children-first", "-t", "120s", word.as_str()];
    let events = run(&arguments).expect(0)?.objects();
    let last = events.last().cloned().unwrap_or_default();
    check(last["graceful"] == json!(true), format!("{events:?}"))
}

fn runsvdir_gets(signal: &str) -> Outcome {
    let (_running, pid) = start(row("runsvdir")?, true)?;
    let word = format!("pid:{pid}");
    let findings = run(&["--json", "doctor", "--exit-zero", &word]).expect(0)?.objects();
    same(findings[0]["severity"].clone(), json!("problem"))?;
    let events = run(&["--json", "stop", "-s", signal, "-t", "120s", &word]).expect(0)?.objects();
    let killed: Vec<&serde_json::Value> =
        events.iter().filter(|event| event["event"] == json!("killed")).collect();
    check(killed.len() == 2, format!("{events:?}"))
}

/// A whole systemd in a container of nspawn: on TERM it re-executes itself, on RTMIN+3 it stops with all of
/// its units.
fn systemd() -> Outcome {
    let error = |error: std::io::Error| Failed::from(error.to_string());
    if !Path::new("/lib/systemd/systemd").exists() {
        return Err("systemd is not installed".into());
    }
    let dir = tempfile::tempdir().map_err(error)?;
    let root = dir.path().join("cit-systemd");
    std::fs::create_dir_all(root.join("usr")).map_err(error)?;
    // The host's programs without its configuration: only the units that every systemd has.
    let script = "mount --bind /usr \"$1/usr\" && exec systemd-nspawn --quiet --register=no \
        --keep-unit --private-network --volatile=yes --console=pipe -M cit-systemd -D \"$1\" \
        --boot -- --unit=basic.target";
    let mut nspawn = Command::new("unshare");
    nspawn.args(["--mount", "--kill-child", "--fork", "sh", "-c", script, "sh"]).arg(&root);
    nspawn.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _running = Running { monitor: nspawn.spawn().map_err(error)?, _dir: dir };
    let word = "nspawn:cit-systemd";
    // Its init outlives its monitor.
    struct KillOnDrop(&'static str);
    impl Drop for KillOnDrop {
        fn drop(&mut self) {
            let _ = run(&["signal", self.0, "KILL"]);
        }
    }
    let _guard = KillOnDrop(word);
    let verdict = || {
        let rows = run(&["--json", "signals", word, "RTMIN+3", "--pid", "1"]).objects();
        rows.first().map(|row| (row["verdict"].clone(), row["note"].clone()))
    };
    let mut last = None;
    let is_up = wait_until(|| {
        last = verdict();
        last.as_ref().is_some_and(|(verdict, _)| verdict == "accepted")
    });
    check(is_up, format!("it is not up: {last:?}"))?;
    let note = last.map(|(_, note)| note.to_string()).unwrap_or_default();
    check(note.contains("stops every unit"), note)?;
    // (While it starts units, and while it re-executes itself, it does not read its signalfd.)
    let up_again = || verdict().is_some_and(|(verdict, _)| verdict == "accepted");
    let mut sent = Vec::new();
    let is_noted = wait_until(|| {
        if up_again() {
            sent = run(&["--json", "signal", word, "TERM"]).objects();
        }
        sent.first().is_some_and(|row| row["note"].to_string().contains("re-executes itself"))
    });
    check(is_noted, format!("{sent:?}"))?;
    // (It takes a signal with a lower number first: RTMIN+3 below comes after this TERM.)
    check(wait_until(up_again), "it exited on TERM")?;
    // Its stop signal is known without a record, and doctor finds no problem.
    let findings = run(&["--json", "doctor", "--exit-zero", word]).expect(0)?.objects();
    check(findings.iter().all(|row| row["severity"] != json!("problem")), format!("{findings:?}"))?;
    let events = run(&["--json", "stop", "-t", "120s", word]).expect(0)?.objects();
    let last = events.last().cloned().unwrap_or_default();
    check(last["graceful"] == json!(true), format!("{events:?}"))
}

/// Two programs with different stop signals: each is terminated by its own, none is killed.
fn supervised() -> Outcome {
    let (_running, pid) = start(row("supervisord")?, true)?;
    let name = format!("pid:{pid}");
    let findings = run(&["--json", "doctor", "--exit-zero", &name]).expect(0)?.objects();
    same(findings[0]["code"].clone(), json!("ok"))?;
    let events = run(&["--json", "stop", "-t", "120s", &name]).expect(0)?.objects();
    let mut endings: Vec<String> = events
        .iter()
        .filter(|event| event["event"] == json!("exited") && event["comm"] == json!("sleep"))
        .filter_map(|event| event["note"].as_str().map(str::to_owned))
        .collect();
    endings.sort();
    check(endings == ["signal INT", "signal TERM"], format!("{events:?}"))?;
    same(events.last().cloned().unwrap_or_default()["graceful"].clone(), json!(true))
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |dir: std::path::PathBuf| dir.join(program).is_file();
    let jdk = || program != "java" || installed("javac");
    (Path::new(program).is_file() || std::env::split_paths(&path).any(found)) && jdk()
}

/// A program that is killed at the end of the test.
struct Running {
    monitor: Child,
    _dir: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
    }
}

/// Starts the program in a new PID namespace, as PID 1 or under one that forwards no signal.
fn start(row: &Row, init: bool) -> Result<(Running, i32), Failed> {
    let error = |error: std::io::Error| Failed::from(error.to_string());
    let dir = tempfile::tempdir().map_err(error)?;
    for (name, text) in row.files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(&path)).map_err(error)?;
        std::fs::write(&path, text).map_err(error)?;
        if text.starts_with("#!") {
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&path, mode).map_err(error)?;
        }
    }
    if row.argv[0] == "java" {
        let mut javac = Command::new("javac");
        javac.arg("Sleeper.java").current_dir(dir.path());
        check(javac.status().is_ok_and(|status| status.success()), "javac")?;
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child", "--"]);
    if !init {
        // An init that reaps, and does not interfere with signals to its child.
        unshare.args(["busybox", "sh", "-c", "\"$@\" & wait; sleep 1000", "sh"]);
    }
    unshare.args(row.argv).current_dir(dir.path());
    let child = unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let running = Running { monitor: child.map_err(error)?, _dir: dir };
    // The program is the init, or the first child of the init.
    let below = usize::from(!init);
    let parent = running.monitor.id() as i32;
    let pids = settled_descendants(parent, |count| count >= row.processes + below)?;
    Ok((running, pids[below]))
}

/// Returns the name of the known program that a process runs, and the effect of a signal on it.
fn predict(pid: i32, signal: Signal) -> Result<(Option<&'static str>, Prediction), Failed> {
    let error = |error: cinspect::testing::Error| Failed::from(error.to_string());
    let host = Host::new(Path::new("/"))?;
    let found = Resolver::new(&host).resolve(&format!("pid:{pid}"), Access::Act).map_err(error)?;
    let options = SnapshotOptions { waits: SignalSet::from(signal), ..SnapshotOptions::BARE };
    let snapshot = found.snapshot(options).map_err(error)?;
    let pid = HostPid::new(pid);
    let process = snapshot.processes.iter().find(|process| Some(process.facts.id.pid) == pid);
    let process = process.ok_or("the program is not there")?;
    let program = program_of(&process.facts).map(|program| program.name);
    Ok((program, snapshot.predict(process, signal, Recipient::Process)))
}

fn behaves_as_predicted(row: &Row, init: bool) -> Outcome {
    let (_running, pid) = start(row, init)?;
    let signal = Signal::parse(row.signal).expect("a signal");
    let (verdict, exits) = if init { row.init } else { row.child.ok_or("not as a child")? };
    let mut last = predict(pid, signal)?;
    let ready = || {
        last = predict(pid, signal).unwrap_or((None, last.1.clone()));
        (last.0, last.1.verdict) == (row.program, verdict)
    };
    let is_ready = wait_until(ready);
    let (program, prediction) = last;
    same((program, prediction.verdict, is_ready), (row.program, verdict, true))?;
    let process =
        pidfd::open(pid, pidfd::SignalScope::Process).map_err(|errno| errno.to_string())?;
    pidfd::send(&process, signal.number(), None, pidfd::SignalScope::Process)?;
    let has_exited = || pidfd::alive(&process) == Ok(false);
    if exits {
        return check(wait_until(has_exited), format!("it is running: {prediction:?}"));
    }
    // A signal that is neither pending nor has a handler running has had its effect. (A handler that only
    // sets a flag may be followed by more: a shell runs its trap when its command has exited.)
    let sleeps = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S'))
    };
    check(wait_until(|| is_settled(pid) && sleeps()), "the signal is still pending")?;
    check(!has_exited(), format!("it has exited: {prediction:?}"))
}
