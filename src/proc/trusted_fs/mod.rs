//! The engines' files, read defensively. A record is trusted only as far as its path: every directory
//! down to it and the file itself must belong to root, or all those that do not to one user; then it counts
//! for that user's processes. Links are followed only where root made them. Never reads a FIFO, a
//! device, a file over the limit, more of one user's files than a budget, nor, once users' directories
//! are searched, a network file system.

mod held;
mod open;
mod settle;
mod walk;

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;

use super::read::ReadError;
use super::trust::Trust;
use crate::sys::fd;
use crate::sys::listing::each_entry;
pub use held::DirHold;
use held::{HeldDir, HeldDirs, Known};
use open::OpenedFile;
use settle::{Pauses, read_once};
use walk::{PathStep, PathWalk};

/// No engine's record of one container comes near this size.
const MAX_FILE: usize = 4 << 20;
/// Entries of a directory of records, beyond which it is not read.
const MAX_ENTRIES: usize = 100_000;
/// Bytes that the records of one user may take.
const BYTE_BUDGET: u64 = 32 << 20;
/// Charge against the budget for looking up a file, at least.
const LOOKUP_COST: u64 = 4096;
/// Charge for an entry of a directory.
const ENTRY_COST: u64 = 256;

/// A record with its bytes.
#[derive(Debug)]
pub struct StateFile {
    /// Path below the host's root.
    pub path: PathBuf,
    /// Content.
    pub bytes: Vec<u8>,
    /// The user who could have written it.
    pub owner: Trust,
    /// The first directory above a file of root's that is not: the reason why the file is not trusted.
    pub users_path: Option<PathBuf>,
}

impl StateFile {
    /// Parses JSON, without ever quoting its content in an error. Depth is limited to 128.
    ///
    /// # Errors
    /// [`ReadError::Broken`] with file and position.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, ReadError> {
        serde_json::from_slice(&self.bytes).map_err(|error| {
            let path = self.path.display();
            ReadError::Broken(format!(
                "`{path}` is not the expected JSON (line {}, column {})",
                error.line(),
                error.column()
            ))
        })
    }
}

/// The host's file system as engines' records are read from it.
#[derive(Debug)]
pub(super) struct TrustedFs {
    root: PathBuf,
    /// That directory as mount points name it.
    mounted_root: OnceLock<PathBuf>,
    /// The user who counts as root.
    root_uid: u32,
    /// Mount points of network file systems; known once users' directories are searched.
    network_mounts: OnceLock<HashSet<PathBuf>>,
    /// Bytes charged to each user.
    charged: Mutex<HashMap<u32, u64>>,
    pauses: Pauses,
    held: HeldDirs,
}

impl TrustedFs {
    pub(super) fn new(root: PathBuf, root_uid: u32) -> Self {
        Self {
            root,
            mounted_root: OnceLock::new(),
            root_uid,
            network_mounts: OnceLock::new(),
            charged: Mutex::default(),
            pauses: Pauses::default(),
            held: HeldDirs::default(),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn trust_of_user(&self, uid: u32) -> Trust {
        Trust::of_user(uid, self.root_uid)
    }

    pub(super) fn dir(&self, path: &Path) -> Result<StateDir<'_>, ReadError> {
        let path = Path::new("/").join(path);
        if path.components().any(|part| part == Component::ParentDir) {
            let top = self.top()?;
            return top.dir(path.strip_prefix("/").unwrap_or(&path));
        }
        let start = match self.held.known(&path) {
            Known::Whole(known) => return known.map(|dir| self.state_dir(path, dir)),
            Known::Above(above, dir) => self.state_dir(above, dir),
            Known::Nothing => self.top()?,
        };
        let below = |start: &StateDir<'_>| -> PathBuf {
            path.strip_prefix(&start.path).unwrap_or(&path).components().collect()
        };
        let found = match PathWalk::follow_to_dir(&start, &below(&start)) {
            Some(found) => found,
            None => {
                let top = self.top()?;
                let found = PathWalk::follow_to_dir(&top, &below(&top));
                found.unwrap_or(Err(ReadError::Gone))
            }
        };
        self.held.keep(path.clone(), found.clone());
        found.map(|dir| self.state_dir(path, dir))
    }

    /// Opens the root directory of the host.
    fn top(&self) -> Result<StateDir<'_>, ReadError> {
        let path = PathBuf::from("/");
        let dir = match self.held.known(&path) {
            Known::Whole(known) => known?,
            _ => {
                let fd = Arc::new(fd::open(&self.root, DIRECTORY)?);
                let dir = HeldDir { fd, owner: Trust::Root, users_path: None, is_plain: true };
                self.held.keep(path.clone(), Ok(dir.clone()));
                dir
            }
        };
        Ok(self.state_dir(path, dir))
    }

    fn state_dir(&self, path: PathBuf, dir: HeldDir) -> StateDir<'_> {
        let HeldDir { fd, owner, users_path, .. } = dir;
        StateDir { fs: self, fd, path, owner, users_path }
    }

    /// Follows no path onto a network file system from now on. The argument visits the point and the type of
    /// each mount, and is called once.
    pub(super) fn skip_network_mounts(&self, visit: impl FnOnce(&mut dyn FnMut(&[u8], &[u8]))) {
        self.network_mounts.get_or_init(|| {
            self.held.forget();
            let mut found = HashSet::new();
            visit(&mut |point, fstype| {
                if is_network(fstype) {
                    found.extend(self.path_on_host(point));
                }
            });
            found
        });
    }

    /// Returns the path on the host of a mount point as this program has it; none outside of the host's root.
    pub(super) fn path_on_host(&self, point: &[u8]) -> Option<PathBuf> {
        // (The kernel shows absolute paths without links.)
        let root = self.mounted_root.get_or_init(|| match self.root == Path::new("/") {
            true => self.root.clone(),
            false => self.root.canonicalize().unwrap_or_else(|_| self.root.clone()),
        });
        let below = Path::new(OsStr::from_bytes(point)).strip_prefix(root).ok()?;
        Some(Path::new("/").join(below))
    }

    /// Charges bytes to the owner of a file, and fails if that exceeds the budget.
    fn charge(&self, owner: Trust, bytes: u64) -> Result<(), ReadError> {
        let Trust::User(uid) = owner else { return Ok(()) };
        let mut charged = self.charged.lock().unwrap_or_else(PoisonError::into_inner);
        let charged = charged.entry(uid).or_default();
        *charged = charged.saturating_add(bytes);
        if *charged <= BYTE_BUDGET {
            return Ok(());
        }
        Err(ReadError::Broken(format!(
            "the records of user {uid} are too many or too large: not all of them were read"
        )))
    }
}

/// Names the path in an error of the kernel, which does not.
fn named(path: &Path, error: ReadError) -> ReadError {
    let error = match error {
        ReadError::Broken(why) if !why.contains('`') => why,
        ReadError::Exhausted => ReadError::Exhausted.to_string(),
        other => return other,
    };
    ReadError::Broken(format!("cannot read `{}`: {error}", path.display()))
}

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW);

/// Whether a file system of this type depends on another machine or process, and may not answer.
fn is_network(fstype: &[u8]) -> bool {
    const TYPES: &[&[u8]] = &[
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
    TYPES.contains(&fstype) || fstype.starts_with(b"fuse.")
}

/// A directory of records, held open.
#[derive(Debug)]
pub struct StateDir<'a> {
    fs: &'a TrustedFs,
    pub(super) fd: Arc<OwnedFd>,
    pub(super) path: PathBuf,
    pub(super) owner: Trust,
    /// The first directory on its path that is not root's.
    users_path: Option<PathBuf>,
}

impl StateDir<'_> {
    /// Returns its path on the host.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a directory below it.
    ///
    /// # Errors
    /// As [`super::Host::state_dir`].
    pub fn dir(&self, below: impl AsRef<Path>) -> Result<Self, ReadError> {
        let path = self.path.join(below.as_ref());
        let found =
            self.walk(below.as_ref(), SFlag::S_IFDIR).map_err(|error| named(&path, error))?;
        let PathStep { fd, owner, users_path, .. } = found;
        Ok(Self { fs: self.fs, fd, path, owner, users_path })
    }

    /// Lists the names of its entries, sorted. Names that are not UTF-8 are left out.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::Broken`] if there are too many.
    pub fn names(&self) -> Result<Vec<String>, ReadError> {
        let mut names = Vec::new();
        let dir = fd::open_at(&self.fd, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        each_entry(dir, |name, _| {
            self.fs.charge(self.owner, ENTRY_COST)?;
            if names.len() == MAX_ENTRIES {
                return Err(ReadError::Broken(format!(
                    "`{}` has more than {MAX_ENTRIES} entries",
                    self.path.display()
                )));
            }
            names.extend(name.to_str().ok().map(str::to_owned));
            Ok(())
        })?;
        names.sort();
        Ok(names)
    }

    /// Reads a record below it.
    ///
    /// # Errors
    /// [`ReadError::Gone`], [`ReadError::Denied`], or [`ReadError::Broken`] if it is not a regular file,
    /// too large, or not trusted.
    pub fn read(&self, below: impl AsRef<Path>) -> Result<StateFile, ReadError> {
        self.read_with(below.as_ref(), MAX_FILE, |opened, limit| {
            self.fs.read_settled(&opened.file, opened.version, opened.owner, limit)
        })
    }

    /// Reads a file below it that may have another size than a record, once: whether it is being written, the caller
    /// checks.
    ///
    /// # Errors
    /// As [`StateDir::read`].
    pub fn read_up_to(
        &self,
        below: impl AsRef<Path>,
        limit: usize,
    ) -> Result<StateFile, ReadError> {
        self.read_with(below.as_ref(), limit, |opened, limit| {
            read_once(&opened.file, opened.version, limit)
        })
    }

    fn read_with(
        &self,
        below: &Path,
        limit: usize,
        read: impl FnOnce(&OpenedFile, usize) -> Result<Vec<u8>, ReadError>,
    ) -> Result<StateFile, ReadError> {
        let path = self.path.join(below);
        let found = self.open_regular(below).map_err(|error| named(&path, error))?;
        self.fs.charge(found.owner, found.size.min(limit as u64))?;
        let bytes = read(&found, limit + 1).map_err(|error| named(&path, error))?;
        if bytes.len() > limit {
            return Err(ReadError::Broken(format!(
                "`{}` is larger than any record of an engine",
                path.display()
            )));
        }
        Ok(StateFile { path, bytes, owner: found.owner, users_path: found.users_path })
    }

    /// Opens a file below it, of any size, and returns the user who could have written it.
    ///
    /// # Errors
    /// As [`StateDir::read`].
    pub fn open(&self, below: impl AsRef<Path>) -> Result<(File, Trust), ReadError> {
        let found = self.open_regular(below.as_ref())?;
        Ok((found.file, found.owner))
    }

    fn open_regular(&self, below: &Path) -> Result<OpenedFile, ReadError> {
        if let Some(opened) = self.open_at_once(below) {
            return opened;
        }
        let found = self.walk(below, SFlag::S_IFREG)?;
        // The O_PATH descriptor is of a regular file; opening it again by descriptor cannot land on
        // anything else, nor block.
        let file = File::from(fd::reopen(&found.fd, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
        let users_path = found.users_path.filter(|_| found.is_roots);
        let PathStep { owner, size, version, .. } = found;
        Ok(OpenedFile { file, owner, users_path, size, version })
    }

    /// Follows `below` from this directory to a file of this type.
    fn walk(&self, below: &Path, kind: SFlag) -> Result<PathStep, ReadError> {
        self.fs.charge(self.owner, LOOKUP_COST)?;
        PathWalk::follow_to(self, below, kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    /// Creates the file system of a recorded host; the owner of its directory counts as root.
    fn recorded() -> (tempfile::TempDir, TrustedFs) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("run/eng")).unwrap();
        std::fs::write(dir.path().join("run/eng/a.json"), "[1]").unwrap();
        let uid = std::fs::metadata(dir.path()).unwrap().uid();
        let fs = TrustedFs::new(dir.path().to_owned(), uid);
        (dir, fs)
    }

    fn read(fs: &TrustedFs, path: &str) -> Result<StateFile, ReadError> {
        fs.dir(Path::new("/")).unwrap().read(path.trim_start_matches('/'))
    }

    #[test]
    fn reads_a_plain_record() {
        let (_dir, fs) = recorded();
        let file = read(&fs, "/run/eng/a.json").unwrap();
        assert_eq!(file.owner, Trust::Root);
        assert_eq!(file.json::<Vec<i32>>().unwrap(), [1]);
        assert_eq!(read(&fs, "/run/eng/none").unwrap_err(), ReadError::Gone);
        assert_eq!(fs.dir(Path::new("/run/eng")).unwrap().names().unwrap(), ["a.json"]);
    }

    #[test]
    fn follows_root_links_below_the_root_and_never_above() {
        let (dir, fs) = recorded();
        symlink("/run/eng", dir.path().join("abs")).unwrap();
        symlink("run/eng", dir.path().join("rel")).unwrap();
        symlink("../../../../../../etc/passwd", dir.path().join("out")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        assert!(read(&fs, "/abs/a.json").is_ok());
        assert!(read(&fs, "/rel/a.json").is_ok());
        assert!(read(&fs, "/rel/../eng/./a.json").is_ok());
        assert!(read(&fs, "/out").is_err());
        assert!(read(&fs, "/loop").is_err());
        assert!(fs.dir(Path::new("/run/..")).is_ok());
    }

    #[test]
    fn a_path_means_the_same_while_directories_are_held() {
        let (dir, fs) = recorded();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(path("run/eng/id")).unwrap();
        std::fs::create_dir_all(path("run/open")).unwrap();
        std::fs::set_permissions(path("run/open"), std::fs::Permissions::from_mode(0o777)).unwrap();
        for name in ["run/eng/id/b.json", "run/open/c.json"] {
            std::fs::write(path(name), "[2]").unwrap();
        }
        symlink("/run/eng", path("run/eng/abs")).unwrap();
        symlink("../run/eng/id", path("run/rel")).unwrap();
        let paths = [
            "/run/eng/id",
            "/run/eng",
            "/run/eng/abs/id",
            "/run/rel",
            "/run/none/x",
            "/run/none",
            "/run/open",
            "/run/eng/a.json",
            "/run/eng/abs",
            "/run/../run/eng",
            "/",
            "/run/rel/none",
        ];
        let found = |path: &str| {
            let dir = fs.dir(Path::new(path)).map(|dir| (dir.path().to_owned(), dir.owner));
            let names = fs.dir(Path::new(path)).and_then(|dir| dir.names());
            let read = |name: &str| fs.dir(Path::new(path))?.read(name).map(|file| file.bytes);
            let files = ["b.json", "id/b.json", "c.json", "open/c.json", "none", "id"];
            (dir, names, files.map(read))
        };
        let alone = paths.map(found);
        let hold = fs.hold_dirs();
        assert_eq!(paths.map(found), alone);
        // Once more, from the held directories.
        assert_eq!(paths.map(found), alone);
        std::fs::create_dir(path("run/none")).unwrap();
        drop(hold);
        assert!(fs.dir(Path::new("/run/none")).is_ok());
    }

    #[test]
    fn refuses_special_large_and_world_writable_files() {
        let (dir, fs) = recorded();
        let path = |name: &str| dir.path().join("run/eng").join(name);
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(path("open"), "1").unwrap();
        std::fs::set_permissions(path("open"), std::fs::Permissions::from_mode(0o666)).unwrap();
        File::create(path("huge")).unwrap().set_len(1 << 30).unwrap();
        std::fs::write(path("deep"), "[".repeat(100_000)).unwrap();
        for name in ["fifo", "open", "huge", "."] {
            let error = read(&fs, &format!("/run/eng/{name}")).unwrap_err();
            assert!(matches!(error, ReadError::Broken(_)), "{name}: {error}");
        }
        let deep = read(&fs, "/run/eng/deep").unwrap();
        assert!(matches!(deep.json::<serde_json::Value>(), Err(ReadError::Broken(_))));
    }

    #[test]
    fn refuses_network_mounts_once_they_are_skipped() {
        let (dir, fs) = recorded();
        assert!(read(&fs, "/run/eng/a.json").is_ok());
        // Mount points are as this program has them.
        let point = dir.path().join("run/eng");
        fs.skip_network_mounts(|visit| visit(point.as_os_str().as_bytes(), b"nfs4"));
        assert!(matches!(read(&fs, "/run/eng/a.json"), Err(ReadError::Broken(_))));
        assert!(fs.dir(Path::new("/run")).is_ok());
    }

    #[test]
    fn a_user_cannot_exceed_the_budget() {
        let (_dir, fs) = recorded();
        let user = Trust::User(1000);
        assert_eq!(fs.charge(user, BYTE_BUDGET), Ok(()));
        assert!(fs.charge(user, 1).is_err());
        assert_eq!(fs.charge(Trust::User(1001), 1), Ok(()));
        assert_eq!(fs.charge(Trust::Root, u64::MAX), Ok(()));
    }
}
