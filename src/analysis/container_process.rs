//! A snapshot as the container sees itself: each process with its PID, parent and user inside. The
//! processes of a nested container are the outer one's too, with their numbers as seen there.

use std::collections::HashMap;
use std::rc::Rc;

use crate::model::idmap::IdMap;
use crate::model::passwd::UserNames;
use crate::model::pid::{ContainerPid, HostPid};
use crate::model::process::Process;

/// What every line about a container says of where it is from.
#[derive(Debug)]
pub struct RowContext {
    /// The host's name.
    pub host: String,
    /// The container, qualified.
    pub container: String,
    /// Its id.
    pub id: Option<String>,
}

/// A process in its container.
#[derive(Clone, Debug)]
pub struct ContainerProcess {
    /// All its facts.
    pub facts: Rc<Process>,
    /// Whether it is in the container; not when it is in its cgroup alone, and in the PID namespace of
    /// somebody else.
    pub in_container: bool,
    /// Its PID inside; none for a process of the cgroup that is not in the PID namespace.
    pub pid: Option<ContainerPid>,
    /// Its parent's place in the list; none when that is outside.
    pub parent: Option<usize>,
    /// Its parent's PID inside, 0 when that is outside, as the kernel itself tells those inside.
    pub ppid: i32,
    /// Its real user inside; none when the user has no number there.
    pub uid: Option<u32>,
    /// That user's name inside, where there is one.
    pub user: Option<Vec<u8>>,
}

/// How a container numbers its users.
#[derive(Debug, Default)]
pub struct UserTable {
    /// Outside to inside; none when it could not be read.
    pub map: Option<IdMap>,
    /// Number to name.
    pub names: Option<UserNames>,
}

impl UserTable {
    /// A user's number inside.
    pub fn inside(&self, uid: u32) -> Option<u32> {
        self.map.as_ref().and_then(|map| map.to_inside(uid))
    }
}

/// Gives each process, with whether it is inside, its place. `depth` is the container's place in the NSpid lines.
pub fn place(
    processes: Vec<(Process, bool)>,
    depth: usize,
    users: &UserTable,
) -> Vec<ContainerProcess> {
    let at: HashMap<HostPid, usize> =
        processes.iter().enumerate().map(|(index, (process, _))| (process.id.pid, index)).collect();
    let inside: Vec<Option<ContainerPid>> = processes
        .iter()
        .map(|(process, inside)| {
            let number = process.status.nspid.get(depth).filter(|_| *inside);
            number.copied().and_then(ContainerPid::new)
        })
        .collect();
    let parents: Vec<Option<usize>> = processes
        .iter()
        .map(|(process, _)| at.get(&HostPid::new(process.stat.ppid)?).copied())
        .collect();
    processes
        .into_iter()
        .enumerate()
        .map(|(index, (process, is_inside))| {
            let parent = parents[index].filter(|parent| *parent != index);
            let uid = users.inside(process.status.uid[0]);
            let name = uid.and_then(|uid| users.names.as_ref()?.name(uid));
            ContainerProcess {
                in_container: is_inside,
                pid: inside[index],
                parent,
                ppid: parent.and_then(|parent| inside[parent]).map_or(0, ContainerPid::get),
                uid,
                user: name.map(<[u8]>::to_vec),
                facts: Rc::new(process),
            }
        })
        .collect()
}
