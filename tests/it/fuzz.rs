//! The corpus of the fuzzer, replayed: `tests/fuzz/corpus/TARGET/` has inputs that lead everywhere in a parser,
//! and those that once led to a fault. `tests/long fuzz` goes on from there.

#[path = "../fuzz/targets.rs"]
pub mod targets;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;

use crate::support::{Outcome, check, note, repository, test};

/// The name of the target that a process of its own replays.
const REPLAY: &str = "CINSPECT_FUZZ_REPLAY";

pub fn trials() -> Vec<Trial> {
    vec![test("fuzz::the_corpus_is_replayed", replay)]
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let dir = repository().join("tests/fuzz/corpus").join(target);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Replays a target and exits, if the environment says so. (The program forks: it is to have no threads.)
pub fn run_replay() {
    let Ok(wanted) = std::env::var(REPLAY) else { return };
    for (_, run) in targets::targets().into_iter().filter(|(name, _)| *name == wanted) {
        for path in inputs(&wanted) {
            eprintln!("{}", path.display());
            run(&std::fs::read(&path).expect("the input"));
        }
    }
    std::process::exit(0)
}

fn replay() -> Outcome {
    let mut total = 0;
    for (name, _) in targets::targets() {
        let inputs = inputs(name);
        check(!inputs.is_empty(), format!("no corpus for {name}"))?;
        let mut command = Command::new(std::env::current_exe()?);
        command.env(REPLAY, name).stdin(Stdio::null()).stdout(Stdio::null());
        let output = command.output()?;
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = err.len().saturating_sub(3000);
        let end = err.get(last..).unwrap_or(&err);
        check(output.status.success(), format!("{name}: {:?}: {end}", output.status))?;
        inputs.iter().for_each(|path| note("fuzz", &path.display().to_string(), "ok", ""));
        total += inputs.len();
    }
    check(total > 100, format!("only {total} inputs"))
}
