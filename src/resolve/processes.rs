//! A container's processes as it sees them itself: the snapshot, taken, and each put in its place.

use std::rc::Rc;

use super::ResolvedContainer;
use crate::analysis::container_process::{ContainerProcess, RowContext, UserTable, arrange};
use crate::analysis::delivery::{DeliveryContext, Prediction, Recipient, SignalState, predict};
use crate::analysis::programs;
use crate::engine::take;
use crate::error::{Error, ExitStatus};
use crate::model::idmap::IdMap;
use crate::model::pid::ContainerPid;
use crate::model::signal::{Signal, SignalSet};
use crate::model::verdict::Verdict;
use crate::proc::{ReadError, SnapshotOptions};

/// The processes of a container.
#[derive(Debug)]
pub struct ContainerSnapshot {
    /// Whose they are.
    pub context: Rc<RowContext>,
    /// The processes, by number on the host.
    pub processes: Vec<ContainerProcess>,
    /// How many we were not allowed to read.
    pub hidden: usize,
    /// What else decides about their signals, where those were asked about.
    pub delivery: DeliveryContext,
    /// Why users have no names, where that is so.
    pub user_names_error: Option<ReadError>,
}

impl ResolvedContainer<'_> {
    /// The init, or the process of this number inside.
    ///
    /// # Errors
    /// When there is none, or it may not be read.
    pub fn process(
        &self,
        pid: Option<ContainerPid>,
        facts: SnapshotOptions,
    ) -> Result<ContainerProcess, Error> {
        let name = self.container.qualified();
        let Some(pid) = pid else {
            return self.snapshot_init(facts).map_err(Error::from);
        };
        let view = self.snapshot(facts)?;
        let is_it = |member: &ContainerProcess| member.in_container && member.pid == Some(pid);
        view.processes.into_iter().find(is_it).ok_or_else(|| {
            Error::new(ExitStatus::NoProcess, format!("no process {pid} in `{name}`"))
                .hint(format!("`cinspect ps {name}` lists them"))
        })
    }

    /// The init alone, without whoever else there is.
    fn snapshot_init(&self, facts: SnapshotOptions) -> Result<ContainerProcess, ReadError> {
        let init = self.container.init.ok_or(ReadError::Gone)?;
        let read = self.host.snapshot(&[init.pid], facts).pop().unwrap_or(Err(ReadError::Gone))?;
        if read.id != init {
            return Err(ReadError::Gone);
        }
        let users = UserTable { map: None, names: None };
        let placed = arrange(vec![(read, true)], self.container.depth, &users).pop();
        placed.ok_or(ReadError::Gone)
    }

    /// Takes the snapshot.
    ///
    /// # Errors
    /// When the container has ended, or nothing of it may be read.
    pub fn snapshot(&self, facts: SnapshotOptions) -> Result<ContainerSnapshot, Error> {
        let (host, container) = (self.host, &self.container);
        let crowd = take(host, container, &self.inventory, facts).map_err(|error| match error {
            ReadError::Gone => Error::new(
                ExitStatus::NoContainer,
                format!("container `{}` has just ended", container.qualified()),
            )
            .cause("no process of it is left"),
            ReadError::Denied => Error::new(
                ExitStatus::NotPermitted,
                format!("cannot see the processes of `{}`", container.qualified()),
            )
            .cause("/proc hides them from you (hidepid)")
            .hint("run as root, or as a member of the group that the mount option gid= names"),
            ReadError::Exhausted | ReadError::Broken(_) => Error::new(
                ExitStatus::Failed,
                format!("cannot list the processes of `{}`", container.qualified()),
            )
            .cause(error.to_string()),
        })?;
        let map = container.init.and_then(|init| {
            IdMap::parse(&host.proc_file(init.pid, "uid_map", 1 << 16).ok()?).ok()
        });
        let user_names_error = crowd.names.as_ref().err().cloned();
        let users = UserTable { map, names: crowd.names.ok() };
        let context = Rc::new(RowContext {
            host: host.name.clone(),
            container: container.qualified(),
            id: container.id.clone(),
        });
        let processes = arrange(crowd.processes, container.depth, &users);
        let delivery = delivery_context(self, &processes, facts.waits);
        Ok(ContainerSnapshot {
            context,
            processes,
            hidden: crowd.hidden,
            delivery,
            user_names_error,
        })
    }
}

/// What decides about these signals beside what is in the processes themselves.
fn delivery_context(
    found: &ResolvedContainer<'_>,
    members: &[ContainerProcess],
    signals: SignalSet,
) -> DeliveryContext {
    let host = found.host;
    let mut scene = DeliveryContext::default();
    if signals.is_empty() {
        return scene;
    }
    // Most containers have nothing frozen in them, which a few files tell.
    let cgroup = found.container.cgroup.as_ref();
    if cgroup.is_none_or(|cgroup| host.is_frozen_within(&cgroup.path)) {
        for pid in members.iter().map(|member| member.facts.id.pid) {
            let freezer = host.memberships(pid).map(|memberships| host.frozen(&memberships));
            scene.frozen.extend(freezer.ok().map(|freezer| (pid, freezer)));
        }
    }
    let groups = [Signal::TSTP, Signal::TTIN, Signal::TTOU];
    if groups.into_iter().any(|signal| signals.contains(signal)) {
        let own = members.iter().map(|member| member.facts.stat.pgrp).collect();
        scene.orphaned = host.orphaned_groups(&own).ok();
    }
    scene
}

impl ContainerSnapshot {
    /// What a signal would do to a member, or to a thread of it.
    pub fn predict(&self, member: &ContainerProcess, signal: Signal, to: Recipient) -> Prediction {
        let mut judgement = predict(&SignalState::of(&member.facts, &self.delivery), signal, to);
        // What the program's runtime makes of it says more than what the kernel does; where the kernel
        // itself has something to say, both.
        if let Some(own) = programs::note(&member.facts, signal, &judgement) {
            judgement.note = Some(match judgement.note {
                Some(note) if judgement.verdict != Verdict::Discarded => format!("{note}; {own}"),
                _ => own.to_owned(),
            });
        }
        judgement
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone => Self::new(ExitStatus::NoContainer, "the container has ended")
                .cause("its processes are gone"),
            ReadError::Denied => Self::new(ExitStatus::NotPermitted, "cannot read the container")
                .cause("permission denied")
                .hint("run as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"),
            other => {
                Self::new(ExitStatus::Failed, "cannot read the container").cause(other.to_string())
            }
        }
    }
}
