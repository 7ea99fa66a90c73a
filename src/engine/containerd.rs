//! containerd: a bundle for each task in `<state>/io.containerd.runtime.v2.task/NAMESPACE/ID/`, with
//! `init.pid` and the OCI specification, whose annotations carry nerdctl's names and Kubernetes' pods.
//! The stop signal, and containers without a task, are in its database.

use std::cell::Cell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::cgroup_name::scope_id;
use super::containerd_database::{self, ContainerdEntry};
use super::inventory::StoppedContainer;
use super::labels::{Labels, POD_GRACE_UNREAD, kubelets_settings, pod};
use super::nerdctl::NerdctlNames;
use super::oci_config::{OciSpec, resources_of_bundle};
use super::oci_process::{SHIMS, process_of_bundle};
use super::record::{Record, RecordReader, SearchPath, unique_paths};
use super::recorded_signal::recorded_signal_or;
use super::shims::sandbox_of;
use super::store::StoredRoot;
use super::{Engine, containerd_store};
use crate::model::container::Container;
use crate::model::engine::{EngineAdvice, EngineCommands, EngineInfo, ReferenceForm};
use crate::model::pid::HostPid;
use crate::model::process_config::ProcessConfig;
use crate::model::resource_config::ResourceConfig;
use crate::model::stop_policy::{StopPolicy, StopSignal, UnsignalledEffect, UnsignalledStop};
use crate::proc::{Host, StateDir, StateFile, Trust};

/// The descriptor of containerd.
pub static CONTAINERD: EngineInfo = EngineInfo {
    name: "containerd",
    display_name: "containerd",
    reference: ReferenceForm::Namespaced,
    shims: &["containerd", "containerd-shim*"],
    files: (
        "/run/containerd/io.containerd.runtime.v2.task",
        "containerd: ctr and nerdctl; and a copy of its database, meta.db below /var/lib/containerd.",
    ),
    sockets: &["containerd.sock"],
    advice: &EngineAdvice {
        exec_form: "give the program itself as the command (in the image `CMD [\"program\"]`)",
        init: "`nerdctl run --init`, tini",
        stop_signal: Some(
            "set `STOPSIGNAL SIGNAL_NAME` in the image, or `nerdctl run --stop-signal SIGNAL_NAME`",
        ),
        grace: Some("use `nerdctl run --stop-timeout`"),
        unpause: Some("ctr -n <namespace> tasks resume <id>"),
    },
    start_hint: Some(
        "`ctr -n <namespace> tasks start -d <id>`, or the client that created it, starts it; if it ran before, `ctr -n <namespace> tasks rm <id>` comes first",
    ),
    clients: &["ctr", "nerdctl"],
    commands: EngineCommands::Table(&[
        ("attach", "ctr -n <namespace> tasks attach <id>"),
        ("events", "ctr events"),
        ("images", "ctr images ls"),
        ("pause", "ctr -n <namespace> tasks pause <id>"),
        ("pull", "ctr images pull"),
        ("rm", "ctr -n <namespace> containers rm <id>"),
        ("start", "ctr -n <namespace> tasks start -d <id>"),
    ]),
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

    fn read_ended(&self, reader: &RecordReader<'_>, records: &mut Vec<Record>) {
        for root in persistent_roots(reader) {
            let entries = containerd_database::entries(reader.host, &root.path, root.owner);
            let is_others = |entry: &&ContainerdEntry| !entry.labels.contains_key(CRI_KIND);
            let stopped_tasks = left_tasks(reader, &root.path);
            let has_task = |entry: &ContainerdEntry| {
                stopped_tasks.contains(&(entry.namespace.clone(), entry.id.clone()))
            };
            for entry in entries.iter().filter(is_others).filter(|entry| !has_task(entry)) {
                records.push(database_record(&CONTAINERD, entry, &root));
            }
        }
    }

    fn stop_policy(&self, host: &Host, container: &Container) -> StopPolicy {
        stop_policy(host, container)
    }

    fn stored_root(&self, host: &Host, stopped: &StoppedContainer) -> Result<StoredRoot, String> {
        containerd_store::stored_root(
            host,
            stopped,
            stopped.container.namespace.as_deref().unwrap_or("default"),
        )
    }

    fn labels(&self, host: &Host, container: &Container) -> Option<Labels> {
        labels(host, container)
    }

    fn resource_config(&self, host: &Host, container: &Container) -> Option<ResourceConfig> {
        resources_of_bundle(host, container.record.as_ref()?.parent()?)
    }

    fn process_config(&self, host: &Host, container: &Container) -> Option<ProcessConfig> {
        let directory = container.record.as_ref()?.parent()?;
        let config = process_of_bundle(host, container, directory, SHIMS)?;
        // (Its bundle has them only where a user was given. Since containerd 1.6.18.)
        Some(ProcessConfig { adds_primary_group: true, ..config })
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
    let names = NerdctlNames::new(reader);
    for root in roots(reader) {
        let path = root.path.join(TASKS);
        let Some(tasks) = reader.read(reader.host.state_dir(path)) else { continue };
        for namespace in reader.read(tasks.names()).unwrap_or_default() {
            if namespace == DOCKER_NAMESPACE {
                continue;
            }
            let Some(dir) = reader.read(tasks.dir(&namespace)) else { continue };
            for id in reader.read(dir.names()).unwrap_or_default() {
                let file = reader.read(dir.read(format!("{id}/config.json")));
                let Some(file) = file else { continue };
                let has_its_name = names.is_empty() && names_its_pod(&file.bytes);
                if has_its_name && reader.passes_over(&root, &id, &file) {
                    continue;
                }
                let Some(spec) = reader.read(file.json::<OciSpec>()) else { continue };
                if client_of(&spec) == client {
                    let mut record = Record::new(engine, id, &file);
                    record.namespace = Some(namespace.clone());
                    fill_in(&mut record, reader, &dir, &spec);
                    if let (None, Some(name)) = (&record.pod, names.of(&namespace, &record)) {
                        record.name = Some(name);
                    }
                    records.push(record.found_at(&root));
                }
            }
        }
    }
}

/// Returns namespace and ID of the containers of a daemon that have a bundle, which names them already: a
/// task that has ended keeps it until it is deleted.
fn left_tasks(reader: &RecordReader<'_>, root: &Path) -> HashSet<(String, String)> {
    let mut found = HashSet::new();
    for state in roots(reader) {
        let Some(tasks) = reader.read(reader.host.state_dir(state.path.join(TASKS))) else {
            continue;
        };
        for namespace in reader.read(tasks.names()).unwrap_or_default() {
            let Some(dir) = reader.read(tasks.dir(&namespace)) else { continue };
            let is_below_root = |id: &String| {
                let bundle = reader.read(dir.dir(id));
                let work = bundle.and_then(|bundle| bundle.link_target("work").ok());
                work.is_some_and(|work| work.ancestors().nth(3) == Some(root))
            };
            let ids = reader.read(dir.names()).unwrap_or_default().into_iter();
            found.extend(ids.filter(is_below_root).map(|id| (namespace.clone(), id)));
        }
    }
    found
}

/// The label of a container that CRI created: its kind.
pub(super) const CRI_KIND: &str = "io.cri-containerd.kind";

/// Makes the record of a container from the database, which does not have its processes.
pub(super) fn database_record(
    engine: &'static EngineInfo,
    entry: &ContainerdEntry,
    root: &SearchPath,
) -> Record {
    let path = containerd_database::path(&root.path);
    let file = StateFile { path, bytes: Vec::new(), owner: root.owner, users_path: None };
    let mut record = Record::new(engine, &entry.id, &file);
    record.namespace = Some(entry.namespace.clone());
    record.image = entry.image.clone();
    record.pod = pod(&entry.labels);
    let name = record.pod.as_ref().and_then(|pod| pod.container.clone());
    let name = name.or_else(|| entry.labels.get("nerdctl/name").cloned());
    record.name = Some(name.unwrap_or_else(|| entry.id.clone()));
    record.labels = Some(entry.labels.clone());
    record
}

/// Returns the directory of containerd's persistent data (its root): the bundle of a task has a link to its
/// working directory there.
pub(super) fn root_of(host: &Host, container: &Container) -> Option<PathBuf> {
    let bundle = host.state_dir(container.record.as_ref()?.parent()?).ok()?;
    Some(bundle.link_target("work").ok()?.ancestors().nth(3)?.to_owned())
}

/// Returns the labels of a container, which only the database has.
pub(super) fn labels(host: &Host, container: &Container) -> Option<Labels> {
    let owner = Trust::of_container(container);
    let entries = containerd_database::entries(host, &root_of(host, container)?, owner);
    let is_it = |entry: &&ContainerdEntry| {
        Some(&entry.id) == container.id.as_ref()
            && Some(&entry.namespace) == container.namespace.as_ref()
    };
    let entry = entries.iter().find(is_it)?;
    Some(containerd_database::labels(&entries, entry))
}

/// The stop of a container whose recorded stop signal is not one.
const FAILS: UnsignalledStop = UnsignalledStop {
    reason: "the recorded one is not a signal, so its engine's stop fails, and the container runs on",
    effect: UnsignalledEffect::Fails,
};

/// Returns how a container is stopped, with the settings that only the database has: the stop signal of the
/// image, the kubelet's annotations, and the policy by which containerd itself restarts it (runtime/restart,
/// restart.go).
pub(super) fn stop_policy(host: &Host, container: &Container) -> StopPolicy {
    let entry = || {
        let owner = Trust::of_container(container);
        let (root, namespace) = (root_of(host, container)?, container.namespace.as_ref()?);
        let id = container.id.as_ref()?;
        containerd_database::entry(host, &root, owner, namespace, id)
    };
    let Some(entry) = entry() else { return container.stop.clone() };
    let label = |key: &str| entry.labels.get(key).map(String::as_str);
    let signal =
        entry.cri.stop_signal.as_deref().or(label("io.containerd.image.config.stop-signal"));
    let is_monitored = label("containerd.io/restart.status") == Some("running");
    let policy = label("containerd.io/restart.policy").or(is_monitored.then_some("always"));
    let policy = policy.map(|policy| policy.split(':').next().unwrap_or(policy).to_owned());
    let settings = StopPolicy {
        restart: policy.filter(|_| is_monitored),
        ..kubelets_settings(&entry.cri.config.annotations)
    };
    let recorded = recorded_signal_or(signal, FAILS).or(settings);
    // The database was read, so that a signal that is not in it is not configured.
    let earlier = match container.stop.signal {
        StopSignal::Unread(_) => StopSignal::Unset,
        signal => signal,
    };
    recorded.or(StopPolicy { signal: earlier, ..container.stop.clone() })
}

fn client_of(spec: &OciSpec) -> Client {
    if spec.annotations.contains_key("io.kubernetes.cri.container-type") {
        Client::Kubernetes
    } else {
        Client::Other
    }
}

/// Whether a configuration has the pod's name, if it is of a container in one: containerd before 1.5 has that in
/// its database only.
fn names_its_pod(config: &[u8]) -> bool {
    let has = |key: &str| memchr::memmem::find(config, key.as_bytes()).is_some();
    has("io.kubernetes.cri.sandbox-name") || !has("io.kubernetes.cri.container-type")
}

/// Reads the entry of the database about the container of a task.
fn entry_of_task(
    record: &Record,
    reader: &RecordReader<'_>,
    dir: &StateDir<'_>,
) -> Option<ContainerdEntry> {
    let work = reader.read(dir.dir(&record.id))?.link_target("work").ok()?;
    let (root, namespace) = (work.ancestors().nth(3)?, record.namespace.as_ref()?);
    containerd_database::entry(reader.host, root, record.owner, namespace, &record.id)
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
    if record.pod.is_none()
        && client_of(spec) == Client::Kubernetes
        && let Some(entry) = entry_of_task(record, reader, dir)
    {
        record.pod = pod(&entry.labels);
        record.image = record.image.take().or(entry.image.filter(|image| !image.is_empty()));
    }
    // (nerdctl copies the labels to annotations; others are in containerd's database.)
    record.labels = spec.annotations.contains_key("nerdctl/name").then(|| spec.annotations.clone());
    record.name = Some(match &record.pod {
        Some(pod) => pod.container.clone().unwrap_or_else(|| "POD".into()),
        None => spec.annotations.get("nerdctl/name").cloned().unwrap_or_else(|| id.clone()),
    });
    record.stop = spec.stop_policy().or(unread(spec));
    record.sandbox = text("shim-binary-path").and_then(|shim| sandbox_of(&shim));
    if record.sandbox.is_some() && record.pid.is_none() {
        // Kata has no init here: its shim represents the machine, in the same cgroup.
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
        signal: StopSignal::Unread("containerd keeps it in its database, which could not be read"),
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
        let option = daemon.option(&["--state"]).map(PathBuf::from);
        let config = daemon.option(&["--config", "-c"]).map(Path::new);
        let configured = config.and_then(|file| config_of(reader, file)?.state);
        let paths = option.into_iter().chain(configured);
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

/// Returns the directories with databases.
pub(super) fn persistent_roots(reader: &RecordReader<'_>) -> Vec<SearchPath> {
    let mut roots: Vec<SearchPath> = Vec::new();
    if reader.defaults {
        roots.push(SearchPath::default_path("/var/lib/containerd"));
        roots.push(SearchPath::default_path("/var/lib/rancher/k3s/agent/containerd"));
        let homes = reader.users.iter().filter_map(|user| user.home.as_ref());
        let homes = homes.map(|home| home.join(".local/share/containerd"));
        roots.extend(homes.map(SearchPath::default_path));
    }
    for daemon in reader.shims_named(&["containerd"]) {
        let option = daemon.option(&["--root"]).map(PathBuf::from);
        let config = daemon.option(&["--config", "-c"]).map(Path::new);
        let configured = config.and_then(|file| config_of(reader, file)?.root);
        let paths = option.into_iter().chain(configured);
        roots.extend(paths.map(|path| SearchPath::from_shim(daemon, path)));
    }
    unique_paths(roots)
}

/// `config.toml`; its `imports` are not followed.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ContainerdConfig {
    root: Option<PathBuf>,
    state: Option<PathBuf>,
}

fn config_of(reader: &RecordReader<'_>, file: &Path) -> Option<ContainerdConfig> {
    let file = reader.read(reader.host.state_file(file))?;
    parse_config(&String::from_utf8_lossy(&file.bytes))
}

/// Parses a configuration.
pub(super) fn parse_config(config: &str) -> Option<ContainerdConfig> {
    toml::from_str(config).ok()
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
            assert_eq!(
                parse_config(config).and_then(|config| config.state).as_deref(),
                state.map(Path::new),
                "{config}"
            );
        }
    }

    #[test]
    fn the_pod_of_an_old_container_is_in_the_database() {
        let root = tempfile::tempdir().unwrap();
        let id = "a".repeat(64);
        let bundle = root.path().join(format!("run/containerd/{TASKS}/k8s.io/{id}"));
        let database = containerd_database::path(&root.path().join("var/lib/containerd"));
        for dir in [&bundle, database.parent().unwrap(), &root.path().join("proc/1")] {
            std::fs::create_dir_all(dir).unwrap();
        }
        let work = format!("/var/lib/containerd/{TASKS}/k8s.io/{id}");
        std::os::unix::fs::symlink(work, bundle.join("work")).unwrap();
        let config = r#"{"annotations": {"io.kubernetes.cri.container-type": "container"}}"#;
        std::fs::write(bundle.join("config.json"), config).unwrap();
        let mut bolt = nut::DBBuilder::new(&database).build().unwrap();
        {
            let mut transaction = bolt.begin_rw_tx().unwrap();
            {
                let mut version = transaction.create_bucket(b"v1").unwrap();
                let namespace = version.create_bucket(b"k8s.io").unwrap();
                let containers = namespace.create_bucket(b"containers").unwrap();
                let container = containers.create_bucket(id.as_bytes()).unwrap();
                container.put(b"image", b"img".to_vec()).unwrap();
                let labels = container.create_bucket(b"labels").unwrap();
                for (key, value) in [
                    ("io.kubernetes.pod.namespace", "shop"),
                    ("io.kubernetes.pod.name", "web-1"),
                    ("io.kubernetes.container.name", "web"),
                ] {
                    labels.put(key.as_bytes(), value.as_bytes().to_vec()).unwrap();
                }
            }
            transaction.commit().unwrap();
        }
        drop(bolt);
        let host = crate::proc::Host::new(root.path()).unwrap();
        let filter = super::super::name_filter::NameFilter::new("web").unwrap();
        let reader = RecordReader {
            host: &host,
            defaults: true,
            shims: &[],
            unexplained: &[],
            is_first_look: false,
            users: &[],
            filter: Some(&filter),
            reads_settings: true,
            diagnostics: &std::sync::Mutex::default(),
        };
        let mut records = Vec::new();
        read_tasks(&reader, &super::super::cri::CRI, Client::Kubernetes, &mut records);
        let named: Vec<_> =
            records.iter().map(|r| (r.name.as_deref(), r.image.as_deref())).collect();
        assert_eq!(named, [(Some("web"), Some("img"))]);
        let pod = records[0].pod.as_ref().unwrap();
        assert_eq!((pod.namespace.as_str(), pod.name.as_str()), ("shop", "web-1"));
    }
}
