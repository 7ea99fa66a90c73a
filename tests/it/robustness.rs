//! Bad input and bad times: what is not there, not allowed, forged, or made to hang. Nothing of it
//! may panic, hang, paint the terminal or lose a row in silence.

use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;

use crate::harness::Container;
use crate::support::{
    Need, Outcome, Run, check, cinspect, finish, fixture, paints, run, same, test, test_with,
    wait_until,
};

pub fn trials() -> Vec<Trial> {
    vec![
        test("robustness::words_that_name_no_container", words),
        test("robustness::a_word_that_is_not_utf8", not_utf8),
        test_with(
            Need::Namespaces,
            "robustness::a_bare_number_is_no_name_for_what_changes_something",
            bare_number,
        ),
        test_with(Need::Root, "robustness::a_process_in_no_container", no_container),
        test_with(Need::Namespaces, "robustness::streams_that_are_closed_or_full", streams),
        test_with(Need::Root, "robustness::not_root", not_root),
        test_with(Need::Root, "robustness::proc_that_hides_processes", hidepid),
        test_with(Need::Root, "robustness::no_proc_no_cgroups_and_another_namespaces_proc", mounts),
        test_with(
            Need::Root,
            "robustness::a_users_forged_records_are_told_and_not_believed",
            forged,
        ),
        test_with(Need::Root, "robustness::roots_environment_leads_nowhere", environment),
        test_with(
            Need::Fuse,
            "robustness::a_command_line_that_hangs_is_a_question_mark_within_a_second",
            hangs,
        ),
        test_with(
            Need::Fuse,
            "robustness::a_file_system_that_never_answers_costs_the_names_of_users",
            etc_hangs,
        ),
        test_with(
            Need::Root,
            "robustness::a_container_that_covers_its_proc_is_seen_whole",
            covered_proc,
        ),
        test_with(
            Need::Namespaces,
            "robustness::a_container_that_ends_while_it_is_looked_at",
            ends,
        ),
        test_with(
            Need::Namespaces,
            "robustness::few_open_files_are_enough_or_nothing_is_sent",
            few_files,
        ),
    ]
}

fn name(container: &Container) -> String {
    format!("pid:{}", container.init)
}

/// What every message keeps to.
fn is_well_formed(run: &Run) -> Outcome {
    same(paints(&run.out), None)?;
    same(paints(&run.err), None)?;
    check(!run.err.contains("panicked"), &run.err)
}

fn words() -> Outcome {
    let long = "x".repeat(4096);
    for (word, code) in [
        ("no-such-container", 3),
        ("$(touch /tmp/x)", 3),
        ("../../etc/passwd", 3),
        ("a\nb\x1b[31m", 3),
        ("%s%n", 3),
        (&long, 3),
        ("99999999999999999999", 3),
        ("pid:99999999", 3),
        ("cgroup:/no/such", 3),
        ("docker:nobody", 3),
        ("", 2),
        ("pid:x", 2),
        ("pid:-1", 2),
        ("bogus:web", 2),
        ("docker:", 2),
    ] {
        for arguments in [&["ps", word][..], &["signal", word, "TERM"]] {
            let run = run(arguments);
            is_well_formed(&run)?;
            check(run.code == code, format!("{word:?}: status {}: {}", run.code, run.err))?;
            check(run.err.starts_with("cinspect: ") && run.err.contains("\nhint: "), &run.err)?;
        }
    }
    is_well_formed(&run(&["ps", "-9"]).expect(2)?)?;
    is_well_formed(&run(&["ps", "--", "-9"]).expect(3)?)
}

fn not_utf8() -> Outcome {
    let mut ps = cinspect(&["ps"]);
    ps.arg(std::ffi::OsStr::from_bytes(b"bad\xffname"));
    is_well_formed(&finish(ps).expect(2)?)
}

fn bare_number() -> Outcome {
    let container = fixture("init")?;
    let number = container.init.to_string();
    run(&["ps", &number]).expect(0)?;
    let error = run(&["signal", &number, "0"]).expect(3)?;
    check(error.err.contains(&format!("`pid:{number}`")), error.err)
}

fn no_container() -> Outcome {
    let mut child = Command::new("sleep").arg("100").spawn().map_err(|error| error.to_string())?;
    let word = format!("pid:{}", child.id());
    let read = run(&["--json", "ps", &word]);
    let acted = run(&["signal", &word, "TERM"]);
    let alive = child.try_wait().map_err(|error| error.to_string())?.is_none();
    let _ = child.kill();
    let _ = child.wait();
    // Reading, it stands for its own PID namespace: that of the host.
    let rows = read.expect(0)?.objects();
    check(rows.iter().any(|row| row["pid"] == json!(child.id())), "its own namespace is shown")?;
    check(acted.expect(3)?.err.contains("is not in a container"), "it says so")?;
    for cgroup in ["cgroup:/", "cgroup:/no/such"] {
        run(&["signal", cgroup, "0", "--all"]).expect(3)?;
    }
    check(alive, "and nothing was sent")
}

fn streams() -> Outcome {
    let container = fixture("init\n> a\n> b")?;
    let name = name(&container);
    let program = env!("CARGO_BIN_EXE_cinspect");
    let shell = |script: &str| {
        let mut sh = Command::new("sh");
        sh.args(["-c", script, "sh", program, &name]).stdin(Stdio::null());
        finish(sh)
    };
    for command in ["ls", "ps \"$2\"", "signal -l", "--help", "completions bash"] {
        let closed = shell(&format!("\"$1\" {command} >&- 2>&-"));
        check(closed.code <= 1, format!("{command}: closed: {}", closed.code))?;
        let full = shell(&format!("\"$1\" {command} > /dev/full"));
        is_well_formed(&full)?;
        if !command.starts_with("--") {
            same((command, full.code), (command, 1))?;
            check(full.err.contains("cannot write to stdout"), &full.err)?;
        }
        let head = shell(&format!(
            "{{ \"$1\" {command}; echo \"status $?\" >&2; }} | head -n 1 > /dev/null"
        ));
        check(!head.err.contains("panicked"), &head.err)?;
        check(head.err.contains("status 0"), format!("{command}: {}", head.err))?;
    }
    Ok(())
}

/// Runs the program as nobody. The folder it was built in may be closed to others; the copy is made
/// by another process, since a test beside this one that forks while we write would keep it busy.
fn as_nobody(arguments: &[&str]) -> Run {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let copy = format!("cinspect-nobody-{}-{number}", std::process::id());
    let copy = std::env::temp_dir().join(copy);
    let _ = Command::new("cp").arg(env!("CARGO_BIN_EXE_cinspect")).arg(&copy).status();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.arg(&copy).args(arguments);
    let run = finish(command);
    let _ = std::fs::remove_file(&copy);
    run
}

fn not_root() -> Outcome {
    let container = fixture("init\n> web handle=TERM")?;
    let name = name(&container);
    let ls = as_nobody(&["ls"]).expect(0)?;
    check(ls.err.contains("CAP_SYS_PTRACE"), &ls.err)?;
    is_well_formed(&ls)?;
    let refused = as_nobody(&["signal", &name, "TERM"]);
    check([3, 5].contains(&refused.code), format!("{refused:?}"))?;
    is_well_formed(&refused)?;
    check(refused.err.contains("CAP_"), &refused.err)?;
    // What may not be read is not guessed, and nobody waits for what was not sent.
    let shown = as_nobody(&["--json", "ps", &container.init.to_string()]);
    let unknown = |row: &serde_json::Value| row["on_signal"]["verdict"] == json!("unknown");
    check(shown.code != 0 || shown.objects().iter().any(unknown), format!("{shown:?}"))?;
    let stopped = as_nobody(&["stop", "-t", "60s", &name]);
    check([3, 5].contains(&stopped.code), format!("{stopped:?}"))?;
    check(stopped.took < Duration::from_secs(20), "the time was waited for nothing")?;
    same(container.settled(), Vec::new())
}

/// Runs a script in a mount namespace of its own.
fn apart(script: &str, name: &str) -> Run {
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(env!("CARGO_BIN_EXE_cinspect")).arg(name).stdin(Stdio::null());
    finish(command)
}

fn hidepid() -> Outcome {
    let container = fixture("init\n> web")?;
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let copy = "cp \"$1\" /tmp/cinspect-hidepid-$$; chmod 755 /tmp/cinspect-hidepid-$$; trap 'rm /tmp/cinspect-hidepid-$$' EXIT;";
    let mount = "mount -t proc -o hidepid=2 proc /proc";
    let ls = apart(&format!("{copy} {mount} && {nobody} /tmp/cinspect-hidepid-$$ ls"), "");
    is_well_formed(&ls)?;
    check(ls.code == 0 && ls.err.contains("hidepid"), format!("{ls:?}"))?;
    // Root sees everything all the same.
    let root =
        apart(&format!("{mount} && \"$1\" --json ps \"$2\""), &name(&container)).expect(0)?;
    same(root.objects().len(), 2)
}

fn mounts() -> Outcome {
    let container = fixture("init\n> web handle=TERM")?;
    let name = name(&container);
    let none = apart("mount -t tmpfs none /proc && \"$1\" ps \"$2\"", &name).expect(1)?;
    check(none.err.contains("/proc") && none.err.contains("hint: "), &none.err)?;
    let no_cgroups = apart(
        "mount -t tmpfs none /sys/fs/cgroup && \"$1\" --json ps \"$2\" && \"$1\" --json ls",
        &name,
    )
    .expect(0)?;
    check(no_cgroups.err.contains("no cgroup hierarchy"), &no_cgroups.err)?;
    check(no_cgroups.out.lines().count() >= 3, &no_cgroups.out)?;
    // In a PID namespace of its own, with the host's /proc: its numbers are not ours.
    let other = apart("unshare -pf \"$1\" signal \"$2\" TERM", &name).expect(5)?;
    check(
        other.err.contains("another PID namespace") && other.err.contains("--pid=host"),
        &other.err,
    )?;
    same(container.settled(), Vec::new())
}

/// A user's folder of records, removed again.
struct Records(&'static str);

impl Records {
    const UID: u32 = 61234;

    fn new() -> Result<Self, String> {
        let folder = "/run/user/61234";
        let _ = std::fs::remove_dir_all(folder);
        for name in ["liar", "pipe", "link", "huge", "deep"] {
            std::fs::create_dir_all(format!("{folder}/runc/{name}")).map_err(|e| e.to_string())?;
        }
        Ok(Self(folder))
    }

    fn own(&self) {
        let _ = Command::new("chown").args(["-hR", &Self::UID.to_string(), self.0]).status();
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0);
    }
}

fn forged() -> Outcome {
    let container = fixture("init handle=TERM")?;
    let records = Records::new()?;
    let file = |name: &str| format!("{}/runc/{name}/state.json", records.0);
    let state = json!({"id": "liar", "init_process_pid": container.init, "init_process_start": 0, "cgroup_paths": {}});
    let write =
        |name: &str, text: &str| std::fs::write(file(name), text).map_err(|e| e.to_string());
    write("liar", &state.to_string())?;
    nix::unistd::mkfifo(file("pipe").as_str(), nix::sys::stat::Mode::S_IRWXU)
        .map_err(|e| e.to_string())?;
    std::os::unix::fs::symlink("/etc/shadow", file("link")).map_err(|e| e.to_string())?;
    write("huge", "")?;
    let huge =
        std::fs::OpenOptions::new().write(true).open(file("huge")).map_err(|e| e.to_string())?;
    huge.set_len(1 << 30).map_err(|e| e.to_string())?;
    write("deep", &"[".repeat(1_000_000))?;
    records.own();
    let ls = run(&["--json", "ls"]).expect(0)?;
    check(ls.took < Duration::from_secs(5), format!("{:?}", ls.took))?;
    is_well_formed(&ls)?;
    check(!ls.objects().iter().any(|row| row["id"] == "liar"), "a forged record is in the list")?;
    check(ls.err.contains("it is user 61234's"), &ls.err)?;
    for name in ["pipe", "link", "huge", "deep"] {
        check(
            ls.err.contains(&format!("runc/{name}/state.json")),
            format!("{name} is not told of: {}", ls.err),
        )?;
    }
    check(!ls.err.contains("root:") && !ls.err.contains("[["), "content of a file is told")?;
    run(&["signal", "runc:liar", "TERM"]).expect(3)?;
    run(&["signal", "liar", "TERM"]).expect(3)?;
    same(container.settled(), Vec::new())
}

fn environment() -> Outcome {
    let evil = std::env::temp_dir().join(format!("cinspect-evil-{}", std::process::id()));
    let container = fixture("init")?;
    std::fs::create_dir_all(evil.join("runc/evil")).map_err(|e| e.to_string())?;
    let state = json!({"id": "evil", "init_process_pid": container.init, "init_process_start": 0, "cgroup_paths": {}});
    std::fs::write(evil.join("runc/evil/state.json"), state.to_string())
        .map_err(|e| e.to_string())?;
    let mut ls = cinspect(&["--json", "ls"]);
    ls.env("XDG_RUNTIME_DIR", &evil).env("HOME", &evil);
    let rows = finish(ls).expect(0)?.objects();
    let _ = std::fs::remove_dir_all(&evil);
    check(!rows.iter().any(|row| row["id"] == "evil"), "root's environment was believed")
}

fn hangs() -> Outcome {
    let container = fixture("init\n> web\n> stuck cmdline-hangs")?;
    let name = name(&container);
    let show = || run(&["ps", &name, "-o", "pid,comm,command"]);
    check(wait_until(|| show().err.contains("could not be read in time")), show().err)?;
    let shown = show().expect(0)?;
    check(shown.took < Duration::from_secs(3), format!("{:?}", shown.took))?;
    let line = |comm: &str| {
        shown.out.lines().find(|line| line.contains(comm)).unwrap_or_default().to_owned()
    };
    check(line("stuck").trim_end().ends_with('?'), &shown.out)?;
    check(line("web").ends_with("web"), &shown.out)?;
    // Neither of these needs a command line.
    run(&["ls"]).expect(0)?;
    run(&["signal", &name, "0", "--all"]).expect(0)?;
    Ok(())
}

/// The lookup sleeps where no signal ends it: who waited for it could not be killed.
fn etc_hangs() -> Outcome {
    let container = fixture("init etc-hangs\n> web handle=USR1")?;
    let word = name(&container);
    for _ in 0..2 {
        let shown = run(&["--json", "ps", &word]).expect(0)?;
        let rows = shown.objects();
        check(rows.iter().any(|row| row["pid"] == json!(1)), format!("{rows:?}"))?;
        check(rows.iter().all(|row| row["uid"] == json!(0)), format!("{rows:?}"))?;
    }
    run(&["signal", &word, "USR1", "--comm", "web"]).expect(0)?;
    check(wait_until(|| container.received().len() == 1), "it was not heard")?;
    run(&["ls"]).expect(0).map(drop)
}

fn covered_proc() -> Outcome {
    let container = fixture("init\n> web\n> > worker")?;
    let pid = container.init.to_string();
    let mut mount = Command::new("nsenter");
    mount.args(["-t", &pid, "-m", "--", "mount", "-t", "tmpfs", "none", "/proc"]);
    check(mount.status().is_ok_and(|status| status.success()), "nsenter")?;
    same(run(&["--json", "ps", &name(&container)]).expect(0)?.objects().len(), 3)
}

fn ends() -> Outcome {
    // Started and ended over and over while it is looked at: every answer is one of two.
    for round in 0..20 {
        let container = fixture("init\n> a\n> b")?;
        let word = name(&container);
        let ended = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(round));
            drop(container);
        });
        let shown = run(&["ps", &word]);
        let _ = ended.join();
        is_well_formed(&shown)?;
        check([0, 3].contains(&shown.code), format!("{shown:?}"))?;
    }
    Ok(())
}

fn few_files() -> Outcome {
    let mut lines = "init handle=USR1".to_owned();
    for number in 0..12 {
        lines.push_str(&format!("\n> p{number} handle=USR1"));
    }
    let container = fixture(&lines)?;
    let word = name(&container);
    let mut refused = 0;
    // Each of the 13 is held by a pidfd before the first is signalled.
    for limit in [4, 6, 8, 12, 16, 24, 32, 48] {
        let mut sh = Command::new("sh");
        sh.args(["-c", &format!("ulimit -n {limit}; exec \"$1\" signal \"$2\" USR1 --all"), "sh"]);
        sh.arg(env!("CARGO_BIN_EXE_cinspect")).arg(&word).stdin(Stdio::null());
        let limited = finish(sh);
        is_well_formed(&limited)?;
        check(limited.code != 101 && limited.code != -1, format!("{limited:?}"))?;
        let lines = container.settled();
        if limited.code == 0 {
            check(refused > 0, "4 descriptors were enough: was the limit in force?")?;
            return same((limit, lines.len()), (limit, 13));
        }
        refused += 1;
        same((limit, lines), (limit, Vec::new()))?;
    }
    Err("48 descriptors are not enough to signal 13 processes".into())
}
