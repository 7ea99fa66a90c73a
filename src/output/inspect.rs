//! THE FACTS of `inspect`: each with its key in JSON, its lines on the page, and where it is from.

use serde_json::{Value as Json, json};

use crate::analysis::inspection::{InspectedMount, Inspection, MountKind, NamespaceSharing};
use crate::model::capability;
use crate::model::idmap::IdMap;
use crate::model::process::Fact as Known;
use crate::model::stop_policy::seconds;
use crate::output::escape::safe;
use crate::output::json::bytes_to_json;
use crate::output::sections::{SectionFact, SectionLine, line, lines};
use crate::output::units::{age, size};
use crate::proc::LimitedValue;

/// A fact of a container.
type Of<'a> = SectionFact<Inspection<'a>>;

/// THE TABLE, in the order of the page.
pub fn facts<'a>() -> Vec<Of<'a>> {
    vec![
        SectionFact {
            section: "",
            key: "process",
            source: |p| proc(p, "status"),
            json: process_json,
            lines: process,
        },
        SectionFact {
            section: "",
            key: "image",
            source: record,
            json: |p| json!(p.container.image),
            lines: |p| text("image", p.container.image.as_deref()),
        },
        SectionFact {
            section: "",
            key: "id",
            source: record,
            json: |p| json!(p.container.id),
            lines: |p| text("id", p.container.id.as_deref()),
        },
        SectionFact {
            section: "",
            key: "name",
            source: record,
            json: |p| json!(p.container.name),
            lines: |_| Vec::new(),
        },
        SectionFact {
            section: "",
            key: "engine",
            source: record,
            json: |p| json!(p.container.engine.name),
            lines: |_| Vec::new(),
        },
        SectionFact { section: "", key: "pod", source: record, json: pod_json, lines: pod },
        SectionFact {
            section: "",
            key: "user",
            source: record,
            json: |p| json!(p.container.user),
            lines: owner,
        },
        SectionFact {
            section: "",
            key: "state",
            source: |p| proc(p, "cgroup"),
            json: |p| json!(p.container.state.name()),
            lines: state,
        },
        SectionFact {
            section: "",
            key: "processes",
            source: |_| "cgroup.procs, /proc/*/status NSpid".into(),
            json: |p| json!(p.processes),
            lines: |_| Vec::new(),
        },
        SectionFact {
            section: "",
            key: "started",
            source: |p| proc(p, "stat"),
            json: |p| json!(p.member.facts.times.started.to_string()),
            lines: started,
        },
        SectionFact {
            section: "",
            key: "cgroup",
            source: |p| proc(p, "cgroup"),
            json: |p| p.container.cgroup.as_ref().map_or(Json::Null, |c| bytes_to_json(&c.path)),
            lines: cgroup,
        },
        SectionFact {
            section: "",
            key: "verified",
            source: record,
            json: |p| json!(p.container.verified),
            lines: verified,
        },
        SectionFact {
            section: "Stop",
            key: "stop_signal",
            source: record,
            json: |p| json!({"signal": p.on_stop.0.name(), "recorded": p.plan.signal.is_some(), "verdict": p.on_stop.1.verdict.name(), "note": p.on_stop.1.note}),
            lines: stop_signal,
        },
        SectionFact {
            section: "Stop",
            key: "grace",
            source: record,
            json: grace_json,
            lines: grace,
        },
        SectionFact {
            section: "Stop",
            key: "restart",
            source: restart_source,
            json: |p| json!({"policy": p.plan.restart, "comes_back": p.plan.restart_reason(p.container.engine).is_some()}),
            lines: restart,
        },
        SectionFact {
            section: "Namespaces",
            key: "namespaces",
            source: |p| proc(p, "ns/"),
            json: namespaces_json,
            lines: namespaces,
        },
        SectionFact {
            section: "Namespaces",
            key: "users",
            source: |p| proc(p, "uid_map"),
            json: |p| map_json(&p.sheet.users),
            lines: |p| map("users", &p.sheet.users),
        },
        SectionFact {
            section: "Namespaces",
            key: "groups",
            source: |p| proc(p, "gid_map"),
            json: |p| map_json(&p.sheet.groups),
            lines: groups,
        },
        SectionFact {
            section: "Rights",
            key: "uid",
            source: |p| proc(p, "status"),
            json: uid_json,
            lines: uid,
        },
        SectionFact {
            section: "Rights",
            key: "capabilities",
            source: |p| proc(p, "status"),
            json: capabilities_json,
            lines: capabilities,
        },
        SectionFact {
            section: "Rights",
            key: "seccomp",
            source: |p| proc(p, "status"),
            json: |p| seccomp_name(p).map_or(Json::Null, Json::from),
            lines: seccomp,
        },
        SectionFact {
            section: "Rights",
            key: "no_new_privs",
            source: |p| proc(p, "status"),
            json: |p| json!(p.member.facts.status.no_new_privs),
            lines: no_new_privs,
        },
        SectionFact {
            section: "Rights",
            key: "label",
            source: |p| proc(p, "attr/current"),
            json: |p| label_of(p).map_or(Json::Null, |l| bytes_to_json(&l)),
            lines: label,
        },
        SectionFact {
            section: "Resources",
            key: "memory",
            source: |p| limit_source(p, &p.sheet.usage.memory_limit, "memory"),
            json: memory_json,
            lines: memory,
        },
        SectionFact {
            section: "Resources",
            key: "cpus",
            source: |p| limit_source(p, &p.sheet.usage.cpu_limit, "cpu"),
            json: cpus_json,
            lines: cpus,
        },
        SectionFact {
            section: "Resources",
            key: "pids",
            source: |p| limit_source(p, &p.sheet.usage.pids_limit, "pids"),
            json: pids_json,
            lines: pids,
        },
        SectionFact {
            section: "Mounts",
            key: "mounts",
            source: |p| proc(p, "mountinfo"),
            json: mounts_json,
            lines: mounts,
        },
    ]
}

fn proc(portrait: &Inspection<'_>, file: &str) -> String {
    format!("/proc/{}/{file}", portrait.member.facts.id.pid)
}

/// The record that names it; where there is none, the kernel alone speaks.
fn record(portrait: &Inspection<'_>) -> String {
    match &portrait.container.record {
        Some(path) => path.display().to_string(),
        None => "no record".into(),
    }
}

/// The file with the restart policy.
fn restart_source(portrait: &Inspection<'_>) -> String {
    match &portrait.plan.restart_source {
        Some(path) => path.display().to_string(),
        None => record(portrait),
    }
}

fn text(label: &'static str, value: Option<&str>) -> Vec<SectionLine> {
    value.map(|value| line(label, safe(value.as_bytes()))).into_iter().collect()
}

fn process(p: &Inspection<'_>) -> Vec<SectionLine> {
    let host = p.member.facts.id.pid;
    let what = match p.member.facts.command.known() {
        Some(command) if !command.is_empty() => command.joined(),
        _ => p.member.facts.stat.comm.clone(),
    };
    let label = if p.is_init { "init" } else { "process" };
    let inside =
        p.member.pid.map_or_else(|| "not in its PID namespace".into(), |pid| format!("PID {pid}"));
    lines(label, [format!("{inside}, {host} on the host"), safe(&what).into_owned()])
}

fn process_json(p: &Inspection<'_>) -> Json {
    let command = p.member.facts.command.known();
    json!({
        "pid": p.member.pid.map(|pid| pid.get()),
        "host_pid": p.member.facts.id.pid.get(),
        "is_init": p.is_init,
        "comm": bytes_to_json(&p.member.facts.stat.comm),
        "command": command.map(|command| command.argv().map(bytes_to_json).collect::<Vec<_>>()),
    })
}

fn pod(p: &Inspection<'_>) -> Vec<SectionLine> {
    let Some(pod) = &p.container.pod else { return Vec::new() };
    let container = pod.container.as_deref().unwrap_or("the sandbox");
    let name = format!("{}/{}, container {container}", pod.namespace, pod.name);
    vec![line("pod", safe(name.as_bytes()))]
}

fn pod_json(p: &Inspection<'_>) -> Json {
    p.container.pod.as_ref().map_or(Json::Null, |pod| {
        json!({"namespace": pod.namespace, "name": pod.name, "uid": pod.uid, "container": pod.container})
    })
}

fn owner(p: &Inspection<'_>) -> Vec<SectionLine> {
    let of = |uid| line("of user", format!("{uid} (rootless)"));
    p.container.user.map(of).into_iter().collect()
}

fn state(p: &Inspection<'_>) -> Vec<SectionLine> {
    let count = match p.processes {
        Some(1) => ", 1 process".to_owned(),
        Some(many) => format!(", {many} processes"),
        None => String::new(),
    };
    vec![line("state", format!("{}{count}", p.container.state.name()))]
}

fn started(p: &Inspection<'_>) -> Vec<SectionLine> {
    let started = p.member.facts.times.started;
    let age = age(p.now.duration_since(started).try_into().unwrap_or_default());
    let moment = started.round(jiff::Unit::Second).unwrap_or(started);
    vec![line("started", format!("{age} ago, {moment}"))]
}

fn cgroup(p: &Inspection<'_>) -> Vec<SectionLine> {
    vec![match &p.container.cgroup {
        Some(cgroup) => line("cgroup", safe(&cgroup.path)),
        None => line("cgroup", "none of its own"),
    }]
}

fn verified(p: &Inspection<'_>) -> Vec<SectionLine> {
    let mut told = Vec::new();
    if let Some(record) = &p.container.record {
        told.push(line("named by", safe(record.as_os_str().as_encoded_bytes())));
    }
    if p.is_host {
        told.push(line("note", "in no container: what follows is of the host itself"));
    }
    if let Some(remark) = &p.container.remark {
        told.push(line("note", safe(remark.as_bytes())));
    }
    told
}

fn stop_signal(p: &Inspection<'_>) -> Vec<SectionLine> {
    if p.is_host {
        return Vec::new();
    }
    let (signal, judgement) = &p.on_stop;
    let default = if p.plan.signal.is_some() { "" } else { " (its engine's default)" };
    let mut said = vec![format!("{signal}{default}: {}", judgement.verdict.name())];
    said.extend(judgement.note.as_ref().map(|note| safe(note.as_bytes()).into_owned()));
    lines("signal", said)
}

fn grace(p: &Inspection<'_>) -> Vec<SectionLine> {
    if p.is_host {
        return Vec::new();
    }
    let time = p.plan.grace_of(p.container.engine);
    let default = if p.plan.grace.is_some() { "" } else { " (its engine's default)" };
    vec![match time {
        std::time::Duration::MAX => line("grace", "without end"),
        time => line("grace", format!("{}{default}, then KILL", seconds(time))),
    }]
}

fn grace_json(p: &Inspection<'_>) -> Json {
    let time = p.plan.grace_of(p.container.engine);
    let seconds = (time != std::time::Duration::MAX).then_some(time.as_secs_f64());
    json!({"seconds": seconds, "recorded": p.plan.grace.is_some()})
}

fn restart(p: &Inspection<'_>) -> Vec<SectionLine> {
    if p.is_host {
        return Vec::new();
    }
    vec![match p.plan.restart_reason(p.container.engine) {
        Some(why) => line("restart", safe(why.as_bytes())),
        None => line("restart", "nothing is known to start it again"),
    }]
}

fn namespaces(p: &Inspection<'_>) -> Vec<SectionLine> {
    let mut groups: Vec<(&NamespaceSharing, Vec<&str>)> = Vec::new();
    for one in &p.namespaces {
        match groups.iter_mut().find(|(whose, _)| *whose == &one.whose) {
            Some((_, names)) => names.push(one.kind.name),
            None => groups.push((&one.whose, vec![one.kind.name])),
        }
    }
    let order = |whose: &NamespaceSharing| match whose {
        NamespaceSharing::Own => 0,
        NamespaceSharing::With(_) => 1,
        NamespaceSharing::Hosts => 2,
        NamespaceSharing::Unknown => 3,
    };
    groups.sort_by_key(|(whose, _)| order(whose));
    let shown = groups.into_iter().map(|(whose, names)| match whose {
        NamespaceSharing::Own => line("its own", names.join(" ")),
        NamespaceSharing::Hosts => line("the host's", names.join(" ")),
        NamespaceSharing::Unknown => line("unread", names.join(" ")),
        NamespaceSharing::With(others) => {
            let first: Vec<_> = others.iter().take(3).map(|name| safe(name.as_bytes())).collect();
            let rest = others.len() - first.len();
            let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
            line("shared", format!("{} with {}{more}", names.join(" "), first.join(", ")))
        }
    });
    let mut shown: Vec<SectionLine> = shown.collect();
    let ids = p.namespaces.iter().filter_map(|one| {
        let id = one.id.known()?;
        Some(line("", format!("{} {id}: {}", one.kind.name, one.kind.about)).detail())
    });
    shown.extend(ids);
    shown
}

fn namespaces_json(p: &Inspection<'_>) -> Json {
    let each = p.namespaces.iter().map(|one| {
        let (whose, with) = match &one.whose {
            NamespaceSharing::Own => (Some("own"), Vec::new()),
            NamespaceSharing::Hosts => (Some("host"), Vec::new()),
            NamespaceSharing::With(names) => (Some("shared"), names.clone()),
            NamespaceSharing::Unknown => (None, Vec::new()),
        };
        json!({"type": one.kind.name, "id": one.id.known().map(|id| id.0), "whose": whose, "with": with})
    });
    each.collect()
}

fn map(label: &'static str, map: &Known<IdMap>) -> Vec<SectionLine> {
    let Known::Known(map) = map else { return vec![line(label, "?")] };
    if map.is_identity() {
        return vec![line(label, "as on the host")];
    }
    let range = |first: u32, count: u32| match count {
        1 => first.to_string(),
        count => format!("{first}-{}", u64::from(first) + u64::from(count) - 1),
    };
    let mut all: Vec<SectionLine> = Vec::new();
    for (at, one) in map.ranges.iter().enumerate() {
        let (inside, outside) = (range(one.inside, one.count), range(one.outside, one.count));
        let next =
            line(if at == 0 { label } else { "" }, format!("{inside} are {outside} on the host"));
        // As many as an engine writes; the rest with all details.
        all.push(if at < 3 { next } else { next.detail() });
    }
    if all.is_empty() {
        all.push(line(label, "none: every id is nobody's"));
    }
    all
}

fn map_json(map: &Known<IdMap>) -> Json {
    map.known().map_or(Json::Null, |map| {
        let each = map.ranges.iter();
        each.map(|r| json!({"inside": r.inside, "outside": r.outside, "count": r.count})).collect()
    })
}

/// They are nearly always as the users are.
fn groups(p: &Inspection<'_>) -> Vec<SectionLine> {
    if p.sheet.groups == p.sheet.users { Vec::new() } else { map("groups", &p.sheet.groups) }
}

fn uid(p: &Inspection<'_>) -> Vec<SectionLine> {
    let host = p.member.facts.status.uid[1];
    let name = p.member.user.as_ref().map_or_else(String::new, |name| format!(" ({})", safe(name)));
    let users = p.sheet.users.known();
    let inside =
        users.and_then(|map| map.to_inside(host)).map_or("?".into(), |uid| uid.to_string());
    let on_host = match host {
        0 => "root on the host".to_owned(),
        uid => format!("{uid} on the host"),
    };
    vec![line("user", format!("{inside}{name}, {on_host}"))]
}

fn uid_json(p: &Inspection<'_>) -> Json {
    let host = p.member.facts.status.uid[1];
    let inside = p.sheet.users.known().and_then(|map| map.to_inside(host));
    let name = p.member.user.as_ref().map_or(Json::Null, |name| bytes_to_json(name));
    json!({"inside": inside, "host": host, "name": name})
}

fn capabilities(p: &Inspection<'_>) -> Vec<SectionLine> {
    let status = &p.member.facts.status;
    let shown = |mask: u64| {
        let text = capability::summary(mask).replace(',', " ");
        text.strip_prefix('~').map_or(text.clone(), |missing| format!("all but {missing}"))
    };
    let mut all = vec![line("may", shown(status.cap_eff))];
    // Where nothing lies beyond what it has now, the bounds say nothing new.
    if status.cap_bnd != status.cap_eff {
        all.push(line("bounded by", shown(status.cap_bnd)));
    }
    if status.cap_amb != 0 {
        all.push(line("ambient", shown(status.cap_amb)));
    }
    all.push(line("permitted", shown(status.cap_prm)).detail());
    all.push(line("inheritable", shown(status.cap_inh)).detail());
    all
}

fn capabilities_json(p: &Inspection<'_>) -> Json {
    let status = &p.member.facts.status;
    json!({
        "effective": capability::names(status.cap_eff),
        "permitted": capability::names(status.cap_prm),
        "inheritable": capability::names(status.cap_inh),
        "bounding": capability::names(status.cap_bnd),
        "ambient": capability::names(status.cap_amb),
    })
}

fn seccomp_name(p: &Inspection<'_>) -> Option<&'static str> {
    Some(match p.member.facts.status.seccomp? {
        0 => "none",
        1 => "strict",
        _ => "filter",
    })
}

fn seccomp(p: &Inspection<'_>) -> Vec<SectionLine> {
    let many = p.member.facts.status.seccomp_filters;
    vec![line(
        "seccomp",
        match (seccomp_name(p), many) {
            (Some("filter"), Some(many @ 2..)) => format!("{many} filters"),
            (Some(name), _) => name.into(),
            (None, _) => "?".into(),
        },
    )]
}

fn no_new_privs(p: &Inspection<'_>) -> Vec<SectionLine> {
    vec![line(
        "set-user-id",
        match p.member.facts.status.no_new_privs {
            Some(true) => "gives no rights (no_new_privs)",
            Some(false) => "programs may raise its rights (no no_new_privs)",
            None => "?",
        },
    )]
}

/// Without the NUL or newline that some modules end it with.
fn label_of(p: &Inspection<'_>) -> Option<Vec<u8>> {
    let label = p.sheet.label.known()?;
    let end = label.iter().rposition(|b| !matches!(b, 0 | b'\n'))?;
    Some(label[..=end].to_vec())
}

fn label(p: &Inspection<'_>) -> Vec<SectionLine> {
    vec![match label_of(p) {
        Some(label) => line("label", safe(&label)),
        None if p.sheet.label == Known::Denied => line("label", "?"),
        None => line("label", "none: no security module confines it"),
    }]
}

/// Where a limit stands; where there is none, in whose files it was looked for.
fn limit_source<T>(p: &Inspection<'_>, limit: &Known<LimitedValue<T>>, controller: &str) -> String {
    match (limit, &p.container.cgroup) {
        (Known::Known(limit), _) => limit.source.clone(),
        (_, Some(cgroup)) => format!("{controller}.* of {}", safe(&cgroup.path)),
        (_, None) => format!("{controller}.* of {}", proc(p, "cgroup")),
    }
}

fn used_of(label: &'static str, used: Known<String>, most: Known<String>) -> Vec<SectionLine> {
    let used = match used {
        Known::Known(used) => format!("{used} used"),
        Known::Absent => "not counted for it alone".into(),
        Known::Denied => "?".into(),
    };
    vec![line(
        label,
        match most {
            Known::Known(most) => format!("{used}, at most {most}"),
            Known::Absent => format!("{used}, no limit"),
            Known::Denied => used,
        },
    )]
}

fn each<T, U>(fact: &Known<LimitedValue<T>>, show: impl Fn(&T) -> U) -> Known<U> {
    shown(fact, |limit| show(&limit.most))
}

fn shown<T, U>(fact: &Known<T>, show: impl Fn(&T) -> U) -> Known<U> {
    match fact {
        Known::Known(value) => Known::Known(show(value)),
        Known::Absent => Known::Absent,
        Known::Denied => Known::Denied,
    }
}

fn memory(p: &Inspection<'_>) -> Vec<SectionLine> {
    let usage = &p.sheet.usage;
    used_of("memory", shown(&usage.memory, |b| size(*b)), each(&usage.memory_limit, |b| size(*b)))
}

fn memory_json(p: &Inspection<'_>) -> Json {
    let usage = &p.sheet.usage;
    json!({
        "used": usage.memory.known(),
        "limit": usage.memory_limit.known().map(|limit| limit.most),
        "configured": p.configured.and_then(|configured| configured.memory),
        "oom_kills": usage.oom_kills.known(),
    })
}

fn cpus(p: &Inspection<'_>) -> Vec<SectionLine> {
    vec![line(
        "processors",
        match each(&p.sheet.usage.cpu_limit, |cpus| format!("{cpus:.2}")) {
            Known::Known(cpus) => {
                format!("the time of {} at most", cpus.trim_end_matches('0').trim_end_matches('.'))
            }
            Known::Absent => "no limit".into(),
            Known::Denied => "?".into(),
        },
    )]
}

fn cpus_json(p: &Inspection<'_>) -> Json {
    json!({
        "limit": p.sheet.usage.cpu_limit.known().map(|limit| limit.most),
        "configured": p.configured.and_then(|configured| configured.cpus),
    })
}

fn pids(p: &Inspection<'_>) -> Vec<SectionLine> {
    let usage = &p.sheet.usage;
    let most = each(&usage.pids_limit, u64::to_string);
    used_of("tasks", shown(&usage.pids, u64::to_string), most)
}

fn pids_json(p: &Inspection<'_>) -> Json {
    let usage = &p.sheet.usage;
    json!({
        "used": usage.pids.known(),
        "limit": usage.pids_limit.known().map(|limit| limit.most),
        "configured": p.configured.and_then(|configured| configured.pids),
    })
}

fn mounts(p: &Inspection<'_>) -> Vec<SectionLine> {
    if p.sheet.mounts == Known::Denied {
        return vec![line("mounts", "?")];
    }
    if p.namespaces.iter().any(|one| one.kind.name == "mnt" && one.whose == NamespaceSharing::Hosts)
    {
        let all = p
            .mounts
            .iter()
            .map(|m| SectionLine::new(safe(&m.point).into_owned(), about(m)).detail());
        return all.chain([line("mounts", "those of the host").summary()]).collect();
    }
    let mut all: Vec<SectionLine> = Vec::new();
    let mut rest = 0;
    for mount in &p.mounts {
        let point = safe(&mount.point).into_owned();
        let told = SectionLine::new(point, about(mount));
        all.push(match mount.kind {
            MountKind::Kernel | MountKind::Engine | MountKind::Inner => {
                rest += 1;
                told.detail()
            }
            _ => told,
        });
    }
    if rest > 0 {
        let said = format!("and {rest} more: the kernel's, the engine's, or below these");
        all.push(line("", said).summary());
    }
    all
}

fn about(mount: &InspectedMount) -> String {
    let fstype = safe(&mount.fstype);
    let mut text = match (mount.kind, &mount.volume, &mount.from) {
        (MountKind::Bind, Some(volume), Some(from)) => {
            format!("volume {} ({})", safe(volume), safe(from))
        }
        (MountKind::Bind | MountKind::Inner | MountKind::Root, _, Some(from)) => {
            format!("{} of the host, {fstype}", safe(from))
        }
        _ => fstype.into_owned(),
    };
    if mount.read_only {
        text.push_str(", read-only");
    }
    if mount.removed {
        text.push_str(", removed there");
    }
    text
}

fn mounts_json(p: &Inspection<'_>) -> Json {
    if p.sheet.mounts.known().is_none() {
        return Json::Null;
    }
    let each = p.mounts.iter().map(|mount| {
        let bytes =
            |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(Json::Null, |b| bytes_to_json(b));
        json!({
            "point": bytes_to_json(&mount.point),
            "kind": mount.kind.name(),
            "type": bytes_to_json(&mount.fstype),
            "source": bytes_to_json(&mount.source),
            "host_path": bytes(&mount.from),
            "volume": bytes(&mount.volume),
            "read_only": mount.read_only,
            "removed": mount.removed,
        })
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fact_has_a_key_of_its_own() {
        let mut keys: Vec<&str> = facts().iter().map(|fact| fact.key).collect();
        let many = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), many);
    }
}
