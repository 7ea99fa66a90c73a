//! `/etc/passwd` and `/etc/group` of a container: names of its users and groups. The file is the
//! container's to forge, so a name is only a label for an ID, and malformed lines are left out. Never
//! reads the file, never calls NSS.

use std::collections::HashMap;

use super::bytes::decimal;

/// Longer lines are left out.
const MAX_LINE: usize = 64 << 10;
/// `(uid_t) -1`, which chown(2) and setresuid(2) take for "leave unchanged".
const NO_ID: u32 = u32::MAX;

/// User names of a passwd file by UID (passwd(5)).
#[derive(Clone, Debug, Default)]
pub struct UserNames {
    by_uid: HashMap<u32, Vec<u8>>,
}

impl UserNames {
    /// Parses the file. The first line with a UID names it. Lines are left out if their UID or GID is
    /// not a number below 4294967295, or if their name is empty, contains a control character, begins
    /// with `#`, or is all digits: that would let root be shown as `1000`.
    ///
    /// ```text
    /// www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
    /// ```
    pub fn parse(bytes: &[u8]) -> Self {
        let mut names = Self::default();
        for PasswdEntry { name, uid, .. } in accounts(bytes) {
            names.by_uid.entry(uid).or_insert_with(|| name.to_vec());
        }
        names
    }

    /// Returns the name of a UID: any bytes but control characters.
    pub fn name(&self, uid: u32) -> Option<&[u8]> {
        self.by_uid.get(&uid).map(Vec::as_slice)
    }

    /// Iterates over all UIDs and their names, in numeric order.
    pub fn all(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let names = self.by_uid.iter().map(|(uid, name)| (*uid, name.as_slice()));
        let mut sorted: Vec<(u32, &[u8])> = names.collect();
        sorted.sort_unstable();
        sorted.into_iter()
    }
}

/// A line of a passwd file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswdEntry<'a> {
    /// Name.
    pub name: &'a [u8],
    /// UID.
    pub uid: u32,
    /// GID of its primary group.
    pub gid: u32,
    /// Home directory; none if the field is not an absolute path.
    pub home: Option<&'a [u8]>,
    /// Shell; none if the field is not an absolute path.
    pub shell: Option<&'a [u8]>,
}

/// Parses a passwd file; malformed lines are left out, as [`UserNames::parse`] says.
pub fn accounts(bytes: &[u8]) -> impl Iterator<Item = PasswdEntry<'_>> {
    bytes.split(|b| *b == b'\n').filter_map(|line| {
        let mut fields = (line.len() <= MAX_LINE).then(|| line.split(|b| *b == b':'))?;
        let name = fields.next().filter(|name| is_valid(name))?;
        let _password = fields.next()?;
        let uid = decimal(fields.next()?).filter(|uid| *uid != NO_ID)?;
        let gid = decimal(fields.next()?).filter(|gid: &u32| *gid != NO_ID)?;
        let _gecos = fields.next();
        let mut path = || fields.next().filter(|p| p.starts_with(b"/") && !p.contains(&0));
        Some(PasswdEntry { name, uid, gid, home: path(), shell: path() })
    })
}

/// A line of a group file (group(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// Name.
    pub name: &'a [u8],
    /// GID.
    pub gid: u32,
    members: &'a [u8],
}

impl Group<'_> {
    /// Whether a user is listed as a member.
    pub fn has(&self, user: &[u8]) -> bool {
        self.members.split(|b| *b == b',').any(|member| member == user)
    }
}

/// Parses a group file; malformed lines are left out.
///
/// ```text
/// video:x:44:alice,bob
/// ```
pub fn groups(bytes: &[u8]) -> impl Iterator<Item = Group<'_>> {
    bytes.split(|b| *b == b'\n').filter_map(|line| {
        let mut fields = (line.len() <= MAX_LINE).then(|| line.split(|b| *b == b':'))?;
        let name = fields.next().filter(|name| is_valid(name))?;
        let _password = fields.next()?;
        let gid = decimal(fields.next()?).filter(|gid| *gid != NO_ID)?;
        Some(Group { name, gid, members: fields.next().unwrap_or_default() })
    })
}

fn is_valid(name: &[u8]) -> bool {
    let control = match std::str::from_utf8(name) {
        Ok(text) => text.chars().any(char::is_control),
        Err(_) => name.iter().any(u8::is_ascii_control),
    };
    !control && !name.starts_with(b"#") && !name.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_names_by_uid() {
        let names = UserNames::parse(
            b"root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:\nb\xfcro:x:5:5\n",
        );
        assert_eq!((names.name(0), names.name(33)), (Some(&b"root"[..]), Some(&b"www-data"[..])));
        assert_eq!(names.name(5), Some(&b"b\xfcro"[..]));
        assert_eq!(names.name(1), None);
        assert_eq!(names.all().map(|(uid, _)| uid).collect::<Vec<_>>(), [0, 5, 33]);
    }

    #[test]
    fn the_first_line_wins() {
        let names = UserNames::parse(b"root:x:0:0:::\ntoor:x:0:0:::\nroot:x:7:7:::\n");
        assert_eq!((names.name(0), names.name(7)), (Some(&b"root"[..]), Some(&b"root"[..])));
    }

    #[test]
    fn a_hostile_file_has_no_names() {
        let lines = [
            &b"1000:x:0:0::/root:/bin/sh"[..],
            b"4294967296:x:0:0::/:/bin/sh",
            b"evil:x:4294967295:0::/:",
            b"big:x:4294967296:0::/:",
            b"neg:x:-1:0::/:",
            b"hex:x:0x0:0::/:",
            b"plus:x:+0:0::/:",
            b"space:x: 0:0::/:",
            b":x:0:0::/:",
            b"esc\x1b[2J:x:0:0::/:",
            b"tab\t:x:0:0::/:",
            b"del\x7f:x:0:0::/:",
            b"c1\xc2\x9b:x:0:0::/:",
            b"bad\xff\x1b:x:0:0::/:",
            b"short:x:0",
            b"gid:x:0:",
            b"gid:x:0:4294967295:",
            b"#root:x:0:0::/:",
            b"+::::::",
            b"cr:x:0\r:0",
            b"",
        ];
        let mut bytes = lines.join(&b'\n');
        bytes.extend(b"long:x:0:0:");
        bytes.extend(vec![b'a'; MAX_LINE]);
        let names = UserNames::parse(&bytes);
        assert!(names.by_uid.is_empty(), "{names:?}");
    }

    #[test]
    fn parses_the_line_after_a_malformed_one() {
        let mut bytes = vec![b'x'; 1 << 20];
        bytes.extend(b"\n\0\nroot:x:0:0");
        assert_eq!(UserNames::parse(&bytes).name(0), Some(&b"root"[..]));
    }

    proptest! {
        #[test]
        fn any_bytes_do_not_panic(bytes: Vec<u8>, text in "[a0-9:\n]{0,80}") {
            let _ = (UserNames::parse(&bytes), UserNames::parse(text.as_bytes()));
        }

        #[test]
        fn any_account_is_parsed_back(name in "[a-z_][a-z0-9_-]{0,30}", uid in 0..u32::MAX) {
            let names = UserNames::parse(format!("{name}:x:{uid}:{uid}:::\n").as_bytes());
            prop_assert_eq!(names.name(uid), Some(name.as_bytes()));
        }
    }
}
