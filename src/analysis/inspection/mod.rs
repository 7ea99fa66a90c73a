//! The data of `inspect`: one container, described by one of its processes; its namespaces, its mounts, and
//! remarks on its dangers and its deviations from its configuration. Pure: facts in, answers out.

pub mod mounts;
pub mod namespaces;
pub mod remarks;

use jiff::Timestamp;

use self::mounts::InspectedMount;
use self::namespaces::{InspectedNamespace, NamespaceSharing};
use super::container_process::ContainerProcess;
use super::delivery::Prediction;
use super::own_changes::OwnChange;
use crate::model::container::Container;
use crate::model::resource_config::ResourceConfig;
use crate::model::signal::Signal;
use crate::model::stop_policy::StopPolicy;
use crate::proc::{InspectFacts, ReadError};

/// Everything known about one container, and about one of its processes.
#[derive(Debug)]
pub struct Inspection {
    /// The host's name.
    pub host: String,
    /// The container.
    pub container: Container,
    /// The process that the facts are about: its init, or the one that was asked for.
    pub process: ContainerProcess,
    /// Why the names of the container's users could not be read.
    pub user_names_error: Option<ReadError>,
    /// Whether that is the init.
    pub is_init: bool,
    /// Whether it is the host itself rather than a container.
    pub is_host: bool,
    /// The container in which it was started, by its qualified name.
    pub outer: Option<String>,
    /// Containers that a process of the host runs, as their shim or monitor.
    pub runs: Vec<String>,
    /// The time of the inspection.
    pub now: Timestamp,
    /// Number of processes; none if they could not be counted.
    pub processes: Option<usize>,
    /// The settings of its engine about stopping it.
    pub policy: StopPolicy,
    /// The stop signal.
    pub stop_signal: Signal,
    /// The effect of the stop signal on the process.
    pub prediction: Prediction,
    /// The facts of the process.
    pub facts: InspectFacts,
    /// The configured limits and rights, if a record has them.
    pub config: Option<ResourceConfig>,
    /// The changes that the init has made to itself.
    pub own_changes: Vec<OwnChange>,
    /// Its namespaces.
    pub namespaces: Vec<InspectedNamespace>,
    /// Its mounts.
    pub mounts: Vec<InspectedMount>,
    /// File names of the sockets through which engines take commands.
    pub engine_sockets: Vec<&'static str>,
}

impl Inspection {
    /// Whether its namespace of a kind is the host's.
    pub fn shares_with_host(&self, kind: &str) -> bool {
        let is_it = |namespace: &&InspectedNamespace| namespace.kind.name == kind;
        let namespace = self.namespaces.iter().find(is_it);
        namespace.is_some_and(|namespace| namespace.sharing == NamespaceSharing::Host)
    }
}
