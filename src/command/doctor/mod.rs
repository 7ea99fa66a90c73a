//! `doctor`: why a stop would not be graceful, and how to fix it. `analysis::diagnosis` decides;
//! `facts` reads, and this file prints. Nothing is sent.

mod ended;
mod facts;

use std::sync::Arc;

use clap::{ArgMatches, Args};
use serde_json::{Map, Value as Json, json};

use self::ended::RunningPods;
use super::any_container::resolve_running;
use super::forecast::{all_resolved, each_container};
use super::{Command, Section, arguments, command};
use crate::analysis::finding::{Finding, FindingCode, Severity};
use crate::analysis::wording::counted;
use crate::cli::context::Context;
use crate::completion::source::CompletionSource;
use crate::engine::{SearchDepth, StoppedContainer, discover};
use crate::error::{Error, ExitStatus};
use crate::output::escape::{safe, safe_str};
use crate::output::json::{self, bytes_to_json};
use crate::output::style::{Emphasis, Style};
use crate::output::terminal::Ui;
use crate::output::width::wrap;
use crate::proc::Host;
use crate::resolve::{ResolvedContainer, Resolver, hidden_names_note, record_warnings};

/// Say why a stop would not be graceful, and how to fix it
///
/// Checks what the container's stop signal would do to each process, whether PID 1 forwards it, which
/// processes are zombies, left behind, paused, stopped or traced, whether any was killed for lack of memory,
/// and whether the engine restarts the container. The
/// most serious finding comes first. Without CTR, every running container of the host is checked, the worst
/// first. For a container that is not running, the command says how it ended. Nothing is sent.
#[derive(Args)]
pub struct DoctorArgs {
    /// The containers; without any, all on this host
    #[arg(value_name = "CTR", add = CompletionSource::AnyContainers)]
    containers: Vec<String>,
    /// Exit 0 even if there is a problem
    #[arg(long)]
    exit_zero: bool,
}

pub const COMMAND: Command = command::<DoctorArgs>(
    "doctor",
    &[],
    &[
        ("cinspect doctor web", "why stopping web takes ten seconds"),
        ("cinspect doctor", "every container on this host, the worst first"),
        ("cinspect --json doctor web", "one finding per line"),
    ],
    run,
)
.on_containers(&[ExitStatus::ProblemFound])
.files(&[
    ("/proc/PID/status, /proc/PID/task/TID/status", "Signal masks, dispositions and states."),
    ("/proc/PID/cmdline, /proc/PID/exe", "The program."),
    ("cgroup.events, freezer.state", "Whether the container is paused."),
    ("memory.events, memory.oom_control", "The number of processes killed for lack of memory."),
    (
        "/proc/PID/wchan, /proc/PID/stack, /proc/1/ns/pid_for_children",
        "The wait of an init that is exiting, and whether the host's init has joined a container.",
    ),
])
.sections(|| vec![findings_section()]);

fn findings_section() -> Section {
    Section::new(
        "Findings",
        "Each finding is a `problem`, a `warning`, `info` or `ok`, and most have a remedy. In JSON, `code` is one of:",
        FindingCode::ALL.iter().map(|(_, name, meaning)| (*name, *meaning)),
    )
}

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: DoctorArgs = arguments(matches)?;
    let host = context.host()?;
    let (mut reports, status) = match &arguments.containers[..] {
        [] => (every_container(context, &host), ExitStatus::Done),
        [word] => {
            let report = report_of(context, &Resolver::new(&host), word)?;
            (vec![report], ExitStatus::Done)
        }
        words => several_containers(context, &host, words),
    };
    // (The sort is stable: containers of one severity stay in their order.)
    reports.sort_by_key(Report::severity);
    let is_single = arguments.containers.len() == 1;
    let text: String = match (context.ui.json, is_single) {
        (true, _) => reports.iter().map(|report| report.json(&host.name)).collect(),
        (false, true) => reports.iter().map(|report| report.text(&context.ui)).collect(),
        (false, false) => overview(&reports, &context.ui),
    };
    context.print(&text)?;
    let has_problem = reports.iter().any(|report| report.severity() == Severity::Problem);
    Ok(match status {
        ExitStatus::Done if has_problem && !arguments.exit_zero => ExitStatus::ProblemFound,
        status => status,
    })
}

/// The findings about one container.
struct Report {
    /// The container, in qualified form.
    container: String,
    /// The most serious first.
    findings: Vec<Finding>,
}

impl Report {
    /// Returns the severity of the most serious finding.
    fn severity(&self) -> Severity {
        self.findings.first().map_or(Severity::Ok, |finding| finding.severity)
    }

    /// Whether a fact is missing that could make it a problem.
    fn is_uncertain(&self) -> bool {
        self.findings.iter().any(|finding| finding.code == FindingCode::Uncertain)
    }

    fn json(&self, host: &str) -> String {
        let line = |finding| json::line(&object(host, &self.container, finding));
        self.findings.iter().map(line).collect()
    }

    /// Returns the text; one remedy for several findings in a row is below the last of them.
    fn text(&self, ui: &Ui) -> String {
        let findings = self.findings.iter().enumerate();
        let lines = findings.map(|(index, finding)| {
            let next = self.findings.get(index + 1);
            let remedy = finding.remedy.as_deref();
            let is_said = |next: &Finding| next.remedy.as_deref() == remedy;
            lines(finding, remedy.filter(|_| !next.is_some_and(is_said)), ui)
        });
        lines.collect()
    }
}

/// Checks every running container of the host, and those that are about to be started again, after one
/// search. One that ends meanwhile is left out.
fn every_container(context: &Context, host: &Host) -> Vec<Report> {
    let inventory = Arc::new(discover(host, SearchDepth::Everything));
    for warning in record_warnings(&inventory, context.ui.verbose) {
        context.ui.warn(&safe_str(&warning));
    }
    if let Some(note) = hidden_names_note(&inventory) {
        context.ui.note(&note);
    }
    let containers = inventory.containers.iter().filter(|container| container.init.is_some());
    let results = each_container(&all_resolved(host, &inventory, containers), report);
    let mut reports = Vec::new();
    for result in results {
        match result {
            Ok(report) => reports.push(report),
            Err(error) if error.status == ExitStatus::NoContainer => {}
            Err(error) => context.ui.warn_error(&error),
        }
    }
    let pods = RunningPods::new(&inventory);
    // (Another search only where there are pods: the records of containers that ended are many.)
    let with_ended = (!pods.is_empty()).then(|| discover(host, SearchDepth::NotRunning));
    let stopped = &with_ended.as_ref().unwrap_or(&inventory).stopped;
    let restarting = ended::restarting(host, stopped, &pods);
    reports.extend(restarting.into_iter().map(|stopped| ended_report(host, stopped, &pods)));
    reports
}

/// Checks several containers. One that is not found is a warning; the status is that of the first.
fn several_containers(
    context: &Context,
    host: &Host,
    words: &[String],
) -> (Vec<Report>, ExitStatus) {
    let resolver = Resolver::new(host);
    let (mut reports, mut status) = (Vec::new(), ExitStatus::Done);
    for word in words {
        match report_of(context, &resolver, word) {
            Ok(report) => reports.push(report),
            Err(error) => {
                context.ui.warn_error(&error);
                status = status.or(error.status);
            }
        }
    }
    (reports, status)
}

/// Returns the text for several containers: a heading and the findings of each, and a line that counts.
fn overview(reports: &[Report], ui: &Ui) -> String {
    let style = Style::from(ui);
    let mut text = String::new();
    for report in reports {
        style.paint(&mut text, &safe_str(&report.container), Emphasis::Heading);
        text.push('\n');
        text.push_str(&report.text(ui));
        text.push('\n');
    }
    let count = |severity| reports.iter().filter(|report| report.severity() == severity).count();
    let has_note = |report: &&Report| report.severity() == Severity::Info;
    let (uncertain, noted): (Vec<&Report>, Vec<&Report>) =
        reports.iter().filter(has_note).partition(|report| report.is_uncertain());
    let counts = [
        (count(Severity::Problem), "with a problem"),
        (count(Severity::Warning), "with a warning"),
        (uncertain.len(), "uncertain"),
        (noted.len(), "with a note"),
        (count(Severity::Ok), "ok"),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, label)| format!("{count} {label}"))
        .collect();
    let summary = match reports.len() {
        0 => "no containers".to_owned(),
        count => format!("{}: {}", counted(count, "container", "containers"), counts.join(", ")),
    };
    text + &summary + "\n"
}

/// Reads the container of a reference, or the record of one that is not running.
fn report_of(context: &Context, resolver: &Resolver<'_>, word: &str) -> Result<Report, Error> {
    let error = match resolve_running(context, resolver, word) {
        Ok(found) => return report(&found),
        Err(error) => error,
    };
    resolver.not_running(word).map_or(Err(error), |stopped| {
        let inventory = discover(resolver.host, SearchDepth::Cgroups);
        Ok(ended_report(resolver.host, &stopped, &RunningPods::new(&inventory)))
    })
}

fn ended_report(host: &Host, stopped: &StoppedContainer, pods: &RunningPods) -> Report {
    Report { container: stopped.qualified(), findings: vec![ended::finding(host, stopped, pods)] }
}

/// Reads a container and returns the findings about it.
fn report(found: &ResolvedContainer<'_>) -> Result<Report, Error> {
    Ok(Report { container: found.container.qualified(), findings: facts::findings(found)? })
}

/// The column in which the texts of findings begin.
const INDENT: usize = 9;

fn lines(finding: &Finding, remedy: Option<&str>, ui: &Ui) -> String {
    let pid = finding.pid.map_or_else(String::new, |pid| format!("{pid} "));
    let process =
        finding.comm.as_ref().map_or_else(String::new, |comm| format!("{pid}{}: ", safe(comm)));
    let room = ui.width.map(|columns| columns.saturating_sub(INDENT).max(20));
    let mut text = String::new();
    let severity = finding.severity;
    let emphasis = match severity {
        Severity::Problem => Emphasis::Alarm,
        Severity::Warning => Emphasis::Warning,
        Severity::Info => Emphasis::None,
        Severity::Ok => Emphasis::Good,
    };
    Style::from(ui).paint(&mut text, severity.name(), emphasis);
    text.push_str(&" ".repeat(INDENT - severity.name().len()));
    let message = format!("{process}{}", safe_str(&finding.message));
    text.push_str(&wrap(&message, room).join(&format!("\n{}", " ".repeat(INDENT))));
    text.push('\n');
    if let Some(remedy) = remedy {
        let arrow = if ui.unicode { "→" } else { "->" };
        let hang = INDENT + arrow.chars().count() + 1;
        let room = ui.width.map(|columns| columns.saturating_sub(hang).max(20));
        text.push_str(&format!("{}{arrow} ", " ".repeat(INDENT)));
        text.push_str(&wrap(&safe_str(remedy), room).join(&format!("\n{}", " ".repeat(hang))));
        text.push('\n');
    }
    text
}

fn object(host: &str, container: &str, finding: &Finding) -> Json {
    let mut object = Map::new();
    object.insert("host".into(), json!(host));
    object.insert("container".into(), json!(container));
    object.insert("severity".into(), json!(finding.severity.name()));
    object.insert("code".into(), json!(finding.code.name()));
    object.insert("pid".into(), json!(finding.pid.map(|pid| pid.get())));
    let comm = finding.comm.as_ref().map_or(Json::Null, |comm| bytes_to_json(comm));
    object.insert("comm".into(), comm);
    object.insert("message".into(), json!(finding.message));
    object.insert("remedy".into(), json!(finding.remedy));
    Json::Object(object)
}
