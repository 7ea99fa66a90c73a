//! A container's processes as it sees them itself: the snapshot, taken, and each put in its place.

use std::rc::Rc;

use super::Found;
use crate::analysis::membership::{Labels, Member, Users, place};
use crate::error::{Error, Exit};
use crate::model::idmap::IdMap;
use crate::model::pid::HostPid;
use crate::proc::{CommandLimit, Facts, Host, ReadError, ThreadsToo, inside_names};
use crate::runtime::take;

/// The processes of a container.
#[derive(Debug)]
pub struct View {
    /// Whose they are.
    pub labels: Rc<Labels>,
    /// The processes, by number on the host.
    pub members: Vec<Member>,
    /// How many we were not allowed to read.
    pub hidden: usize,
    /// Why users have no names, where that is so.
    pub nameless: Option<ReadError>,
}

/// `stat` and `status` alone.
pub const BARE_FACTS: Facts =
    Facts { command: CommandLimit::Nothing, exe: false, threads: ThreadsToo::No };

impl Found {
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
            ReadError::Broken(why) => Error::new(
                Exit::Failed,
                format!("cannot list the processes of `{}`", container.qualified()),
            )
            .because(why),
        })?;
        let (users, nameless) = match container.init {
            Some(init) => users(host, init.pid),
            None => (Users::default(), None),
        };
        let labels = Rc::new(Labels {
            host: host.name.clone(),
            container: container.qualified(),
            id: container.id.clone(),
        });
        let members = place(crowd.processes, container.depth, &users);
        Ok(View { labels, members, hidden: crowd.hidden, nameless })
    }
}

fn users(host: &Host, init: HostPid) -> (Users, Option<ReadError>) {
    let map = host.proc_file(init, "uid_map", 1 << 16).ok();
    let map = map.and_then(|bytes| IdMap::parse(&bytes).ok());
    match inside_names(host, init) {
        Ok(names) => (Users { map, names: Some(names) }, None),
        Err(error) => (Users { map, names: None }, Some(error)),
    }
}
