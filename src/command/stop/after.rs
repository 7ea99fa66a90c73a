//! The time after a stop: other containers that ended with the stopped one, and whether it is running again.
//! Nothing is sent.

use std::time::{Duration, Instant};

use crate::action::stop::{StopEvent, StopEventKind};
use crate::command::forecast::all_companions;
use crate::model::container::Container;
use crate::model::pid::{HostPid, ProcessId};
use crate::model::stop_policy::StopPolicy;
use crate::output::escape::safe;
use crate::output::stop_report::RunningAgain;
use crate::proc::{Host, SnapshotOptions};
use crate::resolve::{Access, MatchRule, ResolvedContainer, Resolver};
use crate::sys::cpu_wait::stalled;

/// How long to wait for a container that is expected to run again: Docker's delay begins with 0.1 s,
/// Podman's service and a kubelet take up to two seconds.
const EXPECTED_RESTART: Duration = Duration::from_secs(3);
/// How long to wait for any other: a unit of systemd starts it again after 0.1 s by default.
const OTHER_RESTART: Duration = Duration::from_millis(700);
/// How much longer to wait on a host whose CPUs are busy.
const MAX_STALL: Duration = Duration::from_secs(30);
/// How often to look.
const INTERVAL: Duration = Duration::from_millis(100);

/// How long the exit of an init may take before the reason is noted.
const HELD_UP: Duration = Duration::from_millis(700);

/// How long processes may take to exit with the init of their PID namespace.
const NAMESPACE_EXIT_TIME: Duration = Duration::from_millis(500);

/// The processes of other containers in the PID namespace of a container.
pub(super) struct CompanionProcesses(Vec<(String, Vec<ProcessId>)>);

impl CompanionProcesses {
    /// Reads them, before the stop.
    pub(super) fn read(found: &ResolvedContainer<'_>) -> Self {
        let processes = |container: &Container| {
            let other = ResolvedContainer {
                host: found.host,
                container: container.clone(),
                inventory: found.inventory.clone(),
                matched_by: MatchRule::Name,
            };
            let snapshot = other.snapshot(SnapshotOptions::BARE).ok()?;
            Some(snapshot.processes.iter().map(|process| process.facts.id).collect())
        };
        let each = all_companions(found).into_iter();
        Self(each.map(|c| (c.qualified(), processes(c).unwrap_or_default())).collect())
    }

    /// Returns the containers of which processes have ended, each with how many. They ended with the PID
    /// namespace, whatever they were doing.
    pub(super) fn ended(&self, host: &Host) -> Vec<(&str, usize)> {
        let has_ended = |id: &&ProcessId| {
            host.stat(id.pid).map_or(true, |stat| stat.start != id.start || stat.has_exited())
        };
        let count = || -> Vec<(&str, usize)> {
            let counts = self
                .0
                .iter()
                .map(|(name, ids)| (name.as_str(), ids.iter().filter(has_ended).count()));
            counts.filter(|(_, count)| *count > 0).collect()
        };
        let total: usize = self.0.iter().map(|(_, ids)| ids.len()).sum();
        let deadline = Instant::now() + NAMESPACE_EXIT_TIME;
        loop {
            let ended = count();
            let is_complete = ended.iter().map(|(_, count)| count).sum::<usize>() == total;
            if is_complete || Instant::now() >= deadline {
                return ended;
            }
            std::thread::sleep(INTERVAL / 10);
        }
    }
}

/// Looks whether a stopped container is running again, for as long as its engine may take to restart it.
pub(super) fn running_again(
    found: &ResolvedContainer<'_>,
    policy: &StopPolicy,
) -> Option<RunningAgain> {
    let container = &found.container;
    // Without a name it cannot be known again.
    if !container.verified || !container.engine.names_containers() {
        return None;
    }
    let is_expected = policy.restart_reason(container.engine).is_some();
    let is_possible = is_expected || policy.restart_unread.is_some();
    let time = if is_possible { EXPECTED_RESTART } else { OTHER_RESTART };
    let (begun, stalled_before) = (Instant::now(), stalled());
    let name = container.qualified();
    loop {
        let again = Resolver::new(found.host).resolve(&name, Access::Read).ok();
        // (Not one whose name only contains it.)
        let again = again.filter(|again| again.container.qualified() == name);
        let again = again.filter(|again| !again.container.has_lost_init);
        let init = again.and_then(|again| again.container.init);
        if let Some(init) = init.filter(|init| Some(*init) != container.init) {
            let by = is_expected.then_some(container.engine.display_name);
            return Some(RunningAgain { pid: init.pid, by });
        }
        // (An engine takes its time where its processes wait for a CPU.)
        let stall = stalled().saturating_sub(stalled_before).min(MAX_STALL);
        if begun.elapsed() >= time + if is_expected { stall } else { Duration::ZERO } {
            return None;
        }
        std::thread::sleep(INTERVAL);
    }
}

/// An init whose exit is held up while a stop waits for it.
#[derive(Default)]
pub(super) struct HeldExit {
    /// When it was first seen.
    since: Option<Duration>,
    is_noted: bool,
}

impl HeldExit {
    /// Returns the reason once, when the exit has been held up for a while.
    pub(super) fn note(
        &mut self,
        found: &ResolvedContainer<'_>,
        event: &StopEvent,
    ) -> Option<String> {
        if self.is_noted || !matches!(event.kind, StopEventKind::Waiting { .. }) {
            return None;
        }
        let cause = waits_for_zombie(found)?;
        let since = *self.since.get_or_insert(event.time);
        // (A parent that runs reaps it soon.)
        self.is_noted = event.time.saturating_sub(since) >= HELD_UP;
        self.is_noted.then_some(cause)
    }
}

/// Returns why the init of a container has exited and is still there: a zombie that its parent outside of the
/// container has not reaped (`zap_pid_ns_processes`, kernel/pid_namespace.c).
pub(super) fn waits_for_zombie(found: &ResolvedContainer<'_>) -> Option<String> {
    let init = found.container.init?;
    // (One file shows whether there is anything to find.)
    found.host.stat(init.pid).ok().filter(|stat| stat.is_exiting())?;
    let snapshot = found.snapshot(SnapshotOptions::BARE).ok()?;
    let is_init = |id: ProcessId| Some(id) == found.container.init;
    let init = snapshot.processes.iter().find(|process| is_init(process.facts.id))?;
    if !init.facts.stat.is_exiting() {
        return None;
    }
    let zombie = snapshot.processes.iter().find(|process| {
        process.facts.stat.has_exited() && process.parent.is_none() && !is_init(process.facts.id)
    })?;
    let parent = HostPid::new(zombie.facts.stat.ppid)?;
    let comm = found.host.stat(parent).map(|stat| stat.comm).unwrap_or_default();
    let pid = zombie.pid.map_or_else(String::new, |pid| format!("{pid} "));
    Some(format!(
        "PID 1 has exited and waits for {pid}[{}], a zombie that its parent {} (host PID {parent}) does not reap",
        safe(&zombie.facts.stat.comm),
        safe(&comm)
    ))
}
