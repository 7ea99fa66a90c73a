//! Podman, of root or of a user. Its records are those of containers/storage; the start times of its
//! inits are in the records of the OCI runtime that it runs.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Engine;
use super::cgroup_name::is_long_id;
use super::containers_storage::{self, Writer};
use super::crun::CRUN;
use super::inventory::StoppedContainer;
use super::labels::{Labels, with_starter};
use super::podman_database;
use super::record::{Record, RecordReader};
use super::runc::RUNC;
use super::store::StoredRoot;
use crate::model::container::Container;
use crate::model::engine::{EngineAdvice, EngineCommands, EngineInfo};
use crate::model::exit_record::{ExitRecord, HealthRecord, RecordedState};
use crate::model::health_check::HealthCheck;
use crate::model::process_config::ProcessConfig;
use crate::model::resource_config::ResourceConfig;
use crate::model::stop_policy::StopPolicy;
use crate::proc::Host;

/// The descriptor of Podman.
pub static PODMAN: EngineInfo = EngineInfo {
    name: "podman",
    display_name: "Podman",
    records_ends: true,
    start_times_from: &[&RUNC, &CRUN],
    shims: &["conmon"],
    files: (
        "/var/lib/containers/storage, /run/containers/storage",
        "Podman, and a copy of its database (libpod/bolt_state.db or db.sql); ~/.local/share/containers/storage of users.",
    ),
    sockets: &["podman.sock"],
    advice: &EngineAdvice {
        exec_form: "write the command in exec form (`CMD [\"program\"]`)",
        init: "`--init`, `init: true`, tini",
        stop_signal: Some(
            "set `STOPSIGNAL SIGNAL_NAME` in the image, or `--stop-signal SIGNAL_NAME`",
        ),
        grace: Some("set `--stop-timeout`, or `stop_grace_period` in Compose"),
        unpause: Some("podman unpause <name>"),
    },
    start_hint: Some("`podman start <name>` starts it; `podman cp` copies its files"),
    clients: &["podman", "podman-compose"],
    commands: EngineCommands::AsTyped,
    ..EngineInfo::DEFAULT
};

/// Podman.
pub struct Podman;

impl Engine for Podman {
    fn info(&self) -> &'static EngineInfo {
        &PODMAN
    }

    fn recognise(&self, component: &str, _parent: &[&str]) -> Option<String> {
        let name = component.strip_suffix(".scope").unwrap_or(component);
        let id = name.strip_prefix("libpod-")?;
        let id = id.strip_prefix("payload-").unwrap_or(id);
        is_long_id(id).then(|| id.to_owned())
    }

    fn read_records(&self, reader: &RecordReader<'_>, records: &mut Vec<Record>) {
        containers_storage::read_records(reader, &PODMAN, Writer::Podman, |_, record| {
            records.push(record);
        });
    }

    fn stop_policy(&self, host: &Host, container: &Container) -> StopPolicy {
        const UNREAD: &str = "Podman keeps it in its database, which could not be read";
        let recorded = podman_database::entry(host, container).map(|entry| entry.config);
        let recorded = recorded.map_or_else(
            || StopPolicy { restart_unread: Some(UNREAD), ..StopPolicy::default() },
            |config| {
                let policy = StopPolicy {
                    grace: Some(StopPolicy::grace_of_seconds(config.stop_timeout)),
                    restart: Some(config.restart_policy),
                    ..StopPolicy::default()
                };
                with_starter(policy, &config.labels)
            },
        );
        recorded.or(containers_storage::stop_policy(host, container, UNREAD))
    }

    fn labels(&self, host: &Host, container: &Container) -> Option<Labels> {
        podman_database::entry(host, container).map(|entry| entry.config.labels)
    }

    fn stored_root(&self, host: &Host, stopped: &StoppedContainer) -> Result<StoredRoot, String> {
        containers_storage::stored_root(host, stopped)
    }

    fn exit_record(&self, host: &Host, container: &Container) -> Option<ExitRecord> {
        let entry = podman_database::entry(host, container)?;
        let health = health(host, &entry.health_log(), entry.on_failure());
        let record = ExitRecord { health, ..entry.exit_record() };
        match record.state {
            // conmon has seen its end, and `podman container cleanup` has not run.
            RecordedState::Running => Some(exit_file(host, container).unwrap_or(record)),
            _ => Some(record),
        }
    }

    fn resource_config(&self, host: &Host, container: &Container) -> Option<ResourceConfig> {
        containers_storage::resource_config(host, container)
    }

    fn health_checks(&self, host: &Host, container: &Container) -> Vec<HealthCheck> {
        podman_database::entry(host, container).map_or_else(Vec::new, |entry| entry.health_checks())
    }

    fn process_config(&self, host: &Host, container: &Container) -> Option<ProcessConfig> {
        containers_storage::process_config(host, container)
    }
}

/// The log of health checks (libpod/healthcheck.go).
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct HealthLog {
    status: String,
    failing_streak: u64,
    log: Option<Vec<PodmanCheck>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct PodmanCheck {
    exit_code: i32,
    output: String,
}

/// Reads the log of health checks.
fn health(host: &Host, path: &Path, on_failure: Option<&'static str>) -> Option<HealthRecord> {
    let checks: HealthLog = host.state_file(path).ok()?.json().ok()?;
    let last = checks.log.and_then(|log| log.into_iter().next_back());
    Some(HealthRecord {
        status: checks.status,
        failures: checks.failing_streak,
        on_failure: on_failure.map(str::to_owned),
        last: last.map(|check| (check.exit_code, check.output)),
    })
}

/// Reads the file that conmon writes when the init exits, with the exit status. Podman removes it after it
/// has taken that over.
fn exit_file(host: &Host, container: &Container) -> Option<ExitRecord> {
    let directory = match container.user {
        None => PathBuf::from("/run/libpod/exits"),
        Some(uid) => format!("/run/user/{uid}/libpod/tmp/exits").into(),
    };
    let path = directory.join(container.id.as_ref()?);
    let file = host.state_file(&path).ok()?;
    let status = std::str::from_utf8(&file.bytes).ok()?.trim().parse().ok()?;
    Some(ExitRecord {
        state: RecordedState::Exited,
        status: Some(status),
        sources: vec![path],
        ..ExitRecord::default()
    })
}
