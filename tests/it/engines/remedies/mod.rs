//! Every remedy that `doctor` offers is tried: a container as it was stops with SIGKILL, and one that is
//! changed as the remedy says stops without. A command in a remedy is run as it is printed.

mod cases;
pub mod health;

use std::path::Path;
use std::process::Command;

use libtest_mimic::Failed;
use serde_json::{Value, json};

use super::Engine;
use crate::support::{Outcome, check, finish, run, same, wait_until};
use cases::{CASES, HANDLER, RemedyCase, SH};

/// Files of the host with perl and the inits.
const MOUNTS: [&str; 4] = ["/usr", "/bin", "/lib", "/lib64"];

/// The container of a case.
fn container(engine: &Engine) -> String {
    format!("cit-{}-remedy", engine.name)
}

/// Runs a test with the name of a container, which is removed before it and after it.
fn with_container(engine: &Engine, test: impl FnOnce(&str) -> Outcome) -> Outcome {
    let name = container(engine);
    let remove = || drop(engine.script(&["rm", &name]));
    remove();
    let outcome = test(&name);
    remove();
    outcome
}

fn start(
    engine: &Engine,
    options: &str,
    command: &[&str],
    processes: usize,
) -> Result<String, Failed> {
    let name = &container(engine);
    let _ = engine.script(&["rm", name]);
    let mounts = MOUNTS.iter().filter(|path| Path::new(path).exists());
    let mounts: String = mounts.map(|path| format!(" -v {path}:{path}:ro")).collect();
    let mut line = vec!["run", name.as_str(), "--"];
    line.extend(command);
    engine.script_with(&format!("{options}{mounts}"), &line)?;
    let name = engine.script(&["qualified", name])?;
    // Perl has its handler, every command of a shell has been started, and all of them are asleep.
    let is_ready = |row: &Value| {
        let is_program = match row["comm"].as_str() {
            Some("perl") => row["signals"]["caught"].to_string().contains("INT"),
            Some("docker-init" | "tini" | "sleep" | "sh" | "dash") => true,
            _ => false,
        };
        is_program && row["state"] == json!("S")
    };
    let mut seen = Vec::new();
    let ready = || {
        seen = run(&["--json", "ps", &name]).objects();
        seen.len() == processes && seen.iter().all(is_ready)
    };
    check(wait_until(ready), format!("{command:?} is not ready: {seen:?}"))?;
    Ok(name)
}

fn graceful(events: &[Value]) -> bool {
    events.last().cloned().unwrap_or_default()["graceful"] == json!(true)
}

/// Returns the commands in a text, between backticks.
fn commands(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).filter(|word| word.starts_with("cinspect stop")).collect()
}

/// Runs a command line as it is printed, with `--json` and the client of the test's engine.
fn paste(engine: &Engine, line: &str) -> Result<crate::support::Run, Failed> {
    let line =
        line.replacen("cinspect ", &format!("{} --json ", env!("CARGO_BIN_EXE_cinspect")), 1);
    let client = engine.script(&["client"])?;
    let line = match line.strip_prefix(&format!("{} ", engine.name)) {
        Some(rest) => format!("{client} {rest}"),
        None => line,
    };
    let mut command = Command::new("sh");
    command.args(["-c", &line]);
    Ok(finish(command))
}

fn tried(engine: &Engine, case: &RemedyCase) -> Outcome {
    let name = start(engine, case.options, case.command, case.processes)?;
    let findings = run(&["--json", "doctor", &name]).expect(8)?.objects();
    same(findings[0]["code"].clone(), json!(case.code))?;
    let remedy = findings[0]["remedy"].as_str().unwrap_or_default().to_owned();
    let events = run(&["--json", "stop", "-t", "1s", &name]).expect(0)?.objects();
    let is_by_grace = case.code == "grace-period";
    check(is_by_grace || !graceful(&events), format!("it stops gracefully as it is: {events:?}"))?;
    for (words, options, command) in case.tried {
        check(remedy.contains(words), format!("`{words}` is not offered: {remedy}"))?;
        let processes = if command[0] == SH && command[2].contains("exec ") {
            1 + usize::from(options.contains("--init"))
        } else if command.contains(&SH) {
            case.processes
        } else {
            1 + usize::from(options.contains("--init") || command[0] == "tini")
        };
        let processes = if command.contains(&"exec sleep 1000; true") { 2 } else { processes };
        let name = start(engine, options, command, processes)?;
        let grace = if is_by_grace { &[][..] } else { &["-t", "120s"] };
        let line = [&["--json", "stop", &name], grace].concat();
        let events = run(&line).expect(0)?.objects();
        check(graceful(&events), format!("`{words}` does not help: {events:?}"))?;
    }
    let commands = commands(&remedy);
    let (wanted, found) = (case.commands, commands.len());
    check(found >= wanted, format!("{found} commands instead of {wanted}: {remedy}"))?;
    for line in commands {
        let mut events = Vec::new();
        // (Two children get their signals at one time. On a busy machine the exit of one may end the shell, and
        // with it the other, before that has had a CPU.)
        for _ in 0..3 {
            start(engine, case.options, case.command, case.processes)?;
            events = paste(engine, line)?.expect(0)?.objects();
            if graceful(&events) {
                break;
            }
        }
        check(graceful(&events), format!("`{line}` does not help: {events:?}"))?;
    }
    Ok(())
}

/// Tries the remedies of each case.
pub fn help(engine: &Engine) -> Outcome {
    let mut failures = Vec::new();
    for case in CASES {
        if let Err(failure) = tried(engine, case) {
            let message = failure.message().unwrap_or_default().to_owned();
            failures.push(format!("{} {:?}: {message}", case.options, case.command));
        }
    }
    let _ = engine.script(&["rm", &container(engine)]);
    check(failures.is_empty(), failures.join("\n"))
}

/// The command that unpauses a container is the engine's, and works.
pub fn unpause(engine: &Engine) -> Outcome {
    let name = start(engine, "", &["perl", "-e", HANDLER], 1)?;
    let work = || -> Outcome {
        engine.script(&["pause", &container(engine)])?;
        let findings = run(&["--json", "doctor", &name]).expect(8)?.objects();
        let remedy = findings[0]["remedy"].as_str().unwrap_or_default().to_owned();
        same(findings[0]["code"].clone(), json!("frozen"))?;
        let line = remedy.split('`').nth(1).unwrap_or_default();
        check(line.contains("pause") || line.contains("resume"), &remedy)?;
        paste(engine, line)?.expect(0)?;
        let state = run(&["--json", "ls", &container(engine)]).expect(0)?.objects();
        same(state[0]["state"].clone(), json!("running"))?;
        engine.script(&["pause", &container(engine)])?;
        let stop = commands(&remedy)[0];
        let events = paste(engine, stop)?.expect(0)?.objects();
        check(graceful(&events), format!("{events:?}"))
    };
    let outcome = work();
    let _ = engine.script(&["unpause", &container(engine)]);
    let _ = engine.script(&["rm", &container(engine)]);
    outcome
}

/// A process that joined and was left behind is named, and the command of the remedy ends it.
pub fn left_behind(engine: &Engine) -> Outcome {
    let name = start(engine, "", &["perl", "-e", HANDLER], 1)?;
    let work = || -> Outcome {
        let init = engine.init_of(&container(engine))?;
        let script = format!(
            "nsenter -t {init} -a sleep 1000 & joiner=$!; n=0; until read -r child rest < /proc/$joiner/task/$joiner/children; grep -qx sleep /proc/$child/comm; do n=$((n+1)); [ $n -lt 3000 ] || exit 1; sleep 0.02; done; kill -9 $joiner"
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        check(command.status()?.success(), "nsenter")?;
        let findings = run(&["--json", "doctor", &name]).expect(8)?.objects();
        let finding = findings.iter().find(|row| row["code"] == json!("left-behind"));
        let finding = finding.ok_or_else(|| format!("not found: {findings:?}"))?;
        same(finding["comm"].clone(), json!("sleep"))?;
        let remedy = finding["remedy"].as_str().unwrap_or_default();
        let line = remedy.split('`').nth(1).unwrap_or_default();
        paste(engine, line)?.expect(0)?;
        let events = run(&["--json", "stop", "-t", "120s", &name]).expect(0)?.objects();
        check(graceful(&events), format!("{events:?}"))?;
        // A session that is still attached is not one of them.
        start(engine, "", &["perl", "-e", HANDLER], 1)?;
        engine.script(&["exec", &container(engine), "--", "sleep", "1007"])?;
        let joined = || run(&["--json", "ps", &name]).objects().len() == 2;
        check(wait_until(joined), "no second process")?;
        let findings = run(&["--json", "doctor", &name]).expect(8)?.objects();
        check(!format!("{findings:?}").contains("left-behind"), format!("{findings:?}"))
    };
    let outcome = work();
    let _ = engine.script(&["rm", &container(engine)]);
    outcome
}

/// A zombie whose parent outside does not reap it holds up the exit of PID 1.
pub fn zombie_of_the_shim(engine: &Engine) -> Outcome {
    let name = start(engine, "", &["perl", "-e", HANDLER], 1)?;
    let init = engine.init_of(&container(engine))?;
    let stat = std::fs::read_to_string(format!("/proc/{init}/stat"))?;
    let shim = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
    let shim: i32 = shim.and_then(|ppid| ppid.parse().ok()).ok_or("no parent")?;
    let signal = |signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), signal);
    let work = || -> Outcome {
        let script = "until [ -e /go ]; do sleep 0.1; done; exit 3";
        engine.script(&["exec", &container(engine), "--", "sh", "-c", script])?;
        let joined = || run(&["--json", "ps", &name]).objects().len() >= 2;
        check(wait_until(joined), "no second process")?;
        signal(nix::sys::signal::Signal::SIGSTOP)?;
        std::fs::write(format!("/proc/{init}/root/go"), "")?;
        let is_zombie = |row: &Value| row["state"] == json!("Z") && row["ppid"] == json!(0);
        let has_zombie = || run(&["--json", "ps", &name]).objects().iter().any(is_zombie);
        check(wait_until(has_zombie), "no zombie")?;
        let findings = run(&["--json", "doctor", "--exit-zero", &name]).expect(0)?.objects();
        let zombie = findings.iter().find(|row| row["code"] == json!("zombies"));
        let message = zombie.cloned().unwrap_or_default()["message"].to_string();
        let parent = format!("containerd-shim (host PID {shim})");
        check(message.contains(&parent), format!("{findings:?}"))?;
        let stop = run(&["stop", "-t", "2s", &name]).expect(1)?;
        let held = format!("[sh], a zombie that its parent {parent} does not reap");
        // (A note while it waits, if there is time for one, and the error.)
        check(stop.err.contains(&held), &stop.err)?;
        let findings = run(&["--json", "doctor", &name]).expect(8)?.objects();
        same(findings[0]["code"].clone(), json!("exiting"))?;
        check(findings[0]["message"].to_string().contains(&held), &findings[0])?;
        signal(nix::sys::signal::Signal::SIGCONT)?;
        check(wait_until(|| run(&["ps", &name]).code == 3), "it has not ended")
    };
    let outcome = work();
    let _ = signal(nix::sys::signal::Signal::SIGCONT);
    let _ = engine.script(&["rm", &container(engine)]);
    outcome
}

/// OOM kills of a child are counted, with the limit.
pub fn oom_kill(engine: &Engine) -> Outcome {
    const HUNGRY: &str = "perl -e '$x = q(x) x 200000000'; trap 'exit 0' TERM; sleep 1000 & wait";
    let mounts = MOUNTS.iter().filter(|path| Path::new(path).exists());
    let mounts: String = mounts.map(|path| format!(" -v {path}:{path}:ro")).collect();
    with_container(engine, |name| {
        let line = ["run", name, "--", "sh", "-c", HUNGRY];
        engine.script_with(&format!("-m 64m{mounts}"), &line)?;
        let name = engine.script(&["qualified", name])?;
        let is_asleep = |row: &Value| row["comm"] == json!("sleep");
        let ready = || run(&["--json", "ps", &name]).objects().iter().any(is_asleep);
        check(wait_until(ready), "it is not ready")?;
        let findings = run(&["--json", "doctor", "--exit-zero", &name]).expect(0)?.objects();
        let finding = findings.iter().find(|row| row["code"] == json!("oom-kills"));
        let message = finding.cloned().unwrap_or_default()["message"].to_string();
        check(message.contains("1 process was killed"), format!("{findings:?}"))?;
        check(message.contains("64 MiB"), message)
    })
}

/// A container that its engine starts again and again is found while it runs and between two lives.
pub fn crash_loop(engine: &Engine) -> Outcome {
    let shared = tempfile::tempdir()?;
    let script = "[ -e /shared/stay ] && sleep 1000; sleep 0.4; echo failed; exit 3";
    let options = format!("--restart=always -v {}:/shared", shared.path().display());
    with_container(engine, |name| {
        engine.script_with(&options, &["run", name, "--", "sh", "-c", script])?;
        let name = engine.script(&["qualified", name])?;
        let mut seen: Vec<String> = Vec::new();
        let mut says = |words: &str| {
            let findings = run(&["--json", "doctor", "--exit-zero", &name]).objects();
            let loops = findings.iter().filter(|row| row["code"] == json!("crash-loop"));
            seen.extend(loops.map(|row| format!("{} {}", row["severity"], row["message"])));
            seen.iter().any(|text| text.contains(words))
        };
        // (Docker waits twice as long each time. Podman starts it again at once.)
        let between = "it is restarting: it exited with status 3";
        let is_seen = || engine.name != "docker" || says(between);
        check(wait_until(is_seen), "it is not seen between two lives")?;
        let client = engine.script(&["client"])?;
        let count = format!("{client} inspect -f '{{{{.RestartCount}}}}' {}", container(engine));
        let restarts = || {
            let mut shell = Command::new("sh");
            shell.args(["-c", &count]);
            finish(shell).out.trim().parse::<u64>().unwrap_or(0)
        };
        check(wait_until(|| restarts() >= 3), "it is not restarted")?;
        // Its next life lasts.
        std::fs::write(shared.path().join("stay"), "")?;
        let restarted =
            if engine.name == "docker" { "Docker has restarted it" } else { "has restarted it" };
        check(wait_until(|| says(restarted)), "it is not seen while it runs")?;
        let all = || run(&["--json", "doctor"]).objects();
        let is_it =
            |row: &Value| row["container"] == json!(name) && row["code"] == json!("crash-loop");
        check(wait_until(|| all().iter().any(is_it)), "not among all containers")
    })
}

/// The kubelet makes another container for each life: one that failed is found between two of them.
pub fn crash_loop_of_a_pod(engine: &Engine) -> Outcome {
    with_container(engine, |name| {
        let until = "until [ -e /go ]; do sleep 0.1; done; exit 3";
        for attempt in ["0", "3"] {
            engine.script_with(
                &format!("--attempt {attempt}"),
                &["run", name, "--", "sh", "-c", until],
            )?;
            let word = engine.script(&["qualified", name])?;
            let finding = |arguments: &[&str]| {
                let line = [&["--json", "doctor", "--exit-zero"], arguments].concat();
                let findings = run(&line).objects();
                let is_it = |row: &&Value| {
                    row["container"] == json!(word) && row["code"] == json!("crash-loop")
                };
                findings.iter().find(is_it).cloned()
            };
            let running = finding(&[&word]);
            let wanted = (attempt == "3").then_some(json!("warning"));
            same(running.map(|row| row["severity"].clone()), wanted)?;
            let init = engine.init_of(name)?;
            std::fs::write(format!("/proc/{init}/root/go"), "")?;
            let has_ended = || {
                let ending = engine.script(&["ending", name]).unwrap_or_default();
                ending.contains("\"state\": \"exited\"")
            };
            check(wait_until(has_ended), "it has not ended")?;
            for arguments in [&[][..], &[&*word]] {
                let found = finding(arguments);
                if attempt == "0" {
                    // (It may have been its only life.)
                    same(found, None)?;
                    continue;
                }
                let found = found.ok_or_else(|| format!("no crash loop: {arguments:?}"))?;
                same(found["severity"].clone(), json!("problem"))?;
                let message = found["message"].to_string();
                check(message.contains("status 3") && message.contains("kubelet"), message)?;
            }
        }
        Ok(())
    })
}

/// For a container that is not running `doctor` says how it ended, and how serious that is.
pub fn ended(engine: &Engine) -> Outcome {
    let name = &container(engine);
    // It exits when the test asks for it, or is stopped by its engine.
    let work = |script: &str, is_asked: bool| -> Result<(Value, crate::support::Run), Failed> {
        let _ = engine.script(&["rm", name]);
        engine.script(&["run", name, "--", "sh", "-c", script])?;
        let word = engine.script(&["qualified", name])?;
        if is_asked {
            let caught = |row: &Value| row["signals"]["caught"].to_string().contains("USR1");
            let ready = || run(&["--json", "ps", &word]).objects().iter().any(caught);
            check(wait_until(ready), "it is not ready")?;
            run(&["signal", &word, "USR1"]).expect(0)?;
        } else {
            engine.script(&["stop", name])?;
        }
        let has_ended = || run(&["--json", "doctor", &word]).out.contains("\"ended\"");
        check(wait_until(has_ended), "it has not ended")?;
        let said = run(&["--json", "doctor", &word]);
        Ok((said.objects().first().cloned().unwrap_or_default(), said))
    };
    let outcome = || -> Outcome {
        for (script, is_asked, status, severity, words) in [
            ("trap 'exit 0' USR1; sleep 1000 & wait", true, 0, "info", "it exited with status 0"),
            (
                "trap 'exit 4' USR1; sleep 1000 & wait",
                true,
                8,
                "problem",
                "it exited with status 4",
            ),
            ("sleep 1000; true", false, 0, "warning", "status 137 (128+9: KILL)"),
        ] {
            // (Podman does not always record that it was told to stop a container.)
            if !is_asked && engine.name == "podman" {
                continue;
            }
            let (finding, said) = work(script, is_asked)?;
            same((said.code, finding["severity"].clone()), (status, json!(severity)))?;
            same(finding["code"].clone(), json!("ended"))?;
            check(finding["message"].to_string().contains(words), &finding)?;
        }
        Ok(())
    };
    let outcome = outcome();
    let _ = engine.script(&["rm", name]);
    outcome
}
