//! `inspect`: one page on a container.

use clap::{ArgMatches, Args};
use serde_json::{Value as Json, json};

use super::{Command, arguments, command, resolve};
use crate::analysis::container_process::ContainerProcess;
use crate::analysis::delivery::Recipient;
use crate::analysis::inspection::{Inspection, OtherContainer, mounts, namespaces, remarks};
use crate::cli::context::Context;
use crate::completion::source::CompletionSource;
use crate::engine::{SearchDepth, discover, engine_infos, resource_config, stop_policy};
use crate::error::{Error, ExitStatus};
use crate::model::pid::ContainerPid;
use crate::model::process::Fact;
use crate::model::signal::SignalSet;
use crate::output::escape::{safe, safe_str};
use crate::output::inspect::facts;
use crate::output::json::line;
use crate::output::sections::{draw, object};
use crate::output::style::Style;
use crate::proc::{CommandLimit, ReadError, SnapshotOptions};
use crate::resolve::processes::ContainerSnapshot;
use crate::resolve::{Access, MatchRule, ResolvedContainer, Resolver};

/// Show one page on a container: what it is, shares, may do, uses and mounts
///
/// Everything comes from the kernel and from the files of its engine; `-v` says where each fact is
/// from. What is dangerous, and what is not as it was configured, is marked with `!`. A plain number
/// looks the other way: which container, pod and inside PID a process of the host is.
#[derive(Args)]
pub struct Inspect {
    /// The container, or the number of a process on the host
    #[arg(value_name = "CTR", add = CompletionSource::Containers)]
    container: String,
    /// Look at this process, by its PID inside, instead of the init
    #[arg(long, value_name = "N", add = CompletionSource::Pids)]
    pid: Option<ContainerPid>,
}

pub const COMMAND: Command = command::<Inspect>(
    "inspect",
    &[],
    &[
        ("cinspect inspect web", "one page on it; `!` marks dangers"),
        ("cinspect inspect 4711", "in which container a process of the host is"),
        ("cinspect -v inspect web", "all of it, and where each fact is from"),
        ("cinspect inspect web --pid 7", "the same of one process inside"),
        ("cinspect --json inspect web", "as one JSON object"),
    ],
    run,
)
.statuses(&[
    ExitStatus::Done,
    ExitStatus::Failed,
    ExitStatus::Usage,
    ExitStatus::NoContainer,
    ExitStatus::NoProcess,
    ExitStatus::NotPermitted,
])
.files(&[
    ("/proc/PID/status, /proc/PID/ns, /proc/PID/uid_map", "Rights, namespaces and users."),
    ("/proc/PID/mountinfo, /proc/PID/attr/current", "Mounts and the security label."),
    (
        "memory.max, cpu.max, pids.max and their v1 counterparts",
        "Limits and usage, of its cgroup and those above.",
    ),
]);

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: Inspect = arguments(matches)?;
    let host = context.host()?;
    let found = resolve(context, &Resolver::new(&host), &arguments.container, Access::Read)?;
    let container = &found.container;
    let plan = stop_policy(&host, container);
    let signal = plan.signal_of(container.engine);
    let facts_wanted = SnapshotOptions {
        command: CommandLimit::SCREEN,
        waits: SignalSet::from(signal),
        ..SnapshotOptions::BARE
    };
    let view = found.snapshot(facts_wanted)?;
    let member = arguments.member(&found, &view)?;
    let id = member.facts.id;
    let judgement = view.predict(member, signal, Recipient::Process);
    let own_cgroup = container.cgroup.as_ref();
    let sheet = host.inspect_facts(id.pid, own_cgroup);
    // Read by number: it has to be the same process still.
    if host.stat(id.pid).map(|stat| stat.start) != Ok(id.start) {
        return Err(ReadError::Gone.into());
    }
    let configured = resource_config(&host, container);
    let portrait = Inspection {
        host: &host.name,
        container,
        member,
        is_init: Some(id) == container.init,
        is_host: !container.engine.names_containers() && container.pid_ns == host.pid_ns,
        now: jiff::Timestamp::now(),
        processes: (view.hidden == 0).then_some(view.processes.len()),
        plan: &plan,
        on_stop: (signal, &judgement),
        sheet: &sheet,
        configured: configured.as_ref(),
        namespaces: namespaces(&sheet, &neighbours(&found)),
        mounts: mounts(sheet.mounts.known().map_or(&[], Vec::as_slice), &sheet.host_mounts),
        engine_sockets: engine_infos().flat_map(|engine| engine.sockets).copied().collect(),
    };
    context.print(&text(context, &portrait))?;
    Ok(ExitStatus::Done)
}

impl Inspect {
    /// Whom to look at: the process that was named, else the init, else the first there is.
    fn member<'a>(
        &self,
        found: &ResolvedContainer<'_>,
        view: &'a ContainerSnapshot,
    ) -> Result<&'a ContainerProcess, Error> {
        let name = found.container.qualified();
        if let Some(pid) = self.pid {
            let is_it = |member: &&ContainerProcess| member.in_container && member.pid == Some(pid);
            return view.processes.iter().find(is_it).ok_or_else(|| {
                Error::new(ExitStatus::NoProcess, format!("no process {pid} in `{name}`"))
                    .hint(format!("`cinspect ps {name}` lists them"))
            });
        }
        let on_host = match found.matched_by {
            MatchRule::Pid(pid) => Some(pid),
            _ => None,
        };
        let named = on_host.and_then(|pid| view.processes.iter().find(|m| m.facts.id.pid == pid));
        let init = || view.processes.iter().find(|m| Some(m.facts.id) == found.container.init);
        named.or_else(init).or(view.processes.first()).ok_or_else(|| ReadError::Gone.into())
    }
}

/// Whose init is in which namespaces, of all other containers there are.
fn neighbours(found: &ResolvedContainer<'_>) -> Vec<OtherContainer> {
    let host = found.host;
    let partial = found.inventory.partial;
    let all = partial.then(|| discover(host, SearchDepth::Cgroups));
    let containers = all.as_ref().map_or(&found.inventory.containers, |all| &all.containers);
    let own = &found.container;
    let others = containers.iter().filter(|other| other.init != own.init);
    others
        .filter_map(|other| {
            let namespaces: Vec<_> = host.namespaces(other.init?.pid);
            let is_known = |fact: &Fact<_>| fact.known().is_some();
            let name = other.qualified();
            namespaces.iter().any(is_known).then_some(OtherContainer { name, namespaces })
        })
        .collect()
}

fn text(context: &Context, portrait: &Inspection<'_>) -> String {
    let ui = &context.ui;
    let remarks = remarks(portrait);
    if ui.json {
        return line(&json_of(portrait, &remarks));
    }
    let marks: Vec<(&'static str, String)> = remarks
        .iter()
        .map(|remark| (remark.about, safe(remark.message.as_bytes()).into_owned()))
        .collect();
    let title = portrait.container.qualified();
    draw(&safe_str(&title), &facts(), portrait, &marks, ui.verbose, &Style::from(ui))
}

fn json_of(portrait: &Inspection<'_>, remarks: &[crate::analysis::inspection::Remark]) -> Json {
    let container = portrait.container;
    let mut all = serde_json::Map::new();
    all.insert("host".into(), json!(portrait.host));
    all.insert("container".into(), json!(container.qualified()));
    let (values, sources) = object(&facts(), portrait);
    all.extend(values);
    let marks = remarks.iter().map(
        |remark| json!({"about": remark.about, "code": remark.code, "message": remark.message}),
    );
    all.insert("warnings".into(), marks.collect());
    all.insert("sources".into(), Json::Object(sources));
    let evidence = container.evidence.iter().map(|evidence| {
        json!({"source": evidence.source, "says": evidence.observation, "holds": evidence.confirms})
    });
    all.insert("evidence".into(), evidence.collect());
    Json::Object(all)
}
