//! The plan of an `exec`: the namespaces to join, the user, the capabilities and the other attributes of
//! the command. Facts and options in, a plan out; the helper that carries it out has no other input.
//! Reads no file and makes no system call.

use caps::Capability;
use serde::{Deserialize, Serialize};

use super::user::{Ids, UserOrGroup, UserSpec};
use crate::model::idmap::IdMap;
use crate::model::limits::ResourceLimit;
use crate::model::process_attributes::ProcessAttributes;
use crate::model::process_config::ProcessConfig;
use crate::proc::ExecFacts;

/// All decisions, made before anything is started.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ExecPlan {
    /// Host PID of the process to take over from (usually the init); the TID of a live thread if its
    /// main thread has exited.
    pub target: i32,
    /// Names of the namespaces to join: those that were asked for and are not shared with cinspect.
    pub join: Vec<String>,
    /// Whether the command sees the container's root: its mount namespace is joined, or shared anyway.
    pub in_container_root: bool,
    /// Whether to mount a `/proc` of the joined PID namespace for the host's tools.
    pub mount_proc: bool,
    /// Whether to mount a `/sys` of the joined network namespace and the container's resolv.conf for them.
    pub mount_network: bool,
    /// Whether the root is the target's, even if it is not that of its mount namespace.
    pub keeps_targets_root: bool,
    /// Roots, as device and inode, that are not the container's although its mount namespace has one of
    /// them: those of cinspect and of the target's ancestors.
    pub foreign_roots: Vec<(u64, u64)>,
    /// The user to run as, if not the target's.
    pub user: Option<UserSpec>,
    /// Groups that every other user gets as well.
    pub added_groups: Vec<UserOrGroup>,
    /// Whether the primary group of another user is among its supplementary ones.
    pub adds_primary_group: bool,
    /// The target's IDs in the user namespace that the command is in.
    pub ids: Ids,
    /// The target's supplementary groups as the host maps them.
    pub host_groups: Vec<u32>,
    /// The target's confinement; `None` if the command is not to be confined.
    pub security: Option<SecurityContext>,
    /// The target's other attributes; `None` if the command keeps those of cinspect.
    pub attributes: Option<ProcessAttributes>,
    /// The working directory that was asked for.
    pub workdir: Option<Vec<u8>>,
    /// The working directory in the engine's record.
    pub recorded_workdir: Option<Vec<u8>>,
    /// The environment to start from, as `NAME=VALUE`; `None` for the target's.
    pub base_environment: Option<Vec<Vec<u8>>>,
    /// The part of the environment that the engine's record has, if the rest is the target's.
    pub recorded_variables: Vec<Vec<u8>>,
    /// Variables to set on top of it; a name without `=` removes one.
    pub variables: Vec<Vec<u8>>,
    /// `TERM`, if a terminal is allocated.
    pub term: Option<Vec<u8>>,
    /// The command with its arguments; empty for the user's shell.
    pub command: Vec<Vec<u8>>,
    /// Whether it is run by the host's tools, a program that is passed as a descriptor.
    pub uses_tools: bool,
    /// Rows and columns of the terminal to allocate; `None` for no terminal.
    pub terminal: Option<(u16, u16)>,
    /// Whether the command runs in the background.
    pub detach: bool,
    /// Whether an attribute that cannot be applied is an error.
    pub strict: bool,
}

/// The command line, parsed.
#[derive(Clone, Debug, Default)]
pub struct ExecOptions {
    /// Only these namespaces; empty for all.
    pub only: Vec<&'static str>,
    /// Not these.
    pub skip: Vec<&'static str>,
    /// The user to run as.
    pub user: Option<UserSpec>,
    /// The working directory.
    pub workdir: Option<Vec<u8>>,
    /// cinspect's own environment, for the host's tools.
    pub environment: Vec<Vec<u8>>,
    /// Variables to set.
    pub variables: Vec<Vec<u8>>,
    /// The command with its arguments.
    pub command: Vec<Vec<u8>>,
    /// Whether it is run by the host's tools.
    pub uses_tools: bool,
    /// Rows and columns of the terminal to allocate.
    pub terminal: Option<(u16, u16)>,
    /// All capabilities, no seccomp filter, no label.
    pub privileged: bool,
    /// Whether the command runs in the background.
    pub detach: bool,
    /// Whether an attribute that cannot be applied is an error.
    pub strict: bool,
    /// Whether the process was chosen, and its root is meant even if it is not the container's.
    pub keeps_targets_root: bool,
}

impl ExecPlan {
    /// Plans an `exec`. Without the container's mounts the command is one of the host's tools: it keeps
    /// cinspect's environment, user and capabilities.
    ///
    /// `record` is the process that the engine configured, if the target is that process: the init may
    /// have changed itself since.
    ///
    /// # Errors
    /// A message, if a user name was given without the mounts, or the target's user has no ID in its
    /// own user namespace.
    pub fn new(
        options: &ExecOptions,
        facts: &ExecFacts,
        record: Option<&ProcessConfig>,
    ) -> Result<Self, String> {
        let wanted = |name| {
            (options.only.is_empty() || options.only.contains(&name))
                && !options.skip.contains(&name)
        };
        let private = facts.private_namespaces.iter().copied();
        let join: Vec<&str> = private.filter(|name| wanted(*name)).collect();
        let in_container_root = wanted("mnt");
        check_options(options, in_container_root)?;
        let recorded = record.filter(|_| in_container_root);
        let environment = recorded.and_then(|record| record.environment.clone());
        let is_complete = recorded.is_some_and(|record| record.environment_is_complete);
        let (base, added) = match environment {
            _ if !in_container_root => (Some(options.environment.clone()), Vec::new()),
            Some(environment) if is_complete => (Some(environment), Vec::new()),
            environment => (None, environment.unwrap_or_default()),
        };
        Ok(Self {
            target: facts.thread.unwrap_or(facts.status.pid),
            mount_proc: !in_container_root && join.contains(&"pid"),
            mount_network: !in_container_root && join.contains(&"net"),
            keeps_targets_root: options.keeps_targets_root,
            foreign_roots: facts.foreign_roots.clone(),
            added_groups: added_groups(recorded),
            adds_primary_group: recorded.is_some_and(|record| record.adds_primary_group),
            ids: target_ids(facts, join.contains(&"user"))?,
            join: join.into_iter().map(str::to_owned).collect(),
            in_container_root,
            user: options.user.clone(),
            host_groups: facts.status.groups.clone(),
            security: (in_container_root && !options.privileged)
                .then(|| SecurityContext::of_target(facts, record)),
            attributes: in_container_root.then(|| attributes(facts, record)),
            workdir: options.workdir.clone(),
            recorded_workdir: recorded.and_then(|record| record.workdir.clone()),
            base_environment: base,
            recorded_variables: added,
            variables: options.variables.clone(),
            term: options.terminal.map(|_| term(&options.environment)),
            command: options.command.clone(),
            uses_tools: options.uses_tools,
            terminal: options.terminal,
            detach: options.detach,
            strict: options.strict,
        })
    }

    /// Whether the user namespace is joined.
    pub fn joins_user_namespace(&self) -> bool {
        self.join.iter().any(|name| name == "user")
    }

    /// Whether processes of the container could trace the command, which has more privileges.
    pub fn is_exposed(&self, facts: &ExecFacts) -> bool {
        let is_visible = self.join.iter().any(|name| name == "pid");
        let has_user_namespace = facts.private_namespaces.contains(&"user");
        self.security.is_none()
            && is_visible
            && !has_user_namespace
            && facts.status.cap_bnd & Capability::CAP_SYS_PTRACE.bitmask() != 0
    }
}

/// Checks that the options make sense together.
fn check_options(options: &ExecOptions, in_container_root: bool) -> Result<(), String> {
    let has_name = options.user.as_ref().is_some_and(UserSpec::has_name);
    let why = match in_container_root {
        false if options.uses_tools => {
            "--tools runs the host's tools on the container's files, which need its mounts"
        }
        false if has_name => {
            "without the container's mounts -u takes IDs only: names are looked up in its /etc/passwd"
        }
        _ => return Ok(()),
    };
    Err(why.into())
}

/// Returns the groups that the engine adds to those of every user.
fn added_groups(record: Option<&ProcessConfig>) -> Vec<UserOrGroup> {
    let groups = record.map_or(&[][..], |record| &record.added_groups);
    groups.iter().filter_map(|group| UserOrGroup::parse(group).ok()).collect()
}

/// Maps the target's IDs into its user namespace, if that is joined.
fn target_ids(facts: &ExecFacts, joins_user: bool) -> Result<Ids, String> {
    let status = &facts.status;
    let inner = |map: &IdMap, id: u32| if joins_user { map.to_inside(id) } else { Some(id) };
    let required = |map: &IdMap, id: u32| {
        inner(map, id).ok_or_else(|| "its user has no ID in its own user namespace".to_owned())
    };
    Ok(Ids {
        uid: required(&facts.uid_map, status.uid[1])?,
        gid: required(&facts.gid_map, status.gid[1])?,
        groups: status.groups.iter().filter_map(|id| inner(&facts.gid_map, *id)).collect(),
    })
}

/// Returns the `TERM` of this environment, if it looks like one: it goes into the container.
fn term(environment: &[Vec<u8>]) -> Vec<u8> {
    let term = environment.iter().find_map(|variable| variable.strip_prefix(b"TERM="));
    let is_plain = |term: &&[u8]| {
        (1..=64).contains(&term.len())
            && term.iter().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(b))
    };
    term.filter(is_plain).unwrap_or(b"xterm").to_owned()
}

/// The confinement of a process: capability sets as masks, and the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityContext {
    /// The bounding set.
    pub bounding: u64,
    /// The permitted set.
    pub permitted: u64,
    /// The effective set.
    pub effective: u64,
    /// The inheritable set.
    pub inheritable: u64,
    /// The ambient set.
    pub ambient: u64,
    /// `no_new_privs`, prctl(2).
    pub no_new_privs: bool,
    /// Whether it has seccomp filters.
    pub has_filters: bool,
    /// The number of filters that the engine installed, before those that the init added for itself.
    pub engines_filters: Option<u32>,
    /// The label of a security module.
    pub label: Option<Vec<u8>>,
}

impl SecurityContext {
    fn of_target(facts: &ExecFacts, record: Option<&ProcessConfig>) -> Self {
        let status = &facts.status;
        let no_new_privs = record.and_then(|record| record.no_new_privs).or(status.no_new_privs);
        Self {
            bounding: status.cap_bnd,
            permitted: status.cap_prm,
            effective: status.cap_eff,
            inheritable: status.cap_inh,
            ambient: status.cap_amb,
            no_new_privs: no_new_privs == Some(true),
            has_filters: status.seccomp == Some(2),
            engines_filters: record.and_then(|record| record.filters),
            label: facts.label.clone(),
        }
    }

    /// Returns the confinement of a command that runs as `uid`: this one for the same user; for another
    /// one the sets that an engine gives: root all of the bounding set, others none.
    #[must_use]
    pub fn for_user(&self, is_same_user: bool, uid: u32) -> Self {
        let mut context = self.clone();
        if !is_same_user {
            let mask = if uid == 0 { self.bounding } else { 0 };
            (context.permitted, context.effective, context.ambient) = (mask, mask, 0);
        }
        context
    }
}

/// The umask where an init has cleared its own, as systemd does: files that a command makes are not for
/// all to write.
const UMASK: u32 = 0o022;

/// Returns the attributes of a command: the recorded ones, and the target's for the others.
fn attributes(facts: &ExecFacts, record: Option<&ProcessConfig>) -> ProcessAttributes {
    let target = &facts.attributes;
    let own_umask = target.umask.map(|umask| if umask == 0 { UMASK } else { umask });
    ProcessAttributes {
        limits: limits(&target.limits, record.map_or(&[], |record| &record.limits)),
        umask: record.and_then(|record| record.umask).or(own_umask),
        scheduling: record.and_then(|record| record.scheduling).or(target.scheduling),
        io_priority: record.and_then(|record| record.io_priority).or(target.io_priority),
        personality: record.and_then(|record| record.personality).or(target.personality),
        ..target.clone()
    }
}

/// Returns the limits of a command: the recorded ones, and the target's for the others.
fn limits(target: &[ResourceLimit], recorded: &[ResourceLimit]) -> Vec<ResourceLimit> {
    let recorded_of = |limit: &ResourceLimit| {
        recorded.iter().copied().find(|recorded| recorded.resource == limit.resource)
    };
    target.iter().map(|limit| recorded_of(limit).unwrap_or(*limit)).collect()
}

/// Returns the part of a security label that is written to `attr/exec`. AppArmor appends the mode of the
/// profile (`NAME (enforce)`, and since AppArmor 4 `NAME (unconfined)` for profiles with that flag; a
/// stack of profiles in several modes is `(mixed)`), whatever modes the kernel knows: the last ` (…)` is
/// cut off. A profile's own name may contain parentheses. SELinux contexts have none and stay as they
/// are.
pub fn label_name(label: &[u8]) -> &[u8] {
    let mode = label.windows(2).rposition(|pair| pair == b" (");
    mode.filter(|_| label.ends_with(b")")).map_or(label, |mode| &label[..mode])
}

/// Whether a label is a context of SELinux (`user:role:type:level`), which is written as it is. AppArmor
/// shows a mode behind every profile but `unconfined`, and its stacks (`a//&:namespace:b`) may have as many
/// colons.
pub fn is_selinux_context(label: &[u8]) -> bool {
    label_name(label) == label
        && !label.starts_with(b":")
        && !label.windows(3).any(|three| three == b"//&")
        && label.iter().filter(|b| **b == b':').count() >= 3
}

/// Returns the files of a process in `/proc` that take a label of this kind, the first that exists. The
/// directory `apparmor` is there wherever the kernel was built with the module (fs/proc/base.c), and takes
/// nothing of SELinux.
pub fn label_files(label: &[u8]) -> &'static [&'static str] {
    match is_selinux_context(label) {
        true => &["attr/exec"],
        false => &["attr/apparmor/exec", "attr/exec"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_contexts_of_selinux_are_written_alone() {
        for (label, is_selinux) in [
            (&b"system_u:system_r:container_t:s0:c1,c2"[..], true),
            (b"u:r:t:s0", true),
            (b"docker-default (enforce)", false),
            (b":ns://profile (enforce)", false),
            (b"a//&:lxc-b:unconfined (mixed)", false),
            // A stack of profiles in several namespaces has as many colons.
            (b"a//&:n1:b//&:n2:c (enforce)", false),
            (b"a//&:n1:b//&:n2:c", false),
            (b"unconfined", false),
        ] {
            assert_eq!(is_selinux_context(label), is_selinux, "{label:?}");
            assert_eq!(label_files(label).contains(&"attr/apparmor/exec"), !is_selinux);
        }
    }

    #[test]
    fn a_recorded_limit_replaces_the_targets() {
        let limit = |resource, soft| ResourceLimit { resource, soft: Some(soft), hard: Some(soft) };
        let target = [limit(7, 3), limit(8, 100)];
        assert_eq!(limits(&target, &[limit(7, 1024)]), [limit(7, 1024), limit(8, 100)]);
        assert_eq!(limits(&target, &[]), target);
    }

    #[test]
    fn label_name_cuts_off_any_mode() {
        for (label, name) in [
            ("docker-default (enforce)", "docker-default"),
            ("lxc-default (complain)", "lxc-default"),
            ("crun (unconfined)", "crun"),
            ("a (kill)", "a"),
            ("a (user)", "a"),
            ("a//&:lxc-b:unconfined (mixed)", "a//&:lxc-b:unconfined"),
            ("/opt/my app (x86) (enforce)", "/opt/my app (x86)"),
            ("/opt/my app (x86)/bin", "/opt/my app (x86)/bin"),
            ("unconfined", "unconfined"),
            ("system_u:system_r:container_t:s0:c1,c2", "system_u:system_r:container_t:s0:c1,c2"),
        ] {
            assert_eq!(label_name(label.as_bytes()), name.as_bytes(), "{label}");
        }
    }

    #[test]
    fn another_user_gets_the_capabilities_an_engine_gives() {
        let init = SecurityContext {
            bounding: 7,
            permitted: 1,
            effective: 1,
            inheritable: 0,
            ambient: 1,
            no_new_privs: true,
            has_filters: true,
            engines_filters: None,
            label: None,
        };
        assert_eq!(init.for_user(true, 5), init);
        let root = init.for_user(false, 0);
        assert_eq!((root.permitted, root.effective, root.ambient), (7, 7, 0));
        let other = init.for_user(false, 5);
        assert_eq!((other.permitted, other.effective, other.bounding), (0, 0, 7));
    }
}
