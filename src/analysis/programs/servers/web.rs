//! Web servers, proxies and application servers.

use super::entry::*;
use crate::model::signal::Signal;

/// The name of uWSGI with a master.
pub const UWSGI_MASTER: &str = "uWSGI";
/// Executables of uWSGI.
const UWSGI: &[&str] = &["uwsgi", "uwsgi-core"];

/// THE TABLE.
pub(super) static WEB: &[Program] = &[
    Program {
        name: "nginx",
        preferred: instead_of_term(QUIT, false),
        matches: |p| runs(p, &["nginx", "nginx-debug", "openresty"]),
        handles: &[HUP, INT, QUIT, USR1, USR2, TERM, CHLD, WINCH, Signal::IO],
        ignores: &[PIPE, Signal::SYS],
        notes: &[
            exits(
                &[TERM, INT],
                "exits at once and drops open requests; use QUIT for a graceful stop",
            ),
            drains(&[QUIT], FINISHES),
            reloads(&[HUP], "reloads its configuration and replaces its workers"),
            continues(&[USR1], "reopens its logs"),
            continues(&[WINCH], "continues (as a daemon: stops its workers)"),
        ],
        workers: Workers::SameProgram,
        ..ALL
    },
    Program {
        name: "Apache httpd",
        preferred: instead_of_term(WINCH, false),
        matches: |p| runs(p, &["apache2", "httpd"]),
        handles: &[HUP, USR1, TERM, WINCH],
        ignores: &[PIPE],
        notes: &[
            // Measured: mpm_event waits for threads with open requests, and kills them after 10 s.
            drains(
                &[TERM, INT],
                "drops open requests after up to 10 s, then exits; use WINCH for a graceful stop",
            ),
            drains(&[WINCH], FINISHES),
            reloads(&[HUP, USR1], "reloads its configuration and replaces its workers"),
        ],
        workers: Workers::SameProgram,
        ..ALL
    },
    // Without -W it has the default action for TERM and INT. Its master exits when wait(2) finds no child any
    // more, including children that it did not start (`mworker_catch_sigchld`, src/mworker.c).
    Program {
        name: "HAProxy",
        preferred: instead_of_term(USR1, false),
        matches: |p| runs(p, &["haproxy"]),
        handles: &[HUP, USR1, TTIN, TTOU],
        ignores: &[PIPE],
        notes: &[
            exits(
                &[TERM, INT],
                "exits at once and drops open connections; use USR1 for a graceful stop",
            ),
            drains(&[USR1], FINISHES),
            reloads(&[HUP], "with -W: reloads its configuration and replaces its workers"),
            continues(&[QUIT], "writes its memory pools to the log"),
        ],
        workers: Workers::SameProgramAwaitsAll,
        ..ALL
    },
    Program {
        name: "lighttpd",
        preferred: instead_of_term(INT, false),
        matches: |p| runs(p, &["lighttpd"]),
        handles: &[HUP, INT, TERM, CHLD, ALRM],
        ignores: &[PIPE],
        notes: &[
            exits(&[TERM], "exits at once and drops open requests; use INT for a graceful stop"),
            drains(&[INT], FINISHES),
            continues(&[HUP], "reopens its logs"),
            continues(&[USR1], "restarts itself gracefully"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "PHP-FPM",
        preferred: instead_of_term(QUIT, false),
        matches: |p| runs_version(p, "php-fpm"),
        handles: &[INT, QUIT, USR1, USR2, TERM, CHLD],
        notes: &[
            exits(
                &[TERM, INT],
                "exits at once and drops open requests; use QUIT for a graceful stop",
            ),
            drains(
                &[QUIT],
                "finishes open requests as its process_control_timeout allows, then exits",
            ),
            continues(&[USR1], "reopens its logs"),
            reloads(&[USR2], "reloads its configuration and replaces its workers"),
        ],
        workers: Workers::SameProgram,
        kills_workers_with_handler_of: Some(TERM),
        ..ALL
    },
    Program {
        name: "Gunicorn",
        matches: |p| runs_script(p, &PYTHON, "gunicorn"),
        handles: &[HUP, INT, QUIT, USR1, USR2, TERM, CHLD, TTIN, TTOU, WINCH],
        workers_have_own_handlers: true,
        threads_delay: true,
        notes: &[
            drains(
                &[TERM],
                "finishes open requests for up to its graceful timeout (30 s), then exits",
            ),
            drains(
                &[INT, QUIT],
                "stops its workers, if need be after its graceful timeout (30 s), then exits",
            ),
            reloads(&[HUP], "reloads its configuration and replaces its workers"),
            continues(&[USR1], "reopens its logs"),
            continues(&[WINCH], "continues (as a daemon: stops its workers)"),
        ],
        workers: Workers::SameProgram,
        ..ALL
    },
    // Its master catches no WINCH, its workers no QUIT.
    Program {
        name: UWSGI_MASTER,
        preferred: instead_of_term(INT, true),
        matches: |p| runs(p, UWSGI) && p.status.sig_cgt.contains(QUIT),
        handles: &[HUP, INT, QUIT, TERM, USR1, Signal::TSTP],
        ignores: &[PIPE],
        notes: &[
            depends(
                &[TERM],
                "replaces its workers unless it runs with die-on-term; use INT to stop it",
            ),
            exits(&[INT], "stops its workers, then exits"),
            depends(
                &[QUIT],
                "stops its workers and exits, unless it runs with die-on-term; use INT to stop it",
            ),
            reloads(&[HUP], "reloads and replaces its workers"),
        ],
        workers: Workers::SameProgram,
        ..ALL
    },
    Program {
        name: "uWSGI without a master",
        matches: |p| runs(p, UWSGI) && !p.status.sig_cgt.contains(QUIT),
        handles: &[HUP, INT, TERM, USR1, USR2],
        notes: &[
            exits(&[TERM, INT], "exits at once"),
            drains(&[HUP], "finishes the request that it works on, then exits"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "Uvicorn",
        matches: |p| runs_script(p, &PYTHON, "uvicorn"),
        handles: &[INT, TERM],
        ignores: &[PIPE],
        notes: &[depends(
            &[TERM, INT],
            "finishes open requests and runs the shutdown handlers of the application, which may outlast the grace period, then exits",
        )],
        ..Program::DEFAULT
    },
    Program {
        name: "Puma",
        matches: |p| runs_script(p, &RUBY, "puma"),
        handles: &[HUP, INT, TERM, USR1, USR2],
        notes: &[
            drains(&[TERM, INT], FINISHES),
            depends(&[QUIT], "exits at once and drops open requests").exits_first(),
            drains(&[HUP], "reopens its logs, or, without any, finishes open requests and exits"),
            reloads(&[USR2], "restarts itself"),
            reloads(&[USR1], "as a cluster: replaces its workers one by one"),
        ],
        workers: Workers::SameProgram,
        ..ALL
    },
    Program {
        name: "Unicorn",
        matches: |p| runs_script(p, &RUBY, "unicorn"),
        preferred: instead_of_term(QUIT, false),
        handles: &[HUP, INT, QUIT, USR1, USR2, TERM, CHLD, TTIN, TTOU, WINCH],
        workers_have_own_handlers: true,
        asked: |p, signal| {
            // (Its title has the arguments in one.)
            let is_space = |b: &u8| *b == b' ';
            let mut words = p.command.known()?.argv().flat_map(|word| word.split(is_space));
            let is_option =
                |word: &[u8]| word.starts_with(b"-c") || word.starts_with(b"--config-file");
            let has_file = words.any(is_option);
            (signal == HUP && !has_file).then(|| {
                (Outcome::Continues, "continues (without a configuration file)".to_owned())
            })
        },
        notes: &[
            exits(
                &[TERM, INT],
                "exits at once and drops open requests; use QUIT for a graceful stop",
            ),
            drains(&[QUIT], FINISHES),
            reloads(&[HUP], "reloads its configuration and replaces its workers"),
            continues(&[USR1], "reopens its logs"),
            continues(&[USR2], "starts a second master"),
            continues(&[WINCH], "continues (as a daemon: stops its workers)"),
        ],
        workers: Workers::SameProgram,
        ..ALL
    },
    Program {
        name: "stunnel",
        matches: |p| runs(p, &["stunnel", "stunnel4"]),
        handles: &[HUP, INT, QUIT, USR1, TERM, CHLD],
        ignores: &[PIPE],
        notes: &[
            exits(&[TERM, INT, QUIT], "exits at once and drops open connections"),
            continues(&[HUP], "reloads its configuration"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "busybox httpd",
        matches: |p| applet(p) == Some(b"httpd"),
        handles: &[HUP],
        notes: &[continues(&[HUP], "reads its configuration again")],
        ..Program::DEFAULT
    },
    Program {
        name: "Caddy",
        matches: |p| runs_go(p, "caddy"),
        notes: &[
            drains(&[TERM, INT], FINISHES),
            exits(&[QUIT], "exits at once with status 2"),
            continues(&[HUP, USR1, USR2], "continues"),
        ],
        ..GO
    },
    Program {
        name: "Varnish",
        matches: |p| runs(p, &["varnishd"]),
        handles: &[INT, TERM],
        ignores: &[HUP, PIPE],
        notes: &[exits(&[TERM, INT], "stops its worker process, then exits")],
        workers: Workers::SameProgram,
        ..ALL
    },
    Program {
        name: "Squid",
        preferred: instead_of_term(INT, false),
        matches: |p| runs(p, &["squid"]),
        handles: &[HUP, INT, TERM, USR1, USR2, TTIN],
        notes: &[
            depends(
                &[TERM],
                "waits for its shutdown_lifetime (30 s if it is not configured), then exits; use INT to stop it at once",
            ),
            exits(&[INT], "drops open connections, writes the index of its cache, then exits"),
            reloads(&[HUP], "reloads its configuration"),
            continues(&[USR1], "rotates its logs"),
        ],
        saves_on: &[INT],
        workers: Workers::SameProgram,
        ..ALL
    },
    Program {
        name: "tinyproxy",
        matches: |p| runs(p, &["tinyproxy"]),
        handles: &[INT, TERM, USR1, CHLD],
        ignores: &[PIPE],
        notes: &[
            exits(&[TERM, INT], "exits at once and drops open connections"),
            continues(&[USR1], "reloads its configuration"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "Privoxy",
        matches: |p| runs(p, &["privoxy"]),
        handles: &[HUP, INT, TERM],
        ignores: &[PIPE],
        notes: &[
            exits(&[TERM, INT], "exits at once and drops open connections"),
            continues(&[HUP], "reopens its log"),
        ],
        ..Program::DEFAULT
    },
    Program {
        name: "Icecast",
        matches: |p| runs(p, &["icecast2", "icecast"]),
        handles: &[HUP, INT, TERM, CHLD],
        ignores: &[PIPE],
        notes: &[
            exits(&[TERM, INT], "disconnects its clients, then exits"),
            continues(&[HUP], "reloads its configuration"),
        ],
        ..Program::DEFAULT
    },
];
