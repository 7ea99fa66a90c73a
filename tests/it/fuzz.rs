//! The corpus of the fuzzer, replayed: `tests/fuzz/corpus/TARGET/` has inputs that lead everywhere in a parser,
//! and those that once led to a fault. `tests/long fuzz` goes on from there.

#[path = "../fuzz/targets.rs"]
pub mod targets;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use libtest_mimic::{Failed, Trial};

use crate::support::{Outcome, check, note, repository, same, test};

/// The name of the target that a process of its own replays.
const REPLAY: &str = "CINSPECT_FUZZ_REPLAY";

pub fn trials() -> Vec<Trial> {
    vec![
        test("fuzz::the_corpus_is_replayed", replay),
        test("fuzz::the_fuzzer_is_built_with_the_libraries_of_the_program", same_libraries),
    ]
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

/// The fuzzer has a lock file of its own.
fn same_libraries() -> Outcome {
    let versions = |path: &str| -> Result<BTreeMap<String, Vec<String>>, Failed> {
        let lock: toml::Table = std::fs::read_to_string(repository().join(path))?.parse()?;
        let packages = lock.get("package").and_then(toml::Value::as_array).ok_or("no packages")?;
        let text = |package: &toml::Value, key: &str| package.get(key)?.as_str().map(str::to_owned);
        let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for package in packages {
            let (name, version) = (text(package, "name"), text(package, "version"));
            versions.entry(name.ok_or("no name")?).or_default().extend(version);
        }
        Ok(versions)
    };
    let (program, fuzzer) = (versions("Cargo.lock")?, versions("tests/fuzz/Cargo.lock")?);
    check(fuzzer.contains_key("cinspect"), "no cinspect in it")?;
    let differs = |name: &&String| fuzzer.get(*name).is_some_and(|other| *other != program[*name]);
    same(program.keys().filter(differs).collect(), Vec::<&String>::new())
}
