//! What an engine wrote down about one container, before anybody has asked the kernel whether it is
//! still so; and the places and processes that lead to such records.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::model::container::{EngineKind, Pod};
use crate::model::pid::{HostPid, Ticks};
use crate::model::stop_policy::StopPolicy;
use crate::proc::{Host, ReadError, StateFile, Trust};

/// One container as a record tells it. Everything here is a claim.
#[derive(Clone, Debug)]
pub struct Record {
    /// Whose record.
    pub engine: EngineKind,
    /// The engine's id.
    pub id: String,
    /// The engine's name.
    pub name: Option<String>,
    /// Other names it may be asked for by.
    pub aliases: Vec<String>,
    /// containerd's namespace.
    pub namespace: Option<String>,
    /// The pod.
    pub pod: Option<Pod>,
    /// The image.
    pub image: Option<String>,
    /// The init, if the record says that it runs.
    pub pid: Option<HostPid>,
    /// When that process started.
    pub start: Option<Ticks>,
    /// The cgroup path it was put into, below the hierarchy's root.
    pub cgroup: Option<Vec<u8>>,
    /// The monitor whose child the init has to be, where the record is that monitor's argv.
    pub parent: Option<HostPid>,
    /// How the engine stops it.
    pub stop: StopPolicy,
    /// What keeps its processes from being the host's (gVisor, Kata).
    pub sandbox: Option<&'static str>,
    /// The file.
    pub path: PathBuf,
    /// Whose word it is.
    pub owner: Trust,
}

impl Record {
    /// A record that says nothing yet but which container it is about.
    pub fn new(engine: EngineKind, id: impl Into<String>, file: &StateFile) -> Self {
        Self {
            engine,
            id: id.into(),
            name: None,
            aliases: Vec::new(),
            namespace: None,
            pod: None,
            image: None,
            pid: None,
            start: None,
            cgroup: None,
            parent: None,
            stop: StopPolicy::default(),
            sandbox: None,
            path: file.path.clone(),
            owner: file.owner,
        }
    }

    /// The same, found where `place` has led: then it is also the word of whoever led there.
    #[must_use]
    pub fn found_at<P>(mut self, place: &SearchPath<P>) -> Self {
        self.owner = self.owner.and(place.owner);
        self
    }

    /// Whether it is of a container, not the sandbox itself, in a sandboxed pod.
    pub fn is_in_its_pods_sandbox(&self) -> bool {
        self.sandbox.is_some() && self.pod.as_ref().is_some_and(|pod| pod.container.is_some())
    }

    /// What the argv of a monitor says of the process it watches over. That is the word of whoever
    /// runs the monitor.
    pub fn of_monitor(runtime: EngineKind, id: impl Into<String>, monitor: &Shim) -> Self {
        let path = PathBuf::from(format!("/proc/{}/cmdline", monitor.pid));
        let mut record =
            Self::new(runtime, id, &StateFile { path, bytes: Vec::new(), owner: monitor.owner });
        record.pid = monitor.child;
        record.parent = Some(monitor.pid);
        record
    }
}

/// Where records may lie, and on whose word they are looked for there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchPath<P = PathBuf> {
    /// The folder, or the folders.
    pub path: P,
    /// Who says so: root for the places every engine has by default.
    pub owner: Trust,
}

impl<P> SearchPath<P> {
    /// A place that an engine uses by default.
    pub fn usual(path: impl Into<P>) -> Self {
        Self { path: path.into(), owner: Trust::Root }
    }

    /// A place that a monitor's argv or working directory leads to.
    pub fn told_by(monitor: &Shim, path: impl Into<P>) -> Self {
        Self { path: path.into(), owner: monitor.owner }
    }
}

/// Each place once, on the best word there is for it.
pub fn places<P: Ord>(mut all: Vec<SearchPath<P>>) -> Vec<SearchPath<P>> {
    all.sort_by(|a, b| (&a.path, a.owner != Trust::Root).cmp(&(&b.path, b.owner != Trust::Root)));
    all.dedup_by(|next, kept| {
        next.path == kept.path && (kept.owner == Trust::Root || kept.owner == next.owner)
    });
    all
}

/// A process whose argument vector or working directory leads to records: dockerd, containerd and
/// its shims, conmon, a runtime in the foreground, systemd-nspawn, the LXC monitor.
#[derive(Clone, Debug)]
pub struct Shim {
    /// Its number.
    pub pid: HostPid,
    /// Who runs it, whose word its argv is.
    pub owner: Trust,
    /// Its command line as text; an argument that is not UTF-8 leads nowhere.
    pub argv: Vec<String>,
    /// Its working directory (a shim's is its bundle).
    pub cwd: Option<PathBuf>,
    /// A process it watches over, where that is how it was found.
    pub child: Option<HostPid>,
}

impl Shim {
    /// The last part of the program's path.
    pub fn program(&self) -> &str {
        let first = self.argv.first().map_or("", String::as_str);
        first.rsplit('/').next().unwrap_or(first)
    }

    /// The value of an option given as `--name value` or `--name=value`.
    pub fn option(&self, name: &str) -> Option<&str> {
        let mut arguments = self.argv.iter();
        while let Some(argument) = arguments.next() {
            if argument == name {
                return arguments.next().map(String::as_str);
            }
            if let Some(value) = argument.strip_prefix(name).and_then(|rest| rest.strip_prefix('='))
            {
                return Some(value);
            }
        }
        None
    }
}

/// A user whose own folders may hold records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserDirs {
    /// The user.
    pub uid: u32,
    /// `$HOME`, if it is known.
    pub home: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime_dir: PathBuf,
}

/// Records that are not believed or cannot be read, and why. Of one user's only the first few are
/// kept: there may be thousands.
#[derive(Debug, Default)]
pub struct Diagnostics {
    texts: Vec<String>,
    of_user: HashMap<u32, usize>,
}

const MAX_OF_A_USER: usize = 10;

impl Diagnostics {
    /// Notes one, about something that is this owner's.
    pub fn note(&mut self, owner: Trust, text: String) {
        if self.texts.contains(&text) {
            return;
        }
        if let Trust::User(uid) = owner {
            let many = self.of_user.entry(uid).or_default();
            *many += 1;
            if *many > MAX_OF_A_USER {
                return;
            }
        }
        self.texts.push(text);
    }

    /// All of them, to be told.
    pub fn into_texts(self) -> Vec<String> {
        let mut users: Vec<(u32, usize)> = self.of_user.into_iter().collect();
        users.sort_unstable();
        let more = users.into_iter().filter_map(|(uid, many)| {
            let more = many.checked_sub(MAX_OF_A_USER).filter(|more| *more > 0)?;
            Some(format!("{more} more records of user {uid} are not believed or cannot be read"))
        });
        self.texts.into_iter().chain(more).collect()
    }
}

/// Where an engine is to look.
#[derive(Debug)]
pub struct RecordReader<'a> {
    /// The machine.
    pub host: &'a Host,
    /// Whether to look in the places every engine has by default.
    pub defaults: bool,
    /// Processes that lead to other places.
    pub monitors: &'a [Shim],
    /// Containers seen in the cgroup tree that no record has explained: id and a process of theirs.
    pub unexplained: &'a [(String, HostPid)],
    /// Users who have a runtime directory.
    pub homes: &'a [UserDirs],
    /// Records that could not be read, with the reason, to be told.
    pub complaints: &'a std::cell::RefCell<Diagnostics>,
}

impl RecordReader<'_> {
    /// Turns a failed read into a complaint, unless the file is simply not there or not ours.
    pub fn read<T>(&self, result: Result<T, ReadError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(ReadError::Gone | ReadError::Denied) => None,
            Err(error @ (ReadError::Broken(_) | ReadError::Exhausted)) => {
                let why = error.to_string();
                let about = |home: &&UserDirs| {
                    let folders = [home.home.as_ref(), Some(&home.runtime_dir)];
                    let mut folders = folders.into_iter().flatten().filter_map(|dir| dir.to_str());
                    folders.any(|dir| why.contains(&format!("`{dir}/")))
                };
                let user = self.homes.iter().find(about).map(|home| Trust::User(home.uid));
                self.complaints.borrow_mut().note(user.unwrap_or(Trust::Root), why);
                None
            }
        }
    }

    /// The names in a directory of records; none when there is no such directory.
    pub fn names(&self, dir: &Path) -> Vec<String> {
        self.read(self.host.state_dir(dir).and_then(|dir| dir.names())).unwrap_or_default()
    }

    /// Monitors that run one of these programs.
    pub fn running<'a>(&'a self, programs: &'a [&str]) -> impl Iterator<Item = &'a Shim> {
        self.monitors.iter().filter(|monitor| programs.contains(&monitor.program()))
    }
}

/// A cgroup path as the systemd driver writes it in a specification, `slice:prefix:name`, turned
/// into the path that systemd makes of it: slices nest by the dashes in their names.
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
        let mut upto = String::new();
        for part in stem.split('-') {
            if part.is_empty() {
                return None;
            }
            if !upto.is_empty() {
                upto.push('-');
            }
            upto.push_str(part);
            expanded.push_str(&format!("/{upto}.slice"));
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
    fn slices_nest_by_their_dashes() {
        for (given, expanded) in [
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
            assert_eq!(expand_cgroups_path(given).as_deref(), expanded, "{given}");
        }
    }

    #[test]
    fn options_are_found_in_both_spellings() {
        let argv = ["/usr/bin/dockerd", "--data-root", "/a", "--exec-root=/b", "-g"];
        let argv = argv.map(str::to_owned).to_vec();
        let pid = HostPid::new(1).unwrap();
        let monitor = Shim { pid, owner: Trust::Root, argv, cwd: None, child: None };
        assert_eq!(monitor.program(), "dockerd");
        assert_eq!(monitor.option("--data-root"), Some("/a"));
        assert_eq!(monitor.option("--exec-root"), Some("/b"));
        assert_eq!(monitor.option("-g"), None);
        assert_eq!(monitor.option("--data"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_path_makes_it_panic(path: String) {
            expand_cgroups_path(&path);
        }
    }
}
