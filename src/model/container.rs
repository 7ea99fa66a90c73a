//! What a container is to us: who made it, what it is called, where its processes are, and how sure
//! all of that is. Filled in by `runtime`, read by everybody.

use std::path::PathBuf;

use crate::model::cgroup::{Memberships, is_at_or_below};
use crate::model::namespace::NamespaceId;
use crate::model::pid::{HostPid, ProcessId};
use crate::model::stop_policy::StopPolicy;

/// Who made a container. The order is the order of precedence: where two own the same processes
/// (Podman runs them through runc), the earlier one is what a user calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EngineKind {
    /// Docker Engine.
    Docker,
    /// Podman, of root or of a user.
    Podman,
    /// A Kubernetes container made by containerd.
    Cri,
    /// A Kubernetes container made by CRI-O.
    Crio,
    /// containerd by another client: ctr, nerdctl.
    Containerd,
    /// LXC, LXD, Incus.
    Lxc,
    /// systemd-nspawn.
    Nspawn,
    /// runc by itself.
    Runc,
    /// crun by itself.
    Crun,
    /// youki by itself.
    Youki,
    /// A PID namespace that no known engine claims: bubblewrap, unshare(1), and the rest.
    Bare,
}

impl EngineKind {
    /// How it is spelt in a qualified name, in a table and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Cri => "cri",
            Self::Crio => "crio",
            Self::Containerd => "containerd",
            Self::Lxc => "lxc",
            Self::Nspawn => "nspawn",
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::Youki => "youki",
            Self::Bare => "bare",
        }
    }
}

/// A control group: in which hierarchy, and where below its root.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cgroup {
    /// The controllers of a v1 hierarchy as `/proc/PID/cgroup` names them; empty for v2.
    pub controllers: Vec<u8>,
    /// The path below the hierarchy's root, with a leading slash.
    pub path: Vec<u8>,
}

impl Cgroup {
    /// Whether a process with these memberships is in it or in one below it.
    pub fn holds(&self, memberships: &Memberships) -> bool {
        memberships.by_preference().any(|membership| {
            membership.controllers == self.controllers
                && is_at_or_below(&membership.path, &self.path)
        })
    }
}

/// Whether a container's processes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// They do.
    Running,
    /// Its cgroup, or one above it, is frozen.
    Paused,
}

impl ContainerState {
    /// The word users know.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
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
    /// Its uid.
    pub uid: Option<String>,
    /// The container's name in the pod; none for the sandbox (pause) container.
    pub container: Option<String>,
}

/// One thing that was looked at while a container was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The file or kernel object.
    pub source: String,
    /// What it says.
    pub says: String,
    /// Whether it speaks for the container being what it is called.
    pub holds: bool,
}

/// A container that is alive now.
#[derive(Clone, Debug)]
pub struct Container {
    /// Who made it.
    pub engine: EngineKind,
    /// The id its engine gave it; none for a bare namespace.
    pub id: Option<String>,
    /// The name its engine gave it.
    pub name: Option<String>,
    /// Further names that find it (a short pod form, a containerd id without namespace).
    pub aliases: Vec<String>,
    /// containerd's namespace.
    pub namespace: Option<String>,
    /// The pod.
    pub pod: Option<Pod>,
    /// What was started, as the engine names it.
    pub image: Option<String>,
    /// The init: PID 1 of its PID namespace, or the first process where it has no namespace of its
    /// own. None where its processes are not on this host.
    pub init: Option<ProcessId>,
    /// The PID namespace of the init; none when it may not be read.
    pub pid_ns: Option<NamespaceId>,
    /// How many PID namespaces lie above it as seen from our `/proc`: the place of its PIDs in the
    /// `NSpid` line. 0 for one that shares the host's.
    pub depth: usize,
    /// Whether the init is the namespace's PID 1, so that what else is in the namespace is its own.
    pub owns_pid_ns: bool,
    /// The container's own cgroup; none where the engine made none.
    pub cgroup: Option<Cgroup>,
    /// Running or paused.
    pub state: ContainerState,
    /// The uid of the user who runs it, when that is not root.
    pub user: Option<u32>,
    /// Whether a trusted record or the ownership of the cgroup confirms what it is called.
    pub verified: bool,
    /// How its engine stops it, as far as the record that names it tells; the rest is read when it is
    /// wanted.
    pub stop: StopPolicy,
    /// The record that names it.
    pub record: Option<PathBuf>,
    /// A remark for the list: gVisor and Kata processes are not on this host.
    pub remark: Option<String>,
    /// How it was found.
    pub evidence: Vec<Evidence>,
}

impl Container {
    /// The form that names this container and no other, ready to paste: `docker:web`, `pid:812`.
    pub fn qualified(&self) -> String {
        let engine = self.engine.name();
        let id = self.id.as_deref().unwrap_or_default();
        match self.engine {
            _ if !self.verified => self.by_pid(),
            EngineKind::Bare => self.by_pid(),
            EngineKind::Cri | EngineKind::Crio => match &self.pod {
                Some(pod) if !pod.name.is_empty() => {
                    let container = pod.container.as_deref().unwrap_or("POD");
                    format!("{engine}:{}/{}/{container}", pod.namespace, pod.name)
                }
                _ => format!("{engine}:{id}"),
            },
            EngineKind::Containerd => {
                let name = self.name.as_deref().unwrap_or(id);
                format!("{engine}:{}/{name}", self.namespace.as_deref().unwrap_or("default"))
            }
            _ => format!("{engine}:{}", self.name.as_deref().unwrap_or(id)),
        }
    }

    /// The same by id, for when two containers of one engine have one name (two users' Podmans).
    pub fn qualified_by_id(&self) -> String {
        match &self.id {
            Some(id) if self.verified && self.engine != EngineKind::Bare => match &self.namespace {
                Some(namespace) if self.engine == EngineKind::Containerd => {
                    format!("{}:{namespace}/{id}", self.engine.name())
                }
                _ => format!("{}:{id}", self.engine.name()),
            },
            _ => self.by_pid(),
        }
    }

    /// `pid:N`, which always names what N is in.
    pub fn by_pid(&self) -> String {
        match self.init {
            Some(init) => format!("pid:{}", init.pid),
            None => format!("{}:{}", self.engine.name(), self.id.as_deref().unwrap_or("?")),
        }
    }

    /// The host PID of the init.
    pub fn init_pid(&self) -> Option<HostPid> {
        self.init.map(|init| init.pid)
    }
}
