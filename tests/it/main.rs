//! The tests that need the built program: one module a command, one for recorded hosts, one for the
//! engines. What cannot run where they are started is listed as ignored, with the reason in its
//! name; where it must run (`CINSPECT_TEST_REQUIRE=docker,root,…`, as CI sets) its absence fails.

mod attacks;
mod bad_times;
mod completion;
mod cp;
mod docs;
mod doctor;
mod engines;
mod exec;
mod hosts;
mod house;
mod inspect;
mod look;
mod ls;
mod programs;
mod ps;
mod signal;
mod stop;
mod support;
mod terminal;
mod truth;
mod watch;

#[path = "../harness/mod.rs"]
mod harness;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    harness::play();
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    trials.extend(bad_times::trials());
    trials.extend(attacks::trials());
    trials.extend(completion::trials());
    trials.extend(truth::trials());
    trials.extend(docs::trials());
    trials.extend(doctor::trials());
    trials.extend(engines::trials());
    trials.extend(cp::trials());
    trials.extend(exec::trials());
    trials.extend(hosts::trials());
    trials.extend(house::trials());
    trials.extend(inspect::trials());
    trials.extend(look::trials());
    trials.extend(ls::trials());
    trials.extend(programs::trials());
    trials.extend(ps::trials());
    trials.extend(signal::trials());
    trials.extend(stop::trials());
    trials.extend(watch::trials());
    libtest_mimic::run(&arguments, trials).exit_code()
}
