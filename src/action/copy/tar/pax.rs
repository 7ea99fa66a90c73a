//! PAX records (pax(1), "pax Extended Header"): their syntax, and attributes in them.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::action::copy::entry::EntryAttributes;
use crate::action::copy::file_capability;
use crate::action::copy::metadata::{DroppedAttribute, FileTime};

/// The prefix of extended attributes, as star(1) began it and everyone writes it.
pub const XATTR: &str = "SCHILY.xattr.";

/// The most memory that the records of a member may take.
pub const MAX_MEMORY: u64 = 1 << 25;
/// The memory of a record apart from its bytes, about: its place in the tree, and three allocations.
const RECORD: u64 = 160;

/// Records by their keys: a key may come more than once in one header, and has its values in their order.
#[derive(Clone, Debug, Default)]
pub struct PaxRecords {
    values: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    memory: u64,
}

impl PaxRecords {
    /// Parses the data of a header; none if it is broken. A value is any bytes, newlines included: the
    /// length before the key counts. Beyond `MAX_MEMORY` nothing more is parsed.
    pub fn parse(mut data: &[u8]) -> Option<Self> {
        let mut records = Self::default();
        while records.memory <= MAX_MEMORY && data.iter().any(|b| *b != 0) {
            let blank = data.iter().position(|b| *b == b' ')?;
            let length = super::header::decimal(&data[..blank])?;
            let length = usize::try_from(length).ok().filter(|length| *length > blank + 1)?;
            let (record, rest) = data.split_at_checked(length)?;
            let record = record[blank + 1..].strip_suffix(b"\n")?;
            let equals = record.iter().position(|b| *b == b'=')?;
            records.add(&record[..equals], record[equals + 1..].to_vec());
            data = rest;
        }
        Some(records)
    }

    fn add(&mut self, key: &[u8], value: Vec<u8>) {
        self.memory += memory_of(key, std::slice::from_ref(&value));
        match self.values.get_mut(key) {
            Some(values) => values.push(value),
            None => drop(self.values.insert(key.to_vec(), vec![value])),
        }
    }

    /// Adds the records of a later header, which count more.
    pub fn extend(&mut self, later: Self) {
        self.memory += later.memory;
        for (key, values) in later.values {
            let earlier = self.values.insert(key.clone(), values).unwrap_or_default();
            self.memory -= memory_of(&key, &earlier);
        }
    }

    /// Returns the memory that the records take, about.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    fn last(&self, key: &str) -> Option<&[u8]> {
        self.values.get(key.as_bytes())?.last().map(Vec::as_slice)
    }
}

fn memory_of(key: &[u8], values: &[Vec<u8>]) -> u64 {
    values.iter().map(|value| (key.len() + value.len()) as u64 + RECORD).sum()
}

impl<'a> FromIterator<(&'a [u8], &'a [u8])> for PaxRecords {
    fn from_iter<I: IntoIterator<Item = (&'a [u8], &'a [u8])>>(list: I) -> Self {
        let mut records = Self::default();
        list.into_iter().for_each(|(key, value)| records.add(key, value.to_vec()));
        records
    }
}

/// The records that count for a member: its own before those of global headers.
#[derive(Clone, Copy, Debug)]
pub struct Records<'r> {
    /// Its own.
    pub member: &'r PaxRecords,
    /// Records of global headers.
    pub global: &'r PaxRecords,
}

impl<'r> Records<'r> {
    /// Returns a value; an empty one takes the key away.
    pub fn get(&self, key: &str) -> Option<&'r [u8]> {
        let value = self.member.last(key).or_else(|| self.global.last(key));
        value.filter(|value| !value.is_empty())
    }

    /// Returns a value of the member's own records: no global header names a file.
    pub fn own(&self, key: &str) -> Option<&'r [u8]> {
        self.member.last(key).filter(|value| !value.is_empty())
    }

    /// Returns all values of a key, in their order.
    pub fn all(&self, key: &str) -> impl Iterator<Item = &'r [u8]> {
        self.member.values.get(key.as_bytes()).into_iter().flatten().map(Vec::as_slice)
    }

    /// Returns the rest of each key with this prefix, and its value.
    pub fn prefixed(&self, prefix: &'static str) -> impl Iterator<Item = (&'r [u8], &'r [u8])> {
        let of = move |records: &'r PaxRecords| {
            let from = Bound::Included(prefix.as_bytes());
            let rest = records.values.range::<[u8], _>((from, Bound::Unbounded));
            rest.map_while(move |(key, values)| {
                Some((key.strip_prefix(prefix.as_bytes())?, values))
            })
        };
        let all = of(self.global).chain(of(self.member));
        all.flat_map(|(key, values)| values.iter().map(move |value| (key, value.as_slice())))
    }
}

/// Returns the records for attributes that have no room in a header. An attribute whose name has no form
/// in a record is added to the unread ones.
pub fn records(attributes: &mut EntryAttributes) -> Vec<(String, Vec<u8>)> {
    let (mut records, metadata) = (Vec::new(), &attributes.metadata);
    let mut add = |key: String, value: Vec<u8>| records.push((key, value));
    if let Some(time) = metadata.modified.filter(|(_, nanoseconds)| *nanoseconds != 0) {
        add("mtime".into(), format_time(time).into_bytes());
    }
    if let Some(time) = metadata.accessed {
        add("atime".into(), format_time(time).into_bytes());
    }
    if let Some(acl) = &metadata.access_acl {
        add("SCHILY.acl.access".into(), acl.to_text().into_bytes());
    }
    if let Some(acl) = &metadata.default_acl {
        add("SCHILY.acl.default".into(), acl.to_text().into_bytes());
    }
    if let Some(capability) = &attributes.capability {
        let name = String::from_utf8_lossy(file_capability::NAME);
        add(format!("{XATTR}{name}"), capability.to_xattr());
    }
    for (name, value) in &metadata.xattrs {
        // A key ends at the first `=`; GNU tar quotes it so.
        match String::from_utf8(name.clone()) {
            Ok(name) => {
                let name = name.replace('%', "%25").replace('=', "%3D");
                add(format!("{XATTR}{name}"), value.clone());
            }
            Err(_) => attributes.unread.push(DroppedAttribute::xattr(name)),
        }
    }
    records
}

/// Returns records as the data of a header: each begins with its own length, in decimal.
pub fn encode(records: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in records {
        // A blank, `=` and a newline.
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + length.to_string().len() != length {
            length = rest + length.to_string().len();
        }
        data.extend(format!("{length} {key}=").into_bytes());
        data.extend(value);
        data.push(b'\n');
    }
    data
}

/// Replaces `%XX` by the byte with this number.
pub fn unquote(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).filter(|_| *first == b'%');
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

/// Formats a time as a decimal number of seconds.
fn format_time((seconds, nanoseconds): FileTime) -> String {
    let (sign, seconds, nanoseconds) = match (seconds, nanoseconds) {
        // The nanoseconds count forwards from the second before.
        (..0, 1..) => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds),
        (..0, _) => ("-", seconds.unsigned_abs(), 0),
        _ => ("", seconds.unsigned_abs(), nanoseconds),
    };
    if nanoseconds == 0 {
        return format!("{sign}{seconds}");
    }
    let text = format!("{sign}{seconds}.{nanoseconds:09}");
    text.trim_end_matches('0').to_owned()
}

/// Parses a time; digits after the ninth are cut off. None if it is not one.
pub fn parse_time(text: &[u8]) -> Option<FileTime> {
    let text = std::str::from_utf8(text).ok()?;
    let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (seconds, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.is_empty() || !is_number(seconds) || !is_number(fraction) {
        return None;
    }
    let seconds: i64 = seconds.parse().ok()?;
    let nanoseconds: u32 = format!("{:0<9}", fraction.get(..9).unwrap_or(fraction)).parse().ok()?;
    Some(match (is_negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_decimal() {
        for (time, text) in [
            ((0, 0), "0"),
            ((10, 0), "10"),
            ((1, 500_000_000), "1.5"),
            ((1, 1), "1.000000001"),
            ((-2, 500_000_000), "-1.5"),
            ((-1, 999_999_999), "-0.000000001"),
            ((-315_619_200, 0), "-315619200"),
            ((10_413_792_000, 0), "10413792000"),
        ] {
            assert_eq!(format_time(time), text);
            assert_eq!(parse_time(text.as_bytes()), Some(time));
        }
        assert_eq!(parse_time(b"1.0000000019"), Some((1, 1)));
        for text in ["", "nan", "-", ".5", "1.x", "1e3", "99999999999999999999"] {
            assert_eq!(parse_time(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn values_are_any_bytes() {
        let records = PaxRecords::parse(b"9 a=\nb=\0\n11 a=later\n\0\0").unwrap();
        assert_eq!(records.last("a"), Some(&b"later"[..]));
        assert_eq!(records.values[&b"a"[..]], [&b"\nb=\0"[..], b"later"]);
        for broken in
            [&b"9 a=1\n"[..], b"x a=1\n", b"5 a=1 ", b"3 a\n", b"99999999999999999999 a=1\n"]
        {
            assert!(PaxRecords::parse(broken).is_none(), "{broken:?}");
        }
    }

    #[test]
    fn global_records_count_less() {
        let parse = |text: &[u8]| PaxRecords::parse(text).unwrap();
        let (mut global, member) = (parse(b"7 a=12\n7 b=34\n"), parse(b"7 a=56\n5 b=\n"));
        global.extend(parse(b"7 c=78\n"));
        let records = Records { member: &member, global: &global };
        assert_eq!((records.get("a"), records.get("b")), (Some(&b"56"[..]), None));
        assert_eq!((records.get("c"), records.own("c")), (Some(&b"78"[..]), None));
        let memory = global.memory();
        global.extend(parse(b"7 c=90\n"));
        assert_eq!((global.memory(), global.last("c")), (memory, Some(&b"90"[..])));
        assert_eq!(global.memory(), 3 * (3 + RECORD));
    }

    #[test]
    fn quoted_names_come_back() {
        assert_eq!(unquote(b"user.a%3Db%25%zz%4"), b"user.a=b%%zz%4");
    }

    proptest! {
        #[test]
        fn every_time_comes_back(seconds in -1i64 << 40..1 << 40, nanoseconds in 0u32..1_000_000_000) {
            let text = format_time((seconds, nanoseconds));
            prop_assert_eq!(parse_time(text.as_bytes()), Some((seconds, nanoseconds)));
        }

        #[test]
        fn records_come_back(key in "[a-z.]{1,12}", value in prop::collection::vec(any::<u8>(), 0..1200)) {
            let data = encode(&[(key.clone(), value.clone()), ("b".into(), b"2".to_vec())]);
            let records = PaxRecords::parse(&data).unwrap();
            prop_assert_eq!(&records.values[key.as_bytes()][0], &value);
            prop_assert_eq!(records.last("b"), Some(&b"2"[..]));
        }

        #[test]
        fn any_bytes_are_records_or_none(data: Vec<u8>) {
            let _ = PaxRecords::parse(&data);
        }
    }
}
