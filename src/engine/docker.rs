//! Docker Engine: `<data root>/containers/ID/config.v2.json`, readable by root alone. Cgroups are
//! `/docker/ID`, or `docker-ID.scope` with the systemd driver.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::record::{Record, RecordReader, SearchPath, places};
use super::{Engine, is_long_id, recorded_signal, scope_id};
use crate::model::container::EngineKind;
use crate::model::mount::Mounts;
use crate::model::pid::HostPid;
use crate::model::stop_policy::StopPolicy;

/// Docker Engine.
pub struct Docker;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Config {
    #[serde(rename = "ID")]
    id: String,
    /// With a leading slash.
    name: String,
    state: DockerState,
    config: Image,
    has_been_manually_stopped: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct DockerState {
    running: bool,
    pid: i32,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Image {
    image: Option<String>,
    stop_signal: Option<String>,
    /// Seconds.
    stop_timeout: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    runtime: Option<String>,
    restart_policy: RestartPolicy,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RestartPolicy {
    name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DaemonConfig {
    #[serde(rename = "data-root")]
    data_root: Option<PathBuf>,
}

impl Engine for Docker {
    fn kind(&self) -> EngineKind {
        EngineKind::Docker
    }

    fn recognise(&self, component: &str, parent: &[&str]) -> Option<String> {
        if parent.last() == Some(&"docker") && is_long_id(component) {
            return Some(component.to_owned());
        }
        scope_id(component, "docker")
    }

    fn files(&self) -> (&'static str, &'static str) {
        (
            "/var/lib/docker/containers/*/config.v2.json",
            "Docker, below the data root its daemon was given (/etc/docker/daemon.json, --data-root); ~/.local/share/docker of users.",
        )
    }

    fn records(&self, look: &RecordReader<'_>, found: &mut Vec<Record>) {
        for place in roots(look) {
            let Some(dir) = look.read(look.host.state_dir(place.path.join("containers"))) else {
                continue;
            };
            for id in look.read(dir.names()).unwrap_or_default() {
                if !is_long_id(&id) {
                    continue;
                }
                let Some(file) = look.read(dir.read(format!("{id}/config.v2.json"))) else {
                    continue;
                };
                let Some(config) = look.read(file.json::<Config>()) else { continue };
                if config.id != id {
                    continue;
                }
                let mut record = Record::new(EngineKind::Docker, id, &file).found_at(&place);
                record.name = config.name.strip_prefix('/').map(str::to_owned);
                record.image = config.config.image;
                record.pid = config.state.running.then(|| HostPid::new(config.state.pid)).flatten();
                record.stop = StopPolicy {
                    signal: config.config.stop_signal.as_deref().and_then(recorded_signal),
                    // Less than none is none: it waits for ever.
                    grace: config.config.stop_timeout.map(|seconds| {
                        u64::try_from(seconds).map_or(Duration::MAX, Duration::from_secs)
                    }),
                    restart: None,
                    stopped_by_hand: config.has_been_manually_stopped,
                };
                // Only of what runs is it worth a look.
                let host = record.pid.and_then(|_| {
                    look.read(dir.read(format!("{}/hostconfig.json", record.id)))
                        .and_then(|file| look.read(file.json::<HostConfig>()))
                });
                if let Some(host) = host {
                    record.stop.restart = host.restart_policy.name;
                    record.sandbox = super::containerd::sandbox(&host.runtime.unwrap_or_default());
                }
                found.push(record);
            }
        }
    }
}

fn roots(look: &RecordReader<'_>) -> Vec<SearchPath> {
    let mut roots: Vec<SearchPath> = Vec::new();
    if look.defaults {
        roots.push(SearchPath::usual("/var/lib/docker"));
        roots.extend(configured(look, Path::new("/etc/docker/daemon.json")).map(SearchPath::usual));
        let homes = look.homes.iter().filter_map(|home| home.home.as_ref());
        roots.extend(homes.map(|home| SearchPath::usual(home.join(".local/share/docker"))));
    }
    for daemon in look.running(&["dockerd"]) {
        let given = daemon.option("--data-root").or(daemon.option("-g")).map(PathBuf::from);
        let file = daemon.option("--config-file").map(Path::new);
        let told = given.into_iter().chain(file.and_then(|file| configured(look, file)));
        roots.extend(told.map(|path| SearchPath::told_by(daemon, path)));
    }
    // All of one daemon lead to the same place, which is looked for once.
    let leads = look.unexplained.iter().filter_map(|(id, pid)| mounted_from(look, id, *pid));
    for (below, source) in leads.collect::<BTreeSet<_>>() {
        // Whoever mounted it has led us there: only what root alone could have written counts.
        roots.extend(mounted_at(look, &below, &source).into_iter().map(SearchPath::usual));
    }
    let mut roots = places(roots);
    // With userns-remap everything is one level further down, in `<uid>.<gid>`.
    let remapped: Vec<SearchPath> = roots
        .iter()
        .flat_map(|root| {
            let names = look.names(&root.path).into_iter();
            let ids = names.filter(|name| {
                name.split_once('.').is_some_and(|(uid, gid)| {
                    uid.parse::<u32>().is_ok() && gid.parse::<u32>().is_ok()
                })
            });
            ids.map(|name| SearchPath { path: root.path.join(name), owner: root.owner })
                .collect::<Vec<_>>()
        })
        .collect();
    roots.extend(remapped);
    roots
}

fn configured(look: &RecordReader<'_>, file: &Path) -> Option<PathBuf> {
    look.read(look.read(look.host.state_file(file))?.json::<DaemonConfig>())?.data_root
}

/// Docker mounts `<data root>/containers/ID/hostname` and its like into each container: `mountinfo`
/// of a process of it gives the path below that file system's root, and what is mounted.
fn mounted_from(look: &RecordReader<'_>, id: &str, pid: HostPid) -> Option<(String, Vec<u8>)> {
    if !is_long_id(id) {
        return None;
    }
    let needle = format!("/containers/{id}/");
    let inside = look.host.proc_file(pid, "mountinfo", 1 << 20).ok()?;
    Mounts::new(&inside).find_map(|mount| {
        let root = std::str::from_utf8(&mount.root).ok()?;
        let at = root.find(&needle)?;
        Some((root[..at].to_owned(), mount.source.to_vec()))
    })
}

/// Where that is on the host, as its own `mountinfo` tells. What is found is only a place to look for
/// a record.
fn mounted_at(look: &RecordReader<'_>, below: &str, source: &[u8]) -> Vec<PathBuf> {
    let Ok(outside) = std::fs::read(look.host.proc_path("self/mountinfo")) else {
        return vec![below.into()];
    };
    Mounts::new(&outside)
        .filter(|mount| *mount.source == *source)
        .filter_map(|mount| {
            let root = std::str::from_utf8(&mount.root).ok()?;
            let point = std::str::from_utf8(&mount.point).ok()?;
            let rest = Path::new(below).strip_prefix(root).ok()?;
            Some(Path::new(point).join(rest))
        })
        .collect()
}
