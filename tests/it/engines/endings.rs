//! Containers that ended in every way there is, and what `why`, `ls -a` and `logs` say about them: the
//! truth is the engine's own `inspect` and `logs`.

use std::process::{Command, Stdio};

use libtest_mimic::Failed;
use serde_json::{Value, json};

use super::Engine;
use crate::support::{Outcome, check, finish, run, same, wait_until};

/// A container that is removed in the end, driven by the engine's client.
pub struct Ended<'a> {
    engine: &'a Engine,
    client: String,
    pub name: String,
}

impl<'a> Ended<'a> {
    pub fn new(engine: &'a Engine) -> Result<Self, Failed> {
        let client = engine.script(&["client"])?;
        let ended = Self { engine, client, name: format!("cit-{}-end", engine.name) };
        ended.remove();
        Ok(ended)
    }

    /// Runs the client with a line of arguments, in which `NAME` stands for the container.
    pub fn client(&self, line: &str) -> Result<String, Failed> {
        let line = format!("{} {}", self.client, line.replace("NAME", &self.name));
        let mut command = Command::new("sh");
        // (After an OOM kill conmon leaves a file named `oom` in its working directory.)
        command.args(["-c", &line]).stdin(Stdio::null()).current_dir(std::env::temp_dir());
        let run = finish(command);
        match run.code {
            0 => Ok(run.out),
            code => Err(format!("{line}: status {code}: {}", run.err).into()),
        }
    }

    /// Starts it with options, and a command of busybox's shell.
    pub fn start(&self, options: &str, program: &str) -> Outcome {
        self.remove();
        let limits = "--network none --ulimit nofile=1024:1024 --ulimit nproc=1000:1000";
        let line = format!("run -d --name NAME {limits} {options} bb:latest {program}");
        self.client(&line).map(drop)
    }

    fn inspect(&self, format: &str) -> Result<String, Failed> {
        Ok(self.client(&format!("inspect -f '{format}' NAME"))?.trim().to_owned())
    }

    pub fn qualified(&self) -> Result<String, Failed> {
        self.engine.script(&["qualified", &self.name])
    }

    fn why(&self) -> Result<Value, Failed> {
        let why = run(&["--json", "why", &self.qualified()?]).expect(0)?.objects();
        Ok(why[0].clone())
    }

    fn remove(&self) {
        let _ = self.engine.script(&["rm", &self.name]);
    }
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A container that its engine starts again and again, and one that was never started.
pub fn loops_and_never(engine: &Engine) -> Outcome {
    let ended = Ended::new(engine)?;
    ended.start("--restart always", "sh -c 'echo hello; exit 4'")?;
    let restarts = || ended.inspect("{{.RestartCount}}").ok().and_then(|n| n.parse().ok());
    check(wait_until(|| restarts().is_some_and(|count: i64| count >= 2)), "it is not restarted")?;
    let before = restarts().unwrap_or_default();
    let why = ended.why()?;
    let count = why["restarts"].as_i64().unwrap_or_default();
    check(count >= before && restarts().is_some_and(|after| count <= after), &why)?;
    check(why["evidence"].to_string().contains("restart policy `always`"), &why)?;
    // (Podman may start it once more while it is removed, and keeps the name then.)
    let is_made = || {
        ended.remove();
        ended.client("create --name NAME bb:latest true").is_ok()
    };
    check(wait_until(is_made), "its name is not free")?;
    let why = ended.why()?;
    same(why["reason"].clone(), json!("it was never started"))?;
    same(why["status"].clone(), Value::Null)?;
    let refusal = run(&["ps", &ended.name]).expect(3)?;
    check(refusal.err.contains("was never started"), &refusal.err)
}

/// Health checks that fail are said, also while it runs.
pub fn unhealthy(engine: &Engine) -> Outcome {
    let ended = Ended::new(engine)?;
    let options = "--health-cmd 'echo no; exit 9' --health-interval 1s --health-retries 1";
    ended.start(options, "sleep 1000")?;
    let status = || ended.inspect("{{.State.Health.Status}}").is_ok_and(|s| s == "unhealthy");
    check(wait_until(status), "it is not unhealthy")?;
    let why = ended.why()?;
    let evidence = why["evidence"].to_string();
    check(evidence.contains("unhealthy") && evidence.contains("with status 9: no"), &why)?;
    let findings = run(&["--json", "doctor", "--exit-zero", &ended.qualified()?]).objects();
    let finding = findings.iter().find(|row| row["code"] == json!("unhealthy"));
    let message = finding.ok_or("doctor does not say so")?["message"].to_string();
    check(message.contains("found it unhealthy, ") && message.contains("failed"), message)
}

/// The log is the one that the engine prints, whatever the driver and however often it was rotated.
pub fn logs(engine: &Engine) -> Outcome {
    let ended = Ended::new(engine)?;
    let docker = engine.name == "docker";
    let drivers: &[&str] = match docker {
        true => &[
            "",
            "--log-driver local",
            "--log-driver local --log-opt max-size=5k --log-opt max-file=9",
            "--log-opt max-size=10k --log-opt max-file=4",
            "--log-opt max-size=10k --log-opt max-file=4 --log-opt compress=true",
        ],
        false => &["--log-driver k8s-file"],
    };
    // (The engine reads its two streams independently.)
    let program = "sh -c 'i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; done; until [ -e /go ]; do sleep 0.1; done; echo end >&2; exec sleep 1000'";
    for driver in drivers {
        ended.start(driver, program)?;
        let name = ended.qualified()?;
        let whole = || run(&["logs", "-n", "all", &name]);
        check(wait_until(|| whole().out.contains("line 300\n")), format!("{driver}: no log"))?;
        std::fs::write(format!("/proc/{}/root/go", ended.inspect("{{.State.Pid}}")?), "")?;
        check(wait_until(|| whole().err.contains("end")), format!("{driver}: no log"))?;
        for count in ["all", "0", "1", "7", "250"] {
            let printed = run(&["logs", "-n", count, &name]).expect(0)?;
            let truth = ended.client(&format!(
                "logs --tail {} NAME 2>/dev/null",
                match count {
                    "all" if !docker => "-1",
                    count => count,
                }
            ))?;
            same((driver, count, &*printed.out), (driver, count, &*truth))?;
        }
        let line = run(&["--json", "logs", "-n", "1", &name]).expect(0)?.objects();
        same(
            (line[0]["text"].clone(), line[0]["stream"].clone()),
            (json!("end"), json!("stderr")),
        )?;
        let late = run(&["logs", "--since", "2100-01-01T00:00:00Z", &name]).expect(0)?;
        same(late.out, String::new())?;
    }
    // Followed until the container ends.
    ended.start("", "sh -c 'for i in 1 2 3; do echo $i; sleep 0.3; done'")?;
    let followed = run(&["logs", "-f", "-n", "all", &ended.qualified()?]).expect(0)?;
    same(&*followed.out, "1\n2\n3\n")?;
    if docker {
        ended.start("--log-driver none", "sleep 1000")?;
        let none = run(&["logs", &ended.qualified()?]).expect(1)?;
        check(none.err.contains("keeps nothing"), &none.err)?;
    }
    Ok(())
}
