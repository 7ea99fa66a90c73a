//! Kubernetes on containerd: the tasks of containerd's CRI service, whose annotations name the pod and
//! the container in it.

use super::cgroup_name::{is_below_a_pod, is_long_id, scope_id};
use super::containerd::{self, Client, read_tasks};
use super::cri_exit;
use super::docker::DOCKER;
use super::inventory::StoppedContainer;
use super::labels::{
    KEEP_POD_STOPPED, KUBELET_RESTARTS, Labels, POD_ADVICE, POD_CLIENTS, POD_COMMANDS, POD_GRACE,
    POD_START_HINT,
};
use super::oci_config::resources_of_bundle;
use super::oci_process::{SHIMS, process_of_bundle};
use super::record::{Record, RecordReader};
use super::store::StoredRoot;
use super::{Engine, containerd_store};
use crate::model::container::Container;
use crate::model::engine::{EngineAdvice, EngineInfo, ReferenceForm};
use crate::model::exit_record::ExitRecord;
use crate::model::process_config::ProcessConfig;
use crate::model::resource_config::ResourceConfig;
use crate::model::stop_policy::StopPolicy;
use crate::proc::Host;

/// The descriptor of containerd's CRI service.
pub static CRI: EngineInfo = EngineInfo {
    name: "cri",
    display_name: "Kubernetes (containerd)",
    reference: ReferenceForm::Pod,
    files: (
        "/run/containerd/io.containerd.runtime.v2.task/k8s.io",
        "Kubernetes on containerd: pods and containers, from the annotations of their bundles; those that ended from io.containerd.grpc.v1.cri below /var/lib/containerd.",
    ),
    pods_of: &[&DOCKER],
    grace_time: POD_GRACE,
    always_restarts: Some(KUBELET_RESTARTS),
    keep_stopped: KEEP_POD_STOPPED,
    start_hint: Some(POD_START_HINT),
    advice: &EngineAdvice { unpause: Some("ctr -n k8s.io tasks resume <id>"), ..POD_ADVICE },
    clients: POD_CLIENTS,
    commands: POD_COMMANDS,
    ..EngineInfo::DEFAULT
};

/// containerd's CRI service.
pub struct Cri;

impl Engine for Cri {
    fn info(&self) -> &'static EngineInfo {
        &CRI
    }

    fn recognise(&self, component: &str, parent: &[&str]) -> Option<String> {
        let cgroupfs =
            || (is_below_a_pod(parent) && is_long_id(component)).then(|| component.to_owned());
        scope_id(component, "cri-containerd").or_else(cgroupfs)
    }

    fn read_records(&self, reader: &RecordReader<'_>, records: &mut Vec<Record>) {
        read_tasks(reader, &CRI, Client::Kubernetes, records);
    }

    fn read_ended(&self, reader: &RecordReader<'_>, records: &mut Vec<Record>) {
        cri_exit::read_ended(reader, &CRI, records);
    }

    fn stop_policy(&self, host: &Host, container: &Container) -> StopPolicy {
        containerd::stop_policy(host, container)
    }

    fn exit_record(&self, host: &Host, container: &Container) -> Option<ExitRecord> {
        cri_exit::exit_record(host, container)
    }

    fn stored_root(&self, host: &Host, stopped: &StoppedContainer) -> Result<StoredRoot, String> {
        containerd_store::stored_root(host, stopped, "k8s.io")
    }

    fn labels(&self, host: &Host, container: &Container) -> Option<Labels> {
        containerd::labels(host, container)
    }

    fn resource_config(&self, host: &Host, container: &Container) -> Option<ResourceConfig> {
        resources_of_bundle(host, container.record.as_ref()?.parent()?)
    }

    fn process_config(&self, host: &Host, container: &Container) -> Option<ProcessConfig> {
        process_of_bundle(host, container, container.record.as_ref()?.parent()?, SHIMS)
    }
}
