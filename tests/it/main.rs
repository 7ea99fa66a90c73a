//! The tests that need the built program: a module for each command, one for recorded hosts, one for the
//! engines, and others. A test that cannot run on this machine is listed as ignored, with the reason in
//! its name; where it is required (`CINSPECT_TEST_REQUIRE=docker,root,…`, as in CI) it fails.

mod churn;
mod completion;
mod cp;
mod descendants;
mod docs;
mod doctor;
mod engines;
mod exec;
mod forecast;
mod fuse_overlayfs;
mod fuzz;
mod golden;
mod habits;
mod hostile;
mod hosts;
mod inspect;
mod kernel_agreement;
mod layering;
mod ls;
mod old_kernels;
mod oracles;
mod program_signals;
mod programs;
mod ps;
mod robustness;
mod scaling;
mod signal;
mod stop;
mod support;
mod system_calls;
mod terminal;
mod trace;
mod watch;
mod world;

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../injection/mod.rs"]
mod injection;
#[path = "../limits/mod.rs"]
mod limits;
#[path = "../signals/mod.rs"]
mod signals;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// The families of faults that run in worlds of their own.
const TASKS: &[(&str, world::Task)] =
    &[("injection", injection::task), ("limits", limits::task), ("signals", signals::task)];

fn main() -> ExitCode {
    harness::run_helper();
    fuzz::run_replay();
    if let Some(code) = world::run_task(TASKS) {
        return code;
    }
    let arguments = Arguments::from_args();
    libtest_mimic::run(&arguments, trials()).exit_code()
}

/// Collects the trials of every module. (A macro that declares the modules too would hide them from
/// rustfmt; `layering` verifies that none is missing.) With `CINSPECT_TEST_CHECKS`, only those with one of its
/// words in the name are left: a filter on the command line is a single one.
fn trials() -> Vec<Trial> {
    let modules = [
        churn::trials(),
        completion::trials(),
        cp::trials(),
        docs::trials(),
        doctor::trials(),
        engines::trials(),
        exec::trials(),
        forecast::trials(),
        fuse_overlayfs::trials(),
        fuzz::trials(),
        golden::trials(),
        habits::trials(),
        hostile::trials(),
        hosts::trials(),
        injection::trials(),
        inspect::trials(),
        kernel_agreement::trials(),
        layering::trials(),
        limits::trials(),
        ls::trials(),
        old_kernels::trials(),
        oracles::trials(),
        program_signals::trials(),
        programs::trials(),
        ps::trials(),
        robustness::trials(),
        scaling::trials(),
        signal::trials(),
        signals::trials(),
        stop::trials(),
        system_calls::trials(),
        trace::trials(),
        watch::trials(),
    ];
    let words = std::env::var("CINSPECT_TEST_CHECKS").unwrap_or_default();
    let words: Vec<&str> = words.split_whitespace().collect();
    let is_wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    modules.into_iter().flatten().filter(|trial| is_wanted(trial.name())).collect()
}
