//! The part of the page of `inspect` on mounts.

use serde_json::{Value as Json, json};

use super::{ContainerFact, proc_file};
use crate::analysis::inspection::Inspection;
use crate::analysis::inspection::mounts::{InspectedMount, MountKind};
use crate::model::process::Fact;
use crate::output::escape::safe;
use crate::output::json::bytes_to_json;
use crate::output::sections::{PageLine, PageSection, line};

pub static SECTION: PageSection<Inspection> = PageSection {
    title: "Mounts",
    facts: &[ContainerFact {
        key: "mounts",
        source: |i| proc_file(i, "mountinfo"),
        json: mounts_json,
        lines: mounts,
    }],
};

fn mounts(i: &Inspection) -> Vec<PageLine> {
    if i.facts.mounts == Fact::Denied {
        return vec![line("mounts", "?")];
    }
    let described = i.mounts.iter().map(|mount| {
        (mount.kind, PageLine::new(safe(&mount.point).into_owned(), description(mount)))
    });
    if i.shares_with_host("mnt") {
        let summary = line("mounts", "the host's").summary();
        return described.map(|(_, line)| line.detail()).chain([summary]).collect();
    }
    let mut lines: Vec<PageLine> = Vec::new();
    let mut standard = 0;
    for (kind, line) in described {
        lines.push(match kind {
            MountKind::Kernel | MountKind::Engine | MountKind::Inner => {
                standard += 1;
                line.detail()
            }
            MountKind::Root | MountKind::Bind | MountKind::Storage => line,
        });
    }
    if standard > 0 {
        lines.push(line("", format!("and {standard} standard mounts")).summary());
    }
    lines
}

fn description(mount: &InspectedMount) -> String {
    let fstype = safe(&mount.fstype);
    let mut text = match (mount.kind, &mount.volume, &mount.host_path) {
        (MountKind::Bind, Some(volume), Some(path)) => {
            format!("volume {} ({})", safe(volume), safe(path))
        }
        (MountKind::Bind | MountKind::Inner | MountKind::Root, _, Some(path)) => {
            format!("{} of the host, {fstype}", safe(path))
        }
        _ => fstype.into_owned(),
    };
    if mount.read_only {
        text.push_str(", read-only");
    }
    if mount.removed {
        text.push_str(", deleted on the host");
    }
    text
}

fn mounts_json(i: &Inspection) -> Json {
    if i.facts.mounts.known().is_none() {
        return Json::Null;
    }
    let optional =
        |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(Json::Null, |bytes| bytes_to_json(bytes));
    let mount = |mount: &InspectedMount| {
        json!({
            "point": bytes_to_json(&mount.point),
            "kind": mount.kind.name(),
            "type": bytes_to_json(&mount.fstype),
            "source": bytes_to_json(&mount.source),
            "host_path": optional(&mount.host_path),
            "volume": optional(&mount.volume),
            "read_only": mount.read_only,
            "removed": mount.removed,
        })
    };
    i.mounts.iter().map(mount).collect()
}
