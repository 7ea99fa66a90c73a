//! A container's processes as it sees them itself: the snapshot, taken, and each put in its place.

use std::rc::Rc;

use super::Found;
use crate::analysis::container_process::{Labels, Member, Users, place};
use crate::analysis::delivery::{Judgement, Scene, Subject, To, judge};
use crate::analysis::programs;
use crate::engine::take;
use crate::error::{Error, Exit};
use crate::model::idmap::IdMap;
use crate::model::pid::ContainerPid;
use crate::model::signal::{Signal, SignalSet};
use crate::model::verdict::Verdict;
use crate::proc::{Facts, Host, ReadError};

/// The processes of a container.
#[derive(Debug)]
pub struct View {
    /// Whose they are.
    pub labels: Rc<Labels>,
    /// The processes, by number on the host.
    pub members: Vec<Member>,
    /// How many we were not allowed to read.
    pub hidden: usize,
    /// What else decides about their signals, where those were asked about.
    pub scene: Scene,
    /// Why users have no names, where that is so.
    pub nameless: Option<ReadError>,
}

impl Found {
    /// The init, or the process of this number inside.
    ///
    /// # Errors
    /// When there is none, or it may not be read.
    pub fn member(
        &self,
        host: &Host,
        pid: Option<ContainerPid>,
        facts: Facts,
    ) -> Result<Member, Error> {
        let name = self.container.qualified();
        let Some(pid) = pid else {
            return self.look_at_init(host, facts).map_err(Error::from);
        };
        let view = self.look(host, facts)?;
        let is_it = |member: &Member| member.inside && member.pid == Some(pid);
        view.members.into_iter().find(is_it).ok_or_else(|| {
            Error::new(Exit::NoProcess, format!("no process {pid} in `{name}`"))
                .hint(format!("`cinspect ps {name}` lists them"))
        })
    }

    /// The init alone, without whoever else there is.
    fn look_at_init(&self, host: &Host, facts: Facts) -> Result<Member, ReadError> {
        let init = self.container.init.ok_or(ReadError::Gone)?;
        let read = host.snapshot(&[init.pid], facts).pop().unwrap_or(Err(ReadError::Gone))?;
        if read.id != init {
            return Err(ReadError::Gone);
        }
        let users = Users { map: None, names: None };
        let placed = place(vec![(read, true)], self.container.depth, &users).pop();
        placed.ok_or(ReadError::Gone)
    }

    /// Takes the snapshot.
    ///
    /// # Errors
    /// When the container has ended, or nothing of it may be read.
    pub fn look(&self, host: &Host, facts: Facts) -> Result<View, Error> {
        let container = &self.container;
        let crowd = take(host, container, &self.inventory, facts).map_err(|error| match error {
            ReadError::Gone => Error::new(
                Exit::NoContainer,
                format!("container `{}` has just ended", container.qualified()),
            )
            .because("no process of it is left"),
            ReadError::Denied => Error::new(
                Exit::NotPermitted,
                format!("cannot see the processes of `{}`", container.qualified()),
            )
            .because("/proc hides them from you (hidepid)")
            .hint("run as root, or as a member of the group that the mount option gid= names"),
            ReadError::Exhausted | ReadError::Broken(_) => Error::new(
                Exit::Failed,
                format!("cannot list the processes of `{}`", container.qualified()),
            )
            .because(error),
        })?;
        let map = container.init.and_then(|init| {
            IdMap::parse(&host.proc_file(init.pid, "uid_map", 1 << 16).ok()?).ok()
        });
        let nameless = crowd.names.as_ref().err().cloned();
        let users = Users { map, names: crowd.names.ok() };
        let labels = Rc::new(Labels {
            host: host.name.clone(),
            container: container.qualified(),
            id: container.id.clone(),
        });
        let members = place(crowd.processes, container.depth, &users);
        let scene = scene(host, self, &members, facts.waits);
        Ok(View { labels, members, hidden: crowd.hidden, scene, nameless })
    }
}

/// What decides about these signals beside what is in the processes themselves.
fn scene(host: &Host, found: &Found, members: &[Member], signals: SignalSet) -> Scene {
    let mut scene = Scene::default();
    if signals.is_empty() {
        return scene;
    }
    // Most containers have nothing frozen in them, which a few files tell.
    let cgroup = found.container.cgroup.as_ref();
    if cgroup.is_none_or(|cgroup| host.is_frozen_within(&cgroup.path)) {
        for pid in members.iter().map(|member| member.process.id.pid) {
            let freezer = host.memberships(pid).map(|memberships| host.frozen(&memberships));
            scene.frozen.extend(freezer.ok().map(|freezer| (pid, freezer)));
        }
    }
    let groups = [Signal::TSTP, Signal::TTIN, Signal::TTOU];
    if groups.into_iter().any(|signal| signals.contains(signal)) {
        let own = members.iter().map(|member| member.process.stat.pgrp).collect();
        scene.orphaned = host.orphaned_groups(&own).ok();
    }
    scene
}

impl View {
    /// What a signal would do to a member, or to a thread of it.
    pub fn judge(&self, member: &Member, signal: Signal, to: To) -> Judgement {
        let mut judgement = judge(&Subject::of(&member.process, &self.scene), signal, to);
        // What the program's runtime makes of it says more than what the kernel does; where the kernel
        // itself has something to say, both.
        if let Some(own) = programs::note(&member.process, signal, &judgement) {
            judgement.note = Some(match judgement.note {
                Some(note) if judgement.verdict != Verdict::Discarded => format!("{note}; {own}"),
                _ => own.to_owned(),
            });
        }
        judgement
    }
}
