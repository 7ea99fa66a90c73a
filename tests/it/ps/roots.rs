//! Rows of the tree that stand out: processes that joined the container, and equal siblings on one line.

use super::*;

pub fn joined() -> Outcome {
    let container = fixture("init\n> web\n> > worker")?;
    let init = container.init.to_string();
    let script = "sleep 1000 & exec sleep 2000";
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["-t", &init, "-p", "--", "sh", "-c", script]).stdin(Stdio::null());
    let mut child = nsenter.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let sleep = |seconds: &str| {
        let rows = rows(&container, &[]).unwrap_or_default();
        rows.into_iter().find(|row| row["command"] == json!(["sleep", seconds]))
    };
    let work = |child: &mut std::process::Child| -> Outcome {
        check(wait_until(|| sleep("1000").and(sleep("2000")).is_some()), "it does not join")?;
        let answers = |more: &[&str]| -> Result<Vec<Value>, Failed> {
            let rows = rows(&container, more)?;
            let mut roots = rows.iter().filter(|row| row["joined"] == json!(true));
            same(roots.next().map(|row| row["command"].clone()), Some(json!(["sleep", "2000"])))?;
            Ok(rows.iter().map(|row| row["joined"].clone()).collect())
        };
        let wanted = [false, false, false, true, false].map(Value::from).to_vec();
        same(answers(&[])?, wanted.clone())?;
        same(answers(&["-T"])?, wanted)?;
        let shown = |parent: &str| {
            let text = run(&["ps", &name(&container), "-o", "command"]).out;
            let line = format!("\n[{parent}] sleep 2000\n└─ sleep 1000\n");
            check(text.ends_with(&line), text)
        };
        shown(&format!("parent {} nsenter", child.id()))?;
        // It stays a root when its parent has exited, and the kernel gives its orphan to PID 1.
        child.kill()?;
        child.wait()?;
        same(sleep("2000").unwrap_or_default()["joined"].clone(), json!(true))?;
        run(&["signal", &name(&container), "KILL", "--match", "sleep 2000"]).expect(0)?;
        let orphan = || sleep("1000").filter(|row| row["ppid"] == json!(1));
        check(wait_until(|| orphan().is_some()), "the orphan has no parent")?;
        same(orphan().unwrap_or_default()["joined"].clone(), json!(false))
    };
    let outcome = work(&mut child);
    let _ = child.kill();
    let _ = child.wait();
    outcome
}

/// A program in the container that has the name of an engine is not one that starts it.
pub fn named_like_an_engine() -> Outcome {
    let dir = tempfile::tempdir()?;
    let program = dir.path().join("crun");
    std::fs::copy("/bin/sleep", &program)?;
    let container = UnsharedInit::start(&[&program.display().to_string(), "1000"])?;
    let name = container.name();
    let shown = run(&["ps", &name, "-o", "verdict,command"]).expect(0)?.out;
    check(shown.contains("discarded") && !shown.contains("[starting]"), shown)
}

pub fn folded() -> Outcome {
    let script = "sleep 1000 & sleep 2000 & sleep 1000 & sleep 1000 & wait";
    let container = UnsharedInit::start(&["sh", "-c", script])?;
    let name = container.name();
    let sleeps = |seconds: &str| {
        let rows = run(&["--json", "ps", &name]).objects();
        rows.iter().filter(|row| row["command"] == json!(["sleep", seconds])).count()
    };
    check(wait_until(|| sleeps("1000") == 3 && sleeps("2000") == 1), "no sleeps")?;
    let lines = |arguments: &[&str]| -> Result<Vec<String>, Failed> {
        let mut line = vec!["ps", &name, "-o", "verdict,command"];
        line.extend(arguments);
        let mut command = cinspect(&line);
        command.env("LC_ALL", "C.UTF-8").env("NO_COLOR", "1");
        let text = on_terminal_with(100, command)?.0;
        let command = |line: &str| line.rsplit("  ").next().unwrap_or_default().trim().to_owned();
        Ok(text.lines().skip(2).map(command).collect())
    };
    let folded = ["├─ 3 × sleep 1000", "└─ sleep 2000"].map(str::to_owned);
    same(lines(&[])?, folded.to_vec())?;
    for all in [&["--no-fold"][..], &["--flat"], &["-T"], &["--sort", "pid"]] {
        let shown = lines(all)?;
        check(shown.len() == 4 && !shown.concat().contains('×'), format!("{shown:?}"))?;
    }
    same(run(&["ps", &name]).expect(0)?.out.lines().count(), 6)
}
