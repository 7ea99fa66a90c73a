//! Forecasts a whole stop: which processes a signal reaches, through every process that forwards it, which
//! of them exit, and which get SIGKILL. Pure: from the snapshot of a container and the procedure of the
//! stop to a timeline. The effect of one signal on one process is in `delivery`, the reaction of a program
//! in `react`.

pub(super) mod fuzz;
mod inits;
mod outcome;
mod reach;
mod react;
mod reaction;
mod runners;
mod saving;
mod servers;
mod services;
mod shells;
mod simulation;
mod supervisord;
mod tracees;
mod uwsgi;

use std::time::Duration;

use super::container_process::ContainerProcess;
use super::delivery::{DeliveryContext, Prediction, Recipient, SignalState, predict};
use super::joined::Joined;
use crate::model::cgroup::Freezer;
use crate::model::lookup::{Lookup, LookupError, LookupResult, LookupStore};
use crate::model::pid::ProcessId;
use crate::model::pre_stop::{LEAST_GRACE, PreStopHook};
use crate::model::process::Process;
use crate::model::signal::Signal;
use crate::model::signal_waiters::InputWait;
use crate::model::stop_schedule::{StopOrder, StopProcedure};
use crate::model::verdict::Verdict;
pub use inits::between_waits;
pub use reach::{ReachedProcess, SignalRoute, follow};
pub use shells::{is_short_command, may_be_short};
use simulation::Simulation;

/// The signals that forwarders send in place of another one, besides the stop signal itself: a snapshot has
/// to show which threads wait for them.
pub const FORWARDED: [Signal; 10] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::TERM,
    Signal::CONT,
    Signal::WINCH,
    Signal::ABRT,
    Signal::ALRM,
];

/// The answer to a question about the future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It happens.
    Yes,
    /// It does not happen.
    No,
    /// A deciding fact is missing.
    Maybe,
}

impl Answer {
    /// Returns the word that is printed for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Maybe => "maybe",
        }
    }

    /// Returns the word for a whole stop: whether it is graceful.
    pub fn stop_word(self) -> &'static str {
        match self {
            Self::Yes => "graceful",
            Self::No => "killed",
            Self::Maybe => "maybe",
        }
    }

    /// Returns the conjunction of two answers.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Maybe,
        }
    }

    /// Orders answers from the worst to the best.
    pub fn rank(self) -> u8 {
        match self {
            Self::No => 0,
            Self::Maybe => 1,
            Self::Yes => 2,
        }
    }

    /// Returns the disjunction of two answers.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::No, Self::No) => Self::No,
            _ => Self::Maybe,
        }
    }
}

/// The sender of the SIGKILL that ends a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KilledBy {
    /// The engine or cinspect, when the grace period is over.
    Engine,
    /// The kernel, when PID 1 exits.
    Kernel,
    /// A supervisor in the container, when the time of a service is over.
    Supervisor,
}

impl KilledBy {
    /// Returns the word that is printed for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Kernel => "kernel",
            Self::Supervisor => "supervisor",
        }
    }
}

/// A signal that reaches a process.
#[derive(Clone, Debug)]
pub struct SignalArrival {
    /// When it is sent, from the start of the stop.
    pub time: Duration,
    /// The signal.
    pub signal: Signal,
    /// The index of the process that forwards it; none if the stop itself sends it.
    pub sender: Option<usize>,
    /// Its effect.
    pub prediction: Prediction,
    /// Whether it is known to be sent.
    pub is_certain: bool,
    /// Whether the process exits on it.
    pub exits: Answer,
    /// The reason.
    pub why: String,
}

/// The forecast for one process.
#[derive(Clone, Debug)]
pub struct ProcessForecast {
    /// The index of the process.
    pub process: usize,
    /// The signals that reach it, in order.
    pub deliveries: Vec<SignalArrival>,
    /// Whether it exits without SIGKILL.
    pub exits: Answer,
    /// The sender of the SIGKILL that ends it, if it does not exit.
    pub killed: Option<KilledBy>,
    /// The reason.
    pub why: String,
}

/// The forecast for a container.
#[derive(Clone, Debug)]
pub struct Forecast {
    /// Its processes, without zombies.
    pub processes: Vec<ProcessForecast>,
    /// Whether every process exits without SIGKILL.
    pub graceful: Answer,
    /// The longest time that the stop can take; none if it is not limited.
    pub longest: Option<Duration>,
    /// Whether the grace period has no limit.
    pub is_unlimited: bool,
    /// Whether its init ends, by itself or by SIGKILL.
    pub init_ends: Answer,
    /// Other containers in its PID namespace, which the kernel kills when its init ends.
    pub companions: Vec<String>,
}

impl Forecast {
    /// Adds the other containers in its PID namespace: no signal reaches them.
    #[must_use]
    pub fn with_companions(self, companions: Vec<String>) -> Self {
        let graceful = match self.init_ends {
            _ if companions.is_empty() => self.graceful,
            Answer::Yes => Answer::No,
            // (Without SIGKILL nothing is killed if its init does not exit.)
            Answer::Maybe | Answer::No => self.graceful.and(Answer::Maybe),
        };
        Self { companions, graceful, ..self }
    }

    /// Adds the hook that runs before the first signal: what it does to the processes is not known unless it
    /// only waits.
    fn with_hook(self, hook: &PreStopHook, grace: Duration) -> Self {
        match hook.pause() {
            Some(pause) => {
                let longest = self.longest.map(|longest| longest.saturating_add(pause));
                Self { longest, ..self }
            }
            None => Self {
                graceful: Answer::Maybe,
                longest: self.longest.map(|longest| longest.max(grace.saturating_add(LEAST_GRACE))),
                ..self
            },
        }
    }

    /// Makes the forecast that of a stop which may end nothing, for this reason.
    fn with_doubt(mut self, reason: &str) -> Self {
        for process in &mut self.processes {
            process.exits = Answer::Maybe;
            process.killed = None;
            process.why = reason.to_owned();
        }
        let (graceful, init_ends) = (Answer::Maybe, Answer::Maybe);
        Self { graceful, init_ends, longest: None, is_unlimited: false, ..self }
    }

    /// Makes the forecast that of a sandbox, in which the container's own processes run unseen.
    #[must_use]
    pub fn of_sandbox(mut self) -> Self {
        for process in &mut self.processes {
            process.exits = Answer::Maybe;
            process.why = "it is part of a sandbox, which decides when its processes exit".into();
        }
        Self { graceful: Answer::Maybe, ..self }
    }

    /// Whether any process gets SIGKILL, or may get it.
    pub fn kills(&self) -> bool {
        self.processes.iter().any(|process| process.killed.is_some())
    }

    /// Returns the forecast in one word.
    pub fn word(&self) -> &'static str {
        self.graceful.stop_word()
    }
}

/// The longest time between the start of a process and its first child that counts as its start.
const START_MS: i64 = 60_000;
/// Inexactness of the start of a process against the times of files.
const CLOCK_MS: i64 = 50;

/// The facts that a forecast is made of.
#[derive(Clone, Copy)]
pub struct ForecastInput<'a> {
    /// The processes of the container.
    pub processes: &'a [ContainerProcess],
    /// The facts about all of them together.
    pub context: &'a DeliveryContext,
    /// Environments and files, as far as they have been read; more are noted as wanted.
    pub lookups: &'a LookupStore,
    /// Whether each process joined the container; empty where that was not asked.
    pub joined: &'a [Joined],
    /// The init.
    pub init: Option<ProcessId>,
    /// Whether the init is PID 1 of its own PID namespace, so that the kernel kills the rest when it exits.
    pub owns_pid_ns: bool,
    /// How the container is stopped.
    pub procedure: &'a StopProcedure,
}

impl ForecastInput<'_> {
    fn init_index(&self) -> Option<usize> {
        let init = self.init?;
        self.processes.iter().position(|process| process.facts.id == init)
    }

    /// Whether a process is in a frozen cgroup.
    fn is_frozen(&self, index: usize) -> bool {
        let freezer = self.context.frozen.get(&self.processes[index].facts.id.pid);
        matches!(freezer, Some(Freezer::V1 | Freezer::V2))
    }

    /// Whether a process does not run until something else lets it: it is stopped, also by its tracer, or frozen.
    fn is_suspended(&self, index: usize) -> bool {
        let state = self.processes[index].facts.stat.state;
        state.is_stopped() || state.is_traced() || self.is_frozen(index)
    }

    /// Returns the time until SIGKILL; a signal without a stop has no limit.
    fn limit(&self) -> Duration {
        let schedule = &self.procedure.schedule;
        let is_limited = schedule.kill || !schedule.steps.is_empty();
        if is_limited { schedule.time_to_kill() } else { Duration::MAX }
    }

    /// Returns a fact about a process. One that has not been read yet is unreadable for now, and asked for.
    fn look_up(&self, index: usize, lookup: Lookup) -> LookupResult {
        match self.lookups.get(self.processes[index].facts.id, lookup) {
            Some(result) => (*result).clone(),
            None => Err(LookupError::Unreadable("it was not read".into())),
        }
    }

    /// Whether a file was last changed before a process read it at its start. A program that was executed in
    /// an older process may have started later than that: the start of its first child is used, if that came soon.
    fn is_from_start(&self, index: usize, changed: Option<i64>) -> bool {
        let start = |index: usize| self.processes[index].facts.times.started.as_millisecond();
        let started = start(index);
        let Some(changed) = changed else { return false };
        let first = self.children(index).first().map(|child| start(*child));
        let soon = first.filter(|first| first - started <= START_MS);
        changed <= started + CLOCK_MS || soon.is_some_and(|first| changed <= first + CLOCK_MS)
    }

    /// Returns the arguments of a process; none if they are not known.
    fn arguments(&self, index: usize) -> Vec<&[u8]> {
        let command = self.processes[index].facts.command.known();
        command.map(|command| command.argv().collect()).unwrap_or_default()
    }

    /// Returns the processes of a process group.
    fn group(&self, group: i32) -> impl Iterator<Item = usize> {
        (0..self.processes.len()).filter(move |index| {
            self.is_running(*index) && self.processes[*index].facts.stat.pgrp == group
        })
    }

    /// Whether a process can still do anything.
    fn is_running(&self, index: usize) -> bool {
        !self.processes[index].facts.stat.has_exited()
    }

    /// Returns the children of a process that run, first started first.
    fn children(&self, index: usize) -> Vec<usize> {
        let children = self.processes[index].children.iter().copied();
        children.filter(|child| self.is_running(*child)).collect()
    }

    fn name(&self, index: usize) -> String {
        self.processes[index].label()
    }
}

/// Whether the init drops every signal of a stop. Then no other process gets one, and the stop ends with SIGKILL
/// unless one of them may exit by itself ([`may_be_short`]), which the init may take as its own end if it may
/// notice that ([`awaits_no_child`]). The input needs no other process.
pub fn drops_every_signal(input: ForecastInput<'_>) -> bool {
    let (StopOrder::Init, Some(init)) = (input.procedure.order, input.init_index()) else {
        return false;
    };
    let facts = &input.processes[init].facts;
    let is_dropped = |signal: Signal| {
        let prediction =
            predict(&SignalState::of(facts, input.context), signal, Recipient::Process);
        let verdict = between_waits(facts, signal, prediction).verdict;
        matches!(verdict, Verdict::Discarded | Verdict::Ignored)
    };
    let steps = &input.procedure.schedule.steps;
    let mut signals = steps.iter().map(|step| step.signal);
    input.owns_pid_ns
        && !steps.is_empty()
        && !shells::is_short(&input, init)
        && signals.all(is_dropped)
}

/// Whether nothing but a signal that kills it ends a process's sleep: it has one thread, in pause(2), and no
/// handler, so that it does not notice when a child exits.
pub fn awaits_no_child(facts: &Process) -> bool {
    let status = &facts.status;
    let main = facts.waits.known().and_then(|waits| waits.threads.first());
    status.threads == 1
        && status.sig_cgt.is_empty()
        && main.is_some_and(|main| main.input == InputWait::Handler)
}

/// Forecasts a stop.
pub fn forecast(input: ForecastInput<'_>) -> Forecast {
    let forecast = outcome::outcome(&Simulation::run(input).settle());
    let forecast = match &input.procedure.hook {
        Some(hook) => forecast.with_hook(hook, input.procedure.schedule.total_grace()),
        None => forecast,
    };
    match input.procedure.doubt {
        Some(reason) => forecast.with_doubt(reason),
        None => forecast,
    }
}
