//! A signal to many: held all before the first is told, told in order, and again until nobody is left
//! who has not been; waited for, and killed where that is wanted. Who is meant is decided before.

use std::collections::HashSet;
use std::time::Instant;

use super::signal::{Held, Order, Refusal, allow_many, hold, kill_cgroup, wait};
use crate::analysis::selection::{Chosen, Selector, select};
use crate::error::{Error, Exit};
use crate::model::capability;
use crate::model::pid::ProcessId;
use crate::model::signal::{Signal, SignalNumber};
use crate::proc::{CommandLimit, Facts, Host, ThreadsToo};
use crate::render::signal_columns::{Outcome, SignalRow};
use crate::target::Found;
use crate::target::view::{BARE_FACTS, View};

/// Rounds after which a container that forks faster than it is told is left to itself.
pub const MAX_ROUNDS: usize = 32;

/// A signal on its way to its targets.
pub struct Errand<'a> {
    host: &'a Host,
    found: &'a Found,
    order: Order,
    /// What became of each, in the order in which they were told.
    pub rows: Vec<SignalRow>,
    /// For each row the process it is about, if it could be held.
    held: Vec<Option<Held>>,
    /// Whether the kernel forbade us one.
    pub forbidden: bool,
}

impl<'a> Errand<'a> {
    /// Nobody told yet.
    pub fn new(host: &'a Host, found: &'a Found, order: Order) -> Self {
        Self { host, found, order, rows: Vec::new(), held: Vec::new(), forbidden: false }
    }

    /// Notes who would be told, and tells nobody.
    pub fn rehearse(&mut self, view: &View, chosen: &[Chosen]) {
        self.rows = chosen.iter().map(|chosen| self.row(view, *chosen, None)).collect();
    }

    fn row(&self, view: &View, chosen: Chosen, refusal: Option<Option<&Refusal>>) -> SignalRow {
        let member = view.members[chosen.member].clone();
        let depth = self.found.container.depth;
        let tid = chosen.thread.and_then(|tid| {
            let thread = member.process.threads.iter().find(|thread| thread.stat.pid == tid)?;
            thread.status.nspid.get(depth).copied()
        });
        SignalRow {
            labels: view.labels.clone(),
            member,
            tid,
            signal: self.order.signal.to_string(),
            sent: refusal.map(|refusal| refusal.is_none()),
            outcome: None,
            note: refusal.flatten().map(ToString::to_string),
        }
    }

    /// Tells them, all held before the first is, so that a limit that stops us stops us early. With
    /// `whole` they are the whole container: then KILL goes to its cgroup at once where it can.
    ///
    /// # Errors
    /// What stops us before anybody is told.
    pub fn send(&mut self, view: &View, chosen: &[Chosen], whole: bool) -> Result<(), Error> {
        allow_many();
        let held: Vec<Result<Held, Refusal>> = chosen
            .iter()
            .map(|chosen| {
                hold(self.host, &self.found.container, &view.members[chosen.member], chosen.thread)
            })
            .collect();
        for refusal in held.iter().filter_map(|held| held.as_ref().err()) {
            if let Some(error) = stopping(refusal) {
                return Err(error);
            }
        }
        let all: Vec<&Held> = held.iter().flatten().collect();
        let kill = whole && self.order.signal.signal() == Some(Signal::KILL);
        if kill && kill_cgroup(self.host, &self.found.container, &all) {
            // They have it already; a second one could find them gone.
            for (chosen, held) in chosen.iter().zip(held) {
                self.rows.push(self.row(view, *chosen, Some(held.as_ref().err())));
                self.held.push(held.ok());
            }
            return Ok(());
        }
        self.deliver(view, chosen, held);
        Ok(())
    }

    fn deliver(&mut self, view: &View, chosen: &[Chosen], held: Vec<Result<Held, Refusal>>) {
        for (chosen, held) in chosen.iter().zip(held) {
            let sent = held.and_then(|held| held.send(self.order).map(|()| held));
            self.forbidden |= matches!(sent, Err(Refusal::NotPermitted));
            self.rows.push(self.row(view, *chosen, Some(sent.as_ref().err())));
            self.held.push(sent.ok());
        }
    }

    /// Goes round until a look at the container finds nobody who has not been told. False when it
    /// still makes new processes after [`MAX_ROUNDS`].
    pub fn catch_up(&mut self, selectors: &[Selector], except_init: bool) -> bool {
        let container = &self.found.container;
        let mut told: HashSet<ProcessId> =
            self.rows.iter().map(|row| row.member.process.id).collect();
        for _ in 0..MAX_ROUNDS {
            let Ok(view) = self.found.look(self.host, facts(selectors)) else { return true };
            let Ok(chosen) = choose(self.found, &view, selectors, except_init) else { return true };
            let new: Vec<Chosen> = chosen
                .into_iter()
                .filter(|chosen| {
                    let process = &view.members[chosen.member].process;
                    !process.stat.state.is_zombie() && told.insert(process.id)
                })
                .collect();
            if new.is_empty() {
                return true;
            }
            let held = new
                .iter()
                .map(|chosen| hold(self.host, container, &view.members[chosen.member], None))
                .collect();
            self.deliver(&view, &new, held);
        }
        false
    }

    /// Waits until all have ended, at most until `until`; tells for each whether it has.
    ///
    /// # Errors
    /// When poll(2) fails.
    pub fn wait(&self, until: Option<Instant>) -> Result<Vec<bool>, Error> {
        let held: Vec<&Held> = self.held.iter().flatten().collect();
        let mut ended = wait(&held, until)
            .map_err(|errno| Error::new(Exit::Failed, "cannot wait").because(errno))?
            .into_iter();
        // What was not held had gone.
        Ok(self.held.iter().map(|held| held.is_none() || ended.next().unwrap_or(true)).collect())
    }

    /// KILLs those that have not ended; tells which.
    pub fn kill(&self, ended: &[bool]) -> Vec<bool> {
        let order = Order { signal: SignalNumber::Signal(Signal::KILL), value: None };
        self.held
            .iter()
            .zip(ended)
            .map(|(held, ended)| {
                !ended && held.as_ref().is_some_and(|held| held.send(order).is_ok())
            })
            .collect()
    }

    /// Notes what became of each.
    pub fn note_outcomes(&mut self, ended: &[bool], killed: &[bool]) {
        for (at, row) in self.rows.iter_mut().enumerate() {
            let ended = ended.get(at).copied().unwrap_or(false);
            let killed = killed.get(at).copied().unwrap_or(false);
            row.outcome = Some(match (ended, killed) {
                (true, true) => Outcome::Killed,
                (true, false) => Outcome::Exited,
                (false, _) => Outcome::Running,
            });
        }
    }
}

/// The facts that these selectors need.
pub fn facts(selectors: &[Selector]) -> Facts {
    let commands = selectors.iter().any(Selector::needs_commands);
    let threads = selectors.iter().any(Selector::needs_threads);
    Facts {
        // A signal must not depend on a command line that may never come, unless it is asked for.
        command: if commands { CommandLimit::WHOLE } else { CommandLimit::Nothing },
        threads: if threads { ThreadsToo::Yes } else { ThreadsToo::No },
        ..BARE_FACTS
    }
}

/// Whom the selectors mean.
///
/// # Errors
/// The selector that means nobody.
pub fn choose(
    found: &Found,
    view: &View,
    selectors: &[Selector],
    except_init: bool,
) -> Result<Vec<Chosen>, Error> {
    let container = &found.container;
    let chosen =
        select(&view.members, container.init_pid(), container.depth, selectors, except_init);
    let name = container.qualified();
    let chosen = chosen.map_err(|selector| {
        Error::new(Exit::NoProcess, format!("no such process in `{name}`"))
            .because(format!(
                "`{}` fits none of its {} processes",
                selector.typed(),
                view.members.len()
            ))
            .hint(format!("`cinspect ps {name}` shows them"))
    })?;
    if chosen.is_empty() {
        return Err(Error::new(Exit::NoProcess, format!("no such process in `{name}`"))
            .because("what was chosen is the init alone, and `--except-init` leaves it out"));
    }
    Ok(chosen)
}

/// A refusal that is no target's own affair and stops everything before anything is sent.
fn stopping(refusal: &Refusal) -> Option<Error> {
    let error = |exit| Error::new(exit, "nothing was sent").because(refusal);
    match refusal {
        Refusal::TooMany(_) => Some(error(Exit::Failed).hint("raise it with `ulimit -n`")),
        Refusal::NoPidfd => {
            Some(error(Exit::Failed).hint("cinspect sends signals on Linux 5.3 and later"))
        }
        Refusal::NotPermitted if !capability::have(caps::Capability::CAP_KILL) => {
            Some(error(Exit::NotPermitted).hint("run as root, or with CAP_KILL"))
        }
        _ => None,
    }
}
