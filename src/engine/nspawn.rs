//! systemd-nspawn: registered machines in `/run/systemd/machines/NAME`, the payload in
//! `systemd-nspawn@NAME.service/payload` or `machine-NAME.scope/payload`; unregistered ones are told
//! by the argv of the systemd-nspawn process that is the parent of their init.

use std::path::Path;

use super::record::{Record, RecordReader, Shim};
use super::{Engine, recorded_signal};
use crate::model::cgroup;
use crate::model::container::EngineKind;
use crate::model::pid::HostPid;
use crate::model::signal::Signal;

/// systemd-nspawn.
pub struct Nspawn;

const MACHINES: &str = "/run/systemd/machines";

impl Engine for Nspawn {
    fn kind(&self) -> EngineKind {
        EngineKind::Nspawn
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

    fn keeps_no_record(&self) -> bool {
        true
    }

    fn files(&self) -> (&'static str, &'static str) {
        ("/run/systemd/machines", "systemd-nspawn.")
    }

    fn records(&self, look: &RecordReader<'_>, found: &mut Vec<Record>) {
        if look.defaults
            && let Some(dir) = look.read(look.host.state_dir(MACHINES))
        {
            for name in look.read(dir.names()).unwrap_or_default() {
                // Beside each machine lies a link `unit:…` to it, which is not followed.
                let Some(file) = (!name.starts_with("unit:")).then(|| look.read(dir.read(&name)))
                else {
                    continue;
                };
                let Some(file) = file else { continue };
                let text = String::from_utf8_lossy(&file.bytes).into_owned();
                let get = |key: &str| {
                    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
                };
                // libvirt and others register here too; only nspawn's are its.
                if get("SERVICE")
                    .is_some_and(|service| service != "nspawn" && service != "systemd-nspawn")
                {
                    continue;
                }
                let mut record = Record::new(EngineKind::Nspawn, &name, &file);
                record.name = Some(name.clone());
                record.pid = get("LEADER").and_then(|pid| pid.parse::<HostPid>().ok());
                record.image = get("ROOT").filter(|root| !root.is_empty()).map(str::to_owned);
                // The leader has to be in the unit that was made for it: its number may by now be
                // another machine's.
                let unit = get("SCOPE").map(|unit| unit.trim_matches('"').replace(r"\\", r"\"));
                record.cgroup =
                    record.pid.zip(unit).and_then(|(pid, unit)| within(look, pid, &unit));
                found.push(record);
            }
        }
        for monitor in look.running(&["systemd-nspawn"]) {
            let Some(child) = monitor.child else { continue };
            let Some(name) = machine(monitor) else { continue };
            let mut record = Record::of_monitor(EngineKind::Nspawn, &name, monitor);
            record.name = Some(name);
            record.image = root(monitor).map(str::to_owned);
            record.stop.signal = kill_signal(monitor);
            record.cgroup = payload(look, child);
            found.push(record);
        }
    }
}

fn root(monitor: &Shim) -> Option<&str> {
    ["-D", "--directory", "-i", "--image"].iter().find_map(|option| monitor.option(option))
}

/// `--kill-signal=`; with `--boot` the system inside expects RTMIN+3 (systemd-nspawn(1)).
fn kill_signal(monitor: &Shim) -> Option<Signal> {
    let boots = || {
        let boots = monitor.argv.iter().any(|word| word == "-b" || word == "--boot");
        boots.then(|| Signal::new(37)).flatten()
    };
    monitor.option("--kill-signal").and_then(recorded_signal).or_else(boots)
}

/// The name nspawn gives: `-M`, else the last part of the directory or image (systemd-nspawn(1)).
fn machine(monitor: &Shim) -> Option<String> {
    let given = monitor.option("-M").or(monitor.option("--machine"));
    given.map(str::to_owned).or_else(|| {
        let name = Path::new(root(monitor)?).file_name()?.to_str()?;
        Some(name.strip_suffix(".raw").unwrap_or(name).to_owned())
    })
}

/// The cgroup of a unit that a process is in or below: its `payload`, beside which nspawn itself is
/// in `supervisor`; on v1 there are no such parts, and a scope is the machine's alone.
fn within(look: &RecordReader<'_>, pid: HostPid, unit: &str) -> Option<Vec<u8>> {
    let memberships = look.host.memberships(pid).ok()?;
    memberships.by_preference().find_map(|membership| {
        let parts: Vec<&[u8]> = cgroup::components(&membership.path).collect();
        let at = parts.iter().position(|part| *part == unit.as_bytes())?;
        let last = match parts.get(at + 1) {
            Some(&b"payload") => at + 1,
            _ if unit.ends_with(".scope") => at,
            _ => return None,
        };
        Some(cgroup::prefix_through(&membership.path, last).to_vec())
    })
}

/// The cgroup called `payload` that a process is in or below.
fn payload(look: &RecordReader<'_>, pid: HostPid) -> Option<Vec<u8>> {
    let memberships = look.host.memberships(pid).ok()?;
    memberships.by_preference().find_map(|membership| {
        let at = cgroup::components(&membership.path).position(|part| part == b"payload")?;
        Some(cgroup::prefix_through(&membership.path, at).to_vec())
    })
}

/// A unit name's `\x2d` escapes turned back (systemd-escape(1)).
fn unescape(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.strip_prefix(b"x").and_then(|digits| digits.get(..2));
        let byte =
            hex.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match byte {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_unit_names_are_turned_back() {
        for (given, plain) in
            [("web", "web"), ("my\\x2dweb", "my-web"), ("a\\x2", "a\\x2"), ("\\xzz", "\\xzz")]
        {
            assert_eq!(unescape(given), plain);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_name_makes_it_panic(name: String) {
            unescape(&name);
        }
    }
}
