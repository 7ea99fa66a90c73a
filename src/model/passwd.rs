//! `/etc/passwd` of a container: the names of its users, for people to read. A stranger's file, so
//! it may lie and no more: a name is only a label for a number, and what is not in form is left
//! out. Never reads the file, never asks NSS.

use std::collections::HashMap;
use std::sync::Arc;

use super::bytes::decimal;

/// Longer lines are left out.
const MAX_LINE: usize = 64 << 10;
/// `(uid_t) -1`, which chown(2) and setresuid(2) take for "leave it".
const NOBODY_AT_ALL: u32 = u32::MAX;

/// Users of a passwd file by number and by name (passwd(5)).
#[derive(Clone, Debug, Default)]
pub struct UserNames {
    by_uid: HashMap<u32, Arc<[u8]>>,
    by_name: HashMap<Arc<[u8]>, u32>,
}

impl UserNames {
    /// Parses the file. The first line with a number gives it its name, and the first with a name
    /// its number. Left out are lines whose uid or gid is no number below 4294967295, and those
    /// whose name is empty, holds a control character, begins with `#`, or is all digits: that
    /// would let root be shown as `1000`.
    ///
    /// ```text
    /// www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
    /// ```
    pub fn parse(bytes: &[u8]) -> Self {
        let mut names = Self::default();
        for Account { name, uid, .. } in accounts(bytes) {
            let name: Arc<[u8]> = name.into();
            names.by_uid.entry(uid).or_insert_with(|| Arc::clone(&name));
            names.by_name.entry(name).or_insert(uid);
        }
        names
    }

    /// The name of a number. Of any bytes but control characters.
    pub fn name(&self, uid: u32) -> Option<&[u8]> {
        self.by_uid.get(&uid).map(|name| &**name)
    }

    /// Every number with its name, in order.
    pub fn all(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let mut all: Vec<(u32, &[u8])> =
            self.by_uid.iter().map(|(uid, name)| (*uid, &**name)).collect();
        all.sort_unstable();
        all.into_iter()
    }

    /// The number of a name. What is all digits is a number already, and no name here.
    pub fn uid(&self, name: &[u8]) -> Option<u32> {
        self.by_name.get(name).copied()
    }
}

/// A line of a passwd file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its number.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Where it is at home: an absolute path of one line; none for what is not.
    pub home: Option<&'a [u8]>,
    /// Its shell, likewise.
    pub shell: Option<&'a [u8]>,
}

/// The lines of a passwd file that are in form, as [`UserNames::parse`] says.
pub fn accounts(bytes: &[u8]) -> impl Iterator<Item = Account<'_>> {
    bytes.split(|b| *b == b'\n').filter_map(|line| {
        let mut fields = (line.len() <= MAX_LINE).then(|| line.split(|b| *b == b':'))?;
        let name = fields.next().filter(|name| is_sound(name))?;
        let _password = fields.next()?;
        let uid = decimal(fields.next()?).filter(|uid| *uid != NOBODY_AT_ALL)?;
        let gid = decimal(fields.next()?).filter(|gid: &u32| *gid != NOBODY_AT_ALL)?;
        let _gecos = fields.next();
        let mut path = || fields.next().filter(|p| p.starts_with(b"/") && !p.contains(&0));
        Some(Account { name, uid, gid, home: path(), shell: path() })
    })
}

/// A line of a group file (group(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its number.
    pub gid: u32,
    members: &'a [u8],
}

impl Group<'_> {
    /// Whether a user is listed in it.
    pub fn has(&self, user: &[u8]) -> bool {
        self.members.split(|b| *b == b',').any(|member| member == user)
    }
}

/// The lines of a group file that are in form.
///
/// ```text
/// video:x:44:alice,bob
/// ```
pub fn groups(bytes: &[u8]) -> impl Iterator<Item = Group<'_>> {
    bytes.split(|b| *b == b'\n').filter_map(|line| {
        let mut fields = (line.len() <= MAX_LINE).then(|| line.split(|b| *b == b':'))?;
        let name = fields.next().filter(|name| is_sound(name))?;
        let _password = fields.next()?;
        let gid = decimal(fields.next()?).filter(|gid| *gid != NOBODY_AT_ALL)?;
        Some(Group { name, gid, members: fields.next().unwrap_or_default() })
    })
}

fn is_sound(name: &[u8]) -> bool {
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
    fn names_and_numbers_are_found() {
        let names = UserNames::parse(
            b"root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:\nb\xfcro:x:5:5\n",
        );
        assert_eq!((names.name(0), names.uid(b"www-data")), (Some(&b"root"[..]), Some(33)));
        assert_eq!(names.name(5), Some(&b"b\xfcro"[..]));
        assert_eq!((names.name(1), names.uid(b"")), (None, None));
    }

    #[test]
    fn the_first_line_wins() {
        let names = UserNames::parse(b"root:x:0:0:::\ntoor:x:0:0:::\nroot:x:7:7:::\n");
        assert_eq!((names.name(0), names.name(7)), (Some(&b"root"[..]), Some(&b"root"[..])));
        assert_eq!((names.uid(b"root"), names.uid(b"toor")), (Some(0), Some(0)));
    }

    #[test]
    fn a_hostile_file_names_nobody() {
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
        assert!(names.by_uid.is_empty() && names.by_name.is_empty(), "{names:?}");
    }

    #[test]
    fn a_line_after_a_strange_one_is_read() {
        let mut bytes = vec![b'x'; 1 << 20];
        bytes.extend(b"\n\0\nroot:x:0:0");
        assert_eq!(UserNames::parse(&bytes).name(0), Some(&b"root"[..]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, text in "[a0-9:\n]{0,80}") {
            let _ = (UserNames::parse(&bytes), UserNames::parse(text.as_bytes()));
        }

        #[test]
        fn a_line_in_form_is_read_back(name in "[a-z_][a-z0-9_-]{0,30}", uid in 0..u32::MAX) {
            let names = UserNames::parse(format!("{name}:x:{uid}:{uid}:::\n").as_bytes());
            prop_assert_eq!(names.name(uid), Some(name.as_bytes()));
            prop_assert_eq!(names.uid(name.as_bytes()), Some(uid));
        }
    }
}
