//! `logs -f` on real engines: every line is printed once, in order, through rotation and to the end of the
//! container; where its engine removes lines before they can be read, that is said.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use libtest_mimic::Failed;

use super::Engine;
use super::endings::Ended;
use crate::support::{Outcome, check, run, same};

/// Lines of each half.
const HALF: usize = 500;
/// A program that prints one half on request, and then the other; its last line has no newline.
const PROGRAM: &str = "echo begin; until [ -e /one ]; do sleep 0.1; done; seq 1 500; \
                       until [ -e /two ]; do sleep 0.1; done; seq 501 1000; printf end; exit 5";

/// A running `logs -f` that has printed the first line.
struct Follower {
    child: Child,
    out: BufReader<ChildStdout>,
    errors: tempfile::NamedTempFile,
}

impl Follower {
    fn start(name: &str) -> Result<Self, Failed> {
        let errors = tempfile::NamedTempFile::new()?;
        let mut command = Command::new("timeout");
        command.args(["600", env!("CARGO_BIN_EXE_cinspect"), "logs", "-f", "-n", "all", name]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors.reopen()?);
        let mut child = command.spawn()?;
        let out = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut follower = Self { child, out, errors };
        same(follower.line()?.as_str(), "begin")?;
        Ok(follower)
    }

    fn line(&mut self) -> Result<String, Failed> {
        let mut line = String::new();
        self.out.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Waits for its end, and returns the rest of its output, and its errors.
    fn finish(mut self) -> Result<(Vec<String>, String), Failed> {
        let (mut rest, mut errors) = (String::new(), String::new());
        self.out.read_to_string(&mut rest)?;
        File::open(self.errors.path())?.read_to_string(&mut errors)?;
        let status = self.child.wait()?;
        check(status.success(), format!("{status}: {errors}"))?;
        Ok((rest.lines().map(str::to_owned).collect(), errors))
    }
}

/// Starts the program, whose log has its first line.
fn start(engine: &Engine, ended: &Ended<'_>, options: &str) -> Result<String, Failed> {
    if engine.name == "cri" {
        let _ = engine.script(&["rm", &ended.name]);
        engine.script(&["run", &ended.name, "--", "sh", "-c", PROGRAM])?;
    } else {
        ended.start(options, &format!("sh -c '{PROGRAM}'"))?;
    }
    let name = ended.qualified()?;
    let has_begun = || run(&["logs", &name]).out.contains("begin");
    check(crate::support::wait_until(has_begun), "it has no log")?;
    Ok(name)
}

fn tell(engine: &Engine, name: &str, word: &str) -> Outcome {
    let init = engine.script(&["init", name])?;
    Ok(std::fs::write(format!("/proc/{init}/root/{word}"), "")?)
}

/// Returns the paths of the log of a container in a pod, and of a file that was rotated.
fn paths(engine: &Engine, name: &str) -> Result<(PathBuf, PathBuf), Failed> {
    let status: serde_json::Value = serde_json::from_str(&engine.script(&["ending", name])?)?;
    let path = PathBuf::from(status["log"].as_str().ok_or("no log")?);
    let mut rotated = path.clone().into_os_string();
    rotated.push(".20261126-142000");
    Ok((path, rotated.into()))
}

/// Rotates the log as the kubelet does: renames the file, and has the service open it again.
fn rotate(engine: &Engine, name: &str) -> Outcome {
    let client = engine.script(&["client"])?;
    let (path, rotated) = paths(engine, name)?;
    std::fs::rename(&path, rotated)?;
    let reopen = format!("{client} reopen {name}");
    let status = Command::new("sh").args(["-c", &reopen]).stdin(Stdio::null()).status()?;
    check(status.success() && path.exists(), format!("{reopen}: {status}"))
}

pub fn to_the_end(engine: &Engine) -> Outcome {
    let mut ended = Ended::new(engine)?;
    // (The log of a pod of the same name stays, and is appended to.)
    ended.name = format!("{}-{}", ended.name, std::process::id());
    let drivers: &[&str] = match engine.name {
        "docker" => &[
            "",
            "--log-opt max-size=10k --log-opt max-file=20",
            "--log-opt max-size=10k --log-opt max-file=20 --log-opt compress=true",
            "--log-driver local --log-opt max-size=10k --log-opt max-file=20",
        ],
        "podman" => &[K8S_FILE],
        _ => &[""],
    };
    for driver in drivers {
        let name = start(engine, &ended, driver)?;
        let mut follower = Follower::start(&name)?;
        tell(engine, &ended.name, "one")?;
        for number in 1..=HALF {
            same((driver, follower.line()?), (driver, number.to_string()))?;
        }
        if engine.name == "cri" {
            rotate(engine, &ended.name)?;
        }
        tell(engine, &ended.name, "two")?;
        let (rest, errors) = follower.finish()?;
        let numbers = (HALF + 1..=2 * HALF).map(|number| number.to_string());
        let wanted: Vec<String> = numbers.chain(["end".to_owned()]).collect();
        same((driver, rest), (driver, wanted))?;
        same((driver, errors), (driver, String::new()))?;
        if engine.name == "cri" {
            let (log, _) = paths(engine, &ended.name)?;
            std::fs::remove_dir_all(log.ancestors().nth(2).ok_or("no directory")?)?;
        }
    }
    Ok(())
}

/// While its daemon hangs, the log that is there is read, and the end of the container is seen.
pub fn daemon_hangs(engine: &Engine) -> Outcome {
    let ended = Ended::new(engine)?;
    let name = start(engine, &ended, "")?;
    let mut follower = Follower::start(&name)?;
    tell(engine, &ended.name, "one")?;
    for number in 1..=HALF {
        same(follower.line()?, number.to_string())?;
    }
    let init = engine.script(&["init", &ended.name])?;
    let daemons = engine.script(&["daemons"])?;
    let daemons: Vec<&str> = daemons.split_whitespace().collect();
    check(!daemons.is_empty(), "no daemon runs")?;
    let signal = |name: &str, pids: &[&str]| {
        let _ = Command::new("kill").arg(name).args(pids).stdin(Stdio::null()).status();
    };
    signal("-STOP", &daemons);
    let work = || -> Outcome {
        let last = run(&["logs", "-n", "2", &name]).expect(0)?;
        same(&*last.out, "499\n500\n")?;
        let why = run(&["--json", "why", &name]).expect(0)?.objects();
        same(why[0]["status"].clone(), serde_json::Value::Null)?;
        signal("-KILL", &[&init]);
        let (rest, errors) = follower.finish()?;
        same(rest, Vec::new())?;
        check(errors.contains("has not recorded it: its last lines may be missing"), errors)
    };
    let outcome = work();
    signal("-CONT", &daemons);
    outcome
}

/// A container that is removed ends the log that is followed.
pub fn removed(engine: &Engine) -> Outcome {
    let ended = Ended::new(engine)?;
    let name = start(engine, &ended, if engine.name == "podman" { K8S_FILE } else { "" })?;
    let mut follower = Follower::start(&name)?;
    tell(engine, &ended.name, "one")?;
    for number in 1..=HALF {
        same(follower.line()?, number.to_string())?;
    }
    engine.script(&["rm", &ended.name])?;
    let (rest, errors) = follower.finish()?;
    check(rest.is_empty(), format!("{rest:?}"))?;
    check(errors.lines().all(|line| line.contains("may be missing")), errors)?;
    run(&["logs", "-f", &name]).expect(3).map(drop)
}

const K8S_FILE: &str = "--log-driver k8s-file";

/// Docker keeps one file without `max-file`, and writes it again from its beginning.
pub fn rewritten(engine: &Engine) -> Outcome {
    let ended = Ended::new(engine)?;
    let name = start(engine, &ended, "--log-opt max-size=10k")?;
    let follower = Follower::start(&name)?;
    tell(engine, &ended.name, "one")?;
    tell(engine, &ended.name, "two")?;
    let (lines, errors) = follower.finish()?;
    let numbers: Vec<usize> = lines.iter().filter_map(|line| line.parse().ok()).collect();
    same(lines.len(), numbers.len() + 1)?;
    same(lines.last().map(String::as_str), Some("end"))?;
    check(numbers.is_sorted_by(|one, next| one < next), format!("not in order: {numbers:?}"))?;
    // (How many lines are missing depends on the machine.)
    let warned = errors.contains("lines may be missing");
    check(warned || numbers.len() == 2 * HALF, format!("{} lines: {errors}", numbers.len()))
}
