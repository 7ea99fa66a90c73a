//! Container engines: THE ENGINE TABLE. One file per engine holds everything known about it: its
//! descriptor, the cgroup names it makes (pure) and the records it keeps. `discover` finds containers
//! with them, and `verify` compares each record with the kernel. No engine's daemon or client is asked.

mod all_members;
mod apptainer;
mod bare;
mod cgroup_name;
mod container_cgroup;
mod containerd;
mod containerd_database;
mod containerd_store;
mod containers_storage;
mod cri;
mod cri_exit;
mod crio;
mod crun;
mod database;
mod discover;
mod docker;
mod docker_exit;
mod docker_process;
mod docker_roots;
mod docker_store;
mod flatpak;
pub mod fuzz;
mod incus;
mod inventory;
mod labels;
mod lxc;
mod lxc_config;
mod lxc_monitor;
mod membership;
mod membership_rule;
mod name_filter;
mod nerdctl;
mod nspawn;
mod nspawn_options;
mod nspawn_settings;
mod oci_config;
mod oci_process;
mod oci_state;
mod podman;
mod podman_database;
mod process_index;
mod process_namespaces;
mod record;
mod recorded_signal;
mod runc;
mod runsc;
mod shims;
mod store;
mod verify;
mod youki;

pub use all_members::{may_have_others, own_cgroup_members};
pub use container_cgroup::cgroup_candidates;
pub use discover::{
    SearchDepth, container_at, discover, discover_named, discover_names, discover_of,
};
pub use inventory::{Inventory, StoppedContainer};
pub use membership::{list_members, read_members, read_surveyed_members};
pub use membership_rule::MembershipRule;
pub use shims::{containers_of_shim, is_shim_of, is_starter};
pub use store::{StoreOmission, StoredMount, StoredRoot};

use crate::model::container::Container;
use crate::model::engine::EngineInfo;
use crate::model::exit_record::ExitRecord;
use crate::model::health_check::HealthCheck;
use crate::model::process_config::ProcessConfig;
use crate::model::resource_config::ResourceConfig;
use crate::model::signal::Signal;
use crate::model::stop_policy::{StopPolicy, StopSignal};
use crate::proc::Host;
use labels::{Labels, compose};
use record::{Record, RecordReader};

/// THE ENGINE TABLE, in order of precedence: where two have the same processes (Podman runs them
/// through runc), the earlier one names them.
pub static ENGINES: &[&dyn Engine] = &[
    &docker::Docker,
    &podman::Podman,
    &cri::Cri,
    &crio::Crio,
    &containerd::Containerd,
    &incus::Incus,
    &lxc::Lxc,
    &nspawn::Nspawn,
    &apptainer::Apptainer,
    &flatpak::Flatpak,
    &runc::Runc,
    &crun::Crun,
    &youki::Youki,
    &runsc::Runsc,
];

/// An engine: its descriptor, how its containers are recognised, and its records.
pub trait Engine: Sync {
    /// Returns the descriptor.
    fn info(&self) -> &'static EngineInfo;

    /// Returns the ID or name in a cgroup component, if it is spelt as this engine spells it; `parent`
    /// is the path above. Pure: a name is not evidence, it only shows where to search for a record. None for
    /// an engine whose cgroups do not have names of its own.
    fn recognise(&self, _component: &str, _parent: &[&str]) -> Option<String> {
        None
    }

    /// Reads its records.
    fn read_records(&self, reader: &RecordReader<'_>, records: &mut Vec<Record>);

    /// Reads records of containers that are not running, where finding these takes more than the records
    /// of those that are.
    fn read_ended(&self, _reader: &RecordReader<'_>, _records: &mut Vec<Record>) {}

    /// Returns how it stops a verified container, where that is not in the record that names it.
    fn stop_policy(&self, _host: &Host, container: &Container) -> StopPolicy {
        container.stop.clone()
    }

    /// Reads where the files of a container that is not running are.
    ///
    /// # Errors
    /// The store is not one that can be read; the text is the cause.
    fn stored_root(&self, _host: &Host, _stopped: &StoppedContainer) -> Result<StoredRoot, String> {
        Err(format!("the place of the files of {} is not known", self.info().display_name))
    }

    /// Reads how a container last ended, whether it runs again or not; `None` where nothing is recorded.
    /// The record is a claim, trusted as far as the one that names the container.
    fn exit_record(&self, _host: &Host, _container: &Container) -> Option<ExitRecord> {
        None
    }

    /// Reads the labels of a verified container that are not in the record that names it.
    fn labels(&self, _host: &Host, _container: &Container) -> Option<Labels> {
        None
    }

    /// Reads the limits and rights that a verified container was configured with.
    fn resource_config(&self, _host: &Host, _container: &Container) -> Option<ResourceConfig> {
        None
    }

    /// Reads the health checks that a verified container was configured with.
    fn health_checks(&self, _host: &Host, _container: &Container) -> Vec<HealthCheck> {
        Vec::new()
    }

    /// Reads the process that a verified container was configured with: its init may have changed itself.
    fn process_config(&self, _host: &Host, _container: &Container) -> Option<ProcessConfig> {
        None
    }
}

/// Returns the descriptors in order of precedence; the last is that of bare PID namespaces, which are
/// left over.
pub fn engine_infos() -> impl Iterator<Item = &'static EngineInfo> {
    ENGINES.iter().map(|engine| engine.info()).chain([&bare::BARE])
}

/// Returns how a container's engine stops it. Where no engine does, the policy has that as its reason.
pub fn stop_policy(host: &Host, container: &Container) -> StopPolicy {
    let without_stop = |reason| StopPolicy {
        signal: StopSignal::Unread(reason),
        grace_unread: Some(reason),
        ..StopPolicy::default()
    };
    let policy = match engine_of(container) {
        None => StopPolicy {
            restart_unread: (!container.verified).then_some("no record of its engine was found"),
            ..without_stop("no engine that stops it is known")
        },
        Some(engine) if engine.info().low_level => engine
            .stop_policy(host, container)
            .or(without_stop("its runtime has no stop command and records no settings for one")),
        Some(engine) => engine.stop_policy(host, container),
    };
    // Only a kubelet runs a hook; another engine may have copied the annotation.
    let pre_stop = policy.pre_stop.clone().filter(|_| container.pod.is_some());
    let policy = StopPolicy { pre_stop, ..policy };
    // Where the signal is an assumption, this one is better than TERM, which systemd as PID 1 takes for
    // `daemon-reexec` (systemd(1), "Signals").
    let is_assumed = policy.signal_source().assumption().is_some();
    if is_assumed && policy.signal_for_init.is_none() && is_systemd(host, container) {
        return StopPolicy { signal_for_init: Some(Signal::RTMIN_3), ..policy };
    }
    policy
}

/// Whether a container's init is systemd and blocks RTMIN+3 in order to read it from a signalfd.
fn is_systemd(host: &Host, container: &Container) -> bool {
    container.init_pid().is_some_and(|init| {
        host.stat(init).is_ok_and(|stat| *stat.comm == *b"systemd")
            && host.status(init).is_ok_and(|status| status.sig_blk.contains(Signal::RTMIN_3))
    })
}

/// Reads how a container last ended, as far as its engine recorded it.
pub fn exit_record(host: &Host, container: &Container) -> Option<ExitRecord> {
    engine_named(container.engine)?.exit_record(host, container)
}

/// Reads the labels of containers whose engine keeps them apart from the record that names them, and the Compose
/// service in them.
pub fn add_labels<'c>(host: &Host, containers: impl Iterator<Item = &'c mut Container>) {
    for container in containers.filter(|container| container.labels.is_none()) {
        container.labels = engine_of(container).and_then(|engine| engine.labels(host, container));
        container.compose =
            container.compose.take().or_else(|| container.labels.as_ref().and_then(compose));
    }
}

/// Reads the limits and rights that a container was configured with, where they could be read.
pub fn resource_config(host: &Host, container: &Container) -> Option<ResourceConfig> {
    engine_of(container)?.resource_config(host, container)
}

/// Reads where the files of a container that is not running are, from its engine's store.
///
/// # Errors
/// The store is not one that can be read; the text is the cause.
pub fn stored_root(host: &Host, stopped: &StoppedContainer) -> Result<StoredRoot, String> {
    let engine = engine_named(stopped.container.engine);
    engine.ok_or_else(|| "it has no engine".to_owned())?.stored_root(host, stopped)
}

/// Reads the health checks that a container was configured with, where its engine runs and records them. (A
/// kubelet keeps its probes to itself.)
pub fn health_checks(host: &Host, container: &Container) -> Vec<HealthCheck> {
    engine_of(container).map_or_else(Vec::new, |engine| engine.health_checks(host, container))
}

/// Reads the process that a container was configured with, where it could be read.
pub fn process_config(host: &Host, container: &Container) -> Option<ProcessConfig> {
    engine_of(container)?.process_config(host, container)
}

/// Returns the engine whose records are trusted for this container.
fn engine_of(container: &Container) -> Option<&'static dyn Engine> {
    engine_named(container.engine).filter(|_| container.verified)
}

fn engine_named(info: &EngineInfo) -> Option<&'static dyn Engine> {
    ENGINES.iter().copied().find(|engine| engine.info() == info)
}

/// Returns the place of an engine in the order of precedence.
fn precedence(engine: &EngineInfo) -> usize {
    ENGINES.iter().position(|other| other.info() == engine).unwrap_or(ENGINES.len())
}

/// Returns the engine that would have made a cgroup of this name, whatever it lies in, and the ID or
/// name in it.
fn recognise(path: &[u8]) -> Option<(&'static EngineInfo, String)> {
    let parts: Vec<&str> =
        std::str::from_utf8(path).ok()?.split('/').filter(|part| !part.is_empty()).collect();
    let (name, parent) = parts.split_last()?;
    ENGINES.iter().find_map(|engine| Some((engine.info(), engine.recognise(name, parent)?)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const ID: &str = "3f2a9c0d1e4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1";

    fn recognised(path: &str) -> Option<(&'static str, String)> {
        recognise(path.as_bytes()).map(|(engine, id)| (engine.name, id))
    }

    #[test]
    fn recognises_the_cgroup_names_of_every_engine() {
        let pod = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice";
        let nested_id = ID.replace('3', "4");
        for (path, engine, id) in [
            (format!("/docker/{ID}"), "docker", ID),
            (format!("/system.slice/docker-{ID}.scope"), "docker", ID),
            (format!("/{pod}/docker-{ID}.scope"), "docker", ID),
            (format!("/docker/{ID}/docker/{nested_id}"), "docker", &nested_id),
            (format!("/machine.slice/libpod-{ID}.scope"), "podman", ID),
            (format!("/libpod_parent/libpod-{ID}"), "podman", ID),
            (format!("/a.service/libpod-payload-{ID}"), "podman", ID),
            (format!("/{pod}/cri-containerd-{ID}.scope"), "cri", ID),
            (format!("/kubepods/burstable/pod1-2/{ID}"), "cri", ID),
            (format!("/{pod}/crio-{ID}.scope"), "crio", ID),
            (format!("/kubepods/pod1-2/crio-{ID}"), "crio", ID),
            (format!("/system.slice/nerdctl-{ID}.scope"), "containerd", ID),
            ("/lxc.payload.web".into(), "lxc", "web"),
            ("/lxc/web".into(), "lxc", "web"),
            ("/machine.slice/systemd-nspawn@web.service/payload".into(), "nspawn", "web"),
            ("/machine.slice/machine-my\\x2dweb.scope/payload".into(), "nspawn", "my-web"),
            ("/user.slice/runc-web.scope".into(), "runc", "web"),
            ("/user.slice/crun-web.scope".into(), "crun", "web"),
            ("/:youki:web".into(), "youki", "web"),
            ("/user.slice/youki-web.scope".into(), "youki", "web"),
        ] {
            assert_eq!(recognised(&path), Some((engine, id.to_owned())), "{path}");
        }
    }

    #[test]
    fn other_cgroups_are_not_recognised() {
        for path in [
            "/".to_owned(),
            "/system.slice/docker.service".into(),
            format!("/system.slice/docker-{ID}.scope/init.scope"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/machine.slice/libpod-conmon-{ID}.scope"),
            format!("/kubepods.slice/crio-conmon-{ID}.scope"),
            "/lxc.payload.web/system.slice/x.service".into(),
            "/lxc.monitor.web".into(),
            "/machine.slice/systemd-nspawn@web.service/supervisor".into(),
            "/docker/short".into(),
            "/user.slice/user-1000.slice/session-1.scope".into(),
        ] {
            assert_eq!(recognised(&path), None, "{path}");
        }
    }

    #[test]
    fn each_engine_has_a_descriptor_of_its_own() {
        let names: HashSet<&str> = engine_infos().map(|engine| engine.name).collect();
        assert_eq!(names.len(), ENGINES.len() + 1);
        for engine in ENGINES.iter().map(|engine| engine.info()) {
            assert!(!engine.display_name.is_empty() && engine.names_containers(), "{engine:?}");
            assert!(!engine.files.0.is_empty() && !engine.files.1.is_empty(), "{engine:?}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_recognised_without_a_panic(path: Vec<u8>) {
            recognise(&path);
        }
    }
}
