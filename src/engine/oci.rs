//! runc, crun and youki by themselves: `<root>/ID/` with the init's PID and, but for youki, its
//! start time. The same files stand behind Podman's containers, and then lend them that start time.
//! Also what an OCI specification (`config.json`) says, for the engines that keep one.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::record::{Record, RecordReader, SearchPath, expand_cgroups_path, places};
use super::{Engine, recorded_signal};
use crate::model::container::{EngineKind, Pod};
use crate::model::pid::{HostPid, Ticks};
use crate::model::stop_policy::StopPolicy;
use crate::proc::StateFile;

/// One of the three: they differ in names and in the shape of one file.
pub struct Oci {
    runtime: EngineKind,
    program: &'static str,
    file: &'static str,
    files: (&'static str, &'static str),
    parse: fn(&RecordReader<'_>, &StateFile, &mut Record) -> Option<()>,
}

/// runc, the reference.
pub static RUNC: Oci = Oci {
    runtime: EngineKind::Runc,
    program: "runc",
    file: "state.json",
    files: ("/run/runc/*/state.json", "runc; $XDG_RUNTIME_DIR/runc of users, or what --root says."),
    parse: runc,
};
/// crun.
pub static CRUN: Oci = Oci {
    runtime: EngineKind::Crun,
    program: "crun",
    file: "status",
    files: ("/run/crun/*/status", "crun, likewise."),
    parse: crun,
};
/// youki.
pub static YOUKI: Oci = Oci {
    runtime: EngineKind::Youki,
    program: "youki",
    file: "state.json",
    files: ("/run/youki/*/state.json", "youki, likewise."),
    parse: youki,
};

impl Engine for Oci {
    fn kind(&self) -> EngineKind {
        self.runtime
    }

    fn recognise(&self, component: &str, _parent: &[&str]) -> Option<String> {
        let id = component.strip_suffix(".scope").unwrap_or(component);
        let id = match self.runtime {
            // youki's default path is this very text, colons and all.
            EngineKind::Youki => {
                id.strip_prefix(":youki:").or_else(|| id.strip_prefix("youki-"))?
            }
            _ if component.ends_with(".scope") => {
                id.strip_prefix(self.program)?.strip_prefix('-')?
            }
            _ => return None,
        };
        (!id.is_empty()).then(|| id.to_owned())
    }

    fn files(&self) -> (&'static str, &'static str) {
        self.files
    }

    fn records(&self, look: &RecordReader<'_>, found: &mut Vec<Record>) {
        let mut roots: Vec<SearchPath> = Vec::new();
        if look.defaults {
            roots.push(SearchPath::usual(Path::new("/run").join(self.program)));
            let homes = look.homes.iter().map(|home| home.runtime_dir.join(self.program));
            roots.extend(homes.map(SearchPath::usual));
        }
        for runtime in look.running(&[self.program]) {
            let given = runtime.option("--root").or(runtime.option("-r"));
            roots.extend(given.map(|path| SearchPath::told_by(runtime, path)));
        }
        // A user's Podman keeps its runtime's state beside its run root, in XDG_RUNTIME_DIR.
        for conmon in look.running(&["conmon"]) {
            let pidfile = conmon.option("-p").unwrap_or_default();
            let runtime_dir = Path::new(pidfile).ancestors().nth(5);
            let root = runtime_dir.map(|dir| dir.join(self.program));
            roots.extend(root.map(|root| SearchPath::told_by(conmon, root)));
        }
        for place in places(roots) {
            let Some(dir) = look.read(look.host.state_dir(&place.path)) else { continue };
            for id in look.read(dir.names()).unwrap_or_default() {
                let Some(file) = look.read(dir.read(format!("{id}/{}", self.file))) else {
                    continue;
                };
                let mut record = Record::new(self.runtime, id, &file).found_at(&place);
                // These know but one name, and the id is it.
                record.name = Some(record.id.clone());
                if (self.parse)(look, &file, &mut record).is_some() {
                    found.push(record);
                }
            }
        }
    }
}

#[derive(Deserialize)]
struct RuncState {
    id: String,
    init_process_pid: i32,
    /// Clock ticks since boot, as field 22 of stat.
    #[serde(default)]
    init_process_start: u64,
    #[serde(default)]
    cgroup_paths: HashMap<String, String>,
}

fn runc(look: &RecordReader<'_>, file: &StateFile, record: &mut Record) -> Option<()> {
    let state: RuncState = look.read(file.json())?;
    (state.id == record.id).then_some(())?;
    record.pid = HostPid::new(state.init_process_pid);
    record.start = (state.init_process_start > 0).then_some(Ticks(state.init_process_start));
    let paths = &state.cgroup_paths;
    let preferred =
        ["pids", "memory", "", "name=systemd"].iter().find_map(|key| paths.get_key_value(*key));
    record.cgroup = preferred.or(paths.iter().min()).and_then(|(key, path)| {
        let below = path.strip_prefix("/sys/fs/cgroup")?;
        let mount = key.strip_prefix("name=").unwrap_or(key);
        let mount = if mount.is_empty() { "unified" } else { mount };
        let inner =
            below.strip_prefix('/')?.strip_prefix(mount).filter(|rest| rest.starts_with('/'));
        Some(inner.unwrap_or(below).as_bytes().to_vec())
    });
    Some(())
}

#[derive(Deserialize)]
struct CrunStatus {
    pid: i32,
    #[serde(rename = "process-start-time", default)]
    start: u64,
    #[serde(rename = "cgroup-path", default)]
    cgroup: Option<String>,
}

fn crun(look: &RecordReader<'_>, file: &StateFile, record: &mut Record) -> Option<()> {
    let status: CrunStatus = look.read(file.json())?;
    record.pid = HostPid::new(status.pid);
    // Files of old versions have 0, which is not a start time but the lack of one.
    record.start = (status.start > 0).then_some(Ticks(status.start));
    let cgroup = status.cgroup.filter(|path| !path.is_empty());
    record.cgroup = cgroup.map(|path| format!("/{}", path.trim_start_matches('/')).into_bytes());
    Some(())
}

#[derive(Deserialize)]
struct YoukiState {
    id: String,
    pid: Option<i32>,
    #[serde(default)]
    status: String,
}

#[derive(Deserialize)]
struct YoukiConfig {
    #[serde(default)]
    cgroup_path: Option<String>,
}

fn youki(look: &RecordReader<'_>, file: &StateFile, record: &mut Record) -> Option<()> {
    let state: YoukiState = look.read(file.json())?;
    (state.id == record.id).then_some(())?;
    record.pid = state.pid.and_then(HostPid::new).filter(|_| state.status != "stopped");
    let config = file.path.with_file_name("youki_config.json");
    let config = look
        .read(look.host.state_file(config))
        .and_then(|file| look.read(file.json::<YoukiConfig>()));
    let cgroup = config.and_then(|config| config.cgroup_path).filter(|path| !path.is_empty());
    record.cgroup = cgroup.map(|path| format!("/{}", path.trim_start_matches('/')).into_bytes());
    Some(())
}

/// The part of an OCI specification that tells who a container is.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Spec {
    /// Names and pods stand here, by each client's own keys.
    pub annotations: BTreeMap<String, String>,
    linux: Option<Linux>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Linux {
    cgroups_path: Option<String>,
}

impl Spec {
    /// What Podman, CRI-O and nerdctl put there about stopping.
    pub(super) fn stop_plan(&self) -> StopPolicy {
        let get = |key: &str| self.annotations.get(key).map(String::as_str);
        // systemd's own form of a D-Bus value: `uint64 10000000`.
        let micros = get("org.systemd.property.TimeoutStopUSec")
            .and_then(|text| text.rsplit(' ').next()?.parse().ok())
            .map(Duration::from_micros);
        let seconds =
            get("nerdctl/stop-timeout").and_then(|text| text.parse().ok()).map(Duration::from_secs);
        StopPolicy {
            signal: get("org.opencontainers.image.stopSignal").and_then(recorded_signal),
            grace: seconds.or(micros),
            ..StopPolicy::default()
        }
    }

    /// The cgroup path that the specification asks for, below a hierarchy's root.
    pub(super) fn cgroup(&self) -> Option<Vec<u8>> {
        let path = self.linux.as_ref()?.cgroups_path.as_deref()?;
        expand_cgroups_path(path).map(String::into_bytes)
    }
}

/// The pod that the annotations of containerd's CRI service, of CRI-O or of the kubelet tell of.
pub(super) fn pod_of(annotations: &BTreeMap<String, String>) -> Option<Pod> {
    let get = |keys: &[&str]| keys.iter().find_map(|key| annotations.get(*key)).cloned();
    let sandbox = get(&["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"])
        .is_some_and(|kind| kind == "sandbox");
    let name = get(&[
        "io.kubernetes.cri.sandbox-name",
        "io.kubernetes.pod.name",
        "io.kubernetes.cri-o.KubeName",
    ])?;
    let container = get(&["io.kubernetes.cri.container-name", "io.kubernetes.container.name"]);
    Some(Pod {
        namespace: get(&[
            "io.kubernetes.cri.sandbox-namespace",
            "io.kubernetes.pod.namespace",
            "io.kubernetes.cri-o.Namespace",
        ])
        .unwrap_or_default(),
        name,
        uid: get(&["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"]),
        container: container.filter(|_| !sandbox),
    })
}
