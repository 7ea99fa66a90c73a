//! The helper that goes in: our own program, started anew from a sealed file, with nothing of ours but
//! the descriptors it was given. It has no threads. The order is what keeps the container from
//! reaching out:
//!
//! 1. What only the host tells is read or opened first. Once the mounts are joined, no path of `/proc`,
//!    `/sys` or `/dev` is what it seems.
//! 2. Then the namespaces are joined. Joining a PID namespace moves only children: the container does
//!    not see us, and cannot trace us, while we have what it may not have.
//! 3. What lies inside is looked up beneath its root, opened without reading first.
//! 4. Rights are given up last of all that needs them, and every descriptor but the command's own is
//!    closed.
//! 5. Only then the child is made that the container sees. It waits until it is in its cgroups, and
//!    becomes the command.

use std::cell::RefCell;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat};
use rustix::thread::{CapabilitySet, CapabilitySets, ThreadNameSpaceType};

use super::wire::{self, Failure, Step, Told};
use crate::analysis::entry::{
    Confinement, EntryPlan, Identity, Surroundings, candidates, environment, identify, rights,
};
use crate::model::namespace::{Kind, NamespaceId};
use crate::model::{capability, limits};
use crate::sys::{process, seccomp};

/// Larger files of users are not read.
const MAX_ACCOUNTS: u64 = 1 << 20;
/// Nor is more of an environment.
const MAX_ENVIRONMENT: u64 = 256 << 10;
/// How long a thread may take to stop, so that its filters can be read.
const PATIENCE: Duration = Duration::from_secs(1);

/// The helper's whole life; its status is the command's.
pub fn main() -> i32 {
    let Some((plan, helper)) = Helper::take() else { return 125 };
    match helper.enter(&plan) {
        Ok(Some(child)) => wait_as(child),
        Ok(None) => 125,
        Err((socket, steps, failure)) => {
            let _ = wire::tell(socket, &Told::Failed(steps, failure), None);
            125
        }
    }
}

/// The descriptors that were given.
struct Helper {
    socket: OwnedFd,
    report: OwnedFd,
    release: OwnedFd,
    pidfd: OwnedFd,
    process: OwnedFd,
    root: OwnedFd,
    workdir: OwnedFd,
    proc: OwnedFd,
    terminal: Option<OwnedFd>,
    /// What is told at the end: one message costs less than many.
    steps: RefCell<Vec<Step>>,
}

/// What was read before anything was joined.
struct Strange {
    environment: Vec<u8>,
    filters: Vec<seccomp::Filter>,
    label: Option<File>,
    /// Our own namespaces' links, and what they have to be.
    own: OwnedFd,
    wanted: Vec<(Kind, NamespaceId)>,
    /// Files of the namespaces, for kernels that join them one by one.
    files: Vec<(Kind, OwnedFd)>,
}

fn folder() -> OFlags {
    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC
}

fn read_only() -> OFlags {
    OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC
}

impl Helper {
    fn take() -> Option<(EntryPlan, Self)> {
        let plan = wire::read_plan(process::inherited(wire::PLAN)?).ok()?;
        let helper = Self {
            socket: process::inherited(wire::SOCKET)?,
            report: process::inherited(wire::REPORT)?,
            release: process::inherited(wire::RELEASE)?,
            pidfd: process::inherited(wire::PIDFD)?,
            process: process::inherited(wire::PROCESS)?,
            root: process::inherited(wire::ROOT)?,
            workdir: process::inherited(wire::WORKDIR)?,
            proc: process::inherited(wire::PROC)?,
            terminal: process::inherited(wire::TERMINAL),
            steps: RefCell::default(),
        };
        Some((plan, helper))
    }

    fn done(&self, text: impl Into<String>) {
        self.steps.borrow_mut().push(Step::Done(text.into()));
    }

    /// What cannot be carried over is told, or ends it.
    fn lacks(&self, plan: &EntryPlan, what: &str, why: impl ToString) -> Result<(), Failure> {
        if plan.strict {
            return Err(Failure::new(format!("{what} cannot be carried over"), why)
                .hint("without `--strict` it is a warning"));
        }
        let text = format!("{what} not carried over: {}", why.to_string());
        self.steps.borrow_mut().push(Step::Lacks(text));
        Ok(())
    }

    fn enter(self, plan: &EntryPlan) -> Result<Option<Pid>, (OwnedFd, Vec<Step>, Failure)> {
        match self.prepare(plan) {
            Ok(ready) => Ok(self.begin(plan, &ready)),
            Err(failure) => Err((self.socket, self.steps.take(), failure)),
        }
    }

    fn prepare(&self, plan: &EntryPlan) -> Result<Ready, Failure> {
        // Nobody is left to report to when who started us has gone.
        let death = Some(rustix::process::Signal::KILL);
        let _ = rustix::process::set_parent_process_death_signal(death);
        if rustix::process::getppid().is_none_or(|parent| parent.as_raw_pid() != plan.parent) {
            process::leave(125);
        }
        // 1. What the host tells, of it and of us.
        let strange = self.read(plan)?;
        if let Some(around) = &plan.surround {
            self.surround(plan, around)?;
        }
        let _ = process::new_session_keyring();
        if joins_users(plan) {
            // A user namespace may forbid setgroups(2) for ever, and then ours would stay with us.
            let groups: Vec<Gid> = plan.outer_groups.iter().copied().map(Gid::from_raw).collect();
            let _ = nix::unistd::setgroups(&groups);
        }
        // From here on nobody without CAP_SYS_PTRACE opens our files in /proc.
        let _ =
            rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
        // 2. In.
        self.join(plan, &strange)?;
        if plan.inside {
            rustix::process::fchdir(&self.root)
                .and_then(|()| rustix::process::chroot("."))
                .map_err(|errno| Failure::new("cannot make its root ours", errno))?;
        }
        // 3. What lies inside.
        let identity = self.identity(plan)?;
        self.workdir(plan)?;
        if plan.terminal.is_some() {
            self.terminal(plan, &identity)?;
        }
        let environment = environment(plan, &strange.environment, &identity);
        let command = match plan.command.first() {
            Some(_) => plan.command.clone(),
            None => vec![identity.shell.clone().unwrap_or_else(|| b"/bin/sh".to_vec())],
        };
        // 4. Rights.
        if let Some(around) = &plan.surround {
            self.limits(plan, around)?;
        }
        let late = self.give_up(plan, &identity, strange)?;
        Ok(Ready { places: candidates(&command[0], &environment), command, environment, late })
    }

    fn read(&self, plan: &EntryPlan) -> Result<Strange, Failure> {
        let gone = |errno: rustix::io::Errno| Failure::new("cannot look at the process", errno);
        let own = openat(&self.proc, "self/ns", folder(), Mode::empty()).map_err(gone)?;
        let kinds = plan.join.iter().filter_map(|name| Kind::named(name));
        let (mut wanted, mut files) = (Vec::new(), Vec::new());
        for kind in kinds {
            let path = format!("ns/{}", kind.name);
            let link = readlinkat(&self.process, &path, Vec::new()).map_err(gone)?;
            wanted.extend(NamespaceId::parse(link.as_bytes()).map(|id| (kind, id)));
            let file = openat(&self.process, &path, read_only(), Mode::empty()).map_err(gone)?;
            files.push((kind, file));
        }
        let mut environment = Vec::new();
        if plan.base.is_none() {
            let file = openat(&self.process, "environ", read_only(), Mode::empty());
            let read = file.map_err(std::io::Error::from).and_then(|file| {
                File::from(file).take(MAX_ENVIRONMENT).read_to_end(&mut environment)
            });
            if let Err(error) = read {
                self.lacks(plan, "its environment", error)?;
            }
        }
        let mut filters = Vec::new();
        let mut label = None;
        if let Some(confine) = &plan.confine {
            if confine.filtered {
                match seccomp::filters(plan.beside, PATIENCE) {
                    Ok(read) => filters = read,
                    Err(errno) => self.lacks(
                        plan,
                        "its filter of system calls (seccomp)",
                        match errno {
                            Errno::EACCES => {
                                "that takes CAP_SYS_ADMIN, and no filter of our own".into()
                            }
                            Errno::EPERM => {
                                "somebody else traces the process, or it is not ours to trace"
                                    .into()
                            }
                            Errno::ETIMEDOUT => "the process does not stop for it".into(),
                            Errno::EIO => {
                                "the kernel was built without CONFIG_CHECKPOINT_RESTORE".into()
                            }
                            errno => errno.to_string(),
                        },
                    )?,
                }
            }
            if confine.label.is_some() {
                let flags = OFlags::WRONLY | OFlags::CLOEXEC;
                label = ["self/attr/apparmor/exec", "self/attr/exec"]
                    .into_iter()
                    .find_map(|path| openat(&self.proc, path, flags, Mode::empty()).ok())
                    .map(File::from);
            }
        }
        Ok(Strange { environment, filters, label, own, wanted, files })
    }

    /// What takes the host's files to set, or rights that are not the container's.
    fn surround(&self, plan: &EntryPlan, around: &Surroundings) -> Result<(), Failure> {
        if let Some(score) = around.oom_score_adj {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let set = openat(&self.proc, "self/oom_score_adj", flags, Mode::empty())
                .map_err(std::io::Error::from)
                .and_then(|file| File::from(file).write_all(score.to_string().as_bytes()));
            if let Err(error) = set {
                self.lacks(plan, &format!("its oom_score_adj of {score}"), error)?;
            }
        }
        if let Err(errno) = rustix::process::setpriority_process(None, around.nice) {
            self.lacks(plan, &format!("its niceness of {}", around.nice), errno)?;
        }
        let mut cpus = rustix::thread::CpuSet::new();
        (0..around.cpus.len() * 8)
            .filter(|cpu| around.cpus[cpu / 8] & (1 << (cpu % 8)) != 0)
            .filter(|cpu| *cpu < rustix::thread::CpuSet::MAX_CPU)
            .for_each(|cpu| cpus.set(cpu));
        // Its cpuset may be narrower than ours: then the cgroup decides.
        let _ = rustix::thread::sched_setaffinity(None, &cpus);
        Ok(())
    }

    fn join(&self, plan: &EntryPlan, strange: &Strange) -> Result<(), Failure> {
        let flags = strange.files.iter().fold(0, |all, (kind, _)| all | kind.flag);
        if flags != 0 {
            let types = ThreadNameSpaceType::from_bits_retain(flags);
            match rustix::thread::move_into_thread_name_spaces(self.pidfd.as_fd(), types) {
                Ok(()) => {}
                // Before Linux 5.8 a pidfd is no way to join.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::BADF) => one_by_one(strange)?,
                Err(rustix::io::Errno::SRCH) => {
                    return Err(Failure::new("cannot enter the container", "it has just ended"));
                }
                Err(errno) => return Err(not_joined(&plan.join.join(", "), errno)),
            }
        }
        // That we are where we wanted to be is not taken on trust.
        for (kind, id) in &strange.wanted {
            let name = if kind.name == "pid" { "pid_for_children" } else { kind.name };
            let link = readlinkat(&strange.own, name, Vec::new());
            let now = link.ok().and_then(|link| NamespaceId::parse(link.as_bytes()));
            // (Before the first child is made the kernel shows no PID namespace for children.)
            if now != Some(*id) && !(now.is_none() && kind.name == "pid") {
                return Err(Failure::new(
                    format!("cannot join its {} namespace", kind.name),
                    "the process has left it meanwhile",
                ));
            }
        }
        if !plan.join.is_empty() {
            self.done(format!("joined the namespaces {}", plan.join.join(", ")));
        }
        Ok(())
    }

    /// A file beneath the root, of this type, opened without reading first: what is not a file may
    /// keep whoever opens it waiting.
    fn beneath(&self, path: &[u8], kind: FileType) -> Result<OwnedFd, rustix::io::Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let mut tries = 0;
        let found = loop {
            match openat2(&self.root, path, flags, Mode::empty(), resolve) {
                // Something above was renamed meanwhile.
                Err(rustix::io::Errno::AGAIN) if tries < 128 => tries += 1,
                // Before Linux 5.6. The root is ours by now: nothing leads out of it.
                Err(rustix::io::Errno::NOSYS) => {
                    let from: &[u8] = path.strip_prefix(b"/").unwrap_or(path);
                    break openat(&self.root, from, flags | OFlags::NOFOLLOW, Mode::empty())?;
                }
                other => break other?,
            }
        };
        if FileType::from_raw_mode(fstat(&found)?.st_mode) != kind {
            return Err(rustix::io::Errno::NOTSUP);
        }
        Ok(found)
    }

    /// The same file, open for more than its place.
    fn again(&self, found: &OwnedFd, flags: OFlags) -> Result<OwnedFd, rustix::io::Errno> {
        let path = format!("self/fd/{}", found.as_raw_fd());
        openat(&self.proc, path, flags | OFlags::CLOEXEC, Mode::empty())
    }

    fn accounts(&self, path: &str) -> Vec<u8> {
        let read = || -> std::io::Result<Vec<u8>> {
            let found = self.beneath(path.as_bytes(), FileType::RegularFile)?;
            let file = File::from(self.again(&found, read_only())?);
            let mut bytes = Vec::new();
            file.take(MAX_ACCOUNTS + 1).read_to_end(&mut bytes)?;
            // A line that is cut off would be another one.
            if bytes.len() as u64 > MAX_ACCOUNTS { Ok(Vec::new()) } else { Ok(bytes) }
        };
        read().unwrap_or_default()
    }

    fn identity(&self, plan: &EntryPlan) -> Result<Identity, Failure> {
        let (mut passwd, mut group) = (Vec::new(), Vec::new());
        if plan.inside {
            passwd = self.accounts("etc/passwd");
            group = if plan.user.is_some() { self.accounts("etc/group") } else { Vec::new() };
        }
        identify(plan.user.as_ref(), &plan.ids, &passwd, &group)
            .map_err(|why| Failure::new("no such user", why).hint("a number needs no file"))
    }

    fn workdir(&self, plan: &EntryPlan) -> Result<(), Failure> {
        let Some(asked) = &plan.workdir else {
            if !plan.inside {
                // The host's tools begin at the host's root.
                return rustix::process::chdir("/").map_err(|e| Failure::new("no root", e));
            }
            let set = rustix::process::fchdir(&self.workdir).and_then(|()| within());
            if set.is_err() {
                self.lacks(plan, "its working directory", "it lies outside of its root")?;
                rustix::process::chdir("/").map_err(|e| Failure::new("no root", e))?;
            }
            return Ok(());
        };
        let what = || format!("cannot begin in `{}`", String::from_utf8_lossy(asked));
        let set = if plan.inside {
            let found = self.beneath(asked, FileType::Directory);
            found.and_then(rustix::process::fchdir).and_then(|()| within())
        } else {
            rustix::process::chdir(asked.as_slice())
        };
        set.map_err(|errno| match errno {
            rustix::io::Errno::NOTSUP => Failure::new(what(), "it is no directory"),
            errno => Failure::new(what(), errno),
        })
    }

    /// A terminal of the container's own, so that it has a name there; the host's where it has none.
    fn terminal(&self, plan: &EntryPlan, identity: &Identity) -> Result<(), Failure> {
        let made = if plan.inside { self.inside_terminal() } else { Err(rustix::io::Errno::NOENT) };
        let slave = match made {
            Ok((master, slave)) => {
                wire::tell(&self.socket, &Told::Terminal, Some(master.as_fd()))
                    .map_err(|error| Failure::new("cannot hand over the terminal", error))?;
                slave
            }
            Err(errno) => {
                if plan.inside {
                    self.lacks(
                        plan,
                        "the name of its terminal",
                        format!(
                            "the container has no devpts of its own ({errno}), so `tty` finds none"
                        ),
                    )?;
                }
                let own = self.terminal.as_ref().map(OwnedFd::try_clone).and_then(Result::ok);
                own.ok_or_else(|| Failure::new("no terminal", errno))?
            }
        };
        let (uid, mode) = (Uid::from_raw(identity.ids.uid), Mode::from_raw_mode(0o620));
        // The host's may belong to somebody who is nobody inside.
        let _ = nix::unistd::fchown(&slave, Some(uid), None);
        let _ = rustix::fs::fchmod(&slave, mode);
        dup2_stdin(&slave)
            .and_then(|()| dup2_stdout(&slave))
            .and_then(|()| dup2_stderr(&slave))
            .map_err(|errno| Failure::new("no terminal", errno))
    }

    /// By its `/dev/pts/ptmx`, which has to be the kernel's.
    fn inside_terminal(&self) -> Result<(OwnedFd, OwnedFd), rustix::io::Errno> {
        const DEVPTS: rustix::fs::FsWord = 0x1cd1;
        let found = self.beneath(b"dev/pts/ptmx", FileType::CharacterDevice)?;
        let device = fstat(&found)?.st_rdev;
        let is_it = (rustix::fs::major(device), rustix::fs::minor(device)) == (5, 2)
            && rustix::fs::fstatfs(&found)?.f_type == DEVPTS;
        if !is_it {
            return Err(rustix::io::Errno::NOTTY);
        }
        let master = self.again(&found, OFlags::RDWR | OFlags::NOCTTY)?;
        rustix::pty::unlockpt(&master)?;
        let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
        let slave =
            rustix::pty::ioctl_tiocgptpeer(&master, flags | rustix::pty::OpenptFlags::CLOEXEC)?;
        Ok((master, slave))
    }

    fn limits(&self, plan: &EntryPlan, around: &Surroundings) -> Result<(), Failure> {
        let own = limits::parse(
            &openat(&self.proc, "self/limits", read_only(), Mode::empty())
                .ok()
                .and_then(|file| {
                    let mut bytes = Vec::new();
                    File::from(file).read_to_end(&mut bytes).ok().map(|_| bytes)
                })
                .unwrap_or_default(),
        );
        for limit in around.limits.iter().filter(|limit| !own.contains(limit)) {
            if let Err(errno) = process::set_limit(limit.resource, limit.soft, limit.hard) {
                let why = if errno == Errno::EPERM {
                    "raising it takes CAP_SYS_RESOURCE".into()
                } else {
                    errno.to_string()
                };
                self.lacks(plan, &format!("its limit RLIMIT_{}", limit.name()), why)?;
            }
        }
        Ok(())
    }

    /// Becomes who the command is to be. Gives the filters that are to be loaded last of all.
    fn give_up(
        &self,
        plan: &EntryPlan,
        identity: &Identity,
        strange: Strange,
    ) -> Result<Vec<seccomp::Filter>, Failure> {
        let failed = |what: &'static str| move |errno: rustix::io::Errno| Failure::new(what, errno);
        if let (Some(label), Some(mut file)) =
            (plan.confine.as_ref().and_then(|confine| confine.label.as_ref()), strange.label)
        {
            // AppArmor shows `NAME (enforce)`; a label of SELinux is written as it is read.
            let name = label.strip_suffix(b" (enforce)").unwrap_or(label);
            let name = name.strip_suffix(b" (complain)").unwrap_or(name);
            let is_selinux = name.iter().filter(|b| **b == b':').count() >= 3;
            let text = if is_selinux { name.to_vec() } else { [b"exec ", name].concat() };
            file.write_all(&text)
                .map_err(|error| Failure::new("cannot take over its security label", error))?;
            self.done(format!("security label {}", String::from_utf8_lossy(name)));
        } else if plan.confine.as_ref().is_some_and(|confine| confine.label.is_some()) {
            return Err(Failure::new(
                "cannot take over its security label",
                "no attr/exec in /proc",
            )
            .hint("`--privileged` goes without"));
        }
        let Some(confine) = &plan.confine else {
            self.become_user(plan, identity)?;
            return Ok(Vec::new());
        };
        let rights = rights(confine, identity.ids == plan.ids, identity.ids.uid);
        let all = rustix::thread::capabilities(None).map_err(failed("cannot read our rights"))?;
        for bit in (0..64).filter(|bit| rights.bounding & (1 << bit) == 0) {
            let one = CapabilitySet::from_bits_retain(1 << bit);
            match rustix::thread::remove_capability_from_bounding_set(one) {
                // There are no more.
                Err(rustix::io::Errno::INVAL) => break,
                gone => gone.map_err(failed("cannot give up a capability"))?,
            }
        }
        rustix::thread::set_keep_capabilities(true).map_err(failed("cannot keep our rights"))?;
        self.become_user(plan, identity)?;
        // Who has become another user has them still, but not at hand.
        let held = CapabilitySets { effective: all.permitted, ..all };
        let _ = rustix::thread::set_capabilities(None, held);
        let mut late = strange.filters;
        if !late.is_empty() {
            self.done(format!("{} seccomp filters", late.len()));
        }
        if !rights.no_new_privs {
            // Without no_new_privs loading takes a right that is given up below: that, and what
            // follows, has to be within what the filters let through, as with every runtime.
            for filter in std::mem::take(&mut late) {
                seccomp::load(&filter)
                    .map_err(|errno| Failure::new("cannot take over its seccomp filter", errno))?;
            }
        }
        self.set_rights(plan, &rights, all)?;
        Ok(late)
    }

    fn set_rights(
        &self,
        plan: &EntryPlan,
        rights: &Confinement,
        have: CapabilitySets,
    ) -> Result<(), Failure> {
        let set = |bits: u64| CapabilitySet::from_bits_retain(bits) & have.permitted;
        let lacking = CapabilitySet::from_bits_retain(rights.permitted) - have.permitted;
        if !lacking.is_empty() {
            let names = capability::names(lacking.bits()).join(", ");
            self.lacks(plan, &format!("its capabilities {names}"), "we do not have them")?;
        }
        let sets = CapabilitySets {
            effective: set(rights.effective),
            permitted: set(rights.permitted),
            inheritable: set(rights.inheritable),
        };
        rustix::thread::set_capabilities(None, sets)
            .map_err(|errno| Failure::new("cannot give up our rights", errno))?;
        let _ = rustix::thread::clear_ambient_capability_set();
        for bit in (0..64).filter(|bit| rights.ambient & (1 << bit) != 0) {
            let one = CapabilitySet::from_bits_retain(1 << bit);
            if !one.is_empty()
                && let Err(errno) = rustix::thread::configure_capability_in_ambient_set(one, true)
            {
                self.lacks(plan, "an ambient capability", errno)?;
            }
        }
        if rights.no_new_privs {
            rustix::thread::set_no_new_privs(true)
                .map_err(|errno| Failure::new("cannot set no_new_privs", errno))?;
        }
        self.done(format!(
            "capabilities {}, at most {}{}",
            capability::summary(rights.effective),
            capability::summary(rights.bounding),
            if rights.no_new_privs { ", no_new_privs" } else { "" }
        ));
        Ok(())
    }

    fn become_user(&self, plan: &EntryPlan, identity: &Identity) -> Result<(), Failure> {
        if !plan.inside && plan.user.is_none() && !joins_users(plan) {
            return Ok(());
        }
        let ids = &identity.ids;
        let groups: Vec<Gid> = ids.groups.iter().copied().map(Gid::from_raw).collect();
        let has = || {
            let own = nix::unistd::getgroups().unwrap_or_default();
            own.len() == groups.len() && groups.iter().all(|group| own.contains(group))
        };
        if let Err(errno) = nix::unistd::setgroups(&groups)
            && !has()
        {
            self.lacks(
                plan,
                "its supplementary groups",
                match errno {
                    Errno::EPERM => "its user namespace does not allow setgroups(2)".into(),
                    errno => errno.to_string(),
                },
            )?;
        }
        let (uid, gid) = (Uid::from_raw(ids.uid), Gid::from_raw(ids.gid));
        nix::unistd::setresgid(gid, gid, gid)
            .and_then(|()| nix::unistd::setresuid(uid, uid, uid))
            .map_err(|errno| {
                let what = format!("cannot become user {uid} of group {gid}");
                match errno {
                    Errno::EINVAL => Failure::new(what, "its user namespace has no such id"),
                    Errno::EPERM => Failure::new(what, "not permitted").hint("run as root"),
                    errno => Failure::new(what, errno),
                }
            })?;
        self.done(format!("user {uid}, group {gid}"));
        Ok(())
    }

    /// 5. The child. Whatever the container could take from it has been closed before.
    fn begin(self, plan: &EntryPlan, ready: &Ready) -> Option<Pid> {
        if wire::tell(&self.socket, &Told::Ready(self.steps.take()), None).is_err() {
            return None;
        }
        let (Ok(report), Ok(release)) = (self.report.try_clone(), self.release.try_clone()) else {
            return None;
        };
        // Only the standard streams, the report and the word to begin are left.
        drop(self);
        match process::fork() {
            Ok(Some(child)) => {
                let mut line = vec![b'P'];
                line.extend(child.to_ne_bytes());
                let _ = File::from(report).write_all(&line);
                drop(release);
                // Whoever waits for the end of the command's output must not wait for us.
                process::close_from(0);
                Some(Pid::from_raw(child))
            }
            Ok(None) => ready.become_it(plan, File::from(report), File::from(release)),
            Err(errno) => {
                let _ = File::from(report).write_all(&failed(errno, false));
                None
            }
        }
    }
}

/// What the child needs.
struct Ready {
    command: Vec<Vec<u8>>,
    places: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
    late: Vec<seccomp::Filter>,
}

/// What hindered the command, for the report.
fn failed(errno: Errno, there: bool) -> Vec<u8> {
    let mut line = vec![b'E'];
    line.extend((errno as i32).to_ne_bytes());
    line.push(u8::from(there));
    line
}

impl Ready {
    /// The child, in the container's sight now.
    fn become_it(&self, plan: &EntryPlan, mut report: File, mut release: File) -> ! {
        if release.read_exact(&mut [0]).is_err() {
            // Nobody is there any more to say so.
            process::leave(125);
        }
        let _ = rustix::process::setsid();
        if plan.terminal.is_some() {
            let _ = rustix::process::ioctl_tiocsctty(rustix::stdio::stdin());
        }
        if plan.own_proc {
            let _ = own_proc();
        }
        if let Some(umask) = plan.surround.as_ref().and_then(|around| around.umask) {
            rustix::process::umask(Mode::from_raw_mode(umask));
        }
        // Without us it is as when a terminal goes away; a program that wants to stay ignores that.
        let death = (!plan.detach).then_some(rustix::process::Signal::HUP);
        let _ = rustix::process::set_parent_process_death_signal(death);
        process::default_signals();
        for filter in &self.late {
            if let Err(errno) = seccomp::load(filter) {
                let _ = report.write_all(&failed(errno, true));
                process::leave(125);
            }
        }
        let (errno, there) = self.exec();
        let _ = report.write_all(&failed(errno, there));
        process::leave(127)
    }

    /// Why none of the places has it: that of one which is there goes before all others.
    fn exec(&self) -> (Errno, bool) {
        let strings = |all: &[Vec<u8>]| -> Vec<CString> {
            all.iter().filter_map(|one| CString::new(one.as_slice()).ok()).collect()
        };
        let (argv, environment) = (strings(&self.command), strings(&self.environment));
        let mut worst = (Errno::ENOENT, false);
        for place in strings(&self.places) {
            let Err(errno) = nix::unistd::execve(&place, &argv, &environment);
            let path = Path::new(OsStr::from_bytes(place.as_bytes()));
            let there = errno != Errno::ENOTDIR && std::fs::symlink_metadata(path).is_ok();
            if there && !worst.1 {
                worst = (errno, true);
            }
        }
        worst
    }
}

fn own_proc() -> Result<(), rustix::io::Errno> {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| rustix::io::Errno::from_raw_os_error(e as i32))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount(
        "proc",
        "/proc",
        "proc",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        None,
    )
}

fn joins_users(plan: &EntryPlan) -> bool {
    plan.join.iter().any(|name| name == "user")
}

/// Whether the working directory is within our root (CVE-2024-21626).
fn within() -> Result<(), rustix::io::Errno> {
    let path = rustix::process::getcwd(Vec::new())?;
    if path.as_bytes().starts_with(b"/") { Ok(()) } else { Err(rustix::io::Errno::NOENT) }
}

/// Before Linux 5.8: what may be joined with the rights we have, then the user namespace, then what
/// takes rights in there. The mounts go last of each round.
fn one_by_one(strange: &Strange) -> Result<(), Failure> {
    let mut left: Vec<&(Kind, OwnedFd)> = strange.files.iter().collect();
    left.sort_by_key(|(kind, _)| kind.name == "mnt");
    for round in 0..3 {
        let mut next = Vec::new();
        for one in left {
            let (kind, file) = one;
            if (kind.name == "user") != (round == 1) && round < 2 {
                next.push(one);
                continue;
            }
            let joined = rustix::thread::move_into_link_name_space(file.as_fd(), None);
            match joined {
                Ok(()) => {}
                Err(rustix::io::Errno::PERM) if round == 0 => next.push(one),
                Err(errno) => return Err(not_joined(kind.name, errno)),
            }
        }
        left = next;
    }
    Ok(())
}

fn not_joined(what: &str, errno: rustix::io::Errno) -> Failure {
    let failure = Failure::new(format!("cannot join the namespaces {what}"), errno);
    match errno {
        rustix::io::Errno::PERM => failure
            .hint("it takes CAP_SYS_ADMIN over them: run as root, or join its user namespace too, where it is yours (`--ns user,net`)"),
        _ => failure,
    }
}

/// Waits for the command, and ends as it did.
fn wait_as(child: Pid) -> i32 {
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, status)) => return status,
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                let _ = process::set_limit(4, Some(0), Some(0));
                if signal != Signal::SIGKILL {
                    process::default_signals();
                }
                let _ = raise(signal);
                return 128 + signal as i32;
            }
            Err(Errno::EINTR) | Ok(_) => {}
            Err(_) => return 125,
        }
    }
}
