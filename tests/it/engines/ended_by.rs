//! Containers that end in every way there is, and what `why`, `ls -a` and `trace` say about them: the truth
//! is the engine's own record, and the kernel's.

use std::io::Read;
use std::process::Child;

use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::Engine;
use crate::support::{Outcome, check, cinspect, run, same, start_trace, wait_until};

/// An action on a container.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Deed {
    /// Its program goes on by itself.
    Go,
    /// This process signals its init.
    Signal(Signal),
    /// A process of another container signals its init.
    Neighbour,
    /// Its engine stops it.
    Stop,
    /// Its engine kills it.
    Kill,
    /// Its engine finds it unhealthy, and kills it.
    Unhealthy,
}

/// One way to end.
#[derive(Clone, Debug)]
struct Row {
    name: &'static str,
    has_limit: bool,
    /// A script of its init.
    program: String,
    deed: Deed,
    /// The end of its init, as the kernel has it: a status or a signal.
    kernel: (Option<i64>, Option<&'static str>),
    /// The status that engines report.
    status: i64,
    /// A part of the reason, where the engine records the status.
    reason: &'static str,
    /// A part of the reason, where the engine records that it was stopped through it.
    stopped: &'static str,
}

/// A handler that exits with a status.
fn handler(status: i64) -> String {
    format!("trap 'exit {status}' TERM PWR; : > /ready; while :; do sleep 0.1; done")
}

/// Waits until it may go on.
fn gate(then: &str) -> String {
    format!(": > /ready; until [ -e /go ]; do sleep 0.05; done; {then}")
}

/// Options for a check that fails when it is run by hand: it runs by itself only where systemd does.
const UNHEALTHY: &str =
    "--health-cmd false --health-interval disable --health-retries 1 --health-on-failure kill";

const GROW: &str = "a=x; while :; do a=$a$a; done";

fn rows() -> Vec<Row> {
    let row = |name, program: String, deed, kernel, status, reason| Row {
        name,
        has_limit: false,
        program,
        deed,
        kernel,
        status,
        reason,
        stopped: reason,
    };
    let oom = |row: Row| Row { has_limit: true, ..row };
    let sleep = || ": > /ready; exec sleep 1000".to_owned();
    let exits = |status| (Some(status), None);
    let killed = |signal| (None, Some(signal));
    vec![
        row("exit 3", gate("exit 3"), Deed::Go, exits(3), 3, "exited with status 3"),
        row("exit 0", gate("exit 0"), Deed::Go, exits(0), 0, "with status 0"),
        row("no command", gate("nosuch"), Deed::Go, exits(127), 127, "command that was not found"),
        row(
            "TERM from outside",
            handler(143),
            Deed::Signal(Signal::SIGTERM),
            exits(143),
            143,
            "TERM ended its init, or it exited with status 143 by itself",
        ),
        row(
            "KILL from outside",
            sleep(),
            Deed::Signal(Signal::SIGKILL),
            killed("KILL"),
            137,
            "KILL ended its init",
        ),
        row(
            "TERM from another container",
            handler(143),
            Deed::Neighbour,
            exits(143),
            143,
            "TERM ended its init",
        ),
        Row {
            stopped: "it was stopped, or sent a signal, through",
            ..row("stop", handler(7), Deed::Stop, exits(7), 7, "exited with status 7")
        },
        Row {
            stopped: "KILL was sent",
            ..row("kill", sleep(), Deed::Kill, killed("KILL"), 137, "KILL ended its init")
        },
        row(
            "health check",
            sleep(),
            Deed::Unhealthy,
            killed("KILL"),
            137,
            "it was unhealthy, on which Podman does `kill`",
        ),
        row(
            "SEGV",
            gate("exec /segv"),
            Deed::Go,
            killed("SEGV"),
            139,
            "SEGV ended its init: a fault of the program",
        ),
        oom(row(
            "OOM of PID 1",
            gate(&format!("exec sh -c '{GROW}'")),
            Deed::Go,
            killed("KILL"),
            137,
            "the kernel killed sh",
        )),
        oom(row(
            "OOM of a child",
            gate(&format!("(exec sh -c '{GROW}'); exit 5")),
            Deed::Go,
            exits(5),
            5,
            "the kernel killed sh",
        )),
    ]
}

/// Facts that an engine records.
struct Records {
    status: bool,
    /// Whether it was stopped through the engine: always, never, or some stops.
    stopped: Option<bool>,
}

/// Attempts to see everything: on a busy host the kernel may drop records, which the trace says.
pub const ATTEMPTS: usize = 3;

/// Whether a trace says that records were lost.
pub fn lost(events: &[Value]) -> bool {
    events.last().is_some_and(|end| end["lost"] != json!(0))
}

/// Polls a condition for a minute: engines take their time on a busy host.
pub fn wait_long(mut holds: impl FnMut() -> bool) -> bool {
    (0..6).any(|_| wait_until(&mut holds))
}

/// A container that is removed in the end.
struct Subject<'a> {
    engine: &'a Engine,
    name: String,
    init: i32,
}

impl<'a> Subject<'a> {
    fn start(engine: &'a Engine, row: &Row) -> Result<Self, Failed> {
        let name = format!("cit-{}-end", engine.name);
        let _ = engine.script(&["rm", &name]);
        let options = match (row.has_limit, engine.name) {
            _ if row.deed == Deed::Unhealthy => UNHEALTHY,
            (false, _) => "",
            (true, "cri") => "--memory 20000000",
            (true, "containerd") => "--memory-limit 20000000",
            (true, "lxc") => "lxc.cgroup.memory.limit_in_bytes=20M lxc.cgroup2.memory.max=20M",
            (true, _) => "--memory 20m",
        };
        let mut subject = Self { engine, name, init: 0 };
        let program = &row.program;
        engine.script_with(options, &["run", &subject.name, "--", "sh", "-c", program])?;
        subject.init = engine.init_of(&subject.name)?;
        let ready = subject.path("ready");
        let is_ready = || std::path::Path::new(&ready).exists();
        check(wait_long(is_ready), format!("{} is not ready", row.name))?;
        write_segv(&subject.path("segv"))?;
        Ok(subject)
    }

    /// Returns a path in its root directory, by its init.
    fn path(&self, file: &str) -> String {
        format!("/proc/{}/root/{file}", self.init)
    }

    fn qualified(&self) -> Result<String, Failed> {
        self.engine.script(&["qualified", &self.name])
    }

    /// Returns the engine's own account of the end.
    fn ending(&self) -> Result<Value, Failed> {
        let text = self.engine.script(&["ending", &self.name])?;
        serde_json::from_str(&text).map_err(|error| format!("{text}: {error}").into())
    }

    fn has_ended(&self) -> bool {
        self.ending().is_ok_and(|ending| ending["state"] == json!("exited"))
    }
}

impl Drop for Subject<'_> {
    fn drop(&mut self) {
        let _ = self.engine.script(&["rm", &self.name]);
    }
}

/// Writes a program that reads from a null pointer: an ELF file of one segment (elf(5)). Where the engines are
/// tested there may be no compiler.
fn write_segv(path: &str) -> Outcome {
    // xor eax, eax; mov eax, [rax]. Or: mov x0, #0; ldr x0, [x0].
    let (machine, code): (u16, &[u8]) = match std::env::consts::ARCH {
        "x86_64" => (0x3e, &[0x31, 0xc0, 0x8b, 0x00]),
        "aarch64" => (0xb7, &[0x00, 0x00, 0x80, 0xd2, 0x00, 0x00, 0x40, 0xf9]),
        other => return Err(format!("no such program for {other}").into()),
    };
    let (start, headers) = (0x40_0000_u64, 64 + 56_u64);
    let length = headers + code.len() as u64;
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [2, machine] {
        bytes.extend(half.to_le_bytes());
    }
    bytes.extend(1_u32.to_le_bytes());
    for word in [start + headers, 64, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    // A segment to load, for reading and executing.
    for word in [1_u32, 5] {
        bytes.extend(word.to_le_bytes());
    }
    for word in [0, start, start, length, length, 0x1000] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(code);
    std::fs::write(path, bytes)?;
    Ok(std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?)
}

/// A container beside it, in its PID namespace, of which a process named `killer` sends TERM.
struct Neighbour<'a> {
    engine: &'a Engine,
    name: String,
}

impl<'a> Neighbour<'a> {
    fn start(engine: &'a Engine, subject: &Subject<'_>) -> Result<Self, Failed> {
        let neighbour = Self { engine, name: format!("cit-{}-end-neighbour", engine.name) };
        let _ = engine.script(&["rm", &neighbour.name]);
        let pid = format!("--pid=container:{}", subject.name);
        let program = "until [ -e /go ]; do sleep 0.05; done; exec /killer";
        engine.script(&["run", &neighbour.name, &pid, "--", "sh", "-c", program])?;
        Ok(neighbour)
    }

    fn kill(&self) -> Outcome {
        let init = self.engine.init_of(&self.name)?;
        let path = |file: &str| format!("/proc/{init}/root/{file}");
        let script = "#!/bin/sh\nkill -TERM 1\nwhile :; do sleep 0.1; done\n";
        std::fs::write(path("killer"), script)?;
        crate::support::finish({
            let mut command = std::process::Command::new("chmod");
            command.args(["755", &path("killer")]);
            command
        })
        .expect(0)?;
        Ok(std::fs::write(path("go"), "")?)
    }
}

impl Drop for Neighbour<'_> {
    fn drop(&mut self) {
        let _ = self.engine.script(&["rm", &self.name]);
    }
}

/// A trace that is running.
struct Trace(Child);

impl Trace {
    fn start(container: &str) -> Result<Self, Failed> {
        let command = cinspect(&["--json", "trace", container]);
        Ok(Self(start_trace(command)?.0))
    }

    /// Ends it as Ctrl-C does; returns its events.
    fn finish(mut self) -> Result<Vec<Value>, Failed> {
        let pid = Pid::from_raw(self.0.id().cast_signed());
        kill(pid, Signal::SIGINT)?;
        let mut text = String::new();
        self.0.stdout.take().ok_or("no stdout")?.read_to_string(&mut text)?;
        same(self.0.wait()?.code(), Some(0))?;
        Ok(text.lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect())
    }
}

/// Each way to end is told apart: by `why` with what the engine recorded, by `trace` with the sender.
pub fn every_way(engine: &Engine) -> Outcome {
    let records = match engine.name {
        "docker" => Records { status: true, stopped: Some(true) },
        "podman" => Records { status: true, stopped: None },
        "lxc" | "containerd" | "nspawn" => Records { status: false, stopped: Some(false) },
        _ => Records { status: true, stopped: Some(false) },
    };
    // (The same programs, whatever the engine; and containerd's client does no more than CRI. Podman alone
    // ends a container that is unhealthy: Docker marks it, the kubelet has probes of its own, LXC has none.)
    let is_run = |row: &&Row| match engine.name {
        name if row.deed == Deed::Unhealthy => name == "podman",
        "docker" => true,
        // (Without a manager of machines there is neither a limit nor a stop of its own.)
        "nspawn" => !row.has_limit && matches!(row.deed, Deed::Go | Deed::Signal(_)),
        "containerd" => row.name == "exit 3" || row.name == "OOM of PID 1",
        _ => row.name != "exit 0" && row.name != "no command",
    };
    for row in rows().iter().filter(is_run) {
        one_way(engine, &records, row)
            .map_err(|failed| format!("{}: {}", row.name, failed.message().unwrap_or_default()))?;
    }
    Ok(())
}

fn one_way(engine: &Engine, records: &Records, row: &Row) -> Outcome {
    let mut attempts = 1;
    while !is_told_apart(engine, records, row)? && attempts < ATTEMPTS {
        attempts += 1;
    }
    Ok(())
}

/// Ends a container in one way; returns whether the trace was whole.
fn is_told_apart(engine: &Engine, records: &Records, row: &Row) -> Result<bool, Failed> {
    let subject = Subject::start(engine, row)?;
    let name = subject.qualified()?;
    let neighbour = match row.deed {
        Deed::Neighbour => Some(Neighbour::start(engine, &subject)?),
        _ => None,
    };
    let trace = Trace::start(&name)?;
    match row.deed {
        Deed::Go => std::fs::write(subject.path("go"), "")?,
        Deed::Signal(signal) => {
            kill(Pid::from_raw(subject.init), signal)?;
        }
        Deed::Neighbour => neighbour.as_ref().ok_or("no neighbour")?.kill()?,
        Deed::Stop => drop(engine.script(&["stop", &subject.name])?),
        Deed::Kill => drop(engine.script(&["kill", &subject.name])?),
        Deed::Unhealthy => {
            let line = format!("{} healthcheck run {}", engine.script(&["client"])?, subject.name);
            let mut check = std::process::Command::new("sh");
            check.args(["-c", &line]).stdin(std::process::Stdio::null());
            crate::support::finish(check).expect(1)?;
        }
    }
    check(wait_long(|| subject.has_ended()), "it does not end")?;
    let events = trace.finish()?;
    let neighbour = neighbour.map(|neighbour| engine.script(&["qualified", &neighbour.name]));
    let neighbour = neighbour.transpose()?;
    if !lost(&events) {
        traced(&events, row, &subject, &neighbour)?;
    }
    explained(records, row, &subject)?;
    listed(records, row, &subject)?;
    Ok(!lost(&events))
}

/// `trace` has the sender, and the end of the init as the kernel has it.
fn traced(
    events: &[Value],
    row: &Row,
    subject: &Subject<'_>,
    neighbour: &Option<String>,
) -> Outcome {
    let of_init = |event: &str| {
        let is_it = move |e: &&Value| {
            e["event"] == json!(event) && e["target"]["host_pid"] == json!(subject.init)
        };
        events.iter().filter(is_it).cloned().collect::<Vec<Value>>()
    };
    let all = || events.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let exits = of_init("exit");
    check(exits.len() == 1, all())?;
    let exit = (exits[0]["status"].clone(), exits[0]["signal"].clone());
    same(exit, (json!(row.kernel.0), json!(row.kernel.1)))?;
    let sent = of_init("signal");
    let has = |signal: &[&str], sender: &dyn Fn(&Value) -> bool| {
        let names = |e: &&Value| signal.iter().any(|name| e["signal"] == json!(name));
        check(sent.iter().filter(names).any(|e| sender(&e["sender"])), all())
    };
    let is_this = |sender: &Value| sender["host_pid"] == json!(std::process::id());
    match row.deed {
        Deed::Signal(signal) => has(&[signal.as_str().trim_start_matches("SIG")], &is_this),
        Deed::Neighbour => has(&["TERM"], &|sender| {
            sender["comm"] == json!("killer") && sender["container"] == json!(neighbour)
        }),
        // (By a program of the engine, on the host.)
        Deed::Stop => has(&["TERM", "PWR"], &|sender| sender["container"].is_null()),
        Deed::Kill | Deed::Unhealthy => has(&["KILL"], &|sender| sender["container"].is_null()),
        Deed::Go if row.name == "SEGV" => has(&["SEGV"], &Value::is_null),
        Deed::Go if row.has_limit => {
            let is_init = row.kernel.1.is_some();
            let is_it = |e: &Value| {
                e["event"] == json!("oom")
                    && e["target"]["comm"] == json!("sh")
                    && (e["target"]["host_pid"] == json!(subject.init)) == is_init
            };
            check(events.iter().any(is_it), all())
        }
        Deed::Go => same(sent.iter().filter(|e| e["signal"] != json!("CHLD")).count(), 0),
    }
}

/// `why` has the engine's status and time, and no more than the engine recorded.
fn explained(records: &Records, row: &Row, subject: &Subject<'_>) -> Outcome {
    let why = run(&["--json", "why", &subject.qualified()?]).expect(0)?.objects();
    let why = &why[0];
    let truth = subject.ending()?;
    let reason = why["reason"].as_str().unwrap_or_default();
    let evidence = why["evidence"].to_string();
    check(!row.has_limit || evidence.contains("for lack of memory: its own limit"), why)?;
    if !records.status {
        let trace = format!("`cinspect trace {}` shows the next end", subject.qualified()?);
        check(evidence.contains(&trace), why)?;
        // (The kernel's log may still have kills in an earlier container of this name.)
        check(why["oom"] != json!(true), why)?;
        same(why["status"].clone(), Value::Null)?;
        check(reason.contains("how it ended is not known"), reason)?;
        return check(!row.has_limit || reason.contains("killed sh"), reason);
    }
    same(why["oom"] == json!(true), row.has_limit)?;
    same(truth["status"].clone(), json!(row.status))?;
    same(why["status"].clone(), json!(row.status))?;
    let is_right = match records.stopped {
        Some(true) => reason.contains(row.stopped),
        Some(false) => reason.contains(row.reason),
        None => reason.contains(row.stopped) || reason.contains(row.reason),
    };
    check(is_right, reason)?;
    // (Both have a fraction, and Podman its own form.)
    let seconds = |text: &Value| text.as_str().and_then(|text| text.get(..19)).map(str::to_owned);
    same(seconds(&why["finished"]), seconds(&truth["finished"]))
}

/// `ls -a` and the refusal of every other command have the status, too.
fn listed(records: &Records, row: &Row, subject: &Subject<'_>) -> Outcome {
    let name = &subject.name;
    let qualified = subject.qualified()?;
    let is_it = |line: &Value| line["name"] == json!(name) && line["pid"].is_null();
    let lines = run(&["--json", "ls", "-a", name]).expect(0)?.objects();
    let lines: Vec<Value> = lines.into_iter().filter(is_it).collect();
    same(lines.len(), 1)?;
    let state = if records.status { "exited" } else { "stopped" };
    same(lines[0]["state"].clone(), json!(state))?;
    let status = if records.status { json!(row.status) } else { Value::Null };
    same(lines[0]["exit"]["status"].clone(), status)?;
    let refusal = run(&["ps", &qualified]).expect(3)?;
    let exited = format!("exited with status {}", row.status);
    let is_right = refusal.err.contains(&exited) && refusal.err.contains(" ago");
    check(!records.status || is_right, &refusal.err)
}
