//! Standalone LXC, and LXD, which uses it: the configuration in `/var/lib/lxc/NAME/config`; everything else is
//! liblxc's (`lxc_monitor`).

use std::time::Duration;

use super::Engine;
use super::incus::INCUS;
use super::lxc_monitor::{CONFIGURATION, LxcUser, SAVED};
use super::record::{Record, RecordReader};
use crate::model::container::Container;
use crate::model::engine::{EngineAdvice, EngineCommands, EngineInfo};
use crate::model::process_config::ProcessConfig;
use crate::model::signal::Signal;
use crate::model::stop_policy::StopPolicy;
use crate::proc::Host;

/// The descriptor of LXC, and of LXD.
pub static LXC: EngineInfo = EngineInfo {
    name: "lxc",
    display_name: "LXC",
    keeps_records: false,
    same_cgroups: &[&INCUS],
    shims: &["lxc-start", "lxd", "[lxc monitor]*"],
    starters: &["lxc-start"],
    has_monitors: true,
    files: (
        "/var/lib/lxc/*/config, /var/log/lxd/*/lxc.conf",
        "LXC and LXD; ~/.local/share/lxc of users, and the directory that lxc.lxcpath names (lxc.system.conf(5)).",
    ),
    // LXD's.
    sockets: &["unix.socket"],
    // lxc.container.conf(5), lxc.signal.halt; see `LxcUser::stop_policy`.
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
    output_hint: "set `lxc.console.logfile` in its configuration; `lxc.log.file` has messages of LXC itself",
    start_hint: Some("`lxc-start <name>`, or the client that created it, starts it"),
    clients: &["lxc-ls", "lxc-info"],
    commands: EngineCommands::Table(&[
        ("attach", "lxc-console -n <name>"),
        ("pause", "lxc-freeze -n <name>"),
        ("restart", "lxc-stop -r -n <name>"),
        ("rm", "lxc-destroy -n <name>"),
        ("start", "lxc-start -n <name>"),
        ("wait", "lxc-wait -n <name> -s STOPPED"),
    ]),
    ..EngineInfo::DEFAULT
};

const USER: LxcUser = LxcUser {
    engine: &LXC,
    configurations: &[
        ("/var/lib/lxc", CONFIGURATION),
        ("/var/log/lxd", SAVED),
        ("/var/snap/lxd/common/lxd/logs", SAVED),
    ],
    below_home: Some((".local/share/lxc", CONFIGURATION)),
    settings: Some(("/etc/lxc/lxc.conf", ".config/lxc/lxc.conf")),
    uses: |directory| !directory.contains("incus"),
};

/// LXC and LXD.
pub struct Lxc;

impl Engine for Lxc {
    fn info(&self) -> &'static EngineInfo {
        &LXC
    }

    fn recognise(&self, component: &str, parent: &[&str]) -> Option<String> {
        // (The old form, which Proxmox VE still configures.)
        let below_lxc = || (parent == ["lxc"]).then(|| component.to_owned());
        LxcUser::recognise(component).or_else(below_lxc)
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
