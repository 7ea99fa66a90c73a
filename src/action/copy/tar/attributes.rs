//! The attributes of a member: from its header and its PAX records, in the forms of the programs that
//! write them. A value that is not valid is reported, and the one in the header, or none, is taken.

use std::cell::Cell;
use std::collections::BTreeMap;

use data_encoding::BASE64_NOPAD;

use super::pax::{Records, XATTR, parse_time, unquote};
use super::read::Member;
use crate::action::copy::acl::{ACCESS_ACL, Acl, DEFAULT_ACL, FindId};
use crate::action::copy::entry::EntryAttributes;
use crate::action::copy::error::text;
use crate::action::copy::file_capability::{self, FileCapability};
use crate::action::copy::metadata::{DroppedAttribute, Metadata};

/// The permission bits of a member whose header has none.
const DEFAULT_MODE: u32 = 0o644;

/// The attributes of a member, and the records that are not valid.
pub struct MemberAttributes {
    /// The attributes.
    pub entry: EntryAttributes,
    /// The records, as `KEY=VALUE`.
    pub invalid: Vec<String>,
}

impl MemberAttributes {
    /// Reads them. Names in access control lists are looked up by `find_id`.
    pub fn new(member: &Member, records: &Records<'_>, find_id: FindId<'_>) -> Self {
        let header = &member.header;
        let mut invalid = Vec::new();
        let uid = valid(records, "uid", parse_id, &mut invalid);
        let gid = valid(records, "gid", parse_id, &mut invalid);
        let id = |id: Option<i64>| u32::try_from(id?).ok().filter(|id| *id != u32::MAX);
        let modified = valid(records, "mtime", parse_time, &mut invalid);
        let mode = header.mode.and_then(|mode| u32::try_from(mode & 0o7777).ok());
        let metadata = Metadata {
            mode: mode.unwrap_or(DEFAULT_MODE),
            owner: uid.or(id(header.uid)).zip(gid.or(id(header.gid))),
            modified: modified.or(header.modified.map(|seconds| (seconds, 0))),
            accessed: valid(records, "atime", parse_time, &mut invalid),
            ..Metadata::default()
        };
        let mut attributes =
            Self { entry: EntryAttributes { metadata, ..EntryAttributes::default() }, invalid };
        attributes.read_xattrs(records);
        attributes.read_acls(records, find_id);
        if let Some(flags) = records.get("SCHILY.fflags") {
            attributes.entry.unread.push(DroppedAttribute::Flags(text(flags)));
        }
        attributes
    }

    /// Reads extended attributes: raw (star, GNU tar, Go), and quoted and in base 64 (libarchive), which
    /// comes with the other if the value is text.
    fn read_xattrs(&mut self, records: &Records<'_>) {
        let mut xattrs = BTreeMap::new();
        for (name, value) in records.prefixed(XATTR) {
            xattrs.insert(unquote(name), value.to_vec());
        }
        for (name, value) in records.prefixed("LIBARCHIVE.xattr.") {
            let padding = value.iter().rposition(|b| *b != b'=').map_or(0, |last| last + 1);
            match BASE64_NOPAD.decode(&value[..padding]) {
                Ok(value) => drop(xattrs.insert(unquote(name), value)),
                Err(_) => {
                    let name = unquote(name);
                    self.entry.unread.push(DroppedAttribute::xattr(&name));
                }
            }
        }
        if let Some(label) = records.get("RHT.security.selinux") {
            let label = label.strip_suffix(b"\0").unwrap_or(label);
            xattrs.insert(b"security.selinux".to_vec(), label.to_vec());
        }
        for (name, value) in xattrs {
            self.set_xattr(name, value);
        }
    }

    fn set_xattr(&mut self, name: Vec<u8>, value: Vec<u8>) {
        let entry = &mut self.entry;
        match &*name {
            ACCESS_ACL => {
                let acl = Acl::from_xattr(&value);
                self.set_access_acl(acl.as_ref(), acl.clone());
            }
            DEFAULT_ACL => {
                self.set_default_acl(Acl::from_xattr(&value));
            }
            file_capability::NAME => {
                entry.capability = FileCapability::from_xattr(&value);
                if entry.capability.is_none() {
                    entry.unread.push(DroppedAttribute::Capabilities);
                }
            }
            _ => entry.metadata.xattrs.push((name, value)),
        }
    }

    /// Reads access control lists in their text form; and reports those of NFS, which have no counterpart.
    fn read_acls(&mut self, records: &Records<'_>, find_id: FindId<'_>) {
        if let Some(list) = records.get("SCHILY.acl.access") {
            // Users that are not known here count for the mode all the same.
            let unknown = Cell::new(u32::MAX);
            let any = |is_group: bool, name: &[u8]| {
                find_id(is_group, name).or_else(|| Some(unknown.replace(unknown.get() - 1)))
            };
            let known = Acl::parse(list, find_id);
            self.set_access_acl(Acl::parse(list, &any).as_ref(), known);
        }
        if let Some(list) = records.get("SCHILY.acl.default") {
            self.set_default_acl(Acl::parse(list, find_id));
        }
        if records.get("SCHILY.acl.ace").is_some() {
            self.entry.unread.push(DroppedAttribute::Acl);
        }
    }

    /// Sets a list, and the mode for a copy without it.
    fn set_access_acl(&mut self, any: Option<&Acl>, known: Option<Acl>) {
        self.entry.metadata.set_mode_without(any);
        if known.is_none() {
            self.entry.unread.push(DroppedAttribute::Acl);
        }
        self.entry.metadata.access_acl = known;
    }

    fn set_default_acl(&mut self, acl: Option<Acl>) {
        if acl.is_none() {
            self.entry.unread.push(DroppedAttribute::Acl);
        }
        self.entry.metadata.default_acl = acl;
    }
}

/// Returns a value; one that is not valid is added to the list.
fn valid<T>(
    records: &Records<'_>,
    key: &str,
    parse: impl Fn(&[u8]) -> Option<T>,
    invalid: &mut Vec<String>,
) -> Option<T> {
    let value = records.get(key)?;
    let parsed = parse(value);
    if parsed.is_none() {
        invalid.push(format!("{key}={}", text(value)));
    }
    parsed
}

fn parse_id(text: &[u8]) -> Option<u32> {
    super::header::decimal(text).and_then(|id| u32::try_from(id).ok()).filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::copy::tar::pax::PaxRecords;
    use crate::action::copy::tar::read::MemberHeader;

    fn read(mode: i64, records: &[(&str, &[u8])]) -> MemberAttributes {
        let records = records.iter().map(|(key, value)| (key.as_bytes(), *value));
        let records = PaxRecords::from_iter(records);
        let header =
            MemberHeader { mode: Some(mode), uid: Some(1), gid: Some(2), modified: Some(-5) };
        let member = Member { header, ..Member::default() };
        let records = Records { member: &records, global: &PaxRecords::default() };
        MemberAttributes::new(&member, &records, &|_, name| (name == b"daemon").then_some(1))
    }

    #[test]
    fn records_count_more_than_the_header() {
        let plain = read(0o644, &[]).entry.metadata;
        assert_eq!((plain.owner, plain.modified), (Some((1, 2)), Some((-5, 0))));
        let set = read(0o644, &[("uid", b"3000000"), ("mtime", b"-5.5"), ("atime", b"1.25")]);
        assert_eq!(set.entry.metadata.owner, Some((3_000_000, 2)));
        assert_eq!(set.entry.metadata.modified, Some((-6, 500_000_000)));
        assert_eq!(set.entry.metadata.accessed, Some((1, 250_000_000)));
        let bad = read(0o644, &[("uid", b"4294967296"), ("mtime", b"nan")]);
        assert_eq!(bad.invalid, ["uid=4294967296", "mtime=nan"]);
        let bad = bad.entry.metadata;
        assert_eq!((bad.owner, bad.modified), (plain.owner, plain.modified));
    }

    #[test]
    fn extended_attributes_have_two_forms() {
        let entry = read(
            0o644,
            &[
                ("SCHILY.xattr.user.a%3Db", b"x\ny"),
                ("LIBARCHIVE.xattr.user.%C3%BC", b"AAE"),
                ("LIBARCHIVE.xattr.user.a=b", b"eAp5"),
            ],
        )
        .entry;
        let expected = [
            (b"user.a=b".to_vec(), b"x\ny".to_vec()),
            ("user.\u{fc}".as_bytes().to_vec(), b"\0\x01".to_vec()),
        ];
        assert_eq!(entry.metadata.xattrs, expected);
        assert!(entry.unread.is_empty());
    }

    #[test]
    fn a_list_that_cannot_be_kept_does_not_widen_rights() {
        let list = |text: &str| read(0o664, &[("SCHILY.acl.access", text.as_bytes())]).entry;
        let known = list("user::rw-,user:daemon:rw-,group::r--,mask::rw-,other::r--");
        assert_eq!((known.metadata.mode, known.unread.len()), (0o644, 0));
        assert!(known.metadata.access_acl.is_some());
        let unknown = list("user::rw-,user:x:rw-,user:y:rw-,group::r--,mask::rw-,other::r--");
        assert_eq!(
            (unknown.metadata.mode, &*unknown.unread),
            (0o644, &[DroppedAttribute::Acl][..])
        );
        assert_eq!(list("nonsense").metadata.mode, 0o604);
    }
}
