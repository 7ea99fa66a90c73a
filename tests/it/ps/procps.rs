//! procps as the oracle of `ps`: containers whose processes a generator makes from a number, with random
//! masks, handlers, pending signals, users, groups and threads, as both programs print them.

use std::collections::BTreeMap;
use std::process::Command;

use crate::harness::Container;
use crate::support::{Outcome, check, finish, fixture, note, run, wait_until};
use crate::world::is_long;

/// Containers in `tests/run`, and at length.
const CONTAINERS: u64 = 2;
const MANY_CONTAINERS: u64 = 60;
const PROCESSES: u64 = 14;

/// Signals that a fixture may block, handle, ignore or have pending. (KILL and STOP cannot be; CONT and the
/// signals that stop change the state.)
const SIGNALS: [&str; 16] = [
    "HUP", "INT", "QUIT", "USR1", "USR2", "PIPE", "ALRM", "TERM", "URG", "XCPU", "VTALRM", "WINCH",
    "IO", "PWR", "SYS", "RTMIN+3",
];

/// The columns of both. (procps pads the names of users.)
const COLUMNS: &str =
    "ppid,pgrp,sid,nice,threads,uid,user,state,blocked,caught,ignored,pending,comm";
const PROCPS: &str = "ppid,pgid,sid,ni,nlwp,ruid,ruser,s,blocked,caught,ignored,pending,comm";

/// Numbers by Marsaglia's xorshift.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn signals(&mut self, of: u64) -> String {
        let chosen = SIGNALS.iter().filter(|_| self.below(of) == 0);
        chosen.copied().collect::<Vec<_>>().join(",")
    }
}

/// Returns the spec of a container, and the signals that are sent to each process, which blocks them.
fn generate(number: u64) -> (String, BTreeMap<String, String>) {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ (number + 1));
    let (mut spec, mut pending) = ("init handle=TERM".to_owned(), BTreeMap::new());
    let mut depth = 0;
    for process in 0..PROCESSES {
        depth = 1 + numbers.below(depth.min(3) + 1);
        let name = format!("p{process}");
        let mut line = format!("\n{} {name}", vec![">"; depth as usize].join(" "));
        for (word, of) in [("ignore", 4), ("block", 3)] {
            let list = numbers.signals(of);
            if !list.is_empty() {
                line.push_str(&format!(" {word}={list}"));
                if word == "block" {
                    pending.insert(name.clone(), list);
                }
            }
        }
        // (Another thread would take a signal that the main thread blocks.)
        match numbers.below(4) {
            0 => {
                pending.remove(&name);
                line.push_str(&format!(" handle={}", SIGNALS[numbers.below(16) as usize]));
            }
            1 => {
                pending.remove(&name);
                line.push_str(" thread-blocks=USR2");
            }
            2 => line.push_str(" group"),
            _ => {}
        }
        if numbers.below(3) == 0 {
            line.push_str(&format!(" user={}", [1, 33, 65534, 123_456][numbers.below(4) as usize]));
        }
        spec.push_str(&line);
    }
    (spec, pending)
}

/// Every column of every process is the same, in the container's PID namespace.
pub(super) fn agrees() -> Outcome {
    for number in 0..if is_long() { MANY_CONTAINERS } else { CONTAINERS } {
        let (spec, pending) = generate(number);
        let container = fixture(&spec)?;
        let pids = container.host_pids();
        for (name, list) in pending {
            for signal in list.split(',') {
                let mut kill = Command::new("kill");
                kill.args(["-s", signal, &pids[&name].to_string()]);
                finish(kill).expect(0)?;
            }
        }
        // (A process that has been started may still run for a moment.)
        let mut differences = Vec::new();
        let is_same = wait_until(|| {
            differences = compare(&container).unwrap_or_else(|error| vec![error]);
            differences.is_empty()
        });
        let name = format!("ps as procps, container {number}");
        note("oracles", &name, if is_same { "ok" } else { "failed" }, &differences.join("; "));
        check(is_same, format!("{spec}\n{}", differences.join("\n")))?;
    }
    Ok(())
}

/// Returns the processes that the two programs print differently.
fn compare(container: &Container) -> Result<Vec<String>, String> {
    let name = format!("pid:{}", container.init);
    let columns = format!("pid,{COLUMNS}");
    let ours = run(&["ps", "--flat", "--raw", "-o", &columns, &name]);
    let mut ps = Command::new("nsenter");
    ps.args(["-t", &container.init.to_string(), "-p", "-m", "ps", "-e", "ww", "-o"]);
    ps.arg(format!("pid,{PROCPS}"));
    let theirs = finish(ps);
    let (ours, mut theirs) = (rows(&ours.out), rows(&theirs.out));
    theirs.retain(|_, row| row.last().is_none_or(|comm| comm != "ps"));
    if ours.len() != container.pids.len() {
        return Err(format!("{} of {} processes", ours.len(), container.pids.len()));
    }
    let differs = |pid: &&u64| ours.get(pid) != theirs.get(pid);
    let different = ours.keys().chain(theirs.keys()).filter(differs);
    Ok(different
        .map(|pid| format!("{pid}: {:?}, procps {:?}", ours.get(pid), theirs.get(pid)))
        .collect())
}

/// Returns the rows of a table by their first column.
fn rows(table: &str) -> BTreeMap<u64, Vec<String>> {
    let split = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        Some((words.next()?.parse().ok()?, words.collect()))
    };
    table.lines().skip(1).filter_map(split).collect()
}
