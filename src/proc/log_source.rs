//! One file of a log, plain or compressed by gzip(1), read record by record in bounded memory. A file that
//! decompresses to more than a limit is not read further.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Take};
use std::os::unix::fs::FileExt;

use flate2::read::MultiGzDecoder;

use super::read::ReadError;
use crate::model::log_record::LogFormat;
use crate::sys::file::FileId;

/// Longest record; the rest of a longer one is left out. Engines split lines after 16 KiB.
const MAX_RECORD: usize = 1 << 20;
/// Bytes by which a file is recognised: more than the first record of a short line, with its time.
const BEGINNING: usize = 512;
/// Bytes that are searched backwards at a time.
const BLOCK: u64 = 1 << 16;
/// Most bytes of a compressed file, decompressed: a small file may be very large then.
const MAX_DECOMPRESSED: u64 = 1 << 30;

type Decompressed = BufReader<Take<MultiGzDecoder<BufReader<File>>>>;

/// A file of a log.
#[derive(Debug)]
pub struct LogSource {
    content: LogContent,
    format: LogFormat,
    /// The file.
    pub id: FileId,
    /// The first bytes of a plain file, as far as they were there: a file that is written again from its
    /// beginning has others.
    beginning: Vec<u8>,
    /// Whether it was found to be written again, since this was last taken.
    was_rewritten: bool,
}

#[derive(Debug)]
enum LogContent {
    Plain(BufReader<File>),
    Compressed(Box<Decompressed>),
}

impl LogSource {
    /// Begins to read a file.
    pub fn new(file: File, id: FileId, format: LogFormat, is_compressed: bool) -> Self {
        let content = match is_compressed {
            false => LogContent::Plain(BufReader::new(file)),
            true => LogContent::Compressed(Box::new(decompressed(file))),
        };
        let mut source = Self { content, format, id, beginning: Vec::new(), was_rewritten: false };
        source.beginning = source.first_bytes();
        source
    }

    /// Goes to where the last `wanted` records begin, and returns how many there are from there.
    ///
    /// # Errors
    /// As read(2); [`ReadError::Broken`] for a compressed file that is damaged or too large.
    pub fn seek_last(&mut self, wanted: usize) -> Result<usize, ReadError> {
        match &mut self.content {
            LogContent::Plain(file) => {
                let (offset, count) = tail(file.get_mut(), self.format, wanted)?;
                file.seek(SeekFrom::Start(offset))?;
                Ok(count)
            }
            LogContent::Compressed(_) => {
                let mut count = 0;
                while self.next()?.is_some() {
                    count += 1;
                }
                self.rewind()?;
                for _ in wanted..count {
                    self.next()?;
                }
                Ok(count.min(wanted))
            }
        }
    }

    /// Goes to the beginning.
    ///
    /// # Errors
    /// As lseek(2).
    pub fn rewind(&mut self) -> io::Result<()> {
        match &mut self.content {
            LogContent::Plain(file) => file.rewind(),
            LogContent::Compressed(reader) => {
                let mut file = reader.get_ref().get_ref().get_ref().get_ref().try_clone()?;
                file.rewind()?;
                **reader = decompressed(file);
                Ok(())
            }
        }
    }

    /// Goes to the beginning if the file was cut short or written again in place, as engines do that keep only
    /// one file; returns whether it was.
    pub fn rewind_if_rewritten(&mut self) -> bool {
        let LogContent::Plain(file) = &mut self.content else { return false };
        let position = file.stream_position().unwrap_or(0);
        let is_cut = file.get_ref().metadata().is_ok_and(|meta| meta.len() < position);
        let first = self.first_bytes();
        let is_rewritten = is_cut || !first.starts_with(&self.beginning);
        self.beginning = first;
        let is_rewritten = is_rewritten && self.rewind().is_ok();
        self.was_rewritten |= is_rewritten;
        is_rewritten
    }

    /// Takes whether the file was found to be written again: a part of its former content may not have been read.
    pub fn take_rewritten(&mut self) -> bool {
        std::mem::take(&mut self.was_rewritten)
    }

    fn first_bytes(&self) -> Vec<u8> {
        let LogContent::Plain(file) = &self.content else { return Vec::new() };
        let mut bytes = vec![0; BEGINNING];
        let length = file.get_ref().read_at(&mut bytes, 0).unwrap_or(0);
        bytes.truncate(length);
        bytes
    }

    /// Reads the bytes of the next record. One that is not complete yet is left for later.
    ///
    /// # Errors
    /// As [`Self::seek_last`].
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        match &mut self.content {
            LogContent::Plain(file) => {
                let (start, buffered) = (file.stream_position()?, file.buffer().len());
                let complete = record(file, self.format)?;
                match &complete {
                    None => _ = file.seek(SeekFrom::Start(start))?,
                    // A block that was read from a file that is written again meanwhile begins anywhere.
                    Some(bytes) if bytes.len() >= buffered && self.rewind_if_rewritten() => {
                        return self.next();
                    }
                    Some(_) => {}
                }
                Ok(complete)
            }
            LogContent::Compressed(reader) => {
                let complete = record(&mut **reader, self.format);
                if reader.get_ref().limit() == 0 {
                    return Err(ReadError::Broken("it is larger than 1 GiB, decompressed".into()));
                }
                complete
            }
        }
    }
}

fn decompressed(file: File) -> Decompressed {
    BufReader::new(MultiGzDecoder::new(BufReader::new(file)).take(MAX_DECOMPRESSED))
}

/// Reads the bytes of the next record; none if the last one is not complete.
fn record(file: &mut impl BufRead, format: LogFormat) -> Result<Option<Vec<u8>>, ReadError> {
    match format {
        LogFormat::Local => frame(file),
        LogFormat::Json | LogFormat::Tagged => line(file),
        LogFormat::Plain { .. } => plain_line(file),
    }
}

fn line(file: &mut impl BufRead) -> Result<Option<Vec<u8>>, ReadError> {
    let mut bytes = Vec::new();
    let read = file.by_ref().take(MAX_RECORD as u64).read_until(b'\n', &mut bytes)?;
    match bytes.pop() {
        Some(b'\n') => Ok(Some(bytes)),
        Some(last) if read == MAX_RECORD => {
            bytes.push(last);
            Ok(skip_line(file)?.then_some(bytes))
        }
        _ => Ok(None),
    }
}

/// Reads a line with its newline, or what there is of it.
fn plain_line(file: &mut impl BufRead) -> Result<Option<Vec<u8>>, ReadError> {
    let mut bytes = Vec::new();
    file.by_ref().take(MAX_RECORD as u64).read_until(b'\n', &mut bytes)?;
    Ok((!bytes.is_empty()).then_some(bytes))
}

/// Skips the rest of a line; returns false if its end is not written yet.
fn skip_line(file: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let buffered = file.fill_buf()?;
        let newline = memchr::memchr(b'\n', buffered);
        let is_last = newline.is_some() || buffered.is_empty();
        let length = newline.map_or(buffered.len(), |index| index + 1);
        file.consume(length);
        if is_last {
            return Ok(newline.is_some());
        }
    }
}

fn frame(file: &mut impl Read) -> Result<Option<Vec<u8>>, ReadError> {
    let mut length = [0; 4];
    if !read_whole(file, &mut length)? {
        return Ok(None);
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_RECORD {
        return Err(ReadError::Broken("the log file is not of the expected format".into()));
    }
    let mut bytes = vec![0; length + 4];
    if !read_whole(file, &mut bytes)? {
        return Ok(None);
    }
    bytes.truncate(length);
    Ok(Some(bytes))
}

fn read_whole(file: &mut impl Read, buffer: &mut [u8]) -> Result<bool, ReadError> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns where the last `wanted` records begin, and how many there are from there.
fn tail(file: &mut File, format: LogFormat, wanted: usize) -> Result<(u64, usize), ReadError> {
    let end = file.seek(SeekFrom::End(0))?;
    match format {
        LogFormat::Local => tail_of_frames(file, end, wanted),
        LogFormat::Plain { .. } if wanted == 0 => Ok((end, 0)),
        LogFormat::Plain { .. } => {
            let mut last = [b'\n'];
            file.read_at(&mut last, end.saturating_sub(1))?;
            tail_of_lines(file, end, wanted, last != *b"\n")
        }
        LogFormat::Json | LogFormat::Tagged => tail_of_lines(file, end, wanted, false),
    }
}

/// Returns where the last lines begin; with `with_rest` the bytes after the last newline are the last one.
fn tail_of_lines(
    file: &mut File,
    end: u64,
    wanted: usize,
    with_rest: bool,
) -> Result<(u64, usize), ReadError> {
    let (mut block, mut position, mut lines) = (Vec::new(), end, usize::from(with_rest));
    while position > 0 {
        let length = position.min(BLOCK);
        position -= length;
        file.seek(SeekFrom::Start(position))?;
        block.resize(usize::try_from(length).unwrap_or(0), 0);
        if !read_whole(file, &mut block)? {
            break;
        }
        for index in memchr::memrchr_iter(b'\n', &block) {
            if lines == wanted {
                return Ok((position + index as u64 + 1, wanted));
            }
            lines += 1;
        }
    }
    Ok((0, lines))
}

fn tail_of_frames(file: &mut File, end: u64, wanted: usize) -> Result<(u64, usize), ReadError> {
    let (mut position, mut count) = (end, 0);
    while count < wanted && position >= 8 {
        file.seek(SeekFrom::Start(position - 4))?;
        let mut length = [0; 4];
        if !read_whole(file, &mut length)? {
            break;
        }
        let Some(start) = position.checked_sub(u64::from(u32::from_be_bytes(length)) + 8) else {
            break;
        };
        (position, count) = (start, count + 1);
    }
    Ok((position, count))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::sys::file::attributes;

    /// Returns the records that are read of a plain log from its last `wanted` lines on.
    fn last_lines(content: &[u8], wanted: usize) -> (usize, Vec<Vec<u8>>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        let id = attributes(&file).unwrap().id;
        let mut log = LogSource::new(file, id, LogFormat::Plain { is_stderr: false }, false);
        let count = log.seek_last(wanted).unwrap();
        (count, std::iter::from_fn(|| log.next().unwrap()).collect())
    }

    #[test]
    fn the_last_line_of_a_plain_log_need_not_end() {
        let long = [vec![b'x'; 200_000], b"\ny".to_vec()].concat();
        let cases: [&[u8]; 9] =
            [b"", b"\n", b"\n\n", b"a", b"a\n", b"a\nb", b"a\r\nb\r\n", b"a\n\nb\n\n", &long];
        for content in cases {
            let all: Vec<_> =
                content.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            for wanted in 0..4 {
                let count = wanted.min(all.len());
                let last = all[all.len() - count..].to_vec();
                assert_eq!(last_lines(content, wanted), (count, last), "{content:?} {wanted}");
            }
        }
    }
}
