//! Programs that run a command and forward signals to it: npm, yarn, timeout, sudo, su, runuser, make. Each is
//! measured in tests/it/forecast.rs.

use std::time::Duration;

use super::ForecastInput;
use super::reaction::{Exits, Forward, Reaction, ServiceKill, ServiceStop, StopStage, Targets};
use crate::analysis::options::OptionTable;
use crate::analysis::programs::{MAKE, NPM, RUNNER, YARN, program_of};
use crate::model::signal::Signal;

/// The longest time that they take for a step themselves.
const DELAY: Duration = Duration::from_millis(200);
/// su waits this long after TERM, then sends KILL and exits (util-linux, login-utils/su-common.c).
const SU_WAITS: Duration = Duration::from_secs(2);

/// Returns the reaction of a program that forwards a signal to its command; none if the process does not
/// run such a program, or that does something else with this signal.
pub(super) fn runner(
    input: &ForecastInput<'_>,
    process: usize,
    signal: Signal,
) -> Option<Reaction> {
    let facts = &input.processes[process].facts;
    let is_stop = [Signal::TERM, Signal::INT, Signal::QUIT].contains(&signal);
    let program = program_of(facts)?.name;
    let name = facts.stat.comm.as_slice();
    let forwarded = match program {
        NPM if is_stop => signal,
        YARN if signal == Signal::TERM => signal,
        MAKE if is_stop || signal == Signal::HUP => signal,
        RUNNER if [&b"su"[..], b"runuser"].contains(&name) => Signal::TERM,
        RUNNER if name == b"timeout" && signal != Signal::ALRM => signal,
        RUNNER if is_stop || signal == Signal::HUP => signal,
        _ => return None,
    };
    let children = input.children(process);
    let Some(child) = children.first().copied() else {
        let why = format!("has nothing to stop; {signal} ends it");
        return Some(Reaction::new(Exits::Yes, why));
    };
    Some(match (program, name) {
        (MAKE, _) => make(input, process, signal, children),
        (RUNNER, b"timeout") => timeout(input, process, child, signal),
        (RUNNER, b"su" | b"runuser") => su(input, child),
        _ => {
            let names: Vec<String> = children.iter().map(|child| input.name(*child)).collect();
            let why = format!("sends {forwarded} to {} and waits for it", names.join(", "));
            let forwards = vec![Forward::certain(Targets::Processes(children.clone()), forwarded)];
            Reaction { forwards, ..Reaction::new(Exits::After(children), why) }
        }
    })
}

/// Returns the reaction of timeout(1): unless it runs in the foreground it leads the process group of its
/// command, and signals all of it. With `-k` SIGKILL follows, for itself as well.
fn timeout(input: &ForecastInput<'_>, process: usize, child: usize, signal: Signal) -> Reaction {
    let table = OptionTable {
        short: "fk:ps:v",
        long: &[
            ("foreground", 'f'),
            ("kill-after", 'k'),
            ("preserve-status", 'p'),
            ("signal", 's'),
            ("verbose", 'v'),
        ],
        permutes: false,
    };
    let name = input.name(child);
    let parsed = table.parse(&input.arguments(process)).filter(|parsed| parsed.words.len() > 1);
    let Some(parsed) = parsed else {
        let why = format!("sends {signal} to {name} and waits for it; its options are not known");
        let forward = Forward::certain(Targets::Processes(vec![child]), signal).resuming();
        let forwards = vec![forward];
        return Reaction { forwards, ..Reaction::new(Exits::MaybeAfter(vec![child]), why) };
    };
    let targets = match parsed.has('f') {
        true => Targets::Processes(vec![child]),
        false => Targets::Group(input.processes[process].facts.stat.pgrp),
    };
    let value = parsed.options.iter().find(|(letter, _)| *letter == 'k').and_then(|(_, v)| *v);
    let after = value.map(|value| super::shells::duration(value).unwrap_or(Duration::MAX));
    let service = ServiceStop {
        process: child,
        forward: Forward { resumes: !parsed.has('f'), ..Forward::certain(targets.clone(), signal) },
        kill: after.filter(|after| !after.is_zero()).map(|after| ServiceKill {
            after,
            targets,
            kills_itself: !parsed.has('f'),
        }),
    };
    let stage = StopStage { services: vec![service], least: Duration::ZERO, delay: DELAY };
    let why = format!("sends {signal} to {name} and waits for it");
    Reaction { stages: vec![stage], ..Reaction::new(Exits::AfterStages, why) }
}

fn su(input: &ForecastInput<'_>, child: usize) -> Reaction {
    let targets = Targets::Processes(vec![child]);
    let service = ServiceStop {
        process: child,
        forward: Forward::certain(targets.clone(), Signal::TERM),
        kill: Some(ServiceKill { after: SU_WAITS, targets, kills_itself: false }),
    };
    let stage = StopStage { services: vec![service], least: SU_WAITS, delay: DELAY };
    let why = format!("sends TERM to {}, and exits after 2 s", input.name(child));
    Reaction { stages: vec![stage], ..Reaction::new(Exits::AfterStages, why) }
}

/// Returns the reaction of GNU make: it sends TERM on, expects that the terminal sends the others to its
/// commands as well, and waits for them.
fn make(
    input: &ForecastInput<'_>,
    process: usize,
    signal: Signal,
    children: Vec<usize>,
) -> Reaction {
    let names: Vec<String> = children.iter().map(|child| input.name(*child)).collect();
    let names = names.join(", ");
    let (forwards, why) = match signal {
        Signal::TERM => (
            vec![Forward::certain(Targets::Processes(children.clone()), signal)],
            format!("sends TERM to {names} and waits for it"),
        ),
        _ => (Vec::new(), format!("waits for {names}, to which it does not forward {signal}")),
    };
    // Measured: as PID 1 it may wait for a process that it has adopted, too.
    let is_init = input.processes[process].facts.status.is_namespace_init();
    let has_more = children.iter().any(|child| !input.children(*child).is_empty());
    let exits = match is_init && has_more {
        true => Exits::MaybeAfter(children),
        false => Exits::After(children),
    };
    Reaction { forwards, ..Reaction::new(exits, why) }
}
