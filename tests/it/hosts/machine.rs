//! A recorded host, parsed from its file and unpacked into a directory for `--host-root`. Files of the
//! kernel have the format of the kernel. The user who unpacks it owns all files, and so stands for root,
//! except for the paths of an `owner` line.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The PID namespace that a machine boots with.
const HOST_NAMESPACE: &str = "4026531836";
/// The user namespace that a machine boots with (include/linux/proc_ns.h).
const HOST_USER_NAMESPACE: &str = "4026531837";

/// A part of the file: `-- HEAD --` and the lines below it.
pub struct Section {
    pub head: String,
    pub body: String,
}

/// A recorded host.
pub struct Machine {
    /// The text before the first section: a description, and the source of the facts.
    pub preface: String,
    pub sections: Vec<Section>,
    ids: BTreeMap<String, String>,
}

type Result<T> = std::result::Result<T, String>;

impl Machine {
    /// Reads the file of a host.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| format!("{path:?}: {error}"))?;
        let mut machine =
            Self { preface: String::new(), sections: Vec::new(), ids: BTreeMap::new() };
        for line in text.lines() {
            let head = line.strip_prefix("-- ").and_then(|line| line.strip_suffix(" --"));
            match (head, machine.sections.last_mut()) {
                (Some(head), _) => {
                    machine.sections.push(Section { head: head.into(), body: String::new() });
                }
                (None, Some(section)) => section.body.push_str(&format!("{line}\n")),
                (None, None) => machine.preface.push_str(&format!("{line}\n")),
            }
        }
        for section in &mut machine.sections {
            section.body.truncate(section.body.trim_end().len());
        }
        machine.ids = machine.ids()?;
        Ok(machine)
    }

    /// Expands `id NAME HEX` to an ID of 64 digits, HEX repeated; `$NAME` stands for it.
    fn ids(&self) -> Result<BTreeMap<String, String>> {
        let given = self.sections.iter().filter_map(|section| section.head.strip_prefix("id "));
        given
            .map(|given| {
                let (name, begin) = given.split_once(' ').ok_or("id NAME HEX")?;
                Ok((format!("${name}"), begin.chars().cycle().take(64).collect()))
            })
            .collect()
    }

    /// Replaces names by their IDs.
    pub fn fill(&self, text: &str) -> String {
        // The longest first: `$WEB` is a prefix of `$WEBPOD`.
        let mut ids: Vec<_> = self.ids.iter().collect();
        ids.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        ids.iter().fold(text.to_owned(), |text, (name, id)| text.replace(*name, id))
    }

    /// Replaces IDs by their names.
    pub fn unfill(&self, text: &str) -> String {
        self.ids.iter().fold(text.to_owned(), |text, (name, id)| text.replace(id, name))
    }

    /// Whether it has files of several users.
    pub fn needs_root(&self) -> bool {
        self.sections.iter().any(|section| section.head.starts_with("owner "))
    }

    /// Unpacks the host below `root`.
    pub fn unpack(&self, root: &Path) -> Result<()> {
        let mut kernel = Kernel { root, mounted: vec![String::new()], trees: BTreeMap::new() };
        for section in &self.sections {
            let body = self.fill(&section.body);
            if let Some(hierarchies) = section.head.strip_prefix("cgroups ") {
                let names = hierarchies.split_whitespace();
                kernel.mounted =
                    names.map(|name| name.replace("unified", "").replace("v2", "")).collect();
            } else if section.head == "processes" {
                for line in body.lines().filter(|line| !line.trim().is_empty()) {
                    if !line.starts_with('#') {
                        kernel.process(line).map_err(|error| format!("{line}: {error}"))?;
                    }
                }
            }
        }
        kernel.cgroups()?;
        // Files come last: explicit content replaces generated content.
        for section in &self.sections {
            self.file(root, section).map_err(|error| format!("{}: {error}", section.head))?;
        }
        for owner in self.sections.iter().filter_map(|s| s.head.strip_prefix("owner ")) {
            let mut words = owner.split_whitespace();
            let uid = words.next().and_then(|uid| uid.parse().ok()).ok_or("owner UID PATH…")?;
            words.try_for_each(|path| chown_recursively(&root.join(self.fill(path)), uid))?;
        }
        Ok(())
    }

    fn file(&self, root: &Path, section: &Section) -> Result<()> {
        let words = ["$ ", "id ", "cgroups ", "processes", "owner "];
        if words.iter().any(|word| section.head.starts_with(word)) {
            return Ok(());
        }
        let head = self.fill(&section.head);
        if let Some((path, target)) = head.split_once(" -> ") {
            let path = root.join(path);
            create_parents(&path)?;
            return symlink(target, path).map_err(|error| error.to_string());
        }
        let body = self.fill(&section.body);
        if head.ends_with('/') {
            return fs::create_dir_all(root.join(head)).map_err(|error| error.to_string());
        }
        write(&root.join(head), format!("{body}\n"))
    }
}

/// The files that the kernel makes for processes: `/proc` and the cgroup hierarchies.
struct Kernel<'a> {
    root: &'a Path,
    /// The controllers of each mounted hierarchy; empty for v2.
    mounted: Vec<String>,
    /// PIDs by cgroup directory.
    trees: BTreeMap<PathBuf, Vec<i32>>,
}

impl Kernel<'_> {
    /// Writes the files of one process, from a line `PID NAME key=value…`.
    fn process(&mut self, line: &str) -> Result<()> {
        let words = split(line);
        let [pid, comm, rest @ ..] = &words[..] else { return Err("PID NAME key=value…".into()) };
        let number: i32 = pid.parse().map_err(|_| "a PID comes first")?;
        let mut given: BTreeMap<&str, &str> = BTreeMap::new();
        let mut cgroups: BTreeMap<&str, &str> = BTreeMap::new();
        let mut status: Vec<(&str, &str)> = Vec::new();
        let mut mounts = String::new();
        for word in rest {
            if let Some((hierarchy, path)) =
                word.strip_prefix("cgroup:").and_then(|rest| rest.split_once("=/"))
            {
                cgroups.insert(hierarchy, &word[word.len() - path.len() - 1..]);
                continue;
            }
            let (key, value) = word.split_once('=').ok_or("expected key=value")?;
            match key {
                "mount" => {
                    let mount = format!("41 29 254:1 {value} /mnt rw - ext4 /dev/vda1 rw\n");
                    mounts.push_str(&mount);
                }
                _ if key.starts_with(char::is_uppercase) => status.push((key, value)),
                "parent" | "start" | "inside" | "ns" | "userns" | "uid" | "state" | "threads"
                | "cgroup" | "argv" | "title" | "cwd" | "uid_map" | "flags" => {
                    given.insert(key, value);
                }
                _ => return Err(format!("unknown key: {key}")),
            }
        }
        let get = |key: &str, default: &'static str| given.get(key).copied().unwrap_or(default);
        let dir = self.root.join("proc").join(pid);
        let (parent, start) = (get("parent", "1"), get("start", "100"));
        let (state, threads) = (get("state", "S"), get("threads", "1"));
        let stat = format!(
            "{pid} ({comm}) {state} {parent} {pid} {pid} 0 -1 {} 165 0 0 0 3 1 0 0 20 0 {threads} 0 \
             {start} 3133440 384 18446744073709551615 1 1 0 0 0 0 0 4096 65536 0 0 0 17 1 0 0 0 0 0\n",
            get("flags", "4194560")
        );
        write(&dir.join("stat"), stat)?;
        let inside: String = get("inside", "").replace(',', "\t");
        write(&dir.join("status"), status_text(pid, comm, &given, inside.trim(), &status))?;
        write(&dir.join("comm"), format!("{comm}\n"))?;
        let argv = match given.get("title") {
            Some(title) => (*title).to_owned(),
            None => format!("{}\0", given.get("argv").unwrap_or(&comm.as_str()).replace(' ', "\0")),
        };
        write(&dir.join("cmdline"), argv)?;
        write(&dir.join("uid_map"), format!("{}\n", get("uid_map", "0 0 4294967295")))?;
        write(&dir.join("mountinfo"), mounts)?;
        // In a system call that does not wait for a signal.
        let call = "39 0x0 0x0 0x0 0x0 0x0 0x0 0x7ffe00 0x7f0d00\n";
        write(&dir.join("syscall"), call.into())?;
        link(&dir.join("ns/pid"), &format!("pid:[{}]", get("ns", HOST_NAMESPACE)))?;
        link(&dir.join("ns/user"), &format!("user:[{}]", get("userns", HOST_USER_NAMESPACE)))?;
        if let Some(cwd) = given.get("cwd") {
            link(&dir.join("cwd"), cwd)?;
        }
        let mut lines = String::new();
        for (index, controllers) in self.mounted.clone().iter().enumerate().rev() {
            let explicit = cgroups.get(controllers.as_str());
            let path = explicit.copied().unwrap_or_else(|| get("cgroup", "/"));
            // v2 always has ID 0 (cgroups(7)).
            let hierarchy_id = if controllers.is_empty() { 0 } else { index + 1 };
            let _ = writeln!(lines, "{hierarchy_id}:{controllers}:{path}");
            // A zombie is not in any cgroup.procs of v2, but its /proc/PID/cgroup still names its cgroup.
            if state != "Z" {
                let tree = self.tree(controllers);
                self.trees.entry(tree.join(&path[1..])).or_default().push(number);
            }
        }
        write(&dir.join("cgroup"), lines)
    }

    /// Returns where a hierarchy is mounted.
    fn tree(&self, controllers: &str) -> PathBuf {
        let top = self.root.join("sys/fs/cgroup");
        match controllers.strip_prefix("name=").unwrap_or(controllers) {
            "" if self.mounted.len() == 1 => top,
            "" => top.join("unified"),
            name => top.join(name),
        }
    }

    /// Writes the files of every cgroup directory, down to those with processes.
    fn cgroups(&self) -> Result<()> {
        let tops: Vec<PathBuf> = self.mounted.iter().map(|name| self.tree(name)).collect();
        for dir in &tops {
            write(&dir.join("cgroup.procs"), String::new())?;
        }
        for (dir, pids) in &self.trees {
            let index =
                tops.iter().position(|top| dir.starts_with(top)).ok_or("no such hierarchy")?;
            for dir in dir.ancestors().take_while(|dir| *dir != tops[index]) {
                if self.mounted[index].is_empty() {
                    write(&dir.join("cgroup.events"), "populated 1\nfrozen 0\n".into())?;
                } else if self.mounted[index].split(',').any(|name| name == "freezer") {
                    write(&dir.join("freezer.state"), "THAWED\n".into())?;
                }
                if !dir.join("cgroup.procs").exists() {
                    write(&dir.join("cgroup.procs"), String::new())?;
                }
            }
            let pids: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
            write(&dir.join("cgroup.procs"), pids)?;
        }
        Ok(())
    }
}

/// Returns `/proc/PID/status`; a `Key=value` of the line replaces a line of it.
fn status_text(
    pid: &str,
    comm: &str,
    given: &BTreeMap<&str, &str>,
    inside: &str,
    overrides: &[(&str, &str)],
) -> String {
    let get = |key: &str, default: &'static str| given.get(key).copied().unwrap_or(default);
    let uid = get("uid", "0");
    let four = format!("{uid}\t{uid}\t{uid}\t{uid}");
    let pids = format!("{pid}\t{inside}").trim().to_owned();
    let zero = "0000000000000000";
    // On the host, root's processes have all capabilities and others none; in containers, Docker's default.
    let capabilities = match (inside, uid) {
        ("", "0") => "000001ffffffffff",
        ("", _) => zero,
        _ => "00000000a80425fb",
    };
    let lines: [(&str, &str); 27] = [
        ("Name", comm),
        ("Umask", "0022"),
        ("State", if get("state", "S") == "Z" { "Z (zombie)" } else { "S (sleeping)" }),
        ("Tgid", pid),
        ("Ngid", "0"),
        ("Pid", pid),
        ("PPid", get("parent", "1")),
        ("TracerPid", "0"),
        ("Uid", &four),
        ("Gid", &four),
        ("Groups", ""),
        ("NStgid", &pids),
        ("NSpid", &pids),
        ("NSpgid", &pids),
        ("NSsid", &pids),
        ("Threads", get("threads", "1")),
        ("SigQ", "0/96365"),
        ("SigPnd", zero),
        ("ShdPnd", zero),
        ("SigBlk", zero),
        ("SigIgn", zero),
        ("SigCgt", zero),
        ("CapInh", zero),
        ("CapPrm", capabilities),
        ("CapEff", capabilities),
        ("CapBnd", "00000000a80425fb"),
        ("NoNewPrivs", "0"),
    ];
    let mut text = String::new();
    for (key, value) in lines {
        let given = overrides.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        let _ = match given {
            Some(mask) if value.len() == 16 => writeln!(text, "{key}:\t{mask:0>16}"),
            other => writeln!(text, "{key}:\t{}", other.unwrap_or(value)),
        };
    }
    text
}

/// Splits a line at spaces outside of double quotes.
fn split(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("at least one word").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn create_parents(path: &Path) -> Result<()> {
    let dir = path.parent().ok_or("the path has no directory")?;
    fs::create_dir_all(dir).map_err(|error| format!("{dir:?}: {error}"))
}

fn write(path: &Path, text: String) -> Result<()> {
    create_parents(path)?;
    fs::write(path, text).map_err(|error| format!("{path:?}: {error}"))
}

fn link(path: &Path, target: &str) -> Result<()> {
    create_parents(path)?;
    symlink(target, path).map_err(|error| format!("{path:?}: {error}"))
}

/// Changes the owner of a path and everything below it.
fn chown_recursively(path: &Path, uid: u32) -> Result<()> {
    std::os::unix::fs::lchown(path, Some(uid), Some(uid))
        .map_err(|error| format!("{path:?}: {error}"))?;
    if path.is_symlink() || !path.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(|error| error.to_string())? {
        chown_recursively(&entry.map_err(|error| error.to_string())?.path(), uid)?;
    }
    Ok(())
}
