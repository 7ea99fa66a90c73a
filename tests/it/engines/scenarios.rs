//! Stops of containers as people meet them, on real Docker and Podman.

use std::path::Path;

use libtest_mimic::Failed;
use serde_json::{Value, json};

use super::Engine;
use crate::support::{Outcome, check, run, same, wait_until};

/// Runs a container, and stops it. Returns the findings of `doctor` and the events of the stop.
fn run_and_stop(
    engine: &Engine,
    program: &[&str],
    processes: usize,
    stop: &[&str],
) -> Result<(Vec<Value>, Vec<Value>), Failed> {
    let container = &format!("cit-{}-stop", engine.name);
    let _ = engine.script(&["rm", container]);
    let mut line = vec!["run", container.as_str(), "--"];
    line.extend(program);
    engine.script(&line)?;
    let name = engine.script(&["qualified", container])?;
    // The shells have set their traps and started their children.
    let ready = || {
        let rows = run(&["--json", "ps", &name]).objects();
        let set = |row: &Value| {
            let has_trap = row["on_signal"]["verdict"] == json!("handled");
            row["state"] == json!("S") && (row["comm"] == json!("sleep") || has_trap)
        };
        rows.len() == processes && rows.iter().all(set)
    };
    check(wait_until(ready), "it is not ready")?;
    let findings = run(&["--json", "doctor", "--exit-zero", &name]).expect(0)?.objects();
    let mut line = vec!["--json", "stop", name.as_str()];
    line.extend(stop);
    let events = run(&line).expect(0)?.objects();
    let _ = engine.script(&["rm", container]);
    Ok((findings, events))
}

fn graceful(events: &[Value]) -> Value {
    events.last().cloned().unwrap_or_default()["graceful"].clone()
}

pub fn handler(engine: &Engine) -> Outcome {
    let program = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"];
    let (_, events) =
        run_and_stop(engine, &program, 2, &["--order", "children-first", "-t", "240s"])?;
    same(graceful(&events), json!(true))
}

pub fn no_handler(engine: &Engine) -> Outcome {
    let (findings, events) = run_and_stop(engine, &["sleep", "1000"], 1, &["-t", "1s"])?;
    same(findings[0]["code"].clone(), json!("init-without-handler"))?;
    check(events.iter().any(|event| event["event"] == json!("grace-over")), "it exited")?;
    same(graceful(&events), json!(false))
}

/// The parent exits on the signal. Its child would exit on it as well, but gets it only if it is signalled
/// first.
pub fn child(engine: &Engine) -> Outcome {
    let program =
        ["sh", "-c", "trap 'exit 0' TERM; sh -c \"trap 'exit 3' TERM; sleep 1000 & wait\" & wait"];
    let (findings, events) = run_and_stop(engine, &program, 3, &["-t", "120s"])?;
    same(findings[0]["code"].clone(), json!("children-not-signalled"))?;
    same(graceful(&events), json!(false))?;
    let killed = events.iter().filter(|event| event["event"] == json!("killed")).count();
    same(killed, 2)?;
    let (_, events) =
        run_and_stop(engine, &program, 3, &["--order", "children-first", "-t", "240s"])?;
    same(graceful(&events), json!(true))
}

/// A container that prints 30 lines, handles HUP and ignores TERM, for `tests/habits.rows`.
pub fn habits(engine: &Engine) -> Outcome {
    let container = &format!("cit-{}-habits", engine.name);
    let _ = engine.script(&["rm", container]);
    let program = "trap : HUP; trap '' TERM; for n in $(seq 30); do echo line $n; done; \
                   while :; do sleep 100000; done";
    engine.script(&["run", container, "--", "sh", "-c", program])?;
    let name = engine.script(&["qualified", container])?;
    // (The traps are set before the lines are printed.)
    let has_started = || {
        let rows = run(&["--json", "ps", &name]).objects();
        rows.iter().any(|row| row["comm"] == json!("sleep") && row["state"] == json!("S"))
    };
    let ready = || has_started() && run(&["logs", "-n", "1", &name]).out.contains("line 30");
    check(wait_until(ready), "it is not ready")?;
    let outcome = crate::habits::on_a_container(container);
    let _ = engine.script(&["rm", container]);
    outcome
}

pub fn restarted(engine: &Engine) -> Outcome {
    let container = &format!("cit-{}-back", engine.name);
    let _ = engine.script(&["rm", container]);
    // The script takes only its own options; the policy is set afterwards.
    engine.script(&[
        "run",
        container,
        "--",
        "sh",
        "-c",
        "trap 'exit 0' TERM; sleep 1000 & wait",
    ])?;
    engine.script(&["policy", container, "always"])?;
    let name = engine.script(&["qualified", container])?;
    check(wait_until(|| has_trap(&name)), "it is not ready")?;
    let findings = run(&["--json", "doctor", "--exit-zero", &name]).expect(0)?.objects();
    let restart = findings.iter().any(|row| row["code"] == json!("restart"));
    let last = run(&["--json", "stop", &name]).expect(7)?.objects().pop().unwrap_or_default();
    let by = last["running_again"]["by"].clone();
    check(wait_until(|| has_trap(&name)), "it does not run again")?;
    let stopped = run(&["stop", &name]).expect(7)?;
    let _ = engine.script(&["rm", container]);
    check(restart, "doctor does not mention the restart policy")?;
    same((by, last["running_again"]["pid"].is_i64()), (json!("Docker"), true))?;
    check(stopped.err.contains("the engine restarts it at once"), &stopped.err)?;
    check(stopped.err.contains("running again"), &stopped.err)
}

/// A container in the PID namespace of another is killed with it: said before the stop, and counted.
pub fn companion(engine: &Engine) -> Outcome {
    let (owner, guest) =
        (&format!("cit-{}-owner", engine.name), &format!("cit-{}-with", engine.name));
    let remove = || [guest, owner].map(|name| engine.script(&["rm", name]).is_ok());
    remove();
    let work = || -> Outcome {
        engine.script(&["run", owner, "--", "sh", "-c", TRAP_AND_LOOP])?;
        let share = format!("--pid=container:{owner}");
        engine.script(&["run", guest, &share, "--", "sleep", "1000"])?;
        let name = engine.script(&["qualified", owner])?;
        let guest = engine.script(&["qualified", guest])?;
        check(wait_until(|| has_trap(&name)), "it is not ready")?;
        let findings = run(&["--json", "doctor", &name]).expect(8)?.objects();
        same(findings[0]["code"].clone(), json!("shared-pid-namespace"))?;
        check(findings[0]["message"].to_string().contains(&guest), &findings[0])?;
        let plan = run(&["stop", "-n", &name]).expect(0)?;
        check(plan.out.contains(&guest) && plan.err.contains(&guest), plan.out)?;
        // An init that keeps running keeps the other container.
        let plan = run(&["stop", "-n", "--no-kill", "-s", "WINCH", &name]).expect(0)?;
        check(plan.out.contains("in its PID namespace, may get SIGKILL; "), plan.out)?;
        check(plan.err.contains("is killed when PID 1 exits"), plan.err)?;
        let events = run(&["--json", "stop", "-t", "120s", &name]).expect(0)?.objects();
        let last = events.last().cloned().unwrap_or_default();
        same((last["graceful"].clone(), last["killed"].clone()), (json!(false), json!(1)))
    };
    let outcome = work();
    remove();
    outcome
}

/// Where the main process is not PID 1, Docker kills the rest of the cgroup when it has exited.
pub fn killed_by_engine(engine: &Engine) -> Outcome {
    let container = &format!("cit-{}-rest", engine.name);
    let _ = engine.script(&["rm", container]);
    let work = || -> Outcome {
        engine.script(&["run", container, "--pid=host", "--", "sh", "-c", TRAP_AND_LOOP])?;
        engine.script(&["exec", container, "--", "sleep", "1007"])?;
        let name = engine.script(&["qualified", container])?;
        let has_joined = || {
            let rows = run(&["--json", "ps", &name]).objects();
            rows.iter().any(|row| row["command"] == json!(["sleep", "1007"]))
        };
        check(wait_until(|| has_trap(&name) && has_joined()), "it is not ready")?;
        let findings = run(&["--json", "doctor", &name]).expect(8)?.objects();
        check(!format!("{findings:?}").contains("PID 1"), format!("{findings:?}"))?;
        let events = run(&["--json", "stop", "-t", "120s", &name]).expect(0)?.objects();
        let last = events.last().cloned().unwrap_or_default();
        same((last["graceful"].clone(), last["killed"].clone()), (json!(false), json!(1)))
    };
    let outcome = work();
    let _ = engine.script(&["rm", container]);
    outcome
}

/// `why` of a container that runs has the forecast of its next stop, in the word of `ls`; then it is stopped by
/// its engine.
pub fn next_stop(engine: &Engine) -> Outcome {
    let container = &format!("cit-{}-next", engine.name);
    let read = |trap: &str| {
        format!("echo : > /rest; mkfifo /f; trap '{trap}' TERM; while :; do read x <> /f; done")
    };
    let remove = || engine.script(&["rm", container]).is_ok();
    let expect = |program: &[&str], is_ready: &dyn Fn(&str) -> bool, word: &str| -> Outcome {
        remove();
        let line = ["run", container, "--"].into_iter().chain(program.iter().copied());
        engine.script(&line.collect::<Vec<_>>())?;
        let name = engine.script(&["qualified", container])?;
        check(wait_until(|| is_ready(&name)), "it is not ready")?;
        let why = run(&["--json", "why", &name]).expect(0)?.objects();
        let evidence = why[0]["evidence"].as_array().cloned().unwrap_or_default();
        let texts = evidence.iter().filter_map(|it| it["text"].as_str());
        let texts: Vec<&str> = texts.filter(|text| text.starts_with("next stop: ")).collect();
        let doctor = format!("next stop: {word}, with TERM: `cinspect doctor {name}` says why");
        same(texts, vec![&*doctor])?;
        let rows = run(&["--json", "ls", &name]).expect(0)?.objects();
        same(&rows[0]["stop"]["forecast"], &json!(word))?;
        engine.script(&["stop", container])?;
        let has_ended = || run(&["--json", "why", &name]).objects()[0]["status"].is_i64();
        check(wait_until(has_ended), "it is not stopped")?;
        let status = run(&["--json", "why", &name]).expect(0)?.objects()[0]["status"].clone();
        same((word, status), (word, json!(if word == "killed" { 137 } else { 0 })))
    };
    let waits = |name: &str, is_it: fn(&Value) -> bool| {
        let rows = run(&["--json", "ps", name]).objects();
        rows.iter().any(|row| row["state"] == json!("S") && is_it(row))
    };
    let reads = |name: &str| waits(name, |row| row["on_signal"]["verdict"] == json!("handled"));
    let sleeps = |name: &str| waits(name, |row| row["comm"] == json!("sleep"));
    let outcome = expect(&["sh", "-c", &read("exit 0")], &reads, "graceful")
        .and_then(|()| expect(&["sleep", "1000"], &sleeps, "killed"))
        // (The file that the trap reads is not known.)
        .and_then(|()| expect(&["sh", "-c", &read(". /rest; exit 0")], &reads, "maybe"));
    remove();
    outcome
}

const TRAP_AND_LOOP: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

fn has_trap(name: &str) -> bool {
    let rows = run(&["--json", "ps", name]).objects();
    rows.iter().any(|row| row["on_signal"]["verdict"] == json!("handled"))
}

/// Files in a directory that the container has as `/shared`.
struct Shared(tempfile::TempDir);

impl Shared {
    fn new(files: &[(&str, &str)]) -> Result<Self, Failed> {
        let dir = tempfile::tempdir()?;
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text)?;
        }
        Ok(Self(dir))
    }

    fn option(&self) -> String {
        format!("-v {}:/shared", self.0.path().display())
    }

    fn has(&self, file: &str) -> bool {
        self.0.path().join(file).exists()
    }
}

/// The parent and child of `child`: with the engine's own stop the child gets no signal, with
/// `--order children-first` it does, and does its work before it exits.
pub fn children_first(engine: &Engine) -> Outcome {
    let container = &format!("cit-{}-better", engine.name);
    let child = "trap 'echo > /shared/heard; exit 0' TERM; echo > /shared/ready; while :; do sleep 0.1; done";
    let shared = Shared::new(&[("child", child)])?;
    let begin = || -> Result<String, Failed> {
        let _ = engine.script(&["rm", container]);
        let _ = std::fs::remove_file(shared.0.path().join("ready"));
        let parent = "trap 'exit 0' TERM; sh /shared/child & wait";
        engine.script_with(&shared.option(), &["run", container, "--", "sh", "-c", parent])?;
        check(wait_until(|| shared.has("ready")), "it does not get ready")?;
        engine.script(&["qualified", container])
    };
    let work = || -> Outcome {
        begin()?;
        engine.script(&["stop", container])?;
        check(!shared.has("heard"), "the engine's own stop signalled the child")?;
        let name = begin()?;
        let line = ["--json", "stop", "--order", "children-first", "-t", "240s", &name];
        let events = run(&line).expect(0)?.objects();
        check(shared.has("heard"), format!("the child got no signal: {events:?}"))?;
        // Its loop starts a child all the time, which must not delay its turn.
        let took = events.last().and_then(|event| event["t"].as_f64());
        check(
            took.is_some_and(|took| took < 110.0),
            format!("half of the grace period was over: {events:?}"),
        )?;
        same(graceful(&events), json!(true))
    };
    let outcome = work();
    let _ = engine.script(&["rm", container]);
    outcome
}

/// Two programs with a stop signal each, which write the name of a file for the signal that they got.
pub fn supervisord(engine: &Engine) -> Outcome {
    let container = &format!("cit-{}-supervised", engine.name);
    let config = "[supervisord]\nnodaemon=true\nuser=root\nlogfile=/dev/null\nlogfile_maxbytes=0\n\
        pidfile=/tmp/pid\n\
        [program:one]\ncommand=sh /shared/program one\n\
        [program:two]\ncommand=sh /shared/program two\nstopsignal=INT\n";
    let program = "trap 'echo > /shared/$1.TERM; exit 0' TERM\ntrap 'echo > /shared/$1.INT; exit 0' INT\n\
        echo > /shared/$1.ready\nwhile :; do sleep 0.1; done\n";
    let program = program.replace("'echo > /shared/$1", "'echo > /shared/'$1'");
    let shared = Shared::new(&[("supervisord.conf", config), ("program", &program)])?;
    if !Path::new("/usr/bin/supervisord").exists() {
        return Err("supervisord is not installed".into());
    }
    // The host's Python, read only, in the container's own file system.
    let options =
        format!("{} -v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro", shared.option());
    let _ = engine.script(&["rm", container]);
    let start = [
        "run",
        container,
        "--",
        "/usr/bin/python3",
        "/usr/bin/supervisord",
        "-c",
        "/shared/supervisord.conf",
    ];
    engine.script_with(&options, &start)?;
    let work = || -> Outcome {
        let ready = || shared.has("one.ready") && shared.has("two.ready");
        check(wait_until(ready), "its programs do not run")?;
        let name = engine.script(&["qualified", container])?;
        let findings = run(&["--json", "doctor", "--exit-zero", &name]).expect(0)?.objects();
        let is_warning = |row: &Value| row["severity"] == json!("warning");
        check(findings.iter().all(is_warning), format!("{findings:?}"))?;
        let uncertain = |row: &&Value| row["code"] == json!("uncertain");
        let reasons: Vec<String> =
            findings.iter().filter(uncertain).map(|row| row["message"].to_string()).collect();
        check(reasons.len() == 2, format!("{findings:?}"))?;
        check(reasons.iter().any(|reason| reason.starts_with("\"the trap for INT")), &reasons[1])?;
        let events = run(&["--json", "stop", "-t", "120s", &name]).expect(0)?.objects();
        same(graceful(&events), json!(true))?;
        let received = [("one", "TERM"), ("one", "INT"), ("two", "TERM"), ("two", "INT")]
            .map(|(program, signal)| shared.has(&format!("{program}.{signal}")));
        same(received, [true, false, false, true])
    };
    let outcome = work();
    let _ = engine.script(&["rm", container]);
    outcome
}

/// With `--init`, PID 1 is the engine's init, which forwards the signal to a program without a handler. That
/// is terminated by it, since it is not PID 1.
pub fn engines_init(engine: &Engine) -> Outcome {
    let container = &format!("cit-{}-init", engine.name);
    let _ = engine.script(&["rm", container]);
    engine.script_with("--init", &["run", container, "--", "sleep", "1000"])?;
    let work = || -> Outcome {
        let name = engine.script(&["qualified", container])?;
        let rows = || run(&["--json", "ps", &name]).objects();
        check(
            wait_until(|| {
                rows().iter().any(|row| row["comm"] == "sleep")
                    && rows().iter().any(|row| row["on_signal"]["verdict"] == "accepted")
            }),
            format!("{:?}", rows()),
        )?;
        let rows = rows();
        let note = rows[0]["on_signal"]["note"].to_string();
        check(note.contains("forwards it to its direct child"), note)?;
        let findings = run(&["--json", "doctor", "--exit-zero", &name]).expect(0)?.objects();
        same(findings[0]["code"].clone(), json!("ok"))?;
        let events = run(&["--json", "stop", "-t", "120s", &name]).expect(0)?.objects();
        let exited: Vec<&Value> =
            events.iter().filter(|event| event["event"] == "exited").map(|e| &e["comm"]).collect();
        check(exited.first().is_some_and(|comm| *comm == "sleep"), format!("{events:?}"))?;
        same(graceful(&events), json!(true))
    };
    let outcome = work();
    let _ = engine.script(&["rm", container]);
    outcome
}
