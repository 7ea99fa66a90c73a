//! The kernel and kill(1) as the oracles of `signal` and `stop`: the kernel's own trace of the signals that a
//! command generates has each one that the command reports and no other, and kill(1) generates the same ones.
//! nsenter(1) as that of `exec`. (Each engine's own exec is another, in `engines/exec.rs`.)

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::harness::Container;
use crate::support::{
    Need, Outcome, Run, UnsharedInit, check, finish, fixture, missing, run, runs, same, test_with,
    wait_until,
};
use crate::world::is_long;

pub fn trials() -> Vec<Trial> {
    let trial = |name, run: fn() -> Outcome| match Path::new(TRACEFS).exists() {
        true => test_with(Need::Root, name, run),
        false => missing("tracefs", name, "no tracefs"),
    };
    vec![
        test_with(Need::Root, "oracles::nsenter_1_enters_the_same_namespaces", namespaces),
        trial("oracles::the_kernel_sees_the_signals_that_are_reported", reported),
        trial("oracles::kill_1_sends_the_same_signals", kill),
    ]
}

const TRACEFS: &str = "/sys/kernel/tracing";

/// Runs a command, its children too, with an instance of the tracer, and prints what the kernel has recorded:
/// `NAME FILE COMMAND...`.
const TRACED: &str = r#"
mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing || exit 99
dir=/sys/kernel/tracing/instances/$1 file=$2
mkdir "$dir" || exit 99
trap 'rmdir "$dir"' EXIT
echo 1 > "$dir/options/event-fork" && echo $$ > "$dir/set_event_pid" &&
    echo 1 > "$dir/events/signal/signal_generate/enable" || exit 99
shift 2
status=0
"$@" || status=$?
echo 0 > "$dir/events/signal/signal_generate/enable"
cat "$dir/trace" > "$file"
exit $status
"#;

const PROCESSES: &str = "\
init handle=USR1,TERM
> web handle=USR1
> > worker handle=USR1
> ignorer ignore=TERM,USR1
> blocker block=TERM,USR1
> plain";

/// None has children, which could end with it.
const TWINS: &str = "\
init handle=USR1,TERM
> web handle=USR1,TERM
> ignorer ignore=TERM,USR1
> blocker block=TERM,USR1
> plain";

/// A signal that the kernel has seen: its number, the PID of the process or thread, and the rest: its code,
/// whether it is for the whole process, and the result.
type Generated = (i64, i64, String);

/// Runs a command, and returns its result with the signals that it generated for others than its own processes.
fn traced(argv: &[&str]) -> Result<(Run, Vec<Generated>), Failed> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("trace");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", TRACED, "sh"]);
    command.arg(format!("oracle-{}-{number}", std::process::id())).arg(&file).args(argv);
    command.env("LC_ALL", "C.UTF-8");
    let run = finish(command);
    check(run.code != 99, format!("cannot trace: {}", run.err))?;
    let text = std::fs::read_to_string(&file)?;
    Ok((run, text.lines().filter_map(generated).collect()))
}

/// Parses a line of the trace: `… signal_generate: sig=15 errno=0 code=0 comm=web pid=42 grp=1 res=0`.
fn generated(line: &str) -> Option<Generated> {
    let (_, event) = line.split_once("signal_generate: sig=")?;
    let (signal, rest) = event.split_once(' ')?;
    let (head, tail) = rest.rsplit_once(" pid=")?;
    let (head, comm) = head.split_once(" comm=")?;
    let (pid, how) = tail.split_once(' ')?;
    // (CHLD when a child of the program ends, and KILL to such a child. A timer of another program, SI_TIMER, may
    // expire while this one runs.)
    let is_own = signal == "17" || (signal == "9" && comm == "cinspect");
    let is_own = is_own || head.contains("code=-2");
    (!is_own).then(|| Some((signal.parse().ok()?, pid.parse().ok()?, format!("{head} {how}"))))?
}

fn number(name: &str) -> i64 {
    match name {
        "USR1" => 10,
        "USR2" => 12,
        "TERM" => 15,
        "KILL" => 9,
        "CONT" => 18,
        "RTMIN+3" => 37,
        _ => 0,
    }
}

/// Returns the signals in an answer, with the PIDs that got them.
fn answered(rows: &[Value]) -> Vec<(i64, i64)> {
    let is_sent = |row: &&Value| match row["event"].as_str() {
        None => row["sent"] == Value::Bool(true),
        Some(event) => {
            event == "signalled"
                || (event == "killed"
                    && !row["note"].as_str().is_some_and(|note| note.starts_with("by ")))
        }
    };
    let rows = rows.iter().filter(is_sent);
    rows.filter_map(|row| {
        let pid = row["host_tid"].as_i64().or(row["host_pid"].as_i64())?;
        Some((number(row["signal"].as_str()?), pid))
    })
    .collect()
}

fn name(container: &Container) -> String {
    format!("pid:{}", container.init)
}

/// Each way to choose processes, and each order of a stop.
fn reported() -> Outcome {
    let lines: &[&[&str]] = &[
        &["signal", "USR1", "--all", "--except-init"],
        &["signal", "USR1", "--pid", "worker", "--queue", "7"],
        &["stop", "--order", "all", "-t", "300ms"],
        &["stop", "--schedule", "USR1:200ms,TERM:200ms,KILL"],
        // At length:
        &["signal", "USR1"],
        &["signal", "USR1", "--all"],
        &["signal", "USR1", "--comm", "web", "--comm", "plain"],
        &["signal", "USR1", "--match", "worker|web"],
        &["signal", "USR1", "--tree", "web"],
        &["signal", "USR2", "--user", "root", "--require-handler"],
        &["signal", "RTMIN+3", "--pid", "web", "--queue", "-1"],
        &["signal", "KILL", "--all", "--wait"],
        &["signal", "TERM", "--all", "--dry-run"],
        &["stop", "-t", "300ms"],
        &["stop", "-t", "0"],
        &["stop", "--order", "children-first", "-t", "300ms"],
        &["stop", "--no-kill", "-t", "200ms"],
    ];
    let lines = if is_long() { lines } else { &lines[..4] };
    for line in lines {
        let container = fixture(PROCESSES)?;
        let pid = |word: &&str| container.pids.get(*word).map(ToString::to_string);
        let words = line.iter().enumerate().map(|(index, word)| {
            let is_pid = index > 0 && ["--pid", "--tree"].contains(&line[index - 1]);
            pid(word).filter(|_| is_pid).unwrap_or_else(|| (*word).to_owned())
        });
        let words: Vec<String> = words.collect();
        let name = name(&container);
        let mut argv = vec![env!("CARGO_BIN_EXE_cinspect"), "--json", &words[0], &name];
        argv.extend(words[1..].iter().map(String::as_str));
        let (run, kernel) = traced(&argv)?;
        let mut sent = answered(&run.objects());
        let mut seen: Vec<(i64, i64)> = kernel.iter().map(|(sig, pid, _)| (*sig, *pid)).collect();
        sent.sort_unstable();
        seen.sort_unstable();
        check(
            sent == seen,
            format!("{argv:?}: {sent:?} in\n{}{}\nthe kernel: {kernel:?}", run.out, run.err),
        )?;
        let is_dry = line.contains(&"--dry-run") || line.contains(&"--require-handler");
        check(is_dry || !seen.is_empty(), format!("{argv:?} sent nothing: {}", run.err))?;
    }
    Ok(())
}

/// To twins: by PID, with a value, and to the init.
fn kill() -> Outcome {
    let all = [
        ("USR1", Some("3")),
        ("TERM", None),
        ("USR1", None),
        ("RTMIN+3", Some("9")),
        ("KILL", None),
    ];
    for (signal, value) in if is_long() { &all[..] } else { &all[..1] } {
        let (ours, theirs) = (fixture(TWINS)?, fixture(TWINS)?);
        let names: BTreeSet<&String> = ours.pids.keys().collect();
        let (hosts, container) = (theirs.host_pids(), name(&ours));
        // (The init last: KILL to it ends the others.)
        let others = names.iter().filter(|name| name.as_str() != "init").copied();
        let last = names.iter().filter(|name| name.as_str() == "init").copied();
        for process in others.chain(last) {
            let pid = ours.pids[process].to_string();
            let mut argv = vec![
                env!("CARGO_BIN_EXE_cinspect"),
                "--json",
                "signal",
                &container,
                signal,
                "--pid",
                &pid,
            ];
            let host = hosts[process].to_string();
            let mut kill = vec!["/usr/bin/kill", "-s", signal];
            if let Some(value) = *value {
                argv.extend(["--queue", value]);
                kill.extend(["-q", value]);
            }
            kill.push(&host);
            let (_, sent) = traced(&argv)?;
            let (run, oracle) = traced(&kill)?;
            check(run.code == 0, format!("{kill:?}: {}", run.err))?;
            let how = |all: &[Generated]| -> Vec<(i64, String)> {
                all.iter().map(|(signal, _, how)| (*signal, how.clone())).collect()
            };
            same(how(&sent), how(&oracle))?;
            same(sent.len(), 1)?;
        }
    }
    Ok(())
}

/// Prints what a process has from the namespaces, the root and the working directory that it has entered, and what
/// it has from its caller.
const PROBE: &str = r#"
for kind in cgroup ipc mnt net time time_for_children user uts; do echo "$kind $(readlink /proc/self/ns/$kind)"; done
echo "pid $(readlink /proc/$$/ns/pid) $(readlink /proc/$$/ns/pid_for_children)"
stat -Lc 'root %d:%i' /proc/$$/root; stat -Lc 'cwd %d:%i' /proc/$$/cwd; pwd -P
uname -n; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups /proc/self/timens_offsets
md5sum </proc/self/mountinfo; cat /proc/net/dev | wc -l; id
grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)' /proc/$$/status; ulimit -a; umask
"#;

/// Commands that make an init of another kind each.
const INITS: &[&[&str]] = &[
    &["sleep", "1000"],
    &["unshare", "--uts", "--ipc", "--net", "--cgroup", "--", "sleep", "1000"],
    &["unshare", "--user", "--map-root-user", "--", "sleep", "1000"],
    &["unshare", "--user", "--map-root-user", "--mount", "--uts", "--net", "--", "sleep", "1000"],
    &["unshare", "--time", "--boottime", "1000", "--monotonic", "2000", "--", "sleep", "1000"],
    &["sh", "-c", "cd /usr/lib && exec sleep 1000"],
    &["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /mnt && cd /mnt && exec sleep 1000"],
    &["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /home && exec sleep 1000"],
];

/// The inits have the attributes of the test, which nsenter(1) keeps. (It also keeps descriptors, blocked
/// signals, and 32 and 33 ignored.)
fn namespaces() -> Outcome {
    for argv in INITS {
        let container = UnsharedInit::start(argv)?;
        let target = container.init.to_string();
        let runs = || runs(container.init, &["sleep", "1000"]);
        check(wait_until(runs), format!("{argv:?} does not end in a sleep"))?;
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["-t", &target, "--all", "--root", "--wd", "--"]);
        // As the inits were started.
        nsenter
            .args(["env", "--default-signal", "sh", "-c", PROBE])
            .stdin(std::process::Stdio::null());
        let theirs = finish(nsenter).expect(0)?;
        let ours = run(&["exec", &container.name(), "--", "sh", "-c", PROBE]).expect(0)?;
        check(
            ours.out == theirs.out,
            format!("{argv:?}:\n{}\nnsenter:\n{}", ours.out, theirs.out),
        )?;
    }
    Ok(())
}
