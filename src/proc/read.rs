//! Reading files of `/proc` and of the cgroup tree: bounded, through held descriptors, and with an error
//! by which the fact is denied, gone or broken. Nothing here follows a path of a container.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::time::{ClockId, clock_gettime};
use procfs::process::Process as Handle;

use crate::model::bytes::ParseError;
use crate::model::namespace::NamespaceId;
use crate::model::stat::Stat;
use crate::model::status::Status;
use crate::sys::{process_dir, shortage};

/// Reason why a fact could not be read. The variants are never mixed: only `Gone` removes a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The process or file no longer exists (ENOENT, ESRCH).
    #[error("gone")]
    Gone,
    /// Reading it needs more privileges (EACCES, EPERM).
    #[error("permission denied")]
    Denied,
    /// This process has too many open files (EMFILE, ENFILE), which is not evidence about the fact.
    #[error("too many open files")]
    Exhausted,
    /// It cannot be read or parsed; the text has the reason, without its content.
    #[error("{0}")]
    Broken(String),
}

impl From<std::io::Error> for ReadError {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Errno::from_raw(errno).into(),
            None => Self::Broken(error.to_string()),
        }
    }
}

impl From<Errno> for ReadError {
    fn from(errno: Errno) -> Self {
        // (EAGAIN is an answer of files that do not block.)
        if errno != Errno::EAGAIN {
            shortage::note(errno);
        }
        match errno {
            Errno::ENOENT | Errno::ESRCH | Errno::ENOTDIR => Self::Gone,
            Errno::EACCES | Errno::EPERM => Self::Denied,
            Errno::EMFILE | Errno::ENFILE => Self::Exhausted,
            _ => Self::Broken(errno.desc().to_owned()),
        }
    }
}

impl From<procfs::ProcError> for ReadError {
    fn from(error: procfs::ProcError) -> Self {
        match error {
            procfs::ProcError::NotFound(_) => Self::Gone,
            procfs::ProcError::PermissionDenied(_) => Self::Denied,
            procfs::ProcError::Io(error, _) => error.into(),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<ParseError> for ReadError {
    fn from(error: ParseError) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Processor time that one file may take. (A container decides the time for a line of `mountinfo`: it grows with
/// the mounts that are stacked on one mount point, `prepend_path`, fs/d_path.c.)
const MOST_TIME: Duration = Duration::from_secs(2);
/// Size up to which no file takes that long.
const SMALL: usize = 1 << 16;

/// Reads a file of `/proc` or of the cgroup tree to its end, at most `limit` bytes. `buffer` then has the
/// file alone; its capacity is used again.
///
/// # Errors
/// [`ReadError`]; [`ReadError::Gone`] if the process exits meanwhile.
pub(super) fn read_into(file: File, buffer: &mut Vec<u8>, limit: usize) -> Result<(), ReadError> {
    read(file, buffer, limit, false)
}

/// Reads a file that the kernel writes in one piece (`stat`, `status`, `cmdline`): a read that does not
/// fill the buffer was the whole of it, which saves a second one.
///
/// # Errors
/// As [`read_into`].
pub(super) fn read_at_once(
    file: impl Read,
    buffer: &mut Vec<u8>,
    limit: usize,
) -> Result<(), ReadError> {
    read(file, buffer, limit, true)
}

fn read(
    mut file: impl Read,
    buffer: &mut Vec<u8>,
    limit: usize,
    at_once: bool,
) -> Result<(), ReadError> {
    // (Its old content is overwritten, or cut off in the end.)
    buffer.resize(buffer.capacity().max(4096).min(limit.max(1)), 0);
    let mut filled = 0;
    let mut start = None;
    loop {
        if filled >= SMALL
            && *start.get_or_insert_with(processor_time) + MOST_TIME < processor_time()
        {
            buffer.truncate(filled);
            return Err(ReadError::Broken("reading it takes too long".into()));
        }
        if filled == buffer.len() {
            if filled >= limit {
                break;
            }
            buffer.resize((filled * 2).min(limit), 0);
        }
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => {
                filled += n;
                if at_once && filled < buffer.len() {
                    break;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                buffer.truncate(filled);
                return Err(error.into());
            }
        }
    }
    buffer.truncate(filled);
    Ok(())
}

/// Returns the processor time of this thread: that of the kernel in its calls counts, and waiting does not.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Limit of `stat`.
pub(super) const STAT_LIMIT: usize = 1 << 14;
/// Limit of `status`: the supplementary groups may be 65536 (NGROUPS_MAX) numbers of ten digits.
pub(super) const STATUS_LIMIT: usize = 1 << 20;

/// Reads `stat` of a held process.
pub(super) fn stat(handle: &Handle, buffer: &mut Vec<u8>) -> Result<Stat, ReadError> {
    read_at_once(handle.open_relative("stat")?, buffer, STAT_LIMIT)?;
    Ok(Stat::parse(buffer)?)
}

/// Reads `status` of a held process, or `task/TID/status` of one of its threads.
pub(super) fn status(
    handle: &Handle,
    file: &str,
    buffer: &mut Vec<u8>,
) -> Result<Status, ReadError> {
    read_at_once(handle.open_relative(file)?, buffer, STATUS_LIMIT)?;
    Ok(Status::parse(buffer)?)
}

/// Reads which namespace a held process is in. A process whose main thread has exited while others run
/// is a zombie without namespaces; its threads have them.
pub(super) fn namespace(handle: &Handle, ns: &str) -> Result<NamespaceId, ReadError> {
    match namespace_link(handle, &format!("ns/{ns}")) {
        Err(ReadError::Gone) => {}
        other => return other,
    }
    for tid in thread_ids(handle)? {
        if let Ok(found) = namespace_link(handle, &format!("task/{tid}/ns/{ns}")) {
            return Ok(found);
        }
    }
    Err(ReadError::Gone)
}

fn namespace_link(handle: &Handle, path: &str) -> Result<NamespaceId, ReadError> {
    // procfs's handle opens files, but has no readlinkat.
    let target = readlinkat(process_dir::open_link(handle, path)?, "")?;
    NamespaceId::parse(target.as_bytes())
        .ok_or_else(|| ReadError::Broken("a namespace link is not in the known form".into()))
}

/// Lists the TIDs of a held process, in numeric order.
pub(super) fn thread_ids(handle: &Handle) -> Result<Vec<i32>, ReadError> {
    let mut ids = Vec::new();
    for entry in Dir::from_fd(process_dir::open_listing(handle, "task")?)?.iter() {
        ids.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()));
    }
    ids.sort_unstable();
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(content: &[u8], limit: usize, at_once: bool) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, content).unwrap();
        let mut buffer = b"left over".to_vec();
        read(File::open(path).unwrap(), &mut buffer, limit, at_once).unwrap();
        buffer
    }

    #[test]
    fn reads_to_the_end_or_the_limit() {
        let content: Vec<u8> = (0..20_000).map(|n| n as u8).collect();
        for at_once in [false, true] {
            assert_eq!(bytes_of(&content, 1 << 20, at_once), content);
            assert_eq!(bytes_of(&content, 5000, at_once), content[..5000]);
            assert_eq!(bytes_of(b"", 10, at_once), b"");
        }
    }

    #[test]
    fn only_a_missing_file_is_gone() {
        assert_eq!(ReadError::from(Errno::ENOENT), ReadError::Gone);
        assert_eq!(ReadError::from(std::io::Error::from(Errno::EPERM)), ReadError::Denied);
        assert_eq!(ReadError::from(Errno::EMFILE), ReadError::Exhausted);
        assert_eq!(ReadError::from(Errno::EIO).to_string(), "I/O error");
    }
}
