//! The sockets of a network namespace, as far as they show whether a client is connected:
//! `/proc/PID/net/tcp`, `tcp6`, `unix` and others (proc_pid_net(5)). The kernel marks neither side of a
//! connection as the server's.

use std::collections::{HashMap, HashSet};

/// States of a TCP socket (include/net/tcp_states.h) without a peer to wait for: TIME_WAIT, CLOSE, LISTEN
/// and NEW_SYN_RECV.
const TCP_WITHOUT_PEER: [&[u8]; 4] = [b"06", b"07", b"0A", b"0C"];
const TCP_LISTEN: &[u8] = b"0A";
/// `SS_CONNECTED` (include/uapi/linux/net.h).
const UNIX_CONNECTED: &[u8] = b"03";

/// The role of a socket in the process that has it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketRole {
    /// The connection of a client, which a listening socket accepted.
    Client,
    /// Another one: it listens, or the program opened it to use a service.
    Other,
    /// It is in none of the tables: that of another namespace, or in a state between.
    Unknown,
}

/// The sockets of a network namespace, by their inode numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketTable {
    /// All of them: TCP connections with their local ports.
    sockets: HashMap<u64, Option<u64>>,
    /// Accepted Unix sockets.
    accepted: HashSet<u64>,
    /// Ports on which a TCP socket listens.
    listening: HashSet<u64>,
}

impl SocketTable {
    /// Adds `tcp` or `tcp6`. A connection to a port on which a socket listens is a client's.
    ///
    /// ```text
    ///   0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4711 1 …
    /// ```
    pub fn add_tcp(&mut self, table: &[u8]) {
        for mut words in rows(table) {
            let (Some(address), Some(state)) = (words.nth(1), words.nth(1)) else { continue };
            let Some(inode) = words.nth(5).and_then(|n| number(n, 10)) else { continue };
            let port = address.rsplit(|b| *b == b':').next().and_then(|port| number(port, 16));
            let is_connected = !TCP_WITHOUT_PEER.contains(&state);
            if state == TCP_LISTEN {
                self.listening.extend(port);
            }
            self.sockets.insert(inode, port.filter(|_| is_connected));
        }
    }

    /// Adds `unix`. An accepted socket has the path of the one that listens (`unix_stream_connect`,
    /// net/unix/af_unix.c); the client's side and socketpair(2) have none.
    ///
    /// ```text
    /// 0000000000000000: 00000003 00000000 00000000 0001 03 23456 /run/sock
    /// ```
    pub fn add_unix(&mut self, table: &[u8]) {
        for mut words in rows(table) {
            let (state, inode, path) = (words.nth(5), words.next(), words.next());
            let Some(inode) = inode.and_then(|inode| number(inode, 10)) else { continue };
            self.sockets.insert(inode, None);
            if state == Some(UNIX_CONNECTED) && path.is_some() {
                self.accepted.insert(inode);
            }
        }
    }

    /// Adds `udp`, `udp6` or `netlink`, which have the inode in the same column and no clients.
    pub fn add_datagrams(&mut self, table: &[u8]) {
        for mut words in rows(table) {
            let inode = words.nth(9).and_then(|inode| number(inode, 10));
            self.sockets.extend(inode.map(|inode| (inode, None)));
        }
    }

    /// Returns the role of a socket.
    pub fn role(&self, inode: u64) -> SocketRole {
        match self.sockets.get(&inode) {
            None => SocketRole::Unknown,
            Some(Some(port)) if self.listening.contains(port) => SocketRole::Client,
            Some(_) if self.accepted.contains(&inode) => SocketRole::Client,
            Some(_) => SocketRole::Other,
        }
    }
}

/// Returns the words of each line after the header.
fn rows(table: &[u8]) -> impl Iterator<Item = impl Iterator<Item = &[u8]>> {
    let lines = table.split(|b| *b == b'\n').skip(1);
    lines.map(|line| line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()))
}

/// Parses the target of the link of a descriptor, `socket:[4711]`.
pub fn socket_inode(link: &[u8]) -> Option<u64> {
    number(link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?, 10)
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &[u8] = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 10 1 0 100 0 0 10 0\n   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 11 1 0 20 4 30 10 -1\n   2: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 12 1 0 20 4 30 10 -1\n   3: 0100007F:1F90 0100007F:C351 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0\n   4: 0100007F:1F90 0100007F:C352 08 00000000:00000000 00:00000000 00000000     0        0 13 1 0\n";
    const UNIX: &[u8] = b"Num       RefCount Protocol Flags    Type St Inode Path\n0000000000000000: 00000002 00000000 00010000 0001 01 20 /run/sock\n0000000000000000: 00000003 00000000 00000000 0001 03 21 /run/sock\n0000000000000000: 00000003 00000000 00000000 0001 03 22\n0000000000000000: 00000003 00000000 00000000 0001 03 23 @abstract\n";

    const NETLINK: &[u8] = b"sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n0000000000000000 0   12         00000000 0        0        0     2        0        30\n";

    #[test]
    fn only_accepted_connections_are_clients() {
        let mut table = SocketTable::default();
        table.add_tcp(TCP);
        table.add_unix(UNIX);
        table.add_datagrams(NETLINK);
        let of = |role| (0..100).filter(|i| table.role(*i) == role).collect::<Vec<u64>>();
        assert_eq!(of(SocketRole::Client), [11, 13, 21, 23]);
        assert_eq!(of(SocketRole::Other), [0, 10, 12, 20, 22, 30]);
    }

    #[test]
    fn parses_the_link_of_a_socket() {
        assert_eq!(socket_inode(b"socket:[4711]"), Some(4711));
        assert_eq!(socket_inode(b"pipe:[4711]"), None);
        assert_eq!(socket_inode(b"socket:[x]"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_table_is_safe(bytes: Vec<u8>, inode: u64) {
            let mut table = SocketTable::default();
            table.add_tcp(&bytes);
            table.add_unix(&bytes);
            table.add_datagrams(&bytes);
            let _ = (table.role(inode), socket_inode(&bytes));
        }
    }
}
