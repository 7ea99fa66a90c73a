//! The house keeps its order: imports point downward only.

use std::path::Path;

use libtest_mimic::Trial;

use crate::support::{Outcome, check, repository, test};

/// The rooms from top to bottom; those on one line are neighbours. `error` and `ui` are the hall
/// that every room above `model` may step into.
const FLOORS: &[&[&str]] = &[
    &["manual"],
    &["command", "completion", "cli"],
    &["resolve", "action"],
    &["output"],
    &["engine"],
    &["analysis", "proc"],
    &["model", "sys"],
];

pub fn trials() -> Vec<Trial> {
    vec![test("layering::imports_point_downward", downward)]
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn downward() -> Outcome {
    let mut wrong = Vec::new();
    let source = repository().join("src");
    for (at, rooms) in FLOORS.iter().enumerate() {
        for room in *rooms {
            visit(&source.join(room), &mut |file, text| {
                let imports = text.split("crate::").skip(1).map(|rest| {
                    let end =
                        rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                    &rest[..end]
                });
                for to in imports {
                    if floor(to).is_some_and(|to| to < at) {
                        wrong.push(format!("{} imports from {to}", file.display()));
                    }
                }
            });
        }
    }
    check(wrong.is_empty(), wrong.join("\n"))
}

fn visit(path: &Path, see: &mut dyn FnMut(&Path, &str)) {
    let file = path.with_extension("rs");
    if let Ok(text) = std::fs::read_to_string(&file) {
        see(&file, &text);
    }
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        let inner = entry.path();
        if inner.is_dir() {
            visit(&inner, see);
        } else if let Ok(text) = std::fs::read_to_string(&inner) {
            see(&inner, &text);
        }
    }
}
