//! THE COLUMN TABLE of `ls`: one line a column, and the JSON keys.

use jiff::Timestamp;

use crate::model::container::{Container, ContainerState};
use crate::model::engine::ReferenceForm;
use crate::output::column::Column;
use crate::output::style::Emphasis;
use crate::output::value::Value;

/// A line of `ls`.
#[derive(Debug)]
pub struct LsRow {
    /// The host's name.
    pub host: String,
    /// The container.
    pub container: Container,
    /// How many processes it has, if they could be counted.
    pub processes: Option<usize>,
    /// When its init started.
    pub started: Option<Timestamp>,
    /// Whether long things are cut to what people compare by.
    pub short: bool,
}

type LsColumn = Column<LsRow>;

/// THE TABLE.
pub static LS_COLUMNS: &[LsColumn] = &[
    LsColumn::new("host", "HOST", "name of the host", |r| some(Some(&r.host))).json("host"),
    LsColumn::new("name", "NAME", "the name its engine gave it", name).shown().priority(255),
    LsColumn::new("id", "ID", "its id", id).shown().priority(60),
    LsColumn::new("engine", "ENGINE", "who made it", |r| {
        Value::Text(r.container.engine.name.into())
    })
    .json("engine")
    .shown()
    .priority(200),
    LsColumn::new("fullid", "FULLID", "its id, whole", |r| some(r.container.id.as_deref()))
        .json("id"),
    LsColumn::new("plain", "PLAIN", "its name alone, without namespace and pod", |r| {
        some(r.container.name.as_deref())
    })
    .json("name"),
    LsColumn::new("pid", "PID", "host PID of its init", |r| {
        r.container.init_pid().map_or(Value::Absent, |p| Value::Int(p.get().into()))
    })
    .json("pid")
    .right()
    .shown()
    .priority(220),
    LsColumn::new("procs", "PROCS", "how many processes it has", |r| {
        r.processes.map_or(Value::Denied, |n| Value::Int(n as i64))
    })
    .json("processes")
    .right()
    .shown()
    .priority(80),
    LsColumn::new(
        "state",
        "STATE",
        "running or paused; and whether nothing confirms its name",
        state,
    )
    .shown()
    .priority(120)
    .emphasis(state_tint),
    LsColumn::new("live", "LIVE", "running or paused", |r| {
        Value::Text(r.container.state.name().into())
    })
    .json("state"),
    LsColumn::new("age", "AGE", "how long ago its init started", |r| {
        r.started.map_or(Value::Absent, Value::Time)
    })
    .right()
    .shown()
    .priority(40),
    LsColumn::new("started", "SINCE", "when its init started, UTC", |r| {
        r.started.map_or(Value::Absent, |t| Value::Text(t.to_string().into()))
    })
    .json("started"),
    LsColumn::new("user", "USER", "uid of the user who runs it, when that is not root", |r| {
        r.container.user.map_or(Value::Absent, |uid| Value::Int(uid.into()))
    })
    .json("user")
    .right()
    .priority(70),
    LsColumn::new("image", "IMAGE", "what was started", |r| some(r.container.image.as_deref()))
        .json("image")
        .flexible()
        .shown()
        .priority(50),
    LsColumn::new("cgroup", "CGROUP", "its cgroup", |r| {
        r.container.cgroup.as_ref().map_or(Value::Absent, |c| Value::Bytes(c.path.clone()))
    })
    .json("cgroup"),
    LsColumn::new(
        "verified",
        "VERIFIED",
        "whether a trusted record or its cgroup's owner confirms its name",
        |r| Value::Bool(r.container.verified),
    )
    .json("verified"),
    LsColumn::new("qualified", "QUALIFIED", "the form that names it and no other", |r| {
        some(Some(&r.container.qualified()))
    }),
    LsColumn::new("podns", "PODNS", "namespace of its pod", |r| {
        some(r.container.pod.as_ref().map(|p| p.namespace.as_str()))
    })
    .json("pod.namespace"),
    LsColumn::new("pod", "POD", "name of its pod", |r| {
        some(r.container.pod.as_ref().map(|p| p.name.as_str()))
    })
    .json("pod.name"),
    LsColumn::new("poduid", "PODUID", "uid of its pod", |r| {
        some(r.container.pod.as_ref().and_then(|p| p.uid.as_deref()))
    })
    .json("pod.uid"),
    LsColumn::new("podctr", "PODCTR", "its name in the pod", |r| {
        some(r.container.pod.as_ref().and_then(|p| p.container.as_deref()))
    })
    .json("pod.container"),
    LsColumn::new("remark", "REMARK", "what else is to be known", |r| {
        some(r.container.remark.as_deref())
    })
    .json("remark"),
];

fn some(text: Option<&str>) -> Value {
    text.map_or(Value::Absent, |text| Value::Text(text.to_owned().into()))
}

fn name(row: &LsRow) -> Value {
    let container = &row.container;
    match (&container.pod, &container.namespace) {
        (Some(pod), _) if !pod.name.is_empty() => {
            let inside = pod.container.as_deref().unwrap_or("POD");
            some(Some(&format!("{}/{}/{inside}", pod.namespace, pod.name)))
        }
        (None, Some(namespace)) if container.engine.reference == ReferenceForm::Namespaced => {
            some(container.name.as_ref().map(|name| format!("{namespace}/{name}")).as_deref())
        }
        _ => some(container.name.as_deref()),
    }
}

fn id(row: &LsRow) -> Value {
    let id = row.container.id.as_deref();
    // Twelve digits are what the engines show and what people compare by; names stay whole.
    let short = id.filter(|id| row.short && id.len() == 64).and_then(|id| id.get(..12));
    some(short.or(id))
}

fn state(row: &LsRow) -> Value {
    let state = row.container.state.name();
    if row.container.verified {
        Value::Text(state.into())
    } else {
        Value::Text(format!("{state}, unverified").into())
    }
}

fn state_tint(row: &LsRow) -> Emphasis {
    match (row.container.verified, row.container.state) {
        (false, _) => Emphasis::Bad,
        (true, ContainerState::Paused) => Emphasis::Warning,
        _ => Emphasis::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        assert_eq!(crate::output::column::audit(LS_COLUMNS), Vec::<String>::new());
    }
}
