//! From what was typed to one container: not found, ambiguous and gone are told apart, and a name
//! that nothing confirms never stands for a container that is about to be changed.

pub mod processes;
pub mod reference;

use std::cell::RefCell;
use std::sync::Arc;

use crate::engine::{
    Inventory, SearchDepth, StoppedContainer, container_at, discover, discover_of,
};
use crate::error::{Error, ExitStatus};
use crate::model::container::Container;
use crate::model::engine::EngineInfo;
use crate::model::pid::HostPid;
use crate::proc::Host;
use reference::ContainerRef;

/// What a command is going to do with the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only look.
    Read,
    /// Change something.
    Act,
}

/// The rule of "Naming a container" that a reference matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchRule {
    /// A name or an alias.
    Name,
    /// The whole ID.
    Id,
    /// A process in the container, as `pid:N` or a bare number.
    Pid(HostPid),
    /// The first digits of the ID.
    IdPrefix,
    /// `cgroup:PATH`.
    Cgroup,
}

/// A container that a reference was resolved to.
#[derive(Clone, Debug)]
pub struct ResolvedContainer<'a> {
    /// The host that it runs on.
    pub host: &'a Host,
    /// The container.
    pub container: Container,
    /// Everything that was found during the search, shared by all references of a command.
    pub inventory: Arc<Inventory>,
    /// The rule that matched.
    pub matched_by: MatchRule,
}

/// Finds several containers at one moment: what was seen for one word is not looked at again for the
/// next.
#[derive(Debug)]
pub struct Resolver<'a> {
    /// Where.
    pub host: &'a Host,
    seen: RefCell<Vec<(SearchScope, Arc<Inventory>)>>,
}

/// How far to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SearchScope {
    Engine(&'static EngineInfo),
    All(SearchDepth),
}

impl<'a> Resolver<'a> {
    /// One that has seen nothing yet.
    pub fn new(host: &'a Host) -> Self {
        Self { host, seen: RefCell::default() }
    }

    /// Finds the one container that `word` refers to.
    ///
    /// # Errors
    /// None or several match, the one that does is not running or (to act on it) not verified, or
    /// `word` cannot be a container.
    pub fn resolve(&self, word: &str, purpose: Access) -> Result<ResolvedContainer<'a>, Error> {
        find(self, word, purpose)
    }

    fn look(&self, reach: SearchScope) -> Arc<Inventory> {
        // Where all of them were asked one is not asked again.
        let serves = |seen: SearchScope| match reach {
            SearchScope::Engine(_) => {
                seen == reach || seen == SearchScope::All(SearchDepth::Cgroups)
            }
            SearchScope::All(_) => seen == reach,
        };
        let known = self.seen.borrow().iter().find(|(seen, _)| serves(*seen)).map(|s| s.1.clone());
        known.unwrap_or_else(|| {
            let inventory = Arc::new(match reach {
                SearchScope::Engine(runtime) => discover_of(self.host, runtime),
                SearchScope::All(depth) => discover(self.host, depth),
            });
            self.seen.borrow_mut().push((reach, Arc::clone(&inventory)));
            inventory
        })
    }
}

fn find<'a>(
    finder: &Resolver<'a>,
    word: &str,
    purpose: Access,
) -> Result<ResolvedContainer<'a>, Error> {
    let host = finder.host;
    let target = ContainerRef::parse(word)?;
    // Further only where nearer told nothing: all processes of the host are the last resort.
    // Who only looks may stop at one engine's records; who acts wants to know of a second container
    // that is called so.
    let mut inventory = match &target {
        ContainerRef::Of(runtime, _) if purpose == Access::Read => {
            finder.look(SearchScope::Engine(*runtime))
        }
        _ => finder.look(SearchScope::All(SearchDepth::Cgroups)),
    };
    let mut chosen = choose(host, &inventory, &target, purpose);
    for depth in [SearchDepth::Cgroups, SearchDepth::Everything] {
        if matches!(chosen, Match::None) && (inventory.partial || depth == SearchDepth::Everything)
        {
            inventory = finder.look(SearchScope::All(depth));
            chosen = choose(host, &inventory, &target, purpose);
        }
    }
    let (container, matched_by) = match chosen {
        Match::One(container, rule) => (*container, rule),
        Match::Many(candidates) => return Err(ambiguous(word, &candidates)),
        Match::None => return Err(nothing(host, &inventory, word, &target, purpose)),
    };
    if purpose == Access::Act
        && let Some(remark) = &container.remark
        && !matches!(target, ContainerRef::Pid(_))
    {
        // What would be changed is the sandbox, and with it everything that runs inside.
        let error = Error::new(ExitStatus::NoContainer, format!("`{word}` is out of reach"));
        return Err(match container.init {
            Some(init) => error
                .cause(remark)
                .hint(format!("the sandbox itself, with all that is in it, is `pid:{}`", init.pid)),
            None => error.cause(remark),
        });
    }
    if purpose == Access::Act && !container.verified && !matches!(target, ContainerRef::Pid(_)) {
        return Err(Error::new(ExitStatus::NoContainer, format!("`{word}` is not verified"))
            .cause("nothing but the name of a cgroup says that this is the container")
            .hint(format!(
                "look at it with `cinspect -v ps {word}`, then use `{}`",
                container.by_pid()
            )));
    }
    Ok(ResolvedContainer { host, container, inventory, matched_by })
}

enum Match {
    None,
    One(Box<Container>, MatchRule),
    Many(Vec<Container>),
}

impl Match {
    fn of(found: Vec<&Container>, rule: MatchRule) -> Self {
        // Where a verified container answers, one that only claims the name is not in question.
        let verified: Vec<&Container> = found.iter().copied().filter(|c| c.verified).collect();
        let found = if verified.is_empty() { found } else { verified };
        match found[..] {
            [] => Self::None,
            [one] => Self::One(Box::new(one.clone()), rule),
            _ => Self::Many(found.into_iter().cloned().collect()),
        }
    }
}

/// The rules of "Naming a container", in their order: the first that matches anything decides.
fn choose(host: &Host, inventory: &Inventory, target: &ContainerRef, purpose: Access) -> Match {
    let all = &inventory.containers;
    let word = match target {
        ContainerRef::Pid(pid) => return at_pid(host, inventory, *pid, purpose),
        ContainerRef::Cgroup(path) => return at_cgroup(host, inventory, path, purpose),
        ContainerRef::Of(runtime, name) => {
            let own: Vec<&Container> = all.iter().filter(|c| c.engine == *runtime).collect();
            return by_word(&own, inventory, Some(*runtime), name);
        }
        ContainerRef::Word(word) => word,
    };
    match by_word(&all.iter().collect::<Vec<_>>(), inventory, None, word) {
        Match::None => {}
        found => return found,
    }
    match word.parse::<HostPid>() {
        Ok(pid) if purpose == Access::Read => at_pid(host, inventory, pid, purpose),
        _ => Match::None,
    }
}

fn by_word(
    among: &[&Container],
    inventory: &Inventory,
    runtime: Option<&'static EngineInfo>,
    word: &str,
) -> Match {
    let rules: [(MatchRule, &dyn Fn(&Container) -> bool); 3] = [
        (MatchRule::Name, &|container| is_named(container, word)),
        // After every name: `lxc:web` is the one called so, not also a project's `shop_web`.
        (MatchRule::Name, &|container| container.aliases.iter().any(|alias| alias == word)),
        (MatchRule::Id, &|container| container.id.as_deref() == Some(word)),
    ];
    for (rule, matches) in rules {
        let found: Vec<&Container> = among.iter().copied().filter(|c| matches(c)).collect();
        if !found.is_empty() {
            return Match::of(found, rule);
        }
    }
    // The whole name of one that does not run is not the beginning of another's id.
    if stopped(inventory, runtime, word).is_some() {
        return Match::None;
    }
    let begins = |c: &&Container| c.id.as_deref().is_some_and(|id| is_prefix(word, id));
    Match::of(among.iter().copied().filter(begins).collect(), MatchRule::IdPrefix)
}

/// Whether a word stands for the id that begins so: only of those that nobody writes out in full.
/// Where the id is a name, its beginning may be another container's whole name.
fn is_prefix(word: &str, id: &str) -> bool {
    id.len() == 64 && id.starts_with(word)
}

/// The container of that name or id that does not run.
fn stopped<'a>(
    inventory: &'a Inventory,
    runtime: Option<&'static EngineInfo>,
    word: &str,
) -> Option<&'a StoppedContainer> {
    inventory.stopped.iter().find(|stopped| {
        runtime.is_none_or(|runtime| runtime == stopped.engine)
            && (stopped.name.as_deref() == Some(word) || stopped.id == word)
    })
}

/// The name a runtime gave, alone or with what stands before it in the qualified form.
fn is_named(container: &Container, word: &str) -> bool {
    let is = |text: &Option<String>| text.as_deref() == Some(word);
    if is(&container.name) {
        return true;
    }
    let within = container.qualified();
    let within = within.split_once(':').map_or("", |(_, rest)| rest);
    if within == word && container.engine.names_containers() && container.verified {
        return true;
    }
    match (&container.namespace, word.split_once('/')) {
        (Some(namespace), Some((space, id))) => {
            space == namespace
                && (container.id.as_deref() == Some(id) || container.name.as_deref() == Some(id))
        }
        _ => false,
    }
}

fn at_pid(host: &Host, inventory: &Inventory, pid: HostPid, purpose: Access) -> Match {
    let own = host.process(pid).and_then(|handle| host.pid_ns_of(&handle)).ok();
    if let Some(container) = inventory.containing(host, pid) {
        // One made inside of it is a container of its own, which only a survey finds. Where even
        // that does not, the outer one is not what is meant to be changed.
        let deeper = || host.status(pid).is_ok_and(|s| s.nspid.len() > container.depth + 1);
        let inner = match own {
            Some(own) => Some(own) != container.pid_ns && Some(own) != host.pid_ns,
            None => deeper(),
        };
        if !inner || (inventory.survey.is_some() && purpose == Access::Read) {
            return Match::One(Box::new(container.clone()), MatchRule::Pid(pid));
        }
        return Match::None;
    }
    let hosts = own.is_some() && own == host.pid_ns;
    match HostPid::new(1) {
        Some(first) if hosts && purpose == Access::Read => container_at(host, first, None)
            .map_or(Match::None, |c| Match::One(Box::new(c), MatchRule::Pid(pid))),
        _ => Match::None,
    }
}

fn at_cgroup(host: &Host, inventory: &Inventory, path: &str, purpose: Access) -> Match {
    let known = inventory.containers.iter().filter(|container| {
        container.cgroup.as_ref().is_some_and(|cgroup| cgroup.path == path.as_bytes())
    });
    let known: Vec<&Container> = known.collect();
    if !known.is_empty() {
        return Match::of(known, MatchRule::Cgroup);
    }
    let Some((cgroup, pids)) = host.find_cgroup(path.as_bytes()) else { return Match::None };
    let first = pids.into_iter().find_map(|pid| container_at(host, pid, Some(cgroup.clone())));
    // What nothing confirms may be looked at: to act, it has to be a known container's own cgroup.
    let first = first.filter(|_| purpose == Access::Read);
    first.map_or(Match::None, |container| {
        Match::One(Box::new(Container { owns_pid_ns: false, ..container }), MatchRule::Cgroup)
    })
}

fn ambiguous(word: &str, candidates: &[Container]) -> Error {
    let mut names: Vec<String> = candidates.iter().map(Container::qualified).collect();
    let repeated = |name: &String| candidates.iter().filter(|c| c.qualified() == *name).count() > 1;
    // Two users' Podmans may use one name; their ids differ.
    if names.iter().any(repeated) {
        names = candidates.iter().map(Container::qualified_by_id).collect();
    }
    let mut error = Error::new(ExitStatus::NoContainer, format!("`{word}` is ambiguous"))
        .cause(format!("it fits {} containers", names.len()))
        .hint("name one of these:");
    for (container, name) in candidates.iter().zip(names) {
        let image = container.image.as_deref().unwrap_or("-");
        let id = container.id.as_deref().unwrap_or("-");
        let id = id.get(..12).unwrap_or(id);
        let user = container.user.map_or_else(String::new, |uid| format!(", of user {uid}"));
        error = error.hint(format!(
            "  {name}  (id {id}, image {image}, pid {}{user})",
            container.by_pid().trim_start_matches("pid:")
        ));
    }
    error
}

fn nothing(
    host: &Host,
    inventory: &Inventory,
    word: &str,
    target: &ContainerRef,
    purpose: Access,
) -> Error {
    let error = |because: String| {
        Error::new(ExitStatus::NoContainer, format!("no running container `{word}`")).cause(because)
    };
    if let ContainerRef::Pid(pid) = target {
        return match host.stat(*pid) {
            Err(_) => error(format!("there is no process {pid}"))
                .hint("`cinspect ls` lists what runs, with the host PID of each init"),
            Ok(_) => error(format!("process {pid} is in no container"))
                .hint("what changes something acts only inside of containers"),
        };
    }
    if let ContainerRef::Cgroup(path) = target {
        if host.find_cgroup(path.as_bytes()).is_some() {
            return error(format!("cgroup `{path}` is no container's own"))
                .hint("name the container, or `pid:N` for the one that a process is in");
        }
        return error(format!("there is no cgroup `{path}` with processes in it"))
            .hint("paths are those of `/proc/PID/cgroup`, as `/system.slice/docker-….scope`");
    }
    let name = match target {
        ContainerRef::Of(_, name) | ContainerRef::Word(name) => name.as_str(),
        _ => word,
    };
    let of = match target {
        ContainerRef::Of(runtime, _) => Some(*runtime),
        _ => None,
    };
    let begins = |stopped: &&StoppedContainer| {
        of.is_none_or(|runtime| runtime == stopped.engine)
            && name.len() >= 4
            && is_prefix(name, &stopped.id)
    };
    let known = stopped(inventory, of, name).or_else(|| inventory.stopped.iter().find(begins));
    if let Some(stopped) = known {
        let path = stopped.path.display();
        if let Some(why) = &stopped.doubt {
            return error(format!("{}'s record of it is not believed", stopped.engine.name))
                .hint(format!("`{path}`: {why}; `cinspect ls` shows what runs"));
        }
        return error(format!("{} knows it, but it is not running", stopped.engine.name))
            .hint(format!("{}its record is `{path}`", ways_to_start(stopped)));
    }
    if purpose == Access::Act && name.parse::<HostPid>().is_ok() && of.is_none() {
        return error("a bare number is no name for what changes something".into())
            .hint(format!("for the container that process {name} is in, say `pid:{name}`"));
    }
    let searched = match inventory.containers.len() {
        1 => "1 running container".to_owned(),
        many => format!("{many} running containers"),
    };
    let error = match name.parse::<HostPid>() {
        Ok(pid) if of.is_none() && host.stat(pid).is_err() => {
            error(format!("no name or id of {searched} begins so, and there is no process {pid}"))
        }
        _ => error(format!("searched {searched}, by name and id")),
    };
    let blind = blind(inventory);
    // To whom names are hidden the nearest of the others is hardly ever what was meant.
    let far = if blind.is_some() { 1 } else { 1 + name.chars().count() / 4 };
    let error = match nearest(inventory, name, far) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None if blind.is_some() => {
            error.hint("as root its name may be known; `pid:N` names it by a host PID")
        }
        None => error.hint("`cinspect ls` lists them"),
    };
    match blind {
        Some(note) => error.hint(note),
        None => error,
    }
}

/// What a caller who is not root does not see.
pub fn blind(inventory: &Inventory) -> Option<String> {
    if inventory.hidden {
        return Some(
            "/proc hides other users' processes from you (hidepid), and their containers with them"
                .into(),
        );
    }
    let denied = inventory.denied;
    (denied > 0).then(|| {
        format!(
            "{denied} processes of other users keep their namespaces from you; as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, you see the names of their containers too"
        )
    })
}

/// What makes it run again, and what reads its files as it is, where its engine has that.
fn ways_to_start(stopped: &StoppedContainer) -> String {
    let name = stopped.name.as_deref().unwrap_or(&stopped.id);
    let hint = stopped.engine.start_hint.map(|hint| hint.replace("NAME", name));
    hint.map_or_else(String::new, |hint| format!("{hint}; "))
}

/// The name closest to what was typed, if any is close.
fn nearest(inventory: &Inventory, word: &str, most: usize) -> Option<String> {
    let names = inventory.containers.iter().filter_map(|c| Some((c.name.as_deref()?, c)));
    let near = names
        .map(|(name, container)| (distance(name, word), container))
        .filter(|(far, _)| *far <= most);
    near.min_by_key(|(far, _)| *far).map(|(_, container)| container.qualified())
}

/// Edits between two words, a swap of neighbours counting as one (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_for_one_word_is_not_looked_at_again_for_the_next() {
        let host = Host::new(std::path::Path::new("/")).unwrap();
        let finder = Resolver::new(&host);
        let mut engines = crate::engine::engine_infos().map(SearchScope::Engine);
        let docker = engines.next().unwrap();
        let one = finder.look(docker);
        assert!(Arc::ptr_eq(&one, &finder.look(docker)));
        let all = finder.look(SearchScope::All(SearchDepth::Cgroups));
        assert!(!Arc::ptr_eq(&one, &all));
        assert!(Arc::ptr_eq(&all, &finder.look(SearchScope::All(SearchDepth::Cgroups))));
        assert!(Arc::ptr_eq(&all, &finder.look(engines.next().unwrap())));
    }

    #[test]
    fn a_slip_of_the_finger_is_one_edit() {
        for (a, b, far) in [("web", "web", 0), ("web", "wbe", 1), ("web", "wb", 1), ("", "ab", 2)] {
            assert_eq!(distance(a, b), far, "{a} {b}");
        }
    }
}
