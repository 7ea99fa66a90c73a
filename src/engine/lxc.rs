//! LXC, LXD and Incus: the cgroup is `lxc.payload.NAME`, the monitor's title is
//! `[lxc monitor] PATH NAME`, and its child is the init. No file holds the PID, and the command
//! socket is not asked: any process can listen on that abstract name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Engine;
use super::lxc_config::{self, Unread};
use super::record::{Record, RecordReader};
use crate::model::cgroup;
use crate::model::container::Container;
use crate::model::engine::{EngineAdvice, EngineInfo};
use crate::model::pid::HostPid;
use crate::model::signal::Signal;
use crate::model::stop_policy::StopPolicy;
use crate::proc::{Host, ReadError};

/// The descriptor of LXC, and of LXD and Incus, which use it.
pub static LXC: EngineInfo = EngineInfo {
    name: "lxc",
    display_name: "LXC",
    keeps_records: false,
    shims: &["lxc-start", "lxd", "incusd", "[lxc monitor]*"],
    files: (
        "/var/lib/lxc/*/config, /run/incus, /var/log/incus, /var/log/lxd",
        "LXC, Incus and LXD; ~/.local/share/lxc of users.",
    ),
    // LXD's and Incus'.
    sockets: &["unix.socket"],
    // lxc.container.conf(5), lxc.signal.halt; see `stop_policy`.
    stop_signal: Signal::PWR,
    advice: &EngineAdvice {
        exec_form: "set `lxc.init.cmd` in its configuration to the program itself",
        init: "`lxc.init.cmd = /usr/bin/tini -- program`",
        stop_signal: Some("set `lxc.signal.halt = SIGNAL_NAME` in its configuration"),
        grace: Some("use `lxc-stop -t`"),
        unpause: Some("lxc-unfreeze -n <name>"),
    },
    // lxc-stop(1).
    grace_time: Duration::from_secs(60),
    start_hint: Some("`lxc-start NAME`, or the client that created it, starts it"),
    ..EngineInfo::DEFAULT
};

/// Name of the configuration that LXD and Incus write.
const SAVED: &str = "lxc.conf";

/// Directories with a container's configuration, and the name of its file.
const CONFIGURATIONS: &[(&str, &str)] = &[
    ("/var/lib/lxc", "config"),
    ("/run/incus", SAVED),
    ("/var/log/incus", SAVED),
    ("/var/log/lxd", SAVED),
    ("/var/snap/lxd/common/lxd/logs", SAVED),
];

/// LXC, LXD and Incus.
pub struct Lxc;

impl Engine for Lxc {
    fn info(&self) -> &'static EngineInfo {
        &LXC
    }

    fn recognise(&self, component: &str, parent: &[&str]) -> Option<String> {
        let old_style = || (parent == ["lxc"]).then_some(component);
        let name = component.strip_prefix("lxc.payload.").or_else(old_style)?;
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn read_records(&self, reader: &RecordReader<'_>, records: &mut Vec<Record>) {
        if reader.defaults {
            for (directory, file_name) in CONFIGURATIONS {
                read_configurations(reader, Path::new(directory), file_name, records);
            }
            for home in reader.users.iter().filter_map(|user| user.home.as_ref()) {
                read_configurations(reader, &home.join(".local/share/lxc"), "config", records);
            }
        }
        for monitor in reader.shims {
            let Some(title) = monitor.argv.first() else { continue };
            let Some((path, name)) = monitored(title) else { continue };
            let mut record = Record::of_child(&LXC, name, monitor);
            record.cgroup = monitor.child.and_then(|init| payload(reader, init, name));
            set_names(&mut record, path);
            records.push(record);
        }
    }

    /// As lxc-stop does (lxccontainer.c, do_lxcapi_shutdown): the configured signal, or RTMIN+3 for an
    /// init that blocks it, as systemd does. It looks at `SigBlk`, which does not have the signals that
    /// a thread is waiting for in sigwait.
    fn stop_policy(&self, host: &Host, container: &Container) -> StopPolicy {
        let path = configuration(host, container);
        let is_a_daemons = path.as_ref().is_none_or(|path| path.ends_with(SAVED));
        let configured = path.map_or(Err(Unread), |path| lxc_config::halt_signal(host, &path));
        let status = container.init.and_then(|init| host.status(init.pid).ok());
        let blocks = status.is_some_and(|status| status.sig_blk.contains(Signal::RTMIN_3));
        StopPolicy {
            signal: configured.unwrap_or_default(),
            signal_for_init: blocks.then_some(Signal::RTMIN_3),
            signal_unread: configured.is_err().then_some("its configuration could not be read"),
            grace_unread: is_a_daemons
                .then_some("LXD and Incus take it from the client that stops a container"),
            ..StopPolicy::default()
        }
    }
}

/// Returns the configuration of a container: its record, or the one below the path in the title of its
/// monitor, or else the one in LXC's default directory.
fn configuration(host: &Host, container: &Container) -> Option<PathBuf> {
    let Some(record) = &container.record else {
        return Some(format!("/var/lib/lxc/{}/config", container.name.as_ref()?).into());
    };
    if !record.starts_with("/proc") {
        return Some(record.clone());
    }
    let monitor: HostPid = record.parent()?.file_name()?.to_str()?.parse().ok()?;
    let cmdline = host.proc_file(monitor, "cmdline", 4096).ok()?;
    let title = cmdline.split(|byte| *byte == 0).next()?;
    let (path, name) = monitored(std::str::from_utf8(title).ok()?)?;
    if !is_a_daemons(path) {
        return Some(Path::new(path).join(name).join("config"));
    }
    // LXD and Incus write the configuration for each start, to one of these.
    let mut saved = CONFIGURATIONS
        .iter()
        .filter(|(_, file_name)| *file_name == SAVED)
        .map(|(directory, file_name)| Path::new(directory).join(name).join(file_name));
    saved.find(|path| !matches!(host.state_file(path), Err(ReadError::Gone)))
}

/// Whether LXD or Incus uses a directory, and not LXC's own commands.
fn is_a_daemons(directory: &str) -> bool {
    directory.contains("lxd") || directory.contains("incus")
}

/// Parses the title of a monitor: the path and the name of its container.
fn monitored(title: &str) -> Option<(&str, &str)> {
    title.strip_prefix("[lxc monitor] ")?.rsplit_once(' ')
}

/// Returns the cgroup of a monitor's child: `lxc.payload.NAME`, with `-1` and so on appended if that
/// existed already (lxc.container.conf(5)), wherever the caller was allowed to create it.
fn payload(reader: &RecordReader<'_>, init: HostPid, name: &str) -> Option<Vec<u8>> {
    let memberships = reader.host.memberships(init).ok()?;
    memberships.by_preference().find_map(|membership| {
        let index = cgroup::components(&membership.path).position(|part| {
            let part = std::str::from_utf8(part).unwrap_or_default();
            let rest = part.strip_prefix("lxc.payload.").and_then(|part| part.strip_prefix(name));
            rest.is_some_and(|rest| {
                rest.is_empty()
                    || rest.strip_prefix('-').is_some_and(|number| number.parse::<u32>().is_ok())
            })
        })?;
        Some(cgroup::prefix_through(&membership.path, index).to_vec())
    })
}

fn read_configurations(
    reader: &RecordReader<'_>,
    directory: &Path,
    file_name: &str,
    records: &mut Vec<Record>,
) {
    let Some(dir) = reader.read(reader.host.state_dir(directory)) else { return };
    for name in reader.read(dir.names()).unwrap_or_default() {
        if let Some(file) = reader.read(dir.read(format!("{name}/{file_name}"))) {
            let mut record = Record::new(&LXC, &name, &file);
            record.cgroup = Some(format!("/lxc.payload.{name}").into_bytes());
            set_names(&mut record, &directory.to_string_lossy());
            records.push(record);
        }
    }
}

/// Sets name and alias. LXD and Incus put `PROJECT_` before the names of containers outside their
/// default project.
fn set_names(record: &mut Record, directory: &str) {
    record.name = Some(record.id.clone());
    if is_a_daemons(directory) {
        let in_project = record.id.split_once('_').map(|(_, name)| name.to_owned());
        record.aliases.extend(in_project);
    }
}
