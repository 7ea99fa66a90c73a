//! The bytes of a file: moved by the kernel where it can (reflinks among them), read and written where
//! it cannot; holes stay holes.

use std::fs::File;
use std::io::{Read, Write};

use rustix::fs::{SeekFrom, ftruncate, seek};
use rustix::io::Errno;

use super::rootfs::pseudo;

const CHUNK: usize = 1 << 20;
const SMALL: u64 = 64 << 10;
/// What the kernel is to move before something is heard again.
const AT_ONCE: u64 = 16 << 20;
/// What a hole is made of.
const BLOCK: usize = 4096;

/// Bytes from anywhere.
pub enum Content<'a> {
    /// A file, of which holes stay holes.
    File(&'a File),
    /// A stream of so many bytes.
    Stream(&'a mut dyn Read),
    /// One whose long rows of zeros are holes.
    Sparse(&'a mut dyn Read),
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Bytes, by the kernel where it can (reflinks among them), and holes as holes.
pub fn pour(content: &mut Content<'_>, to: &File, more: &mut dyn FnMut(u64)) -> Result<(), Errno> {
    let from = match content {
        Content::Stream(stream) => return drain(*stream, to, false, more),
        Content::Sparse(stream) => return drain(*stream, to, true, more),
        Content::File(file) => *file,
    };
    let size = from.metadata().map_err(|error| errno(&error))?.len();
    // A file of the kernel's says that it is empty, and has to be read to know.
    if size == 0 && pseudo(from).is_some() {
        return read_and_write(from, to, u64::MAX, more).map(drop);
    }
    // A small one has no hole that is worth the asking.
    if size <= SMALL {
        return read_and_write(from, to, size, more).map(drop);
    }
    // What it becomes longer by meanwhile is not part of this copy.
    let mut at = 0;
    while at < size {
        let data = match seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => size,
            Err(_) => at,
        };
        if data >= size {
            break;
        }
        let end = seek(from, SeekFrom::Hole(data)).unwrap_or(size).clamp(data + 1, size);
        seek(from, SeekFrom::Start(data))?;
        seek(to, SeekFrom::Start(data))?;
        let gone = by_kernel(from, to, end - data, more)?;
        if gone < end - data {
            // It was cut while we read.
            return ftruncate(to, data + gone);
        }
        at = end;
    }
    ftruncate(to, size)
}

fn drain(
    stream: &mut dyn Read,
    mut to: &File,
    holes: bool,
    more: &mut dyn FnMut(u64),
) -> Result<(), Errno> {
    let mut chunk = vec![0; CHUNK];
    let mut length = 0;
    loop {
        let read = fill(stream, &mut chunk)?;
        for block in chunk[..read].chunks(if holes { BLOCK } else { CHUNK }) {
            if holes && block.iter().all(|byte| *byte == 0) {
                let past = i64::try_from(block.len()).unwrap_or(0);
                seek(to, SeekFrom::Current(past))?;
            } else {
                to.write_all(block).map_err(|error| errno(&error))?;
            }
        }
        length += read as u64;
        more(read as u64);
        if read < CHUNK {
            return if holes { ftruncate(to, length) } else { Ok(()) };
        }
    }
}

/// Reads until a buffer is full, or there is no more.
fn fill(stream: &mut dyn Read, chunk: &mut [u8]) -> Result<usize, Errno> {
    let mut at = 0;
    while at < chunk.len() {
        match stream.read(&mut chunk[at..]) {
            Ok(0) => break,
            Ok(read) => at += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(errno(&error)),
        }
    }
    Ok(at)
}

fn by_kernel(from: &File, to: &File, length: u64, more: &mut dyn FnMut(u64)) -> Result<u64, Errno> {
    let mut gone = 0;
    while gone < length {
        let many = usize::try_from((length - gone).min(AT_ONCE)).unwrap_or(CHUNK);
        match rustix::fs::copy_file_range(from, None, to, None, many) {
            Ok(0) => return Ok(gone),
            Ok(copied) => {
                gone += copied as u64;
                more(copied as u64);
            }
            Err(Errno::INTR) => {}
            Err(
                Errno::XDEV
                | Errno::INVAL
                | Errno::NOSYS
                | Errno::OPNOTSUPP
                | Errno::PERM
                | Errno::BADF,
            ) => {
                return Ok(gone + read_and_write(from, to, length - gone, more)?);
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(gone)
}

fn read_and_write(
    mut from: &File,
    mut to: &File,
    length: u64,
    more: &mut dyn FnMut(u64),
) -> Result<u64, Errno> {
    let most = usize::try_from(length.clamp(1, CHUNK as u64)).unwrap_or(CHUNK);
    let mut chunk = vec![0; if length == u64::MAX { SMALL as usize } else { most }];
    let mut gone = 0;
    while gone < length {
        let many = usize::try_from((length - gone).min(chunk.len() as u64)).unwrap_or(CHUNK);
        match from.read(&mut chunk[..many]) {
            Ok(0) => break,
            Ok(read) => {
                to.write_all(&chunk[..read]).map_err(|error| errno(&error))?;
                gone += read as u64;
                more(read as u64);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(errno(&error)),
        }
    }
    Ok(gone)
}
