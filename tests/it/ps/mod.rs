//! `ps` on containers of the harness: its rows on a terminal, in a pipe and in JSON.

mod procps;
mod roots;

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use libtest_mimic::{Failed, Trial};
use nix::pty::{Winsize, openpty};
use serde_json::{Value, json};

use crate::harness::Container;
use crate::support::{
    Need, Outcome, UnsharedInit, check, cinspect, control_character, finish, fixture, run, same,
    test, test_with, test_with_programs, tests_with, wait_until,
};

pub fn trials() -> Vec<Trial> {
    let mut trials = tests_with(
        Need::Namespaces,
        &[
            ("ps::each_process_has_its_signal_state", each_process),
            ("ps::json_has_the_documented_keys", keys),
            ("ps::draws_a_tree_in_box_characters_or_ascii", tree),
            ("ps::shows_several_containers_and_reports_a_missing_one", several),
            ("ps::without_a_name_shows_every_container", every),
            ("ps::each_thread_has_its_masks", threads),
            ("ps::selects_and_sorts_columns", columns),
            ("ps::raw_masks_are_the_kernels_digits", raw),
            ("ps::fits_the_terminal_and_is_whole_in_a_pipe", widths),
            ("ps::masks_are_shown_where_the_command_keeps_its_room", masks),
            ("ps::blocked_stays_among_threads", blocked_stays),
            ("ps::heading_has_the_forecast_of_a_stop", headings),
            ("ps::no_thread_waits_for_kill_and_stop", uncatchable),
            ("ps::colours_terminals_and_on_request_pipes", colour),
            ("ps::names_zombies_and_processes_without_arguments", placeholders),
            ("ps::an_init_whose_main_thread_has_exited_is_alive", main_exited),
            ("ps::hostile_names_are_one_safe_line_and_exact_in_json", hostile),
            ("ps::a_command_line_of_megabytes_is_whole_in_a_pipe", huge),
        ],
    );
    trials.extend([
        test_with(Need::Root, "ps::a_process_that_joined_is_marked", roots::joined),
        test_with(
            Need::Root,
            "ps::program_with_the_name_of_an_engine_has_started",
            roots::named_like_an_engine,
        ),
        test_with(Need::Root, "ps::equal_siblings_are_one_line_on_a_terminal", roots::folded),
        test_with_programs(
            &["ps", "nsenter", "kill"],
            "ps::every_column_is_as_procps_prints_it",
            procps::agrees,
        ),
        test("ps::an_unknown_column_is_a_usage_error_that_names_a_near_one", unknown_column),
        test("ps::help_lists_the_columns_without_a_container", column_help),
    ]);
    trials
}

const CAST: &str = "\
init handle=TERM
> web handle=TERM,HUP
> > worker
> deaf ignore=TERM
> busy block=TERM";

fn name(container: &Container) -> String {
    format!("pid:{}", container.init)
}

fn rows(container: &Container, more: &[&str]) -> Result<Vec<Value>, Failed> {
    let name = name(container);
    let mut arguments = vec!["--json", "ps", &name];
    arguments.extend(more);
    Ok(run(&arguments).expect(0)?.objects())
}

fn row(rows: &[Value], comm: &str) -> Value {
    rows.iter().find(|row| row["comm"] == comm).cloned().unwrap_or_default()
}

fn each_process() -> Outcome {
    let container = fixture(CAST)?;
    let rows = rows(&container, &[])?;
    same(rows.len(), 5)?;
    for (name, pid) in &container.pids {
        same(row(&rows, name)["pid"].clone(), json!(pid))?;
        same(row(&rows, name)["command"].clone(), json!([name]))?;
    }
    same(row(&rows, "deaf")["signals"]["ignored"].clone(), json!(["TERM"]))?;
    same(row(&rows, "busy")["signals"]["blocked"].clone(), json!(["TERM"]))?;
    same(row(&rows, "worker")["signals"]["caught"].clone(), json!([]))?;
    same(row(&rows, "worker")["ppid"].clone(), row(&rows, "web")["pid"].clone())?;
    same(row(&rows, "worker")["host_ppid"].clone(), row(&rows, "web")["host_pid"].clone())?;
    same(row(&rows, "init")["ppid"].clone(), json!(0))?;
    run(&["signal", &name(&container), "TERM", "--comm", "busy"]).expect(0)?;
    same(row(&self::rows(&container, &[])?, "busy")["signals"]["pending"].clone(), json!(["TERM"]))
}

fn keys() -> Outcome {
    let container = fixture("init")?;
    let keys = |value: &Value| {
        let object = value.as_object().cloned().unwrap_or_default();
        object.keys().cloned().collect::<Vec<String>>().join(" ")
    };
    let plain = rows(&container, &[])?;
    same(
        keys(&plain[0]),
        "host container id pid host_pid ppid host_ppid uid host_uid user state threads rss cpu_time \
         started comm exe command signals on_signal joined"
            .into(),
    )?;
    same(
        keys(&plain[0]["signals"]),
        "blocked ignored caught pending thread_pending waited".into(),
    )?;
    let threads = rows(&container, &["-T"])?;
    check(keys(&threads[0]).contains("tid host_tid"), keys(&threads[0]))?;
    check(
        ["S", "R", "D"].iter().any(|state| plain[0]["state"] == *state),
        plain[0]["state"].to_string(),
    )?;
    let started = plain[0]["started"].as_str().unwrap_or_default().to_owned();
    check(started.starts_with("20") && started.ends_with('Z'), started)
}

fn tree() -> Outcome {
    let container = fixture(CAST)?;
    let name = name(&container);
    let drawn = |locale: &str| {
        let mut ps = cinspect(&["ps", &name, "-o", "pid,command"]);
        ps.env("LC_ALL", locale);
        finish(ps).expect(0).map(|run| run.out)
    };
    let pid = |name: &str| container.pids[name];
    let wanted = |branch: &str, last: &str, bar: &str| {
        format!(
            "PID  COMMAND\n  1  init\n  {}  {branch}web\n  {}  {bar}{last}worker\n  {}  {branch}deaf\n  {}  {last}busy\n",
            pid("web"),
            pid("worker"),
            pid("deaf"),
            pid("busy")
        )
    };
    same(drawn("C.UTF-8")?, wanted("├─ ", "└─ ", "│  "))?;
    same(drawn("C")?, wanted("|- ", "`- ", "|  "))
}

fn several() -> Outcome {
    let (web, db) = (fixture("init\n> a")?, fixture("init\n> b")?);
    let shown = run(&["ps", &name(&web), "no-such-container", &name(&db)]).expect(3)?;
    check(shown.err.contains("no-such-container"), shown.err)?;
    let blocks: Vec<&str> = shown.out.split("\n\n").collect();
    same(blocks.len(), 2)?;
    for (block, container, child) in [(blocks[0], &web, "a"), (blocks[1], &db, "b")] {
        let lines: Vec<&str> = block.lines().collect();
        same(lines.len(), 4)?;
        same(lines[0].to_owned(), format!("{}  running", name(container)))?;
        check(lines[1].contains("PID") && !lines[1].contains("CONTAINER"), block)?;
        check(lines[2].ends_with("init") && lines[3].ends_with(&format!("└─ {child}")), block)?;
    }
    // One table where rows of several are in one order.
    for one in ["--flat", "--sort=pid"] {
        let shown = run(&["ps", &name(&web), &name(&db), one]).expect(0)?;
        check(shown.out.starts_with("CONTAINER"), &shown.out)?;
        same(shown.out.lines().filter(|line| line.contains(&name(&web))).count(), 2)?;
        same(shown.out.lines().filter(|line| line.contains(&name(&db))).count(), 2)?;
    }
    // A script counts on the columns that it listed.
    let listed = run(&["ps", &name(&web), &name(&db), "-o", "command"]).expect(0)?;
    same(listed.out, "COMMAND\ninit\n└─ a\ninit\n└─ b\n".into())
}

fn threads() -> Outcome {
    let container = fixture("init\n> many thread-blocks=USR1")?;
    let rows = rows(&container, &["-T"])?;
    let many: Vec<&Value> =
        rows.iter().filter(|row| row["pid"] == json!(container.pids["many"])).collect();
    same(many.len(), 2)?;
    same(many[0]["signals"]["blocked"].clone(), json!([]))?;
    same(many[1]["signals"]["blocked"].clone(), json!(["USR1"]))?;
    check(
        many[0]["tid"] != many[1]["tid"] && many[0]["tid"] == many[0]["pid"],
        format!("{many:?}"),
    )?;
    let text = run(&["ps", "-T", &name(&container), "-o", "command"]).expect(0)?.out;
    same(text, "COMMAND\ninit\n└─ many\n   └─ {many}\n".into())
}

fn columns() -> Outcome {
    let container = fixture(CAST)?;
    let name = name(&container);
    let text = run(&["ps", &name, "-o", "COMM,pid", "--flat", "--sort", "-pid"]).expect(0)?.out;
    let order: Vec<&str> =
        text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    let mut wanted: Vec<(&String, &i32)> = container.pids.iter().collect();
    wanted.sort_by_key(|(_, pid)| -**pid);
    same(order, wanted.iter().map(|(name, _)| name.as_str()).collect())?;
    let more = run(&["ps", &name, "-o", "+nnp"]).expect(0)?.out;
    check(more.contains("CAUGHT") && more.contains("NNP"), more)?;
    run(&["ps", &name, "--sort", "bogus"]).expect(2)?;
    Ok(())
}

fn raw() -> Outcome {
    let container = fixture("init\n> busy block=TERM")?;
    let text = run(&["ps", &name(&container), "--raw", "-o", "blocked,comm"]).expect(0)?.out;
    check(text.contains("0000000000004000  busy"), text)
}

/// Runs a command line with its standard output on a terminal of so many columns; returns the output.
fn on_terminal(columns: u16, arguments: &[&str], no_color: bool) -> Result<String, Failed> {
    let mut command = cinspect(arguments);
    if no_color {
        command.env("NO_COLOR", "1");
    }
    on_terminal_with(columns, command).map(|(out, _)| out)
}

/// Runs a command so; returns the output, and that on stderr.
fn on_terminal_with(columns: u16, mut command: Command) -> Result<(String, String), Failed> {
    let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None)?;
    command.env("TERM", "xterm").stdout(Stdio::from(pty.slave)).stderr(Stdio::piped());
    let reader = std::thread::spawn(move || read_to_end(pty.master));
    let child = command.spawn()?;
    // The command holds the last descriptor of the terminal's other end.
    drop(command);
    let output = child.wait_with_output()?;
    check(output.status.success(), format!("{}", output.status))?;
    let bytes = reader.join().map_err(|_| "the reader failed")?;
    let text = String::from_utf8(bytes)?.replace("\r\n", "\n");
    Ok((text, String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Reads to the end: EIO, once the other end of the terminal is closed.
fn read_to_end(master: OwnedFd) -> Vec<u8> {
    use std::io::Read;
    let mut file = std::fs::File::from(master);
    let (mut output, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(n) = file.read(&mut buffer) {
        if n == 0 {
            break;
        }
        output.extend_from_slice(&buffer[..n]);
    }
    output
}

fn widths() -> Outcome {
    let long = format!("init\n> {} handle=TERM,HUP,INT,USR1,USR2,ALRM", "x".repeat(300));
    let container = fixture(&long)?;
    let name = name(&container);
    for columns in [40, 80, 160] {
        let text = on_terminal(columns, &["ps", &name], true)?;
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        check(
            widest <= usize::from(columns) && widest > 20,
            format!("{widest} of {columns}:\n{text}"),
        )?;
        check(text.contains("PID") && text.contains("COMMAND"), &text)?;
        check(text.contains('…'), &text)?;
    }
    let narrow = on_terminal(40, &["ps", &name], true)?;
    check(!narrow.contains("RSS") && narrow.contains("ON TERM"), narrow)?;
    let piped = run(&["ps", &name]).expect(0)?.out;
    check(piped.contains(&"x".repeat(300)) && piped.contains("CAUGHT"), piped)
}

/// Returns the names of the columns in a header.
fn header(text: &str) -> Vec<&str> {
    // (The lines above it name the containers.)
    text.lines()
        .find(|line| !line.contains("on stop ("))
        .unwrap_or_default()
        .split("  ")
        .map(str::trim)
        .filter(|w| !w.is_empty())
        .collect()
}

fn masks() -> Outcome {
    let few = fixture("init\n> web handle=TERM")?;
    let many = fixture(&format!("init\n> {} handle=TERM,HUP,INT,USR1,USR2,ALRM", "x".repeat(60)))?;
    let default = ["PID", "HPID", "USER", "S", "RSS", "ELAPSED", "ON TERM", "COMMAND"];
    for container in [&few, &many] {
        let text = on_terminal(80, &["ps", &name(container)], true)?;
        same(header(&text), default.to_vec())?;
    }
    let names = [name(&few), name(&many)];
    let text = on_terminal(90, &["ps", &names[0], &names[1]], true)?;
    same(header(&text), default.to_vec())?;
    let wide = on_terminal(160, &["ps", &name(&many)], true)?;
    let columns = header(&wide).join(" ");
    same(columns, "PID HPID USER S THR RSS ELAPSED BLOCKED IGNORED CAUGHT ON TERM COMMAND".into())?;
    // With -v it says what was left out.
    let mut ps = cinspect(&["-v", "ps", &name(&many)]);
    ps.env("COLUMNS", "80");
    let (_, error) = on_terminal_with(80, ps)?;
    let step = "columns left out at a width of 80: threads, blocked, ignored, caught";
    check(error.contains(step), error)
}

fn blocked_stays() -> Outcome {
    let container = fixture("init\n> many thread-blocks=USR1")?;
    let text = on_terminal(80, &["ps", "-T", &name(&container)], true)?;
    let columns = header(&text);
    check(columns.contains(&"BLOCKED") && columns.contains(&"TID"), &text)?;
    check(!columns.contains(&"IGNORED") && !columns.contains(&"CAUGHT"), &text)?;
    check(text.contains("USR1"), text)
}

fn every() -> Outcome {
    let containers = [fixture("init handle=TERM")?, fixture("init\n> child")?];
    let names = containers.each_ref().map(name);
    let rows = run(&["--json", "ps"]).expect(0)?.objects();
    let of = |name: &String| rows.iter().filter(|row| row["container"] == json!(name)).count();
    same([of(&names[0]), of(&names[1])], [1, 2])?;
    let piped = run(&["ps"]).expect(0)?.out;
    let in_pipe = |name: &String| piped.lines().any(|line| line == format!("{name}  running"));
    check(names.iter().all(in_pipe), &piped)?;
    let screen = on_terminal(80, &["ps"], true)?;
    for name in &names {
        let heading = format!("{name}  running  on stop (");
        let mut below = screen.lines().skip_while(|line| !line.starts_with(&heading)).skip(1);
        check(below.next().is_some_and(|line| line.contains("PID")), &screen)?;
        let first = below.next().unwrap_or_default();
        check(first.contains(name.trim_start_matches("pid:")), &screen)?;
    }
    Ok(())
}

/// The kernel takes both out of the set that the thread has in memory.
fn uncatchable() -> Outcome {
    let container = fixture("init sigwait=KILL,STOP,HUP")?;
    let rows = rows(&container, &["--signal", "HUP"])?;
    same(rows[0]["signals"]["waited"].clone(), json!(["HUP"]))
}

fn headings() -> Outcome {
    let (bad, unknown) = (fixture("init")?, fixture("init handle=TERM")?);
    let word = |container: &Container, arguments: &[&str]| -> Result<String, Failed> {
        let mut line = vec!["ps"];
        line.extend(arguments);
        let name = name(container);
        line.push(&name);
        let text = on_terminal(80, &line, true)?;
        let first = text.lines().next().unwrap_or_default().trim_end().to_owned();
        let start = format!("{name}  on stop (TERM assumed, 10 s assumed): ");
        check(first.starts_with(&start), &first)?;
        Ok(first[start.len()..].to_owned())
    };
    same(word(&bad, &[])?, "killed".into())?;
    same(word(&unknown, &[])?, "maybe".into())?;
    // It is about the stop, whatever signal the table is about.
    same(word(&bad, &["--signal", "KILL"])?, "killed".into())?;
    let several = on_terminal(80, &["ps", &name(&bad), &name(&unknown)], true)?;
    same(several.lines().filter(|line| line.contains("on stop (")).count(), 2)?;
    let narrow = on_terminal(30, &["ps", &name(&bad)], true)?;
    check(narrow.lines().next().unwrap_or_default().contains("on stop: killed"), narrow)?;
    let listed = on_terminal(80, &["ps", &name(&bad), "-o", "pid"], true)?;
    check(!listed.contains("on stop"), listed)?;
    let piped = run(&["ps", &name(&bad)]).expect(0)?.out;
    check(!piped.contains("on stop"), piped)?;
    // A handler that may do anything is not green.
    let colour = run(&["--color", "always", "ps", &name(&unknown)]).expect(0)?.out;
    check(!colour.contains("\x1b[32m"), colour)
}

fn colour() -> Outcome {
    let container = fixture("init\n> z exit")?;
    let name = name(&container);
    let plain = run(&["ps", &name]).expect(0)?.out;
    let asked = run(&["--color", "always", "ps", &name]).expect(0)?.out;
    check(!plain.contains('\x1b') && asked.contains('\x1b'), asked)?;
    check(on_terminal(100, &["ps", &name], false)?.contains('\x1b'), "no colour on a terminal")?;
    check(
        !on_terminal(100, &["ps", &name], true)?.contains('\x1b'),
        "colour in spite of NO_COLOR",
    )?;
    check(!on_terminal(100, &["ps", &name, "--color=never"], false)?.contains('\x1b'), "never")
}

fn placeholders() -> Outcome {
    let container = fixture("init\n> parent\n> > dead exit\n> blank no-argv")?;
    let name = name(&container);
    let show = || run(&["ps", &name, "-o", "state,command"]).out;
    check(wait_until(|| show().contains("<defunct>")), show())?;
    let text = show();
    check(
        text.contains("[dead] <defunct>") && text.contains("(blank)") && !text.contains("[blank]"),
        &text,
    )?;
    let blank = row(&rows(&container, &[])?, "blank");
    same(blank["command"].clone(), json!([]))
}

fn main_exited() -> Outcome {
    let container = fixture("init main-thread-exits")?;
    let word = name(&container);
    let listed = run(&["--json", "ls"]).expect(0)?.objects();
    check(listed.iter().any(|row| row["pid"] == json!(container.init)), "ls does not list it")?;
    let state = || rows(&container, &[]).is_ok_and(|rows| rows[0]["state"] == json!("Z"));
    check(wait_until(state), "the main thread stays")?;
    let rows = rows(&container, &[])?;
    same((rows[0]["state"].clone(), rows[0]["pid"].clone()), (json!("Z"), json!(1)))?;
    same(rows[0]["command"].clone(), json!(["init"]))?;
    run(&["signal", &word, "KILL", "--wait=120s"]).expect(0)?;
    Ok(())
}

/// Names as a hostile process would choose them, as bytes of comm.
const HOSTILE: &[&[u8]] =
    &[b"a) R 1 1\n(b", b"\x1b[2J\x1b]0;x", b"bad\xff:x", "\u{202e}gnp".as_bytes(), b"x\rroot 1"];

fn hostile() -> Outcome {
    let mut lines = "init".to_owned();
    for (index, name) in HOSTILE.iter().enumerate() {
        let hex: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        lines.push_str(&format!("\n> h{index} comm={hex}"));
    }
    let container = fixture(&lines)?;
    let text = run(&["ps", &name(&container), "-o", "+comm"]).expect(0)?;
    same(control_character(&text.out), None)?;
    same(text.out.lines().count(), 2 + HOSTILE.len())?;
    let rows = rows(&container, &[])?;
    for (index, name) in HOSTILE.iter().enumerate() {
        let wanted = match std::str::from_utf8(name) {
            Ok(text) => json!(text),
            Err(_) => json!({"bytes": data_encoding::BASE64.encode(name)}),
        };
        let pid = container.pids[&format!("h{index}")];
        let found = rows.iter().find(|row| row["pid"] == json!(pid)).cloned().unwrap_or_default();
        same(found["comm"].clone(), wanted)?;
        same(found["ppid"].clone(), json!(1))?;
        let is_alive = ["S", "R", "D"].iter().any(|state| found["state"] == *state);
        check(is_alive, found["state"].to_string())?;
    }
    // In messages, and as a selector, too.
    let error = run(&["signal", &name(&container), "TERM", "--comm", "\x1b[31m"]).expect(4)?;
    same(control_character(&error.err), None)?;
    run(&["signal", "-n", &name(&container), "TERM", "--comm", "a) R 1 1\n(b"]).expect(0)?;
    Ok(())
}

fn huge() -> Outcome {
    // One argument may have 128 KiB (MAX_ARG_STRLEN), all together three quarters of 8 MiB.
    let container = fixture("init\n> long argv=4200000")?;
    let rows = rows(&container, &[])?;
    let long = row(&rows, "long");
    let length: usize = long["command"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::len)
        .sum();
    check(length > 4_194_304, format!("{length} bytes"))?;
    let text = run(&["ps", &name(&container)]).expect(0)?.out;
    check(text.len() > 4_194_304 && text.lines().count() == 3, format!("{} bytes", text.len()))?;
    let seen = on_terminal(80, &["ps", &name(&container)], true)?;
    check(seen.lines().all(|line| line.chars().count() <= 80), "overrun")
}

fn unknown_column() -> Outcome {
    let run = run(&["ps", "-o", "pid,bloked", "web"]).expect(2)?;
    let mut lines = run.err.lines();
    same(lines.next(), Some("cinspect: no column `bloked`"))?;
    check(
        lines.next().is_some_and(|hint| hint.starts_with("hint: did you mean `blocked`?")),
        run.err,
    )
}

fn column_help() -> Outcome {
    let help = run(&["ps", "-o", "help"]).expect(0)?.out;
    check(help.lines().any(|line| line.starts_with("* blocked ")), help)
}
