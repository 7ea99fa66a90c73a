//! The course of a stop: the steps, the processes that are watched, and the moment each exits.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::events::{Killer, ProcessRef, StopEvent, StopEventKind};
use crate::action::send::{
    HeldProcess, SendError, hold, raise_fd_limit, wait_for_all, wait_for_any,
};
use crate::analysis::selection::Criteria;
use crate::analysis::send_order::SendRank;
use crate::engine::{MembershipRule, cgroup_candidates};
use crate::error::{Error, ExitStatus};
use crate::model::pid::{HostPid, ProcessId};
use crate::model::signal::Signal;
use crate::model::stop_schedule::{StopProcedure, StopStep};
use crate::proc::{SnapshotOptions, monotonic_now};
use crate::resolve::ResolvedContainer;
use crate::resolve::processes::ContainerSnapshot;
use crate::sys::pidfd::Ending;
use crate::sys::proc_events::ExitEvents;

/// How often the container is scanned for new processes, if no exit makes that necessary.
pub(super) const SCAN_INTERVAL: Duration = Duration::from_millis(200);

/// How long the processes of a PID namespace may take to exit after its init.
const NAMESPACE_EXIT_TIME: Duration = Duration::from_millis(500);

/// How long processes that started after the exit of the init may take to exit, and how often to look.
const LEFT_TIME: Duration = Duration::from_secs(5);
const LEFT_INTERVAL: Duration = Duration::from_millis(20);

/// A process that is watched until it exits.
pub(super) struct WatchedProcess {
    pub process: ProcessRef,
    pub id: ProcessId,
    pub handle: HeldProcess,
    /// Whether it was there when the stop began.
    pub is_initial: bool,
    /// Whether its turn has come in this step.
    pub has_had_turn: bool,
    /// Whether it got a signal in any step.
    pub was_signalled: bool,
    pub has_exited: bool,
    pub was_killed: bool,
    /// A time when it had not exited yet, on CLOCK_MONOTONIC of the host.
    since: u64,
    /// Whether it ended in a way that could not be read, though something may have killed it.
    has_unknown_end: bool,
}

/// A snapshot that decides for a short time which process is next: thousands of processes that exit one after the other
/// are not read again for each of them.
pub(super) struct RecentSnapshot {
    pub snapshot: ContainerSnapshot,
    pub taken: Instant,
    pub ranks: Vec<SendRank>,
}

/// A stop under way.
pub(super) struct StopRun<'a> {
    pub found: &'a ResolvedContainer<'a>,
    pub procedure: &'a StopProcedure,
    start: Instant,
    report: &'a mut dyn FnMut(StopEvent),
    pub watched: Vec<WatchedProcess>,
    known: HashSet<ProcessId>,
    /// The signal of the current step.
    pub signal: Signal,
    /// Whether any process got a signal.
    pub has_sent: bool,
    /// The last failure to send one.
    pub send_error: Option<SendError>,
    /// How processes end, as the kernel reports it to root.
    exits: Option<ExitEvents>,
    /// How the init ended, as `stat` showed it before its parent reaped it.
    init_ending: Option<Ending>,
    /// Whether KILL in it is a kill, and not the end by reboot(2).
    is_kill_certain: bool,
    /// The identity of the container's cgroup, if that alone holds its processes together.
    cgroup: Option<(u64, u64)>,
}

/// Stops a container. The last event says whether any of its processes is still running.
///
/// # Errors
/// If something stops us before the first signal is sent.
pub fn stop(
    found: &ResolvedContainer<'_>,
    procedure: &StopProcedure,
    report: &mut dyn FnMut(StopEvent),
) -> Result<(), Error> {
    raise_fd_limit();
    let by_cgroup = found.container.cgroup.as_ref().filter(|_| !found.container.owns_pid_ns);
    let run = StopRun {
        found,
        procedure,
        start: Instant::now(),
        report,
        watched: Vec::new(),
        known: HashSet::new(),
        signal: Signal::KILL,
        has_sent: false,
        send_error: None,
        exits: ExitEvents::subscribe().ok(),
        init_ending: None,
        is_kill_certain: false,
        cgroup: by_cgroup.and_then(|cgroup| found.host.cgroup_identity(cgroup)),
    };
    run.run()
}

impl StopRun<'_> {
    fn run(mut self) -> Result<(), Error> {
        if self.procedure.schedule.steps.is_empty() {
            let snapshot = self.found.snapshot(SnapshotOptions::BARE)?;
            self.watch(&snapshot, true)?;
        }
        for (index, step) in self.procedure.schedule.steps.iter().enumerate() {
            self.step(*step, index == 0)?;
            let running = self.running();
            if running == 0 {
                self.finish();
                return Ok(());
            }
            self.report(StopEventKind::GraceOver { running });
        }
        if self.procedure.schedule.kill {
            self.kill();
            if self.running() == 0 {
                self.finish();
                return Ok(());
            }
        }
        let running = self.running();
        self.report(StopEventKind::NotStopped { running, unknown: 0, killed: self.killed_count() });
        Ok(())
    }

    fn killed_count(&self) -> usize {
        self.watched.iter().filter(|watched| watched.was_killed).count()
    }

    /// Reports the end of a stop after which no process that was held is running.
    fn finish(&mut self) {
        let unknown = self.left_in_cgroup();
        if unknown > 0 {
            let killed = self.killed_count();
            self.report(StopEventKind::NotStopped { running: unknown, unknown, killed });
            return;
        }
        let killed = self.killed_count();
        let unknown = self.watched.iter().filter(|watched| watched.has_unknown_end).count();
        self.report(StopEventKind::Stopped { killed, unknown });
    }

    /// Waits for the end of processes that are in the container's cgroup and were not held, because they
    /// started after its init had exited, and returns how many are left. (Docker kills them when it notices
    /// that exit.) The cgroup has to be the one that the container had at the beginning.
    fn left_in_cgroup(&self) -> usize {
        let (host, container) = (self.found.host, &self.found.container);
        let Some((cgroup, identity)) = container.cgroup.as_ref().zip(self.cgroup) else { return 0 };
        let rule = MembershipRule::new(host, container, &self.found.inventory);
        let is_running = |pid: &HostPid| {
            host.stat(*pid).is_ok_and(|stat| !stat.has_exited()) && rule.holds(*pid) == Ok(true)
        };
        let deadline = Instant::now() + LEFT_TIME;
        loop {
            let pids = cgroup_candidates(host, container, &self.found.inventory);
            // Asked after the list: a cgroup is not the same again once it has been removed.
            if host.cgroup_identity(cgroup) != Some(identity) {
                return 0;
            }
            let count = pids.iter().filter(|pid| is_running(pid)).count();
            if count == 0 || Instant::now() >= deadline {
                return count;
            }
            std::thread::sleep(LEFT_INTERVAL);
        }
    }

    pub(super) fn running(&self) -> usize {
        self.watched.iter().filter(|watched| !watched.has_exited).count()
    }

    pub(super) fn report(&mut self, kind: StopEventKind) {
        let time = self.start.elapsed();
        (self.report)(StopEvent { time, kind });
    }

    /// Sends the signal of one step to each process when its turn comes, until all have exited or the
    /// time is over.
    fn step(&mut self, step: StopStep, is_first: bool) -> Result<(), Error> {
        // The grace period begins once the signal has been sent, however long that took.
        let mut sent: Option<Instant> = None;
        self.signal = step.signal;
        for watched in &mut self.watched {
            watched.has_had_turn = false;
        }
        let mut recent: Option<RecentSnapshot> = None;
        let mut is_start = is_first;
        loop {
            let is_late = match sent {
                Some(sent) => sent.elapsed() >= step.grace / 2,
                None => step.grace.is_zero(),
            };
            self.take_turns(&mut recent, is_start, is_late)?;
            // Waiting makes no sense if no process got the signal.
            if let (false, Some(SendError::NotPermitted)) = (self.has_sent, &self.send_error) {
                return Err(Error::new(ExitStatus::NotPermitted, "nothing was sent")
                    .cause("it needs CAP_KILL or the same user")
                    .hint("run as root"));
            }
            is_start = false;
            self.note_exits();
            let now = Instant::now();
            let deadline = sent.get_or_insert(now).checked_add(step.grace);
            let running = self.running();
            if running == 0 || deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(());
            }
            let remaining = deadline.map(|deadline| deadline - now);
            self.report(StopEventKind::Waiting { running, remaining });
            let scan = now + SCAN_INTERVAL;
            self.sleep(deadline.map_or(scan, |deadline| deadline.min(scan)));
        }
    }

    /// Whether processes that a snapshot has just found are the container's, and not those of the next one,
    /// which the engine has started in its place: the init runs, or a process that was held when it did is
    /// still in the cgroup, which no engine gives to another container before it is empty.
    pub(super) fn is_same_container(&self) -> bool {
        let (host, container) = (self.found.host, &self.found.container);
        let is_member = |watched: &WatchedProcess| {
            let cgroup = container.cgroup.as_ref();
            cgroup.is_some_and(|cgroup| host.is_in_cgroup(watched.id.pid, cgroup))
                && !watched.handle.has_exited()
        };
        container.init.is_some_and(|init| host.exists(init))
            || (!container.owns_pid_ns && self.watched.iter().any(is_member))
    }

    /// Holds the processes of a snapshot that are not held yet.
    pub(super) fn watch(
        &mut self,
        snapshot: &ContainerSnapshot,
        is_start: bool,
    ) -> Result<(), Error> {
        if !is_start && !self.is_same_container() {
            return Ok(());
        }
        for process in snapshot.processes.iter().filter(|process| process.in_container) {
            let id = process.facts.id;
            if process.facts.stat.has_exited() || self.known.contains(&id) {
                continue;
            }
            let since = monotonic_now();
            match hold(self.found, process, None, Criteria::default()) {
                Ok(handle) => {
                    self.known.insert(id);
                    self.watched.push(WatchedProcess {
                        process: process.into(),
                        id,
                        handle,
                        since,
                        is_initial: is_start,
                        has_had_turn: false,
                        was_signalled: false,
                        has_exited: false,
                        was_killed: false,
                        has_unknown_end: false,
                    });
                }
                Err(SendError::Gone | SendError::LeftContainer | SendError::Changed(_)) => {}
                Err(error) if is_start => {
                    return Err(Error::new(ExitStatus::NotPermitted, "nothing was sent")
                        .cause(error.to_string()));
                }
                Err(error) => {
                    self.known.insert(id);
                    let process = process.into();
                    let (signal, prediction) = (None, None);
                    self.report(StopEventKind::Refused { process, signal, prediction, error });
                }
            }
        }
        Ok(())
    }

    /// Sleeps until a process exits, at most until `deadline`.
    pub(super) fn sleep(&mut self, deadline: Instant) {
        let _ = wait_for_any(&self.running_handles(), deadline);
        // (At once: its parent reaps it.)
        self.note_init_ending();
    }

    /// Notes how the init ended, if it has exited and is not reaped yet. reboot(2) of its child sends it KILL
    /// (`reboot_pid_ns`, kernel/pid_namespace.c): its pidfd and the kernel's messages have that, and only `stat` has the
    /// status that its parent gets, HUP or INT.
    fn note_init_ending(&mut self) {
        let init = self.found.container.init;
        let exited = |w: &&WatchedProcess| Some(w.id) == init && w.handle.has_exited();
        if self.init_ending.is_none()
            && let Some(watched) = self.watched.iter().find(exited)
        {
            let (host, id) = (self.found.host, watched.id);
            self.init_ending = host.wait_status(id).and_then(Ending::from_wait_status);
            // (If it is reaped while `stat` is made, that has the status of the main thread.)
            let is_unreaped = host.wait_status(id).is_some();
            self.is_kill_certain = is_unreaped && host.stat_has_status_of_process();
        }
    }

    pub(super) fn running_indices(&self) -> Vec<usize> {
        (0..self.watched.len()).filter(|index| !self.watched[*index].has_exited).collect()
    }

    /// Returns the processes that are not known to have exited.
    pub(super) fn running_handles(&self) -> Vec<&HeldProcess> {
        self.watched.iter().filter(|w| !w.has_exited).map(|w| &w.handle).collect()
    }

    /// Notes the processes that have exited. When the init of a PID namespace exits, the kernel kills
    /// the others in it: these were killed, though not by us.
    pub(super) fn note_exits(&mut self) {
        let init = self.found.container.init;
        if let Some(exits) = &mut self.exits {
            // (In time, before the kernel's queue is full.)
            exits.read();
        }
        let mut exited = self.newly_exited();
        let init_exits = self.found.container.owns_pid_ns && self.init_is_exiting();
        if init_exits {
            // All others follow soon.
            let _ =
                wait_for_all(&self.running_handles(), Some(Instant::now() + NAMESPACE_EXIT_TIME));
            exited = self.newly_exited();
        }
        // In the order in which they exited, as far as that is known: the init after its children.
        exited.sort_by_key(|index| Some(self.watched[*index].id) == init);
        for index in exited {
            let kind = self.exit_event(index, init_exits);
            self.report(kind);
        }
    }

    fn newly_exited(&self) -> Vec<usize> {
        let running = self.running_indices();
        // (One call for all: there may be thousands, and one exits after the other.)
        let exited = wait_for_any(&self.running_handles(), Instant::now()).unwrap_or_default();
        running
            .into_iter()
            .zip(exited)
            .filter(|(_, exited)| *exited)
            .map(|(index, _)| index)
            .collect()
    }

    /// Whether the init has exited, or is about to: it still exists then, while its children have
    /// been killed already.
    fn init_is_exiting(&self) -> bool {
        let init = self.found.container.init;
        let is_exiting =
            |id: ProcessId| self.found.host.stat(id.pid).is_ok_and(|stat| stat.is_exiting());
        self.watched
            .iter()
            .any(|w| Some(w.id) == init && (w.handle.has_exited() || is_exiting(w.id)))
    }

    /// Returns how a process ended, from the first source that has it: `stat` until it is reaped, its pidfd once it
    /// is reaped (since Linux 6.15), or the kernel's messages to root in the host's network namespace.
    fn ending(&mut self, index: usize) -> Option<Ending> {
        let watched = &self.watched[index];
        let unreaped = match Some(watched.id) == self.found.container.init {
            true => self.init_ending,
            false => self.found.host.wait_status(watched.id).and_then(Ending::from_wait_status),
        };
        let ending = unreaped.or_else(|| watched.handle.ending());
        if ending.is_some() {
            return ending;
        }
        let times = watched.since..=u64::MAX;
        let status = self.exits.as_mut()?.take(watched.id.pid.get(), &times)?;
        Ending::from_wait_status(status)
    }

    /// Marks a process as exited, and returns the event.
    fn exit_event(&mut self, index: usize, init_exits: bool) -> StopEventKind {
        self.note_init_ending();
        let ending = self.ending(index);
        let watched = &mut self.watched[index];
        watched.has_exited = true;
        let is_init = Some(watched.id) == self.found.container.init;
        let is_killed = ending.is_some_and(|ending| ending.signal() == Some(Signal::KILL));
        let is_unknown = ending.is_none() || (is_init && is_killed && !self.is_kill_certain);
        watched.has_unknown_end = is_unknown && !watched.was_killed;
        let process = watched.process.clone();
        if init_exits && !is_init && is_killed && !watched.was_killed {
            watched.was_killed = true;
            let was_signalled = watched.was_signalled;
            let kernel = Killer::Kernel { stop_signal: self.signal, was_signalled };
            return StopEventKind::Killed { process, by: kernel, prediction: None };
        }
        if is_killed && !is_unknown && !watched.was_killed {
            watched.was_killed = true;
            return StopEventKind::Killed { process, by: Killer::Other, prediction: None };
        }
        StopEventKind::Exited { process, ending }
    }
}
