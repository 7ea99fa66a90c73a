//! Giving up rights for good, before bytes are parsed that a user could have made. A child process calls
//! this first thing; nothing here can be undone.

use nix::errno::Errno;
use nix::sys::prctl::set_no_new_privs;
use nix::sys::resource::{Resource, rlim_t, setrlimit};
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};

/// Seconds of CPU time.
const CPU_SECONDS: rlim_t = 5;

/// Becomes this user, if this is root; and from now on writes no file and no core dump, starts no
/// process, and uses no more than `memory` bytes for data.
///
/// # Errors
/// As setresuid(2): EPERM for root without CAP_SETUID, in a container for example.
pub fn confine(uid: u32, memory: u64) -> Result<(), Errno> {
    let memory = rlim_t::try_from(memory).unwrap_or(rlim_t::MAX);
    for (resource, limit) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_CPU, CPU_SECONDS),
        (Resource::RLIMIT_DATA, memory),
    ] {
        setrlimit(resource, limit, limit)?;
    }
    if geteuid().is_root() {
        let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
        setgroups(&[])?;
        setresgid(group, group, group)?;
        setresuid(user, user, user)?;
    }
    setrlimit(Resource::RLIMIT_NPROC, 0, 0)?;
    set_no_new_privs()
}
