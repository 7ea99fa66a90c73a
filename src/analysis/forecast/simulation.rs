//! The course of a stop: sends the signals of its schedule, lets each process that forwards one do so, and
//! lets supervisors stop their services one stage after the other.

use std::time::Duration;

use super::awaits_no_child;
use super::reaction::{Exits, Forward, Reaction, ServiceStop, StopStage, Targets};
use super::shells::may_finish;
use super::tracees::Tracees;
use super::{Answer, ForecastInput, SignalArrival, inits, react};
use crate::analysis::container_process::{nearest, parents_first};
use crate::analysis::delivery::{Prediction, Recipient, SignalState, predict};
use crate::analysis::joined::{EnginePurpose, purposes};
use crate::model::stop_schedule::{StopOrder, StopStep};

/// The number of processes, each waiting for or forwarding to the next one, that are followed: a container
/// decides how many there are.
const MAX_DEPTH: usize = 256;

/// The signals of a stop and the reactions to them, process by process.
pub(super) struct Simulation<'a> {
    pub input: ForecastInput<'a>,
    /// The init.
    pub init: Option<usize>,
    /// The processes that trace others.
    pub tracees: Tracees,
    pub deliveries: Vec<Vec<SignalArrival>>,
    pub reactions: Vec<Vec<Reaction>>,
    /// The SIGKILL that a supervisor sends to a process, unless it has exited by then.
    pub kills: Vec<Option<SupervisorKill>>,
    /// Whether the stages of each supervisor that has some are over within the grace period.
    stages_end: Vec<Option<Answer>>,
    /// The number of signals under way that are forwarded because of one another.
    depth: usize,
    /// Why the engine started each process, or the ancestor of it that joined, in the running container.
    pub purposes: Vec<Option<EnginePurpose>>,
    /// Whether each process exits by itself, once no more signals follow.
    settled: Vec<Option<Answer>>,
    /// For each process, itself or the nearest ancestor that may stop its descendants; empty while signals follow.
    managers: Vec<Option<usize>>,
}

/// A SIGKILL from a supervisor.
#[derive(Clone, Copy, Debug)]
pub(super) struct SupervisorKill {
    pub by: usize,
    /// How long after the stop signal of the service.
    pub after: Duration,
    /// Whether that time comes before the stop is over.
    pub is_in_time: Answer,
}

impl<'a> Simulation<'a> {
    pub(super) fn new(input: ForecastInput<'a>) -> Self {
        let count = input.processes.len();
        Self {
            init: input.init_index(),
            tracees: Tracees::of(&input),
            input,
            deliveries: vec![Vec::new(); count],
            reactions: (0..count).map(|_| Vec::new()).collect(),
            kills: vec![None; count],
            stages_end: vec![None; count],
            depth: 0,
            purposes: purposes(input.processes, input.joined),
            settled: vec![None; count],
            managers: Vec::new(),
        }
    }

    /// Runs a stop.
    pub(super) fn run(input: ForecastInput<'a>) -> Self {
        let mut simulation = Self::new(input);
        let mut time = Duration::ZERO;
        for step in &input.procedure.schedule.steps {
            simulation.step(*step, time);
            time = time.saturating_add(step.grace);
        }
        simulation
    }

    /// Decides once for each process whether it exits. Children come before their parents, which may wait for
    /// them: no process is asked about all that are below it.
    pub(super) fn settle(mut self) -> Self {
        let processes = self.input.processes;
        self.managers = nearest(processes, |process| self.is_manager(process).then_some(process));
        for process in parents_first(processes).into_iter().rev() {
            self.settled[process] = Some(self.exits(process));
        }
        self
    }

    /// Sends the signal of a step.
    fn step(&mut self, step: StopStep, time: Duration) {
        let init = self.init;
        let is_target = |index: &usize| {
            self.input.is_running(*index) && self.input.processes[*index].in_container
        };
        let mut targets: Vec<usize> = match self.input.procedure.order {
            StopOrder::Init => init.into_iter().collect(),
            StopOrder::All | StopOrder::ChildrenFirst => {
                (0..self.input.processes.len()).filter(is_target).collect()
            }
        };
        // The init last: the signals that it forwards have been sent already then.
        targets.sort_by_key(|index| Some(*index) == init);
        for target in targets {
            let stopped = Forward::certain(Targets::Processes(vec![target]), step.signal);
            self.forward(&stopped, time, None);
        }
    }

    /// Sends a signal to its targets.
    pub(super) fn forward(&mut self, forward: &Forward, time: Duration, sender: Option<usize>) {
        self.depth += 1;
        for process in self.targets(sender, &forward.targets) {
            self.deliver(process, forward, time, sender);
        }
        self.depth -= 1;
    }

    /// Delivers a signal, and applies the reaction of the process. A signal that two processes forward at one
    /// time is merged into one.
    fn deliver(
        &mut self,
        process: usize,
        forward: &Forward,
        time: Duration,
        sender: Option<usize>,
    ) {
        let Forward { signal, is_certain, .. } = *forward;
        let is_known = |known: &SignalArrival| {
            known.signal == signal && known.time == time && (known.is_certain || !is_certain)
        };
        if self.deliveries[process].iter().any(is_known) || !self.input.is_running(process) {
            return;
        }
        let state = SignalState::of(&self.input.processes[process].facts, self.input.context);
        let prediction = predict(&state, signal, Recipient::Process);
        let facts = &self.input.processes[process].facts;
        let prediction = inits::between_waits(facts, signal, prediction);
        let prediction = match prediction.later {
            Some(verdict) if forward.resumes && facts.stat.state.is_stopped() => {
                Prediction { verdict, note: None, later: None }
            }
            _ => prediction,
        };
        let mut reaction = match self.depth <= MAX_DEPTH {
            true => react::react(&self.input, process, signal, &prediction),
            false => Reaction::not_followed(),
        };
        self.deliveries[process].push(SignalArrival {
            time,
            signal,
            sender,
            prediction,
            is_certain,
            exits: Answer::Maybe,
            why: reaction.why.clone(),
        });
        if !is_certain {
            reaction.is_certain = false;
            reaction.forwards.iter_mut().for_each(|forward| forward.is_certain = false);
        }
        self.reactions[process].push(reaction.clone());
        for forward in &reaction.forwards {
            self.forward(forward, time, Some(process));
        }
        if !reaction.stages.is_empty() {
            let end = self.stop_services(process, &reaction.stages, time);
            self.stages_end[process] = Some(end);
        }
        if let Some(farewell) = reaction.farewell
            && self.ends(process) == Answer::Yes
        {
            let mut rest = self.targets(Some(process), &farewell.targets);
            rest.retain(|process| self.ends(*process) != Answer::Yes);
            let farewell = Forward { targets: Targets::Processes(rest), ..farewell };
            self.forward(&farewell, time, Some(process));
        }
    }

    pub(super) fn targets(&self, sender: Option<usize>, targets: &Targets) -> Vec<usize> {
        match targets {
            Targets::Processes(processes) => processes.clone(),
            Targets::Group(group) => (0..self.input.processes.len())
                .filter(|index| {
                    Some(*index) != sender && self.input.processes[*index].facts.stat.pgrp == *group
                })
                .collect(),
        }
    }

    /// Stops services stage by stage, and returns whether all of them are over before the stop is.
    fn stop_services(&mut self, by: usize, stages: &[StopStage], time: Duration) -> Answer {
        let limit = self.input.limit();
        // The earliest and the latest time at which the stage begins.
        let (mut first, mut last) = (time, time);
        for stage in stages {
            let reached = before(first, last, limit);
            if reached == Answer::No {
                return Answer::No;
            }
            for service in &stage.services {
                let is_certain = service.forward.is_certain && reached == Answer::Yes;
                let forward = Forward { is_certain, ..service.forward.clone() };
                self.forward(&forward, first, Some(by));
            }
            let (mut next_first, mut next_last) =
                (first.saturating_add(stage.least), last.saturating_add(stage.least));
            for service in &stage.services {
                let (earliest, latest) = self.service_end(by, service, stage.delay, first, last);
                next_first = next_first.max(earliest);
                next_last = next_last.max(latest);
            }
            (first, last) = (next_first, next_last.saturating_add(stage.delay));
        }
        before(first, last, limit)
    }

    /// Returns the earliest and the latest time at which a service has ended.
    fn service_end(
        &mut self,
        by: usize,
        service: &ServiceStop,
        delay: Duration,
        first: Duration,
        last: Duration,
    ) -> (Duration, Duration) {
        let ends = self.ends(service.process);
        let Some(kill) = service.kill.as_ref().filter(|_| ends != Answer::Yes) else {
            return match ends {
                Answer::Yes => (first, last),
                Answer::No => (Duration::MAX, Duration::MAX),
                Answer::Maybe => (first, Duration::MAX),
            };
        };
        let earliest = first.saturating_add(kill.after);
        let latest = last.saturating_add(kill.after).saturating_add(delay);
        let limit = self.input.limit();
        let is_in_time = before(earliest, latest, limit);
        let targets = self.targets(Some(by), &kill.targets);
        // PID 1 cannot kill itself.
        let is_init = self.input.processes[by].facts.status.is_namespace_init();
        let itself = Some(by).filter(|_| kill.kills_itself && !is_init);
        for process in targets.into_iter().chain([service.process]).chain(itself) {
            let kill = SupervisorKill { by, after: kill.after, is_in_time };
            self.kills[process] = Some(kill);
        }
        (if ends == Answer::No { earliest } else { first }, latest)
    }

    /// Whether a process ends within the grace period, by itself or by a supervisor's SIGKILL.
    pub(super) fn ends(&self, process: usize) -> Answer {
        self.ends_within(process, 0)
    }

    fn ends_within(&self, process: usize, depth: usize) -> Answer {
        let killed = self.kills[process].map_or(Answer::No, |kill| kill.is_in_time);
        self.exits_within(process, depth).or(killed)
    }

    /// Whether a process exits by itself, as far as nothing kills it before.
    pub(super) fn exits(&self, process: usize) -> Answer {
        self.exits_within(process, 0)
    }

    /// Returns whether a process exits within the time; `depth` guards against processes that wait for each other.
    fn exits_within(&self, process: usize, depth: usize) -> Answer {
        if let Some(exits) = self.settled[process] {
            return exits;
        }
        if depth > MAX_DEPTH {
            return Answer::Maybe;
        }
        let is_stopped = |parent: usize| {
            let reactions = self.reactions[parent].iter();
            reactions.flat_map(|reaction| &reaction.stops).any(|stopped| *stopped == process)
        };
        if self.input.processes[process].parent.is_some_and(is_stopped) {
            return Answer::Yes;
        }
        let may_be_stopped = match self.managing_ancestor(process) {
            Some(_) => Answer::Maybe,
            None if self.may_finish(process) => Answer::Maybe,
            None => Answer::No,
        };
        if let Some(others) = self.followed(process) {
            let is_suspended = self.input.is_suspended(process);
            let exits = if is_suspended { Answer::Maybe } else { Answer::Yes };
            return self.all_end(others, exits, depth);
        }
        let reactions = self.reactions[process].iter();
        if reactions.len() == 0 && may_be_stopped == Answer::No {
            return self.by_child(process, depth);
        }
        reactions
            .map(|reaction| self.exits_on(process, reaction, depth))
            .fold(may_be_stopped, Answer::or)
    }

    /// Returns whether a process exits on one signal, from its reaction.
    pub(super) fn exits_on(&self, process: usize, reaction: &Reaction, depth: usize) -> Answer {
        let exits = match &reaction.exits {
            Exits::Yes => Answer::Yes,
            Exits::No => Answer::No,
            Exits::Maybe => Answer::Maybe,
            Exits::ByChild => self.by_child(process, depth),
            Exits::After(processes) => self.all_end(processes, Answer::Yes, depth),
            Exits::MaybeAfter(processes) => self.all_end(processes, Answer::Maybe, depth),
            Exits::AfterStages if self.kills_itself(process) => Answer::No,
            Exits::AfterStages => self.stages_end[process].unwrap_or(Answer::Maybe),
        };
        if reaction.is_certain { exits } else { exits.and(Answer::Maybe) }
    }

    fn all_end(&self, processes: &[usize], start: Answer, depth: usize) -> Answer {
        let each = processes.iter().map(|other| self.ends_within(*other, depth + 1));
        each.fold(start, Answer::and)
    }

    /// Whether a process may exit because a child or a process that it traces does: most programs that wait for one
    /// go on, or exit, when it has exited. A tracee stops for its tracer at each signal, too (ptrace(2)). (It is not
    /// followed: it may be anywhere, so that each process could be met again on every path.)
    fn by_child(&self, process: usize, depth: usize) -> Answer {
        if awaits_no_child(&self.input.processes[process].facts) {
            return Answer::No;
        }
        if self.may_trace(process).is_some() {
            return Answer::Maybe;
        }
        let children = self.input.children(process).into_iter();
        let mut ends = children.map(|child| self.ends_within(child, depth + 1));
        if ends.any(|ends| ends != Answer::No) { Answer::Maybe } else { Answer::No }
    }

    /// Returns a process that this one traces, or may trace, while a stop has signals before SIGKILL, and whether
    /// it is known to.
    pub(super) fn may_trace(&self, process: usize) -> Option<(usize, bool)> {
        let has_signals = !self.input.procedure.schedule.steps.is_empty();
        self.tracees.first(&self.input, process).filter(|_| has_signals)
    }

    /// Whether a process may exit by itself before it gets SIGKILL: in the end, or as soon as PID 1 exits.
    pub(super) fn may_finish(&self, process: usize) -> bool {
        let grace = self.input.procedure.schedule.total_grace();
        let init = self.init.filter(|_| self.input.owns_pid_ns);
        let exit = init.and_then(|init| self.exit_time(init, 0));
        may_finish(&self.input, process, exit.map_or(grace, |exit| exit.min(grace)))
            || self.may_be_health_check(process)
    }

    /// Whether a process is, or may be, of a health check of the engine: it ends by itself.
    fn may_be_health_check(&self, process: usize) -> bool {
        matches!(self.purposes[process], Some(EnginePurpose::HealthCheck | EnginePurpose::Unknown))
    }

    /// Returns when a process is known to exit, from the start of the stop.
    fn exit_time(&self, process: usize, depth: usize) -> Option<Duration> {
        // (Processes could wait for each other.)
        if depth > MAX_DEPTH {
            return None;
        }
        let arrivals = self.deliveries[process].iter().zip(&self.reactions[process]);
        let times = arrivals.filter(|(_, reaction)| reaction.is_certain).filter_map(
            |(arrival, reaction)| match &reaction.exits {
                Exits::Yes => Some(arrival.time.saturating_add(reaction.exits_after?)),
                Exits::After(others) => {
                    let times = others.iter().map(|other| self.exit_time(*other, depth + 1));
                    times.collect::<Option<Vec<_>>>()?.into_iter().max()
                }
                _ => None,
            },
        );
        times.min()
    }

    /// Whether a process is among those that it kills.
    fn kills_itself(&self, process: usize) -> bool {
        self.kills[process].is_some_and(|kill| kill.by == process)
    }

    /// Returns the processes after which a process exits without a signal, if there are such.
    pub(super) fn followed(&self, process: usize) -> Option<&[usize]> {
        let parent = self.input.processes[process].parent?;
        let follows = self.reactions[parent].iter().flat_map(|reaction| &reaction.follows);
        follows.into_iter().find(|(logger, _)| *logger == process).map(|(_, others)| &**others)
    }

    /// Returns the nearest ancestor that received a signal and may stop its descendants then.
    pub(super) fn managing_ancestor(&self, process: usize) -> Option<usize> {
        let processes = self.input.processes;
        let parent = processes[process].parent?;
        if let Some(manager) = self.managers.get(parent) {
            return *manager;
        }
        let ancestors = std::iter::successors(Some(parent), |p| processes[*p].parent);
        // (A snapshot of changing processes could have a circle.)
        ancestors.take(processes.len()).find(|ancestor| self.is_manager(*ancestor))
    }

    fn is_manager(&self, process: usize) -> bool {
        self.reactions[process].iter().any(|reaction| reaction.may_stop_descendants)
    }
}

/// Whether something that happens between these two times happens before the limit.
fn before(first: Duration, last: Duration, limit: Duration) -> Answer {
    if last < limit {
        Answer::Yes
    } else if first >= limit {
        Answer::No
    } else {
        Answer::Maybe
    }
}
