//! Finds the containers of a host. Records first, each confirmed by the kernel; then the cgroup
//! tree, which leads to records in unusual places and to containers without any; last, and only
//! where everything is wanted, a survey of all processes for what has neither cgroup nor record.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::OnceLock;

use super::bare::BARE;
use super::cgroup_name::is_long_id;
use super::process_index::ProcessIndex;
use super::record::{Diagnostics, Record, RecordReader, Shim, UserDirs};
use super::shims::{shims_above, shims_in};
use super::verify::{Init, VerifyError, confirm, frozen_state, read_init, says};
use super::{ENGINES, precedence, recognise};
use crate::model::cgroup;
use crate::model::container::{Cgroup, Container, Evidence};
use crate::model::engine::EngineInfo;
use crate::model::namespace::NamespaceId;
use crate::model::pid::{HostPid, Ticks};
use crate::model::stop_policy::StopPolicy;
use crate::proc::{Host, LiveCgroup, Survey, Trust};

/// How far to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SearchDepth {
    /// Records and the cgroup tree: no process outside of containers is looked at.
    Cgroups,
    /// Every process of the host as well.
    Everything,
}

/// A container that an engine knows and that does not run.
#[derive(Clone, Debug)]
pub struct StoppedContainer {
    /// Whose it is.
    pub engine: &'static EngineInfo,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
    /// Where that stands.
    pub path: PathBuf,
    /// The cgroup it is put into when it runs, where the record says so.
    pub cgroup: Option<Vec<u8>>,
    /// Why the kernel does not bear out that it runs, where the record says that it does.
    pub doubt: Option<String>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Inventory {
    /// Alive, in the order of the runtime table.
    pub containers: Vec<Container>,
    /// Known to an engine, not running.
    pub stopped: Vec<StoppedContainer>,
    /// Records that were not believed and files that could not be read, and why: to be told.
    pub diagnostics: Vec<String>,
    /// How many processes would not tell us their PID namespace (we are not root).
    pub denied: usize,
    /// Whether `/proc` hides other users' processes from us altogether.
    pub hidden: bool,
    /// Whether only one engine was asked, so that others' containers are not in it.
    pub partial: bool,
    /// Every process of the host, where all of them were looked at.
    pub survey: Option<Survey>,
    census: OnceLock<ProcessIndex>,
}

/// Reads the records of one engine and looks no further: for a qualified name of one that keeps
/// good records and that no other engine's name could stand before.
pub fn discover_of(host: &Host, engine: &'static EngineInfo) -> Inventory {
    if !engine.has_complete_records() {
        return discover(host, SearchDepth::Cgroups);
    }
    let mut search = Search::new(host);
    search.only = engine.start_times_from.iter().copied().chain([engine]).collect();
    search.read_records(true, &[], &[]);
    let mut inventory = search.finish();
    inventory.partial = true;
    inventory
}

/// Finds containers.
pub fn discover(host: &Host, depth: SearchDepth) -> Inventory {
    let survey = match depth {
        SearchDepth::Cgroups => None,
        SearchDepth::Everything => host.survey().ok(),
    };
    let monitors = survey.as_ref().map(|survey| shims_in(host, survey)).unwrap_or_default();
    let mut search = Search::new(host);
    search.read_records(true, &monitors, &[]);
    let tree = host.walk_cgroups();
    for cut in tree.cut {
        search.complaints.borrow_mut().add(Trust::Root, cut);
    }
    let live = tree.cgroups;
    let unexplained = search.unexplained(&live);
    if !unexplained.is_empty() && survey.is_none() {
        let inits: Vec<HostPid> = unexplained.iter().map(|(_, pid)| *pid).collect();
        let monitors = shims_above(host, &inits);
        search.read_records(false, &monitors, &unexplained);
    } else if !unexplained.is_empty() {
        search.read_records(false, &[], &unexplained);
    }
    search.add_recognised(&live);
    if let Some(survey) = &survey {
        search.add_bare(survey);
        search.inventory.denied = survey.denied;
        search.inventory.hidden = !nix::unistd::geteuid().is_root() && host.hides_processes();
    }
    search.inventory.survey = survey;
    search.finish()
}

/// What is known about processes in a cgroup or a PID namespace for which no container was found:
/// they as a container of their own.
pub fn container_at(host: &Host, pid: HostPid, cgroup: Option<Cgroup>) -> Option<Container> {
    let init = read_init(host, pid).ok()?;
    let source = format!("/proc/{pid}/ns/pid");
    let evidence = vec![says(source, "no engine claims it".into(), true)];
    let mut container = assemble(host, &BARE, &init, cgroup, evidence);
    container.verified = true;
    Some(container)
}

struct Search<'a> {
    host: &'a Host,
    /// Engines to ask; all when empty.
    only: Vec<&'static EngineInfo>,
    homes: Vec<UserDirs>,
    inventory: Inventory,
    /// Where the container of an init stands in the list.
    by_init: HashMap<HostPid, usize>,
    /// Inits whose parent is the host's own: no monitor is above them.
    orphans: HashSet<HostPid>,
    seen: HashSet<(PathBuf, String, Trust, Option<HostPid>)>,
    complaints: RefCell<Diagnostics>,
}

impl<'a> Search<'a> {
    fn new(host: &'a Host) -> Self {
        Self {
            host,
            only: Vec::new(),
            homes: homes(host),
            inventory: Inventory::default(),
            by_init: HashMap::new(),
            orphans: HashSet::new(),
            seen: HashSet::new(),
            complaints: RefCell::default(),
        }
    }

    fn read_records(
        &mut self,
        defaults: bool,
        monitors: &[Shim],
        unexplained: &[(String, HostPid)],
    ) {
        let mut records = Vec::new();
        let look = RecordReader {
            host: self.host,
            defaults,
            shims: monitors,
            unexplained,
            users: &self.homes,
            diagnostics: &self.complaints,
        };
        for engine in ENGINES {
            if self.only.is_empty() || self.only.contains(&engine.info()) {
                engine.read_records(&look, &mut records);
            }
        }
        // The same list of containers may be read with other folders for what runs of them.
        records.retain(|record| {
            let Record { path, id, owner, pid, .. } = record;
            *owner != Trust::Untrusted && self.seen.insert((path.clone(), id.clone(), *owner, *pid))
        });
        lend_start_times(&mut records);
        let (sandboxed, plain): (Vec<Record>, Vec<Record>) =
            records.into_iter().partition(Record::is_in_pod_sandbox);
        for record in plain {
            self.add(record);
        }
        for record in sandboxed {
            self.add_sandboxed(record);
        }
    }

    /// Adds a container that runs in the sandbox of its pod, gVisor's kernel or Kata's machine. Its
    /// record has the sandbox's PID or none: it lives as long as that, and has no process here that
    /// a signal could be meant for.
    fn add_sandboxed(&mut self, record: Record) {
        let sandbox = self.inventory.containers.iter().find(|container| {
            container.remark.is_some()
                && container.pod.as_ref().zip(record.pod.as_ref()).is_some_and(|(pod, own)| {
                    pod.container.is_none()
                        && (&pod.namespace, &pod.name, &pod.uid)
                            == (&own.namespace, &own.name, &own.uid)
                })
        });
        let Some(sandbox) = sandbox else { return self.add_stopped(&record, None) };
        let within = format!("in the sandbox of {}", sandbox.by_pid());
        let mut container = Container {
            init: None,
            pid_ns: None,
            owns_pid_ns: false,
            cgroup: None,
            evidence: vec![says(record.path.display(), within, true)],
            ..sandbox.clone()
        };
        let remark = record.sandbox.map(|sandbox| {
            format!("runs in the {sandbox} sandbox of its pod: its processes are not on this host")
        });
        describe(&mut container, record);
        container.remark = remark;
        self.push(container);
    }

    /// Adds the container of a record, or notes that it does not run, or that it cannot be believed.
    fn add(&mut self, record: Record) {
        let Some(pid) = record.pid else { return self.add_stopped(&record, None) };
        match confirm(self.host, &record, pid) {
            Ok((init, cgroup, evidence)) => {
                if init.parent <= 1 {
                    self.orphans.insert(pid);
                }
                if let Some(at) = self.by_init.get(&pid) {
                    let known = &mut self.inventory.containers[*at];
                    known.evidence.extend(evidence);
                    // The earlier in the table names them; the other bears it out.
                    if precedence(record.engine) < precedence(known.engine) {
                        known.engine = record.engine;
                        known.cgroup = cgroup.or(known.cgroup.take());
                        describe(known, record);
                    }
                    return;
                }
                let mut container = assemble(self.host, record.engine, &init, cgroup, evidence);
                describe(&mut container, record);
                container.verified = true;
                self.push(container);
            }
            Err(VerifyError::Ended) => self.add_stopped(&record, None),
            Err(VerifyError::Unreadable) => {}
            Err(VerifyError::Refuted(why)) => {
                let path = record.path.display();
                let text = format!("the record `{path}` is not believed: {why}");
                self.complaints.borrow_mut().add(record.owner, text);
                self.add_stopped(&record, Some(why));
            }
        }
    }

    fn add_stopped(&mut self, record: &Record, doubt: Option<String>) {
        self.inventory.stopped.push(StoppedContainer {
            engine: record.engine,
            id: record.id.clone(),
            name: record.name.clone(),
            path: record.path.clone(),
            cgroup: record.cgroup.clone(),
            doubt,
        });
    }

    fn push(&mut self, container: Container) {
        if let Some(init) = container.init {
            self.by_init.insert(init.pid, self.inventory.containers.len());
        }
        self.inventory.containers.push(container);
    }

    /// Cgroups that hold a container nobody has told of: spelt like one, or with a process in
    /// another PID namespace than ours. Id (empty when unknown) and one process each.
    fn unexplained(&self, live: &[LiveCgroup]) -> Vec<(String, HostPid)> {
        let mut namespaces: HashSet<NamespaceId> =
            self.inventory.containers.iter().filter_map(|container| container.pid_ns).collect();
        namespaces.extend(self.host.pid_ns);
        // What a runtime under an engine knows may have a name that only the engine's monitor leads to,
        // or what the engine mounted; most have neither.
        let by_runtimes = self.inventory.containers.iter().filter(|c| c.engine.low_level);
        let by_runtimes: Vec<(String, HostPid)> = by_runtimes
            .filter_map(|c| Some((c.id.clone().unwrap_or_default(), c.init?.pid)))
            .filter(|(id, init)| is_long_id(id) || !self.orphans.contains(init))
            .collect();
        let known = Cgroups::of(&self.inventory.containers);
        let mut found = Vec::new();
        for live in live {
            let own = recognise(&live.cgroup.path);
            if known.explain(live, own.is_some()) {
                continue;
            }
            if let Some((_, id)) = own {
                // It may be that only cgroups below it have processes (systemd inside).
                let below = || self.host.cgroup_pids(&live.cgroup).ok()?.first().copied();
                found.extend(live.any_pid().or_else(below).map(|pid| (id, pid)));
                continue;
            }
            // To list a v1 cgroup the kernel sorts all that is in it, a login session say; those of
            // one hierarchy have to do. v2 lists as it is read.
            let controllers = &live.cgroup.controllers;
            if !controllers.is_empty() && cgroup::preference(controllers) > 0 {
                continue;
            }
            let namespace = |pid: HostPid| self.host.pid_ns_of(&self.host.process(pid).ok()?).ok();
            let foreign =
                |pid: &HostPid| namespace(*pid).is_some_and(|ns| !namespaces.contains(&ns));
            if !live.any_pid().is_some_and(|pid| foreign(&pid)) {
                continue;
            }
            // One of each namespace: nspawn can have several containers in one cgroup.
            for pid in
                self.host.cgroup_pids(&live.cgroup).unwrap_or_default().into_iter().take(4096)
            {
                if namespace(pid).is_some_and(|ns| namespaces.insert(ns)) {
                    found.push((String::new(), pid));
                }
            }
        }
        found.extend(by_runtimes);
        found
    }

    /// Containers that only their cgroup tells of.
    fn add_recognised(&mut self, live: &[LiveCgroup]) {
        let mut explained = Cgroups::of(&self.inventory.containers);
        for live in live {
            let Some((engine, id)) = recognise(&live.cgroup.path) else { continue };
            if explained.explain(live, true) {
                continue;
            }
            let Some(init) = self.init_of(&live.cgroup) else { continue };
            if self.by_init.contains_key(&init.id.pid) {
                continue;
            }
            let stopped = &mut self.inventory.stopped;
            let known =
                stopped.iter().position(|stopped| stopped.engine == engine && stopped.id == id);
            let owner = self.host.cgroup_maker(&live.cgroup);
            // What is made inside of a container is named by that container.
            let nested = self.inventory.containers.iter().any(|outer| {
                outer
                    .cgroup
                    .as_ref()
                    .is_some_and(|outer| cgroup::is_at_or_below(&live.cgroup.path, &outer.path))
            });
            let path = String::from_utf8_lossy(&live.cgroup.path).into_owned();
            let keeps_no_record = !engine.keeps_records;
            let mut evidence =
                vec![says("cgroup tree", format!("{path} is spelt as {}'s", engine.name), true)];
            let verified = keeps_no_record && owner == Trust::Root && !nested;
            evidence.push(match owner {
                Trust::Root if verified => {
                    says(&path, "every directory above it is root's".into(), true)
                }
                _ if nested => says(&path, "it was made inside of a container".into(), false),
                Trust::Root => says(&path, "no record confirms the name".into(), false),
                _ => says(&path, "a user could have made it".into(), false),
            });
            let cgroup = Some(live.cgroup.clone());
            let mut container = assemble(self.host, engine, &init, cgroup, evidence);
            let its = |at: &usize| {
                let claimed = stopped[*at].cgroup.as_deref();
                claimed.is_none_or(|claimed| claimed == live.cgroup.path)
            };
            if let Some(at) = known.filter(its).filter(|_| verified) {
                let known = stopped.swap_remove(at);
                container.evidence.push(says(
                    known.path.display(),
                    "is its configuration".into(),
                    true,
                ));
                container.name = known.name;
                container.record = Some(known.path);
            } else if keeps_no_record {
                container.name = Some(id.clone());
            }
            container.id = Some(id);
            container.verified = verified;
            explained.0.insert(live.cgroup.path.clone());
            self.push(container);
        }
    }

    /// The init of a cgroup: PID 1 of the outermost PID namespace in it, else the first process
    /// whose parent is outside.
    fn init_of(&self, cgroup: &Cgroup) -> Option<Init> {
        let pids = self.host.cgroup_pids(cgroup).ok()?;
        let inits = pids.iter().filter_map(|pid| read_init(self.host, *pid).ok());
        inits.min_by_key(|init| {
            let outside = HostPid::new(init.parent).is_none_or(|parent| !pids.contains(&parent));
            (!init.owns_pid_ns, !outside, init.depth, init.id.start)
        })
    }

    /// PID namespaces that are none of the containers' so far.
    fn add_bare(&mut self, survey: &Survey) {
        // Who only joined a namespace does not stand for it.
        let owners = self.inventory.containers.iter().filter(|container| container.owns_pid_ns);
        let mut known: HashSet<NamespaceId> = owners.filter_map(|owner| owner.pid_ns).collect();
        known.extend(self.host.pid_ns);
        for resident in &survey.residents {
            // One that is closed to us is told apart from others by its PID 1 alone.
            let namespace = resident.pid_ns;
            if namespace.is_some_and(|namespace| known.contains(&namespace))
                || self.by_init.contains_key(&resident.id.pid)
            {
                continue;
            }
            let Ok(init) = read_init(self.host, resident.id.pid) else { continue };
            // Its PID 1 may come later in the list, and may have left a namespace that others of
            // it are still dying in.
            if !init.owns_pid_ns || init.pid_ns != namespace {
                continue;
            }
            known.extend(namespace);
            let source = format!("/proc/{}/ns/pid", resident.id.pid);
            let evidence =
                vec![says(source, "PID 1 of a namespace that no engine claims".into(), true)];
            let cgroup = self.lone_cgroup(&init);
            let mut container = assemble(self.host, &BARE, &init, cgroup, evidence);
            container.user = match self.host.user(init.uid) {
                Trust::User(uid) => Some(uid),
                _ => None,
            };
            container.verified = true;
            self.push(container);
        }
    }

    /// The cgroup of a bare namespace counts as its own only when nobody else is in it.
    fn lone_cgroup(&self, init: &Init) -> Option<Cgroup> {
        let membership = init.memberships.by_preference().find(|m| m.path != b"/")?;
        let cgroup =
            Cgroup { controllers: membership.controllers.clone(), path: membership.path.clone() };
        let pids = self.host.cgroup_pids(&cgroup).ok()?;
        let all_inside = pids.len() <= 4096
            && pids.iter().all(|pid| {
                self.host.status(*pid).is_ok_and(|status| status.nspid.len() > init.depth)
                    && self
                        .host
                        .process(*pid)
                        .is_ok_and(|handle| self.host.pid_ns_of(&handle).ok() == init.pid_ns)
            });
        all_inside.then_some(cgroup)
    }

    fn finish(mut self) -> Inventory {
        let containers = &mut self.inventory.containers;
        containers.sort_by(|a, b| {
            let key = |c: &Container| (precedence(c.engine), c.name.clone(), c.id.clone(), c.init);
            key(a).cmp(&key(b))
        });
        // A container that one engine knows as running is not stopped because another's record of
        // it is old.
        let alive: HashSet<&str> =
            containers.iter().filter_map(|container| container.id.as_deref()).collect();
        self.inventory.stopped.retain(|stopped| !alive.contains(stopped.id.as_str()));
        self.inventory.diagnostics = self.complaints.into_inner().into_messages();
        self.inventory
    }
}

/// The cgroups of containers, by their paths.
struct Cgroups(HashSet<Vec<u8>>);

impl Cgroups {
    fn of(containers: &[Container]) -> Self {
        let cgroups = containers.iter().filter_map(|container| container.cgroup.as_ref());
        Self(cgroups.map(|cgroup| cgroup.path.clone()).collect())
    }

    /// Whether a cgroup is one of them, or lies below one and is not itself spelt like a container's.
    fn explain(&self, live: &LiveCgroup, is_spelt: bool) -> bool {
        let path = &live.cgroup.path;
        let mut above = (1..path.len()).filter(|at| path[*at] == b'/');
        self.0.contains(path) || (!is_spelt && above.any(|at| self.0.contains(&path[..at])))
    }
}

/// The runtime under an engine keeps the start time that the engine's own record lacks.
fn lend_start_times(records: &mut [Record]) {
    let starts: HashMap<(String, HostPid, Trust), Ticks> =
        records.iter().filter_map(|r| Some(((r.id.clone(), r.pid?, r.owner), r.start?))).collect();
    for record in records.iter_mut().filter(|record| record.start.is_none()) {
        let Some(pid) = record.pid else { continue };
        let told_by = |owner| starts.get(&(record.id.clone(), pid, owner));
        record.start = told_by(record.owner).or_else(|| told_by(Trust::Root)).copied();
    }
}

fn assemble(
    host: &Host,
    engine: &'static EngineInfo,
    init: &Init,
    cgroup: Option<Cgroup>,
    evidence: Vec<Evidence>,
) -> Container {
    Container {
        engine,
        id: None,
        name: None,
        aliases: Vec::new(),
        namespace: None,
        pod: None,
        image: None,
        init: Some(init.id),
        pid_ns: init.pid_ns,
        depth: init.depth,
        owns_pid_ns: init.owns_pid_ns,
        cgroup,
        state: frozen_state(host, &init.memberships),
        user: None,
        verified: false,
        stop: StopPolicy::default(),
        record: None,
        remark: None,
        evidence,
    }
}

fn describe(container: &mut Container, record: Record) {
    container.id = Some(record.id);
    container.name = record.name;
    container.aliases = record.aliases;
    container.namespace = record.namespace;
    container.pod = record.pod;
    container.image = record.image;
    container.stop = record.stop;
    container.record = Some(record.path);
    container.user = match record.owner {
        Trust::User(uid) => Some(uid),
        _ => None,
    };
    container.remark = record.sandbox.map(|sandbox| {
        format!("runs in a {sandbox} sandbox: its processes are not on this host, what is shown is the sandbox")
    });
}

/// Users with a runtime directory, and our own when we are not root (root's environment may be a
/// user's, by sudo -E, and is not asked).
fn homes(host: &Host) -> Vec<UserDirs> {
    let mut homes: Vec<UserDirs> = Vec::new();
    let users = host.state_dir("/run/user").and_then(|dir| dir.names()).unwrap_or_default();
    for uid in users.iter().filter_map(|name| name.parse::<u32>().ok()) {
        let runtime_dir = PathBuf::from(format!("/run/user/{uid}"));
        homes.push(UserDirs { uid, home: None, runtime_dir });
    }
    let me = nix::unistd::geteuid();
    if !me.is_root()
        && let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)
        && homes.iter().all(|home| home.runtime_dir != dir)
    {
        homes.push(UserDirs { uid: me.as_raw(), home: None, runtime_dir: dir });
    }
    if homes.is_empty() {
        return homes;
    }
    host.beware_of_remote();
    let passwd = host.state_file("/etc/passwd").map(|file| file.bytes).unwrap_or_default();
    for line in String::from_utf8_lossy(&passwd).lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, uid, _, _, folder, ..] = fields[..] else { continue };
        let Ok(uid) = uid.parse::<u32>() else { continue };
        for home in homes.iter_mut().filter(|home| home.uid == uid && home.home.is_none()) {
            home.home = folder.starts_with('/').then(|| folder.into());
        }
    }
    homes
}

impl Inventory {
    /// The survey put in order, for counting.
    pub(super) fn census(&self, host: &Host) -> &ProcessIndex {
        self.census.get_or_init(|| ProcessIndex::new(host, self))
    }

    /// The innermost container that a process is in: by its cgroup, else by its PID namespace, else
    /// by one of the namespaces above that.
    pub fn containing(&self, host: &Host, pid: HostPid) -> Option<&Container> {
        if let Some(own) = self.containers.iter().find(|c| c.init_pid() == Some(pid)) {
            return Some(own);
        }
        let memberships = host.memberships(pid).ok()?;
        let namespace = host.process(pid).and_then(|handle| host.pid_ns_of(&handle)).ok();
        let by_cgroup = self
            .containers
            .iter()
            .filter(|container| {
                container.cgroup.as_ref().is_some_and(|cgroup| cgroup.holds(&memberships))
            })
            .max_by_key(|container| container.cgroup.as_ref().map(|cgroup| cgroup.path.len()));
        let by_namespace = || {
            let own = namespace.filter(|own| Some(*own) != host.pid_ns)?;
            self.containers.iter().find(|c| c.owns_pid_ns && c.pid_ns == Some(own))
        };
        match (by_cgroup, by_namespace()) {
            // A namespace made inside the container is one of its own; and one beside it in the same
            // cgroup (nspawn's `payload`) is another container's.
            (Some(outer), Some(inner))
                if inner.pid_ns != outer.pid_ns && inner.depth >= outer.depth =>
            {
                Some(inner)
            }
            (Some(found), _) | (None, Some(found)) => Some(found),
            (None, None) => None,
        }
    }
}
