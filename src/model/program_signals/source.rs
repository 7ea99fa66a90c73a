//! A file that is read in pieces, within a budget: its size is not trusted, and its headers may be forged.

use std::cell::Cell;
use std::io;

use super::MissingStep;

/// Bytes that are read of one file. The largest Go programs have some 100 MiB of code, of which the
/// runtime's comes first.
const BUDGET: u64 = 256 << 20;
/// Bytes that [`Source::scan`] reads at once.
pub(super) const CHUNK: usize = 1 << 18;

/// Reads a piece of the file at an offset, all of it or nothing.
pub type ReadExactAt<'a> = dyn Fn(&mut [u8], u64) -> io::Result<()> + 'a;

/// A file to be read.
pub struct Source<'a> {
    read: &'a ReadExactAt<'a>,
    length: u64,
    budget: Cell<u64>,
}

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Offset of its first byte.
    pub start: u64,
    /// Its length.
    pub length: u64,
}

impl<'a> Source<'a> {
    /// Makes a source of a file of this length.
    pub fn new(length: u64, read: &'a ReadExactAt<'a>) -> Self {
        Self { read, length, budget: Cell::new(BUDGET) }
    }

    /// Returns the length of the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Fills a buffer from an offset of the file.
    ///
    /// # Errors
    /// [`MissingStep::Unreadable`], also if the budget is used up.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), MissingStep> {
        let unreadable = |why: &dyn std::fmt::Display| {
            MissingStep::Unreadable(format!("cannot read its program file: {why}"))
        };
        // (An entry of its own for each read, for many tiny ones.)
        let remaining = self.budget.get().checked_sub(buffer.len() as u64 + 256);
        self.budget.set(remaining.ok_or_else(|| unreadable(&"it is too large"))?);
        (self.read)(buffer, offset).map_err(|error| unreadable(&error.kind()))
    }

    /// Returns a few bytes of the file.
    pub fn bytes(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read(offset, &mut bytes).ok()?;
        Some(bytes)
    }

    /// Reads an extent in chunks, each with its offset in the file, until `find` returns something. The
    /// last bytes of a chunk, `overlap` of them, are the first of the next.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn scan<T>(
        &self,
        extent: Extent,
        overlap: usize,
        mut find: impl FnMut(&[u8], u64) -> Option<T>,
    ) -> Result<Option<T>, MissingStep> {
        let end = extent.start.saturating_add(extent.length).min(self.length);
        let mut buffer = vec![0; CHUNK];
        let mut start = extent.start;
        while start < end {
            let count = CHUNK.min(usize::try_from(end - start).unwrap_or(CHUNK));
            self.read(start, &mut buffer[..count])?;
            if let Some(found) = find(&buffer[..count], start) {
                return Ok(Some(found));
            }
            if count < CHUNK {
                break;
            }
            start += (CHUNK - overlap) as u64;
        }
        Ok(None)
    }
}
