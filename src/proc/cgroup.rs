//! The cgroup tree as it is mounted: v2 alone, v1 hierarchies, or both side by side (hybrid). Reads
//! directories, `cgroup.procs` and the freezers; writes nothing.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat};

use super::host::{read_at_once, read_into};
use super::trusted_fs::Trust;
use super::{Host, ReadError};
use crate::model::cgroup::{self, Freezer, FreezerState, Memberships};
use crate::model::container::Cgroup;
use crate::model::pid::HostPid;

/// A mounted hierarchy.
#[derive(Debug)]
pub struct Hierarchy {
    /// As `/proc/PID/cgroup` names its controllers; empty for v2.
    controllers: Vec<u8>,
    dir: PathBuf,
}

/// A cgroup directory that was found by walking.
#[derive(Clone, Debug)]
pub struct LiveCgroup {
    /// Which one.
    pub cgroup: Cgroup,
    dir: PathBuf,
}

/// A directory that the walk has still to look into.
struct Dir {
    dir: PathBuf,
    path: Vec<u8>,
    depth: usize,
    owner: Trust,
    is_leaf: bool,
}

/// The cgroup tree as it was walked.
#[derive(Debug, Default)]
pub struct CgroupTree {
    /// Parents before children.
    pub cgroups: Vec<LiveCgroup>,
    /// What of it was not looked at, and why.
    pub cut: Vec<String>,
}

/// The v1 controllers (Documentation/admin-guide/cgroup-v1); a hierarchy of any other name was
/// mounted with `name=`.
const V1: &[&str] = &[
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "debug",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

/// No tree that any engine makes is nearly this deep or wide; a hostile one may be.
const MAX_DEPTH: usize = 64;
const MAX_CGROUPS: usize = 100_000;
/// Nobody's user sessions and rootless containers make as many.
const MAX_OF_A_USER: usize = 10_000;
/// cgroup.procs of the largest possible container: 4 million PIDs of 8 bytes.
const MAX_PROCS: usize = 32 << 20;

/// The hierarchies mounted below `/sys/fs/cgroup`, the most telling first.
pub(super) fn hierarchies(dir: &Path) -> Vec<Hierarchy> {
    if dir.join("cgroup.procs").exists() {
        return vec![Hierarchy { controllers: Vec::new(), dir: dir.to_owned() }];
    }
    let mut found: Vec<Hierarchy> = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        // Links such as cpu -> cpu,cpuacct lead to a hierarchy that has its own entry.
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = entry.file_name().into_vec();
        let first = name.split(|b| *b == b',').next().unwrap_or_default();
        let controllers = if name == b"unified" {
            Vec::new()
        } else if V1.iter().any(|known| known.as_bytes() == first) {
            name
        } else {
            [b"name=", name.as_slice()].concat()
        };
        found.push(Hierarchy { controllers, dir: entry.path() });
    }
    found.sort_by_key(|hierarchy| cgroup::preference(&hierarchy.controllers));
    found
}

impl Host {
    /// Whether any cgroup hierarchy is mounted where it is looked for.
    pub fn has_cgroups(&self) -> bool {
        !self.hierarchies.is_empty()
    }

    /// Every cgroup below the roots of the hierarchies in which engines put containers, each path
    /// once, parents before children. The roots themselves, which hold the host, are left out.
    pub fn walk_cgroups(&self) -> CgroupTree {
        let mut seen: HashSet<Vec<u8>> = HashSet::new();
        let mut tree = CgroupTree::default();
        let mut of_user: HashMap<u32, usize> = HashMap::new();
        let (mut too_many, mut too_deep) = (false, false);
        for hierarchy in self.hierarchies.iter().filter(|h| cgroup::preference(&h.controllers) < 4)
        {
            let root = std::fs::metadata(&hierarchy.dir).ok().map(|meta| Dir {
                dir: hierarchy.dir.clone(),
                path: Vec::new(),
                depth: 0,
                owner: Trust::of(meta.uid(), self.root_uid),
                is_leaf: has_no_directory(meta.nlink()),
            });
            let mut todo = Vec::from_iter(root);
            while let Some(Dir { dir, path, depth, owner, is_leaf }) = todo.pop() {
                if tree.cgroups.len() >= MAX_CGROUPS {
                    too_many = true;
                    break;
                }
                if let Trust::User(uid) = owner {
                    let many = of_user.entry(uid).or_default();
                    *many += 1;
                    if *many > MAX_OF_A_USER {
                        continue;
                    }
                }
                let below = if is_leaf || depth == MAX_DEPTH {
                    too_deep |= !is_leaf;
                    Vec::new()
                } else {
                    self.directories(&dir).unwrap_or_default()
                };
                todo.extend(below.into_iter().map(|(name, stat)| Dir {
                    dir: dir.join(OsStr::from_bytes(&name)),
                    path: [path.as_slice(), b"/", &name].concat(),
                    depth: depth + 1,
                    owner: Trust::of(stat.st_uid, self.root_uid),
                    #[allow(clippy::useless_conversion, reason = "32 bits on other architectures")]
                    is_leaf: has_no_directory(stat.st_nlink.into()),
                }));
                if depth > 0 && !seen.contains(&path) {
                    seen.insert(path.clone());
                    let controllers = hierarchy.controllers.clone();
                    tree.cgroups.push(LiveCgroup { cgroup: Cgroup { controllers, path }, dir });
                }
            }
        }
        if too_many {
            tree.cut.push(format!("more than {MAX_CGROUPS} cgroups: not all were looked at"));
        }
        if too_deep {
            tree.cut.push(format!("cgroups below {MAX_DEPTH} others were not looked at"));
        }
        let mut users: Vec<u32> =
            of_user.into_iter().filter(|(_, many)| *many > MAX_OF_A_USER).map(|(u, _)| u).collect();
        users.sort_unstable();
        tree.cut.extend(users.into_iter().map(|uid| {
            format!("user {uid} has more than {MAX_OF_A_USER} cgroups: not all were looked at")
        }));
        tree
    }

    /// The directories in one: each is asked by its name from there, for in a long path every part
    /// is looked up anew.
    fn directories(&self, dir: &Path) -> rustix::io::Result<Vec<(Vec<u8>, rustix::fs::Stat)>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, dir, flags, Mode::empty())?;
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::read_from(&dir)? {
            let Ok(entry) = entry else { break };
            let name = entry.file_name();
            let may_be = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
            if !may_be || matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            // One that has been removed by now is none.
            let Ok(stat) = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                found.push((name.to_bytes().to_vec(), stat));
            }
        }
        Ok(found)
    }

    /// The directory of a cgroup; none when its hierarchy is not mounted here, or when it lies
    /// outside what a cgroup namespace lets us see (`/../…`).
    pub(super) fn cgroup_dir(&self, cgroup: &Cgroup) -> Option<PathBuf> {
        let below = cgroup.path.strip_prefix(b"/")?;
        if cgroup::components(below).any(|part| part == b"..") {
            return None;
        }
        let found = self.hierarchies.iter().find(|h| h.controllers == cgroup.controllers)?;
        Some(found.dir.join(OsStr::from_bytes(below)))
    }

    /// What a file of a cgroup says, of at most a page.
    pub fn cgroup_value(&self, cgroup: &Cgroup, name: &str) -> Option<String> {
        let file = File::open(self.cgroup_dir(cgroup)?.join(name)).ok()?;
        let mut buffer = Vec::new();
        read_into(file, &mut buffer, 4096).ok()?;
        String::from_utf8(buffer).ok()
    }

    /// The processes of a cgroup and of all below it: `cgroup.procs`, so the cost is theirs alone.
    ///
    /// # Errors
    /// [`ReadError::Gone`] when there is no such cgroup directory.
    pub fn cgroup_pids(&self, cgroup: &Cgroup) -> Result<BTreeSet<HostPid>, ReadError> {
        let top = self.cgroup_dir(cgroup).ok_or(ReadError::Gone)?;
        let mut pids = BTreeSet::new();
        let mut buffer = Vec::new();
        let mut todo = vec![(top, 0)];
        while let Some((dir, depth)) = todo.pop() {
            match read_pids(&dir, &mut buffer) {
                Ok(found) => pids.extend(found),
                // Those of a threaded cgroup (EOPNOTSUPP, cgroups(7)) stand in its domain's list.
                Err(ReadError::Broken(_)) => {}
                Err(error) if depth == 0 => return Err(error),
                Err(_) => {}
            }
            if depth == MAX_DEPTH || is_leaf(&dir) {
                continue;
            }
            for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    todo.push((entry.path(), depth + 1));
                }
            }
        }
        Ok(pids)
    }

    /// The cgroups a process is in.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn memberships(&self, pid: HostPid) -> Result<Memberships, ReadError> {
        let mut buffer = Vec::new();
        read_into(File::open(self.proc_path(format!("{pid}/cgroup")))?, &mut buffer, 1 << 20)?;
        Ok(Memberships::parse(&buffer))
    }

    /// The cgroup of this path that has processes, in whatever hierarchy.
    pub fn find_cgroup(&self, path: &[u8]) -> Option<(Cgroup, BTreeSet<HostPid>)> {
        self.hierarchies.iter().find_map(|hierarchy| {
            let controllers = hierarchy.controllers.clone();
            let cgroup = Cgroup { controllers, path: path.to_owned() };
            let pids = self.cgroup_pids(&cgroup).ok().filter(|pids| !pids.is_empty())?;
            Some((cgroup, pids))
        })
    }

    /// Whether a process in these cgroups is frozen, and by which freezer. The files speak of what is
    /// in force, a frozen ancestor included (cgroups v1 freezer-subsystem.txt, cgroup-v2.rst).
    pub fn frozen(&self, of: &Memberships) -> Freezer {
        let frozen = of.by_preference().filter_map(|membership| {
            let freezer = Freezer::of(&membership.controllers)?;
            let cgroup = Cgroup {
                controllers: membership.controllers.clone(),
                path: membership.path.clone(),
            };
            is_frozen(&self.cgroup_dir(&cgroup)?, freezer).then_some(freezer)
        });
        // v1's is the stronger.
        frozen.max().unwrap_or(Freezer::Thawed)
    }

    /// Whether this cgroup or one below it is frozen, in whatever hierarchy.
    pub fn is_frozen_within(&self, path: &[u8]) -> bool {
        self.hierarchies.iter().any(|hierarchy| {
            let Some(freezer) = Freezer::of(&hierarchy.controllers) else { return false };
            let cgroup =
                Cgroup { controllers: hierarchy.controllers.clone(), path: path.to_owned() };
            let mut todo: Vec<(PathBuf, usize)> =
                self.cgroup_dir(&cgroup).into_iter().map(|dir| (dir, 0)).collect();
            while let Some((dir, depth)) = todo.pop() {
                if is_frozen(&dir, freezer) {
                    return true;
                }
                if depth < MAX_DEPTH && !is_leaf(&dir) {
                    let below = std::fs::read_dir(&dir).into_iter().flatten().flatten();
                    let dirs = below.filter(|entry| entry.file_type().is_ok_and(|k| k.is_dir()));
                    todo.extend(dirs.map(|entry| (entry.path(), depth + 1)));
                }
            }
            false
        })
    }

    /// Who could have made this cgroup: root when every directory above it is root's (the cgroup
    /// itself may have been given away since), a user when one is that user's, nobody to trust when
    /// it cannot be told.
    pub fn cgroup_maker(&self, cgroup: &Cgroup) -> Trust {
        self.cgroup_owners(cgroup).map_or(Trust::Untrusted, |owners| {
            let above = owners.len().saturating_sub(1);
            owners[..above].iter().fold(Trust::Root, |all, owner| all.and(*owner))
        })
    }

    /// Who could have put a process into this cgroup: all of its directories are this user's or
    /// root's.
    pub fn cgroup_owner(&self, cgroup: &Cgroup) -> Trust {
        self.cgroup_owners(cgroup)
            .map_or(Trust::Untrusted, |owners| owners.into_iter().fold(Trust::Root, Trust::and))
    }

    fn cgroup_owners(&self, cgroup: &Cgroup) -> Option<Vec<Trust>> {
        self.cgroup_dir(cgroup)?;
        let mut dir =
            self.hierarchies.iter().find(|h| h.controllers == cgroup.controllers)?.dir.clone();
        cgroup::components(&cgroup.path)
            .map(|part| {
                dir.push(OsStr::from_bytes(part));
                let meta = std::fs::symlink_metadata(&dir).ok()?;
                Some(Trust::of(meta.uid(), self.root_uid))
            })
            .collect()
    }

    /// The files that freeze a cgroup, open for writing, each with what freezes and what thaws it.
    pub fn freezer_files(&self, path: &[u8]) -> Vec<FreezerFile> {
        let opened = self.hierarchies.iter().filter_map(|hierarchy| {
            let controllers = hierarchy.controllers.clone();
            let (name, frozen, thawed) = match Freezer::of(&controllers)? {
                Freezer::V2 => ("cgroup.freeze", "1", "0"),
                _ => ("freezer.state", "FROZEN", "THAWED"),
            };
            let dir = self.cgroup_dir(&Cgroup { controllers, path: path.to_owned() })?;
            let file = std::fs::OpenOptions::new().write(true).open(dir.join(name)).ok()?;
            Some(FreezerFile { file, frozen, thawed })
        });
        opened.collect()
    }

    /// The file that takes processes into a cgroup, open for writing.
    ///
    /// # Errors
    /// When the hierarchy is not mounted here, or it is not ours to write.
    pub fn cgroup_procs_file(&self, cgroup: &Cgroup) -> Result<File, ReadError> {
        if cgroup.path.windows(3).any(|part| part == b"/..") {
            return Err(ReadError::Broken("it lies outside of our cgroup namespace".into()));
        }
        let dir = self.cgroup_dir(cgroup);
        let dir =
            dir.ok_or_else(|| ReadError::Broken("its hierarchy is not mounted here".into()))?;
        Ok(std::fs::OpenOptions::new().write(true).open(dir.join("cgroup.procs"))?)
    }

    /// The file that kills a whole cgroup at once (`cgroup.kill`, v2 since Linux 5.14), open for
    /// writing, if this one has it.
    pub fn cgroup_kill_file(&self, cgroup: &Cgroup) -> Option<File> {
        let dir = self.cgroup_dir(cgroup)?;
        std::fs::OpenOptions::new().write(true).open(dir.join("cgroup.kill")).ok()
    }
}

/// What a freezer is set by.
pub struct FreezerFile {
    file: File,
    frozen: &'static str,
    thawed: &'static str,
}

impl FreezerFile {
    /// Freezes or thaws. The kernel takes its time to freeze.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn set(&mut self, frozen: bool) -> std::io::Result<()> {
        let word = if frozen { self.frozen } else { self.thawed };
        self.file.write_all(word.as_bytes())
    }
}

impl LiveCgroup {
    /// One process that is directly in this cgroup, if there is one. Reads no further than the
    /// first: on v2 the kernel lists lazily.
    pub fn any_pid(&self) -> Option<HostPid> {
        let mut buffer = Vec::with_capacity(64);
        let file = File::open(self.dir.join("cgroup.procs")).ok()?;
        read_into(file, &mut buffer, 64).ok()?;
        let whole = buffer.iter().rposition(|b| *b == b'\n')?;
        cgroup::parse_pids(&buffer[..whole]).into_iter().find_map(HostPid::new)
    }
}

fn is_frozen(dir: &Path, freezer: Freezer) -> bool {
    let file = if freezer == Freezer::V2 { "cgroup.events" } else { "freezer.state" };
    // (Asked of every container: three calls, and not the seven of std::fs::read.)
    let mut text = Vec::new();
    let read = File::open(dir.join(file)).map_err(ReadError::from);
    let read = read.and_then(|file| read_at_once(file, &mut text, 4096));
    read.is_ok() && FreezerState::parse(&text).is_frozen()
}

/// A cgroup directory has a link from each one below it and two of its own (fs/kernfs/inode.c), so
/// that of most it is known without listing their dozens of control files that there is none. Other
/// file systems count otherwise, and never 2 with a directory inside.
fn has_no_directory(links: u64) -> bool {
    links == 2
}

fn is_leaf(dir: &Path) -> bool {
    std::fs::metadata(dir).is_ok_and(|meta| has_no_directory(meta.nlink()))
}

fn read_pids(dir: &Path, buffer: &mut Vec<u8>) -> Result<Vec<HostPid>, ReadError> {
    read_into(File::open(dir.join("cgroup.procs"))?, buffer, MAX_PROCS)?;
    Ok(cgroup::parse_pids(buffer).into_iter().filter_map(HostPid::new).collect())
}
