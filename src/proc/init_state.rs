//! Reads the state of an init that it can have changed for itself. Its environment is read in a child: the
//! container can make that hang.

use super::host::Host;
use crate::model::init_state::InitState;
use crate::model::limits;
use crate::model::lookup::Lookup;
use crate::model::pid::ProcessId;
use crate::model::process::Fact;

/// The longest file of limits.
const MAX_LIMITS: usize = 1 << 16;

impl Host {
    /// Reads the state of an init; none if it is gone.
    pub fn init_state(&self, init: ProcessId) -> Option<InitState> {
        let pid = init.pid;
        let status = self.status(pid).ok()?;
        let limits = self.proc_file(pid, "limits", MAX_LIMITS).unwrap_or_default();
        let environment = self.look_up(&[(init, Lookup::Environment)]).pop()?;
        let state = InitState {
            root: self.link(pid, "root").ok(),
            workdir: self.link(pid, "cwd").ok(),
            environment: environment.map_or(Fact::Denied, |content| Fact::Known(content.bytes)),
            limits: limits::parse(&limits),
            filters: status.seccomp_filters,
            no_new_privs: status.no_new_privs,
            personality: self.personality(pid),
            scheduling: self.scheduling(pid),
        };
        // It was read by PID: it has to be the same process still.
        self.exists(init).then_some(state)
    }
}
