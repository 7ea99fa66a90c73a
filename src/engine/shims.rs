//! Shims: daemons, monitors and runtimes in the foreground, whose arguments or working directory lead
//! to records outside the engines' default directories. Found among all processes, or above an init
//! that no record explains. A process in a container is never a shim, whatever its name.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::ENGINES;
use super::cgroup_name::is_long_id;
use super::inventory::Inventory;
use super::record::Shim;
use crate::model::container::Container;
use crate::model::engine::EngineInfo;
use crate::model::pid::HostPid;
use crate::model::process::Fact;
use crate::model::stat::Stat;
use crate::proc::{CommandLimit, Host, SnapshotOptions, Survey, Trust, parallel_map};

/// Generations above an init that are searched: a shim, conmon, nspawn or the LXC monitor is its
/// parent, a runtime in the foreground its grandparent.
const GENERATIONS: usize = 3;

/// Limit of a shim's argv: systemd-nspawn may have hundreds of mounts in it.
const LONGEST_ARGV: CommandLimit = CommandLimit::Bytes(256 << 10);

/// Returns the engines whose shims have this name (`comm`).
fn engines_of_shim(comm: &[u8]) -> impl Iterator<Item = &'static EngineInfo> {
    let matches = move |name: &str| match name.strip_suffix('*') {
        Some(prefix) => comm.starts_with(prefix.as_bytes()),
        None => comm == name.as_bytes(),
    };
    let engines = ENGINES.iter().map(|engine| engine.info());
    engines.filter(move |engine| engine.shims.iter().any(|name| matches(name)))
}

/// Whether a process with this name is an engine's shim.
fn is_shim(comm: &[u8]) -> bool {
    engines_of_shim(comm).next().is_some()
}

/// Whether a process is an engine's own, that has not executed the container's program yet. (A program in the container
/// may have the name too, but it was executed.)
pub fn is_starter(stat: &Stat) -> bool {
    let mut starters = ENGINES.iter().flat_map(|engine| engine.info().starters);
    !stat.has_executed() && starters.any(|name| name.as_bytes() == stat.comm)
}

/// A process of the host that has the name of a shim, and is not read yet.
pub(super) struct NamedShim<'s> {
    pub pid: HostPid,
    pub name: &'s [u8],
    /// Whether it is the monitor of a container, whose record it is.
    pub is_monitor: bool,
}

/// Finds the processes that have the name of a shim.
pub(super) fn named_shims(survey: &Survey) -> Vec<NamedShim<'_>> {
    // (A process in another PID namespace is not trusted as a shim: its name was not read.)
    let named = survey.processes.iter().filter_map(|process| {
        let name = process.comm.as_ref()?;
        let mut engines = engines_of_shim(name).peekable();
        engines.peek()?;
        let is_monitor = engines.any(|engine| engine.has_monitors);
        Some(NamedShim { pid: process.pid, name, is_monitor })
    });
    named.collect()
}

/// Reads processes of a survey that have the name of a shim.
pub(super) fn read_named_shims(host: &Host, survey: &Survey, named: &[NamedShim<'_>]) -> Vec<Shim> {
    let pids: Vec<HostPid> = named.iter().map(|shim| shim.pid).collect();
    let mut shims = read_shims(host, &pids);
    let monitors = named.iter().filter(|shim| shim.is_monitor).map(|shim| shim.pid);
    let monitors: HashSet<HostPid> = monitors.collect();
    if shims.iter().any(|shim| monitors.contains(&shim.pid)) {
        let children = children(host, survey);
        for shim in shims.iter_mut().filter(|shim| monitors.contains(&shim.pid)) {
            shim.child = children.get(&shim.pid.get()).copied();
        }
    }
    shims
}

/// Returns the first child of each process that is in another PID namespace than the host's.
fn children(host: &Host, survey: &Survey) -> HashMap<i32, HostPid> {
    let others = survey.processes.iter().filter(|process| process.pid_ns != host.pid_ns);
    let others: Vec<HostPid> = others.map(|process| process.pid).collect();
    let stats = parallel_map(&others, |pid| host.stat(*pid));
    let mut children = HashMap::new();
    for (pid, stat) in others.into_iter().zip(stats) {
        if let Ok(stat) = stat
            && !stat.state.is_zombie()
        {
            children.entry(stat.ppid).or_insert(pid);
        }
    }
    children
}

/// Reads the ancestors of these processes as shims, whatever their names.
pub(super) fn shims_above(host: &Host, inits: &[HostPid]) -> Vec<Shim> {
    let mut above: Vec<(HostPid, HostPid)> = Vec::new();
    for init in inits {
        let mut child = *init;
        for _ in 0..GENERATIONS {
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
    let mut shims = read_shims(host, &parents);
    for shim in &mut shims {
        shim.child = above.iter().find(|(parent, _)| *parent == shim.pid).map(|(_, child)| *child);
    }
    shims
}

fn read_shims(host: &Host, pids: &[HostPid]) -> Vec<Shim> {
    let options = SnapshotOptions { command: LONGEST_ARGV, ..SnapshotOptions::BARE };
    host.snapshot(pids, options)
        .into_iter()
        .flatten()
        .filter_map(|process| {
            let Fact::Known(command) = &process.command else { return None };
            // (A part of it could mislead: the last of several options counts.)
            if command.cut {
                return None;
            }
            let pid = process.id.pid;
            let owner = host.trust_of(&process);
            if owner == Trust::Untrusted {
                return None;
            }
            let cwd = host.link(pid, "cwd").ok().and_then(|path| String::from_utf8(path).ok());
            let argv = command.argv();
            Some(Shim {
                pid,
                owner,
                argv: argv.map(|arg| String::from_utf8(arg.to_vec()).unwrap_or_default()).collect(),
                cwd: cwd.map(PathBuf::from),
                child: None,
            })
        })
        .collect()
}

/// Returns the containers that a process of the host runs, as the parent of their init or by the ID in its
/// arguments.
pub fn containers_of_shim<'a>(
    host: &Host,
    inventory: &'a Inventory,
    pid: HostPid,
) -> Vec<&'a Container> {
    let is_known = host.stat(pid).is_ok_and(|stat| is_shim(&stat.comm));
    let shim = if is_known { read_shims(host, &[pid]).pop() } else { None };
    let has_id = |container: &Container| {
        let id = container.id.as_ref().filter(|id| is_long_id(id));
        id.is_some_and(|id| shim.as_ref().is_some_and(|shim| shim.argv.contains(id)))
    };
    let is_parent = |container: &Container| {
        let init = container.init_pid().and_then(|init| host.stat(init).ok());
        pid.get() > 1 && init.is_some_and(|init| init.ppid == pid.get())
    };
    inventory.containers.iter().filter(|c| has_id(c) || is_parent(c)).collect()
}

/// Whether a process of the host with this name is the shim or monitor of a container: as the parent of its
/// init, or by the ID in its arguments.
pub fn is_shim_of(
    host: &Host,
    container: &Container,
    pid: HostPid,
    comm: &[u8],
    is_parent_of_init: bool,
) -> bool {
    let has_id = || {
        let id = container.id.as_ref().filter(|id| is_long_id(id));
        id.is_some_and(|id| read_shims(host, &[pid]).iter().any(|shim| shim.argv.contains(id)))
    };
    is_shim(comm) && (is_parent_of_init || has_id())
}

/// Returns the sandbox that a runtime or shim of this name or path starts: gVisor's kernel, Kata's
/// virtual machine.
pub(super) fn sandbox_of(name: &str) -> Option<&'static str> {
    let name = name.rsplit('/').next().unwrap_or(name);
    if name.contains("runsc") || name.contains("gvisor") {
        Some("gVisor")
    } else if name.contains("kata") {
        Some("Kata")
    } else {
        None
    }
}

/// Returns the sandbox whose kernel an init is, whatever the engine calls its runtime: it runs a program of the
/// host. (A program of this name in a container's own root is another file.)
pub(super) fn sandbox_of_init(host: &Host, pid: HostPid, comm: &[u8]) -> Option<&'static str> {
    // gVisor executes itself again by `/proc/self/exe`. Other inits cost no system call.
    if comm != b"exe" {
        return None;
    }
    let exe = PathBuf::from(OsString::from_vec(host.link(pid, "exe").ok()?));
    let sandbox = sandbox_of(exe.to_str()?)?;
    let installed = host.state_dir(exe.parent()?).ok()?.open_payload(exe.file_name()?).ok()?;
    let installed = File::from(installed).metadata().ok()?;
    let running = std::fs::metadata(host.proc_path(format!("{pid}/exe"))).ok()?;
    let is_same = (installed.dev(), installed.ino()) == (running.dev(), running.ino());
    is_same.then_some(sandbox)
}
