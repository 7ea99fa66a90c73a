//! Machines whose init is systemd, in the engines that boot them. Only in the virtual machines of `tests/vm`,
//! which have a root file system with systemd.

use serde_json::{Value, json};

use super::Engine;
use crate::support::{Outcome, check, run, same};

/// systemd is signalled with the signal that makes it stop, ends its services, and nothing is killed. A command
/// makes files as the engine's own exec does, though systemd's umask is 0.
pub fn systemd(engine: &Engine) -> Outcome {
    let name = &format!("cit-{}-boots", engine.name);
    let _ = engine.script(&["rm", name]);
    let outcome = engine.script(&["boot", name]).and_then(|_| stopped(engine, name));
    let _ = engine.script(&["rm", name]);
    outcome
}

fn stopped(engine: &Engine, name: &str) -> Outcome {
    let reference = engine.script(&["qualified", name])?;
    let rows = run(&["--json", "ps", &reference]).expect(0)?.objects();
    let init = rows.iter().find(|row| row["pid"] == json!(1)).cloned().unwrap_or_default();
    same(init["comm"].clone(), json!("systemd"))?;
    let umask = run(&["exec", &reference, "--", "sh", "-c", "umask"]).expect(0)?;
    same((umask.out.trim(), umask.err.as_str()), ("0022", ""))?;
    let plan = run(&["--json", "stop", "-n", &reference]).expect(0)?.objects();
    let forecast = plan.last().cloned().unwrap_or_default();
    check(forecast["graceful"] != json!("no"), &forecast)?;
    let events = run(&["--json", "stop", "-t", "600s", &reference]).expect(0)?.objects();
    let killed: Vec<&Value> =
        events.iter().filter(|event| event["event"] == json!("killed")).collect();
    let last = events.last().cloned().unwrap_or_default();
    same((last["event"].clone(), killed), (json!("stopped"), vec![]))?;
    check(last["graceful"] != json!(false), &last)
}
