//! `ps --watch`, at a terminal and into a pipe.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use libtest_mimic::{Failed, Trial};
use serde_json::json;

use crate::support::{Need, Outcome, check, cinspect, finish, run, same, test_with, wait_until};
use crate::terminal::Terminal;

pub fn trials() -> Vec<Trial> {
    let test = |name, run: fn() -> Outcome| test_with(Need::Root, name, run);
    vec![
        test("watch::marks_what_appears_leaves_and_changes", marks),
        test("watch::who_left_grows_no_older", aged),
        test("watch::what_is_new_of_several_says_whose_it_is", several),
        test("watch::leaves_the_terminal_as_it_was_on_ctrl_c", interrupted),
        test("watch::stops_and_comes_back_on_ctrl_z", suspended),
        test("watch::behind_a_shell_it_waits_for_the_terminal_and_can_be_ended", behind),
        test("watch::fits_a_smaller_terminal_and_scrolls", small),
        test("watch::says_how_to_end_it_and_for_how_long_nobody_is_there", narrow),
        test("watch::into_a_pipe_it_is_the_plain_answer_each_time", piped),
        test("watch::at_a_dumb_terminal_it_is_that_too", dumb),
        test("watch::a_number_is_not_watched_beyond_its_container", numbered),
        test("watch::seconds_behind_a_space_are_not_taken_for_a_container", seconds),
        test("watch::what_is_wrong_from_the_start_is_an_error", wrong),
    ]
}

/// A shell as PID 1 of a namespace of its own: on USR1 it gets a handler for TERM, on USR2 a child.
struct Inner {
    outer: Child,
    init: i32,
}

const SCRIPT: &str = "trap 'trap : TERM' USR1; trap 'sleep 7777 &' USR2; \
    while :; do sleep 0.1; done";

impl Inner {
    fn start() -> Result<Self, Failed> {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", SCRIPT]);
        let outer = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let children = format!("/proc/{0}/task/{0}/children", outer.id());
        let mut init = None;
        let found = wait_until(|| {
            let text = std::fs::read_to_string(&children).unwrap_or_default();
            init = text.split_whitespace().next().and_then(|pid| pid.parse().ok());
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
            _ => Err("no namespace of our own".into()),
        }
    }

    fn send(&self, signal: &str) -> Outcome {
        let told = Command::new("kill").args(["-s", signal, &self.init.to_string()]).status()?;
        check(told.success(), signal)
    }

    fn name(&self) -> String {
        format!("pid:{}", self.init)
    }

    fn watch(&self) -> Result<Terminal, Failed> {
        let mut terminal = watch(&[&self.name()])?;
        terminal.wait_for(&self.name())?;
        terminal.wait_for("discarded")?;
        Ok(terminal)
    }
}

/// Watches at a terminal, often.
fn watch(arguments: &[&str]) -> Result<Terminal, Failed> {
    let program = env!("CARGO_BIN_EXE_cinspect");
    let begin = ["env", "LC_ALL=C.UTF-8", program, "ps", "--watch=0.3"];
    Terminal::start(&[&begin[..], arguments].concat())
}

/// The lines of the next picture that is drawn whole, without what colours them.
fn picture(terminal: &mut Terminal) -> Result<Vec<String>, Failed> {
    terminal.wait_for("\u{1b}[?2026h")?;
    let picture = terminal.wait_for("\u{1b}[?2026l")?;
    Ok(picture.split("\r\n").map(bare).collect())
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
    // (vt100 has colours for us: the sign is followed by their end.)
    terminal.wait_for("1 sh: ON TERM discarded, now handled; CAUGHT +TERM")?;
    inner.send("USR2")?;
    terminal.wait_for("sleep: appeared")?;
    let picture = terminal.wait_for("sleep 7777")?;
    check(picture.contains("\u{1b}[32m+"), picture)?;
    let name = format!("pid:{}", inner.init);
    run(&["signal", &name, "KILL", "--match", "^sleep 7777"]).expect(0)?;
    terminal.wait_for("sleep: left")?;
    terminal.type_in("q")?;
    terminal.wait_for("\u{1b}[?1049l")?;
    check(wait_until(|| terminal.child.try_wait().is_ok_and(|s| s.is_some())), "it does not end")?;
    let status = terminal.child.try_wait()?.and_then(|status| status.code());
    same(status, Some(0))?;
    check(terminal.is_sane(), "the terminal is not as it was")
}

fn several() -> Outcome {
    let (one, other) = (Inner::start()?, Inner::start()?);
    let mut terminal = watch(&[&one.name(), &other.name(), "-o", "pid,comm"])?;
    terminal.wait_for("every 0.3 s")?;
    other.send("USR2")?;
    let news = format!("{}: ", other.name());
    terminal.wait_for(&news)?;
    let drawn = terminal.wait_for("sleep: appeared")?;
    // It is no aside.
    let line = drawn.rsplit("\r\n").next().unwrap_or_default().trim_start_matches("\u{1b}[K");
    check(!line.contains('\u{1b}'), line)?;
    drop(one);
    terminal.wait_for(": is gone").map(drop)
}

fn aged() -> Outcome {
    let inner = Inner::start()?;
    let name = inner.name();
    let mut terminal = watch(&[&name, "-o", "pid,elapsed,comm"])?;
    terminal.wait_for("ELAPSED")?;
    inner.send("USR2")?;
    terminal.wait_for("sleep: appeared")?;
    std::thread::sleep(std::time::Duration::from_millis(1200));
    let older = run(&["--json", "ps", &name]).expect(0)?.objects();
    let older = older.iter().find(|row| row["command"] == json!(["sleep", "7777"]));
    let pid = older.ok_or("no child")?["host_pid"].to_string();
    run(&["signal", &name, "KILL", "--host-pid", &pid]).expect(0)?;
    let mut ages = Vec::new();
    for _ in 0..80 {
        // (Others come and go: it is the one that lived for more than a moment.)
        let left = |line: &String| line.starts_with('-') && !line.contains(" 0s ");
        ages.extend(picture(&mut terminal)?.into_iter().find(left));
        if ages.len() == 4 {
            break;
        }
    }
    check(ages.len() == 4, format!("{ages:?}"))?;
    ages.dedup();
    check(ages.len() == 1, format!("{ages:?}"))
}

fn interrupted() -> Outcome {
    let inner = Inner::start()?;
    let mut terminal = inner.watch()?;
    check(!terminal.is_sane(), "keys are not told one by one")?;
    terminal.type_in("\u{3}")?;
    let seen = terminal.wait_for("\u{1b}[?1049l")?;
    check(seen.contains("\u{1b}[?25h"), "the cursor is not shown again")?;
    check(wait_until(|| terminal.is_sane()), "the terminal is not as it was")?;
    check(wait_until(|| terminal.child.try_wait().is_ok_and(|s| s.is_some())), "it does not end")?;
    // (What waits for it in the terminal passes its end on.)
    let ended = terminal.child.try_wait()?;
    same(ended.and_then(|status| status.signal()), Some(2))
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

/// As a job of a shell, started with `&` and sent behind later: it draws nothing there, and `kill %1`
/// ends it.
fn behind() -> Outcome {
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

/// Waits until the shell knows this of its job, which draws nothing.
fn job_is(terminal: &mut Terminal, state: &str) -> Outcome {
    for _ in 0..30 {
        std::thread::sleep(std::time::Duration::from_millis(300));
        terminal.type_in("jobs; echo job''s\r")?;
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
    for _ in 0..12 {
        inner.send("USR2")?;
        std::thread::sleep(std::time::Duration::from_millis(150));
    }
    let mut terminal = inner.watch()?;
    terminal.resize(8, 60);
    terminal.wait_for("more below")?;
    terminal.type_in("j")?;
    terminal.wait_for("  1 more above, ")?;
    terminal.wait_for(" below")?;
    let end = (0..20).any(|_| {
        // (More of it may have come since.)
        let _ = terminal.type_in("G");
        let lines = picture(&mut terminal).unwrap_or_default();
        let last = lines.get(6).is_some_and(|line| line.contains("└─ sleep"));
        last && lines.len() == 8 && lines[7].trim_end().ends_with("more above")
    });
    check(end, "the last line, and what tells how many are hidden above it")?;
    // Nothing is wider than the terminal: what is drawn from here on, without what colours it.
    for line in picture(&mut terminal)? {
        check(line.chars().count() <= 60, format!("{} columns: {line:?}", line.chars().count()))?;
    }
    terminal.type_in("q")?;
    terminal.wait_for("\u{1b}[?1049l").map(drop)
}

fn narrow() -> Outcome {
    let inner = Inner::start()?;
    let mut terminal = watch(&[&inner.name(), "-o", "pid,on,comm"])?;
    terminal.resize(24, 50);
    terminal.wait_for("ON TERM")?;
    drop(inner);
    terminal.wait_for(" (1s): ")?;
    // Long after the last row has gone too.
    for _ in 0..60 {
        let lines = picture(&mut terminal)?;
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
    let told = finish(command).expect(0)?;
    let lines: Vec<&str> = told.out.lines().collect();
    let headers = lines.iter().filter(|line| line.starts_with("PID")).count();
    check(headers >= 2 && lines.contains(&"") && !told.out.contains('\u{1b}'), &told.out)?;
    same((lines.last().copied(), told.err.as_str()), (Some("0"), ""))?;
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

fn numbered() -> Outcome {
    let inner = Inner::start()?;
    let name = format!("pid:{}", inner.init);
    let mut command = cinspect(&["ps", "--watch=0.1", &name]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut first = [0];
    let stdout = child.stdout.as_mut().ok_or("no stdout")?;
    std::io::Read::read_exact(stdout, &mut first)?;
    drop(inner);
    let told = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&told.stderr);
    same(told.status.code(), Some(3))?;
    check(said.contains("has ended") && said.contains("hint: name it"), said)
}

fn seconds() -> Outcome {
    for (arguments, hint) in [
        (
            &["ps", "-w", "1", "web"][..],
            "hint: `-w=1` looks every second; for the container of process 1 say `pid:1`\n",
        ),
        (
            &["ps", "--watch", "30", "-T"],
            "hint: `-w=30` looks every 30 seconds; for the container of process 30 say `pid:30`\n",
        ),
        (&["ps", "-w", "0.5", "web"], "hint: `-w=0.5` looks every 0.5 seconds\n"),
    ] {
        let told = run(arguments).expect(2)?;
        check(told.err.ends_with(hint) && told.out.is_empty(), &told.err)?;
    }
    // Who says how often is asked nothing, nor who does not watch.
    let free = "2147483646";
    for arguments in [&["ps", "-w=1", free][..], &["ps", free], &["ps", "-w", "pid:2147483646"]] {
        run(arguments).expect(3)?;
    }
    Ok(())
}

fn wrong() -> Outcome {
    run(&["ps", "--watch", "nosuch"]).expect(3)?;
    let told = run(&["ps", "--watch=often", "nosuch"]).expect(2)?;
    check(told.err.contains("often"), told.err)
}
