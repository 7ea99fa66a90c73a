//! The data roots of Docker daemons, root's and users': the defaults, those in configurations and in the
//! arguments of daemons, and those that the mounts of a container lead to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::cgroup_name::is_long_id;
use super::record::{RecordReader, SearchPath, Shim, unique_paths};
use crate::model::lookup::Lookup;
use crate::model::mount::Mounts;
use crate::model::pid::{HostPid, ProcessId};
use crate::proc::Trust;

/// `daemon.json`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct DockerDaemonConfig {
    #[serde(rename = "data-root")]
    data_root: Option<PathBuf>,
}

/// Returns the data roots, each once.
pub(super) fn roots(reader: &RecordReader<'_>) -> Vec<SearchPath> {
    let mut roots: Vec<SearchPath> = Vec::new();
    if reader.defaults {
        roots.push(SearchPath::default_path("/var/lib/docker"));
        roots.extend(data_root(reader, Path::new("/etc/docker/daemon.json")));
        for home in reader.users.iter().filter_map(|user| user.home.as_ref()) {
            roots.push(SearchPath::default_path(home.join(".local/share/docker")));
            roots.extend(data_root(reader, &home.join(".config/docker/daemon.json")));
        }
    }
    for daemon in reader.shims_named(&["dockerd"]) {
        roots.extend(roots_of_daemon(reader, daemon));
    }
    // All containers of one daemon lead to the same directory, which is searched for once.
    let mounts = reader.unexplained.iter().filter_map(|(id, pid)| mounted_root(reader, id, *pid));
    for (path, source) in mounts.collect::<BTreeSet<_>>() {
        // Most often it is where its file system has it. To list the host's mounts takes longer.
        let paths = match reader.is_first_look {
            true => vec![path.into()],
            false => mounted_at(reader, &path, &source),
        };
        // A container's mount led here: only files that root alone could have written count.
        roots.extend(paths.into_iter().map(SearchPath::default_path));
    }
    let mut roots = unique_paths(roots);
    let remapped: Vec<SearchPath> =
        roots.iter().flat_map(|root| remapped_roots(reader, root)).collect();
    roots.extend(remapped);
    roots
}

/// Returns the data roots that a daemon's arguments name, or its configuration. That of a user's daemon is
/// in the user's own directories, which its environment may name (rootless mode, dockerd/config_unix.go).
fn roots_of_daemon(reader: &RecordReader<'_>, daemon: &Shim) -> Vec<SearchPath> {
    let option = daemon.option(&["--data-root", "--graph", "-g"]);
    let mut roots: Vec<SearchPath> =
        option.map(|path| SearchPath::from_shim(daemon, path)).into_iter().collect();
    let mut files: Vec<PathBuf> =
        daemon.option(&["--config-file"]).map(PathBuf::from).into_iter().collect();
    if daemon.owner != Trust::Root {
        let variables = directories(reader, daemon);
        let directory = |name: &str, below_home: &str| {
            let home = || Some(variables.get("HOME")?.join(below_home));
            variables.get(name).cloned().or_else(home)
        };
        files.extend(
            directory("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("docker/daemon.json")),
        );
        let data = directory("XDG_DATA_HOME", ".local/share").map(|dir| dir.join("docker"));
        roots.extend(data.map(|path| SearchPath::from_shim(daemon, path)));
    }
    let configured = files.iter().filter_map(|file| data_root(reader, file));
    roots.extend(configured.map(|root| SearchPath { owner: root.owner.and(daemon.owner), ..root }));
    roots
}

/// Returns the variables of a daemon's environment that name directories.
fn directories(reader: &RecordReader<'_>, daemon: &Shim) -> BTreeMap<String, PathBuf> {
    let host = reader.host;
    let Ok(stat) = host.stat(daemon.pid) else { return BTreeMap::new() };
    let id = ProcessId { pid: daemon.pid, start: stat.start };
    let environment = host.look_up(&[(id, Lookup::Environment)]).pop().and_then(Result::ok);
    let bytes = environment.map(|content| content.bytes).unwrap_or_default();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    bytes
        .split(|byte| *byte == 0)
        .filter_map(text)
        .filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            let path = PathBuf::from(value);
            path.is_absolute().then(|| (name.to_owned(), path))
        })
        .collect()
}

/// Returns the data roots one level below, `<uid>.<gid>`, that userns-remap uses.
fn remapped_roots(reader: &RecordReader<'_>, root: &SearchPath) -> Vec<SearchPath> {
    let is_remapped = |name: &String| {
        name.split_once('.')
            .is_some_and(|(uid, gid)| uid.parse::<u32>().is_ok() && gid.parse::<u32>().is_ok())
    };
    let names = reader.names(&root.path).into_iter().filter(is_remapped);
    names.map(|name| SearchPath { path: root.path.join(name), owner: root.owner }).collect()
}

/// Reads the data root in a configuration, which is trusted no further than the configuration.
fn data_root(reader: &RecordReader<'_>, file: &Path) -> Option<SearchPath> {
    let file = reader.read(reader.host.state_file(file))?;
    let path = reader.read(file.json::<DockerDaemonConfig>())?.data_root?;
    Some(SearchPath { path, owner: file.owner })
}

/// Returns the data root below the root of its file system, and that file system's source, from the
/// `mountinfo` of a process in a container: Docker mounts `<data root>/containers/ID/hostname` and
/// the like into each. (Rootless, no cgroup has the ID.)
fn mounted_root(reader: &RecordReader<'_>, id: &str, pid: HostPid) -> Option<(String, Vec<u8>)> {
    let mountinfo = reader.host.proc_file(pid, "mountinfo", 1 << 20).ok()?;
    Mounts::new(&mountinfo).find_map(|mount| {
        let root = std::str::from_utf8(&mount.root).ok()?;
        let (data_root, rest) = root.split_once("/containers/")?;
        let (found, file) = rest.split_once('/')?;
        let is_its_file = ["hostname", "hosts", "resolv.conf"].contains(&file);
        let is_its_id = if is_long_id(id) { found == id } else { is_long_id(found) };
        (is_its_file && is_its_id).then(|| (data_root.to_owned(), mount.source.to_vec()))
    })
}

/// Returns the paths of that data root on the host, from our own `mountinfo`. They are only places to look for
/// a record.
fn mounted_at(reader: &RecordReader<'_>, path: &str, source: &[u8]) -> Vec<PathBuf> {
    let mountinfo = reader.host.mountinfo();
    if mountinfo.is_empty() {
        return vec![path.into()];
    }
    Mounts::new(&mountinfo)
        .filter(|mount| *mount.source == *source)
        .filter_map(|mount| {
            let root = std::str::from_utf8(&mount.root).ok()?;
            let point = reader.host.path_on_host(&mount.point)?;
            let rest = Path::new(path).strip_prefix(root).ok()?;
            Some(point.join(rest))
        })
        .collect()
}
