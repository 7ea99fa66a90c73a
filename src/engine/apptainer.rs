//! Apptainer, and Singularity before it: the instances of a user in
//! `~/.apptainer/instances/app/HOST/USER/NAME/NAME.json`, with the PIDs of the init and of the monitor above
//! it, the configured process (encoded in base64) and a file of output for each stream. Where the home cannot be
//! read, the monitor's title has the name: `Apptainer instance: USER [NAME]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::BASE64;
use serde::Deserialize;

use super::Engine;
use super::oci_process::{ProcessBundle, trusted_file};
use super::record::{Record, RecordReader, SearchPath};
use crate::model::container::Container;
use crate::model::engine::{EngineAdvice, EngineInfo};
use crate::model::exit_record::{ExitRecord, LogDestination, RecordedState};
use crate::model::pid::HostPid;
use crate::model::process_config::ProcessConfig;
use crate::model::signal::Signal;
use crate::proc::{Host, StateFile};

/// The descriptor of Apptainer.
pub static APPTAINER: EngineInfo = EngineInfo {
    name: "apptainer",
    display_name: "Apptainer",
    shims: &["starter*"],
    has_monitors: true,
    files: (
        "~/.apptainer/instances/app, ~/.singularity/instances/sing",
        "Apptainer and Singularity: instances.",
    ),
    advice: &EngineAdvice {
        grace: Some("use `apptainer instance stop --timeout`"),
        ..EngineAdvice::DEFAULT
    },
    // apptainer instance stop: SIGINT, and SIGKILL after 10 s.
    stop_signal: Signal::INT,
    grace_time: Duration::from_secs(10),
    start_hint: Some("`apptainer instance start IMAGE <name>` starts it"),
    ..EngineInfo::DEFAULT
};

/// Directories of instances below a home.
const INSTANCES: [&str; 2] = [".apptainer/instances/app", ".singularity/instances/sing"];

/// Apptainer and Singularity. No cgroup has the name of an instance (`apptainer-PID.scope`, and only with
/// limits).
pub struct Apptainer;

impl Engine for Apptainer {
    fn info(&self) -> &'static EngineInfo {
        &APPTAINER
    }

    fn read_records(&self, reader: &RecordReader<'_>, records: &mut Vec<Record>) {
        let homes = reader.users.iter().filter_map(|user| user.home.clone());
        for home in homes.chain([PathBuf::from("/root")]).filter(|_| reader.defaults) {
            for directory in INSTANCES {
                read_instances(reader, &SearchPath::default_path(home.join(directory)), records);
            }
        }
        for monitor in reader.shims {
            let Some((user, name)) = monitor.argv.first().and_then(|title| parse_title(title))
            else {
                continue;
            };
            let mut record = Record::of_child(&APPTAINER, format!("{user}/{name}"), monitor);
            record.name = Some(name.to_owned());
            records.push(record);
        }
    }

    /// Returns where the output goes: nothing is recorded of an end.
    fn exit_record(&self, host: &Host, container: &Container) -> Option<ExitRecord> {
        let (file, instance) = instance_of(host, container)?;
        let is_named = |path: &PathBuf| !path.as_os_str().is_empty();
        let mut log = LogDestination::new("", Some(instance.log_out_path.filter(is_named)?));
        log.stderr = instance.log_err_path.filter(is_named);
        Some(ExitRecord {
            state: RecordedState::Running,
            log: Some(log),
            sources: vec![file.path],
            ..ExitRecord::default()
        })
    }

    fn process_config(&self, host: &Host, container: &Container) -> Option<ProcessConfig> {
        let (file, instance) = instance_of(host, container)?;
        let mut process = process_of(&instance.config)?;
        process.source = file.path.display().to_string();
        Some(process)
    }
}

/// Parses the configuration of an instance.
fn process_of(config: &str) -> Option<ProcessConfig> {
    let config = BASE64.decode(config.as_bytes()).ok()?;
    let config: ApptainerConfig = serde_json::from_slice(&config).ok()?;
    let ApptainerEngineConfig { json_config, oci_config } = config.engine_config;
    let mut process = oci_config.process_config();
    process.umask = json_config.umask.filter(|_| json_config.restore_umask);
    Some(process)
}

/// Reads the file of a container's instance.
fn instance_of(host: &Host, container: &Container) -> Option<(StateFile, ApptainerInstance)> {
    let file = trusted_file(host, container, container.record.as_ref()?)?;
    let instance = file.json().ok()?;
    Some((file, instance))
}

/// Returns the user and the name in the title of a monitor.
fn parse_title(title: &str) -> Option<(&str, &str)> {
    let (program, rest) = title.split_once(" instance: ")?;
    let (user, name) = rest.trim_end().strip_suffix(']')?.split_once(" [")?;
    let is_ours = ["Apptainer", "Singularity"].contains(&program);
    (is_ours && !name.is_empty()).then_some((user, name))
}

/// Reads `HOST/USER/NAME/NAME.json` below a directory.
fn read_instances(reader: &RecordReader<'_>, root: &SearchPath, records: &mut Vec<Record>) {
    let Some(top) = reader.read(reader.host.state_dir(&root.path)) else { return };
    for host in reader.read(top.names()).unwrap_or_default() {
        let Some(hosts) = reader.read(top.dir(&host)) else { continue };
        for user in reader.read(hosts.names()).unwrap_or_default() {
            let Some(users) = reader.read(hosts.dir(&user)) else { continue };
            for name in reader.read(users.names()).unwrap_or_default() {
                let path = Path::new(&name).join(format!("{name}.json"));
                let Some(file) = reader.read(users.read(path)) else { continue };
                let Some(record) = record(reader, &file, &user) else { continue };
                // The home may be shared by several machines.
                if record.pid.is_some() || host == reader.host.name {
                    records.push(record.found_at(root));
                }
            }
        }
    }
}

/// An instance file (pkg/instance, File).
#[derive(Deserialize)]
struct ApptainerInstance {
    pid: i32,
    /// The monitor.
    ppid: i32,
    name: String,
    #[serde(default)]
    image: String,
    /// An [`ApptainerConfig`] in base64.
    #[serde(default)]
    config: String,
    #[serde(default, rename = "logOutPath")]
    log_out_path: Option<PathBuf>,
    #[serde(default, rename = "logErrPath")]
    log_err_path: Option<PathBuf>,
}

/// The configuration of an instance.
#[derive(Deserialize)]
struct ApptainerConfig {
    #[serde(rename = "engineConfig")]
    engine_config: ApptainerEngineConfig,
}

#[derive(Deserialize)]
struct ApptainerEngineConfig {
    #[serde(default, rename = "jsonConfig")]
    json_config: ApptainerOptions,
    #[serde(rename = "ociConfig")]
    oci_config: ProcessBundle,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ApptainerOptions {
    restore_umask: bool,
    umask: Option<u32>,
}

fn record(reader: &RecordReader<'_>, file: &StateFile, user: &str) -> Option<Record> {
    let instance: ApptainerInstance = reader.read(file.json())?;
    let mut record = Record::new(&APPTAINER, format!("{user}/{}", instance.name), file);
    record.name = Some(instance.name);
    record.image = Some(instance.image).filter(|image| !image.is_empty());
    // The monitor is identified by its title, as Apptainer does it.
    let monitor = HostPid::new(instance.ppid).filter(|pid| {
        let cmdline = reader.host.proc_file(*pid, "cmdline", 4096).unwrap_or_default();
        let title = cmdline.split(|byte| *byte == 0).next().unwrap_or_default();
        let title = String::from_utf8_lossy(title);
        parse_title(&title).is_some_and(|(_, name)| Some(name) == record.name.as_deref())
    });
    record.parent = monitor;
    record.pid = monitor.and_then(|_| HostPid::new(instance.pid));
    Some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_of_a_monitor_names_the_instance() {
        for (title, parsed) in [
            ("Apptainer instance: ann [web]", Some(("ann", "web"))),
            ("Singularity instance: ann [web-1] ", Some(("ann", "web-1"))),
            ("Apptainer runtime parent", None),
            ("Apptainer instance: ann []", None),
            ("Other instance: ann [web]", None),
        ] {
            assert_eq!(parse_title(title), parsed, "{title}");
        }
    }

    #[test]
    fn the_configured_process_is_in_base64() {
        let config = r#"{"engineName":"apptainer","engineConfig":{
            "jsonConfig":{"instance":true,"restoreUmask":true,"umask":2},
            "ociConfig":{"process":{"env":["PATH=/bin","A=b"],"cwd":"/d","noNewPrivileges":true}}}}"#;
        let process = process_of(&BASE64.encode(config.as_bytes())).unwrap();
        let environment = vec![b"PATH=/bin".to_vec(), b"A=b".to_vec()];
        assert_eq!(process.environment, Some(environment));
        assert_eq!((process.workdir, process.umask), (Some(b"/d".to_vec()), Some(2)));
        assert_eq!(process.no_new_privs, Some(true));
        for damaged in ["", "!", &BASE64.encode(b"{}"), &BASE64.encode(&config.as_bytes()[1..])] {
            assert_eq!(process_of(damaged), None);
        }
    }
}
