//! The end of a container of Docker, from `config.v2.json` and the `hostconfig.json` next to it
//! (daemon/container, `State`; api/types/container, `Health`).

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::labels::restarts;
use crate::model::container::Container;
use crate::model::exit_record::{
    ExitRecord, HealthRecord, LogDestination, RecordedState, parse_time,
};
use crate::proc::{Host, ReadError};

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct DockerEnd {
    state: DockerEndState,
    restart_count: Option<u64>,
    has_been_manually_stopped: bool,
    log_path: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct DockerEndState {
    running: bool,
    restarting: bool,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    removal_in_progress: bool,
    dead: bool,
    exit_code: Option<i32>,
    error: String,
    started_at: String,
    finished_at: String,
    health: Option<DockerHealth>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct DockerHealth {
    status: String,
    failing_streak: u64,
    log: Option<Vec<DockerCheck>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct DockerCheck {
    exit_code: i32,
    output: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct DockerHostSettings {
    log_config: DockerLog,
    restart_policy: DockerPolicy,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DockerLog {
    #[serde(rename = "Type")]
    driver: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct DockerPolicy {
    name: String,
    maximum_retry_count: u64,
}

/// Reads the end of a container from its record.
pub(super) fn exit_record(host: &Host, container: &Container) -> Option<ExitRecord> {
    let path = container.record.as_ref()?;
    let end: DockerEnd = host.state_file(path).ok()?.json().ok()?;
    let host_path = path.with_file_name("hostconfig.json");
    let settings = match host.state_file(&host_path) {
        Err(ReadError::Gone) => Some(None),
        file => file.ok().and_then(|file| file.json().ok()).map(Some),
    };
    let mut record = end.record();
    // (Below a kubelet each start is a new container, and its own count is 0.)
    record.restarts = container.labels.as_ref().and_then(restarts).or(record.restarts);
    record.sources.push(path.clone());
    match settings {
        None => record.unread = Some(host_path),
        Some(None) => {}
        Some(Some(DockerHostSettings { log_config, restart_policy })) => {
            record.log = Some(log_of(host, path, end.log_path, log_config.driver));
            record.restart_policy = Some(restart_policy.name);
            record.restart_limit = (restart_policy.maximum_retry_count > 0)
                .then_some(restart_policy.maximum_retry_count);
            record.sources.push(host_path);
        }
    }
    Some(record)
}

/// Returns where the log is. That of the driver `local`, and the copy of one that is sent elsewhere, have
/// names of their own in the container's directory (daemon/logs.go, daemon/logger/local).
fn log_of(host: &Host, record: &Path, log_path: Option<PathBuf>, driver: String) -> LogDestination {
    let recorded = log_path.filter(|path| !path.as_os_str().is_empty());
    let local = |name| LogDestination::new("local", Some(record.with_file_name(name)));
    let has_copy = || {
        let directory = record.parent().map(|directory| host.state_dir(directory));
        directory.is_some_and(|dir| dir.is_ok_and(|dir| dir.open(COPY).is_ok()))
    };
    match &*driver {
        "local" => local(LOCAL),
        "json-file" | "journald" | "none" => LogDestination::new(driver, recorded),
        _ if has_copy() => local(COPY),
        _ => LogDestination::new(driver, recorded),
    }
}

/// The log of the driver `local`.
const LOCAL: &str = "local-logs/container.log";
/// The copy of a log that is sent elsewhere, for `docker logs`.
const COPY: &str = "container-cached.log";

impl DockerEnd {
    fn record(&self) -> ExitRecord {
        let state = &self.state;
        let started = parse_time(&state.started_at);
        let (name, has_status) = match state {
            DockerEndState { dead: true, .. } => (RecordedState::Dead, true),
            DockerEndState { removal_in_progress: true, .. } => (RecordedState::Removing, true),
            // (Running as well, while it waits for the next start.)
            DockerEndState { restarting: true, .. } => (RecordedState::Restarting, true),
            DockerEndState { running: true, .. } => (RecordedState::Running, false),
            // (The zero of Go.) One that could not be started has a status and an error.
            _ if started.is_none() && !state.started_at.is_empty() => {
                (RecordedState::Created, state.exit_code != Some(0))
            }
            _ => (RecordedState::Exited, true),
        };
        ExitRecord {
            state: name,
            status: state.exit_code.filter(|_| has_status),
            oom: Some(state.oom_killed),
            error: Some(state.error.clone()).filter(|error| !error.is_empty()),
            started,
            finished: parse_time(&state.finished_at),
            restarts: self.restart_count,
            stopped_manually: Some(self.has_been_manually_stopped),
            health: state.health.as_ref().map(DockerHealth::record),
            ..ExitRecord::default()
        }
    }
}

impl DockerHealth {
    fn record(&self) -> HealthRecord {
        let last = self.log.as_ref().and_then(|log| log.last());
        HealthRecord {
            status: self.status.clone(),
            failures: self.failing_streak,
            on_failure: None,
            last: last.map(|check| (check.exit_code, check.output.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(state: serde_json::Value) -> ExitRecord {
        serde_json::from_value::<DockerEnd>(serde_json::json!({ "State": state })).unwrap().record()
    }

    #[test]
    fn the_flags_of_docker_make_one_state() {
        const TIME: &str = "2026-11-26T02:46:43.074763797Z";
        let never = "0001-01-01T00:00:00Z";
        let state = |state| (record(state)).state;
        let exited = serde_json::json!({"ExitCode": 3, "StartedAt": TIME, "FinishedAt": TIME});
        assert_eq!(
            (record(exited.clone()).state, record(exited).status),
            (RecordedState::Exited, Some(3))
        );
        let restarting = serde_json::json!({"Running": true, "Restarting": true, "ExitCode": 4});
        assert_eq!(state(restarting), RecordedState::Restarting);
        let failed =
            record(serde_json::json!({"ExitCode": 127, "Error": "no", "StartedAt": never}));
        assert_eq!((failed.state, failed.status), (RecordedState::Created, Some(127)));
        let created = record(serde_json::json!({"ExitCode": 0, "StartedAt": never}));
        assert_eq!((created.state, created.status), (RecordedState::Created, None));
        let running = record(serde_json::json!({"Running": true, "StartedAt": TIME}));
        assert_eq!((running.state, running.status), (RecordedState::Running, None));
    }
}
