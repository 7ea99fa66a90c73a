//! The way of one signal to selected processes, through every process that forwards it: which processes get
//! it in the end, and whether the container ends. Nothing here decides about a stop.

use std::time::Duration;

use super::reaction::{Forward, Targets};
use super::simulation::Simulation;
use super::{Answer, ForecastInput, outcome};
use crate::analysis::programs::{DUMB_INIT, TINI, program_of};
use crate::model::signal::Signal;
use crate::model::verdict::Verdict;

/// A process that a signal reaches in the end: it does not forward it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReachedProcess {
    /// The index of the process.
    pub process: usize,
    /// The signal that it gets; a forwarder may send another one than it got.
    pub signal: Signal,
    /// The effect.
    pub verdict: Verdict,
}

/// The way of a signal that was sent to one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignalRoute {
    /// Whether the process forwards it.
    pub is_forwarded: bool,
    /// The processes that it reaches in the end, each once.
    pub ends: Vec<ReachedProcess>,
    /// The processes that should have forwarded it and do not, each with the reason.
    pub dropped: Vec<(usize, String)>,
}

/// The routes of a signal to several processes.
#[derive(Clone, Debug)]
pub struct SignalReach {
    /// One for each of the processes, in their order.
    pub routes: Vec<SignalRoute>,
    /// Whether the init exits; none without an init.
    pub init_exits: Option<Answer>,
}

/// Follows a signal to some processes. The stop schedule of the input plays no part.
pub fn follow(input: ForecastInput<'_>, targets: &[usize], signal: Signal) -> SignalReach {
    let mut simulation = Simulation::new(input);
    for target in targets {
        let sent = Forward::certain(Targets::Processes(vec![*target]), signal);
        simulation.forward(&sent, Duration::ZERO, None);
    }
    let routes = targets.iter().map(|target| simulation.route(*target, signal)).collect();
    let init = input.init_index();
    let forecast = outcome::outcome(&simulation.settle());
    let is_init = |process: usize| Some(process) == init;
    let init_exits = forecast.processes.iter().find(|f| is_init(f.process)).map(|f| f.exits);
    SignalReach { routes, init_exits }
}

impl Simulation<'_> {
    fn route(&self, target: usize, signal: Signal) -> SignalRoute {
        let mut route = SignalRoute::default();
        let mut seen = vec![(target, signal)];
        let mut next = 0;
        while let Some((process, signal)) = seen.get(next).copied() {
            next += 1;
            let forwarded = self.forwarded(process, signal);
            if !forwarded.is_empty() {
                route.is_forwarded |= process == target;
                for step in forwarded {
                    if !seen.contains(&step) {
                        seen.push(step);
                    }
                }
                continue;
            }
            let arrivals = &self.deliveries[process];
            let Some(index) = arrivals.iter().position(|arrival| arrival.signal == signal) else {
                continue;
            };
            let verdict = arrivals[index].prediction.verdict;
            if verdict.is_received() && self.is_forwarder(process) {
                let why = self.reactions[process][index].why.clone();
                route.dropped.push((process, why));
            } else {
                route.ends.push(ReachedProcess { process, signal, verdict });
            }
        }
        route
    }

    /// Returns the processes to which a process forwards this signal, each with the signal that it gets.
    fn forwarded(&self, process: usize, signal: Signal) -> Vec<(usize, Signal)> {
        let arrivals = &self.deliveries[process];
        let Some(index) = arrivals.iter().position(|arrival| arrival.signal == signal) else {
            return Vec::new();
        };
        let each = self.reactions[process][index].all_forwards().flat_map(|forward| {
            let targets = self.targets(Some(process), &forward.targets).into_iter();
            targets.map(|target| (target, forward.signal))
        });
        each.filter(|(target, _)| self.input.is_running(*target)).collect()
    }

    /// Whether a process does nothing with a signal but forward it.
    fn is_forwarder(&self, process: usize) -> bool {
        let program = program_of(&self.input.processes[process].facts);
        program.is_some_and(|program| [TINI, DUMB_INIT].contains(&program.name))
    }
}
