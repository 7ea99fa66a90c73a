//! Podman and CRI-O, which keep their containers in one storage layout: names in
//! `<graph root>/<driver>-containers/containers.json`, the init's PID in
//! `<run root>/<driver>-containers/ID/userdata/pidfile`. conmon's argv tells other roots.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::oci::{Spec, pod_of};
use super::record::{Record, RecordReader, SearchPath, Shim, places};
use super::{Engine, below_a_pod, is_long_id, scope_id};
use crate::model::container::{Container, EngineKind};
use crate::model::pid::{HostPid, Ticks};
use crate::model::stop_policy::StopPolicy;
use crate::proc::{Host, StateDir};

/// Podman, of root or of a user.
pub struct Podman;
/// CRI-O.
pub struct Crio;

impl Engine for Podman {
    fn kind(&self) -> EngineKind {
        EngineKind::Podman
    }

    fn recognise(&self, component: &str, _parent: &[&str]) -> Option<String> {
        let name = component.strip_suffix(".scope").unwrap_or(component);
        let id = name.strip_prefix("libpod-")?;
        let id = id.strip_prefix("payload-").unwrap_or(id);
        is_long_id(id).then(|| id.to_owned())
    }

    fn files(&self) -> (&'static str, &'static str) {
        (
            "/var/lib/containers/storage, /run/containers/storage",
            "Podman; ~/.local/share/containers/storage of users.",
        )
    }

    fn records(&self, look: &RecordReader<'_>, found: &mut Vec<Record>) {
        records(look, EngineKind::Podman, found);
    }

    /// The specification lies beside the list of names, and has both among its annotations.
    fn stop_plan(&self, host: &Host, container: &Container) -> StopPolicy {
        specification(host, container).map_or_else(StopPolicy::default, |spec| spec.stop_plan())
    }
}

impl Engine for Crio {
    fn kind(&self) -> EngineKind {
        EngineKind::Crio
    }

    fn recognise(&self, component: &str, parent: &[&str]) -> Option<String> {
        let plain = || {
            let id = component.strip_prefix("crio-")?;
            let placed = below_a_pod(parent) || parent.last() == Some(&"crio");
            (placed && is_long_id(id)).then(|| id.to_owned())
        };
        scope_id(component, "crio").or_else(plain)
    }

    fn files(&self) -> (&'static str, &'static str) {
        ("/var/lib/containers/storage, /run/containers/storage", "CRI-O, pods among it.")
    }

    fn records(&self, look: &RecordReader<'_>, found: &mut Vec<Record>) {
        records(look, EngineKind::Crio, found);
    }

    fn stop_plan(&self, host: &Host, container: &Container) -> StopPolicy {
        specification(host, container).map_or_else(StopPolicy::default, |spec| spec.stop_plan())
    }
}

/// An entry of containers.json; the rest is in `metadata`, JSON in a string.
#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    metadata: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Metadata {
    image_name: Option<String>,
    name: Option<String>,
    /// Only CRI-O writes it. (The prefix of Podman's annotations is CRI-O's too and tells nothing.)
    pod_id: Option<String>,
}

/// CRI-O's own state, beside the specification.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct CrioState {
    init_pid: Option<i32>,
    /// Ticks since boot, as text.
    init_start_time: Option<String>,
}

fn specification(host: &Host, container: &Container) -> Option<Spec> {
    let list = container.record.as_ref()?;
    let path = list.with_file_name(format!("{}/userdata/config.json", container.id.as_ref()?));
    host.state_file(path).ok()?.json().ok()
}

/// Graph root and run root.
type Roots = (PathBuf, PathBuf);

fn records(look: &RecordReader<'_>, wanted: EngineKind, found: &mut Vec<Record>) {
    for place in roots(look) {
        let (graph, run) = &place.path;
        let Some(top) = look.read(look.host.state_dir(graph)) else { continue };
        let drivers = look.read(top.names()).unwrap_or_default();
        for containers in drivers.iter().filter(|name| name.ends_with("-containers")) {
            let Some(dir) = look.read(top.dir(containers)) else { continue };
            let run = look.read(look.host.state_dir(run.join(containers)));
            for list in ["containers.json", "volatile-containers.json"] {
                let Some(file) = look.read(dir.read(list)) else { continue };
                for entry in look.read(file.json::<Vec<Entry>>()).unwrap_or_default() {
                    let metadata: Metadata =
                        serde_json::from_str(&entry.metadata).unwrap_or_default();
                    let runtime = if metadata.pod_id.is_some() {
                        EngineKind::Crio
                    } else {
                        EngineKind::Podman
                    };
                    if runtime != wanted || !is_long_id(&entry.id) {
                        continue;
                    }
                    let mut record = Record::new(runtime, &entry.id, &file).found_at(&place);
                    record.name = entry.names.first().cloned().or(metadata.name);
                    record.aliases = entry.names.into_iter().skip(1).collect();
                    record.image = metadata.image_name.filter(|name| !name.is_empty());
                    if let Some(run) = &run {
                        live(look, run, &entry.id, &mut record);
                    }
                    if wanted == EngineKind::Crio {
                        crio(look, &dir, run.as_ref(), &mut record);
                    }
                    found.push(record);
                }
            }
        }
    }
}

/// The pidfile, as trusted as itself and the list it belongs to.
fn live(look: &RecordReader<'_>, run: &StateDir<'_>, id: &str, record: &mut Record) {
    let Some(file) = look.read(run.read(format!("{id}/userdata/pidfile"))) else { return };
    record.owner = record.owner.and(file.owner);
    let text = std::str::from_utf8(&file.bytes).unwrap_or_default();
    record.pid = text.trim().parse::<HostPid>().ok();
}

fn crio(
    look: &RecordReader<'_>,
    graph: &StateDir<'_>,
    run: Option<&StateDir<'_>>,
    record: &mut Record,
) {
    let spec = format!("{}/userdata/config.json", record.id);
    let spec = run
        .and_then(|run| look.read(run.read(&spec)))
        .or_else(|| look.read(graph.read(&spec)))
        .and_then(|file| look.read(file.json::<Spec>()));
    if let Some(spec) = spec {
        record.pod = pod_of(&spec.annotations);
        if let Some(pod) = &record.pod {
            // People know it by its name in the pod; what CRI-O calls it, `k8s_app_web-0_…`, finds
            // it too.
            let inside = pod.container.clone().unwrap_or_else(|| "POD".into());
            record.aliases.extend(record.name.replace(inside));
        }
        record.cgroup = spec.cgroup();
        let image = spec.annotations.get("io.kubernetes.cri-o.ImageName");
        record.image = image.or(spec.annotations.get("io.kubernetes.cri-o.Image")).cloned();
    }
    let state = look.read(graph.read(format!("{}/userdata/state.json", record.id)));
    if let Some(state) = state.and_then(|file| look.read(file.json::<CrioState>())) {
        record.pid = record.pid.or(state.init_pid.and_then(HostPid::new));
        let start = state.init_start_time.and_then(|ticks| ticks.parse().ok());
        record.start = start.map(Ticks);
    }
}

fn roots(look: &RecordReader<'_>) -> Vec<SearchPath<Roots>> {
    let mut roots: Vec<SearchPath<Roots>> = Vec::new();
    if look.defaults {
        let (graph, run) = ("/var/lib/containers/storage", "/run/containers/storage");
        roots.push(SearchPath::usual((graph.into(), run.into())));
        for home in look.homes {
            if let Some(folder) = &home.home {
                let graph = folder.join(".local/share/containers/storage");
                roots.push(SearchPath::usual((graph, home.runtime_dir.join("containers"))));
            }
        }
    }
    let conmons = look.running(&["conmon", "conmonrs"]);
    roots.extend(
        conmons.filter_map(|conmon| Some(SearchPath::told_by(conmon, conmon_roots(conmon)?))),
    );
    places(roots)
}

/// The graph root from `-b <graph root>/<driver>-containers/ID/userdata`, the run root from
/// `-p <run root>/<driver>-containers/ID/userdata/pidfile`.
fn conmon_roots(conmon: &Shim) -> Option<Roots> {
    let bundle = conmon.option("-b").or(conmon.option("--bundle"))?;
    let pidfile = conmon.option("-p").or(conmon.option("--container-pidfile"))?;
    let graph = Path::new(bundle).ancestors().nth(3)?;
    let run = Path::new(pidfile).ancestors().nth(4)?;
    Some((graph.to_owned(), run.to_owned()))
}
