//! The user of a command or of copied files: `USER[:GROUP]` as typed, looked up in the container's own
//! passwd and group files. Bytes in, IDs out; it never opens a file.

use serde::{Deserialize, Serialize};

use crate::model::bytes::message_text;
use crate::model::passwd::{accounts, groups};

/// The user and group IDs of a process, as its user namespace maps them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// The user.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// `-u USER[:GROUP]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSpec {
    /// The user.
    pub user: UserOrGroup,
    /// The group.
    pub group: Option<UserOrGroup>,
}

/// A user or a group as it was typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserOrGroup {
    /// All digits: an ID, which is never looked up as a name.
    Id(u32),
    /// Anything else.
    Name(Vec<u8>),
}

impl UserOrGroup {
    /// Parses a name or an ID.
    ///
    /// # Errors
    /// A message for an empty name or an ID out of range.
    pub fn parse(word: &[u8]) -> Result<Self, String> {
        let text = message_text(word);
        if word.is_empty() {
            return Err("empty user or group name".into());
        }
        if !word.iter().all(u8::is_ascii_digit) {
            return Ok(Self::Name(word.to_owned()));
        }
        // 4294967295 is -1, "unchanged" to setresuid(2) and chown(2).
        let id = text.parse().ok().filter(|id| *id != u32::MAX);
        id.map(Self::Id).ok_or_else(|| format!("ID {text} is out of range (0 to 4294967294)"))
    }
}

impl UserSpec {
    /// Parses `web`, `web:www-data`, `1000`, `1000:1000`. As in Docker, no user is root (`:5`), and no group is
    /// that of the user (`web:`).
    ///
    /// # Errors
    /// A message for an ID out of range.
    pub fn parse(word: &[u8]) -> Result<Self, String> {
        let mut parts = word.splitn(2, |b| *b == b':');
        let mut part =
            || parts.next().filter(|part| !part.is_empty()).map(UserOrGroup::parse).transpose();
        Ok(Self { user: part()?.unwrap_or(UserOrGroup::Id(0)), group: part()? })
    }

    /// Whether a name has to be looked up.
    pub fn has_name(&self) -> bool {
        let is_name = |part: &UserOrGroup| matches!(part, UserOrGroup::Name(_));
        is_name(&self.user) || self.group.as_ref().is_some_and(is_name)
    }
}

/// A user with the passwd entry that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User and groups.
    pub ids: Ids,
    /// Home directory, if the container's passwd file has one.
    pub home: Option<Vec<u8>>,
    /// Login shell, likewise.
    pub shell: Option<Vec<u8>>,
}

/// Looks `spec` up in the container's passwd and group files; without one, the identity is `init_ids`. A
/// name brings its supplementary groups, unless a group was given; an ID without a passwd line is in
/// group 0, as in Docker.
///
/// # Errors
/// A message that names the user or group that does not exist.
pub fn identify(
    spec: Option<&UserSpec>,
    init_ids: &Ids,
    passwd: &[u8],
    group: &[u8],
) -> Result<Identity, String> {
    let by_uid = |uid: u32| accounts(passwd).find(|account| account.uid == uid);
    let text = message_text;
    let (account, ids) = match spec {
        None => (by_uid(init_ids.uid), init_ids.clone()),
        Some(spec) => {
            let (account, uid) = match &spec.user {
                UserOrGroup::Id(uid) => (by_uid(*uid), *uid),
                UserOrGroup::Name(name) => {
                    let account = accounts(passwd).find(|account| account.name == *name);
                    let account = account
                        .ok_or_else(|| format!("no user `{}` in its /etc/passwd", text(name)))?;
                    (Some(account), account.uid)
                }
            };
            let gid = match &spec.group {
                Some(UserOrGroup::Id(gid)) => *gid,
                Some(UserOrGroup::Name(name)) => groups(group)
                    .find(|group| group.name == *name)
                    .map(|group| group.gid)
                    .ok_or_else(|| format!("no group `{}` in its /etc/group", text(name)))?,
                None => account.map_or(0, |account| account.gid),
            };
            let name = account.filter(|_| spec.group.is_none()).map(|account| account.name);
            let groups = name.map_or_else(Vec::new, |name| supplementary_groups(name, group));
            (account, Ids { uid, gid, groups })
        }
    };
    Ok(Identity {
        ids,
        home: account.and_then(|account| account.home).map(<[u8]>::to_owned),
        shell: account.and_then(|account| account.shell).map(<[u8]>::to_owned),
    })
}

/// Adds groups to those of an identity, by ID or by their names in the container's group file.
///
/// # Errors
/// A message that names the group that does not exist.
pub fn add_groups(ids: &mut Ids, added: &[UserOrGroup], group: &[u8]) -> Result<(), String> {
    for wanted in added {
        let gid = match wanted {
            UserOrGroup::Id(gid) => *gid,
            UserOrGroup::Name(name) => {
                let found = groups(group).find(|group| group.name == *name);
                let name = message_text(name);
                found.ok_or_else(|| format!("no group `{name}` in its /etc/group"))?.gid
            }
        };
        if !ids.groups.contains(&gid) {
            ids.groups.push(gid);
        }
    }
    Ok(())
}

/// Returns the groups that list `user` as a member, each once, in the order of the file.
fn supplementary_groups(user: &[u8], group: &[u8]) -> Vec<u32> {
    let mut ids = Vec::new();
    for group in groups(group).filter(|group| group.has(user)) {
        if !ids.contains(&group.gid) {
            ids.push(group.gid);
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:100::/home/web:/bin/ash\n\
        1000:x:0:0::/root:/bin/sh\nbig:x:4294967296:0::/:/bin/sh\nn:x:5:5::relative:/bin/sh\n";
    const GROUP: &[u8] = b"root:x:0:\nusers:x:100:\nvideo:x:44:alice,web\naudio:x:29:web\n";

    fn lookup(word: &str) -> Result<Ids, String> {
        let spec = UserSpec::parse(word.as_bytes())?;
        identify(Some(&spec), &Ids::default(), PASSWD, GROUP).map(|identity| identity.ids)
    }

    fn ids(uid: u32, gid: u32, groups: &[u32]) -> Ids {
        Ids { uid, gid, groups: groups.to_vec() }
    }

    #[test]
    fn looks_users_up_in_the_containers_files() {
        assert_eq!(lookup("web"), Ok(ids(1000, 100, &[44, 29])));
        assert_eq!(lookup("web:video"), Ok(ids(1000, 44, &[])));
        assert_eq!(lookup("root:7"), Ok(ids(0, 7, &[])));
        // A line whose name is all digits makes no ID root.
        assert_eq!(lookup("1000"), Ok(ids(1000, 100, &[44, 29])));
        assert_eq!(lookup("77"), Ok(ids(77, 0, &[])));
        // Half of it, or none.
        assert_eq!(lookup(":5"), Ok(ids(0, 5, &[])));
        assert_eq!(lookup("web:"), Ok(ids(1000, 100, &[44, 29])));
        assert_eq!(lookup(":"), Ok(ids(0, 0, &[])));
    }

    #[test]
    fn groups_of_the_engine_are_added_to_those_of_a_user() {
        let added = |words: &[&str]| {
            let groups = words.iter().map(|word| UserOrGroup::parse(word.as_bytes()).unwrap());
            let mut ids = lookup("web").unwrap();
            add_groups(&mut ids, &groups.collect::<Vec<_>>(), GROUP).map(|()| ids.groups)
        };
        assert_eq!(added(&["4444", "audio"]), Ok(vec![44, 29, 4444]));
        assert_eq!(added(&["none"]), Err("no group `none` in its /etc/group".into()));
    }

    #[test]
    fn rejects_unknown_names_and_ids_out_of_range() {
        for word in ["4294967296", "4294967295", ":big", "big", "-1", "0x0", "+0", " 0", "eve:0"] {
            assert!(lookup(word).is_err(), "{word}");
        }
    }
}
