//! Inits that forward signals to the program they start: tini, docker-init, catatonit, podman-init and
//! dumb-init, with the options and variables that they run with. Sources: tini's src/tini.c, catatonit's
//! catatonit.c, dumb-init's dumb-init.c; each is measured in tests/it/forecast.rs.

use super::ForecastInput;
use super::reaction::{Exits, Forward, Reaction, Targets};
use crate::analysis::delivery::Prediction;
use crate::analysis::options::OptionTable;
use crate::analysis::programs::{
    DUMB_INIT, DUMB_INIT_OPTIONS, TINI, TINI_OPTIONS, program_of, rewrite,
};
use crate::model::lookup::{Lookup, variable};
use crate::model::process::Process;
use crate::model::signal::Signal;
use crate::model::verdict::Verdict;

/// The options that decide which processes get the signal, and which signal.
#[derive(Debug, PartialEq, Eq)]
struct ForwardOptions {
    /// Whether the whole process group of the child gets it; the missing fact, if that is not known.
    group: Result<bool, String>,
    /// Signals that are replaced by others; none as the second: that is dropped.
    rewrites: Vec<(Signal, Option<Signal>)>,
}

/// An init of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forwarder {
    Tini,
    Catatonit,
    DumbInit,
}

impl Forwarder {
    fn of(process: &Process) -> Option<Self> {
        match program_of(process)?.name {
            // Podman's init is catatonit, and Docker's is tini; either may be mounted there. Only
            // catatonit reads its signals from a signalfd.
            TINI if process.waits.known().is_some_and(|waits| !waits.signalfds.is_empty()) => {
                Some(Self::Catatonit)
            }
            TINI => Some(Self::Tini),
            DUMB_INIT => Some(Self::DumbInit),
            _ => None,
        }
    }
}

/// The signals that tini leaves to the kernel (`configure_signals`), and those that sigfillset(3) leaves to the C
/// library.
const LEFT_BY_TINI: [Signal; 11] = [
    Signal::FPE,
    Signal::ILL,
    Signal::SEGV,
    Signal::BUS,
    Signal::ABRT,
    Signal::TRAP,
    Signal::SYS,
    Signal::TTIN,
    Signal::TTOU,
    Signal::RT32,
    Signal::RT33,
];

/// Corrects the effect of a signal on a tini that was seen between two of its waits: it waits for one second
/// at a time, and while it waits for the CPU then, it shows neither a blocked signal nor a wait. (The kernel
/// goes by `real_blocked`, kernel/signal.c `sig_ignored`, and keeps the signal.)
pub fn between_waits(process: &Process, signal: Signal, prediction: Prediction) -> Prediction {
    let is_transient = matches!(
        prediction.verdict,
        Verdict::Discarded
            | Verdict::Ignored
            | Verdict::Terminates
            | Verdict::Dumps
            | Verdict::Pending
    );
    // While it waits, its set says which signals it takes.
    let waits = process.waits.known();
    let is_waiting =
        || waits.is_some_and(|waits| waits.threads.iter().any(|t| !t.awaited.is_empty()));
    let takes_it = || !LEFT_BY_TINI.contains(&signal) && signal != Signal::KILL && !is_waiting();
    match is_transient && Forwarder::of(process) == Some(Forwarder::Tini) && takes_it() {
        true => Prediction { verdict: Verdict::Accepted, note: None, ..prediction },
        false => prediction,
    }
}

/// Returns the reaction of an init that forwards a signal; none if the process is not such an init.
pub(super) fn forwarder(
    input: &ForecastInput<'_>,
    process: usize,
    signal: Signal,
) -> Option<Reaction> {
    let init = Forwarder::of(&input.processes[process].facts)?;
    let arguments = input.arguments(process);
    if init == Forwarder::Catatonit && is_pause(&arguments) {
        return Some(pause(signal));
    }
    // Orphans that it has adopted were started later than the program that it was started for.
    let Some(child) = input.children(process).first().copied() else {
        return Some(Reaction::new(Exits::Maybe, "has no child to forward it to"));
    };
    let options = match init {
        Forwarder::Tini => tini_options(input, process, &arguments, &input.arguments(child)),
        Forwarder::Catatonit => catatonit_options(&arguments, &input.arguments(child)),
        Forwarder::DumbInit => dumb_init_options(input, process, &arguments),
    };
    let forwarded = match options.rewrites.iter().find(|(from, _)| *from == signal) {
        Some((_, None)) => {
            return Some(Reaction::new(Exits::No, format!("drops {signal} (option --rewrite)")));
        }
        Some((_, Some(other))) => *other,
        None => signal,
    };
    let mut reaction = forwards(input, child, signal, forwarded, &options.group);
    // When its child has exited, TERM follows to the rest of the process group.
    if init == Forwarder::DumbInit && options.group == Ok(true) {
        let rewritten = options.rewrites.iter().find(|(from, _)| *from == Signal::TERM);
        let farewell = rewritten.map_or(Some(Signal::TERM), |(_, other)| *other);
        let group = Targets::Group(input.processes[child].facts.stat.pgrp);
        reaction.farewell = farewell.map(|farewell| Forward::certain(group, farewell));
    }
    Some(reaction)
}

/// Returns the reaction that forwards a signal to a child or to its process group.
fn forwards(
    input: &ForecastInput<'_>,
    child: usize,
    signal: Signal,
    forwarded: Signal,
    group: &Result<bool, String>,
) -> Reaction {
    let name = input.name(child);
    let pgrp = input.processes[child].facts.stat.pgrp;
    let is_alone = input.group(pgrp).all(|member| member == child);
    let certain = |targets| Forward::certain(targets, forwarded);
    let to_child = certain(Targets::Processes(vec![child]));
    let (forwards, whom) = match group {
        Ok(true) => (vec![certain(Targets::Group(pgrp))], format!("the process group of {name}")),
        Err(missing) if !is_alone => {
            let group = Forward { is_certain: false, ..certain(Targets::Group(pgrp)) };
            let whom = format!("{name}, perhaps to its whole process group ({missing})");
            (vec![to_child, group], whom)
        }
        _ => (vec![to_child], name.clone()),
    };
    let as_other = if forwarded == signal { String::new() } else { format!(" as {forwarded}") };
    let why = format!("forwards {signal}{as_other} to {whom} and exits when {name} has exited");
    Reaction { forwards, ..Reaction::new(Exits::After(vec![child]), why) }
}

/// Whether catatonit runs without a program (`-P`).
fn is_pause(arguments: &[&[u8]]) -> bool {
    CATATONIT.parse(arguments).is_some_and(|parsed| parsed.has('P'))
}

/// Returns the reaction of catatonit without a program.
fn pause(signal: Signal) -> Reaction {
    match [Signal::TERM, Signal::INT].contains(&signal) {
        true => Reaction::new(Exits::Yes, format!("pauses (-P) until {signal}, and exits")),
        false => Reaction::new(Exits::No, format!("ignores {signal} (-P)")),
    }
}

const CATATONIT: OptionTable =
    OptionTable { short: "ghLPV", long: &[("version", 'V')], permutes: true };

/// Parses options with glibc's getopt(3), which takes options from the program's arguments, too, and with
/// musl's, which does not. The program's own command line shows which of them it was.
fn has_group_option(
    table: &OptionTable,
    arguments: &[&[u8]],
    child: &[&[u8]],
) -> Result<bool, String> {
    let plain = OptionTable { permutes: false, ..*table };
    let parse = |table: &OptionTable| {
        let parsed = table.parse(arguments)?;
        Some((parsed.has('g'), parsed.words))
    };
    match (parse(table), parse(&plain)) {
        (None, None) => Err("its options are not known".into()),
        (Some((group, _)), None) | (None, Some((group, _))) => Ok(group),
        (Some((group, _)), Some((same, _))) if group == same => Ok(group),
        (Some((group, permuted)), Some((other, words))) => {
            // (An interpreter comes before the words of a script.)
            match (child.ends_with(&permuted[1..]), child.ends_with(&words[1..])) {
                (_, true) => Ok(other),
                (true, false) => Ok(group),
                (false, false) => Err("its option -g may be its program's".into()),
            }
        }
    }
}

fn catatonit_options(arguments: &[&[u8]], child: &[&[u8]]) -> ForwardOptions {
    ForwardOptions { group: has_group_option(&CATATONIT, arguments, child), rewrites: Vec::new() }
}

/// Parses the options of tini: -g, or the variable with any value, makes it signal the whole process group.
fn tini_options(
    input: &ForecastInput<'_>,
    process: usize,
    arguments: &[&[u8]],
    child: &[&[u8]],
) -> ForwardOptions {
    let option = has_group_option(&TINI_OPTIONS, arguments, child);
    let group = match option {
        Ok(true) => Ok(true),
        option => match of_environment(input, process, "TINI_KILL_PROCESS_GROUP") {
            Ok(Some(_)) => Ok(true),
            Ok(None) => option,
            Err(missing) => Err(missing),
        },
    };
    ForwardOptions { group, rewrites: Vec::new() }
}

/// Parses the options of dumb-init: by default the child leads a session and process group of its
/// own, which gets the signals. With `-c` or the variable only the child gets them.
fn dumb_init_options(
    input: &ForecastInput<'_>,
    process: usize,
    arguments: &[&[u8]],
) -> ForwardOptions {
    let Some(parsed) = DUMB_INIT_OPTIONS.parse(arguments) else {
        let missing = "its options are not known".to_owned();
        return ForwardOptions { group: Err(missing), rewrites: Vec::new() };
    };
    // The last rewrite of a signal counts.
    let values = parsed.options.iter().rev().filter(|(letter, _)| *letter == 'r');
    let rewrites = values.filter_map(|(_, value)| rewrite((*value)?)).collect();
    let group = match parsed.has('c') {
        true => Ok(false),
        false => of_environment(input, process, "DUMB_INIT_SETSID")
            .map(|value| value.as_deref() != Some(b"0")),
    };
    ForwardOptions { group, rewrites }
}

/// Returns the value of a variable, or why it is not known.
fn of_environment(
    input: &ForecastInput<'_>,
    process: usize,
    name: &str,
) -> Result<Option<Vec<u8>>, String> {
    match input.look_up(process, Lookup::Environment) {
        Ok(found) => Ok(variable(&found.bytes, name.as_bytes()).map(<[u8]>::to_vec)),
        Err(why) => Err(format!("{name} in its environment {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<&[u8]> {
        line.split(' ').map(str::as_bytes).collect()
    }

    #[test]
    fn finds_the_group_option_of_tini() {
        for (line, child, group) in [
            ("tini -- perl", "perl", Ok(false)),
            ("tini -g -- perl", "perl", Ok(true)),
            ("tini -sgv -- perl", "perl", Ok(true)),
            ("tini -p SIGTERM -g perl", "perl", Ok(true)),
            ("/sbin/docker-init -- sh -g", "sh -g", Ok(false)),
            // musl's getopt leaves it to the program, glibc's does not.
            ("tini -e 143 perl -g", "perl -g", Ok(false)),
            ("tini -e 143 run -g", "sh /bin/run -g", Ok(false)),
            ("tini -e 143 perl -g 1", "perl 1", Ok(true)),
            ("tini -e 143 perl -g 1", "title", Err(())),
        ] {
            let found =
                has_group_option(&TINI_OPTIONS, &words(line), &words(child)).map_err(|_| ());
            assert_eq!(found, group, "{line}");
        }
    }
}
