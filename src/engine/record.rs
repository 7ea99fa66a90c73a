//! Records: the claims of engines' files about containers, before the kernel has been asked; and the
//! paths and shims that lead to them. `verify` decides whether a record is trusted.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::labels::Labels;
use super::name_filter::NameFilter;
use crate::model::container::Pod;
use crate::model::engine::EngineInfo;
use crate::model::pid::{HostPid, Ticks};
use crate::model::stop_policy::StopPolicy;
use crate::proc::{Host, ReadError, StateDir, StateFile, Trust};

/// One container according to a record. Every field is a claim.
#[derive(Clone, Debug)]
pub struct Record {
    /// The engine that wrote it.
    pub engine: &'static EngineInfo,
    /// The engine's ID.
    pub id: String,
    /// The engine's name.
    pub name: Option<String>,
    /// Other names that find it.
    pub aliases: Vec<String>,
    /// Its namespace in containerd.
    pub namespace: Option<String>,
    /// The pod.
    pub pod: Option<Pod>,
    /// The image.
    pub image: Option<String>,
    /// Its labels, if its engine has any and they were read.
    pub labels: Option<Labels>,
    /// The init, if the container runs according to the record.
    pub pid: Option<HostPid>,
    /// Start time of the init.
    pub start: Option<Ticks>,
    /// The cgroup path of the container, below the hierarchy's root.
    pub cgroup: Option<Vec<u8>>,
    /// The monitor that has to be the parent of the init, if the record is that monitor's argv.
    pub parent: Option<HostPid>,
    /// How the engine stops it.
    pub stop: StopPolicy,
    /// The reason why a PID that was recorded is not trusted.
    pub doubt: Option<String>,
    /// The sandbox that keeps its processes off this host (gVisor, Kata).
    pub sandbox: Option<&'static str>,
    /// The file.
    pub path: PathBuf,
    /// The user who could have written it, and any file or process that led to it.
    pub owner: Trust,
    /// The user's directory above a record of root's.
    pub users_path: Option<PathBuf>,
}

impl Record {
    /// Creates a record that has only an ID.
    pub fn new(engine: &'static EngineInfo, id: impl Into<String>, file: &StateFile) -> Self {
        Self {
            engine,
            id: id.into(),
            name: None,
            aliases: Vec::new(),
            namespace: None,
            pod: None,
            image: None,
            labels: None,
            pid: None,
            start: None,
            cgroup: None,
            parent: None,
            stop: StopPolicy::default(),
            doubt: None,
            sandbox: None,
            path: file.path.clone(),
            owner: file.owner,
            users_path: file.users_path.clone(),
        }
    }

    /// Creates a record of a monitor's child from the monitor's argv, which is trusted as far as the
    /// user who runs the monitor.
    pub fn of_child(engine: &'static EngineInfo, id: impl Into<String>, monitor: &Shim) -> Self {
        let path = PathBuf::from(format!("/proc/{}/cmdline", monitor.pid));
        let file = StateFile { path, bytes: Vec::new(), owner: monitor.owner, users_path: None };
        let mut record = Self::new(engine, id, &file);
        record.pid = monitor.child;
        record.parent = Some(monitor.pid);
        record
    }

    /// Returns the record trusted only as far as the path that led to it, too.
    #[must_use]
    pub fn found_at<P>(mut self, path: &SearchPath<P>) -> Self {
        self.owner = self.owner.and(path.owner);
        self
    }

    /// Whether it is of a container in a sandboxed pod, and not of the sandbox itself.
    pub fn is_in_pod_sandbox(&self) -> bool {
        self.sandbox.is_some() && self.pod.as_ref().is_some_and(|pod| pod.container.is_some())
    }
}

/// A directory, or a pair of them, to search for records, and how far it is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchPath<P = PathBuf> {
    /// The directory or directories.
    pub path: P,
    /// The user who led to it; root for the default directories of an engine.
    pub owner: Trust,
}

impl<P> SearchPath<P> {
    /// Creates the path of a directory that an engine uses by default.
    pub fn default_path(path: impl Into<P>) -> Self {
        Self { path: path.into(), owner: Trust::Root }
    }

    /// Creates the path of a directory that a shim's argv or working directory leads to.
    pub fn from_shim(shim: &Shim, path: impl Into<P>) -> Self {
        Self { path: path.into(), owner: shim.owner }
    }
}

/// Returns each path once: as root's if root led to it.
pub fn unique_paths<P: Ord>(mut paths: Vec<SearchPath<P>>) -> Vec<SearchPath<P>> {
    paths.sort_by(|a, b| (&a.path, a.owner != Trust::Root).cmp(&(&b.path, b.owner != Trust::Root)));
    paths.dedup_by(|next, kept| {
        next.path == kept.path && (kept.owner == Trust::Root || kept.owner == next.owner)
    });
    paths
}

/// A process whose argv or working directory leads to records: dockerd, containerd and its shims,
/// conmon, a runtime in the foreground, systemd-nspawn, the LXC monitor.
#[derive(Clone, Debug)]
pub struct Shim {
    /// Its PID.
    pub pid: HostPid,
    /// The user who runs it.
    pub owner: Trust,
    /// Its command line as text; an argument that is not UTF-8 is empty, and leads nowhere.
    pub argv: Vec<String>,
    /// Its working directory (that of a containerd shim is the bundle).
    pub cwd: Option<PathBuf>,
    /// The init below it, if known.
    pub child: Option<HostPid>,
}

impl Shim {
    /// Returns the last part of the program's path.
    pub fn program(&self) -> &str {
        let path = self.argv.first().map_or("", String::as_str);
        path.rsplit('/').next().unwrap_or(path)
    }

    /// Returns the value of an option, given as `--name value` or `--name=value` under any of its names. The last
    /// one counts, as for the programs' own parsers.
    pub fn option(&self, names: &[&str]) -> Option<&str> {
        last_option(&self.argv, names)
    }

    /// Returns the value of an option before the subcommand: the rest may be the command line of a container.
    pub fn global_option(&self, names: &[&str], subcommands: &[&str]) -> Option<&str> {
        let is_subcommand = |argument: &String| subcommands.contains(&argument.as_str());
        let end = self.argv.iter().position(is_subcommand).unwrap_or(self.argv.len());
        last_option(&self.argv[..end], names)
    }
}

fn last_option<'a>(argv: &'a [String], names: &[&str]) -> Option<&'a str> {
    let mut value = None;
    let mut arguments = argv.iter().map(String::as_str);
    while let Some(argument) = arguments.next() {
        let (name, attached) =
            argument.split_once('=').map_or((argument, None), |(name, value)| (name, Some(value)));
        if names.contains(&argument) {
            value = arguments.next();
        } else if names.contains(&name) {
            value = attached;
        }
    }
    value
}

/// The directories of a user that may hold records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserDirs {
    /// The user.
    pub uid: u32,
    /// `$HOME`, if known.
    pub home: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime_dir: PathBuf,
}

/// Messages about records that are not trusted or could not be read. Only the first few of a user
/// are kept: there may be thousands.
#[derive(Debug, Default)]
pub struct Diagnostics {
    messages: Vec<String>,
    /// The messages, or the reasons in them.
    known: HashSet<String>,
    count_by_user: HashMap<u32, usize>,
}

const MAX_OF_A_USER: usize = 10;
/// The words before the reason why a path is not trusted.
const NOT_TRUSTED: &str = " is not trusted: ";

impl Diagnostics {
    /// Adds a message about a file of this owner.
    pub fn add(&mut self, owner: Trust, message: String) {
        // One directory that is not trusted has many paths below it. (A reason that names none is the file's.)
        let reason = message
            .split_once(NOT_TRUSTED)
            .filter(|(path, reason)| path.starts_with('`') && reason.contains('`'));
        let key = reason.map_or(&*message, |(_, reason)| reason);
        if !self.known.insert(key.to_owned()) {
            return;
        }
        if let Trust::User(uid) = owner {
            let count = self.count_by_user.entry(uid).or_default();
            *count += 1;
            if *count > MAX_OF_A_USER {
                return;
            }
        }
        self.messages.push(message);
    }

    /// Returns the messages, and one for each user with more than were kept.
    pub fn into_messages(self) -> Vec<String> {
        let mut users: Vec<(u32, usize)> = self.count_by_user.into_iter().collect();
        users.sort_unstable();
        let omitted = users.into_iter().filter_map(|(uid, count)| {
            let more = count.checked_sub(MAX_OF_A_USER).filter(|more| *more > 0)?;
            Some(format!("{more} more records of user {uid} are not trusted or could not be read"))
        });
        self.messages.into_iter().chain(omitted).collect()
    }
}

/// The places where engines look for records, and the reading of them.
#[derive(Debug)]
pub struct RecordReader<'a> {
    /// The host.
    pub host: &'a Host,
    /// Whether to read the engines' default directories.
    pub defaults: bool,
    /// Processes that lead to other directories.
    pub shims: &'a [Shim],
    /// Containers in the cgroup tree that no record explains: ID, and one of their processes.
    pub unexplained: &'a [(String, HostPid)],
    /// Whether a container that is not found where they lead to at first sight is searched for once more.
    pub is_first_look: bool,
    /// Users with a runtime directory.
    pub users: &'a [UserDirs],
    /// The name that is searched for, if it is one.
    pub filter: Option<&'a NameFilter>,
    /// Whether files are read that only have settings of a container.
    pub reads_settings: bool,
    /// Collects the reasons why records could not be read.
    pub diagnostics: &'a Mutex<Diagnostics>,
}

impl<'a> RecordReader<'a> {
    /// Returns the value read. An error becomes a diagnostic, unless the file does not exist or is
    /// not accessible to us.
    pub fn read<T>(&self, result: Result<T, ReadError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(ReadError::Gone | ReadError::Denied) => None,
            Err(error @ (ReadError::Broken(_) | ReadError::Exhausted)) => {
                let message = error.to_string();
                let names_directory_of = |user: &&UserDirs| {
                    let directories = [user.home.as_ref(), Some(&user.runtime_dir)];
                    let mut names =
                        directories.into_iter().flatten().filter_map(|dir| dir.to_str());
                    names.any(|dir| message.contains(&format!("`{dir}/")))
                };
                let user = self.users.iter().find(names_directory_of);
                let owner = user.map_or(Trust::Root, |user| Trust::User(user.uid));
                let diagnostics = self.diagnostics.lock();
                diagnostics.unwrap_or_else(PoisonError::into_inner).add(owner, message);
                None
            }
        }
    }

    /// Returns the names in a directory of records; none if the directory does not exist.
    pub fn names(&self, directory: &Path) -> Vec<String> {
        self.read(self.host.state_dir(directory).and_then(|dir| dir.names())).unwrap_or_default()
    }

    /// Reads the record of the container with this ID, in a directory that `path` led to, unless a search for
    /// another name passes it over.
    pub fn read_record(
        &self,
        path: &SearchPath,
        dir: &StateDir<'_>,
        id: &str,
        name: &str,
    ) -> Option<StateFile> {
        let file = self.read(dir.read(format!("{id}/{name}")))?;
        (!self.passes_over(path, id, &file)).then_some(file)
    }

    /// Whether a search for another name passes over the record of the container with this ID.
    pub fn passes_over(&self, path: &SearchPath, id: &str, file: &StateFile) -> bool {
        let owner = path.owner.and(file.owner);
        self.filter.is_some_and(|filter| filter.passes_over(id, owner, &file.bytes))
    }

    /// Whether the container of this ID is not the one that is searched for.
    pub fn has_passed_over(&self, id: &str) -> bool {
        self.filter.is_some_and(|filter| filter.has_passed_over(id))
    }

    /// Returns the shims that run one of these programs.
    pub fn shims_named(&self, programs: &[&str]) -> impl Iterator<Item = &'a Shim> {
        self.shims.iter().filter(|shim| programs.contains(&shim.program()))
    }
}

/// Expands a cgroup path as a specification has it for the systemd driver, `slice:prefix:name`, to the
/// path that systemd makes of it: slices nest by the dashes in their names.
pub fn expand_cgroups_path(path: &str) -> Option<String> {
    let mut fields = path.split(':');
    let (Some(slice), Some(prefix), Some(name), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return path.starts_with('/').then(|| path.to_owned());
    };
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let stem = slice.strip_suffix(".slice")?;
    let mut expanded = String::new();
    if stem != "-" {
        let mut ancestor = String::new();
        for part in stem.split('-') {
            if part.is_empty() {
                return None;
            }
            if !ancestor.is_empty() {
                ancestor.push('-');
            }
            ancestor.push_str(part);
            expanded.push_str(&format!("/{ancestor}.slice"));
        }
    }
    let unit = match (prefix, name) {
        (_, name) if name.ends_with(".slice") => name.to_owned(),
        ("", name) => format!("{name}.scope"),
        (prefix, name) => format!("{prefix}-{name}.scope"),
    };
    Some(format!("{expanded}/{unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_nest_by_the_dashes_in_their_names() {
        for (path, expanded) in [
            ("/docker/x", Some("/docker/x")),
            ("system.slice:docker:x", Some("/system.slice/docker-x.scope")),
            (
                "kubepods-burstable-pod1_2.slice:cri-containerd:x",
                Some(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-x.scope",
                ),
            ),
            (":runc:x", Some("/system.slice/runc-x.scope")),
            ("relative/x", None),
            ("a--b.slice:p:x", None),
            ("", None),
        ] {
            assert_eq!(expand_cgroups_path(path).as_deref(), expanded, "{path}");
        }
    }

    #[test]
    fn each_file_is_named_unless_its_directory_is() {
        let mut diagnostics = Diagnostics::default();
        for message in [
            "`/a/1` is not trusted: it is not a regular file",
            "`/a/2` is not trusted: it is not a regular file",
            "`/a/2` is not trusted: it is not a regular file",
            "`/b/1` is not trusted: `/b` is world-writable",
            "`/b/2` is not trusted: `/b` is world-writable",
        ] {
            diagnostics.add(Trust::Root, message.to_owned());
        }
        let named: Vec<String> =
            diagnostics.into_messages().iter().map(|message| message[..6].to_owned()).collect();
        assert_eq!(named, ["`/a/1`", "`/a/2`", "`/b/1`"]);
    }

    #[test]
    fn options_are_found_in_both_spellings() {
        let argv = [
            "/usr/bin/dockerd",
            "-g=/old",
            "--data-root",
            "/a",
            "--exec-root=/b",
            "run",
            "-g",
            "/c",
            "-x",
        ];
        let argv = argv.map(str::to_owned).to_vec();
        let pid = HostPid::new(1).unwrap();
        let shim = Shim { pid, owner: Trust::Root, argv, cwd: None, child: None };
        assert_eq!(shim.program(), "dockerd");
        assert_eq!(shim.option(&["--data-root"]), Some("/a"));
        assert_eq!(shim.option(&["--exec-root"]), Some("/b"));
        assert_eq!(shim.option(&["-x"]), None);
        assert_eq!(shim.option(&["--data"]), None);
        assert_eq!(shim.option(&["--data-root", "-g"]), Some("/c"));
        assert_eq!(shim.global_option(&["--data-root", "-g"], &["run"]), Some("/a"));
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_expanded_without_a_panic(path: String) {
            expand_cgroups_path(&path);
        }
    }
}
