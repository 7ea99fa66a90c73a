//! POSIX access control lists (acl(5)) in their two forms: the binary one of the extended attributes
//! `system.posix_acl_access` and `system.posix_acl_default`, and the text of tar streams
//! (`SCHILY.acl.access`). Nothing here touches a file.
//!
//! The group bits of a file with a list are its mask, not the rights of its group: a copy without the
//! list must not take them for these ([`Acl::mode_without`]).

/// The extended attributes that hold access control lists.
pub const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
/// The ACL of a directory for files that are created in it.
pub const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// Read, write and execute.
const ALL: u16 = 7;
/// The version of the binary form (POSIX_ACL_XATTR_VERSION, include/uapi/linux/posix_acl_xattr.h).
const VERSION: u32 = 2;
/// The ID of an entry without one (ACL_UNDEFINED_ID).
const NO_ID: u32 = u32::MAX;

/// The subject of an entry. The order is that of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AclTag {
    /// The owner.
    Owner,
    /// A user.
    User(u32),
    /// The group of the file.
    OwningGroup,
    /// A group.
    Group(u32),
    /// The most that users and groups get.
    Mask,
    /// Everyone else.
    Other,
}

/// An access control list, valid as acl_check(3) has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl(Vec<(AclTag, u16)>);

/// Finds the ID of a name: of a group if the first argument is set, of a user otherwise.
pub type FindId<'a> = &'a dyn Fn(bool, &[u8]) -> Option<u32>;

impl Acl {
    /// Checks and sorts the entries.
    fn new(mut entries: Vec<(AclTag, u16)>) -> Option<Self> {
        entries.sort_unstable();
        let once = |tag| entries.iter().filter(|(known, _)| *known == tag).count() == 1;
        let has_mask = entries.iter().any(|(tag, _)| *tag == AclTag::Mask);
        let is_named = |(tag, _): &(AclTag, u16)| matches!(tag, AclTag::User(_) | AclTag::Group(_));
        let is_distinct = entries.windows(2).all(|pair| pair[0].0 != pair[1].0);
        let is_valid = [AclTag::Owner, AclTag::OwningGroup, AclTag::Other].into_iter().all(once)
            && is_distinct
            && (has_mask || !entries.iter().any(is_named));
        is_valid.then_some(Self(entries))
    }

    /// Parses the binary form. None if it is not one.
    pub fn from_xattr(bytes: &[u8]) -> Option<Self> {
        let (version, entries) = bytes.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*version) != VERSION || entries.len() % 8 != 0 {
            return None;
        }
        let entry = |bytes: &[u8]| {
            let [tag, tag2, rights, rights2, id @ ..] = bytes else { return None };
            let id = u32::from_le_bytes(id.try_into().ok()?);
            let tag = match u16::from_le_bytes([*tag, *tag2]) {
                0x01 => AclTag::Owner,
                0x02 => AclTag::User(id),
                0x04 => AclTag::OwningGroup,
                0x08 => AclTag::Group(id),
                0x10 => AclTag::Mask,
                0x20 => AclTag::Other,
                _ => return None,
            };
            Some((tag, u16::from_le_bytes([*rights, *rights2]) & ALL))
        };
        Self::new(entries.chunks_exact(8).map(entry).collect::<Option<_>>()?)
    }

    /// Returns the binary form.
    pub fn to_xattr(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for (tag, rights) in &self.0 {
            let (tag, id) = match tag {
                AclTag::Owner => (0x01u16, NO_ID),
                AclTag::User(id) => (0x02, *id),
                AclTag::OwningGroup => (0x04, NO_ID),
                AclTag::Group(id) => (0x08, *id),
                AclTag::Mask => (0x10, NO_ID),
                AclTag::Other => (0x20, NO_ID),
            };
            bytes.extend(tag.to_le_bytes());
            bytes.extend(rights.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    /// Parses the text form: entries between commas or newlines, `user:NAME:rwx`, as acl_to_text(3) writes
    /// them, or with the ID after it, as star(1) and libarchive do. None if it is not one, or a name is
    /// not found.
    pub fn parse(text: &[u8], find_id: FindId<'_>) -> Option<Self> {
        let lines = text.split(|b| *b == b',' || *b == b'\n');
        let lines = lines.map(|line| line.split(|b| *b == b'#').next().unwrap_or_default());
        let lines = lines.map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        Self::new(lines.map(|line| parse_entry(line, find_id)).collect::<Option<_>>()?)
    }

    /// Returns the text form, with IDs in place of names.
    pub fn to_text(&self) -> String {
        let entry = |(tag, rights): &(AclTag, u16)| {
            let subject = match tag {
                AclTag::Owner => "user:".to_owned(),
                AclTag::User(id) => format!("user:{id}"),
                AclTag::OwningGroup => "group:".to_owned(),
                AclTag::Group(id) => format!("group:{id}"),
                AclTag::Mask => "mask:".to_owned(),
                AclTag::Other => "other:".to_owned(),
            };
            let bit = |bit: u16, letter: char| if rights & bit == 0 { '-' } else { letter };
            format!("{subject}:{}{}{}", bit(4, 'r'), bit(2, 'w'), bit(1, 'x'))
        };
        self.0.iter().map(entry).collect::<Vec<_>>().join(",")
    }

    /// Translates the IDs of users and groups; none if one of them has no counterpart.
    pub fn map_ids(
        &self,
        uid: impl Fn(u32) -> Option<u32>,
        gid: impl Fn(u32) -> Option<u32>,
    ) -> Option<Self> {
        let entry = |(tag, rights): &(AclTag, u16)| {
            let tag = match tag {
                AclTag::User(id) => AclTag::User(uid(*id)?),
                AclTag::Group(id) => AclTag::Group(gid(*id)?),
                tag => *tag,
            };
            Some((tag, *rights))
        };
        Self::new(self.0.iter().map(entry).collect::<Option<_>>()?)
    }

    /// Returns the mode of a file with this list: the bits of the group are the mask.
    pub fn mode_with(&self, mode: u32) -> u32 {
        let rights =
            |wanted| self.0.iter().find(|(tag, _)| *tag == wanted).map(|(_, rights)| *rights);
        let group = rights(AclTag::Mask).or_else(|| rights(AclTag::OwningGroup)).unwrap_or(0);
        mode & !0o070 | u32::from(group) << 3
    }

    /// Returns the mode for a copy without this list: the group gets its rights in the list, instead of
    /// the mask, which is the most that any user or group in the list gets.
    pub fn mode_without(&self, mode: u32) -> u32 {
        let rights =
            |wanted| self.0.iter().find(|(tag, _)| *tag == wanted).map(|(_, rights)| *rights);
        let group = rights(AclTag::OwningGroup).unwrap_or(0) & rights(AclTag::Mask).unwrap_or(ALL);
        mode & !0o070 | u32::from(group) << 3 & mode
    }
}

fn parse_entry(line: &[u8], find_id: FindId<'_>) -> Option<(AclTag, u16)> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b':').map(<[u8]>::trim_ascii).collect();
    // `mask:rwx` and `other:rwx` may stand without the empty name.
    let (kind, name, rights, id) = match *fields {
        [kind @ (b"mask" | b"m" | b"other" | b"o"), rights] => (kind, &b""[..], rights, None),
        [kind, name, rights] => (kind, name, rights, None),
        [kind, name, rights, id] => (kind, name, rights, Some(id)),
        _ => return None,
    };
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u32>().ok();
    let subject =
        |is_group| id.and_then(number).or_else(|| number(name)).or_else(|| find_id(is_group, name));
    let tag = match (kind, name) {
        (b"user" | b"u", b"") => AclTag::Owner,
        (b"user" | b"u", _) => AclTag::User(subject(false)?),
        (b"group" | b"g", b"") => AclTag::OwningGroup,
        (b"group" | b"g", _) => AclTag::Group(subject(true)?),
        (b"mask" | b"m", b"") => AclTag::Mask,
        (b"other" | b"o", b"") => AclTag::Other,
        _ => return None,
    };
    let right = |byte: &u8| match byte {
        b'r' => Some(4),
        b'w' => Some(2),
        b'x' => Some(1),
        b'-' => Some(0),
        _ => None,
    };
    Some((tag, rights.iter().map(right).sum::<Option<u16>>()? & ALL))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Acl> {
        Acl::parse(text.as_bytes(), &|is_group, name| match (is_group, name) {
            (false, b"daemon") => Some(1),
            (true, b"staff") => Some(50),
            _ => None,
        })
    }

    #[test]
    fn the_forms_agree() {
        let text = "user::rw-,user:1:rw-,group::r--,group:50:r-x,mask::rwx,other::r--";
        let acl = parse(text).unwrap();
        assert_eq!(acl.to_text(), text);
        assert_eq!(Acl::from_xattr(&acl.to_xattr()), Some(acl.clone()));
        for other in [
            "other::r--\nmask::rwx\ngroup:staff:r-x\ngroup::r--\nuser:daemon:rw-\t#effective:rw-\nuser::rw-\n",
            "user::rw-,user:whoami:rw-:1,group::r--,group:x:r-x:50,mask:rwx,other:r--",
        ] {
            assert_eq!(parse(other), Some(acl.clone()), "{other}");
        }
    }

    #[test]
    fn a_list_is_valid_or_none() {
        for text in [
            "",
            "user::rw-,group::r--",
            "user::rw-,user:1:rw-,group::r--,other::r--",
            "user::rw-,user:stranger:rw-,group::r--,mask::rw-,other::r--",
            "user::rw-,user::rw-,group::r--,other::r--",
            "user::rwq,group::r--,other::r--",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(Acl::from_xattr(b"\x02\0\0\0\x01"), None);
    }

    #[test]
    fn the_loss_of_a_list_never_widens_rights() {
        let acl = |text| parse(text).unwrap();
        let masked = acl("user::rw-,user:1:rw-,group::r--,mask::rw-,other::r--");
        assert_eq!(masked.mode_without(0o664), 0o644);
        let closed = acl("user::rw-,user:1:rwx,group::rwx,mask::r--,other::---");
        assert_eq!(closed.mode_without(0o4640), 0o4640);
        let shifted = masked.map_ids(|uid| uid.checked_add(100_000), Some).unwrap();
        assert!(shifted.to_text().contains("user:100001:rw-"));
        assert_eq!(masked.map_ids(|_| None, Some), None);
    }
}
