//! The errors of a reference that matches no container, or several: the search, the nearest names,
//! and whether a container of that name exists but is not running.

use jiff::Timestamp;

use super::matching::{SHORTEST_PREFIX, comparable, distinct_names, name_forms, with_prefix};
use super::not_running::not_running;
use super::{Access, reference::ContainerRef};
use crate::analysis::remedy::quoted;
use crate::analysis::wording::counted;
use crate::engine::{Inventory, StoppedContainer, exit_record};
use crate::error::{Error, ExitStatus, os_error};
use crate::model::bytes::message_text;
use crate::model::container::Container;
use crate::model::engine::EngineInfo;
use crate::model::exit_record::RecordedState;
use crate::model::pid::HostPid;
use crate::output::exit_words::predicate;
use crate::proc::Host;
use crate::sys::shortage;

/// Candidates that are listed; more of them do not help.
const MOST_LISTED: usize = 8;
/// Reasons why records were not read that are shown with a name that was not found.
const MOST_REFUSALS: usize = 2;
/// Warnings about records that are printed one by one.
const MOST_WARNINGS: usize = 20;

/// Types of objects of Kubernetes that have containers, as they are written before a name.
const OBJECT_KINDS: &[&str] = &[
    "cronjob",
    "daemonset",
    "deploy",
    "deployment",
    "ds",
    "job",
    "node",
    "po",
    "pod",
    "pods",
    "rs",
    "service",
    "statefulset",
    "sts",
    "svc",
];

/// A reference that matched no container.
pub(super) struct NotFound<'a> {
    pub host: &'a Host,
    pub inventory: &'a Inventory,
    /// The reference as it was typed.
    pub word: &'a str,
    pub reference: &'a ContainerRef,
    pub access: Access,
}

impl NotFound<'_> {
    /// Returns the error.
    pub(super) fn error(&self) -> Error {
        if let Some(errno) = shortage::last() {
            // It may be one of those that could not be read.
            let message = format!("cannot look for `{}`", self.word);
            return Error::new(ExitStatus::Failed, message)
                .cause(os_error(errno))
                .hint("raise the limits of this shell (`ulimit -n`, `ulimit -v`)");
        }
        match self.reference {
            ContainerRef::Pid(pid) => self.pid(*pid),
            ContainerRef::Cgroup(path) => self.cgroup(path),
            ContainerRef::Qualified(engine, name) => self.name(Some(*engine), name),
            ContainerRef::Plain(name) => self.name(None, name),
        }
    }

    fn because(&self, cause: impl Into<String>) -> Error {
        let message = format!("no running container `{}`", self.word);
        Error::new(ExitStatus::NoContainer, message).cause(cause)
    }

    fn pid(&self, pid: HostPid) -> Error {
        if self.host.stat(pid).is_err() {
            return self
                .because(format!("PID {pid} does not exist"))
                .hint("`cinspect ls` lists the running containers with the host PID of each init");
        }
        let error = self.because(format!("process {pid} is not in a container"));
        match (self.access, hidden_names_note(self.inventory)) {
            (Access::Act, _) => {
                error.hint("commands that modify state act only on processes of containers")
            }
            (Access::Read, Some(note)) => error.hint(note),
            (Access::Read, None) => error.hint("`cinspect ls` lists the running containers"),
        }
    }

    /// Whether a process is known to be in no container.
    fn is_on_host(&self, pid: HostPid) -> bool {
        let pid_ns = self.host.pid_ns_by_pid(pid).ok();
        pid_ns.is_some()
            && pid_ns == self.host.pid_ns
            && self.inventory.containing(self.host, pid).is_none()
    }

    fn cgroup(&self, path: &str) -> Error {
        if self.host.find_cgroup(path.as_bytes()).is_some() {
            return self
                .because(format!("cgroup `{path}` does not belong to exactly one container"))
                .hint("use the container's name, or `pid:N` for the container of a process");
        }
        self.because(format!("no cgroup `{path}` with processes in it"))
            .hint("take the path from `/proc/PID/cgroup`, such as `/system.slice/docker-….scope`")
    }

    fn name(&self, engine: Option<&'static EngineInfo>, name: &str) -> Error {
        match &not_running(self.host, self.inventory, engine, name)[..] {
            [] => {}
            [stopped] => return self.not_running(stopped),
            several => return self.several(several),
        }
        let pid = name.parse::<HostPid>().ok().filter(|_| engine.is_none());
        let pid_exists = pid.is_some_and(|pid| self.host.stat(pid).is_ok());
        if self.access == Access::Act
            && pid_exists
            && let Some(pid) = pid
        {
            if self.is_on_host(pid) {
                return self.pid(pid);
            }
            return self
                .because("PIDs need the `pid:` prefix here")
                .hint(format!("`pid:{name}` is the container of process {name}"));
        }
        if let Some(error) = self.short_prefix(engine, name) {
            return error;
        }
        let count = self.inventory.containers.len();
        let searched = counted(count, "running container", "running containers");
        let error = match pid {
            Some(pid) if !pid_exists => self.because(format!(
                "no name or ID prefix of {searched} matches, and PID {pid} does not exist"
            )),
            _ => self.because(format!("searched {searched} by name and ID")),
        };
        self.suggest(error, name)
    }

    /// Returns the error for a word that several containers that are not running have, each with a reference
    /// that selects it.
    fn several(&self, stopped: &[&StoppedContainer]) -> Error {
        let containers: Vec<&Container> =
            stopped.iter().map(|stopped| &stopped.container).collect();
        let names = distinct_names(&containers);
        let count = stopped.len();
        // (Of several users, or in several directories: LXC has no IDs.)
        let is_shared = |name: &String| names.iter().filter(|other| *other == name).count() > 1;
        let heading = match names.iter().any(is_shared) {
            true => "only their records tell those of one name apart:",
            false => "use one of these:",
        };
        let error = self
            .because(format!("it matches {count} containers that are not running"))
            .hint(heading);
        stopped.iter().zip(&names).take(MOST_LISTED).fold(error, |error, (stopped, name)| {
            let container = &stopped.container;
            let record = exit_record(self.host, container).unwrap_or_default();
            let ended = predicate(&record, container.engine, Timestamp::now());
            let path = is_shared(name).then(|| format!(": {}", stopped.path().display()));
            error.hint(format!("  {name}  ({ended}{})", path.unwrap_or_default()))
        })
    }

    fn not_running(&self, stopped: &StoppedContainer) -> Error {
        let container = &stopped.container;
        let engine = container.engine;
        let name = engine.display_name;
        if let Some(doubt) = &stopped.doubt {
            return self
                .because(format!("{name}'s record of it could not be verified: {doubt}"))
                .hint("`cinspect ls` lists the running containers");
        }
        let record = exit_record(self.host, container).unwrap_or_default();
        let ended = predicate(&record, engine, Timestamp::now());
        let why = format!("`cinspect why {}` says why", self.word);
        let error = self.because(format!("it exists in {name} but {ended}"));
        // (Of one that never ran nothing more is known.)
        let error = if record.has_ended() { error.hint(why) } else { error };
        match (stopped.advice(), record.state) {
            // (It needs no start.)
            (_, RecordedState::Restarting | RecordedState::Removing) => error,
            (Some(hint), _) => error.hint(hint),
            (None, _) => error.hint("`cinspect -v` prints the path of its record"),
        }
    }

    /// Returns the error for an ID prefix that is too short to act on.
    fn short_prefix(&self, engine: Option<&'static EngineInfo>, name: &str) -> Option<Error> {
        if self.access == Access::Read || name.len() >= SHORTEST_PREFIX {
            return None;
        }
        let candidates = self.inventory.containers.iter();
        let candidates = candidates.filter(|c| engine.is_none_or(|engine| engine == c.engine));
        let found = with_prefix(&candidates.collect::<Vec<_>>(), name);
        let error = self.because(format!(
            "commands that modify state take an ID prefix of at least {SHORTEST_PREFIX} characters"
        ));
        let names: Vec<String> = found.into_iter().map(Container::qualified).collect();
        (!names.is_empty()).then(|| did_you_mean(error, &names))
    }

    /// Adds the names that were probably meant, and why more of them may be hidden.
    fn suggest(&self, error: Error, name: &str) -> Error {
        let note = hidden_names_note(self.inventory);
        // `pod/web`, `deploy/web`: the type and the name of an object of Kubernetes.
        if let Some((kind, object)) = name.split_once('/')
            && OBJECT_KINDS.contains(&kind)
        {
            let list = format!("`cinspect ls {}` lists the containers", quoted(object));
            return error.hint(format!("{list}; in a pod they are `cri:NAMESPACE/POD/CONTAINER`"));
        }
        // `ps aux`: options of ps(1) without a hyphen.
        if ["aux", "auxf", "auxww", "axf", "axu", "ef", "faux"].contains(&name) {
            return error.hint("`cinspect ps` shows the processes of all containers");
        }
        if ["*", ".*", "all"].contains(&name) {
            return error
                .hint("containers are given by name, one or several; `cinspect ls` lists them");
        }
        // If names are hidden, one that is only similar is hardly ever the one that was meant.
        let edits = if note.is_some() { 1 } else { 1 + name.chars().count() / 4 };
        let containers = self.inventory.containers.iter();
        let names: Vec<(Vec<String>, String)> =
            containers.map(|c| (name_forms(c), c.qualified())).collect();
        let error = match &suggestions(&names, name, edits)[..] {
            [] if note.is_some() => error,
            [] => error.hint("`cinspect ls` lists the running containers"),
            suggested => did_you_mean(error, suggested),
        };
        let error = note.into_iter().fold(error, Error::hint);
        // One of them may be the record of this container.
        let refused = self.inventory.diagnostics.iter().take(MOST_REFUSALS);
        refused.fold(error, |error, refusal| error.hint(format!("not searched: {refusal}")))
    }
}

/// Adds the names that were probably meant.
fn did_you_mean(error: Error, names: &[String]) -> Error {
    if let [name] = names {
        return error.hint(format!("did you mean `{name}`?"));
    }
    let listed = names.iter().take(MOST_LISTED);
    let error = error.hint("did you mean one of these?");
    let error = listed.fold(error, |error, name| error.hint(format!("  {name}")));
    match names.len().saturating_sub(MOST_LISTED) {
        0 => error,
        more => error.hint(format!("  … and {more} more")),
    }
}

/// Returns the error for a number that is a PID and the beginning of IDs, with both readings.
pub(super) fn two_readings(
    host: &Host,
    inventory: &Inventory,
    pid: HostPid,
    candidates: &[Container],
) -> Error {
    let process = host.process_of(pid).unwrap_or(pid);
    let comm = host.stat(process).map(|stat| stat.comm).unwrap_or_default();
    let comm = message_text(&comm).into_owned();
    let place = match inventory.containing(host, process) {
        Some(container) => format!("in {}", container.qualified()),
        None => "in no container".into(),
    };
    let error = Error::new(ExitStatus::NoContainer, format!("`{pid}` is ambiguous"))
        .cause("it is the PID of a process, and an ID begins with it")
        .hint("use one of these:")
        .hint(format!("  pid:{pid}  (process {process} {comm}, {place})"));
    listed(error, candidates)
}

/// Returns the error for a reference that matches several containers, each in the form that selects
/// only it.
pub(super) fn ambiguous(word: &str, candidates: &[Container]) -> Error {
    let error = Error::new(ExitStatus::NoContainer, format!("`{word}` is ambiguous"))
        .cause(format!("it matches {} containers", candidates.len()))
        .hint("use one of these:");
    listed(error, candidates)
}

/// Adds the candidates, each in the form that selects only it.
fn listed(error: Error, candidates: &[Container]) -> Error {
    let names = distinct_names(&candidates.iter().collect::<Vec<_>>());
    candidates.iter().zip(names).fold(error, |error, (container, name)| {
        let image = container.image.as_deref().unwrap_or("-");
        let id = container.id.as_deref().unwrap_or("-");
        let id = id.get(..12).unwrap_or(id);
        let pid = container.init.map_or_else(|| "-".into(), |init| init.pid.to_string());
        let user = container.user.map_or_else(String::new, |uid| format!(", user {uid}"));
        error.hint(format!("  {name}  (id {id}, image {image}, pid {pid}{user})"))
    })
}

/// Returns the qualified names of the containers whose names contain the word, those that begin with it
/// first; or else of the one whose name is nearest to it within `edits`. `names` are pairs of a
/// container's names and its qualified form.
fn suggestions(names: &[(Vec<String>, String)], word: &str, edits: usize) -> Vec<String> {
    let word = comparable(word);
    if word.is_empty() {
        return Vec::new();
    }
    let nearest = |forms: &[String], distance: &dyn Fn(&str) -> Option<usize>| {
        forms.iter().filter_map(|form| distance(&comparable(form))).min()
    };
    let containing = |form: &str| match form.find(&word)? {
        0 if form == word => Some(0),
        0 => Some(1),
        _ => Some(2),
    };
    let mut found: Vec<(usize, &String)> = names
        .iter()
        .filter_map(|(forms, qualified)| Some((nearest(forms, &containing)?, qualified)))
        .collect();
    if found.is_empty() {
        let edited = |form: &str| {
            Some(strsim::osa_distance(form, &word)).filter(|distance| *distance <= edits)
        };
        let near = names
            .iter()
            .filter_map(|(forms, qualified)| Some((nearest(forms, &edited)?, qualified)));
        found.extend(near.min());
    }
    found.sort_unstable();
    found.into_iter().map(|(_, qualified)| qualified.clone()).collect()
}

/// Returns what a search reports about records that are not trusted and files that could not be read: of very many,
/// which a container can make, the first ones and the number of the others.
pub fn record_warnings(inventory: &Inventory, is_verbose: bool) -> Vec<String> {
    let all = &inventory.diagnostics;
    if is_verbose || all.len() <= MOST_WARNINGS + 1 {
        return all.clone();
    }
    let others = all.len() - MOST_WARNINGS;
    let rest =
        format!("{others} more records are not trusted or could not be read: `-v` lists them");
    all.iter().take(MOST_WARNINGS).cloned().chain([rest]).collect()
}

/// Returns why names may be missing for a user who is not root.
pub fn hidden_names_note(inventory: &Inventory) -> Option<String> {
    if inventory.hidden {
        return Some(
            "run with sudo: /proc hides other users' processes (hidepid), and with them their containers"
                .into(),
        );
    }
    (inventory.denied > 0).then(|| {
        "run with sudo (or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH): without root you cannot see the names of other users' containers"
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_very_many_records_that_are_not_trusted_the_number_is_reported() {
        let warnings = |count: usize, is_verbose| {
            let mut inventory = Inventory::default();
            inventory.diagnostics = (0..count).map(|number| format!("record {number}")).collect();
            record_warnings(&inventory, is_verbose)
        };
        assert_eq!((warnings(0, false).len(), warnings(21, false).len()), (0, 21));
        let many = warnings(1401, false);
        assert_eq!((many.len(), &*many[19]), (21, "record 19"));
        assert!(many[20].starts_with("1381 more records are not trusted"), "{}", many[20]);
        assert_eq!(warnings(1401, true).len(), 1401);
    }

    #[test]
    fn names_that_contain_the_word_come_before_similar_ones() {
        let names = ["web-2", "shop-web-1", "wex", "db", "proj-web-1"];
        let names = names.map(|name| (vec![name.to_owned()], format!("docker:{name}")));
        let suggested = |word| suggestions(&names, word, 1);
        assert_eq!(suggested("web"), ["docker:web-2", "docker:proj-web-1", "docker:shop-web-1"]);
        assert_eq!(suggested("shop"), ["docker:shop-web-1"]);
        assert_eq!(suggested("PROJ_WEB_1"), ["docker:proj-web-1"]);
        assert_eq!(suggested("wxe"), ["docker:wex"]);
        assert_eq!(suggested("dbb"), ["docker:db"]);
        assert!(suggested("nosuch").is_empty() && suggested("").is_empty());
    }
}
