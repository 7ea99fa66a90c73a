//! An ELF file, read with the `object` crate: the sections, segments and symbols that the others here look
//! for, each within limits.

use memchr::memmem;
use object::elf::{
    EM_AARCH64, EM_X86_64, FileHeader64, PF_W, PF_X, PN_XNUM, PT_LOAD, ProgramHeader64,
};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable};
use object::read::{ReadCache, ReadCacheOps};
use object::{Endian, Endianness};

use super::MissingStep;
use super::source::{CHUNK, Extent, Source};

/// Length of a symbol: its name (u32), 4 bytes, its address and its length (u64 each).
const SYMBOL: usize = 24;

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// x86-64.
    Amd64,
    /// AArch64.
    Arm64,
}

/// The headers of a file.
pub struct Elf<'a> {
    /// The file.
    pub source: &'a Source<'a>,
    /// The instruction set of its code.
    pub machine: Machine,
    /// Address of its first instruction, before it is relocated.
    pub entry: u64,
    segments: &'a [ProgramHeader64<Endianness>],
    sections: SectionTable<'a, FileHeader64<Endianness>, &'a ElfCache<'a>>,
}

/// The parts of the file that its headers refer to.
pub type ElfCache<'a> = ReadCache<Stream<'a>>;

/// A segment of code.
pub struct CodeSegment {
    /// Its place in the file.
    pub extent: Extent,
    /// Its address, before it is relocated.
    pub address: u64,
}

const ENDIAN: Endianness = Endianness::Little;

impl<'a> Elf<'a> {
    /// Makes the cache that [`Self::parse`] takes.
    pub fn cache(source: &'a Source<'a>) -> ElfCache<'a> {
        ReadCache::new(Stream { source, position: 0 })
    }

    /// Parses the headers.
    ///
    /// # Errors
    /// [`MissingStep::Format`].
    pub fn parse(source: &'a Source<'a>, cache: &'a ElfCache<'a>) -> Result<Self, MissingStep> {
        let header = FileHeader64::<Endianness>::parse(cache).map_err(|_| MissingStep::Format)?;
        let is_little = header.endian().is_ok_and(|endian| endian.is_little_endian());
        let machine = match header.e_machine(ENDIAN) {
            EM_X86_64 => Machine::Amd64,
            EM_AARCH64 => Machine::Arm64,
            _ => return Err(MissingStep::Format),
        };
        // The extended forms of both numbers would allow tables of any size.
        if !is_little || header.e_phnum(ENDIAN) == PN_XNUM {
            return Err(MissingStep::Format);
        }
        let segments = header.program_headers(ENDIAN, cache).map_err(|_| MissingStep::Format)?;
        let sections = match header.e_shnum(ENDIAN) {
            0 => SectionTable::default(),
            _ => header.sections(ENDIAN, cache).unwrap_or_default(),
        };
        Ok(Self { source, machine, entry: header.e_entry(ENDIAN), segments, sections })
    }

    /// Returns the place of a section in the file.
    pub fn section(&self, name: &str) -> Option<Extent> {
        let (_, section) = self.sections.section_by_name(ENDIAN, name.as_bytes())?;
        let (start, length) = section.file_range(ENDIAN)?;
        Some(Extent { start, length })
    }

    fn loaded(&self) -> impl Iterator<Item = &'a ProgramHeader64<Endianness>> {
        self.segments.iter().filter(|segment| segment.p_type(ENDIAN) == PT_LOAD)
    }

    /// Returns the places of the segments in the file.
    pub fn segments(&self) -> impl Iterator<Item = Extent> {
        self.loaded().map(extent)
    }

    /// Returns the segments of code.
    pub fn code(&self) -> impl Iterator<Item = CodeSegment> {
        self.loaded().filter(|segment| segment.p_flags(ENDIAN).contains(PF_X)).map(|segment| {
            CodeSegment { extent: extent(segment), address: segment.p_vaddr(ENDIAN) }
        })
    }

    /// Whether a variable of this size could be at an address: aligned, and in writable memory of the
    /// program.
    pub fn is_variable(&self, address: u64, size: u64) -> bool {
        address.is_multiple_of(8)
            && self.loaded().any(|segment| {
                let offset = address.checked_sub(segment.p_vaddr(ENDIAN));
                let remaining = offset.and_then(|o| segment.p_memsz(ENDIAN).checked_sub(o));
                segment.p_flags(ENDIAN).contains(PF_W)
                    && remaining.is_some_and(|remaining| remaining >= size)
            })
    }

    /// Returns the offset in the file of the byte that is loaded at an address.
    pub fn offset(&self, address: u64) -> Option<u64> {
        self.loaded().find_map(|segment| {
            let offset = address.checked_sub(segment.p_vaddr(ENDIAN))?;
            let extent = extent(segment);
            (offset < extent.length).then(|| extent.start.checked_add(offset))?
        })
    }

    /// Returns the address of the first symbol of this name; none if the file is stripped.
    ///
    /// # Errors
    /// [`MissingStep::Unreadable`].
    pub fn symbol(&self, name: &str) -> Result<Option<u64>, MissingStep> {
        let (Some(symbols), Some(strings)) = (self.section(".symtab"), self.section(".strtab"))
        else {
            return Ok(None);
        };
        let needle = [b"\0", name.as_bytes(), b"\0"].concat();
        let found = self.source.scan(strings, needle.len(), |bytes, offset| {
            Some(offset + memmem::find(bytes, &needle)? as u64 + 1 - strings.start)
        })?;
        let Some(index) = found.and_then(|index| u32::try_from(index).ok()) else {
            return Ok(None);
        };
        // (The overlap keeps each chunk at the start of a symbol.)
        self.source.scan(symbols, CHUNK % SYMBOL, |bytes, _| {
            let (symbols, _) = bytes.as_chunks::<SYMBOL>();
            let symbol = symbols.iter().find(|symbol| symbol.starts_with(&index.to_le_bytes()))?;
            Some(u64::from_le_bytes(*symbol[8..].first_chunk()?))
        })
    }
}

fn extent(segment: &ProgramHeader64<Endianness>) -> Extent {
    let (start, length) = segment.file_range(ENDIAN);
    Extent { start, length }
}

/// The file as the `object` crate reads it.
pub struct Stream<'a> {
    source: &'a Source<'a>,
    position: u64,
}

impl ReadCacheOps for Stream<'_> {
    fn len(&mut self) -> Result<u64, ()> {
        Ok(self.source.length())
    }

    fn seek(&mut self, position: u64) -> Result<u64, ()> {
        self.position = position;
        Ok(position)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ()> {
        let available = self.source.length().saturating_sub(self.position);
        let count = buffer.len().min(usize::try_from(available).unwrap_or(usize::MAX));
        self.read_exact(&mut buffer[..count])?;
        Ok(count)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), ()> {
        self.source.read(self.position, buffer).map_err(|_| ())?;
        self.position += buffer.len() as u64;
        Ok(())
    }
}
