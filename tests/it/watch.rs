//! `ps --watch`, at a terminal and into a pipe.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use libtest_mimic::{Failed, Trial};
use serde_json::json;

use crate::harness::PATIENCE;
use crate::support::{
    Need, Outcome, check, children, cinspect, finish, run, runs, same, test_with, wait_until,
};
use crate::terminal::Terminal;

pub fn trials() -> Vec<Trial> {
    let test = |name, run: fn() -> Outcome| test_with(Need::Root, name, run);
    vec![
        test("watch::marks_added_removed_and_changed_processes", marks),
        test("watch::a_removed_process_keeps_its_age", aged),
        test("watch::a_change_names_its_container_among_several", several),
        test("watch::several_containers_have_headings_of_their_own", headings),
        test("watch::restores_the_terminal_on_ctrl_c", interrupted),
        test("watch::restores_the_terminal_when_it_is_killed", killed),
        test("watch::stops_on_ctrl_z_and_continues", suspended),
        test("watch::waits_in_the_background_and_can_be_killed_there", background),
        test("watch::fits_a_small_terminal_and_scrolls", small),
        test("watch::the_title_says_how_to_quit_and_how_long_a_container_is_gone", narrow),
        test("watch::a_pipe_gets_the_plain_table_at_each_refresh", piped),
        test("watch::a_dumb_terminal_gets_the_plain_table_at_each_refresh", dumb),
        test("watch::a_pid_is_not_watched_beyond_its_container", by_pid),
        test("watch::seconds_behind_a_space_are_not_taken_for_a_container", seconds),
        test("watch::an_error_at_the_start_is_final", at_start),
    ]
}

/// A shell as PID 1 of a private namespace: on USR1 it gets a handler for TERM, on USR2 a child. It forks at no
/// other time: it blocks all signals while it does.
struct Inner {
    outer: Child,
    init: i32,
}

const SCRIPT: &str = "sleep 1000 & trap 'trap : TERM' USR1; trap 'sleep 7777 &' USR2; \
    while :; do wait; done";

impl Inner {
    fn start() -> Result<Self, Failed> {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", SCRIPT]);
        let outer = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let mut init = None;
        let found = wait_until(|| {
            init = children(outer.id().cast_signed()).first().copied();
            // Both traps are set.
            init.is_some_and(|init: i32| {
                let status = std::fs::read_to_string(format!("/proc/{init}/status"));
                status.is_ok_and(|text| {
                    let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:\t"));
                    let caught = caught.and_then(|hex| u64::from_str_radix(hex, 16).ok());
                    caught.is_some_and(|caught| caught >> 9 & 1 == 1 && caught >> 11 & 1 == 1)
                })
            })
        });
        match (found, init) {
            (true, Some(init)) => Ok(Self { outer, init }),
            _ => Err("no private namespace".into()),
        }
    }

    fn send(&self, signal: &str) -> Outcome {
        let status = Command::new("kill").args(["-s", signal, &self.init.to_string()]).status()?;
        check(status.success(), signal)
    }

    fn name(&self) -> String {
        format!("pid:{}", self.init)
    }

    /// Returns the number of children that `sleep 7777`.
    fn sleeps(&self) -> usize {
        children(self.init).into_iter().filter(|pid| runs(*pid, &["sleep", "7777"])).count()
    }

    fn watch(&self) -> Result<Terminal, Failed> {
        let mut terminal = watch(&[&self.name()])?;
        terminal.wait_for(&self.name())?;
        terminal.wait_for("discarded")?;
        Ok(terminal)
    }
}

/// Watches at a terminal, three times a second.
fn watch(arguments: &[&str]) -> Result<Terminal, Failed> {
    let program = env!("CARGO_BIN_EXE_cinspect");
    let begin = ["env", "LC_ALL=C.UTF-8", program, "ps", "--watch=0.3"];
    Terminal::start(&[&begin[..], arguments].concat())
}

/// Returns the lines of the next frame, without colours.
fn frame(terminal: &mut Terminal) -> Result<Vec<String>, Failed> {
    terminal.wait_for("\u{1b}[?2026h")?;
    let frame = terminal.wait_for("\u{1b}[?2026l")?;
    Ok(frame.split("\r\n").map(bare).collect())
}

fn bare(line: &str) -> String {
    let mut bare = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('\u{1b}') {
        bare.push_str(&rest[..at]);
        let end = rest[at..].find(|c: char| c.is_ascii_alphabetic()).unwrap_or(0);
        rest = &rest[at + end + 1..];
    }
    bare.push_str(rest);
    bare
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}

fn marks() -> Outcome {
    let inner = Inner::start()?;
    let mut terminal = inner.watch()?;
    inner.send("USR1")?;
    terminal.wait_for("1 sh: CAUGHT +TERM; ON TERM discarded, now handled")?;
    inner.send("USR2")?;
    terminal.wait_for("sleep: new")?;
    let drawn = terminal.wait_for("sleep 7777")?;
    check(drawn.contains("\u{1b}[32m+"), drawn)?;
    let name = format!("pid:{}", inner.init);
    run(&["signal", &name, "KILL", "--match", "^sleep 7777"]).expect(0)?;
    terminal.wait_for("sleep: gone")?;
    terminal.type_in("q")?;
    terminal.wait_for("\u{1b}[?1049l")?;
    check(wait_until(|| terminal.child.try_wait().is_ok_and(|s| s.is_some())), "it does not end")?;
    let status = terminal.child.try_wait()?.and_then(|status| status.code());
    same(status, Some(0))?;
    check(terminal.is_sane(), "the terminal is not as it was")
}

fn several() -> Outcome {
    let (web, db) = (Inner::start()?, Inner::start()?);
    let mut terminal = watch(&[&web.name(), &db.name(), "-o", "pid,comm"])?;
    terminal.wait_for("every 0.3s")?;
    db.send("USR2")?;
    let news = format!("{}: ", db.name());
    terminal.wait_for(&news)?;
    let drawn = terminal.wait_for("sleep: new")?;
    // It is not dimmed.
    let line = drawn.rsplit("\r\n").next().unwrap_or_default().trim_start_matches("\u{1b}[K");
    check(!line.contains('\u{1b}'), line)?;
    drop(web);
    terminal.wait_for(": is gone").map(drop)
}

/// Each container has its heading and its header, also one that is gone; only the title stays in place.
fn headings() -> Outcome {
    let (web, db) = (Inner::start()?, Inner::start()?);
    let (first, second) = (web.name(), db.name());
    let mut terminal = watch(&[&first, &second])?;
    terminal.wait_for("2 containers   every 0.3s")?;
    let lines = frame(&mut terminal)?;
    let running =
        |name: &str| format!("{name}  running  on stop (TERM assumed, 10 s assumed): killed");
    let headers = |lines: &[String]| lines.iter().filter(|l| l.contains("ON TERM")).count();
    let start = |text: &str| lines.iter().position(|line| line.trim_end() == text);
    let drawn = || lines.join("\n");
    check(start(&running(&first)) == Some(1) && headers(&lines) == 2, drawn())?;
    check(start(&running(&second)).is_some_and(|line| lines[line - 1].trim().is_empty()), drawn())?;
    drop(web);
    // Long after its last row has gone too.
    let until = Instant::now() + PATIENCE;
    let lines = loop {
        let lines = frame(&mut terminal)?;
        if headers(&lines) == 1 {
            break lines;
        }
        check(Instant::now() < until, lines.join("\n"))?;
    };
    let gone = format!("{first}  container `{first}` has exited (");
    check(lines[1].starts_with(&gone) && !lines[1].contains("on stop"), &lines[1])?;
    same((lines[2].trim_end(), lines[3].trim_end()), ("", running(&second).as_str()))?;
    terminal.resize(6, 40);
    terminal.wait_for("more below")?;
    terminal.type_in("G")?;
    let until = Instant::now() + PATIENCE;
    // (The heading and the header of the second one, and its two rows.)
    loop {
        let lines = frame(&mut terminal)?;
        if lines[1].starts_with(&second) {
            break;
        }
        check(Instant::now() < until, lines.join("\n"))?;
    }
    for line in frame(&mut terminal)? {
        check(line.trim_end().chars().count() <= 40, line)?;
    }
    let program = env!("CARGO_BIN_EXE_cinspect");
    let line = format!("{program} ps --watch=0.1 {second} {second} | head -n 14");
    let mut command = Command::new("bash");
    command.args(["-c", &line]).stdin(Stdio::null());
    let piped = finish(command).expect(0)?.out;
    let heading = format!("{second}  running");
    same(piped.lines().filter(|line| *line == heading).count(), 3)
}

fn aged() -> Outcome {
    let inner = Inner::start()?;
    let name = inner.name();
    let mut terminal = watch(&[&name, "-o", "pid,elapsed,command"])?;
    terminal.wait_for("ELAPSED")?;
    inner.send("USR2")?;
    terminal.wait_for("sleep: new")?;
    // Returns the row of the child in the next frame.
    let row = |terminal: &mut Terminal| -> Result<Option<String>, Failed> {
        let is_it = |line: &String| line.trim_end().ends_with("─ sleep 7777");
        Ok(frame(terminal)?.into_iter().find(is_it))
    };
    let until = Instant::now() + PATIENCE;
    while row(&mut terminal)?.is_none_or(|row| row.contains(" 0s ")) {
        check(Instant::now() < until, "it does not age")?;
    }
    let rows = run(&["--json", "ps", &name]).expect(0)?.objects();
    let child = rows.iter().find(|row| row["command"] == json!(["sleep", "7777"]));
    let pid = child.ok_or("no child")?["host_pid"].to_string();
    run(&["signal", &name, "KILL", "--host-pid", &pid]).expect(0)?;
    let is_removed = |row: &String| row.starts_with('-');
    let until = Instant::now() + PATIENCE;
    let mut removed = Vec::new();
    while removed.len() < 4 {
        match row(&mut terminal)?.filter(is_removed) {
            Some(row) => removed.push(row),
            None if removed.is_empty() => check(Instant::now() < until, "it is not removed")?,
            None => break,
        }
    }
    check(removed.len() >= 2, format!("{removed:?}"))?;
    removed.dedup();
    check(removed.len() == 1, format!("{removed:?}"))
}

fn interrupted() -> Outcome {
    let inner = Inner::start()?;
    let mut terminal = inner.watch()?;
    check(!terminal.is_sane(), "keys do not come one by one")?;
    terminal.type_in("\u{3}")?;
    let seen = terminal.wait_for("\u{1b}[?1049l")?;
    check(seen.contains("\u{1b}[?25h"), "the cursor is not shown again")?;
    check(wait_until(|| terminal.is_sane()), "the terminal is not as it was")?;
    check(wait_until(|| terminal.child.try_wait().is_ok_and(|s| s.is_some())), "it does not end")?;
    // (setsid, which waits for it, ends by the same signal.)
    let ended = terminal.child.try_wait()?;
    same(ended.and_then(|status| status.signal()), Some(2))
}

/// Below a shell: the terminal of a session whose leader is killed is gone.
fn killed() -> Outcome {
    let inner = Inner::start()?;
    let program = env!("CARGO_BIN_EXE_cinspect");
    let script = format!("{program} ps --watch=0.3 {} & echo \"pid $!.\"; fg", inner.name());
    let mut terminal = Terminal::start(&["bash", "-mc", &script])?;
    let said = terminal.wait_for(".")?;
    terminal.wait_for("discarded")?;
    check(!terminal.is_sane(), "keys do not come one by one")?;
    let pid = said.trim_end_matches('.').rsplit(' ').next().unwrap_or_default().to_owned();
    check(Command::new("kill").args(["-KILL", &pid]).status()?.success(), format!("kill {pid}"))?;
    let seen = terminal.wait_for("\u{1b}[?1049l")?;
    check(seen.contains("\u{1b}[?25h"), "the cursor is not shown again")?;
    check(wait_until(|| terminal.is_sane()), "the terminal is not as it was")
}

fn suspended() -> Outcome {
    let inner = Inner::start()?;
    let name = format!("pid:{}", inner.init);
    let program = env!("CARGO_BIN_EXE_cinspect");
    let mut terminal = Terminal::start(&["bash", "--norc", "--noprofile", "-i"])?;
    terminal.type_in(&format!("LC_ALL=C.UTF-8 {program} ps --watch=0.3 {name}\r"))?;
    terminal.wait_for("discarded")?;
    terminal.type_in("\u{1a}")?;
    terminal.wait_for("\u{1b}[?1049l")?;
    terminal.wait_for("Stopped")?;
    terminal.type_in("echo ech''oed; fg\r")?;
    terminal.wait_for("echoed")?;
    terminal.wait_for("\u{1b}[?1049h")?;
    terminal.wait_for("discarded")?;
    terminal.type_in("q")?;
    terminal.wait_for("\u{1b}[?1049l")?;
    terminal.type_in("echo status=$?\r")?;
    terminal.wait_for("status=0").map(drop)
}

/// As a job of a shell, started with `&` and sent to the background later: it draws nothing there, and
/// `kill %1` ends it.
fn background() -> Outcome {
    let inner = Inner::start()?;
    let line = format!(
        "LC_ALL=C.UTF-8 {} ps --watch=0.3 pid:{}",
        env!("CARGO_BIN_EXE_cinspect"),
        inner.init
    );
    let mut terminal = Terminal::start(&["bash", "--norc", "--noprofile", "-i"])?;
    terminal.type_in(&format!("{line} &\r"))?;
    job_is(&mut terminal, "Stopped")?;
    terminal.type_in("kill %1\r")?;
    job_is(&mut terminal, "Terminated")?;
    terminal.type_in(&format!("{line}\r"))?;
    terminal.wait_for("discarded")?;
    terminal.type_in("\u{1a}")?;
    terminal.wait_for("\u{1b}[?1049l")?;
    terminal.wait_for("Stopped")?;
    terminal.type_in("bg\r")?;
    job_is(&mut terminal, "Stopped")?;
    terminal.type_in("fg\r")?;
    terminal.wait_for("\u{1b}[?1049h")?;
    terminal.wait_for("discarded")?;
    terminal.type_in("\u{1a}")?;
    terminal.wait_for("Stopped")?;
    terminal.type_in("bg\r")?;
    job_is(&mut terminal, "Stopped")?;
    terminal.type_in("kill %1\r")?;
    job_is(&mut terminal, "Terminated")
}

/// Waits until the shell says so of its job, which draws nothing.
fn job_is(terminal: &mut Terminal, state: &str) -> Outcome {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        terminal.type_in("jobs; sleep 0.1; echo job''s\r")?;
        let seen = terminal.wait_for("jobs\r\n")?;
        check(!seen.contains("\u{1b}[?1049h"), &seen)?;
        if seen.contains(state) {
            return Ok(());
        }
    }
    Err(format!("it is not {state}").into())
}

fn small() -> Outcome {
    let inner = Inner::start()?;
    for count in 1..=12 {
        inner.send("USR2")?;
        check(wait_until(|| inner.sleeps() >= count), "a signal that starts a child is lost")?;
    }
    inner.watch()?.wait_for("12 × sleep 7777")?;
    let mut terminal = watch(&[&inner.name(), "--no-fold"])?;
    terminal.wait_for("discarded")?;
    terminal.resize(8, 60);
    terminal.wait_for("more below")?;
    terminal.type_in("j")?;
    terminal.wait_for("  1 more above, ")?;
    terminal.wait_for(" below")?;
    let end = (0..100).any(|_| {
        // (More rows may have come since.)
        let _ = terminal.type_in("G");
        let lines = frame(&mut terminal).unwrap_or_default();
        let last = lines.get(6).is_some_and(|line| line.contains("└─ sleep"));
        last && lines.len() == 8 && lines[7].trim_end().ends_with("more above")
    });
    check(end, "the last line, and how many are hidden above it")?;
    // No line is wider than the terminal.
    for line in frame(&mut terminal)? {
        check(line.chars().count() <= 60, format!("{} columns: {line:?}", line.chars().count()))?;
    }
    terminal.type_in("q")?;
    terminal.wait_for("\u{1b}[?1049l").map(drop)
}

fn narrow() -> Outcome {
    let inner = Inner::start()?;
    let mut terminal = watch(&[&inner.name(), "-o", "pid,verdict,comm"])?;
    terminal.resize(24, 50);
    terminal.wait_for("ON TERM")?;
    drop(inner);
    // For how long.
    terminal.wait_for("s): ")?;
    // Long after the last row has gone too.
    for _ in 0..60 {
        let lines = frame(&mut terminal)?;
        let (title, header) = (lines[0].trim_end(), lines[1].trim_end());
        check(title.ends_with("   q quits") && title.chars().count() <= 50, title)?;
        check(header.contains("ON TERM"), header)?;
        if lines[2].trim_end().is_empty() {
            return Ok(());
        }
    }
    Err("rows stay".into())
}

fn piped() -> Outcome {
    let inner = Inner::start()?;
    let name = format!("pid:{}", inner.init);
    let program = env!("CARGO_BIN_EXE_cinspect");
    let line =
        format!("{program} ps --watch=0.1 {name} -o pid,comm | head -n 7; echo ${{PIPESTATUS[0]}}");
    let mut command = Command::new("bash");
    command.args(["-c", &line]).stdin(Stdio::null());
    let run = finish(command).expect(0)?;
    let lines: Vec<&str> = run.out.lines().collect();
    let headers = lines.iter().filter(|line| line.starts_with("PID")).count();
    check(headers >= 2 && lines.contains(&"") && !run.out.contains('\u{1b}'), &run.out)?;
    same((lines.last().copied(), run.err.as_str()), (Some("0"), ""))?;
    let line = format!("{program} --json ps --watch=0.1 {name} | head -n 3");
    let mut command = Command::new("bash");
    command.args(["-c", &line]).stdin(Stdio::null());
    let rows = finish(command).expect(0)?.objects();
    same((rows.len(), rows[0]["pid"].clone()), (3, json!(1)))
}

fn dumb() -> Outcome {
    let inner = Inner::start()?;
    let program = env!("CARGO_BIN_EXE_cinspect");
    let begin = ["env", "LC_ALL=C.UTF-8", "TERM=dumb", program, "ps", "-w=0.3"];
    let mut terminal = Terminal::start(&[&begin[..], &[inner.name().as_str()]].concat())?;
    terminal.wait_for("ON TERM")?;
    let seen = terminal.wait_for("ON TERM")?;
    check(!seen.contains('\u{1b}'), &seen)?;
    let wide = seen.lines().find(|line| line.chars().count() > 80);
    check(wide.is_none(), format!("{wide:?}"))?;
    terminal.type_in("\u{3}")?;
    check(wait_until(|| terminal.child.try_wait().is_ok_and(|s| s.is_some())), "it does not end")
}

fn by_pid() -> Outcome {
    let inner = Inner::start()?;
    let name = format!("pid:{}", inner.init);
    let mut command = cinspect(&["ps", "--watch=0.1", &name]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut byte = [0];
    let stdout = child.stdout.as_mut().ok_or("no stdout")?;
    std::io::Read::read_exact(stdout, &mut byte)?;
    drop(inner);
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    same(output.status.code(), Some(3))?;
    check(error.contains("has exited") && error.contains("hint: watch it by name"), error)
}

fn seconds() -> Outcome {
    for (arguments, hint) in [
        (
            &["ps", "-w", "1", "web"][..],
            "hint: `-w=1` refreshes every second; `pid:1` is the container of process 1\n",
        ),
        (
            &["ps", "--watch", "30", "-T"],
            "hint: `-w=30` refreshes every 30 seconds; `pid:30` is the container of process 30\n",
        ),
        (&["ps", "-w", "0.5", "web"], "hint: `-w=0.5` refreshes every 0.5 seconds\n"),
    ] {
        let refused = run(arguments).expect(2)?;
        check(refused.err.ends_with(hint) && refused.out.is_empty(), &refused.err)?;
    }
    // With `=`, without --watch, or for another reference the error does not occur.
    let free = "2147483646";
    for arguments in [&["ps", "-w=1", free][..], &["ps", free], &["ps", "-w", "pid:2147483646"]] {
        run(arguments).expect(3)?;
    }
    Ok(())
}

fn at_start() -> Outcome {
    run(&["ps", "--watch", "nosuch"]).expect(3)?;
    let refused = run(&["ps", "--watch=often", "nosuch"]).expect(2)?;
    check(refused.err.contains("often"), refused.err)
}
