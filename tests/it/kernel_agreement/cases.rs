//! States that only one process of a kind is in: zombies, traced processes, single threads, inherited
//! signalfds and nested PID namespaces.

use cinspect::testing::{Signal, Verdict};
use serde_json::json;

use super::agreement::{Actor, Observed, kill, predict, send_and_compare};
use super::{SIGNALS, State, host_pids, signal};
use crate::support::{Outcome, UnsharedInit, check, fixture, run, same, wait_until};

/// A signal to a zombie has no effect; a process whose main thread has exited gets it in another thread.
pub fn exited() -> Outcome {
    let container = fixture(
        "init\n> keeper\n> > gone exit\n> left main-thread-exits\n> stopped main-thread-exits",
    )?;
    let host_pids = host_pids(&container)?;
    let actor = |name: &str, signal: Signal| Actor {
        container: &container,
        name: name.into(),
        pid: host_pids[&container.pids[name]],
        signal,
    };
    let zombie = actor("gone", Signal::TERM);
    let predictions = predict(&container, std::slice::from_ref(&zombie))?;
    same(predictions[0].verdict, Verdict::NoEffect)?;
    kill(zombie.pid, Signal::TERM.number())?;
    send_and_compare(
        &container,
        &[actor("left", Signal::TERM), actor("stopped", Signal::STOP)],
        State::Running,
    )
}

/// A tracer gets every signal but KILL first, and may suppress it.
pub fn traced() -> Outcome {
    let container = fixture("init\n> handles handle=TERM\n> killed\n> blocks block=TERM")?;
    let host_pids = host_pids(&container)?;
    let actor = |name: &str, signal: Signal| Actor {
        container: &container,
        name: name.into(),
        pid: host_pids[&container.pids[name]],
        signal,
    };
    let actors = [
        actor("handles", Signal::TERM),
        actor("killed", Signal::KILL),
        actor("blocks", Signal::TERM),
    ];
    for actor in &actors {
        let pid = nix::unistd::Pid::from_raw(actor.pid);
        nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty())
            .map_err(|errno| errno.to_string())?;
    }
    let predictions = predict(&container, &actors)?;
    same(predictions[0].verdict, Verdict::Unknown)?;
    let note = predictions[0].note.clone().unwrap_or_default();
    check(note.contains("gets the signal first"), note)?;
    kill(actors[0].pid, Signal::TERM.number())?;
    // It has stopped for its tracer: the signal was dequeued and no handler has run.
    let in_delivery_stop = || {
        std::fs::read_to_string(format!("/proc/{}/status", actors[0].pid))
            .is_ok_and(|status| status.contains("(tracing stop)"))
    };
    check(wait_until(in_delivery_stop), "no signal-delivery-stop")?;
    check(actors[0].observe() != Observed::Handled, "the handler ran")?;
    send_and_compare(&container, &actors[1..], State::Running)
}

/// A signalfd in an epoll wakes the process that added it, and not one that waits there after a fork.
pub fn inherited_epoll() -> Outcome {
    let container = fixture("init\n> child signalfd-inherited-epoll=TERM")?;
    let host_pids = host_pids(&container)?;
    let pid = host_pids[&container.pids["child"]];
    let actor = Actor { container: &container, name: "child".into(), pid, signal: Signal::TERM };
    let predictions = predict(&container, std::slice::from_ref(&actor))?;
    same(predictions[0].verdict, Verdict::Unknown)?;
    let note = predictions[0].note.clone().unwrap_or_default();
    check(note.contains("shares with its parent"), note)?;
    kill(pid, Signal::TERM.number())?;
    // kill(2) wakes a process at once: one that sleeps after it, with the signal pending, was not woken, or
    // went back to sleep without the signal.
    let sleeps = || {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") S "))
    };
    check(wait_until(sleeps), "the process does not sleep")?;
    same(actor.observe(), Observed::Pending)
}

/// A process that is busy may read its signalfd next or never, and one whose epoll watches the file of a closed
/// descriptor may mean the signalfd.
pub fn unknown_readers() -> Outcome {
    for (words, observed) in [
        ("signalfd-spin=TERM", Observed::Pending),
        ("signalfd-moved-epoll=TERM", Observed::Accepted),
    ] {
        let container = fixture(&format!("init\n> child {words}"))?;
        let host_pids = host_pids(&container)?;
        let pid = host_pids[&container.pids["child"]];
        let actor =
            Actor { container: &container, name: "child".into(), pid, signal: Signal::TERM };
        let predictions = predict(&container, std::slice::from_ref(&actor))?;
        same((words, predictions[0].verdict), (words, Verdict::Unknown))?;
        let note = predictions[0].note.clone().unwrap_or_default();
        check(note.contains("is not known"), note)?;
        kill(pid, Signal::TERM.number())?;
        check(wait_until(|| actor.observe() == observed), format!("{:?}", actor.observe()))?;
    }
    Ok(())
}

/// A process with more threads than are read, the last of which alone does not block TERM.
const THREADS: &str = r#"
import signal, sys, threading
held = threading.Lock(); held.acquire()
threading.stack_size(65536)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
def last():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    open(sys.argv[1], 'w').write('ready')
    held.acquire()
for _ in range(10100): threading.Thread(target=held.acquire, daemon=True).start()
threading.Thread(target=last, daemon=True).start()
while True: signal.sigwait([signal.SIGUSR1])
"#;

/// The verdict is unknown, where the facts that were read alone would be `pending`. (Threads are read in the order
/// of their numbers, and the kernel may have begun again with those: then the one that matters is read.)
pub fn too_many() -> Outcome {
    let dir = tempfile::tempdir()?;
    let (script, ready) = (dir.path().join("script"), dir.path().join("ready"));
    std::fs::write(&script, THREADS)?;
    let [script, written] = [&script, &ready].map(|path| path.display().to_string());
    let shell = format!("/usr/bin/env python3 {script} {written} & wait");
    let container = UnsharedInit::start(&["sh", "-c", &shell])?;
    let has_exited = || std::fs::read_link(format!("/proc/{}/exe", container.init)).is_err();
    let _ = (0..30).any(|_| wait_until(|| ready.exists() || has_exited()));
    check(ready.exists(), "the threads did not start")?;
    let rows = run(&["--json", "ps", &container.name(), "--signal", "TERM"]).expect(0)?.objects();
    let row = rows.iter().max_by_key(|row| row["threads"].as_i64()).ok_or("no rows")?;
    let verdict = &row["on_signal"]["verdict"];
    check([json!("unknown"), json!("terminates")].contains(verdict), row)?;
    let pid = row["pid"].to_string();
    run(&["signal", &container.name(), "TERM", "--pid", &pid]).expect(0)?;
    let host_pid = row["host_pid"].to_string();
    let ended = || !std::path::Path::new(&format!("/proc/{host_pid}/task")).exists();
    check(wait_until(ended), "TERM does not end it")
}

/// A signal to a thread takes effect in that thread, whatever the others do with it.
pub fn threads() -> Outcome {
    type Expected = (Verdict, Observed);
    const PROCESSES: &[(&str, &str, [Expected; 2])] = &[
        (
            "one",
            "thread-blocks=TERM",
            [(Verdict::Terminates, Observed::Ended), (Verdict::Pending, Observed::Nothing)],
        ),
        (
            "two",
            "handle=TERM thread-blocks=TERM",
            [(Verdict::Handled, Observed::Handled), (Verdict::Pending, Observed::Nothing)],
        ),
        (
            "three",
            "other-open=TERM",
            [(Verdict::Pending, Observed::Pending), (Verdict::Terminates, Observed::Ended)],
        ),
        (
            "four",
            "other-sigwait=TERM",
            [(Verdict::Pending, Observed::Pending), (Verdict::Accepted, Observed::Accepted)],
        ),
    ];
    for (name, words, expected) in PROCESSES {
        for (index, (verdict, observed)) in expected.iter().enumerate() {
            let container = fixture(&format!("init\n> {name} {words}"))?;
            let pid = host_pids(&container)?[&container.pids[*name]];
            // A process with a handler has a logger thread; the last thread is that of the spec.
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))?;
            let mut tids: Vec<i32> =
                tasks.flatten().filter_map(|t| t.file_name().to_str()?.parse().ok()).collect();
            tids.sort_unstable();
            let tid = if index == 0 { pid } else { *tids.last().ok_or("no thread")? };
            let status = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/status"));
            let status = status?;
            let nspid = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            let tid_in_container =
                nspid.and_then(|line| line.split_whitespace().last()).ok_or("no NSpid")?;
            let reference = format!("pid:{}", container.init);
            let rows = run(&["--json", "signal", &reference, "TERM", "--tid", tid_in_container]);
            let rows = rows.expect(0)?.objects();
            let predicted = rows[0]["verdict"].as_str().unwrap_or_default().to_owned();
            same((predicted, *name, index), (verdict.name().to_owned(), *name, index))?;
            let actor =
                Actor { container: &container, name: (*name).into(), pid, signal: Signal::TERM };
            let agrees = wait_until(|| actor.observe() == *observed);
            let message =
                format!("{name} {index}: predicted {verdict:?}, observed {:?}", actor.observe());
            check(agrees, message)?;
        }
    }
    Ok(())
}

/// The init of a nested namespace is protected from its outer container and from the host.
pub fn nested() -> Outcome {
    let mut wrong = Vec::new();
    for name in SIGNALS {
        let container = fixture("init\n> outer nested\n> > inner\n> > > leaf")?;
        let reference = format!("pid:{}", container.init);
        let rows = run(&["--json", "ps", &reference]).expect(0)?.objects();
        let inner = rows.iter().find(|row| row["comm"] == "inner").ok_or("no inner")?;
        let actor = Actor {
            container: &container,
            name: "inner".into(),
            pid: inner["host_pid"].as_i64().unwrap_or(0) as i32,
            signal: signal(name),
        };
        if let Err(error) = send_and_compare(&container, &[actor], State::Running) {
            wrong.push(error.message().unwrap_or_default().to_owned());
        }
    }
    check(wrong.is_empty(), wrong.join("\n"))
}
