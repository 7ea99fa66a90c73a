//! Words and options that are typed from habit, and the command that does the same here. Tables: `CTR` is
//! the container that was typed, `ARGS` for all arguments.

use std::ffi::OsString;

use super::root::root_command;
use super::typed_line::{TypedLine, accepted, command_named, joined};
use crate::analysis::remedy::quoted;
use crate::model::signal::SignalNumber;

/// Words in the place of a command that only read. None of them is answered with a command that modifies
/// state.
pub(super) const READING: &[(&[&str], &str)] = &[
    (
        &["top", "stats", "htop", "watch", "ctop", "monitor"],
        "`cinspect ps --watch CTR` refreshes a container's processes",
    ),
    (&["info", "dir", "get", "names"], "`cinspect ls` lists the running containers"),
    (&["version"], "`cinspect --version` prints the version"),
    (&["tail", "log"], "`cinspect logs CTR` prints the end of its log"),
    (&["journalctl", "journal"], "`cinspect logs NAME` prints the end of a container's log"),
    (&["dmesg", "last", "exitcode", "oom"], "`cinspect why CTR` says how a container ended"),
    (
        &["describe", "show", "status", "state"],
        "`cinspect inspect CTR` shows a container, `cinspect why CTR` how it ended",
    ),
    (&["health", "healthcheck", "check", "diagnose"], "`cinspect doctor CTR` looks for problems"),
    (&["pstree", "tree", "pidof", "processes"], "`cinspect ps CTR` shows the processes as a tree"),
    (&["pgrep"], "`cinspect ps CTR | grep REGEX` finds processes by their command lines"),
    (&["strace", "events", "bpftrace"], "`cinspect trace CTR` prints signals, exits and OOM kills"),
    (&["lsns", "pod-of", "whois"], "`cinspect inspect PID` shows the container of a process"),
    (&["mounts", "namespaces", "limits", "caps"], "`cinspect inspect CTR` shows them"),
    (&["masks", "sigmask"], "`cinspect signals CTR` explains each signal"),
    (&["sudo"], "`sudo cinspect ARGS`"),
];

/// Words that modify something elsewhere.
const MODIFYING: &[(&[&str], &str)] = &[
    (
        &["pkill"],
        "`cinspect signal CTR TERM --match REGEX` signals the processes of a container whose command line matches; `-n` shows which",
    ),
    (
        &["killall", "skill"],
        "`cinspect signal CTR TERM --comm NAME` signals the processes of a container with this name; `-n` shows which",
    ),
    (
        &["nsenter", "chroot", "sh", "bash", "shell", "ssh", "login"],
        "`cinspect exec CTR` opens a shell in a container; `pid:N` is that of a process",
    ),
    (&["debug"], "`cinspect exec --tools CTR` opens a shell with tools of the host"),
    (
        &["gdb"],
        "`cinspect exec CTR --skip mnt -- gdb -p 1` runs the host's gdb in its PID namespace",
    ),
    (&["copy", "scp", "rsync"], "`cinspect cp CTR:PATH .` copies files"),
    (&["terminate", "shutdown"], "`cinspect stop CTR` stops a container"),
];

/// Words for things that are left to the engine, as `docker` spells them.
pub(super) const LEFT_TO_ENGINE: &[&str] = &[
    "attach",
    "build",
    "checkpoint",
    "commit",
    "compose",
    "create",
    "diff",
    "export",
    "image",
    "images",
    "import",
    "load",
    "mount",
    "network",
    "pause",
    "port",
    "pull",
    "push",
    "rename",
    "restart",
    "rm",
    "rmi",
    "run",
    "save",
    "search",
    "secret",
    "start",
    "system",
    "tag",
    "unpause",
    "update",
    "volume",
    "wait",
];

/// Words of other programs for the same things.
pub(super) const SYNONYMS: &[(&str, &str)] = &[
    ("delete", "rm"),
    ("destroy", "rm"),
    ("freeze", "pause"),
    ("reboot", "restart"),
    ("reload", "restart"),
    ("remove", "rm"),
    ("resume", "unpause"),
    ("thaw", "unpause"),
    ("unfreeze", "unpause"),
];

/// Words for operations that are left to the cluster.
pub(super) const LEFT_TO_CLUSTER: &[&str] = &[
    "annotate", "apply", "cordon", "drain", "edit", "label", "patch", "rollout", "scale", "taint",
];

/// Words before a command elsewhere, besides the names of engines' clients.
pub(super) const PREFIXES: &[&str] = &[
    "compose",
    "container",
    "containers",
    "cont",
    "oc",
    "pod",
    "pods",
    "po",
    "process",
    "t",
    "task",
    "tasks",
];

/// Types of objects, typed before a name.
const KINDS: &[&str] = &["container", "containers", "pod", "pods", "po", "deploy", "deployment"];

/// An option of another program: the commands that do not have it, its spellings, and the hint.
type OptionHabit = (&'static [&'static str], &'static [&'static str], &'static str);

/// Stands for the hint for options that name a container in a pod (`pod_option`).
pub(super) const POD_REFERENCE: &str = "POD";

const LISTS: &str =
    "`cinspect ls` lists containers, `-a` those that ended as well; `cinspect ps` shows processes";
const FILTERS: &str = "`cinspect ls NAME` filters by name, `--label` and `--engine` by those; by state: `cinspect --json ls -a | jq 'select(.state == \"exited\")'`";
const FORMATS: &str =
    "`-o LIST` chooses columns (`-o help` lists them); `cinspect --json ls | jq -r .name` formats";
const JSON_PAGE: &str = "`cinspect --json inspect CTR | jq` has each fact, such as `.process.host_pid`; `cinspect --json why CTR` the exit status";
const ALL_PROCESSES: &str = "`cinspect ps` shows the processes of all containers, `cinspect ps CTR` of one; `-o` chooses columns, `--flat` leaves out the tree";
const ONE_BY_ONE: &str = "containers are only stopped by name, so that none is stopped by mistake; `cinspect ls` lists their names";

/// THE TABLE of options.
const OPTIONS: &[OptionHabit] = &[
    (&["ls", "ps"], &["--filter"], FILTERS),
    (&["ls"], &["-f"], FILTERS),
    (&["ls", "ps"], &["--format"], FORMATS),
    (
        &["ls"],
        &["-l", "-s", "--size", "--long", "-w", "--wide", "-x"],
        "`cinspect ls -o +user,cgroup` adds columns; `cinspect ls -o help` lists them",
    ),
    (&["ls"], &["-n", "--last", "--latest", "-1", "-t", "--sort"], LISTS),
    (&["ls"], &["-A", "--all-namespaces"], "`cinspect ls` lists the pods of every namespace"),
    (
        &["ls"],
        &["--watch"],
        "`watch cinspect ls` repeats it; `cinspect ps --watch` shows processes",
    ),
    (&["ps"], &["-s", "--size", "--last", "--latest"], LISTS),
    (
        &["ps"],
        &[
            "-e", "-f", "-A", "-x", "-u", "-U", "-l", "-j", "-L", "-H", "-p", "-C", "-d", "-N",
            "-g", "-F", "-n", "-a",
        ],
        ALL_PROCESSES,
    ),
    (&["ps"], &["--pid"], "`cinspect ps pid:N` shows the container of a process"),
    (&["signal"], &["-L", "--table"], "`cinspect signal -l` lists the signals"),
    (
        &["signal"],
        &["-f", "-x", "-u", "-P", "-g", "-p"],
        "the options for that are `--match`, `--comm`, `--user`, `--tree`, `--pgroup` and `--pid`",
    ),
    (&["signal"], &["-a"], "`--all` signals every process of one container"),
    (&["signal"], &["-t", "--timeout"], "`--kill-after DUR` sends KILL after that time"),
    (&["stop"], &["-a", "--all", "-l", "--latest", "--filter"], ONE_BY_ONE),
    (&["stop"], &["-f", "--force", "--now", "-9"], "`cinspect stop -t 0 CTR` kills it at once"),
    (
        &["stop"],
        &["-i", "--ignore", "--cidfile"],
        "`cinspect stop CTR` exits with status 3 if no such container exists",
    ),
    (&["stop"], &["-d", "--dry"], "`-n` shows what a stop would do"),
    (
        &["exec", "logs", "cp", "inspect", "why", "doctor"],
        &["-c", "--container", "-n", "--namespace"],
        POD_REFERENCE,
    ),
    (&["exec"], &["--detach-keys"], "end the command to leave it; `-d` runs it in the background"),
    (
        &["exec"],
        &["--index"],
        "`cinspect ls -o +service` shows the names of a service's containers",
    ),
    (
        &["exec", "logs", "inspect", "stop", "why"],
        &["-l", "--latest", "--selector", "--label"],
        "`cinspect ls --label KEY=VALUE` lists the containers with a label; then give one by name",
    ),
    (
        &["exec"],
        &["-a", "-m", "-p", "--target"],
        "all namespaces are joined; `--ns` and `--skip` choose",
    ),
    (
        &["logs"],
        &["-p", "--previous"],
        "`cinspect why CTR` shows the end of the previous one's log; `cinspect ls -a` lists the IDs of those that ended, and `cinspect logs ID` prints such a log",
    ),
    (
        &["logs"],
        &["--until"],
        "`cinspect --json logs CTR --since 1h | jq -r 'select(.time < \"2026-01-01T00:00\") | .text'`",
    ),
    (&["logs"], &["--no-color", "--no-colors"], "`NO_COLOR=1`, or `--color never`"),
    (
        &["logs"],
        &["-u", "--unit", "-e", "-x", "-r", "-k", "-b"],
        "`cinspect logs -n 100 CTR` prints the end of its log",
    ),
    (
        &["logs"],
        &["--all-containers", "--names", "--prefix", "-a"],
        "one container at a time: `cinspect ls` lists them",
    ),
    (&["logs"], &["--details", "--limit-bytes"], "`cinspect --json logs CTR` has each field"),
    (&["inspect"], &["-f", "--format", "-o", "--output", "-q"], JSON_PAGE),
    (
        &["inspect"],
        &["--type", "-s", "--size", "-t"],
        "`cinspect inspect CTR` shows a container; images are the engine's",
    ),
    (&["trace"], &["-p", "--pid"], "`cinspect trace pid:N` traces the container of a process"),
    (&["trace"], &["-f", "--follow", "-ff"], "processes that start later are traced as well"),
    (
        &["trace"],
        &["-e", "--filter"],
        "signals follow the containers: `cinspect trace CTR TERM KILL`",
    ),
    (
        &["trace"],
        &["--since", "--until"],
        "signals are not recorded: `trace` prints those that are sent from now on",
    ),
    (
        &["trace"],
        &["-o", "--output"],
        "`cinspect --json trace CTR > FILE` writes a record of each event",
    ),
    (&["cp"], &["-p", "--preserve"], "`-a` keeps owners, permissions, times and attributes"),
    (&["cp"], &["-u", "--update", "-i", "--interactive"], "`-n` does not overwrite existing files"),
    (
        &["doctor", "why"],
        &["-a", "--all"],
        "`cinspect doctor` without a name covers every container",
    ),
];

/// Options of other programs that take a value, by command.
const FOREIGN_VALUES: &[(&str, &[&str])] = &[
    ("exec", &["--index", "--detach-keys"]),
    ("inspect", &["-f", "--format", "--type", "-o", "--output"]),
    ("logs", &["--until", "-u", "--unit", "-l", "--selector", "--label"]),
    ("ps", &["-f", "-p", "-C", "-u", "-U", "-n", "-g", "--filter", "--format", "--pid"]),
    ("signal", &["-u", "-P", "-g", "-p", "-t", "--timeout"]),
    ("trace", &["-p", "--pid", "-e", "-o", "--filter", "--output"]),
];

/// Returns the hint for an option that a command does not have.
pub(super) fn option_hint(line: &TypedLine<'_>, option: &str) -> Option<String> {
    let command = line.command()?;
    if command.name == "ps"
        && let Some(list) = as_list(line)
    {
        return Some(format!("{list} lists containers; `cinspect ps` shows their processes"));
    }
    let option = option.split('=').next().unwrap_or(option);
    let has = |(commands, options, _): &&OptionHabit| {
        commands.contains(&command.name) && options.contains(&option)
    };
    let (_, _, hint) = OPTIONS.iter().find(has)?;
    let values = FOREIGN_VALUES.iter().find(|(name, _)| *name == command.name);
    Some(line.fill(hint, values.map_or(&[], |(_, options)| *options)))
}

/// Returns the hint for a word that is not a command, if it is one elsewhere.
pub(super) fn word_hint(line: &TypedLine<'_>, word: &str) -> Option<String> {
    let mut habits = READING.iter().chain(MODIFYING);
    let (_, hint) = habits.find(|(words, _)| words.contains(&word))?;
    if ["pgrep", "pkill", "killall", "skill"].contains(&word) {
        return Some(pattern_hint(line, hint));
    }
    let positionals = line.positionals(&[]);
    Some(match (word, &positionals[..]) {
        ("nsenter", _) => match line.value(&["-t", "--target"]) {
            Some(pid) => hint.replace("CTR", &format!("pid:{}", quoted(pid))),
            None => (*hint).to_owned(),
        },
        ("tail" | "log", _) => match own_command(&["logs"], line.arguments()) {
            Some(own) => format!("{own} prints the end of its log"),
            None => line.fill(hint, &["-n", "-c"]),
        },
        ("describe" | "get" | "show", [kind, name, ..]) if KINDS.contains(kind) => {
            hint.replace("CTR", &quoted(name))
        }
        ("describe" | "get" | "show", [kind]) if KINDS.contains(kind) => (*hint).to_owned(),
        _ => line.fill(hint, &["-n", "-d", "-s", "-c", "--since", "--until", "--filter"]),
    })
}

/// Returns the hint for pgrep(1), pkill(1) or killall(1): the first argument is a pattern, and a second one can only be
/// the container.
fn pattern_hint(line: &TypedLine<'_>, hint: &str) -> String {
    let positionals = line.positionals(&["-F", "-G", "-P", "-U", "-d", "-g", "-s", "-t", "-u"]);
    let mut options = line.arguments().iter().filter_map(|word| word.strip_prefix('-'));
    let filled = match options.find(|option| SignalNumber::parse(option).is_ok()) {
        Some(signal) => hint.replace("TERM", signal.trim_start_matches("SIG")),
        None => hint.to_owned(),
    };
    let Some(pattern) = positionals.first() else { return filled };
    let filled = match positionals.get(1) {
        Some(container) => filled.replace("CTR", &quoted(container)),
        None => filled.replace("ps CTR", "ps"),
    };
    let pattern = quoted(pattern);
    filled.replace("REGEX", &pattern).replace("NAME", &pattern)
}

/// Returns `cinspect ls …` with the options that were given to `ps`, if they are those of `ls`.
fn as_list(line: &TypedLine<'_>) -> Option<String> {
    if !line.positionals(&[]).is_empty() || line.arguments().is_empty() {
        return None;
    }
    own_command(&["ls"], line.arguments())
}

/// Returns words as a command line of this program, if it is one.
pub(super) fn own_command(before: &[&str], words: &[&str]) -> Option<String> {
    let all: Vec<&str> = ["cinspect"].iter().chain(before).chain(words).copied().collect();
    let argv = accepted(all.iter().map(Into::into).collect());
    root_command().try_get_matches_from(argv).ok()?;
    Some(format!("`{}`", joined(&all)))
}

/// Returns the hint for the words of another program's command line after its name, such as
/// `container ls -a`, if this program does the same.
pub(super) fn without_prefix(line: &TypedLine<'_>, word: &str) -> Option<String> {
    let rest = line.arguments();
    if rest.is_empty() {
        return Some("`cinspect ls` lists the containers of every engine".into());
    }
    let is_known = |word: &&str| command_named(word).is_some() || is_habit(word);
    let position = rest.iter().position(is_known)?;
    let command = rest[position];
    let arguments: Vec<&str> =
        rest[position + 1..].iter().copied().filter(|word| !KINDS.contains(word)).collect();
    // Elsewhere `ps` lists containers.
    let is_option = |word: &&str| word.starts_with('-');
    let lists = ["get", "info", "list", "ls"].contains(&command)
        || command == "ps" && arguments.iter().all(is_option);
    if lists {
        let list = own_command(&["ls"], &arguments).unwrap_or_else(|| "`cinspect ls`".into());
        return Some(format!("{list} lists the containers of every engine"));
    }
    if let Some(own) = own_command(&[command], &arguments) {
        return Some(format!("without `{word}`: {own}"));
    }
    if command_named(command).is_some() {
        return Some(format!("`cinspect {command} --help` describes the same command here"));
    }
    let argv: Vec<OsString> =
        ["cinspect", command].iter().chain(&arguments).map(Into::into).collect();
    word_hint(&TypedLine::new(&argv), command)
}

/// Whether the word is a habit in the place of a command.
fn is_habit(word: &str) -> bool {
    READING.iter().chain(MODIFYING).any(|(words, _)| words.contains(&word))
}
