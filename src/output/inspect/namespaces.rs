//! The part of the page of `inspect` on namespaces and ID maps.

use serde_json::{Value as Json, json};

use super::{ContainerFact, proc_file};
use crate::analysis::inspection::Inspection;
use crate::analysis::inspection::namespaces::NamespaceSharing;
use crate::model::idmap::IdMap;
use crate::model::process::Fact;
use crate::output::escape::safe;
use crate::output::sections::{PageLine, PageSection, line};

pub static SECTION: PageSection<Inspection> = PageSection {
    title: "Namespaces",
    facts: &[
        ContainerFact {
            key: "namespaces",
            source: |i| proc_file(i, "ns/"),
            json: namespaces_json,
            lines: namespaces,
        },
        ContainerFact {
            key: "users",
            source: |i| proc_file(i, "uid_map"),
            json: |i| map_json(&i.facts.users),
            lines: |i| map("user IDs", &i.facts.users),
        },
        ContainerFact {
            key: "groups",
            source: |i| proc_file(i, "gid_map"),
            json: |i| map_json(&i.facts.groups),
            lines: groups,
        },
    ],
};

/// Ranges of an ID map on the short page: as many as an engine writes.
const RANGES: usize = 3;

/// Other containers named in one line.
const OTHERS: usize = 3;

fn namespaces(i: &Inspection) -> Vec<PageLine> {
    let mut groups: Vec<(&NamespaceSharing, Vec<&str>)> = Vec::new();
    for namespace in &i.namespaces {
        match groups.iter_mut().find(|(sharing, _)| *sharing == &namespace.sharing) {
            Some((_, names)) => names.push(namespace.kind.name),
            None => groups.push((&namespace.sharing, vec![namespace.kind.name])),
        }
    }
    groups.sort_by_key(|(sharing, _)| match sharing {
        NamespaceSharing::Private => 0,
        NamespaceSharing::Shared(_) => 1,
        NamespaceSharing::Host => 2,
        NamespaceSharing::Unknown => 3,
    });
    let group = |(sharing, names): (&NamespaceSharing, Vec<&str>)| match sharing {
        NamespaceSharing::Private => line("private", names.join(" ")),
        NamespaceSharing::Host => line("host", names.join(" ")),
        NamespaceSharing::Unknown => line("?", names.join(" ")),
        NamespaceSharing::Shared(others) => line("shared", shared(&names.join(" "), others)),
    };
    let id = |namespace: &crate::analysis::inspection::namespaces::InspectedNamespace| {
        let id = namespace.id.known()?;
        let text = format!("{} {id}: {}", namespace.kind.name, namespace.kind.about);
        Some(line("", text).detail())
    };
    groups.into_iter().map(group).chain(i.namespaces.iter().filter_map(id)).collect()
}

fn shared(names: &str, others: &[String]) -> String {
    let listed: Vec<_> = others.iter().take(OTHERS).map(|name| safe(name.as_bytes())).collect();
    match others.len() - listed.len() {
        0 => format!("{names} with {}", listed.join(", ")),
        more => format!("{names} with {} and {more} more", listed.join(", ")),
    }
}

fn namespaces_json(i: &Inspection) -> Json {
    let namespaces = i.namespaces.iter().map(|namespace| {
        let (whose, with) = match &namespace.sharing {
            NamespaceSharing::Private => (Some("own"), Vec::new()),
            NamespaceSharing::Host => (Some("host"), Vec::new()),
            NamespaceSharing::Shared(others) => (Some("shared"), others.clone()),
            NamespaceSharing::Unknown => (None, Vec::new()),
        };
        let id = namespace.id.known().map(|id| id.0);
        json!({"type": namespace.kind.name, "id": id, "whose": whose, "with": with})
    });
    namespaces.collect()
}

fn map(label: &'static str, map: &Fact<IdMap>) -> Vec<PageLine> {
    let Fact::Known(map) = map else { return vec![line(label, "?")] };
    if map.is_identity() {
        return vec![line(label, "as on the host")];
    }
    let range = |first: u32, count: u32| match count {
        1 => first.to_string(),
        count => format!("{first}-{}", u64::from(first) + u64::from(count) - 1),
    };
    let mut shown: Vec<PageLine> = Vec::new();
    for (index, mapped) in map.ranges.iter().enumerate() {
        let container = range(mapped.inside, mapped.count);
        let host = range(mapped.outside, mapped.count);
        let label = if index == 0 { label } else { "" };
        let next = line(label, format!("{container} = {host} on the host"));
        shown.push(if index < RANGES { next } else { next.detail() });
    }
    if shown.is_empty() {
        shown.push(line(label, "no ID is mapped: all appear as the overflow ID"));
    }
    shown
}

fn map_json(map: &Fact<IdMap>) -> Json {
    map.known().map_or(Json::Null, |map| {
        let ranges = map.ranges.iter();
        ranges
            .map(|r| json!({"inside": r.inside, "outside": r.outside, "count": r.count}))
            .collect()
    })
}

/// Returns the map of group IDs, which nearly always is that of user IDs.
fn groups(i: &Inspection) -> Vec<PageLine> {
    if i.facts.groups == i.facts.users { Vec::new() } else { map("group IDs", &i.facts.groups) }
}
