//! The first part of the page of `inspect`: process, image, IDs, state, age, cgroup.

use serde_json::{Value as Json, json};

use super::{ContainerFact, proc_file, record, status_fact};
use crate::analysis::inspection::Inspection;
use crate::analysis::wording::processes;
use crate::output::escape::safe;
use crate::output::json::bytes_to_json;
use crate::output::sections::{PageLine, PageSection, line, lines};
use crate::output::units::age;

pub static SECTION: PageSection<Inspection> = PageSection {
    title: "",
    facts: &[
        status_fact("process", process_json, process),
        ContainerFact {
            key: "image",
            source: record,
            json: |i| json!(i.container.image),
            lines: |i| optional("image", i.container.image.as_deref()),
        },
        ContainerFact {
            key: "id",
            source: record,
            json: |i| json!(i.container.id),
            lines: |i| optional("ID", i.container.id.as_deref()),
        },
        ContainerFact {
            key: "name",
            source: record,
            json: |i| json!(i.container.name),
            lines: |_| Vec::new(),
        },
        ContainerFact {
            key: "engine",
            source: record,
            json: |i| json!(i.container.engine.name),
            lines: |_| Vec::new(),
        },
        ContainerFact { key: "pod", source: record, json: pod_json, lines: pod },
        ContainerFact {
            key: "outer",
            source: |i| proc_file(i, "stat"),
            json: |i| json!(i.outer),
            lines: outer,
        },
        ContainerFact {
            key: "runs",
            source: |i| proc_file(i, "cmdline"),
            json: |i| json!(i.runs),
            lines: |i| match i.runs.is_empty() {
                true => Vec::new(),
                false => {
                    lines("runs", i.runs.iter().map(|name| safe(name.as_bytes()).into_owned()))
                }
            },
        },
        ContainerFact {
            key: "user",
            source: record,
            json: |i| json!(i.container.user),
            lines: owner,
        },
        ContainerFact {
            key: "state",
            source: |i| proc_file(i, "cgroup"),
            json: |i| json!((!i.is_host).then(|| i.container.state.name())),
            lines: state,
        },
        ContainerFact {
            key: "processes",
            source: |_| "cgroup.procs, /proc/*/status NSpid".into(),
            json: |i| json!(i.processes.filter(|_| !i.is_host)),
            lines: |_| Vec::new(),
        },
        ContainerFact {
            key: "started",
            source: |i| proc_file(i, "stat"),
            json: |i| json!(i.process.facts.times.started.to_string()),
            lines: started,
        },
        ContainerFact {
            key: "cgroup",
            source: |i| proc_file(i, "cgroup"),
            json: |i| i.container.cgroup.as_ref().map_or(Json::Null, |c| bytes_to_json(&c.path)),
            lines: cgroup,
        },
        ContainerFact {
            key: "verified",
            source: record,
            json: |i| json!(i.container.verified),
            lines: verified,
        },
    ],
};

fn optional(label: &'static str, value: Option<&str>) -> Vec<PageLine> {
    value.map(|value| line(label, safe(value.as_bytes()))).into_iter().collect()
}

fn outer(i: &Inspection) -> Vec<PageLine> {
    let text = i.outer.as_ref().map(|name| format!("started in {name}"));
    optional("outer", text.as_deref())
}

fn process(i: &Inspection) -> Vec<PageLine> {
    let facts = &i.process.facts;
    let command = match facts.command.known() {
        Some(command) if !command.is_empty() => command.joined(),
        _ => facts.stat.comm.clone(),
    };
    let label = if i.is_init && !i.is_host { "init" } else { "process" };
    let pid = match i.process.pid {
        _ if i.is_host => {
            return lines(label, [safe(&command).into_owned()]);
        }
        Some(pid) => format!("PID {pid}"),
        None => "not in the container's PID namespace".into(),
    };
    lines(label, [format!("{pid}, host PID {}", facts.id.pid), safe(&command).into_owned()])
}

fn process_json(i: &Inspection) -> Json {
    let command = i.process.facts.command.known();
    json!({
        "pid": i.process.pid.map(|pid| pid.get()),
        "host_pid": i.process.facts.id.pid.get(),
        "is_init": i.is_init,
        "comm": bytes_to_json(&i.process.facts.stat.comm),
        "command": command.map(|command| command.argv().map(bytes_to_json).collect::<Vec<_>>()),
    })
}

fn pod(i: &Inspection) -> Vec<PageLine> {
    let Some(pod) = &i.container.pod else { return Vec::new() };
    let container = match &pod.container {
        Some(container) => format!("container {container}"),
        None => "the pause container".into(),
    };
    let name = format!("{}/{}, {container}", pod.namespace, pod.name);
    vec![line("pod", safe(name.as_bytes()))]
}

fn pod_json(i: &Inspection) -> Json {
    i.container.pod.as_ref().map_or(Json::Null, |pod| {
        json!({
            "namespace": pod.namespace,
            "name": pod.name,
            "uid": pod.uid,
            "container": pod.container,
        })
    })
}

fn owner(i: &Inspection) -> Vec<PageLine> {
    let owner = |uid| line("owner", format!("UID {uid} (rootless)"));
    i.container.user.map(owner).into_iter().collect()
}

fn state(i: &Inspection) -> Vec<PageLine> {
    if i.is_host {
        return Vec::new();
    }
    let count = match i.processes {
        Some(count) => processes(count),
        None => "an unknown number of processes".to_owned(),
    };
    vec![line("state", format!("{}, {count}", i.container.state.name()))]
}

fn started(i: &Inspection) -> Vec<PageLine> {
    let started = i.process.facts.times.started;
    let age = age(i.now.duration_since(started).try_into().unwrap_or_default());
    let second = started.round(jiff::Unit::Second).unwrap_or(started);
    vec![line("started", format!("{age} ago, {second}"))]
}

fn cgroup(i: &Inspection) -> Vec<PageLine> {
    vec![match &i.container.cgroup {
        Some(cgroup) => line("cgroup", safe(&cgroup.path)),
        None if i.is_host => return Vec::new(),
        None => line("cgroup", "none of its own"),
    }]
}

fn verified(i: &Inspection) -> Vec<PageLine> {
    let mut shown = Vec::new();
    if let Some(record) = &i.container.record {
        shown.push(line("record", safe(record.as_os_str().as_encoded_bytes())).detail());
    }
    if i.is_host {
        shown.push(line("note", "the facts are those of the host itself"));
    }
    if let Some(remark) = &i.container.remark {
        shown.push(line("note", safe(remark.as_bytes())));
    }
    shown
}
