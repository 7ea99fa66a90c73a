//! Shells: a trap runs when the foreground command has exited, or at once in `wait` and `read`. The two are
//! told apart by the children: a shell without job control starts what it does not wait for with INT and
//! QUIT ignored (POSIX, 2.11 Signals and Error Handling). Measured in tests/it/forecast.rs for dash, bash,
//! busybox ash, zsh and mksh.

use super::ForecastInput;
use super::reaction::{Exits, Reaction};
use crate::analysis::programs::{SHELL, program_of};
use crate::model::signal::{Signal, SignalSet};

/// The reaction of a script to a signal, as far as the text after `-c` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trap {
    /// No trap at all.
    None,
    /// A trap that ends with `exit`, and may signal processes before.
    Exits { signals_others: bool },
    /// Not known.
    Unknown,
}

/// Returns the reaction of a shell that handles a signal; none if the process is not a shell.
pub(super) fn shell(input: &ForecastInput<'_>, process: usize, signal: Signal) -> Option<Reaction> {
    let facts = &input.processes[process].facts;
    if program_of(facts)?.name != SHELL {
        return None;
    }
    let trap = facts.command.known().map_or(Trap::Unknown, |command| {
        let words: Vec<&[u8]> = command.argv().collect();
        trap_of(&words, signal)
    });
    // A process that ignores INT and QUIT itself hands that down to every child.
    let own = facts.status.sig_ign;
    let hands_down = own.contains(Signal::INT) && own.contains(Signal::QUIT);
    let children = input.children(process);
    if hands_down && !children.is_empty() {
        let why =
            format!("handles {signal}; cannot tell whether it waits for a foreground command");
        return Some(Reaction { may_stop_descendants: true, ..Reaction::new(Exits::Maybe, why) });
    }
    // A child that catches INT or QUIT itself may have been started with them ignored or not.
    let dispositions = |child: &usize| {
        let status = &input.processes[*child].facts.status;
        let handles = |set: SignalSet| set.contains(Signal::INT) || set.contains(Signal::QUIT);
        (handles(status.sig_ign), handles(status.sig_cgt))
    };
    let foreground: Vec<usize> =
        children.iter().copied().filter(|child| dispositions(child) == (false, false)).collect();
    let unclear = children.iter().find(|child| dispositions(child).1);
    if let (None, Some(child)) = (foreground.first(), unclear) {
        let command = input.name(*child);
        let why = format!(
            "handles {signal}; cannot tell whether {command} is in the foreground, for which a trap would wait"
        );
        return Some(Reaction { may_stop_descendants: true, ..Reaction::new(Exits::Maybe, why) });
    }
    Some(match foreground.first() {
        Some(first) => in_foreground(input, signal, trap, &foreground, *first),
        // Measured: bash raises the signal again, which the kernel discards for PID 1.
        None if trap == Trap::None && facts.status.nspid.last() == Some(&1) => Reaction::new(
            Exits::Maybe,
            format!("catches {signal} without a trap; as PID 1 it may continue"),
        ),
        None => waiting(signal, trap),
    })
}

/// Returns the reaction of a shell that waits for a foreground command.
fn in_foreground(
    input: &ForecastInput<'_>,
    signal: Signal,
    trap: Trap,
    foreground: &[usize],
    first: usize,
) -> Reaction {
    let command = input.name(first);
    let why = match trap {
        Trap::None => format!("catches {signal} without a trap, and waits for {command}"),
        _ => {
            format!("the trap for {signal} runs only when {command}, in the foreground, has exited")
        }
    };
    if foreground.iter().any(|child| is_short(input, *child)) {
        return Reaction::new(Exits::Maybe, why);
    }
    let after = foreground.to_vec();
    match trap {
        // It exits by the signal only if the command has died of it.
        Trap::None | Trap::Exits { .. } => Reaction::new(Exits::After(after), why),
        Trap::Unknown => Reaction::new(Exits::MaybeAfter(after), why),
    }
}

/// Returns the reaction of a shell that is in `wait`, in `read`, or runs a built-in command.
fn waiting(signal: Signal, trap: Trap) -> Reaction {
    match trap {
        Trap::Exits { signals_others: false } => {
            Reaction::new(Exits::Yes, format!("its trap for {signal} runs at once and exits"))
        }
        Trap::None => Reaction::new(
            Exits::Yes,
            format!("{signal} ends it: it waits for no foreground command"),
        ),
        Trap::Exits { .. } | Trap::Unknown => Reaction {
            may_stop_descendants: true,
            ..Reaction::new(
                Exits::Maybe,
                format!(
                    "its trap for {signal} runs at once; whether it exits then cannot be seen from outside"
                ),
            )
        },
    }
}

/// Whether a command may exit by itself within the grace period: `sleep` with a short time.
pub(super) fn is_short(input: &ForecastInput<'_>, process: usize) -> bool {
    let facts = &input.processes[process].facts;
    if facts.stat.comm != b"sleep" {
        return false;
    }
    let words: Vec<&[u8]> =
        facts.command.known().map(|command| command.argv().collect()).unwrap_or_default();
    let time = words.last().and_then(|word| std::str::from_utf8(word).ok()).unwrap_or_default();
    let (number, unit) = match time.char_indices().next_back() {
        Some((index, 'm')) => (&time[..index], 60.0),
        Some((index, 'h')) => (&time[..index], 3600.0),
        Some((index, 'd')) => (&time[..index], 86400.0),
        Some((index, 's')) => (&time[..index], 1.0),
        _ => (time, 1.0),
    };
    let grace = input.procedure.schedule.total_grace().as_secs_f64();
    // How much of it has passed is not known.
    number.parse::<f64>().is_ok_and(|number| number * unit < grace * 10.0)
}

/// Returns what the text of a command says about the trap for a signal.
fn trap_of(arguments: &[&[u8]], signal: Signal) -> Trap {
    let arguments = match arguments {
        [first, rest @ ..] if first.ends_with(b"busybox") => rest,
        all => all,
    };
    let options = arguments.iter().skip(1).take_while(|word| word.starts_with(b"-"));
    let count = options.clone().count();
    let is_command = options.clone().any(|word| !word.starts_with(b"--") && word.contains(&b'c'));
    let Some(text) = arguments.get(count + 1).filter(|_| is_command) else { return Trap::Unknown };
    let Ok(text) = std::str::from_utf8(text) else { return Trap::Unknown };
    // A function, a file or a text that is evaluated may set one.
    let may_be_set_elsewhere =
        [". ", "source ", "eval "].iter().any(|word| text.contains(word)) || text.contains("()");
    let mut traps = text.match_indices("trap ");
    match (traps.next(), traps.next()) {
        (None, _) if !may_be_set_elsewhere => Trap::None,
        (Some((index, _)), None) if !may_be_set_elsewhere => {
            trap_action(text[index + 5..].trim_start(), signal)
        }
        _ => Trap::Unknown,
    }
}

/// Parses `'ACTION' SIGNAL...`, the words after `trap`.
fn trap_action(text: &str, signal: Signal) -> Trap {
    let mut characters = text.chars();
    let quote = characters.next().filter(|first| ['"', '\''].contains(first));
    let Some((action, rest)) = quote.and_then(|quote| text[1..].split_once(quote)) else {
        return Trap::Unknown;
    };
    let signals = rest.split([';', '\n', '&', '|']).next().unwrap_or_default();
    let is_for_signal =
        signals.split_whitespace().any(|word| Signal::parse(word).is_ok_and(|it| it == signal));
    if !is_for_signal {
        return Trap::None;
    }
    let last = action.rsplit([';', '\n']).next().unwrap_or_default().trim();
    let exits = last == "exit" || last.starts_with("exit ");
    // Anything else than echo may wait, or signal a process.
    let signals_others = action.split([';', '\n']).any(|command| {
        let command = command.trim();
        !(command.starts_with("exit") || command.starts_with("echo ") || command == ":")
    });
    if exits { Trap::Exits { signals_others } } else { Trap::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_trap_from_the_command() {
        let exits = |signals_others| Trap::Exits { signals_others };
        for (command, trap) in [
            ("sleep 1; true", Trap::None),
            ("trap 'exit 0' TERM; sleep 1", exits(false)),
            ("trap \"echo x; exit\" INT SIGTERM; wait", exits(false)),
            ("trap 'kill $c; wait $c; exit 0' TERM; wait", exits(true)),
            ("trap 'exit 0' INT; sleep 1", Trap::None),
            ("trap 'kill $c' TERM; wait", Trap::Unknown),
            ("trap cleanup TERM; wait", Trap::Unknown),
            ("trap 'exit 0' TERM; trap - TERM; wait", Trap::Unknown),
            (". ./functions; wait", Trap::Unknown),
        ] {
            let words = [&b"bash"[..], b"-e", b"-c", command.as_bytes()];
            assert_eq!(trap_of(&words, Signal::TERM), trap, "{command}");
        }
        let applet = [&b"/bin/busybox"[..], b"sh", b"-c", b"trap 'exit 0' TERM; wait"];
        assert_eq!(trap_of(&applet, Signal::TERM), exits(false));
        assert_eq!(trap_of(&[b"sh", b"./run.sh"], Signal::TERM), Trap::Unknown);
    }
}
