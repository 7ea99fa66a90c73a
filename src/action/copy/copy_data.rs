//! The data of a file: copied by the kernel where it can (which shares blocks by reflink), read and
//! written where it cannot. Holes stay holes.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::copy_file_range;
use nix::unistd::{Whence, lseek};

use super::rootfs::{is_fuse, pseudo_fs, to_errno};
use crate::error::Error;
use crate::sys::file::attributes;

/// The size of the buffer.
const CHUNK: usize = 1 << 20;
/// Files up to this size are read and written: looking for holes costs more than it saves.
const SMALL: u64 = 64 << 10;
/// The bytes that the kernel copies before progress is reported.
const KERNEL_CHUNK: u64 = 16 << 20;

/// Receives the number of bytes that were copied since the last call.
pub type OnBytes<'a> = &'a dyn Fn(u64);

/// The source of the data.
pub enum Content<'a> {
    /// A file, holes of which stay holes.
    File(&'a File),
    /// The data of a stream: the extents of a file, as offsets and lengths, and its size. The rest are
    /// holes.
    Stream(&'a mut dyn Read, &'a [(u64, u64)], u64),
}

/// The reason why a file was not copied, by the side that failed.
#[derive(Debug)]
pub enum CopyFailure {
    /// The source could not be read.
    Source(Errno),
    /// The copy could not be written.
    Target(Errno),
    /// The stream ended before the data did.
    Cut,
    /// The copied data was not accepted.
    Refused(Box<Error>),
}

impl From<Errno> for CopyFailure {
    fn from(errno: Errno) -> Self {
        Self::Target(errno)
    }
}

/// The result of copying the data of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopiedData {
    /// The size of the source when the copy began; none if it was not known.
    pub expected: Option<u64>,
    /// The size of the copy.
    pub size: u64,
    /// The size of the source afterwards; none if it was not known.
    pub after: Option<u64>,
    /// Bytes of the source that are holes.
    pub holes: u64,
}

impl CopiedData {
    /// Returns a sentence about a source that changed meanwhile; none if its size is still the same.
    pub fn change(&self) -> Option<String> {
        let (expected, after) = (self.expected?, self.after?);
        if self.size < expected {
            let (lost, size) = (expected - self.size, self.size);
            // (It may have shrunk to less than was read by then, or have grown again.)
            return Some(match after == size {
                true => format!("shrank by {lost} bytes to {size} while it was read"),
                false => {
                    format!("shrank while it was read; {size} of its {expected} bytes were copied")
                }
            });
        }
        let grown = after.checked_sub(expected).filter(|grown| *grown > 0)?;
        Some(format!(
            "grew by {grown} bytes while it was read; the first {expected} bytes were copied"
        ))
    }

    /// Whether the copy takes the space of the holes too.
    pub fn has_lost_holes(&self, copy: &File) -> bool {
        // (Less may be the file system's blocks, which are larger than a page.)
        self.holes > 1 << 16 && attributes(copy).is_ok_and(|copy| copy.allocated >= self.size)
    }
}

impl Content<'_> {
    /// Copies everything to the start of an empty file.
    ///
    /// # Errors
    /// Errors of reading and writing.
    pub fn copy_to(&mut self, to: &File, on_bytes: OnBytes<'_>) -> Result<CopiedData, CopyFailure> {
        match self {
            Self::File(from) => copy_file(from, to, on_bytes),
            Self::Stream(stream, extents, size) => {
                copy_stream(*stream, extents, *size, to, on_bytes)
            }
        }
    }
}

/// Returns the size of an open file as it is now.
fn size_of(file: &File) -> Result<u64, CopyFailure> {
    file.metadata().map(|metadata| metadata.len()).map_err(|e| CopyFailure::Source(to_errno(e)))
}

/// Whether the size of a file is not that of its data: the kernel's files have size 0 or that of a
/// page, and those of FUSE any size, whatever they hold. (Large ones have theirs, unless more can be
/// read.)
pub fn has_unknown_size(file: &File, size: u64) -> bool {
    let has_more = || {
        let read = file.read_at(&mut [0], size).is_ok_and(|read| read > 0);
        read && file.metadata().is_ok_and(|metadata| metadata.len() == size)
    };
    size == 0 || pseudo_fs(file).is_some() || is_fuse(file) && (size <= SMALL || has_more())
}

/// Sets the offset of a file, lseek(2).
///
/// # Errors
/// ENXIO for `SeekData` and `SeekHole` beyond the last data.
pub fn seek(file: &File, offset: u64, whence: Whence) -> Result<u64, Errno> {
    let offset = i64::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
    lseek(file, offset, whence).map(i64::unsigned_abs)
}

/// Finds the next data of a file from an offset on: its offset and end. None if only a hole follows. A
/// file system that does not report its holes has data everywhere.
///
/// # Errors
/// None of its own: an error of lseek(2) counts as data.
pub fn next_extent(file: &File, offset: u64, size: u64) -> Option<(u64, u64)> {
    let start = match seek(file, offset, Whence::SeekData) {
        Ok(start) => start,
        Err(Errno::ENXIO) => return None,
        Err(_) => offset,
    };
    let hole = || seek(file, start, Whence::SeekHole).unwrap_or(size);
    (start < size).then(|| (start, hole().clamp(start + 1, size)))
}

fn copy_file(from: &File, to: &File, on_bytes: OnBytes<'_>) -> Result<CopiedData, CopyFailure> {
    let size = size_of(from)?;
    if has_unknown_size(from, size) {
        let size = read_and_write(from, to, u64::MAX, on_bytes)?;
        return Ok(CopiedData { size, ..CopiedData::default() });
    }
    let mut copied = CopiedData { expected: Some(size), size, ..CopiedData::default() };
    if size <= SMALL {
        copied.size = read_and_write(from, to, size, on_bytes)?;
    } else {
        copy_extents(from, to, &mut copied, on_bytes)?;
        to.set_len(copied.size).map_err(to_errno)?;
    }
    copied.after = Some(size_of(from)?);
    Ok(copied)
}

/// Copies the data between the holes of a file. A file that grows meanwhile is copied up to its size at
/// the start.
fn copy_extents(
    from: &File,
    to: &File,
    copied: &mut CopiedData,
    on_bytes: OnBytes<'_>,
) -> Result<(), CopyFailure> {
    let (size, mut offset) = (copied.size, 0);
    while let Some((start, end)) = next_extent(from, offset, size) {
        seek(from, start, Whence::SeekSet).map_err(CopyFailure::Source)?;
        seek(to, start, Whence::SeekSet)?;
        let count = copy_in_kernel(from, to, end - start, on_bytes)?;
        copied.holes += start - offset;
        offset = start + count;
        if offset < end {
            // It was truncated meanwhile.
            copied.size = offset;
            return Ok(());
        }
    }
    // The hole at the end may be one since the file was truncated.
    copied.size = size_of(from)?.clamp(offset, size);
    copied.holes += copied.size - offset;
    Ok(())
}

fn copy_stream(
    stream: &mut dyn Read,
    extents: &[(u64, u64)],
    size: u64,
    mut to: &File,
    on_bytes: OnBytes<'_>,
) -> Result<CopiedData, CopyFailure> {
    let longest = extents.iter().map(|(_, length)| *length).max().unwrap_or(0);
    let mut chunk = vec![0; usize::try_from(longest).unwrap_or(CHUNK).min(CHUNK)];
    let mut data = 0;
    for (offset, length) in extents {
        seek(to, *offset, Whence::SeekSet)?;
        let mut remaining = *length;
        while remaining > 0 {
            let count = usize::try_from(remaining).unwrap_or(CHUNK).min(chunk.len());
            let count = read_some(stream, &mut chunk[..count])?;
            if count == 0 {
                return Err(CopyFailure::Cut);
            }
            to.write_all(&chunk[..count]).map_err(to_errno)?;
            remaining -= count as u64;
            on_bytes(count as u64);
        }
        data += length;
    }
    to.set_len(size).map_err(to_errno)?;
    Ok(CopiedData { size, holes: size.saturating_sub(data), ..CopiedData::default() })
}

/// Reads once; nothing at the end.
fn read_some(from: &mut dyn Read, chunk: &mut [u8]) -> Result<usize, CopyFailure> {
    loop {
        match from.read(chunk) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(CopyFailure::Cut),
            read => return read.map_err(|error| CopyFailure::Source(to_errno(error))),
        }
    }
}

fn copy_in_kernel(
    from: &File,
    to: &File,
    length: u64,
    on_bytes: OnBytes<'_>,
) -> Result<u64, CopyFailure> {
    let mut copied = 0;
    while copied < length {
        let count = usize::try_from((length - copied).min(KERNEL_CHUNK)).unwrap_or(CHUNK);
        match copy_file_range(from, None, to, None, count) {
            // The end, or a file that the kernel copies nothing of: reading decides.
            Ok(0) => return Ok(copied + read_and_write(from, to, length - copied, on_bytes)?),
            Ok(count) => {
                copied += count as u64;
                on_bytes(count as u64);
            }
            Err(Errno::EINTR) => {}
            Err(errno @ (Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG)) => return Err(errno.into()),
            // Not between these two file systems, or not of this file, or which side failed is not
            // known: reading and writing shows it.
            Err(_) => return Ok(copied + read_and_write(from, to, length - copied, on_bytes)?),
        }
    }
    Ok(copied)
}

fn read_and_write(
    mut from: &File,
    mut to: &File,
    length: u64,
    on_bytes: OnBytes<'_>,
) -> Result<u64, CopyFailure> {
    let size = if length == u64::MAX { SMALL } else { length.clamp(1, CHUNK as u64) };
    let mut chunk = vec![0; usize::try_from(size).unwrap_or(CHUNK)];
    let mut copied = 0;
    while copied < length {
        let count = usize::try_from(length - copied).unwrap_or(CHUNK).min(chunk.len());
        let read = read_some(&mut from, &mut chunk[..count])?;
        if read == 0 {
            break;
        }
        to.write_all(&chunk[..read]).map_err(to_errno)?;
        copied += read as u64;
        on_bytes(read as u64);
    }
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom};
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn holes_stay_holes() {
        let mut from = tempfile::tempfile().unwrap();
        from.seek(SeekFrom::Start(3 << 20)).unwrap();
        from.write_all(b"data").unwrap();
        from.set_len(8 << 20).unwrap();
        let to = tempfile::tempfile().unwrap();
        let copied = Content::File(&from).copy_to(&to, &|_| {}).unwrap();
        assert_eq!((copied.size, copied.change()), (8 << 20, None));
        assert!(copied.holes > 7 << 20 && !copied.has_lost_holes(&to));
        let streamed = tempfile::tempfile().unwrap();
        let mut stream = &b"data"[..];
        let extents = [(3 << 20, 4)];
        let copied = Content::Stream(&mut stream, &extents, 8 << 20);
        let copied = { copied }.copy_to(&streamed, &|_| {}).unwrap();
        assert_eq!((copied.size, copied.holes), (8 << 20, (8 << 20) - 4));
        for mut copy in [to, streamed] {
            let metadata = copy.metadata().unwrap();
            assert_eq!(metadata.len(), 8 << 20);
            assert!(metadata.blocks() * 512 < 1 << 20, "{}", metadata.blocks());
            copy.seek(SeekFrom::Start(3 << 20)).unwrap();
            let mut data = [0; 4];
            copy.read_exact(&mut data).unwrap();
            assert_eq!(&data, b"data");
        }
    }
    #[test]
    fn a_stream_that_ends_early_is_not_a_file() {
        let to = tempfile::tempfile().unwrap();
        let mut stream = &b"half"[..];
        let copied = Content::Stream(&mut stream, &[(0, 8)], 8).copy_to(&to, &|_| {});
        assert!(matches!(copied, Err(CopyFailure::Cut)));
    }

    #[test]
    fn a_size_that_changed_is_reported() {
        let data = |expected, size, after| CopiedData {
            expected: Some(expected),
            size,
            after: Some(after),
            holes: 0,
        };
        assert_eq!(data(9, 9, 9).change(), None);
        assert!(data(9, 4, 4).change().is_some_and(|text| text.contains("shrank by 5 bytes to 4")));
        let later = |after| data(9, 4, after).change().unwrap();
        assert!(later(0) == later(9) && later(0).contains("; 4 of its 9 bytes were copied"));
        assert!(data(9, 9, 12).change().is_some_and(|text| text.contains("grew by 3 bytes")));
        assert_eq!(CopiedData { size: 7, ..CopiedData::default() }.change(), None);
    }
}
