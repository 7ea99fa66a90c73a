//! Habits from other programs, each with its answer: `tests/habits.rows`. The hints are tried on a recorded
//! host; the rest on Docker.

use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::{Failed, Trial};

use crate::hosts::unpack;
use crate::support::{Outcome, check, finish, repository, test};

/// A shell function: the program, on the host that is recorded below `$HOST`.
const ON_RECORDED_HOST: &str = r#"cinspect() { "$CINSPECT" --host-root "$HOST" "$@"; }"#;
/// The same on this host.
const ON_THIS_HOST: &str = r#"cinspect() { "$CINSPECT" "$@"; }"#;

pub fn trials() -> Vec<Trial> {
    vec![test("habits::each_works_or_is_answered_with_a_command", recorded)]
}

/// A row of the table.
struct Row {
    status: i32,
    typed: String,
    part: String,
}

fn rows(section: &str) -> Result<Vec<Row>, Failed> {
    let text = std::fs::read_to_string(repository().join("tests/habits.rows"))?;
    let heading = format!("[{section}]");
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rows = lines.map(|line| {
        let (status, rest) = line.split_once(' ').ok_or(format!("no status: {line}"))?;
        let (typed, part) = rest.split_once(" =>").ok_or(format!("no answer: {line}"))?;
        let (typed, part) = (typed.to_owned(), part.trim().to_owned());
        Ok(Row { status: status.parse().map_err(|_| line.to_owned())?, typed, part })
    });
    rows.collect()
}

/// Runs the rows of a section, and collects those with another answer.
fn run_rows(section: &str, function: &str, host: &Path, name: &str) -> Outcome {
    let rows = rows(section)?;
    check(rows.len() > 40, format!("{} rows", rows.len()))?;
    let dir = tempfile::tempdir()?;
    let mut wrong = String::new();
    for Row { status, typed, part } in rows {
        let (typed, part) = (typed.replace("NAME", name), part.replace("NAME", name));
        let mut command = Command::new("bash");
        command.args(["-c", &format!("{function}; {typed}")]).current_dir(dir.path());
        command.env("CINSPECT", env!("CARGO_BIN_EXE_cinspect")).env("HOST", host);
        command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC").stdin(Stdio::null());
        let run = finish(command);
        if run.code != status || !format!("{}{}", run.out, run.err).contains(&part) {
            let answer = format!("{}{}", run.out, run.err);
            wrong
                .push_str(&format!("$ {typed}\nwanted {status} {part}\ngot {} {answer}", run.code));
        }
    }
    check(wrong.is_empty(), wrong)
}

fn recorded() -> Outcome {
    let dir = tempfile::tempdir()?;
    unpack("docker-systemd-v2", dir.path())?;
    // (`NAME` stands in hints as well.)
    run_rows("recorded", ON_RECORDED_HOST, dir.path(), "NAME")
}

/// Runs the rows for a container of Docker, which prints 30 lines, handles HUP and ignores TERM.
pub fn on_a_container(name: &str) -> Outcome {
    run_rows("docker", ON_THIS_HOST, Path::new("/"), name)
}
