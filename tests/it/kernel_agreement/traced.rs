//! The verdicts of a trace: on busy programs the kernel contradicts none, and a verdict that it does
//! contradict is shown.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::{Outcome, UnsharedInit, check, cinspect, same, start_trace, wait_until};

/// A program that works all the time, as an init.
struct Busy {
    argv: &'static [&'static str],
    /// A signal that it handles.
    handled: Signal,
    /// The verdict on HUP.
    hup: &'static str,
}

/// They leave TERM at the default.
const BUSY: &[Busy] = &[
    Busy {
        argv: &[
            "perl",
            "-e",
            "$SIG{USR1} = sub { $n++ }; $SIG{HUP} = 'IGNORE'; while (1) { $x = join ',', map { $_ * 2 } 1..1000 }",
        ],
        handled: Signal::SIGUSR1,
        hup: "ignored",
    },
    Busy {
        argv: &[
            "/usr/bin/python3",
            "-c",
            "import signal\nsignal.signal(signal.SIGUSR1, lambda *a: None)\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\nwhile True: sorted(str(i) for i in range(1000))",
        ],
        handled: Signal::SIGUSR1,
        hup: "ignored",
    },
    Busy {
        argv: &[
            "node",
            "-e",
            "process.on('SIGUSR2', () => {}); process.on('SIGHUP', () => {}); const f = () => { for (let i = 0; i < 1e5; i++); setImmediate(f) }; f()",
        ],
        handled: Signal::SIGUSR2,
        hup: "handled",
    },
];

/// Rounds of signals in a trace, and traces at most.
const ROUNDS: usize = 20;
const TRACES: usize = 10;

/// A trace that is running.
struct Watched(Child);

impl Watched {
    fn start(arguments: &[&str]) -> Result<Self, Failed> {
        let mut command = cinspect(&["--json", "trace"]);
        command.args(arguments);
        Ok(Self(start_trace(command)?.0))
    }

    /// Lets it wait for a program that is running when an event wakes it (SCHED_BATCH, sched(7)): with a single
    /// processor it would always look in the moment of the event.
    fn do_not_preempt(&self) {
        let mut chrt = Command::new("chrt");
        chrt.args(["--all-tasks", "--batch", "--pid", "0", &self.0.id().to_string()]);
        let _ = chrt.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }

    /// Reads until the trace ends by itself.
    fn read(&mut self) -> Result<Vec<Value>, Failed> {
        let mut text = String::new();
        self.0.stdout.take().ok_or("no stdout")?.read_to_string(&mut text)?;
        same(self.0.wait()?.code(), Some(0))?;
        Ok(text.lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn send(pid: i32, signal: Signal) -> Outcome {
    Ok(kill(Pid::from_raw(pid), signal)?)
}

/// Whether a program has a handler for a signal, and one for HUP or ignores that.
fn is_ready(init: i32, handled: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{init}/status")).unwrap_or_default();
    let mask = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("0");
        u64::from_str_radix(line.trim(), 16).unwrap_or(0)
    };
    (mask("SigIgn:") | mask("SigCgt:")) & 1 == 1
        && mask("SigCgt:") & (1 << (handled as i32 - 1)) != 0
}

fn wait_ready(init: &UnsharedInit, argv: &[&str], handled: Signal) -> Outcome {
    let is_ready = (0..6).any(|_| wait_until(|| is_ready(init.init, handled)));
    check(is_ready, format!("{} is not ready", argv[0]))
}

pub fn busy_programs() -> Outcome {
    for Busy { argv, handled, hup } in BUSY {
        let init = UnsharedInit::start(argv)?;
        wait_ready(&init, argv, *handled)?;
        let name = handled.as_str().trim_start_matches("SIG");
        let mut wanted = vec![(name, "handled"), ("HUP", *hup), ("TERM", "discarded")];
        // (The verdict is missing if the trace looks while a handler runs, which blocks its signal.)
        for _ in 0..TRACES {
            let seen = one_trace(&init, *handled)?;
            wanted.retain(|(signal, verdict)| {
                !seen.iter().any(|event| {
                    event["signal"] == json!(signal) && event["verdict"] == json!(verdict)
                })
            });
            if wanted.is_empty() {
                break;
            }
        }
        check(wanted.is_empty(), format!("{}: never seen: {wanted:?}", argv[0]))?;
    }
    Ok(())
}

/// Sends signals to a program that is traced, and returns the events of sending, of which the kernel
/// contradicts no verdict.
fn one_trace(init: &UnsharedInit, handled: Signal) -> Result<Vec<Value>, Failed> {
    let signals = [handled, Signal::SIGHUP, Signal::SIGTERM, Signal::SIGWINCH];
    let mut words = vec![init.name()];
    words.extend(signals.iter().map(|signal| signal.as_str().trim_start_matches("SIG").to_owned()));
    words.extend(["--count".to_owned(), (ROUNDS * signals.len()).to_string()]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut trace = Watched::start(&words)?;
    for round in 0..ROUNDS {
        // In another order each time.
        for index in 0..signals.len() {
            send(init.init, signals[(index + round) % signals.len()])?;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let mut events = trace.read()?;
    let end = events.pop().unwrap_or_default();
    same(end["contradicted"].clone(), json!(0))?;
    events.retain(|event| event["event"] == json!("signal"));
    same(events.len(), ROUNDS * signals.len())?;
    Ok(events)
}

/// The program ignores TERM for the moment in which it sends that to itself: before and after, it has a
/// handler.
pub fn contradicted() -> Outcome {
    let script = "$SIG{TERM} = sub {}; $SIG{HUP} = sub {}; \
        $SIG{USR1} = sub { local $SIG{TERM} = 'IGNORE'; kill TERM => $$ }; 1 while sleep 1000 or 1";
    let init = UnsharedInit::start(&["perl", "-e", script])?;
    wait_ready(&init, &["perl"], Signal::SIGUSR1)?;
    // (On a busy host the trace may look while TERM is ignored: then the verdict is missing.)
    for _ in 0..20 {
        let mut trace = Watched::start(&[&init.name(), "TERM", "--count", "1"])?;
        trace.do_not_preempt();
        send(init.init, Signal::SIGUSR1)?;
        let events = trace.read()?;
        let event = &events[0];
        check(event["result"].to_string().contains("ignored"), event)?;
        if event["verdict"].is_null() {
            continue;
        }
        same(
            (event["verdict"].clone(), event["contradicted"].clone()),
            (json!("handled"), json!(true)),
        )?;
        return same(events.last().map(|end| end["contradicted"].clone()), Some(json!(1)));
    }
    Err("no verdict in 20 traces".into())
}
