//! Checks of a single engine.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Failed;
use serde_json::{Value, json};

use super::{Engine, inits_of};
use crate::support::{Outcome, check, finish, repository, run, same, wait_until};

/// The `--root` of a runc that waits in the foreground is only in its argv.
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
        let init: i32 = script(&["init", name])?.parse().map_err(|_| "not a PID")?;
        same(inits_of(&[format!("runc:{name}"), name.to_owned()])?, vec![json!(init); 2])
    };
    let outcome = work();
    let _ = script(&["rm", name]);
    let _ = engine;
    outcome
}

/// A container that its engine created and never started has no process. Where the engine records that, its
/// end is not a riddle; where it does not, that is said.
pub fn never_started(engine: &Engine) -> Outcome {
    let name = format!("cit-{}-end-never", engine.name);
    let _ = engine.script(&["rm", &name]);
    engine.script(&["create", &name, "--", "sleep", "1000"])?;
    let qualified = engine.script(&["qualified", &name])?;
    let (state, why, logs, refusal, start) = match engine.name {
        "docker" | "podman" => {
            let never = "it was never started";
            ("created", never, never, "but was never started", format!(" start {name}"))
        }
        "containerd" => {
            let start = format!("`ctr -n cit tasks start -d {name}`");
            ("stopped", "nor whether it was ever", "records none", "but is not running", start)
        }
        _ => {
            let start = format!("`lxc-start {name}`");
            ("stopped", "nor whether it was ever", "records none", "but is not running", start)
        }
    };
    let work = || -> Outcome {
        let rows = run(&["--json", "ls", "-a", &name]).expect(0)?.objects();
        same(rows.iter().map(|row| &row["state"]).collect::<Vec<_>>(), vec![&json!(state)])?;
        let reason = run(&["--json", "why", &qualified]).expect(0)?.objects()[0]["reason"].clone();
        check(reason.to_string().contains(why), &reason)?;
        let log = run(&["logs", &qualified]).expect(1)?.err;
        check(log.contains(logs), log)?;
        for command in ["ps", "inspect", "signals", "signal -s TERM", "stop", "exec"] {
            let arguments: Vec<&str> = command.split(' ').chain([&*qualified]).collect();
            let refused = run(&arguments).expect(if command == "exec" { 125 } else { 3 })?.err;
            check(refused.contains(refusal) && refused.contains(&start), refused)?;
        }
        Ok(())
    };
    let outcome = work();
    let _ = engine.script(&["rm", &name]);
    outcome
}

/// Containers of one name that do not run, in two namespaces: one was never started, and the task of the other
/// was killed and is not deleted yet. Each is found by its qualified reference. With one that runs, the name is
/// that one's.
pub fn two_namespaces(engine: &Engine) -> Outcome {
    const NAMESPACES: [&str; 2] = ["cit-a", "cit-b"];
    let script = |namespace: &str, arguments: &[&str]| {
        let mut command = Command::new(super::script_of(engine.name));
        command.args(arguments).env("CIT_NAMESPACE", namespace).stdin(Stdio::null());
        finish(command).expect(0).map(|run| run.out.trim().to_owned())
    };
    let name = "cit-containerd-twin";
    let remove = || NAMESPACES.map(|namespace| script(namespace, &["rm", name]).is_ok());
    let references = || -> Result<Vec<String>, Failed> {
        NAMESPACES.iter().map(|namespace| script(namespace, &["qualified", name])).collect()
    };
    let ambiguous = |references: &[String], line: &[&str]| -> Outcome {
        let refused = run(line).expect(3)?.err;
        let is_named = |reference: &String| refused.contains(&format!("  {reference}  "));
        check(refused.contains("matches 2 ") && references.iter().all(is_named), refused)
    };
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    remove();
    let work = || -> Outcome {
        script("cit-a", &["create", name, "--", "sleep", "1000"])?;
        script("cit-b", &["run", name, "--", "sleep", "1000"])?;
        let references = references()?;
        let why = run(&["--json", "why", name]).expect(0)?.objects();
        same(&why[0]["container"], &json!(references[1]))?;
        script("cit-b", &["kill", name])?;
        let has_ended = || script("cit-b", &["ending", name]).is_ok_and(|it| it.contains("exited"));
        check(wait_until(has_ended), "it is not killed")?;
        let rows = run(&["ls", "-a", "-o", "engine,name,state", name]).expect(0)?.out;
        let listed: Vec<String> = rows.lines().skip(1).map(words).collect();
        let expected = NAMESPACES.map(|namespace| format!("containerd {namespace}/{name} stopped"));
        same(listed, expected.to_vec())?;
        ambiguous(&references, &["why", name])?;
        ambiguous(&references, &["logs", name])?;
        ambiguous(&references, &["stop", name])?;
        for reference in &references {
            let why = run(&["--json", "why", reference]).expect(0)?.objects();
            same(why.iter().map(|why| &why["container"]).collect(), vec![&json!(reference)])?;
            let reason = why[0]["reason"].to_string();
            check(reason.contains("how it ended is not known"), reason)?;
        }
        Ok(())
    };
    let outcome = work();
    remove();
    outcome
}

/// A container that was created and not started is its runtime, of which no verdict says anything about the
/// program.
pub fn created(engine: &Engine) -> Outcome {
    let name = format!("cit-{}-created", engine.name);
    let client = |arguments: &[&str]| {
        let mut command = Command::new(engine.name);
        command.args(arguments).stdin(Stdio::null());
        command
    };
    let _ = engine.script(&["rm", &name]);
    engine.script(&["run", &name, "--", "sleep", "1000"])?;
    let state: Value = serde_json::from_str(&finish(client(&["state", &name])).expect(0)?.out)?;
    let bundle = state["bundle"].as_str().unwrap_or_default().to_owned();
    let work = || -> Outcome {
        finish(client(&["delete", "-f", &name])).expect(0)?;
        // (The new init inherits the output.)
        let mut create = client(&["create", "--bundle", &bundle, &name]);
        create.stdout(Stdio::null()).stderr(Stdio::null());
        check(create.status()?.success(), "it is not created")?;
        let qualified = engine.script(&["qualified", &name])?;
        let ps = run(&["ps", &qualified]).expect(0)?.out;
        check(ps.contains("unknown") && ps.contains("[starting] "), &ps)?;
        let row = run(&["--json", "ls", &name]).expect(0)?.objects();
        same(row[0]["stop"]["forecast"].clone(), json!("maybe"))?;
        let page = run(&["--json", "inspect", &qualified]).expect(0)?.objects();
        same(
            [row[0]["state"].clone(), page[0]["state"].clone()],
            [json!("created"), json!("created")],
        )?;
        let findings = run(&["--json", "doctor", &qualified]).expect(0)?.objects();
        same(findings[0]["code"].clone(), json!("unknown"))?;
        check(findings[0]["message"].to_string().contains("being started"), &findings[0])?;
        let signal = run(&["--json", "signal", "-n", &qualified, "TERM"]).expect(0)?.objects();
        same(signal[0]["verdict"].clone(), json!("unknown"))?;
        finish(client(&["start", &name])).expect(0)?;
        let is_started = || {
            let ps = run(&["ps", &qualified]).out;
            ps.contains("sleep 1000")
                && ps.contains("discarded")
                && !ps.contains("[starting]")
                && run(&["ls", &name]).out.contains("  running  ")
        };
        check(wait_until(is_started), "it is not started")
    };
    let outcome = work();
    let _ = engine.script(&["rm", &name]);
    outcome
}

/// The processes of gVisor's containers are not on the host: nothing is claimed about them, and none is signalled.
pub fn sandbox(engine: &Engine) -> Outcome {
    let (name, qualified, init) = (&engine.container, engine.qualified()?, engine.init()?);
    let all = run(&["--json", "ls"]).expect(0)?.objects();
    let row = all.iter().find(|row| row["name"] == json!(name)).ok_or("it is not listed")?;
    same((&row["engine"], &row["pid"]), (&json!("runsc"), &json!(init)))?;
    check(row["remark"].to_string().contains("gVisor"), row)?;
    same(
        (&row["stop"]["verdict"], &row["stop"]["forecast"]),
        (&json!("unknown"), &json!("maybe")),
    )?;
    let processes = engine.ps()?;
    check(processes.iter().any(|process| process["host_pid"] == json!(init)), "no sandbox")?;
    // The gofer has a PID namespace of its own.
    let is_listed = |process: &Value| all.iter().any(|row| row["pid"] == process["host_pid"]);
    same(processes.iter().filter(|process| is_listed(process)).count(), 1)?;
    let findings = run(&["--json", "doctor", name]).expect(0)?.objects();
    let codes: Vec<&Value> = findings.iter().map(|finding| &finding["code"]).collect();
    same(codes, vec![&json!("unknown")])?;
    let refused =
        [(3, &["signal", name, "USR1"][..]), (3, &["stop", name]), (125, &["exec", name, "true"])];
    for (status, arguments) in refused {
        let refusal = run(arguments).expect(status)?.err;
        check(refusal.contains("gVisor") && refusal.contains(&format!("`pid:{init}`")), &refusal)?;
    }
    same(engine.received()?, Vec::<String>::new())?;
    let why = run(&["why", &qualified]).expect(0)?.out;
    check(why.contains("next stop  maybe"), why)?;
    let mut kill = Command::new("runsc");
    kill.args(["kill", name, "KILL"]).stdin(Stdio::null());
    finish(kill).expect(0)?;
    let has_ended =
        || run(&["ps", &qualified]).err.contains("exists in runsc (gVisor) but is not running");
    check(wait_until(has_ended), "it has not ended")
}

/// gVisor below an engine that calls it by another name: the init is a program of the host, and nothing is
/// claimed about the processes in its kernel.
pub fn sandbox_by_another_name(engine: &Engine) -> Outcome {
    let name = format!("cit-{}-sandboxed", engine.name);
    let directory = tempfile::tempdir()?;
    let below = directory.path().join("kernel");
    std::fs::write(&below, "#!/bin/sh\nexec runsc --platform=ptrace --network=none \"$@\"\n")?;
    std::fs::set_permissions(&below, std::fs::Permissions::from_mode(0o755))?;
    let below = below.to_string_lossy();
    let _ = engine.script(&["rm", &name]);
    if engine.name == "podman" {
        let before = ["--runtime", &below, "run", "-d", "--name", &name, "--network=none"];
        let limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"];
        engine.client(&[&before[..], &limits, &["bb:latest", "sleep", "1000"]].concat())?;
    } else {
        let options = format!("--runc-binary {below}");
        engine.script_with(&options, &["run", &name, "--", "sleep", "1000"])?;
    }
    let work = || -> Outcome {
        let row = run(&["--json", "ls", &name]).expect(0)?.objects();
        let sandbox = "runs in a gVisor sandbox";
        check(row[0]["remark"].to_string().contains(sandbox), &row[0])?;
        same(row[0]["stop"]["forecast"].clone(), json!("maybe"))?;
        let findings = run(&["--json", "doctor", &name]).expect(0)?.objects();
        same((findings.len(), findings[0]["code"].clone()), (1, json!("unknown")))?;
        let qualified = engine.script(&["qualified", &name])?;
        for arguments in [&["signal", &qualified, "TERM"][..], &["stop", "-n", &qualified]] {
            let run = run(arguments).expect(3)?;
            check(run.err.contains(sandbox), format!("{arguments:?}: {}", run.err))?;
        }
        Ok(())
    };
    let outcome = work();
    let _ = engine.script(&["rm", &name]);
    outcome
}

/// Containers of one caller that have no unit share the cgroup `payload`.
pub fn shared_cgroup(engine: &Engine) -> Outcome {
    let other = "cit-nspawn-beside";
    let _ = engine.script(&["rm", other]);
    engine.script(&["run", other, "--", "sleep", "4545"])?;
    let work = || -> Outcome {
        let rows = engine.ps()?;
        check(
            !rows.iter().any(|row| row["command"].to_string().contains("4545")),
            "a process of the other container is shown",
        )?;
        check(rows.len() >= 3, "its processes are not shown")?;
        let child = rows.iter().find(|row| row["pid"] != json!(1)).cloned().unwrap_or_default();
        let by_child = format!("pid:{}", child["host_pid"]);
        same(inits_of(&[by_child])?, vec![json!(engine.init()?)])?;
        let rows = || run(&["--json", "ps", &format!("nspawn:{other}")]).objects();
        let is_sleep = |row: &Value| row["command"] == json!(["sleep", "4545"]);
        check(wait_until(|| rows().iter().any(is_sleep)), "the other one does not run")?;
        same(rows().len(), 1)
    };
    let outcome = work();
    let _ = engine.script(&["rm", other]);
    outcome
}

/// The name is the one that systemd-nspawn prints, in whatever spelling its options are.
pub fn names_as_printed(_engine: &Engine) -> Outcome {
    let directory = root_for_nspawn()?;
    let web = directory.path().join("web");
    let work = || -> Outcome {
        for options in [
            "-DWEB sleep 1000",
            "-UD WEB sleep 1000",
            "--direct=WEB -- sleep 1000",
            "-Mm -D WEB sleep 1000",
            "-xD WEB sleep 1000",
            "-D . sleep 1000",
            "sleep 1000",
            "-DWEB sh -c sleep|1000 -b -M other --kill-signal=INT",
        ] {
            let machine = Machine::start(&web, options)?;
            let row = machine.row()?;
            same((options, row["name"].clone()), (options, json!(machine.printed()?)))?;
        }
        Ok(())
    };
    work()
}

/// PID 1 of `--as-pid2` never executes a program, and the container runs nevertheless.
pub fn stub_init(_engine: &Engine) -> Outcome {
    let directory = root_for_nspawn()?;
    let web = directory.path().join("web");
    let machine = Machine::start(&web, "--as-pid2 -DWEB sleep 1000")?;
    let init = format!("pid:{}", machine.row()?["pid"]);
    let ps = || run(&["ps", &init]).out;
    let is_running = || ps().contains("(sd-stubinit)") && ps().contains("sleep 1000");
    check(wait_until(is_running), ps())?;
    same(machine.row()?["state"].clone(), json!("running"))?;
    check(!ps().contains("[starting]"), ps())
}

/// Returns a directory with a copy of the root file system of all containers, named `web`.
fn root_for_nspawn() -> Result<tempfile::TempDir, Failed> {
    let data = std::env::var("CINSPECT_TEST_DATA").unwrap_or("/var/tmp/cinspect-test".into());
    let directory = tempfile::Builder::new().prefix("cit-nspawn").tempdir()?;
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(Path::new(&data).join("rootfs")).arg(directory.path().join("web"));
    finish(copy).expect(0)?;
    Ok(directory)
}

/// An unregistered systemd-nspawn, which is killed in the end.
struct Machine {
    process: std::process::Child,
    log: tempfile::NamedTempFile,
}

impl Machine {
    /// Starts it in the directory of its root, with `WEB` for that directory and `|` for a space.
    fn start(web: &Path, options: &str) -> Result<Self, Failed> {
        let log = tempfile::NamedTempFile::new()?;
        let options =
            options.split(' ').map(|word| word.replace("WEB", &web.display().to_string()));
        let process = Command::new("systemd-nspawn")
            .args(["--register=no", "--keep-unit", "--console=passive"])
            .args(options.map(|word| word.replace('|', " ")))
            .current_dir(web)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.reopen()?)
            .spawn()?;
        Ok(Self { process, log })
    }

    /// Returns the name that it prints.
    fn printed(&self) -> Result<String, Failed> {
        let text = std::fs::read_to_string(self.log.path())?;
        let name = text.split("Spawning container ").nth(1).and_then(|rest| rest.split(' ').next());
        name.map(str::to_owned).ok_or_else(|| format!("it prints no name: {text}").into())
    }

    fn row(&self) -> Result<Value, Failed> {
        let monitor = self.process.id().to_string();
        let row = || -> Option<Value> {
            let rows = run(&["--json", "ls", "--engine", "nspawn"]).objects();
            rows.into_iter().find(|row| {
                let stat = std::fs::read_to_string(format!("/proc/{}/stat", row["pid"]));
                stat.is_ok_and(|stat| stat.split(' ').nth(3) == Some(&monitor))
            })
        };
        let found = wait_until(|| row().is_some());
        let log = || std::fs::read_to_string(self.log.path()).unwrap_or_default();
        check(found, format!("its row is missing: {}", log()))?;
        row().ok_or_else(|| "it has exited".into())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let init = self.row().map(|row| row["pid"].to_string()).unwrap_or_default();
        let _ = Command::new("kill").args(["-KILL", &init]).status();
        let _ = self.process.wait();
    }
}

/// SIGKILL to the stop at the moment at which it has frozen the container and kills its processes.
pub fn killed_while_frozen(engine: &Engine) -> Outcome {
    let other = &format!("cit-{}-frozen", engine.name);
    let _ = engine.script(&["rm", other]);
    engine.script(&[
        "run",
        other,
        "--pid=host",
        "--",
        "sh",
        "-c",
        "trap '' TERM; sleep 1000; :",
    ])?;
    let work = || -> Outcome {
        let name = engine.script(&["qualified", other])?;
        let is_sleep = |row: &Value| row["command"] == json!(["sleep", "1000"]);
        let has_trap = || run(&["--json", "ps", &name]).objects().iter().any(is_sleep);
        check(wait_until(has_trap), "it is not ready")?;
        let log = std::env::temp_dir().join(format!("{other}.strace"));
        let mut stop = Command::new("unshare");
        let script = "umount /sys/fs/cgroup/unified 2> /dev/null; exec strace -f -qq -e trace=write,pidfd_send_signal -e inject=pidfd_send_signal:signal=SIGKILL:when=2 -o \"$@\"";
        stop.args(["--mount", "sh", "-c", script, "sh"]).arg(&log);
        stop.arg(env!("CARGO_BIN_EXE_cinspect")).args(["stop", "-t", "100ms", &name]);
        let killed = finish(stop);
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let _ = std::fs::remove_file(&log);
        check(killed.code != 0 && text.contains("\"FROZEN\""), format!("{killed:?}\n{text}"))?;
        let is_thawed = || -> bool {
            let rows = run(&["--json", "ls", &name]).objects();
            rows.iter().all(|row| row["state"] == json!("running")) && !rows.is_empty()
        };
        check(wait_until(is_thawed), "it is still frozen")
    };
    let outcome = work();
    let _ = engine.script(&["rm", other]);
    outcome
}

/// A container in the host's PID namespace that forks all the time, on a host without cgroup v2: it is
/// frozen, killed and thawed.
pub fn freeze_and_kill(engine: &Engine) -> Outcome {
    let other = &format!("cit-{}-still", engine.name);
    let _ = engine.script(&["rm", other]);
    let fork_loop = "trap '' TERM; while :; do sleep 0.2 & sleep 0.02; done";
    engine.script(&["run", other, "--pid=host", "--", "sh", "-c", fork_loop])?;
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
        let position = |word: &str| text.find(&format!("\"{word}\""));
        check(
            position("FROZEN").is_some() && position("FROZEN") < position("THAWED"),
            "it was not frozen",
        )?;
        check(wait_until(|| run(&["ps", &name]).code == 3), "processes are left")
    };
    let outcome = work();
    let _ = engine.script(&["rm", other]);
    outcome
}
