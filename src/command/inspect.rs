//! `inspect`: one page about a container.

use clap::{ArgMatches, Args};
use serde_json::{Map, Value as Json, json};

use super::any_container::each_container;
use super::init_changes::init_changes;
use super::{Command, Section, arguments, command, outer, process_of, resolve};
use crate::analysis::container_process::ContainerProcess;
use crate::analysis::inspection::Inspection;
use crate::analysis::inspection::mounts::mounts;
use crate::analysis::inspection::namespaces::{OtherContainer, namespaces};
use crate::analysis::inspection::remarks::{Remark, RemarkCode, remarks};
use crate::cli::context::Context;
use crate::completion::source::CompletionSource;
use crate::engine::{
    SearchDepth, containers_of_shim, discover, engine_infos, resource_config, stop_policy,
};
use crate::error::{Error, ExitStatus};
use crate::model::container::Container;
use crate::model::pid::{ContainerPid, ProcessId};
use crate::model::signal::SignalSet;
use crate::output::escape::{safe, safe_str};
use crate::output::inspect::SECTIONS;
use crate::output::json;
use crate::output::sections::{draw, objects};
use crate::output::style::Style;
use crate::proc::{CommandLimit, ReadError, SnapshotOptions};
use crate::resolve::processes::ContainerSnapshot;
use crate::resolve::{Access, ResolvedContainer, Resolver};

/// Show one page about a container: identity, stopping, namespaces, security, resources, mounts
///
/// Everything comes from the kernel and from the engine's files; `-v` shows the source of each fact. A
/// line marked `!` is dangerous or differs from the configuration. Given the PID of a process on the host,
/// it shows which container and pod the process is in, and its PID there.
#[derive(Args)]
pub struct Inspect {
    /// The containers, or the PIDs of processes on the host
    #[arg(value_name = "CTR", required = true, add = CompletionSource::Containers)]
    containers: Vec<String>,
    /// Inspect this PID (in the container) instead of PID 1
    #[arg(long, value_name = "N", add = CompletionSource::Pids)]
    pid: Option<ContainerPid>,
}

pub const COMMAND: Command = command::<Inspect>(
    "inspect",
    &[],
    &[
        ("cinspect inspect web", "one page; `!` marks dangers"),
        ("cinspect inspect 4711", "the container of a process on the host"),
        ("cinspect -v inspect web", "every detail, with its source"),
        ("cinspect inspect web --pid 7", "about PID 7 in the container"),
        ("cinspect --json inspect web", "as one JSON object"),
    ],
    run,
)
.on_containers(&[ExitStatus::NoProcess])
.files(&[
    ("/proc/PID/status, /proc/PID/ns, /proc/PID/uid_map", "Security, namespaces and users."),
    ("/proc/PID/mountinfo, /proc/PID/attr/current", "Mounts, and the label of a security module."),
    (
        "memory.max, cpu.max, pids.max and their v1 counterparts",
        "Usage and limits, including those of the cgroups above.",
    ),
])
.sections(|| vec![remarks_section()]);

fn remarks_section() -> Section {
    Section::new(
        "Remarks",
        "A line marked `!` is a remark on the fact above it. In JSON they are `warnings`, and `code` is one of:",
        RemarkCode::ALL.iter().map(|(_, name, meaning)| (*name, *meaning)),
    )
}

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: Inspect = arguments(matches)?;
    if arguments.pid.is_some() && arguments.containers.len() > 1 {
        let error = Error::new(ExitStatus::Usage, "--pid cannot be used with several containers");
        return Err(error.hint("inspect one container at a time"));
    }
    let host = context.host()?;
    let resolver = Resolver::new(&host);
    each_container(context, &arguments.containers, |word| {
        let found = resolve(context, &resolver, word, Access::Read)?;
        let pid = process_of(context, &found, arguments.pid);
        let inspection = inspect(&found, pid)?;
        let remarks = remarks(&inspection);
        Ok(match context.ui.json {
            true => json::line(&object(&inspection, &remarks)),
            false => page(context, &inspection, &remarks),
        })
    })
}

/// Gathers the facts.
fn inspect(found: &ResolvedContainer<'_>, pid: Option<ContainerPid>) -> Result<Inspection, Error> {
    let (host, container) = (found.host, &found.container);
    let policy = stop_policy(host, container);
    let stop_signal = policy.signal_of(container.engine);
    let options = SnapshotOptions {
        command: CommandLimit::SCREEN,
        waits: SignalSet::from(stop_signal),
        ..SnapshotOptions::BARE
    };
    let snapshot = found.snapshot(options)?;
    let process = inspected_process(found, pid, &snapshot)?;
    let id = process.facts.id;
    let prediction = found.predict_stop(&snapshot, process, stop_signal);
    let is_host = found.is_host();
    let facts = host.inspect_facts(id.pid, container.cgroup.as_ref());
    // They were read by PID: it has to be the same process still.
    if !host.exists(id) {
        return Err(ReadError::Gone.into());
    }
    Ok(Inspection {
        host: host.name.clone(),
        process: process.clone(),
        user_names_error: snapshot.user_names_error.clone(),
        is_init: Some(id) == container.init,
        is_host,
        outer: outer(found),
        runs: if is_host { runs(found) } else { Vec::new() },
        now: jiff::Timestamp::now(),
        processes: (snapshot.hidden == 0).then_some(snapshot.processes.len()),
        policy,
        stop_signal,
        prediction,
        config: resource_config(host, container),
        own_changes: if Some(id) == container.init { init_changes(found) } else { Vec::new() },
        namespaces: namespaces(&facts, &other_containers(found)),
        mounts: mounts(facts.mounts.known().map_or(&[], Vec::as_slice), &facts.host_mounts),
        engine_sockets: engine_infos().flat_map(|engine| engine.sockets).copied().collect(),
        container: container.clone(),
        facts,
    })
}

/// Returns the process to inspect: the one with `--pid`, the one whose host PID was typed, the init,
/// or the first.
fn inspected_process<'a>(
    found: &ResolvedContainer<'_>,
    pid: Option<ContainerPid>,
    snapshot: &'a ContainerSnapshot,
) -> Result<&'a ContainerProcess, Error> {
    let mut processes = snapshot.processes.iter();
    if let Some(pid) = pid {
        return processes
            .find(|process| process.in_container && process.pid == Some(pid))
            .ok_or_else(|| found.no_process(pid));
    }
    let find = |is_it: &dyn Fn(ProcessId) -> bool| {
        snapshot.processes.iter().find(|process| is_it(process.facts.id))
    };
    let typed = found.matched_by.process().and_then(|pid| find(&|id| id.pid == pid));
    typed
        .or_else(|| find(&|id| Some(id) == found.container.init))
        .or_else(|| processes.next())
        .ok_or_else(|| ReadError::Gone.into())
}

/// Returns the containers that a process of the host runs.
fn runs(found: &ResolvedContainer<'_>) -> Vec<String> {
    let Some(pid) = found.matched_by.process() else { return Vec::new() };
    // (One that no engine claims is only found among all processes.)
    let inventory = discover(found.host, SearchDepth::Everything);
    let containers = containers_of_shim(found.host, &inventory, pid);
    containers.into_iter().map(Container::qualified).collect()
}

/// Returns the namespaces of the inits of all other containers.
fn other_containers(found: &ResolvedContainer<'_>) -> Vec<OtherContainer> {
    let host = found.host;
    let containers = &found.inventory.complete(host).containers;
    let others = containers.iter().filter(|other| other.init != found.container.init);
    let other_container = |other: &Container| {
        let namespaces = host.namespaces(other.init?.pid);
        let is_readable = namespaces.iter().any(|id| id.known().is_some());
        is_readable.then(|| OtherContainer { name: other.qualified(), namespaces })
    };
    others.filter_map(other_container).collect()
}

fn page(context: &Context, inspection: &Inspection, remarks: &[Remark]) -> String {
    let ui = &context.ui;
    let process = &inspection.process.facts;
    let title = match inspection.is_host {
        true => {
            let (pid, comm) = (process.id.pid, safe(&process.stat.comm));
            format!("host process {pid} {comm} (in no container)")
        }
        false => safe_str(&inspection.container.qualified()).into_owned(),
    };
    let remark = |remark: &Remark| (remark.about, safe_str(&remark.message).into_owned());
    let remarks: Vec<(&'static str, String)> = remarks.iter().map(remark).collect();
    draw(&title, SECTIONS, inspection, &remarks, ui.verbose, &Style::from(ui))
}

fn object(inspection: &Inspection, remarks: &[Remark]) -> Json {
    let container = &inspection.container;
    let (facts, sources) = objects(SECTIONS, inspection);
    let mut object = Map::new();
    object.insert("host".into(), json!(inspection.host));
    let name = (!inspection.is_host).then(|| container.qualified());
    object.insert("container".into(), json!(name));
    object.extend(facts);
    let warnings = remarks.iter().map(
        |Remark { about, code, message }| json!({"about": about, "code": code.name(), "message": message}),
    );
    object.insert("warnings".into(), warnings.collect());
    object.insert("sources".into(), Json::Object(sources));
    let evidence = container.evidence.iter().map(|evidence| {
        json!({"source": evidence.source, "says": evidence.observation, "holds": evidence.confirms})
    });
    object.insert("evidence".into(), evidence.collect());
    Json::Object(object)
}
