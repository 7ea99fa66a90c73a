//! `signal` on containers of the harness.

use libtest_mimic::Trial;

use crate::support::{Need, Outcome, cast, check, run, same, test_with};

pub fn trials() -> Vec<Trial> {
    vec![test_with(Need::Namespaces, "signal::exactly_the_one_that_is_meant", exactly_one)]
}

fn exactly_one() -> Outcome {
    let container = cast("init handle=USR1\n> a handle=USR1\n> b handle=USR1")?;
    let pid = container.inside["b"].to_string();
    run(&["signal", &format!("pid:{}", container.init), "USR1", "--pid", &pid]).expect(0)?;
    check(container.wait_to_hear("b USR1 0"), "b did not hear it")?;
    same(container.heard().len(), 1)
}
