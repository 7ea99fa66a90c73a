//! `trace`: every signal with its sender and what became of it, as the processes themselves report it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::support::{
    Need, Outcome, UnsharedInit, check, cinspect, finish, fixture, run, same, test_with, wait_until,
};

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut add = |name, run: fn() -> Outcome| trials.push(test_with(Need::Root, name, run));
    add("trace::tells_what_became_of_a_signal", outcomes);
    add("trace::names_the_sender", sender);
    add("trace::shows_processes_that_begin_later", later);
    add("trace::loses_no_signal_of_a_burst", burst);
    add("trace::counts_routine_signals_unless_they_are_named", routine);
    add("trace::kill_by_the_exit_of_pid_1_has_this_reason", init_exit);
    add("trace::leaves_nothing_behind_when_it_is_killed", killed);
    add("trace::ends_after_a_number_of_signals_or_a_time", limits);
    add("trace::refuses_what_it_cannot_trace", refused);
    trials
}

/// A trace that is running.
struct Trace {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Trace {
    /// Starts it, with JSON, and waits until it traces.
    fn start(arguments: &[&str]) -> Result<Self, Failed> {
        let mut command = cinspect(&["--json", "trace"]);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut stderr = BufReader::new(child.stderr.take().ok_or("no stderr")?);
        let mut text = String::new();
        while !text.contains("tracing ") {
            check(stderr.read_line(&mut text)? > 0, format!("trace ended: {text}"))?;
        }
        Ok(Self { child, stderr })
    }

    /// Ends it as Ctrl-C does; returns its events.
    fn finish(mut self) -> Result<Vec<Value>, Failed> {
        // (Lines come in the order of time, so that the last signal is at most one reading behind.)
        let pid = self.child.id().to_string();
        let stdout = self.child.stdout.take().ok_or("no stdout")?;
        let reader = std::thread::spawn(move || -> std::io::Result<Vec<Value>> {
            let lines = BufReader::new(stdout).lines();
            lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
        });
        finish(kill("INT", &pid)).expect(0)?;
        let status = self.child.wait()?;
        let mut text = String::new();
        self.stderr.read_to_string(&mut text)?;
        same((status.code(), text.as_str()), (Some(0), ""))?;
        Ok(reader.join().map_err(|_| "the reader failed")??)
    }
}

fn kill(signal: &str, pid: &str) -> Command {
    let mut command = Command::new("kill");
    command.args(["-s", signal, pid]);
    command
}

/// Returns the events of a kind and signal about a process, each as its result.
fn results(events: &[Value], event: &str, signal: &str, comm: &str) -> Vec<Value> {
    let is_it = |row: &&Value| {
        row["event"] == json!(event)
            && row["signal"] == json!(signal)
            && row["target"]["comm"] == json!(comm)
            // (The harness's own markers.)
            && row["code"] != json!("SI_QUEUE")
    };
    events.iter().filter(is_it).map(|row| row["result"].clone()).collect()
}

fn outcomes() -> Outcome {
    let container = fixture(
        "init handle=TERM ignore=HUP\n> child handle=USR1\n> quiet ignore=USR1\n> blocks block=USR1\n> plain",
    )?;
    let name = format!("pid:{}", container.init);
    let trace = Trace::start(&[&name])?;
    for signal in ["TERM", "HUP", "USR1"] {
        run(&["signal", &name, signal]).expect(0)?;
    }
    for comm in ["child", "quiet", "blocks", "plain"] {
        run(&["signal", &name, "USR1", "--comm", comm]).expect(0)?;
    }
    run(&["signal", &name, "USR1", "--comm", "blocks"]).expect(0)?;
    check(container.wait_for_exit("plain"), "plain is running")?;
    container.settled();
    let events = trace.finish()?;
    let sent = |signal, comm| results(&events, "signal", signal, comm);
    let taken = |signal, comm| results(&events, "deliver", signal, comm);
    same(sent("TERM", "init"), vec![json!("queued")])?;
    same(taken("TERM", "init"), vec![json!("handler")])?;
    same(sent("HUP", "init"), vec![json!("ignored")])?;
    same(sent("USR1", "init"), vec![json!("discarded")])?;
    same(taken("USR1", "init"), Vec::<Value>::new())?;
    same(taken("USR1", "child"), vec![json!("handler")])?;
    same(sent("USR1", "quiet"), vec![json!("ignored")])?;
    same(sent("USR1", "blocks"), vec![json!("queued"), json!("already pending")])?;
    same(taken("USR1", "blocks"), Vec::<Value>::new())?;
    same(sent("USR1", "plain"), vec![json!("queued")])?;
    same(results(&events, "exit", "USR1", "plain"), vec![json!("by USR1")])
}

fn sender() -> Outcome {
    let (target, other) = (fixture("init handle=TERM")?, UnsharedInit::start(&["sleep", "60"])?);
    let (name, others) = (format!("pid:{}", target.init), other.name());
    // A shell that stays: its name and its user are known when the line is printed.
    let trace = Trace::start(&[&name, &others])?;
    let script = format!("kill -TERM {}; sleep 0.5; :", target.init);
    finish({
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "0", "--regid", "0", "--clear-groups", "sh", "-c", &script]);
        command
    })
    .expect(0)?;
    let events = trace.finish()?;
    let row = events.iter().find(|row| row["event"] == json!("signal")).ok_or("no signal")?;
    same(row["sender"]["comm"].clone(), json!("sh"))?;
    same(row["sender"]["uid"].clone(), json!(0))?;
    same(row["sender"]["container"].clone(), Value::Null)?;
    same(row["target"]["host_pid"].clone(), json!(target.init))?;
    same(row["target"]["pid"].clone(), json!(1))?;
    same(row["target"]["container"].clone(), json!(name))?;
    same(row["code"].clone(), json!("SI_USER"))
}

fn later() -> Outcome {
    let script = "sleep 0.3; while :; do sh -c 'kill -TERM $$'; sleep 0.2; done";
    let init = UnsharedInit::start(&["sh", "-c", script])?;
    let trace = Trace::start(&[&init.name(), "TERM"])?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    let events = trace.finish()?;
    let sent = results(&events, "signal", "TERM", "sh");
    check(sent.len() >= 2, format!("{events:?}"))?;
    let ended = results(&events, "exit", "TERM", "sh");
    check(!ended.is_empty() && ended.iter().all(|result| *result == json!("by TERM")), ended.len())
}

const BURST: usize = 20_000;

fn burst() -> Outcome {
    let script = format!(
        "$SIG{{USR1}} = 'IGNORE'; sleep 1; $SIG{{USR2}} = sub {{}}; kill USR2 => $$ for 1..{BURST}; kill TERM => $$; sleep 60"
    );
    let init = UnsharedInit::start(&["perl", "-e", &script])?;
    let trace = Trace::start(&[&init.name(), "USR2", "TERM"])?;
    let seen = wait_until(|| {
        // PID 1 has no handler for TERM: it is the last signal that is sent.
        let stat = std::fs::read_to_string(format!("/proc/{}/wchan", init.init));
        stat.is_ok_and(|wchan| wchan.contains("nanosleep"))
    });
    check(seen, "perl does not sleep")?;
    std::thread::sleep(std::time::Duration::from_secs(2));
    let events = trace.finish()?;
    same(results(&events, "signal", "TERM", "perl"), vec![json!("discarded")])?;
    same(results(&events, "signal", "USR2", "perl").len(), BURST)?;
    same(results(&events, "deliver", "USR2", "perl").len(), BURST)?;
    same(events.last().map(|end| end["lost"].clone()), Some(json!(0)))
}

fn routine() -> Outcome {
    let init = UnsharedInit::start(&["sh", "-c", "while :; do sleep 0.05; done"])?;
    let half_a_second = || std::thread::sleep(std::time::Duration::from_millis(500));
    let trace = Trace::start(&[&init.name()])?;
    half_a_second();
    let events = trace.finish()?;
    same(results(&events, "signal", "CHLD", "sh"), Vec::<Value>::new())?;
    let end = events.last().cloned().unwrap_or_default();
    check(end["routine"]["CHLD"].as_u64() >= Some(2), &end)?;
    let trace = Trace::start(&[&init.name(), "CHLD"])?;
    half_a_second();
    let events = trace.finish()?;
    check(results(&events, "signal", "CHLD", "sh").len() >= 2, format!("{events:?}"))?;
    same(events.last().map(|end| end["routine"].clone()), Some(json!({})))
}

fn init_exit() -> Outcome {
    let container = fixture("init exits-on=TERM\n> child handle=TERM")?;
    let name = format!("pid:{}", container.init);
    let mut command = cinspect(&["trace", &name, "--for", "3s"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    run(&["signal", &name, "TERM"]).expect(0)?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.contains("KILL") && line.contains("signal"));
    check(line.is_some_and(|line| line.ends_with("the kernel: PID 1 exits")), &text)?;
    let exits: Vec<&str> = text.lines().filter(|line| line.contains(" exit ")).collect();
    check(exits.iter().any(|line| line.contains("by KILL") && line.contains("child")), &text)
}

fn killed() -> Outcome {
    let init = UnsharedInit::start(&["sleep", "60"])?;
    let instances = || -> Vec<String> {
        let listed = std::fs::read_dir("/sys/kernel/tracing/instances").into_iter().flatten();
        listed.flatten().map(|entry| entry.path().display().to_string()).collect()
    };
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo");
    let before = (mounts()?, instances());
    for delay in 0..20 {
        let mut command = cinspect(&["trace", &init.name()]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(std::time::Duration::from_millis(delay * 7));
        child.kill()?;
        child.wait()?;
    }
    same((mounts()?, instances()), before)
}

fn limits() -> Outcome {
    let container = fixture("init handle=TERM")?;
    let name = format!("pid:{}", container.init);
    let timed = run(&["--json", "trace", &name, "--for", "200ms"]).expect(0)?;
    check(timed.took.as_millis() >= 200, format!("{:?}", timed.took))?;
    let mut trace = Trace::start(&[&name, "--count", "2"])?;
    for _ in 0..3 {
        run(&["signal", &name, "TERM"]).expect(0)?;
    }
    let status = trace.child.wait()?;
    same(status.code(), Some(0))?;
    let mut text = String::new();
    trace.child.stdout.take().ok_or("no stdout")?.read_to_string(&mut text)?;
    same(text.matches("\"event\":\"signal\"").count(), 2)
}

fn refused() -> Outcome {
    let usage = run(&["trace"]).expect(2)?;
    check(usage.err.contains("cinspect trace --all"), &usage.err)?;
    run(&["trace", "no-such-container"]).expect(3)?;
    let init = UnsharedInit::start(&["sleep", "60"])?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.arg(env!("CARGO_BIN_EXE_cinspect")).args(["trace", &init.name(), "--for", "1s"]);
    let denied = finish(command);
    check(denied.code == 5 || denied.code == 126, format!("{denied:?}"))?;
    check(denied.err.contains("run as root") || denied.code == 126, &denied.err)
}
