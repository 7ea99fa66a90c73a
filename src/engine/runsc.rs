//! Standalone runsc, the runtime of gVisor: `<root>/ID_sandbox:SANDBOX.state` has the PID of the sandbox, in which
//! the container's processes run on a kernel of their own, and its cgroup.

use serde::Deserialize;

use super::Engine;
use super::oci_state::{self, OCI_ADVICE};
use super::record::{Record, RecordReader};
use super::shims::sandbox_of;
use crate::model::engine::{EngineAdvice, EngineCommands, EngineInfo};
use crate::model::pid::HostPid;
use crate::proc::StateFile;

/// The descriptor of runsc.
pub static RUNSC: EngineInfo = EngineInfo {
    name: "runsc",
    display_name: "runsc (gVisor)",
    low_level: true,
    advice: &EngineAdvice { unpause: Some("runsc resume <id>"), ..OCI_ADVICE },
    shims: &["runsc"],
    files: ("/run/runsc/*.state", "runsc of gVisor, likewise."),
    clients: &["runsc"],
    commands: EngineCommands::Table(&[
        ("exec", "runsc exec <id> <command>"),
        ("kill", "runsc kill <id> <signal>"),
        ("pause", "runsc pause <id>"),
        ("rm", "runsc delete <id>"),
        ("start", "runsc start <id>"),
        ("top", "runsc ps <id>"),
    ]),
    ..EngineInfo::DEFAULT
};

/// runsc.
pub struct Runsc;

impl Engine for Runsc {
    fn info(&self) -> &'static EngineInfo {
        &RUNSC
    }

    fn read_records(&self, reader: &RecordReader<'_>, records: &mut Vec<Record>) {
        oci_state::read_records(reader, &RUNSC, state_file_of, parse, records);
    }
}

fn state_file_of(entry: &str) -> Option<(&str, String)> {
    let (id, _) = entry.strip_suffix(".state")?.split_once("_sandbox:")?;
    Some((id, entry.to_owned()))
}

/// The part of `Container` that is used (gVisor, runsc/container).
#[derive(Deserialize)]
struct RunscState {
    id: String,
    #[serde(default)]
    status: String,
    sandbox: RunscSandbox,
}

#[derive(Deserialize)]
struct RunscSandbox {
    id: String,
    pid: i32,
    #[serde(default)]
    cgroup: RunscCgroup,
}

/// `CgroupJSON`, of which one field is set.
#[derive(Default, Deserialize)]
struct RunscCgroup {
    cgroupv1: Option<RunscCgroupV1>,
    #[serde(alias = "cgroupsystemd")]
    cgroupv2: Option<RunscCgroupV2>,
}

#[derive(Deserialize)]
struct RunscCgroupV1 {
    name: String,
}

#[derive(Deserialize)]
struct RunscCgroupV2 {
    path: String,
}

/// Fills in a record from the state of a sandbox's first container. (The others have the same PID, and a record of
/// their engine.)
fn parse(reader: &RecordReader<'_>, file: &StateFile, record: &mut Record) -> Option<()> {
    let RunscState { id, status, sandbox } = reader.read(file.json())?;
    (id == record.id && id == sandbox.id).then_some(())?;
    record.sandbox = sandbox_of(RUNSC.name);
    record.pid = HostPid::new(sandbox.pid).filter(|_| status != "stopped");
    let RunscCgroup { cgroupv1, cgroupv2 } = sandbox.cgroup;
    let path = cgroupv1.map(|v1| v1.name).or(cgroupv2.map(|v2| v2.path));
    record.cgroup = path.and_then(|path| oci_state::absolute_cgroup(&path));
    Some(())
}
