//! Cgroup names as several engines spell them. Pure: a name is not evidence, it only shows where to
//! search for a record.

pub(super) use crate::model::container::is_long_id;

/// Returns the ID in `PREFIX-<64 digits>.scope`, as the systemd driver spells it.
pub(super) fn scope_id(component: &str, prefix: &str) -> Option<String> {
    let id = component.strip_suffix(".scope")?.strip_prefix(prefix)?.strip_prefix('-')?;
    is_long_id(id).then(|| id.to_owned())
}

/// Returns the name in `PREFIX-NAME.scope`, for engines whose IDs are names.
pub(super) fn scope_name(component: &str, prefix: &str) -> Option<String> {
    let name = component.strip_suffix(".scope")?.strip_prefix(prefix)?.strip_prefix('-')?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Whether the path above a component is that of a Kubernetes pod: `…/kubepods/burstable/pod<uid>`,
/// or with the systemd driver `…/kubepods-burstable-pod<uid>.slice`.
pub(super) fn is_below_a_pod(parent: &[&str]) -> bool {
    parent.last().is_some_and(|last| {
        (last.starts_with("kubepods") && last.contains("-pod") && last.ends_with(".slice"))
            || (last.starts_with("pod") && parent.iter().any(|part| part.starts_with("kubepods")))
    })
}

/// Returns the ID of 64 digits that a cgroup's name consists of or ends with, as in `docker-ID.scope`.
pub(super) fn trailing_id(component: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(component).ok()?;
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let id = name.rsplit(['-', '_', ':']).next()?;
    is_long_id(id).then_some(id)
}
