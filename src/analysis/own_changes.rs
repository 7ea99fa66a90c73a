//! The changes that an init has made to itself: it changed its root, wrote over its environment, lowered its
//! limits, added seccomp filters. `exec` and `cp` do not take them for the container's. The engine's record
//! is the reference; without one only those are known that a process cannot have been started with.

use super::exec_environment::salvage;
use crate::model::bytes::message_text;
use crate::model::init_state::InitState;
use crate::model::process::Fact;
use crate::model::process_config::ProcessConfig;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnChange {
    /// A verb and its object, with the init as its subject.
    pub text: String,
    /// The way that `exec` and `cp` take.
    pub remedy: &'static str,
}

/// The remark on attributes that the record has.
const RECORDED: &str = "`exec` and `cp` use the container's own, as its engine does";

/// Returns the changes. `has_own_mounts` is whether the engine gives each container a root by its mounts, so
/// that another root than theirs is the init's doing.
pub fn own_changes(
    record: Option<&ProcessConfig>,
    state: &InitState,
    has_own_mounts: bool,
) -> Vec<OwnChange> {
    let mut changes = Vec::new();
    let mut add = |text: String, remedy| changes.push(OwnChange { text, remedy });
    let text = message_text;
    if let Some(root) = state.root.as_deref().filter(|root| has_own_mounts && *root != b"/") {
        add(format!("has changed its root directory to `{}`", text(root)), RECORDED);
    }
    if let Some(path) = state.workdir.as_deref().and_then(|path| path.strip_suffix(b" (deleted)")) {
        let text = format!("is in the working directory `{}`, which has been deleted", text(path));
        add(text, "`exec` starts in the recorded one or in `/`; `-w DIR` chooses another");
    }
    let is_overwritten = |bytes: &Vec<u8>| !salvage(bytes).1;
    if let Fact::Known(environment) = &state.environment
        && is_overwritten(environment)
    {
        let remedy = match record {
            Some(record) if record.environment_is_complete => RECORDED,
            _ => "`exec` cannot restore variables that no record has: give them with `-e`",
        };
        add("has overwritten its environment".into(), remedy);
    }
    if let Some(record) = record {
        recorded_changes(record, state).for_each(|text| add(text, RECORDED));
    }
    changes
}

fn recorded_changes<'a>(
    record: &'a ProcessConfig,
    state: &'a InitState,
) -> impl Iterator<Item = String> + 'a {
    let limits = state.limits.iter().filter_map(|limit| {
        let recorded = record.limits.iter().find(|other| other.resource == limit.resource)?;
        let shown =
            |value: Option<u64>| value.map_or("unlimited".into(), |value| value.to_string());
        (recorded != limit).then(|| {
            let (name, soft, hard) = (limit.name(), shown(limit.soft), shown(limit.hard));
            format!(
                "has set its RLIMIT_{name} to {soft}:{hard}; the container's is {}:{}",
                shown(recorded.soft),
                shown(recorded.hard)
            )
        })
    });
    let added = state
        .filters
        .zip(record.filters)
        .map(|(current, recorded)| current.saturating_sub(recorded));
    let filters = added.filter(|added| *added > 0).map(|added| match added {
        1 => "has added a seccomp filter of its own".to_owned(),
        added => format!("has added {added} seccomp filters of its own"),
    });
    let privileges = (state.no_new_privs == Some(true) && record.no_new_privs == Some(false))
        .then(|| "has set no_new_privs for itself".to_owned());
    let personality =
        state.personality.zip(record.personality).filter(|(current, recorded)| current != recorded);
    let personality = personality.map(|(current, recorded)| {
        format!("has changed its personality to {current:#x}; the container's is {recorded:#x}")
    });
    let policy =
        state.scheduling.zip(record.scheduling).filter(|(current, recorded)| current != recorded);
    let policy = policy.map(|(current, recorded)| {
        format!(
            "has set its scheduling policy to {}; the container's is {}",
            current.name(),
            recorded.name()
        )
    });
    limits.chain(filters).chain(privileges).chain(personality).chain(policy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::limits::ResourceLimit;
    use crate::model::process_config::Scheduling;

    fn state() -> InitState {
        InitState {
            root: Some(b"/".to_vec()),
            workdir: Some(b"/srv".to_vec()),
            environment: Fact::Known(b"A=1\0".to_vec()),
            limits: vec![ResourceLimit { resource: 7, soft: Some(3), hard: None }],
            filters: Some(1),
            no_new_privs: Some(false),
            personality: Some(0),
            scheduling: Some(Scheduling::default()),
        }
    }

    fn record() -> ProcessConfig {
        ProcessConfig {
            environment: Some(Vec::new()),
            environment_is_complete: true,
            limits: vec![ResourceLimit { resource: 7, soft: Some(3), hard: None }],
            filters: Some(1),
            no_new_privs: Some(false),
            personality: Some(0),
            scheduling: Some(Scheduling::default()),
            ..ProcessConfig::default()
        }
    }

    fn texts(
        record: Option<&ProcessConfig>,
        state: &InitState,
        has_own_mounts: bool,
    ) -> Vec<String> {
        own_changes(record, state, has_own_mounts).into_iter().map(|change| change.text).collect()
    }

    #[test]
    fn an_init_as_it_was_started_has_no_changes() {
        assert_eq!(own_changes(Some(&record()), &state(), true), []);
        assert_eq!(own_changes(None, &state(), true), []);
        // A container that was made by chroot(2).
        let chrooted = InitState { root: Some(b"/srv/web".to_vec()), ..state() };
        assert_eq!(own_changes(None, &chrooted, false), []);
    }

    #[test]
    fn each_change_is_said() {
        let changed = InitState {
            root: Some(b"/jail".to_vec()),
            workdir: Some(b"/q (deleted)".to_vec()),
            environment: Fact::Known(b"xxxxx".to_vec()),
            limits: vec![ResourceLimit { resource: 7, soft: Some(1), hard: Some(2) }],
            filters: Some(3),
            no_new_privs: Some(true),
            personality: Some(8),
            scheduling: Scheduling::named("BATCH"),
        };
        assert_eq!(
            texts(Some(&record()), &changed, true),
            [
                "has changed its root directory to `/jail`",
                "is in the working directory `/q`, which has been deleted",
                "has overwritten its environment",
                "has set its RLIMIT_NOFILE to 1:2; the container's is 3:unlimited",
                "has added 2 seccomp filters of its own",
                "has set no_new_privs for itself",
                "has changed its personality to 0x8; the container's is 0x0",
                "has set its scheduling policy to BATCH; the container's is OTHER",
            ]
        );
        // Without a record the initial values are unknown.
        assert_eq!(texts(None, &changed, true).len(), 3);
        let remedies = own_changes(None, &changed, true);
        assert!(remedies[2].remedy.contains("`-e`"));
    }
}
