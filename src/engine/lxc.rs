//! LXC, LXD and Incus: the cgroup is `lxc.payload.NAME`, the monitor calls itself
//! `[lxc monitor] PATH NAME` and its child is the init. No file holds the PID, and the command
//! socket is not asked: anybody can listen on that abstract name.

use std::path::Path;

use super::record::{Record, RecordReader};
use super::{Engine, recorded_signal};
use crate::model::cgroup;
use crate::model::container::{Container, EngineKind};
use crate::model::pid::HostPid;
use crate::model::stop_policy::StopPolicy;
use crate::proc::Host;

/// LXC and what stands on it.
pub struct Lxc;

/// Where a container's configuration lies, and who put it there.
const PLACES: &[(&str, &str)] = &[
    ("/var/lib/lxc", "config"),
    ("/run/incus", "lxc.conf"),
    ("/var/log/incus", "lxc.conf"),
    ("/var/log/lxd", "lxc.conf"),
    ("/var/snap/lxd/common/lxd/logs", "lxc.conf"),
];

impl Engine for Lxc {
    fn kind(&self) -> EngineKind {
        EngineKind::Lxc
    }

    fn recognise(&self, component: &str, parent: &[&str]) -> Option<String> {
        let old = || (parent == ["lxc"]).then_some(component);
        let name = component.strip_prefix("lxc.payload.").or_else(old)?;
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn keeps_no_record(&self) -> bool {
        true
    }

    /// `lxc.signal.halt` of the configuration (lxc.container.conf(5)).
    fn stop_plan(&self, host: &Host, container: &Container) -> StopPolicy {
        let read = || {
            let usual = || Some(format!("/var/lib/lxc/{}/config", container.name.as_ref()?).into());
            let named = container.record.clone().filter(|path| !path.starts_with("/proc"));
            let file = host.state_file(named.or_else(usual)?).ok()?;
            let text = String::from_utf8_lossy(&file.bytes).into_owned();
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            let (_, signal) = lines.find(|(key, _)| key.trim() == "lxc.signal.halt")?;
            recorded_signal(signal.trim())
        };
        StopPolicy { signal: read(), ..StopPolicy::default() }
    }

    fn files(&self) -> (&'static str, &'static str) {
        (
            "/var/lib/lxc/*/config, /run/incus, /var/log/incus, /var/log/lxd",
            "LXC, Incus and LXD; ~/.local/share/lxc of users.",
        )
    }

    fn records(&self, look: &RecordReader<'_>, found: &mut Vec<Record>) {
        if look.defaults {
            for (place, file) in PLACES {
                configured(look, Path::new(place), file, found);
            }
            for home in look.homes.iter().filter_map(|home| home.home.as_ref()) {
                configured(look, &home.join(".local/share/lxc"), "config", found);
            }
        }
        for monitor in look.monitors {
            let Some(title) = monitor.argv.first() else { continue };
            let Some(rest) = title.strip_prefix("[lxc monitor] ") else { continue };
            let Some((path, name)) = rest.rsplit_once(' ') else { continue };
            let mut record = Record::of_monitor(EngineKind::Lxc, name, monitor);
            record.cgroup = monitor.child.and_then(|init| payload(look, init, name));
            named(&mut record, path);
            found.push(record);
        }
    }
}

/// The cgroup of a monitor's child: `lxc.payload.NAME`, with `-1` and so on behind it where that was
/// there already (lxc.container.conf(5)), wherever the caller was allowed to make it.
fn payload(look: &RecordReader<'_>, init: HostPid, name: &str) -> Option<Vec<u8>> {
    let memberships = look.host.memberships(init).ok()?;
    memberships.by_preference().find_map(|membership| {
        let at = cgroup::components(&membership.path).position(|part| {
            let part = std::str::from_utf8(part).unwrap_or_default();
            let rest = part.strip_prefix("lxc.payload.").and_then(|part| part.strip_prefix(name));
            rest.is_some_and(|rest| {
                rest.is_empty()
                    || rest.strip_prefix('-').is_some_and(|number| number.parse::<u32>().is_ok())
            })
        })?;
        Some(cgroup::prefix_through(&membership.path, at).to_vec())
    })
}

fn configured(look: &RecordReader<'_>, place: &Path, file: &str, found: &mut Vec<Record>) {
    let Some(dir) = look.read(look.host.state_dir(place)) else { return };
    for name in look.read(dir.names()).unwrap_or_default() {
        if let Some(file) = look.read(dir.read(format!("{name}/{file}"))) {
            let mut record = Record::new(EngineKind::Lxc, &name, &file);
            record.cgroup = Some(format!("/lxc.payload.{name}").into_bytes());
            named(&mut record, &place.to_string_lossy());
            found.push(record);
        }
    }
}

/// LXD and Incus put `PROJECT_` before the names of containers outside their default project.
fn named(record: &mut Record, place: &str) {
    record.name = Some(record.id.clone());
    if place.contains("lxd") || place.contains("incus") {
        let within = record.id.split_once('_').map(|(_, name)| name.to_owned());
        record.aliases.extend(within);
    }
}
