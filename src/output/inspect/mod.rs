//! THE FACTS of `inspect`, one file per section of its page: each fact with its key in JSON, its lines on
//! the page, and its source. Nothing here reads or prints.

mod identity;
mod mounts;
mod namespaces;
mod resources;
mod security;
mod stop;

use serde_json::Value as Json;

use crate::analysis::inspection::Inspection;
use crate::output::sections::{PageFact, PageSection};

/// A fact of a container.
type ContainerFact = PageFact<Inspection>;

/// THE TABLE, in the order of the page and of the JSON keys.
pub const SECTIONS: &[&PageSection<Inspection>] = &[
    &identity::SECTION,
    &stop::SECTION,
    &namespaces::SECTION,
    &security::SECTION,
    &resources::SECTION,
    &mounts::SECTION,
];

/// Returns the path of a file of the process in `/proc`.
fn proc_file(inspection: &Inspection, file: &str) -> String {
    format!("/proc/{}/{file}", inspection.process.facts.id.pid)
}

/// Returns the path of the record that names the container.
fn record(inspection: &Inspection) -> String {
    match &inspection.container.record {
        Some(path) => path.display().to_string(),
        None => "no record".into(),
    }
}

/// Makes a fact that comes from `/proc/PID/status`.
const fn status_fact(
    key: &'static str,
    json: fn(&Inspection) -> Json,
    lines: fn(&Inspection) -> Vec<crate::output::sections::PageLine>,
) -> ContainerFact {
    ContainerFact { key, source: |i| proc_file(i, "status"), json, lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fact_has_a_key_of_its_own() {
        let facts = || SECTIONS.iter().flat_map(|section| section.facts);
        let mut keys: Vec<&str> = facts().map(|fact| fact.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), facts().count());
    }
}
