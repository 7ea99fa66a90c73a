//! The container's cgroups: their `cgroup.procs` files are opened before the helper starts, and the
//! command's process is written to them before the command runs.

use std::fs::File;
use std::io::Write;

use super::events::{Attribute, ExecEvent, ExecReporter};
use crate::error::{Error, os_error};
use crate::model::account::AccountEntry;
use crate::model::container::Cgroup;
use crate::model::pid::HostPid;
use crate::proc::Host;

/// An open `cgroup.procs`.
pub struct CgroupFile {
    /// `v2`, or the v1 controllers.
    hierarchy: String,
    path: String,
    file: File,
}

/// Opens the files of these cgroups.
///
/// # Errors
/// With `--strict`, if one could not be opened.
pub fn open(
    host: &Host,
    cgroups: &[Cgroup],
    reporter: &mut ExecReporter<'_>,
) -> Result<Vec<CgroupFile>, Error> {
    let mut files = Vec::new();
    for cgroup in cgroups {
        let controllers = String::from_utf8_lossy(&cgroup.controllers).into_owned();
        let hierarchy = if controllers.is_empty() { "v2".into() } else { controllers };
        let path = String::from_utf8_lossy(&cgroup.path).into_owned();
        // A named hierarchy has no controllers (cgroups(7)); systemd-nspawn makes one for itself.
        if cgroup.controllers.starts_with(b"name=") && !host.is_hierarchy_mounted(cgroup) {
            reporter.report(ExecEvent::UnmountedHierarchy(hierarchy));
            continue;
        }
        match host.cgroup_procs_file(cgroup) {
            Ok(file) => files.push(CgroupFile { hierarchy, path, file }),
            Err(error) => reporter
                .not_applied(Attribute::Cgroup(format!("{hierarchy}:{path}")), error.to_string())?,
        }
    }
    Ok(files)
}

/// Moves a process into the cgroups.
///
/// # Errors
/// With `--strict`, if it could not be moved into one.
pub fn join(
    files: Vec<CgroupFile>,
    pid: HostPid,
    reporter: &mut ExecReporter<'_>,
) -> Result<(), Error> {
    // One event for each path: on v1 most hierarchies have the same one.
    let mut joined: Vec<(String, Vec<String>)> = Vec::new();
    for CgroupFile { hierarchy, path, mut file } in files {
        if let Err(error) = file.write_all(pid.to_string().as_bytes()) {
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
