//! The tests that need the built program: one module a command, one for recorded hosts, one for the
//! engines. What cannot run where they are started is listed as ignored, with the reason in its
//! name; where it must run (`CINSPECT_TEST_REQUIRE=docker,root,…`, as CI sets) its absence fails.

mod attacks;
mod completion;
mod cp;
mod docs;
mod doctor;
mod engines;
mod exec;
mod golden;
mod hosts;
mod inspect;
mod kernel_agreement;
mod layering;
mod ls;
mod programs;
mod ps;
mod robustness;
mod signal;
mod stop;
mod support;
mod terminal;
mod watch;

#[path = "../harness/mod.rs"]
mod harness;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    harness::run_helper();
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    trials.extend(robustness::trials());
    trials.extend(attacks::trials());
    trials.extend(completion::trials());
    trials.extend(kernel_agreement::trials());
    trials.extend(docs::trials());
    trials.extend(doctor::trials());
    trials.extend(engines::trials());
    trials.extend(cp::trials());
    trials.extend(exec::trials());
    trials.extend(hosts::trials());
    trials.extend(layering::trials());
    trials.extend(inspect::trials());
    trials.extend(golden::trials());
    trials.extend(ls::trials());
    trials.extend(programs::trials());
    trials.extend(ps::trials());
    trials.extend(signal::trials());
    trials.extend(stop::trials());
    trials.extend(watch::trials());
    libtest_mimic::run(&arguments, trials).exit_code()
}
