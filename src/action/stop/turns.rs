//! The turns of a stop: the processes that get the signal of a step now, by a snapshot that is taken again
//! when it is out of date.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::time::Instant;

use super::events::{Killer, StopEventKind};
use super::procedure::{RecentSnapshot, SCAN_INTERVAL, StopRun, WatchedProcess};
use crate::action::send::{SendError, SignalRequest};
use crate::analysis::container_process::ContainerProcess;
use crate::analysis::delivery::Recipient;
use crate::analysis::send_order::{SendRank, send_ranks};
use crate::error::Error;
use crate::model::signal::{Signal, SignalNumber, SignalSet};
use crate::model::stop_schedule::StopOrder;
use crate::proc::{CommandLimit, SnapshotOptions};
use crate::resolve::processes::ContainerSnapshot;

/// A process whose turn it is: its index among those that are watched, and in the snapshot.
type Due = (usize, usize);

impl StopRun<'_> {
    /// Signals the processes whose turn it is. (After the start, a container of which no snapshot can be taken has
    /// exited, or the rest of it cannot be read.)
    pub(super) fn take_turns(
        &mut self,
        recent: &mut Option<RecentSnapshot>,
        is_start: bool,
        is_late: bool,
    ) -> Result<(), Error> {
        // (Some programs are recognised by their command line.)
        let waits = SignalSet::from(self.signal);
        let command = CommandLimit::SCREEN;
        let options = SnapshotOptions { waits, command, ..SnapshotOptions::BARE };
        // Exits are noted first: they decide whose turn it is.
        self.note_exits();
        let is_usable = |recent: &RecentSnapshot| !is_late && self.is_up_to_date(recent);
        if let Some(recent) = recent.as_mut().filter(|recent| is_usable(recent)) {
            let due = self.due(recent, is_late);
            let processes: Vec<usize> = due.iter().map(|(_, process)| *process).collect();
            self.found.read_again(&mut recent.snapshot, &processes, options);
            self.signal_due(&recent.snapshot, due);
            return Ok(());
        }
        *recent = None;
        let snapshot = match self.found.snapshot(options) {
            Ok(snapshot) => snapshot,
            Err(error) if is_start && self.watched.is_empty() => return Err(error),
            Err(_) => return Ok(()),
        };
        self.watch(&snapshot, is_start)?;
        self.note_exits();
        let init = self.found.container.init;
        let ranks = send_ranks(&snapshot.processes, |process| Some(process.facts.id) == init);
        let recent = recent.insert(RecentSnapshot { snapshot, taken: Instant::now(), ranks });
        let due = self.due(recent, is_late);
        self.signal_due(&recent.snapshot, due);
        Ok(())
    }

    /// Whether a snapshot is still up to date: it is not the turn of the init, for which every process of
    /// the container has to be known, and no process has exited since of which another one has the children now.
    fn is_up_to_date(&self, recent: &RecentSnapshot) -> bool {
        let init = self.found.container.init;
        let (inits, others): (Vec<&WatchedProcess>, Vec<&WatchedProcess>) =
            self.watched.iter().filter(|w| !w.has_exited).partition(|w| Some(w.id) == init);
        let awaits_turn = inits.iter().any(|init| !init.has_had_turn) && !others.is_empty();
        let processes = &recent.snapshot.processes;
        let running = self.running_initially(processes);
        let has_exited: HashSet<_> =
            self.watched.iter().filter(|w| w.has_exited).map(|w| w.id).collect();
        let is_orphan = |process: &usize| {
            let parent = processes[*process].parent;
            parent.is_some_and(|parent| has_exited.contains(&processes[parent].facts.id))
        };
        recent.taken.elapsed() < SCAN_INTERVAL && awaits_turn && !running.iter().any(is_orphan)
    }

    /// Returns the processes of a snapshot that run and were there from the start. A process that starts children
    /// all the time, as a loop in a shell does, would otherwise not get its turn before the time is short.
    fn running_initially(&self, processes: &[ContainerProcess]) -> Vec<usize> {
        let initial: HashSet<_> =
            self.watched.iter().filter(|w| w.is_initial && !w.has_exited).map(|w| w.id).collect();
        let runs = |process: &usize| {
            let facts = &processes[*process].facts;
            !facts.stat.state.is_zombie() && initial.contains(&facts.id)
        };
        (0..processes.len()).filter(runs).collect()
    }

    /// Returns the processes whose turn it is, in the order in which they are signalled.
    fn due(&self, recent: &RecentSnapshot, is_late: bool) -> Vec<Due> {
        let init = self.found.container.init;
        let (processes, ranks) = (&recent.snapshot.processes, &recent.ranks);
        let indices: HashMap<_, usize> =
            processes.iter().enumerate().map(|(index, p)| (p.facts.id, index)).collect();
        let running = self.running_initially(processes);
        let parents: HashSet<usize> = running.iter().filter_map(|p| processes[*p].parent).collect();
        let others_running = self.watched.iter().any(|w| !w.has_exited && Some(w.id) != init);
        // (A session that joined, or a process that ignores the signal, would hold up the program of the container.)
        let siblings_running = running.iter().any(|process| {
            let ignored = processes[*process].facts.status.sig_ign;
            matches!(ranks[*process], SendRank::Other(_)) && !ignored.contains(self.signal)
        });
        let is_turn = |process: usize| match (self.procedure.order, ranks[process]) {
            (StopOrder::Init, rank) => rank == SendRank::Init || init.is_none(),
            (StopOrder::All, _) => true,
            (StopOrder::ChildrenFirst, _) if is_late => true,
            (StopOrder::ChildrenFirst, SendRank::Init) => !others_running,
            (StopOrder::ChildrenFirst, SendRank::Awaited(_)) if siblings_running => false,
            (StopOrder::ChildrenFirst, _) => !parents.contains(&process),
        };
        let waiting = self.watched.iter().enumerate();
        let waiting = waiting.filter(|(_, watched)| !watched.has_had_turn && !watched.has_exited);
        let mut due: Vec<Due> = waiting
            .filter_map(|(index, watched)| Some((index, *indices.get(&watched.id)?)))
            .filter(|(_, process)| is_turn(*process))
            .collect();
        due.sort_by_key(|(index, process)| {
            (ranks[*process], Reverse(self.watched[*index].id.start))
        });
        due
    }

    /// Sends the signal of the step, and reports afterwards: the exit of one process could end the container before
    /// the next one is signalled.
    fn signal_due(&mut self, snapshot: &ContainerSnapshot, due: Vec<Due>) {
        let signal = self.signal;
        let request = SignalRequest { signal: SignalNumber::Signal(signal), value: None };
        let sent: Vec<Result<(), SendError>> =
            due.iter().map(|(index, _)| self.watched[*index].handle.send(request)).collect();
        for ((index, process), sent) in due.into_iter().zip(sent) {
            let process = &snapshot.processes[process];
            let prediction = snapshot.predict(process, signal, Recipient::Process);
            let watched = &mut self.watched[index];
            watched.has_had_turn = true;
            let process = watched.process.clone();
            let kind = match sent {
                Ok(()) => {
                    watched.was_signalled = true;
                    self.has_sent = true;
                    if signal == Signal::KILL {
                        watched.was_killed = true;
                        let prediction = Some(prediction);
                        StopEventKind::Killed { process, by: Killer::Stop, prediction }
                    } else {
                        StopEventKind::Signalled { process, signal, prediction }
                    }
                }
                Err(SendError::Gone) => continue,
                Err(error) => {
                    self.send_error = Some(error.clone());
                    let (signal, prediction) = (Some(signal), Some(prediction));
                    StopEventKind::Refused { process, signal, prediction, error }
                }
            };
            self.report(kind);
        }
    }
}
