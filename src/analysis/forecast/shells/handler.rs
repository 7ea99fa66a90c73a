//! The effects of a trap: which jobs it signals and waits for, and whether the shell exits. Commands that are
//! not known make all of it unknown.

use std::collections::BTreeMap;
use std::time::Duration;

use super::script::{SimpleCommand, Word, parse};
use crate::model::signal::Signal;

/// Commands without an effect on processes, and those that exit at once.
const HARMLESS: [&str; 28] = [
    ":", "true", "false", "echo", "printf", "export", "local", "unset", "set", "trap", "test", "[",
    "[[", "shift", "umask", "cd", "readonly", "declare", "typeset", "logger", "rm", "rmdir",
    "touch", "mkdir", "cp", "mv", "sync", "date",
];
/// The ones among them that do not fail: `set -e` does not end the script at them.
const INFALLIBLE: [&str; 13] = [
    "", ":", "true", "echo", "printf", "export", "local", "unset", "set", "trap", "umask",
    "logger", "date",
];
/// Function calls in one another.
const MAX_DEPTH: usize = 8;
/// Commands that are followed, and jobs that they name: functions that call each other multiply both.
const MAX_STEPS: usize = 10_000;

/// A job: a command that the script started in the background, by its number in the script.
pub(super) type Job = usize;

/// The effects of commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Effects {
    /// Jobs that get a signal.
    pub signalled: Vec<(Job, Signal)>,
    /// Jobs that it waits for.
    pub awaited: Vec<Job>,
    /// Time that it sleeps.
    pub pause: Duration,
    /// Whether the shell exits, and does not continue after the commands.
    pub exits: bool,
    /// Whether a command may have ended the script before (`set -e`).
    may_have_ended: bool,
    /// Commands that were followed.
    steps: usize,
}

/// The commands of a script, its jobs and the variables with their PIDs.
#[derive(Debug)]
pub(super) struct Script {
    pub commands: Vec<SimpleCommand>,
    /// The number of its jobs; none if they cannot be numbered.
    pub jobs: Option<usize>,
    /// Whether `wait` and jobs are the only commands that may take time.
    pub only_waits: bool,
    /// Whether a command that fails ends it (`set -e`).
    pub is_errexit: bool,
    variables: BTreeMap<String, Option<Job>>,
    is_bash: bool,
}

/// The action of a trap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TrapAction {
    /// No trap is set for the signal.
    None,
    /// This text.
    Text(String),
    /// Not known.
    Unknown,
}

impl Script {
    /// Parses a script; none if it is not understood, or if commands from elsewhere run in the same shell.
    pub fn parse(text: &str, is_bash: bool) -> Option<Self> {
        let mut commands = parse(text).ok()?;
        let is_exec = |command: &SimpleCommand| {
            let is_last = command.is_plain() && !command.is_background;
            command.name() == "exec" && command.words.len() > 1 && is_last
        };
        if let Some(index) = commands.iter().position(is_exec) {
            commands.truncate(index + 1);
        }
        if commands.iter().any(is_opaque) {
            return None;
        }
        let jobs = commands.iter().filter(|command| is_job(command));
        let is_numbered = !starts_unseen(text)
            && (jobs.clone().all(SimpleCommand::is_plain) || jobs.clone().count() == 1);
        let mut script = Self {
            jobs: Some(jobs.count()).filter(|_| is_numbered),
            only_waits: !starts_unseen(text) && commands.iter().all(takes_no_time_or_waits),
            is_errexit: commands.iter().any(sets_errexit),
            commands,
            variables: BTreeMap::new(),
            is_bash,
        };
        script.variables = script.pid_variables();
        Some(script)
    }

    /// Returns the variables that are set once, to the PID of a job.
    fn pid_variables(&self) -> BTreeMap<String, Option<Job>> {
        let mut variables: BTreeMap<String, Option<Job>> = BTreeMap::new();
        let mut started = 0;
        for command in &self.commands {
            for (name, value) in &command.assignments {
                let is_pid = ["$!", "${!}"].contains(&value.text.as_str());
                let job = if is_pid && started > 0 { Some(started - 1) } else { None };
                match variables.get(name) {
                    None if value.text.is_empty() => {}
                    None => drop(variables.insert(name.clone(), job)),
                    Some(before) if *before == job => {}
                    Some(_) => drop(variables.insert(name.clone(), None)),
                }
            }
            started += usize::from(is_job(command));
        }
        variables
    }

    /// Returns the action of the trap for a signal (or for 0, the exit of the shell).
    pub fn trap(&self, signal: Option<Signal>) -> TrapAction {
        let is_for = |word: &Word| match signal {
            Some(signal) => Signal::parse(&word.text).is_ok_and(|found| found == signal),
            None => word.text == "EXIT" || word.text == "0",
        };
        let mut found = TrapAction::None;
        for (index, command) in self.commands.iter().enumerate() {
            if command.name() != "trap" || command.is_in_subshell {
                continue;
            }
            let words: Vec<&Word> =
                command.words[1..].iter().filter(|word| word.text != "--").collect();
            // A signal in a variable may be this one.
            if words.iter().skip(1).any(|word| word.expands) {
                return TrapAction::Unknown;
            }
            let Some((action, signals)) = words.split_first() else { continue };
            if !signals.iter().any(|word| is_for(word)) || action.text == "-" {
                continue;
            }
            if action.expands && self.names_later_jobs(index, &action.text) {
                return TrapAction::Unknown;
            }
            let text_action = TrapAction::Text(action.text.clone());
            match &found {
                TrapAction::None => found = text_action,
                known if *known == text_action => {}
                _ => return TrapAction::Unknown,
            }
        }
        found
    }

    /// Whether an action in double quotes, which are expanded when the trap is set, names jobs that may be started
    /// after that.
    fn names_later_jobs(&self, trap: usize, action: &str) -> bool {
        let sets_pid = |command: &SimpleCommand| {
            command.assignments.iter().any(|(name, _)| self.variables.contains_key(name))
        };
        let later = &self.commands[trap + 1..];
        let is_before = self.commands[trap].function.is_some()
            || later.iter().any(|command| is_job(command) || sets_pid(command));
        let is_named = |name: &String| {
            action.contains(&format!("${name}")) || action.contains(&format!("${{{name}"))
        };
        let named = ["$!", "${!", "jobs"].iter().any(|text| action.contains(text));
        is_before && (named || self.variables.keys().any(is_named))
    }

    /// Whether the trap for a signal is set before any command that may take time, and stays.
    pub fn begins_with_trap(&self, signal: Signal) -> bool {
        let is_for = |command: &&SimpleCommand| {
            let mut signals = command.words.iter().skip(1);
            command.name() == "trap"
                && signals.any(|word| Signal::parse(&word.text).is_ok_and(|found| found == signal))
        };
        let is_reset = |command: &SimpleCommand| {
            command.words.get(1).is_some_and(|word| word.text == "-") || command.words.len() == 2
        };
        let first = self.commands.iter().find(|command| {
            let is_harmless = HARMLESS.contains(&command.name()) || command.name().is_empty();
            is_for(command) || (command.function.is_none() && !is_harmless)
        });
        first.is_some_and(|command| is_for(&command) && command.is_plain())
            && !self.commands.iter().filter(is_for).any(is_reset)
    }

    /// Returns the effects of a trap's action; none if they are not known.
    pub fn action(&self, action: &str) -> Option<Effects> {
        let commands = parse(action).ok()?;
        let mut effects = Effects::default();
        self.run(&commands, &mut effects, 0)?;
        self.exit(effects)
    }

    /// Returns the effects of the script from a command on; none if they are not known.
    pub fn rest(&self, index: usize) -> Option<Effects> {
        let main = self.commands[index..].iter().filter(|command| command.function.is_none());
        let main: Vec<SimpleCommand> = main.cloned().collect();
        let mut effects = Effects::default();
        self.run(&main, &mut effects, 0)?;
        effects.exits = true;
        self.exit(effects)
    }

    /// Adds the effects of the trap for the exit of the shell.
    fn exit(&self, mut effects: Effects) -> Option<Effects> {
        match self.trap(None) {
            TrapAction::Text(action) if effects.exits => {
                self.run(&parse(&action).ok()?, &mut effects, 0)?;
                effects.exits = true;
                Some(effects)
            }
            TrapAction::Unknown => None,
            _ => Some(effects),
        }
    }

    /// Adds the effects of commands. `depth` guards against functions that call themselves.
    fn run(&self, commands: &[SimpleCommand], effects: &mut Effects, depth: usize) -> Option<()> {
        for command in commands {
            let name = command.name();
            effects.steps += 1 + command.words.len();
            let followed = effects.steps + effects.signalled.len() + effects.awaited.len();
            if command.is_in_loop || followed > MAX_STEPS {
                return None;
            }
            let substitutes = |word: &Word| word.expands && !is_harmless_word(&word.text);
            if HARMLESS.contains(&name) || name.is_empty() {
                let assigned = command.assignments.iter().map(|(_, value)| value);
                if assigned.chain(&command.words).any(substitutes) {
                    return None;
                }
                effects.may_have_ended |=
                    self.is_errexit && !command.is_conditional && !INFALLIBLE.contains(&name);
                continue;
            }
            if effects.may_have_ended && ["kill", "wait", "sleep"].contains(&name) {
                return None;
            }
            if command.is_conditional || command.is_in_subshell {
                return None;
            }
            match name {
                "exit" => {
                    effects.exits = true;
                    return Some(());
                }
                "return" => return Some(()),
                "kill" => self.kill(&command.words[1..], effects)?,
                "wait" => {
                    effects.awaited.extend(self.targets(&command.words[1..])?);
                    effects.may_have_ended = self.is_errexit;
                }
                "sleep" if command.words.len() == 2 => {
                    let seconds: f64 = command.words[1].text.trim_end_matches('s').parse().ok()?;
                    let pause = Duration::try_from_secs_f64(seconds).ok()?;
                    effects.pause = effects.pause.checked_add(pause)?;
                }
                _ => {
                    let body: Vec<SimpleCommand> = self.body(name)?;
                    if depth == MAX_DEPTH {
                        return None;
                    }
                    self.run(&body, effects, depth + 1)?;
                    if effects.exits {
                        return Some(());
                    }
                }
            }
        }
        Some(())
    }

    /// Returns the commands of a function.
    fn body(&self, name: &str) -> Option<Vec<SimpleCommand>> {
        let in_function = |command: &&SimpleCommand| command.function.as_deref() == Some(name);
        let body = self.commands.iter().filter(in_function).cloned();
        let body: Vec<SimpleCommand> =
            body.map(|command| SimpleCommand { function: None, ..command }).collect();
        Some(body).filter(|body| !body.is_empty())
    }

    /// Adds the effects of `kill [-s] [SIGNAL] JOB...`.
    fn kill(&self, words: &[Word], effects: &mut Effects) -> Option<()> {
        let mut words = words;
        let mut signal = Signal::TERM;
        while let Some(option) = words.first().and_then(|word| word.text.strip_prefix('-')) {
            words = &words[1..];
            match option {
                "-" => break,
                "0" => return Some(()),
                "s" | "n" => {
                    signal = Signal::parse(&words.first()?.text).ok()?;
                    words = &words[1..];
                }
                name => {
                    let name = name.strip_prefix('s').filter(|name| !name.is_empty());
                    let name = name.or(Some(option))?;
                    signal = Signal::parse(name).or_else(|_| Signal::parse(option)).ok()?;
                }
            }
        }
        // It is not known which of the jobs have exited by then.
        if words.is_empty() || !effects.awaited.is_empty() {
            return None;
        }
        let jobs = self.targets(words)?;
        effects.signalled.extend(jobs.into_iter().map(|job| (job, signal)));
        Some(())
    }

    /// Returns the jobs that words refer to; all of them if there are no words.
    fn targets(&self, words: &[Word]) -> Option<Vec<Job>> {
        let count = self.jobs?;
        let mut jobs = Vec::new();
        for word in words {
            match word.text.as_str() {
                "$!" | "${!}" => jobs.push(count.checked_sub(1)?),
                // (In dash the subshell has no jobs.)
                "$(jobs -p)" | "`jobs -p`" | "$(jobs -pr)" | "$(jobs -rp)" if self.is_bash => {
                    jobs.extend(0..count);
                }
                // (dash takes `%1` for a process group, which there is not without job control.)
                text => {
                    let name = text.strip_prefix('$')?;
                    let name = name.strip_prefix('{').map_or(Some(name), |n| n.strip_suffix('}'));
                    jobs.push((*self.variables.get(name?)?)?);
                }
            }
        }
        if words.is_empty() {
            jobs.extend(0..count);
        }
        Some(jobs)
    }
}

/// Whether an expansion in a word runs no command that could take long.
fn is_harmless_word(text: &str) -> bool {
    let mut commands = text.match_indices("$(").chain(text.match_indices('`').step_by(2));
    commands.all(|(index, opening)| {
        let command = &text[index + opening.len()..];
        ["date", "hostname", "basename", "pwd", "echo", "("]
            .iter()
            .any(|name| command.starts_with(name))
    })
}

/// Whether a script may start processes that it does not wait for other than with `&`: process substitutions and
/// coprocesses.
pub(super) fn starts_unseen(text: &str) -> bool {
    ["<(", ">(", "=(", "coproc", "|&"].iter().any(|word| text.contains(word))
}

/// Whether bash may start a job of this script with INT and QUIT as a foreground command has them: it restores
/// them in the process of a job that is more than a simple command, before its last command replaces it.
pub(super) fn may_restore_signals(text: &str) -> bool {
    let Ok(commands) = parse(text) else { return true };
    let is_function = |name: &str| commands.iter().any(|it| it.function.as_deref() == Some(name));
    commands.iter().any(|command| {
        let is_more = ["(", "exec"].contains(&command.name()) || is_function(command.name());
        command.is_in_job || (command.is_background && is_more)
    })
}

/// Whether a script may give each job a process group of its own (`set -m`), perhaps in a file that it reads.
pub(super) fn may_control_jobs(text: &str) -> bool {
    let Ok(commands) = parse(text) else { return true };
    commands.iter().any(is_opaque)
}

/// Whether a command takes no time, runs in the background, or is `wait`.
fn takes_no_time_or_waits(command: &SimpleCommand) -> bool {
    let name = command.name();
    let substitutes = |word: &Word| word.expands && !is_harmless_word(&word.text);
    let assigned = command.assignments.iter().map(|(_, value)| value);
    let is_known = name.is_empty() || is_known_builtin(name);
    is_job(command)
        || command.is_in_job
        || command.function.is_some()
        || (is_known && !command.is_in_subshell && !assigned.chain(&command.words).any(substitutes))
}

fn sets_errexit(command: &SimpleCommand) -> bool {
    let is_option = |word: &Word| {
        let letters = word.text.strip_prefix('-');
        letters.is_some_and(|letters| letters.contains('e')) || word.text == "errexit"
    };
    command.name() == "set" && command.words.iter().any(is_option)
}

/// Whether a command runs in the background of the main shell.
fn is_job(command: &SimpleCommand) -> bool {
    command.is_background && !command.is_in_subshell
}

/// Whether this is the name of a built-in command with a known effect.
fn is_known_builtin(name: &str) -> bool {
    HARMLESS.contains(&name) || ["wait", "exit", "kill", "return"].contains(&name)
}

/// Whether a command may run other commands in the same shell, or change the meaning of traps; functions may
/// also have the names of built-in commands.
fn is_opaque(command: &SimpleCommand) -> bool {
    if command.function.as_deref().is_some_and(is_known_builtin) {
        return true;
    }
    let Some(first) = command.words.first() else { return false };
    let is_set_m = first.text == "set"
        && command.words.iter().any(|word| word.text == "-m" || word.text == "monitor");
    let is_command =
        ["\"$@\"", "$@", "$*"].contains(&first.text.as_str()) || first.text.contains('/');
    [".", "source", "eval", "alias", "builtin", "command", "enable", "shopt", "setopt"]
        .contains(&first.text.as_str())
        || is_set_m
        || (first.expands && !is_command)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signalled and awaited jobs, and whether the shell exits.
    type Known = (Vec<(Job, Signal)>, Vec<Job>, bool);

    fn effects(script: &str) -> Option<Known> {
        let script = Script::parse(script, true)?;
        let TrapAction::Text(action) = script.trap(Some(Signal::TERM)) else { return None };
        let effects = script.action(&action)?;
        Some((effects.signalled, effects.awaited, effects.exits))
    }

    #[test]
    fn follows_the_action_of_a_trap() {
        let term = |job| (job, Signal::TERM);
        for (script, known) in [
            ("trap 'exit 0' TERM; a", (vec![], vec![], true)),
            (
                "trap 'kill $p; wait $p; exit' INT TERM; a & p=$!; wait",
                (vec![term(0)], vec![0], true),
            ),
            (
                "f() { echo x; kill -INT \"${p}\"; }; trap f 15; a & p=$!; wait",
                (vec![(0, Signal::INT)], vec![], false),
            ),
            ("trap 'kill $! $!' SIGTERM; a & b & wait", (vec![term(1), term(1)], vec![], false)),
            (
                "trap 'kill $(jobs -p); wait' TERM; a & b & wait",
                (vec![term(0), term(1)], vec![0, 1], false),
            ),
            (
                "p=; trap 'kill -s HUP $p || true' TERM; a & p=$!; wait",
                (vec![(0, Signal::HUP)], vec![], false),
            ),
            ("trap 'rm -f x' EXIT; trap 'exit 143' TERM; a", (vec![], vec![], true)),
        ] {
            assert_eq!(effects(script), Some(known), "{script}");
        }
    }

    #[test]
    fn an_uncertain_effect_is_unknown() {
        for script in [
            "trap 'nginx -s quit' TERM; a & wait",
            "trap 'kill $p' TERM; a & wait",
            "trap '[ $x ] && exit' TERM; a",
            "trap 'exit' TERM; trap 'true' TERM; a",
            ". ./functions; trap 'exit' TERM; a",
            "trap 'kill $p' TERM; for i in 1 2; do a & p=$!; done; b & wait",
            "trap 'wait $p; kill $q' TERM; a & p=$!; b & q=$!; wait",
            "trap 'exit' $SIGNALS; a",
            "trap 'kill %1' TERM; a & wait",
            "trap \"kill $p; exit\" TERM; a & p=$!; wait",
            "set -e; trap 'rm x; kill $p; wait' TERM; a & p=$!; wait",
            "set -e; trap 'wait $p; wait $q' TERM; a & p=$!; b & q=$!; wait",
        ] {
            assert_eq!(effects(script), None, "{script}");
        }
        let script = Script::parse("trap 'exit' INT; a", false).unwrap();
        assert_eq!(script.trap(Some(Signal::TERM)), TrapAction::None);
    }

    #[test]
    fn a_script_decides_neither_about_time_nor_about_memory() {
        // Each function calls the next one many times.
        let call = |next: usize| format!("f{next}; ").repeat(100);
        let functions: String =
            (0..8).map(|number| format!("f{number}() {{ {} }}\n", call(number + 1))).collect();
        let script = format!("{functions}f8() {{ true; }}\ntrap f0 TERM; a");
        assert_eq!(effects(&script), None);
        let jobs = "a & ".repeat(20_000);
        let kills = "kill $(jobs -p); ".repeat(20_000);
        assert_eq!(effects(&format!("{jobs}\ntrap '{kills}' TERM; wait")), None);
        assert_eq!(effects("trap 'sleep 1e19; sleep 1e19' TERM; a"), None);
    }
}
