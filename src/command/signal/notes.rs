//! The notes and warnings of `signal` before anything is sent: signals without an effect, the end of the
//! container and its consequences. All of them read the forecast; nothing here sends.

use std::collections::HashSet;
use std::time::Duration;

use crate::action::signal_many::{MAX_RESCANS, RescanOutcome};
use crate::action::signal_target::{SelectedTargets, SignalTarget, TargetReach};
use crate::analysis::container_process::ContainerProcess;
use crate::analysis::delivery::Prediction;
use crate::analysis::forecast::Answer;
use crate::cli::context::Context;
use crate::command::forecast::all_companions;
use crate::engine::stop_policy;
use crate::error::{Error, ExitStatus};
use crate::model::pid::HostPid;
use crate::model::signal::{DefaultAction, Signal, SignalNumber};
use crate::model::verdict::Verdict;
use crate::output::escape::{safe, safe_str};
use crate::resolve::ResolvedContainer;

/// Checks that every target has a handler, and every process that it forwards the signal to.
///
/// # Errors
/// If any has none.
pub(super) fn require_handlers(
    targets: &[SignalTarget],
    signal: SignalNumber,
) -> Result<(), Error> {
    let mut reasons: Vec<String> = Vec::new();
    for target in targets.iter().filter(|target| !target.is_handled()) {
        let not_received =
            target.prediction.as_ref().filter(|prediction| !prediction.is_received());
        let found = match (not_received, &target.reach) {
            (Some(prediction), _) => {
                vec![without_handler(&target.process, signal, prediction.verdict, "")]
            }
            (None, Some(reach)) => unhandled_ends(target, reach),
            (None, None) => Vec::new(),
        };
        reasons.extend(
            found.into_iter().filter(|reason| !reasons.contains(reason)).collect::<Vec<_>>(),
        );
    }
    if reasons.is_empty() {
        return Ok(());
    }
    Err(Error::new(ExitStatus::NothingSent, "nothing was sent")
        .cause(reasons.join("; "))
        .hint("without `--require-handler` it is sent anyway"))
}

/// Returns why the processes that a target forwards the signal to do not handle it.
fn unhandled_ends(target: &SignalTarget, reach: &TargetReach) -> Vec<String> {
    let forwarder = process_name(&target.process);
    let ends = reach.ends.iter().filter(|end| !end.verdict.is_received());
    let ends = ends.map(|end| {
        let by = format!(", which gets it through {forwarder}");
        without_handler(&end.process, SignalNumber::Signal(end.signal), end.verdict, &by)
    });
    let dropped =
        reach.dropped.iter().map(|(process, why)| format!("{} {why}", process_name(process)));
    ends.chain(dropped).collect()
}

/// Says that a process does not handle a signal, and by which way it would get it.
fn without_handler(
    process: &ContainerProcess,
    signal: SignalNumber,
    verdict: Verdict,
    by: &str,
) -> String {
    let (name, effect) = (process_name(process), verdict.name());
    match is_caught(process, signal) {
        true if verdict == Verdict::Pending => {
            format!("{name} blocks {signal} at this moment ({effect}){by}")
        }
        true => format!("{name} cannot handle {signal} now ({effect}){by}"),
        false => format!("no handler for {signal} in {name} ({effect}){by}"),
    }
}

fn is_caught(process: &ContainerProcess, signal: SignalNumber) -> bool {
    signal.signal().is_some_and(|signal| process.facts.status.sig_cgt.contains(signal))
}

/// Names a process in messages: `13 nginx`.
fn process_name(process: &ContainerProcess) -> String {
    let pid = process.pid.map_or_else(|| "-".into(), |pid| pid.to_string());
    format!("{pid} {}", safe(&process.facts.stat.comm))
}

/// Warns of each target on which the signal has no effect, or an uncertain one, with the reason and the
/// remedy. Returns those that were warned of.
pub(super) fn warn_if_no_effect(
    context: &Context,
    selected: &SelectedTargets,
    signal: SignalNumber,
) -> HashSet<(HostPid, Option<i32>)> {
    const MOST: usize = 5;
    let (targets, container) = (&selected.targets, safe_str(&selected.context.container));
    // A program that does not handle these ignores them by default, which needs no warning.
    let is_ignored_by_default = signal.signal().is_some_and(|signal| {
        matches!(signal.default_action(), DefaultAction::Ignore | DefaultAction::Continue)
    });
    let has_no_effect = |verdict: Verdict| match verdict {
        Verdict::Ignored => !is_ignored_by_default,
        Verdict::Pending | Verdict::Delayed | Verdict::Unknown => true,
        verdict => verdict.is_lost(),
    };
    let affected: Vec<(&SignalTarget, &Prediction)> = targets
        .iter()
        .filter_map(|target| Some((target, target.prediction.as_ref()?)))
        .filter(|(_, prediction)| has_no_effect(prediction.verdict))
        .collect();
    for (target, reach) in forwarding(targets).take(MOST) {
        for end in reach.ends.iter().filter(|end| has_no_effect(end.verdict)).take(MOST) {
            context.ui.warn(&format!(
                "{container}: {} is forwarded to {} by {}: {}",
                end.signal,
                process_name(&end.process),
                process_name(&target.process),
                end.verdict.name()
            ));
        }
    }
    for (target, prediction) in affected.iter().take(MOST) {
        let text = no_effect(target, prediction, signal, targets.len() == 1 && selected.has_others);
        context.ui.warn(&format!("{container}: {text}"));
    }
    if affected.len() > MOST {
        let rest = affected.len() - MOST;
        context.ui.warn(&format!("{container}: the same applies to {rest} more processes"));
    }
    affected.iter().take(MOST).map(|(target, _)| key(target)).collect()
}

/// Returns the targets that forward the signal, each with the processes that it reaches.
fn forwarding(targets: &[SignalTarget]) -> impl Iterator<Item = (&SignalTarget, &TargetReach)> {
    let each = targets.iter().filter_map(|target| Some((target, target.reach.as_ref()?)));
    each.filter(|(_, reach)| reach.is_forwarded)
}

pub(super) fn key(target: &SignalTarget) -> (HostPid, Option<i32>) {
    (target.process.facts.id.pid, target.thread)
}

/// Explains why a signal has no effect, and names one that would.
fn no_effect(
    target: &SignalTarget,
    prediction: &Prediction,
    signal: SignalNumber,
    has_others: bool,
) -> String {
    let name = process_name(&target.process);
    let blocked_for_now = signal
        .signal()
        .filter(|_| prediction.verdict == Verdict::Pending)
        .and_then(|signal| target.process.facts.blocked_for_now(signal, Duration::MAX));
    let effect = match (prediction.verdict, blocked_for_now) {
        (Verdict::Ignored, _) => format!("{name} ignores {signal}"),
        (Verdict::Pending, Some(reason)) => format!(
            "{signal} stays pending for now: {name} blocks it at this moment; {}",
            reason.describe()
        ),
        (Verdict::Pending, None) => {
            format!("{signal} stays pending: {name} blocks it, and no thread is waiting for it")
        }
        (Verdict::Delayed, _) => format!("{signal} has no effect on {name} yet"),
        (Verdict::Unknown, _) => format!("cannot tell what {signal} does to {name}"),
        _ => format!("{signal} has no effect on {name}"),
    };
    let note = prediction.note.as_ref().map_or_else(String::new, |note| format!(": {note}"));
    let is_lost = matches!(prediction.verdict, Verdict::Discarded | Verdict::Ignored);
    let is_kill_meant =
        requests_exit(signal) && (is_lost || prediction.verdict == Verdict::Pending);
    let mut remedies: Vec<&str> = Vec::new();
    if is_kill_meant && blocked_for_now.is_none() {
        remedies.push("KILL would terminate it");
    }
    if prediction.verdict == Verdict::Discarded && has_others {
        remedies.push("`--all --except-init` signals the other processes");
    }
    if prediction.verdict == Verdict::Delayed && target.process.facts.stat.state.is_stopped() {
        remedies.push("CONT would resume it");
    }
    let remedy = match remedies.is_empty() {
        true => String::new(),
        false => format!("; {}", remedies.join(", ")),
    };
    format!("{effect}{note}{remedy}")
}

/// Whether a signal asks a program to exit, by convention.
fn requests_exit(signal: SignalNumber) -> bool {
    let terminating = [Signal::TERM, Signal::INT, Signal::QUIT];
    signal.signal().is_some_and(|signal| terminating.contains(&signal))
}

/// Notes the consequences if the signal ends the container: other containers in its PID namespace are killed
/// with it, and its engine restarts it, because it was not stopped through the engine.
pub(super) fn note_end(
    context: &Context,
    found: &ResolvedContainer<'_>,
    selected: &SelectedTargets,
    signal: SignalNumber,
) {
    let container = &found.container;
    let policy = stop_policy(found.host, container);
    let is_init = |target: &SignalTarget| Some(target.process.facts.id) == container.init;
    let is_kill = signal.signal() == Some(Signal::KILL) && selected.targets.iter().any(is_init);
    // A handler's effect is often unknown; but these signals request an exit.
    let is_stop_signal = signal.signal() == Some(policy.signal_of(container.engine));
    let (is_certain, may_end) = match selected.init_exits {
        _ if is_kill => (true, true),
        Some(Answer::Yes) => (true, true),
        Some(Answer::Maybe) => (false, requests_exit(signal) || is_stop_signal),
        _ => return,
    };
    if !may_end {
        return;
    }
    let name = container.qualified();
    let name = safe_str(&name);
    let condition = if is_certain { "" } else { "if it exits, " };
    for companion in all_companions(found) {
        let companion = companion.qualified();
        context.ui.note(&format!(
            "{name}: {condition}{} runs in its PID namespace, and is killed with it",
            safe_str(&companion)
        ));
    }
    if let Some(why) = policy.restart_reason(container.engine) {
        let remark = policy.signal_remark(container.engine);
        let remark = remark.map_or_else(String::new, |remark| format!("; {remark}"));
        context.ui.note(&format!("{name}: if it exits, {why}{remark}"));
    }
}

/// Warns of processes that a rescan did not signal.
pub(super) fn warn_of_rescan(
    context: &Context,
    found: &ResolvedContainer<'_>,
    outcome: RescanOutcome,
) {
    let text = match outcome {
        RescanOutcome::Complete => return,
        RescanOutcome::StillGrowing => format!(
            "still forking after {MAX_RESCANS} passes; the newest processes were not signalled"
        ),
        RescanOutcome::WithoutInit(count) => format!(
            "its init has exited, and {count} newer processes were not signalled: they may belong to the container that its engine has started in its place"
        ),
    };
    context.ui.warn(&format!("{}: {text}", safe_str(&found.container.qualified())));
}
