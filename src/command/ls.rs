//! `ls`: the containers on this host, of every engine.

use clap::{ArgMatches, Args};
use serde_json::Value as Json;

use super::{Command, arguments, columns_section, command};
use crate::cli::context::Context;
use crate::completion::source::{CompletionSource, column_names};
use crate::engine::{SearchDepth, count_members, discover, engine_infos};
use crate::error::{Error, ExitStatus};
use crate::model::container::Container;
use crate::model::engine::EngineInfo;
use crate::output::columns::ls::{LS_COLUMNS, LsRow};
use crate::output::escape::safe_str;
use crate::output::json::{self, object};
use crate::output::select::{Selection, find, help};
use crate::output::style::{Style, TableOptions};
use crate::output::table::{TableLine, draw};
use crate::proc::Host;
use crate::resolve::hidden_names_note;

/// List the containers on this host, of every engine
///
/// Rootless containers of other users, nested ones and bare PID namespaces are among them. A
/// container whose name nothing but a cgroup's name confirms is marked `unverified`.
#[derive(Args)]
pub struct Ls {
    /// Only containers whose name or id contains this
    #[arg(value_name = "NAME", add = CompletionSource::Containers)]
    names: Vec<String>,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Do not shorten ids and images
    #[arg(long)]
    no_trunc: bool,
    /// Only containers of this engine: docker, podman, …, bare
    #[arg(long, value_name = "NAME", value_parser = engine, add = CompletionSource::Engines)]
    engine: Vec<&'static EngineInfo>,
    /// Columns to show, or `help` for what there is; `+` before the first adds to the usual ones
    #[arg(short = 'o', long, value_name = "LIST", add = CompletionSource::Columns(|| column_names(LS_COLUMNS)))]
    columns: Option<String>,
}

pub const COMMAND: Command = command::<Ls>(
    "ls",
    &["list"],
    &[
        ("cinspect ls", "every container on this host"),
        ("cinspect ls --engine podman", "those that Podman made, of every user"),
        ("cinspect --json ls web", "those called web…, one JSON object a line"),
        ("cinspect ls -o name,cgroup", "where each one is in the cgroup tree"),
    ],
    run,
)
.files(&[
    ("/proc/PID/status, /proc/PID/stat", "How many processes there are, and since when."),
    ("/proc/PID/cgroup, /proc/PID/ns/pid", "Whose each is, where no record says so."),
])
.sections(|| vec![columns_section(LS_COLUMNS)]);

fn engine(name: &str) -> Result<&'static EngineInfo, String> {
    engine_infos().find(|engine| engine.name == name).ok_or_else(|| {
        let known: Vec<&str> = engine_infos().map(|engine| engine.name).collect();
        format!("valid values: {}", known.join(", "))
    })
}

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: Ls = arguments(matches)?;
    let ui = &context.ui;
    if arguments.columns.as_deref() == Some("help") {
        context.print(&help(LS_COLUMNS, &Style::from(ui)))?;
        return Ok(ExitStatus::Done);
    }
    let host = context.host()?;
    let inventory = discover(&host, SearchDepth::Everything);
    let rows: Vec<LsRow> = inventory
        .containers
        .iter()
        .filter(|container| arguments.wants(container))
        .filter_map(|container| {
            // One that ended while we looked is not there any more.
            let processes = count_members(&host, container, &inventory);
            let gone = matches!(processes, Err(crate::proc::ReadError::Gone));
            (!gone).then(|| row(&host, container, processes.ok(), !arguments.no_trunc))
        })
        .collect();
    // Who asks for some containers does not ask what is wrong with others.
    if arguments.names.is_empty() {
        for complaint in &inventory.diagnostics {
            ui.warn(&safe_str(complaint));
        }
    }
    for row in rows.iter().filter(|row| row.container.remark.is_some()) {
        let remark = row.container.remark.as_deref().unwrap_or_default();
        ui.note(&format!("{}: {}", safe_str(&row.container.qualified()), safe_str(remark)));
    }
    if let Some(note) = hidden_names_note(&inventory) {
        ui.note(&note);
    }
    for container in inventory.containers.iter().filter(|container| arguments.wants(container)) {
        for evidence in &container.evidence {
            ui.step(&format!(
                "{}: {}: {}",
                safe_str(&container.qualified()),
                safe_str(&evidence.source),
                safe_str(&evidence.observation)
            ));
        }
    }
    let text = arguments.text(context, &rows)?;
    context.print(&text)?;
    Ok(ExitStatus::Done)
}

fn row(host: &Host, container: &Container, processes: Option<usize>, short: bool) -> LsRow {
    LsRow {
        host: host.name.clone(),
        started: container.init.map(|init| host.started(init.start)),
        container: container.clone(),
        processes,
        short,
    }
}

impl Ls {
    fn wants(&self, container: &Container) -> bool {
        let has = |text: &str| {
            container.id.as_deref().is_some_and(|id| id.contains(text))
                || container.qualified().contains(text)
                || container.name.as_deref().is_some_and(|name| name.contains(text))
        };
        (self.engine.is_empty() || self.engine.contains(&container.engine))
            && (self.names.is_empty() || self.names.iter().any(|name| has(name)))
    }

    fn text(&self, context: &Context, rows: &[LsRow]) -> Result<String, Error> {
        let ui = &context.ui;
        if ui.json {
            let objects: Vec<Json> = rows.iter().map(json_of).collect();
            return Ok(json::lines(&objects));
        }
        if self.quiet {
            let lines = rows.iter().map(|row| {
                let id = row.container.id.as_deref().filter(|_| row.container.verified);
                let short =
                    id.filter(|id| !self.no_trunc && id.len() == 64).and_then(|id| id.get(..12));
                let by_pid = row.container.by_pid();
                format!("{}\n", safe_str(short.or(id).unwrap_or(&by_pid)))
            });
            return Ok(lines.collect());
        }
        let mut selection = Selection::parse(LS_COLUMNS, self.columns.as_deref())?;
        // The USER column is shown only if a container belongs to a user other than root.
        if self.columns.is_none() && rows.iter().any(|row| row.container.user.is_some()) {
            let before_last = selection.columns.len().saturating_sub(1);
            selection.columns.insert(before_last, find(LS_COLUMNS, "user")?);
        }
        let style = Style { width: ui.width.filter(|_| !self.no_trunc), ..Style::from(ui) };
        let lines: Vec<TableLine<'_, LsRow>> = rows.iter().map(TableLine::flat).collect();
        Ok(draw(&selection, &lines, &style, &TableOptions::with_header()))
    }
}

/// A container outside of any pod has none, not one of which nothing is known.
fn json_of(row: &LsRow) -> Json {
    let mut object = object(LS_COLUMNS, row);
    if row.container.pod.is_none() {
        object.insert("pod".into(), Json::Null);
    }
    Json::Object(object)
}
