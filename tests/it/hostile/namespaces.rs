//! Containers of unusual shape: 30 PID namespaces in one another, thousands of threads, and every directory
//! of the file system covered by mounts.

use std::path::PathBuf;

use libtest_mimic::{Failed, Trial};

use crate::support::{
    Outcome, UnsharedInit, check, cinspect, finish, fixture, run, same, test_with_programs,
    wait_until, within,
};

/// The kernel has at most 32 levels (MAX_PID_NS_LEVEL).
const LEVELS: usize = 30;
const THREADS: usize = 6000;

/// Makes LEVELS namespaces, each with one process; the innermost writes the file.
const NESTED: &str = r#"
import ctypes, os, signal, sys, time
libc = ctypes.CDLL(None, use_errno=True)
for level in range(int(sys.argv[1])):
    if libc.unshare(0x20000000) != 0: sys.exit('unshare at %d: %d' % (level, ctypes.get_errno()))
    child = os.fork()
    if child != 0:
        libc.prctl(15, b'level%d' % level)
        os.waitpid(child, 0)
        sys.exit(0)
libc.prctl(15, b'innermost')
signal.signal(signal.SIGUSR1, lambda *a: open(sys.argv[2] + '.got', 'w').write('USR1'))
open(sys.argv[2], 'w').write('ready')
while True: signal.pause()
"#;

const THREADED: &str = r#"
import signal, sys, threading, time
threading.stack_size(65536)
held = threading.Lock(); held.acquire()
for _ in range(int(sys.argv[1])): threading.Thread(target=held.acquire, daemon=True).start()
open(sys.argv[2], 'w').write('ready')
while True: signal.pause()
"#;

pub fn trials() -> Vec<Trial> {
    vec![
        test_with_programs(&["python3"], "hostile::thirty_pid_namespaces_in_one_another", nested),
        test_with_programs(&["python3"], "hostile::six_thousand_threads", threads),
        test_with_programs(&["mount"], "hostile::every_directory_covered_by_a_mount", covered),
    ]
}

/// Starts a script as PID 1; the file that it writes when it is ready is returned, too.
fn start(
    script: &str,
    number: usize,
) -> Result<(UnsharedInit, tempfile::TempDir, PathBuf), Failed> {
    let dir = tempfile::tempdir()?;
    let (path, ready) = (dir.path().join("init.py"), dir.path().join("ready"));
    std::fs::write(&path, script)?;
    let (path, shown) = (path.display().to_string(), ready.display().to_string());
    let container = UnsharedInit::start(&["python3", &path, &number.to_string(), &shown])?;
    let mut is_ready = false;
    for _ in 0..30 {
        is_ready = is_ready || wait_until(|| ready.exists());
    }
    check(is_ready, "the container did not get ready")?;
    Ok((container, dir, ready))
}

fn nested() -> Outcome {
    let (container, _dir, ready) = start(NESTED, LEVELS - 1)?;
    let rows = run(&["--json", "ps", &container.name()]).expect(0)?.objects();
    same(rows.len(), LEVELS)?;
    for command in [&["ls"][..], &["inspect"], &["signals"], &["doctor", "--exit-zero"]] {
        let mut words = command.to_vec();
        let name = container.name();
        if command != ["ls"] {
            words.push(&name);
        }
        run(&words).expect(0)?;
    }
    // The innermost has a PID in each namespace; the signal reaches it by any of the names.
    let innermost = rows.iter().find(|row| row["comm"] == "innermost").ok_or("no innermost")?;
    let pid = innermost["pid"].to_string();
    run(&["signal", &container.name(), "USR1", "--pid", &pid]).expect(0)?;
    let got = PathBuf::from(format!("{}.got", ready.display()));
    check(wait_until(|| got.exists()), "the innermost process did not get the signal")
}

fn threads() -> Outcome {
    let (container, _dir, _ready) = start(THREADED, THREADS)?;
    let tasks = std::fs::read_dir(format!("/proc/{}/task", container.init))?.count();
    same(tasks, THREADS + 1)?;
    let name = container.name();
    same(run(&["--json", "ps", "-T", &name]).expect(0)?.objects().len(), THREADS + 1)?;
    same(run(&["--json", "ps", &name]).expect(0)?.objects().len(), 1)?;
    run(&["signals", &name]).expect(0)?;
    run(&["signal", &name, "0", "--all"]).expect(0)?;
    run(&["doctor", "--exit-zero", &name]).expect(0).map(drop)
}

/// Each directory in turn, then all of them: commands that need no file of the container work on, the
/// others say in words what they miss.
fn covered() -> Outcome {
    let directories = ["/proc", "/dev", "/etc", "/sys", "/run", "/var", "/usr"];
    let container = fixture("init handle=TERM,USR1\n> web handle=USR1")?;
    let name = format!("pid:{}", container.init);
    // (The log of the signals is in /tmp.)
    let tmp = format!("{name}:/tmp/cinspect-covered-{}", std::process::id());
    for (index, directory) in directories.iter().enumerate() {
        within(&container, &format!("mount -t tmpfs none {directory}"))?;
        for words in [
            &["ls"][..],
            &["ps", &name],
            &["signals", &name],
            &["inspect", &name],
            &["doctor", "--exit-zero", &name],
            &["stop", "-n", &name],
            &["signal", &name, "0", "--all"],
            &["--json", "ps", &name],
        ] {
            let done = run(words).expect(0)?;
            check(!done.err.contains("panicked"), &done.err)?;
        }
        same(run(&["--json", "ps", &name]).expect(0)?.objects().len(), 2)?;
        run(&["signal", &name, "USR1", "--comm", "web"]).expect(0)?;
        check(wait_until(|| container.received().len() == index + 1), "USR1 did not arrive")?;
        // (A program may be missing now.)
        let mut exec = cinspect(&["exec", &name, "/usr/bin/true"]);
        exec.env("PATH", "/usr/bin:/bin");
        let exec = finish(exec);
        check([0, 125, 126, 127].contains(&exec.code), format!("{directory}: {exec:?}"))?;
        check(exec.code == 0 || exec.err.contains("cinspect: "), format!("{exec:?}"))?;
        run(&["cp", "/etc/hostname", &tmp]).expect(0)?;
    }
    std::fs::remove_file(
        tmp.split_once(':').map_or("", |(_, rest)| &rest[rest.find('/').unwrap_or(0)..]),
    )?;
    Ok(())
}
