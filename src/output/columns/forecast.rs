//! THE COLUMN TABLE of `stop -n`: one row per signal that a process gets, or one without a signal.
//! Also the line that summarises the forecast.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::common::{self, ProcessRow};
use crate::analysis::assumption::Assumption;
use crate::analysis::container_process::{ContainerProcess, RowContext};
use crate::analysis::forecast::{Answer, Forecast, KilledBy, ProcessForecast, SignalArrival};
use crate::analysis::wording::{counted, seconds};
use crate::model::pid::ContainerPid;
use crate::output::column::Column;
use crate::output::escape::safe_str;
use crate::output::json::{line, object};
use crate::output::select::Selection;
use crate::output::style::{Emphasis, Style, TableOptions};
use crate::output::table::{TableLine, draw};
use crate::output::value::Value;
use crate::output::width::wrap;

/// A row of `stop -n`.
#[derive(Debug)]
pub struct ForecastRow {
    /// The container.
    pub context: Arc<RowContext>,
    /// The process.
    pub process: ContainerProcess,
    /// The signal that it gets; none if none reaches it.
    pub delivery: Option<SignalArrival>,
    /// The process that forwards it; none if the stop itself sends it.
    pub sender: Option<ContainerPid>,
    /// Its forecast.
    pub forecast: ProcessForecast,
}

impl ForecastRow {
    /// Returns whether the process exits on the signal; without one, whether it exits at all.
    fn exits(&self) -> Answer {
        self.delivery.as_ref().map_or(self.forecast.exits, |delivery| delivery.exits)
    }
}

/// Returns the rows of a forecast.
pub fn rows(
    forecast: &Forecast,
    processes: &[ContainerProcess],
    context: &Arc<RowContext>,
) -> Vec<ForecastRow> {
    let each = forecast.processes.iter().flat_map(|forecast| {
        let deliveries: Vec<Option<SignalArrival>> = match forecast.deliveries.is_empty() {
            true => vec![None],
            false => forecast.deliveries.iter().cloned().map(Some).collect(),
        };
        deliveries.into_iter().map(|delivery| ForecastRow {
            context: Arc::clone(context),
            process: processes[forecast.process].clone(),
            sender: delivery.as_ref().and_then(|d| processes[d.sender?].pid),
            delivery,
            forecast: forecast.clone(),
        })
    });
    each.collect()
}

impl ProcessRow for ForecastRow {
    fn context(&self) -> &RowContext {
        &self.context
    }

    fn process(&self) -> &ContainerProcess {
        &self.process
    }
}

type ForecastColumn = Column<ForecastRow>;

/// THE TABLE.
pub static FORECAST_COLUMNS: &[ForecastColumn] = &[
    common::host(),
    common::container(),
    common::pid(),
    common::host_pid(),
    common::comm().shown().priority(255),
    ForecastColumn::new("when", "WHEN", "time from the start of the stop", |r| {
        r.delivery.as_ref().map_or(Value::Absent, |delivery| Value::Span(delivery.time))
    })
    .json("when")
    .right()
    .shown()
    .priority(70),
    ForecastColumn::new("from", "FROM", "PID in the container of the process that forwards it; - if the stop sends it", |r| {
        Value::optional_int(r.sender.map(|pid| pid.get()))
    })
    .json("from")
    .right(),
    ForecastColumn::new("signal", "SIGNAL", "the signal that reaches it", |r| {
        Value::optional_text(r.delivery.as_ref().map(|d| d.signal.name()).as_deref())
    })
    .json("signal")
    .shown()
    .priority(200),
    ForecastColumn::new("verdict", "VERDICT", "the action of the kernel", |r| {
        Value::optional_text(r.delivery.as_ref().map(|d| d.prediction.verdict.name()))
    })
    .json("verdict")
    .shown()
    .priority(80),
    ForecastColumn::new("exits", "EXITS", "whether it exits on the signal, without SIGKILL: yes, no, maybe", |r| {
        Value::text(r.exits().name())
    })
    .json("exits")
    .shown()
    .priority(255)
    .emphasis(|r| answer_emphasis(r.exits())),
    ForecastColumn::new(
        "killed",
        "KILLED BY",
        "the sender of SIGKILL if it does not exit: the engine (after the grace period), the kernel (when PID 1 exits), or a supervisor (when the time of its service is over)",
        |r| Value::text(r.forecast.killed.map_or("no", KilledBy::name)),
    )
    .json("killed")
    .shown()
    .priority(250),
    ForecastColumn::new("why", "WHY", "the reason", |r| {
        Value::text(r.delivery.as_ref().map_or(&r.forecast.why, |delivery| &delivery.why))
    })
        .json("why")
        .flexible()
        .shown(),
];

/// Draws the rows of a forecast as a table, and the line that sums it up.
pub fn text(
    forecast: &Forecast,
    snapshot: &[ContainerProcess],
    rows: &[ForecastRow],
    style: &Style,
) -> String {
    let selection = Selection::default_of(FORECAST_COLUMNS);
    let lines: Vec<TableLine<'_, ForecastRow>> = rows.iter().map(TableLine::flat).collect();
    draw(&selection, &lines, style, &TableOptions::with_header())
        + &summary(forecast, snapshot, style)
}

/// Returns the forecast as JSON, one object per line.
pub fn json_text(
    forecast: &Forecast,
    rows: &[ForecastRow],
    context: &RowContext,
    assumptions: &[Assumption],
) -> String {
    let objects = rows.iter().map(|row| object(FORECAST_COLUMNS, row));
    objects
        .chain([summary_json(forecast, context, assumptions)])
        .map(|object| line(&object))
        .collect()
}

/// Returns the emphasis of an answer: green only if it is known to be good.
pub fn answer_emphasis(answer: Answer) -> Emphasis {
    match answer {
        Answer::Yes => Emphasis::Good,
        Answer::Maybe => Emphasis::Warning,
        Answer::No => Emphasis::Bad,
    }
}

/// The most processes that are named in the last line.
const NAMED: usize = 5;

/// Returns the last line of `stop -n`: the forecast in a word, and why.
fn summary(forecast: &Forecast, processes: &[ContainerProcess], style: &Style) -> String {
    let (word, fates) = match forecast.graceful {
        Answer::Yes => (forecast.word(), vec!["every process exits without SIGKILL".to_owned()]),
        graceful => {
            let (killed, running) = fates(forecast, processes, Answer::Yes);
            let word = match (killed.is_empty(), running.is_empty()) {
                _ if graceful == Answer::Maybe => Answer::Maybe.stop_word(),
                (false, _) => Answer::No.stop_word(),
                // (An init that keeps running keeps its PID namespace, and other containers in it, too.)
                (true, false) => "not stopped",
                (true, true) => Answer::Maybe.stop_word(),
            };
            let (killed, running) = match word == Answer::Maybe.stop_word() {
                true => fates(forecast, processes, Answer::Maybe),
                false => (killed, running),
            };
            (word, [killed, running].concat())
        }
    };
    // (Without a doubt about a process, the doubt is about its init.)
    let text =
        if fates.is_empty() { "its init could not be read".into() } else { fates.join("; ") };
    let line = format!("{word}: {text}; {}", end_time(forecast));
    let wrapped = wrap(&line, style.width).join("\n");
    let mut out = String::new();
    let is_unsure = word == Answer::Maybe.stop_word();
    let answer = if is_unsure { Answer::Maybe } else { forecast.graceful };
    style.paint(&mut out, word, answer_emphasis(answer));
    out.push_str(wrapped.strip_prefix(word).unwrap_or(&wrapped));
    out.push('\n');
    out
}

/// Returns clauses about the processes and the other containers that do not exit by themselves: those that are
/// killed, and those that keep running. They are certain, or only possible.
fn fates(
    forecast: &Forecast,
    processes: &[ContainerProcess],
    sure: Answer,
) -> (Vec<String>, Vec<String>) {
    let group = |is_killed: bool, one: &str, many: &str| {
        // (The kernel kills nothing if PID 1 does not exit.)
        let is_certain = |process: &ProcessForecast| {
            process.exits == Answer::No
                && (process.killed != Some(KilledBy::Kernel) || forecast.init_ends == Answer::Yes)
        };
        let chosen = forecast.processes.iter().filter(|process| {
            process.exits != Answer::Yes
                && process.killed.is_some() == is_killed
                && (sure == Answer::Maybe || is_certain(process))
        });
        let names: Vec<String> = chosen
            .map(|process| safe_str(&processes[process.process].label()).into_owned())
            .collect();
        let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = if names.len() > NAMED { ", …" } else { "" };
        let text = format!("{} ({shown}{more})", counted(names.len(), one, many));
        (!names.is_empty()).then_some(text)
    };
    let (killed, running, gets) = match sure {
        Answer::Yes => (
            group(true, "process gets SIGKILL", "processes get SIGKILL"),
            group(false, "process keeps running", "processes keep running"),
            "gets",
        ),
        _ => (
            group(true, "process may get SIGKILL", "processes may get SIGKILL"),
            group(false, "process may keep running", "processes may keep running"),
            "may get",
        ),
    };
    let others = forecast.companions.iter().filter(|_| forecast.init_ends == sure);
    let others =
        others.map(|name| format!("{}, in its PID namespace, {gets} SIGKILL", safe_str(name)));
    (killed.into_iter().chain(others).collect(), running.into_iter().collect())
}

/// Returns the sender of SIGKILL before the grace period is over, as a clause. (Processes of other containers in
/// the PID namespace have no supervisor in this one.)
fn killed_before(by: &[KilledBy]) -> &'static str {
    match by {
        [] => "the kernel sends it when PID 1 exits",
        by if by.contains(&KilledBy::Kernel) => "the kernel sends it when PID 1 exits",
        _ => "a supervisor in the container sends it",
    }
}

/// Returns the time at which the stop ends, as a clause.
fn end_time(forecast: &Forecast) -> String {
    let is_certain = |process: &&ProcessForecast| process.exits == Answer::No;
    let killed = forecast.processes.iter().filter(is_certain);
    let by: Vec<KilledBy> = killed.filter_map(|process| process.killed).collect();
    let ends_others = !forecast.companions.is_empty() && forecast.init_ends == Answer::Yes;
    match forecast.longest {
        Some(longest) if forecast.graceful == Answer::No && by.contains(&KilledBy::Engine) => {
            match longest.is_zero() {
                true => "without a grace period".into(),
                false => format!("SIGKILL follows after {}", seconds(longest)),
            }
        }
        _ if forecast.graceful == Answer::No && (!by.is_empty() || ends_others) => {
            killed_before(&by).into()
        }
        Some(longest) => format!("it takes {} at most", seconds(longest)),
        None if forecast.graceful == Answer::Yes => "without a time limit".into(),
        None if forecast.kills() && forecast.is_unlimited => {
            format!("{}; without a time limit", killed_before(&[]))
        }
        None if forecast.kills() => killed_before(&[]).into(),
        None => "no SIGKILL follows".into(),
    }
}

/// Returns the last object of `stop -n --json`.
fn summary_json(forecast: &Forecast, context: &RowContext, assumptions: &[Assumption]) -> Json {
    let assumed: Vec<String> = assumptions.iter().map(Assumption::to_string).collect();
    json!({
        "host": context.host,
        "container": context.container,
        "event": "forecast",
        "graceful": forecast.graceful.name(),
        "seconds_at_most": forecast.longest.as_ref().map(Duration::as_secs_f64),
        "assumed": assumed,
    })
}
