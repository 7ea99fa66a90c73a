//! `doctor`: that it finds the problem, and that a real stop then behaves as it says.

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::{Need, Outcome, check, fixture, run, same, test_with};

/// The name of a case, its fixture, the code of the first finding, and whether a stop then waits for the
/// whole grace period.
const CASES: &[(&str, &str, &str, bool)] = &[
    ("that_handles_it", "init exits-on=TERM", "ok", false),
    ("without_a_handler", "init", "init-without-handler", true),
    ("that_ignores_it", "init ignore=TERM", "init-ignores", true),
    ("that_blocks_it", "init block=TERM", "init-blocks", true),
    ("that_waits_for_another", "init sigwait=HUP exits-on=TERM", "stop-signal", true),
    ("that_handles_another", "init handle=INT", "stop-signal", true),
    ("with_children", "init exits-on=TERM\n> child handle=TERM", "ok", false),
    ("with_a_child_that_blocks", "init exits-on=TERM\n> child block=TERM", "ok", false),
    ("that_does_not_reap", "init exits-on=TERM\n> parent\n> > gone exit", "zombies", false),
];

pub fn trials() -> Vec<Trial> {
    let each = CASES.iter().map(|(name, fixture, code, waits)| {
        let name = format!("doctor::an_init_{name}");
        test_with(Need::Namespaces, name.leak(), move || agrees(fixture, code, *waits))
    });
    let mut trials: Vec<Trial> = each.collect();
    trials.push(test_with(Need::Namespaces, "doctor::prints_messages_and_remedies", words));
    trials
}

fn agrees(lines: &str, code: &str, waits: bool) -> Outcome {
    let container = fixture(lines)?;
    let name = format!("pid:{}", container.init);
    let findings = run(&["--json", "doctor", &name]).expect(0)?.objects();
    same((findings[0]["code"].clone(), lines), (json!(code), lines))?;
    let is_problem = |row: &Value| row["severity"] == json!("problem");
    same(findings.iter().any(is_problem), waits)?;
    for row in findings.iter().filter(|row| row["severity"] != json!("ok")) {
        check(row["remedy"].is_string() && row["message"].is_string(), row)?;
    }
    let events = run(&["--json", "stop", "-t", "2s", &name]).expect(0)?.objects();
    let grace_over = events.iter().any(|event| event["event"] == json!("grace-over"));
    same((grace_over, lines), (waits, lines))
}

fn words() -> Outcome {
    let container = fixture("init")?;
    let output = run(&["doctor", &format!("pid:{}", container.init)]).expect(0)?;
    check(output.out.starts_with("problem  1 init: PID 1 has no handler for TERM"), &output.out)?;
    check(output.out.contains("→ run it under an init"), &output.out)?;
    run(&["doctor", "nosuch"]).expect(3).map(drop)
}
