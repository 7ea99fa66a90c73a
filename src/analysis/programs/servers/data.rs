//! Databases, caches and queues.

use super::entry::*;

/// The name of Mosquitto.
pub const MOSQUITTO: &str = "Mosquitto";

/// THE TABLE.
pub(super) static DATA: &[Program] = &[
    // A client keeps it from exiting on TERM; without one it exits as on INT.
    Program {
        name: "PostgreSQL",
        preferred: instead_of_term(INT, false),
        matches: |p| runs(p, &["postgres"]),
        handles: &[HUP, INT, QUIT, USR1, TERM, CHLD],
        ignores: &[PIPE, TTIN, TTOU],
        notes: &[
            drains(
                &[TERM],
                "waits until every client has disconnected, writes a checkpoint, then exits; use INT for a fast, clean stop",
            ),
            exits(&[INT], "ends the sessions of its clients, writes a checkpoint, then exits"),
            exits(
                &[QUIT],
                "exits at once without a checkpoint; recovery follows at the next start",
            ),
            continues(&[HUP], "reloads its configuration"),
        ],
        workers: Workers::SameProgram,
        saves_on: &[TERM, INT],
        ..ALL
    },
    Program {
        name: "MariaDB, MySQL",
        matches: |p| runs(p, &["mariadbd", "mysqld"]),
        handles: &[HUP, TERM],
        ignores: &[PIPE],
        notes: &[
            exits(&[TERM, QUIT], "waits for its transactions, flushes its tables, then exits"),
            continues(&[HUP], "flushes its logs and tables"),
        ],
        saves_on: &[TERM, QUIT],
        ..Program::DEFAULT
    },
    // Debian's redis-server is a link. Its title overwrites its arguments, and CONFIG SET changes what it saves.
    Program {
        name: "Redis, Valkey",
        matches: |p| {
            runs(p, &["redis-server", "redis-check-rdb", "valkey-server", "valkey-check-rdb"])
                && p.stat.comm != b"redis-check-rdb"
        },
        handles: &[INT, TERM],
        ignores: &[HUP, PIPE],
        notes: &[exits(&[TERM, INT], "saves its data if it is configured to, then exits")],
        saves_on: &[TERM, INT],
        ..Program::DEFAULT
    },
    Program {
        name: "memcached",
        matches: |p| runs(p, &["memcached"]),
        handles: &[INT, TERM],
        ignores: &[PIPE],
        notes: &[
            exits(&[TERM, INT, USR1], "exits within a second"),
            continues(&[HUP], "continues"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: MOSQUITTO,
        matches: |p| runs(p, &["mosquitto"]),
        handles: &[HUP, INT, USR1, USR2, TERM],
        ignores: &[PIPE],
        notes: &[
            exits(&[TERM, INT], "saves its data if it is configured to, then exits"),
            continues(&[HUP], "reloads its configuration"),
            continues(&[USR1], "saves its data"),
        ],
        saves_on: &[TERM, INT],
        remark: "It blocks its signals except in a moment of each round of its loop.",
        ..Program::DEFAULT
    },
    // From 1.23 it waits for its clients on TERM, too.
    Program {
        name: "PgBouncer",
        matches: |p| runs(p, &["pgbouncer"]),
        handles: &[HUP, INT, TERM, USR1, USR2],
        notes: &[
            drains(
                &[TERM],
                "drops its clients or waits for them, depending on its version, then exits",
            ),
            drains(&[INT], "waits until every client has disconnected, then exits"),
            continues(&[HUP], "reloads its configuration"),
            continues(&[USR1], "pauses its databases"),
            continues(&[USR2], "resumes its databases"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "etcd",
        matches: |p| runs_go(p, "etcd"),
        notes: &[drains(&[TERM, INT], FINISHES)],
        ..GO
    },
    Program {
        name: "Prometheus",
        matches: |p| runs_go(p, "prometheus"),
        notes: &[
            drains(&[TERM, INT], "finishes open requests, closes its storage, then exits"),
            continues(&[HUP], "reloads its configuration"),
        ],
        saves_on: &[TERM, INT],
        ..GO
    },
    // The default handlers of Erlang/OTP (erl_signal_handler of kernel).
    Program {
        name: "Erlang/OTP",
        matches: |p| runs(p, &["beam.smp", "beam"]),
        handles: &[QUIT, USR1, TERM],
        ignores: &[PIPE, CHLD],
        notes: &[
            depends(
                &[TERM],
                "stops its applications, which may outlast the grace period, then exits",
            ),
            depends(&[INT], "asks at a terminal, and exits at once without one"),
            exits(&[QUIT], "exits at once"),
            depends(&[USR1], "writes a crash dump, which may take long, then exits"),
        ],
        ..ALL
    },
];
