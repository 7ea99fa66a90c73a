//! Reading a record that its engine may be writing at the moment: some replace the content in place, and a part
//! of a record could name no container, or look as if it were of another one.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::stat::{FileStat, fstat};
use serde::de::IgnoredAny;

use crate::proc::read::{ReadError, read_at_once};
use crate::proc::trust::Trust;

/// Time without a change after which a file is not being written. (The time of a change is that of the kernel's
/// last tick, up to 10 ms before.)
const QUIET: Duration = Duration::from_millis(50);
/// Time until a file that is being written is read again.
const PAUSE: Duration = Duration::from_millis(3);
/// The most pauses in one run for root's files, and for those of all other users.
const MAX_PAUSES: u32 = 60;

/// The pauses for files that were being written, so far.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    of_root: AtomicU32,
    of_users: AtomicU32,
}

impl Pauses {
    /// Pauses, unless that was done too often for files of this owner.
    fn pause(&self, owner: Trust) -> bool {
        let count = if owner == Trust::Root { &self.of_root } else { &self.of_users };
        let may_pause = count.fetch_add(1, Ordering::Relaxed) < MAX_PAUSES;
        if may_pause {
            std::thread::sleep(PAUSE);
        }
        may_pause
    }

    /// Reads at most `limit` bytes of a file, which had this version when it was opened: again, for a
    /// limited time, if it is being written.
    pub(super) fn read_settled(
        &self,
        file: &File,
        mut version: Version,
        owner: Trust,
        limit: usize,
    ) -> Result<Vec<u8>, ReadError> {
        // (Room for all of it and one byte more: a read that does not fill it has come to the end.)
        let size = usize::try_from(version.size).unwrap_or(limit);
        let mut bytes = Vec::with_capacity(size.saturating_add(1).min(limit));
        loop {
            // (Before it is read: afterwards this thread may wait for a processor, as the writer may.)
            let now = SystemTime::now();
            read_at_once(file, &mut bytes, limit)?;
            let after = Version::new(&fstat(file)?);
            let is_settled = after == version && (!after.is_recent(now) || is_whole_json(&bytes));
            if is_settled || !self.pause(owner) {
                return Ok(bytes);
            }
            version = Version::new(&fstat(file)?);
            let mut file = file;
            file.seek(SeekFrom::Start(0))?;
        }
    }
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
    use std::sync::atomic::AtomicBool;
    use std::time::Instant;

    use super::*;

    fn open(path: &Path) -> (File, Version) {
        let file = File::open(path).unwrap();
        let version = Version::new(&fstat(&file).unwrap());
        (file, version)
    }

    /// Replaces the content of a file in place again and again, in two parts, until `is_over`. Returns whether it
    /// was never left unfinished for long.
    fn rewrite(path: &Path, parts: [&[u8]; 2], rest: Duration, is_over: &AtomicBool) -> bool {
        let mut is_steady = true;
        while !is_over.load(Ordering::Relaxed) {
            let start = Instant::now();
            let mut file = File::create(path).unwrap();
            for part in parts {
                std::thread::sleep(PAUSE / 2);
                file.write_all(part).unwrap();
            }
            is_steady &= start.elapsed() < QUIET / 2;
            std::thread::sleep(rest);
        }
        is_steady
    }

    #[test]
    fn a_file_that_is_written_meanwhile_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        // JSON is known to be whole, however often it is written; other text where nothing follows.
        let cases: [([&[u8]; 2], Duration); 2] =
            [([b"{\"a\": 1, ", b"\"b\": 2}"], PAUSE), ([b"a = 1\n", b"b = 2\n"], QUIET * 2)];
        for (number, (parts, rest)) in cases.into_iter().enumerate() {
            let path = dir.path().join(number.to_string());
            std::fs::write(&path, parts.concat()).unwrap();
            let is_over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let writer = scope.spawn(|| rewrite(&path, parts, rest, &is_over));
                let is_whole = (0..50).all(|_| {
                    let (file, version) = open(&path);
                    let read = Pauses::default().read_settled(&file, version, Trust::Root, 100);
                    read.unwrap() == parts.concat()
                });
                is_over.store(true, Ordering::Relaxed);
                // (A writer that had to wait for a processor proves nothing.)
                assert!(!writer.join().unwrap() || is_whole, "{number}");
            });
        }
    }

    #[test]
    fn only_a_change_of_this_moment_is_waited_for_and_not_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let pauses = Pauses::default();
        let pauses_after = |modified: Option<SystemTime>, text: &str| {
            std::fs::write(&path, text).unwrap();
            let (file, _) = open(&path);
            modified.inspect(|time| file.set_modified(*time).unwrap());
            let (file, version) = open(&path);
            let read = pauses.read_settled(&file, version, Trust::User(7), 10);
            assert_eq!(read.unwrap(), text.as_bytes());
            pauses.of_users.load(Ordering::Relaxed)
        };
        let now = SystemTime::now();
        for time in [now - QUIET * 20, now + Duration::from_secs(3600)] {
            assert_eq!(pauses_after(Some(time), "{\"a\":"), 0);
        }
        assert_eq!(pauses_after(None, "{\"a\": 1}"), 0);
        pauses.of_users.store(MAX_PAUSES, Ordering::Relaxed);
        assert_eq!(pauses_after(None, "{\"a\":"), MAX_PAUSES + 1);
        assert_eq!(pauses.of_root.load(Ordering::Relaxed), 0);
    }
}
