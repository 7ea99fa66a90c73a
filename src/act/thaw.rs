//! Wakes a paused container: its own cgroup's freezer, and no other's.

use std::io::Write;

use crate::proc::Host;
use crate::target::Found;

/// Thaws it.
///
/// # Errors
/// Says what hinders.
pub fn thaw(host: &Host, found: &Found) -> Result<(), String> {
    let container = &found.container;
    let (Some(cgroup), Some(init)) = (&container.cgroup, container.init) else {
        return Err("it has no cgroup of its own: what froze it has to thaw it".into());
    };
    // Opened first: what is confirmed then is whose files these are.
    let files = host.freezer_files(&cgroup.path);
    let lives = host.stat(init.pid).is_ok_and(|stat| stat.start == init.start);
    let inside = host.memberships(init.pid).is_ok_and(|memberships| cgroup.holds(&memberships));
    if !lives || !inside {
        return Err("its init has ended, or has left its cgroup".into());
    }
    for (mut file, thawed) in files {
        file.write_all(thawed).map_err(|error| error.to_string())?;
    }
    if host.is_frozen_within(&cgroup.path) {
        return Err("a cgroup above or below its own is frozen too".into());
    }
    Ok(())
}
