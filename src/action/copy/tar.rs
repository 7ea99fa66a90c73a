//! Tar streams: a file or directory as a stream, and a stream into a directory. A stream is trusted no more
//! than a container: its members stay below the directory.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Whence, linkat};
use tar::{Archive, Builder, Entry, EntryType, GnuExtSparseHeader, Header};

use super::context::{CopyContext, MAX_DEPTH};
use super::copy_data::{Content, next_extent, seek};
use super::error::{because, failure, text};
use super::metadata::{Metadata, apply_metadata, set_time};
use super::rootfs::{Node, duplicate};
use super::sources::CopySource;
use super::write::{self, TargetDir};
use crate::error::{Error, os_error};
use crate::sys::directory::DirEntries;
use crate::sys::fd;
use crate::sys::file::{FileId, FileKind};

/// The error for stdout.
pub const CANNOT_WRITE: &str = "cannot write the tar stream";
/// The owner and group of a file whose own have no ID in the container (the default of
/// /proc/sys/kernel/overflowuid, which the kernel shows there).
const OVERFLOW_ID: u32 = 65534;

/// Writes a source as a stream, under its name.
///
/// # Errors
/// At the first file that cannot be read, or the stream cannot be written.
pub fn pack(context: &CopyContext<'_>, source: &CopySource, out: impl Write) -> Result<(), Error> {
    let builder = Builder::new(out);
    let mut packer = Packer { builder, context, links: HashMap::new(), levels: Vec::new() };
    let path = source.path.strip_suffix(b"/").unwrap_or(&source.path);
    packer.append(&source.node, path, &source.name)?;
    packer.run()?;
    packer.builder.finish().map_err(|error| failure(CANNOT_WRITE.into()).cause(os_error(error)))
}

struct Packer<'p, W: Write> {
    builder: Builder<W>,
    context: &'p CopyContext<'p>,
    /// Files with several names, and the first of them in the stream.
    links: HashMap<FileId, Vec<u8>>,
    /// The directories on the way; a list, so that depth costs no stack.
    levels: Vec<TarLevel>,
}

/// A directory that is being read, and its name in the stream.
struct TarLevel {
    id: FileId,
    mount: Option<u64>,
    entries: DirEntries,
    path: Vec<u8>,
    name: Vec<u8>,
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

impl<W: Write> Packer<'_, W> {
    /// Appends a file; a directory without its contents, which [`Self::run`] appends.
    fn append(&mut self, node: &Node, path: &[u8], name: &[u8]) -> Result<(), Error> {
        match node.kind() {
            FileKind::Regular => self.append_file(node, path, name),
            FileKind::Symlink if self.context.options.follow => match self.context.follow(path)? {
                Some(node) => self.append(&node, path, name),
                None => self.context.skip_dangling(path),
            },
            FileKind::Symlink => {
                let target = node.read_link().map_err(|e| self.context.source_error(path, e))?;
                self.append_link(node, path, name, EntryType::Symlink, &target)
            }
            FileKind::Directory => self.append_directory(node, path, name),
            _ => self.context.skip_special(node, path),
        }
    }

    /// Appends the contents of the directories on the way.
    fn run(&mut self) -> Result<(), Error> {
        while let Some(level) = self.levels.last_mut() {
            let Some(entry) = level.entries.next() else {
                self.levels.pop();
                continue;
            };
            let entry = entry.map_err(|errno| self.context.source_error(&level.path, errno))?;
            let path = [&*level.path, b"/", &*entry.name].concat();
            let name = [&*level.name, b"/", &*entry.name].concat();
            let node = match Node::open(&level.entries, &entry.name) {
                Ok(node) => node,
                // It was removed after it was listed.
                Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(self.context.source_error(&path, errno)),
            };
            if node.mount() != level.mount && self.context.skip_pseudo(&node, &path)? {
                continue;
            }
            self.append(&node, &path, &name)?;
        }
        Ok(())
    }

    fn append_link(
        &mut self,
        node: &Node,
        path: &[u8],
        name: &[u8],
        kind: EntryType,
        target: &[u8],
    ) -> Result<(), Error> {
        let mut header = self.header(node, kind);
        self.builder
            .append_link(&mut header, as_path(name), as_path(target))
            .map_err(|error| self.io_error(path, error))?;
        self.context.events.add(1, 0);
        Ok(())
    }

    fn append_directory(&mut self, node: &Node, path: &[u8], name: &[u8]) -> Result<(), Error> {
        let (id, mount) = (node.id(), node.mount());
        if self.levels.iter().any(|level| level.id == id) {
            return self.context.skip_loop(path);
        }
        if self.levels.len() >= MAX_DEPTH {
            return Err(self.context.too_deep(path));
        }
        let mut header = self.header(node, EntryType::Directory);
        self.builder
            .append_data(&mut header, as_path(name).join(""), std::io::empty())
            .map_err(|error| self.io_error(path, error))?;
        self.context.events.add(1, 0);
        let entries = node.open_to_read().and_then(DirEntries::new);
        let entries = entries.map_err(|errno| self.context.source_error(path, errno))?;
        let (path, name) = (path.to_owned(), name.to_owned());
        self.levels.push(TarLevel { id, mount, entries, path, name });
        Ok(())
    }

    fn append_file(&mut self, node: &Node, path: &[u8], name: &[u8]) -> Result<(), Error> {
        let has_names = node.attributes.links > 1;
        if let Some(first) = self.links.get(&node.id()).filter(|_| has_names).cloned() {
            return self.append_link(node, path, name, EntryType::Link, &first);
        }
        let source_error = |errno| self.context.source_error(path, errno);
        let file = File::from(node.open_to_read().map_err(source_error)?);
        let size = file.metadata().map_err(|error| self.io_error(path, error))?.len();
        let extents = extents(&file, size);
        let mut header = self.header(node, EntryType::Regular);
        header.set_size(size);
        let more_headers = match &*extents {
            [(0, length)] if *length == size => Vec::new(),
            _ => make_sparse(&mut header, &extents, size),
        };
        let data = ExtentReader { file: &file, extents: &extents, remaining: 0 };
        self.builder
            .append_data(&mut header, as_path(name), (&*more_headers).chain(data))
            .map_err(|error| self.io_error(path, error))?;
        self.context.events.add(1, size);
        if has_names {
            self.links.insert(node.id(), name.to_owned());
        }
        Ok(())
    }

    /// Returns a header with the owner as the container knows it.
    fn header(&self, node: &Node, kind: EntryType) -> Header {
        let (attributes, from) = (&node.attributes, self.context.from);
        let ids = from.container_ids(attributes.uid, attributes.gid);
        let (uid, gid) = ids.unwrap_or((OVERFLOW_ID, OVERFLOW_ID));
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(attributes.mode & self.context.mode_mask());
        header.set_mtime(u64::try_from(attributes.modified.0).unwrap_or(0));
        header.set_uid(u64::from(uid));
        header.set_gid(u64::from(gid));
        header.set_size(0);
        header
    }

    fn io_error(&self, path: &[u8], error: std::io::Error) -> Error {
        super::error::cannot_copy(self.context.from, path).cause(os_error(error))
    }
}

/// Returns the extents of a file that have data, as offsets and lengths. A hole at the end is an empty
/// extent there.
fn extents(file: &File, size: u64) -> Vec<(u64, u64)> {
    let (mut extents, mut offset) = (Vec::new(), 0);
    while offset < size {
        let (start, end) = next_extent(file, offset, size).unwrap_or((size, size));
        extents.push((start, end - start));
        offset = end;
    }
    if extents.is_empty() {
        extents.push((0, 0));
    }
    extents
}

/// Reads the extents of a file. A file that is truncated meanwhile is padded with zeros to the size in
/// its header.
struct ExtentReader<'f> {
    file: &'f File,
    extents: &'f [(u64, u64)],
    remaining: u64,
}

impl Read for ExtentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.remaining == 0 {
            let Some(((offset, length), rest)) = self.extents.split_first() else { return Ok(0) };
            seek(self.file, *offset, Whence::SeekSet)?;
            (self.extents, self.remaining) = (rest, *length);
        }
        let count = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        let mut read = self.file.read(&mut buffer[..count])?;
        if read == 0 {
            buffer[..count].fill(0);
            read = count;
        }
        self.remaining -= read as u64;
        Ok(read)
    }
}

/// Makes a header that of a sparse file (GNU tar, "Old GNU Format"); returns the extension headers for
/// the extents that have no room in it.
fn make_sparse(header: &mut Header, extents: &[(u64, u64)], size: u64) -> Vec<u8> {
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(extents.iter().map(|(_, length)| length).sum());
    let mut remaining = extents.iter();
    if let Some(gnu) = header.as_gnu_mut() {
        gnu.set_real_size(size);
        for (slot, (offset, length)) in gnu.sparse.iter_mut().zip(remaining.by_ref()) {
            slot.set_offset(*offset);
            slot.set_length(*length);
        }
        gnu.set_is_extended(remaining.len() > 0);
    }
    let mut blocks = Vec::new();
    while remaining.len() > 0 {
        let mut block = GnuExtSparseHeader::new();
        let room = block.sparse.len();
        for (slot, (offset, length)) in block.sparse.iter_mut().zip(remaining.by_ref().take(room)) {
            slot.set_offset(*offset);
            slot.set_length(*length);
        }
        block.set_is_extended(remaining.len() > 0);
        blocks.extend_from_slice(block.as_bytes());
    }
    blocks
}

/// Unpacks a stream into a directory.
///
/// # Errors
/// At the first member that leads out of it, or cannot be written.
pub fn unpack(
    context: &CopyContext<'_>,
    stream: impl Read,
    directory: &OwnedFd,
) -> Result<(), Error> {
    let broken = |error| {
        failure("cannot read the tar stream".into())
            .cause(os_error(error))
            .hint("a compressed stream has to be decompressed first, with `gzip -d` for example")
    };
    let mut unpacker = Unpacker { context, directory, times: Vec::new() };
    for entry in Archive::new(stream).entries().map_err(broken)? {
        unpacker.extract(&mut entry.map_err(broken)?)?;
    }
    unpacker.set_times();
    Ok(())
}

struct Unpacker<'u> {
    context: &'u CopyContext<'u>,
    directory: &'u OwnedFd,
    /// The times of directories: files that are created in them later would change them.
    times: Vec<(Vec<u8>, (i64, u32))>,
}

impl Unpacker<'_> {
    fn extract(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), Error> {
        let context = self.context;
        let path = entry.path_bytes().into_owned();
        // (The directory itself has no name.)
        let Some((dir, name)) = self.locate(&path)? else { return Ok(()) };
        let failed = |errno| member_error(&path, errno);
        let (metadata, options) = (self.metadata(entry.header()), context.options.write);
        let target = entry.link_name_bytes().unwrap_or_default().into_owned();
        let on_bytes = &|bytes| context.events.add(0, bytes);
        let (outcome, dropped) = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                let content = &mut Content::Stream(entry);
                write::write_file(&dir, &name, content, &metadata, options, on_bytes)
            }
            EntryType::GNUSparse => {
                let content = &mut Content::SparseStream(entry);
                write::write_file(&dir, &name, content, &metadata, options, on_bytes)
            }
            EntryType::Symlink => {
                write::write_symlink(&dir, &name, &target, &metadata, options.no_clobber)
            }
            EntryType::Directory => return self.extract_directory(&path, &dir, &name, metadata),
            EntryType::Link => return self.extract_hard_link(&path, &dir, &name, &target),
            kind => {
                let text = text(&path);
                let warning = format!("skipped `{text}`: not a file, directory or link ({kind:?})");
                return context.warn("special", warning);
            }
        }
        .map_err(failed)?;
        context.written(&name, outcome, &dropped)
    }

    fn metadata(&self, header: &Header) -> Metadata {
        let id = |id: std::io::Result<u64>| u32::try_from(id.ok()?).ok();
        let (owner, _) = self.context.owner(id(header.uid()).zip(id(header.gid())));
        let time = header.mtime().ok().and_then(|time| i64::try_from(time).ok());
        Metadata {
            mode: header.mode().unwrap_or(0o644) & self.context.mode_mask(),
            owner,
            modified: time.map(|seconds| (seconds, 0)),
            xattrs: Vec::new(),
        }
    }

    fn extract_directory(
        &mut self,
        path: &[u8],
        dir: &TargetDir,
        name: &[u8],
        metadata: Metadata,
    ) -> Result<(), Error> {
        let failed = |errno| member_error(path, errno);
        match mkdirat(&dir.fd, name, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let created = fd::open_at(&dir.fd, name, flags).map_err(failed)?;
        self.times.extend(metadata.modified.map(|time| (path.to_owned(), time)));
        apply_metadata(created.as_fd(), &Metadata { modified: None, ..metadata });
        self.context.events.add(1, 0);
        Ok(())
    }

    fn extract_hard_link(
        &self,
        path: &[u8],
        dir: &TargetDir,
        name: &[u8],
        target: &[u8],
    ) -> Result<(), Error> {
        let Some((from, existing)) = self.locate(target)? else {
            return Err(cannot_unpack(path).cause("a hard link to a directory"));
        };
        match linkat(&from.fd, &*existing, &dir.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(member_error(path, errno)),
        }
        self.context.events.add(1, 0);
        Ok(())
    }

    /// Returns the directory and the name of a member; none for the directory itself. Missing directories
    /// are created. No symlink is followed, and `..` is an error.
    fn locate(&self, path: &[u8]) -> Result<Option<(TargetDir, Vec<u8>)>, Error> {
        let parts = path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".");
        let parts: Vec<&[u8]> = parts.collect();
        if parts.iter().any(|part| *part == b".." || part.contains(&0)) {
            return Err(cannot_unpack(path)
                .cause("the path leads out of the directory")
                .hint("earlier members are unpacked; list the stream with `tar -t`"));
        }
        let Some((name, parents)) = parts.split_last() else { return Ok(None) };
        let failed = |errno| match errno {
            Errno::ENOTDIR | Errno::ELOOP => cannot_unpack(path)
                .cause("a part of its path exists and is not a directory")
                .hint("symlinks are not followed; remove it, or give another directory"),
            errno => member_error(path, errno),
        };
        let mut dir = duplicate(self.directory).map_err(failed)?;
        for part in parents {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
            dir = match fd::open_at(&dir, *part, flags) {
                Err(Errno::ENOENT) => {
                    mkdirat(&dir, *part, Mode::from_bits_truncate(0o755)).map_err(failed)?;
                    fd::open_at(&dir, *part, flags)
                }
                opened => opened,
            }
            .map_err(failed)?;
        }
        Ok(Some((TargetDir::new(dir).map_err(failed)?, name.to_vec())))
    }

    /// Sets the times of the directories, the deepest first.
    fn set_times(&mut self) {
        for (path, time) in std::mem::take(&mut self.times).into_iter().rev() {
            if let Ok(Some((dir, name))) = self.locate(&path) {
                // Best effort, as for all times.
                let _ = set_time(&dir.fd, &name, time);
            }
        }
    }
}

fn cannot_unpack(path: &[u8]) -> Error {
    failure(format!("cannot unpack `{}`", text(path)))
}

fn member_error(path: &[u8], errno: Errno) -> Error {
    because(cannot_unpack(path), errno)
}
