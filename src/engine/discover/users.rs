//! The users whose directories may hold records: those with a runtime directory.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::engine::record::{Shim, UserDirs};
use crate::model::passwd::accounts;
use crate::proc::{Host, Trust};

/// Finds the users with a runtime directory, and ourselves if we are not root. (Root's environment may
/// be a user's, by `sudo -E`, and is not asked.)
pub(super) fn user_dirs(host: &Host) -> Vec<UserDirs> {
    let mut users: Vec<UserDirs> = Vec::new();
    let names = host.state_dir("/run/user").and_then(|dir| dir.names()).unwrap_or_default();
    for uid in names.iter().filter_map(|name| name.parse::<u32>().ok()) {
        let runtime_dir = PathBuf::from(format!("/run/user/{uid}"));
        users.push(UserDirs { uid, home: None, runtime_dir });
    }
    let euid = nix::unistd::geteuid();
    if !euid.is_root()
        && let Some(runtime_dir) = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)
        && users.iter().all(|user| user.runtime_dir != runtime_dir)
    {
        users.push(UserDirs { uid: euid.as_raw(), home: None, runtime_dir });
    }
    if !users.is_empty() {
        host.skip_network_mounts();
        set_homes(host, &mut users);
    }
    users
}

/// Adds the owners of shims, who may have no runtime directory.
pub(super) fn add_owners(host: &Host, shims: &[Shim], users: &mut Vec<UserDirs>) {
    let known = users.len();
    for shim in shims {
        let Trust::User(uid) = shim.owner else { continue };
        if users.iter().all(|user| user.uid != uid) {
            let runtime_dir = PathBuf::from(format!("/run/user/{uid}"));
            users.push(UserDirs { uid, home: None, runtime_dir });
        }
    }
    if users.len() > known {
        host.skip_network_mounts();
        set_homes(host, users);
    }
}

fn set_homes(host: &Host, users: &mut [UserDirs]) {
    let passwd = host.state_file("/etc/passwd").map(|file| file.bytes).unwrap_or_default();
    for account in accounts(&passwd) {
        for user in users.iter_mut().filter(|user| user.uid == account.uid && user.home.is_none()) {
            user.home = account.home.map(|home| OsStr::from_bytes(home).into());
        }
    }
}
