//! The process of a Docker container as it was configured: in the bundle of its shim, or else in
//! `config.v2.json`, its health check, and the groups that `hostconfig.json` adds to every process.

use serde::Deserialize;

use super::oci_process::{SHIMS, bundle_of_shim, process_of_bundle, trusted_file};
use crate::model::container::Container;
use crate::model::health_check::HealthCheck;
use crate::model::process_config::ProcessConfig;
use crate::proc::Host;

/// The PATH that Docker gives to a container whose image has none.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `config.v2.json`, as far as it is about the process.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct DockerProcess {
    config: DockerProcessConfig,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct DockerProcessConfig {
    env: Option<Vec<String>>,
    hostname: String,
    working_dir: String,
    healthcheck: Option<ConfiguredCheck>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct ConfiguredCheck {
    test: Option<Vec<String>>,
}

/// `hostconfig.json`, as far as it is about the process.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct DockerGroups {
    group_add: Option<Vec<String>>,
}

/// Reads the process of a container whose record is its `config.v2.json`.
pub(super) fn process_config(host: &Host, container: &Container) -> Option<ProcessConfig> {
    let path = container.record.as_ref()?;
    let bundle = bundle_of_shim(host, container)
        .and_then(|directory| process_of_bundle(host, container, &directory, SHIMS));
    let recorded = || -> Option<ProcessConfig> {
        let file = trusted_file(host, container, path)?;
        let process: DockerProcess = file.json().ok()?;
        Some(process.config.process_config(path.display().to_string()))
    };
    let mut config = bundle.or_else(recorded)?;
    let groups = trusted_file(host, container, &path.with_file_name("hostconfig.json"))
        .and_then(|file| file.json::<DockerGroups>().ok());
    let groups = groups.and_then(|groups| groups.group_add).unwrap_or_default();
    config.added_groups = groups.into_iter().map(String::into_bytes).collect();
    Some(config)
}

/// Reads the health check.
pub(super) fn health_checks(host: &Host, container: &Container) -> Vec<HealthCheck> {
    let read = || -> Option<HealthCheck> {
        let file = trusted_file(host, container, container.record.as_ref()?)?;
        HealthCheck::parse(&file.json::<DockerProcess>().ok()?.config.healthcheck?.test?)
    };
    read().into_iter().collect()
}

impl DockerProcessConfig {
    /// Returns the process, with the variables that the daemon puts before the image's
    /// (`CreateDaemonEnvironment`).
    fn process_config(self, source: String) -> ProcessConfig {
        let hostname = format!("HOSTNAME={}", self.hostname);
        let first = [PATH.to_owned(), hostname].into_iter();
        let variables = first.chain(self.env.unwrap_or_default());
        let workdir = if self.working_dir.is_empty() { "/".into() } else { self.working_dir };
        ProcessConfig {
            source,
            environment: Some(variables.map(String::into_bytes).collect()),
            environment_is_complete: true,
            workdir: Some(workdir.into_bytes()),
            // (Since Docker 20.10.18.)
            adds_primary_group: true,
            ..ProcessConfig::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemons_variables_come_before_the_images() {
        let process: DockerProcess = serde_json::from_str(
            r#"{"Config": {"Hostname": "h", "Env": ["PATH=/a", "DB=x"], "WorkingDir": "/srv"}}"#,
        )
        .unwrap();
        let config = process.config.process_config("f".into());
        let variables = config.environment.unwrap();
        assert_eq!(variables[1..], [b"HOSTNAME=h".to_vec(), b"PATH=/a".to_vec(), b"DB=x".to_vec()]);
        assert_eq!(config.workdir, Some(b"/srv".to_vec()));
    }
}
