//! THE TABLE OF SERVERS: databases, queues, proxies, web servers and daemons. Each entry was measured with
//! Debian 12's program as PID 1 and below tini, and is held against it in `tests/it/forecast.rs`.

use super::recognise::{applet, runs, runs_script, runs_version};
use super::{Effect, Forwarding, PreferredSignal, Program, ProgramNote, note};
use crate::model::signal::Signal;

const TERM: Signal = Signal::TERM;
const INT: Signal = Signal::INT;
const QUIT: Signal = Signal::QUIT;
const HUP: Signal = Signal::HUP;
const USR1: Signal = Signal::USR1;
const USR2: Signal = Signal::USR2;
const WINCH: Signal = Signal::WINCH;

const fn exits(signals: &'static [Signal], text: &'static str) -> ProgramNote {
    note(signals, Effect::Received, text).exits()
}

const fn continues(signals: &'static [Signal], text: &'static str) -> ProgramNote {
    note(signals, Effect::Received, text).continues()
}

const fn reloads(signals: &'static [Signal], text: &'static str) -> ProgramNote {
    note(signals, Effect::Received, text).replaces_workers()
}

/// The clients decide how long it takes, so it may outlast any grace period.
const fn drains(signals: &'static [Signal]) -> ProgramNote {
    note(
        signals,
        Effect::Received,
        "finishes open requests, then exits; a slow client may outlast the grace period",
    )
}

const fn instead_of_term(signal: Signal, kills: bool) -> Option<PreferredSignal> {
    Some(PreferredSignal { instead_of: TERM, signal, kills })
}

/// A server with workers that run its own program.
const MASTER: Program =
    Program { forwards: Forwarding::All, stops_workers: true, ..Program::DEFAULT };

/// THE TABLE.
pub(super) static SERVERS: &[Program] = &[
    Program {
        name: "nginx",
        preferred: instead_of_term(QUIT, false),
        matches: |p| runs(p, &["nginx", "nginx-debug", "openresty"]),
        notes: &[
            exits(
                &[TERM, INT],
                "exits at once and drops open requests; use QUIT for a graceful stop",
            ),
            drains(&[QUIT]),
            reloads(&[HUP], "reloads its configuration and replaces its workers"),
            continues(&[USR1], "reopens its logs"),
            continues(&[WINCH], "continues (as a daemon: stops its workers)"),
        ],
        ..MASTER
    },
    Program {
        name: "Apache httpd",
        preferred: instead_of_term(WINCH, false),
        matches: |p| runs(p, &["apache2", "httpd"]),
        notes: &[
            exits(
                &[TERM, INT],
                "exits at once and drops open requests; use WINCH for a graceful stop",
            ),
            drains(&[WINCH]),
            reloads(&[HUP, USR1], "reloads its configuration and replaces its workers"),
        ],
        ..MASTER
    },
    // Without -W it has the default action for TERM and INT.
    Program {
        name: "HAProxy",
        preferred: instead_of_term(USR1, false),
        matches: |p| runs(p, &["haproxy"]),
        notes: &[
            exits(
                &[TERM, INT],
                "exits at once and drops open connections; use USR1 for a graceful stop",
            ),
            drains(&[USR1]),
            reloads(&[HUP], "with -W: reloads its configuration and replaces its workers"),
            continues(&[QUIT], "writes its memory pools to the log"),
        ],
        ..MASTER
    },
    Program {
        name: "lighttpd",
        preferred: instead_of_term(INT, false),
        matches: |p| runs(p, &["lighttpd"]),
        notes: &[
            exits(&[TERM], "exits at once and drops open requests; use INT for a graceful stop"),
            drains(&[INT]),
            continues(&[HUP], "reopens its logs"),
            continues(&[USR1], "restarts itself gracefully"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "PHP-FPM",
        preferred: instead_of_term(QUIT, false),
        matches: |p| runs_version(p, "php-fpm"),
        notes: &[
            exits(
                &[TERM, INT],
                "exits at once and drops open requests; use QUIT for a graceful stop",
            ),
            drains(&[QUIT]),
            continues(&[USR1], "reopens its logs"),
            reloads(&[USR2], "reloads its configuration and replaces its workers"),
        ],
        ..MASTER
    },
    Program {
        name: "Gunicorn",
        matches: |p| runs_script(p, "python", "gunicorn"),
        notes: &[
            // Measured: it exits at once most times, and sometimes only after seconds.
            note(
                &[TERM],
                Effect::Received,
                "finishes open requests, then exits, within its graceful timeout (30 s)",
            ),
            note(
                &[INT, QUIT],
                Effect::Received,
                "stops its workers, then exits, within its graceful timeout (30 s)",
            ),
            reloads(&[HUP], "reloads its configuration and replaces its workers"),
            continues(&[USR1], "reopens its logs"),
            continues(&[WINCH], "continues (as a daemon: stops its workers)"),
        ],
        ..MASTER
    },
    Program {
        name: "uWSGI",
        preferred: instead_of_term(INT, true),
        matches: |p| runs(p, &["uwsgi", "uwsgi-core"]),
        notes: &[
            note(
                &[TERM],
                Effect::Received,
                "replaces its workers unless it runs with die-on-term; use INT to stop it",
            ),
            exits(&[INT, QUIT], "stops its workers, then exits"),
            reloads(&[HUP], "reloads and replaces its workers"),
        ],
        ..MASTER
    },
    // A client keeps it from exiting on TERM; without one it exits as on INT.
    Program {
        name: "PostgreSQL",
        preferred: instead_of_term(INT, false),
        matches: |p| runs(p, &["postgres"]),
        notes: &[
            note(
                &[TERM],
                Effect::Received,
                "waits until every client has disconnected, then exits; use INT for a fast, clean stop",
            ),
            exits(&[INT], "ends the sessions of its clients, then exits cleanly"),
            exits(
                &[QUIT],
                "exits at once without a checkpoint; recovery follows at the next start",
            ),
            continues(&[HUP], "reloads its configuration"),
        ],
        ..MASTER
    },
    Program {
        name: "MariaDB, MySQL",
        matches: |p| runs(p, &["mariadbd", "mysqld"]),
        notes: &[
            exits(&[TERM, QUIT], "shuts down cleanly, then exits"),
            continues(&[HUP], "flushes its logs and tables"),
        ],
        ..Program::DEFAULT
    },
    // Debian's redis-server is a link.
    Program {
        name: "Redis, Valkey",
        matches: |p| {
            runs(p, &["redis-server", "redis-check-rdb", "valkey-server", "valkey-check-rdb"])
                && p.stat.comm != b"redis-check-rdb"
        },
        notes: &[exits(&[TERM, INT], "saves its data if it is configured to, then exits")],
        ..Program::DEFAULT
    },
    Program {
        name: "memcached",
        matches: |p| runs(p, &["memcached"]),
        notes: &[
            exits(&[TERM, INT], "exits at once"),
            drains(&[USR1]),
            continues(&[HUP], "continues"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "Mosquitto",
        matches: |p| runs(p, &["mosquitto"]),
        notes: &[
            exits(&[TERM, INT], "exits at once"),
            continues(&[HUP], "reloads its configuration"),
            continues(&[USR1], "saves its data"),
        ],
        remark: "It blocks its signals except in a moment of each round of its loop.",
        ..Program::DEFAULT
    },
    Program {
        name: "rsyslogd",
        matches: |p| runs(p, &["rsyslogd"]),
        notes: &[
            exits(&[TERM, INT, QUIT], "writes its queues, then exits"),
            continues(&[HUP], "reopens its files"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "dnsmasq",
        matches: |p| runs(p, &["dnsmasq"]),
        notes: &[
            exits(&[TERM], "exits at once"),
            continues(&[INT], "continues (with -d: exits)"),
            continues(&[HUP], "clears its cache and reads its files again"),
            continues(&[USR1], "writes statistics to the log"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "Unbound",
        matches: |p| runs(p, &["unbound"]),
        notes: &[
            exits(&[TERM, INT, QUIT], "exits at once"),
            continues(&[HUP], "reloads its configuration"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "stunnel",
        matches: |p| runs(p, &["stunnel", "stunnel4"]),
        notes: &[
            exits(&[TERM, INT, QUIT], "exits at once and drops open connections"),
            continues(&[HUP], "reloads its configuration"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "Uvicorn",
        matches: |p| runs_script(p, "python", "uvicorn"),
        notes: &[drains(&[TERM, INT])],
        ..Program::DEFAULT
    },
    Program {
        name: "sshd",
        forwards: Forwarding::None,
        matches: |p| runs(p, &["sshd"]),
        notes: &[
            exits(&[TERM, QUIT], "exits at once; its sessions continue"),
            continues(&[HUP], "executes itself again"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "cron",
        matches: |p| runs(p, &["cron"]),
        notes: &[continues(&[HUP], "reopens its log")],
        ..Program::DEFAULT
    },
    // With -p it ignores TERM (s6-log(1)).
    Program {
        name: "s6-log",
        forwards: Forwarding::None,
        matches: |p| {
            let is_protected = |word: &[u8]| word.starts_with(b"-") && word.contains(&b'p');
            let line = p.command.known();
            runs(p, &["s6-log"]) && line.is_some_and(|line| !line.argv().any(is_protected))
        },
        notes: &[
            exits(&[TERM, HUP], "writes the line that it has begun to read, then exits"),
            continues(&[Signal::ALRM], "rotates its logs"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "svlogd",
        forwards: Forwarding::None,
        matches: |p| runs(p, &["svlogd"]) || applet(p) == Some(b"svlogd"),
        notes: &[
            exits(&[TERM], "writes what it has read, then exits"),
            continues(&[HUP], "reads its configuration again"),
            continues(&[Signal::ALRM], "rotates its logs"),
        ],
        ..Program::DEFAULT
    },
    // It blocks its signals and polls for them once a second. Measured: on TERM as PID 1 it sends TERM and
    // KILL to its children and exits after about 3.5 s; left uncertain, because reboot(2) follows.
    Program {
        name: "busybox init",
        matches: |p| applet(p) == Some(b"init"),
        notes: &[note(
            &[TERM, USR1, USR2],
            Effect::Pending,
            "polls for it once a second, stops its children and exits or reboots",
        )],
        ..Program::DEFAULT
    },
    Program {
        name: "busybox httpd",
        matches: |p| applet(p) == Some(b"httpd"),
        notes: &[continues(&[HUP], "reads its configuration again")],
        ..Program::DEFAULT
    },
];
