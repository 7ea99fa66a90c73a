//! Shells: a trap runs when the foreground command has exited, or at once in `wait` and `read`. They are
//! distinguished by the system call that the shell is in, and by the children: a shell without job control starts
//! background jobs with INT and QUIT ignored (POSIX, 2.11 Signals and Error Handling), except for process
//! substitutions and coprocesses, and in bash some jobs of several commands. Measured in tests/it/forecast.rs for
//! dash, bash, busybox ash, zsh and mksh. The script itself is read in `script`, the effects of a trap in `handler`.

mod handler;
mod script;

use std::time::Duration;

use super::ForecastInput;
use super::reaction::{Exits, Forward, Reaction, Targets};
use crate::analysis::options::{OptionTable, ParsedOptions};
use crate::analysis::programs::{SHELL, program_of};
use crate::model::lookup::Lookup;
use crate::model::process::CommandLine;
use crate::model::signal::{Signal, SignalSet};
use crate::model::signal_waiters::InputWait;
use handler::{Effects, Script, TrapAction, may_control_jobs, may_restore_signals, starts_unseen};
use script::SimpleCommand;

/// The shells that differ in their handling of signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShellKind {
    Bash,
    /// dash or busybox ash.
    Ash,
    Mksh,
    Zsh,
}

/// A shell that handles a signal.
struct Shell<'a> {
    input: &'a ForecastInput<'a>,
    process: usize,
    signal: Signal,
    kind: ShellKind,
    /// Whether it may put each job into a process group of its own (`set -m`). Such a job has INT and QUIT as
    /// a foreground command has them.
    may_control_jobs: bool,
    /// The script that it runs; the missing fact, if it is not known.
    script: Result<Script, String>,
    /// Whether the script may start processes that look like foreground commands, and are not.
    starts_unseen: bool,
}

/// Returns the reaction of a shell that handles a signal; none if the process is not a shell.
pub(super) fn shell(input: &ForecastInput<'_>, process: usize, signal: Signal) -> Option<Reaction> {
    let facts = &input.processes[process].facts;
    if program_of(facts)?.name != SHELL {
        return None;
    }
    let text = script_text(input, process);
    // (dash has neither process substitutions nor coprocesses.)
    let is_dash = facts.exe.known().is_some_and(|path| path.ends_with(b"/dash"));
    let kind = kind_of(input, process);
    let is_unseen = |text: &String| {
        starts_unseen(text) || (kind == ShellKind::Bash && may_restore_signals(text))
    };
    let shell = Shell {
        input,
        process,
        signal,
        kind,
        may_control_jobs: text.as_ref().map_or(true, |text| may_control_jobs(text)),
        starts_unseen: text.as_ref().map_or(!is_dash, is_unseen),
        script: text.and_then(|text| script_of(input, process, &text)),
    };
    Some(shell.reaction())
}

fn kind_of(input: &ForecastInput<'_>, process: usize) -> ShellKind {
    let exe = input.processes[process].facts.exe.known();
    let name = exe.and_then(|path| path.rsplit(|byte| *byte == b'/').next());
    match name.unwrap_or_default() {
        name if name.starts_with(b"bash") => ShellKind::Bash,
        name if name.starts_with(b"zsh") => ShellKind::Zsh,
        name if name.ends_with(b"ksh") => ShellKind::Mksh,
        _ => ShellKind::Ash,
    }
}

/// Returns the children of a shell that it may wait for, as far as their INT and QUIT show: a shell without
/// job control starts background jobs with both ignored.
fn in_foreground(input: &ForecastInput<'_>, children: &[usize]) -> (Vec<usize>, Option<usize>) {
    // A child that catches INT or QUIT itself may have been started with them ignored or not.
    let dispositions = |child: &usize| {
        let status = &input.processes[*child].facts.status;
        let handles = |set: SignalSet| set.contains(Signal::INT) || set.contains(Signal::QUIT);
        (handles(status.sig_ign), handles(status.sig_cgt))
    };
    let is_foreground = |child: &usize| dispositions(child) == (false, false);
    let foreground = children.iter().copied().filter(is_foreground).collect();
    (foreground, children.iter().copied().find(|child| dispositions(child).1))
}

impl Shell<'_> {
    fn reaction(&self) -> Reaction {
        let (input, signal) = (self.input, self.signal);
        let facts = &input.processes[self.process].facts;
        let status = &facts.status;
        let is_init = status.is_namespace_init();
        let children = input.children(self.process);
        let main = facts.waits.known().and_then(|waits| waits.threads.first());
        match (main.map(|thread| thread.input), children.first()) {
            // (The output of a command substitution comes from another descriptor.)
            (Some(InputWait::Read(0) | InputWait::Poll), _) => {
                return self.waiting(&children, is_init);
            }
            (None | Some(InputWait::Read(_) | InputWait::Running), Some(child)) => {
                return self.unclear(*child);
            }
            _ => {}
        }
        if let Some(reaction) = self.at_once(&children) {
            return reaction;
        }
        // A process that ignores INT and QUIT itself hands that down to every child.
        let hands_down =
            status.sig_ign.contains(Signal::INT) && status.sig_ign.contains(Signal::QUIT);
        // A script without a job waits for each of its commands.
        let has_no_job = self.script.as_ref().is_ok_and(|script| script.jobs == Some(0));
        if let Some(first) = children.first().filter(|_| has_no_job) {
            return self.behind(&children, *first);
        }
        // A script whose only commands that take time are jobs and `wait`.
        let only_waits = |script: &Script| script.jobs == Some(children.len()) && script.only_waits;
        if self.script.as_ref().is_ok_and(only_waits) {
            return self.waiting(&children, is_init);
        }
        if let Some(child) = children.iter().find(|child| self.may_be_a_job(**child)) {
            return self.unclear(*child);
        }
        if hands_down && !children.is_empty() {
            let why =
                format!("handles {signal}; cannot tell whether it waits for a foreground command");
            return maybe(why);
        }
        let (foreground, unclear) = in_foreground(input, &children);
        match (foreground.first(), unclear) {
            (Some(child), _) if self.starts_unseen => self.unclear(*child),
            (Some(first), _) => self.behind(&foreground, *first),
            (None, Some(child)) => self.unclear(child),
            (None, None) => self.waiting(&children, is_init),
        }
    }

    /// Returns the reaction of bash to a signal without a trap while a trap for its exit is set: it runs that
    /// and exits, whatever it waits for (`termsig_handler`, sig.c). INT is different.
    fn at_once(&self, children: &[usize]) -> Option<Reaction> {
        let script = self.script.as_ref().ok()?;
        let is_measured =
            [Signal::TERM, Signal::HUP, Signal::USR1, Signal::USR2].contains(&self.signal);
        let has_none = script.trap(Some(self.signal)) == TrapAction::None;
        let TrapAction::Text(action) = script.trap(None) else { return None };
        if self.kind != ShellKind::Bash || !is_measured || !has_none {
            return None;
        }
        let runs = format!("{} has no trap: the one for EXIT runs at once", self.signal);
        let known = script.action(&action).and_then(|mut effects| {
            effects.exits = true;
            self.carry_out(&effects, children, &runs)
        });
        Some(known.unwrap_or_else(|| {
            maybe(format!("{runs}; how long that takes cannot be seen from outside"))
        }))
    }

    /// Whether a child that looks like a foreground command may be a job: INT and QUIT do not tell them apart in
    /// mksh, nor in any shell with job control.
    fn may_be_a_job(&self, child: usize) -> bool {
        let group = |process: usize| self.input.processes[process].facts.stat.pgrp;
        let has_jobs = self.script.as_ref().map_or(true, |script| script.jobs != Some(0));
        let controls = self.may_control_jobs && group(child) != group(self.process);
        has_jobs && (self.kind == ShellKind::Mksh || controls)
    }

    /// Whether the signal has a trap, as it is caught: shells catch some signals without one. bash catches all
    /// that would end it as soon as a trap for its exit is set.
    fn shows_trap(&self) -> bool {
        let caught = self.input.processes[self.process].facts.status.sig_cgt;
        let catches_all = [Signal::ALRM, Signal::USR1, Signal::USR2, Signal::HUP, Signal::TERM]
            .into_iter()
            .all(|signal| caught.contains(signal));
        self.signal != Signal::INT
            && match self.kind {
                ShellKind::Bash => !catches_all,
                ShellKind::Ash => true,
                ShellKind::Mksh | ShellKind::Zsh => false,
            }
    }

    fn unclear(&self, child: usize) -> Reaction {
        let (signal, command) = (self.signal, self.input.name(child));
        maybe(format!(
            "handles {signal}; cannot tell whether {command} is in the foreground, for which a trap would wait"
        ))
    }

    fn trap(&self) -> TrapAction {
        match &self.script {
            // Without a trap for the signal, that for the exit decides.
            Ok(script) => match script.trap(Some(self.signal)) {
                TrapAction::None if script.trap(None) != TrapAction::None => TrapAction::Unknown,
                TrapAction::Text(_)
                    if !self.shows_trap() && !script.begins_with_trap(self.signal) =>
                {
                    TrapAction::Unknown
                }
                action => action,
            },
            Err(_) => TrapAction::Unknown,
        }
    }

    /// Returns the reaction after a foreground command, for which a trap waits.
    fn behind(&self, foreground: &[usize], first: usize) -> Reaction {
        let (command, signal) = (self.input.name(first), self.signal);
        let trap = self.trap();
        let why = match trap {
            TrapAction::None => {
                format!("catches {signal} without a trap, and waits for {command}")
            }
            _ => {
                format!(
                    "the trap for {signal} runs only when {command}, in the foreground, has exited"
                )
            }
        };
        if foreground.iter().any(|child| is_short(self.input, *child)) {
            return Reaction::new(Exits::Maybe, why);
        }
        // Without a trap mksh and zsh exit on HUP, mksh after it has signalled its command, and bash on any
        // signal but INT if a trap for its exit is set.
        let may_have_none = matches!(trap, TrapAction::None | TrapAction::Unknown);
        if self.signal != Signal::INT && may_have_none && !self.shows_trap() {
            return maybe(format!(
                "handles {signal}; cannot tell whether it waits for {command}, in the foreground, before it exits"
            ));
        }
        let after = foreground.to_vec();
        let effects = match (&trap, &self.script) {
            (TrapAction::Text(action), Ok(script)) => script.action(action),
            _ => None,
        };
        let does_nothing_else = |effects: &Effects| {
            effects.exits && effects.signalled.is_empty() && effects.awaited.is_empty()
        };
        match trap {
            // It exits by the signal only if the command has died of it.
            TrapAction::None => Reaction::new(Exits::After(after), why),
            _ if effects.is_some_and(|effects| does_nothing_else(&effects)) => {
                Reaction::new(Exits::After(after), why)
            }
            _ => Reaction::new(Exits::MaybeAfter(after), why),
        }
    }

    /// Returns the reaction in `wait`, in `read`, or in a built-in command.
    fn waiting(&self, children: &[usize], is_init: bool) -> Reaction {
        let signal = self.signal;
        let text = match self.trap() {
            // Measured: bash raises the signal again, which the kernel discards for PID 1.
            TrapAction::None if is_init => {
                let why = format!("catches {signal} without a trap; as PID 1 it may continue");
                let may_stop_descendants = self.kind == ShellKind::Mksh;
                return Reaction { may_stop_descendants, ..Reaction::new(Exits::Maybe, why) };
            }
            TrapAction::None => {
                let why = format!("{signal} ends it: it waits for no foreground command");
                // mksh signals its jobs.
                let may_stop_descendants = self.kind == ShellKind::Mksh;
                return Reaction { may_stop_descendants, ..Reaction::new(Exits::Yes, why) };
            }
            TrapAction::Text(text) => Some(text),
            TrapAction::Unknown => None,
        };
        let runs = format!("its trap for {signal} runs at once");
        let unknown = || {
            let missing = self.script.as_ref().err().map(|missing| format!(" ({missing})"));
            let missing = missing.unwrap_or_default();
            maybe(format!("{runs}; whether it exits then cannot be seen from outside{missing}"))
        };
        let (Some(text), Ok(script)) = (text, &self.script) else { return unknown() };
        let known = script.action(&text).and_then(|effects| self.go_on(script, effects));
        let Some(effects) = known else { return unknown() };
        self.carry_out(&effects, children, &runs).unwrap_or_else(unknown)
    }

    /// Adds the commands that follow in the script, if the trap does not exit: `wait` returns.
    fn go_on(&self, script: &Script, mut effects: Effects) -> Option<Effects> {
        if effects.exits {
            return Some(effects);
        }
        let commands = &script.commands;
        if commands.iter().any(|command| command.name() == "read") {
            return None;
        }
        let is_wait =
            |command: &SimpleCommand| command.name() == "wait" && command.function.is_none();
        let wait = commands.iter().position(is_wait)?;
        if !commands[wait].is_plain() {
            return None;
        }
        let rest = script.rest(wait + 1)?;
        // The trap makes `wait` return a status that ends a script with `set -e`.
        if script.is_errexit && !(rest.signalled.is_empty() && rest.awaited.is_empty()) {
            return None;
        }
        if !rest.signalled.is_empty() && !effects.awaited.is_empty() {
            return None;
        }
        effects.signalled.extend(rest.signalled);
        effects.awaited.extend(rest.awaited);
        effects.pause = effects.pause.checked_add(rest.pause)?;
        effects.exits = true;
        Some(effects)
    }

    /// Returns the reaction with these effects; none if its jobs cannot be distinguished.
    fn carry_out(&self, effects: &Effects, children: &[usize], runs: &str) -> Option<Reaction> {
        let uses_jobs = !effects.signalled.is_empty() || !effects.awaited.is_empty();
        let jobs = self.script.as_ref().ok()?.jobs;
        // In another session it may be a daemon that a job has left behind.
        let session = |process: usize| self.input.processes[process].facts.stat.session;
        let is_job = |child: &usize| session(*child) == session(self.process);
        if uses_jobs && !(jobs == Some(children.len()) && children.iter().all(is_job)) {
            return None;
        }
        let grace = self.input.procedure.schedule.total_grace();
        if effects.pause > Duration::from_secs(1) && effects.pause.saturating_mul(2) > grace {
            return None;
        }
        let process = |job: &usize| children[*job];
        let mut forwards: Vec<Forward> = Vec::new();
        for (job, signal) in &effects.signalled {
            forwards.push(Forward::certain(Targets::Processes(vec![process(job)]), *signal));
        }
        let awaited: Vec<usize> = effects.awaited.iter().map(process).collect();
        let signals = effects
            .signalled
            .iter()
            .map(|(job, signal)| format!("sends {signal} to {}", self.input.name(process(job))));
        let waits =
            awaited.iter().map(|process| format!("waits for {}", self.input.name(*process)));
        let mut does: Vec<String> = signals.chain(waits).collect();
        does.dedup();
        does.push("exits".into());
        let exits = if awaited.is_empty() { Exits::Yes } else { Exits::After(awaited) };
        let why = match does.as_slice() {
            [exits] => format!("{runs} and {exits}"),
            does => format!("{runs}: it {}", does.join(", ")),
        };
        let exits_after = (exits == Exits::Yes).then_some(effects.pause);
        Some(Reaction { forwards, exits_after, ..Reaction::new(exits, why) })
    }
}

/// Returns the reaction of a shell of which too little is known.
fn maybe(why: String) -> Reaction {
    Reaction { may_stop_descendants: true, ..Reaction::new(Exits::Maybe, why) }
}

/// Returns the text of the script that a shell runs: that after `-c`, or of a file that is as it was when it
/// started.
fn script_text(input: &ForecastInput<'_>, process: usize) -> Result<String, String> {
    let parsed = shell_options(input, process).ok_or("its options are not known")?;
    let controls_jobs = parsed.has('m') || parsed.options.contains(&('o', Some(b"monitor")));
    if parsed.has('i') || parsed.has('s') || controls_jobs {
        return Err("it reads its commands from a terminal or a pipe".into());
    }
    let first = parsed.words.first().ok_or("it has no script")?;
    let unclear = || "its script is not understood".to_owned();
    if parsed.has('c') {
        return String::from_utf8(first.to_vec()).map_err(|_| unclear());
    }
    let path = String::from_utf8_lossy(first).into_owned();
    let content = input
        .look_up(process, Lookup::File(first.to_vec()))
        .map_err(|why| format!("its script `{path}` {why}"))?;
    if !input.is_from_start(process, content.changed) {
        return Err(format!("its script `{path}` has changed since it started"));
    }
    let text = String::from_utf8(content.bytes).map_err(|_| unclear())?;
    // From another directory the path may be another file.
    let moves = |word: &str| ["cd", "pushd"].contains(&word);
    if !path.starts_with('/') && text.split(|c: char| !c.is_alphanumeric()).any(moves) {
        return Err(format!("its script `{path}` may be in another directory"));
    }
    Ok(text)
}

/// Returns the options and words of a shell's command line; none if an option is not known.
fn shell_options<'a>(input: &'a ForecastInput<'_>, process: usize) -> Option<ParsedOptions<'a>> {
    let words = input.arguments(process);
    let words = match words.as_slice() {
        [first, rest @ ..] if first.ends_with(b"busybox") => rest,
        all => all,
    };
    let table = OptionTable {
        short: "abcefhiklmnprstuvxBCEHPO:o:",
        long: &[("norc", 'h'), ("noprofile", 'h'), ("posix", 'h'), ("login", 'l')],
        permutes: false,
    };
    table.parse(words)
}

/// Returns the script that a shell runs.
fn script_of(input: &ForecastInput<'_>, process: usize, text: &str) -> Result<Script, String> {
    let is_same = |parent: usize| input.arguments(parent) == input.arguments(process);
    if input.processes[process].parent.is_some_and(is_same) {
        return Err("it is a subshell".into());
    }
    let is_bash = kind_of(input, process) == ShellKind::Bash;
    // (The options of its `#!` line are arguments.)
    let options = shell_options(input, process);
    let has_errexit = options
        .is_none_or(|parsed| parsed.has('e') || parsed.options.contains(&('o', Some(b"errexit"))));
    let mut script = Script::parse(text, is_bash).ok_or("its script is not understood")?;
    script.is_errexit |= has_errexit;
    Ok(script)
}

/// Follows every trap of a script, and the script from each of its commands on.
pub(super) fn fuzz(text: &str) {
    for is_bash in [false, true] {
        let Some(script) = Script::parse(text, is_bash) else { continue };
        for signal in [None, Some(Signal::TERM), Some(Signal::INT)] {
            if let TrapAction::Text(action) = script.trap(signal) {
                let _ = script.action(&action);
            }
        }
        let _ = script.rest(script.commands.len() / 2);
    }
}

/// Whether a command of this name may exit by itself within a grace period.
pub fn may_be_short(comm: &[u8]) -> bool {
    comm == b"sleep"
}

/// Whether a command may exit by itself within the grace period.
pub(super) fn is_short(input: &ForecastInput<'_>, process: usize) -> bool {
    may_finish(input, process, input.procedure.schedule.total_grace())
}

/// Whether a command may exit by itself within a time: `sleep` with a short time.
pub(super) fn may_finish(input: &ForecastInput<'_>, process: usize, limit: Duration) -> bool {
    let facts = &input.processes[process].facts;
    may_be_short(&facts.stat.comm)
        && facts.command.known().is_some_and(|command| is_short_command(command, limit))
}

/// Whether a command of such a name has a short time as its last argument.
pub fn is_short_command(command: &CommandLine, grace: Duration) -> bool {
    // How much of it has passed is not known.
    let time = command.argv().last().and_then(duration);
    time.is_some_and(|time| time.as_secs_f64() < grace.as_secs_f64() * 10.0)
}

/// Parses a time as sleep(1) and timeout(1) do: seconds, or with the letter of a unit.
pub(super) fn duration(text: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(text).ok()?;
    let (number, unit) = match text.char_indices().next_back()? {
        (index, 'm') => (&text[..index], 60.0),
        (index, 'h') => (&text[..index], 3600.0),
        (index, 'd') => (&text[..index], 86400.0),
        (index, 's') => (&text[..index], 1.0),
        _ => (text, 1.0),
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()
}
