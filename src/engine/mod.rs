//! Who made this container: THE RUNTIME TABLE, one file an engine. An engine tells what its cgroup
//! names look like (pure) and reads the records it keeps; `discover` holds both against the kernel.
//! No engine's daemon or client is ever asked.

mod containerd;
mod containers_storage;
mod discover;
mod docker;
mod lxc;
mod membership;
mod nspawn;
mod oci;
mod oci_config;
mod process_index;
mod record;
mod shims;
mod verify;

pub use discover::{Inventory, SearchDepth, StoppedContainer, container_at, discover, discover_of};
pub use membership::{MemberProcesses, MembershipRule, count, take};
pub use oci_config::configured;
pub use record::{Record, RecordReader, SearchPath, Shim};
pub use verify::frozen_state;

use crate::model::container::{Container, EngineKind};
use crate::model::signal::Signal;
use crate::model::stop_policy::StopPolicy;
use crate::proc::Host;

/// An engine: how its containers are recognised and where it writes them down.
pub trait Engine: Sync {
    /// Which it is.
    fn kind(&self) -> EngineKind;

    /// The id or name that a cgroup component gives, when it is spelt as this engine spells it;
    /// `parent` is the path above. Pure: a name proves nothing, it only says where to look.
    fn recognise(&self, component: &str, parent: &[&str]) -> Option<String>;

    /// Whether it keeps no record of what runs, so that the ownership of the cgroup has to do.
    fn keeps_no_record(&self) -> bool {
        false
    }

    /// Where it writes them, and what for, as the manual lists it.
    fn files(&self) -> (&'static str, &'static str);

    /// Reads its records.
    fn records(&self, look: &RecordReader<'_>, found: &mut Vec<Record>);

    /// How it stops this container of its own, where that is not in the record that names it.
    fn stop_plan(&self, _host: &Host, container: &Container) -> StopPolicy {
        container.stop.clone()
    }
}

/// How a container's engine stops it.
pub fn stop_plan(host: &Host, container: &Container) -> StopPolicy {
    engine(container.engine)
        .filter(|_| container.verified)
        .map_or_else(StopPolicy::default, |engine| engine.stop_plan(host, container))
}

/// A signal as engines write it: by name or number.
fn recorded_signal(text: &str) -> Option<Signal> {
    Signal::parse(text).ok()
}

/// THE RUNTIME TABLE, in order of precedence: where two know the same processes, the earlier names
/// them. Bare PID namespaces are what is left over.
pub static ENGINES: &[&dyn Engine] = &[
    &docker::Docker,
    &containers_storage::Podman,
    &containerd::Cri,
    &containers_storage::Crio,
    &containerd::Containerd,
    &lxc::Lxc,
    &nspawn::Nspawn,
    &oci::RUNC,
    &oci::CRUN,
    &oci::YOUKI,
];

/// What a cgroup path says of itself: the innermost component that some engine would have written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMatch {
    /// Whose spelling it is.
    pub engine: EngineKind,
    /// The id or name in it.
    pub id: String,
    /// How many components of the path belong to the container's own cgroup.
    pub length: usize,
}

/// Looks for the last component of a cgroup path that is spelt as an engine spells it.
pub fn recognise(path: &[u8]) -> Option<CgroupMatch> {
    let parts: Vec<&str> =
        std::str::from_utf8(path).ok()?.split('/').filter(|p| !p.is_empty()).collect();
    (0..parts.len()).rev().find_map(|at| recognise_at(&parts, at))
}

/// The same of a cgroup itself, whatever it lies in: whose spelling its own name is, and the id in it.
fn own_name(path: &[u8]) -> Option<(EngineKind, String)> {
    let parts: Vec<&str> =
        std::str::from_utf8(path).ok()?.split('/').filter(|p| !p.is_empty()).collect();
    let found = recognise_at(&parts, parts.len().checked_sub(1)?)?;
    Some((found.engine, found.id))
}

fn recognise_at(parts: &[&str], at: usize) -> Option<CgroupMatch> {
    ENGINES.iter().find_map(|engine| {
        let id = engine.recognise(parts[at], &parts[..at])?;
        Some(CgroupMatch { engine: engine.kind(), id, length: at + 1 })
    })
}

/// The engine of a runtime; none for bare namespaces.
pub fn engine(runtime: EngineKind) -> Option<&'static dyn Engine> {
    ENGINES.iter().copied().find(|engine| engine.kind() == runtime)
}

/// 64 hexadecimal digits: an id of Docker, Podman and the CRI engines.
fn is_long_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// `PREFIX-<long id>.scope`, as the systemd driver spells it.
fn scope_id(component: &str, prefix: &str) -> Option<String> {
    let id = component.strip_suffix(".scope")?.strip_prefix(prefix)?.strip_prefix('-')?;
    is_long_id(id).then(|| id.to_owned())
}

/// Whether a path above a component is a Kubernetes pod's: `…/kubepods/burstable/pod<uid>`, or with
/// the systemd driver `…/kubepods-burstable-pod<uid>.slice`.
fn below_a_pod(parent: &[&str]) -> bool {
    parent.last().is_some_and(|last| {
        (last.starts_with("kubepods") && last.contains("-pod") && last.ends_with(".slice"))
            || (last.starts_with("pod") && parent.iter().any(|part| part.starts_with("kubepods")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "3f2a9c0d1e4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1";

    fn seen(path: &str) -> Option<(EngineKind, String, usize)> {
        recognise(path.as_bytes()).map(|found| (found.engine, found.id, found.length))
    }

    #[test]
    fn every_engines_spelling() {
        let pod = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice";
        for (path, runtime, id, length) in [
            (format!("/docker/{ID}"), EngineKind::Docker, ID, 2),
            (format!("/system.slice/docker-{ID}.scope"), EngineKind::Docker, ID, 2),
            (format!("/system.slice/docker-{ID}.scope/init.scope"), EngineKind::Docker, ID, 2),
            (format!("/machine.slice/libpod-{ID}.scope/container"), EngineKind::Podman, ID, 2),
            (format!("/libpod_parent/libpod-{ID}"), EngineKind::Podman, ID, 2),
            (format!("/a.service/libpod-payload-{ID}"), EngineKind::Podman, ID, 2),
            (format!("/{pod}/cri-containerd-{ID}.scope"), EngineKind::Cri, ID, 4),
            (format!("/kubepods/burstable/pod1-2/{ID}"), EngineKind::Cri, ID, 4),
            (format!("/{pod}/crio-{ID}.scope"), EngineKind::Crio, ID, 4),
            (format!("/kubepods/pod1-2/crio-{ID}"), EngineKind::Crio, ID, 3),
            (format!("/{pod}/docker-{ID}.scope"), EngineKind::Docker, ID, 4),
            ("/lxc.payload.web".into(), EngineKind::Lxc, "web", 1),
            ("/lxc.payload.web/system.slice/x.service".into(), EngineKind::Lxc, "web", 1),
            (
                "/machine.slice/systemd-nspawn@web.service/payload".into(),
                EngineKind::Nspawn,
                "web",
                3,
            ),
            (
                "/machine.slice/machine-my\\x2dweb.scope/payload".into(),
                EngineKind::Nspawn,
                "my-web",
                3,
            ),
            (
                format!("/docker/{ID}/docker/{}", ID.replace('3', "4")),
                EngineKind::Docker,
                &ID.replace('3', "4"),
                4,
            ),
        ] {
            assert_eq!(seen(&path), Some((runtime, id.to_owned(), length)), "{path}");
        }
    }

    #[test]
    fn monitors_and_plain_units_are_no_containers() {
        for path in [
            "/".to_owned(),
            "/system.slice/docker.service".into(),
            format!("/machine.slice/libpod-conmon-{ID}.scope"),
            format!("/kubepods.slice/crio-conmon-{ID}.scope"),
            "/lxc.monitor.web".into(),
            "/machine.slice/systemd-nspawn@web.service/supervisor".into(),
            "/docker/short".into(),
            "/user.slice/user-1000.slice/session-1.scope".into(),
        ] {
            assert_eq!(seen(&path), None, "{path}");
        }
    }

    #[test]
    fn each_runtime_stands_in_the_table_once_and_in_order() {
        let order: Vec<EngineKind> = ENGINES.iter().map(|engine| engine.kind()).collect();
        let mut sorted = order.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(order, sorted);
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path: Vec<u8>) {
            recognise(&path);
        }
    }
}
