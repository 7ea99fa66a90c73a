//! The container's cgroups. They are opened before the helper starts. The helper is created in that of v2, moves
//! itself into those of v1 and exits as soon as the command's process is created there: moving a process from
//! outside takes some 8 ms ([`CgroupEntry`]). The command's process is moved into those where that was not
//! possible, before the command runs.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

use super::events::{Attribute, ExecEvent, ExecReporter};
use crate::error::{Error, os_error};
use crate::model::account::AccountEntry;
use crate::model::bytes::message_text;
use crate::model::cgroup::Cgroup;
use crate::model::pid::HostPid;
use crate::proc::{CgroupEntry, Host};

/// A cgroup to put the command's process into.
pub struct JoinedCgroup {
    /// `v2`, or the v1 controllers.
    hierarchy: String,
    path: String,
    entry: CgroupEntry,
    /// Whether the command's process is created in it.
    is_entered: bool,
}

/// The cgroups of one command.
#[derive(Default)]
pub struct JoinedCgroups(Vec<JoinedCgroup>);

/// Opens these cgroups.
///
/// # Errors
/// With `--strict`, if one could not be opened.
pub fn open(
    host: &Host,
    cgroups: &[Cgroup],
    reporter: &mut ExecReporter<'_>,
) -> Result<JoinedCgroups, Error> {
    let mut joined = Vec::new();
    for cgroup in cgroups {
        let controllers = message_text(&cgroup.controllers).into_owned();
        let hierarchy = if controllers.is_empty() { "v2".into() } else { controllers };
        let path = message_text(&cgroup.path).into_owned();
        if has_no_controllers(cgroup, cgroups) && !host.is_hierarchy_mounted(cgroup) {
            reporter.report(ExecEvent::UnmountedHierarchy(hierarchy));
            continue;
        }
        match host.cgroup_entry(cgroup) {
            Ok(entry) => joined.push(JoinedCgroup { hierarchy, path, entry, is_entered: false }),
            Err(error) => reporter
                .not_applied(Attribute::Cgroup(format!("{hierarchy}:{path}")), error.to_string())?,
        }
    }
    Ok(JoinedCgroups(joined))
}

/// Whether a cgroup is of a hierarchy without controllers (cgroups(7)): a named one, which systemd-nspawn makes
/// for itself, or v2 beside those of v1, which systemd mounts in a container where the host has v1 alone.
fn has_no_controllers(cgroup: &Cgroup, all: &[Cgroup]) -> bool {
    let is_named = |cgroup: &Cgroup| cgroup.controllers.starts_with(b"name=");
    let is_v2 = cgroup.controllers.is_empty();
    let has_v1 = || all.iter().any(|other| !other.controllers.is_empty() && !is_named(other));
    is_named(cgroup) || (is_v2 && has_v1())
}

impl JoinedCgroups {
    /// Returns the directory of the v2 cgroup, to create the helper in.
    pub fn v2(&self) -> Option<BorrowedFd<'_>> {
        let mut entries = self.0.iter().map(|cgroup| &cgroup.entry);
        entries.find(|entry| entry.is_v2)?.direct.as_ref().map(AsFd::as_fd)
    }

    /// Notes that the helper was created in the v2 cgroup.
    pub fn enter_v2(&mut self) {
        self.0
            .iter_mut()
            .filter(|cgroup| cgroup.entry.is_v2)
            .for_each(|cgroup| cgroup.is_entered = true);
    }

    /// Returns the `tasks` of the v1 cgroups, by which the helper moves itself.
    pub fn tasks(&self) -> Vec<BorrowedFd<'_>> {
        let entries = self.0.iter().map(|cgroup| &cgroup.entry).filter(|entry| !entry.is_v2);
        entries.filter_map(|entry| entry.direct.as_ref()).map(AsFd::as_fd).collect()
    }

    /// Notes that the helper has moved itself by these of the `tasks`.
    pub fn enter_v1(&mut self, tasks: &[usize]) {
        let cgroups = self.0.iter_mut().filter(|cgroup| !cgroup.entry.is_v2);
        let cgroups = cgroups.filter(|cgroup| cgroup.entry.direct.is_some());
        for (index, cgroup) in cgroups.enumerate() {
            cgroup.is_entered = tasks.contains(&index);
        }
    }

    /// Moves the helper out of all of them, because no process can be created there; the command's is moved
    /// into them later, which their limits allow (pids_can_attach, kernel/cgroup/pids.c). Returns false if the
    /// helper was in none.
    pub fn leave(&mut self, host: &Host, previous: &[Cgroup], helper: i32) -> bool {
        let mut has_left = false;
        for cgroup in self.0.iter_mut().filter(|cgroup| cgroup.is_entered) {
            cgroup.is_entered = false;
            has_left = true;
        }
        if has_left {
            for cgroup in previous {
                let _ = host
                    .cgroup_entry(cgroup)
                    .map(|mut entry| entry.procs.write_all(helper.to_string().as_bytes()));
            }
        }
        has_left
    }

    /// Moves a process into those that it was not created in.
    ///
    /// # Errors
    /// With `--strict`, if it could not be moved into one.
    pub fn join(self, pid: HostPid, reporter: &mut ExecReporter<'_>) -> Result<(), Error> {
        // One event for each path: on v1 most hierarchies have the same one.
        let mut joined: Vec<(String, Vec<String>)> = Vec::new();
        for JoinedCgroup { hierarchy, path, entry, is_entered } in self.0 {
            if !is_entered && let Err(error) = write_pid(entry.procs, pid) {
                let attribute = Attribute::Cgroup(format!("{hierarchy}:{path}"));
                let is_denied = error.kind() == std::io::ErrorKind::PermissionDenied;
                let mut entry = AccountEntry::lost(attribute.to_string(), os_error(error));
                // From the scope of a login session nothing may be moved to another unit (cgroups(7),
                // delegation containment); from a scope of the user's own systemd it may.
                if is_denied && !nix::unistd::geteuid().is_root() {
                    entry = entry.hint("`systemd-run --user --scope cinspect exec …` may move it");
                }
                reporter.deviation(entry)?;
                continue;
            }
            match joined.iter_mut().find(|(known, _)| *known == path) {
                Some((_, hierarchies)) => hierarchies.push(hierarchy),
                None => joined.push((path, vec![hierarchy])),
            }
        }
        for (path, hierarchies) in joined {
            reporter.report(ExecEvent::Cgroup { path, hierarchies });
        }
        Ok(())
    }
}

fn write_pid(mut procs: File, pid: HostPid) -> std::io::Result<()> {
    procs.write_all(pid.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v2_beside_v1_and_named_hierarchies_have_no_controllers() {
        let cgroup = |controllers: &[u8]| Cgroup {
            controllers: controllers.to_vec(),
            path: b"/init.scope".to_vec(),
        };
        let (v2, named, memory) = (cgroup(b""), cgroup(b"name=systemd"), cgroup(b"memory"));
        let all = [v2.clone(), named.clone(), memory.clone()];
        assert!(has_no_controllers(&v2, &all) && has_no_controllers(&named, &all));
        assert!(!has_no_controllers(&memory, &all));
        // There v2 has them all.
        assert!(!has_no_controllers(&v2, &[v2.clone(), named.clone()]));
        assert!(has_no_controllers(&named, &[v2.clone(), named.clone()]));
    }
}
