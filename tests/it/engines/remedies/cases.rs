//! Commands with a finding, and the changes that its remedy names, each tried by a real stop.

/// A program that handles TERM and INT, and says that it is ready by being asleep.
pub const HANDLER: &str = "$SIG{TERM}=$SIG{INT}=sub{exit 0}; sleep 1 while 1";
/// One that exits on INT only.
const ON_INT: &str = "$SIG{INT}=sub{exit 0}; sleep 1 while 1";

/// Words of a remedy that offer a change, and the options and the command of the container with it.
pub type Tried = (&'static str, &'static str, &'static [&'static str]);

/// A container, and the remedies that are offered for it.
pub struct RemedyCase {
    pub options: &'static str,
    pub command: &'static [&'static str],
    /// The number of its processes when it is ready.
    pub processes: usize,
    /// The code of the first finding.
    pub code: &'static str,
    pub tried: &'static [Tried],
    /// Commands of cinspect in the remedy: so many stop it gracefully.
    pub commands: usize,
}

pub const SH: &str = "sh";

/// The changes that are offered for a shell with a command in the foreground.
const IN_PLACE_OF_A_SHELL: &[Tried] = &[
    ("in exec form (`CMD [\"program\"]`), and run it under an init", "--init", &["sleep", "1000"]),
    (
        "`trap 'kill $!; wait $!' TERM`",
        "",
        &[SH, "-c", "trap 'kill $!; wait $!' TERM; sleep 1000 & wait"],
    ),
];

/// `perl` stands for the program that handles TERM, in an argument of its own or in a script.
pub const CASES: &[RemedyCase] = &[
    RemedyCase {
        options: "",
        command: &["sleep", "1000"],
        processes: 1,
        code: "init-without-handler",
        tried: &[
            ("`--init`", "--init", &["sleep", "1000"]),
            ("tini", "", &["tini", "--", "sleep", "1000"]),
            ("handler for the signal", "", &["perl", "-e", HANDLER]),
        ],
        commands: 0,
    },
    RemedyCase {
        options: "",
        command: &["perl", "-e", ON_INT],
        processes: 1,
        code: "init-without-handler",
        tried: &[
            ("`--init`", "--init", &["perl", "-e", ON_INT]),
            ("`--stop-signal SIGINT`", "--stop-signal SIGINT", &["perl", "-e", ON_INT]),
        ],
        commands: 0,
    },
    RemedyCase {
        options: "",
        command: &[SH, "-c", "perl -e \"$0\"; true", HANDLER],
        processes: 2,
        code: "shell-form",
        tried: &[
            ("in exec form", "", &["perl", "-e", HANDLER]),
            ("put `exec` before", "", &[SH, "-c", "exec perl -e \"$0\"; true", HANDLER]),
            (
                "`trap 'kill $!; wait $!' TERM`",
                "",
                &[SH, "-c", "trap 'kill $!; wait $!' TERM; perl -e \"$0\" & wait", HANDLER],
            ),
        ],
        commands: 1,
    },
    RemedyCase {
        options: "",
        command: &[SH, "-c", "sleep 1000; true"],
        processes: 2,
        code: "shell-form",
        tried: IN_PLACE_OF_A_SHELL,
        commands: 1,
    },
    RemedyCase {
        options: "",
        command: &[SH, "-c", "sleep 1000 & sleep 1001; true"],
        processes: 3,
        code: "shell-form",
        tried: &[(
            "`kill` the children and `wait`",
            "",
            &[SH, "-c", "trap 'kill $a $b; wait' TERM; sleep 1000 & a=$!; sleep 1001 & b=$!; wait"],
        )],
        commands: 1,
    },
    RemedyCase {
        options: "--init",
        command: &[SH, "-c", "perl -e \"$0\"; true", HANDLER],
        processes: 3,
        code: "children-not-signalled",
        tried: &[
            ("put `exec` before", "--init", &[SH, "-c", "exec perl -e \"$0\"; true", HANDLER]),
            (
                "`trap 'kill $!; wait $!' TERM`",
                "--init",
                &[SH, "-c", "trap 'kill $!; wait $!' TERM; perl -e \"$0\" & wait", HANDLER],
            ),
        ],
        commands: 1,
    },
    RemedyCase {
        options: "",
        command: &["tini", "--", SH, "-c", "sleep 1000; true"],
        processes: 3,
        code: "children-not-signalled",
        tried: &[
            ("`tini -g`", "", &["tini", "-g", "--", SH, "-c", "sleep 1000; true"]),
            ("put `exec` before", "", &["tini", "--", SH, "-c", "exec sleep 1000; true"]),
        ],
        commands: 1,
    },
    RemedyCase {
        options: "",
        command: &[SH, "-c", "trap 'exit 0' TERM; sleep 1000; true"],
        processes: 2,
        code: "does-not-exit",
        tried: IN_PLACE_OF_A_SHELL,
        commands: 1,
    },
    RemedyCase {
        options: "--stop-signal QUIT",
        command: &[SH, "-c", "sleep 1000; true"],
        processes: 2,
        code: "shell-form",
        tried: &[(
            "`trap 'kill -QUIT $!; wait $!' QUIT`",
            "--stop-signal QUIT",
            &[SH, "-c", "trap 'kill -TERM $!; wait $!' QUIT; sleep 1000 & wait"],
        )],
        commands: 1,
    },
    RemedyCase {
        options: "--stop-timeout 0",
        command: &["perl", "-e", HANDLER],
        processes: 1,
        code: "grace-period",
        tried: &[("`--stop-timeout`", "--stop-timeout 10", &["perl", "-e", HANDLER])],
        commands: 1,
    },
    RemedyCase {
        options: "--stop-signal KILL",
        command: &["perl", "-e", HANDLER],
        processes: 1,
        code: "stop-signal",
        tried: &[("`--stop-signal SIGTERM`", "--stop-signal SIGTERM", &["perl", "-e", HANDLER])],
        commands: 0,
    },
];
