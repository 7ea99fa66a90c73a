//! The rules of "Naming a container" (cinspect(1)), applied to what a search found. The first rule that
//! matches anything decides; a later rule is not tried while a deeper search could still satisfy an earlier one.

use super::reference::ContainerRef;
use super::{Access, MatchRule};
use crate::engine::{Inventory, StoppedContainer, container_at};
use crate::model::container::{ComposeService, Container, is_long_id};
use crate::model::engine::EngineInfo;
use crate::model::pid::HostPid;
use crate::proc::Host;

/// Digits that an ID prefix needs for a command that modifies state.
pub(super) const SHORTEST_PREFIX: usize = 3;

/// The result of applying the rules.
pub(super) enum Match {
    None,
    One(Box<Container>, MatchRule),
    Several(Vec<Container>),
    /// A number that is the PID of a process, and the first digits of these containers' IDs.
    TwoReadings(HostPid, Vec<Container>),
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

    pub(super) fn or_else(self, next: impl FnOnce() -> Self) -> Self {
        if matches!(self, Self::None) { next() } else { self }
    }
}

/// The containers that were found, and the use that is made of the one that matches.
pub(super) struct Matcher<'a> {
    pub host: &'a Host,
    pub inventory: &'a Inventory,
    pub access: Access,
    /// Whether no deeper search follows.
    pub is_last: bool,
}

impl Matcher<'_> {
    /// Applies the rules in their order.
    pub(super) fn find(&self, reference: &ContainerRef) -> Match {
        match reference {
            ContainerRef::Pid(pid) => self.pid(*pid),
            ContainerRef::Cgroup(path) => self.cgroup(path),
            ContainerRef::Qualified(engine, name) => self.name(Some(*engine), name),
            ContainerRef::Plain(word) => self.plain(word),
        }
    }

    /// Applies the rules for whole names and IDs alone.
    pub(super) fn whole(&self, engine: Option<&'static EngineInfo>, word: &str) -> Match {
        let candidates = self.candidates(engine);
        match_exactly(&candidates, word).or_else(|| match_in_pods(&candidates, engine, word))
    }

    /// Applies the rule for the beginning of an ID alone; not to a number, which may be a PID.
    pub(super) fn beginning(&self, engine: Option<&'static EngineInfo>, word: &str) -> Match {
        if engine.is_none() && word.bytes().all(|byte| byte.is_ascii_digit()) {
            return Match::None;
        }
        self.prefix(&self.candidates(engine), engine, word)
    }

    fn candidates(&self, engine: Option<&'static EngineInfo>) -> Vec<&Container> {
        let containers = self.inventory.containers.iter();
        containers.filter(|c| engine.is_none_or(|engine| is_of(c, engine))).collect()
    }

    fn name(&self, engine: Option<&'static EngineInfo>, word: &str) -> Match {
        let candidates = self.candidates(engine);
        self.whole(engine, word)
            .or_else(|| self.prefix(&candidates, engine, word))
            .or_else(|| self.part(&candidates, engine, word))
    }

    /// Matches a plain word: a name or an ID first, then a PID, then a prefix of an ID or a part of a name.
    fn plain(&self, word: &str) -> Match {
        let candidates = self.candidates(None);
        match_exactly(&candidates, word).or_else(|| match existing_pid(self.host, word) {
            None => {
                self.prefix(&candidates, None, word).or_else(|| self.part(&candidates, None, word))
            }
            Some(pid) => self.number(&candidates, word, pid),
        })
    }

    /// Matches a number that is the PID of a process.
    fn number(&self, candidates: &[&Container], word: &str, pid: HostPid) -> Match {
        let by_prefix = match stopped(self.inventory, None, word) {
            Some(_) => Vec::new(),
            None => with_prefix(candidates, word),
        };
        let by_pid = || match self.access {
            Access::Read => self.pid(pid),
            Access::Act => Match::None,
        };
        if by_prefix.is_empty() {
            return by_pid();
        }
        if !self.is_last {
            return Match::None;
        }
        let process = self.host.process_of(pid).unwrap_or(pid);
        match (self.inventory.containing(self.host, process), &by_prefix[..]) {
            // Both readings lead to one container.
            (Some(container), [only]) if container.init == only.init => {
                by_pid().or_else(|| self.prefix(candidates, None, word))
            }
            _ => Match::TwoReadings(pid, by_prefix.into_iter().cloned().collect()),
        }
    }

    fn prefix(
        &self,
        candidates: &[&Container],
        engine: Option<&'static EngineInfo>,
        word: &str,
    ) -> Match {
        // The whole name of a container that is not running is not the ID prefix of another.
        if stopped(self.inventory, engine, word).is_some() {
            return Match::None;
        }
        // To act, a name that only a deeper search finds would come first.
        if self.access == Access::Act && (word.len() < SHORTEST_PREFIX || !self.is_last) {
            return Match::None;
        }
        Match::of(with_prefix(candidates, word), MatchRule::IdPrefix)
    }

    /// Matches a part of a name, to read only, and only where nothing has that name.
    fn part(
        &self,
        candidates: &[&Container],
        engine: Option<&'static EngineInfo>,
        word: &str,
    ) -> Match {
        let is_allowed = self.access == Access::Read && self.is_last && !word.is_empty();
        if !is_allowed || stopped(self.inventory, engine, word).is_some() {
            return Match::None;
        }
        let found = candidates.iter().filter(|container| has_part(container, word));
        let found = found.copied().collect();
        Match::of(found, MatchRule::PartOfName)
    }

    /// Matches the container that a process, or the process of a thread, is in.
    fn pid(&self, typed: HostPid) -> Match {
        let Self { host, inventory, access, .. } = *self;
        let pid = host.process_of(typed).unwrap_or(typed);
        let rule = match pid == typed {
            true => MatchRule::Pid(pid),
            false => MatchRule::Thread { tid: typed, process: pid },
        };
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

    fn cgroup(&self, path: &str) -> Match {
        let known = self.inventory.containers.iter().filter(|container| {
            container.cgroup.as_ref().is_some_and(|cgroup| cgroup.path == path.as_bytes())
        });
        let known: Vec<&Container> = known.collect();
        if !known.is_empty() {
            return Match::of(known, MatchRule::Cgroup);
        }
        // Any cgroup may be read; to act, it has to be the one of a known container.
        if self.access == Access::Act {
            return Match::None;
        }
        let host = self.host;
        let Some((cgroup, pids)) = host.find_cgroup(path.as_bytes()) else { return Match::None };
        let found = pids.into_iter().find_map(|pid| container_at(host, pid, Some(cgroup.clone())));
        found.map_or(Match::None, |container| {
            let container = Container { owns_pid_ns: false, ..container };
            Match::One(Box::new(container), MatchRule::Cgroup)
        })
    }
}

/// Matches a whole name, then an alias, then a whole ID. Aliases come after every name: `lxc:web` is the
/// container of that name, not a project's `shop_web`.
fn match_exactly(candidates: &[&Container], word: &str) -> Match {
    let matching = |matches: &dyn Fn(&Container) -> bool| -> Vec<&Container> {
        candidates.iter().copied().filter(|container| matches(container)).collect()
    };
    let by_name = matching(&|container| has_name(container, word));
    let by_alias = || matching(&|container| container.aliases.iter().any(|alias| alias == word));
    let by_id = || matching(&|container| container.id.as_deref() == Some(word));
    Match::of(by_name, MatchRule::Name)
        .or_else(|| Match::of(by_alias(), MatchRule::Name))
        .or_else(|| Match::of(by_id(), MatchRule::Id))
}

/// Matches the name in its pod of a container that another engine runs: `cri:CONTAINER`.
fn match_in_pods(
    candidates: &[&Container],
    engine: Option<&'static EngineInfo>,
    word: &str,
) -> Match {
    if engine.is_none_or(|engine| engine.pods_of.is_empty()) {
        return Match::None;
    }
    let has_name = |container: &&&Container| {
        container.pod.as_ref().is_some_and(|pod| pod.container.as_deref() == Some(word))
    };
    Match::of(candidates.iter().filter(has_name).copied().collect(), MatchRule::Name)
}

/// Returns the PID that a bare number is, if a process or thread has it. (A PID is not written with
/// zeros in front.)
fn existing_pid(host: &Host, word: &str) -> Option<HostPid> {
    let pid: HostPid = word.parse().ok().filter(|pid: &HostPid| pid.to_string() == word)?;
    host.stat(pid).is_ok().then_some(pid)
}

/// Returns the containers whose ID begins with a word.
pub(super) fn with_prefix<'a>(candidates: &[&'a Container], word: &str) -> Vec<&'a Container> {
    let has_prefix =
        |container: &&Container| container.id.as_deref().is_some_and(|id| is_id_prefix(word, id));
    candidates.iter().copied().filter(has_prefix).collect()
}

/// Whether a word is a prefix of an ID of 64 digits, which is too long to type. (Where the ID is a
/// name, its prefix may be another container's whole name.)
pub(super) fn is_id_prefix(word: &str, id: &str) -> bool {
    is_long_id(id) && id.starts_with(word)
}

/// Whether a qualified reference to this engine may mean a container.
pub(super) fn is_of(container: &Container, engine: &EngineInfo) -> bool {
    container.engine == engine
        || (engine.pods_of.contains(&container.engine) && container.pod.is_some())
}

/// Returns the container of this name or ID that is not running.
pub(super) fn stopped<'a>(
    inventory: &'a Inventory,
    engine: Option<&'static EngineInfo>,
    word: &str,
) -> Option<&'a StoppedContainer> {
    inventory.stopped.iter().find(|stopped| {
        let container = &stopped.container;
        engine.is_none_or(|engine| is_of(container, engine))
            && (has_whole_name(container, word) || container.id.as_deref() == Some(word))
    })
}

/// Whether a word is the name of a container, or an alias in its record.
pub(super) fn has_whole_name(container: &Container, word: &str) -> bool {
    has_name(container, word) || container.aliases.iter().any(|alias| alias == word)
}

/// Whether a word is the name that the engine gave, alone or with the rest of its qualified form.
fn has_name(container: &Container, word: &str) -> bool {
    let is_word = |text: &Option<String>| text.as_deref() == Some(word);
    if is_word(&container.name) || is_word(&container.name_in_pod()) {
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

/// Whether a form of a container's name contains a word.
pub fn has_part(container: &Container, word: &str) -> bool {
    let part = comparable(word);
    name_forms(container).iter().any(|form| comparable(form).contains(&part))
}

/// Returns every form of a container's name, of which a part may be typed.
pub(super) fn name_forms(container: &Container) -> Vec<String> {
    let mut forms: Vec<String> = container.name.iter().chain(&container.aliases).cloned().collect();
    if container.engine.names_containers() && container.verified {
        let qualified = container.qualified();
        forms.extend(qualified.split_once(':').map(|(_, name)| name.to_owned()));
    }
    forms.extend(container.name_in_pod());
    if let Some(ComposeService { project, service: Some(service), number }) = &container.compose {
        forms.push(format!("{project}/{service}"));
        if let Some(number) = number {
            forms.push(format!("{project}/{service}/{number}"));
            forms.push(format!("{project}-{service}-{number}"));
        }
    }
    forms
}

/// Returns the qualified name of each container, with its ID where one name is that of several: two users' Podmans
/// may use one.
pub(super) fn distinct_names(containers: &[&Container]) -> Vec<String> {
    let names: Vec<String> = containers.iter().map(|container| container.qualified()).collect();
    let is_unique = |name: &String| names.iter().filter(|other| *other == name).count() == 1;
    match names.iter().all(is_unique) {
        true => names,
        false => containers.iter().map(|container| container.qualified_by_id()).collect(),
    }
}

/// Returns a name as it is compared with a part of one: neither case nor the kind of dash counts, which
/// clients spell differently (`shop_web_1`, `shop-web-1`).
pub(super) fn comparable(name: &str) -> String {
    name.to_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_id_has_prefixes() {
        assert!(is_id_prefix("3f2", &"3f2a".repeat(16)));
        assert!(!is_id_prefix("we", "web"));
    }

    #[test]
    fn dashes_and_case_do_not_count() {
        assert_eq!(comparable("Shop_Web_1"), comparable("shop-web-1"));
    }
}
