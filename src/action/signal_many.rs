//! Sends one signal to many processes. Every process is held by a pidfd before the first signal is
//! sent, so that a limit that stops us does so before anything has happened; then the container is
//! scanned again until no new process appears. `analysis::selection` decides which processes are
//! meant; nothing here prints, or makes text of a result.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::send::{
    HeldProcess, SendError, SignalRequest, hold, hold_by_snapshot, kill_cgroup, raise_fd_limit,
    wait_for_all,
};
use super::signal_target::{ProcessSelection, SelectedTargets, SignalTarget, targets_of};
use crate::analysis::selection::{Criteria, Selected};
use crate::engine::{may_have_others, own_cgroup_members};
use crate::error::{Error, ExitStatus, os_error};
use crate::model::pid::{ContainerPid, ProcessId};
use crate::model::process::Process;
use crate::model::signal::Signal;
use crate::model::status::Status;
use crate::model::verdict::Verdict;
use crate::proc::{Host, SnapshotOptions, parallel_map};
use crate::resolve::ResolvedContainer;
use crate::resolve::processes::ContainerSnapshot;
use crate::sys::capability;

/// Scans after which a container that forks faster than it is signalled is left alone.
pub const MAX_RESCANS: usize = 32;

/// How long the effect of a signal is watched if the user did not ask to wait.
const OBSERVATION_TIME: Duration = Duration::from_millis(100);
/// The first and the longest pause between two reads of its state.
const FIRST_PAUSE: Duration = Duration::from_micros(50);
const LAST_PAUSE: Duration = Duration::from_millis(2);

/// How long processes may take to exit after KILL, which is not refused but can be late (a frozen
/// cgroup, uninterruptible sleep).
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// The result of sending to one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A dry run: nothing was sent.
    NotSent,
    /// The kernel accepted the signal.
    Sent,
    /// The process could not be held, or the kernel refused the signal.
    Failed(SendError),
}

/// The state of a target shortly after the signal was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The process has exited.
    Exited,
    /// The signal is not pending any more: a handler, a signalfd or sigwait has taken it.
    Taken,
    /// The signal is still pending.
    Pending,
    /// The signal was taken, and the process no longer has a handler for it.
    HandlerRemoved,
}

/// The fate of a target that was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitOutcome {
    /// It exited.
    Exited,
    /// It exited after the KILL of `--kill-after`.
    Killed,
    /// It is still running.
    Running,
}

/// A target, and everything that is known about the signal to it.
#[derive(Clone, Debug)]
pub struct SignalResult {
    /// The target.
    pub target: SignalTarget,
    /// Whether the signal was sent.
    pub delivery: Delivery,
    /// The state of the target shortly after it was sent.
    pub observation: Option<Observation>,
    /// The fate of the process; none if it was not waited for.
    pub outcome: Option<WaitOutcome>,
}

/// The outcome of a rescan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RescanOutcome {
    /// Every process was signalled.
    Complete,
    /// The container still forks after [`MAX_RESCANS`] scans.
    StillGrowing,
    /// The init has exited and this many processes have appeared since. They may belong to this
    /// container, or to the one that its engine has started in its place; the two cannot be distinguished.
    WithoutInit(usize),
}

/// A target, and its state while the batch runs.
struct BatchEntry {
    result: SignalResult,
    /// The process, if the signal was sent to it.
    handle: Option<HeldProcess>,
    /// Whether it got KILL as well.
    killed: bool,
}

/// One signal on its way to the processes of one container.
pub struct SignalBatch<'a> {
    found: &'a ResolvedContainer<'a>,
    request: SignalRequest,
    selection: ProcessSelection<'a>,
    entries: Vec<BatchEntry>,
}

impl<'a> SignalBatch<'a> {
    /// Returns a batch that has sent nothing yet.
    pub fn new(
        found: &'a ResolvedContainer<'a>,
        request: SignalRequest,
        selection: ProcessSelection<'a>,
    ) -> Self {
        Self { found, request, selection, entries: Vec::new() }
    }

    /// Takes a snapshot, and returns the selected targets.
    ///
    /// # Errors
    /// If the snapshot fails, or a selector matches nothing.
    pub fn targets(&self) -> Result<SelectedTargets, Error> {
        self.selection.targets(self.found, self.request.signal)
    }

    /// Returns the results so far, in sending order.
    pub fn results(&self) -> impl Iterator<Item = &SignalResult> {
        self.entries.iter().map(|entry| &entry.result)
    }

    /// Records the targets without sending anything. Each is held and verified for a moment, as it
    /// would be for sending, and the kernel is asked whether that is permitted.
    pub fn rehearse(&mut self, targets: Vec<SignalTarget>) {
        // Through another host's /proc no process can be held; its facts are all there is.
        let can_hold = self.found.host.may_act().is_ok();
        let held = if can_hold { self.open_all(&targets) } else { Vec::new() };
        let is_permitted = capability::has(caps::Capability::CAP_KILL);
        let may_send = |held: HeldProcess| match is_permitted {
            true => Ok(()),
            false => held.may_send(self.request),
        };
        let errors = held.into_iter().map(|held| held.and_then(may_send).err());
        let mut errors = errors.collect::<Vec<Option<SendError>>>().into_iter();
        for target in targets {
            let error = errors.next().flatten();
            let delivery = error.map_or(Delivery::NotSent, Delivery::Failed);
            self.record(target, delivery, None);
        }
    }

    fn open(&self, target: &SignalTarget) -> Result<HeldProcess, SendError> {
        let criteria = Criteria::of(self.selection.selectors);
        hold(self.found, &target.process, target.thread, criteria)
    }

    /// Opens several targets, on several threads.
    fn open_all(&self, targets: &[SignalTarget]) -> Vec<Result<HeldProcess, SendError>> {
        let (found, criteria) = (self.found, Criteria::of(self.selection.selectors));
        let has_pidfd = |target: &SignalTarget| target.process.facts.pidfd.is_some();
        let listed = match targets.iter().any(has_pidfd) {
            true => own_cgroup_members(found.host, &found.container),
            false => HashSet::new(),
        };
        let mut held = parallel_map(targets, |target| {
            let held = hold_by_snapshot(found, &target.process, &listed);
            held.filter(|_| target.thread.is_none())
                .unwrap_or_else(|| hold(found, &target.process, target.thread, criteria))
        });
        // Processes that exist now have been those of the snapshot all the time. One call checks all.
        let handles: Vec<&HeldProcess> = held.iter().flatten().collect();
        let mut exited = wait_for_all(&handles, Some(Instant::now())).map(Vec::into_iter);
        for held in held.iter_mut().filter(|held| held.is_ok()) {
            match exited.as_mut().map(Iterator::next) {
                Ok(Some(false)) => {}
                Ok(_) => *held = Err(SendError::Gone),
                Err(errno) => *held = Err(SendError::from(*errno)),
            }
        }
        held
    }

    fn record(&mut self, target: SignalTarget, delivery: Delivery, handle: Option<HeldProcess>) {
        let result = SignalResult { target, delivery, observation: None, outcome: None };
        self.entries.push(BatchEntry { result, handle, killed: false });
    }

    fn record_sent(&mut self, target: SignalTarget, sent: Result<HeldProcess, SendError>) {
        match sent {
            Ok(handle) => self.record(target, Delivery::Sent, Some(handle)),
            Err(error) => self.record(target, Delivery::Failed(error), None),
        }
    }

    /// Sends the signal to the targets. If `whole` they are the whole container, and KILL goes to its
    /// cgroup at once if it can.
    ///
    /// # Errors
    /// If something stops us before the first signal is sent.
    pub fn send(&mut self, targets: Vec<SignalTarget>, whole: bool) -> Result<(), Error> {
        raise_fd_limit();
        let handles = self.open_all(&targets);
        let errors = handles.iter().filter_map(|handle| handle.as_ref().err());
        if let Some(error) = errors.filter_map(fatal_error).next() {
            return Err(error);
        }
        let open: Vec<&HeldProcess> = handles.iter().flatten().collect();
        let kill = whole && self.request.signal.signal() == Some(Signal::KILL);
        if kill && kill_cgroup(self.found.host, &self.found.container, &open) {
            // Sending it to each of them as well could find them gone.
            for (target, handle) in targets.into_iter().zip(handles) {
                self.record_sent(target, handle);
            }
            return Ok(());
        }
        for (target, handle) in targets.into_iter().zip(handles) {
            self.send_one(target, handle);
        }
        Ok(())
    }

    fn send_one(&mut self, target: SignalTarget, handle: Result<HeldProcess, SendError>) {
        let sent = handle.and_then(|handle| handle.send(self.request).map(|()| handle));
        self.record_sent(target, sent);
    }

    /// Scans again and signals new processes, until a scan finds none. With `only_handled`, new
    /// processes without a handler are recorded as failed and get nothing.
    pub fn rescan(&mut self, only_handled: bool) -> RescanOutcome {
        if self.has_signalled_all() {
            return RescanOutcome::Complete;
        }
        let container = &self.found.container;
        let targets = self.results().map(|result| result.target.process.facts.id);
        let mut known: HashSet<ProcessId> = targets.collect();
        let options = self.selection.snapshot_options(self.request.signal);
        for _ in 0..MAX_RESCANS {
            // Nearly always nothing is new, and a few facts show that.
            let scan = self.scan(self.selection.selector_options());
            if !scan.is_some_and(|(snapshot, selected)| has_new(&snapshot, &selected, &known)) {
                return RescanOutcome::Complete;
            }
            let Some((snapshot, selected)) = self.scan(options) else {
                return RescanOutcome::Complete;
            };
            // Checked after the snapshot: if the init exists now, the snapshot is of its container.
            let has_init = container.init.is_some_and(|init| self.found.host.exists(init));
            let is_new = |selected: &Selected| {
                let process = &snapshot.processes[selected.index].facts;
                !process.stat.state.is_zombie() && known.insert(process.id)
            };
            let new: Vec<Selected> = selected.into_iter().filter(is_new).collect();
            match new.len() {
                0 => return RescanOutcome::Complete,
                // The kernel itself kills the rest of a PID namespace (pid_namespaces(7)).
                _ if !has_init && container.owns_pid_ns => return RescanOutcome::Complete,
                count if !has_init => return RescanOutcome::WithoutInit(count),
                _ => self.send_new(&snapshot, &new, only_handled),
            }
        }
        RescanOutcome::StillGrowing
    }

    /// Whether every process of the container has got the signal and runs, so that no other can have the PID
    /// of one.
    fn has_signalled_all(&self) -> bool {
        let (found, mut handles) = (self.found, Vec::new());
        let (mut known, mut known_in_container) = (HashSet::new(), HashSet::new());
        for entry in &self.entries {
            let Some(handle) = &entry.handle else { return false };
            handles.push(handle);
            known.insert(handle.pid());
            known_in_container.extend(entry.result.target.process.pid.map(ContainerPid::get));
        }
        let init = found.container.init.filter(|_| self.selection.except_init);
        known.extend(init.map(|init| init.pid));
        known_in_container.extend(init.map(|_| 1));
        !may_have_others(
            found.host,
            &found.container,
            &found.inventory,
            &known,
            &known_in_container,
        ) && init.is_none_or(|init| self.found.host.exists(init))
            && wait_for_all(&handles, Some(Instant::now()))
                .is_ok_and(|exited| !exited.contains(&true))
    }

    fn scan(&self, options: SnapshotOptions) -> Option<(ContainerSnapshot, Vec<Selected>)> {
        let snapshot = self.found.snapshot(options).ok()?;
        let selected = self.selection.apply(self.found, &snapshot).ok()?;
        Some((snapshot, selected))
    }

    fn send_new(&mut self, snapshot: &ContainerSnapshot, new: &[Selected], only_handled: bool) {
        let open = |target: SignalTarget| {
            let handle = match only_handled && !target.is_handled() {
                true => Err(SendError::NoHandler),
                false => self.open(&target),
            };
            (target, handle)
        };
        // All are held before the first signal is sent, as in `send`.
        let (targets, _) = targets_of(self.found, snapshot, new, self.request.signal);
        let handles: Vec<_> = targets.into_iter().map(open).collect();
        for (target, handle) in handles {
            self.send_one(target, handle);
        }
    }

    /// Observes for a moment what the signal does: a process that it terminates exits within
    /// microseconds, and a handler starts as soon as its process is scheduled.
    pub fn observe(&mut self) {
        let Some(signal) = self.request.signal.signal() else { return };
        let deadline = Instant::now() + OBSERVATION_TIME;
        let mut unsettled: Vec<&mut BatchEntry> = self.entries.iter_mut().collect();
        let mut pause = FIRST_PAUSE;
        loop {
            let host = self.found.host;
            let seen = observations(host, signal, &unsettled);
            let mut seen = seen.into_iter();
            unsettled.retain_mut(|entry| !entry.observe(seen.next().flatten()));
            if unsettled.is_empty() || Instant::now() > deadline {
                return;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Waits until every process that was signalled has exited, at most until `deadline`, and records
    /// the outcomes. Returns whether none of them is running.
    ///
    /// # Errors
    /// If poll(2) fails.
    pub fn wait(&mut self, deadline: Option<Instant>) -> Result<bool, Error> {
        let handles: Vec<&HeldProcess> =
            self.entries.iter().filter_map(|entry| entry.handle.as_ref()).collect();
        let exited = wait_for_all(&handles, deadline).map_err(|errno| {
            Error::new(ExitStatus::Failed, "cannot wait").cause(os_error(errno))
        })?;
        let mut exited = exited.into_iter();
        for entry in &mut self.entries {
            entry.result.outcome = match (&entry.handle, &entry.result.delivery) {
                (Some(_), _) => exited.next().map(|exited| match (exited, entry.killed) {
                    (true, true) => WaitOutcome::Killed,
                    (true, false) => WaitOutcome::Exited,
                    (false, _) => WaitOutcome::Running,
                }),
                (None, Delivery::Failed(SendError::Gone)) => Some(WaitOutcome::Exited),
                // It got no signal, so its state is not an effect of one.
                (None, _) => None,
            };
        }
        Ok(self.results().all(|result| result.outcome != Some(WaitOutcome::Running)))
    }

    /// Sends KILL to the processes that are still running, and waits for them as [`wait`](Self::wait)
    /// does, at most until `deadline` or a fixed time.
    ///
    /// # Errors
    /// If poll(2) fails.
    pub fn kill(&mut self, deadline: Option<Instant>) -> Result<bool, Error> {
        for entry in &mut self.entries {
            if entry.result.outcome == Some(WaitOutcome::Running)
                && let Some(handle) = &entry.handle
            {
                entry.killed = handle.send(SignalRequest::KILL).is_ok();
            }
        }
        let latest = Instant::now() + KILL_TIMEOUT;
        self.wait(Some(deadline.map_or(latest, |deadline| deadline.min(latest))))
    }
}

/// Whether a process of a scan is selected and not known yet.
fn has_new(
    snapshot: &ContainerSnapshot,
    selected: &[Selected],
    known: &HashSet<ProcessId>,
) -> bool {
    selected.iter().any(|selected| {
        let process = &snapshot.processes[selected.index].facts;
        !process.stat.state.is_zombie() && !known.contains(&process.id)
    })
}

/// Returns an observation of each now. One call checks which of them have exited.
fn observations(
    host: &Host,
    signal: Signal,
    entries: &[&mut BatchEntry],
) -> Vec<Option<Observation>> {
    let handles: Vec<&HeldProcess> =
        entries.iter().filter_map(|entry| entry.handle.as_ref()).collect();
    let exited = wait_for_all(&handles, Some(Instant::now())).unwrap_or_default();
    let mut exited = exited.into_iter();
    let entries: Vec<(&BatchEntry, bool)> = entries
        .iter()
        .map(|entry| (&**entry, entry.handle.is_some() && exited.next() == Some(true)))
        .collect();
    parallel_map(&entries, |(entry, has_exited)| match has_exited {
        true => Some(Observation::Exited),
        false => entry.observation(host, signal),
    })
}

impl BatchEntry {
    /// Returns an observation of it now, if it got the signal and has not exited.
    fn observation(&self, host: &Host, signal: Signal) -> Option<Observation> {
        let target = &self.result.target;
        let (handle, prediction) = (self.handle.as_ref()?, target.prediction.as_ref()?);
        let facts = target.process.facts.as_ref();
        // The kernel drops a signal without an effect at once, unless it is blocked.
        let is_dropped = matches!(prediction.verdict, Verdict::Ignored | Verdict::Discarded);
        if is_dropped && !facts.status.sig_blk.contains(signal) {
            return None;
        }
        observation(host, handle, facts, signal)
    }

    /// Records an observation. Returns whether it is the last one.
    fn observe(&mut self, observation: Option<Observation>) -> bool {
        let (Some(_), Some(prediction)) = (&self.handle, &self.result.target.prediction) else {
            return true;
        };
        self.result.observation = observation;
        match prediction.verdict {
            verdict if verdict.is_fatal() => observation == Some(Observation::Exited),
            verdict if verdict.is_received() => observation != Some(Observation::Pending),
            _ => {
                // Of these only two things can be seen: that it is pending, or that the verdict was
                // wrong.
                self.result.observation =
                    observation.filter(|observation| *observation != Observation::Taken);
                true
            }
        }
    }
}

fn observation(
    host: &Host,
    handle: &HeldProcess,
    before: &Process,
    signal: Signal,
) -> Option<Observation> {
    let status = host.status(before.id.pid);
    // If the process still runs, the PID was its own all the time, and so was the status.
    if handle.has_exited() {
        return Some(Observation::Exited);
    }
    let status = status.ok()?;
    let pending = status.shd_pnd.union(status.sig_pnd).contains(signal);
    let has_handler = |status: &Status| status.sig_cgt.contains(signal);
    Some(match pending {
        true => Observation::Pending,
        false if has_handler(&before.status) && !has_handler(&status) => {
            Observation::HandlerRemoved
        }
        false => Observation::Taken,
    })
}

/// Returns the error for a failure that concerns every target: it stops the batch before
/// anything is sent.
fn fatal_error(failure: &SendError) -> Option<Error> {
    let error = |status| Error::new(status, "nothing was sent").cause(failure.to_string());
    match failure {
        SendError::TooMany(_) => {
            Some(error(ExitStatus::Failed).hint("raise the limit with `ulimit -n`"))
        }
        SendError::NoPidfd => {
            Some(error(ExitStatus::Failed).hint("sending signals needs Linux 5.3 or later"))
        }
        SendError::NotPermitted if !capability::has(caps::Capability::CAP_KILL) => {
            Some(error(ExitStatus::NotPermitted).hint("run as root, or with CAP_KILL"))
        }
        _ => None,
    }
}
