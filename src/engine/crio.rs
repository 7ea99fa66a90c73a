//! CRI-O: records of containers/storage, with pod, cgroup and image in each container's OCI
//! specification and the start time in CRI-O's own `state.json`.

use serde::Deserialize;

use super::Engine;
use super::cgroup_name::{is_below_a_pod, is_long_id, scope_id};
use super::containers_storage::{self, StorageDirs, Writer};
use super::inventory::StoppedContainer;
use super::labels::{
    KEEP_POD_STOPPED, KUBELET_RESTARTS, POD_ADVICE, POD_CLIENTS, POD_COMMANDS, POD_GRACE,
    POD_GRACE_UNREAD, POD_START_HINT, restarts,
};
use super::oci_config::OciSpec;
use super::record::{Record, RecordReader};
use super::store::StoredRoot;
use crate::model::container::Container;
use crate::model::engine::{EngineInfo, ReferenceForm};
use crate::model::exit_record::{ExitRecord, LogDestination, RecordedState, parse_time};
use crate::model::pid::{HostPid, Ticks};
use crate::model::process_config::ProcessConfig;
use crate::model::resource_config::ResourceConfig;
use crate::model::stop_policy::StopPolicy;
use crate::proc::Host;

/// The descriptor of CRI-O.
pub static CRIO: EngineInfo = EngineInfo {
    name: "crio",
    display_name: "CRI-O",
    records_ends: true,
    reference: ReferenceForm::Pod,
    shims: &["conmon"],
    files: ("/var/lib/containers/storage, /run/containers/storage", "CRI-O, with its pods."),
    sockets: &["crio.sock"],
    grace_time: POD_GRACE,
    always_restarts: Some(KUBELET_RESTARTS),
    keep_stopped: KEEP_POD_STOPPED,
    start_hint: Some(POD_START_HINT),
    advice: &POD_ADVICE,
    clients: POD_CLIENTS,
    commands: POD_COMMANDS,
    ..EngineInfo::DEFAULT
};

/// CRI-O.
pub struct Crio;

impl Engine for Crio {
    fn info(&self) -> &'static EngineInfo {
        &CRIO
    }

    fn recognise(&self, component: &str, parent: &[&str]) -> Option<String> {
        let cgroupfs = || {
            let id = component.strip_prefix("crio-")?;
            let is_placed = is_below_a_pod(parent) || parent.last() == Some(&"crio");
            (is_placed && is_long_id(id)).then(|| id.to_owned())
        };
        scope_id(component, "crio").or_else(cgroupfs)
    }

    fn read_records(&self, reader: &RecordReader<'_>, records: &mut Vec<Record>) {
        containers_storage::read_records(reader, &CRIO, Writer::Crio, |dirs, mut record| {
            read_spec(reader, dirs, &mut record);
            read_state(reader, dirs, &mut record);
            records.push(record);
        });
    }

    fn stop_policy(&self, host: &Host, container: &Container) -> StopPolicy {
        containers_storage::stop_policy(host, container, POD_GRACE_UNREAD)
    }

    fn stored_root(&self, host: &Host, stopped: &StoppedContainer) -> Result<StoredRoot, String> {
        containers_storage::stored_root(host, stopped)
    }

    fn exit_record(&self, host: &Host, container: &Container) -> Option<ExitRecord> {
        exit_record(host, container)
    }

    fn resource_config(&self, host: &Host, container: &Container) -> Option<ResourceConfig> {
        containers_storage::resource_config(host, container)
    }

    fn process_config(&self, host: &Host, container: &Container) -> Option<ProcessConfig> {
        containers_storage::process_config(host, container)
    }
}

/// The end in CRI-O's own state (internal/oci, `ContainerState`).
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct CrioEnd {
    status: String,
    started: String,
    finished: String,
    exit_code: Option<i32>,
    oom_killed: bool,
    error: String,
}

fn exit_record(host: &Host, container: &Container) -> Option<ExitRecord> {
    let directory = container.record.as_ref()?.parent()?.join(container.id.as_ref()?);
    let path = directory.join("userdata/state.json");
    let end: CrioEnd = host.state_file(&path).ok()?.json().ok()?;
    let spec = host.state_file(directory.join("userdata/config.json")).ok();
    let spec: Option<OciSpec> = spec.and_then(|file| file.json().ok());
    let annotations = spec.map(|spec| spec.annotations).unwrap_or_default();
    let log_path = annotations.get("io.kubernetes.cri-o.LogPath");
    let started = parse_time(&end.started);
    let state = match &*end.status {
        "stopped" => RecordedState::Exited,
        "running" | "paused" => RecordedState::Running,
        "created" | "creating" => RecordedState::Created,
        _ => RecordedState::Stopped,
    };
    Some(ExitRecord {
        state,
        status: end.exit_code.filter(|_| state == RecordedState::Exited),
        oom: end.oom_killed.then_some(true),
        error: Some(end.error).filter(|error| !error.is_empty()),
        started,
        finished: parse_time(&end.finished),
        log: log_path.map(|path| LogDestination::new("kubernetes", Some(path.into()))),
        restarts: restarts(&annotations),
        sources: vec![path],
        ..ExitRecord::default()
    })
}

/// CRI-O's own state, next to the specification.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct CrioState {
    init_pid: Option<i32>,
    /// Ticks since boot, as text.
    init_start_time: Option<String>,
}

fn read_spec(reader: &RecordReader<'_>, dirs: &StorageDirs<'_>, record: &mut Record) {
    let path = format!("{}/userdata/config.json", record.id);
    let in_run_root = dirs.run.as_ref().and_then(|run| reader.read(run.read(&path)));
    let Some(spec) = in_run_root
        .or_else(|| reader.read(dirs.graph.read(&path)))
        .and_then(|file| reader.read(file.json::<OciSpec>()))
    else {
        return;
    };
    record.pod = spec.pod();
    if let Some(pod) = &record.pod {
        // Its name is the one in the pod; CRI-O's own, `k8s_app_web-0_…`, finds it too.
        let name = pod.container.clone().unwrap_or_else(|| "POD".into());
        record.aliases.extend(record.name.replace(name));
    }
    record.cgroup = spec.cgroup();
    let image = spec.annotations.get("io.kubernetes.cri-o.ImageName");
    record.image = image.or(spec.annotations.get("io.kubernetes.cri-o.Image")).cloned();
}

fn read_state(reader: &RecordReader<'_>, dirs: &StorageDirs<'_>, record: &mut Record) {
    let path = format!("{}/userdata/state.json", record.id);
    let state =
        reader.read(dirs.graph.read(path)).and_then(|file| reader.read(file.json::<CrioState>()));
    let Some(state) = state else { return };
    record.pid = record.pid.or(state.init_pid.and_then(HostPid::new));
    record.start = state.init_start_time.and_then(|ticks| ticks.parse().ok()).map(Ticks);
}
