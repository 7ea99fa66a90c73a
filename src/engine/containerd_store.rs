//! containerd's store: the snapshot of a container in its database
//! (`v1/NAMESPACE/snapshots/SNAPSHOTTER/KEY`), and the chain of parents in that of the snapshotter
//! (`v1/snapshots/NAME`, snapshots/storage/bolt.go), which numbers the directories.

use std::path::{Path, PathBuf};

use nut::Bucket;
use serde::{Deserialize, Serialize};

use super::containerd_database;
use super::database::{self, DatabaseCopy};
use super::inventory::StoppedContainer;
use super::store::{BindSpec, StoredRoot};
use crate::proc::{Host, Trust};

/// The longest chain: overlayfs mounts no more layers (OVL_MAX_STACK, fs/overlayfs/params.h).
const MAX_LAYERS: usize = 500;

/// A container's snapshot.
#[derive(Serialize, Deserialize)]
struct SnapshotEntry {
    snapshotter: String,
    /// Its name in the snapshotter's own database.
    name: Vec<u8>,
    /// The specification of the container.
    spec: Vec<u8>,
}

/// Reads where the files of a container are: layers and bind mounts.
///
/// # Errors
/// The databases cannot be read, or the snapshotter is not one whose files can.
pub(super) fn stored_root(
    host: &Host,
    stopped: &StoppedContainer,
    namespace: &str,
) -> Result<StoredRoot, String> {
    let root = root_of(stopped.path());
    let owner = Trust::of_container(&stopped.container);
    let (layers, spec) = layers(host, &root, owner, namespace, stopped.id())?;
    let mut stored = StoredRoot::new(layers, owner).with_ids_of_owner(host);
    let spec = serde_json::from_slice::<BindSpec>(&spec).ok();
    stored.mounts.extend(spec.into_iter().flat_map(BindSpec::binds));
    Ok(stored)
}

/// Returns containerd's root from the path of a record: that below the state directory has none, and
/// means the default.
fn root_of(record: &Path) -> PathBuf {
    let is_plugin = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b"io.containerd.");
    let plugin = record.ancestors().find(|path| path.file_name().is_some_and(is_plugin));
    match plugin.and_then(Path::parent) {
        Some(root) if !root.starts_with("/run") => root.to_owned(),
        _ => "/var/lib/containerd".into(),
    }
}

/// Returns the layers of a container, the topmost first, and its specification.
///
/// # Errors
/// As [`stored_root`].
pub(super) fn layers(
    host: &Host,
    root: &Path,
    owner: Trust,
    namespace: &str,
    id: &str,
) -> Result<(Vec<PathBuf>, Vec<u8>), String> {
    let file = containerd_database::FILE;
    let find = |copy| container_snapshot(copy, namespace, id);
    let snapshot = database::read(host, root, file, owner, find)
        .ok_or_else(|| format!("`{}` has no snapshot of it", root.join(file).display()))?;
    let snapshotter = root.join(format!("io.containerd.snapshotter.v1.{}", snapshot.snapshotter));
    let find = |copy| chain(copy, &snapshot.name);
    let chain = database::read(host, &snapshotter, "metadata.db", owner, find)
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| {
            format!("`{}` has no snapshot of it", snapshotter.join("metadata.db").display())
        })?;
    let directory = |number: &u64| snapshotter.join("snapshots").join(number.to_string());
    let layers = match &*snapshot.snapshotter {
        "overlayfs" => chain.iter().map(|number| directory(number).join("fs")).collect(),
        // Each snapshot has everything.
        "native" => chain.iter().take(1).map(directory).collect(),
        other => return Err(format!("its snapshotter `{other}` is not supported")),
    };
    Ok((layers, snapshot.spec))
}

fn container_snapshot(copy: DatabaseCopy, namespace: &str, id: &str) -> Option<SnapshotEntry> {
    let database = copy.bolt()?;
    let transaction = database.begin_tx().ok()?;
    let version = transaction.bucket(b"v1").ok()?;
    let namespace = version.bucket(namespace.as_bytes())?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let container = namespace.bucket(b"containers").and_then(|all| all.bucket(id.as_bytes()));
    // (Docker has no containers in its containerd before they run, and its IDs are keys.)
    let snapshotter = match container {
        Some(container) => text(container.get(b"snapshotter")?)?,
        None => "overlayfs".into(),
    };
    let key = container.and_then(|container| container.get(b"snapshotKey"));
    let snapshots = namespace.bucket(b"snapshots")?.bucket(snapshotter.as_bytes())?;
    let name = snapshots.bucket(key.unwrap_or(id.as_bytes()))?.get(b"name")?.to_vec();
    let spec = container.and_then(|container| container.get(b"spec")).unwrap_or_default();
    Some(SnapshotEntry { snapshotter, name, spec: containerd_database::json_of_any(spec).to_vec() })
}

/// Returns the numbers of a snapshot and its parents.
fn chain(copy: DatabaseCopy, name: &[u8]) -> Option<Vec<u64>> {
    let database = copy.bolt()?;
    let transaction = database.begin_tx().ok()?;
    let version = transaction.bucket(b"v1").ok()?;
    let snapshots: &Bucket = version.bucket(b"snapshots")?;
    let (mut numbers, mut next) = (Vec::new(), Some(name.to_vec()));
    while let Some(name) = next {
        let snapshot = snapshots.bucket(&name)?;
        numbers.push(uvarint(snapshot.get(b"id")?)?);
        if numbers.len() > MAX_LAYERS {
            return None;
        }
        next = snapshot.get(b"parent").filter(|parent| !parent.is_empty()).map(<[u8]>::to_vec);
    }
    Some(numbers)
}

/// Parses an integer as Go's encoding/binary writes it (PutUvarint).
fn uvarint(bytes: &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_above_the_plugin_of_a_record() {
        for (record, root) in [
            ("/data/io.containerd.metadata.v1.bolt/meta.db", "/data"),
            ("/data/io.containerd.grpc.v1.cri/containers/x/status", "/data"),
            (
                "/run/containerd/io.containerd.runtime.v2.task/k/x/config.json",
                "/var/lib/containerd",
            ),
        ] {
            assert_eq!(root_of(Path::new(record)), Path::new(root), "{record}");
        }
    }

    #[test]
    fn integers_are_read_as_go_writes_them() {
        for (bytes, value) in [(&[1u8][..], Some(1)), (&[0xac, 2], Some(300)), (&[0x80], None)] {
            assert_eq!(uvarint(bytes), value);
        }
        assert_eq!(uvarint(&[0xff; 12]), None);
    }

    /// Writes a database with buckets and values by path.
    fn database(values: &[(&[&str], &[u8])]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.db");
        let mut database = nut::DBBuilder::new(&path).build().unwrap();
        {
            let mut transaction = database.begin_rw_tx().unwrap();
            for (keys, value) in values {
                let (key, buckets) = keys.split_last().unwrap();
                let first = transaction.create_bucket_if_not_exists(buckets[0].as_bytes());
                put(&mut first.unwrap(), &buckets[1..], key, value);
            }
            transaction.commit().unwrap();
        }
        drop(database);
        std::fs::read(path).unwrap()
    }

    fn put(bucket: &mut Bucket, buckets: &[&str], key: &str, value: &[u8]) {
        match buckets.split_first() {
            None => bucket.put(key.as_bytes(), value.to_vec()).unwrap(),
            Some((first, rest)) => {
                let below = bucket.create_bucket_if_not_exists(first.as_bytes()).unwrap();
                put(below, rest, key, value);
            }
        }
    }

    #[test]
    fn the_layers_of_a_container_are_the_chain_of_its_snapshot() {
        let metadata = database(&[
            (&["v1", "ns", "containers", "c", "snapshotter"], b"overlayfs"),
            (&["v1", "ns", "containers", "c", "snapshotKey"], b"key"),
            (&["v1", "ns", "containers", "c", "spec"], b"\x0a\x01t\x12\x02{}"),
            (&["v1", "ns", "snapshots", "overlayfs", "key", "name"], b"ns/7/key"),
        ]);
        let find = |copy: DatabaseCopy| container_snapshot(copy, "ns", "c");
        let snapshot = database::parse_isolated(metadata, Trust::Root, find).unwrap();
        assert_eq!((&*snapshot.name, &*snapshot.spec), (&b"ns/7/key"[..], &b"{}"[..]));
        let chained = database(&[
            (&["v1", "snapshots", "ns/7/key", "id"], &[0xac, 2]),
            (&["v1", "snapshots", "ns/7/key", "parent"], b"ns/3/base"),
            (&["v1", "snapshots", "ns/3/base", "id"], &[3]),
            (&["v1", "snapshots", "loop", "id"], &[4]),
            (&["v1", "snapshots", "loop", "parent"], b"loop"),
        ]);
        let numbers = |name: &'static [u8]| {
            database::parse_isolated(chained.clone(), Trust::Root, |copy| chain(copy, name))
        };
        assert_eq!(numbers(b"ns/7/key"), Some(vec![300, 3]));
        assert_eq!((numbers(b"loop"), numbers(b"none")), (None, None));
    }
}
