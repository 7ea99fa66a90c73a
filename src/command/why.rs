//! `why`: how a container ended, with the source of each fact. `analysis::ending` draws the conclusions.

use clap::{ArgMatches, Args};
use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::any_container::{AnyContainer, each_container, resolve_any};
use super::forecast::{forecast_of, procedure_of, snapshot_for};
use super::{Command, arguments, command};
use crate::analysis::ending::{
    EndingInput, Explanation, Statement, explain, is_cgroup_of, latest_time,
};
use crate::cli::context::Context;
use crate::completion::source::CompletionSource;
use crate::engine::{SearchDepth, discover, exit_record, stop_policy};
use crate::error::{Error, ExitStatus};
use crate::model::container::Container;
use crate::model::exit_record::ExitRecord;
use crate::model::oom_kill::OomKill;
use crate::model::pid::Ticks;
use crate::output::escape::{safe, safe_output, safe_str};
use crate::output::exit_words::predicate;
use crate::output::json;
use crate::output::style::{Emphasis, Style};
use crate::output::terminal::Ui;
use crate::output::width::{cut, wrap};
use crate::proc::{Host, LogRange, LogReader, ReadError, Trust};
use crate::resolve::{ResolvedContainer, Resolver};

/// Say how and why a container ended
///
/// The exit status in words, OOM kills (the engine's mark, the kernel's log and the counters of the
/// cgroups), the restart policy and the number of restarts, health checks, and the end of the log; each with
/// the file that says so. For a container that is running: the same about its previous run, OOM kills in it,
/// and the forecast of its next stop. Facts that no file records are named.
#[derive(Args)]
pub struct WhyArgs {
    /// The containers
    #[arg(value_name = "CTR", required = true, add = CompletionSource::AnyContainers)]
    containers: Vec<String>,
}

pub const COMMAND: Command = command::<WhyArgs>(
    "why",
    &[],
    &[
        ("cinspect why web", "why web ended"),
        ("cinspect --json why web", "the same for a script, with the evidence"),
    ],
    run,
)
.on_containers(&[])
.files(&[
    ("/dev/kmsg", "OOM kills, as far as the kernel's log reaches back."),
    ("memory.events, memory.oom_control", "Number of OOM kills."),
]);

/// Lines of the log that are shown.
const LOG_LINES: usize = 5;

fn run(context: &Context, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let arguments: WhyArgs = arguments(matches)?;
    let host = context.host()?;
    let resolver = Resolver::new(&host);
    each_container(context, &arguments.containers, |word| {
        let found = resolve_any(context, &host, &resolver, word)?;
        let mut accounts = vec![account(&host, &found)];
        accounts.extend(previous(&host, &found).map(|previous| account(&host, &previous)));
        if context.ui.json {
            return Ok(accounts.iter().map(|account| json::line(&account.json(&host))).collect());
        }
        let pages = accounts.iter().map(|account| account.page(&context.ui));
        Ok(pages.collect::<Vec<String>>().join("\n"))
    })
}

/// The answer about one container.
struct WhyAnswer {
    container: Container,
    record: Option<ExitRecord>,
    is_running: bool,
    ending: Explanation,
    /// The end of its log, with its path.
    log: Option<LogEnd>,
}

/// Returns the last container of the same name in the same pod that is not running: the kubelet makes a new
/// one for each start.
fn previous<'a>(host: &Host, found: &AnyContainer<'a>) -> Option<AnyContainer<'a>> {
    let pod = found.container.pod.as_ref().filter(|pod| pod.container.is_some())?;
    found.running.as_ref()?;
    let inventory = discover(host, SearchDepth::NotRunning);
    let same = inventory.stopped.into_iter().filter(|stopped| {
        stopped.container.pod.as_ref() == Some(pod) && stopped.container.id != found.container.id
    });
    let records = same.map(|stopped| (exit_record(host, &stopped.container), stopped));
    let last = records.max_by_key(|(record, _)| record.as_ref().and_then(|record| record.finished));
    last.map(|(record, stopped)| AnyContainer {
        container: stopped.container,
        record,
        running: None,
        cgroup: stopped.cgroup,
    })
}

/// Collects the facts about a container and explains them.
fn account(host: &Host, found: &AnyContainer<'_>) -> WhyAnswer {
    let AnyContainer { container, record, running, cgroup } = found;
    let log = host.oom_log().map_err(|error| match error {
        ReadError::Gone => "there is no /dev/kmsg here".to_owned(),
        ReadError::Denied => "permission denied; run with sudo".to_owned(),
        error => error.to_string(),
    });
    let init = running.as_ref().and_then(|running| running.container.init);
    // A name, and with it the path of a cgroup, may have been an earlier container's.
    let recorded = || record.as_ref().and_then(|record| record.started);
    let began = match container.has_unique_id() {
        true => Some(Timestamp::MIN),
        false => init.map(|init| host.started(init.start)).or_else(recorded),
    };
    let suspended = log.as_ref().ok().and_then(|log| log.suspended);
    let is_of = |(time, kill): &&(Timestamp, OomKill)| {
        began.is_none_or(|began| latest_time(*time, suspended) >= began)
            && is_cgroup_of(&kill.cgroup, container, cgroup.as_deref())
    };
    let kills: Vec<(Timestamp, OomKill)> =
        log.iter().flat_map(|log| log.kills.iter().filter(is_of).cloned()).collect();
    let private = container.cgroup.as_ref();
    let counted = init.and_then(|init| host.oom_kills(init.pid, private));
    let above = init.map(|init| host.oom_kills_above(init.pid, private)).unwrap_or_default();
    let mut ending = explain(&EndingInput {
        container,
        cgroup: cgroup.as_deref(),
        record: record.as_ref(),
        is_running: running.is_some(),
        kills: &kills,
        may_be_earlier: began.is_none_or(|began| kills.iter().any(|(time, _)| *time < began)),
        kernel_log: log.map(|log| log.begin),
        suspended,
        counted: counted.as_ref(),
        counted_above: &above,
        boot: host.started(Ticks(0)),
    });
    ending.statements.extend(running.as_ref().map(next_stop));
    let lines = match record.as_ref().map(|record| log_end(host, container, record)) {
        Some(Err(error)) => {
            let text = format!("its log could not be read: {error}");
            ending.statements.push(Statement { topic: "log", text, source: None });
            None
        }
        Some(Ok(lines)) => lines,
        None => None,
    };
    WhyAnswer {
        container: container.clone(),
        record: record.clone(),
        is_running: running.is_some(),
        ending,
        log: lines,
    }
}

/// Returns the forecast of the next stop.
fn next_stop(found: &ResolvedContainer<'_>) -> Statement {
    let container = &found.container;
    let policy = stop_policy(found.host, container);
    let procedure = procedure_of(container, &policy, None);
    let with_signal = match policy.engines_signal(container.engine) {
        Some(signal) => format!(", with {signal}"),
        None => ", without a stop signal".into(),
    };
    let text = match snapshot_for(found, procedure.schedule.signals(), None) {
        Ok(snapshot) => {
            let word = forecast_of(found, &snapshot, &procedure).word();
            format!("{word}{with_signal}: `cinspect doctor {}` says why", container.qualified())
        }
        Err(error) => format!("unknown{with_signal}: {error}"),
    };
    Statement { topic: "next stop", text, source: None }
}

/// The path of a log, and its last lines.
type LogEnd = (String, Vec<Vec<u8>>);

/// Reads the end of the log, if it is in a file that is there.
fn log_end(
    host: &Host,
    container: &Container,
    record: &ExitRecord,
) -> Result<Option<LogEnd>, ReadError> {
    let Some(destination) = &record.log else { return Ok(None) };
    let trust = Trust::of_container(container);
    let range = LogRange { last: Some(LOG_LINES), since: None };
    let mut end = None;
    for (path, format) in destination.files() {
        let mut reader = match LogReader::open(host, path, trust, format, range) {
            Err(ReadError::Gone) => continue,
            opened => opened?,
        };
        let mut lines = Vec::new();
        while lines.len() < LOG_LINES
            && let Some(record) = reader.next()?
        {
            lines.push(record.text);
        }
        // (Where each stream has a file, an error message is in that of stderr, the last one.)
        if end.is_none() || !lines.is_empty() {
            end = Some((path.display().to_string(), lines));
        }
    }
    Ok(end)
}

impl WhyAnswer {
    fn json(&self, host: &Host) -> Json {
        let record = self.record.as_ref();
        let status = record.filter(|_| !self.is_running).and_then(|record| record.status);
        let signal = record.filter(|_| !self.is_running).and_then(ExitRecord::signal);
        let log = self.log.iter().flat_map(|(path, lines)| {
            lines.iter().map(move |line| json!({"source": path, "text": json::bytes_to_json(line)}))
        });
        let statements = self.ending.statements.iter().map(|Statement { topic, text, source }| {
            json!({"source": source, "text": format!("{topic}: {text}")})
        });
        json!({
            "host": host.name,
            "container": self.container.qualified(),
            "status": status,
            "signal": signal.map(|signal| signal.name()),
            "oom": self.ending.oom,
            "sender": null,
            "finished": record.and_then(|record| record.finished).map(|time| time.to_string()),
            "restarts": record.and_then(|record| record.restarts),
            "reason": self.ending.reason,
            "evidence": statements.chain(log).collect::<Vec<_>>(),
        })
    }

    fn page(&self, ui: &Ui) -> String {
        let style = Style::from(ui);
        let mut text = String::new();
        let name = self.container.qualified();
        style.paint(&mut text, &safe_str(&name), Emphasis::Heading);
        let summary = match (self.is_running, &self.record) {
            (true, _) => "is running".to_owned(),
            (false, Some(record)) => predicate(record, self.container.engine, Timestamp::now()),
            (false, None) => "is not running".to_owned(),
        };
        text.push_str(&format!(" {}\n\n", safe_str(&summary)));
        entry(&mut text, ui, "reason", &self.ending.reason, None);
        for Statement { topic, text: statement, source } in &self.ending.statements {
            entry(&mut text, ui, topic, statement, source.as_deref());
        }
        let sources =
            self.ending.statements.iter().filter_map(|statement| statement.source.clone());
        let mut sources: Vec<String> = sources.collect();
        if let Some((path, lines)) = &self.log {
            let heading = if lines.is_empty() { "it is empty" } else { "its last lines:" };
            entry(&mut text, ui, "log", heading, Some(path));
            let (mark, ellipsis) = if ui.unicode { ("│", "…") } else { ("|", "...") };
            for line in lines {
                let line = safe_output(line).to_string();
                let line = match ui.width {
                    Some(columns) => {
                        cut(&line, columns.saturating_sub(INDENT + 2).max(20), ellipsis)
                    }
                    None => line,
                };
                text.push_str(&format!("{}{mark} {line}\n", " ".repeat(INDENT)));
            }
            sources.push(path.clone());
        }
        sources.sort();
        sources.dedup();
        // (Long paths; each statement has the name of its file.)
        let shown = if ui.width.is_some() && !ui.verbose { &[][..] } else { &sources[..] };
        for (index, source) in shown.iter().enumerate() {
            entry(&mut text, ui, if index == 0 { "files" } else { "" }, source, None);
        }
        text
    }
}

/// Longest name of a file beside a statement: that of a log may have the ID of its container.
const MAX_NAME: usize = 40;
/// The column in which statements begin.
const INDENT: usize = 11;

/// Appends a topic, a statement and the name of its source. The paths are long, and come last.
fn entry(out: &mut String, ui: &Ui, topic: &str, text: &str, source: Option<&str>) {
    let name = source.map(|source| source.rsplit('/').next().unwrap_or(source));
    let name = name.filter(|name| name.len() <= MAX_NAME);
    let source = name.map(|name| format!(" ({})", safe(name.as_bytes())));
    let line = format!("{}{}", safe_str(text), source.unwrap_or_default());
    let room = ui.width.map(|columns| columns.saturating_sub(INDENT).max(20));
    let wrapped = wrap(&line, room).join(&format!("\n{}", " ".repeat(INDENT)));
    out.push_str(&format!("{topic:INDENT$}{wrapped}\n"));
}
