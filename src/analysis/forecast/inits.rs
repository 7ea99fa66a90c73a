//! Inits that forward signals to the program they start: tini, docker-init, catatonit, podman-init and
//! dumb-init, with the options that they run with. Sources: tini's src/tini.c, catatonit's catatonit.c,
//! dumb-init's dumb-init.c; each is measured in tests/it/forecast.rs.

use super::ForecastInput;
use super::reaction::{Exits, Forward, Reaction, Targets};
use crate::analysis::programs::{DUMB_INIT, TINI, program_of};
use crate::model::signal::Signal;

/// The options that decide which processes get the signal, and which signal.
#[derive(Debug, PartialEq, Eq)]
struct ForwardOptions {
    /// Whether the whole process group of the child gets it.
    group: bool,
    /// Signals that are replaced by others; none as the second: that is dropped.
    rewrites: Vec<(Signal, Option<Signal>)>,
}

/// Returns the reaction of an init that forwards a signal; none if the process is not such an init.
pub(super) fn forwarder(
    input: &ForecastInput<'_>,
    process: usize,
    signal: Signal,
) -> Option<Reaction> {
    let facts = &input.processes[process].facts;
    let program = program_of(facts)?.name;
    let arguments: Vec<&[u8]> =
        facts.command.known().map(|command| command.argv().collect()).unwrap_or_default();
    let options = match program {
        TINI => tini_options(&arguments),
        DUMB_INIT => dumb_init_options(&arguments),
        _ => return None,
    };
    // Orphans that it has adopted were started later than the program that it was started for.
    let Some(child) = input.children(process).first().copied() else {
        return Some(Reaction::new(Exits::Maybe, "has no child to forward it to"));
    };
    let forwarded = match options.rewrites.iter().find(|(from, _)| *from == signal) {
        Some((_, None)) => {
            return Some(Reaction::new(Exits::No, format!("drops {signal} (option --rewrite)")));
        }
        Some((_, Some(other))) => *other,
        None => signal,
    };
    let (targets, whom) = match options.group {
        true => {
            let group = input.processes[child].facts.stat.pgrp;
            (Targets::Group(group), format!("the process group of {}", input.name(child)))
        }
        false => (Targets::Processes(vec![child]), input.name(child)),
    };
    let as_other = if forwarded == signal { String::new() } else { format!(" as {forwarded}") };
    let mut reaction = Reaction::new(
        Exits::After(vec![child]),
        format!(
            "forwards {signal}{as_other} to {whom} and exits when {} has exited",
            input.name(child)
        ),
    );
    reaction.forwards = vec![Forward { targets, signal: forwarded }];
    Some(reaction)
}

/// Parses the options before the command: short ones may be joined (`-sgv`), and `-p` and `-e` take a value.
fn tini_options(arguments: &[&[u8]]) -> ForwardOptions {
    let mut group = false;
    let mut words = arguments.iter().skip(1);
    while let Some(word) = words.next() {
        let Some(letters) = word.strip_prefix(b"-").filter(|rest| !rest.is_empty()) else { break };
        if letters == b"-" {
            break;
        }
        for (index, letter) in letters.iter().enumerate() {
            match letter {
                b'g' => group = true,
                b'p' | b'e' => {
                    if index + 1 == letters.len() {
                        words.next();
                    }
                    break;
                }
                _ => {}
            }
        }
    }
    ForwardOptions { group, rewrites: Vec::new() }
}

/// Parses the options before the command. By default the child leads a session and process group of its
/// own, which gets the signals; with `-c` only the child gets them.
fn dumb_init_options(arguments: &[&[u8]]) -> ForwardOptions {
    let mut options = ForwardOptions { group: true, rewrites: Vec::new() };
    let mut words = arguments.iter().skip(1);
    while let Some(word) = words.next() {
        match *word {
            b"-c" | b"--single-child" => options.group = false,
            b"-v" | b"--verbose" => {}
            b"-r" | b"--rewrite" => options.rewrites.extend(words.next().and_then(|w| rewrite(w))),
            b"--" => break,
            word => match word.strip_prefix(b"--rewrite=").or(word.strip_prefix(b"-r")) {
                Some(text) => options.rewrites.extend(rewrite(text)),
                None => break,
            },
        }
    }
    options
}

/// Parses `FROM:TO`, two signal numbers; 0 for TO drops the signal.
fn rewrite(text: &[u8]) -> Option<(Signal, Option<Signal>)> {
    let (from, to) = std::str::from_utf8(text).ok()?.split_once(':')?;
    let from = Signal::parse(from).ok()?;
    match to {
        "0" => Some((from, None)),
        to => Some((from, Some(Signal::parse(to).ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<&[u8]> {
        line.split(' ').map(str::as_bytes).collect()
    }

    #[test]
    fn parses_the_options_of_tini() {
        for (line, group) in [
            ("tini -- perl", false),
            ("tini -g -- perl", true),
            ("tini -sgv -- perl", true),
            ("tini -p SIGTERM -g perl", true),
            ("tini -e 143 perl -g", false),
            ("/sbin/docker-init -- sh -g", false),
        ] {
            assert_eq!(tini_options(&words(line)).group, group, "{line}");
        }
    }

    #[test]
    fn parses_the_options_of_dumb_init() {
        let term_to_quit = vec![(Signal::TERM, Some(Signal::QUIT))];
        for (line, group, rewrites) in [
            ("dumb-init perl", true, vec![]),
            ("dumb-init -c -- perl", false, vec![]),
            ("dumb-init --rewrite 15:3 perl", true, term_to_quit.clone()),
            ("dumb-init --rewrite=15:3 -v perl -c", true, term_to_quit),
            ("dumb-init -r 15:0 perl", true, vec![(Signal::TERM, None)]),
        ] {
            let expected = ForwardOptions { group, rewrites };
            assert_eq!(dumb_init_options(&words(line)), expected, "{line}");
        }
    }
}
