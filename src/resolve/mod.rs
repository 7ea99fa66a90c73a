//! Resolves a reference, as it was typed, to one container. Not found, ambiguous and not running are
//! different errors, and a name that nothing verifies never selects a container to act on.

mod not_found;
pub mod path_ref;
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
use not_found::NotFound;
pub use not_found::hidden_names_note;
use reference::ContainerRef;

/// The use that a command makes of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads only.
    Read,
    /// Modifies state.
    Act,
}

/// The rule of "Naming a container" (cinspect(1)) that a reference matched.
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

/// Resolves references on one host. A search is made once, however many references need it.
#[derive(Debug)]
pub struct Resolver<'a> {
    /// The host.
    pub host: &'a Host,
    searches: RefCell<Vec<(SearchScope, Arc<Inventory>)>>,
}

/// The extent of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SearchScope {
    Engine(&'static EngineInfo),
    All(SearchDepth),
}

impl SearchScope {
    /// Whether a search of this scope has found everything that one of `wanted` would find.
    fn covers(self, wanted: Self) -> bool {
        match wanted {
            Self::Engine(_) => self == wanted || self == Self::All(SearchDepth::Cgroups),
            Self::All(_) => self == wanted,
        }
    }
}

impl<'a> Resolver<'a> {
    /// Creates a resolver; nothing is read yet.
    pub fn new(host: &'a Host) -> Self {
        Self { host, searches: RefCell::default() }
    }

    /// Finds the one container that `word` refers to.
    ///
    /// # Errors
    /// None or several match, the one that does is not running or (to act on it) not verified, or
    /// `word` cannot be a container.
    pub fn resolve(&self, word: &str, access: Access) -> Result<ResolvedContainer<'a>, Error> {
        let host = self.host;
        let reference = ContainerRef::parse(word)?;
        let (inventory, matched) = self.search(&reference, access);
        let (container, matched_by) = match matched {
            Match::One(container, rule) => (*container, rule),
            Match::Several(candidates) => return Err(not_found::ambiguous(word, &candidates)),
            Match::None => {
                let inventory = &inventory;
                return Err(
                    NotFound { host, inventory, word, reference: &reference, access }.error()
                );
            }
        };
        if access == Access::Act && !matches!(reference, ContainerRef::Pid(_)) {
            may_act_on(&container, word)?;
        }
        Ok(ResolvedContainer { host, container, inventory, matched_by })
    }

    /// Returns what the searches so far ignored, and the record of a container of this name or ID
    /// that is not running: the steps of a lookup that failed.
    pub fn steps(&self, word: &str) -> Vec<String> {
        let searches = self.searches.borrow();
        let Some((_, inventory)) = searches.last() else { return Vec::new() };
        let name = word.split_once(':').map_or(word, |(_, name)| name);
        let ignored = inventory.diagnostics.iter().map(|text| format!("ignored: {text}"));
        let record = stopped(inventory, None, name);
        let record = record.map(|stopped| format!("record: {}", stopped.path.display()));
        ignored.chain(record).collect()
    }

    /// Searches no further than a match needs: reading every process of the host is the last resort.
    fn search(&self, reference: &ContainerRef, access: Access) -> (Arc<Inventory>, Match) {
        // To read, one engine's records are enough; to act, a second container of that name matters.
        let mut inventory = match reference {
            ContainerRef::Qualified(engine, _) if access == Access::Read => {
                self.inventory(SearchScope::Engine(engine))
            }
            _ => self.inventory(SearchScope::All(SearchDepth::Cgroups)),
        };
        let mut matched = find_match(self.host, &inventory, reference, access);
        for depth in [SearchDepth::Cgroups, SearchDepth::Everything] {
            let is_deeper = inventory.partial || depth == SearchDepth::Everything;
            if matches!(matched, Match::None) && is_deeper {
                inventory = self.inventory(SearchScope::All(depth));
                matched = find_match(self.host, &inventory, reference, access);
            }
        }
        (inventory, matched)
    }

    fn inventory(&self, scope: SearchScope) -> Arc<Inventory> {
        let mut searches = self.searches.borrow_mut();
        if let Some((_, known)) = searches.iter().find(|(known, _)| known.covers(scope)) {
            return Arc::clone(known);
        }
        let inventory = Arc::new(match scope {
            SearchScope::Engine(engine) => discover_of(self.host, engine),
            SearchScope::All(depth) => discover(self.host, depth),
        });
        searches.push((scope, Arc::clone(&inventory)));
        inventory
    }
}

/// Refuses to act on a container that is out of reach or not verified.
fn may_act_on(container: &Container, word: &str) -> Result<(), Error> {
    if let Some(remark) = &container.remark {
        // Acting would hit the sandbox, and everything that runs in it.
        let error = Error::new(ExitStatus::NoContainer, format!("cannot act on `{word}`"));
        let error = error.cause(remark);
        return Err(match container.init {
            Some(init) => error
                .hint(format!("the sandbox itself, with everything in it, is `pid:{}`", init.pid)),
            None => error,
        });
    }
    if !container.verified {
        return Err(Error::new(ExitStatus::NoContainer, format!("`{word}` is not verified"))
            .cause("only the name of a cgroup says that this is the container")
            .hint(format!(
                "check it with `cinspect -v ps {word}`, then use `{}`",
                container.by_pid()
            )));
    }
    Ok(())
}

enum Match {
    None,
    One(Box<Container>, MatchRule),
    Several(Vec<Container>),
}

impl Match {
    fn of(found: Vec<&Container>, rule: MatchRule) -> Self {
        // One that is verified comes before any that only claim the name.
        let verified: Vec<&Container> = found.iter().copied().filter(|c| c.verified).collect();
        let found = if verified.is_empty() { found } else { verified };
        match found[..] {
            [] => Self::None,
            [container] => Self::One(Box::new(container.clone()), rule),
            _ => Self::Several(found.into_iter().cloned().collect()),
        }
    }
}

/// Applies the rules of "Naming a container" in their order: the first that matches anything decides.
fn find_match(
    host: &Host,
    inventory: &Inventory,
    reference: &ContainerRef,
    access: Access,
) -> Match {
    let containers = inventory.containers.iter();
    let word = match reference {
        ContainerRef::Pid(pid) => return match_pid(host, inventory, *pid, access),
        ContainerRef::Cgroup(path) => return match_cgroup(host, inventory, path, access),
        ContainerRef::Qualified(engine, name) => {
            let candidates: Vec<&Container> = containers.filter(|c| c.engine == *engine).collect();
            return match_word(&candidates, inventory, Some(*engine), name);
        }
        ContainerRef::Plain(word) => word,
    };
    match match_word(&containers.collect::<Vec<_>>(), inventory, None, word) {
        Match::None => {}
        found => return found,
    }
    match word.parse::<HostPid>() {
        Ok(pid) if access == Access::Read => match_pid(host, inventory, pid, access),
        _ => Match::None,
    }
}

fn match_word(
    candidates: &[&Container],
    inventory: &Inventory,
    engine: Option<&'static EngineInfo>,
    word: &str,
) -> Match {
    let matching = |matches: &dyn Fn(&Container) -> bool| -> Vec<&Container> {
        candidates.iter().copied().filter(|container| matches(container)).collect()
    };
    // Aliases come after every name: `lxc:web` is the container of that name, not a project's
    // `shop_web`.
    for (rule, found) in [
        (MatchRule::Name, matching(&|container| has_name(container, word))),
        (MatchRule::Name, matching(&|container| container.aliases.iter().any(|a| a == word))),
        (MatchRule::Id, matching(&|container| container.id.as_deref() == Some(word))),
    ] {
        if !found.is_empty() {
            return Match::of(found, rule);
        }
    }
    // The whole name of a container that is not running is not the ID prefix of another.
    if stopped(inventory, engine, word).is_some() {
        return Match::None;
    }
    let has_prefix = |id: &str| is_id_prefix(word, id);
    let found = matching(&|container| container.id.as_deref().is_some_and(has_prefix));
    Match::of(found, MatchRule::IdPrefix)
}

/// Whether a word is a prefix of an ID of 64 digits, which is too long to type. (Where the ID is a
/// name, its prefix may be another container's whole name.)
fn is_id_prefix(word: &str, id: &str) -> bool {
    id.len() == 64 && id.starts_with(word)
}

/// Returns the container of this name or ID that is not running.
fn stopped<'a>(
    inventory: &'a Inventory,
    engine: Option<&'static EngineInfo>,
    word: &str,
) -> Option<&'a StoppedContainer> {
    inventory.stopped.iter().find(|stopped| {
        engine.is_none_or(|engine| engine == stopped.engine)
            && (stopped.name.as_deref() == Some(word) || stopped.id == word)
    })
}

/// Whether a word is the name that the engine gave, alone or with the rest of its qualified form.
fn has_name(container: &Container, word: &str) -> bool {
    let is_word = |text: &Option<String>| text.as_deref() == Some(word);
    if is_word(&container.name) {
        return true;
    }
    let qualified = container.qualified();
    let unqualified = qualified.split_once(':').map_or("", |(_, rest)| rest);
    if unqualified == word && container.engine.names_containers() && container.verified {
        return true;
    }
    match (&container.namespace, word.split_once('/')) {
        (Some(namespace), Some((prefix, id))) => {
            prefix == namespace
                && (container.id.as_deref() == Some(id) || container.name.as_deref() == Some(id))
        }
        _ => false,
    }
}

fn match_pid(host: &Host, inventory: &Inventory, pid: HostPid, access: Access) -> Match {
    let rule = MatchRule::Pid(pid);
    let pid_ns = host.process(pid).and_then(|handle| host.pid_ns_of(&handle)).ok();
    if let Some(container) = inventory.containing(host, pid) {
        // A container in it, which only a survey finds, is a container of its own. If
        // even that does not, the outer one is not what should be acted on.
        let is_deeper = || host.status(pid).is_ok_and(|s| s.nspid.len() > container.depth + 1);
        let is_nested = match pid_ns {
            Some(pid_ns) => Some(pid_ns) != container.pid_ns && Some(pid_ns) != host.pid_ns,
            None => is_deeper(),
        };
        if !is_nested || (inventory.survey.is_some() && access == Access::Read) {
            return Match::One(Box::new(container.clone()), rule);
        }
        return Match::None;
    }
    let on_host = pid_ns.is_some() && pid_ns == host.pid_ns;
    match HostPid::new(1) {
        Some(init) if on_host && access == Access::Read => container_at(host, init, None)
            .map_or(Match::None, |container| Match::One(Box::new(container), rule)),
        _ => Match::None,
    }
}

fn match_cgroup(host: &Host, inventory: &Inventory, path: &str, access: Access) -> Match {
    let known = inventory.containers.iter().filter(|container| {
        container.cgroup.as_ref().is_some_and(|cgroup| cgroup.path == path.as_bytes())
    });
    let known: Vec<&Container> = known.collect();
    if !known.is_empty() {
        return Match::of(known, MatchRule::Cgroup);
    }
    // Any cgroup may be read; to act, it has to be the one of a known container.
    if access == Access::Act {
        return Match::None;
    }
    let Some((cgroup, pids)) = host.find_cgroup(path.as_bytes()) else { return Match::None };
    let found = pids.into_iter().find_map(|pid| container_at(host, pid, Some(cgroup.clone())));
    found.map_or(Match::None, |container| {
        let container = Container { owns_pid_ns: false, ..container };
        Match::One(Box::new(container), MatchRule::Cgroup)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_serves_the_references_that_it_covers() {
        let mut engines = crate::engine::engine_infos().map(SearchScope::Engine);
        let (first, second) = (engines.next().unwrap(), engines.next().unwrap());
        let cgroups = SearchScope::All(SearchDepth::Cgroups);
        let everything = SearchScope::All(SearchDepth::Everything);
        assert!(first.covers(first) && cgroups.covers(first) && cgroups.covers(cgroups));
        assert!(!first.covers(cgroups) && !cgroups.covers(everything));
        // A survey finds more, so that a name may be ambiguous there and only there.
        assert!(!everything.covers(first) && !everything.covers(cgroups));
        assert!(!first.covers(second));
    }

    #[test]
    fn only_the_id_that_nobody_types_in_full_has_prefixes() {
        assert!(is_id_prefix("3f2", &"3f2a".repeat(16)));
        assert!(!is_id_prefix("we", "web"));
    }
}
