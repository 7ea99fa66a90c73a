//! What people have met when they stopped a container, on Docker and Podman themselves.

use std::path::Path;

use libtest_mimic::Failed;
use serde_json::{Value, json};

use super::Engine;
use crate::support::{Outcome, check, run, same, wait_until};

/// Runs a container for a story, and stops it; what was said, and the events.
fn story(
    engine: &Engine,
    program: &[&str],
    processes: usize,
    stop: &[&str],
) -> Result<(Vec<Value>, Vec<Value>), Failed> {
    let other = &format!("cit-{}-story", engine.name);
    let _ = engine.script(&["rm", other]);
    let mut all = vec!["run", other.as_str(), "--"];
    all.extend(program);
    engine.script(&all)?;
    let name = engine.script(&["qualified", other])?;
    // Its shells have set their traps, and started what they start.
    let ready = || {
        let rows = run(&["--json", "ps", &name]).objects();
        let set = |row: &Value| {
            row["comm"] == json!("sleep") || row["on_signal"]["verdict"] == json!("handled")
        };
        rows.len() == processes && rows.iter().all(set)
    };
    check(wait_until(ready), "it is not ready")?;
    let findings = run(&["--json", "doctor", &name]).expect(0)?.objects();
    let mut all = vec!["--json", "stop", name.as_str()];
    all.extend(stop);
    let events = run(&all).expect(0)?.objects();
    let _ = engine.script(&["rm", other]);
    Ok((findings, events))
}

fn graceful(events: &[Value]) -> Value {
    events.last().cloned().unwrap_or_default()["graceful"].clone()
}

pub fn handler(engine: &Engine) -> Outcome {
    let program = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"];
    let (_, events) = story(engine, &program, 2, &["--order", "children-first"])?;
    same(graceful(&events), json!(true))
}

pub fn deaf(engine: &Engine) -> Outcome {
    let (findings, events) = story(engine, &["sleep", "1000"], 1, &["-t", "1s"])?;
    same(findings[0]["code"].clone(), json!("init-without-handler"))?;
    check(events.iter().any(|event| event["event"] == json!("grace-over")), "it left")?;
    same(graceful(&events), json!(false))
}

/// The parent leaves as it is told, and its child, which would leave as well, never hears of it; told
/// first, it does.
pub fn child(engine: &Engine) -> Outcome {
    let program =
        ["sh", "-c", "trap 'exit 0' TERM; sh -c \"trap 'exit 3' TERM; sleep 1000 & wait\" & wait"];
    let (findings, events) = story(engine, &program, 3, &[])?;
    same(findings[0]["code"].clone(), json!("children-not-signalled"))?;
    same(graceful(&events), json!(false))?;
    let unheard = events.iter().filter(|event| event["event"] == json!("killed")).count();
    same(unheard, 2)?;
    let (_, events) = story(engine, &program, 3, &["--order", "children-first"])?;
    same(graceful(&events), json!(true))
}

pub fn comes_back(engine: &Engine) -> Outcome {
    let other = &format!("cit-{}-back", engine.name);
    let _ = engine.script(&["rm", other]);
    // The script takes only its own options; the policy is set afterwards.
    engine.script(&["run", other, "--", "sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"])?;
    engine.script(&["policy", other, "always"])?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    let name = engine.script(&["qualified", other])?;
    let findings = run(&["--json", "doctor", &name]).expect(0)?.objects();
    let restart = findings.iter().any(|row| row["code"] == json!("restart"));
    let stopped = run(&["stop", &name]).expect(0)?;
    let _ = engine.script(&["rm", other]);
    check(restart, "doctor does not tell of the policy")?;
    check(stopped.err.contains("the engine restarts it at once"), &stopped.err)?;
    check(stopped.err.contains("running again"), &stopped.err)
}

/// Its text in a file of a folder that the container sees as `/shared`.
struct Shared(tempfile::TempDir);

impl Shared {
    fn new(files: &[(&str, &str)]) -> Result<Self, Failed> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).map_err(|error| error.to_string())?;
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

/// The parent and child of the story above: by the engine's own stop the child never hears of it,
/// with the leaves told first it does, and does what it has to before it leaves.
pub fn better(engine: &Engine) -> Outcome {
    let other = &format!("cit-{}-better", engine.name);
    let child = "trap 'echo > /shared/heard; exit 0' TERM; echo > /shared/ready; while :; do sleep 0.1; done";
    let shared = Shared::new(&[("child", child)])?;
    let begin = || -> Result<String, Failed> {
        let _ = engine.script(&["rm", other]);
        let _ = std::fs::remove_file(shared.0.path().join("ready"));
        let parent = "trap 'exit 0' TERM; sh /shared/child & wait";
        engine.script_with(&shared.option(), &["run", other, "--", "sh", "-c", parent])?;
        check(wait_until(|| shared.has("ready")), "it does not get ready")?;
        engine.script(&["qualified", other])
    };
    let work = || -> Outcome {
        begin()?;
        engine.script(&["stop", other])?;
        check(!shared.has("heard"), "the engine's own stop told the child")?;
        let name = begin()?;
        let events =
            run(&["--json", "stop", "--order", "children-first", &name]).expect(0)?.objects();
        check(shared.has("heard"), format!("the child was not told: {events:?}"))?;
        // Its loop starts a child all the time, which keeps nobody from being told.
        let took = events.last().and_then(|event| event["t"].as_f64());
        check(
            took.is_some_and(|took| took < 4.0),
            format!("half of the time was over: {events:?}"),
        )?;
        same(graceful(&events), json!(true))
    };
    let outcome = work();
    let _ = engine.script(&["rm", other]);
    outcome
}

/// Two programs with a stop signal each, and the file in which each says by what it was told.
pub fn supervisord(engine: &Engine) -> Outcome {
    let other = &format!("cit-{}-supervised", engine.name);
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
    let _ = engine.script(&["rm", other]);
    let start = [
        "run",
        other,
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
        let name = engine.script(&["qualified", other])?;
        let findings = run(&["--json", "doctor", &name]).expect(0)?.objects();
        same(findings[0]["code"].clone(), json!("ok"))?;
        let events = run(&["--json", "stop", &name]).expect(0)?.objects();
        same(graceful(&events), json!(true))?;
        let heard = [("one", "TERM"), ("one", "INT"), ("two", "TERM"), ("two", "INT")]
            .map(|(who, what)| shared.has(&format!("{who}.{what}")));
        same(heard, [true, false, false, true])
    };
    let outcome = work();
    let _ = engine.script(&["rm", other]);
    outcome
}

/// With `--init` its PID 1 is the engine's, which passes the signal on to a program without a
/// handler; and that one ends by it, since it is no PID 1.
pub fn engines_init(engine: &Engine) -> Outcome {
    let other = &format!("cit-{}-init", engine.name);
    let _ = engine.script(&["rm", other]);
    engine.script_with("--init", &["run", other, "--", "sleep", "1000"])?;
    let work = || -> Outcome {
        let name = engine.script(&["qualified", other])?;
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
        let findings = run(&["--json", "doctor", &name]).expect(0)?.objects();
        same(findings[0]["code"].clone(), json!("ok"))?;
        let events = run(&["--json", "stop", &name]).expect(0)?.objects();
        let ended: Vec<&Value> =
            events.iter().filter(|event| event["event"] == "exited").map(|e| &e["comm"]).collect();
        check(ended.first().is_some_and(|first| *first == "sleep"), format!("{events:?}"))?;
        same(graceful(&events), json!(true))
    };
    let outcome = work();
    let _ = engine.script(&["rm", other]);
    outcome
}
