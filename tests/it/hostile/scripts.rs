//! Attacks and accidents that lead a signal to the wrong process or give a container access to the
//! host: each is a script in `tests/hostile` that sets one up on this host, with `lib.sh` as its helper.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;

use crate::support::{Need, Outcome, check, finish, missing, report, repository};

pub fn trials() -> Vec<Trial> {
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(repository().join("tests/hostile"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name != "lib.sh"))
        .collect();
    scripts.sort();
    scripts.into_iter().map(trial).collect()
}

fn trial(script: PathBuf) -> Trial {
    let stem = script.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = format!("hostile::{stem}");
    if !Need::Root.met() {
        return missing(Need::Root.name(), &name, "needs root");
    }
    Trial::test(name.clone(), move || {
        let outcome = attack(&script);
        report("hostile", &name, &outcome);
        outcome
    })
}

fn attack(script: &PathBuf) -> Outcome {
    let mut shell = Command::new("unshare");
    shell.args(["-m", "--", "bash"]).arg(script).stdin(Stdio::null());
    shell.env("CINSPECT", env!("CARGO_BIN_EXE_cinspect"));
    let run = finish(shell);
    check(run.code == 0, format!("{}{}", run.out, run.err))
}
