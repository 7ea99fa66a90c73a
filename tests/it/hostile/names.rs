//! Processes with random names, arguments, environments, working directories, host names, mount points and
//! cgroups full of control characters: no output of any command acts on a terminal, and JSON has the exact
//! bytes.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use serde_json::Value;

use super::is_long;
use crate::support::{
    Outcome, UnsharedInit, check, children, cinspect, control_character, finish, note, same,
    test_with_programs, wait_until,
};

/// Processes of one container.
const PROCESSES: usize = 40;
/// Containers, each with other names.
const ROUNDS: usize = 2;
const ROUNDS_AT_LENGTH: usize = 30;

/// PID 1 and its children. The bytes are a function of the round.
const SCRIPT: &str = r#"
import ctypes, os, random, sys, time
libc = ctypes.CDLL(None, use_errno=True)
rounds, count, ready = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
rng = random.Random(rounds)
parts = [b'\x1b[2J', b'\x1b]0;x\x07', b'\n', b'\r', b'\t', b'\x7f', b'\x9b31m', b'\xc2\x9b', b'\xe2\x80\xae',
         b'\xe2\x80\x8b', b'\xff', b'\xfe', b')', b'(', b' ', b'$(id)', b'`id`', b'"', b"'", b'\\', b'\xf0\x9f\x92\xa9',
         b'%s', b'<b>', b'a', b'0', b'-rf', b'--', b'\xf3\xa0\x80\xa1', b'\x01', b'=', b':', b',', b'/']
def word(most):
    out = b''.join(rng.choice(parts) for _ in range(rng.randint(1, most)))
    return out
libc.sethostname(word(8)[:64], min(64, len(word(8))))
os.makedirs('/tmp', exist_ok=True)
libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)
for _ in range(5):
    path = b'/tmp/' + word(6).replace(b'/', b'_')
    os.makedirs(path, exist_ok=True)
    libc.mount(word(4), path, b'tmpfs', 0, None)
pids = []
for index in range(count):
    name, argv = word(5)[:15], [word(6) for _ in range(rng.randint(1, 6))]
    env = {b'A' + word(3).replace(b'=', b'_'): word(6), b'HOME': word(4)}
    cwd = b'/tmp/' + (word(6).replace(b'/', b'_'))
    pid = os.fork()
    if pid == 0:
        os.makedirs(cwd, exist_ok=True)
        os.chdir(cwd)
        code = 'import ctypes,os,signal,time\nlibc=ctypes.CDLL(None)\nlibc.prctl(15, %r)\nsignal.signal(signal.SIGUSR1, lambda *a: None)\nos.close(3)\nwhile True: signal.pause()' % (name,)
        read, write = os.pipe()
        os.dup2(write, 3); os.set_inheritable(3, True)
        os.execve('/proc/self/exe', [argv[0], b'-c', code.encode()] + argv[1:], env)
    pids.append(pid)
# Each has set its name when it sleeps in pause(2): the harness waits for that.
open(ready, 'w').write(' '.join(map(str, pids)))
while True:
    try: os.wait()
    except ChildProcessError: time.sleep(1000)
"#;

pub fn trials() -> Vec<Trial> {
    vec![test_with_programs(&["python3"], "hostile::names_full_of_control_characters", names)]
}

fn names() -> Outcome {
    let rounds = if is_long() { ROUNDS_AT_LENGTH } else { ROUNDS };
    (0..rounds).try_for_each(round)
}

fn round(round: usize) -> Outcome {
    let dir = tempfile::tempdir()?;
    let script = dir.path().join("init.py");
    std::fs::write(&script, SCRIPT)?;
    // (Above /tmp, which the container mounts over.)
    let ready =
        std::path::PathBuf::from(format!("/var/tmp/cinspect-names-{}-{round}", std::process::id()));
    let _ = std::fs::remove_file(&ready);
    let text = [script.display().to_string(), ready.display().to_string()];
    let container = UnsharedInit::start(&[
        "unshare",
        "-u",
        "python3",
        &text[0],
        &round.to_string(),
        &PROCESSES.to_string(),
        &text[1],
    ])?;
    let paused = || {
        let pids = std::fs::read_to_string(&ready).unwrap_or_default();
        let all = children(container.init);
        let sleeps = |pid: &i32| {
            // pause(2), syscalls(2).
            let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
            call.starts_with("34 ") || cfg!(not(target_arch = "x86_64"))
        };
        !pids.is_empty() && all.len() == PROCESSES && all.iter().all(sleeps)
    };
    let mut is_ready = wait_until(paused);
    for _ in 0..20 {
        is_ready = is_ready || wait_until(paused);
    }
    let _ = std::fs::remove_file(&ready);
    check(is_ready, "the processes did not get ready")?;
    commands(&container.name(), round)?;
    exact(&container)
}

/// Every command, as text and as JSON; none of them may end by a signal or a panic.
fn commands(name: &str, round: usize) -> Outcome {
    let all = columns("ps")?;
    let listed = columns("ls")?;
    let here = format!("{name}:/tmp");
    let nowhere = format!("{name}:/\u{1b}[2J");
    let commands: &[&[&str]] = &[
        &["ls", "-a", "-o", &listed],
        &["-v", "ls"],
        &["ps", name, "-o", &all],
        &["ps", name],
        &["ps", "-T", "--flat", name],
        &["signals", name],
        &["signals", name, "USR1"],
        &["signal", "-n", name, "USR1", "--all"],
        &["signal", name, "USR1", "--all"],
        &["signal", name, "USR1", "--comm", "\u{1b}[2J"],
        &["stop", "-n", name],
        &["doctor", "--exit-zero", name],
        &["inspect", name],
        &["why", name],
        &["logs", name],
        &["-v", "exec", name, "true"],
        &["exec", name, "\u{1b}[2J\u{9b}"],
        &["exec", "-u", "\u{1b}[2J", name, "true"],
        &["cp", &here, "-"],
        &["cp", &nowhere, "/nonexistent/\u{1b}[2J"],
        &["inspect", "\u{1b}[2J\u{202e}\r"],
        &["ps", "\u{1b}]0;x\u{7}"],
    ];
    for words in commands {
        for json in [false, true] {
            let mut command = cinspect(if json { &["--json"] } else { &[] });
            command.args(*words).env("COLUMNS", ["80", "160"][round % 2]);
            if words.last() == Some(&"-") {
                command.stdout(Stdio::null());
            }
            let run = finish(command);
            let shown = format!("{words:?} json={json}: {run:?}");
            check(run.code >= 0 && run.code != 101, &shown)?;
            let text = format!("{}{}", run.out, run.err);
            check(control_character(&text).is_none(), &shown)?;
            if json && words[0] != "exec" {
                let is_json = |line: &str| serde_json::from_str::<Value>(line).is_ok();
                check(run.out.lines().all(is_json), &shown)?;
            }
            note(
                "hostile",
                &format!("names {round}: {}", words.join(" ").escape_debug()),
                "ok",
                "",
            );
        }
    }
    Ok(())
}

/// Returns all columns of a command's table.
fn columns(command: &str) -> Result<String, libtest_mimic::Failed> {
    let err = finish(cinspect(&[command, "-o", "nope"])).err;
    let list = err.split_once("valid values: ").map(|(_, list)| list.trim().replace(", ", ","));
    Ok(list.ok_or(format!("no list of columns: {err}"))?)
}

/// The names in the JSON are the kernel's.
fn exact(container: &UnsharedInit) -> Outcome {
    let rows = finish(cinspect(&["--json", "ps", &container.name()])).expect(0)?.objects();
    let bytes = |value: &Value| match value {
        Value::String(text) => text.clone().into_bytes(),
        other => {
            let mut decode = Command::new("base64");
            let text = other["bytes"].as_str().unwrap_or_default().to_owned();
            decode.arg("-d").stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = decode.spawn().expect("base64");
            let mut input = child.stdin.take().expect("a pipe");
            std::io::Write::write_all(&mut input, text.as_bytes()).expect("a pipe");
            drop(input);
            child.wait_with_output().expect("base64").stdout
        }
    };
    let shown: BTreeSet<(i64, Vec<u8>)> = rows
        .iter()
        .filter_map(|row| {
            Some((row["hpid"].as_i64().or(row["host_pid"].as_i64())?, bytes(&row["comm"])))
        })
        .collect();
    let kernel: BTreeSet<(i64, Vec<u8>)> = shown
        .iter()
        .map(|(pid, _)| {
            let comm = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
            (*pid, comm.strip_suffix(b"\n").unwrap_or(&comm).to_vec())
        })
        .collect();
    same(shown.len(), PROCESSES + 1)?;
    same(shown, kernel)
}
