//! Predicting for actors, sending them their signals, and comparing the observation with the prediction.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use cinspect::testing::{
    Access, Host, Prediction, Recipient, Resolver, Signal, SignalSet, SnapshotOptions, Verdict,
    pidfd,
};
use libtest_mimic::Failed;

use super::State;
use super::freezer::{self, FrozenCgroup};
use crate::harness::{self, Container, PATIENCE};
use crate::support::{Outcome, check, wait_until};

/// The effect of a signal on an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    Ended,
    Handled,
    Accepted,
    Stopped,
    Pending,
    Nothing,
}

/// A process that gets one signal.
pub struct Actor<'a> {
    pub container: &'a Container,
    pub name: String,
    /// Host PID.
    pub pid: i32,
    pub signal: Signal,
}

impl Actor<'_> {
    pub fn observe(&self) -> Observed {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid));
        let Ok(status) = status else { return Observed::Ended };
        let line = |key: &str| {
            let found = status.lines().find_map(|line| line.strip_prefix(key));
            found.unwrap_or_default().trim().to_owned()
        };
        let threads =
            std::fs::read_dir(format!("/proc/{}/task", self.pid)).map_or(0, Iterator::count);
        if line("State:").starts_with(['Z', 'X']) && threads <= 1 {
            return Observed::Ended;
        }
        let (signal, number) = (self.signal.name(), self.signal.number());
        for line in self.container.received() {
            if line.starts_with(&format!("{} {signal} ", self.name)) {
                return Observed::Handled;
            }
            if line == format!("{} accepted {number}", self.name) {
                return Observed::Accepted;
            }
        }
        if self.is_stopped() {
            return Observed::Stopped;
        }
        let mask = |key: &str| u64::from_str_radix(&line(key), 16).unwrap_or(0);
        let pending = mask("SigPnd:") | mask("ShdPnd:");
        if pending & (1 << (number - 1)) != 0 { Observed::Pending } else { Observed::Nothing }
    }

    fn is_stopped(&self) -> bool {
        // The main thread may have exited: any thread counts.
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten();
        let mut stats =
            tasks.flatten().map(|task| std::fs::read_to_string(task.path().join("stat")));
        stats.any(|stat| {
            let stat = stat.unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        })
    }
}

/// Sends a signal to a process.
pub fn kill(pid: i32, signal: i32) -> Outcome {
    let send = || {
        let process = pidfd::open(pid, pidfd::SignalScope::Process)?;
        pidfd::send(process, signal, None, pidfd::SignalScope::Process)
    };
    send().map_err(|errno| format!("kill: {errno}").into())
}

/// Predicts for all actors of a container from one snapshot.
pub fn predict(container: &Container, actors: &[Actor<'_>]) -> Result<Vec<Prediction>, Failed> {
    let error = |error: cinspect::testing::Error| Failed::from(error.to_string());
    let host = Host::new(Path::new("/"))?;
    let found = Resolver::new(&host)
        .resolve(&format!("pid:{}", container.init), Access::Act)
        .map_err(error)?;
    let mut waits = SignalSet::EMPTY;
    actors.iter().for_each(|actor| waits.insert(actor.signal));
    let view = found.snapshot(SnapshotOptions { waits, ..SnapshotOptions::BARE }).map_err(error)?;
    let members: HashMap<i32, _> =
        view.processes.iter().map(|member| (member.facts.id.pid.get(), member)).collect();
    actors
        .iter()
        .map(|actor| {
            let member = members.get(&actor.pid).ok_or("an actor is not in the snapshot")?;
            Ok(view.predict(member, actor.signal, Recipient::Process))
        })
        .collect()
}

/// Whether the kernel did what was predicted; `stopped`: before the signal was sent.
fn agrees(prediction: &Prediction, observed: Observed, stopped: bool) -> bool {
    match prediction.verdict {
        Verdict::Handled => observed == Observed::Handled,
        Verdict::Accepted => observed == Observed::Accepted,
        Verdict::Terminates | Verdict::Dumps => observed == Observed::Ended,
        Verdict::Stops => observed == Observed::Stopped,
        Verdict::Continues => stopped && observed != Observed::Stopped,
        Verdict::Pending => {
            observed == Observed::Pending || (stopped && observed == Observed::Stopped)
        }
        Verdict::Ignored | Verdict::Discarded => {
            observed == if stopped { Observed::Stopped } else { Observed::Nothing }
        }
        Verdict::Delayed => [Observed::Pending, Observed::Stopped].contains(&observed),
        // Depends on the kernel version: one of the two effects in the note.
        Verdict::Unknown => {
            prediction.note.as_ref().is_some_and(|note| note.contains("some kernels terminate it"))
                && [Observed::Ended, Observed::Nothing].contains(&observed)
        }
        Verdict::NoEffect => false,
    }
}

/// Brings the actors into a state, predicts, sends each its signal, and compares.
pub fn send_and_compare(container: &Container, actors: &[Actor<'_>], state: State) -> Outcome {
    let pids: Vec<i32> = actors.iter().map(|actor| actor.pid).collect();
    let mut frozen = None;
    match state {
        State::Running => {}
        State::Stopped => {
            for actor in actors {
                kill(actor.pid, Signal::STOP.number())?;
            }
            let stopped = || actors.iter().all(Actor::is_stopped);
            check(wait_until(stopped), "the actors do not stop")?;
        }
        State::FrozenV1 | State::FrozenV2 => {
            let top = freezer::mount_point(state).ok_or("no freezer")?;
            frozen = Some(FrozenCgroup::new(&top, &pids)?);
        }
    }
    let stopped = state == State::Stopped;
    let predictions = predict(container, actors)?;
    for actor in actors {
        kill(actor.pid, actor.signal.number())?;
    }
    let mut wrong = compare(actors, &predictions, state);
    // A delayed signal takes effect once the actors run again.
    if state != State::Running {
        drop(frozen);
        for actor in actors.iter().filter(|_| stopped) {
            let _ = kill(actor.pid, Signal::CONT.number());
        }
        let (delayed, later): (Vec<Actor<'_>>, Vec<Prediction>) = actors
            .iter()
            .zip(&predictions)
            .filter(|(_, prediction)| prediction.verdict == Verdict::Delayed)
            .map(|(actor, prediction)| {
                let verdict = prediction.later.unwrap_or(prediction.verdict);
                let later = Prediction { verdict, ..prediction.clone() };
                (Actor { name: actor.name.clone(), ..*actor }, later)
            })
            .unzip();
        check(
            later.iter().all(|later| later.verdict != Verdict::Delayed),
            "a delayed signal has no later verdict",
        )?;
        wrong.extend(compare(&delayed, &later, State::Running));
    }
    check(wrong.is_empty(), wrong.join("\n"))
}

/// Observes until everything is as predicted, or the deadline is over, and returns what is not. A running
/// actor is observed only after it has acted on its signal, so that no effect is a proven negative.
fn compare(actors: &[Actor<'_>], predictions: &[Prediction], state: State) -> Vec<String> {
    let stopped = state == State::Stopped;
    let until = Instant::now() + PATIENCE * harness::patience();
    let wrong = || -> Vec<String> {
        let all = actors.iter().zip(predictions);
        let observations = all.map(|(actor, predicted)| (actor, predicted, actor.observe()));
        observations
            .filter(|(_, predicted, observed)| !agrees(predicted, *observed, stopped))
            .map(|(actor, predicted, observed)| {
                let (signal, name) = (actor.signal.name(), &actor.name);
                format!("{signal} to {name}: predicted {predicted:?}, observed {observed:?}")
            })
            .collect()
    };
    // A running process has acted on a signal that has left the pending set. (A stopped or frozen one keeps it,
    // and so does one that blocks it.)
    let settled = |actor: &Actor<'_>| harness::is_settled(actor.pid);
    while state == State::Running && !actors.iter().all(settled) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
    loop {
        let disagreements = wrong();
        if disagreements.is_empty() || Instant::now() > until {
            return disagreements;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
