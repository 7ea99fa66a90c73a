//! The names of a Go program's functions, in its pclntab: the table that the runtime needs for stack
//! traces, so that stripped programs have it, too (Go's src/debug/gosym/pclntab.go).

use memchr::memmem;

use crate::model::program_signals::MissingStep;
use crate::model::program_signals::elf::Machine;
use crate::model::program_signals::source::{Extent, Source};

/// The function that `signal.Notify` calls for each signal. It is not linked where nothing calls it.
const ENABLE: &[u8] = b"\0os/signal.signal_enable\0";
/// A function that every program has: the runtime's signal handler calls it.
const SEND: &[u8] = b"\0runtime.sigsend\0";
/// A function that loads code, which may ask for signals even if the program itself does not.
const PLUGIN: &[u8] = b"\0plugin.Open\0";
const OVERLAP: usize = 32;
/// No Go program comes near this number of functions.
const MAX_FUNCTIONS: u64 = 1 << 24;

/// The functions about signals that a program has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// `os/signal.signal_enable`.
    pub enable: bool,
    /// `runtime.sigsend`.
    pub send: bool,
    /// `plugin.Open`.
    pub plugin: bool,
}

/// Finds the names in a pclntab that fills an extent from its start.
pub fn in_table(source: &Source, machine: Machine, table: Extent) -> Result<Extent, MissingStep> {
    let mut header = [0; 72];
    if table.length < header.len() as u64 {
        return Err(MissingStep::NoFunctions);
    }
    source.read(table.start, &mut header)?;
    parse_header(&header, machine, table).ok_or(MissingStep::NoFunctions)
}

/// Searches extents for a pclntab: position-independent programs linked by another linker have it in the
/// middle of `.data.rel.ro`.
pub fn search(
    source: &Source,
    machine: Machine,
    extents: impl Iterator<Item = Extent>,
) -> Result<Extent, MissingStep> {
    // From the second byte of the magic number to the size of a pointer.
    let needle = [0xff, 0xff, 0xff, 0, 0, minimum(machine), 8];
    for extent in extents {
        let found = source.scan(extent, 72, |bytes, offset| {
            memmem::find_iter(bytes, &needle).find_map(|index| {
                let start = index.checked_sub(1)?;
                let header = bytes.get(start..)?.first_chunk()?;
                let start = offset + start as u64;
                let length = extent.start.checked_add(extent.length)?.checked_sub(start)?;
                parse_header(header, machine, Extent { start, length })
            })
        })?;
        if let Some(names) = found {
            return Ok(names);
        }
    }
    Err(MissingStep::NoFunctions)
}

/// Reads which of the functions are there.
pub fn read(source: &Source, names: Extent) -> Result<Names, MissingStep> {
    let mut found = Names::default();
    source.scan(names, OVERLAP, |bytes, _| {
        for (name, seen) in
            [(ENABLE, &mut found.enable), (SEND, &mut found.send), (PLUGIN, &mut found.plugin)]
        {
            *seen = *seen || memmem::find(bytes, name).is_some();
        }
        found.enable.then_some(())
    })?;
    Ok(found)
}

/// Returns the length of the shortest instruction of a machine in bytes, as the header has it.
fn minimum(machine: Machine) -> u8 {
    match machine {
        Machine::Amd64 => 1,
        Machine::Arm64 => 4,
    }
}

/// Parses the header of the table:
/// ```text
/// magic: u32, 0, 0, minimum: u8, pointer: u8, functions, files, [text,] names, units, ...: u64
/// ```
fn parse_header(header: &[u8; 72], machine: Machine, table: Extent) -> Option<Extent> {
    let magic = u32::from_le_bytes(*header.first_chunk()?);
    // 1.16, 1.18 and 1.20; only the first has no start of the text, and so a shorter header.
    let size = match magic {
        0xffff_fffa => 64,
        0xffff_fff0 | 0xffff_fff1 => 72,
        _ => return None,
    };
    if header[4..8] != [0, 0, minimum(machine), 8] {
        return None;
    }
    let word = |offset: usize| Some(u64::from_le_bytes(*header.get(offset..)?.first_chunk()?));
    let (functions, names, units) = (word(8)?, word(size - 40)?, word(size - 32)?);
    let fits = (1..=MAX_FUNCTIONS).contains(&functions)
        && (size as u64..=128).contains(&names)
        && (names..table.length).contains(&units);
    fits.then(|| Extent { start: table.start + names, length: units - names })
}
