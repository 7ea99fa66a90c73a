//! The part of the page of `inspect` on resources: usage and limits.

use serde_json::{Value as Json, json};

use super::{ContainerFact, proc_file};
use crate::analysis::inspection::Inspection;
use crate::model::byte_size::size;
use crate::model::process::Fact;
use crate::output::escape::safe;
use crate::output::sections::{PageLine, PageSection, line};
use crate::proc::LimitedValue;

pub static SECTION: PageSection<Inspection> = PageSection {
    title: "Resources",
    facts: &[
        ContainerFact {
            key: "memory",
            source: |i| limit_source(i, &i.facts.usage.memory_limit, "memory"),
            json: memory_json,
            lines: memory,
        },
        ContainerFact {
            key: "cpus",
            source: |i| limit_source(i, &i.facts.usage.cpu_limit, "cpu"),
            json: cpus_json,
            lines: cpus,
        },
        ContainerFact {
            key: "pids",
            source: |i| limit_source(i, &i.facts.usage.pids_limit, "pids"),
            json: pids_json,
            lines: pids,
        },
    ],
};

/// Returns the file of a limit, or without one those where it would be.
fn limit_source<T>(i: &Inspection, limit: &Fact<LimitedValue<T>>, controller: &str) -> String {
    match (limit, &i.container.cgroup) {
        (Fact::Known(limit), _) => limit.source.clone(),
        (_, Some(cgroup)) => format!("{controller}.* of {}", safe(&cgroup.path)),
        (_, None) => format!("{controller}.* of {}", proc_file(i, "cgroup")),
    }
}

fn limit_of<T: Copy>(limit: &Fact<LimitedValue<T>>) -> Option<T> {
    limit.known().map(|limit| limit.most)
}

fn used_and_limit(
    label: &'static str,
    used: &Fact<u64>,
    limit: &Fact<LimitedValue<u64>>,
    format: fn(u64) -> String,
) -> Vec<PageLine> {
    let used = match used {
        Fact::Known(used) => format!("{} used", format(*used)),
        Fact::Absent => "not counted separately".into(),
        Fact::Denied => "?".into(),
    };
    let text = match limit {
        Fact::Known(limit) => format!("{used}, limit {}", format(limit.most)),
        Fact::Absent => format!("{used}, no limit"),
        Fact::Denied => used,
    };
    vec![line(label, text)]
}

fn memory(i: &Inspection) -> Vec<PageLine> {
    let usage = &i.facts.usage;
    used_and_limit("memory", &usage.memory, &usage.memory_limit, size)
}

fn memory_json(i: &Inspection) -> Json {
    let usage = &i.facts.usage;
    json!({
        "used": usage.memory.known(),
        "limit": limit_of(&usage.memory_limit),
        "configured": i.config.as_ref().and_then(|config| config.memory),
        "oom_kills": usage.oom_kills.known(),
    })
}

fn cpus(i: &Inspection) -> Vec<PageLine> {
    let text = match &i.facts.usage.cpu_limit {
        Fact::Known(limit) => {
            let cpus = format!("{:.2}", limit.most);
            cpus.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        Fact::Absent => "none".into(),
        Fact::Denied => "?".into(),
    };
    vec![line("CPU limit", text)]
}

fn cpus_json(i: &Inspection) -> Json {
    json!({
        "limit": limit_of(&i.facts.usage.cpu_limit),
        "configured": i.config.as_ref().and_then(|config| config.cpus),
    })
}

fn pids(i: &Inspection) -> Vec<PageLine> {
    let usage = &i.facts.usage;
    used_and_limit("PIDs", &usage.pids, &usage.pids_limit, |count| count.to_string())
}

fn pids_json(i: &Inspection) -> Json {
    let usage = &i.facts.usage;
    json!({
        "used": usage.pids.known(),
        "limit": limit_of(&usage.pids_limit),
        "configured": i.config.as_ref().and_then(|config| config.pids),
    })
}
