//! Selects the processes of a container that a signal is meant for: the union of all selectors of the
//! command line. A selector that matches nothing is an error. Nothing here reads a file.

use std::collections::BTreeSet;

use regex::bytes::Regex;

use super::container_process::ContainerProcess;
use super::send_order::send_ranks;
use crate::model::bytes::message_text;
use crate::model::pid::{ContainerPid, HostPid};
use crate::model::process::Process;

/// One way to select processes.
#[derive(Clone, Debug)]
pub enum Selector {
    /// The container's init.
    Init,
    /// `--pid`: by PID in the container.
    Pid(ContainerPid),
    /// `--host-pid`: by PID on the host.
    HostPid(HostPid),
    /// `--tid`: one thread, by TID in the container.
    Tid(ContainerPid),
    /// `--comm`: by the exact name of the main thread.
    Comm(Vec<u8>),
    /// `--match`: by the whole command line.
    Match(Regex),
    /// `--user`: by user name or UID in the container.
    User(String),
    /// `--tree`: a process and its descendants.
    Tree(ContainerPid),
    /// `--pgroup`: a process group, by PGID in the container.
    Group(ContainerPid),
    /// `--all`.
    All,
}

impl Selector {
    /// Returns the option that the user typed.
    pub fn typed(&self) -> String {
        match self {
            Self::Init => "the container's init".into(),
            Self::Pid(pid) => format!("--pid {pid}"),
            Self::HostPid(pid) => format!("--host-pid {pid}"),
            Self::Tid(tid) => format!("--tid {tid}"),
            Self::Comm(name) => format!("--comm {}", message_text(name)),
            Self::Match(pattern) => format!("--match {pattern}"),
            Self::User(user) => format!("--user {user}"),
            Self::Tree(pid) => format!("--tree {pid}"),
            Self::Group(group) => format!("--pgroup {group}"),
            Self::All => "--all".into(),
        }
    }

    /// Whether it needs the command lines.
    pub fn needs_commands(&self) -> bool {
        matches!(self, Self::Match(_))
    }

    /// Whether it needs the threads.
    pub fn needs_threads(&self) -> bool {
        matches!(self, Self::Tid(_))
    }
}

/// The attributes, besides the PID, that selectors matched on. They are checked again after the process
/// is held: a PID can be reused within the hundredth of a second that start times resolve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Criteria {
    comm: bool,
    /// The command line, which has to be read again.
    pub command: bool,
    user: bool,
    group: bool,
    parent: bool,
}

impl Criteria {
    /// Returns the attributes that these selectors match on.
    pub fn of(selectors: &[Selector]) -> Self {
        let any = |test: fn(&Selector) -> bool| selectors.iter().any(test);
        Self {
            comm: any(|selector| matches!(selector, Selector::Comm(_))),
            command: any(Selector::needs_commands),
            user: any(|selector| matches!(selector, Selector::User(_))),
            group: any(|selector| matches!(selector, Selector::Group(_))),
            parent: any(|selector| matches!(selector, Selector::Tree(_))),
        }
    }

    /// Whether none of them has changed.
    pub fn still_hold(self, before: &Process, now: &Process) -> bool {
        (!self.comm || before.stat.comm == now.stat.comm)
            && (!self.command || before.command == now.command)
            && (!self.user || before.status.uid == now.status.uid)
            && (!self.group || before.status.nspgid == now.status.nspgid)
            && (!self.parent || before.stat.ppid == now.stat.ppid)
    }
}

/// A selected process, or one thread of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selected {
    /// Index of the process in the list that was selected from.
    pub index: usize,
    /// The thread's TID on the host, if only that is meant.
    pub thread: Option<i32>,
}

/// Returns the processes that any of the selectors matches, in the order of [`send_ranks`]. `depth` is the
/// container's index in the NSpid lines.
///
/// # Errors
/// The first selector that matches nothing.
pub fn select<'a>(
    processes: &[ContainerProcess],
    init: Option<HostPid>,
    depth: usize,
    selectors: &'a [Selector],
    except_init: bool,
) -> Result<Vec<Selected>, &'a Selector> {
    let is_init = |process: &ContainerProcess| match init {
        Some(init) => process.facts.id.pid == init,
        None => process.pid.is_some_and(|pid| pid.get() == 1),
    };
    let mut selected: BTreeSet<Selected> = BTreeSet::new();
    for selector in selectors {
        let matches = matches(processes, depth, selector, &is_init);
        if matches.is_empty() {
            return Err(selector);
        }
        selected.extend(matches);
    }
    if except_init {
        selected.retain(|selected| !is_init(&processes[selected.index]));
    }
    // A thread of a process that is selected as a whole would get the signal twice.
    let whole: BTreeSet<usize> =
        selected.iter().filter(|s| s.thread.is_none()).map(|s| s.index).collect();
    selected.retain(|selected| selected.thread.is_none() || !whole.contains(&selected.index));
    let ranks = send_ranks(processes, is_init);
    let mut ordered: Vec<Selected> = selected.into_iter().collect();
    ordered.sort_by_key(|selected| (ranks[selected.index], *selected));
    Ok(ordered)
}

/// Returns the processes that one selector matches.
fn matches(
    processes: &[ContainerProcess],
    depth: usize,
    selector: &Selector,
    is_init: &dyn Fn(&ContainerProcess) -> bool,
) -> Vec<Selected> {
    let whole = |index| Selected { index, thread: None };
    // No selector means a process that is in the container's cgroup only.
    let filter = |test: &dyn Fn(&ContainerProcess) -> bool| {
        let matches = |index: &usize| processes[*index].in_container && test(&processes[*index]);
        (0..processes.len()).filter(matches).map(whole).collect()
    };
    match selector {
        Selector::Init => processes.iter().position(is_init).map(whole).into_iter().collect(),
        Selector::All => filter(&|_| true),
        Selector::Pid(pid) => filter(&|process| process.pid == Some(*pid)),
        Selector::HostPid(pid) => filter(&|process| process.facts.id.pid == *pid),
        Selector::Comm(name) => filter(&|process| process.facts.stat.comm == *name),
        Selector::Match(pattern) => filter(&|process| {
            let command = process.facts.command.known();
            command.is_some_and(|command| pattern.is_match(&command.joined()))
        }),
        Selector::User(user) => filter(&|process| {
            process.user.as_deref() == Some(user.as_bytes())
                || process.uid.is_some_and(|uid| uid.to_string() == *user)
        }),
        Selector::Group(group) => {
            filter(&|process| process.facts.status.nspgid.get(depth) == Some(&group.get()))
        }
        Selector::Tree(root) => {
            let Some(root) = processes.iter().position(|process| process.pid == Some(*root)) else {
                return Vec::new();
            };
            let is_below =
                |index: &usize| processes[*index].in_container && descends(processes, *index, root);
            (0..processes.len()).filter(is_below).map(whole).collect()
        }
        Selector::Tid(tid) => threads(processes, depth, *tid),
    }
}

/// Returns the threads with this TID in the container.
fn threads(processes: &[ContainerProcess], depth: usize, tid: ContainerPid) -> Vec<Selected> {
    let processes = processes.iter().enumerate().filter(|(_, process)| process.in_container);
    let threads = processes.flat_map(|(index, process)| {
        process.facts.threads.iter().filter_map(move |thread| {
            (thread.status.nspid.get(depth) == Some(&tid.get()))
                .then_some(Selected { index, thread: Some(thread.stat.pid) })
        })
    });
    threads.collect()
}

/// Whether a process is another one or a descendant of it. The parents were not read at one instant; a
/// circle among them must not keep us here.
fn descends(processes: &[ContainerProcess], mut index: usize, ancestor: usize) -> bool {
    for _ in 0..=processes.len() {
        if index == ancestor {
            return true;
        }
        match processes[index].parent {
            Some(parent) => index = parent,
            None => return false,
        }
    }
    false
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::analysis::container_process::{MemberProcess, UserTable, arrange};
    use crate::model::pid::{ProcessId, Ticks};
    use crate::model::process::{CommandLine, Fact, Times};
    use crate::model::stat::Stat;
    use crate::model::status::Status;

    /// Returns a process of a container at depth 1.
    pub fn process(pid: i32, ppid: i32, container_pid: i32, comm: &str, uid: u32) -> Process {
        let stat = format!(
            "{pid} ({comm}) S {ppid} {pid} {pid} 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {pid} 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"
        );
        let status = format!(
            "Name:\t{comm}\nState:\tS (sleeping)\nTgid:\t{pid}\nPid:\t{pid}\nPPid:\t{ppid}\nTracerPid:\t0\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t0\t0\t0\t0\nGroups:\t\nNStgid:\t{pid}\t{container_pid}\nNSpid:\t{pid}\t{container_pid}\nNSpgid:\t{pid}\t{container_pid}\nNSsid:\t{pid}\t{container_pid}\nThreads:\t1\nSigQ:\t0/1\nSigPnd:\t0\nShdPnd:\t0\nSigBlk:\t0\nSigIgn:\t0\nSigCgt:\t0\nCapInh:\t0\nCapPrm:\t0\nCapEff:\t0\nCapBnd:\t0\nCapAmb:\t0\n"
        );
        let stat = Stat::parse(stat.as_bytes()).unwrap();
        let argv = [comm.as_bytes(), b"\0--worker\0"].concat();
        Process {
            id: ProcessId { pid: HostPid::new(pid).unwrap(), start: stat.start },
            times: Times { started: jiff::Timestamp::UNIX_EPOCH, cpu: std::time::Duration::ZERO },
            status: Status::parse(status.as_bytes()).unwrap(),
            stat,
            command: Fact::Known(CommandLine::parse(argv, false)),
            exe: Fact::Absent,
            waits: Fact::Absent,
            kernel_wait: None,
            asked: None,
            threads: Vec::new(),
            pidfd: None,
        }
    }

    fn processes() -> Vec<ContainerProcess> {
        let processes = vec![
            process(100, 50, 1, "init", 0),
            process(101, 100, 7, "web", 33),
            process(102, 101, 8, "worker", 33),
            process(103, 50, 20, "sh", 0),
        ];
        let map = crate::model::idmap::IdMap::parse(b"0 0 4294967295\n");
        let member = |process: Process, in_container: bool| MemberProcess {
            facts: Arc::new(process),
            in_container,
            pid_ns: None,
        };
        let mut processes: Vec<MemberProcess> =
            processes.into_iter().map(|process| member(process, true)).collect();
        // In the cgroup only: its PID is one of another namespace.
        processes.push(member(process(104, 100, 7, "web", 33), false));
        arrange(processes, 1, &UserTable { map: map.ok(), names: None })
    }

    #[test]
    fn children_of_one_tick_are_in_the_order_of_the_containers_pids() {
        // (The host's PIDs have wrapped around.)
        let processes = [(32766, 50, 1), (32767, 32766, 2), (303, 32766, 4)];
        let members = processes.map(|(pid, ppid, inside)| {
            let mut process = process(pid, ppid, inside, "sh", 0);
            process.id.start = Ticks(7);
            MemberProcess { facts: Arc::new(process), in_container: true, pid_ns: None }
        });
        let arranged = arrange(members.into(), 1, &UserTable { map: None, names: None });
        assert_eq!(arranged[0].children, [1, 2]);
    }

    fn pick(selectors: &[Selector], except_init: bool) -> Vec<i32> {
        let processes = processes();
        let selected = select(&processes, HostPid::new(100), 1, selectors, except_init).unwrap();
        selected.iter().map(|s| processes[s.index].pid.unwrap().get()).collect()
    }

    fn pid(number: i32) -> ContainerPid {
        ContainerPid::new(number).unwrap()
    }

    #[test]
    fn each_selector_matches_its_attribute() {
        assert_eq!(pick(&[Selector::Init], false), [1]);
        assert_eq!(pick(&[Selector::Pid(pid(7))], false), [7]);
        assert_eq!(pick(&[Selector::HostPid(HostPid::new(102).unwrap())], false), [8]);
        assert_eq!(pick(&[Selector::Comm(b"web".to_vec())], false), [7]);
        assert_eq!(pick(&[Selector::Match(Regex::new("^work.* --worker$").unwrap())], false), [8]);
        assert_eq!(pick(&[Selector::User("33".into())], false), [8, 7]);
        assert_eq!(pick(&[Selector::Tree(pid(7))], false), [8, 7]);
        assert_eq!(pick(&[Selector::Group(pid(20))], false), [20]);
    }

    #[test]
    fn returns_the_union_children_first_and_the_init_last() {
        assert_eq!(pick(&[Selector::All], false), [20, 8, 7, 1]);
        assert_eq!(pick(&[Selector::All], true), [20, 8, 7]);
        assert_eq!(
            pick(&[Selector::Pid(pid(1)), Selector::Pid(pid(8)), Selector::Init], false),
            [8, 1]
        );
    }

    #[test]
    fn criteria_notice_a_changed_attribute() {
        let (before, now) = (process(101, 100, 7, "web", 33), process(101, 99, 7, "db", 34));
        let holds = |selector| Criteria::of(&[selector]).still_hold(&before, &now);
        assert!(holds(Selector::All) && holds(Selector::Pid(pid(7))) && holds(Selector::Init));
        assert!(holds(Selector::Group(pid(7))));
        assert!(!holds(Selector::Comm(b"web".to_vec())));
        assert!(!holds(Selector::Match(Regex::new("web").unwrap())));
        assert!(!holds(Selector::User("33".into())));
        assert!(!holds(Selector::Tree(pid(7))));
    }

    #[test]
    fn names_the_selector_that_matches_nothing() {
        let processes = processes();
        let selectors = [Selector::All, Selector::Pid(pid(99))];
        let error = select(&processes, None, 1, &selectors, false).unwrap_err();
        assert_eq!(error.typed(), "--pid 99");
    }

    #[test]
    fn a_process_that_joined_has_no_parent_in_the_container() {
        let processes = processes();
        assert_eq!((processes[3].ppid, processes[3].parent), (0, None));
        assert_eq!((processes[2].ppid, processes[2].parent), (7, Some(1)));
    }
}
