//! Tar streams: a folder of a place as one, and one into a folder of a place. What a stream says is no
//! more trusted than a container: its members stay below the folder.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, linkat, mkdirat, openat, seek};
use rustix::io::Errno;
use tar::{EntryType, GnuExtSparseHeader, Header};

use super::copy_data::Content;
use super::error::{CopyError, text};
use super::rootfs::{FileId, Node};
use super::walk::{Copier, CopyEvent, CopyOptions, MAX_DEPTH};
use super::write::{self, Metadata, TargetDir};

/// Writes what was found at a path as a stream, under this name.
///
/// # Errors
/// At the first file that cannot be read, or when the stream cannot be written.
pub fn pack(
    node: &Node,
    path: &[u8],
    name: &[u8],
    out: impl Write,
    copier: &mut Copier<'_>,
) -> Result<(), CopyError> {
    let builder = tar::Builder::new(out);
    let mut packer = Packer { builder, copier, links: HashMap::new(), levels: Vec::new() };
    packer.one(node, path.strip_suffix(b"/").unwrap_or(path), name)?;
    packer.go()?;
    packer.builder.finish().map_err(|error| CopyError::new(b"-", error))
}

struct Packer<'p, 'c, W: Write> {
    builder: tar::Builder<W>,
    copier: &'p mut Copier<'c>,
    /// Files of several names, and the first of them.
    links: HashMap<FileId, Vec<u8>>,
    /// The folders that we are in.
    levels: Vec<TarLevel>,
}

/// A folder that is being read, and what it is called in the stream.
struct TarLevel {
    id: FileId,
    mount: Option<u64>,
    entries: Dir,
    path: Vec<u8>,
    name: Vec<u8>,
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

impl<W: Write> Packer<'_, '_, W> {
    /// What is at a path, under a name in the stream.
    fn one(&mut self, node: &Node, path: &[u8], name: &[u8]) -> Result<(), CopyError> {
        let io = |error: std::io::Error| CopyError::new(path, error);
        let errno = |errno| CopyError::at(path, errno);
        let mut header = self.header(node);
        match node.kind() {
            FileType::RegularFile => {
                if node.stat.stx_nlink > 1
                    && let Some(first) = self.links.get(&node.id())
                {
                    header.set_entry_type(EntryType::Link);
                    let first = as_path(first);
                    self.builder.append_link(&mut header, as_path(name), first).map_err(io)?;
                } else {
                    self.file(&mut header, node, path, name)?;
                    if node.stat.stx_nlink > 1 {
                        self.links.insert(node.id(), name.to_owned());
                    }
                }
            }
            FileType::Symlink if self.copier.sides.options.follow => {
                let found = self.copier.sides.from.find(path, true).map_err(errno)?.found;
                return match found {
                    Some(node) if node.kind() != FileType::Symlink => self.one(&node, path, name),
                    _ => self
                        .copier
                        .warn("dangling", format!("`{}` leads to nothing: left out", text(path))),
                };
            }
            FileType::Symlink => {
                header.set_entry_type(EntryType::Symlink);
                let target = node.link().map_err(errno)?;
                let target = as_path(&target);
                self.builder.append_link(&mut header, as_path(name), target).map_err(io)?;
            }
            FileType::Directory => return self.folder(&mut header, node, path, name),
            _ => {
                let what = format!("`{}` is no file, folder or link: left out", text(path));
                return self.copier.warn("special", what);
            }
        }
        (self.copier.tell)(CopyEvent::One);
        Ok(())
    }

    /// Owners as the container numbers them; who is nobody there is nobody in the stream.
    fn header(&self, node: &Node) -> Header {
        let (stat, sides) = (&node.stat, &self.copier.sides);
        let mut header = Header::new_gnu();
        let bits = if sides.options.archive { 0o7777 } else { 0o777 };
        header.set_mode(u32::from(stat.stx_mode) & bits);
        header.set_mtime(u64::try_from(stat.stx_mtime.tv_sec).unwrap_or(0));
        let (uid, gid) = sides.from.inner(stat.stx_uid, stat.stx_gid).unwrap_or((65534, 65534));
        header.set_uid(u64::from(uid));
        header.set_gid(u64::from(gid));
        header.set_size(0);
        header
    }

    fn folder(
        &mut self,
        header: &mut Header,
        node: &Node,
        path: &[u8],
        name: &[u8],
    ) -> Result<(), CopyError> {
        let io = |error: std::io::Error| CopyError::new(path, error);
        let errno = |errno| CopyError::at(path, errno);
        if self.levels.iter().any(|level| level.id == node.id()) {
            let what = format!("`{}` leads back to where it is: left out", text(path));
            return self.copier.warn("loop", what);
        }
        if self.levels.len() >= MAX_DEPTH {
            return Err(CopyError::new(
                &path[..path.len().min(80)],
                "folders are nested without end",
            ));
        }
        header.set_entry_type(EntryType::Directory);
        self.builder.append_data(header, as_path(name).join(""), std::io::empty()).map_err(io)?;
        (self.copier.tell)(CopyEvent::One);
        let entries = node.open_to_read().and_then(Dir::new).map_err(errno)?;
        let (path, name) = (path.to_owned(), name.to_owned());
        self.levels.push(TarLevel { id: node.id(), mount: node.mount(), entries, path, name });
        Ok(())
    }

    /// What is in the folders, one name after the other.
    fn go(&mut self) -> Result<(), CopyError> {
        while let Some(level) = self.levels.last_mut() {
            let errno = |errno| CopyError::at(&level.path, errno);
            let own = match level.entries.next() {
                None => {
                    self.levels.pop();
                    continue;
                }
                Some(entry) => entry.map_err(errno)?.file_name().to_bytes().to_owned(),
            };
            if own == b"." || own == b".." {
                continue;
            }
            let path = [&*level.path, b"/", &own].concat();
            let name = [&*level.name, b"/", &own].concat();
            let inner = match Node::open(level.entries.fd().map_err(errno)?, &own) {
                Ok(inner) => inner,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(CopyError::at(&path, errno)),
            };
            if inner.mount() != level.mount && self.copier.is_pseudo(&inner, &path)? {
                continue;
            }
            self.one(&inner, &path, &name)?;
        }
        Ok(())
    }

    fn file(
        &mut self,
        header: &mut Header,
        node: &Node,
        path: &[u8],
        name: &[u8],
    ) -> Result<(), CopyError> {
        let errno = |errno| CopyError::at(path, errno);
        let io = |error: std::io::Error| CopyError::new(path, error);
        let file = File::from(node.open_to_read().map_err(errno)?);
        let size = file.metadata().map_err(io)?.len();
        let extents = extents(&file, size).map_err(errno)?;
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        let further = match &*extents {
            [(0, length)] if *length == size => Vec::new(),
            _ => sparse(header, &extents, size),
        };
        let data = Extents { file: &file, extents: &extents, left: 0 };
        self.builder.append_data(header, as_path(name), (&*further).chain(data)).map_err(io)?;
        (self.copier.tell)(CopyEvent::Bytes(size));
        Ok(())
    }
}

/// Where a file has data: offsets and lengths. A hole at its end is an extent of no length there.
fn extents(file: &File, size: u64) -> Result<Vec<(u64, u64)>, Errno> {
    let (mut all, mut at) = (Vec::new(), 0);
    while at < size {
        let data = match seek(file, SeekFrom::Data(at)) {
            Ok(data) => data.min(size),
            Err(Errno::NXIO) => size,
            Err(_) => at,
        };
        let end = if data == size {
            size
        } else {
            seek(file, SeekFrom::Hole(data)).unwrap_or(size).clamp(data + 1, size)
        };
        all.push((data, end - data));
        at = end;
    }
    if all.is_empty() {
        all.push((0, 0));
    }
    seek(file, SeekFrom::Start(0))?;
    Ok(all)
}

/// What is in the extents of a file, one after the other. One that changes meanwhile still has the
/// length that was said.
struct Extents<'f> {
    file: &'f File,
    extents: &'f [(u64, u64)],
    left: u64,
}

impl Read for Extents<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.left == 0 {
            let Some(((offset, length), rest)) = self.extents.split_first() else { return Ok(0) };
            seek(self.file, SeekFrom::Start(*offset))?;
            (self.extents, self.left) = (rest, *length);
        }
        let many = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let mut read = self.file.read(&mut buffer[..many])?;
        if read == 0 {
            buffer[..many].fill(0);
            read = many;
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// Makes a header one of a sparse file (GNU tar, "Old GNU Format"), and gives the blocks that follow
/// it where there are more extents than it has room for.
fn sparse(header: &mut Header, extents: &[(u64, u64)], size: u64) -> Vec<u8> {
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(extents.iter().map(|(_, length)| length).sum());
    let mut left = extents.iter();
    let mut blocks = Vec::new();
    if let Some(gnu) = header.as_gnu_mut() {
        gnu.set_real_size(size);
        for (slot, (offset, length)) in gnu.sparse.iter_mut().zip(left.by_ref()) {
            slot.set_offset(*offset);
            slot.set_length(*length);
        }
        gnu.set_is_extended(left.len() > 0);
    }
    while left.len() > 0 {
        let mut block = GnuExtSparseHeader::new();
        let room = block.sparse.len();
        for (slot, (offset, length)) in block.sparse.iter_mut().zip(left.by_ref().take(room)) {
            slot.set_offset(*offset);
            slot.set_length(*length);
        }
        block.set_is_extended(left.len() > 0);
        blocks.extend_from_slice(block.as_bytes());
    }
    blocks
}

/// Unpacks a stream into a folder.
///
/// # Errors
/// At the first member that leads out of it, or cannot be written.
pub fn unpack(
    stream: impl Read,
    folder: &OwnedFd,
    copier: &mut Copier<'_>,
) -> Result<(), CopyError> {
    let (place, options) = (copier.sides.to, copier.sides.options);
    let mut archive = tar::Archive::new(stream);
    let mut folders: Vec<(Vec<u8>, (i64, u32))> = Vec::new();
    let broken = |error: std::io::Error| {
        CopyError::new(b"-", format!("no tar stream: {error}"))
            .hint("a compressed one is to be taken apart first, by `gzip -d` or its like")
    };
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path_bytes().into_owned();
        let (above, name) = match way(folder, &path)? {
            Some(found) => found,
            // The folder itself.
            None => continue,
        };
        let header = entry.header();
        let bits = if options.archive { 0o7777 } else { 0o777 };
        let own = header.uid().ok().zip(header.gid().ok());
        let own =
            own.and_then(|(uid, gid)| Some((u32::try_from(uid).ok()?, u32::try_from(gid).ok()?)));
        let traits = Metadata {
            mode: header.mode().unwrap_or(0o644) & bits,
            owner: match options {
                CopyOptions { chown: Some(owner), .. } => Some(owner),
                CopyOptions { archive: true, .. } => {
                    own.and_then(|(uid, gid)| place.outer(uid, gid)).or(place.init_user())
                }
                _ => place.init_user(),
            },
            modified: header.mtime().ok().and_then(|time| Some((i64::try_from(time).ok()?, 0))),
            xattrs: Vec::new(),
            sync: options.sync,
        };
        let errno = |errno| CopyError::at_target(&path, errno);
        let keep = options.no_clobber;
        let is_sparse = entry.header().entry_type() == EntryType::GNUSparse;
        match header.entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mut more = |bytes| (copier.tell)(CopyEvent::Bytes(bytes));
                let content = &mut match is_sparse {
                    true => Content::Sparse(&mut entry),
                    false => Content::Stream(&mut entry),
                };
                let (written, lost) =
                    write::file(&above, &name, content, &traits, keep, &mut more).map_err(errno)?;
                copier.told(&lost, written, &name)?;
                continue;
            }
            EntryType::Directory => {
                match mkdirat(&above.fd, &*name, Mode::from_raw_mode(0o700)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(errno(e)),
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let own = openat(&above.fd, &*name, flags, Mode::empty()).map_err(errno)?;
                // Times would not last: more is to come into it.
                folders.extend(traits.modified.map(|time| (path.clone(), time)));
                write::dress(own.as_fd(), &Metadata { modified: None, ..traits });
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let (written, lost) =
                    write::link(&above, &name, &target, &traits, keep).map_err(errno)?;
                copier.told(&lost, written, &name)?;
                continue;
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let found = way(folder, &target)?
                    .ok_or_else(|| CopyError::new(&path, "a link to nothing"))?;
                let made = linkat(&found.0.fd, &*found.1, &above.fd, &*name, AtFlags::empty());
                if made != Err(Errno::EXIST) {
                    made.map_err(errno)?;
                }
            }
            kind => {
                let what = text(&path);
                copier.warn(
                    "special",
                    format!("`{what}` is no file, folder or link ({kind:?}): left out"),
                )?;
                continue;
            }
        }
        (copier.tell)(CopyEvent::One);
    }
    for (path, time) in folders.into_iter().rev() {
        if let Ok(Some((above, name))) = way(folder, &path) {
            write::set_time(above.fd.as_fd(), &name, time);
        }
    }
    Ok(())
}

/// The folder and the name of a member, folders on the way made where they are missing. No link is
/// followed and no `..` taken.
fn way(folder: &OwnedFd, path: &[u8]) -> Result<Option<(TargetDir, Vec<u8>)>, CopyError> {
    let parts: Vec<&[u8]> =
        path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&&b".."[..]) || parts.iter().any(|part| part.contains(&0)) {
        return Err(CopyError::new(path, "it leads out of the folder")
            .hint("what was unpacked before it is there; look at the stream with `tar -t`"));
    }
    let Some((name, above)) = parts.split_last() else { return Ok(None) };
    let errno = |e: Errno| match e {
        Errno::NOTDIR | Errno::LOOP => {
            CopyError::new(path, "something that is no folder stands in its way")
                .hint("a link is not followed; take it away, or give another folder")
        }
        e => CopyError::at_target(path, e),
    };
    let mut at = rustix::io::fcntl_dupfd_cloexec(folder, 0).map_err(errno)?;
    for part in above {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at = match openat(&at, *part, flags, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT) => {
                mkdirat(&at, *part, Mode::from_raw_mode(0o755)).map_err(errno)?;
                openat(&at, *part, flags, Mode::empty()).map_err(errno)?
            }
            Err(e) => return Err(errno(e)),
        };
    }
    Ok(Some((TargetDir::new(at).map_err(errno)?, name.to_vec())))
}
