//! Containers that are started again each time that they end: `trace` shows the end of every run, also of those
//! that last for milliseconds, and `why` has the last one and their number. The truth is the engine's record.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::Engine;
use super::ended_by::{ATTEMPTS, lost, wait_long};
use super::endings::Ended;
use crate::support::{Outcome, check, cinspect, run, same, start_trace};

/// Runs of a container.
const RUNS: usize = 4;

/// A trace that is running, and its events so far.
struct Trace {
    child: Child,
    events: Arc<Mutex<Vec<Value>>>,
    reader: JoinHandle<()>,
}

impl Trace {
    fn start(container: &str) -> Result<Self, Failed> {
        let mut command = cinspect(&["--json", "trace", container]);
        command.stdin(Stdio::null());
        let mut child = start_trace(command)?.0;
        let events = Arc::new(Mutex::new(Vec::new()));
        let (seen, stdout) = (events.clone(), child.stdout.take().ok_or("no stdout")?);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                seen.lock().expect("the events").extend(serde_json::from_str::<Value>(&line));
            }
        });
        Ok(Self { child, events, reader })
    }

    /// Whether it has an event so far of this command in a container, since a time.
    fn has_since(&self, since: jiff::Timestamp, container: &str, comm: &str) -> bool {
        let is_it = |event: &Value| {
            let (target, time) = (&event["target"], event["time"].as_str().unwrap_or_default());
            target["container"] == json!(container)
                && target["comm"] == json!(comm)
                && time.parse::<jiff::Timestamp>().is_ok_and(|time| time >= since)
        };
        self.events.lock().expect("the events").iter().any(is_it)
    }

    /// Ends it as Ctrl-C does; returns its events.
    fn finish(mut self) -> Result<Vec<Value>, Failed> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT)?;
        same(self.child.wait()?.code(), Some(0))?;
        self.reader.join().map_err(|_| "the reader failed")?;
        Ok(self.events.lock().expect("the events").split_off(0))
    }
}

/// Returns the statuses of the runs of a container: those of the processes with this name.
fn statuses(events: &[Value], container: &str) -> Vec<Value> {
    let is_end = |event: &&Value| {
        event["event"] == json!("exit")
            && event["target"]["container"] == json!(container)
            && event["target"]["comm"] == json!("sh")
    };
    events.iter().filter(is_end).map(|event| event["status"].clone()).collect()
}

fn why(container: &str) -> Result<Value, Failed> {
    Ok(run(&["--json", "why", container]).expect(0)?.objects()[0].clone())
}

/// Whether a shell runs in the control group with this ID.
fn is_running(id: &str) -> bool {
    let is_it = |dir: std::fs::DirEntry| {
        let read = |file| std::fs::read_to_string(dir.path().join(file)).unwrap_or_default();
        read("cgroup").contains(id) && read("comm") == "sh\n"
    };
    std::fs::read_dir("/proc").is_ok_and(|mut proc| proc.any(|dir| dir.is_ok_and(is_it)))
}

/// Its engine starts it again at once. The trace begins before the first run.
pub fn by_the_engine(engine: &Engine) -> Outcome {
    for attempt in 1..=ATTEMPTS {
        let ended = Ended::new(engine)?;
        let limits = "--network none --ulimit nofile=1024:1024 --ulimit nproc=1000:1000";
        let log = if engine.name == "podman" { "--log-driver k8s-file" } else { "" };
        let restarts = RUNS - 1;
        ended.client(&format!(
            "create --name NAME {limits} {log} --restart on-failure:{restarts} bb:latest sh -c 'echo run; exit 4'"
        ))?;
        let name = ended.qualified()?;
        let trace = Trace::start(&name)?;
        ended.client("start NAME")?;
        // (Its record says `exited` for a moment before the last run, too.)
        let id = ended.client("inspect -f '{{.Id}}' NAME")?;
        let runs = || ended.client("logs NAME").is_ok_and(|log| log.lines().count() == RUNS);
        let is_over = wait_long(|| runs() && !is_running(id.trim()));
        let events = trace.finish()?;
        check(is_over, "it is not started again")?;
        if lost(&events) && attempt < ATTEMPTS {
            continue;
        }
        let shown = || events.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
        check(statuses(&events, &name) == vec![json!(4); RUNS], shown())?;
        let state = "inspect -f '{{.State.Status}} {{.RestartCount}}' NAME";
        let last = format!("exited {restarts}");
        let is_recorded = || ended.client(state).is_ok_and(|state| state.trim() == last);
        check(wait_long(is_recorded), ended.client(state)?)?;
        let why = why(&name)?;
        same((&why["status"], &why["restarts"]), (&json!(4), &json!(restarts)))?;
        let reason = why["reason"].as_str().unwrap_or_default();
        check(reason.contains("exited with status 4"), reason)?;
        return check(why["evidence"].to_string().contains("the limit is reached"), &why);
    }
    Ok(())
}

/// A container whose runs are begun by the test.
struct Runs<'a> {
    engine: &'a Engine,
    name: String,
}

impl<'a> Runs<'a> {
    fn new(engine: &'a Engine) -> Self {
        let runs = Self { engine, name: format!("cit-{}-end", engine.name) };
        let _ = engine.script(&["rm", &runs.name]);
        runs
    }

    /// Begins a run, which waits.
    fn begin(&self, options: &str) -> Outcome {
        let program = "rm -f /go; : > /ready; until [ -e /go ]; do sleep 0.05; done; exit 4";
        self.engine.script_with(options, &["run", &self.name, "--", "sh", "-c", program])?;
        Ok(())
    }

    /// Lets it go on, and waits for its end.
    fn end(&self) -> Outcome {
        let init = self.engine.init_of(&self.name)?;
        let path = |file: &str| format!("/proc/{init}/root/{file}");
        let is_ready = || std::path::Path::new(&path("ready")).exists();
        check(wait_long(is_ready), "it is not ready")?;
        std::fs::remove_file(path("ready"))?;
        std::fs::write(path("go"), "")?;
        check(
            wait_long(|| self.ending().is_ok_and(|end| end["state"] == json!("exited"))),
            "it runs",
        )
    }

    fn ending(&self) -> Result<Value, Failed> {
        let text = self.engine.script(&["ending", &self.name])?;
        serde_json::from_str(&text).map_err(|error| format!("{text}: {error}").into())
    }

    /// Traces the container, from its first run on, through all runs with their options.
    fn trace(&self, options: impl Fn(usize) -> String) -> Outcome {
        self.begin(&options(0))?;
        let name = self.engine.script(&["qualified", &self.name])?;
        let trace = Trace::start(&name)?;
        for run in 0..RUNS {
            if run > 0 {
                self.begin(&options(run))?;
            }
            // (Its engine has recorded it a moment after its start. A `sleep` exits twenty times a second, and a busy
            // trace prints those of the run before later.)
            let begun = jiff::Timestamp::now();
            let is_traced = wait_long(|| trace.has_since(begun, &name, "sleep"));
            check(is_traced, format!("run {run} is not traced"))?;
            self.end()?;
        }
        let events = trace.finish()?;
        let shown = || events.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
        check(lost(&events) || statuses(&events, &name) == vec![json!(4); RUNS], shown())
    }
}

impl Drop for Runs<'_> {
    fn drop(&mut self) {
        let _ = self.engine.script(&["rm", &self.name]);
    }
}

/// The kubelet makes a new container in the same pod for each run. For one that runs, `why` also has the run before it.
pub fn of_attempts(engine: &Engine) -> Outcome {
    let runs = Runs::new(engine);
    runs.trace(|attempt| format!("--attempt {attempt}"))?;
    let (name, last) = (engine.script(&["qualified", &runs.name])?, runs.ending()?);
    same(last["attempt"].clone(), json!(RUNS - 1))?;
    let why = why(&name)?;
    same((&why["status"], &why["restarts"]), (&json!(4), &json!(RUNS - 1)))?;
    let seconds = |text: &Value| text.as_str().and_then(|text| text.get(..19)).map(str::to_owned);
    same(seconds(&why["finished"]), seconds(&last["finished"]))?;
    runs.begin(&format!("--attempt {RUNS}"))?;
    let accounts = || run(&["--json", "why", &name]).objects();
    let facts = |account: &Value| {
        let fact = |key| account[key].clone();
        [fact("container"), fact("status"), fact("restarts"), fact("finished")]
    };
    let expected = [
        [json!(name), Value::Null, json!(RUNS), Value::Null],
        [json!(name), json!(4), json!(RUNS - 1), why["finished"].clone()],
    ];
    let are_known = || accounts().iter().map(facts).collect::<Vec<_>>() == expected;
    check(wait_long(are_known), format!("{:?}", accounts()))
}

/// Something else starts it again; its engine records no status.
pub fn started_again(engine: &Engine) -> Outcome {
    let runs = Runs::new(engine);
    runs.trace(|_| String::new())?;
    let why = why(&engine.script(&["qualified", &runs.name])?)?;
    same(why["status"].clone(), Value::Null)?;
    let reason = why["reason"].as_str().unwrap_or_default();
    check(reason.contains("how it ended is not known"), reason)
}
