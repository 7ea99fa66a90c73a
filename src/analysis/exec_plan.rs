//! How a container is entered: what is joined, as whom, with which rights and surroundings. Facts and
//! wishes in, a plan out; the plan is all that the helper knows that carries it out. Pure.

use serde::{Deserialize, Serialize};

use crate::model::idmap::IdMap;
use crate::model::limits::ResourceLimit;
use crate::model::passwd::{accounts, groups};
use crate::proc::ExecFacts;

/// Everything that is decided before anything is done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecPlan {
    /// The process that is entered beside, by its number in our `/proc`; the thread of it that lives.
    pub beside: i32,
    /// Who we are ourselves, by our own number.
    pub parent: i32,
    /// Its namespaces that are joined, by name; those in which it does not differ from us are left.
    pub join: Vec<String>,
    /// Whether its root is ours too: its mounts are joined, or were ours all along.
    pub inside: bool,
    /// Whether the host's own tools are to see the processes of the PID namespace that is joined, in a
    /// `/proc` of their own.
    pub own_proc: bool,
    /// As whom, where not as itself.
    pub user: Option<UserSpec>,
    /// The process's own ids, as its user namespace numbers them.
    pub ids: Ids,
    /// Its groups as we number them.
    pub outer_groups: Vec<u32>,
    /// What it is confined by; none where the command is not to be.
    pub confine: Option<SecurityContext>,
    /// How it is surrounded; none where the command keeps what we have.
    pub surround: Option<ProcessAttributes>,
    /// The working directory that was asked for.
    pub workdir: Option<Vec<u8>>,
    /// Variables for the environment: first these, `NAME=VALUE` each, in place of the process's own
    /// where there are some.
    pub base: Option<Vec<Vec<u8>>>,
    /// Then these.
    pub set: Vec<Vec<u8>>,
    /// The terminal's kind, where there is one.
    pub term: Option<Vec<u8>>,
    /// The command; empty for the user's shell.
    pub command: Vec<Vec<u8>>,
    /// Rows and columns of the terminal that is made; none without one.
    pub terminal: Option<(u16, u16)>,
    /// Whether it goes on without us.
    pub detach: bool,
    /// Whether what cannot be carried over ends it all.
    pub strict: bool,
}

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct ExecOptions {
    /// These namespaces alone; all when it is empty.
    pub only: Vec<&'static str>,
    /// Not these.
    pub skip: Vec<&'static str>,
    /// As whom.
    pub user: Option<UserSpec>,
    /// Where.
    pub workdir: Option<Vec<u8>>,
    /// Our own environment, for the host's tools.
    pub environment: Vec<Vec<u8>>,
    /// Variables to set.
    pub set: Vec<Vec<u8>>,
    /// The command.
    pub command: Vec<Vec<u8>>,
    /// Rows and columns of a terminal to make.
    pub terminal: Option<(u16, u16)>,
    /// Every capability, and no filter.
    pub privileged: bool,
    /// Whether it goes on without us.
    pub detach: bool,
    /// Whether what cannot be carried over ends it all.
    pub strict: bool,
}

/// capabilities(7).
const SYS_PTRACE: u64 = 1 << 19;

impl ExecPlan {
    /// Decides. Without the mounts of the container the command is the host's own: it keeps our
    /// environment, user and rights.
    ///
    /// # Errors
    /// Says what does not go together.
    pub fn new(wishes: &ExecOptions, facts: &ExecFacts) -> Result<Self, String> {
        let wanted = |name| {
            (wishes.only.is_empty() || wishes.only.contains(&name)) && !wishes.skip.contains(&name)
        };
        let join: Vec<&str> = facts.apart.iter().copied().filter(|name| wanted(*name)).collect();
        let inside = wanted("mnt");
        let status = &facts.status;
        let users = join.contains(&"user");
        let inner = |map: &IdMap, id: u32| if users { map.to_inside(id) } else { Some(id) };
        let number = |map: &IdMap, id: u32| {
            inner(map, id)
                .ok_or_else(|| "its user has no number in its own user namespace".to_owned())
        };
        if !inside
            && let Some(
                UserSpec { user: UserOrGroup::Name(_), .. }
                | UserSpec { group: Some(UserOrGroup::Name(_)), .. },
            ) = &wishes.user
        {
            return Err("without its mounts a user is a number: names are looked up inside".into());
        }
        let confine = (inside && !wishes.privileged).then(|| SecurityContext {
            bounding: status.cap_bnd,
            permitted: status.cap_prm,
            effective: status.cap_eff,
            inheritable: status.cap_inh,
            ambient: status.cap_amb,
            no_new_privs: status.no_new_privs == Some(true),
            filtered: status.seccomp == Some(2),
            label: facts.label.clone(),
        });
        let surround = inside.then(|| ProcessAttributes {
            limits: facts.limits.clone(),
            umask: status.umask,
            oom_score_adj: facts.oom_score_adj,
            nice: facts.nice,
            cpus: facts.cpus.clone(),
        });
        let term =
            wishes.environment.iter().find_map(|v| v.strip_prefix(b"TERM=")).filter(|term| {
                let plain = |b: &u8| b.is_ascii_alphanumeric() || b"._+-".contains(b);
                (1..=64).contains(&term.len()) && term.iter().all(plain)
            });
        let term = wishes.terminal.map(|_| term.unwrap_or(b"xterm").to_owned());
        Ok(Self {
            beside: facts.thread.unwrap_or(status.pid),
            parent: i32::try_from(std::process::id()).unwrap_or(0),
            own_proc: !inside && join.contains(&"pid"),
            join: join.into_iter().map(str::to_owned).collect(),
            inside,
            user: wishes.user.clone(),
            ids: Ids {
                uid: number(&facts.users, status.uid[1])?,
                gid: number(&facts.groups, status.gid[1])?,
                groups: status.groups.iter().filter_map(|id| inner(&facts.groups, *id)).collect(),
            },
            outer_groups: status.groups.clone(),
            confine,
            surround,
            workdir: wishes.workdir.clone(),
            base: (!inside).then(|| wishes.environment.clone()),
            set: wishes.set.clone(),
            term,
            command: wishes.command.clone(),
            terminal: wishes.terminal,
            detach: wishes.detach,
            strict: wishes.strict,
        })
    }

    /// Whether the container can trace what we run in its sight with more rights than it has.
    pub fn is_exposed(&self, facts: &ExecFacts) -> bool {
        let sees = self.join.iter().any(|name| name == "pid");
        let apart = facts.apart.contains(&"user");
        self.confine.is_none() && sees && !apart && facts.status.cap_bnd & SYS_PTRACE != 0
    }
}

/// Whoever a process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// Rights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityContext {
    /// The bounding set, and the others, as `status` has them.
    pub bounding: u64,
    /// Permitted.
    pub permitted: u64,
    /// Effective.
    pub effective: u64,
    /// Inheritable.
    pub inheritable: u64,
    /// Ambient.
    pub ambient: u64,
    /// `no_new_privs`.
    pub no_new_privs: bool,
    /// Whether a filter of system calls is to be taken over.
    pub filtered: bool,
    /// The label of a security module.
    pub label: Option<Vec<u8>>,
}

/// What a process has around it beside rights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessAttributes {
    /// Limits.
    pub limits: Vec<ResourceLimit>,
    /// The umask; none where the kernel does not tell (before Linux 4.7).
    pub umask: Option<u32>,
    /// How willingly it is killed when memory runs out.
    pub oom_score_adj: Option<i32>,
    /// Its niceness.
    pub nice: i32,
    /// The processors it may run on, as a mask of bits.
    pub cpus: Vec<u8>,
}

/// `-u USER[:GROUP]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSpec {
    /// The user.
    pub user: UserOrGroup,
    /// The group.
    pub group: Option<UserOrGroup>,
}

/// A user or a group as it was typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserOrGroup {
    /// What is all digits is a number, and never looked up.
    Number(u32),
    /// Anything else is a name.
    Name(Vec<u8>),
}

impl UserOrGroup {
    fn parse(word: &[u8]) -> Result<Self, String> {
        let text = String::from_utf8_lossy(word);
        if word.is_empty() {
            return Err("a user or group without a name".into());
        }
        if !word.iter().all(u8::is_ascii_digit) {
            return Ok(Self::Name(word.to_owned()));
        }
        let number = text.parse().ok().filter(|number| *number != u32::MAX);
        number.map(Self::Number).ok_or_else(|| format!("`{text}` is beyond the ids there are"))
    }
}

impl UserSpec {
    /// Reads `web`, `web:www-data`, `1000`, `1000:1000`.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(word: &[u8]) -> Result<Self, String> {
        let mut parts = word.splitn(2, |b| *b == b':');
        let user = UserOrGroup::parse(parts.next().unwrap_or_default())?;
        Ok(Self { user, group: parts.next().map(UserOrGroup::parse).transpose()? })
    }
}

/// Somebody with a home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// As whom.
    pub ids: Ids,
    /// Where they are at home, if the container's own file tells.
    pub home: Option<Vec<u8>>,
    /// Their shell, likewise.
    pub shell: Option<Vec<u8>>,
}

/// Who is meant, by the container's own passwd and group. A name's further groups come with it, unless
/// a group was asked for; a number that has no line is in group 0, as in Docker.
///
/// # Errors
/// Says who there is not.
pub fn identify(
    spec: Option<&UserSpec>,
    own: &Ids,
    passwd: &[u8],
    group: &[u8],
) -> Result<Identity, String> {
    let of = |uid: u32| accounts(passwd).find(|account| account.uid == uid);
    let text = String::from_utf8_lossy;
    let Some(spec) = spec else {
        let account = of(own.uid);
        return Ok(Identity {
            ids: own.clone(),
            home: account.and_then(|account| account.home).map(<[u8]>::to_owned),
            shell: account.and_then(|account| account.shell).map(<[u8]>::to_owned),
        });
    };
    let account = match &spec.user {
        UserOrGroup::Number(uid) => of(*uid),
        UserOrGroup::Name(name) => {
            let account = accounts(passwd).find(|account| account.name == *name);
            Some(account.ok_or_else(|| format!("no user `{}` in its /etc/passwd", text(name)))?)
        }
    };
    let uid = match (&spec.user, account) {
        (UserOrGroup::Number(uid), _) => *uid,
        (_, Some(account)) => account.uid,
        _ => return Err("nobody".into()),
    };
    let gid = match &spec.group {
        Some(UserOrGroup::Number(gid)) => *gid,
        Some(UserOrGroup::Name(name)) => groups(group)
            .find(|group| group.name == *name)
            .map(|group| group.gid)
            .ok_or_else(|| format!("no group `{}` in its /etc/group", text(name)))?,
        None => account.map_or(0, |account| account.gid),
    };
    let mut further = Vec::new();
    if let Some(account) = account.filter(|_| spec.group.is_none()) {
        for group in groups(group).filter(|group| group.has(account.name)) {
            if !further.contains(&group.gid) {
                further.push(group.gid);
            }
        }
    }
    Ok(Identity {
        ids: Ids { uid, gid, groups: further },
        home: account.and_then(|account| account.home).map(<[u8]>::to_owned),
        shell: account.and_then(|account| account.shell).map(<[u8]>::to_owned),
    })
}

/// The rights of a command that runs as somebody: those of the process itself where they are the
/// same, else those that an engine gives: root what the bounding set allows, others none.
pub fn rights(own: &SecurityContext, same_user: bool, uid: u32) -> SecurityContext {
    let mut rights = own.clone();
    if !same_user {
        let all = if uid == 0 { own.bounding } else { 0 };
        (rights.permitted, rights.effective, rights.ambient) = (all, all, 0);
    }
    rights
}

/// The part of a security label that is written to `attr/exec`. AppArmor appends the mode of the profile
/// (`NAME (enforce)`, and since AppArmor 4 `NAME (unconfined)` for profiles with that flag; a stack of
/// profiles in several modes is `(mixed)`), whatever modes the kernel knows: the last ` (…)` is cut off.
/// A profile's own name may contain parentheses. SELinux contexts have none and stay as they are.
pub fn label_name(label: &[u8]) -> &[u8] {
    let mode = label.windows(2).rposition(|pair| pair == b" (");
    mode.filter(|_| label.ends_with(b")")).map_or(label, |mode| &label[..mode])
}

/// PATH where the container has none, as Docker's.
pub const PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment: a process's own as it was started, without what is no variable, each name once
/// and the last of it; then where somebody is at home, the terminal, and what was asked for.
pub fn environment(plan: &ExecPlan, own: &[u8], identity: &Identity) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut set = |variable: &[u8], over: bool| {
        let Some(end) = variable.iter().position(|b| *b == b'=').filter(|end| *end > 0) else {
            return;
        };
        let name = &variable[..=end];
        match all.iter_mut().find(|known| known.starts_with(name)) {
            Some(known) if over => *known = variable.to_owned(),
            Some(_) => {}
            None => all.push(variable.to_owned()),
        }
    };
    match &plan.base {
        Some(base) => base.iter().for_each(|variable| set(variable, true)),
        None => own.split(|b| *b == 0).for_each(|variable| set(variable, true)),
    }
    let with = |name: &[u8], value: &[u8]| [name, b"=", value].concat();
    if plan.inside {
        set(&with(b"PATH", PATH), false);
        let home = identity.home.as_deref().filter(|home| !home.contains(&b'\n'));
        set(&with(b"HOME", home.unwrap_or(b"/")), plan.user.is_some());
    }
    if let Some(term) = &plan.term {
        set(&with(b"TERM", term), true);
    }
    plan.set.iter().for_each(|variable| set(variable, true));
    all
}

/// Where a command may lie: itself where it has a slash, else in each folder of PATH.
pub fn candidates(command: &[u8], environment: &[Vec<u8>]) -> Vec<Vec<u8>> {
    if command.contains(&b'/') {
        return vec![command.to_owned()];
    }
    let path = environment.iter().find_map(|variable| variable.strip_prefix(b"PATH="));
    path.unwrap_or(PATH)
        .split(|b| *b == b':')
        .filter(|folder| folder.starts_with(b"/"))
        .map(|folder| [folder, b"/", command].concat())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:100::/home/web:/bin/ash\n\
        1000:x:0:0::/root:/bin/sh\nbig:x:4294967296:0::/:/bin/sh\nn:x:5:5::relative:/bin/sh\n";
    const GROUP: &[u8] = b"root:x:0:\nusers:x:100:\nvideo:x:44:alice,web\naudio:x:29:web\n";

    #[test]
    fn label_name_cuts_off_the_mode_whatever_it_is() {
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

    fn of(word: &str) -> Result<Ids, String> {
        let spec = UserSpec::parse(word.as_bytes())?;
        identify(Some(&spec), &Ids::default(), PASSWD, GROUP).map(|identity| identity.ids)
    }

    fn ids(uid: u32, gid: u32, groups: &[u32]) -> Ids {
        Ids { uid, gid, groups: groups.to_vec() }
    }

    #[test]
    fn users_are_looked_up_in_the_containers_own_files() {
        assert_eq!(of("web"), Ok(ids(1000, 100, &[44, 29])));
        assert_eq!(of("web:video"), Ok(ids(1000, 44, &[])));
        assert_eq!(of("root:7"), Ok(ids(0, 7, &[])));
        // A line whose name is all digits makes nobody root.
        assert_eq!(of("1000"), Ok(ids(1000, 100, &[44, 29])));
        assert_eq!(of("77"), Ok(ids(77, 0, &[])));
    }

    #[test]
    fn what_is_nobody_is_an_error() {
        for word in
            ["", ":", "web:", "4294967296", "4294967295", "big", "-1", "0x0", "+0", " 0", "eve:0"]
        {
            assert!(of(word).is_err(), "{word}");
        }
    }

    fn plan() -> ExecPlan {
        ExecPlan {
            beside: 1,
            parent: 1,
            join: Vec::new(),
            inside: true,
            own_proc: false,
            user: None,
            ids: Ids::default(),
            outer_groups: Vec::new(),
            confine: None,
            surround: None,
            workdir: None,
            base: None,
            set: Vec::new(),
            term: None,
            command: Vec::new(),
            terminal: None,
            detach: false,
            strict: false,
        }
    }

    fn somebody(home: Option<&[u8]>) -> Identity {
        Identity { ids: Ids::default(), home: home.map(<[u8]>::to_owned), shell: None }
    }

    fn texts(all: &[Vec<u8>]) -> Vec<String> {
        all.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    #[test]
    fn the_environment_is_the_containers() {
        let own = b"A=1\0NOEQ\0=x\0PATH=/evil\0A=2\0N=a\nb\0";
        let got = environment(&plan(), own, &somebody(Some(b"/root")));
        assert_eq!(texts(&got), ["A=2", "PATH=/evil", "N=a\nb", "HOME=/root"]);
        let asked = ExecPlan {
            user: UserSpec::parse(b"5").ok(),
            set: vec![b"A=".to_vec(), b"B=3".to_vec()],
            term: Some(b"xterm".to_vec()),
            ..plan()
        };
        let got = environment(&asked, b"HOME=/root\0A=1\0", &somebody(Some(b"/a\nb")));
        let path = format!("PATH={}", String::from_utf8_lossy(PATH));
        assert_eq!(texts(&got), ["HOME=/", "A=", path.as_str(), "TERM=xterm", "B=3"]);
    }

    #[test]
    fn a_command_lies_where_path_says_or_where_it_says_itself() {
        let path = [b"PATH=/a::relative:/b".to_vec()];
        assert_eq!(texts(&candidates(b"ls", &path)), ["/a/ls", "/b/ls"]);
        assert_eq!(texts(&candidates(b"./ls", &path)), ["./ls"]);
        assert_eq!(candidates(b"ls", &[]).len(), 6);
    }

    #[test]
    fn another_user_has_an_engines_rights() {
        let own = SecurityContext {
            bounding: 7,
            permitted: 1,
            effective: 1,
            inheritable: 0,
            ambient: 1,
            no_new_privs: true,
            filtered: true,
            label: None,
        };
        assert_eq!(rights(&own, true, 5), own);
        let root = rights(&own, false, 0);
        assert_eq!((root.permitted, root.effective, root.ambient), (7, 7, 0));
        let other = rights(&own, false, 5);
        assert_eq!((other.permitted, other.effective, other.bounding), (0, 0, 7));
    }
}
