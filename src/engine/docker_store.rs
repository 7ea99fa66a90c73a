//! Docker's store below its data root: the layers of a container
//! (`image/DRIVER/layerdb/mounts/ID/mount-id`, then `overlay2/ID`), and its volumes and other mounts, as
//! `docker cp` shows them in a container that is not running.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::containerd_store;
use super::inventory::StoppedContainer;
use super::store::{StoreOmission, StoredMount, StoredRoot, overlay_layers, remapped, unreadable};
use crate::proc::{Host, Trust};

/// The root of the containerd that is a service of its own.
const SYSTEM_CONTAINERD: &str = "/var/lib/containerd";

/// `config.v2.json`, as far as its file system is concerned.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct DockerFiles {
    driver: String,
    mount_points: Option<BTreeMap<String, DockerMount>>,
    hostname_path: String,
    hosts_path: String,
    resolv_conf_path: String,
}

/// A volume, a bind mount, or another.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct DockerMount {
    source: PathBuf,
    destination: PathBuf,
    name: String,
    driver: String,
    #[serde(rename = "Type")]
    kind: String,
    spec: DockerMountSpec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct DockerMountSpec {
    bind_options: Option<DockerBindOptions>,
    volume_options: Option<DockerVolumeOptions>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct DockerBindOptions {
    non_recursive: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct DockerVolumeOptions {
    subpath: String,
}

/// Reads where the files of a container are.
///
/// # Errors
/// The store has another layout, or cannot be read.
pub(super) fn stored_root(host: &Host, stopped: &StoppedContainer) -> Result<StoredRoot, String> {
    let read = |path: &Path| host.state_file(path).map_err(|error| unreadable(path, &error));
    let config = read(stopped.path())?;
    let files: DockerFiles = config.json().map_err(|error| error.to_string())?;
    // DATA_ROOT/containers/ID/config.v2.json
    let data_root = stopped.path().ancestors().nth(3).unwrap_or(Path::new("/"));
    let driver = &*files.driver;
    let layers = data_root.join("image").join(driver).join("layerdb/mounts").join(stopped.id());
    let mount_id = || -> Result<String, String> {
        let file = read(&layers.join("mount-id"))?;
        Ok(String::from_utf8_lossy(&file.bytes).trim().to_owned())
    };
    let layers = match driver {
        "overlay2" => {
            let path = data_root.join(driver);
            let overlay = host.state_dir(&path).map_err(|error| unreadable(&path, &error))?;
            overlay_layers(&overlay, &mount_id()?)?
        }
        "vfs" => vec![data_root.join("vfs/dir").join(mount_id()?)],
        "btrfs" => vec![data_root.join("btrfs/subvolumes").join(mount_id()?)],
        "overlayfs" | "native" => snapshot_layers(host, data_root, config.owner, stopped.id())?,
        _ => return Err(format!("its storage driver `{driver}` is not supported")),
    };
    let mut root = StoredRoot::new(layers, config.owner).with_ids_of_owner(host);
    if let Some(first) = remapped_root(data_root) {
        root.id_maps =
            (remapped(host, first.0, "/etc/subuid"), remapped(host, first.1, "/etc/subgid"));
    }
    add_mounts(host, data_root, files, &mut root);
    Ok(root)
}

/// Returns the layers in the image store of containerd (the default since Docker 29): that of the daemon's
/// own containerd, or of the system's.
fn snapshot_layers(
    host: &Host,
    data_root: &Path,
    owner: Trust,
    id: &str,
) -> Result<Vec<PathBuf>, String> {
    let embedded =
        containerd_store::layers(host, &data_root.join("containerd/daemon"), owner, "moby", id);
    let system =
        |_| containerd_store::layers(host, Path::new(SYSTEM_CONTAINERD), owner, "moby", id);
    embedded.or_else(system).map(|(layers, _)| layers)
}

/// Returns the first IDs of the user namespace in the name of a data root, `<uid>.<gid>`
/// (userns-remap).
fn remapped_root(data_root: &Path) -> Option<(u32, u32)> {
    let (uid, gid) = data_root.file_name()?.to_str()?.split_once('.')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

/// Adds volumes and bind mounts, and the files of the network. A tmpfs has ended with the container.
fn add_mounts(host: &Host, data_root: &Path, files: DockerFiles, root: &mut StoredRoot) {
    for mount in files.mount_points.unwrap_or_default().into_values() {
        let DockerMount { source, destination, kind, spec, .. } = &mount;
        match kind.as_str() {
            "tmpfs" => continue,
            // (Records of old versions have no type.)
            "bind" | "volume" | "" if !source.as_os_str().is_empty() => {}
            _ => {
                let text = format!("mounts of type `{kind}` are not supported");
                root.omissions.push(StoreOmission::new(destination, text));
                continue;
            }
        }
        if is_mounted_for_use(host, data_root, &mount) {
            let text = format!("its volume `{}` is mounted only while it runs", mount.name);
            root.omissions.push(StoreOmission::new(destination, text));
            continue;
        }
        let subpath = spec.volume_options.as_ref().map_or("", |options| &options.subpath);
        root.mounts.push(StoredMount {
            source: source.join(subpath.trim_start_matches('/')),
            destination: destination.clone(),
            recursive: !spec.bind_options.as_ref().is_some_and(|options| options.non_recursive),
        });
    }
    for (source, destination) in [
        (files.hostname_path, "/etc/hostname"),
        (files.hosts_path, "/etc/hosts"),
        (files.resolv_conf_path, "/etc/resolv.conf"),
    ] {
        // (Empty with the host's network; not there before the first start.)
        if !source.is_empty() && host.root().join(source.trim_start_matches('/')).exists() {
            let (source, destination) = (source.into(), destination.into());
            root.mounts.push(StoredMount { source, destination, recursive: false });
        }
    }
}

/// Whether a volume is mounted from elsewhere when a container uses it: by a plugin, or with options
/// (`--opt type=nfs`).
fn is_mounted_for_use(host: &Host, data_root: &Path, mount: &DockerMount) -> bool {
    if mount.name.is_empty() {
        return false;
    }
    let options = data_root.join("volumes").join(&mount.name).join("opts.json");
    !matches!(mount.driver.as_str(), "" | "local") || host.state_file(options).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_remapped_data_root_is_named_by_two_numbers() {
        assert_eq!(remapped_root(Path::new("/var/lib/docker/1000.2000")), Some((1000, 2000)));
        assert_eq!(remapped_root(Path::new("/var/lib/docker")), None);
        assert_eq!(remapped_root(Path::new("/var/lib/docker.1")), None);
    }

    #[test]
    fn a_record_without_mounts_is_read() {
        let text = r#"{"Driver":"overlay2","MountPoints":null,"HostsPath":""}"#;
        let files: DockerFiles = serde_json::from_str(text).unwrap();
        assert!(files.mount_points.is_none() && files.driver == "overlay2");
        let text = r#"{"MountPoints":{"/v":{"Source":"/s","Destination":"/v","Type":"volume",
            "Spec":{"BindOptions":null,"VolumeOptions":{"Subpath":"a/b"}}}}}"#;
        let files: DockerFiles = serde_json::from_str(text).unwrap();
        let mount = &files.mount_points.unwrap()["/v"];
        assert_eq!(mount.spec.volume_options.as_ref().unwrap().subpath, "a/b");
    }
}
