//! `doctor`: says why a stop would not be graceful, and how to fix it. `analysis::diagnosis` finds out;
//! this file takes the snapshot and prints. Nothing is sent.

use clap::{ArgMatches, Args};
use serde_json::{Map, Value as Json, json};

use super::forecast::{forecast_of, procedure_of, snapshot_for};
use super::{Command, Section, arguments, command, resolve};
use crate::analysis::delivery::{Prediction, Recipient};
use crate::analysis::diagnosis::{DiagnosisInput, diagnose, exit_signal_set, exit_signals};
use crate::analysis::finding::{Finding, FindingCode, Severity};
use crate::analysis::forecast::Forecast;
use crate::cli::context::Context;
use crate::completion::source::CompletionSource;
use crate::engine::stop_policy;
use crate::error::{Error, ExitStatus};
use crate::model::signal::{Signal, SignalSet};
use crate::model::stop_schedule::{StopOrder, StopProcedure};
use crate::output::escape::{safe, safe_str};
use crate::output::json::{self, bytes_to_json};
use crate::output::style::{Emphasis, Style};
use crate::output::terminal::Ui;
use crate::output::width::wrap;
use crate::resolve::{Access, ResolvedContainer, Resolver};

/// Say why a stop would not be graceful, and how to fix it
///
/// Checks what the container's stop signal would do to each process, whether PID 1 forwards it, which
/// processes are zombies, paused, stopped or traced, and whether the engine restarts the container. The
/// most serious finding comes first. Nothing is sent.
#[derive(Args)]
pub struct DoctorArgs {
    /// The container
    #[arg(value_name = "CTR", add = CompletionSource::Containers)]
    container: String,
}

pub const COMMAND: Command = command::<DoctorArgs>(
    "doctor",
    &[],
    &[
        ("cinspect doctor web", "why stopping web takes ten seconds"),
        ("cinspect --json doctor web", "one finding per line"),
    ],
    run,
)
.statuses(&[
    ExitStatus::Done,
    ExitStatus::Failed,
    ExitStatus::Usage,
    ExitStatus::NoContainer,
    ExitStatus::NotPermitted,
])
.files(&[
    ("/proc/PID/status, /proc/PID/task/TID/status", "Signal masks, dispositions and states."),
    ("/proc/PID/cmdline, /proc/PID/exe", "The program."),
    ("cgroup.events, freezer.state", "Whether the container is paused."),
])
.sections(|| vec![findings_section()]);

fn findings_section() -> Section {
    let item = |(_, name, meaning): &(_, &str, &str)| ((*name).to_owned(), (*meaning).to_owned());
    Section {
        title: "Findings",
        intro: "Each finding is a `problem`, a `warning`, an `info` or `ok`, and most have a remedy. In JSON, `code` is one of:",
        items: FindingCode::ALL.iter().map(item).collect(),
    }
}

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: DoctorArgs = arguments(matches)?;
    let host = context.host()?;
    let found = resolve(context, &Resolver::new(&host), &arguments.container, Access::Read)?;
    let findings = findings(&found)?;
    let name = found.container.qualified();
    let text: String = if context.ui.json {
        findings.iter().map(|finding| json::line(&object(&host.name, &name, finding))).collect()
    } else {
        findings.iter().map(|finding| lines(finding, &context.ui)).collect()
    };
    context.print(&text)?;
    Ok(ExitStatus::Done)
}

/// Reads a container and returns the findings.
fn findings(found: &ResolvedContainer<'_>) -> Result<Vec<Finding>, Error> {
    let container = &found.container;
    let policy = stop_policy(found.host, container);
    let signal = policy.signal_of(container.engine);
    let signals = exit_signal_set().union(SignalSet::from(signal));
    let snapshot = snapshot_for(found, signals, Some(signal))?;
    let predict = |process| snapshot.predict(process, signal, Recipient::Process);
    let predictions: Vec<Prediction> = snapshot.processes.iter().map(predict).collect();
    let engines = procedure_of(container, &policy, None);
    let children_first = StopProcedure { order: StopOrder::ChildrenFirst, ..engines.clone() };
    let forecast = |procedure: &StopProcedure| forecast_of(container, &snapshot, procedure);
    let others = exit_signals().into_iter().filter(|other| *other != signal);
    let alternatives: Vec<(Signal, Forecast)> = others
        .map(|other| (other, forecast(&procedure_of(container, &policy, Some(other)))))
        .collect();
    Ok(diagnose(&DiagnosisInput {
        container,
        policy: &policy,
        processes: &snapshot.processes,
        predictions: &predictions,
        forecast: &forecast(&engines),
        children_first: &forecast(&children_first),
        alternatives: &alternatives,
    }))
}

/// The column in which the texts of findings begin.
const INDENT: usize = 9;

fn lines(finding: &Finding, ui: &Ui) -> String {
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
    if let Some(remedy) = &finding.remedy {
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
