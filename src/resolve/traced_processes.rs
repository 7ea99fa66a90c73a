//! The processes that a trace names: known from `/proc`, or where they are gone by then, from their parents
//! and the names that the kernel recorded. What is not known stays absent.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::ResolvedContainer;
use crate::analysis::trace_verdict::SignalFacts;
use crate::engine::{Inventory, MembershipRule, SearchDepth, discover};
use crate::model::cgroup::is_at_or_below;
use crate::model::container::Container;
use crate::model::pid::{HostPid, ProcessId};
use crate::proc::{Host, monotonic_now};
use crate::sys::pidfd::{self, Ending, SignalScope};
use crate::sys::proc_events::ExitEvents;

/// The shortest time between two searches for containers.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);
/// Descriptors that are held for exit statuses; further processes end without one.
const MAX_HELD: usize = 512;
/// Control groups that are remembered as no container's.
const MAX_PLAIN_CGROUPS: usize = 4096;
/// Processes that are remembered after their exit.
const MAX_ENDED: usize = 256;
/// Processes and threads that are remembered as gone before they were read.
const MAX_GONE: usize = 1 << 16;

/// A process as a trace names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedProcess {
    /// Its host PID.
    pub host_pid: i32,
    /// Its PID in the container.
    pub pid: Option<i32>,
    /// Its name, at most 15 bytes.
    pub comm: Vec<u8>,
    /// Its container, in qualified form.
    pub container: Option<Rc<str>>,
    /// Its real user ID, as the host has it.
    pub uid: Option<u32>,
    /// The facts about its signals when they were read last, and the time before.
    readings: [Option<FactsReading>; 2],
    /// Whether its container is one of those that are traced.
    is_chosen: bool,
    /// Whether `/proc` was read since it last called execve(2).
    is_read: bool,
}

impl TracedProcess {
    /// Returns a process that was gone before anything of it but its host PID could be read.
    pub fn gone(host_pid: i32) -> Self {
        Self {
            host_pid,
            pid: None,
            comm: Vec::new(),
            container: None,
            uid: None,
            readings: [None; 2],
            is_chosen: false,
            is_read: false,
        }
    }
}

/// The facts about a process's signals at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FactsReading {
    /// Of CLOCK_MONOTONIC, in nanoseconds.
    time: u64,
    facts: SignalFacts,
}

/// The facts about a process's signals around the time of a signal.
#[derive(Clone, Copy, Debug, Default)]
pub struct FactsAround {
    /// The facts that were read last.
    pub last: Option<SignalFacts>,
    /// The facts that were the same before the signal and after it.
    pub steady: Option<SignalFacts>,
}

/// The processes of a trace.
pub struct TracedProcesses<'a> {
    host: &'a Host,
    inventory: Inventory,
    searched: Instant,
    /// Control groups that are no container's.
    plain_cgroups: HashSet<Vec<u8>>,
    /// Containers that are traced; the whole host if none.
    chosen: Vec<ResolvedContainer<'a>>,
    /// Their PID namespaces: the kernel gives the number of one that is gone to the next (`ns_alloc_inum`,
    /// include/linux/proc_ns.h), and processes of another container would be taken for theirs.
    _namespaces: Vec<OwnedFd>,
    processes: HashMap<i32, TracedProcess>,
    threads: HashMap<i32, i32>,
    /// Processes and threads that were gone when they were looked up: most records of a busy host are about
    /// such, and nothing is read for them again until a process of that number begins.
    gone: HashSet<i32>,
    held: HashMap<i32, OwnedFd>,
    /// Processes that have ended, the oldest first.
    ended: VecDeque<i32>,
    exits: Option<ExitEvents>,
}

/// A process that is about to end, for its status.
pub struct EndingProcess {
    /// The process.
    pub process: TracedProcess,
    /// Whether the kernel said that its last thread exits.
    pub is_last: bool,
    pidfd: Option<OwnedFd>,
}

impl<'a> TracedProcesses<'a> {
    /// Finds the containers of the host, of which these are traced; the whole host if none are named.
    pub fn new(host: &'a Host, chosen: Vec<ResolvedContainer<'a>>) -> Self {
        let depth = if chosen.is_empty() { SearchDepth::Everything } else { SearchDepth::Cgroups };
        let namespace = |resolved: &ResolvedContainer<'_>| {
            let handle = host.process(resolved.container.init_pid()?).ok()?;
            host.namespace_file(&handle, "pid").ok()
        };
        Self {
            _namespaces: chosen.iter().filter_map(namespace).collect(),
            host,
            inventory: discover(host, depth),
            searched: Instant::now(),
            plain_cgroups: HashSet::new(),
            chosen,
            processes: HashMap::new(),
            threads: HashMap::new(),
            gone: HashSet::new(),
            held: HashMap::new(),
            ended: VecDeque::new(),
            exits: ExitEvents::subscribe().ok(),
        }
    }

    /// Whether a process is traced.
    pub fn is_traced(&self, process: &TracedProcess) -> bool {
        self.chosen.is_empty() || process.is_chosen
    }

    /// Whether there are containers to be told apart.
    pub fn names_containers(&self) -> bool {
        self.chosen.len() != 1
    }

    /// Returns the process of a thread. A process that is gone is known only if it was before.
    pub fn of_thread(&mut self, tid: i32) -> Option<TracedProcess> {
        let pid = match self.threads.get(&tid) {
            Some(pid) => *pid,
            None if self.gone.contains(&tid) => return None,
            None => {
                let Ok(pid) = self.host.process_of(HostPid::new(tid)?) else {
                    self.note_gone(tid);
                    return None;
                };
                self.threads.insert(tid, pid.get());
                pid.get()
            }
        };
        self.process(pid)
    }

    /// Returns a process, read again if it has called execve(2) since.
    pub fn process(&mut self, pid: i32) -> Option<TracedProcess> {
        if self.processes.get(&pid).is_some_and(|known| known.is_read) {
            return self.processes.get(&pid).cloned();
        }
        if !self.gone.contains(&pid) {
            match self.read(HostPid::new(pid)?) {
                Some(read) => {
                    self.threads.insert(pid, pid);
                    self.hold(&read);
                    self.processes.insert(pid, read);
                }
                None => self.note_gone(pid),
            }
        }
        self.processes.get(&pid).cloned()
    }

    /// Reads all processes of the host: one that exits right after it has sent a signal is known then.
    pub fn survey(&mut self) {
        for pid in self.host.pids().unwrap_or_default() {
            let _ = self.process(pid.get());
        }
    }

    fn note_gone(&mut self, id: i32) {
        if self.gone.len() >= MAX_GONE {
            self.gone.clear();
        }
        self.gone.insert(id);
    }

    /// Forgets which processes are gone: records about new ones were lost.
    pub fn forget_gone(&mut self) {
        self.gone.clear();
    }

    /// Returns the facts about a process around the time of a signal, which is past.
    pub fn facts_around(&mut self, pid: i32, time: u64) -> FactsAround {
        let Some(process) = self.processes.get_mut(&pid) else { return FactsAround::default() };
        let is_later = |reading: &FactsReading| reading.time > time;
        if !process.readings[0].as_ref().is_some_and(is_later) {
            let now = monotonic_now();
            let facts = HostPid::new(pid).and_then(|pid| signal_facts(self.host, pid));
            let reading = facts.map(|facts| FactsReading { time: now, facts });
            let Some(reading) = reading else {
                let last = process.readings[0].map(|reading| reading.facts);
                return FactsAround { last, steady: None };
            };
            process.readings = [Some(reading), process.readings[0]];
        }
        let [after, before] = process.readings;
        let last = after.map(|reading| reading.facts);
        let before = before.filter(|reading| !is_later(reading)).map(|reading| reading.facts);
        FactsAround { last, steady: last.filter(|facts| before.as_ref() == Some(facts)) }
    }

    /// Notes that a thread or a process began.
    pub fn begin(&mut self, pid: i32, tid: i32, parent: i32) {
        self.threads.insert(tid, pid);
        self.gone.remove(&tid);
        if tid != pid {
            return;
        }
        // (A parent that was never named is read now: the child may be gone before it is named.)
        let Some(parent) = self.of_thread(parent) else { return };
        self.ended.retain(|ended| *ended != pid);
        let child = TracedProcess {
            host_pid: pid,
            pid: None,
            is_read: false,
            readings: [None; 2],
            ..parent
        };
        self.hold(&child);
        self.processes.insert(pid, child);
    }

    /// Notes another name of a thread; that of the main thread is the process's.
    pub fn rename(&mut self, tid: i32, comm: Vec<u8>, by_exec: bool) {
        if self.threads.get(&tid).is_some_and(|pid| *pid != tid) {
            return;
        }
        if let Some(process) = self.processes.get_mut(&tid) {
            process.comm = comm;
            // It may have joined a container before: `docker exec` does.
            process.is_read &= !by_exec;
            // (A program may be set-user-ID.)
            process.uid = process.uid.filter(|_| !by_exec);
        }
        if by_exec {
            let _ = self.process(tid);
        }
    }

    /// Forgets a thread of a process. Returns the process if that may end with it.
    pub fn end(&mut self, pid: i32, tid: i32, is_last: Option<bool>) -> Option<EndingProcess> {
        let process = self.process(pid);
        self.threads.remove(&tid);
        // Where the kernel does not tell, the main thread is taken for the last one, and the descriptor
        // tells whether it was.
        if !is_last.unwrap_or(pid == tid) {
            return None;
        }
        // (Known for a while yet: the exit of an init kills others.)
        self.ended.push_back(pid);
        if self.ended.len() > MAX_ENDED {
            self.ended
                .pop_front()
                .map(|old| (self.processes.remove(&old), self.threads.remove(&old)));
        }
        let pidfd = self.held.remove(&pid);
        Some(EndingProcess { process: process?, is_last: is_last == Some(true), pidfd })
    }

    /// Returns how a process ended: `None` if that is not known, or not yet.
    pub fn ending(&mut self, ending: &EndingProcess) -> Option<Ending> {
        let pid = ending.process.host_pid;
        if let Some(status) = self.exits.as_mut().and_then(|exits| exits.take(pid)) {
            return Ending::from_wait_status(status);
        }
        if let Some(ending) = ending.pidfd.as_ref().and_then(pidfd::ending) {
            return Some(ending);
        }
        // (Without a descriptor this may be a later process with the same PID.)
        ending.pidfd.as_ref()?;
        let pid = HostPid::new(pid)?;
        let start = self.host.stat(pid).ok()?.start;
        self.host.wait_status(ProcessId { pid, start }).and_then(Ending::from_wait_status)
    }

    /// Reads how processes ended, so that the kernel's queue does not fill up.
    pub fn read_exits(&mut self) {
        if let Some(exits) = &mut self.exits {
            exits.read();
        }
    }

    /// Holds a descriptor of a process whose exit will be reported.
    fn hold(&mut self, process: &TracedProcess) {
        let pid = process.host_pid;
        let is_wanted = process.container.is_some() && self.is_traced(process);
        if is_wanted && self.held.len() < MAX_HELD && !self.held.contains_key(&pid) {
            self.held.extend(pidfd::open(pid, SignalScope::Process).ok().map(|fd| (pid, fd)));
        }
    }

    fn read(&mut self, pid: HostPid) -> Option<TracedProcess> {
        let began = monotonic_now();
        let comm = self.host.stat(pid).ok()?.comm;
        let status = self.host.status(pid).ok()?;
        let found = self.container_of(pid);
        let (name, depth, is_chosen) = match found {
            Some((name, depth, is_chosen)) => (Some(name), depth, is_chosen),
            None => (None, 0, false),
        };
        let is_in_container = name.is_some();
        // (Of other processes nothing is reported but that they sent a signal.)
        let is_traced = self.chosen.is_empty() || is_chosen;
        let waits = !is_traced || self.host.may_be_in_sigwait(pid);
        let facts = SignalFacts::of(&status, waits);
        Some(TracedProcess {
            host_pid: pid.get(),
            pid: status.nspid.get(depth).copied().filter(|_| is_in_container),
            comm,
            container: name,
            uid: Some(status.uid[0]),
            readings: [Some(FactsReading { time: began, facts }), None],
            is_chosen,
            is_read: true,
        })
    }

    /// Returns the qualified name of a process's container, the depth of its PID namespace, and whether it
    /// is traced.
    fn container_of(&mut self, pid: HostPid) -> Option<(Rc<str>, usize, bool)> {
        let holds = |resolved: &&ResolvedContainer<'_>| {
            MembershipRule::new(self.host, &resolved.container, &resolved.inventory)
                .holds(pid)
                .unwrap_or(false)
        };
        if let Some(resolved) = self.chosen.iter().find(holds) {
            let container = &resolved.container;
            return Some((Rc::from(container.qualified()), container.depth, true));
        }
        self.search_again(pid);
        let container = self.inventory.containing(self.host, pid)?;
        Some((Rc::from(container.qualified()), container.depth, self.is_chosen(container)))
    }

    /// Whether a container is one that is traced, restarted perhaps.
    fn is_chosen(&self, container: &Container) -> bool {
        let name = container.qualified();
        self.chosen.iter().any(|resolved| resolved.container.qualified() == name)
    }

    /// Notes that a process was moved into a control group.
    pub fn move_to(&mut self, tid: i32, path: &[u8]) {
        let is_in = |container: &&Container| {
            container.cgroup.as_ref().is_some_and(|cgroup| is_at_or_below(path, &cgroup.path))
        };
        let Some(container) = self.inventory.containers.iter().find(is_in) else { return };
        let (name, is_chosen) = (Rc::from(container.qualified()), self.is_chosen(container));
        let Some(mut process) = self.of_thread(tid) else { return };
        if process.container.is_none() {
            process.container = Some(name);
            process.is_chosen = is_chosen;
            process.is_read = false;
            self.hold(&process);
            self.processes.insert(process.host_pid, process);
        }
    }

    /// Searches for containers again if the process is in a control group that was not seen before.
    fn search_again(&mut self, pid: HostPid) {
        let Ok(memberships) = self.host.memberships(pid) else { return };
        let Some(path) = memberships.by_preference().next().map(|m| m.path.clone()) else { return };
        if self.plain_cgroups.contains(&path) || self.inventory.containing(self.host, pid).is_some()
        {
            return;
        }
        if self.searched.elapsed() >= SEARCH_INTERVAL {
            self.inventory = discover(self.host, SearchDepth::Cgroups);
            self.searched = Instant::now();
        }
        if self.inventory.containing(self.host, pid).is_none() {
            // (A trace may run for days, and services come and go.)
            if self.plain_cgroups.len() >= MAX_PLAIN_CGROUPS {
                self.plain_cgroups.clear();
            }
            self.plain_cgroups.insert(path);
        }
    }
}

fn signal_facts(host: &Host, pid: HostPid) -> Option<SignalFacts> {
    let status = host.status(pid).ok()?;
    Some(SignalFacts::of(&status, host.may_be_in_sigwait(pid)))
}

impl EndingProcess {
    /// Whether the process has threads left, as its descriptor says.
    pub fn has_threads(&self) -> bool {
        self.pidfd.as_ref().is_some_and(|pidfd| pidfd::alive(pidfd).unwrap_or(false))
    }
}
