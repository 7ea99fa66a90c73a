//! Reading a record that its engine may be writing at the moment: some replace the content in place, and a part
//! of a record could name no container, or look as if it were of another one.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::stat::{FileStat, fstat};
use serde::de::IgnoredAny;

use super::TrustedFs;
use crate::proc::read::{ReadError, read_at_once};
use crate::proc::trust::Trust;

/// Time without a change after which a file is not being written. (The time of a change is that of the kernel's
/// last tick, up to 10 ms before.)
const QUIET: Duration = Duration::from_millis(50);
/// Time until a file that is being written is read again.
const PAUSE: Duration = Duration::from_millis(3);
/// The time of all pauses in one search for the files of one user.
const MAX_PAUSED: Duration = Duration::from_millis(200);

/// The pauses for files that were being written, by their owner, since the last search began.
#[derive(Debug, Default)]
pub(super) struct Pauses(Mutex<HashMap<Trust, Paused>>);

/// The pauses for the files of one owner.
#[derive(Debug, Default)]
struct Paused {
    total: Duration,
    last: Option<Instant>,
}

impl Pauses {
    /// Pauses, unless that was done for too long for files of this owner.
    fn pause(&self, owner: Trust) -> bool {
        let may_pause = {
            let mut owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let paused = owners.entry(owner).or_default();
            // (Files are read by several threads: pauses at the same time count once.)
            let now = Instant::now();
            let since = paused.last.replace(now).map_or(PAUSE, |last| now.duration_since(last));
            paused.total = paused.total.saturating_add(since.min(PAUSE));
            paused.total <= MAX_PAUSED
        };
        if may_pause {
            std::thread::sleep(PAUSE);
        }
        may_pause
    }

    /// Forgets the pauses of earlier searches: `trace` makes them for days.
    pub(super) fn reset(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl TrustedFs {
    /// Reads at most `limit` bytes of a file, which had this version when it was opened: again, for a limited time,
    /// if it is being written. Each time after the first is charged here.
    ///
    /// # Errors
    /// [`ReadError::Broken`] if it is being written still: a part could be taken for the whole.
    pub(super) fn read_settled(
        &self,
        mut file: &File,
        mut version: Version,
        owner: Trust,
        limit: usize,
    ) -> Result<Vec<u8>, ReadError> {
        let mut bytes = version.room(limit);
        loop {
            // (Before it is read: afterwards this thread may wait for a processor, as the writer may.)
            let now = SystemTime::now();
            read_at_once(file, &mut bytes, limit)?;
            let after = Version::new(&fstat(file)?);
            if after == version && (!after.is_recent(now) || is_whole_json(&bytes)) {
                return Ok(bytes);
            }
            if !self.pauses.pause(owner) {
                return Err(ReadError::Broken("it is being written".into()));
            }
            self.charge(owner, bytes.len() as u64)?;
            version = Version::new(&fstat(file)?);
            file.seek(SeekFrom::Start(0))?;
        }
    }
}

/// Reads at most `limit` bytes of a file, once.
pub(super) fn read_once(file: &File, version: Version, limit: usize) -> Result<Vec<u8>, ReadError> {
    let mut bytes = version.room(limit);
    read_at_once(file, &mut bytes, limit)?;
    Ok(bytes)
}

/// The size of a file and the time at which its content was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Version {
    size: i64,
    modified: (i64, i64),
}

impl Version {
    pub(super) fn new(stat: &FileStat) -> Self {
        Self { size: stat.st_size, modified: (stat.st_mtime, stat.st_mtime_nsec) }
    }

    /// Creates a buffer for the content. (With room for one byte more: a read that does not fill it has come to
    /// the end.)
    fn room(self, limit: usize) -> Vec<u8> {
        let size = usize::try_from(self.size).unwrap_or(limit);
        Vec::with_capacity(size.saturating_add(1).min(limit))
    }

    /// Whether the file was changed so shortly before `now` that another part of the change may follow.
    fn is_recent(self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let modified = i128::from(self.modified.0) * 1_000_000_000 + i128::from(self.modified.1);
        // (A change in the future was made before the clock was set back.)
        i128::try_from(now).unwrap_or(0).abs_diff(modified) < QUIET.as_nanos()
    }
}

/// Whether bytes are JSON of which no part could be missing, as it could of a number.
fn is_whole_json(bytes: &[u8]) -> bool {
    let is_closed_in_itself = matches!(bytes.trim_ascii_start(), [b'{' | b'[', ..]);
    is_closed_in_itself && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;
    use std::sync::mpsc::channel;

    use super::super::BYTE_BUDGET;
    use super::*;

    const USER: Trust = Trust::User(7);

    fn open(path: &Path) -> (File, Version) {
        let file = File::open(path).unwrap();
        let version = Version::new(&fstat(&file).unwrap());
        (file, version)
    }

    /// Replaces the content of a file in place, in two parts, and reads it in between. Returns the content read, unless
    /// the second part came so late that the file seemed to be whole.
    fn read_while_written(fs: &TrustedFs, path: &Path, parts: [&[u8]; 2]) -> Option<Vec<u8>> {
        let (sender, receiver) = channel();
        std::thread::scope(|scope| {
            let writer = scope.spawn(move || {
                let start = Instant::now();
                let mut file = File::create(path).unwrap();
                file.write_all(parts[0]).unwrap();
                sender.send(()).unwrap();
                std::thread::sleep(PAUSE);
                file.write_all(parts[1]).unwrap();
                start.elapsed() < QUIET / 2
            });
            receiver.recv().unwrap();
            fs.pauses.reset();
            let (file, version) = open(path);
            let read = fs.read_settled(&file, version, USER, 100);
            writer.join().unwrap().then(|| read.unwrap())
        })
    }

    #[test]
    fn a_file_that_is_written_meanwhile_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let fs = TrustedFs::new(dir.path().to_owned(), 0);
        // JSON is known to be whole at once; other text when nothing follows.
        let cases: [[&[u8]; 2]; 2] = [[b"{\"a\": 1, ", b"\"b\": 2}"], [b"a = 1\n", b"b = 2\n"]];
        for parts in cases {
            let path = dir.path().join("record");
            // (A writer that had to wait for a processor proves nothing.)
            let reads = (0..500).filter_map(|_| read_while_written(&fs, &path, parts));
            let reads: Vec<Vec<u8>> = reads.take(5).collect();
            assert_eq!(reads, vec![parts.concat(); 5]);
        }
    }

    #[test]
    fn only_a_change_of_this_moment_is_waited_for_and_not_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let fs = TrustedFs::new(dir.path().to_owned(), 0);
        let read = |text: &str, modified: Option<SystemTime>, owner: Trust| {
            std::fs::write(&path, text).unwrap();
            modified.inspect(|time| File::open(&path).unwrap().set_modified(*time).unwrap());
            let (file, version) = open(&path);
            let read = fs.read_settled(&file, version, owner, 10);
            read.inspect(|bytes| assert_eq!(bytes, text.as_bytes()))
        };
        let now = SystemTime::now();
        for time in [now - QUIET * 20, now + Duration::from_secs(3600)] {
            read("{\"a\":", Some(time), USER).unwrap();
        }
        read("{\"a\": 1}", None, USER).unwrap();
        assert!(fs.pauses.0.lock().unwrap().is_empty());
        let used_up = Paused { total: MAX_PAUSED, last: None };
        fs.pauses.0.lock().unwrap().insert(USER, used_up);
        // A part is not taken for the whole.
        let error = read("{\"a\":", None, USER).unwrap_err();
        assert_eq!(error, ReadError::Broken("it is being written".into()));
        // Another user's files have their own time, and so has the next search.
        read("{\"a\":", None, Trust::User(8)).unwrap();
        let _hold = fs.hold_dirs();
        read("{\"a\":", None, USER).unwrap();
        // Each reading is charged.
        fs.charge(USER, BYTE_BUDGET).unwrap_err();
        let error = read("{\"a\":", None, USER).unwrap_err();
        assert!(error.to_string().contains("too many or too large"), "{error}");
        // A database is compared by its reader.
        let (file, version) = open(&path);
        assert_eq!(read_once(&file, version, 10).unwrap(), b"{\"a\":");
    }
}
