//! `exec`: runs a command inside a container. What is joined and carried over is `analysis`' plan,
//! going in is `act`'s; here the wishes are read and the outcome is told.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::{ArgMatches, Args};
use serde_json::json;

use super::{Command, arguments, command, may_act, report_resolution};
use crate::action::exec::{ExecEvent, ExecOutcome, enter, terminal_size};
use crate::action::send::hold;
use crate::analysis::container_process::ContainerProcess;
use crate::analysis::exec_plan::{ExecOptions, ExecPlan, UserSpec};
use crate::analysis::selection::Criteria;
use crate::cli::context::Context;
use crate::error::{Error, ExitStatus};
use crate::model::cgroup::Freezer;
use crate::model::container::ContainerState;
use crate::model::namespace::{KINDS, NamespaceKind};
use crate::model::pid::ContainerPid;
use crate::output::escape::safe_str;
use crate::proc::{Host, ReadError, SnapshotOptions};
use crate::resolve::{Access, ResolvedContainer, Resolver};

/// Run a command inside a container, or its user's shell
///
/// The command is a child in all of the container's namespaces and in its cgroups, with its root, and
/// with what its init has: environment, working directory, user, capabilities, no_new_privs, seccomp
/// filter, security label, limits. What could not be carried over is a warning. Nothing of the host
/// goes in: no descriptor but the streams, no environment, no terminal (the command has one of its
/// own).
#[derive(Args)]
#[command(override_usage = "cinspect exec [OPTIONS] <CTR> [--] [CMD]...")]
pub struct Exec {
    /// The container
    #[arg(value_name = "CTR")]
    container: String,
    /// The command and its arguments; everything after its first word is its own
    #[arg(value_name = "CMD", trailing_var_arg = true)]
    command: Vec<OsString>,
    /// Make a terminal for it even where stdin or stdout is none
    #[arg(short = 't', long, conflicts_with_all = ["no_tty", "detach"])]
    tty: bool,
    /// Make none
    #[arg(short = 'T', long)]
    no_tty: bool,
    /// Pass stdin on (it always is)
    #[arg(short = 'i', long)]
    interactive: bool,
    /// As this user, by name or number inside
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<OsString>,
    /// Begin in this folder, inside
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<OsString>,
    /// Set a variable; without a value, take ours
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,
    /// Set the variables of a file, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Leave it running, and print its PIDs
    #[arg(short, long)]
    detach: bool,
    /// Beside the process with this number inside, in place of the init
    #[arg(long, value_name = "N")]
    pid: Option<ContainerPid>,
    /// Join these namespaces alone: user, mnt, uts, ipc, net, pid, cgroup, time
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = kind, conflicts_with = "skip")]
    ns: Vec<&'static str>,
    /// Join all but these; without mnt the command is the host's own
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = kind)]
    skip: Vec<&'static str>,
    /// Keep every capability, and go without the seccomp filter
    #[arg(long)]
    privileged: bool,
    /// Stay in our own cgroups
    #[arg(long)]
    no_cgroup: bool,
    /// Fail where something cannot be carried over
    #[arg(long)]
    strict: bool,
}

pub const COMMAND: Command = command::<Exec>(
    "exec",
    &["enter"],
    &[
        ("cinspect exec web", "the user's shell inside"),
        ("cinspect exec web -- ls -l /proc/1/fd", "one command; its status is ours"),
        ("cinspect exec -u www-data -w /srv web -- id", "as a user of the container's"),
        ("cinspect exec web --ns net -- ss -ltn", "the host's ss in its network"),
        ("cinspect exec web --skip mnt -- strace -p 13", "the host's strace, PIDs as inside"),
        ("cinspect -v exec --strict web true", "what is carried over: all of it"),
    ],
    run,
)
.modifies()
.statuses(&[
    ExitStatus::Usage,
    ExitStatus::CannotEnter,
    ExitStatus::CannotRun,
    ExitStatus::NotFound,
])
.files(&[
    ("/proc/PID/ns, /proc/PID/root, /proc/PID/cwd", "What is joined and entered."),
    (
        "/proc/PID/environ, /proc/PID/status, /proc/PID/limits, /proc/PID/attr/current",
        "What is taken over from the init.",
    ),
    ("cgroup.procs", "Where the command goes before it runs."),
    ("/etc/passwd, /etc/group", "Those inside: users, their groups, their shell."),
]);

fn kind(name: &str) -> Result<&'static str, String> {
    let all: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    NamespaceKind::named(name)
        .map(|kind| kind.name)
        .ok_or_else(|| format!("valid values: {}", all.join(", ")))
}

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: Exec = arguments(matches)?;
    // Whatever fails before the command runs has one status, which scripts can tell from its own.
    go_in(context, &arguments).map_err(|mut error| {
        let own = [ExitStatus::Usage, ExitStatus::CannotRun, ExitStatus::NotFound];
        if !own.contains(&error.status) {
            error.status = ExitStatus::CannotEnter;
        }
        error
    })
}

fn go_in(context: &Context, arguments: &Exec) -> Result<ExitStatus, Error> {
    let wishes = arguments.wishes()?;
    let host = context.host()?;
    let found = Resolver::new(&host).resolve(&arguments.container, Access::Act)?;
    report_resolution(context, &found.container, &found.inventory);
    may_act(&host, "enter a container", ExitStatus::NotPermitted)?;
    let name = found.container.qualified();
    let member = &found.process(arguments.pid, SnapshotOptions::BARE)?;
    let pid = member.facts.id.pid;
    let cannot = |why: &dyn std::fmt::Display| {
        Error::new(ExitStatus::CannotEnter, format!("cannot enter `{name}`")).cause(why.to_string())
    };
    // Held first; what is read then is of the process that was meant, as long as that lives.
    let held = hold(&found, member, None, Criteria::default()).map_err(|why| cannot(&why))?;
    let facts = host.entry_facts(pid).map_err(|error| match error {
        ReadError::Denied => cannot(&"its root and namespaces are not yours to open")
            .hint("run as root, or with CAP_SYS_PTRACE and CAP_SYS_ADMIN"),
        error => cannot(&error),
    })?;
    if held.has_exited() {
        return Err(cannot(&"it has just ended"));
    }
    if !arguments.no_cgroup && is_frozen(&host, &found, member) {
        return Err(cannot(&"it is paused, and what is started in its cgroups would be too")
            .hint("resume it, or enter with `--no-cgroup`"));
    }
    let plan = ExecPlan::new(&wishes, &facts).map_err(|why| cannot(&why))?;
    if plan.is_exposed(&facts) {
        context.ui.warn("the container has CAP_SYS_PTRACE: it can trace what runs in its PID namespace with your rights; `--skip mnt,pid` stays out of its sight");
    }
    let mut say = |say: ExecEvent| match say {
        ExecEvent::Step(text) => context.ui.step(&safe_str(&text)),
        ExecEvent::Warn(text) => context.ui.warn(&safe_str(&text)),
    };
    match enter(&host, &held, &facts, &plan, !arguments.no_cgroup, &mut say)? {
        ExecOutcome::Ended(status) => Ok(ExitStatus::Other(status)),
        ExecOutcome::Left(pid, host_pid) => {
            let inside = pid.map(|pid| pid.get());
            let line = if context.ui.json {
                let object = json!({
                    "host": host.name, "container": name, "pid": inside, "host_pid": host_pid.get()
                });
                format!("{object}\n")
            } else {
                let inside = inside.map_or_else(|| "?".into(), |pid| pid.to_string());
                format!("{inside} (on the host {host_pid})\n")
            };
            context.print(&line)?;
            Ok(ExitStatus::Done)
        }
    }
}

fn is_frozen(host: &Host, found: &ResolvedContainer<'_>, member: &ContainerProcess) -> bool {
    let memberships = host.memberships(member.facts.id.pid);
    found.container.state == ContainerState::Paused
        || memberships.is_ok_and(|own| host.frozen(&own) != Freezer::Thawed)
}

impl Exec {
    fn wishes(&self) -> Result<ExecOptions, Error> {
        let usage = |why: String| Error::new(ExitStatus::Usage, why);
        let user = self.user.as_ref().map(|user| UserSpec::parse(user.as_bytes())).transpose();
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        let at_terminal = stdin.is_terminal() && stdout.is_terminal();
        let terminal = self.tty || (at_terminal && !self.no_tty && !self.detach);
        let mut set = Vec::new();
        for file in &self.env_file {
            let bytes = std::fs::read(file).map_err(|error| {
                usage(format!("cannot read `{}`", file.display()))
                    .cause(match error.kind() {
                        std::io::ErrorKind::NotFound => "no such file".into(),
                        _ => error.to_string(),
                    })
                    .hint("a file with `NAME=VALUE` on each line; a name alone takes our value")
            })?;
            for line in bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii_start) {
                if !line.is_empty() && !line.starts_with(b"#") {
                    set.extend(variable(line));
                }
            }
        }
        set.extend(self.env.iter().filter_map(|one| variable(one.as_bytes())));
        let bytes = |word: &OsString| word.as_bytes().to_vec();
        Ok(ExecOptions {
            only: self.ns.clone(),
            skip: self.skip.clone(),
            user: user.map_err(|why| usage(format!("-u: {why}")))?,
            workdir: self.workdir.as_ref().map(bytes),
            environment: std::env::vars_os()
                .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
                .collect(),
            set,
            command: self.command.iter().map(bytes).collect(),
            terminal: terminal.then(|| terminal_size().unwrap_or((24, 80))),
            privileged: self.privileged,
            detach: self.detach,
            strict: self.strict,
        })
    }
}

/// `NAME=VALUE`, or NAME with our own value, if we have it.
fn variable(word: &[u8]) -> Option<Vec<u8>> {
    if word.contains(&b'=') {
        return Some(word.to_vec());
    }
    let value = std::env::var_os(OsString::from_vec(word.to_vec()))?;
    Some([word, b"=", value.as_bytes()].concat())
}
