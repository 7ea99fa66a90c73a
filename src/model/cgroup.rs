//! The cgroups of a process, paths of cgroups, and two files of a cgroup: its processes and its freezer.
//! The name of a cgroup does not prove which engine made it. Never reads the tree.

use super::bytes::{decimal, words};

/// The cgroups of a process, one in each hierarchy: `/proc/PID/cgroup` (cgroups(7)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Memberships(pub Vec<Cgroup>);

/// A cgroup: its hierarchy, and its path below that hierarchy's root.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cgroup {
    /// The controllers of the hierarchy as `/proc/PID/cgroup` lists them, separated by commas; empty for
    /// v2, `name=…` for a hierarchy without controllers.
    pub controllers: Vec<u8>,
    /// The path from the root of the hierarchy, or of our cgroup namespace, where `/..` leads to
    /// cgroups outside it. Any bytes but newline. v2 marks a removed cgroup, in which only zombies
    /// are left, by ` (deleted)` at the end, which is not part of the path here; but a live cgroup may
    /// have a name that ends so.
    pub path: Vec<u8>,
}

impl Memberships {
    /// Parses the file. The first two colons of a line separate its fields, a name may contain more;
    /// newline is refused by the kernel (`cgroup_mkdir`). Lines of another form are left out.
    ///
    /// ```text
    /// 9:name=systemd:/docker/3f2a…
    /// 4:cpu,cpuacct:/docker/3f2a…
    /// 0::/system.slice/docker-3f2a….scope
    /// ```
    pub fn parse(bytes: &[u8]) -> Self {
        Self(bytes.split(|b| *b == b'\n').filter_map(Cgroup::parse).collect())
    }

    /// Iterates over the memberships in the order of [`preference`]: the hierarchy of pids, of memory,
    /// v2, systemd's, and the rest as listed.
    pub fn by_preference(&self) -> impl Iterator<Item = &Cgroup> {
        (0..=LEAST_PREFERRED).flat_map(|rank| {
            self.0.iter().filter(move |membership| preference(&membership.controllers) == rank)
        })
    }
}

impl Cgroup {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut parts = line.splitn(3, |b| *b == b':');
        let hierarchy: u32 = decimal(parts.next()?)?;
        let controllers = parts.next()?.to_vec();
        let path = parts.next()?;
        // v1 never marks a removed cgroup (proc_cgroup_show, kernel/cgroup/cgroup.c).
        let unmarked = path.strip_suffix(b" (deleted)").filter(|_| hierarchy == 0);
        let path = unmarked.unwrap_or(path);
        path.starts_with(b"/").then(|| Self { controllers, path: path.to_vec() })
    }

    /// Whether a process with these memberships is in it or in one below it.
    pub fn holds(&self, memberships: &Memberships) -> bool {
        memberships.0.iter().any(|cgroup| {
            cgroup.controllers == self.controllers && is_at_or_below(&cgroup.path, &self.path)
        })
    }

    /// Whether its hierarchy has a controller, or is the v1 hierarchy of this name (`name=systemd`).
    pub fn has_controller(&self, name: &[u8]) -> bool {
        has_controller(&self.controllers, name)
    }
}

fn has_controller(controllers: &[u8], name: &[u8]) -> bool {
    controllers.split(|b| *b == b',').any(|controller| controller == name)
}

/// The greatest [`preference`], of hierarchies in which no engine puts containers.
pub const LEAST_PREFERRED: u8 = 4;

/// Returns the rank of a hierarchy by its controllers, 0 for the most informative. Every engine makes a
/// cgroup in the first ones; a v2 tree next to v1 hierarchies may have none.
pub fn preference(controllers: &[u8]) -> u8 {
    let has = |name: &[u8]| has_controller(controllers, name);
    match controllers {
        b"" => 2,
        _ if has(b"pids") => 0,
        _ if has(b"memory") => 1,
        _ if has(b"name=systemd") => 3,
        _ => LEAST_PREFERRED,
    }
}

/// Iterates over the names in a path; `/` has none.
pub fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|name| !name.is_empty())
}

/// Whether a path is that of a cgroup or of one below it. Compares names, so `/a` is not above `/ab`; a
/// path that leaves the ancestor by `..` is not below it. Nothing is below an ancestor without a leading
/// slash.
pub fn is_at_or_below(path: &[u8], ancestor: &[u8]) -> bool {
    let mut names = components(path);
    path.starts_with(b"/")
        && ancestor.starts_with(b"/")
        && components(ancestor).all(|name| names.next() == Some(name))
        && names.all(|name| name != b"..")
}

/// Returns the beginning of a path through the component with this index, counted from 0; the whole path
/// if it has fewer.
pub fn prefix_through(path: &[u8], component_index: usize) -> &[u8] {
    let mut seen = 0;
    for (index, byte) in path.iter().enumerate() {
        let is_end = *byte != b'/' && path.get(index + 1).is_none_or(|next| *next == b'/');
        seen += usize::from(is_end);
        if seen > component_index {
            return &path[..=index];
        }
    }
    path
}

/// The freezer that keeps a process frozen: they differ in the effect of a fatal signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Freezer {
    /// None: the process runs.
    Thawed,
    /// Not known.
    Unknown,
    /// v2's: a signal that terminates by default still kills.
    V2,
    /// v1's freezer controller: every signal waits, KILL too.
    V1,
}

impl Freezer {
    /// Returns the freezer of a hierarchy with these controllers, if it has one.
    pub fn of_hierarchy(controllers: &[u8]) -> Option<Self> {
        let v1 = || has_controller(controllers, b"freezer").then_some(Self::V1);
        if controllers.is_empty() { Some(Self::V2) } else { v1() }
    }
}

/// State of a cgroup's freezer, including a frozen ancestor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreezerState {
    /// Its processes run.
    Thawed,
    /// v1: freezing, and some of its processes may still run.
    Freezing,
    /// All of its processes are frozen.
    Frozen,
}

impl FreezerState {
    /// Parses `freezer.state` of v1 or `cgroup.events` of v2; any other text counts as thawed
    /// (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst, cgroup-v2.rst).
    ///
    /// ```text
    /// FROZEN
    /// ```
    ///
    /// ```text
    /// populated 1
    /// frozen 1
    /// ```
    pub fn parse(bytes: &[u8]) -> Self {
        match bytes.trim_ascii() {
            b"FROZEN" => Self::Frozen,
            b"FREEZING" => Self::Freezing,
            events if events.split(|b| *b == b'\n').any(|line| line == b"frozen 1") => Self::Frozen,
            _ => Self::Thawed,
        }
    }

    /// Whether a signal has to wait. A process in a cgroup that is freezing freezes before a signal is
    /// delivered (`try_to_freeze` in `get_signal`, kernel/signal.c).
    pub fn is_frozen(self) -> bool {
        self != Self::Thawed
    }
}

/// Parses `cgroup.procs`: one PID a line, in no order, in v1 perhaps twice. Processes outside our PID
/// namespace are listed as 0 and left out (cgroups(7)).
///
/// ```text
/// 812
/// 830
/// ```
pub fn parse_pids(bytes: &[u8]) -> Vec<i32> {
    bytes
        .split(|b| *b == b'\n')
        .filter_map(|line| decimal(words(line).next()?))
        .filter(|pid| *pid > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paths(memberships: &Memberships) -> Vec<String> {
        let text = |m: &Cgroup| String::from_utf8_lossy(&m.path).into_owned();
        memberships.by_preference().map(text).collect()
    }

    #[test]
    fn parses_a_hybrid_host() {
        let found = Memberships::parse(
            b"9:name=systemd:/s\n8:cpu,cpuacct:/c\n7:pids:/p\n6:freezer:/f\n4:memory,x:/m\n0::/u\n",
        );
        assert_eq!(paths(&found), ["/p", "/m", "/u", "/s", "/c", "/f"]);
        assert_eq!(found.0[1].controllers, b"cpu,cpuacct");
    }

    #[test]
    fn a_name_may_contain_colons_and_any_bytes() {
        let found = Memberships::parse(b"0::/a:b::/sec\xff \t(x)/docker/1:2\n");
        assert_eq!(found.0[0].path, b"/a:b::/sec\xff \t(x)/docker/1:2");
    }

    #[test]
    fn only_v2_marks_removed_cgroups() {
        let found = Memberships::parse(b"3:pids:/x (deleted)\n0::/x (deleted)\n");
        assert_eq!((&*found.0[0].path, &*found.0[1].path), (&b"/x (deleted)"[..], &b"/x"[..]));
    }

    #[test]
    fn lines_of_another_form_are_left_out() {
        let bytes =
            b"\n:\n::/x\n0:\n0:/x\nx::/x\n-1::/x\n0::x\n0::\n4294967296:a:/x\n0:: (deleted)\n";
        assert_eq!(Memberships::parse(bytes), Memberships::default());
    }

    #[test]
    fn paths_are_compared_by_name() {
        for (path, ancestor) in [
            ("/a/b", "/a"),
            ("/a", "/a"),
            ("/a", "/a/"),
            ("/a", "/"),
            ("/", "/"),
            ("/../a/b", "/../a"),
        ] {
            assert!(is_at_or_below(path.as_bytes(), ancestor.as_bytes()), "{path} {ancestor}");
        }
        for (path, ancestor) in [
            ("/ab", "/a"),
            ("/a", "/a/b"),
            ("/", "/a"),
            ("/a", ""),
            ("/a/../b", "/a"),
            ("/../a", "/"),
            ("a", "/"),
        ] {
            assert!(!is_at_or_below(path.as_bytes(), ancestor.as_bytes()), "{path} {ancestor}");
        }
    }

    #[test]
    fn a_path_is_cut_after_a_component() {
        let path = b"/kubepods.slice/pod1/cri-3f2a.scope/init";
        assert_eq!(components(path).nth(2), Some(&b"cri-3f2a.scope"[..]));
        assert_eq!(prefix_through(path, 0), b"/kubepods.slice");
        assert_eq!(prefix_through(path, 2), b"/kubepods.slice/pod1/cri-3f2a.scope");
        assert_eq!(prefix_through(path, 3), path);
        assert_eq!(prefix_through(path, 9), path);
        assert_eq!(prefix_through(b"//a//b/", 1), b"//a//b");
        assert_eq!(prefix_through(b"/", 0), b"/");
        assert_eq!(components(b"/").count(), 0);
    }

    #[test]
    fn parses_both_freezers() {
        assert_eq!(FreezerState::parse(b"FROZEN\n"), FreezerState::Frozen);
        assert_eq!(FreezerState::parse(b"FREEZING\n"), FreezerState::Freezing);
        assert_eq!(FreezerState::parse(b"THAWED\n"), FreezerState::Thawed);
        assert_eq!(FreezerState::parse(b"populated 1\nfrozen 1\n"), FreezerState::Frozen);
        assert_eq!(FreezerState::parse(b"frozen 0\npopulated 1\n"), FreezerState::Thawed);
        assert_eq!(FreezerState::parse(b""), FreezerState::Thawed);
        assert!(FreezerState::Freezing.is_frozen() && !FreezerState::Thawed.is_frozen());
    }

    #[test]
    fn skips_pids_of_other_namespaces() {
        assert_eq!(parse_pids(b"812\n0\n830\n\n-4\nx\n99999999999\n7"), [812, 830, 7]);
        assert_eq!(parse_pids(b""), Vec::<i32>::new());
    }

    proptest! {
        #[test]
        fn any_bytes_do_not_panic(bytes: Vec<u8>, text in "[0-9:/. a\n]{0,60}", index: usize) {
            for bytes in [&bytes[..], text.as_bytes()] {
                let _ = (Memberships::parse(bytes), FreezerState::parse(bytes), parse_pids(bytes));
                let _ = (prefix_through(bytes, index), is_at_or_below(bytes, text.as_bytes()));
            }
        }

        #[test]
        fn any_membership_is_parsed_back(
            hierarchy: u32,
            controllers in "[a-z_=,]{0,20}",
            mut name: Vec<u8>,
        ) {
            name.retain(|b| *b != b'\n');
            let path = [&b"/"[..], &name].concat();
            prop_assume!(!path.ends_with(b" (deleted)"));
            let mut line = format!("{hierarchy}:{controllers}:").into_bytes();
            line.extend(&path);
            line.push(b'\n');
            let controllers = controllers.into_bytes();
            let expected = Cgroup { controllers, path };
            prop_assert_eq!(Memberships::parse(&line), Memberships(vec![expected]));
        }

        #[test]
        fn a_prefix_has_as_many_components(
            path in "/?([a-c]{0,2}/){0,5}[a-c]?",
            index in 0usize..6,
        ) {
            let path = path.as_bytes();
            let prefix = prefix_through(path, index);
            prop_assert!(path.starts_with(prefix));
            prop_assert_eq!(components(prefix).count(), components(path).count().min(index + 1));
        }
    }
}
