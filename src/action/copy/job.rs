//! A copy from its beginning to its end: sources are found, patterns among them, and each is put where
//! the table says. All of it happens in the child.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{Dir, FileType, Mode};
use rustix::io::Errno;

use super::error::CopyError;
use super::rootfs::{FileId, Node, ResolvedPath, Rootfs, pseudo};
use super::tar::{pack, unpack};
use super::walk::{Copier, CopyEvent, CopyOptions, MAX_DEPTH, Sides};
use crate::action::send::raise_fd_limit;
use crate::analysis::copy_rules::{
    Endpoint, SourceKind, TargetKind, fits, is_contents, is_pattern, last_name, place,
};
use crate::analysis::user::{Ids, UserSpec, identify};

/// What is to be copied, where to, and how.
#[derive(Debug)]
pub struct CopyJob {
    /// What.
    pub sources: Vec<Endpoint>,
    /// Where to.
    pub target: Endpoint,
    /// The containers of either, as they were typed.
    pub places: HashMap<String, Rootfs>,
    /// This side.
    pub here: Rootfs,
    /// How.
    pub options: CopyOptions,
    /// Whom it is to belong to, as it was typed.
    pub chown: Option<Vec<u8>>,
    /// Whether somebody wants to know how much is left.
    pub measured: bool,
}

/// How long a copy takes before it is asked how much there is of it.
const PATIENCE: Duration = Duration::from_millis(800);

impl CopyJob {
    fn side<'b>(&'b self, side: &'b Endpoint) -> (&'b Rootfs, &'b [u8]) {
        match side {
            Endpoint::Inside(name, path) => (
                self.places.get(name).unwrap_or(&self.here),
                if path.is_empty() { b"/" } else { path },
            ),
            Endpoint::Here(path) => (&self.here, path),
            Endpoint::Stream => (&self.here, b"."),
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// At the first file that cannot be copied.
    pub fn work(mut self, tell: &mut dyn FnMut(CopyEvent)) -> Result<(), CopyError> {
        raise_fd_limit();
        rustix::process::umask(Mode::empty());
        self.join();
        let (to, path) = self.side(&self.target);
        let options = self.with_owner(to)?;
        if self.target == Endpoint::Stream {
            return self.out(options, tell);
        }
        become_owner(to);
        if self.sources == [Endpoint::Stream] {
            let spot = find(to, path, true)?;
            let node = spot.found.filter(|node| node.kind() == FileType::Directory);
            let node = node.ok_or_else(|| {
                CopyError::new(path, "a stream goes into a folder that is there")
                    .named(to)
                    .hint("give such a folder; `tar -xO` takes one file out of a stream")
            })?;
            let folder =
                node.open_to_read().map_err(|errno| CopyError::at(path, errno).named(to))?;
            let sides = Sides { from: &self.here, to, options };
            return unpack(std::io::stdin().lock(), &folder, &mut Copier::new(sides, tell))
                .map_err(|failed| failed.named(to));
        }
        let mut all = Vec::new();
        for source in &self.sources {
            let (from, path) = self.side(source);
            let paths = expand(from, path).map_err(|errno| CopyError::of(from, path, errno))?;
            all.extend(paths.into_iter().map(|path| (from, path)));
        }
        let total = self.measure(&all, tell);
        let mut known = 0;
        let mut tell = |news| {
            let now = total.load(Ordering::Relaxed);
            if now != known {
                known = now;
                tell(CopyEvent::Total(now));
            }
            tell(news);
        };
        let several = all.len() > 1;
        for (from, source) in all {
            let node = node(from, &source, options.follow)?;
            let (own, node) = node;
            let kind = match node.kind() {
                FileType::Directory if is_contents(&source) => SourceKind::Contents,
                FileType::Directory => SourceKind::Folder,
                // (What a link leads to is followed where that was asked for.)
                _ => SourceKind::File,
            };
            let target = find(to, path, true)?;
            let there = kind_of(&target, path);
            let put = place(kind, there, several)
                .map_err(|(why, hint)| CopyError::new(path, why).named(to).hint(hint))?;
            let mut copier = Copier::new(Sides { from, to, options }, &mut tell);
            copier.put(&source, node, put, &target, &own).map_err(|failed| failed.named(from))?;
            // What is not there now, as the container sees it, was not copied.
            // (A link may lead to nothing, and is there.)
            let is_there = |follow| to.find(path, follow).is_ok_and(|spot| spot.found.is_some());
            if !is_there(true) && !is_there(false) {
                return Err(CopyError::new(path, "it is not there after the copy")
                    .named(to)
                    .hint("somebody took it away, or put another folder in its place"));
            }
        }
        Ok(())
    }

    /// As a stream.
    fn out(&self, options: CopyOptions, tell: &mut dyn FnMut(CopyEvent)) -> Result<(), CopyError> {
        let (from, path) = self.side(&self.sources[0]);
        let (own, node) = node(from, path, options.follow)?;
        let mut out = std::io::BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
        let mut copier = Copier::new(Sides { from, to: &self.here, options }, tell);
        let name = if is_contents(path) { b"." } else { &*own };
        pack(&node, path, name, &mut out, &mut copier).map_err(|failed| failed.named(from))?;
        std::io::Write::flush(&mut out).map_err(|error| CopyError::new(b"-", error))
    }

    /// Who may not give files to others here may in a user namespace of their own: a rootless
    /// container's. How files are seen from there is translated on every side.
    fn join(&mut self) {
        use rustix::thread::CapabilitySet;
        let may = rustix::thread::capabilities(None).is_ok_and(|sets| {
            sets.effective.contains(CapabilitySet::CHOWN | CapabilitySet::DAC_OVERRIDE)
        });
        let sides = std::iter::once(&self.target).chain(&self.sources);
        let joined = sides
            .map(|side| self.side(side).0)
            .find_map(|place| Some((place, place.namespace.as_ref()?)));
        let Some((place, namespace)) = joined.filter(|_| !may) else { return };
        let kind = Some(rustix::thread::LinkNameSpaceType::User);
        if rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).is_err() {
            return;
        }
        let seen_as = Arc::new((place.users.clone(), place.groups.clone()));
        for place in self.places.values_mut().chain([&mut self.here]) {
            place.seen_as = Some(seen_as.clone());
        }
    }

    /// With the owner that was typed, by name or number inside.
    fn with_owner(&self, to: &Rootfs) -> Result<CopyOptions, CopyError> {
        let Some(word) = &self.chown else { return Ok(self.options) };
        let failed = |why: String| {
            CopyError::new(b"", format!("--chown: {why}"))
                .hint("USER[:GROUP], by name or number inside")
        };
        let spec = UserSpec::parse(word).map_err(failed)?;
        let file = |path: &[u8]| -> Vec<u8> {
            let read = || -> std::io::Result<Vec<u8>> {
                let node = to.find(path, true)?.found.ok_or(Errno::NOENT)?;
                let mut bytes = Vec::new();
                let file = std::fs::File::from(node.open_to_read()?);
                std::io::Read::read_to_end(&mut std::io::Read::take(file, 1 << 20), &mut bytes)?;
                Ok(bytes)
            };
            read().unwrap_or_default()
        };
        let known =
            identify(Some(&spec), &Ids::default(), &file(b"/etc/passwd"), &file(b"/etc/group"));
        let ids = known.map_err(failed)?.ids;
        let owner = to.outer(ids.uid, ids.gid);
        let owner =
            owner.ok_or_else(|| failed("the container's user namespace has no such id".into()))?;
        Ok(CopyOptions { chown: Some(owner), ..self.options })
    }

    /// How many bytes there are: of files alone at once; of folders by a thread of its own, when it
    /// takes longer.
    fn measure(
        &self,
        all: &[(&Rootfs, Vec<u8>)],
        tell: &mut dyn FnMut(CopyEvent),
    ) -> Arc<AtomicU64> {
        let total = Arc::new(AtomicU64::new(0));
        if !self.measured {
            return total;
        }
        let nodes: Option<Vec<Node>> = all
            .iter()
            .map(|(from, path)| Some(node(from, path, self.options.follow).ok()?.1))
            .collect();
        // (What is missing is told by whoever copies it.)
        let Some(nodes) = nodes else { return total };
        if nodes.iter().all(|node| node.kind() == FileType::RegularFile) {
            tell(CopyEvent::Total(nodes.iter().map(|node| node.stat.stx_size).sum()));
            return total;
        }
        let known = total.clone();
        std::thread::spawn(move || {
            std::thread::sleep(PATIENCE);
            let sum: u64 = nodes.into_iter().map(|node| size(node).unwrap_or(0)).sum();
            known.store(sum, Ordering::Relaxed);
        });
        total
    }
}

/// The bytes of a file, or of all files in a folder and below.
fn size(node: Node) -> Result<u64, Errno> {
    let open = |node: &Node| -> Result<(Dir, Option<u64>), Errno> {
        Ok((Dir::new(node.open_to_read()?)?, node.mount()))
    };
    match node.kind() {
        FileType::Directory => {}
        FileType::RegularFile => return Ok(node.stat.stx_size),
        _ => return Ok(0),
    }
    let (mut sum, mut levels) = (0, vec![open(&node)?]);
    let mut seen: std::collections::HashSet<FileId> = std::collections::HashSet::new();
    loop {
        let depth = levels.len();
        let Some((entries, mount)) = levels.last_mut() else { return Ok(sum) };
        let Some(Ok(entry)) = entries.next() else {
            levels.pop();
            continue;
        };
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let Ok(node) = Node::open(entries.fd()?, name) else { continue };
        match node.kind() {
            FileType::RegularFile if node.stat.stx_nlink == 1 || seen.insert(node.id()) => {
                sum += node.stat.stx_size;
            }
            FileType::Directory if depth < MAX_DEPTH => {
                let is_same = node.mount() == *mount;
                if (is_same || pseudo(&node.fd).is_none())
                    && let Ok(level) = open(&node)
                {
                    levels.push(level);
                }
            }
            _ => {}
        }
    }
}

fn find(place: &Rootfs, path: &[u8], follow: bool) -> Result<ResolvedPath, CopyError> {
    place.find(path, follow).map_err(|errno| CopyError::of(place, path, errno))
}

/// A source: what is there, and its own name, which may not be in what was typed (a root, a dot).
fn node(from: &Rootfs, path: &[u8], follow: bool) -> Result<(Vec<u8>, Node), CopyError> {
    let slash = path.ends_with(b"/") || is_contents(path);
    let spot = find(from, path, follow || slash)?;
    let name = last_name(path).map_or(spot.name, <[u8]>::to_vec);
    let node = spot.found.ok_or_else(|| CopyError::of(from, path, Errno::NOENT))?;
    Ok((name, node))
}

/// A file system that was mounted in a user namespace takes files only of users it knows. The right to
/// write everywhere stays.
fn become_owner(to: &Rootfs) {
    let Some((uid, gid)) = to.owner.filter(|_| !to.users.is_identity()) else { return };
    if !nix::unistd::geteuid().is_root() || to.seen_as.is_some() {
        return;
    }
    nix::unistd::setfsgid(gid.into());
    nix::unistd::setfsuid(uid.into());
    if let Ok(all) = rustix::thread::capabilities(None) {
        let all = rustix::thread::CapabilitySets { effective: all.permitted, ..all };
        let _ = rustix::thread::set_capabilities(None, all);
    }
}

fn kind_of(target: &ResolvedPath, path: &[u8]) -> TargetKind {
    match &target.found {
        Some(node) if node.kind() == FileType::Directory => TargetKind::Folder,
        Some(_) => TargetKind::File,
        None if path.ends_with(b"/") => TargetKind::MissingFolder,
        None => TargetKind::Missing,
    }
}

/// The paths that a pattern stands for; only in a container, for here that is the shell's.
fn expand(from: &Rootfs, path: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
    let Some(first) = parts.iter().position(|part| is_pattern(part)) else {
        return Ok(vec![path.to_owned()]);
    };
    // A name that has such a character is meant itself, where there is one.
    if from.root.is_none() || from.find(path, false).is_ok_and(|spot| spot.found.is_some()) {
        return Ok(vec![path.to_owned()]);
    }
    let above = [parts[..first].join(&b'/'), b"/".to_vec()].concat();
    let node = from.find(&above, true)?.found.ok_or(Errno::NOENT)?;
    let mut names = Vec::new();
    for entry in Dir::new(node.open_to_read()?)? {
        let name = entry?.file_name().to_bytes().to_owned();
        if name != b"." && name != b".." && fits(&name, parts[first]) {
            names.push(name);
        }
    }
    names.sort();
    let rest = &parts[first + 1..];
    let mut all = Vec::new();
    for name in names {
        let mut next = [above.clone(), name].concat();
        for part in rest {
            next = [next, b"/".to_vec(), part.to_vec()].concat();
        }
        match rest.is_empty() {
            true => all.push(next),
            false => all.extend(expand(from, &next).unwrap_or_default()),
        }
    }
    all.retain(|path| from.find(path, false).is_ok_and(|spot| spot.found.is_some()));
    if all.is_empty() { Err(Errno::NOENT) } else { Ok(all) }
}
