//! The processes that a signal is meant for, with its effect on each and on those that it is forwarded to.
//! `analysis::selection` selects them; nothing here sends.

use std::collections::HashSet;
use std::sync::Arc;

use super::send::raise_fd_limit;
use crate::analysis::container_process::{ContainerProcess, RowContext};
use crate::analysis::delivery::{Prediction, Recipient};
use crate::analysis::forecast::{Answer, FORWARDED, ReachedProcess, SignalRoute, follow};
use crate::analysis::selection::{Selected, Selector, select};
use crate::error::{Error, ExitStatus};
use crate::model::signal::{Signal, SignalNumber, SignalSet};
use crate::model::stop_schedule::StopProcedure;
use crate::model::verdict::Verdict;
use crate::proc::{CommandLimit, ReadError, SnapshotOptions};
use crate::resolve::ResolvedContainer;
use crate::resolve::processes::ContainerSnapshot;

/// A process, or one thread of it, that a signal is meant for.
#[derive(Clone, Debug)]
pub struct SignalTarget {
    /// The process.
    pub process: ContainerProcess,
    /// The thread's TID on the host, if only one thread is meant.
    pub thread: Option<i32>,
    /// The thread's TID in the container.
    pub tid: Option<i32>,
    /// The effect of the signal; none for signal 0.
    pub prediction: Option<Prediction>,
    /// The processes that it reaches in the end; none for signal 0.
    pub reach: Option<TargetReach>,
}

impl SignalTarget {
    /// Whether the target has a handler for the signal, and so has every process that it forwards it to.
    pub fn is_handled(&self) -> bool {
        self.prediction.as_ref().is_none_or(Prediction::is_received)
            && self.reach.as_ref().is_none_or(TargetReach::is_handled)
    }
}

/// The processes that a signal to a target reaches in the end.
#[derive(Clone, Debug)]
pub struct TargetReach {
    /// Whether the target forwards the signal.
    pub is_forwarded: bool,
    /// The processes that get it and do not forward it.
    pub ends: Vec<SignalEnd>,
    /// The processes that should have forwarded it and do not, each with the reason.
    pub dropped: Vec<(ContainerProcess, String)>,
}

/// A process that a signal reaches in the end.
#[derive(Clone, Debug)]
pub struct SignalEnd {
    /// The process.
    pub process: ContainerProcess,
    /// The signal that it gets.
    pub signal: Signal,
    /// The effect of it.
    pub verdict: Verdict,
}

impl SignalEnd {
    /// Whether the process gets it: the kernel does not drop it.
    pub fn gets_it(&self) -> bool {
        !self.verdict.is_lost()
    }
}

impl TargetReach {
    fn new(route: SignalRoute, processes: &[ContainerProcess]) -> Self {
        let end = |end: ReachedProcess| SignalEnd {
            process: processes[end.process].clone(),
            signal: end.signal,
            verdict: end.verdict,
        };
        let dropped = |(process, why): (usize, String)| (processes[process].clone(), why);
        Self {
            is_forwarded: route.is_forwarded,
            ends: route.ends.into_iter().map(end).collect(),
            dropped: route.dropped.into_iter().map(dropped).collect(),
        }
    }

    /// Whether every process that it is forwarded to has a handler for it.
    pub fn is_handled(&self) -> bool {
        let ends = if self.is_forwarded { &self.ends[..] } else { &[] };
        self.dropped.is_empty() && ends.iter().all(|end| end.verdict.is_received())
    }
}

/// The targets of a batch, and the effect of their signal on the container.
#[derive(Debug)]
pub struct SelectedTargets {
    /// The container, as every row about it names it.
    pub context: Arc<RowContext>,
    /// The targets in sending order: children before their parents, the init last.
    pub targets: Vec<SignalTarget>,
    /// Whether the init exits; none without an init, and for signal 0.
    pub init_exits: Option<Answer>,
    /// Whether the container has processes other than the targets.
    pub has_others: bool,
}

/// Which processes a signal is meant for, as the user chose them.
#[derive(Clone, Copy, Debug)]
pub struct ProcessSelection<'a> {
    /// Their union is meant.
    pub selectors: &'a [Selector],
    /// Whether the init is left out.
    pub except_init: bool,
}

impl ProcessSelection<'_> {
    /// Returns the facts that the selectors need.
    pub fn selector_options(&self) -> SnapshotOptions {
        let commands = self.selectors.iter().any(Selector::needs_commands);
        SnapshotOptions {
            command: if commands { CommandLimit::WHOLE } else { CommandLimit::Nothing },
            threads: self.selectors.iter().any(Selector::needs_threads),
            ..SnapshotOptions::BARE
        }
    }

    /// Returns the facts that the selectors and the prediction need.
    pub fn snapshot_options(&self, signal: SignalNumber) -> SnapshotOptions {
        let options = self.selector_options();
        let forwarded: SignalSet = FORWARDED.into_iter().collect();
        SnapshotOptions {
            command: match signal.signal() {
                // Neither is forwarded, and a signal that ends everything waits for nothing.
                None | Some(Signal::KILL | Signal::STOP) => options.command,
                _ if options.command == CommandLimit::WHOLE => options.command,
                // The options of an init decide which processes it forwards the signal to. (A command line that
                // cannot be read in time is left out.)
                Some(_) => CommandLimit::SCREEN,
            },
            waits: signal
                .signal()
                .map_or(SignalSet::EMPTY, |signal| SignalSet::from(signal).union(forwarded)),
            ..options
        }
    }

    /// Selects processes of a snapshot.
    ///
    /// # Errors
    /// If a selector matches nothing, or nothing is left without the init.
    pub fn apply(
        &self,
        found: &ResolvedContainer<'_>,
        snapshot: &ContainerSnapshot,
    ) -> Result<Vec<Selected>, Error> {
        let container = &found.container;
        let name = container.qualified();
        let error = || Error::new(ExitStatus::NoProcess, format!("no such process in `{name}`"));
        let selected = select(
            &snapshot.processes,
            container.init_pid(),
            container.depth,
            self.selectors,
            self.except_init,
        );
        let selected = selected.map_err(|selector| {
            if container.has_lost_init && matches!(selector, Selector::Init) {
                return found.no_init();
            }
            if let Some(error) = unread_users(selector, snapshot) {
                return Error::new(ExitStatus::Failed, "nothing was sent")
                    .cause(format!("the container's users cannot be read: {error}"));
            }
            let (typed, count) = (selector.typed(), snapshot.processes.len());
            let matches = match count {
                1 => "does not match its only process".into(),
                _ => format!("matches none of its {count} processes"),
            };
            error()
                .cause(format!("`{typed}` {matches}"))
                .hint(format!("`cinspect ps {name}` lists them"))
        })?;
        if selected.is_empty() {
            return Err(
                error().cause("the selectors match only the init, which `--except-init` excludes")
            );
        }
        Ok(selected)
    }

    /// Takes a snapshot, and returns the selected targets.
    ///
    /// # Errors
    /// If the snapshot fails, or a selector matches nothing.
    pub fn targets(
        &self,
        found: &ResolvedContainer<'_>,
        signal: SignalNumber,
    ) -> Result<SelectedTargets, Error> {
        let mut options = self.snapshot_options(signal);
        // Then the snapshot has all facts that `send` would read again.
        let is_whole = self.selectors.iter().any(|selector| matches!(selector, Selector::All));
        if is_whole && found.host.may_act().is_ok() {
            raise_fd_limit();
            options.pidfds = true;
        }
        let mut snapshot = found.snapshot(options)?;
        let selected = self.apply(found, &snapshot)?;
        // A signal that is blocked at one moment only would be warned of.
        if let Some(signal) = signal.signal() {
            found.settle(&mut snapshot, signal, options);
        }
        let (targets, init_exits) = targets_of(found, &snapshot, &selected, signal);
        let chosen: HashSet<usize> = selected.iter().map(|selected| selected.index).collect();
        let has_others = snapshot.processes.iter().enumerate().any(|(index, process)| {
            process.in_container && !process.facts.stat.has_exited() && !chosen.contains(&index)
        });
        Ok(SelectedTargets {
            context: Arc::clone(&snapshot.context),
            targets,
            init_exits,
            has_others,
        })
    }
}

/// Returns why it is not known whether a selector of users matches, if it is one.
fn unread_users<'s>(selector: &Selector, snapshot: &'s ContainerSnapshot) -> Option<&'s ReadError> {
    let Selector::User(user) = selector else { return None };
    let is_number = user.bytes().all(|b| b.is_ascii_digit());
    let names_error =
        snapshot.user_names_error.as_ref().filter(|error| !is_number && **error != ReadError::Gone);
    snapshot.users_error.as_ref().or(names_error)
}

/// Returns the targets for selected processes, and whether the init exits.
pub(super) fn targets_of(
    found: &ResolvedContainer<'_>,
    snapshot: &ContainerSnapshot,
    selected: &[Selected],
    signal: SignalNumber,
) -> (Vec<SignalTarget>, Option<Answer>) {
    let signal = signal.signal();
    let target = |selected: &Selected| target(found, snapshot, *selected, signal);
    let mut targets: Vec<SignalTarget> = selected.iter().map(target).collect();
    let Some(signal) = signal else { return (targets, None) };
    let procedure = StopProcedure::without_steps();
    let input = found.forecast_input(snapshot, &procedure);
    let indices: Vec<usize> = selected.iter().map(|selected| selected.index).collect();
    let reach = found.with_lookups(snapshot, || follow(input, &indices, signal));
    for (target, route) in targets.iter_mut().zip(reach.routes) {
        target.reach = Some(TargetReach::new(route, &snapshot.processes));
    }
    (targets, reach.init_exits)
}

fn target(
    found: &ResolvedContainer<'_>,
    snapshot: &ContainerSnapshot,
    selected: Selected,
    signal: Option<Signal>,
) -> SignalTarget {
    let process = &snapshot.processes[selected.index];
    let recipient = selected.thread.map_or(Recipient::Process, Recipient::Thread);
    let tid = selected.thread.and_then(|tid| {
        let thread = process.facts.threads.iter().find(|thread| thread.stat.pid == tid)?;
        thread.status.nspid.get(found.container.depth).copied()
    });
    SignalTarget {
        process: process.clone(),
        thread: selected.thread,
        tid,
        prediction: signal.map(|signal| snapshot.predict(process, signal, recipient)),
        reach: None,
    }
}
