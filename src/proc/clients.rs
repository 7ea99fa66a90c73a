//! Counts the connections of clients that servers hold: a server that finishes them before it exits is in
//! no hurry while there are none. All of it is within bounds; beyond them the answer is not known.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;

use nix::dir::Dir;
use nix::fcntl::readlinkat;
use procfs::process::Process as Handle;

use super::host::Host;
use super::read::{ReadError, namespace, read_into, stat};
use crate::model::namespace::NamespaceId;
use crate::model::process::{Fact, Process};
use crate::model::sockets::{SocketRole, SocketTable, socket_inode};
use crate::sys::process_dir;

const MAX_DESCRIPTORS: usize = 16_384;
/// Some 27,000 TCP sockets.
const MAX_TABLE: usize = 4 << 20;

impl Host {
    /// Adds to processes how many connections of clients each holds.
    pub fn add_clients<'a>(&self, processes: impl Iterator<Item = &'a mut Process>) {
        let mut reader = ClientReader { tables: HashMap::new(), buffer: Vec::new() };
        for process in processes.filter(|process| !process.stat.state.is_zombie()) {
            let path = self.proc_path(process.id.pid.to_string());
            let count = Handle::new_with_root(path)
                .map_err(ReadError::from)
                .and_then(|handle| reader.count(&handle, process));
            process.clients = count.map_or(Fact::Denied, Fact::Known);
        }
    }
}

struct ClientReader {
    /// The sockets of each network namespace.
    tables: HashMap<NamespaceId, SocketTable>,
    buffer: Vec<u8>,
}

impl ClientReader {
    fn count(&mut self, handle: &Handle, process: &Process) -> Result<usize, ReadError> {
        let inodes = sockets(handle)?;
        let count = match inodes.is_empty() {
            true => 0,
            false => {
                let table = self.table(handle)?;
                let roles: Vec<SocketRole> =
                    inodes.iter().map(|inode| table.role(*inode)).collect();
                if roles.contains(&SocketRole::Unknown) {
                    return Err(ReadError::Broken("a socket is in no table".into()));
                }
                roles.iter().filter(|role| **role == SocketRole::Client).count()
            }
        };
        match stat(handle, &mut self.buffer)?.start == process.id.start {
            true => Ok(count),
            false => Err(ReadError::Gone),
        }
    }

    fn table(&mut self, handle: &Handle) -> Result<&SocketTable, ReadError> {
        let net = namespace(handle, "net")?;
        if !self.tables.contains_key(&net) {
            let mut sockets = SocketTable::default();
            for (file, add) in FILES {
                match handle.open_relative(format!("net/{file}")).map_err(ReadError::from) {
                    Ok(table) => read_into(table, &mut self.buffer, MAX_TABLE)?,
                    // Without IPv6 there is no tcp6.
                    Err(ReadError::Gone) => continue,
                    Err(error) => return Err(error),
                }
                if self.buffer.len() >= MAX_TABLE {
                    return Err(ReadError::Broken(format!("net/{file} is too large")));
                }
                add(&mut sockets, &self.buffer);
            }
            self.tables.insert(net, sockets);
        }
        self.tables.get(&net).ok_or(ReadError::Gone)
    }
}

type AddTable = fn(&mut SocketTable, &[u8]);
const FILES: [(&str, AddTable); 6] = [
    ("tcp", SocketTable::add_tcp),
    ("tcp6", SocketTable::add_tcp),
    ("unix", SocketTable::add_unix),
    ("udp", SocketTable::add_datagrams),
    ("udp6", SocketTable::add_datagrams),
    ("netlink", SocketTable::add_datagrams),
];

/// Returns the inode numbers of the sockets that a process has open.
fn sockets(handle: &Handle) -> Result<Vec<u64>, ReadError> {
    let mut listed = Dir::from_fd(process_dir::open_listing(handle, "fd")?)?;
    let mut names = Vec::new();
    for entry in listed.iter() {
        names.push(entry?.file_name().to_owned());
        if names.len() > MAX_DESCRIPTORS {
            return Err(ReadError::Broken("too many open files to count".into()));
        }
    }
    let link = |name: &std::ffi::CString| readlinkat(&listed, name.as_c_str()).ok();
    Ok(names.iter().filter_map(|name| socket_inode(link(name)?.as_bytes())).collect())
}
