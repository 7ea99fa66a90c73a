//! An engine's log files, read from near their end: the current one and those rotated before it
//! (`LOG.1`, `LOG.2`). A file is read only if the container's user alone could have made it be there.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::host::Host;
use super::read::ReadError;
use super::trusted_fs::Trust;
use crate::model::log_record::{LogFormat, LogRecord};
use crate::sys::file::{FileId, attributes};

/// Rotated files that are looked for.
const MOST_ROTATED: usize = 100;
/// Longest record; the rest of a longer one is left out. Engines split lines after 16 KiB.
const MAX_RECORD: usize = 1 << 20;
/// Bytes that are searched backwards at a time.
const BLOCK: u64 = 1 << 16;

/// The part of a log that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct LogRange {
    /// This many records before the end; all if there is none.
    pub last: Option<usize>,
    /// Only records from this time on.
    pub since: Option<Timestamp>,
}

/// A log that is being read.
#[derive(Debug)]
pub struct LogReader<'a> {
    host: &'a Host,
    path: PathBuf,
    owner: Trust,
    format: LogFormat,
    range: LogRange,
    /// Files that are still to be read, the next one last.
    pending: Vec<(BufReader<File>, FileId)>,
    /// Older files that are compressed, and not read.
    pub compressed: Vec<PathBuf>,
}

impl<'a> LogReader<'a> {
    /// Opens a log at the beginning of the range.
    ///
    /// # Errors
    /// The current file cannot be read, or is not trusted.
    pub fn open(
        host: &'a Host,
        path: &Path,
        owner: Trust,
        format: LogFormat,
        range: LogRange,
    ) -> Result<Self, ReadError> {
        let path = path.to_owned();
        let mut reader =
            Self { host, path, owner, format, range, pending: Vec::new(), compressed: Vec::new() };
        let mut missing = range.last.unwrap_or(usize::MAX);
        for index in 0..=MOST_ROTATED {
            let opened = match reader.open_file(index) {
                Err(error) if index == 0 => return Err(error),
                Err(_) => break,
                Ok(opened) => opened,
            };
            let (mut file, id, modified) = opened;
            // (It was not written to since.)
            if index > 0 && range.since.is_some_and(|since| modified < since) {
                break;
            }
            let (offset, count) = match range.last {
                Some(_) => tail(&mut file, format, missing)?,
                None => (0, 0),
            };
            file.seek(SeekFrom::Start(offset))?;
            reader.pending.push((BufReader::new(file), id));
            missing = missing.saturating_sub(count);
            if missing == 0 {
                return Ok(reader);
            }
        }
        reader.compressed = reader.compressed_files();
        Ok(reader)
    }

    /// Returns the next record of the range; none at the end of what is written so far.
    ///
    /// # Errors
    /// As read(2).
    pub fn next(&mut self) -> Result<Option<LogRecord>, ReadError> {
        while let Some((file, _)) = self.pending.last_mut() {
            match next_bytes(file, self.format)? {
                Some(bytes) => {
                    let record = self.format.parse(&bytes);
                    let is_earlier = |since| record.time.is_some_and(|time| time < since);
                    if !self.range.since.is_some_and(is_earlier) {
                        return Ok(Some(record));
                    }
                }
                // The current file stays open, to be followed.
                None if self.pending.len() == 1 => return Ok(None),
                None => {
                    self.pending.pop();
                }
            }
        }
        Ok(None)
    }

    /// Looks whether the file was rotated or cut short after its last record was read, and goes on with
    /// what is in its place.
    pub fn renew(&mut self) {
        let Some((file, id)) = self.pending.last_mut() else { return };
        let position = file.stream_position().unwrap_or(0);
        if file.get_ref().metadata().is_ok_and(|meta| meta.len() < position) {
            let _ = file.rewind();
        }
        let id = *id;
        if let Ok((file, current, _)) = self.open_file(0)
            && current != id
        {
            self.pending.insert(0, (BufReader::new(file), current));
        }
    }

    /// Opens the current file, or the one that was rotated this often.
    fn open_file(&self, rotated: usize) -> Result<(File, FileId, Timestamp), ReadError> {
        let path = match rotated {
            0 => self.path.clone(),
            count => suffixed(&self.path, &format!(".{count}")),
        };
        let (file, owner) = self.host.state_dir("/")?.open(&path)?;
        // A user's record may lead anywhere: to files of root, of which that user must not see even that
        // they are there.
        if owner != self.owner {
            return Err(ReadError::Broken(format!(
                "`{}` is not trusted: the container's user does not own it",
                path.display()
            )));
        }
        let attributes = attributes(&file)?;
        let (seconds, nanoseconds) = attributes.modified;
        let modified = Timestamp::new(seconds, nanoseconds.cast_signed()).unwrap_or_default();
        Ok((file, attributes.id, modified))
    }

    fn compressed_files(&self) -> Vec<PathBuf> {
        let Some(name) = self.path.file_name().and_then(|name| name.to_str()) else {
            return Vec::new();
        };
        let Some(directory) = self.path.parent() else { return Vec::new() };
        let names = self.host.state_dir(directory).and_then(|dir| dir.names()).unwrap_or_default();
        let is_ours = |other: &&String| other.starts_with(name) && other.ends_with(".gz");
        names.iter().filter(is_ours).map(|name| directory.join(name)).collect()
    }
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Reads the bytes of the next record. One that is not complete yet is left for later.
fn next_bytes(file: &mut BufReader<File>, format: LogFormat) -> Result<Option<Vec<u8>>, ReadError> {
    let start = file.stream_position()?;
    let complete = match format {
        LogFormat::Local => frame(file)?,
        LogFormat::Json | LogFormat::Tagged => line(file)?,
    };
    if complete.is_none() {
        file.seek(SeekFrom::Start(start))?;
    }
    Ok(complete)
}

fn line(file: &mut BufReader<File>) -> Result<Option<Vec<u8>>, ReadError> {
    let mut bytes = Vec::new();
    let read = file.by_ref().take(MAX_RECORD as u64).read_until(b'\n', &mut bytes)?;
    match bytes.pop() {
        Some(b'\n') => Ok(Some(bytes)),
        Some(last) if read == MAX_RECORD => {
            bytes.push(last);
            skip_line(file)?;
            Ok(Some(bytes))
        }
        _ => Ok(None),
    }
}

fn skip_line(file: &mut BufReader<File>) -> Result<(), ReadError> {
    loop {
        let buffered = file.fill_buf()?;
        let (length, is_last) = match buffered.iter().position(|byte| *byte == b'\n') {
            Some(index) => (index + 1, true),
            None => (buffered.len(), buffered.is_empty()),
        };
        file.consume(length);
        if is_last {
            return Ok(());
        }
    }
}

fn frame(file: &mut BufReader<File>) -> Result<Option<Vec<u8>>, ReadError> {
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
        LogFormat::Json | LogFormat::Tagged => tail_of_lines(file, end, wanted),
    }
}

fn tail_of_lines(file: &mut File, end: u64, wanted: usize) -> Result<(u64, usize), ReadError> {
    let (mut block, mut position, mut newlines) = (Vec::new(), end, 0);
    while position > 0 {
        let length = position.min(BLOCK);
        position -= length;
        file.seek(SeekFrom::Start(position))?;
        block.resize(usize::try_from(length).unwrap_or(0), 0);
        if !read_whole(file, &mut block)? {
            break;
        }
        for index in memchr::memrchr_iter(b'\n', &block) {
            if newlines == wanted {
                return Ok((position + index as u64 + 1, wanted));
            }
            newlines += 1;
        }
    }
    Ok((0, newlines))
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
    use std::fs;
    use std::io::Write;

    use super::*;

    /// A recorded host, and a log in it of which the lines have these numbers.
    fn host(files: &[(&str, std::ops::Range<u32>)]) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("proc/1")).unwrap();
        fs::create_dir_all(dir.path().join("log")).unwrap();
        for (name, numbers) in files {
            let lines: String = numbers.clone().map(line_of).collect();
            fs::write(dir.path().join("log").join(name), lines).unwrap();
        }
        let host = Host::new(dir.path()).unwrap();
        (dir, host)
    }

    fn line_of(number: u32) -> String {
        format!("2026-11-26T02:{:02}:{:02}Z stdout F {number}\n", number / 60, number % 60)
    }

    fn numbers(reader: &mut LogReader<'_>) -> Vec<u32> {
        let records = std::iter::from_fn(|| reader.next().unwrap());
        records.map(|record| String::from_utf8(record.text).unwrap().parse().unwrap()).collect()
    }

    fn open(host: &Host, range: LogRange) -> LogReader<'_> {
        LogReader::open(host, Path::new("/log/a"), Trust::Root, LogFormat::Tagged, range).unwrap()
    }

    #[test]
    fn the_end_is_found_across_rotated_files() {
        let (_dir, host) = host(&[("a.2", 0..2000), ("a.1", 2000..2010), ("a", 2010..2013)]);
        for (last, first) in [(0, 2013), (2, 2011), (3, 2010), (5, 2008), (1500, 513), (9999, 0)] {
            let mut reader = open(&host, LogRange { last: Some(last), since: None });
            assert_eq!(numbers(&mut reader), (first..2013).collect::<Vec<_>>(), "{last}");
        }
        let mut all = open(&host, LogRange { last: None, since: None });
        assert_eq!(numbers(&mut all).len(), 2013);
        let since = Some("2026-11-26T02:33:29Z".parse().unwrap());
        let mut late = open(&host, LogRange { last: None, since });
        assert_eq!(numbers(&mut late), [2009, 2010, 2011, 2012]);
    }

    #[test]
    fn a_log_is_followed_through_rotation_and_truncation() {
        let (dir, host) = host(&[("a", 0..3)]);
        let path = dir.path().join("log/a");
        let mut reader = open(&host, LogRange { last: Some(1), since: None });
        assert_eq!(numbers(&mut reader), [2]);
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        // A line that is not complete is left for later.
        let (begin, end) = (line_of(3), line_of(4));
        file.write_all(&begin.as_bytes()[..9]).unwrap();
        assert!(numbers(&mut reader).is_empty());
        file.write_all(&begin.as_bytes()[9..]).unwrap();
        assert_eq!(numbers(&mut reader), [3]);
        file.write_all(end.as_bytes()).unwrap();
        fs::rename(&path, dir.path().join("log/a.1")).unwrap();
        fs::write(&path, line_of(5)).unwrap();
        reader.renew();
        assert_eq!(numbers(&mut reader), [4, 5]);
        fs::write(&path, line_of(6).trim_end_matches('6').to_owned() + "\n").unwrap();
        fs::write(&path, "").unwrap();
        reader.renew();
        fs::write(&path, line_of(7)).unwrap();
        assert_eq!(numbers(&mut reader), [7]);
    }

    #[test]
    fn a_file_of_another_user_is_not_read() {
        let (_dir, host) = host(&[("a", 0..3)]);
        let range = LogRange { last: None, since: None };
        let error = LogReader::open(
            &host,
            Path::new("/log/a"),
            Trust::User(1234),
            LogFormat::Tagged,
            range,
        );
        assert!(error.unwrap_err().to_string().contains("does not own it"));
    }
}
