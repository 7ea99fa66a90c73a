//! Tar streams with a bad value in any field: sizes, times, IDs, modes, names, links, devices, checksums,
//! PAX records, GNU long names and sparse maps.

use arbitrary::{Arbitrary, Unstructured};

const BLOCK: usize = 512;

/// A stream: members, and what comes after them.
#[derive(Arbitrary, Debug)]
pub struct TarStream {
    members: Vec<StreamMember>,
    end: StreamTail,
}

#[derive(Arbitrary, Debug)]
enum StreamTail {
    Complete,
    None,
    OneBlock,
    Garbage(Vec<u8>),
    /// Cut off by this number of bytes.
    Cut(u16),
}

#[derive(Arbitrary, Debug)]
struct StreamMember {
    name: Name,
    link: Name,
    kind: MemberKind,
    mode: Number,
    uid: Number,
    gid: Number,
    mtime: Number,
    device: Number,
    size: StreamSize,
    checksum: Checksum,
    magic: Magic,
    prefix: Option<Name>,
    before: Vec<Extension>,
    data: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
enum StreamSize {
    Right,
    Other(Number),
}

#[derive(Arbitrary, Debug)]
enum MemberKind {
    File,
    Directory,
    Symlink,
    HardLink,
    Sparse(Vec<(Number, Number)>),
    Any(u8),
}

#[derive(Arbitrary, Debug)]
enum Checksum {
    Right,
    Right2,
    Right3,
    Other(Number),
}

#[derive(Arbitrary, Debug)]
enum Magic {
    Ustar,
    Gnu,
    Old,
    Any([u8; 8]),
}

/// A number of a header.
#[derive(Arbitrary, Clone, Debug)]
enum Number {
    Small(u16),
    Octal(u64),
    Base256(i64),
    Largest,
    Negative,
    Spaces,
    Nothing,
    Raw([u8; 12]),
}

impl Number {
    fn field(&self, width: usize) -> Vec<u8> {
        let base_256 = |number: i64| {
            let mut field = vec![if number < 0 { 0xff } else { 0 }; width];
            let bytes = number.to_be_bytes();
            let length = bytes.len().min(width);
            field[width - length..].copy_from_slice(&bytes[8 - length..]);
            field[0] |= 0x80;
            field
        };
        let octal = |number: u64| {
            let text = format!("{number:0width$o}", width = width - 1);
            let mut field = text.into_bytes()[..width - 1].to_vec();
            field.push(0);
            field
        };
        match self {
            Self::Small(number) => octal((*number).into()),
            Self::Octal(number) => octal(*number),
            Self::Base256(number) => base_256(*number),
            Self::Largest => base_256(i64::MAX),
            Self::Negative => [b"-1", vec![b' '; width - 2].as_slice()].concat(),
            Self::Spaces => vec![b' '; width],
            Self::Nothing => vec![0; width],
            Self::Raw(bytes) => bytes[..width.min(12)].to_vec(),
        }
    }

    fn text(&self) -> Vec<u8> {
        match self {
            Self::Small(number) => number.to_string().into_bytes(),
            Self::Octal(number) => format!("{number}.{number}").into_bytes(),
            Self::Base256(number) => number.to_string().into_bytes(),
            Self::Largest => b"18446744073709551616".to_vec(),
            Self::Negative => b"-0.5".to_vec(),
            Self::Spaces => b"  7 ".to_vec(),
            Self::Nothing => Vec::new(),
            Self::Raw(bytes) => bytes.to_vec(),
        }
    }
}

/// Names that lead elsewhere, or are not names.
const NAMES: &[&[u8]] = &[
    b"a",
    b"b",
    b"d/",
    b"d/a",
    b"d/e/f",
    b"link",
    b"link/x",
    b"outside",
    b"../outside",
    b"..",
    b"/..",
    b"a/../../outside",
    b"/etc/cinspect-fuzz",
    b"./a",
    b".",
    b"/",
    b"",
    b"//",
    b"a//b",
    b"a/",
    b"\x1b[2J",
    b"a\nb",
    b"\xff\xfe",
    b"a\\b",
    b"-rf",
    b"proc/self/root/x",
    b".cinspect-x",
    b"\xe2\x80\xae",
];

#[derive(Arbitrary, Debug)]
enum Name {
    Known(u8),
    Known2(u8),
    Joined(u8, u8),
    Long(u16),
    Deep(u16),
    Any(Vec<u8>),
}

impl Name {
    fn bytes(&self) -> Vec<u8> {
        let known = |index: &u8| NAMES[usize::from(*index) % NAMES.len()].to_vec();
        match self {
            Self::Known(index) | Self::Known2(index) => known(index),
            Self::Joined(first, second) => [known(first), known(second)].join(&b'/'),
            Self::Long(length) => vec![b'n'; usize::from(*length % 700)],
            Self::Deep(depth) => b"x/".repeat(usize::from(*depth % 2200)),
            Self::Any(bytes) => bytes.clone(),
        }
    }
}

/// Keys of PAX records that mean something to any program.
const KEYS: &[&str] = &[
    "path",
    "linkpath",
    "size",
    "uid",
    "gid",
    "uname",
    "gname",
    "mtime",
    "atime",
    "ctime",
    "charset",
    "comment",
    "hdrcharset",
    "SCHILY.xattr.user.x",
    "SCHILY.xattr.security.capability",
    "SCHILY.xattr.system.posix_acl_access",
    "SCHILY.acl.access",
    "SCHILY.acl.default",
    "SCHILY.acl.ace",
    "SCHILY.fflags",
    "SCHILY.xattr.trusted.overlay.opaque",
    "LIBARCHIVE.xattr.user.y",
    "RHT.security.selinux",
    "GNU.sparse.major",
    "GNU.sparse.minor",
    "GNU.sparse.realsize",
    "GNU.sparse.name",
    "GNU.sparse.size",
    "GNU.sparse.numblocks",
    "GNU.sparse.offset",
    "GNU.sparse.numbytes",
    "GNU.sparse.map",
    "MSWINDOWS.rawsd",
    "GNU.volume.label",
];

/// A header that counts for the next one.
#[derive(Arbitrary, Debug)]
enum Extension {
    Pax(Vec<(u8, PaxValue)>),
    Global(Vec<(u8, PaxValue)>),
    LongName(Name),
    LongLink(Name),
    Raw(u8, Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum PaxValue {
    Number(Number),
    Name(Name),
    Map(Vec<(Number, Number)>),
    Any(Vec<u8>),
    /// A record the length of which is wrong.
    Torn(u8),
}

impl PaxValue {
    fn record(&self, key: u8, out: &mut Vec<u8>) {
        let key = KEYS[usize::from(key) % KEYS.len()];
        let value = match self {
            Self::Number(number) => number.text(),
            Self::Name(name) => name.bytes(),
            Self::Map(pairs) => {
                let texts: Vec<Vec<u8>> = pairs
                    .iter()
                    .flat_map(|(start, length)| [start.text(), length.text()])
                    .collect();
                texts.join(&b',')
            }
            Self::Any(bytes) => bytes.clone(),
            Self::Torn(length) => return out.extend(format!("{length} {key}=x\n").into_bytes()),
        };
        let rest = key.len() + value.len() + 3;
        let length = (rest..).find(|length| length.to_string().len() + rest == *length);
        out.extend(format!("{} {key}=", length.unwrap_or(0)).into_bytes());
        out.extend(value);
        out.push(b'\n');
    }
}

/// The fields of a header as they are written.
struct RawHeader {
    block: [u8; BLOCK],
}

impl RawHeader {
    fn new(kind: u8, name: &[u8], size: u64) -> Self {
        let mut header = Self { block: [0; BLOCK] };
        header.set(0, 100, name);
        for (start, width) in [(100, 8), (108, 8), (116, 8), (136, 12)] {
            header.set(start, width, &Number::Small(0o644).field(width));
        }
        header.set(124, 12, &Number::Octal(size).field(12));
        header.block[156] = kind;
        header.set(257, 8, b"ustar\x0000");
        header
    }

    fn set(&mut self, start: usize, width: usize, bytes: &[u8]) {
        let length = bytes.len().min(width);
        self.block[start..start + width].fill(0);
        self.block[start..start + length].copy_from_slice(&bytes[..length]);
    }

    fn sum(&mut self) {
        self.block[148..156].fill(b' ');
        let sum: u32 = self.block.iter().map(|byte| u32::from(*byte)).sum();
        self.set(148, 8, format!("{sum:06o}\0 ").as_bytes());
    }
}

fn append(out: &mut Vec<u8>, header: &RawHeader, data: &[u8]) {
    out.extend(header.block);
    out.extend(data);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

impl Extension {
    fn append(&self, out: &mut Vec<u8>) {
        let (kind, data) = match self {
            Self::Pax(records) | Self::Global(records) => {
                let mut data = Vec::new();
                records.iter().for_each(|(key, value)| value.record(*key, &mut data));
                (if matches!(self, Self::Pax(_)) { b'x' } else { b'g' }, data)
            }
            Self::LongName(name) => (b'L', [name.bytes(), vec![0]].concat()),
            Self::LongLink(name) => (b'K', [name.bytes(), vec![0]].concat()),
            Self::Raw(kind, data) => (*kind, data.clone()),
        };
        let mut header = RawHeader::new(kind, b"././@LongLink", data.len() as u64);
        header.sum();
        append(out, &header, &data);
    }
}

impl StreamMember {
    fn append(&self, out: &mut Vec<u8>) {
        self.before.iter().for_each(|extension| extension.append(out));
        let kind = match &self.kind {
            MemberKind::File => b'0',
            MemberKind::Directory => b'5',
            MemberKind::Symlink => b'2',
            MemberKind::HardLink => b'1',
            MemberKind::Sparse(_) => b'S',
            MemberKind::Any(kind) => *kind,
        };
        let mut header = RawHeader::new(kind, &self.name.bytes(), self.data.len() as u64);
        for (start, width, number) in [
            (100, 8, &self.mode),
            (108, 8, &self.uid),
            (116, 8, &self.gid),
            (136, 12, &self.mtime),
            (329, 8, &self.device),
            (337, 8, &self.device),
        ] {
            header.set(start, width, &number.field(width));
        }
        if let StreamSize::Other(size) = &self.size {
            header.set(124, 12, &size.field(12));
        }
        header.set(157, 100, &self.link.bytes());
        match &self.magic {
            Magic::Ustar => {}
            Magic::Gnu => header.set(257, 8, b"ustar  \0"),
            Magic::Old => header.set(257, 8, &[]),
            Magic::Any(bytes) => header.set(257, 8, bytes),
        }
        if let Some(prefix) = &self.prefix {
            header.set(345, 155, &prefix.bytes());
        }
        if let MemberKind::Sparse(map) = &self.kind {
            header.set(257, 8, b"ustar  \0");
            for (index, (start, length)) in map.iter().take(4).enumerate() {
                header.set(386 + 24 * index, 12, &start.field(12));
                header.set(398 + 24 * index, 12, &length.field(12));
            }
            header.block[482] = u8::from(map.len() > 4);
            header.set(483, 12, &self.mtime.field(12));
        }
        header.sum();
        if let Checksum::Other(sum) = &self.checksum {
            header.set(148, 8, &sum.field(8));
        }
        append(out, &header, &self.data);
    }
}

impl TarStream {
    /// Makes a stream of any bytes.
    pub fn of(bytes: &[u8]) -> Vec<u8> {
        match Self::arbitrary_take_rest(Unstructured::new(bytes)) {
            Ok(stream) => stream.bytes(),
            Err(_) => Vec::new(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.members.iter().for_each(|member| member.append(&mut out));
        match &self.end {
            StreamTail::Complete => out.resize(out.len() + 2 * BLOCK, 0),
            StreamTail::None => {}
            StreamTail::OneBlock => out.resize(out.len() + BLOCK, 0),
            StreamTail::Garbage(bytes) => {
                out.resize(out.len() + 2 * BLOCK, 0);
                out.extend(bytes);
            }
            StreamTail::Cut(length) => out.truncate(out.len().saturating_sub((*length).into())),
        }
        out
    }
}
