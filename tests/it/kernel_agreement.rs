//! Predict, send, observe: the kernel does what `predict` says, for every state a process can be in, as
//! the init of a PID namespace and as an ordinary child.

use std::collections::HashMap;

use cinspect::testing::Signal;
use libtest_mimic::{Failed, Trial};

use crate::harness::Container;
use crate::support::{
    Need, Outcome, check, fixture, not_applicable, run, test, test_with, test_with_programs,
};
use agreement::{Actor, send_and_compare};

mod agreement;
mod cases;
pub mod freezer;
mod traced;

/// A signal for every default action, and the ones with rules of their own in the kernel.
const SIGNALS: &[&str] = &[
    "TERM", "INT", "HUP", "QUIT", "KILL", "USR1", "PIPE", "ABRT", "CHLD", "CONT", "STOP", "TSTP",
    "TTIN", "WINCH", "RTMIN+3",
];

/// The state of the actors when they are signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Running,
    /// By SIGSTOP from the host.
    Stopped,
    /// By the freezer of v1.
    FrozenV1,
    /// By the freezer of v2.
    FrozenV2,
}

/// The end of the test name, and the actor's line in the process spec; `@` is the signal.
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
    ("that_watch_a_signalfd_by_nested_epolls", "signalfd-nested-epolls=@"),
    ("that_poll_an_epoll_of_a_signalfd", "signalfd-polled-epoll=@"),
    ("with_an_unread_signalfd", "signalfd-unread=@"),
    ("with_a_second_thread_polling_a_signalfd", "other-signalfd-poll=@"),
    ("with_a_signalfd_read_by_a_child", "signalfd-child-reads=@"),
    ("that_wait_for_a_vfork", "vforks"),
    ("that_wait_for_a_vfork_with_a_handler", "handle=@ vforks"),
    ("that_wait_for_a_vfork_and_block_it", "block=@ vforks"),
];

/// Kinds whose prediction depends on the state.
const KINDS_BY_STATE: &[(&str, &str)] = &[
    ("with_the_default", ""),
    ("with_a_handler", "handle=@"),
    ("that_ignore_it", "ignore=@"),
    ("that_block_it", "block=@"),
    ("in_sigwait", "sigwait=@"),
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
    for (name, words) in KINDS_BY_STATE {
        let states = [
            (State::Stopped, "stopped"),
            (State::FrozenV1, "frozen_by_v1"),
            (State::FrozenV2, "frozen_by_v2"),
        ];
        for (state, state_name) in states {
            for (init, position) in [(false, "children"), (true, "inits")] {
                let name = format!("kernel_agreement::{state_name}_{position}_{name}");
                trials.push(match freezer::mount_point(state) {
                    None if state != State::Stopped => {
                        not_applicable(&name, "no such freezer on this host")
                    }
                    _ => trial(name, words, state, init),
                });
            }
        }
    }
    trials.push(test(
        "kernel_agreement::tables_make_more_than_a_thousand_predictions",
        count_predictions,
    ));
    let words = "signalfd-inherited-read=@";
    trials.push(trial(
        "kernel_agreement::children_with_a_signalfd_of_their_parent".into(),
        words,
        State::Running,
        false,
    ));
    trials.push(test_with(
        Need::Root,
        "kernel_agreement::epoll_shared_with_the_parent",
        cases::inherited_epoll,
    ));
    trials.push(test_with(
        Need::Root,
        "kernel_agreement::a_signalfd_that_may_be_read_next_is_unknown",
        cases::unknown_readers,
    ));
    trials.push(test_with_programs(
        &["python3"],
        "kernel_agreement::more_threads_than_are_read_are_unknown",
        cases::too_many,
    ));
    trials.push(test_with(
        Need::Root,
        "kernel_agreement::a_verdict_that_the_kernel_contradicts_is_shown",
        traced::contradicted,
    ));
    trials.push(test_with_programs(
        &["perl", "/usr/bin/python3", "node"],
        "kernel_agreement::no_verdict_on_a_busy_program_is_contradicted",
        traced::busy_programs,
    ));
    trials.push(test_with(
        Need::Root,
        "kernel_agreement::signals_to_a_single_thread",
        cases::threads,
    ));
    trials.push(test_with(
        Need::Root,
        "kernel_agreement::zombies_and_exited_main_threads",
        cases::exited,
    ));
    trials.push(test_with(
        Need::Root,
        "kernel_agreement::inits_of_nested_namespaces",
        cases::nested,
    ));
    trials.push(test_with(
        Need::Root,
        "kernel_agreement::traced_processes_are_unknown",
        cases::traced,
    ));
    trials
}

/// Counts each kind with each signal as init and as child, and the kinds by state in three states.
fn count_predictions() -> Outcome {
    let count = 2 * SIGNALS.len() * (KINDS.len() + 3 * KINDS_BY_STATE.len());
    check(count > 1000, format!("only {count} predictions"))
}

fn trial(name: String, words: &'static str, state: State, init: bool) -> Trial {
    test_with(Need::Root, name.leak(), move || match init {
        true => inits(words, state),
        false => children(words, state),
    })
}

/// Parses a signal of the table.
fn signal(name: &str) -> Signal {
    Signal::parse(name).expect("a signal of the table")
}

/// Runs one container with a child for each signal.
fn children(words: &str, state: State) -> Outcome {
    let mut lines = "init".to_owned();
    for (index, name) in SIGNALS.iter().enumerate() {
        lines.push_str(&format!("\n> c{index} {}", words.replace('@', name)));
    }
    let container = fixture(&lines)?;
    let host_pids = host_pids(&container)?;
    let actors: Vec<Actor<'_>> = SIGNALS
        .iter()
        .enumerate()
        .map(|(index, signal_name)| {
            let name = format!("c{index}");
            let pid = host_pids.get(&container.pids[&name]).copied().unwrap_or(0);
            Actor { container: &container, name, pid, signal: signal(signal_name) }
        })
        .collect();
    send_and_compare(&container, &actors, state)
}

/// Runs a container for each signal, whose init is the actor.
fn inits(words: &str, state: State) -> Outcome {
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let threads: Vec<_> = SIGNALS
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
                    send_and_compare(&container, &[actor], state)
                })
            })
            .collect();
        let panicked = || Err("a thread panicked".into());
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).collect()
    });
    let wrong: Vec<String> = outcomes
        .into_iter()
        .filter_map(|outcome| outcome.err()?.message().map(str::to_owned))
        .collect();
    check(wrong.is_empty(), wrong.join("\n"))
}

/// Returns the host PIDs by the PIDs in the container, as `ps` shows them.
fn host_pids(container: &Container) -> Result<HashMap<i32, i32>, Failed> {
    let reference = format!("pid:{}", container.init);
    let rows = run(&["--json", "ps", &reference]).expect(0)?.objects();
    let pids = |row: &serde_json::Value| {
        Some((row["pid"].as_i64()? as i32, row["host_pid"].as_i64()? as i32))
    };
    Ok(rows.iter().filter_map(pids).collect())
}
