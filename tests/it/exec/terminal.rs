//! Terminals of `exec`: the command's own, cinspect's in raw mode, and restoring that.

use std::process::Command;

use libtest_mimic::Trial;

use super::{PROGRAM, exec, name, wait_for_command};
use crate::support::{Need, Outcome, check, finish, fixture, same, test_with, wait_until, within};
use crate::terminal::Terminal;

pub fn trials() -> Vec<Trial> {
    let test = |name, run: fn() -> Outcome| test_with(Need::Namespaces, name, run);
    let root = |name, run: fn() -> Outcome| test_with(Need::Root, name, run);
    vec![
        test("exec::allocates_a_terminal_for_the_command", allocated),
        test("exec::a_terminal_can_be_forced_and_refused", forced),
        test("exec::the_terminal_is_restored_when_cinspect_is_killed", restored),
        root("exec::the_callers_terminal_stays_outside", stays_outside),
        root("exec::uses_a_terminal_of_the_host_without_devpts", no_devpts),
    ]
}

fn allocated() -> Outcome {
    let container = fixture("init")?;
    let mut terminal = Terminal::start(&[PROGRAM, "exec", &name(&container), "sh", "-i"])?;
    // (In the container every user is root.)
    let prompt = "# ";
    terminal.wait_for(prompt)?;
    terminal.type_in("tty; stty size; echo $TERM\r")?;
    let printed = terminal.wait_for("vt100\r\n")?;
    check(printed.contains("/dev/pts/") && printed.contains("24 80"), &printed)?;
    check(!terminal.is_sane(), "the caller's terminal is not raw")?;
    terminal.type_in("sleep 1000; echo st=$?\r")?;
    wait_for_command(&container, &["sleep", "1000"])?;
    terminal.type_in("\x03")?;
    terminal.wait_for("^C")?;
    terminal.wait_for(prompt)?;
    terminal.type_in("sleep 1001\r")?;
    wait_for_command(&container, &["sleep", "1001"])?;
    terminal.type_in("\x1a")?;
    terminal.wait_for("Stopped")?;
    terminal.type_in("kill %1; fg\r")?;
    terminal.wait_for("sleep 1001")?;
    terminal.resize(50, 132);
    terminal.type_in("until stty size | grep '50 132'; do sleep 0.05; done; echo re''sized\r")?;
    terminal.wait_for("resized")?;
    terminal.type_in("exit 5\r")?;
    let mut status = None;
    let has_exited = wait_until(|| {
        status = terminal.child.try_wait().ok().flatten();
        status.is_some()
    });
    check(has_exited, "it does not exit")?;
    same(status.and_then(|status| status.code()), Some(5))?;
    check(terminal.is_sane(), "the caller's terminal is not restored")
}

fn restored() -> Outcome {
    let container = fixture("init")?;
    // A shell that restores nothing itself runs outside.
    let script = format!("{PROGRAM} exec {} sh -i; echo after; sleep 1000", name(&container));
    let mut terminal = Terminal::start(&["dash", "-c", &script])?;
    terminal.wait_for("# ")?;
    check(!terminal.is_sane(), "the caller's terminal is not raw")?;
    let pattern = format!("^{PROGRAM} exec {}", name(&container));
    let mut killer = Command::new("pkill");
    killer.args(["-KILL", "-o", "-f", &pattern]);
    finish(killer).expect(0)?;
    check(wait_until(|| terminal.is_sane()), "the terminal is left raw")?;
    terminal.wait_for("after").map(drop)
}

fn forced() -> Outcome {
    let container = fixture("init")?;
    let tty = exec(&container, &["-t", "--", "tty"]).expect(0)?;
    check(tty.out.contains("/dev/pts/"), &tty.out)?;
    let script = format!("{PROGRAM} exec -T {} tty; echo st=$?", name(&container));
    let mut terminal = Terminal::start(&["sh", "-c", &script])?;
    let printed = terminal.wait_for("st=")?;
    check(printed.contains("not a tty"), printed)
}

/// The command's terminal is not the caller's, and without a terminal it has pipes: it cannot push input
/// into the caller's terminal (TIOCSTI).
fn stays_outside() -> Outcome {
    let container = fixture("init")?;
    let push = "import fcntl,sys
for fd in 0,1,2:
    for c in b'echo PUSHED-INPUT\\n':
        try: fcntl.ioctl(fd, 0x5412, bytes([c]))
        except OSError: pass
";
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), push)?;
    let (file, name) = (file.path().display(), name(&container));
    for option in ["-t", "-T"] {
        let stat = "stat -L -c %Hr:%Lr /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2";
        let script = format!(
            "{PROGRAM} exec {option} {name} -- sh -c 'python3 {file}; {stat}; echo in-end'; echo out-end"
        );
        let mut terminal = Terminal::start(&["sh", "-c", &script])?;
        let device = terminal.device;
        let device = format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let printed = terminal.wait_for("in-end\r\n")?;
        let is_callers = printed.lines().any(|line| line == device);
        check(!is_callers, format!("{option}: the caller's {device}: {printed}"))?;
        terminal.wait_for("out-end")?;
        // A shell outside would run the pushed input.
        let mut outer = Terminal::start(&["sh", "-i"])?;
        outer.wait_for("out> ")?;
        outer.type_in(&format!("{PROGRAM} exec {option} {name} python3 {file}\r"))?;
        outer.wait_for("out> ")?;
        outer.type_in("echo the-\"\"end\r")?;
        let printed = outer.wait_for("the-end")?;
        check(!printed.lines().any(|line| line.trim() == "PUSHED-INPUT"), printed)?;
    }
    Ok(())
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
    let target = std::path::Path::new("/tmp/cinspect-nothing-there");
    check(!target.exists(), "a file was created outside")
}
