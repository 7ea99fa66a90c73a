//! A path that is followed one name at a time, from a directory that is held open. Links are followed only
//! where root made them. An error names the directory or link, and how to change it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{FileStat, SFlag, fstat};

use super::StateDir;
use super::held::HeldDir;
use super::settle::Version;
use crate::proc::read::ReadError;
use crate::proc::trust::Trust;
use crate::sys::fd;

const MAX_LINKS: usize = 40;
const ANY: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW);

/// A file on the way, opened with `O_PATH`.
pub(super) struct PathStep {
    pub fd: Arc<OwnedFd>,
    /// Trust in the path so far.
    pub owner: Trust,
    /// The first directory or file on the path that is not root's.
    pub users_path: Option<PathBuf>,
    /// Whether the file itself is root's.
    pub is_roots: bool,
    kind: SFlag,
    /// The size in bytes.
    pub size: u64,
    /// The content at that moment.
    pub version: Version,
}

impl PathStep {
    /// Returns it as a directory to hold.
    fn held(&self, is_plain: bool) -> HeldDir {
        let (fd, users_path) = (Arc::clone(&self.fd), self.users_path.clone());
        HeldDir { fd, owner: self.owner, users_path, is_plain }
    }
}

/// A path that is followed one name at a time. Links that root made in root's directories are followed,
/// from the host's root if they are absolute; others are refused.
pub(super) struct PathWalk<'a> {
    start: &'a StateDir<'a>,
    below: &'a Path,
    /// Names to follow, the next one last.
    todo: Vec<Vec<u8>>,
    /// The files from the start to here, which `..` may go back through.
    steps: Vec<PathStep>,
    /// The path on the host that they make.
    path: PathBuf,
    links: usize,
}

impl<'a> PathWalk<'a> {
    /// Follows a path to a file of this type.
    pub(super) fn follow_to(
        start: &'a StateDir<'a>,
        below: &'a Path,
        kind: SFlag,
    ) -> Result<PathStep, ReadError> {
        let mut walk = Self::new(start, below);
        walk.follow()?;
        walk.finish(kind)
    }

    /// Follows a path to a directory, and keeps the directories on the way, and whether the next one does not
    /// exist. Returns no result where a link may lead out of the directory that the walk starts at.
    pub(super) fn follow_to_dir(
        start: &'a StateDir<'a>,
        below: &'a Path,
    ) -> Option<Result<HeldDir, ReadError>> {
        let held = &start.fs.held;
        let mut walk = Self::new(start, below);
        let followed = walk.follow();
        let is_plain = walk.links == 0;
        if !is_plain && followed.is_err() && start.path != Path::new("/") {
            return None;
        }
        let dirs = if is_plain { &walk.steps[..] } else { &[] };
        let mut path = start.path.clone();
        for (name, step) in components(below.as_os_str().as_bytes()).iter().zip(dirs) {
            path.push(OsStr::from_bytes(name));
            if step.kind == SFlag::S_IFDIR {
                held.keep(path.clone(), Ok(step.held(true)));
            }
        }
        if let (true, Err(error @ (ReadError::Gone | ReadError::Denied))) = (is_plain, &followed) {
            held.keep(walk.path.clone(), Err(error.clone()));
        }
        Some(followed.and_then(|()| walk.finish(SFlag::S_IFDIR)).map(|step| step.held(is_plain)))
    }

    fn new(start: &'a StateDir<'a>, below: &'a Path) -> Self {
        let mut todo = components(below.as_os_str().as_bytes());
        todo.reverse();
        Self { start, below, todo, steps: Vec::new(), path: start.path.clone(), links: 0 }
    }

    fn follow(&mut self) -> Result<(), ReadError> {
        while let Some(name) = self.todo.pop() {
            self.step(&name)?;
        }
        Ok(())
    }

    fn refuse<T>(&self, why: &str) -> Result<T, ReadError> {
        let path = self.start.path.join(self.below);
        Err(ReadError::Broken(format!("`{}` is not trusted: {why}", path.display())))
    }

    fn step(&mut self, name: &[u8]) -> Result<(), ReadError> {
        if name == b".." {
            if self.steps.pop().is_none() {
                return self.refuse("the path leads out of its directory");
            }
            self.path.pop();
            return Ok(());
        }
        let (dir, trust, users_path) = match self.steps.last() {
            Some(step) => (step.fd.as_fd(), step.owner, &step.users_path),
            None => (self.start.fd.as_fd(), self.start.owner, &self.start.users_path),
        };
        let users_path = users_path.clone();
        self.path.push(OsStr::from_bytes(name));
        let fs = self.start.fs;
        if fs.network_mounts.get().is_some_and(|mounts| mounts.contains(&self.path)) {
            return self.refuse("it is on a network file system");
        }
        let fd = fd::open_at(dir, name, ANY)?;
        let stat = fstat(&fd)?;
        let kind = fd::file_type(&stat);
        let entry_trust = fs.trust_of_user(stat.st_uid);
        let owner = trust.and(entry_trust);
        let path = self.path.display();
        if kind == SFlag::S_IFLNK {
            let why = match entry_trust {
                Trust::Root => "a link in a directory that is not root's".to_owned(),
                _ => format!("a link of user {}", stat.st_uid),
            };
            let refusal =
                format!("`{path}` is {why}, which is not followed: use its target instead");
            return self.follow_link(&fd, owner, &refusal);
        }
        if is_writable_by_all(&stat, kind) {
            return self.refuse(&format!("`{path}` is world-writable: run `chmod o-w {path}`"));
        }
        if owner == Trust::Untrusted {
            let above = users_path.unwrap_or_default();
            return self.refuse(&format!(
                "`{}` and `{path}` belong to two users, neither of them root: `chown` one of them",
                above.display()
            ));
        }
        let users_path =
            users_path.or_else(|| (entry_trust != Trust::Root).then(|| self.path.clone()));
        if !self.todo.is_empty() && kind != SFlag::S_IFDIR {
            return Err(ReadError::Gone);
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.steps.push(PathStep {
            fd: Arc::new(fd),
            owner,
            users_path,
            is_roots: entry_trust == Trust::Root,
            kind,
            size,
            version: Version::new(&stat),
        });
        Ok(())
    }

    /// Puts the target of a link before the rest of the path.
    fn follow_link(
        &mut self,
        link: &OwnedFd,
        owner: Trust,
        refusal: &str,
    ) -> Result<(), ReadError> {
        self.links += 1;
        if owner != Trust::Root {
            return self.refuse(refusal);
        }
        if self.links > MAX_LINKS {
            return self.refuse("the path has too many links");
        }
        let target = readlinkat(link, "")?;
        self.path.pop();
        if target.as_bytes().starts_with(b"/") {
            // Only a walk from the root can follow an absolute link.
            if self.start.path != Path::new("/") {
                return self.refuse("the path contains an absolute link");
            }
            self.steps.clear();
            self.path = PathBuf::from("/");
        }
        self.todo.extend(components(target.as_bytes()).into_iter().rev());
        Ok(())
    }

    fn finish(mut self, kind: SFlag) -> Result<PathStep, ReadError> {
        let found = match self.steps.pop() {
            Some(step) => step,
            // Back at the start.
            None => PathStep {
                fd: Arc::clone(&self.start.fd),
                owner: self.start.owner,
                users_path: self.start.users_path.clone(),
                is_roots: self.start.owner == Trust::Root,
                kind: SFlag::S_IFDIR,
                size: 0,
                version: Version::default(),
            },
        };
        match kind {
            _ if found.kind == kind => Ok(found),
            SFlag::S_IFDIR => self.refuse("it is not a directory"),
            _ => self.refuse("it is not a regular file"),
        }
    }
}

fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").map(<[u8]>::to_vec).collect()
}

/// Whether users other than the owner can write it. A sticky directory such as /tmp lets only the
/// owner replace a file, and a group that may write to a directory is taken for the owner's own.
pub(super) fn is_writable_by_all(stat: &FileStat, kind: SFlag) -> bool {
    let sticky = stat.st_mode & 0o1000 != 0 && kind == SFlag::S_IFDIR;
    stat.st_mode & 0o002 != 0 && !sticky
}
