//! Snapshots of a resolved container: its processes with their PIDs and users as the container has
//! them, and the facts that decide about their signals.

use std::sync::Arc;
use std::time::Duration;

use super::{MatchRule, ResolvedContainer};
use crate::analysis::container_process::{
    ContainerProcess, MemberProcess, RowContext, UserTable, arrange,
};
use crate::analysis::delivery::{DeliveryContext, Prediction, Recipient, SignalState, predict};
use crate::analysis::forecast::{ForecastInput, between_waits};
use crate::analysis::joined::Joined;
use crate::analysis::programs::program_note;
use crate::engine::{is_starter, read_members, read_surveyed_members};
use crate::error::{Error, ExitStatus};
use crate::model::container::ContainerState;
use crate::model::idmap::IdMap;
use crate::model::lookup::LookupStore;
use crate::model::pid::{ContainerPid, HostPid};
use crate::model::process::Process;
use crate::model::signal::{Signal, SignalSet};
use crate::model::stop_schedule::StopProcedure;
use crate::model::verdict::Verdict;
use crate::proc::{ReadError, SnapshotOptions};

/// Limit of `/proc/PID/uid_map`: 340 lines of 36 bytes at most (user_namespaces(7)).
const UID_MAP_LIMIT: usize = 1 << 16;

/// How often a process that blocks a signal is read again, and how long after one another.
const BLOCKED_SNAPSHOTS: usize = 5;
const BLOCKED_INTERVAL: Duration = Duration::from_millis(30);

/// The most rounds of requests for facts: a file may name others.
const MAX_LOOKUPS: usize = 16;

/// The processes of a container at one moment.
#[derive(Debug)]
pub struct ContainerSnapshot {
    /// The container, as every row about it names it.
    pub context: Arc<RowContext>,
    /// The processes, by host PID.
    pub processes: Vec<ContainerProcess>,
    /// Processes that could not be read for lack of permission.
    pub hidden: usize,
    /// Facts outside of the processes that decide about the signals of `SnapshotOptions::waits`.
    pub delivery: DeliveryContext,
    /// Why users have not even IDs.
    pub users_error: Option<ReadError>,
    /// Why users have IDs only and no names.
    pub user_names_error: Option<ReadError>,
    /// Facts that a forecast requests.
    pub lookups: LookupStore,
    /// Whether each process joined the container; empty where that was not asked.
    pub joined: Vec<Joined>,
}

impl ResolvedContainer<'_> {
    /// Returns the process with this PID in the container, or its init.
    ///
    /// # Errors
    /// The process does not exist, or cannot be read.
    pub fn process(
        &self,
        pid: Option<ContainerPid>,
        options: SnapshotOptions,
    ) -> Result<ContainerProcess, Error> {
        let Some(pid) = pid else {
            if self.container.has_lost_init {
                return Err(self.no_init());
            }
            return self.read_init(options).map_err(Error::from);
        };
        let snapshot = self.snapshot(options)?;
        let is_it = |process: &ContainerProcess| process.in_container && process.pid == Some(pid);
        snapshot.processes.into_iter().find(is_it).ok_or_else(|| self.no_process(pid))
    }

    /// Returns the process of a thread with this TID in the container, and its name; `None` if a process has
    /// that number itself, or nothing has.
    pub fn process_of_thread(&self, tid: ContainerPid) -> Option<(ContainerPid, Vec<u8>)> {
        let namespace = self.container.pid_ns.filter(|_| self.container.owns_pid_ns);
        let init = self.container.init_pid().zip(namespace);
        if let Some((init, namespace)) = init
            && self.host.is_thread(init, namespace, tid) == Some(false)
        {
            return None;
        }
        let is_process = |process: &ContainerProcess| process.pid == Some(tid);
        if self.snapshot(SnapshotOptions::BARE).ok()?.processes.iter().any(is_process) {
            return None;
        }
        let options = SnapshotOptions { threads: true, ..SnapshotOptions::BARE };
        let depth = self.container.depth;
        let processes = self.snapshot(options).ok()?.processes;
        let process = processes.iter().filter(|process| process.in_container).find(|process| {
            let threads = process.facts.threads.iter();
            threads.filter_map(|thread| thread.status.nspid.get(depth)).any(|n| *n == tid.get())
        })?;
        Some((process.pid?, process.facts.stat.comm.clone()))
    }

    /// Returns the error for a command that needs the init of a container that has lost it.
    pub fn no_init(&self) -> Error {
        let name = self.container.qualified();
        let init = self
            .container
            .init
            .map_or_else(String::new, |init| format!(" (host PID {})", init.pid));
        Error::new(ExitStatus::NoProcess, format!("`{name}` has no init"))
            .cause(format!(
                "it{init} has exited, and other processes of the container keep running"
            ))
            .hint(format!("`cinspect ps {name}` lists them; `--pid` and `--all` select them"))
    }

    /// Returns the error for a PID that no process of the container has.
    pub fn no_process(&self, pid: ContainerPid) -> Error {
        let name = self.container.qualified();
        Error::new(ExitStatus::NoProcess, format!("no process {pid} in `{name}`"))
            .hint(format!("`cinspect ps {name}` lists its processes"))
    }

    /// Reads the init alone.
    fn read_init(&self, options: SnapshotOptions) -> Result<ContainerProcess, ReadError> {
        let init = self.container.init.ok_or(ReadError::Gone)?;
        let read =
            self.host.snapshot(&[init.pid], options).pop().unwrap_or(Err(ReadError::Gone))?;
        let snapshot = self.snapshot_of_init(&read, options);
        snapshot.and_then(|mut snapshot| snapshot.processes.pop()).ok_or(ReadError::Gone)
    }

    /// Returns a snapshot of the init alone, of which these facts were read with these options, for an answer
    /// that depends on no other process; none if they are of another process.
    pub fn snapshot_of_init(
        &self,
        init: &Arc<Process>,
        options: SnapshotOptions,
    ) -> Option<ContainerSnapshot> {
        if Some(init.id) != self.container.init {
            return None;
        }
        let users = UserTable { map: None, names: None };
        let member = MemberProcess {
            facts: Arc::clone(init),
            in_container: true,
            pid_ns: self.container.pid_ns,
        };
        let processes = arrange(vec![member], self.container.depth, &users);
        Some(ContainerSnapshot {
            context: self.row_context(),
            delivery: self.delivery_context(&processes, options.waits),
            processes,
            hidden: 0,
            users_error: None,
            user_names_error: None,
            lookups: LookupStore::default(),
            joined: Vec::new(),
        })
    }

    fn row_context(&self) -> Arc<RowContext> {
        Arc::new(RowContext {
            host: self.host.name.clone(),
            container: self.container.qualified(),
            id: self.container.id.clone(),
        })
    }

    /// Takes a snapshot of all its processes.
    ///
    /// # Errors
    /// The container has ended, or none of its processes can be read.
    pub fn snapshot(&self, options: SnapshotOptions) -> Result<ContainerSnapshot, Error> {
        let (host, container) = (self.host, &self.container);
        let read = match self.matched_by {
            MatchRule::Every => read_surveyed_members,
            _ => read_members,
        };
        let members = read(host, container, &self.inventory, options)
            .map_err(|error| self.snapshot_error(&error))?;
        // Without its init, any other process has its users.
        let first = members.processes.first().map(|process| process.facts.id.pid);
        let map = container.init_pid().or(first).map_or(Err(ReadError::Gone), |pid| {
            Ok(IdMap::parse(&host.proc_file(pid, "uid_map", UID_MAP_LIMIT)?)?)
        });
        let user_names_error = members.names.as_ref().err().cloned();
        let users_error = map.as_ref().err().filter(|error| **error != ReadError::Gone).cloned();
        let users = UserTable { map: map.ok(), names: members.names.ok() };
        let processes = arrange(members.processes, container.depth, &users);
        let delivery = self.delivery_context(&processes, options.waits);
        let hidden = members.hidden;
        let lookups = LookupStore::default();
        Ok(ContainerSnapshot {
            context: self.row_context(),
            processes,
            hidden,
            delivery,
            users_error,
            user_names_error,
            lookups,
            joined: Vec::new(),
        })
    }

    /// Reads processes again that block a signal which they may soon accept, or that are in
    /// uninterruptible sleep, a few times: most are so for a moment only. A process that was seen otherwise
    /// is kept as it was seen then.
    pub fn settle(
        &self,
        snapshot: &mut ContainerSnapshot,
        signal: Signal,
        options: SnapshotOptions,
    ) {
        for _ in 0..BLOCKED_SNAPSHOTS {
            let transient: Vec<usize> = (0..snapshot.processes.len())
                .filter(|index| {
                    let process = &snapshot.processes[*index];
                    match snapshot.predict(process, signal, Recipient::Process).verdict {
                        Verdict::Pending => {
                            process.facts.blocked_for_now(signal, Duration::MAX).is_some()
                        }
                        Verdict::Delayed => process.facts.stat.state.is_uninterruptible(),
                        _ => false,
                    }
                })
                .collect();
            if transient.is_empty() {
                return;
            }
            std::thread::sleep(BLOCKED_INTERVAL);
            self.read_again(snapshot, &transient, options);
        }
    }

    /// Reads processes of a snapshot again; one that exits meanwhile is kept as it was.
    pub fn read_again(
        &self,
        snapshot: &mut ContainerSnapshot,
        processes: &[usize],
        options: SnapshotOptions,
    ) {
        let pids: Vec<HostPid> =
            processes.iter().map(|index| snapshot.processes[*index].facts.id.pid).collect();
        for (index, read) in processes.iter().zip(self.host.snapshot(&pids, options)) {
            let process = &mut snapshot.processes[*index];
            if let Ok(facts) = read
                && facts.id == process.facts.id
            {
                process.facts = facts;
            }
        }
    }

    /// Returns the facts that the forecast of a stop of this container needs.
    pub fn forecast_input<'a>(
        &self,
        snapshot: &'a ContainerSnapshot,
        procedure: &'a StopProcedure,
    ) -> ForecastInput<'a> {
        let container = &self.container;
        ForecastInput {
            processes: &snapshot.processes,
            context: &snapshot.delivery,
            lookups: &snapshot.lookups,
            joined: &snapshot.joined,
            init: container.init.filter(|_| !container.has_lost_init),
            owns_pid_ns: container.owns_pid_ns,
            procedure,
        }
    }

    /// Returns the answer of an analysis that may request environments and files of a snapshot's processes:
    /// they are read, and the analysis is repeated until it requests no more.
    pub fn with_lookups<T>(&self, snapshot: &ContainerSnapshot, answer: impl Fn() -> T) -> T {
        for _ in 0..MAX_LOOKUPS {
            let result = answer();
            let wanted = snapshot.lookups.take_wanted();
            if wanted.is_empty() {
                return result;
            }
            let results = self.host.look_up(&wanted);
            for ((process, lookup), result) in wanted.into_iter().zip(results) {
                snapshot.lookups.insert(process, lookup, result);
            }
        }
        answer()
    }

    /// Predicts what the stop signal of the container does to its main process.
    pub fn predict_stop(
        &self,
        snapshot: &ContainerSnapshot,
        process: &ContainerProcess,
        signal: Signal,
    ) -> Prediction {
        match self.container.remark {
            Some(_) => Prediction::in_sandbox(),
            None => snapshot.predict(process, signal, Recipient::Process),
        }
    }

    fn snapshot_error(&self, error: &ReadError) -> Error {
        let name = self.container.qualified();
        match error {
            ReadError::Gone => {
                Error::new(ExitStatus::NoContainer, format!("container `{name}` has just exited"))
                    .cause("it has no processes left")
            }
            ReadError::Denied => {
                let message = format!("cannot see the processes of `{name}`");
                Error::new(ExitStatus::NotPermitted, message)
                    .cause("/proc hides other users' processes (hidepid)")
                    .hint("run as root, or as a member of the group in its mount option `gid=`")
            }
            ReadError::Exhausted | ReadError::Broken(_) => {
                let message = format!("cannot list the processes of `{name}`");
                Error::new(ExitStatus::Failed, message).cause(error.to_string())
            }
        }
    }

    /// Returns the facts outside of the processes that decide about these signals.
    fn delivery_context(
        &self,
        processes: &[ContainerProcess],
        signals: SignalSet,
    ) -> DeliveryContext {
        let host = self.host;
        let is_starting = |process: &&ContainerProcess| {
            process.parent.is_none() && is_starter(&process.facts.stat)
        };
        let starting = processes.iter().filter(is_starting).map(|process| process.facts.id.pid);
        let mut context =
            DeliveryContext { starting: starting.collect(), ..DeliveryContext::default() };
        if signals.is_empty() {
            return context;
        }
        // The state of a container is that of its init, and was read a moment ago where all were surveyed.
        let is_known_to_run = self.matched_by == MatchRule::Every
            && self.container.state == ContainerState::Running
            && processes.iter().all(|process| Some(process.facts.id) == self.container.init);
        if !is_known_to_run {
            let pids: Vec<HostPid> = processes.iter().map(|process| process.facts.id.pid).collect();
            context.frozen = host.freezers(self.container.cgroup.as_ref(), &pids);
        }
        let terminal_stops = [Signal::TSTP, Signal::TTIN, Signal::TTOU];
        if terminal_stops.into_iter().any(|signal| signals.contains(signal)) {
            let groups = processes.iter().map(|process| process.facts.stat.pgrp).collect();
            context.orphaned = host.orphaned_groups(&groups).ok();
        }
        context
    }
}

impl ContainerSnapshot {
    /// Predicts what a signal does to a process of the snapshot, or to a thread of it.
    pub fn predict(
        &self,
        process: &ContainerProcess,
        signal: Signal,
        recipient: Recipient,
    ) -> Prediction {
        let state = SignalState::of(&process.facts, &self.delivery);
        let prediction = predict(&state, signal, recipient);
        let mut prediction = between_waits(&process.facts, signal, prediction);
        if state.is_starting {
            return prediction;
        }
        // The note about the program says more than the kernel's action; where the kernel's note has
        // something to add, both are kept.
        if let Some(note) = program_note(&process.facts, signal, &prediction) {
            prediction.note = Some(match prediction.note {
                Some(kernel) if prediction.verdict != Verdict::Discarded => {
                    format!("{kernel}; {note}")
                }
                _ => note,
            });
        }
        prediction
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone => Self::new(ExitStatus::NoContainer, "the container has exited")
                .cause("its processes are gone"),
            ReadError::Denied => Self::new(ExitStatus::NotPermitted, "cannot read the container")
                .cause("permission denied")
                .hint("run as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"),
            other => {
                Self::new(ExitStatus::Failed, "cannot read the container").cause(other.to_string())
            }
        }
    }
}
