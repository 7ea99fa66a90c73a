//! A Go program's file: where its signal table will be in memory, or that the program never asks for a
//! signal. Reads as little of the file as it can.

use memchr::memmem;

use super::code::{WINDOW, find_table};
use super::names;
use super::table::SIZE;
use crate::model::bytes::leading_number;
use crate::model::program_signals::MissingStep;
use crate::model::program_signals::elf::Elf;
use crate::model::program_signals::source::{Extent, Source};

/// The facts of a program file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoProgram {
    /// Address of its first instruction, before it is relocated.
    pub entry: u64,
    /// Address of its signal table, before it is relocated; none if nothing in it ever asks for a
    /// signal.
    pub table: Option<u64>,
    /// The Go release that built it, 19 for 1.19.8; none if the file does not have it.
    pub release: Option<u32>,
}

impl GoProgram {
    /// Reads a program file.
    ///
    /// # Errors
    /// [`MissingStep`], with the step that does not fit.
    pub fn read(source: &Source) -> Result<Self, MissingStep> {
        let cache = Elf::cache(source);
        let elf = &Elf::parse(source, &cache)?;
        let (entry, release) = (elf.entry, release(elf));
        let known = function_table(elf);
        // Where only a search would find the names, the code is found sooner.
        if known.is_none()
            && let Ok(table) = table(elf)
        {
            return Ok(Self { entry, table: Some(table), release });
        }
        let names = match known {
            Some(table) => names::in_table(source, elf.machine, table),
            None => names::search(source, elf.machine, elf.segments()),
        };
        let names = names::read(source, names?)?;
        if names.enable {
            return Ok(Self { entry, table: Some(table(elf)?), release });
        }
        // Programs that hide their names also hide their version (garble).
        if names.send && !names.plugin && release.is_some() {
            return Ok(Self { entry, table: None, release });
        }
        Err(MissingStep::NamesChanged)
    }
}

/// Returns the pclntab, if it has a section of its own: those that another linker made
/// position-independent have not.
fn function_table(elf: &Elf<'_>) -> Option<Extent> {
    [".gopclntab", ".data.rel.ro.gopclntab"].iter().find_map(|name| elf.section(name))
}

/// Finds the signal table's address in the code. The runtime is among the first packages of a
/// program.
fn table(elf: &Elf<'_>) -> Result<u64, MissingStep> {
    for segment in elf.code() {
        let found = elf.source.scan(segment.extent, WINDOW, |code, offset| {
            let address = segment.address.wrapping_add(offset - segment.extent.start);
            find_table(elf.machine, code, address)
        })?;
        if let Some(table) = found {
            let is_variable = elf.is_variable(table, SIZE as u64);
            return if is_variable { Ok(table) } else { Err(MissingStep::Code) };
        }
    }
    Err(MissingStep::Code)
}

fn release(elf: &Elf<'_>) -> Option<u32> {
    let version = version(elf)?;
    let start = memmem::find(&version, b"go1.")? + 4;
    leading_number(&version[start..])
}

/// Reads the version of Go (its src/debug/buildinfo).
///
/// ```text
/// ff " Go buildinf:", pointer: u8, flags: u8, then since Go 1.18 (flag 2)
/// 16 bytes, length: u8, version, …
/// before the address of a string (address: u64, length: u64)
/// ```
fn version(elf: &Elf<'_>) -> Option<Vec<u8>> {
    let info = elf.section(".go.buildinfo")?;
    let mut head = [0; 33];
    elf.source.read(info.start, &mut head).ok()?;
    if !head.starts_with(b"\xff Go buildinf:") {
        return None;
    }
    if head[15] & 2 != 0 {
        return elf.source.bytes(info.start + 33, head[32].into());
    }
    let string = u64::from_le_bytes(*head[16..].first_chunk()?);
    let string = elf.source.bytes(elf.offset(string)?, 16)?;
    let address = u64::from_le_bytes(*string.first_chunk()?);
    let length = u64::from_le_bytes(*string.last_chunk()?);
    elf.source.bytes(elf.offset(address)?, usize::try_from(length).ok().filter(|n| *n < 256)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: u64 = 0x60_0040;

    /// Returns a program without section headers: a header, two segments, the names of its functions, and
    /// code in which the table is found.
    fn program(names: &str, with_code: bool) -> Vec<u8> {
        let word = |value: u64| value.to_le_bytes();
        let mut table = vec![0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8];
        let names = format!("go:buildid\0{names}\0main.main\0");
        for value in [10, 2, 0, 72, 72 + names.len() as u64, 0, 0, 0] {
            table.extend(word(value));
        }
        table.extend(names.as_bytes());
        table.resize(1024, 0);
        let mut code = vec![0x90; 16];
        let start = 0x40_0000 + 0x1000;
        for (before, target, after) in [
            (&[0x80, 0x3d][..], TABLE + 64, &[0][..]),
            (&[0xc6, 0x05], TABLE + 64, &[1]),
            (&[0x48, 0x8d, 0x0d], TABLE + 20, &[]),
            (&[0x48, 0x8d, 0x0d], TABLE + 32, &[]),
        ] {
            let next = start + (code.len() + before.len() + 4 + after.len()) as u64;
            code.extend(before);
            code.extend(target.wrapping_sub(next).to_le_bytes()[..4].iter());
            code.extend(after);
        }
        code.resize(512, 0xcc);
        if !with_code {
            code.fill(0xcc);
        }
        let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        bytes.extend([2, 0, 0x3e, 0, 1, 0, 0, 0]);
        for value in [start, 64, 0] {
            bytes.extend(word(value));
        }
        bytes.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 64, 0, 0, 0, 0, 0]);
        for (flags, offset, address, length, size) in
            [(5u32, 0, 0x40_0000, 0x1000 + 512, 0x1000 + 512), (6, 0, 0x60_0000, 0, 0x1000u64)]
        {
            bytes.extend(1u32.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            for value in [offset, address, address, length, size, 0x1000] {
                bytes.extend(word(value));
            }
        }
        bytes.resize(0x400, 0);
        bytes.extend(table);
        bytes.resize(0x1000, 0);
        bytes.extend(code);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<GoProgram, MissingStep> {
        let read_at = |buffer: &mut [u8], offset: u64| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let piece = bytes.get(start..).and_then(|rest| rest.get(..buffer.len()));
            buffer.copy_from_slice(piece.ok_or(std::io::ErrorKind::UnexpectedEof)?);
            Ok(())
        };
        GoProgram::read(&Source::new(bytes.len() as u64, &read_at))
    }

    #[test]
    fn finds_the_table_without_section_headers() {
        let program = program("runtime.sigsend\0os/signal.signal_enable", true);
        let found = GoProgram { entry: 0x40_1000, table: Some(TABLE), release: None };
        assert_eq!(read(&program), Ok(found));
    }

    #[test]
    fn each_missing_step_is_named() {
        let send = "runtime.sigsend";
        let both = "runtime.sigsend\0os/signal.signal_enable";
        for (bytes, reason) in [
            (program(both, false), MissingStep::Code),
            // Even "never asks for a signal" requires a version: names may be hidden.
            (program(send, false), MissingStep::NamesChanged),
            (program("other", false), MissingStep::NamesChanged),
            (b"#!/bin/sh\n".to_vec(), MissingStep::Format),
            (Vec::new(), MissingStep::Format),
        ] {
            assert_eq!(read(&bytes), Err(reason));
        }
        let mut old = program(both, false);
        old[0x400] = 0xfb;
        assert_eq!(read(&old), Err(MissingStep::NoFunctions));
        let mut i386 = program(both, true);
        i386[18] = 3;
        assert_eq!(read(&i386), Err(MissingStep::Format));
    }

    #[test]
    fn a_file_of_any_size_is_read_within_a_budget() {
        // A segment of 4 EiB, and no pclntab in it.
        let mut huge = program("other", false);
        huge[64 + 32..][..8].copy_from_slice(&(1u64 << 62).to_le_bytes());
        huge[0x400] = 0;
        let count = std::cell::Cell::new(0);
        let read_at = |buffer: &mut [u8], offset: u64| {
            count.set(count.get() + buffer.len() as u64);
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let piece = huge.get(start..).unwrap_or_default();
            let length = piece.len().min(buffer.len());
            buffer.fill(0);
            buffer[..length].copy_from_slice(&piece[..length]);
            Ok(())
        };
        let read = GoProgram::read(&Source::new(u64::MAX, &read_at));
        assert!(matches!(read, Err(MissingStep::Unreadable(_))), "{read:?}");
        assert!(count.get() <= 256 << 20);
    }

    proptest::proptest! {
        #[test]
        fn any_file_is_safe(index in 0usize..0x1200, bytes: [u8; 8], end in 0usize..0x1200) {
            let mut changed = program("runtime.sigsend\0os/signal.signal_enable", true);
            let length = changed.len();
            changed[index.min(length - 8)..][..8].copy_from_slice(&bytes);
            let _ = read(&changed);
            changed.truncate(end);
            let _ = read(&changed);
        }
    }
}
