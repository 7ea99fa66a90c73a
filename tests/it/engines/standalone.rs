//! What is checked of one engine alone.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Engine, inits_of};
use crate::support::{Outcome, check, finish, repository, run, same, wait_until};

/// A runc that waits in the foreground shows its `--root`; its state is nowhere else.
pub fn other_root(engine: &Engine) -> Outcome {
    let name = "cit-runc-elsewhere";
    let script = |arguments: &[&str]| {
        let mut command = Command::new(repository().join("tests/engines/runc"));
        command.args(arguments).env("CIT_RUNC_ROOT", "other").stdin(Stdio::null());
        finish(command).expect(0).map(|run| run.out.trim().to_owned())
    };
    let _ = script(&["rm", name]);
    script(&["run", name, "--", "sleep", "1000"])?;
    let work = || -> Outcome {
        let init: i32 = script(&["init", name])?.parse().map_err(|_| "no number")?;
        same(inits_of(&[format!("runc:{name}"), name.to_owned()])?, vec![json!(init); 2])
    };
    let outcome = work();
    let _ = script(&["rm", name]);
    let _ = engine;
    outcome
}

/// Without units of their own all containers of one caller share the cgroup `payload`.
pub fn same_cgroup(engine: &Engine) -> Outcome {
    let other = "cit-nspawn-beside";
    let _ = engine.script(&["rm", other]);
    engine.script(&["run", other, "--", "sleep", "4545"])?;
    let work = || -> Outcome {
        let own = engine.ps()?;
        check(
            !own.iter().any(|row| row["command"].to_string().contains("4545")),
            "the other's process",
        )?;
        check(own.len() >= 3, "its own processes")?;
        let child = own.iter().find(|row| row["pid"] != json!(1)).cloned().unwrap_or_default();
        let by_child = format!("pid:{}", child["host_pid"]);
        same(inits_of(&[by_child])?, vec![json!(engine.init()?)])?;
        let rows = run(&["--json", "ps", &format!("nspawn:{other}")]).expect(0)?.objects();
        same(
            rows.iter().map(|row| row["command"].clone()).collect(),
            vec![json!(["sleep", "4545"])],
        )
    };
    let outcome = work();
    let _ = engine.script(&["rm", other]);
    outcome
}

/// A PID namespace made inside a container is a container of its own, and its processes are the
/// outer one's too, with the numbers they have there.
pub fn nested(engine: &Engine) -> Outcome {
    let init = engine.init()?.to_string();
    // The container may not make one itself; the host's root does it in its name.
    let mut inner = Command::new("nsenter");
    inner.args(["-t", &init, "-m", "-p", "--", "/bin/unshare", "-p", "-f", "/bin/sleep", "4444"]);
    let mut child = inner.stdin(Stdio::null()).spawn().map_err(|error| error.to_string())?;
    let is_inner = |row: &Value| row["command"] == json!(["/bin/sleep", "4444"]);
    let shown = wait_until(|| engine.ps().is_ok_and(|rows| rows.iter().any(is_inner)));
    let work = || -> Outcome {
        check(shown, "the outer container does not show it")?;
        let rows = engine.ps()?;
        let row = rows.iter().find(|row| is_inner(row)).cloned().unwrap_or_default();
        check(row["pid"] != json!(1), "outside it is not PID 1")?;
        let own = run(&["--json", "ps", &format!("pid:{}", row["host_pid"])]).expect(0)?.objects();
        same(own.iter().map(|row| row["pid"].clone()).collect::<Vec<_>>(), vec![json!(1)])?;
        let listed = run(&["--json", "ls"]).expect(0)?.objects();
        check(
            listed
                .iter()
                .any(|ctr| ctr["pid"] == row["host_pid"] && ctr["engine"] == json!("bare")),
            "it is not in the list",
        )
    };
    let outcome = work();
    let _ = run(&["signal", &engine.qualified()?, "KILL", "--match", "4444"]);
    let _ = child.kill();
    let _ = child.wait();
    outcome
}

/// A container without a PID namespace of its own that forks all the time, seen without the
/// hierarchy of v2: it is frozen, killed and thawed.
pub fn held_still(engine: &Engine) -> Outcome {
    let other = &format!("cit-{}-still", engine.name);
    let _ = engine.script(&["rm", other]);
    let storm = "trap '' TERM; while :; do sleep 0.2 & sleep 0.02; done";
    engine.script(&["run", other, "--pid=host", "--", "sh", "-c", storm])?;
    let work = || -> Outcome {
        let name = engine.script(&["qualified", other])?;
        let log = std::env::temp_dir().join(format!("{other}.strace"));
        let mut stop = Command::new("unshare");
        let script = "umount /sys/fs/cgroup/unified 2> /dev/null; exec strace -f -qq -e trace=write -o \"$@\"";
        stop.args(["--mount", "sh", "-c", script, "sh"]).arg(&log);
        stop.arg(env!("CARGO_BIN_EXE_cinspect")).args(["--json", "stop", "-t", "0", &name]);
        let outcome = finish(stop).expect(0);
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let _ = std::fs::remove_file(&log);
        let last = outcome?.objects().pop().unwrap_or_default();
        same(last["event"].clone(), json!("stopped"))?;
        let at = |word: &str| text.find(&format!("\"{word}\""));
        check(at("FROZEN").is_some() && at("FROZEN") < at("THAWED"), "it was not frozen")?;
        check(wait_until(|| run(&["ps", &name]).code == 3), "something of it is left")
    };
    let outcome = work();
    let _ = engine.script(&["rm", other]);
    outcome
}
