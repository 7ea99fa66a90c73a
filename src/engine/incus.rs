//! Incus, which runs its containers through liblxc (`lxc_monitor`): the configuration of each start is in
//! `/run/incus/NAME/lxc.conf`. Names outside the default project are `PROJECT_NAME`.

use std::time::Duration;

use super::Engine;
use super::lxc_monitor::{LxcUser, SAVED};
use super::record::{Record, RecordReader};
use crate::model::container::Container;
use crate::model::engine::{EngineAdvice, EngineCommands, EngineInfo};
use crate::model::process_config::ProcessConfig;
use crate::model::signal::Signal;
use crate::model::stop_policy::StopPolicy;
use crate::proc::Host;

/// The descriptor of Incus.
pub static INCUS: EngineInfo = EngineInfo {
    name: "incus",
    display_name: "Incus",
    keeps_records: false,
    shims: &["incusd", "[lxc monitor]*"],
    has_monitors: true,
    files: ("/run/incus/*/lxc.conf, /var/log/incus/*/lxc.conf", "Incus."),
    sockets: &["unix.socket"],
    // liblxc's; see `LxcUser::stop_policy`.
    stop_signal: Signal::PWR,
    advice: &EngineAdvice {
        exec_form: "set `raw.lxc` to `lxc.init.cmd = ` and the program itself",
        init: "`lxc.init.cmd = /usr/bin/tini -- program` in `raw.lxc`",
        stop_signal: Some("set `raw.lxc` to `lxc.signal.halt = SIGNAL_NAME`"),
        grace: Some("use `incus stop --timeout`"),
        unpause: Some("incus resume <name>"),
    },
    grace_time: Duration::from_secs(60),
    start_hint: Some("`incus start <name>` starts it; `incus file` copies its files"),
    keep_stopped: "use `incus stop`",
    clients: &["incus", "lxc"],
    commands: EngineCommands::Table(&[
        ("attach", "incus console <name>"),
        ("images", "incus image list"),
        ("pause", "incus pause <name>"),
        ("restart", "incus restart <name>"),
        ("rm", "incus delete <name>"),
        ("start", "incus start <name>"),
    ]),
    ..EngineInfo::DEFAULT
};

const USER: LxcUser = LxcUser {
    engine: &INCUS,
    configurations: &[("/run/incus", SAVED), ("/var/log/incus", SAVED)],
    below_home: None,
    settings: None,
    uses: |directory| directory.contains("incus"),
};

/// Incus. Its cgroups have the same names as those of LXC, which recognises them.
pub struct Incus;

impl Engine for Incus {
    fn info(&self) -> &'static EngineInfo {
        &INCUS
    }

    fn read_records(&self, reader: &RecordReader<'_>, records: &mut Vec<Record>) {
        USER.read_records(reader, records);
    }

    fn stop_policy(&self, host: &Host, container: &Container) -> StopPolicy {
        USER.stop_policy(host, container)
    }

    fn process_config(&self, host: &Host, container: &Container) -> Option<ProcessConfig> {
        USER.process_config(host, container)
    }
}
