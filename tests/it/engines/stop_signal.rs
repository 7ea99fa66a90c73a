//! The stop signal that is shown is the one that the engine's own stop sends.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::{Value, json};

use super::Engine;
use crate::support::{Outcome, check, finish, run, same, wait_until};

/// A container for each case, which is removed in the end.
struct Case<'a> {
    engine: &'a Engine,
    name: String,
}

impl<'a> Case<'a> {
    /// Starts a container with these signals blocked in the process that starts it, which LXC passes on
    /// to the init, and with options of the engine.
    fn start(
        engine: &'a Engine,
        blocked: &str,
        options: &str,
        program: &[&str],
    ) -> Result<Self, Failed> {
        let case = Self { engine, name: format!("cit-{}-halt", engine.name) };
        let _ = engine.script(&["rm", &case.name]);
        let mut command = Command::new("env");
        if !blocked.is_empty() {
            command.arg(format!("--block-signal={blocked}"));
        }
        command.arg(super::script_of(engine.name));
        command.args(["run", &case.name, "--"]).args(program);
        command.env("CIT_OPTIONS", options).stdin(Stdio::null());
        finish(command).expect(0)?;
        Ok(case)
    }

    /// Returns the stop signal according to `inspect`, after comparing `stop -n` with it.
    fn shown(&self) -> Result<Value, Failed> {
        let name = self.engine.script(&["qualified", &self.name])?;
        let page = run(&["--json", "inspect", &name]).expect(0)?.objects();
        let signal = page[0]["stop_signal"]["signal"].clone();
        let rows = run(&["--json", "stop", "-n", &name]).expect(0)?.objects();
        same(rows[0]["signal"].clone(), signal.clone())?;
        Ok(signal)
    }

    fn init(&self) -> Result<Value, Failed> {
        let name = self.engine.script(&["qualified", &self.name])?;
        let rows = run(&["--json", "ps", &name]).expect(0)?.objects();
        let init = rows.iter().find(|row| row["pid"] == json!(1)).cloned();
        init.ok_or_else(|| "it has no PID 1".into())
    }
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        let _ = self.engine.script(&["rm", &self.name]);
    }
}

/// An init that blocks the signals keeps the one from lxc-stop pending.
pub fn lxc(engine: &Engine) -> Outcome {
    let directory = tempfile::tempdir()?;
    let file = |name: &str, text: &str| -> Result<String, Failed> {
        let path = directory.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let usr1 = file("usr1.conf", "lxc.signal.halt = SIGUSR1\n")?;
    let commented = file("commented", "# lxc.signal.halt = SIGUSR1\n")?;
    let included = directory.path().display();
    let all = "PWR,USR1,INT,RTMIN+3";
    for (blocked, options, signal) in [
        (all, String::new(), "RTMIN+3"),
        ("PWR", String::new(), "PWR"),
        (all, "lxc.signal.halt=30".into(), "PWR"),
        (all, format!("lxc.include={usr1}"), "USR1"),
        (all, format!("lxc.include={included}"), "USR1"),
        (all, format!("lxc.signal.halt=SIGINT lxc.include={usr1}"), "USR1"),
        (all, format!("lxc.include={usr1} lxc.signal.halt=SIGINT"), "INT"),
        (all, format!("lxc.include={commented}"), "RTMIN+3"),
        (all, "lxc.signal.halt=012".into(), "USR1"),
        (all, "lxc.signal.halt=0".into(), "RTMIN+3"),
    ] {
        let case = Case::start(engine, blocked, &options, &["sleep", "1000"])?;
        same((&*options, case.shown()?), (&*options, json!(signal)))?;
        engine.script(&["stop", &case.name])?;
        let pending = || Ok::<_, Failed>(case.init()?["signals"]["pending"].clone());
        wait_until(|| pending().is_ok_and(|pending| pending == json!([signal])));
        same((&*options, pending()?), (&*options, json!([signal])))?;
    }
    Ok(())
}

/// systemd-nspawn sends its signal when it gets TERM.
pub fn nspawn(engine: &Engine) -> Outcome {
    let data = std::env::var("CINSPECT_TEST_DATA").unwrap_or("/var/tmp/cinspect-test".into());
    let settings = Path::new(&data).join("nspawn").join("cit-nspawn-halt.nspawn");
    let script = "for signal in INT USR1 USR2; do trap \"echo $signal >> /heard\" $signal; done; \
        echo > /ready; while :; do sleep 0.1; done";
    let work = || -> Outcome {
        for (text, options, signal) in [
            ("", "--kill-signal SIGUSR2", "USR2"),
            ("", "-qj --kill-signal=10", "USR1"),
            ("", "--kill-signal=012", "USR1"),
            ("[Exec]\nKillSignal=SIGUSR1\n", "", "USR1"),
            ("[Exec]\nKillSignal=SIGUSR1\n", "--kill-signal=INT", "INT"),
            ("[Exec]\nKillSignal=SIGUSR1\n", "--kill-signal=INT --settings=override", "USR1"),
            ("[Exec]\nKillSignal=SIGUSR1\n", "--kill-signal=INT --settings=no", "INT"),
        ] {
            std::fs::write(&settings, text)?;
            let case = Case::start(engine, "", options, &["sh", "-c", script])?;
            let init = case.init()?["host_pid"].to_string();
            let read = |name: &str| std::fs::read_to_string(format!("/proc/{init}/root/{name}"));
            check(wait_until(|| read("ready").is_ok()), "it is not ready")?;
            same((options, case.shown()?), (options, json!(signal)))?;
            engine.script(&["stop", &case.name])?;
            let wanted = format!("{signal}\n");
            let heard = || read("heard").is_ok_and(|heard| heard == wanted);
            check(wait_until(heard), format!("{options}: it got {:?}", read("heard")))?;
        }
        Ok(())
    };
    let outcome = work();
    std::fs::remove_file(&settings)?;
    outcome
}

/// An engine that has no signal to send kills the container without one.
pub fn sends_none(engine: &Engine) -> Outcome {
    let options = match engine.name {
        "docker" => "--stop-signal=65",
        "lxc" => "lxc.signal.halt=65",
        _ => "",
    };
    let script = "trap 'echo > /heard; exit 0' TERM PWR; trap 'echo > /marker' SYS; echo > /ready; \
        while :; do sleep 1000 & wait; done";
    let case = Case::start(engine, "", options, &["sh", "-c", script])?;
    let name = engine.script(&["qualified", &case.name])?;
    let pid = case.init()?["host_pid"].to_string();
    let root = File::open(format!("/proc/{pid}/root"))?;
    let has =
        |file: &str| Path::new(&format!("/proc/self/fd/{}/{file}", root.as_raw_fd())).exists();
    check(wait_until(|| has("ready")), "it is not ready")?;
    let rows = run(&["--json", "ls", &name]).expect(0)?.objects();
    same(rows[0]["stop"]["forecast"].clone(), json!("killed"))?;
    let findings = run(&["--json", "doctor", "--exit-zero", &name]).expect(0)?.objects();
    let finding = findings.iter().find(|row| row["code"] == json!("no-signal"));
    same(finding.map(|row| row["severity"].clone()), Some(json!("problem")))?;
    engine.script(&["stop", &case.name])?;
    // (That of LXC is one without KILL. A shell runs the traps of pending signals in the order of their numbers.)
    if engine.name == "lxc" {
        let mut marker = Command::new("kill");
        marker.args(["-SYS", &pid]).stdin(Stdio::null());
        finish(marker).expect(0)?;
        check(wait_until(|| has("marker")), "it has ended without KILL")?;
        lxc_stop(&case.name)?;
    }
    check(wait_until(|| case.init().is_err()), "it was not killed")?;
    // (Docker waits 2 s before KILL, in which the trap would run. After systemd-nspawn's KILL it might not have.)
    check(!has("heard"), "it got a signal")
}

/// A time for lxc-stop to wait that no test takes.
const LXC_GRACE: Duration = Duration::from_secs(120);

/// Stops a container of LXC with KILL if its signal has no effect, which it must not wait for.
fn lxc_stop(name: &str) -> Outcome {
    let data = std::env::var("CINSPECT_TEST_DATA").unwrap_or("/var/tmp/cinspect-test".into());
    let mut command = Command::new("lxc-stop");
    command.arg("-P").arg(Path::new(&data).join("lxc"));
    command.args(["-n", name, "-t", &LXC_GRACE.as_secs().to_string()]).stdin(Stdio::null());
    let began = Instant::now();
    finish(command).expect(0)?;
    // With a signal that has no effect it would wait.
    check(began.elapsed() < LXC_GRACE / 2, "it was not killed at once")
}

/// Podman keeps the stop timeout and the restart policy in its database.
pub fn podman_database(engine: &Engine) -> Outcome {
    let program = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"];
    for (options, seconds, policy) in [
        ("--stop-timeout 60 --restart always", 60.0, "always"),
        ("--stop-timeout 0 --restart on-failure:3", 0.0, "on-failure"),
        ("", 10.0, ""),
        ("--label PODMAN_SYSTEMD_UNIT=web.service", 10.0, ""),
        ("--annotation io.kubernetes.container.preStopHandler=hook", 10.0, ""),
    ] {
        let case = Case::start(engine, "", options, &program)?;
        let name = engine.script(&["qualified", &case.name])?;
        let page = run(&["--json", "inspect", &name]).expect(0)?.objects();
        let grace = json!({"seconds": seconds, "recorded": true, "assumed": null});
        same((options, page[0]["grace"].clone()), (options, grace))?;
        let is_units = options.contains("PODMAN_SYSTEMD_UNIT");
        let recorded = if is_units { Value::Null } else { json!(policy) };
        same((options, page[0]["restart"]["policy"].clone()), (options, recorded))?;
        // (No kubelet would run a hook.)
        same((options, page[0]["pre_stop"].clone()), (options, Value::Null))?;
        // (A unit of systemd starts it again, or not.)
        let comes_back = if is_units { Value::Null } else { json!(!policy.is_empty()) };
        same((options, page[0]["restart"]["comes_back"].clone()), (options, comes_back))?;
        if policy == "always" {
            let trap = || {
                let init = case.init();
                init.is_ok_and(|init| init["on_signal"]["verdict"] == json!("handled"))
            };
            check(wait_until(trap), "it is not ready")?;
            let findings = run(&["--json", "doctor", "--exit-zero", &name]).expect(0)?.objects();
            check(findings.iter().any(|row| row["code"] == json!("restart")), "doctor is silent")?;
            let last = run(&["--json", "stop", &name]).expect(7)?.objects().pop();
            let again = last.unwrap_or_default()["running_again"].clone();
            same(again["by"].clone(), json!("Podman"))?;
        }
    }
    Ok(())
}

/// A container without a restart policy may be a task that another program starts again.
pub fn started_by_others(engine: &Engine) -> Outcome {
    for (options, comes_back, is_said) in [
        ("--label com.docker.swarm.task.id=7", Value::Null, true),
        ("--label com.docker.swarm.task.id=7 --restart always", json!(true), true),
        ("--label com.docker.compose.project=shop", json!(false), false),
    ] {
        let case = Case::start(engine, "", options, &["sleep", "1000"])?;
        let name = engine.script(&["qualified", &case.name])?;
        let page = run(&["--json", "inspect", &name]).expect(0)?.objects();
        same((options, page[0]["restart"]["comes_back"].clone()), (options, comes_back))?;
        let findings = run(&["--json", "doctor", "--exit-zero", &name]).expect(0)?.objects();
        let has_finding = findings.iter().any(|row| row["code"] == json!("restart"));
        same((options, has_finding), (options, is_said))?;
    }
    Ok(())
}

/// The kubelet runs the hook of a container before its stop signal, and records it with the grace period.
pub fn kubelets_hook(engine: &Engine) -> Outcome {
    let hook = |json: &str| format!("--pre-stop={json}");
    let command = hook(r#"{"exec":{"command":["quit","now"]}}"#);
    for (options, pre_stop, forecast, severity) in [
        ("", Value::Null, "killed", "problem"),
        (&*command, json!({"text": "the command `quit now`", "pause": null}), "maybe", "warning"),
        (
            &*hook(r#"{"sleep":{"seconds":3}}"#),
            json!({"text": "a pause of 3 s", "pause": 3.0}),
            "killed",
            "problem",
        ),
    ] {
        let case = Case::start(engine, "", options, &["sleep", "1000"])?;
        let name = engine.script(&["qualified", &case.name])?;
        let page = run(&["--json", "inspect", &name]).expect(0)?.objects();
        let grace = json!({"seconds": 5.0, "recorded": true, "assumed": null});
        same((options, page[0]["grace"].clone()), (options, grace))?;
        same((options, page[0]["pre_stop"].clone()), (options, pre_stop.clone()))?;
        let rows = run(&["--json", "ls", &name]).expect(0)?.objects();
        same((options, rows[0]["stop"]["forecast"].clone()), (options, json!(forecast)))?;
        let findings = run(&["--json", "doctor", "--exit-zero", &name]).expect(0)?.objects();
        same((options, findings[0]["severity"].clone()), (options, json!(severity)))?;
        let has_hook = findings.iter().any(|row| row["code"] == json!("pre-stop-hook"));
        same((options, has_hook), (options, !pre_stop.is_null()))?;
        // A stop by cinspect runs no hook, and says so.
        let rehearsed = run(&["--json", "stop", "-n", &name]).expect(0)?;
        let is_noted = rehearsed.err.contains("(preStop hook), which this one does not run");
        same((options, is_noted), (options, !pre_stop.is_null()))?;
        let last = rehearsed.objects().pop().unwrap_or_default();
        same((options, last["graceful"].clone()), (options, json!("no")))?;
    }
    Ok(())
}

/// The stub init of `--as-pid2` blocks TERM, and exits on RTMIN+3.
pub fn stub_init(engine: &Engine) -> Outcome {
    let case = Case::start(engine, "", "--as-pid2", &["sleep", "1000"])?;
    let name = engine.script(&["qualified", &case.name])?;
    let is_ready = || case.init().is_ok_and(|init| init["comm"] == json!("(sd-stubinit)"));
    check(wait_until(is_ready), "the stub init is not ready")?;
    let findings = run(&["--json", "doctor", &name]).objects();
    same(findings[0]["code"].clone(), json!("no-signal"))?;
    let remedy = findings[0]["remedy"].as_str().unwrap_or_default();
    check(remedy.ends_with(&format!("`cinspect stop -s RTMIN+3 {name}`")), remedy)?;
    let events =
        run(&["--json", "stop", "-s", "RTMIN+3", "-t", "120s", &name]).expect(0)?.objects();
    let last = events.last().cloned().unwrap_or_default();
    same(last["graceful"].clone(), json!(true))
}
