//! The source that is a tar stream: its members go to a directory. A stream is trusted no more than a
//! container: its members stay below the directory, no symlink is followed there, and `..` is an error.

use std::collections::HashSet;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};

use super::attributes::MemberAttributes;
use super::created::CreatedDirectories;
use super::pax::Records;
use super::read::{Member, StreamEnd, TarError, TarReader};
use crate::action::copy::context::{CopyContext, MAX_DEPTH};
use crate::action::copy::copy_data::Content;
use crate::action::copy::create::{
    create_directory, create_hard_link, create_symlink, is_unlinkable, write_file,
};
use crate::action::copy::entry::EntryAttributes;
use crate::action::copy::error::{because, broken_stream, cut_stream, failure, text};
use crate::action::copy::metadata::{DroppedAttribute, Metadata, apply_metadata};
use crate::action::copy::names::UserGroupNames;
use crate::action::copy::obstacle::explain;
use crate::action::copy::rootfs::{Node, duplicate};
use crate::action::copy::write::{TargetDir, WriteOutcome};
use crate::error::{Error, os_error};
use crate::model::account::Deviation;
use crate::sys::fd;

/// The longest name of a file (NAME_MAX).
const MAX_NAME: usize = 255;

/// Unpacks a stream into a directory.
///
/// # Errors
/// The stream is not one, or ends early; a member leads out of the directory, or cannot be written.
pub fn unpack(
    context: &CopyContext<'_>,
    stream: impl Read,
    directory: OwnedFd,
) -> Result<(), Error> {
    let root = TargetDir::new(directory).map_err(|errno| member_error(b".", errno))?;
    root.remove_stale_temp_files();
    let mut unpacker = Unpacker {
        context,
        root: Rc::new(root),
        names: UserGroupNames::new(context.to),
        directories: CreatedDirectories::default(),
        kept: HashSet::new(),
        last: None,
    };
    let mut reader = TarReader::new(stream);
    let unpacked = unpacker.run(&mut reader);
    // After an error too: they have been closed to others so far.
    let finished = unpacker.finish();
    unpacked.and(finished)
}

/// A path of a member: its names from the directory on.
type MemberPath = Vec<Vec<u8>>;

/// A directory that was created, and the metadata that it gets when everything is in it.
struct PendingMember {
    metadata: Metadata,
    dropped: Vec<DroppedAttribute>,
}

struct Unpacker<'u> {
    context: &'u CopyContext<'u>,
    root: Rc<TargetDir>,
    names: UserGroupNames<'u>,
    /// The directories that were created, with what members say of them.
    directories: CreatedDirectories<PendingMember>,
    /// Members in whose place something else is: a link to it would not be a link to the member.
    kept: HashSet<MemberPath>,
    /// The directory of the last member.
    last: Option<(MemberPath, Rc<TargetDir>)>,
}

impl Unpacker<'_> {
    fn run(&mut self, reader: &mut TarReader<impl Read>) -> Result<(), Error> {
        loop {
            match reader.next().map_err(stream_error)? {
                Ok(member) => {
                    let extracted = self.extract(reader, &member);
                    // (One that leads out is not a path here.)
                    if let Ok(names) = split(&member.path) {
                        match extracted {
                            Ok(outcome) if outcome != WriteOutcome::Kept => {
                                self.kept.remove(&names)
                            }
                            _ => self.kept.insert(names),
                        };
                    }
                    self.context.member(extracted.map(drop))?;
                }
                Err(end) => return self.end(end),
            }
        }
    }

    /// Reports bytes after the archive, or a missing end.
    fn end(&self, end: StreamEnd) -> Result<(), Error> {
        let (effect, aspect, text) = match end {
            StreamEnd::Complete => return Ok(()),
            StreamEnd::Unmarked => (
                Deviation::Guessed,
                "end of the stream",
                "the tar stream has no end-of-archive marker: it may be truncated".to_owned(),
            ),
            StreamEnd::AnotherArchive => (
                Deviation::Skipped,
                "archive behind the end",
                "skipped another archive after the end of the first in the tar stream".to_owned(),
            ),
            StreamEnd::Garbage(bytes) => (
                Deviation::Skipped,
                "data behind the end",
                format!("skipped {bytes} bytes after the end of the archive in the tar stream"),
            ),
        };
        self.context.account(effect, aspect, text)
    }

    fn extract(
        &mut self,
        reader: &mut TarReader<impl Read>,
        member: &Member,
    ) -> Result<WriteOutcome, Error> {
        let context = self.context;
        let path = &*member.path;
        if let Some((aspect, words)) = unknown_kind(member.kind) {
            let skipped = format!("skipped `{}`: {words}", text(path));
            context.account(Deviation::Skipped, &aspect, skipped)?;
            return Ok(WriteOutcome::Kept);
        }
        let names = split(path)?;
        let records = Records { member: &member.records, global: &reader.global };
        let MemberAttributes { entry, invalid } =
            MemberAttributes::new(member, &records, &|is_group, name| {
                self.names.id(is_group, name)
            });
        for record in invalid {
            let ignored = format!("`{}`: ignored the invalid PAX record `{record}`", text(path));
            context.account(Deviation::Guessed, "invalid PAX record", ignored)?;
        }
        let entry = if context.options.archive { entry } else { without_extras(entry) };
        let is_directory = match member.kind {
            // (Before ustar a directory was a file with a slash after its name.)
            0 | b'0' => path.ends_with(b"/"),
            kind => matches!(kind, b'5' | b'D'),
        };
        let Some((name, parents)) = names.split_last() else {
            // (The directory itself has no name.)
            return match is_directory {
                true => Ok(WriteOutcome::Kept),
                false => Err(cannot_unpack(path).cause("a file without a name")),
            };
        };
        let dir = self.open(path, parents)?;
        match member.kind {
            _ if is_directory => self.directory(path, &names, &dir, entry),
            b'1' => self.hard_link(member, &names, &dir),
            b'2' => create_symlink(context, path, &dir, name, &member.link, entry),
            _ => {
                let (mut data, map) = (reader.data(), &member.map);
                let content = &mut Content::Stream(&mut data, &map.extents, map.size);
                write_file(context, path, &dir, name, content, entry)
            }
        }
    }

    /// Creates a directory. One that exists keeps its metadata, as in a copy without a stream.
    fn directory(
        &mut self,
        path: &[u8],
        names: &[Vec<u8>],
        dir: &TargetDir,
        entry: EntryAttributes,
    ) -> Result<WriteOutcome, Error> {
        let Some((name, parents)) = names.split_last() else { return Ok(WriteOutcome::Kept) };
        let (_, is_new) = create_directory(self.context, path, dir, name)?;
        if is_new {
            self.directories.add(names, parents.len());
        }
        let (metadata, dropped) = self.context.metadata(entry);
        self.directories.set(names, PendingMember { metadata, dropped });
        self.context.written(path, WriteOutcome::Renamed, &[])?;
        Ok(WriteOutcome::Renamed)
    }

    fn hard_link(
        &mut self,
        member: &Member,
        names: &[Vec<u8>],
        dir: &TargetDir,
    ) -> Result<WriteOutcome, Error> {
        let (context, path) = (self.context, &*member.path);
        let target = split(&member.link)?;
        let (Some(name), Some((first, parents))) = (names.last(), target.split_last()) else {
            return Err(cannot_unpack(path).cause("a hard link to a directory"));
        };
        let is_kept = context.options.write.no_clobber && dir.has(name);
        if self.kept.contains(&target) && !is_kept {
            let (path, link) = (text(path), text(&member.link));
            let skipped = format!("skipped `{path}`: a link to `{link}`, which was not written");
            context.account(Deviation::Skipped, "link to a file not written", skipped)?;
            return Ok(WriteOutcome::Kept);
        }
        let missing = |errno| match errno {
            Errno::ENOENT => cannot_unpack(path)
                .cause(format!(
                    "the file `{}`, which it is a link to, is missing",
                    text(&member.link)
                ))
                .hint("it comes later in the stream, or was skipped"),
            errno => member_error(path, errno),
        };
        let from = self.walk(parents, false).map_err(missing)?;
        match create_hard_link(context, path, (&from, first), dir, name)? {
            Ok(outcome) => Ok(outcome),
            Err(errno) if is_unlinkable(errno) => {
                let node = Node::open(&from.fd, first).map_err(missing)?;
                let file = node.open_to_read().map_err(missing)?.into();
                let entry = EntryAttributes::read(context.to, &node, context.options.archive);
                write_file(context, path, dir, name, &mut Content::File(&file), entry)
            }
            Err(errno) => Err(missing(errno)),
        }
    }

    /// Opens the directory of a member; missing ones are created.
    fn open(&mut self, path: &[u8], parents: &[Vec<u8>]) -> Result<Rc<TargetDir>, Error> {
        if let Some((last, dir)) = &self.last
            && last == parents
        {
            return Ok(dir.clone());
        }
        let dir = self.walk(parents, true).map_err(|errno| match errno {
            Errno::ENOTDIR | Errno::ELOOP => self.obstacle(path, parents),
            errno => member_error(path, errno),
        })?;
        self.last = Some((parents.to_vec(), dir.clone()));
        Ok(dir)
    }

    /// Returns the error for a part of a path that is not a directory.
    fn obstacle(&self, path: &[u8], parents: &[Vec<u8>]) -> Error {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let error = cannot_unpack(path);
        let Ok(mut dir) = duplicate(&self.root.fd) else { return error };
        for name in parents {
            dir = match fd::open_at(&dir, &**name, flags) {
                Ok(dir) => dir,
                Err(_) => return explain(error, self.context.to, &dir, name),
            };
        }
        // (It was replaced meanwhile.)
        error.cause("a part of its path was not a directory")
    }

    fn walk(&mut self, parents: &[Vec<u8>], create: bool) -> Result<Rc<TargetDir>, Errno> {
        if parents.is_empty() {
            return Ok(self.root.clone());
        }
        // (Recorded at once: one by one would take the square of the depth.)
        let mut created: Option<(usize, usize)> = None;
        let dir = self.descend(parents, create, |index| {
            created = Some((created.map_or(index, |(first, _)| first), index));
        });
        if let Some((first, last)) = created {
            self.directories.add(&parents[..=last], first);
        }
        Ok(Rc::new(TargetDir::new(dir?)?))
    }

    /// Opens a directory, and with `create` creates the missing ones above it, of each of which `on_created` gets
    /// the index.
    fn descend(
        &self,
        parents: &[Vec<u8>],
        create: bool,
        mut on_created: impl FnMut(usize),
    ) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let mut dir = duplicate(&self.root.fd)?;
        for (index, name) in parents.iter().enumerate() {
            dir = match fd::open_at(&dir, &**name, flags) {
                Err(Errno::ENOENT) if create => {
                    mkdirat(&dir, &**name, Mode::from_bits_truncate(0o755))?;
                    on_created(index);
                    fd::open_at(&dir, &**name, flags)?
                }
                opened => opened?,
            };
        }
        Ok(dir)
    }

    /// Gives the new directories their metadata, the deepest first: creating a file in one changes its
    /// times, and may need rights that it is not to have.
    fn finish(&mut self) -> Result<(), Error> {
        for (names, PendingMember { metadata, mut dropped }) in self.directories.take_values() {
            let path = names.join(&b'/');
            let dir = self
                .walk(&names, false)
                .and_then(|dir| fd::open_at(&dir.fd, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY));
            // (It was moved meanwhile.)
            let Ok(dir) = dir else { continue };
            dropped.extend(apply_metadata(dir.as_fd(), &metadata));
            self.context.lost(&path, &dropped)?;
        }
        Ok(())
    }
}

/// Splits the path of a member.
fn split(path: &[u8]) -> Result<MemberPath, Error> {
    let parts = path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".");
    let parts: Vec<&[u8]> = parts.collect();
    let start = &path[..path.len().min(80)];
    if parts.iter().any(|part| *part == b".." || part.contains(&0)) {
        return Err(cannot_unpack(start)
            .cause("the path leads out of the directory")
            .hint("earlier members are unpacked; list the stream with `tar -t`"));
    }
    if parts.len() > MAX_DEPTH {
        return Err(cannot_unpack(start)
            .cause(format!("directories are nested too deeply (more than {MAX_DEPTH} levels)")));
    }
    if parts.iter().any(|part| part.len() > MAX_NAME) {
        return Err(cannot_unpack(start).cause("File name too long"));
    }
    Ok(parts.into_iter().map(<[u8]>::to_vec).collect())
}

/// Returns the attributes that a copy without `archive` has: losses of the others are not losses.
fn without_extras(entry: EntryAttributes) -> EntryAttributes {
    let Metadata { mode, owner, modified, .. } = entry.metadata;
    let metadata = Metadata { mode, owner, modified, ..Metadata::default() };
    EntryAttributes { metadata, ..EntryAttributes::default() }
}

/// Returns the type of a member that is not unpacked, and why.
fn unknown_kind(kind: u8) -> Option<(String, String)> {
    let aspect = match kind {
        0 | b'0' | b'1' | b'2' | b'5' | b'7' | b'D' | b'S' => return None,
        b'3' => "a character device",
        b'4' => "a block device",
        b'6' => "a FIFO",
        b'M' => "the rest of a file, which began in another volume",
        b'N' => "a list of long names in an old form",
        b'A' => "an access control list in the form of Solaris",
        _ => {
            let letter = char::from(kind).escape_default();
            let aspect = format!("a member of the unknown type `{letter}`");
            return Some((aspect.clone(), format!("it is {aspect}")));
        }
    };
    Some((aspect.to_owned(), format!("it is {aspect}")))
}

fn stream_error(error: TarError) -> Error {
    match error {
        TarError::Io(error) => failure("cannot read the tar stream".into()).cause(os_error(error)),
        TarError::Empty => broken_stream("it is empty")
            .hint("the program that writes it has failed, or writes elsewhere"),
        TarError::Cut(path) => cut_stream(&path),
        TarError::NotTar(Some(program)) => {
            broken_stream("it is compressed").hint(format!("decompress it first, with `{program}`"))
        }
        TarError::NotTar(None) => broken_stream("it does not begin with the header of a member")
            .hint("`-` expects the uncompressed output of `tar -c`"),
        TarError::Broken(path, cause) if path.is_empty() => broken_stream(&cause),
        TarError::Broken(path, cause) => {
            broken_stream(&format!("{cause}, at or after `{}`", text(&path)))
        }
    }
}

fn cannot_unpack(path: &[u8]) -> Error {
    failure(format!("cannot unpack `{}`", text(path)))
}

fn member_error(path: &[u8], errno: Errno) -> Error {
    because(cannot_unpack(path), errno)
}
