//! Stops a container: the signal of each step, to whom and in which order, the waiting, and KILL for
//! what is left; and tells as it goes who was told what and who left when.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::freeze::FreezeGuard;
use super::send::{
    HeldProcess, SendError, SignalRequest, hold, kill_cgroup, raise_fd_limit, wait_for_all,
};
use crate::analysis::container_process::ContainerProcess;
use crate::analysis::delivery::{Prediction, Recipient};
use crate::analysis::selection::Criteria;
use crate::error::{Error, ExitStatus};
use crate::model::pid::{ContainerPid, HostPid, ProcessId};
use crate::model::signal::{Signal, SignalNumber, SignalSet};
use crate::proc::SnapshotOptions;
use crate::resolve::ResolvedContainer;
use crate::resolve::processes::ContainerSnapshot;
use crate::sys::pidfd::Ending;

/// Who is told first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopOrder {
    /// The init alone, as the engines do.
    Init,
    /// All at once.
    All,
    /// Whoever has no children, then their parents, the init last.
    ChildrenFirst,
}

/// A signal, and how long whoever got it has to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopStep {
    /// The signal.
    pub signal: Signal,
    /// Until the next step.
    pub grace: Duration,
}

/// How a container is to be stopped.
#[derive(Clone, Debug)]
pub struct StopProcedure {
    /// One after the other.
    pub steps: Vec<StopStep>,
    /// To whom.
    pub first: StopOrder,
    /// Whether KILL comes in the end.
    pub kill: bool,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub struct StopEvent {
    /// Since the start.
    pub at: Duration,
    /// What.
    pub what: StopEventKind,
    /// To which process; none for what is about the whole.
    pub who: Option<ProcessRef>,
    /// The signal, where it is about one.
    pub signal: Option<Signal>,
    /// What the signal was judged to do.
    pub judgement: Option<Prediction>,
}

/// A process in an event.
#[derive(Clone, Debug)]
pub struct ProcessRef {
    /// Its number inside.
    pub pid: Option<ContainerPid>,
    /// And on the host.
    pub host_pid: HostPid,
    /// Its name.
    pub comm: Vec<u8>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopEventKind {
    /// A signal was sent.
    Signalled,
    /// A signal could not be sent, and why.
    Refused(String),
    /// A process left; how, where the kernel tells.
    Exited(Option<Ending>),
    /// Time is over; so many are left.
    GraceOver(usize),
    /// KILL was sent, or came from the kernel with the end of the init, to one who had not left.
    Killed {
        /// By the kernel, so that it never heard of the stop, or had no time.
        unheard: bool,
    },
    /// A signal would be sent.
    Planned,
    /// So many are waited for, and so long at most.
    Waiting {
        /// Processes.
        left: usize,
        /// Until the next step.
        rest: Option<Duration>,
    },
    /// Nobody is left. Whether all left by themselves, and how many were killed.
    Stopped {
        /// Nobody was killed.
        graceful: bool,
        /// So many were.
        killed: usize,
    },
    /// Time is over and it was not to be killed, or KILL did not end it: so many are left.
    Left(usize),
}

/// A process that is watched.
struct WatchedProcess {
    who: ProcessRef,
    id: ProcessId,
    held: HeldProcess,
    /// Whether it was there at the first look.
    early: bool,
    told: bool,
    ended: bool,
    killed: bool,
}

/// How often it is looked who is there, beside when somebody leaves.
const LOOK: Duration = Duration::from_millis(200);
/// How long KILL may take.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// A stop under way.
pub struct StopRun<'a> {
    found: &'a ResolvedContainer<'a>,
    way: &'a StopProcedure,
    begun: Instant,
    tell: &'a mut dyn FnMut(StopEvent),
    watched: Vec<WatchedProcess>,
    known: HashSet<ProcessId>,
    /// Whether anybody was told.
    sent: bool,
    /// What was said when somebody could not be.
    refused: Option<SendError>,
}

/// Stops it. True when nobody is left.
///
/// # Errors
/// What keeps us from beginning; nothing was sent then.
pub fn stop(
    found: &ResolvedContainer<'_>,
    way: &StopProcedure,
    tell: &mut dyn FnMut(StopEvent),
) -> Result<bool, Error> {
    raise_fd_limit();
    let begun = Instant::now();
    let (watched, known) = (Vec::new(), HashSet::new());
    StopRun { found, way, begun, tell, watched, known, sent: false, refused: None }.run()
}

impl StopRun<'_> {
    fn run(mut self) -> Result<bool, Error> {
        for (at, step) in self.way.steps.iter().enumerate() {
            for watched in &mut self.watched {
                watched.told = false;
            }
            let until = Instant::now().checked_add(step.grace);
            let half = Instant::now().checked_add(step.grace / 2);
            self.step(*step, until, half, at == 0)?;
            if self.left() == 0 {
                return Ok(self.finish());
            }
            let left = self.left();
            self.event(StopEventKind::GraceOver(left), None, None, None);
        }
        if self.way.kill {
            self.kill();
            if self.left() == 0 {
                return Ok(self.finish());
            }
        }
        let left = self.left();
        self.event(StopEventKind::Left(left), None, None, None);
        Ok(false)
    }

    fn finish(&mut self) -> bool {
        let killed = self.watched.iter().filter(|watched| watched.killed).count();
        self.event(StopEventKind::Stopped { graceful: killed == 0, killed }, None, None, None);
        true
    }

    fn left(&self) -> usize {
        self.watched.iter().filter(|watched| !watched.ended).count()
    }

    fn event(
        &mut self,
        what: StopEventKind,
        who: Option<ProcessRef>,
        signal: Option<Signal>,
        judgement: Option<Prediction>,
    ) {
        let at = self.begun.elapsed();
        (self.tell)(StopEvent { at, what, who, signal, judgement });
    }

    /// One step: tells whoever is to be told, again and again, until all have left or time is over.
    fn step(
        &mut self,
        step: StopStep,
        until: Option<Instant>,
        half: Option<Instant>,
        first: bool,
    ) -> Result<(), Error> {
        let facts =
            SnapshotOptions { waits: SignalSet::from(step.signal), ..SnapshotOptions::BARE };
        let mut begun = false;
        loop {
            match self.found.snapshot(facts) {
                Ok(view) => {
                    self.watch(&view, first && !begun)?;
                    let late = half.is_some_and(|half| Instant::now() >= half);
                    // First who has left, then who is told because of that.
                    self.note_ends();
                    self.tell_those(&view, step.signal, late);
                    // Not to wait for what nobody was told.
                    if let (false, Some(SendError::NotPermitted)) = (self.sent, &self.refused) {
                        return Err(Error::new(ExitStatus::NotPermitted, "nothing was sent")
                            .cause("it takes CAP_KILL, or the same user")
                            .hint("run as root"));
                    }
                }
                // It has ended, or what is left of it is not to be seen.
                Err(error) if first && !begun && self.watched.is_empty() => return Err(error),
                Err(_) => {}
            }
            begun = true;
            self.note_ends();
            let now = Instant::now();
            if self.left() == 0 || until.is_some_and(|until| now >= until) {
                return Ok(());
            }
            let (left, rest) = (self.left(), until.map(|until| until - now));
            self.event(StopEventKind::Waiting { left, rest }, None, None, None);
            let next = now + LOOK;
            self.sleep(until.map_or(next, |until| until.min(next)));
        }
    }

    /// Whether its init lives; when it does not, who appears now may be of the next container that
    /// the engine has started in its place.
    fn init_lives(&self) -> bool {
        self.found.container.init.is_some_and(|init| {
            self.found.host.stat(init.pid).is_ok_and(|stat| stat.start == init.start)
        })
    }

    /// Holds whoever is there and not held yet.
    fn watch(&mut self, view: &ContainerSnapshot, first: bool) -> Result<(), Error> {
        let lives = first || self.init_lives();
        for member in view.processes.iter().filter(|member| member.in_container && lives) {
            if member.facts.stat.has_exited() || self.known.contains(&member.facts.id) {
                continue;
            }
            match hold(self.found, member, None, Criteria::default()) {
                Ok(held) => {
                    self.known.insert(member.facts.id);
                    self.watched.push(WatchedProcess {
                        who: who(member),
                        id: member.facts.id,
                        held,
                        early: first,
                        told: false,
                        ended: false,
                        killed: false,
                    });
                }
                Err(SendError::Gone | SendError::LeftContainer | SendError::Changed(_)) => {}
                Err(refusal) if first => {
                    return Err(Error::new(ExitStatus::NotPermitted, "nothing was sent")
                        .cause(refusal.to_string()));
                }
                Err(refusal) => {
                    self.known.insert(member.facts.id);
                    self.event(
                        StopEventKind::Refused(refusal.to_string()),
                        Some(who(member)),
                        None,
                        None,
                    );
                }
            }
        }
        Ok(())
    }

    /// Tells those whose turn it is.
    fn tell_those(&mut self, view: &ContainerSnapshot, signal: Signal, late: bool) {
        let init = self.found.container.init;
        let at: HashMap<ProcessId, usize> =
            view.processes.iter().enumerate().map(|(at, m)| (m.facts.id, at)).collect();
        // Parents of whoever is still there of the first ones: who starts children all the time, as a
        // loop in a shell does, would never be told before time is short.
        let early: HashSet<ProcessId> =
            self.watched.iter().filter(|w| w.early && !w.ended).map(|w| w.id).collect();
        let lives = |member: &&ContainerProcess| {
            !member.facts.stat.state.is_zombie() && early.contains(&member.facts.id)
        };
        let parents: HashSet<usize> =
            view.processes.iter().filter(lives).filter_map(|member| member.parent).collect();
        let others = self.watched.iter().any(|w| !w.ended && Some(w.id) != init);
        let mut turn: Vec<(usize, usize)> = Vec::new();
        for (index, watched) in self.watched.iter().enumerate() {
            let Some(member) = at.get(&watched.id).filter(|_| !watched.told && !watched.ended)
            else {
                continue;
            };
            let is_init = Some(watched.id) == init;
            let is_turn = match self.way.first {
                StopOrder::Init => is_init || init.is_none(),
                StopOrder::All => true,
                StopOrder::ChildrenFirst if late => true,
                StopOrder::ChildrenFirst if is_init => !others,
                StopOrder::ChildrenFirst => !parents.contains(member),
            };
            if is_turn {
                turn.push((index, *member));
            }
        }
        // The init last: it may take the others with it.
        turn.sort_by_key(|(index, _)| Some(self.watched[*index].id) == init);
        for (index, member) in turn {
            let judgement = view.predict(&view.processes[member], signal, Recipient::Process);
            let order = SignalRequest { signal: SignalNumber::Signal(signal), value: None };
            let watched = &mut self.watched[index];
            watched.told = true;
            let sent = watched.held.send(order);
            let who = watched.who.clone();
            let what = match sent {
                Ok(()) => {
                    self.sent = true;
                    StopEventKind::Signalled
                }
                Err(SendError::Gone) => continue,
                Err(refusal) => {
                    let what = StopEventKind::Refused(refusal.to_string());
                    self.refused = Some(refusal);
                    what
                }
            };
            let killed = signal == Signal::KILL && what == StopEventKind::Signalled;
            self.watched[index].killed |= killed;
            let what = if killed { StopEventKind::Killed { unheard: false } } else { what };
            self.event(what, Some(who), Some(signal), Some(judgement));
        }
    }

    /// Sleeps until somebody leaves, at most until then.
    fn sleep(&self, until: Instant) {
        let living: Vec<&HeldProcess> =
            self.watched.iter().filter(|w| !w.ended).map(|w| &w.held).collect();
        // Returns as soon as one has ended; who goes on is waited for in the next round.
        let _ = crate::action::send::wait_for_any(&living, until);
    }

    /// Notes who has left. When the init leaves, the kernel ends what is left in its namespace: those
    /// were killed, though not by us.
    fn note_ends(&mut self) {
        let init = self.found.container.init;
        let mut ended: Vec<usize> = (0..self.watched.len())
            .filter(|at| !self.watched[*at].ended && self.watched[*at].held.has_exited())
            .collect();
        // (While it is on its way out it still stands, and its children have been killed already.)
        let leaves = |watched: &WatchedProcess| {
            Some(watched.id) == init
                && (watched.held.has_exited()
                    || self.found.host.stat(watched.id.pid).is_ok_and(|stat| stat.is_exiting()))
        };
        let with_init = self.found.container.owns_pid_ns && self.watched.iter().any(leaves);
        if with_init {
            // All of them, in a moment.
            let until = Instant::now() + Duration::from_millis(500);
            let rest: Vec<&HeldProcess> =
                self.watched.iter().filter(|w| !w.ended).map(|w| &w.held).collect();
            let _ = wait_for_all(&rest, Some(until));
            ended = (0..self.watched.len())
                .filter(|at| !self.watched[*at].ended && self.watched[*at].held.has_exited())
                .collect();
        }
        // In the order of their leaving, as far as that can be told: the init after its children.
        ended.sort_by_key(|at| Some(self.watched[*at].id) == init);
        for at in ended {
            let watched = &mut self.watched[at];
            watched.ended = true;
            // Reaped or not: it may be reaped between the two questions.
            let unreaped =
                || self.found.host.wait_status(watched.id).and_then(Ending::from_wait_status);
            let ending = watched.held.ending().or_else(unreaped).or_else(|| watched.held.ending());
            let is_init = Some(watched.id) == init;
            // Where the kernel does not tell (before Linux 6.15), who ends in the same moment as the
            // init is taken for one that ended with it.
            let by_kill = ending.is_none_or(|ending| ending.signal() == Some(Signal::KILL));
            let unheard = with_init && !is_init && by_kill && !watched.killed;
            let who = watched.who.clone();
            if unheard {
                watched.killed = true;
                let what = StopEventKind::Killed { unheard: true };
                self.event(what, Some(who), Some(Signal::KILL), None);
            } else {
                self.event(StopEventKind::Exited(ending), Some(who), None, None);
            }
        }
    }

    /// KILL for what is left: the cgroup at once where that is exact, else each, and again while it
    /// makes new ones.
    fn kill(&mut self) {
        let until = Instant::now() + KILL_PATIENCE;
        let living: Vec<&HeldProcess> =
            self.watched.iter().filter(|w| !w.ended).map(|w| &w.held).collect();
        if self.init_lives() && kill_cgroup(self.found.host, &self.found.container, &living) {
            let killed: Vec<ProcessRef> =
                self.watched.iter().filter(|w| !w.ended).map(|w| w.who.clone()).collect();
            for watched in self.watched.iter_mut().filter(|w| !w.ended) {
                watched.killed = true;
                watched.told = true;
            }
            for who in killed {
                self.event(
                    StopEventKind::Killed { unheard: false },
                    Some(who),
                    Some(Signal::KILL),
                    None,
                );
            }
        } else {
            // Where there is a namespace its init takes all of it; but it may not be ours to kill.
            let init = self.found.container.init;
            // Where there is none, whoever is held still makes no new ones.
            let still = (!self.found.container.owns_pid_ns)
                .then(|| FreezeGuard::freeze(self.found))
                .flatten();
            if still.is_some()
                && let Ok(view) = self.found.snapshot(SnapshotOptions::BARE)
            {
                let _ = self.watch(&view, false);
            }
            let order = SignalRequest { signal: SignalNumber::Signal(Signal::KILL), value: None };
            let owns = self.found.container.owns_pid_ns;
            let mut turn: Vec<usize> =
                (0..self.watched.len()).filter(|at| !self.watched[*at].ended).collect();
            turn.sort_by_key(|at| (Some(self.watched[*at].id) == init) != owns);
            for at in turn {
                let sent = self.watched[at].held.send(order);
                let who = self.watched[at].who.clone();
                match sent {
                    Ok(()) => {
                        self.watched[at].killed = true;
                        self.event(
                            StopEventKind::Killed { unheard: false },
                            Some(who),
                            Some(Signal::KILL),
                            None,
                        );
                    }
                    Err(SendError::Gone) => {}
                    Err(refusal) => {
                        self.event(
                            StopEventKind::Refused(refusal.to_string()),
                            Some(who),
                            None,
                            None,
                        );
                    }
                }
            }
            drop(still);
        }
        while self.left() > 0 && Instant::now() < until {
            self.note_ends();
            if self.left() == 0 {
                break;
            }
            // Who was made meanwhile, in a container without a namespace that dies with its init.
            if let Ok(view) = self.found.snapshot(SnapshotOptions::BARE)
                && self.watch(&view, false).is_ok()
            {
                self.kill_new();
            }
            self.sleep(until.min(Instant::now() + Duration::from_millis(50)));
        }
        self.note_ends();
    }

    fn kill_new(&mut self) {
        let order = SignalRequest { signal: SignalNumber::Signal(Signal::KILL), value: None };
        for at in 0..self.watched.len() {
            let watched = &mut self.watched[at];
            if !watched.ended && !watched.killed && watched.held.send(order).is_ok() {
                watched.killed = true;
                let who = watched.who.clone();
                self.event(
                    StopEventKind::Killed { unheard: false },
                    Some(who),
                    Some(Signal::KILL),
                    None,
                );
            }
        }
    }
}

/// A member as an event names it.
pub fn who(member: &ContainerProcess) -> ProcessRef {
    ProcessRef {
        pid: member.pid,
        host_pid: member.facts.id.pid,
        comm: member.facts.stat.comm.clone(),
    }
}
