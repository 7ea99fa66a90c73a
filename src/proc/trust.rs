//! The user who could have written a path, a record or a process: how far it is trusted. Reads nothing.

use crate::model::container::Container;

/// The user who controls a path, a record or a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Only root could have written it.
    Root,
    /// This user could have.
    User(u32),
    /// More than one user could have, or anyone: not trusted.
    Untrusted,
}

impl Trust {
    /// Returns the trust in files and processes of a user, where `root` counts as root.
    pub(super) fn of_user(uid: u32, root: u32) -> Self {
        if uid == root || uid == 0 { Self::Root } else { Self::User(uid) }
    }

    /// Returns the trust in files of the user who runs a container.
    pub fn of_container(container: &Container) -> Self {
        container.user.map_or(Self::Root, Self::User)
    }

    /// Returns the user; none for root, and where nothing is trusted.
    pub fn user(self) -> Option<u32> {
        match self {
            Self::User(uid) => Some(uid),
            Self::Root | Self::Untrusted => None,
        }
    }

    /// Returns the trust in a path that is one step longer.
    #[must_use]
    pub fn and(self, next: Self) -> Self {
        match (self, next) {
            (Self::Root, other) | (other, Self::Root) => other,
            (first, second) if first == second => first,
            _ => Self::Untrusted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_trusted_as_one_user_at_most() {
        let (alice, bob) = (Trust::User(1000), Trust::User(1001));
        assert_eq!(Trust::Root.and(alice), alice);
        assert_eq!(alice.and(Trust::Root), alice);
        assert_eq!(alice.and(bob), Trust::Untrusted);
        assert_eq!(Trust::Untrusted.and(Trust::Untrusted), Trust::Untrusted);
    }
}
