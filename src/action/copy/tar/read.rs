//! Reads a tar stream header by header. The `tar` crate parses the fields of a header; the sequence of blocks
//! is parsed here, since the crate supports one form of sparse files only and stops at the end of the archive.

use std::io::{ErrorKind, Read};

use super::header::{BLOCK, BLOCK_SIZE, Block, decompressor, is_header, names, number, unsigned};
use super::pax::{MAX_MEMORY, PaxRecords, Records};
use super::sparse::{HeaderMap, MapParser, RecordMap, SparseMap};

/// The longest name that is read: [`crate::action::copy::context::MAX_DEPTH`] names of the longest kind.
const MAX_NAME: u64 = 1 << 19;
/// The most data of a PAX header: extended attributes have up to 64 KiB each.
const MAX_RECORDS: u64 = 1 << 24;
/// The most memory that the records of global headers may take: each counts for every member.
const MAX_GLOBAL_MEMORY: u64 = 1 << 17;

/// Reason why a stream cannot be read further.
#[derive(Debug)]
pub enum TarError {
    /// Reading failed.
    Io(std::io::Error),
    /// It is empty.
    Empty,
    /// It ends within or after the member with this name, or at the start.
    Cut(Vec<u8>),
    /// The first block is not a header. It may be compressed: the program that decompresses it.
    NotTar(Option<&'static str>),
    /// A block after the member with this name is malformed.
    Broken(Vec<u8>, String),
}

/// A member of the archive; its data comes next in the stream.
#[derive(Clone, Debug, Default)]
pub struct Member {
    /// Its name.
    pub path: Vec<u8>,
    /// The target of a link.
    pub link: Vec<u8>,
    /// Its type as the header has it; 0 is that of a regular file too.
    pub kind: u8,
    /// Its header.
    pub header: MemberHeader,
    /// Its own PAX records.
    pub records: PaxRecords,
    /// The extents of its data.
    pub map: SparseMap,
}

/// The numbers of a header; none of those that are not numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemberHeader {
    /// Permission bits.
    pub mode: Option<i64>,
    /// Owner.
    pub uid: Option<i64>,
    /// Group.
    pub gid: Option<i64>,
    /// Time of the last modification.
    pub modified: Option<i64>,
}

/// The way that a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// The blocks of zeros that end an archive.
    Complete,
    /// A member, without them.
    Unmarked,
    /// Another archive.
    AnotherArchive,
    /// This number of bytes that are not one.
    Garbage(u64),
}

/// A stream that is being read.
pub struct TarReader<R> {
    input: R,
    /// PAX records of global headers.
    pub global: PaxRecords,
    /// The name of the last member.
    last: Vec<u8>,
    /// Bytes of its data that were not read, and of the padding after them.
    remaining: u64,
    padding: u64,
    has_headers: bool,
    has_members: bool,
}

/// Records that come before a header and count for it.
#[derive(Default)]
struct Prefix {
    is_started: bool,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: PaxRecords,
}

impl<R: Read> TarReader<R> {
    /// Creates a reader.
    pub fn new(input: R) -> Self {
        let (global, last) = (PaxRecords::default(), Vec::new());
        let (has_headers, has_members) = (false, false);
        Self { input, global, last, remaining: 0, padding: 0, has_headers, has_members }
    }

    /// Returns the next member, or the end of the stream, which is read to its very end.
    ///
    /// # Errors
    /// [`TarError`].
    pub fn next(&mut self) -> Result<Result<Member, StreamEnd>, TarError> {
        let mut prefix = Prefix::default();
        loop {
            self.skip()?;
            let Some(block) = self.block()? else {
                return match (self.has_headers, self.has_members && !prefix.is_started) {
                    (false, _) => Err(TarError::Empty),
                    (true, false) => Err(TarError::Cut(self.last.clone())),
                    (true, true) => Ok(Err(StreamEnd::Unmarked)),
                };
            };
            if block == [0; BLOCK] {
                return self.finish().map(Err);
            }
            if !is_header(&block) {
                return Err(match self.has_headers {
                    true => self.broken("a header has a wrong checksum"),
                    false => TarError::NotTar(decompressor(&block)),
                });
            }
            self.has_headers = true;
            let size = unsigned(&block[124..136]);
            let size = size.ok_or_else(|| self.broken("a header without a size"))?;
            prefix.is_started |= b"LKxX".contains(&block[156]);
            match block[156] {
                b'L' => prefix.path = Some(self.name(size)?),
                b'K' => prefix.link = Some(self.name(size)?),
                b'x' | b'X' => {
                    prefix.records.extend(self.records(size)?);
                    if prefix.records.memory() > MAX_MEMORY {
                        return Err(self.broken("the PAX headers of a member are too large"));
                    }
                }
                b'g' => {
                    let records = self.records(size)?;
                    self.global.extend(records);
                    if self.global.memory() > MAX_GLOBAL_MEMORY {
                        return Err(self.broken("global PAX headers are too large"));
                    }
                }
                // The label of a volume.
                b'V' => self.expect(size),
                _ => return self.member(&block, size, prefix).map(Ok),
            }
        }
    }

    /// Builds a member from its header and the records before it.
    fn member(&mut self, block: &Block, size: u64, prefix: Prefix) -> Result<Member, TarError> {
        let (path, link) = names(block);
        let global = std::mem::take(&mut self.global);
        let records = Records { member: &prefix.records, global: &global };
        let long_path = records.own("GNU.sparse.name").or_else(|| records.own("path"));
        let path = long_path.map(<[u8]>::to_vec).or(prefix.path).unwrap_or(path);
        let link = records.own("linkpath").map(<[u8]>::to_vec).or(prefix.link).unwrap_or(link);
        self.last.clone_from(&path);
        self.has_members = true;
        let kind = block[156];
        let size = match records.own("size").map(super::header::decimal) {
            None => size,
            Some(size) => size
                .filter(|size| *size <= i64::MAX.unsigned_abs())
                .ok_or_else(|| self.broken("a PAX record `size` is not a size"))?,
        };
        // Links, devices, directories and FIFOs have no data, whatever their size field.
        let size = if matches!(kind, b'1'..=b'6') { 0 } else { size };
        self.expect(size);
        let map = self.map(block, size, &records)?;
        let header = MemberHeader {
            mode: number(&block[100..108]),
            uid: number(&block[108..116]),
            gid: number(&block[116..124]),
            modified: number(&block[136..148]),
        };
        self.global = global;
        Ok(Member { path, link, kind, header, records: prefix.records, map })
    }

    /// Returns the map of a member, after which its data comes.
    fn map(
        &mut self,
        block: &Block,
        size: u64,
        records: &Records<'_>,
    ) -> Result<SparseMap, TarError> {
        let broken = |reader: &Self| reader.broken("the map of a sparse file is broken");
        let mut before = 0;
        let map = if block[156] == b'S' {
            let mut header = HeaderMap::new(block, records).ok_or_else(|| broken(self))?;
            while header.is_extended {
                let next = self.block()?.ok_or_else(|| TarError::Cut(self.last.clone()))?;
                header.extend(&next).ok_or_else(|| broken(self))?;
                before += BLOCK_SIZE;
            }
            // GNU tar does not count these blocks as data, star does.
            if header.map.data().is_some_and(|data| data == size) {
                before = 0;
            }
            self.expect(size.checked_sub(before).ok_or_else(|| broken(self))?);
            header.map
        } else {
            match RecordMap::new(records) {
                RecordMap::None => return Ok(SparseMap::dense(size)),
                RecordMap::Complete(map) => map,
                RecordMap::BeforeData(real_size) => {
                    let mut parser = MapParser::default();
                    loop {
                        let next = self.block()?.ok_or_else(|| TarError::Cut(self.last.clone()))?;
                        before += BLOCK_SIZE;
                        if parser.push(&next).ok_or_else(|| broken(self))? {
                            break;
                        }
                    }
                    self.expect(size.checked_sub(before).ok_or_else(|| broken(self))?);
                    SparseMap { extents: parser.extents(), size: real_size }
                }
                RecordMap::Unknown(form) => {
                    return Err(self.broken(&format!("a sparse file in an unknown form: {form}")));
                }
                RecordMap::Broken => return Err(broken(self)),
            }
        };
        match map.data() {
            Some(data) if data == self.remaining => Ok(map),
            _ => Err(broken(self)),
        }
    }

    /// Reads the data of a long name.
    fn name(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let mut name = self.data_of(size, MAX_NAME, "a name is too long")?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    fn records(&mut self, size: u64) -> Result<PaxRecords, TarError> {
        let data = self.data_of(size, MAX_RECORDS, "a PAX header is too large")?;
        PaxRecords::parse(&data).ok_or_else(|| self.broken("a PAX header is broken"))
    }

    fn data_of(&mut self, size: u64, limit: u64, too_large: &str) -> Result<Vec<u8>, TarError> {
        if size > limit {
            return Err(self.broken(too_large));
        }
        self.expect(size);
        let mut data = Vec::new();
        self.data().read_to_end(&mut data).map_err(|error| self.io(error))?;
        Ok(data)
    }

    fn expect(&mut self, size: u64) {
        (self.remaining, self.padding) = (size, size.next_multiple_of(BLOCK_SIZE) - size);
    }

    fn broken(&self, text: &str) -> TarError {
        TarError::Broken(self.last.clone(), text.to_owned())
    }

    fn io(&self, error: std::io::Error) -> TarError {
        match error.kind() {
            ErrorKind::UnexpectedEof => TarError::Cut(self.last.clone()),
            _ => TarError::Io(error),
        }
    }

    /// Returns the data of the last member.
    pub fn data(&mut self) -> MemberData<'_, R> {
        MemberData(self)
    }

    /// Skips the rest of the last member.
    fn skip(&mut self) -> Result<(), TarError> {
        let mut rest = std::mem::take(&mut self.remaining) + std::mem::take(&mut self.padding);
        let mut chunk = vec![0; usize::try_from(rest.min(1 << 16)).unwrap_or(BLOCK)];
        while rest > 0 {
            let count = usize::try_from(rest).unwrap_or(usize::MAX).min(chunk.len());
            match fill(&mut self.input, &mut chunk[..count]).map_err(TarError::Io)? {
                read if read == count => rest -= count as u64,
                _ => return Err(TarError::Cut(self.last.clone())),
            }
        }
        Ok(())
    }

    /// Reads a block; none at the end of the stream.
    fn block(&mut self) -> Result<Option<Block>, TarError> {
        let mut block = [0; BLOCK];
        match fill(&mut self.input, &mut block).map_err(TarError::Io)? {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            // Anything shorter than a block is not tar, if nothing came before.
            _ if !self.has_headers => Err(TarError::NotTar(decompressor(&block))),
            _ => Err(TarError::Cut(self.last.clone())),
        }
    }

    /// Reads the bytes after the first block of zeros: the writer is not killed by SIGPIPE, and a further
    /// archive is noticed.
    fn finish(&mut self) -> Result<StreamEnd, TarError> {
        let mut end = StreamEnd::Complete;
        let mut chunk = vec![0; 1 << 16];
        let mut garbage = 0;
        loop {
            let count = fill(&mut self.input, &mut chunk).map_err(TarError::Io)?;
            let data = &chunk[..count];
            if let Some(first) = data.iter().position(|byte| *byte != 0)
                && end == StreamEnd::Complete
            {
                let start = first - first % BLOCK;
                let block = data.get(start..).and_then(|rest| rest.first_chunk());
                end = match block {
                    Some(block) if is_header(block) => StreamEnd::AnotherArchive,
                    _ => StreamEnd::Garbage(0),
                };
                garbage = (count - first) as u64;
            } else if end != StreamEnd::Complete {
                garbage += count as u64;
            }
            if count < chunk.len() {
                return Ok(match end {
                    StreamEnd::Garbage(_) => StreamEnd::Garbage(garbage),
                    end => end,
                });
            }
        }
    }
}

/// The data of a member. It has the length in the header; a stream that ends before is an error
/// (`UnexpectedEof`).
pub struct MemberData<'r, R>(&'r mut TarReader<R>);

impl<R: Read> Read for MemberData<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = usize::try_from(self.0.remaining).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.0.input.read(&mut buffer[..count])?;
        if read == 0 && count > 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.0.remaining -= read as u64;
        Ok(read)
    }
}

/// Reads until the buffer is full or the stream ends.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match input.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pax;
    use super::*;

    /// Reads a stream to its end; returns the names of the members and the bytes of their data.
    fn read(stream: &[u8]) -> (Vec<Vec<u8>>, u64, Result<StreamEnd, TarError>) {
        let (mut reader, mut names, mut bytes) = (TarReader::new(stream), Vec::new(), 0);
        loop {
            match reader.next() {
                Ok(Ok(member)) => {
                    names.push(member.path);
                    let mut data = Vec::new();
                    if let Err(error) = reader.data().read_to_end(&mut data) {
                        return (names, bytes, Err(reader.io(error)));
                    }
                    bytes += data.len() as u64;
                }
                Ok(Err(end)) => return (names, bytes, Ok(end)),
                Err(error) => return (names, bytes, Err(error)),
            }
        }
    }

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, flag, data) in [
            ("g", b'g', pax::encode(&[("comment".into(), b"x".to_vec())])),
            ("x", b'x', pax::encode(&[("mtime".into(), b"1.5".to_vec())])),
            ("first", b'0', vec![b'1'; 700]),
            ("l", b'L', b"second\0".to_vec()),
            ("short", b'0', Vec::new()),
            (
                "x",
                b'x',
                pax::encode(&[
                    ("GNU.sparse.major".into(), b"1".to_vec()),
                    ("GNU.sparse.minor".into(), b"0".to_vec()),
                    ("GNU.sparse.realsize".into(), b"9000".to_vec()),
                ]),
            ),
            ("sparse", b'0', [&b"1\n8000\n88\n"[..], &[0; 502], &[b'3'; 88]].concat()),
        ] {
            let mut header = tar::Header::new_ustar();
            header.set_path(name).unwrap();
            header.set_entry_type(tar::EntryType::new(flag));
            header.set_size(data.len() as u64);
            header.set_cksum();
            builder.append(&header, &*data).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn members_and_the_end_are_read() {
        let (names, bytes, end) = read(&archive());
        assert_eq!(names, [&b"first"[..], b"second", b"sparse"]);
        assert!(bytes == 788 && matches!(end, Ok(StreamEnd::Complete)), "{bytes} {end:?}");
        let twice = [archive(), archive()].concat();
        assert!(matches!(read(&twice).2, Ok(StreamEnd::AnotherArchive)));
        let more = [&*archive(), b"more"].concat();
        assert!(matches!(read(&more).2, Ok(StreamEnd::Garbage(4))));
        assert!(matches!(read(&[]).2, Err(TarError::Empty)));
    }

    #[test]
    fn headers_before_a_member_take_bounded_memory() {
        let header = |flag: u8, data: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(tar::EntryType::new(flag));
            header.set_size(data.len() as u64);
            header.set_cksum();
            let padding = vec![0; data.len().next_multiple_of(BLOCK) - data.len()];
            [header.as_bytes(), data, &padding].concat()
        };
        let large = |key: usize| pax::encode(&[(key.to_string(), vec![b'v'; 1 << 22])]);
        let many: String = (0..5000).map(|key| format!("11 K{key:04}=v\n")).collect();
        let cases: [(&str, Vec<Vec<u8>>); 3] = [
            ("the PAX headers of a member", (0..9).map(|key| header(b'x', &large(key))).collect()),
            ("the PAX headers of a member", vec![header(b'x', &b"4 =\n".repeat(1 << 21))]),
            ("global PAX headers", vec![header(b'g', many.as_bytes())]),
        ];
        for (text, headers) in cases {
            let stream = [headers.concat(), header(b'0', b"")].concat();
            let Err(TarError::Broken(_, cause)) = read(&stream).2 else { panic!("{text}") };
            assert_eq!(cause, format!("{text} are too large"));
        }
    }

    #[test]
    fn a_cut_is_noticed_wherever_it_is() {
        let whole = archive();
        let end = whole.len() - 1024;
        // (After a member, and its padding, the archive may have been meant to end.)
        let members = [512 * 7, 512 * 10];
        for length in 1..end {
            let is_between = members.contains(&length);
            match read(&whole[..length]).2 {
                Err(TarError::Cut(_)) => assert!(!is_between, "{length}"),
                Err(TarError::NotTar(_)) => assert!(length < BLOCK, "{length}"),
                Ok(StreamEnd::Unmarked) => assert!(is_between, "{length}"),
                other => panic!("{length}: {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn broken_streams_end(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), fix: bool) {
            let mut stream = archive();
            for (index, byte) in changes {
                let index = index.index(stream.len());
                stream[index] = byte;
                let start = index - index % BLOCK;
                if fix && stream[start + 257..].starts_with(b"ustar") {
                    let mut header = tar::Header::new_old();
                    header.as_mut_bytes().copy_from_slice(&stream[start..start + BLOCK]);
                    header.set_cksum();
                    stream[start..start + BLOCK].copy_from_slice(header.as_bytes());
                }
            }
            let (_, bytes, _) = read(&stream);
            prop_assert!(bytes <= stream.len() as u64);
        }
    }
}
