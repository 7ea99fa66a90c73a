//! Why a stop would not be graceful, and what helps: from what the stop signal would do to each
//! process, who is whose child, and what the engine recorded. Pure; what hurts most comes first.

use std::time::Duration;

use super::container_process::ContainerProcess;
use super::delivery::Prediction;
use super::programs::{self, Forwarding};
use crate::model::container::{Container, ContainerState};
use crate::model::pid::ContainerPid;
use crate::model::signal::Signal;
use crate::model::stop_policy::StopPolicy;
use crate::model::verdict::Verdict;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A stop is not graceful.
    Problem,
    /// It may not be.
    Warning,
    /// Worth knowing.
    Info,
    /// As it should be.
    Ok,
}

impl Severity {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Problem => "problem",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Ok => "ok",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// What kind, in a word that stays.
    pub code: &'static str,
    /// The process, by its number inside.
    pub pid: Option<ContainerPid>,
    /// Its name.
    pub comm: Option<Vec<u8>>,
    /// What is so, and why, in a sentence.
    pub message: String,
    /// What helps, in a sentence.
    pub remedy: Option<String>,
}

macro_rules! codes {
    ($($name:ident = $code:literal, $about:literal;)*) => {
        /// What kinds of findings there are, in words that stay.
        pub mod code {
            $(#[doc = $about] pub const $name: &str = $code;)*

            /// Each, and when it is found.
            pub const ALL: &[(&str, &str)] = &[$(($code, $about),)*];
        }
    };
}

codes! {
    SHELL_FORM = "shell-form", "PID 1 is a shell without a trap, with the program as its child: `CMD` in shell form.";
    INIT_WITHOUT_HANDLER = "init-without-handler", "PID 1 has no handler for the stop signal, which is discarded.";
    INIT_IGNORES = "init-ignores", "PID 1 ignores the stop signal.";
    INIT_BLOCKS = "init-blocks", "PID 1 blocks the stop signal, and nobody waits for it.";
    STOP_SIGNAL = "stop-signal", "Another signal than the one that is sent stops it, or stops it better.";
    CHILDREN_NOT_SIGNALLED = "children-not-signalled", "Others are killed when PID 1 leaves, and nobody is known to tell them before.";
    FROZEN = "frozen", "It is paused: nothing acts on a signal before it is thawed.";
    STOPPED = "stopped", "A process is stopped, and acts on a signal after CONT.";
    TRACED = "traced", "A process is traced: a signal is the tracer's first.";
    ZOMBIES = "zombies", "Processes have ended, and their parent does not reap them.";
    RESTART = "restart", "Its engine starts it again when it is stopped by somebody else.";
    OK = "ok", "Nothing of the kind.";
}

/// What is known of the container.
pub struct DiagnosisInput<'a> {
    /// The container.
    pub container: &'a Container,
    /// How its engine stops it.
    pub plan: &'a StopPolicy,
    /// Its processes.
    pub members: &'a [ContainerProcess],
    /// What the stop signal would do to each of them.
    pub judged: &'a [Prediction],
    /// Other signals that would reach the init, of those that programs leave on.
    pub others: &'a [(Signal, Prediction)],
}

/// Shells that do not tell their children.
const SHELLS: &[&[u8]] = &[b"sh", b"bash", b"dash", b"ash", b"zsh", b"ksh", b"busybox"];

/// Finds what is wrong; never nothing.
pub fn diagnose(case: &DiagnosisInput<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let signal = case.plan.signal_of(case.container.engine);
    let grace = case.plan.grace_of(case.container.engine);
    if case.container.state == ContainerState::Paused {
        findings.push(Finding {
            severity: Severity::Problem,
            code: code::FROZEN,
            pid: None,
            comm: None,
            message: "the container is paused: no signal takes effect before it is thawed".into(),
            remedy: Some("resume it, or `cinspect stop --unpause`".into()),
        });
    }
    let init = case.members.iter().position(|member| Some(member.facts.id) == case.container.init);
    if let Some(init) = init {
        of_init(case, init, signal, grace, &mut findings);
    }
    of_others(case, init, signal, &mut findings);
    zombies(case, &mut findings);
    if let Some(why) = case.plan.restart_reason(case.container.engine) {
        findings.push(Finding {
            severity: Severity::Info,
            code: code::RESTART,
            pid: None,
            comm: None,
            message: format!("after a stop that bypasses its engine, {why}"),
            remedy: Some(case.container.engine.keep_stopped.into()),
        });
    }
    findings.sort_by_key(|finding| finding.severity);
    if findings.iter().all(|finding| finding.severity == Severity::Info) {
        findings.insert(0, fine(case, init, signal, grace));
    }
    findings
}

fn finding(
    severity: Severity,
    code: &'static str,
    member: &ContainerProcess,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    Finding {
        severity,
        code,
        pid: member.pid,
        comm: Some(member.facts.stat.comm.clone()),
        message: message.into(),
        remedy: Some(remedy.into()),
    }
}

/// What the stop signal makes of the init decides most.
fn of_init(
    case: &DiagnosisInput<'_>,
    at: usize,
    signal: Signal,
    grace: Duration,
    findings: &mut Vec<Finding>,
) {
    let member = &case.members[at];
    let judgement = &case.judged[at];
    let time = said(grace);
    let children = children(case, at);
    let shell = is_shell(member);
    let after = format!("a stop waits {time} and then kills everything");
    let heard: Vec<&Signal> = case
        .others
        .iter()
        .filter(|(_, judgement)| judgement.is_received())
        .map(|(s, _)| s)
        .collect();
    let rather = programs::of(&member.facts).and_then(|runtime| runtime.rather);
    if let Some(rather) = rather.filter(|rather| rather.than == signal) {
        let note = programs::note(&member.facts, signal, judgement);
        let severity = if rather.kills { Severity::Problem } else { Severity::Warning };
        let by = rather.by;
        findings.push(finding(
            severity,
            code::STOP_SIGNAL,
            member,
            format!("{signal} is not what stops it well: {}", note.unwrap_or("see its manual")),
            format!(
                "set `STOPSIGNAL SIG{by}` in the image, or `--stop-signal SIG{by}`; now, `cinspect stop -s {by}`"
            ),
        ));
        if rather.kills {
            return;
        }
    }
    // (A shell catches INT for itself and does not leave on it.)
    let heard = heard.into_iter().find(|other| !shell || **other != Signal::INT);
    if let Some(other) = heard.filter(|_| is_deaf(judgement)) {
        findings.push(finding(
            Severity::Problem,
            code::STOP_SIGNAL,
            member,
            format!("PID 1 does nothing on {signal}, the stop signal, but has a handler for {other}: {after}"),
            format!("if it leaves on {other}, set `STOPSIGNAL SIG{other}` in the image, or `--stop-signal SIG{other}`"),
        ));
        return;
    }
    match judgement.verdict {
        Verdict::Discarded if shell && !children.is_empty() => findings.push(finding(
            Severity::Problem,
            code::SHELL_FORM,
            member,
            format!("PID 1 is a shell without a trap for {signal}: the kernel discards it, its children are not told, and {after}"),
            "write the command in exec form (`CMD [\"program\"]`), put `exec` before the last command, or trap the signal and pass it on",
        )),
        Verdict::Discarded => findings.push(finding(
            Severity::Problem,
            code::INIT_WITHOUT_HANDLER,
            member,
            format!("PID 1 has no handler for {signal}: the kernel discards it, and {after}"),
            "run it below an init (`--init`, `init: true`, tini), or let it handle the signal",
        )),
        Verdict::Ignored => findings.push(finding(
            Severity::Problem,
            code::INIT_IGNORES,
            member,
            format!("PID 1 ignores {signal}: {after}"),
            "let it handle the signal, or choose one that it handles as stop signal",
        )),
        Verdict::Pending => findings.push(finding(
            Severity::Problem,
            code::INIT_BLOCKS,
            member,
            format!("every thread of PID 1 blocks {signal} and nobody waits for it: {after}"),
            "unblock it, or wait for it with sigwait or a signalfd",
        )),
        Verdict::Delayed if case.container.state == ContainerState::Paused => {}
        Verdict::Delayed => findings.push(delayed(Severity::Problem, member, judgement, signal)),
        Verdict::Unknown | Verdict::NoEffect => findings.push(finding(
            Severity::Warning,
            "unknown",
            member,
            format!(
                "what {signal} does to PID 1 is not known: {}",
                judgement.note.as_deref().unwrap_or("a fact is missing")
            ),
            "look as root",
        )),
        _ => unheard(case, at, signal, findings),
    }
}

/// The init leaves; whoever it has not told and waited for is killed with it.
fn unheard(case: &DiagnosisInput<'_>, at: usize, signal: Signal, findings: &mut Vec<Finding>) {
    let member = &case.members[at];
    let below: Vec<&ContainerProcess> = case
        .members
        .iter()
        .enumerate()
        .filter(|(other, m)| *other != at && m.in_container && !m.facts.stat.state.is_zombie())
        .map(|(_, member)| member)
        .collect();
    if below.is_empty() || !case.container.owns_pid_ns {
        return;
    }
    let tells = programs::of(&member.facts).map_or(Forwarding::Unknown, |runtime| runtime.tells);
    let deeper = below.iter().filter(|m| m.parent != Some(at)).count();
    if is_shell(member) {
        findings.push(finding(
            Severity::Warning,
            code::CHILDREN_NOT_SIGNALLED,
            member,
            format!("PID 1 is a shell with a trap for {signal}: unless the trap passes it on and waits, {} killed unheard when it leaves", count(below.len())),
            "in the trap, `kill -TERM` the children and `wait` for them; or `cinspect stop --order children-first`",
        ));
    } else if tells == Forwarding::Nobody {
        findings.push(finding(
            Severity::Problem,
            code::CHILDREN_NOT_SIGNALLED,
            member,
            format!("PID 1 leaves on {signal} and tells nobody: {} killed unheard when it does", count(below.len())),
            "let PID 1 be a program that has the services stopped first and waits; or `cinspect stop --order children-first`",
        ));
    } else if tells == Forwarding::Child && deeper > 0 {
        findings.push(finding(
            Severity::Info,
            "grandchildren",
            member,
            format!(
                "PID 1 passes {signal} on to its own child: {} only from there",
                if deeper == 1 {
                    "1 process further down hears of it".into()
                } else {
                    format!("{deeper} processes further down hear of it")
                }
            ),
            "`tini -g` tells the whole process group; or `cinspect stop --order children-first`",
        ));
    } else if tells == Forwarding::Unknown {
        findings.push(finding(
            Severity::Info,
            "children",
            member,
            format!(
                "PID 1 handles {signal}; whether it tells the {} before it leaves is its own affair, and who is left then is killed unheard",
                if below.len() == 1 { "other process".into() } else { format!("{} others", below.len()) }
            ),
            "`cinspect stop --order children-first` tells children before their parents",
        ));
    }
}

/// What hinders processes beside the init.
fn of_others(
    case: &DiagnosisInput<'_>,
    init: Option<usize>,
    signal: Signal,
    findings: &mut Vec<Finding>,
) {
    if case.container.state == ContainerState::Paused {
        return;
    }
    for (at, (member, judgement)) in case.members.iter().zip(case.judged).enumerate() {
        if Some(at) == init || !member.in_container {
            continue;
        }
        match judgement.verdict {
            Verdict::Delayed => {
                findings.push(delayed(Severity::Warning, member, judgement, signal));
            }
            Verdict::Pending => findings.push(finding(
                Severity::Info,
                "blocks",
                member,
                format!("it blocks {signal} in every thread and nobody waits for it"),
                "only KILL ends it",
            )),
            _ => {}
        }
    }
}

fn delayed(
    severity: Severity,
    member: &ContainerProcess,
    judgement: &Prediction,
    signal: Signal,
) -> Finding {
    let state = member.facts.stat.state;
    let why = judgement.note.as_deref().unwrap_or("it does not run");
    let (code, remedy) = match () {
        () if state.is_stopped() => (code::STOPPED, "`cinspect signal … CONT` lets it run"),
        () if state.is_traced() || member.facts.status.tracer_pid != 0 => {
            (code::TRACED, "let the tracer detach")
        }
        () if state.is_uninterruptible() => (
            "uninterruptible",
            "it waits for a device or a network file system: look at what it waits for",
        ),
        () => (code::FROZEN, "thaw its cgroup"),
    };
    finding(severity, code, member, format!("{signal} takes no effect: {why}"), remedy)
}

/// Zombies, by who does not reap them.
fn zombies(case: &DiagnosisInput<'_>, findings: &mut Vec<Finding>) {
    let mut parents: Vec<(usize, usize)> = Vec::new();
    for parent in case.members.iter().filter(|m| m.facts.stat.has_exited()).filter_map(|m| m.parent)
    {
        match parents.iter_mut().find(|(known, _)| *known == parent) {
            Some((_, many)) => *many += 1,
            None => parents.push((parent, 1)),
        }
    }
    for (parent, many) in parents {
        let zombies = if many == 1 { "1 zombie".into() } else { format!("{many} zombies") };
        findings.push(finding(
            Severity::Warning,
            code::ZOMBIES,
            &case.members[parent],
            format!("it does not reap its children: {zombies}"),
            "let it wait for them, or run it below an init (`--init`, tini)",
        ));
    }
}

/// Nothing is wrong: what a stop will do, in order.
fn fine(
    case: &DiagnosisInput<'_>,
    init: Option<usize>,
    signal: Signal,
    grace: Duration,
) -> Finding {
    let time = said(grace);
    let what = init.map(|at| (&case.members[at], &case.judged[at]));
    let message = match what {
        Some((_, judgement)) if judgement.verdict.is_end() => {
            format!("{signal} ends PID 1 at once")
        }
        Some(_) => {
            format!("{signal} reaches PID 1, which has {time} to leave; KILL follows only then")
        }
        None => format!("{signal} is sent, and KILL follows after {time}"),
    };
    Finding {
        severity: Severity::Ok,
        code: code::OK,
        pid: what.and_then(|(member, _)| member.pid),
        comm: what.map(|(member, _)| member.facts.stat.comm.clone()),
        message,
        remedy: None,
    }
}

/// Whether nothing at all comes of the stop signal.
fn is_deaf(judgement: &Prediction) -> bool {
    matches!(judgement.verdict, Verdict::Discarded | Verdict::Ignored)
}

fn children(case: &DiagnosisInput<'_>, of: usize) -> Vec<usize> {
    (0..case.members.len()).filter(|at| case.members[*at].parent == Some(of)).collect()
}

/// The name it was called by.
fn called(member: &ContainerProcess) -> Option<&[u8]> {
    let first = member.facts.command.known()?.argv().next()?;
    let name = first.rsplit(|b| *b == b'/').next().unwrap_or(first);
    Some(name.strip_prefix(b"-").unwrap_or(name))
}

fn is_shell(member: &ContainerProcess) -> bool {
    called(member).is_some_and(|name| SHELLS.contains(&name))
}

fn said(time: Duration) -> String {
    if time == Duration::MAX { "for ever".into() } else { crate::model::stop_policy::seconds(time) }
}

fn count(processes: usize) -> String {
    if processes == 1 { "1 process is".into() } else { format!("{processes} processes are") }
}
