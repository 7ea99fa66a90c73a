//! What a container shares with its host and with others, what of the host it can reach, and where
//! it is not what it was configured to be. Pure: facts in, answers out.

use std::borrow::Cow;

use jiff::Timestamp;

use super::container_process::ContainerProcess;
use super::delivery::Prediction;
use crate::model::capability;
use crate::model::container::Container;
use crate::model::mount::{Mount, Mounts};
use crate::model::namespace::{NamespaceId, NamespaceKind};
use crate::model::process::Fact;
use crate::model::resource_config::ResourceConfig;
use crate::model::signal::Signal;
use crate::model::stop_policy::StopPolicy;
use crate::proc::{InspectFacts, LimitedValue};

/// Everything that is known of one container, by way of one process of it.
#[derive(Debug)]
pub struct Inspection<'a> {
    /// The host's name.
    pub host: &'a str,
    /// The container.
    pub container: &'a Container,
    /// The process that was read: its init, or the one that was asked for.
    pub member: &'a ContainerProcess,
    /// Whether that is the init.
    pub is_init: bool,
    /// Whether it is no container at all, but the host itself.
    pub is_host: bool,
    /// When that was.
    pub now: Timestamp,
    /// How many processes there are; none when they could not be counted.
    pub processes: Option<usize>,
    /// How it is stopped.
    pub plan: &'a StopPolicy,
    /// The stop signal and what it would do to the process.
    pub on_stop: (Signal, &'a Prediction),
    /// What was read of the process.
    pub sheet: &'a InspectFacts,
    /// What was configured, where that is written down.
    pub configured: Option<&'a ResourceConfig>,
    /// Its namespaces.
    pub namespaces: Vec<Namespace>,
    /// Its mounts.
    pub mounts: Vec<InspectedMount>,
    /// File names of the sockets through which engines take commands.
    pub engine_sockets: Vec<&'static str>,
}

/// Whose a namespace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceSharing {
    /// Its own.
    Own,
    /// The host's.
    Hosts,
    /// These containers are in it too, by their qualified names.
    With(Vec<String>),
    /// It could not be read.
    Unknown,
}

/// A namespace the process is in.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Of what.
    pub kind: NamespaceKind,
    /// Which.
    pub id: Fact<NamespaceId>,
    /// Whose.
    pub whose: NamespaceSharing,
}

/// The namespaces of another container's init.
#[derive(Clone, Debug)]
pub struct OtherContainer {
    /// Its qualified name.
    pub name: String,
    /// In the order of the table.
    pub namespaces: Vec<Fact<NamespaceId>>,
}

/// Tells whose each namespace is.
pub fn namespaces(sheet: &InspectFacts, neighbours: &[OtherContainer]) -> Vec<Namespace> {
    let each = sheet.namespaces.iter().enumerate();
    each.filter(|(_, (_, id, _))| *id != Fact::Absent)
        .map(|(at, (kind, id, host))| {
            let shared = || -> Vec<String> {
                let is_in = |other: &&OtherContainer| other.namespaces.get(at) == Some(id);
                neighbours.iter().filter(is_in).map(|other| other.name.clone()).collect()
            };
            let whose = match (id, host) {
                (Fact::Known(own), Fact::Known(host)) if own == host => NamespaceSharing::Hosts,
                (Fact::Known(_), Fact::Known(_)) => match shared() {
                    none if none.is_empty() => NamespaceSharing::Own,
                    names => NamespaceSharing::With(names),
                },
                _ => NamespaceSharing::Unknown,
            };
            Namespace { kind: *kind, id: id.clone(), whose }
        })
        .collect()
}

/// What a mount is to the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// Its root.
    Root,
    /// A folder or file of the host's.
    Bind,
    /// A file system of its own.
    Storage,
    /// What comes with a folder of the host's that is mounted above it.
    Inner,
    /// The kernel's own files, and devices.
    Kernel,
    /// What every engine puts there.
    Engine,
}

impl MountKind {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Bind => "bind",
            Self::Storage => "storage",
            Self::Inner => "inner",
            Self::Kernel => "kernel",
            Self::Engine => "engine",
        }
    }
}

/// A mount of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedMount {
    /// Where.
    pub point: Vec<u8>,
    /// What it is.
    pub kind: MountKind,
    /// The file system's type.
    pub fstype: Vec<u8>,
    /// What is mounted, as the mounter named it.
    pub source: Vec<u8>,
    /// Where the same files are on the host, as far as its mounts tell.
    pub from: Option<Vec<u8>>,
    /// The volume of an engine that it is.
    pub volume: Option<Vec<u8>>,
    /// Whether nothing can be written through it.
    pub read_only: bool,
    /// Whether what is mounted has been removed on the host.
    pub removed: bool,
}

/// File systems whose files the kernel makes up.
const KERNEL: &[&[u8]] = &[
    b"autofs",
    b"binfmt_misc",
    b"bpf",
    b"cgroup",
    b"cgroup2",
    b"configfs",
    b"debugfs",
    b"devpts",
    b"devtmpfs",
    b"efivarfs",
    b"fusectl",
    b"hugetlbfs",
    b"mqueue",
    b"nsfs",
    b"proc",
    b"pstore",
    b"rpc_pipefs",
    b"securityfs",
    b"sysfs",
    b"tracefs",
];

/// Files that every engine puts there.
const ENGINES_OWN: &[&[u8]] =
    &[b"/etc/hosts", b"/etc/hostname", b"/etc/resolv.conf", b"/run/.containerenv", b"/.dockerenv"];

/// The mounts of a container, the topmost at each point, as the host knows them.
pub fn mounts(own: &[u8], hosts: &[u8]) -> Vec<InspectedMount> {
    let hosts: Vec<Mount<'_>> = Mounts::new(hosts).collect();
    let mut seen: Vec<InspectedMount> = Vec::new();
    let mut at = std::collections::HashMap::new();
    for mount in Mounts::new(own) {
        let one = see(&mount, &hosts);
        match at.entry(one.point.clone()) {
            std::collections::hash_map::Entry::Occupied(known) => seen[*known.get()] = one,
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(seen.len());
                seen.push(one);
            }
        }
    }
    let binds: Vec<(Vec<u8>, Vec<u8>)> = seen
        .iter()
        .filter(|mount| mount.kind == MountKind::Bind)
        .filter_map(|mount| Some((mount.point.clone(), mount.from.clone()?)))
        .collect();
    for mount in &mut seen {
        let comes_with = |(point, from): &(Vec<u8>, Vec<u8>)| {
            let rest = mount.point.strip_prefix(point.as_slice());
            let rest = rest.filter(|rest| rest.starts_with(b"/"));
            // (Of the host's whole tree everything comes with it, whoever mounted it there.)
            rest.is_some_and(|rest| {
                from == b"/" || mount.from.as_deref() == Some(&[from.as_slice(), rest].concat())
            })
        };
        let found = matches!(mount.kind, MountKind::Bind | MountKind::Storage)
            && binds.iter().any(comes_with);
        if found {
            mount.kind = MountKind::Inner;
        }
    }
    seen
}

fn see(mount: &Mount<'_>, hosts: &[Mount<'_>]) -> InspectedMount {
    let point = mount.point.to_vec();
    let below = |top: &[u8]| is_below(&point, top);
    // (As `d_path` ends the path of what has been removed, fs/d_path.c.)
    let removed = mount.root.strip_suffix(b"//deleted");
    let from = on_host(mount.device, removed.unwrap_or(&mount.root), hosts);
    let is_root = point == b"/";
    let kernel = KERNEL.contains(&&*mount.fstype)
        || [&b"/proc"[..], b"/sys", b"/dev"].into_iter().any(below);
    let kind = match () {
        () if is_root => MountKind::Root,
        () if kernel => MountKind::Kernel,
        () if ENGINES_OWN.contains(&point.as_slice()) => MountKind::Engine,
        () if from.is_some() => MountKind::Bind,
        () => MountKind::Storage,
    };
    let volume = from.as_deref().filter(|_| kind == MountKind::Bind).and_then(volume);
    InspectedMount {
        point,
        kind,
        fstype: mount.fstype.to_vec(),
        source: mount.source.to_vec(),
        from,
        volume,
        read_only: mount.read_only,
        removed: removed.is_some(),
    }
}

/// Where on the host the files of a mount are: the shortest path by which the host's mounts of the same
/// device lead there, of those that nothing is mounted over. (Whoever has mounted the root once more
/// somewhere else has not moved it.) None for a file system that the host has not mounted.
fn on_host(device: &[u8], root: &[u8], hosts: &[Mount<'_>]) -> Option<Vec<u8>> {
    let path = |host: &Mount<'_>| {
        let rest = root.get(host.root.len()..).unwrap_or_default();
        let path = [trimmed(&host.point), b"/", trimmed_start(rest)].concat();
        if path.len() > 1 { trimmed(&path).to_vec() } else { path }
    };
    let shows = |host: &&Mount<'_>| host.device == device && is_below(root, &host.root);
    let leads = |path: &[u8], by: &Mount<'_>| {
        let above = hosts.iter().filter(|host| is_below(path, &host.point));
        // Of several at the longest point the last is on top.
        above.max_by_key(|host| trimmed(&host.point).len()).is_some_and(|top| top.id == by.id)
    };
    let all = || hosts.iter().filter(shows).map(|host| (path(host), host));
    let free = all().filter(|(path, host)| leads(path, host)).min_by_key(|(path, _)| path.len());
    free.or_else(|| all().min_by_key(|(path, _)| path.len())).map(|(path, _)| path)
}

/// `…/volumes/NAME/_data`, as Docker and Podman lay volumes out.
fn volume(path: &[u8]) -> Option<Vec<u8>> {
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
    let at = parts.windows(3).position(|w| w[0] == b"volumes" && w[2] == b"_data")?;
    Some(parts[at + 1].to_vec())
}

fn is_below(path: &[u8], top: &[u8]) -> bool {
    let top = trimmed(top);
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn trimmed(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

fn trimmed_start(path: &[u8]) -> &[u8] {
    path.strip_prefix(b"/").unwrap_or(path)
}

/// Something that whoever looks should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The fact that it is about, by its key.
    pub about: &'static str,
    /// What kind, in a word that stays.
    pub code: &'static str,
    /// What is so, in a sentence.
    pub message: String,
}

/// What a namespace of the host's gives, where that is more than its name.
const SHARED: &[(&str, &str)] = &[
    ("mnt", "it sees the host's mounts"),
    ("pid", "it sees the host's processes, and may signal those of its users"),
    ("net", "it uses the host's network: its ports, and what listens on the host alone"),
    ("ipc", "it shares memory and queues with the host's processes"),
    ("uts", "it sees the host's name, and with sys_admin can set it"),
];

/// Capabilities that lead out of a container, and how.
const STRONG: &[(&str, &str)] = &[
    ("sys_admin", "mounts, namespaces and most else"),
    ("sys_module", "loads kernel modules"),
    ("sys_rawio", "reaches memory and disks below the kernel"),
    ("sys_ptrace", "reads and writes every process it sees"),
    ("dac_read_search", "opens any file of a mounted file system by its handle"),
    ("sys_boot", "loads another kernel (kexec)"),
    ("bpf", "loads programs into the kernel"),
    ("perfmon", "watches the kernel"),
    ("sys_time", "sets the host's clock"),
    ("mac_admin", "changes what security modules allow"),
];

/// Folders of the host's in which it keeps itself.
const HOSTS_OWN: &[&[u8]] = &[
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

/// What is dangerous in it, and what is not as it was configured.
pub fn remarks(portrait: &Inspection<'_>) -> Vec<Remark> {
    let mut remarks = Vec::new();
    if portrait.is_host {
        return remarks;
    }
    shared(portrait, &mut remarks);
    rights(portrait, &mut remarks);
    resources(portrait, &mut remarks);
    reach(portrait, &mut remarks);
    remarks
}

fn remark(about: &'static str, code: &'static str, message: impl Into<String>) -> Remark {
    Remark { about, code, message: message.into() }
}

fn is_hosts(portrait: &Inspection<'_>, kind: &str) -> bool {
    portrait
        .namespaces
        .iter()
        .any(|one| one.kind.name == kind && one.whose == NamespaceSharing::Hosts)
}

fn shared(portrait: &Inspection<'_>, remarks: &mut Vec<Remark>) {
    for (kind, message) in SHARED {
        if is_hosts(portrait, kind) {
            remarks.push(remark("namespaces", "host-namespace", format!("{kind}: {message}")));
        }
    }
}

fn rights(portrait: &Inspection<'_>, remarks: &mut Vec<Remark>) {
    let status = &portrait.member.facts.status;
    // Within a user namespace of its own they do not reach the host.
    if is_hosts(portrait, "user") {
        let names = capability::names(status.cap_eff);
        let strong: Vec<&(&str, &str)> =
            STRONG.iter().filter(|(name, _)| names.iter().any(|own| own == name)).collect();
        if capability::summary(status.cap_eff) == "all" {
            let message = "every capability, over the host itself: it can do there what root can";
            remarks.push(remark("capabilities", "all-capabilities", message));
        } else {
            for (name, how) in strong {
                remarks.push(remark("capabilities", "strong-capability", format!("{name}: {how}")));
            }
        }
    }
    if status.seccomp == Some(0) {
        let message = "no filter: every system call of the kernel is open to it";
        remarks.push(remark("seccomp", "no-seccomp", message));
    }
    let Some(configured) = portrait.configured.filter(|_| portrait.is_init) else { return };
    if configured.seccomp == Some(true) && status.seccomp == Some(0) {
        remarks.push(differs("seccomp", "a filter", configured));
    }
    if let (Some(wanted), Some(live)) = (configured.no_new_privs, status.no_new_privs)
        && wanted != live
    {
        remarks.push(differs("no_new_privs", if wanted { "yes" } else { "no" }, configured));
    }
}

fn differs(about: &'static str, wanted: &str, configured: &ResourceConfig) -> Remark {
    remark(about, "differs", format!("configured is {wanted} ({})", configured.source))
}

fn resources(portrait: &Inspection<'_>, remarks: &mut Vec<Remark>) {
    let usage = &portrait.sheet.usage;
    if let Fact::Known(kills @ 1..) = usage.oom_kills {
        let times = if kills == 1 { "once".into() } else { format!("{kills} times") };
        let message = format!("memory ran out, and the kernel killed for it {times}");
        remarks.push(remark("memory", "oom-kills", message));
    }
    let Some(configured) = portrait.configured else { return };
    // The kernel counts memory in pages.
    let near = |a: u64, b: u64| a.abs_diff(b) < 65_536;
    if let Some(wanted) = unlike(&usage.memory_limit, configured.memory, near) {
        let wanted = match wanted >> 20 {
            0 => format!("{wanted} bytes"),
            mebibytes => format!("{mebibytes}M"),
        };
        remarks.push(differs("memory", &wanted, configured));
    }
    if let Some(wanted) = unlike(&usage.cpu_limit, configured.cpus, |a, b| (a - b).abs() < 0.01) {
        remarks.push(differs("cpus", &format!("{wanted}"), configured));
    }
    if let Some(wanted) = unlike(&usage.pids_limit, configured.pids, |a, b| a == b) {
        remarks.push(differs("pids", &format!("{wanted}"), configured));
    }
}

/// What was configured, where that is not what is in force.
fn unlike<T: Copy + PartialOrd>(
    live: &Fact<LimitedValue<T>>,
    wanted: Option<T>,
    same: impl Fn(T, T) -> bool,
) -> Option<T> {
    match live {
        Fact::Denied => None,
        Fact::Absent => wanted,
        Fact::Known(live) => wanted.filter(|wanted| !same(live.most, *wanted)),
    }
}

fn reach(portrait: &Inspection<'_>, remarks: &mut Vec<Remark>) {
    if is_hosts(portrait, "mnt") {
        return;
    }
    let root = portrait.mounts.iter().find(|mount| mount.kind == MountKind::Root);
    let whole = root.is_some_and(|root| root.from.as_deref() == Some(b"/"));
    let rootless = !is_hosts(portrait, "user");
    for mount in &portrait.mounts {
        let Some(from) = mount.from.as_deref() else { continue };
        let name = from.rsplit(|b| *b == b'/').next().unwrap_or_default();
        let point = shown(&mount.point);
        let how = if mount.read_only { ", read-only" } else { "" };
        if mount.removed {
            continue;
        }
        if portrait.engine_sockets.iter().any(|socket| socket.as_bytes() == name) {
            let message =
                format!("{point} is an engine's socket: who may write to it rules the host");
            remarks.push(remark("mounts", "engine-socket", message));
        } else if from == b"/" {
            let message = format!("{point} is the host's root file system{how}");
            remarks.push(remark("mounts", "host-root", message));
        } else if !whole && mount.kind == MountKind::Bind && HOSTS_OWN.contains(&from) {
            let message = format!("{point} is the host's {}{how}", shown(from));
            remarks.push(remark("mounts", "host-directory", message));
        }
    }
    for mount in portrait.mounts.iter().filter(|mount| mount.point == b"/sys") {
        if mount.fstype == b"sysfs" && !mount.read_only && !rootless {
            let message = "/sys is writable: devices and the kernel can be set from inside";
            remarks.push(remark("mounts", "writable-sys", message));
        }
    }
    let wanted =
        portrait.configured.and_then(|configured| Some((configured.read_only?, configured)));
    if let (Some(root), Some((wanted, configured))) = (root, wanted)
        && root.read_only != wanted
    {
        let wanted = if wanted { "a read-only root" } else { "a writable root" };
        remarks.push(differs("mounts", wanted, configured));
    }
}

fn shown(path: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::namespace::KINDS;
    use crate::proc::ResourceUsage;

    fn usage() -> ResourceUsage {
        ResourceUsage {
            memory: Fact::Denied,
            memory_limit: Fact::Denied,
            cpu_limit: Fact::Denied,
            pids: Fact::Denied,
            pids_limit: Fact::Denied,
            oom_kills: Fact::Denied,
        }
    }

    #[test]
    fn a_namespace_is_ones_own_the_hosts_or_anothers() {
        let known = |id| Fact::Known(NamespaceId(id));
        let read = [
            (KINDS[0], known(1), known(1)),
            (KINDS[1], known(2), known(9)),
            (KINDS[2], known(3), known(9)),
            (KINDS[3], Fact::Denied, known(9)),
            (KINDS[4], known(5), Fact::Denied),
            (KINDS[5], Fact::Absent, Fact::Absent),
        ];
        let sheet = InspectFacts {
            namespaces: read.to_vec(),
            users: Fact::Absent,
            groups: Fact::Absent,
            mounts: Fact::Absent,
            host_mounts: Vec::new(),
            label: Fact::Absent,
            usage: usage(),
        };
        let other = OtherContainer {
            name: "docker:db".into(),
            namespaces: vec![known(1), known(7), known(3), Fact::Denied],
        };
        let whose: Vec<NamespaceSharing> =
            namespaces(&sheet, &[other]).into_iter().map(|one| one.whose).collect();
        let with = NamespaceSharing::With(vec!["docker:db".into()]);
        assert_eq!(
            whose,
            [
                NamespaceSharing::Hosts,
                NamespaceSharing::Own,
                with,
                NamespaceSharing::Unknown,
                NamespaceSharing::Unknown
            ]
        );
    }

    #[test]
    fn mounts_are_told_by_where_they_are_on_the_host() {
        let hosts = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
            2 1 8:2 / /srv rw - ext4 /dev/sdb1 rw\n\
            3 1 0:5 / /run rw - tmpfs tmpfs rw\n";
        let own = b"10 9 0:40 / / rw - overlay overlay rw\n\
            11 10 8:1 / /host ro - ext4 /dev/sda1 rw\n\
            12 11 8:2 / /host/srv rw - ext4 /dev/sdb1 rw\n\
            13 10 8:2 /docker/volumes/data/_data /data rw - ext4 /dev/sdb1 rw\n\
            14 10 0:5 /docker.sock /run/docker.sock rw - tmpfs tmpfs rw\n\
            15 10 0:50 / /cache rw - tmpfs tmpfs rw\n\
            16 10 0:51 / /proc rw - proc proc rw\n\
            17 10 8:1 /var/lib/x/hosts /etc/hosts rw - ext4 /dev/sda1 rw\n\
            18 10 0:52 / /cache ro - tmpfs again rw\n";
        let seen = mounts(own, hosts);
        let told: Vec<(&str, &str, Option<&str>)> = seen
            .iter()
            .map(|mount| {
                let text = |bytes| std::str::from_utf8(bytes).unwrap();
                (text(&mount.point), mount.kind.name(), mount.from.as_deref().map(text))
            })
            .collect();
        assert_eq!(
            told,
            [
                ("/", "root", None),
                ("/host", "bind", Some("/")),
                ("/host/srv", "inner", Some("/srv")),
                ("/data", "bind", Some("/srv/docker/volumes/data/_data")),
                ("/run/docker.sock", "bind", Some("/run/docker.sock")),
                ("/cache", "storage", None),
                ("/proc", "kernel", None),
                ("/etc/hosts", "engine", Some("/var/lib/x/hosts")),
            ]
        );
        assert_eq!(seen[3].volume.as_deref(), Some(&b"data"[..]));
        assert!(seen[1].read_only && seen[5].read_only && !seen[0].read_only);
    }

    #[test]
    fn the_host_is_told_by_the_shortest_way_that_leads_there() {
        let hosts = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
            2 1 8:1 / /tmp/x rw - ext4 /dev/sda1 rw\n\
            3 1 8:1 /var/lib /tmp/fresh/var/lib rw - ext4 /dev/sda1 rw\n\
            4 1 8:3 / /data rw - ext4 /dev/sdc1 rw\n";
        let own = b"10 9 8:1 / /host rw - ext4 /dev/sda1 rw\n\
            11 9 8:1 /var/lib/y /y rw - ext4 /dev/sda1 rw\n\
            12 9 8:1 /data/z /z rw - ext4 /dev/sda1 rw\n\
            13 9 8:1 /run/docker.sock//deleted /s rw - ext4 /dev/sda1 rw\n";
        let from: Vec<_> =
            mounts(own, hosts).into_iter().map(|mount| mount.from.unwrap()).collect();
        // (/data is mounted over: the files below it are seen through the other mount alone.)
        assert_eq!(from, [&b"/"[..], b"/var/lib/y", b"/tmp/x/data/z", b"/run/docker.sock"]);
    }

    #[test]
    fn a_limit_is_unlike_what_was_configured_when_it_is_not_the_same() {
        let live = |most| Fact::Known(LimitedValue { most, source: String::new() });
        let same = |a, b| a == b;
        assert_eq!(unlike(&live(5), Some(5), same), None);
        assert_eq!(unlike(&live(5), None, same), None);
        assert_eq!(unlike(&live(5), Some(6), same), Some(6));
        assert_eq!(unlike(&Fact::Absent, Some(6), same), Some(6));
        assert_eq!(unlike(&Fact::Denied, Some(6), same), None);
    }

    proptest::proptest! {
        #[test]
        fn no_mounts_make_it_panic(own: Vec<u8>, hosts: Vec<u8>) {
            let _ = mounts(&own, &hosts);
        }
    }
}
