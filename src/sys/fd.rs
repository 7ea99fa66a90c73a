//! Descriptors: opening by a name below one, opening one again, its mount and its type, listing a
//! directory, and waiting for events. Nothing here creates or changes a file.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::NixPath;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::stat::{FileStat, Mode, SFlag};
use nix::sys::time::TimeSpec;

/// Opens a path relative to a directory, close-on-exec. Creates nothing.
///
/// # Errors
/// As openat(2).
pub fn open_at<P: NixPath + ?Sized>(
    dir: impl AsFd,
    path: &P,
    flags: OFlag,
) -> Result<OwnedFd, Errno> {
    openat(dir, path, flags | OFlag::O_CLOEXEC, Mode::empty())
}

/// Opens a path, close-on-exec. Creates nothing.
///
/// # Errors
/// As open(2).
pub fn open<P: NixPath + ?Sized>(path: &P, flags: OFlag) -> Result<OwnedFd, Errno> {
    open_at(AT_FDCWD, path, flags)
}

/// Opens the file of a descriptor again, with other flags: one that was opened with `O_PATH` becomes
/// readable, and no other file can take its place (proc_pid_fd(5)).
///
/// # Errors
/// As open(2); ENOENT as well where `/proc` is not mounted.
pub fn reopen(fd: impl AsFd, flags: OFlag) -> Result<OwnedFd, Errno> {
    open(link(fd).as_str(), flags)
}

/// Returns the path that leads to the file of a descriptor, whatever its name is now: a link that calls
/// without a form for descriptors follow (proc_pid_fd(5)).
pub fn link(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Returns the mount that a file is on, as `mountinfo` numbers it (proc_pid_fdinfo(5), since Linux 3.15).
/// Reads from the kernel alone: fstatfs(2) would be a request to the file system, which may not answer.
pub fn mount_id(fd: impl AsFd) -> Option<u32> {
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    // It is in the first lines; the kernel writes them in one piece.
    let mut info = [0; 256];
    let length = File::open(path).and_then(|mut file| file.read(&mut info)).ok()?;
    let info = std::str::from_utf8(&info[..length]).ok()?;
    info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

/// Returns the type of a file.
pub fn file_type(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// Opens a directory for listing, by a descriptor of any kind. `.` and `..` are among the entries.
///
/// # Errors
/// As openat(2): EACCES without the right to read it.
pub fn list(dir: impl AsFd) -> Result<Dir, Errno> {
    Dir::from_fd(open_at(dir, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY)?)
}

/// Waits until one of the descriptors has an event, at most `timeout` if there is one, and returns how
/// many have.
///
/// # Errors
/// As ppoll(2), EINTR included: the caller checks its clock and calls again.
pub fn poll(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> Result<usize, Errno> {
    // The kernel's time_t may have 32 bits.
    let longest = Duration::from_secs(i32::MAX.unsigned_abs().into());
    let timeout = timeout.map(|timeout| TimeSpec::from(timeout.min(longest)));
    ppoll(fds, timeout, None).map(|count| usize::try_from(count).unwrap_or(0))
}

/// Whether nothing reads from a pipe any more, given the end that is written to (poll(2), POLLERR).
pub fn has_no_reader(pipe: impl AsFd) -> bool {
    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
    let is_ready = ppoll(&mut fds, Some(TimeSpec::new(0, 0)), None).is_ok_and(|count| count > 0);
    is_ready && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
}

/// Calls `op` until it does not fail because a non-blocking descriptor is not ready.
///
/// # Errors
/// As `op` and ppoll(2).
pub fn when_ready<F: AsFd, T>(
    file: &mut F,
    events: PollFlags,
    mut op: impl FnMut(&mut F) -> io::Result<T>,
) -> io::Result<T> {
    loop {
        match op(file) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        match poll(&mut [PollFd::new(file.as_fd(), events)], None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_path_descriptor_is_opened_for_reading() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "text").unwrap();
        let root = open(dir.path(), OFlag::O_PATH | OFlag::O_DIRECTORY).unwrap();
        let path_fd = open_at(&root, "file", OFlag::O_PATH).unwrap();
        std::fs::rename(dir.path().join("file"), dir.path().join("other")).unwrap();
        let again = std::fs::File::from(reopen(&path_fd, OFlag::O_RDONLY).unwrap());
        assert_eq!(std::io::read_to_string(again).unwrap(), "text");
        assert_eq!(mount_id(&path_fd), mount_id(&root));
        assert!(mount_id(&path_fd).is_some());
    }

    #[test]
    fn lists_a_directory_opened_by_path() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "").unwrap();
        let path_fd = open(dir.path(), OFlag::O_PATH | OFlag::O_DIRECTORY).unwrap();
        let mut listed = list(&path_fd).unwrap();
        let names = listed.iter().map(|entry| entry.unwrap().file_name().to_bytes().to_vec());
        let mut names: Vec<_> = names.collect();
        names.sort();
        assert_eq!(names, [&b"."[..], b"..", b"a"]);
    }

    #[test]
    fn poll_reports_events_and_timeouts() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, Some(Duration::ZERO)), Ok(0));
        writer.write_all(b"x").unwrap();
        assert_eq!(poll(&mut fds, Some(Duration::MAX)), Ok(1));
        assert_eq!(poll(&mut fds, None), Ok(1));
    }
}
