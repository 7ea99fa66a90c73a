//! containerd: a bundle for each task in `<state>/io.containerd.runtime.v2.task/NAMESPACE/ID/`, with
//! `init.pid` and the OCI specification, whose annotations carry nerdctl's names and Kubernetes' pods.
//! Its database is not opened: the daemon holds it locked.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Engine;
use super::cgroup_name::scope_id;
use super::labels::POD_GRACE_UNREAD;
use super::oci_config::{OciSpec, resources_of_bundle};
use super::record::{Record, RecordReader, SearchPath, unique_paths};
use super::shims::sandbox_of;
use crate::model::container::Container;
use crate::model::engine::{EngineInfo, ReferenceForm};
use crate::model::pid::HostPid;
use crate::model::resource_config::ResourceConfig;
use crate::model::stop_policy::StopPolicy;
use crate::proc::{Host, StateDir};

/// The descriptor of containerd.
pub static CONTAINERD: EngineInfo = EngineInfo {
    name: "containerd",
    display_name: "containerd",
    reference: ReferenceForm::Namespaced,
    shims: &["containerd", "containerd-shim*"],
    files: ("/run/containerd/io.containerd.runtime.v2.task", "containerd: ctr and nerdctl."),
    sockets: &["containerd.sock"],
    ..EngineInfo::DEFAULT
};

const TASKS: &str = "io.containerd.runtime.v2.task";
/// Docker's namespace in its containerd: Docker's own records name these containers.
const DOCKER_NAMESPACE: &str = "moby";

/// Every client of containerd but Kubernetes.
pub struct Containerd;

impl Engine for Containerd {
    fn info(&self) -> &'static EngineInfo {
        &CONTAINERD
    }

    fn recognise(&self, component: &str, _parent: &[&str]) -> Option<String> {
        scope_id(component, "nerdctl")
    }

    fn read_records(&self, reader: &RecordReader<'_>, records: &mut Vec<Record>) {
        read_tasks(reader, &CONTAINERD, Client::Other, records);
    }

    fn resource_config(&self, host: &Host, container: &Container) -> Option<ResourceConfig> {
        resources_of_bundle(host, container.record.as_ref()?.parent()?)
    }
}

/// The client that created a task.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    Kubernetes,
    Other,
}

/// Reads the tasks that one kind of client created.
pub(super) fn read_tasks(
    reader: &RecordReader<'_>,
    engine: &'static EngineInfo,
    client: Client,
    records: &mut Vec<Record>,
) {
    for root in roots(reader) {
        let path = root.path.join(TASKS);
        let Some(tasks) = reader.read(reader.host.state_dir(path)) else { continue };
        for namespace in reader.read(tasks.names()).unwrap_or_default() {
            if namespace == DOCKER_NAMESPACE {
                continue;
            }
            let Some(dir) = reader.read(tasks.dir(&namespace)) else { continue };
            for id in reader.read(dir.names()).unwrap_or_default() {
                let path = format!("{id}/config.json");
                let Some(file) = reader.read(dir.read(path)) else { continue };
                let Some(spec) = reader.read(file.json::<OciSpec>()) else { continue };
                if client_of(&spec) == client {
                    let mut record = Record::new(engine, id, &file);
                    record.namespace = Some(namespace.clone());
                    fill_in(&mut record, reader, &dir, &spec);
                    records.push(record.found_at(&root));
                }
            }
        }
    }
}

fn client_of(spec: &OciSpec) -> Client {
    if spec.annotations.contains_key("io.kubernetes.cri.container-type") {
        Client::Kubernetes
    } else {
        Client::Other
    }
}

fn fill_in(record: &mut Record, reader: &RecordReader<'_>, dir: &StateDir<'_>, spec: &OciSpec) {
    let id = record.id.clone();
    let owner = Cell::new(record.owner);
    let text = |name: &str| {
        let file = reader.read(dir.read(format!("{id}/{name}")))?;
        owner.set(owner.get().and(file.owner));
        Some(String::from_utf8_lossy(&file.bytes).trim().to_owned())
    };
    record.pid = text("init.pid").and_then(|pid| pid.parse::<HostPid>().ok());
    record.cgroup = spec.cgroup();
    record.pod = spec.pod();
    record.image = spec.annotations.get("io.kubernetes.cri.image-name").cloned();
    // (nerdctl copies the labels to annotations; others are in containerd's database.)
    record.labels = spec.annotations.contains_key("nerdctl/name").then(|| spec.annotations.clone());
    record.name = Some(match &record.pod {
        Some(pod) => pod.container.clone().unwrap_or_else(|| "POD".into()),
        None => spec.annotations.get("nerdctl/name").cloned().unwrap_or_else(|| id.clone()),
    });
    record.stop = spec.stop_policy().or(unread(spec));
    record.sandbox = text("shim-binary-path").and_then(|shim| sandbox_of(&shim));
    if record.sandbox.is_some() && record.pid.is_none() {
        // Kata has no init here: its shim stands for the machine, in the same cgroup.
        record.pid = text("shim.pid").and_then(|pid| pid.parse::<HostPid>().ok());
    }
    record.owner = owner.get();
}

/// Returns the reasons why settings may be missing: containerd keeps the stop signal with the labels of
/// a container, in its database. nerdctl copies the timeout to an annotation.
fn unread(spec: &OciSpec) -> StopPolicy {
    let grace_unread = match client_of(spec) {
        Client::Kubernetes => Some(POD_GRACE_UNREAD),
        Client::Other if spec.annotations.contains_key("nerdctl/name") => None,
        Client::Other => Some("`ctr` has no stop command, so no grace period is recorded"),
    };
    StopPolicy {
        signal_unread: Some("containerd keeps it in its database, which is not read"),
        grace_unread,
        ..StopPolicy::default()
    }
}

fn roots(reader: &RecordReader<'_>) -> Vec<SearchPath> {
    let mut roots: Vec<SearchPath> = Vec::new();
    if reader.defaults {
        roots.push(SearchPath::default_path("/run/containerd"));
        roots.push(SearchPath::default_path("/run/k3s/containerd"));
        // Rootless: RootlessKit mounts its own /run over the user's.
        let users = reader.users.iter().map(|user| user.runtime_dir.join("containerd"));
        roots.extend(users.map(SearchPath::default_path));
    }
    for daemon in reader.shims_named(&["containerd"]) {
        let option = daemon.option("--state").map(PathBuf::from);
        let config = daemon.option("--config").or(daemon.option("-c")).map(Path::new);
        let paths = option.into_iter().chain(config.and_then(|file| state_dir(reader, file)));
        roots.extend(paths.map(|path| SearchPath::from_shim(daemon, path)));
    }
    // The working directory of a shim is the bundle: <state>/<tasks>/NAMESPACE/ID.
    let shims = reader.shims.iter().filter(|shim| shim.program().starts_with("containerd-shim"));
    roots.extend(shims.filter_map(|shim| {
        let state = shim.cwd.as_deref()?.ancestors().nth(3)?;
        Some(SearchPath::from_shim(shim, state))
    }));
    unique_paths(roots)
}

/// `config.toml`; its `imports` are not followed.
#[derive(Deserialize, Default)]
#[serde(default)]
struct ContainerdConfig {
    state: Option<PathBuf>,
}

fn state_dir(reader: &RecordReader<'_>, file: &Path) -> Option<PathBuf> {
    let file = reader.read(reader.host.state_file(file))?;
    parse_state_dir(&String::from_utf8_lossy(&file.bytes))
}

/// Parses the state directory in containerd's configuration.
fn parse_state_dir(config: &str) -> Option<PathBuf> {
    toml::from_str::<ContainerdConfig>(config).ok()?.state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_state_directory() {
        for (config, state) in [
            ("version = 2\nstate = \"/x\" # not the default\n", Some("/x")),
            ("state='/x'\n[plugins]\nstate = \"/y\"", Some("/x")),
            ("'state' = \"/\\u0078\"", Some("/x")),
            ("[plugins]\nstate = \"/y\"", None),
            ("[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"pause\"", None),
            ("state = /x", None),
            ("", None),
        ] {
            assert_eq!(parse_state_dir(config).as_deref(), state.map(Path::new), "{config}");
        }
    }
}
