//! `ps` on containers of the harness.

use libtest_mimic::Trial;
use serde_json::json;

use crate::support::{Need, Outcome, cast, run, same, test, test_with};

pub fn trials() -> Vec<Trial> {
    vec![
        test_with(Need::Namespaces, "ps::each_process_with_its_signal_state", each_process),
        test("ps::an_unknown_column_is_a_usage_error_that_names_a_near_one", unknown_column),
    ]
}

fn each_process() -> Outcome {
    let container = cast(
        "init handle=TERM\n> web handle=TERM,HUP\n> > worker\n> deaf ignore=TERM\n> busy block=TERM",
    )?;
    let rows = run(&["--json", "ps", &container.init.to_string()]).expect(0)?.objects();
    let row = |name: &str| rows.iter().find(|row| row["comm"] == name).cloned().unwrap_or_default();
    same(rows.len(), 5)?;
    for (name, inside) in &container.inside {
        same(row(name)["pid"].clone(), json!(inside))?;
    }
    same(row("deaf")["signals"]["ignored"].clone(), json!(["TERM"]))?;
    same(row("busy")["signals"]["blocked"].clone(), json!(["TERM"]))?;
    same(row("worker")["signals"]["caught"].clone(), json!([]))?;
    same(row("worker")["ppid"].clone(), row("web")["pid"].clone())?;
    same(row("init")["ppid"].clone(), json!(0))
}

fn unknown_column() -> Outcome {
    let run = run(&["ps", "-o", "pid,bloked", "web"]).expect(2)?;
    same(
        run.err.lines().next().unwrap_or_default().to_owned(),
        "cinspect: no column `bloked`".into(),
    )
}
