//! Counts the connections of clients that a server holds: one that finishes them before it exits,
//! exits at once while there are none. Every read is bounded; beyond a bound the answer is unknown.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

use nix::dir::Dir;
use nix::fcntl::readlinkat;
use procfs::process::Process as Handle;

use super::read::{ReadError, namespace, read_into};
use crate::model::namespace::NamespaceId;
use crate::model::sockets::{SocketRole, SocketTable, socket_inode};
use crate::sys::process_dir;

const MAX_DESCRIPTORS: usize = 16_384;
/// Some 27,000 TCP sockets.
const MAX_TABLE: usize = 4 << 20;

type AddTable = fn(&mut SocketTable, &[u8]);
/// The tables, those that take the kernel longest last: it walks its whole hash table for each of TCP's.
const TABLES: [(&str, AddTable); 6] = [
    ("unix", SocketTable::add_unix),
    ("netlink", SocketTable::add_datagrams),
    ("udp", SocketTable::add_datagrams),
    ("udp6", SocketTable::add_datagrams),
    ("tcp", SocketTable::add_tcp),
    ("tcp6", SocketTable::add_tcp),
];

/// Reads the tables of each network namespace once, as far as sockets are looked for.
#[derive(Default)]
pub(super) struct ClientReader {
    /// The table of each namespace, and how many of [`TABLES`] are in it.
    namespaces: HashMap<NamespaceId, (SocketTable, usize)>,
    buffer: Vec<u8>,
}

impl ClientReader {
    /// Counts the clients that are connected to a process.
    ///
    /// # Errors
    /// [`ReadError`], also if a socket is in none of the tables.
    pub(super) fn count(&mut self, handle: &Handle) -> Result<usize, ReadError> {
        let inodes = sockets(handle)?;
        if inodes.is_empty() {
            return Ok(0);
        }
        let (table, read) = self.namespaces.entry(namespace(handle, "net")?).or_default();
        let is_unknown =
            |table: &SocketTable, inode: &u64| table.role(*inode) == SocketRole::Unknown;
        while *read < TABLES.len() && inodes.iter().any(|inode| is_unknown(table, inode)) {
            let (file, add) = TABLES[*read];
            *read += 1;
            match handle.open_relative(format!("net/{file}")).map_err(ReadError::from) {
                Ok(opened) => read_into(opened, &mut self.buffer, MAX_TABLE)?,
                // Without IPv6 the kernel has no tcp6.
                Err(ReadError::Gone) => continue,
                Err(error) => return Err(error),
            }
            if self.buffer.len() >= MAX_TABLE {
                return Err(ReadError::Broken(format!("`net/{file}` is too large")));
            }
            add(table, &self.buffer);
        }
        let mut count = 0;
        for inode in inodes {
            match table.role(inode) {
                SocketRole::Client => count += 1,
                SocketRole::Other => {}
                SocketRole::Unknown => {
                    return Err(ReadError::Broken("one of its sockets is in no table".into()));
                }
            }
        }
        Ok(count)
    }
}

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
    let link = |name: &CString| readlinkat(&listed, name.as_c_str()).ok();
    Ok(names.iter().filter_map(|name| socket_inode(link(name)?.as_bytes())).collect())
}
