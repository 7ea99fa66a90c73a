//! The data of a file: copied by the kernel where it can (which shares blocks by reflink), read and
//! written where it cannot. Holes stay holes.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};

use nix::errno::Errno;
use nix::fcntl::copy_file_range;
use nix::unistd::{Whence, lseek};

use super::rootfs::{pseudo_fs, to_errno};

/// The size of the buffer.
const CHUNK: usize = 1 << 20;
/// Files up to this size are read and written: looking for holes costs more than it saves.
const SMALL: u64 = 64 << 10;
/// The bytes that the kernel copies before progress is reported.
const KERNEL_CHUNK: u64 = 16 << 20;
/// The smallest hole in a stream.
const BLOCK: usize = 4096;

/// Receives the number of bytes that were copied since the last call.
pub type OnBytes<'a> = &'a dyn Fn(u64);

/// The source of the data.
pub enum Content<'a> {
    /// A file, holes of which stay holes.
    File(&'a File),
    /// A stream.
    Stream(&'a mut dyn Read),
    /// A stream in which blocks of zeros become holes.
    SparseStream(&'a mut dyn Read),
}

impl Content<'_> {
    /// Copies everything to the start of an empty file.
    ///
    /// # Errors
    /// Errors of reading and writing.
    pub fn copy_to(&mut self, to: &File, on_bytes: OnBytes<'_>) -> Result<(), Errno> {
        match self {
            Self::File(from) => copy_file(from, to, on_bytes),
            Self::Stream(stream) => copy_stream(*stream, to, on_bytes),
            Self::SparseStream(stream) => copy_sparse_stream(*stream, to, on_bytes),
        }
    }
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
/// file system that does not know its holes has data everywhere.
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

fn copy_file(from: &File, to: &File, on_bytes: OnBytes<'_>) -> Result<(), Errno> {
    let size = from.metadata().map_err(to_errno)?.len();
    // A file of the kernel has size 0 whatever it holds.
    if size == 0 && pseudo_fs(from).is_some() {
        return read_and_write(from, to, u64::MAX, on_bytes).map(drop);
    }
    if size <= SMALL {
        return read_and_write(from, to, size, on_bytes).map(drop);
    }
    // A file that grows meanwhile is copied up to this size.
    let mut offset = 0;
    while let Some((start, end)) = next_extent(from, offset, size) {
        seek(from, start, Whence::SeekSet)?;
        seek(to, start, Whence::SeekSet)?;
        let copied = copy_in_kernel(from, to, end - start, on_bytes)?;
        if copied < end - start {
            // It was truncated meanwhile.
            return to.set_len(start + copied).map_err(to_errno);
        }
        offset = end;
    }
    to.set_len(size).map_err(to_errno)
}

fn copy_stream(stream: &mut dyn Read, mut to: &File, on_bytes: OnBytes<'_>) -> Result<(), Errno> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = fill(stream, &mut chunk)?;
        to.write_all(&chunk[..length]).map_err(to_errno)?;
        on_bytes(length as u64);
        if length < CHUNK {
            return Ok(());
        }
    }
}

fn copy_sparse_stream(
    stream: &mut dyn Read,
    mut to: &File,
    on_bytes: OnBytes<'_>,
) -> Result<(), Errno> {
    let mut chunk = vec![0; CHUNK];
    let mut size = 0;
    loop {
        let length = fill(stream, &mut chunk)?;
        for block in chunk[..length].chunks(BLOCK) {
            if block.iter().all(|byte| *byte == 0) {
                seek(to, block.len() as u64, Whence::SeekCur)?;
            } else {
                to.write_all(block).map_err(to_errno)?;
            }
        }
        size += length as u64;
        on_bytes(length as u64);
        if length < CHUNK {
            return to.set_len(size).map_err(to_errno);
        }
    }
}

/// Reads until the buffer is full or the stream ends.
fn fill(stream: &mut dyn Read, chunk: &mut [u8]) -> Result<usize, Errno> {
    let mut length = 0;
    while length < chunk.len() {
        match stream.read(&mut chunk[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(to_errno(error)),
        }
    }
    Ok(length)
}

fn copy_in_kernel(
    from: &File,
    to: &File,
    length: u64,
    on_bytes: OnBytes<'_>,
) -> Result<u64, Errno> {
    let mut copied = 0;
    while copied < length {
        let count = usize::try_from((length - copied).min(KERNEL_CHUNK)).unwrap_or(CHUNK);
        match copy_file_range(from, None, to, None, count) {
            Ok(0) => return Ok(copied),
            Ok(count) => {
                copied += count as u64;
                on_bytes(count as u64);
            }
            Err(Errno::EINTR) => {}
            // Not between these two file systems, or not of this file.
            Err(
                Errno::EXDEV
                | Errno::EINVAL
                | Errno::ENOSYS
                | Errno::EOPNOTSUPP
                | Errno::EPERM
                | Errno::EBADF,
            ) => {
                return Ok(copied + read_and_write(from, to, length - copied, on_bytes)?);
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(copied)
}

fn read_and_write(
    mut from: &File,
    mut to: &File,
    length: u64,
    on_bytes: OnBytes<'_>,
) -> Result<u64, Errno> {
    let size = if length == u64::MAX { SMALL } else { length.clamp(1, CHUNK as u64) };
    let mut chunk = vec![0; usize::try_from(size).unwrap_or(CHUNK)];
    let mut copied = 0;
    while copied < length {
        let count = usize::try_from(length - copied).unwrap_or(CHUNK).min(chunk.len());
        match from.read(&mut chunk[..count]) {
            Ok(0) => break,
            Ok(read) => {
                to.write_all(&chunk[..read]).map_err(to_errno)?;
                copied += read as u64;
                on_bytes(read as u64);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(to_errno(error)),
        }
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
        Content::File(&from).copy_to(&to, &|_| {}).unwrap();
        from.rewind().unwrap();
        let streamed = tempfile::tempfile().unwrap();
        Content::SparseStream(&mut &from).copy_to(&streamed, &|_| {}).unwrap();
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
}
