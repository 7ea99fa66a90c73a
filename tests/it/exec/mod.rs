//! `exec` in the harness's containers: streams, exit status, signals, namespaces and wrong usage. Terminals
//! and hostile surroundings have files of their own.

mod account;
mod caller;
mod hostile;
mod terminal;

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::{Failed, Trial};

use crate::harness::Container;
use crate::harness::ready::has_exited;
use crate::support::{
    Need, Outcome, Run, check, children, cinspect, finish, fixture, run, same, test_with,
    wait_until,
};

pub fn trials() -> Vec<Trial> {
    let test = |name, run: fn() -> Outcome| test_with(Need::Namespaces, name, run);
    let root = |name, run: fn() -> Outcome| test_with(Need::Root, name, run);
    let mut trials = vec![
        test("exec::runs_a_command_with_its_streams_and_status", runs_a_command),
        test("exec::copies_a_hundred_megabytes_both_ways", copies_bytes),
        test("exec::forwards_signals", forwards_signals),
        test("exec::the_command_gets_hup_when_cinspect_is_killed", hangs_up),
        test_with(
            Need::Strace,
            "exec::no_command_runs_when_cinspect_is_killed_before_it",
            killed_before_the_command,
        ),
        test("exec::background_processes_are_not_waited_for", background),
        test("exec::a_closed_reader_ends_the_command", closed_reader),
        test("exec::a_slow_reader_gets_all_output", slow_reader),
        test("exec::unread_input_of_a_file_is_returned", unread_input),
        test("exec::joins_the_namespaces_that_are_chosen", namespaces),
        test("exec::reports_wrong_usage", usage),
        test("exec::enters_beside_a_stopped_init", stopped_init),
        root("exec::enters_by_a_thread_when_the_main_thread_has_exited", exited_main_thread),
        root("exec::other_commands_start_no_program_and_join_no_namespace", other_commands),
    ];
    trials.extend(account::trials());
    trials.extend(caller::trials());
    trials.extend(terminal::trials());
    trials.extend(hostile::trials());
    trials
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_cinspect");

fn name(container: &Container) -> String {
    format!("pid:{}", container.init)
}

/// Runs `exec` with the options before `--`, then the container, then `--` and the command.
fn exec(container: &Container, arguments: &[&str]) -> Run {
    let name = name(container);
    let options = arguments.iter().position(|word| *word == "--").unwrap_or(0);
    let mut words = vec!["exec"];
    words.extend(&arguments[..options]);
    words.push(&name);
    words.extend(&arguments[options..]);
    run(&words)
}

fn sh(container: &Container, script: &str) -> Run {
    exec(container, &["--", "sh", "-c", script])
}

/// Runs a script outside, with the program as `$1` and the container as `$2`.
fn outside(shell: &str, script: &str, container: &Container, arguments: &[&str]) -> Run {
    let mut command = Command::new(shell);
    command.args(["-c", script, shell, PROGRAM, &name(container)]).args(arguments);
    command.stdin(Stdio::null());
    finish(command)
}

fn runs_a_command() -> Outcome {
    let container = fixture("init")?;
    let done = sh(&container, "echo out; echo err >&2; exit 3").expect(3)?;
    same((done.out.as_str(), done.err.ends_with("err\n")), ("out\n", true))?;
    sh(&container, "kill -KILL $$").expect(137)?;
    sh(&container, "kill -SEGV $$").expect(139)?;
    let printed = sh(&container, "readlink /proc/self/ns/pid; echo $PPID").expect(0)?;
    let init = std::fs::read_link(format!("/proc/{}/ns/pid", container.init));
    let init = init?.to_string_lossy().into_owned();
    same(printed.out.lines().collect::<Vec<_>>(), vec![init.as_str(), "0"])?;
    let detached = exec(&container, &["-d", "--", "sleep", "1000"]).expect(0)?;
    let pid = detached.out.split(' ').next().unwrap_or_default().to_owned();
    // (It has the name of its program a moment after it has begun to execute it.)
    let runs = || {
        let rows = run(&["--json", "ps", &name(&container)]).objects();
        rows.iter().any(|row| row["pid"].as_i64() == pid.parse().ok() && row["comm"] == "sleep")
    };
    check(wait_until(runs), &pid)
}

fn copies_bytes() -> Outcome {
    let container = fixture("init")?;
    let dir = tempfile::tempdir()?;
    let (input, output) = (dir.path().join("input"), dir.path().join("output"));
    // Every byte, and some that a terminal would act on.
    let mut bytes: Vec<u8> =
        (0..100_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    bytes.extend(b"\x04\x03\x1a\r\n\0");
    std::fs::write(&input, &bytes)?;
    // Files are relayed, pipes are not.
    let mut command = cinspect(&["exec", &name(&container), "cat"]);
    command.stdin(File::open(&input)?);
    command.stdout(File::create(&output)?);
    check(command.status().is_ok_and(|status| status.success()), "cat failed")?;
    let is_same = || std::fs::read(&output).is_ok_and(|read| read == bytes);
    check(is_same(), "not the same bytes through files")?;
    let script = "cat \"$3\" | \"$1\" exec \"$2\" cat | cat > \"$4\"";
    let paths = [input.to_string_lossy(), output.to_string_lossy()];
    outside("sh", script, &container, &[&*paths[0], &*paths[1]]).expect(0)?;
    check(is_same(), "not the same bytes through pipes")
}

/// Starts a script in the container in the background, and returns the first line that it prints.
fn begin(container: &Container, script: &str) -> Result<(std::process::Child, String), Failed> {
    use std::io::BufRead;
    let mut command = cinspect(&["exec", &name(container), "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    let mut line = String::new();
    let mut reader = std::io::BufReader::new(stdout);
    reader.read_line(&mut line)?;
    // Closing the pipe would kill the script when it prints more.
    std::mem::forget(reader);
    Ok((child, line.trim().to_owned()))
}

/// Returns the nice value of the tests, which their containers have.
fn nice_value() -> Result<String, Failed> {
    Ok(finish(Command::new("nice")).expect(0)?.out.trim().to_owned())
}

/// Waits until the container runs this command.
fn wait_for_command(container: &Container, argv: &[&str]) -> Outcome {
    let runs = || {
        let rows = run(&["--json", "ps", &name(container)]).objects();
        rows.iter().any(|row| row["command"] == serde_json::json!(argv))
    };
    check(wait_until(runs), format!("{argv:?} does not run"))
}

fn kill(pid: u32, signal: &str) -> Outcome {
    let sent = Command::new("kill").args([signal, &pid.to_string()]).status();
    check(sent.is_ok_and(|status| status.success()), "kill")
}

fn forwards_signals() -> Outcome {
    let container = fixture("init")?;
    for signal in ["TERM", "HUP", "USR1", "INT", "QUIT"] {
        let script = format!("trap 'exit 9' {signal}; echo ready; while :; do sleep 0.05; done");
        let (mut child, _) = begin(&container, &script)?;
        kill(child.id(), &format!("-{signal}"))?;
        let status = child.wait()?;
        same((signal, status.code()), (signal, Some(9)))?;
    }
    // A signal that the command does not handle kills it; cinspect exits with 128+N.
    let (mut child, _) = begin(&container, "echo ready; exec sleep 1002")?;
    wait_for_command(&container, &["sleep", "1002"])?;
    kill(child.id(), "-TERM")?;
    let status = child.wait()?;
    same((status.code(), status.signal()), (Some(143), None))
}

/// Once cinspect has let it go on, the child makes a session: this call lasts until cinspect has exited. SIGHUP is
/// asked for later.
fn killed_before_the_command() -> Outcome {
    let container = fixture("init")?;
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=setsid"]);
    strace.args(["-e", "inject=setsid:delay_enter=1000000000", PROGRAM]);
    strace.args(["exec", &name(&container), "--", "sleep", "1000"]).stdin(Stdio::null());
    let mut strace = strace.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let begins = format!("{} ", nix::libc::SYS_setsid);
    let is_held = |pid: &i32| {
        let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
        call.starts_with(&begins)
    };
    let tracer = strace.id().cast_signed();
    let mut found = None;
    let is_found = wait_until(|| {
        let held = |cinspect| Some((cinspect, children(cinspect).into_iter().find(is_held)?));
        found = children(tracer).into_iter().find_map(held);
        found.is_some()
    });
    let (cinspect, child) = found.unwrap_or_default();
    let is_killed = is_found
        && kill(cinspect.unsigned_abs(), "-KILL").is_ok()
        && wait_until(|| has_exited(cinspect));
    // (The end of its tracer lets the child go on.)
    let _ = strace.kill();
    let _ = strace.wait();
    check(is_found, "the child makes no session")?;
    check(is_killed, "cinspect is not killed")?;
    check(wait_until(|| has_exited(child)), "the command runs")
}

fn hangs_up() -> Outcome {
    let container = fixture("init")?;
    let (mut child, pid) = begin(&container, "echo $$; exec sleep 1000")?;
    kill(child.id(), "-KILL")?;
    let _ = child.wait();
    let is_alive = || {
        let rows = run(&["--json", "ps", &name(&container)]).objects();
        rows.iter().any(|row| row["pid"].as_i64() == pid.parse().ok() && row["state"] != "Z")
    };
    check(wait_until(|| !is_alive()), "the command is still running")
}

fn background() -> Outcome {
    let container = fixture("init")?;
    let done = sh(&container, "sleep 1000 & echo printed; exit 3").expect(3)?;
    same(done.out.as_str(), "printed\n")?;
    check(done.took < Duration::from_secs(500), "the background process was waited for")
}

/// A loop over the lines of a file, with a command in it that does not read.
fn unread_input() -> Outcome {
    let container = fixture("init")?;
    let script = "printf 'a\\nb\\nc\\n' > \"$3\"; while read -r line; do \"$1\" exec \"$2\" echo \"$line\"; done < \"$3\"; \
        { \"$1\" exec \"$2\" head -n 1; cat; } < \"$3\"";
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().to_string_lossy();
    // (From a pipe head itself reads more than it prints.)
    same(outside("bash", script, &container, &[&*path]).expect(0)?.out.as_str(), "a\nb\nc\na\n")
}

/// The command has exited long before its output is read.
fn slow_reader() -> Outcome {
    let container = fixture("init")?;
    let script = "\"$1\" exec \"$2\" -- head -c 120000 /dev/zero | { sleep 2.5; wc -c; }";
    for _ in 0..3 {
        same(outside("sh", script, &container, &[]).expect(0)?.out.trim(), "120000")?;
    }
    Ok(())
}

fn closed_reader() -> Outcome {
    let container = fixture("init")?;
    let script = "\"$1\" exec \"$2\" yes | head -n 1; echo \"${PIPESTATUS[0]}\"";
    same(outside("bash", script, &container, &[]).expect(0)?.out.as_str(), "y\n141\n")
}

fn namespaces() -> Outcome {
    let container = fixture("init")?;
    let link = |pid: &str, kind: &str| {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}"));
        link.map(|link| link.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let init = container.init.to_string();
    let is_root = nix::unistd::geteuid().is_root();
    for kind in ["uts", "ipc", "mnt"] {
        // Other users than root need the capabilities that its user namespace gives.
        let only = if is_root { kind.to_owned() } else { format!("user,{kind}") };
        let script = format!("readlink /proc/$$/ns/{kind}");
        let joined = exec(&container, &["--ns", &only, "--", "sh", "-c", &script]);
        // (With mnt alone, its /proc does not show a process of another PID namespace.)
        if kind != "mnt" {
            same((kind, joined.expect(0)?.out.trim()), (kind, link(&init, kind).as_str()))?;
        }
        let script = format!("readlink /proc/self/ns/{kind}");
        let skipped = exec(&container, &["--skip", kind, "--", "sh", "-c", &script]).expect(0)?;
        let (host, container) = (link("self", kind), link(&init, kind));
        // (The host's tools get a copy of the host's mounts, with a /proc of the PID namespace.)
        let is_expected = match kind {
            "mnt" => skipped.out.trim() != container,
            _ => skipped.out.trim() == host,
        };
        check(is_expected, format!("{kind}: {}, and {host} on the host", skipped.out))?;
    }
    // The host's tools see the container's PIDs.
    let ps =
        exec(&container, &["--skip", "mnt", "--", "ps", "-e", "-o", "pid=,comm="]).expect(0)?;
    same(ps.out.lines().next().map(str::trim), Some("1 init"))
}

fn usage() -> Outcome {
    let container = fixture("init")?;
    // Half a user, or none, as docker exec takes them.
    for (user, ids) in [(":5", "0 5"), ("4321:", "4321 0"), ("", "0 0")] {
        let line = ["-u", user, "-w", "", "--", "sh", "-c", "echo $(id -u) $(id -g)"];
        same((user, exec(&container, &line).expect(0)?.out.trim()), (user, ids))?;
    }
    for (words, status, text) in [
        (&["-t", "-d", "--", "id"][..], 2, "cannot be used with"),
        (&["--ns", "nonsense", "--", "id"], 2, "user, mnt, uts"),
        (&["-u", ":4294967296", "--", "id"], 2, "out of range"),
        (&["-u", "4294967296", "--", "id"], 2, "out of range"),
        (&["-u", "+0", "--", "id"], 125, "no user `+0`"),
        (&["-u", "0x0", "--", "id"], 125, "no user `0x0`"),
        (&["-u", "root:nogroup-of-that-name", "--", "id"], 125, "no group"),
        (&["--skip", "mnt", "-u", "root", "--", "id"], 125, "IDs only"),
        (&["--pid", "4000000", "--", "id"], 125, "no process"),
        (&["--env-file", "/nonexistent", "--", "id"], 2, "No such file or directory"),
        (&["--env-file", "/dev/zero", "--", "id"], 2, "longer than a command's environment"),
        (&["-w", "/nope", "--", "id"], 125, "cannot change directory to `/nope`: No such file"),
        (&["-w", "/etc/passwd", "--", "id"], 125, "Not a directory"),
        (&["-w", "etc", "--", "id"], 2, "not an absolute path"),
        (&["--", ""], 127, "not found in the container's PATH"),
        (&["--", "nosuch-program"], 127, "not found in the container's PATH"),
        (&["--", "/nosuch/program"], 127, "not found in the container"),
        (&["--", "/etc"], 126, "Permission denied (not executable, not a regular file"),
    ] {
        let printed = exec(&container, words).expect(status)?;
        check(printed.err.contains(text), format!("{words:?}: {}", printed.err))?;
    }
    run(&["exec", "no-such-container", "id"]).expect(125).map(drop)
}

fn stopped_init() -> Outcome {
    let container = fixture("init")?;
    kill(container.init.unsigned_abs(), "-STOP")?;
    let done = exec(&container, &["--strict", "--", "echo", "in"]);
    kill(container.init.unsigned_abs(), "-CONT")?;
    same(done.expect(0)?.out.as_str(), "in\n")
}

fn exited_main_thread() -> Outcome {
    let container = fixture("init main-thread-exits")?;
    let done = sh(&container, "readlink /proc/self/ns/uts").expect(0)?;
    let tasks = std::fs::read_dir(format!("/proc/{}/task", container.init));
    let tasks = tasks?;
    let links: Vec<String> = tasks
        .flatten()
        .filter_map(|task| std::fs::read_link(task.path().join("ns/uts")).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    check(links.contains(&done.out.trim().to_owned()), format!("{links:?} {}", done.out))
}

/// Commands that only read or signal start no program and join no namespace (CVE-2022-1227).
fn other_commands() -> Outcome {
    let container = fixture("init exits-on=TERM")?;
    let name = name(&container);
    for words in [
        &["ls"][..],
        &["ps", &name],
        &["signals", &name],
        &["doctor", "--exit-zero", &name],
        &["signal", &name, "0"],
        &["stop", &name],
    ] {
        let mut calls = strace("execve,execveat,setns,chroot", words, 0)?;
        // Of other containers on this host: the root of an init that has changed its own is opened by a
        // child in its mount namespace, which executes nothing.
        calls.retain(|call| *words != ["ls"] || !call.contains("setns("));
        let is_start = calls.len() == 1 && calls[0].contains("execve(");
        check(is_start, format!("{words:?}: {calls:?}"))?;
    }
    Ok(())
}

/// Runs cinspect under strace, and returns the lines of these system calls.
fn strace(calls: &str, words: &[&str], status: i32) -> Result<Vec<String>, Failed> {
    let log = tempfile::NamedTempFile::new()?;
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", &format!("trace={calls}"), "-o"]);
    command.arg(log.path()).arg(Path::new(PROGRAM)).args(words);
    finish(command).expect(status)?;
    let text = std::fs::read_to_string(log.path()).unwrap_or_default();
    Ok(text
        .lines()
        .filter(|line| line.contains('(') && !line.contains("???"))
        .map(str::to_owned)
        .collect())
}
