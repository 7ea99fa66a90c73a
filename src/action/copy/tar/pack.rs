//! The sink that is a tar stream: GNU headers, long names and sparse files in GNU's form, which every tar
//! reads, and PAX records before them for attributes that have no room there (tar(5), pax(1)).

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::sync::Arc;

use nix::errno::Errno;
use nix::unistd::Whence;
use tar::{Builder, EntryType, GnuExtSparseHeader, Header};

use super::pax;
use crate::action::copy::context::CopyContext;
use crate::action::copy::copy_data::{CopiedData, has_unknown_size, next_extent, seek};
use crate::action::copy::entry::EntryAttributes;
use crate::action::copy::error::{cannot_copy, failure, text};
use crate::action::copy::metadata::{DroppedAttribute, Metadata};
use crate::action::copy::sources::CopySource;
use crate::action::copy::walk::{Sink, walk};
use crate::error::{Error, os_error};
use crate::model::account::Deviation;

/// The owner and group of a file whose own have no ID in the container (the default of
/// /proc/sys/kernel/overflowuid, which the kernel shows there).
const OVERFLOW_ID: u32 = 65534;
/// The name of a header with PAX records, for programs that do not support it and unpack a file.
const RECORDS: &[u8] = b"PaxHeaders/records";
/// The name of a header with a long name, as GNU tar has it.
const LONG_NAME: &[u8] = b"././@LongLink";
/// The longest name in a header.
const SHORT_NAME: usize = 100;
/// The part of a file of unknown size that is kept in memory; more is written to a temporary file.
const IN_MEMORY: usize = 1 << 20;

/// Writes a source as a stream, under its name. A reader that closes the pipe has enough: that is not an
/// error.
///
/// # Errors
/// At the first file that cannot be read, or the stream cannot be written.
pub fn pack(context: &CopyContext<'_>, source: CopySource, out: impl Write) -> Result<(), Error> {
    let out = StreamWriter { inner: out, context, failure: None };
    let mut sink = TarSink { builder: Builder::new(out), context };
    let walked = walk(context, &mut sink, Arc::from(&b""[..]), source, false);
    let done = walked.and_then(|()| {
        let finished = sink.builder.finish().and_then(|()| sink.builder.get_mut().flush());
        finished.map_err(|error| sink.write_error(b"", error))
    });
    match (done, sink.builder.get_ref().failure) {
        (Err(_), Some(Errno::EPIPE)) => Ok(()),
        (done, _) => done,
    }
}

/// Stdout, which may be read slowly, and remembers its first error: an error of a member is then not
/// taken for one of the source.
struct StreamWriter<'p, W: Write> {
    inner: W,
    context: &'p CopyContext<'p>,
    failure: Option<Errno>,
}

impl<W: Write> StreamWriter<'_, W> {
    fn note<T>(&mut self, done: std::io::Result<T>) -> std::io::Result<T> {
        if let Err(error) = &done {
            let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            if errno != Errno::EINTR {
                self.failure.get_or_insert(errno);
            }
        }
        done
    }
}

impl<W: Write> Write for StreamWriter<'_, W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let done = self.context.events.waiting(|| self.inner.write(buffer));
        self.note(done)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let done = self.context.events.waiting(|| self.inner.flush());
        self.note(done)
    }
}

struct TarSink<'p, W: Write> {
    builder: Builder<StreamWriter<'p, W>>,
    context: &'p CopyContext<'p>,
}

/// Returns the name of an entry in the stream.
fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

impl<W: Write> Sink for TarSink<'_, W> {
    /// The name of the directory in the stream.
    type Dir = Arc<[u8]>;

    fn enter(&mut self, parent: &Self::Dir, entry: &CopySource) -> Result<Self::Dir, Error> {
        let name = join(parent, &entry.name);
        let slash = [&*name, b"/"].concat();
        let header = self.start(entry, EntryType::Directory, &slash, b"")?;
        self.append(&entry.path, header, std::io::empty())?;
        self.context.events.add(1, 0);
        Ok(name.into())
    }

    fn file(
        &mut self,
        parent: &Self::Dir,
        entry: CopySource,
        _has_names: bool,
    ) -> Result<bool, Error> {
        let path = &*entry.path;
        let file = entry.node.open_to_read().map(File::from);
        let file = file.map_err(|errno| self.context.source_error(path, errno))?;
        let size = file.metadata().map_err(|error| self.read_error(path, error))?.len();
        let name = join(parent, &entry.name);
        if has_unknown_size(&file, size) {
            self.append_spooled(&entry, &name, file)?;
        } else {
            self.append_sized(&entry, &name, &file, size)?;
        }
        Ok(true)
    }

    fn symlink(&mut self, parent: &Self::Dir, entry: &CopySource) -> Result<bool, Error> {
        let target = entry.node.read_link();
        let target = target.map_err(|errno| self.context.source_error(&entry.path, errno))?;
        self.append_link(parent, entry, EntryType::Symlink, &target)?;
        Ok(true)
    }

    fn link(
        &mut self,
        (first_dir, first_name): (&Self::Dir, &[u8]),
        parent: &Self::Dir,
        entry: &CopySource,
    ) -> Result<bool, Error> {
        self.append_link(parent, entry, EntryType::Link, &join(first_dir, first_name))?;
        Ok(true)
    }
}

impl<W: Write> TarSink<'_, W> {
    /// Writes the PAX records of an entry, and returns its header. An owner without an ID in the
    /// container is reported.
    fn start(
        &mut self,
        entry: &CopySource,
        kind: EntryType,
        name: &[u8],
        link: &[u8],
    ) -> Result<Header, Error> {
        let context = self.context;
        let mut attributes =
            EntryAttributes::read(context.from, &entry.node, context.options.archive);
        attributes.metadata.mode &= context.mode_mask();
        if attributes.metadata.owner.is_none() {
            attributes.unread.push(DroppedAttribute::Owner);
        }
        // A further name has the attributes of the first.
        let mut records = Vec::new();
        if kind != EntryType::Link {
            records = pax::records(&mut attributes);
            context.lost(&entry.path, &attributes.unread)?;
        }
        // For programs that support one of the two forms only; the records come last, as libarchive forgets
        // records before a long name.
        for (long, flag, key) in [(link, b'K', "linkpath"), (name, b'L', "path")] {
            if long.len() > SHORT_NAME {
                self.append_long(&entry.path, flag, long)?;
                if let Ok(text) = String::from_utf8(long.to_vec()) {
                    records.push((key.to_owned(), text.into_bytes()));
                }
            }
        }
        if !records.is_empty() {
            let data = pax::encode(&records);
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::XHeader);
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            // (Without a name it is the end of the archive to BusyBox.)
            set_names(&mut header, RECORDS, b"");
            self.append(&entry.path, header, &*data)?;
        }
        let mut header = header(&attributes.metadata, kind);
        set_names(&mut header, name, link);
        Ok(header)
    }

    /// Appends a name that has no room in a header, in GNU's form.
    fn append_long(&mut self, path: &[u8], flag: u8, long: &[u8]) -> Result<(), Error> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::new(flag));
        header.set_size(long.len() as u64 + 1);
        header.set_mode(0o644);
        set_names(&mut header, LONG_NAME, b"");
        self.append(path, header, long.chain(&b"\0"[..]))
    }

    /// Appends a header and its data.
    fn append(&mut self, path: &[u8], mut header: Header, data: impl Read) -> Result<(), Error> {
        header.set_cksum();
        self.builder.append(&header, data).map_err(|error| self.write_error(path, error))
    }

    fn append_link(
        &mut self,
        parent: &[u8],
        entry: &CopySource,
        kind: EntryType,
        target: &[u8],
    ) -> Result<(), Error> {
        let name = join(parent, &entry.name);
        let header = self.start(entry, kind, &name, target)?;
        self.append(&entry.path, header, std::io::empty())?;
        self.context.events.add(1, 0);
        Ok(())
    }

    /// Appends a file that has its size. One that is truncated meanwhile is padded with zeros, as the
    /// size has been written, and reported.
    fn append_sized(
        &mut self,
        entry: &CopySource,
        name: &[u8],
        file: &File,
        size: u64,
    ) -> Result<(), Error> {
        let extents = extents(file, size);
        let mut header = self.start(entry, EntryType::Regular, name, b"")?;
        header.set_size(size);
        let more_headers = match &*extents {
            [(0, length)] if *length == size => Vec::new(),
            _ => make_sparse(&mut header, &extents, size),
        };
        let mut data = ExtentReader { file, extents: &extents, remaining: 0, offset: 0, end: None };
        self.append(&entry.path, header, (&*more_headers).chain(&mut data))?;
        let truncated = data.end;
        let after = file.metadata().map(|metadata| metadata.len()).ok();
        // (A hole at the end is not read, and may be gone.)
        let copied_size = truncated.or(after).map_or(size, |end| end.min(size));
        let copied =
            CopiedData { expected: Some(size), size: copied_size, after, ..CopiedData::default() };
        self.padded(&entry.path, &copied)?;
        self.context.events.add(1, size);
        Ok(())
    }

    /// Reports a file that changed, and the number of zeros in place of missing bytes.
    fn padded(&self, path: &[u8], copied: &CopiedData) -> Result<(), Error> {
        let lost = copied.expected.unwrap_or(0).saturating_sub(copied.size);
        if lost == 0 {
            return self.context.changed(path, copied);
        }
        let change = copied.change().unwrap_or_default();
        let path = text(path);
        let padded = format!(
            "`{}{path}` {change}: padded with {lost} zero bytes in the stream",
            self.context.from.prefix
        );
        self.context.account(Deviation::Changed, "file that changed while it was read", padded)
    }

    /// Appends a file whose size is known when it has been read.
    fn append_spooled(
        &mut self,
        entry: &CopySource,
        name: &[u8],
        mut file: File,
    ) -> Result<(), Error> {
        let path = &*entry.path;
        let mut spool = tempfile::SpooledTempFile::new(IN_MEMORY);
        let mut chunk = vec![0; 64 << 10];
        let mut size = 0;
        loop {
            let count = match file.read(&mut chunk) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read.map_err(|error| self.read_error(path, error))?,
            };
            if count == 0 {
                break;
            }
            spool.write_all(&chunk[..count]).map_err(|error| spool_error(path, error))?;
            size += count as u64;
            self.context.events.add(0, 0);
        }
        spool.rewind().map_err(|error| spool_error(path, error))?;
        let mut header = self.start(entry, EntryType::Regular, name, b"")?;
        header.set_size(size);
        self.append(path, header, &mut spool)?;
        self.context.events.add(1, size);
        Ok(())
    }

    fn read_error(&self, path: &[u8], error: std::io::Error) -> Error {
        cannot_copy(self.context.from, path).cause(os_error(error))
    }

    /// Returns the error for a member that was not written: of stdout, or else of the source.
    fn write_error(&self, path: &[u8], error: std::io::Error) -> Error {
        let error = match self.builder.get_ref().failure {
            Some(errno) => failure("cannot write the tar stream".into()).cause(os_error(errno)),
            None => self.read_error(path, error),
        };
        // A part of the member is in the stream.
        self.context.end(error)
    }
}

fn spool_error(path: &[u8], error: std::io::Error) -> Error {
    let directory = std::env::temp_dir();
    failure(format!("cannot keep `{}` until its size is known", text(path)))
        .cause(os_error(error))
        .hint(format!(
            "free space in `{}`, or set TMPDIR to another directory",
            directory.display()
        ))
}

/// Sets the first part of a name, and of the target of a link.
fn set_names(header: &mut Header, name: &[u8], link: &[u8]) {
    let old = header.as_old_mut();
    for (field, value) in [(&mut old.name, name), (&mut old.linkname, link)] {
        let length = value.len().min(SHORT_NAME);
        field[..length].copy_from_slice(&value[..length]);
    }
}

/// Returns a header without names and size.
fn header(metadata: &Metadata, kind: EntryType) -> Header {
    let (uid, gid) = metadata.owner.unwrap_or((OVERFLOW_ID, OVERFLOW_ID));
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(metadata.mode);
    header.set_uid(u64::from(uid));
    header.set_gid(u64::from(gid));
    header.set_size(0);
    let (seconds, _) = metadata.modified.unwrap_or_default();
    header.set_mtime(seconds.cast_unsigned());
    if let (Ok(_), Some(gnu)) = (u64::try_from(-1 - seconds), header.as_gnu_mut()) {
        // Before 1970: a negative number in base 256, which begins with all bits set (tar(5)).
        gnu.mtime[..4].fill(0xff);
    }
    header
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
/// its header, and `end` is where its data ended.
struct ExtentReader<'f> {
    file: &'f File,
    extents: &'f [(u64, u64)],
    remaining: u64,
    offset: u64,
    end: Option<u64>,
}

impl Read for ExtentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.remaining == 0 {
            let Some(((offset, length), rest)) = self.extents.split_first() else { return Ok(0) };
            seek(self.file, *offset, Whence::SeekSet)?;
            (self.extents, self.remaining, self.offset) = (rest, *length, *offset);
        }
        let count = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        let mut read = match self.end {
            None => self.file.read(&mut buffer[..count])?,
            Some(_) => 0,
        };
        if read == 0 {
            self.end.get_or_insert(self.offset);
            buffer[..count].fill(0);
            read = count;
        }
        self.remaining -= read as u64;
        self.offset += read as u64;
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
