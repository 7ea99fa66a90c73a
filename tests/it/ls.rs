//! `ls` on containers of the harness.

use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use serde_json::json;

use crate::support::{Need, Outcome, check, finish, fixture, run, same, test_with, wait_until};

pub fn trials() -> Vec<Trial> {
    vec![
        test_with(Need::Namespaces, "ls::lists_a_bare_pid_namespace", bare),
        test_with(Need::Strace, "ls::opens_each_process_a_few_times_among_any_number", linear),
        test_with(Need::Namespaces, "ls::counts_processes_in_nested_namespaces", nested),
    ]
}

fn bare() -> Outcome {
    let container = fixture("init\n> a\n> b")?;
    let rows = run(&["--json", "ls"]).expect(0)?.objects();
    let row =
        rows.iter().find(|row| row["pid"] == json!(container.init)).cloned().unwrap_or_default();
    same(row["engine"].clone(), json!("bare"))?;
    same(row["processes"].clone(), json!(3))?;
    same(row["pod"].clone(), json!(null))
}

/// The cost of a listing grows with the number of containers, not with its square: strace sees each
/// process opened a few times, however many containers there are.
fn linear() -> Outcome {
    let containers = (0..16).map(|_| fixture("init\n> a")).collect::<Result<Vec<_>, _>>()?;
    let log = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-e", "trace=open,openat,openat2", "-o"]).arg(log.path());
    traced.arg(env!("CARGO_BIN_EXE_cinspect")).args(["--json", "ls"]);
    let rows = finish(traced).expect(0)?.objects();
    let text = std::fs::read_to_string(log.path()).unwrap_or_default();
    for container in &containers {
        let init = container.init;
        let row = rows.iter().find(|row| row["pid"] == json!(init)).ok_or("it is not listed")?;
        same(row["processes"].clone(), json!(2))?;
        let path = [format!("/proc/{init}\""), format!("/proc/{init}/")];
        let opened = text.lines().filter(|line| path.iter().any(|path| line.contains(path)));
        let opened = opened.count();
        check((1..12).contains(&opened), format!("{init} was opened {opened} times"))?;
    }
    Ok(())
}

/// A process in a namespace that was made in the container still counts.
fn nested() -> Outcome {
    let container = fixture("init")?;
    let mut inner = Command::new("nsenter");
    inner.args(["-t", &container.init.to_string(), "-p", "--"]);
    inner.args(["unshare", "-pf", "--kill-child", "sleep", "60"]).stdin(Stdio::null());
    let mut inner = inner.spawn().map_err(|error| error.to_string())?;
    let counted = || {
        let rows = run(&["--json", "ls"]).objects();
        let row = rows.into_iter().find(|row| row["pid"] == json!(container.init));
        row.unwrap_or_default()["processes"].clone()
    };
    // The init, unshare and the sleep below.
    let holds = wait_until(|| counted() == json!(3));
    let last = counted();
    let _ = inner.kill();
    let _ = inner.wait();
    check(holds, format!("counted {last}"))
}
