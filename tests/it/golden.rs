//! Golden files: captures of a terminal, as tmux sees it, at 80 and 160 columns; and every error, with its
//! message, cause and hint. `UPDATE=1 cargo test --test it -- golden::` writes them again; read them
//! before they are committed.

use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::{Failed, Trial};

use crate::hosts::unpack;
use crate::support::{Need, Outcome, check, cinspect, finish, repository, same, test, test_with};

/// Command lines on a recorded host.
const RECORDED: &[(&str, &str)] = &[
    ("ls", "ls"),
    ("ps", "ps web"),
    ("ps-several", "ps web db --signal HUP"),
    ("ps-columns", "ps -o help"),
    ("ps-added", "ps web -o +comm,note"),
    ("signals", "signals web TERM QUIT HUP"),
    ("signal-list", "signal -l"),
    ("doctor", "doctor web"),
    ("doctor-paused", "doctor db"),
    ("inspect", "inspect web"),
    ("help", "--help"),
    ("help-full", "help"),
    ("help-signal", "help signal"),
    ("help-ps", "ps --help"),
    ("completions", "completions fish"),
];

/// Command lines on a live container: process 3 of a private PID namespace, so that every PID is known.
const LIVE: &[(&str, &str)] = &[
    ("live-ps", "ps -o pid,hpid,user,state,verdict,blocked,caught,command pid:3"),
    ("live-signal", "signal pid:3 TERM"),
    ("live-signal-dry-run", "signal -n pid:3 --all TERM"),
    ("live-stop-dry-run", "stop -n pid:3"),
    ("live-exec", "exec pid:3 -- sh -c 'echo inside'"),
    ("live-cp", "cp /etc/passwd pid:3:/tmp/nosuch/"),
];

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![test("golden::every_error_has_a_message_a_cause_and_a_hint", errors)];
    for columns in [80, 160] {
        for (name, line) in RECORDED {
            let title = format!("golden::{name}_at_{columns}").leak();
            trials.push(test_with(Need::Tmux, title, move || recorded(name, line, columns)));
        }
        for (name, line) in LIVE {
            let title = format!("golden::{name}_at_{columns}").leak();
            trials.push(test_with(Need::Tmux, title, move || live(name, line, columns)));
        }
    }
    trials
}

/// Runs a shell command in a directory; returns the content of the terminal.
fn capture(line: &str, dir: &Path, columns: usize) -> Result<String, Failed> {
    let socket = dir.join("tmux").display().to_string();
    let tmux = |arguments: &[&str]| {
        let mut command = Command::new("tmux");
        command.args(["-S", &socket, "-f", "/dev/null"]).args(arguments).current_dir(dir);
        command.env("LC_ALL", "C.UTF-8").env_remove("TMUX").env_remove("NO_COLOR");
        command.env_remove("COLUMNS").stdin(Stdio::null());
        finish(command)
    };
    let program = Path::new(env!("CARGO_BIN_EXE_cinspect"));
    let path = program.parent().unwrap_or(program).display();
    let shell = format!(
        "PATH={path}:$PATH; export LC_ALL=C.UTF-8; {line}; echo; echo =end=; exec sleep 1000"
    );
    let columns = columns.to_string();
    tmux(&["new-session", "-d", "-x", &columns, "-y", "150", "sh", "-c", &shell]).expect(0)?;
    let mut screen = String::new();
    let done = crate::support::wait_until(|| {
        screen = tmux(&["capture-pane", "-p"]).out;
        screen.contains("=end=")
    });
    tmux(&["kill-server"]);
    check(done, format!("it did not end: {screen}"))?;
    let shown = screen.split("\n=end=").next().unwrap_or_default();
    let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
    Ok(lines.join("\n").trim_end().to_owned() + "\n")
}

fn recorded(name: &str, line: &str, columns: usize) -> Outcome {
    let dir = tempfile::tempdir()?;
    std::fs::create_dir(dir.path().join("h"))?;
    unpack("docker-systemd-v2", &dir.path().join("h"))?;
    // Booted so long ago that no age changes during the test.
    let boot = jiff::Timestamp::now().as_second() - (3 * 86400 + 4 * 3600 + 30 * 60);
    std::fs::write(dir.path().join("h/proc/stat"), format!("btime {boot}\n"))?;
    let text = capture(&format!("cinspect --host-root h {line}"), dir.path(), columns)?;
    let date = jiff::Timestamp::from_second(boot + 42)?.to_string();
    compare(name, columns, &text.replace(&date, "2026-01-01T00:00:42Z"))
}

fn live(name: &str, line: &str, columns: usize) -> Outcome {
    let dir = tempfile::tempdir()?;
    // 1 the shell, 2 unshare, 3 its init, 4 the init's child; then cinspect.
    let inner = "trap : USR1; sleep 1000 & wait";
    // Both are asleep before anything is shown. (The loop uses builtins only, which take no PID.)
    let script = format!(
        "unshare --pid --fork --mount-proc sh -c '{inner}' &\n\
         until read -r child < /proc/4/stat && read -r init < /proc/3/stat; do :; done 2> /dev/null\n\
         until case $init$child in '3 (sh) S '*'4 (sleep) S '*) ;; *) false ;; esac; do\n\
         read -r child < /proc/4/stat; read -r init < /proc/3/stat; done\n\
         cinspect {line}"
    );
    std::fs::write(dir.path().join("script"), script)?;
    let text = capture(
        "unshare --pid --fork --kill-child --mount-proc sh ./script 2>&1",
        dir.path(),
        columns,
    )?;
    compare(name, columns, &text)
}

fn compare(name: &str, columns: usize, text: &str) -> Outcome {
    let path = repository().join(format!("tests/golden/{name}.{columns}"));
    let wide = text.lines().find(|line| line.chars().count() > columns);
    check(wide.is_none(), format!("wider than the terminal: {wide:?}"))?;
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(repository().join("tests/golden"))?;
        std::fs::write(&path, text)?;
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    if text != wanted {
        return Err(format!("{}:\n{text}\n--- wanted ---\n{wanted}", path.display()).into());
    }
    Ok(())
}

/// Command lines that fail on the recorded host; their messages are in `tests/golden/errors`.
const ERRORS: &[&str] = &[
    "",
    "nosuch",
    "ps nosuch",
    "ps wbe",
    "ps old",
    "ps docker:",
    "ps dokcer:web",
    "ps pid:0",
    "ps pid:999",
    "ps cgroup:docker",
    "ps cgroup:/nosuch",
    "ps 3f",
    "ps web -o nosuch",
    "ps web --sort blokced",
    "ps web --signal TREM",
    "ps web --watch=soon",
    "ls --engine doker",
    "ls -o nmae",
    "signals web TREM",
    "signals --decode xyz",
    "signal web",
    "signal web TREM",
    "signal web TERM",
    "signal 812 TERM",
    "signal TERM web",
    "kill -9 web",
    "kill web -TERM",
    "kill web HUP -s TERM",
    "signal web TERM --match [",
    "ps -aux",
    "ls -1",
    "signal web TERM --wait=often",
    "stop web --order some",
    "stop web --schedule TERM",
    "stop web --schedule TERM:5s,TREM:1s",
    "doctor nosuch",
    "inspect web --pid 99",
    "inspect web --pid 0",
    "exec web --ns nosuch -- true",
    "exec web --env-file /nosuch -- true",
    "exec web -- true",
    "cp one two",
    "cp - -",
    "cp web:/x",
    "cp nosuch:/etc/passwd .",
    "cp web:/etc/passwd .",
    "completions tcsh",
    "--color sometimes ls",
    "--host-root /nosuch ls",
];

fn errors() -> Outcome {
    let dir = tempfile::tempdir()?;
    unpack("docker-systemd-v2", dir.path())?;
    let (mut page, mut incomplete) = (String::new(), String::new());
    for line in ERRORS {
        let root = dir.path().display().to_string();
        let mut arguments = Vec::new();
        if !line.is_empty() && !line.contains("--host-root") {
            arguments.extend(["--host-root", &root]);
        }
        arguments.extend(line.split_whitespace());
        let mut command = cinspect(&arguments);
        command.current_dir(dir.path());
        let run = finish(command);
        check(run.code != 0, format!("`{line}` does not fail"))?;
        same((line, run.out.as_str()), (line, ""))?;
        let mut text = run.err.replace(&root, "ROOT");
        if line.is_empty() {
            // (Without arguments the help follows.)
            text = text.lines().next().unwrap_or_default().into();
        } else {
            let message = text.lines().next().unwrap_or_default();
            let complete = message.starts_with("cinspect: ") && text.contains("\nhint: ");
            if !complete || message.ends_with('.') {
                incomplete.push_str(&format!("$ cinspect {line}\n{text}"));
            }
        }
        page.push_str(&format!("$ cinspect {line}\n{}\nstatus {}\n\n", text.trim_end(), run.code));
    }
    check(incomplete.is_empty(), format!("no message, cause and hint:\n{incomplete}"))?;
    let path = repository().join("tests/golden/errors");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page)?;
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    if page == wanted {
        return Ok(());
    }
    let difference = page.lines().zip(wanted.lines()).find(|(line, wanted)| line != wanted);
    Err(format!("{} is out of date: {difference:?}", path.display()).into())
}
