//! Resolves a reference, as it was typed, to one container. Not found, ambiguous and not running are
//! different errors, and a name that nothing verifies never selects a container to act on.

pub mod fuzz;
pub mod joined;
mod matching;
mod not_found;
mod not_running;
pub mod path_ref;
pub mod processes;
pub mod reference;
pub mod traced_containers;
pub mod traced_processes;

use std::cell::RefCell;
use std::sync::Arc;

use crate::engine::{
    Inventory, SearchDepth, StoppedContainer, discover, discover_named, discover_of,
};
use crate::error::{Error, ExitStatus};
use crate::model::bytes::message_text;
use crate::model::container::Container;
use crate::model::engine::EngineInfo;
use crate::model::pid::HostPid;
use crate::proc::Host;
pub use matching::has_part;
use matching::{Match, Matcher, stopped};
use not_found::NotFound;
pub use not_found::{hidden_names_note, record_warnings};
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
    /// A thread of a process in the container, likewise.
    Thread {
        /// The thread's host TID, as it was typed.
        tid: HostPid,
        /// Its process.
        process: HostPid,
    },
    /// The first digits of the ID.
    IdPrefix,
    /// `cgroup:PATH`.
    Cgroup,
    /// A part of the name.
    PartOfName,
    /// None: every container is meant, and all processes have just been surveyed.
    Every,
}

impl MatchRule {
    /// Returns the process that the reference names.
    pub fn process(self) -> Option<HostPid> {
        match self {
            Self::Pid(process) | Self::Thread { process, .. } => Some(process),
            _ => None,
        }
    }
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

impl ResolvedContainer<'_> {
    /// Whether it is the host itself, which stands for a process that is in no container.
    pub fn is_host(&self) -> bool {
        !self.container.engine.names_containers() && self.container.pid_ns == self.host.pid_ns
    }

    /// Returns the notes about a reference that was not taken literally.
    pub fn note(&self, word: &str) -> Option<String> {
        let name = self.container.qualified();
        match self.matched_by {
            MatchRule::PartOfName => Some(format!("`{word}` matches one container: `{name}`")),
            MatchRule::Thread { tid, process } => {
                let comm = self.host.stat(process).map(|stat| stat.comm).unwrap_or_default();
                let comm = message_text(&comm).into_owned();
                Some(format!("{tid} is a thread of process {process} {comm}"))
            }
            _ => None,
        }
    }
}

/// Resolves references on one host. A search is made once, however many references need it.
#[derive(Debug)]
pub struct Resolver<'a> {
    /// The host.
    pub host: &'a Host,
    /// Each result with the scope of its search; one without a scope found one name, and is of no use for another.
    searches: RefCell<Vec<(Option<SearchScope>, Arc<Inventory>)>>,
}

/// Names that are searched for one by one; for more of them one search of everything is cheaper.
const MOST_BY_NAME: usize = 3;

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
        let _held = host.hold_dirs();
        let (inventory, matched) = self.search(&reference, access);
        let (container, matched_by) = match matched {
            Match::One(container, rule) => (*container, rule),
            Match::Several(candidates) => return Err(not_found::ambiguous(word, &candidates)),
            Match::TwoReadings(pid, candidates) => {
                return Err(not_found::two_readings(host, &inventory, pid, &candidates));
            }
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

    /// Returns the one container that is not running and that `word`, which did not resolve, refers to.
    pub fn not_running(&self, word: &str) -> Option<StoppedContainer> {
        match &self.all_not_running(word)[..] {
            [only] if only.doubt.is_none() => Some(only.clone()),
            _ => None,
        }
    }

    /// Returns all containers that are not running and that `word`, which did not resolve, refers to.
    pub fn all_not_running(&self, word: &str) -> Vec<StoppedContainer> {
        let Some(inventory) = self.whole_search() else { return Vec::new() };
        not_running::referred_to(self.host, &inventory, word).into_iter().cloned().collect()
    }

    /// Returns notes about containers that are not running and that `word` matches as well as this one, which runs.
    /// Searches for them.
    pub fn notes_on_others(&self, found: &ResolvedContainer<'_>, word: &str) -> Vec<String> {
        match found.matched_by {
            MatchRule::Name | MatchRule::IdPrefix => {
                let inventory = self.inventory(SearchScope::All(SearchDepth::NotRunning));
                not_running::notes_on_others(self.host, &inventory, &found.container, word)
            }
            _ => Vec::new(),
        }
    }

    /// Returns the steps of a lookup that failed: the records that the searches ignored, and that of a container
    /// of this name or ID that is not running.
    pub fn steps(&self, word: &str) -> Vec<String> {
        let Some(inventory) = self.whole_search() else { return Vec::new() };
        let name = word.split_once(':').map_or(word, |(_, name)| name);
        let ignored = inventory.diagnostics.iter().map(|text| format!("ignored: {text}"));
        let record = stopped(&inventory, None, name);
        let record = record.and_then(|stopped| stopped.container.record.as_ref());
        let record = record.map(|path| format!("record: {}", path.display()));
        ignored.chain(record).collect()
    }

    /// Returns the result of the search that follows all others where nothing matches.
    fn whole_search(&self) -> Option<Arc<Inventory>> {
        let is_whole = |(scope, _): &&(Option<SearchScope>, Arc<Inventory>)| {
            *scope == Some(SearchScope::All(SearchDepth::NotRunning))
        };
        self.searches.borrow().iter().find(is_whole).map(|(_, inventory)| Arc::clone(inventory))
    }

    /// Searches no further than a match needs: reading every process of the host is the last resort.
    fn search(&self, reference: &ContainerRef, access: Access) -> (Arc<Inventory>, Match) {
        if let Some(found) = self.search_by_name(reference, access) {
            return found;
        }
        let of_engine = match reference {
            ContainerRef::Qualified(engine, _) if is_sufficient(engine, access) => {
                Some(SearchScope::Engine(engine))
            }
            _ => None,
        };
        let last = SearchScope::All(SearchDepth::NotRunning);
        for scope in of_engine.into_iter().chain([SearchScope::All(SearchDepth::Cgroups)]) {
            let inventory = self.inventory(scope);
            let matched = self.matcher(&inventory, access, false).find(reference);
            if !matches!(matched, Match::None) {
                return (inventory, matched);
            }
        }
        let inventory = self.inventory(last);
        let matched = self.matcher(&inventory, access, true).find(reference);
        (inventory, matched)
    }

    /// Searches for a container that has the word as its whole name or ID or, to read only, whose ID begins with
    /// it, without reading more of the others. To act, all engines' records are searched for a second one. None
    /// if there is not exactly one.
    fn search_by_name(
        &self,
        reference: &ContainerRef,
        access: Access,
    ) -> Option<(Arc<Inventory>, Match)> {
        let (engine, word) = match reference {
            ContainerRef::Qualified(engine, word) => (Some(*engine), word),
            ContainerRef::Plain(word) => (None, word),
            ContainerRef::Pid(_) | ContainerRef::Cgroup(_) => return None,
        };
        // Once a whole search has been made it serves every name; for many names one is made.
        let searches = self.searches.borrow();
        if searches.len() >= MOST_BY_NAME || searches.iter().any(|(scope, _)| scope.is_some()) {
            return None;
        }
        drop(searches);
        let of_engine = engine.filter(|engine| is_sufficient(engine, access)).map(Some);
        for scope in of_engine.into_iter().chain([None]) {
            let inventory = Arc::new(discover_named(self.host, scope, word)?);
            let matcher = self.matcher(&inventory, access, false);
            let matched = matcher.whole(engine, word).or_else(|| matcher.beginning(engine, word));
            if matches!(matched, Match::One(..)) {
                self.searches.borrow_mut().push((None, Arc::clone(&inventory)));
                return Some((inventory, matched));
            }
        }
        None
    }

    fn matcher<'i>(
        &'i self,
        inventory: &'i Inventory,
        access: Access,
        is_last: bool,
    ) -> Matcher<'i> {
        Matcher { host: self.host, inventory, access, is_last }
    }

    fn inventory(&self, scope: SearchScope) -> Arc<Inventory> {
        let mut searches = self.searches.borrow_mut();
        let covers = |known: &Option<SearchScope>| known.is_some_and(|known| known.covers(scope));
        if let Some((_, known)) = searches.iter().find(|(known, _)| covers(known)) {
            return Arc::clone(known);
        }
        let inventory = Arc::new(match scope {
            SearchScope::Engine(engine) => discover_of(self.host, engine),
            SearchScope::All(depth) => discover(self.host, depth),
        });
        searches.push((Some(scope), Arc::clone(&inventory)));
        inventory
    }
}

/// Whether the records of the engine that a reference names are enough: to act, a second container of that
/// name in another engine matters.
fn is_sufficient(engine: &EngineInfo, access: Access) -> bool {
    access == Access::Read && engine.has_complete_records()
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
            .cause("only the name of a cgroup identifies it")
            .hint(format!(
                "check it with `cinspect -v ps {word}`, then use `{}`",
                container.by_pid()
            )));
    }
    Ok(())
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
}
