//! What a container was configured to be: Docker's `hostconfig.json`, or the `config.json` of an OCI
//! bundle (runtime-spec, config.md). Read only for containers whose record is believed.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::model::container::{Container, EngineKind};
use crate::model::resource_config::ResourceConfig;
use crate::proc::Host;

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct DockerResources {
    memory: i64,
    nano_cpus: i64,
    cpu_quota: i64,
    cpu_period: i64,
    pids_limit: Option<i64>,
    readonly_rootfs: bool,
    privileged: bool,
    security_opt: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Bundle {
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
    resources: Resources,
    seccomp: Option<serde_json::Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Resources {
    memory: OciLimit,
    cpu: Cpu,
    pids: OciLimit,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OciLimit {
    limit: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Cpu {
    quota: Option<i64>,
    period: Option<i64>,
}

/// A record that says where its bundle is: crun and youki in a field, runc among its labels.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Pointer {
    bundle: Option<PathBuf>,
    labels: Vec<String>,
    config: Inner,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Inner {
    labels: Vec<String>,
}

/// What was configured, where that can be read.
pub fn configured(host: &Host, container: &Container) -> Option<ResourceConfig> {
    let record = container.record.as_deref().filter(|_| container.verified)?;
    let folder = record.parent()?;
    match container.engine {
        EngineKind::Docker => of_docker(host, &folder.join("hostconfig.json")),
        EngineKind::Runc | EngineKind::Crun | EngineKind::Youki => {
            let pointer: Pointer = host.state_file(record).ok()?.json().ok()?;
            let labels = pointer.config.labels.iter().chain(&pointer.labels);
            let labelled = labels.filter_map(|label| label.strip_prefix("bundle=")).next();
            let bundle = pointer.bundle.or_else(|| labelled.map(PathBuf::from))?;
            of_bundle(host, &bundle.join("config.json"))
        }
        EngineKind::Containerd | EngineKind::Cri => of_bundle(host, &folder.join("config.json")),
        EngineKind::Podman | EngineKind::Crio => {
            // The list of all containers stands above the folder that each has.
            let own = folder.join(container.id.as_deref()?).join("userdata/config.json");
            of_bundle(host, &own).or_else(|| of_bundle(host, &folder.join("config.json")))
        }
        _ => None,
    }
}

fn above_zero(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number > 0)
}

fn cpus(quota: i64, period: i64) -> Option<f64> {
    let period = above_zero(period).unwrap_or(100_000);
    above_zero(quota).map(|quota| quota as f64 / period as f64)
}

fn of_docker(host: &Host, path: &Path) -> Option<ResourceConfig> {
    let config: DockerResources = host.state_file(path).ok()?.json().ok()?;
    let options = config.security_opt.unwrap_or_default();
    let unconfined = options.iter().any(|option| option.replace(':', "=") == "seccomp=unconfined");
    Some(ResourceConfig {
        source: path.display().to_string(),
        memory: above_zero(config.memory),
        cpus: above_zero(config.nano_cpus)
            .map(|nano| nano as f64 / 1e9)
            .or_else(|| cpus(config.cpu_quota, config.cpu_period)),
        pids: config.pids_limit.and_then(above_zero),
        read_only: Some(config.readonly_rootfs),
        no_new_privs: Some(options.iter().any(|option| option.starts_with("no-new-privileges"))),
        // (What it is without being told depends on how the daemon was built.)
        seccomp: (config.privileged || unconfined).then_some(false),
    })
}

fn of_bundle(host: &Host, path: &Path) -> Option<ResourceConfig> {
    let bundle: Bundle = host.state_file(path).ok()?.json().ok()?;
    let resources = bundle.linux.resources;
    Some(ResourceConfig {
        source: path.display().to_string(),
        memory: resources.memory.limit.and_then(above_zero),
        cpus: cpus(resources.cpu.quota.unwrap_or(0), resources.cpu.period.unwrap_or(0)),
        pids: resources.pids.limit.and_then(above_zero),
        read_only: Some(bundle.root.readonly),
        no_new_privs: Some(bundle.process.no_new_privileges),
        seccomp: Some(bundle.linux.seccomp.is_some()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_said_in_several_ways() {
        assert_eq!((above_zero(-1), above_zero(0), above_zero(7)), (None, None, Some(7)));
        assert_eq!((cpus(150_000, 100_000), cpus(0, 0)), (Some(1.5), None));
        assert_eq!(cpus(50_000, 0), Some(0.5));
    }
}
