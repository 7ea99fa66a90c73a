//! The target's confinement: security label, user, capability sets, seccomp filters and no_new_privs,
//! taken over for the command; privileges beyond it are dropped. The caps crate reads and sets the
//! capability sets of this (the only) thread. The crate has capabilities by name, so newer ones are cleared from
//! every set but the bounding set; `sys::capability` drops them from that.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::Duration;

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, getgroups, setgroups, setresgid, setresuid};

use crate::action::exec::errors::{cannot, failure};
use crate::action::exec::events::{Attribute, ExecEvent, ExecReporter};
use crate::analysis::exec_plan::{
    ExecPlan, SecurityContext, is_selinux_context, label_files, label_name,
};
use crate::analysis::user::Ids;
use crate::error::{Error, os_error};
use crate::model::bytes::message_text;
use crate::sys::fd::open_at;
use crate::sys::{capability, seccomp};

/// How long the target's thread may take to stop, so that its filters can be read.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// The parts of the confinement that are read or opened before anything is joined.
pub struct Confinement {
    filters: Vec<seccomp::Filter>,
    /// The helper's own `attr/exec`.
    label_file: Option<File>,
}

impl Confinement {
    /// Reads the target's filters and opens the file for the label, if the plan has a confinement.
    ///
    /// # Errors
    /// With `--strict`, if the filters could not be read.
    pub fn read(
        proc: &OwnedFd,
        plan: &ExecPlan,
        reporter: &mut ExecReporter<'_>,
    ) -> Result<Self, Error> {
        let mut confinement = Self { filters: Vec::new(), label_file: None };
        let Some(context) = &plan.security else { return Ok(confinement) };
        if context.has_filters {
            match seccomp::filters(plan.target, STOP_TIMEOUT) {
                Ok(mut filters) => {
                    // They are in the order of their installation; the init has added the later ones.
                    let engines =
                        context.engines_filters.map_or(usize::MAX, |count| count as usize);
                    filters.truncate(engines);
                    confinement.filters = filters;
                }
                Err(errno) => {
                    reporter.not_applied(Attribute::SeccompFilter, filter_cause(errno))?
                }
            }
        }
        if let Some(label) = &context.label {
            let open = |file| open_at(proc, format!("self/{file}").as_str(), OFlag::O_WRONLY).ok();
            let mut files = label_files(label).iter();
            confinement.label_file = files.find_map(open).map(File::from);
        }
        Ok(confinement)
    }

    /// Becomes the command's user with the command's privileges. Returns the filters to load last of all.
    ///
    /// The steps are safe, and possible, in this order only:
    /// 1. The label, before anything is dropped that setting it may require.
    /// 2. The bounding set while this process has CAP_SETPCAP.
    /// 3. The user, with the permitted set kept: setting the IDs would clear it.
    /// 4. Filters, if loading them requires CAP_SYS_ADMIN, which the next step drops. So the steps after
    ///    it have to be allowed by the filters, as with every engine.
    /// 5. The capability sets; the ambient set last, which may hold only permitted and inheritable
    ///    capabilities.
    /// 6. no_new_privs; with it the filters can be loaded without a capability, right before the command.
    pub fn apply(
        mut self,
        plan: &ExecPlan,
        ids: &Ids,
        reporter: &mut ExecReporter<'_>,
    ) -> Result<Vec<seccomp::Filter>, Error> {
        let Some(context) = &plan.security else {
            set_user(plan, ids, reporter)?;
            return Ok(Vec::new());
        };
        self.write_label(context, reporter)?;
        let context = context.for_user(*ids == plan.ids, ids.uid);
        let permitted = caps::read(None, CapSet::Permitted)
            .map_err(caps_error("cannot read the capabilities of cinspect"))?;
        drop_from_bounding_set(context.bounding)?;
        caps::securebits::set_keepcaps(true).map_err(caps_error("cannot keep capabilities"))?;
        set_user(plan, ids, reporter)?;
        // Another user still has the permitted set, but no effective one.
        let _ = caps::set(None, CapSet::Effective, &permitted);
        let mut filters = self.filters;
        if !filters.is_empty() {
            reporter.report(ExecEvent::SeccompFilters(filters.len()));
        }
        if !context.no_new_privs {
            for filter in std::mem::take(&mut filters) {
                seccomp::load(&filter)
                    .map_err(cannot("cannot apply the container's seccomp filter"))?;
            }
        }
        set_capabilities(&context, &permitted, reporter)?;
        if context.no_new_privs {
            prctl::set_no_new_privs().map_err(cannot("cannot set no_new_privs"))?;
        }
        let SecurityContext { effective, bounding, no_new_privs, .. } = context;
        reporter.report(ExecEvent::Capabilities { effective, bounding, no_new_privs });
        Ok(filters)
    }

    fn write_label(
        &mut self,
        context: &SecurityContext,
        reporter: &mut ExecReporter<'_>,
    ) -> Result<(), Error> {
        let Some(label) = &context.label else { return Ok(()) };
        let cannot_apply = |cause: String| {
            failure("cannot apply the container's security label")
                .cause(cause)
                .hint("`--privileged` runs the command without it")
        };
        let Some(mut file) = self.label_file.take() else {
            return Err(cannot_apply("no attr/exec in /proc".into()));
        };
        let name = label_name(label);
        // SELinux takes the context itself, AppArmor a command.
        let text = match is_selinux_context(label) {
            true => name.to_vec(),
            false => [b"exec ", name].concat(),
        };
        file.write_all(&text).map_err(|error| cannot_apply(os_error(error)))?;
        let name = message_text(name).into_owned();
        reporter.report(ExecEvent::SecurityLabel(name));
        Ok(())
    }
}

fn caps_error(message: &str) -> impl FnOnce(CapsError) -> Error {
    let error = failure(message);
    move |cause| error.cause(caps_cause(&cause))
}

/// Returns the error without `(os error 1)`: the crate's errors are text that ends with it.
fn caps_cause(error: &CapsError) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn filter_cause(errno: Errno) -> String {
    match errno {
        Errno::EACCES => {
            "reading it requires CAP_SYS_ADMIN and no seccomp filter on cinspect itself"
        }
        Errno::EPERM => {
            "the process is being traced by another one, or cinspect has no permission to trace it"
        }
        Errno::ETIMEDOUT => "the process did not stop in time to read it",
        Errno::EIO => "the kernel was built without CONFIG_CHECKPOINT_RESTORE",
        errno => return os_error(errno),
    }
    .into()
}

/// Drops every capability from the bounding set that is not in `keep`.
fn drop_from_bounding_set(keep: u64) -> Result<(), Error> {
    const MESSAGE: &str = "cannot drop capabilities from the bounding set";
    // Empty if the kernel does not answer, and then nothing would be dropped.
    let supported = caps::runtime::thread_all_supported();
    if supported.is_empty() {
        return Err(failure(MESSAGE).cause("it could not be read"));
    }
    for capability in supported.into_iter().filter(|capability| keep & capability.bitmask() == 0) {
        caps::drop(None, CapSet::Bounding, capability).map_err(caps_error(MESSAGE))?;
    }
    let newest = caps::all().iter().map(Capability::index).max().unwrap_or(0);
    capability::drop_from_bounding_set(newest + 1, keep).map_err(cannot(MESSAGE))
}

/// Sets all sets but the bounding set, as far as `permitted` allows.
fn set_capabilities(
    context: &SecurityContext,
    permitted: &CapsHashSet,
    reporter: &mut ExecReporter<'_>,
) -> Result<(), Error> {
    let available = permitted.iter().fold(0, |mask, capability| mask | capability.bitmask());
    let missing = context.permitted & !available;
    if missing != 0 {
        let cause = "cinspect does not have them, or does not know them";
        reporter.not_applied(Attribute::Capabilities(missing), cause)?;
    }
    let wanted = |mask: u64| -> CapsHashSet {
        permitted.iter().copied().filter(|known| mask & known.bitmask() != 0).collect()
    };
    // The inheritable set may take only permitted capabilities (without CAP_SETPCAP), and the effective set
    // must never exceed the permitted one.
    for (set, mask) in [
        (CapSet::Inheritable, context.inheritable),
        (CapSet::Effective, context.effective),
        (CapSet::Permitted, context.permitted),
    ] {
        caps::set(None, set, &wanted(mask)).map_err(caps_error("cannot drop capabilities"))?;
    }
    let _ = caps::clear(None, CapSet::Ambient);
    let (mut failed, mut cause) = (0, String::new());
    for capability in wanted(context.ambient) {
        if let Err(error) = caps::raise(None, CapSet::Ambient, capability) {
            failed |= capability.bitmask();
            cause = caps_cause(&error);
        }
    }
    match failed {
        0 => Ok(()),
        _ => reporter.not_applied(Attribute::AmbientCapabilities(failed), cause),
    }
}

fn set_user(plan: &ExecPlan, ids: &Ids, reporter: &mut ExecReporter<'_>) -> Result<(), Error> {
    if !plan.in_container_root && plan.user.is_none() && !plan.joins_user_namespace() {
        return Ok(());
    }
    let groups: Vec<Gid> = ids.groups.iter().copied().map(Gid::from_raw).collect();
    let has_groups = || {
        let current = getgroups().unwrap_or_default();
        current.len() == groups.len() && groups.iter().all(|group| current.contains(group))
    };
    if let Err(errno) = setgroups(&groups)
        && !has_groups()
    {
        let cause = match errno {
            Errno::EPERM => "its user namespace does not allow setgroups(2)".into(),
            errno => os_error(errno),
        };
        reporter.not_applied(Attribute::Groups, cause)?;
    }
    let (uid, gid) = (Uid::from_raw(ids.uid), Gid::from_raw(ids.gid));
    setresgid(gid, gid, gid).and_then(|()| setresuid(uid, uid, uid)).map_err(|errno| {
        let error = failure(format!("cannot become user {uid} of group {gid}"));
        match errno {
            Errno::EINVAL => error.cause("its user namespace does not map that ID"),
            Errno::EPERM => error.cause(os_error(errno)).hint("run as root"),
            errno => error.cause(os_error(errno)),
        }
    })?;
    reporter.report(ExecEvent::User { uid: ids.uid, gid: ids.gid });
    Ok(())
}
