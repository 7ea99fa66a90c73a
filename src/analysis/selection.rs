//! Which processes of a container a signal is meant for: every selector of the command line, their
//! union taken, and a selector that selects nothing named. Pure.

use std::collections::{BTreeSet, HashMap};

use regex::bytes::Regex;

use super::container_process::ContainerProcess;
use crate::model::pid::{ContainerPid, HostPid};
use crate::model::process::Process;

/// One way of choosing processes.
#[derive(Clone, Debug)]
pub enum Selector {
    /// The container's init.
    Init,
    /// `--pid`: by number inside.
    Pid(ContainerPid),
    /// `--host-pid`.
    HostPid(HostPid),
    /// `--tid`: one thread, by number inside.
    Tid(ContainerPid),
    /// `--comm`: by the name of the main thread, exactly.
    Comm(Vec<u8>),
    /// `--match`: by the whole command line.
    Match(Regex),
    /// `--user`: by name or number inside.
    User(String),
    /// `--tree`: a process and all that descend from it.
    Tree(ContainerPid),
    /// `--pgroup`: a process group, by number inside.
    Group(ContainerPid),
    /// `--all`.
    All,
}

impl Selector {
    /// As it was typed.
    pub fn typed(&self) -> String {
        match self {
            Self::Init => "the container's init".into(),
            Self::Pid(pid) => format!("--pid {pid}"),
            Self::HostPid(pid) => format!("--host-pid {pid}"),
            Self::Tid(tid) => format!("--tid {tid}"),
            Self::Comm(name) => format!("--comm {}", String::from_utf8_lossy(name)),
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

/// What selectors went by, beside the number, when they chose a process: it has to be so still when
/// that process is held. Numbers can change hands within the hundredth of a second that start times
/// tell apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Criteria {
    comm: bool,
    /// The command line, which has to be read for it.
    pub command: bool,
    user: bool,
    group: bool,
    parent: bool,
}

impl Criteria {
    /// What these selectors go by.
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

    /// Whether all of that is as it was.
    pub fn still_holds(self, before: &Process, now: &Process) -> bool {
        (!self.comm || before.stat.comm == now.stat.comm)
            && (!self.command || before.command == now.command)
            && (!self.user || before.status.uid == now.status.uid)
            && (!self.group || before.status.nspgid == now.status.nspgid)
            && (!self.parent || before.stat.ppid == now.stat.ppid)
    }
}

/// A process, or one thread of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selected {
    /// Its place in the list of members.
    pub member: usize,
    /// The thread's number on the host, where only that is meant.
    pub thread: Option<i32>,
}

/// The union of what the selectors choose, deepest descendants first and the init last, so that who
/// is told last is who would take the others with it.
///
/// # Errors
/// The first selector that chooses nothing.
pub fn select<'a>(
    members: &[ContainerProcess],
    init: Option<HostPid>,
    depth: usize,
    selectors: &'a [Selector],
    except_init: bool,
) -> Result<Vec<Selected>, &'a Selector> {
    let is_init = |member: &ContainerProcess| match init {
        Some(init) => member.facts.id.pid == init,
        None => member.pid.is_some_and(|pid| pid.get() == 1),
    };
    let mut chosen: BTreeSet<Selected> = BTreeSet::new();
    for selector in selectors {
        let found = of_one(members, depth, selector, &is_init);
        if found.is_empty() {
            return Err(selector);
        }
        chosen.extend(found);
    }
    if except_init {
        chosen.retain(|chosen| !is_init(&members[chosen.member]));
    }
    // A thread of a process that is chosen as a whole would get the signal twice.
    let whole: BTreeSet<usize> =
        chosen.iter().filter(|c| c.thread.is_none()).map(|c| c.member).collect();
    chosen.retain(|chosen| chosen.thread.is_none() || !whole.contains(&chosen.member));
    let depths = depths(members);
    let mut chosen: Vec<Selected> = chosen.into_iter().collect();
    chosen.sort_by_key(|chosen| {
        let member = &members[chosen.member];
        (is_init(member), std::cmp::Reverse(depths[chosen.member]), *chosen)
    });
    Ok(chosen)
}

fn of_one(
    members: &[ContainerProcess],
    depth: usize,
    selector: &Selector,
    is_init: &dyn Fn(&ContainerProcess) -> bool,
) -> Vec<Selected> {
    let whole = |member| Selected { member, thread: None };
    // Who is in the cgroup alone is not meant by anything that is said about the container.
    let filter = |test: &dyn Fn(&ContainerProcess) -> bool| {
        let fits = |index: &usize| members[*index].in_container && test(&members[*index]);
        (0..members.len()).filter(fits).map(whole).collect()
    };
    match selector {
        Selector::Init => {
            let mut inits: Vec<usize> =
                (0..members.len()).filter(|index| is_init(&members[*index])).collect();
            inits.truncate(1);
            inits.into_iter().map(whole).collect()
        }
        Selector::All => filter(&|_| true),
        Selector::Pid(pid) => filter(&|member| member.pid == Some(*pid)),
        Selector::HostPid(pid) => filter(&|member| member.facts.id.pid == *pid),
        Selector::Comm(name) => filter(&|member| member.facts.stat.comm == *name),
        Selector::Match(pattern) => filter(&|member| {
            let command = member.facts.command.known();
            command.is_some_and(|command| pattern.is_match(&command.joined()))
        }),
        Selector::User(user) => filter(&|member| {
            member.user.as_deref() == Some(user.as_bytes())
                || member.uid.is_some_and(|uid| uid.to_string() == *user)
        }),
        Selector::Group(group) => {
            filter(&|member| member.facts.status.nspgid.get(depth) == Some(&group.get()))
        }
        Selector::Tree(top) => {
            let Some(top) = members.iter().position(|member| member.pid == Some(*top)) else {
                return Vec::new();
            };
            let below =
                |index: &usize| members[*index].in_container && descends(members, *index, top);
            (0..members.len()).filter(below).map(whole).collect()
        }
        Selector::Tid(tid) => {
            let inside = members.iter().enumerate().filter(|(_, member)| member.in_container);
            let threads = inside.flat_map(|(member, of)| {
                of.facts.threads.iter().filter_map(move |thread| {
                    (thread.status.nspid.get(depth) == Some(&tid.get()))
                        .then_some(Selected { member, thread: Some(thread.stat.pid) })
                })
            });
            threads.collect()
        }
    }
}

/// Parents come from a list that was not read at one instant: a circle in it must not hold us.
fn descends(members: &[ContainerProcess], mut index: usize, from: usize) -> bool {
    for _ in 0..=members.len() {
        if index == from {
            return true;
        }
        match members[index].parent {
            Some(parent) => index = parent,
            None => return false,
        }
    }
    false
}

fn depths(members: &[ContainerProcess]) -> Vec<usize> {
    let mut known: HashMap<usize, usize> = HashMap::new();
    (0..members.len())
        .map(|start| {
            let mut path = Vec::new();
            let mut at = start;
            let base = loop {
                if let Some(depth) = known.get(&at) {
                    break *depth + 1;
                }
                path.push(at);
                match members[at].parent {
                    Some(parent) if path.len() <= members.len() => at = parent,
                    _ => break 0,
                }
            };
            for (above, index) in path.iter().rev().enumerate() {
                known.insert(*index, base + above);
            }
            known[&start]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::container_process::{UserTable, place};
    use crate::model::pid::ProcessId;
    use crate::model::process::{CommandLine, Fact, Times};
    use crate::model::stat::Stat;
    use crate::model::status::Status;

    /// A process of a container at depth 1: host pid, parent, pid inside, comm, uid.
    fn process(pid: i32, ppid: i32, inside: i32, comm: &str, uid: u32) -> Process {
        let stat = format!(
            "{pid} ({comm}) S {ppid} {pid} {pid} 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {pid} 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"
        );
        let status = format!(
            "Name:\t{comm}\nState:\tS (sleeping)\nTgid:\t{pid}\nPid:\t{pid}\nPPid:\t{ppid}\nTracerPid:\t0\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t0\t0\t0\t0\nGroups:\t\nNStgid:\t{pid}\t{inside}\nNSpid:\t{pid}\t{inside}\nNSpgid:\t{pid}\t{inside}\nNSsid:\t{pid}\t{inside}\nThreads:\t1\nSigQ:\t0/1\nSigPnd:\t0\nShdPnd:\t0\nSigBlk:\t0\nSigIgn:\t0\nSigCgt:\t0\nCapInh:\t0\nCapPrm:\t0\nCapEff:\t0\nCapBnd:\t0\nCapAmb:\t0\n"
        );
        let stat = Stat::parse(stat.as_bytes()).unwrap();
        let argv = [comm.as_bytes(), b"\0--worker\0"].concat();
        Process {
            id: ProcessId { pid: HostPid::new(pid).unwrap(), start: stat.start },
            times: Times { started: jiff::Timestamp::UNIX_EPOCH, cpu: std::time::Duration::ZERO },
            status: Status::parse(status.as_bytes()).unwrap(),
            stat,
            pid_ns: None,
            command: Fact::Known(CommandLine::parse(argv, false)),
            exe: Fact::Absent,
            waits: Fact::Absent,
            wchan: None,
            threads: Vec::new(),
        }
    }

    fn members() -> Vec<ContainerProcess> {
        let processes = vec![
            process(100, 50, 1, "init", 0),
            process(101, 100, 7, "web", 33),
            process(102, 101, 8, "worker", 33),
            process(103, 50, 20, "sh", 0),
        ];
        let map = crate::model::idmap::IdMap::parse(b"0 0 4294967295\n");
        let mut processes: Vec<(Process, bool)> =
            processes.into_iter().map(|p| (p, true)).collect();
        // In the cgroup alone: it has the number of another namespace.
        processes.push((process(104, 100, 7, "web", 33), false));
        place(processes, 1, &UserTable { map: map.ok(), names: None })
    }

    fn pick(selectors: &[Selector], except_init: bool) -> Vec<i32> {
        let members = members();
        let chosen = select(&members, HostPid::new(100), 1, selectors, except_init).unwrap();
        chosen.iter().map(|c| members[c.member].pid.unwrap().get()).collect()
    }

    fn pid(number: i32) -> ContainerPid {
        ContainerPid::new(number).unwrap()
    }

    #[test]
    fn each_selector() {
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
    fn the_union_is_told_leaves_first_and_init_last() {
        assert_eq!(pick(&[Selector::All], false), [8, 7, 20, 1]);
        assert_eq!(pick(&[Selector::All], true), [8, 7, 20]);
        assert_eq!(
            pick(&[Selector::Pid(pid(1)), Selector::Pid(pid(8)), Selector::Init], false),
            [8, 1]
        );
    }

    #[test]
    fn what_a_selector_went_by_has_to_be_so_still() {
        let (before, now) = (process(101, 100, 7, "web", 33), process(101, 99, 7, "db", 34));
        let holds = |selector| Criteria::of(&[selector]).still_holds(&before, &now);
        assert!(holds(Selector::All) && holds(Selector::Pid(pid(7))) && holds(Selector::Init));
        assert!(holds(Selector::Group(pid(7))));
        assert!(!holds(Selector::Comm(b"web".to_vec())));
        assert!(!holds(Selector::Match(Regex::new("web").unwrap())));
        assert!(!holds(Selector::User("33".into())));
        assert!(!holds(Selector::Tree(pid(7))));
    }

    #[test]
    fn a_selector_that_selects_nothing_is_named() {
        let members = members();
        let selectors = [Selector::All, Selector::Pid(pid(99))];
        let error = select(&members, None, 1, &selectors, false).unwrap_err();
        assert_eq!(error.typed(), "--pid 99");
    }

    #[test]
    fn processes_that_joined_have_no_parent_inside() {
        let members = members();
        assert_eq!((members[3].ppid, members[3].parent), (0, None));
        assert_eq!((members[2].ppid, members[2].parent), (7, Some(1)));
    }
}
