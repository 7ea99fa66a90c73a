//! `doctor`: why a stop would not be graceful, and what helps.

use clap::{ArgMatches, Args};
use serde_json::{Map, Value as Json, json};

use super::{Command, Section, arguments, command, resolve};
use crate::analysis::delivery::{Prediction, Recipient};
use crate::analysis::diagnosis::{DiagnosisInput, Finding, Severity, code, diagnose};
use crate::cli::context::Context;
use crate::completion::source::CompletionSource;
use crate::engine::stop_policy;
use crate::error::{Error, ExitStatus};
use crate::model::signal::{Signal, SignalSet};
use crate::output::escape::{safe, safe_str};
use crate::output::json::{self, bytes_to_json};
use crate::output::style::{Emphasis, Style};
use crate::output::terminal::Ui;
use crate::output::width::wrap;
use crate::proc::{CommandLimit, SnapshotOptions};
use crate::resolve::{Access, Resolver};

/// Say why a stop would not be graceful, and what helps
///
/// Looks at what the container's stop signal would do to each of its processes, who is whose child, who
/// is not reaped, frozen, stopped or traced, and what the engine does afterwards. What hurts most comes
/// first. Nothing is sent.
#[derive(Args)]
pub struct Doctor {
    /// The container
    #[arg(value_name = "CTR", add = CompletionSource::Containers)]
    container: String,
}

pub const COMMAND: Command = command::<Doctor>(
    "doctor",
    &[],
    &[
        ("cinspect doctor web", "why stopping web takes ten seconds"),
        ("cinspect --json doctor web", "one finding a line"),
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
    ("/proc/PID/status, /proc/PID/task/TID/status", "Masks, dispositions and states."),
    ("/proc/PID/cmdline, /proc/PID/exe", "Which program it is."),
    ("cgroup.events, freezer.state", "Whether it is frozen."),
])
.sections(|| vec![findings()]);

/// What programs are told to leave by.
const LEAVE: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP];

fn findings() -> Section {
    Section {
        title: "Findings",
        intro: "A line each, what hurts most first, a `problem`, a `warning` or an `info`, with what helps below it. In JSON each is told by its `code`:",
        items: code::ALL.iter().map(|(code, about)| ((*code).into(), (*about).into())).collect(),
    }
}

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: Doctor = arguments(matches)?;
    let host = context.host()?;
    let found = resolve(context, &Resolver::new(&host), &arguments.container, Access::Read)?;
    let container = &found.container;
    let plan = stop_policy(&host, container);
    let signal = plan.signal_of(container.engine);
    let waits =
        LEAVE.iter().fold(SignalSet::from(signal), |all, other| all.union(SignalSet::from(*other)));
    let facts = SnapshotOptions { command: CommandLimit::SCREEN, waits, ..SnapshotOptions::BARE };
    let view = found.snapshot(facts)?;
    let judged: Vec<Prediction> = view
        .processes
        .iter()
        .map(|member| view.predict(member, signal, Recipient::Process))
        .collect();
    let init = view.processes.iter().find(|member| Some(member.facts.id) == container.init);
    let others: Vec<(Signal, Prediction)> = init
        .into_iter()
        .flat_map(|init| {
            let others = LEAVE.into_iter().filter(|other| *other != signal);
            others.map(|other| (other, view.predict(init, other, Recipient::Process)))
        })
        .collect();
    let case = DiagnosisInput {
        container,
        plan: &plan,
        members: &view.processes,
        judged: &judged,
        others: &others,
    };
    let findings = diagnose(&case);
    let name = container.qualified();
    let text: String = if context.ui.json {
        findings.iter().map(|found| json::line(&object(&host.name, &name, found))).collect()
    } else {
        findings.iter().map(|finding| lines(finding, &context.ui)).collect()
    };
    context.print(&text)?;
    Ok(ExitStatus::Done)
}

/// Where the texts of findings begin.
const INDENT: usize = 9;

fn lines(finding: &Finding, ui: &Ui) -> String {
    let style = Style::from(ui);
    let pid = finding.pid.map_or_else(String::new, |pid| format!("{pid} "));
    let who =
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
    style.paint(&mut text, severity.name(), emphasis);
    text.push_str(&" ".repeat(INDENT - severity.name().len()));
    let message = format!("{who}{}", safe_str(&finding.message));
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
    object.insert("code".into(), json!(finding.code));
    object.insert("pid".into(), json!(finding.pid.map(|pid| pid.get())));
    let comm = finding.comm.as_ref().map_or(Json::Null, |comm| bytes_to_json(comm));
    object.insert("comm".into(), comm);
    object.insert("message".into(), json!(finding.message));
    object.insert("remedy".into(), json!(finding.remedy));
    Json::Object(object)
}
