//! What real programs make of a signal, as the init of a PID namespace and as a child, beside what is
//! said of them: each row of the table of runtimes, as far as its program is installed.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cinspect::testing::{
    Access, Host, HostPid, Prediction, Recipient, Resolver, Signal, SignalSet, SnapshotOptions,
    Verdict, pidfd, program_of,
};
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
    /// As a child; none where it does not run as one.
    child: Option<(Verdict, bool)>,
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
        child: Some((Verdict::Terminates, true)),
    },
    Row {
        name: "dash",
        argv: &["dash", "-c", "sleep 1000; true"],
        files: &[],
        ready: 200,
        runtime: Some("shell"),
        signal: "TERM",
        init: (Verdict::Discarded, false),
        child: Some((Verdict::Terminates, true)),
    },
    Row {
        name: "bash",
        argv: &["bash", "-c", "sleep 1000; true"],
        files: &[],
        ready: 200,
        runtime: Some("shell"),
        signal: "TERM",
        init: (Verdict::Discarded, false),
        child: Some((Verdict::Terminates, true)),
    },
    Row {
        name: "bash_with_a_trap",
        argv: &["bash", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"],
        files: &[],
        ready: 200,
        runtime: Some("shell"),
        signal: "TERM",
        init: (Verdict::Handled, true),
        child: Some((Verdict::Handled, true)),
    },
    Row {
        name: "bash_with_a_trap_behind_a_command",
        argv: &["bash", "-c", "trap 'exit 0' TERM; sleep 1000; true"],
        files: &[],
        ready: 200,
        runtime: Some("shell"),
        signal: "TERM",
        init: (Verdict::Handled, false),
        child: Some((Verdict::Handled, false)),
    },
    Row {
        name: "busybox",
        argv: &["busybox", "sh", "-c", "sleep 1000; true"],
        files: &[],
        ready: 200,
        runtime: None,
        signal: "TERM",
        init: (Verdict::Discarded, false),
        child: Some((Verdict::Terminates, true)),
    },
    Row {
        name: "tini",
        argv: &["tini", "-s", "--", "sleep", "1000"],
        files: &[],
        ready: 200,
        runtime: Some("tini, docker-init, catatonit"),
        signal: "TERM",
        init: (Verdict::Accepted, true),
        child: Some((Verdict::Accepted, true)),
    },
    Row {
        name: "dumb_init",
        argv: &["dumb-init", "sleep", "1000"],
        files: &[],
        ready: 300,
        runtime: Some("dumb-init"),
        signal: "TERM",
        init: (Verdict::Accepted, true),
        child: Some((Verdict::Accepted, true)),
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
        child: Some((Verdict::Handled, true)),
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
        child: Some((Verdict::Handled, true)),
    },
    Row {
        name: "python",
        argv: &["/usr/bin/python3", "-c", "import time; time.sleep(1000)"],
        files: &[],
        ready: 1000,
        runtime: Some("CPython"),
        signal: "TERM",
        init: (Verdict::Discarded, false),
        child: Some((Verdict::Terminates, true)),
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
        child: Some((Verdict::Ignored, false)),
    },
    Row {
        name: "catatonit",
        argv: &["catatonit", "--", "sleep", "1000"],
        files: &[],
        ready: 200,
        runtime: Some("tini, docker-init, catatonit"),
        signal: "TERM",
        init: (Verdict::Accepted, true),
        child: None,
    },
    Row {
        name: "s6_svscan",
        argv: &["s6-svscan", "services"],
        files: &[SERVICE],
        ready: 400,
        runtime: Some("s6-svscan"),
        signal: "TERM",
        init: (Verdict::Accepted, true),
        child: Some((Verdict::Accepted, true)),
    },
    Row {
        name: "s6_supervise",
        argv: &["s6-supervise", "services/a"],
        files: &[SERVICE],
        ready: 400,
        runtime: Some("s6-supervise"),
        signal: "TERM",
        init: (Verdict::Accepted, true),
        child: Some((Verdict::Accepted, true)),
    },
    Row {
        name: "runsvdir",
        argv: &["runsvdir", "services"],
        files: &[SERVICE],
        ready: 400,
        runtime: Some("runsvdir"),
        signal: "TERM",
        init: (Verdict::Handled, true),
        child: Some((Verdict::Handled, true)),
    },
    Row {
        name: "runsv",
        argv: &["runsv", "services/a"],
        files: &[SERVICE],
        ready: 400,
        runtime: Some("runsv"),
        signal: "TERM",
        init: (Verdict::Handled, true),
        child: Some((Verdict::Handled, true)),
    },
    Row {
        name: "runit",
        argv: RUNIT,
        files: RUNIT_FILES,
        ready: 1500,
        runtime: Some("runit"),
        signal: "TERM",
        init: (Verdict::Pending, false),
        child: None,
    },
    Row {
        name: "runit_told_by_cont",
        argv: RUNIT,
        files: RUNIT_FILES,
        ready: 1500,
        runtime: Some("runit"),
        signal: "CONT",
        init: (Verdict::Handled, true),
        child: None,
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
        child: Some((Verdict::Handled, true)),
    },
    Row {
        name: "node",
        argv: &["node", "-e", "setInterval(() => {}, 1000)"],
        files: &[],
        ready: 2500,
        runtime: Some("Node.js"),
        signal: "TERM",
        init: (Verdict::Handled, false),
        child: Some((Verdict::Handled, true)),
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
        child: Some((Verdict::Handled, true)),
    },
];

/// It reads a folder of the system's, which is its own's here.
const RUNIT: &[&str] = &[
    "sh",
    "-c",
    "mount --bind . /etc/runit && mount -t tmpfs none /run && touch /run/runit.stopit stopit && \
     chmod 755 /run/runit.stopit stopit && exec runit",
];
const RUNIT_FILES: &[(&str, &str)] = &[
    SERVICE,
    ("1", "#!/bin/sh\n"),
    ("2", "#!/bin/sh\nexec runsvdir /etc/runit/services\n"),
    ("3", "#!/bin/sh\nsv force-shutdown /etc/runit/services/*\n"),
];

/// A service for s6 and for runit.
const SERVICE: (&str, &str) = ("services/a/run", "#!/bin/sh\nexec sleep 1000\n");

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for row in ROWS {
        let both = [("init", true), ("child", false)];
        for (who, init) in both.into_iter().filter(|(_, init)| *init || row.child.is_some()) {
            let name = format!("programs::{}_as_{who}", row.name);
            let program = if row.argv == RUNIT { "runit" } else { row.argv[0] };
            if !installed(program) {
                let why = format!("{program} is not installed");
                trials.push(missing("programs", &name, &why));
                continue;
            }
            trials.push(test_with(Need::Root, name.leak(), move || play(row, init)));
        }
    }
    for (name, program, run) in STORIES {
        trials.push(match installed(program) {
            true => test_with(Need::Root, name, *run),
            false => missing("programs", name, &format!("{program} is not installed")),
        });
    }
    if installed("supervisord") {
        let name = "programs::supervisord_tells_each_in_its_own_way";
        trials.push(test_with(Need::Root, name, supervised));
    }
    trials
}

/// A story's name, the program it needs, and the story.
type Story = (&'static str, &'static str, fn() -> Outcome);

const STORIES: &[Story] = &[
    ("programs::s6_tells_its_services", "s6-svscan", || leaves("s6_svscan", "TERM", "ok")),
    ("programs::runsvdir_tells_nobody_on_term", "runsvdir", runsvdir),
    ("programs::runit_tells_its_services_on_cont", "runit", || {
        leaves("runit", "CONT", "stop-signal")
    }),
    ("programs::nginx_is_better_told_by_quit", "nginx", || leaves("nginx", "QUIT", "stop-signal")),
    ("programs::systemd_is_stopped_by_its_own_signal", "systemd-nspawn", systemd),
];

fn row(name: &str) -> Result<&'static Row, Failed> {
    ROWS.iter().find(|row| row.name == name).ok_or_else(|| "no such row".into())
}

/// What `doctor` finds first of a program as PID 1, and that this signal stops it and nobody is
/// killed.
fn leaves(name: &str, signal: &str, code: &str) -> Outcome {
    let (_running, pid) = start(row(name)?, true)?;
    let word = format!("pid:{pid}");
    check(wait_until(|| run(&["--json", "ps", &word]).objects().len() > 1), "no child")?;
    let findings = run(&["--json", "doctor", &word]).expect(0)?.objects();
    same((findings[0]["code"].clone(), name), (json!(code), name))?;
    let remedy = findings[0]["remedy"].as_str().unwrap_or_default().to_owned();
    check(code == "ok" || remedy.contains(&format!("SIG{signal}")), remedy)?;
    let events = run(&["--json", "stop", "-s", signal, "-t", "20s", &word]).expect(0)?.objects();
    let last = events.last().cloned().unwrap_or_default();
    check(last["graceful"] == json!(true), format!("{events:?}"))
}

/// It leaves, and its services are killed with it; told first, they leave.
fn runsvdir() -> Outcome {
    for signal in ["HUP", "TERM"] {
        runsvdir_told(signal)?;
    }
    let (_running, pid) = start(row("runsvdir")?, true)?;
    let word = format!("pid:{pid}");
    check(wait_until(|| run(&["--json", "ps", &word]).objects().len() == 3), "no service")?;
    let arguments = ["--json", "stop", "--order", "children-first", "-t", "6s", word.as_str()];
    let events = run(&arguments).expect(0)?.objects();
    let last = events.last().cloned().unwrap_or_default();
    check(last["graceful"] == json!(true), format!("{events:?}"))
}

fn runsvdir_told(signal: &str) -> Outcome {
    let (_running, pid) = start(row("runsvdir")?, true)?;
    let word = format!("pid:{pid}");
    check(wait_until(|| run(&["--json", "ps", &word]).objects().len() == 3), "no service")?;
    let findings = run(&["--json", "doctor", &word]).expect(0)?.objects();
    same(findings[0]["severity"].clone(), json!("problem"))?;
    let events = run(&["--json", "stop", "-s", signal, &word]).expect(0)?.objects();
    let killed: Vec<&serde_json::Value> =
        events.iter().filter(|event| event["event"] == json!("killed")).collect();
    check(killed.len() == 2, format!("{events:?}"))
}

/// A whole one, in a container of nspawn: TERM starts it anew, RTMIN+3 stops it and all of its units.
fn systemd() -> Outcome {
    let error = |error: std::io::Error| Failed::from(error.to_string());
    if !Path::new("/lib/systemd/systemd").exists() {
        return Err("systemd is not installed".into());
    }
    let dir = tempfile::tempdir().map_err(error)?;
    let root = dir.path().join("cit-systemd");
    std::fs::create_dir_all(root.join("usr")).map_err(error)?;
    // The host's programs, and nothing of what it is set up to do: of units only what every one has.
    let script = "mount --bind /usr \"$1/usr\" && exec systemd-nspawn --quiet --register=no \
        --keep-unit --private-network --volatile=yes --console=pipe -M cit-systemd -D \"$1\" \
        --boot -- --unit=basic.target";
    let mut nspawn = Command::new("unshare");
    nspawn.args(["--mount", "--kill-child", "--fork", "sh", "-c", script, "sh"]).arg(&root);
    nspawn.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _running = Running { monitor: nspawn.spawn().map_err(error)?, _dir: dir };
    let word = "nspawn:cit-systemd";
    // Its init outlives its monitor.
    struct Ends(&'static str);
    impl Drop for Ends {
        fn drop(&mut self) {
            let _ = run(&["signal", self.0, "KILL"]);
        }
    }
    let _ends = Ends(word);
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
    let sent = run(&["--json", "signal", word, "TERM"]).expect(0)?.objects();
    check(sent[0]["note"].to_string().contains("re-executes itself"), format!("{sent:?}"))?;
    std::thread::sleep(Duration::from_secs(1));
    let up_again = || verdict().is_some_and(|(verdict, _)| verdict == "accepted");
    check(wait_until(up_again), "TERM has ended it")?;
    // Its stop signal is known without a record, and doctor finds nothing.
    let findings = run(&["--json", "doctor", word]).expect(0)?.objects();
    check(findings.iter().all(|row| row["severity"] != json!("problem")), format!("{findings:?}"))?;
    let events = run(&["--json", "stop", word]).expect(0)?.objects();
    let last = events.last().cloned().unwrap_or_default();
    check(last["graceful"] == json!(true), format!("{events:?}"))
}

/// Two programs with different stop signals: each ends by its own, and nobody is killed.
fn supervised() -> Outcome {
    let (_running, pid) = start(row("supervisord")?, true)?;
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
fn look(pid: i32, signal: Signal) -> Result<(Option<&'static str>, Prediction), Failed> {
    let error = |error: cinspect::testing::Error| Failed::from(error.to_string());
    let host = Host::new(Path::new("/")).map_err(|error| error.to_string())?;
    let found = Resolver::new(&host).resolve(&format!("pid:{pid}"), Access::Act).map_err(error)?;
    let facts = SnapshotOptions { waits: SignalSet::from(signal), ..SnapshotOptions::BARE };
    let view = found.snapshot(facts).map_err(error)?;
    let own = HostPid::new(pid);
    let member = view.processes.iter().find(|member| Some(member.facts.id.pid) == own);
    let member = member.ok_or("the program is not there")?;
    let runtime = program_of(&member.facts).map(|runtime| runtime.name);
    Ok((runtime, view.predict(member, signal, Recipient::Process)))
}

fn play(row: &Row, init: bool) -> Outcome {
    let (_running, pid) = start(row, init)?;
    let signal = Signal::parse(row.signal).expect("a signal");
    let (verdict, ends) = if init { row.init } else { row.child.ok_or("not as a child")? };
    // It may take its time to get there.
    let mut last = look(pid, signal)?;
    let ready = || {
        last = look(pid, signal).unwrap_or((None, last.1.clone()));
        (last.0, last.1.verdict) == (row.runtime, verdict)
    };
    let is_ready = wait_until(ready);
    let (runtime, judgement) = last;
    same((runtime, judgement.verdict, is_ready), (row.runtime, verdict, true))?;
    let process =
        pidfd::open(pid, pidfd::SignalScope::Process).map_err(|errno| errno.to_string())?;
    pidfd::send(&process, signal.number(), None, pidfd::SignalScope::Process)
        .map_err(|e| e.to_string())?;
    let ended = || pidfd::alive(&process) == Ok(false);
    if ends {
        return check(wait_until(ended), format!("it lives: {judgement:?}"));
    }
    std::thread::sleep(Duration::from_millis(1500));
    check(!ended(), format!("it has ended: {judgement:?}"))
}
