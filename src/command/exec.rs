//! `exec`: runs a command in a container. `analysis::exec_plan` decides how, `action::exec` does it; here
//! options are parsed, and events and the outcome are printed.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args};
use serde_json::json;

use super::init_changes::init_changes;
use super::{Command, Section, arguments, command, may_act, process_of, resolve};
use crate::action::exec::{ExecEvent, ExecOutcome, ExecRequest, Session, Tools, terminal_size};
use crate::action::send::hold;
use crate::analysis::container_process::ContainerProcess;
use crate::analysis::env_file;
use crate::analysis::exec_plan::{ExecOptions, ExecPlan};
use crate::analysis::selection::Criteria;
use crate::analysis::user::UserSpec;
use crate::analysis::wording::counted;
use crate::cli::context::Context;
use crate::completion::source::CompletionSource;
use crate::engine::process_config;
use crate::error::{Error, ExitStatus, os_error};
use crate::model::capability;
use crate::model::cgroup::Freezer;
use crate::model::container::ContainerState;
use crate::model::namespace::{KINDS, NamespaceKind};
use crate::model::pid::{ContainerPid, HostPid};
use crate::model::process_config::ProcessConfig;
use crate::output::escape::safe_str;
use crate::proc::{ExecFacts, Host, ReadError, SnapshotOptions};
use crate::resolve::{Access, ResolvedContainer, Resolver};
use crate::sys::self_exe::SelfExe;

/// Run a command in a container, or the shell of its user
///
/// The command joins the namespaces and cgroups of the container and takes over from its PID 1: root directory,
/// environment, working directory, user, capabilities, no_new_privs, seccomp filters, security label and
/// resource limits. A warning is printed for each attribute that could not be applied. Nothing of the host
/// enters the container except the standard streams: no other descriptor, no environment, no terminal (the
/// command gets its own).
#[derive(Args)]
#[command(override_usage = "cinspect exec [OPTIONS] <CTR> [--] [CMD]...")]
pub struct Exec {
    /// The container
    #[arg(value_name = "CTR", add = CompletionSource::Containers)]
    container: String,
    /// The command and its arguments; everything after its first word belongs to it
    #[arg(value_name = "CMD", trailing_var_arg = true, add = CompletionSource::Free)]
    command: Vec<OsString>,
    /// Allocate a terminal even if stdin or stdout is not one
    #[arg(short = 't', long, conflicts_with_all = ["no_tty", "detach"])]
    tty: bool,
    /// Never allocate a terminal
    #[arg(short = 'T', long)]
    no_tty: bool,
    /// Keep stdin open (default)
    #[arg(short = 'i', long)]
    interactive: bool,
    /// Run as this user (name or ID as known in the container)
    #[arg(short, long, value_name = "USER[:GROUP]", add = CompletionSource::Users)]
    user: Option<OsString>,
    /// Working directory
    #[arg(short, long, value_name = "DIR", add = CompletionSource::ContainerDirectories)]
    workdir: Option<OsString>,
    /// Set an environment variable; without =VALUE, copy yours, or remove it if you have none
    #[arg(short, long, value_name = "NAME[=VALUE]", add = CompletionSource::Free)]
    env: Vec<OsString>,
    /// Set the variables listed in a file, one per line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Run in the background and print the PIDs
    #[arg(short, long)]
    detach: bool,
    /// Join the namespaces of this PID (in the container) instead of PID 1
    #[arg(long, value_name = "N", add = CompletionSource::Pids)]
    pid: Option<ContainerPid>,
    /// Join only these namespaces: user, mnt, uts, ipc, net, pid, cgroup, time
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = kind, conflicts_with = "skip", add = CompletionSource::Namespaces)]
    ns: Vec<&'static str>,
    /// Join all namespaces except these; with `mnt` skipped, the command is one of the host's tools
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = kind, add = CompletionSource::Namespaces)]
    skip: Vec<&'static str>,
    /// Keep all capabilities; skip seccomp filters and security label
    #[arg(long)]
    privileged: bool,
    /// Stay in your own cgroups
    #[arg(long)]
    no_cgroup: bool,
    /// Run a static program of the host, by default its busybox, in the container: a shell and tools where
    /// the image has none
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        value_hint = clap::ValueHint::FilePath
    )]
    tools: Option<OsString>,
    /// Fail if an attribute cannot be applied
    #[arg(long)]
    strict: bool,
}

pub const COMMAND: Command = command::<Exec>(
    "exec",
    &["enter"],
    &[
        ("cinspect exec web", "a shell in the container"),
        ("cinspect exec web -- ls -l /proc/1/fd", "one command; exits with its status"),
        ("cinspect exec -u www-data -w /srv web -- id", "as a user of the container, in /srv"),
        ("cinspect exec --tools web", "a shell where the image has none"),
        ("cinspect exec web --ns net -- ss -ltn", "the host's ss in its network"),
        ("cinspect exec web --skip mnt -- strace -p 13", "the host's strace in its PID namespace"),
        ("cinspect -v exec --strict web true", "list the attributes that it takes over"),
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
.sections(|| vec![caller_section(), account_section()])
.files(&[
    (
        "/proc/PID/ns, /proc/PID/root, /proc/PID/cwd",
        "Namespaces, root and working directory of the container.",
    ),
    (
        "/proc/PID/environ, /proc/PID/status, /proc/PID/limits, /proc/PID/attr/current",
        "Attributes that the command takes over.",
    ),
    ("cgroup.procs", "Written to move the command into the container's cgroups."),
    ("/etc/passwd, /etc/group", "The container's users, their groups and shells."),
]);

fn caller_section() -> Section {
    Section::new(
        "When the caller exits",
        "The command is a child of cinspect, in a session of its own. If cinspect is killed or \
         its terminal is closed:",
        [
            (
                "without `-t`",
                "the command gets HUP, whatever the signal was that ended cinspect; the processes that it has started do not.",
            ),
            (
                "with `-t`",
                "its terminal is closed: the command gets HUP, its foreground process group gets it when the command has exited, and programs that read the terminal see its end.",
            ),
            ("with `-d`", "nothing happens: the command keeps running."),
        ],
    )
}

fn account_section() -> Section {
    Section::new(
        "Attributes",
        "PID 1 may have changed itself since it was started. As in the engine's own exec, the command gets what was \
         configured:",
        [
            (
                "root, mounts",
                "as the container has them, even if PID 1 has called chroot(2); with `--pid N` as that process has them.",
            ),
            (
                "environment, working directory, umask, no_new_privs",
                "as the engine's record has them; without a record those of PID 1. If PID 1 has overwritten its environment, that is a warning. A umask of 0 becomes 022.",
            ),
            (
                "limits, scheduling policy, I/O priority, personality",
                "as recorded, or as the engine's shim or conmon has them; without either those of PID 1.",
            ),
            (
                "seccomp filters",
                "the filters that the engine installed; all of PID 1's where they cannot be distinguished from its own.",
            ),
            (
                "everything else",
                "namespaces, cgroups, user, groups, capabilities, security label, oom_score_adj, nice value and CPU affinity are those of PID 1. `-u` adds the groups that Docker gives to every user (`--group-add`).",
            ),
            (
                "the shell",
                "without CMD the user's shell in /etc/passwd; /bin/sh, with a warning, if that is not there or runs no commands (nologin, false).",
            ),
        ],
    )
}

/// Bytes of variables that are read from a file: as many as execve(2) accepts (three quarters of `_STK_LIM`,
/// fs/exec.c).
const MAX_VARIABLES: u64 = 6 << 20;

fn kind(name: &str) -> Result<&'static str, String> {
    let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    NamespaceKind::named(name)
        .map(|kind| kind.name)
        .ok_or_else(|| format!("valid values: {}", names.join(", ")))
}

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: Exec = arguments(matches)?;
    // Every failure before the command runs has one status, which scripts can distinguish from the command's.
    exec(context, &arguments).map_err(|mut error| {
        let kept = [ExitStatus::Usage, ExitStatus::CannotRun, ExitStatus::NotFound];
        if !kept.contains(&error.status) {
            error.status = ExitStatus::CannotEnter;
        }
        error
    })
}

fn exec(context: &Context, arguments: &Exec) -> Result<ExitStatus, Error> {
    let mut options = arguments.options()?;
    let tools = arguments.tools()?;
    if let Some(tools) = &tools {
        options.uses_tools = true;
        if options.command.is_empty() {
            options.command.push(tools.default_command());
        }
        context.ui.step(&format!("tools: a sealed copy of {}", tools.path.display()));
    }
    let host = context.host()?;
    let found = resolve(context, &Resolver::new(&host), &arguments.container, Access::Act)?;
    may_act(&host, "enter a container", ExitStatus::NotPermitted)?;
    let name = found.container.qualified();
    let pid = process_of(context, &found, arguments.pid);
    let member = &found.process(pid, SnapshotOptions::BARE)?;
    // Held first: the facts that are read then are of this process, as long as it is alive afterwards.
    let target = hold(&found, member, None, Criteria::default())
        .map_err(|error| cannot_enter(&name, error.to_string()))?;
    let facts = read_facts(&host, &name, member.facts.id.pid)?;
    if target.has_exited() {
        return Err(cannot_enter(&name, "it has just exited"));
    }
    if !arguments.no_cgroup && is_frozen(&host, &found, member) {
        return Err(cannot_enter(&name, "it is paused, and the command would be paused with it")
            .hint("unpause it, or use `--no-cgroup`"));
    }
    // Another process than the init is meant as it is.
    let is_init = arguments.pid.is_none() && Some(member.facts.id) == found.container.init;
    let record = is_init.then(|| process_config(&host, &found.container)).flatten();
    let plan = ExecPlan::new(&options, &facts, record.as_ref())
        .map_err(|cause| cannot_enter(&name, cause))?;
    if plan.is_exposed(&facts) {
        context.ui.warn(EXPOSED);
    }
    if !plan.in_container_root && plan.terminal.is_some() {
        context.ui.note(&host_files_note(&plan, member));
    }
    if is_init && context.ui.verbose {
        print_record(context, &found, record.as_ref());
    }
    let mut report = |event| print_event(context, &event);
    let joins_cgroups = !arguments.no_cgroup;
    let request = ExecRequest {
        host: &host,
        container: &name,
        target: &target,
        facts: &facts,
        plan: &plan,
        joins_cgroups,
        tools: tools.as_ref(),
    };
    match Session::new(request, &mut report).run()? {
        ExecOutcome::Exited(status) => Ok(ExitStatus::Other(status)),
        ExecOutcome::Detached(pid, host_pid) => {
            print_pids(context, &host, &name, pid, host_pid).map(|()| ExitStatus::Done)
        }
    }
}

const EXPOSED: &str = "the container has CAP_SYS_PTRACE: its processes can trace the command, which has \
    more privileges; `--skip mnt,pid` keeps it out of their PID namespace";

/// Prints the record that the command's process is configured by, and the changes that the init has made to
/// itself.
fn print_record(context: &Context, found: &ResolvedContainer<'_>, record: Option<&ProcessConfig>) {
    let source = record.map_or_else(
        || "no record of its engine: environment and limits are those of PID 1".to_owned(),
        |record| format!("environment, limits and the like: as recorded in {}", record.source),
    );
    context.ui.step(&safe_str(&source));
    for change in init_changes(found) {
        context.ui.step(&safe_str(&format!("PID 1 {}", change.text)));
    }
}

/// Returns the note on a shell that looks like the container's and has the host's files.
fn host_files_note(plan: &ExecPlan, member: &ContainerProcess) -> String {
    let in_container = member.pid.filter(|_| plan.mount_proc).map(ContainerPid::get);
    let pid = in_container.unwrap_or(member.facts.id.pid.get());
    format!("files are the host's; the container's are below /proc/{pid}/root")
}

fn cannot_enter(name: &str, cause: impl Into<String>) -> Error {
    Error::new(ExitStatus::CannotEnter, format!("cannot enter `{name}`")).cause(cause)
}

fn read_facts(host: &Host, name: &str, pid: HostPid) -> Result<ExecFacts, Error> {
    host.exec_facts(pid).map_err(|error| match error {
        ReadError::Denied => cannot_enter(name, "permission denied")
            .hint("run as root, or with CAP_SYS_PTRACE and CAP_SYS_ADMIN"),
        error => cannot_enter(name, error.to_string()),
    })
}

fn is_frozen(host: &Host, found: &ResolvedContainer<'_>, member: &ContainerProcess) -> bool {
    let memberships = host.memberships(member.facts.id.pid);
    found.container.state == ContainerState::Paused
        || memberships
            .is_ok_and(|memberships| matches!(host.frozen(&memberships), Freezer::V1 | Freezer::V2))
}

/// Prints steps with `--verbose`, and warnings.
fn print_event(context: &Context, event: &ExecEvent) {
    let names = |mask: u64| capability::summary(mask).replace(',', " ");
    let step = match event {
        ExecEvent::Deviation(entry) => {
            let entry = match &entry.hint {
                Some(hint) => format!("{entry} ({hint})"),
                None => entry.to_string(),
            };
            return context.ui.warn(&safe_str(&entry));
        }
        ExecEvent::Shells(shells) => format!("shell {}", shells.join(", or ")),
        ExecEvent::NamespaceRoot => {
            "root directory: that of the mount namespace (PID 1 has changed its own)".into()
        }
        ExecEvent::HelperProgram(SelfExe::Mount) => {
            "the helper runs from a private read-only mount".into()
        }
        ExecEvent::HelperProgram(SelfExe::Copy) => {
            "the helper runs from a sealed copy in memory".into()
        }
        ExecEvent::Joined(names) => format!("joined namespaces: {}", names.join(", ")),
        ExecEvent::Cgroup { path, hierarchies } => {
            format!("cgroup {path} ({})", hierarchies.join(", "))
        }
        ExecEvent::UnmountedHierarchy(name) => {
            format!("cgroup {name} not joined: it has no controllers, and is not mounted here")
        }
        ExecEvent::SecurityLabel(label) => format!("security label {label}"),
        ExecEvent::User { uid, gid } => format!("user {uid}, group {gid}"),
        ExecEvent::SeccompFilters(count) => counted(*count, "seccomp filter", "seccomp filters"),
        ExecEvent::Capabilities { effective, bounding, no_new_privs } => format!(
            "capabilities {}, bounding set {}{}",
            names(*effective),
            names(*bounding),
            if *no_new_privs { ", no_new_privs" } else { "" }
        ),
    };
    context.ui.step(&safe_str(&step));
}

fn print_pids(
    context: &Context,
    host: &Host,
    name: &str,
    pid: Option<ContainerPid>,
    host_pid: HostPid,
) -> Result<(), Error> {
    let pid = pid.map(ContainerPid::get);
    context.print(&if context.ui.json {
        let object = json!({
            "host": host.name, "container": name, "pid": pid, "host_pid": host_pid.get()
        });
        format!("{object}\n")
    } else {
        let pid = pid.map_or_else(|| "?".into(), |pid| pid.to_string());
        format!("{pid} (on the host {host_pid})\n")
    })
}

impl Exec {
    fn options(&self) -> Result<ExecOptions, Error> {
        // (An empty value is the container's, as in Docker.)
        let user = self.user.as_ref().filter(|user| !user.is_empty());
        let user =
            user.map(|user| UserSpec::parse(user.as_bytes())).transpose().map_err(|cause| {
                Error::new(ExitStatus::Usage, "invalid value for --user").cause(cause)
            })?;
        let is_at_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let wants_terminal = self.tty || (is_at_terminal && !self.no_tty && !self.detach);
        let bytes = |word: &OsString| word.as_bytes().to_vec();
        Ok(ExecOptions {
            only: self.ns.clone(),
            skip: self.skip.clone(),
            user,
            workdir: self.workdir()?,
            environment: std::env::vars_os()
                .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
                .collect(),
            variables: self.variables()?,
            command: self.command.iter().map(bytes).collect(),
            terminal: wants_terminal.then(|| terminal_size().unwrap_or((24, 80))),
            privileged: self.privileged,
            detach: self.detach,
            uses_tools: false,
            strict: self.strict,
            keeps_targets_root: self.pid.is_some(),
        })
    }

    /// Returns the working directory that was asked for.
    fn workdir(&self) -> Result<Option<Vec<u8>>, Error> {
        let Some(path) = self.workdir.as_ref().filter(|path| !path.is_empty()) else {
            return Ok(None);
        };
        if path.as_bytes().starts_with(b"/") {
            return Ok(Some(path.as_bytes().to_vec()));
        }
        let message = format!("invalid value `{}` for --workdir", path.to_string_lossy());
        let error = Error::new(ExitStatus::Usage, message).cause("it is not an absolute path");
        Err(error.hint("give the whole path in the container, such as `-w /srv`"))
    }

    /// Opens the host's tools, if they are asked for.
    fn tools(&self) -> Result<Option<Tools>, Error> {
        let Some(file) = &self.tools else { return Ok(None) };
        let named = Some(Path::new(file)).filter(|_| !file.is_empty());
        Tools::open(named).map(Some)
    }

    /// Returns the variables of `--env-file`, then those of `--env`, which win.
    fn variables(&self) -> Result<Vec<Vec<u8>>, Error> {
        let caller_variable =
            |name: &[u8]| std::env::var_os(OsStr::from_bytes(name)).map(OsString::into_vec);
        let mut variables = Vec::new();
        for file in &self.env_file {
            let cannot_read = |cause: String| {
                let message = format!("cannot read the variables in `{}`", file.display());
                Error::new(ExitStatus::Usage, message)
                    .cause(cause)
                    .hint("each line is `NAME=VALUE`; NAME alone copies your value")
            };
            let mut bytes = Vec::new();
            std::fs::File::open(file)
                .and_then(|file| file.take(MAX_VARIABLES + 1).read_to_end(&mut bytes))
                .map_err(|error| cannot_read(os_error(error)))?;
            if bytes.len() as u64 > MAX_VARIABLES {
                return Err(cannot_read("it is longer than a command's environment can be".into()));
            }
            variables.extend(env_file::parse(&bytes, &caller_variable).map_err(cannot_read)?);
        }
        for word in &self.env {
            let variable =
                env_file::parse_word(word.as_bytes(), &caller_variable).map_err(|cause| {
                    let message = format!("invalid value `{}` for --env", word.to_string_lossy());
                    Error::new(ExitStatus::Usage, message).cause(cause).hint("`-e NAME=VALUE`")
                })?;
            variables.push(variable);
        }
        Ok(variables)
    }
}
