//! A container: its engine, names, init, cgroup and state, and how far all of that is verified.
//! `engine` fills it in; nothing here reads a file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::cgroup::Cgroup;
use super::engine::{EngineInfo, ReferenceForm};
use super::namespace::NamespaceId;
use super::pid::{HostPid, ProcessId};
use super::stop_policy::StopPolicy;

/// State of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Its processes run.
    Running,
    /// Its runtime created it and did not start it yet: its init has not executed the container's program.
    Created,
    /// Its cgroup, or one above it, is frozen.
    Paused,
    /// It has no processes: only a record is left.
    NotRunning,
    /// It has processes; whether they are frozen could not be read.
    Unknown,
}

impl ContainerState {
    /// Returns the state in one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Created => "created",
            Self::Paused => "paused",
            Self::NotRunning => "not running",
            Self::Unknown => "unknown",
        }
    }
}

/// The Kubernetes pod that a container belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Unique ID of the pod.
    pub uid: Option<String>,
    /// Name of the container in the pod; `None` for the sandbox (pause) container.
    pub container: Option<String>,
}

/// The Compose service that a container belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComposeService {
    /// Name of the project.
    pub project: String,
    /// Name of the service.
    pub service: Option<String>,
    /// Number of the container among those of the service.
    pub number: Option<String>,
}

/// One observation made while a container was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The file or kernel object.
    pub source: String,
    /// The observation, in a few words.
    pub observation: String,
    /// Whether it supports the container's name.
    pub confirms: bool,
}

/// A container.
#[derive(Clone, Debug)]
pub struct Container {
    /// The engine that made it.
    pub engine: &'static EngineInfo,
    /// The ID that its engine gave it; `None` for a bare namespace.
    pub id: Option<String>,
    /// The name that its engine gave it.
    pub name: Option<String>,
    /// Other names that find it (a short pod form, a containerd ID without namespace).
    pub aliases: Vec<String>,
    /// Its namespace in containerd.
    pub namespace: Option<String>,
    /// The pod.
    pub pod: Option<Pod>,
    /// Its labels; `None` if its engine has none, or they could not be read.
    pub labels: Option<BTreeMap<String, String>>,
    /// The Compose service.
    pub compose: Option<ComposeService>,
    /// The image, as the engine names it.
    pub image: Option<String>,
    /// The init: PID 1 of its PID namespace, or the first process where its PID namespace is not
    /// private. `None` where its processes are not on this host.
    pub init: Option<ProcessId>,
    /// The PID namespace of the init; `None` if it could not be read.
    pub pid_ns: Option<NamespaceId>,
    /// Number of PID namespaces above it as seen from our `/proc`: the index of its PIDs in the
    /// `NSpid` line. 0 for a container that shares the host's.
    pub depth: usize,
    /// Whether the init has exited while processes of its cgroup run: possible only where no PID namespace
    /// ends with it. Then `init` is the process that the record names.
    pub has_lost_init: bool,
    /// Whether the init is PID 1 of the namespace, so that every process in the namespace belongs to
    /// the container.
    pub owns_pid_ns: bool,
    /// The container's own cgroup; `None` where the engine made none.
    pub cgroup: Option<Cgroup>,
    /// Running, paused or not running.
    pub state: ContainerState,
    /// UID of the user who runs it, if that is not root.
    pub user: Option<u32>,
    /// Whether a trusted record or the owner of the cgroup confirms its name.
    pub verified: bool,
    /// How its engine stops it, as far as it is in the record that names it; the rest is read on demand
    /// (`engine::stop_policy`).
    pub stop: StopPolicy,
    /// The record that names it.
    pub record: Option<PathBuf>,
    /// A remark for the list: the processes of gVisor and Kata are not on this host.
    pub remark: Option<String>,
    /// The observations that identified it.
    pub evidence: Vec<Evidence>,
}

/// Whether this is an ID of 64 hexadecimal digits, as Docker, Podman and the CRI engines make them.
pub fn is_long_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Returns the twelve digits of a long ID that engines show; an ID that is a name stays whole.
pub fn short_id(id: &str) -> &str {
    if is_long_id(id) { &id[..12] } else { id }
}

impl Container {
    /// Whether its ID was never another container's: its engine made it, at random.
    pub fn has_unique_id(&self) -> bool {
        self.id.as_deref().is_some_and(is_long_id)
    }

    /// Whether it has a label, `KEY` or `KEY=VALUE`.
    pub fn has_label(&self, label: &str) -> bool {
        let (key, value) = match label.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (label, None),
        };
        let found = self.labels.as_ref().and_then(|labels| labels.get(key));
        found.is_some_and(|found| value.is_none_or(|value| value == found))
    }

    /// Creates a container without processes, of which nothing but the engine is known.
    pub fn not_running(engine: &'static EngineInfo) -> Self {
        Self {
            engine,
            id: None,
            name: None,
            aliases: Vec::new(),
            namespace: None,
            pod: None,
            labels: None,
            compose: None,
            image: None,
            init: None,
            pid_ns: None,
            depth: 0,
            has_lost_init: false,
            owns_pid_ns: false,
            cgroup: None,
            state: ContainerState::NotRunning,
            user: None,
            verified: false,
            stop: StopPolicy::default(),
            record: None,
            remark: None,
            evidence: Vec::new(),
        }
    }

    /// Returns the reference to this container only: `docker:web`, `pid:812`.
    pub fn qualified(&self) -> String {
        let engine = self.engine.name;
        let id = self.id.as_deref().unwrap_or_default();
        match self.engine.reference {
            _ if !self.verified => self.by_pid(),
            ReferenceForm::Pid => self.by_pid(),
            ReferenceForm::Pod => {
                format!("{engine}:{}", self.name_in_pod().as_deref().unwrap_or(id))
            }
            ReferenceForm::Namespaced => {
                let name = self.name.as_deref().unwrap_or(id);
                format!("{engine}:{}/{name}", self.namespace.as_deref().unwrap_or("default"))
            }
            ReferenceForm::Name => format!("{engine}:{}", self.name.as_deref().unwrap_or(id)),
        }
    }

    /// Returns the name in its pod, `NAMESPACE/POD/CONTAINER`; `POD` is the pause container.
    pub fn name_in_pod(&self) -> Option<String> {
        let pod = self.pod.as_ref().filter(|pod| !pod.name.is_empty())?;
        let container = pod.container.as_deref().unwrap_or("POD");
        Some(format!("{}/{}/{container}", pod.namespace, pod.name))
    }

    /// Whether it is the sandbox (pause) container of its pod, which holds the pod's namespaces.
    pub fn is_pause(&self) -> bool {
        self.pod.as_ref().is_some_and(|pod| !pod.name.is_empty() && pod.container.is_none())
    }

    /// Returns the same with the ID, for two containers of one engine that share a name (those of two
    /// users' Podmans).
    pub fn qualified_by_id(&self) -> String {
        match &self.id {
            Some(id) if self.verified && self.engine.names_containers() => match &self.namespace {
                Some(namespace) if self.engine.reference == ReferenceForm::Namespaced => {
                    format!("{}:{namespace}/{id}", self.engine.name)
                }
                _ => format!("{}:{id}", self.engine.name),
            },
            _ => self.by_pid(),
        }
    }

    /// Returns `pid:N` with the host PID of the init, which always refers to the container of N.
    pub fn by_pid(&self) -> String {
        match self.init_pid() {
            Some(init) => format!("pid:{init}"),
            None => format!("{}:{}", self.engine.name, self.id.as_deref().unwrap_or("?")),
        }
    }

    /// Adds to a state in words that the init has exited, and that the container is unverified.
    pub fn qualify_state(&self, mut state: String) -> String {
        if self.has_lost_init {
            state.push_str(", init exited");
        }
        if !self.verified {
            state.push_str(", unverified");
        }
        state
    }

    /// Returns the host PID of the init, unless it has exited already.
    pub fn init_pid(&self) -> Option<HostPid> {
        self.init.filter(|_| !self.has_lost_init).map(|init| init.pid)
    }
}
