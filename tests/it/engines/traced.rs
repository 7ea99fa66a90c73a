//! `trace` by label on real engines: containers that begin while it runs belong.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::Engine;
use crate::support::{Outcome, check, cinspect, finish, run, same, start_trace, wait_until};

const LABEL: &str = "cit.traced";

/// Only the container with the label is traced, before and after the engine has started it again.
pub fn by_label(engine: &Engine) -> Outcome {
    let names = ["yes", "no"].map(|name| format!("cit-{}-traced-{name}", engine.name));
    for name in &names {
        let _ = engine.script(&["rm", name]);
    }
    // (The tests of other engines run at the same time.)
    let label = format!("{LABEL}=yes-{}", engine.name);
    let mut command = cinspect(&["--json", "trace", "--label", &label, "--label", LABEL, "USR1"]);
    command.stdin(Stdio::null());
    let (mut child, mut stderr) = start_trace(command)?;
    let events = Arc::new(Mutex::new(Vec::<Value>::new()));
    let (seen, stdout) = (events.clone(), child.stdout.take().ok_or("no stdout")?);
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            seen.lock().expect("the events").extend(serde_json::from_str::<Value>(&line));
        }
    });
    let traced = traces_each(engine, &names, &events);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT)?;
    let status = child.wait()?;
    reader.join().map_err(|_| "the reader failed")?;
    for name in &names {
        let _ = engine.script(&["rm", name]);
    }
    traced?;
    let mut rest = String::new();
    stderr.read_to_string(&mut rest)?;
    same((status.code(), rest.lines().any(|line| !line.contains("were lost"))), (Some(0), false))
}

fn traces_each(engine: &Engine, names: &[String; 2], events: &Mutex<Vec<Value>>) -> Outcome {
    let program = ["--", "sh", "-c", "trap : USR1; while :; do sleep 0.1; done"];
    for (name, value) in names.iter().zip(["yes", "no"]) {
        let options = format!("--label {LABEL}={value}-{}", engine.name);
        engine.script_with(&options, &[&["run", name], &program[..]].concat())?;
    }
    let [chosen, other] = [0, 1].map(|index| engine.script(&["qualified", &names[index]]));
    let (chosen, other) = (chosen?, other?);
    let count = || {
        let events = events.lock().expect("the events");
        let is_chosen = |event: &&Value| event["target"]["container"] == json!(chosen);
        let signals = events.iter().filter(|event| event["event"] == json!("signal"));
        (signals.clone().filter(is_chosen).count(), signals.count())
    };
    for round in ["new", "again"] {
        let (before, _) = count();
        // (The engine has recorded it a moment after its start: signals before that are not shown.)
        let is_traced = || {
            run(&["signal", &other, "USR1"]).code == 0
                && run(&["signal", &chosen, "USR1"]).code == 0
                && count().0 > before
        };
        check(wait_until(is_traced), format!("{round}: {:?}", events.lock().expect("the events")))?;
        let client = engine.script(&["client"])?;
        let mut restart = Command::new("sh");
        restart.args(["-c", &format!("{client} restart -t 0 {}", names[0])]);
        restart.stdin(Stdio::null());
        finish(restart).expect(0)?;
    }
    let (of_chosen, of_all) = count();
    same((of_chosen, of_chosen > 0), (of_all, true))
}
