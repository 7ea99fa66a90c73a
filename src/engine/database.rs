//! Engines' databases, SQLite and Bolt. The engine's file is never locked or written: a copy of its bytes
//! is parsed by a library, in a child process with the rights of the file's owner, because a user may have
//! written anything to it.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nut::{DB, DBBuilder};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, MAIN_DB};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::proc::{Host, ReadError, Trust};
use crate::sys::confine::confine;
use crate::sys::fd;
use crate::sys::isolated;

/// A container takes about 15 KiB.
const MAX_DATABASE: usize = 64 << 20;
const MAX_RESULT: usize = 16 << 20;
/// Memory of the child, for two copies and the result.
const MAX_MEMORY: u64 = 512 << 20;
const DEADLINE: Duration = Duration::from_secs(1);
/// How often a file is read again that changes while it is read, and the time in between.
const ATTEMPTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(5);
/// How long a result may be used.
const VALIDITY: Duration = Duration::from_millis(500);
/// The user that root's databases are parsed as: `nobody`.
const NOBODY: u32 = 65534;
/// Bolt's "no list of free pages" (bbolt, `PgidNoFreelist`): containerd leaves it out (`NoFreelistSync`).
const NO_FREE_LIST: u64 = u64::MAX;
/// The length of a page's header in Bolt.
const PAGE_HEADER: usize = 16;
/// The start of every database of SQLite (sqlite.org/fileformat.html).
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// A copy of a database, in the child process that parses it.
pub(super) struct DatabaseCopy {
    bytes: Vec<u8>,
    user: u32,
}

impl DatabaseCopy {
    /// Whether it is one of SQLite.
    pub(super) fn is_sqlite(&self) -> bool {
        self.bytes.starts_with(SQLITE_MAGIC)
    }

    /// Gives up rights and opens it in memory, as sqlite.org/security.html advises for a database of
    /// unknown origin. No file is opened.
    pub(super) fn sqlite(self) -> Option<Connection> {
        confine(self.user, MAX_MEMORY).ok()?;
        let mut database = Connection::open_in_memory().ok()?;
        for (setting, value) in [
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
            (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        ] {
            database.set_db_config(setting, value).ok()?;
        }
        let length = self.bytes.len();
        database.deserialize_read_exact(MAIN_DB, self.bytes.as_slice(), length, true).ok()?;
        Some(database)
    }

    /// Gives up rights and opens it as one of Bolt. The library maps a copy in anonymous memory.
    pub(super) fn bolt(self) -> Option<DB> {
        let mut copy = File::from(memfd_create("bolt", MFdFlags::MFD_CLOEXEC).ok()?);
        copy.write_all(&with_free_list(self.bytes)).ok()?;
        confine(self.user, MAX_MEMORY).ok()?;
        DBBuilder::new(fd::link(&copy)).read_only(true).build().ok()
    }
}

/// Adds an empty list of free pages to a Bolt database that has none, which the library cannot read. (Only a
/// writer needs the list, and could make it from the pages that are used.)
fn with_free_list(mut bytes: Vec<u8>) -> Vec<u8> {
    let size =
        bytes.get(24..28).and_then(|size| size.try_into().ok()).map_or(0, u32::from_le_bytes);
    let size = size as usize;
    if !(1 << 10..=1 << 16).contains(&size) || bytes.len() < 2 * size {
        return bytes;
    }
    // The header of a page: number, type, count, further pages. 0x10 is the type of the list.
    let number = bytes.len().div_ceil(size);
    let mut is_missing = false;
    for start in [PAGE_HEADER, size + PAGE_HEADER] {
        // The record about a transaction; the last number is the checksum of the others.
        let meta = &mut bytes[start..start + 64];
        let (fields, checksum) = meta.split_at_mut(56);
        if fields[32..40] == NO_FREE_LIST.to_le_bytes() && *checksum == fnv(fields).to_le_bytes() {
            is_missing = true;
            fields[32..40].copy_from_slice(&(number as u64).to_le_bytes());
            checksum.copy_from_slice(&fnv(fields).to_le_bytes());
        }
    }
    if is_missing {
        bytes.resize((number + 1) * size, 0);
        let header = &mut bytes[number * size..][..PAGE_HEADER];
        header[..8].copy_from_slice(&(number as u64).to_le_bytes());
        header[8] = 0x10;
    }
    bytes
}

/// Returns the FNV-1a hash, which is Bolt's checksum.
fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Results of readings, by root of the host, directory and owner, with the time of the reading. It is used for
/// all containers of one command, but not for the next refresh.
pub(super) struct DatabaseCache<T>(Mutex<Option<Cached<T>>>);

type Cached<T> = HashMap<(PathBuf, PathBuf, Trust), (Instant, Arc<T>)>;

impl<T> DatabaseCache<T> {
    /// Creates an empty cache.
    pub(super) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Returns a result of `read`: that of a recent call, or of a call now.
    pub(super) fn get(
        &self,
        host: &Host,
        directory: &Path,
        owner: Trust,
        read: impl FnOnce() -> T,
    ) -> Arc<T> {
        let key = (host.root().to_owned(), directory.to_owned(), owner);
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = cached.get_or_insert_default();
        if let Some((time, known)) = cached.get(&key)
            && time.elapsed() < VALIDITY
        {
            return Arc::clone(known);
        }
        let value = Arc::new(read());
        cached.insert(key, (Instant::now(), Arc::clone(&value)));
        value
    }
}

/// Reads a database below a directory in a child process, if it is the owner's or root's. `parse` opens
/// the copy before it does anything else.
pub(super) fn read<T: Serialize + DeserializeOwned>(
    host: &Host,
    directory: &Path,
    name: &str,
    owner: Trust,
    parse: impl FnOnce(DatabaseCopy) -> Option<T>,
) -> Option<T> {
    let (bytes, file_owner) = copy(host, directory, name)?;
    (file_owner.and(owner) == owner).then(|| parse_isolated(bytes, file_owner, parse))?
}

/// Reads a file until two readings in a row are equal: then none of it changed in between. A transaction
/// of SQLite that is being written has a journal; Bolt never changes a page of the last transaction.
fn copy(host: &Host, directory: &Path, name: &str) -> Option<(Vec<u8>, Trust)> {
    let dir = host.state_dir(directory).ok()?;
    let read = || dir.read_up_to(name, MAX_DATABASE).ok();
    let is_journaled = || {
        ["-journal", "-wal"].iter().any(|suffix| {
            match dir.read_up_to(format!("{name}{suffix}"), 1) {
                Ok(file) => !file.bytes.is_empty(),
                Err(error) => error != ReadError::Gone,
            }
        })
    };
    let mut last = read()?;
    for _ in 0..ATTEMPTS {
        let file = read()?;
        if file.bytes == last.bytes && !is_journaled() {
            return Some((file.bytes, file.owner));
        }
        last = file;
        std::thread::sleep(PAUSE);
    }
    None
}

/// Parses a database in a child process that has only the rights of its owner.
pub(super) fn parse_isolated<T: Serialize + DeserializeOwned>(
    bytes: Vec<u8>,
    owner: Trust,
    parse: impl FnOnce(DatabaseCopy) -> Option<T>,
) -> Option<T> {
    let user = match owner {
        Trust::Root => NOBODY,
        Trust::User(uid) => uid,
        Trust::Untrusted => return None,
    };
    let work = || serde_json::to_vec(&parse(DatabaseCopy { bytes, user })).unwrap_or_default();
    let result = isolated::start(work).ok()?.finish(Instant::now() + DEADLINE, MAX_RESULT)?;
    serde_json::from_slice(&result).ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a database of Bolt with one bucket, `v1`, as containerd leaves it: without a list of free pages.
    fn without_free_list() -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.db");
        let mut database = nut::DBBuilder::new(&path).build().unwrap();
        {
            let mut transaction = database.begin_rw_tx().unwrap();
            let _ = transaction.create_bucket(b"v1").unwrap();
            transaction.commit().unwrap();
        }
        drop(database);
        let mut bytes = std::fs::read(path).unwrap();
        for start in [16, 4096 + 16] {
            let (fields, checksum) = bytes[start..start + 64].split_at_mut(56);
            assert_eq!(*checksum, fnv(fields).to_le_bytes());
            fields[32..40].fill(0xff);
            checksum.copy_from_slice(&fnv(fields).to_le_bytes());
        }
        bytes
    }

    fn buckets(copy: DatabaseCopy) -> Option<Vec<Vec<u8>>> {
        let database = copy.bolt()?;
        Some(database.begin_tx().ok()?.buckets())
    }

    #[test]
    fn a_bolt_database_without_a_list_of_free_pages_is_read() {
        let bytes = without_free_list();
        // Not whole pages, as a file may be copied while it grows.
        let longer = [bytes.as_slice(), &[0; 100]].concat();
        for bytes in [bytes, longer] {
            assert_eq!(parse_isolated(bytes, Trust::Root, buckets), Some(vec![b"v1".to_vec()]));
        }
    }

    #[test]
    fn a_list_is_added_to_a_valid_record_only() {
        let whole = without_free_list();
        for (place, value) in [(24, 0xff), (16 + 40, 1), (16 + 60, 1)] {
            let mut bytes = whole[..4096].to_vec();
            bytes.extend_from_slice(&bytes.clone());
            bytes[place] ^= value;
            bytes[4096 + place] ^= value;
            assert_eq!(with_free_list(bytes.clone()), bytes);
        }
        for length in [0, 27, 4096, 8191] {
            assert_eq!(with_free_list(whole[..length].to_vec()), whole[..length]);
        }
    }

    #[test]
    fn a_parser_that_panics_has_read_nothing() {
        let parse = |_: DatabaseCopy| -> Option<u8> { panic!("broken") };
        assert_eq!(parse_isolated(Vec::new(), Trust::Root, parse), None);
    }
}
