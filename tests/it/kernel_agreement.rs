//! Predict, send, observe: what `judge` says of a signal is what the kernel then does, for every
//! state a process can be in, as the init of a PID namespace and as an ordinary child.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cinspect::testing::{
    Access, Host, Prediction, Recipient, Resolver, Signal, SignalSet, SnapshotOptions, Verdict,
    pidfd,
};
use libtest_mimic::{Failed, Trial};

use crate::harness::Container;
use crate::support::{Need, Outcome, check, fixture, not_applicable, test, test_with};

/// One of every default action, and those that the kernel treats apart.
const SIGNALS: &[&str] = &[
    "TERM", "INT", "HUP", "QUIT", "KILL", "USR1", "PIPE", "ABRT", "CHLD", "CONT", "STOP", "TSTP",
    "TTIN", "WINCH", "RTMIN+3",
];

/// What is done to the actors before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// By STOP from here.
    Stopped,
    /// By the freezer of v1.
    FrozenV1,
    /// By that of v2.
    FrozenV2,
}

/// Name of the test, and the actors' words; `@` is the signal.
const KINDS: &[(&str, &str)] = &[
    ("with_the_default", ""),
    ("with_a_handler", "handle=@"),
    ("that_ignore_it", "ignore=@"),
    ("that_block_it", "block=@"),
    ("that_block_and_ignore_it", "ignore=@ block=@"),
    ("that_block_and_handle_it", "handle=@ block=@"),
    ("that_block_it_in_a_second_thread", "thread-blocks=@"),
    ("that_block_it_in_the_main_thread_alone", "other-open=@"),
    ("that_ignore_it_and_block_it_in_the_main_thread_alone", "ignore=@ other-open=@"),
    ("that_handle_it_in_a_second_thread", "handle=@ other-open=@"),
    ("in_sigwait", "sigwait=@"),
    ("in_sigwait_for_what_they_ignore", "ignore=@ sigwait=@"),
    ("with_a_second_thread_in_sigwait", "other-sigwait=@"),
    ("that_read_a_signalfd", "signalfd-read=@"),
    ("that_poll_a_signalfd", "signalfd-poll=@"),
    ("that_select_a_signalfd", "signalfd-select=@"),
    ("that_watch_a_signalfd_by_epoll", "signalfd-epoll=@"),
    ("whose_signalfd_nobody_reads", "signalfd-nobody=@"),
    ("with_a_second_thread_at_a_signalfd", "other-signalfd-poll=@"),
    ("whose_signalfd_their_child_reads", "signalfd-childs=@"),
    ("that_wait_for_a_vfork", "vforks"),
    ("that_wait_for_a_vfork_with_a_handler", "handle=@ vforks"),
    ("that_wait_for_a_vfork_and_block_it", "block=@ vforks"),
];

/// Those whose answer changes with the state.
const IN_STATES: &[(&str, &str)] = &[
    ("with_the_default", ""),
    ("with_a_handler", "handle=@"),
    ("that_ignore_it", "ignore=@"),
    ("that_block_it", "block=@"),
];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, words) in KINDS {
        trials.push(trial(
            format!("kernel_agreement::children_{name}"),
            words,
            State::Running,
            false,
        ));
        trials.push(trial(format!("kernel_agreement::inits_{name}"), words, State::Running, true));
    }
    for (name, words) in IN_STATES {
        let states = [
            (State::Stopped, "stopped"),
            (State::FrozenV1, "frozen_by_v1"),
            (State::FrozenV2, "frozen_by_v2"),
        ];
        for (state, what) in states {
            for (init, who) in [(false, "children"), (true, "inits")] {
                let name = format!("kernel_agreement::{what}_{who}_{name}");
                trials.push(match freezer(state) {
                    None if state != State::Stopped => {
                        not_applicable(&name, "no such freezer here")
                    }
                    _ => trial(name, words, state, init),
                });
            }
        }
    }
    trials.push(test("kernel_agreement::the_tables_make_more_than_a_thousand_predictions", enough));
    let words = "signalfd-inherited-read=@";
    trials.push(trial(
        "kernel_agreement::children_with_a_signalfd_of_their_parents".into(),
        words,
        State::Running,
        false,
    ));
    trials.push(test_with(
        Need::Root,
        "kernel_agreement::an_epoll_that_is_the_parents_too",
        inherited,
    ));
    trials.push(test_with(Need::Root, "kernel_agreement::signals_for_one_thread_alone", threads));
    trials.push(test_with(
        Need::Root,
        "kernel_agreement::zombies_and_main_threads_that_left",
        ended,
    ));
    trials.push(test_with(Need::Root, "kernel_agreement::inits_of_nested_namespaces", nested));
    trials.push(test_with(Need::Root, "kernel_agreement::what_a_tracer_does_is_not_known", traced));
    trials
}

/// Each kind with each signal as init and as child, and those of the states in three states.
fn enough() -> Outcome {
    let many = 2 * SIGNALS.len() * (KINDS.len() + 3 * IN_STATES.len());
    check(many > 1000, format!("{many} alone"))
}

fn trial(name: String, words: &'static str, state: State, init: bool) -> Trial {
    test_with(Need::Root, name.leak(), move || match init {
        true => inits(words, state),
        false => children(words, state),
    })
}

/// What became of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Ended,
    Handled,
    Accepted,
    Stopped,
    Pending,
    Nothing,
}

struct Actor<'a> {
    container: &'a Container,
    name: String,
    pid: i32,
    signal: Signal,
}

impl Actor<'_> {
    fn look(&self) -> Seen {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid));
        let Ok(status) = status else { return Seen::Ended };
        let line = |key: &str| {
            let found = status.lines().find_map(|line| line.strip_prefix(key));
            found.unwrap_or_default().trim().to_owned()
        };
        let threads =
            std::fs::read_dir(format!("/proc/{}/task", self.pid)).map_or(0, Iterator::count);
        if line("State:").starts_with(['Z', 'X']) && threads <= 1 {
            return Seen::Ended;
        }
        let (signal, number) = (self.signal.name(), self.signal.number());
        for heard in self.container.heard() {
            if heard.starts_with(&format!("{} {signal} ", self.name)) {
                return Seen::Handled;
            }
            if heard == format!("{} accepted {number}", self.name) {
                return Seen::Accepted;
            }
        }
        if self.is_stopped() {
            return Seen::Stopped;
        }
        let mask = |key: &str| u64::from_str_radix(&line(key), 16).unwrap_or(0);
        let pending = mask("SigPnd:") | mask("ShdPnd:");
        if pending & (1 << (number - 1)) != 0 { Seen::Pending } else { Seen::Nothing }
    }

    fn is_stopped(&self) -> bool {
        // Of one whose main thread has left, the others tell.
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten();
        let mut stats =
            tasks.flatten().map(|task| std::fs::read_to_string(task.path().join("stat")));
        stats.any(|stat| {
            let stat = stat.unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        })
    }
}

fn kill(pid: i32, signal: i32) -> Outcome {
    let send = || {
        let process = pidfd::open(pid, pidfd::SignalScope::Process)?;
        pidfd::send(process, signal, None, pidfd::SignalScope::Process)
    };
    send().map_err(|errno| format!("kill: {errno}").into())
}

/// Predicts for all of a container's actors at one look.
fn predict(container: &Container, actors: &[Actor<'_>]) -> Result<Vec<Prediction>, Failed> {
    let error = |error: cinspect::testing::Error| Failed::from(error.to_string());
    let host = Host::new(Path::new("/")).map_err(|error| error.to_string())?;
    let found = Resolver::new(&host)
        .resolve(&format!("pid:{}", container.init), Access::Act)
        .map_err(error)?;
    let mut waits = SignalSet::EMPTY;
    actors.iter().for_each(|actor| waits.insert(actor.signal));
    let view = found.snapshot(SnapshotOptions { waits, ..SnapshotOptions::BARE }).map_err(error)?;
    let members: HashMap<i32, _> =
        view.processes.iter().map(|member| (member.facts.id.pid.get(), member)).collect();
    actors
        .iter()
        .map(|actor| {
            let member = members.get(&actor.pid).ok_or("an actor is not shown")?;
            Ok(view.predict(member, actor.signal, Recipient::Process))
        })
        .collect()
}

/// Whether what was seen is what was said; `stopped` before it was sent.
fn agrees(said: &Prediction, seen: Seen, stopped: bool) -> bool {
    match said.verdict {
        Verdict::Handled => seen == Seen::Handled,
        Verdict::Accepted => seen == Seen::Accepted,
        Verdict::Terminates | Verdict::Dumps => seen == Seen::Ended,
        Verdict::Stops => seen == Seen::Stopped,
        Verdict::Continues => stopped && seen != Seen::Stopped,
        Verdict::Pending => seen == Seen::Pending || (stopped && seen == Seen::Stopped),
        Verdict::Ignored | Verdict::Discarded => {
            seen == if stopped { Seen::Stopped } else { Seen::Nothing }
        }
        Verdict::Delayed => [Seen::Pending, Seen::Stopped].contains(&seen),
        // The one thing that depends on the kernel: it is one of the two that are said.
        Verdict::Unknown => {
            said.note.as_ref().is_some_and(|note| note.contains("some kernels terminate it"))
                && [Seen::Ended, Seen::Nothing].contains(&seen)
        }
        Verdict::NoEffect => false,
    }
}

/// Where the hierarchy with this freezer is mounted.
fn freezer(state: State) -> Option<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let places = match state {
        State::FrozenV1 => vec![top.join("freezer")],
        State::FrozenV2 => vec![top.to_owned(), top.join("unified")],
        _ => Vec::new(),
    };
    let v2 = |place: &PathBuf| place.join("cgroup.controllers").exists();
    places.into_iter().find(|place| place.is_dir() && v2(place) == (state == State::FrozenV2))
}

/// A freezer cgroup for these processes.
struct Ice(PathBuf);

impl Ice {
    fn new(top: &Path, pids: &[i32]) -> Result<Self, Failed> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("ice-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = top.join(name);
        std::fs::create_dir(&dir).map_err(|error| error.to_string())?;
        let ice = Self(dir.clone());
        for pid in pids {
            std::fs::write(dir.join("cgroup.procs"), pid.to_string())
                .map_err(|error| error.to_string())?;
        }
        ice.set(true)?;
        Ok(ice)
    }

    fn set(&self, frozen: bool) -> Outcome {
        let dir = &self.0;
        let v1 = dir.join("freezer.state");
        let (file, text, done) = if v1.exists() {
            (v1.clone(), if frozen { "FROZEN" } else { "THAWED" }, v1)
        } else {
            (dir.join("cgroup.freeze"), if frozen { "1" } else { "0" }, dir.join("cgroup.events"))
        };
        std::fs::write(&file, text).map_err(|error| error.to_string())?;
        let is = || {
            let told = std::fs::read_to_string(&done).unwrap_or_default();
            told.trim() == text || told.contains(&format!("frozen {text}"))
        };
        check(crate::support::wait_until(is), "it does not freeze")
    }
}

impl Drop for Ice {
    fn drop(&mut self) {
        let _ = self.set(false);
        // Back to the top, so that nothing is left behind.
        let inside = std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for pid in inside.lines() {
            let top = self.0.parent().unwrap_or(&self.0).join("cgroup.procs");
            let _ = std::fs::write(top, pid);
        }
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Sends each its signal, and compares.
fn play(container: &Container, actors: &[Actor<'_>], state: State) -> Outcome {
    let pids: Vec<i32> = actors.iter().map(|actor| actor.pid).collect();
    let mut ice = None;
    match state {
        State::Running => {}
        State::Stopped => {
            for actor in actors {
                kill(actor.pid, Signal::STOP.number())?;
            }
            let all = || actors.iter().all(Actor::is_stopped);
            check(crate::support::wait_until(all), "they do not stop")?;
        }
        State::FrozenV1 | State::FrozenV2 => {
            let top = freezer(state).ok_or("no freezer")?;
            ice = Some(Ice::new(&top, &pids)?);
        }
    }
    let stopped = state == State::Stopped;
    let said = predict(container, actors)?;
    for actor in actors {
        kill(actor.pid, actor.signal.number())?;
    }
    let mut wrong = compare(actors, &said, state);
    // What was delayed comes true when they run again.
    if state != State::Running {
        drop(ice);
        for actor in actors.iter().filter(|_| stopped) {
            let _ = kill(actor.pid, Signal::CONT.number());
        }
        let later: Vec<Prediction> = said
            .iter()
            .map(|said| Prediction { verdict: said.later.unwrap_or(said.verdict), ..said.clone() })
            .collect();
        let due: Vec<usize> =
            (0..actors.len()).filter(|at| said[*at].verdict == Verdict::Delayed).collect();
        let those: Vec<Actor<'_>> =
            due.iter().map(|at| Actor { name: actors[*at].name.clone(), ..actors[*at] }).collect();
        let later: Vec<Prediction> = due.iter().map(|at| later[*at].clone()).collect();
        check(
            later.iter().all(|later| later.verdict != Verdict::Delayed),
            "nothing is said of later",
        )?;
        wrong.extend(compare(&those, &later, State::Running));
    }
    check(wrong.is_empty(), wrong.join("\n"))
}

/// Looks until all is as it was said, or for long enough to know that it is not; and then once more,
/// for what was said to be nothing.
fn compare(actors: &[Actor<'_>], said: &[Prediction], state: State) -> Vec<String> {
    let stopped = state == State::Stopped;
    let until = Instant::now() + Duration::from_secs(5);
    let wrong = || -> Vec<String> {
        let each = actors.iter().zip(said).map(|(actor, said)| (actor, said, actor.look()));
        each.filter(|(_, said, seen)| !agrees(said, *seen, stopped))
            .map(|(actor, said, seen)| {
                format!("{} to {}: said {said:?}, seen {seen:?}", actor.signal.name(), actor.name)
            })
            .collect()
    };
    // What a running process does not have pending any more has been acted on. (One that is stopped,
    // frozen or blocked keeps it.)
    let settled = |actor: &Actor<'_>| crate::harness::is_settled(actor.pid);
    while state == State::Running && !actors.iter().all(settled) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
    loop {
        let now = wrong();
        if now.is_empty() || Instant::now() > until {
            return now;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(name: &str) -> Signal {
    Signal::parse(name).expect("a signal of the list")
}

/// One container, with a child for each signal.
fn children(words: &str, state: State) -> Outcome {
    let mut lines = "init".to_owned();
    for (at, name) in SIGNALS.iter().enumerate() {
        lines.push_str(&format!("\n> c{at} {}", words.replace('@', name)));
    }
    let container = fixture(&lines)?;
    let host = host_pids(&container)?;
    let actors: Vec<Actor<'_>> = SIGNALS
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let own = format!("c{at}");
            let pid = host.get(&container.inside[&own]).copied().unwrap_or(0);
            Actor { container: &container, name: own, pid, signal: signal(name) }
        })
        .collect();
    play(&container, &actors, state)
}

/// A container for each signal, whose init is the actor.
fn inits(words: &str, state: State) -> Outcome {
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let running: Vec<_> = SIGNALS
            .iter()
            .map(|name| {
                scope.spawn(move || {
                    let container = fixture(&format!("init {}", words.replace('@', name)))?;
                    let actor = Actor {
                        container: &container,
                        name: "init".into(),
                        pid: container.init,
                        signal: signal(name),
                    };
                    play(&container, &[actor], state)
                })
            })
            .collect();
        let died = || Err("it panicked".into());
        running.into_iter().map(|thread| thread.join().unwrap_or_else(|_| died())).collect()
    });
    let wrong: Vec<String> = outcomes
        .into_iter()
        .filter_map(|outcome| outcome.err()?.message().map(str::to_owned))
        .collect();
    check(wrong.is_empty(), wrong.join("\n"))
}

/// PIDs on the host by PIDs inside.
fn host_pids(container: &Container) -> Result<HashMap<i32, i32>, Failed> {
    let word = format!("pid:{}", container.init);
    let rows = crate::support::run(&["--json", "ps", &word]).expect(0)?.objects();
    let pair = |row: &serde_json::Value| {
        Some((row["pid"].as_i64()? as i32, row["host_pid"].as_i64()? as i32))
    };
    Ok(rows.iter().filter_map(pair).collect())
}

/// A zombie takes nothing; a process whose main thread has left takes what its other threads take.
fn ended() -> Outcome {
    let container =
        fixture("init\n> keeper\n> > gone exit\n> left main-leaves\n> heir main-leaves")?;
    let host = host_pids(&container)?;
    let actor = |name: &str, signal: Signal| Actor {
        container: &container,
        name: name.into(),
        pid: host[&container.inside[name]],
        signal,
    };
    let zombie = actor("gone", Signal::TERM);
    let said = predict(&container, std::slice::from_ref(&zombie))?;
    crate::support::same(said[0].verdict, Verdict::NoEffect)?;
    kill(zombie.pid, Signal::TERM.number())?;
    play(&container, &[actor("left", Signal::TERM), actor("heir", Signal::STOP)], State::Running)
}

/// A tracer sees every signal first, but KILL, and may swallow it.
fn traced() -> Outcome {
    let container = fixture("init\n> handles handle=TERM\n> killed\n> blocks block=TERM")?;
    let host = host_pids(&container)?;
    let actor = |name: &str, signal: Signal| Actor {
        container: &container,
        name: name.into(),
        pid: host[&container.inside[name]],
        signal,
    };
    let actors = [
        actor("handles", Signal::TERM),
        actor("killed", Signal::KILL),
        actor("blocks", Signal::TERM),
    ];
    for actor in &actors {
        let pid = nix::unistd::Pid::from_raw(actor.pid);
        nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty())
            .map_err(|errno| errno.to_string())?;
    }
    let said = predict(&container, &actors)?;
    crate::support::same(said[0].verdict, Verdict::Unknown)?;
    let note = said[0].note.clone().unwrap_or_default();
    check(note.contains("sees the signal first"), note)?;
    kill(actors[0].pid, Signal::TERM.number())?;
    // It has stopped for its tracer: the signal was taken and no handler has run.
    let traced = || {
        std::fs::read_to_string(format!("/proc/{}/status", actors[0].pid))
            .is_ok_and(|status| status.contains("(tracing stop)"))
    };
    check(crate::support::wait_until(traced), "no signal-delivery-stop")?;
    check(actors[0].look() != Seen::Handled, "the tracer has let it through")?;
    play(&container, &actors[1..], State::Running)
}

/// Whoever has put a signalfd into an epoll is woken, and not who waits there after a fork.
fn inherited() -> Outcome {
    let container = fixture("init\n> one signalfd-inherited-epoll=TERM")?;
    let host = host_pids(&container)?;
    let pid = host[&container.inside["one"]];
    let actor = Actor { container: &container, name: "one".into(), pid, signal: Signal::TERM };
    let said = predict(&container, std::slice::from_ref(&actor))?;
    crate::support::same(said[0].verdict, Verdict::Unknown)?;
    let note = said[0].note.clone().unwrap_or_default();
    check(note.contains("shares with its parent"), note)?;
    kill(pid, Signal::TERM.number())?;
    std::thread::sleep(Duration::from_millis(300));
    crate::support::same(actor.look(), Seen::Pending)
}

/// A signal for a thread is that thread's, however the others stand to it.
fn threads() -> Outcome {
    type Said = (Verdict, Seen);
    const ALL: &[(&str, &str, [Said; 2])] = &[
        (
            "one",
            "thread-blocks=TERM",
            [(Verdict::Terminates, Seen::Ended), (Verdict::Pending, Seen::Nothing)],
        ),
        (
            "two",
            "handle=TERM thread-blocks=TERM",
            [(Verdict::Handled, Seen::Handled), (Verdict::Pending, Seen::Nothing)],
        ),
        (
            "three",
            "other-open=TERM",
            [(Verdict::Pending, Seen::Pending), (Verdict::Terminates, Seen::Ended)],
        ),
        (
            "four",
            "other-sigwait=TERM",
            [(Verdict::Pending, Seen::Pending), (Verdict::Accepted, Seen::Accepted)],
        ),
    ];
    for (name, words, expected) in ALL {
        for (at, (verdict, seen)) in expected.iter().enumerate() {
            let container = fixture(&format!("init\n> {name} {words}"))?;
            let inside = container.inside[*name];
            let pid = host_pids(&container)?[&inside];
            // Where a handler is, a thread listens to it; the last one is that of the words.
            let tasks =
                std::fs::read_dir(format!("/proc/{pid}/task")).map_err(|e| e.to_string())?;
            let mut tids: Vec<i32> =
                tasks.flatten().filter_map(|t| t.file_name().to_str()?.parse().ok()).collect();
            tids.sort_unstable();
            let tid = if at == 0 { pid } else { *tids.last().ok_or("no thread")? };
            let status = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/status"));
            let status = status.map_err(|error| error.to_string())?;
            let own = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            let own = own.and_then(|line| line.split_whitespace().last()).ok_or("no NSpid")?;
            let word = format!("pid:{}", container.init);
            let rows = crate::support::run(&["--json", "signal", &word, "TERM", "--tid", own]);
            let rows = rows.expect(0)?.objects();
            let told = (rows[0]["verdict"].as_str().unwrap_or_default().to_owned(), *name, at);
            crate::support::same(told, (verdict.name().to_owned(), *name, at))?;
            let actor =
                Actor { container: &container, name: (*name).into(), pid, signal: Signal::TERM };
            let as_said = || actor.look() == *seen;
            let ok = crate::support::wait_until(as_said);
            check(ok, format!("{name} {at}: said {verdict:?}, seen {:?}", actor.look()))?;
        }
    }
    Ok(())
}

/// The init of a namespace in a container is shielded from its outer container and from the host.
fn nested() -> Outcome {
    let mut wrong = Vec::new();
    for name in SIGNALS {
        let container = fixture("init\n> maker nested\n> > inner\n> > > leaf")?;
        let word = format!("pid:{}", container.init);
        let rows = crate::support::run(&["--json", "ps", &word]).expect(0)?.objects();
        let inner = rows.iter().find(|row| row["comm"] == "inner").ok_or("no inner")?;
        let actor = Actor {
            container: &container,
            name: "inner".into(),
            pid: inner["host_pid"].as_i64().unwrap_or(0) as i32,
            signal: signal(name),
        };
        if let Err(error) = play(&container, &[actor], State::Running) {
            wrong.push(error.message().unwrap_or_default().to_owned());
        }
    }
    check(wrong.is_empty(), wrong.join("\n"))
}
