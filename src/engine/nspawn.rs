//! systemd-nspawn: registered machines in `/run/systemd/machines/NAME`, the payload in
//! `systemd-nspawn@NAME.service/payload` or `machine-NAME.scope/payload`. Unregistered ones are known
//! only from the arguments of the systemd-nspawn process that is the parent of their init.

use std::path::Path;
use std::time::Duration;

use super::Engine;
use super::record::{Record, RecordReader, Shim, parse_signal};
use crate::model::cgroup;
use crate::model::engine::EngineInfo;
use crate::model::pid::HostPid;
use crate::model::signal::Signal;
use crate::proc::StateFile;

/// The descriptor of systemd-nspawn.
pub static NSPAWN: EngineInfo = EngineInfo {
    name: "nspawn",
    display_name: "systemd-nspawn",
    keeps_records: false,
    shims: &["systemd-nspawn"],
    files: (MACHINES, "systemd-nspawn."),
    // systemd's DefaultTimeoutStopSec.
    grace_time: Duration::from_secs(90),
    start_hint: Some("`machinectl start NAME` starts it"),
    ..EngineInfo::DEFAULT
};

const MACHINES: &str = "/run/systemd/machines";

/// systemd-nspawn.
pub struct Nspawn;

impl Engine for Nspawn {
    fn info(&self) -> &'static EngineInfo {
        &NSPAWN
    }

    fn recognise(&self, component: &str, parent: &[&str]) -> Option<String> {
        if component != "payload" {
            return None;
        }
        let unit = parent.last()?;
        let service = || unit.strip_prefix("systemd-nspawn@")?.strip_suffix(".service");
        let scope = || unit.strip_prefix("machine-")?.strip_suffix(".scope");
        Some(unescape(service().or_else(scope)?))
    }

    fn read_records(&self, reader: &RecordReader<'_>, records: &mut Vec<Record>) {
        if reader.defaults
            && let Some(dir) = reader.read(reader.host.state_dir(MACHINES))
        {
            let names = reader.read(dir.names()).unwrap_or_default();
            // Next to each machine is a link `unit:…` to it, which is not followed.
            for name in names.iter().filter(|name| !name.starts_with("unit:")) {
                let file = reader.read(dir.read(name));
                records.extend(file.and_then(|file| registered(reader, name, &file)));
            }
        }
        for monitor in reader.shims_named(&["systemd-nspawn"]) {
            records.extend(unregistered(reader, monitor));
        }
    }
}

/// Parses the file of a registered machine; `None` if it is not nspawn's.
fn registered(reader: &RecordReader<'_>, name: &str, file: &StateFile) -> Option<Record> {
    let text = String::from_utf8_lossy(&file.bytes).into_owned();
    let get = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    // libvirt and others register machines here too.
    let is_nspawn = |service| service == "nspawn" || service == "systemd-nspawn";
    get("SERVICE").is_none_or(is_nspawn).then_some(())?;
    let mut record = Record::new(&NSPAWN, name, file);
    record.name = Some(name.to_owned());
    record.pid = get("LEADER").and_then(|pid| pid.parse::<HostPid>().ok());
    record.image = get("ROOT").filter(|root| !root.is_empty()).map(str::to_owned);
    // The leader has to be in the unit that was made for it: its PID may have been reused, by
    // another machine's leader.
    let unit = get("SCOPE").map(|unit| unit.trim_matches('"').replace(r"\\", r"\"));
    record.cgroup = record.pid.zip(unit).and_then(|(pid, unit)| unit_cgroup(reader, pid, &unit));
    Some(record)
}

/// Makes a record from the arguments of a systemd-nspawn process.
fn unregistered(reader: &RecordReader<'_>, monitor: &Shim) -> Option<Record> {
    let child = monitor.child?;
    let name = machine_name(monitor)?;
    let mut record = Record::of_child(&NSPAWN, &name, monitor);
    record.name = Some(name);
    record.image = root(monitor).map(str::to_owned);
    record.stop.signal = kill_signal(monitor);
    record.cgroup = payload(reader, child);
    Some(record)
}

fn root(monitor: &Shim) -> Option<&str> {
    ["-D", "--directory", "-i", "--image"].iter().find_map(|option| monitor.option(option))
}

/// Returns `--kill-signal=`, or with `--boot` RTMIN+3, which systemd as PID 1 expects
/// (systemd-nspawn(1)).
fn kill_signal(monitor: &Shim) -> Option<Signal> {
    let boot = || {
        let boots = monitor.argv.iter().any(|argument| argument == "-b" || argument == "--boot");
        boots.then_some(Signal::RTMIN_3)
    };
    monitor.option("--kill-signal").and_then(parse_signal).or_else(boot)
}

/// Returns the name that nspawn gives: `-M`, else the last part of the directory or image
/// (systemd-nspawn(1)).
fn machine_name(monitor: &Shim) -> Option<String> {
    let option = monitor.option("-M").or(monitor.option("--machine"));
    option.map(str::to_owned).or_else(|| {
        let name = Path::new(root(monitor)?).file_name()?.to_str()?;
        Some(name.strip_suffix(".raw").unwrap_or(name).to_owned())
    })
}

/// Returns the cgroup of a unit that a process is in or below: its `payload`, next to the `supervisor`
/// that nspawn itself is in. v1 has neither, and there a scope belongs to the machine alone.
fn unit_cgroup(reader: &RecordReader<'_>, pid: HostPid, unit: &str) -> Option<Vec<u8>> {
    let memberships = reader.host.memberships(pid).ok()?;
    memberships.by_preference().find_map(|membership| {
        let parts: Vec<&[u8]> = cgroup::components(&membership.path).collect();
        let index = parts.iter().position(|part| *part == unit.as_bytes())?;
        let last = match parts.get(index + 1) {
            Some(&b"payload") => index + 1,
            _ if unit.ends_with(".scope") => index,
            _ => return None,
        };
        Some(cgroup::prefix_through(&membership.path, last).to_vec())
    })
}

/// Returns the cgroup named `payload` that a process is in or below.
fn payload(reader: &RecordReader<'_>, pid: HostPid) -> Option<Vec<u8>> {
    let memberships = reader.host.memberships(pid).ok()?;
    memberships.by_preference().find_map(|membership| {
        let index = cgroup::components(&membership.path).position(|part| part == b"payload")?;
        Some(cgroup::prefix_through(&membership.path, index).to_vec())
    })
}

/// Decodes the `\x2d` escapes in a unit name (systemd-escape(1)).
fn unescape(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.strip_prefix(b"x").and_then(|digits| digits.get(..2));
        let escaped = digits
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
            .filter(|_| *byte == b'\\');
        bytes.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_escapes_of_unit_names() {
        for (escaped, plain) in
            [("web", "web"), ("my\\x2dweb", "my-web"), ("a\\x2", "a\\x2"), ("\\xzz", "\\xzz")]
        {
            assert_eq!(unescape(escaped), plain);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_name_is_decoded_without_a_panic(name: String) {
            unescape(&name);
        }
    }
}
