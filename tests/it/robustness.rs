//! Bad input and bad conditions: files and processes that are missing, forbidden, forged, or hang. None
//! of them may lead to a panic, a hang, control characters on the terminal, or a row that is silently
//! missing.

use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;

use crate::harness::Container;
use crate::support::{
    Need, Outcome, Run, UnsharedInit, check, cinspect, control_character, finish, fixture, run,
    same, test, test_with, tests_with, unprivileged, wait_until,
};

pub fn trials() -> Vec<Trial> {
    let mut trials = tests_with(
        Need::Root,
        &[
            ("robustness::process_outside_of_every_container", no_container),
            ("robustness::without_root", not_root),
            ("robustness::proc_with_hidepid", hidepid),
            ("robustness::missing_proc_missing_cgroups_and_proc_of_another_namespace", mounts),
            ("robustness::forged_records_of_a_user_give_warnings_only", forged),
            ("robustness::environment_of_root_names_no_record_directory", environment),
            ("robustness::container_with_a_mount_over_proc_is_fully_visible", covered_proc),
        ],
    );
    trials.extend([
        test("robustness::references_without_a_container", references),
        test("robustness::reference_that_is_not_utf8", not_utf8),
        test_with(Need::Namespaces, "robustness::bare_number_is_refused_by_signal", bare_number),
        test_with(Need::Namespaces, "robustness::closed_and_full_streams", streams),
        test_with(
            Need::Fuse,
            "robustness::unreadable_command_line_is_a_question_mark_within_a_second",
            hangs,
        ),
        test_with(Need::Fuse, "robustness::hanging_file_system_costs_only_user_names", etc_hangs),
        test_with(Need::Namespaces, "robustness::container_that_exits_during_a_snapshot", ends),
        test_with(
            Need::Namespaces,
            "robustness::low_descriptor_limit_is_enough_or_nothing_is_sent",
            few_files,
        ),
        test_with(
            Need::Strace,
            "robustness::a_thread_that_cannot_be_started_is_not_a_panic",
            no_threads,
        ),
        test_with(
            Need::Namespaces,
            "robustness::output_that_cannot_be_written_is_an_error",
            full_output,
        ),
    ]);
    trials
}

fn name(container: &Container) -> String {
    format!("pid:{}", container.init)
}

/// Fails if the output breaks a rule that holds for every message.
fn check_format(run: &Run) -> Outcome {
    same(control_character(&run.out), None)?;
    same(control_character(&run.err), None)?;
    check(!run.err.contains("panicked"), &run.err)
}

fn references() -> Outcome {
    let long = "x".repeat(4096);
    for (reference, code) in [
        ("no-such-container", 3),
        ("$(touch /tmp/x)", 3),
        ("../../etc/passwd", 3),
        ("a\nb\x1b[31m", 3),
        ("%s%n", 3),
        (&long, 3),
        ("99999999999999999999", 3),
        ("pid:99999999", 3),
        ("cgroup:/no/such", 3),
        ("docker:missing", 3),
        ("", 2),
        ("pid:x", 2),
        ("pid:-1", 2),
        ("bogus:web", 2),
        ("docker:", 2),
    ] {
        for arguments in [&["ps", reference][..], &["signal", reference, "TERM"]] {
            let run = run(arguments);
            check_format(&run)?;
            check(
                run.code == code,
                format!("{reference:?}: exit status {}: {}", run.code, run.err),
            )?;
            check(run.err.starts_with("cinspect: ") && run.err.contains("\nhint: "), &run.err)?;
        }
    }
    check_format(&run(&["ps", "-9"]).expect(2)?)?;
    check_format(&run(&["ps", "--", "-no-such-container"]).expect(3)?)
}

fn not_utf8() -> Outcome {
    let mut ps = cinspect(&["ps"]);
    ps.arg(std::ffi::OsStr::from_bytes(b"bad\xffname"));
    check_format(&finish(ps).expect(2)?)
}

fn bare_number() -> Outcome {
    let container = fixture("init")?;
    let number = container.init.to_string();
    run(&["ps", &number]).expect(0)?;
    let error = run(&["signal", &number, "0"]).expect(3)?;
    check(error.err.contains(&format!("`pid:{number}`")), error.err)
}

fn no_container() -> Outcome {
    let mut child = Command::new("sleep").arg("1000").spawn()?;
    let reference = format!("pid:{}", child.id());
    let read = run(&["--json", "ps", &reference]);
    let acted = run(&["signal", &reference, "TERM"]);
    let alive = child.try_wait()?.is_none();
    let _ = child.kill();
    let _ = child.wait();
    // A command that only reads takes the PID namespace of the process: that of the host.
    let rows = read.expect(0)?.objects();
    check(
        rows.iter().any(|row| row["pid"] == json!(child.id())),
        "the PID namespace of the host is not shown",
    )?;
    check(
        acted.expect(3)?.err.contains("is not in a container"),
        "the error does not give the reason",
    )?;
    for cgroup in ["cgroup:/", "cgroup:/no/such"] {
        run(&["signal", cgroup, "0", "--all"]).expect(3)?;
    }
    check(alive, "the process was signalled")
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
    for command in
        ["ls", "ps \"$2\"", "signal -l", "--help", "help ps", "--version", "completions bash"]
    {
        let closed = shell(&format!("\"$1\" {command} >&- 2>&-"));
        check([0, 1].contains(&closed.code), format!("{command}: closed: {}", closed.code))?;
        let full = shell(&format!("\"$1\" {command} > /dev/full"));
        check_format(&full)?;
        same((command, full.code), (command, 1))?;
        check(full.err.contains("cannot write to stdout"), &full.err)?;
        let head = shell(&format!(
            "{{ \"$1\" {command}; echo \"status $?\" >&2; }} | head -n 1 > /dev/null"
        ));
        check(!head.err.contains("panicked"), &head.err)?;
        check(head.err.contains("status 0"), format!("{command}: {}", head.err))?;
    }
    Ok(())
}

fn not_root() -> Outcome {
    let container = fixture("init\n> web handle=TERM")?;
    let name = name(&container);
    let ls = unprivileged(&["ls"]).expect(0)?;
    check(ls.err.contains("CAP_SYS_PTRACE"), &ls.err)?;
    check_format(&ls)?;
    let refused = unprivileged(&["signal", &name, "TERM"]);
    check([3, 5].contains(&refused.code), format!("{refused:?}"))?;
    check_format(&refused)?;
    check(refused.err.contains("CAP_"), &refused.err)?;
    // A rehearsal asks the kernel, too.
    let word = container.init.to_string();
    let rehearsed = unprivileged(&["signal", "-n", &format!("pid:{word}"), "TERM"]).expect(5)?;
    check(rehearsed.out.contains("would not be sent"), format!("{rehearsed:?}"))?;
    // Values that cannot be read are not guessed, and a signal that was not sent is not waited for.
    let shown = unprivileged(&["--json", "ps", &container.init.to_string()]).expect(0)?;
    let unknown = |row: &serde_json::Value| row["on_signal"]["verdict"] == json!("unknown");
    check(shown.objects().iter().any(unknown), format!("{shown:?}"))?;
    // A trap that could not be read is not one.
    let shell = UnsharedInit::start(&["sh", "-c", "sleep 1000 & sleep 1001; true"])?;
    let findings =
        unprivileged(&["--json", "doctor", "--exit-zero", &shell.init.to_string()]).expect(0)?;
    let is_unknown = |row: &serde_json::Value| row["code"] == json!("unknown");
    check(findings.objects().iter().any(is_unknown), format!("{findings:?}"))?;
    check(!findings.out.contains("a shell with a trap"), &findings.out)?;
    let stopped = unprivileged(&["stop", "-t", "600s", &name]);
    check([3, 5].contains(&stopped.code), format!("{stopped:?}"))?;
    check(stopped.took < Duration::from_secs(300), "the time was waited for nothing")?;
    same(container.settled(), Vec::new())
}

/// Runs a script in a new mount namespace.
fn in_mount_namespace(script: &str, name: &str) -> Run {
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(env!("CARGO_BIN_EXE_cinspect")).arg(name).stdin(Stdio::null());
    finish(command)
}

fn hidepid() -> Outcome {
    let container = fixture("init\n> web")?;
    let unprivileged = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let copy = "cp \"$1\" /tmp/cinspect-hidepid-$$; chmod 755 /tmp/cinspect-hidepid-$$; trap 'rm /tmp/cinspect-hidepid-$$' EXIT;";
    let mount = "mount -t proc -o hidepid=2 proc /proc";
    let ls = in_mount_namespace(
        &format!("{copy} {mount} && {unprivileged} /tmp/cinspect-hidepid-$$ ls"),
        "",
    );
    check_format(&ls)?;
    check(ls.code == 0 && ls.err.contains("hidepid"), format!("{ls:?}"))?;
    // Root still sees all processes.
    let root =
        in_mount_namespace(&format!("{mount} && \"$1\" --json ps \"$2\""), &name(&container))
            .expect(0)?;
    same(root.objects().len(), 2)
}

fn mounts() -> Outcome {
    let container = fixture("init\n> web handle=TERM")?;
    let name = name(&container);
    let none =
        in_mount_namespace("mount -t tmpfs none /proc && \"$1\" ps \"$2\"", &name).expect(1)?;
    check(none.err.contains("/proc") && none.err.contains("hint: "), &none.err)?;
    let no_cgroups = in_mount_namespace(
        "mount -t tmpfs none /sys/fs/cgroup && \"$1\" --json ps \"$2\" && \"$1\" --json ls",
        &name,
    )
    .expect(0)?;
    check(no_cgroups.err.contains("no cgroup hierarchy"), &no_cgroups.err)?;
    check(no_cgroups.out.lines().count() >= 3, &no_cgroups.out)?;
    // In a new PID namespace with the host's /proc, whose PIDs are of another namespace.
    let other = in_mount_namespace("unshare -pf \"$1\" signal \"$2\" TERM", &name).expect(5)?;
    check(
        other.err.contains("another PID namespace") && other.err.contains("--pid=host"),
        &other.err,
    )?;
    same(container.settled(), Vec::new())
}

/// A user's directory of records; dropping it removes it.
struct Records(&'static str);

impl Records {
    const UID: u32 = 61234;

    fn new() -> Result<Self, String> {
        let dir = "/run/user/61234";
        let _ = std::fs::remove_dir_all(dir);
        for name in ["liar", "pipe", "link", "huge", "deep"] {
            std::fs::create_dir_all(format!("{dir}/runc/{name}")).map_err(|e| e.to_string())?;
        }
        Ok(Self(dir))
    }

    fn chown(&self) {
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
    nix::unistd::mkfifo(file("pipe").as_str(), nix::sys::stat::Mode::S_IRWXU)?;
    std::os::unix::fs::symlink("/etc/shadow", file("link"))?;
    write("huge", "")?;
    let huge = std::fs::OpenOptions::new().write(true).open(file("huge"))?;
    huge.set_len(1 << 30)?;
    write("deep", &"[".repeat(1_000_000))?;
    records.chown();
    let ls = run(&["--json", "ls"]).expect(0)?;
    check(ls.took < Duration::from_secs(60), format!("{:?}", ls.took))?;
    check_format(&ls)?;
    check(!ls.objects().iter().any(|row| row["id"] == "liar"), "a forged record is in the list")?;
    check(ls.err.contains("user 61234 owns the record"), &ls.err)?;
    for name in ["pipe", "link", "huge", "deep"] {
        check(
            ls.err.contains(&format!("runc/{name}/state.json")),
            format!("no warning about {name}: {}", ls.err),
        )?;
    }
    check(!ls.err.contains("root:") && !ls.err.contains("[["), "the content of a file is printed")?;
    run(&["signal", "runc:liar", "TERM"]).expect(3)?;
    run(&["signal", "liar", "TERM"]).expect(3)?;
    same(container.settled(), Vec::new())
}

fn environment() -> Outcome {
    let evil = std::env::temp_dir().join(format!("cinspect-evil-{}", std::process::id()));
    let container = fixture("init")?;
    std::fs::create_dir_all(evil.join("runc/evil"))?;
    let state = json!({"id": "evil", "init_process_pid": container.init, "init_process_start": 0, "cgroup_paths": {}});
    std::fs::write(evil.join("runc/evil/state.json"), state.to_string())?;
    let mut ls = cinspect(&["--json", "ls"]);
    ls.env("XDG_RUNTIME_DIR", &evil).env("HOME", &evil);
    let rows = finish(ls).expect(0)?.objects();
    let _ = std::fs::remove_dir_all(&evil);
    check(
        !rows.iter().any(|row| row["id"] == "evil"),
        "a record directory from the environment was used",
    )
}

fn hangs() -> Outcome {
    let container = fixture("init\n> web\n> stuck cmdline-hangs")?;
    let name = name(&container);
    let show = || run(&["ps", &name, "-o", "pid,comm,command"]);
    check(wait_until(|| show().err.contains("could not be read, or not in time")), show().err)?;
    let shown = show().expect(0)?;
    // (It would hang forever.)
    check(shown.took < Duration::from_secs(60), format!("{:?}", shown.took))?;
    let line = |comm: &str| {
        shown.out.lines().find(|line| line.contains(comm)).unwrap_or_default().to_owned()
    };
    check(line("stuck").trim_end().ends_with('?'), &shown.out)?;
    check(line("web").ends_with("web"), &shown.out)?;
    // These commands do not read command lines.
    run(&["ls"]).expect(0)?;
    run(&["signal", &name, "0", "--all"]).expect(0)?;
    Ok(())
}

/// The lookup sleeps uninterruptibly: a process that waits for it could not be killed.
fn etc_hangs() -> Outcome {
    let container = fixture("init etc-hangs\n> web handle=USR1")?;
    let reference = name(&container);
    for _ in 0..2 {
        let shown = run(&["--json", "ps", &reference]).expect(0)?;
        let rows = shown.objects();
        check(rows.iter().any(|row| row["pid"] == json!(1)), format!("{rows:?}"))?;
        check(rows.iter().all(|row| row["uid"] == json!(0)), format!("{rows:?}"))?;
    }
    run(&["signal", &reference, "USR1", "--comm", "web"]).expect(0)?;
    check(wait_until(|| container.received().len() == 1), "web did not get the signal")?;
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
    // The delay before the container exits is the subject: every round hits another moment of the command.
    for round in 0..20 {
        let container = fixture("init\n> a\n> b")?;
        let reference = name(&container);
        let exit = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(round));
            drop(container);
        });
        let shown = run(&["ps", &reference]);
        let _ = exit.join();
        check_format(&shown)?;
        check([0, 3].contains(&shown.code), format!("{shown:?}"))?;
    }
    Ok(())
}

fn few_files() -> Outcome {
    let mut lines = "init handle=USR1".to_owned();
    for index in 0..12 {
        lines.push_str(&format!("\n> p{index} handle=USR1"));
    }
    let container = fixture(&lines)?;
    let reference = name(&container);
    // A pidfd of each of the 13 is open before the first is signalled.
    for (refused, limit) in [4, 6, 8, 12, 16, 24, 32, 48].into_iter().enumerate() {
        let mut sh = Command::new("sh");
        sh.args(["-c", &format!("ulimit -n {limit}; exec \"$1\" signal \"$2\" USR1 --all"), "sh"]);
        sh.arg(env!("CARGO_BIN_EXE_cinspect")).arg(&reference).stdin(Stdio::null());
        let limited = finish(sh);
        check_format(&limited)?;
        check(limited.code != 101 && limited.code != -1, format!("{limited:?}"))?;
        let lines = container.settled();
        if limited.code == 0 {
            check(refused > 0, "4 descriptors were enough: was the limit in force?")?;
            return same((limit, lines.len()), (limit, 13));
        }
        same((limit, lines), (limit, Vec::new()))?;
    }
    Err("48 descriptors are not enough to signal 13 processes".into())
}

/// Runs cinspect where no thread can be made.
fn without_threads(arguments: &[&str]) -> Run {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=clone3"]);
    strace.args(["-e", "inject=clone3:error=EAGAIN", env!("CARGO_BIN_EXE_cinspect")]);
    strace.args(arguments).stdin(Stdio::null());
    finish(strace)
}

fn no_threads() -> Outcome {
    let (first, second) = (fixture("init exits-on=TERM")?, fixture("init exits-on=TERM")?);
    let names = [name(&first), name(&second)];
    for arguments in
        [&["ls"][..], &["ps", &names[0]], &["doctor", "--exit-zero"], &["stop", "-n", &names[0]]]
    {
        let limited = without_threads(arguments);
        check_format(&limited)?;
        same((arguments, limited.code), (arguments, 0))?;
    }
    let dir = tempfile::tempdir()?;
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    std::fs::create_dir(&from)?;
    for number in 0..100 {
        std::fs::write(from.join(number.to_string()), number.to_string())?;
    }
    let copied = format!("{}:{}", names[0], to.display());
    without_threads(&["cp", &from.display().to_string(), &copied]).expect(0)?;
    same(std::fs::read_to_string(to.join("99"))?, "99".to_owned())?;
    // Two stops need a thread each: neither is begun by halves.
    let both = without_threads(&["stop", &names[0], &names[1]]).expect(1)?;
    check_format(&both)?;
    check(both.err.contains("cannot start a thread"), &both.err)?;
    check(first.host_pids().len() == 1 && second.host_pids().len() == 1, "one was stopped")?;
    without_threads(&["stop", &names[0]]).expect(0).map(drop)
}

fn full_output() -> Outcome {
    let container = fixture("init exits-on=TERM")?;
    let reference = name(&container);
    for arguments in [
        &["ls"][..],
        &["ps", &reference],
        &["doctor", "--exit-zero", &reference],
        &["stop", "-n", &reference],
        &["--json", "stop", "-n", &reference],
        &["stop", &reference],
    ] {
        let mut command = cinspect(arguments);
        command.stdout(std::fs::File::create("/dev/full")?).stderr(Stdio::piped());
        let output = command.spawn()?.wait_with_output()?;
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        same((arguments, output.status.code()), (arguments, Some(1)))?;
        check(err.contains("cannot write to stdout: No space left on device"), err)?;
    }
    // The stop itself goes on.
    check(container.wait_for_exit("init"), "it was not stopped")
}
