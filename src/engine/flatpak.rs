//! Flatpak: `$XDG_RUNTIME_DIR/.flatpak/INSTANCE/` has the application's ID in `info`, and the PID of the init,
//! which bubblewrap wrote, in `bwrapinfo.json`.

use std::time::Duration;

use serde::Deserialize;

use super::Engine;
use super::record::{Record, RecordReader};
use crate::model::engine::EngineInfo;
use crate::model::pid::HostPid;
use crate::model::stop_policy::{StopPolicy, StopSignal, UnsignalledEffect, UnsignalledStop};
use crate::proc::StateDir;

/// The descriptor of Flatpak.
pub static FLATPAK: EngineInfo = EngineInfo {
    name: "flatpak",
    display_name: "Flatpak",
    files: ("/run/user/*/.flatpak", "Flatpak: running applications."),
    start_hint: Some("`flatpak run <name>` starts it"),
    ..EngineInfo::DEFAULT
};

/// Flatpak. The scope has the application's ID, and any program may have created it.
pub struct Flatpak;

impl Engine for Flatpak {
    fn info(&self) -> &'static EngineInfo {
        &FLATPAK
    }

    fn read_records(&self, reader: &RecordReader<'_>, records: &mut Vec<Record>) {
        for user in reader.users.iter().filter(|_| reader.defaults) {
            let path = user.runtime_dir.join(".flatpak");
            let Some(instances) = reader.read(reader.host.state_dir(path)) else { continue };
            for id in reader.read(instances.names()).unwrap_or_default() {
                records.extend(record(reader, &instances, &id));
            }
        }
    }
}

/// `bwrapinfo.json`, from `--info-fd` of bubblewrap.
#[derive(Deserialize)]
struct BwrapInfo {
    #[serde(rename = "child-pid")]
    child_pid: i32,
}

/// The stop of an instance.
const KILLS: UnsignalledStop = UnsignalledStop {
    reason: "`flatpak kill` ends it with KILL at once",
    effect: UnsignalledEffect::KillsAfter(Duration::ZERO),
};

fn record(reader: &RecordReader<'_>, instances: &StateDir<'_>, id: &str) -> Option<Record> {
    let info = reader.read(instances.read(format!("{id}/info")))?;
    let bwrap = reader.read(instances.read(format!("{id}/bwrapinfo.json")))?;
    let mut record = Record::new(&FLATPAK, id, &info);
    record.owner = record.owner.and(bwrap.owner);
    let text = String::from_utf8_lossy(&info.bytes);
    record.name = Some(value(&text, "Application", "name").unwrap_or(id).to_owned());
    record.image = value(&text, "Application", "runtime").map(str::to_owned);
    record.pid = HostPid::new(reader.read(bwrap.json::<BwrapInfo>())?.child_pid);
    record.stop = StopPolicy {
        signal: StopSignal::Unsignalled(KILLS),
        grace_unread: Some(KILLS.reason),
        ..StopPolicy::default()
    };
    Some(record)
}

/// Returns a value of a key file.
fn value<'a>(text: &'a str, section: &str, key: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) == Some(section))?;
    lines.take_while(|line| !line.starts_with('[')).find_map(|line| {
        let (found, value) = line.split_once('=')?;
        (found.trim() == key).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_looked_up_in_its_section() {
        let text =
            "[Instance]\nname=no\n\n[Application]\nname=org.gnome.Maps\nruntime = r\n[X]\nend=1\n";
        assert_eq!(value(text, "Application", "name"), Some("org.gnome.Maps"));
        assert_eq!(value(text, "Application", "runtime"), Some("r"));
        assert_eq!(value(text, "Application", "end"), None);
        assert_eq!(value(text, "None", "name"), None);
    }
}
