//! The users and groups of one side, by name: the lists of a tar stream may name them.

use std::cell::OnceCell;

use super::rootfs::Rootfs;
use crate::model::passwd::{accounts, groups};

/// The files of users and groups, read when the first name is looked up.
pub struct UserGroupNames<'r> {
    rootfs: &'r Rootfs,
    passwd: OnceCell<Vec<u8>>,
    group: OnceCell<Vec<u8>>,
}

impl<'r> UserGroupNames<'r> {
    /// Creates the names of a side.
    pub fn new(rootfs: &'r Rootfs) -> Self {
        Self { rootfs, passwd: OnceCell::new(), group: OnceCell::new() }
    }

    /// Returns the ID of a name: of a group or a user.
    pub fn id(&self, is_group: bool, name: &[u8]) -> Option<u32> {
        if is_group {
            let file = self
                .group
                .get_or_init(|| self.rootfs.read_small(b"/etc/group").unwrap_or_default());
            return groups(file).find(|group| group.name == name).map(|group| group.gid);
        }
        let file =
            self.passwd.get_or_init(|| self.rootfs.read_small(b"/etc/passwd").unwrap_or_default());
        accounts(file).find(|account| account.name == name).map(|account| account.uid)
    }
}
