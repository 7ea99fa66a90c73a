//! supervisord: stops its programs group by group, each with its own signal, sends SIGKILL when the time of
//! a program is over, and exits when all of them have. Source: supervisor/supervisord.py and process.py,
//! version 4.2; measured in tests/it/forecast.rs.

mod config;
mod ini;

use std::time::Duration;

use super::ForecastInput;
use super::reaction::{Exits, Forward, Reaction, ServiceKill, ServiceStop, StopStage, Targets};
use crate::analysis::programs::{SUPERVISORD, program_of};
use crate::model::lookup::{Lookup, variable};
use crate::model::signal::Signal;
use config::{ProgramGroup, ServiceProgram};

/// Its loop checks its programs once a second, and sooner when one of them closes its output.
const ROUND: Duration = Duration::from_secs(1);

/// Reads a file of settings, and asks for each section's options.
pub(super) fn fuzz(text: &str) {
    let mut file = ini::IniFile::default();
    let _ = file.read(text);
    file.replace("%(here)s", "/etc");
    for section in file.sections() {
        let _ = file.get(section, "command");
    }
}

/// Returns the reaction of supervisord to a signal that stops it; none if the process is another program.
pub(super) fn supervisord(
    input: &ForecastInput<'_>,
    process: usize,
    signal: Signal,
) -> Option<Reaction> {
    let is_stop = [Signal::TERM, Signal::INT, Signal::QUIT].contains(&signal);
    let program = program_of(&input.processes[process].facts)?;
    if program.name != SUPERVISORD || !is_stop {
        return None;
    }
    Some(plan(input, process).unwrap_or_else(|missing| {
        let why = format!("stops its programs, each with its own stop signal; {missing}");
        Reaction { may_stop_descendants: true, ..Reaction::new(Exits::Maybe, why) }
    }))
}

fn plan(input: &ForecastInput<'_>, process: usize) -> Result<Reaction, String> {
    let groups = config::read(input, process)?;
    let services = services(input, process, &groups)?;
    // It checks for the signal in its next iteration.
    let mut stages = vec![StopStage { services: Vec::new(), least: Duration::ZERO, delay: ROUND }];
    let mut order = Vec::new();
    for group in &groups {
        let members = services.iter().filter(|(_, found, _)| found.name == group.name);
        let services: Vec<ServiceStop> =
            members.map(|(child, _, program)| service(input, *child, program)).collect();
        if !services.is_empty() {
            order.push(group.name.as_str());
            stages.push(StopStage { services, least: Duration::ZERO, delay: ROUND });
        }
    }
    if order.is_empty() {
        return Ok(Reaction::new(Exits::Yes, "has no program that runs, and exits"));
    }
    let why = match order.as_slice() {
        [one] => format!("stops its program {one}, then exits"),
        _ => format!("stops its programs one after the other ({}), then exits", order.join(", ")),
    };
    Ok(Reaction { stages, ..Reaction::new(Exits::AfterStages, why) })
}

fn service(input: &ForecastInput<'_>, child: usize, program: &ServiceProgram) -> ServiceStop {
    let targets = |is_group: bool| match is_group {
        true => Targets::Group(input.processes[child].facts.stat.pgrp),
        false => Targets::Processes(vec![child]),
    };
    let after = if program.signal == Signal::KILL { Duration::ZERO } else { program.wait };
    ServiceStop {
        process: child,
        forward: Forward::certain(targets(program.stop_group), program.signal),
        kill: Some(ServiceKill {
            after,
            targets: targets(program.kill_group),
            kills_itself: false,
        }),
    }
}

type Service<'a> = (usize, &'a ProgramGroup, &'a ServiceProgram);

/// Returns the children that are processes of its programs, each with its program.
///
/// # Errors
/// A child whose program is not known.
fn services<'a>(
    input: &ForecastInput<'_>,
    process: usize,
    groups: &'a [ProgramGroup],
) -> Result<Vec<Service<'a>>, String> {
    let session = input.processes[process].facts.stat.session;
    // It makes each of them the leader of a process group, not of a session (`_spawn_as_child`). Daemons
    // that it has adopted lead one.
    let is_program = |child: &usize| {
        let stat = &input.processes[*child].facts.stat;
        stat.pgrp == stat.pid && stat.session == session
    };
    let children: Vec<usize> = input.children(process).into_iter().filter(is_program).collect();
    let mut services: Vec<Service<'_>> = Vec::new();
    let mut rest = Vec::new();
    for child in children {
        match by_environment(input, child, groups) {
            Some((group, program)) => services.push((child, group, program)),
            None => rest.push(child),
        }
    }
    // Some programs write their title over their environment.
    let has_free_process = |services: &[Service<'_>], program: &ServiceProgram| {
        let used = services.iter().filter(|(_, _, known)| std::ptr::eq(*known, program)).count();
        used < program.processes.len()
    };
    let all = || groups.iter().flat_map(|group| group.programs.iter().map(move |p| (group, p)));
    while let Some(child) = rest.pop() {
        let free: Vec<_> =
            all().filter(|(_, program)| has_free_process(&services, program)).collect();
        let named: Vec<_> =
            free.iter().filter(|(_, program)| runs(input, child, &program.command)).collect();
        let found = match (named.as_slice(), free.as_slice()) {
            ([one], _) => **one,
            ([], [one]) if rest.is_empty() => *one,
            _ => return Err(format!("cannot tell which of them {} is", input.name(child))),
        };
        services.push((child, found.0, found.1));
    }
    Ok(services)
}

/// Returns the program that a child belongs to by the variables that supervisord gives it.
fn by_environment<'a>(
    input: &ForecastInput<'_>,
    child: usize,
    groups: &'a [ProgramGroup],
) -> Option<(&'a ProgramGroup, &'a ServiceProgram)> {
    let environment = input.look_up(child, Lookup::Environment).ok()?;
    let text = |name: &str| -> Option<String> {
        let value = variable(&environment.bytes, name.as_bytes())?;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    let (group, process) = (text("SUPERVISOR_GROUP_NAME")?, text("SUPERVISOR_PROCESS_NAME")?);
    let group = groups.iter().find(|known| known.name == group)?;
    let mut programs = group.programs.iter();
    let program = programs.find(|program| program.processes.contains(&process))?;
    Some((group, program))
}

/// Whether a process runs a command, by the name of its program or script.
fn runs(input: &ForecastInput<'_>, process: usize, command: &str) -> bool {
    let name = |path: &[u8]| path.rsplit(|b| *b == b'/').next().unwrap_or_default().to_vec();
    let Some(first) = command.split_whitespace().next().map(|word| name(word.as_bytes())) else {
        return false;
    };
    let facts = &input.processes[process].facts;
    let exe = facts.exe.known().map(|path| name(path));
    let mut words = input.arguments(process).into_iter().take(2).map(name);
    exe.as_ref() == Some(&first) || words.any(|word| word == first)
}
