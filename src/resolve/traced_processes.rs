//! The processes that a trace names: known from `/proc`, or where they are gone by then, from their parents
//! and the names that the kernel recorded. Unknown facts stay absent.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::traced_containers::{TraceChoice, TracedContainers};
use crate::analysis::trace_verdict::SignalFacts;
use crate::model::pid::{HostPid, ProcessId};
use crate::proc::{Host, monotonic_now};
use crate::sys::pidfd::{self, Ending, SignalScope};
use crate::sys::proc_events::ExitEvents;

/// Time that an exit takes until its status is known, in nanoseconds; it is printed without one then. A message about
/// the same PID that comes later is one about another process.
pub const STATUS_WAIT: u64 = 500_000_000;
/// Descriptors that are held for exit statuses; further processes end without one.
const MAX_HELD: usize = 512;
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
    /// Whether it is the init of a PID namespace, the host's included.
    pub is_init: bool,
    /// The number of PID namespaces that it is in: of two processes that see each other, the one in fewer is
    /// in an ancestor of the other's.
    pub namespaces: usize,
    /// The facts about its signals when they were read last, and the time before.
    readings: [Option<FactsReading>; 2],
    /// Whether its container is one of those that are traced.
    is_chosen: bool,
    /// Whether that will not change when more of the container is recorded.
    is_settled: bool,
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
            is_init: false,
            namespaces: 0,
            readings: [None; 2],
            is_chosen: false,
            is_settled: false,
            is_read: false,
        }
    }
}

/// The facts about a process's signals at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FactsReading {
    /// The time of CLOCK_MONOTONIC, in nanoseconds.
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
    /// The host.
    pub host: &'a Host,
    /// The containers.
    pub containers: TracedContainers<'a>,
    /// Number of searches for containers after which processes without one were read.
    searches: u64,
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
    /// Whether the kernel reported that its last thread exits.
    pub is_last: bool,
    pidfd: Option<OwnedFd>,
}

impl<'a> TracedProcesses<'a> {
    /// Finds the containers of the host, of which these are traced. The status of an exit is in `exits`.
    pub fn new(host: &'a Host, choice: TraceChoice<'a>, exits: Option<ExitEvents>) -> Self {
        let containers = TracedContainers::new(host, choice);
        Self {
            host,
            searches: containers.searches,
            containers,
            processes: HashMap::new(),
            threads: HashMap::new(),
            gone: HashSet::new(),
            held: HashMap::new(),
            ended: VecDeque::new(),
            exits,
        }
    }

    /// Whether a process is traced.
    pub fn is_traced(&self, process: &TracedProcess) -> bool {
        process.is_chosen || self.containers.is_whole_host()
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
                Some(mut read) => {
                    let known = self.processes.get(&pid);
                    read.readings[1] = known.and_then(|known| known.readings[0]);
                    // (One that is exiting has left its cgroup and its namespaces.)
                    if let Some(known) = known
                        && read.container.is_none()
                    {
                        read.container.clone_from(&known.container);
                        (read.pid, read.is_chosen) = (known.pid, known.is_chosen);
                        read.is_settled = known.is_settled;
                    }
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
            is_init: false,
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
            // (Between two readings with the same handlers it had none.)
            if by_exec {
                process.readings = [None; 2];
            }
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
        // Where the kernel does not report it, the main thread is taken for the last one, and the
        // descriptor shows whether it was.
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

    /// Returns how a process ended whose exit was recorded at this time: `None` if that is not known, or not yet.
    pub fn ending(&mut self, ending: &EndingProcess, time: u64) -> Option<Ending> {
        let pid = ending.process.host_pid;
        if let Some(ending) = ending.pidfd.as_ref().and_then(pidfd::ending) {
            return Some(ending);
        }
        // (The kernel sends the message after the record.)
        let times = time..=time.saturating_add(STATUS_WAIT);
        if let Some(status) = self.exits.as_mut().and_then(|exits| exits.take(pid, &times)) {
            return Ending::from_wait_status(status);
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
        let found = self.containers.of(pid);
        let is_chosen = found.as_ref().is_some_and(|found| found.is_chosen);
        let is_settled = found.as_ref().is_some_and(|found| found.is_settled);
        // (Of other processes nothing is reported but that they sent a signal.)
        let is_traced = is_chosen || self.containers.is_whole_host();
        let waits = !is_traced || self.host.may_be_in_sigwait(pid);
        let facts = SignalFacts::of(&status, waits);
        Some(TracedProcess {
            host_pid: pid.get(),
            pid: found.as_ref().and_then(|found| status.nspid.get(found.depth?).copied()),
            comm,
            container: found.map(|found| found.name),
            uid: Some(status.uid[0]),
            is_init: status.is_namespace_init(),
            namespaces: status.nspid.len(),
            readings: [Some(FactsReading { time: began, facts }), None],
            is_chosen,
            is_settled,
            is_read: true,
        })
    }

    /// Notes that a process was moved into a cgroup.
    pub fn move_to(&mut self, tid: i32, path: &[u8]) {
        let Some(container) = self.containers.at(path) else { return };
        let Some(mut process) = self.of_thread(tid) else { return };
        if process.container.is_none() {
            process.container = Some(container.name);
            (process.is_chosen, process.is_settled) = (container.is_chosen, container.is_settled);
            process.is_read = false;
            self.hold(&process);
            self.processes.insert(process.host_pid, process);
        }
    }

    /// Searches for containers that began, if it is time; processes that seemed to be in none, or in one whose
    /// labels were not recorded, are read again when they are needed.
    pub fn refresh(&mut self) {
        self.containers.refresh();
        if self.containers.searches == self.searches {
            return;
        }
        self.searches = self.containers.searches;
        let containers = &self.containers;
        let is_known = |name: &Rc<str>| containers.is_running(name);
        for process in self.processes.values_mut() {
            process.is_read &=
                process.is_settled && process.container.as_ref().is_some_and(is_known);
        }
    }
}

fn signal_facts(host: &Host, pid: HostPid) -> Option<SignalFacts> {
    let status = host.status(pid).ok()?;
    Some(SignalFacts::of(&status, host.may_be_in_sigwait(pid)))
}

impl EndingProcess {
    /// Whether the process has threads left, by its descriptor.
    pub fn has_threads(&self) -> bool {
        self.pidfd.as_ref().is_some_and(|pidfd| pidfd::alive(pidfd).unwrap_or(false))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_that_is_read_again_keeps_the_facts_from_before_the_signal() {
        let host = Host::new(Path::new("/")).expect("a host");
        let mut processes = TracedProcesses::new(&host, TraceChoice::Host, None);
        let mut child = Command::new("sleep").arg("1000").spawn().expect("sleep");
        let pid = child.id().cast_signed();
        let held = HostPid::new(pid).expect("a PID");
        while host.stat(held).expect("it runs").comm != b"sleep" {
            std::thread::yield_now();
        }
        let _ = processes.process(pid);
        let mut around = |prepare: &dyn Fn(&mut TracedProcesses<'_>)| {
            let time = monotonic_now();
            prepare(&mut processes);
            let _ = processes.process(pid);
            processes.facts_around(pid, time).steady.is_some()
        };
        // (As a search for containers does with one that no engine has recorded.)
        let is_kept = around(&|all| all.processes.get_mut(&pid).expect("read").is_read = false);
        // An execve(2) has reset its handlers in between.
        let is_kept_after_exec = around(&|all| all.rename(pid, b"sleep".to_vec(), true));
        let _ = child.kill();
        let _ = child.wait();
        assert_eq!((is_kept, is_kept_after_exec), (true, false));
    }
}
