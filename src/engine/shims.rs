//! The processes whose argument vector or working directory leads to records in places no engine has
//! by default: among all processes, or above an init that nothing explains. A process inside of a
//! container is nobody's monitor to us, whatever it calls itself.

use std::path::PathBuf;

use super::record::Shim;
use crate::model::pid::HostPid;
use crate::model::process::Fact;
use crate::proc::{CommandLimit, Host, SnapshotOptions, Survey, Trust};

/// Names of the programs whose argv leads to records, as far as comm has room for them.
const MONITORS: &[&str] = &[
    "conmon",
    "containerd",
    "crun",
    "dockerd",
    "lxc-start",
    "lxd",
    "incusd",
    "runc",
    "runc:[2:INIT]",
    "systemd-nspawn",
    "youki",
];

fn is_monitor(comm: &[u8]) -> bool {
    comm.starts_with(b"containerd-shim")
        || comm.starts_with(b"[lxc monitor]")
        || MONITORS.iter().any(|name| name.as_bytes() == comm)
}

/// The monitors among all processes.
pub(super) fn monitors_in(host: &Host, survey: &Survey) -> Vec<Shim> {
    let chosen: Vec<HostPid> = survey
        .residents
        .iter()
        .filter(|resident| is_monitor(&resident.comm))
        .map(|resident| resident.id.pid)
        .collect();
    let mut monitors = read_monitors(host, &chosen);
    for monitor in &mut monitors {
        let own = survey.residents.iter().find(|resident| resident.id.pid == monitor.pid);
        let own = own.and_then(|resident| resident.pid_ns);
        let child = survey.residents.iter().find(|resident| {
            resident.parent == monitor.pid.get() && resident.pid_ns != own && !resident.zombie
        });
        monitor.child = child.map(|resident| resident.id.pid);
    }
    monitors
}

/// The parents of these processes, and theirs: a shim, conmon, nspawn or the LXC monitor is one step
/// away, a runtime in the foreground two.
pub(super) fn monitors_above(host: &Host, inits: &[HostPid]) -> Vec<Shim> {
    let mut above: Vec<(HostPid, HostPid)> = Vec::new();
    for init in inits {
        let mut child = *init;
        for _ in 0..3 {
            let Ok(stat) = host.stat(child) else { break };
            let Some(parent) = HostPid::new(stat.ppid).filter(|parent| parent.get() > 1) else {
                break;
            };
            if above.iter().all(|(known, _)| *known != parent) {
                above.push((parent, child));
            }
            child = parent;
        }
    }
    let parents: Vec<HostPid> = above.iter().map(|(parent, _)| *parent).collect();
    let mut monitors = read_monitors(host, &parents);
    for monitor in &mut monitors {
        monitor.child =
            above.iter().find(|(parent, _)| *parent == monitor.pid).map(|(_, child)| *child);
    }
    monitors
}

fn read_monitors(host: &Host, pids: &[HostPid]) -> Vec<Shim> {
    let facts = SnapshotOptions { command: CommandLimit::SCREEN, ..SnapshotOptions::BARE };
    host.snapshot(pids, facts)
        .into_iter()
        .flatten()
        .filter_map(|process| {
            let Fact::Known(command) = process.command else { return None };
            let pid = process.id.pid;
            let owner = host.trust_of_process(pid);
            if owner == Trust::Untrusted {
                return None;
            }
            let cwd = host.link(pid, "cwd").ok().and_then(|path| String::from_utf8(path).ok());
            Some(Shim {
                pid,
                owner,
                argv: command
                    .argv()
                    .map(|argument| String::from_utf8(argument.to_vec()).unwrap_or_default())
                    .collect(),
                cwd: cwd.map(PathBuf::from),
                child: None,
            })
        })
        .collect()
}
