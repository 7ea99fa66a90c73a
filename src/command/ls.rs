//! `ls`: the containers on this host, of every engine.

use std::collections::BTreeSet;
use std::sync::Arc;

use clap::{ArgMatches, Args};

use super::forecast::{
    PlannedStop, StopQuestion, all_resolved, assumed_by, deciding_inits, each_container,
    forecast_of,
};
use super::{Command, arguments, columns_section, command};
use crate::cli::args;
use crate::cli::context::Context;
use crate::completion::source::{CompletionSource, column_names};
use crate::engine::{
    Inventory, SearchDepth, add_labels, discover, engine_infos, exit_record, list_members,
};
use crate::error::{Error, ExitStatus};
use crate::model::container::{Container, Evidence, short_id};
use crate::model::engine::EngineInfo;
use crate::model::pid::HostPid;
use crate::output::columns::ls::{LS_COLUMNS, LsRow, LsStop, STOP_COLUMNS};
use crate::output::escape::safe_str;
use crate::output::json;
use crate::output::select::{Selection, find, help};
use crate::output::style::{Style, TableOptions};
use crate::output::table::{TableLine, draw};
use crate::proc::{Host, ReadError, parallel_map};
use crate::resolve::processes::ContainerSnapshot;
use crate::resolve::{ResolvedContainer, has_part, hidden_names_note, record_warnings};

/// List the containers on this host, of every engine
///
/// Rootless containers of other users, nested containers and bare PID namespaces are listed too. In a
/// container that is `unverified`, only the name of its cgroup says which container it is. With `-a`,
/// containers that are not running follow, as far as the engines' files record them: the exit status is
/// the engine's, OOM is its mark that the kernel killed a process of the container for lack of memory.
#[derive(Args)]
pub struct Ls {
    /// Only containers whose name or ID contains this text
    #[arg(value_name = "NAME", add = CompletionSource::Containers)]
    names: Vec<String>,
    /// Also list containers that are not running, and how they ended
    #[arg(short, long)]
    all: bool,
    /// Print IDs only
    #[arg(short, long)]
    quiet: bool,
    /// Do not shorten IDs and images
    #[arg(long)]
    no_trunc: bool,
    /// Only containers of this engine: docker, podman, …, bare
    #[arg(long, value_name = "NAME", value_parser = engine, add = CompletionSource::Engines)]
    engine: Vec<&'static EngineInfo>,
    /// Only containers with this label; `KEY` alone matches any value
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = args::label, add = CompletionSource::Free)]
    label: Vec<String>,
    /// Columns to show; `+LIST` adds to the default ones, `help` lists all
    #[arg(short = 'o', long, value_name = "LIST", add = CompletionSource::Columns(|| column_names(LS_COLUMNS)))]
    columns: Vec<String>,
}

pub const COMMAND: Command = command::<Ls>(
    "ls",
    &["list"],
    &[
        ("cinspect ls", "all containers on this host"),
        ("cinspect ls -a", "with those that ended"),
        ("cinspect ls --engine podman", "Podman's, of every user"),
        ("cinspect --json ls web", "containers with `web` in the name, as JSON"),
        (
            "cinspect ls --label com.docker.compose.project=shop",
            "the containers of a Compose project",
        ),
        ("cinspect ls -o name,cgroup", "with their cgroups"),
    ],
    run,
)
.files(&[
    ("/proc/PID/status, /proc/PID/stat", "Process counts and start times."),
    ("/proc/PID/cgroup, /proc/PID/ns/pid", "The container of each process, without a record."),
])
.sections(|| vec![columns_section(LS_COLUMNS)]);

/// The columns that are read from the labels.
const IN_LABELS: [&str; 3] = ["project", "service", "labels"];

fn engine(name: &str) -> Result<&'static EngineInfo, String> {
    engine_infos().find(|engine| engine.name == name).ok_or_else(|| {
        let known: Vec<&str> = engine_infos().map(|engine| engine.name).collect();
        format!("valid values: {}", known.join(", "))
    })
}

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: Ls = arguments(matches)?;
    let ui = &context.ui;
    if arguments.columns.iter().any(|list| list == "help") {
        context.print(&help(LS_COLUMNS, &Style::from(ui)))?;
        return Ok(ExitStatus::Done);
    }
    let selection = Selection::parse(LS_COLUMNS, &arguments.columns)?;
    let host = context.host()?;
    let depth = if arguments.all { SearchDepth::NotRunning } else { SearchDepth::Everything };
    let mut inventory = discover(&host, depth);
    let shows_labels =
        ui.json || selection.columns.iter().any(|column| IN_LABELS.contains(&column.name));
    if !arguments.label.is_empty() {
        add_labels(&host, inventory.containers.iter_mut());
    }
    if arguments.all && (shows_labels || !arguments.label.is_empty()) {
        add_labels(&host, inventory.stopped.iter_mut().map(|stopped| &mut stopped.container));
    }
    let inventory = Arc::new(inventory);
    let containers = inventory.containers.iter().filter(|container| arguments.lists(container));
    let containers: Vec<&Container> = containers.collect();
    let rows = parallel_map(&containers, |container| arguments.row(&host, container, &inventory));
    let (mut rows, members): (Vec<LsRow>, Vec<Members>) = rows.into_iter().flatten().unzip();
    if shows_labels {
        add_labels(&host, rows.iter_mut().map(|row| &mut row.container));
    }
    if arguments.needs_forecasts(ui.json, &selection) {
        add_forecasts(&host, &inventory, &mut rows, &members);
    }
    if arguments.all {
        rows.extend(arguments.not_running(&host, &inventory));
    }
    arguments.report(context, &inventory, &rows);
    context.print(&arguments.text(context, selection, &rows)?)?;
    Ok(ExitStatus::Done)
}

/// The processes of a container, if they could be listed.
type Members = Option<BTreeSet<HostPid>>;

/// Adds the forecast of a stop to each row, as far as its processes can be read.
fn add_forecasts(host: &Host, inventory: &Arc<Inventory>, rows: &mut [LsRow], members: &[Members]) {
    let found = all_resolved(host, inventory, rows.iter().map(|row| &row.container));
    let plans = parallel_map(&found, PlannedStop::read);
    let question = |((found, plan), members)| StopQuestion {
        found,
        plan,
        // Without a survey only those in its cgroup are known.
        members: Option::as_ref(members).filter(|_| inventory.survey.is_some()),
    };
    let questions: Vec<StopQuestion<'_>> =
        found.iter().zip(plans).zip(members).map(question).collect();
    let inits = deciding_inits(host, &questions);
    let forecast = |index: &usize| {
        let StopQuestion { found, plan, .. } = &questions[*index];
        let snapshot = plan.snapshot(found, inits.get(&found.container.init_pid()?));
        forecast_stop(found, plan, &snapshot.ok()?)
    };
    let is_decided = |index: &usize| {
        let pid = questions[*index].found.container.init_pid();
        pid.is_some_and(|pid| inits.contains_key(&pid))
    };
    let (decided, others): (Vec<usize>, Vec<usize>) = (0..questions.len()).partition(is_decided);
    // Nothing else is read of a container that its init decides.
    let stops =
        parallel_map(&decided, forecast).into_iter().chain(each_container(&others, forecast));
    for (index, stop) in decided.iter().chain(&others).zip(stops) {
        let row = &mut rows[*index];
        row.stop = stop;
        row.is_stop_unread = row.stop.is_none() && row.container.init_pid().is_some();
    }
}

/// Forecasts the stop of a container by its engine.
fn forecast_stop(
    found: &ResolvedContainer<'_>,
    PlannedStop { policy, procedure }: &PlannedStop,
    snapshot: &ContainerSnapshot,
) -> Option<LsStop> {
    let container = &found.container;
    let init = container.init?;
    let signal = policy.engines_signal(container.engine);
    let process = snapshot.processes.iter().find(|process| process.facts.id == init)?;
    Some(LsStop {
        signal,
        verdict: signal.map(|signal| found.predict_stop(snapshot, process, signal).verdict),
        forecast: forecast_of(found, snapshot, procedure).graceful,
        assumed: assumed_by(policy, container),
    })
}

impl Ls {
    /// Whether the forecast of a stop is shown.
    fn needs_forecasts(&self, json: bool, selection: &Selection<LsRow>) -> bool {
        let is_shown =
            || selection.columns.iter().any(|column| STOP_COLUMNS.contains(&column.name));
        json || (!self.quiet && is_shown())
    }

    /// Whether the filters let a container through.
    fn lists(&self, container: &Container) -> bool {
        let contains = |text: &str| {
            container.id.as_deref().is_some_and(|id| id.contains(text))
                || container.qualified().contains(text)
                || has_part(container, text)
        };
        (self.engine.is_empty() || self.engine.contains(&container.engine))
            && self.label.iter().all(|label| container.has_label(label))
            && (self.names.is_empty() || self.names.iter().any(|name| contains(name)))
    }

    /// Whether a name is a pattern, which nothing matches.
    fn has_wildcard(&self) -> bool {
        self.names.iter().any(|name| name.contains(['*', '?']))
    }

    /// Makes the row of a container, unless it has just ended, and lists its processes.
    fn row(
        &self,
        host: &Host,
        container: &Container,
        inventory: &Inventory,
    ) -> Option<(LsRow, Members)> {
        let members = list_members(host, container, inventory);
        if matches!(members, Err(ReadError::Gone)) {
            return None;
        }
        let members = members.ok();
        let row = LsRow {
            host: host.name.clone(),
            started: container.init.map(|init| host.started(init.start)),
            container: container.clone(),
            processes: members.as_ref().map(BTreeSet::len),
            stop: None,
            is_stop_unread: false,
            exit: None,
            short: !self.no_trunc,
        };
        Some((row, members))
    }

    /// Makes the rows of containers that are not running.
    fn not_running(&self, host: &Host, inventory: &Inventory) -> Vec<LsRow> {
        let containers = inventory.stopped.iter().map(|stopped| &stopped.container);
        let row = |container: &Container| LsRow {
            host: host.name.clone(),
            container: container.clone(),
            processes: Some(0),
            started: None,
            stop: None,
            is_stop_unread: false,
            exit: Some(exit_record(host, container).unwrap_or_default()),
            short: !self.no_trunc,
        };
        let is_running = |id: &Option<String>| {
            id.is_some() && inventory.containers.iter().any(|running| running.id == *id)
        };
        let ended = containers.filter(|container| !is_running(&container.id));
        ended.filter(|container| self.lists(container)).map(row).collect()
    }

    /// Prints warnings and remarks; with `-v` the evidence for each container.
    fn report(&self, context: &Context, inventory: &Inventory, rows: &[LsRow]) {
        let ui = &context.ui;
        // With a filter, warnings about other containers are left out.
        if self.names.is_empty() {
            for warning in record_warnings(inventory, ui.verbose) {
                ui.warn(&safe_str(&warning));
            }
        }
        for container in rows.iter().map(|row| &row.container) {
            let name = container.qualified();
            let name = safe_str(&name);
            if let Some(remark) = &container.remark {
                ui.note(&format!("{name}: {}", safe_str(remark)));
            }
            for Evidence { source, observation, .. } in &container.evidence {
                ui.step(&format!("{name}: {}: {}", safe_str(source), safe_str(observation)));
            }
        }
        if let Some(note) = hidden_names_note(inventory) {
            ui.note(&note);
        }
        if rows.is_empty() && self.has_wildcard() {
            ui.note("no container matches: NAME is a part of the name, without wildcards");
        }
    }

    fn text(
        &self,
        context: &Context,
        mut selection: Selection<LsRow>,
        rows: &[LsRow],
    ) -> Result<String, Error> {
        let ui = &context.ui;
        if ui.json {
            return Ok(rows.iter().map(|row| json::line(&json::object(LS_COLUMNS, row))).collect());
        }
        if self.quiet {
            return Ok(rows.iter().map(|row| format!("{}\n", safe_str(&Self::id(row)))).collect());
        }
        // The USER column is shown only if a container belongs to a user other than root.
        if self.columns.is_empty() && rows.iter().any(|row| row.container.user.is_some()) {
            let before_last = selection.columns.len().saturating_sub(1);
            selection.columns.insert(before_last, find(LS_COLUMNS, "user")?);
        }
        let style = Style { width: ui.width.filter(|_| !self.no_trunc), ..Style::from(ui) };
        let lines: Vec<TableLine<'_, LsRow>> = rows.iter().map(TableLine::flat).collect();
        Ok(draw(&selection, &lines, &style, &TableOptions::with_header()))
    }

    /// Returns the ID that `-q` prints, or a PID if nothing verifies it.
    fn id(row: &LsRow) -> String {
        let container = &row.container;
        match container.id.as_deref().filter(|_| container.verified) {
            None => container.by_pid(),
            Some(id) if row.short => short_id(id).to_owned(),
            Some(id) => id.to_owned(),
        }
    }
}
