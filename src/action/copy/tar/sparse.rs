//! The maps of sparse files: the extents that have data, in every form that tar programs write them. GNU
//! tar has had four (its manual, "Storing Sparse Files"): in headers of type `S`, and in PAX records as
//! the formats 0.0, 0.1 and 1.0; star(1) has one in headers of its own.

use super::header::{BLOCK, Block, decimal, unsigned};
use super::pax::Records;

/// The number of extents that are accepted: more would be a gap in each page of 16 GiB.
const MAX_EXTENTS: usize = 1 << 22;
/// The size of an entry in a header: offset and length of 12 bytes each.
const ENTRY: usize = 24;

/// The extents of a file, as offsets and lengths, and its size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SparseMap {
    /// Offsets and lengths, in ascending order.
    pub extents: Vec<(u64, u64)>,
    /// The size of the file.
    pub size: u64,
}

impl SparseMap {
    /// Returns the map of a file without holes.
    pub fn dense(size: u64) -> Self {
        Self { extents: vec![(0, size)], size }
    }

    /// Returns the number of bytes of data; none if the map is not one: extents that overlap, or lie
    /// beyond the end.
    pub fn data(&self) -> Option<u64> {
        let (mut end, mut data) = (0, 0u64);
        for (offset, length) in &self.extents {
            if *offset < end {
                return None;
            }
            end = offset.checked_add(*length).filter(|end| *end <= self.size)?;
            data += length;
        }
        (self.extents.len() <= MAX_EXTENTS).then_some(data)
    }

    /// Adds the entries of a header. One without a length ends them.
    fn add(&mut self, entries: &[u8]) -> Option<()> {
        for entry in entries.chunks_exact(ENTRY) {
            let (offset, length) = entry.split_at(12);
            if length[0] == 0 {
                break;
            }
            self.extents.push((unsigned(offset)?, unsigned(length)?));
        }
        (self.extents.len() <= MAX_EXTENTS).then_some(())
    }
}

/// The part of a map that is in the header of a member of type `S`.
pub struct HeaderMap {
    /// The map so far.
    pub map: SparseMap,
    /// Whether a block with more of it follows.
    pub is_extended: bool,
}

impl HeaderMap {
    /// Reads the header of GNU tar, or of star. None if it is broken.
    pub fn new(block: &Block, records: &Records<'_>) -> Option<Self> {
        let is_gnu = block[257..265] == *b"ustar  \0";
        let (entries, is_extended, size) = if is_gnu {
            (&block[386..482], block[482] != 0, &block[483..495])
        } else if block[345] == 0 && block[356 + 10] != 0 {
            (&block[356..452], block[355] != 0, &block[452..464])
        } else {
            // A newer star has all entries in the blocks that follow.
            (&[][..], true, &block[452..464])
        };
        let size = match records.get("SCHILY.realsize") {
            Some(size) => decimal(size)?,
            None => unsigned(size)?,
        };
        let mut map = SparseMap { extents: Vec::new(), size };
        map.add(entries)?;
        Some(Self { map, is_extended })
    }

    /// Reads a block that follows. None if it is broken.
    pub fn extend(&mut self, block: &Block) -> Option<()> {
        self.is_extended = block[504] != 0;
        self.map.add(&block[..504])
    }
}

/// The form of the map of a member whose type is that of a regular file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordMap {
    /// It is not a sparse file.
    None,
    /// The map, from the records.
    Complete(SparseMap),
    /// The map is before the data; the size of the file is known.
    BeforeData(u64),
    /// A form that is not known: its name.
    Unknown(String),
    /// It contradicts itself.
    Broken,
}

impl RecordMap {
    /// Reads the records of a member.
    pub fn new(records: &Records<'_>) -> Self {
        let text = |key| records.get(key).map(String::from_utf8_lossy);
        let version = (text("GNU.sparse.major"), text("GNU.sparse.minor"));
        let size = records.get("GNU.sparse.realsize").or_else(|| records.get("GNU.sparse.size"));
        let size = size.map(decimal);
        let version = match &version {
            (None, None) => None,
            (major, minor) => {
                Some((major.as_deref().unwrap_or("0"), minor.as_deref().unwrap_or("0")))
            }
        };
        let map = records.get("GNU.sparse.map");
        let has_pairs = records.all("GNU.sparse.offset").next().is_some();
        match (version, size) {
            (None, None) if records.get("SUN.holesdata").is_some() => {
                Self::Unknown("of Solaris (SUN.holesdata)".into())
            }
            (None, None) => Self::None,
            (Some(("1", "0")), Some(Some(size))) => Self::BeforeData(size),
            (None | Some(("0", "0" | "1")), Some(Some(size))) if map.is_some() || has_pairs => {
                let extents = match map {
                    Some(map) => pairs(map.split(|b| *b == b',')),
                    None => pairs(
                        records
                            .all("GNU.sparse.offset")
                            .zip(records.all("GNU.sparse.numbytes"))
                            .flat_map(|(offset, length)| [offset, length]),
                    ),
                };
                extents.map_or(Self::Broken, |extents| Self::Complete(SparseMap { extents, size }))
            }
            // A file that is a hole has no pairs.
            (None | Some(("0", "0" | "1")), Some(Some(size)))
                if records.get("GNU.sparse.numblocks").is_some_and(|count| count == b"0") =>
            {
                Self::Complete(SparseMap { extents: Vec::new(), size })
            }
            (Some((major, minor)), _)
                if !matches!((major, minor), ("1", "0") | ("0", "0" | "1")) =>
            {
                Self::Unknown(format!("{major}.{minor}"))
            }
            _ => Self::Broken,
        }
    }
}

/// Parses offsets and lengths that take turns.
fn pairs<'a>(numbers: impl Iterator<Item = &'a [u8]>) -> Option<Vec<(u64, u64)>> {
    let numbers = numbers.map(decimal).collect::<Option<Vec<u64>>>()?;
    let (pairs, rest) = numbers.as_chunks::<2>();
    let pairs = pairs.iter().map(|[offset, length]| (*offset, *length)).collect();
    rest.is_empty().then_some(pairs)
}

/// A map of format 1.0 that is being read, block by block: the number of entries and the entries,
/// decimal, a line each, up to the end of a block.
#[derive(Default)]
pub struct MapParser {
    line: Vec<u8>,
    count: Option<u64>,
    numbers: Vec<u64>,
}

impl MapParser {
    /// Takes a block; returns whether the map is complete. None if it is broken.
    pub fn push(&mut self, block: &Block) -> Option<bool> {
        for byte in block.iter().take(BLOCK) {
            if self.is_complete() {
                return Some(true);
            }
            if *byte != b'\n' {
                // (The longest number has 20 digits.)
                self.line.push(*byte);
                (self.line.len() <= 20).then_some(())?;
                continue;
            }
            let number = decimal(&std::mem::take(&mut self.line))?;
            match self.count {
                Some(_) => self.numbers.push(number),
                None if number <= MAX_EXTENTS as u64 => self.count = Some(number),
                None => return None,
            }
        }
        Some(self.is_complete())
    }

    fn is_complete(&self) -> bool {
        self.count.is_some_and(|count| self.numbers.len() as u64 == 2 * count)
    }

    /// Returns the extents.
    pub fn extents(self) -> Vec<(u64, u64)> {
        self.numbers.as_chunks::<2>().0.iter().map(|[offset, length]| (*offset, *length)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::copy::tar::pax::PaxRecords;

    fn of(records: &[(&str, &str)]) -> RecordMap {
        let records = records.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes()));
        let records = PaxRecords::from_iter(records);
        RecordMap::new(&Records { member: &records, global: &PaxRecords::default() })
    }

    #[test]
    fn the_forms_in_records_agree() {
        let map = RecordMap::Complete(SparseMap { extents: vec![(1, 2), (9, 0)], size: 9 });
        let size = ("GNU.sparse.size", "9");
        assert_eq!(of(&[size, ("GNU.sparse.numblocks", "2"), ("GNU.sparse.map", "1,2,9,0")]), map);
        let (offset, length) = ("GNU.sparse.offset", "GNU.sparse.numbytes");
        assert_eq!(of(&[size, (offset, "1"), (length, "2"), (offset, "9"), (length, "0")]), map);
        let (major, minor) = (("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"));
        assert_eq!(of(&[major, minor, ("GNU.sparse.realsize", "9")]), RecordMap::BeforeData(9));
        assert_eq!(of(&[("mtime", "9")]), RecordMap::None);
        assert_eq!(of(&[size, ("GNU.sparse.map", "1,2,9")]), RecordMap::Broken);
        let unknown = of(&[("GNU.sparse.major", "2"), minor, size]);
        assert_eq!(unknown, RecordMap::Unknown("2.0".into()));
    }

    #[test]
    fn a_map_before_the_data_ends_with_a_block() {
        let mut block = [0; BLOCK];
        block[..10].copy_from_slice(b"2\n0\n5\n9\n0\n");
        let mut parser = MapParser::default();
        assert_eq!(parser.push(&block), Some(true));
        assert_eq!(parser.extents(), [(0, 5), (9, 0)]);
        assert_eq!(
            MapParser::default()
                .push(b"x\n0\n5\n9\n0\n".first_chunk().map_or(&[b'x'; BLOCK], |c: &Block| c)),
            None
        );
    }

    #[test]
    fn a_map_is_checked() {
        let data = |extents: &[(u64, u64)]| SparseMap { extents: extents.to_vec(), size: 9 }.data();
        assert_eq!(data(&[(0, 2), (4, 5), (9, 0)]), Some(7));
        assert_eq!(data(&[(0, 2), (1, 5)]), None);
        assert_eq!(data(&[(0, 10)]), None);
        assert_eq!(data(&[(u64::MAX, 2)]), None);
    }
}
