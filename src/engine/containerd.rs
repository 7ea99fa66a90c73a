//! containerd: a bundle for each task in `<state>/io.containerd.runtime.v2.task/NAMESPACE/ID/`, with
//! `init.pid` and the OCI specification whose annotations carry nerdctl's names and Kubernetes' pods.
//! Its database is not opened: the daemon holds it locked.

use std::path::{Path, PathBuf};

use super::oci::{Spec, pod_of};
use super::record::{Record, RecordReader, SearchPath, places};
use super::{Engine, below_a_pod, is_long_id, scope_id};
use crate::model::container::EngineKind;
use crate::model::pid::HostPid;
use crate::proc::{StateDir, StateFile};

/// Kubernetes through containerd.
pub struct Cri;
/// Every other client.
pub struct Containerd;

const TASKS: &str = "io.containerd.runtime.v2.task";
/// Docker's namespace in its containerd: its containers have a better name elsewhere.
const MOBY: &str = "moby";

impl Engine for Cri {
    fn kind(&self) -> EngineKind {
        EngineKind::Cri
    }

    fn recognise(&self, component: &str, parent: &[&str]) -> Option<String> {
        let plain = || (below_a_pod(parent) && is_long_id(component)).then(|| component.to_owned());
        scope_id(component, "cri-containerd").or_else(plain)
    }

    fn files(&self) -> (&'static str, &'static str) {
        (
            "/run/containerd/io.containerd.runtime.v2.task/k8s.io",
            "Kubernetes on containerd: pods and containers, by the annotations of their bundles.",
        )
    }

    fn records(&self, look: &RecordReader<'_>, found: &mut Vec<Record>) {
        records(look, EngineKind::Cri, found);
    }
}

impl Engine for Containerd {
    fn kind(&self) -> EngineKind {
        EngineKind::Containerd
    }

    fn recognise(&self, component: &str, _parent: &[&str]) -> Option<String> {
        scope_id(component, "nerdctl")
    }

    fn files(&self) -> (&'static str, &'static str) {
        ("/run/containerd/io.containerd.runtime.v2.task", "containerd: what ctr and nerdctl made.")
    }

    fn records(&self, look: &RecordReader<'_>, found: &mut Vec<Record>) {
        records(look, EngineKind::Containerd, found);
    }
}

fn records(look: &RecordReader<'_>, wanted: EngineKind, found: &mut Vec<Record>) {
    for place in roots(look) {
        let Some(tasks) = look.read(look.host.state_dir(place.path.join(TASKS))) else { continue };
        for namespace in look.read(tasks.names()).unwrap_or_default() {
            if namespace == MOBY {
                continue;
            }
            let Some(dir) = look.read(tasks.dir(&namespace)) else { continue };
            for id in look.read(dir.names()).unwrap_or_default() {
                let Some(spec) = look.read(dir.read(format!("{id}/config.json"))) else { continue };
                let record = record(look, wanted, &namespace, &dir, &id, &spec);
                found.extend(record.map(|record| record.found_at(&place)));
            }
        }
    }
}

fn record(
    look: &RecordReader<'_>,
    wanted: EngineKind,
    namespace: &str,
    dir: &StateDir<'_>,
    id: &str,
    file: &StateFile,
) -> Option<Record> {
    let spec: Spec = look.read(file.json())?;
    let kind = spec.annotations.get("io.kubernetes.cri.container-type");
    let runtime = if kind.is_some() { EngineKind::Cri } else { EngineKind::Containerd };
    if runtime != wanted {
        return None;
    }
    let mut record = Record::new(runtime, id, file);
    let owner = std::cell::Cell::new(record.owner);
    let text = |name: &str| {
        let file = look.read(dir.read(format!("{id}/{name}")))?;
        owner.set(owner.get().and(file.owner));
        Some(String::from_utf8_lossy(&file.bytes).trim().to_owned())
    };
    record.pid = text("init.pid").and_then(|pid| pid.parse::<HostPid>().ok());
    record.cgroup = spec.cgroup();
    record.namespace = Some(namespace.to_owned());
    record.pod = pod_of(&spec.annotations);
    record.image = spec.annotations.get("io.kubernetes.cri.image-name").cloned();
    record.name = match &record.pod {
        Some(pod) => Some(pod.container.clone().unwrap_or_else(|| "POD".into())),
        None => {
            Some(spec.annotations.get("nerdctl/name").cloned().unwrap_or_else(|| id.to_owned()))
        }
    };
    record.stop = spec.stop_plan();
    record.sandbox = text("shim-binary-path").and_then(|shim| sandbox(&shim));
    if record.sandbox.is_some() && record.pid.is_none() {
        // Kata has no init here: its shim stands for the machine, in the same cgroup.
        record.pid = text("shim.pid").and_then(|pid| pid.parse::<HostPid>().ok());
    }
    record.owner = owner.get();
    Some(record)
}

fn roots(look: &RecordReader<'_>) -> Vec<SearchPath> {
    let mut roots: Vec<SearchPath> = Vec::new();
    if look.defaults {
        roots.push(SearchPath::usual("/run/containerd"));
        roots.push(SearchPath::usual("/run/k3s/containerd"));
        // Rootless: RootlessKit mounts its own /run over the user's.
        roots.extend(
            look.homes.iter().map(|home| SearchPath::usual(home.runtime_dir.join("containerd"))),
        );
    }
    for daemon in look.running(&["containerd"]) {
        let given = daemon.option("--state").map(PathBuf::from);
        let config = daemon.option("--config").or(daemon.option("-c")).map(Path::new);
        let told = given.into_iter().chain(config.and_then(|file| configured(look, file)));
        roots.extend(told.map(|path| SearchPath::told_by(daemon, path)));
    }
    // A shim's working directory is the bundle: <state>/<tasks>/NAMESPACE/ID.
    let shims = look.monitors.iter().filter(|m| m.program().starts_with("containerd-shim"));
    roots.extend(shims.filter_map(|shim| {
        let state = shim.cwd.as_deref()?.ancestors().nth(3)?;
        Some(SearchPath::told_by(shim, state))
    }));
    places(roots)
}

/// `state = "/run/containerd"` at the top of containerd's configuration, before any table.
fn configured(look: &RecordReader<'_>, file: &Path) -> Option<PathBuf> {
    let file = look.read(look.host.state_file(file))?;
    let text = String::from_utf8_lossy(&file.bytes).into_owned();
    text.lines().take_while(|line| !line.trim_start().starts_with('[')).find_map(|line| {
        let (key, value) = line.split_once('=')?;
        let value = value.trim().trim_matches(|quote| quote == '"' || quote == '\'');
        (key.trim() == "state").then(|| PathBuf::from(value))
    })
}

/// Which sandboxing runtime a program or runtime name stands for.
pub(super) fn sandbox(name: &str) -> Option<&'static str> {
    let name = name.rsplit('/').next().unwrap_or(name);
    if name.contains("runsc") || name.contains("gvisor") {
        Some("gVisor")
    } else if name.contains("kata") {
        Some("Kata")
    } else {
        None
    }
}
