//! The storage layout of containers/storage, which Podman and CRI-O share: names in
//! `<graph root>/<driver>-containers/containers.json`, the init's PID in
//! `<run root>/<driver>-containers/ID/userdata/pidfile`. conmon's arguments lead to other roots.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::cgroup_name::is_long_id;
use super::inventory::StoppedContainer;
use super::name_filter::NameFilter;
use super::oci_config::{OciSpec, resources_of_bundle};
use super::oci_process::{CONMON, process_of_bundle};
use super::record::{Record, RecordReader, SearchPath, Shim, unique_paths};
use super::store::{BindSpec, StoreOmission, StoredRoot, overlay_layers, unreadable};
use crate::model::container::Container;
use crate::model::engine::EngineInfo;
use crate::model::idmap::{IdMap, IdRange};
use crate::model::pid::HostPid;
use crate::model::process_config::ProcessConfig;
use crate::model::resource_config::ResourceConfig;
use crate::model::stop_policy::{StopPolicy, StopSignal};
use crate::proc::{Host, ReadError, StateDir, Trust};

/// The engine that wrote an entry of the list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    Podman,
    Crio,
}

/// The directories of one driver: below the graph root, and below the run root if there is one.
pub(super) struct StorageDirs<'a> {
    pub graph: StateDir<'a>,
    pub run: Option<StateDir<'a>>,
}

/// An entry of containers.json; the rest is in `metadata`, JSON in a string.
#[derive(Deserialize)]
struct StorageEntry {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    metadata: String,
    #[serde(default)]
    layer: String,
    #[serde(default, rename = "uidmap")]
    uid_map: Vec<StorageIdRange>,
    #[serde(default, rename = "gidmap")]
    gid_map: Vec<StorageIdRange>,
}

/// A range of a container's IDs, and of the host's.
#[derive(Deserialize)]
struct StorageIdRange {
    container_id: u32,
    host_id: u32,
    size: u32,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct StorageMetadata {
    image_name: Option<String>,
    name: Option<String>,
    /// Written by CRI-O only. (Podman's annotations have CRI-O's prefix, too.)
    pod_id: Option<String>,
}

/// Reads the entries of one writer, and passes each record with the directories that it came from.
pub(super) fn read_records<'a>(
    reader: &RecordReader<'a>,
    engine: &'static EngineInfo,
    writer: Writer,
    mut add: impl FnMut(&StorageDirs<'a>, Record),
) {
    for root in roots(reader) {
        let (graph, run) = &root.path;
        let Some(top) = reader.read(reader.host.state_dir(graph)) else { continue };
        let drivers = reader.read(top.names()).unwrap_or_default();
        for containers in drivers.iter().filter(|name| name.ends_with("-containers")) {
            let Some(graph) = reader.read(top.dir(containers)) else { continue };
            let run = reader.read(reader.host.state_dir(run.join(containers)));
            let dirs = StorageDirs { graph, run };
            for list in ["containers.json", "volatile-containers.json"] {
                let Some(file) = reader.read(dirs.graph.read(list)) else { continue };
                for entry in reader.read(file.json::<Vec<StorageEntry>>()).unwrap_or_default() {
                    let owner = root.owner.and(file.owner);
                    if reader.filter.is_some_and(|filter| entry.is_passed_over(filter, owner)) {
                        continue;
                    }
                    let Some((id, names, metadata)) = entry.of(writer) else { continue };
                    let mut record = Record::new(engine, id, &file).found_at(&root);
                    record.name = names.first().cloned().or(metadata.name);
                    record.aliases = names.into_iter().skip(1).collect();
                    record.image = metadata.image_name.filter(|name| !name.is_empty());
                    read_pidfile(&dirs, &mut record);
                    add(&dirs, record);
                }
            }
        }
    }
}

impl StorageEntry {
    /// Whether a search for another name passes it over.
    fn is_passed_over(&self, filter: &NameFilter, owner: Trust) -> bool {
        let names = self.names.join(" ");
        filter.passes_over(&self.id, owner, format!("{names} {}", self.metadata).as_bytes())
    }

    /// Returns ID, names and metadata, if it is a container of this writer.
    fn of(self, writer: Writer) -> Option<(String, Vec<String>, StorageMetadata)> {
        let metadata: StorageMetadata = serde_json::from_str(&self.metadata).unwrap_or_default();
        let written_by = if metadata.pod_id.is_some() { Writer::Crio } else { Writer::Podman };
        (written_by == writer && is_long_id(&self.id)).then_some((self.id, self.names, metadata))
    }
}

/// Reads the PID. Podman 3 gives the directory to the root user of a container with a user namespace,
/// who could write anything to the file: then the PID is only in the records of the OCI runtime.
fn read_pidfile(dirs: &StorageDirs<'_>, record: &mut Record) {
    let Some(run) = &dirs.run else { return };
    match run.read(format!("{}/userdata/pidfile", record.id)) {
        Ok(file) if record.owner.and(file.owner) == record.owner => {
            let text = std::str::from_utf8(&file.bytes).unwrap_or_default();
            record.pid = text.trim().parse::<HostPid>().ok();
        }
        Ok(file) => {
            let path = file.path.display();
            record.doubt = Some(format!(
                "the record `{path}` is not trusted: the owner of the other records does not own it"
            ));
        }
        Err(ReadError::Gone | ReadError::Denied) => {}
        Err(error) => record.doubt = Some(error.to_string()),
    }
}

/// Graph root and run root.
type StorageRoots = (PathBuf, PathBuf);

fn roots(reader: &RecordReader<'_>) -> Vec<SearchPath<StorageRoots>> {
    let mut roots: Vec<SearchPath<StorageRoots>> = Vec::new();
    if reader.defaults {
        let (graph, run) = ("/var/lib/containers/storage", "/run/containers/storage");
        roots.push(SearchPath::default_path((graph.into(), run.into())));
        for user in reader.users {
            if let Some(home) = &user.home {
                let graph = home.join(".local/share/containers/storage");
                let run = user.runtime_dir.join("containers");
                roots.push(SearchPath::default_path((graph, run)));
            }
        }
    }
    let conmons = reader.shims_named(&["conmon", "conmonrs"]);
    roots.extend(
        conmons.filter_map(|conmon| Some(SearchPath::from_shim(conmon, conmon_roots(conmon)?))),
    );
    unique_paths(roots)
}

/// Returns the graph root from `-b <graph root>/<driver>-containers/ID/userdata`, and the run root from
/// `-p <run root>/<driver>-containers/ID/userdata/pidfile`.
fn conmon_roots(conmon: &Shim) -> Option<StorageRoots> {
    let bundle = conmon.option(&["-b", "--bundle"])?;
    let pidfile = conmon.option(&["-p", "--container-pidfile"])?;
    let graph = Path::new(bundle).ancestors().nth(3)?;
    let run = Path::new(pidfile).ancestors().nth(4)?;
    Some((graph.to_owned(), run.to_owned()))
}

/// Reads the stop settings from the specification next to the list of names, which always has the stop
/// signal. `grace_unread` is the reason if the grace period could not be read.
pub(super) fn stop_policy(
    host: &Host,
    container: &Container,
    grace_unread: &'static str,
) -> StopPolicy {
    let read = || -> Option<OciSpec> {
        let list = container.record.as_ref()?;
        let path = list.with_file_name(format!("{}/userdata/config.json", container.id.as_ref()?));
        host.state_file(path).ok()?.json().ok()
    };
    let spec = read();
    let policy = StopPolicy {
        signal: match spec {
            Some(_) => StopSignal::Unset,
            None => StopSignal::Unread("its `config.json` could not be read"),
        },
        grace_unread: Some(grace_unread),
        ..StopPolicy::default()
    };
    spec.map(|spec| spec.stop_policy()).unwrap_or_default().or(policy)
}

/// Reads the limits. The record is the list of all containers, next to the directory of each; or the
/// container's own directory.
pub(super) fn resource_config(host: &Host, container: &Container) -> Option<ResourceConfig> {
    let directory = container.record.as_ref()?.parent()?;
    let userdata = directory.join(container.id.as_deref()?).join("userdata");
    resources_of_bundle(host, &userdata).or_else(|| resources_of_bundle(host, directory))
}

/// Reads the process that a container was configured with, from the same directories.
pub(super) fn process_config(host: &Host, container: &Container) -> Option<ProcessConfig> {
    let directory = container.record.as_ref()?.parent()?;
    let userdata = directory.join(container.id.as_deref()?).join("userdata");
    process_of_bundle(host, container, &userdata, CONMON)
        .or_else(|| process_of_bundle(host, container, directory, CONMON))
}

/// Reads where the files of a container that is not running are. The record is the list of all
/// containers, `GRAPH_ROOT/DRIVER-containers/containers.json`.
pub(super) fn stored_root(host: &Host, stopped: &StoppedContainer) -> Result<StoredRoot, String> {
    let path = stopped.path();
    let file = host.state_file(path).map_err(|error| unreadable(path, &error))?;
    let entries: Vec<StorageEntry> = file.json().map_err(|error| error.to_string())?;
    let entry = entries.into_iter().find(|entry| entry.id == stopped.id());
    let entry =
        entry.ok_or_else(|| format!("it has just been removed from `{}`", path.display()))?;
    let containers = path.parent().unwrap_or(Path::new("/"));
    let driver = containers.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let driver = driver.strip_suffix("-containers").unwrap_or(driver);
    let directory = containers.with_file_name(driver);
    let layers = match driver {
        "overlay" => {
            let overlay = host.state_dir(&directory);
            let overlay = overlay.map_err(|error| unreadable(&directory, &error))?;
            refuse_mount_program(&overlay)?;
            overlay_layers(&overlay, &entry.layer)?
        }
        "vfs" => vec![directory.join("dir").join(&entry.layer)],
        "btrfs" => vec![directory.join("subvolumes").join(&entry.layer)],
        _ => return Err(format!("its storage driver `{driver}` is not supported")),
    };
    let mut root = StoredRoot::new(layers, file.owner).with_ids_of_owner(host);
    // (A user's ranges are numbered as in that user's own namespace.)
    if !entry.uid_map.is_empty() && root.owner == Trust::Root {
        root.id_maps = (id_map(&entry.uid_map), id_map(&entry.gid_map));
    }
    add_mounts(host, &containers.join(&entry.id).join("userdata"), &mut root);
    Ok(root)
}

/// Refuses the layers of fuse-overlayfs, which marks deletions in its own way where a user cannot
/// do it in the kernel's: the kernel's overlay would show files that were deleted.
fn refuse_mount_program(overlay: &StateDir<'_>) -> Result<(), String> {
    match overlay.read(".has-mount-program") {
        Ok(file) if file.bytes.trim_ascii() == b"true" => {
            Err("its layers were written by a mount program (fuse-overlayfs)".into())
        }
        _ => Ok(()),
    }
}

fn id_map(ranges: &[StorageIdRange]) -> IdMap {
    let range = |range: &StorageIdRange| IdRange {
        inside: range.container_id,
        outside: range.host_id,
        count: range.size.min(u32::MAX - range.container_id.max(range.host_id)),
    };
    IdMap { ranges: ranges.iter().map(range).filter(|range| range.count > 0).collect() }
}

/// Adds volumes and bind mounts as the specification of the last start has them. The files that the
/// engine makes for each start (hostname, hosts and others) are in the container's own directories, and
/// have ended with it.
fn add_mounts(host: &Host, userdata: &Path, root: &mut StoredRoot) {
    let spec = host.state_file(userdata.join("config.json"));
    let Some(spec) = spec.ok().and_then(|file| file.json::<BindSpec>().ok()) else {
        let text = "it was never started, and its volumes are recorded at the first start";
        return root.omissions.push(StoreOmission::new("/", text));
    };
    let is_own = |source: &Path| {
        let mut parts = source.components().rev().map(|part| part.as_os_str());
        parts.nth(1).is_some_and(|part| part == "userdata")
    };
    let mounts = spec.binds().filter(|mount| !is_own(&mount.source));
    root.mounts.extend(mounts);
}
