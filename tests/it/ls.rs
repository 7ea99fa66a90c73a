//! `ls` on containers of the harness.

use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use serde_json::json;

use crate::harness::Container;
use crate::support::{
    Need, Outcome, check, children, finish, fixture, run, runs, same, test_with, tests_with,
    wait_until,
};

pub fn trials() -> Vec<Trial> {
    let mut trials = tests_with(
        Need::Namespaces,
        &[
            ("ls::lists_a_bare_pid_namespace", bare),
            ("ls::forecasts_a_stop", forecasts),
            ("ls::an_init_that_drops_the_signal_may_follow_its_child", by_child),
            ("ls::counts_processes_in_nested_namespaces", nested),
        ],
    );
    trials.extend([test_with(
        Need::Strace,
        "ls::opens_each_process_a_few_times_among_any_number",
        linear,
    )]);
    trials
}

fn bare() -> Outcome {
    let container = fixture("init\n> a\n> b")?;
    let rows = run(&["--json", "ls"]).expect(0)?.objects();
    let row =
        rows.iter().find(|row| row["pid"] == json!(container.init)).cloned().unwrap_or_default();
    same(row["engine"].clone(), json!("bare"))?;
    // Several lists of columns are one; a name is not a pattern.
    let header = run(&["ls", "-o", "pid", "-o", "procs,pid"]).expect(0)?.out;
    let header = header.lines().next().map(|line| line.split_whitespace().collect::<Vec<_>>());
    same(header, Some(vec!["PID", "PROCS"]))?;
    let none = run(&["ls", "no-such*"]).expect(0)?;
    check(none.err.contains("without wildcards") && none.out.lines().count() == 1, none.err)?;
    same(row["processes"].clone(), json!(3))?;
    same(row["pod"].clone(), json!(null))
}

/// The cost of a listing grows with the number of containers, not with its square: strace sees each
/// process opened a few times, however many containers there are. (A forecast reads some more files.)
fn linear() -> Outcome {
    let containers = (0..16).map(|_| fixture("init\n> a")).collect::<Result<Vec<_>, _>>()?;
    let opened =
        |arguments: &[&str]| -> Result<(String, Vec<(usize, i32)>), libtest_mimic::Failed> {
            let log = tempfile::NamedTempFile::new()?;
            let mut traced = Command::new("strace");
            traced.args(["-f", "-qq", "-e", "trace=open,openat,openat2", "-o"]).arg(log.path());
            traced.arg(env!("CARGO_BIN_EXE_cinspect")).args(arguments);
            let out = finish(traced).expect(0)?.out;
            let text = std::fs::read_to_string(log.path()).unwrap_or_default();
            let count = |init: i32| {
                let path = [format!("/proc/{init}\""), format!("/proc/{init}/")];
                text.lines().filter(|line| path.iter().any(|path| line.contains(path))).count()
            };
            Ok((out, containers.iter().map(|c| (count(c.init), c.init)).collect()))
        };
    let (out, counts) = opened(&["ls", "-o", "pid,procs"])?;
    for (count, init) in counts {
        let is_listed = |line: &str| line.split_whitespace().eq([init.to_string().as_str(), "2"]);
        check(out.lines().any(is_listed), &out)?;
        check((1..12).contains(&count), format!("{init} was opened {count} times"))?;
    }
    let (_, counts) = opened(&["--json", "ls"])?;
    for (count, init) in counts {
        check((1..32).contains(&count), format!("{init} was opened {count} times for a forecast"))?;
    }
    Ok(())
}

fn forecasts() -> Outcome {
    let (killed, maybe) = (fixture("init")?, fixture("init handle=TERM")?);
    let rows = run(&["--json", "ls"]).expect(0)?.objects();
    let stop = |container: &Container| {
        let row = rows.iter().find(|row| row["pid"] == json!(container.init));
        row.cloned().unwrap_or_default()["stop"].clone()
    };
    for (container, verdict, forecast) in
        [(&killed, "discarded", "killed"), (&maybe, "handled", "maybe")]
    {
        let stop = stop(container);
        same(stop["signal"].clone(), json!("TERM"))?;
        same(
            (stop["verdict"].clone(), stop["forecast"].clone()),
            (json!(verdict), json!(forecast)),
        )?;
        // No engine has recorded how it is to be stopped.
        let assumed = stop["assumed"].to_string();
        check(assumed.contains("the stop signal TERM") && assumed.contains("10 s"), assumed)?;
    }
    let out = run(&["ls"]).expect(0)?.out;
    check(out.lines().next().unwrap_or_default().contains("  ON STOP  "), &out)?;
    let pid = killed.init.to_string();
    let line = out.lines().find(|line| line.split_whitespace().any(|word| word == pid));
    check(line.is_some_and(|line| line.contains("killed")), out)
}

/// The init alone does not decide where a child may exit by itself.
fn by_child() -> Outcome {
    for (time, forecast) in [("90", "maybe"), ("9000", "killed")] {
        let mut unshare = Command::new("unshare");
        let script = format!("trap '' TERM; sleep {time} & wait");
        unshare.args(["-pf", "--kill-child", "sh", "-c", &script]).stdin(Stdio::null());
        let mut unshare = unshare.spawn()?;
        let monitor = unshare.id().cast_signed();
        let init = || children(monitor).first().copied();
        let child = || children(init()?).first().copied();
        let is_started = wait_until(|| child().is_some_and(|pid| runs(pid, &["sleep", time])));
        let init = init().unwrap_or_default();
        let rows = run(&["--json", "ls"]).objects();
        let _ = unshare.kill();
        let _ = unshare.wait();
        check(is_started, "the child does not run")?;
        let row = rows.iter().find(|row| row["pid"] == json!(init));
        let stop = row.cloned().unwrap_or_default()["stop"].clone();
        same(
            (stop["verdict"].clone(), stop["forecast"].clone()),
            (json!("ignored"), json!(forecast)),
        )?;
    }
    Ok(())
}

/// A process in a namespace that was made in the container still counts.
fn nested() -> Outcome {
    let container = fixture("init")?;
    let mut inner = Command::new("nsenter");
    inner.args(["-t", &container.init.to_string(), "-p", "--"]);
    inner.args(["unshare", "-pf", "--kill-child", "sleep", "1000"]).stdin(Stdio::null());
    let mut inner = inner.spawn()?;
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
