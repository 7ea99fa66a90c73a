//! Remarks of `inspect` on the dangers of a container and its deviations from its configuration; and THE
//! TABLE of their kinds, which the manual page reads.

use super::Inspection;
use super::mounts::{InspectedMount, MountKind};
use crate::analysis::own_changes::OwnChange;
use crate::analysis::wording::times;
use crate::model::byte_size::size;
use crate::model::bytes::message_text;
use crate::model::capability;
use crate::model::codes::codes;
use crate::model::process::Fact;
use crate::model::resource_config::ResourceConfig;
use crate::proc::LimitedValue;

codes! {
    /// THE TABLE of kinds of remarks. Their names are stable.
    RemarkCode:
    HostNamespace "host-namespace" "The container uses a namespace of the host.";
    AllCapabilities "all-capabilities" "The process has all capabilities on the host.";
    StrongCapability "strong-capability"
        "The process has a capability on the host with which it can leave the container.";
    NoSeccomp "no-seccomp" "No seccomp filter limits its system calls.";
    OomKills "oom-kills" "Processes of the container were OOM-killed.";
    EngineSocket "engine-socket"
        "The socket of a container engine is mounted: write access to it means root on the host.";
    HostRoot "host-root" "The host's root directory is mounted.";
    HostDirectory "host-directory" "A system directory of the host is mounted.";
    WritableSys "writable-sys" "The host's `/sys` is writable.";
    Differs "differs" "A limit or privilege differs from the configuration.";
    ChangedByInit "changed-by-init"
        "PID 1 has changed its own root, environment, limits or the like; `exec` and `cp` use the container's.";
}

/// A remark about one fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The key of the fact.
    pub about: &'static str,
    /// Its kind.
    pub code: RemarkCode,
    /// The remark, in a sentence.
    pub message: String,
}

/// Consequences of a namespace that is the host's, where there are any beyond its name.
const HOST_NAMESPACES: &[(&str, &str)] = &[
    ("mnt", "it sees the host's mounts"),
    ("pid", "it sees the host's processes and can signal those of its users"),
    ("net", "it uses the host's network: its ports, and services that listen on the host only"),
    ("ipc", "it shares memory and queues with the host's processes"),
    ("uts", "it sees the host name, and can set it with sys_admin"),
];

/// Capabilities that lead out of a container, and how.
const STRONG_CAPABILITIES: &[(&str, &str)] = &[
    ("sys_admin", "can mount file systems, change namespaces and much more"),
    ("sys_module", "can load kernel modules"),
    ("sys_rawio", "can access memory and disks directly"),
    ("sys_ptrace", "can read and write every process it sees"),
    ("dac_read_search", "can open any file of a mounted file system by its handle"),
    ("sys_boot", "can load another kernel (kexec)"),
    ("bpf", "can load BPF programs into the kernel"),
    ("perfmon", "can observe the kernel"),
    ("sys_time", "can set the host's clock"),
    ("mac_admin", "can change the policy of security modules"),
];

/// Directories of the host that hold its own configuration and state.
const HOST_DIRECTORIES: &[&[u8]] = &[
    b"/boot",
    b"/dev",
    b"/etc",
    b"/home",
    b"/proc",
    b"/root",
    b"/run",
    b"/sys",
    b"/usr",
    b"/var",
    b"/var/lib",
    b"/var/run",
];

/// Returns the remarks on a container; none on the host itself, and none on a sandbox, whose rights are not the
/// container's.
pub fn remarks(inspection: &Inspection) -> Vec<Remark> {
    if inspection.is_host || inspection.container.remark.is_some() {
        return Vec::new();
    }
    let mut remarks: Vec<Remark> = inspection.own_changes.iter().map(own_change_remark).collect();
    remarks.extend(namespace_remarks(inspection));
    remarks.extend(security_remarks(inspection));
    remarks.extend(resource_remarks(inspection));
    remarks.extend(mount_remarks(inspection));
    remarks
}

fn remark(about: &'static str, code: RemarkCode, message: impl Into<String>) -> Remark {
    Remark { about, code, message: message.into() }
}

fn own_change_remark(change: &OwnChange) -> Remark {
    remark("process", RemarkCode::ChangedByInit, format!("it {}", change.text))
}

fn differs(about: &'static str, configured: &str, config: &ResourceConfig) -> Remark {
    let message = format!("the configuration says {configured} ({})", config.source);
    remark(about, RemarkCode::Differs, message)
}

fn namespace_remarks(inspection: &Inspection) -> Vec<Remark> {
    let shared = HOST_NAMESPACES.iter().filter(|(kind, _)| inspection.shares_with_host(kind));
    let host_namespace = |(kind, consequence): &(&str, &str)| {
        let message = format!("{kind} namespace of the host: {consequence}");
        remark("namespaces", RemarkCode::HostNamespace, message)
    };
    shared.map(host_namespace).collect()
}

fn security_remarks(inspection: &Inspection) -> Vec<Remark> {
    let status = &inspection.process.facts.status;
    let mut remarks = Vec::new();
    // In a private user namespace capabilities do not reach the host.
    if inspection.shares_with_host("user") {
        if capability::summary(status.cap_eff) == "all" {
            let message = "all capabilities on the host: it can do what root can (`--privileged`)";
            remarks.push(remark("capabilities", RemarkCode::AllCapabilities, message));
        } else {
            let names = capability::names(status.cap_eff);
            let strong =
                STRONG_CAPABILITIES.iter().filter(|(name, _)| names.iter().any(|n| n == name));
            remarks.extend(strong.map(|(name, consequence)| {
                let message = format!("{name}: {consequence}");
                remark("capabilities", RemarkCode::StrongCapability, message)
            }));
        }
    }
    if status.seccomp == Some(0) {
        let message = "no filter: it can use all system calls";
        remarks.push(remark("seccomp", RemarkCode::NoSeccomp, message));
    }
    let Some(config) = inspection.config.as_ref().filter(|_| inspection.is_init) else {
        return remarks;
    };
    if config.seccomp == Some(true) && status.seccomp == Some(0) {
        remarks.push(differs("seccomp", "a filter", config));
    }
    if let (Some(configured), Some(actual)) = (config.no_new_privs, status.no_new_privs)
        && configured != actual
    {
        let configured = if configured { "no_new_privs on" } else { "no_new_privs off" };
        remarks.push(differs("no_new_privs", configured, config));
    }
    remarks
}

fn resource_remarks(inspection: &Inspection) -> Vec<Remark> {
    let usage = &inspection.facts.usage;
    let mut remarks = Vec::new();
    if let Fact::Known(kills @ 1..) = usage.oom_kills {
        let limit = usage.memory_limit.known().map(|limit| size(limit.most));
        let limit = limit.map_or_else(String::new, |limit| format!(" (limit {limit})"));
        let message = format!("OOM-killed {}{limit}", times(kills));
        remarks.push(remark("memory", RemarkCode::OomKills, message));
    }
    let Some(config) = &inspection.config else { return remarks };
    // The kernel counts memory in pages.
    let same_pages = |a: u64, b: u64| a.abs_diff(b) < 65_536;
    if let Some(memory) = differing(&usage.memory_limit, config.memory, same_pages) {
        remarks.push(differs("memory", &size(memory), config));
    }
    let same_cpus = |a: f64, b: f64| (a - b).abs() < 0.01;
    if let Some(cpus) = differing(&usage.cpu_limit, config.cpus, same_cpus) {
        remarks.push(differs("cpus", &cpus.to_string(), config));
    }
    if let Some(pids) = differing(&usage.pids_limit, config.pids, |a, b| a == b) {
        remarks.push(differs("pids", &pids.to_string(), config));
    }
    remarks
}

/// Returns the configured limit if it is not the one in force.
fn differing<T: Copy>(
    actual: &Fact<LimitedValue<T>>,
    configured: Option<T>,
    same: impl Fn(T, T) -> bool,
) -> Option<T> {
    match actual {
        Fact::Denied => None,
        Fact::Absent => configured,
        Fact::Known(actual) => configured.filter(|configured| !same(actual.most, *configured)),
    }
}

fn mount_remarks(inspection: &Inspection) -> Vec<Remark> {
    if inspection.shares_with_host("mnt") {
        return Vec::new();
    }
    let root = inspection.mounts.iter().find(|mount| mount.kind == MountKind::Root);
    let is_host_root = root.is_some_and(|root| root.host_path.as_deref() == Some(b"/"));
    let visible = inspection.mounts.iter().filter(|mount| !mount.removed);
    let mut remarks: Vec<Remark> =
        visible.filter_map(|mount| host_mount_remark(inspection, mount, is_host_root)).collect();
    let is_writable_sys = |mount: &&InspectedMount| {
        mount.point == b"/sys" && mount.fstype == b"sysfs" && !mount.read_only
    };
    // (With a private user namespace its files are still those of the host's root.)
    if inspection.shares_with_host("user") && inspection.mounts.iter().any(|m| is_writable_sys(&m))
    {
        let message = "/sys is writable: the container can configure devices and the kernel";
        remarks.push(remark("mounts", RemarkCode::WritableSys, message));
    }
    let read_only = inspection.config.as_ref().and_then(|config| Some((config.read_only?, config)));
    if let (Some(root), Some((configured, config))) = (root, read_only)
        && root.read_only != configured
    {
        let configured = if configured { "a read-only root" } else { "a writable root" };
        remarks.push(differs("mounts", configured, config));
    }
    remarks
}

/// Remarks on a mount of the host's files.
fn host_mount_remark(
    inspection: &Inspection,
    mount: &InspectedMount,
    is_host_root: bool,
) -> Option<Remark> {
    let host_path = mount.host_path.as_deref()?;
    let name = host_path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    let is_socket = inspection.engine_sockets.iter().any(|socket| socket.as_bytes() == name);
    let point = message_text(&mount.point);
    let read_only = if mount.read_only { ", read-only" } else { "" };
    let (code, message) = if is_socket {
        let message =
            format!("{point} is an engine's socket: write access to it means root on the host");
        (RemarkCode::EngineSocket, message)
    } else if host_path == b"/" {
        (RemarkCode::HostRoot, format!("{point} is the host's root directory{read_only}"))
    } else if !is_host_root
        && mount.kind == MountKind::Bind
        && HOST_DIRECTORIES.contains(&host_path)
    {
        let message = format!("{point} is the host's {}{read_only}", message_text(host_path));
        (RemarkCode::HostDirectory, message)
    } else {
        return None;
    };
    Some(remark("mounts", code, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_differs_unless_it_is_the_configured_one() {
        let actual = |most| Fact::Known(LimitedValue { most, source: String::new() });
        let same = |a, b| a == b;
        assert_eq!(differing(&actual(5), Some(5), same), None);
        assert_eq!(differing(&actual(5), None, same), None);
        assert_eq!(differing(&actual(5), Some(6), same), Some(6));
        assert_eq!(differing(&Fact::Absent, Some(6), same), Some(6));
        assert_eq!(differing(&Fact::Denied, Some(6), same), None);
    }
}
