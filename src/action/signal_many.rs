//! A signal to many: held all before the first is told, told in order, and again until nobody is left
//! who has not been; waited for, and killed where that is wanted. Who is meant is decided before.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::send::{HeldProcess, SendError, SignalRequest, allow_many, hold, kill_cgroup, wait};
use crate::analysis::delivery::{Prediction, Recipient};
use crate::analysis::selection::{Criteria, Selected, Selector, select};
use crate::error::{Error, ExitStatus, os_error};
use crate::model::capability;
use crate::model::pid::ProcessId;
use crate::model::process::Process;
use crate::model::signal::{Signal, SignalNumber, SignalSet};
use crate::output::columns::signal::{Observation, Outcome, SignalRow};
use crate::proc::{CommandLimit, Host, SnapshotOptions, ThreadsToo};
use crate::resolve::ResolvedContainer;
use crate::resolve::processes::ContainerSnapshot;

/// Rounds after which a container that forks faster than it is told is left to itself.
pub const MAX_ROUNDS: usize = 32;

/// How long it is looked what comes of a signal, where nobody asked to wait.
const A_MOMENT: Duration = Duration::from_millis(100);

/// A signal on its way to its targets.
pub struct SignalBatch<'a> {
    found: &'a ResolvedContainer<'a>,
    order: SignalRequest,
    went_by: Criteria,
    /// What became of each, in the order in which they were told.
    pub rows: Vec<SignalRow>,
    /// For each row what we have of the process it is about.
    slots: Vec<SendState>,
    /// Whether the kernel forbade us one.
    pub forbidden: bool,
    /// How many were not told though they live.
    pub refused: usize,
}

/// A target after it was told, or not.
enum SendState {
    /// It was told, and is held.
    Held(HeldProcess),
    /// It had ended.
    Gone,
    /// It was not told, and what becomes of it is not ours to say.
    Refused,
}

/// What the rounds came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RescanOutcome {
    /// Nobody is left who has not been told.
    All,
    /// It still makes new processes, after [`MAX_ROUNDS`].
    StillGrowing,
    /// Its init has ended, and so many have appeared since: whether they are of this container, or
    /// of the next that its engine has started in its place, cannot be told.
    WithoutInit(usize),
}

impl<'a> SignalBatch<'a> {
    /// Nobody told yet.
    pub fn new(
        found: &'a ResolvedContainer<'a>,
        order: SignalRequest,
        selectors: &[Selector],
    ) -> Self {
        let (rows, slots) = (Vec::new(), Vec::new());
        let went_by = Criteria::of(selectors);
        Self { found, order, went_by, rows, slots, forbidden: false, refused: 0 }
    }

    /// Notes who would be told, each held and confirmed for a moment as if it were, and tells nobody.
    pub fn rehearse(&mut self, view: &ContainerSnapshot, chosen: &[Selected]) {
        for chosen in chosen {
            let mut row = self.row(view, *chosen, None);
            // Through another host's /proc nobody can be held, and looking is all there is.
            if self.found.host.may_act().is_ok() {
                row.refusal = self.hold(view, *chosen).err().map(|refusal| refusal.to_string());
            }
            self.rows.push(row);
        }
    }

    fn hold(&self, view: &ContainerSnapshot, chosen: Selected) -> Result<HeldProcess, SendError> {
        let member = &view.processes[chosen.member];
        hold(self.found, member, chosen.thread, self.went_by)
    }

    /// What the signal does to a target; nothing for 0.
    pub fn judge(&self, view: &ContainerSnapshot, chosen: Selected) -> Option<Prediction> {
        let to = chosen.thread.map_or(Recipient::Process, Recipient::Thread);
        Some(view.predict(&view.processes[chosen.member], self.order.signal.signal()?, to))
    }

    fn row(
        &self,
        view: &ContainerSnapshot,
        chosen: Selected,
        refusal: Option<Option<&SendError>>,
    ) -> SignalRow {
        let process = view.processes[chosen.member].clone();
        let depth = self.found.container.depth;
        let tid = chosen.thread.and_then(|tid| {
            let thread = process.facts.threads.iter().find(|thread| thread.stat.pid == tid)?;
            thread.status.nspid.get(depth).copied()
        });
        SignalRow {
            context: view.context.clone(),
            process,
            tid,
            signal: self.order.signal.to_string(),
            sent: refusal.map(|refusal| refusal.is_none()),
            prediction: self.judge(view, chosen),
            seen: None,
            outcome: None,
            refusal: refusal.flatten().map(ToString::to_string),
        }
    }

    /// Tells them, all held before the first is, so that a limit that stops us stops us early. With
    /// `whole` they are the whole container: then KILL goes to its cgroup at once where it can.
    ///
    /// # Errors
    /// What stops us before anybody is told.
    pub fn send(
        &mut self,
        view: &ContainerSnapshot,
        chosen: &[Selected],
        whole: bool,
    ) -> Result<(), Error> {
        allow_many();
        let held: Vec<Result<HeldProcess, SendError>> =
            chosen.iter().map(|chosen| self.hold(view, *chosen)).collect();
        for refusal in held.iter().filter_map(|held| held.as_ref().err()) {
            if let Some(error) = stopping(refusal) {
                return Err(error);
            }
        }
        let all: Vec<&HeldProcess> = held.iter().flatten().collect();
        let kill = whole && self.order.signal.signal() == Some(Signal::KILL);
        if kill && kill_cgroup(self.found.host, &self.found.container, &all) {
            // They have it already; a second one could find them gone.
            for (chosen, held) in chosen.iter().zip(held) {
                self.note(view, *chosen, held);
            }
            return Ok(());
        }
        self.deliver(view, chosen, held);
        Ok(())
    }

    fn deliver(
        &mut self,
        view: &ContainerSnapshot,
        chosen: &[Selected],
        held: Vec<Result<HeldProcess, SendError>>,
    ) {
        for (chosen, held) in chosen.iter().zip(held) {
            let sent = held.and_then(|held| held.send(self.order).map(|()| held));
            self.note(view, *chosen, sent);
        }
    }

    fn note(
        &mut self,
        view: &ContainerSnapshot,
        chosen: Selected,
        sent: Result<HeldProcess, SendError>,
    ) {
        self.rows.push(self.row(view, chosen, Some(sent.as_ref().err())));
        self.forbidden |= matches!(sent, Err(SendError::NotPermitted));
        let others = |refusal: &SendError| !matches!(refusal, SendError::Gone | SendError::Left);
        self.refused += usize::from(sent.as_ref().is_err_and(others));
        self.slots.push(match sent {
            Ok(held) => SendState::Held(held),
            Err(SendError::Gone) => SendState::Gone,
            Err(_) => SendState::Refused,
        });
    }

    /// Goes round until a look at the container finds nobody who has not been told. With
    /// `only_handled` those that have no handler are noted, not told.
    pub fn catch_up(
        &mut self,
        selectors: &[Selector],
        except_init: bool,
        only_handled: bool,
    ) -> RescanOutcome {
        let container = &self.found.container;
        let mut told: HashSet<ProcessId> =
            self.rows.iter().map(|row| row.process.facts.id).collect();
        for _ in 0..MAX_ROUNDS {
            let facts = facts(selectors, self.order.signal);
            let Ok(view) = self.found.snapshot(facts) else {
                return RescanOutcome::All;
            };
            let Ok(chosen) = choose(self.found, &view, selectors, except_init) else {
                return RescanOutcome::All;
            };
            // Asked after the look, so that whoever was seen before it ended is its own.
            let lives = container.init.is_some_and(|init| {
                self.found.host.stat(init.pid).is_ok_and(|stat| stat.start == init.start)
            });
            let new: Vec<Selected> = chosen
                .into_iter()
                .filter(|chosen| {
                    let process = &view.processes[chosen.member].facts;
                    !process.stat.state.is_zombie() && told.insert(process.id)
                })
                .collect();
            if new.is_empty() {
                return RescanOutcome::All;
            }
            if !lives {
                // The kernel ends what is left in a PID namespace itself (pid_namespaces(7)).
                let left = if container.owns_pid_ns { 0 } else { new.len() };
                return if left == 0 {
                    RescanOutcome::All
                } else {
                    RescanOutcome::WithoutInit(left)
                };
            }
            let held = new
                .iter()
                .map(|chosen| {
                    let heard = |judgement: Prediction| judgement.is_received();
                    if only_handled && !self.judge(&view, *chosen).is_none_or(heard) {
                        return Err(SendError::NoHandler);
                    }
                    self.hold(&view, *chosen)
                })
                .collect();
            self.deliver(&view, &new, held);
        }
        RescanOutcome::StillGrowing
    }

    /// Looks, for a moment, what has come of it: whoever is to end ends in microseconds, and a
    /// handler begins as soon as its process is given a processor.
    pub fn look_after(&mut self) {
        let Some(signal) = self.order.signal.signal() else { return };
        let until = Instant::now() + A_MOMENT;
        loop {
            let mut settled = true;
            for (row, slot) in self.rows.iter_mut().zip(&self.slots) {
                let (SendState::Held(held), Some(judgement)) = (slot, &row.prediction) else {
                    continue;
                };
                row.seen = aftermath(self.found.host, held, row.process.facts.as_ref(), signal);
                settled &= match judgement.verdict {
                    verdict if verdict.is_end() => row.seen == Some(Observation::Ended),
                    verdict if verdict.is_received() => row.seen != Some(Observation::Pending),
                    _ => {
                        // Nothing is to be seen of these but that it waits, or that it was wrong.
                        row.seen = row.seen.filter(|seen| *seen != Observation::Taken);
                        true
                    }
                };
            }
            if settled || Instant::now() > until {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until all who were told have ended, at most until `until`; tells for each whether it
    /// has, and nothing of who was not told and lives.
    ///
    /// # Errors
    /// When poll(2) fails.
    pub fn wait(&self, until: Option<Instant>) -> Result<Vec<Option<bool>>, Error> {
        let held = self.slots.iter().filter_map(|slot| match slot {
            SendState::Held(held) => Some(held),
            _ => None,
        });
        let mut ended = wait(&held.collect::<Vec<_>>(), until)
            .map_err(|errno| Error::new(ExitStatus::Failed, "cannot wait").cause(os_error(errno)))?
            .into_iter();
        let each = self.slots.iter().map(|slot| match slot {
            SendState::Held(_) => ended.next(),
            SendState::Gone => Some(true),
            SendState::Refused => None,
        });
        Ok(each.collect())
    }

    /// KILLs those that were told and have not ended; tells which.
    pub fn kill(&self, ended: &[Option<bool>]) -> Vec<bool> {
        let order = SignalRequest { signal: SignalNumber::Signal(Signal::KILL), value: None };
        let lives = |(slot, ended): (&SendState, &Option<bool>)| match slot {
            SendState::Held(held) => *ended == Some(false) && held.send(order).is_ok(),
            _ => false,
        };
        self.slots.iter().zip(ended).map(lives).collect()
    }

    /// Notes what became of each.
    pub fn note_outcomes(&mut self, ended: &[Option<bool>], killed: &[bool]) {
        for (at, row) in self.rows.iter_mut().enumerate() {
            let killed = killed.get(at).copied().unwrap_or(false);
            row.outcome = ended.get(at).copied().flatten().map(|ended| match (ended, killed) {
                (true, true) => Outcome::Killed,
                (true, false) => Outcome::Exited,
                (false, _) => Outcome::Running,
            });
        }
    }
}

fn aftermath(
    host: &Host,
    held: &HeldProcess,
    before: &Process,
    signal: Signal,
) -> Option<Observation> {
    if held.has_ended() {
        return Some(Observation::Ended);
    }
    let status = host.status(before.id.pid).ok()?;
    let pending = status.shd_pnd.union(status.sig_pnd).contains(signal);
    // What was read is its own if it lives still.
    if held.has_ended() {
        return Some(Observation::Ended);
    }
    let handled = |status: &crate::model::status::Status| status.sig_cgt.contains(signal);
    Some(match pending {
        true => Observation::Pending,
        false if handled(&before.status) && !handled(&status) => Observation::HandlerGone,
        false => Observation::Taken,
    })
}

/// The facts that these selectors need.
pub fn facts(selectors: &[Selector], signal: SignalNumber) -> SnapshotOptions {
    let commands = selectors.iter().any(Selector::needs_commands);
    let threads = selectors.iter().any(Selector::needs_threads);
    SnapshotOptions {
        // A signal must not depend on a command line that may never come, unless it is asked for.
        command: if commands { CommandLimit::WHOLE } else { CommandLimit::Nothing },
        threads: if threads { ThreadsToo::Yes } else { ThreadsToo::No },
        waits: signal.signal().map_or(SignalSet::EMPTY, SignalSet::from),
        exe: false,
    }
}

/// Whom the selectors mean.
///
/// # Errors
/// The selector that means nobody.
pub fn choose(
    found: &ResolvedContainer<'_>,
    view: &ContainerSnapshot,
    selectors: &[Selector],
    except_init: bool,
) -> Result<Vec<Selected>, Error> {
    let container = &found.container;
    let chosen =
        select(&view.processes, container.init_pid(), container.depth, selectors, except_init);
    let name = container.qualified();
    let chosen = chosen.map_err(|selector| {
        Error::new(ExitStatus::NoProcess, format!("no such process in `{name}`"))
            .cause(format!(
                "`{}` fits none of its {} processes",
                selector.typed(),
                view.processes.len()
            ))
            .hint(format!("`cinspect ps {name}` shows them"))
    })?;
    if chosen.is_empty() {
        return Err(Error::new(ExitStatus::NoProcess, format!("no such process in `{name}`"))
            .cause("what was chosen is the init alone, and `--except-init` leaves it out"));
    }
    Ok(chosen)
}

/// A refusal that is no target's own affair and stops everything before anything is sent.
fn stopping(refusal: &SendError) -> Option<Error> {
    let error = |exit| Error::new(exit, "nothing was sent").cause(refusal.to_string());
    match refusal {
        SendError::TooMany(_) => Some(error(ExitStatus::Failed).hint("raise it with `ulimit -n`")),
        SendError::NoPidfd => {
            Some(error(ExitStatus::Failed).hint("cinspect sends signals on Linux 5.3 and later"))
        }
        SendError::NotPermitted if !capability::have(caps::Capability::CAP_KILL) => {
            Some(error(ExitStatus::NotPermitted).hint("run as root, or with CAP_KILL"))
        }
        _ => None,
    }
}
