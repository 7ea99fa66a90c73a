//! Rights: limits, capabilities, the user, the filters and the label, taken over from the process that
//! is entered beside, and whatever goes beyond that given up.

use std::fs::File;
use std::io::{Read, Write};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid};
use rustix::fs::{Mode, openat};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::super::protocol::HelperError;
use super::{Helper, HostState, joins_users, read_only};
use crate::analysis::exec_plan::{
    ExecPlan, Identity, ProcessAttributes, SecurityContext, label_name, rights,
};
use crate::model::{capability, limits};
use crate::sys::{process, seccomp};

impl Helper {
    pub(super) fn limits(
        &self,
        plan: &ExecPlan,
        around: &ProcessAttributes,
    ) -> Result<(), HelperError> {
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
    pub(super) fn give_up(
        &self,
        plan: &ExecPlan,
        identity: &Identity,
        strange: HostState,
    ) -> Result<Vec<seccomp::Filter>, HelperError> {
        let failed =
            |what: &'static str| move |errno: rustix::io::Errno| HelperError::new(what, errno);
        if let (Some(label), Some(mut file)) =
            (plan.confine.as_ref().and_then(|confine| confine.label.as_ref()), strange.label)
        {
            let name = label_name(label);
            let is_selinux = name.iter().filter(|b| **b == b':').count() >= 3;
            let text = if is_selinux { name.to_vec() } else { [b"exec ", name].concat() };
            file.write_all(&text).map_err(|error| {
                HelperError::new("cannot take over its security label", error)
                    .hint("`--privileged` goes without")
            })?;
            self.done(format!("security label {}", String::from_utf8_lossy(name)));
        } else if plan.confine.as_ref().is_some_and(|confine| confine.label.is_some()) {
            return Err(HelperError::new(
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
            let plural = if late.len() == 1 { "" } else { "s" };
            self.done(format!("{} seccomp filter{plural}", late.len()));
        }
        if !rights.no_new_privs {
            // Without no_new_privs loading takes a right that is given up below: that, and what
            // follows, has to be within what the filters let through, as with every runtime.
            for filter in std::mem::take(&mut late) {
                seccomp::load(&filter).map_err(|errno| {
                    HelperError::new("cannot take over its seccomp filter", errno)
                })?;
            }
        }
        self.set_rights(plan, &rights, all)?;
        Ok(late)
    }

    pub(super) fn set_rights(
        &self,
        plan: &ExecPlan,
        rights: &SecurityContext,
        have: CapabilitySets,
    ) -> Result<(), HelperError> {
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
            .map_err(|errno| HelperError::new("cannot give up our rights", errno))?;
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
                .map_err(|errno| HelperError::new("cannot set no_new_privs", errno))?;
        }
        self.done(format!(
            "capabilities {}, at most {}{}",
            capability::summary(rights.effective).replace(',', " "),
            capability::summary(rights.bounding).replace(',', " "),
            if rights.no_new_privs { ", no_new_privs" } else { "" }
        ));
        Ok(())
    }

    pub(super) fn become_user(
        &self,
        plan: &ExecPlan,
        identity: &Identity,
    ) -> Result<(), HelperError> {
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
                    Errno::EINVAL => HelperError::new(what, "its user namespace has no such id"),
                    Errno::EPERM => HelperError::new(what, "not permitted").hint("run as root"),
                    errno => HelperError::new(what, errno),
                }
            })?;
        self.done(format!("user {uid}, group {gid}"));
        Ok(())
    }
}
