//! The supervisors of s6 and runit: one process for all services, and one for each. Each runs in the directory
//! of its service, where files configure how it is stopped. Sources: s6-svscan.c and s6-supervise.c of s6,
//! runsv.c of runit; measured in tests/it/forecast.rs.

use std::time::Duration;

use super::ForecastInput;
use super::reaction::{Exits, Forward, Reaction, ServiceKill, ServiceStop, StopStage, Targets};
use crate::analysis::programs::{RUNIT, RUNSV, S6_SUPERVISE, S6_SVSCAN, program_of};
use crate::model::lookup::{Lookup, LookupError};
use crate::model::signal::Signal;

/// The longest time that these supervisors take for a step themselves.
const DELAY: Duration = Duration::from_millis(200);
/// Loggers that exit at the end of their input.
const LOGGERS: [&[u8]; 4] = [b"s6-log", b"svlogd", b"multilog", b"tinylog"];

/// Returns the reaction of a supervisor of services; none if the process does not run one, or that does
/// something else with this signal.
pub(super) fn supervisor(
    input: &ForecastInput<'_>,
    process: usize,
    signal: Signal,
) -> Option<Reaction> {
    let reaction = match program_of(&input.processes[process].facts)?.name {
        S6_SVSCAN => svscan(input, process, signal)?,
        S6_SUPERVISE => supervise(input, process, signal)?,
        RUNSV if signal == Signal::TERM => runsv(input, process),
        RUNIT if signal == Signal::CONT => runit(input, process)?,
        _ => return None,
    };
    Some(reaction.unwrap_or_else(|missing| Reaction {
        may_stop_descendants: true,
        ..Reaction::new(Exits::Maybe, missing)
    }))
}

/// Whether a file in the directory of a supervisor can be executed.
fn is_executable(input: &ForecastInput<'_>, process: usize, path: &str) -> Result<bool, String> {
    match input.look_up(process, Lookup::File(path.into())) {
        Ok(content) => Ok(content.is_executable),
        Err(LookupError::Absent) => Ok(false),
        Err(why) => Err(format!("its file `{path}` {why}")),
    }
}

/// Returns the first line of a file in the directory of a supervisor, if there is one.
fn first_line(
    input: &ForecastInput<'_>,
    process: usize,
    path: &str,
) -> Result<Option<String>, String> {
    match input.look_up(process, Lookup::File(path.into())) {
        Ok(content) => {
            let line = content.bytes.split(|b| *b == b'\n').next().unwrap_or_default();
            Ok(Some(String::from_utf8_lossy(line).trim().to_owned()))
        }
        Err(LookupError::Absent) => Ok(None),
        Err(why) => Err(format!("its file `{path}` {why}")),
    }
}

/// Returns the reaction of s6-svscan: TERM to the supervisors of services and HUP to those of loggers, or
/// TERM to all. A program of this name in its directory runs instead.
fn svscan(
    input: &ForecastInput<'_>,
    process: usize,
    signal: Signal,
) -> Option<Result<Reaction, String>> {
    if ![Signal::TERM, Signal::INT, Signal::QUIT].contains(&signal) {
        return None;
    }
    let plan = || -> Result<Reaction, String> {
        let program = format!(".s6-svscan/SIG{signal}");
        if is_executable(input, process, &program)? {
            return Err(format!("runs `{program}`, which stops its services in its own way"));
        }
        let children = input.children(process);
        let services: Vec<ServiceStop> = children
            .iter()
            .map(|child| {
                let is_logger = signal != Signal::QUIT && logger_of(input, *child).is_some();
                let signal = if is_logger { Signal::HUP } else { Signal::TERM };
                let forward = Forward::certain(Targets::Processes(vec![*child]), signal);
                ServiceStop { process: *child, forward, kill: None }
            })
            .collect();
        let exits = match is_executable(input, process, ".s6-svscan/finish")? {
            true => Exits::MaybeAfter(children.clone()),
            false => Exits::After(children.clone()),
        };
        let forwards = services.into_iter().map(|service| service.forward).collect();
        let why = match (&exits, children.is_empty()) {
            (Exits::MaybeAfter(_), _) => {
                "stops its services and executes `.s6-svscan/finish` when they have exited".into()
            }
            (_, true) => format!("has no service; {signal} ends it"),
            _ => format!(
                "sends TERM to {}, and exits when they have exited",
                names(input, &children)
            ),
        };
        Ok(Reaction { forwards, ..Reaction::new(exits, why) })
    };
    Some(plan())
}

fn names(input: &ForecastInput<'_>, processes: &[usize]) -> String {
    processes.iter().map(|process| input.name(*process)).collect::<Vec<_>>().join(", ")
}

/// Returns the name of the service whose output a supervisor of s6 has logged.
fn logger_of<'a>(input: &'a ForecastInput<'_>, process: usize) -> Option<&'a [u8]> {
    input.arguments(process).get(1)?.strip_suffix(b"/log")
}

/// Returns the reaction of s6-supervise.
fn supervise(
    input: &ForecastInput<'_>,
    process: usize,
    signal: Signal,
) -> Option<Result<Reaction, String>> {
    let children = input.children(process);
    let end = |why: &str| Some(Ok(Reaction::new(Exits::Yes, why)));
    match (signal, children.first()) {
        (Signal::TERM | Signal::HUP, None) => end("has nothing to stop, and exits"),
        (Signal::QUIT, _) => end("exits at once; its service continues"),
        (Signal::INT, Some(child)) => {
            let group = Targets::Group(input.processes[*child].facts.stat.pgrp);
            let why = "sends INT to the process group of its service, and exits at once";
            let forwards = vec![Forward::certain(group, signal)];
            Some(Ok(Reaction { forwards, ..Reaction::new(Exits::Yes, why) }))
        }
        (Signal::TERM, Some(child)) => Some(stop_service(input, process, *child)),
        (Signal::HUP, Some(child)) => Some(Ok(await_service(input, process, *child))),
        _ => None,
    }
}

fn stop_service(
    input: &ForecastInput<'_>,
    process: usize,
    child: usize,
) -> Result<Reaction, String> {
    let milliseconds = |path: &str, default: u64| -> Result<u64, String> {
        let line = first_line(input, process, path)?;
        Ok(line.and_then(|line| line.parse().ok()).unwrap_or(default))
    };
    let signal = first_line(input, process, "down-signal")?;
    let signal = signal.and_then(|name| Signal::parse(&name).ok()).unwrap_or(Signal::TERM);
    let after = match (signal, milliseconds("timeout-kill", 0)?) {
        (Signal::KILL, _) => Some(Duration::ZERO),
        (_, 0) => None,
        (_, after) => Some(Duration::from_millis(after)),
    };
    let pgrp = input.processes[child].facts.stat.pgrp;
    let kills_group = first_line(input, process, "flag-timeout-killpg")?.is_some();
    let targets = if kills_group { Targets::Group(pgrp) } else { Targets::Processes(vec![child]) };
    let service = ServiceStop {
        process: child,
        forward: Forward::certain(Targets::Processes(vec![child]), signal).resuming(),
        kill: after.map(|after| ServiceKill { after, targets, kills_itself: false }),
    };
    let mut stages =
        vec![StopStage { services: vec![service], least: Duration::ZERO, delay: DELAY }];
    let mut why = format!("sends {signal} to {} and exits when it has exited", input.name(child));
    if is_executable(input, process, "finish")? {
        let limit = match milliseconds("timeout-finish", 5000)? {
            0 => Duration::MAX,
            limit => Duration::from_millis(limit),
        };
        let delay = limit.saturating_add(DELAY);
        stages.push(StopStage { services: Vec::new(), least: Duration::ZERO, delay });
        why.push_str(", and its script finish is over");
    }
    Ok(Reaction { stages, ..Reaction::new(Exits::AfterStages, why) })
}

/// Returns the reaction of s6-supervise to HUP: it waits until its service exits by itself. A logger does so
/// when the service that it logs has closed its output.
fn await_service(input: &ForecastInput<'_>, process: usize, child: usize) -> Reaction {
    let why = format!("waits until {} exits by itself", input.name(child));
    let mut reaction = Reaction::new(Exits::After(vec![child]), why);
    let producer = logger_of(input, process).and_then(|service| {
        let siblings = input.children(input.processes[process].parent?);
        siblings.into_iter().find(|sibling| input.arguments(*sibling).get(1) == Some(&service))
    });
    match producer {
        Some(producer) if is_logger(input, child) => {
            reaction.follows = vec![(child, vec![producer])];
        }
        // Another program may, or may not, exit at the end of its input.
        _ => reaction.may_stop_descendants = logger_of(input, process).is_some(),
    }
    reaction
}

fn is_logger(input: &ForecastInput<'_>, process: usize) -> bool {
    LOGGERS.contains(&input.processes[process].facts.stat.comm.as_slice())
}

/// Returns the reaction of runsv to TERM. It has no time limit of its own, and its logger gets no signal.
fn runsv(input: &ForecastInput<'_>, process: usize) -> Result<Reaction, String> {
    let children = input.children(process);
    let has_log = first_line(input, process, "log/run")?.is_some();
    let (loggers, services): (Vec<usize>, Vec<usize>) =
        children.iter().partition(|child| has_log && is_logger(input, **child));
    let service = match services.as_slice() {
        [] if loggers.is_empty() => {
            return Ok(Reaction::new(Exits::Yes, "has nothing to stop, and exits"));
        }
        [] => {
            return Ok(Reaction {
                follows: vec![(loggers[0], Vec::new())],
                ..Reaction::new(Exits::After(loggers), "closes the input of its logger, and exits")
            });
        }
        [service] => *service,
        _ => {
            return Err("stops its service; cannot tell which of its children is the logger".into());
        }
    };
    for control in ["control/t", "control/x"] {
        if is_executable(input, process, control)? {
            return Err(format!("runs `{control}`, which decides how its service is stopped"));
        }
    }
    let exits = match is_executable(input, process, "finish")? {
        true => Exits::MaybeAfter(children.clone()),
        false => Exits::After(children.clone()),
    };
    let name = input.name(service);
    let why = match exits {
        Exits::MaybeAfter(_) => format!("sends TERM to {name}, runs its script finish, and exits"),
        _ => format!("sends TERM to {name} and waits for it"),
    };
    let forward = Forward::certain(Targets::Processes(vec![service]), Signal::TERM).resuming();
    let follows = loggers.into_iter().map(|logger| (logger, vec![service])).collect();
    Ok(Reaction { forwards: vec![forward], follows, ..Reaction::new(exits, why) })
}

/// Returns the reaction of runit to CONT: none if it may begin its stage 3.
fn runit(input: &ForecastInput<'_>, process: usize) -> Option<Result<Reaction, String>> {
    // (Debian's is in /run.)
    for path in ["/etc/runit/stopit", "/run/runit.stopit"] {
        match is_executable(input, process, path) {
            Ok(false) => {}
            Ok(true) => return None,
            Err(missing) => return Some(Err(missing)),
        }
    }
    let why = "continues: its file stopit is not executable";
    Some(Ok(Reaction::new(Exits::No, why)))
}
