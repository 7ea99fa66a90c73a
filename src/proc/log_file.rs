//! An engine's log files, read from near their end: the current one and those rotated before it, compressed or
//! not. A file is read only if no other user than the container's could have put it there.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::host::Host;
use super::log_source::LogSource;
use super::read::ReadError;
use super::trust::Trust;
use crate::model::log_record::{LogFormat, LogRecord};
use crate::model::rotated_log::{RotatedLog, rotated_logs};
use crate::sys::file::attributes;

/// Rotated files that are looked for.
const MOST_ROTATED: usize = 100;

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
    /// Files that are still to be read, the next one last, with their paths.
    pending: Vec<(LogSource, PathBuf)>,
    /// Time of the last record that was read; before that, of the last one that was there.
    last_time: Option<Timestamp>,
    /// Whether records may have been removed by their engine before they could be read.
    may_lack: bool,
    /// Older files, or ends of them, that could not be read, and why.
    unread: Vec<(PathBuf, String)>,
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
        let mut reader = Self {
            host,
            path: path.to_owned(),
            owner,
            format,
            range,
            pending: Vec::new(),
            last_time: None,
            may_lack: false,
            unread: Vec::new(),
        };
        let mut missing = range.last.unwrap_or(usize::MAX);
        let (mut current, modified) = reader.open_file(path, false)?;
        reader.last_time = Some(modified);
        if range.last.is_some() {
            missing -= current.seek_last(missing)?;
        }
        reader.pending.push((current, path.to_owned()));
        for older in reader.older_files() {
            if missing == 0 {
                break;
            }
            let mut path = reader.path.with_file_name(&older.name);
            let mut opened = reader.open_older(&path, older.is_compressed, missing);
            if matches!(opened, Err(ReadError::Gone)) && !older.is_compressed {
                // (It was compressed meanwhile.)
                path = reader.path.with_file_name(format!("{}.gz", older.name));
                opened = reader.open_older(&path, true, missing);
            }
            match opened {
                Ok(Some((source, count))) => {
                    missing = missing.saturating_sub(count);
                    reader.pending.push((source, path));
                }
                Ok(None) => break,
                // (It was rotated once more meanwhile.)
                Err(ReadError::Gone) => {}
                Err(error) => {
                    reader.unread.push((path, error.to_string()));
                    break;
                }
            }
        }
        Ok(reader)
    }

    /// Opens an older file at the last records of it that are missing, with their number; none if it is older
    /// than the range. One that was opened before it was rotated has none.
    fn open_older(
        &self,
        path: &Path,
        is_compressed: bool,
        missing: usize,
    ) -> Result<Option<(LogSource, usize)>, ReadError> {
        let (mut source, modified) = self.open_file(path, is_compressed)?;
        // (It was not written to since.)
        if self.range.since.is_some_and(|since| modified < since) {
            return Ok(None);
        }
        if self.pending.iter().any(|(pending, _)| pending.id == source.id) {
            return Err(ReadError::Gone);
        }
        let count = match self.range.last {
            Some(_) => source.seek_last(missing)?,
            None => 0,
        };
        Ok(Some((source, count)))
    }

    /// Takes the older files, or ends of them, that could not be read, and why.
    pub fn take_unread(&mut self) -> Vec<(PathBuf, String)> {
        std::mem::take(&mut self.unread)
    }

    /// Returns the next record of the range; none at the present end of the log.
    ///
    /// # Errors
    /// As read(2).
    pub fn next(&mut self) -> Result<Option<LogRecord>, ReadError> {
        while let Some((source, path)) = self.pending.last_mut() {
            let is_current = *path == self.path;
            let bytes = match source.next() {
                // The rest can still be read.
                Err(error) if !is_current => {
                    self.unread.push((path.clone(), error.to_string()));
                    None
                }
                bytes => bytes?,
            };
            self.may_lack |= source.take_rewritten();
            match bytes {
                Some(bytes) => {
                    let record = self.format.parse(&bytes);
                    self.last_time = record.time.or(self.last_time);
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

    /// Takes whether records may be missing before the last one that was read.
    pub fn take_may_lack(&mut self) -> bool {
        std::mem::take(&mut self.may_lack)
    }

    /// Checks whether the file was rotated or written again after its last record was read, and goes on with
    /// the file in its place, after the files that were written and rotated in between.
    pub fn renew(&mut self) {
        let Some((source, _)) = self.pending.last_mut() else { return };
        source.rewind_if_rewritten();
        let id = source.id;
        let Ok((current, _)) = self.open_file(&self.path, false) else { return };
        if current.id == id {
            return;
        }
        let mut newer = vec![(current, self.path.clone())];
        let mut is_complete = false;
        for older in self.older_files() {
            let path = self.path.with_file_name(&older.name);
            let Ok((mut source, _)) = self.open_file(&path, older.is_compressed) else { continue };
            is_complete = source.id == id || !self.begins_later(&mut source);
            if is_complete {
                break;
            }
            newer.push((source, path));
        }
        // (The followed file is gone, and perhaps others that came after it.)
        self.may_lack |= !is_complete;
        // (The followed file is read to its end first, and comes last.)
        self.pending.splice(0..0, newer);
    }

    /// Whether the first record of a file is later than the last one that was read.
    fn begins_later(&self, source: &mut LogSource) -> bool {
        let Ok(Some(first)) = source.next() else { return false };
        let is_later = self.format.parse(&first).time > self.last_time;
        self.last_time.is_some() && is_later && source.rewind().is_ok()
    }

    /// Returns the older files that are there, the newest first.
    fn older_files(&self) -> Vec<RotatedLog> {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        let names = self.host.state_dir(directory).and_then(|dir| dir.names()).unwrap_or_default();
        let mut found = rotated_logs(name, &names);
        found.truncate(MOST_ROTATED);
        found
    }

    /// Opens the current file or an older one; with the time of its last change.
    fn open_file(
        &self,
        path: &Path,
        is_compressed: bool,
    ) -> Result<(LogSource, Timestamp), ReadError> {
        let (file, owner) = self.host.state_dir("/")?.open(path)?;
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
        Ok((LogSource::new(file, attributes.id, self.format, is_compressed), modified))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    /// Creates a recorded host with a log whose lines have these numbers.
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
    fn a_plain_log_is_followed_through_rotation_without_a_newline_at_its_end() {
        let (dir, host) = host(&[("a", 0..0)]);
        let path = dir.path().join("log/a");
        let append = |text: &str| {
            let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let format = LogFormat::Plain { is_stderr: false };
        let range = LogRange { last: Some(1), since: None };
        append("one\r\ntwo");
        let log = Path::new("/log/a");
        let mut reader = LogReader::open(&host, log, Trust::Root, format, range).unwrap();
        let next = |reader: &mut LogReader<'_>| {
            let records = std::iter::from_fn(|| reader.next().unwrap());
            records.map(|record| String::from_utf8(record.text).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(next(&mut reader), ["two"]);
        append(" more\n");
        fs::rename(&path, dir.path().join("log/a.1")).unwrap();
        append("\nthree");
        reader.renew();
        assert_eq!(next(&mut reader), [" more", "", "three"]);
        // Copied and truncated, as logrotate's `copytruncate` does.
        fs::write(&path, "").unwrap();
        reader.renew();
        append("four\n");
        reader.renew();
        assert_eq!(next(&mut reader), ["four"]);
    }

    #[test]
    fn a_long_line_without_an_end_is_left_for_later() {
        let (dir, host) = host(&[("a", 0..1)]);
        let path = dir.path().join("log/a");
        let mut reader = open(&host, LogRange { last: None, since: None });
        assert_eq!(numbers(&mut reader), [0]);
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        let line = line_of(1);
        file.write_all(&line.as_bytes()[..line.len() - 2]).unwrap();
        file.write_all("x".repeat(3 << 20).as_bytes()).unwrap();
        assert!(reader.next().unwrap().is_none());
        file.write_all(format!("end\n{}", line_of(2)).as_bytes()).unwrap();
        let long = reader.next().unwrap().unwrap();
        assert!(long.text.len() > 1 << 19 && long.text.ends_with(b"x"));
        assert_eq!(numbers(&mut reader), [2]);
    }

    #[test]
    fn a_log_that_is_written_again_in_place_is_read_from_its_beginning() {
        let (dir, host) = host(&[("a", 0..3)]);
        let path = dir.path().join("log/a");
        let mut reader = open(&host, LogRange { last: None, since: None });
        assert_eq!(numbers(&mut reader), [0, 1, 2]);
        reader.renew();
        assert!(!reader.take_may_lack());
        // It is longer than the part that was read.
        fs::write(&path, (10..40).map(line_of).collect::<String>()).unwrap();
        reader.renew();
        assert_eq!(numbers(&mut reader), (10..40).collect::<Vec<_>>());
        assert!(reader.take_may_lack());
        // In the middle of a reading, too.
        fs::write(&path, (50..2000).map(line_of).collect::<String>()).unwrap();
        reader.renew();
        assert_eq!(reader.next().unwrap().unwrap().text, b"50");
        fs::write(&path, (2000..3500).map(line_of).collect::<String>()).unwrap();
        let rest = numbers(&mut reader);
        assert!(rest.is_sorted() && rest.ends_with(&[3499]) && rest.contains(&2000));
        assert!(reader.take_may_lack());
    }

    /// Compresses a file of the log, as engines do.
    fn compress(dir: &Path, name: &str, to: &str) {
        let plain = fs::read(dir.join(name)).unwrap();
        let file = fs::File::create(dir.join(to)).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        encoder.write_all(&plain).unwrap();
        encoder.finish().unwrap();
        fs::remove_file(dir.join(name)).unwrap();
    }

    #[test]
    fn older_files_may_be_compressed() {
        let (dir, host) =
            host(&[("a.3", 0..500), ("a.2", 500..600), ("a.1", 600..610), ("a", 610..613)]);
        let log = dir.path().join("log");
        compress(&log, "a.2", "a.2.gz");
        compress(&log, "a.3", "a.3.gz");
        for (last, first) in [(5, 608), (13, 600), (14, 599), (113, 500), (300, 313), (999, 0)] {
            let mut reader = open(&host, LogRange { last: Some(last), since: None });
            assert_eq!(numbers(&mut reader), (first..613).collect::<Vec<_>>(), "{last}");
        }
        let since = Some("2026-11-26T02:09:58Z".parse().unwrap());
        let mut late = open(&host, LogRange { last: None, since });
        assert_eq!(numbers(&mut late), (598..613).collect::<Vec<_>>());
        // A damaged file is named, and older ones are not read.
        let whole = fs::read(log.join("a.2.gz")).unwrap();
        fs::write(log.join("a.2.gz"), &whole[..whole.len() / 2]).unwrap();
        for last in [Some(50), None] {
            let mut reader = open(&host, LogRange { last, since: None });
            assert_eq!(*numbers(&mut reader).last().unwrap(), 612);
            let unread = reader.take_unread();
            assert!(unread[0].0.ends_with("a.2.gz"), "{unread:?}");
        }
    }

    #[test]
    fn a_log_that_is_rotated_several_times_between_two_readings_is_followed() {
        let (dir, host) = host(&[("a", 0..3)]);
        let log = dir.path().join("log");
        let mut reader = open(&host, LogRange { last: Some(1), since: None });
        assert_eq!(numbers(&mut reader), [2]);
        for number in 3..7 {
            let rotated = log.join(format!("a.{}", 10 - number));
            fs::rename(log.join("a"), rotated).unwrap();
            fs::write(log.join("a"), line_of(number)).unwrap();
        }
        compress(&log, "a.7", "a.7.gz");
        compress(&log, "a.5", "a.5.gz");
        reader.renew();
        assert_eq!(numbers(&mut reader), [3, 4, 5, 6]);
        reader.renew();
        assert!(numbers(&mut reader).is_empty());
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
