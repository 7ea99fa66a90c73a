//! The part of the page of `inspect` on security: user, capabilities, seccomp, no_new_privs, label.

use serde_json::{Value as Json, json};

use super::{ContainerFact, proc_file, status_fact};
use crate::analysis::inspection::Inspection;
use crate::model::capability::{names, summary};
use crate::model::engine::EngineInfo;
use crate::model::process::Fact;
use crate::output::escape::safe;
use crate::output::json::bytes_to_json;
use crate::output::sections::{PageLine, PageSection, line};
use crate::output::units::set;
use crate::proc::ReadError;

pub static SECTION: PageSection<Inspection> = PageSection {
    title: "Security",
    facts: &[
        status_fact("uid", uid_json, uid),
        status_fact("capabilities", capabilities_json, capabilities),
        status_fact("seccomp", |i| json!(seccomp_mode(i)), seccomp),
        status_fact("no_new_privs", |i| json!(i.process.facts.status.no_new_privs), no_new_privs),
        ContainerFact {
            key: "label",
            source: |i| proc_file(i, "attr/current"),
            json: |i| label_of(i).map_or(Json::Null, |label| bytes_to_json(&label)),
            lines: label,
        },
    ],
};

/// Returns the effective UID on the host.
fn host_uid(i: &Inspection) -> u32 {
    i.process.facts.status.uid[1]
}

/// Returns the effective UID in the container.
fn container_uid(i: &Inspection) -> Option<u32> {
    i.facts.users.known().and_then(|map| map.to_inside(host_uid(i)))
}

fn uid(i: &Inspection) -> Vec<PageLine> {
    let name = i.process.user.as_ref();
    // (An image without a passwd file is not rare.)
    let error = i.user_names_error.as_ref().filter(|error| **error != ReadError::Gone);
    let name = match (name, error) {
        (Some(name), _) => format!(" ({})", safe(name)),
        (None, Some(error)) => format!(" (its name could not be read: {error})"),
        (None, None) => String::new(),
    };
    let uid = container_uid(i).map_or("?".into(), |uid| uid.to_string());
    let on_host = match host_uid(i) {
        0 => "root on the host".to_owned(),
        uid => format!("{uid} on the host"),
    };
    vec![line("user", format!("{uid}{name}, {on_host}"))]
}

fn uid_json(i: &Inspection) -> Json {
    let name = i.process.user.as_ref().map_or(Json::Null, |name| bytes_to_json(name));
    json!({"inside": container_uid(i), "host": host_uid(i), "name": name})
}

fn capabilities(i: &Inspection) -> Vec<PageLine> {
    let status = &i.process.facts.status;
    let shown = |mask: u64| match mask {
        0 => "none".into(),
        mask => set(&summary(mask)).replace(',', " "),
    };
    let by_default = beside_default(i.container.engine, status.cap_eff).filter(|_| !i.is_host);
    let mut lines = match by_default {
        Some(text) => {
            let all = line("effective", shown(status.cap_eff)).detail();
            vec![line("capabilities", text), all]
        }
        None => vec![line("capabilities", shown(status.cap_eff))],
    };
    // Left out if it is the same as the effective set.
    if status.cap_bnd != status.cap_eff {
        lines.push(line("bounding set", shown(status.cap_bnd)));
    }
    if status.cap_amb != 0 {
        lines.push(line("ambient", shown(status.cap_amb)));
    }
    lines.push(line("permitted", shown(status.cap_prm)).detail());
    lines.push(line("inheritable", shown(status.cap_inh)).detail());
    lines
}

/// Returns the few capabilities that differ from the engine's default; none if many do.
fn beside_default(engine: &EngineInfo, mask: u64) -> Option<String> {
    const MOST: u32 = 5;
    let default = engine.default_capabilities;
    let (more, fewer) = (mask & !default, default & !mask);
    if default == 0 || more.count_ones() + fewer.count_ones() > MOST {
        return None;
    }
    let list = |word: &str, mask: u64| match mask {
        0 => String::new(),
        mask => format!(" {word} {}", names(mask).join(", ")),
    };
    let (name, count) = (engine.display_name, default.count_ones());
    Some(format!("{name}'s default ({count}){}{}", list("and", more), list("without", fewer)))
}

fn capabilities_json(i: &Inspection) -> Json {
    let status = &i.process.facts.status;
    json!({
        "effective": names(status.cap_eff),
        "permitted": names(status.cap_prm),
        "inheritable": names(status.cap_inh),
        "bounding": names(status.cap_bnd),
        "ambient": names(status.cap_amb),
    })
}

fn seccomp_mode(i: &Inspection) -> Option<&'static str> {
    Some(match i.process.facts.status.seccomp? {
        0 => "none",
        1 => "strict",
        _ => "filter",
    })
}

fn seccomp(i: &Inspection) -> Vec<PageLine> {
    let text = match (seccomp_mode(i), i.process.facts.status.seccomp_filters) {
        (Some("filter"), Some(count @ 2..)) => format!("{count} filters"),
        (Some(mode), _) => mode.into(),
        (None, _) => "?".into(),
    };
    vec![line("seccomp", text)]
}

fn no_new_privs(i: &Inspection) -> Vec<PageLine> {
    let text = match i.process.facts.status.no_new_privs {
        Some(true) => "no effect (no_new_privs on)",
        Some(false) => "allowed (no_new_privs off)",
        None => "?",
    };
    vec![line("setuid", text)]
}

/// Returns the label without the NUL or newline that some modules end it with.
fn label_of(i: &Inspection) -> Option<Vec<u8>> {
    let label = i.facts.label.known()?;
    let end = label.iter().rposition(|b| !matches!(b, 0 | b'\n'))?;
    Some(label[..=end].to_vec())
}

fn label(i: &Inspection) -> Vec<PageLine> {
    vec![match label_of(i) {
        Some(label) => line("label", safe(&label)),
        None if i.facts.label == Fact::Denied => line("label", "?"),
        None => line("label", "none (no security module confines it)"),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_compared_with_the_engines_default() {
        static ENGINE: EngineInfo = EngineInfo {
            display_name: "Docker",
            default_capabilities: 0xa804_25fb,
            ..EngineInfo::DEFAULT
        };
        let text = |mask| beside_default(&ENGINE, mask);
        assert_eq!(text(0xa804_25fb).as_deref(), Some("Docker's default (14)"));
        assert_eq!(text(0xa804_35fb).as_deref(), Some("Docker's default (14) and net_admin"));
        assert_eq!(
            text(0xa804_25ea).as_deref(),
            Some("Docker's default (14) without chown, fsetid")
        );
        assert_eq!(text(0), None);
        assert_eq!(text(u64::MAX), None);
        assert_eq!(beside_default(&EngineInfo::DEFAULT, 1), None);
    }
}
