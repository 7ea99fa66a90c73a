//! The host's tools in a namespace of the container: a mount namespace of their own, in which `/sys` shows
//! the joined network namespace and `/etc/resolv.conf` is the container's, as with `ip netns exec`. No change
//! leaves it. Their `/proc` is mounted later, by a process that is in the PID namespace.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::SFlag;

use super::rootfs::TargetRoot;
use crate::action::exec::events::{Attribute, ExecReporter};
use crate::analysis::exec_plan::ExecPlan;
use crate::error::{Error, os_error};
use crate::sys::fd::open;

const NONE: Option<&str> = None;
/// A larger resolv.conf is not one.
const MAX_RESOLV_CONF: u64 = 1 << 20;
const CGROUPS: &str = "/sys/fs/cgroup";
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// A place for a file system until its files are mounted elsewhere.
const TEMPORARY: &str = "/sys";

/// Makes the mount namespace, if the plan has host's tools in a network namespace of the container.
///
/// # Errors
/// With `--strict`, if a mount was not possible.
pub fn prepare(
    root: TargetRoot<'_>,
    plan: &ExecPlan,
    reporter: &mut ExecReporter<'_>,
) -> Result<(), Error> {
    if !plan.mount_network {
        return Ok(());
    }
    if let Err(errno) = own_mounts() {
        return reporter.not_applied(Attribute::SysMount, os_error(errno));
    }
    // A container without the file resolves no names, and its tools do not either.
    let resolv_conf = read_resolv_conf(root);
    if let Some(content) = resolv_conf
        && let Err(error) = mount_resolv_conf(&content)
    {
        reporter.not_applied(Attribute::ResolvConf, os_error(error))?;
    }
    match mount_sys() {
        Ok(()) => Ok(()),
        Err(errno) => reporter.not_applied(Attribute::SysMount, os_error(errno)),
    }
}

/// Makes a mount namespace that no change leaves.
pub fn own_mounts() -> Result<(), Errno> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NONE)
}

fn read_resolv_conf(root: TargetRoot<'_>) -> Option<Vec<u8>> {
    let file = root.open_beneath(b"etc/resolv.conf", SFlag::S_IFREG).ok()?;
    let file = root.reopen(&file, OFlag::O_RDONLY | OFlag::O_NONBLOCK).ok()?;
    let mut content = Vec::new();
    File::from(file).take(MAX_RESOLV_CONF).read_to_end(&mut content).ok()?;
    Some(content)
}

/// Mounts a copy of the file over the host's, by way of a file system in memory.
fn mount_resolv_conf(content: &[u8]) -> std::io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), TEMPORARY, Some("tmpfs"), flags, Some("size=2m,mode=755"))?;
    let copy = format!("{TEMPORARY}/resolv.conf");
    let result = File::create(&copy)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| Ok(mount(Some(copy.as_str()), RESOLV_CONF, NONE, MsFlags::MS_BIND, NONE)?));
    umount2(TEMPORARY, MntFlags::MNT_DETACH)?;
    result
}

/// Mounts a `/sys` of the network namespace that this process is in, with the cgroups that were there.
fn mount_sys() -> Result<(), Errno> {
    let cgroups: Option<OwnedFd> = open(CGROUPS, OFlag::O_PATH | OFlag::O_DIRECTORY).ok();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("sysfs"), "/sys", Some("sysfs"), flags, NONE)?;
    if let Some(cgroups) = cgroups {
        let source = format!("/proc/self/fd/{}", cgroups.as_raw_fd());
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        // (A kernel without this directory has no cgroups either.)
        let _ = mount(Some(source.as_str()), CGROUPS, NONE, flags, NONE);
    }
    Ok(())
}
