//! The cgroups in the mounted hierarchies: walking the tree, the processes of a cgroup, its owner and its
//! files. Bounded in depth and number, because a hostile user can make cgroups too.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, SFlag, fstatat};

use super::below::{MAX_BELOW, each_below, has_no_directory};
use super::hierarchy::Hierarchy;
use crate::model::cgroup::{self, Cgroup};
use crate::model::pid::HostPid;
use crate::proc::host::Host;
use crate::proc::read::{ReadError, read_at_once, read_into};
use crate::proc::trust::Trust;
use crate::sys::fd;
use crate::sys::listing::each_entry;
use crate::sys::parallel;

/// No tree that an engine makes is nearly this deep or wide; a hostile one may be.
const MAX_DEPTH: usize = 64;
const MAX_CGROUPS: usize = 100_000;
/// More than any user's sessions and rootless containers create.
const MAX_PER_USER: usize = 10_000;
/// Cgroups in a hierarchy for which starting a thread pays off.
const LARGE: usize = 48;
/// cgroup.procs of the largest possible container: 4 million PIDs of 8 bytes.
const MAX_PROCS: usize = 32 << 20;

/// A cgroup directory that was found by walking.
#[derive(Clone, Debug)]
pub struct LiveCgroup {
    /// The cgroup.
    pub cgroup: Cgroup,
    /// Whether it had none below it.
    pub is_leaf: bool,
    dir: PathBuf,
}

/// The ways into a cgroup.
#[derive(Debug)]
pub struct CgroupEntry {
    /// `cgroup.procs`, open for writing. Moving a process by it waits for an RCU grace period, some 8 ms, unless
    /// that has just been done (`cgroup_attach_lock`, kernel/cgroup/cgroup.c).
    pub procs: File,
    /// The way without that wait: on v2 the directory, for clone3(2) with `CLONE_INTO_CGROUP`; on v1 the file
    /// `tasks`, for a process without other threads that writes 0 (`cgroup_procs_write_start`).
    pub direct: Option<OwnedFd>,
    /// Whether it is of the v2 hierarchy.
    pub is_v2: bool,
}

/// The cgroup tree, as it was walked.
#[derive(Debug, Default)]
pub struct CgroupTree {
    /// Parents before children.
    pub cgroups: Vec<LiveCgroup>,
    /// The parts of it that were skipped, and why.
    pub skipped: Vec<String>,
}

/// A directory that is yet to be listed.
struct PendingCgroup {
    dir: PathBuf,
    path: Vec<u8>,
    depth: usize,
    owner: Trust,
    is_leaf: bool,
}

/// A walk through one hierarchy.
struct TreeWalk<'a> {
    host: &'a Host,
    hierarchy: &'a Hierarchy,
    /// Parents before children.
    cgroups: Vec<LiveCgroup>,
    per_user: HashMap<u32, usize>,
    too_deep: bool,
    too_many: bool,
}

impl<'a> TreeWalk<'a> {
    fn new(host: &'a Host, hierarchy: &'a Hierarchy) -> Self {
        let (cgroups, per_user) = (Vec::new(), HashMap::new());
        Self { host, hierarchy, cgroups, per_user, too_deep: false, too_many: false }
    }

    /// Walks the hierarchy, until there are too many cgroups to continue.
    fn run(mut self) -> Self {
        let Ok(meta) = std::fs::metadata(&self.hierarchy.dir) else { return self };
        let mut todo = vec![PendingCgroup {
            dir: self.hierarchy.dir.clone(),
            path: Vec::new(),
            depth: 0,
            owner: self.host.trust_of_user(meta.uid()),
            is_leaf: has_no_directory(meta.nlink()),
        }];
        while let Some(pending) = todo.pop() {
            if self.cgroups.len() >= MAX_CGROUPS {
                self.too_many = true;
                break;
            }
            if !self.is_within_share(pending.owner) {
                continue;
            }
            todo.extend(self.children(&pending));
            let PendingCgroup { dir, path, depth, is_leaf, .. } = pending;
            if depth > 0 {
                let cgroup = Cgroup { controllers: self.hierarchy.controllers.clone(), path };
                self.cgroups.push(LiveCgroup { cgroup, is_leaf, dir });
            }
        }
        self
    }

    /// Counts a cgroup of this owner, and checks that it has no more than its share.
    fn is_within_share(&mut self, owner: Trust) -> bool {
        let Trust::User(uid) = owner else { return true };
        let count = self.per_user.entry(uid).or_default();
        *count += 1;
        *count <= MAX_PER_USER
    }

    fn children(&mut self, parent: &PendingCgroup) -> Vec<PendingCgroup> {
        if parent.is_leaf {
            return Vec::new();
        }
        if parent.depth == MAX_DEPTH {
            self.too_deep = true;
            return Vec::new();
        }
        let entries = directories(&parent.dir).unwrap_or_default();
        let pending = entries.into_iter().map(|(name, stat)| PendingCgroup {
            dir: parent.dir.join(OsStr::from_bytes(&name)),
            path: [parent.path.as_slice(), b"/", &name].concat(),
            depth: parent.depth + 1,
            owner: self.host.trust_of_user(stat.st_uid),
            #[allow(clippy::useless_conversion, reason = "32 bits on other architectures")]
            is_leaf: has_no_directory(stat.st_nlink.into()),
        });
        pending.collect()
    }
}

impl CgroupTree {
    /// Joins the cgroups of several hierarchies, each path once.
    fn join(walks: Vec<TreeWalk<'_>>) -> Self {
        let mut tree = Self::default();
        if walks.iter().any(|walk| walk.too_many) {
            tree.skipped.push(format!("more than {MAX_CGROUPS} cgroups: not all were searched"));
        }
        if walks.iter().any(|walk| walk.too_deep) {
            tree.skipped.push(format!("cgroups nested deeper than {MAX_DEPTH} were not searched"));
        }
        let counts = walks.iter().flat_map(|walk| &walk.per_user);
        let users: BTreeSet<u32> =
            counts.filter(|(_, count)| **count > MAX_PER_USER).map(|(uid, _)| *uid).collect();
        tree.skipped.extend(users.into_iter().map(|uid| {
            format!("user {uid} has more than {MAX_PER_USER} cgroups: not all were searched")
        }));
        let mut seen = HashSet::new();
        let all = walks.into_iter().flat_map(|walk| walk.cgroups);
        tree.cgroups = all.filter(|live| seen.insert(live.cgroup.path.clone())).collect();
        tree
    }
}

impl Host {
    /// Whether any cgroup hierarchy is mounted in `/sys/fs/cgroup`.
    pub fn has_cgroups(&self) -> bool {
        !self.hierarchies.is_empty()
    }

    /// Lists every cgroup below the roots of the hierarchies in which engines put containers, each path
    /// once, parents before children. The roots themselves, which hold the host, are left out.
    pub fn walk_cgroups(&self) -> CgroupTree {
        let is_used = |h: &&Hierarchy| cgroup::preference(&h.controllers) < cgroup::LEAST_PREFERRED;
        let hierarchies: Vec<&Hierarchy> = self.hierarchies.iter().filter(is_used).collect();
        let Some((first, others)) = hierarchies.split_first() else { return CgroupTree::default() };
        let mut walks = vec![TreeWalk::new(self, first).run()];
        // The others are about as large. They are walked on several threads where that pays off.
        let threads = if walks[0].cgroups.len() >= LARGE { parallel::cpus() } else { 1 };
        let walk = |index: usize| TreeWalk::new(self, others[index]).run();
        walks.extend(parallel::map(others.len(), threads, walk));
        CgroupTree::join(walks)
    }

    /// Returns the directory of a cgroup; none if its hierarchy is not mounted here, or if it is outside
    /// our cgroup namespace (`/../…`).
    pub(in crate::proc) fn cgroup_dir(&self, cgroup: &Cgroup) -> Option<PathBuf> {
        self.hierarchy_of(cgroup)?.dir_of(&cgroup.path)
    }

    fn hierarchy_of(&self, cgroup: &Cgroup) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|known| known.controllers == cgroup.controllers)
    }

    /// Returns the path of a file of a cgroup, as it is on the host.
    pub(in crate::proc) fn cgroup_file(&self, cgroup: &Cgroup, name: &str) -> Option<String> {
        let path = self.cgroup_dir(cgroup)?.join(name);
        let below = path.strip_prefix(self.root()).unwrap_or(&path);
        Some(Path::new("/").join(below).display().to_string())
    }

    /// Reads a file of a cgroup, up to a page.
    pub fn cgroup_value(&self, cgroup: &Cgroup, name: &str) -> Option<String> {
        let file = File::open(self.cgroup_dir(cgroup)?.join(name)).ok()?;
        let mut buffer = Vec::new();
        read_into(file, &mut buffer, 4096).ok()?;
        String::from_utf8(buffer).ok()
    }

    /// Lists the processes of a cgroup and of all below it, from `cgroup.procs`, so that the cost is
    /// theirs alone.
    ///
    /// # Errors
    /// [`ReadError::Gone`] if the cgroup does not exist.
    pub fn cgroup_pids(&self, cgroup: &Cgroup) -> Result<BTreeSet<HostPid>, ReadError> {
        self.cgroup_pids_in(cgroup, MAX_BELOW)
    }

    /// As [`Self::cgroup_pids`], if there are at most so many cgroups below it.
    ///
    /// # Errors
    /// [`ReadError::Broken`] if there are more.
    pub fn cgroup_pids_in(
        &self,
        cgroup: &Cgroup,
        most: usize,
    ) -> Result<BTreeSet<HostPid>, ReadError> {
        let top = self.cgroup_dir(cgroup).ok_or(ReadError::Gone)?;
        let mut pids = BTreeSet::new();
        let mut buffer = Vec::new();
        let mut failure = None;
        let is_complete = each_below(top, most, |dir, is_top| {
            match dir
                .open("cgroup.procs")
                .map_err(ReadError::from)
                .and_then(|f| read_pids(f, &mut buffer))
            {
                Ok(found) => pids.extend(found),
                // Processes of a threaded cgroup (EOPNOTSUPP, cgroups(7)) are in its domain's list.
                Err(ReadError::Broken(_)) => {}
                Err(error) if is_top || error == ReadError::Exhausted => failure = Some(error),
                Err(_) => {}
            }
            failure.is_none()
        })?;
        match failure {
            Some(error) => Err(error),
            None if is_complete => Ok(pids),
            None => Err(ReadError::Broken("it has too many cgroups".into())),
        }
    }

    /// Returns the processes in a cgroup itself, without those in cgroups below it.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn own_cgroup_pids(&self, cgroup: &Cgroup) -> Result<Vec<HostPid>, ReadError> {
        let dir = self.cgroup_dir(cgroup).ok_or(ReadError::Gone)?;
        read_pids(File::open(dir.join("cgroup.procs"))?, &mut Vec::new())
    }

    /// Returns the identity of a cgroup: the device and the inode of its directory, which one that is made
    /// later under the same path does not have (kernfs gives no number twice).
    pub fn cgroup_identity(&self, cgroup: &Cgroup) -> Option<(u64, u64)> {
        let meta = std::fs::metadata(self.cgroup_dir(cgroup)?).ok()?;
        Some((meta.dev(), meta.ino()))
    }

    /// Returns the cgroup of this path that has processes, in any hierarchy.
    pub fn find_cgroup(&self, path: &[u8]) -> Option<(Cgroup, BTreeSet<HostPid>)> {
        self.hierarchies.iter().find_map(|hierarchy| {
            let cgroup = hierarchy.cgroup(path);
            let pids = self.cgroup_pids(&cgroup).ok().filter(|pids| !pids.is_empty())?;
            Some((cgroup, pids))
        })
    }

    /// Returns the user who could have made a cgroup: root if every directory above it is root's (the
    /// cgroup itself may have been given away since), a user if one is that user's.
    pub fn cgroup_maker(&self, cgroup: &Cgroup) -> Trust {
        self.cgroup_owners(cgroup).map_or(Trust::Untrusted, |owners| {
            let above = owners.len().saturating_sub(1);
            owners[..above].iter().copied().fold(Trust::Root, Trust::and)
        })
    }

    /// Returns the user who could have moved a process into a cgroup: all of its directories are this
    /// user's or root's.
    pub fn cgroup_owner(&self, cgroup: &Cgroup) -> Trust {
        self.cgroup_owners(cgroup)
            .map_or(Trust::Untrusted, |owners| owners.into_iter().fold(Trust::Root, Trust::and))
    }

    fn cgroup_owners(&self, cgroup: &Cgroup) -> Option<Vec<Trust>> {
        self.cgroup_dir(cgroup)?;
        let mut dir = self.hierarchy_of(cgroup)?.dir.clone();
        cgroup::components(&cgroup.path)
            .map(|name| {
                dir.push(OsStr::from_bytes(name));
                let meta = std::fs::symlink_metadata(&dir).ok()?;
                Some(self.trust_of_user(meta.uid()))
            })
            .collect()
    }

    /// Opens the ways into a cgroup.
    ///
    /// # Errors
    /// If the hierarchy is not mounted here, or `cgroup.procs` cannot be written.
    pub fn cgroup_entry(&self, cgroup: &Cgroup) -> Result<CgroupEntry, ReadError> {
        let broken = |why: &str| ReadError::Broken(why.to_owned());
        let hierarchy = self.hierarchy_of(cgroup);
        let hierarchy = hierarchy.ok_or_else(|| broken("its hierarchy is not mounted here"))?;
        let dir = hierarchy.dir_of(&cgroup.path);
        let dir = dir.ok_or_else(|| broken("it is outside cinspect's cgroup namespace"))?;
        let writable = |name| std::fs::OpenOptions::new().write(true).open(dir.join(name));
        let is_v2 = cgroup.controllers.is_empty();
        let direct = match is_v2 {
            true => fd::open(&dir, OFlag::O_PATH | OFlag::O_DIRECTORY).ok(),
            false => writable("tasks").ok().map(OwnedFd::from),
        };
        Ok(CgroupEntry { procs: writable("cgroup.procs")?, direct, is_v2 })
    }

    /// Whether the hierarchy of a cgroup is mounted here.
    pub fn is_hierarchy_mounted(&self, cgroup: &Cgroup) -> bool {
        self.hierarchy_of(cgroup).is_some()
    }

    /// Opens `cgroup.kill` of a cgroup for writing, which kills all of its processes at once; none if it
    /// has no such file (v2 since Linux 5.14 has).
    pub fn cgroup_kill_file(&self, cgroup: &Cgroup) -> Option<File> {
        let dir = self.cgroup_dir(cgroup)?;
        std::fs::OpenOptions::new().write(true).open(dir.join("cgroup.kill")).ok()
    }
}

impl LiveCgroup {
    /// Returns one process that is directly in this cgroup. Most often the first bytes have one, and on v2
    /// the kernel lists lazily. (Processes that this PID namespace does not have are listed as 0.)
    pub fn any_pid(&self) -> Option<HostPid> {
        const FIRST: usize = 64;
        let mut buffer = Vec::with_capacity(FIRST);
        let file = || File::open(self.dir.join("cgroup.procs"));
        read_at_once(file().ok()?, &mut buffer, FIRST).ok()?;
        let first = |listed: &[u8]| {
            let end = listed.iter().rposition(|byte| *byte == b'\n')?;
            cgroup::parse_pids(&listed[..end]).into_iter().find_map(HostPid::new)
        };
        let found = first(&buffer);
        if found.is_some() || buffer.len() < FIRST {
            return found;
        }
        read_into(file().ok()?, &mut buffer, MAX_PROCS).ok()?;
        first(&buffer)
    }
}

/// Lists the directories in a directory with their attributes. Each is looked up by its name from there:
/// in a long path the kernel would look up every part again.
fn directories(dir: &Path) -> Result<Vec<(Vec<u8>, FileStat)>, Errno> {
    let listed = fd::open(dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    let (mut names, mut found) = (Vec::new(), Vec::new());
    // One that is removed while it is listed has no more entries.
    let _ = each_entry(&listed, |name, is_dir| -> std::io::Result<()> {
        names.extend(is_dir.then(|| name.to_owned()));
        Ok(())
    });
    for name in names {
        // One that has been removed meanwhile is left out.
        let Ok(stat) = fstatat(&listed, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else {
            continue;
        };
        if fd::file_type(&stat) == SFlag::S_IFDIR {
            found.push((name.into_bytes(), stat));
        }
    }
    Ok(found)
}

fn read_pids(file: File, buffer: &mut Vec<u8>) -> Result<Vec<HostPid>, ReadError> {
    read_into(file, buffer, MAX_PROCS)?;
    Ok(cgroup::parse_pids(buffer).into_iter().filter_map(HostPid::new).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_walked_together_and_each_path_is_found_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc/1")).unwrap();
        let hierarchies = ["pids", "memory", "unified", "systemd", "freezer"];
        let make = |hierarchy: &str, path: String| {
            let top = dir.path().join("sys/fs/cgroup").join(hierarchy);
            std::fs::create_dir_all(top.join(path)).unwrap();
        };
        for n in 0..LARGE {
            hierarchies.iter().for_each(|hierarchy| make(hierarchy, format!("eng/{n}/below")));
        }
        for hierarchy in hierarchies {
            make(hierarchy, format!("only/{hierarchy}"));
        }
        let found = Host::new(dir.path()).unwrap().walk_cgroups();
        let paths: Vec<&[u8]> = found.cgroups.iter().map(|live| &*live.cgroup.path).collect();
        let unique: HashSet<&[u8]> = paths.iter().copied().collect();
        // (The freezer is not one in which engines put containers.)
        assert_eq!(
            (paths.len(), unique.len(), found.skipped.len()),
            (2 * LARGE + 6, paths.len(), 0)
        );
        for live in &found.cgroups {
            let (path, controllers) = (&*live.cgroup.path, &*live.cgroup.controllers);
            let expected: &[u8] = match path {
                b"/only/memory" => b"memory",
                b"/only/unified" => b"",
                b"/only/systemd" => b"name=systemd",
                _ => b"pids",
            };
            assert_eq!(controllers, expected, "{}", String::from_utf8_lossy(path));
            let parent = &path[..path.iter().rposition(|byte| *byte == b'/').unwrap()];
            let index = |path: &[u8]| paths.iter().position(|found| *found == path);
            assert!(parent.is_empty() || index(parent) < index(path));
        }
    }
}
