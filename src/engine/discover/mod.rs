//! Finds the containers of a host. Records first, each verified with the kernel; then the cgroup tree,
//! which leads to records in other directories and to containers without any; last, and only where
//! everything is wanted, a survey of all processes for those with neither cgroup nor record.

mod cgroups;
mod records;
mod unexplained;
mod users;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::bare::BARE;
use super::cgroup_name::is_long_id;
use super::inventory::{Inventory, StoppedContainer};
use super::name_filter::NameFilter;
use super::precedence;
use super::record::{Diagnostics, Record, UserDirs};
use super::verify::{Init, evidence, read_init};
use crate::model::cgroup::Cgroup;
use crate::model::container::{Container, ContainerState, Evidence};
use crate::model::engine::EngineInfo;
use crate::model::pid::HostPid;
use crate::proc::{Host, Survey, Trust};

/// Extent of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SearchDepth {
    /// Records and the cgroup tree: no process outside of containers is read.
    Cgroups,
    /// Also the records of containers that are not running, in the engines' usual directories.
    Records,
    /// Every process of the host as well.
    Everything,
    /// Also all facts in the engines' files about containers that are not running.
    NotRunning,
}

/// Reads the records of one engine only, for a qualified reference, if they are complete; else finds
/// all containers with a cgroup.
pub fn discover_of(host: &Host, engine: &'static EngineInfo) -> Inventory {
    if !engine.has_complete_records() {
        return discover(host, SearchDepth::Cgroups);
    }
    let _held = host.hold_dirs();
    Search::new(host).of_engine(engine)
}

/// Reads no more than is needed to know whether exactly one container has this name or ID: of one engine, as
/// [`discover_of`], or of all with a cgroup. None if a record may spell the word in another way.
pub fn discover_named(
    host: &Host,
    engine: Option<&'static EngineInfo>,
    word: &str,
) -> Option<Inventory> {
    let _held = host.hold_dirs();
    let mut search = Search::new(host);
    search.filter = Some(NameFilter::new(word)?);
    Some(match engine.filter(|engine| engine.has_complete_records()) {
        Some(engine) => search.of_engine(engine),
        None => search.by_cgroups(None),
    })
}

/// Finds all containers.
pub fn discover(host: &Host, depth: SearchDepth) -> Inventory {
    discover_all(host, depth, true)
}

/// Finds all containers, for their names, images and states alone: how each is stopped is not read where an engine
/// has that in a file of its own.
pub fn discover_names(host: &Host, depth: SearchDepth) -> Inventory {
    discover_all(host, depth, false)
}

fn discover_all(host: &Host, depth: SearchDepth, with_settings: bool) -> Inventory {
    let survey = match depth {
        SearchDepth::Cgroups | SearchDepth::Records => None,
        SearchDepth::Everything | SearchDepth::NotRunning => host.survey().ok(),
    };
    let _held = host.hold_dirs();
    let mut search = Search::new(host);
    search.reads_settings = with_settings;
    search.reads_ended = matches!(depth, SearchDepth::Records | SearchDepth::NotRunning);
    search.by_cgroups(survey)
}

/// Makes a container of a cgroup, or of the PID namespace of a process, where no engine's container was
/// found.
pub fn container_at(host: &Host, pid: HostPid, cgroup: Option<Cgroup>) -> Option<Container> {
    let init = read_init(host, pid).ok()?;
    let source = format!("/proc/{pid}/ns/pid");
    let evidence = vec![evidence(source, "no engine claims it".into(), true)];
    let state = init.state(host);
    let mut container = assemble(state, &BARE, &init, cgroup, evidence);
    container.verified = true;
    Some(container)
}

/// Path, ID, owner and PID of a record.
type RecordKey = (PathBuf, String, Trust, Option<HostPid>);

/// A record that is not trusted.
struct DoubtedRecord {
    record: Record,
    reason: String,
    /// The diagnostic about it.
    message: String,
}

/// A search in progress. Its steps are in the modules below.
struct Search<'a> {
    host: &'a Host,
    /// Engines whose records are read; all if empty.
    engines: Vec<&'static EngineInfo>,
    users: Vec<UserDirs>,
    inventory: Inventory,
    /// Index of the container of each init.
    by_init: HashMap<HostPid, usize>,
    /// Inits whose parent is the host's PID 1: they have no shim above them.
    orphans: HashSet<HostPid>,
    /// Parents of the inits of containers that an engine names.
    parents_of_named: HashSet<HostPid>,
    /// Records that were read already.
    read: HashSet<RecordKey>,
    /// Whether only samples of the containers that no record explains have been followed so far.
    is_sampling: bool,
    /// Records that are not trusted, by the facts that the samples led to.
    doubted: Vec<DoubtedRecord>,
    diagnostics: Mutex<Diagnostics>,
    /// The name that is searched for, if it is one.
    filter: Option<NameFilter>,
    /// Whether every process of a survey that has the name of a shim was read as one.
    has_all_shims: bool,
    /// Whether containers that are not found now are searched for once more.
    is_first_look: bool,
    /// Whether to read all that is recorded about containers that are not running.
    reads_ended: bool,
    /// Whether to read files that only have settings of a container.
    reads_settings: bool,
}

impl<'a> Search<'a> {
    fn new(host: &'a Host) -> Self {
        Self {
            host,
            engines: Vec::new(),
            users: users::user_dirs(host),
            inventory: Inventory::default(),
            by_init: HashMap::new(),
            orphans: HashSet::new(),
            parents_of_named: HashSet::new(),
            read: HashSet::new(),
            is_sampling: false,
            doubted: Vec::new(),
            diagnostics: Mutex::default(),
            filter: None,
            has_all_shims: false,
            is_first_look: false,
            reads_ended: false,
            reads_settings: true,
        }
    }

    /// Reads the records of one engine only.
    fn of_engine(mut self, engine: &'static EngineInfo) -> Inventory {
        self.engines = engine.start_times_from.iter().copied().chain([engine]).collect();
        self.read_records(true, &[], &[]);
        self.inventory.partial = true;
        self.finish()
    }

    /// Reads records and the cgroup tree, and adds the results of a survey.
    fn by_cgroups(mut self, survey: Option<Survey>) -> Inventory {
        let host = self.host;
        let shims = self.read_first_records(survey.as_ref());
        let tree = host.walk_cgroups();
        for message in tree.skipped {
            self.diagnose(Trust::Root, message);
        }
        self.add_without_init(&tree.cgroups);
        let unexplained = self.follow_unexplained(&tree.cgroups);
        self.add_recognised(unexplained);
        if let Some(survey) = &survey {
            self.add_bare(survey);
            self.inventory.denied = survey.denied;
            self.inventory.hidden = !nix::unistd::geteuid().is_root() && host.hides_processes();
        }
        self.inventory.survey = survey;
        self.inventory.partial = self.filter.is_some();
        if self.reads_ended {
            self.read_ended(&shims);
        }
        self.finish()
    }

    fn diagnose(&mut self, owner: Trust, message: String) {
        let diagnostics = self.diagnostics.get_mut();
        diagnostics.unwrap_or_else(PoisonError::into_inner).add(owner, message);
    }

    fn push(&mut self, container: Container) {
        if let Some(init) = container.init_pid() {
            self.by_init.insert(init, self.inventory.containers.len());
        }
        self.inventory.containers.push(container);
    }

    fn finish(mut self) -> Inventory {
        let containers = &mut self.inventory.containers;
        containers
            .sort_by_cached_key(|c| (precedence(c.engine), c.name.clone(), c.id.clone(), c.init));
        // A container that runs by one engine's record is not stopped because another engine's record
        // of it is old.
        // While it starts or ends, it may be found by the runtime below its engine, or by a cgroup, alone:
        // then its engine's record has to name it.
        let named = containers.iter().filter(|c| c.verified && !c.engine.low_level);
        let alive: HashSet<&str> = named.filter_map(|c| c.id.as_deref()).collect();
        let is_alive = |id: &Option<String>| id.as_deref().is_some_and(|id| alive.contains(id));
        // (A record that is not trusted names a container that is listed without a name.)
        let is_kept = |s: &StoppedContainer| s.doubt.is_some() || !is_alive(&s.container.id);
        self.inventory.stopped.retain(is_kept);
        let stopped = &mut self.inventory.stopped;
        stopped.sort_by_cached_key(|stopped| {
            let c = &stopped.container;
            (precedence(c.engine), c.name.clone(), c.id.clone(), c.namespace.clone())
        });
        // A container left over in the runtime below an engine is not a container of its own.
        let mut seen = HashSet::new();
        stopped.retain(|stopped| {
            let id = stopped.container.id.clone().unwrap_or_default();
            !is_long_id(&id) || seen.insert(id)
        });
        let diagnostics = self.diagnostics.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.inventory.diagnostics = diagnostics.into_messages();
        self.inventory
    }
}

/// Returns the remark on a container whose init is the kernel of a sandbox.
fn sandbox_remark(sandbox: &str) -> String {
    format!(
        "runs in a {sandbox} sandbox: its processes are not on this host; the sandbox is shown in their place"
    )
}

fn assemble(
    state: ContainerState,
    engine: &'static EngineInfo,
    init: &Init,
    cgroup: Option<Cgroup>,
    evidence: Vec<Evidence>,
) -> Container {
    Container {
        init: Some(init.id),
        pid_ns: init.pid_ns,
        depth: init.depth,
        owns_pid_ns: init.owns_pid_ns,
        cgroup,
        state,
        evidence,
        remark: init.sandbox.map(sandbox_remark),
        ..Container::not_running(engine)
    }
}
