//! The end of a forecast stop: which processes exit, and which are killed, by whom and why.

use std::time::Duration;

use super::reaction::{Exits, Reaction};
use super::simulation::Simulation;
use super::{Answer, Forecast, KilledBy, ProcessForecast, SignalArrival};
use crate::analysis::joined::EnginePurpose;
use crate::analysis::send_order::{SendRank, send_ranks};
use crate::model::stop_schedule::StopOrder;
use crate::model::verdict::Verdict;

/// Draws the conclusions from the signals and the reactions to them.
pub(super) fn outcome(simulation: &Simulation<'_>) -> Forecast {
    let input = &simulation.input;
    let ending = Conclusion::new(simulation);
    let processes: Vec<ProcessForecast> = (0..input.processes.len())
        .filter(|process| input.is_running(*process) && input.processes[*process].in_container)
        .map(|process| ending.process(process))
        .collect();
    let each = processes.iter().map(|process| process.exits);
    let graceful = match ending.init {
        Some(_) => each.fold(Answer::Yes, Answer::and),
        None if ending.is_without_init() => each.fold(Answer::Yes, Answer::and),
        None => Answer::Maybe,
    };
    let schedule = &input.procedure.schedule;
    // (Without a PID namespace of its own, processes outlive an init that is killed.)
    let reaches_all = input.owns_pid_ns || input.procedure.order != StopOrder::Init;
    let total = if reaches_all { schedule.time_to_kill() } else { schedule.total_grace() };
    let is_killed = schedule.kills() && total != Duration::MAX;
    let init_ends = if is_killed { Answer::Yes } else { ending.init_ends() };
    let is_ended = input.owns_pid_ns && init_ends == Answer::Yes;
    let is_limited = schedule.kills() || graceful == Answer::Yes || is_ended;
    Forecast {
        processes,
        graceful,
        longest: Some(total).filter(|total| is_limited && *total != Duration::MAX),
        is_unlimited: total == Duration::MAX,
        init_ends,
        companions: Vec::new(),
    }
}

/// The exits of all processes.
struct Conclusion<'a> {
    simulation: &'a Simulation<'a>,
    init: Option<usize>,
    /// Whether each process exits by itself, as far as nothing kills it before.
    exits: Vec<Answer>,
    /// The same, or by the SIGKILL of a supervisor.
    ends: Vec<Answer>,
    /// The processes for which the init waits, directly or through others.
    awaited: Vec<bool>,
    /// The processes that their parent stops.
    stopped: Vec<bool>,
    ranks: Vec<SendRank>,
}

impl<'a> Conclusion<'a> {
    fn new(simulation: &'a Simulation<'a>) -> Self {
        let count = simulation.input.processes.len();
        let init = simulation.init;
        let mut ending = Self {
            simulation,
            init,
            exits: Vec::new(),
            ends: Vec::new(),
            awaited: vec![false; count],
            stopped: vec![false; count],
            ranks: send_ranks(simulation.input.processes, |process| {
                init.is_some_and(|init| {
                    process.facts.id == simulation.input.processes[init].facts.id
                })
            }),
        };
        ending.exits = (0..count).map(|process| simulation.exits(process)).collect();
        ending.ends = (0..count).map(|process| simulation.ends(process)).collect();
        // (Not asked for each child: a server may have thousands of workers.)
        for (parent, reactions) in simulation.reactions.iter().enumerate() {
            for child in reactions.iter().flat_map(|reaction| &reaction.stops) {
                ending.stopped[*child] |= simulation.input.processes[*child].parent == Some(parent);
            }
        }
        let mut next: Vec<usize> = init.into_iter().collect();
        while let Some(process) = next.pop() {
            for awaited in ending.waits_for(process) {
                if !std::mem::replace(&mut ending.awaited[awaited], true) {
                    next.push(awaited);
                }
            }
        }
        ending
    }

    /// Returns the processes that must have exited before this one does.
    fn waits_for(&self, process: usize) -> Vec<usize> {
        let reactions = self.simulation.reactions[process].iter();
        reactions
            .flat_map(|reaction| {
                let after = match &reaction.exits {
                    Exits::After(processes) | Exits::MaybeAfter(processes) => processes.clone(),
                    _ => Vec::new(),
                };
                let services = reaction.stages.iter().flat_map(|stage| &stage.services);
                let services = services.map(|service| service.process);
                after.into_iter().chain(reaction.stops.iter().copied()).chain(services)
            })
            .collect()
    }

    /// Whether the container has lost its init, so that no process ends with that. (An init that could not be
    /// read is there.)
    fn is_without_init(&self) -> bool {
        let input = &self.simulation.input;
        input.init.is_none() && !input.owns_pid_ns && !input.processes.is_empty()
    }

    /// Whether the init exits by itself, or by the SIGKILL of a supervisor.
    fn init_ends(&self) -> Answer {
        match self.init {
            Some(init) => self.ends[init],
            None if self.is_without_init() => Answer::No,
            None => Answer::Maybe,
        }
    }

    /// Whether a signal is certain to end a process, whatever else happens: the kernel marks it as
    /// exiting when the signal is sent.
    fn is_doomed(&self, process: usize) -> bool {
        self.simulation.deliveries[process].iter().any(|delivery| {
            delivery.is_certain
                && matches!(delivery.prediction.verdict, Verdict::Terminates | Verdict::Dumps)
        })
    }

    fn process(&self, process: usize) -> ProcessForecast {
        let direct_exit = self.exits[process];
        let init_exits = self.init_ends();
        let kill = self.simulation.kills[process].filter(|kill| kill.is_in_time == Answer::Yes);
        let is_init = Some(process) == self.init;
        let exits = self.before_init(process, direct_exit, init_exits);
        let killed = match (exits, init_exits) {
            (Answer::Yes, _) => None,
            _ if kill.is_some() => Some(KilledBy::Supervisor),
            (_, Answer::No) => Some(KilledBy::Engine),
            _ if is_init => Some(KilledBy::Engine),
            _ if self.simulation.input.owns_pid_ns => Some(KilledBy::Kernel),
            _ => Some(KilledBy::Engine),
        };
        let killed = killed.filter(|killer| {
            *killer != KilledBy::Engine || self.simulation.input.procedure.schedule.kills()
        });
        let why = self.reason(process, direct_exit, exits);
        let deliveries = match &self.simulation.deliveries[process][..] {
            // Facts about others may decide.
            [one] => vec![SignalArrival { exits, why: why.clone(), ..one.clone() }],
            _ => self.deliveries(process, init_exits),
        };
        ProcessForecast { process, deliveries, exits, killed, why }
    }

    /// Returns whether a process exits, if that may be too late: one for which PID 1 does not wait races with
    /// the exit of PID 1.
    fn before_init(&self, process: usize, exits: Answer, init_exits: Answer) -> Answer {
        let is_init = Some(process) == self.init;
        // With children first, PID 1 and the child whose exit ends it get the signal when its others have exited.
        let is_earlier = self.simulation.input.procedure.order == StopOrder::ChildrenFirst
            && !matches!(self.ranks[process], SendRank::Joined(_));
        let is_safe = is_init || is_earlier || self.awaited[process] || self.is_doomed(process);
        match exits {
            Answer::Yes if is_safe || init_exits == Answer::No => Answer::Yes,
            Answer::Yes => Answer::Maybe,
            other => other,
        }
    }

    /// Returns the signals that a process gets until it is known to have exited, each with its effect.
    fn deliveries(&self, process: usize, init_exits: Answer) -> Vec<SignalArrival> {
        let arrivals = self.simulation.deliveries[process].iter();
        let mut deliveries: Vec<SignalArrival> = arrivals
            .zip(&self.simulation.reactions[process])
            .map(|(arrival, reaction)| {
                let exits = self.simulation.exits_on(process, reaction, 0);
                let exits = self.before_init(process, exits, init_exits);
                SignalArrival { exits, ..arrival.clone() }
            })
            .collect();
        let exit = deliveries.iter().find(|arrival| arrival.exits == Answer::Yes);
        if let Some(time) = exit.map(|arrival| arrival.time) {
            deliveries.retain(|arrival| arrival.time <= time);
        }
        deliveries
    }

    /// Returns the end of the reason for a process that may exit when another has: one that it traces, or a child.
    fn after_others(&self, process: usize) -> String {
        let input = &self.simulation.input;
        match self.simulation.may_trace(process) {
            Some((tracee, true)) => {
                format!("; it may exit when {} has, which it traces", input.name(tracee))
            }
            Some((tracee, false)) => {
                format!("; it may exit when {} has, which it may trace", input.name(tracee))
            }
            None if !input.children(process).is_empty() => {
                "; it may exit when its child has".into()
            }
            None => String::new(),
        }
    }

    /// Returns the reason for the forecast of a process.
    fn reason(&self, process: usize, direct_exit: Answer, exits: Answer) -> String {
        let reactions = &self.simulation.reactions[process];
        let parent = self.simulation.input.processes[process].parent;
        let is_stopped_by = parent.filter(|_| self.stopped[process]);
        if let Some(parent) = is_stopped_by {
            return format!("{} stops it", self.simulation.input.name(parent));
        }
        if let Some(others) = self.simulation.followed(process) {
            let names = others.iter().map(|other| self.simulation.input.name(*other));
            let names = names.collect::<Vec<_>>().join(", ");
            return match names.as_str() {
                "" => "exits at the end of its input".into(),
                names => format!("exits at the end of its input, when {names} has exited"),
            };
        }
        let rank = |reaction: &&Reaction| self.simulation.exits_on(process, reaction, 0).rank();
        let mut why = match reactions.iter().max_by_key(rank) {
            Some(reaction) => reaction.why.clone(),
            None => match self.simulation.managing_ancestor(process) {
                Some(ancestor) => {
                    format!("{} may or may not stop it", self.simulation.input.name(ancestor))
                }
                None if self.simulation.input.procedure.schedule.steps.is_empty() => {
                    "SIGKILL without a signal first".into()
                }
                None if self.simulation.may_finish(process) => {
                    let check = match self.simulation.purposes[process] {
                        Some(EnginePurpose::HealthCheck) => "probably a health check: ",
                        Some(EnginePurpose::Unknown) => "a session or a health check: ",
                        _ => "",
                    };
                    format!("{check}no signal reaches it; it may finish first")
                }
                None => "no signal reaches it".into(),
            },
        };
        let kill = self.simulation.kills[process].filter(|kill| !kill.after.is_zero());
        if let Some(kill) = kill.filter(|_| direct_exit != Answer::Yes) {
            let sends = match kill.is_in_time {
                Answer::Yes => "sends SIGKILL",
                Answer::Maybe => "may send SIGKILL",
                Answer::No => "sends SIGKILL only",
            };
            let supervisor = self.simulation.input.name(kill.by);
            why.push_str(&format!("; {supervisor} {sends} after {} s", kill.after.as_secs_f64()));
        }
        let is_by_child = reactions.iter().all(|reaction| reaction.exits == Exits::ByChild);
        if direct_exit == Answer::Maybe && is_by_child {
            why.push_str(&self.after_others(process));
        }
        if direct_exit == Answer::Yes && exits == Answer::Maybe {
            why.push_str("; PID 1 does not wait for it and may exit first");
        }
        why
    }
}
