//! Standalone youki: `<root>/ID/state.json` has the init's PID, `youki_config.json` its cgroup. The
//! smallest of the engines, and the example in CONTRIBUTING.md.

use serde::Deserialize;

use super::oci_state::OCI_ADVICE;
use super::record::{Record, RecordReader};
use super::{Engine, oci_config, oci_state};
use crate::model::container::Container;
use crate::model::engine::{EngineAdvice, EngineCommands, EngineInfo};
use crate::model::pid::HostPid;
use crate::model::process_config::ProcessConfig;
use crate::model::resource_config::ResourceConfig;
use crate::proc::{Host, StateFile};

/// The descriptor of youki.
pub static YOUKI: EngineInfo = EngineInfo {
    name: "youki",
    display_name: "youki",
    low_level: true,
    advice: &EngineAdvice { unpause: Some("youki resume <id>"), ..OCI_ADVICE },
    shims: &["youki"],
    starters: &["youki:[1:INTER]", "youki:[2:INIT]"],
    files: ("/run/youki/*/state.json", "youki, likewise."),
    clients: &["youki"],
    commands: EngineCommands::Table(&[
        ("pause", "youki pause <id>"),
        ("rm", "youki delete <id>"),
        ("start", "youki start <id>"),
    ]),
    ..EngineInfo::DEFAULT
};

/// youki.
pub struct Youki;

impl Engine for Youki {
    fn info(&self) -> &'static EngineInfo {
        &YOUKI
    }

    /// Recognises `:youki:ID`, colons and all, the default path, and the systemd driver's `youki-ID.scope`.
    fn recognise(&self, component: &str, _parent: &[&str]) -> Option<String> {
        let name = component.strip_suffix(".scope").unwrap_or(component);
        let id = name.strip_prefix(":youki:").or_else(|| name.strip_prefix("youki-"))?;
        (!id.is_empty()).then(|| id.to_owned())
    }

    fn read_records(&self, reader: &RecordReader<'_>, records: &mut Vec<Record>) {
        oci_state::read_records(
            reader,
            &YOUKI,
            |id| Some((id, format!("{id}/state.json"))),
            parse,
            records,
        );
    }

    fn resource_config(&self, host: &Host, container: &Container) -> Option<ResourceConfig> {
        oci_config::resources_of_state(host, container)
    }

    fn process_config(&self, host: &Host, container: &Container) -> Option<ProcessConfig> {
        oci_config::process_of_state(host, container)
    }
}

#[derive(Deserialize)]
struct YoukiState {
    id: String,
    pid: Option<i32>,
    #[serde(default)]
    status: String,
}

#[derive(Deserialize)]
struct YoukiConfig {
    #[serde(default)]
    cgroup_path: Option<String>,
}

fn parse(reader: &RecordReader<'_>, file: &StateFile, record: &mut Record) -> Option<()> {
    let state: YoukiState = reader.read(file.json())?;
    (state.id == record.id).then_some(())?;
    record.pid = state.pid.and_then(HostPid::new).filter(|_| state.status != "stopped");
    let path = file.path.with_file_name("youki_config.json");
    let config = reader
        .read(reader.host.state_file(path))
        .and_then(|file| reader.read(file.json::<YoukiConfig>()));
    record.cgroup = config
        .and_then(|config| config.cgroup_path)
        .and_then(|path| oci_state::absolute_cgroup(&path));
    Some(())
}
