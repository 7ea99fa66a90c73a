//! containerd's database (metadata/buckets.go): `v1/NAMESPACE/containers/ID` has the image, the labels, in
//! which the stop signal and restart policies are, and CRI's metadata as an extension. The daemon holds a
//! lock on it, which a copy does not need.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nut::Bucket;
use serde::{Deserialize, Serialize};

use super::database::{self, DatabaseCache, DatabaseCopy};
use super::labels::Labels;
use crate::proc::{Host, Trust};

/// The database below containerd's root.
pub(super) const FILE: &str = "io.containerd.metadata.v1.bolt/meta.db";
/// Docker's namespace: Docker's own records name these containers.
const DOCKER_NAMESPACE: &[u8] = b"moby";

/// A container in the database, as far as this program needs it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ContainerdEntry {
    pub namespace: String,
    pub id: String,
    pub image: Option<String>,
    pub labels: Labels,
    pub cri: CriMetadata,
}

/// The part of CRI's metadata that is used (pkg/store/container/metadata.go).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct CriMetadata {
    pub log_path: Option<PathBuf>,
    pub stop_signal: Option<String>,
    /// The sandbox of its pod (of a container).
    #[serde(rename = "SandboxID")]
    pub sandbox: Option<String>,
    pub config: CriConfig,
}

/// The part of a configuration that is used (CRI's `ContainerConfig` and `PodSandboxConfig`, of which the
/// latter has the labels of the pod).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct CriConfig {
    pub annotations: Labels,
    pub labels: Labels,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct VersionedMetadata {
    metadata: CriMetadata,
}

static CACHE: DatabaseCache<Vec<ContainerdEntry>> = DatabaseCache::new();

/// Returns the path of the database below containerd's root.
pub(super) fn path(root: &Path) -> PathBuf {
    root.join(FILE)
}

/// Returns the containers in the database below containerd's root, if it is `owner`'s or root's.
pub(super) fn entries(host: &Host, root: &Path, owner: Trust) -> Arc<Vec<ContainerdEntry>> {
    let read = || database::read(host, root, FILE, owner, containers).unwrap_or_default();
    CACHE.get(host, root, owner, read)
}

/// Returns one container of it.
pub(super) fn entry(
    host: &Host,
    root: &Path,
    owner: Trust,
    namespace: &str,
    id: &str,
) -> Option<ContainerdEntry> {
    let entries = entries(host, root, owner);
    entries.iter().find(|entry| entry.id == id && entry.namespace == namespace).cloned()
}

fn containers(copy: DatabaseCopy) -> Option<Vec<ContainerdEntry>> {
    let database = copy.bolt()?;
    let transaction = database.begin_tx().ok()?;
    let version = transaction.bucket(b"v1").ok()?;
    let mut found = Vec::new();
    for namespace in version.buckets().iter().filter(|name| *name != DOCKER_NAMESPACE) {
        let containers = version.bucket(namespace).and_then(|bucket| bucket.bucket(b"containers"));
        let Some(containers) = containers else { continue };
        for id in containers.buckets() {
            found.extend(containers.bucket(&id).map(|container| ContainerdEntry {
                namespace: text(namespace),
                id: text(&id),
                image: container.get(b"image").map(text).filter(|image| !image.is_empty()),
                labels: container.bucket(b"labels").map(pairs).unwrap_or_default(),
                cri: cri(container).unwrap_or_default(),
            }));
        }
    }
    Some(found)
}

/// Returns the labels of a container, and those of its pod, which only the sandbox of the pod has.
pub(super) fn labels(entries: &[ContainerdEntry], entry: &ContainerdEntry) -> Labels {
    let is_sandbox = |other: &&ContainerdEntry| {
        other.namespace == entry.namespace && Some(&other.id) == entry.cri.sandbox.as_ref()
    };
    let sandbox = entries.iter().find(is_sandbox).unwrap_or(entry);
    let mut labels = sandbox.cri.config.labels.clone();
    labels.extend(entry.labels.clone());
    labels
}

/// Parses a database.
pub(super) fn fuzz(bytes: &[u8]) {
    let _ = database::parse_isolated(bytes.to_vec(), Trust::Root, containers);
}

/// Returns the JSON in an `Any` of protobuf: it is the last field.
pub(super) fn json_of_any(any: &[u8]) -> &[u8] {
    &any[any.iter().position(|byte| *byte == b'{').unwrap_or(any.len())..]
}

/// Returns the metadata of CRI.
fn cri(container: &Bucket) -> Option<CriMetadata> {
    let extensions = container.bucket(b"extensions")?;
    let any = extensions
        .get(b"io.cri-containerd.container.metadata")
        .or_else(|| extensions.get(b"io.cri-containerd.sandbox.metadata"))?;
    Some(serde_json::from_slice::<VersionedMetadata>(json_of_any(any)).ok()?.metadata)
}

fn pairs(bucket: &Bucket) -> Labels {
    let mut pairs = Labels::new();
    let Ok(cursor) = bucket.cursor() else { return pairs };
    let mut item = cursor.first();
    while let Ok(pair) = &item
        && let (Some(key), Some(value)) = (pair.key, pair.value)
    {
        pairs.insert(text(key), text(value));
        item = cursor.next();
    }
    pairs
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
