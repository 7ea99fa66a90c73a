//! The end of a stop: KILL to the processes that are still running, until none is.

use std::time::{Duration, Instant};

use super::events::{Killer, StopEventKind};
use super::procedure::StopRun;
use crate::action::freeze::FreezeGuard;
use crate::action::send::{SendError, SignalRequest, kill_cgroup};
use crate::model::signal::Signal;
use crate::proc::SnapshotOptions;

/// How long processes may take to exit after KILL.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// How often new processes are looked for after KILL.
const SCAN_INTERVAL: Duration = Duration::from_millis(50);

impl StopRun<'_> {
    /// Sends KILL: to the cgroup at once where that is exact, else to each process, and to new ones
    /// while they appear.
    pub(super) fn kill(&mut self) {
        let deadline = Instant::now() + KILL_TIMEOUT;
        let host = self.found.host;
        if self.is_same_container()
            && kill_cgroup(host, &self.found.container, &self.running_handles())
        {
            for index in self.running_indices() {
                self.killed(index);
            }
        } else {
            self.kill_each();
        }
        while self.running() > 0 && Instant::now() < deadline {
            self.note_exits();
            if self.running() == 0 {
                break;
            }
            // Processes that were forked meanwhile, in a container without a PID namespace that would
            // end with its init.
            if let Ok(snapshot) = self.found.snapshot(SnapshotOptions::BARE)
                && self.watch(&snapshot, false).is_ok()
            {
                self.kill_new();
            }
            self.sleep(deadline.min(Instant::now() + SCAN_INTERVAL));
        }
        self.note_exits();
    }

    fn killed(&mut self, index: usize) {
        let watched = &mut self.watched[index];
        watched.was_killed = true;
        let process = watched.process.clone();
        self.report(StopEventKind::Killed { process, by: Killer::Stop, prediction: None });
    }

    fn kill_each(&mut self) {
        let init = self.found.container.init;
        let owns_pid_ns = self.found.container.owns_pid_ns;
        // Without a PID namespace, frozen processes cannot fork while they are killed.
        let guard = if owns_pid_ns {
            None
        } else {
            FreezeGuard::freeze(self.found, &self.running_handles())
        };
        if guard.is_some()
            && let Ok(snapshot) = self.found.snapshot(SnapshotOptions::BARE)
        {
            let _ = self.watch(&snapshot, false);
        }
        // Where there is a PID namespace its init takes all of it with it, and is killed first. The
        // others are killed as well, since we may not be allowed to kill the init.
        let mut order = self.running_indices();
        order.sort_by_key(|index| (Some(self.watched[*index].id) == init) != owns_pid_ns);
        for index in order {
            match self.watched[index].handle.send(SignalRequest::KILL) {
                Ok(()) => self.killed(index),
                Err(SendError::Gone) => {}
                Err(error) => {
                    let process = self.watched[index].process.clone();
                    let (signal, prediction) = (Some(Signal::KILL), None);
                    self.report(StopEventKind::Refused { process, signal, prediction, error });
                }
            }
        }
        drop(guard);
    }

    fn kill_new(&mut self) {
        for index in self.running_indices() {
            let watched = &self.watched[index];
            if !watched.was_killed && watched.handle.send(SignalRequest::KILL).is_ok() {
                self.killed(index);
            }
        }
    }
}
