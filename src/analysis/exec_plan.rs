//! The plan of an `exec`: the namespaces to join, the user, the capabilities and the other attributes of
//! the command. Facts and options in, a plan out; the helper that carries it out knows nothing else.
//! It reads no file and asks the kernel nothing.

use caps::Capability;
use serde::{Deserialize, Serialize};

use super::user::{Identity, Ids, UserSpec};
use crate::model::idmap::IdMap;
use crate::model::limits::ResourceLimit;
use crate::proc::ExecFacts;

/// All decisions, made before anything is started.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// The user to run as, if not the target's.
    pub user: Option<UserSpec>,
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
    /// The environment to start from, as `NAME=VALUE`; `None` for the target's.
    pub base_environment: Option<Vec<Vec<u8>>>,
    /// Variables to set on top of it.
    pub variables: Vec<Vec<u8>>,
    /// `TERM`, if a terminal is allocated.
    pub term: Option<Vec<u8>>,
    /// The command with its arguments; empty for the user's shell.
    pub command: Vec<Vec<u8>>,
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
    /// Rows and columns of the terminal to allocate.
    pub terminal: Option<(u16, u16)>,
    /// All capabilities, no seccomp filter, no label.
    pub privileged: bool,
    /// Whether the command runs in the background.
    pub detach: bool,
    /// Whether an attribute that cannot be applied is an error.
    pub strict: bool,
}

impl ExecPlan {
    /// Decides. Without the container's mounts the command is one of the host's tools: it keeps
    /// cinspect's environment, user and capabilities.
    ///
    /// # Errors
    /// A message, if a user name was given without the mounts, or the target's user has no ID in its
    /// own user namespace.
    pub fn new(options: &ExecOptions, facts: &ExecFacts) -> Result<Self, String> {
        let wanted = |name| {
            (options.only.is_empty() || options.only.contains(&name))
                && !options.skip.contains(&name)
        };
        let private = facts.private_namespaces.iter().copied();
        let join: Vec<&str> = private.filter(|name| wanted(*name)).collect();
        let in_container_root = wanted("mnt");
        if !in_container_root && options.user.as_ref().is_some_and(UserSpec::has_name) {
            return Err(
                "without the container's mounts -u takes IDs only: names are looked up in \
                        its /etc/passwd"
                    .into(),
            );
        }
        Ok(Self {
            target: facts.thread.unwrap_or(facts.status.pid),
            mount_proc: !in_container_root && join.contains(&"pid"),
            ids: target_ids(facts, join.contains(&"user"))?,
            join: join.into_iter().map(str::to_owned).collect(),
            in_container_root,
            user: options.user.clone(),
            host_groups: facts.status.groups.clone(),
            security: (in_container_root && !options.privileged)
                .then(|| SecurityContext::of_target(facts)),
            attributes: in_container_root.then(|| ProcessAttributes::of_target(facts)),
            workdir: options.workdir.clone(),
            base_environment: (!in_container_root).then(|| options.environment.clone()),
            variables: options.variables.clone(),
            term: options.terminal.map(|_| term(&options.environment)),
            command: options.command.clone(),
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
    /// The label of a security module.
    pub label: Option<Vec<u8>>,
}

impl SecurityContext {
    fn of_target(facts: &ExecFacts) -> Self {
        let status = &facts.status;
        Self {
            bounding: status.cap_bnd,
            permitted: status.cap_prm,
            effective: status.cap_eff,
            inheritable: status.cap_inh,
            ambient: status.cap_amb,
            no_new_privs: status.no_new_privs == Some(true),
            has_filters: status.seccomp == Some(2),
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

/// The attributes of a process apart from its confinement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessAttributes {
    /// Resource limits.
    pub limits: Vec<ResourceLimit>,
    /// The umask; `None` before Linux 4.7, which does not show it.
    pub umask: Option<u32>,
    /// `oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// The nice value.
    pub nice: i32,
    /// The CPU affinity as a bit mask.
    pub cpus: Vec<u8>,
}

impl ProcessAttributes {
    fn of_target(facts: &ExecFacts) -> Self {
        Self {
            limits: facts.limits.clone(),
            umask: facts.status.umask,
            oom_score_adj: facts.oom_score_adj,
            nice: facts.nice,
            cpus: facts.cpus.clone(),
        }
    }
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

/// PATH for a container without one, as in Docker.
pub const PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns the command's environment: the target's as it was at its start (each name once, the last value
/// wins; what has no `=` is left out), then HOME, TERM, and the variables that were asked for.
pub fn environment(plan: &ExecPlan, target: &[u8], identity: &Identity) -> Vec<Vec<u8>> {
    let mut variables: Vec<Vec<u8>> = Vec::new();
    let mut set = |variable: &[u8], overwrite: bool| {
        let Some(end) = variable.iter().position(|b| *b == b'=').filter(|end| *end > 0) else {
            return;
        };
        let name = &variable[..=end];
        match variables.iter_mut().find(|known| known.starts_with(name)) {
            Some(known) if overwrite => *known = variable.to_owned(),
            Some(_) => {}
            None => variables.push(variable.to_owned()),
        }
    };
    match &plan.base_environment {
        Some(base) => base.iter().for_each(|variable| set(variable, true)),
        None => target.split(|b| *b == 0).for_each(|variable| set(variable, true)),
    }
    let with = |name: &[u8], value: &[u8]| [name, b"=", value].concat();
    if plan.in_container_root {
        set(&with(b"PATH", PATH), false);
        let home = identity.home.as_deref().filter(|home| !home.contains(&b'\n'));
        set(&with(b"HOME", home.unwrap_or(b"/")), plan.user.is_some());
    }
    if let Some(term) = &plan.term {
        set(&with(b"TERM", term), true);
    }
    plan.variables.iter().for_each(|variable| set(variable, true));
    variables
}

/// Returns the paths to try for a command: itself if it has a slash, else one for each directory of PATH.
pub fn candidates(command: &[u8], environment: &[Vec<u8>]) -> Vec<Vec<u8>> {
    if command.contains(&b'/') {
        return vec![command.to_owned()];
    }
    let path = environment.iter().find_map(|variable| variable.strip_prefix(b"PATH="));
    path.unwrap_or(PATH)
        .split(|b| *b == b':')
        .filter(|directory| directory.starts_with(b"/"))
        .map(|directory| [directory, b"/", command].concat())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn plan() -> ExecPlan {
        ExecPlan {
            target: 1,
            join: Vec::new(),
            in_container_root: true,
            mount_proc: false,
            user: None,
            ids: Ids::default(),
            host_groups: Vec::new(),
            security: None,
            attributes: None,
            workdir: None,
            base_environment: None,
            variables: Vec::new(),
            term: None,
            command: Vec::new(),
            terminal: None,
            detach: false,
            strict: false,
        }
    }

    fn identity(home: Option<&[u8]>) -> Identity {
        Identity { ids: Ids::default(), home: home.map(<[u8]>::to_owned), shell: None }
    }

    fn texts(values: &[Vec<u8>]) -> Vec<String> {
        values.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    #[test]
    fn environment_starts_from_the_targets() {
        let target = b"A=1\0NOEQ\0=x\0PATH=/evil\0A=2\0N=a\nb\0";
        let variables = environment(&plan(), target, &identity(Some(b"/root")));
        assert_eq!(texts(&variables), ["A=2", "PATH=/evil", "N=a\nb", "HOME=/root"]);
        let with_user = ExecPlan {
            user: UserSpec::parse(b"5").ok(),
            variables: vec![b"A=".to_vec(), b"B=3".to_vec()],
            term: Some(b"xterm".to_vec()),
            ..plan()
        };
        let variables = environment(&with_user, b"HOME=/root\0A=1\0", &identity(Some(b"/a\nb")));
        let path = format!("PATH={}", String::from_utf8_lossy(PATH));
        assert_eq!(texts(&variables), ["HOME=/", "A=", path.as_str(), "TERM=xterm", "B=3"]);
    }

    #[test]
    fn candidates_follow_path_unless_there_is_a_slash() {
        let path = [b"PATH=/a::relative:/b".to_vec()];
        assert_eq!(texts(&candidates(b"ls", &path)), ["/a/ls", "/b/ls"]);
        assert_eq!(texts(&candidates(b"./ls", &path)), ["./ls"]);
        assert_eq!(candidates(b"ls", &[]).len(), 6);
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
            label: None,
        };
        assert_eq!(init.for_user(true, 5), init);
        let root = init.for_user(false, 0);
        assert_eq!((root.permitted, root.effective, root.ambient), (7, 7, 0));
        let other = init.for_user(false, 5);
        assert_eq!((other.permitted, other.effective, other.bounding), (0, 0, 7));
    }
}
