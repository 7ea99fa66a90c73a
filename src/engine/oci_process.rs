//! The process in `config.json` of an OCI bundle (runtime-spec, config.md): its environment, limits and so
//! on; and the limits and filters that it inherited from its parent, the engine's supervisor, and may have
//! changed since. A record of another user than the container's is not used.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::model::container::Container;
use crate::model::limits::{self, ResourceLimit};
use crate::model::pid::HostPid;
use crate::model::process_config::{ProcessConfig, Scheduling};
use crate::proc::{Host, StateFile, Trust};

/// PER_LINUX32, personality(2).
const LINUX32: u32 = 8;
/// The number of RLIMIT_NOFILE, getrlimit(2).
const NOFILE: u32 = 7;
/// A soft limit of open files that no engine goes below.
const LEAST_NOFILE: u64 = 1024;
/// Shift of the class in ioprio_set(2).
const IOPRIO_CLASS_SHIFT: u32 = 13;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ProcessBundle {
    process: BundleProcess,
    linux: BundleLinux,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct BundleProcess {
    env: Vec<String>,
    cwd: Option<String>,
    user: OciUser,
    rlimits: Vec<OciRlimit>,
    no_new_privileges: bool,
    scheduler: Option<OciScheduler>,
    io_priority: Option<OciIoPriority>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct OciUser {
    gid: u32,
    additional_gids: Vec<u32>,
    umask: Option<u32>,
}

#[derive(Deserialize)]
struct OciRlimit {
    #[serde(rename = "type")]
    name: String,
    hard: u64,
    soft: u64,
}

#[derive(Deserialize)]
struct OciScheduler {
    policy: String,
    #[serde(default)]
    priority: u32,
}

#[derive(Deserialize)]
struct OciIoPriority {
    class: String,
    #[serde(default)]
    priority: u32,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct BundleLinux {
    seccomp: Option<serde::de::IgnoredAny>,
    personality: Option<OciPersonality>,
}

#[derive(Deserialize)]
struct OciPersonality {
    domain: String,
}

/// The names that supervisors of an engine have: the shims of containerd, and conmon.
pub(super) const SHIMS: &[&str] = &["containerd-shim"];
pub(super) const CONMON: &[&str] = &["conmon", "conmonrs"];
/// The supervisors of an engine that has none: the parent of its containers may be anything.
pub(super) const NO_SUPERVISOR: &[&str] = &[];

/// Reads the process in a bundle. `supervisors` are the names of the processes that start the engine's
/// containers and stay their parents.
pub(super) fn process_of_bundle(
    host: &Host,
    container: &Container,
    directory: &Path,
    supervisors: &[&str],
) -> Option<ProcessConfig> {
    let file = trusted_file(host, container, &directory.join("config.json"))?;
    let bundle: ProcessBundle = file.json().ok()?;
    let mut config = bundle.process_config();
    config.source = file.path.display().to_string();
    if let Some(supervisor) = supervisor(host, container, supervisors) {
        inherit(host, container, supervisor, bundle.linux.seccomp.is_some(), &mut config);
    }
    Some(config)
}

/// Reads a record that only root, or the user who runs the container, could have written.
pub(super) fn trusted_file(host: &Host, container: &Container, path: &Path) -> Option<StateFile> {
    let file = host.state_file(path).ok()?;
    let is_trusted = match file.owner {
        Trust::Root => true,
        Trust::User(uid) => container.user == Some(uid),
        Trust::Untrusted => false,
    };
    is_trusted.then_some(file)
}

/// Returns the supervisor of a container: the parent of its init, if it has one of these names.
pub(super) fn supervisor(host: &Host, container: &Container, names: &[&str]) -> Option<HostPid> {
    let parent = HostPid::new(host.stat(container.init_pid()?).ok()?.ppid)?;
    let comm = host.stat(parent).ok()?.comm;
    let has_name = names.iter().any(|name| comm.starts_with(name.as_bytes()));
    let is_trusted = match host.trust_of_process(parent) {
        Trust::Root => true,
        Trust::User(uid) => container.user == Some(uid),
        Trust::Untrusted => false,
    };
    (has_name && is_trusted).then_some(parent)
}

/// Returns the working directory of a shim, which is the bundle of its container.
pub(super) fn bundle_of_shim(host: &Host, container: &Container) -> Option<PathBuf> {
    let shim = supervisor(host, container, SHIMS)?;
    let directory = PathBuf::from(OsStr::from_bytes(&host.link(shim, "cwd").ok()?));
    let is_its = directory.file_name().and_then(OsStr::to_str) == container.id.as_deref();
    is_its.then_some(directory)
}

/// Completes a configuration with the state in which the init was started: the limits that are not recorded,
/// the policy, and the number of filters, to which the engine adds one at most.
fn inherit(
    host: &Host,
    container: &Container,
    supervisor: HostPid,
    has_filter: bool,
    config: &mut ProcessConfig,
) {
    let read =
        |pid: HostPid| limits::parse(&host.proc_file(pid, "limits", 1 << 16).unwrap_or_default());
    let init = container.init_pid().map(read).unwrap_or_default();
    for limit in read(supervisor) {
        let is_it = |other: &&ResourceLimit| other.resource == limit.resource;
        let init = init.iter().find(is_it);
        match config.limits.iter().find(is_it) {
            // A runtime without privileges could not raise it.
            Some(recorded) if init == Some(&limit) && is_above(recorded.hard, limit.hard) => {
                config.limits.retain(|recorded| recorded.resource != limit.resource);
            }
            Some(_) => {}
            None if init.is_some_and(|init| may_be_inherited(init, &limit)) => {}
            None => config.limits.push(limit),
        }
    }
    let filters = host.status(supervisor).ok().and_then(|status| status.seccomp_filters);
    config.filters = filters.map(|count| count + u32::from(has_filter));
    config.scheduling = config.scheduling.or(host.scheduling(supervisor));
    config.io_priority = config.io_priority.or(host.io_priority(supervisor));
    config.personality = config.personality.or(host.personality(supervisor));
}

/// Whether a limit is above another one; `None` means unlimited.
fn is_above(limit: Option<u64>, other: Option<u64>) -> bool {
    other.is_some_and(|other| limit.is_none_or(|limit| limit > other))
}

/// Whether a process may have this limit from its supervisor. A supervisor in Go has raised its soft limit of
/// open files (Go's package os does) and gives its children the former one, which is not known.
fn may_be_inherited(init: &ResourceLimit, supervisor: &ResourceLimit) -> bool {
    let is_lowered = init.soft.is_some_and(|soft| soft >= LEAST_NOFILE);
    init == supervisor || (init.resource == NOFILE && init.hard == supervisor.hard && is_lowered)
}

impl ProcessBundle {
    /// Returns the configured process, without its source.
    pub(super) fn process_config(&self) -> ProcessConfig {
        let process = &self.process;
        let class = |name: &str| match name {
            "IOPRIO_CLASS_RT" => 1,
            "IOPRIO_CLASS_BE" => 2,
            "IOPRIO_CLASS_IDLE" => 3,
            _ => 0,
        };
        let personality = self.linux.personality.as_ref();
        ProcessConfig {
            source: String::new(),
            environment: Some(process.env.iter().map(|v| v.as_bytes().to_vec()).collect()),
            environment_is_complete: true,
            workdir: process.cwd.as_ref().map(|cwd| cwd.as_bytes().to_vec()),
            limits: process.rlimits.iter().filter_map(OciRlimit::limit).collect(),
            umask: process.user.umask,
            added_groups: Vec::new(),
            adds_primary_group: process.user.additional_gids.contains(&process.user.gid),
            filters: None,
            no_new_privs: Some(process.no_new_privileges),
            personality: personality.map(|p| if p.domain == "LINUX32" { LINUX32 } else { 0 }),
            scheduling: process.scheduler.as_ref().and_then(|scheduler| {
                let policy = Scheduling::named(&scheduler.policy)?;
                Some(Scheduling { priority: scheduler.priority, ..policy })
            }),
            io_priority: process
                .io_priority
                .as_ref()
                .map(|io| class(&io.class) << IOPRIO_CLASS_SHIFT | io.priority),
        }
    }
}

impl OciRlimit {
    fn limit(&self) -> Option<ResourceLimit> {
        // RLIM_INFINITY is the largest number.
        let value = |limit: u64| (limit != u64::MAX).then_some(limit);
        let (soft, hard) = (value(self.soft), value(self.hard));
        ResourceLimit::named(&self.name).map(|resource| ResourceLimit { resource, soft, hard })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_has_the_process_as_it_was_configured() {
        let bundle: ProcessBundle = serde_json::from_str(
            r#"{"process": {"env": ["PATH=/opt/a:/bin", "DB=x"], "cwd": "/srv",
                "user": {"uid": 0, "umask": 63},
                "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 18446744073709551615, "soft": 1024},
                            {"type": "RLIMIT_ODD", "hard": 1, "soft": 1}],
                "noNewPrivileges": true, "scheduler": {"policy": "SCHED_FIFO", "priority": 5},
                "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 4}},
               "linux": {"personality": {"domain": "LINUX32"}, "seccomp": {"defaultAction": "x"}}}"#,
        )
        .unwrap();
        let config = bundle.process_config();
        let variables = config.environment.unwrap();
        assert_eq!(variables, [b"PATH=/opt/a:/bin".to_vec(), b"DB=x".to_vec()]);
        assert_eq!(config.limits, [ResourceLimit { resource: 7, soft: Some(1024), hard: None }]);
        assert_eq!((config.umask, config.personality), (Some(0o77), Some(LINUX32)));
        assert_eq!(config.scheduling, Some(Scheduling { policy: 1, priority: 5 }));
        assert_eq!((config.io_priority, config.no_new_privs), (Some(3 << 13 | 4), Some(true)));
        assert!(bundle.linux.seccomp.is_some());
        let empty = serde_json::from_str::<ProcessBundle>("{}").unwrap().process_config();
        assert_eq!((empty.umask, empty.personality, empty.scheduling), (None, None, None));
    }

    #[test]
    fn a_limit_that_the_init_has_set_itself_is_not_inherited() {
        let limit =
            |resource, soft, hard| ResourceLimit { resource, soft: Some(soft), hard: Some(hard) };
        for (init, supervisor, may_be) in [
            (limit(7, 1024, 4096), limit(7, 4096, 4096), true),
            (limit(7, 3, 4096), limit(7, 4096, 4096), false),
            (limit(7, 3, 3), limit(7, 4096, 4096), false),
            (limit(4, 0, 9), limit(4, 9, 9), false),
            (limit(4, 9, 9), limit(4, 9, 9), true),
        ] {
            assert_eq!(may_be_inherited(&init, &supervisor), may_be, "{init:?}");
        }
    }
}
