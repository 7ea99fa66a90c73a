//! The order in which processes that are signalled together get the signal, because an exit may take others with
//! it: that of the init the whole container, and that of one child the init. Nothing here reads a file.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use super::container_process::ContainerProcess;
use super::programs::{SHELL, program_of};
use crate::model::signal::Signal;

/// The turn of a process among those that are signalled at once, from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SendRank {
    /// Processes that do not descend from the init, by the depth: they joined, or it has exited.
    Joined(Reverse<usize>),
    /// Other children of the init, such as orphans that it has adopted, and their descendants, by the depth.
    Other(Reverse<usize>),
    /// The child whose exit ends the init, and its descendants, by the depth.
    Awaited(Reverse<usize>),
    /// The init.
    Init,
}

/// Returns the rank of each process; children come before their parents.
pub fn send_ranks(
    processes: &[ContainerProcess],
    is_init: impl Fn(&ContainerProcess) -> bool,
) -> Vec<SendRank> {
    let init = processes.iter().position(is_init);
    let of_init = descendants(processes, init);
    let awaited = descendants(processes, init.and_then(|init| awaited_child(processes, init)));
    let rank = |(index, depth)| match index {
        _ if Some(index) == init => SendRank::Init,
        _ if awaited.contains(&index) => SendRank::Awaited(Reverse(depth)),
        _ if of_init.contains(&index) => SendRank::Other(Reverse(depth)),
        _ => SendRank::Joined(Reverse(depth)),
    };
    tree_depths(processes).into_iter().enumerate().map(rank).collect()
}

/// Returns a process with its descendants.
fn descendants(processes: &[ContainerProcess], root: Option<usize>) -> HashSet<usize> {
    let mut below: Vec<usize> = root.into_iter().collect();
    let mut found = HashSet::new();
    while let Some(index) = below.pop() {
        if found.insert(index) {
            below.extend(&processes[index].children);
        }
    }
    found
}

/// Returns the child whose exit ends the init, if the exit of any does. Inits that start one program (tini, sudo,
/// timeout) exit when that has; orphans that they adopted started later. A shell waits for the command in
/// the foreground, after which its script ends, and started its jobs before that. (A script that goes on is not
/// distinguished: then the order does not matter.)
fn awaited_child(processes: &[ContainerProcess], init: usize) -> Option<usize> {
    let facts = &processes[init].facts;
    let has_exited = |child: &usize| processes[*child].facts.stat.has_exited();
    let mut children = processes[init].children.iter().copied().filter(|child| !has_exited(child));
    if program_of(facts).is_none_or(|program| program.name != SHELL) {
        return children.next();
    }
    // Without job control jobs ignore INT and QUIT (POSIX, 2.11 Signals and Error Handling). An orphan from the
    // background is in a session of its own.
    let is_in_foreground = |child: &usize| {
        let child = &processes[*child].facts;
        let ignored = child.status.sig_ign;
        child.stat.session == facts.stat.session
            && !(ignored.contains(Signal::INT) && ignored.contains(Signal::QUIT))
    };
    let children: Vec<usize> = children.collect();
    let last = |is_it: &dyn Fn(&usize) -> bool| children.iter().copied().rfind(is_it);
    last(&is_in_foreground).or_else(|| last(&|_| true))
}

/// Returns the distance of each process from the root of its tree.
fn tree_depths(processes: &[ContainerProcess]) -> Vec<usize> {
    let mut known: HashMap<usize, usize> = HashMap::new();
    (0..processes.len())
        .map(|start| {
            let mut path = Vec::new();
            let mut index = start;
            let base = loop {
                if let Some(depth) = known.get(&index) {
                    break *depth + 1;
                }
                path.push(index);
                match processes[index].parent {
                    Some(parent) if path.len() <= processes.len() => index = parent,
                    _ => break 0,
                }
            };
            for (offset, index) in path.iter().rev().enumerate() {
                known.insert(*index, base + offset);
            }
            known[&start]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::analysis::container_process::{MemberProcess, UserTable, arrange};
    use crate::analysis::selection::tests::process;
    use crate::model::pid::ContainerPid;
    use crate::model::process::{Fact, Process};
    use crate::model::signal::SignalSet;

    /// Returns the PIDs of processes, each with its parent's, in the order in which they are signalled.
    fn order<const N: usize>(
        processes: [(i32, i32); N],
        change: impl Fn(i32, &mut Process),
    ) -> Vec<i32> {
        let member = |(pid, ppid)| {
            let mut facts = process(100 + pid, 100 + ppid, pid, "sh", 0);
            change(pid, &mut facts);
            MemberProcess { facts: Arc::new(facts), in_container: true, pid_ns: None }
        };
        let users = UserTable { map: None, names: None };
        let processes = arrange(processes.map(member).into(), 1, &users);
        let ranks = send_ranks(&processes, |process| process.pid == ContainerPid::new(1));
        let mut order: Vec<usize> = (0..N).collect();
        order.sort_by_key(|index| ranks[*index]);
        order.into_iter().map(|index| processes[index].pid.unwrap().get()).collect()
    }

    #[test]
    fn orphans_are_signalled_before_the_first_child_of_the_init() {
        let processes = [(1, 0), (2, 1), (3, 2), (4, 1), (5, 4)];
        assert_eq!(order(processes, |_, _| ()), [5, 4, 3, 2, 1]);
    }

    #[test]
    fn the_command_in_the_foreground_of_a_shell_is_signalled_after_its_jobs_and_orphans() {
        let is_shell = |pid, facts: &mut Process| {
            facts.exe = Fact::Known(b"/usr/bin/dash".to_vec());
            facts.stat.session = if pid == 5 { 105 } else { 101 };
        };
        let processes = [(1, 0), (2, 1), (3, 1), (4, 3), (5, 1), (6, 1)];
        // 2 is a job, 3 the command, 5 a daemon that it has left behind, 6 a job of another function.
        let with_jobs = |pid, facts: &mut Process| {
            is_shell(pid, facts);
            if [2, 6].contains(&pid) {
                facts.status.sig_ign = SignalSet::from_iter([Signal::INT, Signal::QUIT]);
            }
        };
        assert_eq!(order(processes, with_jobs), [2, 5, 6, 4, 3, 1]);
        assert_eq!(order(processes, is_shell), [4, 2, 3, 5, 6, 1]);
        // `wait $!`: jobs only.
        let jobs = |pid, facts: &mut Process| {
            is_shell(pid, facts);
            facts.status.sig_ign = SignalSet::from_iter([Signal::INT, Signal::QUIT]);
        };
        assert_eq!(order([(1, 0), (2, 1), (3, 1)], jobs), [2, 3, 1]);
    }
}
