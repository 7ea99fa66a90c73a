//! `trace`: every signal with its sender and what became of it, as the processes themselves report it.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::support::{
    Need, Outcome, UnsharedInit, check, children, cinspect, finish, fixture, run, same,
    start_trace, test_with, unprivileged, wait_until,
};

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut add = |name, run: fn() -> Outcome| trials.push(test_with(Need::Root, name, run));
    add("trace::tells_what_became_of_a_signal", outcomes);
    add("trace::names_the_sender", sender);
    add("trace::shows_processes_that_begin_later", later);
    add("trace::loses_no_signal_of_a_burst", burst);
    add("trace::accounts_for_100000_signals_in_flat_memory", many);
    add("trace::says_where_records_are_missing", overflow);
    add("trace::says_which_limits_of_memory_it_reaches", locked_memory);
    add("trace::counts_routine_signals_unless_they_are_named", routine);
    add("trace::kill_by_the_exit_of_pid_1_has_this_reason", init_exit);
    add("trace::leaves_nothing_behind_when_it_is_killed", killed);
    add("trace::ends_after_a_number_of_signals_or_a_time", limits);
    add("trace::keeps_the_number_of_a_namespace_from_the_next_container", namespace_is_held);
    add("trace::needs_few_capabilities_and_little_locked_memory", capabilities);
    add("trace::times_are_the_same_in_a_time_namespace", time_namespace);
    add("trace::refuses_what_it_cannot_trace", refused);
    trials
}

/// A trace that is running.
struct Trace {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    /// The lines that it has printed so far.
    lines: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
}

impl Trace {
    /// Starts it, with JSON, and waits until it traces.
    fn start(arguments: &[&str]) -> Result<Self, Failed> {
        Self::begin(cinspect(&[&["--json", "trace"], arguments].concat()))
    }

    /// Starts it as this command, and waits until it traces.
    fn begin(command: Command) -> Result<Self, Failed> {
        let (mut child, stderr) = start_trace(command)?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (printed, stdout) = (lines.clone(), child.stdout.take().ok_or("no stdout")?);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                printed.lock().expect("the lines").push(line);
            }
        });
        Ok(Self { child, stderr, lines, reader })
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("the lines").clone()
    }

    fn events(&self) -> Vec<Value> {
        self.lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until its events have something.
    fn wait_for(&self, has: impl Fn(&[Value]) -> bool) -> Outcome {
        check(wait_until(|| has(&self.events())), format!("{:?}", self.events()))
    }

    /// Ends it as Ctrl-C does; returns its events.
    fn finish(self) -> Result<Vec<Value>, Failed> {
        let lines = self.finish_with_lines()?;
        Ok(lines.iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>()?)
    }

    /// Ends it as Ctrl-C does; returns its lines. (They come in the order of time, so that the last signal
    /// is at most one reading behind.)
    fn finish_with_lines(mut self) -> Result<Vec<String>, Failed> {
        finish(kill("INT", &self.child.id().to_string())).expect(0)?;
        let status = self.child.wait()?;
        let mut text = String::new();
        self.stderr.read_to_string(&mut text)?;
        // (Signals of other programs of this host may be too many; the end of `--json` counts them.)
        let is_quiet = text.lines().all(|line| line.contains(" records were lost: "));
        check(status.code() == Some(0) && is_quiet, format!("{status}: {text}"))?;
        self.reader.join().map_err(|_| "the reader failed")?;
        Ok(self.lines.lock().expect("the lines").split_off(0))
    }
}

/// Without that, processes of a container that gets the number later would be taken for the traced one's.
fn namespace_is_held() -> Outcome {
    let container = fixture("init handle=TERM")?;
    let namespace = std::fs::read_link(format!("/proc/{}/ns/pid", container.init))?;
    let trace = Trace::start(&[&format!("pid:{}", container.init)])?;
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", trace.child.id()))?;
    let mut targets = descriptors.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
    let is_held = targets.any(|target| target == namespace);
    trace.finish()?;
    check(is_held, "the PID namespace is not held")
}

/// The kernel times its records by the host's clock: behind it, no record seemed to be old enough to be printed.
fn time_namespace() -> Outcome {
    for offset in ["864000", "-60"] {
        let container = fixture("init handle=TERM")?;
        let mut shifted = Command::new("unshare");
        shifted.args(["-T", "--boottime", offset, "--monotonic", offset]);
        shifted.arg(env!("CARGO_BIN_EXE_cinspect"));
        shifted.args(["--json", "trace", &format!("pid:{}", container.init)]);
        let trace = Trace::begin(shifted)?;
        finish(kill("TERM", &container.init.to_string())).expect(0)?;
        let is_it =
            |row: &&Value| row["event"] == json!("deliver") && row["signal"] == json!("TERM");
        trace.wait_for(|events| events.iter().any(|row| is_it(&row)))?;
        let events = trace.finish()?;
        let time =
            events.iter().find(is_it).and_then(|row| row["time"].as_str()).unwrap_or_default();
        let age = jiff::Timestamp::now().duration_since(time.parse()?).as_secs();
        check(age.abs() < 60, format!("{offset}: {time}, {age} s ago"))?;
    }
    Ok(())
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
    let trace = Trace::start(&[&name, "TERM", "HUP", "USR1"])?;
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
    let (target, other) = (fixture("init handle=TERM")?, UnsharedInit::start(&["sleep", "1000"])?);
    let (name, others) = (format!("pid:{}", target.init), other.name());
    // A shell that stays until the line is printed: its name and its user are known then.
    let trace = Trace::start(&[&name, &others, "TERM"])?;
    let script = format!("kill -TERM {}; read -r line", target.init);
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "0", "--regid", "0", "--clear-groups", "sh", "-c", &script]);
    let mut shell = command.stdin(Stdio::piped()).spawn()?;
    trace.wait_for(|events| !results(events, "signal", "TERM", "init").is_empty())?;
    drop(shell.stdin.take());
    shell.wait()?;
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
    trace.wait_for(|events| results(events, "exit", "TERM", "sh").len() >= 2)?;
    let events = trace.finish()?;
    let sent = results(&events, "signal", "TERM", "sh");
    check(sent.len() >= 2, format!("{events:?}"))?;
    let ended = results(&events, "exit", "TERM", "sh");
    check(!ended.is_empty() && ended.iter().all(|result| *result == json!("by TERM")), ended.len())
}

/// All of them fit into the ring of one CPU: none is lost, however late they are read.
const BURST: usize = 10_000;

fn burst() -> Outcome {
    let dir = tempfile::tempdir()?;
    let begin = dir.path().join("begin");
    let script = format!(
        "$SIG{{USR2}} = sub {{}}; select(undef, undef, undef, 0.05) until -e '{}'; kill USR2 => $$ for 1..{BURST}; kill TERM => $$; sleep 1000",
        begin.display()
    );
    let init = UnsharedInit::start(&["perl", "-e", &script])?;
    let trace = Trace::start(&[&init.name(), "USR2", "TERM"])?;
    std::fs::write(&begin, "")?;
    // PID 1 has no handler for TERM: it is the last signal that is sent.
    trace.wait_for(|events| !results(events, "signal", "TERM", "perl").is_empty())?;
    let events = trace.finish()?;
    same(results(&events, "signal", "TERM", "perl"), vec![json!("discarded")])?;
    same(results(&events, "signal", "USR2", "perl").len(), BURST)?;
    same(results(&events, "deliver", "USR2", "perl").len(), BURST)?;
    same(events.last().map(|end| end["lost"].clone()), Some(json!(0)))
}

/// Signals in each part of a long trace.
const PART: usize = 10_000;

/// Each signal is printed or counted as lost, and they leave nothing in memory.
fn many() -> Outcome {
    const ENDS: [&str; 10] =
        ["INT", "TERM", "HUP", "QUIT", "USR1", "ALRM", "PIPE", "TRAP", "ABRT", "XCPU"];
    let dir = tempfile::tempdir()?;
    let part = |end: &str| {
        let begin = dir.path().join(end);
        let wait = format!("select(undef, undef, undef, 0.05) until -e '{}'", begin.display());
        let rounds = PART / 500;
        let send = "kill USR2 => $$ for 1..500; select(undef, undef, undef, 0.005)";
        format!("{wait}; for (1..{rounds}) {{ {send} }} sleep 1; kill {end} => $$;")
    };
    let script = format!("$SIG{{USR2}} = sub {{}}; {} sleep 1000", ENDS.map(part).concat());
    let init = UnsharedInit::start(&["perl", "-e", &script])?;
    let trace = Trace::start(&[&[&*init.name(), "USR2"], &ENDS[..]].concat())?;
    let mut memory = Vec::new();
    for end in ENDS {
        // (Parsing all of them each time would take longer than the trace.)
        let is_at_end = || {
            let lines = trace.lines.lock().expect("the lines");
            lines.last().is_some_and(|line| line.contains(&format!("\"signal\":\"{end}\"")))
        };
        std::fs::write(dir.path().join(end), "")?;
        check(wait_until(is_at_end), format!("the part before {end} does not end"))?;
        // (Without what waits to be printed, on a busy host.)
        let sample = |_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            memory_of(trace.child.id())
        };
        memory.push((0..50).map(sample).collect::<Result<Vec<_>, _>>()?.into_iter().min());
    }
    // (On a busy host a part may have more at a time than those before it, up to the limits of the trace. Memory
    // that a record leaves is added in each part: 512 KiB are 26 bytes for each of its 20,000 records.)
    check(
        memory.windows(2).any(|pair| pair[1] < pair[0].map(|kib| kib + 512)),
        format!("KiB: {memory:?}"),
    )?;
    let lines = trace.finish_with_lines()?;
    let printed = lines.iter().filter(|line| line.contains("\"signal\":\"USR2\"")).count();
    let end: Value = serde_json::from_str(lines.last().ok_or("no line")?)?;
    let lost = end["lost"].as_u64().ok_or("no count")?;
    // Each is sent and delivered.
    let records = 2 * ENDS.len() * PART;
    check(
        if lost == 0 { printed == records } else { printed as u64 + lost >= records as u64 },
        format!("{printed} printed, {lost} lost"),
    )
}

/// Returns the memory of a process in KiB, without the rings that it shares with the kernel.
fn memory_of(pid: u32) -> Result<u64, Failed> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    Ok(line.ok_or("no RssAnon")?.trim().trim_end_matches(" kB").parse()?)
}

/// Returns a command line of cinspect as this user, with the capabilities that a trace requires and this
/// RLIMIT_MEMLOCK in KiB. Without CAP_SYS_ADMIN it cannot mount tracefs.
fn limited(user: u32, memory: &str, arguments: &[&str]) -> Command {
    let caps = "-all,+perfmon,+sys_ptrace,+dac_read_search";
    let script = format!(
        "mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing || exit; ulimit -l {memory}; exec setpriv --reuid {user} --clear-groups --inh-caps={caps} --ambient-caps={caps} --bounding-set={caps} \"$@\""
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_cinspect")]);
    command.args(arguments);
    command
}

/// A user's second trace has none of the allowance of kernel.perf_event_mlock_kb left.
fn locked_memory() -> Outcome {
    let line = |more: &[&'static str]| [&["trace", "--all"], more].concat();
    let first = Trace::begin(limited(4243, "0", &line(&["--json"])))?;
    let second = finish(limited(4243, "0", &line(&[]))).expect(1)?;
    check(second.err.contains("raise `ulimit -l` or kernel.perf_event_mlock_kb"), second.err)?;
    first.finish().map(drop)
}

/// Signals, each of them two records, of which small rings hold a part only.
const OVERFLOW: usize = 20_000;

/// A trace that does not read for a while says where records are missing, and how many. (Its user has the
/// allowance of kernel.perf_event_mlock_kb alone, and no other test sends this signal, which would fill the
/// rings.)
fn overflow() -> Outcome {
    let dir = tempfile::tempdir()?;
    let file = |name: &str| dir.path().join(name);
    let wait =
        |name| format!("select(undef, undef, undef, 0.05) until -e '{}'", file(name).display());
    let script = format!(
        "$SIG{{PWR}} = sub {{}}; {}; kill PWR => $$ for 1..{OVERFLOW}; mkdir '{}'; {}; kill TERM => $$; sleep 1000",
        wait("begin"),
        file("sent").display(),
        wait("go")
    );
    let init = UnsharedInit::start(&["perl", "-e", &script])?;
    let command = limited(4242, "0", &["--json", "trace", &init.name(), "PWR", "TERM"]);
    let trace = Trace::begin(command)?;
    let pid = trace.child.id().to_string();
    finish(kill("STOP", &pid)).expect(0)?;
    std::fs::write(file("begin"), "")?;
    let is_sent = wait_until(|| file("sent").exists());
    finish(kill("CONT", &pid)).expect(0)?;
    check(is_sent, "the signals are not sent")?;
    let is_lost = |event: &&Value| event["event"] == json!("lost");
    trace.wait_for(|events| events.iter().any(|event| is_lost(&event)))?;
    std::fs::write(file("go"), "")?;
    trace.wait_for(|events| !results(events, "signal", "TERM", "perl").is_empty())?;
    let events = trace.finish()?;
    let lost: u64 = events.iter().filter(is_lost).filter_map(|event| event["lost"].as_u64()).sum();
    same(events.last().map(|end| end["lost"].clone()), Some(json!(lost)))?;
    let printed = ["signal", "deliver"].map(|kind| results(&events, kind, "PWR", "perl").len());
    let all = printed.iter().sum::<usize>() + usize::try_from(lost)?;
    check(lost > 0 && all >= 2 * OVERFLOW, format!("{printed:?} and {lost} lost"))?;
    // Between the records of before and those of after, all in the order of time.
    let place = events.iter().position(|event| is_lost(&event));
    check(place.is_some_and(|place| place > 0), format!("{place:?}"))?;
    let times: Vec<&str> = events.iter().filter_map(|event| event["time"].as_str()).collect();
    let times = times.iter().map(|time| time.parse::<jiff::Timestamp>());
    check(times.collect::<Result<Vec<_>, _>>()?.is_sorted(), "not in the order of time")
}

fn routine() -> Outcome {
    let init = UnsharedInit::start(&["sh", "-c", "while :; do sleep 0.05; done"])?;
    // Each child but the last of these has exited.
    let several_children = || {
        let mut seen = BTreeSet::new();
        check(
            wait_until(|| {
                seen.extend(children(init.init));
                seen.len() >= 4
            }),
            "it starts no children",
        )
    };
    let trace = Trace::start(&[&init.name()])?;
    several_children()?;
    let events = trace.finish()?;
    same(results(&events, "signal", "CHLD", "sh"), Vec::<Value>::new())?;
    let end = events.last().cloned().unwrap_or_default();
    check(end["routine"]["CHLD"].as_u64() >= Some(2), &end)?;
    let trace = Trace::start(&[&init.name(), "CHLD"])?;
    trace.wait_for(|events| results(events, "signal", "CHLD", "sh").len() >= 2)?;
    let events = trace.finish()?;
    same(events.last().map(|end| end["routine"].clone()), Some(json!({})))
}

fn init_exit() -> Outcome {
    let container = fixture("init exits-on=TERM\n> child handle=TERM")?;
    let name = format!("pid:{}", container.init);
    let trace = Trace::begin(cinspect(&["trace", &name]))?;
    run(&["signal", &name, "TERM"]).expect(0)?;
    let child_exits = |line: &String| line.contains(" exit ") && line.contains("child");
    check(wait_until(|| trace.lines().iter().any(child_exits)), format!("{:?}", trace.lines()))?;
    let lines = trace.finish_with_lines()?;
    let line = lines.iter().find(|line| line.contains("KILL") && line.contains("signal"));
    check(
        line.is_some_and(|line| line.ends_with("the kernel: PID 1 exits")),
        format!("{lines:?}"),
    )?;
    let by_kill = |line: &&String| child_exits(line) && line.contains("by KILL");
    check(lines.iter().any(|line| by_kill(&line)), format!("{lines:?}"))
}

fn killed() -> Outcome {
    let init = UnsharedInit::start(&["sleep", "1000"])?;
    let instances = || -> Vec<String> {
        let listed = std::fs::read_dir("/sys/kernel/tracing/instances").into_iter().flatten();
        let paths = listed.flatten().map(|entry| entry.path().display().to_string());
        // (The traces of `oracles` come and go.)
        paths.filter(|path| !path.contains("/oracle-")).collect()
    };
    // (Parallel tests mount other file systems.)
    let mounts = || -> std::io::Result<usize> {
        let text = std::fs::read_to_string("/proc/self/mountinfo")?;
        Ok(text.lines().filter(|line| line.contains(" - tracefs ")).count())
    };
    let before = (mounts()?, instances());
    // A process that outlives the trace would hold its events: they end with the last descriptor.
    let mark = format!("CINSPECT_TEST_MARK={}", std::process::id());
    let is_marked = |pid: &str| {
        std::fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|text| text.split(|byte| *byte == 0).any(|word| word == mark.as_bytes()))
    };
    let left = || -> Vec<String> {
        let listed = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = listed.filter_map(|entry| entry.file_name().into_string().ok());
        pids.filter(|pid| is_marked(pid)).collect()
    };
    let kills = if std::env::var_os("CINSPECT_TEST_LONG").is_some() { 100 } else { 20 };
    let mut random = std::collections::hash_map::RandomState::new();
    for turn in 0..kills {
        let mut command = cinspect(&["trace", &init.name()]);
        command.env("CINSPECT_TEST_MARK", std::process::id().to_string());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        // Half of them while it starts, and half while it reads.
        let range = if turn % 2 == 0 { 50 } else { 300 };
        std::thread::sleep(std::time::Duration::from_millis(random.hash_one(turn) % range));
        random = std::collections::hash_map::RandomState::new();
        child.kill()?;
        child.wait()?;
    }
    check(wait_until(|| left().is_empty()), format!("processes are left: {:?}", left()))?;
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
    trace.reader.join().map_err(|_| "the reader failed")?;
    let lines = trace.lines.lock().expect("the lines").join("\n");
    same(lines.matches("\"event\":\"signal\"").count(), 2)
}

/// CAP_PERFMON and the two for names are enough where tracefs is mounted, and the rings as small as
/// RLIMIT_MEMLOCK wants. (The allowance of kernel.perf_event_mlock_kb is shared by all traces of a user.)
fn capabilities() -> Outcome {
    let container = fixture("init handle=TERM")?;
    let name = format!("pid:{}", container.init);
    let command = limited(0, "8192", &["--json", "trace", &name, "TERM"]);
    let trace = Trace::begin(command)?;
    run(&["signal", &name, "TERM"]).expect(0)?;
    trace.wait_for(|events| !results(events, "deliver", "TERM", "init").is_empty())?;
    let events = trace.finish()?;
    same(results(&events, "deliver", "TERM", "init"), vec![json!("handler")])
}

fn refused() -> Outcome {
    let usage = run(&["trace"]).expect(2)?;
    check(usage.err.contains("cinspect trace --all"), &usage.err)?;
    run(&["trace", "no-such-container"]).expect(3)?;
    let init = UnsharedInit::start(&["sleep", "1000"])?;
    let denied = unprivileged(&["trace", &init.name(), "--for", "1s"]).expect(5)?;
    check(denied.err.contains("run as root"), &denied.err)
}
