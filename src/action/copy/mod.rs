//! Copies files into, out of and between containers. All of it happens in a child process, which can be
//! abandoned when a file system of the container hangs, in this order:
//!
//! 1. Take on the user that may write there: join the user namespace of a rootless container, or take
//!    its init's UID for file system access. No thread has started: both are properties of a thread.
//! 2. Expand patterns and count bytes for the progress bar.
//! 3. For each source: resolve it and the destination, get the place from `analysis::copy_rules`, and
//!    copy.
//! 4. Look the destination up again: if it is not there, another process moved it while we wrote.
//!
//! There are two sources of entries, a walk (`walk.rs`) and a tar stream (`tar/unpack.rs`), and two sinks, a
//! directory (`create.rs`) and a tar stream (`tar/pack.rs`). Between them an entry is the same: its
//! attributes (`entry.rs`) and its data (`copy_data.rs`). Each deviation from the request goes to one
//! account (`model::account`).

mod acl;
mod commits;
mod context;
mod copy_data;
mod create;
mod dead_end;
mod dir_sink;
mod entry;
mod error;
mod event;
mod file_capability;
mod fs_user;
pub mod fuzz;
mod list_dir;
mod metadata;
mod names;
mod obstacle;
mod place;
mod rootfs;
mod sources;
mod stored;
mod tar;
mod walk;
mod workers;
mod write;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{getegid, geteuid, setfsgid, setfsuid};

use crate::action::send::raise_fd_limit;
use crate::analysis::copy_rules::{
    DestinationKind, SourceKind, is_contents, is_directory_path, placement,
};
use crate::analysis::user::{Ids, UserSpec, identify};
use crate::engine::StoredRoot;
use crate::error::{Error, ExitStatus};
use crate::model::account::{AccountEntry, Deviation};
use crate::proc::Host;
use crate::sys::capability::{has, keep_over_user_changes};
use crate::sys::fd;
use crate::sys::file::FileKind;
use crate::sys::isolated::{self, Inherit, IsolationError};
use crate::sys::streams;
use context::CopyContext;
pub use context::CopyOptions;
use error::{because, because_unresolved, cannot_copy_to, failure};
use event::EventSender;
pub use event::{CopyEvent, CopyProgress, CopyResult};
pub use list_dir::names_in_container;
use place::copy_source;
pub use rootfs::Rootfs;
use rootfs::{Node, ResolvedPath, to_errno};
use sources::{CopySource, count_bytes, expand, find_single_source, find_source, literal_pattern};
pub use write::WriteOptions;

/// The longest time without an event: then a file system hangs.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The size of the buffer before stdout.
const STDOUT_BUFFER: usize = 1 << 20;
/// The size of the buffer after stdin.
const STDIN_BUFFER: usize = 256 << 10;

/// The location of one path of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// A tar stream on stdin or stdout.
    Stream,
    /// The host.
    Host,
    /// A container, by its index in [`CopyJob::containers`].
    Container(usize),
}

/// One path of a copy.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where it is.
    pub location: Location,
    /// The path; empty for the root of a container.
    pub path: Vec<u8>,
}

/// A copy that was asked for.
#[derive(Debug)]
pub struct CopyJob<'a> {
    /// The sources. A stream is the only one.
    pub sources: Vec<Endpoint>,
    /// The destination.
    pub destination: Endpoint,
    /// The containers of all paths.
    pub containers: Vec<Rootfs>,
    /// The containers among them that are not running, by index: where their files are. They have no
    /// root yet.
    pub stored: Vec<(usize, StoredRoot)>,
    /// The host as its records are read.
    pub records: &'a Host,
    /// The host.
    pub host: Rootfs,
    /// The options; the owner is taken from `chown`.
    pub options: CopyOptions,
    /// `USER[:GROUP]`, named as in the destination.
    pub chown: Option<Vec<u8>>,
    /// Whether to count the bytes to copy.
    pub count_bytes: bool,
}

impl CopyJob<'_> {
    /// Carries it out.
    ///
    /// # Errors
    /// At the first file that cannot be copied.
    pub fn run(self, on_event: &mut dyn FnMut(CopyEvent)) -> Result<CopyResult, Error> {
        // If the child hangs, the reader of our output must not wait for it.
        let is_stream = self.is_packed() || self.is_unpacked();
        let inherit = if is_stream { Inherit::Everything } else { Inherit::AllButStreams };
        let copy = |messages| {
            let events = Arc::new(EventSender::new(messages));
            self.copy(&events).map(|()| events.result())
        };
        isolated::run(inherit, TIMEOUT, copy, on_event).map_err(aborted)?
    }

    /// Copies the sources, in the child.
    fn copy(mut self, events: &Arc<EventSender>) -> Result<(), Error> {
        raise_fd_limit();
        umask(Mode::empty());
        self.mount_stored(events)?;
        let is_user_of_fuse = self.join_user_namespace(events);
        let to_host = matches!(self.destination.location, Location::Host | Location::Stream);
        self.copy_joined(events).map_err(|error| match error.status {
            ExitStatus::NotPermitted if is_user_of_fuse => error.hint(fuse_hint(to_host)),
            _ => error,
        })
    }

    /// Copies in the user namespace that was joined, if one was.
    fn copy_joined(self, events: &Arc<EventSender>) -> Result<(), Error> {
        let (to, _) = self.side(&self.destination);
        let options = CopyOptions { owner: self.owner(to)?, ..self.options };
        if self.is_packed() {
            return self.pack(options, events);
        }
        commits::protect();
        become_owner(to);
        commits::follow_parent();
        if self.is_unpacked() {
            return self.unpack(options, events);
        }
        self.copy_sources(options, events)
    }

    /// Mounts the file systems of containers that are not running. First of all: threads and joined
    /// namespaces would get in the way.
    fn mount_stored(&mut self, events: &EventSender) -> Result<(), Error> {
        if !self.stored.is_empty() {
            stored::leave_mount_namespace()?;
        }
        let mut omitted = Vec::new();
        for (index, stored) in std::mem::take(&mut self.stored) {
            let rootfs = &mut self.containers[index];
            let name = rootfs.prefix.trim_end_matches(':').to_owned();
            let mounted = stored::mount_stored(self.records, &stored).map_err(|error| {
                let message = format!("cannot read the files of `{name}` from disk");
                Error { message, cause: Some(error.to_string()), ..error }
            })?;
            rootfs.root = Some(mounted.root);
            omitted.extend(mounted.omissions.into_iter().filter_map(|omission| {
                let is_copied = |source: &&Endpoint| {
                    source.location == Location::Container(index)
                        && omission.concerns(Path::new(OsStr::from_bytes(&source.path)))
                };
                self.sources.iter().find(is_copied)?;
                let place = omission.place.display();
                Some(format!("`{name}:{place}` from disk is not complete: {}", omission.text))
            }));
        }
        match omitted.first() {
            Some(text) if self.options.strict => {
                return Err(failure("cannot copy everything".into()).cause(text));
            }
            _ => {
                for text in omitted {
                    let entry = AccountEntry::of_file(Deviation::Skipped, "mount from disk", text);
                    events.account(&entry);
                }
            }
        }
        Ok(())
    }

    fn is_packed(&self) -> bool {
        self.destination.location == Location::Stream
    }

    fn is_unpacked(&self) -> bool {
        self.sources.iter().any(|source| source.location == Location::Stream)
    }

    fn side<'a>(&'a self, endpoint: &'a Endpoint) -> (&'a Rootfs, &'a [u8]) {
        match endpoint.location {
            Location::Stream => (&self.host, b"."),
            Location::Host => (&self.host, &endpoint.path),
            Location::Container(index) if endpoint.path.is_empty() => {
                (&self.containers[index], b"/")
            }
            Location::Container(index) => (&self.containers[index], &endpoint.path),
        }
    }

    fn copy_sources(&self, options: CopyOptions, events: &Arc<EventSender>) -> Result<(), Error> {
        let mut sources = Vec::new();
        for source in &self.sources {
            let (from, path) = self.side(source);
            let paths = expand(from, path)?;
            if let Some(sentence) = literal_pattern(from, path, &paths) {
                let context = CopyContext::new(from, from, options, events);
                context.account(Deviation::Guessed, "pattern", sentence)?;
            }
            sources.extend(paths.into_iter().map(|path| (from, path)));
        }
        if self.count_bytes {
            count_bytes(&sources, options.follow, events);
        }
        let several = sources.len() > 1;
        let (to, _) = self.side(&self.destination);
        for (from, source) in sources {
            let context = CopyContext::new(from, to, options, events);
            let copied = self.copy_one(&context, &source, several);
            // One of several is a member; an error that ends the copy ends it for all.
            if several { context.member(copied)? } else { copied? }
        }
        Ok(())
    }

    fn copy_one(
        &self,
        context: &CopyContext<'_>,
        source: &[u8],
        several: bool,
    ) -> Result<(), Error> {
        let (to, path) = self.side(&self.destination);
        let source = find_source(context.from, source, context.options.follow)?;
        let destination = resolve_destination(to, path).map_err(|error| context.end(error))?;
        let kind = destination_kind(&destination, path);
        let placement =
            placement(source_kind(&source), kind, several).map_err(|(cause, hint)| {
                context.end(cannot_copy_to(to, path).cause(cause).hint(hint))
            })?;
        copy_source(context, source, placement, &destination)?;
        verify_destination(to, path)
    }

    fn pack(&self, options: CopyOptions, events: &Arc<EventSender>) -> Result<(), Error> {
        events.report_waits();
        let (from, path) = self.side(&self.sources[0]);
        let mut source = find_single_source(from, path, options.follow)?;
        if is_contents(path) {
            source.name = b".".to_vec();
        }
        let stdout = BufWriter::with_capacity(STDOUT_BUFFER, streams::stdout());
        tar::pack(&CopyContext::new(from, &self.host, options, events), source, stdout)
    }

    fn unpack(&self, options: CopyOptions, events: &Arc<EventSender>) -> Result<(), Error> {
        events.report_waits();
        let (to, path) = self.side(&self.destination);
        let failed = |errno| because(cannot_copy_to(to, path), errno);
        to.become_writer();
        let directory = resolve_destination(to, path)?.node;
        let directory = directory.filter(|node| node.kind() == FileKind::Directory);
        let Some(directory) = directory else {
            return Err(cannot_copy_to(to, path)
                .cause("a tar stream is unpacked into an existing directory")
                .hint("give such a directory; `tar -xO` takes one file out of a stream"));
        };
        let directory = directory.open_to_read().map_err(failed)?;
        let context = CopyContext::new(&self.host, to, options, events);
        let stdin = std::io::stdin().as_fd().try_clone_to_owned();
        let stdin = File::from(stdin.map_err(to_errno).map_err(failed)?);
        let stdin = WaitingReader { inner: stdin, events };
        tar::unpack(&context, BufReader::with_capacity(STDIN_BUFFER, stdin), directory)
    }

    /// Joins the user namespace of a rootless container: without CAP_CHOWN, files can be given to other
    /// users only there; and a FUSE file system that was mounted in it (fuse-overlayfs) refuses processes from
    /// outside, even those of root (fuse_allow_current_process, fs/fuse/dir.c). From then on this process sees
    /// all IDs as that namespace does. Returns whether it has become that file system's user.
    fn join_user_namespace(&mut self, events: &EventSender) -> bool {
        let endpoints = std::iter::once(&self.destination).chain(&self.sources);
        let mut containers = endpoints
            .map(|endpoint| self.side(endpoint).0)
            .filter_map(|rootfs| Some((rootfs, rootfs.user_ns.as_ref()?)));
        let is_privileged = has(Capability::CAP_CHOWN) && has(Capability::CAP_DAC_OVERRIDE);
        let container = match is_privileged {
            false => containers.next(),
            true => containers.find(|(rootfs, _)| rootfs.refuses_us()),
        };
        let Some((rootfs, user_ns)) = container else { return false };
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        if setns(user_ns, CloneFlags::CLONE_NEWUSER).is_err() {
            return false;
        }
        let is_mapped = rootfs.uid_map.to_inside(uid).and(rootfs.gid_map.to_inside(gid)).is_some();
        let joined = Arc::new((rootfs.uid_map.clone(), rootfs.gid_map.clone()));
        for rootfs in self.containers.iter_mut().chain([&mut self.host]) {
            rootfs.joined = Some(joined.clone());
        }
        if is_mapped || keep_over_user_changes().is_err() {
            return false;
        }
        for rootfs in &mut self.containers {
            rootfs.writer = rootfs.default_owner();
        }
        // FUSE checks the ID at every call, for reading too: both sides are then accessed as that user.
        if is_privileged {
            self.become_user_of_fuse(events);
        }
        is_privileged
    }

    /// Makes this process the user of a container's FUSE file system, on the host's side too.
    fn become_user_of_fuse(&mut self, events: &EventSender) {
        let Some(rootfs) = self.containers.iter().find(|rootfs| rootfs.writer.is_some()) else {
            return;
        };
        rootfs.become_writer();
        let user = rootfs.owner.map_or(0, |(uid, _)| uid);
        for rootfs in &mut self.containers {
            rootfs.writer = None;
        }
        if self.destination.location == Location::Host {
            let sentence = format!(
                "files on the host belong to user {user}: the container's file system (FUSE) admits only processes of that user"
            );
            let entry = AccountEntry::of_file(Deviation::Changed, "owner of the copies", sentence);
            events.account(&entry);
        }
    }

    /// Resolves `chown` with the destination's own `/etc/passwd` and `/etc/group`.
    fn owner(&self, to: &Rootfs) -> Result<Option<(u32, u32)>, Error> {
        let Some(word) = &self.chown else { return Ok(None) };
        let failed = |cause: String| {
            failure(format!("invalid owner `{}`", error::text(word)))
                .cause(cause)
                .hint("USER[:GROUP], by name or ID in the container")
        };
        // (To chown(1) a group alone leaves the owner as it is; root would be a surprise.)
        if word.is_empty() || word.starts_with(b":") {
            return Err(failed("it names no user".into()));
        }
        let spec = UserSpec::parse(word).map_err(failed)?;
        let read = |path: &str| match to.read_small(path.as_bytes()) {
            Err(Errno::EFBIG) if spec.has_name() => {
                Err(failed(format!("its {path} is larger than 1 MiB")))
            }
            read => Ok(read.unwrap_or_default()),
        };
        let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
        let identity = identify(Some(&spec), &Ids::default(), &passwd, &group).map_err(failed)?;
        let owner = to.visible_ids(identity.ids.uid, identity.ids.gid);
        let unmapped = || failed("the container's user namespace has no such ID".into());
        owner.map(Some).ok_or_else(unmapped)
    }
}

/// Stdin, which may be written slowly.
struct WaitingReader<'e> {
    inner: File,
    events: &'e EventSender,
}

impl Read for WaitingReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = |stdin: &mut File| stdin.read(buffer);
        self.events.waiting(|| fd::when_ready(&mut self.inner, PollFlags::POLLIN, read))
    }
}

/// Returns the advice for a file of the host that the user of a container's FUSE file system cannot access.
fn fuse_hint(to_host: bool) -> &'static str {
    match to_host {
        true => {
            "copy through a stream, which you write as yourself: `cinspect cp NAME:PATH - | tar -x -C DIR`"
        }
        false => {
            "copy through a stream, which you read as yourself: `tar -c -C DIR FILE | cinspect cp - NAME:DIR`"
        }
    }
}

/// Returns the error for a child without a result.
fn aborted(error: IsolationError) -> Error {
    match error {
        IsolationError::TimedOut => failure("copy aborted".into())
            .cause(format!("a file system did not respond for {} s", TIMEOUT.as_secs()))
            .hint("files that were copied so far are complete; a FUSE or network mount may hang"),
        error => failure("copy aborted".into()).cause(error.to_string()),
    }
}

fn resolve_destination(to: &Rootfs, path: &[u8]) -> Result<ResolvedPath, Error> {
    let failed = |errno| because_unresolved(cannot_copy_to(to, path), to, path, errno);
    let resolved = to.resolve(path, true).map_err(failed)?;
    // `new/.` means the contents of a directory, so there has to be one.
    if resolved.node.is_none() && is_contents(path) {
        return Err(failed(Errno::ENOENT));
    }
    let is_removed = |node: &Node| node.kind() == FileKind::Directory && node.attributes.links == 0;
    match &resolved.node {
        Some(node) if is_removed(node) => Err(cannot_copy_to(to, path)
            .cause("the directory has been removed")
            .hint("go to one that exists (`cd`), or give its path")),
        Some(_) => Ok(resolved),
        // (A link to a descriptor leads to a name that is not that of a file.)
        None => match to.dead_end(path) {
            Some(end) => Err(cannot_copy_to(to, path)
                .cause(end.words)
                .hint("remove the symlink first, or give another destination")),
            None => Ok(resolved),
        },
    }
}

fn source_kind(source: &CopySource) -> SourceKind {
    match source.node.kind() {
        FileKind::Directory if is_contents(&source.path) => SourceKind::Contents,
        FileKind::Directory => SourceKind::Directory,
        _ => SourceKind::File,
    }
}

fn destination_kind(destination: &ResolvedPath, path: &[u8]) -> DestinationKind {
    match &destination.node {
        Some(node) if node.kind() == FileKind::Directory => DestinationKind::Directory,
        Some(_) if is_directory_path(path) => DestinationKind::FileAsDirectory,
        Some(_) => DestinationKind::File,
        None if path.ends_with(b"/") => DestinationKind::MissingDirectory,
        None => DestinationKind::Missing,
    }
}

/// Checks that the destination exists as the container sees it. (A dangling symlink exists.)
fn verify_destination(to: &Rootfs, path: &[u8]) -> Result<(), Error> {
    let exists = |follow| to.resolve(path, follow).is_ok_and(|path| path.node.is_some());
    if exists(true) || exists(false) {
        return Ok(());
    }
    Err(cannot_copy_to(to, path)
        .cause("it does not exist after the copy")
        .hint("another process removed it, or replaced a directory of its path"))
}

/// Takes on the container's user for file system access: a file system that was mounted in a user
/// namespace takes files only of users that it maps. The capabilities stay.
fn become_owner(to: &Rootfs) {
    let Some((uid, gid)) = to.owner.filter(|_| !to.uid_map.is_identity()) else { return };
    if !geteuid().is_root() || to.joined.is_some() {
        return;
    }
    setfsgid(gid.into());
    setfsuid(uid.into());
    // Leaving UID 0 cleared the effective capabilities that concern files.
    if let Ok(permitted) = caps::read(None, CapSet::Permitted) {
        let _ = caps::set(None, CapSet::Effective, &permitted);
    }
}
