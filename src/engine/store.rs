//! The file system of a container that is not running, as its engine's store has it: the directories of
//! its layers and the mounts on them. Records are read here and nothing is mounted. A path in a
//! record is a claim: it is trusted as far as the directories that lead to it.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::model::idmap::{IdMap, IdRange};
use crate::proc::{Host, ReadError, StateDir, Trust};

/// The parts of a container's file system.
#[derive(Clone, Debug)]
pub struct StoredRoot {
    /// The directories of the layers, the topmost first. They hold the files that the container wrote;
    /// the directories above them hold records of the engine.
    pub layers: Vec<PathBuf>,
    /// The volumes and bind mounts.
    pub mounts: Vec<StoredMount>,
    /// The user who could have written the store.
    pub owner: Trust,
    /// The IDs that owners on the disk have in the container.
    pub id_maps: (IdMap, IdMap),
    /// The parts that are left out.
    pub omissions: Vec<StoreOmission>,
}

/// A part of a container's file system that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOmission {
    /// Its path in the container.
    pub place: PathBuf,
    /// The reason, in words.
    pub text: String,
}

/// An OCI specification, as far as bind mounts are concerned.
#[derive(Deserialize)]
pub(super) struct BindSpec {
    #[serde(default)]
    mounts: Vec<SpecMount>,
}

#[derive(Deserialize)]
struct SpecMount {
    destination: PathBuf,
    #[serde(default)]
    source: PathBuf,
    #[serde(default)]
    options: Vec<String>,
}

impl BindSpec {
    /// Returns the bind mounts; engines mount their volumes so.
    pub(super) fn binds(self) -> impl Iterator<Item = StoredMount> {
        self.mounts.into_iter().filter_map(|mount| {
            let SpecMount { destination, source, options } = mount;
            let has = |name: &str| options.iter().any(|option| option == name);
            let is_bind = source.is_absolute() && (has("bind") || has("rbind"));
            is_bind.then(|| StoredMount { source, destination, recursive: has("rbind") })
        })
    }
}

impl StoreOmission {
    /// Creates one.
    pub fn new(place: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self { place: place.into(), text: text.into() }
    }

    /// Whether a copy of this path, from the container's root, would have a part of it.
    pub fn concerns(&self, path: &Path) -> bool {
        let names = |path: &Path| -> Vec<OsString> {
            let names = path.components().filter_map(|part| match part {
                Component::Normal(name) => Some(name.to_owned()),
                _ => None,
            });
            names.collect()
        };
        let (place, path) = (names(&self.place), names(path));
        place
            .iter()
            .zip(&path)
            .all(|(a, b)| a == b || b.as_encoded_bytes().iter().any(|b| b"*?[".contains(b)))
    }
}

/// A file or directory of the host that is mounted in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMount {
    /// Its path on the host.
    pub source: PathBuf,
    /// Its path in the container.
    pub destination: PathBuf,
    /// Whether the mounts below the source come with it.
    pub recursive: bool,
}

impl StoredRoot {
    /// Creates one without mounts, with the IDs of the host.
    pub(super) fn new(layers: Vec<PathBuf>, owner: Trust) -> Self {
        let id_maps = (identity(), identity());
        Self { layers, mounts: Vec::new(), owner, id_maps, omissions: Vec::new() }
    }

    /// Sets the IDs that a user's own container has.
    pub(super) fn with_ids_of_owner(mut self, host: &Host) -> Self {
        if let Trust::User(uid) = self.owner {
            let map = |file| user_map(host, uid, file);
            self.id_maps = (map("/etc/subuid"), map("/etc/subgid"));
        }
        self
    }
}

/// Returns the layers of one container in the directory of an overlay driver, the topmost first. The
/// lower ones are links in `l`, whose short names keep the kernel's option short.
pub(super) fn overlay_layers(driver: &StateDir<'_>, id: &str) -> Result<Vec<PathBuf>, String> {
    let layer = driver.dir(id).map_err(|error| unreadable(&driver.path().join(id), &error))?;
    let path = |id: &str| driver.path().join(id).join("diff");
    let mut layers = vec![path(id)];
    let lower = match layer.read("lower") {
        Ok(file) => String::from_utf8_lossy(&file.bytes).trim().to_owned(),
        // The lowest layer of an image, alone.
        Err(ReadError::Gone) => return Ok(layers),
        Err(error) => return Err(unreadable(&layer.path().join("lower"), &error)),
    };
    for link in lower.split(':').filter(|link| !link.is_empty()) {
        let target = driver.link_target(link);
        let target = target.map_err(|error| unreadable(&driver.path().join(link), &error))?;
        let id = layer_of_link(&target)
            .ok_or_else(|| format!("`{link}` of its layers leads to `{}`", target.display()))?;
        layers.push(path(id));
    }
    Ok(layers)
}

/// Returns the layer that a link in `l` leads to: `../ID/diff`.
fn layer_of_link(target: &Path) -> Option<&str> {
    match target.components().collect::<Vec<_>>()[..] {
        [Component::ParentDir, Component::Normal(id), Component::Normal(diff)]
            if diff == "diff" =>
        {
            id.to_str()
        }
        _ => None,
    }
}

/// Returns the cause for a file of the store that cannot be read.
pub(super) fn unreadable(path: &Path, error: &ReadError) -> String {
    match error {
        ReadError::Broken(text) => text.clone(),
        ReadError::Gone => format!("`{}` does not exist", path.display()),
        error => format!("`{}`: {error}", path.display()),
    }
}

/// Returns the map of a user namespace that leaves IDs as they are.
pub(super) fn identity() -> IdMap {
    IdMap { ranges: vec![IdRange { inside: 0, outside: 0, count: u32::MAX }] }
}

/// Returns the map of a user's own containers: root is the user, the others are that user's ranges in
/// subuid(5) or subgid(5).
fn user_map(host: &Host, uid: u32, file: &str) -> IdMap {
    let mut ranges = vec![IdRange { inside: 0, outside: uid, count: 1 }];
    let mut inside = 1u32;
    for (outside, count) in sub_ids(host, uid, file) {
        ranges.push(IdRange { inside, outside, count });
        inside = inside.saturating_add(count);
    }
    IdMap { ranges }
}

/// Returns the ranges of subordinate IDs of a user: first ID and count.
fn sub_ids(host: &Host, uid: u32, file: &str) -> Vec<(u32, u32)> {
    let text = |path: &str| {
        let bytes = host.state_file(path).map(|file| file.bytes).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let passwd = text("/etc/passwd");
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    let number = uid.to_string();
    ranges(&text(file))
        .filter(|(user, ..)| Some(*user) == name || *user == number)
        .map(|(_, first, count)| (first, count))
        .collect()
}

/// Returns the map of a user namespace that begins at an ID of the host, as daemons that remap all of
/// their containers use it; its length is in subuid(5).
pub(super) fn remapped(host: &Host, first: u32, file: &str) -> IdMap {
    let bytes = host.state_file(file).map(|file| file.bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let range = ranges(&text).find(|(_, start, _)| *start == first);
    let count = range.map_or(DEFAULT_COUNT, |(.., count)| count);
    IdMap { ranges: vec![IdRange { inside: 0, outside: first, count }] }
}

/// The number of IDs that useradd(8) gives to a user.
const DEFAULT_COUNT: u32 = 65536;

fn ranges(text: &str) -> impl Iterator<Item = (&str, u32, u32)> {
    text.lines().filter_map(|line| match line.split(':').collect::<Vec<_>>()[..] {
        [user, first, count] => {
            let (first, count) = (first.parse().ok()?, count.trim().parse().ok()?);
            u32::checked_add(first, count)?;
            (count > 0).then_some((user, first, count))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_one_layer_next_to_it() {
        for (target, layer) in [
            ("../0f3a/diff", Some("0f3a")),
            ("../../etc", None),
            ("/etc/diff", None),
            ("../0f3a/diff/etc", None),
            ("../0f3a/../diff", None),
            ("..", None),
        ] {
            assert_eq!(layer_of_link(Path::new(target)), layer, "{target}");
        }
    }

    #[test]
    fn an_omission_concerns_paths_above_and_below_it() {
        let omission = StoreOmission::new("/data/db", "");
        for (path, expected) in [
            ("/", true),
            ("", true),
            ("data/", true),
            ("/data/db/.", true),
            ("/data/db/x", true),
            ("/d*/db", true),
            ("/etc", false),
            ("/data/d", false),
        ] {
            assert_eq!(omission.concerns(Path::new(path)), expected, "{path}");
        }
        assert!(StoreOmission::new("/", "").concerns(Path::new("/etc")));
    }

    #[test]
    fn ranges_of_subordinate_ids_do_not_overflow() {
        let text = "web:100000:65536\n1000:4294967295:2\nbroken\nx:1:0\n";
        assert_eq!(ranges(text).collect::<Vec<_>>(), [("web", 100_000, 65536)]);
    }
}
