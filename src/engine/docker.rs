//! Docker Engine: `<data root>/containers/ID/config.v2.json`, readable by root alone. Cgroups are
//! `/docker/ID`, or `docker-ID.scope` with the systemd driver.

use std::time::Duration;

use serde::Deserialize;

use super::cgroup_name::{is_long_id, scope_id};
use super::docker_exit;
use super::inventory::StoppedContainer;
use super::labels::{Labels, pod, pod_stop_policy, with_starter};
use super::oci_config::{cpus, positive};
use super::record::{Record, RecordReader, SearchPath};
use super::recorded_signal::recorded_signal_or;
use super::shims::sandbox_of;
use super::store::StoredRoot;
use super::{Engine, docker_process, docker_roots, docker_store};
use crate::model::container::Container;
use crate::model::engine::{EngineAdvice, EngineCommands, EngineInfo};
use crate::model::exit_record::ExitRecord;
use crate::model::health_check::HealthCheck;
use crate::model::pid::HostPid;
use crate::model::process_config::ProcessConfig;
use crate::model::resource_config::ResourceConfig;
use crate::model::stop_policy::{StopPolicy, UnsignalledEffect, UnsignalledStop};
use crate::proc::{Host, StateDir, parallel_map};

/// The descriptor of Docker.
pub static DOCKER: EngineInfo = EngineInfo {
    name: "docker",
    display_name: "Docker",
    records_ends: true,
    shims: &["dockerd"],
    files: (
        "/var/lib/docker/containers/*/config.v2.json",
        "Docker, below the data root of its daemon (/etc/docker/daemon.json, --data-root); ~/.local/share/docker of users.",
    ),
    sockets: &["docker.sock", "cri-dockerd.sock"],
    keep_stopped: "use `docker stop`, or `docker update --restart=no` first",
    signal_remark: Some("only `docker stop` marks the container as stopped manually"),
    advice: &EngineAdvice {
        exec_form: "write the command in exec form (`CMD [\"program\"]`)",
        init: "`--init`, `init: true`, tini",
        stop_signal: Some(
            "set `STOPSIGNAL SIGNAL_NAME` in the image, or `--stop-signal SIGNAL_NAME`",
        ),
        grace: Some("set `--stop-timeout`, or `stop_grace_period` in Compose"),
        unpause: Some("docker unpause <name>"),
    },
    // (daemon/daemon.go, `restore`.)
    lost_status: Some(255),
    // moby, oci/caps/defaults.go.
    default_capabilities: 0xa804_25fb,
    start_hint: Some("`docker start <name>` starts it; `docker cp` copies its files"),
    clients: &["docker", "docker-compose"],
    commands: EngineCommands::AsTyped,
    ..EngineInfo::DEFAULT
};

/// The stop of a container whose recorded stop signal is not one (daemon/stop.go, `containerStop`), whatever its grace
/// period.
const KILLS: UnsignalledStop = UnsignalledStop {
    reason: "the recorded one is not a signal, so its engine sends none, and kills everything after 2 s",
    effect: UnsignalledEffect::KillsAfter(Duration::from_secs(2)),
};
/// The same without a limit of the grace period, which Docker up to 20.10 ignores then.
const KILLS_OR_WAITS: UnsignalledStop = UnsignalledStop {
    reason: "the recorded one is not a signal, so its engine sends none, and kills everything after 2 s or waits without limit, by its version",
    effect: UnsignalledEffect::Unknown,
};

/// Docker Engine.
pub struct Docker;

impl Engine for Docker {
    fn info(&self) -> &'static EngineInfo {
        &DOCKER
    }

    fn recognise(&self, component: &str, parent: &[&str]) -> Option<String> {
        if parent.last() == Some(&"docker") && is_long_id(component) {
            return Some(component.to_owned());
        }
        scope_id(component, "docker")
    }

    fn read_records(&self, reader: &RecordReader<'_>, records: &mut Vec<Record>) {
        for root in docker_roots::roots(reader) {
            let path = root.path.join("containers");
            let Some(dir) = reader.read(reader.host.state_dir(path)) else { continue };
            let ids = reader.read(dir.names()).unwrap_or_default();
            let ids: Vec<String> = ids.into_iter().filter(|id| is_long_id(id)).collect();
            let read = parallel_map(&ids, |id| record(reader, &root, &dir, id));
            records.extend(read.into_iter().flatten().map(|record| record.found_at(&root)));
        }
    }

    fn stored_root(&self, host: &Host, stopped: &StoppedContainer) -> Result<StoredRoot, String> {
        docker_store::stored_root(host, stopped)
    }

    fn exit_record(&self, host: &Host, container: &Container) -> Option<ExitRecord> {
        docker_exit::exit_record(host, container)
    }

    fn resource_config(&self, host: &Host, container: &Container) -> Option<ResourceConfig> {
        let path = container.record.as_ref()?.with_file_name("hostconfig.json");
        let config: DockerResources = host.state_file(&path).ok()?.json().ok()?;
        let options = config.security_opt.unwrap_or_default();
        let unconfined =
            options.iter().any(|option| option.replace(':', "=") == "seccomp=unconfined");
        Some(ResourceConfig {
            source: path.display().to_string(),
            memory: positive(config.memory),
            cpus: positive(config.nano_cpus)
                .map(|nano| nano as f64 / 1e9)
                .or_else(|| cpus(config.cpu_quota, config.cpu_period)),
            pids: config.pids_limit.and_then(positive),
            read_only: Some(config.readonly_rootfs),
            no_new_privs: Some(
                options.iter().any(|option| option.starts_with("no-new-privileges")),
            ),
            // (The default depends on how the daemon was built.)
            seccomp: (config.privileged || unconfined).then_some(false),
        })
    }

    fn health_checks(&self, host: &Host, container: &Container) -> Vec<HealthCheck> {
        docker_process::health_checks(host, container)
    }

    fn process_config(&self, host: &Host, container: &Container) -> Option<ProcessConfig> {
        docker_process::process_config(host, container)
    }
}

/// `config.v2.json`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct DockerContainer {
    #[serde(rename = "ID")]
    id: String,
    /// The name, with a leading slash.
    name: String,
    state: DockerState,
    config: DockerConfig,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct DockerState {
    running: bool,
    pid: i32,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct DockerConfig {
    image: Option<String>,
    labels: Option<Labels>,
    stop_signal: Option<String>,
    /// Seconds.
    stop_timeout: Option<i64>,
}

/// `hostconfig.json`, as far as a listing needs it.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct DockerHostConfig {
    runtime: Option<String>,
    restart_policy: DockerRestartPolicy,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct DockerRestartPolicy {
    name: Option<String>,
}

/// `hostconfig.json`, its limits and rights.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct DockerResources {
    memory: i64,
    nano_cpus: i64,
    cpu_quota: i64,
    cpu_period: i64,
    pids_limit: Option<i64>,
    readonly_rootfs: bool,
    privileged: bool,
    security_opt: Option<Vec<String>>,
}

fn record(
    reader: &RecordReader<'_>,
    root: &SearchPath,
    dir: &StateDir<'_>,
    id: &str,
) -> Option<Record> {
    let file = reader.read_record(root, dir, id, "config.v2.json")?;
    let container: DockerContainer = reader.read(file.json())?;
    (container.id == id).then_some(())?;
    let mut record = Record::new(&DOCKER, id, &file);
    record.name = container.name.strip_prefix('/').map(str::to_owned);
    record.pid = container.state.running.then(|| HostPid::new(container.state.pid)).flatten();
    let config = container.config;
    let labels = config.labels.unwrap_or_default();
    record.image = config.image;
    record.pod = pod(&labels);
    // The kubelet passes the grace period of the pod with each stop, whatever is configured here.
    record.stop = match &record.pod {
        Some(_) => pod_stop_policy(&labels),
        None => StopPolicy {
            grace: config.stop_timeout.map(StopPolicy::grace_of_seconds),
            ..StopPolicy::default()
        },
    };
    let is_unlimited = record.stop.grace == Some(Duration::MAX);
    let unsignalled = if is_unlimited { KILLS_OR_WAITS } else { KILLS };
    let recorded = recorded_signal_or(config.stop_signal.as_deref(), unsignalled);
    record.stop = recorded.or(record.stop);
    // The second file is read only for a running container. (That of a pod says whether it has a sandbox.)
    if record.pid.is_some()
        && (reader.reads_settings || record.pod.is_some())
        && let Some(file) = reader.read(dir.read(format!("{id}/hostconfig.json")))
        && let Some(host_config) = reader.read(file.json::<DockerHostConfig>())
    {
        record.stop.restart = host_config.restart_policy.name;
        record.stop.restart_source = Some(file.path);
        record.sandbox = sandbox_of(&host_config.runtime.unwrap_or_default());
    }
    if record.pod.is_none() {
        record.stop = with_starter(record.stop, &labels);
    }
    record.labels = Some(labels);
    Some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_where_they_are_wanted_and_of_every_pod() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc/1")).unwrap();
        let [plain, pod] = ["1f".repeat(32), "2f".repeat(32)];
        for (id, labels) in [
            (&plain, "{}"),
            (&pod, r#"{"io.kubernetes.pod.name": "a", "io.kubernetes.pod.namespace": "b"}"#),
        ] {
            let container = dir.path().join("var/lib/docker/containers").join(id);
            std::fs::create_dir_all(&container).unwrap();
            let config = format!(
                r#"{{"ID": "{id}", "Name": "/{id}", "State": {{"Running": true, "Pid": 7}}, "Config": {{"Labels": {labels}}}}}"#
            );
            std::fs::write(container.join("config.v2.json"), config).unwrap();
            let settings = r#"{"Runtime": "kata", "RestartPolicy": {"Name": "always"}}"#;
            std::fs::write(container.join("hostconfig.json"), settings).unwrap();
        }
        let host = Host::new(dir.path()).unwrap();
        let sandboxes = |reads_settings| {
            let reader = RecordReader {
                host: &host,
                defaults: true,
                shims: &[],
                unexplained: &[],
                is_first_look: false,
                users: &[],
                filter: None,
                reads_settings,
                diagnostics: &std::sync::Mutex::default(),
            };
            let mut records = Vec::new();
            Docker.read_records(&reader, &mut records);
            records.iter().map(|record| record.sandbox.is_some()).collect::<Vec<bool>>()
        };
        assert_eq!((sandboxes(true), sandboxes(false)), (vec![true, true], vec![false, true]));
    }
}
