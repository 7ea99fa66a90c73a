//! What real programs make of a signal, as the init of a PID namespace and as a child, beside what is
//! said of them: each row of the table of runtimes, as far as its program is installed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cinspect::analysis::runtimes;
use cinspect::analysis::verdict::{Judgement, To};
use cinspect::model::pid::HostPid;
use cinspect::model::signal::{Signal, SignalSet};
use cinspect::model::verdict::Verdict;
use cinspect::proc::{Facts, Host};
use cinspect::sys::pidfd::{self, Task};
use cinspect::target::{Purpose, resolve};
use libtest_mimic::{Failed, Trial};
use serde_json::json;

use crate::support::{Need, Outcome, check, missing, run, same, test_with, wait_until};

/// A program, and what becomes of it.
struct Row {
    name: &'static str,
    argv: &'static [&'static str],
    /// What it finds in its folder.
    files: &'static [(&'static str, &'static str)],
    /// How long it takes to be ready.
    ready: u64,
    /// As which runtime it is known.
    runtime: Option<&'static str>,
    signal: &'static str,
    /// Verdict as init, and whether it ends.
    init: (Verdict, bool),
    /// As a child.
    child: (Verdict, bool),
}

const ROWS: &[Row] = &[
    Row {
        name: "sleep",
        argv: &["sleep", "1000"],
        files: &[],
        ready: 100,
        runtime: None,
        signal: "TERM",
        init: (Verdict::Discarded, false),
        child: (Verdict::Terminates, true),
    },
    Row {
        name: "dash",
        argv: &["dash", "-c", "sleep 1000; true"],
        files: &[],
        ready: 200,
        runtime: Some("shell"),
        signal: "TERM",
        init: (Verdict::Discarded, false),
        child: (Verdict::Terminates, true),
    },
    Row {
        name: "bash",
        argv: &["bash", "-c", "sleep 1000; true"],
        files: &[],
        ready: 200,
        runtime: Some("shell"),
        signal: "TERM",
        init: (Verdict::Discarded, false),
        child: (Verdict::Terminates, true),
    },
    Row {
        name: "bash_with_a_trap",
        argv: &["bash", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"],
        files: &[],
        ready: 200,
        runtime: Some("shell"),
        signal: "TERM",
        init: (Verdict::Handled, true),
        child: (Verdict::Handled, true),
    },
    Row {
        name: "bash_with_a_trap_behind_a_command",
        argv: &["bash", "-c", "trap 'exit 0' TERM; sleep 1000; true"],
        files: &[],
        ready: 200,
        runtime: Some("shell"),
        signal: "TERM",
        init: (Verdict::Handled, false),
        child: (Verdict::Handled, false),
    },
    Row {
        name: "busybox",
        argv: &["busybox", "sh", "-c", "sleep 1000; true"],
        files: &[],
        ready: 200,
        runtime: None,
        signal: "TERM",
        init: (Verdict::Discarded, false),
        child: (Verdict::Terminates, true),
    },
    Row {
        name: "tini",
        argv: &["tini", "-s", "--", "sleep", "1000"],
        files: &[],
        ready: 200,
        runtime: Some("init"),
        signal: "TERM",
        init: (Verdict::Accepted, true),
        child: (Verdict::Accepted, true),
    },
    Row {
        name: "dumb_init",
        argv: &["dumb-init", "sleep", "1000"],
        files: &[],
        ready: 300,
        runtime: Some("dumb-init"),
        signal: "TERM",
        init: (Verdict::Accepted, true),
        child: (Verdict::Accepted, true),
    },
    Row {
        name: "nginx",
        argv: &["nginx", "-p", ".", "-c", "nginx.conf"],
        files: &[(
            "nginx.conf",
            "daemon off; pid pid; error_log /dev/null; events {} http { access_log off; server { listen unix:sock; } }",
        )],
        ready: 700,
        runtime: Some("nginx"),
        signal: "TERM",
        init: (Verdict::Handled, true),
        child: (Verdict::Handled, true),
    },
    Row {
        name: "supervisord",
        argv: &["supervisord", "-c", "supervisord.conf"],
        files: &[(
            "supervisord.conf",
            "[supervisord]\nnodaemon=true\nuser=root\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile=pid\n\
             [program:a]\ncommand=sleep 1000\n[program:b]\ncommand=sleep 1001\nstopsignal=INT\n",
        )],
        ready: 2500,
        runtime: Some("supervisord"),
        signal: "TERM",
        init: (Verdict::Handled, true),
        child: (Verdict::Handled, true),
    },
    Row {
        name: "python",
        argv: &["/usr/bin/python3", "-c", "import time; time.sleep(1000)"],
        files: &[],
        ready: 1000,
        runtime: Some("CPython"),
        signal: "TERM",
        init: (Verdict::Discarded, false),
        child: (Verdict::Terminates, true),
    },
    Row {
        name: "python_interrupted",
        argv: &["/usr/bin/python3", "-c", "import time; time.sleep(1000)"],
        files: &[],
        ready: 1000,
        runtime: Some("CPython"),
        signal: "INT",
        init: (Verdict::Handled, true),
        // A shell starts what it does not wait for with INT ignored.
        child: (Verdict::Ignored, false),
    },
    // A client of containerd that waits for a daemon which is not there, and has asked for no signal.
    Row {
        name: "go",
        argv: &["ctr", "--connect-timeout", "100s", "--address", "/nonexistent", "version"],
        files: &[],
        ready: 700,
        runtime: Some("Go"),
        signal: "TERM",
        init: (Verdict::Handled, true),
        child: (Verdict::Handled, true),
    },
    Row {
        name: "node",
        argv: &["node", "-e", "setInterval(() => {}, 1000)"],
        files: &[],
        ready: 2500,
        runtime: Some("Node"),
        signal: "TERM",
        init: (Verdict::Handled, false),
        child: (Verdict::Handled, true),
    },
    Row {
        name: "java",
        argv: &["java", "-XX:+UseSerialGC", "-cp", ".", "Sleeper"],
        files: &[(
            "Sleeper.java",
            "class Sleeper { public static void main(String[] a) throws Exception { Thread.sleep(1000000); } }",
        )],
        ready: 2500,
        runtime: Some("JVM"),
        signal: "TERM",
        init: (Verdict::Handled, true),
        child: (Verdict::Handled, true),
    },
];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for row in ROWS {
        for (who, init) in [("init", true), ("child", false)] {
            let name = format!("programs::{}_as_{who}", row.name);
            if !installed(row.argv[0]) {
                let why = format!("{} is not installed", row.argv[0]);
                trials.push(missing("programs", &name, &why));
                continue;
            }
            trials.push(test_with(Need::Root, name.leak(), move || play(row, init)));
        }
    }
    if installed("supervisord") {
        let name = "programs::supervisord_tells_each_in_its_own_way";
        trials.push(test_with(Need::Root, name, supervised));
    }
    trials
}

/// Two programs with different stop signals: each ends by its own, and nobody is killed.
fn supervised() -> Outcome {
    let row = ROWS.iter().find(|row| row.name == "supervisord").ok_or("no such row")?;
    let (_running, pid) = start(row, true)?;
    let name = format!("pid:{pid}");
    let findings = run(&["--json", "doctor", &name]).expect(0)?.objects();
    same(findings[0]["code"].clone(), json!("ok"))?;
    let events = run(&["--json", "stop", &name]).expect(0)?.objects();
    let mut ended: Vec<String> = events
        .iter()
        .filter(|event| event["event"] == json!("exited") && event["comm"] == json!("sleep"))
        .filter_map(|event| event["note"].as_str().map(str::to_owned))
        .collect();
    ended.sort();
    check(ended == ["signal INT", "signal TERM"], format!("{events:?}"))?;
    same(events.last().cloned().unwrap_or_default()["graceful"].clone(), json!(true))
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |dir: std::path::PathBuf| dir.join(program).is_file();
    let jdk = || program != "java" || installed("javac");
    (Path::new(program).is_file() || std::env::split_paths(&path).any(found)) && jdk()
}

/// Ends with the test.
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

/// The program in a PID namespace of its own, as PID 1 or below one that tells nobody.
fn start(row: &Row, init: bool) -> Result<(Running, i32), Failed> {
    let error = |error: std::io::Error| Failed::from(error.to_string());
    let dir = tempfile::tempdir().map_err(error)?;
    for (name, text) in row.files {
        std::fs::write(dir.path().join(name), text).map_err(error)?;
    }
    if row.argv[0] == "java" {
        let mut javac = Command::new("javac");
        javac.arg("Sleeper.java").current_dir(dir.path());
        check(javac.status().is_ok_and(|status| status.success()), "javac")?;
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child", "--"]);
    if !init {
        // An init that is not in the way: it reaps, and ignores what is sent to its child.
        unshare.args(["busybox", "sh", "-c", "\"$@\" & wait; sleep 1000", "sh"]);
    }
    unshare.args(row.argv).current_dir(dir.path());
    let child = unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let running = Running { monitor: child.map_err(error)?, _dir: dir };
    std::thread::sleep(Duration::from_millis(row.ready));
    let child_of = |pid: i32| {
        let path = format!("/proc/{pid}/task/{pid}/children");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().next().and_then(|pid| pid.parse::<i32>().ok())
    };
    let mut pid = child_of(running.monitor.id() as i32).ok_or("no init")?;
    if !init {
        pid = child_of(pid).ok_or("no child")?;
    }
    Ok((running, pid))
}

/// What it is known as, and what the signal would do.
fn look(pid: i32, signal: Signal) -> Result<(Option<&'static str>, Judgement), Failed> {
    let error = |error: cinspect::error::Error| Failed::from(error.message());
    let host = Host::new(Path::new("/")).map_err(|error| error.to_string())?;
    let found = resolve(&host, &format!("pid:{pid}"), Purpose::Act).map_err(error)?;
    let facts = Facts { waits: SignalSet::of(signal), ..Facts::BARE };
    let view = found.look(&host, facts).map_err(error)?;
    let own = HostPid::new(pid);
    let member = view.members.iter().find(|member| Some(member.process.id.pid) == own);
    let member = member.ok_or("the program is not there")?;
    let runtime = runtimes::of(&member.process).map(|runtime| runtime.name);
    Ok((runtime, view.judge(member, signal, To::Process)))
}

fn play(row: &Row, init: bool) -> Outcome {
    let (_running, pid) = start(row, init)?;
    let signal = Signal::parse(row.signal).expect("a signal");
    let (verdict, ends) = if init { row.init } else { row.child };
    // It may take its time to get there.
    let mut last = look(pid, signal)?;
    let ready = || {
        last = look(pid, signal).unwrap_or((None, last.1.clone()));
        (last.0, last.1.verdict) == (row.runtime, verdict)
    };
    let is_ready = wait_until(ready);
    let (runtime, judgement) = last;
    same((runtime, judgement.verdict, is_ready), (row.runtime, verdict, true))?;
    let process = pidfd::open(pid, Task::Process).map_err(|errno| errno.to_string())?;
    pidfd::send(&process, signal.number(), None, Task::Process).map_err(|e| e.to_string())?;
    let ended = || pidfd::alive(&process) == Ok(false);
    if ends {
        return check(wait_until(ended), format!("it lives: {judgement:?}"));
    }
    std::thread::sleep(Duration::from_millis(1500));
    check(!ended(), format!("it has ended: {judgement:?}"))
}
