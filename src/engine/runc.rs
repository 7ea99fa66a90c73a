//! Standalone runc, the reference implementation: `<root>/ID/state.json` has the init's PID, its start
//! time and its cgroups. Docker, containerd and Podman run their containers through it.

use std::collections::HashMap;

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

/// The descriptor of runc.
pub static RUNC: EngineInfo = EngineInfo {
    name: "runc",
    display_name: "runc",
    low_level: true,
    advice: &EngineAdvice { unpause: Some("runc resume <id>"), ..OCI_ADVICE },
    shims: &["runc", "runc:[2:INIT]"],
    starters: &["runc:[0:PARENT]", "runc:[1:CHILD]", "runc:[2:INIT]"],
    files: (
        "/run/runc/*/state.json",
        "runc; $XDG_RUNTIME_DIR/runc of users, or the directory given with --root.",
    ),
    clients: &["runc"],
    commands: EngineCommands::Table(&[
        ("pause", "runc pause <id>"),
        ("rm", "runc delete <id>"),
        ("start", "runc start <id>"),
    ]),
    ..EngineInfo::DEFAULT
};

/// runc.
pub struct Runc;

impl Engine for Runc {
    fn info(&self) -> &'static EngineInfo {
        &RUNC
    }

    fn recognise(&self, component: &str, _parent: &[&str]) -> Option<String> {
        scope_name(component, "runc")
    }

    fn read_records(&self, reader: &RecordReader<'_>, records: &mut Vec<Record>) {
        oci_state::read_records(
            reader,
            &RUNC,
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
struct RuncState {
    id: String,
    init_process_pid: i32,
    /// Clock ticks since boot, as field 22 of stat.
    #[serde(default)]
    init_process_start: u64,
    /// Absolute paths by controller; by `""` for v2.
    #[serde(default)]
    cgroup_paths: HashMap<String, String>,
}

fn parse(reader: &RecordReader<'_>, file: &StateFile, record: &mut Record) -> Option<()> {
    let state: RuncState = reader.read(file.json())?;
    (state.id == record.id).then_some(())?;
    record.pid = HostPid::new(state.init_process_pid);
    record.start = (state.init_process_start > 0).then_some(Ticks(state.init_process_start));
    let paths = &state.cgroup_paths;
    let preferred =
        ["pids", "memory", "", "name=systemd"].iter().find_map(|key| paths.get_key_value(*key));
    record.cgroup = preferred.or(paths.iter().min()).and_then(|(key, path)| {
        let below = path.strip_prefix("/sys/fs/cgroup")?;
        let mount = key.strip_prefix("name=").unwrap_or(key);
        let mount = if mount.is_empty() { "unified" } else { mount };
        let inner =
            below.strip_prefix('/')?.strip_prefix(mount).filter(|rest| rest.starts_with('/'));
        Some(inner.unwrap_or(below).as_bytes().to_vec())
    });
    Some(())
}
