//! The namespaces of a container: private, shared with other containers, or the host's.

use crate::model::namespace::{NamespaceId, NamespaceKind};
use crate::model::process::Fact;
use crate::proc::InspectFacts;

/// The other members of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceSharing {
    /// No other container.
    Private,
    /// The host.
    Host,
    /// Other containers, by their qualified names.
    Shared(Vec<String>),
    /// It could not be read.
    Unknown,
}

/// A namespace of the process.
#[derive(Clone, Debug)]
pub struct InspectedNamespace {
    /// Its kind.
    pub kind: NamespaceKind,
    /// Its ID.
    pub id: Fact<NamespaceId>,
    /// The other members.
    pub sharing: NamespaceSharing,
}

/// The namespaces of another container's init.
#[derive(Clone, Debug)]
pub struct OtherContainer {
    /// Its qualified name.
    pub name: String,
    /// Its namespaces, in the order of [`KINDS`](crate::model::namespace::KINDS).
    pub namespaces: Vec<Fact<NamespaceId>>,
}

/// Compares the namespaces of a process with those of the host and of other containers. Kinds that the
/// kernel does not have are left out.
pub fn namespaces(facts: &InspectFacts, others: &[OtherContainer]) -> Vec<InspectedNamespace> {
    let kinds = facts.namespaces.iter().enumerate();
    let present = kinds.filter(|(_, (_, id, _))| *id != Fact::Absent);
    let namespace = |(index, (kind, id, host)): (usize, &(NamespaceKind, Fact<NamespaceId>, _))| {
        let sharing = match (id, host) {
            (Fact::Known(id), Fact::Known(host)) if id == host => NamespaceSharing::Host,
            (Fact::Known(_), Fact::Known(_)) => {
                let is_in = |other: &&OtherContainer| other.namespaces.get(index) == Some(id);
                let names: Vec<String> =
                    others.iter().filter(is_in).map(|other| other.name.clone()).collect();
                if names.is_empty() {
                    NamespaceSharing::Private
                } else {
                    NamespaceSharing::Shared(names)
                }
            }
            _ => NamespaceSharing::Unknown,
        };
        InspectedNamespace { kind: *kind, id: id.clone(), sharing }
    };
    present.map(namespace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::namespace::KINDS;
    use crate::proc::ResourceUsage;

    #[test]
    fn a_namespace_is_private_shared_or_the_hosts() {
        let known = |id| Fact::Known(NamespaceId(id));
        let read = [
            (KINDS[0], known(1), known(1)),
            (KINDS[1], known(2), known(9)),
            (KINDS[2], known(3), known(9)),
            (KINDS[3], Fact::Denied, known(9)),
            (KINDS[4], known(5), Fact::Denied),
            (KINDS[5], Fact::Absent, Fact::Absent),
        ];
        let usage = ResourceUsage {
            memory: Fact::Denied,
            memory_limit: Fact::Denied,
            cpu_limit: Fact::Denied,
            pids: Fact::Denied,
            pids_limit: Fact::Denied,
            oom_kills: Fact::Denied,
        };
        let facts = InspectFacts {
            namespaces: read.to_vec(),
            users: Fact::Absent,
            groups: Fact::Absent,
            mounts: Fact::Absent,
            host_mounts: Vec::new(),
            label: Fact::Absent,
            usage,
        };
        let other = OtherContainer {
            name: "docker:db".into(),
            namespaces: vec![known(1), known(7), known(3), Fact::Denied],
        };
        let sharing: Vec<NamespaceSharing> =
            namespaces(&facts, &[other]).into_iter().map(|namespace| namespace.sharing).collect();
        let shared = NamespaceSharing::Shared(vec!["docker:db".into()]);
        assert_eq!(
            sharing,
            [
                NamespaceSharing::Host,
                NamespaceSharing::Private,
                shared,
                NamespaceSharing::Unknown,
                NamespaceSharing::Unknown
            ]
        );
    }
}
