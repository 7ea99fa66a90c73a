//! Standalone crun: `<root>/ID/status` has the init's PID, its start time and its cgroup. Podman runs
//! its containers through it.

use serde::Deserialize;

use super::cgroup_name::scope_name;
use super::oci_state::OCI_ADVICE;
use super::record::{Record, RecordReader};
use super::{Engine, oci_config, oci_state};
use crate::model::container::Container;
use crate::model::engine::{EngineAdvice, EngineCommands, EngineInfo};
use crate::model::pid::{HostPid, Ticks};
use crate::model::process_config::ProcessConfig;
use crate::model::resource_config::ResourceConfig;
use crate::proc::{Host, StateFile};

/// The descriptor of crun.
pub static CRUN: EngineInfo = EngineInfo {
    name: "crun",
    display_name: "crun",
    low_level: true,
    advice: &EngineAdvice { unpause: Some("crun resume <id>"), ..OCI_ADVICE },
    shims: &["crun"],
    starters: &["crun"],
    files: ("/run/crun/*/status", "crun, likewise."),
    clients: &["crun"],
    commands: EngineCommands::Table(&[
        ("pause", "crun pause <id>"),
        ("rm", "crun delete <id>"),
        ("start", "crun start <id>"),
    ]),
    ..EngineInfo::DEFAULT
};

/// crun.
pub struct Crun;

impl Engine for Crun {
    fn info(&self) -> &'static EngineInfo {
        &CRUN
    }

    fn recognise(&self, component: &str, _parent: &[&str]) -> Option<String> {
        scope_name(component, "crun")
    }

    fn read_records(&self, reader: &RecordReader<'_>, records: &mut Vec<Record>) {
        oci_state::read_records(
            reader,
            &CRUN,
            |id| Some((id, format!("{id}/status"))),
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
struct CrunStatus {
    pid: i32,
    #[serde(rename = "process-start-time", default)]
    start: u64,
    #[serde(rename = "cgroup-path", default)]
    cgroup: Option<String>,
}

fn parse(reader: &RecordReader<'_>, file: &StateFile, record: &mut Record) -> Option<()> {
    let status: CrunStatus = reader.read(file.json())?;
    record.pid = HostPid::new(status.pid);
    // Old versions write 0 for an unknown start time.
    record.start = (status.start > 0).then_some(Ticks(status.start));
    record.cgroup = status.cgroup.and_then(|path| oci_state::absolute_cgroup(&path));
    Some(())
}
