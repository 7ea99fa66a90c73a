//! Containers of Kubernetes that ended on containerd: `ROOT/io.containerd.grpc.v1.cri/containers/ID/status`
//! (pkg/store/container/status.go), whose pods and names are in containerd's database.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;

use super::containerd::{persistent_roots, root_of};
use super::containerd_database::{self, ContainerdEntry};
use super::labels::{pod, restarts};
use super::record::{Record, RecordReader};
use crate::model::container::Container;
use crate::model::engine::EngineInfo;
use crate::model::exit_record::{ExitRecord, LogDestination, RecordedState};
use crate::proc::{Host, Trust};

/// CRI's containers below containerd's root.
const CONTAINERS: &str = "io.containerd.grpc.v1.cri/containers";
/// The namespace of Kubernetes in containerd.
const NAMESPACE: &str = "k8s.io";

/// (Go embeds it in its `versionedStatus`, so that its fields stand beside the version.) Times are
/// nanoseconds since the epoch.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct CriStatus {
    started_at: i64,
    finished_at: i64,
    exit_code: i32,
    reason: String,
    message: String,
}

/// Reads the records of containers that are not running; those that are have a task as well.
pub(super) fn read_ended(
    reader: &RecordReader<'_>,
    engine: &'static EngineInfo,
    records: &mut Vec<Record>,
) {
    for root in persistent_roots(reader) {
        let directory = root.path.join(CONTAINERS);
        let Some(dir) = reader.read(reader.host.state_dir(directory)) else { continue };
        let entries = containerd_database::entries(reader.host, &root.path, root.owner);
        for id in reader.read(dir.names()).unwrap_or_default() {
            let Some(file) = reader.read(dir.read(format!("{id}/status"))) else { continue };
            let mut record = Record::new(engine, &id, &file).found_at(&root);
            record.namespace = Some(NAMESPACE.into());
            if let Some(entry) = entries.iter().find(|entry| entry.id == id) {
                name(&mut record, entry);
                record.labels = Some(containerd_database::labels(&entries, entry));
            }
            records.push(record);
        }
    }
}

fn name(record: &mut Record, entry: &ContainerdEntry) {
    record.pod = pod(&entry.labels);
    record.name = record.pod.as_ref().and_then(|pod| pod.container.clone());
    record.image = entry.image.clone();
}

/// Reads how a container ended, or that it runs.
pub(super) fn exit_record(host: &Host, container: &Container) -> Option<ExitRecord> {
    let record = container.record.as_ref()?;
    let id = container.id.as_ref()?;
    let root = match record.file_name()?.to_str()? {
        "status" => record.ancestors().nth(4)?.to_owned(),
        _ => root_of(host, container)?,
    };
    let path: PathBuf =
        [&root, Path::new(CONTAINERS), Path::new(id), Path::new("status")].iter().collect();
    let status: CriStatus = host.state_file(&path).ok()?.json().ok()?;
    let owner = Trust::of_container(container);
    let entry = containerd_database::entry(host, &root, owner, NAMESPACE, id);
    let restarts = entry.as_ref().and_then(|entry| restarts(&entry.cri.config.annotations));
    let log = entry.and_then(|entry| entry.cri.log_path);
    Some(ExitRecord {
        restarts,
        log: log.map(|path| LogDestination::new("kubernetes", Some(path))),
        sources: vec![path],
        ..status.record()
    })
}

impl CriStatus {
    fn record(&self) -> ExitRecord {
        let time = |nanoseconds: i64| {
            let time = Timestamp::from_nanosecond(nanoseconds.into()).ok()?;
            (nanoseconds > 0).then_some(time)
        };
        let (started, finished) = (time(self.started_at), time(self.finished_at));
        let state = match (started, finished) {
            (_, Some(_)) => RecordedState::Exited,
            (Some(_), None) => RecordedState::Running,
            (None, None) => RecordedState::Created,
        };
        // containerd's own words (pkg/cri/server): OOMKilled, Completed, Error, StartError …
        let is_plain = matches!(&*self.reason, "" | "Completed" | "Error" | "OOMKilled");
        let reason = Some(self.reason.clone()).filter(|_| !is_plain);
        let message = Some(self.message.clone()).filter(|message| !message.is_empty());
        let error = match (reason, message) {
            (Some(reason), Some(message)) => Some(format!("{reason}: {message}")),
            (reason, message) => reason.or(message),
        };
        ExitRecord {
            state,
            status: finished.is_some().then_some(self.exit_code),
            oom: (self.reason == "OOMKilled").then_some(true),
            error,
            started,
            finished,
            ..ExitRecord::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(mut status: serde_json::Value) -> ExitRecord {
        status["Version"] = "v1".into();
        serde_json::from_value::<CriStatus>(status).unwrap().record()
    }

    #[test]
    fn times_and_reasons_make_the_state() {
        let killed = record(serde_json::json!({"CreatedAt": 1700000000000000000i64,
            "StartedAt": 1700000001000000000i64, "FinishedAt": 1700000002000000000i64,
            "ExitCode": 137, "Reason": "OOMKilled", "Message": ""}));
        assert_eq!(
            (killed.state, killed.status, killed.oom),
            (RecordedState::Exited, Some(137), Some(true))
        );
        assert_eq!(killed.error, None);
        let failed = record(serde_json::json!({"CreatedAt": 1700000000000000000i64,
            "FinishedAt": 1700000002000000000i64, "ExitCode": 128, "Reason": "StartError", "Message": "no"}));
        assert_eq!(failed.error.as_deref(), Some("StartError: no"));
        let running = record(serde_json::json!({"StartedAt": 1700000001000000000i64}));
        assert_eq!((running.state, running.status), (RecordedState::Running, None));
    }
}
