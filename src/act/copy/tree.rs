//! Copies files, links and whole folders from one place to another: what is read is held and known to
//! be a file, folder or link before it is opened; what is written stays below the folder it goes to.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{FileType, Mode, OFlags, fgetxattr, flistxattr, mkdirat, openat};
use rustix::io::Errno;

use super::place::{Node, Place, Spot};
use super::write::{self, Content, Lost, Traits, Written};
use crate::analysis::transfer::Put;

/// What was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Owners, all permission bits and extended attributes are kept.
    pub archive: bool,
    /// What links lead to is copied in their place.
    pub follow: bool,
    /// Whom all of it is to belong to, as we number users.
    pub chown: Option<(u32, u32)>,
    /// What is there stays.
    pub no_clobber: bool,
    /// What cannot be kept ends it.
    pub strict: bool,
}

/// What is told on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// So many bytes more.
    Bytes(u64),
    /// One file, link or folder more.
    One,
    /// So many bytes there will be, where that is known before.
    Total(u64),
    /// Something is not as it was asked for; said once of each kind.
    Warning(String),
}

/// Why a copy ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// At what.
    pub path: String,
    /// Why.
    pub why: String,
}

/// A path for people; made safe where it is printed.
fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Says why in words.
pub fn reason(errno: Errno) -> String {
    match errno {
        Errno::NOENT => "no such file or folder".into(),
        Errno::NOTDIR => "a part of the path is no folder".into(),
        Errno::ISDIR => "a folder stands there".into(),
        Errno::LOOP => "too many links, one after the other".into(),
        Errno::ACCESS | Errno::PERM => "not permitted".into(),
        Errno::ROFS => "the file system is read-only there".into(),
        Errno::NOSPC => "no space is left".into(),
        Errno::BUSY => "something is mounted there".into(),
        Errno::EXIST => "source and target are one file".into(),
        Errno::DQUOT => "the quota is used up".into(),
        Errno::NOTSUP => "it is no file, folder or link".into(),
        Errno::OVERFLOW => "its owner has no number in the container's user namespace".into(),
        errno => errno.to_string(),
    }
}

/// The same as an error at a path.
fn failed_at(path: &[u8]) -> impl Fn(Errno) -> Failed {
    move |errno| Failed { path: text(path), why: reason(errno) }
}

/// And where it is the target that does not take it.
fn not_written(path: &[u8], errno: Errno) -> Failed {
    Failed { path: text(path), why: format!("at the target, {}", reason(errno)) }
}

/// A file, whatever its names: its device and inode.
type FileId = (u32, u32, u64);

fn id(node: &Node) -> FileId {
    (node.stat.stx_dev_major, node.stat.stx_dev_minor, node.stat.stx_ino)
}

/// Whether a folder is this one, or lies somewhere below it.
fn is_within(folder: &OwnedFd, wanted: FileId) -> Result<bool, Errno> {
    let mut at = Node::of(folder.try_clone().map_err(|_| Errno::MFILE)?)?;
    loop {
        if id(&at) == wanted {
            return Ok(true);
        }
        let above = Node::open(&at.fd, b"..")?;
        if id(&above) == id(&at) {
            return Ok(false);
        }
        at = above;
    }
}

/// A copy under way.
pub struct Copier<'a> {
    /// From here.
    pub from: &'a Place,
    /// To there.
    pub to: &'a Place,
    /// How.
    pub options: Options,
    /// Who hears of it.
    pub tell: &'a mut dyn FnMut(News),
    /// Files with several names, by device and inode: where the first of them is now.
    links: HashMap<FileId, (Rc<OwnedFd>, Vec<u8>)>,
    warned: BTreeSet<String>,
    /// Folders that we are in, so that a link to one of them is no endless way.
    above: Vec<FileId>,
}

/// File systems of the kernel's own that hold no files in the sense of a copy: `statfs` f_type
/// (include/uapi/linux/magic.h), and what they are called.
const PSEUDO: &[(i64, &str)] = &[
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x1cd1, "devpts"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0xcafe_4a11, "bpf"),
    (0x1980_0202, "mqueue"),
    (0x6265_6570, "configfs"),
];

impl<'a> Copier<'a> {
    /// One that has copied nothing yet.
    pub fn new(
        from: &'a Place,
        to: &'a Place,
        options: Options,
        tell: &'a mut dyn FnMut(News),
    ) -> Self {
        let (links, warned, above) = (HashMap::new(), BTreeSet::new(), Vec::new());
        Self { from, to, options, tell, links, warned, above }
    }

    pub(super) fn warn(&mut self, kind: &str, what: impl Into<String>) -> Result<(), Failed> {
        let what = what.into();
        if self.options.strict {
            return Err(Failed { path: what, why: "with --strict that is an error".into() });
        }
        if self.warned.insert(kind.to_owned()) {
            (self.tell)(News::Warning(what));
        }
        Ok(())
    }

    /// Copies what was found to where it goes.
    ///
    /// # Errors
    /// At the first file that cannot be copied.
    pub fn put(
        &mut self,
        path: &[u8],
        node: &Node,
        put: Put,
        target: &Spot,
        own_name: &[u8],
    ) -> Result<(), Failed> {
        let at = failed_at(path);
        let into = target.found.as_ref().filter(|_| put != Put::There);
        let folder = into.map_or(&target.folder, |found| &found.fd);
        // What is made in it would be found in it, and so on.
        if node.kind() == FileType::Directory && is_within(folder, id(node)).map_err(&at)? {
            return Err(Failed { path: text(path), why: "it would be copied into itself".into() });
        }
        write::sweep(folder);
        match put {
            Put::There => self.one(path, node, &target.folder, &target.name),
            Put::Into => {
                let found = target.found.as_ref().ok_or(Errno::NOENT).map_err(&at)?;
                self.one(path, node, &found.fd, own_name)
            }
            Put::Merged => {
                let found = target.found.as_ref().ok_or(Errno::NOENT).map_err(&at)?;
                self.contents(path, node, &found.fd)
            }
        }
    }

    /// One file, link or folder, under this name.
    fn one(
        &mut self,
        path: &[u8],
        node: &Node,
        folder: &OwnedFd,
        name: &[u8],
    ) -> Result<(), Failed> {
        match node.kind() {
            FileType::Directory => self.folder(path, node, folder, name),
            FileType::RegularFile => self.file(path, node, folder, name),
            FileType::Symlink if self.options.follow => {
                let at = failed_at(path);
                let found = self.from.find(path, true).map_err(at)?.found;
                match found {
                    Some(node) if node.kind() != FileType::Symlink => {
                        self.one(path, &node, folder, name)
                    }
                    _ => self
                        .warn("dangling", format!("`{}` leads to nothing: left out", text(path))),
                }
            }
            FileType::Symlink => {
                let at = failed_at(path);
                let target = node.link().map_err(at)?;
                let (traits, mut lost) = self.traits(node, None);
                let (written, more) =
                    write::link(folder.as_fd(), name, &target, &traits, self.options.no_clobber)
                        .map_err(|errno| not_written(path, errno))?;
                lost.extend(more);
                self.told(&lost, written, name)
            }
            kind => {
                let what = match kind {
                    FileType::Fifo => "a fifo",
                    FileType::Socket => "a socket",
                    FileType::CharacterDevice | FileType::BlockDevice => "a device",
                    _ => "no file, folder or link",
                };
                if self.above.is_empty() {
                    return Err(Failed { path: text(path), why: format!("it is {what}") });
                }
                self.warn(
                    what,
                    format!("`{}` is {what}: left out, with others of its kind", text(path)),
                )
            }
        }
    }

    pub(super) fn told(
        &mut self,
        lost: &[Lost],
        written: Written,
        name: &[u8],
    ) -> Result<(), Failed> {
        (self.tell)(News::One);
        for one in lost {
            self.warn(
                one.name(),
                format!("{} could not be kept, at first of `{}`", one.name(), text(name)),
            )?;
        }
        match written {
            Written::InPlace => self.warn(
                "in place",
                format!(
                    "`{}` is mounted by itself: written in place, not renamed over",
                    text(name)
                ),
            ),
            Written::Kept => self.warn("kept", format!("`{}` is there already: kept", text(name))),
            Written::Renamed => Ok(()),
        }
    }

    fn file(
        &mut self,
        path: &[u8],
        node: &Node,
        folder: &OwnedFd,
        name: &[u8],
    ) -> Result<(), Failed> {
        let stat = &node.stat;
        let id = id(node);
        if stat.stx_nlink > 1
            && let Some((first, own)) = self.links.get(&id)
            && write::another_name((first, own), folder.as_fd(), name, self.options.no_clobber)
                .is_ok()
        {
            (self.tell)(News::One);
            return Ok(());
        }
        let at = failed_at(path);
        let opened = File::from(node.open_to_read().map_err(at)?);
        let (traits, mut lost) = self.traits(node, Some(&opened));
        let keep = self.options.no_clobber;
        let tell = &mut *self.tell;
        let mut more = |bytes| tell(News::Bytes(bytes));
        let (written, others) = write::file(
            folder.as_fd(),
            name,
            &mut Content::File(&opened),
            &traits,
            keep,
            &mut more,
        )
        .map_err(|errno| not_written(path, errno))?;
        lost.extend(others);
        if stat.stx_nlink > 1
            && let Ok(folder) = folder.try_clone()
        {
            self.links.insert(id, (Rc::new(folder), name.to_owned()));
        }
        self.told(&lost, written, name)
    }

    fn folder(
        &mut self,
        path: &[u8],
        node: &Node,
        folder: &OwnedFd,
        name: &[u8],
    ) -> Result<(), Failed> {
        let made = match mkdirat(folder, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(not_written(path, errno)),
        };
        // A link that stands there is not followed: what it leads to may be anywhere.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let own = openat(folder, name, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOTDIR | Errno::LOOP => {
                Failed { path: text(path), why: "something that is no folder stands there".into() }
            }
            errno => not_written(path, errno),
        })?;
        self.contents(path, node, &own)?;
        (self.tell)(News::One);
        if made {
            let opened = node.open_to_read().ok().map(File::from);
            let (traits, mut lost) = self.traits(node, opened.as_ref());
            lost.extend(write::dress(own.as_fd(), &traits));
            for one in lost {
                self.warn(
                    one.name(),
                    format!("{} could not be kept, at first of `{}`", one.name(), text(name)),
                )?;
            }
        }
        Ok(())
    }

    /// What is in a folder, into another one.
    fn contents(&mut self, path: &[u8], node: &Node, into: &OwnedFd) -> Result<(), Failed> {
        let at = failed_at(path);
        let id = id(node);
        if self.above.contains(&id) {
            return self
                .warn("loop", format!("`{}` leads back to where it is: left out", text(path)));
        }
        let opened = node.open_to_read().map_err(&at)?;
        write::sweep(into);
        self.above.push(id);
        let mut names: Vec<Vec<u8>> = Vec::new();
        for entry in rustix::fs::Dir::new(opened).map_err(&at)? {
            let name = entry.map_err(&at)?.file_name().to_bytes().to_owned();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        for name in names {
            let path = [path.strip_suffix(b"/").unwrap_or(path), b"/", &name].concat();
            let inner = match Node::open(&node.fd, &name) {
                Ok(inner) => inner,
                // It was there a moment ago.
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(Failed { path: text(&path), why: reason(errno) }),
            };
            if inner.stat.stx_mnt_id != node.stat.stx_mnt_id && self.is_pseudo(&inner, &path)? {
                continue;
            }
            self.one(&path, &inner, into, &name)?;
        }
        self.above.pop();
        Ok(())
    }

    /// A mount of the kernel's own files is read only when it is asked for by its path.
    pub(super) fn is_pseudo(&mut self, node: &Node, path: &[u8]) -> Result<bool, Failed> {
        let Ok(fs) = rustix::fs::fstatfs(&node.fd) else { return Ok(false) };
        let kind = PSEUDO.iter().find(|(magic, _)| i128::from(*magic) == i128::from(fs.f_type));
        let Some((_, name)) = kind else { return Ok(false) };
        self.warn(name, format!("`{}` is {name}: left out", text(path)))?;
        Ok(true)
    }

    /// What the copy of a file is to be, and what of it cannot be said in the other place.
    fn traits(&self, node: &Node, opened: Option<&File>) -> (Traits, Vec<Lost>) {
        let stat = &node.stat;
        let mut lost = Vec::new();
        let owner = match self.options {
            Options { chown: Some(owner), .. } => Some(owner),
            Options { archive: true, .. } => {
                let own = self.from.inner(stat.stx_uid, stat.stx_gid);
                let there = own.and_then(|(uid, gid)| self.to.outer(uid, gid));
                if there.is_none() {
                    lost.push(Lost::Owner);
                }
                there.or(self.to.owner)
            }
            _ => self.to.owner,
        };
        let bits = if self.options.archive { 0o7777 } else { 0o777 };
        let xattrs = opened.filter(|_| self.options.archive).map(xattrs).unwrap_or_default();
        let traits = Traits {
            mode: u32::from(stat.stx_mode) & bits,
            owner,
            modified: Some((stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec)),
            xattrs,
        };
        (traits, lost)
    }
}

impl Place {
    /// A user and group of a file, as the container numbers them.
    pub(super) fn inner(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        match self.root {
            None => Some((uid, gid)),
            Some(_) => Some((self.users.to_inside(uid)?, self.groups.to_inside(gid)?)),
        }
    }

    /// And back.
    pub fn outer(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        match self.root {
            None => Some((uid, gid)),
            Some(_) => Some((self.users.to_outside(uid)?, self.groups.to_outside(gid)?)),
        }
    }
}

fn xattrs(file: &File) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0u8; 64 << 10];
    let Ok(length) = flistxattr(file, names.as_mut_slice()) else { return Vec::new() };
    names.truncate(length);
    let mut all = Vec::new();
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0u8; 64 << 10];
        if let Ok(length) = fgetxattr(file, name, value.as_mut_slice()) {
            value.truncate(length);
            all.push((name.to_owned(), value));
        }
    }
    all
}
