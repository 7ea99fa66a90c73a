//! `ls` on containers of the harness.

use libtest_mimic::Trial;
use serde_json::json;

use crate::support::{Need, Outcome, cast, run, same, test_with};

pub fn trials() -> Vec<Trial> {
    vec![test_with(Need::Namespaces, "ls::a_bare_namespace_is_listed", bare)]
}

fn bare() -> Outcome {
    let container = cast("init\n> a\n> b")?;
    let rows = run(&["--json", "ls"]).expect(0)?.objects();
    let row =
        rows.iter().find(|row| row["pid"] == json!(container.init)).cloned().unwrap_or_default();
    same(row["runtime"].clone(), json!("bare"))?;
    same(row["processes"].clone(), json!(3))?;
    same(row["pod"].clone(), json!(null))
}
