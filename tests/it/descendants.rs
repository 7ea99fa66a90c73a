//! The processes that a program has started, and whether they have settled, as the kernel says.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use crate::support::{children, patience};

/// How long the processes must not change, asleep all the time.
const SETTLED: Duration = Duration::from_millis(600);
/// The limit for that.
const LIMIT: Duration = Duration::from_secs(300);
/// The error where none are left.
pub const EXITED: &str = "the program has exited";

/// Waits until the descendants of a process are as many as `is_complete` asks for, do not change any more
/// and are all asleep. (One that waits for a CPU or a disk is not: a busy machine does not make it look
/// ready.) Returns their PIDs, parents first.
pub fn settled_descendants(
    parent: i32,
    is_complete: impl Fn(usize) -> bool,
) -> Result<Vec<i32>, Failed> {
    let limit = Instant::now() + LIMIT * patience();
    let mut last = Vec::new();
    let mut since = Instant::now();
    while Instant::now() < limit {
        let now = descendants(parent);
        let is_idle = is_complete(now.len()) && now.iter().all(|process| is_asleep(process.0));
        if now.is_empty() && has_exited(parent) {
            return Err(EXITED.into());
        }
        if now.is_empty() || now != last || !is_idle {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() >= SETTLED {
            return Ok(last.iter().map(|process| process.0).collect());
        }
        std::thread::sleep(Duration::from_millis(60));
    }
    let facts: Vec<&String> = last.iter().map(|process| &process.1).collect();
    Err(format!("not ready: {facts:?}").into())
}

/// Whether a process has exited: then it has no descendants again.
fn has_exited(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with(['Z', 'X']))
}

/// Whether every thread of a process sleeps until something happens.
fn is_asleep(pid: i32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut stats = tasks.map(|task| std::fs::read_to_string(task.path().join("stat")));
    stats.all(|stat| {
        let stat = stat.unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with(['R', 'D']))
    })
}

/// Returns the descendants of a process, parents first: PID, and name with handlers.
fn descendants(pid: i32) -> Vec<(i32, String)> {
    let mut all = Vec::new();
    for child in children(pid) {
        let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        let facts = status.lines().filter(|line| {
            ["Name:", "SigIgn:", "SigCgt:"].iter().any(|field| line.starts_with(field))
        });
        all.push((child, facts.collect::<Vec<_>>().join(" ")));
        all.extend(descendants(child));
    }
    all
}
