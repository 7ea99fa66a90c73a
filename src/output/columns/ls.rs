//! THE COLUMN TABLE of `ls`: one expression per column, with its JSON key.

use jiff::Timestamp;

use super::forecast::answer_emphasis;
use crate::analysis::forecast::Answer;
use crate::model::container::{Container, ContainerState, short_id};
use crate::model::engine::ReferenceForm;
use crate::model::exit_record::ExitRecord;
use crate::model::signal::Signal;
use crate::model::verdict::Verdict;
use crate::output::column::Column;
use crate::output::exit_words;
use crate::output::style::Emphasis;
use crate::output::value::Value;

/// A row of `ls`.
#[derive(Debug)]
pub struct LsRow {
    /// The host's name.
    pub host: String,
    /// The container.
    pub container: Container,
    /// Number of its processes, if they could be counted.
    pub processes: Option<usize>,
    /// Time its init started.
    pub started: Option<Timestamp>,
    /// A stop by its engine, if that was forecast.
    pub stop: Option<LsStop>,
    /// Whether that could not be read.
    pub is_stop_unread: bool,
    /// How it ended, if it is not running.
    pub exit: Option<ExitRecord>,
    /// Whether long IDs are cut.
    pub short: bool,
}

/// The forecast of a stop.
#[derive(Debug)]
pub struct LsStop {
    /// The signal that its engine's own stop sends; none if it has none.
    pub signal: Option<Signal>,
    /// Its effect on the init.
    pub verdict: Option<Verdict>,
    /// The forecast.
    pub forecast: Answer,
    /// The settings that are assumed, each with the reason.
    pub assumed: Vec<String>,
}

/// The columns that need a forecast.
pub const STOP_COLUMNS: [&str; 4] = ["onstop", "stopsignal", "stopverdict", "assumed"];

type LsColumn = Column<LsRow>;

/// THE TABLE, in the order of the columns and of the JSON keys.
pub static LS_COLUMNS: &[LsColumn] = &[
    LsColumn::new("host", "HOST", "name of the host", |r| Value::text(&r.host)).json("host"),
    LsColumn::new("name", "NAME", "name, with its namespace or pod", name)
        .shown()
        .priority(u8::MAX),
    LsColumn::new("id", "ID", "ID, without --no-trunc its first 12 digits", id)
        .shown()
        .priority(60),
    LsColumn::new("engine", "ENGINE", "container engine", |r| {
        Value::Text(r.container.engine.name.into())
    })
    .json("engine")
    .shown()
    .priority(200),
    LsColumn::new("fullid", "FULLID", "whole ID", |r| {
        Value::optional_text(r.container.id.as_deref())
    })
    .json("id"),
    LsColumn::new("barename", "BARENAME", "name, without namespace and pod", |r| {
        Value::optional_text(r.container.name.as_deref())
    })
    .json("name"),
    LsColumn::new("pid", "PID", "host PID of its init", |r| {
        Value::optional_int(r.container.init_pid().map(|pid| pid.get()))
    })
    .json("pid")
    .right()
    .shown()
    .priority(220),
    LsColumn::new("procs", "PROCS", "number of its processes", |r| {
        r.processes.map_or(Value::Denied, |count| Value::Int(count as i64))
    })
    .json("processes")
    .right()
    .shown()
    .priority(80),
    LsColumn::new(
        "state",
        "STATE",
        "running, created, paused, unknown or how it ended, and whether it is unverified",
        state,
    )
    .shown()
    .priority(230)
    .emphasis(state_emphasis),
    LsColumn::new("runstate", "RUNSTATE", "the state in one word", |r| {
        let ended = r.exit.as_ref().map(|exit| exit_words::state(exit));
        Value::Text(ended.unwrap_or(r.container.state.name()).into())
    })
    .json("state"),
    LsColumn::new("exitstatus", "EXITSTATUS", "exit status, if it is not running", |r| {
        Value::optional_int(r.exit.as_ref().and_then(|exit| exit.status))
    })
    .json("exit.status")
    .json_if(has_ended)
    .right(),
    LsColumn::new("exitsignal", "EXITSIGNAL", "signal that its exit status stands for", |r| {
        let signal = r.exit.as_ref().and_then(ExitRecord::signal);
        Value::optional_text(signal.map(|signal| signal.name()).as_deref())
    })
    .json("exit.signal")
    .json_if(has_ended),
    LsColumn::new("oom", "OOM", "whether its engine recorded an OOM kill in it", |r| {
        r.exit.as_ref().and_then(|exit| exit.oom).map_or(Value::Absent, Value::Bool)
    })
    .json("exit.oom")
    .json_if(has_ended),
    LsColumn::new("finished", "FINISHED", "time its init exited, UTC", |r| {
        let finished = r.exit.as_ref().and_then(|exit| exit.finished);
        finished.map_or(Value::Absent, |time| Value::text(&time.to_string()))
    })
    .json("exit.finished")
    .json_if(has_ended),
    LsColumn::new("error", "ERROR", "the engine's error text, if it is not running", |r| {
        Value::optional_text(r.exit.as_ref().and_then(|exit| exit.error.as_deref()))
    })
    .json("exit.error")
    .json_if(has_ended),
    LsColumn::new("stopsignal", "STOPSIGNAL", "stop signal", |r| {
        stop_value(r, |stop| Some(stop.signal?.name()))
    })
    .json("stop.signal"),
    LsColumn::new("stopverdict", "STOPVERDICT", "effect of the stop signal on the init", |r| {
        stop_value(r, |stop| Some(stop.verdict?.name().into()))
    })
    .json("stop.verdict"),
    LsColumn::new("onstop", "ON STOP", "forecast of a stop: graceful, killed, maybe", |r| {
        stop_value(r, |stop| Some(stop.forecast.stop_word().into()))
    })
    .json("stop.forecast")
    .shown()
    .priority(110)
    .emphasis(stop_emphasis),
    LsColumn::new("assumed", "ASSUMED", "stop settings that were not read, and why", |r| {
        r.stop.as_ref().map_or(Value::Absent, |stop| {
            Value::Argv(stop.assumed.iter().map(|text| text.clone().into_bytes()).collect())
        })
    })
    .json("stop.assumed"),
    LsColumn::new("age", "AGE", "time since its init started", |r| {
        r.started.map_or(Value::Absent, Value::Time)
    })
    .right()
    .shown()
    .priority(40),
    LsColumn::new("started", "STARTED", "time its init started, UTC", |r| {
        r.started.map_or(Value::Absent, |time| Value::text(&time.to_string()))
    })
    .json("started"),
    LsColumn::new("user", "USER", "UID of the user that runs it, if that is not root", |r| {
        r.container.user.map_or(Value::Absent, |uid| Value::Int(uid.into()))
    })
    .json("user")
    .right()
    .priority(70),
    LsColumn::new("image", "IMAGE", "image", |r| {
        Value::optional_text(r.container.image.as_deref())
    })
    .json("image")
    .flexible()
    .shown()
    .priority(90),
    LsColumn::new("cgroup", "CGROUP", "cgroup path", |r| {
        r.container.cgroup.as_ref().map_or(Value::Absent, |c| Value::Bytes(c.path.clone()))
    })
    .json("cgroup"),
    LsColumn::new("verified", "VERIFIED", VERIFIED, |r| Value::Bool(r.container.verified))
        .json("verified"),
    LsColumn::new("qualified", "QUALIFIED", "unique name, such as docker:web", |r| {
        Value::text(&r.container.qualified())
    }),
    LsColumn::new("podns", "PODNS", "namespace of its pod", |r| {
        Value::optional_text(r.container.pod.as_ref().map(|pod| pod.namespace.as_str()))
    })
    .json("pod.namespace")
    .json_if(in_pod),
    LsColumn::new("pod", "POD", "name of its pod", |r| {
        Value::optional_text(r.container.pod.as_ref().map(|pod| pod.name.as_str()))
    })
    .json("pod.name")
    .json_if(in_pod),
    LsColumn::new("poduid", "PODUID", "UID of its pod", |r| {
        Value::optional_text(r.container.pod.as_ref().and_then(|pod| pod.uid.as_deref()))
    })
    .json("pod.uid")
    .json_if(in_pod),
    LsColumn::new("podctr", "PODCTR", "name in its pod", |r| {
        Value::optional_text(r.container.pod.as_ref().and_then(|pod| pod.container.as_deref()))
    })
    .json("pod.container")
    .json_if(in_pod),
    LsColumn::new("project", "PROJECT", "Compose project", |r| {
        Value::optional_text(r.container.compose.as_ref().map(|compose| compose.project.as_str()))
    })
    .json("compose.project")
    .json_if(in_compose),
    LsColumn::new("service", "SERVICE", "Compose service", |r| {
        let compose = r.container.compose.as_ref();
        Value::optional_text(compose.and_then(|compose| compose.service.as_deref()))
    })
    .json("compose.service")
    .json_if(in_compose),
    LsColumn::new("labels", "LABELS", "labels", |r| {
        r.container.labels.clone().map_or(Value::Absent, Value::Labels)
    })
    .json("labels"),
    LsColumn::new("remark", "REMARK", "remarks", |r| {
        match (r.container.has_lost_init, r.container.init) {
            (true, Some(init)) => {
                Value::Text(format!("its init, host PID {}, has exited", init.pid).into())
            }
            _ => Value::optional_text(r.container.remark.as_deref()),
        }
    })
    .json("remark"),
];

const VERIFIED: &str = "whether a trusted record, or the owner of its cgroup, confirms its name";

/// Returns a word about the stop; `?` where its processes could not be read.
fn stop_value(row: &LsRow, word: impl Fn(&LsStop) -> Option<String>) -> Value {
    match &row.stop {
        Some(stop) => Value::optional_text(word(stop).as_deref()),
        None if row.is_stop_unread => Value::Denied,
        None => Value::Absent,
    }
}

fn has_ended(row: &LsRow) -> bool {
    row.exit.is_some()
}

fn in_pod(row: &LsRow) -> bool {
    row.container.pod.is_some()
}

fn in_compose(row: &LsRow) -> bool {
    row.container.compose.is_some()
}

fn name(row: &LsRow) -> Value {
    let container = &row.container;
    match (container.name_in_pod(), &container.namespace) {
        (Some(name), _) => Value::text(&name),
        (None, Some(namespace)) if container.engine.reference == ReferenceForm::Namespaced => {
            let name = container.name.as_ref().map(|name| format!("{namespace}/{name}"));
            Value::optional_text(name.as_deref())
        }
        _ => Value::optional_text(container.name.as_deref()),
    }
}

fn id(row: &LsRow) -> Value {
    let id = row.container.id.as_deref();
    Value::optional_text(id.map(|id| if row.short { short_id(id) } else { id }))
}

fn state(row: &LsRow) -> Value {
    let ended = row.exit.as_ref().map(|exit| exit_words::cell(exit, Timestamp::now()));
    let state = ended.unwrap_or_else(|| row.container.state.name().into());
    Value::Text(row.container.qualify_state(state).into())
}

fn state_emphasis(row: &LsRow) -> Emphasis {
    if let Some(exit) = &row.exit {
        let is_bad = exit.oom == Some(true) || exit.error.is_some();
        let is_failed = exit.status.is_some_and(|status| status != 0);
        return match (is_bad, is_failed) {
            (true, _) => Emphasis::Bad,
            (false, true) => Emphasis::Warning,
            (false, false) => Emphasis::None,
        };
    }
    match (row.container.verified, row.container.state) {
        (false, _) => Emphasis::Bad,
        (true, ContainerState::Paused | ContainerState::Unknown) => Emphasis::Warning,
        (true, _) if row.container.has_lost_init => Emphasis::Warning,
        _ => Emphasis::None,
    }
}

/// Returns the emphasis of a forecast: green only if it is known to be good and rests on no assumption.
fn stop_emphasis(row: &LsRow) -> Emphasis {
    match &row.stop {
        Some(stop) if stop.forecast == Answer::Yes && !stop.assumed.is_empty() => Emphasis::None,
        Some(stop) => answer_emphasis(stop.forecast),
        None => Emphasis::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::engine::EngineInfo;
    use crate::model::exit_record::RecordedState;
    use crate::output::select::Selection;
    use crate::output::style::{Style, TableOptions};
    use crate::output::table::{TableLine, draw};

    #[test]
    fn a_narrow_terminal_keeps_how_a_container_ended() {
        let short = "shop-checkout-worker-1";
        for (name, columns, header) in [
            (short, 120, "NAME ID ENGINE PID PROCS STATE ON STOP AGE IMAGE"),
            (short, 80, "NAME ENGINE PID PROCS STATE ON STOP AGE"),
            (short, 60, "NAME ENGINE PID PROCS STATE"),
            (short, 44, "NAME STATE"),
            (&"long".repeat(25), 80, "NAME STATE"),
        ] {
            let drawn = draw_ended(name, columns);
            assert!(drawn.contains("  exited 137 (OOM)"), "{drawn}");
            let shown: Vec<&str> = drawn.lines().next().unwrap().split_whitespace().collect();
            assert_eq!(shown.join(" "), header);
        }
    }

    /// Returns the table with a container that has ended.
    fn draw_ended(name: &str, columns: usize) -> String {
        static ENGINE: EngineInfo = EngineInfo { name: "docker", ..EngineInfo::DEFAULT };
        let container = Container {
            name: Some(name.into()),
            id: Some("1a".repeat(32)),
            image: Some("registry.example.org/shop/checkout:2024".into()),
            verified: true,
            ..Container::not_running(&ENGINE)
        };
        let exit = ExitRecord {
            state: RecordedState::Exited,
            status: Some(137),
            oom: Some(true),
            ..ExitRecord::default()
        };
        let row = LsRow {
            host: "host".into(),
            container,
            processes: Some(0),
            started: None,
            stop: None,
            is_stop_unread: false,
            exit: Some(exit),
            short: true,
        };
        let lines = [TableLine::flat(&row)];
        let style = Style { width: Some(columns), ..Style::default() };
        let selection = Selection::default_of(LS_COLUMNS);
        draw(&selection, &lines, &style, &TableOptions::with_header())
    }

    #[test]
    fn the_table_has_no_faults() {
        assert_eq!(crate::output::column::audit(LS_COLUMNS), Vec::<String>::new());
    }
}
