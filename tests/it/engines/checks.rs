//! The checks that hold for containers of every engine.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Engine, inits_of};
use crate::support::{Outcome, check, finish, run, same, wait_at_most, wait_until};

pub fn names(engine: &Engine) -> Outcome {
    let init = engine.init()?;
    let mut references = vec![engine.qualified()?, format!("pid:{init}"), init.to_string()];
    if engine.has_names() {
        let id = engine.id()?;
        references.push(engine.container.clone());
        let prefix = engine.qualified()?.split(':').next().unwrap_or_default().to_owned();
        references.push(format!("{prefix}:{id}"));
        if id.len() == 64 {
            references.extend([id.clone(), id[..12].to_owned(), id[..20].to_owned()]);
        }
    }
    same(inits_of(&references)?, vec![json!(init); references.len()])
}

pub fn listed(engine: &Engine) -> Outcome {
    let init = engine.init()?;
    let rows = run(&["--json", "ls"]).expect(0)?.objects();
    let matching: Vec<&Value> = rows.iter().filter(|row| row["pid"] == json!(init)).collect();
    same(matching.len(), 1)?;
    let row = matching[0];
    same(row["verified"].clone(), json!(true))?;
    same(row["state"].clone(), json!("running"))?;
    same(row["engine"].clone(), json!(engine.kind()?))?;
    if engine.has_names() {
        same(row["name"].clone(), json!(engine.container))?;
        same(row["id"].clone(), json!(engine.id()?))?;
    }
    let user = engine.script(&["as-user"])?;
    check(row["user"].is_null() == user.is_empty(), format!("user {} for `{user}`", row["user"]))?;
    // Its shells start processes all the time: at some moment both commands must count as many, which takes
    // many attempts on a machine with much else to do.
    let name = engine.qualified()?;
    let agree = || {
        let listed = run(&["--json", "ls"]).objects();
        let listed = listed.iter().find(|row| row["pid"] == json!(init)).cloned();
        let shown = run(&["--json", "ps", &name]).objects().len();
        shown >= 3 && listed.is_some_and(|row| row["processes"] == json!(shown))
    };
    check(
        wait_at_most(Duration::from_secs(60), agree),
        "ls and ps count different numbers of processes",
    )
}

/// Returns the PIDs of the processes that stay: all but the short sleeps.
pub fn lasting(rows: &[Value]) -> BTreeSet<(i64, i64)> {
    let stays =
        |row: &&Value| row["command"] != json!(["sleep", "0.1"]) && row["state"] != json!("Z");
    let pair =
        |row: &Value| (row["host_pid"].as_i64().unwrap_or(0), row["pid"].as_i64().unwrap_or(0));
    // A shell between fork and exec looks like the shell: callers take only processes of two snapshots.
    rows.iter().filter(stays).map(pair).collect()
}

pub fn processes(engine: &Engine) -> Outcome {
    // The snapshots of cinspect and of the engine are of different instants: they must agree in one of a
    // few rounds.
    let mut last = String::new();
    for _ in 0..10 {
        let before = lasting(&engine.ps()?);
        // The listing command may be in the list, with another PID each time.
        let listed = engine.top()?;
        let after = lasting(&engine.ps()?);
        let lasting_pids: BTreeSet<(i64, i64)> = before.intersection(&after).copied().collect();
        let missing: Vec<_> = lasting_pids
            .iter()
            .filter(|(host_pid, pid)| {
                !listed.iter().any(|(h, i)| {
                    (h.is_some() || i.is_some())
                        && h.is_none_or(|h| i64::from(h) == *host_pid)
                        && i.is_none_or(|i| i64::from(i) == *pid)
                })
            })
            .collect();
        let all = run(&["--json", "ps", &engine.qualified()?]).expect(0)?.objects();
        let again = engine.top()?;
        let too_many: Vec<_> = listed
            .iter()
            .filter(|process| again.contains(process))
            .filter(|(h, i)| {
                // A short sleep that has exited is not missing.
                let exists = h.is_none_or(|h| std::path::Path::new(&format!("/proc/{h}")).exists());
                let known = all.iter().any(|row| {
                    h.is_none_or(|h| row["host_pid"] == json!(h))
                        && i.is_none_or(|i| row["pid"] == json!(i))
                });
                exists && !known
            })
            .collect();
        if missing.is_empty() && too_many.is_empty() && lasting_pids.len() >= 3 {
            return Ok(());
        }
        last = format!(
            "the engine does not list {missing:?}; ps does not show {too_many:?} of {listed:?}; ps shows {lasting_pids:?}"
        );
    }
    Err(last.into())
}

pub fn joined(engine: &Engine) -> Outcome {
    engine.script(&["exec", &engine.container, "--", "sleep", "777"])?;
    // (A client in the container's PID namespace has it in its command line, too. Apptainer gives a command the
    // path of its program.)
    let commands = [json!(["sleep", "777"]), json!(["/bin/sleep", "777"])];
    let is_joined = |row: &&Value| commands.contains(&row["command"]);
    let joined = || engine.ps().ok()?.iter().find(is_joined).cloned();
    check(wait_until(|| joined().is_some()), "the joined process is not shown")?;
    let row = joined().ok_or("it has exited")?;
    same(row["ppid"].clone(), json!(0))?;
    // (Where the engine's container has no PID namespace of its own, it cannot be told.)
    check([json!(true), json!(null)].contains(&row["joined"]), row["joined"].to_string())?;
    // A process that joins the namespaces but not the cgroup, as by nsenter(1).
    let init = engine.init()?;
    let mut nsenter = Command::new("nsenter");
    let target = init.to_string();
    let user = if engine.is_rootless()? { "-U" } else { "-m" };
    nsenter.args(["-t", &target, user, "-m", "-p", "--", "/bin/sleep", "778"]).stdin(Stdio::null());
    let mut child = nsenter.spawn()?;
    let shown = wait_until(|| engine.member("778").is_ok());
    let row = engine.member("778");
    let _ = run(&["signal", &engine.qualified()?, "KILL", "--match", "778"]);
    let _ = child.kill();
    let _ = child.wait();
    check(shown, "the process that joined by nsenter is not shown")?;
    let row = row?;
    check(row["joined"] != json!(false), row["joined"].to_string())?;
    same(row["ppid"].clone(), json!(0))
}

pub fn exactly_one(engine: &Engine) -> Outcome {
    let child = engine.child()?;
    let pid = child["pid"].to_string();
    let sent = run(&["--json", "signal", &engine.qualified()?, "USR1", "--pid", &pid]).expect(0)?;
    let rows = sent.objects();
    same(rows.len(), 1)?;
    same((rows[0]["sent"].clone(), rows[0]["pid"].clone()), (json!(true), child["pid"].clone()))?;
    let received = || engine.received().is_ok_and(|lines| !lines.is_empty());
    check(wait_until(received), "no process received it")?;
    engine.wait_for_traps()?;
    same(engine.received()?, vec!["child USR1".to_owned()])
}

pub fn init_and_all(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    // PID 1 of bwrap has no handler: it discards the signal.
    if engine.has_names() {
        run(&["signal", &name, "USR1"]).expect(0)?;
        check(
            wait_until(|| engine.received().is_ok_and(|h| h.contains(&"init USR1".into()))),
            "the init did not receive it",
        )?;
        engine.wait_for_traps()?;
        same(engine.received()?, vec!["init USR1".to_owned()])?;
    }
    run(&["signal", &name, "USR1", "--comm", "missing"]).expect(4)?;
    let dry = run(&["--json", "signal", "-n", &name, "USR1", "--all"]).expect(0)?.objects();
    check(
        dry.len() >= 3 && dry.iter().all(|row| row["sent"] == json!(false)),
        "a dry run has sent something",
    )?;
    run(&["signal", &name, "TERM", "--all", "--except-init", "--dry-run"]).expect(0)?;
    run(&["signal", &name, "USR1", "--all"]).expect(0)?;
    check(
        wait_until(|| engine.received().is_ok_and(|h| h.contains(&"child USR1".into()))),
        "the child did not receive it",
    )
}

pub fn daemons_stopped(engine: &Engine) -> Outcome {
    let daemons = engine.script(&["daemons"])?;
    let daemons: Vec<&str> = daemons.split_whitespace().collect();
    check(!daemons.is_empty(), "no daemon runs")?;
    // The script needs the daemons: everything needed from them is read before.
    let (name, id, init, child) =
        (engine.qualified()?, engine.id()?, engine.init()?, engine.child()?);
    let signal_daemons = |signal: &str| {
        for daemon in &daemons {
            let _ = Command::new("kill").args([signal, daemon]).status();
        }
    };
    signal_daemons("-STOP");
    let work = || -> Outcome {
        same(inits_of(&[name.clone(), id.clone()])?, vec![json!(init); 2])?;
        let pid = child["pid"].to_string();
        run(&["signal", &name, "USR1", "--pid", &pid]).expect(0)?;
        let file = format!("/proc/{init}/root/received");
        let received = || std::fs::read_to_string(&file).is_ok_and(|text| text == "child USR1\n");
        check(wait_until(received), "the child did not receive it")
    };
    let outcome = work();
    signal_daemons("-CONT");
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

/// The cost depends on the container only: according to strace, none of a hundred processes outside of it
/// is read.
pub fn no_survey(engine: &Engine) -> Outcome {
    let mut others: Vec<std::process::Child> = (0..100)
        .filter_map(|_| Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().ok())
        .collect();
    let log = std::env::temp_dir().join(format!("{}.strace", engine.container));
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-e", "trace=openat,openat2,readlinkat,readlink", "-o"]).arg(&log);
    traced.arg(env!("CARGO_BIN_EXE_cinspect")).args(["ps", &engine.qualified()?]);
    let outcome = finish(traced).expect(0);
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let _ = std::fs::remove_file(&log);
    let read: Vec<u32> = others
        .iter()
        .map(std::process::Child::id)
        .filter(|pid| {
            text.contains(&format!("/proc/{pid}\"")) || text.contains(&format!("/proc/{pid}/"))
        })
        .collect();
    for other in &mut others {
        let _ = other.kill();
        let _ = other.wait();
    }
    outcome?;
    let init = engine.init()?;
    check(text.contains(&format!("/proc/{init}")), "the init is not in the log of strace")?;
    // The stale record of a container that has just exited may by chance have one of these PIDs.
    same(others.len(), 100)?;
    check(read.len() <= 2, format!("it has read {read:?}"))
}

pub fn shared(engine: &Engine) -> Outcome {
    let other = &format!("cit-{}-guest", engine.name);
    let _ = engine.script(&["rm", other]);
    let share = format!("--pid=container:{}", engine.container);
    engine.script(&["run", other, &share, "--", "sleep", "4242"])?;
    let work = || -> Outcome {
        let guest = engine.script(&["qualified", other])?;
        let rows = || run(&["--json", "ps", &guest]).objects();
        let is_sleep = |row: &Value| row["command"] == json!(["sleep", "4242"]);
        check(wait_until(|| rows().iter().any(is_sleep)), "the guest does not run")?;
        let rows = rows();
        check(rows.len() == 1, format!("{rows:?}"))?;
        check(rows[0]["pid"] != json!(1), "it is PID 1 in the namespace of the other container")?;
        let hosts = engine.ps()?;
        check(
            !hosts.iter().any(|row| row["command"].to_string().contains("4242")),
            "the process of the guest is shown in the owner",
        )?;
        check(hosts.iter().any(|row| row["pid"] == json!(1)), "the owner has no PID 1")?;
        run(&["signal", &guest, "KILL", "--wait=120s"]).expect(0)?;
        check(engine.ps()?.len() >= 3, "processes of the owner were killed")
    };
    let outcome = work();
    let _ = engine.script(&["rm", other]);
    outcome
}

/// The init handles TERM and does not exit: the grace period ends, and KILL stops the container.
pub fn stopped(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    let findings = run(&["--json", "doctor", "--exit-zero", &name]).expect(0)?.objects();
    check(!findings.is_empty(), "doctor has no finding")?;
    let plan = run(&["stop", "-n", "-s", "TERM", &name]).expect(0)?;
    check(plan.out.contains("TERM") && plan.out.contains("SIGKILL"), &plan.out)?;
    let events = run(&["--json", "stop", "-s", "TERM", "-t", "1s", &name]).expect(0)?.objects();
    check(events.iter().any(|event| event["event"] == json!("grace-over")), format!("{events:?}"))?;
    let last = events.last().cloned().unwrap_or_default();
    same((last["event"].clone(), last["graceful"].clone()), (json!("stopped"), json!(false)))?;
    check(wait_until(|| run(&["ps", &name]).code == 3), "processes are left")
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
        run(&["signal", &name, "KILL", "--match", "^sleep 4343$", "--wait=120s"]).expect(0)?;
        // Without a PID namespace the init does not take the others with it: `--all` must kill each.
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
        run(&["signal", &name, "KILL", "--all", "--wait=120s"]).expect(0)?;
        check(wait_until(|| run(&["ps", &name]).code == 3), "processes are left")
    };
    let outcome = work();
    let _ = engine.script(&["rm", other]);
    outcome
}

pub fn ended(engine: &Engine) -> Outcome {
    let name = engine.qualified()?;
    run(&["signal", &name, "KILL", "--wait=120s"]).expect(0)?;
    let gone = || run(&["ps", &name]).code == 3;
    check(wait_until(gone), format!("{:?}", run(&["ps", &name])))?;
    run(&["signal", &name, "TERM"]).expect(3)?;
    Ok(())
}
