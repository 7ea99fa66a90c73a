//! `exec` into the harness's containers: streams, signals, terminals, and what a container or a caller
//! may have prepared for it.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use crate::harness::Container;
use crate::support::{
    Need, Outcome, Run, check, cinspect, finish, fixture, run, same, test_with, wait_until, within,
};
use crate::terminal::Terminal;

pub fn trials() -> Vec<Trial> {
    let with = |name, run: fn() -> Outcome| test_with(Need::Namespaces, name, run);
    let root = |name, run: fn() -> Outcome| test_with(Need::Root, name, run);
    vec![
        with("exec::runs_a_command_with_its_streams_and_status", plain),
        with("exec::a_hundred_megabytes_go_both_ways", bytes),
        with("exec::signals_are_passed_on", signals),
        with("exec::without_us_the_command_is_told_to_go", orphan),
        with("exec::what_stays_in_the_background_is_not_waited_for", background),
        with("exec::who_reads_no_more_is_noticed", reader_gone),
        with("exec::who_reads_slowly_gets_all_of_it", slow_reader),
        with("exec::what_is_not_read_of_a_file_is_left_to_others", loops),
        with("exec::namespaces_are_chosen", namespaces),
        with("exec::has_a_terminal_of_its_own", terminal),
        with("exec::our_terminal_is_put_back_when_we_are_killed", guarded),
        with("exec::a_terminal_can_be_forced_and_refused", forced),
        with("exec::wrong_words_are_told", usage),
        with("exec::an_init_that_is_stopped_is_no_hindrance", stopped),
        root("exec::an_init_whose_main_thread_has_left_is_entered_by_another", left),
        root("exec::nothing_of_the_caller_goes_in", caller),
        root("exec::our_terminal_does_not_go_in", not_ours),
        root("exec::a_folder_of_the_callers_is_no_way_out", folder),
        root("exec::a_covered_proc_is_not_believed", covered),
        root("exec::a_terminal_is_made_where_there_is_no_devpts", no_devpts),
        root("exec::a_files_of_users_that_is_none_does_no_harm", accounts),
        root("exec::a_file_system_that_hangs_is_given_up", hangs),
        root("exec::what_is_traced_keeps_its_tracer", traced),
        root("exec::too_few_descriptors_are_told", few),
        root("exec::no_other_command_runs_a_program_or_goes_in", others),
    ]
}

fn name(container: &Container) -> String {
    format!("pid:{}", container.init)
}

fn exec(container: &Container, arguments: &[&str]) -> Run {
    let name = name(container);
    let mut all = vec!["exec"];
    // Options first, then the container, then the command.
    let at = arguments.iter().position(|word| *word == "--").unwrap_or(0);
    all.extend(&arguments[..at]);
    all.push(&name);
    all.extend(&arguments[at..]);
    run(&all)
}

fn sh(container: &Container, script: &str) -> Run {
    exec(container, &["--", "sh", "-c", script])
}

fn plain() -> Outcome {
    let container = fixture("init")?;
    let done = sh(&container, "echo out; echo err >&2; exit 3").expect(3)?;
    same((done.out.as_str(), done.err.ends_with("err\n")), ("out\n", true))?;
    sh(&container, "kill -KILL $$").expect(137)?;
    sh(&container, "kill -SEGV $$").expect(139)?;
    let inside = sh(&container, "readlink /proc/self/ns/pid; echo $PPID").expect(0)?;
    let init = std::fs::read_link(format!("/proc/{}/ns/pid", container.init));
    let init = init.map_err(|error| error.to_string())?.to_string_lossy().into_owned();
    same(inside.out.lines().collect::<Vec<_>>(), vec![init.as_str(), "0"])?;
    // Left alone it goes on.
    let left = exec(&container, &["-d", "--", "sleep", "60"]).expect(0)?;
    let rows = run(&["--json", "ps", &name(&container)]).expect(0)?.objects();
    let pid = left.out.split(' ').next().unwrap_or_default().to_owned();
    check(
        rows.iter().any(|row| row["pid"].as_i64() == pid.parse().ok() && row["comm"] == "sleep"),
        pid,
    )
}

fn bytes() -> Outcome {
    let container = fixture("init")?;
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (there, back) = (dir.path().join("there"), dir.path().join("back"));
    // Every byte, and no order that a terminal would like.
    let mut all: Vec<u8> =
        (0..100_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    all.extend(b"\x04\x03\x1a\r\n\0");
    std::fs::write(&there, &all).map_err(|error| error.to_string())?;
    let open = |path: &Path| File::open(path).map_err(|error| error.to_string());
    // From and to files, which go through us, and through pipes, which do not.
    let mut command = cinspect(&["exec", &name(&container), "cat"]);
    command.stdin(open(&there)?);
    command.stdout(File::create(&back).map_err(|error| error.to_string())?);
    check(command.status().is_ok_and(|status| status.success()), "cat failed")?;
    check(std::fs::read(&back).is_ok_and(|read| read == all), "not the same bytes through files")?;
    let script = "cat \"$1\" | \"$2\" exec \"$3\" cat | cat > \"$4\"";
    let mut piped = Command::new("sh");
    piped.args(["-c", script, "sh"]).arg(&there).arg(env!("CARGO_BIN_EXE_cinspect"));
    piped.arg(name(&container)).arg(&back).stdin(Stdio::null());
    finish(piped).expect(0)?;
    check(std::fs::read(&back).is_ok_and(|read| read == all), "not the same bytes through pipes")
}

/// Starts one in the background, and waits until its command has written a line.
fn begin(container: &Container, script: &str) -> Result<(std::process::Child, String), Failed> {
    use std::io::BufRead;
    let mut command = cinspect(&["exec", &name(container), "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    let mut line = String::new();
    let mut reader = std::io::BufReader::new(stdout);
    reader.read_line(&mut line).map_err(|error| error.to_string())?;
    // (Whoever closes the pipe ends who writes there.)
    std::mem::forget(reader);
    Ok((child, line.trim().to_owned()))
}

fn kill(pid: u32, signal: &str) -> Outcome {
    let sent = Command::new("kill").args([signal, &pid.to_string()]).status();
    check(sent.is_ok_and(|status| status.success()), "kill")
}

fn signals() -> Outcome {
    let container = fixture("init")?;
    for (signal, status) in [("TERM", 9), ("HUP", 9), ("USR1", 9), ("INT", 9), ("QUIT", 9)] {
        let script = format!("trap 'exit 9' {signal}; echo ready; while :; do sleep 0.05; done");
        let (mut child, _) = begin(&container, &script)?;
        kill(child.id(), &format!("-{signal}"))?;
        let ended = child.wait().map_err(|error| error.to_string())?;
        same((signal, ended.code()), (signal, Some(status)))?;
    }
    // One that it does not handle ends it, and that is what we tell.
    let (mut child, _) = begin(&container, "echo ready; exec sleep 100")?;
    std::thread::sleep(Duration::from_millis(100));
    kill(child.id(), "-TERM")?;
    let ended = child.wait().map_err(|error| error.to_string())?;
    same((ended.code(), ended.signal()), (Some(143), None))
}

fn orphan() -> Outcome {
    let container = fixture("init")?;
    let (mut child, pid) = begin(&container, "echo $$; exec sleep 100")?;
    kill(child.id(), "-KILL")?;
    let _ = child.wait();
    let there = || {
        let rows = run(&["--json", "ps", &name(&container)]).objects();
        rows.iter().any(|row| row["pid"].as_i64() == pid.parse().ok() && row["state"] != "Z")
    };
    check(wait_until(|| !there()), "it goes on without us")
}

fn background() -> Outcome {
    let container = fixture("init")?;
    let done = sh(&container, "sleep 1000 & echo said; exit 3").expect(3)?;
    same(done.out.as_str(), "said\n")?;
    check(done.took < Duration::from_secs(5), "the background was waited for")
}

/// A loop over the lines of a file, with a command in it that does not read.
fn loops() -> Outcome {
    let container = fixture("init")?;
    let script = "printf 'a\\nb\\nc\\n' > \"$3\"; while read -r line; do \"$1\" exec \"$2\" echo \"$line\"; done < \"$3\"; \
        { \"$1\" exec \"$2\" head -n 1; cat; } < \"$3\"";
    let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    let mut command = Command::new("bash");
    command.args(["-c", script, "bash", env!("CARGO_BIN_EXE_cinspect"), &name(&container)]);
    let said = finish({
        command.arg(file.path()).stdin(Stdio::null());
        command
    });
    // (head itself reads more than it shows, of a pipe.)
    same(said.expect(0)?.out.as_str(), "a\nb\nc\na\n")
}

/// Whoever reads slowly gets all of it, though the command has long ended.
fn slow_reader() -> Outcome {
    let container = fixture("init")?;
    let script = "\"$1\" exec \"$2\" -- head -c 120000 /dev/zero | { sleep 2.5; wc -c; }";
    for _ in 0..3 {
        let mut piped = Command::new("sh");
        piped.args(["-c", script, "sh", env!("CARGO_BIN_EXE_cinspect"), &name(&container)]);
        same(finish(piped).expect(0)?.out.trim(), "120000")?;
    }
    Ok(())
}

fn reader_gone() -> Outcome {
    let container = fixture("init")?;
    let script = "\"$1\" exec \"$2\" yes | head -n 1; echo \"${PIPESTATUS[0]}\"";
    let mut piped = Command::new("bash");
    piped.args(["-c", script, "bash", env!("CARGO_BIN_EXE_cinspect"), &name(&container)]);
    same(finish(piped).expect(0)?.out.as_str(), "y\n141\n")
}

fn namespaces() -> Outcome {
    let container = fixture("init")?;
    let link = |pid: &str, kind: &str| {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}"));
        link.map(|link| link.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let init = container.init.to_string();
    let root = nix::unistd::geteuid().is_root();
    for kind in ["uts", "ipc", "mnt"] {
        // Whoever is not root needs the rights of its user namespace.
        let only = if root { kind.to_owned() } else { format!("user,{kind}") };
        let script = format!("readlink /proc/$$/ns/{kind}");
        let one = exec(&container, &["--ns", &only, "--", "sh", "-c", &script]);
        // (Its /proc numbers its own processes, and we are not among them then.)
        if kind != "mnt" {
            same((kind, one.expect(0)?.out.trim()), (kind, link(&init, kind).as_str()))?;
        }
        let script = format!("readlink /proc/self/ns/{kind}");
        let but = exec(&container, &["--skip", kind, "--", "sh", "-c", &script]).expect(0)?;
        // (The host's tools have a copy of the host's mounts, with a /proc of their own.)
        let (own, inside) = (link("self", kind), link(&init, kind));
        let is = if kind == "mnt" { but.out.trim() != inside } else { but.out.trim() == own };
        check(is, format!("{kind}: {}, and {own} here", but.out))?;
    }
    // With the host's tools its processes have the numbers they have inside.
    let ps =
        exec(&container, &["--skip", "mnt", "--", "ps", "-e", "-o", "pid=,comm="]).expect(0)?;
    same(ps.out.lines().next().map(str::trim), Some("1 init"))
}

fn terminal() -> Outcome {
    let container = fixture("init")?;
    let program = env!("CARGO_BIN_EXE_cinspect");
    let mut terminal = Terminal::start(&[program, "exec", &name(&container), "sh", "-i"])?;
    // (Inside everybody is root.)
    let prompt = "# ";
    terminal.wait_for(prompt)?;
    terminal.type_in("tty; stty size; echo $TERM\r")?;
    let said = terminal.wait_for("vt100\r\n")?;
    check(said.contains("/dev/pts/") && said.contains("24 80"), &said)?;
    check(!terminal.is_sane(), "ours is not raw")?;
    terminal.type_in("sleep 100; echo st=$?\r")?;
    std::thread::sleep(Duration::from_millis(400));
    terminal.type_in("\x03")?;
    terminal.wait_for("^C")?;
    terminal.wait_for(prompt)?;
    terminal.type_in("sleep 101\r")?;
    std::thread::sleep(Duration::from_millis(400));
    terminal.type_in("\x1a")?;
    terminal.wait_for("Stopped")?;
    terminal.type_in("kill %1; fg\r")?;
    terminal.wait_for("sleep 101")?;
    terminal.resize(50, 132);
    std::thread::sleep(Duration::from_millis(300));
    terminal.type_in("stty size\r")?;
    terminal.wait_for("50 132")?;
    terminal.type_in("exit 5\r")?;
    let mut status = None;
    let ended = wait_until(|| {
        status = terminal.child.try_wait().ok().flatten();
        status.is_some()
    });
    check(ended, "it does not end")?;
    same(status.and_then(|status| status.code()), Some(5))?;
    check(terminal.is_sane(), "ours is not as it was")
}

fn guarded() -> Outcome {
    let container = fixture("init")?;
    let program = env!("CARGO_BIN_EXE_cinspect");
    // A shell that puts nothing back by itself is outside.
    let script = format!("{program} exec {} sh -i; echo after; sleep 60", name(&container));
    let mut terminal = Terminal::start(&["dash", "-c", &script])?;
    terminal.wait_for("# ")?;
    check(!terminal.is_sane(), "ours is not raw")?;
    let own = format!("{program} exec {}", name(&container));
    let mut killer = Command::new("pkill");
    killer.args(["-KILL", "-o", "-f", &format!("^{own}")]);
    finish(killer).expect(0)?;
    check(wait_until(|| terminal.is_sane()), "the terminal is left raw")?;
    terminal.wait_for("after").map(drop)
}

fn forced() -> Outcome {
    let container = fixture("init")?;
    let tty = exec(&container, &["-t", "--", "tty"]).expect(0)?;
    check(tty.out.contains("/dev/pts/"), &tty.out)?;
    let program = env!("CARGO_BIN_EXE_cinspect");
    let script = format!("{program} exec -T {} tty; echo st=$?", name(&container));
    let mut terminal = Terminal::start(&["sh", "-c", &script])?;
    let said = terminal.wait_for("st=")?;
    check(said.contains("not a tty"), said)
}

fn usage() -> Outcome {
    let container = fixture("init")?;
    for (words, status, hint) in [
        (&["-t", "-d", "--", "id"][..], 2, "cannot be used with"),
        (&["--ns", "nonsense", "--", "id"], 2, "user, mnt, uts"),
        (&["-u", "", "--", "id"], 2, "empty user or group name"),
        (&["-u", "4294967296", "--", "id"], 2, "out of range"),
        (&["-u", "+0", "--", "id"], 125, "no user `+0`"),
        (&["-u", "0x0", "--", "id"], 125, "no user `0x0`"),
        (&["-u", "root:nogroup-of-that-name", "--", "id"], 125, "no group"),
        (&["--skip", "mnt", "-u", "root", "--", "id"], 125, "IDs only"),
        (&["--pid", "4000000", "--", "id"], 125, "no process"),
        (&["--env-file", "/nonexistent", "--", "id"], 2, "cannot read"),
        (&["-w", "/etc/passwd", "--", "id"], 125, "Not a directory"),
        (&["--", "nosuch-program"], 127, "not found in the container's PATH"),
        (&["--", "/nosuch/program"], 127, "not found in the container"),
        (&["--", "/etc"], 126, "Permission denied"),
    ] {
        let said = exec(&container, words).expect(status)?;
        check(said.err.contains(hint), format!("{words:?}: {}", said.err))?;
    }
    run(&["exec", "no-such-container", "id"]).expect(125).map(drop)
}

fn stopped() -> Outcome {
    let container = fixture("init")?;
    kill(container.init.unsigned_abs(), "-STOP")?;
    let done = exec(&container, &["--strict", "--", "echo", "in"]);
    kill(container.init.unsigned_abs(), "-CONT")?;
    same(done.expect(0)?.out.as_str(), "in\n")
}

fn left() -> Outcome {
    let container = fixture("init main-leaves")?;
    let done = sh(&container, "readlink /proc/self/ns/uts").expect(0)?;
    let tasks = std::fs::read_dir(format!("/proc/{}/task", container.init));
    let tasks = tasks.map_err(|error| error.to_string())?;
    let links: Vec<String> = tasks
        .flatten()
        .filter_map(|task| std::fs::read_link(task.path().join("ns/uts")).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    check(links.contains(&done.out.trim().to_owned()), format!("{links:?} {}", done.out))
}

/// What a caller's session may have: a umask, limits, ignored signals, descriptors, variables, keys.
fn caller() -> Outcome {
    let container = fixture("init")?;
    let script = "umask 000; trap '' PIPE INT USR1; export SECRET=1 LD_PRELOAD=; cd /tmp; exec 7< / 8< /etc/passwd; \
        exec nice -n 5 \"$1\" exec \"$2\" -- sh -c \
        'umask; grep -E \"Sig(Blk|Ign)\" /proc/self/status; nice; ls /proc/$$/fd; env; pwd'";
    // A key in our session's keyring (add_key(2)), which whoever we start would have.
    let key = "import ctypes,os,sys
if ctypes.CDLL(None, use_errno=True).syscall(KEY, b'user', b'cit-key', b'v', 1, -3) < 0: sys.exit('no key')
os.execvp(sys.argv[1], sys.argv[1:])";
    let key = key.replace("KEY", &nix::libc::SYS_add_key.to_string());
    let with_key = |argv: &[&str]| {
        let mut command = Command::new("python3");
        command.args(["-c", &key]).args(argv).stdin(Stdio::null());
        finish(command)
    };
    // Whoever has our keyring finds it there (keyctl(2), KEYCTL_SEARCH in the session's).
    let search = "import ctypes
print(ctypes.CDLL(None).syscall(KEYCTL, 10, -3, b'user', b'cit-key', 0) > 0)";
    let search = search.replace("KEYCTL", &nix::libc::SYS_keyctl.to_string());
    same(with_key(&["python3", "-c", &search]).expect(0)?.out.as_str(), "True\n")?;
    let program = env!("CARGO_BIN_EXE_cinspect");
    let inside = with_key(&[program, "exec", &name(&container), "--", "python3", "-c", &search]);
    same(inside.expect(0)?.out.as_str(), "False\n")?;
    let said = with_key(&["sh", "-c", script, "sh", program, &name(&container)]).expect(0)?;
    let lines: Vec<&str> = said.out.lines().collect();
    let umask = std::fs::read_to_string(format!("/proc/{}/status", container.init));
    let umask = umask.unwrap_or_default();
    let umask = umask.lines().find_map(|line| line.strip_prefix("Umask:\t")).unwrap_or_default();
    same(lines[0], umask)?;
    same(lines[1..3].to_vec(), vec!["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"])?;
    same(lines[3], "0")?;
    // (The shell has its script nowhere, and lists itself by another process.)
    same(lines[4..7].to_vec(), vec!["0", "1", "2"])?;
    check(!said.out.contains("SECRET") && lines[7].parse::<u8>().is_err(), &said.out)?;
    Ok(())
}

/// What it has for a terminal is another one than ours, and without one it has pipes: nothing it does
/// to its own reaches us (TIOCSTI).
fn not_ours() -> Outcome {
    let container = fixture("init")?;
    let program = env!("CARGO_BIN_EXE_cinspect");
    let stuff = "import fcntl,sys
for fd in 0,1,2:
    for c in b'echo TYPED-BY-IT\\n':
        try: fcntl.ioctl(fd, 0x5412, bytes([c]))
        except OSError: pass
";
    let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    std::fs::write(file.path(), stuff).map_err(|error| error.to_string())?;
    let (file, name) = (file.path().display(), name(&container));
    for option in ["-t", "-T"] {
        let stat = "stat -L -c %Hr:%Lr /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2";
        let script = format!(
            "{program} exec {option} {name} -- sh -c 'python3 {file}; {stat}; echo in-end'; echo out-end"
        );
        let mut terminal = Terminal::start(&["sh", "-c", &script])?;
        let own = terminal.device;
        let own = format!("{}:{}", nix::sys::stat::major(own), nix::sys::stat::minor(own));
        let said = terminal.wait_for("in-end\r\n")?;
        check(!said.lines().any(|line| line == own), format!("{option}: our own {own}: {said}"))?;
        terminal.wait_for("out-end")?;
        // A shell outside would run what was typed for it.
        let mut outer = Terminal::start(&["sh", "-i"])?;
        outer.wait_for("out> ")?;
        outer.type_in(&format!("{program} exec {option} {name} python3 {file}\r"))?;
        outer.wait_for("out> ")?;
        outer.type_in("echo the-\"\"end\r")?;
        let said = outer.wait_for("the-end")?;
        check(!said.lines().any(|line| line.trim() == "TYPED-BY-IT"), said)?;
    }
    Ok(())
}

/// CVE-2024-21626: a descriptor that stayed open, as working directory.
fn folder() -> Outcome {
    let container = fixture("init")?;
    for way in ["/proc/self/fd/7", "/proc/self/cwd", "/proc/1/cwd/../../..", "/proc/self/fd/8"] {
        let script = "exec 7< / 8< /root; exec \"$1\" exec -w \"$3\" \"$2\" -- pwd -P";
        let mut command = Command::new("sh");
        let program = env!("CARGO_BIN_EXE_cinspect");
        command.args(["-c", script, "sh", program, &name(&container), way]);
        command.stdin(Stdio::null());
        finish(command).expect(125)?;
    }
    Ok(())
}

/// Once it has joined the mounts, nothing of ours opens a path below `/proc`, `/sys` or `/dev`.
fn covered() -> Outcome {
    let container = fixture("init")?;
    within(
        &container,
        "mount -t tmpfs none /proc; mkdir -p /proc/self/attr /proc/self/fd; echo fake > /proc/self/status; : > /proc/self/attr/exec",
    )?;
    let log = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-e", "trace=openat,openat2,setns,execve,execveat", "-o"]);
    traced.arg(log.path()).arg(env!("CARGO_BIN_EXE_cinspect"));
    traced.args(["exec", "--strict", &name(&container), "cat", "/proc/self/status"]);
    let done = finish(traced);
    let text = std::fs::read_to_string(log.path()).unwrap_or_default();
    // A tracer is a hindrance of its own where there is a filter; here there is none.
    same(done.expect(0)?.out.as_str(), "fake\n")?;
    let helper = text.lines().find(|line| line.contains("setns(")).ok_or("no setns")?;
    let helper = helper.split(' ').next().unwrap_or_default();
    let after = text
        .lines()
        .filter(|line| line.starts_with(helper))
        .skip_while(|line| !line.contains("setns("));
    // Beneath its root the files of its users, and of ours what was held before.
    let ours = ["\"etc/passwd\"", "\"etc/group\"", "\"self/"];
    let opened: Vec<&str> = after
        .filter(|line| line.contains("openat"))
        .filter(|line| !ours.iter().any(|path| line.contains(path)))
        .collect();
    check(opened.is_empty(), format!("{opened:?}"))
}

fn no_devpts() -> Outcome {
    let container = fixture("init")?;
    within(
        &container,
        "mount -t tmpfs none /dev/pts; ln -s /tmp/cinspect-nothing-there /dev/pts/ptmx",
    )?;
    let done = exec(&container, &["-t", "--", "stty", "size"]).expect(0)?;
    check(done.err.contains("no devpts of its own"), &done.err)?;
    check(done.out.contains("24 80"), &done.out)?;
    exec(&container, &["-t", "--strict", "--", "true"]).expect(125)?;
    check(!Path::new("/tmp/cinspect-nothing-there").exists(), "something was made outside")
}

/// No file, a link to a device, too large, lines that would make somebody root.
fn accounts() -> Outcome {
    let files = [
        ("mkfifo /run/p", true),
        ("ln -s /dev/zero /run/p", true),
        ("mkdir /run/p", true),
        ("head -c 3000000 /dev/zero | tr '\\0' 'a' > /run/p", true),
        (
            "printf '1000:x:0:0::/root:/bin/sh\\nbig:x:4294967296:0::/:\\nneg:x:-1:0::/:\\nok:x:7:8::/:/bin/sh\\n' > /run/p",
            false,
        ),
    ];
    for (make, is_none) in files {
        let container = fixture("init")?;
        // Over the folder, since not everything can be mounted over a file.
        let script = format!(
            "mount -t tmpfs none /run; {make}; cp -a /etc /run/etc; rm /run/etc/passwd; mv /run/p /run/etc/passwd; mount --bind /run/etc /etc"
        );
        within(&container, &script)?;
        let id = |user: &str| exec(&container, &["-u", user, "--", "id", "-u"]);
        let begun = Instant::now();
        same(id("1000").expect(0)?.out.trim(), "1000")?;
        for user in ["big", "neg"] {
            id(user).expect(125)?;
        }
        let ok = id("ok");
        if is_none {
            ok.expect(125)?;
        } else {
            same(ok.expect(0)?.out.trim(), "7")?;
        }
        check(begun.elapsed() < Duration::from_secs(8), format!("{make}: it took too long"))?;
    }
    Ok(())
}

fn hangs() -> Outcome {
    let container = fixture("init etc-hangs")?;
    let begun = Instant::now();
    let done = exec(&container, &["-u", "web", "--", "id"]).expect(125)?;
    check(done.err.contains("does not respond"), &done.err)?;
    check(begun.elapsed() < Duration::from_secs(20), "it took too long")
}

/// A filter is read by tracing: where somebody else traces, that is said, and nothing is disturbed.
fn traced() -> Outcome {
    let container = fixture("init")?;
    let pid = nix::unistd::Pid::from_raw(container.init);
    nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty())
        .map_err(|errno| errno.to_string())?;
    exec(&container, &["--strict", "--", "true"]).expect(0)?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    check(!status.contains("TracerPid:\t0\n"), "its tracer has gone")
}

/// Who only looks or signals starts no program, joins no namespace (CVE-2022-1227).
fn others() -> Outcome {
    let container = fixture("init leaves-on=TERM")?;
    let name = name(&container);
    for words in [
        &["ls"][..],
        &["ps", &name],
        &["signals", &name],
        &["doctor", &name],
        &["signal", &name, "0"],
        &["stop", &name],
    ] {
        let log = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
        let mut traced = Command::new("strace");
        traced.args(["-f", "-qq", "-e", "trace=execve,execveat,setns,chroot", "-o"]);
        traced.arg(log.path()).arg(env!("CARGO_BIN_EXE_cinspect")).args(words);
        finish(traced).expect(0)?;
        let text = std::fs::read_to_string(log.path()).unwrap_or_default();
        let calls: Vec<&str> = text.lines().filter(|line| line.contains('(')).collect();
        check(calls.len() == 1 && calls[0].contains("execve("), format!("{words:?}: {text}"))?;
    }
    Ok(())
}

fn few() -> Outcome {
    let container = fixture("init")?;
    for many in ["6", "8", "12", "16", "20", "24"] {
        let script = "ulimit -n \"$3\"; exec \"$1\" exec \"$2\" echo in";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_cinspect"), &name(&container), many]);
        let done = finish(command);
        // All of it, or a failure that is told.
        let good = done.code == 0 && done.out == "in\n";
        check(
            good || (done.code == 125 && done.out.is_empty() && done.err.starts_with("cinspect: ")),
            format!("{many}: {done:?}"),
        )?;
    }
    Ok(())
}
