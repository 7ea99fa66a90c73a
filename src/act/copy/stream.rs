//! Tar streams: a folder of a place as one, and one into a folder of a place. What a stream says is no
//! more trusted than a container: its members stay below the folder.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, linkat, mkdirat, openat};
use rustix::io::Errno;
use tar::{EntryType, Header};

use super::place::Node;
use super::tree::{Copier, Failed, News, Options, reason};
use super::write::{self, Content, Traits};

fn failed(path: &[u8], why: impl ToString) -> Failed {
    Failed { path: String::from_utf8_lossy(path).into_owned(), why: why.to_string() }
}

/// Writes what was found as a stream, under its own name.
///
/// # Errors
/// At the first file that cannot be read, or when the stream cannot be written.
pub fn pack(
    node: &Node,
    name: &[u8],
    contents: bool,
    out: &mut dyn Write,
    copier: &mut Copier<'_>,
) -> Result<(), Failed> {
    let mut builder = tar::Builder::new(out);
    let at = if contents { b"." } else { name };
    pack_one(&mut builder, node, at, copier)?;
    builder.finish().map_err(|error| failed(name, error))
}

fn pack_one(
    builder: &mut tar::Builder<&mut dyn Write>,
    node: &Node,
    path: &[u8],
    copier: &mut Copier<'_>,
) -> Result<(), Failed> {
    let errno = |errno: Errno| failed(path, reason(errno));
    let io = |error: std::io::Error| failed(path, error);
    let as_path = std::path::PathBuf::from(
        <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path),
    );
    let stat = &node.stat;
    let mut header = Header::new_gnu();
    let bits = if copier.options.archive { 0o7777 } else { 0o777 };
    header.set_mode(u32::from(stat.stx_mode) & bits);
    header.set_mtime(u64::try_from(stat.stx_mtime.tv_sec).unwrap_or(0));
    // As the container numbers them; who is nobody there is nobody in the stream.
    let (uid, gid) = copier.from.inner(stat.stx_uid, stat.stx_gid).unwrap_or((65534, 65534));
    header.set_uid(u64::from(uid));
    header.set_gid(u64::from(gid));
    header.set_size(0);
    match node.kind() {
        FileType::RegularFile => {
            let file = File::from(node.open_to_read().map_err(errno)?);
            let size = file.metadata().map_err(io)?.len();
            header.set_entry_type(EntryType::Regular);
            header.set_size(size);
            // A file that changes meanwhile still has the length that was said.
            let padded = (&file).chain(std::io::repeat(0)).take(size);
            builder.append_data(&mut header, &as_path, padded).map_err(io)?;
            (copier.tell)(News::Bytes(size));
            (copier.tell)(News::One);
        }
        FileType::Symlink => {
            header.set_entry_type(EntryType::Symlink);
            let target = node.link().map_err(errno)?;
            let target: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(&target);
            builder.append_link(&mut header, &as_path, target).map_err(io)?;
            (copier.tell)(News::One);
        }
        FileType::Directory => {
            header.set_entry_type(EntryType::Directory);
            builder.append_data(&mut header, as_path.join(""), std::io::empty()).map_err(io)?;
            (copier.tell)(News::One);
            let opened = node.open_to_read().map_err(errno)?;
            let mut names: Vec<Vec<u8>> = Vec::new();
            for entry in rustix::fs::Dir::new(opened).map_err(errno)? {
                let name = entry.map_err(errno)?.file_name().to_bytes().to_owned();
                if name != b"." && name != b".." {
                    names.push(name);
                }
            }
            for name in names {
                let inner = match Node::open(&node.fd, &name) {
                    Ok(inner) => inner,
                    Err(Errno::NOENT) => continue,
                    Err(e) => return Err(errno(e)),
                };
                let path = [path, b"/", &name].concat();
                if inner.stat.stx_mnt_id != stat.stx_mnt_id && copier.is_pseudo(&inner, &path)? {
                    continue;
                }
                pack_one(builder, &inner, &path, copier)?;
            }
        }
        _ => copier.warn(
            "special",
            format!("`{}` is no file, folder or link: left out", String::from_utf8_lossy(path)),
        )?,
    }
    Ok(())
}

/// Unpacks a stream into a folder.
///
/// # Errors
/// At the first member that leads out of it, or cannot be written.
pub fn unpack(stream: impl Read, folder: &OwnedFd, copier: &mut Copier<'_>) -> Result<(), Failed> {
    let (place, options) = (copier.to, copier.options);
    let mut archive = tar::Archive::new(stream);
    for entry in archive.entries().map_err(|error| failed(b"-", error))? {
        let mut entry = entry.map_err(|error| failed(b"-", format!("no tar stream: {error}")))?;
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
        let traits = Traits {
            mode: header.mode().unwrap_or(0o644) & bits,
            owner: match options {
                Options { chown: Some(owner), .. } => Some(owner),
                Options { archive: true, .. } => {
                    own.and_then(|(uid, gid)| place.outer(uid, gid)).or(place.owner)
                }
                _ => place.owner,
            },
            modified: header.mtime().ok().and_then(|time| Some((i64::try_from(time).ok()?, 0))),
            xattrs: Vec::new(),
        };
        let errno = |errno: Errno| failed(&path, reason(errno));
        let keep = options.no_clobber;
        match header.entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mut more = |bytes| (copier.tell)(News::Bytes(bytes));
                let content = &mut Content::Stream(&mut entry);
                let (written, lost) =
                    write::file(above.as_fd(), &name, content, &traits, keep, &mut more)
                        .map_err(errno)?;
                copier.told(&lost, written, &name)?;
                continue;
            }
            EntryType::Directory => {
                match mkdirat(&above, &*name, Mode::from_raw_mode(0o700)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(errno(e)),
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let own = openat(&above, &*name, flags, Mode::empty()).map_err(errno)?;
                // Times would not last: more is to come into it.
                write::dress(own.as_fd(), &Traits { modified: None, ..traits });
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let (written, lost) =
                    write::link(above.as_fd(), &name, &target, &traits, keep).map_err(errno)?;
                copier.told(&lost, written, &name)?;
                continue;
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let found =
                    way(folder, &target)?.ok_or_else(|| failed(&path, "a link to nothing"))?;
                let made = linkat(&found.0, &*found.1, &above, &*name, AtFlags::empty());
                if made != Err(Errno::EXIST) {
                    made.map_err(errno)?;
                }
            }
            kind => {
                let text = String::from_utf8_lossy(&path);
                copier.warn(
                    "special",
                    format!("`{text}` is no file, folder or link ({kind:?}): left out"),
                )?;
                continue;
            }
        }
        (copier.tell)(News::One);
    }
    Ok(())
}

/// The folder and the name of a member, folders on the way made where they are missing. No link is
/// followed and no `..` taken.
fn way(folder: &OwnedFd, path: &[u8]) -> Result<Option<(OwnedFd, Vec<u8>)>, Failed> {
    let parts: Vec<&[u8]> =
        path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&&b".."[..]) || parts.iter().any(|part| part.contains(&0)) {
        return Err(failed(path, "it leads out of the folder"));
    }
    let Some((name, above)) = parts.split_last() else { return Ok(None) };
    let errno = |e: Errno| match e {
        Errno::NOTDIR | Errno::LOOP => {
            failed(path, "something that is no folder stands in its way")
        }
        e => failed(path, reason(e)),
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
    Ok(Some((at, name.to_vec())))
}
