//! The end of a container as a sentence, and in short for a cell of a table.

use std::time::Duration;

use jiff::Timestamp;

use super::units::age;
use crate::analysis::wording::counted;
use crate::model::engine::EngineInfo;
use crate::model::exit_record::{ExitRecord, RecordedState, signal_of_status};

/// Returns the predicate of a sentence about a container that is not running: `exited with status
/// 3, 5m02s ago`. Text of the engine is in it as it is.
pub fn predicate(record: &ExitRecord, engine: &EngineInfo, now: Timestamp) -> String {
    let engine = engine.display_name;
    match record.state {
        RecordedState::Created => match (&record.error, record.status) {
            (None, None) => "was never started".into(),
            (error, status) => could_not_start(error.as_deref(), status),
        },
        RecordedState::Running => {
            format!("is not running, although {engine}'s last record says `running`")
        }
        RecordedState::Exited if record.status.is_some() => exited(record, now),
        RecordedState::Restarting => {
            format!("is restarting: it {}, and {engine} starts it again", exited(record, now))
        }
        RecordedState::Dead => {
            format!("is dead: {engine} is removing it, or could not remove all of it")
        }
        RecordedState::Removing => format!("is being removed by {engine}"),
        RecordedState::Exited | RecordedState::Stopped => {
            let when = ago(record.finished, now).map(|ago| format!(" (it ended {ago})"));
            format!("is not running{}", when.unwrap_or_default())
        }
    }
}

fn could_not_start(error: Option<&str>, status: Option<i32>) -> String {
    let meaning = match status {
        Some(126) => " (status 126: the command cannot be executed)".into(),
        Some(127) => " (status 127: the command was not found)".into(),
        Some(status) => format!(" (status {status})"),
        None => String::new(),
    };
    let error = error.map(|error| format!(": {error}"));
    format!("could not be started{meaning}{}", error.unwrap_or_default())
}

fn exited(record: &ExitRecord, now: Timestamp) -> String {
    let mut text = format!("exited with {}", status(record));
    if let Some(ago) = ago(record.finished, now) {
        text.push_str(&format!(", {ago}"));
    }
    match record.restarts {
        None | Some(0) => {}
        Some(count) => {
            text.push_str(&format!(", after {}", counted(count, "restart", "restarts")));
        }
    }
    text
}

/// Returns the exit status with its meaning: `status 137 (128+9: KILL; OOM kill)`.
pub fn status(record: &ExitRecord) -> String {
    let Some(status) = record.status.filter(|status| *status >= 0) else {
        return "an unknown status".into();
    };
    let signal = signal_of_status(status);
    let signal = signal.map(|signal| format!("128+{}: {signal}", signal.number()));
    let oom = (record.oom == Some(true)).then(|| "OOM kill".to_owned());
    let remarks: Vec<String> = signal.into_iter().chain(oom).collect();
    match &remarks[..] {
        [] => format!("status {status}"),
        remarks => format!("status {status} ({})", remarks.join("; ")),
    }
}

/// Returns the state in one word. A record of a running container is out of date.
pub fn state(record: &ExitRecord) -> &'static str {
    match record.state {
        RecordedState::Running => RecordedState::Stopped.name(),
        state => state.name(),
    }
}

/// Returns the state for a table: `exited 137 (OOM) 3m12s ago`.
pub fn cell(record: &ExitRecord, now: Timestamp) -> String {
    let name = record.state.name();
    let status = record.status.filter(|status| *status >= 0);
    match record.state {
        RecordedState::Exited | RecordedState::Dead | RecordedState::Stopped => {
            let status = status.map(|status| status.to_string());
            let oom = (record.oom == Some(true)).then(|| "(OOM)".to_owned());
            let words = [Some(name.to_owned()), status, oom, ago(record.finished, now)];
            words.into_iter().flatten().collect::<Vec<_>>().join(" ")
        }
        RecordedState::Restarting => {
            let status = status.map(|status| format!(" ({status})"));
            format!("{name}{}", status.unwrap_or_default())
        }
        RecordedState::Created if record.error.is_some() => "created, failed to start".into(),
        RecordedState::Running => "not running".into(),
        RecordedState::Created | RecordedState::Removing => name.into(),
    }
}

/// Returns the time since a moment: `3m12s ago`; none if it is still to come, because the clock was set back.
pub fn ago(time: Option<Timestamp>, now: Timestamp) -> Option<String> {
    let span = Duration::try_from(now.duration_since(time?)).ok()?;
    Some(format!("{} ago", age(span)))
}

#[cfg(test)]
mod tests {
    use super::*;

    static ENGINE: EngineInfo = EngineInfo { display_name: "Docker", ..EngineInfo::DEFAULT };

    fn ended(state: RecordedState, status: Option<i32>, oom: bool) -> ExitRecord {
        ExitRecord {
            state,
            status,
            oom: Some(oom),
            finished: Some(Timestamp::from_second(1000).unwrap()),
            ..ExitRecord::default()
        }
    }

    fn words(record: &ExitRecord) -> (String, String) {
        let now = Timestamp::from_second(1192).unwrap();
        (predicate(record, &ENGINE, now), cell(record, now))
    }

    #[test]
    fn an_end_is_said_with_its_meaning() {
        use RecordedState::{Created, Dead, Exited, Restarting, Running, Stopped};
        let failed = ExitRecord {
            error: Some("no such file".into()),
            finished: None,
            ..ended(Created, Some(127), false)
        };
        let looped = ExitRecord { restarts: Some(5), ..ended(Restarting, Some(4), false) };
        for (record, sentence, state) in [
            (
                ended(Exited, Some(3), false),
                "exited with status 3, 3m12s ago",
                "exited 3 3m12s ago",
            ),
            (
                ended(Exited, Some(137), true),
                "exited with status 137 (128+9: KILL; OOM kill), 3m12s ago",
                "exited 137 (OOM) 3m12s ago",
            ),
            (
                ended(Exited, Some(1), true),
                "exited with status 1 (OOM kill), 3m12s ago",
                "exited 1 (OOM) 3m12s ago",
            ),
            (
                ended(Exited, Some(255), false),
                "exited with status 255, 3m12s ago",
                "exited 255 3m12s ago",
            ),
            (
                ended(Exited, Some(-1), false),
                "exited with an unknown status, 3m12s ago",
                "exited 3m12s ago",
            ),
            (ended(Exited, None, false), "is not running (it ended 3m12s ago)", "exited 3m12s ago"),
            // The clock was set back.
            (
                ExitRecord {
                    finished: Timestamp::from_second(1200).ok(),
                    ..ended(Exited, Some(3), false)
                },
                "exited with status 3",
                "exited 3",
            ),
            (
                looped,
                "is restarting: it exited with status 4, 3m12s ago, after 5 restarts, and Docker starts it again",
                "restarting (4)",
            ),
            (ended(Created, None, false), "was never started", "created"),
            (
                failed,
                "could not be started (status 127: the command was not found): no such file",
                "created, failed to start",
            ),
            (
                ended(Running, None, false),
                "is not running, although Docker's last record says `running`",
                "not running",
            ),
            (
                ended(Dead, Some(0), false),
                "is dead: Docker is removing it, or could not remove all of it",
                "dead 0 3m12s ago",
            ),
            (ExitRecord { state: Stopped, ..ExitRecord::default() }, "is not running", "stopped"),
        ] {
            assert_eq!(words(&record), (sentence.to_owned(), state.to_owned()));
        }
    }
}
