//! The family `churn`: processes that come and go by the thousands while each command runs, every order of
//! stop, and a clock that differs in a time namespace.

use std::process::Command;

use cinspect::testing::ExitEvents;
use libtest_mimic::Trial;

use crate::support::{
    Need, Outcome, UnsharedInit, check, cinspect, finish, fixture, missing, note, run, same,
    test_with, test_with_programs,
};

const ROUNDS: usize = 4;
const ROUNDS_AT_LENGTH: usize = 400;

/// Two processes that fork without end, and two that stay.
const SPEC: &str = "init handle=HUP exits-on=TERM\n> bomb forks\n> web handle=USR1\n> other forks\n> stays handle=USR1";

pub fn trials() -> Vec<Trial> {
    vec![
        test_with(Need::Root, "churn::every_process_that_stays_is_shown", shown),
        test_with(Need::Root, "churn::signals_reach_those_that_stay_once", signalled),
        test_with(Need::Root, "churn::every_order_of_stop_leaves_nothing", stopped),
        test_with_programs(&["unshare"], "churn::ages_are_the_same_in_a_time_namespace", ages),
        of_exits("churn::other_events_of_processes_leave_room_for_exits", exit_among_events),
        of_exits("churn::the_status_of_each_exit_in_a_trace_is_kept", kept_from_the_start),
    ]
}

/// Makes the trial of a test that needs the process events of the kernel, and strace(1).
fn of_exits(name: &'static str, run: fn() -> Outcome) -> Trial {
    match ExitEvents::subscribe() {
        Ok(_) => test_with(Need::Strace, name, run),
        Err(error) => missing("root", name, &format!("no process events: {error}")),
    }
}

/// The kernel keeps it from before the first record on, however long the containers are looked up.
fn kept_from_the_start() -> Outcome {
    let container = UnsharedInit::start(&["sleep", "1000"])?;
    let log = tempfile::NamedTempFile::new()?;
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "trace=bind,perf_event_open", "-o"]).arg(log.path());
    strace.args([env!("CARGO_BIN_EXE_cinspect"), "trace", "--for", "10ms", &container.name()]);
    finish(strace).expect(0)?;
    let calls = std::fs::read_to_string(log.path())?;
    let [events, records] = ["NETLINK", "perf_event_open("].map(|text| calls.find(text));
    check(events.is_some() && events < records, calls)
}

/// Events that the kernel has no room for.
const EVENTS: usize = 50_000;

/// However late it is read, the status of a process is known.
fn exit_among_events() -> Outcome {
    let mut exits = ExitEvents::subscribe()?;
    for _ in 0..EVENTS {
        nix::sys::prctl::set_name(c"churn")?;
    }
    let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn()?;
    child.wait()?;
    same(exits.take(child.id().cast_signed(), &(0..=u64::MAX)), Some(7 << 8))
}

fn rounds() -> usize {
    if crate::hostile::is_long() { ROUNDS_AT_LENGTH } else { ROUNDS }
}

fn shown() -> Outcome {
    let container = fixture(SPEC)?;
    let name = format!("pid:{}", container.init);
    for round in 0..rounds() {
        for words in [
            &["--json", "ps", &name][..],
            &["ps", "-T", &name],
            &["--json", "signals", &name],
            &["inspect", &name],
            &["doctor", "--exit-zero", &name],
            &["stop", "-n", &name],
            &["signal", "-n", &name, "0", "--all"],
            &["--json", "ls"],
        ] {
            let done = run(words).expect(0)?;
            check(!done.err.contains("panicked"), &done.err)?;
            if words[1] == "ps" && words[0] == "--json" {
                let rows = done.objects();
                let has = |comm: &str| rows.iter().any(|row| row["comm"] == comm);
                let missing: Vec<&str> = ["init", "bomb", "web", "other", "stays"]
                    .into_iter()
                    .filter(|comm| !has(comm))
                    .collect();
                same(missing, Vec::new())?;
            }
            note("churn", &format!("round {round}: {}", words.join(" ")), "ok", "");
        }
    }
    Ok(())
}

fn signalled() -> Outcome {
    let container = fixture(SPEC)?;
    let name = format!("pid:{}", container.init);
    for round in 1..=rounds() {
        run(&["signal", &name, "USR1", "--comm", "web"]).expect(0)?;
        run(&["signal", &name, "USR1", "--comm", "stays"]).expect(0)?;
        check(container.wait_to_receive_times("web USR1", round), "web did not get it")?;
        check(container.wait_to_receive_times("stays USR1", round), "stays did not get it")?;
        note("churn", &format!("signal {round}"), "ok", "");
    }
    let lines = container.received();
    same(lines.iter().filter(|line| line.starts_with("web USR1")).count(), rounds())?;
    same(lines.iter().filter(|line| line.starts_with("stays USR1")).count(), rounds())
}

fn stopped() -> Outcome {
    let times = if crate::hostile::is_long() { 40 } else { 1 };
    for (round, order) in (0..times).flat_map(|n| ["init", "all", "children-first"].map(|o| (n, o)))
    {
        let container = fixture(SPEC)?;
        let path = format!("/proc/{}/ns/pid", container.init);
        // (Held: the kernel gives the number of a namespace that has ended to the next one.)
        let _held = std::fs::File::open(&path)?;
        let namespace = std::fs::read_link(&path)?;
        let name = format!("pid:{}", container.init);
        let done = run(&["--json", "stop", "--order", order, "-t", "2s", &name]).expect(0)?;
        check(!done.err.contains("panicked"), &done.err)?;
        let left = |entry: std::fs::DirEntry| {
            let path = entry.path();
            let is_same = std::fs::read_link(path.join("ns/pid")).is_ok_and(|ns| ns == namespace);
            // (The init is a zombie until its parent has waited for it.)
            let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
            let has_ended = !status.contains("State:")
                || ["State:\tZ", "State:\tX"].iter().any(|s| status.contains(s));
            (is_same && !has_ended).then_some(path)
        };
        let left: Vec<_> = std::fs::read_dir("/proc")?.flatten().filter_map(left).collect();
        same(left, Vec::new())?;
        note("churn", &format!("stop {round} --order {order}"), "ok", "");
    }
    Ok(())
}

/// The times of a container, as seen from a namespace the boot time of which lies ten days earlier
/// (time_namespaces(7)).
fn ages() -> Outcome {
    let container = UnsharedInit::start(&["sleep", "1000"])?;
    let started = |command: Command| {
        let rows = finish(command).expect(0)?.objects();
        let text = rows.first().and_then(|row| row["started"].as_str()).unwrap_or_default();
        Ok::<i64, libtest_mimic::Failed>(text.parse::<jiff::Timestamp>()?.as_second())
    };
    let words = ["--json", "ps", &container.name()];
    let plain = started(cinspect(&words))?;
    let mut shifted = Command::new("unshare");
    shifted.args(["-T", "--boottime", "864000", "--monotonic", "864000"]);
    shifted.arg(env!("CARGO_BIN_EXE_cinspect")).args(words).env("LC_ALL", "C.UTF-8");
    let shifted = started(shifted)?;
    // (The clock may be set between the two, by a little.)
    check(plain.abs_diff(shifted) < 60, format!("{plain} and {shifted}"))?;
    // A stop waits by a clock that such a namespace moves, too.
    let mut stop = Command::new("unshare");
    stop.args(["-T", "--boottime", "864000", "--monotonic", "864000"]);
    stop.arg(env!("CARGO_BIN_EXE_cinspect")).args([
        "--json",
        "stop",
        "-t",
        "1s",
        &container.name(),
    ]);
    let events = finish(stop).expect(0)?.objects();
    let time = |name: &str| {
        events.iter().find(|event| event["event"] == *name).and_then(|event| event["t"].as_f64())
    };
    let (over, killed) = (time("grace-over"), time("killed"));
    check(over.is_some_and(|t| (1.0..600.0).contains(&t)) && killed >= over, format!("{events:?}"))
}
