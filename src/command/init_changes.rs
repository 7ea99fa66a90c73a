//! The changes that a container's init has made to itself, for the commands that report them.

use crate::analysis::own_changes::{OwnChange, own_changes};
use crate::engine::process_config;
use crate::resolve::ResolvedContainer;

/// Reads the init and its engine's record, and returns the changes.
pub(super) fn init_changes(found: &ResolvedContainer<'_>) -> Vec<OwnChange> {
    let (host, container) = (found.host, &found.container);
    // (A sandbox is not the configured program.)
    let init = container.init.filter(|_| container.remark.is_none());
    let state = init.and_then(|init| host.init_state(init));
    let record = process_config(host, container);
    let has_own_mounts = container.engine.names_containers() && container.verified;
    state.map_or_else(Vec::new, |state| own_changes(record.as_ref(), &state, has_own_mounts))
}
