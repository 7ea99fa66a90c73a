//! `config.json` of an OCI bundle (runtime-spec, config.md): annotations, cgroup, stop settings and
//! limits, for the engines that keep one. Nothing here decides whether a record is trusted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::labels::kubelets_settings;
use super::oci_process::{NO_SUPERVISOR, process_of_bundle};
use super::record::expand_cgroups_path;
use super::recorded_signal::recorded_signal;
use crate::model::container::{Container, Pod};
use crate::model::process_config::ProcessConfig;
use crate::model::resource_config::ResourceConfig;
use crate::model::stop_policy::StopPolicy;
use crate::proc::Host;

/// The part of an OCI specification that identifies a container.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct OciSpec {
    /// Names, pods and stop settings, by each client's own keys.
    pub annotations: BTreeMap<String, String>,
    linux: Option<OciPlacement>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct OciPlacement {
    cgroups_path: Option<String>,
}

impl OciSpec {
    /// Returns the stop settings that Podman, CRI-O, the kubelet and nerdctl keep in annotations.
    pub(super) fn stop_policy(&self) -> StopPolicy {
        let get = |key: &str| self.annotations.get(key).map(String::as_str);
        let parse_seconds = |text: &str| text.parse::<i64>().ok().map(StopPolicy::grace_of_seconds);
        // systemd's own form of a D-Bus value: `uint64 10000000`.
        let micros = get("org.systemd.property.TimeoutStopUSec")
            .and_then(|text| text.rsplit(' ').next()?.parse().ok())
            .map(Duration::from_micros);
        let kubelets = kubelets_settings(&self.annotations);
        let seconds = get("nerdctl/stop-timeout").and_then(parse_seconds).or(kubelets.grace);
        recorded_signal(get("org.opencontainers.image.stopSignal"))
            .or(StopPolicy { grace: seconds.or(micros), ..kubelets })
    }

    /// Returns the requested cgroup path, below a hierarchy's root.
    pub(super) fn cgroup(&self) -> Option<Vec<u8>> {
        let path = self.linux.as_ref()?.cgroups_path.as_deref()?;
        expand_cgroups_path(path).map(String::into_bytes)
    }

    /// Returns the pod in the annotations of containerd's CRI service, of CRI-O or of the kubelet.
    pub(super) fn pod(&self) -> Option<Pod> {
        let get = |keys: &[&str]| keys.iter().find_map(|key| self.annotations.get(*key)).cloned();
        let is_sandbox =
            get(&["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"])
                .is_some_and(|kind| kind == "sandbox");
        let name = get(&[
            "io.kubernetes.cri.sandbox-name",
            "io.kubernetes.pod.name",
            "io.kubernetes.cri-o.KubeName",
        ])?;
        let container = get(&["io.kubernetes.cri.container-name", "io.kubernetes.container.name"]);
        Some(Pod {
            namespace: get(&[
                "io.kubernetes.cri.sandbox-namespace",
                "io.kubernetes.pod.namespace",
                "io.kubernetes.cri-o.Namespace",
            ])
            .unwrap_or_default(),
            name,
            uid: get(&["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"]),
            container: container.filter(|_| !is_sandbox),
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OciBundle {
    root: OciRoot,
    process: OciProcess,
    linux: OciLinux,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OciRoot {
    readonly: bool,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct OciProcess {
    no_new_privileges: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OciLinux {
    resources: OciResources,
    seccomp: Option<serde_json::Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OciResources {
    memory: OciLimit,
    cpu: OciCpu,
    pids: OciLimit,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OciLimit {
    limit: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OciCpu {
    quota: Option<i64>,
    period: Option<i64>,
}

/// The place of the bundle in a runtime's state: crun and youki have a field, runc a label.
#[derive(Deserialize, Default)]
#[serde(default)]
struct BundlePointer {
    bundle: Option<PathBuf>,
    labels: Vec<String>,
    config: RuncConfig,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RuncConfig {
    labels: Vec<String>,
}

/// Reads the limits of a container whose record is a runtime's state, which has the path of the bundle.
pub(super) fn resources_of_state(host: &Host, container: &Container) -> Option<ResourceConfig> {
    resources_of_bundle(host, &bundle_of_state(host, container)?)
}

/// Reads the process of such a container.
pub(super) fn process_of_state(host: &Host, container: &Container) -> Option<ProcessConfig> {
    let bundle = bundle_of_state(host, container)?;
    process_of_bundle(host, container, &bundle, NO_SUPERVISOR)
}

fn bundle_of_state(host: &Host, container: &Container) -> Option<PathBuf> {
    let state: BundlePointer = host.state_file(container.record.as_ref()?).ok()?.json().ok()?;
    let labels = state.config.labels.iter().chain(&state.labels);
    let label = labels.filter_map(|label| label.strip_prefix("bundle=")).next();
    state.bundle.or_else(|| label.map(PathBuf::from))
}

/// Reads the limits in a bundle's `config.json`.
pub(super) fn resources_of_bundle(host: &Host, directory: &Path) -> Option<ResourceConfig> {
    let path = directory.join("config.json");
    let bundle: OciBundle = host.state_file(&path).ok()?.json().ok()?;
    let resources = bundle.linux.resources;
    Some(ResourceConfig {
        source: path.display().to_string(),
        memory: resources.memory.limit.and_then(positive),
        cpus: cpus(resources.cpu.quota.unwrap_or(0), resources.cpu.period.unwrap_or(0)),
        pids: resources.pids.limit.and_then(positive),
        read_only: Some(bundle.root.readonly),
        no_new_privs: Some(bundle.process.no_new_privileges),
        seccomp: Some(bundle.linux.seccomp.is_some()),
    })
}

/// Returns a limit, which is unlimited if it is zero or negative.
pub(super) fn positive(limit: i64) -> Option<u64> {
    u64::try_from(limit).ok().filter(|limit| *limit > 0)
}

/// Returns the CPUs that a quota per period amounts to; the kernel's default period is 100 ms.
pub(super) fn cpus(quota: i64, period: i64) -> Option<f64> {
    let period = positive(period).unwrap_or(100_000);
    positive(quota).map(|quota| quota as f64 / period as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_settings_are_in_annotations() {
        let spec = |annotations: serde_json::Value| {
            serde_json::from_value::<OciSpec>(serde_json::json!({ "annotations": annotations }))
        };
        let nested = r#"{"io.kubernetes.pod.terminationGracePeriod":"3600"}"#;
        for (annotations, grace) in [
            (serde_json::json!({"io.kubernetes.cri-o.Annotations": nested}), Some(3600)),
            (serde_json::json!({"io.kubernetes.cri-o.Annotations": "{"}), None),
            (serde_json::json!({"io.kubernetes.cri-o.Annotations": "{}"}), None),
            (serde_json::json!({"io.kubernetes.pod.terminationGracePeriod": "3600"}), Some(3600)),
            (
                serde_json::json!({"org.systemd.property.TimeoutStopUSec": "uint64 7000000"}),
                Some(7),
            ),
            (serde_json::json!({"nerdctl/stop-timeout": "5"}), Some(5)),
            (serde_json::json!({}), None),
        ] {
            let policy = spec(annotations.clone()).unwrap().stop_policy();
            assert_eq!(policy.grace, grace.map(Duration::from_secs), "{annotations}");
        }
        let endless = spec(serde_json::json!({"nerdctl/stop-timeout": "-1"})).unwrap();
        assert_eq!(endless.stop_policy().grace, Some(Duration::MAX));
    }

    #[test]
    fn zero_and_negative_limits_are_unlimited() {
        assert_eq!((positive(-1), positive(0), positive(7)), (None, None, Some(7)));
        assert_eq!((cpus(150_000, 100_000), cpus(0, 0)), (Some(1.5), None));
        assert_eq!(cpus(50_000, 0), Some(0.5));
    }
}
