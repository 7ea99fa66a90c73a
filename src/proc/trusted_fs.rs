//! The engines' files, read defensively. A record is worth what its path is worth: every directory
//! down to it and the file itself must be root's, or all that is not root's one user's; then it may
//! speak, of that user's processes. Links are followed only where root made them. Never a FIFO, a
//! device, a file over the limit, nor more of one user's than a purse allows, nor, once users' folders
//! are looked at, a file system that may keep us waiting.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat};

use super::host::read_into;
use super::{Host, ReadError};
use crate::model::mount::Mounts;

/// No engine's record of one container comes near this.
const MAX_FILE: usize = 4 << 20;
/// More entries than this in a directory of records are not read.
const MAX_ENTRIES: usize = 100_000;
/// What all records of one user may cost us, in bytes.
const PURSE: u64 = 32 << 20;
/// What looking for one file costs at least.
const STEP_COST: u64 = 4096;
/// And an entry of a directory.
const ENTRY_COST: u64 = 256;
const MAX_LINKS: usize = 40;

/// Whose word a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Only root could have written it.
    Root,
    /// This user could have.
    User(u32),
    /// More than one user could have, or anyone: not to be believed.
    Untrusted,
}

impl Trust {
    pub(super) fn of(uid: u32, root: u32) -> Self {
        if uid == root || uid == 0 { Self::Root } else { Self::User(uid) }
    }

    /// The owner of a path one step longer.
    #[must_use]
    pub fn and(self, next: Self) -> Self {
        match (self, next) {
            (Self::Root, other) | (other, Self::Root) => other,
            (one, other) if one == other => one,
            _ => Self::Untrusted,
        }
    }
}

/// A record as it was read.
#[derive(Debug)]
pub struct StateFile {
    /// Where, below the host's root.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Who could have written them.
    pub owner: Trust,
}

impl StateFile {
    /// Parses JSON, without ever quoting its content in an error. Depth is limited to 128.
    ///
    /// # Errors
    /// [`ReadError::ParseError`] with file and place.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, ReadError> {
        serde_json::from_slice(&self.bytes).map_err(|error| {
            let path = self.path.display();
            ReadError::Broken(format!(
                "`{path}` is not the JSON it should be (line {}, column {})",
                error.line(),
                error.column()
            ))
        })
    }
}

/// A directory of records, held open.
#[derive(Debug)]
pub struct StateDir<'a> {
    host: &'a Host,
    fd: OwnedFd,
    path: PathBuf,
    owner: Trust,
}

/// Where a walk has come to.
struct PathStep {
    fd: OwnedFd,
    owner: Trust,
    kind: FileType,
    /// In bytes.
    size: u64,
}

impl Host {
    /// Whose word a process of this user is.
    pub fn user(&self, uid: u32) -> Trust {
        Trust::of(uid, self.root_uid)
    }

    /// Opens a directory of an engine's records; `path` is absolute as on the host.
    ///
    /// # Errors
    /// [`ReadError::Gone`] when it is not there, [`ReadError::ParseError`] when its path is nobody's to
    /// trust.
    pub fn state_dir(&self, path: impl AsRef<Path>) -> Result<StateDir<'_>, ReadError> {
        let path = path.as_ref();
        let root = openat(CWD, self.root(), DIRECTORY, Mode::empty())?;
        let top = StateDir { host: self, fd: root, path: PathBuf::from("/"), owner: Trust::Root };
        let relative = path.strip_prefix("/").unwrap_or(path);
        if relative.as_os_str().is_empty() { Ok(top) } else { top.dir(relative) }
    }

    /// From now on no path of a record is followed onto a file system that may keep us waiting: to be
    /// called before users' folders are looked at.
    pub fn beware_of_remote(&self) {
        self.remote.get_or_init(|| {
            let bytes = std::fs::read(self.proc_path("self/mountinfo")).unwrap_or_default();
            Mounts::new(&bytes)
                .filter(|mount| may_wait(&mount.fstype))
                .map(|mount| PathBuf::from(std::ffi::OsStr::from_bytes(&mount.point)))
                .collect::<HashSet<PathBuf>>()
        });
    }

    /// Takes from the purse of the user whose files are looked at.
    fn charge(&self, owner: Trust, bytes: u64) -> Result<(), ReadError> {
        let Trust::User(uid) = owner else { return Ok(()) };
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = spent.entry(uid).or_default();
        *spent = spent.saturating_add(bytes);
        if *spent <= PURSE {
            return Ok(());
        }
        Err(ReadError::Broken(format!(
            "the records of user {uid} are too many or too large: not all of them were read"
        )))
    }

    /// Reads one record by its absolute path.
    ///
    /// # Errors
    /// As [`StateDir::read`].
    pub fn state_file(&self, path: impl AsRef<Path>) -> Result<StateFile, ReadError> {
        self.state_dir("/")?.read(path)
    }
}

const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);
const STEP: OFlags = OFlags::PATH.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// Whether a file system of this type answers from another machine or another process.
fn may_wait(fstype: &[u8]) -> bool {
    const REMOTE: &[&[u8]] = &[
        b"afs",
        b"autofs",
        b"ceph",
        b"cifs",
        b"davfs",
        b"fuse",
        b"fuseblk",
        b"glusterfs",
        b"lustre",
        b"ncpfs",
        b"nfs",
        b"nfs4",
        b"smb3",
        b"smbfs",
    ];
    REMOTE.contains(&fstype) || fstype.starts_with(b"fuse.")
}

impl StateDir<'_> {
    /// Its path as on the host.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A directory below it.
    ///
    /// # Errors
    /// As [`Host::state_dir`].
    pub fn dir(&self, below: impl AsRef<Path>) -> Result<Self, ReadError> {
        let PathStep { fd, owner, .. } = self.walk(below.as_ref(), FileType::Directory)?;
        let path = self.path.join(below.as_ref());
        Ok(Self { host: self.host, fd, path, owner })
    }

    /// Names of its entries, sorted.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::ParseError`] when there are more than anybody's records can be.
    pub fn names(&self) -> Result<Vec<String>, ReadError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(&self.fd, ".", flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(fd)? {
            let entry = entry?;
            let name = entry.file_name();
            self.host.charge(self.owner, ENTRY_COST)?;
            if names.len() == MAX_ENTRIES {
                return Err(ReadError::Broken(format!(
                    "`{}` has more than {MAX_ENTRIES} entries",
                    self.path.display()
                )));
            }
            if let Ok(name) = name.to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Reads a record below it.
    ///
    /// # Errors
    /// [`ReadError::Gone`], [`ReadError::Denied`], or [`ReadError::ParseError`] when it is not a regular
    /// file, too large, or nobody's to trust.
    pub fn read(&self, below: impl AsRef<Path>) -> Result<StateFile, ReadError> {
        let path = self.path.join(below.as_ref());
        let PathStep { fd, owner, size, .. } = self.walk(below.as_ref(), FileType::RegularFile)?;
        // The O_PATH descriptor is of a regular file; opening it again by descriptor cannot land
        // on anything else, nor block.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        let file = File::from(openat(CWD, again, flags, Mode::empty())?);
        let size = size.min(MAX_FILE as u64);
        self.host.charge(owner, size)?;
        // (Room for all of it and one byte more: two reads tell that it was all.)
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(MAX_FILE) + 1);
        read_into(file, &mut bytes, MAX_FILE + 1)?;
        if bytes.len() > MAX_FILE {
            let path = path.display();
            return Err(ReadError::Broken(format!("`{path}` is larger than any such record")));
        }
        Ok(StateFile { path, bytes, owner })
    }

    /// Follows `below` one name at a time, from this directory. Links that root made in root's
    /// directories are followed, from the host's root when they are absolute; others are refused.
    fn walk(&self, below: &Path, want: FileType) -> Result<PathStep, ReadError> {
        let refuse = |why: &str| {
            let path = self.path.join(below);
            Err(ReadError::Broken(format!("`{}` is not believed: {why}", path.display())))
        };
        self.host.charge(self.owner, STEP_COST)?;
        let mut todo: Vec<Vec<u8>> = parts(below.as_os_str().as_bytes());
        todo.reverse();
        // What was gone through from this directory on, which `..` may leave and come back to.
        let mut stack: Vec<PathStep> = Vec::new();
        let mut at = self.path.clone();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            let (dir, owner) = match stack.last() {
                Some(step) => (step.fd.as_fd(), step.owner),
                None => (self.fd.as_fd(), self.owner),
            };
            if part == b".." {
                if stack.pop().is_none() {
                    return refuse("it leads out of its folder");
                }
                at.pop();
                continue;
            }
            at.push(std::ffi::OsStr::from_bytes(&part));
            if self.host.remote.get().is_some_and(|remote| remote.contains(&at)) {
                return refuse("it lies on a file system that may keep us waiting");
            }
            let fd = openat(dir, part.as_slice(), STEP, Mode::empty())?;
            let stat = fstat(&fd)?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            let mut owner = owner.and(Trust::of(stat.st_uid, self.host.root_uid));
            if kind == FileType::Symlink {
                links += 1;
                if owner != Trust::Root || links > MAX_LINKS {
                    return refuse("it leads through a link that is not root's");
                }
                let to = readlinkat(&fd, c"", Vec::new())?;
                let to = to.as_bytes();
                at.pop();
                if to.starts_with(b"/") {
                    // Only a walk from the root can follow an absolute link.
                    if self.path != Path::new("/") {
                        return refuse("it leads through an absolute link");
                    }
                    stack.clear();
                    at = PathBuf::from("/");
                }
                todo.extend(parts(to).into_iter().rev());
                continue;
            }
            if anyone_may_replace(&stat, kind) {
                owner = Trust::Untrusted;
            }
            if owner == Trust::Untrusted {
                return refuse("others than its owner could have written it");
            }
            if !todo.is_empty() && kind != FileType::Directory {
                return Err(ReadError::Gone);
            }
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            stack.push(PathStep { fd, owner, kind, size });
        }
        match stack.pop() {
            Some(step) => {
                if step.kind == want {
                    return Ok(step);
                }
                refuse(if want == FileType::Directory {
                    "it is not a directory"
                } else {
                    "it is not a regular file"
                })
            }
            // It came back to where it began.
            None if want == FileType::Directory => {
                let (fd, kind) = (self.fd.try_clone()?, FileType::Directory);
                Ok(PathStep { fd, owner: self.owner, kind, size: 0 })
            }
            None => refuse("it is not a regular file"),
        }
    }
}

fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").map(<[u8]>::to_vec).collect()
}

/// Written by others than its owner. A sticky directory such as /tmp lets nobody replace what is
/// another's, and a group that may write to a directory is taken for the owner's own.
fn anyone_may_replace(stat: &Stat, kind: FileType) -> bool {
    let sticky = stat.st_mode & 0o1000 != 0 && kind == FileType::Directory;
    stat.st_mode & 0o002 != 0 && !sticky
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A recorded host in a folder of our own: its owner stands for root.
    fn host() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc/1")).unwrap();
        std::fs::create_dir_all(dir.path().join("run/eng")).unwrap();
        std::fs::write(dir.path().join("run/eng/a.json"), "[1]").unwrap();
        let host = Host::new(dir.path()).unwrap();
        (dir, host)
    }

    #[test]
    fn reads_a_plain_record() {
        let (_dir, host) = host();
        let file = host.state_file("/run/eng/a.json").unwrap();
        assert_eq!(file.owner, Trust::Root);
        assert_eq!(file.json::<Vec<i32>>().unwrap(), [1]);
        assert_eq!(host.state_file("/run/eng/none").unwrap_err(), ReadError::Gone);
    }

    #[test]
    fn follows_roots_links_below_the_hosts_root_and_never_above() {
        let (dir, host) = host();
        symlink("/run/eng", dir.path().join("abs")).unwrap();
        symlink("run/eng", dir.path().join("rel")).unwrap();
        symlink("../../../../../../etc/passwd", dir.path().join("out")).unwrap();
        assert!(host.state_file("/abs/a.json").is_ok());
        assert!(host.state_file("/rel/a.json").is_ok());
        assert!(host.state_file("/out").is_err());
    }

    #[test]
    fn refuses_what_is_no_regular_file_too_large_or_open_to_all() {
        let (dir, host) = host();
        let at = |name: &str| dir.path().join("run/eng").join(name);
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(at("open"), "1").unwrap();
        std::fs::set_permissions(at("open"), std::fs::Permissions::from_mode(0o666)).unwrap();
        File::create(at("huge")).unwrap().set_len(1 << 30).unwrap();
        std::fs::write(at("deep"), "[".repeat(100_000)).unwrap();
        for name in ["fifo", "open", "huge", "."] {
            let error = host.state_file(Path::new("/run/eng").join(name)).unwrap_err();
            assert!(matches!(error, ReadError::Broken(_)), "{name}: {error}");
        }
        let deep = host.state_file("/run/eng/deep").unwrap();
        assert!(matches!(deep.json::<serde_json::Value>(), Err(ReadError::Broken(_))));
    }

    #[test]
    fn a_path_is_one_users_word_at_most() {
        let (one, two) = (Trust::User(1000), Trust::User(1001));
        assert_eq!(Trust::Root.and(one), one);
        assert_eq!(one.and(Trust::Root), one);
        assert_eq!(one.and(two), Trust::Untrusted);
        assert_eq!(Trust::Untrusted.and(Trust::Untrusted), Trust::Untrusted);
    }
}
