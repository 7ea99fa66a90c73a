//! Daemons: name and mail servers, logs, time, jobs.

use super::entry::*;
use crate::model::signal::Signal;

/// THE TABLE.
pub(super) static DAEMONS: &[Program] = &[
    Program {
        name: "rsyslogd",
        matches: |p| runs(p, &["rsyslogd"]),
        handles: &[HUP, TERM, CHLD, TTIN],
        ignores: &[PIPE],
        notes: &[
            exits(&[TERM, INT, QUIT], "writes its queues, then exits"),
            continues(&[HUP], "reopens its files"),
        ],
        saves_on: &[TERM, INT, QUIT],
        ..Program::DEFAULT
    },
    Program {
        name: "dnsmasq",
        asked: |p, signal| {
            // With -d it leaves INT to stop it at a terminal.
            let is_debug = |word: &[u8]| [&b"-d"[..], b"--no-daemon"].contains(&word);
            let found = p.command.known()?.argv().any(is_debug);
            (found && signal == INT)
                .then(|| (Outcome::Exits, "exits at once (option -d)".to_owned()))
        },
        matches: |p| runs(p, &["dnsmasq"]),
        handles: &[HUP, USR1, USR2, TERM, ALRM, CHLD],
        ignores: &[PIPE],
        notes: &[
            exits(&[TERM], "exits at once"),
            continues(&[INT], "continues"),
            continues(&[HUP], "clears its cache and reads its files again"),
            continues(&[USR1], "writes statistics to the log"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "Unbound",
        matches: |p| runs(p, &["unbound"]),
        handles: &[HUP, INT, QUIT, TERM],
        ignores: &[PIPE],
        notes: &[
            exits(&[TERM, INT, QUIT], "exits at once"),
            continues(&[HUP], "reloads its configuration"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "sshd",
        forwards: Forwarding::None,
        matches: |p| runs(p, &["sshd"]),
        handles: &[HUP, QUIT, TERM, CHLD],
        ignores: &[PIPE],
        notes: &[
            exits(&[TERM, QUIT], "exits at once; its sessions continue"),
            continues(&[HUP], "executes itself again"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "cron",
        matches: |p| runs(p, &["cron"]),
        handles: &[HUP, CHLD],
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
            continues(&[ALRM], "rotates its logs"),
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
            continues(&[ALRM], "rotates its logs"),
        ],
        ..Program::DEFAULT
    },
    // It blocks its signals and polls for them once a second. Measured: on TERM as PID 1 it sends TERM and
    // KILL to its children and exits after about 3.5 s; left uncertain, because reboot(2) follows.
    Program {
        name: "busybox init",
        matches: |p| applet(p) == Some(b"init"),
        notes: &[note(
            &[TERM, USR1, USR2, Signal::PWR],
            Effect::Pending,
            "polls for it once a second, stops its children and exits or reboots",
        )],
        ..Program::DEFAULT
    },
    Program {
        name: "BIND named",
        matches: |p| runs(p, &["named"]),
        ignores: &[PIPE],
        notes: &[
            exits(&[TERM, INT], "writes its zones, then exits"),
            continues(&[HUP], "reloads its zones"),
        ],
        saves_on: &[TERM, INT],
        ..Program::DEFAULT
    },
    Program {
        name: "chronyd",
        matches: |p| runs(p, &["chronyd"]),
        handles: &[HUP, INT, QUIT, TERM],
        ignores: &[PIPE],
        notes: &[exits(&[TERM, INT, QUIT, HUP], "exits at once")],
        ..Program::DEFAULT
    },
    Program {
        name: "slapd",
        matches: |p| runs(p, &["slapd"]),
        handles: &[HUP, INT, TERM, USR1, USR2],
        ignores: &[PIPE],
        notes: &[
            depends(
                &[TERM, INT],
                "waits for operations under way, which may outlast the grace period, closes its databases, then exits",
            ),
            depends(&[HUP], "does the same, or with gentlehup waits for its clients"),
        ],
        ..Program::DEFAULT
    },
    // Its services run other programs; the kernel kills the log service with it.
    Program {
        name: "Dovecot",
        matches: |p| runs(p, &["dovecot"]),
        handles: &[HUP, INT, USR1, TERM, CHLD, ALRM],
        ignores: &[PIPE],
        notes: &[
            exits(&[TERM, INT], "stops its services, then exits"),
            reloads(&[HUP], "reloads its configuration and replaces its services"),
            continues(&[USR1], "reopens its logs"),
        ],
        ..ALL
    },
    Program {
        name: "ProFTPD",
        matches: |p| runs(p, &["proftpd"]),
        handles: &[HUP, INT, TERM, USR2, CHLD],
        ignores: &[PIPE],
        notes: &[
            exits(&[TERM, INT], "ends its sessions, then exits"),
            continues(&[HUP], "reloads its configuration"),
            continues(&[USR2], "continues"),
        ],
        ..ALL
    },
    Program {
        name: "inetd",
        forwards: Forwarding::None,
        matches: |p| runs(p, &["inetd"]),
        handles: &[HUP, INT, TERM, CHLD, ALRM],
        ignores: &[PIPE],
        notes: &[
            exits(&[TERM, INT], "exits at once; its sessions continue"),
            continues(&[HUP], "reloads its configuration"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "Keepalived",
        matches: |p| runs(p, &["keepalived"]),
        handles: &[HUP, INT, TERM, USR1, CHLD],
        ignores: &[QUIT, PIPE],
        notes: &[
            exits(&[TERM, INT], "stops its processes, then exits"),
            continues(&[HUP], "reloads its configuration"),
            continues(&[USR1, USR2], "writes its state to a file"),
        ],
        workers: Workers::SameProgram,
        ..ALL
    },
    Program {
        name: "monit",
        matches: |p| runs(p, &["monit"]),
        handles: &[HUP, INT, TERM, USR1],
        ignores: &[PIPE],
        notes: &[
            exits(&[TERM, INT], "exits at once; the programs that it watches continue"),
            continues(&[HUP], "reloads its configuration"),
            continues(&[USR1], "checks its services at once"),
        ],
        forwards: Forwarding::None,
        ..Program::DEFAULT
    },
    Program {
        name: "top",
        matches: |p| runs(p, &["top"]),
        handles: &[INT, QUIT, TERM, TTIN, WINCH, CONT],
        notes: &[exits(&[TERM, INT, QUIT, HUP, USR1, USR2], "restores the terminal and exits")],
        ..Program::DEFAULT
    },
    // Its handler exits with 128 plus the number of the signal (`bb_signals(BB_FATAL_SIGS, …)`).
    Program {
        name: "busybox top, klogd",
        matches: |p| applet(p).is_some_and(|applet| [&b"top"[..], b"klogd"].contains(&applet)),
        handles: &[HUP, INT, QUIT, TERM, USR1, USR2],
        notes: &[exits(&[TERM, INT, QUIT, HUP, USR1, USR2], "cleans up and exits")],
        ..Program::DEFAULT
    },
    Program {
        name: "busybox udhcpc",
        matches: |p| applet(p) == Some(b"udhcpc"),
        handles: &[TERM, USR1, USR2],
        notes: &[
            exits(&[TERM], "exits at once"),
            continues(&[USR1], "renews its lease"),
            continues(&[USR2], "releases its lease"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "busybox syslogd",
        matches: |p| applet(p) == Some(b"syslogd"),
        handles: &[INT, TERM],
        ignores: &[HUP],
        notes: &[exits(&[TERM, INT], "exits at once")],
        ..Program::DEFAULT
    },
    Program {
        name: "Exim",
        forwards: Forwarding::None,
        matches: |p| runs(p, &["exim4", "exim"]),
        handles: &[HUP, INT, TERM, USR1, CHLD],
        ignores: &[PIPE],
        notes: &[
            exits(&[TERM, INT], "exits at once; its deliveries continue"),
            continues(&[HUP], "executes itself again"),
            continues(&[USR1], "logs its state"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "NSD",
        matches: |p| runs(p, &["nsd"]),
        handles: &[HUP, INT, TERM, USR1, CHLD],
        ignores: &[PIPE],
        notes: &[
            exits(&[TERM, INT, QUIT], "stops its servers, then exits"),
            reloads(&[HUP], "reloads its zones and replaces its servers"),
            continues(&[USR1], "writes statistics to the log"),
        ],
        ..ALL
    },
    Program {
        name: "Celery",
        matches: |p| runs_script(p, &PYTHON, "celery"),
        handles: &[HUP, INT, TERM, QUIT, USR1],
        ignores: &[PIPE],
        notes: &[
            depends(&[TERM, INT], "waits for its running tasks, then exits"),
            depends(&[QUIT], "drops its running tasks, then exits"),
            depends(&[HUP], "restarts itself, or exits"),
        ],
        ..ALL
    },
];
