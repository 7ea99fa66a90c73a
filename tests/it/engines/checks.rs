//! What is checked of the containers of every engine.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Engine, inits_of};
use crate::support::{Outcome, check, finish, run, same, wait_until};

pub fn names(engine: &Engine) -> Outcome {
    let init = engine.init()?;
    let mut words = vec![engine.qualified()?, format!("pid:{init}"), init.to_string()];
    if engine.has_names() {
        let id = engine.id()?;
        words.push(engine.container.clone());
        let prefix = engine.qualified()?.split(':').next().unwrap_or_default().to_owned();
        words.push(format!("{prefix}:{id}"));
        if id.len() == 64 {
            words.extend([id.clone(), id[..12].to_owned(), id[..20].to_owned()]);
        }
    }
    same(inits_of(&words)?, vec![json!(init); words.len()])
}

pub fn listed(engine: &Engine) -> Outcome {
    let init = engine.init()?;
    let rows = run(&["--json", "ls"]).expect(0)?.objects();
    let own: Vec<&Value> = rows.iter().filter(|row| row["pid"] == json!(init)).collect();
    same(own.len(), 1)?;
    let row = own[0];
    same(row["verified"].clone(), json!(true))?;
    same(row["state"].clone(), json!("running"))?;
    let runtime = match engine.name {
        "podman-rootless" => "podman",
        "bwrap" => "bare",
        name => name,
    };
    same(row["engine"].clone(), json!(runtime))?;
    if engine.has_names() {
        same(row["name"].clone(), json!(engine.container))?;
        same(row["id"].clone(), json!(engine.id()?))?;
    }
    let user = engine.script(&["as-user"])?;
    check(row["user"].is_null() == user.is_empty(), format!("user {} for `{user}`", row["user"]))?;
    // It starts and ends processes all the time: once the two have to see as many.
    let agree = || {
        let listed = run(&["--json", "ls"]).objects();
        let listed = listed.iter().find(|row| row["pid"] == json!(init)).cloned();
        let shown = engine.ps().map_or(0, |rows| rows.len());
        shown >= 3 && listed.is_some_and(|row| row["processes"] == json!(shown))
    };
    check(wait_until(agree), "ls and ps do not see as many processes")
}

/// The processes that stay: everything but the short sleeps.
pub fn lasting(rows: &[Value]) -> BTreeSet<(i64, i64)> {
    let stays =
        |row: &&Value| row["command"] != json!(["sleep", "0.1"]) && row["state"] != json!("Z");
    let pair =
        |row: &Value| (row["host_pid"].as_i64().unwrap_or(0), row["pid"].as_i64().unwrap_or(0));
    // A shell between fork and exec looks like the shell: only what two looks see is meant.
    rows.iter().filter(stays).map(pair).collect()
}

pub fn processes(engine: &Engine) -> Outcome {
    // The kernel, the engine and we look at different instants; what all see in one of a few rounds
    // is compared.
    let mut last = String::new();
    for _ in 0..10 {
        let before = lasting(&engine.ps()?);
        // What lists them is a process too, and another one the second time, after our own look.
        let engines = engine.top()?;
        let after = lasting(&engine.ps()?);
        let ours: BTreeSet<(i64, i64)> = before.intersection(&after).copied().collect();
        let missing: Vec<_> = ours
            .iter()
            .filter(|(host, inside)| {
                !engines.iter().any(|(h, i)| {
                    (h.is_some() || i.is_some())
                        && h.is_none_or(|h| i64::from(h) == *host)
                        && i.is_none_or(|i| i64::from(i) == *inside)
                })
            })
            .collect();
        let all = run(&["--json", "ps", &engine.qualified()?]).expect(0)?.objects();
        let again = engine.top()?;
        let too_many: Vec<_> = engines
            .iter()
            .filter(|process| again.contains(process))
            .filter(|(h, i)| {
                // A short sleep that has ended is no process that we missed.
                let lives = h.is_none_or(|h| std::path::Path::new(&format!("/proc/{h}")).exists());
                let known = all.iter().any(|row| {
                    h.is_none_or(|h| row["host_pid"] == json!(h))
                        && i.is_none_or(|i| row["pid"] == json!(i))
                });
                lives && !known
            })
            .collect();
        if missing.is_empty() && too_many.is_empty() && ours.len() >= 3 {
            return Ok(());
        }
        last = format!(
            "the engine does not list {missing:?}; we do not list {too_many:?} of {engines:?}; ours {ours:?}"
        );
    }
    Err(last.into())
}

pub fn joined(engine: &Engine) -> Outcome {
    engine.script(&["exec", &engine.container, "--", "sleep", "777"])?;
    check(wait_until(|| engine.member("777").is_ok()), "who joined is not shown")?;
    let row = engine.member("777")?;
    same((row["ppid"].clone(), row["command"].clone()), (json!(0), json!(["sleep", "777"])))?;
    // And one that joins the namespaces without the cgroup, as people do by hand.
    let init = engine.init()?;
    let mut nsenter = Command::new("nsenter");
    let target = init.to_string();
    let user = if engine.name == "podman-rootless" || engine.name == "bwrap" { "-U" } else { "-m" };
    nsenter.args(["-t", &target, user, "-m", "-p", "--", "/bin/sleep", "778"]).stdin(Stdio::null());
    let mut child = nsenter.spawn().map_err(|error| error.to_string())?;
    let shown = wait_until(|| engine.member("778").is_ok());
    let row = engine.member("778");
    let _ = run(&["signal", &engine.qualified()?, "KILL", "--match", "778"]);
    let _ = child.kill();
    let _ = child.wait();
    check(shown, "who joined by nsenter is not shown")?;
    same(row?["ppid"].clone(), json!(0))
}

pub fn exactly_one(engine: &Engine) -> Outcome {
    let child = engine.child()?;
    let pid = child["pid"].to_string();
    let sent = run(&["--json", "signal", &engine.qualified()?, "USR1", "--pid", &pid]).expect(0)?;
    let rows = sent.objects();
    same(rows.len(), 1)?;
    same((rows[0]["sent"].clone(), rows[0]["pid"].clone()), (json!(true), child["pid"].clone()))?;
    let heard = || engine.heard().is_ok_and(|heard| !heard.is_empty());
    check(wait_until(heard), "nobody heard it")?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    same(engine.heard()?, vec!["child USR1".to_owned()])
}

pub fn init_and_all(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    // bwrap's own PID 1 has no handler: it blocks and drops.
    if engine.has_names() {
        run(&["signal", &name, "USR1"]).expect(0)?;
        check(
            wait_until(|| engine.heard().is_ok_and(|h| h.contains(&"init USR1".into()))),
            "the init did not hear it",
        )?;
        same(engine.heard()?, vec!["init USR1".to_owned()])?;
    }
    run(&["signal", &name, "USR1", "--comm", "nobody"]).expect(4)?;
    let dry = run(&["--json", "signal", "-n", &name, "USR1", "--all"]).expect(0)?.objects();
    check(
        dry.len() >= 3 && dry.iter().all(|row| row["sent"] == json!(false)),
        "a dry run sends nothing",
    )?;
    run(&["signal", &name, "TERM", "--all", "--except-init", "--dry-run"]).expect(0)?;
    run(&["signal", &name, "USR1", "--all"]).expect(0)?;
    check(
        wait_until(|| engine.heard().is_ok_and(|h| h.contains(&"child USR1".into()))),
        "not everybody heard it",
    )
}

pub fn daemons_stopped(engine: &Engine) -> Outcome {
    let daemons = engine.script(&["daemons"])?;
    let daemons: Vec<&str> = daemons.split_whitespace().collect();
    check(!daemons.is_empty(), "no daemon runs")?;
    // Everything the script knows is asked before.
    let (name, id, init, child) =
        (engine.qualified()?, engine.id()?, engine.init()?, engine.child()?);
    let all = |signal: &str| {
        for daemon in &daemons {
            let _ = Command::new("kill").args([signal, daemon]).status();
        }
    };
    all("-STOP");
    let work = || -> Outcome {
        same(inits_of(&[name.clone(), id.clone()])?, vec![json!(init); 2])?;
        let pid = child["pid"].to_string();
        run(&["signal", &name, "USR1", "--pid", &pid]).expect(0)?;
        let file = format!("/proc/{init}/root/heard");
        let heard = || std::fs::read_to_string(&file).is_ok_and(|text| text == "child USR1\n");
        check(wait_until(heard), "the child did not hear it")
    };
    let outcome = work();
    all("-CONT");
    outcome
}

pub fn paused(engine: &Engine) -> Outcome {
    engine.script(&["pause", &engine.container])?;
    let init = engine.init()?;
    let rows = run(&["--json", "ls"]).expect(0)?.objects();
    let state = |rows: &[Value]| {
        rows.iter().find(|row| row["pid"] == json!(init)).map(|row| row["state"].clone())
    };
    let paused = state(&rows);
    let shown = run(&["--json", "ps", &engine.qualified()?]).expect(0)?.objects().len();
    engine.script(&["unpause", &engine.container])?;
    let rows = run(&["--json", "ls"]).expect(0)?.objects();
    same((paused, state(&rows)), (Some(json!("paused")), Some(json!("running"))))?;
    check(shown >= 3, format!("{shown} processes of a paused container"))
}

/// The cost is the container's own: of a hundred processes outside none is looked at, as strace
/// tells.
pub fn no_survey(engine: &Engine) -> Outcome {
    let mut strangers: Vec<std::process::Child> = (0..100)
        .filter_map(|_| Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().ok())
        .collect();
    let log = std::env::temp_dir().join(format!("{}.strace", engine.container));
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-e", "trace=openat,openat2,readlinkat,readlink", "-o"]).arg(&log);
    traced.arg(env!("CARGO_BIN_EXE_cinspect")).args(["ps", &engine.qualified()?]);
    let outcome = finish(traced).expect(0);
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let _ = std::fs::remove_file(&log);
    let looked: Vec<u32> = strangers
        .iter()
        .map(std::process::Child::id)
        .filter(|pid| {
            text.contains(&format!("/proc/{pid}\"")) || text.contains(&format!("/proc/{pid}/"))
        })
        .collect();
    for stranger in &mut strangers {
        let _ = stranger.kill();
        let _ = stranger.wait();
    }
    outcome?;
    let init = engine.init()?;
    check(text.contains(&format!("/proc/{init}")), "strace saw nothing")?;
    // The record of a container that has just ended may by chance name one of them.
    same(strangers.len(), 100)?;
    check(looked.len() <= 2, format!("looked at {looked:?}"))
}

pub fn shared(engine: &Engine) -> Outcome {
    let other = &format!("cit-{}-guest", engine.name);
    let _ = engine.script(&["rm", other]);
    let of = format!("--pid=container:{}", engine.container);
    engine.script(&["run", other, &of, "--", "sleep", "4242"])?;
    let work = || -> Outcome {
        let guest = engine.script(&["qualified", other])?;
        let rows = run(&["--json", "ps", &guest]).expect(0)?.objects();
        let commands: Vec<Value> = rows.iter().map(|row| row["command"].clone()).collect();
        same(commands, vec![json!(["sleep", "4242"])])?;
        check(rows[0]["pid"] != json!(1), "it is not PID 1 in another's namespace")?;
        let hosts = engine.ps()?;
        check(
            !hosts.iter().any(|row| row["command"].to_string().contains("4242")),
            "a guest is not the other's process",
        )?;
        check(hosts.iter().any(|row| row["pid"] == json!(1)), "the owner has PID 1")?;
        run(&["signal", &guest, "KILL", "--wait=5s"]).expect(0)?;
        check(engine.ps()?.len() >= 3, "the owner lives on")
    };
    let outcome = work();
    let _ = engine.script(&["rm", other]);
    outcome
}

/// Its init handles TERM and stays: time goes over, and KILL ends all of it.
pub fn stopped(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    let findings = run(&["--json", "doctor", &name]).expect(0)?.objects();
    check(!findings.is_empty(), "nothing is found")?;
    let plan = run(&["stop", "-n", "-s", "TERM", &name]).expect(0)?;
    check(plan.out.contains("TERM") && plan.out.contains("SIGKILL"), &plan.out)?;
    let events = run(&["--json", "stop", "-s", "TERM", "-t", "1s", &name]).expect(0)?.objects();
    check(events.iter().any(|event| event["event"] == json!("grace-over")), format!("{events:?}"))?;
    let last = events.last().cloned().unwrap_or_default();
    same((last["event"].clone(), last["graceful"].clone()), (json!("stopped"), json!(false)))?;
    check(wait_until(|| run(&["ps", &name]).code == 3), "something of it is left")
}

pub fn hosts_namespace(engine: &Engine) -> Outcome {
    let other = &format!("cit-{}-onhost", engine.name);
    let _ = engine.script(&["rm", other]);
    engine.script(&["run", other, "--pid=host", "--", "sh", "-c", "sleep 4343 & wait"])?;
    let work = || -> Outcome {
        let init = engine.init_of(other)?;
        let name = engine.script(&["qualified", other])?;
        check(
            wait_until(|| run(&["--json", "ps", &name]).objects().len() == 2),
            format!("{:?}", run(&["ps", &name])),
        )?;
        let rows = run(&["--json", "ps", &name]).expect(0)?.objects();
        same(rows[0]["pid"].clone(), json!(init))?;
        same(rows.iter().all(|row| row["pid"] == row["host_pid"]), true)?;
        run(&["signal", &name, "KILL", "--match", "^sleep 4343$", "--wait=5s"]).expect(0)?;
        // There is no namespace whose init would take all with it: `--all` has to.
        let _ = engine.script(&["rm", other]);
        engine.script(&[
            "run",
            other,
            "--pid=host",
            "--",
            "sh",
            "-c",
            "while :; do sleep 0.2 & sleep 0.05; done",
        ])?;
        run(&["signal", &name, "KILL", "--all", "--wait=10s"]).expect(0)?;
        check(wait_until(|| run(&["ps", &name]).code == 3), "something of it is left")
    };
    let outcome = work();
    let _ = engine.script(&["rm", other]);
    outcome
}

pub fn ended(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    run(&["signal", &name, "KILL", "--wait=10s"]).expect(0)?;
    let gone = || run(&["ps", &name]).code == 3;
    check(wait_until(gone), format!("{:?}", run(&["ps", &name])))?;
    run(&["signal", &name, "TERM"]).expect(3)?;
    Ok(())
}
