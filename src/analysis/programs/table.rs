//! THE TABLE OF PROGRAMS. Each entry is held against the real program in `tests/it/programs.rs`.

use super::recognise::{
    NODE_JS, PYTHON, applet, is_jvm, is_waiting_init, runs, runs_script, runs_version,
};
use super::{Effect, Forwarding, PreferredSignal, Program, forwarding, go, node, note};
use crate::model::program_signals::{has_go_handlers, has_libuv_handlers};
use crate::model::signal::Signal;

/// The name of tini and of the inits that forward signals as it does.
pub const TINI: &str = "tini, docker-init, catatonit";
/// The name of npm.
pub const NPM: &str = "npm";
/// The name of yarn.
pub const YARN: &str = "yarn";
/// The name of make.
pub const MAKE: &str = "make";
/// The name of the programs that forward to a command, and exit when it has.
pub const RUNNER: &str = "timeout, sudo, su, runuser";
/// The name of s6's supervisor of all services.
pub const S6_SVSCAN: &str = "s6-svscan";
/// The name of s6's supervisor of a service.
pub const S6_SUPERVISE: &str = "s6-supervise";
/// The name of supervisord.
pub const SUPERVISORD: &str = "supervisord";
/// The name of runit.
pub const RUNIT: &str = "runit";
/// The name of runit's supervisor of a service.
pub const RUNSV: &str = "runsv";
/// The name of dumb-init.
pub const DUMB_INIT: &str = "dumb-init";
/// The name of Node.js.
pub const NODE: &str = "Node.js";
/// The name of the shells.
pub const SHELL: &str = "shell";
/// Their executables.
pub const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh"];

/// THE TABLE: the first entry that matches is used.
pub(super) static RUNTIMES: &[Program] = &[
    Program {
        name: "Go",
        label: "Go runtime",
        matches: |p| has_go_handlers(p.status.sig_cgt, p.status.sig_ign),
        asked: go::outcome,
        notes: &[
            note(
                &[Signal::TERM, Signal::INT, Signal::HUP],
                Effect::Handled,
                "exits with status 2 (128 plus the signal number since Go 1.27) unless the program asked for it (signal.Notify)",
            )
            .for_init(),
            note(
                &[Signal::TERM, Signal::INT, Signal::HUP],
                Effect::Handled,
                "is terminated by it unless the program asked for it (signal.Notify)",
            )
            .otherwise(),
            note(
                &[Signal::QUIT],
                Effect::Handled,
                "prints the stacks of all goroutines and exits with status 2 unless the program asked for it (signal.Notify)",
            ),
        ],
        remark: "Go catches nearly every signal, and sends itself URG all the time. The signals that the program asked for are read from its memory, so its reaction is usually known.",
        ..Program::DEFAULT
    },
    // It forwards to `sh -c`, which does not forward to the program.
    Program {
        name: NPM,
        forwards: Forwarding::Child,
        matches: |p| runs(p, &["node", "nodejs"]) && p.stat.comm.starts_with(b"npm "),
        notes: &[note(
            &[Signal::TERM, Signal::INT],
            Effect::Handled,
            "forwards it to the shell that runs the script, and exits when that has",
        )],
        ..Program::DEFAULT
    },
    // Its first release; it forwards TERM as npm does.
    Program {
        name: YARN,
        forwards: Forwarding::Child,
        matches: |p| {
            ["yarn", "yarn.js", "yarnpkg"]
                .into_iter()
                .any(|script| runs_script(p, &NODE_JS, script))
        },
        notes: &[
            note(
                &[Signal::TERM],
                Effect::Handled,
                "forwards it to the shell that runs the script, and exits when that has",
            ),
            note(&[Signal::INT], Effect::Handled, "does not forward it"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: NODE,
        label: "Node.js",
        matches: |p| {
            runs(p, &["node", "nodejs"])
                && has_libuv_handlers(p.status.sig_cgt, p.status.sig_ign)
        },
        asked: node::outcome,
        notes: &[
            note(
                &[Signal::TERM, Signal::INT],
                Effect::Handled,
                "ignores it unless the program has a listener for it (process.on)",
            )
            .for_init(),
            note(
                &[Signal::TERM, Signal::INT],
                Effect::Handled,
                "is terminated by it unless the program has a listener for it (process.on)",
            )
            .otherwise(),
            note(&[Signal::USR1], Effect::Handled, "starts its inspector").continues(),
        ],
        remark: "Its handlers restore the terminal and raise the signal again with the default action, which the kernel discards for PID 1. The signals that the program listens for are read from its memory, unless its file is stripped.",
        ..Program::DEFAULT
    },
    Program {
        name: "JVM",
        label: "JVM",
        matches: |p| is_jvm(p),
        notes: &[
            note(
                &[Signal::TERM, Signal::INT, Signal::HUP],
                Effect::Handled,
                "runs its shutdown hooks, which may outlast the grace period, then exits with 128 plus the signal number",
            ),
            note(&[Signal::QUIT], Effect::Handled, "prints a thread dump and continues").continues(),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: SUPERVISORD,
        forwards: Forwarding::All,
        matches: |p| runs_script(p, &PYTHON, "supervisord"),
        notes: &[
            note(
                &[Signal::TERM, Signal::INT, Signal::QUIT],
                Effect::Handled,
                "stops its programs, each with its own stop signal, then exits",
            ),
            note(
                &[Signal::HUP],
                Effect::Handled,
                "rereads its configuration and restarts all programs",
            )
            .replaces_workers(),
            note(&[Signal::USR2], Effect::Handled, "reopens its logs").continues(),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "CPython",
        label: "Python",
        matches: |p| runs_version(p, "python"),
        notes: &[note(
            &[Signal::INT],
            Effect::Handled,
            "raises KeyboardInterrupt in the main thread unless the program has its own handler",
        )],
        remark: "TERM has its default action unless the program sets a handler.",
        ..Program::DEFAULT
    },
    // Zend's handlers are installed in place of the program's own, and are the same without one
    // (Zend/zend_signal.c).
    Program {
        name: "PHP",
        label: "PHP",
        matches: |p| runs_version(p, "php"),
        handles: &[Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::PROF],
        notes: &[
            note(
                &[Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2],
                Effect::Handled,
                "interrupts a system call and does nothing else, unless the program has a handler for it (pcntl_signal)",
            )
            .for_init(),
            note(
                &[Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2],
                Effect::Handled,
                "is terminated by it unless the program has a handler for it (pcntl_signal)",
            )
            .otherwise(),
        ],
        ..Program::DEFAULT
    },
    // Ruby catches them itself, with and without `trap`; its faults and VTALRM distinguish it from others.
    Program {
        name: "Ruby",
        label: "Ruby",
        matches: |p| runs_version(p, "ruby"),
        handles: &[Signal::HUP, Signal::INT, Signal::TERM, Signal::CHLD, Signal::SEGV],
        notes: &[note(
            &[
                Signal::TERM,
                Signal::INT,
                Signal::HUP,
                Signal::QUIT,
                Signal::ALRM,
                Signal::USR1,
                Signal::USR2,
            ],
            Effect::Handled,
            "raises an exception in the main thread unless the program has its own handler (trap)",
        )],
        ..Program::DEFAULT
    },
    Program {
        name: TINI,
        forwards: Forwarding::Child,
        // Podman's has another name where it is mounted.
        matches: |p| {
            is_waiting_init(p)
                && (runs(p, &["tini", "tini-static", "docker-init", "catatonit", "podman-init"])
                    || p.exe.known().is_some_and(|exe| exe == b"/dev/init"))
        },
        by_options: forwarding::tini_note,
        notes: &[note(&[], Effect::Accepted, "forwards it to its direct child only")],
        remark: "With -g it forwards it to the process group of its child.",
        ..Program::DEFAULT
    },
    Program {
        name: DUMB_INIT,
        forwards: Forwarding::All,
        matches: |p| runs(p, &["dumb-init"]),
        // Each with a handler that does nothing.
        handles: &[
            Signal::HUP,
            Signal::INT,
            Signal::QUIT,
            Signal::ILL,
            Signal::ABRT,
            Signal::BUS,
            Signal::USR1,
            Signal::SEGV,
            Signal::USR2,
            Signal::TERM,
            Signal::CHLD,
            Signal::WINCH,
            Signal::PWR,
            Signal::SYS,
        ],
        by_options: forwarding::dumb_init_note,
        notes: &[note(&[], Effect::Received, "forwards it to the whole session of its child")],
        remark: "With -c it forwards it to its child only, with --rewrite as another signal.",
        ..Program::DEFAULT
    },
    // As PID 1 of a container or of a machine, and as the manager of a user's session (systemd(1),
    // SIGNALS).
    Program {
        name: "systemd",
        forwards: Forwarding::All,
        preferred: Some(PreferredSignal {
            instead_of: Signal::TERM,
            signal: Signal::RTMIN_3,
            kills: true,
        }),
        matches: |p| runs(p, &["systemd"]),
        notes: &[
            note(
                &[Signal::RTMIN_3],
                Effect::Received,
                "stops every unit, each with its own stop signal, then exits",
            ),
            note(
                &[Signal::TERM],
                Effect::Received,
                "re-executes itself and stops nothing; use RTMIN+3 to stop it",
            )
            .continues()
            .for_init(),
            note(&[Signal::TERM], Effect::Received, "stops its units, then exits").otherwise(),
            note(&[Signal::HUP], Effect::Received, "reloads its units").continues(),
        ],
        ..Program::DEFAULT
    },
    // PID 1 of `systemd-nspawn --as-pid2` (nspawn-stub-pid1.c). It blocks every other signal.
    Program {
        name: "stub init of systemd-nspawn",
        preferred: Some(PreferredSignal {
            instead_of: Signal::TERM,
            signal: Signal::RTMIN_3,
            kills: true,
        }),
        matches: |p| &*p.stat.comm == b"(sd-stubinit)",
        notes: &[
            note(&[Signal::TERM], Effect::Pending, "blocks it and never waits for it").continues(),
            note(
                &[Signal::RTMIN_3],
                Effect::Accepted,
                "sends TERM and HUP to its command, and exits when that does",
            ),
            note(
                &[Signal::INT],
                Effect::Accepted,
                "does the same, and systemd-nspawn starts the container again",
            )
            .continues(),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: S6_SVSCAN,
        forwards: Forwarding::All,
        matches: |p| runs(p, &["s6-svscan"]),
        notes: &[
            note(
                &[Signal::TERM, Signal::INT, Signal::QUIT],
                Effect::Received,
                "stops its services, each with its own stop signal, then exits",
            ),
            note(&[Signal::HUP], Effect::Received, "looks for new services").continues(),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: S6_SUPERVISE,
        forwards: Forwarding::Child,
        matches: |p| runs(p, &["s6-supervise"]),
        notes: &[note(
            &[Signal::TERM],
            Effect::Received,
            "stops its service with the stop signal of that service, then exits",
        )],
        ..Program::DEFAULT
    },
    // runit(8): stage 3 follows on CONT if /etc/runit/stopit (Debian: /run/runit.stopit) is executable.
    Program {
        name: RUNIT,
        forwards: Forwarding::All,
        preferred: Some(PreferredSignal {
            instead_of: Signal::TERM,
            signal: Signal::CONT,
            kills: true,
        }),
        matches: |p| runs(p, &["runit"]),
        notes: &[
            note(
                &[Signal::TERM, Signal::HUP],
                Effect::Pending,
                "blocks it permanently; CONT makes it exit if its file stopit is executable",
            )
            .continues(),
            note(
                &[Signal::CONT],
                Effect::Handled,
                "ends its stage 2, runs its stage 3 and exits, if its file stopit is executable",
            ),
        ],
        ..Program::DEFAULT
    },
    // runsvdir(8). Measured: on HUP, as PID 1 it exits before any runsv has.
    Program {
        name: "runsvdir",
        forwards: Forwarding::None,
        matches: |p| runs(p, &["runsvdir"]) || applet(p) == Some(b"runsvdir"),
        notes: &[
            note(
                &[Signal::TERM],
                Effect::Handled,
                "exits at once, without signalling its services",
            )
            .exits(),
            note(
                &[Signal::HUP],
                Effect::Handled,
                "makes every runsv stop its service, and exits without waiting",
            ),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: RUNSV,
        forwards: Forwarding::Child,
        matches: |p| runs(p, &["runsv"]) || applet(p) == Some(b"runsv"),
        notes: &[note(
            &[Signal::TERM],
            Effect::Handled,
            "sends TERM and CONT to its service, and exits when that has exited",
        )],
        ..Program::DEFAULT
    },
    Program {
        name: RUNNER,
        forwards: Forwarding::Child,
        matches: |p| runs(p, &["timeout", "sudo", "su", "runuser"]),
        notes: &[note(
            &[Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT],
            Effect::Received,
            "forwards it to its command (su, runuser: as TERM), and exits when that has",
        )],
        remark: "su and runuser send KILL after 2 s; timeout does with -k.",
        ..Program::DEFAULT
    },
    Program {
        name: MAKE,
        forwards: Forwarding::Child,
        matches: |p| runs(p, &["make", "gmake"]),
        notes: &[
            note(
                &[Signal::TERM],
                Effect::Handled,
                "forwards it to its commands, and exits when they have",
            ),
            note(
                &[Signal::INT, Signal::HUP, Signal::QUIT],
                Effect::Handled,
                "waits for its commands, to which it does not forward it",
            ),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "watch",
        forwards: Forwarding::None,
        matches: |p| runs(p, &["watch"]),
        notes: &[
            note(&[Signal::TERM, Signal::INT, Signal::HUP], Effect::Handled, "exits at once")
                .exits(),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: SHELL,
        matches: |p| {
            runs(p, SHELLS)
                || applet(p).is_some_and(|applet| [&b"sh"[..], b"ash"].contains(&applet))
        },
        notes: &[
            note(
                &[Signal::INT],
                Effect::Handled,
                "the shell catches INT itself, whether it has a trap or not",
            ),
            note(
                &[],
                Effect::Handled,
                "the trap runs at once in `wait` and `read`, otherwise after the foreground command has exited; the shell itself does not forward the signal to its children",
            ),
            note(
                &[],
                Effect::Discarded,
                "the shell has no trap, so the kernel discards the signal; it is not forwarded to its children",
            )
            .for_init(),
            note(
                &[],
                Effect::Terminates,
                "the shell is terminated; the signal is not forwarded to its children",
            ),
        ],
        ..Program::DEFAULT
    },
];
